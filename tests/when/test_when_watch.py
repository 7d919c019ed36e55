"""A whole `watch` under virtual time: networks that come and go, names that come late, and what is told of it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_programs import FakePrograms
from virtual_time import VirtualLoop

from ikeclient.control import automatic
from ikeclient.net.watch.monitor import Change
from ikeclient.when import watch
from ikeclient.when.decide import Match, Network, Rules
from ikeclient.when.look import Looker
from ikeclient.when.watch import Watched, Watcher

MAC, OTHER_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
HOME = Network(kind="wifi", interface="wlan0", ssid="Home", gateway_mac=MAC, dns_suffixes=("home.example",))
CAFE = Network(kind="wifi", interface="wlan0", ssid="Free", gateway_mac=OTHER_MAC)
HOTEL = Network(kind="wifi", interface="wlan0", ssid="Hotel", gateway_mac=OTHER_MAC)
TRUST_HOME = Rules(trusted=(Match(ssid=("Home",), gateway_mac=(MAC,)),))
TRUST_NAME = Rules(trusted=(Match(dns_suffix=("home.example",)),))


class FakeMonitor:
    """Tells of a change when a test does."""

    now: FakeMonitor

    def __init__(self, on_change: Callable[[Change], None]) -> None:
        FakeMonitor.now = self
        self._on_change = on_change
        self.is_open = False

    def start(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def ring(self) -> None:
        assert self.is_open
        self._on_change(Change())


class FakeLooker(Looker):
    """Sees the network that a test has put there; None: the kernel does not tell."""

    def __init__(self, network: Network | None, file: Path) -> None:
        self.network = network
        self.looks = 0
        self.files = (str(file),)

    def look(self) -> Network:
        self.looks += 1
        if self.network is None:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return self.network


class World:
    """A watch of one tunnel, at work."""

    def __init__(self, place: Path, network: Network | None, rules: Rules = TRUST_HOME) -> None:
        place.chmod(0o700)
        self.place = place
        self.programs = FakePrograms()
        self.looker = FakeLooker(network, place / "names")
        self.said: list[str] = []
        self.states: list[str] = []
        loop = asyncio.get_running_loop()
        tunnel = Watched("work", "work", rules, ["ikeclient"], self.said.append, place, self.programs)
        self.watcher = Watcher(
            [tunnel], self.states.append, lambda: self.states.append("stopping"), self.looker, loop.time
        )
        self._task = loop.create_task(self.watcher.run())

    async def moves_to(self, network: Network | None, after: float = 5.0) -> None:
        self.looker.network = network
        FakeMonitor.now.ring()
        await asyncio.sleep(after)

    @property
    def running(self) -> int:
        return sum(not each.over for each in self.programs.tunnels)

    @property
    def decision(self) -> tuple[str | None, str | None, str | None]:
        kept = dict(automatic.decisions(self.place))["work"]
        return kept.action, kept.reason, kept.trouble

    async def close(self) -> None:
        self.watcher.stop()
        await self._task
        assert dict(automatic.decisions(self.place)) == {}
        assert self.running == 0


@pytest.fixture(autouse=True)
def monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "NetworkMonitor", FakeMonitor)


def run(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(test, 10_000))


def test_a_tunnel_is_up_where_the_network_is_not_trusted_and_why_is_kept(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, CAFE)
        await asyncio.sleep(1)
        assert world.running == 0, "a decision has to stand for a while"
        await asyncio.sleep(2)
        assert world.running == 1
        assert world.decision == ("connect", "untrusted network 'Free' (wifi on wlan0)", None)
        await world.moves_to(HOME)
        assert world.running == 0
        assert world.decision == ("disconnect", "trusted network 'Home' (wifi on wlan0)", None)
        assert world.said[-1] == "work: disconnect: trusted network 'Home' (wifi on wlan0)"
        await world.close()
        assert world.states[0] == "work: connect: untrusted network 'Free' (wifi on wlan0)"
        assert world.states[-1] == "stopping"

    run(work())


def test_a_network_that_was_away_for_a_moment_has_the_tunnel_up_again(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, CAFE)
        await asyncio.sleep(3)
        await world.moves_to(HOME, after=2.5)  # the tunnel is ending
        await world.moves_to(CAFE, after=10)
        assert world.running == 1
        assert len(world.programs.tunnels) == 2
        assert not any("stays down" in line for line in world.said)
        await world.close()

    run(work())


def test_nothing_changes_without_a_network_or_while_it_cannot_be_looked_at(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, CAFE)
        await asyncio.sleep(3)
        await world.moves_to(Network())
        assert world.running == 1
        assert world.decision[:2] == ("keep", "there is no network")
        await world.moves_to(None, after=1000)
        assert world.running == 1
        world.looker.network = HOME  # which nothing tells of
        await asyncio.sleep(70)
        assert world.running == 0
        await world.close()

    run(work())


def test_what_a_decision_hangs_on_is_looked_for_ever_more_rarely(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, Network(kind="wifi", interface="wlan0", ssid="Home", gateway_mac=None))
        await asyncio.sleep(3600)
        assert 60 <= world.looker.looks < 80
        assert world.running == 0
        assert world.decision[1] == (
            "it is not known whether network 'Home' (wifi on wlan0) is trusted, which lacks gateway_mac"
        )
        world.looker.network = CAFE
        await asyncio.sleep(65)
        assert world.running == 1
        looks = world.looker.looks
        await asyncio.sleep(3600)
        assert world.looker.looks - looks <= 1, "what is known is not asked for again"
        await world.close()

    run(work())


def test_a_domain_that_comes_late_is_noticed_by_its_file(tmp_path: Path) -> None:
    async def work() -> None:
        nameless = Network(kind="wired", interface="eth0", gateway_mac=MAC)
        world = World(tmp_path, nameless, TRUST_NAME)
        await asyncio.sleep(100)
        assert world.running == 1
        world.looker.files = (str(tmp_path / "links" / "3"),)
        FakeMonitor.now.ring()
        await asyncio.sleep(100)
        (tmp_path / "links").mkdir()
        await asyncio.sleep(100)
        world.looker.network = Network(kind="wired", interface="eth0", gateway_mac=MAC, dns_suffixes=("home.example",))
        (tmp_path / "links" / "3").write_text("DOMAINS=home.example\n")
        await asyncio.sleep(5)
        assert world.running == 0
        await world.close()

    run(work())


def test_trouble_is_said_and_kept_and_another_network_may_be_better(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, CAFE)
        await asyncio.sleep(3)
        world.programs.tunnels[-1].end(7)
        await asyncio.sleep(1)
        trouble = "has ended with exit code 7, and is not started again on this network"
        assert world.decision == ("connect", "untrusted network 'Free' (wifi on wlan0)", trouble)
        assert world.said[-1] == f"tunnel 'work' {trouble}"
        await asyncio.sleep(100)
        await world.moves_to(replace(CAFE, gateway_mac=None))
        await world.moves_to(CAFE)
        assert world.running == 0, "it is the same network as before"
        await world.moves_to(HOTEL)
        assert world.running == 1
        assert world.decision[2] is None
        await world.close()

    run(work())


def test_a_decision_is_as_old_as_it_is_after_it_was_acted_upon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "timestamp", lambda: f"{asyncio.get_running_loop().time():.0f}")

    async def work() -> None:
        world = World(tmp_path, HOME)
        began = automatic.timestamp()
        await asyncio.sleep(100)
        assert world.programs.seen == ["disconnect"]
        assert dict(automatic.decisions(tmp_path))["work"].since == began
        await world.close()

    run(work())


def test_an_unexpected_error_ends_the_tunnel_and_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        world = World(tmp_path, CAFE)
        await asyncio.sleep(3)

        async def broken(name: str) -> bool:
            raise RuntimeError("a bug")

        world.programs.disconnect = broken  # type: ignore[method-assign]
        world.looker.network = HOME
        FakeMonitor.now.ring()
        with pytest.raises(ExceptionGroup):
            await world._task
        assert (world.running, dict(automatic.decisions(tmp_path))) == (0, {})

    run(work())
