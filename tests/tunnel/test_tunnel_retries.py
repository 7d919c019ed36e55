"""Which failures end a tunnel that was up, and how long it waits between attempts."""

from __future__ import annotations

import itertools

import pytest

from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoResponse,
)
from ikeclient.tunnel.backoff import FIRST, LONGEST
from ikeclient.tunnel.retries import IDLE_LONGEST, REFUSED_FIRST, STABLE, Retries

REFUSED = AuthenticationFailed("the gateway refused our credentials", reason="E=691")


def made() -> Retries:
    retries = Retries(lambda count: b"\xff" * count)
    retries.up(0.0)
    return retries


@pytest.mark.parametrize("kind", [NegotiationRefused, NoResponse, GatewayNotAuthenticated])
@pytest.mark.parametrize("proven", [True, False])
def test_nothing_but_refused_credentials_ends_a_tunnel_that_shall_live_for_ever(
    kind: type[IkeclientError], proven: bool
) -> None:
    """S21: whatever a gateway refuses, and whatever somebody in its place shows, may be over soon."""
    retries = made()
    for _ in range(50):
        error = kind("no")
        retries.failed(error, proven=proven)
        assert retries.over(error, attempts=None, refusals=1) is None
        assert retries.pause() <= LONGEST


def test_credentials_refused_by_somebody_unproven_end_nothing() -> None:
    """S21, N14: with a PSK anybody on the path can say so."""
    retries = made()
    for _ in range(50):
        retries.failed(REFUSED, proven=False)
        assert retries.over(REFUSED, attempts=None, refusals=1) is None


@pytest.mark.parametrize("refusals", [1, 3, 10])
def test_credentials_refused_in_a_row_end_it_and_it_is_said(refusals: int) -> None:
    """S21"""
    retries = made()
    for _ in range(refusals - 1):
        retries.failed(REFUSED, proven=True)
        assert retries.over(REFUSED, attempts=None, refusals=refusals) is None
    retries.failed(REFUSED, proven=True)
    final = retries.over(REFUSED, attempts=None, refusals=refusals)
    assert final is not None
    assert final.exit_code == 4
    assert final.reason == "E=691"
    assert "protects nothing" in (final.hint or "")
    assert len(final.lines()) == 3


@pytest.mark.parametrize("between", [NoResponse("silence"), NegotiationRefused("no address"), None])
def test_refusals_count_only_in_a_row(between: IkeclientError | None) -> None:
    """S21"""
    retries = made()
    for _ in range(10):
        for _ in range(2):
            retries.failed(REFUSED, proven=True)
            assert retries.over(REFUSED, attempts=None, refusals=3) is None
        if between is None:
            retries.up(0.0)
        else:
            retries.failed(between, proven=True)


def test_a_limited_number_of_attempts_is_obeyed() -> None:
    retries, silence = made(), NoResponse("silence", hint="look")
    retries.failed(silence, proven=False)
    assert retries.over(silence, attempts=2, refusals=3) is None
    retries.failed(silence, proven=False)
    final = retries.over(silence, attempts=2, refusals=3)
    assert isinstance(final, NoResponse)
    assert "protects nothing" in (final.hint or "")
    assert (final.hint or "").endswith("look")


def test_pauses_after_refused_credentials_are_longer_and_nothing_cuts_them_short() -> None:
    """S21: guesses can lock an account."""
    retries, pauses = made(), []
    assert not retries.patient
    for _ in range(4):
        retries.failed(REFUSED, proven=True)
        assert retries.patient
        pauses.append(retries.pause())
    assert pauses[0] == REFUSED_FIRST
    assert all(b >= 2 * a for a, b in itertools.pairwise(pauses))
    retries.failed(NoResponse("silence"), proven=False)
    assert not retries.patient


def test_connections_that_end_at_once_are_made_again_ever_more_slowly() -> None:
    """Each costs a login: only one that lasted starts with short pauses again."""
    retries, now, pauses = made(), 0.0, []
    for _ in range(10):
        retries.up(now)
        now += 1
        retries.lost(now)
        pauses.append(retries.pause())
    assert pauses[0] == FIRST
    assert pauses[-1] == LONGEST
    retries.up(now)
    retries.lost(now + STABLE)
    assert retries.pause() == FIRST


def test_a_gateway_that_ends_idle_connections_gets_a_login_when_a_packet_wants_out() -> None:
    """G18: the second time; a connection that was used, or that lasted, changes that."""
    retries = made()
    retries.lost(10.0, idle=True)
    assert not retries.on_demand
    retries.up(10.0)
    retries.lost(20.0, idle=True)
    assert retries.on_demand
    retries.up(30.0)
    assert retries.on_demand, "until it turns out to be of use"
    retries.lost(40.0, idle=False)
    assert not retries.on_demand
    for _ in range(5):
        retries.up(40.0)
        retries.lost(40.0 + IDLE_LONGEST, idle=True)
        assert not retries.on_demand
