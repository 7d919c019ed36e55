"""Configuration payload (RFC 7296 section 3.15, RFC 8598)."""

from __future__ import annotations

from typing import ClassVar, Self

from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import ConfigAttributeType, ConfigType, PayloadType


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigAttribute:
    """One attribute; an empty value in a request means: any."""

    type: ConfigAttributeType
    value: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigPayload:
    """RFC 7296 section 3.15."""

    TYPE: ClassVar = PayloadType.CONFIGURATION
    type: ConfigType
    attributes: tuple[ConfigAttribute, ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        type_ = ConfigType(reader.u8())
        reader.read(3)
        attributes = []
        while reader.remaining:
            reader.spend(1)
            attribute = ConfigAttributeType(reader.u16() & 0x7FFF)
            attributes.append(ConfigAttribute(type=attribute, value=reader.read(reader.u16())))
        return cls(type=type_, attributes=tuple(attributes))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.type)
        writer.write(b"\0\0\0")
        for attribute in self.attributes:
            writer.u16(attribute.type)
            with writer.length_prefix(extra=0):
                writer.write(attribute.value)
