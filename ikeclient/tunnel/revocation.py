"""Find out whether the certificates of a proven gateway have been revoked: from a cache, by OCSP, or with a list.

Only plain HTTP is asked, since what comes back is signed; HTTPS would need an answer to the same question first. The
addresses come from certificates, so their names are resolved here, the address that was judged is the one that is
connected to, and neither this machine nor its link is ever asked, except as a proxy that `http_proxy` names. All of it
goes outside of the tunnel, which does not exist yet, from a socket with its mark.

What takes computing or waiting happens in threads, while packets go on: a list may have hundreds of thousands of
entries.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from ipaddress import ip_address
from typing import Any
from urllib.parse import urljoin

from ikeclient.crypto.pki import crl, ocsp
from ikeclient.crypto.pki.revocation import (
    Evidence,
    PathRevocation,
    RevocationCheck,
    RevocationQuery,
    RevocationState,
    RevocationStatus,
    list_urls,
)
from ikeclient.errors import NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.net.transport.http import HttpAnswer, HttpError, HttpRequest, Url, exchange, forbidden, proxy_for
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.revocation_cache import RevocationCache
from ikeclient.tunnel.threads import in_thread

FETCH = 10.0  # seconds for one URL, its redirects included
TOTAL = 20.0  # seconds for a path
MAX_REDIRECTS = 2
MAX_RESPONDERS, MAX_LISTS = 2, 4  # URLs of one certificate that are asked
_OCSP_REQUEST = "application/ocsp-request"
_OK = 200

Resolve = Callable[[Sequence[str], int], Coroutine[Any, Any, Known]]
Admit = Callable[[IPAddress | None, int], None]


@dataclass(slots=True)
class _Case:
    """What is known about one certificate, as it becomes more."""

    query: RevocationQuery
    position: int
    responses: list[bytes] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class RevocationLookup:
    """Answers queries; `tunnel.ports.Ports.revocation`.

    - `resolve`: addresses of a host name.
    - `admit`: lets our packets to an address through what keeps the machine closed, from a port of ours; None for the
      address: no more.
    - `mark`: of our sockets, 0 without one.
    - `environment`: has `http_proxy`.
    """

    def __init__(
        self,
        resolve: Resolve,
        *,
        time_of_day: Callable[[], datetime],
        entropy: Callable[[int], bytes],
        mark: Callable[[], int],
        admit: Admit = lambda _address, _port: None,
        cache: RevocationCache | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._resolve = resolve
        self._time_of_day = time_of_day
        self._entropy = entropy
        self._mark = mark
        self._admit = admit
        self._cache = cache or RevocationCache(None)
        self._environment = environment

    async def __call__(self, query: RevocationQuery) -> PathRevocation:
        """The state of every certificate of the path but its anchor."""
        deadline = asyncio.get_running_loop().time() + TOTAL
        found = list(query.statuses)
        try:
            for position, status in enumerate(query.statuses):
                if status.state is RevocationState.UNKNOWN and status.asked:
                    found[position] = await self._look_up(_Case(query, position), status, deadline)
                if found[position].state is RevocationState.REVOKED:
                    break
        finally:
            self._admit(None, 0)
        return PathRevocation(statuses=tuple(found))

    async def _look_up(self, case: _Case, status: RevocationStatus, deadline: float) -> RevocationStatus:
        certificate = case.query.path[case.position]
        issuer = case.query.path[case.position + 1]
        responders, lists = ocsp.urls(certificate)[:MAX_RESPONDERS], list_urls(certificate)[:MAX_LISTS]
        response_key = f"ocsp {hashlib.sha256(certificate.der).hexdigest()} {hashlib.sha256(issuer.der).hexdigest()}"
        kept = await in_thread(partial(self._kept, response_key, lists), "revocation")
        case.responses, case.lists = kept
        if (case.responses or case.lists) and (known := await self._judge(case)).state is not RevocationState.UNKNOWN:
            return known
        case.responses, case.lists = [], []
        for text in responders:
            nonce = self._entropy(ocsp.NONCE_LENGTH)
            body = ocsp.request(certificate, issuer, nonce)
            answer = await self._fetch(case, text, deadline, "OCSP responder", ocsp.MAX_LENGTH, body)
            if answer is None:
                continue
            case.responses = [answer]
            status = await self._judge(case, nonce)
            if status.state is not RevocationState.UNKNOWN:
                await in_thread(partial(self._cache.put, response_key, answer), "revocation")
                return status
            case.problems.append(f"{status.detail} ({_shown(text)})")
        case.responses = []
        complete = 0
        for text in lists:
            if complete and status.state is not RevocationState.UNKNOWN and text not in crl.delta_urls(certificate):
                continue  # another place for what is known already
            answer = await self._fetch(case, text, deadline, "revocation list", crl.MAX_LENGTH)
            if answer is None:
                continue
            case.lists.append(answer)
            complete += 1
            status = await self._judge(case)
            if status.state is RevocationState.UNKNOWN:
                case.problems.append(f"{status.detail} ({_shown(text)})")
            else:
                await in_thread(partial(self._cache.put, f"crl {text}", answer), "revocation")
            if status.state is RevocationState.REVOKED:
                break
        if status.state is RevocationState.UNKNOWN and case.problems:
            status = replace(status, detail="; ".join(dict.fromkeys(case.problems)))
        return status

    def _kept(self, response_key: str, lists: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
        response = self._cache.get(response_key, ocsp.MAX_LENGTH)
        found = [self._cache.get(f"crl {text}", crl.MAX_LENGTH) for text in lists]
        return [] if response is None else [response], [each for each in found if each is not None]

    async def _judge(self, case: _Case, nonce: bytes | None = None) -> RevocationStatus:
        now = self._time_of_day()

        def work() -> RevocationStatus:
            fetched = Evidence.read(case.responses, case.lists)
            sent = case.query.evidence
            evidence = replace(fetched, responses=(*fetched.responses, *sent.responses))
            evidence = replace(evidence, lists=(*fetched.lists, *sent.lists))
            check = RevocationCheck(case.query.path, case.query.others, now)
            return check.status(case.position, evidence, nonce)

        return await in_thread(work, "revocation")

    # Fetching

    async def _fetch(
        self, case: _Case, text: str, deadline: float, what: str, limit: int, body: bytes | None = None
    ) -> bytes | None:
        """What a URL has; None if it has nothing, and then the reason is among the problems of the case."""
        clock = asyncio.get_running_loop().time
        left = min(FETCH, deadline - clock())
        try:
            if left <= 0:
                raise HttpError("there is no time left for it")
            return await asyncio.wait_for(self._follow(text, clock() + left, limit, body), left)
        except TimeoutError:
            case.problems.append(f"the {what} {_shown(text)}: it does not answer in time")
        except HttpError as error:
            case.problems.append(f"the {what} {_shown(text)}: {error}")
        return None

    async def _follow(self, text: str, deadline: float, limit: int, body: bytes | None) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            answer = await self._ask(Url.parse(text), deadline, limit, body)
            if answer.location is None:
                if answer.status != _OK:
                    raise HttpError(f"it answers with the status {answer.status}")
                return answer.body
            text = urljoin(text, answer.location)
        raise HttpError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _ask(self, url: Url, deadline: float, limit: int, body: bytes | None) -> HttpAnswer:
        proxy = proxy_for(url) if self._environment is None else proxy_for(url, self._environment)
        addresses = await self._addresses(proxy or url, trusted=proxy is not None)
        if proxy is not None:
            _refuse_literal(url)
        request = HttpRequest(url=url, body=body, content_type=_OCSP_REQUEST, by_proxy=proxy is not None)
        mark = self._mark()
        loop = asyncio.get_running_loop()
        problem = HttpError("it has no address")
        for address in addresses[:2]:

            def bound(port: int, address: IPAddress = address) -> None:
                asyncio.run_coroutine_threadsafe(self._let_through(address, port), loop).result(FETCH)

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


def _shown(text: str) -> str:
    """A URL for people; one of a stranger's, so escaped and not too long."""
    shown = text if text.isascii() and text.isprintable() else ascii(text)[1:-1]
    return shown if len(shown) <= 100 else f"{shown[:100]}..."
