"""`connect` with the tunnel itself replaced: options, secrets, progress, exit codes, --detach."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_fake_tunnel import CANARY
from profile_world import CERTIFICATE, common_name, issue

from ikeclient.cli.app import main
from ikeclient.control import client

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported

STEPS = ["resolving vpn.example.com", "negotiating with 203.0.113.7", "authenticating"]
UP = "connected in 412 ms: 10.88.0.1/32 on ike0, gateway 203.0.113.7"
AT = "2026-11-23T08:00:00Z  "  # the time of every event of the tunnel; where nobody watches, lines have it
FAILURE = ["  AUTHENTICATION_FAILED", "  check the password"]
TIMED = [AT + line for line in STEPS]


@pytest.fixture
def seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `connect` hands to the tunnel, in this process; the tunnel ends at once."""
    from ikeclient.net.rights import privileges
    from ikeclient.process import log_file
    from ikeclient.process import run as supervisor

    seen: dict[str, Any] = {}

    def run(profile: Any, options: Any, on_event: Any, *_: Any) -> None:
        seen.update(profile=profile, options=options)

    monkeypatch.setattr(supervisor, "run", run)
    monkeypatch.setattr(privileges, "forbid_core_dumps", lambda: seen.update(protected=True))
    monkeypatch.setattr(log_file, "log_to", lambda line, verbosity, kept: seen.update(verbosity=verbosity))
    return seen


def test_the_tunnel_gets_the_profile_and_the_options(seen: dict[str, Any], home: Path) -> None:
    assert main(["connect", "work", "--timeout", "7.5", "--set", "network.routes=all", "-vv"]) == 0
    profile, options = seen["profile"], seen["options"]
    assert profile.name == options.name == "work"
    assert profile.gateways == ("vpn.example.com",)
    assert profile.network.routes == "all"
    assert profile.ike.auth.psk == b"correct horse battery staple"
    assert (options.timeout, options.keylog, options.verbosity) == (7.5, None, 2)
    assert options.runtime_directory == home / "run"
    assert seen["verbosity"] == 2


def test_the_process_is_protected_before_a_secret_is_read(seen: dict[str, Any], home: Path) -> None:
    """F12: the core limit is set even where reading the secret fails."""
    (home / "config/ikeclient/profiles/psk").unlink()
    assert main(["connect", "work"]) == 9
    assert seen == {"protected": True}


def test_v_counts_before_and_after_the_command(seen: dict[str, Any]) -> None:
    assert main(["-v", "connect", "work", "-vv"]) == 0
    assert seen["options"].verbosity == 3


def test_a_keylog_is_warned_about_and_its_path_is_absolute(
    seen: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """O17: keys go out only on request, and the request is answered with a warning."""
    monkeypatch.chdir(home)
    assert main(["connect", "work", "--insecure-keylog", "keys"]) == 0
    assert seen["options"].keylog == home / "keys"
    assert capsys.readouterr().err.partition("  ")[2].startswith("warning: the keys of this connection go to /")


def test_a_path_names_the_tunnel_after_the_file(seen: dict[str, Any], home: Path) -> None:
    assert main(["connect", str(home / "config/ikeclient/profiles/work.toml")]) == 0
    assert seen["options"].name == "work"


def test_a_password_on_standard_input_replaces_the_profiles(shell: Shell, home: Path) -> None:
    """F10: the ways in are standard input and files, not the command line."""
    (home / "config/ikeclient/profiles/psk").unlink()
    done = shell.run("connect", "work", "--password-stdin", mode="refused", stdin=f"{CANARY}\n")
    assert done.returncode == 4
    assert CANARY not in done.stdout + done.stderr


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_an_empty_standard_input_is_no_password(shell: Shell, stdin: str) -> None:
    """F13."""
    done = shell.run("connect", "work", "--password-stdin", mode="connected", stdin=stdin)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no password given\n")


def test_a_prompt_without_a_terminal_fails_at_once(shell: Shell, home: Path) -> None:
    """F13: a service without a terminal does not wait for one."""
    prompting(home)
    for stdin in (None, "typed by nobody\n"):
        done = shell.run("connect", "work", mode="connected", stdin=stdin)
        assert done.returncode == 2
        assert done.stderr.startswith("error: no PSK given\n") or "given\n" in done.stderr.splitlines(True)[0]


def prompting(home: Path) -> None:
    path = home / "config/ikeclient/profiles/work.toml"
    path.write_text(path.read_text().replace('psk = { file = "psk" }', "psk = { prompt = true }"))


def test_a_password_is_typed_without_echo(shell: Shell, home: Path) -> None:
    """F12: and neither shown nor put where `ps` could see it."""
    prompting(home)
    pid, master = pty.fork()
    if pid == 0:
        command = shell.command("connect", "work", mode="refused")
        os.execve(command[0], command, shell.environment | {"TERM": "xterm"})
    shown = read_until(master, b": ")
    words = Path(f"/proc/{pid}/cmdline").read_bytes()
    os.write(master, f"{CANARY}\n".encode())
    shown += read_until(master, None)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert b"alice" in shown
    assert CANARY.encode() not in shown + words


def test_a_passphrase_that_was_right_is_not_asked_for_with_a_mistyped_password(shell: Shell, home: Path) -> None:
    """F12: it is kept for the second try of the same start, and shows nowhere."""
    place = home / "config/ikeclient/profiles"
    authority = issue(common_name("CA"))
    alice = issue(common_name("alice"), authority)
    (place / "ca.pem").write_bytes(authority.pem())
    (place / "alice.pem").write_bytes(alice.pem())
    (place / "alice.key").touch(mode=0o600)
    (place / "alice.key").write_bytes(alice.key_pem(CANARY.encode()))
    second = '[second_auth]\nmethod = "eap-mschapv2"\nidentity = "alice"\npassword = { prompt = true }\n'
    (place / "work.toml").write_text(CERTIFICATE + second)
    pid, master = pty.fork()
    if pid == 0:
        command = shell.command("connect", "--detach", "work", mode="refused")
        os.execve(command[0], command, shell.environment | {"TERM": "xterm"})
    shown = b""
    passphrase, password = b"Passphrase for alice.key: ", b"Password for alice: "
    for question, answer in ((passphrase, CANARY), (password, "mistyped"), (password, "and again")):
        said = read_until(master, b": ")
        while b" for " not in said.rpartition(b"\n")[2]:
            said += read_until(master, b": ")
        assert said.endswith(question), said
        shown += said
        os.write(master, f"{answer}\n".encode())
    shown += read_until(master, None)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    assert shown.count(b"AUTHENTICATION_FAILED") == 2
    assert shown.count(passphrase) == 1
    assert CANARY.encode() not in shown
    left = [path for path in home.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert left == []


def read_until(master: int, mark: bytes | None) -> bytes:
    data = b""
    try:
        while mark is None or mark not in data:
            piece = os.read(master, 4096)
            if not piece:
                break
            data += piece
    except OSError:  # how a pseudo-terminal ends
        pass
    return data


def test_a_profile_that_is_not_there_is_10(shell: Shell) -> None:
    done = shell.run("connect", "wrok", mode="connected")
    assert done.returncode == 10
    assert "work" in done.stderr


def test_an_invalid_profile_is_9_and_names_line_and_key(shell: Shell, home: Path) -> None:
    path = home / "config/ikeclient/profiles/work.toml"
    path.write_text(path.read_text().replace("identity", "identitty"))
    done = shell.run("connect", "work", mode="connected")
    assert done.returncode == 9
    assert re.match(r"error: .*work\.toml:\d+: key 'auth\.identitty'", done.stderr)
    assert len(done.stderr.splitlines()) <= 3


def test_a_dry_run_prints_commands_on_stdout_and_the_rest_on_stderr(shell: Shell) -> None:
    done = shell.run("connect", "work", "--dry-run", mode="connected")
    assert done.returncode == 0
    assert done.stdout == "ip address add 10.88.0.1/32 dev ike0\nip rule add not fwmark 1 table 7000\n"
    assert done.stderr.endswith("Z  resolving vpn.example.com\n")


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_failure_has_its_exit_code_and_words_in_both_forms(shell: Shell, detach: list[str]) -> None:
    done = shell.run("connect", "work", *detach, mode="refused")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [*TIMED, "error: the gateway refused us", *FAILURE]
    assert done.stdout == ""


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_bug_in_the_tunnel_is_1_and_tells_no_secret(shell: Shell, detach: list[str]) -> None:
    """F12."""
    done = shell.run("-vvv", "connect", "work", *detach, mode="bug")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2] == "error: unexpected ValueError"
    files = "".join(path.read_text() for path in shell.runtime.glob("*.log"))
    assert "builtins.ValueError" in files
    assert CANARY not in done.stderr + done.stdout + files


def test_the_steps_may_be_json_lines(shell: Shell) -> None:
    done = shell.run("connect", "work", "--log-format", "json", mode="refused")
    events = [json.loads(line) for line in done.stderr.splitlines()[:3]]
    assert [event["event"] for event in events] == ["resolving", "negotiating", "authenticating"]


def test_everything_on_stderr_is_text_unless_it_shall_be_json(shell: Shell) -> None:
    """Where nobody watches, lines have their time; JSON is for errors, notices and what is said in passing too."""
    for variable in ("", "auto", "text"):
        text = shell.run("connect", "work", mode="refused", IKECLIENT_LOG_FORMAT=variable)
        assert text.stderr.splitlines() == [*TIMED, "error: the gateway refused us", *FAILURE]
    text = shell.run("connect", "nowhere", "--log-format", "text", IKECLIENT_LOG_FORMAT="json")
    assert text.stderr.startswith("error: there is no profile")
    done = shell.run("connect", "work", "-vv", mode="refused", IKECLIENT_LOG_FORMAT="json")
    *events, error = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(event["time"] for event in events)
    assert [event["event"] for event in events] == ["resolving", "negotiating", "authenticating"]
    assert error.pop("time")
    expected = {"message": "the gateway refused us", "reason": "AUTHENTICATION_FAILED", "hint": "check the password"}
    assert error == {"event": "error", **expected, "exit_code": 4}
    detached = shell.run("--log-format", "json", "connect", "work", "--detach", mode="connected")
    assert json.loads(detached.stderr.splitlines()[-1])["event"] == "connected"
    [ended] = [json.loads(line) for line in shell.run("--log-format=json", "down").stderr.splitlines()]
    assert (ended["event"], ended["text"]) == ("notice", "work disconnected")
    for arguments in (["connect", "nowhere", "--log-format=json"], ["--log-format=json", "connect", "nowhere"]):
        [error] = [json.loads(line) for line in shell.run(*arguments).stderr.splitlines()]
        assert (error["event"], error["exit_code"]) == ("error", 10)
    [error] = [json.loads(line) for line in shell.run("status", "x", IKECLIENT_LOG_FORMAT="json").stderr.splitlines()]
    assert error["exit_code"] == 8
    wrong = shell.run("connect", "work", IKECLIENT_LOG_FORMAT="xml")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "error: IKECLIENT_LOG_FORMAT must be one of auto, text, json, not xml\n",
    )


def test_lines_to_the_journal_have_a_priority_and_no_time(shell: Shell, home: Path) -> None:
    """Only if standard error is the stream that JOURNAL_STREAM names."""
    path = home / "journal"
    for inode, marks in ((0, [TIMED[0]]), (None, [f"<6>{STEPS[0]}"])):
        with path.open("w") as stream:
            status = os.fstat(stream.fileno())
            environment = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino if inode is None else inode}"}
            subprocess.run(
                shell.command("connect", "work", mode="refused"),
                env=shell.environment | environment,
                stdin=subprocess.DEVNULL,
                stderr=stream,
                check=False,
            )
        assert path.read_text().splitlines()[:1] == marks
    assert path.read_text().splitlines()[-3:] == ["<3>error: the gateway refused us", *(f"<3>{x}" for x in FAILURE)]


def test_on_a_terminal_the_log_is_text() -> None:
    master, terminal = os.openpty()
    program = "from ikeclient.cli.view.progress import chosen_format; print(chosen_format(None))"
    try:
        done = subprocess.run([sys.executable, "-c", program], stderr=terminal, stdout=subprocess.PIPE, check=True)
    finally:
        os.close(master)
        os.close(terminal)
    assert done.stdout == b"text\n"


def test_ctrl_c_in_the_foreground_is_130_after_the_tunnel_ended(shell: Shell) -> None:
    """O4."""
    process = shell.connected("work")
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert shown.splitlines() == [*TIMED, AT + UP, AT + "disconnected"]


def test_sigterm_in_the_foreground_is_a_clean_end(shell: Shell) -> None:
    """O4."""
    process = shell.connected("work")
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_log_pipe_that_closes_does_not_end_the_tunnel(shell: Shell) -> None:
    """O12."""
    process = shell.connected("work")
    process.stderr.close()
    for _ in range(3):
        assert shell.run("reconnect").returncode == 0
    assert shell.run("status", "--check", "up").returncode == 0
    assert shell.run("disconnect").returncode == 0
    assert process.wait(30) == 0


def test_a_second_connect_is_refused_before_anybody_is_asked_for_a_password(shell: Shell, home: Path) -> None:
    """F16."""
    process = shell.connected("work")
    prompting(home)
    done = shell.run("connect", "work", mode="connected")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: tunnel 'work' is already running (pid {process.pid})\n")


# --detach


def detached_pid(shell: Shell) -> int:
    pid = client.running_pid("work", shell.runtime)
    assert pid
    return pid


def test_detached_means_up_and_running_on(shell: Shell) -> None:
    done = shell.run("connect", "--detach", "work", mode="connected")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [*TIMED, AT + UP]
    pid = detached_pid(shell)
    assert os.getsid(pid) == pid
    assert shell.run("status", "--check", "up").returncode == 0
    log = shell.runtime / "work.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert UP in log.read_text()
    assert shell.run("disconnect").returncode == 0
    assert not log.exists()
    assert not (shell.runtime / "work.sock").exists()


def test_a_detached_tunnel_holds_nothing_of_the_shell(shell: Shell, tmp_path: Path) -> None:
    """The command's pipes reach their end, and no descriptor of the caller stays open."""
    with (tmp_path / "inherited").open("w") as file:
        done = subprocess.run(
            shell.command("connect", "--detach", "work", mode="connected"),
            env=shell.environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            pass_fds=[file.fileno()],
            timeout=60,
        )
    assert done.returncode == 0
    targets = {os.readlink(path) for path in Path(f"/proc/{detached_pid(shell)}/fd").iterdir()}
    assert str(tmp_path / "inherited") not in targets
    kinds = {target.split(":")[0] for target in targets} - {str(shell.runtime / "work.log")}
    assert kinds <= {"/dev/null", "pipe", "socket", "anon_inode"}


def test_detaching_works_with_standard_files_closed(shell: Shell) -> None:
    command = shell.command("connect", "--detach", "work", mode="connected")
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], env=shell.environment, timeout=60)
    assert done.returncode == 0
    assert shell.run("status", "--check", "up").returncode == 0


def test_a_detached_tunnel_keeps_secrets_off_argv(shell: Shell, home: Path) -> None:
    """F10, F12: a password that was read before the fork is in no command line and no environment."""
    done = shell.run("connect", "--detach", "work", "--password-stdin", mode="connected", stdin=f"{CANARY}\n")
    assert done.returncode == 0
    pid = detached_pid(shell)
    for name in ("cmdline", "environ"):
        assert CANARY.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert "Max core file size        0                    0" in Path(f"/proc/{pid}/limits").read_text()
    assert CANARY not in (shell.runtime / "work.log").read_text()


def test_a_detached_tunnel_that_is_killed_while_connecting_is_said_as_such(shell: Shell) -> None:
    done = shell.run("connect", "--detach", "work", mode="killed")
    assert done.returncode == 12
    assert done.stderr.splitlines()[-2:] == ["error: the tunnel's process is gone", "  it was ended by SIGKILL"]


def test_ctrl_c_while_detaching_stops_the_tunnel_too(shell: Shell) -> None:
    """O4."""
    process = shell.start("connect", "--detach", "work", mode="waiting")
    assert process.stderr is not None
    for _ in TIMED:
        process.stderr.readline()  # what the tunnel told the command
    child = detached_pid(shell)
    assert child != process.pid
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "error: interrupted" in shown
    assert not Path(f"/proc/{child}").exists()


def test_a_tunnel_told_to_end_before_it_was_up_is_130(shell: Shell) -> None:
    process = shell.start("connect", "--detach", "work", mode="waiting")
    shell.until(lambda: client.running_pid("work", shell.runtime) is not None)
    assert shell.run("disconnect").returncode == 0
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130
    assert shown.splitlines()[-1] == "error: the tunnel was told to end"


def test_a_bug_later_on_is_in_the_log_of_the_detached_tunnel(shell: Shell) -> None:
    """F12: without the message of the exception."""
    assert shell.run("connect", "--detach", "work", mode="late-bug").returncode == 0
    log = shell.runtime / "work.log"
    shell.until(lambda: "error: unexpected ValueError" in log.read_text())
    assert "builtins.ValueError" in log.read_text()
    assert CANARY not in log.read_text()
    shell.until(lambda: not client.list_tunnels(shell.runtime))


@pytest.mark.parametrize(("mode", "code"), [("noisy", 0), ("noisy-refused", 4)])
def test_a_command_that_does_not_read_neither_stops_the_tunnel_nor_misses_its_fate(
    shell: Shell, mode: str, code: int
) -> None:
    """O12: the pipe is full when the decisive message comes; and the log of all that noise stays below its cap."""
    process = shell.start("connect", "--detach", "work", mode=mode)
    shell.until(lambda: "authenticating" in log_of(shell))
    process.send_signal(signal.SIGSTOP)
    shell.until(lambda: "connected in" in log_of(shell) or "error: " in log_of(shell))
    assert "the log was full" in log_of(shell)
    assert (shell.runtime / "work.log").stat().st_size <= 1024 * 1024
    process.send_signal(signal.SIGCONT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == code, shown
    assert "line 11999" not in shown
    assert shell.run("status", "--check", "up").returncode == (0 if code == 0 else 3)


def log_of(shell: Shell) -> str:
    path = shell.runtime / "work.log"
    return path.read_text() if path.exists() else ""


def test_without_a_place_for_the_log_nothing_is_started(shell: Shell) -> None:
    """O12: a read-only runtime directory is one clear error."""
    done = shell.run("connect", "--detach", "work", mode="connected", IKECLIENT_RUNTIME_DIR="/proc/nowhere")
    assert done.returncode == 12
    assert done.stderr.startswith("error: cannot make /proc/nowhere\n")


def test_connect_needs_no_rich_and_starts_no_thread() -> None:
    program = "import sys, ikeclient.cli.connect, ikeclient.cli.view.progress; print('rich' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
