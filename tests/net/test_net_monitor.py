"""When the monitor looks and what it reports, under virtual time and with a network made of values."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

import pytest
from virtual_time import VirtualLoop

from ikeclient.net.model import IPAddress
from ikeclient.net.watch import netlink
from ikeclient.net.watch.clock import POLL
from ikeclient.net.watch.monitor import TICK, NetworkMonitor, SleepWatch, Source, boottime, netlink_or_probes
from ikeclient.net.watch.netlink import Netlink
from ikeclient.net.watch.probe import Probes
from ikeclient.net.watch.snapshot import Change, OuterAddress, RouteTo, Snapshot

ETH = OuterAddress(index=2, interface="eth0", address=ip_address("192.0.2.10"))
WIFI = OuterAddress(index=3, interface="wlan0", address=ip_address("198.51.100.3"))
GATEWAY = ip_address("203.0.113.7")


class ClockOfValues:
    """Stands in for a `ClockBell`."""

    def __init__(self) -> None:
        self._set, self._bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._bell.setblocking(False)
        self.broken = False

    def fileno(self) -> int:
        return self._bell.fileno()

    def step(self) -> None:
        self._set.send(b"!")

    def rung(self) -> None:
        self._bell.recv(1)
        if self.broken:
            raise OSError(errno.EINVAL, "broken")

    def close(self) -> None:
        self._set.close()
        self._bell.close()


@dataclass
class Machine:
    """A machine made of values: its network, its clocks, and the bell that rings when a test says so."""

    loop: VirtualLoop
    network: Snapshot = field(default_factory=lambda: Snapshot(addresses=(ETH,)))
    slept: float = 0.0
    stood_still: float = 0.0
    refusal: OSError | None = None
    bell_refusal: OSError | None = None
    looks: list[float] = field(default_factory=list)
    seen: list[tuple[float, Change]] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    clock_refusal: OSError | None = None
    clock: ClockOfValues | None = None
    _clapper: socket.socket | None = None

    def monitor(self, **options: Any) -> NetworkMonitor:
        given: dict[str, Any] = {
            "on_change": lambda change: self.seen.append((self.loop.now, change)),
            "absence": SleepWatch(
                lambda: self.loop.now + self.stood_still,
                lambda: self.loop.now + self.stood_still + self.slept,
                self.open_clock,  # type: ignore[arg-type]
            ),
            "open_source": self.open_source,
            "open_bell": self.open_bell,
        }
        return NetworkMonitor(**(given | options))

    @property
    def changes(self) -> list[Change]:
        return [change for _, change in self.seen]

    def ring(self) -> None:
        assert self._clapper is not None
        with contextlib.suppress(BlockingIOError):
            self._clapper.send(b"!")

    def open_source(self) -> Source:
        self.opened += 1
        return self

    def open_bell(self) -> socket.socket:
        if self.bell_refusal:
            raise self.bell_refusal
        if self._clapper is not None:
            self._clapper.close()
        self._clapper, bell = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._clapper.setblocking(False)
        bell.setblocking(False)
        return bell

    def open_clock(self) -> ClockOfValues:
        if self.clock_refusal:
            raise self.clock_refusal
        self.clock = ClockOfValues()
        return self.clock

    def sleep(self, seconds: float) -> None:
        """The machine sleeps, and its clock on the wall is set when it wakes up."""
        self.slept += seconds
        assert self.clock is not None
        self.clock.step()

    def snapshot(self, **_options: object) -> Snapshot:
        self.looks.append(self.loop.now)
        if self.refusal:
            raise self.refusal
        return self.network

    def route_to(self, remote: IPAddress, *, mark: int = 0, source: IPAddress | None = None) -> RouteTo | None:
        if self.refusal:
            raise self.refusal
        return self.network.route_to(remote)

    def close(self) -> None:
        self.closed += 1

    def shut(self) -> None:
        if self._clapper is not None:
            self._clapper.close()


def virtually(story: Callable[[Machine], Awaitable[None]]) -> Machine:
    """Run a story under virtual time; an error that reached nobody but the loop fails it."""
    loop = VirtualLoop()
    lost: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: lost.append(context))
    machine = Machine(loop)
    try:
        loop.run_until_complete(story(machine))
    finally:
        machine.shut()
        loop.close()
    assert not lost
    return machine


ON_WIFI = Snapshot(addresses=(WIFI,))
MOVED = Change(gained=(WIFI,), lost=(ETH,))


def test_the_first_notification_is_acted_on_within_the_debounce() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        assert (monitor.snapshot, machine.seen) == (machine.network, [])
        await asyncio.sleep(0.3)
        machine.network = ON_WIFI
        machine.ring()
        await asyncio.sleep(0.1)
        assert machine.seen == [(pytest.approx(1000.32), MOVED)]
        assert monitor.snapshot == ON_WIFI
        monitor.close()

    virtually(story)


def test_the_steps_of_a_move_are_each_seen_at_once_even_among_other_notifications() -> None:
    """Carrier, address, route: the last one must not wait because there were others, nor because a radio chatters."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        for _ in range(40):
            machine.ring()
            await asyncio.sleep(0.3)
        for state in (Snapshot(), Snapshot(addresses=(WIFI,)), Snapshot(addresses=(WIFI, ETH))):
            machine.network = state
            machine.ring()
            await asyncio.sleep(0.03)
            assert monitor.snapshot == state
        monitor.close()

    virtually(story)


def test_a_flood_causes_few_looks_and_neither_starves_them_nor_hides_the_last_state() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        states = [ON_WIFI, Snapshot(addresses=(ETH,))]
        for number in range(10_000):
            machine.network = states[number % 7 % 2]
            machine.ring()
            await asyncio.sleep(0.001)
        machine.network = Snapshot(addresses=(ETH, WIFI))
        machine.ring()
        await asyncio.sleep(0.6)
        gaps = [later - earlier for earlier, later in zip(machine.looks, machine.looks[1:], strict=False)]
        assert len([moment for moment in machine.looks if moment < 1001]) <= 10
        assert len(machine.looks) < 50
        assert max(gaps) < 0.26
        assert monitor.snapshot == Snapshot(addresses=(ETH, WIFI))
        monitor.close()

    virtually(story)


def test_after_a_quiet_time_the_monitor_is_quick_again() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        for _ in range(2000):
            machine.ring()
            await asyncio.sleep(0.001)
        await asyncio.sleep(3)
        machine.looks.clear()
        rung = machine.loop.now
        machine.ring()
        await asyncio.sleep(0.5)
        assert machine.looks == [pytest.approx(rung + 0.02)]
        monitor.close()

    virtually(story)


def test_notifications_without_a_difference_are_not_reported() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        machine.network = ON_WIFI
        machine.ring()
        machine.network = Snapshot(addresses=(ETH,))
        await asyncio.sleep(0.5)
        assert len(machine.looks) == 2
        assert machine.seen == []
        monitor.close()

    virtually(story)


def test_a_change_that_nothing_announced_is_found_by_the_poll() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=5.0)
        monitor.start()
        machine.network = ON_WIFI
        await asyncio.sleep(4.9)
        assert machine.looks == [1000.0]
        await asyncio.sleep(1.2)
        assert machine.changes == [MOVED]
        await asyncio.sleep(60)
        assert len(machine.looks) <= 14
        monitor.close()

    virtually(story)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EAFNOSUPPORT, errno.EMFILE])
def test_without_notifications_every_tick_looks_and_tries_to_listen_again(number: int) -> None:
    async def story(machine: Machine) -> None:
        machine.bell_refusal = OSError(number, "no")
        monitor = machine.monitor(poll=1000)
        monitor.start()
        assert not monitor.listening
        machine.network = ON_WIFI
        await asyncio.sleep(TICK + 0.1)
        assert machine.changes == [MOVED]
        machine.bell_refusal = None
        await asyncio.sleep(TICK)
        assert monitor.listening
        machine.looks.clear()
        await asyncio.sleep(20)
        assert machine.looks == []
        monitor.close()

    virtually(story)


def test_a_bell_that_breaks_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        with monkeypatch.context() as broken:
            broken.setattr(netlink, "drain", lambda _: (_ for _ in ()).throw(OSError(errno.EBADF, "broken")))
            machine.ring()
            await asyncio.sleep(0.1)
        assert not monitor.listening
        await asyncio.sleep(TICK)
        assert monitor.listening
        machine.network = ON_WIFI
        machine.ring()
        await asyncio.sleep(0.1)
        assert machine.changes == [MOVED]
        monitor.close()

    virtually(story)


def test_a_kernel_that_does_not_answer_is_no_empty_network() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        machine.refusal = OSError(errno.ENOBUFS, "later")
        machine.network = ON_WIFI
        machine.ring()
        await asyncio.sleep(10)
        assert machine.seen == []
        assert monitor.snapshot.addresses == (ETH,)
        assert len(machine.looks) < 60
        machine.refusal = None
        await asyncio.sleep(0.6)
        assert machine.changes == [MOVED]
        monitor.close()
        assert machine.opened == machine.closed

    virtually(story)


def test_a_network_that_cannot_be_read_at_the_start_is_reported_as_gained_later() -> None:
    async def story(machine: Machine) -> None:
        machine.refusal = OSError(errno.EMFILE, "no descriptors")
        monitor = machine.monitor()
        monitor.start()
        await asyncio.sleep(TICK)
        machine.refusal = None
        await asyncio.sleep(0.6)
        assert machine.changes == [Change(gained=(ETH,))]
        monitor.close()

    virtually(story)


def test_a_sleep_is_noticed_when_it_ends_and_a_change_during_it_is_reported_with_it() -> None:
    """S15: a laptop suspended for eight hours."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        await asyncio.sleep(7.5)
        machine.network = ON_WIFI
        machine.sleep(8 * 3600)
        await asyncio.sleep(0.01)
        ((_, change),) = machine.seen
        assert change == replace(MOVED, resumed=True, slept=pytest.approx(8 * 3600))
        await asyncio.sleep(30)
        assert len(machine.seen) == 1, "once is enough"
        machine.sleep(2.5)
        await asyncio.sleep(0.01)
        assert machine.changes[1:] == [Change(resumed=True, slept=pytest.approx(2.5))]
        monitor.close()

    virtually(story)


def test_a_sleep_is_noticed_at_once_when_the_network_changes_too() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        await asyncio.sleep(5.01)
        machine.ring()
        machine.sleep(60)
        await asyncio.sleep(0.05)
        assert machine.changes == [Change(resumed=True, slept=pytest.approx(60))]
        await asyncio.sleep(5)
        assert len(machine.seen) == 1
        monitor.close()

    virtually(story)


def test_a_process_that_stood_still_is_told_so_but_not_that_the_machine_slept() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1.0)
        monitor.start()
        await asyncio.sleep(5)
        machine.stood_still += 30
        await asyncio.sleep(TICK + 0.1)
        (change,) = machine.changes
        assert (change.resumed, change.slept) == (False, 0.0)
        assert 29 <= change.stalled <= 30
        monitor.close()

    virtually(story)


def test_a_process_that_was_stopped_is_told_so_whatever_looks_first() -> None:
    """A timer that came due while it was stopped runs before what the event loop does for SIGCONT."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        monitor.start()
        machine.stood_still += 30
        os.kill(os.getpid(), signal.SIGCONT)
        monitor.look()
        await asyncio.sleep(0.1)
        assert machine.changes == [Change(stalled=30)]
        monitor.close()

    virtually(story)


def test_a_busy_or_slowly_drifting_machine_is_not_taken_for_a_sleeping_one() -> None:
    """S15: the clocks drift by a millisecond a second, and ticks come up to a second late."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1.0)
        monitor.start()
        for _ in range(3600):
            machine.slept += 0.001
            machine.stood_still += 1.0
            await asyncio.sleep(1)
        assert machine.seen == []
        monitor.close()

    virtually(story)


def test_the_network_is_told_even_when_it_cannot_be_read_after_a_sleep() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        machine.refusal = OSError(errno.ENOMEM, "later")
        machine.sleep(100)
        await asyncio.sleep(TICK + 0.1)
        assert machine.changes == [Change(resumed=True, slept=pytest.approx(100))]
        monitor.close()

    virtually(story)


def test_an_idle_machine_is_looked_at_once_a_minute() -> None:
    """Laptops' batteries: nothing else may wake the process up, and what need not be exact comes together."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        machine.looks.clear()
        turns = machine.loop.turns
        await asyncio.sleep(600)
        assert len(machine.looks) == 10
        assert machine.loop.turns - turns <= 12
        assert {look % POLL for look in machine.looks} == {0.0}
        monitor.close()

    virtually(story)


def test_a_clock_on_the_wall_that_is_set_causes_no_look() -> None:
    """S14: by NTP or by hand; the machine has not slept."""

    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        machine.looks.clear()
        for _ in range(5):
            machine.sleep(0.0)
            await asyncio.sleep(0.01)
        assert (machine.looks, machine.seen) == ([], [])
        monitor.close()

    virtually(story)


@pytest.mark.parametrize("broken", [False, True])
def test_without_the_steps_of_the_clock_every_tick_compares_the_clocks(broken: bool) -> None:
    """S15: a kernel that has no such timer, or one that fails later."""

    async def story(machine: Machine) -> None:
        machine.clock_refusal = None if broken else OSError(errno.EPERM, "no")
        monitor = machine.monitor(poll=1000)
        monitor.start()
        if machine.clock is not None:
            machine.clock.broken = True
            machine.sleep(0.0)
        await asyncio.sleep(3.5)
        machine.slept += 100
        await asyncio.sleep(TICK)
        assert machine.changes == [Change(resumed=True, slept=pytest.approx(100))]
        monitor.close()

    virtually(story)


def test_sleep_and_standstill_are_told_apart_by_the_two_clocks() -> None:
    now = {"awake": 50.0, "boot": 90.0}
    watch = SleepWatch(lambda: now["awake"], lambda: now["boot"])
    for awake, boot, expected in ((1, 1, (0, 0)), (1, 2.5, (0, 0)), (1, 4, (3, 0)), (9, 9, (0, 8)), (11, 31, (20, 10))):
        now["awake"] += awake
        now["boot"] += boot
        assert watch.measure(1.0) == expected
    watch.reset(60.0)
    now["awake"] += 50
    now["boot"] += 50
    assert watch.measure(60.0) == (0, 0), "before it was to be asked"
    now["awake"] += 50
    now["boot"] += 50
    watch.continued()
    assert watch.measure(60.0) == (0, 50), "it may have been so long"


def test_the_clock_that_counts_sleep_is_never_behind_the_one_that_does_not() -> None:
    assert boottime() >= time.monotonic() - 0.001


def test_a_look_asked_for_reports_at_once() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor(poll=1000)
        assert monitor.look() is None, "not started"
        monitor.start()
        assert monitor.look() is None
        machine.network = ON_WIFI
        assert monitor.look() == MOVED
        assert machine.changes == [MOVED]
        monitor.close()
        machine.network = Snapshot()
        assert monitor.look() is None
        assert machine.changes == [MOVED]

    virtually(story)


def test_a_listener_that_fails_does_not_end_the_watch() -> None:
    failures: list[dict[str, Any]] = []

    async def story(machine: Machine) -> None:
        machine.loop.set_exception_handler(lambda _, context: failures.append(context))

        def fail(change: Change) -> None:
            machine.seen.append((machine.loop.now, change))
            raise RuntimeError("listener")

        monitor = machine.monitor(on_change=fail, poll=2.0)
        monitor.start()
        machine.network = ON_WIFI
        machine.ring()
        await asyncio.sleep(1)
        machine.network = Snapshot(addresses=(ETH,))
        await asyncio.sleep(5)
        assert len(machine.seen) == 2
        monitor.close()

    virtually(story)
    assert [str(context["exception"]) for context in failures] == ["listener", "listener"]


def test_nothing_is_reported_after_close_and_close_may_come_from_the_listener() -> None:
    async def story(machine: Machine) -> None:
        def listener(change: Change) -> None:
            machine.seen.append((machine.loop.now, change))
            monitor.close()

        monitor = machine.monitor(on_change=listener)
        monitor.start()
        machine.network = ON_WIFI
        machine.ring()
        await asyncio.sleep(0.1)
        machine.network = Snapshot()
        machine.slept += 100
        await asyncio.sleep(100)
        assert machine.changes == [MOVED]
        monitor.close()
        assert machine.opened == machine.closed

    virtually(story)


def test_a_closed_monitor_can_be_started_again() -> None:
    async def story(machine: Machine) -> None:
        monitor = machine.monitor()
        monitor.start()
        monitor.close()
        await asyncio.sleep(100)
        machine.network = ON_WIFI
        monitor.start()
        assert (monitor.snapshot, machine.seen) == (ON_WIFI, [])
        machine.network = Snapshot(addresses=(ETH,))
        machine.ring()
        await asyncio.sleep(0.1)
        assert machine.changes == [Change(gained=(ETH,), lost=(WIFI,))]
        monitor.close()

    virtually(story)


def test_the_route_to_a_watched_remote_is_part_of_the_snapshot_without_being_a_change() -> None:
    async def story(machine: Machine) -> None:
        over_eth = RouteTo(remote=GATEWAY, index=2, interface="eth0", source=ETH.address)
        machine.network = Snapshot(addresses=(ETH,), routes=(over_eth,))
        monitor = machine.monitor()
        monitor.watch(GATEWAY)
        assert monitor.snapshot.route_to(GATEWAY) == over_eth
        monitor.start()
        monitor.watch(GATEWAY)
        assert monitor.look() is None
        machine.network = replace(machine.network, routes=())
        assert monitor.look() == Change(rerouted=(GATEWAY,))
        monitor.close()

    virtually(story)


def test_the_route_to_a_remote_is_the_last_known_one_while_the_kernel_does_not_answer() -> None:
    async def story(machine: Machine) -> None:
        over_eth = RouteTo(remote=GATEWAY, index=2, interface="eth0", source=ETH.address)
        machine.network = Snapshot(addresses=(ETH,), routes=(over_eth,))
        monitor = machine.monitor()
        monitor.start()
        machine.refusal = OSError(errno.ENOBUFS, "later")
        assert monitor.route_to(GATEWAY) == over_eth
        assert monitor.route_to(GATEWAY, source=WIFI.address) is None
        monitor.watch(GATEWAY)
        assert monitor.snapshot.routes == (over_eth,)
        monitor.close()
        assert machine.opened == machine.closed

    virtually(story)


def refusing(number: int) -> Callable[[], None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def test_probes_stand_in_where_dumps_are_refused_but_not_for_an_error_that_will_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Netlink, "snapshot", refusing(errno.EACCES))
    assert isinstance(netlink_or_probes(), Probes)
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Netlink, "snapshot", refusing(errno.ENOBUFS))
    with pytest.raises(OSError, match="buffer"):
        netlink_or_probes()
    assert len(os.listdir("/proc/self/fd")) == before


STOPPED = """
import asyncio, sys
from ikeclient.net.watch.monitor import NetworkMonitor

def tell(change):
    if change.stalled:  # the network itself may change meanwhile
        print(change.resumed, change.stalled, flush=True)
        done.set()

async def main():
    monitor = NetworkMonitor(tell)
    monitor.start()
    await asyncio.sleep(0)
    print("ready", flush=True)
    await asyncio.wait_for(done.wait(), 60)
    monitor.close()

done = asyncio.Event()

asyncio.run(main())
assert "pyroute2" not in sys.modules and "netifaces" not in sys.modules
"""


def test_a_process_that_was_stopped_notices_it_when_it_goes_on() -> None:
    """Also that none of the slow packages is needed to watch the network."""
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGSTOP)
        time.sleep(3)
        child.send_signal(signal.SIGCONT)
        resumed, stalled = child.stdout.readline().split()
        assert child.wait(60) == 0
    assert resumed == "False"
    assert 2 < float(stalled) < time.monotonic() - began
