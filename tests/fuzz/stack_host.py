"""Fuzz targets: packets of any kind into a whole host of ours, and answers of name servers.

Nothing crashes, floods of answers do not come out, what is kept stays bounded, and a user who comes afterwards is
served.
"""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from struct import pack

from fuzz.damage import damaged
from ikeclient.stack.dns_message import Type, encode_name, parse_response
from ikeclient.stack.host import Host
from ikeclient.stack.interfaces import CloseReason
from ikeclient.stack.ip.fragment import fragments
from ikeclient.stack.ip.header import ICMP, ICMPV6, TCP, UDP, header, packed, transport_checksum
from ikeclient.stack.ip.icmp import echo, unreachable
from ikeclient.stack.ip.reassembly import MOST_BYTES
from ikeclient.stack.ping import PingResult

_OURS = packed("10.88.0.1"), packed("fd88::1")
_THEIRS = packed("10.99.0.7"), packed("fd99::7")
_NETWORKS = ip_network("10.0.0.0/8"), ip_network("fd00::/8")
_PACKETS = 60
_CHECK_AT = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}


class _Sink:
    def on_open(self) -> None: ...

    def on_data(self, data: memoryview) -> int:
        return len(data) // 2

    def on_end(self) -> None: ...

    def on_writable(self) -> None: ...

    def on_closed(self, reason: CloseReason) -> None: ...


def _packet(random: Random, ports: list[int]) -> bytes:
    """A packet that means something, to a port that may be open, with a checksum that is right most of the time."""
    six = random.random() < 0.4
    source, destination = _THEIRS[six], _OURS[six]
    port, data = random.choice(ports), random.randbytes(random.choice((0, 1, 8, 100, 1300, 3000)))
    kind = random.random()
    protocol = TCP
    if kind < 0.3:
        numbers = random.getrandbits(32), random.getrandbits(32)
        words = 5 + random.choice((0, 0, 3, 10))
        flags = random.choice((2, 0x10, 0x12, 0x11, 4, random.getrandbits(8)))
        head = pack(">HHIIBBHHH", 4000, port, *numbers, words << 4, flags, random.getrandbits(16), 0, 0)
        message = head + random.randbytes(words * 4 - 20) + data
    elif kind < 0.5:
        protocol = UDP
        message = pack(">HHHH", random.choice((53, 4000)), port, random.choice((8 + len(data), 7, 9)), 0) + data
    elif kind < 0.7:
        return echo(source, destination, identifier=port, sequence=1, data=data)
    elif kind < 0.9:
        quoted = header(destination, source, random.choice((TCP, UDP, ICMP, ICMPV6)), 8 + len(data))
        quoted += pack(">HHI", port, random.choice((53, 80)), random.getrandbits(32)) + data
        error = bytearray(unreachable(memoryview(quoted), source, destination, port=True))
        at = 40 if six else 20
        error[at : at + 8] = pack(">BBHHH", random.choice((1, 2, 3, 4, 11)), random.randrange(16), 0, 0, 1300)
        message, protocol = bytes(error[at:]), ICMPV6 if six else ICMP
    else:
        return header(source, destination, random.choice((0, 2, 44, 47, 50, 60, 132)), len(data)) + data
    if random.random() < 0.9 and (len(source) == 16 or protocol != ICMP):
        check = transport_checksum(source, destination, protocol, message) or 0xFFFF
        at = _CHECK_AT[protocol]
        message = message[:at] + check.to_bytes(2, "big") + message[at + 2 :]
    return header(source, destination, protocol, len(message), tos=random.getrandbits(8), flags=0) + message


def host(random: Random) -> None:
    """Packets, damaged ones among them, whole, in fragments and as frames."""
    ours = Host(random.randbytes)
    ours.configure(_OURS, _NETWORKS, 1400, 0.0)
    ours.resolver.configure(_THEIRS, ("corp.example",))
    ours.tcp.listen(22, lambda _: _Sink())
    results: list[PingResult] = []
    stream = ours.connect(_THEIRS[0], 80, _Sink(), 0.0)
    association = ours.open_udp(53)
    ours.resolve("www", lambda _: None, 0.0)
    ours.ping(_THEIRS[0], 1.0, results.append, 0.0)
    now, frame, came, went = 0.0, memoryview(bytearray(65545)), 0, 0
    for _ in range(_PACKETS):
        now += random.random() * random.choice((0.001, 0.1, 3.0))
        packet = _packet(random, [22, 53, 80, association.port, stream.local[1]])
        if random.random() < 0.5:
            packet = damaged(random, packet)
        pieces = [packet]
        if random.random() < 0.3 and len(packet) > 100 and packet[0] >> 4 in (4, 6):
            pieces = fragments(packet, random.choice((96, 576, 1280)), random.getrandbits(32))
            random.shuffle(pieces)
        for piece in pieces:
            came += 1
            if random.random() < 0.8:
                ours.write_packet(piece, now)
            else:
                size = random.choice((0, 0, 1, 500, 1348))
                ours.write_frame(
                    pack("<BBHHHH", random.getrandbits(2), random.getrandbits(3), 0, size, 0, 0) + piece, now
                )
        while random.random() < 0.7 and ours.read_frame(frame, now):
            went += 1
        deadline = ours.deadline()
        if deadline is not None and deadline <= now:
            ours.expire(now)
        while association.receive() is not None:
            pass
    while ours.read_frame(frame, now):
        went += 1
    assert went <= 6 * came + 100, "it floods"
    assert ours._fragments._bytes <= MOST_BYTES
    assert ours.tcp.count <= came + 1
    ours.expire(now + 2.0)
    assert len(results) == 1


def dns_answers() -> list[bytes]:
    """Answers to one question, and what else servers say."""
    name = encode_name("www.corp.example")
    question = name + pack(">HH", Type.A, 1)
    address = b"\xc0\x0c" + pack(">HHIH", Type.A, 1, 60, 4) + bytes((10, 99, 0, 7))
    alias = b"\xc0\x0c" + pack(">HHIH", Type.CNAME, 1, 60, len(name)) + name
    authority = b"\xc0\x10" + pack(">HHIH", Type.SOA, 1, 60, 24) + b"\0\xc0\x0c" + bytes(21)
    heads = [(0x8180, 1, 0), (0x8180, 2, 1), (0x8183, 0, 1), (0x8380, 0, 0)]
    bodies = [address, alias + address + authority, authority, b""]
    return [
        pack(">6H", 1, flags, 1, answers, authorities, 0) + question + body
        for (flags, answers, authorities), body in zip(heads, bodies, strict=True)
    ]


def read_dns(data: bytes) -> object:
    """What a name server sends."""
    response = parse_response(data)
    return response.code, response.truncated, len(response.answers)
