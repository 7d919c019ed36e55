"""The monitor against the kernel: links, addresses and routes of namespaces that `ip` changes meanwhile."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from net_lab import sh, tun
from ready_links import wait_until_working
from thread_namespace import fresh_namespace

from ikeclient.net.watch import netlink
from ikeclient.net.watch.monitor import NetworkMonitor
from ikeclient.net.watch.snapshot import Change

pytestmark = pytest.mark.lab

GATEWAY = ip_address("203.0.113.7")


async def until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait, with the loop running, until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        await asyncio.sleep(0.005)


@pytest.fixture
def cables() -> Iterator[None]:
    """In a namespace: a0 has the default routes, c0 is another interface; b0 and d0 are their far ends."""
    with fresh_namespace():
        for near, far, number in (("a0", "b0", "192.0.2"), ("c0", "d0", "198.51.100")):
            sh(f"ip link add {near} type veth peer name {far}; ip link set {near} addrgenmode none up")
            sh(f"ip link set {far} addrgenmode none up; ip address add {number}.10/24 dev {near}")
        sh("ip link set lo up; ip address add 2001:db8::10/64 dev a0 nodad")
        sh("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1")
        wait_until_working("a0", "c0")
        yield


class Really:
    """A monitor of the real kernel for one story, and what it reported."""

    def __init__(self, **options: Any) -> None:
        self.changes: list[Change] = []
        self.monitor = NetworkMonitor(self.changes.append, **({"poll": 1000.0} | options))

    def names(self, kind: str) -> list[str]:
        return [str(found.address) for change in self.changes for found in getattr(change, kind)]

    def run(self, story: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            self.monitor.start()
            try:
                await story()
            finally:
                self.monitor.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(main(), debug=False)


def test_addresses_that_come_and_go_are_reported(cables: None) -> None:
    world = Really()

    async def story() -> None:
        sh("ip address add 192.0.2.20/24 dev a0")
        await until(lambda: world.names("gained") == ["192.0.2.20"])
        sh("ip address add 2001:db8::20/64 dev a0 nodad")
        await until(lambda: world.names("gained") == ["192.0.2.20", "2001:db8::20"])
        sh("ip address del 192.0.2.20/24 dev a0; ip address del 2001:db8::20/64 dev a0")
        await until(lambda: set(world.names("lost")) == {"192.0.2.20", "2001:db8::20"})
        assert not any(change.up or change.down or change.defaults for change in world.changes)

    world.run(story)


@pytest.mark.parametrize("end", ["a0", "b0"])
def test_a_link_that_goes_down_takes_its_addresses_along_until_it_is_up(cables: None, end: str) -> None:
    world = Really()

    async def story() -> None:
        sh(f"ip link set {end} down")
        await until(lambda: any(change.down == ("a0",) for change in world.changes))
        await until(lambda: "192.0.2.10" in world.names("lost"))
        assert not world.monitor.snapshot.has(ip_address("192.0.2.10"))
        assert world.monitor.snapshot.has(ip_address("198.51.100.10"))
        sh(f"ip link set {end} up")
        await until(lambda: any(change.up == ("a0",) for change in world.changes))
        assert "192.0.2.10" in world.names("gained")

    world.run(story)


def test_a_cable_pulled_and_plugged_again_in_an_instant_is_noticed(cables: None) -> None:
    world = Really(debounce=1000.0)

    async def story() -> None:
        sh("ip link set d0 down; ip link set d0 up")
        wait_until_working("c0")
        assert world.monitor.look() == Change(bounced=("c0",))

    world.run(story)


def test_another_default_route_is_reported_with_the_routes_that_it_changes(cables: None) -> None:
    world = Really()

    async def story() -> None:
        world.monitor.watch(GATEWAY, ip_address("2001:db8:ffff::7"))
        sh("ip route replace default via 198.51.100.1")
        await until(lambda: world.changes)
        assert world.changes == [Change(defaults=(4,), rerouted=(GATEWAY,))]
        route = world.monitor.snapshot.route_to(GATEWAY)
        assert route is not None
        assert (route.interface, str(route.source)) == ("c0", "198.51.100.10")
        sh("ip route del default")
        await until(lambda: len(world.changes) == 2)
        assert world.changes[1] == world.changes[0]
        assert world.monitor.snapshot.route_to(GATEWAY) is None

    world.run(story)


@pytest.mark.parametrize("command", ["ip route add 203.0.113.0/24 via 198.51.100.1", "ip rule add fwmark 462 lookup 9"])
def test_a_specific_route_or_a_rule_reports_the_watched_remote_alone(cables: None, command: str) -> None:
    sh("ip route add default via 198.51.100.1 table 9")
    world = Really(mark=462)

    async def story() -> None:
        world.monitor.watch(GATEWAY)
        sh(command)
        await until(lambda: world.changes)
        assert world.changes == [Change(rerouted=(GATEWAY,))]

    world.run(story)


def test_an_interface_that_is_deleted_is_reported(cables: None) -> None:
    world = Really()

    async def story() -> None:
        sh("ip link del a0")
        await until(lambda: world.monitor.snapshot.defaults == ())
        assert [name for change in world.changes for name in change.down] == ["a0"]
        assert set(world.names("lost")) == {"192.0.2.10", "2001:db8::10"}
        assert {i.name for i in world.monitor.snapshot.interfaces} >= {"c0", "d0"}

    world.run(story)


def test_an_ipv6_address_is_gained_only_when_duplicate_detection_is_done(cables: None) -> None:
    world = Really()

    async def story() -> None:
        sh("ip address add 2001:db8::77/64 dev a0")
        assert "tentative" in sh("ip -6 address show dev a0")
        world.monitor.look()
        await asyncio.sleep(0.1)
        if "tentative" in sh("ip -6 address show dev a0"):
            assert world.names("gained") == []
        await until(lambda: world.names("gained") == ["2001:db8::77"])
        assert "tentative" not in sh("ip -6 address show dev a0")

    world.run(story)


def test_the_tunnels_own_interface_does_not_exist(cables: None) -> None:
    device = tun("mo-own")
    world = Really(ignore={"mo-own"})

    async def story() -> None:
        sh("ip link set mo-own up; ip address add 10.88.0.1/32 dev mo-own; ip link set mo-own mtu 1300")
        sh("ip address add 192.0.2.20/24 dev a0")
        await until(lambda: world.changes)
        assert world.names("gained") == ["192.0.2.20"]
        sh("ip route add 203.0.113.0/24 dev mo-own")
        assert world.monitor.sources_for(GATEWAY) == ()

    try:
        world.run(story)
    finally:
        device.close()


def test_two_hundred_changes_in_a_second_are_reported_few_times_and_the_last_state_wins(cables: None) -> None:
    world = Really()

    def flap() -> None:
        changes = "address add 192.0.2.99/24 dev a0\naddress del 192.0.2.99/24 dev a0\n"
        with subprocess.Popen(["ip", "-batch", "-"], stdin=subprocess.PIPE, text=True) as ip:
            assert ip.stdin is not None
            for _ in range(100):
                ip.stdin.write(changes)
                ip.stdin.flush()
                time.sleep(0.01)
            ip.stdin.write("address add 192.0.2.200/24 dev a0\n")

    async def story() -> None:
        thread = threading.Thread(target=flap)
        thread.start()
        await until(lambda: world.monitor.snapshot.has(ip_address("192.0.2.200")))
        thread.join()
        assert 1 <= len(world.changes) <= 12
        assert not world.monitor.snapshot.has(ip_address("192.0.2.99"))
        gained, lost = world.names("gained"), world.names("lost")
        assert gained.count("192.0.2.99") == lost.count("192.0.2.99")

    world.run(story)


def test_notifications_lost_by_a_full_socket_lose_no_change(cables: None, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Really()
    numbers: list[int | None] = []
    drain = netlink.drain

    class Heard:
        def __init__(self, bell: socket.socket) -> None:
            self.bell = bell

        def recv(self, size: int) -> bytes:
            try:
                return self.bell.recv(size)
            except OSError as error:
                numbers.append(error.errno)
                raise

    monkeypatch.setattr(netlink, "drain", lambda bell: drain(Heard(bell)))  # type: ignore[arg-type]

    async def story() -> None:
        assert world.monitor._bell is not None
        world.monitor._bell.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        added = "\n".join(f"address add 192.0.2.{n}/24 dev a0" for n in range(20, 220))
        sh(f"echo '{added}' | ip -batch -")  # while the loop stands still
        await until(lambda: len(world.monitor.snapshot.addresses) == 203)
        assert errno.ENOBUFS in numbers
        assert len(world.names("gained")) == 200
        assert world.monitor.listening

    world.run(story)


def test_the_sources_for_a_remote_are_those_whose_packets_leave_by_their_own_interface(cables: None) -> None:
    world = Really()

    async def story() -> None:
        def sources() -> list[str]:
            world.monitor.look()
            return [f"{found.interface} {found.address}" for found in world.monitor.sources_for(GATEWAY)]

        assert sources() == ["a0 192.0.2.10"], "c0 has an address, but its packets would leave by a0"
        sh("ip route add default via 198.51.100.1 table 9; ip rule add from 198.51.100.10 lookup 9")
        assert sources() == ["a0 192.0.2.10", "c0 198.51.100.10"]
        sh("ip address add 192.0.2.11/24 dev a0; ip route replace default via 192.0.2.1 src 192.0.2.11")
        assert sources() == ["a0 192.0.2.11", "a0 192.0.2.10", "c0 198.51.100.10"], "the kernel's choice leads"
        sh("ip route del default")
        assert sources() == ["c0 198.51.100.10"]

    world.run(story)


def test_a_tunnel_of_somebody_else_is_a_source_only_where_the_kernel_chooses_it(cables: None) -> None:
    device = tun("mo-other")
    world = Really()

    async def story() -> None:
        sh("ip link set mo-other up; ip address add 10.77.0.1/32 dev mo-other")
        world.monitor.look()
        assert [found.interface for found in world.monitor.sources_for(GATEWAY)] == ["a0"]
        sh("ip route add 203.0.113.0/24 dev mo-other")
        assert [str(found.address) for found in world.monitor.sources_for(GATEWAY)] == ["10.77.0.1"]

    try:
        world.run(story)
    finally:
        device.close()


def test_starting_and_closing_a_hundred_times_leaks_nothing(cables: None) -> None:
    async def main() -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        before = descriptors()
        for _ in range(100):
            monitor = NetworkMonitor(lambda _: None)
            monitor.start()
            assert monitor.listening
            assert descriptors() == before + 3, "notifications, questions, and the clock"
            monitor.close()
            assert descriptors() == before
        loop: Any = asyncio.get_running_loop()
        assert all(handle.cancelled() for handle in loop._scheduled)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SOCKET_CALLS = {"x86_64": 41, "aarch64": 198}


def forbid_netlink() -> None:
    """Make socket(AF_NETLINK, ...) fail with EACCES in the calling thread, for ever (seccomp(2))."""
    number = SOCKET_CALLS[os.uname().machine]
    load, equal, leave = 0x20, 0x15, 0x06
    program = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (load, 0, 0, 0),
            (equal, 0, 3, number),
            (load, 0, 0, 16),
            (equal, 0, 1, socket.AF_NETLINK),
            (leave, 0, 0, 0x00050000 | errno.EACCES),
            (leave, 0, 0, 0x7FFF0000),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(head), 0, 0) == 0


@pytest.mark.skipif(os.uname().machine not in SOCKET_CALLS, reason="the filter is not written for this processor")
def test_where_netlink_is_forbidden_a_move_is_noticed_by_polling(cables: None) -> None:
    world = Really()
    started, failures = threading.Event(), []

    async def story() -> None:
        assert not world.monitor.listening
        assert world.monitor.snapshot.has(ip_address("192.0.2.10"))
        world.monitor.watch(GATEWAY)
        assert [str(found.address) for found in world.monitor.sources_for(GATEWAY)] == ["192.0.2.10"]
        started.set()
        await until(lambda: world.changes)
        assert world.names("gained") == ["198.51.100.10"]
        assert world.names("lost") == ["192.0.2.10"]
        assert world.changes[0].rerouted == (GATEWAY,)

    def confined() -> None:
        try:
            forbid_netlink()
            world.run(story)
        except BaseException as error:
            failures.append(error)
            started.set()

    thread = threading.Thread(target=confined)
    thread.start()
    assert started.wait(10)
    sh("ip route replace default via 198.51.100.1")
    thread.join()
    if failures:
        raise failures[0]
