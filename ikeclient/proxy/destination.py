"""Where a connection is to go: what clients and people may write for it, and nothing else.

A host is an IP address or a name. Names are held to the letters of host names, because they go to the C library's
resolver, whose other spellings (`%eth0`, spaces, NUL) have surprised more than one program.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,254}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A host, as an address or a name in ASCII, and a port from 1 to 65535."""

    host: str
    port: int

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        """Check both; an address gets its usual spelling. Raises ParseError."""
        if not 1 <= port <= 65535:
            raise ParseError(f"no connection goes to port {port}")
        address = address_of(host)
        if address is None and not _NAME.fullmatch(host):
            raise ParseError("neither a host name nor an address")
        return cls(host=host if address is None else str(address), port=port)

    @classmethod
    def parse(cls, text: str, default_port: int | None = None) -> Self:
        """`host:port`, `1.2.3.4:port` or `[v6]:port`; the port may be left out where there is a default.

        Raises ParseError.
        """
        host, port = split_port(text)
        if port is None:
            port = default_port
        if port is None:
            raise ParseError("a port is missing")
        return cls.of(host, port)

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host as an address; None for a name."""
        return address_of(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells; None where it is none, or an IPv6 address with a zone."""
    if "%" in host:
        return None
    try:
        return ip_address(host)
    except ValueError:
        return None


def split_port(text: str) -> tuple[str, int | None]:
    """Divide `host:port`, with an IPv6 address in brackets; the host is not checked. Raises ParseError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not isinstance(address_of(host), IPv6Address):
            raise ParseError("brackets belong around an IPv6 address")
        if rest and not rest.startswith(":"):
            raise ParseError("after the bracket comes a colon and a port")
        return host, port_of(rest[1:]) if rest else None
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ParseError("an IPv6 address belongs into brackets")
    return host, port_of(port) if colon else None


def port_of(text: str) -> int:
    """A decimal port from 0 to 65535. Raises ParseError."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ParseError("a port is a number up to 65535")
    return int(text)
