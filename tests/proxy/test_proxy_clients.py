"""A client that people use: python-socks, which is behind aiohttp-socks and httpx-socks. curl, git, pip: tests/lab."""

from __future__ import annotations

import pytest
from proxy.proxy_world import PATIENCE, a_proxy, bound, closed_port, receive
from python_socks import ProxyError
from python_socks.sync import Proxy

from ikeclient.proxy.settings import Kind

LOGIN = (b"alice", b"s3cret")


def client(scheme: str, port: int, login: str = "", *, resolve_there: bool = True) -> Proxy:
    url = f"{scheme}://{login}127.0.0.1:{port}"
    return Proxy.from_url(url, rdns=resolve_there) if scheme == "socks5" else Proxy.from_url(url)


@pytest.mark.parametrize("login", ["", "alice:s3cret@"])
@pytest.mark.parametrize("scheme", ["socks5", "http"])
def test_it_connects_by_name_and_by_address(scheme: str, login: str, echo_port: int) -> None:
    kind = Kind.SOCKS if scheme == "socks5" else Kind.HTTP
    with a_proxy(bound(kind), login=LOGIN if login else None) as (port,):
        for host in ("localhost", "127.0.0.1"):
            with client(scheme, port, login).connect(host, echo_port, timeout=PATIENCE) as connection:
                connection.sendall(b"hello")
                assert receive(connection, 5) == b"hello"


def test_it_hears_why_there_is_no_connection() -> None:
    with a_proxy(bound(), bound(Kind.HTTP)) as (socks, http):
        with pytest.raises(ProxyError, match="Connection refused") as caught:
            client("socks5", socks).connect("127.0.0.1", closed_port(), timeout=PATIENCE)
        assert caught.value.error_code == 5
        with pytest.raises(ProxyError, match="502 Bad Gateway"):
            client("http", http).connect("127.0.0.1", closed_port(), timeout=PATIENCE)


@pytest.mark.parametrize("login", ["", "alice:guess@"])
def test_it_is_kept_out_without_the_password(login: str, echo_port: int) -> None:
    with a_proxy(bound(), bound(Kind.HTTP), login=LOGIN) as (socks, http):
        with pytest.raises(ProxyError):
            client("socks5", socks, login).connect("127.0.0.1", echo_port, timeout=PATIENCE)
        with pytest.raises(ProxyError, match="407"):
            client("http", http, login).connect("127.0.0.1", echo_port, timeout=PATIENCE)
