"""The order of a run of several tests at a time: those that mostly wait beside those that need the cores."""

from __future__ import annotations

import pytest


def spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """Put one test marked `waits` in front of every so many tests that are not of the lab; the rest keeps its order."""
    waiting = [item for item in items if item.get_closest_marker("waits")]
    busy = sum(not _waits_or_lab(item) for item in items)
    if not waiting or not busy:
        return items
    distance = max(1, busy // len(waiting))
    ordered: list[pytest.Item] = []
    seen = 0
    for item in items:
        if item.get_closest_marker("waits"):
            continue
        if not _waits_or_lab(item):
            if seen % distance == 0 and waiting:
                ordered.append(waiting.pop(0))
            seen += 1
        ordered.append(item)
    return ordered + waiting


def _waits_or_lab(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("waits", "lab"))
