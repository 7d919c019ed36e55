"""Which addresses a tunnel uses, and where it asks whether the gateway is there (S19, K22)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from types import SimpleNamespace
from typing import Any

import pytest

from ikeclient.ike.events import (
    Configuration,
    GatewayAddresses,
    HeardElsewhere,
    IPAddress,
    NatStatus,
    Path,
    PathChanged,
    Roamed,
)
from ikeclient.net.watch.snapshot import Change, OuterAddress, Snapshot
from ikeclient.tunnel.roaming import PROBES, PROBES_EACH, SILENT, ProbeBudget, Roaming, is_silent
from ikeclient.tunnel.state import Input, State
from ikeclient.tunnel.status import InnerNetwork, Life, Status
from ikeclient.tunnel.status_events import StatusEvents

WIFI, CABLE = ip_address("192.0.2.10"), ip_address("198.51.100.10")
GATEWAY, SECOND = ip_address("203.0.113.7"), ip_address("203.0.113.8")
HERE = Path(WIFI, 40000, GATEWAY, 4500)
NO_NAT = NatStatus(local=False, remote=False)


class Monitor:
    """A network whose interfaces all lead everywhere; the first one is the kernel's choice."""

    def __init__(self) -> None:
        self.ours = [WIFI]

    def watch(self, *remotes: IPAddress) -> None:
        self.watched = remotes

    @property
    def snapshot(self) -> Snapshot:
        addresses = (OuterAddress(index=n, interface=f"if{n}", address=a) for n, a in enumerate(self.ours, 1))
        return Snapshot(addresses=tuple(addresses))

    def sources_for(self, remote: IPAddress) -> tuple[OuterAddress, ...]:
        return tuple(each for each in self.snapshot.addresses if each.address.version == remote.version)


@dataclass
class Link:
    """A connection that writes down where it is told to go."""

    path: Path = HERE
    established: bool = True
    can_move: bool = True
    unanswered_since: float | None = None
    last_heard: float = float("-inf")
    moves: list[tuple[IPAddress, IPAddress, bool]] = field(default_factory=list)
    abandoned: bool = False

    @property
    def ike(self) -> Any:
        return self

    def move(self, local: IPAddress, remote: IPAddress, *, proven: bool) -> bool:
        if self.can_move:
            self.moves.append((local, remote, proven))
            if proven:
                self.follow(replace(self.path, local_address=local, remote_address=remote))
        return self.can_move

    def follow(self, path: Path) -> None:
        self.path = path

    def check_liveness(self, now: float, *, suspicious: bool = False) -> None: ...

    def abandon(self) -> None:
        self.abandoned = True


class Pump:
    is_deaf = False

    def deaf(self) -> bool:
        return self.is_deaf


class Session:
    arrangement = SimpleNamespace(mtu_stated=True)  # nothing is measured

    def __init__(self, clock: Callable[[], float]) -> None:
        self.ports = SimpleNamespace(clock=clock)
        self.pump = Pump()
        self.status = Status(name="work", life=Life(state=State.CONNECTED, word="connected"))
        self.said: list[dict[str, object]] = []
        self.events = StatusEvents(self.status, self.said)

    def configure(self, opened: Link) -> None: ...

    def confirm(self, path: Path) -> bool:
        return (path.local_address, path.remote_address) != (WIFI, GATEWAY)

    def handle(self, event: PathChanged, opened: Link) -> None:
        opened.follow(event.path)

    def tell_connected(self, took: int) -> None:
        self.events.emit("connected", elapsed_ms=took)


class Rig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.monitor = Monitor()
        self.link, self.session = Link(), Session(lambda: self.now)
        connection: Any = self.link
        session: Any = self.session
        links: Any = SimpleNamespace(established=connection)
        monitor: Any = self.monitor
        self.roaming = Roaming(links, session, monitor)
        self.opened = connection
        self.roaming.established(connection, [GATEWAY])

    def announce(self, *addresses: IPAddress) -> None:
        self.roaming.handle(GatewayAddresses(addresses=addresses), self.opened)

    def heard_at(self, address: IPAddress) -> None:
        self.roaming.handle(HeardElsewhere(address=address), self.opened)

    def silence(self, seconds: float) -> None:
        """The gateway answers nothing for so long."""
        self.link.unanswered_since = self.now
        for _ in range(round(seconds)):
            self.now += 1.0
            self.roaming.look_after(self.opened, self.now, swallowed=False)

    def answers(self, remote: IPAddress, local: IPAddress = WIFI) -> None:
        self.link.unanswered_since = None
        path = replace(HERE, local_address=local, remote_address=remote)
        self.roaming.handle(Roamed(path=path, nat=NO_NAT), self.opened)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_new_address_of_ours_is_used_at_once_towards_where_the_gateway_was_heard(rig: Rig) -> None:
    rig.monitor.ours = [CABLE, WIFI]
    rig.roaming.changed(Change())
    assert rig.link.moves == [(CABLE, GATEWAY, True)]
    assert rig.link.path.local_address == CABLE


def test_traffic_goes_to_an_announced_address_only_after_an_answer_from_there(rig: Rig) -> None:
    """S19."""
    rig.announce(SECOND)
    rig.silence(SILENT + 1)
    assert rig.link.moves == [(WIFI, SECOND, False)]
    assert rig.link.path == HERE
    rig.answers(SECOND)
    assert rig.link.path.remote_address == SECOND
    assert rig.session.status.life.word == "connected"
    rig.monitor.ours = [CABLE]
    rig.roaming.changed(Change())
    assert rig.link.moves[-1] == (CABLE, SECOND, True), "where it has answered it is known"


@pytest.mark.parametrize("reason", ["answers get lost in a full receive buffer", "ESP comes"])
def test_nobody_is_called_silent_who_may_be_heard_any_moment(rig: Rig, reason: str) -> None:
    """N27, P14: a flood of junk at our own port."""
    rig.announce(SECOND)
    for _ in range(5):
        rig.session.pump.is_deaf = reason != "ESP comes"
        rig.link.last_heard = rig.now + 1.0 if reason == "ESP comes" else float("-inf")
        rig.silence(SILENT)
    assert rig.link.moves == []
    assert rig.session.status.life.word == "connected"
    rig.session.pump.is_deaf = False
    rig.silence(SILENT + 1)
    assert rig.session.status.life.word == "reconnecting"


def test_without_an_answer_elsewhere_it_is_asked_again_where_it_was_heard_last(rig: Rig) -> None:
    rig.announce(SECOND)
    rig.silence(3 * SILENT)
    assert [(remote, proven) for _, remote, proven in rig.link.moves] == [(SECOND, False), (GATEWAY, True)]


@pytest.mark.parametrize("how", ["it answers", "it confirms a move to where it was"])
def test_a_gateway_that_answers_again_where_it_was_ends_the_loss_that_was_told(rig: Rig, how: str) -> None:
    rig.silence(SILENT + 1)
    rig.link.unanswered_since = None
    rig.now += 2.0
    if how == "it answers":
        rig.roaming.look_after(rig.opened, rig.now, swallowed=False)
    else:
        rig.answers(GATEWAY)
    rig.roaming.look_after(rig.opened, rig.now, swallowed=False)
    assert [each["event"] for each in rig.session.said] == ["reconnecting", "connected"]
    assert rig.session.said[-1]["elapsed_ms"] == 3000
    assert rig.session.status.life.word == "connected"


def test_a_gateway_that_speaks_from_another_address_is_asked_there_before_traffic_follows(rig: Rig) -> None:
    rig.heard_at(SECOND)
    assert rig.link.moves == [(WIFI, SECOND, False)]
    assert SECOND in rig.monitor.watched
    assert rig.link.path == HERE
    rig.heard_at(ip_address("203.0.113.9"))  # one question at a time
    rig.answers(SECOND)
    assert rig.link.path == replace(HERE, remote_address=SECOND)
    rig.heard_at(GATEWAY)
    assert rig.link.moves == [(WIFI, SECOND, False), (WIFI, GATEWAY, True)]


def test_an_address_it_was_heard_at_is_not_asked_where_no_answer_can_be_of_use(rig: Rig) -> None:
    rig.heard_at(WIFI)  # our own
    rig.heard_at(ip_address("2001:db8::9"))  # no way there
    rig.link.can_move = False
    rig.heard_at(SECOND)
    rig.link.can_move = True
    rig.session.status.life.happens(Input.PATH_LOST)
    rig.heard_at(SECOND)  # a move is under way
    assert rig.link.moves == []


def test_a_gateway_that_seems_to_be_everywhere_is_asked_at_few_places(rig: Rig) -> None:
    for n in range(20, 60):
        rig.heard_at(ip_address(f"203.0.113.{n}"))
        rig.silence(SILENT + 2)
        rig.answers(GATEWAY)
    asked = [move for move in rig.link.moves if not move[2]]
    assert len(asked) <= PROBES + 1


def test_however_many_addresses_are_announced_few_are_asked_and_not_often(rig: Rig) -> None:
    """S19: for an hour a gateway announces eight new ones every ten seconds, and is silent half of the time."""
    asked: Counter[IPAddress] = Counter()
    for turn in range(360):
        base = ip_address("203.0.113.16") + 8 * (turn % 20)
        rig.announce(*(base + n for n in range(8)))
        before = len(rig.link.moves)
        rig.silence(5)
        asked.update(remote for _, remote, proven in rig.link.moves[before:] if not proven)
        rig.link.unanswered_since = None
        rig.now += 5
        assert rig.link.path == HERE, "no traffic went anywhere else"
    assert 0 < sum(asked.values()) <= PROBES + 12
    assert max(asked.values()) <= PROBES_EACH


def test_a_new_connection_does_not_bring_new_probes(rig: Rig) -> None:
    """S19: else the gateway deletes the IKE SA and announces the same ones again."""
    probed = 0
    for _ in range(20):
        rig.roaming.established(rig.opened, [GATEWAY])
        rig.announce(*(ip_address("203.0.113.16") + n for n in range(8)))
        rig.link.moves.clear()
        rig.silence(12)
        probed += sum(not proven for _, _, proven in rig.link.moves)
    assert 0 < probed <= PROBES + 1


def test_where_nothing_else_is_left_to_ask_a_new_connection_is_made(rig: Rig) -> None:
    """S19: the network leads to an address of the gateway's name only, and that was asked often enough."""
    named = ip_address("2001:db8::7")
    rig.roaming.established(rig.opened, [GATEWAY, named])
    rig.monitor.ours = [ip_address("2001:db8::10")]
    for _ in range(PROBES_EACH):
        rig.roaming.changed(Change())
    assert [remote for _, remote, _ in rig.link.moves] == [named] * PROBES_EACH
    assert not rig.link.abandoned
    rig.roaming.changed(Change())
    assert rig.link.abandoned


def test_our_own_addresses_are_never_the_gateways(rig: Rig) -> None:
    """S12: nor the inner one, where packets would turn round in the tunnel."""
    inner = ip_address("203.0.113.200")
    rig.session.status.configuration = Configuration(addresses=(ip_interface(inner),))
    rig.announce(WIFI, inner, SECOND)
    assert rig.monitor.watched == (GATEWAY, SECOND)
    rig.silence(4 * SILENT)
    assert {remote for _, remote, _ in rig.link.moves} == {SECOND, GATEWAY}


def test_without_an_inner_address_another_network_needs_another_connection(rig: Rig) -> None:
    """K22: TSi is the address that the connection was made from, and MOBIKE does not change it."""
    rig.session.status.network = InnerNetwork(own=(WIFI,))
    rig.monitor.ours = [CABLE]
    rig.roaming.changed(Change())
    assert rig.link.abandoned
    assert rig.link.moves == []


def test_without_an_inner_address_silence_makes_no_one_try_other_addresses_of_ours(rig: Rig) -> None:
    """K22."""
    rig.session.status.network = InnerNetwork(own=(WIFI,))
    rig.monitor.ours = [WIFI, CABLE]
    rig.announce(SECOND)
    rig.silence(4 * SILENT)
    assert not rig.link.abandoned
    assert {local for local, _, _ in rig.link.moves} == {WIFI}


def test_without_mobike_a_new_connection_is_made(rig: Rig) -> None:
    rig.link.can_move = False
    rig.monitor.ours = [CABLE]
    rig.roaming.changed(Change())
    assert rig.link.abandoned


def test_the_budget_grows_slowly_and_never_beyond_its_size() -> None:
    budget = ProbeBudget(0.0)
    for turn in range(PROBES):
        assert budget.allows(SECOND + turn, 0.0)
        budget.take(SECOND + turn)
    assert not budget.allows(GATEWAY, 1.0)
    assert budget.allows(GATEWAY, 301.0)
    for _ in range(PROBES_EACH):
        budget.take(GATEWAY)
    assert not budget.allows(GATEWAY, 1e9)
    budget.renew()
    assert budget.allows(GATEWAY, 1e9)


@pytest.mark.parametrize(
    ("unanswered_since", "last_heard", "deaf", "silent"),
    [
        (None, float("-inf"), False, False),  # nothing was asked
        (None, 0.0, False, False),
        (100.0 - SILENT, float("-inf"), False, True),
        (100.0 - SILENT, 50.0, False, True),
        (100.0 - SILENT + 0.1, 50.0, False, False),
        (90.0, 99.0, False, False),  # the answer is missing, but ESP comes
        (90.0, 95.0, False, True),  # it came after the request, and not any more
        (90.0, 50.0, True, False),  # answers may have come and got lost
    ],
)
def test_only_silence_that_could_have_been_broken_counts(
    unanswered_since: float | None, last_heard: float, deaf: bool, silent: bool
) -> None:
    """N27: in a flood of junk nobody is declared silent for answers that found no room here."""
    assert is_silent(unanswered_since, last_heard, 100.0, deaf=deaf) == silent
