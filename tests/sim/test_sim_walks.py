"""The walks of `ARCHITECTURE.md`, followed call by call through whole tunnels, so that none of them becomes longer.

A walk is the way of one thing that happens, as a reader follows it: the functions that decide or change something, in
their order. A room is a file that it passes, a return is where it comes back into one. `LEAVES` are no rooms: files
that are called for a value, or once for everything that happens, whatever it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest
from sim_tunnel import TunnelWorld, play, profile
from sim_world import altered, client_config
from test_sim_tunnel import CABLE, MOBILE

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = str(ROOT / "ikeclient") + "/"
GATEWAY = str(ROOT / "tests" / "sim" / "sim_gateway.py")  # which is made of the same code

LEAVES: dict[str, str] = {
    "lazy_dataclass.py": "makes a class when it is first used",
    "wire/": "bytes to values",
    "crypto/": "bytes to bytes",
    "esp/": "the walk of a datagram",
    "ike/v2/message/": "protects and numbers a message",
    "ike/v2/rules/": "decisions as functions of their arguments",
    "ike/v2/tasks.py": "a queue, and the exchange that is resumed from it",
    "ike/v2/requester.py": "a table from jobs to exchanges",
    "ike/v2/responder.py": "its record of what is asked for",
    "ike/v2/ike_sas.py": "a list of IKE SAs",
    "ike/v2/lifetimes.py": "timers",
    "ike/v2/schedule.py": "timers",
    "ike/v2/ending.py": "a record",
    "ike/v2/succession.py": "a record",
    "ike/v2/state.py": "a table",
    "ike/timers.py": "timers",
    "ike/observation.py": "logging",
    "ike/events.py": "values",
    "control/": "values",
    "dataplane/sender.py": "the walk of a packet",
    "dataplane/slow_path.py": "the walk of a datagram",
    "dataplane/not_esp.py": "the walk of a datagram",
    "dataplane/receiver.py": "the walk of a datagram",
    "dataplane/fast_path.py": "the walk of a datagram",
    "dataplane/children.py": "a list of Child SAs",
    "dataplane/bulk.py": "a value",
    "dataplane/limits.py": "values",
    "net/": "the machine",
    "tunnel/protocol_log.py": "logging",
    "tunnel/links.py": "a list of links",
    "tunnel/script.py": "resumes what waits",
    "tunnel/wakeups.py": "a set",
    "tunnel/state.py": "a table",
    "tunnel/status.py": "a record",
    "tunnel/status_events.py": "a list of events",
    "tunnel/hooks.py": "hears of every event",
    "tunnel/ports.py": "values",
    "tunnel/sa_pair.py": "one value from another",
    "tunnel/path_search.py": "a value",
    "tunnel/machine_config.py": "one value from another",
    "tunnel/routes.py": "one value from another",
    "tunnel/housekeeping.py": "asked after everything that happens when to look again",
    "tunnel/data_keeper.py": "asked after everything that happens when to look again",
    "tunnel/data_path.py": "asked after everything that happens when to look again",
}
# What is asked for after everything that happens, or at every timer: a walk does not pass there.
ASKED = frozenset({"deadline", "next_deadline", "next_look", "searching", "deaf", "overflows"})
NOT_SIMULATED = frozenset({"net/watch/monitor.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The heading in `ARCHITECTURE.md`, what is passed in order, and how much of that there may be.

    A step without a function is where a function that was passed goes on.
    """

    heading: str
    steps: tuple[tuple[str, str], ...]
    most_rooms: int
    most_returns: int
    apart: dict[str, str] = field(default_factory=dict)  # leaves of this walk alone

    @property
    def rooms(self) -> list[str]:
        return list(dict.fromkeys(file for file, _ in self.steps))

    @property
    def returns(self) -> int:
        files = [file for file, _ in self.steps]
        entered = [file for before, file in zip(["", *files], files, strict=False) if file != before]
        return len(entered) - len(self.rooms)


MOVE = Walk(
    heading="A MOBIKE move.",
    steps=(
        ("net/watch/monitor.py", "_look"),
        ("tunnel/driver.py", "_network_changed"),
        ("tunnel/tunnel.py", "network_changed"),
        ("tunnel/roaming.py", "changed"),
        ("tunnel/link.py", "move"),
        ("ike/v2/initiator.py", "path_changed"),
        ("ike/v2/ike_sa.py", "move"),
        ("ike/v2/exchanges/mobike.py", "update_addresses"),
        ("tunnel/tunnel.py", "_report"),
        ("tunnel/session.py", "handle"),
        ("tunnel/link.py", "follow"),
        ("dataplane/pump.py", "set_remote"),
        ("tunnel/driver.py", "_ike_came"),
        ("tunnel/tunnel.py", "receive"),
        ("tunnel/link.py", "receive"),
        ("ike/v2/initiator.py", "receive"),
        ("ike/v2/ike_sa.py", "receive"),
        ("ike/v2/exchanges/mobike.py", "update_addresses"),
        ("tunnel/tunnel.py", "_report"),
        ("tunnel/roaming.py", "handle"),
        ("tunnel/session.py", "configure"),
        ("tunnel/arrangement.py", "apply"),
        ("tunnel/roaming.py", ""),
        ("tunnel/path_mtu.py", "begin"),
    ),
    most_rooms=12,
    most_returns=15,
)
REKEY = Walk(
    heading="A Child rekey.",
    steps=(
        ("tunnel/driver.py", "_expired"),
        ("tunnel/tunnel.py", "handle_timer"),
        ("tunnel/link.py", "handle_timer"),
        ("ike/v2/initiator.py", "handle_timer"),
        ("ike/v2/ike_sa.py", "handle_timer"),
        ("ike/v2/child/table.py", "rekey_due"),
        ("ike/v2/ike_sa.py", "rekey_child"),
        ("ike/v2/exchanges/rekey_child.py", "rekey_child"),
        ("tunnel/driver.py", "_ike_came"),
        ("tunnel/tunnel.py", "receive"),
        ("tunnel/link.py", "receive"),
        ("ike/v2/initiator.py", "receive"),
        ("ike/v2/ike_sa.py", "receive"),
        ("ike/v2/exchanges/rekey_child.py", "rekey_child"),
        ("ike/v2/child/child_sa.py", "agreed"),
        ("ike/v2/ike_sa.py", "_finished"),
        ("ike/v2/child/table.py", "add"),
        ("ike/v2/ike_sa.py", "_delete_child"),
        ("ike/v2/exchanges/informational.py", "delete_children"),
        ("tunnel/tunnel.py", "_report"),
        ("tunnel/session.py", "handle"),
        ("dataplane/pump.py", "install"),
    ),
    most_rooms=14,
    most_returns=12,
)
RECONNECT = Walk(
    heading="A reconnect.",
    steps=(
        ("tunnel/driver.py", "reconnect"),
        ("tunnel/tunnel.py", "reconnect"),
        ("tunnel/link.py", "close"),
        ("ike/v2/initiator.py", "close"),
        ("ike/v2/ike_sa.py", "delete"),
        ("ike/v2/exchanges/informational.py", "informational"),
        ("tunnel/driver.py", "_ike_came"),
        ("tunnel/tunnel.py", "receive"),
        ("tunnel/link.py", "receive"),
        ("ike/v2/initiator.py", "receive"),
        ("ike/v2/ike_sa.py", "receive"),
        ("tunnel/tunnel.py", "_drop"),
        ("tunnel/connecting.py", "drop"),
        ("tunnel/session.py", "lose"),
        ("dataplane/pump.py", "remove"),
        ("tunnel/tunnel.py", ""),
        ("tunnel/retries.py", "lost"),
        ("tunnel/tunnel.py", "_pause"),
        ("tunnel/connecting.py", "again"),
        ("tunnel/gateway.py", "try_host"),
        ("tunnel/connecting.py", ""),
        ("tunnel/link.py", "start"),
        ("ike/v2/initiator.py", "start"),
        ("ike/v2/handshake.py", "_begin"),
        ("tunnel/driver.py", "_ike_came"),
        ("tunnel/tunnel.py", "receive"),
        ("tunnel/link.py", "receive"),
        ("ike/v2/initiator.py", "receive"),
        ("ike/v2/handshake.py", "receive"),
        ("tunnel/tunnel.py", "_report"),
        ("tunnel/session.py", "_bring_up"),
        ("tunnel/arrangement.py", "apply"),
        ("tunnel/tunnel.py", "_look_after"),
        ("tunnel/roaming.py", "established"),
        ("tunnel/path_mtu.py", "begin"),
        ("tunnel/tunnel.py", ""),
        ("tunnel/reconfigure.py", "connected"),
    ),
    apart={
        "ike/v2/": "the login",
        "ike/after_refusal.py": "the login",
        "profile/compiled.py": "a value",
        "dataplane/reception.py": "the walk of a datagram",
    },
    most_rooms=16,
    most_returns=21,
)
WALKS = (MOVE, REKEY, RECONNECT)

Trace = list[tuple[str, str]]


@contextmanager
def followed(trace: Trace) -> Iterator[None]:
    """Write down every call into the package that is not the gateway's."""

    def called(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event != "call" or not file.startswith(PACKAGE):
            return
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_filename == GATEWAY:
                return
            caller = caller.f_back
        if not frame.f_code.co_name.startswith("<"):  # a comprehension is no function
            trace.append((file.removeprefix(PACKAGE), frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield
    finally:
        sys.setprofile(before)


def check(walk: Walk, trace: Trace) -> None:
    """The walk is what was passed: all of its steps, in order, and no room besides."""
    rest = iter(trace)
    for step in walk.steps:
        if step[1] and step[0] not in NOT_SIMULATED:
            assert any(passed == step for passed in rest), step
    leaves = (*LEAVES, *walk.apart)
    passed = {file for file, name in trace if not file.startswith(leaves) and name not in ASKED}
    assert passed - set(walk.rooms) == set()


def played(scenario: Callable[[TunnelWorld], Coroutine[None, None, None]], **given: float) -> None:
    play(scenario, setup=MOBILE, with_profile=profile(altered(client_config(), **given)))  # type: ignore[arg-type]


def test_a_move() -> None:
    trace: Trace = []

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        counts = world.connection.session.status.counts
        with followed(trace):
            world.network.move(CABLE)
            await world.until(lambda: counts.roams == 1, 5)
        await world.stop()

    played(scenario)
    check(MOVE, trace)


def test_a_child_rekey() -> None:
    trace: Trace = []

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        status, connection = world.connection.session.status, world.connection
        await world.until(lambda: "mtu" in world.heard or world.loop.now > 100, 200)
        (child,) = status.children.values()
        await world.until(lambda: child.rekey_at - world.loop.now < 0.1, 1000)
        with followed(trace):
            await world.until(lambda: status.counts.child_rekeys == 1, 5)
        assert connection.tunnel.links.established is not None
        await world.stop()

    played(scenario, rekey_ike=60_000.0, rekey_child=600.0, liveness=0.0)
    check(REKEY, trace)


def test_a_reconnect() -> None:
    trace: Trace = []

    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        counts = world.connection.session.status.counts
        with followed(trace):
            world.connection.reconnect()
            await world.until(lambda: counts.reconnects == 1, 30)
        await world.stop()

    played(scenario)
    check(RECONNECT, trace)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.heading)
def test_a_walk_is_short(walk: Walk) -> None:
    assert len(walk.rooms) <= walk.most_rooms
    assert walk.returns <= walk.most_returns


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.heading)
def test_its_rooms_are_named_where_it_is_described(walk: Walk) -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, _, after = text.partition(f"**{walk.heading}**")
    paragraph = after.partition("\n\n")[0]
    assert [room for room in walk.rooms if f"`{room}`" not in paragraph] == []
