"""The process that makes a namespace of our own, and then does in it what it is told: addresses, routes, DNS.

It is forked from the command before that has read a secret, and stays a small process without one. It has every right
in its namespace and none elsewhere; whatever else runs in the namespace has none. It ends when nobody is left at the
other end of its socket. What it does is what `machine.Machine` does on a real machine, which this is, in small.

Messages are JSON, one each way at a time. The first goes out: {"ok": true, "interface", "vnet", "warnings"} with the
descriptors of the TUN device and of the user, network and mount namespace, or {"stage", "code"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, NoReturn

from ikeclient.errors import IkeclientError
from ikeclient.net import syscalls as linux
from ikeclient.net.changes.steps import Step
from ikeclient.net.device import vnet
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.net.namespace.handle import NAMESPACES
from ikeclient.net.namespace.mounts import Covers, NamespaceDns, cover
from ikeclient.net.namespace.rootless import NODE, Refusal, Stage

LONGEST = 256 << 10
NAME = "inside"
_LOOK_MS = 1000  # a directory that appears, or a link that is bent, is no event
_SELF = Path("/proc/self")
_SETTINGS = {  # of the network in there; what cannot be set costs nothing but comfort
    "ipv4/ping_group_range": "{gid} {gid}",  # `ping` without a capability
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
}


class _Refused(Exception):
    def __init__(self, stage: Stage, error: OSError) -> None:
        super().__init__(stage, error)
        self.refusal = Refusal(stage=stage, code=error.errno or 0)


def hold(channel: socket.socket, interface: str) -> NoReturn:
    """Everything the process does. Never returns."""
    code = 1
    try:
        _become_own(channel)
        with contextlib.suppress(OSError):
            _serve(channel, interface)
        code = 0
    finally:
        os._exit(code)


def _become_own(channel: socket.socket) -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != channel.fileno():
            with contextlib.suppress(OSError):
                os.close(int(name))
    os.chdir("/")


def _serve(channel: socket.socket, interface: str) -> None:
    try:
        dns, covers, warnings = _make()
        tun = _device(interface)
    except _Refused as refused:
        channel.send(json.dumps({"stage": refused.refusal.stage, "code": refused.refusal.code}).encode())
        return
    spaces = [os.open(_SELF / "ns" / name, os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    ready = {"ok": True, "interface": tun.name, "vnet": tun.vnet, "warnings": warnings}
    socket.send_fds(channel, [json.dumps(ready).encode()], [tun.fileno(), *spaces])
    tun.close()  # the tunnel's copy keeps the interface
    for each in spaces:
        os.close(each)
    _obey(channel, dns, covers)


def _obey(channel: socket.socket, dns: NamespaceDns, covers: Covers) -> None:
    """Bring the namespace to each state that is asked for, until the other end is closed."""
    from ikeclient.net.machine.kernel import Kernel, load_library
    from ikeclient.net.machine.machine import Machine

    load_library()  # now, while the tunnel negotiates
    machine = Machine(Path("/"), NAME, kernel=Kernel(), dns=dns, journal=NoJournal())
    while message := _order(channel, covers):
        try:
            machine.apply(configuration(json.loads(message)))
            answer: dict[str, object] = {
                "ok": True,
                "warnings": machine.warnings,
                "servers": [str(each) for each in machine.servers],
            }
        except IkeclientError as error:
            answer = {"ok": False, "message": error.message, "reason": error.reason, "hint": error.hint}
        channel.send(json.dumps(answer).encode())


def _order(channel: socket.socket, covers: Covers) -> bytes:
    """The next message, and meanwhile the files of the namespace kept in their place."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(covers, select.POLLPRI)
    while channel.fileno() not in {number for number, _ in poll.poll(_LOOK_MS)}:
        covers.mend()
    return channel.recv(LONGEST)


class NoJournal:
    """Nothing has to be undone: everything that is changed in a namespace goes with it."""

    def write(self, steps: Sequence[Step]) -> None:
        """Forget the steps."""


def _make() -> tuple[NamespaceDns, Covers, list[str]]:
    uid, gid = os.geteuid(), os.getegid()
    with _stage(Stage.USER):
        linux.unshare(linux.NEW_USER)
    with _stage(Stage.NETWORK):
        _write(_SELF / "setgroups", "deny")
        _write(_SELF / "uid_map", f"{uid} {uid} 1")
        _write(_SELF / "gid_map", f"{gid} {gid} 1")
        linux.unshare(linux.NEW_NETWORK)
    with _stage(Stage.MOUNTS):
        linux.unshare(linux.NEW_MOUNTS)
        made = cover()
    for name, value in _SETTINGS.items():
        with contextlib.suppress(OSError):
            _write(Path("/proc/sys/net") / name, value.format(gid=gid))
    with _stage(Stage.NETWORK):
        linux.set_up("lo")
    return made


def _device(interface: str) -> TunDevice:
    with _stage(Stage.NODE):
        os.close(os.open(NODE, os.O_RDWR | os.O_CLOEXEC))
    with _stage(Stage.DEVICE):
        tun = TunDevice(interface)
    if tun.vnet:
        vnet.limit_bursts(tun.name)
    return tun


@contextlib.contextmanager
def _stage(stage: Stage) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Refused(stage, error) from error
    except IkeclientError as error:  # whose cause has the number
        cause = error.__context__ if isinstance(error.__context__, OSError) else OSError(1, error.message)
        raise _Refused(stage, cause) from error


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def described(config: MachineConfig) -> dict[str, object]:
    """A configuration as JSON values, without what has no meaning where there is no other network."""
    dns = config.dns
    return {
        "interface": config.interface,
        "mtu": config.mtu,
        "addresses": [*map(str, config.addresses), *map(str, config.own)],  # where ours are not, they are put
        "routes": [str(each) for each in config.routes],
        "exclude": [str(each) for each in config.exclude],
        "blocked": sorted(config.blocked),
        "mark": config.mark,
        "table": config.table,
        "dns": dns and {"servers": [str(each) for each in dns.servers], "domains": list(dns.domains)},
    }


def configuration(message: dict[str, Any]) -> MachineConfig:
    """The configuration that `described` wrote. Name servers are asked for every name: there are no others."""
    dns = message["dns"]
    return MachineConfig(
        interface=message["interface"],
        mtu=message["mtu"],
        addresses=tuple(ip_interface(each) for each in message["addresses"]),
        routes=tuple(ip_network(each) for each in message["routes"]),
        exclude=tuple(ip_network(each) for each in message["exclude"]),
        blocked=frozenset(message["blocked"]),
        gateway=(),
        ports=(),
        mark=message["mark"],
        table=message["table"],
        dns=dns
        and DnsConfig(
            servers=tuple(ip_address(each) for each in dns["servers"]), domains=tuple(dns["domains"]), mode="all"
        ),
    )
