"""What the service manager hears of a tunnel, or of what watches for many: ready, a line of status, reloads, a
heartbeat, the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from ikeclient.control.events import EVENTS
from ikeclient.process.service_socket import Service


class Reporter:
    """Passes a tunnel's events on to `service`.

    The heartbeat comes from the event loop that does the work, so a loop that hangs is restarted by the manager.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ready = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the heartbeat in the running event loop: twice as often as asked for, so that one may be late."""
        if self._service.watchdog is not None:
            self._service.tell(WATCHDOG=1)
            self._timer = asyncio.get_running_loop().call_later(self._service.watchdog / 2, self.start)

    def event(self, event: Mapping[str, object]) -> None:
        """Pass on an event that changes the state or its line."""
        name = str(event.get("event"))
        state = EVENTS[name].service if name in EVENTS else None
        if state is None:
            return
        words = {key: _words(value) for key, value in event.items()}
        state = state.format_map({"gateway": "", "interface": "", "local": "", "error": "", **words})
        if name == "connected":
            self.ready(state)
        else:
            self._service.tell(STATUS=state)

    def ready(self, state: str) -> None:
        """Tell a line of status, and the first time that the start is over."""
        if self._ready:
            self._service.tell(STATUS=state)
        else:
            self._ready = True
            self._service.tell(READY=1, STATUS=state)

    def reloading(self, busy: bool) -> None:
        """Tell that the profile is being read again, or that it was taken or refused: systemd shows and awaits it."""
        if self._ready and busy:
            self._service.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        elif self._ready:
            self._service.tell(READY=1)

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._service.tell(STOPPING=1, STATUS="disconnecting")

    def close(self) -> None:
        """Stop the heartbeat."""
        if self._timer is not None:
            self._timer.cancel()
        self._service.close()


def _words(value: object) -> str:
    match value:
        case {"address": address}:
            return str(address)
        case list() | tuple():
            return str(value[0]) if value else "the gateway is silent"
    return str(value)
