"""Ask through a running tunnel, whichever kind it is: the one that ends in a process is asked over its control socket,
the one in a namespace is entered, and through one with an interface of this machine goes what is bound to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Protocol

from ikeclient.control import client
from ikeclient.control.answers import PingAnswer, ResolveAnswer
from ikeclient.control.protocol import ANSWER_SECONDS, Command
from ikeclient.control.status import TunnelStatus
from ikeclient.errors import NoResponse, NotConnected, UsageError
from ikeclient.process.inside_kernel import Interface, ping, resolve
from ikeclient.process.join_or_start import enter


class Inside(Protocol):
    """The inside of a tunnel."""

    def ping(self, address: str, *, timeout: float, size: int) -> PingAnswer:
        """Ask for one echo, with `size` bytes of data, and wait at most `timeout` seconds."""

    def resolve(self, name: str) -> ResolveAnswer:
        """Look a name up with the tunnel's servers."""


def open_inside(name: str) -> Inside:
    """Return the inside of the running tunnel `name`; this process may be in its namespace afterwards.

    To be called from a process with one thread. Raises NoSuchTunnel, NoResponse, PrivilegeError, UsageError; and
    NotConnected if the first connection is still being made.
    """
    status = client.status(name)
    if status.state in ("connecting", "blocked"):
        raise NotConnected(f"tunnel '{name}' is {status.state}", hint=f"`ikeclient wait {name}` waits until it is up")
    match status.mode:
        case "stack":
            return _InStack(name)
        case "netns":
            return _InKernel(_joined(name, status))
    return _InKernel(_interface(status, status.interface))


def _joined(name: str, status: TunnelStatus) -> Interface:
    way = client.join(name)
    if way is None:
        raise NoResponse(f"tunnel '{name}' is about to end")
    enter(name, way)
    return _interface(status, None)


def _interface(status: TunnelStatus, device: str | None) -> Interface:
    dns = status.dns
    try:
        for each in (*status.addresses, *dns.servers):
            ip_interface(each)
    except ValueError:  # it is another user's, and not ours to trust
        raise NoResponse(f"tunnel '{status.name}' gave an answer that makes no sense") from None
    return Interface(device=device, addresses=status.addresses, servers=dns.servers, domains=dns.domains)


class _InKernel:
    def __init__(self, interface: Interface) -> None:
        self._interface = interface

    def ping(self, address: str, *, timeout: float, size: int) -> PingAnswer:
        return ping(self._interface, address, timeout=timeout, size=size)

    def resolve(self, name: str) -> ResolveAnswer:
        return resolve(self._interface, name)


class _InStack:
    def __init__(self, name: str) -> None:
        self._name = name

    def ping(self, address: str, *, timeout: float, size: int) -> PingAnswer:
        return PingAnswer.from_json(self._ask(Command.PING, address=address, timeout=timeout, size=size))

    def resolve(self, name: str) -> ResolveAnswer:
        return ResolveAnswer.from_json(self._ask(Command.RESOLVE, name=name))

    def _ask(self, command: Command, **arguments: object) -> Mapping[str, object]:
        answer = client.request(self._name, command, arguments, timeout=ANSWER_SECONDS)
        if not isinstance(answer, Mapping):
            raise UsageError(f"tunnel '{self._name}' gave an answer that makes no sense")
        return answer
