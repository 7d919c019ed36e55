"""An event loop whose time passes only when there is nothing to do."""

from __future__ import annotations

import asyncio
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only when there is nothing to do, and then at once."""

    now = 1000.0
    turns = 0

    def __init__(self) -> None:
        super().__init__()
        select = self._selector.select  # type: ignore[attr-defined]

        def skip(timeout: float | None = None) -> Any:
            self.turns += 1
            ready = select(0)
            if not ready and timeout:
                self.now += timeout
            return ready

        self._selector.select = skip  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now
