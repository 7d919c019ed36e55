"""What a tunnel says, and the warnings that stay."""

from __future__ import annotations

from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents


def made() -> tuple[StatusEvents, Status, list[dict[str, object]]]:
    said: list[dict[str, object]] = []
    status = Status(name="work")
    return StatusEvents(status, said), status, said


def test_an_event_says_what_happened_when_and_to_which_tunnel() -> None:
    events, status, said = made()
    events.emit("mtu", mtu=1300, path_mtu=1400)
    [event] = said
    assert {key: event[key] for key in ("event", "tunnel", "mtu", "path_mtu")} == {
        "event": "mtu",
        "tunnel": "work",
        "mtu": 1300,
        "path_mtu": 1400,
    }
    assert str(event["time"]).endswith("Z")
    assert status.problems.warnings == []


def test_a_warning_is_told_and_kept_until_it_is_true_no_more() -> None:
    events, status, said = made()
    events.warn("nothing comes back")
    assert status.problems.warnings == ["nothing comes back"]
    assert [(event["event"], event["text"]) for event in said] == [("notice", "nothing comes back")]
    events.retract("nothing comes back")
    events.retract("nothing comes back")
    assert status.problems.warnings == []
    assert len(said) == 1


def test_a_warning_that_comes_again_is_told_again_and_kept_once() -> None:
    events, status, said = made()
    for _ in range(3):
        events.warn("it was made again")
    assert status.problems.warnings == ["it was made again"]
    assert len(said) == 3


def test_a_gateway_that_always_finds_another_text_fills_no_memory() -> None:
    events, status, _ = made()
    for number in range(1000):
        events.warn(f"the gateway says: {number}")
    assert len(status.problems.warnings) == 64
    assert status.problems.warnings[-1] == "the gateway says: 999"


def test_a_warning_that_comes_again_is_the_last_one_and_not_lost_among_others() -> None:
    events, status, _ = made()
    for text in ("of this connection", "other", "of this connection"):
        events.warn(text)
    assert status.problems.warnings == ["other", "of this connection"]
