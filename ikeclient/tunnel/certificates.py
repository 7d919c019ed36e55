"""Fetch the certificates that a gateway sends as hash and URL (RFC 7296 section 3.6), if the profile allows it.

Whoever sends them has proven nothing yet, and makes this machine ask: hence `fetch` with its guards, few URLs, little
time, and no more bytes than a bundle has. Only what has the right hash counts, and none of it is kept: strangers do not
get to fill the cache.
"""

from __future__ import annotations

import asyncio

from ikeclient.crypto.pki.bundles import MAX_BUNDLE, MAX_URLS, CertificateUrls, FetchedCertificates, HashAndUrl
from ikeclient.net.transport.http import HttpError
from ikeclient.tunnel.fetch import OK, Fetcher, url_text

TOTAL = 10.0  # seconds for all of them


class CertificateLookup:
    """Answers `CertificateUrls`; `tunnel.ports.OuterNetwork.certificates`."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def __call__(self, wanted: CertificateUrls) -> FetchedCertificates:
        """What is found at each place, in order."""
        deadline = asyncio.get_running_loop().time() + TOTAL
        contents: list[bytes | None] = []
        problems: list[str] = []
        try:
            for place in wanted.places[:MAX_URLS]:
                try:
                    contents.append(await self._find(place, deadline))
                except HttpError as error:
                    contents.append(None)
                    problems.append(f"{url_text(place.url)}: {error}")
        finally:
            self._fetcher.close()
        return FetchedCertificates(contents=tuple(contents), problems=tuple(problems))

    async def _find(self, place: HashAndUrl, deadline: float) -> bytes:
        answer = await self._fetcher.fetch(place.url, deadline - asyncio.get_running_loop().time(), MAX_BUNDLE)
        if answer.status != OK:
            raise HttpError(f"it answers with the status {answer.status}")
        if not place.fits(answer.body):
            raise HttpError("what it has is not what the gateway meant: the hash differs")
        return answer.body
