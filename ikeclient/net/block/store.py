"""Closes and opens the machine, and remembers what is closed: a file for each tunnel, which outlives every process.

The file is written before anything is closed and goes after everything is open, so it never tells less than there is.
It holds a value (`state.Block`), from which routes, rules and firewall follow; like a journal it cannot become a
program. `repair` does not read it: what a kill switch closed is no leftover of a crash.

It lies where journals lie, and that directory does not survive the machine's end, just as the rules do not. If the
file alone is gone, what is closed is still found by its shape (`strays`).

What has to go is not reckoned from what the file said before, which a kill may have kept from coming true, but from
what the kernel has in the block's table. So any start and any end puts right what one before it left half done.

Tunnels of root and of services each have a directory. What belongs to one of them passes the firewall of all, so the
blocks in `beside` are read too; but only root's and services' own, since a block says what may leave.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ikeclient.errors import PlatformError
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.block.files import SUFFIX, file_names
from ikeclient.net.block.firewall import Copy, FirewallAdapter, Nft, lacks
from ikeclient.net.block.state import (
    BLOCK_TABLES,
    CLOSED,
    RETURN_PATH,
    Block,
    firewall_table,
    ruleset,
    steps,
)
from ikeclient.net.changes.desired import PRIVATE, contains
from ikeclient.net.changes.steps import MAIN, Route, Rule
from ikeclient.net.changes.surroundings import network_namespace
from ikeclient.net.machine import routing
from ikeclient.net.machine.kernel import Kernel, reverse_path_filters
from ikeclient.net.model import VERSIONS, IPNetwork
from ikeclient.net.rights.privileges import has_net_admin
from ikeclient.net.watch.netlink import Netlink
from ikeclient.nofollow import create_file, open_directory, open_lock, open_regular

LARGEST = 1 << 20  # bytes of a file that are still read
_LOCK_SECONDS = 2.0  # a stopped process may hold the lock
_CODEC = Codec()


def now() -> float:
    """Seconds since the machine started, its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """What was seen to be in force of a block: `routes`, with their rules, `firewall`, and `problem`, why not both."""

    block: Block
    routes: bool
    firewall: bool
    problem: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the machine is open: for a time, or because others took away all that closed it."""
        return self.block.open_until > now() or not (self.routes or self.firewall)

    @property
    def means(self) -> str:
        """What closes, in words."""
        if self.block.open_until > now():
            left = timedelta(seconds=self.block.open_until - now())
            return f"open until {(datetime.now(UTC) + left).strftime('%H:%M:%SZ')}"
        means = [*(["routes"] if self.routes else ()), *(["firewall"] if self.firewall else ())]
        return " and ".join(means) or "nothing: others have removed its rules"


class Blocks:
    """The blocks of the tunnels of one runtime directory, in the calling thread's network namespace.

    `beside` gives the directories of root's and of services' tunnels. `firewall` exists for tests. Every method raises
    PlatformError.
    """

    def __init__(
        self,
        directory: Path,
        beside: Callable[[], Sequence[Path]] = tuple,
        *,
        firewall: FirewallAdapter | None = None,
    ) -> None:
        self._directory = directory
        self._beside = beside
        self._firewall = firewall or Nft()
        self._prints: dict[str, bytes | None] = {}  # of the tables as they were loaded, by name
        self._loaded: tuple[list[Block], list[Copy]] = [], []  # what the firewall was made of, and the kernel has of it
        self._unwritten: dict[str, Block] = {}  # in force, but the disk was full
        self._kept: int | None = None

    def all(self) -> list[Block]:
        """The blocks of this directory and this network namespace. A file that is none is passed over."""
        return [self._unwritten.get(block.name, block) for block in _blocks_in(self._directory)]

    def others(self) -> list[Block]:
        """The blocks of other directories in this network namespace."""
        return [block for path in self._beside() if path != self._directory for block in _blocks_in(path)]

    def get(self, name: str) -> Block | None:
        """The block of a tunnel; None if it has none here."""
        return next((block for block in self.all() if block.name == name), None)

    def is_damaged(self, name: str) -> bool:
        """Whether there is a file for a tunnel that cannot be read, so that what it closed is found by shape alone."""
        path = self._directory / (name + SUFFIX)
        return (path.is_symlink() or path.exists()) and _read(self._directory, path.name) is None

    def free_table(self) -> int:
        """A routing table for a new block."""
        taken = {block.table for block in (*self.all(), *self.others())}
        names = set(self._firewall.tables())
        with Kernel() as kernel:
            for table in BLOCK_TABLES:
                if table not in taken and f"ikeclient_{table}" not in names and kernel.table_is_free(table):
                    return table
        raise PlatformError("no free routing table", hint="`ikeclient unblock --all` removes what is not needed")

    def close(self, block: Block, *, unless_opened: bool = False) -> Closed | None:
        """Make `block` what its tunnel keeps closed, in the place of what it kept closed before.

        `unless_opened`: nothing is closed, and None returned, if others have opened it since.
        """
        block = replace(block, lan=tuple(_lan(block.interface)) if block.exclude_lan else ())
        with self._locked():
            former = self.get(block.name)
            if former is None and unless_opened:
                return None
            damaged = former is None and self.is_damaged(block.name)
            problem = self._remember(former, block)
            self._route(block.table, block)
            closed = self._load(block)
            if damaged:
                self._supersede(block)
        return closed if problem is None else replace(closed, problem=problem)

    def open(self, name: str) -> bool:
        """Open what a tunnel kept closed, and forget it; whether there was anything.

        Without anything nothing is written: a tunnel without a kill switch ends well on a disk that takes no more.
        """
        if self.get(name) is None:
            return False
        with self._locked():
            block = self.get(name)
            if block is None:
                return False
            if all(block.table != other.table for other in self.others()):
                self._unload(firewall_table(block))
                self._route(block.table, None)
            self._forget(name)
            self._load_all()  # what belonged to this tunnel passes no more
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
            self._route(opened.table, opened)
            return result

    def uphold_firewall(self) -> list[str]:
        """Put back the firewall alone, which is a matter of milliseconds; returns words for what was put back."""
        with self._firewall:
            before = self._altered()
            if not before:
                return []
            with self._locked():
                self._load_all()
            again = any(self._prints.get(table) != found for table, found in before.items())
            return ["the firewall"] if again else []

    def uphold(self) -> list[str]:
        """Put back what others took away, and follow the network and the time; returns words for what was put back."""
        put_back: dict[str, None] = {}
        blocks = [block for block in self.all() if block.networks]
        for block in blocks:
            over = 0 < block.open_until <= now()
            if over or (block.exclude_lan and tuple(_lan(block.interface)) != block.lan):
                self.close(replace(block, open_until=0.0) if over else block, unless_opened=True)
            elif _amiss(block):
                with self._locked():
                    if self.get(block.name) == block:  # else others open it, or close something else
                        put_back |= dict.fromkeys(_amiss(block))
                        self._route(block.table, block)
        if blocks:
            put_back |= dict.fromkeys(self.uphold_firewall())
        return list(put_back)

    def in_force(self, block: Block) -> Closed:
        """What is in force of a block now."""
        routes = not _amiss(block)
        there = self._firewall.fingerprint(firewall_table(block)) is not None
        unseen = not has_net_admin() and lacks() is None  # other users may not look
        return Closed(block=block, routes=routes, firewall=there or (unseen and routes))

    def strays(self, known: frozenset[int] = frozenset()) -> list[str]:
        """Commands that undo what is closed by no block: its file is gone. `known` are tables of other directories."""
        known |= {block.table for block in (*self.all(), *self.others())}
        rules, routes, tables = self._found(known)
        return _commands(rules, routes, tables)

    def open_strays(self, known: frozenset[int] = frozenset()) -> list[str]:
        """Undo what `strays` tells of, and return it."""
        known |= {block.table for block in (*self.all(), *self.others())}
        rules, routes, tables = self._found(known)
        with Kernel() as kernel:
            refused = [error for error in kernel.undo([*rules, *routes]) if error is not None]
        for table in tables:
            self._unload(table)
        for error in refused:
            raise error
        with contextlib.suppress(OSError):
            for path in self._directory.glob(f"*{SUFFIX}"):
                if _read(self._directory, path.name) is None:
                    path.unlink()
        return _commands(rules, routes, tables)

    def _supersede(self, block: Block) -> None:
        """Remove what no file tells of and `block` closes as well: it would keep out what this block lets pass."""
        known = frozenset(each.table for each in (*self.all(), *self.others()))
        rules, routes, tables = self._found(known)
        kept = {
            route.table
            for route in routes
            if route.kind == "unreachable" and not any(contains(net, route.destination) for net in block.networks)
        }
        with Kernel() as kernel:
            gone: list[Rule | Route] = [rule for rule in rules if rule.table not in kept]
            gone += [route for route in routes if route.table not in kept]
            for error in kernel.undo(gone):
                if error is not None:
                    raise error
        for table in tables:
            if int(table.rpartition("_")[2]) not in kept:
                self._unload(table)

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

    def keep(self, name: str) -> bool:
        """Be the one process that keeps something closed for a tunnel, until it ends; whether there is no other."""
        if self._kept is None:
            with self._locked():
                path = self._directory / f".{name}.keeper"
                try:
                    kept = open_lock(path)
                except OSError as error:
                    raise _cannot_write(path, error) from error
                try:
                    fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(kept)
                    return False
                self._kept = kept
        return self._kept is not None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._directory / ".block.lock"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            lock = self._lock_file(path.name)
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

    def _lock_file(self, name: str) -> int:
        """Open the file that is locked, in the place of its owner if root does it. Raises OSError.

        A user's directory may be another one by the time it is opened, and its file a link to one of root's.
        """
        directory = open_directory(self._directory)
        try:
            owner = os.fstat(directory)
            if os.geteuid() not in (0, owner.st_uid) or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PlatformError(f"{self._directory} belongs to somebody else, or others can write to it")
            lock = open_lock(name, directory)
        finally:
            os.close(directory)
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(lock)
            raise PlatformError(f"{self._directory / name} is no file of its own", hint="remove it")
        if os.geteuid() == 0 and owner.st_uid:
            os.fchown(lock, owner.st_uid, owner.st_gid)
        return lock

    def _remember(self, former: Block | None, block: Block) -> str | None:
        """Write the file; returns why not, where the old one still leads to all that will be closed."""
        try:
            self._write(block)
        except PlatformError as error:
            if former is None or former.table != block.table:
                raise
            self._unwritten[block.name] = block
            return ": ".join(error.lines()[:2])
        self._unwritten.pop(block.name, None)
        return None

    def _forget(self, name: str) -> None:
        path = self._directory / (name + SUFFIX)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise PlatformError(f"cannot remove {path}", reason=error.strerror) from error

    def _write(self, block: Block) -> None:
        path = self._directory / (block.name + SUFFIX)
        temporary = self._directory / f".{block.name}{SUFFIX}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            with create_file(temporary) as file:
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

    def _route(self, table: int, block: Block | None) -> None:
        """Bring what the kernel has in a block's table to what `block` wants there; new ones come first."""
        wanted = _wanted(block) if block is not None else []
        others = [each for each in (*self.all(), *self.others()) if each.table != table]
        needed = {*wanted, *(step for each in others for step in steps(each, filtered=True))}
        with Kernel() as kernel:
            _take(kernel, wanted)
            rules, routes = _in_table(table)
            taken = {step.key for step in wanted}
            gone = [rule for rule in rules if rule not in needed]
            gone_too = [route for route in routes if route not in needed and route.key not in taken]
            for error in kernel.undo([*gone, *gone_too]):
                if error is not None:
                    raise error

    def _load(self, block: Block) -> Closed:
        """Load the firewall of every block; what is in force of `block`, whose routes are there already."""
        if not block.networks:
            self._unload(firewall_table(block))
        problem = self._load_all()
        there = self._prints.get(firewall_table(block)) is not None
        return Closed(block=block, routes=True, firewall=there, problem=problem)

    def _load_all(self) -> str | None:
        """Load the firewall of every block; what belongs to one passes in the tables of all. Returns why not."""
        blocks = [*self.all(), *self.others()]
        names = [firewall_table(each) for each in blocks if each.networks]
        problem = None
        if names and not self._restored(blocks):
            problem = self._load_anew(blocks, names)
        self._prints = {name: self._firewall.fingerprint(name) if problem is None else None for name in names}
        return problem

    def _restored(self, blocks: list[Block]) -> bool:
        """Whether what would be loaded again is there again, from what the kernel had of it."""
        before, copies = self._loaded
        return blocks == before and all(copies) and self._firewall.restore(copies)

    def _load_anew(self, blocks: list[Block], names: list[str]) -> str | None:
        present = now()
        texts = [
            ruleset(each, blocks, seconds=max(0, round(each.open_until - present))) for each in blocks if each.networks
        ]
        self._loaded = [], []
        try:
            self._firewall.load("".join(texts))
        except PlatformError as error:
            return ": ".join(error.lines()[:2])
        if not any(each.open_until > present for each in blocks):  # which would end another time
            self._loaded = blocks, [self._firewall.copy(name) for name in names]
        return None

    def _altered(self) -> dict[str, bytes | None]:
        """The tables that are not as they were loaded, or could not be loaded, each as it is now."""
        found = {name: self._firewall.fingerprint(name) for name in self._prints}
        return {name: there for name, there in found.items() if there is None or there != self._prints[name]}

    def _unload(self, table: str) -> None:
        self._prints.pop(table, None)
        self._firewall.remove(table)


def _blocks_in(directory: Path) -> list[Block]:
    found = [_read(directory, name) for name in file_names(directory)[: len(BLOCK_TABLES)]]
    here = network_namespace()
    return [block for block in found if block is not None and block.network == here]


def _read(directory: Path, filename: str) -> Block | None:
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        with open_regular(directory / filename) as file:
            status = os.fstat(file.fileno())
            if status.st_size > LARGEST or status.st_uid not in (os.geteuid(), directory.stat().st_uid):
                return None
            block = _CODEC.decode(Block, json.loads(file.read(LARGEST)))
        return block if block.name + SUFFIX == filename else None
    return None


def _commands(rules: Sequence[Rule], routes: Sequence[Route], tables: Sequence[str]) -> list[str]:
    lines = [rule.undo_commands()[0] for rule in rules] + [route.undo_commands()[0] for route in routes]
    return [*lines, *(f"nft delete table inet {table}" for table in tables)]


def _wanted(block: Block) -> list[Route | Rule]:
    if block.open_until > now():
        return []
    ipv6 = Path("/proc/sys/net/ipv6").is_dir()
    found = steps(block, filtered=bool(reverse_path_filters(block.interface)))
    return [step for step in found if ipv6 or (step if isinstance(step, Rule) else step.destination).version == 4]


def _amiss(block: Block) -> list[str]:
    """Words for what of a block's routes and rules is missing, or opens what it closes."""
    wanted = _wanted(block)
    with Kernel() as kernel:
        missing = kernel.missing(wanted)
    _, routes = _in_table(block.table)
    found = {"routes" if isinstance(step, Route) else "rules": None for step in missing}
    if set(routes) - set(wanted):
        found["routes"] = None
    return list(found)


def _in_table(table: int) -> tuple[list[Rule], list[Route]]:
    """The rules that lead to a block's table, with those for answers to any block, and the routes in it."""
    with contextlib.closing(Netlink()) as netlink:
        try:
            seen = [each.rule for version in VERSIONS for each in routing.rules(netlink, version)]
            routes = [each for each in routing.routes(netlink, table) if each.table == table]
        except OSError as error:
            raise PlatformError("`ip rule show` failed", reason=error.strerror) from error
    of_block = [
        rule
        for rule in seen
        if rule is not None
        and ((rule.priority == CLOSED and rule.table == table) or (rule.priority == RETURN_PATH and rule.table == MAIN))
    ]
    return of_block, routes


def _take(kernel: Kernel, wanted: Sequence[Route | Rule]) -> None:
    for error in kernel.apply([(step, True) for step in wanted]):
        if error is not None:
            raise error


def _lan(interface: str) -> list[IPNetwork]:
    """The private networks that this machine is on."""
    with Kernel() as kernel:
        lan = kernel.facts(interface).lan
    return sorted((net for net in lan if any(contains(private, net) for private in PRIVATE)), key=str)


def _cannot_write(path: Path, error: OSError) -> PlatformError:
    return PlatformError(
        f"cannot write {path}, without which nothing can be closed",
        reason=error.strerror or str(error),
        hint="free some space there, or make the directory writable for this user",
    )
