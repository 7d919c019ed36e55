"""The chain of payloads that makes a message (RFC 7296 sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.config import ConfigPayload
from ikeclient.wire.cursor import MAX_STRUCTURES, Reader, Writer
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, IdiPayload, IdrPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.registry import PayloadType
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TsiPayload, TsrPayload

GENERIC_HEADER_LENGTH = 4
MAX_PAYLOADS = 255

_CRITICAL = 0x80


class Payload(Protocol):
    """What every payload value can do; `TYPE` is its number in the chain."""

    @property
    def TYPE(self) -> PayloadType:  # noqa: N802 - a class constant in every implementation
        """Number of this payload in the Next Payload field before it."""

    def emit(self, writer: Writer) -> None:
        """Write the body, without the generic header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPayload:
    """A payload of a type we do not know; re-emits byte for byte."""

    TYPE: PayloadType
    critical: bool
    body: bytes

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.body)


_PLAIN: dict[PayloadType, Callable[[Reader], Payload]] = {
    PayloadType.SA: SaPayload.parse,
    PayloadType.KE: KePayload.parse,
    PayloadType.IDI: IdiPayload.parse,
    PayloadType.IDR: IdrPayload.parse,
    PayloadType.CERT: CertPayload.parse,
    PayloadType.CERTREQ: CertReqPayload.parse,
    PayloadType.AUTH: AuthPayload.parse,
    PayloadType.NONCE: NoncePayload.parse,
    PayloadType.NOTIFY: NotifyPayload.parse,
    PayloadType.DELETE: DeletePayload.parse,
    PayloadType.VENDOR_ID: VendorIdPayload.parse,
    PayloadType.TSI: TsiPayload.parse,
    PayloadType.TSR: TsrPayload.parse,
    PayloadType.CONFIGURATION: ConfigPayload.parse,
    PayloadType.EAP: EapPayload.parse,
}

_ENVELOPES: dict[PayloadType, Callable[[Reader, PayloadType], Payload]] = {
    PayloadType.ENCRYPTED: EncryptedPayload.parse,
    PayloadType.ENCRYPTED_FRAGMENT: EncryptedFragmentPayload.parse,
}


def parse_chain(data: bytes, first: PayloadType, structures: int = MAX_STRUCTURES) -> tuple[Payload, ...]:
    """Read the payloads in `data`, the first of which has type `first`.

    SK and SKF must be the last one. Unknown types become `RawPayload`. Raises `ParseError` for a chain that does not
    end exactly where `data` does, for more than 255 payloads, for more than `structures` payloads and parts of
    payloads together, and for any payload whose structure is broken.
    """
    reader = Reader(data, structures)
    payloads: list[Payload] = []
    current = first
    while current != PayloadType.NONE:
        if len(payloads) == MAX_PAYLOADS:
            raise ParseError(f"more than {MAX_PAYLOADS} payloads")
        following = PayloadType(reader.u8())
        critical = bool(reader.u8() & _CRITICAL)
        length = reader.u16()
        with reader.restrict(length - GENERIC_HEADER_LENGTH):
            if envelope := _ENVELOPES.get(current):
                payloads.append(envelope(reader, following))
                following = PayloadType.NONE
            elif plain := _PLAIN.get(current):
                payloads.append(plain(reader))
            else:
                payloads.append(RawPayload(TYPE=current, critical=critical, body=reader.rest()))
        current = following
    reader.finish()
    return tuple(payloads)


def emit_chain(payloads: Sequence[Payload]) -> bytes:
    """The bytes of a chain; the caller puts the first payload's type into the header in front of it."""
    writer = Writer()
    for index, payload in enumerate(payloads):
        following = payloads[index + 1].TYPE if index + 1 < len(payloads) else PayloadType.NONE
        if isinstance(payload, EncryptedPayload | EncryptedFragmentPayload):
            following = payload.inner
        writer.u8(following)
        writer.u8(_CRITICAL if isinstance(payload, RawPayload) and payload.critical else 0)
        with writer.length_prefix(extra=GENERIC_HEADER_LENGTH):
            payload.emit(writer)
    return writer.bytes()


def first_type(payloads: Sequence[Payload]) -> PayloadType:
    """The type that announces this chain in the header before it."""
    return payloads[0].TYPE if payloads else PayloadType.NONE


def unknown_critical(payloads: Sequence[Payload]) -> PayloadType | None:
    """The first unknown payload that its sender marked critical, if any (RFC 7296 section 2.5)."""
    for payload in payloads:
        if isinstance(payload, RawPayload) and payload.critical:
            return payload.TYPE
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A whole IKE message, with its payloads as they are on the wire (SK not opened)."""

    header: Header
    payloads: tuple[Payload, ...]

    @classmethod
    def parse(cls, data: bytes, header: Header | None = None, structures: int = MAX_STRUCTURES) -> Self:
        """Read one datagram (without the non-ESP marker); raises `ParseError`.

        `header` is given if it has been read already; `structures` as in `parse_chain`.
        """
        header = header or Header.parse(data)
        return cls(header=header, payloads=parse_chain(data[HEADER_LENGTH:], header.next_payload, structures))

    def emit(self) -> bytes:
        """The datagram; length and first payload type are computed, not taken from the header value."""
        body = emit_chain(self.payloads)
        fields = self.header
        header = Header(
            spi_i=fields.spi_i,
            spi_r=fields.spi_r,
            next_payload=first_type(self.payloads),
            exchange=fields.exchange,
            initiator=fields.initiator,
            response=fields.response,
            message_id=fields.message_id,
            length=HEADER_LENGTH + len(body),
            major=fields.major,
            minor=fields.minor,
        )
        return header.emit() + body
