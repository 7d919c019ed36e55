"""The machine a tunnel runs on, changed and given back.

`apply` brings it to a desired state by comparing with what we put there ourselves, so it may be called again after
every change of network or configuration. All steps of a call are in the journal before the first is taken, and leave it
after they are undone. Three things undo, all through the same code: `revert` on exit, a failure half way through
`apply`, and `repair` at the next start when the process died (the kernel itself removes the TUN device with its
addresses and the routes into it then; rules, unreachable routes and DNS stay behind). `repair` also removes rules and
routes of ours that no journal tells of and no living process answers for (`marks`).

Other programs change what is ours while the tunnel is up: `uphold` looks at the kernel and puts it back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeGuard

from ikeclient.errors import PlatformError, UsageError
from ikeclient.net.changes.desired import Facts, desired, samples, usable_servers
from ikeclient.net.changes.journal import (
    SUFFIX,
    Journal,
    JournalError,
    JournalStore,
    alone_in,
    load,
    open_directory,
    this_process,
)
from ikeclient.net.changes.steps import (
    FIRST_TABLE,
    TABLES,
    Address,
    DnsStep,
    Key,
    Link,
    LocalRuleLast,
    NetlinkStep,
    ResolvConfFile,
    Route,
    Rule,
    Step,
    backstop_table,
)
from ikeclient.net.dns.backends import RESOLV_CONF, Dns, DnsAdapter, acceptable
from ikeclient.net.dns.resolv_conf import holds
from ikeclient.net.machine.kernel import Kernel, KernelAdapter
from ikeclient.net.machine.marks import table_mark
from ikeclient.net.model import IPAddress, MachineConfig, Version

NOT_UNDONE = "not undone: "


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
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []
        self.amiss: list[str] = []
        self._state_dir = state_dir
        self._resolv_conf = resolv_conf
        self._filename = name + SUFFIX
        self._kernel = kernel or Kernel()
        self._dns = dns or Dns(owner, resolv_conf)
        self._journal = journal or Journal(state_dir, self._filename, owner)
        self._undo: list[Step] = []  # what the journal holds, in the order it was done
        self._config: MachineConfig | None = None
        self._checked = False
        self._table: tuple[str, ...] = ()  # the mark of the table that is reserved

    def plan(self, config: MachineConfig) -> list[str]:
        """What `apply` would do, as command lines; changes nothing. The interface need not exist."""
        with self._kernel as kernel:
            return [line for step in self._desired(kernel, config) for line in step.commands()]

    def check(self) -> list[str]:
        """Undo what a dead process of our name left. `apply` does it too, unless this was called before.

        That is for a process that gives up the right to read journals. Raises UsageError beside a living one.
        """
        self._checked = True
        return self._check_journal()

    def apply(self, config: MachineConfig) -> None:
        """Make the machine look like `config`; nothing is touched that is right already.

        Raises PlatformError after undoing what this call had changed; earlier calls' changes then stand.
        """
        leftover = [] if self._undo or self._checked else self._check_journal()
        with self._kernel as kernel:
            steps = self._desired(kernel, config)
            self._warn(leftover)
            if any(isinstance(step, Link) and not step.index for step in steps):
                raise PlatformError(f"there is no interface {config.interface}")
            ours = any(isinstance(step, Route | Rule) and step.table == config.table for step in self._undo)
            for table in () if ours else (config.table, backstop_table(config.table)):
                if not kernel.table_is_free(table):
                    raise PlatformError(
                        f"routing table {table} is in use",
                        hint=f"see `ip rule` and `ip route show table {table}`",
                    )
            self._change(kernel, steps, config)
            self._config = config

    def reserve_table(self) -> int:
        """A routing table that no other tunnel uses or will use while this process lives. Raises PlatformError."""
        with self._kernel as kernel:
            for table in _free_tables(kernel):
                if self._kernel.marks.take(table_mark(table)):
                    self._table = (table_mark(table),)
                    return table
        raise _no_table()

    @property
    def extent(self) -> tuple[int, frozenset[int]]:
        """The index of the interface and the routing tables that `apply` changed; 0 and none where it did not."""
        link = next((step.index for step in self._undo if isinstance(step, Link)), 0)
        return link, frozenset(step.table for step in self._undo if isinstance(step, Route))

    @property
    def files(self) -> tuple[str, ...]:
        """The files whose content `uphold` looks at."""
        return (str(self._resolv_conf),)

    def uphold(self) -> list[Step]:
        """Put back what others took away of what `apply` did; returns that. Raises PlatformError if it cannot be.

        Afterwards `amiss` says what is wrong all the same and not ours to change.
        """
        return self._uphold() if self._config is not None else []

    def renew(self) -> None:
        """Apply the last configuration again: the interface is a new one of the same name, or DNS was overwritten.

        Raises PlatformError.
        """
        if self._config is not None:
            self.apply(self._config)

    def revert(self) -> None:
        """Undo everything. What cannot be undone becomes a warning and stays in the journal for `repair`."""
        self.left = []
        self._config = None
        if not self._undo:
            return
        with self._kernel as kernel:
            refused = self._forgiving(kernel, [*reversed(self._undo)])
        self.left = [line for step in refused for line in step.undo_commands()]
        self._try_to_write([*reversed(refused)])
        self._kernel.marks.hold(self._undo, *self._table)

    def _desired(self, kernel: KernelAdapter, config: MachineConfig) -> list[Step]:
        self.warnings, self.servers = [], ()
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
        if step is None:
            return [*steps]
        self.servers = dns.servers
        return [*steps, step]

    def _before_us(self, facts: Facts) -> Facts:
        for step in self._undo:
            if isinstance(step, Link) and step.index == facts.index:
                return replace(facts, mtu=step.old_mtu, up=step.was_up)
        return facts

    def _uphold(self) -> list[Step]:
        with self._kernel as kernel:
            steps = [step for step in self._undo if not isinstance(step, DnsStep)]
            missing = kernel.missing(steps)
            if any(isinstance(step, Rule) and step.priority == 0 for step in missing):
                missing += [step for step in steps if isinstance(step, LocalRuleLast) and step not in missing]
            missing.sort(key=_urgency)
            refusals: list[PlatformError] = []
            rest = missing
            while rest:
                results = kernel.apply([(step, True) for step in rest])
                refusals += [refusal for refusal in results if refusal is not None]
                rest = rest[len(results) :]
            names = self._overwritten()
            if names and self._config is not None:
                self._change(kernel, self._desired(kernel, self._config), self._config)
                if self._overwritten():
                    refusals.append(PlatformError(f"another program changed {self._resolv_conf}"))
            self.amiss = self._look_for_more(kernel)
        for refusal in refusals:
            raise refusal
        return [*missing, *names]

    def _look_for_more(self, kernel: KernelAdapter) -> list[str]:
        assert self._config is not None
        if not kernel.has_interface(self.extent[0]):
            return [f"the interface {self._config.interface} is gone: nothing passes the tunnel"]
        missed, _ = self._missed(kernel, self._config, self._undo)
        return [
            f"no IPv{version} traffic enters the tunnel: other rules or routes lead elsewhere" for version in missed
        ]

    def _overwritten(self) -> list[Step]:
        """What somebody else wrote over of name resolution; only a file can be looked at for nothing."""
        if self._resolv_conf.exists() and not os.access(self._resolv_conf, os.R_OK):
            return []
        files = [step for step in self._undo if isinstance(step, ResolvConfFile)]
        return [step for step in files if not holds(self._resolv_conf, step)]

    def _confirm(self, kernel: KernelAdapter, config: MachineConfig, steps: list[Step]) -> None:
        """Ask the kernel whether packets now enter the tunnel: that every step was taken does not say so."""
        missed, asked = self._missed(kernel, config, steps)
        if len(missed) < asked:
            self._warn([f"no IPv{version} traffic enters the tunnel: other rules lead elsewhere" for version in missed])
            return
        example = next((address for address in missed.values() if address), None)
        raise PlatformError(
            f"nothing leads into the tunnel's interface {config.interface}",
            reason="other rules or routes of this machine come first"
            if example
            else "; ".join(self.warnings) or "everything is excluded from it",
            hint=f"see `ip rule` and `ip route get {example}`" if example else "see [network] routes and exclude",
        )

    @staticmethod
    def _missed(
        kernel: KernelAdapter, config: MachineConfig, steps: list[Step]
    ) -> tuple[dict[Version, IPAddress | None], int]:
        """The families of which nothing enters the tunnel, each with an example, and how many should."""
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
        return missed, len(asked)

    def _check_journal(self) -> list[str]:
        """Undo what a dead process of our name left; refuses to run beside a living one."""
        if not (self._state_dir / self._filename).exists():
            return []
        with contextlib.suppress(OSError, JournalError), open_directory(self._state_dir) as directory:
            owner, _, alive = load(directory, self._filename)
            if alive:
                where = "" if owner.is_of_this_network() else ", in another network namespace"
                raise UsageError(
                    f"tunnel '{owner.name}' is already running (pid {owner.pid}{where})",
                    hint=f"`ikeclient disconnect {owner.name}` ends it",
                )
            if not owner.is_of_this_network():
                # Kept for a start over there; `~` is in no tunnel's name.
                kept = f"{owner.name}~{owner.network}{SUFFIX}"
                os.replace(self._filename, kept, src_dir_fd=directory, dst_dir_fd=directory)
                return []
        return repair(self._state_dir, resolv_conf=self._resolv_conf, kernel=self._kernel)

    def _change(self, kernel: KernelAdapter, steps: list[Step], config: MachineConfig) -> None:
        before = self._undo
        present = {step.key: step for step in before}
        wanted = {step.key: step for step in steps}
        fresh = [step for step in steps if present.get(step.key) != step]
        gone = [step for step in reversed(before) if step.key not in wanted]
        kept = [step for step in before if wanted.get(step.key) == step]
        self._kernel.marks.hold([*before, *steps], *self._table)
        taken: list[Step] = []
        try:
            self._write([*before, *fresh])
            self._take(kernel, steps, present, taken)
            self._give_up(kernel, gone)
            self._confirm(kernel, config, steps)
            self._write([*kept, *fresh])
        except BaseException:
            refused = self._forgiving(kernel, [step for step in reversed(taken) if step.key not in present])
            back = [present[step.key] for step in taken if step.key in present]
            self._put_back(kernel, [*reversed(gone), *back])
            self._try_to_write([*before, *refused])
            raise

    def _take(self, kernel: KernelAdapter, steps: list[Step], present: dict[Key, Step], taken: list[Step]) -> None:
        """Take steps in order. `taken` gets the new ones that may be in force, also when this raises."""
        for is_dns, group in groupby(steps, lambda step: isinstance(step, DnsStep)):
            several = list(group)
            tried = [step for step in several if present.get(step.key) != step]
            if is_dns:
                taken += tried
                for step in several:
                    if isinstance(step, DnsStep):
                        self._warn(self._dns.apply(step))
                continue
            try:
                results = kernel.apply([(step, step.key in present) for step in several if _is_kernels(step)])
            except BaseException:
                taken += tried
                raise
            refused = {step: error for step, error in zip(several, results, strict=False) if error is not None}
            # What the kernel refused is not ours then, or was not tried. In all other cases some of it may be done.
            nothing = {step for step in refused if isinstance(step, Address | Route | Rule)} | {
                *several[len(results) :]
            }
            taken += [step for step in tried if step not in nothing]
            for error in refused.values():
                raise error

    def _give_up(self, kernel: KernelAdapter, steps: list[Step]) -> None:
        warnings, refused = _undo(kernel, self._dns, steps)
        self._warn(warnings)
        for _, error in refused:
            raise error

    def _forgiving(self, kernel: KernelAdapter, steps: list[Step]) -> list[Step]:
        """Undo steps; a warning for what could not be undone, which is returned."""
        warnings, refused = _undo(kernel, self._dns, steps)
        self._warn([*warnings, *(_not_undone(error) for _, error in refused)])
        return [step for step, _ in refused]

    def _put_back(self, kernel: KernelAdapter, steps: list[Step]) -> None:
        """Take steps that were ours before; a warning for what could not be."""
        for step in steps:
            try:
                self._take(kernel, [step], {step.key: step}, [])
            except PlatformError as error:
                self._warn([_not_undone(error)])

    def _try_to_write(self, steps: list[Step]) -> None:
        try:
            self._write(steps)
        except PlatformError as error:
            self._warn([_not_undone(error)])

    def _write(self, steps: list[Step]) -> None:
        if steps != self._undo:
            self._journal.write(steps)
            self._undo = steps

    def _warn(self, warnings: list[str]) -> None:
        self.warnings += [text for text in warnings if text not in self.warnings]


def _is_kernels(step: Step) -> TypeGuard[NetlinkStep]:
    return not isinstance(step, DnsStep)


def _not_undone(error: PlatformError) -> str:
    return f"{NOT_UNDONE}{': '.join(error.lines()[:2])}"


def _urgency(step: NetlinkStep) -> int:
    """Without the rules everything leaves past the tunnel; routes need the address they name."""
    match step:
        case Rule(priority=priority):
            return 2 if priority == 0 else 0
        case Route(kind=kind):
            return 6 if kind == "unicast" else 1
        case LocalRuleLast():
            return 3
        case Link():
            return 4
        case Address():
            return 5


def _free_tables(kernel: KernelAdapter) -> Iterator[int]:
    for table in range(FIRST_TABLE, FIRST_TABLE + TABLES):
        if kernel.table_is_free(table) and kernel.table_is_free(backstop_table(table)):
            yield table


def _no_table() -> PlatformError:
    return PlatformError("no free routing table", hint="see `ip rule` and `ip route show table all`")


def free_table(kernel: KernelAdapter | None = None) -> int:
    """A routing table that nobody uses now. Raises PlatformError."""
    with kernel or Kernel() as opened:
        for table in _free_tables(opened):
            return table
    raise _no_table()


def repair(
    state_dir: Path,
    *,
    resolv_conf: Path = RESOLV_CONF,
    kernel: KernelAdapter | None = None,
    dns: DnsAdapter | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Undo what tunnels whose process is dead left behind; returns lines for people. For the start of every tunnel.

    With `dry_run` nothing is changed, and the lines are the commands that would undo it.

    A journal that is not well-formed is moved aside, and nothing in it is acted on. One of another network namespace is
    left alone: its steps mean something else here. Raises PlatformError if `state_dir` could be written by somebody
    else.
    """
    done = []
    try:
        with open_directory(state_dir) as directory, alone_in(directory):  # two tunnels may start at once
            for filename in sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX)):
                done += _repair_one(directory, state_dir, filename, resolv_conf, kernel or Kernel(), dns, dry_run)
    except FileNotFoundError:
        pass  # no tunnel ran since the machine started
    except OSError as error:
        raise PlatformError(f"cannot look through {state_dir}", reason=error.strerror) from error
    return done + Dns(this_process("repair"), resolv_conf).repair(dry_run=dry_run)


def _repair_one(
    directory: int,
    state_dir: Path,
    filename: str,
    resolv_conf: Path,
    kernel: KernelAdapter,
    dns: DnsAdapter | None,
    dry_run: bool,
) -> list[str]:
    try:
        owner, steps, alive = load(directory, filename)
    except (JournalError, OSError) as error:
        if dry_run:
            return []
        os.replace(filename, f"{filename}.malformed", src_dir_fd=directory, dst_dir_fd=directory)
        return [f"{state_dir / filename} is not a journal ({error}): moved aside, nothing of it was undone"]
    if alive or not owner.is_of_this_network():
        return []
    # What a living tunnel answers for by now is that tunnel's: it was started from another directory.
    ours = [step for step in reversed(steps) if not kernel.marks.answered_for(step)]
    if dry_run:
        return [line for step in ours for line in step.undo_commands()]
    with kernel:
        lines, refused = _undo(kernel, dns or Dns(owner, resolv_conf), ours)
    lines += [_not_undone(error) for _, error in refused]
    Journal(state_dir, filename, owner).write([step for step, _ in reversed(refused)])
    return [f"undid {len(ours) - len(refused)} changes that the tunnel {owner.name} (process {owner.pid}) left", *lines]


def remove_leftovers(kernel: KernelAdapter | None = None, *, dry_run: bool = False) -> list[str]:
    """Remove rules and routes of tunnels that died and left no journal; returns lines for people.

    Raises PlatformError if the kernel does not tell what there is.
    """
    with kernel or Kernel() as opened:
        found = opened.leftovers()
        if dry_run or not found:
            return [line for step in found for line in step.undo_commands()]
        _, refused = _undo(opened, None, found)
    failed = {step for step, _ in refused}
    lines = [f"removed a leftover: {line}" for step in found if step not in failed for line in step.undo_commands()]
    return lines + [_not_undone(error) for _, error in refused]


def _undo(
    kernel: KernelAdapter, dns: DnsAdapter | None, steps: Sequence[Step]
) -> tuple[list[str], list[tuple[Step, PlatformError]]]:
    """Undo steps in order, every one of them: warnings, and what could not be undone with the reason."""
    warnings: list[str] = []
    refused: list[tuple[Step, PlatformError]] = []
    for is_dns, group in groupby(steps, lambda step: isinstance(step, DnsStep)):
        several = list(group)
        if not is_dns:
            results = kernel.undo([step for step in several if _is_kernels(step)])
            refused += [(step, error) for step, error in zip(several, results, strict=True) if error is not None]
            continue
        for step in several:
            try:
                warnings += dns.undo(step) if dns is not None and isinstance(step, DnsStep) else []
            except PlatformError as error:
                refused.append((step, error))
    return warnings, refused
