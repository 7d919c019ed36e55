"""INFORMATIONAL exchanges that we start: liveness checks and DELETE (RFC 7296 sections 1.4 and 2.4)."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ikeclient.ike.exchanges.base import Request
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType, ProtocolId

InformationalGenerator = Generator[Request, tuple[Payload, ...], tuple[Payload, ...]]


def informational(payloads: Sequence[Payload] = ()) -> InformationalGenerator:
    """Send `payloads`, return the answer's; without payloads it is a liveness check."""
    return (yield Request(exchange=ExchangeType.INFORMATIONAL, payloads=tuple(payloads)))


def delete_children(spis_in: Sequence[int]) -> DeletePayload:
    """The DELETE of Child SAs by our inbound SPIs."""
    spis = tuple(spi.to_bytes(4, "big") for spi in spis_in)
    return DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=spis)


def delete_ike_sa(reason: NotifyType | None = None) -> tuple[Payload, ...]:
    """The DELETE of the IKE SA itself, with the error that led to it where there is one (section 2.21.2)."""
    delete = DeletePayload(protocol=ProtocolId.IKE)
    return (NotifyPayload(type=reason), delete) if reason is not None else (delete,)
