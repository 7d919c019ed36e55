import hashlib

import pytest

from ikeclient.eap.method import NeedCredential
from ikeclient.eap.methods.md5 import Md5Challenge
from ikeclient.errors import AuthenticationFailed, NegotiationRefused


def test_the_answer_is_the_one_recorded_from_strongswan() -> None:
    """User alice, password wonderland, strongSwan 5.9.8; the name behind the value is optional there."""
    answer = Md5Challenge("alice", "wonderland").respond(bytes.fromhex("10f7a13c0e97ad5c333ae6374487789393"), 0x25)
    assert answer == bytes.fromhex("105ab66e35c0674c813cf7fc130b6646a1") + b"alice"


def test_the_answer_hashes_identifier_password_and_value() -> None:
    """RFC 1994 section 4.1; the name after the value is not part of it."""
    method = Md5Challenge("alice", "sécret")
    answer = method.respond(b"\x05VALUEgateway", 0x42)
    assert answer == b"\x10" + hashlib.md5(b"\x42" + "sécret".encode() + b"VALUE").digest() + b"alice"
    assert method.done
    assert method.msk is None


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00abc", b"\x05", b"\x05abcd", b"\xff" + bytes(254)])
def test_a_malformed_challenge_is_refused(data: bytes) -> None:
    method = Md5Challenge("alice", "secret")
    with pytest.raises(NegotiationRefused):
        method.respond(data, 1)
    assert not method.done


def test_a_second_challenge_is_not_answered() -> None:
    """E9."""
    method = Md5Challenge("alice", "secret")
    method.respond(b"\x01a", 1)
    with pytest.raises(AuthenticationFailed, match="'alice'"):
        method.respond(b"\x01b", 2)


def test_a_person_is_asked_when_there_is_no_password() -> None:
    method = Md5Challenge("alice", None)
    assert method.respond(b"\x01a", 1) == NeedCredential(kind="password", prompt="Password for 'alice'")
    method.supply("secret")
    assert method.respond(b"\x01a", 1) == b"\x10" + hashlib.md5(b"\x01secreta").digest() + b"alice"
