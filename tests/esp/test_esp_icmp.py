from __future__ import annotations

from ipaddress import ip_address

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, ones_complement_sum, pseudo_header, tcp, udp
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.inner import internet_checksum

OUT4 = {"source": VIP4, "destination": HOST4}
OUT6 = {"source": VIP6, "destination": HOST6}
PAYLOAD = bytes(range(256)) * 6


def test_ipv4_gets_fragmentation_needed_with_the_mtu() -> None:
    """P11, P16"""
    packet = ipv4(udp(PAYLOAD), **OUT4)
    answer = too_big(packet, 1398)
    assert answer is not None
    assert len(answer) == 576
    assert answer[0] == 0x45
    assert int.from_bytes(answer[2:4], "big") == len(answer)
    assert answer[9] == 1
    assert answer[12:20] == ip_address(HOST4).packed + ip_address(VIP4).packed
    assert answer[20:22] == b"\x03\x04"
    assert int.from_bytes(answer[26:28], "big") == 1398
    assert answer[28:] == packet[: 576 - 28]
    assert ones_complement_sum(answer[:20]) == ones_complement_sum(answer[20:]) == 0xFFFF


def test_ipv6_gets_packet_too_big_with_the_mtu() -> None:
    """P11, P16"""
    packet = ipv6(udp(PAYLOAD), **OUT6)
    answer = too_big(packet, 1380)
    assert answer is not None
    assert len(answer) == 1280
    assert answer[0] >> 4 == 6
    assert answer[6] == 58
    assert int.from_bytes(answer[4:6], "big") == len(answer) - 40
    assert answer[8:40] == ip_address(HOST6).packed + ip_address(VIP6).packed
    assert answer[40:42] == b"\x02\x00"
    assert int.from_bytes(answer[44:48], "big") == 1380
    assert answer[48:] == packet[: 1280 - 48]
    assert ones_complement_sum(pseudo_header(HOST6, VIP6, 58, len(answer) - 40) + answer[40:]) == 0xFFFF


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        bytes(60),
        ipv4(udp(PAYLOAD), flags_offset=0, **OUT4),
        ipv4(udp(PAYLOAD), flags_offset=0x4001, **OUT4),
        ipv4(b"\x03\x04" + PAYLOAD, protocol=1, **OUT4),
        ipv4(b"\x0b\x00" + PAYLOAD, protocol=1, **OUT4),
        ipv4(b"", protocol=1, **OUT4),
        ipv4(udp(PAYLOAD), source=VIP4, destination="224.0.0.1"),
        ipv4(udp(PAYLOAD), source="0.0.0.0", destination=HOST4),
        ipv4(udp(PAYLOAD), source="255.255.255.255", destination=HOST4),
        ipv6(b"\x02\x00" + PAYLOAD, next_header=58, **OUT6),
        ipv6(b"", next_header=58, **OUT6),
        ipv6(udp(PAYLOAD), source=VIP6, destination="ff02::1"),
        ipv6(udp(PAYLOAD), source="::", destination=HOST6),
    ],
)
def test_no_answer_is_given_where_the_standards_forbid_it(packet: bytes) -> None:
    """P16"""
    assert too_big(packet, 1300) is None


def test_pings_are_answered_though_they_are_icmp() -> None:
    assert too_big(ipv4(b"\x08\x00" + PAYLOAD, protocol=1, **OUT4), 1300) is not None
    assert too_big(ipv6(b"\x80\x00" + PAYLOAD, next_header=58, **OUT6), 1300) is not None


def test_short_packets_are_quoted_whole() -> None:
    packet = ipv4(tcp(), protocol=6, **OUT4)
    answer = too_big(memoryview(packet), 30)
    assert answer is not None
    assert answer[28:] == packet


@given(st.binary(max_size=400))
def test_the_checksum_agrees_with_the_plain_sum(data: bytes) -> None:
    expected = 0xFFFF - ones_complement_sum(data)
    assert internet_checksum(data) == expected


@given(st.binary(max_size=100), st.sampled_from([0x45, 0x4F, 0x60, 0x00]))
def test_arbitrary_bytes_never_raise(data: bytes, first: int) -> None:
    """P11"""
    packet = bytes((first,)) + data
    answer = too_big(packet, 1280)
    assert answer is None or len(answer) <= 1280
