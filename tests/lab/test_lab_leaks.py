"""The leak matrix of a full tunnel: what others do to its interface, its routes and its rules, and to the machine.

Eight kinds of traffic go on all the time, and the outer interface is recorded. Before the tunnel is up all of them are
seen there, which proves the recording; afterwards none may be, whatever happens. Only a flush of the rules opens the
machine for as long as the kernel's notification takes.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from lab.capture import Capture
from lab.gateway import Offer
from lab.machines import LabError, wait_for
from lab.network import CLIENT_IPV4, CLIENT_IPV6, INSIDE_DNS, INTERNET_DNS, INTERNET_IPV4, INTERNET_IPV6
from lab.servers import DOMAIN
from lab.traffic import peer_address
from lab.world import Lab

FULL = Offer(local_ts=("0.0.0.0/0", "::/0"), pools=("p4", "p6"), dns=(INSIDE_DNS,), domains=(DOMAIN,))
KINDS = {f"{kind}{version}" for kind in ("TCP", "UDP", "ICMP", "DNS") for version in (4, 6)}
# Everything but the tunnel's own packets and what neighbours say to each other.
EXPRESSION = "not arp and not (udp and (port 500 or port 4500)) and not (icmp6 and ip6[40] >= 130)"
FIELDS = ("frame.time_epoch", "ip.proto", "ipv6.nxt", "udp.dstport")
ICMP6 = "58"
OPEN_FOR = 0.1  # seconds from the first to the last packet in the clear around a flush of the rules
TRIES = 5  # a machine that is busy with other things may be late

_TRAFFIC = r"""
import itertools, socket, struct, sys, time

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff

v4, v6, dns4 = sys.argv[1:]
hosts = {socket.AF_INET: v4, socket.AF_INET6: v6}
raw = {socket.AF_INET: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
       socket.AF_INET6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)}
question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06secret\x04corp\x07example\0\0\x01\0\x01"
old = {}
for family, host in hosts.items():  # sockets that remember a route from before
    old[family] = socket.socket(family, socket.SOCK_DGRAM)
    old[family].connect((host, 40003))
pending = []

def attempt(work):
    try:
        work()
    except OSError:
        pass

def servers():
    return [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")]

print("ready", flush=True)
for number in itertools.count():
    for family, host in hosts.items():
        plain = socket.socket(family, socket.SOCK_DGRAM)
        plain.setblocking(False)
        attempt(lambda: plain.sendto(b"leak?", (host, 40001)))
        attempt(lambda: old[family].send(b"leak?", socket.MSG_DONTWAIT))
        for server in {*servers(), dns4, v6}:
            if (":" in server) == (family == socket.AF_INET6):
                attempt(lambda: plain.sendto(question, (server, 53)))
        plain.close()
        stream = socket.socket(family, socket.SOCK_STREAM)
        stream.setblocking(False)
        attempt(lambda: stream.connect((host, 40002)))
        pending.append(stream)
        echo = struct.pack("!BBHHH", 8 if family == socket.AF_INET else 128, 0, 0, 0x4242, number & 0xffff) + b"leak"
        if family == socket.AF_INET:
            echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
        attempt(lambda: raw[family].sendto(echo, socket.MSG_DONTWAIT, (host, 0)))
    while len(pending) > 20:
        pending.pop(0).close()
    time.sleep(0.01)
"""

_MAIN = (
    "ip rule add priority 32766 lookup main protocol kernel; ip rule add priority 32767 lookup default protocol kernel;"
    " ip -6 rule add priority 32766 lookup main protocol kernel"
)
SABOTAGE = {
    "link down and up": "ip link set ike0 down; ip link set ike0 up",
    "link down": "ip link set ike0 down",
    "address flush": "ip address flush dev ike0",
    "table flush": "ip route flush table 7400; ip -6 route flush table 7400",
    "disable_ipv6": "sysctl -qw net.ipv6.conf.ike0.disable_ipv6=1",
    "MTU 1200": "ip link set ike0 mtu 1200",
    "device deleted": "ip link delete ike0",
}
ELSEWHERE = {
    "a start in another PID namespace crashes": "unshare --pid --fork --kill-child --mount-proc",
    "a start in another network namespace crashes": "unshare --net",
}


def _kind(_: str, v4: str, v6: str, port: str) -> str:
    protocol = (v4 or v6).partition(",")[0]  # an ICMP error quotes a packet, whose fields then follow
    names = {"6": "TCP", "17": "DNS" if port == "53" else "UDP", "1": "ICMP", ICMP6: "ICMP"}
    return f"{names.get(protocol, protocol)}{4 if v4 else 6}"


def _seen(capture: Capture) -> list[tuple[float, str]]:
    """When and which kinds of traffic left in the clear."""
    sent = f"ip.src == {CLIENT_IPV4} or ip.src == 10.88.0.0/16 or ipv6.src == {CLIENT_IPV6} or ipv6.src == fd88::/64"
    return [(float(packet[0]), _kind(*packet)) for packet in capture.packets(sent, *FIELDS)]


def _inside(lab: Lab) -> bool:
    """Whether both families go through the tunnel."""
    ways = [
        lab.network.client.run("ip", "route", "get", to, check=False).stdout for to in (INTERNET_IPV4, INTERNET_IPV6)
    ]
    return all(" dev ike0 " in way for way in ways)


@pytest.fixture
def traffic(lab: Lab) -> Lab:
    """A lab whose client sends all kinds of traffic, and whose gateway is ready."""
    lab.prepare(FULL, network={"routes": "all"})
    lab.client.write_profile(lab.gateway, {"gateway": {"address": "10.1.0.99"}}, name="failing")
    lab.network.client.start(sys.executable, "-c", _TRAFFIC, INTERNET_IPV4, INTERNET_IPV6, INTERNET_DNS)
    with lab.capture("control", expression=EXPRESSION) as control:
        wait_for(lambda: _flows(lab), timeout=20, what="traffic in the clear", interval=0.2)
    assert {kind for _, kind in _seen(control)} >= KINDS, "without a tunnel everything is seen"
    lab.client.connect()
    return lab


def _flows(lab: Lab) -> bool:
    """Whether traffic of both families has reached the gateway for a while."""
    for counter in ("IcmpInEchos", "Icmp6InEchos"):
        words = lab.network.gateway.run("nstat", "-asz", counter).stdout.split()
        if int(words[words.index(counter) + 1]) < 50:
            return False
    return True


def _mended(lab: Lab) -> None:
    wait_for(lambda: _inside(lab), timeout=20, what="the tunnel to be whole again", interval=0.05)
    for host in (INTERNET_IPV4, INTERNET_IPV6):
        wait_for(partial(_through, lab, host), timeout=20, what=f"an answer from {host} through the tunnel")


def _through(lab: Lab, host: str) -> bool:
    """Whether a connection goes through the tunnel; while it is made whole it may be refused, never pass outside."""
    try:
        source = peer_address(lab.network.client, host, timeout=20)
    except LabError:
        return False
    assert source.startswith(("10.88.0.", "fd88:"))
    return True


def _warned(lab: Lab) -> bool:
    status = lab.client.status("work")
    assert status
    assert status["state"] == "connected"
    return any("another program" in warning for warning in status["warnings"])


def _crash(lab: Lab, prefix: str) -> None:
    """A start that repairs, and dies while it connects."""
    started = lab.client.start("failing", prefix=shlex.split(prefix))
    wait_for(lambda: "10.1.0.99" in started.stderr, timeout=20, what="the start elsewhere")
    if "--fork" in prefix:  # then the child is the first process of a namespace of its own
        (child,) = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGKILL)
        started.wait()
    else:
        started.kill()


@pytest.mark.parametrize("what", [*SABOTAGE, *ELSEWHERE])
def test_nothing_leaves_in_the_clear_whatever_others_do(traffic: Lab, what: str) -> None:
    """O18, O19: TCP, UDP, ICMP and DNS, IPv4 and IPv6; zero packets, and afterwards they pass in the tunnel again."""
    action: Callable[[], object] = (
        (lambda: _crash(traffic, ELSEWHERE[what]))
        if what in ELSEWHERE
        else lambda: traffic.network.client.run("sh", "-c", SABOTAGE[what])
    )
    with traffic.capture("connected", expression=EXPRESSION) as capture:
        action()
        _mended(traffic)
    assert _seen(capture) == []
    if what in SABOTAGE:
        wait_for(lambda: _warned(traffic), timeout=20, what="a warning")
    else:
        assert not _warned(traffic)


def test_a_flush_of_the_rules_opens_for_less_than_a_tenth_of_a_second(traffic: Lab) -> None:
    """O18: nothing of ours can stand in its way; systemd-networkd does it when it starts."""
    shortest = float("inf")
    for number in range(TRIES):
        with traffic.capture(f"flush{number}", expression=EXPRESSION) as capture:
            traffic.network.client.run("sh", "-c", f"ip rule flush; ip -6 rule flush; {_MAIN}")
            _mended(traffic)
        times = [time for time, _ in _seen(capture)]
        shortest = min(shortest, times[-1] - times[0] if times else 0.0)
        if shortest < OPEN_FOR:
            break
    assert shortest < OPEN_FOR
