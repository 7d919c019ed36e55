from __future__ import annotations

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, tcp, tcp_checksum_holds, udp
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.esp.packet.mss import Packet, clamp, clamp_batch

MSS = b"\x02\x04\x05\xb4"  # 1460
TYPICAL = MSS + bytes.fromhex("0402080a00000001000000000103030a")


def syn4(options: bytes = TYPICAL, **kwargs: int) -> bytes:
    return ipv4(tcp(options, **kwargs), protocol=6)


def syn6(options: bytes = TYPICAL, extension: bytes = b"", next_header: int = 6) -> bytes:
    return ipv6(extension + tcp(options, source=HOST6, destination=VIP6), next_header=next_header)


def clamped(packet: bytes, limit4: int = 1300, limit6: int = 1280) -> Packet:
    batch: list[Packet] = [packet]
    clamp_batch(batch, limit4, limit6)
    assert batch[0] == clamp(packet, limit6 if packet[0] >> 4 == 6 else limit4)
    return batch[0]


@pytest.mark.parametrize("flags", [0x02, 0x12], ids=["SYN", "SYN+ACK"])
def test_the_mss_of_a_syn_is_lowered_and_the_checksum_stays_right(flags: int) -> None:
    packet = syn4(flags=flags)
    result = bytes(clamped(packet))
    assert int.from_bytes(result[42:44], "big") == 1300
    assert tcp_checksum_holds(result, 20, HOST4, VIP4)
    assert result[:36] + result[38:42] + result[44:] == packet[:36] + packet[38:42] + packet[44:]


def test_ipv6_has_a_limit_of_its_own() -> None:
    result = bytes(clamped(syn6()))
    assert int.from_bytes(result[62:64], "big") == 1280
    assert tcp_checksum_holds(result, 40, HOST6, VIP6)


@pytest.mark.parametrize("skipped", [0, 1, 2, 3])
def test_an_option_at_an_odd_offset_is_summed_rightly(skipped: int) -> None:
    options = b"\x01" * skipped + MSS + b"\x01" * (4 - skipped)
    result = bytes(clamped(syn4(options)))
    assert int.from_bytes(result[42 + skipped : 44 + skipped], "big") == 1300
    assert tcp_checksum_holds(result, 20, HOST4, VIP4)


@given(st.integers(0, 65535), st.integers(1, 65535), st.integers(0, 3), st.integers(0, 65535))
def test_checksums_hold_for_every_value(mss: int, limit: int, skipped: int, port: int) -> None:
    options = b"\x01" * skipped + b"\x02\x04" + mss.to_bytes(2, "big") + b"\x01" * (4 - skipped)
    result = bytes(clamp(syn4(options, source_port=port), limit))
    assert int.from_bytes(result[42 + skipped : 44 + skipped], "big") == min(mss, limit)
    assert tcp_checksum_holds(result, 20, HOST4, VIP4)


def test_ip_options_and_extension_headers_are_walked() -> None:
    packet = ipv4(tcp(TYPICAL), protocol=6, options=b"\x01" * 12)
    assert bytes(clamped(packet))[54:56] == (1300).to_bytes(2, "big")
    for next_header, extension in ((0, b"\x06\0" + bytes(6)), (60, b"\x06\x01" + bytes(14)), (44, b"\x06" + bytes(7))):
        result = bytes(clamped(syn6(extension=extension, next_header=next_header)))
        assert result[62 + len(extension) : 64 + len(extension)] == (1280).to_bytes(2, "big")
        assert tcp_checksum_holds(result, 40 + len(extension), HOST6, VIP6)


@pytest.mark.parametrize(
    "packet",
    [
        syn4(MSS, flags=0x10),
        syn4(b"\x02\x04\x05\x14"),
        syn4(b""),
        syn4(b"\x01\x01\x01\x00"),
        syn4(b"\x00" + MSS + b"\0\0\0"),
        ipv4(udp()),
        ipv6(udp()),
        ipv4(tcp(MSS), protocol=6, flags_offset=0x2001),
        ipv4(tcp(MSS), protocol=17),
    ],
    ids=["no-syn", "smaller", "none", "nops", "after-end", "udp4", "udp6", "fragment", "not-tcp"],
)
def test_everything_else_goes_through_as_the_same_object(packet: bytes) -> None:
    assert clamped(packet) is packet


@pytest.mark.parametrize(
    "packet",
    [
        syn4(b"\x02\x03\x05\xb4"),
        syn4(b"\x02\x00\x05\xb4"),
        syn4(b"\x05\x00" + MSS + b"\0\0"),
        syn4(b"\x05\x01" + MSS + b"\0\0"),
        syn4(b"\x05\xff" + MSS + b"\0\0"),
        syn4(b"\x01\x01\x02\x04"),
        ipv4(tcp(MSS)[:19], protocol=6),
        ipv4(tcp(MSS)[:22], protocol=6),
        ipv4(b"", protocol=6),
        ipv4(tcp(MSS)[:12] + b"\x40\x02" + tcp(MSS)[14:], protocol=6),
        ipv4(tcp(MSS)[:12] + b"\xf0\x02" + tcp(MSS)[14:], protocol=6),
        ipv6(b"", next_header=6),
        ipv6(b"", next_header=0),
        ipv6(b"\x06\xff" + bytes(6), next_header=0),
        ipv6(b"\x00\x00" + bytes(6), next_header=0),
        ipv6((b"\x00\x00" + bytes(6)) * 100, next_header=0),
        ipv6(b"\x06\x00", next_header=60),
        ipv6(b"\x06\x00\x00\x08" + bytes(4) + tcp(MSS), next_header=44),
        ipv6(b"\x06\xff" + bytes(30), next_header=51),
    ],
)
def test_malformed_headers_and_options_go_through_unclamped(packet: bytes) -> None:
    """P12"""
    assert clamped(packet) is packet


@given(
    st.binary(min_size=40, max_size=120),
    st.sampled_from([0x45, 0x46, 0x4F, 0x60, 0x6F]),
    st.sampled_from([0, 6, 43, 44, 51, 60]),
)
def test_arbitrary_bytes_never_raise_and_never_change_length(data: bytes, first: int, protocol: int) -> None:
    """P12"""
    packet = bytearray(data)
    packet[0] = first
    packet[6 if first >= 0x60 else 9] = protocol
    if first == 0x45:
        packet[33] |= 2
    batch: list[Packet] = [bytes(packet), memoryview(packet)]
    clamp_batch(batch, 1300, 1280)
    assert len(batch[0]) == len(batch[1]) == len(packet)
    assert bytes(batch[0]) == bytes(batch[1])
