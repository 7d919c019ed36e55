"""Traffic Selector payloads (RFC 7296 section 3.13)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, summarize_address_range
from typing import ClassVar, Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.registry import PayloadType, SelectorType

_ANY_PORT = (0, 65535)
_OPAQUE_PORTS = (65535, 0)
_LENGTHS = {SelectorType.IPV4_ADDR_RANGE: 4, SelectorType.IPV6_ADDR_RANGE: 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSelector:
    """A range of addresses and ports; `protocol` 0 means any. Start and end are of one family and both included.

    Ports 65535 to 0 mean OPAQUE: traffic whose ports cannot be seen (RFC 4301 section 4.4.1.1).
    """

    start: IPv4Address | IPv6Address
    end: IPv4Address | IPv6Address
    protocol: int = 0
    start_port: int = 0
    end_port: int = 65535

    @classmethod
    def from_network(cls, network: IPv4Network | IPv6Network) -> Self:
        """Every protocol and port of a network."""
        return cls(start=network.network_address, end=network.broadcast_address)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.start.version

    def networks(self) -> Iterator[IPv4Network | IPv6Network]:
        """The fewest networks that cover the addresses exactly, in order: up to 254 of them for an odd range."""
        return summarize_address_range(self.start, self.end)

    @property
    def _ports(self) -> tuple[int, int]:
        return self.start_port, self.end_port

    @property
    def is_limited(self) -> bool:
        """Whether it selects packets of one protocol or of some ports only."""
        return bool(self.protocol) or self._ports != _ANY_PORT

    def contains(self, other: TrafficSelector) -> bool:
        """Whether everything `other` selects is selected by this too."""
        return (
            self.version == other.version
            and int(self.start) <= int(other.start)
            and int(other.end) <= int(self.end)
            and self.protocol in (0, other.protocol)
            and (self._ports in (_ANY_PORT, other._ports) or self._contains_ports(other))
        )

    def _contains_ports(self, other: TrafficSelector) -> bool:
        return self.start_port <= other.start_port <= other.end_port <= self.end_port

    def __str__(self) -> str:
        network = next(self.networks())
        addresses = str(network) if network.broadcast_address == self.end else f"{self.start}-{self.end}"
        ports = "" if self._ports == _ANY_PORT else f"/{self.start_port}-{self.end_port}"
        return f"{addresses}[{self.protocol}{ports}]" if self.protocol or ports else addresses

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Section 3.13.1; refuses unknown types, wrong lengths and ranges whose start is past their end."""
        type_ = SelectorType(reader.u8())
        protocol = reader.u8()
        length = reader.u16()
        if type_ not in _LENGTHS:
            raise ParseError(f"a traffic selector of type {type_}")
        if length != 8 + 2 * _LENGTHS[type_]:
            raise ParseError(f"a traffic selector of {length} bytes")
        start_port, end_port = reader.u16(), reader.u16()
        family = IPv4Address if type_ == SelectorType.IPV4_ADDR_RANGE else IPv6Address
        start, end = family(reader.read(_LENGTHS[type_])), family(reader.read(_LENGTHS[type_]))
        if int(start) > int(end) or (start_port > end_port and (start_port, end_port) != _OPAQUE_PORTS):
            raise ParseError("a traffic selector whose start is past its end")
        return cls(start=start, end=end, protocol=protocol, start_port=start_port, end_port=end_port)

    def emit(self, writer: Writer) -> None:
        """Append this selector as a substructure."""
        writer.u8(SelectorType.IPV4_ADDR_RANGE if self.version == 4 else SelectorType.IPV6_ADDR_RANGE)
        writer.u8(self.protocol)
        with writer.length_prefix(extra=4):
            writer.u16(self.start_port)
            writer.u16(self.end_port)
            writer.write(self.start.packed)
            writer.write(self.end.packed)


def _parse_selectors(reader: Reader) -> tuple[TrafficSelector, ...]:
    count = reader.u8()
    reader.read(3)
    if not count:
        raise ParseError("a traffic selector payload without selectors")
    reader.spend(count)
    return tuple(TrafficSelector.parse(reader) for _ in range(count))


def _emit_selectors(writer: Writer, selectors: tuple[TrafficSelector, ...]) -> None:
    writer.u8(len(selectors))
    writer.write(b"\0\0\0")
    for selector in selectors:
        selector.emit(writer)


@dataclass(frozen=True, slots=True, kw_only=True)
class TsiPayload:
    """The initiator's side of the traffic (RFC 7296 section 3.13)."""

    TYPE: ClassVar = PayloadType.TSI
    selectors: tuple[TrafficSelector, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(selectors=_parse_selectors(reader))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        _emit_selectors(writer, self.selectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class TsrPayload:
    """The responder's side of the traffic (RFC 7296 section 3.13)."""

    TYPE: ClassVar = PayloadType.TSR
    selectors: tuple[TrafficSelector, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Read the payload's body."""
        return cls(selectors=_parse_selectors(reader))

    def emit(self, writer: Writer) -> None:
        """Write the payload's body."""
        _emit_selectors(writer, self.selectors)
