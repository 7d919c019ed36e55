"""Stand in for a command: its job, its signals, its exit status.

The command is a child in this process's own process group. So what the terminal sends to the foreground job (Ctrl-C,
Ctrl-Z, a hang-up) reaches it from the kernel, once, and this process leaves it at that. What somebody sends to this
process alone is handed on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

_HANDED_ON = frozenset(
    {
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGCONT,
        signal.SIGWINCH,
    }
)
_POLL = 0.02


class StandIn:
    """Watches the child `command`, and the child `tunnel` called `name`, of whose end `warn` is told.

    From its construction on signals are taken by `wait` only.
    """

    def __init__(self, command: int, tunnel: int, name: str, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._command = command
        self._tunnel: int | None = tunnel
        self._name = name
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_ON | {signal.SIGCHLD})

    def wait(self) -> int:
        """Wait for the end of the command; returns its exit status as a shell would give it."""
        while (status := self._ended()) is None:
            info = signal.sigwaitinfo(_HANDED_ON | {signal.SIGCHLD})
            if info.si_signo != signal.SIGCHLD and info.si_code <= 0 and info.si_pid != self._command:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._command, info.si_signo)
        return status

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self._command, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            if os.WSTOPSIG(status) == signal.SIGSTOP:  # the others reach the whole job
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(self._command, signal.SIGCONT)
            return None
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        _reap_others({self._command, self._tunnel})
        if self._tunnel is not None:
            ended, status = os.waitpid(self._tunnel, os.WNOHANG)
            if ended:
                self._tunnel = None
                code = os.waitstatus_to_exitcode(status)
                how = f" with exit code {code}" if code > 0 else f" by signal {-code}" if code else ""
                self._warn(f"the tunnel '{self._name}' has ended{how}; the command goes on without a network")
        return None


def _reap_others(known: set[int | None]) -> None:
    """Reap the other children: the namespace's init and, if this is process 1 of a container, orphans."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid in known:
                return
            os.waitpid(ended.si_pid, 0)


def wait_for_end(pid: int, seconds: float) -> bool:
    """Return whether the child ended within so many seconds, or had ended before."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
    return True


def open_standard_files() -> None:
    """Put /dev/null where a standard file is closed, so that no descriptor of ours gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one


def restore_signals() -> None:
    """Restore what Python ignores, for the program that is run next."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
