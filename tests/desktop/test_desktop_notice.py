"""What of a tunnel's life is worth a notification, and which: without a desktop and without a clock."""

from __future__ import annotations

import pytest

from ikeclient.control.events import failed, happened
from ikeclient.control.status import GatewayStatus, TunnelStatus
from ikeclient.desktop.notice import GRACE, Notice, NoticeKind, TunnelNotices
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoResponse,
)

CONNECTED = happened("connected", "work", addresses=["10.88.0.1/32"], gateway={"identity": "vpn.example.com"})
SILENT = happened("reconnecting", "work", error=["the gateway does not answer", "10 requests were sent"])
UP = Notice(kind=NoticeKind.UP, summary="VPN work: connected", body="Gateway vpn.example.com\n10.88.0.1/32")


def status(state: str, mode: str = "tun", **others: object) -> TunnelStatus:
    return TunnelStatus(
        name="work",
        pid=1,
        state=state,
        mode=mode,
        addresses=("10.88.0.1/32",),
        gateway=GatewayStatus(identity="vpn.example.com"),
        **others,
    )


def begun(mode: str = "tun", *, quiet: bool = False) -> TunnelNotices:
    """A tunnel that has just been started."""
    notices = TunnelNotices("work", quiet=quiet)
    notices.found(status("connecting", mode), 0.0, news=True)
    return notices


def lost(notices: TunnelNotices, *, blocked: bool = False) -> Notice:
    """The notice of a loss at second 10 that lasts."""
    notices.heard(SILENT, 10.0, blocked=blocked)
    assert notices.due == 10.0 + GRACE
    notices.tick(notices.due)
    assert notices.notice is not None
    return notices.notice


def test_coming_up_is_told_once() -> None:
    notices = begun()
    assert notices.notice is None
    notices.heard(CONNECTED, 1.0, blocked=False)
    assert notices.notice == UP
    moved = happened("connected", "work", addresses=["10.88.0.2/32"], gateway={"identity": "vpn.example.com"})
    notices.heard(moved, 20.0, blocked=False)
    assert notices.notice == UP, "another connection of a tunnel that is up is no news"


@pytest.mark.parametrize("mode", ["netns", "stack"])
def test_what_exec_and_proxy_begin_is_told_only_when_it_goes_wrong(mode: str) -> None:
    notices = begun(mode)
    notices.heard(CONNECTED, 1.0, blocked=False)
    assert notices.notice is None
    assert lost(notices).kind is NoticeKind.LOST


def test_quiet_means_trouble_only_and_its_end_takes_the_notice_away() -> None:
    notices = begun(quiet=True)
    notices.heard(CONNECTED, 1.0, blocked=False)
    assert notices.notice is None
    assert lost(notices).kind is NoticeKind.LOST
    notices.heard(CONNECTED, 30.0, blocked=False)
    assert notices.notice is None


def test_a_loss_is_told_when_it_lasts_and_further_attempts_are_no_news() -> None:
    notices = begun()
    notices.heard(CONNECTED, 1.0, blocked=False)
    notices.heard(SILENT, 10.0, blocked=False)
    notices.heard(happened("reconnecting", "work", error=["no network"]), 12.0, blocked=False)
    notices.tick(10.0 + GRACE - 0.1)
    assert notices.notice == UP
    notices.tick(10.0 + GRACE)
    told = notices.notice
    assert told is not None
    assert (told.kind, told.summary) == (NoticeKind.LOST, "VPN work: not connected")
    assert told.body.splitlines()[:2] == ["no network", "It is tried again until it works."]
    notices.heard(SILENT, 40.0, blocked=False)
    assert (notices.notice, notices.due) == (told, None)
    notices.heard(CONNECTED, 50.0, blocked=False)
    assert notices.notice == UP


def test_a_short_loss_is_none() -> None:
    notices = begun()
    notices.heard(CONNECTED, 1.0, blocked=False)
    notices.heard(SILENT, 10.0, blocked=False)
    notices.heard(CONNECTED, 12.0, blocked=False)
    notices.tick(10.0 + GRACE)
    assert (notices.notice, notices.due) == (UP, None)


@pytest.mark.parametrize("told", [False, True])
def test_a_move_ends_a_loss(told: bool) -> None:
    notices = begun()
    notices.heard(CONNECTED, 1.0, blocked=False)
    notices.heard(SILENT, 10.0, blocked=False)
    if told:
        notices.tick(10.0 + GRACE)
    notices.heard(happened("roamed", "work", local="192.0.2.2"), 20.0, blocked=False)
    notices.tick(30.0)
    assert (notices.notice, notices.due) == (UP, None)


def test_a_loss_with_a_closed_kill_switch_is_another_matter() -> None:
    notices = begun()
    told = lost(notices, blocked=True)
    assert told.kind is NoticeKind.BLOCKED
    assert "The kill switch holds all traffic" in told.body
    notices.heard(happened("unblocked", "work", means="open until 12:00:00Z"), 20.0, blocked=False)
    assert notices.notice is not None
    assert (notices.notice.kind, "kill switch" in notices.notice.body) == (NoticeKind.LOST, False)
    notices.heard(happened("blocked", "work", means="routes"), 30.0, blocked=True)
    assert notices.notice == told


@pytest.mark.parametrize(
    ("kind", "headline"),
    [
        (AuthenticationFailed, "the login was refused"),
        (NegotiationRefused, "the gateway refused"),
        (GatewayNotAuthenticated, "the gateway is not to be trusted"),
    ],
)
def test_a_refusal_is_told_with_its_reason(kind: type[IkeclientError], headline: str) -> None:
    notices = begun()
    notices.heard(failed(kind("what", reason="why", hint="try this"), "work"), 1.0, blocked=False)
    notices.ended(20.0, blocked=False)
    assert notices.notice == Notice(
        kind=NoticeKind.REFUSED, summary=f"VPN work: {headline}", body="what\nwhy\ntry this"
    )
    notices.found(status("connecting"), 20.0, news=True)
    assert notices.notice is not None, "it stands until the next attempt has come to something"
    notices.heard(CONNECTED, 21.0, blocked=False)
    assert notices.notice == UP


def test_the_end_that_was_asked_for_is_not_told_and_ends_what_stood() -> None:
    notices = begun()
    lost(notices)
    notices.heard(happened("disconnected", "work"), 20.0, blocked=False)
    notices.ended(20.0, blocked=False)
    assert notices.notice is None


def test_the_end_that_was_not_is_told() -> None:
    notices = begun()
    notices.heard(failed(NoResponse("no answer"), "work"), 1.0, blocked=False)
    notices.ended(20.0, blocked=False)
    assert notices.notice == Notice(kind=NoticeKind.ENDED, summary="VPN work: not connected", body="no answer")
    killed = begun(quiet=True)
    killed.heard(CONNECTED, 1.0, blocked=False)
    for _ in range(2):
        killed.ended(20.0, blocked=False)
    assert killed.notice is not None
    assert (killed.notice.kind, "ikeclient repair" in killed.notice.body) == (NoticeKind.ENDED, True)


def test_a_kill_switch_that_outlives_its_tunnel_is_told_until_it_is_opened() -> None:
    for notices in (begun(quiet=True), TunnelNotices("work")):  # one was killed, one blocks since before we came
        notices.ended(10.0, blocked=True)
        assert notices.notice is None, "a start closes before there is a tunnel to be seen"
        notices.ended(12.0, blocked=True)
        notices.tick(10.0 + GRACE)
        assert notices.notice is not None
        assert (notices.notice.kind, "`ikeclient unblock work`" in notices.notice.body) == (NoticeKind.BLOCKED, True)
        for _ in range(2):
            notices.ended(20.0, blocked=False)
            assert notices.notice is None


def test_a_kill_switch_that_is_closed_for_a_start_is_not_told() -> None:
    notices = TunnelNotices("work")
    notices.ended(10.0, blocked=True)
    notices.found(status("connecting", blocked=True), 10.2, news=True)
    notices.heard(CONNECTED, 10.4, blocked=False)
    notices.tick(10.0 + GRACE)
    assert notices.notice == UP


def test_a_tunnel_that_is_found_is_told_of_only_if_something_is_wrong() -> None:
    notices = TunnelNotices("work")
    notices.found(status("connected"), 0.0, news=False)
    assert notices.notice is None
    notices.found(status("reconnecting", last_error="no answer", blocked=True), 0.0, news=False)
    notices.tick(GRACE)
    assert notices.notice is not None
    assert (notices.notice.kind, notices.notice.body.splitlines()[0]) == (NoticeKind.BLOCKED, "no answer")
    notices.found(status("connected"), 9.0, news=False)
    assert notices.notice is None


def test_one_that_came_up_before_it_was_asked_is_told_all_the_same() -> None:
    notices = TunnelNotices("work")
    notices.found(status("connected"), 0.0, news=True)
    assert notices.notice == UP


def test_what_a_gateway_says_cannot_move_anything() -> None:
    """K15: a control character is shown as its escape, and a line is bounded."""
    notices = begun()
    said = "the gateway says: \x1b[2J\u202eevil" + "x" * 1000
    notices.heard(failed(AuthenticationFailed("refused", reason=said), "work"), 1.0, blocked=False)
    notices.ended(20.0, blocked=False)
    assert notices.notice is not None
    assert notices.notice.body.startswith("refused\nthe gateway says: \\x1b[2J\\u202eevil")
    assert len(notices.notice.body) < 400
