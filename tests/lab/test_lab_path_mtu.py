"""Paths that carry less than their ends believe, with and without a word from the routers on them."""

from __future__ import annotations

import hashlib
import itertools
import re
import subprocess
import time

import pytest
from lab.gateway import Offer
from lab.machines import Machine, Rules, wait_for
from lab.network import CLIENT_IPV4, GATEWAY_IPV4, GATEWAY_IPV6, INSIDE_IPV4, INSIDE_IPV6, Topology
from lab.traffic import fetch, keep_pinging, ping, upload
from lab.world import Lab, MakeLab

ESP_OVERHEAD = 20 + 8 + 8 + 8 + 2 + 16  # IP, UDP, ESP header, IV, trailer, ICV


def narrow(machine: Machine, size: int) -> Rules:
    """Swallow every packet of more than `size` bytes that comes to a machine from outside, without a word."""
    return machine.add_rules(
        "prerouting",
        f'iifname "wan*" ip length > {size} counter drop',
        f'iifname "wan*" ip6 length > {size - 40} counter drop',
        priority=-450,
    )


def path_mtu(lab: Lab) -> int:
    status = lab.status()
    return int(status["path_mtu"])


def converged(lab: Lab, low: int, high: int, *, timeout: float = 40.0) -> int:
    """The size that the search came to, once the client says so."""
    wait_for(lambda: low <= path_mtu(lab) <= high, timeout=timeout, what=f"a path MTU of {low} to {high}", interval=0.2)
    return path_mtu(lab)


def carries_files(lab: Lab, *hosts: str) -> None:
    for host in hosts:
        assert fetch(lab.network.client, host, timeout=20).sha256 == lab.servers.sha256
        assert upload(lab.network.client, host, size=200_000)


def test_a_healthy_path_is_confirmed_with_one_probe(lab: Lab) -> None:
    """RFC 8899: nothing changes, and nothing but one padded message is spent."""
    lab.prepare()
    with lab.capture() as capture:
        lab.client.connect()
        assert ping(lab.network.client, INSIDE_IPV4) == 3
        assert path_mtu(lab) == 1500
    probes = capture.packets(f"ip.src == {CLIENT_IPV4} && ip.len == 1500 && udpencap.non_esp_marker", "ip.flags.df")
    assert [flag in ("1", "True") for (flag,) in probes] == [True]


def test_a_path_that_swallows_large_packets_without_a_word_is_found_out(lab: Lab) -> None:
    """P13: a black hole of 1,337 bytes in both directions; files pass over both families within seconds."""
    holes = [narrow(machine, 1337) for machine in (lab.network.gateway, lab.network.client)]
    lab.connected()
    found = converged(lab, 1333, 1337)
    status = lab.status()
    assert status["mtu"] <= found - ESP_OVERHEAD + 3
    assert holes[0].hits() > 0
    with lab.capture() as capture:
        carries_files(lab, INSIDE_IPV4, INSIDE_IPV6)
        assert ping(lab.network.client, INSIDE_IPV4, size=status["mtu"] - 28, whole=True) == 3
    assert capture.count(f"ip.src == {CLIENT_IPV4} && ip.len > {found} && esp") == 0


def test_a_path_that_becomes_a_black_hole_is_noticed_when_an_upload_stalls(lab: Lab) -> None:
    """P13: no ICMP, no other traffic; the silence behind the upload is the only sign."""
    lab.connected()
    assert path_mtu(lab) == 1500
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    narrow(lab.network.gateway, 1300)
    assert upload(lab.network.client, INSIDE_IPV4, size=300_000, timeout=60)
    assert converged(lab, 1290, 1300) <= 1300


def narrow_both_ways(lab: Lab, size: int) -> None:
    for machine in (lab.network.gateway, lab.network.client):
        narrow(machine, size)


BUFFERS = "4096 32768 65536"  # small ones, so that a file is under way for as long as curl says


@pytest.mark.parametrize("beside", ["alone", pytest.param("beside a ping", marks=pytest.mark.extended)])
@pytest.mark.parametrize(("inside", "size"), [(INSIDE_IPV4, 1300), (INSIDE_IPV6, 1400)])
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_file_under_way_when_the_path_narrows_goes_on_within_ten_seconds(
    lab: Lab, direction: str, inside: str, size: int, beside: str
) -> None:
    """P13, G8: no ICMP from anybody; both ends of a stalled flow hear from us what fits now."""
    lab.connected()
    machine = lab.network.client
    assert path_mtu(lab) == 1500
    for end in (machine, lab.network.gateway):
        end.run("sysctl", "-qw", f"net.ipv4.tcp_rmem={BUFFERS}", f"net.ipv4.tcp_wmem={BUFFERS}")
    if beside != "alone":
        keep_pinging(machine)
    url = f"http://[{inside}]" if ":" in inside else f"http://{inside}"
    upwards = ("-X", "PUT", "-H", "Expect:", "--data-binary", f"@{lab.servers.path}", f"{url}/sink")
    command = ("curl", "-sS", "--limit-rate", "150k", "--max-time", "60")
    command += upwards if direction == "upload" else (f"{url}/blob",)
    with lab.capture("inside", interface="ike0", expression="tcp") as capture:
        transfer = machine.start(*command, stdout=subprocess.PIPE)
        time.sleep(2.0)
        narrow_both_ways(lab, size)
        body, _ = transfer.communicate(timeout=70)
    digest = body.decode() if direction == "upload" else hashlib.sha256(body).hexdigest()
    assert digest == lab.servers.sha256
    assert path_mtu(lab) <= size
    progress = [
        float(at)
        for at, _ in capture.packets("tcp.len > 0 && !tcp.analysis.retransmission", "frame.time_relative", "tcp.seq")
    ]
    assert max(later - earlier for earlier, later in itertools.pairwise(progress)) < 10


@pytest.fixture
def routed(make_lab: MakeLab) -> tuple[Lab, Machine]:
    """A client behind a router, which says so when a packet is too big for its other side."""
    lab = make_lab(Topology(client_nat=True))
    router = lab.network.client_router
    assert router is not None
    lab.prepare()
    return lab, router


def test_a_router_that_says_so_lowers_the_mtu_at_once_and_the_inside_learns_of_it(
    routed: tuple[Lab, Machine],
) -> None:
    """P13, P16: ICMP "fragmentation needed" of the outer path; an upload goes on, and ping hears the inner MTU."""
    lab, router = routed
    lab.client.connect()
    assert path_mtu(lab) == 1500
    router.set_link("wan", mtu=1320)
    lab.network.gateway.set_link("wan", mtu=1320)
    assert upload(lab.network.client, INSIDE_IPV4, size=300_000)
    assert converged(lab, 1316, 1320, timeout=20) == 1320
    status = lab.status()
    inner = status["mtu"]
    assert f" mtu {max(inner, 1280)} " in lab.network.client.run("ip", "-o", "link", "show", status["interface"]).stdout
    told = lab.network.client.run("ping", "-c1", "-W1", "-M", "do", "-s", "1400", INSIDE_IPV4, check=False)
    assert "too long" in told.stdout + told.stderr or "Frag needed" in told.stdout
    # Above the inner MTU and still below the interface's, which IPv6 wants to be 1280: only the tunnel can tell.
    assert inner < 1280
    assert ping(lab.network.client, INSIDE_IPV4, size=inner - 28, whole=True) == 3
    words = ("ping", "-n", "-c1", "-W1", "-M", "do", "-s", str(inner - 27), INSIDE_IPV4)
    told = lab.network.client.run(*words, check=False)
    assert re.search(rf"mtu ?= ?{inner}\b", told.stdout + told.stderr)
    assert ping(lab.network.client, INSIDE_IPV6, size=1280 - 48) == 3
    carries_files(lab, INSIDE_IPV4, INSIDE_IPV6)


def forge_too_big(lab: Lab, mtu: int) -> None:
    """ICMP "fragmentation needed" for the tunnel's own datagrams, from somebody who knows its end points."""
    status = lab.status()
    port = status["local"]["port"]
    program = f"""
import socket, struct
def check(data):
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff
udp = struct.pack('>HHHH', {port}, 4500, 1480, 0) + bytes(8)
quoted = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 1500, 1, 0x4000, 64, 17, 0,
                     socket.inet_aton('{CLIENT_IPV4}'), socket.inet_aton('{GATEWAY_IPV4}')) + udp
icmp = struct.pack('>BBHHH', 3, 4, 0, 0, {mtu}) + quoted
icmp = icmp[:2] + struct.pack('>H', check(icmp)) + icmp[4:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(icmp, ('{CLIENT_IPV4}', 0))
"""
    lab.network.gateway.run("python3", "-c", program)


@pytest.mark.parametrize("mtu", [68, 700])
def test_a_forged_report_does_not_stay(lab: Lab, mtu: int) -> None:
    """P13, N24: one of 68 bytes is ignored, one of 700 is believed until a packet of the former size has passed."""
    connection = lab.connected()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    forge_too_big(lab, mtu)
    if mtu >= 576:
        wait_for(lambda: f"path carries {mtu} bytes" in connection.stderr, timeout=10, what="the report")
    converged(lab, 1500, 1500, timeout=15)
    with lab.capture() as capture:
        carries_files(lab, INSIDE_IPV4)
    assert capture.count(f"ip.src == {CLIENT_IPV4} && (ip.flags.mf == 1 || ip.frag_offset > 0)") == 0
    assert capture.count(f"ip.src == {CLIENT_IPV4} && ip.len > 1400") > 10


@pytest.mark.waits
def test_an_ipv6_path_that_swallows_large_packets_is_found_out(lab: Lab) -> None:
    """P13: down to what IPv6 promises. A liveness check, whose answer confirms the path, does not begin anew."""
    narrow(lab.network.gateway, 1290)
    lab.connected(Offer(), gateway={"address": GATEWAY_IPV6})
    converged(lab, 1280, 1290)
    carries_files(lab, INSIDE_IPV4, INSIDE_IPV6)
    lab.network.gateway.add_rules("input", "icmp type echo-request drop")
    keep_pinging(lab.network.client, interval=0.5)  # in vain, until the lab closes
    lab.gateway.wait_for_log(r"parsed INFORMATIONAL request \d+ \[ N\(NATD", timeout=40)  # after the search
    assert 1280 <= path_mtu(lab) <= 1290


def test_a_stated_mtu_is_not_second_guessed(lab: Lab) -> None:
    lab.prepare(network={"mtu": 1300})
    with lab.capture() as capture:
        lab.client.connect()
        assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert capture.count(f"ip.src == {CLIENT_IPV4} && ip.len >= 1480") == 0
