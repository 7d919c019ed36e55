"""A display that is drawn anew again and again, on a screen of its own: it fits the terminal after each resize."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable

from ikeclient.cli.view.terminal import emit, height

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"


def repeat(lines: Callable[[], list[str]], seconds: float) -> None:
    """Show what `lines` returns every so many seconds, and at once after a resize, until Ctrl-C.

    What was shown last stays on the terminal. Raises KeyboardInterrupt.
    """
    shown: list[str] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    try:
        _write(_ENTER)
        while True:
            shown = lines()
            _draw(shown[: height(sys.stdout)])
            signal.sigtimedwait([signal.SIGWINCH], seconds)
    finally:
        _write(_LEAVE)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGWINCH])
        with contextlib.suppress(OSError, ValueError):
            for line in shown:
                emit(line)


def _draw(lines: list[str]) -> None:
    """Write over what stands there, so that nothing flickers."""
    _write(_HOME + f"{_CLEAR_LINE}\n".join(lines) + _CLEAR_LINE + _CLEAR_REST)


def _write(text: str) -> None:
    assert sys.stdout is not None
    sys.stdout.write(text)
    sys.stdout.flush()
