"""`connect --detach`: the tunnel goes on in a child process while the command returns.

The child is a plain fork before the event loop exists, because secrets that were typed must not travel over argv or the
environment of a new program. A pipe carries the tunnel's events and, in the end, its error to the command, which shows
them exactly as it would have shown its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from ikeclient.cli.failure import unexpected
from ikeclient.cli.journal import CappedFile, log_to
from ikeclient.cli.view.render import event_line
from ikeclient.cli.view.terminal import printable
from ikeclient.control.directory import prepare
from ikeclient.control.events import error_of
from ikeclient.errors import IkeclientError, Interrupted, PlatformError, shortage

Events = Callable[[dict[str, object]], None]
_MAXIMUM_LINE = 4096  # PIPE_BUF: shorter writes arrive whole or not at all, so a stopped reader never stops the tunnel
_ESSENTIAL = {"event", "time", "milliseconds", "interface"}
_INTERRUPT_SECONDS = 5.0
_LINGER_SECONDS = 0.5  # between a process closing its files and its end being known
_POLL_SECONDS = 0.02


def run_detached(
    work: Callable[[Events], None], show: Events, log: Path, verbosity: int, *, keep: Collection[int] = ()
) -> int:
    """Run `work` in a child process and return its process ID when it reports the event `connected`.

    `work` gets a function that takes events; `show` gets the same events in this process. The child's lines go to
    `log`, which is removed when the tunnel ends cleanly; of our descriptors it has those in `keep`. Raises what `work`
    raised before it was connected, and Interrupted after Ctrl-C, when the child has been told to stop.
    """
    prepare(log.parent)
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()  # or the child would write it a second time
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            code = _child(work, writing, log, verbosity, keep)
        finally:
            os._exit(code)
    os.close(writing)
    try:
        _follow(reading, show, pid, log)
    except KeyboardInterrupt:
        _stop(pid)
        raise Interrupted("interrupted", reason="the tunnel was told to stop") from None
    finally:
        os.close(reading)
    return pid


def _follow(reading: int, show: Events, pid: int, log: Path) -> None:
    """Show what the child reports until it is connected; raise its error.

    The child closes its end once it is connected and never waits for us. So when we were stopped for a while and the
    decisive message was lost in a full pipe, whether the child lives, and else its exit code, still tell the result.
    """
    for message in _messages(reading):
        if (error := message.get("error")) is not None and "event" not in message:
            raise error_of(error if isinstance(error, dict) else {})
        show(message)
        if message.get("event") == "connected":
            return
    code = _exit_code(pid, _LINGER_SECONDS)
    if code is None:
        return
    if code < 0:
        raise PlatformError("the tunnel's process is gone", reason=f"it was ended by {signal.Signals(-code).name}")
    raise error_of({"message": "the tunnel failed", "reason": f"its log is {log}", "exit_code": code})


def _exit_code(pid: int, seconds: float) -> int | None:
    """The exit code of the child, negative for a signal; None when it lives on after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_SECONDS)


def _messages(reading: int) -> Iterator[dict[str, object]]:
    with open(reading, "rb", closefd=False) as lines:
        for line in lines:
            yield json.loads(line)


def _stop(pid: int) -> None:
    """Ask the child to end, and wait a moment so that the machine is restored when the prompt comes back."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError, KeyboardInterrupt):
        os.kill(pid, signal.SIGTERM)  # SIGINT may be ignored since before we were started
        _exit_code(pid, _INTERRUPT_SECONDS)


def _child(work: Callable[[Events], None], writing: int, log: Path, verbosity: int, keep: Collection[int]) -> int:
    """Everything the child does; returns its exit code. Never raises."""
    os.setsid()
    writing = fcntl.fcntl(writing, fcntl.F_DUPFD, 3)  # the caller may have closed its standard files
    _close_inherited({writing, *keep})
    pipe = _Pipe(writing)
    journal = CappedFile(log)
    log_to(journal.line, verbosity)

    def report(event: dict[str, object]) -> None:
        journal.line(event_line(event))
        pipe.send(event)
        if event.get("event") == "connected":
            pipe.close()

    try:
        work(report)
    except BaseException as error:
        failure = _failure(error, journal)
        journal.line("error: " + " / ".join(printable(line) for line in failure.lines()))
        pipe.send({"error": _described(failure)})
        return failure.exit_code
    early = Interrupted("the tunnel was told to end")  # heard by the command only if the tunnel was not up yet
    pipe.send({"error": _described(early)})
    with contextlib.suppress(OSError):  # it is gone already where the tunnel gave up the right to remove it
        log.unlink()
    return early.exit_code if pipe.is_open else 0


def _failure(error: BaseException, journal: CappedFile) -> IkeclientError:
    match error:
        case IkeclientError():
            return error
        case KeyboardInterrupt():
            return Interrupted("interrupted")
    return shortage(error) or unexpected(error, log=journal)


def _described(error: IkeclientError) -> dict[str, object]:
    words = {"message": error.message, "reason": error.reason, "hint": error.hint}
    return {key: text and printable(text, 250) for key, text in words.items()} | {"exit_code": error.exit_code}


class _Pipe:
    """The way to the command that waits for us. It never blocks, and takes no more once it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_open = True
        os.set_blocking(descriptor, False)

    def send(self, message: Mapping[str, object]) -> None:
        """Send one message, or lose it."""
        if not self.is_open:
            return
        line = json.dumps(message, default=str).encode() + b"\n"
        if len(line) > _MAXIMUM_LINE:  # a very long list of routes; without it the command knows all it needs
            short = {key: value for key, value in message.items() if key in _ESSENTIAL}
            line = json.dumps(short, default=str).encode() + b"\n"
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line)

    def close(self) -> None:
        """Let the command go."""
        if self.is_open:
            self.is_open = False
            os.close(self._descriptor)


def _close_inherited(keep: Collection[int]) -> None:
    """Standard input and output become /dev/null, every other descriptor of the calling shell is closed."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))
