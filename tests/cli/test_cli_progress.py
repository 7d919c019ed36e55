"""The progress of `connect` on stderr."""

from __future__ import annotations

import io
import json
import sys

import pytest
import typer
from cli_fake_tunnel import CONNECTED, STEPS

from ikeclient.cli.view.progress import LogFormat, Progress
from ikeclient.errors import Interrupted, NoResponse


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error from here on; a fixture would be too early, capturing takes it back before the test."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def what_stays(screen: Terminal) -> list[str]:
    """The lines a person sees in the end: what was erased is gone, colours are ignored."""
    text = screen.getvalue()
    for colour in (0, 1, 2, 31, 32, 33):
        text = text.replace(f"\x1b[{colour}m", "")
    return [line.rsplit("\r\x1b[K", 1)[-1] for line in text.split("\n")]


def test_without_a_terminal_there_is_a_plain_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(LogFormat.TEXT, 0)
    for event in (*STEPS, {"event": "configuring", "interface": "ike0"}, CONNECTED):
        progress({**event, "time": "2026-11-23T08:00:00Z"})
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.removeprefix("2026-11-23T08:00:00Z  ") for line in captured.err.splitlines()] == [
        "resolving vpn.example.com",
        "negotiating with 203.0.113.7",
        "authenticating",
        "configuring ike0",
        "connected in 412 ms: 10.88.0.1/32 on ike0, gateway 203.0.113.7",
    ]


def test_after_the_connection_is_up_lines_have_their_time(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(LogFormat.TEXT, 0)
    progress(CONNECTED)
    progress({"event": "reconnecting", "time": "2026-11-23T08:00:00Z", "error": ["silence"]})
    progress({"event": "rekeyed", "time": "2026-11-23T09:00:00Z", "what": "child"})
    assert capsys.readouterr().err.splitlines()[1:] == ["2026-11-23T08:00:00Z  reconnecting: silence"]
    Progress(LogFormat.TEXT, 1)({"event": "rekeyed", "what": "child"})
    assert capsys.readouterr().err.endswith("Z  rekeyed the child SA\n")


def test_json_lines_are_the_events_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(LogFormat.JSON, 0)
    events = [{**event, "time": "2026-11-23T08:00:00Z"} for event in (*STEPS, CONNECTED)]
    for event in events:
        progress(event)
    assert [json.loads(line) for line in capsys.readouterr().err.splitlines()] == events


def test_on_a_terminal_a_step_is_completed_in_place_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    clock = Clock()
    progress = Progress(LogFormat.TEXT, 0, clock)
    for event in STEPS:
        progress(event)
        clock.now += 0.038
    assert what_stays(screen)[-1] == "\u2022 authenticating"
    progress(CONNECTED)
    assert what_stays(screen) == [
        "\u2713 resolving vpn.example.com  38 ms",
        "\u2713 negotiating with 203.0.113.7  38 ms",
        "\u2713 authenticating  38 ms",
        "connected in 412 ms: 10.88.0.1/32 on ike0, gateway 203.0.113.7",
        "",
    ]


def test_on_a_terminal_the_failed_step_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    progress = Progress(LogFormat.TEXT, 0)
    progress(STEPS[0])
    with pytest.raises(NoResponse), progress.running():
        raise NoResponse("vpn.example.com is silent")
    assert what_stays(screen) == ["\u2717 resolving vpn.example.com", ""]


def test_ctrl_c_is_an_error_before_a_tunnel_has_ended_and_its_end_afterwards() -> None:
    progress = Progress(LogFormat.TEXT, 0)
    for event in ({"event": "resolving"}, CONNECTED):
        progress(event)
        with pytest.raises(Interrupted), progress.running():
            raise Interrupted("interrupted")
    progress({"event": "disconnected"})
    with pytest.raises(typer.Exit) as ended, progress.running():
        raise Interrupted("interrupted")
    assert ended.value.exit_code == 130
    with pytest.raises(NoResponse), progress.running():
        raise NoResponse("the gateway did not confirm the end")


def test_a_line_in_between_leaves_the_step_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    progress = Progress(LogFormat.TEXT, 0)
    progress(STEPS[0])
    progress({"event": "notice", "text": "the second address is tried"})
    assert what_stays(screen) == ["the second address is tried", "\u2022 resolving vpn.example.com"]


def test_no_color_means_plain_lines_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    progress = Progress(LogFormat.TEXT, 0)
    for event in (*STEPS, CONNECTED):
        progress(event)
    assert "\x1b" not in screen.getvalue()
    assert "\r" not in screen.getvalue()


def test_a_notice_is_told_once_and_wrapped_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = a_terminal(monkeypatch)
    progress = Progress(LogFormat.TEXT, 0)
    text = "the gateway would carry less after rekeying the Child SA than before, so `ikeclient status work` shows it"
    for _ in range(3):
        progress({"event": "notice", "text": text})
    lines = what_stays(screen)[:-1]
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line.strip() for line in lines) == text
    assert "`ikeclient status work`" in lines[1], "what can be pasted stays on a line"


def test_a_notice_of_another_occurrence_is_told_again(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the same words at once that are told once, in text and in JSON."""
    for form in (LogFormat.TEXT, LogFormat.JSON):
        clock = Clock()
        progress = Progress(form, 0, clock)
        notice = {"event": "notice", "text": "going back to the former profile"}
        for _ in range(3):
            progress(notice)
        assert capsys.readouterr().err.count("going back") == 1
        progress({"event": "reconnecting", "error": ["silence"]})
        progress(notice)
        assert capsys.readouterr().err.count("going back") == 1, "something has happened since"
        clock.now += 60
        progress(notice)
        assert capsys.readouterr().err.count("going back") == 1, "much later"
