"""The time of day, wherever this machine believes to be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ikeclient.tunnel.clock import local_time


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "name",
    ["", ":", "Mars/Olympus", "XYZ-167:59:59", "AAA+24", "<+25>-25", ":/etc/shadow", "../../etc/passwd", "x\x1b[2J"],
)
def test_no_time_zone_keeps_us_from_knowing_the_time(zone: pytest.MonkeyPatch, name: str) -> None:
    """O14: one that POSIX allows and no calendar has, too."""
    zone.setenv("TZ", name)
    time.tzset()
    assert abs(local_time() - datetime.now(UTC)) < timedelta(seconds=5)
    assert local_time().isoformat()


def test_the_local_time_is_local(zone: pytest.MonkeyPatch) -> None:
    zone.setenv("TZ", "XYZ-5:30")
    time.tzset()
    assert local_time().utcoffset() == timedelta(hours=5, minutes=30)
