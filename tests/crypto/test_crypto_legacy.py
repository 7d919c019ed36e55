import pytest

from ikeclient.crypto.algorithms.legacy import des_encrypt_block, des_key, md4, md5, sha1


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ("a", "bde52cb31de33e46245e05fbdbd6fb24"),
        ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
        ("message digest", "d9130a8164549fe818874806e1c7014b"),
        ("abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "043f8582f241db351ce627e153e7f0e4"),
        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_gives_the_digests_of_its_standard(text: str, digest: str) -> None:
    """RFC 1320 appendix A.5."""
    assert md4(text.encode()).hex() == digest


@pytest.mark.parametrize(
    ("length", "digest"),
    [
        (55, "cc8a7f2bd608e3eeecb7f121d13bea55"),
        (56, "b8e94b6408bbfa6ec9805bf21bc05cbd"),
        (63, "54ba4472fcd03e99cf28f90eed9f2ae0"),
        (64, "2de6578f0e7898fa17acd84b79685d3a"),
        (65, "3a4f2ca37eebdf6dc99a6155517b74fc"),
        (512, "65edc6cc2a8c73ed9b8eec72d6534073"),
    ],
)
def test_md4_pads_lengths_around_a_block_as_openssl_does(length: int, digest: str) -> None:
    """Made with `openssl dgst -provider legacy -md4`."""
    assert md4(bytes(index % 251 for index in range(length))).hex() == digest


@pytest.mark.parametrize(
    ("raw", "with_parity"),
    [("fc156af7edcd6c", "fd0b5b5e7f6e34d9"), ("0edde3337d427f", "0e6e796737ea08fe")],
)
def test_seven_bytes_of_key_get_odd_parity(raw: str, with_parity: str) -> None:
    """RFC 2759 section 9.3."""
    assert des_key(bytes.fromhex(raw)).hex() == with_parity


@pytest.mark.parametrize(
    ("key", "block", "encrypted"),
    [
        ("0123456789abcdef", "4e6f772069732074", "3fa40e8a984d4815"),  # FIPS 81 table B1
        ("133457799bbcdff1", "0123456789abcdef", "85e813540f0ab405"),  # a well-known worked example
        ("7ca110454a1a6e57", "01a1d6d039776742", "690f5b0d9a26939b"),  # NBS 500-20 substitution table test
    ],
)
def test_des_encrypts_one_block(key: str, block: str, encrypted: str) -> None:
    assert des_encrypt_block(bytes.fromhex(key), bytes.fromhex(block)).hex() == encrypted


def test_des_ignores_parity() -> None:
    raw, block = bytes.fromhex("fc156af7edcd6c"), b"8 bytes!"
    flipped = bytes(byte ^ 1 for byte in des_key(raw))
    assert des_encrypt_block(raw, block) == des_encrypt_block(des_key(raw), block) == des_encrypt_block(flipped, block)


@pytest.mark.parametrize(("key", "block"), [(6, 8), (9, 8), (16, 8), (7, 7), (8, 16)])
def test_des_refuses_other_sizes(key: int, block: int) -> None:
    with pytest.raises(ValueError, match="DES"):
        des_encrypt_block(bytes(key), bytes(block))


def test_md5_and_sha1_are_what_their_standards_say() -> None:
    """RFC 1321 appendix A.5, FIPS 180 example."""
    assert md5(b"abc").hex() == "900150983cd24fb0d6963f7d28e17f72"
    assert sha1(b"abc").hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
