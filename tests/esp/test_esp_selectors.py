from __future__ import annotations

from ipaddress import ip_address, ip_network
from struct import pack

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, number, tcp, udp
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.esp.sa.selectors import MALFORMED, OUTSIDE, PacketFilter, Selector


def network(text: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> Selector:
    net = ip_network(text)
    return Selector(
        version=net.version,
        start=int(net.network_address),
        end=int(net.broadcast_address),
        protocol=protocol,
        start_port=ports[0],
        end_port=ports[1],
    )


EVERYTHING = (network("0.0.0.0/0"), network("::/0"))
OURS = (network(f"{VIP4}/32"), network(f"{VIP6}/128"))
OWN = [(4, number(VIP4)), (6, number(VIP6))]
FULL_TUNNEL = PacketFilter(sources=EVERYTHING, destinations=OURS, own=OWN)
SPLIT_TUNNEL = PacketFilter(
    sources=(network("10.99.0.0/24"), network("10.77.0.0/16"), network("fd99::/64")), destinations=OURS, own=OWN
)


def measure(packet_filter: PacketFilter, packet: bytes) -> int:
    return packet_filter.measure(packet, len(packet))


@pytest.mark.parametrize(
    "packet", [ipv4(udp()), ipv6(udp()), ipv4(udp(), options=b"\x01" * 8)], ids=["4", "6", "options"]
)
def test_a_packet_inside_the_selectors_is_measured(packet: bytes) -> None:
    assert measure(SPLIT_TUNNEL, packet) == measure(FULL_TUNNEL, packet) == len(packet)
    assert SPLIT_TUNNEL.measure(memoryview(packet), len(packet)) == len(packet)


@pytest.mark.parametrize(
    ("source", "inside"),
    [
        ("10.98.255.255", False),
        ("10.99.0.0", True),
        ("10.99.0.255", True),
        ("10.99.1.0", False),
        ("10.76.255.255", False),
        ("10.77.0.0", True),
        ("10.77.255.255", True),
        ("10.78.0.0", False),
        ("fd98:ffff:ffff:ffff:ffff:ffff:ffff:ffff", False),
        ("fd99::", True),
        ("fd99::ffff:ffff:ffff:ffff", True),
        ("fd99:0:0:1::", False),
    ],
)
def test_a_spoofed_source_is_outside(source: str, inside: bool) -> None:
    """P7: the edges of every range, both families."""
    packet = ipv6(udp(), source=source) if ":" in source else ipv4(udp(), source=source)
    assert measure(SPLIT_TUNNEL, packet) == (len(packet) if inside else OUTSIDE)


@pytest.mark.parametrize("destination", ["10.88.0.2", "10.88.0.0", "127.0.0.1", "192.168.1.1", "224.0.0.1", "fd88::2"])
def test_a_foreign_destination_is_outside(destination: str) -> None:
    """P7"""
    packet = ipv6(udp(), destination=destination) if ":" in destination else ipv4(udp(), destination=destination)
    assert measure(FULL_TUNNEL, packet) == OUTSIDE


@pytest.mark.parametrize(
    "source",
    [
        "127.0.0.1",
        "127.255.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
        VIP4,
        "::",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        VIP6,
    ],
)
def test_a_source_that_cannot_be_genuine_is_outside_even_of_a_full_tunnel(source: str) -> None:
    """P7: loopback, unspecified, multicast, mapped, and our own virtual address."""
    packet = ipv6(udp(), source=source) if ":" in source else ipv4(udp(), source=source)
    assert measure(FULL_TUNNEL, packet) == OUTSIDE


@pytest.mark.parametrize(
    "source", ["1.0.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255", "10.88.0.0", "10.88.0.2"]
)
def test_the_neighbours_of_impossible_sources_are_inside_a_full_tunnel(source: str) -> None:
    packet = ipv4(udp(), source=source)
    assert measure(FULL_TUNNEL, packet) == len(packet)


def test_loopback_is_no_destination_of_any_tunnel() -> None:
    """P7"""
    everywhere = PacketFilter(sources=EVERYTHING, destinations=EVERYTHING)
    assert measure(everywhere, ipv4(udp(), destination="127.0.0.1")) == OUTSIDE
    assert measure(everywhere, ipv6(udp(), destination="::1")) == OUTSIDE
    assert measure(everywhere, ipv4(udp(), destination="224.0.0.251")) > 0


INBOUND = PacketFilter(sources=EVERYTHING, destinations=EVERYTHING, own=OWN, inbound=True)
WEB = PacketFilter(
    sources=(
        network("0.0.0.0/0", 17),
        network("0.0.0.0/0", 1),
        network("0.0.0.0/0", 2),
        network("::/0", 17),
        network("::/0", 58),
    ),
    destinations=EVERYTHING,
    inbound=True,
)


def icmp(type_: int, length: int = 32) -> bytes:
    return bytes((type_,)) + bytes(length - 1)


def extended(headers: list[int], payload: bytes, last: int = 58) -> bytes:
    """An IPv6 packet with extension headers of eight bytes each; number 44 is a first fragment."""
    following = [*headers[1:], last]
    chain = b"".join(
        bytes((number, 0, 0, 1 if header == 44 else 0, 0, 0, 0, 1))
        for header, number in zip(headers, following, strict=True)
    )
    return ipv6(chain + payload, next_header=headers[0])


LATER_FRAGMENT = ipv6(bytes((58, 0, 0, 8, 0, 0, 0, 1)) + icmp(134), next_header=44)
NEIGHBOURLY = {
    "an IPv4 redirect": ipv4(icmp(5), protocol=1),
    "an IPv4 redirect behind options": ipv4(icmp(5), protocol=1, options=b"\x01" * 4),
    "the first fragment of an IPv4 redirect": ipv4(icmp(5), protocol=1, flags_offset=0x2000),
    "an IPv4 router advertisement": ipv4(icmp(9), protocol=1),
    "an IPv4 router solicitation": ipv4(icmp(10), protocol=1),
    "a multicast query": ipv4(icmp(0x11), protocol=2, options=b"\x94\x04\x00\x00"),
    "a loose source route": ipv4(udp(), options=bytes.fromhex("8307040a01000200")),
    "a strict source route behind another option": ipv4(
        udp(), options=bytes.fromhex("01940400008907040a01000200000000")
    ),
    "a router solicitation": ipv6(icmp(133), next_header=58),
    "a router advertisement": ipv6(icmp(134), next_header=58, hop_limit=255),
    "a neighbour solicitation": ipv6(icmp(135), next_header=58),
    "a neighbour advertisement": ipv6(icmp(136), next_header=58),
    "an IPv6 redirect": ipv6(icmp(137), next_header=58),
    "a redirect behind hop-by-hop options": extended([0], icmp(137)),
    "a router advertisement behind options and routing": extended([0, 60, 43], icmp(134)),
    "a router advertisement in a fragment": extended([44], icmp(134)),
    "a router advertisement behind options in a fragment": extended([44, 60], icmp(134)),
    "a chain of headers without end": extended([60] * 9, icmp(134)),
    "an IPv4 packet from a link-local address": ipv4(udp(), source="169.254.3.3"),
    "an IPv6 packet from a link-local address": ipv6(udp(), source="fe80::1"),
    "the last link-local address": ipv6(udp(), source="febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    "an IPv4 packet to a link-local address": ipv4(udp(), destination="169.254.255.255"),
    "an IPv6 packet to a link-local address": ipv6(udp(), destination="fe80::2"),
    "an IPv4 packet to a multicast address": ipv4(udp(), destination="224.0.0.251"),
    "an IPv4 packet to everybody": ipv4(udp(), destination="255.255.255.255"),
    "an IPv6 packet to a multicast address": ipv6(udp(), destination="ff02::1"),
}
FAR = {
    "an echo reply": ipv4(icmp(0), protocol=1),
    "ICMP that says unreachable": ipv4(icmp(3), protocol=1),
    "a later fragment of ICMP": ipv4(icmp(5), protocol=1, flags_offset=0x0004),
    "another protocol": ipv4(icmp(5), protocol=50),
    "empty ICMP": ipv4(b"", protocol=1),
    "options": ipv4(udp(), options=b"\x94\x04\x00\x00"),
    "an IPv6 echo reply": ipv6(icmp(129), next_header=58),
    "packet too big": ipv6(icmp(2), next_header=58),
    "empty ICMPv6": ipv6(b"", next_header=58),
    "an echo reply behind options": extended([0, 60], icmp(129)),
    "UDP behind options": extended([60], udp(), 17),
    "UDP that looks like a redirect": ipv4(icmp(5)),
    "a later fragment of ICMPv6": LATER_FRAGMENT,
    "below the link-local addresses": ipv4(udp(), source="169.253.255.255"),
    "above the link-local addresses": ipv4(udp(), source="169.255.0.0"),
    "below the IPv6 link-local addresses": ipv6(udp(), source="fe7f:ffff::1"),
    "above the IPv6 link-local addresses": ipv6(udp(), source="fec0::1"),
}


@pytest.mark.parametrize("name", NEIGHBOURLY)
def test_what_only_a_neighbour_may_send_never_comes_out_of_a_tunnel(name: str) -> None:
    """P17: whatever the selectors are, while the same may go in."""
    packet = NEIGHBOURLY[name]
    for packet_filter in (INBOUND, WEB):
        assert measure(packet_filter, packet) == OUTSIDE
        assert packet_filter.measure(memoryview(packet + b"padding"), len(packet) + 7) == OUTSIDE
    assert measure(PacketFilter(sources=EVERYTHING, destinations=EVERYTHING), packet) == len(packet)


@pytest.mark.parametrize("name", FAR)
def test_what_comes_from_far_passes(name: str) -> None:
    """P17: the neighbours of what is refused."""
    assert measure(INBOUND, FAR[name]) == len(FAR[name])


@given(
    data=st.binary(min_size=1, max_size=80),
    version=st.sampled_from((0x45, 0x46, 0x4F, 0x60)),
    protocol=st.integers(0, 255),
)
def test_arbitrary_packets_of_neighbours_never_raise(data: bytes, version: int, protocol: int) -> None:
    """P3, P17"""
    packet = ipv4(data, protocol=protocol) if version < 0x60 else ipv6(data, next_header=protocol)
    packet = bytes((version,)) + packet[1:]
    assert measure(INBOUND, packet) in (MALFORMED, OUTSIDE, len(packet))


def test_a_family_without_selectors_is_outside() -> None:
    only4 = PacketFilter(sources=(EVERYTHING[0],), destinations=(OURS[0],))
    assert measure(only4, ipv6(udp())) == OUTSIDE
    assert measure(PacketFilter(sources=(), destinations=()), ipv4(udp())) == OUTSIDE
    numbers4 = PacketFilter(sources=(EVERYTHING[0],), destinations=(EVERYTHING[0],))
    assert measure(numbers4, ipv6(udp(), source="::5", destination="::6")) == OUTSIDE


def _edited(packet: bytes, at: int, value: bytes) -> bytes:
    return packet[:at] + value + packet[at + len(value) :]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        ipv4(udp())[:19],
        ipv6(udp())[:39],
        _edited(ipv4(udp()), 0, b"\x44"),
        _edited(ipv4(udp()), 0, b"\x40"),
        _edited(ipv4(udp()), 0, b"\x05"),
        _edited(ipv4(udp()), 0, b"\x75"),
        _edited(ipv4(udp()), 2, pack(">H", 2000)),
        _edited(ipv4(udp()), 2, pack(">H", 19)),
        _edited(ipv4(udp()), 2, pack(">H", 0)),
        _edited(ipv4(b""), 0, b"\x4f"),
        _edited(ipv6(udp()), 4, pack(">H", 500)),
        ipv6(b"", next_header=0),
        _edited(ipv6(udp(), next_header=0), 4, pack(">H", 0)),
    ],
)
def test_wrong_lengths_versions_and_jumbograms_are_malformed(packet: bytes) -> None:
    """P10: total length, IHL 4, IPv6 payload length, version 0 and 7, 0 to 19 bytes, jumbogram."""
    assert measure(FULL_TUNNEL, packet) == MALFORMED


def test_bytes_behind_the_packet_are_not_counted() -> None:
    """P6: traffic flow confidentiality padding."""
    for packet in (ipv4(udp()), ipv6(udp())):
        assert measure(FULL_TUNNEL, packet + bytes(100)) == len(packet)


def test_protocol_and_ports_decide_where_they_are_selected() -> None:
    """P7"""
    web = PacketFilter(
        sources=(network("10.99.0.0/24", 6, (443, 443)), network("10.99.0.0/24", 17, (53, 60))), destinations=(OURS[0],)
    )
    assert measure(web, ipv4(tcp(source_port=443), protocol=6)) > 0
    assert measure(web, ipv4(tcp(source_port=80), protocol=6)) == OUTSIDE
    assert measure(web, ipv4(udp(source_port=53))) > 0
    assert measure(web, ipv4(udp(source_port=60))) > 0
    assert measure(web, ipv4(udp(source_port=61))) == OUTSIDE
    assert measure(web, ipv4(udp(source_port=443), protocol=6)[:22]) == MALFORMED
    assert measure(web, ipv4(b"\x01\xbb", protocol=6)) == OUTSIDE  # too short to show ports
    assert measure(web, ipv4(b"\x01\xbb\0\0", protocol=47)) == OUTSIDE


def test_protocol_alone_can_be_selected() -> None:
    icmp = PacketFilter(sources=(network("10.99.0.0/24", 1),), destinations=OURS)
    assert measure(icmp, ipv4(b"\x08\0\0\0", protocol=1)) > 0
    assert measure(icmp, ipv4(udp())) == OUTSIDE


def test_the_type_and_code_of_icmp_stand_in_for_a_port() -> None:
    """RFC 4301 section 4.4.1.1"""
    echo_reply = PacketFilter(sources=(network("10.99.0.0/24", 1, (0, 255)),), destinations=OURS)
    assert measure(echo_reply, ipv4(b"\0\0\0\0", protocol=1)) > 0
    assert measure(echo_reply, ipv4(b"\x08\0\0\0", protocol=1)) == OUTSIDE


def test_later_fragments_match_only_where_ports_do_not_matter() -> None:
    """RFC 4301 section 7: what shows no ports cannot be let through a selector with ports, except an OPAQUE one."""
    ports = PacketFilter(sources=(network("10.99.0.0/24", 17, (53, 53)),), destinations=OURS)
    opaque = PacketFilter(sources=(network("10.99.0.0/24", 17, (65535, 0)),), destinations=OURS)
    fragment = ipv4(udp(source_port=53), flags_offset=0x0010)
    assert measure(ports, fragment) == OUTSIDE
    assert measure(opaque, fragment) > 0
    assert measure(opaque, ipv4(udp(source_port=53))) == OUTSIDE
    assert measure(SPLIT_TUNNEL, fragment) > 0


def test_ports_are_found_behind_ipv6_extension_headers() -> None:
    ports = PacketFilter(sources=(network("fd99::/64", 17, (53, 53)),), destinations=OURS)
    hop_by_hop = b"\x3c\0" + bytes(6) + b"\x11\x01" + bytes(14)  # then destination options, then UDP
    assert measure(ports, ipv6(hop_by_hop + udp(source_port=53), next_header=0)) > 0
    assert measure(ports, ipv6(hop_by_hop + udp(source_port=54), next_header=0)) == OUTSIDE
    later_fragment = b"\x11\0\0\x08" + bytes(4)
    assert measure(ports, ipv6(later_fragment + udp(source_port=53), next_header=44)) == OUTSIDE
    first_fragment = b"\x11\0\0\x01" + bytes(4)
    assert measure(ports, ipv6(first_fragment + udp(source_port=53), next_header=44)) > 0


ranges = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), max_size=6)


@given(ranges, st.integers(0, 350), st.sets(st.integers(0, 350), max_size=4))
def test_compiled_ranges_agree_with_looking_at_each(pairs: list[tuple[int, int]], offset: int, own: set[int]) -> None:
    base = number("10.0.0.0")
    selectors = [Selector(version=4, start=base + a, end=base + a + n) for a, n in pairs]
    compiled = PacketFilter(sources=selectors, destinations=OURS, own=[(4, base + n) for n in own])
    packet = ipv4(udp(), source=str(ip_address(base + offset)))
    inside = offset not in own and any(a <= offset <= a + n for a, n in pairs)
    assert measure(compiled, packet) == (len(packet) if inside else OUTSIDE)


@given(st.binary(max_size=120), st.integers(0, 15), st.booleans())
def test_arbitrary_bytes_give_a_length_or_a_verdict(data: bytes, version: int, ports: bool) -> None:
    """P10"""
    restricted = PacketFilter(
        sources=(network("0.0.0.0/0", 6, (1, 2)), network("::/0", 0, (65535, 0))), destinations=EVERYTHING
    )
    if data:
        data = bytes((version << 4 | data[0] & 15,)) + data[1:]
    verdict = measure(restricted if ports else FULL_TUNNEL, data)
    assert verdict in (MALFORMED, OUTSIDE) or 20 <= verdict <= len(data)


def test_the_addresses_of_the_examples_are_what_they_seem() -> None:
    assert SPLIT_TUNNEL.measure(ipv4(udp(), source=HOST4), 35) == 35
    assert SPLIT_TUNNEL.measure(ipv6(udp(), source=HOST6), 55) == 55
