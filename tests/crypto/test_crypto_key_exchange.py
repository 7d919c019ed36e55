"""Key exchange against the vectors of RFC 5903, RFC 7748 and RFC 8031, against OpenSSL, and what RFC 6989 refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.key_exchange import generate, respond
from ikeclient.crypto.algorithms.modp import GENERATOR, MODP_GROUPS
from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE
from ikeclient.crypto.pki import der
from ikeclient.errors import KeyExchangeError
from ikeclient.wire.registry import KeyExchangeId

RFC_5903 = {  # section 8: private key, public x, public y of initiator and responder, shared x
    "ecp256": (
        "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
        "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180",
        "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
        "c6ef9c5d78ae012a011164acb397ce2088685d8f06bf9be0b283ab46476bee53",
        "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63",
        "56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
        "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
    ),
    "ecp384": (
        "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
        "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa",
        "9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
        "41cb0779b4bdb85d47846725fbec3c9430fab46cc8dc5060855cc9bda0aa2942e0308312916b8ed2960e4bd55a7448fc",
        "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571",
        "dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
        "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
    ),
    "ecp521": (
        "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f595"
        "7b2639bab072462f68c27a57382d4a52",
        "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d1075649418"
        "85942af5a7f4601723c4195d176ced3e",
        "017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf226"
        "1a6a7f1507438bf01beb6ca3926f9582",
        "0145ba99a847af43793fdd0e872e7cdfa16be30fdc780f97bccc3f078380201e9c677d600b343757a3bdbf2a3163e4c2f869"
        "cca7458aa4a4effc311f5cb151685eb9",
        "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c291"
        "2d4ef2d0433ced2b6171640012d9460f",
        "015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb"
        "57091f4732296579ab44fcd17f0fc56a",
        "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c7"
        "15a3a8cc3151f2bee417996d19f3ddea",
    ),
}

RFC_8031_RANDOM = (  # appendix A: random octets of initiator and responder, before clamping
    "751fb4308655b476b6789b7325f9ea8cddd16a58533ff6d9e60009464a5f9d94",
    "0a54645253290d60ddadd0e030bacd9e5501efdc220755a1e978f1b839a05688",
)
RFC_8031_PUBLIC = (
    "48d5ddd4061257ba166fa3f9bbdb74f1a4e81c089384fa77f790709f0dfbc766",
    "0be7c1f5aad87d7e448662673298a443478b859745179eaf564c79c0ef6eee25",
)
RFC_8031_SHARED = "c74950607a12327f3204d94b6825bfb068b7f8319a9e3708ed3d43ce8130c950"

X448_PRIVATE = (  # RFC 7748 section 6.2
    "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
    "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d",
)
X448_PUBLIC = (
    "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0",
    "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
)
X448_SHARED = (
    "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d"
)

MODP_FORMULAS = {  # RFC 3526: bits and k in 2^n - 2^(n-64) - 1 + 2^64 * ([2^(n-130) pi] + k)
    KeyExchangeId.MODP_2048: (2048, 124476),
    KeyExchangeId.MODP_3072: (3072, 1690314),
    KeyExchangeId.MODP_4096: (4096, 240904),
    KeyExchangeId.MODP_6144: (6144, 929484),
    KeyExchangeId.MODP_8192: (8192, 4743158),
}
MODP = [method for method in KEY_EXCHANGE if method.startswith("modp")]
ECP = [method for method in KEY_EXCHANGE if method.startswith("ecp")]
LOW_ORDER_25519 = [  # the points of small order and their encodings above the prime
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
P448 = 2**448 - 2**224 - 1
LOW_ORDER_448 = [value.to_bytes(56, "little") for value in (0, 1, P448 - 1, P448, P448 + 1)]


def fixed(data: bytes) -> Callable[[int], bytes]:
    """Entropy that is `data`, once, and must be asked for exactly that much."""

    def entropy(length: int) -> bytes:
        assert length == len(data)
        return data

    return entropy


def floor_of_pi(bits: int) -> int:
    """[2^bits pi] with Machin's formula."""
    one = 1 << (bits + 64)

    def arctangent_of_inverse(x: int) -> int:
        total, power, divisor, sign = 0, one // x, 1, 1
        while power:
            total += sign * (power // divisor)
            power //= x * x
            divisor += 2
            sign = -sign
        return total

    return (16 * arctangent_of_inverse(5) - 4 * arctangent_of_inverse(239)) >> 64


@pytest.mark.parametrize("method", ECP)
def test_ecp_groups_give_the_values_of_rfc_5903(method: str) -> None:
    i, gix, giy, r, grx, gry, girx = RFC_5903[method]
    length = len(i) // 2 + 8
    ours = generate(KEY_EXCHANGE[method], fixed((int(i, 16) - 1).to_bytes(length)))
    theirs = generate(KEY_EXCHANGE[method], fixed((int(r, 16) - 1).to_bytes(length)))
    assert ours.public.hex() == gix + giy
    assert theirs.public.hex() == grx + gry
    assert ours.shared_secret(theirs.public).hex() == girx
    assert theirs.shared_secret(ours.public).hex() == girx


def test_curve25519_gives_the_values_of_rfc_8031() -> None:
    ours, theirs = (generate(KEY_EXCHANGE["x25519"], fixed(bytes.fromhex(random))) for random in RFC_8031_RANDOM)
    assert (ours.public.hex(), theirs.public.hex()) == RFC_8031_PUBLIC
    assert ours.shared_secret(theirs.public).hex() == RFC_8031_SHARED
    assert theirs.shared_secret(ours.public).hex() == RFC_8031_SHARED


def test_curve448_gives_the_values_of_rfc_7748() -> None:
    ours, theirs = (generate(KEY_EXCHANGE["x448"], fixed(bytes.fromhex(private))) for private in X448_PRIVATE)
    assert (ours.public.hex(), theirs.public.hex()) == X448_PUBLIC
    assert ours.shared_secret(theirs.public).hex() == X448_SHARED
    assert theirs.shared_secret(ours.public).hex() == X448_SHARED


@pytest.mark.parametrize("identifier", MODP_GROUPS)
def test_modp_primes_are_those_of_rfc_3526(identifier: KeyExchangeId) -> None:
    bits, k = MODP_FORMULAS[identifier]
    expected = 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (floor_of_pi(bits - 130) + k)
    assert MODP_GROUPS[identifier].prime == expected


@pytest.mark.parametrize("method", ["modp2048", "modp4096"])
def test_modp_groups_agree_with_openssl(method: str, tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    share = generate(KEY_EXCHANGE[method], os.urandom)
    group = "modp_" + method.removeprefix("modp")
    openssl("genpkey", "-algorithm", "DH", "-pkeyopt", f"group:{group}", "-out", tmp_path / "theirs.pem")
    text = openssl("pkey", "-in", tmp_path / "theirs.pem", "-pubout", "-outform", "DER")
    algorithm, rest = der.content(der.only(text, der.SEQUENCE), der.SEQUENCE)
    theirs = der.integer(der.only(der.only(rest, 0x03)[1:], der.INTEGER)).to_bytes(len(share.public))
    value = der.encode(der.INTEGER, b"\0" + share.public if share.public[0] & 0x80 else share.public.lstrip(b"\0"))
    ours = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, algorithm) + der.encode(0x03, b"\0" + value))
    (tmp_path / "ours.der").write_bytes(ours)
    files = ("-inkey", tmp_path / "theirs.pem", "-peerkey", tmp_path / "ours.der", "-peerform", "DER")
    assert openssl("pkeyutl", "-derive", *files, "-pkeyopt", "dh_pad:1") == share.shared_secret(theirs)


def openssl(*arguments: str | Path) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


@pytest.mark.parametrize("method", KEY_EXCHANGE)
def test_both_sides_agree_and_the_wire_form_has_its_length(method: str) -> None:
    ours, theirs = generate(KEY_EXCHANGE[method], os.urandom), generate(KEY_EXCHANGE[method], os.urandom)
    assert ours.public != theirs.public
    assert len(ours.public) == KEY_EXCHANGE[method].public_length
    assert ours.shared_secret(theirs.public) == theirs.shared_secret(ours.public)
    secret_length = len(ours.public) // 2 if method.startswith("ecp") else len(ours.public)
    assert len(ours.shared_secret(theirs.public)) == secret_length


@pytest.mark.parametrize("method", KEY_EXCHANGE)
def test_a_responder_answers_a_share_and_has_the_secret_at_once(method: str) -> None:
    share = generate(KEY_EXCHANGE[method], os.urandom)
    answer = respond(KEY_EXCHANGE[method], share.public, os.urandom)
    assert share.shared_secret(answer.public) == answer.secret
    assert answer.secret.hex() not in repr(answer)
    assert repr(answer.secret) not in repr(answer)


def test_a_responder_refuses_a_bad_share() -> None:
    """RFC 6989, RFC 8031 section 2."""
    for value in (bytes(32), bytes(31)):
        with pytest.raises(KeyExchangeError):
            respond(KEY_EXCHANGE["x25519"], value, os.urandom)


@pytest.mark.parametrize("method", KEY_EXCHANGE)
def test_the_same_entropy_gives_the_same_share(method: str) -> None:
    first, second = (generate(KEY_EXCHANGE[method], lambda length: b"\x5a" * length) for _ in range(2))
    assert first.public == second.public
    peer = generate(KEY_EXCHANGE[method], os.urandom).public
    assert first.shared_secret(peer) == second.shared_secret(peer)


def test_modp_values_keep_their_leading_zeros() -> None:
    """RFC 7296 section 2.14: g^ir is padded to the length of the modulus."""
    method = KEY_EXCHANGE["modp2048"]
    prime = MODP_GROUPS[method.id].prime
    peer = pow(GENERATOR, 0x1234567, prime)
    for seed in range(2000):
        share = generate(method, fixed(seed.to_bytes(40)))
        if int.from_bytes(share.public) >> 2040 == 0:
            break
    assert share.public[0] == 0
    assert len(share.public) == 256
    shared = share.shared_secret(peer.to_bytes(256))
    assert shared == pow(int.from_bytes(share.public), 0x1234567, prime).to_bytes(256)


@pytest.mark.parametrize("method", KEY_EXCHANGE)
def test_a_value_of_the_wrong_length_is_refused(method: str) -> None:
    """N9: the length of a key exchange value is fixed by its group."""
    share = generate(KEY_EXCHANGE[method], os.urandom)
    peer = generate(KEY_EXCHANGE[method], os.urandom).public
    for value in (b"", peer[:-1], peer + b"\0", b"\0" + peer, b"\x04" + peer):
        with pytest.raises(KeyExchangeError, match="bytes, not"):
            share.shared_secret(value)


@pytest.mark.parametrize("method", MODP)
def test_degenerate_modp_values_are_refused(method: str) -> None:
    """N9, RFC 6989 section 2.1: only 1 < y < p-1 is a public value."""
    transform = KEY_EXCHANGE[method]
    share = generate(transform, lambda length: b"\x01" * length)
    prime = MODP_GROUPS[transform.id].prime
    for value in (0, 1, prime - 1, prime, prime + 1, 2 ** (transform.public_length * 8) - 1):
        with pytest.raises(KeyExchangeError, match="outside 2 to p-2"):
            share.shared_secret(value.to_bytes(transform.public_length))
    assert share.shared_secret((2).to_bytes(transform.public_length)) == share.public


@pytest.mark.parametrize("method", ECP)
def test_points_off_the_curve_are_refused(method: str) -> None:
    """N9, RFC 6989 section 2.3: zero, out of range, off the curve, and a compressed point in disguise."""
    transform = KEY_EXCHANGE[method]
    share, peer = generate(transform, os.urandom), generate(transform, os.urandom).public
    half = len(peer) // 2
    flipped = bytes([*peer[:-1], peer[-1] ^ 1])
    for value in (
        bytes(2 * half),
        b"\xff" * 2 * half,
        flipped,
        peer[:half] + bytes(half),
        b"\x02" + peer[: 2 * half - 1],
    ):
        with pytest.raises(KeyExchangeError, match="not on the curve"):
            share.shared_secret(value)


@pytest.mark.parametrize("value", LOW_ORDER_25519, ids=lambda value: value.hex()[:8])
def test_low_order_points_of_curve25519_are_refused(value: bytes) -> None:
    """N9, RFC 8031 section 2: a result of all zeros is refused."""
    share = generate(KEY_EXCHANGE["x25519"], os.urandom)
    with pytest.raises(KeyExchangeError, match="all-zero"):
        share.shared_secret(value)


@pytest.mark.parametrize("value", LOW_ORDER_448, ids=["0", "1", "p-1", "p", "p+1"])
def test_low_order_points_of_curve448_are_refused(value: bytes) -> None:
    """N9, RFC 8031 section 2: a result of all zeros is refused."""
    share = generate(KEY_EXCHANGE["x448"], os.urandom)
    with pytest.raises(KeyExchangeError, match="all-zero"):
        share.shared_secret(value)


@given(value=st.binary(max_size=140))
def test_arbitrary_values_give_a_secret_or_a_key_exchange_error(value: bytes) -> None:
    for method in ("ecp256", "ecp521", "x25519", "x448"):
        transform = KEY_EXCHANGE[method]
        share = generate(transform, lambda length: b"\x11" * length)
        for candidate in (value, value.ljust(transform.public_length, b"\x07")[: transform.public_length]):
            try:
                assert share.shared_secret(candidate)
            except KeyExchangeError:
                continue


@pytest.mark.parametrize("method", KEY_EXCHANGE)
def test_a_share_does_not_print_its_secret(method: str) -> None:
    """F12: nothing about the secret in a representation."""
    share = generate(KEY_EXCHANGE[method], lambda length: b"\x5a" * length)
    assert "5a5a" not in repr(share).lower()
    assert not hasattr(share, "__dict__")
