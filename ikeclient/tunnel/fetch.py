"""Fetch what a certificate or an unproven peer points at, over plain HTTP, outside of the tunnel.

The addresses are strangers', so their names are resolved here, the address that was judged is the one that is connected
to, and neither this machine nor its link is ever asked, except as a proxy that `http_proxy` names (hardening C11).
HTTPS is not followed: what comes back is signed, or its hash is known. All of it goes outside of the tunnel, which may
not exist yet, from a socket with its mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin

from ikeclient.errors import NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.net.transport.http import HttpAnswer, HttpError, HttpRequest, Url, exchange, forbidden, proxy_for
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.threads import in_thread

MAX_REDIRECTS = 2
MAX_ADDRESSES = 2  # of a host that are tried
OK = 200

Resolve = Callable[[Sequence[str], int], Coroutine[Any, Any, Known]]
Admit = Callable[[IPAddress | None, int], None]


class Fetcher:
    """Asks one URL at a time.

    - `resolve`: addresses of a host name.
    - `admit`: lets our packets to an address through what keeps the machine closed, from a port of ours; None for the
      address: no more.
    - `mark`: of our sockets, 0 without one.
    - `environment`: has `http_proxy`; None for that of this process.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        mark: Callable[[], int],
        admit: Admit = lambda _address, _port: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._resolve = resolve
        self._mark = mark
        self._admit = admit
        self._environment = environment

    async def fetch(
        self, text: str, seconds: float, limit: int, body: bytes | None = None, content_type: str = ""
    ) -> HttpAnswer:
        """What a URL answers after its redirects, of at most `limit` bytes; raises HttpError. POST with a `body`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if seconds <= 0:
            raise HttpError("there is no time left for it")
        try:
            return await asyncio.wait_for(self._follow(text, deadline, limit, body, content_type), seconds)
        except TimeoutError:
            raise HttpError("it does not answer in time") from None

    def close(self) -> None:
        """Let no packets to those who were asked through any more."""
        self._admit(None, 0)

    async def _follow(
        self, text: str, deadline: float, limit: int, body: bytes | None, content_type: str
    ) -> HttpAnswer:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._ask(Url.parse(text), deadline, limit, body, content_type)
            if answer.location is None:
                return answer
            text = urljoin(text, answer.location)
        raise HttpError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _ask(self, url: Url, deadline: float, limit: int, body: bytes | None, content_type: str) -> HttpAnswer:
        proxy = proxy_for(url) if self._environment is None else proxy_for(url, self._environment)
        addresses = await self._addresses(proxy or url, trusted=proxy is not None)
        if proxy is not None:
            _refuse_literal(url)
        request = HttpRequest(url=url, body=body, content_type=content_type, by_proxy=proxy is not None)
        mark = self._mark()
        loop = asyncio.get_running_loop()
        problem = HttpError("it has no address")
        for address in addresses[:MAX_ADDRESSES]:

            def bound(port: int, address: IPAddress = address) -> None:
                left = max(0.1, deadline - loop.time())
                asyncio.run_coroutine_threadsafe(self._let_through(address, port), loop).result(left)

            call = partial(
                exchange,
                request,
                (address, (proxy or url).port),
                mark=mark,
                seconds=max(0.1, deadline - loop.time()),
                limit=limit,
                bound=bound,
            )
            try:
                return await in_thread(call, "fetch")
            except HttpError as error:
                problem = error
        raise problem

    async def _let_through(self, address: IPAddress, port: int) -> None:
        self._admit(address, port)

    async def _addresses(self, url: Url, *, trusted: bool) -> list[IPAddress]:
        try:
            known = await self._resolve([url.host], url.port)
        except NoResponse as error:
            raise HttpError(error.reason or "its name is not known") from None
        found = [address for _, address in known]
        refused = [why for each in found if (why := forbidden(each)) is not None and not trusted]
        if refused:  # a name with one such address is none to be asked at all
            raise HttpError(refused[0])
        return found


def _refuse_literal(url: Url) -> None:
    """Raise HttpError for an address that a proxy is not to ask either; what a name means, the proxy decides."""
    try:
        address = ip_address(url.host)
    except ValueError:
        if url.host == "localhost" or url.host.endswith(".localhost"):
            raise HttpError("its address is of this machine itself") from None
        return
    if (why := forbidden(address)) is not None:
        raise HttpError(why)


def url_text(text: str) -> str:
    """A URL for people; one of a stranger's, so escaped and not too long."""
    shown = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= 100 else f"{shown[:100]}..."
