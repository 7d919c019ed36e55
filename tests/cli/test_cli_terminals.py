"""What a person sees in terminals of 40, 80 and 200 columns, with keys pressed as a person presses them."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_example import example, keys
from cli_screen import Screen, matches_snapshot, shown

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported
Opened = Callable[..., Screen]
WIDTHS = pytest.mark.parametrize("columns", [40, 80, 200])
CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def screen(shell: Shell) -> Iterator[Opened]:
    """Start a command on a terminal."""
    opened: list[Screen] = []

    def start(*arguments: str, columns: int = 80, mode: str | None = None, **environment: str) -> Screen:
        command = shell.command(*arguments, mode=mode)
        opened.append(Screen(command, shell.environment | environment, columns))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def fits(text: str, columns: int) -> bool:
    """Whether no line was longer than the terminal, which would have broken it within a word."""
    assert max(map(len, text.splitlines())) <= columns
    return True


@WIDTHS
def test_connect_and_ctrl_c_end_with_disconnected(screen: Opened, columns: int) -> None:
    """O4: that is how a tunnel in the foreground is meant to end, so it is no error."""
    terminal = screen("connect", "work", columns=columns, mode="noticing")
    terminal.read("Ctrl-C disconnects")
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    text = re.sub(r"\d+ ms\n", "9 ms\n", terminal.text())
    assert fits(text, columns)
    assert "error" not in text
    assert matches_snapshot(text, f"connect-{columns}")


@pytest.mark.parametrize("arguments", [["events"], ["status", "--watch"], ["status", "--watch", "--json"]])
def test_ctrl_c_ends_what_only_shows(shell: Shell, screen: Opened, arguments: list[str]) -> None:
    shell.connected("work")
    terminal = screen(*arguments)
    if arguments == ["events"]:
        shell.until(lambda: shell.status("work")["listeners"] == 1)
    else:
        terminal.read("connected")
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    assert "error" not in terminal.text().replace("\n", "").replace("last_error", "").replace("auth_failures", "")
    assert shell.run("status", "--check", "up").returncode == 0, "the tunnel is not concerned"


@WIDTHS
def test_an_error_is_wrapped_at_words(screen: Opened, columns: int) -> None:
    terminal = screen("connect", "nowhere-near", columns=columns)
    assert terminal.wait() == 10
    text = re.sub(r"/\S*?/config/", "/home/alice/config/", terminal.text().replace("\n  ", " "))
    assert "`ikeclient profile list`" in text
    assert text.startswith('error: there is no profile "nowhere-near"')


@pytest.mark.parametrize("columns", [40, 80])
def test_profiles_are_listed_below_each_other_where_a_table_has_no_room(
    shell: Shell, screen: Opened, columns: int
) -> None:
    """The path stands alone and whole, so that it can be copied."""
    folder = shell.home / "config/ikeclient/profiles"
    written = (folder / "work.toml").read_text()
    (folder / "the-headquarters-beyond-the-seven-mountains.toml").write_text(written)
    (folder / "broken.toml").write_text("version = 1\n")
    terminal = screen("profile", "list", columns=columns)
    assert terminal.wait() == 0
    text = re.sub(r"/\S*?/config/", "/home/alice/config/", terminal.data.decode().replace("\r", ""))
    assert matches_snapshot(re.sub(r"\x1b\[[\d;]*m", "", text), f"profile-list-{columns}")


@WIDTHS
@pytest.mark.parametrize("command", ["connect", "exec", "wait", "profile new"])
def test_help_has_nothing_of_the_librarys_notation(screen: Opened, columns: int, command: str) -> None:
    terminal = screen(*command.split(), "--help", columns=columns)
    assert terminal.wait() == 0
    text = terminal.text()
    for notation in ("[[", "{", "<str>", "<=", "list[", "(IKECLIENT", "[required]", "TEXT"):
        assert notation not in text
    assert matches_snapshot(text, f"help-{command.replace(' ', '-')}-{columns}")


def test_a_new_profile_is_asked_for(shell: Shell, screen: Opened) -> None:
    """Enter means what stands in brackets; what was given is not asked for; Ctrl-D leaves nothing behind."""
    terminal = screen("profile", "new", "office", "--method", "psk")
    terminal.read("Gateway")
    terminal.type("vpn.office.example\r")
    terminal.read("knows you")
    terminal.type("\r")
    terminal.read("Routes")
    terminal.type("full\r")
    assert terminal.wait() == 0
    shown = shell.run("profile", "show", "office", "--json").stdout
    assert '"vpn.office.example"' in shown
    assert '"routes": "all"' in shown
    terminal = screen("profile", "new", "home")
    terminal.read("Gateway")
    terminal.type(CTRL_D)
    assert terminal.wait() == 130
    assert shell.run("profile", "path", "home").returncode == 10


def test_ctrl_d_at_a_prompt_says_so(shell: Shell, screen: Opened) -> None:
    """F13: nothing is asked a second time."""
    path = shell.home / "config/ikeclient/profiles/work.toml"
    path.write_text(path.read_text().replace('psk = { file = "psk" }', "psk = { prompt = true }"))
    terminal = screen("connect", "work", mode="connected")
    terminal.read(": ")
    terminal.type(CTRL_D)
    assert terminal.wait() == 2
    assert terminal.text().splitlines()[-2:] == ["error: no pre-shared key given", "  the prompt was left with Ctrl-D"]


def busy(shell: Shell) -> Any:
    """A tunnel with something to tell of every kind."""
    return shell.connected("work", mode="busy")


def steady(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub("\u2581+", "\u2581", re.sub(r"for \d.*", "for 2 h 14 min", text))


@WIDTHS
def test_status_fits_the_terminal(shell: Shell, screen: Opened, columns: int) -> None:
    """Warnings, what DNS does, round-trip time and drops are in it."""
    busy(shell)
    terminal = screen("status", columns=columns)
    assert terminal.wait() == 0
    text = steady(terminal.text())
    assert fits(text, columns)
    assert matches_snapshot(text, f"status-{columns}")


@WIDTHS
def test_top_fits_the_terminal(shell: Shell, screen: Opened, columns: int) -> None:
    busy(shell)
    shell.connected("home", mode="waiting")
    terminal = screen("top", columns=columns)
    terminal.read("work")
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    text = steady(shown_last(terminal))
    assert fits(text, columns)
    assert matches_snapshot(text, f"top-{columns}")


def shown_last(terminal: Screen) -> str:
    """What stays on the terminal after a display of its own."""
    _, _, rest = terminal.data.decode().rpartition("\x1b[?1049l")
    return shown(rest, terminal.columns)


def test_a_display_survives_a_resize(shell: Shell, screen: Opened) -> None:
    """It is drawn anew for the new width at once, and nothing of the old one is left."""
    busy(shell)
    terminal = screen("status", "--watch", columns=120)
    terminal.read("warning")
    terminal.read("rate")
    before = len(terminal.data)
    terminal.resize(44)
    terminal.read("warning", before)
    frames = terminal.data.decode().split("\x1b[H")
    assert fits(shown(frames[-1], 44), 44)
    terminal.type(CTRL_C)
    assert terminal.wait() == 130
    assert shown_last(terminal).startswith("connected  work")


def test_a_stopped_process_is_said_to_be_stopped(shell: Shell) -> None:
    process = shell.connected("work")
    process.send_signal(signal.SIGSTOP)
    try:
        text = shell.run("status").stdout
        assert text.splitlines() == [
            "unresponsive  work",
            f"  error      its process is stopped; `kill -CONT {process.pid}` lets it go on",
        ]
        [entry] = json.loads(shell.run("status", "--json").stdout)["tunnels"]
        lists = {key: example()[key] for key in ("children", "gateway", "local")}
        assert keys({**entry, **lists}) == keys(example()), "every key is there"
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_typed_password_that_is_refused_is_asked_for_once_more(shell: Shell, screen: Opened) -> None:
    """Never a third time: gateways lock accounts."""
    path = shell.home / "config/ikeclient/profiles/work.toml"
    path.write_text(path.read_text().replace('psk = { file = "psk" }', "psk = { prompt = true }"))
    terminal = screen("up", "work", mode="refused")
    terminal.read(": ")
    terminal.type("first-password\r")
    terminal.read("check the password")
    terminal.read("alice: ", terminal.data.index(b"check the password"))
    terminal.type("second-password\r")
    assert terminal.wait() == 4
    text = terminal.text()
    assert text.count("alice:") == 2
    assert text.count("error: the gateway refused us") == 2
    assert "first-password" not in text
    assert "second-password" not in text
