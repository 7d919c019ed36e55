"""Search one target for a while: make inputs, judge each, keep what leads to something new."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import resource
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz import corpus
from fuzz.damage import grown, spliced
from fuzz.target import LARGEST, Target

CRASHES = Path("fuzz-crashes")
MEMORY = 64 << 20  # bytes by which a search may grow, once it is warm
_ROOM = 512 << 20  # bytes of address space that one input may ask for
_MOST_FAILURES = 5  # of a target, after which it is left
_MOST_KEPT = 1_000
_BATCH = 64  # inputs between two looks at the clock
_TRACED = 2_000  # of so many inputs one is looked at line by line
_GROWN = 500  # of so many inputs one is grown to the largest size
_HEAD = struct.Struct("=QI")
_PAGE = resource.getpagesize()


class Unexpected(Exception):
    """An input that did what it must not; the text says what."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What a search found."""

    target: str
    inputs: int = 0
    seconds: float = 0.0  # of CPU
    outcomes: int = 0
    slowest: float = 0.0  # seconds
    failures: list[str] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list, repr=False)


class Blackboard:
    """Memory that a worker shares with who watches it: how many inputs there were, and the present one."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _HEAD.size + (1 << 20))

    def note(self, number: int, data: bytes) -> None:
        """Write down what comes next."""
        _HEAD.pack_into(self._memory, 0, number, len(data))
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data

    def read(self) -> tuple[int, bytes]:
        """Return how many inputs there were, and the present one."""
        number, length = _HEAD.unpack_from(self._memory)
        return number, self._memory[_HEAD.size : _HEAD.size + length]


def judge(target: Target, data: bytes, *, limit: float | None = None) -> object:
    """Check one input; raises whatever should not have happened, and Unexpected if it took too long."""
    took = _seconds(target, data)
    limit = target.limit if limit is None else limit
    if took > limit:
        took = min(took, _seconds(target, data), _seconds(target, data))
    if took > limit:
        raise Unexpected(f"{len(data)} bytes took {took * 1000:.0f} ms, more than {limit * 1000:.0f} ms")
    return took


def _seconds(target: Target, data: bytes) -> float:
    started = time.process_time()
    with contextlib.suppress(*target.errors):
        target.check(data)
    return time.process_time() - started


def write_failure(directory: Path, target: str, data: bytes, what: str) -> Path:
    """Write an input that failed into a file, with the command that shows it again."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{target.replace(' ', '-')}-{hashlib.sha256(data).hexdigest()[:12]}.hex"
    corpus.write(path, [data], (f"target: {target}", *what.splitlines(), f"again: scripts/fuzz --replay {path}"))
    return path


class Search:
    """The search of one target."""

    def __init__(self, target: Target, seeds: Sequence[bytes], board: Blackboard, crashes: Path = CRASHES) -> None:
        self._target = target
        self._pool = list(seeds)
        self._board = board
        self._crashes = crashes
        self._outcomes: set[object] = set()
        self._lines: set[corpus.Line] = set()
        self._failed: set[object] = set()
        self.report = Report(target=target.name)

    def run(self, random: Random, until: Callable[[], bool], *, traced: bool = True) -> Report:
        """Search until it is time to stop, or enough has failed."""
        self._limit_memory()
        started = time.process_time()
        report, first, warm = self.report, len(self._pool), 0
        for data in self._pool[:]:
            self._judge(data)
        while not until() and len(report.failures) < _MOST_FAILURES:
            for _ in range(_BATCH):
                self._judge(self._next(random))
            if traced and report.inputs % _TRACED < _BATCH:
                self._trace(self._next(random))
            if not warm and report.inputs > 20 * _BATCH:
                warm = _resident()
        if warm and (growth := _resident() - warm) > MEMORY:
            report.failures.append(f"{self._target.name}: memory grew by {growth >> 20} MiB")
        report.seconds = time.process_time() - started
        report.outcomes = len(self._outcomes)
        report.kept = self._pool[first:]
        return report

    def _next(self, random: Random) -> bytes:
        pool, target = self._pool, self._target
        data = pool[int(random.random() * len(pool))]
        if target.made:
            return target.mutate(random, data)
        chance = random.random()
        if chance < 1 / _GROWN:
            data = grown(random, data, LARGEST)
        elif chance < 0.05:
            data = spliced(random, data, pool[int(random.random() * len(pool))])
        return target.mutate(random, data)[:LARGEST]

    def _judge(self, data: bytes) -> None:
        report, target = self.report, self._target
        report.inputs += 1
        self._board.note(report.inputs, data)
        before = time.perf_counter()
        try:
            found = target.check(data)
            outcome = found if isinstance(found, bool | int | str | tuple) else type(found)
        except target.errors as error:
            outcome = _place(error)
        except Exception as error:
            self._fail(data, error)
            return
        took = time.perf_counter() - before
        if took > report.slowest:
            report.slowest = took
            if took > target.limit:
                report.slowest = self._look_again(data)
        if outcome not in self._outcomes and len(self._outcomes) < _MOST_KEPT:
            self._outcomes.add(outcome)
            self._keep(data)

    def _look_again(self, data: bytes) -> float:
        gc.collect()
        try:
            judge(self._target, data)
        except Exception as error:
            self._fail(data, error)
        return 0.0

    def _trace(self, data: bytes) -> None:
        with contextlib.suppress(Exception):
            if new := corpus.lines_of(self._target, data) - self._lines:
                self._lines |= new
                self._keep(data)

    def _keep(self, data: bytes) -> None:
        if len(self._pool) < _MOST_KEPT:
            self._pool.append(data)

    def _fail(self, data: bytes, error: Exception) -> None:
        kind = type(error) if isinstance(error, Unexpected) else _place(error)
        if kind in self._failed:
            return
        self._failed.add(kind)
        what = "".join(traceback.format_exception(error))
        path = write_failure(self._crashes, self._target.name, data, what)
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        self.report.failures.append(
            f"{self._target.name}: {type(error).__name__}: {str(error)[:200]} ({place}); scripts/fuzz --replay {path}"
        )

    def _limit_memory(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            size = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
            if size < 1 << 36:  # an address sanitiser reserves terabytes
                _, hard = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (size + _ROOM, hard))


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def _place(error: BaseException) -> tuple[object, ...]:
    """Where an error comes from: the last places on the way to it."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code, trace.tb_lasti))
        trace = trace.tb_next
    return (type(error), *places[-3:])
