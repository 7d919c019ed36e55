import pytest
from eap_gateway import (
    GATEWAY_CHALLENGE,
    PASSWORD,
    RECORDED_MSK,
    RECORDED_PEER_CHALLENGE,
    RECORDED_REQUESTS,
    RECORDED_RESPONSES,
    USER,
    challenge_data,
    entropy,
    fixed_entropy,
    mschap_data,
    proof,
)
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.legacy import rc4
from ikeclient.eap.method import NeedCredential
from ikeclient.eap.methods import mschap
from ikeclient.eap.methods.mschapv2 import MschapV2
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, IkeclientError, NegotiationRefused


def answered(user: str = USER) -> tuple[MschapV2, bytes]:
    """A method that has answered the Challenge, and its Response."""
    method = MschapV2(user, PASSWORD, entropy)
    response = method.respond(challenge_data(), 1)
    assert isinstance(response, bytes)
    return method, response


def test_a_conversation_recorded_between_two_strongswans_is_repeated_byte_for_byte() -> None:
    method = MschapV2("alice", "wonderland", fixed_entropy(RECORDED_PEER_CHALLENGE))
    for number in (1, 2):
        request, response = bytes.fromhex(RECORDED_REQUESTS[number]), bytes.fromhex(RECORDED_RESPONSES[number])
        assert method.respond(request[5:], request[1]) == response[5:]
    assert method.done
    assert method.msk == RECORDED_MSK
    assert method.message == "Welcome2strongSwan"


def test_the_response_has_the_layout_of_the_draft() -> None:
    _, response = answered()
    assert response[:5] == bytes([2, 7, 0, 59, 49])
    assert int.from_bytes(response[2:4], "big") == len(response)
    assert response[5:21] == entropy(16)
    assert response[21:29] == bytes(8)
    assert response[53:54] == b"\0"
    assert response[54:] == b"alice"


@pytest.mark.parametrize(
    ("user", "account"),
    [("WORK\\alice", b"alice"), ("alice@example.com", b"alice@example.com"), ("WORK\\müller", "müller".encode())],
)
def test_a_domain_is_sent_but_not_hashed(user: str, account: bytes) -> None:
    """E16: DOMAIN\\user."""
    method, response = answered(user)
    assert response[54:] == user.encode()
    hashed = mschap.challenge_hash(response[5:21], GATEWAY_CHALLENGE, account)
    assert response[29:53] == mschap.nt_response(hashed, mschap.nt_password_hash(PASSWORD))
    assert method.respond(mschap_data(3, proof(response, user=account)), 2) == b"\x03"


def test_no_key_leaves_the_method_before_the_gateway_has_proved_itself() -> None:
    method, response = answered()
    assert (method.msk, method.done) == (None, False)
    assert method.respond(mschap_data(3, proof(response)), 2) == b"\x03"
    assert method.msk is not None
    assert (len(method.msk), method.done) == (64, True)


@pytest.mark.parametrize("tail", [b"", b" M=", b" M=hello", b"\0", b" M=\x1b[2J", b" anything"])
def test_a_success_is_accepted_whatever_follows_its_proof(tail: bytes) -> None:
    method, response = answered()
    assert method.respond(mschap_data(3, proof(response) + tail), 2) == b"\x03"
    assert method.message.isprintable()


def wrong_proofs(response: bytes) -> dict[str, bytes]:
    right = proof(response)
    return {
        "other password": proof(response, "queen of hearts"),
        "one bit": right[:-1] + (b"0" if right[-1:] != b"0" else b"1"),
        "cut": right[:-1],
        "too long": right + b"A",
        "not hex": right[:-1] + b"G",
        "absent": b"M=welcome",
        "empty": b"",
        "not first": b"M=x " + right,
        "64 KB": b"S=" + b"A" * 65000,
    }


@pytest.mark.parametrize("kind", wrong_proofs(bytes(60)))
def test_a_success_without_the_right_proof_is_an_impostor(kind: str) -> None:
    """E8: wrong S=."""
    method, response = answered()
    with pytest.raises(GatewayNotAuthenticated, match="did not prove that it knows the password") as caught:
        method.respond(mschap_data(3, wrong_proofs(response)[kind]), 2)
    assert caught.value.exit_code == 7
    assert (method.msk, method.done) == (None, False)


def test_a_success_before_the_challenge_is_an_impostor() -> None:
    """E8: Success before Challenge."""
    with pytest.raises(GatewayNotAuthenticated):
        MschapV2(USER, PASSWORD, entropy).respond(mschap_data(3, b"S=" + b"0" * 40), 1)


@pytest.mark.parametrize("opcode", [1, 3])
def test_a_challenge_or_success_after_the_success_is_an_impostor(opcode: int) -> None:
    """E8: second Challenge after Success."""
    method, response = answered()
    method.respond(mschap_data(3, proof(response)), 2)
    with pytest.raises(GatewayNotAuthenticated):
        method.respond(challenge_data() if opcode == 1 else mschap_data(3, proof(response)), 3)


def test_only_one_challenge_is_answered() -> None:
    """E9: no second attempt that would count against the account."""
    method, _ = answered()
    with pytest.raises(AuthenticationFailed, match="user 'alice' or the password"):
        method.respond(challenge_data(), 2)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x01\x07\x00",
        challenge_data()[:-3],  # MS-Length too long
        challenge_data() + b"x",  # MS-Length too short
        mschap_data(1, b""),
        mschap_data(1, b"\x10" + GATEWAY_CHALLENGE),  # no name
        mschap_data(1, b"\x0f" + GATEWAY_CHALLENGE[:15] + b"name"),
        mschap_data(1, b"\x11" + GATEWAY_CHALLENGE + b"xname"),
        mschap_data(1, b"\x00" + GATEWAY_CHALLENGE + b"name"),
        mschap_data(1, b"\xff" + GATEWAY_CHALLENGE + b"name"),
        mschap_data(0, b""),
        mschap_data(2, b"\x10" + GATEWAY_CHALLENGE + b"name"),
        mschap_data(7, bytes(582)),
        mschap_data(255, b"x"),
    ],
)
def test_a_malformed_challenge_is_not_answered(data: bytes) -> None:
    """E6: value size, missing name, MS-Length, unknown operation."""
    with pytest.raises(NegotiationRefused):
        MschapV2(USER, PASSWORD, entropy).respond(data, 1)


def test_a_success_with_a_wrong_length_is_refused() -> None:
    """E6."""
    method, response = answered()
    with pytest.raises(NegotiationRefused):
        method.respond(mschap_data(3, proof(response)) + b" ", 2)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        # strongSwan's own, recorded
        (b"E=691 R=1 C=9835BC7D4F365D269A5B6A9DC4C6B2FE", "user 'alice' or the password (E=691)"),
        (b"E=691 R=0 C=" + b"0" * 32 + b" V=3 M=Authentication failed", "user 'alice' or the password (E=691)"),
        (b"E=646 R=0", "at this hour (E=646)"),
        (b"E=647 R=0", "disabled the account of user 'alice' (E=647)"),
        (b"E=648 R=0 V=3", "password of user 'alice' has expired (E=648)"),
        (b"E=649 R=0", "remote access (E=649)"),
        (b"E=709", "did not take the new password of user 'alice' (E=709)"),
        (b"E=0000000691 R=1", "(E=691)"),
        (b"E=12345", "user 'alice' or the password (E=12345)"),
        (b"R=1 E=691", "(E=691)"),
        (b"E=x R=y C=z V=w M=", "user 'alice' or the password"),
        (b"E=" + b"9" * 5000, "user 'alice' or the password"),
        (b"E= R=", "user 'alice' or the password"),
        (b"C=short", "user 'alice' or the password"),
        (b"", "user 'alice' or the password"),
        (b"M=" + b"\x1b[31m" * 13000, "user 'alice' or the password"),
        (b"\xff\xfe\x00E", "user 'alice' or the password"),
    ],
)
def test_a_failure_is_told_in_plain_words(message: bytes, shown: str) -> None:
    """E7: C= not 32 hex, E= not a number, M= of 64 KB with ESC."""
    method, _ = answered()
    answer = method.respond(mschap_data(4, message), 2)
    assert (method.decline() if isinstance(answer, NeedCredential) else answer) == b"\x04"
    assert method.refusal is not None
    assert shown in method.refusal.message
    assert method.refusal.exit_code == 4
    assert all(line.isprintable() and len(line) < 300 for line in method.refusal.lines())
    assert len(method.refusal.lines()) == 3


@pytest.mark.parametrize("length", range(1, 6))
def test_a_failure_too_short_for_its_fields_is_still_a_failure(length: int) -> None:
    """E7: packets of 6 to 10 bytes, of which the type data are one to five (CVE-2025-62291)."""
    method, _ = answered()
    assert method.respond(b"\x04\x07\x00\x05E"[:length], 2) == b"\x04"
    assert method.refusal is not None
    assert "user 'alice' or the password" in method.refusal.message


def test_the_text_of_a_failure_is_shown_escaped_and_short() -> None:
    """E7, K15."""
    method, _ = answered()
    method.respond(mschap_data(4, b"E=691 R=0 M=no\x1b[2J\rok" + b"!" * 60000), 2)
    assert method.refusal is not None
    assert method.refusal.reason is not None
    assert r"no\x1b[2J\rok!!!" in method.refusal.reason
    assert len(method.refusal.reason) < 300


@pytest.mark.parametrize("follow_up", [challenge_data(), mschap_data(3, b"S=" + b"0" * 40), mschap_data(4, b"E=691")])
def test_an_invitation_to_retry_is_not_taken_without_a_person(follow_up: bytes) -> None:
    """E9: R=1 gets an acknowledgement if nobody can be asked, and whatever comes next gets nothing."""
    method, _ = answered()
    need = method.respond(mschap_data(4, b"E=691 R=1 C=" + b"A" * 32 + b" V=3 M=again"), 2)
    assert need == NeedCredential(kind="password", prompt="The gateway refused the password. Password for 'alice'")
    assert method.decline() == b"\x04"
    with pytest.raises(AuthenticationFailed, match="E=691"):
        method.respond(follow_up, 3)


RETRY = mschap_data(4, b"E=691 R=1 C=" + b"A1" * 16 + b" V=3 M=again")
EXPIRED = mschap_data(4, b"E=648 R=1 C=" + b"A1" * 16 + b" V=3 M=expired")


def test_a_person_gets_one_more_try() -> None:
    """E9: with the gateway's new challenge and the next number, once."""
    password = "the right one"
    method, _ = answered()
    assert isinstance(method.respond(RETRY, 2), NeedCredential)
    method.supply(password)
    response = method.respond(RETRY, 2)
    assert isinstance(response, bytes)
    assert (response[0], response[1]) == (2, RETRY[1] + 1)
    secret = mschap.nt_password_hash(password)
    hashed = mschap.challenge_hash(response[5:21], bytes.fromhex("A1" * 16), b"alice")
    assert response[29:53] == mschap.nt_response(hashed, secret)
    assert method.refusal is None
    assert method.respond(RETRY, 3) == b"\x04"
    assert method.refusal is not None


def test_an_expired_password_is_changed_by_a_person() -> None:
    """RFC 2759 sections 7 and 8.9 to 8.12: the server, which has the old hash, finds the new password."""
    method = MschapV2("alice", PASSWORD, lambda count: bytes(n & 0xFF for n in range(count)))
    method.respond(challenge_data(), 1)
    assert isinstance(method.respond(EXPIRED, 2), NeedCredential)
    method.supply("néw-Password")
    assert method.respond(EXPIRED, 2) == NeedCredential(kind="password", prompt="New password again")
    method.supply("néw-Password")
    packet = method.respond(EXPIRED, 2)
    assert isinstance(packet, bytes)
    assert (packet[0], packet[1], len(packet), int.from_bytes(packet[2:4], "big")) == (7, EXPIRED[1] + 1, 586, 586)
    old, new = mschap.nt_password_hash(PASSWORD), mschap.nt_password_hash("néw-Password")
    block = rc4(old, packet[4:520])
    length = int.from_bytes(block[512:], "little")
    assert block[512 - length : 512].decode("utf-16-le") == "néw-Password"
    assert packet[520:536] == mschap.encrypted_hash(old, new)
    hashed = mschap.challenge_hash(packet[536:552], bytes.fromhex("A1" * 16), b"alice")
    response = packet[560:584]
    assert response == mschap.nt_response(hashed, new)
    assert packet[584:] == b"\0\0"
    expected = mschap.authenticator_response(hashed, new, response)
    assert method.respond(mschap_data(3, b"S=" + expected.hex().upper().encode()), 3) == b"\x03"
    assert method.done
    assert "was changed" in method.message


def test_an_expired_password_without_a_person_is_a_clear_error() -> None:
    method, _ = answered()
    assert isinstance(method.respond(EXPIRED, 2), NeedCredential)
    assert method.decline() == b"\x04"
    assert method.refusal is not None
    assert "has expired (E=648)" in method.refusal.message
    assert method.refusal.hint is not None
    assert "on a terminal" in method.refusal.hint


def test_two_new_passwords_that_differ_change_nothing() -> None:
    method, _ = answered()
    method.respond(EXPIRED, 2)
    method.supply("one")
    method.respond(EXPIRED, 2)
    method.supply("two")
    with pytest.raises(AuthenticationFailed, match="differ"):
        method.respond(EXPIRED, 2)


def test_a_failure_after_the_success_takes_the_key_back() -> None:
    method, response = answered()
    method.respond(mschap_data(3, proof(response)), 2)
    method.respond(mschap_data(4, b"E=691 R=0"), 3)
    assert (method.msk, method.done) == (None, False)


def test_a_person_is_asked_when_there_is_no_password() -> None:
    method = MschapV2("al\x1bice", None, entropy)
    need = method.respond(challenge_data(), 1)
    assert need == NeedCredential(kind="password", prompt=r"Password for 'al\x1bice'")
    method.supply(PASSWORD)
    response = method.respond(challenge_data(), 1)
    assert isinstance(response, bytes)
    assert method.respond(mschap_data(3, proof(response, user=b"al\x1bice")), 2) == b"\x03"


@given(st.lists(st.one_of(st.binary(max_size=80), st.builds(mschap_data, st.integers(0, 8), st.binary(max_size=80)))))
def test_a_gateway_without_the_password_never_gets_through(packets: list[bytes]) -> None:
    """E6, E7, E8: arbitrary packets end in an error of ours or in an answer, never in success."""
    method = MschapV2(USER, PASSWORD, entropy)
    for packet in (challenge_data(), *packets):
        try:
            method.respond(packet, 1)
        except IkeclientError:
            break
    assert not method.done
    assert method.msk is None
