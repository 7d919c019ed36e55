"""Key Exchange and Nonce payloads (RFC 7296 sections 3.4 and 3.9)."""

from __future__ import annotations

from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import KeyExchangeId, PayloadType


@dataclass(frozen=True, slots=True, kw_only=True)
class KePayload:
    """RFC 7296 section 3.4. The key exchange judges whether `data` fits `method`."""

    TYPE: ClassVar = PayloadType.KE
    method: KeyExchangeId
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        method = KeyExchangeId(reader.u16())
        reader.u16()
        return cls(method=method, data=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u16(self.method)
        writer.u16(0)
        writer.write(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoncePayload:
    """RFC 7296 section 3.9: 16 to 256 bytes, by section 2.10."""

    TYPE: ClassVar = PayloadType.NONCE
    nonce: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        nonce = reader.rest()
        if not 16 <= len(nonce) <= 256:
            raise ParseError(f"a nonce of {len(nonce)} bytes")
        return cls(nonce=nonce)

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.nonce)
