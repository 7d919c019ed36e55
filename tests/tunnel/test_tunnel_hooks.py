"""When the profile's commands run, and what they see."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from ikeclient.control.events import HOOKS
from ikeclient.ike.events import Configuration
from ikeclient.tunnel.commands import RunHook, StopHook
from ikeclient.tunnel.hooks import MOST_WAITING, Commands, Hooks, environment
from ikeclient.tunnel.status import InnerNetwork, Status

STATUS = Status(name="work", interface="ike0", network=InnerNetwork(mtu=1400, routes=("10.99.0.0/24", "fd99::/64")))
STATUS.configuration = Configuration(addresses=(ip_interface("10.88.0.1/32"),))
BOTH: Commands = {"up": [("/bin/up",)], "down": [("/bin/down",)]}


def run_all(hooks: Hooks) -> list[RunHook]:
    """Run everything that is due, one after the other; none fails."""
    ran = []
    while (due := hooks.due()) is not None:
        assert isinstance(due, RunHook)
        assert hooks.due() is None, "one at a time"
        ran.append(due)
        assert hooks.ended(None) is None
    assert hooks.idle
    return ran


@pytest.mark.parametrize("event", list(HOOKS))
def test_every_variable_is_text_without_line_breaks(event: str) -> None:
    assert all("\n" not in value for value in environment(STATUS, event).values())


def test_a_command_sees_the_tunnel() -> None:
    hooks = Hooks(BOTH)
    hooks.tell("connected", STATUS)
    [ran] = run_all(hooks)
    assert (ran.reason, ran.command) == ("up", ("/bin/up",))
    assert ran.variables["IKECLIENT_ROUTES"] == "10.99.0.0/24 fd99::/64"
    assert ran.variables["IKECLIENT_ADDRESSES"] == "10.88.0.1/32"


def test_a_failing_command_is_a_warning_and_the_next_one_runs() -> None:
    """F15: a hook's failure has no other effect."""
    hooks = Hooks({"up": [("/bin/fails",), ("/bin/next",)], "down": ()})
    hooks.tell("connected", STATUS)
    hooks.due()
    assert hooks.ended("ended with status 3") == "up command '/bin/fails' ended with status 3"
    assert [ran.command for ran in run_all(hooks)] == [("/bin/next",)]


def test_every_transition_is_told_once_and_in_order() -> None:
    """What comes before the first connection is none, nor is each further attempt of a reconnection."""
    hooks = Hooks(BOTH)
    events = ["resolving", "reconnecting", "connected", "roamed", "roamed", "notice"]
    events += ["reconnecting", "negotiating", "reconnecting", "connected", "reauthenticated"]
    for event in events:
        hooks.tell(event, STATUS)
    assert [(ran.reason, ran.variables["IKECLIENT_EVENT"]) for ran in run_all(hooks)] == [
        ("up", "connected"),
        ("up", "roamed"),
        ("up", "roamed"),
        ("down", "reconnecting"),
        ("up", "connected"),
        ("up", "reauthenticated"),
    ]


def test_transitions_that_nobody_has_time_for_are_left_out_the_oldest_first() -> None:
    hooks = Hooks(BOTH)
    hooks.tell("connected", STATUS)
    hooks.due()
    for _ in range(2 * MOST_WAITING):
        hooks.tell("roamed", STATUS)
    hooks.ended(None)
    assert len(run_all(hooks)) == MOST_WAITING


def test_the_end_waits_for_nothing_but_its_own_commands() -> None:
    hooks = Hooks({"up": [("/bin/up",), ("/bin/second",)], "down": [("/bin/down",)]})
    hooks.tell("connected", STATUS)
    hooks.tell("reconnecting", STATUS)
    assert isinstance(hooks.due(), RunHook)
    hooks.finish(STATUS)
    assert isinstance(hooks.due(), StopHook)
    assert hooks.due() is None, "it has not ended yet"
    assert not hooks.idle
    assert hooks.ended(None) is None
    assert [ran.variables["IKECLIENT_EVENT"] for ran in run_all(hooks)] == ["disconnected"]


def test_without_a_connection_there_is_no_end_to_tell_of() -> None:
    hooks = Hooks(BOTH)
    hooks.tell("reconnecting", STATUS)
    hooks.finish(STATUS)
    assert hooks.due() is None
    assert hooks.idle


def test_other_commands_run_from_the_next_transition_on() -> None:
    hooks = Hooks(BOTH)
    hooks.tell("connected", STATUS)
    hooks.use({"up": [("/bin/other",)], "down": ()})
    assert [ran.command for ran in run_all(hooks)] == [("/bin/other",)]
