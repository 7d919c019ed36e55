"""The IKE header (RFC 7296 section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import ExchangeType, PayloadType

HEADER_LENGTH = 28
MAJOR_VERSION = 2

_RESPONSE = 0x20
_INITIATOR = 0x08


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The fixed 28 bytes in front of every IKE message.

    `initiator` tells that the sender is the original initiator of the IKE SA. `length` is the whole message's.
    """

    spi_i: bytes
    spi_r: bytes
    next_payload: PayloadType
    exchange: ExchangeType
    initiator: bool
    response: bool
    message_id: int
    length: int = HEADER_LENGTH
    major: int = MAJOR_VERSION
    minor: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the header of a whole datagram; raises `ParseError` unless the length field is the datagram's length."""
        reader = Reader(data)
        spi_i, spi_r = reader.read(8), reader.read(8)
        next_payload = PayloadType(reader.u8())
        version = reader.u8()
        exchange = ExchangeType(reader.u8())
        flags = reader.u8()
        message_id = reader.u32()
        length = reader.u32()
        if length != len(data):
            raise ParseError(f"the header says {length} bytes, the datagram has {len(data)}")
        return cls(
            spi_i=spi_i,
            spi_r=spi_r,
            next_payload=next_payload,
            exchange=exchange,
            initiator=bool(flags & _INITIATOR),
            response=bool(flags & _RESPONSE),
            message_id=message_id,
            length=length,
            major=version >> 4,
            minor=version & 15,
        )

    def emit(self) -> bytes:
        """The 28 bytes; reserved flags are zero."""
        writer = Writer()
        writer.write(self.spi_i)
        writer.write(self.spi_r)
        writer.u8(self.next_payload)
        writer.u8(self.major << 4 | self.minor)
        writer.u8(self.exchange)
        writer.u8((_INITIATOR if self.initiator else 0) | (_RESPONSE if self.response else 0))
        writer.u32(self.message_id)
        writer.u32(self.length)
        return writer.bytes()
