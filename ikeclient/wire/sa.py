"""Security Association payload: proposals and transforms (RFC 7296 section 3.3)."""

from __future__ import annotations

from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import (
    EncryptionId,
    IntegrityId,
    KeyExchangeId,
    PayloadType,
    PrfId,
    ProtocolId,
    SequenceNumbers,
    TransformType,
)

_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_KEY_LENGTH = 14
_SHORT_FORM = 0x8000

_NAMES = {
    TransformType.ENCRYPTION: EncryptionId,
    TransformType.PRF: PrfId,
    TransformType.INTEGRITY: IntegrityId,
    TransformType.KEY_EXCHANGE: KeyExchangeId,
    TransformType.SEQUENCE_NUMBERS: SequenceNumbers,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """One algorithm. `key_bits` is the Key Length attribute, `other` every attribute we do not know, as raw bytes."""

    type: TransformType
    id: int
    key_bits: int | None = None
    other: bytes = b""

    def __str__(self) -> str:
        names = _NAMES.get(self.type)
        name = str(names(self.id)) if names else f"{self.type}:{self.id}"
        return f"{name}_{self.key_bits}" if self.key_bits else name

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Section 3.3.2; the caller has consumed the `last` byte, its reserved neighbour and the length."""
        type_ = TransformType(reader.u8())
        reader.u8()
        id_ = reader.u16()
        key_bits = None
        other = b""
        while reader.remaining:
            reader.spend(1)
            head = reader.u16()
            value = reader.u16()
            if head == _SHORT_FORM | _KEY_LENGTH and key_bits is None:
                key_bits = value
                continue
            other += head.to_bytes(2, "big") + value.to_bytes(2, "big")
            if not head & _SHORT_FORM:
                other += reader.read(value)
        return cls(type=type_, id=id_, key_bits=key_bits, other=other)

    def emit(self, writer: Writer, *, more: bool) -> None:
        """Append this transform as a substructure."""
        writer.u8(_MORE_TRANSFORMS if more else 0)
        writer.u8(0)
        with writer.length_prefix(extra=4):
            writer.u8(self.type)
            writer.u8(0)
            writer.u16(self.id)
            if self.key_bits is not None:
                writer.u16(_SHORT_FORM | _KEY_LENGTH)
                writer.u16(self.key_bits)
            writer.write(self.other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One numbered proposal for one protocol; `spi` is empty in the first IKE_SA_INIT (section 3.3.1)."""

    number: int
    protocol: ProtocolId
    spi: bytes
    transforms: tuple[Transform, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Section 3.3.1; the caller has consumed the `last` byte, its reserved neighbour and the length."""
        number = reader.u8()
        protocol = ProtocolId(reader.u8())
        spi_length = reader.u8()
        count = reader.u8()
        spi = reader.read(spi_length)
        transforms = []
        for index in range(count):
            more = reader.u8()
            if more != (0 if index == count - 1 else _MORE_TRANSFORMS):
                raise ParseError("the transform list disagrees with its count")
            reader.u8()
            length = reader.u16()
            with reader.restrict(length - 4):
                transforms.append(Transform.parse(reader))
        return cls(number=number, protocol=protocol, spi=spi, transforms=tuple(transforms))

    def emit(self, writer: Writer, *, more: bool) -> None:
        """Append this proposal as a substructure."""
        writer.u8(_MORE_PROPOSALS if more else 0)
        writer.u8(0)
        with writer.length_prefix(extra=4):
            writer.u8(self.number)
            writer.u8(self.protocol)
            writer.u8(len(self.spi))
            writer.u8(len(self.transforms))
            writer.write(self.spi)
            for index, transform in enumerate(self.transforms):
                transform.emit(writer, more=index < len(self.transforms) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaPayload:
    """RFC 7296 section 3.3."""

    TYPE: ClassVar = PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        proposals = []
        more = _MORE_PROPOSALS
        while more:
            more = reader.u8()
            if more not in (0, _MORE_PROPOSALS):
                raise ParseError(f"a proposal starts with {more}")
            reader.u8()
            length = reader.u16()
            with reader.restrict(length - 4):
                proposals.append(Proposal.parse(reader))
        return cls(proposals=tuple(proposals))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        for index, proposal in enumerate(self.proposals):
            proposal.emit(writer, more=index < len(self.proposals) - 1)
