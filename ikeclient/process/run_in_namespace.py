"""One tunnel whose interface is in a network namespace of its own, for the commands that run there.

It lives as long as its last command: the one it was started for, whose process keeps the other end of a socket open,
and those that joined over the control socket, which are watched as processes. No right is needed and nothing outside
the namespace is changed, so there is no journal and nothing to repair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ikeclient.control import protocol
from ikeclient.control.directory import Peer
from ikeclient.control.http_listener import bound, served
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import run_loop
from ikeclient.errors import PlatformError, UsageError
from ikeclient.ipc.messages import pack
from ikeclient.net.changes.steps import FIRST_TABLE
from ikeclient.net.namespace.namespace import Namespace
from ikeclient.process.audience import Audience, Listener
from ikeclient.process.card import card_of
from ikeclient.process.until_stopped import until_stopped
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.signer.start import signer
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

STAYS = {"is": "Stays"}  # the message for a first command that ends while others keep the tunnel


def run_inside(
    profile: CompiledProfile,
    options: ConnectOptions,
    on_event: Listener,
    namespace: Namespace,
    first: socket.socket,
) -> None:
    """Run the tunnel of `namespace` until its last command has ended; blocking, otherwise as `process.run.run`.

    The end of `first` is the end of the first command; `STAYS` is sent there when others keep the tunnel.
    """
    with signer(wanted=profile.signs_elsewhere) as keys, bound(options.metrics) as http:
        inside = replace(options, mode="netns")
        run_loop(_run(adapted(profile), inside, on_event, namespace, first, keys, http))


def adapted(profile: CompiledProfile) -> CompiledProfile:
    """Adapt the profile to one network: the tunnel's servers resolve every name, and nothing stays outside."""
    network = profile.network
    dns: Literal["none", "all"] = "none" if network.dns == "none" else "all"
    return replace(profile, network=replace(network, dns=dns, exclude=(), exclude_lan=False))


async def _run(
    profile: CompiledProfile,
    options: ConnectOptions,
    on_event: Listener,
    namespace: Namespace,
    first: socket.socket,
    keys: SignerClient | None,
    http: socket.socket | None,
) -> None:
    audience = Audience(options, on_event)
    audience.tell_unused(profile, "the commands have no network but the tunnel")
    choose_cipher()
    sign = keys.sign if keys is not None else None
    card = card_of(profile, keys)
    ports = Ports(device=namespace.tun, machine=namespace, table=FIRST_TABLE, sign=sign, card=card)
    connection = TunnelDriver(profile, options, ports, audience.publish)
    if not profile.session.offload:
        namespace.tun.keep_plain()
    commands = Commands(connection, namespace)
    commands.watch_first(first)
    try:
        async with audience.listening(connection, join=commands.join):
            try:
                with served(http, connection.status):
                    await until_stopped(connection, connection.stop)
            finally:
                commands.close()
                if keys is not None:
                    keys.close()
    finally:
        namespace.leave()


class Commands:
    """The commands that run in a namespace; with the last of them the connection is stopped."""

    def __init__(self, connection: TunnelDriver, namespace: Namespace) -> None:
        self._connection = connection
        self._namespace = namespace
        self._loop = asyncio.get_running_loop()
        self._watched: set[int] = set()
        self._first: socket.socket | None = None
        self._ending = False
        self._loop.add_reader(namespace.fileno(), self._init_gone)

    def watch_first(self, first: socket.socket) -> None:
        """Watch the command whose process holds the other end, the first one."""
        first.setblocking(False)
        self._first = first
        self._loop.add_reader(first, self._first_gone)

    def join(self, who: Peer) -> dict[str, object]:
        """Watch a process that will run in the namespace; returns the way in. Raises UsageError."""
        if self._ending:
            raise UsageError(protocol.ENDING)
        if who.uid != os.geteuid():
            raise UsageError(f"only user {os.geteuid()} can run commands in it")
        try:
            descriptor = os.pidfd_open(who.pid)
        except OSError as error:
            raise UsageError(f"it cannot watch process {who.pid}: {error.strerror}") from error
        self._watched.add(descriptor)
        self._loop.add_reader(descriptor, self._gone, descriptor)
        return {
            "state": self._connection.session.status.life.word,
            "pid": self._namespace.init,
            "namespaces": self._namespace.handle.inodes,
        }

    def close(self) -> None:
        """Stop watching."""
        self._loop.remove_reader(self._namespace.fileno())
        for descriptor in tuple(self._watched):
            self._forget(descriptor)
        if self._first is not None:
            self._loop.remove_reader(self._first)
            self._first.close()

    def _forget(self, descriptor: int) -> None:
        self._watched.discard(descriptor)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def _gone(self, descriptor: int) -> None:
        self._forget(descriptor)
        self._end_with_the_last()

    def _first_gone(self) -> None:
        assert self._first is not None
        self._loop.remove_reader(self._first)
        if self._watched:
            with contextlib.suppress(OSError):  # it may be gone without asking
                self._first.send(pack(STAYS))
        self._first.close()
        self._first = None
        self._end_with_the_last()

    def _end_with_the_last(self) -> None:
        if not self._watched and self._first is None:
            self._ending = True
            self._connection.stop()

    def _init_gone(self) -> None:
        self._loop.remove_reader(self._namespace.fileno())
        self._ending = True
        self._connection.stop(PlatformError("the process that holds the tunnel's namespace is gone"))
