"""What a tunnel says while it lives: events for people and programs, and the warnings that `status` keeps."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.control.events import happened
from ikeclient.tunnel.status import Status

Publish = Callable[[dict[str, object]], None]
Told = list[dict[str, object]]


class StatusEvents:
    """Put what happens to the tunnel of `status` into the list `told`, until the owner takes it."""

    def __init__(self, status: Status, told: Told) -> None:
        self._status = status
        self._told = told

    def emit(self, event: str, **details: object) -> None:
        """Tell everybody who listens."""
        self._told.append(happened(event, self._status.name, **details))

    @property
    def untold(self) -> Told:
        """What nobody has taken yet."""
        return self._told

    def take(self) -> Told:
        """Take what is to be told."""
        taken = list(self._told)
        self._told.clear()
        return taken

    def warn(self, text: str) -> None:
        """Tell everybody every time, and keep it for `status` once."""
        self._status.problems.warn(text)
        self.emit("notice", text=text)

    def retract(self, text: str) -> None:
        """Take back a warning that is true no more."""
        self._status.problems.withdraw((text,))
