"""`exec` on a terminal: Ctrl-C, Ctrl-Z and the foreground are the command's, as if it had been started directly."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest
from lab.gateway import PSK
from lab.machines import LabError, wait_for
from lab.network import INSIDE_IPV4
from lab.person import Person
from lab.world import Lab

PROMPT = "lab-prompt> "


class Terminal:
    """An interactive shell of the person on a terminal of its own."""

    def __init__(self, person: Person) -> None:
        self._master, slave = pty.openpty()
        shell = ("setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "-i")
        environment = {**person.environment, "PS1": PROMPT, "TERM": "dumb"}
        command = (*person.ordinary, *shell)
        self._process = person.machine.start(*command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self.text = ""
        self.expect(re.escape(PROMPT))

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def expect(self, pattern: str, timeout: float = 30.0) -> str:
        """Read on until `pattern` was said, and return everything up to it."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise LabError(f"waited {timeout} s in vain for {pattern!r} after {self.text!r}")
            self.text += os.read(self._master, 65536).decode("utf-8", "replace").replace("\r", "")
        said, self.text = self.text[: found.end()], self.text[found.end() :]
        return said

    def close(self) -> None:
        """Hang up."""
        os.close(self._master)
        self._process.wait(20)


@pytest.fixture
def person(lab: Lab) -> Person:
    lab.gateway.serve()
    return Person(lab)


@pytest.fixture
def terminal(person: Person) -> Iterator[Terminal]:
    opened = Terminal(person)
    yield opened
    opened.close()


def in_foreground(person: Person, command: str) -> bool:
    """Whether `command` runs in the job that has its terminal.

    bash shows the command before it hands the terminal over, and a Ctrl-C in between reaches bash alone, which ignores
    it until the job ends.
    """
    shown = person.machine.run("ps", "-o", "stat=,args=", "-u", "1000").stdout
    return any(re.fullmatch(rf"[^T]\S*\+\s+{re.escape(command)}", line) for line in shown.splitlines())


COUNTING = "trap 'n=$((n+1)); echo interrupted $n' INT; trap 'exit 9' TERM; echo begun; while :; do sleep 0.1; done"


def test_a_command_is_interrupted_once_and_its_status_is_the_jobs(lab: Lab, person: Person, terminal: Terminal) -> None:
    """What is shown before the command begins is the progress; Ctrl-C ends neither tunnel nor command by itself."""
    terminal.type(f'{person.program} exec work -- sh -c "{COUNTING.replace("$", chr(92) + "$")}"\n')
    assert "connected in" in terminal.expect("\nbegun\n")
    terminal.type("\x03")
    terminal.expect("interrupted 1\n")
    terminal.type("\x03")
    assert "interrupted 3" not in terminal.expect("interrupted 2\n")
    status = person.status()
    assert status is not None
    assert status["state"] == "connected"
    terminal.type("\x1c")  # Ctrl-\ is not caught
    terminal.expect(re.escape(PROMPT))
    terminal.type("echo status $?\n")
    terminal.expect("\nstatus 131\n")
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=20, what="the DELETE")


def test_a_command_is_stopped_and_goes_on_with_its_tunnel(person: Person, terminal: Terminal) -> None:
    terminal.type(f"{person.program} exec work -- sh -c 'echo begun; cat; curl -sS http://{INSIDE_IPV4}/peer'\n")
    terminal.expect("\nbegun\n")
    terminal.type("\x1a")
    terminal.expect(r"Stopped.*\n")
    status = person.status()
    assert status is not None
    assert status["state"] == "connected"
    terminal.type("fg\n")
    terminal.expect(r"fg\n.*exec work.*\n")
    terminal.type("words\n")
    terminal.expect("words\nwords\n")
    terminal.type("\x04")
    terminal.expect(r"10\.88\.0\.1")
    terminal.expect(re.escape(PROMPT))


def test_a_shell_inside_has_job_control_and_the_terminal_returns(person: Person, terminal: Terminal) -> None:
    terminal.type(f"{person.program} exec work -- bash --norc --noprofile -i\n")
    terminal.expect("connected in")
    terminal.expect(re.escape(PROMPT))
    terminal.type("sleep 600\n")
    terminal.expect("sleep 600\n")
    wait_for(lambda: in_foreground(person, "sleep 600"), timeout=10, what="sleep")
    terminal.type("\x1a")
    terminal.expect(r"Stopped +sleep 600\n")
    terminal.type("fg\n")
    terminal.expect("fg\nsleep 600\n")
    wait_for(lambda: in_foreground(person, "sleep 600"), timeout=10, what="sleep")
    terminal.type("\x03")
    terminal.expect(re.escape(PROMPT))
    terminal.type("exit 4\n")
    terminal.expect("exit 4\n")
    terminal.expect(re.escape(PROMPT), timeout=20)
    terminal.type("echo status $?\n")
    terminal.expect("\nstatus 4\n")
    assert person.status() is None


def test_ctrl_c_while_connecting_ends_everything(lab: Lab, person: Person, terminal: Terminal) -> None:
    lab.gateway.kill()
    terminal.type(f"{person.program} exec work -- echo ran\n")
    terminal.expect("negotiating")
    terminal.type("\x03")
    assert "\nran\n" not in terminal.expect(re.escape(PROMPT))
    terminal.type("echo status $?\n")
    terminal.expect("\nstatus 130\n")
    wait_for(lambda: person.status() is None, timeout=10, what="the end of the tunnel")


@pytest.mark.parametrize("command", ["exec work -- echo it-runs", "proxy work --socks 127.0.0.1:1081"])
def test_a_mistyped_key_is_asked_for_once_more_and_never_again(
    lab: Lab, person: Person, terminal: Terminal, command: str
) -> None:
    """L10: the second time in the same namespace; a third one might lock an account."""
    person.write_profile({"auth": {"psk": {"prompt": True}}})
    for second in ("wrong again, and long enough", PSK):
        terminal.type(f"{person.program} {command}\n")
        terminal.expect("Pre-shared key for [^:]*: ")
        terminal.type("wrong, and long enough\n")
        terminal.expect("error: [^\n]*(?:\n.*)*Pre-shared key for [^:]*: ")
        terminal.type(f"{second}\n")
        if second != PSK:
            assert "Pre-shared" not in terminal.expect(rf"error: (?s:.*){re.escape(PROMPT)}")
    if command.startswith("exec"):
        terminal.expect("it-runs\n")
    else:
        terminal.expect("SOCKS5 127.0.0.1:1081")
        terminal.type("\x03")
        terminal.expect("disconnected")
    terminal.expect(re.escape(PROMPT))
    wait_for(lambda: not lab.gateway.list_sas(), timeout=20, what="the gateway to have heard the end")
