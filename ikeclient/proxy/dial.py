"""Connections to the outside of the tunnel's far end: every address of a name is tried, the quickest wins.

After RFC 8305: families in turn, the next address beside a slow one after a moment, at once after a failure.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from itertools import chain, zip_longest

from ikeclient.proxy.destination import Destination
from ikeclient.proxy.itself import leads_here
from ikeclient.proxy.lookup import Lookup
from ikeclient.proxy.refusal import ITSELF, TIMEOUT, Refusal, Refused, most_telling, refusal_of
from ikeclient.proxy.settings import Limits

_KEEPALIVE = {socket.TCP_KEEPIDLE: 300, socket.TCP_KEEPINTVL: 30, socket.TCP_KEEPCNT: 6}


async def dial(destination: Destination, lookup: Lookup, limits: Limits) -> socket.socket:
    """A connected, non-blocking socket. Raises Refused."""
    hosts: Sequence[str] = (destination.host,)
    if destination.address is None:
        hosts = in_turn(await lookup.addresses(destination.host))
    return await first_to_answer(hosts, destination.port, limits)


def in_turn(hosts: Sequence[str]) -> list[str]:
    """The same addresses with the families alternating, that of the first one first (RFC 8305 section 4)."""
    families = [[h for h in hosts if (":" in h) is wanted] for wanted in (":" in hosts[0], ":" not in hosts[0])]
    return [host for host in chain.from_iterable(zip_longest(*families)) if host is not None]


async def first_to_answer(hosts: Sequence[str], port: int, limits: Limits) -> socket.socket:
    """The first connection that one of these addresses accepts. Raises Refused with the most telling failure."""
    waiting = deque(hosts)
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[Refusal] = []
    try:
        async with asyncio.timeout(limits.connecting):
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(_reach(waiting.popleft(), port, limits)))
                done, _ = await asyncio.wait(
                    running, timeout=limits.stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    error = task.exception()
                    if error is None:
                        running.remove(task)
                        return task.result()
                    running.remove(task)
                    failures.append(refusal_of(error))
    except TimeoutError:
        failures.append(TIMEOUT)
    finally:
        _abandon(running)
    raise Refused(most_telling(failures))


async def _reach(host: str, port: int, limits: Limits) -> socket.socket:
    if not limits.to_itself and leads_here(host):
        raise Refused(ITSELF)
    return await _connect(host, port)


async def _connect(host: str, port: int) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        tune(connection)
        await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException:
        connection.close()
        raise
    return connection


def tune(connection: socket.socket) -> None:
    """What both ends of a relay want: no blocking, no waiting for more to send, dead peers noticed in the end."""
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _abandon(tasks: set[asyncio.Task[socket.socket]]) -> None:
    for task in tasks:
        task.cancel()
        task.add_done_callback(_close_result)


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    """A connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
