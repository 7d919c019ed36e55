"""The IKE header (RFC 7296 section 3.1)."""

from __future__ import annotations

from struct import Struct
from typing import Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Writer
from ikeclient.wire.registry import ExchangeType, PayloadType

HEADER_LENGTH = 28
SPI_LENGTH = 8
SPIS_LENGTH = 2 * SPI_LENGTH
MAJOR_VERSION = 2

_RESPONSE = 0x20
_INITIATOR = 0x08
_fields = Struct(">8s8sBBBBII").unpack_from


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
        if len(data) < HEADER_LENGTH:
            raise ParseError(f"truncated: {HEADER_LENGTH} bytes needed, {len(data)} left")
        spi_i, spi_r, next_payload, version, exchange, flags, message_id, length = _fields(data)
        if length != len(data):
            raise ParseError(f"the header says {length} bytes, the datagram has {len(data)}")
        return cls(
            spi_i=spi_i,
            spi_r=spi_r,
            next_payload=PayloadType(next_payload),
            exchange=ExchangeType(exchange),
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
