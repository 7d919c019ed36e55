"""Asking many tunnels at the same time: another user of the machine may have a dozen sockets that never answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

_MOST = 64

T = TypeVar("T")


def at_once(do: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Return what `do` returns for each name, in their order. An exception of one is raised when all have ended."""
    if len(names) < 2:
        return list(map(do, names))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(names), _MOST)) as pool:
        return list(pool.map(do, names))
