"""`exec --via-proxy`: a command that is told of a proxy through the tunnel, where no namespace can be had.

That is less than `exec` otherwise gives: a program that ignores the variables goes past the tunnel, which is said.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from ikeclient.cli.proxy_in_stack import Offer, run
from ikeclient.cli.view.progress import Progress
from ikeclient.cli.view.terminal import warn

if TYPE_CHECKING:
    from ikeclient.process.tunnel_request import TunnelRequest

_USER = "ikeclient"
_NOT_EXECUTABLE = 126  # as shells say
_BY_SIGNAL = 128  # as a shell reports a program that a signal ended


def execute_via_proxy(
    request: TunnelRequest, command: list[str], progress: Progress, show: Callable[[Mapping[str, object]], None]
) -> int:
    """Run the command with the proxy's variables in its environment; returns its exit status.

    The proxy listens on loopback, with a password that the command alone knows. Raises what `process.run.run` raises.
    """
    from ikeclient.proxy.listen import LOOPBACK, ListenerSpec, bind
    from ikeclient.proxy.peers import Peers
    from ikeclient.proxy.settings import Credentials, Kind, Settings

    warn("what does not follow the proxy variables (http_proxy, all_proxy) goes past the tunnel")
    password = secrets.token_urlsafe(24)
    specs = [ListenerSpec(kind=kind, host=LOOPBACK, port=0) for kind in (Kind.SOCKS, Kind.HTTP)]
    listeners, datagrams = bind(specs)
    served = Settings(
        listeners=listeners,
        datagram_sockets=datagrams,
        credentials=Credentials(_USER.encode(), password.encode()),
        peers=Peers.open(),
    )
    socks, http = (listener.socket.getsockname()[1] for listener in listeners)
    environment = os.environ | variables(f"{_USER}:{password}", socks, http)

    async def beside() -> int:
        try:
            process = await asyncio.create_subprocess_exec(*command, env=environment)
        except OSError as error:
            warn(f"{command[0]}: {error.strerror}")
            return _NOT_EXECUTABLE
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        return status if status >= 0 else _BY_SIGNAL - status

    with closing(served):
        return run(request, Offer(served=served, beside=beside), progress, show)


def variables(login: str, socks: int, http: int) -> dict[str, str]:
    """Return the variables that programs look for, in both spellings."""
    by_http, by_socks = f"http://{login}@127.0.0.1:{http}", f"socks5h://{login}@127.0.0.1:{socks}"
    named = {"http_proxy": by_http, "https_proxy": by_http, "ftp_proxy": by_http, "all_proxy": by_socks, "no_proxy": ""}
    return named | {name.upper(): value for name, value in named.items()}
