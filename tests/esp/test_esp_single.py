"""A packet that comes alone, opened with one call: the same window, and the same judgement, as in Python."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from esp_packets import HOST4, HOST6, VIP4, ipv4, ipv6, number, udp
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.esp.codec import run_cipher
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.replay import ReplayWindow
from ikeclient.esp.sa.selectors import PacketFilter, Selector

try:
    from ikeclient.esp.codec._offload import Edges, Window, open_single
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the compiled module is not built, NOTHING was compared (pip install -e .)", allow_module_level=True)

SIZE = 64
LAST = (1 << 64) - 1
NEAR = st.integers(-70, 70)
STEPS = st.lists(
    st.one_of(NEAR, st.integers(-(1 << 33), 1 << 33), st.sampled_from([1 << 32, -(1 << 32), (1 << 31) - 1])),
    max_size=60,
)
SUITES = [
    EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None, esn=False),
    EspSuite(encryption=ENCRYPTION["chacha20poly1305"], integrity=None, esn=True),
    EspSuite(encryption=ENCRYPTION["aes256"], integrity=INTEGRITY["sha256"], esn=True),
]


@pytest.fixture(autouse=True)
def library() -> Iterator[None]:
    choose_cipher({})
    if run_cipher.version() is None:
        pytest.skip("this machine has no OpenSSL to be opened, NOTHING was compared")
    yield
    run_cipher.load(())


@given(extended=st.booleans(), start=st.sampled_from([1, 50, SIZE, 1 << 31, (1 << 32) - 5, LAST - 100]), steps=STEPS)
def test_the_compiled_window_is_the_one_in_python(extended: bool, start: int, steps: list[int]) -> None:
    """P1: by single packets and by runs, across the ends of the numbers and far jumps (RFC 4303 appendix A)."""
    ours, theirs = Window(SIZE, extended=extended), ReplayWindow(SIZE, extended=extended)
    if extended or start < 1 << 32:
        assert ours.commit(start) == theirs.commit(start)
    for step in steps:
        low = (theirs.top + step) % (1 << 32)
        assert ours.check(low) == theirs.check(low)
        count = abs(step) % 50 + 1
        assert ours.check_run(low, count) == theirs.check_run(low, count)
        first = theirs.check_run(low, count)
        if first and step % 3 == 0 and first + count <= LAST:
            ours.commit_run(first, count)
            theirs.commit_run(first, count)
        elif sequence := theirs.check(low):
            assert ours.commit(sequence) == theirs.commit(sequence) is True
            assert ours.commit(sequence) == theirs.commit(sequence) is False
        assert ours.top == theirs.top


def keys_for(suite: EspSuite) -> DirectionKeys:
    return DirectionKeys(
        encryption=bytes(suite.encryption.key_length + suite.encryption.salt_length),
        integrity=bytes(suite.integrity.key_length if suite.integrity else 0),
    )


def selector(version: int, start: str, end: str) -> Selector:
    return Selector(version=version, start=number(start), end=number(end))


FILTERS = [
    PacketFilter(sources=sources, destinations=destinations, own=own, inbound=True)
    for sources, destinations, own in (
        ((selector(4, "0.0.0.0", "255.255.255.255"),), (selector(4, VIP4, VIP4),), ()),
        ((selector(4, HOST4, HOST4), selector(6, "::", "ff::")), (selector(4, "0.0.0.0", "255.255.255.255"),), ()),
        ((selector(4, "0.0.0.0", "255.255.255.255"),), (selector(4, VIP4, VIP4),), ((4, number(HOST4)),)),
        ((selector(6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),), (selector(6, "fd00::", "fdff::"),), ()),
        (
            (selector(6, HOST6, HOST6), selector(6, "fd00::7", "fd00::9")),
            (selector(6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),),
            ((6, number("fd00::8")),),
        ),
        ((), (), ()),
        (
            (Selector(version=4, start=0, end=0xFFFFFFFF, protocol=17, start_port=53, end_port=53),),
            (selector(4, VIP4, VIP4),),
            (),
        ),
    )
]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@given(data=st.data())
def test_every_packet_is_judged_as_in_python(suite: EspSuite, data: st.DataObject) -> None:
    """P1, P2, P10: whatever it is, damaged before or after it was sealed, marked, repeated or too short."""
    choose_cipher({})
    packets = data.draw(st.sampled_from(FILTERS))
    keys = keys_for(suite)
    sender = OutboundSa(256, suite, keys, filter=packets, entropy=os.urandom)
    ours = InboundSa(256, suite, keys, filter=packets)
    run_cipher.load(())
    theirs = InboundSa(256, suite, keys, filter=packets)
    assert ours._single is not None
    assert theirs._single is None
    for _ in range(data.draw(st.integers(1, 8))):
        inner = bytearray(
            data.draw(
                st.sampled_from(
                    [
                        ipv4(udp(b"x" * 30)),
                        ipv4(udp(), options=b"\1\1\1\1"),
                        ipv4(bytes(40), protocol=6),
                        ipv4(bytes(8), protocol=1),
                        ipv4(udp(), source="127.0.0.1"),
                        ipv4(udp(), source=VIP4, destination=HOST4),
                        ipv4(b"\x08" + bytes(7), protocol=1),
                        ipv4(b"\x05" + bytes(7), protocol=1),
                        ipv6(bytes(8)),
                        ipv6(udp()),
                        ipv6(b"\x81" + bytes(7), next_header=58),
                        ipv6(b"\x86" + bytes(7), next_header=58),
                        b"E" * 3,
                    ]
                )
            )
        )
        for _ in range(data.draw(st.integers(0, 2))):
            inner[data.draw(st.integers(0, min(len(inner), 24) - 1))] = data.draw(st.integers(0, 255))
        if inner[0] >> 4 not in (4, 6):
            inner[0] = 0x45
        (sealed,) = sender.seal([bytes(inner) + bytes(data.draw(st.integers(0, 20)))])
        match data.draw(st.sampled_from(["whole", "whole", "whole", "damaged", "short", "twice"])):
            case "damaged":
                at = data.draw(st.integers(4, len(sealed) - 1))
                sealed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            case "short":
                sealed = sealed[: data.draw(st.integers(8, len(sealed)))]
            case "twice":
                theirs.open_one(sealed, 0)
                ours.open_one(sealed, 0)
        ecn = data.draw(st.integers(0, 3))
        expected = theirs.open_one(sealed, ecn)
        buffer = bytearray(b"\xee" * 7 + sealed + b"\xee" * 9)
        assert ours.open_at(buffer, 7, len(sealed), ecn) == expected
        assert ours.counters == theirs.counters
        assert (ours.authenticated, ours._window.top) == (theirs.authenticated, theirs._window.top)


@pytest.mark.parametrize(("at", "length"), [(-1, 60), (0, 10_000), (90, 60), (1 << 62, 60)])
def test_nothing_outside_the_buffer_is_read(at: int, length: int) -> None:
    """P17"""
    suite = SUITES[0]
    cipher = run_cipher.run_cipher(suite, keys_for(suite), 256, os.urandom, sealing=False)
    assert cipher is not None
    with pytest.raises(IndexError):
        open_single(cipher, Window(), Edges(b"", b"", b"", b""), 4, bytes(100), at, length, True)


@pytest.mark.parametrize("size", [0, 32, 63, 65, 1 << 32])
def test_a_window_has_a_size_that_a_ring_can_have(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Window(size)
