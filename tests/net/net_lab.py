"""Network namespaces for the tests that change a machine: a client on a LAN, and the LAN's router beside it.

A test's body runs in a forked child inside the client's namespace, so the test process never leaves its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from ikeclient.net.model import MachineConfig

CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000


def sh(command: str, *, check: bool = True) -> str:
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30)
    if check and result.returncode:
        raise AssertionError(f"{command}\n{result.stdout}{result.stderr}")
    return result.stdout


def in_child(body: Callable[[], object], *, namespace: str | None = None) -> None:
    """Run `body` in a forked child; its failure becomes the test's."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if namespace is not None:
                descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
                if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            body()
            status = 0
        except BaseException:
            os.write(writable, traceback.format_exc().encode()[-60000:])
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writable)
    with open(readable, "rb") as pipe:
        text = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if status:
        pytest.fail(text or f"the child ended with status {status}", pytrace=False)


def unshare(flags: int) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")


@dataclass(frozen=True)
class Lan:
    """`client` has v0 (192.0.2.10, 2001:db8::10) to `lan`, which is its router and everybody else in the world."""

    client: str
    lan: str

    def inside(self, body: Callable[[], object]) -> None:
        in_child(body, namespace=self.client)

    def on_lan(self, command: str, *, check: bool = True) -> str:
        return sh(f"ip netns exec {self.lan} {command}", check=check)


def inside(test: Callable[..., None]) -> Callable[..., None]:
    """Run the body of a test in the client's namespace."""

    @functools.wraps(test)
    def run(lan: Lan, **arguments: object) -> None:
        lan.inside(functools.partial(test, lan=lan, **arguments))

    return run


@contextlib.contextmanager
def a_lan(name: str = "") -> Iterator[Lan]:
    """Make the namespaces, and delete them afterwards. Several at once need names."""
    number = f"{name}{os.getpid()}"
    made = Lan(client=f"nm{number}c", lan=f"nm{number}l")
    try:
        for name in (made.client, made.lan):
            sh(f"ip netns add {name}")
            sh(f"ip -n {name} link set lo up")
        sh(f"ip -n {made.client} link add v0 type veth peer name v1 netns {made.lan}")
        for name, link, host in ((made.client, "v0", "10"), (made.lan, "v1", "1")):
            sh(f"ip -n {name} address add 192.0.2.{host}/24 dev {link}")
            sh(f"ip -n {name} address add 2001:db8::{host}/64 dev {link} nodad")
            sh(f"ip -n {name} link set {link} addrgenmode none up")
        sh(f"ip -n {made.client} route add default via 192.0.2.1")
        sh(f"ip -n {made.client} -6 route add default via 2001:db8::1")
        for address in ("203.0.113.7/32", "8.8.8.8/32", "1.1.1.1/32", "2001:db8:ffff::7/128"):
            sh(f"ip -n {made.lan} address add {address} dev lo")
        yield made
    finally:
        for name in (made.client, made.lan):
            sh(f"ip netns delete {name}", check=False)


MARK = 0x1CE
FULL = MachineConfig(
    interface="ike0",
    mtu=1400,
    addresses=(ip_interface("10.88.0.1/32"), ip_interface("fd88::1/128")),
    routes=(ip_network("0.0.0.0/0"), ip_network("::/0")),
    gateway=(ip_address("203.0.113.7"),),
    ports=(4500,),
    mark=MARK,
    table=7400,
)
FULL_V4 = replace(FULL, addresses=FULL.addresses[:1], routes=FULL.routes[:1], blocked=frozenset({6}))
SPLIT = replace(FULL, routes=(ip_network("10.99.0.0/24"), ip_network("fd99::/64")))


UNREACHABLE = "RTNETLINK answers: No route to host"


def tun(name: str = "ike0") -> socket.socket:
    """A TUN device, as the caller of `Machine` makes one; it goes when the returned object is closed."""
    import pytun

    device = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN | pytun.IFF_NO_PI)
    os.set_blocking(device.fileno(), False)
    return device  # type: ignore[no-any-return]


def state() -> str:
    """All that `Machine` may touch, as text."""
    commands = ("ip -d rule", "ip -d -6 rule", "ip route show table all", "ip -6 route show table all", "ip address")
    # A device has no queueing discipline until it is up for the first time; that is not ours to undo.
    return re.sub(r"qdisc \w+ ", "", "\n".join(sh(command) for command in commands))


def way(destination: str, *arguments: str) -> str:
    family = "-6" if ":" in destination else "-4"
    command = ["ip", family, "route", "get", destination, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def device(destination: str, *arguments: str) -> str:
    words = way(destination, *arguments).split()
    return words[words.index("dev") + 1] if "dev" in words else " ".join(words)
