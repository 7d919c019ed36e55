"""Run a tunnel in a child process that goes on while the command returns (`connect --detach`).

The child is forked before the event loop exists. A pipe carries the tunnel's events and, in the end, its error to the
command, which shows them exactly as it would have shown its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from ikeclient.control.directory import prepare
from ikeclient.control.events import happened
from ikeclient.errors import IkeclientError, Interrupted, PlatformError, bug_error, shortage
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import daemonise, exit_code, fork
from ikeclient.ipc.messages import HEADER, pack, receive
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.process.bug_report import outline
from ikeclient.process.log_file import LONGEST, CappedFile, log_to, open_log
from ikeclient.wire.text import printable

Events = Callable[[dict[str, object]], None]
Line = Callable[[Mapping[str, object]], str]  # an event as a line of the log
_LARGEST = 4096 - HEADER.size  # with its length as much as PIPE_BUF, so a stopped reader never stops the tunnel
_ESSENTIAL = {"event", "time", "milliseconds", "interface"}
_LONGEST_WORDS = (250, 50)  # characters of each line of an error; fewer if they take too many bytes
_INTERRUPT_SECONDS = 5.0
_LINGER_SECONDS = 0.5  # between a process closing its files and its end being known


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event of the tunnel, or as much of it as a message holds."""

    event: dict[str, object]


_CODEC = Codec()


def run_detached(
    work: Callable[[Events], None],
    show: Events,
    line: Line,
    log: Path,
    verbosity: int,
    *,
    keep: Collection[int] = (),
) -> int:
    """Run `work` in a child process and return its process ID when it reports the event `connected`.

    `work` gets a function that takes events; `show` gets the same events in this process. The child's lines go to
    `log`, events as `line` writes them, which is removed when the tunnel ends cleanly; of our descriptors it has those
    in `keep`. Raises what `work` raised before it was connected, and Interrupted after Ctrl-C, when the child has been
    told to stop.
    """
    prepare(log.parent)
    reading, writing = os.pipe()
    pid = fork(lambda: _child(work, writing, line, log, verbosity, keep))
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
    while (message := receive(partial(os.read, reading), _LARGEST)) is not None:
        told: Happened | Failure = _CODEC.decode(Happened | Failure, message)  # type: ignore[arg-type]  # a union
        if isinstance(told, Failure):
            exit_code(pid, _INTERRUPT_SECONDS)  # so that the next start does not find it still running
            raise told.error()
        show(told.event)
        if told.event.get("event") == "connected":
            return
    code = exit_code(pid, _LINGER_SECONDS)
    if code is None:
        return
    if code < 0:
        raise PlatformError("the tunnel's process is gone", reason=f"it was ended by {signal.Signals(-code).name}")
    raise IkeclientError("the tunnel failed", reason=f"its log is {log}", exit_code=code)


def _stop(pid: int) -> None:
    """Ask the child to end, and wait a moment so that the machine is restored when the prompt comes back."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError, KeyboardInterrupt):
        os.kill(pid, signal.SIGTERM)  # SIGINT may be ignored since before we were started
        exit_code(pid, _INTERRUPT_SECONDS)


def _child(
    work: Callable[[Events], None], writing: int, line: Line, log: Path, verbosity: int, keep: Collection[int]
) -> int:
    """Do everything that the child does; returns its exit code. Never raises."""
    writing, *_ = daemonise([writing, *keep])
    pipe = _Pipe(writing)
    lines = open_log(log.parent, log.stem)
    log_to(lambda text, _: pipe.tell(happened("log", log.stem, text=text)), verbosity, kept=lines.log)

    def report(event: dict[str, object]) -> None:
        lines.line(line(event))
        pipe.tell(event)
        if event.get("event") == "connected":
            pipe.close()

    try:
        work(report)
    except BaseException as error:
        failure = _failure(error, lines)
        lines.line("error: " + " / ".join(printable(words, LONGEST) for words in failure.lines()))
        pipe.fail(failure)
        return failure.exit_code
    early = Interrupted("the tunnel was told to end")  # heard by the command only if the tunnel was not up yet
    pipe.fail(early)
    with contextlib.suppress(OSError):  # it is gone already where the tunnel gave up the right to remove it
        log.unlink()
    return early.exit_code if pipe.is_open else 0


def _failure(error: BaseException, log: CappedFile) -> IkeclientError:
    match error:
        case IkeclientError():
            return error
        case KeyboardInterrupt():
            return Interrupted("interrupted")
    if (lack := shortage(error)) is not None:
        return lack
    log.line(outline(error).rstrip("\n"))
    return bug_error(error, f"the traceback is in {log.path}")


class _Pipe:
    """The way to the command that waits for us. It never blocks, and takes no more once it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_open = True
        os.set_blocking(descriptor, False)

    def tell(self, event: Mapping[str, object]) -> None:
        """Send an event; of a very long one, as with a list of hundreds of routes, what the command needs."""
        self._send(*(Happened(event=dict(fields)) for fields in (event, _essential(event))))

    def fail(self, error: IkeclientError) -> None:
        """Send the error that ended the tunnel."""
        words = (error.message, error.reason, error.hint)
        self._send(
            *(
                Failure(message=message or "", reason=reason, hint=hint, exit_code=error.exit_code)
                for longest in _LONGEST_WORDS
                for message, reason, hint in [[text and printable(text, longest) for text in words]]
            )
        )

    def _send(self, *messages: Happened | Failure) -> None:
        """Send the first of these that can be sent and is not too long, or lose it."""
        if not self.is_open:
            return
        for message in messages:
            with contextlib.suppress(TypeError, ValueError):
                data = pack(_CODEC.encode(message), _LARGEST)
                with contextlib.suppress(OSError):
                    os.write(self._descriptor, data)
                return

    def close(self) -> None:
        """Let the command go."""
        if self.is_open:
            self.is_open = False
            os.close(self._descriptor)


def _essential(event: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in event.items() if key in _ESSENTIAL}
