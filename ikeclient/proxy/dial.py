"""Connections to the outside of the tunnel's far end: every address of a name is tried, the quickest wins.

After RFC 8305: families in turn, the next address beside a slow one after a moment, at once after a failure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import Any, Protocol, TypeVar

from ikeclient.proxy.destination import Destination
from ikeclient.proxy.network import FarEnd, Network
from ikeclient.proxy.refusal import ITSELF, TIMEOUT, Refusal, Refused, most_telling, refusal_of
from ikeclient.proxy.settings import Limits


class _Closable(Protocol):
    def close(self) -> None: ...


_End = TypeVar("_End", bound=_Closable)


async def dial(destination: Destination, network: Network, limits: Limits) -> FarEnd:
    """A connection to the destination in that network. Raises Refused."""
    hosts: Sequence[str] = (destination.host,)
    if destination.address is None:
        hosts = in_turn(await network.addresses(destination.host))

    async def reach(host: str) -> FarEnd:
        if not limits.to_itself and network.leads_here(host):
            raise Refused(ITSELF)
        return await network.connect(host, destination.port)

    return await first_to_answer(hosts, limits, reach)


def in_turn(hosts: Sequence[str]) -> list[str]:
    """The same addresses with the families alternating, that of the first one first (RFC 8305 section 4)."""
    families = [[h for h in hosts if (":" in h) is wanted] for wanted in (":" in hosts[0], ":" not in hosts[0])]
    return [host for host in chain.from_iterable(zip_longest(*families)) if host is not None]


async def first_to_answer(
    hosts: Sequence[str], limits: Limits, reach: Callable[[str], Coroutine[Any, Any, _End]]
) -> _End:
    """The first connection that one of these addresses accepts. Raises Refused with the most telling failure."""
    waiting = deque(hosts)
    running: set[asyncio.Task[_End]] = set()
    failures: list[Refusal] = []
    try:
        async with asyncio.timeout(limits.connecting):
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(reach(waiting.popleft())))
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


def _abandon(tasks: set[asyncio.Task[_End]]) -> None:
    for task in tasks:
        task.cancel()
        task.add_done_callback(_close_result)


def _close_result(task: asyncio.Task[_End]) -> None:
    """A connection that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
