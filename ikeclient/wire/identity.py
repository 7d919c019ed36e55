"""Identification, Certificate, Certificate Request and Authentication payloads (RFC 7296 sections 3.5 to 3.8)."""

from __future__ import annotations

from dataclasses import field
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import AuthMethod, CertEncoding, IdType, PayloadType
from ikeclient.wire.text import printable

_ADDRESS_LENGTH = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who somebody claims to be: the body that IDi and IDr share (RFC 7296 section 3.5).

    The reserved bytes mean nothing, but AUTH covers them as they were sent, so they are kept. As text it is for a
    debugger: `crypto.pki.identity` has the form that people write.
    """

    type: IdType
    data: bytes
    reserved: bytes = field(default=bytes(3), compare=False, repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read type, three reserved bytes and data."""
        type_ = IdType(reader.u8())
        reserved = reader.read(3)
        data = reader.rest()
        if _ADDRESS_LENGTH.get(type_, len(data)) != len(data):
            raise ParseError(f"an {type_} identity of {len(data)} bytes")
        return cls(type=type_, data=data, reserved=reserved)

    def body(self) -> bytes:
        """The body as it is signed: `RestOfIDPayload` of RFC 7296 section 2.15."""
        return bytes((self.type,)) + self.reserved + self.data

    def __str__(self) -> str:
        match self.type:
            case IdType.IPV4_ADDR:
                return str(IPv4Address(self.data))
            case IdType.IPV6_ADDR:
                return str(IPv6Address(self.data))
            case IdType.FQDN | IdType.RFC822_ADDR:
                return printable(self.data)
            case _:
                return f"{self.type}:{self.data[:64].hex()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdiPayload:
    """The initiator's identity (RFC 7296 section 3.5)."""

    TYPE: ClassVar = PayloadType.IDI
    identity: Identity

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(identity=Identity.parse(reader))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.identity.body())


@dataclass(frozen=True, slots=True, kw_only=True)
class IdrPayload:
    """The responder's identity (RFC 7296 section 3.5)."""

    TYPE: ClassVar = PayloadType.IDR
    identity: Identity

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(identity=Identity.parse(reader))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.write(self.identity.body())


@dataclass(frozen=True, slots=True, kw_only=True)
class CertPayload:
    """RFC 7296 section 3.6."""

    TYPE: ClassVar = PayloadType.CERT
    encoding: CertEncoding
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(encoding=CertEncoding(reader.u8()), data=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.encoding)
        writer.write(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertReqPayload:
    """RFC 7296 section 3.7: `authorities` is a concatenation of SHA-1 hashes of the authorities' public keys.

    With OCSP_CONTENT they are those of trusted responders (RFC 4806 section 3.1).
    """

    TYPE: ClassVar = PayloadType.CERTREQ
    encoding: CertEncoding
    authorities: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(encoding=CertEncoding(reader.u8()), authorities=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.encoding)
        writer.write(self.authorities)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthPayload:
    """RFC 7296 section 3.8."""

    TYPE: ClassVar = PayloadType.AUTH
    method: AuthMethod
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        method = AuthMethod(reader.u8())
        reader.read(3)
        return cls(method=method, data=reader.rest())

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        writer.u8(self.method)
        writer.write(b"\0\0\0")
        writer.write(self.data)
