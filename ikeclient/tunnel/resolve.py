"""The gateway's names to addresses, all of them, in the order in which they are to be tried.

The C library's resolver cannot be interrupted, and it may take half a minute. It runs in a thread that nobody waits for
at exit, which the loop's own pool of threads would not do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from ipaddress import ip_address

from ikeclient.errors import NoResponse
from ikeclient.ike.events import IPAddress

PATIENCE = 10.0


Known = list[tuple[str, IPAddress]]  # addresses with the host names they are from


async def resolve(hosts: Sequence[str], port: int) -> Known:
    """Each usable address of each host once, with the host that it is from; raises NoResponse when there is none."""
    found: dict[IPAddress, str] = {}
    problems = []
    for host in hosts:
        try:
            answers = await asyncio.wait_for(_look_up(host, port), PATIENCE)
        except TimeoutError:
            problems.append(f"{host}: the name server does not answer")
            continue
        except (OSError, UnicodeError) as error:
            problems.append(f"{host}: {getattr(error, 'strerror', None) or 'not a name'}")
            continue
        for answer in answers:
            address = ip_address(answer.partition("%")[0])
            if address.is_unspecified or address.is_multicast:
                problems.append(f"{host}: {address} cannot be a gateway")
            else:
                found.setdefault(address, host)
    if not found:
        raise NoResponse(
            f"cannot find the gateway {', '.join(hosts)}",
            reason="; ".join(problems),
            hint="check [gateway] address and this machine's name resolution",
        )
    return [(host, address) for address, host in found.items()]


def _look_up(host: str, port: int) -> asyncio.Future[list[str]]:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[list[str]] = loop.create_future()

    def deliver(addresses: list[str], error: OSError | UnicodeError | None) -> None:
        if answered.done():  # nobody waits any more
            return
        if error is not None:
            answered.set_exception(error)
        else:
            answered.set_result(addresses)

    def work() -> None:
        found: list[str] = []
        failure: OSError | UnicodeError | None = None
        try:
            found = [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)]
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, found, failure)

    threading.Thread(target=work, name="ikeclient-resolve", daemon=True).start()
    return answered
