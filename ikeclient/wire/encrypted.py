"""Encrypted and Encrypted Fragment payloads (RFC 7296 section 3.14, RFC 7383 section 2.5).

Both are opaque here: `body` is IV, ciphertext and ICV together. `inner` is the type of the first payload inside, which
travels in the Next Payload field of this payload's own header, since nothing may follow it.
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import PayloadType


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedPayload:
    """SK: a whole protected message."""

    TYPE: ClassVar = PayloadType.ENCRYPTED
    inner: PayloadType
    body: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader, inner: PayloadType) -> Self:
        """Read the payload's body."""
        return cls(inner=inner, body=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedFragmentPayload:
    """SKF: fragment `number` of `total`; `inner` is zero except in the first."""

    TYPE: ClassVar = PayloadType.ENCRYPTED_FRAGMENT
    inner: PayloadType
    number: int
    total: int
    body: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader, inner: PayloadType) -> Self:
        """Read the payload's body; refuses numbers outside 1..total (RFC 7383 section 2.6)."""
        number, total = reader.u16(), reader.u16()
        if not 1 <= number <= total:
            raise ParseError(f"fragment {number} of {total}")
        return cls(inner=inner, number=number, total=total, body=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u16(self.number)
        writer.u16(self.total)
        writer.write(self.body)
