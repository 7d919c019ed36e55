"""What a running tunnel may do: its identity and capabilities, as the kernel tells them, and that they are enough."""

from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

import pytest
from lab.client import core_limit_of
from lab.container import NET_ADMIN, NOTHING
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4
from lab.seccomp import refused
from lab.servers import DOMAIN
from lab.traffic import carries
from lab.world import Lab
from process_status import status_of

GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,))

# Loaded by every interpreter of the test: writes down each module that is looked for after rights were given up.
WATCH = """
import os, sys
_out = os.open(os.environ["IMPORTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
def _hook(event, arguments):
    if event == "import" and os.geteuid() != 0:
        os.write(_out, f"{arguments[0]}\\n".encode())
sys.addaudithook(_hook)
"""


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def assert_least_rights(pid: int) -> None:
    """User, capabilities, no_new_privs and the rest of every thread of a tunnel that root started."""
    nobody = pwd.getpwnam("nobody")
    for thread in os.listdir(f"/proc/{pid}/task"):
        status = status_of(f"{pid}/task/{thread}")
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"] == ""
        assert (status["CapPrm"], status["CapEff"]) == (NET_ADMIN, NET_ADMIN)
        assert (status["CapInh"], status["CapBnd"], status["CapAmb"]) == (NOTHING,) * 3
        assert status["NoNewPrivs"] == "1"
    assert core_limit_of(pid).split()[-3:-1] == ["0", "0"]
    assert Path(f"/proc/{pid}/environ").stat().st_uid == 0, "not dumpable: the kernel gives its files to root"


@pytest.mark.parametrize("detached", [False, True])
def test_a_tunnel_of_roots_keeps_one_capability_and_still_does_everything(lab: Lab, detached: bool) -> None:
    """O17: from the first packet on it is nobody; it moves, reconnects, changes DNS and cleans up all the same."""
    machine = lab.network.client
    lab.network.add_second_path()
    lab.prepare(GRANT)
    before = lab.client.traces()
    if detached:
        assert lab.client.run("connect", "--detach", "work").returncode == 0
    else:
        lab.client.connect()
    status = lab.status()
    assert_least_rights(status["pid"])
    [helper] = children_of(status["pid"])
    assert status_of(helper)["Uid"].split() == ["0"] * 4
    assert INSIDE_DNS in machine.read_file("/etc/resolv.conf")

    lab.network.use_second_path()
    wait_for(lambda: lab.status()["roams"] == 1, timeout=15, what="the move")
    carries(machine, INSIDE_IPV4)
    assert lab.client.run("reconnect").returncode == 0
    wait_for(lambda: lab.status()["reconnects"] == 1, timeout=15, what="the reconnection")
    carries(machine, INSIDE_IPV4)
    assert_least_rights(status["pid"])
    lab.network.use_first_path()
    wait_for(lambda: lab.status()["roams"] == 2, timeout=15, what="the way back")

    assert lab.client.disconnect().returncode == 0
    after = lab.client.traces()
    for kind in ("rules", "rules6", "resolver"):  # a cable that was pulled lost its IPv6 addresses
        assert after[kind] == before[kind]
    assert not [line for lines in after.values() for line in lines if "ike0" in line or "unreachable" in line]
    assert machine.run("ls", "/run/ikeclient").stdout == ""
    assert not Path(f"/proc/{helper}").exists()
    assert lab.gateway.list_sas() == []


def test_nothing_is_loaded_from_files_after_rights_were_given_up(lab: Lab) -> None:
    """A library below root's home could not be read any more: the tunnel would break at the next rekey or move."""
    hook = lab.client.directory / "watch"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WATCH)
    imports = lab.client.directory / "imports"
    environment = lab.client.environment
    watched = {"PYTHONPATH": f"{hook}:{environment['PYTHONPATH']}", "IMPORTS": str(imports)}
    lab.network.add_second_path()
    lab.gateway.serve(GRANT)
    hooks = {"session": {"up": [["/bin/true"]], "down": [["/bin/true"]], "rekey_child": 10}}
    lab.client.write_profile(lab.gateway, {**hooks, "gateway": {"address": "gw.example.org"}})
    connection = lab.client.start(env=watched)
    connection.wait_connected()
    lab.network.use_second_path()
    wait_for(lambda: lab.status()["roams"] == 1, timeout=15, what="the move")
    lab.gateway.rekey(ike="rw")
    wait_for(lambda: lab.status()["ike"]["rekeys"] == 1, timeout=15, what="the rekey")
    assert lab.client.run("reconnect").returncode == 0
    wait_for(lambda: lab.status()["reconnects"] == 1, timeout=15, what="the reconnection")
    carries(lab.network.client, INSIDE_IPV4)
    assert connection.interrupt() == 130
    assert imports.read_text().split() == []


def test_a_killed_tunnel_takes_its_helper_with_it(lab: Lab) -> None:
    """O3"""
    connection = lab.connected()
    [helper] = children_of(connection.process.pid)
    connection.kill()
    wait_for(lambda: not Path(f"/proc/{helper}").exists(), timeout=10, what="the helper's end")


def test_hooks_have_the_rights_that_connect_was_started_with(lab: Lab) -> None:
    """F15: root's hooks are root's, and come from the profile alone."""
    seen = lab.client.directory / "seen"
    hook = lab.client.directory / "hook"
    hook.write_text(f'#!/bin/sh\ngrep -E "^(Uid|CapEff|NoNewPrivs)" /proc/self/status >{seen}.$IKECLIENT_REASON\n')
    hook.chmod(0o755)
    connection = lab.connected(session={"up": [[str(hook)]], "down": [[str(hook)]]})
    up = Path(f"{seen}.up")
    wait_for(lambda: up.exists() and "NoNewPrivs" in up.read_text(), timeout=10, what="the hook")
    assert connection.interrupt() == 130
    for reason in ("up", "down"):
        text = Path(f"{seen}.{reason}").read_text()
        assert text.split()[:2] == ["Uid:", "0"]
        assert "NoNewPrivs:\t0" in text


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("tunsetiff", "a seccomp filter or a security module forbids TUNSETIFF, although CAP_NET_ADMIN is there"),
        ("tunsetiff unknown", "a seccomp filter forbids the ioctl TUNSETIFF"),
    ],
)
def test_a_seccomp_filter_is_not_mistaken_for_a_missing_capability(lab: Lab, what: str, words: str) -> None:
    """O1"""
    connection = lab.start(prefix=refused(what))
    assert connection.wait() == 11
    assert words in connection.stderr
    assert "seccomp" in connection.stderr.splitlines()[-1]
    assert lab.gateway.list_sas() == []


def test_doctor_says_that_user_namespaces_are_refused(lab: Lab) -> None:
    """O1: where they are, only the device or the capability helps."""
    command = (*refused("unshare"), sys.executable, "-m", "ikeclient", "doctor", "--json")
    done = lab.network.client.run(*command, env=lab.client.environment)
    findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert not findings["user namespaces"]["ok"]
    assert "unshare" in findings["user namespaces"]["hint"]
    assert findings["allowed here"]["ok"], "root needs none"
