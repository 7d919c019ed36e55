"""What a start does to tunnels that live, and what it makes of those that died without a trace."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INTERNET_IPV4
from lab.servers import DOMAIN
from lab.traffic import carries, peer_address
from lab.world import Lab

FULL = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"), dns=(INSIDE_DNS,), domains=(DOMAIN,), unique="never")
ELSEWHERE = {
    "PID namespace": ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    "network namespace": ("unshare", "--net"),
    "PID and network namespace": ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--net"),
}


def _full(lab: Lab) -> Connection:
    lab.prepare(FULL, network={"routes": "all"})
    lab.client.write_profile(lab.gateway, {"network": {"routes": ["10.99.0.0/24"], "dns": "none"}}, name="split")
    lab.client.write_profile(lab.gateway, {"gateway": {"address": "10.1.0.99"}}, name="failing")
    return lab.client.connect()


@pytest.mark.parametrize("prefix", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_start_elsewhere_takes_nothing_from_a_living_tunnel(lab: Lab, prefix: Sequence[str]) -> None:
    """O19: one that fails, one that is killed, one of the same name; with the same directory and the same /etc."""
    before = lab.client.traces()
    connection = _full(lab)
    up = lab.client.traces()
    assert lab.client.start("failing", "--timeout", "1", prefix=prefix).wait(60) == 5
    assert lab.client.traces() == up
    if "--net" not in prefix:
        second = lab.client.start("split", prefix=prefix)
        second.wait_connected()
        assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
        (child,) = Path(f"/proc/{second.process.pid}/task/{second.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)  # the first process of its namespace, and so all of them
        second.wait()
        wait_for(lambda: "ike1" not in "".join(lab.client.traces()["links"]), timeout=20, what="its device to go")
        assert lab.client.start("failing", "--timeout", "1", prefix=prefix).wait(60) == 5
        assert lab.client.traces() == up
    assert lab.client.start("work", "--timeout", "1", prefix=prefix).wait(60) == 2
    assert lab.client.traces() == up
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    assert connection.process.poll() is None
    lab.client.disconnect("work")
    assert lab.client.traces() == before


def test_a_crash_whose_journal_is_gone_does_not_keep_the_next_start_from_working(lab: Lab) -> None:
    """O20: systemd empties a directory at the end of a service, and somebody may empty it by hand."""
    before = lab.client.traces()
    _full(lab).kill()
    lab.network.client.run("rm", "-r", "/run/ikeclient")
    again = lab.client.connect()
    assert "removed a leftover: ip rule delete" in again.stderr
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    lab.client.disconnect()
    assert lab.client.traces() == before


def test_after_a_crash_nothing_leaves_until_repair(lab: Lab) -> None:
    """O3, O20: by hand, without a profile; first it says what it would do, and a living tunnel loses nothing."""
    machine = lab.network.client
    before = lab.client.traces()
    connection = _full(lab)
    up = lab.client.traces()
    assert lab.client.run("repair").stderr == "nothing to repair\n"
    assert lab.client.traces() == up
    connection.kill()
    lost = machine.run("ip", "route", "get", INTERNET_IPV4, check=False)
    assert "unreachable" in lost.stderr or "No route to host" in lost.stderr
    crashed = lab.client.traces()
    planned = lab.client.run("repair", "--dry-run")
    assert planned.returncode == 0
    assert "ip rule delete priority 20010 not fwmark 0x1ce lookup 7400 protocol kernel" in planned.stdout
    assert lab.client.traces() == crashed
    machine.run("rm", "-r", "/run/ikeclient")
    assert "lookup 7400" in lab.client.run("repair", "--dry-run").stdout
    done = lab.client.run("repair")
    assert done.returncode == 0, done.stderr
    assert "removed a leftover" in done.stdout
    assert lab.client.traces() == before
    assert lab.client.run("repair").stderr == "nothing to repair\n"


def test_repair_without_the_right_to_it_says_which(lab: Lab) -> None:
    """O20"""
    done = lab.network.client.run(
        *("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-all", "python3", "-m", "ikeclient", "repair"),
        check=False,
        env=lab.client.environment,
    )
    assert done.returncode == 11, done.stderr
    assert "CAP_NET_ADMIN" in done.stderr


def test_many_granted_networks_keep_nothing_waiting(lab: Lab) -> None:
    """S18: 255 of them; the tunnel is up, answers and is gone like any other."""
    many = tuple(f"10.99.{number}.0/24" for number in range(0, 254, 2))
    more = tuple(f"10.98.{number}.0/24" for number in range(0, 254, 2))
    own = [network.replace(".0/24", ".1/32") for network in (*many, *more)]  # strongSwan wants one in each
    lab.network.gateway.run("ip", "-b", "-", stdin="".join(f"address replace {one} dev lo\n" for one in own))
    before = lab.client.traces()
    connection = lab.connected(Offer(local_ts=(*many, *more)))
    status = lab.client.status()
    assert status
    assert len(status["routes"]) > 200
    carries(lab.network.client, INSIDE_IPV4)
    done = lab.client.run("disconnect")
    assert done.returncode == 0, done.stderr
    assert connection.wait(15) == 0
    assert lab.client.traces() == before
