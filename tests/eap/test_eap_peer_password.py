"""Where the identity and the password come from, and where they must not show up."""

import traceback

import pytest
from eap_gateway import (
    FAILURE,
    MSCHAPV2,
    PASSWORD,
    SUCCESS,
    USER,
    answer,
    challenge,
    entropy,
    mschap_request,
    peer,
    proof,
    request,
)

from ikeclient.eap.method import NeedCredential
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import AuthenticationFailed, ProfileError
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapType


@pytest.mark.parametrize("identity", ["", "a\0b", "a" * 257, "\udc80", "DOMAIN\\"])
def test_an_impossible_identity_is_an_error_of_the_profile(identity: str) -> None:
    """E16."""
    with pytest.raises(ProfileError, match="user name") as caught:
        EapPeer(identity, MSCHAPV2, PASSWORD, entropy)
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("password", ["", "canary\0", "canary" * 50, "canary\udc80"])
def test_an_impossible_password_is_an_error_that_does_not_quote_it(password: str) -> None:
    """E16."""
    with pytest.raises(ProfileError, match="password") as caught:
        EapPeer(USER, MSCHAPV2, password, entropy)
    assert "canary" not in str(caught.value.lines())


@pytest.mark.parametrize("methods", [(), (EapType.TLS,), (EapType.MSCHAPV2, EapType.IDENTITY), (EapType(200),)])
def test_methods_that_cannot_work_are_an_error_of_the_profile(methods: tuple[EapType, ...]) -> None:
    with pytest.raises(ProfileError):
        EapPeer(USER, methods, PASSWORD, entropy)


def test_a_person_supplies_the_password_and_the_conversation_goes_on() -> None:
    eap = peer(password=None)
    need = eap.respond(challenge(5))
    assert need == NeedCredential(kind="password", prompt="Password for 'alice'")
    assert eap.respond(challenge(5)) == need  # a duplicate asks the same
    response = EapPacket.parse(eap.supply(PASSWORD))
    assert (response.identifier, response.type) == (5, EapType.MSCHAPV2)
    assert answer(eap, challenge(5)) == response
    assert answer(eap, mschap_request(3, proof(response.data), 6)).data == b"\x03"
    assert eap.respond(SUCCESS) is None


@pytest.mark.parametrize("password", ["", "canary\0", "canary" * 50])
def test_an_unusable_password_of_a_person_can_be_typed_again(password: str) -> None:
    """E16."""
    eap = peer(password=None)
    eap.respond(challenge())
    with pytest.raises(AuthenticationFailed, match="the password") as caught:
        eap.supply(password)
    assert "canary" not in str(caught.value.lines())
    assert eap.supply(PASSWORD)


def test_a_password_nobody_asked_for_is_a_bug_of_the_caller() -> None:
    eap = peer()
    with pytest.raises(RuntimeError):
        eap.supply(PASSWORD)
    answer(eap, challenge())
    with pytest.raises(RuntimeError):
        eap.supply(PASSWORD)


@pytest.mark.parametrize("type_", [EapType.MSCHAPV2, EapType.GTC, EapType.MD5_CHALLENGE])
def test_the_password_shows_in_no_repr_and_no_error(type_: EapType) -> None:
    eap = EapPeer(USER, (type_,), "canary-password", entropy)
    response = answer(eap, challenge() if type_ == EapType.MSCHAPV2 else request(type_, b"\x01a"))
    with pytest.raises(AuthenticationFailed) as caught:
        eap.respond(FAILURE)
    shown = [repr(eap), repr(response), *caught.value.lines(), *traceback.format_exception(caught.value)]
    assert "canary" not in "".join(shown)
