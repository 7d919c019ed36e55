"""Connecting through every kind of network: it ends connected, or with a clean error at the deadline."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_gateway import GCM, GatewaySetup
from sim_script import INIT, notify, unprotected
from sim_world import AUTHS, PATH, Sent, Weather, World, altered, assert_same_state, client_config

from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE
from ikeclient.errors import AuthenticationFailed, NegotiationRefused, NoResponse
from ikeclient.ike.events import Configuration, IkeEstablished, Need, NeedKind, PathChanged, Progress
from ikeclient.ike.v2.schedule import PERSON
from ikeclient.wire.registry import NotifyType

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
LOSSES = (0.0, 0.05, 0.1, 0.2, 0.3)
WEATHERS = [
    Weather(loss=loss, duplication=duplication, reordering=reordering, delay=delay, jitter=delay / 2)
    for loss in LOSSES
    for duplication in (0.0, 0.3)
    for reordering in (0.0, 0.4)
    for delay in (0.005, 0.2)
]
TIMEOUT = 30.0


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("weather", WEATHERS, ids=str)
def test_a_handshake_ends_connected_or_with_an_error_at_the_deadline(auth: str, weather: Weather) -> None:
    for seed in range(20 if DEEP else 1):
        world = World(seed=seed, config=client_config(auth), setup=GatewaySetup(auth=auth), weather=weather)
        world.start()
        assert world.run(TIMEOUT + 1, World.finished)
        if world.connected:
            assert world.run(10) is False
            world.weather = Weather()  # a second connection of the gateway's, whose DELETE was lost, ends by liveness
            world.run(60)
            assert_same_state(world)
        else:
            assert isinstance(world.error, NoResponse)
            assert world.now == pytest.approx(TIMEOUT)
        if weather.loss <= 0.1:
            assert world.connected


@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.3),
    duplication=st.floats(0, 0.5),
    reordering=st.floats(0, 0.5),
    delay=st.floats(0.001, 0.6),
    jitter=st.floats(0, 0.5),
    auth=st.sampled_from(sorted(AUTHS)),
    cookies=st.integers(0, 1),
)
def test_no_weather_makes_a_handshake_end_otherwise(
    seed: int, loss: float, duplication: float, reordering: float, delay: float, jitter: float, auth: str, cookies: int
) -> None:
    weather = Weather(loss=loss, duplication=duplication, reordering=reordering, delay=delay, jitter=jitter)
    world = World(
        seed=seed, config=client_config(auth), setup=GatewaySetup(auth=auth, cookies=cookies), weather=weather
    )
    world.start()
    assert world.run(TIMEOUT + 1, World.finished)
    if world.closed:
        assert isinstance(world.error, NoResponse)
        assert world.now <= TIMEOUT + 0.001
    else:
        world.weather = Weather()
        world.run(60)
        assert_same_state(world)


@pytest.mark.parametrize("auth", AUTHS)
def test_the_same_seed_gives_the_same_bytes(auth: str) -> None:
    def transcript(seed: int) -> str:
        weather = Weather(loss=0.1, duplication=0.1, reordering=0.1, jitter=0.1)
        world = World(seed=seed, config=client_config(auth), setup=GatewaySetup(auth=auth), weather=weather)
        world.start()
        world.run(45)
        world.at_client(lambda client, now: client.rekey(now))
        world.run(60)
        return world.digest

    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)


def test_another_process_gives_the_same_bytes() -> None:
    """Nothing depends on the order of a set or of anything else that differs from run to run."""
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from sim_world import *\n"
        "world = World(seed=7, config=client_config('eap'), setup=GatewaySetup(auth='eap'))\n"
        "world.connect(); world.client.rekey(world.now); world.run(2); print(world.digest)"
    )
    here = Path(__file__).resolve().parent
    paths = [str(here.parent.parent), str(here), str(here.parent / "eap")]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program, *paths],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def number_of_datagrams(auth: str, setup: GatewaySetup) -> int:
    world = World(config=client_config(auth), setup=setup)
    world.connect()
    world.run(0.4)
    return len(world.log)


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("cookies", [0, 1])
def test_the_loss_of_any_one_datagram_only_delays(auth: str, cookies: int) -> None:
    """The last message of each exchange among them."""
    count = number_of_datagrams(auth, GatewaySetup(auth=auth, cookies=cookies))
    for lost in range(count):
        setup = GatewaySetup(auth=auth, cookies=cookies)
        world = World(config=client_config(auth), setup=setup, drop=lambda sent, lost=lost: sent.number == lost)
        world.start()
        assert world.run(5, lambda w: w.connected)
        assert len(world.log) > lost
        world.run(60)
        assert_same_state(world)


def test_a_cookie_is_returned_and_costs_one_round_trip() -> None:
    plain, with_cookie = World(), World(setup=GatewaySetup(cookies=1))
    plain.connect()
    with_cookie.connect()
    assert with_cookie.now == pytest.approx(plain.now + 2 * with_cookie.weather.delay)


def test_a_gateway_may_change_its_mind_about_the_cookie() -> None:
    world = World(setup=GatewaySetup(cookies=3))
    world.connect()
    assert world.now < 5
    assert_same_state(world)


def test_a_late_answer_to_an_earlier_request_does_not_change_the_cookie() -> None:
    """The round trip is longer than the first pause, and each request of the gateway's has another cookie."""
    world = World(weather=Weather(delay=0.4))
    cookies = (b"%d" % number for number in range(100))
    accepted: list[bytes] = []

    def demand(sent: Sent) -> bool:
        if sent.to_gateway and sent.data[18] == 34 and sent.data[16] != 41:  # no Notify first: a request without cookie
            refusal = unprotected(INIT, (sent.data[:8], bytes(8)), [notify(NotifyType.COOKIE, next(cookies))])
            world.at(world.now + 0.8, lambda: world.to_client(refusal))
            return True
        if sent.to_gateway and sent.data[18] == 34:
            accepted.append(sent.data)
        return False

    world.drop = demand
    world.connect()
    assert len(set(accepted)) == 1


def test_another_group_is_used_when_the_gateway_wants_it() -> None:
    both = replace(GCM, key_exchange=(KEY_EXCHANGE["x25519"], KEY_EXCHANGE["ecp256"]))
    only = replace(GCM, key_exchange=(KEY_EXCHANGE["ecp256"],))
    config = replace(client_config(), ike_proposals=(both,))
    world = World(config=config, setup=GatewaySetup(ike_proposals=(only,), cookies=1))
    world.connect()
    assert world.sa.keying.suite.key_exchange.keyword == "ecp256"
    assert_same_state(world)


def test_large_messages_are_fragmented_both_ways() -> None:
    config = replace(client_config("certificate"), fragment_size=400)
    world = World(config=config, setup=GatewaySetup(auth="certificate", fragment_size=400))
    world.connect()
    after_init = [sent for sent in world.log if sent.path.remote_port != 500 and sent.path.local_port != 500]
    assert max(len(sent.data) for sent in after_init) <= 400 - 20 - 8 - 4
    assert len([sent for sent in after_init if sent.to_gateway]) > 1
    assert len([sent for sent in after_init if not sent.to_gateway]) > 1


def test_a_gateway_without_fragmentation_gets_whole_messages() -> None:
    config = replace(client_config("certificate"), fragment_size=400)
    world = World(config=config, setup=GatewaySetup(auth="certificate", fragmentation=False))
    world.connect()
    assert len(world.log) == 4


def test_fragments_survive_loss_and_reordering() -> None:
    config = replace(client_config("certificate"), fragment_size=300)
    for seed in range(10):
        weather = Weather(loss=0.15, reordering=0.5, jitter=0.1)
        setup = GatewaySetup(auth="certificate", fragment_size=300)
        world = World(seed=seed, config=config, setup=setup, weather=weather)
        world.start()
        world.run(TIMEOUT + 1, World.finished)
        world.weather = Weather()
        world.run(60)
        assert_same_state(world)


def test_port_4500_is_tried_after_a_second_of_silence_on_500() -> None:
    world = World(drop=lambda sent: 500 in (sent.path.remote_port, sent.path.local_port))
    world.connect()
    assert 1.2 < world.now < 2.0
    assert {sent.path.remote_port for sent in world.log if sent.to_gateway} == {500, 4500}


def test_port_4500_gets_an_exchange_of_its_own() -> None:
    world = World(drop=lambda sent: 500 in (sent.path.remote_port, sent.path.local_port))
    world.start()
    world.run(1.3)
    on_500, on_4500 = ({s.data[:8] for s in world.log if s.path.remote_port == port} for port in (500, 4500))
    assert len(on_500) == len(on_4500) == 1
    assert on_500 != on_4500


def test_a_gateway_that_answers_on_500_is_not_bothered_on_4500_before_authentication_moves_there() -> None:
    world = World(weather=Weather(delay=0.5))
    world.connect()
    assert {s.data[18] for s in world.log if s.path.remote_port == 4500} == {35}


def test_another_port_is_the_only_one() -> None:
    world = World(path=replace(PATH, remote_port=4500), drop=lambda _: True)
    world.start()
    world.run(TIMEOUT + 1)
    assert {s.path.remote_port for s in world.log} == {4500}
    assert isinstance(world.error, NoResponse)


def test_the_events_tell_the_story_in_order() -> None:
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    world.connect()
    kinds = [type(event).__name__ for event in world.events]
    assert kinds == [
        "Progress",
        "Progress",
        "PathChanged",
        "IkeEstablished",
        "Notice",
        "Configuration",
        "ChildEstablished",
    ]
    steps = [event.step for event in world.events if isinstance(event, Progress)]
    assert steps == ["negotiating", "authenticating"]
    (moved,) = [event for event in world.events if isinstance(event, PathChanged)]
    assert moved.path == replace(PATH, remote_port=4500)
    (up,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    assert (up.gateway_identity, up.rekeyed, up.fragmentation) == ("vpn.example.com", False, True)
    (assigned,) = [event for event in world.events if isinstance(event, Configuration)]
    assert [str(address) for address in assigned.addresses] == ["10.88.0.1/32"]
    (child,) = world.installed().values()
    assert [str(selector) for selector in child.local_selectors] == ["10.88.0.1/32"]
    assert [str(selector) for selector in child.remote_selectors] == ["10.99.0.0/24"]


def test_a_person_is_asked_for_the_password() -> None:
    config = client_config("eap")
    asked = replace(config, auth=replace(config.auth, password=None))
    world = World(config=asked, setup=GatewaySetup(auth="eap"), credential="wonderland")
    world.connect()
    (need,) = [event for event in world.events if isinstance(event, Need)]
    assert need.kind == NeedKind.PASSWORD
    assert "alice" in need.request


def test_a_need_that_is_refused_ends_the_login_and_the_gateway_is_told() -> None:
    """G1: at once, rather than when the gateway or we run out of time."""
    config = client_config("eap")
    world = World(config=replace(config, auth=replace(config.auth, password=None)), setup=GatewaySetup(auth="eap"))
    world.start()
    assert world.run(5, lambda w: any(isinstance(event, Need) for event in w.events))
    (need,) = [event for event in world.events if isinstance(event, Need)]
    error, sent = NegotiationRefused("nobody is there"), len(world.log)
    world.at_client(lambda client, now: client.refuse(need, error, now))
    assert world.run(3, lambda w: w.closed)
    assert world.error is error
    assert any(each.to_gateway for each in world.log[sent:])
    assert not world.connected


def test_timers_go_on_while_a_need_is_unanswered() -> None:
    """A person has more time than a gateway, but not for ever."""
    config = altered(client_config("eap"), timeout=8.0)
    world = World(config=replace(config, auth=replace(config.auth, password=None)), setup=GatewaySetup(auth="eap"))
    world.start()
    assert world.run(300, lambda w: w.closed)
    assert world.now == pytest.approx(PERSON, abs=1)
    assert isinstance(world.error, NoResponse)


def test_a_need_is_answered_once_and_another_one_is_not_mistaken_for_it() -> None:
    config = client_config("eap")
    world = World(config=replace(config, auth=replace(config.auth, password=None)), setup=GatewaySetup(auth="eap"))
    world.start()
    assert world.run(5, lambda w: any(isinstance(event, Need) for event in w.events))
    (need,) = [event for event in world.events if isinstance(event, Need)]
    alike = Need(kind=need.kind, request=need.request)
    sent = len(world.log)
    world.at_client(lambda client, now: client.supply(alike, "wonderland", now))
    world.at_client(lambda client, now: client.refuse(alike, NegotiationRefused("no"), now))
    assert len(world.log) == sent
    world.at_client(lambda client, now: client.supply(need, "wonderland", now))
    world.at_client(lambda client, now: client.refuse(need, NegotiationRefused("too late"), now))
    assert world.run(5, World.finished)
    assert world.connected


def test_a_wrong_password_from_a_person_fails() -> None:
    config = client_config("eap")
    asked = replace(config, auth=replace(config.auth, password=None))
    world = World(config=asked, setup=GatewaySetup(auth="eap"), credential="looking-glass")
    world.start()
    assert world.run(10, lambda w: w.closed)
    assert isinstance(world.error, AuthenticationFailed)
