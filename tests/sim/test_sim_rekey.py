"""Rekeys and deletions by both ends, crossing each other in every kind of network (S7).

After any schedule both ends hold the same SAs, or the client has said that it is down. While only rekeys are going on
there is, at every moment, at least one Child SA that both ends have, so that packets can pass.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_gateway import ESP_GCM, GatewaySetup, ipv4
from sim_world import PATH, Sent, Weather, World, altered, assert_same_state, client_config, mirrored, reverse

from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE
from ikeclient.errors import NoResponse
from ikeclient.ike.events import ChildClosed, ChildEstablished, IkeEstablished, Notice
from ikeclient.ike.v2.child.table import TRIES
from ikeclient.ike.v2.ike_sa import NARROWED, IkeSa
from ikeclient.ike.v2.state import State
from ikeclient.wire.selector import TrafficSelector

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
FAIR = Weather()
ROUGH = Weather(loss=0.1, duplication=0.2, reordering=0.3, jitter=0.05)
STORM = Weather(loss=0.3, duplication=0.3, reordering=0.5, jitter=0.2)


def child_of(sa: IkeSa) -> int:
    return next((child.spi_in for child in sa.children if sa.children.rekeyable(child.spi_in)), 0)


ACTIONS: dict[str, Callable[[World], None]] = {
    "client rekeys the child": lambda w: w.at_client(lambda c, now: c.rekey_child(child_of(w.sa), now)),
    "gateway rekeys the child": lambda w: w.at_gateway(lambda sa, now: sa.rekey_child(child_of(sa), now)),
    "client rekeys the IKE SA": lambda w: w.at_client(lambda c, now: c.rekey(now)),
    "gateway rekeys the IKE SA": lambda w: w.at_gateway(lambda sa, now: sa.rekey(now)),
    "client checks liveness": lambda w: w.at_client(lambda c, now: c.check_liveness(now)),
    "client probes the path": lambda w: w.at_client(lambda c, now: c.probe_path(1400, now)),
    "client's path is narrow": lambda w: w.at_client(lambda c, now: c.set_path_mtu(700)),
    "gateway checks liveness": lambda w: w.at_gateway(lambda sa, now: sa.check_liveness(now)),
    "client moves": lambda w: moved(w),
    "client closes": lambda w: w.at_client(lambda c, now: c.close(now)),
    "gateway closes": lambda w: w.at_gateway(lambda sa, now: sa.delete(now)),
    "gateway deletes the child": lambda w: w.at_gateway(lambda sa, now: sa._delete_child(child_of(sa), now)),
}
REKEYS = [name for name in ACTIONS if "rekeys" in name]
HARMLESS = [name for name in ACTIONS if any(word in name for word in ("rekeys", "liveness", "moves", "probes"))]
PATHS = [replace(PATH, local_address=ip_address(f"192.0.2.{n}"), remote_port=4500) for n in (10, 20, 30)]


def moved(world: World) -> None:
    """The client goes to the next of three networks; what is on its way from or to the others is lost."""
    here = world.path = PATHS[(PATHS.index(world.path) + 1) % 3] if world.path in PATHS else PATHS[1]
    world.at_client(lambda client, now: client.path_changed(here, now))


def gone(world: World, sent: Sent) -> bool:
    """Whether a datagram belongs to a network that the client has left."""
    path = sent.path if sent.to_gateway else reverse(sent.path)
    return world.connected and path.local_address != world.path.local_address


def some_child_is_shared(world: World) -> None:
    """Packets can pass: at least one Child SA of the client's data plane exists at the gateway, with the same keys."""
    if world.closed:
        return
    at_gateway = {mirrored(child) for child in world.gateway_sa.children}
    ours = {(c.spi_in, c.spi_out, c.suite, c.keys.inbound, c.keys.outbound) for c in world.installed().values()}
    assert ours & at_gateway, "no Child SA in common"


def played(
    names: Sequence[str], gaps: Sequence[float], weather: Weather, seed: int = 0, *, watch: bool = True
) -> World:
    """Connect in fair weather, let things happen in this weather, then wait in fair weather until all is quiet."""
    config = altered(client_config(), liveness=10.0)
    world = World(seed=seed, config=config, setup=GatewaySetup(liveness=10.0, mobike=True))
    world.lost = gone
    world.connect()
    world.run(1)
    world.weather = weather
    world.watch = some_child_is_shared if watch else world.watch
    when = world.now
    for name, gap in zip(names, gaps, strict=True):
        when += gap
        world.at(when, lambda name=name: None if world.closed else ACTIONS[name](world))
    world.run(when - world.now + 30)
    world.weather = Weather(delay=weather.delay)
    world.run(100)  # whatever was refused is tried again, whatever lingers is deleted
    world.run(300, lambda w: w.closed or w.quiet)
    return world


GAPS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.3) if DEEP else (0.0, 0.03, 0.1)


@pytest.mark.parametrize("weather", [FAIR, ROUGH, STORM], ids=["fair", "rough", "storm"])
@pytest.mark.parametrize("names", list(itertools.product(REKEYS, repeat=2)), ids=" + ".join)
def test_two_rekeys_leave_the_same_sas_at_both_ends(names: tuple[str, str], weather: Weather) -> None:
    for gap, seed in itertools.product(GAPS, range(10 if DEEP else 1)):
        world = played(names, (0.0, gap), weather, seed)
        assert_same_state(world)
        if weather is not STORM:
            assert not world.closed, world.error and world.error.lines()


@pytest.mark.parametrize("second", ["client closes", "gateway closes", "gateway deletes the child"])
@pytest.mark.parametrize("first", REKEYS)
def test_a_rekey_that_crosses_an_end_leaves_nothing_behind(first: str, second: str) -> None:
    for order, gap in itertools.product(((first, second), (second, first)), GAPS):
        for weather in (FAIR, ROUGH):
            world = played(order, (0.0, gap), weather, watch=False)
            assert_same_state(world, fewest=0)
            assert world.closed or second == "gateway deletes the child"
            if world.closed:
                assert (world.error is None) == (second == "client closes")
                assert all(ike_sas.current.state is State.CLOSED for ike_sas in world.gateway.connected)


@pytest.mark.parametrize("rekey", ["client rekeys the IKE SA", "gateway rekeys the IKE SA"])
def test_a_rekeyed_ike_sa_knows_what_the_path_carries(rekey: str) -> None:
    world = played(("client's path is narrow", rekey), (0.0, 0.1), FAIR)
    assert (world.sa.channel._configured_size, world.sa.channel._fragment_size) == (1280, 700)


@pytest.mark.parametrize("weather", [FAIR, ROUGH, STORM], ids=["fair", "rough", "storm"])
@pytest.mark.parametrize("other", HARMLESS)
def test_a_move_that_crosses_anything_ends_on_the_new_path_with_the_same_sas(other: str, weather: Weather) -> None:
    """The Child SA and the IKE SA move together; what was asked on the old path is asked again on the new one."""
    for gap, order in itertools.product(GAPS, (("client moves", other), (other, "client moves"))):
        world = played(order, (0.0, gap), weather)
        if not world.closed:
            assert_same_state(world)
            assert world.sa.channel.path.local_address == world.path.local_address
            assert world.gateway_sa.channel.path == reverse(world.sa.channel.path)
        assert weather is STORM or not world.closed, world.error and world.error.lines()


@given(
    names=st.lists(st.sampled_from(HARMLESS), min_size=1, max_size=6),
    data=st.data(),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.0, 0.1, 0.2, 0.3]),
    duplication=st.sampled_from([0.0, 0.3]),
    reordering=st.sampled_from([0.0, 0.5]),
    delay=st.sampled_from([0.002, 0.02, 0.3]),
)
def test_any_schedule_of_rekeys_ends_in_the_same_state(
    names: list[str], data: st.DataObject, seed: int, loss: float, duplication: float, reordering: float, delay: float
) -> None:
    gaps = data.draw(st.lists(st.floats(0, 0.5), min_size=len(names), max_size=len(names)))
    weather = Weather(loss=loss, duplication=duplication, reordering=reordering, delay=delay, jitter=delay)
    world = played(names, gaps, weather, seed)
    assert_same_state(world)
    if world.closed:
        assert isinstance(world.error, NoResponse)
        assert loss


@given(
    names=st.lists(st.sampled_from(list(ACTIONS)), min_size=2, max_size=5),
    data=st.data(),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.3]),
    reordering=st.sampled_from([0.0, 0.5]),
)
def test_any_schedule_with_ends_leaves_both_ends_in_the_same_state_or_the_client_down(
    names: list[str], data: st.DataObject, seed: int, loss: float, reordering: float
) -> None:
    gaps = data.draw(st.lists(st.floats(0, 0.3), min_size=len(names), max_size=len(names)))
    weather = Weather(loss=loss, duplication=0.2, reordering=reordering, jitter=0.05)
    world = played(names, gaps, weather, seed, watch=False)
    assert_same_state(world, fewest=0)
    if not world.closed:  # the next packet is all it takes
        world.at_client(lambda client, now: client.make_child(now))
        world.run(300, lambda w: w.closed or w.quiet)
        assert_same_state(world)


@pytest.mark.parametrize("name", REKEYS)
def test_the_loss_of_any_one_datagram_of_a_rekey_only_delays_it(name: str) -> None:
    """The last one of each exchange among them: the answer to the final DELETE."""
    lossless = World()
    lossless.connect()
    before = len(lossless.log)
    ACTIONS[name](lossless)
    lossless.run(1)
    assert len(lossless.log) - before == 4  # the rekey and the DELETE of what it replaced
    for lost in range(4):
        world = World()
        world.connect()
        world.watch = some_child_is_shared
        world.drop = lambda sent, lost=lost: sent.number == before + lost
        ACTIONS[name](world)
        world.run(5)
        assert world.quiet
        assert_same_state(world)
        assert world.sa.keying.spi_i == world.gateway_sa.keying.spi_i


def test_crossing_rekeys_of_a_child_leave_the_one_without_the_lowest_nonce() -> None:
    """Both ends announce the survivor, and the redundant one is deleted by who made it (section 2.8.1)."""
    for seed in range(8):
        world = World(seed=seed)
        world.connect()
        old = child_of(world.sa)
        ACTIONS["client rekeys the child"](world)
        ACTIONS["gateway rekeys the child"](world)
        world.run(2)
        assert_same_state(world)
        established = [event for event in world.events if isinstance(event, ChildEstablished)]
        closed = [event for event in world.events if isinstance(event, ChildClosed)]
        assert established[0].spi_in == old
        assert established[1].replaces == old
        if len(established) == 3:  # ours survived
            assert established[2].replaces == established[1].spi_in
            assert {event.spi_in for event in closed} == {old, established[1].spi_in}
        assert all(event.replaced for event in closed)


def test_both_outcomes_of_crossing_rekeys_happen() -> None:
    outcomes = set()
    for seed in range(8):
        world = World(seed=seed)
        world.connect()
        ACTIONS["client rekeys the IKE SA"](world)
        ACTIONS["gateway rekeys the IKE SA"](world)
        world.run(2)
        assert_same_state(world)
        outcomes.add(world.sa.keying.initiator)
        assert len([event for event in world.events if isinstance(event, IkeEstablished) and event.rekeyed]) == 1
        assert not world.client._ike_sas.leaving  # type: ignore[union-attr]
    assert outcomes == {True, False}


def test_a_rekeyed_ike_sa_goes_on_rekeying_its_children() -> None:
    world = World()
    world.connect()
    for name in REKEYS * 2:
        ACTIONS[name](world)
        world.run(2)
        assert_same_state(world)
    assert not world.closed


def test_a_child_is_rekeyed_by_the_successor_when_the_ike_sa_went_first() -> None:
    """A rekey of a Child SA that waits behind one of the IKE SA is not lost, and uses the successor's keys."""
    world = World()
    world.connect()
    old = child_of(world.sa)
    ACTIONS["client rekeys the IKE SA"](world)
    ACTIONS["client rekeys the child"](world)
    world.run(2)
    assert_same_state(world)
    assert child_of(world.sa) != old


def test_a_child_and_the_ike_sa_rekeyed_by_different_ends_are_both_refused_and_tried_again() -> None:
    """Section 2.25: TEMPORARY_FAILURE, then both succeed, because the pauses differ."""
    world = World()
    world.connect()
    spi_i, child = world.sa.keying.spi_i, child_of(world.sa)
    ACTIONS["client rekeys the IKE SA"](world)
    ACTIONS["gateway rekeys the child"](world)
    world.run(1)
    assert (world.sa.keying.spi_i, child_of(world.sa)) == (spi_i, child)
    world.run(30)
    assert world.sa.keying.spi_i != spi_i
    assert child_of(world.sa) != child
    assert_same_state(world)


@pytest.mark.parametrize("name", REKEYS[:2])
def test_a_rekey_with_a_fresh_key_exchange(name: str) -> None:
    groups = (KEY_EXCHANGE["x25519"], KEY_EXCHANGE["ecp256"])
    config = altered(client_config(), esp_proposals=(replace(ESP_GCM, key_exchange=groups),))
    for theirs in groups:
        setup = GatewaySetup(esp_proposals=(replace(ESP_GCM, key_exchange=(theirs,)),))
        world = World(config=config, setup=setup)
        world.connect()
        ACTIONS[name](world)
        world.run(2)
        assert_same_state(world)
        (child,) = world.installed().values()
        assert child.suite.key_exchange == theirs


@pytest.mark.parametrize("name", REKEYS[:2])
def test_a_gateway_that_insists_on_a_key_exchange_gets_one_of_the_ike_sa(name: str) -> None:
    """Field practice: the first Child SA hides that the gateway's proposals name a group, the rekey shows it."""
    setup = GatewaySetup(esp_proposals=(replace(ESP_GCM, key_exchange=(KEY_EXCHANGE["x25519"],)),))
    world = World(setup=setup)
    world.connect()
    old = child_of(world.sa)
    ACTIONS[name](world)
    world.run(2)
    assert_same_state(world)
    assert child_of(world.sa) != old
    (child,) = world.installed().values()
    assert child.suite.key_exchange == KEY_EXCHANGE["x25519"]


def test_lifetimes_make_the_client_rekey_by_itself() -> None:
    config = altered(client_config(), rekey_child=100.0, rekey_ike=350.0)
    world = World(config=config)
    world.connect()
    world.run(1000)
    rekeys = [event for event in world.events if isinstance(event, IkeEstablished) and event.rekeyed]
    children = [event for event in world.events if isinstance(event, ChildEstablished) and event.replaces]
    assert len(rekeys) in (2, 3)
    assert len(children) in (10, 11)
    assert_same_state(world)


def test_both_ends_with_the_same_lifetimes_stay_together() -> None:
    config = altered(client_config(), rekey_child=60.0, rekey_ike=90.0)
    for seed in range(4):
        setup = GatewaySetup(rekey_child=60.0, rekey_ike=90.0)
        world = World(seed=seed, config=config, setup=setup, weather=Weather(delay=1.0))
        world.connect()
        world.watch = some_child_is_shared
        world.run(600)
        world.gateway_sa.lifetimes.stop()
        world.run(100, lambda w: w.closed or w.quiet)
        assert not world.closed, world.error and world.error.lines()
        assert_same_state(world)


HALVES = (ipv4("10.99.0.0/25"), ipv4("10.99.0.128/25"))


def gateway_selects(world: World, *selectors: TrafficSelector) -> None:
    """Let the gateway's end of the only Child SA have other selectors for the network behind it."""
    (child,) = world.gateway_sa.children
    world.gateway_sa.children._records[child.spi_in].child = replace(child, local=selectors)


def test_a_gateway_may_rekey_with_its_selectors_split() -> None:
    """RFC 7296 section 2.9.2: the halves are together no narrower than what was agreed."""
    world = World()
    world.connect()
    before = set(world.installed())
    gateway_selects(world, *HALVES)
    ACTIONS["gateway rekeys the child"](world)
    world.run(10)
    (child,) = world.installed().values()
    assert {child.spi_in} != before
    assert child.remote_selectors == HALVES
    assert_same_state(world)


def test_a_gateway_that_narrows_our_rekey_leaves_the_old_child_in_use() -> None:
    """RFC 7296 section 2.9.2: the machine's routes would lead packets to where they are dropped."""
    world = World()
    world.connect()
    before = world.installed()
    gateway_selects(world, HALVES[0])
    ACTIONS["client rekeys the child"](world)
    world.run(40)
    assert world.installed() == before
    assert {child.spi_in for child in world.sa.children} == set(before)
    assert [event.text for event in world.events if isinstance(event, Notice)] == [NARROWED]
    assert not world.closed
    world.run(60)
    assert not world.installed(), "the gateway has given up the old one"
    for _ in range(TRIES):
        world.at_client(lambda client, now: client.make_child(now))
        world.run(10)
    assert world.closed, "a new connection takes what the gateway carries now"
    assert isinstance(world.error, NoResponse)
