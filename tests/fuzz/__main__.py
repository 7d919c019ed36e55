"""Throw damaged and odd input at everything that reads what others wrote, for a bounded time.

Whatever comes in, only the documented errors may come out, soon, and without memory that grows. What fails is written
into a file below fuzz-crashes, with the command that shows it again.
"""

from __future__ import annotations

import argparse
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz import corpus
from fuzz.target import Target
from fuzz.targets import TARGETS
from fuzz.worker import CRASHES, Blackboard, Report, Search, judge, write_failure
from ikeclient.esp.codec import choice as offload

HANG = 20.0  # seconds of CPU for one input, after which its worker is killed
_STILL = 120.0  # the same, of time: something waits for ever
_LOOK = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class _Worker:
    """A process that searches one target, and what is known of it."""

    target: Target
    pid: int
    pipe: int
    board: Blackboard
    received: bytes = b""
    number: int = -1
    since: float = 0.0
    cpu_since: float = 0.0


def start(target: Target, seconds: float, seed: str, crashes: Path = CRASHES) -> _Worker:
    """Begin to search a target in a process of its own."""
    inputs = [*target.seeds(), *corpus.read(corpus.path_of(target))]
    board = Blackboard()
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        os.set_blocking(reading, False)
        return _Worker(target, pid, reading, board)
    code = 1
    try:
        os.close(reading)
        end = time.monotonic() + seconds
        search = Search(target, inputs, board, crashes)
        report = search.run(Random(seed), lambda: time.monotonic() >= end)
        with open(writing, "wb") as file:
            pickle.dump(report, file)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _watch(worker: _Worker, crashes: Path) -> Report | None:
    """Return the report of a worker that is done; one that hangs is killed, and its input kept."""
    while piece := _read(worker.pipe):
        worker.received += piece
    ended, status = os.waitpid(worker.pid, os.WNOHANG)
    if not ended:
        number, data = worker.board.read()
        now, cpu = time.monotonic(), _cpu(worker.pid)
        if number != worker.number or not worker.since:
            worker.number, worker.since, worker.cpu_since = number, now, cpu
        if cpu - worker.cpu_since < HANG and now - worker.since < _STILL:
            return None
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        return _lost(worker, f"it does not end: {len(data)} bytes took more than {HANG:g} s", crashes)
    while piece := _read(worker.pipe):
        worker.received += piece
    os.close(worker.pipe)
    if os.waitstatus_to_exitcode(status) == 0:
        report: Report = pickle.loads(worker.received)
        return report
    return _lost(worker, f"the process ended with {os.waitstatus_to_exitcode(status)}", crashes)


def _lost(worker: _Worker, what: str, crashes: Path) -> Report:
    number, data = worker.board.read()
    path = write_failure(crashes, worker.target.name, data, what)
    failure = f"{worker.target.name}: {what}; scripts/fuzz --replay {path}"
    return Report(target=worker.target.name, inputs=number, failures=[failure])


def _read(pipe: int) -> bytes:
    try:
        return os.read(pipe, 1 << 20)
    except (BlockingIOError, OSError):
        return b""


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def run(targets: Sequence[Target], seconds: float, seed: int, jobs: int, crashes: Path = CRASHES) -> list[Report]:
    """Search each target for `seconds`, some at a time; returns the reports."""
    waiting = list(targets)
    workers: list[_Worker] = []
    reports = []
    while waiting or workers:
        while waiting and len(workers) < jobs:
            target = waiting.pop(0)
            workers.append(start(target, seconds, f"{seed} {target.name}", crashes))
        time.sleep(_LOOK)
        for worker in workers[:]:
            if (report := _watch(worker, crashes)) is not None:
                workers.remove(worker)
                reports.append(report)
                _tell(report)
    return reports


def _tell(report: Report) -> None:
    rate = report.inputs / report.seconds if report.seconds else 0
    print(
        f"{report.target:22} {report.inputs:11,} inputs {rate:9,.0f}/s {report.outcomes:5} outcomes"
        f"  slowest {report.slowest * 1000:7.1f} ms",
        flush=True,
    )
    for failure in report.failures:
        print(f"FAILED {failure}", file=sys.stderr, flush=True)


def _summary(reports: Sequence[Report], jobs: int, took: float) -> int:
    inputs, failures = sum(r.inputs for r in reports), sum(len(r.failures) for r in reports)
    print(
        f"{inputs:,} inputs in {took:,.0f} s with {jobs} processes; {inputs * 3600 / took:,.0f} in an hour; "
        f"the fewest: {min((r.inputs, r.target) for r in reports)}; {failures} failures"
    )
    return 1 if failures else 0


def replay(path: Path) -> int:
    """Judge the inputs in a file that a search, or the corpus, has written."""
    names = [line[10:] for line in path.read_text(encoding="ascii").splitlines() if line.startswith("# target: ")]
    for data in corpus.read(path):
        took = judge(TARGETS[names[0]], data)
        print(f"{names[0]}: {len(data)} bytes are judged as they should be ({took} s)")
    return 0


def distil(reports: Sequence[Report]) -> None:
    """Make the corpus anew of itself and what the searches have kept."""
    corpus.DIRECTORY.mkdir(exist_ok=True)
    for report in reports:
        target = TARGETS[report.target]
        path = corpus.path_of(target)
        found = corpus.distilled(target, [*corpus.read(path), *report.kept])
        path.unlink(missing_ok=True)
        if found:
            corpus.write(path, found, (f"target: {target.name}",))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together (60)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="for the same inputs again")
    parser.add_argument("--only", choices=TARGETS, action="append", metavar="TARGET", help="this one; can be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="judge the inputs in a file")
    parser.add_argument("--distil", action="store_true", help="add what reaches more lines to tests/fuzz/corpus")
    parser.add_argument("--list", action="store_true", help="name the targets")
    options = parser.parse_args()
    if options.list:
        print("\n".join(TARGETS))
        return 0
    if options.replay:
        return replay(options.replay)
    chosen = [TARGETS[name] for name in options.only or TARGETS]
    jobs = max(1, min(options.jobs, len(chosen)))
    print(f"seed {options.seed}, {offload.describe()}", flush=True)
    started = time.monotonic()
    reports = run(chosen, options.seconds * jobs / len(chosen), options.seed, jobs)
    if options.distil:
        distil(reports)
    return _summary(reports, jobs, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
