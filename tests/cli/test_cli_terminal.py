"""The policy of the terminal: what is colour, what is harmless, and who may be asked for a password."""

from __future__ import annotations

import io
import os
import pty
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.cli.view import terminal
from ikeclient.errors import PlatformError, UsageError


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError


def stdin_of(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal as standard input; gives the other end."""
    master, slave = pty.openpty()
    with open(slave, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


@pytest.mark.parametrize(
    ("environment", "live"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], live: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.is_live(Terminal()) is live
    assert ("\x1b[" in terminal.styled([("a", "good"), ("b", "")], Terminal())) is live


def test_a_pipe_and_a_closed_stream_get_plain_text() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (io.StringIO(), closed, None):
        assert terminal.styled([("a", "bad"), ("b", "")], stream) == "ab"


@given(st.text(st.characters(), max_size=80))
def test_nothing_that_steers_a_terminal_survives(text: str) -> None:
    """K15: whatever a gateway sends is one line of visible characters."""
    assert terminal.printable(text).isprintable()


def test_visible_text_stays_as_it_is_and_long_text_is_cut() -> None:
    assert terminal.printable("büro \u20ac") == "büro \u20ac"
    assert terminal.printable("\x1b[31mred\n") == "\\x1b[31mred\\n"
    assert len(terminal.printable("x" * 10_000, 20)) == 20


def test_a_symbol_that_the_stream_cannot_show_has_a_plain_form() -> None:
    ascii_stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert terminal.symbol("\u2713", "+", ascii_stream) == "+"
    assert terminal.symbol("\u2713", "+", Terminal()) == "\u2713"


def test_text_that_the_stream_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    terminal.emit("büro")
    assert raw.getvalue() == b"b\\xfcro\n"


def test_nobody_reading_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """O12: a log pipe that closed does not end a tunnel."""
    for stream in (Closed(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.tell("hello")
        terminal.warn("hello")


def test_nobody_reading_stdout_is_told_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        terminal.emit("hello")


def test_an_error_is_at_most_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_error(PlatformError("no\nroute", reason="EPERM\x1b[2J", hint="try\r\nthis"))
    assert capsys.readouterr().err == "error: no\\nroute\n  EPERM\\x1b[2J\n  try\\r\\nthis\n"


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """F13: standard input that is no terminal, closed, or missing."""
    closed = stdin_of(b"")
    closed.close()
    for stdin in (stdin_of(b"S3cr3t-CANARY\n"), closed, None):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert terminal.asker() is None


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"hunter2", "hunter2"),
        (b" spaces stay \nnext line\n", " spaces stay "),
        ("pässwörd\n".encode(), "pässwörd"),
        (b"\xff\n", "\udcff"),
        (b"x" * 4096, "x" * 4096),
    ],
)
def test_a_password_is_the_first_line_of_standard_input(
    monkeypatch: pytest.MonkeyPatch, data: bytes, secret: str
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin_of(data))
    assert terminal.read_secret() == secret


@pytest.mark.parametrize("data", [b"", b"\n", b"\nsecond\n", b"x" * 4097, b"x" * 10_000_000], ids=range(5))
def test_no_password_on_standard_input_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """F13."""
    monkeypatch.setattr(sys, "stdin", stdin_of(data))
    with pytest.raises(UsageError, match="password"):
        terminal.read_secret()


def test_a_closed_standard_input_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """F13."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no password given"):
        terminal.read_secret()


def test_on_a_terminal_there_is_somebody_to_ask(keyboard: int) -> None:
    assert terminal.asker() is not None
