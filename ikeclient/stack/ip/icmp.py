"""ICMP messages in both directions (RFC 792, RFC 4443): echo, and errors about packets.

An error quotes the packet that it is about. Anybody may forge one, so it is only read here; who sent what is quoted
judges it (RFC 5927).
"""

from __future__ import annotations

from enum import Enum, auto
from struct import Struct

from ikeclient.esp.codec.sums import ones_sum
from ikeclient.esp.packet.inner import IPV4_HEADER, IPV6_HEADER, internet_checksum, locate_transport
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.ip.header import ICMP, ICMPV6, LONGEST, header, transport_checksum

ECHO = 8
_QUOTED = {4: 576 - IPV4_HEADER - 8, 6: 1280 - IPV6_HEADER - 8}  # RFC 1812 section 4.3.2.3, RFC 4443 section 2.4
_message = Struct(">BBHHH")


class Kind(Enum):
    """What an error says about the packet it quotes."""

    TOO_BIG = auto()
    PORT_UNREACHABLE = auto()
    PROTOCOL_UNREACHABLE = auto()
    HOST_UNREACHABLE = auto()
    NETWORK_UNREACHABLE = auto()
    PROHIBITED = auto()
    EXPIRED = auto()  # too many hops


_KINDS4: dict[tuple[int, int], Kind] = {
    (3, 0): Kind.NETWORK_UNREACHABLE,
    (3, 1): Kind.HOST_UNREACHABLE,
    (3, 2): Kind.PROTOCOL_UNREACHABLE,
    (3, 3): Kind.PORT_UNREACHABLE,
    (3, 4): Kind.TOO_BIG,
    (3, 5): Kind.HOST_UNREACHABLE,  # source route failed
    (3, 6): Kind.NETWORK_UNREACHABLE,
    (3, 7): Kind.HOST_UNREACHABLE,
    (3, 8): Kind.HOST_UNREACHABLE,
    (3, 9): Kind.PROHIBITED,
    (3, 10): Kind.PROHIBITED,
    (3, 11): Kind.NETWORK_UNREACHABLE,
    (3, 12): Kind.HOST_UNREACHABLE,
    (3, 13): Kind.PROHIBITED,
    (3, 14): Kind.PROHIBITED,
    (3, 15): Kind.PROHIBITED,
    (11, 0): Kind.EXPIRED,
}
_KINDS6: dict[tuple[int, int], Kind] = {
    (1, 0): Kind.NETWORK_UNREACHABLE,
    (1, 1): Kind.PROHIBITED,
    (1, 2): Kind.HOST_UNREACHABLE,
    (1, 3): Kind.HOST_UNREACHABLE,
    (1, 4): Kind.PORT_UNREACHABLE,
    (1, 5): Kind.PROHIBITED,
    (1, 6): Kind.PROHIBITED,
    (2, 0): Kind.TOO_BIG,
    (3, 0): Kind.EXPIRED,
    (4, 1): Kind.PROTOCOL_UNREACHABLE,
}
_ECHO = {4: (ECHO, 0), 6: (128, 129)}  # request, reply


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpError:
    """An error: what it says about a packet of ours, of which `quoted` is what it shows from the transport header on.

    `mtu` is what a path carries, if the error is about that. `length` is that of the whole packet as its header says.
    """

    kind: Kind
    mtu: int
    source: bytes
    destination: bytes
    protocol: int
    length: int
    quoted: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoReply:
    """An answer to an echo request."""

    identifier: int
    sequence: int


def read_error(version: int, message: memoryview) -> IcmpError | None:
    """The error in an ICMP message whose checksum is right; None if it is none that says anything here."""
    if len(message) < 8 + IPV4_HEADER:
        return None
    kind = (_KINDS4 if version == 4 else _KINDS6).get((message[0], message[1]))
    packet = bytes(message[8:])
    if kind is None or packet[0] >> 4 != version or (version == 6 and len(packet) < IPV6_HEADER):
        return None
    protocol, offset = locate_transport(packet)
    if offset < 0 or len(packet) < offset + 8:
        return None
    if version == 4:
        source, destination, mtu = packet[12:16], packet[16:20], message[6] << 8 | message[7]
        length = packet[2] << 8 | packet[3]
    else:
        source, destination, mtu = packet[8:24], packet[24:40], min(int.from_bytes(message[4:8], "big"), LONGEST)
        length = IPV6_HEADER + (packet[4] << 8 | packet[5])
    return IcmpError(
        kind=kind,
        mtu=mtu if kind is Kind.TOO_BIG else 0,
        source=source,
        destination=destination,
        protocol=protocol,
        length=length,
        quoted=packet[offset:],
    )


def is_echo(version: int, message: memoryview) -> bool:
    """Whether a message is an echo request."""
    return len(message) >= 8 and message[0] == _ECHO[version][0] and not message[1]


def read_reply(version: int, message: memoryview) -> EchoReply | None:
    """The echo reply in a message; None if it is none."""
    if len(message) < 8 or message[0] != _ECHO[version][1] or message[1]:
        return None
    return EchoReply(identifier=message[4] << 8 | message[5], sequence=message[6] << 8 | message[7])


def echo(source: bytes, destination: bytes, *, identifier: int, sequence: int, data: bytes = b"") -> bytes:
    """An echo request as a whole packet, which may be fragmented."""
    request = _request(4 if len(source) == 4 else 6, identifier, sequence, data)
    return _packet(source, destination, request, identification=identifier)


def echo_message(version: int, *, identifier: int, sequence: int, data: bytes = b"") -> bytes:
    """An echo request without an IP header; that of IPv6, whose checksum is about addresses, is completed elsewhere."""
    message = _request(version, identifier, sequence, data)
    if version == 4:
        message[2:4] = internet_checksum(message).to_bytes(2, "big")
    return bytes(message)


def _request(version: int, identifier: int, sequence: int, data: bytes) -> bytearray:
    return bytearray(_message.pack(_ECHO[version][0], 0, 0, identifier, sequence) + data)


def echo_reply(source: bytes, destination: bytes, request: memoryview, tos: int, identification: int) -> bytes:
    """The answer to an echo request, with the same data and the same traffic class, which may be fragmented."""
    message = bytearray(request)
    message[:4] = bytes((_ECHO[4 if len(source) == 4 else 6][1], 0, 0, 0))
    return _packet(source, destination, message, tos=tos, identification=identification)


def unreachable(packet: memoryview, source: bytes, destination: bytes, *, port: bool) -> bytes:
    """The error for a packet to a closed port, or else of an unknown protocol; from `source`, whom it had reached."""
    if len(source) == 4:
        kind, code, pointer = 3, 3 if port else 2, 0
    elif port:
        kind, code, pointer = 1, 4, 0
    else:
        kind, code, pointer = 4, 1, 6  # the field that names the protocol, if no extension header does
    message = bytearray(_message.pack(kind, code, 0, pointer >> 16, pointer & 0xFFFF))
    message += packet[: _QUOTED[4 if len(source) == 4 else 6]]
    return _packet(source, destination, message)


def checksum_right(source: bytes, destination: bytes, message: memoryview) -> bool:
    """Whether the checksum of an ICMP message is right."""
    if len(source) == 4:
        return ones_sum(message) == 0xFFFF
    return transport_checksum(source, destination, ICMPV6, message) == 0


def _packet(source: bytes, destination: bytes, message: bytearray, *, tos: int = 0, identification: int = 0) -> bytes:
    if len(source) == 4:
        message[2:4] = internet_checksum(message).to_bytes(2, "big")
        head = header(source, destination, ICMP, len(message), tos=tos, identification=identification, flags=0)
        return head + message
    check = transport_checksum(source, destination, ICMPV6, message)
    message[2:4] = (check or 0xFFFF).to_bytes(2, "big")
    return header(source, destination, ICMPV6, len(message), tos=tos) + message
