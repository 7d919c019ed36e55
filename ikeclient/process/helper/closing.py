"""The kill switch in the helper of a tunnel that may need none.

Most tunnels close nothing, beside no other that does, and yet each asks whether it is let through. While there is
nothing to close and nothing is closed, this answers as the `block_keeper` would, which is loaded for the first request
that needs it: what closes and watches takes 0.8 MiB.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ikeclient.control.directory import system_directories
from ikeclient.net.block.files import any_in
from ikeclient.process.helper.messages import Blocked, CloseMachine, LookAtMachine, OpenMachine

if TYPE_CHECKING:
    import asyncio

    from ikeclient.process.helper.block_keeper import BlockKeeper

_NOTHING = Blocked(closed=False, means="", networks=(), put_back=(), problem=None)


class Closing:
    """What is closed for the tunnel `name`, if anything is; `tell` is called when `LookAtMachine` has something new."""

    def __init__(self, directory: Path, name: str, tell: Callable[[], None]) -> None:
        self._directory = directory
        self._name = name
        self._tell = tell
        self._opened = False  # for good
        self._keeper: BlockKeeper | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def has_to_watch(self) -> bool:
        """Whether something is closed that others may open, for which `watch` is to be called."""
        return self._keeper is not None and self._keeper.is_closed

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep closed from now on what is closed or will be, in this event loop."""
        self._loop = loop
        if self._keeper is not None:
            self._keeper.watch(loop)

    def answer(self, request: CloseMachine | OpenMachine | LookAtMachine) -> Blocked:
        """Close, open or look. Raises PlatformError."""
        if self._keeper is None:
            if self._opened or self._is_needless(request):
                self._opened = self._opened or isinstance(request, OpenMachine)
                return _NOTHING
            self._keeper = self._make()
        match request:
            case CloseMachine():
                return self._keeper.close(request)
            case OpenMachine():
                return self._keeper.open(request)
            case LookAtMachine():
                return self._keeper.look()

    def _is_needless(self, request: CloseMachine | OpenMachine | LookAtMachine) -> bool:
        """Whether nothing is to be closed, and nothing is: neither by this tunnel nor by another."""
        match request:
            case CloseMachine(networks=()) | OpenMachine(seconds=0):
                return not any_in((self._directory, *system_directories()))
            case LookAtMachine():
                return True
            case _:
                return False

    def _make(self) -> BlockKeeper:
        from ikeclient.process.helper.block_keeper import BlockKeeper

        keeper = BlockKeeper(self._directory, self._name, tell=self._tell)
        if self._loop is not None:
            keeper.watch(self._loop)
        return keeper
