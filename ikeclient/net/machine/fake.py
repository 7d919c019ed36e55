"""A machine that exists in memory, for tests of what drives one. Its log reads like a shell session.

The logic is the real one (`machine.Machine`); only the kernel, name resolution and the journal are replaced. Every call
that could fail on a real machine can be made to fail here.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from ikeclient.errors import PlatformError
from ikeclient.net.changes.desired import Facts
from ikeclient.net.changes.steps import Address, DnsStep, Key, NetlinkStep, ResolvedLink, Route, Rule, Step
from ikeclient.net.machine.kernel import platform_error
from ikeclient.net.machine.machine import Machine
from ikeclient.net.machine.marks import Marks
from ikeclient.net.model import DnsConfig, IPAddress, MachineConfig


class Faults:
    """Decides which call fails: `at` counts the calls from 1, `code` is the error the call fails with."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None
        self.code = errno.EPERM

    def check(self, command: str) -> None:
        """Count one call; raises PlatformError if it is the one to fail."""
        self.calls += 1
        if self.calls == self.at:
            raise platform_error(command, self.code)


class FakeMarks(Marks):
    """The marks of a network where nobody else is."""

    def take(self, name: str) -> bool:  # noqa: ARG002
        """Every mark is to be had."""
        return True

    def hold(self, steps: Iterable[Step], *others: str) -> None:
        """Nothing to do."""

    def answered_for(self, step: Step) -> bool:  # noqa: ARG002
        """There is nobody."""
        return False


class FakeKernel:
    """Remembers the steps in force in `state`; refuses to add what is there already, as the kernel does."""

    def __init__(self, log: list[str], faults: Faults, facts: Facts) -> None:
        self.known = facts
        self.marks: Marks = FakeMarks()
        self.state: dict[Key, NetlinkStep] = {}
        self._log = log
        self._faults = faults

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def facts(self, interface: str) -> Facts:  # noqa: ARG002 - there is one interface here
        """The facts given at construction."""
        return self.known

    def table_is_free(self, table: int) -> bool:
        """Whether no route here is in that table."""
        return not any(isinstance(step, Route) and step.table == table for step in self.state.values())

    def has_interface(self, index: int) -> bool:
        """There is the one."""
        return index == self.known.index

    def interface_to(self, address: IPAddress) -> int:
        """The interface of the most specific route in force, if a rule leads to its table."""
        self._faults.check(f"ip route get {address}")
        rules = [step for step in self.state.values() if isinstance(step, Rule) and step.mark]
        routes = [s for s in self.state.values() if isinstance(s, Route) and address in s.destination]
        for rule in sorted(rules, key=lambda rule: rule.priority):
            found = [route for route in routes if route.table == rule.table]
            best = max(found, key=lambda route: route.destination.prefixlen, default=None)
            if best is not None and best.kind != "throw":
                return best.index
        return 0

    def apply(self, steps: Sequence[tuple[NetlinkStep, bool]]) -> list[PlatformError | None]:
        """Take the steps and log their commands, but for those that are in force."""
        results: list[PlatformError | None] = []
        for step, again in steps:
            try:
                self._apply(step, again=again)
            except PlatformError as error:
                return [*results, error]
            results.append(None)
        return results

    def _apply(self, step: NetlinkStep, *, again: bool) -> None:
        self._faults.check(step.commands()[0])
        if self.state.get(step.key) == step and again:
            return
        if step.key in self.state and not again and isinstance(step, Address | Route | Rule):
            raise platform_error(step.commands()[0], errno.EEXIST)
        self.state[step.key] = step
        self._log += step.commands()

    def undo(self, steps: Sequence[NetlinkStep]) -> list[PlatformError | None]:
        """Undo the steps and log their commands, as far as they are in force."""
        results: list[PlatformError | None] = []
        for step in steps:
            try:
                self._faults.check(" ".join(step.undo_commands()))
            except PlatformError as error:
                results.append(error)
                continue
            results.append(None)
            if self.state.get(step.key) == step:
                del self.state[step.key]
                self._log += step.undo_commands()
        return results

    def missing(self, steps: Sequence[NetlinkStep]) -> list[NetlinkStep]:
        """Those that are not in force."""
        return [step for step in steps if self.state.get(step.key) != step]

    def leftovers(self) -> list[NetlinkStep]:
        """None: there was nobody before."""
        return []


class FakeDns:
    """A machine with systemd-resolved; `state` is the settings in force."""

    def __init__(self, log: list[str], faults: Faults) -> None:
        self.state: DnsStep | None = None
        self._log = log
        self._faults = faults

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:  # noqa: ARG002 - resolved needs no former state
        """The step for systemd-resolved."""
        if not config.servers:
            return None, []
        split = config.mode == "split"
        domains = tuple(f"~{domain}" for domain in config.domains) if split else ("~.", *config.domains)
        step = ResolvedLink(
            interface=interface, index=1, servers=config.servers, domains=domains, default_route=not split
        )
        return step, []

    def apply(self, step: DnsStep) -> list[str]:
        """Take the step and log its commands, unless it is in force."""
        self._faults.check(step.commands()[0])
        if self.state != step:
            self.state = step
            self._log += step.commands()
        return []

    def undo(self, step: DnsStep) -> list[str]:
        """Undo the step and log its commands, if it is in force."""
        self._faults.check(step.undo_commands()[0])
        if self.state == step:
            self.state = None
            self._log += step.undo_commands()
        return []


class MemoryJournal:
    """A journal that forgets with the process; `steps` is its content."""

    def __init__(self, faults: Faults) -> None:
        self.steps: list[Step] = []
        self._faults = faults

    def write(self, steps: Sequence[Step]) -> None:
        """Replace the content."""
        self._faults.check("write the journal")
        self.steps = list(steps)


class FakeMachine(Machine):
    """A `Machine` without a machine. `log` holds the commands, `configs` what was applied, `faults` what shall fail."""

    def __init__(self, name: str = "fake", facts: Facts | None = None) -> None:
        self.log: list[str] = []
        self.configs: list[MachineConfig] = []
        self.faults = Faults()
        self.kernel = FakeKernel(self.log, self.faults, facts or Facts(index=7))
        self.dns = FakeDns(self.log, self.faults)
        self.journal = MemoryJournal(self.faults)
        super().__init__(Path("/nonexistent"), name, kernel=self.kernel, dns=self.dns, journal=self.journal)

    def apply(self, config: MachineConfig) -> None:
        """As on a real machine, and remembered in `configs` when it succeeded."""
        super().apply(config)
        self.configs.append(config)
