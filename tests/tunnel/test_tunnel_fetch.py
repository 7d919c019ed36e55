"""What is fetched for a stranger's sake: from where, how long, how much (C11); more in the tests of revocation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from web_server import reply, serving

from ikeclient.net.transport.http import HttpAnswer, HttpError, forbidden
from ikeclient.tunnel import fetch
from ikeclient.tunnel.fetch import Fetcher, url_text
from ikeclient.tunnel.resolve import Known


async def resolve(hosts: Sequence[str], port: int) -> Known:
    return [(hosts[0], ip_address("127.0.0.1"))]


def get(url: str, *, seconds: float = 20, limit: int = 1000) -> HttpAnswer:
    return asyncio.run(Fetcher(resolve, mark=lambda: 0, environment={}).fetch(url, seconds, limit))


@pytest.fixture
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fetch, "forbidden", lambda address: None if address == ip_address("127.0.0.1") else forbidden(address)
    )


@pytest.mark.usefixtures("_loopback")
def test_what_a_url_has_comes_with_its_status() -> None:
    with serving({"/a": b"content"}) as server:
        assert get(f"http://data.example:{server.server_port}/a").body == b"content"
        assert get(f"http://data.example:{server.server_port}/b").status == 404


@pytest.mark.usefixtures("_loopback")
def test_an_answer_that_is_too_long_is_none() -> None:
    with serving({"/a": bytes(1001)}) as server, pytest.raises(HttpError, match="too long"):
        get(f"http://data.example:{server.server_port}/a")


@pytest.mark.usefixtures("_loopback")
def test_a_server_that_says_nothing_has_so_much_time() -> None:
    with serving({"/a": lambda handler: handler.server.gone.wait(30) and reply(handler, b"late")}) as server:  # type: ignore[attr-defined]
        with pytest.raises(HttpError, match="in time"):
            get(f"http://data.example:{server.server_port}/a", seconds=0.5)
        server.gone.set()


def test_without_time_nobody_is_asked() -> None:
    with pytest.raises(HttpError, match="no time left"):
        get("http://data.example/", seconds=0)


@pytest.mark.parametrize(
    "url",
    ["https://data.example/", "file:///etc/passwd", "http://a b/", "ftp://x/", "http:///x", "http://data.example/"],
)
def test_neither_other_schemes_nor_this_machine_are_asked(url: str) -> None:
    """C11: the name means 127.0.0.1 here."""
    with pytest.raises(HttpError):
        get(url)


def test_a_strangers_url_is_safe_to_show() -> None:
    assert url_text("http://x/\x1b[2J") == "http://x/\\x1b[2J"
    assert len(url_text("http://x/" + "a" * 500)) <= 103
