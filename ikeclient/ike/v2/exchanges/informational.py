"""INFORMATIONAL exchanges that we start: liveness checks, DELETE (RFC 7296 sections 1.4 and 2.4), path probes."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ikeclient.ike.events import PathProbed
from ikeclient.ike.v2.message.payloads import Request
from ikeclient.ike.v2.message.window import RequestWindow
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType, ProtocolId

InformationalGenerator = Generator[Request, tuple[Payload, ...], tuple[Payload, ...]]


def informational(payloads: Sequence[Payload] = ()) -> InformationalGenerator:
    """Send `payloads`, return the answer's; without payloads it is a liveness check."""
    return (yield Request(exchange=ExchangeType.INFORMATIONAL, payloads=tuple(payloads)))


def probe_path(
    asked: int, size: int, padding: NotifyPayload, window: RequestWindow
) -> Generator[Request, tuple[Payload, ...], PathProbed]:
    """Ask for an answer to a message that makes an IP packet of `size` bytes.

    The packet must not be fragmented by IP (RFC 8899 section 3). A path that is too narrow never costs the IKE SA: see
    `Channel.request`. Fragments of IKE's own (RFC 7383) cannot help here: strongSwan with its mediation extension takes
    an INFORMATIONAL message in fragments for something else.
    """
    yield Request(exchange=ExchangeType.INFORMATIONAL, payloads=(padding,), dont_fragment=True)
    return PathProbed(asked=asked, size=size, passed=not window.repeated)


def delete_children(spis_in: Sequence[int]) -> DeletePayload:
    """The DELETE of Child SAs by our inbound SPIs."""
    spis = tuple(spi.to_bytes(4, "big") for spi in spis_in)
    return DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=spis)


def delete_ike_sa(reason: NotifyType | None = None) -> tuple[Payload, ...]:
    """The DELETE of the IKE SA itself, with the error that led to it, if any (section 2.21.2)."""
    delete = DeletePayload(protocol=ProtocolId.IKE)
    return (NotifyPayload(type=reason), delete) if reason is not None else (delete,)
