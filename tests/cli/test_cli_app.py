"""The command as a whole: exit codes, the form of errors, and how it ends when it is cut short."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_fake_tunnel import CANARY
from typer.testing import CliRunner

import ikeclient
from ikeclient import errors
from ikeclient.cli.app import app, main
from ikeclient.control import client

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


@pytest.mark.parametrize(
    "kind",
    [
        *(errors.UsageError, errors.NotConnected, errors.AuthenticationFailed, errors.NoResponse),
        *(errors.NegotiationRefused, errors.GatewayNotAuthenticated, errors.NoSuchTunnel, errors.ProfileError),
        *(errors.ProfileNotFound, errors.PrivilegeError, errors.PlatformError, errors.Interrupted),
    ],
)
def test_every_error_becomes_its_exit_code_and_three_lines(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[errors.IkeclientError]
) -> None:
    def fail(*_: object) -> list[str]:
        raise kind("what failed", reason="why", hint="what to try")

    monkeypatch.setattr(client, "survey", fail)
    assert main(["status"]) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.err == "error: what failed\n  why\n  what to try\n"
    assert captured.out == ""


def test_the_published_exit_codes_are_those_of_the_errors() -> None:
    published = {2: "UsageError", 3: "NotConnected", 4: "AuthenticationFailed", 5: "NoResponse"}
    published |= {6: "NegotiationRefused", 7: "GatewayNotAuthenticated", 8: "NoSuchTunnel", 9: "ProfileError"}
    published |= {10: "ProfileNotFound", 11: "PrivilegeError", 12: "PlatformError", 130: "Interrupted"}
    assert {code: getattr(errors, name).exit_code for code, name in published.items()} == {
        code: code for code in published
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stat"], "no such command 'stat'"),
        (["status", "--chek", "up"], "no such option: --chek"),
        (["status", "--check", "down"], "invalid value for '--check': 'down' is not"),
        (["status", "--json", "-f", "name"], "say --json or --fields, not both"),
        (["status", "--watch", "--check", "up"], "say --watch or --check, not both"),
        (["disconnect", "work", "--all"], "name one tunnel or say --all, not both"),
        (["connect"], "no PROFILE was given"),
        (["connect", "work", "--timeout", "0"], "invalid value for '--timeout'"),
        (["connect", "work", "--detach", "--dry-run"], "say --detach or --dry-run, not both"),
        (["connect", "work", "--password", "hunter2"], "no such option: --password"),
        (["profile", "nonsense"], "no such command 'nonsense'"),
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """F10 in passing: there is no option that takes a password."""
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {said}")
    assert len(lines) <= 3


def test_a_bug_is_one_sentence_and_a_private_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F12: a traceback never reaches the terminal by itself, and never quotes a value."""

    def broken(*_: object) -> list[str]:
        raise ValueError(CANARY)

    monkeypatch.setattr(client, "survey", broken)
    assert main(["status"]) == 1
    assert main(["--debug", "status"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: unexpected ValueError\n  this is a bug in ikeclient; the traceback is in /")
    assert "in broken" in captured.err
    assert CANARY not in captured.err + captured.out + (home / "run/crash.log").read_text()


def test_ctrl_c_is_130(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "survey", interrupted)
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize("arguments", [["--version"], ["version"]])
def test_the_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"ikeclient {ikeclient.__version__}\n"


def test_the_version_as_json_names_every_dependency(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "ikeclient.version/1"
    assert document["version"] == ikeclient.__version__
    assert document["dependencies"]["cryptography"]


def test_no_command_is_status(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == "disconnected  no tunnel is running\n"


COMMANDS = (
    "connect",
    "exec",
    "proxy",
    "disconnect",
    "reconnect",
    "status",
    "events",
    "profile",
    "doctor",
    "version",
)


def test_the_commands_of_the_contract_are_all_there() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in COMMANDS:
        assert f"\n  {name} " in shown
    options = CliRunner().invoke(app, ["connect", "--help"]).output
    for name in ("--detach", "--timeout", "--dry-run", "--set", "--password-stdin", "--insecure-keylog", "-v"):
        assert name in options


def test_every_help_fits_80_columns() -> None:
    below = ("profile list", "profile show", "profile validate", "profile new")
    for command in ("", *COMMANDS, *below):
        shown = CliRunner().invoke(app, [*command.split(), "--help"])
        assert shown.exit_code == 0
        assert max(map(len, shown.output.splitlines())) <= 80, command


def test_a_closed_pipe_ends_the_command_quietly(shell: Shell) -> None:
    """O4: a reader that leaves is no error."""
    process = shell.start("version", "--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_stdout_that_is_not_there_is_no_error(shell: Shell) -> None:
    command = 'exec "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", command, "sh", *shell.command("status")], env=shell.environment, capture_output=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_signal_during_a_long_command_is_130_without_a_traceback(shell: Shell) -> None:
    """O4: Ctrl-C in `status --watch`."""
    process = shell.start("status", "--watch")
    assert process.stdout is not None
    assert process.stdout.readline() == "disconnected  no tunnel is running\n"
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert shown == ""


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colour_unless_it_does_not_want_it(
    shell: Shell, environment: dict[str, str], coloured: bool
) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        shell.command("status"),
        env=shell.environment | {"TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:  # how a pseudo-terminal ends
        pass
    assert process.wait(30) == 0
    os.close(master)
    assert b"no tunnel is running" in shown
    assert (b"\x1b[" in shown) is coloured


def test_the_module_runs_as_the_command(shell: Shell) -> None:
    assert shell.run("--version").stdout == f"ikeclient {ikeclient.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "nope", "--log-format", "json"],
        ["status", "--log-format=json", "nope"],
        ["--log-format", "json", "disconnect", "nope"],
        ["disconnect", "nope", "--log-format", "json"],
        ["profile", "show", "nope", "--log-format", "json"],
        ["probe", "--log-format", "json", "not a host"],
    ],
)
def test_the_log_format_may_stand_before_and_behind_every_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) != 0
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "error"


def test_a_log_format_that_is_none_is_said_with_the_commands_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--log-format", "xml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: invalid value: --log-format is text or json, not 'xml'",
        "  try: ikeclient status --help",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["completion"], "missing argument 'bash|zsh|fish'. Choose from: bash, zsh, fish"),
        (["top", "--interval", "0"], "invalid value for '--interval': '0' is not from 0.1s to 1h"),
    ],
)
def test_choices_and_limits_are_told_as_they_are(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {said}"


@pytest.mark.parametrize(
    "arguments", [["status"], ["wait", "--timeout", "0.1s", "work"], ["-v", "disconnect", "--all"]]
)
def test_a_usual_command_line_loads_no_library_for_its_values(arguments: list[str], tmp_path: Path) -> None:
    """Newer versions of typer load pydantic for each value: a tenth of a second for each command."""
    program = (
        "import sys\n"
        "from ikeclient.cli.app import main\n"
        f"main({arguments!r})\n"
        "print([name for name in sys.modules if name.startswith('pydantic')])\n"
    )
    environment = {"HOME": str(tmp_path), "IKECLIENT_RUNTIME_DIR": str(tmp_path / "run"), "PATH": "/usr/bin:/bin"}
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    assert shown.stdout.splitlines()[-1] == "[]", shown.stderr


def test_a_command_loads_no_other_command() -> None:
    """Each process of a tunnel would keep them in memory."""
    program = (
        "import sys\n"
        "from ikeclient.cli.app import _COMMANDS, main\n"
        "main(['connect', '--help'])\n"
        "modules = {module for module, _, _ in _COMMANDS.values()}\n"
        "print(sorted(module for module in modules if f'ikeclient.cli.{module}' in sys.modules))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout.splitlines()[-1] == "['completion', 'connect']"


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_while_modules_are_loaded_ends_it_without_a_word(ignored: bool) -> None:
    """Unless it is ignored, as in the background of a shell."""
    program = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGINT, signal.SIG_IGN if {ignored} else signal.default_int_handler)\n"
        "class Interrupting:\n"
        "    @staticmethod\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "from ikeclient.__main__ import main\n"
        "sys.argv = ['ikeclient', 'version']\n"
        "code = main()\n"
        "assert (signal.getsignal(signal.SIGINT) is signal.SIG_IGN) is "
        f"{ignored}\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0 if ignored else -signal.SIGINT, "")
