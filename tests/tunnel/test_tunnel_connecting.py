"""The attempts to connect, without an event loop: which address is asked, for how long, and what an outcome means."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import profile
from tunnel_fakes import FakeLink

from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoNetwork,
    NoResponse,
    PlatformError,
    PrivilegeError,
    UsageError,
)
from ikeclient.ike.config import EapAuth, IkeConfig
from ikeclient.ike.events import Closed, IPAddress
from ikeclient.ike.v2.close_reasons import LoginUnanswered
from ikeclient.profile.secrets.typed import TypedSecret
from ikeclient.tunnel.commands import Command, Lookup, Retype
from ikeclient.tunnel.connecting import DELETE_TIMEOUT, Connecting, Failure
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.script import Script, Task
from ikeclient.tunnel.state import Input, State
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents
from ikeclient.tunnel.wakeups import Wakeup, Wakeups
from ikeclient.wire.registry import EapType

ONE, TWO = ip_address("203.0.113.7"), ip_address("203.0.113.8")
HOST = "vpn.example.com"
BOTH = [(HOST, ONE), (HOST, TWO)]


def unnamed(config: IkeConfig) -> IkeConfig:
    return replace(config, gateway=replace(config.gateway, named=False))


class Rig:
    """Attempts whose links end as a test says."""

    def __init__(self, *, retry_first: bool = False) -> None:
        self.now = 1000.0
        self.told: list[dict[str, object]] = []
        self.opened: list[tuple[IkeConfig, IPAddress]] = []
        self.links: list[FakeLink] = []
        self.left: list[FakeLink] = []
        self.lost: list[IkeclientError | None] = []
        self.commands: list[Command] = []
        self.wakeups = Wakeups()
        self.refuses: IkeclientError | None = None  # to open a link
        self.status = Status(name="work")
        self.status.life.happens(Input.START)
        session: Any = SimpleNamespace(
            ports=SimpleNamespace(clock=lambda: self.now, ask=None, entropy=lambda count: b"\xff" * count),
            profile=profile(),
            status=self.status,
            events=StatusEvents(self.status, self.told),
            disclosing=False,
            begin_attempt=lambda: None,
            lose=self.lost.append,
            use=lambda changed: setattr(session, "profile", changed),
        )
        self.session = session
        links: Any = SimpleNamespace(open=self.open, leave=self.left.append, current=None)
        self.all_links = links
        options = ConnectOptions(
            name="work", timeout=30.0, retry_first=retry_first, keylog=None, runtime_directory=FilePath("/nonexistent")
        )
        self.connecting = Connecting(session, links, self.wakeups, self.commands, options)
        self.failure: Failure | None = None

    def open(self, config: IkeConfig, remote: IPAddress, _: int) -> FakeLink:
        if self.refuses is not None:
            raise self.refuses
        self.opened.append((config, remote))
        self.links.append(FakeLink(established=False))
        self.links[-1].accepted = config
        self.all_links.current = self.links[-1]
        return self.links[-1]

    def first(self) -> None:
        self.task = Task(self.connecting.first())
        self.go_on()

    def again(self, failures: int) -> None:
        def script() -> Script[None]:
            self.failure = yield from self.connecting.again(failures)

        self.task = Task(script())
        self.go_on()

    def go_on(self) -> None:
        self.task.run(self.now)

    def resolve(self, answer: Known | IkeclientError) -> None:
        lookup = self.commands.pop()
        assert isinstance(lookup, Lookup)
        assert (lookup.hosts, lookup.port) == ((HOST,), 500)
        lookup.answer(answer)
        self.go_on()

    def ends(self, error: IkeclientError | None, *, proven: bool = False) -> None:
        self.links[-1].closed, self.links[-1].refused_by_gateway = Closed(error=error), proven
        self.go_on()

    def up(self) -> None:
        self.links[-1].establish()
        self.go_on()

    @property
    def asked(self) -> list[IPAddress]:
        return [remote for _, remote in self.opened]


def test_the_addresses_are_tried_in_turn_and_the_one_that_worked_is_the_best() -> None:
    rig = Rig()
    rig.first()
    assert (rig.status.life.state, rig.asked) == (State.RESOLVING, [])
    rig.resolve(BOTH)
    assert (rig.status.life.state, rig.asked) == (State.CONNECTING, [ONE])
    rig.now += 15
    rig.ends(NoResponse("silence"))
    assert rig.asked == [ONE, TWO]
    assert rig.left == rig.links[:1]
    assert [event["text"] for event in rig.told if event["event"] == "notice"] == [f"{ONE}: silence"]
    rig.up()
    assert rig.task.done
    assert rig.task.error is None
    assert rig.connecting.gateway.known == [(HOST, TWO), (HOST, ONE)]
    assert [(config.timing.timeout, config.timing.login_timeout) for config, _ in rig.opened] == [
        (15.0, 30.0),
        (15.0, 15.0),
    ]


def test_the_error_that_says_most_is_told() -> None:
    rig = Rig()
    rig.first()
    rig.resolve(BOTH)
    rig.ends(AuthenticationFailed("not the gateway"))
    rig.ends(NoResponse("silence"))
    assert isinstance(rig.task.error, AuthenticationFailed)


def test_a_proven_gateway_that_refuses_is_the_last_one_asked() -> None:
    """E9: with a gateway that has proven itself another guess would be one more guess."""
    rig = Rig()
    rig.first()
    rig.resolve(BOTH)
    rig.ends(AuthenticationFailed("wrong password"), proven=True)
    assert isinstance(rig.task.error, AuthenticationFailed)
    assert rig.asked == [ONE]


class AttendedRig(Rig):
    """With a person at the terminal, who has typed the secret if `typed`."""

    def __init__(self, *, typed: bool, password: str | None = "mistyped") -> None:
        super().__init__()
        self.session.ports.ask = object()
        written = self.session.profile
        auth = EapAuth(identity="alice", methods=(EapType.GTC,), password=password)
        secrets = (TypedSecret(section="auth", key="password", prompt="Password for alice"),) if typed else ()
        self.session.profile = replace(written, ike=replace(written.ike, auth=auth), typed=secrets)

    def refuse(self) -> None:
        self.ends(AuthenticationFailed("the gateway refused user 'alice'", reason="AUTHENTICATION_FAILED"), proven=True)

    def begin(self) -> None:
        self.first()
        self.resolve(BOTH)

    def retype(self, answer: str | IkeclientError) -> None:
        retype = self.commands.pop()
        assert isinstance(retype, Retype)
        assert (retype.prompt, retype.open) == ("Password for alice", True)
        retype.answer(answer)
        self.go_on()


def test_what_was_typed_is_asked_for_once_more_and_never_twice() -> None:
    """F13"""
    rig = AttendedRig(typed=True)
    rig.begin()
    rig.refuse()
    assert "the gateway refused user 'alice'" in str(rig.told[-1]["text"])
    rig.retype("right")
    assert [config.auth.password for config, _ in rig.opened] == ["mistyped", "right"]  # type: ignore[union-attr]
    rig.refuse()
    assert isinstance(rig.task.error, AuthenticationFailed)
    assert rig.commands == []


def test_a_login_that_asks_by_itself_is_tried_once_more() -> None:
    """K15: a one-time password that was mistyped; a password from a file is not the person's to correct twice."""
    for password, tries in ((None, 2), ("of a file", 1)):
        rig = AttendedRig(typed=False, password=password)
        rig.begin()
        for _ in range(tries):
            rig.connecting.person_asked()
            rig.refuse()
        assert isinstance(rig.task.error, AuthenticationFailed)
        assert len(rig.opened) == tries


def test_a_login_that_asked_for_another_password_was_the_second_try() -> None:
    rig = AttendedRig(typed=True)
    rig.begin()
    rig.connecting.person_asked()
    rig.refuse()
    assert isinstance(rig.task.error, AuthenticationFailed)
    assert rig.commands == []


def test_no_answer_and_a_stop_end_the_second_try() -> None:
    rig = AttendedRig(typed=True)
    rig.begin()
    rig.refuse()
    rig.retype(UsageError("no answer given"))
    assert isinstance(rig.task.error, UsageError)
    rig = AttendedRig(typed=True)
    rig.begin()
    rig.refuse()
    [retype] = rig.commands
    assert isinstance(retype, Retype)
    rig.wakeups.stop()
    rig.go_on()
    assert not retype.open
    assert (rig.task.done, rig.task.error) == (True, None)


def test_nobody_is_asked_who_is_not_there() -> None:
    rig = AttendedRig(typed=True)
    rig.session.ports.ask = None
    rig.begin()
    rig.refuse()
    assert isinstance(rig.task.error, AuthenticationFailed)


def test_a_name_without_an_address_is_the_end() -> None:
    rig = Rig()
    rig.first()
    rig.resolve(NoResponse("no such name"))
    assert isinstance(rig.task.error, NoResponse)


# A first connection that is tried again


def told(rig: Rig) -> list[object]:
    return [event["error"] for event in rig.told if event["event"] == "retrying"]


def test_a_network_that_is_not_there_yet_is_waited_for_within_the_time() -> None:
    rig = Rig()
    rig.first()
    rig.resolve(NoNetwork("the name server does not answer"))
    assert not rig.task.done
    assert told(rig) == [["the name server does not answer"]]
    assert rig.status.problems.last_error == "the name server does not answer"
    rig.wakeups.give(Wakeup.NETWORK)
    rig.go_on()
    rig.refuses = NoNetwork("there is no route to the gateway")
    rig.resolve([(HOST, ONE)])
    assert len(told(rig)) == 2
    assert rig.task.deadline is not None
    rig.now, rig.refuses = rig.task.deadline, None
    rig.go_on()
    rig.resolve([(HOST, ONE)])
    assert rig.opened[-1][0].timing.timeout == 1030.0 - rig.now, "what is left of the time"
    rig.up()
    assert (rig.task.done, rig.task.error) == (True, None)


def test_a_network_that_does_not_come_within_the_time_ends_the_first_connection() -> None:
    rig = Rig()
    error = NoNetwork("the name server does not answer")
    rig.first()
    while not rig.task.done:
        rig.resolve(error)
        if rig.task.deadline is not None:
            rig.now = rig.task.deadline
            rig.go_on()
    assert (rig.task.error, rig.now) == (error, 1030.0)


def test_silence_within_the_time_is_not_tried_again() -> None:
    rig = Rig()
    rig.first()
    rig.resolve([(HOST, ONE)])
    rig.ends(NoResponse("no IKE answer"))
    assert isinstance(rig.task.error, NoResponse)


PASSES = (
    NoResponse("no such name"),
    NoNetwork("no route"),
    LoginUnanswered("stopped answering"),
    NegotiationRefused("no address is left"),
    GatewayNotAuthenticated("not valid yet"),
)
STAYS = (AuthenticationFailed("refused"), PlatformError("no"), PrivilegeError("no"), IkeclientError("a bug"))


@pytest.mark.parametrize("proven", [False, True])
@pytest.mark.parametrize("error", [*PASSES, *STAYS], ids=lambda error: type(error).__name__)
def test_what_may_pass_is_tried_again_for_ever_and_refused_credentials_never(
    error: IkeclientError, proven: bool
) -> None:
    """E9: another attempt with refused credentials is another guess, which locks accounts."""
    rig = Rig(retry_first=True)
    rig.first()
    for _ in range(20):
        rig.resolve([(HOST, ONE)])
        rig.ends(error, proven=proven)
        if rig.task.done:
            break
        assert rig.opened[-1][0].timing.timeout == 30.0, "each attempt has all of its time"
        assert rig.task.deadline is not None
        rig.now = rig.task.deadline
        rig.go_on()
    if error in PASSES:
        assert (rig.task.done, len(rig.opened), len(told(rig))) == (False, 20, 20)
    else:
        assert (rig.task.error, len(rig.opened), told(rig)) == (error, 1, [])


def test_a_login_without_an_outcome_has_the_pauses_of_a_refused_one() -> None:
    rig = Rig(retry_first=True)
    rig.first()
    pauses = []
    for _ in range(8):
        rig.resolve([(HOST, ONE)])
        rig.ends(LoginUnanswered("stopped answering during IKE_AUTH"))
        assert rig.task.deadline is not None
        pauses.append(rig.task.deadline - rig.now)
        rig.wakeups.give(Wakeup.NETWORK)
        rig.go_on()
        assert rig.commands == [], "only a person shortens them"
        rig.now = rig.task.deadline
        rig.go_on()
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 320.0]


def test_a_command_and_a_stop_end_the_pause() -> None:
    for wakeup in (Wakeup.COMMAND, Wakeup.STOP):
        rig = Rig(retry_first=True)
        rig.first()
        rig.resolve(NoResponse("no such name"))
        rig.wakeups.give(wakeup)
        if wakeup is Wakeup.STOP:
            rig.status.life.happens(Input.CLOSE)
        rig.go_on()
        assert len(rig.commands) == (wakeup is Wakeup.COMMAND)
        assert rig.task.done == (wakeup is Wakeup.STOP)


def test_a_stop_ends_every_wait() -> None:
    for moment in ("resolving", "connecting"):
        rig = Rig()
        rig.first()
        if moment == "connecting":
            rig.resolve(BOTH)
        rig.wakeups.stop()
        rig.status.life.happens(Input.CLOSE)
        if moment == "connecting":
            rig.ends(None)
        rig.go_on()
        assert (rig.task.done, rig.task.error) == (True, None)


def test_what_the_machine_refuses_is_closed_at_the_gateway_and_not_waited_for_long() -> None:
    rig = Rig()
    rig.first()
    rig.resolve(BOTH)
    rig.links[0].fail(PlatformError("no such route"))
    rig.go_on()
    assert rig.links[0].asked("close") == [()]
    assert not rig.task.done
    rig.now += DELETE_TIMEOUT
    rig.go_on()
    assert isinstance(rig.task.error, PlatformError), "no other address changes that"
    assert rig.asked == [ONE]


def test_a_lost_connection_is_made_again_where_it_worked_and_then_elsewhere_with_the_name_resolved_anew() -> None:
    rig = Rig()
    rig.connecting.gateway.learn(BOTH)
    rig.again(0)
    assert (rig.commands, rig.asked) == ([], [ONE])
    rig.ends(NoResponse("silence"))
    assert rig.failure == Failure(rig.lost[-1], False)  # type: ignore[arg-type]
    rig.again(1)
    rig.resolve(NoResponse("the name server is behind the tunnel"))
    assert rig.asked == [ONE, TWO], "addresses that were found before stay good"
    rig.up()
    assert rig.failure is None
    assert rig.status.counts.reconnects == 1


def test_an_attempt_for_which_there_is_no_route_has_failed() -> None:
    rig = Rig()
    rig.connecting.gateway.learn(BOTH)
    rig.refuses = NoResponse("there is no route to the gateway")
    rig.again(0)
    assert rig.failure == Failure(rig.refuses)
    assert rig.left == []


def test_a_gateway_is_asked_as_it_last_accepted_until_it_refuses() -> None:
    rig = Rig()
    rig.connecting.gateway.learn(BOTH)
    rig.again(0)
    rig.links[-1].accepted = unnamed(rig.opened[-1][0])
    rig.up()
    rig.again(0)
    assert not rig.opened[-1][0].gateway.named
    rig.ends(AuthenticationFailed("wrong password"), proven=True)
    assert rig.failure is not None
    assert rig.failure.proven
    rig.again(0)
    assert rig.opened[-1][0].gateway.named


def test_a_parallel_connection_leaves_the_one_in_use_at_the_gateway() -> None:
    rig = Rig()
    assert rig.connecting.config(5.0).initial_contact
    assert not rig.connecting.parallel_config().initial_contact
