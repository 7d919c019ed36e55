"""The kill switch, as people use it: closed from the first moment, through every end but `disconnect` and `unblock`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from lab.capture import Capture
from lab.client import Client, Connection
from lab.container import Container
from lab.forger import router_advertisement
from lab.gateway import PSK, Offer
from lab.leaks import LOOK_UP, MAIN_RULES, Traffic, allowed_to
from lab.machines import LabError, addresses, descendants, plug, wait_for
from lab.network import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    GATEWAY_NAME,
    INSIDE_DNS,
    INSIDE_IPV4,
    INTERNET_IPV4,
    INTERNET_IPV6,
    SECOND_CLIENT_IPV4,
)
from lab.seccomp import refused
from lab.servers import DOMAIN
from lab.traffic import ping
from lab.world import Lab

pytestmark = pytest.mark.xdist_group("kill switch")

FULL = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"), dns=(INSIDE_DNS,), domains=(DOMAIN,))
SWITCH = {"network": {"routes": "all"}, "session": {"kill_switch": True}}


def _blocked(lab: Lab) -> bool:
    """Whether `status` says so, in its first word and in JSON."""
    word = lab.client.run("status").stdout.split()[0]
    status = lab.client.status("work")
    return word == "blocked" and status is not None and status["blocked"] is True


def _connected(lab: Lab) -> Connection:
    return lab.connected(FULL, **SWITCH)


def _settings(lab: Lab) -> list[str]:
    """The settings of every interface, the tunnel's own left out, which goes with it."""
    lines = lab.network.client.run("sysctl", "-a", "--pattern", r"^net\.ipv[46]\.(conf|ip_forward)").stdout.splitlines()
    return sorted(line for line in lines if ".ike0." not in line)


def test_a_signal_leaves_the_machine_closed_and_unblock_restores_it(lab: Lab) -> None:
    """O4, O9: what is in force is told at once, and nothing of it is left afterwards."""
    before, settings = lab.client.traces(), _settings(lab)
    lab.prepare(FULL, **SWITCH)
    planned = lab.client.run("connect", "work", "--dry-run").stdout
    assert "ip route replace unreachable 0.0.0.0/0 table 7528" in planned
    assert "type filter hook postrouting" in planned
    assert lab.client.traces() == before
    tunnel = lab.client.connect()
    status = lab.status()
    assert (status["state"], status["blocked"], status["kill_switch"]) == ("connected", False, "routes and firewall")
    helper = next(iter(descendants(tunnel.process.pid)))
    policies = [os.sched_getscheduler(pid) for pid in (tunnel.process.pid, helper)]
    assert policies == [os.SCHED_OTHER, os.SCHED_RR | os.SCHED_RESET_ON_FORK], "who puts back what was flushed is quick"
    assert tunnel.terminate() == 0
    assert tunnel.stderr.splitlines()[-1].endswith("`ikeclient unblock work` opens it")
    assert _blocked(lab)
    assert "closed by work" in lab.client.run("doctor").stdout
    assert lab.client.run("repair").stderr == "nothing to repair\n"
    assert "open until" in lab.client.run("unblock", "--for", "10m").stderr
    assert not _blocked(lab)
    assert "open until" in lab.client.run("unblock", "--for", "1s").stderr
    wait_for(lambda: _blocked(lab), timeout=40, what="the switch to close again", interval=0.1)
    assert lab.client.run("unblock").returncode == 0
    assert (lab.client.traces(), _settings(lab)) == (before, settings)
    assert json.loads(lab.client.run("status", "--json").stdout)["tunnels"] == []


def test_disconnect_opens_also_if_no_process_is_left(lab: Lab) -> None:
    """O3: a crash leaves the machine closed."""
    before = lab.client.traces()
    _connected(lab).kill()
    assert _blocked(lab)
    assert lab.client.run("disconnect", "work").returncode == 0
    assert lab.client.run("repair").returncode == 0  # what the crash left, which is not the kill switch's
    assert lab.client.traces() == before
    silent = [lab.network.gateway.block_udp_port(port) for port in (500, 4500)]
    tunnel = lab.client.start("work", "--timeout", "60")
    wait_for(lambda: _blocked(lab), timeout=30, what="the switch to close", interval=0.1)
    assert lab.client.run("disconnect", "work").returncode == 0, "also one that is not connected yet"
    assert tunnel.wait() == 0
    for rules in silent:
        rules.remove()
    assert lab.client.traces() == before


@pytest.fixture(scope="module")
def all_traffic(module_lab: Lab) -> Traffic:
    """A lab whose client sends everything that there is, and whose gateway is ready. All of it is seen at first."""
    module_lab.network.add_second_path()
    module_lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, **SWITCH)
    return Traffic(module_lab)


@pytest.fixture
def traffic(all_traffic: Traffic) -> Iterator[Traffic]:
    """The same, for one test, which the machine survives as it was."""
    lab = all_traffic.lab
    lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, **SWITCH)
    before = lab.client.traces()
    yield all_traffic
    for connection in lab.client.connections:
        if connection.process.poll() is None:
            connection.kill()
    lab.client.run("unblock", "--all")
    lab.client.run("repair")
    lab.network.client.run("sh", "-c", f"ip link set wan up; {ADDRESSES}")
    after = lab.client.traces()
    ours = ("rules", "rules6", "firewall", "resolver")  # the order of addresses and routes is that of the last cable
    assert {each: after[each] for each in ours} == {each: before[each] for each in ours}


ADDRESSES = (
    f"ip address replace {CLIENT_IPV4}/24 dev wan; ip address replace {CLIENT_IPV6}/64 dev wan nodad;"
    f" ip route replace default via {GATEWAY_IPV4}; ip -6 route replace default via {GATEWAY_IPV6}"
)


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


ROUTES_OF_OTHERS = (  # as DHCP (option 121) and router advertisements bring them
    f"ip route add {INTERNET_IPV4}/32 via {GATEWAY_IPV4}; ip route add 0.0.0.0/1 via {GATEWAY_IPV4};"
    f" ip -6 route add {INTERNET_IPV6}/128 via {GATEWAY_IPV6}; ip -6 route add 2000::/3 via {GATEWAY_IPV6}; sleep 1;"
    f" ip route del {INTERNET_IPV4}/32; ip route del 0.0.0.0/1;"
    f" ip -6 route del {INTERNET_IPV6}/128; ip -6 route del 2000::/3"
)
LATER = {"session": {"kill_switch": True, "liveness": 40}}  # what only a new authentication changes

ADVERTISE = r"""
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as sender:
    sender.sendto(bytes.fromhex(sys.argv[1]), ("wan", 0x86DD, 0, 0, bytes.fromhex("333300000001")))
"""
FORGET_ROUTERS = (
    "sysctl -qw net.ipv6.conf.wan.accept_ra=0; ip -6 route flush proto ra; ip -6 address flush dev wan dynamic;"
    " ip -6 route flush 2001:db8:113::/64"
)


def _advertise(lab: Lab) -> None:
    """Have the router of the LAN claim a public network for the link, and the way to everything else for itself."""
    gateway = lab.network.gateway
    words = gateway.run("ip", "-o", "-6", "address", "show", "dev", "wan", "scope", "link").stdout.split()
    packet = router_advertisement(words[3].partition("/")[0], "ff02::1", "2001:db8:113::")
    lab.network.client.sysctl("net.ipv6.conf.wan.accept_ra", 2)
    gateway.run(sys.executable, "-c", ADVERTISE, packet.hex())


def _is_advertised(lab: Lab) -> bool:
    """Whether a packet that nothing held back would go by what the router said."""
    way = lab.network.client.run("ip", "-6", "route", "get", INTERNET_IPV6, "mark", "0x1ce").stdout
    return " dev wan " in way and " via " not in way


def _suspend(tunnel: Connection, seconds: float) -> None:
    """Stop the tunnel and its helper, as the sleep of a machine or a debugger does, and let them go on."""
    every = [tunnel.process.pid, *descendants(tunnel.process.pid)]
    for pid in every:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in every:
        os.kill(pid, signal.SIGCONT)


def _run_out_of_memory(pid: int) -> None:
    """Have the kernel kill a process because its control group has no memory left."""
    version1 = Path("/sys/fs/cgroup/memory")
    group = (version1 if version1.is_dir() else Path("/sys/fs/cgroup")) / f"ikl{os.getpid()}"
    group.mkdir()
    (group / "cgroup.procs").write_text(str(pid))
    (group / ("memory.limit_in_bytes" if version1.is_dir() else "memory.max")).write_text("4096")


def _at(lab: Lab, address: str) -> bool:
    status = lab.client.status("work")
    return status is not None and status["state"] == "connected" and status["local"]["address"] == address


def test_nothing_leaves_in_any_state_of_a_tunnel(traffic: Traffic) -> None:
    """O3, O4, O5, O7, O9, O18: from before the name is looked up to after SIGTERM; zero packets but those allowed."""
    lab = traffic.lab
    before = lab.client.traces()
    watched: dict[str, list[Capture]] = {}

    def look(state: str, change: Callable[[], object], settled: Callable[[], object], *, ends: bool = False) -> None:
        def there() -> object:
            if tunnel.process.poll() is not None and not ends:
                raise LabError(f"{state}: the tunnel has ended\n{tunnel.stderr}")
            return settled()

        watched[state] = traffic.watch(state, change, there)

    gateway = lab.network.gateway
    silent = [gateway.block_udp_port(port) for port in (53, 500, 4500)]
    with traffic.capture("start") as start:
        tunnel = lab.client.start("work", "--timeout", "300")
        wait_for(lambda: "resolving" in tunnel.stderr, timeout=40, what="the tunnel to look up its gateway")
        time.sleep(0.3)
    look("resolving", lambda: None, lambda: True)
    look("connecting", silent[0].remove, lambda: "negotiating" in tunnel.stderr)
    look("connected", lambda: [rules.remove() for rules in silent[1:]], lambda: "connected in" in tunnel.stderr)
    for state, command in SABOTAGE.items():
        look(state, partial(lab.network.client.run, "sh", "-c", command), lambda: _whole(lab))
    look("reloading", lambda: tunnel.process.send_signal(signal.SIGHUP), lambda: "read again" in tunnel.stderr)
    look("routes of others", lambda: lab.network.client.run("sh", "-c", ROUTES_OF_OTHERS), lambda: _whole(lab))
    lab.client.write_profile(lab.gateway, {"gateway": {"address": GATEWAY_NAME}, **SWITCH, **LATER})
    look(
        "reauthenticating",
        lambda: tunnel.process.send_signal(signal.SIGHUP),
        lambda: "reauthenticated" in tunnel.stderr,
    )
    look("router advertisement", partial(_advertise, lab), lambda: _is_advertised(lab) and _whole(lab))
    lab.network.client.run("sh", "-c", FORGET_ROUTERS)
    look("suspended", lambda: _suspend(tunnel, 2.0), lambda: _whole(lab))
    silent = [gateway.block_udp_port(port) for port in (500, 4500)]
    look("reconnecting", lambda: lab.client.run("reconnect"), lambda: _blocked(lab))
    for rules in silent:
        rules.remove()
    lab.client.wait_state("connected")
    look("SIGTERM", tunnel.process.terminate, lambda: tunnel.process.poll() is not None, ends=True)
    ours = [moment for moment, kind in traffic.moments(start) if kind == LOOK_UP]
    others = [moment for moment, kind in traffic.moments(start) if not kind.startswith("allowed")]
    assert ours
    assert others[-1] < ours[0], "the machine is closed before the first packet of ours"
    leaks = {state: traffic.judge(state, captures) for state, captures in watched.items()}
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


def test_nothing_leaves_whatever_way_a_process_ends(traffic: Traffic) -> None:
    """O3, O13, O21, F9: SIGKILL of each process, a fault, no memory, credentials that are refused."""
    lab = traffic.lab
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
    tunnel = lab.client.connect()

    def out_of_memory(ended: Connection = tunnel) -> bool:
        lab.client.run("status", "--timeout", "1") if ended.process.poll() is None else None  # so that it wants some
        return ended.process.poll() is not None

    leaks["out of memory"] = traffic.leaks_while(
        "out of memory", partial(_run_out_of_memory, tunnel.process.pid), out_of_memory
    )
    assert tunnel.wait() == 137
    lab.client.secret_file("psk", "not the secret of this gateway")
    refused = lab.client.start()
    leaks["refused"] = traffic.leaks_while("refused", lambda: None, lambda: refused.process.poll() is not None)
    lab.client.secret_file("psk", PSK)
    assert refused.wait() == 4
    assert "`ikeclient unblock work` opens it" in refused.stderr.splitlines()[-1]
    assert _blocked(lab)
    assert leaks == {state: {} for state in leaks}


def test_unblock_opens_beside_stopped_processes_and_a_damaged_file(traffic: Traffic) -> None:
    """O3, O20: and the tunnel, when it goes on, leaves the machine open."""
    lab = traffic.lab
    tunnel = lab.client.connect()
    every = [tunnel.process.pid, *descendants(tunnel.process.pid)]
    for pid in every:
        os.kill(pid, signal.SIGSTOP)
    assert lab.client.run("unblock", "work").returncode == 0
    for pid in every:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "the kill switch is" in tunnel.stderr.splitlines()[-1], timeout=30, what="it to notice")
    assert lab.client.status("work")["kill_switch"] is None  # type: ignore[index]
    tunnel.kill()
    lab.client.run("repair")
    assert not _blocked_at_all(lab)
    lab.client.connect().kill()
    file = "/run/ikeclient/work.block.json"
    lab.network.client.run("sh", "-c", f"echo broken >{file}")
    again = lab.client.run("unblock", "work")
    assert "removed: nft delete table inet ikeclient_7528" in again.stdout
    assert not _blocked_at_all(lab)


def _blocked_at_all(lab: Lab) -> bool:
    client = lab.network.client
    texts = [
        client.run(*command).stdout for command in (("ip", "rule"), ("ip", "-6", "rule"), ("nft", "list", "ruleset"))
    ]
    return any("752" in text or "ikeclient" in text for text in texts)


def test_a_gateways_address_that_programs_talk_to_is_closed_to_them(traffic: Traffic) -> None:
    """O6, O9: the name leads to a victim's address first (TunnelCrack ServerIP), then to the gateway's."""
    lab = traffic.lab
    client = lab.network.client
    hosts = client.read_file("/etc/hosts")
    client.write_file("/etc/hosts", f"{hosts}{INTERNET_IPV4} {GATEWAY_NAME}\n{GATEWAY_IPV4} {GATEWAY_NAME}\n")
    with traffic.capture("victim") as capture:
        tunnel = lab.client.start("work", "--timeout", "120")
        wait_for(lambda: "connected in" in tunnel.stderr, timeout=120, what="the second address", interval=0.1)
    moments = traffic.moments(capture)
    client.write_file("/etc/hosts", hosts)
    first = next(at for at, kind in moments if kind == allowed_to(INTERNET_IPV4))
    leaked = {kind for at, kind in moments if at > first and not kind.startswith("allowed")}
    # Whoever may set our mark may send UDP to where our packets go; nobody else, and nothing else.
    assert leaked <= {"our mark, elsewhere, IPv4"}
    assert tunnel.terminate() == 0


def test_a_start_of_the_machine_closes_before_its_network_comes_up(traffic: Traffic) -> None:
    """O3: a machine of its own, of which nothing is known but the profile: `block`, and then a cable."""
    lab = traffic.lab
    boot = lab.network.add_machine("boot")
    machine = Client(boot, lab.network.subdirectory("boot"))
    machine.write_profile(lab.gateway, {"gateway": {"address": GATEWAY_NAME}, **SWITCH})
    assert machine.run("block", "work").returncode == 0
    plug(lab.network.gateway, "wan8", boot, "wan")
    addresses(lab.network.gateway, "wan8", "10.8.0.1/24", "fd08::1/64")
    addresses(boot, "wan", "10.8.0.2/24", "fd08::2/64")
    boot.ip("route", "add", "default", "via", "10.8.0.1")
    boot.ip("-6", "route", "add", "default", "via", "fd08::1")
    sent = []
    for name in ("closed", "open"):
        path = lab.network.directory / f"boot-{name}.pcap"
        with Capture(boot, "wan", path, expression="not arp and not icmp6") as capture:
            boot.run(sys.executable, "-c", AT_BOOT, INTERNET_IPV4, INTERNET_IPV6)
        sent.append(capture.count("(ip or ipv6) and not icmpv6"))  # which says more than tcpdump of group membership
        assert machine.run("unblock").returncode == (0 if name == "closed" else 8)
    assert sent[0] == 0
    assert sent[1] >= 5


AT_BOOT = r"""
import socket, sys
for family, host in zip((socket.AF_INET, socket.AF_INET6), sys.argv[1:]):
    for device, mark in (("", 0), ("wan", 0), ("wan", 0x1ce)):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            try:
                if device:
                    sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                sender.sendto(b"leak?", (host, 40001))
            except OSError:
                pass
"""


def test_switches_of_several_tunnels_hold_each_its_own(traffic: Traffic) -> None:
    """A full one of root and a split one of a service, in a directory of its own: each carries and closes its own."""
    lab = traffic.lab
    service = {"RUNTIME_DIRECTORY": "/run/ikeclient/other"}
    lab.prepare(replace(FULL, unique="never"), gateway={"address": GATEWAY_NAME}, **SWITCH)
    split = {"network": {"routes": ["10.99.0.0/24"]}, "session": {"kill_switch": True}}
    lab.client.write_profile(lab.gateway, split, name="other")
    full = lab.client.connect()
    other = lab.client.start("other", env=service)
    wait_for(lambda: "connected in" in other.stderr, timeout=60, what="the second tunnel", interval=0.1)
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert "another program" not in full.stderr + other.stderr
    killed = traffic.leaks_while("two tunnels killed", lambda: (full.kill(), other.kill()), lambda: _blocked(lab))
    assert killed == {}
    assert lab.client.run("unblock", "work").returncode == 0
    client = lab.network.client
    assert client.run("ip", "route", "get", INSIDE_IPV4, check=False).returncode != 0
    assert " dev wan " in client.run("ip", "route", "get", INTERNET_IPV4).stdout
    lab.client.run("repair", env=service)


NO_NETFILTER = refused("netfilter")
OLD_NFT = "netlink: Error: cache initialization failed: Protocol not supported"  # for a kernel without nf_tables


@pytest.mark.parametrize(
    ("hidden", "prefix", "why"),
    [
        pytest.param("/dev/null", (), "there is no nft", id="no program", marks=pytest.mark.extended),
        pytest.param(None, NO_NETFILTER, "Protocol not supported", id="no netfilter", marks=pytest.mark.extended),
        pytest.param("#!/bin/sh\necho " + f"'{OLD_NFT}' >&2; exit 1\n", (), OLD_NFT, id="no nf_tables"),
    ],
)
def test_routes_close_alone_without_a_firewall(
    traffic: Traffic, hidden: str | None, prefix: tuple[str, ...], why: str
) -> None:
    """O9: `status` and a notice say so and why; sockets that had their route before are closed too."""
    lab = traffic.lab
    client = lab.network.client
    if hidden is not None and hidden != "/dev/null":
        client.write_file("/run/nft", hidden)
        client.run("chmod", "755", "/run/nft")
        hidden = "/run/nft"
    if hidden is not None:
        client.run("mount", "--bind", hidden, "/usr/sbin/nft")
    try:
        tunnel = lab.client.start(prefix=prefix)
        tunnel.wait_connected(60)
        assert lab.status()["kill_switch"] == "routes"
        assert "by routes alone" in tunnel.stderr
        assert why in tunnel.stderr
        leaks = traffic.leaks_while("SIGKILL without nft", tunnel.kill, lambda: _blocked(lab))
        assert {kind.rpartition(",")[0] for kind in leaks} <= BY_FIREWALL, leaks
    finally:
        if hidden is not None:
            client.run("umount", "/usr/sbin/nft")


def _sleep(lab: Lab, tunnel: Connection) -> None:
    """What a sleep of hours does: processes stand still, the network goes and comes, the gateway forgets the tunnel."""
    every = [tunnel.process.pid, *descendants(tunnel.process.pid)]
    client = lab.network.client
    for pid in every:
        os.kill(pid, signal.SIGSTOP)
    client.set_link("wan", up=False)
    lab.gateway.restart()
    lab.gateway.serve(lab.gateway.offer)
    client.set_link("wan", up=True)
    client.run("sh", "-c", ADDRESSES)
    time.sleep(2.5)
    for pid in every:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.extended
@pytest.mark.waits
def test_nothing_leaves_in_a_sleep_in_which_everything_changes(traffic: Traffic) -> None:
    """S15: neither while it sleeps nor until there is a tunnel again."""
    lab = traffic.lab
    tunnel = lab.client.connect()

    def again() -> bool:
        status = lab.client.status("work")
        return status is not None and status["state"] == "connected" and status["reconnects"] == 1

    assert traffic.leaks_while("slept, and forgotten", partial(_sleep, lab, tunnel), again) == {}
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_a_container_closes_its_own_network(traffic: Traffic) -> None:
    """A process with one capability and a read-only file system: what shares its network is closed, beside its host."""
    lab = traffic.lab
    inside = Client(traffic.guest, lab.network.subdirectory("guest"))
    container = Container(client=inside)
    lab.gateway.serve(replace(FULL, auth="eap-mschapv2"))
    profile = container.profile(lab.gateway, dict(SWITCH))
    with traffic.in_guest() as other:
        before = inside.traces()
        tunnel = container.start(profile)
        wait_for(lambda: "connected in" in tunnel.stderr, timeout=60, what="the container's tunnel")
        leaks = {"container: connected": other.leaks_while("container: connected", lambda: None, lambda: True)}
        leaks["container: SIGKILL"] = other.leaks_while(
            "container: SIGKILL", tunnel.kill, lambda: container.run("status").stdout.startswith("blocked")
        )
        assert leaks == {state: {} for state in leaks}
        host = lab.network.client.run("ip", "route", "get", INTERNET_IPV4).stdout
        assert " dev wan" in host, "the host is not closed"
        assert container.run("unblock").returncode == 0
        assert inside.traces() == before


KILLS = int(os.environ.get("KILLS", "5"))


def _kill_helper(tunnel: Connection) -> None:
    """SIGKILL for the helper, if it is there already; the tunnel ends by itself, or else with it."""
    for pid in descendants(tunnel.process.pid):
        os.kill(pid, signal.SIGKILL)
    if tunnel.process.poll() is None:
        try:
            tunnel.wait(20)
        except subprocess.TimeoutExpired:  # there was none yet
            tunnel.kill()


def _end_twice(number: signal.Signals, tunnel: Connection) -> None:
    """A signal, and once more before the tunnel has ended: it must not leave half of what it was about to do."""
    tunnel.process.send_signal(number)
    time.sleep(0.02)
    tunnel.process.send_signal(number)
    tunnel.wait(30)


def _kill_while_it_ends(tunnel: Connection) -> None:
    tunnel.process.terminate()
    time.sleep(0.02)
    tunnel.kill()


ENDS: list[Callable[[Connection], None]] = [
    Connection.kill,
    _kill_helper,
    partial(_end_twice, signal.SIGINT),
    partial(_end_twice, signal.SIGTERM),
    _kill_while_it_ends,
]


def test_ends_at_random_moments_never_open(traffic: Traffic) -> None:
    """O3, O4, O21: neither while it connects nor while it ends; the next start goes on, and `unblock` restores all."""
    lab = traffic.lab
    before = lab.client.traces()
    seed = int.from_bytes(os.urandom(4))
    chance = random.Random(seed)
    tunnel = lab.client.connect()

    def kill_often() -> None:
        nonlocal tunnel
        for _ in range(KILLS):
            chance.choice(ENDS)(tunnel)
            tunnel = lab.client.start()
            time.sleep(chance.uniform(0.0, 2.5))
        tunnel.kill()

    assert traffic.leaks_while("ends", kill_often, lambda: True) == {}, f"seed {seed}"
    lab.client.connect().terminate()
    assert _blocked(lab)
    assert lab.client.run("unblock", "--all").returncode == 0
    assert lab.client.traces() == before


TO_THE_LAN = {"DNS of the LAN", "TCP 443 of the gateway", "UDP 4500 of the gateway", "answers to connections"}
SPLIT = {"network": {"routes": ["203.0.113.0/24", "2001:db8:113::/64"]}, "session": {"kill_switch": True}}


def test_a_split_tunnel_closes_its_networks_and_nothing_else(traffic: Traffic) -> None:
    """O9: before it is connected, while it is, and after SIGKILL; what goes elsewhere is seen all the time."""
    lab = traffic.lab
    lab.prepare(FULL, gateway={"address": GATEWAY_NAME}, **SPLIT)
    elsewhere = {*TO_THE_LAN, "multicast DNS", "broadcast", "our mark, TCP to the gateway"}
    silent = [lab.network.gateway.block_udp_port(port) for port in (500, 4500)]
    tunnel = lab.client.start("work", "--timeout", "300")
    wait_for(lambda: "negotiating" in tunnel.stderr, timeout=60, what="the tunnel to look for its gateway")
    leaks = {"split: connecting": traffic.leaks_while("split: connecting", lambda: None, lambda: True)}
    for rules in silent:
        rules.remove()
    tunnel.wait_connected(60)
    leaks["split: connected"] = traffic.leaks_while("split: connected", lambda: None, lambda: True)
    leaks["split: SIGKILL"] = traffic.leaks_while("split: SIGKILL", tunnel.kill, lambda: _blocked(lab))
    for state, kinds in leaks.items():
        assert {kind.rpartition(",")[0] for kind in kinds} == elsewhere, state


@pytest.mark.extended
def test_what_carries_ipv6_alone_closes_ipv4_too(traffic: Traffic) -> None:
    """O7: connected, and killed."""
    lab = traffic.lab
    offer = Offer(local_ts=("::/0",), pools=("p6",))
    lab.prepare(offer, gateway={"address": GATEWAY_NAME}, **SWITCH)
    tunnel = lab.client.connect()
    leaks = {"IPv6 alone: connected": traffic.leaks_while("IPv6 alone: connected", lambda: None, lambda: True)}
    leaks["IPv6 alone: SIGKILL"] = traffic.leaks_while("IPv6 alone: SIGKILL", tunnel.kill, lambda: _blocked(lab))
    assert leaks == {state: {} for state in leaks}


def test_the_lan_passes_and_what_a_lan_claims_does_not(lab: Lab) -> None:
    """O6: with "lan" the private networks of this machine pass, not public addresses that a LAN says are there."""
    lab.prepare(FULL, network={"routes": "all", "exclude": ["lan"]}, session={"kill_switch": True})
    traffic = Traffic(lab)
    lab.network.client.ip("address", "add", "203.0.113.77/24", "dev", "wan")
    lab.network.client.ip("address", "add", "2001:db8:113::77/64", "dev", "wan", "nodad")
    lab.client.connect()
    local = {*TO_THE_LAN, "multicast DNS", "broadcast", "our mark, TCP to the gateway"}
    connected = traffic.leaks_while("connected with lan", lambda: None, lambda: True)
    killed = traffic.leaks_while("SIGKILL with lan", lab.client.connections[-1].kill, lambda: _blocked(lab))
    for leaks in (connected, killed):
        assert {kind.rpartition(",")[0] for kind in leaks} == local
