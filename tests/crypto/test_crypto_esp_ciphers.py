from __future__ import annotations

import hashlib
import hmac
import os
from itertools import count

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from esp_suites import SUITES, every_suite
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.esp_ciphers import EspCipher, _Aead, esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite


def suite_of(encryption: str, integrity: str | None = None, *, esn: bool = False) -> EspSuite:
    return EspSuite(encryption=ENCRYPTION[encryption], integrity=INTEGRITY[integrity] if integrity else None, esn=esn)


def keys_for(suite: EspSuite) -> DirectionKeys:
    return DirectionKeys(
        encryption=bytes(range(suite.encryption.key_length + suite.encryption.salt_length)),
        integrity=bytes(range(100, 100 + suite.integrity.key_length)) if suite.integrity else b"",
    )


def cipher_for(suite: EspSuite) -> EspCipher:
    return esp_cipher(suite, keys_for(suite), 0x01020304, os.urandom)


def aead(encryption: str, key_and_salt: str, spi: int, *, esn: bool = False) -> _Aead:
    cipher = esp_cipher(
        suite_of(encryption, esn=esn),
        DirectionKeys(encryption=bytes.fromhex(key_and_salt), integrity=b""),
        spi,
        lambda _: pytest.fail("an AEAD asks for no entropy"),
    )
    assert isinstance(cipher, _Aead)
    return cipher


# RFC 7634 appendix A
CHACHA_PLAINTEXT = bytes.fromhex(
    "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10"
    "0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
    "2425262728292a2b2c2d2e2f303132333435363701020204"
)
CHACHA_PACKET = bytes.fromhex(
    "01020304000000051011121314151617"
    "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
    "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3"
    "cbec163fac469b502773f6fb94e664da9165b82829f641e0"
    "76aaa8266b7fb0f7b11b369907e1ad43"
)


def test_the_chacha20_poly1305_packet_of_rfc_7634_appendix_a() -> None:
    cipher = aead("chacha20poly1305", bytes(range(0x80, 0xA4)).hex(), 0x01020304)
    assert cipher.seal(5, CHACHA_PLAINTEXT, bytes.fromhex("1011121314151617")) == CHACHA_PACKET
    assert cipher.open(5, CHACHA_PACKET) == CHACHA_PLAINTEXT


# draft-mcgrew-gcm-test-01 section 4: key, SPI, sequence number, nonce, plaintext, ciphertext and tag
GCM_CASES = {
    "AES-128 with ESN": (
        "4c80cdefbb5d10da906ac73c3613a634",
        (0x00004321, 0x8765432100000000),
        "2e443b684956ed7e3b244cfe",
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000"
        "00000000045f736970045f756470037369700963796265726369747902646b00"
        "0021000101020201",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34"
        "cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce"
        "61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    ),
    "AES-128": (
        "feffe9928665731c6d6a8f9467308308",
        (0x0000A5F8, 0x0000000A),
        "cafebabefacedbaddecaf888",
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100"
        "0001000000000000037369700963796265726369747902646b00000100010001",
        "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c"
        "3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1"
        "83b70d3aa8bc6ee4c309e9d85a41ad4a",
    ),
    "AES-256": (
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        (0x4A2CBFE3, 0x00000002),
        "112233440102030405060708",
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee0000000007002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763"
        "748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49"
        "15956c96",
    ),
}


@pytest.mark.parametrize("case", GCM_CASES.values(), ids=GCM_CASES)
def test_the_aes_gcm_packets_of_draft_mcgrew_gcm_test(case: tuple[str, tuple[int, int], str, str, str]) -> None:
    key, (spi, sequence), nonce, plaintext, sealed = case
    cipher = aead(f"aes{len(key) * 4}gcm16", key + nonce[:8], spi, esn=sequence >= 1 << 32)
    packet = bytes.fromhex(f"{spi:08x}{sequence % (1 << 32):08x}{nonce[8:]}{sealed}")
    assert cipher.seal(sequence, bytes.fromhex(plaintext), bytes.fromhex(nonce[8:])) == packet
    assert cipher.open(sequence, packet) == bytes.fromhex(plaintext)


@pytest.mark.parametrize("esn", [False, True])
def test_aes_ccm_is_put_together_as_rfc_4309_says(esn: bool) -> None:
    """Salt of 3 bytes and IV make the nonce; SPI and sequence number, extended or not, the associated data."""
    key, salt = bytes(range(16)), b"\xaa\xbb\xcc"
    cipher = aead("aes128ccm16", (key + salt).hex(), 0x11223344, esn=esn)
    packet = cipher.seal((3 << 32) + 9, b"plaintext of 24 bytes..")
    associated = bytes.fromhex("11223344" + ("00000003" if esn else "") + "00000009")
    assert packet[:8].hex() == "1122334400000009"
    opened = AESCCM(key, tag_length=16).decrypt(salt + packet[8:16], packet[16:], associated)
    assert opened == b"plaintext of 24 bytes.."


# RFC 3602 section 4, cases 5 to 8: key, SPI, sequence number, IV, plaintext with padding, ciphertext
CBC_CASES = {
    "5": (
        "90d382b410eeba7ad938c46cec1a82bf",
        (0x4321, 1),
        "e96e8c08ab465763fd098d45dd3ff893",
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617"
        "18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
        "0102030405060708090a0b0c0d0e0e01",
        "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a"
        "a269add047ad2d5913ac19b7cfbad4a6",
    ),
    "6": (
        "90d382b410eeba7ad938c46cec1a82bf",
        (0x4321, 8),
        "69d08df7d203329db093fc4924e5bd80",
        "0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201",
        "f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
    ),
    "7": (
        "0123456789abcdef0123456789abcdef",
        (0x8765, 2),
        "f4e765244f6407adf13dc1380f673f37",
        "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d"
        "02a2040008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
        "2425262728292a2b2c2d2e2f30313233343536370102030405060708090a0a04",
        "773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
        "e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5"
        "c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d",
    ),
    "8": (
        "0123456789abcdef0123456789abcdef",
        (0x8765, 5),
        "85d47224b5f3dd5d2101d4ea8dffab22",
        "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083d"
        "a3de0300ffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ffffffff0102030405060708090a0a04",
        "15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
        "0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3"
        "d2726d9b5ef6affc6d17a0decbb13892",
    ),
}


@pytest.mark.parametrize("case", CBC_CASES.values(), ids=CBC_CASES)
def test_the_aes_cbc_packets_of_rfc_3602(case: tuple[str, tuple[int, int], str, str, str]) -> None:
    """They carry no ICV, so one of HMAC-SHA-256-128 is put behind them."""
    key, (spi, sequence), iv, plaintext, ciphertext = case
    keys = DirectionKeys(encryption=bytes.fromhex(key), integrity=bytes(range(32)))
    packet = bytes.fromhex(f"{spi:08x}{sequence:08x}{iv}{ciphertext}")
    packet += hmac.digest(keys.integrity, packet, "sha256")[:16]
    # The IV is the ciphertext of a random block: the one that leads to the IV of the example.
    block = Cipher(AES(keys.encryption), ECB()).decryptor().update(bytes.fromhex(iv))
    cipher = esp_cipher(suite_of("aes128", "sha256"), keys, spi, lambda n: block.ljust(n, b"\0"))
    assert cipher.seal(sequence, bytes.fromhex(plaintext)) == packet
    assert cipher.open(sequence, packet) == bytes.fromhex(plaintext)


@pytest.mark.parametrize("name", INTEGRITY)
@pytest.mark.parametrize("esn", [False, True])
def test_aes_cbc_and_hmac_are_put_together_as_rfc_4303_and_4868_say(name: str, esn: bool) -> None:
    """Every packet of a longer run is decrypted and verified by itself, so the chain between packets shows nowhere."""
    suite = suite_of("aes256", name, esn=esn)
    keys, cipher = keys_for(suite), cipher_for(suite)
    assert suite.integrity is not None
    for sequence, size in zip(count((5 << 32) + 1), (16, 1408, 32, 64), strict=False):
        plaintext = os.urandom(size)
        packet = cipher.seal(sequence, plaintext)
        covered, icv = packet[: -suite.integrity.icv_length], packet[-suite.integrity.icv_length :]
        high = (sequence >> 32).to_bytes(4, "big") if esn else b""
        digest = hmac.new(keys.integrity, covered + high, getattr(hashlib, suite.integrity.hash_name)).digest()
        assert icv == digest[: len(icv)]
        decryptor = Cipher(AES(keys.encryption), CBC(packet[8:24])).decryptor()
        assert decryptor.update(covered[24:]) + decryptor.finalize() == plaintext
        assert cipher.open(sequence, memoryview(packet)) == plaintext


def test_ivs_of_aes_cbc_never_repeat_where_entropy_does() -> None:
    """Equal plaintexts and a constant entropy source: the chain still makes every IV new."""
    suite = suite_of("aes128", "sha256")
    cipher = esp_cipher(suite, keys_for(suite), 1000, bytes)
    packets = [cipher.seal(n, bytes(32)) for n in range(1, 600)]
    assert len({packet[8:24] for packet in packets}) == len(packets)


def test_entropy_is_drawn_anew_before_it_is_used_twice() -> None:
    suite = suite_of("aes128", "sha256")
    drawn: list[bytes] = []

    def entropy(n: int) -> bytes:
        drawn.append(os.urandom(n))
        return drawn[-1]

    cipher = esp_cipher(suite, keys_for(suite), 1000, entropy)
    for n in range(1, 300):
        cipher.seal(n, bytes(16))
    assert len(b"".join(drawn)) >= 299 * 16


@every_suite
def test_every_bit_of_a_packet_is_authenticated(suite: EspSuite) -> None:
    """P2: one bit flipped anywhere, or the packet cut anywhere."""
    cipher = cipher_for(suite)
    packet = cipher.seal(77, bytes(16))
    for i in range(len(packet)):
        if suite.encryption.aead and suite.esn and i < 8:
            continue  # with ESN, SPI and number are taken from the SA; a packet finds its SA and its number by them
        assert cipher.open(77, packet[:i] + bytes((packet[i] ^ 0x10,)) + packet[i + 1 :]) is None
        assert cipher.open(77, packet[:i]) is None
    assert cipher.open(77, packet) == bytes(16)


@every_suite
def test_the_high_half_is_authenticated_exactly_with_esn(suite: EspSuite) -> None:
    """P5"""
    cipher = cipher_for(suite)
    packet = cipher.seal(77, bytes(16))
    assert cipher.open(77 + (1 << 32), packet) == (None if suite.esn else bytes(16))


@every_suite
def test_a_failure_does_not_disturb_the_packets_after_it(suite: EspSuite) -> None:
    """P2: the AES-CBC chain must survive what it throws away."""
    cipher = cipher_for(suite)
    good = [cipher.seal(n, os.urandom(48)) for n in range(1, 4)]
    assert cipher.open(1, good[0]) is not None
    for junk in (b"", good[1][:-1], good[1][:20], bytes(len(good[1])), good[1] + b"x"):
        assert cipher.open(2, junk) is None
    opened = cipher.open(3, good[2])
    assert opened is not None
    assert opened == cipher.open(3, memoryview(good[2]))


def test_an_authenticated_packet_of_broken_blocks_does_not_disturb_the_chain() -> None:
    """P2: half a block would stay in the cipher and spoil every later packet."""
    suite = suite_of("aes128", "sha256")
    cipher = cipher_for(suite)
    good = cipher.seal(2, bytes(48))
    broken = good[:-16] + b"half of it"
    assert cipher.open(1, broken + hmac.digest(keys_for(suite).integrity, broken, "sha256")[:16]) is None
    assert cipher.open(2, good) == bytes(48)


@given(st.binary(max_size=200), st.sampled_from(SUITES))
def test_arbitrary_bytes_are_never_opened_and_never_raise(data: bytes, suite: EspSuite) -> None:
    """P2"""
    assert cipher_for(suite).open(1, data) is None


@every_suite
def test_the_layout_predicts_lengths(suite: EspSuite) -> None:
    layout, cipher = esp_layout(suite), cipher_for(suite)
    for inner in range(1, 80):
        plaintext = inner + 2 + -(inner + 2) % layout.alignment
        assert layout.sealed_length(inner) == len(cipher.seal(inner, bytes(plaintext)))
        room = layout.room(layout.sealed_length(inner))
        assert inner <= room < inner + layout.alignment
    assert layout.minimum_length == layout.sealed_length(1)


def test_keys_that_do_not_fit_the_suite_are_a_fault_of_the_caller() -> None:
    with pytest.raises(ValueError, match="bytes of key"):
        esp_cipher(suite_of("aes128gcm16"), DirectionKeys(encryption=bytes(16), integrity=b""), 1, os.urandom)
    with pytest.raises(ValueError, match="integrity"):
        esp_cipher(suite_of("aes128", "sha256"), DirectionKeys(encryption=bytes(16), integrity=b""), 1, os.urandom)
    with pytest.raises(ValueError, match="integrity"):
        esp_cipher(suite_of("aes128"), DirectionKeys(encryption=bytes(16), integrity=b""), 1, os.urandom)
