"""`proxy` where the tunnel ends in this process: nothing is needed but a socket to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ikeclient.cli.connect import compile_with_secrets, connect_options
from ikeclient.cli.context import settings
from ikeclient.cli.view.progress import Progress
from ikeclient.cli.view.render import event_line
from ikeclient.control import client
from ikeclient.errors import READER_GONE, NoResponse, PlatformError
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.process.run_in_stack import StackTunnel
    from ikeclient.process.service_socket import Service
    from ikeclient.process.tunnel_request import TunnelRequest
    from ikeclient.proxy.destination import Destination
    from ikeclient.proxy.remote_forward import RemoteForward
    from ikeclient.proxy.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered through the tunnel: the listeners of `served` and `remote`, or `leads_to` on the standard files.

    `announce` is called when the proxy serves, which it does as long as `beside` runs, or for ever. `service` is told.
    """

    served: Settings | None = None
    leads_to: Destination | None = None
    remote: Sequence[RemoteForward] = ()
    service: Service | None = None
    announce: Callable[[], None] = lambda: None
    beside: Callable[[], Coroutine[Any, Any, int]] | None = None


def run(request: TunnelRequest, offer: Offer, progress: Progress, show: Callable[[Mapping[str, object]], None]) -> int:
    """Run the tunnel and serve; returns the exit status, that of `beside` if there is one.

    Raises what `process.run.run` raises.
    """
    from ikeclient.process.log_file import log_to, open_log
    from ikeclient.process.profile_source import ProfileSource
    from ikeclient.process.run_in_stack import run_in_stack
    from ikeclient.proxy.in_stack import StackNetwork
    from ikeclient.proxy.remote_forward import RemoteForwards
    from ikeclient.proxy.serve import room_for_connections
    from ikeclient.proxy.server import Server

    source = ProfileSource(request.profile, request.overrides)
    attended = request.ask is not None
    compiled = compile_with_secrets(
        source, request.stdin is not None, progress, check_running=True, attended=attended, load=_load
    )
    options = connect_options(compiled, request.timeout, None, progress, source, ask=progress.ask if attended else None)
    lines = open_log(client.runtime_directory(), compiled.name)
    log_to(progress.log, settings.verbosity, kept=lines.log)
    up = asyncio.Event()
    statuses: list[int] = []

    def tell(event: dict[str, object]) -> None:
        lines.line(event_line(event))
        show(event)
        if event["event"] == "connected":
            up.set()

    async def use(tunnel: StackTunnel) -> None:
        await up.wait()
        served, service = offer.served, offer.service
        if served is None:
            assert offer.leads_to is not None
            statuses.append(await _stdio(tunnel, offer.leads_to))
            return
        room = room_for_connections(served.limits)
        server = Server(replace(served, limits=room), StackNetwork(tunnel.host, room))
        forwards = RemoteForwards(tunnel.host, offer.remote, room)
        try:
            try:
                server.start()
            except OSError as error:
                raise PlatformError("the proxy cannot listen", reason=error.strerror) from None
            offer.announce()
            if service is not None:
                service.tell(READY=1, STATUS=f"connected, and serving as a proxy for {compiled.name}")
            if offer.beside is None:
                await asyncio.get_running_loop().create_future()
            else:
                statuses.append(await offer.beside())
        finally:
            if service is not None:
                service.tell(STOPPING=1)
            forwards.close()
            await server.stop()

    run_in_stack(compiled, replace(options, metrics=request.metrics), tell, use)
    return statuses[0] if statuses else 0


def _load() -> None:
    """Load what a tunnel without a device consists of."""
    import ikeclient.process.run_in_stack  # noqa: F401


async def _stdio(tunnel: StackTunnel, destination: Destination) -> int:
    """Lead standard input and output through the tunnel; the standard files may block, so a thread copies them."""
    from ikeclient.proxy.dial import dial
    from ikeclient.proxy.in_stack import StackNetwork
    from ikeclient.proxy.refusal import Refused
    from ikeclient.proxy.settings import Limits
    from ikeclient.proxy.stdio import copy

    limits = Limits(to_itself=True)
    try:
        end = await dial(destination, StackNetwork(tunnel.host, limits), limits)
    except Refused as refused:
        raise NoResponse(f"no connection to {destination}", reason=refused.refusal.text) from None
    ours, theirs = socket.socketpair()
    with ours, contextlib.closing(end):
        ours.setblocking(False)
        relaying = asyncio.create_task(end.relay(ours))
        relaying.add_done_callback(lambda _: ours.shutdown(socket.SHUT_RDWR) if ours.fileno() >= 0 else None)
        try:
            await asyncio.to_thread(copy, theirs, destination)
        except BrokenPipeError:
            return READER_GONE
        finally:
            relaying.cancel()
            await asyncio.wait([relaying])
    return 0
