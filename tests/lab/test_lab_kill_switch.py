"""The kill switch, as people use it: closed from the first moment, through every end but `disconnect` and `unblock`."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.leaks import LOOK_UP, MAIN_RULES, Traffic
from lab.machines import descendants, wait_for
from lab.network import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    GATEWAY_NAME,
    INSIDE_DNS,
    INTERNET_IPV4,
    INTERNET_IPV6,
    SECOND_CLIENT_IPV4,
)
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
    lab.prepare(FULL, **SWITCH)
    planned = lab.client.run("connect", "work", "--dry-run").stdout
    assert "ip route replace unreachable 0.0.0.0/0 table 7528" in planned
    assert "type filter hook postrouting" in planned
    assert lab.client.traces() == before
    tunnel = lab.client.connect()
    status = lab.status()
    assert (status["state"], status["blocked"], status["kill_switch"]) == ("connected", False, "routes and firewall")
    assert tunnel.terminate() == 0
    assert tunnel.stderr.splitlines()[-1].endswith("`ikeclient unblock work` opens it")
    assert _blocked(lab)
    assert "closed by work" in lab.client.run("doctor").stdout
    assert lab.client.run("repair").stderr == "nothing to repair\n"
    assert "open until" in lab.client.run("unblock", "--for", "2s").stderr
    assert not _blocked(lab)
    wait_for(lambda: _blocked(lab), timeout=20, what="the switch to close again", interval=0.1)
    assert lab.client.run("unblock").returncode == 0
    assert lab.client.traces() == before
    assert json.loads(lab.client.run("status", "--json").stdout)["tunnels"] == []


def test_disconnect_opens_also_if_no_process_is_left(lab: Lab) -> None:
    """O3: a crash leaves the machine closed."""
    before = lab.client.traces()
    _connected(lab).kill()
    assert _blocked(lab)
    assert lab.client.run("disconnect", "work").returncode == 0
    assert lab.client.run("repair").returncode == 0  # what the crash left, which is not the kill switch's
    assert lab.client.traces() == before


@pytest.fixture
def traffic(lab: Lab) -> Traffic:
    """A lab whose client sends everything that there is, and whose gateway is ready. All of it is seen at first."""
    lab.network.add_second_path()
    lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, **SWITCH)
    return Traffic(lab)


SABOTAGE = {
    "interface deleted": "ip link delete ike0",
    "rules flushed": f"ip rule flush; ip -6 rule flush; {MAIN_RULES}",
    "tables flushed": "for each in 7400 7464 7528; do ip route flush table $each; ip -6 route flush table $each; done",
    "firewall flushed": "nft flush ruleset",
}
BY_FIREWALL = {  # what routing does not see
    *("bound to the interface", "our mark, elsewhere", "our mark, TCP to the gateway"),
    *("multicast DNS", "broadcast"),
}


def _whole(lab: Lab) -> bool:
    """Whether the tunnel carries both families, and both means of the kill switch are there."""
    client = lab.network.client
    ways = [client.run("ip", "route", "get", to, check=False).stdout for to in (INTERNET_IPV4, INTERNET_IPV6)]
    rules = [client.run(*command).stdout for command in (("ip", "rule"), ("ip", "-6", "rule"))]
    routes = [client.run("ip", each, "route", "show", "table", "7528", check=False).stdout for each in ("-4", "-6")]
    firewall = client.run("nft", "list", "ruleset").stdout
    return (
        all(" dev ike0 " in way for way in ways)
        and all("lookup 7528" in text for text in rules)
        and all("unreachable default" in text for text in routes)
        and "ip6 daddr ::/0 drop" in firewall
    )


def _at(lab: Lab, address: str) -> bool:
    status = lab.client.status("work")
    return status is not None and status["state"] == "connected" and status["local"]["address"] == address


def test_nothing_leaves_in_any_state_of_a_tunnel(lab: Lab, traffic: Traffic) -> None:
    """O3, O4, O9, O18: from before the name is looked up to after SIGTERM; zero packets but those that are allowed."""
    before = lab.client.traces()
    leaks: dict[str, Counter[str]] = {}

    def look(state: str, change: Callable[[], object], settled: Callable[[], object]) -> None:
        leaks[state] = traffic.leaks_while(state, change, settled)

    gateway = lab.network.gateway
    silent = [gateway.block_udp_port(port) for port in (53, 500, 4500)]
    with traffic.capture("start") as start:
        tunnel = lab.client.start("work", "--timeout", "300")
        wait_for(lambda: "resolving" in tunnel.stderr, timeout=40, what="the tunnel to look up its gateway")
        time.sleep(0.3)
    ours = [moment for moment, kind in traffic.moments(start) if kind == LOOK_UP]
    others = [moment for moment, kind in traffic.moments(start) if not kind.startswith("allowed")]
    assert ours
    assert others[-1] < ours[0], "the machine is closed before the first packet of ours"
    look("resolving", lambda: None, lambda: True)
    look("connecting", silent[0].remove, lambda: "negotiating" in tunnel.stderr)
    look("connected", lambda: [rules.remove() for rules in silent[1:]], lambda: "connected in" in tunnel.stderr)
    for state, command in SABOTAGE.items():
        look(state, partial(lab.network.client.run, "sh", "-c", command), lambda: _whole(lab))
    look("reloading", lambda: tunnel.process.send_signal(signal.SIGHUP), lambda: "read again" in tunnel.stderr)
    silent = [gateway.block_udp_port(port) for port in (500, 4500)]
    look("reconnecting", lambda: lab.client.run("reconnect"), lambda: _blocked(lab))
    for rules in silent:
        rules.remove()
    lab.client.wait_state("connected")
    look("SIGTERM", tunnel.process.terminate, lambda: tunnel.process.poll() is not None)
    opened = leaks.pop("firewall flushed")
    assert {kind.rpartition(",")[0] for kind in opened} <= BY_FIREWALL, "routes close without the firewall"
    assert leaks == {state: {} for state in leaks}
    assert _blocked(lab)
    assert lab.client.run("disconnect").returncode == 0
    with traffic.capture("open") as capture:
        time.sleep(0.5)
    assert traffic.leaks(capture), "an open machine sends"
    assert lab.client.traces() == before
    tunnel = lab.client.connect()
    roamed = traffic.leaks_while("roaming", lab.network.use_second_path, lambda: _at(lab, SECOND_CLIENT_IPV4))
    assert roamed == {}


def test_nothing_leaves_whatever_way_a_process_ends(lab: Lab, traffic: Traffic) -> None:
    """O3, O21, F9: SIGKILL of each process, a fault, credentials that are refused, and the start of the machine."""
    leaks: dict[str, Counter[str]] = {}
    for state, number in (("SIGKILL", signal.SIGKILL), ("SIGSEGV", signal.SIGSEGV)):
        tunnel = lab.client.connect()
        leaks[state] = traffic.leaks_while(
            state, partial(tunnel.process.send_signal, number), lambda ended=tunnel: ended.process.poll() is not None
        )
    tunnel = lab.client.connect()
    helper = next(pid for pid in descendants(tunnel.process.pid))
    leaks["SIGKILL of the helper"] = traffic.leaks_while(
        "SIGKILL of the helper", partial(os.kill, helper, signal.SIGKILL), lambda: tunnel.process.poll() is not None
    )
    lab.client.secret_file("psk", "not the secret of this gateway")
    refused = lab.client.start()
    leaks["refused"] = traffic.leaks_while("refused", lambda: None, lambda: refused.process.poll() is not None)
    assert refused.wait() == 4
    assert "`ikeclient unblock work` opens it" in refused.stderr.splitlines()[-1]
    assert _blocked(lab)
    assert lab.client.run("unblock").returncode == 0
    assert lab.client.run("repair").returncode == 0
    client = lab.network.client
    client.run("sh", "-c", "ip address flush dev wan; rm -r /run/ikeclient")  # as after a restart
    assert lab.client.run("block", "work").returncode == 0
    up = f"ip address add {CLIENT_IPV4}/24 dev wan; ip address add {CLIENT_IPV6}/64 dev wan nodad"
    up += f"; ip route add default via {GATEWAY_IPV4}; ip -6 route replace default via {GATEWAY_IPV6}"
    leaks["restart"] = traffic.leaks_while("restart", partial(client.run, "sh", "-c", up), lambda: _blocked(lab))
    assert leaks == {state: {} for state in leaks}


def test_routes_close_alone_if_there_is_no_nft(lab: Lab, traffic: Traffic) -> None:
    """O9: `status` and a notice say so; sockets that had their route before are closed too."""
    lab.network.client.run("mount", "--bind", "/dev/null", "/usr/sbin/nft")
    tunnel = lab.client.connect()
    assert lab.status()["kill_switch"] == "routes"
    assert "by routes alone" in tunnel.stderr
    leaks = traffic.leaks_while("SIGKILL without nft", tunnel.kill, lambda: _blocked(lab))
    assert {kind.rpartition(",")[0] for kind in leaks} <= BY_FIREWALL
    lab.network.client.run("umount", "/usr/sbin/nft")


KILLS = int(os.environ.get("KILLS", "20"))


def test_sigkills_at_random_moments_never_open(lab: Lab, traffic: Traffic) -> None:
    """O3: neither while it connects nor while it ends; the next start goes on, and `unblock` restores everything."""
    before = lab.client.traces()
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    tunnel = lab.client.connect()

    def kill_often() -> None:
        nonlocal tunnel
        for _ in range(KILLS):
            tunnel.kill()
            tunnel = lab.client.start()
            time.sleep(chance.uniform(0.0, 1.2))
        tunnel.kill()

    assert traffic.leaks_while("kills", kill_often, lambda: True) == {}, f"seed {seed}"
    lab.client.connect().terminate()
    assert _blocked(lab)
    assert lab.client.run("unblock", "--all").returncode == 0
    assert lab.client.traces() == before


def test_the_lan_passes_and_what_a_lan_claims_does_not(lab: Lab) -> None:
    """O6: with "lan" the private networks of this machine pass, not public addresses that a LAN says are there."""
    lab.prepare(FULL, network={"routes": "all", "exclude": ["lan"]}, session={"kill_switch": True})
    traffic = Traffic(lab)
    lab.network.client.ip("address", "add", "203.0.113.77/24", "dev", "wan")
    lab.client.connect()
    local = {"DNS of the LAN", "multicast DNS", "broadcast", "TCP 443 of the gateway", "our mark, TCP to the gateway"}
    local |= {"UDP 4500 of the gateway", "answers to connections"}
    connected = traffic.leaks_while("connected with lan", lambda: None, lambda: True)
    killed = traffic.leaks_while("SIGKILL with lan", lab.client.connections[-1].kill, lambda: _blocked(lab))
    for leaks in (connected, killed):
        assert {kind.rpartition(",")[0] for kind in leaks} == local
