from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.esp.sa.replay import REFUSED, ReplayWindow

LAST32 = (1 << 32) - 1


def accept(window: ReplayWindow, low: int) -> int:
    """A genuine packet: checked, and recorded if it passes."""
    sequence = window.check(low)
    if sequence:
        assert window.commit(sequence)
    return sequence


def appendix_a2(top: int, size: int, low: int) -> int:
    """Seqh by the case distinction of RFC 4303 appendix A2.2, word for word; the full number."""
    tl, th = top & LAST32, top >> 32
    bl = (tl - size + 1) & LAST32
    high = (th if low >= bl else th + 1) if tl >= size - 1 else (th - 1 if low >= bl else th)
    return (high << 32) + low


def test_a_replayed_sequence_number_is_refused() -> None:
    """P3"""
    window = ReplayWindow(64)
    assert accept(window, 1) == 1
    assert window.check(1) == REFUSED
    assert accept(window, 2) == 2
    assert window.check(1) == REFUSED


@pytest.mark.parametrize("extended", [False, True])
def test_sequence_number_zero_is_refused(extended: bool) -> None:
    """P3: senders start at 1 (RFC 4303 section 3.3.3)."""
    assert ReplayWindow(64, extended=extended).check(0) == REFUSED


@pytest.mark.parametrize("extended", [False, True])
def test_the_window_ends_exactly_size_numbers_behind_the_top(extended: bool) -> None:
    """P3"""
    window = ReplayWindow(1024, extended=extended)
    assert accept(window, 5000) == 5000
    assert window.check(5000 - 1023) == 5000 - 1023
    if not extended:
        assert window.check(5000 - 1024) == REFUSED
        assert window.check(1) == REFUSED


def test_late_packets_inside_the_window_are_accepted_once_each() -> None:
    """P3"""
    window = ReplayWindow(64)
    accept(window, 100)
    assert [accept(window, n) for n in range(99, 36, -1)] == list(range(99, 36, -1))
    assert all(window.check(n) == REFUSED for n in range(37, 101))
    assert window.top == 100


def test_a_check_alone_moves_nothing() -> None:
    """P4: a huge jump that is never authenticated leaves the window where it was."""
    window = ReplayWindow(64)
    accept(window, 10)
    assert window.check(4_000_000_000) == 4_000_000_000
    assert window.top == 10
    assert accept(window, 11) == 11
    assert accept(window, 9) == 9


def test_a_jump_forward_forgets_everything_the_window_left_behind() -> None:
    window = ReplayWindow(64)
    for n in range(1, 65):
        accept(window, n)
    accept(window, 1000)
    assert all(accept(window, n) == n for n in range(1000 - 63, 1000))


def test_two_copies_checked_before_either_is_recorded_count_once() -> None:
    """P3: as happens inside one batch."""
    window = ReplayWindow(64)
    first, second = window.check(5), window.check(5)
    assert window.commit(first)
    assert not window.commit(second)


def test_a_number_that_fell_out_of_the_window_after_its_check_is_not_recorded() -> None:
    window = ReplayWindow(64)
    late = window.check(5)
    accept(window, 500)
    assert not window.commit(late)


def test_32_bit_numbers_do_not_wrap() -> None:
    window = ReplayWindow(64)
    accept(window, LAST32)
    assert window.check(1) == REFUSED
    assert window.check(0) == REFUSED


def test_extended_numbers_pass_the_boundary_of_a_subspace() -> None:
    """P5"""
    window = ReplayWindow(64, extended=True)
    accept(window, LAST32 - 40 - 63)
    accept(window, LAST32 - 40)
    for low in (LAST32 - 1, 1, LAST32, 0, 2):
        full = accept(window, low)
        assert full == low + (0 if low > 100 else 1 << 32)
    assert window.top == (1 << 32) + 2
    assert window.check(LAST32) == REFUSED
    assert window.check(LAST32 - 2) == LAST32 - 2


def test_an_old_extended_number_is_taken_for_one_of_the_next_subspace() -> None:
    """P5: it then fails authentication, and the window has not moved."""
    window = ReplayWindow(64, extended=True)
    accept(window, 1000)
    assert window.check(5) == (1 << 32) + 5
    assert window.top == 1000


def test_there_is_no_subspace_before_the_first() -> None:
    """P5: before any packet, numbers at the upper end of the range would belong to high half -1."""
    window = ReplayWindow(64, extended=True)
    assert window.check(LAST32) == REFUSED
    assert window.check(LAST32 - 63) == LAST32 - 63


def test_extended_numbers_end_at_64_bits() -> None:
    """P5"""
    window = ReplayWindow(64, extended=True)
    window.commit((1 << 64) - 1)
    assert window.check(3) == REFUSED


@pytest.mark.parametrize("size", [0, 16, 1000, 1 << 32])
def test_a_size_that_is_not_a_power_of_two_is_a_fault_of_the_caller(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ReplayWindow(size)


@given(
    top=st.integers(1, (1 << 64) - 1) | st.integers(-200, 200).map(lambda n: (7 << 32) + n),
    low=st.integers(0, LAST32),
    near=st.integers(-200, 200) | st.none(),
)
def test_the_high_half_is_inferred_as_in_appendix_a2(top: int, low: int, near: int | None) -> None:
    """P5"""
    window = ReplayWindow(128, extended=True)
    window.commit(top)
    if near is not None:
        low = (top + near) & LAST32
    expected = appendix_a2(top, 128, low)
    legal = 0 < expected < 1 << 64 and expected != top
    assert window.check(low) == (expected if legal else REFUSED)


@given(st.lists(st.integers(1, 400), max_size=200), st.booleans())
def test_the_window_agrees_with_a_set_of_everything_seen(numbers: list[int], extended: bool) -> None:
    """P3"""
    window, seen, top = ReplayWindow(32, extended=extended), set[int](), 0
    for n in numbers:
        inside = n > top - 32
        expected = n if inside and n not in seen else REFUSED
        if not inside and extended:
            continue  # belongs to the next subspace, and nothing genuine carries it
        assert accept(window, n) == expected
        if expected:
            seen.add(n)
            top = max(top, n)
        assert window.top == top
