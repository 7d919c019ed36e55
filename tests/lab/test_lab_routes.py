"""What enters the tunnel and what stays outside, proven by what is on the wire and by the address a server saw."""

from __future__ import annotations

import signal
import struct
from ipaddress import ip_address

import pytest
from lab.capture import Capture
from lab.forger import Forger, echo_request, icmpv6, redirect, router_advertisement
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import (
    CLIENT_IPV4,
    CLIENT_IPV6,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_DNS,
    INSIDE_IPV4,
    INSIDE_IPV6,
    INTERNET_DNS,
    INTERNET_IPV4,
    INTERNET_IPV6,
    SECOND_CLIENT_IPV4,
    SECOND_GATEWAY_IPV4,
)
from lab.traffic import fetch, peer_address, ping, reaches
from lab.world import Lab

EVERYTHING = ("0.0.0.0/0", "::/0")
# All IP packets on a cable except the tunnel's own and those by which neighbours find each other.
IN_THE_CLEAR = "(ip or ipv6) and not udp.port in {500, 4500} and not icmpv6.type in {130..143}"


def full_tunnel(lab: Lab, **network: object) -> None:
    """A gateway that grants everything and a profile that wants it."""
    lab.prepare(Offer(local_ts=EVERYTHING), network={"routes": "all", **network})


def in_tunnel(address: str) -> bool:
    """Whether a server that saw this address was reached through the tunnel."""
    return address.startswith(("10.88.0.", "fd88::"))


def inner_address(lab: Lab, version: int = 4) -> str:
    """Our address in the tunnel."""
    status = lab.status()
    return next(a.split("/")[0] for a in status["addresses"] if ip_address(a.split("/")[0]).version == version)


def in_the_clear(capture: Capture) -> list[tuple[str, ...]]:
    return capture.packets(IN_THE_CLEAR, "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "_ws.col.Info")


def test_only_what_the_gateway_grants_enters_a_split_tunnel(lab: Lab) -> None:
    lab.connected()
    machine = lab.network.client
    with lab.capture() as capture:
        inside = [peer_address(machine, host) for host in (INSIDE_IPV4, INSIDE_IPV6, INSIDE_DNS)]
        outside = [peer_address(machine, host) for host in (INTERNET_IPV4, INTERNET_IPV6, GATEWAY_IPV4)]
    assert all(map(in_tunnel, inside))
    assert outside == [CLIENT_IPV4, CLIENT_IPV6, CLIENT_IPV4]
    assert capture.count(f"tcp and ip.addr == {INTERNET_IPV4}") > 0
    assert capture.count("(ip.addr == 10.99.0.0/24 or ipv6.addr == fd99::/64) and tcp") == 0


def test_listed_routes_take_only_what_they_list(lab: Lab) -> None:
    lab.connected(network={"routes": [f"{INSIDE_IPV4}/32"]})
    machine = lab.network.client
    status = lab.status()
    assert status["routes"] == [f"{INSIDE_IPV4}/32"]
    assert status["children"][0]["remote_ts"] == [f"{INSIDE_IPV4}/32"]
    with lab.capture() as capture:
        assert in_tunnel(peer_address(machine, INSIDE_IPV4))
        assert not reaches(machine, INSIDE_DNS)
        assert not reaches(machine, INSIDE_IPV6)
        assert peer_address(machine, INTERNET_IPV4) == CLIENT_IPV4
    assert capture.count(f"tcp and ip.dst == {INSIDE_DNS}") > 0
    assert capture.count(f"tcp and ipv6.dst == {INSIDE_IPV6}") > 0
    assert capture.count(f"tcp and ip.addr == {INSIDE_IPV4}") == 0


def test_nothing_but_the_tunnel_is_on_the_wire_of_a_full_tunnel(lab: Lab) -> None:
    """O5, O6: neither routes of DHCP option 121 nor a LAN that claims public addresses pull anything out."""
    full_tunnel(lab)
    lab.client.connect()
    machine = lab.network.client
    for route in (f"{INTERNET_IPV4}/32", "0.0.0.0/1", "128.0.0.0/1", "203.0.113.0/24"):
        machine.ip("route", "add", route, "via", GATEWAY_IPV4, "proto", "dhcp")
    for route in (f"{INTERNET_IPV6}/128", "::/1", "8000::/1"):
        machine.ip("-6", "route", "add", route, "via", GATEWAY_IPV6, "proto", "ra")
    machine.ip("address", "add", "203.0.113.77/24", "dev", "wan")
    hosts = (INTERNET_IPV4, INTERNET_IPV6, INTERNET_DNS, INSIDE_IPV4, INSIDE_IPV6, GATEWAY_IPV4, GATEWAY_IPV6)
    with lab.capture() as capture:
        seen = {host: peer_address(machine, host) for host in hosts}
        assert ping(machine, INTERNET_IPV4) == 3
        assert fetch(machine, INTERNET_IPV4).sha256 == lab.servers.sha256
    assert all(map(in_tunnel, seen.values())), seen
    assert capture.count("esp") > 100
    assert in_the_clear(capture) == []


def test_excluded_networks_stay_outside_a_full_tunnel(lab: Lab) -> None:
    """F5: an exclusion with host bits and one inside another mean what they say."""
    lab.network.add_second_path()
    full_tunnel(lab, exclude=["203.0.113.9/25", "lan"])
    connection = lab.client.connect()
    machine = lab.network.client
    assert "203.0.113.0/25" in connection.stderr
    assert peer_address(machine, INTERNET_IPV4) == CLIENT_IPV4
    assert peer_address(machine, GATEWAY_IPV4) == CLIENT_IPV4
    assert peer_address(machine, GATEWAY_IPV6) == CLIENT_IPV6
    assert peer_address(machine, SECOND_GATEWAY_IPV4) == SECOND_CLIENT_IPV4
    assert in_tunnel(peer_address(machine, INTERNET_IPV6))
    assert in_tunnel(peer_address(machine, INSIDE_IPV4))


def test_a_full_tunnel_takes_the_lan_unless_it_is_excluded(lab: Lab) -> None:
    lab.network.add_second_path()
    full_tunnel(lab)
    lab.client.connect()
    assert in_tunnel(peer_address(lab.network.client, SECOND_GATEWAY_IPV4))


@pytest.mark.parametrize("there_before", [True, False])
def test_an_ipv4_only_full_tunnel_blocks_ipv6(lab: Lab, there_before: bool) -> None:
    """O7: the family that the tunnel does not carry does not leave beside it, also when its route comes later."""
    machine = lab.network.client
    if not there_before:
        machine.ip("-6", "route", "del", "default")
    lab.connected(Offer(local_ts=EVERYTHING, pools=("p4",)), network={"routes": "all"})
    if not there_before:
        machine.ip("-6", "route", "add", "default", "via", GATEWAY_IPV6, "proto", "ra", "metric", "1024")
        machine.ip("-6", "route", "add", "2001:db8:113::/64", "via", GATEWAY_IPV6, "proto", "ra")
    with lab.capture() as capture:
        assert in_tunnel(peer_address(machine, INTERNET_IPV4))
        assert not reaches(machine, INTERNET_IPV6)
        assert not reaches(machine, INSIDE_IPV6)
        assert ping(machine, INTERNET_IPV6, timeout=0.2) == 0
    assert in_the_clear(capture) == []


def test_everything_but_a_part_granted_is_blocked_when_everything_was_wanted(lab: Lab) -> None:
    """K11: a gateway that narrows "all" to one network does not send the rest into the open."""
    lab.connected(network={"routes": "all"})
    machine = lab.network.client
    with lab.capture() as capture:
        assert in_tunnel(peer_address(machine, INSIDE_IPV4))
        assert not reaches(machine, INTERNET_IPV4)
        assert not reaches(machine, INTERNET_IPV6)
    assert in_the_clear(capture) == []


SERVER = """
import socket
with socket.create_server(("", 8080)) as server:
    while True:
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello")
"""


def _attack_from_outside(attacker: Machine, victim: str) -> None:
    """Send packets for an inner address over the outer cable: ping, a SYN to an open port, and an ARP request."""
    attacker.ip("rule", "add", "oif", "wan", "lookup", "99", "priority", "50")
    attacker.ip("route", "add", victim, "via", CLIENT_IPV4, "dev", "wan", "table", "99")
    bound = ("-I", "wan", "-n", "-c", "3", "-i", "0.05", "-W", "0.2")
    attacker.run("ping", *bound, victim, check=False)
    attacker.run("curl", "-s", "--interface", "wan", "--max-time", "0.5", f"http://{victim}:8080/", check=False)
    attacker.ip("route", "replace", victim, "dev", "wan", "table", "99")
    attacker.run("ping", *bound, victim, check=False)


@pytest.mark.parametrize("full", [False, True])
def test_the_inner_address_does_not_answer_on_the_outside(lab: Lab, full: bool) -> None:
    """O8 (CVE-2019-14899): packets for the inner address that come over the cable get no answer, in no form."""
    lab.connected(Offer(local_ts=EVERYTHING) if full else None)
    machine, victim = lab.network.client, inner_address(lab)
    machine.start("python3", "-c", SERVER)
    wait_for(lambda: machine.run("ss", "-Hltn", "sport = 8080").stdout, timeout=10, what="a server on the client")
    reached = ("curl", "-s", "--interface", INSIDE_IPV4, "--max-time", "5", f"http://{victim}:8080/")
    assert lab.network.gateway.run(*reached).stdout == "hello"
    with lab.capture() as capture:
        _attack_from_outside(lab.network.gateway, victim)
    assert capture.count(f"icmp.type == 8 and ip.dst == {victim}") >= 3
    assert capture.count(f"tcp.flags.syn == 1 and ip.dst == {victim}") >= 1
    assert capture.count(f"arp.opcode == 1 and arp.dst.proto_ipv4 == {victim}") >= 1
    assert capture.count(f"arp.opcode == 2 and arp.src.proto_ipv4 == {victim}") == 0
    assert capture.count(f"ip.src == {victim}") == 0
    assert capture.count(f"esp and ip.src == {CLIENT_IPV4}") == 0


def largest_from_the_gateway(capture: Capture) -> int:
    """The longest IP packet in bytes. Ours may be seen before they are cut to size, which an offload does late."""
    return max(int(size) for (size,) in capture.packets(f"ip.src == {GATEWAY_IPV4}", "ip.len"))


def test_the_interface_carries_exactly_its_mtu_and_segments_fit(lab: Lab) -> None:
    """P13: the largest packet passes whole, one byte more is refused at once, and both ends learn the segment size."""
    lab.network.set_path_mtu(1400)
    lab.connected()
    machine = lab.network.client
    status = lab.status()
    mtu, interface = status["mtu"], status["interface"]
    assert f" mtu {mtu} " in machine.run("ip", "-o", "link", "show", interface).stdout
    with lab.capture() as wire, lab.capture("inner", interface=interface) as inner:
        assert ping(machine, INSIDE_IPV4, size=mtu - 28, whole=True) == 3
        assert ping(machine, INSIDE_IPV4, size=mtu - 27, whole=True, timeout=0.2) == 0
        assert fetch(machine, INSIDE_IPV4).sha256 == lab.servers.sha256
        assert fetch(machine, INSIDE_IPV6).sha256 == lab.servers.sha256
    assert largest_from_the_gateway(wire) <= 1400
    assert wire.count("ip.flags.mf == 1 or ip.frag_offset > 0") == 0
    sizes = {int(size) for (size,) in inner.packets("tcp.flags.syn == 1 and ip", "tcp.options.mss_val")}
    assert max(sizes) <= mtu - 40
    sizes = {int(size) for (size,) in inner.packets("tcp.flags.syn == 1 and ipv6", "tcp.options.mss_val")}
    assert max(sizes) <= mtu - 60


def test_the_mtu_of_the_profile_is_used_and_clamps_the_other_end(lab: Lab) -> None:
    lab.connected(network={"mtu": 1290})
    status = lab.status()
    assert status["mtu"] == 1290
    with lab.capture("inner", interface=status["interface"]) as inner, lab.capture() as wire:
        assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert inner.packets("tcp.flags.syn == 1", "tcp.options.mss_val") == [("1250",), ("1250",)]
    assert largest_from_the_gateway(wire) == 20 + 8 + 8 + 8 + (1290 + 2) + 16  # IP, UDP, ESP, IV, trailer, ICV


@pytest.mark.parametrize(("value", "pool", "host"), [(1, "p4", INTERNET_IPV4), (2, "p6", INTERNET_IPV6)])
def test_a_full_tunnel_works_behind_reverse_path_filters(lab: Lab, value: int, pool: str, host: str) -> None:
    """The gateway's packets pass a strict filter, and a loose one even where its own family is blocked."""
    machine = lab.network.client
    for interface in ("all", "default", "wan"):
        machine.sysctl(f"net.ipv4.conf.{interface}.rp_filter", value)
    lab.connected(Offer(local_ts=EVERYTHING, pools=(pool,)), network={"routes": "all"})
    assert in_tunnel(peer_address(machine, host))
    assert fetch(machine, host).sha256 == lab.servers.sha256
    assert not reaches(machine, INTERNET_IPV6 if pool == "p4" else INTERNET_IPV4)
    lab.gateway.rekey(child="net")
    wait_for(lambda: _rekeys(lab) == 1, timeout=10, what="the new Child SA")
    assert ping(machine, host) == 3


def _rekeys(lab: Lab) -> int:
    status = lab.status()
    return int(status["children"][0]["rekeys"])


def test_a_route_that_covers_the_gateway_does_not_loop(lab: Lab) -> None:
    """P15, F5: the gateway's own address lies in the tunnel for everybody but the tunnel itself."""
    networks = ["10.1.0.0/24", "10.99.0.0/24"]
    lab.connected(Offer(local_ts=networks), network={"routes": networks})
    machine = lab.network.client
    with lab.capture() as capture:
        assert in_tunnel(peer_address(machine, GATEWAY_IPV4))
        assert fetch(machine, GATEWAY_IPV4).sha256 == lab.servers.sha256
        assert ping(machine, GATEWAY_IPV4) == 3
    assert in_the_clear(capture) == []
    assert 100 < capture.count("esp") < 5000


def test_only_what_belongs_to_the_tunnel_comes_out_of_it(lab: Lab) -> None:
    """P1, P2, P3, P6, P7: forged, replayed, misaddressed and malformed packets never reach the machine."""
    lab.prepare()
    (lab.client.directory / "keys").mkdir()
    lab.client.connect("work", "--insecure-keylog", str(lab.client.directory / "keys"))
    ours, forger = inner_address(lab), Forger(lab)
    genuine = forger.seal(echo_request(INSIDE_IPV4, ours))
    foreign = [INTERNET_IPV4, "127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", ours, CLIENT_IPV4, "10.88.0.99"]
    wrong = [forger.seal(echo_request(source, ours)) for source in foreign]
    wrong += [forger.seal(echo_request(INSIDE_IPV4, other)) for other in ("10.88.0.77", CLIENT_IPV4, "127.0.0.1")]
    wrong += [forger.seal(echo_request(INSIDE_IPV4, ours), next_header=number) for number in (41, 0, 59)]
    wrong += [forger.seal(echo_request(INSIDE_IPV4, ours)[:-1])]
    damaged = forger.seal(echo_request(INSIDE_IPV4, ours))
    wrong += [damaged[:-1] + bytes((damaged[-1] ^ 1,)), genuine, genuine[:7], bytes((0, 0, 0, 9)) + genuine[4:]]
    with lab.capture("inner", interface="ike0") as inner, lab.capture() as wire:
        forger.send([genuine, *wrong])
        assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert inner.packets("icmp.type == 8 and icmp.ident == 1", "ip.src") == [(INSIDE_IPV4,)]
    assert wire.count(f"udp.srcport == 4500 and ip.src == {GATEWAY_IPV4}") >= len(wrong) + 4
    status = lab.status()
    assert (status["children"][0]["auth_failures"], status["children"][0]["replays"]) == (1, 1)


def test_the_gateway_is_no_neighbour_on_a_link(lab: Lab) -> None:
    """P17: router advertisements, redirects and link-local packets do not come out of the tunnel, whoever asks."""
    full_tunnel(lab)
    (lab.client.directory / "keys").mkdir()
    lab.client.connect("work", "--insecure-keylog", str(lab.client.directory / "keys"))
    machine, ours, forger = lab.network.client, inner_address(lab), Forger(lab)
    ours6 = inner_address(lab, 6)
    echo = icmpv6(INSIDE_IPV6, ours6, struct.pack(">BBHHH", 128, 0, 0, 7, 1))
    evil6 = [
        router_advertisement("fe80::1", ours6, "2001:db8:bad::"),
        router_advertisement("fe80::1", "ff02::1", "2001:db8:bad::"),
        router_advertisement(INSIDE_IPV6, ours6, "2001:db8:bad::"),
        icmpv6("fe80::1", ours6, struct.pack(">BBHI", 137, 0, 0, 0) + bytes(32)),
        icmpv6(INSIDE_IPV6, ours6, struct.pack(">BBHI", 136, 0, 0, 0xE0000000) + bytes(16)),
        icmpv6("fe80::1", ours6, struct.pack(">BBHHH", 128, 0, 0, 7, 2)),
    ]
    evil4 = [redirect(source, ours, "10.1.0.66", INTERNET_IPV4) for source in (INSIDE_IPV4, "10.99.0.1")]
    evil4 += [echo_request("169.254.3.3", ours)]
    before = machine.run("ip", "-6", "route", "show", "table", "all").stdout
    with lab.capture("inner", interface="ike0") as inner:
        forger.send([forger.seal(packet, next_header=41) for packet in (*evil6, echo)])
        forger.send([forger.seal(packet) for packet in (*evil4, echo_request(INSIDE_IPV4, ours))])
        assert ping(machine, INSIDE_IPV4) == 3
    assert inner.count("icmpv6.type == 128 and icmpv6.echo.identifier == 7") == 1
    assert inner.packets("icmp.type == 8 and icmp.ident == 1", "ip.src") == [(INSIDE_IPV4,)]
    assert inner.count("icmpv6.type in {134, 136, 137} or icmp.type == 5") == 0
    assert machine.run("ip", "-6", "route", "show", "table", "all").stdout == before
    status = lab.status()
    assert status["children"][0]["selector_drops"] == len(evil4) + len(evil6)


@pytest.mark.waits
def test_nothing_leaks_while_the_gateway_is_dead(lab: Lab) -> None:
    """S5, S14: routes and device stay while a full tunnel is without its gateway, until it is back."""
    full_tunnel(lab)
    connection = lab.client.connect()
    machine = lab.network.client
    before = lab.client.traces()
    pings = [machine.start("ping", "-n", "-i", "0.1", host) for host in (INTERNET_IPV4, INTERNET_IPV6, INSIDE_IPV4)]
    with lab.capture() as capture:
        lab.gateway.kill()
        assert not reaches(machine, INTERNET_IPV4)
        wait_for(lambda: "reconnecting" in connection.stderr, timeout=30, what="the loss to be noticed")
        status = lab.status()
        assert status["state"] == "reconnecting"
        assert not reaches(machine, INTERNET_IPV4)
        assert not reaches(machine, INTERNET_IPV6)
        assert lab.client.traces() == before
        lab.gateway.restart()
        lab.client.wait_state("connected", timeout=20)
        assert in_tunnel(peer_address(machine, INTERNET_IPV4))
    for process in pings:
        process.send_signal(signal.SIGINT)
    assert capture.count("esp") > 20
    assert in_the_clear(capture) == []


def test_two_tunnels_do_not_disturb_each_other(lab: Lab) -> None:
    lab.gateway.serve(Offer(unique="never"))
    lab.client.write_profile(lab.gateway, {"network": {"routes": [f"{INSIDE_IPV4}/32"]}}, name="one")
    lab.client.write_profile(lab.gateway, {"network": {"routes": [f"{INSIDE_DNS}/32"]}}, name="two")
    machine = lab.network.client
    before = lab.client.traces()
    lab.client.connect("one")
    alone = lab.client.traces()
    lab.client.connect("two")
    addresses = [peer_address(machine, host) for host in (INSIDE_IPV4, INSIDE_DNS)]
    assert all(map(in_tunnel, addresses))
    assert addresses[0] != addresses[1]
    lab.client.disconnect("two")
    assert lab.client.traces() == alone
    assert peer_address(machine, INSIDE_IPV4) == addresses[0]
    lab.client.disconnect("one")
    assert lab.client.traces() == before
