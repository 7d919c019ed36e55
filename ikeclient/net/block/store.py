"""Closes and opens the machine, and remembers what is closed: a file for each tunnel, which outlives every process.

The file is written before anything is closed and goes after everything is open, so it never tells less than there is.
It holds a value (`state.Block`), from which routes, rules and firewall follow; like a journal it cannot become a
program. `repair` does not read it: what a kill switch closed is no leftover of a crash.

It lies where journals lie, and that directory does not survive the machine's end, just as the rules do not. If the
file alone is gone, what is closed is still found by its shape (`strays`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ikeclient.errors import PlatformError
from ikeclient.ipc.typed import Codec
from ikeclient.net.block.firewall import FirewallAdapter, Nft, is_there
from ikeclient.net.block.state import (
    BLOCK_TABLES,
    CLOSED,
    RETURN_PATH,
    Block,
    firewall_table,
    no_ruleset,
    ruleset,
    steps,
)
from ikeclient.net.changes.desired import PRIVATE, contains
from ikeclient.net.changes.steps import Route, Rule
from ikeclient.net.changes.surroundings import network_namespace
from ikeclient.net.machine import routing
from ikeclient.net.machine.kernel import Kernel, reverse_path_filters
from ikeclient.net.model import VERSIONS, IPNetwork
from ikeclient.net.rights.privileges import has_net_admin
from ikeclient.net.watch.netlink import Netlink

SUFFIX = ".block.json"
LARGEST = 1 << 20  # bytes of a file that are still read
_LOCK_SECONDS = 2.0  # a stopped process may hold the lock
_CODEC = Codec()


def now() -> float:
    """Seconds since the machine started, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What is in force of a block: `firewall` tells whether that is, and `problem` why not."""

    block: Block
    firewall: bool
    problem: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the machine is open for a time."""
        return self.block.open_until > now()

    @property
    def means(self) -> str:
        """What closes, in words."""
        if self.is_open:
            left = timedelta(seconds=self.block.open_until - now())
            return f"open until {(datetime.now(UTC) + left).strftime('%H:%M:%SZ')}"
        return "routes and firewall" if self.firewall else "routes"


class Blocks:
    """The blocks of the tunnels of one runtime directory, in the calling thread's network namespace.

    `firewall` exists for tests. Every method raises PlatformError.
    """

    def __init__(self, directory: Path, *, firewall: FirewallAdapter | None = None) -> None:
        self._directory = directory
        self._firewall = firewall or Nft()
        self._prints: dict[str, bytes] = {}  # of the tables as they were loaded, by name

    def all(self) -> list[Block]:
        """The blocks of this network namespace. A file that is none is passed over."""
        try:
            names = sorted(name for name in os.listdir(self._directory) if name.endswith(SUFFIX))
        except OSError:
            return []
        found = [self._read(name) for name in names]
        here = network_namespace()
        return [block for block in found if block is not None and block.network == here]

    def get(self, name: str) -> Block | None:
        """The block of a tunnel; None if it has none here."""
        return next((block for block in self.all() if block.name == name), None)

    def free_table(self) -> int:
        """A routing table for a new block."""
        taken = {block.table for block in self.all()}
        names = set(self._firewall.tables())
        with Kernel() as kernel:
            for table in BLOCK_TABLES:
                if table not in taken and f"ikeclient_{table}" not in names and kernel.table_is_free(table):
                    return table
        raise PlatformError("no free routing table", hint="`ikeclient unblock --all` removes what is not needed")

    def close(self, block: Block) -> Closed:
        """Make `block` what its tunnel keeps closed, in the place of what it kept closed before."""
        block = replace(block, lan=tuple(_lan(block.interface)) if block.exclude_lan else ())
        with self._locked():
            former = self.get(block.name)
            self._write(block)
            self._route(former, block)
            return self._load(block)

    def open(self, name: str) -> bool:
        """Open what a tunnel kept closed, and forget it; whether there was anything."""
        with self._locked():
            block = self.get(name)
            if block is None:
                return False
            self._unload(firewall_table(block))
            self._route(block, None)
            with contextlib.suppress(FileNotFoundError):
                (self._directory / (name + SUFFIX)).unlink()
            if any(block.networks for block in self.all()):
                self._load(None)  # what belonged to this tunnel passes no more
        return True

    def open_for(self, name: str, seconds: int) -> Closed:
        """Open what a tunnel keeps closed, for so long. The firewall closes by itself, the routes by `uphold`."""
        with self._locked():
            block = self.get(name)
            if block is None:
                raise PlatformError(f"tunnel '{name}' keeps nothing closed")
            opened = replace(block, open_until=now() + seconds)
            self._write(opened)
            result = self._load(opened)
            self._route(block, opened)
            return result

    def uphold(self) -> list[str]:
        """Put back what others took away, and follow the network and the time; returns words for what was put back."""
        put_back: dict[str, None] = {}
        blocks = [block for block in self.all() if block.networks]
        for block in blocks:
            over = 0 < block.open_until <= now()
            if over or (block.exclude_lan and tuple(_lan(block.interface)) != block.lan):
                self.close(replace(block, open_until=0.0) if over else block)
                continue
            wanted = _wanted(block)
            with Kernel() as kernel:
                missing = kernel.missing(wanted)
                # Without the table a rule only lets through, and without the rule a table is not looked at.
                missing.sort(key=lambda step: isinstance(step, Rule))
                _take(kernel, [step for step in missing if isinstance(step, Route | Rule)])
            put_back |= dict.fromkeys("routes" if isinstance(step, Route) else "rules" for step in missing)
        prints = self._prints.items()
        changed = [table for table, known in prints if self._firewall.fingerprint(table) != known]
        if changed and blocks:
            with self._locked():
                self._load(blocks[0])
            put_back["the firewall"] = None
        return list(put_back)

    def in_force(self, block: Block) -> Closed:
        """What is in force of a block now."""
        there = self._firewall.fingerprint(firewall_table(block)) is not None
        unseen = not has_net_admin() and is_there()  # other users may not look
        return Closed(block=block, firewall=there or unseen)

    def strays(self, known: frozenset[int] = frozenset()) -> list[str]:
        """Commands that undo what is closed by no block: its file is gone. `known` are tables of other directories."""
        known |= {block.table for block in self.all()}
        rules, routes, tables = self._found(known)
        return _commands(rules, routes, tables)

    def open_strays(self, known: frozenset[int] = frozenset()) -> list[str]:
        """Undo what `strays` tells of, and return it."""
        known |= {block.table for block in self.all()}
        rules, routes, tables = self._found(known)
        with Kernel() as kernel:
            refused = [error for error in kernel.undo([*rules, *routes]) if error is not None]
        for table in tables:
            self._unload(table)
        for error in refused:
            raise error
        return _commands(rules, routes, tables)

    def _found(self, known: frozenset[int]) -> tuple[list[Rule], list[Route], list[str]]:
        with contextlib.closing(Netlink()) as netlink:
            try:
                seen = [each.rule for version in VERSIONS for each in routing.rules(netlink, version)]
                routes = [each for each in routing.routes(netlink) if each.table in BLOCK_TABLES]
            except OSError as error:
                raise PlatformError("`ip rule show` failed", reason=error.strerror) from error
        rules = [rule for rule in seen if rule is not None and rule.priority == CLOSED and rule.table in BLOCK_TABLES]
        answers = [rule for rule in seen if rule is not None and rule.priority == RETURN_PATH]
        tables = [name for name in self._firewall.tables() if int(name.rpartition("_")[2]) in BLOCK_TABLES]
        return (
            [rule for rule in rules if rule.table not in known] + ([] if known else answers),
            [route for route in routes if route.table not in known],
            [name for name in tables if int(name.rpartition("_")[2]) not in known],
        )

    # One at a time

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._directory / ".block.lock"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            status = self._directory.stat()
            if status.st_uid not in (os.geteuid(), *([status.st_uid] if os.geteuid() == 0 else [])) or (
                status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            ):
                raise PlatformError(f"{self._directory} belongs to somebody else, or others can write to it")
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if os.geteuid() == 0 and status.st_uid:
                os.fchown(lock, status.st_uid, status.st_gid)
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    if time.monotonic() < deadline:
                        time.sleep(0.005)
                        continue
                break
            yield
        finally:
            os.close(lock)

    def _read(self, filename: str) -> Block | None:
        path = self._directory / filename
        with contextlib.suppress(OSError, ValueError, TypeError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
                    return None
                if status.st_uid not in (os.geteuid(), self._directory.stat().st_uid):
                    return None
                block = _CODEC.decode(Block, json.loads(file.read(LARGEST)))
            return block if block.name + SUFFIX == filename else None
        return None

    def _write(self, block: Block) -> None:
        path = self._directory / (block.name + SUFFIX)
        temporary = self._directory / f".{block.name}{SUFFIX}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o644)  # it is no secret, and tells every user why nothing loads
                file.write(json.dumps(_CODEC.encode(block)).encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
                owner = self._directory.stat()
                if os.geteuid() == 0 and owner.st_uid:  # root does it for a service's tunnel, which must read it
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            temporary.replace(path)
        except OSError as error:
            raise _cannot_write(path, error) from error

    # Routes, rules and firewall

    def _route(self, former: Block | None, block: Block | None) -> None:
        """Bring the kernel from the routes and rules of `former` to those of `block`; new ones come first."""
        wanted = _wanted(block) if block is not None else []
        before = steps(former, filtered=True) if former is not None else []
        with Kernel() as kernel:
            _take(kernel, wanted)
            gone = [step for step in reversed(before) if step not in wanted and not _replaced(step, wanted)]
            for error in kernel.undo(gone):
                if error is not None:
                    raise error

    def _load(self, block: Block | None) -> Closed:
        """Load the firewall of every block of this directory; what belongs to one passes in the tables of all."""
        blocks = self.all()
        present = now()
        texts, names = [], []
        for each in blocks:
            if each.networks:
                names.append(firewall_table(each))
                texts.append(ruleset(each, blocks, seconds=max(0, round(each.open_until - present))))
        problem = None
        if block is not None and not block.networks and firewall_table(block) in self._firewall.tables():
            texts.append(no_ruleset(firewall_table(block)))
        if texts:
            try:
                self._firewall.load("".join(texts))
            except PlatformError as error:
                problem = ": ".join(error.lines()[:2])
        self._prints = {}
        for name in names if problem is None else ():
            if (found := self._firewall.fingerprint(name)) is not None:
                self._prints[name] = found
        if block is None:
            block = blocks[0]
        return Closed(block=block, firewall=firewall_table(block) in self._prints, problem=problem)

    def _unload(self, table: str) -> None:
        self._prints.pop(table, None)
        if table in self._firewall.tables():
            self._firewall.load(no_ruleset(table))


def _commands(rules: Sequence[Rule], routes: Sequence[Route], tables: Sequence[str]) -> list[str]:
    lines = [rule.undo_commands()[0] for rule in rules] + [route.undo_commands()[0] for route in routes]
    return [*lines, *(f"nft delete table inet {table}" for table in tables)]


def _wanted(block: Block) -> list[Route | Rule]:
    return [] if block.open_until > now() else steps(block, filtered=bool(reverse_path_filters(block.interface)))


def _replaced(step: Route | Rule, wanted: Sequence[Route | Rule]) -> bool:
    """Whether another route to the same network has taken the place of this one."""
    return isinstance(step, Route) and any(step.key == other.key for other in wanted)


def _take(kernel: Kernel, wanted: Sequence[Route | Rule]) -> None:
    ipv6 = Path("/proc/sys/net/ipv6").is_dir()
    possible = [step for step in wanted if ipv6 or (step.destination or step).version == 4]  # type: ignore[union-attr]
    for error in kernel.apply([(step, True) for step in possible]):
        if error is not None:
            raise error


def _lan(interface: str) -> list[IPNetwork]:
    """The private networks that this machine is on."""
    from ikeclient.net.machine.kernel import off_loop

    def look() -> list[IPNetwork]:
        with Kernel() as kernel:
            lan = kernel.facts(interface).lan
        return sorted((net for net in lan if any(contains(private, net) for private in PRIVATE)), key=str)

    return off_loop(look)


def _cannot_write(path: Path, error: OSError) -> PlatformError:
    return PlatformError(
        f"cannot write {path}, without which nothing can be closed",
        reason=error.strerror or str(error),
        hint="free some space there, or make the directory writable for this user",
    )
