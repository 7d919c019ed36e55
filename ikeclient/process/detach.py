"""Run a tunnel in a child process that goes on while the command returns (`connect --detach`).

The child is forked before the event loop exists. A pipe carries the tunnel's events and, in the end, its error to the
command, which shows them exactly as it would have shown its own. The command does nothing else, so that it ends at
once: it is the child that reads the profile (`prepare`), before it leaves the terminal, at which it may have to ask.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, replace
from functools import partial
from pathlib import Path

from ikeclient.control.directory import prepare as prepare_directory
from ikeclient.control.events import happened
from ikeclient.errors import IkeclientError, Interrupted, PlatformError, bug_error, shortage
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import close_others, daemonise, exit_code, fork, leave_terminal
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
_INTERRUPT = (signal.SIGINT,)
_INTERRUPT_SECONDS = 5.0
_LINGER_SECONDS = 0.5  # between a process closing its files and its end being known


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event of the tunnel, or as much of it as a message holds."""

    event: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The child has read the profile: where its log is, whether a person typed a secret that may be wrong, which
    passphrases they typed beside it, and the variables that it has erased.
    """

    log: Path
    typed: bool = False
    passphrases: dict[str, bytes] = field(default_factory=dict, repr=False)
    erased: tuple[bytes, ...] = ()


Report = Happened | Prepared | Failure
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
    prepare_directory(log.parent)
    return _detached(lambda pipe: _live(work, pipe, Prepared(log=log), line, verbosity), show, keep=keep)


def prepare_and_run_detached(
    prepare: Callable[[Events], Prepared],
    work: Callable[[Events], None],
    show: Events,
    line: Line,
    verbosity: int,
    *,
    prepared: Callable[[Prepared], None],
) -> int:
    """As `run_detached`, but have the child call `prepare` first, which still has the terminal and says where the log
    is; `prepared` is told in this process.
    """

    def life(pipe: _Pipe) -> int:
        try:
            ready = prepare(pipe.tell)
            prepare_directory(ready.log.parent)
        except (IkeclientError, KeyboardInterrupt) as error:
            failure = error if isinstance(error, IkeclientError) else Interrupted("interrupted")
            pipe.fail_at_length(failure)
            return failure.exit_code
        pipe.prepared(ready)
        leave_terminal()
        return _live(work, pipe, ready, line, verbosity)

    return _detached(life, show, prepared, terminal=True)


def _detached(
    life: Callable[[_Pipe], int],
    show: Events,
    prepared: Callable[[Prepared], None] = lambda _: None,
    *,
    keep: Collection[int] = (),
    terminal: bool = False,
) -> int:
    reading, writing = os.pipe()

    def child() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        pipe, *_ = (close_others if terminal else daemonise)([writing, *keep])
        return life(_Pipe(pipe))

    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT)  # until it is known whom to stop
    pid = fork(child)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPT)
        os.close(writing)
        _follow(reading, show, prepared, pid)
    except KeyboardInterrupt:
        _stop(pid)
        raise Interrupted("interrupted", reason="the tunnel was told to stop") from None
    finally:
        os.close(reading)
    return pid


def _follow(reading: int, show: Events, prepared: Callable[[Prepared], None], pid: int) -> None:
    """Show what the child reports until it is connected; raise its error.

    The child closes its end once it is connected and never waits for us. So when we were stopped for a while and the
    decisive message was lost in a full pipe, whether the child lives, and else its exit code, still tell the result.
    """
    reason = None
    while (message := receive(partial(os.read, reading))) is not None:
        match _CODEC.decode(Report, message):  # type: ignore[arg-type]  # a union
            case Failure() as failure:
                exit_code(pid, _INTERRUPT_SECONDS)  # so that the next start does not find it still running
                raise failure.error()
            case Prepared() as ready:
                reason = f"its log is {ready.log}"
                prepared(ready)
            case Happened(event=event):
                show(event)
                if event.get("event") == "connected":
                    return
    code = exit_code(pid, _LINGER_SECONDS)
    if code is None:
        return
    if code < 0:
        raise PlatformError("the tunnel's process is gone", reason=f"it was ended by {signal.Signals(-code).name}")
    raise IkeclientError("the tunnel failed", reason=reason, exit_code=code)


def _stop(pid: int) -> None:
    """Ask the child to end, and wait a moment so that the machine is restored when the prompt comes back."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError, KeyboardInterrupt):
        os.kill(pid, signal.SIGTERM)  # SIGINT may be ignored since before we were started
        exit_code(pid, _INTERRUPT_SECONDS)


def _live(work: Callable[[Events], None], pipe: _Pipe, ready: Prepared, line: Line, verbosity: int) -> int:
    """Do everything that a child without a terminal does; returns its exit code. Never raises."""
    log = ready.log
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

    def prepared(self, ready: Prepared) -> None:
        """Say that the profile was read; passphrases that are too long are asked for again."""
        self._send(ready, replace(ready, passphrases={}))

    def fail_at_length(self, error: IkeclientError) -> None:
        """Send an error with all its words, while the command does nothing but read."""
        os.set_blocking(self._descriptor, True)
        data = pack(_CODEC.encode(Failure.of(error)))
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]
        self.close()

    def _send(self, *messages: Report) -> None:
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
