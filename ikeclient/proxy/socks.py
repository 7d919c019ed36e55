"""SOCKS5 as bytes: RFC 1928, and RFC 1929 for user name and password. No sockets here.

A parser takes what has arrived so far and returns None while it is not enough, or the value and how many bytes it took.
What can never become a message raises ParseError with the first byte that shows it.
"""

from __future__ import annotations

import struct
from dataclasses import field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy.destination import Destination, address_of

VERSION = 5
NO_AUTHENTICATION, USERNAME_PASSWORD, NO_ACCEPTABLE_METHOD = 0x00, 0x02, 0xFF
SUCCEEDED = 0
LONGEST = 513  # bytes of the longest message: user name and password

_AUTHENTICATION_VERSION = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LENGTHS = {_IPV4: 4, _IPV6: 16}


class Command(IntEnum):
    """What a client may ask for (RFC 1928 section 4)."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class AddressTypeError(ParseError):
    """An address type that RFC 1928 does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsernamePassword:
    """What a client says to be let in (RFC 1929 section 2)."""

    username: bytes
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A command with its address (RFC 1928 section 4). The host is not checked yet: UDP ASSOCIATE may leave it open."""

    command: int
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """A datagram's destination and contents (RFC 1928 section 7)."""

    destination: Destination
    data: bytes


def parse_greeting(data: bytes) -> tuple[bytes, int] | None:
    """The authentication methods a client offers (RFC 1928 section 3): a byte each."""
    if data and data[0] != VERSION:
        raise ParseError("not a client of SOCKS5")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    return data[2 : 2 + data[1]], 2 + data[1]


def parse_username_password(data: bytes) -> tuple[UsernamePassword, int] | None:
    """User name and password, each up to 255 bytes (RFC 1929 section 2)."""
    if data and data[0] != _AUTHENTICATION_VERSION:
        raise ParseError("not the user name and password of RFC 1929")
    if len(data) < 2 or len(data) < 3 + data[1]:
        return None
    middle = 2 + data[1]
    end = middle + 1 + data[middle]
    if len(data) < end:
        return None
    return UsernamePassword(username=data[2:middle], password=data[middle + 1 : end]), end


def parse_request(data: bytes) -> tuple[Request, int] | None:
    """A request (RFC 1928 section 4); raises AddressTypeError where only the address type is unknown."""
    if data and data[0] != VERSION:
        raise ParseError("not a request of SOCKS5")
    if len(data) < 4 or (found := _address(data, 3)) is None:
        return None
    host, port, end = found
    return Request(command=data[1], host=host, port=port), end


def parse_datagram(data: bytes) -> Datagram:
    """A datagram from a client. Raises ParseError, also for fragments, which we may refuse (RFC 1928 section 7)."""
    if len(data) < 4:
        raise ParseError("a datagram without its header")
    if data[2] != 0:
        raise ParseError("a fragment")
    found = _address(data, 3)
    if found is None:
        raise ParseError("a datagram with half an address")
    host, port, end = found
    return Datagram(destination=Destination.of(host, port), data=data[end:])


def choice(method: int) -> bytes:
    """The answer to the greeting (RFC 1928 section 3)."""
    return bytes((VERSION, method))


def verdict(accepted: bool) -> bytes:
    """The answer to user name and password; anything but zero is a failure (RFC 1929 section 2)."""
    return bytes((_AUTHENTICATION_VERSION, 0 if accepted else 1))


def reply(code: int, host: str = "0.0.0.0", port: int = 0) -> bytes:  # noqa: S104  # the address of nothing
    """The answer to a request with the address that is used for it (RFC 1928 section 6)."""
    return bytes((VERSION, code, 0)) + _emit_address(host, port)


def datagram(host: str, port: int, data: bytes) -> bytes:
    """A datagram for a client: from which address it came, and its contents (RFC 1928 section 7)."""
    return bytes(3) + _emit_address(host, port) + data


def _address(data: bytes, at: int) -> tuple[str, int, int] | None:
    """Host, port and the end of an address whose type is at `at`; None while it is not all there."""
    kind = data[at]
    start = at + 1
    if kind == _NAME:
        if len(data) <= start:
            return None
        start, length = start + 1, data[start]
    elif kind in _LENGTHS:
        length = _LENGTHS[kind]
    else:
        raise AddressTypeError(f"address type {kind}")
    end = start + length
    if len(data) < end + 2:
        return None
    value = data[start:end]
    port = int.from_bytes(data[end : end + 2], "big")
    match kind:
        case 1:
            return str(IPv4Address(value)), port, end + 2
        case 4:
            return str(IPv6Address(value)), port, end + 2
    return value.decode("latin-1"), port, end + 2  # what is no host name is refused by `Destination.of`


def _emit_address(host: str, port: int) -> bytes:
    address = address_of(host.partition("%")[0])
    assert address is not None
    kind = _IPV4 if address.version == 4 else _IPV6
    return bytes((kind,)) + address.packed + struct.pack("!H", port)
