"""CUBIC, HyStart++, rate reduction, round-trip times and RACK by their formulas; and what they come to on a link."""

from __future__ import annotations

from math import sqrt

import pytest
from stack_link import Path, Sink, Source, World, connected, join

from ikeclient.stack.tcp.cubic import BETA, Cubic
from ikeclient.stack.tcp.hystart import HyStart
from ikeclient.stack.tcp.rack import Rack
from ikeclient.stack.tcp.reduction import Reduction, Undo
from ikeclient.stack.tcp.rtt import INITIAL, MAXIMUM, RoundTrip
from ikeclient.stack.tcp.scoreboard import Scoreboard, Sent

MSS = 1000


def grown(cubic: Cubic, trips: int, trip: float) -> list[float]:
    """The window in segments after each of so many round trips in which all of it was acknowledged."""
    windows = []
    for number in range(1, trips + 1):
        now = 100.0 + number * trip
        left = cubic.window
        while left > 0:
            cubic.acknowledged(min(8 * MSS, left), trip, now)
            left -= 8 * MSS
        windows.append(cubic.window / MSS)
    return windows


def test_slow_start_doubles_and_a_loss_takes_three_tenths() -> None:
    """RFC 9438 section 4.6."""
    cubic = Cubic(MSS)
    assert cubic.window == 10 * MSS
    assert grown(cubic, 3, 0.1) == [20, 40, 80]
    before = cubic.reduce(80 * MSS)
    assert cubic.window == cubic.threshold == 56 * MSS
    cubic.undo(before)
    assert cubic.window == 80 * MSS
    assert cubic.in_slow_start


def test_the_window_comes_back_after_k_seconds_and_then_probes() -> None:
    """RFC 9438 section 4.2: W_cubic(t) = C (t - K)^3 + W_max, K = cbrt(W_max (1 - beta) / C)."""
    cubic = Cubic(MSS)
    grown(cubic, 6, 0.1)
    top = cubic.window / MSS
    assert top == 640
    cubic.reduce(cubic.window)
    k = ((top * (1 - BETA)) / 0.4) ** (1 / 3)
    windows = grown(cubic, int(2 * k / 0.1), 0.1)
    at_k = windows[int(k / 0.1)]
    assert at_k == pytest.approx(top, rel=0.01)
    half = windows[int(k / 2 / 0.1)]
    assert half == pytest.approx(top - 0.4 * (k / 2) ** 3, rel=0.02)
    assert windows[-1] == pytest.approx(top + 0.4 * k**3, rel=0.05)


def test_where_reno_would_be_faster_the_window_grows_as_renos() -> None:
    """RFC 9438 section 4.3: by 0.53 segments a round trip, and by one above W_max."""
    cubic = Cubic(MSS)
    grown(cubic, 2, 0.01)
    cubic.reduce(cubic.window)
    first = cubic.window / MSS
    windows = grown(cubic, 10, 0.01)
    assert (windows[-1] - first) / len(windows) == pytest.approx(3 * 0.3 / 1.7, rel=0.1)


def test_losses_close_to_each_other_make_room_for_others() -> None:
    """Fast convergence, RFC 9438 section 4.7: the second plateau is below the first."""
    cubic = Cubic(MSS)
    grown(cubic, 5, 0.1)
    cubic.reduce(cubic.window)
    cubic.reduce(cubic.window)
    second = cubic.window / MSS / BETA
    windows = grown(cubic, 120, 0.1)
    flat = min(range(1, len(windows)), key=lambda at: windows[at] - windows[at - 1])
    assert windows[flat] == pytest.approx(second * (1 + BETA) / 2, rel=0.05)


def test_a_timeout_begins_again_with_one_segment() -> None:
    cubic = Cubic(MSS)
    grown(cubic, 3, 0.1)
    cubic.timed_out(80 * MSS, again=False)
    assert (cubic.window, cubic.threshold) == (MSS, 56 * MSS)
    cubic.timed_out(MSS, again=True)
    assert (cubic.window, cubic.threshold) == (MSS, 56 * MSS)


def test_a_window_that_was_not_used_is_forgotten_by_halves() -> None:
    """RFC 5681 section 4.1."""
    cubic = Cubic(MSS)
    grown(cubic, 5, 0.1)
    cubic.rest(2.0, 1.0)
    assert cubic.window == 80 * MSS
    cubic.rest(1000.0, 1.0)
    assert cubic.window == 10 * MSS


def test_slow_start_ends_when_the_round_trip_grows() -> None:
    """RFC 9406 section 4.2: eight samples a round, five conservative rounds."""
    hystart, end = HyStart(), 0
    rounds = [0.05, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12]
    for number, trip in enumerate(rounds):
        position, end = end + 1, end + 100
        done = False
        for _ in range(10):
            done = done or hystart.measure(trip, position, end)
        if number < 2:
            assert hystart.growth(1000) == 1000
        elif not done:
            assert hystart.growth(1000) == 250
        if done:
            assert number >= 6
            return
    pytest.fail("slow start never ended")


def test_slow_start_goes_on_if_the_round_trip_shrinks_again() -> None:
    hystart, end = HyStart(), 0
    for trip in (0.05, 0.08, 0.05, 0.05):
        position, end = end + 1, end + 100
        for _ in range(10):
            assert not hystart.measure(trip, position, end)
    assert hystart.growth(1000) == 1000


def test_the_rate_is_reduced_in_proportion() -> None:
    """RFC 9937 section 6: after a flight of 20 segments, 14 have gone out, spread evenly."""
    reduction = Reduction(20 * MSS, 14 * MSS)
    pipe, sent = 20 * MSS - MSS, 0
    for number in range(1, 20):
        pipe -= MSS
        window = reduction.window(pipe, MSS, MSS, safe=False)
        while pipe + MSS <= window:
            reduction.sent(MSS)
            pipe += MSS
            sent += 1
        assert sent <= number * 0.7 + 1
    assert sent == pytest.approx(14, abs=1)


def test_what_was_sent_again_in_vain_undoes_only_its_own_recovery() -> None:
    undo = Undo(Cubic(MSS).reduce(0), 5000)
    assert not undo.duplicate(5000, 6000)  # nothing was sent again yet
    undo.sent_again(2000, 10.0)
    assert not undo.duplicate(1000, 3000)  # of an earlier one
    assert not undo.duplicate(5000, 6000)
    assert undo.duplicate(6000, 7000)
    assert undo.echoed(9.0)
    assert not undo.echoed(10.0)


def test_the_timeout_follows_the_round_trip_and_its_variation() -> None:
    """RFC 6298 section 2, with a slack of 200 ms."""
    trip = RoundTrip()
    assert trip.timeout == INITIAL
    trip.measure(0.1, 0.0)
    assert (trip.smoothed, trip.timeout) == (0.1, pytest.approx(0.1 + max(4 * 0.05, 0.2)))
    for number in range(100):
        trip.measure(0.1, float(number))
    assert trip.timeout == pytest.approx(0.3)
    trip.measure(1.1, 100.0)
    assert trip.smoothed == pytest.approx(0.225)
    assert trip.timeout == pytest.approx(0.225 + 4 * 0.25, rel=0.01)
    trip.measure(1000.0, 101.0)
    assert trip.timeout == MAXIMUM
    assert trip.minimum == 0.1
    trip.measure(0.5, 1000.0)
    assert trip.minimum == 0.5  # the path may have changed


def test_rack_marks_what_was_sent_before_something_that_arrived() -> None:
    """RFC 8985 section 6.2."""
    board, rack, trip = Scoreboard(), Rack(), RoundTrip()
    trip.measure(0.1, 0.0)
    for number in range(5):
        board.add(number * MSS, (number + 1) * MSS, number * 0.01, MSS)
    for record in board.select(4 * MSS, 5 * MSS):
        rack.arrived(record, record.end, 0.14, trip.minimum)
    lost, again = rack.detect(board, trip, 0.14, recovering=False, size=MSS)
    # All were sent before it, but a quarter of the round trip may be reordering.
    assert [record.lost for record in board.records] == [True, True, False, False, False]
    assert lost
    assert again == pytest.approx(0.015, abs=0.006)
    lost, again = rack.detect(board, trip, 0.14, recovering=True, size=MSS)
    assert [record.lost for record in board.records] == [True] * 4 + [False]
    assert not rack.reordered


def test_rack_looks_again_only_after_the_clock_has_moved_on() -> None:
    """A remainder below what a float of the time can tell would be waited for without end."""
    board, rack, trip = Scoreboard(), Rack(), RoundTrip()
    trip.measure(0.1, 0.0)
    board.add(0, MSS, 1000.0 + 1e-13, MSS)
    board.add(MSS, 2 * MSS, 1000.0 + 1e-13, MSS)
    for record in board.select(MSS, 2 * MSS):
        rack.arrived(record, record.end, 1000.1, trip.minimum)
    lost, again = rack.detect(board, trip, 1000.125 - 1e-12, recovering=False, size=MSS)
    assert lost or again >= 0.001


def test_rack_believes_no_acknowledgement_that_came_too_soon_after_a_retransmission() -> None:
    rack = Rack()
    record = Sent(0, MSS, 10.0, MSS)
    record.again = True
    assert rack.arrived(record, MSS, 10.05, 0.1) is None
    board, trip = Scoreboard(), RoundTrip()
    trip.measure(0.1, 0.0)
    board.add(MSS, 2 * MSS, 9.9, MSS)
    assert rack.detect(board, trip, 10.05, recovering=True, size=MSS) == (False, 0.0)


def rate(there: Path, back: Path, seconds: float, *, merge: float = 0.0005, seed: int = 1) -> float:
    """Bytes a second, after a third of the time."""
    world = World(seed, there=there, back=back, merge=merge)
    source, sink = Source(), Sink()
    connected(world, source, sink)
    world.run(seconds / 3)
    before = sink.size
    world.run(seconds * 2 / 3)
    return (sink.size - before) / (seconds * 2 / 3)


@pytest.mark.parametrize(
    ("trip", "share"),
    [
        (0.05, 0.5),
        pytest.param(0.1, 1.0, marks=pytest.mark.extended),
        pytest.param(0.1, 0.25, marks=pytest.mark.extended),
    ],
)
def test_a_long_path_is_filled(trip: float, share: float) -> None:
    """A queue of so much of what the path holds; CUBIC fills it all the same."""
    speed = 2e6
    there = Path(delay=trip / 2, rate=speed, queue=int(speed * trip * share))
    assert rate(there, Path(delay=trip / 2), 9) > 0.85 * speed * 1448 / 1500


@pytest.mark.parametrize(
    ("loss", "trip"),
    [
        (0.01, 0.02),
        pytest.param(0.001, 0.02, marks=pytest.mark.extended),
        pytest.param(0.001, 0.1, marks=pytest.mark.extended),
    ],
)
def test_random_loss_costs_what_the_theory_says(loss: float, trip: float) -> None:
    """The mean window of Reno-friendly CUBIC is 1.22 / sqrt(p) segments (RFC 9438 section 5.1)."""
    expected = 1.22 / sqrt(loss) * 1448 / trip
    seconds = 1500 * trip
    found = sum(rate(Path(delay=trip / 2, loss=loss), Path(delay=trip / 2), seconds, seed=seed) for seed in (1, 2)) / 2
    assert 0.7 * expected < found < 1.5 * expected


def test_reordering_costs_little() -> None:
    """1 % of the packets are late by up to a quarter of a round trip."""
    speed = 3e6
    there = Path(delay=0.01, rate=speed, queue=int(speed * 0.02), reorder=0.01, late=0.005)
    assert rate(there, Path(delay=0.01), 4) > 0.85 * speed * 1448 / 1500


def test_marks_keep_the_queue_short_without_a_loss() -> None:
    speed = 3e6
    world = World(there=Path(delay=0.01, rate=speed, queue=1_000_000, mark=30_000), back=Path(delay=0.01))
    source, sink = Source(), Sink()
    connected(world, source, sink)
    world.run(3)
    assert world.a.lost == 0
    assert sink.size > 0.7 * 3 * speed
    assert source.connection is not None
    assert source.connection._sender.trip.smoothed < 0.05


def test_two_connections_share_a_link() -> None:
    speed = 1e6
    world = World(there=Path(delay=0.01, rate=speed, queue=20_000), back=Path(delay=0.01), merge=0.0005)
    (first,) = join(world, 1)
    world.run(1.0)
    (second,) = join(world, 1)
    world.run(1.0)
    world.run(20)
    sizes = sorted((first.size, second.size))
    assert sum(sizes) > 0.85 * 21 * speed
    assert sizes[0] > 0.2 * sum(sizes)
