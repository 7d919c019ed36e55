"""The gateway's names to addresses, all of them, in the order in which they are to be tried.

The C library's resolver cannot be interrupted, and it may take half a minute, so it runs in a thread (`threads`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from ikeclient.errors import NoNetwork, NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.tunnel.threads import in_thread

PATIENCE = 10.0
_FINAL = {  # what a name server that was reached says of a name without an address; musl has fewer of them
    getattr(socket, name, socket.EAI_NONAME) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
}


Known = list[tuple[str, IPAddress]]  # addresses with the host names they are from


async def resolve(hosts: Sequence[str], port: int) -> Known:
    """Each usable address of each host once, with the host that it is from.

    Raises NoResponse when there is none, NoNetwork when that may be another answer a moment later.
    """
    found: dict[IPAddress, str] = {}
    problems = []
    temporary = False
    for host in hosts:
        try:
            answers = await asyncio.wait_for(_look_up(host, port), PATIENCE)
        except TimeoutError:
            temporary = True
            problems.append(f"{host}: the name server does not answer")
            continue
        except (OSError, UnicodeError) as error:
            temporary |= isinstance(error, OSError) and error.errno not in _FINAL
            problems.append(f"{host}: {getattr(error, 'strerror', None) or 'not a name'}")
            continue
        for answer in answers:
            address = ip_address(answer.partition("%")[0])
            if address.is_unspecified or address.is_multicast:
                problems.append(f"{host}: {address} cannot be a gateway")
            else:
                found.setdefault(address, host)
    if not found:
        kind = NoNetwork if temporary else NoResponse
        raise kind(
            f"cannot find the gateway {', '.join(hosts)}",
            reason="; ".join(problems),
            hint="check [gateway] address and this machine's name resolution",
        )
    return [(host, address) for address, host in found.items()]


def _look_up(host: str, port: int) -> asyncio.Future[list[str]]:
    def work() -> list[str]:
        return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)]

    return in_thread(work, "resolve")
