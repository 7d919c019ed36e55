"""A new authentication beside the connection in use: a login, which time alone neither starts nor ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tunnel_fakes import CHILD, FakeLink

from ikeclient.errors import AuthenticationFailed, IkeclientError, NegotiationRefused, NoResponse
from ikeclient.ike.events import Closed, Event
from ikeclient.tunnel.reauthentication import LONGEST_PAUSE, TIMEOUT, Reauthentication
from ikeclient.tunnel.script import Task


class Owner:
    """A tunnel whose second link does what a test says."""

    def __init__(self, *, useless: IkeclientError | None = None) -> None:
        self.time = 1000.0
        self.opened: list[FakeLink] = []
        self.left: list[FakeLink] = []
        self.failures: list[IkeclientError] = []
        self.taken: list[tuple[FakeLink, list[Event]]] = []
        self.useless = useless
        owner: Any = self
        self.made = Reauthentication(owner, refusals=3)
        self.run()

    def run(self, seconds: float = 0.0) -> None:
        self.time += seconds
        while self.made.task.run(self.time):
            pass

    def now(self) -> float:
        return self.time

    def open_parallel(self) -> FakeLink:
        self.opened.append(FakeLink(established=False))
        return self.opened[-1]

    def take_over(self, new: FakeLink, events: Sequence[Event]) -> None:
        if self.useless is not None:
            raise self.useless
        self.taken.append((new, list(events)))

    def reauthentication_failed(self, error: IkeclientError) -> None:
        self.failures.append(error)

    def leave(self, link: FakeLink) -> None:
        self.left.append(link)

    def close(self, error: IkeclientError | None) -> None:
        """The latest link ends with this error."""
        self.opened[-1].closed = Closed(error=error)
        self.run()


def test_a_link_that_is_up_takes_over_with_all_that_it_said() -> None:
    owner = Owner()
    assert owner.taken == []
    owner.made.heard(CHILD)
    owner.run()
    assert owner.taken == [(owner.opened[0], [CHILD])]
    assert owner.made.task.done
    assert owner.made.link is None
    owner.made.cancel()
    assert owner.left == [], "it is the one in use now"


def test_a_login_under_way_is_waited_for_when_the_connection_in_use_ends() -> None:
    """K20: the gateway works on it, and another connection would be another login."""
    owner = Owner()
    owner.opened[0].logging_in = True
    chance = Task(owner.made.last_chance())
    for _ in range(5):
        chance.run(owner.time)
        owner.time += TIMEOUT
    assert not chance.done
    assert owner.left == []
    owner.close(NoResponse("too late"))
    chance.run(owner.time)
    assert chance.done
    assert owner.left == owner.opened


def test_an_attempt_that_nobody_has_answered_is_not_waited_for_long() -> None:
    owner = Owner()
    chance = Task(owner.made.last_chance())
    chance.run(owner.time)
    chance.run(owner.time + TIMEOUT - 0.1)
    assert not chance.done
    chance.run(owner.time + TIMEOUT)
    assert chance.done
    assert owner.opened[0].asked("give_up") == [()]
    assert owner.left == owner.opened
    assert owner.made.task.done


def test_what_cannot_be_used_takes_nothing_over() -> None:
    """K12: an inner address of the LAN, granted at a later authentication. The connection in use stays."""
    owner = Owner(useless=NegotiationRefused("the inner address 10.1.0.53 cannot be used"))
    owner.made.heard(CHILD)
    owner.run()
    assert owner.opened[0].asked("give_up") == [()]
    assert owner.left == owner.opened
    assert "10.1.0.53" in owner.failures[0].message


def test_a_question_that_nobody_can_answer_ends_the_attempt_at_once() -> None:
    """G1: a gateway that wants another one-time password would be waited for until the attempt is out of time."""
    owner = Owner()
    owner.close(NegotiationRefused("the gateway asks for a credential", reason="Token"))
    assert owner.opened[0].asked("give_up") == [()]
    assert owner.left == owner.opened
    assert owner.failures[0].reason == "Token"


def test_pauses_between_logins_grow() -> None:
    """K20: one that is refused or too slow is not tried every few seconds."""
    owner = Owner()
    pauses: list[float] = []
    for number in range(6):
        assert len(owner.opened) == number + 1
        owner.close(NoResponse("no"))
        assert owner.made.task.deadline is not None
        pauses.append(owner.made.task.deadline - owner.time)
        owner.run(pauses[-1] - 0.1)
        assert len(owner.opened) == number + 1
        owner.run(0.1)
    assert pauses == [5.0, 10.0, 20.0, 40.0, LONGEST_PAUSE, LONGEST_PAUSE]
    assert all(each.asked("give_up") == [()] for each in owner.left)
    assert owner.left == owner.opened[:-1]


@pytest.mark.parametrize("restarted", [False, True])
def test_credentials_that_a_proven_gateway_refuses_are_not_tried_for_ever(restarted: bool) -> None:
    """G2, E9: each attempt is a guess in the gateway's eyes, and the connection in use needs none."""
    owner = Owner()
    for proven in (True, False, True, True):
        owner.opened[-1].refused_by_gateway = proven
        owner.close(AuthenticationFailed("the gateway refused our credentials"))
        owner.run(LONGEST_PAUSE)
    assert owner.made.task.done
    if restarted:
        owner.made.restart()
        owner.run(LONGEST_PAUSE)
        assert owner.made.task.done
    assert len(owner.opened) == 4
    assert owner.left == owner.opened


def test_a_restart_begins_with_another_link() -> None:
    owner = Owner()
    owner.made.heard(CHILD)  # of the link that is given up
    owner.made.restart()
    owner.run()
    assert owner.left == owner.opened[:1]
    assert len(owner.opened) == 2
    assert owner.taken == []


def test_a_tunnel_that_goes_back_to_another_profile_may_cancel_it_when_it_hears_of_a_failure() -> None:
    owner = Owner()
    cancel: Callable[[IkeclientError], None] = lambda _: owner.made.cancel()  # noqa: E731
    owner.reauthentication_failed = cancel  # type: ignore[method-assign]
    owner.close(NoResponse("no"))
    owner.run(LONGEST_PAUSE)
    assert owner.made.task.done
    assert len(owner.opened) == 1
