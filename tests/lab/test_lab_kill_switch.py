"""The kill switch, as people use it: closed from the first moment, through every end but `disconnect` and `unblock`."""

from __future__ import annotations

import json
import signal

from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS
from lab.servers import DOMAIN
from lab.world import Lab

FULL = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"), dns=(INSIDE_DNS,), domains=(DOMAIN,))
SWITCH = {"network": {"routes": "all"}, "session": {"kill_switch": True}}


def _blocked(lab: Lab) -> bool:
    """Whether `status` says so, in its first word and in JSON."""
    word = lab.client.run("status").stdout.split()[0]
    status = lab.client.status("work")
    return word == "blocked" and status is not None and status["blocked"] is True


def _connected(lab: Lab) -> Connection:
    return lab.connected(FULL, **SWITCH)


def test_a_signal_leaves_the_machine_closed_and_unblock_restores_it(lab: Lab) -> None:
    """O4, O9: what is in force is told at once, and nothing of it is left afterwards."""
    before = lab.client.traces()
    tunnel = _connected(lab)
    status = lab.status()
    assert (status["state"], status["blocked"], status["kill_switch"]) == ("connected", False, "routes and firewall")
    assert tunnel.terminate() == 0
    assert tunnel.stderr.splitlines()[-1].endswith("`ikeclient unblock work` opens it")
    assert _blocked(lab)
    assert "closed by work" in lab.client.run("doctor").stdout
    assert lab.client.run("repair").stderr == "nothing to repair\n"
    assert _blocked(lab)
    assert lab.client.run("unblock").returncode == 0
    assert lab.client.traces() == before
    assert json.loads(lab.client.run("status", "--json").stdout)["tunnels"] == []


def test_disconnect_opens_also_if_no_process_is_left(lab: Lab) -> None:
    """O3: a crash leaves it closed; the next start goes on from there, and `disconnect` opens."""
    before = lab.client.traces()
    _connected(lab).kill()
    assert _blocked(lab)
    lab.client.connect()
    assert lab.client.disconnect("work").returncode == 0
    assert lab.client.traces() == before
    _connected(lab).process.send_signal(signal.SIGKILL)
    wait_for(lambda: _blocked(lab), timeout=20, what="a closed machine without a process", interval=0.1)
    assert lab.client.run("disconnect", "work").returncode == 0
    assert lab.client.run("repair").returncode == 0  # what the crash left, which is not the kill switch's
    assert lab.client.traces() == before


def test_unblock_for_a_while_closes_by_itself(lab: Lab) -> None:
    before = lab.client.traces()
    _connected(lab).terminate()
    done = lab.client.run("unblock", "--for", "2s")
    assert "open until" in done.stderr
    assert not _blocked(lab)
    wait_for(lambda: _blocked(lab), timeout=20, what="the switch to close again", interval=0.1)
    assert lab.client.run("unblock", "--all").returncode == 0
    assert lab.client.traces() == before
