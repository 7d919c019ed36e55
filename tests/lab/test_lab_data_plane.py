"""The data plane against a real gateway: marks on the wire, the switch for the fast lane, and a flood of junk."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from lab.client import Cpu
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import CLIENT_IPV4, GATEWAY_IPV4, INSIDE_IPV4, INSIDE_IPV6
from lab.traffic import fetch, ping, upload
from lab.world import Lab

from ikeclient.dataplane.children import MARKS_IGNORED
from ikeclient.esp.packet.ecn import MEANINGLESS_AFTER

LANES = ["auto", "off"]


def connect(lab: Lab, lane: str, **session: object) -> dict[str, Any]:
    lab.connected(session={"offload": lane, **session})
    return lab.status()


@pytest.mark.parametrize("lane", LANES)
def test_the_fast_lane_can_be_switched_off_and_status_says_so(lab: Lab, lane: str) -> None:
    status = connect(lab, lane)
    assert status["offload"]["fast"] == (lane == "auto")
    for host in (INSIDE_IPV4, INSIDE_IPV6):
        assert fetch(lab.network.client, host).sha256 == lab.servers.sha256
        assert upload(lab.network.client, host)
    [child] = lab.status()["children"]
    assert (child["replays"], child["auth_failures"]) == (0, 0)


@pytest.mark.parametrize("lane", LANES)
def test_dscp_and_ecn_of_the_inside_are_on_the_outside(lab: Lab, lane: str) -> None:
    """RFC 2983 section 3 (the uniform model) and RFC 6040 section 4.1 (normal mode), in both lanes, on the wire."""
    connect(lab, lane)
    octets = (0x00, 0xB8, 0x28 | 2, 0x02, 0x01, 0x03)
    with lab.capture() as capture:
        for octet in octets:
            for host in (INSIDE_IPV4, INSIDE_IPV6):
                assert ping(lab.network.client, host, octet=octet)
        assert upload(lab.network.client, INSIDE_IPV4)
    seen = [int(value, 0) for (value,) in capture.packets(f"ip.src == {CLIENT_IPV4} && esp", "ip.dsfield")]
    for octet in octets:
        assert seen.count(octet) >= 6, hex(octet)
    assert set(seen) <= {*octets, 0x10}


@pytest.mark.parametrize("lane", LANES)
def test_congestion_on_the_path_reaches_the_inside(lab: Lab, lane: str) -> None:
    """P16, RFC 6040 section 4.2: CE is passed on to who understands it, and is a loss for who does not."""
    status = connect(lab, lane)
    lab.network.client.add_rules("prerouting", "udp sport 4500 ip ecn set ce", priority=-450)
    with lab.capture("inner", interface=status["interface"]) as inner:
        assert ping(lab.network.client, INSIDE_IPV4, octet=0xB8 | 2) == 3
        assert ping(lab.network.client, INSIDE_IPV4, octet=0xB8 | 1) == 3
        assert ping(lab.network.client, INSIDE_IPV4, octet=0xB8) == 0
    replies = [int(value, 0) for (value,) in inner.packets("icmp.type == 0", "ip.dsfield")]
    assert replies == [0xB8 | 3] * 6
    assert inner.count("icmp.type == 0 && ip.checksum.status == 0") == 0


@pytest.mark.parametrize("lane", LANES)
def test_a_path_that_marks_everything_carries_packets(lab: Lab, lane: str) -> None:
    """P16: some boxes set both low bits of every TOS octet; that is counted, told, and otherwise ignored."""
    status = connect(lab, lane)
    machine = lab.network.client
    assert ping(machine, INSIDE_IPV4) == 3  # nothing is under way after it, as the end of a file may be
    machine.add_rules("prerouting", "udp sport 4500 ip ecn set ce", priority=-450)
    before = status["children"][0]["congested"]
    assert before == 0
    assert ping(machine, INSIDE_IPV4, octet=0, count=MEANINGLESS_AFTER + 5) == 5
    assert fetch(machine, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert upload(machine, INSIDE_IPV4)
    status = lab.status()
    assert status["children"][0]["congested"] == MEANINGLESS_AFTER
    assert [text for text in status["warnings"] if "ECN" in text] == [MARKS_IGNORED]


@pytest.mark.parametrize("lane", LANES)
def test_the_last_hop_of_the_inside_is_not_that_of_the_outside(lab: Lab, lane: str) -> None:
    """P16: a TTL of 1 lasts through the tunnel in both directions, and is not what routers on the path count down."""
    connect(lab, lane)
    machine, gateway = lab.network.client, lab.network.gateway
    with lab.capture() as wire:
        for host in (INSIDE_IPV4, INSIDE_IPV6):
            assert ping(machine, host, hops=1) == 3
        gateway.run("sysctl", "-qw", "net.ipv4.ip_default_ttl=1")
        assert ping(machine, INSIDE_IPV4) == 3  # answers with a TTL of 1
    outer = {int(ttl) for (ttl,) in wire.packets(f"ip.src == {CLIENT_IPV4} && esp", "ip.ttl")}
    assert outer == {64}


FLOOD = """
import os, signal, socket, struct, sys, time
address, port, kind, rate, spis = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
def ike(spis, first, exchange, flags, message_id, body):
    return bytes(4) + spis + struct.pack(">BBBBII", first, 0x20, exchange, flags, message_id, 28 + len(body)) + body
chain = struct.pack(">BxH", 43, 4) * 249 + struct.pack(">BxH", 0, 4)
transforms = struct.pack(">BxHBxH", 3, 8, 1, 12) * 175 + struct.pack(">BxHBxH", 0, 8, 1, 12)
proposal = struct.pack(">BxHBBBB", 0, 8 + len(transforms), 1, 1, 0, 176) + transforms
wide = struct.pack(">BxH", 0, 4 + len(proposal)) + proposal
def sealed():
    return struct.pack(">BxH", 0, 72) + os.urandom(68)
make = {
    "noise": lambda n: os.urandom(100),
    "sealed": lambda n: ike(os.urandom(16), 46, 37, (0x00, 0x20)[n % 2], n % 5, sealed()),
    "chains": lambda n: ike(os.urandom(16), 43, 37, 0x20, n % 5, chain),
    "transforms": lambda n: ike(os.urandom(16), 33, 34, 0x20, 0, wide),
    "our SPIs": lambda n: ike(bytes.fromhex(spis), 46, 37, (0x00, 0x20)[n % 2], n % 8, sealed()),
    "chains with our SPIs": lambda n: ike(bytes.fromhex(spis), 43, 37, 0x20, n % 5, chain),
}[kind]
size = len(make(0))
count = min(64, 60000 // size)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, size)
stop, sent, turn, told = [], 0, 0, False
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
runs = [b"".join(make(n) for n in range(count)) for _ in range(50)]
due = time.monotonic()
while not stop:
    now = time.monotonic()
    s.sendto(runs[turn % 50], (address, port))
    turn, sent = turn + 1, sent + count
    if sent >= 10_000 and not told:
        told = True
        print("this is a flood", flush=True)
    due = max(due + count / rate, now - 0.02)
    time.sleep(max(0.0, due - time.monotonic()))
print(sent)
"""
# What is sent, and how many in a second. Who knows the SPIs watches the path.
KINDS = {
    "noise": 100_000,
    "sealed": 50_000,
    "chains": 10_000,
    "transforms": 5_000,
    "our SPIs": 5_000,
    "chains with our SPIs": 5_000,
}
STRANGERS = ("noise", "sealed", "chains", "transforms")
DATAGRAM = 60e-6  # seconds of CPU: a generous multiple of what one costs, and a tenth of reading all its payloads


def rekeys(lab: Lab) -> int:
    status = lab.status()
    return int(status["children"][0]["rekeys"] + status["ike"]["rekeys"]) if status["children"] else 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_of_junk_leaves_liveness_and_rekeys_alive(lab: Lab, kind: str) -> None:
    """P14, N3, N27: thousands of datagrams a second at the tunnel's own port; what each costs is bounded."""
    connection = lab.connected(Offer(connection={"dpd_delay": "2s"}), session={"liveness": 5})
    status = lab.status()
    port, answered, started = str(status["local"]["port"]), 0, time.monotonic()
    spis = status["ike"]["spi_i"] + status["ike"]["spi_r"]
    before = Cpu.of(connection.process.pid).total
    # A polite process, so that it is the datagrams that are withstood, and not the lack of a processor.
    words = ("nice", "-n", "5", "python3", "-c", FLOOD, CLIENT_IPV4, port, kind, str(KINDS[kind]), spis)
    flood = lab.network.gateway.start(*words, stdout=subprocess.PIPE)
    assert flood.stdout is not None
    assert flood.stdout.readline() == b"this is a flood\n"
    for turn in range(1, 4):
        # The IKE SA last, because its SPIs are known.
        lab.gateway.rekey(**({"ike": "rw"} if turn == 3 else {"child": "net"}))
        wait_for(lambda turn=turn: rekeys(lab) >= turn, timeout=60, what="a rekey in a flood")  # type: ignore[misc]
        answered += ping(lab.network.client, INSIDE_IPV4, count=5, interval=0.1, timeout=0.5)
    flood.terminate()
    seconds = time.monotonic() - started
    sent = int(flood.communicate(timeout=30)[0])
    used = Cpu.of(connection.process.pid).total - before
    print(f"{sent / seconds:,.0f} datagrams/s, {used:.1f} s of CPU in {seconds:.1f} s, {answered} pings answered")
    status = lab.client.wait_state("connected", timeout=15)
    assert status["reconnects"] == 0
    assert answered > 0
    if kind in STRANGERS:
        counted = status["drops"]["unknown_spi" if kind == "noise" else "unknown_ike"]
        assert counted > 0.05 * sent
        assert used - 1.0 < counted * DATAGRAM  # a second for everything else
    wait_for(lambda: ping(lab.network.client, INSIDE_IPV4) == 3, timeout=10, what="quiet again")
    assert lab.client.run("status", "--check", "up").returncode == 0
    assert status["gateway"]["address"] == GATEWAY_IPV4
