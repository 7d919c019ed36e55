"""Key derivation against NIST's vectors for IKEv2 (SP 800-135, CAVP `ikev2.rsp`, SHA-1, 64-bit nonces, count 0).

The 132 bytes of keying material in that file are exactly the seven keys of AES-CBC-128 with HMAC-SHA1-96.
"""

from __future__ import annotations

import hmac

import pytest

from ikeclient.crypto.algorithms.keymat import (
    ChildKeys,
    IkeKeys,
    child_keys,
    ike_keys,
    mix_ppk,
    rekeyed_ike_keys,
    shared_key_auth,
    signed_octets,
)
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, EspSuite, IkeSuite

NONCE_I = bytes.fromhex("3651fef5c9c35e93")
NONCE_R = bytes.fromhex("c09a8b90a3f04d59")
SPI_I = bytes.fromhex("8e5c3ae507221684")
SPI_R = bytes.fromhex("b1f201bb155c3acd")
SHARED = bytes.fromhex(
    "d084a30166a50fb7325c3960874a839449ef9741c2f4f947d0201dd8c1269273d79509f37e3ca3eb4fa2fe2a28254e28"
    "9cd3f34dad4eb4df1a07685a4b8a94fa61e2491f7598b3ce65547ff133b3f63d1ac4175eaa695033f3cedb026a6873a3"
    "6455172a8540b8a5d23a0143bed0390ee49b168269d75fffee9fb62be965993c"
)
NEW_SHARED = bytes.fromhex(
    "52f00ab174c25d5b7139ae5ff4e8e9eddee5992d2e36adf8a559ffd90dab1442e4fbe429d320c0f33552a17d1557fa41"
    "ea70e8fb916c4fa27ed52b5f8ebd8461afa78f1159159a64055ac5f6319e29c28eae58cbc6847770f32c3fed1d047504"
    "84f854790f95e9ec01bc5bc461f24966462e359511329305038e94deb6dd42c2"
)
SK_D = bytes.fromhex("6f1b12cad3cbe097b35430356d869d54cddb0198")
KEYMAT = bytes.fromhex(
    "6f1b12cad3cbe097b35430356d869d54cddb0198ec859174d53ceb92dddedbe2436db69f60977c58fa63bbb667f8d369"
    "20b109baae8f6c61a9ac49feda01843225d080ec5539d5881a25521ffb2a0a91874a9c0a27fcc2d717eb8963a9e3a89c"
    "7ab264757284c28cf8c3ca40576f4220b052b1fb8e9ad60ba3c80557323331a8cbb89f20"
)
CHILD_KEYMAT = bytes.fromhex(
    "4727dc0ef94eb326ce131cf282fb652faa638ad0ddae3786a11bcc0309876009f8c485de011ad962c5b1ca8a41ff8145"
    "445749079c5686e26ffebbc342f06981f3da745e11ca0976424d1f8caec623d59dc7186deb20a27b411d1dcb70a36544"
    "0bf7de905088b0692e8addc094e18d1939bdb67e89798ca6b239e2ccb81c2409dac0106c"
)
CHILD_KEYMAT_WITH_EXCHANGE = bytes.fromhex(
    "b109c21ad4c0797768c1cec9e63554681e48f224bca7f23c20c4ea7041983451e9aa1d5408656c8a975ff1b9d9a12c75"
    "ffeb64bdecb30174664cccb4e14f1c377b7f6d1525af77c7092aac3e47f917ebae8297fb5539d2008ce830823a09cc19"
    "7361d4a289c72745f6ce9fefe812be5bf55b3200fbb82e41a4a40877d3fe106db909707b"
)
REKEYED_SKEYSEED = bytes.fromhex("3b03bce748c96d5e8306918d2ff89b68f0648da3")

SHA1_SUITE = IkeSuite(
    encryption=ENCRYPTION["aes128"],
    integrity=INTEGRITY["sha1"],
    prf=PRF["prfsha1"],
    key_exchange=KEY_EXCHANGE["modp2048"],
)
AEAD_SUITE = IkeSuite(
    encryption=ENCRYPTION["aes256gcm16"],
    integrity=None,
    prf=PRF["prfsha384"],
    key_exchange=KEY_EXCHANGE["ecp384"],
)


def in_wire_order(keys: IkeKeys) -> bytes:
    return keys.d + keys.ai + keys.ar + keys.ei + keys.er + keys.pi + keys.pr


def expand(hash_name: str, key: bytes, seed: bytes, length: int) -> bytes:
    """prf+ written a second time, as in RFC 7296 section 2.13: T1 | T2 | T3 ..."""
    blocks = [hmac.digest(key, seed + b"\x01", hash_name)]
    while sum(map(len, blocks)) < length:
        blocks.append(hmac.digest(key, blocks[-1] + seed + bytes([len(blocks) + 1]), hash_name))
    return b"".join(blocks)[:length]


def test_the_seven_keys_are_cut_from_the_stream_in_order() -> None:
    keys = ike_keys(SHA1_SUITE, SHARED, NONCE_I, NONCE_R, SPI_I, SPI_R)
    assert in_wire_order(keys) == KEYMAT
    assert keys.d == SK_D
    assert [len(key) for key in (keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr)] == [20, 20, 16, 16, 20, 20]


def test_an_aead_takes_salt_and_no_integrity_keys() -> None:
    keys = ike_keys(AEAD_SUITE, SHARED, NONCE_I, NONCE_R, SPI_I, SPI_R)
    skeyseed = hmac.digest(NONCE_I + NONCE_R, SHARED, "sha384")
    assert in_wire_order(keys) == expand("sha384", skeyseed, NONCE_I + NONCE_R + SPI_I + SPI_R, 48 + 36 + 36 + 48 + 48)
    assert (keys.ai, keys.ar) == (b"", b"")
    assert [len(key) for key in (keys.d, keys.ei, keys.er, keys.pi, keys.pr)] == [48, 36, 36, 48, 48]


def test_a_rekeyed_ike_sa_starts_from_the_old_sk_d() -> None:
    keys = rekeyed_ike_keys(SHA1_SUITE, PRF["prfsha1"], SK_D, NEW_SHARED, NONCE_I, NONCE_R, SPI_I, SPI_R)
    assert in_wire_order(keys) == expand("sha1", REKEYED_SKEYSEED, NONCE_I + NONCE_R + SPI_I + SPI_R, 132)


def test_a_rekeyed_ike_sa_uses_the_old_prf_for_skeyseed_and_the_new_one_after_it() -> None:
    keys = rekeyed_ike_keys(AEAD_SUITE, PRF["prfsha1"], SK_D, NEW_SHARED, NONCE_I, NONCE_R, SPI_I, SPI_R)
    assert in_wire_order(keys) == expand("sha384", REKEYED_SKEYSEED, NONCE_I + NONCE_R + SPI_I + SPI_R, 216)


@pytest.mark.parametrize(
    ("shared", "stream"),
    [(b"", CHILD_KEYMAT), (NEW_SHARED, CHILD_KEYMAT_WITH_EXCHANGE)],
    ids=["no exchange", "exchange"],
)
def test_child_keys_come_encryption_first_and_from_the_initiator_first(shared: bytes, stream: bytes) -> None:
    suite = EspSuite(encryption=ENCRYPTION["aes128"], integrity=INTEGRITY["sha1"])
    keys = child_keys(PRF["prfsha1"], suite, SK_D, NONCE_I, NONCE_R, initiator=True, shared=shared)
    outbound, inbound = keys.outbound, keys.inbound
    assert outbound.encryption + outbound.integrity + inbound.encryption + inbound.integrity == stream[:72]
    assert (len(outbound.encryption), len(outbound.integrity)) == (16, 20)


def test_the_responder_of_an_exchange_holds_the_same_keys_the_other_way_round() -> None:
    suite = EspSuite(encryption=ENCRYPTION["aes256gcm16"], integrity=None)
    ours = child_keys(PRF["prfsha1"], suite, SK_D, NONCE_I, NONCE_R, initiator=True)
    theirs = child_keys(PRF["prfsha1"], suite, SK_D, NONCE_I, NONCE_R, initiator=False)
    assert theirs == ChildKeys(inbound=ours.outbound, outbound=ours.inbound)
    assert ours.outbound.encryption == CHILD_KEYMAT[:36]
    assert ours.inbound.encryption == CHILD_KEYMAT[36:72]
    assert ours.outbound.integrity == b""


def test_the_octets_to_sign_are_message_nonce_and_prf_of_the_identity() -> None:
    octets = signed_octets(PRF["prfsha256"], b"p" * 32, b"message", b"nonce", b"\x02\0\0\0vpn.example.com")
    assert octets == b"messagenonce" + hmac.digest(b"p" * 32, b"\x02\0\0\0vpn.example.com", "sha256")


def test_a_shared_key_is_padded_before_it_authenticates() -> None:
    padded = hmac.digest(b"secret", b"Key Pad for IKEv2", "sha256")
    assert shared_key_auth(PRF["prfsha256"], b"secret", b"octets") == hmac.digest(padded, b"octets", "sha256")


def test_no_key_shows_in_a_representation() -> None:
    """F12: keys have no way out through repr."""
    keys = ike_keys(SHA1_SUITE, SHARED, NONCE_I, NONCE_R, SPI_I, SPI_R)
    suite = EspSuite(encryption=ENCRYPTION["aes128"], integrity=INTEGRITY["sha1"])
    children = child_keys(PRF["prfsha1"], suite, SK_D, NONCE_I, NONCE_R, initiator=True)
    assert repr(keys) == "IkeKeys()"
    assert repr(children) == "ChildKeys()"
    assert repr(children.inbound) == "DirectionKeys()"


def test_a_post_quantum_key_goes_into_three_of_the_keys() -> None:
    """RFC 8784 section 3: for a PRF whose keys are as long as its output, prf(PPK, SK | 0x01)."""
    ppk = b"a post-quantum key"
    plain = IkeKeys(
        d=bytes([1] * 32), ai=b"", ar=b"", ei=b"e" * 20, er=b"f" * 20, pi=bytes([2] * 32), pr=bytes([3] * 32)
    )
    mixed = mix_ppk(PRF["prfsha256"], plain, ppk)
    for name in ("d", "pi", "pr"):
        assert getattr(mixed, name) == hmac.digest(ppk, getattr(plain, name) + b"\x01", "sha256")
    assert (mixed.ei, mixed.er) == (plain.ei, plain.er)
