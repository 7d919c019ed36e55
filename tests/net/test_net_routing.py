"""The routing of a tunnel in real network namespaces: what goes in, what stays out, what is given back."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from net_lab import FULL, FULL_V4, MARK, SPLIT, UNREACHABLE, Lan, device, inside, sh, state, tun, way

from ikeclient.errors import PlatformError
from ikeclient.net.machine.machine import Machine
from ikeclient.net.model import MachineConfig

pytestmark = pytest.mark.lab


@inside
def test_a_full_tunnel_takes_everything_but_marked_packets(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    Machine(state_dir, "work").apply(FULL)
    assert way("8.8.8.8").startswith("8.8.8.8 dev ike0 table 7400 src 10.88.0.1")
    assert "dev ike0 table 7400 proto kernel src fd88::1" in way("2001:db8:ffff::7")
    assert device("192.0.2.1") == "ike0"
    for marked in ("8.8.8.8", "203.0.113.7", "192.0.2.1", "2001:db8:ffff::7"):
        assert device(marked, "mark", hex(MARK)) == "v0"
    assert "mtu 1400" in sh("ip link show dev ike0")
    # Neighbour discovery, DHCPv6 and router solicitations name their interface and still reach the LAN.
    assert device("fe80::1", "oif", "v0") == device("ff02::2", "oif", "v0") == "v0"


@inside
def test_a_split_tunnel_takes_only_its_networks(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    Machine(state_dir, "work").apply(SPLIT)
    assert device("10.99.0.53") == device("fd99::53") == "ike0"
    assert device("8.8.8.8") == device("10.99.1.1") == device("2001:db8:ffff::7") == "v0"


@inside
def test_a_default_route_that_names_no_interface_does_not_lead_into_the_tunnel(lan: Lan, state_dir: Path) -> None:
    """The kernel looks for the next hop's interface by our rule, too; so do a person and some DHCP clients."""
    _ike0 = tun()
    machine = Machine(state_dir, "work")
    before = state()
    machine.apply(FULL)
    sh("ip route replace default via 192.0.2.1")
    sh("ip -6 route replace default via 2001:db8::1")
    assert "dev v0" in sh("ip route show default")
    assert "dev v0" in sh("ip -6 route show default")
    assert device("203.0.113.7", "mark", hex(MARK)) == "v0"
    sh("ip address delete 192.0.2.10/24 dev v0")  # and no network is left that has the router
    assert "Nexthop has invalid gateway" in sh("ip route replace default via 192.0.2.1 2>&1", check=False)
    sh("ip address add 192.0.2.10/24 dev v0; ip route replace default via 192.0.2.1")
    machine.revert()
    assert state() == before


@inside
def test_a_tunnel_that_no_packet_would_enter_is_refused_and_undone(lan: Lan, state_dir: Path) -> None:
    """K22: rules of others may come before ours. That every step was taken does not make a tunnel."""
    _ike0 = tun()
    sh("ip rule add priority 100 lookup main; ip -6 rule add priority 100 lookup main")
    before = state()
    machine = Machine(state_dir, "work")
    for config in (FULL, SPLIT):
        with pytest.raises(PlatformError, match="nothing leads into") as caught:
            machine.apply(config)
        assert "ip route get" in str(caught.value.hint)
        assert state() == before
    sh("ip -6 rule delete priority 100")
    machine.apply(FULL)
    assert [text for text in machine.warnings if "no IPv4 traffic" in text]
    sh("ip rule delete priority 100")
    machine.apply(FULL)
    assert machine.warnings == []
    machine.revert()


@inside
def test_everything_excluded_is_no_tunnel(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    before = state()
    with pytest.raises(PlatformError, match="nothing leads into") as caught:
        Machine(state_dir, "work").apply(replace(SPLIT, exclude=FULL.routes))
    assert "exclude" in str(caught.value.hint)
    assert state() == before


@inside
def test_a_tunnel_of_ipv6_alone_is_refused_where_the_interface_has_none(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    sh("echo 1 > /proc/sys/net/ipv6/conf/ike0/disable_ipv6")
    config = replace(SPLIT, addresses=SPLIT.addresses[1:], routes=SPLIT.routes[1:])
    with pytest.raises(PlatformError, match="nothing leads into") as caught:
        Machine(state_dir, "work").apply(config)
    assert "IPv6 is disabled" in str(caught.value.reason)


@inside
def test_our_own_address_inside_the_tunnel_stays_in_reach_of_the_lan(lan: Lan, state_dir: Path) -> None:
    """K22: what was agreed goes into the tunnel from the outer address; nothing else changes, the gateway included."""
    _ike0 = tun()
    before = state()
    own = (ip_address("192.0.2.10"), ip_address("2001:db8::10"))
    machine = Machine(state_dir, "work")
    machine.apply(replace(SPLIT, addresses=(), own=own, routes=(*SPLIT.routes, ip_network("203.0.113.7/32"))))
    assert "dev ike0 table 7400 src 192.0.2.10" in way("10.99.0.1")
    assert "dev ike0" in way("fd99::1")
    assert "src 2001:db8::10" in way("fd99::1")
    assert device("203.0.113.7") == "ike0"
    assert device("203.0.113.7", "mark", hex(MARK)) == "v0"
    assert device("192.0.2.1") == device("8.8.8.8") == "v0"
    assert "1 received" in lan.on_lan("ping -c 1 -W 2 192.0.2.10")
    assert "1 received" in lan.on_lan("ping -c 1 -W 2 2001:db8::10")
    machine.revert()
    assert state() == before


@inside
def test_the_family_a_full_tunnel_lacks_is_unreachable(lan: Lan, state_dir: Path) -> None:
    """O7: a router advertisement's default route leads nowhere for an IPv4-only full tunnel."""
    _ike0 = tun()
    Machine(state_dir, "work").apply(FULL_V4)
    sh("ip -6 route add default via 2001:db8::1 metric 1")
    sh("ip -6 route add 2001:db8:ffff::/48 via 2001:db8::1")
    assert way("2001:db8:ffff::7") == way("2600::1") == UNREACHABLE
    assert device("8.8.8.8") == "ike0"
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as plain,
        pytest.raises(OSError, match="No route to host"),
    ):
        plain.sendto(b"leak", ("2001:db8:ffff::7", 53))


@inside
def test_excluded_networks_stay_outside(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    sh("ip address add 192.168.7.10/24 dev v0")
    sh("ip address add 198.51.100.10/24 dev v0")
    exclude = (ip_network("203.0.113.0/24"), ip_network("2001:db8:ffff::/48"))
    Machine(state_dir, "work").apply(replace(FULL, exclude=exclude, exclude_lan=True))
    assert device("203.0.113.99") == device("2001:db8:ffff::7") == "v0"
    assert device("192.168.7.20") == "v0"
    assert device("198.51.100.20") == "ike0", "on-link, but not private: a LAN may claim any public network"
    assert device("8.8.8.8") == "ike0"


@inside
def test_routes_of_a_hostile_network_pull_nothing_out(lan: Lan, state_dir: Path) -> None:
    """O5, O6: DHCP option 121 and a LAN that claims public networks, during the session; sniffed on the tunnel."""
    ike0 = tun()
    Machine(state_dir, "work").apply(FULL)
    for route in ("8.8.8.8/32", "0.0.0.0/1", "128.0.0.0/1", "10.99.0.0/24"):
        sh(f"ip route add {route} via 192.0.2.1")
    sh("ip route add 1.1.1.0/24 dev v0")
    sh("ip -6 route add 2000::/3 via 2001:db8::1")
    for target in ("8.8.8.8", "1.1.1.1", "10.99.0.53", "203.0.113.7"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.sendto(b"to " + target.encode(), (target, 4500))
        assert read_packet(ike0).endswith(b"to " + target.encode())
    assert device("2001:db8:ffff::7") == "ike0"


def read_packet(ike0: socket.socket) -> bytes:
    for _ in range(200):
        try:
            packet = os.read(ike0.fileno(), 2048)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if packet[0] >> 4 == 4:  # not what the kernel itself says in IPv6
            return packet
    raise AssertionError("nothing came through the tunnel")


@inside
def test_planning_changes_nothing(lan: Lan, state_dir: Path) -> None:
    before = state()
    lines = Machine(state_dir, "work").plan(FULL)
    assert "ip rule add priority 20010 not fwmark 0x1ce lookup 7400 protocol kernel" in lines
    assert state() == before
    assert not state_dir.exists()


def test_the_plan_run_by_a_shell_gives_the_same_machine(lan: Lan, state_dir: Path) -> None:
    config = replace(FULL_V4, exclude=(ip_network("203.0.113.0/28"), ip_network("10.0.0.0/8")))
    by_apply, by_hand = state_dir.parent / "apply", state_dir.parent / "hand"

    def apply() -> None:
        sh("echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")
        _ike0 = tun()
        machine = Machine(state_dir, "work")
        machine.apply(config)
        by_apply.write_text(state())
        machine.revert()

    def hand() -> None:
        lines = Machine(state_dir, "work").plan(config)
        _ike0 = tun()
        sh("echo 1 > /proc/sys/net/ipv6/conf/ike0/addr_gen_mode")
        for line in lines:
            sh(line)
        by_hand.write_text(state())

    lan.inside(apply)
    lan.inside(hand)

    def numberless(text: str) -> list[str]:
        return [line.partition(": ")[2] if ": ike0:" in line else line for line in text.splitlines()]

    assert numberless(by_hand.read_text()) == numberless(by_apply.read_text())


@pytest.mark.parametrize("everywhere", [True, False])
@inside
def test_where_ipv6_is_disabled_the_tunnel_is_ipv4_only_and_leaks_nothing(
    lan: Lan, state_dir: Path, everywhere: bool
) -> None:
    """O2."""
    sh(f"echo 1 > /proc/sys/net/ipv6/conf/{'all' if everywhere else 'default'}/disable_ipv6")
    _ike0 = tun()
    before = state()
    machine = Machine(state_dir, "work")
    machine.apply(FULL)
    assert machine.warnings == ["no IPv6 through the tunnel: IPv6 is disabled on this machine"]
    assert device("8.8.8.8") == "ike0"
    assert way("2600::1") == UNREACHABLE
    machine.revert()
    assert state() == before


@contextlib.contextmanager
def echo_through_the_gateway(lan: Lan) -> Iterator[Callable[[], bool]]:
    """Gives what tells whether a datagram to the gateway's port 4500 comes back to our marked socket."""
    program = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('203.0.113.7', 4500)); s.settimeout(20)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    data, peer = s.recvfrom(2000); s.sendto(data, peer)\n"
    )
    server = subprocess.Popen(
        ["ip", "netns", "exec", lan.lan, "python3", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"

    def answered() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            ours.bind(("192.0.2.10", 4500))
            ours.settimeout(0.5)
            ours.sendto(b"hello", ("203.0.113.7", 4500))
            try:
                return ours.recv(100) == b"hello"
            except TimeoutError:
                return False

    try:
        yield answered
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.parametrize(
    ("mode", "config", "dropped_without"),
    [
        (0, FULL, False),
        (1, FULL, True),
        (2, FULL, False),
        (1, SPLIT, False),
        (2, replace(FULL, addresses=FULL.addresses[1:], routes=FULL.routes[1:], blocked=frozenset({4})), True),
    ],
    ids=["off", "strict", "loose", "strict-split", "loose-and-blocked"],
)
@inside
def test_reverse_path_filtering_does_not_drop_what_the_gateway_sends(
    lan: Lan, state_dir: Path, mode: int, config: MachineConfig, dropped_without: bool
) -> None:
    sh(f"for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo {mode} > $f; done")
    _ike0 = tun()
    with echo_through_the_gateway(lan) as answered:
        assert answered()
        machine = Machine(state_dir, "work")
        machine.apply(config)
        assert answered()
        rule = "to 203.0.113.7 ipproto udp sport 4500 lookup main"
        assert (rule in sh("ip rule")) == dropped_without
        if dropped_without:
            sh(f"ip rule delete {rule}")
            assert not answered(), "then the rule would not be needed"
        if config is not SPLIT:
            assert device("203.0.113.7") != "v0", "only our own port is let out beside the tunnel"


@inside
def test_an_inner_address_does_not_answer_on_other_interfaces(lan: Lan, state_dir: Path) -> None:
    """O8 (CVE-2019-14899): neither to ping nor to SYN nor to ARP or neighbour discovery from the LAN."""
    ike0 = tun()
    machine = Machine(state_dir, "work")
    machine.apply(SPLIT)
    listener = socket.create_server(("10.88.0.1", 8022))
    lan.on_lan("ip route add 10.88.0.1/32 via 192.0.2.10")
    lan.on_lan("ip -6 route add fd88::1/128 via 2001:db8::10")
    syn = "python3 -c \"import socket; socket.create_connection(('10.88.0.1', 8022), {wait})\""
    ping, ping6 = "ping -c 1 -W {wait} 10.88.0.1", "ping -c 1 -W {wait} fd88::1"
    # An entry left INCOMPLETE would be probed again only a second later.
    on_link = (
        "sh -c 'ip route replace 10.88.0.1/32 dev v1; ip neigh delete 10.88.0.1 dev v1; "
        "ping -c 1 -W {wait} 10.88.0.1; ip neigh show 10.88.0.1'"
    )

    def answers(command: str, wait: float) -> bool:
        return lan.on_lan(f"{command.format(wait=wait)} && echo yes", check=False).endswith("yes\n")

    for command in (ping, ping6, syn):
        assert not answers(command, 0.4)
    assert "lladdr" not in lan.on_lan(on_link.format(wait=0.4), check=False)
    lan.on_lan("ip route replace 10.88.0.1/32 via 192.0.2.10")
    # On the machine itself, and from the tunnel, the address is like any other.
    with socket.create_connection(("10.88.0.1", 8022), 2), listener.accept()[0]:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("10.88.0.1", 7000))
        service.settimeout(2)
        os.write(ike0.fileno(), datagram("10.99.0.5", "10.88.0.1", 7000, b"from the tunnel"))
        assert service.recv(100) == b"from the tunnel"
    # And so it would be if the rules were not there.
    for version in ("-4", "-6"):
        for line in sh(f"ip {version} rule").splitlines():
            if "blackhole" in line:
                selector = line.partition("from all ")[2].partition(" proto")[0]
                sh(f"ip {version} rule delete priority 0 {selector} protocol 73")
    for command in (ping, ping6, syn):
        assert answers(command, 5)
    assert "lladdr" in lan.on_lan(on_link.format(wait=5), check=False)


def datagram(source: str, destination: str, port: int, data: bytes) -> bytes:
    udp = (4000).to_bytes(2, "big") + port.to_bytes(2, "big") + (8 + len(data)).to_bytes(2, "big") + bytes(2) + data
    header = bytes([0x45, 0, *(20 + len(udp)).to_bytes(2, "big"), 0, 0, 0, 0, 64, 17, 0, 0])
    header += socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, 20, 2))
    checksum = 0xFFFF - (total % 0xFFFF)
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + udp
