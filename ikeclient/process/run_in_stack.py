"""One tunnel that ends in this very process: no device, no namespace, no right, and nothing of the machine is changed.

What uses it speaks to an `AsyncHost` in the same event loop. Connections through it live on while the tunnel below
moves, is rekeyed or made again; only another inner address ends them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ikeclient.control.http_listener import bound, served
from ikeclient.dataplane.async_host import AsyncHost
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import run_loop
from ikeclient.dataplane.stack_machine import StackMachine
from ikeclient.errors import IkeclientError
from ikeclient.net.changes.steps import FIRST_TABLE
from ikeclient.process.audience import Audience, Listener
from ikeclient.process.card import card_of
from ikeclient.process.hangup import Reread
from ikeclient.process.inside_stack import answers_of
from ikeclient.process.run_in_namespace import adapted
from ikeclient.process.until_stopped import until_stopped
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.signer.start import signer
from ikeclient.stack.device import StackDevice
from ikeclient.stack.host import Host
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

Use = Callable[["StackTunnel"], Coroutine[Any, Any, None]]

_PATH_IS_BACK = frozenset(("connected", "roamed", "reauthenticated"))


class StackTunnel:
    """A tunnel and its inner end, in the running event loop; `connection.run()` runs it.

    `publish` gets every event. `sign` has a signature made where the key is, if it is not in a file.
    """

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        publish: Listener,
        keys: SignerClient | None = None,
    ) -> None:
        self._publish = publish
        self._host = host = Host(os.urandom)
        device = StackDevice(host, boottime, offload=profile.session.offload)
        ports = Ports(
            device=device,
            machine=StackMachine(host, boottime),
            table=FIRST_TABLE,
            ask=options.ask,
            sign=keys.sign if keys is not None else None,
            card=card_of(profile, keys),
        )
        self.host = AsyncHost(host, boottime)
        self.connection = TunnelDriver(adapted(profile), replace(options, mode="stack"), ports, self._tell)

    def _tell(self, event: dict[str, object]) -> None:
        if event["event"] in _PATH_IS_BACK:
            self._host.path_restored(boottime())
        self._publish(event)


def run_in_stack(profile: CompiledProfile, options: ConnectOptions, on_event: Listener, use: Use) -> None:
    """Run a tunnel as long as `use` runs, which begins with it; blocking, otherwise as `process.run.run`."""
    with signer(wanted=profile.signs_elsewhere) as keys, bound(options.metrics) as http:
        run_loop(_run(profile, options, on_event, use, keys, http))


async def _run(
    profile: CompiledProfile,
    options: ConnectOptions,
    on_event: Listener,
    use: Use,
    keys: SignerClient | None,
    http: socket.socket | None,
) -> None:
    audience = Audience(options, on_event)
    audience.tell_unused(profile, "what uses the tunnel has no other network")
    choose_cipher()
    tunnel = StackTunnel(profile, options, audience.publish, keys)
    connection = tunnel.connection
    async with audience.listening(connection, ask=answers_of(tunnel.host)):
        using = asyncio.get_running_loop().create_task(_use(use, tunnel))
        using.add_done_callback(_tell_of_bugs)
        try:
            with served(http, connection.status):
                await until_stopped(connection, connection.stop, _reread(options))
        finally:
            using.cancel()
            if keys is not None:
                keys.close()


async def _use(use: Use, tunnel: StackTunnel) -> None:
    """Let the tunnel live as long as its use, which may end it with an error."""
    error: IkeclientError | None = None
    try:
        await use(tunnel)
    except IkeclientError as failure:
        error = failure
    tunnel.connection.stop(error)


def _tell_of_bugs(using: asyncio.Task[None]) -> None:
    if not using.cancelled() and (error := using.exception()) is not None:
        context = {"message": "the use of the tunnel failed", "exception": error, "handle": None}
        using.get_loop().call_exception_handler(context)


def _reread(options: ConnectOptions) -> Reread | None:
    """Return what reads the profile again, as this kind of tunnel needs it."""
    reread = options.reread
    return None if reread is None else lambda: adapted(reread())
