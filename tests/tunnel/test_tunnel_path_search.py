"""The search for the size of a path, against paths that are pure functions of size and time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.tunnel.path_search import (
    CONFIRM_AFTER,
    LOST_AFTER,
    PRECISE,
    RAISE_AFTER,
    SUSPECT_AFTER,
    SUSPECT_FORGOTTEN,
    SUSPECT_LONGEST,
    PathSearch,
)

Path = Callable[[int], bool]


def carry(size: int) -> Path:
    """A path that swallows everything longer, without a word."""
    return lambda probe: probe <= size


def run(
    search: PathSearch, path: Path, now: float = 0.0, *, block: int = 1, traffic: bool = False
) -> tuple[int, float]:
    """Probe until there is nothing more to find out: how many probes it took, and until when."""
    probes = 0
    while (asked := search.next_probe(now, traffic=traffic)) is not None:
        probes += 1
        assert probes < 60
        assert search.next_probe(now, traffic=traffic) is None, "one probe at a time"
        size = asked - asked % block
        passed = path(size)
        now += 0.02 if passed else 0.5
        search.result(asked, size, passed, now)
    assert search.complete
    return probes, now


def test_a_healthy_path_takes_one_probe() -> None:
    search = PathSearch(4, 1500, 0.0)
    assert run(search, carry(1500)) == (1, 0.02)
    assert (search.mtu, search.proven) == (1500, True)
    assert not search.raisable


@given(st.sampled_from([4, 6]), st.integers(576, 9000), st.integers(576, 9000))
def test_the_largest_size_that_passes_is_found(version: int, ceiling: int, size: int) -> None:
    """P13, N24: whatever it is, in bounded time, and never more than passes."""
    floor = 576 if version == 4 else 1280
    ceiling, size = max(ceiling, floor), max(size, floor)
    search = PathSearch(version, ceiling, 0.0)
    _, took = run(search, carry(size))
    assert min(size, ceiling) - PRECISE < search.mtu <= min(size, ceiling)
    assert search.proven
    assert took < 20


@pytest.mark.parametrize("block", [16])
def test_a_cipher_of_blocks_never_claims_what_was_not_sent(block: int) -> None:
    """AES-CBC in IKE cannot make a message of every length."""
    for size in range(1200, 1501, 7):
        search = PathSearch(4, 1500, 0.0)
        run(search, carry(size), block=block)
        assert search.mtu <= size
        assert search.mtu % block == 0
        assert search.mtu > size - PRECISE - 2 * block


def test_traffic_goes_on_at_a_safe_size_while_the_search_lasts() -> None:
    search = PathSearch(4, 1500, 0.0)
    sizes, path, now = [], carry(1350), 0.0
    while (asked := search.next_probe(now)) is not None:
        search.result(asked, asked, path(asked), now)
        sizes.append(search.mtu)
        now += 0.5
    assert sizes[:4] == [1500, 1500, 1500, 1200]
    assert sizes[3:] == sorted(sizes[3:]), "from there it only grows"


def test_a_path_on_which_nothing_passes_changes_nothing() -> None:
    """Loss, or answers slower than our patience, are no reason to shrink."""
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(0))
    assert (search.mtu, search.proven) == (1500, False)


def test_a_lossy_path_is_not_taken_for_a_narrow_one() -> None:
    """Five per cent of loss in either direction: a wrong verdict in far less than a run in a hundred."""
    wrong = 0
    for seed in range(300):
        random = Random(seed)
        search = PathSearch(4, 1500, 0.0)
        run(search, lambda size, random=random: size <= 1500 and random.random() > 0.1)  # type: ignore[misc]
        wrong += search.mtu < 1490
    assert wrong <= 3


def test_what_an_earlier_search_found_is_where_the_next_one_begins() -> None:
    """A new authentication on the same path does not walk into the same hole again."""
    search = PathSearch(4, 1500, 0.0, known=1298)
    assert search.mtu == 1298
    assert run(search, carry(1300))[0] == 1
    assert search.raisable
    assert PathSearch(6, 1500, 0.0, known=576).mtu == 1280
    assert PathSearch(4, 1400, 0.0, known=1500).mtu == 1400


# Reports


def test_a_report_is_believed_at_once_and_then_put_to_the_test() -> None:
    """P13"""
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(1500))
    search.reported(1320, 5.0)
    assert (search.mtu, search.proven) == (1320, False)
    run(search, carry(1320), 5.0)
    assert (search.mtu, search.proven) == (1320, True)


@pytest.mark.parametrize(("version", "floor"), [(4, 576), (6, 1280)])
def test_a_forged_report_is_floored_and_does_not_stay(version: int, floor: int) -> None:
    """N24, P13"""
    search = PathSearch(version, 1500, 0.0)
    run(search, carry(1500))
    search.reported(68, 5.0)
    assert search.mtu == floor
    run(search, carry(1500), 5.0)
    assert (search.mtu, search.proven) == (1500, True)


def test_reports_shorten_a_search() -> None:
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(1300))
    now = RAISE_AFTER + 30
    assert search.next_probe(now) == 1500
    search.reported(1420, now)
    search.result(1500, 1500, False, now + 0.5)
    assert search.next_probe(now + 0.5) == 1420
    search.result(1420, 1420, True, now + 1)
    assert search.complete
    assert search.mtu == 1420


def test_a_router_that_repeats_itself_ends_the_attempt_to_use_more() -> None:
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(1300))
    known, now = search.mtu, RAISE_AFTER + 30
    assert search.next_probe(now) == 1500
    search.reported(known, now)
    assert search.complete
    assert search.mtu == known


# Later


def test_more_is_tried_after_ten_minutes() -> None:
    search = PathSearch(4, 1500, 0.0)
    _, now = run(search, carry(1300))
    assert search.raisable
    assert search.next_probe(RAISE_AFTER - 1) is None
    run(search, carry(1500), RAISE_AFTER + now)
    assert search.mtu == 1500


def test_a_wider_interface_is_used_in_time() -> None:
    search = PathSearch(4, 1400, 0.0)
    run(search, carry(1500))
    search.widen(1500)
    run(search, carry(1500), RAISE_AFTER + 1)
    assert search.mtu == 1500


def test_the_size_in_use_is_looked_at_now_and_then_while_there_is_traffic() -> None:
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(1500))
    assert search.next_probe(CONFIRM_AFTER + 1) is None
    assert search.next_probe(CONFIRM_AFTER + 1, traffic=True) == 1500
    search.result(1500, 1500, True, CONFIRM_AFTER + 2)
    assert search.next_probe(CONFIRM_AFTER + 3, traffic=True) is None


def test_a_suspicion_causes_a_look_but_not_many() -> None:
    search = PathSearch(4, 1500, 0.0)
    run(search, carry(1500))
    search.suspect(SUSPECT_AFTER - 1)
    assert search.complete
    search.suspect(SUSPECT_AFTER + 1)
    run(search, carry(1300), SUSPECT_AFTER + 1)
    assert 1296 < search.mtu <= 1300


def test_suspicions_that_prove_unfounded_cause_ever_fewer_looks() -> None:
    """G8: at first soon, since a file may be stalling; a day of pings into nowhere costs one message in ten seconds."""
    search = PathSearch(4, 1500, 0.0)
    _, now = run(search, carry(1500))
    looks: list[float] = []
    while now < 200:
        now += 0.5
        search.suspect(now)
        if not search.complete:
            looks.append(now)
            run(search, carry(1500), now)
    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(looks)]
    assert looks[0] <= SUSPECT_AFTER + 1
    assert pauses == sorted(pauses)
    assert pauses[-1] >= SUSPECT_LONGEST
    search.suspect(now + SUSPECT_FORGOTTEN + SUSPECT_LONGEST)
    run(search, carry(1500), now + SUSPECT_FORGOTTEN + SUSPECT_LONGEST)
    now += SUSPECT_FORGOTTEN + SUSPECT_LONGEST + SUSPECT_AFTER + 1
    search.suspect(now)
    assert not search.complete, "long after, the next one is looked at soon again"


def test_a_probe_without_any_outcome_is_repeated() -> None:
    """A rekeyed IKE SA takes the exchange of the old one with it."""
    search = PathSearch(4, 1500, 0.0)
    assert search.next_probe(0.0) == 1500
    assert search.next_probe(LOST_AFTER - 1) is None
    assert search.next_probe(LOST_AFTER) == 1500


def test_an_outcome_that_nobody_waits_for_changes_nothing() -> None:
    search = PathSearch(4, 1500, 0.0)
    search.result(1400, 1400, False, 1.0)
    assert search.next_probe(1.0) == 1500
    run(search, carry(1500), LOST_AFTER + 1)
    search.result(1500, 1500, False, 30.0)
    assert search.complete
    assert search.proven
