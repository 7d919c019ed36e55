"""`ping` and `resolve` with an inside that answers as it is told."""

from __future__ import annotations

import json

import pytest

from ikeclient.cli.app import main
from ikeclient.control.answers import PingAnswer, ResolveAnswer
from ikeclient.errors import NoSuchTunnel
from ikeclient.process import inside

NAMES = {"host": ("fd99::1", "10.99.0.1"), "six": ("fd99::6",)}


class FakeInside:
    """Answers one echo after the other with what is left of `answers`; remembers who was asked."""

    def __init__(self, *answers: PingAnswer | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, float, int]] = []

    def ping(self, address: str, *, timeout: float, size: int) -> PingAnswer:
        self.asked.append((address, timeout, size))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def resolve(self, name: str) -> ResolveAnswer:
        found = NAMES.get(name, ())
        return ResolveAnswer(name=name, addresses=found, error=None if found else "the name does not exist")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> object:
    """Has a tunnel `work` run with such an inside."""

    def use(*answers: PingAnswer | BaseException) -> FakeInside:
        made = FakeInside(*answers)
        monkeypatch.setattr("ikeclient.control.client.resolve", lambda name: name)
        monkeypatch.setattr(inside, "open_inside", lambda _: made)
        return made

    return use


FAST = ("--interval", "0.05")


def test_answers_and_their_sum_are_told(answering: object, capsys: pytest.CaptureFixture[str]) -> None:
    made = answering(PingAnswer(rtt_ms=1.0), PingAnswer(), PingAnswer(error="host unreachable"), PingAnswer(rtt_ms=3.0))  # type: ignore[operator]
    assert main(["ping", "work", "10.99.0.1", "-W", "0.5", "-s", "100", *FAST]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "10.99.0.1  1  1.0 ms",
        "10.99.0.1  2  no answer",
        "10.99.0.1  3  host unreachable",
        "10.99.0.1  4  3.0 ms",
        "10.99.0.1: 4 sent, 2 answered, 1.0/2.0/3.0 ms least/mean/most",
    ]
    assert made.asked == [("10.99.0.1", 0.5, 100)] * 4


def test_silence_is_exit_code_5(answering: object, capsys: pytest.CaptureFixture[str]) -> None:
    answering(PingAnswer())  # type: ignore[operator]
    assert main(["ping", "work", "host", "-4", "-c", "1", "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "schema": "ikeclient.ping/1",
        "tunnel": "work",
        "host": "host",
        "address": "10.99.0.1",
        "sent": 1,
        "received": 0,
        "rtt_ms": None,
        "answers": [{"sequence": 1, "rtt_ms": None, "error": None}],
    }


@pytest.mark.parametrize(("count", "code"), [(0, 0), (9, 130)])
def test_an_interruption_ends_with_the_sum(
    answering: object, capsys: pytest.CaptureFixture[str], count: int, code: int
) -> None:
    answering(PingAnswer(rtt_ms=2.0), KeyboardInterrupt())  # type: ignore[operator]
    assert main(["ping", "work", "host", "-c", str(count), *FAST]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith("host: 1 sent, 1 answered")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-4", "-6"], "exclude each other"),
        (["-c", "-1"], "not a number of echoes"),
        (["-s", "9000"], "not from 16 to 8192"),
        (["-W", "soon"], "not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused(
    answering: object, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    answering()  # type: ignore[operator]
    assert main(["ping", "work", "host", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_host_without_an_address_of_the_kind_cannot_be_pinged(
    answering: object, capsys: pytest.CaptureFixture[str]
) -> None:
    answering()  # type: ignore[operator]
    assert main(["ping", "work", "six", "-4"]) == 5
    assert "six cannot be pinged" in capsys.readouterr().err
    assert main(["ping", "work", "nobody"]) == 5
    assert "the name does not exist" in capsys.readouterr().err


def test_names_are_looked_up_one_after_the_other(answering: object, capsys: pytest.CaptureFixture[str]) -> None:
    answering()  # type: ignore[operator]
    assert main(["resolve", "work", "host", "nobody", "10.0.0.1"]) == 5
    told = capsys.readouterr()
    assert told.out == "host  fd99::1\nhost  10.99.0.1\n10.0.0.1  10.0.0.1\n"
    assert told.err == "nobody: the name does not exist\n"
    assert main(["resolve", "work", "host", "-6", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)["names"]
    assert found == {"name": "host", "addresses": ["fd99::1"], "error": None}


def test_a_tunnel_that_does_not_run_is_said_with_what_starts_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(name: str) -> str:
        raise NoSuchTunnel(f"no tunnel '{name}' is running")

    monkeypatch.setattr("ikeclient.control.client.resolve", gone)
    for command in (["ping", "work", "host"], ["resolve", "work", "host"]):
        assert main(command) == 8
        assert "`ikeclient connect work` starts it" in capsys.readouterr().err
