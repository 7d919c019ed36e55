"""A tunnel that loses a part of itself, or has too little of something: it ends, and says what is left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4
from lab.servers import DOMAIN
from lab.traffic import ping
from lab.world import Lab

GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,))
SOON = 15.0


def helper_of(pid: int) -> int:
    [helper] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(helper)


def told_of_a_rekey(lab: Lab, events: Path) -> bool:
    """Whether whoever writes down the events is told of them by now."""
    lab.gateway.rekey(child="net")
    return b"rekeyed" in events.read_bytes()


@pytest.mark.parametrize("when", ["connected", "reconnecting"])
def test_a_tunnel_whose_helper_is_killed_ends_and_tells_what_is_left(lab: Lab, when: str) -> None:
    """O21: at once, with 12, the gateway told and routes and rules undone; only files are left, for the next start."""
    lab.prepare(GRANT)
    before = lab.client.traces()
    events = lab.client.directory / "events"
    connection = lab.client.connect()
    with events.open("wb") as output:
        watching = lab.network.client.start("ikeclient", "events", "--json", stdout=output, env=lab.client.environment)
        wait_for(lambda: told_of_a_rekey(lab, events), timeout=20, interval=1.0, what="the events")
        if when == "reconnecting":
            lab.gateway.kill()
            lab.client.run("reconnect")
            lab.client.wait_state("reconnecting")
        os.kill(helper_of(connection.process.pid), signal.SIGKILL)
        assert connection.wait(SOON) == 12
        watching.wait(SOON)
    error = connection.stderr[connection.stderr.index("error:") :]
    assert "the tunnel's helper process is gone" in error
    assert "/etc/resolv.conf" in error
    assert "/run/ikeclient/work.undo.json" in error
    assert "`ikeclient repair`" in error
    assert len(error.strip().splitlines()) <= 3
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert told[-1]["event"] == "error"
    assert told[-1]["exit_code"] == 12
    assert "disconnected" not in [event["event"] for event in told]
    left = lab.client.traces()
    assert {name for name in before if left[name] != before[name]} == {"resolver"}
    for command in (("disconnect", "--all"), ("disconnect",), ("disconnect", "work"), ("wait", "--for", "down")):
        ended = lab.client.run(*command)
        assert ended.returncode == 12, command
        assert "/etc/resolv.conf" in ended.stderr
        assert "`ikeclient repair`" in ended.stderr
    if when == "connected":
        assert lab.gateway.list_sas() == []
    else:
        lab.gateway.serve(GRANT)
    again = lab.client.connect()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert again.terminate() == 0
    assert lab.client.traces() == before


def works(lab: Lab, connection: Connection) -> bool:
    """Wait for a tunnel, which carries packets, or for an error that is not taken for a bug of ours."""
    wait_for(
        lambda: connection.process.poll() is not None or "connected in" in connection.stderr,
        timeout=60,
        what="an end or a tunnel",
    )
    if connection.process.poll() is None:
        assert ping(lab.network.client, INSIDE_IPV4) == 3
        assert connection.terminate() == 0
        return True
    assert connection.wait() == 12, connection.stderr
    assert "bug" not in connection.stderr
    return False


@pytest.mark.parametrize("mebibytes", [60, 80, 100, 105, 120])
def test_too_little_memory_is_an_error_that_says_so(lab: Lab, mebibytes: int) -> None:
    """O13: or enough, and then everything works; nothing hangs, and nothing is left."""
    lab.prepare(GRANT)
    before = lab.client.traces()
    limit = ("prlimit", f"--as={mebibytes << 20}")
    connection = lab.client.start("work", "--timeout", "30", prefix=limit)
    if not works(lab, connection):
        assert "memory" in connection.stderr or "thread" in connection.stderr
    assert lab.client.traces() == before


@pytest.mark.parametrize("descriptors", [12, 20, 28, 36, 48])
def test_too_few_descriptors_are_an_error_that_says_so(lab: Lab, descriptors: int) -> None:
    """O13"""
    before = lab.client.traces()
    connection = lab.start(GRANT, "--timeout", "30", prefix=("prlimit", f"--nofile={descriptors}"))
    works(lab, connection)
    assert lab.client.traces() == before


def test_a_full_disk_below_its_words_does_not_end_a_tunnel(lab: Lab) -> None:
    """O12: neither on standard error, nor on standard output with --dry-run, which is then an error of that disk."""
    lab.prepare()
    machine = lab.network.client
    machine.start("sh", "-c", "exec ikeclient connect work -vvv >/dev/full 2>/dev/full", env=lab.client.environment)
    lab.client.wait_state("connected", timeout=15)
    lab.gateway.rekey(child="net")
    assert ping(machine, INSIDE_IPV4) == 3
    assert lab.client.disconnect("work").returncode == 0
    planned = machine.run(
        "sh", "-c", "exec ikeclient connect work --dry-run >/dev/full", check=False, env=lab.client.environment
    )
    assert planned.returncode == 12
    assert "cannot write to standard output" in planned.stderr
    assert "bug" not in planned.stderr


def test_a_disconnect_that_cannot_undo_everything_says_so_and_repair_does_the_rest(lab: Lab) -> None:
    """O21, O12: both processes exit with 12, and nobody is told `disconnected`."""
    lab.prepare(GRANT)
    machine = lab.network.client
    before = lab.client.traces()
    connection = lab.client.connect()
    machine.run("sh", "-ec", "mount --bind /etc /etc; mount -o remount,ro,bind /etc")
    ended = lab.client.run("disconnect", "work")
    assert ended.returncode == 12
    assert "/etc/resolv.conf" in ended.stderr
    assert "work disconnected" not in ended.stderr
    assert connection.wait(SOON) == 12
    assert "this machine is not as it was" in connection.stderr
    status = lab.client.run("status")
    assert status.stdout == "disconnected  no tunnel is running\n"
    assert "tunnel 'work' has ended, but this machine is not as it was: a change is still to be undone" in status.stderr
    assert lab.gateway.list_sas() == []
    machine.run("umount", "/etc")
    assert lab.client.run("repair").returncode == 0
    assert lab.client.traces() == before
    assert lab.client.run("status").stderr == ""
    assert lab.client.run("disconnect", "--all").returncode == 0


def test_what_a_tunnel_undid_without_its_helper_counts_as_undone(lab: Lab) -> None:
    """O21: the journal still names it, but `disconnect` looks at the machine."""
    before = lab.client.traces()
    connection = lab.connected()
    os.kill(helper_of(connection.process.pid), signal.SIGKILL)
    assert connection.wait(SOON) == 12
    assert lab.client.traces() == before
    ended = lab.client.run("disconnect", "--all")
    assert ended.returncode == 0, ended.stderr
    assert lab.client.run("repair").returncode == 0
    assert set(lab.network.client.run("ls", "/run/ikeclient").stdout.split()) <= {"work.sock", "work.log"}
