"""Traffic of every kind that could leave a machine past its tunnel, and what of it was seen on the outer link.

Each kind is known by its ports, so that a packet says what sent it. `Traffic` runs in the client, in a guest behind it
(a bridge, as container engines make it) and beside the gateway, which connects to the client. What our own tunnel sends
is named too: a matrix that only counted leaks could hide that nothing was sent at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy

from lab.capture import Capture
from lab.machines import Machine, plug, wait_for
from lab.network import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    GATEWAY_NAME,
    INTERNET_DNS,
    INTERNET_IPV4,
    INTERNET_IPV6,
)
from lab.world import Lab

LOOK_UP = "allowed: the look-up of the gateway's name"
MAIN_RULES = (
    "ip rule add priority 32766 lookup main protocol kernel; ip rule add priority 32767 lookup default protocol kernel;"
    " ip -6 rule add priority 32766 lookup main protocol kernel"
)
EXPRESSION = "not arp"

# The kinds, each with what tells it: the protocol and the port that it goes to. Where it comes from tells nothing: the
# kernel gives any free port, and one of these now and then.
TO = {
    ("tcp", 40002): "TCP, new",
    ("tcp", 40005): "TCP, running",
    ("udp", 40001): "UDP, new",
    ("udp", 40003): "UDP, running",
    ("udp", 40010): "bound to the interface",
    ("udp", 40011): "our mark, elsewhere",
    ("udp", 40012): "another mark",
    ("tcp", 40013): "our mark, TCP to the gateway",
    ("tcp", 443): "TCP 443 of the gateway",
    ("udp", 5353): "multicast DNS",
    ("udp", 40014): "broadcast",
    ("udp", 40020): "forwarded",
}
ANSWER_PORT, LIKE_IKE_PORT = 40030, 45450  # of `Traffic` itself: a listener, and what goes to the gateway's port 4500
ANSWERS, LIKE_IKE = "answers to connections", "UDP 4500 of the gateway"
FAMILIES = {4: "IPv4", 6: "IPv6"}
KINDS = {
    f"{kind}, {family}"
    for family in FAMILIES.values()
    for kind in {*TO.values(), ANSWERS, LIKE_IKE, "ICMP", "DNS of the LAN", "DNS of the Internet"}
    if (kind, family) != ("broadcast", "IPv6")
}
LAN_DNS, PUBLIC_DNS = {GATEWAY_IPV4, GATEWAY_IPV6}, {INTERNET_DNS, INTERNET_IPV6}
NEIGHBOURS = {"131", "132", "133", "134", "135", "136", "143"}  # 134 comes in

_TRAFFIC = r"""
import itertools, json, socket, struct, sys, time

given = json.loads(sys.argv[1])
FAMILIES = {socket.AF_INET: "4", socket.AF_INET6: "6"}
MARK, DEVICE = 36, 25

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff

def attempt(work, *arguments):
    try:
        return work(*arguments)
    except OSError:
        pass

def udp(family, to, *options, port=0):
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        for level, option, value in options:
            sender.setsockopt(level, option, value)
        if port:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt(sender.bind, ("", port))
        attempt(sender.sendto, b"leak?", to)

def tcp(family, to, mark=0):
    stream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    if mark:
        stream.setsockopt(socket.SOL_SOCKET, MARK, mark)
    attempt(stream.connect, to)
    pending.append(stream)

question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06secret\x04corp\x07example\0\0\x01\0\x01"
pending, running, streams, raw, answering = [], {}, {}, {}, []
for family, key in FAMILIES.items():
    host = given["internet" + key]
    raw[family] = socket.socket(family, socket.SOCK_RAW, 1 if key == "4" else 58)
    running[family] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    running[family].connect((host, 40003))
    streams[family] = socket.create_connection((host, 40005), timeout=10)
    attempt(streams[family].setsockopt, socket.IPPROTO_TCP, 44, 1000)  # TCP_RTO_MAX_MS: sent again every second
    attempt(streams[family].setsockopt, socket.IPPROTO_TCP, 18, 600000)  # TCP_USER_TIMEOUT: for ten minutes
    streams[family].setblocking(False)
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if key == "6":
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind(("", given["answers"]))
    listening.listen(64)
    answering.append(listening)
print("ready", flush=True)
wan = given["device"].encode() + b"\0"
for number in itertools.count():
    for family, key in FAMILIES.items():
        host, gateway = given["internet" + key], given["gateway" + key]
        udp(family, (host, 40001))
        attempt(running[family].send, b"leak?")
        attempt(streams[family].send, b"leak?")
        tcp(family, (host, 40002))
        tcp(family, (gateway, 443))
        tcp(family, (gateway, 40013), 0x1ce)
        udp(family, (gateway, 4500), port=given["like ike"])
        bound = (socket.SOL_SOCKET, DEVICE, wan)
        udp(family, (host, 40010), bound)
        udp(family, (host, 40011), (socket.SOL_SOCKET, MARK, 0x1ce))
        udp(family, (host, 40012), (socket.SOL_SOCKET, MARK, 0x77))
        udp(family, ("224.0.0.251" if key == "4" else "ff02::fb", 5353), bound)
        if key == "4":
            udp(family, ("255.255.255.255", 40014), bound, (socket.SOL_SOCKET, socket.SO_BROADCAST, 1))
        for server in given["servers" + key]:
            with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as resolver:
                attempt(resolver.sendto, question, (server, 53))
        echo = struct.pack("!BBHHH", 8 if key == "4" else 128, 0, 0, 0x4242, number & 0xffff) + b"leak"
        if key == "4":
            echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
        attempt(raw[family].sendto, echo, socket.MSG_DONTWAIT, (host, 0))
    for listening in answering:
        while (accepted := attempt(listening.accept)) is not None:
            pending.append(accepted[0])
    while len(pending) > 40:
        pending.pop(0).close()
    time.sleep(0.02)
"""

_GUEST = r"""
import socket, sys, time
while True:
    for family, host in ((socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])):
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(b"leak?", (host, 40020))
            except OSError:
                pass
    time.sleep(0.02)
"""

_OUTSIDE = r"""
import socket, sys, threading, time

def take(family, host):
    listening = socket.create_server((host, 40005), family=family)
    print("ready", flush=True)
    held = []
    while True:
        held.append(listening.accept()[0])
        threading.Thread(target=swallow, args=(held[-1],), daemon=True).start()

def swallow(stream):
    try:
        while stream.recv(65536):
            pass
    except OSError:
        pass

families = (socket.AF_INET, socket.AF_INET6)
for family, host in zip(families, sys.argv[1:3]):
    threading.Thread(target=take, args=(family, host), daemon=True).start()
pending = []
while True:
    for family, client in zip(families, sys.argv[3:5]):
        stream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            stream.connect((client, int(sys.argv[5])))
        except OSError:
            pass
        pending.append(stream)
    while len(pending) > 20:
        pending.pop(0).close()
    time.sleep(0.05)
"""


class Traffic:
    """All kinds of traffic of a lab's client, from now on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        network = lab.network
        outside = (INTERNET_IPV4, INTERNET_IPV6, CLIENT_IPV4, CLIENT_IPV6, str(ANSWER_PORT))
        network.gateway.start(sys.executable, "-c", _OUTSIDE, *outside)
        self.guest = self._make_guest()
        self._watched, self._cable = network.client, "wan"
        with self.capture("control") as control:
            network.client.start(sys.executable, "-c", _TRAFFIC, _given("wan"))
            self.guest.start(sys.executable, "-c", _GUEST, INTERNET_IPV4, INTERNET_IPV6)
            wait_for(self._flows, timeout=60, what="traffic in the clear", interval=0.2)
        seen = self.seen(control)
        assert set(seen) >= KINDS, f"without a tunnel everything is seen, but not {sorted(KINDS - set(seen))}"
        self.control = seen

    def _make_guest(self) -> Machine:
        """A machine behind a bridge of the client, as docker makes it, whose packets the client forwards."""
        client = self.lab.network.client
        guest = self.lab.network.add_machine("guest")
        client.ip("link", "add", "name", "docker0", "type", "bridge")
        plug(client, "port", guest, "eth0")
        client.ip("link", "set", "dev", "port", "master", "docker0")
        client.ip("link", "set", "dev", "docker0", "up")
        for machine, device, host in ((client, "docker0", 1), (guest, "eth0", 2)):
            machine.ip("address", "add", f"172.30.0.{host}/24", "dev", device)
            machine.ip("address", "add", f"fd30::{host}/64", "dev", device, "nodad")
        guest.ip("route", "add", "default", "via", "172.30.0.1")
        guest.ip("-6", "route", "add", "default", "via", "fd30::1")
        client.sysctl("net.ipv4.ip_forward", 1)
        client.sysctl("net.ipv6.conf.all.forwarding", 1)
        return guest

    @contextlib.contextmanager
    def in_guest(self) -> Iterator[Traffic]:
        """The same kinds of traffic of the guest itself, in the block: a container with a network of its own."""
        other = copy(self)
        other._watched, other._cable = self.guest, "eth0"
        for network, way in (("172.30.0.0/24", CLIENT_IPV4), ("fd30::/64", CLIENT_IPV6)):
            self.lab.network.gateway.ip("route", "replace", network, "via", way)
        with other.capture("guest-control", interface="eth0") as control:
            sender = self.guest.start(sys.executable, "-c", _TRAFFIC, _given("eth0"), stdout=subprocess.PIPE)
            assert sender.stdout is not None
            assert sender.stdout.readline() == b"ready\n"
            time.sleep(0.5)
        other.control = other.seen(control)
        missing = {kind for kind in KINDS if not kind.startswith(ANSWERS)} - set(other.control)
        assert not missing, f"without a tunnel everything of the guest is seen, but not {sorted(missing)}"
        try:
            yield other
        finally:
            sender.kill()
            sender.wait(10)
            sender.stdout.close()

    def _flows(self) -> bool:
        """Whether echo requests of both families have reached the gateway for a while."""
        for counter in ("IcmpInEchos", "Icmp6InEchos"):
            words = self.lab.network.gateway.run("nstat", "-asz", counter).stdout.split()
            if int(words[words.index(counter) + 1]) < 25:
                return False
        return True

    def capture(self, name: str, *, interface: str = "wan") -> Capture:
        """Record an outer link of the machine that is looked at."""
        path = self.lab.network.directory / f"{name}.pcap"
        return Capture(self._watched, interface, path, expression=EXPRESSION)

    def seen(self, *captures: Capture) -> Counter[str]:
        """How many packets of each kind left the client."""
        counted: Counter[str] = Counter()
        for capture in captures:
            for packet in capture.packets(_not_incoming(), *_FIELDS):
                counted[kind_of(*packet)] += 1
        return counted

    def leaks(self, *captures: Capture) -> Counter[str]:
        """What left that was neither our own nor what every network needs."""
        return Counter({kind: count for kind, count in self.seen(*captures).items() if not kind.startswith("allowed")})

    def leaks_while(self, name: str, change: Callable[[], object], settled: Callable[[], object]) -> Counter[str]:
        """What leaked from before `change` until a moment after `settled`, by every cable that is there."""
        return self.judge(name, self.watch(name, change, settled))

    def watch(self, name: str, change: Callable[[], object], settled: Callable[[], object]) -> list[Capture]:
        """What was recorded from before `change` until a moment after `settled`; to read it takes longer."""
        with contextlib.ExitStack() as stack:
            captures = [
                stack.enter_context(self.capture(f"{name}-{interface}".replace(" ", "-"), interface=interface))
                for interface in self._interfaces()
            ]
            change()
            wait_for(settled, timeout=300, what=name, interval=0.05)
            time.sleep(0.3)  # for packets that would leak
        return captures

    def judge(self, name: str, captures: list[Capture]) -> Counter[str]:
        """What leaked in a state."""
        seen = self.seen(*captures)
        if path := os.environ.get("LEAKS"):  # `scripts/leaks` makes its table of these lines
            with open(path, "a", encoding="utf-8") as lines:
                print(json.dumps({"state": name, "seen": seen, "control": self.control}), file=lines)
        return Counter({kind: count for kind, count in seen.items() if not kind.startswith("allowed")})

    def _interfaces(self) -> list[str]:
        links = json.loads(self._watched.run("ip", "-j", "link").stdout)
        return [link["ifname"] for link in links if link["ifname"].startswith(self._cable)]

    def moments(self, capture: Capture) -> list[tuple[float, str]]:
        """When packets of which kind left."""
        packets = capture.packets(_not_incoming(), "frame.time_epoch", *_FIELDS)
        return [(float(moment), kind_of(*fields)) for moment, *fields in packets]


def _given(device: str) -> str:
    """What the sender of all kinds has to know."""
    given = {
        "internet4": INTERNET_IPV4,
        "internet6": INTERNET_IPV6,
        "gateway4": GATEWAY_IPV4,
        "gateway6": GATEWAY_IPV6,
        "servers4": [GATEWAY_IPV4, INTERNET_DNS],
        "servers6": [GATEWAY_IPV6, INTERNET_IPV6],
        "device": device,
        "answers": ANSWER_PORT,
        "like ike": LIKE_IKE_PORT,
    }
    return json.dumps(given)


_FIELDS = (
    *("ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "ip.proto", "ipv6.nxt", "tcp.srcport", "tcp.dstport"),
    *("udp.srcport", "udp.dstport", "icmpv6.type", "dns.qry.name"),
)


def allowed_to(address: str) -> str:
    """The kind of our own packets to a gateway's address that is not the lab's."""
    return f"allowed: our IKE and ESP to {address}"


def _not_incoming() -> str:
    theirs = ["10.1.0.1", "10.2.0.1", INTERNET_IPV4, INTERNET_DNS, "10.99.0.0/16"]
    theirs6 = ["fd01::1", "fd02::1", INTERNET_IPV6, "fd99::/64"]
    terms = [*(f"ip.src == {address}" for address in theirs), *(f"ipv6.src == {address}" for address in theirs6)]
    return f"(ip or ipv6) and not ({' or '.join(terms)})"


def kind_of(*fields: str) -> str:
    """The kind of a packet with these `_FIELDS`."""
    # An ICMP error quotes a packet, whose fields then follow.
    source4, _, to4, to6, protocol4, protocol6, tcp_from, tcp_to, udp_from, udp_to, icmp6, name = (
        field.partition(",")[0] for field in fields
    )
    family, to = ("IPv4", to4) if source4 else ("IPv6", to6)
    protocol = protocol4 or protocol6
    layer, to_port = {"6": ("tcp", tcp_to), "17": ("udp", udp_to)}.get(protocol, ("", ""))
    if layer == "tcp" and tcp_from == str(ANSWER_PORT):
        return f"{ANSWERS}, {family}"
    if layer == "udp" and (udp_from, udp_to) == (str(LIKE_IKE_PORT), "4500"):
        return f"{LIKE_IKE}, {family}"
    if to_port and (layer, int(to_port)) in TO:
        return f"{TO[layer, int(to_port)]}, {family}"
    if udp_to == "53":
        if name == GATEWAY_NAME:
            return LOOK_UP
        return f"DNS of the {'LAN' if to in LAN_DNS else 'Internet'}, {family}"
    if udp_to in ("500", "4500") and to in {GATEWAY_IPV4, GATEWAY_IPV6, "10.2.0.1", "fd02::1"}:
        return "allowed: our IKE and ESP to the gateway"
    if udp_to in ("500", "4500"):
        return allowed_to(to)
    if icmp6 in NEIGHBOURS:
        return "allowed: neighbour discovery"
    if protocol in ("1", "58", "0"):
        return f"ICMP, {family}" if protocol != "0" or not icmp6 else "allowed: neighbour discovery"
    return f"protocol {protocol} to {to} {tcp_to or udp_to}, {family}"


def _table(path: str) -> None:
    """Print what the runs have noted: a line for each state, and one for what was sent before there was a tunnel."""
    with open(path, encoding="utf-8") as lines:
        notes = [json.loads(line) for line in lines]
    kinds = [f"{kind} ({count})" for kind, count in sorted(notes[0]["control"].items())] if notes else []
    print(f"Seen without a tunnel, as a control: {'; '.join(kinds)}.\n")
    print("| state | leaked | allowed |\n|---|---|---|")
    for note in notes:
        cells = []
        for allowed in (False, True):
            found = {kind: count for kind, count in note["seen"].items() if kind.startswith("allowed") == allowed}
            cells.append(", ".join(f"{kind.removeprefix('allowed: ')} {count}" for kind, count in found.items()) or "0")
        print(f"| {note['state']} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    _table(sys.argv[1])
