"""The machine a tunnel runs on, changed and given back.

`apply` brings it to a desired state by comparing with what we put there ourselves, so it may be called again after
every change of network or configuration. Each step is in the journal before it is taken and leaves it after it is
undone. Three things undo, all through the same code: `revert` on exit, a failure half way through `apply`, and `repair`
at the next start when the process died (the kernel itself removes the TUN device with its addresses and routes then;
rules, unreachable routes and DNS stay behind).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ikeclient.errors import PlatformError
from ikeclient.net.desired import Facts, desired, samples, usable_servers
from ikeclient.net.dns import RESOLV_CONF, Dns, DnsAdapter, acceptable
from ikeclient.net.interfaces import IPAddress, MachineConfig, Version
from ikeclient.net.journal import SUFFIX, Journal, JournalError, JournalStore, load, open_directory, this_process
from ikeclient.net.kernel import Kernel, KernelAdapter, off_loop
from ikeclient.net.steps import Address, DnsStep, Link, Route, Rule, Step

FIRST_TABLE, TABLES = 7400, 64  # where free_table looks


class Machine:
    """What one tunnel changes on the machine. The arguments after `name` exist for tests.

    `state_dir` (its parent must exist) takes the journal. Use it from one thread at a time; it may be a thread that
    runs an event loop, which then waits some milliseconds.
    """

    def __init__(
        self,
        state_dir: Path,
        name: str,
        *,
        resolv_conf: Path = RESOLV_CONF,
        kernel: KernelAdapter | None = None,
        dns: DnsAdapter | None = None,
        journal: JournalStore | None = None,
    ) -> None:
        owner = this_process(name)
        self.warnings: list[str] = []
        self.left: list[str] = []
        self._state_dir = state_dir
        self._resolv_conf = resolv_conf
        self._filename = name + SUFFIX
        self._kernel = kernel or Kernel()
        self._dns = dns or Dns(owner, resolv_conf)
        self._journal = journal or Journal(state_dir, self._filename, owner)
        self._undo: list[Step] = []  # what the journal holds, in the order it was done
        self._checked = False

    def plan(self, config: MachineConfig) -> list[str]:
        """What `apply` would do, as command lines; changes nothing. The interface need not exist."""
        return off_loop(lambda: self._plan(config))

    def check(self) -> list[str]:
        """Undo what a dead process of our name left. `apply` does it too, unless this was called before.

        That is for a process that gives up the right to read journals. Raises PlatformError beside a living one.
        """
        self._checked = True
        return off_loop(self._check_journal)

    def apply(self, config: MachineConfig) -> None:
        """Make the machine look like `config`; nothing is touched that is right already.

        Raises PlatformError after undoing what this call had changed; earlier calls' changes then stand.
        """
        off_loop(lambda: self._apply(config))

    def revert(self) -> None:
        """Undo everything. What cannot be undone becomes a warning and stays in the journal for `repair`."""
        off_loop(self._revert)

    def _plan(self, config: MachineConfig) -> list[str]:
        with self._kernel as kernel:
            return [line for step in self._desired(kernel, config) for line in step.commands()]

    def _desired(self, kernel: KernelAdapter, config: MachineConfig) -> list[Step]:
        self.warnings = []
        dns = None
        if config.dns:
            dns, warnings = acceptable(config.dns)
            self._warn(warnings)
        facts = self._before_us(kernel.facts(config.interface))
        if dns is not None:
            servers, warnings = usable_servers(config, facts, dns.servers)
            dns = replace(dns, servers=servers)
            self._warn(warnings)
        steps, warnings = desired(config, facts, dns.servers if dns else ())
        self._warn(warnings)
        if dns is None:
            return [*steps]
        former = next((step for step in self._undo if isinstance(step, DnsStep)), None)
        step, warnings = self._dns.prepare(dns, config.interface, former)
        self._warn(warnings)
        return [*steps, step] if step else [*steps]

    def _before_us(self, facts: Facts) -> Facts:
        for step in self._undo:
            if isinstance(step, Link) and step.index == facts.index:
                return replace(facts, mtu=step.old_mtu, up=step.was_up)
        return facts

    def _apply(self, config: MachineConfig) -> None:
        leftover = [] if self._undo or self._checked else self._check_journal()
        with self._kernel as kernel:
            steps = self._desired(kernel, config)
            self._warn(leftover)
            if any(isinstance(step, Link) and not step.index for step in steps):
                raise PlatformError(f"there is no interface {config.interface}")
            ours = any(isinstance(step, Route | Rule) and step.table == config.table for step in self._undo)
            if not ours and not kernel.table_is_free(config.table):
                raise PlatformError(
                    f"routing table {config.table} is in use",
                    hint=f"see `ip rule` and `ip route show table {config.table}`",
                )
            back: list[Callable[[], None]] = []
            try:
                self._change(kernel, steps, back)
                self._confirm(kernel, config, steps)
            except BaseException:
                for action in reversed(back):
                    self._attempt(action)
                raise

    def _confirm(self, kernel: KernelAdapter, config: MachineConfig, steps: list[Step]) -> None:
        """Ask the kernel whether packets now enter the tunnel: that every step was taken does not say so."""
        index = next(step.index for step in steps if isinstance(step, Link))
        asked = samples(config, [step for step in steps if not isinstance(step, DnsStep)])
        missed: dict[Version, IPAddress | None] = {}
        for version, addresses in asked.items():
            address = None
            for address in addresses:
                if kernel.interface_to(address) == index:
                    break
            else:
                missed[version] = address
        if len(missed) < len(asked):
            self._warn([f"no IPv{version} traffic enters the tunnel: other rules lead elsewhere" for version in missed])
            return
        example = next((address for address in missed.values() if address), None)
        raise PlatformError(
            f"nothing leads into the tunnel's interface {config.interface}",
            reason="other rules or routes of this machine come first" if example else "everything is excluded from it",
            hint=f"see `ip rule` and `ip route get {example}`" if example else "see [network] routes and exclude",
        )

    def _check_journal(self) -> list[str]:
        """Undo what a dead process of our name left; refuses to run beside a living one."""
        if not (self._state_dir / self._filename).exists():
            return []
        with contextlib.suppress(OSError, JournalError), open_directory(self._state_dir) as directory:
            owner, _ = load(directory, self._filename)
            if owner.is_alive():
                raise PlatformError(f"the tunnel {owner.name} is up already (process {owner.pid})")
        return repair(self._state_dir, resolv_conf=self._resolv_conf, kernel=self._kernel)

    def _change(self, kernel: KernelAdapter, steps: list[Step], back: list[Callable[[], None]]) -> None:
        wanted = {step.key for step in steps}
        present = {step.key: step for step in self._undo}
        for step in steps:
            former = present.get(step.key)
            if former == step:
                self._take(kernel, step, again=True)
            elif former is None:
                self._add(kernel, step)
                back.append(partial(self._undo_step, kernel, step))
            else:
                back.append(partial(self._replace, kernel, step, former))
                self._replace(kernel, former, step)
        for step in reversed([step for step in self._undo if step.key not in wanted]):
            back.append(partial(self._redo, kernel, step))
            self._undo_step(kernel, step)

    def _add(self, kernel: KernelAdapter, step: Step) -> None:
        before = self._undo
        self._write([*before, step])
        try:
            self._take(kernel, step, again=False)
        except BaseException as error:
            # Refused by the kernel: then what is there is not ours. In all other cases some of it may be done.
            if isinstance(error, PlatformError) and isinstance(step, Address | Route | Rule):
                self._attempt(partial(self._write, before))
            else:
                self._attempt(partial(self._undo_step, kernel, step))
            raise

    def _take(self, kernel: KernelAdapter, step: Step, *, again: bool) -> None:
        if isinstance(step, DnsStep):
            self._warn(self._dns.apply(step))
        else:
            kernel.apply(step, again=again)

    def _undo_step(self, kernel: KernelAdapter, step: Step) -> None:
        self._warn(_undo(kernel, self._dns, step))
        self._write([item for item in self._undo if item != step])

    def _redo(self, kernel: KernelAdapter, step: Step) -> None:
        self._write([*(item for item in self._undo if item != step), step])
        self._take(kernel, step, again=True)

    def _replace(self, kernel: KernelAdapter, old: Step, new: Step) -> None:
        self._redo(kernel, new)
        self._write([item for item in self._undo if item != old])

    def _revert(self) -> None:
        self.left = []
        with self._kernel as kernel:
            for step in reversed(self._undo):
                try:
                    self._warn(_undo(kernel, self._dns, step))
                except PlatformError as error:
                    self.left += step.undo_commands()
                    self._warn([f"not undone: {': '.join(error.lines()[:2])}"])
                else:
                    self._attempt(partial(self._write, [item for item in self._undo if item != step]))

    def _write(self, steps: list[Step]) -> None:
        self._journal.write(steps)
        self._undo = steps

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except PlatformError as error:
            self._warn([f"not undone: {': '.join(error.lines()[:2])}"])

    def _warn(self, warnings: list[str]) -> None:
        self.warnings += [text for text in warnings if text not in self.warnings]


def free_table(kernel: KernelAdapter | None = None) -> int:
    """A routing table that nobody uses now, for a new tunnel. Raises PlatformError."""

    def look() -> int:
        with kernel or Kernel() as opened:
            for table in range(FIRST_TABLE, FIRST_TABLE + TABLES):
                if opened.table_is_free(table):
                    return table
        raise PlatformError("no free routing table", hint="see `ip rule` and `ip route show table all`")

    return off_loop(look)


def repair(
    state_dir: Path,
    *,
    resolv_conf: Path = RESOLV_CONF,
    kernel: KernelAdapter | None = None,
    dns: DnsAdapter | None = None,
) -> list[str]:
    """Undo what tunnels whose process is dead left behind; returns lines for people. For the start of every tunnel.

    A journal that is not well-formed is moved aside, and nothing in it is acted on. Raises PlatformError if
    `state_dir` could be written by somebody else.
    """
    return off_loop(lambda: _repair(state_dir, resolv_conf, kernel or Kernel(), dns))


def _repair(state_dir: Path, resolv_conf: Path, kernel: KernelAdapter, dns: DnsAdapter | None) -> list[str]:
    done = []
    try:
        with open_directory(state_dir) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)  # two tunnels may start at once; closing unlocks
            for filename in sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX)):
                done += _repair_one(directory, state_dir, filename, resolv_conf, kernel, dns)
    except FileNotFoundError:
        pass  # no tunnel ran since the machine started
    except OSError as error:
        raise PlatformError(f"cannot look through {state_dir}", reason=error.strerror) from error
    return done + Dns(this_process("repair"), resolv_conf).repair()


def _repair_one(
    directory: int, state_dir: Path, filename: str, resolv_conf: Path, kernel: KernelAdapter, dns: DnsAdapter | None
) -> list[str]:
    try:
        owner, steps = load(directory, filename)
    except (JournalError, OSError) as error:
        os.replace(filename, f"{filename}.malformed", src_dir_fd=directory, dst_dir_fd=directory)
        return [f"{state_dir / filename} is not a journal ({error}): moved aside, nothing of it was undone"]
    if owner.is_alive():
        return []
    kept: list[Step] = []
    lines: list[str] = []
    names = dns or Dns(owner, resolv_conf)
    with kernel:
        for step in reversed(steps):
            try:
                lines += _undo(kernel, names, step)
            except PlatformError as error:
                kept.insert(0, step)
                lines.append(f"not undone: {': '.join(error.lines()[:2])}")
    Journal(state_dir, filename, owner).write(kept)
    return [f"undid {len(steps) - len(kept)} changes that the tunnel {owner.name} (process {owner.pid}) left", *lines]


def _undo(kernel: KernelAdapter, dns: DnsAdapter, step: Step) -> list[str]:
    if isinstance(step, DnsStep):
        return dns.undo(step)
    kernel.undo(step)
    return []
