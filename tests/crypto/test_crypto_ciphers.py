"""The Encrypted payload's ciphers against published vectors, and what they must refuse."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.ciphers import PayloadCipher, payload_cipher
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, Encryption, Integrity
from ikeclient.errors import IntegrityError

# RFC 7634 appendix B: an INFORMATIONAL request
CHACHA_MESSAGE = bytes.fromhex(
    "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029"
    "1011121314151617610394701f8d017f7c12924889"
    "6b71bfe25236efd7cdc67066906315b2"
)
CHACHA_PLAINTEXT = bytes.fromhex("0000000c000040010000000a00")

# McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16; the nonce is split into salt and IV
GCM_KEY = bytes.fromhex("feffe9928665731c6d6a8f9467308308") * 2
GCM_SALT, GCM_IV = bytes.fromhex("cafebabe"), bytes.fromhex("facedbaddecaf888")
GCM_ASSOCIATED = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
GCM_PLAINTEXT = bytes.fromhex(
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
)
GCM_SEALED = bytes.fromhex(
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
    "76fc6ece0f4e1768cddf8853bb2d551b"
)

CBC_VECTORS = [  # RFC 3602 section 4: cases 1 to 4
    (
        "06a9214036b8a15b512e03d534120006",
        "3dafba429d9eb430b422da802c9fac41",
        b"Single block msg".hex(),
        "e353779c1079aeb82708942dbe77181a",
    ),
    (
        "c286696d887c9aa0611bbb3e2025a45a",
        "562e17996d093d28ddb3ba695a2e6f58",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
    ),
    (
        "6c3ea0477630ce21a2ce334aa746c2cd",
        "c782dc4c098c66cbd9cd27d825682c81",
        b"This is a 48-byte message (exactly 3 AES blocks)".hex(),
        "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684",
    ),
    (
        "56e47a38c5598974bc46903dba290349",
        "8ce82eefbea0da3c44699ed7db51b7d9",
        "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
        "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
        "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e"
        "35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
    ),
]

SUITES: list[tuple[Encryption, Integrity | None]] = [
    (encryption, integrity)
    for encryption in ENCRYPTION.values()
    for integrity in ([None] if encryption.aead else INTEGRITY.values())
]


def any_cipher(encryption: Encryption, integrity: Integrity | None) -> PayloadCipher:
    key = bytes(range(encryption.key_length + encryption.salt_length))
    return payload_cipher(encryption, integrity, key, bytes(integrity.key_length if integrity else 0))


def suite_name(value: object) -> str:
    return value.keyword if isinstance(value, Encryption | Integrity) else "aead"


def test_chacha20_poly1305_protects_the_message_of_rfc_7634() -> None:
    key = bytes(range(0x80, 0xA0)) + bytes.fromhex("a0a1a2a3")
    cipher = payload_cipher(ENCRYPTION["chacha20poly1305"], None, key, b"")
    associated, body = CHACHA_MESSAGE[:32], CHACHA_MESSAGE[32:]
    assert cipher.seal(body[:8], CHACHA_PLAINTEXT, associated) == body[8:]
    assert cipher.open(body, associated) == CHACHA_PLAINTEXT


def test_aes_gcm_takes_its_nonce_as_salt_and_iv() -> None:
    cipher = payload_cipher(ENCRYPTION["aes256gcm16"], None, GCM_KEY + GCM_SALT, b"")
    assert cipher.seal(GCM_IV, GCM_PLAINTEXT, GCM_ASSOCIATED) == GCM_SEALED
    assert cipher.open(GCM_IV + GCM_SEALED, GCM_ASSOCIATED) == GCM_PLAINTEXT


def test_aes_ccm_is_counter_mode_with_a_cbc_mac() -> None:
    """RFC 3610 with L = 4 and M = 16, as RFC 4309 section 4 wants it, written out over single AES blocks."""
    key, salt, iv = bytes(range(16)), b"sal", bytes(range(8))
    plaintext, associated = bytes(range(40)), b"header" * 5
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    padded = associated + bytes(-(len(associated) + 2) % 16)
    blocks = b"\x7b" + salt + iv + len(plaintext).to_bytes(4) + len(associated).to_bytes(2) + padded
    blocks += plaintext + bytes(-len(plaintext) % 16)
    mac = bytes(16)
    for start in range(0, len(blocks), 16):
        mac = ecb.update(bytes(a ^ b for a, b in zip(mac, blocks[start : start + 16], strict=True)))
    stream = b"".join(ecb.update(b"\x03" + salt + iv + counter.to_bytes(4)) for counter in range(4))
    expected = bytes(a ^ b for a, b in zip(plaintext + mac, stream[16:56] + stream[:16], strict=True))
    cipher = payload_cipher(ENCRYPTION["aes128ccm16"], None, key + salt, b"")
    assert cipher.seal(iv, plaintext, associated) == expected
    assert cipher.open(iv + expected, associated) == plaintext


@pytest.mark.parametrize(("key", "iv", "plaintext", "ciphertext"), CBC_VECTORS)
def test_aes_cbc_encrypts_the_messages_of_rfc_3602(key: str, iv: str, plaintext: str, ciphertext: str) -> None:
    cipher = payload_cipher(ENCRYPTION["aes128"], INTEGRITY["sha256"], bytes.fromhex(key), b"k" * 32)
    sealed = cipher.seal(bytes.fromhex(iv), bytes.fromhex(plaintext), b"header")
    assert sealed[:-16].hex() == ciphertext
    covered = b"header" + bytes.fromhex(iv + ciphertext)
    assert sealed[-16:] == hmac.digest(b"k" * 32, covered, "sha256")[:16]
    assert cipher.open(bytes.fromhex(iv) + sealed, b"header").hex() == plaintext


@pytest.mark.parametrize(("encryption", "integrity"), SUITES, ids=suite_name)
def test_every_cipher_opens_what_it_sealed(encryption: Encryption, integrity: Integrity | None) -> None:
    cipher = any_cipher(encryption, integrity)
    iv, plaintext = bytes(cipher.iv_length), bytes(range(48))
    sealed = cipher.seal(iv, plaintext, b"associated")
    assert len(sealed) == len(plaintext) + cipher.icv_length
    assert cipher.icv_length == (encryption.icv_length or (integrity.icv_length if integrity else 0))
    assert cipher.open(iv + sealed, b"associated") == plaintext


@pytest.mark.parametrize(("encryption", "integrity"), SUITES, ids=suite_name)
def test_one_flipped_bit_anywhere_is_refused(encryption: Encryption, integrity: Integrity | None) -> None:
    """K1: a wrong integrity check value is an error that costs nothing but this message."""
    cipher = any_cipher(encryption, integrity)
    body = bytes(cipher.iv_length) + cipher.seal(bytes(cipher.iv_length), bytes(16), b"associated")
    for position in range(len(body)):
        broken = bytearray(body)
        broken[position] ^= 0x80
        with pytest.raises(IntegrityError):
            cipher.open(bytes(broken), b"associated")
    for associated in (b"associateD", b"associated\0", b""):
        with pytest.raises(IntegrityError):
            cipher.open(body, associated)
    assert cipher.open(body, b"associated") == bytes(16)


@pytest.mark.parametrize(("encryption", "integrity"), SUITES, ids=suite_name)
def test_a_body_of_the_wrong_length_is_refused(encryption: Encryption, integrity: Integrity | None) -> None:
    """K2: shorter than IV and check value, not a block multiple, no plaintext at all."""
    cipher = any_cipher(encryption, integrity)
    body = bytes(cipher.iv_length) + cipher.seal(bytes(cipher.iv_length), bytes(32), b"")
    for length in range(len(body)):
        with pytest.raises(IntegrityError):
            cipher.open(body[:length], b"")
    with pytest.raises(IntegrityError):
        cipher.open(body + b"\0", b"")


def test_an_authentic_but_empty_plaintext_is_refused() -> None:
    """K2: an AEAD over zero bytes verifies, but has no pad length."""
    cipher = any_cipher(ENCRYPTION["aes128gcm16"], None)
    with pytest.raises(IntegrityError, match="cannot be a protected payload"):
        cipher.open(bytes(8) + cipher.seal(bytes(8), b"", b""), b"")


def test_an_authentic_body_that_is_no_block_multiple_is_refused() -> None:
    """K2: even a peer that has the keys cannot make the cipher fail in another way."""
    cipher = any_cipher(ENCRYPTION["aes256"], INTEGRITY["sha256"])
    covered = bytes(16 + 33)
    with pytest.raises(IntegrityError, match="cannot be a protected payload"):
        cipher.open(covered + hmac.digest(bytes(32), b"header" + covered, "sha256")[:16], b"header")


@given(body=st.binary(max_size=200), associated=st.binary(max_size=40))
def test_arbitrary_bytes_raise_integrity_error_and_nothing_else(body: bytes, associated: bytes) -> None:
    for encryption, integrity in ((ENCRYPTION["aes256gcm16"], None), (ENCRYPTION["aes256"], INTEGRITY["sha512"])):
        with pytest.raises(IntegrityError):
            any_cipher(encryption, integrity).open(body, associated)


@pytest.mark.parametrize(
    ("encryption", "integrity", "key_length", "integrity_length"),
    [
        ("aes256gcm16", None, 32, 0),  # the salt is missing
        ("aes256gcm16", "sha256", 36, 32),
        ("aes256", None, 32, 0),
        ("aes256", "sha256", 32, 20),
        ("aes256", "sha256", 16, 32),
    ],
)
def test_keys_that_do_not_fit_the_transforms_are_our_own_fault(
    encryption: str, integrity: str | None, key_length: int, integrity_length: int
) -> None:
    with pytest.raises(ValueError, match=r"takes no|does not take"):
        payload_cipher(
            ENCRYPTION[encryption],
            INTEGRITY[integrity] if integrity else None,
            bytes(key_length),
            bytes(integrity_length),
        )
