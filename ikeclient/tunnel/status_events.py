"""What a tunnel says while it lives: events for people and programs, and the warnings that `status` keeps."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.control.events import happened
from ikeclient.tunnel.status import Status

Publish = Callable[[dict[str, object]], None]


class StatusEvents:
    """Tells `publish` what happens to the tunnel of `status`."""

    def __init__(self, status: Status, publish: Publish) -> None:
        self._status = status
        self._publish = publish

    def emit(self, event: str, **details: object) -> None:
        """Tell everybody who listens."""
        self._publish(happened(event, self._status.name, **details))

    def warn(self, text: str) -> None:
        """Tell everybody, and keep it for `status`."""
        self._status.warnings.append(text)
        self.emit("notice", text=text)

    def retract(self, text: str) -> None:
        """Take back a warning that is true no more."""
        if text in self._status.warnings:
            self._status.warnings.remove(text)

    def warn_once(self, text: str) -> None:
        """Tell everybody every time, and keep it for `status` once."""
        if text in self._status.warnings:
            self.emit("notice", text=text)
        else:
            self.warn(text)
