"""UPDATE_SA_ADDRESSES as initiator, and the peer's address lists (RFC 4555 sections 3.4 to 3.7)."""

from __future__ import annotations

import hmac
from collections.abc import Generator, Sequence
from ipaddress import IPv4Address, IPv6Address

from ikeclient.errors import ProtocolError
from ikeclient.ike.events import IPAddress, Path, PathRefused, Roamed
from ikeclient.ike.v2.message.payloads import Request, error_notify, notifies
from ikeclient.ike.v2.rules.nat import detected, detection_notifies
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType

COOKIE2_LENGTH = 16
MAX_ADDITIONAL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAnswered:
    """What the peer answered to our new address, for the path that the request was made for.

    It refuses with UNACCEPTABLE_ADDRESSES, UNEXPECTED_NAT_DETECTED or another error. `mapping` is as in `PathSeen`,
    empty if the peer does not tell.
    """

    event: Roamed | PathRefused
    mapping: bytes = b""


def update_addresses(
    spi_i: bytes, spi_r: bytes, path: Path, cookie2: bytes
) -> Generator[Request, tuple[Payload, ...], MoveAnswered]:
    """Tell the peer to send to the source of this message from now on, and make sure that it hears us there.

    Raises `ProtocolError` when COOKIE2 does not come back as it was sent: the SA must be closed then (section 3.7).
    """
    answer = yield Request(
        exchange=ExchangeType.INFORMATIONAL,
        payloads=(
            NotifyPayload(type=NotifyType.UPDATE_SA_ADDRESSES),
            *detection_notifies(spi_i, spi_r, path, encapsulate=True),
            NotifyPayload(type=NotifyType.COOKIE2, data=cookie2),
        ),
    )
    error = error_notify(answer)
    if error is not None:
        return MoveAnswered(event=PathRefused(path=path, reason=str(error.type)))
    returned = [n.data for n in notifies(answer) if n.type == NotifyType.COOKIE2]
    if len(returned) != 1 or not hmac.compare_digest(returned[0], cookie2):
        raise ProtocolError("COOKIE2 did not come back as it was sent")
    mapping = b"".join(n.data for n in notifies(answer) if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP)
    nat = detected(spi_i, spi_r, path, notifies(answer))
    return MoveAnswered(event=Roamed(path=path, nat=nat), mapping=mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSeen:
    """How the peer sees us on `path`: a hash of our address and port there."""

    path: Path
    mapping: bytes


def look_at_path(spi_i: bytes, spi_r: bytes, path: Path) -> Generator[Request, tuple[Payload, ...], PathSeen | None]:
    """A liveness check that also tells whether a NAT gave us another address or port; None if the peer does not say."""
    answer = yield Request(
        exchange=ExchangeType.INFORMATIONAL, payloads=detection_notifies(spi_i, spi_r, path, encapsulate=True)
    )
    seen = [n.data for n in notifies(answer) if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP]
    return PathSeen(path=path, mapping=seen[0]) if seen else None


def additional_addresses(payloads: Sequence[Payload]) -> tuple[IPAddress, ...] | None:
    """The further addresses that the peer says it has; None when the message says nothing about them.

    Addresses that no gateway can have are left out, and the list is capped.
    """
    found: list[IPAddress] = []
    told = False
    for notify in notifies(payloads):
        match notify.type:
            case NotifyType.ADDITIONAL_IP4_ADDRESS if len(notify.data) == 4:
                told = True
                _keep(found, IPv4Address(notify.data))
            case NotifyType.ADDITIONAL_IP6_ADDRESS if len(notify.data) == 16:
                told = True
                _keep(found, IPv6Address(notify.data))
            case NotifyType.NO_ADDITIONAL_ADDRESSES:
                told = True
    return tuple(found) if told else None


def _keep(found: list[IPAddress], address: IPAddress) -> None:
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    impossible = plain.is_loopback or plain.is_multicast or plain.is_unspecified or plain.is_link_local
    impossible = impossible or plain.is_reserved or plain != address  # with the broadcast address; an IPv4-mapped one
    if not impossible and address not in found and len(found) < MAX_ADDITIONAL:
        found.append(address)
