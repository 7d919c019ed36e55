"""The bell that rings when the clock on the wall is set, with the kernel's own clock."""

from __future__ import annotations

import ctypes
import select
from collections.abc import Iterator

import pytest

from ikeclient.net.watch.clock import ClockBell

ADJ_SETOFFSET_NANO = 0x2100  # adjtimex(2)


class Timex(ctypes.Structure):
    """struct timex, as far as it is used here."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("before", ctypes.c_long * 4),
        ("status", ctypes.c_int),
        ("between", ctypes.c_long * 3),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
        ("rest", ctypes.c_char * 256),
    )


def step(seconds: int, nanoseconds: int) -> bool:
    """Set the machine's clock forward; whether that is permitted."""
    change = Timex(modes=ADJ_SETOFFSET_NANO, seconds=seconds, nanoseconds=nanoseconds)
    return bool(ctypes.CDLL(None).adjtimex(ctypes.byref(change)) != -1)


@pytest.fixture
def bell() -> Iterator[ClockBell]:
    bell = ClockBell()
    yield bell
    bell.close()


def test_it_is_silent_while_the_clock_runs(bell: ClockBell) -> None:
    """Somebody may set it meanwhile, as other tests do: then it is silent afterwards."""

    def silent() -> bool:
        found = not select.select([bell], [], [], 0.05)[0]
        bell.rung()
        return found

    assert any(silent() for _ in range(20))


@pytest.mark.lab
def test_each_step_of_the_clock_rings_once(bell: ClockBell) -> None:
    """S14, S15: a nanosecond forward and back is a step for the kernel, and for nothing else."""
    for seconds, nanoseconds in ((0, 1), (-1, 999_999_999)) * 2:
        if not step(seconds, nanoseconds):
            pytest.skip("this machine does not let its clock be set")
        assert select.select([bell], [], [], 30)[0]
        bell.rung()
        assert not select.select([bell], [], [], 0)[0]
