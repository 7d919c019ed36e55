"""A namespace of our own, made for real: what goes in comes out of the TUN device, and nowhere else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from net_lab import in_child
from process_status import status_of

from ikeclient.errors import PlatformError, PrivilegeError
from ikeclient.net import syscalls as linux
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.net.namespace.handle import NAMESPACES, NamespaceHandle
from ikeclient.net.namespace.messages import CODEC, inside
from ikeclient.net.namespace.namespace import Namespace

CONFIG = MachineConfig(
    interface="ike0",
    mtu=1400,
    addresses=(ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128")),
    routes=(ip_network("10.99.0.0/24"), ip_network("fd99::/64")),
    gateway=(ip_address("192.0.2.1"),),
    ports=(4500,),
    mark=0x1CE,
    table=7400,
    dns=DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",), mode="split"),
)


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("needs a TUN device")
    made = Namespace.make("ike%d")
    yield made
    made.close()


def test_a_configuration_arrives_as_it_was_sent_but_for_what_is_outside() -> None:
    arrived = CODEC.decode(MachineConfig, json.loads(json.dumps(CODEC.encode(inside(CONFIG)))))
    assert (arrived.gateway, arrived.ports) == ((), ())
    assert arrived.dns == DnsConfig(servers=CONFIG.dns.servers, domains=CONFIG.dns.domains, mode="all")  # type: ignore[union-attr]
    for name in ("interface", "mtu", "addresses", "routes", "exclude", "blocked", "mark", "table"):
        assert getattr(arrived, name) == getattr(CONFIG, name)


def test_what_is_sent_inside_comes_out_of_the_device(namespace: Namespace) -> None:
    """And only to the tunnel's networks; there is no other way."""
    assert namespace.tun.name == "ike0"
    namespace.apply(CONFIG)
    assert namespace.warnings == []

    def inside() -> None:
        namespace.handle.enter()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"words", ("10.99.0.1", 7))
            with pytest.raises(OSError, match="unreachable"):
                sender.sendto(b"words", ("192.0.2.1", 7))
        assert {name for _, name in socket.if_nameindex()} == {"lo", "ike0"}
        assert Path("/etc/resolv.conf").read_text() == "nameserver 10.99.0.53\nsearch corp.example\n"

    in_child(inside)
    packets = [packet for packet in namespace.tun.read_batch(64) if packet[0] >> 4 == 4]
    assert [packet[12:20] + packet[28:] for packet in packets] == [bytes((10, 88, 0, 1, 10, 99, 0, 1)) + b"words"]


def test_large_packets_come_and_go_as_on_an_ordinary_device(namespace: Namespace) -> None:
    """The offloads are set through the descriptor, the limit of bursts was set by its init inside."""
    if not namespace.tun.vnet:
        pytest.skip("this kernel has no virtio headers")
    assert namespace.tun.enable_offload()
    namespace.apply(CONFIG)

    def inside() -> None:
        namespace.handle.enter()
        sizes = Path("/proc/net/dev").read_text()
        assert "ike0" in sizes
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(17, 103, 1000)  # UDP_SEGMENT
            sender.sendto(bytes(5000), ("10.99.0.1", 7))

    in_child(inside)
    frame = bytearray(70_000)
    longest = 0
    while length := namespace.tun.read_into([frame]):
        longest = max(longest, length)
    assert longest == 10 + 20 + 8 + 5000
    namespace.tun.keep_plain()
    assert not namespace.tun.enable_offload()


def test_a_process_inside_can_change_nothing(namespace: Namespace) -> None:
    """Not the interface, not the files, not by a new capability, and it stays where it was."""
    namespace.apply(CONFIG)

    def inside() -> None:
        here = os.getcwd()
        namespace.handle.enter()
        assert os.getcwd() == here
        status = status_of()
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        with pytest.raises(OSError, match=r"not permitted|Read-only"):
            Path("/etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
        with pytest.raises(PermissionError):
            linux.set_up("ike0")

    in_child(inside)


def test_a_wrong_process_is_not_entered(namespace: Namespace) -> None:
    expected = namespace.handle.inodes
    found = NamespaceHandle.of_process(namespace.init, expected)
    assert found.inodes == expected
    found.close()
    with pytest.raises(PlatformError, match="gone"):
        NamespaceHandle.of_process(os.getpid(), expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights that another user could want")
def test_root_does_not_enter_what_another_user_made() -> None:
    """O23: that user decides what the files are there, such as modules that are loaded later."""
    become = ("setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups")
    ready = ("sh", "-c", "echo ready; exec sleep 60")
    theirs = subprocess.Popen([*become, "unshare", "-Unm", *ready], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert theirs.stdout is not None
        if theirs.stdout.readline() != b"ready\n":
            pytest.skip("users may not make namespaces here")
        inodes = [os.stat(f"/proc/{theirs.pid}/ns/{name}").st_ino for name in NAMESPACES]

        def inside() -> None:
            before = [os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES]
            with pytest.raises(PrivilegeError, match="another user's tunnel"):
                NamespaceHandle.of_process(theirs.pid, inodes).enter()
            assert [os.stat(f"/proc/self/ns/{name}").st_ino for name in NAMESPACES] == before

        in_child(inside)
    finally:
        theirs.kill()
        theirs.communicate()


def test_what_the_kernel_refuses_inside_is_an_error_outside(namespace: Namespace) -> None:
    with pytest.raises(PlatformError, match="there is no interface other0"):
        namespace.apply(replace(CONFIG, interface="other0"))
    namespace.apply(CONFIG)


def test_the_init_ends_with_the_last_that_has_its_socket(namespace: Namespace) -> None:
    started = time.monotonic()
    namespace.close()
    assert time.monotonic() - started < 10
    assert not Path(f"/proc/{namespace.init}").exists()
    with pytest.raises(PlatformError, match="gone"):
        namespace.apply(CONFIG)
