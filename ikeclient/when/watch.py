"""Has tunnels up where their rules say so: watches the network, decides, and gives orders to who keeps each tunnel.

Nothing polls: the kernel tells of changes, also of the files that name servers stand in. What is not known of a new
network is looked for again within its first seconds, and ever more rarely while a decision hangs on it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from ikeclient.control import automatic
from ikeclient.net.watch.files import FileBell
from ikeclient.net.watch.monitor import Clock, NetworkMonitor, boottime
from ikeclient.when.decide import Action, Decision, Network, Rules, Settling, decide
from ikeclient.when.look import Looker
from ikeclient.when.supervisor import Programs, Supervisor

LOOKS = (0.1, 0.3, 0.7, 1.5, 3.0)  # seconds after a change at which it is looked for what was not known
LONGEST_LOOK = 60.0  # seconds between two looks for what a decision hangs on

Tell = Callable[[str], None]


class Watched:
    """One tunnel with its rules. Decisions and trouble are told, and kept in `directory` for `status`.

    `program` is the command line of ikeclient itself, `reference` what it calls the profile.
    """

    def __init__(
        self,
        name: str,
        reference: str,
        rules: Rules,
        program: Sequence[str],
        tell: Tell,
        directory: Path,
        programs: Programs | None = None,
    ) -> None:
        self.name = name
        self.decision: Decision | None = None
        self.supervisor = Supervisor(name, reference, program, self._is_in_trouble, programs)
        self._rules = rules
        self._settling = Settling()
        self._tell = tell
        self._directory = directory
        self._trouble = ""
        self._moved = False

    def look(self, network: Network, now: float, *, moved: bool = False) -> float | None:
        """Decide, and act if it is time to; returns when it will be, None if there is nothing to do.

        `moved`: the machine is in another network than it was.
        """
        decision = decide(self._rules, network)
        self._settling.decided(decision, now)
        if decision != self.decision:
            self.decision = decision
            self._tell(f"{self.name}: {decision.action}: {decision.why}")
            self._keep()
        if (action := self._settling.act(now)) is not None:
            self.supervisor.order(up=action is Action.CONNECT)
        self._moved = self._moved or moved
        if self._moved and decision.action is Action.CONNECT:
            self._moved = False
            self.supervisor.moved()
        return self._settling.due_at

    def forget(self) -> None:
        """Take away what was kept for `status`."""
        automatic.remove(self._directory, self.name)

    def __str__(self) -> str:
        decided = "" if self.decision is None else f"{self.decision.action}: {self.decision.why}"
        return f"{self.name}: {decided}" + (f" ({self._trouble})" if self._trouble else "")

    def _is_in_trouble(self, trouble: str) -> None:
        if trouble:
            self._tell(f"tunnel '{self.name}' {trouble}")
        if trouble != self._trouble:
            self._trouble = trouble
            self._keep()

    def _keep(self) -> None:
        if self.decision is not None:
            automatic.write(self._directory, self.name, self.decision.action, self.decision.why, self._trouble or None)


class Watcher:
    """Watches the network for `tunnels` until it is told to stop. `report` gets a line of status after each look, and
    `stopping` is called when the end begins."""

    def __init__(
        self,
        tunnels: Sequence[Watched],
        report: Tell = lambda _: None,
        stopping: Callable[[], None] = lambda: None,
        looker: Looker | None = None,
        clock: Clock = boottime,
    ) -> None:
        self._tunnels = tunnels
        self._report = report
        self._stopping = stopping
        self._looker = looker or Looker()
        self._clock = clock
        self._monitor = NetworkMonitor(lambda _: self._changed())
        self._bell: FileBell | None = None
        self._files: tuple[str, ...] = ()
        self._changed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._place: tuple[str | None, ...] = ()
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Watch, and act, until a signal says to end; the tunnels that were started here end with it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
                loop.add_signal_handler(number, self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                for each in self._tunnels:
                    group.create_task(each.supervisor.run())
                self._monitor.start()
                self._listen(loop)
                self._changed()
                await self._stopped.wait()
                self._stopping()
                for each in self._tunnels:
                    each.supervisor.close()
                self._close(loop)
        finally:
            self._close(loop)
            for each in self._tunnels:
                each.forget()

    def stop(self) -> None:
        """Have `run` end."""
        self._stopped.set()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        self._files = self._looker.files
        try:
            self._bell = FileBell(self._files)
        except OSError:
            return  # the kernel gives no more of them: names that come late are not noticed
        loop.add_reader(self._bell.fileno(), self._rung)

    def _rung(self) -> None:
        if self._bell is not None and self._bell.rung():
            self._bell.watch()
            self._changed()

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        self._monitor.close()
        if self._bell is not None:
            loop.remove_reader(self._bell.fileno())
            self._bell.close()
            self._bell = None
        self._drop_timer()

    def _changed(self) -> None:
        self._changed_at = self._clock()
        self._look()

    def _look(self) -> None:
        """Decide anew, and look again when that may tell more or something is due."""
        now = self._clock()
        network = self._network()
        due: list[float | None] = []
        if network is not None:
            moved = self._is_elsewhere(network)
            due = [each.look(network, now, moved=moved) for each in self._tunnels]
        self._report("; ".join(map(str, self._tunnels)))
        self._drop_timer()
        moments = [moment for moment in (*due, self._next_look(network, now)) if moment is not None]
        if moments:
            pause = max(min(moments) - now, 0.0) + 0.01
            self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _network(self) -> Network | None:
        """The network as it is now; None if it cannot be looked at."""
        try:
            network = self._looker.look()
        except OSError:
            return None
        if self._bell is not None and self._files != self._looker.files:
            self._files = self._looker.files
            self._bell.watch(self._files)
        return network

    def _next_look(self, network: Network | None, now: float) -> float | None:
        """When to look for what was not known."""
        moments = [moment for each in LOOKS if (moment := self._changed_at + each) > now]
        if moments:
            return moments[0]
        is_open = network is None or any(each.decision is not None and each.decision.is_open for each in self._tunnels)
        return now + min(max(now - self._changed_at, LOOKS[-1]), LONGEST_LOOK) if is_open else None

    def _is_elsewhere(self, network: Network) -> bool:
        """Whether the machine is in another network than the last one that was known as well."""
        place = (network.interface, network.ssid, network.gateway_mac)
        if not network.kind or None in place:
            return False
        last, self._place = self._place, place
        return last not in ((), place)

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
