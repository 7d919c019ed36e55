"""Telling systemd how a tunnel is doing: the protocol of sd_notify(3), which is one datagram a message.

Outside a unit of `Type=notify` nothing of it is in the environment, and nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

_LONGEST = 200  # characters of a status line


class Service:
    """The service manager that started us, if one did. Reads its variables and takes them out of `environ`.

    `watchdog` is how often it wants to hear of us, in seconds, or None.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        process = environ.pop("WATCHDOG_PID", "")
        self._socket: socket.socket | None = None
        if address[:1] in ("/", "@") and len(address) > 1:
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
                self._socket.setblocking(False)  # a manager that does not read must not hold up the tunnel
                self._socket.connect("\0" + address[1:] if address[0] == "@" else address)
        ours = process in ("", str(os.getpid()))
        wanted = self._socket is not None and ours and microseconds.isdecimal() and len(microseconds) < 18
        self.watchdog = int(microseconds) / 1_000_000 or None if wanted else None

    def tell(self, **state: str | int) -> None:
        """Send assignments such as `READY=1`. Never raises, never waits."""
        if self._socket is None:
            return
        lines = (f"{name}={_line(str(value))}" for name, value in state.items())
        with contextlib.suppress(OSError):
            self._socket.send("\n".join(lines).encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:_LONGEST]
