"""The compiled loop over the machine's OpenSSL, held against `cryptography` and against published vectors."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from esp_packets import ipv4
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.esp_ciphers import EspCipher, esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.cipher import LIBRARIES, VARIABLE, choose_cipher, describe
from ikeclient.esp.codec import plain, run_cipher
from ikeclient.esp.codec.run_cipher import BY_CRYPTOGRAPHY
from ikeclient.esp.codec.send import SendRun
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.esp.sa.table import SaTable

try:
    from ikeclient.esp.codec import _offload as compiled
    from ikeclient.esp.codec._offload import Library, RunCipher
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("the compiled module is not built, NOTHING was compared (pip install -e .)", allow_module_level=True)

SPI = 0xC0000001
MTU = 1500
SUITES = [
    EspSuite(encryption=ENCRYPTION[name], integrity=INTEGRITY[hashed] if hashed else None, esn=esn)
    for name, hashed in run_cipher.suites()
    for esn in (False, True)
]
every_suite = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


@pytest.fixture(autouse=True)
def library() -> Iterator[Library]:
    """The machine's OpenSSL in use, and everything as before afterwards."""
    choose_cipher({})
    found = run_cipher._library
    if found is None:
        pytest.skip("this machine has no OpenSSL to be opened, NOTHING was compared")
    yield found
    run_cipher.load(())


def keys_for(suite: EspSuite) -> DirectionKeys:
    return DirectionKeys(
        encryption=bytes(range(7, 7 + suite.encryption.key_length + suite.encryption.salt_length)),
        integrity=bytes(range(100, 100 + suite.integrity.key_length)) if suite.integrity else b"",
    )


def entropy(count: int) -> bytes:
    return bytes(range(256)) * (count // 256) + bytes(range(count % 256))


def compiled_pair(suite: EspSuite, keys: DirectionKeys | None = None, spi: int = SPI) -> tuple[RunCipher, RunCipher]:
    """One that seals and one that opens."""
    keys = keys or keys_for(suite)
    sealer = run_cipher.run_cipher(suite, keys, spi, entropy, sealing=True)
    opener = run_cipher.run_cipher(suite, keys, spi, entropy, sealing=False)
    assert sealer is not None
    assert opener is not None
    return sealer, opener


def reference(suite: EspSuite) -> EspCipher:
    return esp_cipher(suite, keys_for(suite), SPI, entropy)


def over(suite: EspSuite) -> tuple[int, int]:
    """Bytes before the plaintext, and those around it."""
    layout = esp_layout(suite)
    return 8 + layout.iv_length, 8 + layout.iv_length + layout.icv_length


@every_suite
def test_every_length_up_to_the_mtu_is_sealed_as_cryptography_does_and_opened(suite: EspSuite) -> None:
    layout, theirs, (sealer, opener) = esp_layout(suite), reference(suite), compiled_pair(suite)
    back = reference(suite)
    for inner in range(MTU + 1):
        sequence = 0xFFFFFF00 + inner if suite.esn else inner + 1
        text = bytes([inner & 0xFF]) * layout.text_length(inner)
        packet = sealer.seal(sequence, text)
        assert packet == theirs.seal(sequence, text)
        assert opener.open(sequence, packet) == text
        assert back.open(sequence, packet) == text


@every_suite
@pytest.mark.parametrize("count", [1, 2, 44, 128])
def test_a_run_is_sealed_as_its_packets_are_and_opened_where_it_is(suite: EspSuite, count: int) -> None:
    layout, (gap, around), (sealer, opener) = esp_layout(suite), over(suite), compiled_pair(suite)
    theirs = reference(suite)
    stride = around + layout.text_length(300)
    first = (7 << 32) - count // 2 if suite.esn else 1000
    for inner in (300, 280, 19, 0):
        last = around + layout.text_length(inner)
        texts = [bytes([i]) * (stride - around) for i in range(count - 1)] + [b"\7" * (last - around)]
        arena = bytearray(count * stride)
        for i, text in enumerate(texts):
            arena[i * stride + gap : i * stride + gap + len(text)] = text
        sealer.seal_run(arena, stride, count, last, first)
        packets = [bytes(arena[i * stride : i * stride + around + len(text)]) for i, text in enumerate(texts)]
        if suite.encryption.aead:
            assert packets == [theirs.seal(first + i, text) for i, text in enumerate(texts)]
        else:
            assert [theirs.open(first + i, packet) for i, packet in enumerate(packets)] == texts
        states = bytearray(count)
        assert opener.open_run(arena, stride, 0, count, last, range(first, first + count), states) == 0
        assert not any(states)
        assert [bytes(arena[i * stride + gap :][: len(text)]) for i, text in enumerate(texts)] == texts


@every_suite
def test_every_length_up_to_the_mtu_ends_a_run(suite: EspSuite) -> None:
    """A whole packet and a shorter one, sealed as `cryptography` does where nothing is random, and opened."""
    layout, (gap, around), (sealer, opener) = esp_layout(suite), over(suite), compiled_pair(suite)
    theirs = reference(suite)
    stride = around + layout.text_length(MTU)
    arena, whole = bytearray(2 * stride), bytes(stride - around)
    for inner in range(MTU + 1):
        text = bytes([inner & 0xFF]) * layout.text_length(inner)
        last = around + len(text)
        arena[gap : gap + len(whole)] = whole
        arena[stride + gap : stride + gap + len(text)] = text
        sealer.seal_run(arena, stride, 2, last, 2 * inner + 1)
        if suite.encryption.aead:
            assert arena[stride : stride + last] == theirs.seal(2 * inner + 2, text)
        states = bytearray(2)
        assert opener.open_run(arena, stride, 0, 2, last, (2 * inner + 1, 2 * inner + 2), states) == 0
        assert arena[stride + gap : stride + gap + len(text)] == text


@every_suite
@given(data=st.data())
def test_forged_packets_of_a_run_are_found_and_the_others_are_not_hurt(suite: EspSuite, data: st.DataObject) -> None:
    """P2: any bit of any packet, wrong numbers, and packets that are to be left alone."""
    layout, (gap, around), (sealer, opener) = esp_layout(suite), over(suite), compiled_pair(suite)
    count, first = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 1 << 31))
    stride, last = around + layout.text_length(60), around + layout.text_length(data.draw(st.integers(0, 60)))
    before = data.draw(st.integers(0, 3))
    arena = bytearray((before + count) * stride)
    lengths = [stride] * (count - 1) + [last]
    for i, length in enumerate(lengths):
        at = (before + i) * stride
        arena[at + gap : at + gap + length - around] = bytes([i + 1]) * (length - around)
    run = memoryview(arena)[before * stride :]
    sealer.seal_run(run, stride, count, last, first)
    forged = data.draw(st.sets(st.integers(0, count - 1)))
    skipped = data.draw(st.sets(st.integers(0, count - 1)))
    high = data.draw(st.sets(st.integers(0, count - 1))) if suite.esn else set()
    for i in forged:
        # An AEAD with ESN authenticates SPI and number as the SA knows them, and these chose the SA and the number.
        covered = 8 if suite.esn and suite.encryption.aead else 0
        at = (before + i) * stride + data.draw(st.integers(covered, lengths[i] - 1))
        arena[at] ^= 1 << data.draw(st.integers(0, 7))
    sealed = bytes(arena)
    numbers = [first + i + ((i in high) << 32) for i in range(count)]
    states = bytearray(i in skipped for i in range(count))
    bad = (forged | high) - skipped
    assert opener.open_run(arena, stride, before, count, last, numbers, states) == len(bad)
    assert [i for i in range(count) if states[i]] == sorted(bad | skipped)
    for i, length in enumerate(lengths):
        at = (before + i) * stride
        if i in skipped:
            assert arena[at : at + length] == sealed[at : at + length]
        elif i not in bad:
            assert arena[at + gap : at + gap + length - around] == bytes([i + 1]) * (length - around)


# RFC 7634 appendix A, and draft-mcgrew-gcm-test-01 section 4: suite, key with salt, SPI, sequence number, packet, text
PUBLISHED = {
    "RFC 7634": (
        "chacha20poly1305",
        bytes(range(0x80, 0xA4)).hex(),
        0x01020304,
        5,
        "01020304000000051011121314151617"
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
        "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
        "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
        "76aaa8266b7fb0f7b11b369907e1ad43",
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
        "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f303132333435363701020204",
    ),
    "RFC 4106, AES-128 with ESN": (
        "aes128gcm16",
        "4c80cdefbb5d10da906ac73c3613a6342e443b68",
        0x00004321,
        0x8765432100000000,
        "00004321000000004956ed7e3b244cfe"
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
        "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
        "61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
        "00000000045f736970045f756470037369700963796265726369747902646b00"
        "0021000101020201",
    ),
    "RFC 4106, AES-256": (
        "aes256gcm16",
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab11223344",
        0x4A2CBFE3,
        2,
        "4a2cbfe3000000020102030405060708"
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763"
        "748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c4915956c96",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
    ),
}


@pytest.mark.parametrize("case", PUBLISHED.values(), ids=PUBLISHED)
def test_the_published_packets_are_sealed_and_opened(case: tuple[str, str, int, int, str, str]) -> None:
    name, key, spi, sequence, packet, text = case
    suite = EspSuite(encryption=ENCRYPTION[name], integrity=None, esn=sequence >= 1 << 32)
    sealer, opener = compiled_pair(suite, DirectionKeys(encryption=bytes.fromhex(key), integrity=b""), spi)
    sealed, plain = bytes.fromhex(packet), bytes.fromhex(text)
    assert sealer.seal(sequence, plain, sealed[8:16]) == sealed
    arena, states = bytearray(3 * sealed), bytearray(3)
    arena[len(sealed) + 20] ^= 1
    assert opener.open_run(arena, len(sealed), 0, 3, len(sealed), [sequence] * 3, states) == 1
    assert states == b"\0\1\0"
    assert arena[16 : 16 + len(plain)] == plain == arena[2 * len(sealed) + 16 :][: len(plain)]


@every_suite
@given(
    stride=st.integers(-1, 300),
    count=st.integers(-1, 130),
    last=st.integers(-1, 300),
    first=st.integers(-1, 5),
    size=st.integers(0, 600),
)
def test_no_slots_lead_outside_the_buffer(
    suite: EspSuite, stride: int, count: int, last: int, first: int, size: int
) -> None:
    """P17: what does not fit is refused before the first byte is written."""
    sealer, opener = compiled_pair(suite)
    arena = bytearray(b"\x55" * size)
    fits = stride > 0 and count > 0 and (max(first, 0) + count - 1) * stride + last <= size
    try:
        sealer.seal_run(memoryview(arena)[max(first, 0) * max(stride, 0) :], stride, count, last, 1)
    except (ValueError, IndexError, OverflowError):
        assert arena == b"\x55" * size
    else:
        assert fits
    try:
        opener.open_run(arena, stride, first, count, last, range(max(count, 0)), bytearray(max(count, 0)))
    except (ValueError, IndexError, OverflowError):
        pass
    else:
        assert fits
        assert first >= 0


def test_numbers_states_and_directions_must_fit() -> None:
    sealer, opener = compiled_pair(SUITES[0])
    for numbers, states in ((range(1), bytearray(2)), (range(2), bytearray(1)), (range(3), bytearray(3))):
        with pytest.raises(ValueError, match="a number and a state"):
            opener.open_run(bytearray(200), 100, 0, 2, 100, numbers, states)
    with pytest.raises(ValueError, match="other direction"):
        sealer.open(1, bytes(100))
    with pytest.raises(ValueError, match="other direction"):
        opener.seal(1, bytes(100))
    with pytest.raises(ValueError, match="other direction"):
        opener.seal_run(bytearray(100), 100, 1, 100, 1)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 31, 32, 33])
def test_what_is_too_short_to_be_a_packet_is_not_genuine(length: int) -> None:
    for suite in SUITES:
        assert compiled_pair(suite)[1].open(1, bytes(length)) is None


def anything() -> PacketFilter:
    everywhere = (Selector(version=4, start=0, end=0xFFFFFFFF),)
    return PacketFilter(sources=everywhere, destinations=everywhere)


def sas(suite: EspSuite) -> tuple[OutboundSa, InboundSa]:
    keys = keys_for(suite)
    return OutboundSa(SPI, suite, keys, filter=anything(), entropy=os.urandom), InboundSa(
        SPI, suite, keys, filter=anything()
    )


@every_suite
def test_both_ciphers_understand_each_other(suite: EspSuite) -> None:
    """Runs and single packets, in both directions, with replays in between (P1, P2)."""
    ours_out, ours_in = sas(suite)
    run_cipher.load(())
    theirs_out, theirs_in = sas(suite)
    assert (ours_out.cipher, theirs_out.cipher) != (theirs_out.cipher, ours_out.cipher)
    packets = [ipv4(payload=bytes(size)) for size in (0, 5, 1300, 1300, 1300, 40)]
    for sender, receiver in ((ours_out, theirs_in), (theirs_out, ours_in)):
        sealed = sender.seal(packets)
        assert receiver.open([*sealed, *sealed]) == packets
        assert receiver.counters.replays == len(packets)
        assert receiver.authenticated == len(packets)
        spoiled = [packet[:-1] + bytes([packet[-1] ^ 1]) for packet in sender.seal(packets)]
        assert receiver.open(spoiled) == []
        assert receiver.counters.auth_failures == len(packets)


def test_no_number_is_used_twice_and_exhaustion_is_counted() -> None:
    """P6: runs end where the numbers do."""
    suite = SUITES[0]
    sa = OutboundSa(SPI, suite, keys_for(suite), filter=anything(), entropy=os.urandom, last_sequence=5)
    slots = Slots(4000)
    assert sa.seal_run(slots, 100, 4, 100, 280) == 4
    assert sa.seal_run(slots, 100, 4, 60, 280) == 1
    assert sa.seal_run(slots, 100, 4, 60, 280) == 0
    assert sa.counters.exhausted == 7
    numbers = [int.from_bytes(slots.buffer[at + 4 : at + 8], "big") for at in range(0, 400, 100)]
    assert numbers == [5, 2, 3, 4]
    assert all(one != other for one, other in pairwise(sorted(numbers)))


def test_contexts_are_given_back_when_an_sa_ends() -> None:
    """K14: the library wipes the keys of a context that is given back."""
    gc.collect()
    before = compiled.live()
    table, run, frame = SaTable(), SendRun(), bytearray(bytes(10) + ipv4(b"payload"))
    for suite in SUITES:
        outbound, inbound = sas(suite)
        table.install(inbound, outbound)
        inbound.open(outbound.seal([ipv4(b"payload")]))
        run.add(outbound, frame, len(frame), plain.examine(frame, len(frame)), 0)
        run.grow(frame, len(frame), MTU)
        assert run.seal()
        run.clear()
    assert compiled.live() > before
    del outbound, inbound
    table.remove(SPI)
    assert compiled.live() == before, "without the garbage collector"


def test_a_library_without_an_algorithm_or_with_a_wrong_one_leaves_it_to_cryptography(
    monkeypatch: pytest.MonkeyPatch, library: Library
) -> None:
    """As one that does only what FIPS approves."""
    monkeypatch.setitem(run_cipher.KNOWN_ANSWERS, ("chacha20poly1305", None), "00")
    monkeypatch.setitem(run_cipher._CIPHERS, "aes256", "EVP_there_is_no_such_cipher")
    assert run_cipher.load([library.path]) == library.version
    assert run_cipher.missing() == ["chacha20poly1305", *(f"aes256-{hashed}" for hashed in run_cipher._DIGESTS)]
    assert "cryptography for chacha20poly1305, aes256-sha1" in describe()[0]
    for suite in SUITES:
        outbound, inbound = sas(suite)
        left = suite.encryption.keyword in ("chacha20poly1305", "aes256")
        assert (outbound.cipher == BY_CRYPTOGRAPHY) == left
        assert inbound.open(outbound.seal([ipv4(b"payload")])) == [ipv4(b"payload")]


def test_a_library_that_answers_nothing_right_is_not_used(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    for name in run_cipher.suites():
        monkeypatch.setitem(run_cipher.KNOWN_ANSWERS, name, "00")
    assert run_cipher.load([library.path]) is None
    assert run_cipher.version() is None
    assert sas(SUITES[0])[0].cipher == BY_CRYPTOGRAPHY


@pytest.mark.parametrize("path", ["/nonexistent/libcrypto.so.3", "libc.so.6", "/etc/passwd", "/\udc80"])
def test_what_is_not_such_a_library_is_passed_over(path: str, library: Library) -> None:
    assert run_cipher.load([path]) is None
    assert run_cipher.load([path, library.path]) == library.version


@pytest.mark.parametrize(("value", "used"), [("none", False), ("/nonexistent.so", False), ("", True), ("so.3", True)])
def test_a_variable_names_the_library(value: str, used: bool) -> None:
    choose_cipher({VARIABLE: value})
    assert (run_cipher.version() is not None) == used
    assert ("slower" in describe()[0]) != used


def test_the_library_is_opened_only_when_it_is_told_to() -> None:
    """The protocol does no input and output by itself."""
    program = (
        "from ikeclient.esp.codec import run_cipher\n"
        "from ikeclient.dataplane import cipher, pump\n"
        "assert run_cipher.version() is None\n"
        "cipher.choose_cipher({})\n"
        "print(run_cipher.version())\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout.startswith("OpenSSL ")
    assert LIBRARIES[0] == "libcrypto.so.3", "the newest first"


def test_keys_that_do_not_fit_are_refused() -> None:
    suite = SUITES[0]
    with pytest.raises(ValueError, match="bytes of key"):
        run_cipher.run_cipher(suite, DirectionKeys(encryption=bytes(16), integrity=b""), 1, entropy, sealing=True)
    with pytest.raises(ValueError, match="integrity key"):
        run_cipher.run_cipher(suite, DirectionKeys(encryption=bytes(20), integrity=b"1"), 1, entropy, sealing=True)


WYCHEPROOF = json.loads((Path(__file__).parent.parent / "vectors" / "wycheproof.json").read_bytes())["tests"]


@pytest.mark.parametrize("case", WYCHEPROOF, ids=lambda case: f"{case['cipher']}-{case['id']}")
def test_the_vectors_of_wycheproof_are_sealed_and_opened_in_runs(case: dict[str, str]) -> None:
    """Associated data of 8 bytes are SPI and sequence number, those of 12 have an extended one."""
    sealed, key, associated, iv = (bytes.fromhex(case[name]) for name in ("ct", "key", "aad", "iv"))
    text, tag = bytes.fromhex(case["msg"]), bytes.fromhex(case["tag"])
    suite = EspSuite(encryption=ENCRYPTION[case["cipher"]], integrity=None, esn=len(associated) == 12)
    spi, sequence = int.from_bytes(associated[:4], "big"), int.from_bytes(associated[4:], "big")
    sealer, opener = compiled_pair(suite, DirectionKeys(encryption=key + iv[:-8], integrity=b""), spi)
    packet = associated[:4] + associated[-4:] + iv[-8:] + sealed + tag
    assert (sealer.seal(sequence, text, iv[-8:]) == packet) == case["valid"]
    wrong = bytearray(packet)
    wrong[-16] ^= 1
    arena, states = bytearray(packet + wrong + packet), bytearray(3)
    assert opener.open_run(arena, len(packet), 0, 3, len(packet), [sequence] * 3, states) == (1 if case["valid"] else 3)
    assert states == (b"\0\1\0" if case["valid"] else b"\1\1\1")
    for at in (0, 2 * len(packet)):
        assert not case["valid"] or arena[at + 16 : at + 16 + len(text)] == text


@every_suite
def test_every_octet_of_an_icv_counts_wherever_the_packet_is_in_its_run(suite: EspSuite) -> None:
    """P2: wrong in one octet, at the front, in the middle and at the end, the last packet being the shorter one."""
    icv, (gap, around), (sealer, opener) = esp_layout(suite).icv_length, over(suite), compiled_pair(suite)
    count, stride, last = 5, around + 64, around + 32
    good = bytearray(count * stride)
    sealer.seal_run(good, stride, count, last, 1)
    for octet in range(icv):
        for place in range(count):
            arena, states = bytearray(good), bytearray(count)
            end = place * stride + (last if place == count - 1 else stride)
            arena[end - icv + octet] ^= 0x80
            assert opener.open_run(arena, stride, 0, count, last, range(1, count + 1), states) == 1
            assert [i for i in range(count) if states[i]] == [place]
            other = (place + 1) % count
            assert not any(arena[other * stride + gap :][: 64 if other < count - 1 else 32])


def test_the_known_answers_are_those_of_cryptography(library: Library) -> None:
    for name in run_cipher.suites():
        encryption, integrity = ENCRYPTION[name[0]], INTEGRITY[name[1]] if name[1] else None
        suite = EspSuite(encryption=encryption, integrity=integrity, esn=True)
        keys = DirectionKeys(
            encryption=bytes(range(encryption.key_length + encryption.salt_length)),
            integrity=bytes(range(integrity.key_length if integrity else 0)),
        )
        theirs, icv = esp_cipher(suite, keys, run_cipher._SPI, bytes), esp_layout(suite).icv_length
        text = bytes(range(128)) * 11
        packets = [theirs.seal(run_cipher._SEQUENCE + i, text[:n]) for i, n in enumerate((1408, 1408, 80))]
        assert "".join(packet[-icv:].hex() for packet in packets) == run_cipher.KNOWN_ANSWERS[name]
        assert run_cipher.known_run(library, name) == run_cipher.KNOWN_ANSWERS[name]


class _Overlong(list[int]):
    """A list that has more in it than it says."""

    def __iter__(self) -> Iterator[int]:
        return iter([1] * 5000)


@pytest.mark.parametrize("numbers", [_Overlong([1]), [1 << 64], [-1], ["1"]])
def test_numbers_that_are_none_are_refused(numbers: list[int]) -> None:
    """P17"""
    with pytest.raises((ValueError, OverflowError, TypeError)):
        compiled_pair(SUITES[0])[1].open_run(bytearray(100), 100, 0, 1, 100, numbers, bytearray(1))


def test_objects_that_were_never_made_do_nothing(library: Library) -> None:
    empty = RunCipher.__new__(RunCipher)
    assert empty.version is None
    with pytest.raises(ValueError, match="other direction"):
        empty.open(1, bytes(100))
    with pytest.raises(ValueError, match="no library"):
        RunCipher(
            Library.__new__(Library), "EVP_aes_128_gcm", bytes(16), bytes(4), 1, False, True, None, b"", 16, bytes
        )
    with pytest.raises(ValueError, match="of salt"):
        RunCipher(library, "EVP_aes_128_gcm", bytes(16), bytes(3), 1, False, True, None, b"", 16, bytes)


def test_one_thread_at_a_time_uses_a_cipher() -> None:
    """The loops run without the GIL: whoever comes meanwhile is turned away, or comes afterwards."""
    suite = SUITES[0]
    sealer, _ = compiled_pair(suite)
    stride = 1400
    buffers = [bytearray(128 * stride) for _ in range(4)]
    refused = []

    def work(buffer: bytearray) -> None:
        for _ in range(100):
            try:
                sealer.seal_run(buffer, stride, 128, stride, 1)
            except RuntimeError as error:
                refused.append(str(error))

    threads = [Thread(target=work, args=(buffer,)) for buffer in buffers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refused) <= {"another thread uses this cipher"}
    assert any(map(any, buffers))
    for buffer in filter(any, buffers):
        _, opener = compiled_pair(suite)
        assert opener.open_run(buffer, stride, 0, 128, stride, range(1, 129), bytearray(128)) == 0


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setcap") is None, reason="takes root and setcap: NOTHING was tried"
)
def test_whoever_gets_rights_that_the_caller_lacks_does_not_ask_the_caller_for_a_library() -> None:
    """A library that the environment names runs with our rights."""
    program = (
        "import sys; sys.path[:] = eval(sys.argv[1])\n"
        "from ikeclient.dataplane.cipher import choose_cipher, describe\n"
        "choose_cipher(); print(describe()[0])\n"
    )
    shown = {}
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # for everybody, which pytest's are not
        python = Path(directory) / "python"
        shutil.copy(sys.executable, python)
        for capabilities in ("", "cap_net_admin+ep"):
            if capabilities:
                subprocess.run(["setcap", capabilities, python], check=True)
            ran = subprocess.run(
                [python, "-c", program, repr(sys.path)],
                env={VARIABLE: "none"},
                user=65534,
                group=65534,
                extra_groups=[],
                cwd="/",
                check=False,
                capture_output=True,
                text=True,
            )
            if not capabilities and ran.returncode:
                pytest.skip("this package is in a place that only its owner can read: NOTHING was tried")
            assert ran.returncode == 0, ran.stderr
            shown[capabilities] = ran.stdout
    assert shown[""].startswith("cryptography")
    assert shown["cap_net_admin+ep"].startswith("OpenSSL")


def test_another_effective_user_does_not_ask_either(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_cipher.raised_rights()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    choose_cipher({VARIABLE: "none"})
    assert run_cipher.version() is not None
