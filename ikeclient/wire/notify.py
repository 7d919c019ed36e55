"""Notify, Delete, Vendor ID and EAP payloads (RFC 7296 sections 3.10, 3.11, 3.12 and 3.16)."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import NotifyType, PayloadType, ProtocolId


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyPayload:
    """RFC 7296 section 3.10. `protocol` and `spi` are set only when the notification is about one SA."""

    TYPE: ClassVar = PayloadType.NOTIFY
    type: NotifyType
    data: bytes = b""
    protocol: ProtocolId = ProtocolId.NONE
    spi: bytes = b""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        protocol = ProtocolId(reader.u8())
        spi_length = reader.u8()
        type_ = NotifyType(reader.u16())
        spi = reader.read(spi_length)
        return cls(type=type_, data=reader.rest(), protocol=protocol, spi=spi)

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.protocol)
        writer.u8(len(self.spi))
        writer.u16(self.type)
        writer.write(self.spi)
        writer.write(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePayload:
    """RFC 7296 section 3.11. For the IKE SA itself `spis` is empty; for ESP each SPI has four bytes."""

    TYPE: ClassVar = PayloadType.DELETE
    protocol: ProtocolId
    spi_length: int = 0
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        protocol = ProtocolId(reader.u8())
        spi_length = reader.u8()
        count = reader.u16()
        if spi_length == 0 and count:
            raise ParseError(f"a DELETE of {count} SPIs without a length")
        if spi_length * count != reader.remaining:
            raise ParseError(f"a DELETE of {count} SPIs in {reader.remaining} bytes")
        reader.spend(count)
        spis = tuple(reader.read(spi_length) for _ in range(count))
        return cls(protocol=protocol, spi_length=spi_length, spis=spis)

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.protocol)
        writer.u8(self.spi_length)
        writer.u16(len(self.spis))
        for spi in self.spis:
            writer.write(spi)


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorIdPayload:
    """RFC 7296 section 3.12."""

    TYPE: ClassVar = PayloadType.VENDOR_ID
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(data=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class EapPayload:
    """RFC 7296 section 3.16: one EAP packet, which the EAP layer parses."""

    TYPE: ClassVar = PayloadType.EAP
    packet: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(packet=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.packet)
