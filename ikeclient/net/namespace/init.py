"""The process that makes a namespace of our own, and then does in it what it is told: addresses, routes, DNS.

It is forked from the command before that has read a secret, and stays a small process without one. It has every right
in its namespace and none elsewhere; whatever else runs in the namespace has none. It ends when nobody is left at the
other end of its socket. What it does is what `machine.Machine` does on a real machine, which this is, in small.
What it says and hears is in `net.namespace.messages`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from ikeclient.errors import IkeclientError, PlatformError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import daemonise
from ikeclient.ipc.messages import Message, pack, receive
from ikeclient.net import syscalls as linux
from ikeclient.net.changes.steps import Step
from ikeclient.net.device import vnet
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.model import MachineConfig
from ikeclient.net.namespace.handle import NAMESPACES
from ikeclient.net.namespace.messages import CODEC, Answer, Applied, Ready
from ikeclient.net.namespace.mounts import Covers, NamespaceDns, cover
from ikeclient.net.namespace.rootless import NODE, NamespaceRefusal, Stage

NAME = "inside"
_LOOK_MS, _DEAF_MS = 60_000, 1000  # milliseconds between looks that no event causes, and if there are no events
_SELF = Path("/proc/self")
_SETTINGS = {  # of the network in there; what cannot be set costs nothing but comfort
    "ipv4/ping_group_range": "{gid} {gid}",  # `ping` without a capability
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
}


class _Refused(Exception):
    def __init__(self, stage: Stage, error: OSError) -> None:
        super().__init__(stage, error)
        self.refusal = NamespaceRefusal(stage=stage, code=error.errno or 0)


def run_init(channel: socket.socket, interface: str) -> int:
    """Do everything that the process does; returns its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    [ours] = daemonise([channel.detach()])
    os.chdir("/")
    with contextlib.suppress(OSError):
        _serve(socket.socket(fileno=ours), interface)
    return 0


def _serve(channel: socket.socket, interface: str) -> None:
    try:
        dns, covers, warnings = _make()
        tun = _device(interface)
    except _Refused as refused:
        channel.sendall(pack(CODEC.encode(refused.refusal)))
        return
    spaces = [os.open(_SELF / "ns" / name, os.O_RDONLY | os.O_CLOEXEC) for name in NAMESPACES]
    ready = Ready(interface=tun.name, vnet=tun.vnet, warnings=tuple(warnings))
    socket.send_fds(channel, [pack(CODEC.encode(ready))], [tun.fileno(), *spaces])
    tun.close()  # the tunnel's copy keeps the interface
    for each in spaces:
        os.close(each)
    _obey(channel, dns, covers)


def _obey(channel: socket.socket, dns: NamespaceDns, covers: Covers) -> None:
    """Bring the namespace to each state that is asked for, until the other end is closed."""
    from ikeclient.net.machine.kernel import Kernel
    from ikeclient.net.machine.machine import Machine
    from ikeclient.net.machine.requests import message_classes

    message_classes()  # now, while the tunnel negotiates
    machine = Machine(Path("/"), NAME, kernel=Kernel(), dns=dns, journal=NoJournal())
    while (message := _order(channel, covers)) is not None:
        answer: Answer
        try:
            machine.apply(CODEC.decode(MachineConfig, message))
            answer = Applied(warnings=tuple(machine.warnings), servers=machine.servers)
        except IkeclientError as error:
            answer = Failure.of(error)
        except ValueError as error:
            answer = Failure.of(PlatformError("the namespace cannot be like that", reason=str(error)))
        channel.sendall(pack(CODEC.encode(answer)))


def _order(channel: socket.socket, covers: Covers) -> Message | None:
    """Return the next message, None at the end, and meanwhile keep the files of the namespace in their place."""
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(covers, select.POLLPRI)
    if covers.bell is not None:
        poll.register(covers.bell, select.POLLIN)
    wait = _LOOK_MS if covers.bell is not None else _DEAF_MS
    while channel.fileno() not in {number for number, _ in poll.poll(wait)}:
        covers.mend()
    try:
        return receive(channel.recv)
    except ValueError:
        return None


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
