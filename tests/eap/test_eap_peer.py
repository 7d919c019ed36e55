import pytest
from eap_gateway import (
    FAILURE,
    MSCHAPV2,
    PASSWORD,
    RECORDED_MSK,
    RECORDED_PEER_CHALLENGE,
    RECORDED_REQUESTS,
    RECORDED_RESPONSES,
    SUCCESS,
    USER,
    answer,
    challenge,
    entropy,
    fixed_entropy,
    mschap_data,
    mschap_request,
    peer,
    proof,
    request,
)
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.eap.method import NeedCredential
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
)
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapType


def proved() -> EapPeer:
    """A peer to which the gateway has proved that it knows the password."""
    eap = peer()
    response = answer(eap, challenge(1))
    assert answer(eap, mschap_request(3, proof(response.data), 2)).data == b"\x03"
    return eap


def test_a_conversation_recorded_between_two_strongswans_is_repeated_byte_for_byte() -> None:
    eap = EapPeer("alice", MSCHAPV2, "wonderland", fixed_entropy(RECORDED_PEER_CHALLENGE))
    responses = [eap.respond(bytes.fromhex(packet)) for packet in RECORDED_REQUESTS]
    assert responses == [*map(bytes.fromhex, RECORDED_RESPONSES), None]
    assert eap.finished
    assert eap.method == EapType.MSCHAPV2
    assert eap.msk == RECORDED_MSK
    assert eap.notices == ["Welcome2strongSwan"]


@pytest.mark.parametrize(
    ("type_", "question", "reply"),
    [(EapType.GTC, b"Password:", b"wonderland"), (EapType.MD5_CHALLENGE, b"\x01a", None)],
)
def test_methods_without_a_key_finish_without_one(type_: EapType, question: bytes, reply: bytes | None) -> None:
    eap = peer((type_,))
    response = answer(eap, request(type_, question))
    assert response.type == type_
    assert reply is None or response.data == reply
    assert eap.respond(SUCCESS) is None
    assert (eap.finished, eap.method, eap.msk) == (True, type_, None)


def test_the_key_is_withheld_until_the_success() -> None:
    eap = proved()
    assert (eap.msk, eap.finished) == (None, False)
    eap.respond(SUCCESS)
    assert eap.msk is not None
    assert len(eap.msk) == 64


# Success and failure


def test_a_success_out_of_nowhere_is_refused() -> None:
    """E1: first EAP message (CVE-2021-45079)."""
    eap = peer()
    with pytest.raises(GatewayNotAuthenticated, match="skipped the authentication") as caught:
        eap.respond(SUCCESS)
    assert caught.value.exit_code == 7
    assert not eap.finished


@pytest.mark.parametrize(
    "before",
    [
        [request(EapType.IDENTITY)],
        [request(EapType.NOTIFICATION, b"welcome")],
        [request(EapType.GTC, b"?")],
        [challenge()],
        [challenge(), request(EapType.NOTIFICATION, b"ok", 2)],
    ],
)
def test_a_success_before_the_method_is_complete_is_refused(before: list[bytes]) -> None:
    """E1: before the method finished."""
    eap = peer()
    for packet in before:
        answer(eap, packet)
    with pytest.raises(GatewayNotAuthenticated):
        eap.respond(SUCCESS)
    assert not eap.finished
    assert eap.msk is None


def test_a_success_while_a_person_is_being_asked_is_refused() -> None:
    """E1."""
    eap = peer((EapType.GTC,), None)
    assert isinstance(eap.respond(request(EapType.GTC, b"Token")), NeedCredential)
    with pytest.raises(GatewayNotAuthenticated):
        eap.respond(SUCCESS)


def test_a_success_after_a_failure_of_the_method_is_refused() -> None:
    """E1."""
    eap = peer()
    answer(eap, challenge())
    answer(eap, mschap_request(4, b"E=691 R=0", 2))
    with pytest.raises(AuthenticationFailed, match="E=691"):
        eap.respond(SUCCESS)
    assert not eap.finished


def test_a_wrong_password_is_told_with_its_code_and_the_gateways_words() -> None:
    eap = peer()
    answer(eap, request(EapType.IDENTITY, identifier=0))
    answer(eap, challenge(1))
    assert answer(eap, mschap_request(4, b"E=691 R=0 C=" + b"A" * 32 + b" V=3 M=Bad luck", 2)).data == b"\x04"
    assert eap.refusal is not None
    with pytest.raises(AuthenticationFailed) as caught:
        eap.respond(FAILURE)
    assert caught.value is eap.refusal
    assert caught.value.exit_code == 4
    assert caught.value.lines() == [
        "the gateway refused user 'alice' or the password (E=691)",
        "EAP-MSCHAPv2 Failure; the gateway says: Bad luck",
        "check the user name and the password",
    ]


def test_a_failure_straight_after_the_response_means_the_same() -> None:
    """A gateway may skip the method's own Failure (draft-kamath-pppext-eap-mschapv2 section 2.8)."""
    eap = peer()
    answer(eap, challenge())
    with pytest.raises(AuthenticationFailed, match="user 'alice' or the password"):
        eap.respond(FAILURE)


def test_a_failure_before_any_method_speaks_of_the_user_name_only() -> None:
    eap = peer()
    answer(eap, request(EapType.IDENTITY))
    with pytest.raises(AuthenticationFailed, match="refused user 'alice' without asking for a password"):
        eap.respond(FAILURE)


def test_a_failure_after_the_proof_is_not_blamed_on_the_password() -> None:
    eap = proved()
    with pytest.raises(AuthenticationFailed, match="accepted the password of user 'alice' but refuses the connection"):
        eap.respond(FAILURE)


# Methods


@pytest.mark.parametrize(
    "type_",
    [EapType.MD5_CHALLENGE, EapType(5), EapType.GTC, EapType.TLS, EapType.TTLS, EapType.PEAP, EapType(255)],
)
def test_a_method_that_is_not_configured_gets_a_nak_with_those_that_are(type_: EapType) -> None:
    """E4: no fall back to MD5 or to GTC, which would hand out the password."""
    response = answer(peer(), request(type_, b"\x10" + bytes(20)))
    assert (response.type, response.data) == (EapType.NAK, bytes([EapType.MSCHAPV2]))


def test_a_nak_lists_the_configured_methods_in_order() -> None:
    """E4."""
    eap = peer((EapType.GTC, EapType.MSCHAPV2, EapType.GTC))
    assert answer(eap, request(EapType.TLS, b"\x20")).data == bytes([EapType.GTC, EapType.MSCHAPV2])
    assert eap.method is None


def test_a_vendors_method_gets_a_legacy_nak() -> None:
    """E4; RFC 3748 section 5.3.1: the answer of a peer without expanded types."""
    response = answer(peer(), request(EapType.EXPANDED, bytes.fromhex("0001370000000100")))
    assert (response.type, response.data) == (EapType.NAK, bytes([EapType.MSCHAPV2]))


def test_after_a_nak_the_gateway_may_come_back_with_the_right_method() -> None:
    eap = peer()
    answer(eap, request(EapType.TLS, b"\x20", 1))
    assert answer(eap, challenge(2)).type == EapType.MSCHAPV2
    assert eap.method == EapType.MSCHAPV2


def test_a_mismatch_names_what_is_offered_and_what_is_allowed() -> None:
    """E4."""
    eap = peer((EapType.MSCHAPV2, EapType.GTC))
    answer(eap, request(EapType.MD5_CHALLENGE, b"\x01a", 1))
    answer(eap, request(EapType.TLS, b"\x20", 2))
    with pytest.raises(AuthenticationFailed, match="no EAP method in common") as caught:
        eap.respond(FAILURE)
    assert caught.value.reason == "the gateway offers eap-md5, eap-tls; the profile allows eap-mschapv2, eap-gtc"


def test_another_method_after_the_first_was_answered_is_refused() -> None:
    """E4; RFC 3748 section 2.1: no sequences, and a Nak no longer exists."""
    eap = peer((EapType.MSCHAPV2, EapType.GTC))
    answer(eap, challenge(1))
    with pytest.raises(NegotiationRefused, match="protocol"):
        eap.respond(request(EapType.GTC, b"Password?", 2))


# Identity, notification, duplicates, limits


def test_the_identity_is_sent_as_utf8() -> None:
    """E16."""
    eap = EapPeer("WORK\\müller", MSCHAPV2, PASSWORD, entropy)
    assert answer(eap, request(EapType.IDENTITY, b"who?\0opt=1", 9)).data == "WORK\\müller".encode()


def test_the_identity_is_not_asked_for_again_inside_a_method() -> None:
    """RFC 3748 section 2.1."""
    eap = peer()
    answer(eap, challenge(1))
    with pytest.raises(NegotiationRefused):
        eap.respond(request(EapType.IDENTITY, b"", 2))


def test_a_notification_is_answered_and_its_text_made_harmless() -> None:
    """E5, K15: escaped and cut at 256."""
    eap = peer()
    response = answer(eap, request(EapType.NOTIFICATION, b"\x1b[2Jexpires\r\n\xff" + b"!" * 2000))
    assert (response.type, response.data) == (EapType.NOTIFICATION, b"")
    [notice] = eap.notices
    assert notice.startswith(r"\x1b[2Jexpires\r\n\xff!!!")
    assert len(notice) <= 256


@pytest.mark.parametrize(
    "make",
    [
        lambda number: request(EapType.IDENTITY, b"", number),
        lambda number: request(EapType.NOTIFICATION, b"wait", number),
        lambda number: request(EapType.TLS, b"\x20", number),
        lambda _number: request(EapType.IDENTITY, b"", 1),
    ],
)
def test_an_endless_conversation_is_ended_after_twenty_rounds(make) -> None:
    """E5: Identity, Notification, Nak and duplicates."""
    eap = peer()
    for number in range(20):
        answer(eap, make(number))
    with pytest.raises((NegotiationRefused, AuthenticationFailed)):
        eap.respond(make(20))
    assert len(eap.notices) <= 20


def test_endless_offers_end_with_the_mismatch() -> None:
    """E4, E5."""
    eap = peer()
    for number in range(20):
        answer(eap, request(EapType.TLS, b"\x20", number))
    with pytest.raises(AuthenticationFailed, match="no EAP method in common"):
        eap.respond(request(EapType.TLS, b"\x20", 20))


def test_a_duplicate_request_gets_the_same_response() -> None:
    """RFC 3748 section 4.1: resent without processing it again, here without fresh entropy."""
    calls = []

    def counting(count: int) -> bytes:
        calls.append(count)
        return bytes([len(calls)]) * count

    eap = EapPeer(USER, MSCHAPV2, PASSWORD, counting)
    assert eap.respond(challenge(3)) == eap.respond(challenge(3))
    assert calls == [16]


def test_the_same_identifier_with_other_bytes_is_a_new_request() -> None:
    eap = peer()
    assert answer(eap, request(EapType.IDENTITY, b"", 1)).type == EapType.IDENTITY
    assert answer(eap, challenge(1)).type == EapType.MSCHAPV2


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x01\x00\x00",
        bytes.fromhex("0100000601"),
        bytes.fromhex("0000000501"),
        bytes.fromhex("0500000501"),
        bytes.fromhex("0100000500"),
        bytes.fromhex("01000005fe"),
        bytes.fromhex("0200000a01616c696365"),  # a response
        bytes.fromhex("0100000603"),
        request(EapType.NAK, b"\x04"),
    ],
)
def test_a_packet_with_no_place_in_a_conversation_ends_it(packet: bytes) -> None:
    """E3: it is protected, so the gateway is broken."""
    with pytest.raises(NegotiationRefused, match="broke the EAP protocol"):
        peer().respond(packet)


@pytest.mark.parametrize("packet", [SUCCESS, FAILURE, challenge(1), request(EapType.IDENTITY), b""])
def test_nothing_may_follow_the_success(packet: bytes) -> None:
    """E1, E8."""
    eap = proved()
    eap.respond(SUCCESS)
    with pytest.raises(NegotiationRefused, match="protocol"):
        eap.respond(packet)


def test_a_conversation_that_failed_stays_failed() -> None:
    """E8: an impostor gets no second chance in the same conversation."""
    eap = peer()
    answer(eap, challenge(1))
    with pytest.raises(GatewayNotAuthenticated) as first:
        eap.respond(mschap_request(3, b"S=" + b"0" * 40, 2))
    for packet in (challenge(3), SUCCESS, request(EapType.IDENTITY)):
        with pytest.raises(GatewayNotAuthenticated) as again:
            eap.respond(packet)
        assert again.value is first.value
    assert eap.msk is None


# Arbitrary gateways

REQUESTS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([SUCCESS, FAILURE, challenge(1), challenge(2), request(EapType.IDENTITY)]),
    st.builds(
        request,
        st.sampled_from([1, 2, 3, 4, 6, 13, 26, 200]),
        st.one_of(st.binary(max_size=60), st.builds(mschap_data, st.integers(0, 8), st.binary(max_size=60))),
        st.integers(0, 255),
    ),
    st.builds(mschap_request, st.sampled_from([1, 3, 4]), st.binary(max_size=60), st.integers(0, 255)),
)


@given(st.lists(REQUESTS, max_size=25), st.booleans())
def test_no_gateway_without_the_password_gets_through_or_breaks_us(packets: list[bytes], known: bool) -> None:
    """E1, E3, E5 to E8: only errors of ours, legal responses, and never a finished conversation."""
    eap = peer(password=PASSWORD if known else None)
    for packet in packets:
        try:
            response = eap.respond(packet)
        except IkeclientError as error:
            shown = "".join(error.lines())
        else:
            assert response is not None
            shown = response.prompt if isinstance(response, NeedCredential) else str(EapPacket.parse(response).code)
        assert shown.isprintable()
    assert not eap.finished
    assert eap.msk is None


@given(st.lists(REQUESTS, max_size=25))
def test_every_method_survives_arbitrary_gateways(packets: list[bytes]) -> None:
    """E3 to E7: also with MD5 and GTC, which have nothing to prove."""
    eap = peer((EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2))
    for packet in packets:
        try:
            eap.respond(packet)
        except IkeclientError:
            continue
    assert not (eap.finished and eap.method == EapType.MSCHAPV2)
