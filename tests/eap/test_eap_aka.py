"""EAP-AKA and AKA' with servers that are not what they should be; the honest ones are in the lab."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from aka_server import CARD, NETWORK, RAND, AkaServer, K, hidden

from ikeclient.eap.credentials import SimCredentials, SimMemory
from ikeclient.eap.method import NeedCredential
from ikeclient.eap.peer import EapPeer
from ikeclient.eap.sim_attributes import At, Malformed, counted, fixed, numbered, parse
from ikeclient.eap.usim import aka_request, ask_card, read_answer
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.wire.registry import EapType

IDENTITY_REQUEST, SUCCESS = bytes([1, 0, 0, 5, 1]), bytes([3, 2, 0, 4])
USERS = {EapType.AKA: "0232010000000000@example.org", EapType.AKA_PRIME: "6232010000000000@example.org"}
CHALLENGE, REJECT, RESYNC, IDENTITY, NOTIFICATION, FAST, CLIENT_ERROR = 1, 2, 4, 5, 12, 13, 14
BOTH = pytest.mark.parametrize("type_", list(USERS), ids=["aka", "aka-prime"])


def entropy(count: int) -> bytes:
    return bytes(range(count))


class Talk:
    """A peer with a card for tests, and the server that it talks with."""

    def __init__(self, type_: EapType, sim: SimCredentials | None = None, *, said: str = "", **server: object) -> None:
        self.sim = sim or SimCredentials(keys=CARD)
        self.peer = EapPeer(USERS[type_], (type_,), None, entropy, sim=self.sim)
        identity = self.peer.respond(IDENTITY_REQUEST)
        assert isinstance(identity, bytes)
        self.said = identity[5:].decode()
        self.server = AkaServer(type_, (said or USERS[type_]).encode(), **server)  # type: ignore[arg-type]

    def says(self, packet: bytes) -> int:
        """The subtype of what the peer answers."""
        return self.server.read(self.peer.respond(packet))[0]

    def fails(self, match: str) -> None:
        """Nothing was agreed, and a Success does not help."""
        with pytest.raises(AuthenticationFailed) as caught:
            self.peer.respond(SUCCESS)
        assert match in f"{caught.value.message}: {caught.value.reason}"
        assert self.peer.msk is None


def succeeds(talk: Talk) -> None:
    assert talk.peer.respond(SUCCESS) is None
    assert talk.peer.finished


@BOTH
def test_a_full_authentication_then_a_fast_one(type_: EapType) -> None:
    talk = Talk(type_)
    server = talk.server
    names = counted(At.NEXT_PSEUDONYM, b"2pseudonym"), counted(At.NEXT_REAUTH_ID, b"4fast@example.org")
    subtype, found = server.read(talk.peer.respond(server.challenge(hidden(server.keys, *names))))
    assert subtype == CHALLENGE
    assert found.values[At.RES] == (len(server.res) * 8).to_bytes(2, "big") + server.res
    succeeds(talk)
    assert talk.peer.msk == server.keys.msk
    assert talk.sim.memory.pseudonyms == {type_: "2pseudonym@example.org"}

    again = Talk(type_, talk.sim)
    assert again.said == "4fast@example.org"
    nonce = bytes(range(16))
    inside = numbered(At.COUNTER, 1), fixed(At.NONCE_S, nonce)
    plain = again.server.sealed(FAST, hidden(server.keys, *inside))
    answer = again.peer.respond(plain)
    assert isinstance(answer, bytes)
    assert answer[5] == FAST
    at = len(answer) - 16
    assert answer[at:] == server.keys.mac(answer[:at] + bytes(16) + nonce)
    succeeds(again)
    assert again.peer.msk == server.keys.fast_msk(b"4fast@example.org", 1, nonce)
    assert talk.sim.memory.name(type_) == "2pseudonym@example.org"


@BOTH
def test_a_counter_that_was_used_is_refused_and_a_full_authentication_follows(type_: EapType) -> None:
    talk = Talk(type_)
    server = talk.server
    talk.says(server.challenge(hidden(server.keys, counted(At.NEXT_REAUTH_ID, b"4fast"))))
    succeeds(talk)
    again = Talk(type_, talk.sim, sequence=65)
    nonce = bytes(16)
    replay = hidden(server.keys, numbered(At.COUNTER, 0), fixed(At.NONCE_S, nonce))
    fresh, again.server.keys = again.server.keys, server.keys
    answer = again.peer.respond(again.server.sealed(FAST, replay))
    again.server.keys = fresh
    assert isinstance(answer, bytes)
    found = parse(answer[8:])
    assert At.COUNTER_TOO_SMALL in parse(server.keys.decrypt(found.fixed(At.IV), found.fixed(At.ENCR_DATA)))
    assert again.says(again.server.challenge()) == CHALLENGE
    succeeds(again)


@BOTH
def test_a_network_without_the_key_is_refused_in_words(type_: EapType) -> None:
    talk = Talk(type_, k=K[::-1])
    assert talk.says(talk.server.challenge()) == REJECT
    talk.fails("did not prove that it knows the card's key")


@BOTH
def test_a_sequence_number_is_resynchronised_once(type_: EapType) -> None:
    """E10."""
    talk = Talk(type_, SimCredentials(keys=CARD, memory=SimMemory(sequence=1000)))
    subtype, found = talk.server.read(talk.peer.respond(talk.server.challenge()))
    assert subtype == RESYNC
    assert len(found.values[At.AUTS]) == 14
    assert found.kdfs == ((1,) if type_ == EapType.AKA_PRIME else ())
    assert talk.says(talk.server.challenge()) == CLIENT_ERROR
    talk.fails("again")


def test_a_resynchronised_network_is_believed() -> None:
    sim = SimCredentials(keys=CARD, memory=SimMemory(sequence=1000))
    talk = Talk(EapType.AKA, sim)
    assert talk.says(talk.server.challenge()) == RESYNC
    number = talk.server.number
    talk.server = AkaServer(EapType.AKA, USERS[EapType.AKA].encode(), sequence=1032)
    talk.server.number = number
    assert talk.says(talk.server.challenge()) == CHALLENGE
    succeeds(talk)


def damaged(at: int) -> Callable[[bytes], bytes]:
    return lambda packet: packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "AT_MAC": damaged(-1 % 68),
    "length 0": lambda packet: packet[:9] + b"\0" + packet[10:],
    "length beyond the end": lambda packet: packet[:9] + b"\x40" + packet[10:],
    "unknown": lambda packet: packet[:8] + b"\x63" + packet[9:],
    "twice": lambda packet: packet[:28] + packet[8:28] + packet[48:],
    "no AT_MAC": lambda packet: packet[:2] + (len(packet) - 20).to_bytes(2, "big") + packet[4:-20],
    "short": lambda packet: packet[:2] + (len(packet) - 1).to_bytes(2, "big") + packet[4:-1],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_challenges_are_answered_with_client_error(what: str) -> None:
    """E10, CVE-2026-35330."""
    talk = Talk(EapType.AKA)
    assert talk.says(MALFORMED[what](talk.server.challenge())) == CLIENT_ERROR
    talk.fails("broke the protocol")


@BOTH
def test_nothing_is_kept_of_a_challenge_that_was_not_proven(type_: EapType) -> None:
    talk = Talk(type_)
    packet = talk.server.challenge(hidden(talk.server.keys, counted(At.NEXT_PSEUDONYM, b"2evil")))
    assert talk.says(packet[:-1] + bytes([packet[-1] ^ 1])) == CLIENT_ERROR
    assert talk.sim.memory.name(type_) is None


@BOTH
def test_changed_talk_about_identities_is_noticed(type_: EapType) -> None:
    talk = Talk(type_)
    asked = talk.server.request(IDENTITY, fixed(At.ANY_ID_REQ))
    answer = talk.peer.respond(asked)
    assert isinstance(answer, bytes)
    name = "sha256" if type_ == EapType.AKA_PRIME else "sha1"
    right = hashlib.new(name, asked + answer).digest()
    subtype, found = talk.server.read(talk.peer.respond(talk.server.challenge(fixed(At.CHECKCODE, right))))
    assert subtype == CHALLENGE
    assert found.fixed(At.CHECKCODE) == right

    other = Talk(type_)
    other.peer.respond(other.server.request(IDENTITY, fixed(At.ANY_ID_REQ)))
    wrong = hashlib.new(name, asked).digest()
    assert other.says(other.server.challenge(fixed(At.CHECKCODE, wrong))) == CLIENT_ERROR
    other.fails("changed on its way")


def test_identity_requests_out_of_order_are_refused() -> None:
    """E5."""
    talk = Talk(EapType.AKA)
    assert talk.says(talk.server.request(IDENTITY, fixed(At.FULLAUTH_ID_REQ))) == IDENTITY
    assert talk.says(talk.server.request(IDENTITY, fixed(At.ANY_ID_REQ))) == CLIENT_ERROR
    talk.fails("out of order")


@pytest.mark.parametrize("private", [True, False])
def test_who_we_are_is_told_to_who_proved_itself(private: bool) -> None:
    """Nothing tells an unproven gateway the permanent identity once there is a pseudonym."""
    sim = SimCredentials(keys=CARD, private=private)
    sim.memory.pseudonyms[EapType.AKA] = "2pseudonym@example.org"
    talk = Talk(EapType.AKA, sim)
    assert talk.said == "2pseudonym@example.org"
    answer = talk.peer.respond(talk.server.request(IDENTITY, fixed(At.PERMANENT_ID_REQ)))
    assert isinstance(answer, bytes)
    assert (USERS[EapType.AKA].encode() in answer) is not private


def test_the_anonymous_identity_answers_until_there_is_a_pseudonym() -> None:
    talk = Talk(EapType.AKA, SimCredentials(keys=CARD, anonymous_identity="anonymous@example.org"))
    assert talk.said == "anonymous@example.org"
    subtype, found = talk.server.read(talk.peer.respond(talk.server.request(IDENTITY, fixed(At.ANY_ID_REQ))))
    assert subtype == IDENTITY
    assert found.counted(At.IDENTITY).decode() == USERS[EapType.AKA]


def test_success_counts_only_when_it_was_confirmed_if_that_was_agreed_on() -> None:
    """E1: AT_RESULT_IND."""
    talk = Talk(EapType.AKA)
    _, found = talk.server.read(talk.peer.respond(talk.server.challenge(fixed(At.RESULT_IND))))
    assert At.RESULT_IND in found
    with pytest.raises(GatewayNotAuthenticated):
        talk.peer.respond(SUCCESS)

    talk = Talk(EapType.AKA)
    talk.says(talk.server.challenge(fixed(At.RESULT_IND)))
    assert talk.says(talk.server.sealed(NOTIFICATION, numbered(At.NOTIFICATION, 32768))) == NOTIFICATION
    succeeds(talk)


def test_what_the_network_says_is_told() -> None:
    talk = Talk(EapType.AKA)
    talk.says(talk.server.challenge())
    assert talk.says(talk.server.sealed(NOTIFICATION, numbered(At.NOTIFICATION, 1031))) == NOTIFICATION
    talk.fails("has not subscribed")


def test_a_notification_that_is_not_protected_changes_nothing() -> None:
    talk = Talk(EapType.AKA)
    talk.says(talk.server.challenge(fixed(At.RESULT_IND)))
    assert talk.says(talk.server.request(NOTIFICATION, numbered(At.NOTIFICATION, 32768))) == CLIENT_ERROR
    talk.fails("AT_MAC")


def test_aka_prime_negotiates_the_key_derivation() -> None:
    talk = Talk(EapType.AKA_PRIME)
    subtype, found = talk.server.read(talk.peer.respond(talk.server.challenge(kdfs=(2, 1))))
    assert (subtype, found.kdfs, found.values) == (CHALLENGE, (1,), {})
    assert talk.says(talk.server.challenge(kdfs=(1, 2, 1))) == CHALLENGE
    succeeds(talk)


KDFS = {
    "not as asked": [(2, 1), (1, 2)],
    "without being asked": [(2, 1), (2, 1)],
    "twice": [(1, 1)],
    "unknown": [(2, 3)],
    "none": [()],
}


@pytest.mark.parametrize("what", KDFS)
def test_aka_prime_is_not_talked_down(what: str) -> None:
    """The list of key derivations is the same as before, but for what we asked for (RFC 9048 section 3.2)."""
    talk = Talk(EapType.AKA_PRIME)
    *before, last = KDFS[what]
    for kdfs in before:
        assert talk.says(talk.server.challenge(kdfs=kdfs)) == CHALLENGE
    assert talk.says(talk.server.challenge(kdfs=last)) in (REJECT, CLIENT_ERROR)
    talk.fails("eap-aka-prime")


def test_aka_prime_needs_a_network_name_and_its_own_challenge() -> None:
    talk = Talk(EapType.AKA_PRIME)
    assert talk.says(talk.server.challenge(network=b"")) == REJECT
    talk.fails("name the network")
    talk = Talk(EapType.AKA_PRIME)
    talk.server.autn = AkaServer(EapType.AKA, b"").autn
    assert talk.says(talk.server.challenge()) == REJECT
    talk.fails("separation bit")
    assert NETWORK


@pytest.mark.parametrize(("methods", "refused"), [((EapType.AKA,), False), ((EapType.AKA_PRIME, EapType.AKA), True)])
def test_a_server_that_prefers_aka_prime_is_not_talked_down_to_aka(methods: tuple[EapType, ...], refused: bool) -> None:
    talk = Talk(EapType.AKA)
    talk.peer = EapPeer(USERS[EapType.AKA], methods, None, entropy, sim=talk.sim)
    talk.peer.respond(IDENTITY_REQUEST)
    assert talk.says(talk.server.challenge(numbered(At.BIDDING, 0x8000))) == (REJECT if refused else CHALLENGE)


def test_a_source_answers_in_words() -> None:
    talk = Talk(EapType.AKA, SimCredentials())
    need = talk.peer.respond(talk.server.challenge())
    assert need == NeedCredential(kind="usim", prompt=aka_request(RAND, talk.server.autn))
    card = ask_card(CARD, SimMemory(), aka_request(RAND, talk.server.autn))
    answer = talk.peer.supply(f"res {card.res.hex()} {card.ck.hex()} {card.ik.hex()}\n")  # type: ignore[union-attr]
    assert talk.server.read(answer)[0] == CHALLENGE
    succeeds(talk)


@pytest.mark.parametrize(
    "answer", ["", "res", "res 00", "res zz " + "00" * 16, "auts 00", "sim " + "00" * 4, "reject 00", "x" * 5000, "\0"]
)
def test_answers_of_a_source_that_are_none_are_refused_without_a_quote(answer: str) -> None:
    with pytest.raises(ValueError, match="it is") as caught:
        read_answer(aka_request(RAND, RAND), answer)
    assert not answer or answer not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\x00", b"\x0b\x01\x00\x00", b"\x81\x05" + bytes(18), b"\x06\x01\x00\x01"]
)
def test_attributes_that_do_not_fit_are_refused(data: bytes) -> None:
    """E10, CVE-2026-35330."""
    with pytest.raises(Malformed):
        parse(data)
