"""Pauses between attempts."""

from __future__ import annotations

from ikeclient.tunnel.backoff import FIRST, LONGEST, Backoff


def test_pauses_grow_to_a_limit_and_never_end() -> None:
    backoff = Backoff(lambda count: b"\xff" * count)
    pauses = [backoff.pause() for _ in range(20)]
    assert pauses == sorted(pauses)
    assert pauses[0] == FIRST
    assert pauses[-1] == LONGEST


def test_jitter_at_most_halves_a_pause() -> None:
    backoff = Backoff(lambda count: b"\0" * count)
    assert backoff.pause() == FIRST / 2


def test_a_success_starts_again_with_a_short_pause() -> None:
    backoff = Backoff(lambda count: b"\xff" * count)
    for _ in range(8):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == FIRST
