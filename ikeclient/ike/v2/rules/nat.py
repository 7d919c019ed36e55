"""NAT detection (RFC 7296 section 2.23): each side hashes where it believes a message comes from and goes to."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from ikeclient.ike.events import IPAddress, NatStatus, Path
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.registry import NotifyType

HASH_LENGTH = 20
NAT_DETECTION = frozenset({NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP})


def detection_hash(spi_i: bytes, spi_r: bytes, address: IPAddress, port: int) -> bytes:
    """SHA-1 over SPIs, address and port, as the notification data carries it."""
    return hashlib.sha1(spi_i + spi_r + address.packed + port.to_bytes(2, "big"), usedforsecurity=False).digest()


def detection_notifies(spi_i: bytes, spi_r: bytes, path: Path, *, encapsulate: bool) -> tuple[NotifyPayload, ...]:
    """The two notifications of a message sent along `path`.

    With `encapsulate` the source hash is one that cannot match, so that the peer sends UDP-encapsulated ESP even where
    there is no NAT: a userspace client cannot receive anything else.
    """
    source = detection_hash(spi_i, spi_r, path.local_address, path.local_port)
    if encapsulate:
        source = hashlib.sha1(b"encapsulate" + source, usedforsecurity=False).digest()
    destination = detection_hash(spi_i, spi_r, path.remote_address, path.remote_port)
    return (
        NotifyPayload(type=NotifyType.NAT_DETECTION_SOURCE_IP, data=source),
        NotifyPayload(type=NotifyType.NAT_DETECTION_DESTINATION_IP, data=destination),
    )


def detected(spi_i: bytes, spi_r: bytes, path: Path, notifies: Sequence[NotifyPayload]) -> NatStatus:
    """Compare the peer's hashes with what we see: `path` is the one the peer's message arrived on.

    A peer that sends no hashes, or nothing that could be one, tells nothing; that end then counts as not behind a NAT.
    """
    hashes = [n for n in notifies if len(n.data) == HASH_LENGTH]
    sources = [n.data for n in hashes if n.type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destinations = [n.data for n in hashes if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP]
    remote = detection_hash(spi_i, spi_r, path.remote_address, path.remote_port)
    local = detection_hash(spi_i, spi_r, path.local_address, path.local_port)
    return NatStatus(
        local=bool(destinations) and not any(hmac.compare_digest(d, local) for d in destinations),
        remote=bool(sources) and not any(hmac.compare_digest(s, remote) for s in sources),
    )
