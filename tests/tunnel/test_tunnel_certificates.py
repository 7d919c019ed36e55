"""Certificates by hash and URL (RFC 7296 section 3.6): only what was meant, and never from here (C11)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from web_server import serving

from ikeclient.crypto.pki.bundles import MAX_BUNDLE, MAX_URLS, CertificateUrls, FetchedCertificates, HashAndUrl
from ikeclient.net.transport.http import forbidden
from ikeclient.tunnel import fetch
from ikeclient.tunnel.certificates import CertificateLookup
from ikeclient.tunnel.fetch import Fetcher
from ikeclient.tunnel.resolve import Known


async def resolve(hosts: Sequence[str], port: int) -> Known:
    return [(hosts[0], ip_address("127.0.0.2" if hosts[0] == "here.example" else "127.0.0.1"))]


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fetch, "forbidden", lambda address: None if address == ip_address("127.0.0.1") else forbidden(address)
    )


def find(*places: HashAndUrl) -> FetchedCertificates:
    lookup = CertificateLookup(Fetcher(resolve, mark=lambda: 0, environment={}))
    return asyncio.run(lookup(CertificateUrls(places)))


def place(content: bytes, url: str) -> HashAndUrl:
    return HashAndUrl(hashlib.sha1(content, usedforsecurity=False).digest(), url, bundle=False)


def test_what_has_the_right_hash_counts_and_the_rest_says_why() -> None:
    with serving({"/a": b"one", "/b": b"two", "/big": bytes(MAX_BUNDLE + 1)}) as server:
        at = f"http://data.example:{server.server_port}"
        found = find(
            place(b"one", f"{at}/a"),
            place(b"other", f"{at}/b"),
            place(b"", f"{at}/c"),
            place(bytes(MAX_BUNDLE + 1), f"{at}/big"),
            place(b"one", "http://here.example/a"),
            place(b"one", "file:///etc/passwd"),
        )
        assert len(server.asked) == 4
    assert found.contents == (b"one", None, None, None, None, None)
    for why, problem in zip(
        ("hash differs", "status 404", "too long", "this machine itself", "not one of plain HTTP"),
        found.problems,
        strict=True,
    ):
        assert why in problem


def test_only_so_many_places_are_looked_at() -> None:
    with serving({"/a": b"one"}) as server:
        url = f"http://data.example:{server.server_port}/a"
        assert len(find(*[place(b"one", url)] * (MAX_URLS + 3)).contents) == MAX_URLS
        assert len(server.asked) == MAX_URLS
