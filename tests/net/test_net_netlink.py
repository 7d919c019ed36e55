"""What is read from the kernel, in namespaces whose network the test builds with `ip`; and what only bytes can show."""

from __future__ import annotations

import errno
import select
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_lab import sh, tun
from ready_links import wait_until_working
from thread_namespace import fresh_namespace

from ikeclient.net.watch import netlink
from ikeclient.net.watch.netlink import Netlink, drain, listen
from ikeclient.net.watch.probe import Probes
from ikeclient.net.watch.snapshot import Snapshot, is_tunnel


@pytest.fixture
def kernel() -> Iterator[Netlink]:
    """In a namespace with a0 and b0 at the ends of a cable; a0 has addresses and the default routes."""
    with fresh_namespace():
        sh("ip link set lo up; ip link add a0 type veth peer name b0")
        sh("ip link set a0 addrgenmode none up; ip link set b0 addrgenmode none up")
        sh("ip address add 192.0.2.10/24 dev a0; ip address add 2001:db8::10/64 dev a0 nodad")
        sh("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1")
        asked = Netlink()
        wait_until_working("a0")
        yield asked
        asked.close()


def addresses(snapshot: Snapshot) -> list[str]:
    return [f"{found.interface} {found.address}" for found in snapshot.addresses]


def defaults(snapshot: Snapshot) -> list[str]:
    return [f"{found.interface} {found.gateway} {found.metric}" for found in snapshot.defaults]


def test_interfaces_addresses_and_default_routes_of_both_families_are_read(kernel: Netlink) -> None:
    snapshot = kernel.snapshot()
    index = socket.if_nametoindex("a0")
    (a0,) = [i for i in snapshot.interfaces if i.name == "a0"]
    assert (a0.index, a0.kind, a0.working, a0.mtu) == (index, "veth", True, 1500)
    assert "lo" not in {i.name for i in snapshot.interfaces}
    assert addresses(snapshot) == ["a0 192.0.2.10", "a0 2001:db8::10"]
    assert [address.index for address in snapshot.addresses] == [index, index]
    assert defaults(snapshot) == ["a0 192.0.2.1 0", "a0 2001:db8::1 1024"]
    assert kernel.snapshot() == snapshot


def test_addresses_that_cannot_be_spoken_from_are_left_out(kernel: Netlink) -> None:
    sh("ip address add 203.0.113.1/32 dev lo; ip address add 169.254.3.4/16 dev a0")
    sh("ip address add 198.51.100.1/24 dev a0 scope link; ip address add fe80::5/64 dev a0 nodad")
    sh("ip address add 198.18.0.20/24 dev a0 scope site; ip address add 10.9.9.9 peer 10.9.9.1/32 dev a0")
    sh("ip address add 2001:db8::11/64 dev a0 nodad preferred_lft 0")
    found = kernel.snapshot()
    assert set(addresses(found)) == {"a0 192.0.2.10", "a0 2001:db8::10", "a0 198.18.0.20", "a0 10.9.9.9"} | {
        "a0 2001:db8::11"
    }
    assert [str(a.address) for a in found.addresses if a.deprecated] == ["2001:db8::11"]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_the_kernel_is_made_to_ask_for_a_neighbour(kernel: Netlink, address: str) -> None:
    index = socket.if_nametoindex("a0")
    assert address not in sh("ip neigh show dev a0 nud all")
    assert kernel.solicit(ip_address(address), index)
    assert address in sh("ip neigh show dev a0 nud all")
    assert kernel.neighbours(ip_address(address).version, index) == {}, "nobody has answered"
    assert not kernel.solicit(ip_address(address), 9999)


def test_an_address_is_left_out_when_a_neighbour_has_it_already(kernel: Netlink) -> None:
    sh("ip address add 2001:db8::77/64 dev b0 nodad; ip address add 2001:db8::77/64 dev a0")
    poll = select.poll()
    bell = listen()
    poll.register(bell, select.POLLIN)
    while "dadfailed" not in sh("ip -6 address show dev a0"):
        assert poll.poll(10_000), "the kernel found no duplicate"
        drain(bell)
    bell.close()
    assert "a0 2001:db8::77" not in addresses(kernel.snapshot())


@pytest.mark.parametrize("broken", ["ip link set a0 down", "ip link set b0 down"])
def test_an_interface_without_carrier_or_switched_off_has_nothing_to_offer(kernel: Netlink, broken: str) -> None:
    sh(broken)
    snapshot = kernel.snapshot()
    assert [i.working for i in snapshot.interfaces if i.name == "a0"] == [False]
    assert (addresses(snapshot), defaults(snapshot)) == ([], [])


def test_a_carrier_that_comes_back_is_counted(kernel: Netlink) -> None:
    def carriers() -> int:
        return next(i.carriers for i in kernel.snapshot().interfaces if i.name == "a0")

    before = carriers()
    sh("ip link set b0 down; ip link set b0 up")
    wait_until_working("a0")
    assert carriers() == before + 1


def test_ignored_interfaces_do_not_exist(kernel: Netlink) -> None:
    snapshot = kernel.snapshot(ignore={"a0"})
    assert "a0" not in {i.name for i in snapshot.interfaces}
    assert (snapshot.addresses, snapshot.defaults) == ((), ())


def test_only_usable_default_routes_of_the_main_table_count(kernel: Netlink) -> None:
    sh("ip route add default via 192.0.2.7 table 100; ip route add unreachable default metric 50")
    sh("ip route add 0.0.0.0/1 via 192.0.2.8; ip -6 route add unreachable default metric 2000")
    assert defaults(kernel.snapshot()) == ["a0 192.0.2.1 0", "a0 2001:db8::1 1024"]


def test_all_ways_of_a_shared_default_route_count_and_so_do_gateways_of_the_other_family(kernel: Netlink) -> None:
    sh("ip address add 198.51.100.1/24 dev b0")
    sh("ip route replace default nexthop via 192.0.2.1 nexthop via 198.51.100.9")
    sh("ip -4 route add 0.0.0.0/0 via inet6 2001:db8::5 dev a0 metric 9; ip route add default dev b0 metric 10")
    assert [text for text in defaults(kernel.snapshot()) if not text.endswith("1024")] == [
        "a0 192.0.2.1 0",
        "b0 198.51.100.9 0",
        "a0 2001:db8::5 9",
        "b0 None 10",
    ]


def test_a_tun_device_is_a_tunnel_and_a_cable_is_none(kernel: Netlink) -> None:
    device = tun("mo-tun")
    try:
        assert {i.name: is_tunnel(i) for i in kernel.snapshot().interfaces if i.kind in ("tun", "veth")} == {
            "a0": False,
            "b0": False,
            "mo-tun": True,
        }
    finally:
        device.close()


@pytest.mark.parametrize("remote", ["203.0.113.7", "2001:db8:ffff::7"])
def test_the_route_to_a_remote_names_interface_source_and_gateway(kernel: Netlink, remote: str) -> None:
    route = kernel.route_to(ip_address(remote))
    assert route is not None
    assert (route.interface, route.index) == ("a0", socket.if_nametoindex("a0"))
    version = route.remote.version
    assert route.source == ip_address({4: "192.0.2.10", 6: "2001:db8::10"}[version])
    assert route.gateway == ip_address({4: "192.0.2.1", 6: "2001:db8::1"}[version])
    assert kernel.snapshot(remotes=[route.remote]).routes == (route,)


@pytest.mark.parametrize("kind", ["unreachable", "blackhole", "prohibit"])
@pytest.mark.parametrize("remote", ["203.0.113.7", "2001:db8:ffff::7"])
def test_a_remote_that_no_way_leads_to_has_no_route(kernel: Netlink, remote: str, kind: str) -> None:
    sh(f"ip route add {kind} {remote}")
    assert kernel.route_to(ip_address(remote)) is None
    assert kernel.snapshot(remotes=[ip_address(remote)]).routes == ()
    sh("ip route flush default; ip -6 route flush default; ip route flush root 203.0.113.0/24")
    sh("ip -6 route flush root 2001:db8:ffff::/48")
    assert kernel.route_to(ip_address(remote)) is None


@pytest.mark.parametrize("remote", ["203.0.113.7", "2001:db8:ffff::7"])
def test_rules_by_mark_and_by_source_decide_as_they_do_for_packets(kernel: Netlink, remote: str) -> None:
    family, other, mine = (
        ("-6", "2001:db8:2::9", "2001:db8:2::1") if ":" in remote else ("-4", "198.51.100.9", "198.51.100.1")
    )
    length = "64 nodad" if ":" in remote else "24"
    sh(f"ip address add {mine}/{length.split()[0]} dev b0 {' '.join(length.split()[1:])}")
    sh(f"ip {family} route add default via {other} dev b0 table 100")
    sh(f"ip {family} rule add fwmark 0x1ce lookup 100; ip {family} rule add from {mine} lookup 100")
    plain, marked = kernel.route_to(ip_address(remote)), kernel.route_to(ip_address(remote), mark=0x1CE)
    sourced = kernel.route_to(ip_address(remote), source=ip_address(mine))
    assert plain
    assert plain.interface == "a0"
    assert marked
    assert (marked.interface, marked.source) == ("b0", ip_address(mine))
    assert sourced == marked
    wrong = kernel.route_to(ip_address(remote), source=ip_address("192.0.2.10" if family == "-4" else "2001:db8::10"))
    assert wrong
    assert wrong.interface == "a0"


def test_there_is_no_ipv4_route_from_an_address_that_is_not_ours(kernel: Netlink) -> None:
    assert kernel.route_to(ip_address("203.0.113.7"), source=ip_address("192.0.2.66")) is None


def test_no_tunnel_leads_to_a_broadcast_address(kernel: Netlink) -> None:
    assert kernel.route_to(ip_address("192.0.2.255")) is None


def test_a_thousand_routes_do_not_hide_the_default_route(kernel: Netlink) -> None:
    """They do not fit into one answer."""
    routes = "\n".join(f"route add 10.{n >> 8}.{n & 255}.0/24 via 192.0.2.9" for n in range(1000))
    sh(f"echo '{routes}' | ip -batch -")
    sh("ip route add default via 192.0.2.3 metric 77")
    assert "a0 192.0.2.3 77" in defaults(kernel.snapshot())


@pytest.mark.parametrize(
    "command",
    [
        "ip address add 192.0.2.44/24 dev a0",
        "ip address add 2001:db8::44/64 dev a0 nodad",
        "ip route add 10.0.0.0/8 via 192.0.2.9",
        "ip -6 route add 2001:db8:9::/48 via 2001:db8::9",
        "ip rule add fwmark 5 lookup 100",
        "ip -6 rule add fwmark 5 lookup 100",
        "ip link set a0 mtu 1300",
        "ip link del a0",
    ],
)
def test_the_bell_rings_for_every_kind_of_change_and_is_silent_afterwards(kernel: Netlink, command: str) -> None:
    bell = listen()
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    assert not poll.poll(0)
    sh(command)
    assert poll.poll(5000)
    drain(bell)
    bell.close()


def test_what_was_lost_by_a_full_socket_does_not_matter_to_the_bell(kernel: Netlink) -> None:
    bell = listen()
    bell.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for n in range(40):
        sh(f"ip address add 192.0.2.{n + 100}/24 dev a0")
    with pytest.raises(OSError, match=r".") as caught:
        bell.recv(1)
    assert caught.value.errno == errno.ENOBUFS
    for n in range(40):
        sh(f"ip address del 192.0.2.{n + 100}/24 dev a0")
    drain(bell)
    with pytest.raises(BlockingIOError):
        bell.recv(1)
    bell.close()


def test_a_closed_socket_is_an_error_and_not_an_empty_network(kernel: Netlink) -> None:
    kernel.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.snapshot()
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.route_to(ip_address("203.0.113.7"))
    bell = listen()
    bell.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        drain(bell)


class Script:
    """Stands for the kernel's socket: answers every request with prepared datagrams, the sequence number filled in."""

    def __init__(self, *answers: list[tuple[int, int, bytes]]) -> None:
        self.answers = list(answers)
        self.waiting: list[bytes] = []

    def sendto(self, request: bytes, _address: tuple[int, int]) -> None:
        sequence = struct.unpack_from("=I", request, 8)[0]
        for kind, flags, body in self.answers.pop(0):
            self.waiting.append(struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body)

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[int, int]]:
        return self.waiting.pop(0), (0, 0)


def scripted(*answers: list[tuple[int, int, bytes]]) -> Netlink:
    asked = Netlink()
    asked.close()
    asked._socket = Script(*answers)  # type: ignore[assignment]
    return asked


DONE = (3, 0x2, bytes(4))
TORN = (3, 0x12, bytes(4))
LINK = (16, 0x2, struct.pack("=BxHiII", 0, 1, 5, 0x10041, 0) + struct.pack("=HH", 9, 3) + b"eth5\0\0\0\0")


def test_a_dump_that_a_change_tore_is_asked_for_again() -> None:
    asked = scripted([TORN], [LINK, DONE], [DONE], [DONE], [DONE])
    assert [i.name for i in asked.snapshot().interfaces] == ["eth5"]
    with pytest.raises(OSError, match="changes faster"):
        scripted(*[[LINK, TORN]] * 10).snapshot()


def test_families_and_tables_that_do_not_exist_have_no_routes_and_other_errors_are_errors() -> None:
    def refused(number: int) -> list[tuple[int, int, bytes]]:
        return [(2, 0, struct.pack("=i", -number))]

    empty = scripted([DONE], [DONE], refused(errno.ENOENT), refused(errno.EAFNOSUPPORT)).snapshot()
    assert empty == Snapshot()
    with pytest.raises(OSError, match="not permitted"):
        scripted([DONE], [DONE], refused(errno.EPERM)).snapshot()


@pytest.mark.parametrize(("table", "found"), [(254, 1), (100, 0)])
def test_a_kernel_that_sends_all_tables_although_asked_for_one_is_understood(table: int, found: int) -> None:
    """Linux before 4.20 does."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, table, 3, 0, 1, 0) + struct.pack("=HHI", 8, 4, 5)
    assert len(scripted([LINK, DONE], [DONE], [(24, 2, body), DONE], [DONE]).snapshot().defaults) == found


@given(st.binary(max_size=60))
def test_attributes_of_any_bytes_end(data: bytes) -> None:
    found = netlink.attributes(data, 0)
    assert sum(map(len, found.values())) <= len(data)
    list(netlink._next_hops({9: data}))
    list(netlink._messages(memoryview(data)))


def test_without_netlink_the_addresses_that_packets_would_leave_from_are_known(kernel: Netlink) -> None:
    probes = Probes()
    remote, beside = ip_address("203.0.113.7"), ip_address("198.51.100.9")
    sh("ip address add 198.51.100.1/24 dev b0")
    snapshot = probes.snapshot(remotes=[remote, beside])
    assert [str(found.address) for found in snapshot.addresses] == ["192.0.2.10", "2001:db8::10", "198.51.100.1"]
    assert [route.version for route in snapshot.defaults] == [4, 6]
    assert [str(route.source) for route in snapshot.routes] == ["192.0.2.10", "198.51.100.1"]
    assert probes.route_to(remote, source=ip_address("192.0.2.10")) == snapshot.routes[0]
    assert probes.route_to(remote, source=ip_address("198.51.100.1")) is None
    sh("ip link set a0 down; ip link set b0 down")
    assert probes.snapshot(remotes=[remote]) == Snapshot()
