"""The worked examples of RFC 2759 section 9.2 and RFC 3079 section 3.5, which share their inputs."""

import pytest
from eap_gateway import RECORDED_MSK

from ikeclient.crypto.algorithms.legacy import md4
from ikeclient.eap.methods import mschap

USER = b"User"
PASSWORD = "clientPass"
GATEWAY_CHALLENGE = bytes.fromhex("5b5d7c7d7b3f2f3e3c2c602132262628")
PEER_CHALLENGE = bytes.fromhex("21402324255e262a28295f2b3a337c7e")
CHALLENGE = bytes.fromhex("d02e4386bce91226")
PASSWORD_HASH = bytes.fromhex("44ebba8d5312b8d611474411f56989ae")
NT_RESPONSE = bytes.fromhex("82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df")


def test_the_challenge_hash_is_that_of_the_standard() -> None:
    assert mschap.challenge_hash(PEER_CHALLENGE, GATEWAY_CHALLENGE, USER) == CHALLENGE


def test_the_password_hash_is_that_of_the_standard() -> None:
    assert mschap.nt_password_hash(PASSWORD) == PASSWORD_HASH
    assert md4(PASSWORD_HASH).hex() == "41c00c584bd2d91c4017a2a12fa59f3f"


def test_the_response_is_that_of_the_standard() -> None:
    assert mschap.nt_response(CHALLENGE, PASSWORD_HASH) == NT_RESPONSE


def test_the_gateways_proof_is_that_of_the_standard() -> None:
    proof = mschap.authenticator_response(CHALLENGE, PASSWORD_HASH, NT_RESPONSE)
    assert proof.hex().upper() == "407A5589115FD0D6209F510FE9C04566932CDA56"


def test_the_gateways_send_key_is_the_second_half_of_the_session_key() -> None:
    """RFC 3079 section 3.5.3 gives the key for IsSend and IsServer; [MS-CHAP] 3.1.5.1 puts the receive key first."""
    msk = mschap.master_session_key(PASSWORD_HASH, NT_RESPONSE)
    assert msk[16:32].hex() == "8b7cdc149b993a1ba118cb153f56dccb"
    assert len(msk) == 64
    assert msk[32:] == bytes(32)


def test_the_session_key_is_the_one_strongswan_derives() -> None:
    nt_response = bytes.fromhex("47a81bcee9265ea61daef5502b1f81f854bbbf8290a8e576")
    assert mschap.master_session_key(mschap.nt_password_hash("wonderland"), nt_response) == RECORDED_MSK


@pytest.mark.parametrize(
    ("password", "utf16"),
    [("Pässwörter€", "5000e40073007300770066f7"), ("🔑", "3dd811dd")],
)
def test_a_password_is_hashed_as_utf16_little_endian_once(password: str, utf16: str) -> None:
    """E16."""
    expected = bytes.fromhex(utf16) if password == "🔑" else b"".join(ord(c).to_bytes(2, "little") for c in password)
    assert mschap.nt_password_hash(password) == md4(expected)
