from __future__ import annotations

from random import Random
from struct import pack

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, ones_complement_sum, pseudo_header
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.stack.ip import icmp
from ikeclient.stack.ip.fragment import fragments
from ikeclient.stack.ip.header import ICMP, ICMPV6, UDP, Parsed, header, packed, presentation, transport_checksum
from ikeclient.stack.ip.path_mtu import AGE, PathMtus
from ikeclient.stack.ip.reassembly import MOST_BYTES, MOST_OF_A_SENDER, TIMEOUT, Fragment, Reassembly

H4, H6, V4, V6 = (packed(address) for address in (HOST4, HOST6, VIP4, VIP6))


def parsed(packet: bytes) -> Parsed | None:
    found = Parsed()
    return found if found.read(memoryview(packet)) else None


# Headers


@pytest.mark.parametrize(("source", "destination"), [(H4, V4), (H6, V6)])
def test_a_header_says_what_it_was_made_of(source: bytes, destination: bytes) -> None:
    found = parsed(header(source, destination, UDP, 3, tos=0xB9) + b"abc" + b"behind the packet")
    assert found is not None
    assert (found.source, found.destination, found.protocol, found.tos) == (source, destination, UDP, 0xB9)
    assert found.end - found.offset == 3
    assert found.fragment is None


def test_the_header_checksum_of_ipv4_is_right() -> None:
    assert ones_complement_sum(header(H4, V4, UDP, 1200, tos=2, identification=77)) == 0xFFFF


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45" * 19,
        ipv4(b"data")[:-1],  # shorter than it says
        ipv4(b"data")[:10] + b"\0\0" + ipv4(b"data")[12:],
        ipv4(b"data", source="127.0.0.1"),
        ipv4(b"data", source="0.0.0.0"),
        ipv4(b"data", source="224.0.0.1"),
        ipv4(b"data", source="255.255.255.255"),
        ipv4(b"data", source=VIP4),  # a land attack
        ipv4(b"data", options=bytes((131, 7, 4, 10, 0, 0, 1, 0))),  # a source route
        ipv4(b"data", options=bytes((7, 1, 0, 0))),  # an option shorter than itself
        ipv6(b"data")[:43],
        ipv6(b"data", source="::1"),
        ipv6(b"data", source="::"),
        ipv6(b"data", source="ff02::1"),
        ipv6(b"data", source=VIP6),
        ipv6(bytes((17, 0, 4, 1, 0, 0, 0, 0)) + b"data", next_header=43),  # to be sent on by us
        ipv6(bytes((17, 0, 0x80, 4, 0, 0, 0, 0)) + b"data", next_header=60),  # an option that forbids it
        ipv6(bytes((17, 9, 0, 0, 0, 0, 0, 0)) + b"data", next_header=60),  # longer than the packet
        ipv6(bytes((60, 0, 1, 4, 0, 0, 0, 0)) * 9, next_header=60),
        ipv6(b"", next_header=59),
        b"\x75" + ipv4(b"data")[1:],
    ],
)
def test_what_no_host_may_take_is_dropped(packet: bytes) -> None:
    assert parsed(packet) is None


def test_extension_headers_are_skipped() -> None:
    """Hop-by-hop and destination options that pad, and a routing header that is done."""
    chain = bytes((43, 0, 1, 4, 0, 0, 0, 0)) + bytes((60, 0, 4, 0, 0, 0, 0, 0)) + bytes((17, 0, 1, 4, 0, 0, 0, 0))
    found = parsed(ipv6(chain + b"data", next_header=0))
    assert found is not None
    assert (found.protocol, found.offset) == (UDP, 64)


def test_a_fragment_that_is_the_whole_packet_is_none() -> None:
    """RFC 6946."""
    found = parsed(ipv6(bytes((17, 0, 0, 0, 1, 2, 3, 4)) + b"data", next_header=44))
    assert found is not None
    assert (found.protocol, found.offset, found.fragment) == (UDP, 48, None)


@given(st.binary(max_size=100), st.sampled_from((4, 6)))
def test_no_packet_is_read_beyond_its_end(data: bytes, version: int) -> None:
    packet = bytes((version << 4 | 5,)) + data
    found = parsed(packet)
    assert found is None or found.offset <= found.end <= len(packet)


# Fragments


def reassembled(parts: list[bytes], reassembly: Reassembly, now: float = 0.0) -> tuple[bytes, int] | None:
    whole = None
    for part in parts:
        found = parsed(part)
        assert found is not None
        assert found.fragment is not None
        at, more, name = found.fragment
        key = found.source, found.destination, found.protocol, name
        data = part[found.offset : found.end]
        whole = whole or reassembly.add(Fragment(key=key, at=at, more=more, data=data, tos=found.tos), now)
    return whole


@pytest.mark.parametrize(("source", "destination"), [(H4, V4), (H6, V6)])
@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled", "twice"])
def test_fragments_become_the_packet_again(source: bytes, destination: bytes, order: str) -> None:
    data = Random(1).randbytes(5000)
    packet = header(source, destination, UDP, len(data), tos=0x10, flags=0) + data
    parts = fragments(packet, 1280, 0x12345678)
    assert len(parts) == -(-5000 // (1256 if len(source) == 4 else 1232))
    assert max(map(len, parts)) <= 1280
    match order:
        case "backwards":
            parts.reverse()
        case "shuffled":
            Random(2).shuffle(parts)
        case "twice":
            parts = [part for part in parts for _ in range(2)]
    assert reassembled(parts, Reassembly()) == (data, 0x10)


def test_a_packet_that_fits_stays_whole() -> None:
    packet = header(H4, V4, UDP, 100) + bytes(100)
    assert fragments(packet, 120, 1) == [packet]


def part(
    at: int, data: bytes, *, more: bool = True, name: bytes = b"name", tos: int = 0, sender: bytes = H4
) -> Fragment:
    return Fragment(key=(sender, V4, UDP, name), at=at, more=more, data=data, tos=tos)


@pytest.mark.parametrize(
    "parts",
    [
        [part(0, bytes(16)), part(8, bytes(16)), part(24, b"end", more=False)],
        [part(0, bytes(16)), part(0, bytes(8)), part(16, b"end", more=False)],
        [part(0, bytes(16)), part(0, b"x" * 16), part(16, b"end", more=False)],
        [part(16, b"end", more=False), part(0, bytes(16) + bytes(8))],
        [part(16, b"end", more=False), part(8, b"end", more=False), part(0, bytes(8)), part(8, bytes(8))],
        [part(0, bytes(16)), part(8, b"end", more=False)],
        [part(0, bytes(15)), part(15, b"end", more=False)],
        [part(65528, bytes(16), more=False)],
        [part(0, b""), part(0, b"end", more=False), part(0, b"")],
    ],
)
def test_fragments_that_contradict_each_other_make_nothing(parts: list[Fragment]) -> None:
    """RFC 5722: whoever overlaps is up to something; teardrop and its kin."""
    reassembly = Reassembly()
    made = [whole for each in parts if (whole := reassembly.add(each, 0.0)) is not None]
    assert made in ([], [(b"end", 0)])


def test_congestion_met_by_one_fragment_was_met_by_the_packet() -> None:
    """RFC 3168 section 5.3."""
    reassembly = Reassembly()
    reassembly.add(part(0, bytes(8), tos=3), 0.0)
    assert reassembly.add(part(8, b"end", more=False, tos=2), 0.0) == (bytes(8) + b"end", 3)
    reassembly.add(part(0, bytes(8), tos=3), 0.0)
    assert reassembly.add(part(8, b"end", more=False, tos=0), 0.0) is None


def test_a_flood_of_fragments_is_bounded() -> None:
    """Neither one sender nor many take more than the budget; what waits is given up, and other packets get through."""
    reassembly, random = Reassembly(), Random(3)
    for number in range(20_000):
        sender = pack(">I", 0x0A630000 + number % 500)
        reassembly.add(part(8 * random.randrange(8000), bytes(1400), name=random.randbytes(4), sender=sender), 0.001)
    kept = sum(partial.here for partial in reassembly._partial.values())
    assert kept <= MOST_BYTES
    assert len(reassembly._partial) <= 64
    for number in range(100):
        reassembly.add(part(8, bytes(8), name=pack(">I", number)), 0.002)
    assert sum(key[0] == H4 for key in reassembly._partial) == MOST_OF_A_SENDER
    reassembly.add(part(0, bytes(8), name=b"good"), 0.003)
    assert reassembly.add(part(8, b"end", more=False, name=b"good"), 0.003) == (bytes(8) + b"end", 0)
    deadline = reassembly.deadline()
    assert deadline is not None
    reassembly.expire(1 + TIMEOUT)
    assert (reassembly.deadline(), reassembly._bytes, reassembly._senders) == (None, 0, {})


# Path MTUs


def test_a_path_mtu_only_falls_and_is_forgotten_in_time() -> None:
    """N24: what is below what every path carries is ignored (RFC 8201 section 4)."""
    mtus = PathMtus(1400)
    for destination, least in ((H4, 576), (H6, 1280)):
        mtus.lower(destination, least - 1, 0.0)
        assert mtus.mtu(destination, 0.0) == 1400
        mtus.lower(destination, 1350, 0.0)
        mtus.lower(destination, 1380, 0.0)
        assert mtus.mtu(destination, AGE - 1) == 1350
        assert mtus.mtu(destination, AGE + 1) == 1400
    mtus.set_limit(1000)
    assert (mtus.mtu(V4, 0.0), mtus.mtu(V6, 0.0)) == (1000, 1280)


def test_path_mtus_are_bounded() -> None:
    mtus = PathMtus(1400)
    for number in range(5000):
        mtus.lower(pack(">I", number), 1300, 0.0)
    assert len(mtus._known) <= 1024
    assert mtus.mtu(pack(">I", 4999), 0.0) == 1300


# ICMP


def echo_of(source: bytes, destination: bytes) -> bytes:
    return icmp.echo(source, destination, identifier=7, sequence=9, data=b"some data")


@pytest.mark.parametrize(("source", "destination", "protocol"), [(H4, V4, ICMP), (H6, V6, ICMPV6)])
def test_an_echo_is_answered_with_what_it_carried(source: bytes, destination: bytes, protocol: int) -> None:
    request = parsed(packet := echo_of(source, destination))
    assert request is not None
    message = memoryview(packet)[request.offset :]
    assert request.protocol == protocol
    assert icmp.checksum_right(source, destination, message)
    version = 4 if protocol == ICMP else 6
    assert icmp.is_echo(version, message)
    answer = icmp.echo_reply(destination, source, message, 0xB8, 1)
    found = parsed(answer)
    assert found is not None
    assert (found.source, found.tos) == (destination, 0xB8)
    reply = memoryview(answer)[found.offset :]
    assert icmp.checksum_right(destination, source, reply)
    assert icmp.read_reply(version, reply) == icmp.EchoReply(identifier=7, sequence=9)
    assert bytes(reply[8:]) == b"some data"


@pytest.mark.parametrize(
    ("source", "destination", "port", "kind"),
    [
        (H4, V4, True, icmp.Kind.PORT_UNREACHABLE),
        (H4, V4, False, icmp.Kind.PROTOCOL_UNREACHABLE),
        (H6, V6, True, icmp.Kind.PORT_UNREACHABLE),
        (H6, V6, False, icmp.Kind.PROTOCOL_UNREACHABLE),
    ],
)
def test_an_error_of_ours_says_what_it_is_about(source: bytes, destination: bytes, port: bool, kind: icmp.Kind) -> None:
    about = header(source, destination, UDP, 3000) + b"\x30\x39\x00\x35" + bytes(2996)
    answer = icmp.unreachable(memoryview(about), destination, source, port=port)
    found = parsed(answer)
    assert found is not None
    assert len(answer) <= (576 if len(source) == 4 else 1280)
    message = memoryview(answer)[found.offset :]
    assert icmp.checksum_right(destination, source, message)
    error = icmp.read_error(4 if len(source) == 4 else 6, message)
    assert error is not None
    assert (error.kind, error.source, error.destination, error.protocol) == (kind, source, destination, UDP)
    assert error.quoted.startswith(b"\x30\x39\x00\x35")
    assert error.length == len(about)


def too_big4(quoted: bytes, mtu: int) -> bytes:
    return pack(">BBHHH", 3, 4, 0, 0, mtu) + quoted


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (4, b""),
        (4, too_big4(header(V4, H4, UDP, 8)[:19], 1300)),
        (4, too_big4(header(V4, H4, UDP, 8) + bytes(7), 1300)),  # without the ports, nothing can be told
        (4, too_big4(header(V6, H6, UDP, 8) + bytes(8), 1300)),
        (4, pack(">BBHHH", 5, 1, 0, 0, 0) + header(V4, H4, UDP, 8) + bytes(8)),  # a redirect
        (6, pack(">BBHI", 134, 0, 0, 0) + header(V6, H6, UDP, 8) + bytes(8)),
        (6, pack(">BBHI", 2, 0, 0, 1300) + header(V4, H4, UDP, 40) + bytes(40)),
    ],
)
def test_what_is_no_error_says_nothing(version: int, message: bytes) -> None:
    assert icmp.read_error(version, memoryview(message)) is None


def test_checksums_are_those_of_a_slow_and_plain_sum() -> None:
    random = Random(4)
    for size in (0, 1, 7, 40, 1399, 60_001):
        message = random.randbytes(size)
        for source, destination, names in ((H4, V4, (HOST4, VIP4)), (H6, V6, (HOST6, VIP6))):
            plain = ones_complement_sum(_pseudo(names, size) + message) ^ 0xFFFF
            assert transport_checksum(source, destination, UDP, message) == plain


def _pseudo(names: tuple[str, str], size: int) -> bytes:
    return pseudo_header(names[0], names[1], UDP, size)


def test_addresses_are_written_as_people_do() -> None:
    assert [presentation(address) for address in (V4, V6)] == [VIP4, VIP6]
