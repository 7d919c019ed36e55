from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, number, udp
from esp_suites import SUITES, every_suite
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.esp_ciphers import EspCipher, esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.esp.sa.pair import Counters, InboundSa, OutboundSa, Packet
from ikeclient.esp.sa.selectors import PacketFilter, Selector

GCM = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None)
GCM_ESN = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None, esn=True)
CBC = EspSuite(encryption=ENCRYPTION["aes128"], integrity=INTEGRITY["sha256"])

SPI = 0xC1A2B3C4
ANY = (Selector(version=4, start=0, end=(1 << 32) - 1), Selector(version=6, start=0, end=(1 << 128) - 1))
OURS = (
    Selector(version=4, start=number(VIP4), end=number(VIP4)),
    Selector(version=6, start=number(VIP6), end=number(VIP6)),
)
OPEN = PacketFilter(sources=ANY, destinations=ANY)
INBOUND = PacketFilter(sources=ANY, destinations=OURS, own=[(4, number(VIP4)), (6, number(VIP6))])


def keys_for(suite: EspSuite) -> DirectionKeys:
    return DirectionKeys(
        encryption=bytes(range(suite.encryption.key_length + suite.encryption.salt_length)),
        integrity=bytes(range(suite.integrity.key_length)) if suite.integrity else b"",
    )


def outbound(suite: EspSuite = GCM, **kwargs: int) -> OutboundSa:
    return OutboundSa(SPI, suite, keys_for(suite), filter=OPEN, entropy=os.urandom, **kwargs)


def inbound(suite: EspSuite = GCM, packet_filter: PacketFilter = INBOUND, window: int = 1024) -> InboundSa:
    return InboundSa(SPI, suite, keys_for(suite), filter=packet_filter, window=window)


def cipher(suite: EspSuite = GCM) -> EspCipher:
    """The peer's hands: seals whatever it likes."""
    return esp_cipher(suite, keys_for(suite), SPI, os.urandom)


def opened(sa: InboundSa, *datagrams: bytes) -> list[bytes]:
    return [bytes(packet) for packet in sa.open(datagrams)]


def counted(counters: Counters) -> dict[str, int]:
    return {name: value for name in Counters.__slots__ if (value := getattr(counters, name))}


def sizes(packets: Iterable[Packet]) -> int:
    return sum(map(len, packets))


@every_suite
def test_batches_of_every_size_make_the_round_trip(suite: EspSuite) -> None:
    sender, receiver = outbound(suite), inbound(suite)
    packets = [ipv4(udp(bytes(n))) for n in range(70)] + [ipv6(udp(bytes(n))) for n in range(70)]
    packets += [ipv4(bytes(65535 - 20))]
    assert opened(receiver, *sender.seal(packets)) == packets
    expected = {"packets": len(packets), "bytes": sizes(packets)}
    assert counted(sender.counters) == counted(receiver.counters) == expected


@every_suite
def test_a_payload_begins_with_spi_and_sequence_number_and_has_the_predicted_length(suite: EspSuite) -> None:
    sender = outbound(suite)
    packets = [ipv4(udp(bytes(n))) for n in range(40)]
    for n, (packet, payload) in enumerate(zip(packets, sender.seal(packets), strict=True), start=1):
        assert payload[:8] == SPI.to_bytes(4, "big") + n.to_bytes(4, "big")
        assert len(payload) == esp_layout(suite).sealed_length(len(packet))


@every_suite
def test_the_trailer_is_that_of_rfc_4303(suite: EspSuite) -> None:
    """Section 2.4: pad bytes 1, 2, 3 ..., then their number, then 4 or 41."""
    for packet, next_header in ((ipv4(udp(b"12")), 4), (ipv6(udp(b"1")), 41)):
        plaintext = cipher(suite).open(1, outbound(suite).seal([packet])[0])
        assert plaintext is not None
        pad = plaintext[-2]
        assert plaintext == packet + bytes(range(1, pad + 1)) + bytes((pad, next_header))
        assert len(plaintext) % esp_layout(suite).alignment == 0
        assert pad < esp_layout(suite).alignment


@given(
    st.lists(st.binary(max_size=1500), max_size=8),
    st.sampled_from(SUITES),
    st.sampled_from([bytes, bytearray, memoryview]),
)
def test_any_payload_in_any_buffer_makes_the_round_trip(
    payloads: list[bytes], suite: EspSuite, buffer: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    packets = [ipv4(payload) if i % 2 else ipv6(payload) for i, payload in enumerate(payloads)]
    sealed = outbound(suite).seal([buffer(packet) for packet in packets])
    assert [bytes(p) for p in inbound(suite).open([memoryview(s) for s in sealed])] == packets


# What an attacker on the path can do


@every_suite
def test_replays_are_counted_and_dropped_also_within_a_batch(suite: EspSuite) -> None:
    """P3"""
    packet = ipv4(udp())
    payload = outbound(suite).seal([packet])[0]
    receiver = inbound(suite)
    assert opened(receiver, payload, payload) == [packet]
    assert opened(receiver, payload) == []
    assert counted(receiver.counters) == {"packets": 1, "bytes": len(packet), "replays": 2}


@pytest.mark.parametrize("suite", [GCM, CBC], ids=["gcm", "cbc"])
def test_late_packets_pass_inside_the_window_and_not_behind_it(suite: EspSuite) -> None:
    """P3"""
    packets = [ipv4(udp(n.to_bytes(2, "big"))) for n in range(1100)]
    payloads = outbound(suite).seal(packets)
    receiver = inbound(suite, window=1024)
    assert opened(receiver, payloads[1099]) == [packets[1099]]
    assert opened(receiver, payloads[1099 - 1023], payloads[1099 - 1024]) == [packets[1099 - 1023]]
    assert receiver.counters.replays == 1


def test_sequence_number_zero_is_never_accepted() -> None:
    """P3"""
    receiver = inbound()
    assert opened(receiver, cipher().seal(0, ipv4(udp(b"xx")) + b"\0\x04")) == []
    assert receiver.counters.replays == 1


@every_suite
def test_a_forged_jump_does_not_move_the_window(suite: EspSuite) -> None:
    """P4"""
    packet = ipv4(udp())
    first, second = outbound(suite).seal([packet, packet])
    receiver = inbound(suite)
    forged = bytearray(second)
    forged[4:8] = b"\xf0\0\0\0"
    assert opened(receiver, first, bytes(forged), second) == [packet, packet]
    assert counted(receiver.counters) == {"packets": 2, "bytes": 2 * len(packet), "auth_failures": 1}


@every_suite
def test_broken_packets_cost_only_themselves(suite: EspSuite) -> None:
    """P2: a wrong ICV, truncation by one, the ICV alone; the good ones pass, and the window is not moved."""
    packets = [ipv4(udp(bytes([n]))) for n in range(3)]
    good = outbound(suite).seal(packets)
    icv = esp_layout(suite).icv_length
    flipped = good[1][:-1] + bytes((good[1][-1] ^ 1,))
    receiver = inbound(suite)
    bad = [flipped, good[1][:-1], good[1][:8] + good[1][-icv:], good[1][:8], good[1][:7], b""]
    assert opened(receiver, good[0], *bad, good[2], good[1]) == [packets[0], packets[2], packets[1]]
    assert receiver.counters.auth_failures + receiver.counters.malformed == len(bad)
    assert receiver.counters.auth_failures >= 1
    assert receiver.authenticated == 3


def test_a_wrong_high_half_fails_authentication() -> None:
    """P5"""
    packet = ipv4(udp())
    sender, receiver = outbound(GCM_ESN), inbound(GCM_ESN)
    sender.sequence = 5 << 32
    assert opened(receiver, *sender.seal([packet])) == []
    assert counted(receiver.counters) == {"auth_failures": 1}


def test_extended_sequence_numbers_cross_the_boundary_in_any_order() -> None:
    """P5"""
    sender, receiver = outbound(GCM_ESN), inbound(GCM_ESN, window=64)
    packets = [ipv4(udp(bytes([n]))) for n in range(6)]
    sender.sequence = (1 << 32) - 200
    assert opened(receiver, *sender.seal([packets[0]])) == [packets[0]]
    sender.sequence = (1 << 32) - 4
    payloads = sender.seal(packets)
    assert payloads[3][4:8] == bytes(4)
    assert opened(receiver, *payloads[::-1]) == packets[::-1]
    assert opened(receiver, *payloads) == []
    assert receiver.counters.replays == 6


def test_the_wire_never_shows_more_than_the_low_half() -> None:
    sender = outbound(GCM_ESN)
    sender.sequence = 7 << 32
    assert sender.seal([ipv4(udp())])[0][4:8] == b"\0\0\0\x01"


# What an authenticated but broken or hostile gateway can do


@pytest.mark.parametrize("suite", [GCM, CBC], ids=["gcm", "cbc"])
def test_padding_for_traffic_flow_confidentiality_is_cut_off(suite: EspSuite) -> None:
    """P6"""
    packet = ipv4(udp(b"1234567890"))
    for tfc in (2, 18, 1002):
        plaintext = packet + os.urandom(tfc)
        pad = -(len(plaintext) + 2) % 16
        sealed = cipher(suite).seal(tfc, plaintext + bytes(range(1, pad + 1)) + bytes((pad, 4)))
        assert opened(inbound(suite), sealed) == [packet]


def test_the_longest_padding_is_accepted() -> None:
    """P6"""
    packet = ipv4(udp(b"123"))
    assert (len(packet) + 2 + 255) % 4 == 0
    sealed = cipher().seal(1, packet + bytes(range(1, 256)) + b"\xff\x04")
    assert opened(inbound(), sealed) == [packet]


def test_dummy_packets_are_dropped_silently_but_are_a_sign_of_life() -> None:
    """P6: next header 59, with anything inside."""
    receiver = inbound()
    assert opened(receiver, cipher().seal(1, b"\0;"[:1] * 2 + b"\0;"), cipher().seal(2, os.urandom(98) + b"\0;")) == []
    assert counted(receiver.counters) == {"dummies": 2}
    assert receiver.authenticated == 2


PACKET = ipv4(udp(b"12"))  # 30 bytes: with the trailer exactly aligned
PADDINGS = {
    "the last byte is wrong": b"\1\2\3\5",
    "zeros": bytes(4),
    "its length": b"\4\4\4\4",
    "as long as possible": bytes(252),
}


@pytest.mark.parametrize("name", PADDINGS)
def test_what_the_padding_says_is_ignored(name: str) -> None:
    """P6, RFC 4303 section 2.4 (a SHOULD): the packet is authentic, and there are gateways that pad with zeros."""
    receiver, padding = inbound(), PADDINGS[name]
    assert opened(receiver, cipher().seal(1, PACKET + padding + bytes((len(padding), 4)))) == [PACKET]
    assert counted(receiver.counters) == {"packets": 1, "bytes": len(PACKET)}


@pytest.mark.parametrize(
    "plaintext",
    [
        PACKET + b"\xff\x04",
        PACKET + b"\x20\x04",
        PACKET + b"\x1f\x04",
        PACKET + b"\x00\x06",
        PACKET + b"\x00\x29",
        PACKET + b"\x00\x00",
        ipv6(udp(b"123456")) + b"\x00\x04",
        b"\x00\x04\x00\x04",
        b"\x01\x02\x02\x04",
        b"\x01\x02\x02\x29",
    ],
)
def test_impossible_padding_and_wrong_next_headers_are_malformed(plaintext: bytes) -> None:
    """P6"""
    receiver = inbound()
    assert opened(receiver, cipher().seal(1, plaintext)) == []
    assert counted(receiver.counters) == {"malformed": 1}
    assert receiver.authenticated == 1


@pytest.mark.parametrize(
    ("packet", "counter"),
    [
        (ipv4(udp(b"12"), destination="10.88.0.2"), "selector_drops"),
        (ipv4(udp(b"12"), source="127.0.0.1"), "selector_drops"),
        (ipv4(udp(b"12"), source="224.0.0.5"), "selector_drops"),
        (ipv4(udp(b"12"), source=VIP4), "selector_drops"),
        (ipv6(udp(b"12"), source=VIP6), "selector_drops"),
        (b"\x44" + PACKET[1:], "malformed"),
        (PACKET[:2] + b"\x7f\xff" + PACKET[4:], "malformed"),
        (b"\x40" + bytes(29), "malformed"),
        (b"\x45" + bytes(9), "malformed"),
    ],
)
def test_inner_packets_that_must_not_reach_the_machine_are_counted(packet: bytes, counter: str) -> None:
    """P7, P10"""
    receiver = inbound()
    next_header = 41 if packet[0] >> 4 == 6 else 4
    assert opened(receiver, cipher().seal(1, packet + bytes((0, next_header)))) == []
    assert counted(receiver.counters) == {counter: 1}


@given(st.lists(st.binary(max_size=100), max_size=5), st.sampled_from(SUITES))
def test_arbitrary_datagrams_never_raise_and_yield_nothing(datagrams: list[bytes], suite: EspSuite) -> None:
    """P1, P2"""
    receiver = inbound(suite)
    datagrams = [SPI.to_bytes(4, "big") + datagram for datagram in datagrams]
    assert opened(receiver, *datagrams) == []
    assert sum(counted(receiver.counters).values()) == len(datagrams)


@given(st.binary(max_size=200), st.sampled_from([4, 41, 59, 0, 255]), st.sampled_from([GCM, CBC]))
def test_arbitrary_authenticated_plaintext_never_raises(data: bytes, next_header: int, suite: EspSuite) -> None:
    """P6, P10"""
    data += bytes(-(len(data) + 2) % 16)
    receiver = inbound(suite)
    packets = opened(receiver, cipher(suite).seal(1, data + bytes((0, next_header))))
    assert len(packets) <= 1
    assert receiver.authenticated == 1


# The end of a key


def test_sequence_numbers_are_used_up_and_never_wrap() -> None:
    """P8"""
    sender = outbound()
    sender.sequence = (1 << 32) - 3
    packets = [ipv4(udp())] * 5
    assert [payload[4:8].hex() for payload in sender.seal(packets)] == ["fffffffe", "ffffffff"]
    assert sender.exhausted
    assert sender.seal(packets) == []
    assert sender.counters.exhausted == 8
    assert sender.counters.packets == 2
    assert sender.sequence == (1 << 32) - 1


def test_extended_sequence_numbers_end_as_well() -> None:
    """P8"""
    sender = outbound(GCM_ESN)
    sender.sequence = (1 << 64) - 2
    assert len(sender.seal([ipv4(udp())] * 2)) == 1
    assert sender.exhausted


def test_a_rekey_is_due_long_before_the_last_number() -> None:
    """P8"""
    sender = outbound(last_sequence=100)
    sender.seal([ipv4(udp())] * 74)
    assert not sender.rekey_due
    sender.seal([ipv4(udp())])
    assert sender.rekey_due
    assert not sender.exhausted
    assert outbound(GCM_ESN).rekey_due is False


def test_a_rekey_is_due_after_so_many_bytes() -> None:
    """P8"""
    packet = ipv4(udp())
    sender = outbound(byte_limit=3 * len(packet))
    sender.seal([packet] * 2)
    assert not sender.rekey_due
    sender.seal([packet])
    assert sender.rekey_due


def test_numbers_are_skipped_rather_than_repeated_when_something_breaks() -> None:
    """P8: a nonce must not be used twice whatever happens in the middle of a batch."""
    sender = outbound()
    with pytest.raises(TypeError):
        sender.seal([ipv4(udp()), None])  # type: ignore[list-item]
    assert sender.seal([ipv4(udp())])[0][4:8] == b"\0\0\0\x03"


def test_keys_appear_in_no_representation() -> None:
    key = keys_for(GCM).encryption
    for text in (repr(outbound()), repr(inbound()), repr(keys_for(GCM))):
        assert key.hex() not in text
        assert repr(key)[2:-1] not in text


def test_the_examples_use_distinct_addresses() -> None:
    assert len({VIP4, HOST4, VIP6, HOST6}) == 4
