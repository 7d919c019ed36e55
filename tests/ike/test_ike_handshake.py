"""Several answers to IKE_SA_INIT, two ports, and what may be believed when (RFC 7296 sections 2.4 and 2.21)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from sim_gateway import CBC, GatewaySetup, named
from sim_script import (
    AUTH,
    INFORMATIONAL,
    INIT,
    authenticating,
    deletes,
    forged_init,
    opened,
    spi_of,
    unprotected,
    without,
)
from sim_world import AUTHS, PATH, Sent, Weather, World, altered, assert_same_state, client_config, reverse

from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, NegotiationRefused, NoResponse
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Need, Notice
from ikeclient.ike.v2.exchanges import init as init_module
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.rules import authenticate
from ikeclient.ike.v2.state import State
from ikeclient.wire.key_exchange import NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import NotifyType

SLOW = Weather(delay=0.1)


def test_answers_that_give_the_same_keys_are_one_candidate() -> None:
    """Else two IKE SAs would use the same keys with the same IVs. Here a reserved byte of the KE payload differs."""
    world = World(weather=SLOW)
    world.start()
    assert world.run(1, lambda w: not w.log[-1].to_gateway)
    genuine = world.log[-1].data
    altered = bytearray(genuine)
    at = genuine.index(b"\x00\x1f\x00\x00", 28) + 2
    altered[at] = 1
    assert Message.parse(bytes(altered)).payloads == Message.parse(genuine).payloads
    world.to_client(bytes(altered))
    world.run(0.15)
    assert len({sent.data for sent in world.log if sent.data[18] == AUTH and sent.to_gateway}) == 1


def test_answers_with_the_same_spis_and_other_keys_are_two_candidates() -> None:
    """Somebody who could see the genuine answer cannot get in its way by copying the SPI."""
    world = World(weather=SLOW)
    world.start()
    assert world.run(1, lambda w: not w.log[-1].to_gateway)
    genuine = world.log[-1].data
    forged = bytearray(forged_init(world))
    forged[8:16] = genuine[8:16]
    world.to_client(bytes(forged))
    assert world.run(5, World.finished)
    assert world.connected
    world.run(60)
    assert_same_state(world)


def test_only_the_first_candidate_asks_to_forget_older_connections() -> None:
    """Else a second one of the same gateway's would end the first."""
    world = World(weather=SLOW)
    world.start()
    world.run(0.05)
    contacts = []
    for number in range(3):
        world.to_client(forged_init(world, seed=str(number)))
        pending = world.client._handshake._pending_auths[-1]  # type: ignore[union-attr]
        payloads = opened(world.log[-1].data, pending.sa.keying)
        types = [p.type for p in payloads if isinstance(p, NotifyPayload)]
        contacts.append(NotifyType.INITIAL_CONTACT in types)
    assert contacts == [True, False, False]


def test_the_winner_ends_the_other_candidates() -> None:
    world = World(weather=SLOW)
    world.start()
    world.run(0.05)
    world.to_client(forged_init(world))
    forged = authenticating(world)
    assert world.run(5, World.finished)
    assert world.connected
    assert deletes(world, forged)


def test_the_gateway_is_not_met_on_both_ports_at_once() -> None:
    """It answers on 500 only when 4500 has been tried too; then IKE_AUTH is tried in one IKE SA."""
    world = World(drop=lambda sent: sent.data[18] == AUTH)
    world.drop = lambda sent: sent.data[18] == AUTH or (not sent.to_gateway and world.now < 1.3)
    world.start()
    world.run(2.5)
    assert len({sent.data[:8] for sent in world.log if sent.data[18] == INIT}) == 2
    assert len({sent.data[:16] for sent in world.log if sent.data[18] == AUTH}) == 1


def test_the_other_port_gets_its_chance_when_the_first_is_known_to_be_forged() -> None:
    """N22: forgers answer IKE_SA_INIT on port 500; the gateway is behind port 4500 only."""
    world = World(drop=lambda sent: 500 in (sent.path.remote_port, sent.path.local_port))
    world.start()
    world.run(1.15)
    for number in range(5):
        world.to_client(forged_init(world, seed=str(number)), PATH)
    assert world.run(31, World.finished)
    assert world.connected
    world.run(100)
    assert_same_state(world)


def test_a_verified_gateway_is_believed_at_once() -> None:
    """A wrong password is reported without waiting for better answers."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap", password="another"))
    world.start()
    assert world.run(2, lambda w: w.closed)
    assert world.now < 0.4


def test_the_first_failure_is_reported_when_nobody_better_came() -> None:
    """A candidate that failed and one that stays silent: the reason of the first is worth more at the deadline."""
    config = altered(client_config(), gateway_identity=None, timeout=5.0)
    world = World(config=config, setup=GatewaySetup(psk=b"another"), weather=Weather(delay=0.01))
    world.start()
    world.to_client(forged_init(world))
    assert world.run(6, lambda w: w.closed)
    assert world.now == pytest.approx(5.0)
    assert world.error is not None
    assert not isinstance(world.error, NoResponse)
    assert not isinstance(world.error, GatewayNotAuthenticated)


def test_the_deadline_counts_from_the_start() -> None:
    world = World(config=altered(client_config(), timeout=4.0), drop=lambda _: True)
    world.now = 1000.0
    world.start()
    assert world.run(10, lambda w: w.closed)
    assert world.now == pytest.approx(1004.0)


# A login that is slow (no second one because of time alone)


def slow(seconds: float, exchange: int = AUTH) -> Callable[[Sent], float]:
    """A gateway that takes that long to deal with each request of a kind, as one that asks RADIUS or a person."""
    return lambda sent: seconds if sent.to_gateway and sent.data[18] == exchange else 0.0


def logins(world: World) -> int:
    """How many IKE SAs of ours had an IKE_AUTH sent in them."""
    return len({sent.data[:16] for sent in world.log if sent.to_gateway and sent.data[18] == AUTH})


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("seconds", [1.9, 2.5, 6.0])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_slow_login_is_one_login(auth: str, seconds: float, fresh: bool) -> None:
    """K20: whoever answers late is not asked a second time, on no port, whatever it does about repetitions."""
    config = altered(client_config(auth), timeout=60.0)
    world = World(config=config, setup=GatewaySetup(auth=auth, fresh=fresh), late=slow(seconds))
    world.start()
    assert world.run(61, World.finished)
    assert world.connected
    assert logins(world) == 1
    assert len(world.gateway.connected) == 1
    world.run(60)
    assert_same_state(world)


@pytest.mark.parametrize("seconds", [0.3, 0.7, 1.3, 2.0])
@pytest.mark.parametrize("wait", [0.0, 3.0])
def test_fresh_keys_for_each_repeated_request_make_one_login(seconds: float, wait: float) -> None:
    """N21: a slow line has IKE_SA_INIT repeated, on both ports; the first answer that proves itself counts."""
    setup = GatewaySetup(fresh=True)
    world = World(setup=setup, late=slow(wait), weather=Weather(delay=seconds / 2))
    world.start()
    assert world.run(31, World.finished)
    assert world.connected
    assert logins(world) == 1
    assert len(world.gateway.connected) == 1


@pytest.mark.parametrize("seconds", [1.3, 2.5])
def test_both_ports_answer_late_and_the_login_is_slow(seconds: float) -> None:
    """K20: port 4500 was asked because port 500 was silent; what comes from there is no reason for a second login."""
    world = World(late=lambda sent: slow(3.0)(sent) + slow(seconds, INIT)(sent))
    world.start()
    assert world.run(31, World.finished)
    assert world.connected
    assert {s.path.remote_port for s in world.log if s.to_gateway and s.data[18] == INIT} == {500, 4500}
    assert logins(world) == 1


def test_a_login_that_is_refused_late_was_one() -> None:
    """K20."""
    config = altered(client_config("eap"), name_gateway=False)
    world = World(config=config, setup=GatewaySetup(auth="eap", password="another"), late=slow(2.5))
    world.start()
    assert world.run(31, lambda w: w.closed)
    assert isinstance(world.error, AuthenticationFailed)
    assert logins(world) == 1


def test_a_login_that_was_given_up_is_deleted_until_that_is_acknowledged() -> None:
    """K20: the gateway takes the DELETE only after the IKE_AUTH that it still works on."""
    config = altered(client_config(), timeout=4.0)
    world = World(config=config, late=slow(9.0))
    world.start()
    world.run(1)
    keying = authenticating(world)
    assert world.run(5, lambda w: w.closed)
    assert world.now == pytest.approx(4.0)
    assert world.run(20, lambda w: any(each.current.state is State.ESTABLISHED for each in w.gateway.connected))
    assert world.run(8, lambda w: all(each.current.state is State.CLOSED for each in w.gateway.connected))
    assert len(deletes(world, keying)) > 3
    assert len({sent.data for sent in world.log if sent.data[18] == INFORMATIONAL and sent.to_gateway}) == 1
    world.run(5)
    assert world.client.next_deadline() is None, "it was acknowledged and goes on nevertheless"


def test_a_gateway_that_is_never_heard_again_is_told_for_a_minute() -> None:
    world = World(config=altered(client_config(), timeout=4.0), drop=lambda sent: sent.data[18] != INIT)
    world.start()
    assert world.run(5, lambda w: w.closed)
    world.run(80)
    assert world.client.next_deadline() is None
    assert len(world.log) < 60


# How long one address gets


def test_a_login_under_way_gets_all_the_time_there_is() -> None:
    """K20: the time of one address ends, but its gateway is alive on port 4500, so it has the login and is slow."""
    config = altered(client_config(), timeout=8.0, login_timeout=30.0)
    world = World(config=config, late=slow(12.0))
    world.start()
    assert world.run(31, World.finished)
    assert world.connected
    assert world.now > 12
    assert logins(world) == 1


def test_a_login_that_cannot_have_arrived_ends_with_the_time_of_its_address() -> None:
    """Port 500 answers, port 4500 is blocked: IKE_AUTH goes there, so another address may do better."""
    config = altered(client_config(), timeout=8.0, login_timeout=30.0)
    world = World(config=config, drop=lambda sent: 4500 in (sent.path.remote_port, sent.path.local_port))
    world.start()
    assert world.run(31, World.finished)
    assert world.now == pytest.approx(8.0)
    assert isinstance(world.error, NoResponse)
    assert "nothing on UDP port 4500" in str(world.error.reason)


def test_port_4500_is_asked_before_a_silent_candidate_is_given_up_and_not_sooner() -> None:
    """That is one IKE_SA_INIT, no login."""
    world = World(late=slow(29.0))
    world.start()
    world.run(26.9)
    assert {s.data[18] for s in world.log if s.path.remote_port == 4500 and s.to_gateway} == {AUTH}
    world.run(0.2)
    assert {s.data[18] for s in world.log if s.path.remote_port == 4500 and s.to_gateway} == {AUTH, INIT}
    assert world.run(3, World.finished)
    assert world.connected
    assert logins(world) == 1


# Answers from other addresses of the gateway

LONG = named("alice@" + "a" * 750 + ".example.com")
ELSEWHERE = ip_address("203.0.113.99")


def answers_from(world: World, exchanges: frozenset[int]) -> None:
    """The gateway sends its answers from another address of its own."""

    def redirect(sent: Sent) -> bool:
        if sent.to_gateway or sent.data[18] not in exchanges:
            return False
        path = replace(reverse(sent.path), remote_address=ELSEWHERE)
        world.at(world.now + 0.02, lambda: world.to_client(sent.data, path))
        return True

    world.drop = redirect


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("exchanges", [{INIT}, {AUTH}, {INIT, AUTH, INFORMATIONAL}])
def test_a_gateway_may_answer_from_another_address(auth: str, exchanges: set[int]) -> None:
    """N4: answers count by SPI and proof; what we send goes to where we asked."""
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth))
    answers_from(world, frozenset(exchanges))
    world.connect()
    assert {sent.path.remote_address for sent in world.log if sent.to_gateway} == {PATH.remote_address}
    assert world.sa.channel.path.remote_address == PATH.remote_address
    world.run(120)
    assert_same_state(world)


def test_an_answer_from_another_address_is_told_when_nothing_comes_of_it() -> None:
    """N4: "nothing came back" would be untrue."""
    world = World()
    answers_from(world, frozenset({INIT, AUTH}))
    world.gateway.edit["init"] = without(NoncePayload)
    world.start()
    assert world.run(31, lambda w: w.closed)
    assert isinstance(world.error, NegotiationRefused)
    silent = World(drop=lambda sent: sent.data[18] == AUTH or not sent.to_gateway)
    silent.start()
    silent.run(0.1)
    silent.to_client(forged_init(silent), replace(PATH, remote_address=ELSEWHERE))
    assert silent.run(31, lambda w: w.closed)
    assert silent.error is not None
    assert str(ELSEWHERE) in str(silent.error.reason)
    assert str(PATH.remote_address) in silent.error.message


# No UDP encapsulation


def without_nat_detection(payloads: list[Payload]) -> list[Payload]:
    return [p for p in payloads if not (isinstance(p, NotifyPayload) and "NAT" in str(p.type))]


def test_a_gateway_that_knows_no_udp_encapsulation_is_said_so_at_once() -> None:
    """N20: no NAT detection, and nothing answers on port 4500."""
    world = World(drop=lambda sent: 4500 in (sent.path.remote_port, sent.path.local_port))
    world.gateway.edit["init"] = without_nat_detection
    world.start()
    assert world.run(5, lambda w: w.closed)
    assert world.now < 3
    assert isinstance(world.error, NegotiationRefused)
    assert world.error.exit_code == 6
    assert "UDP encapsulation" in world.error.message
    assert "firewall" not in "\n".join(world.error.lines())
    assert logins(world) == 0


def test_a_forged_answer_without_nat_detection_denies_nothing() -> None:
    """N20, N21: also if the genuine one takes a while."""
    for delay in (0.1, 0.4):
        world = World(weather=Weather(delay=delay))
        world.start()
        world.run(0.05)
        world.to_client(forged_init(world, without_nat_detection))
        assert world.run(10, World.finished)
        assert world.connected


# Bugs of ours


def test_an_exception_over_an_unproven_answer_fails_that_candidate_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """K4, N21: whatever a stranger's certificate makes our code do, the genuine gateway still counts."""
    genuine = authenticate.verify_gateway

    def broken(config: IkeConfig, candidate: Candidate, *rest: object) -> None:
        if candidate.response != world.gateway_answer:
            raise ValueError("a secret-canary from the network")
        genuine(config, candidate, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(authenticate, "verify_gateway", broken)
    world = Eavesdropped(weather=Weather(delay=0.1))
    world.start()
    world.run(0.05)
    attacker = World(seed=99).gateway
    request = world.log[0]
    attacker.receive(request.data, reverse(request.path), world.now)
    world.to_client(attacker.outbox.pop().data)
    for sent in world.log[1:]:
        attacker.receive(sent.data, reverse(sent.path), world.now)
    world.to_client(attacker.outbox.pop().data)
    assert world.run(10, World.finished)
    assert world.connected
    (notice,) = [event.text for event in world.events if isinstance(event, Notice) and "bug" in event.text]
    assert "ValueError" in notice
    assert "test_ike_handshake.py" in notice
    assert "canary" not in notice


class Eavesdropped(World):
    """A world in which a test can tell the genuine answer to IKE_SA_INIT."""

    @property
    def gateway_answer(self) -> bytes:
        return next((s.data for s in self.log if not s.to_gateway and s.data[18] == INIT), b"")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (authenticate, "verify_gateway"),
        (authenticate, "own_proof"),
        (init_module, "ike_keys"),
        (init_module, "accept_ike"),
        (init_module, "error_notify"),
    ],
)
def test_an_exception_at_any_place_ends_the_attempt_like_a_gateway_that_proves_nothing(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    """K4: an error of the tree that names the place, after a notice; never an exception out of the initiator."""

    def broken(*_: object, **__: object) -> None:
        raise RecursionError("canary")

    monkeypatch.setattr(module, name, broken)
    world = World(setup=GatewaySetup(ike_proposals=(CBC,)) if name == "error_notify" else GatewaySetup())
    world.start()
    assert world.run(31, lambda w: w.closed)
    assert isinstance(world.error, GatewayNotAuthenticated | NoResponse)
    assert [e for e in world.events if isinstance(e, Notice) and "RecursionError" in e.text]
    assert "canary" not in repr(world.events)


# A path that carries little


def narrow(size: int) -> Callable[[Sent], bool]:
    """A path that swallows IPv4 packets of more than `size` bytes without a word."""

    def drop(sent: Sent) -> bool:
        marker = 0 if 500 in (sent.path.remote_port, sent.path.local_port) else 4
        return len(sent.data) + 20 + 8 + marker > size

    return drop


@pytest.mark.parametrize("auth", ["certificate", "eap"])
@pytest.mark.parametrize("size", [576, 700, 1000, 1279])
def test_a_login_passes_a_narrow_path_in_smaller_fragments(auth: str, size: int) -> None:
    """RFC 7383 section 2.5.2; it is one login, and what follows is small from the start."""
    setup = GatewaySetup(auth=auth, fragment_size=576)
    world = World(config=client_config(auth), setup=setup, drop=narrow(size))
    world.start()
    assert world.run(31, World.finished)
    assert world.connected
    assert world.now < 6
    assert logins(world) == 1
    world.run(60)
    assert_same_state(world)


def test_ipv6_never_needs_less_than_1280_bytes() -> None:
    """RFC 7383 section 2.5.1: a larger size from the profile falls to that."""
    here, there = ip_address("2001:db8::10"), ip_address("2001:db8:1::7")
    world = World(
        config=replace(client_config("certificate"), fragment_size=1500, local_identity=LONG),
        path=replace(PATH, local_address=here, remote_address=there),
    )
    world.drop = lambda sent: sent.to_gateway and sent.data[18] == AUTH
    world.start()
    world.run(12)
    sizes = [len(sent.data) + 52 for sent in world.log if sent.data[18] == AUTH and sent.to_gateway]
    assert 1280 < max(sizes) <= 1500
    assert all(size <= 1280 for size in sizes[-2:])


def test_only_what_is_too_long_is_cut_and_only_once() -> None:
    """What fits everywhere is repeated bit by bit; the fragments of both kinds have vectors of their own."""
    world = World(config=client_config("certificate"), setup=GatewaySetup(auth="certificate"))
    world.drop = lambda sent: sent.data[18] == AUTH
    world.start()
    world.run(25)
    sent = [s.data for s in world.log if s.data[18] == AUTH and s.to_gateway]
    kinds = list(dict.fromkeys(sent))
    sizes = [len(data) + 32 for data in kinds]
    assert sizes[0] > 576
    assert max(len(data) + 32 for data in sent[len(sent) // 2 :]) <= 576
    assert len({data[36:44] for data in kinds}) == len(kinds)
    psk = World(drop=lambda s: s.data[18] == AUTH)
    psk.start()
    psk.run(25)
    assert len({s.data for s in psk.log if s.data[18] == AUTH}) == 1


def test_where_answers_are_forged_no_refusal_is_believed_before_the_deadline() -> None:
    """N14, N21, N22: refusals of every kind come at once, the gateway's answer after seconds."""
    world = World(late=slow(3.0, INIT))
    world.start()
    world.run(0.05)
    spis = (spi_of(world), bytes(8))
    for kind in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_SYNTAX):
        world.to_client(unprotected(INIT, spis, [NotifyPayload(type=kind)]))
    world.to_client(forged_init(world, without_nat_detection))
    attacker = World(seed=99, setup=GatewaySetup(psk=b"another")).gateway
    attacker.receive(world.log[0].data, reverse(world.log[0].path), world.now)
    world.to_client(attacker.outbox.pop().data)
    attacker.edit["auth"] = lambda _: [NotifyPayload(type=NotifyType.AUTHENTICATION_FAILED)]
    for sent in list(world.log):
        if sent.data[18] == AUTH:
            attacker.receive(sent.data, reverse(sent.path), world.now)
            world.to_client(attacker.outbox.pop().data)
    assert world.run(31, World.finished)
    assert world.connected, world.error and world.error.lines()
    denied = World(config=altered(client_config(), timeout=8.0), drop=lambda _: True)
    denied.start()
    for kind in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_SYNTAX):
        denied.to_client(unprotected(INIT, (spi_of(denied), bytes(8)), [NotifyPayload(type=kind)]))
    assert denied.run(9, lambda w: w.closed)
    assert denied.now == pytest.approx(8.0)
    assert isinstance(denied.error, NegotiationRefused)


def test_the_gateway_that_has_proven_itself_is_the_only_one_left() -> None:
    """N21: before a person is asked for the password, say."""
    config = client_config("eap")
    config = replace(config, auth=replace(config.auth, password=None))
    world = World(config=config, setup=GatewaySetup(auth="eap"), weather=SLOW)
    world.start()
    world.run(0.05)
    for number in range(5):
        world.to_client(forged_init(world, seed=str(number)))
    assert world.run(5, lambda w: any(isinstance(event, Need) for event in w.events))
    handshake = world.client._handshake
    assert handshake is not None
    (pending,) = handshake._pending_auths
    assert pending.exchange.gateway_verified
    world.to_client(forged_init(world, seed="late"))
    assert handshake._pending_auths == [pending]
    (need,) = [event for event in world.events if isinstance(event, Need)]
    world.at_client(lambda client, now: client.supply(need, "wonderland", now))
    assert world.run(5, World.finished)
    assert world.connected
