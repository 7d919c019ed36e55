"""What ends a wait of the tunnel before its time."""

from __future__ import annotations

from ikeclient.errors import NoResponse, PlatformError
from ikeclient.tunnel.wakeups import Wakeup, Wakeups


def test_only_what_is_waited_for_counts() -> None:
    """S21: a change of the network does not shorten the pause after refused credentials."""
    wakeups = Wakeups()
    wakeups.give(Wakeup.NETWORK)
    assert not wakeups.given(Wakeup.COMMAND, Wakeup.STOP)
    wakeups.give(Wakeup.COMMAND)
    assert wakeups.given(Wakeup.COMMAND, Wakeup.STOP)


def test_a_wakeup_is_kept_until_it_is_taken() -> None:
    wakeups = Wakeups()
    wakeups.give(Wakeup.COMMAND)
    assert wakeups.given(Wakeup.COMMAND)
    assert wakeups.take(Wakeup.COMMAND)
    assert not wakeups.take(Wakeup.COMMAND)
    assert not wakeups.given(Wakeup.COMMAND)


def test_a_stop_is_for_good_and_nothing_counts_after_it() -> None:
    wakeups = Wakeups()
    wakeups.stop(PlatformError("the first reason"))
    wakeups.stop(NoResponse("a later one"))
    wakeups.give(Wakeup.COMMAND)
    assert wakeups.stopping
    assert not wakeups.given(Wakeup.COMMAND)
    assert wakeups.error is not None
    assert wakeups.error.message == "the first reason"
