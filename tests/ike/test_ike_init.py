"""IKE_SA_INIT against forgers and broken gateways: the default is that nothing changes and connecting succeeds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from sim_certificates import stranger_certificate, stranger_key
from sim_gateway import CBC, GCM, GatewaySetup
from sim_script import (
    AUTH,
    CREATE_CHILD,
    INFORMATIONAL,
    INIT,
    UNKNOWN_CRITICAL,
    also,
    forged_init,
    instead,
    notify,
    only,
    spi_of,
    unprotected,
    without,
)
from sim_world import PATH, Sent, Weather, World, altered, assert_same_state, client_config, reverse

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.modp import MODP_GROUPS
from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE, KeyExchange
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, NegotiationRefused, NoResponse
from ikeclient.ike.events import IkeEstablished, Path, Progress
from ikeclient.ike.v2.exchanges import init_forms
from ikeclient.ike.v2.exchanges.init import InitExchange, new_spi, peer_hashes
from ikeclient.ike.v2.exchanges.init_verdict import MAX_SEEN
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload, RawPayload
from ikeclient.wire.registry import (
    EncryptionId,
    HashAlgorithm,
    IntegrityId,
    KeyExchangeId,
    NotifyType,
    PayloadType,
    PrfId,
    ProtocolId,
    TransformType,
)
from ikeclient.wire.sa import Proposal, SaPayload, Transform

SLOW = Weather(delay=0.1)  # the genuine answer takes 0.2 s, so that a forger is first
Edit = Callable[[list[Payload]], list[Payload]]


def started(**options: object) -> World:
    world = World(weather=SLOW, **options)  # type: ignore[arg-type]
    world.start()
    world.run(0.05)
    return world


def alone(world: World) -> World:
    """Nobody genuine answers."""
    world.drop = lambda _: True
    world._queue.clear()
    return world


def fails_at_the_end(world: World, seconds: float = 31.0) -> None:
    assert world.run(seconds, lambda w: w.closed)
    assert world.error is not None
    assert 1 <= len(world.error.lines()) <= 3


def still_connects(world: World, *hostile: bytes) -> None:
    """Hostile datagrams change nothing, send nothing, and the genuine answer still leads to a connection."""
    before = len(world.log), len(world.events)
    for data in hostile:
        world.to_client(data)
    assert (len(world.log), len(world.events)) == before
    assert world.run(10, World.finished)
    assert world.connected, world.error and world.error.lines()
    world.run(60)
    assert_same_state(world)


SPIS = (b"\x01" * 8, b"\x02" * 8)


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("response", [False, True])
@pytest.mark.parametrize("exchange", [INIT, AUTH, CREATE_CHILD, INFORMATIONAL])
def test_messages_of_an_unknown_sa_are_neither_answered_nor_followed(
    exchange: int, response: bool, connected: bool
) -> None:
    """N3."""
    world = started()
    if connected:
        world.run(10, World.finished)
    before = len(world.log), len(world.events)
    for spis in (SPIS, (bytes(8), bytes(8)), (SPIS[0], bytes(8))):
        for initiator in (False, True):
            for payloads in ((), (notify(NotifyType.INVALID_IKE_SPI),)):
                world.to_client(
                    unprotected(exchange, spis, payloads, response=response, initiator=initiator)  # type: ignore[arg-type]
                )
    assert (len(world.log), len(world.events)) == before
    assert world.run(10, World.finished)
    assert world.connected


@pytest.mark.parametrize(
    "path",
    [
        replace(PATH, remote_address=ip_address("198.51.100.66")),
        replace(PATH, remote_port=501),
        replace(PATH, remote_port=4500),
    ],
    ids=["address", "port", "other port"],
)
def test_an_answer_from_somewhere_else_moves_nothing(path: Path) -> None:
    """N4: it makes a candidate, since a gateway may answer from another address, but all goes to where we asked."""
    world = started()
    world.to_client(forged_init(world), path)
    assert [sent.path for sent in world.log if sent.to_gateway and sent.data[18] == AUTH] == [
        replace(PATH, remote_port=4500)
    ]
    assert world.run(10, World.finished)
    assert world.connected
    assert {sent.path.remote_address for sent in world.log if sent.to_gateway} == {PATH.remote_address}
    world.run(60)
    assert_same_state(world)


def test_a_message_from_somewhere_else_without_our_spi_is_dropped() -> None:
    """N4."""
    world = started()
    stray = bytearray(forged_init(world))
    stray[:8] = b"\x07" * 8
    before = len(world.log)
    world.to_client(bytes(stray), replace(PATH, remote_address=ip_address("198.51.100.66")))
    assert len(world.log) == before
    still_connects(world)


@pytest.mark.parametrize("major", [0, 1, 3, 15])
def test_another_major_version_is_not_read(major: int) -> None:
    """N5: neither a perfect answer with another version, nor a complaint about ours."""
    world = started()
    answer = bytearray(forged_init(world))
    answer[17] = major << 4
    complaint = unprotected(INIT, (spi_of(world), bytes(8)), [notify(NotifyType.INVALID_MAJOR_VERSION)], major=major)
    still_connects(world, bytes(answer), complaint)


def test_another_minor_version_is_ignored() -> None:
    """N5."""
    world = started()
    answer = bytearray(forged_init(world))
    answer[17] = 0x2F
    world.to_client(bytes(answer))
    assert Progress(step="authenticating") in world.events


def test_an_unknown_critical_payload_spoils_the_whole_answer() -> None:
    """N7."""
    world = started()
    still_connects(world, forged_init(world, also(UNKNOWN_CRITICAL)))
    lonely = alone(started())
    lonely.to_client(forged_init(lonely, also(UNKNOWN_CRITICAL)))
    fails_at_the_end(lonely)
    assert isinstance(lonely.error, NegotiationRefused)
    assert "critical payload of type 200" in str(lonely.error.reason)


def test_an_unknown_payload_that_is_not_critical_is_skipped() -> None:
    """N8."""
    world = World()
    world.gateway.edit["init"] = also(RawPayload(TYPE=PayloadType(201), critical=False, body=b"whatever"))
    world.connect()


P_2048 = MODP_GROUPS[KeyExchangeId.MODP_2048].prime
BAD_SHARES: list[tuple[str, KeyExchangeId, bytes]] = [
    *(("x25519", KeyExchangeId.CURVE25519, value) for value in (b"", b"\0", bytes(31), bytes(32), bytes(33))),
    ("x25519", KeyExchangeId.CURVE25519, (1).to_bytes(32, "little")),
    ("x25519", KeyExchangeId.CURVE25519, (2**255 - 19).to_bytes(32, "little")),
    ("x25519", KeyExchangeId.ECP_256, bytes(64)),
    ("x25519", KeyExchangeId(1234), b"\x01" * 32),
    ("x448", KeyExchangeId.CURVE448, bytes(56)),
    ("ecp256", KeyExchangeId.ECP_256, bytes(64)),
    ("ecp256", KeyExchangeId.ECP_256, b"\x11" * 64),
    ("ecp256", KeyExchangeId.ECP_256, b"\x02" + b"\x11" * 32),
    *(
        ("modp2048", KeyExchangeId.MODP_2048, value.to_bytes(256, "big"))
        for value in (0, 1, P_2048 - 1, P_2048, 2**2048 - 1)
    ),
    ("modp2048", KeyExchangeId.MODP_2048, b"\x02"),
]


@pytest.mark.parametrize(("keyword", "method", "value"), BAD_SHARES)
def test_a_bad_key_share_is_ignored_while_a_good_one_may_come(
    keyword: str, method: KeyExchangeId, value: bytes
) -> None:
    """N9."""
    proposals = (replace(GCM, key_exchange=(KEY_EXCHANGE[keyword],)),)
    options = {
        "config": replace(client_config(), ike_proposals=proposals),
        "setup": GatewaySetup(ike_proposals=proposals),
    }
    bad = instead(KePayload, KePayload(method=method, data=value))
    world = started(**options)
    still_connects(world, forged_init(world, bad))
    lonely = alone(started(**options))
    lonely.to_client(forged_init(lonely, bad))
    fails_at_the_end(lonely)
    assert lonely.now == pytest.approx(30.0)
    assert isinstance(lonely.error, NegotiationRefused)
    assert "key share" in " ".join(lonely.error.lines())


NONCE = b"n" * 32


class RawNonce:
    """A Nonce payload of any length, which `NoncePayload` would not refuse to write but should not have to."""

    TYPE = PayloadType.NONCE

    def __init__(self, length: int) -> None:
        self._length = length

    def emit(self, writer: object) -> None:
        writer.write(b"n" * self._length)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "edit",
    [
        *(instead(NoncePayload, RawNonce(length)) for length in (0, 15, 257)),  # type: ignore[arg-type]
        without(NoncePayload),
        instead(NoncePayload, NoncePayload(nonce=NONCE), NoncePayload(nonce=NONCE)),
        without(KePayload),
        lambda payloads: [*payloads, next(p for p in payloads if isinstance(p, KePayload))],
        lambda payloads: [*payloads, next(p for p in payloads if isinstance(p, SaPayload))],
    ],
    ids=["empty", "15 bytes", "257 bytes", "no nonce", "two nonces", "no KE", "two KE", "two SA"],
)
def test_an_answer_with_a_wrong_nonce_or_a_payload_too_few_or_too_many_is_ignored(edit: Edit) -> None:
    """N10."""
    world = started()
    still_connects(world, forged_init(world, edit))


def sa_of(*transforms: Transform, number: int = 1) -> SaPayload:
    return SaPayload(proposals=(Proposal(number=number, protocol=ProtocolId.IKE, spi=b"", transforms=transforms),))


AES = Transform(type=TransformType.ENCRYPTION, id=EncryptionId.AES_GCM_16, key_bits=128)
PRF = Transform(type=TransformType.PRF, id=PrfId.HMAC_SHA2_256)
GROUP = Transform(type=TransformType.KEY_EXCHANGE, id=KeyExchangeId.CURVE25519)
WEAK: dict[str, Sequence[Transform]] = {
    "3des": (Transform(type=TransformType.ENCRYPTION, id=EncryptionId.TRIPLE_DES), PRF, GROUP),
    "null": (Transform(type=TransformType.ENCRYPTION, id=EncryptionId.NULL), PRF, GROUP),
    "md5": (AES, Transform(type=TransformType.PRF, id=PrfId.HMAC_MD5), GROUP),
    "modp1024": (AES, PRF, Transform(type=TransformType.KEY_EXCHANGE, id=KeyExchangeId.MODP_1024)),
    "another key length": (replace(AES, key_bits=256), PRF, GROUP),
    "no key length": (replace(AES, key_bits=None), PRF, GROUP),
    "integrity beside an AEAD": (
        AES,
        Transform(type=TransformType.INTEGRITY, id=IntegrityId.HMAC_SHA2_256_128),
        PRF,
        GROUP,
    ),
    "no group": (AES, PRF),
    "no prf": (AES, GROUP),
    "two groups": (AES, PRF, GROUP, GROUP),
}


@pytest.mark.parametrize("name", WEAK)
def test_algorithms_that_were_not_offered_are_not_accepted(name: str) -> None:
    """N11, N12: there is no closest match, and an attempt to weaken the choice is named as what it may be."""
    weakened = instead(SaPayload, sa_of(*WEAK[name]))
    world = started()
    still_connects(world, forged_init(world, weakened))
    lonely = alone(started())
    lonely.to_client(forged_init(lonely, weakened))
    fails_at_the_end(lonely)
    assert isinstance(lonely.error, NegotiationRefused)
    if name in ("3des", "null", "md5", "modp1024"):
        assert "possible downgrade" in str(lonely.error.reason)


def test_two_proposals_or_another_number_are_not_an_answer() -> None:
    """N11."""
    one = sa_of(AES, PRF, GROUP)
    world = started()
    still_connects(
        world,
        forged_init(world, instead(SaPayload, SaPayload(proposals=one.proposals * 2))),
        forged_init(world, instead(SaPayload, sa_of(AES, PRF, GROUP, number=2))),
    )


REFUSALS = [
    NotifyType.NO_PROPOSAL_CHOSEN,
    NotifyType.INVALID_SYNTAX,
    NotifyType.AUTHENTICATION_FAILED,
    NotifyType.INVALID_MAJOR_VERSION,
    NotifyType.TEMPORARY_FAILURE,
    NotifyType(8192),
]


def refused(world: World, type_: NotifyType, data: bytes = b"") -> bytes:
    return unprotected(INIT, (spi_of(world), bytes(8)), [notify(type_, data)])


@pytest.mark.parametrize("type_", REFUSALS, ids=str)
def test_an_unprotected_refusal_is_remembered_and_believed_only_after_asking_again(type_: NotifyType) -> None:
    """N14."""
    world = started()
    still_connects(world, refused(world, type_))

    lonely = alone(started())
    asked = len(lonely.log)
    lonely.to_client(refused(lonely, type_))
    said_at = lonely.now
    fails_at_the_end(lonely)
    assert len(lonely.log) > asked
    assert 1.0 <= lonely.now - said_at < 3.0
    assert lonely.error is not None
    assert str(type_) in str(lonely.error.reason)


def test_a_late_refusal_also_leaves_time_to_ask_again() -> None:
    """N14: even when retransmissions have become rare, as after 6 seconds, when the next one is due after 10."""
    lonely = World(path=replace(PATH, remote_port=4500), drop=lambda _: True)
    lonely.start()
    lonely.run(6.5)
    asked = len(lonely.log)
    lonely.to_client(refused(lonely, NotifyType.NO_PROPOSAL_CHOSEN))
    fails_at_the_end(lonely)
    assert len(lonely.log) == asked + 1
    assert lonely.now == pytest.approx(7.5)


def test_endless_cookies_end_at_the_deadline_without_amplification() -> None:
    """N15."""
    world = World(setup=GatewaySetup(cookies=-1))
    world.start()
    fails_at_the_end(world)
    assert world.now == pytest.approx(30.0)
    forms = {sent.data for sent in world.log if sent.to_gateway and sent.path.remote_port == 500}
    assert len(forms) == 1 + 5
    assert isinstance(world.error, NegotiationRefused)
    assert "cookies" in world.error.message


def test_each_cookie_costs_us_one_datagram_at_most() -> None:
    """N15, N18."""
    world = alone(started())
    sent = len(world.log)
    for number in range(1000):
        world.to_client(refused(world, NotifyType.COOKIE, number.to_bytes(8, "big")))
    assert len(world.log) - sent <= 5


def test_a_repeated_cookie_is_ignored() -> None:
    """N16."""
    world = alone(started())
    world.to_client(refused(world, NotifyType.COOKIE, b"c" * 8))
    before = len(world.log)
    world.to_client(refused(world, NotifyType.COOKIE, b"c" * 8))
    assert len(world.log) == before


@pytest.mark.parametrize("length", [0, 65, 4000])
def test_a_cookie_of_a_wrong_length_is_ignored(length: int) -> None:
    """N16."""
    world = started()
    still_connects(world, refused(world, NotifyType.COOKIE, b"c" * length))


@pytest.mark.parametrize("length", [1, 64])
def test_the_shortest_and_the_longest_cookie_come_first_in_the_next_request(length: int) -> None:
    """N16, RFC 7296 section 2.6."""
    world = alone(started())
    world.to_client(refused(world, NotifyType.COOKIE, b"c" * length))
    first = Message.parse(world.log[-1].data).payloads[0]
    assert first == notify(NotifyType.COOKIE, b"c" * length)


GROUPS = (KEY_EXCHANGE["x25519"], KEY_EXCHANGE["ecp256"], KEY_EXCHANGE["ecp384"])


def with_groups() -> dict[str, object]:
    proposal = replace(GCM, key_exchange=GROUPS)
    return {"config": replace(client_config(), ike_proposals=(proposal,)), "setup": GatewaySetup(ike_proposals=(GCM,))}


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\x13", (31).to_bytes(2, "big")])
def test_a_wish_for_a_group_that_was_tried_or_is_malformed_is_ignored(data: bytes) -> None:
    """N17."""
    world = started(**with_groups())
    still_connects(world, refused(world, NotifyType.INVALID_KE_PAYLOAD, data))
    lonely = alone(started(**with_groups()))
    lonely.to_client(refused(lonely, NotifyType.INVALID_KE_PAYLOAD, data))
    fails_at_the_end(lonely)
    assert isinstance(lonely.error, NoResponse)  # it did not even count as an answer
    assert lonely.now == pytest.approx(30.0)


@pytest.mark.parametrize("group", [KeyExchangeId.MODP_1024, KeyExchangeId(1), KeyExchangeId.MODP_2048])
def test_a_wish_for_a_group_that_was_not_offered_is_never_granted(group: KeyExchangeId) -> None:
    """N17."""
    wish = group.to_bytes(2, "big")
    world = started(**with_groups())
    still_connects(world, refused(world, NotifyType.INVALID_KE_PAYLOAD, wish))
    lonely = alone(started(**with_groups()))
    lonely.to_client(refused(lonely, NotifyType.INVALID_KE_PAYLOAD, wish))
    fails_at_the_end(lonely)
    assert isinstance(lonely.error, NegotiationRefused)
    assert str(group) in str(lonely.error.reason)


def test_a_forged_wish_for_another_group_does_not_spoil_the_answer_to_the_first_request() -> None:
    """N17: the gateway speaks x25519 only; a forger makes us offer ecp256, but the answer to x25519 still counts."""
    world = started(**with_groups())
    world.to_client(refused(world, NotifyType.INVALID_KE_PAYLOAD, (19).to_bytes(2, "big")))
    assert world.run(1, World.finished)
    assert world.connected
    assert_same_state(world)


def test_cookies_and_wishes_together_are_bounded() -> None:
    """N18."""
    world = alone(started(**with_groups()))
    for number in range(40):
        world.to_client(refused(world, NotifyType.COOKIE, b"c%d" % number))
        world.to_client(refused(world, NotifyType.INVALID_KE_PAYLOAD, GROUPS[number % 3].id.to_bytes(2, "big")))
    assert len({sent.data for sent in world.log}) <= 1 + 8


REDIRECTS = [
    b"\x01\x04\xc6\x33\x64\x07" + b"nonce",
    b"\x01\x04\x7f\x00\x00\x01",
    b"\x01\x04\xe0\x00\x00\x01",
    b"\x03\xff" + b"a" * 255,
    b"",
]


@pytest.mark.parametrize("data", REDIRECTS)
def test_a_redirect_is_not_followed(data: bytes) -> None:
    """N19: it was not offered, so it is nothing but a reason to give if nobody better answers."""
    world = started()
    still_connects(world, refused(world, NotifyType.REDIRECT, data))
    assert {sent.path.remote_address for sent in world.log if sent.to_gateway} == {PATH.remote_address}
    lonely = alone(started())
    lonely.to_client(refused(lonely, NotifyType.REDIRECT, data))
    fails_at_the_end(lonely)
    assert "REDIRECT" in str(lonely.error and lonely.error.reason)


def nat_hashes(*types: NotifyType, length: int = 20, count: int = 1) -> Edit:
    def edit(payloads: list[Payload]) -> list[Payload]:
        kept = [p for p in payloads if not (isinstance(p, NotifyPayload) and "NAT" in str(p.type))]
        return kept + [notify(type_, b"h" * length) for type_ in types for _ in range(count)]

    return edit


SOURCE, DESTINATION = NotifyType.NAT_DETECTION_SOURCE_IP, NotifyType.NAT_DETECTION_DESTINATION_IP


@pytest.mark.parametrize(
    ("edit", "nat"),
    [
        (nat_hashes(), (False, False)),
        (nat_hashes(SOURCE, length=3), (False, False)),
        (nat_hashes(DESTINATION, length=0), (False, False)),
        (nat_hashes(SOURCE), (False, True)),
        (nat_hashes(SOURCE, DESTINATION, count=20), (True, True)),
    ],
    ids=["absent", "wrong size", "empty", "another source", "20 of each"],
)
def test_nat_detection_decides_about_nothing_but_the_status(edit: Edit, nat: tuple[bool, bool]) -> None:
    """N20: UDP encapsulation is used in any case."""
    world = World()
    world.gateway.edit["init"] = edit
    world.connect()
    (up,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    assert (up.nat.local, up.nat.remote) == nat
    assert world.log[-1].path.local_port == 4500


def test_a_genuine_answer_50_ms_after_a_forged_one_connects() -> None:
    """N21: the forger did everything right and is silent now."""
    world = World(weather=Weather(delay=0.05))
    world.start()
    world.run(0.05)
    world.to_client(forged_init(world))
    assert Progress(step="authenticating") in world.events
    assert world.run(10, World.finished)
    assert world.connected
    assert world.now < 1
    world.run(60)
    assert_same_state(world)


@pytest.mark.parametrize("loses", ["psk", "certificate", "eap"])
def test_a_forger_that_goes_on_to_ike_auth_and_fails_decides_nothing(loses: str) -> None:
    """N21, K4: its protected refusal, or its failing proof, may come before the genuine answer does."""
    world = World(config=client_config(loses), setup=GatewaySetup(auth=loses), weather=Weather(delay=0.05))
    world.start()
    world.run(0.05)
    attacker = World(seed=99, setup=GatewaySetup(auth=loses, psk=b"another")).gateway
    attacker.edit["auth"] = only(notify(NotifyType.AUTHENTICATION_FAILED))
    request = world.log[0]
    attacker.receive(request.data, reverse(request.path), world.now)
    world.to_client(attacker.outbox.pop().data)
    for sent in world.log[1:]:
        attacker.receive(sent.data, reverse(sent.path), world.now)
    world.to_client(attacker.outbox.pop().data)
    assert not world.closed
    assert world.run(10, World.finished)
    assert world.connected
    world.run(60)
    assert_same_state(world)


def test_a_failure_is_reported_soon_when_nobody_better_comes() -> None:
    """K4: half a second after the first candidate, not at the deadline."""
    world = World(setup=GatewaySetup(psk=b"another"))
    world.start()
    assert world.run(2, lambda w: w.closed)
    assert isinstance(world.error, AuthenticationFailed)
    assert world.now < 1


def test_a_silent_forger_and_a_lost_genuine_answer_still_connect() -> None:
    """N21: IKE_SA_INIT is repeated as long as no candidate has shown that it has the keys."""
    world = World(path=replace(PATH, remote_port=4500))
    world.drop = lambda sent: not sent.to_gateway and world.now < 0.5
    world.start()
    world.to_client(forged_init(world))
    assert world.run(20, World.finished)
    assert world.connected
    assert world.now > 4


def test_ten_thousand_forged_answers_cost_little_and_the_genuine_one_connects() -> None:
    """N22: at most eight key exchanges at once, whatever the forgers send."""
    world = World(weather=Weather(delay=0.05))
    world.start()
    world.run(0.05)
    bad = bytearray(forged_init(world, instead(KePayload, KePayload(method=KeyExchangeId.CURVE25519, data=bytes(32)))))
    for number in range(10_000):
        bad[8:16] = (number + 1).to_bytes(8, "big")
        world.to_client(bytes(bad))
    assert len(world.log) <= 3
    assert world.run(30, World.finished)
    assert world.connected


def test_key_exchanges_that_answers_cause_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """N22: eight at once, then four each second, however many answers come; the same answer costs nothing again."""
    computed = 0

    class Counting:
        def __init__(self, method: KeyExchange, entropy: Callable[[int], bytes]) -> None:
            self._share = generate(method, entropy)
            self.method, self.public = method, self._share.public

        def shared_secret(self, peer_public: bytes) -> bytes:
            nonlocal computed
            computed += 1
            return self._share.shared_secret(peer_public)

    monkeypatch.setattr(init_forms, "generate", Counting)
    world = alone(started())
    bad = bytearray(forged_init(world, instead(KePayload, KePayload(method=KeyExchangeId.CURVE25519, data=bytes(32)))))
    for number in range(100):
        bad[8:16] = (number + 1).to_bytes(8, "big")
        world.to_client(bytes(bad))
    assert computed == 8
    for _ in range(100):
        world.to_client(bytes(bad))
    assert computed == 8
    world.run(3)
    assert 8 + 3 * 4 - 1 <= computed <= 8 + 3 * 4


FLOODS = [(7, 0.15), (20, 0.15), (20, 0.6), (100, 0.15), (1000, 0.15)]


@pytest.mark.parametrize(("count", "late"), FLOODS)
def test_forged_answers_give_way_to_the_genuine_one(count: int, late: float) -> None:
    """N22: each request is answered by forgers first, with good key shares; the gateway is heard later."""
    heard_from = 1.0 + late
    number = itertools.count()

    def gateway_is_dead(sent: Sent) -> bool:
        if sent.to_gateway and sent.data[18] == INIT:
            for _ in range(count):
                forged = hasty_forgery(world, sent, next(number))
                world.at(world.now + 0.01, lambda forged=forged: world.to_client(forged))  # type: ignore[misc]
        return sent.to_gateway and world.now < heard_from

    world = World(drop=gateway_is_dead, weather=Weather(delay=0.03))
    world.start()
    assert world.run(31, World.finished)
    assert world.connected, world.error and world.error.lines()
    assert_bounded(world)
    world.run(100)
    assert_same_state(world)


def hasty_forgery(world: World, request: Sent, number: int) -> bytes:
    """A good answer to that request, one of any number: the forger computes one key share and varies the nonce."""
    known = world.forgeries.setdefault(request.data, forged_init(world))
    message = Message.parse(known)
    nonce = NoncePayload(nonce=number.to_bytes(32, "big"))
    header = replace(message.header, spi_r=(number + 1).to_bytes(8, "big"))
    payloads = tuple(nonce if isinstance(p, NoncePayload) else p for p in message.payloads)
    return Message(header=header, payloads=payloads).emit()


def assert_bounded(world: World) -> None:
    """Never more than eight candidates at once, and few of them in a second."""
    tried = {sent.data[8:16] for sent in world.log if sent.data[18] == AUTH and sent.to_gateway}
    assert len(tried) <= 8 + 4 * 31


def test_candidates_are_never_more_than_eight_and_the_silent_ones_go_first() -> None:
    """N22: forgers that do their part of the key exchange; the attempt ends cleanly at the deadline."""
    world = alone(started())
    most = 0
    for number in range(100):
        world.to_client(forged_init(world, seed=f"forger {number}"))
        world.run(0.2)
        handshake = world.client._handshake
        assert handshake is not None
        most = max(most, len(handshake._pending_auths))
        assert len(world.client._leaving) <= 8
    assert most == 8
    tried = {sent.data[8:16] for sent in world.log if sent.data[18] == AUTH}
    assert len(tried) > 40
    fails_at_the_end(world)
    assert isinstance(world.error, NoResponse)


def test_what_waits_is_bounded() -> None:
    """N22: memory, under answers without end."""
    world = alone(started())
    request = next(sent for sent in world.log if sent.data[18] == INIT)
    for number in range(17_000):
        world.to_client(hasty_forgery(world, request, number))
    handshake = world.client._handshake
    assert handshake is not None
    (exchange,) = handshake._inits.values()
    assert len(handshake._answers._waiting) == 32
    assert len(exchange.seen) == MAX_SEEN
    fails_at_the_end(world)


def test_an_answer_that_is_none_is_dropped() -> None:
    """N23: responder SPI zero, a request, another message ID, or sent in the initiator's name."""
    world = started()
    good = Message.parse(forged_init(world))
    variants = [
        replace(good.header, spi_r=bytes(8)),
        replace(good.header, response=False),
        replace(good.header, message_id=1),
        replace(good.header, initiator=True),
        replace(good.header, exchange=AUTH),
    ]
    still_connects(world, *(Message(header=header, payloads=good.payloads).emit() for header in variants))


def hashes(*values: int, odd: bytes = b"") -> Edit:
    data = b"".join(value.to_bytes(2, "big") for value in values) + odd

    def edit(payloads: list[Payload]) -> list[Payload]:
        kept = [p for p in payloads if getattr(p, "type", None) != NotifyType.SIGNATURE_HASH_ALGORITHMS]
        return [*kept, notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)]

    return edit


@pytest.mark.parametrize(
    ("edit", "works"),
    [
        (hashes(HashAlgorithm.IDENTITY), True),
        (hashes(HashAlgorithm.IDENTITY, 999, 0, odd=b"\x01"), True),
        (hashes(), False),
        (hashes(HashAlgorithm.SHA1), False),
        (hashes(999), False),
    ],
    ids=["known", "unknown and odd", "none", "only SHA-1", "only unknown"],
)
def test_our_signature_is_one_that_the_gateway_verifies_or_there_is_none(edit: Edit, works: bool) -> None:
    """N26."""
    world = World(config=client_config("certificate"), setup=GatewaySetup(auth="certificate"))
    world.gateway.edit["init"] = edit
    world.start()
    assert world.run(31, World.finished)
    assert world.connected is works
    if not works:
        assert isinstance(world.error, AuthenticationFailed)
        assert "signature" in world.error.message
        assert not any(sent.data[18] == AUTH for sent in world.log)


def test_sha1_is_offered_only_where_the_profile_allows_it() -> None:
    """N26."""
    for allowed in (False, True):
        world = World(config=altered(client_config(), allow_sha1=allowed))
        world.start()
        offered = peer_hashes(Message.parse(world.log[0].data).payloads)
        assert offered is not None
        assert (HashAlgorithm.SHA1 in offered) is allowed


def test_every_retransmission_is_the_same_and_pauses_grow() -> None:
    world = alone(started())
    world.run(20)
    on_500 = [sent for sent in world.log if sent.path.remote_port == 500]
    assert len({sent.data for sent in on_500}) == 1
    assert 6 <= len(on_500) <= 10


def test_the_offer_names_every_group_and_carries_the_first_ones_share() -> None:
    config = replace(client_config(), ike_proposals=(replace(GCM, key_exchange=GROUPS), CBC))
    exchange = InitExchange(config, random.Random(1).randbytes, PATH)
    payloads = Message.parse(exchange.send(0.0)).payloads
    (share,) = [p for p in payloads if isinstance(p, KePayload)]
    assert (share.method, len(share.data)) == (KeyExchangeId.CURVE25519, 32)
    types = [p.type for p in payloads if isinstance(p, NotifyPayload)]
    assert types == [
        NotifyType.NAT_DETECTION_SOURCE_IP,
        NotifyType.NAT_DETECTION_DESTINATION_IP,
        NotifyType.IKEV2_FRAGMENTATION_SUPPORTED,
        NotifyType.SIGNATURE_HASH_ALGORITHMS,
    ]


def test_an_spi_is_never_zero() -> None:
    values = iter([bytes(8), bytes(8), b"\0" * 7 + b"\1"])
    assert new_spi(lambda _: next(values)) == b"\0" * 7 + b"\1"


def test_a_stranger_with_the_right_name_is_not_believed() -> None:
    """The certificate decides: somebody who answers first and signs with a certificate of his own is refused."""
    setup = GatewaySetup(auth="certificate", key=stranger_key(), chain=(stranger_certificate().der,))
    world = World(config=client_config("certificate"), setup=setup)
    world.start()
    assert world.run(31, lambda w: w.closed)
    assert isinstance(world.error, GatewayNotAuthenticated)
