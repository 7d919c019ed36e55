"""Find out whether the certificates of a proven peer have been revoked: from a cache, by OCSP, or with a list.

Only plain HTTP is asked (`fetch`), since what comes back is signed; HTTPS would need an answer to the same question
first.

A responder is asked by POST with a nonce. One that takes no POST, or no nonce, is asked once more by GET without one,
if the URL stays short (RFC 9654 section 2.1, RFC 5019 section 5): such responders answer from a store, as do the caches
before them, and then the times in the answer bound its age.

What takes computing or waiting happens in threads, while packets go on: a list may have hundreds of thousands of
entries.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from ikeclient.crypto.pki import crl, ocsp
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.revocation import RevocationCheck, list_urls, read_evidence
from ikeclient.crypto.pki.revocation_status import PathRevocation, RevocationQuery, RevocationState, RevocationStatus
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.transport.http import HttpError
from ikeclient.tunnel.fetch import OK, Fetcher, url_text
from ikeclient.tunnel.revocation_cache import RevocationCache
from ikeclient.tunnel.threads import in_thread

FETCH = 10.0  # seconds for one URL, its redirects included
TOTAL = 20.0  # seconds for a path
OWN = 5.0  # seconds for a response about our own certificate, which the gateway asked for
MAX_RESPONDERS, MAX_LISTS = 2, 4  # URLs of one certificate that are asked
MAX_GET = 255  # characters of a URL with a question in it (RFC 5019 section 5)
_OCSP_REQUEST = "application/ocsp-request"


@dataclass(slots=True)
class _Case:
    """What is known about one certificate, as it becomes more."""

    query: RevocationQuery
    position: int
    responses: list[bytes] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    answered: bool = False  # whether the server that was asked last said anything

    @property
    def certificate(self) -> Certificate:
        """Whom this is about."""
        return self.query.path[self.position]

    @property
    def issuer(self) -> Certificate:
        """Who issued it."""
        return self.query.path[self.position + 1]

    @property
    def key(self) -> str:
        """What an OCSP response is kept under."""
        one, other = (hashlib.sha256(each.der).hexdigest() for each in (self.certificate, self.issuer))
        return f"ocsp {one} {other}"


class _Question(NamedTuple):
    """One way to ask a responder; without a `body` the URL has it all."""

    url: str
    body: bytes | None
    nonce: bytes | None


class RevocationLookup:
    """Answers queries; `tunnel.ports.Ports.revocation`.

    `entropy` makes the nonces for responders. Without a `cache` nothing is kept.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        time_of_day: Callable[[], datetime],
        entropy: Callable[[int], bytes],
        cache: RevocationCache | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._time_of_day = time_of_day
        self._entropy = entropy
        self._cache = cache or RevocationCache(None)

    async def __call__(self, query: RevocationQuery) -> PathRevocation:
        """The state of every certificate of the path but its anchor."""
        if query.response_only:
            return await self._own_response(query)
        deadline = asyncio.get_running_loop().time() + TOTAL
        found = list(query.statuses)
        try:
            for position, status in enumerate(query.statuses):
                if status.state is RevocationState.UNKNOWN and status.asked:
                    found[position] = await self._look_up(_Case(query, position), status, deadline)
                if found[position].state is RevocationState.REVOKED:
                    break
        finally:
            self._fetcher.close()
        return PathRevocation(statuses=tuple(found))

    async def _own_response(self, query: RevocationQuery) -> PathRevocation:
        """An OCSP response about the first certificate, to be sent to a peer that asked for one (RFC 4806)."""
        deadline = asyncio.get_running_loop().time() + OWN
        case = _Case(query, 0)
        try:
            status = await self._from_cache(case, ()) or await self._by_ocsp(case, deadline)
        finally:
            self._fetcher.close()
        if status is None:
            return PathRevocation(statuses=query.statuses)
        return PathRevocation(statuses=(status,), response=case.responses[0])

    async def _look_up(self, case: _Case, status: RevocationStatus, deadline: float) -> RevocationStatus:
        lists = list_urls(case.certificate)[:MAX_LISTS]
        known = await self._from_cache(case, lists) or await self._by_ocsp(case, deadline)
        if known is not None:
            return known
        case.responses = []
        complete = 0
        for text in lists:
            if (
                complete
                and status.state is not RevocationState.UNKNOWN
                and text not in crl.delta_urls(case.certificate)
            ):
                continue  # another place for what is known already
            answer = await self._fetch(case, text, deadline, "revocation list", crl.MAX_LENGTH)
            if answer is None:
                continue
            case.lists.append(answer)
            complete += 1
            status = await self._judge(case)
            if status.state is RevocationState.UNKNOWN:
                case.problems.append(f"{status.detail} ({url_text(text)})")
            else:
                await in_thread(partial(self._cache.put, f"crl {text}", answer), "revocation")
            if status.state is RevocationState.REVOKED:
                break
        if status.state is RevocationState.UNKNOWN and case.problems:
            status = replace(status, detail="; ".join(dict.fromkeys(case.problems)))
        return status

    async def _from_cache(self, case: _Case, lists: Sequence[str]) -> RevocationStatus | None:
        """What is kept says; None if it does not tell."""
        case.responses, case.lists = await in_thread(partial(self._kept, case.key, lists), "revocation")
        if case.responses or case.lists:
            status = await self._judge(case)
            if status.state is not RevocationState.UNKNOWN:
                return status
        case.responses, case.lists = [], []
        return None

    async def _by_ocsp(self, case: _Case, deadline: float) -> RevocationStatus | None:
        """What the certificate's responders say, the response in the case; None if they do not tell."""
        for text in ocsp.urls(case.certificate)[:MAX_RESPONDERS]:
            for question in self._questions(case, text):
                answer = await self._fetch(
                    case, question.url, deadline, "OCSP responder", ocsp.MAX_LENGTH, question.body, named=text
                )
                if answer is None and not case.answered:
                    break
                if answer is None:
                    continue
                case.responses = [answer]
                status = await self._judge(case, question.nonce)
                if status.state is not RevocationState.UNKNOWN:
                    await in_thread(partial(self._cache.put, case.key, answer), "revocation")
                    return status
                case.problems.append(f"{status.detail} ({url_text(text)})")
                if ocsp.is_successful(answer):
                    break
        return None

    def _questions(self, case: _Case, text: str) -> Iterator[_Question]:
        """By POST with a nonce, and by GET without one if that is possible."""
        nonce = self._entropy(ocsp.NONCE_LENGTH)
        yield _Question(text, ocsp.request(case.certificate, case.issuer, nonce), nonce)
        encoded = quote(base64.b64encode(ocsp.request(case.certificate, case.issuer, None)), safe="")
        url = f"{text.removesuffix('/')}/{encoded}"
        if len(url) <= MAX_GET and not {"?", "#"} & set(text):
            yield _Question(url, None, None)

    def _kept(self, response_key: str, lists: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
        response = self._cache.get(response_key, ocsp.MAX_LENGTH)
        found = [self._cache.get(f"crl {text}", crl.MAX_LENGTH) for text in lists]
        return [] if response is None else [response], [each for each in found if each is not None]

    async def _judge(self, case: _Case, nonce: bytes | None = None) -> RevocationStatus:
        now = self._time_of_day()

        def work() -> RevocationStatus:
            fetched = read_evidence(case.responses, case.lists)
            sent = case.query.evidence
            evidence = replace(fetched, responses=(*fetched.responses, *sent.responses))
            evidence = replace(evidence, lists=(*fetched.lists, *sent.lists))
            check = RevocationCheck(case.query.path, case.query.others, now)
            return check.status(case.position, evidence, nonce)

        return await in_thread(work, "revocation")

    # Fetching

    async def _fetch(
        self,
        case: _Case,
        text: str,
        deadline: float,
        what: str,
        limit: int,
        body: bytes | None = None,
        *,
        named: str | None = None,
    ) -> bytes | None:
        """What a URL has; None if it has nothing, and then the reason is among the problems of the case."""
        left = min(FETCH, deadline - asyncio.get_running_loop().time())
        case.answered = False
        try:
            answer = await self._fetcher.fetch(text, left, limit, body, _OCSP_REQUEST if body is not None else "")
        except HttpError as error:
            case.problems.append(f"the {what} {url_text(named or text)}: {error}")
            return None
        case.answered = True
        if answer.status == OK:
            return answer.body
        case.problems.append(f"the {what} {url_text(named or text)}: it answers with the status {answer.status}")
        return None
