"""Listeners as people ask for them."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import PlatformError, UsageError
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.listen import ListenerSpec, bind, parse_forward, parse_listener
from ikeclient.proxy.settings import Kind


@pytest.mark.parametrize(
    ("text", "host", "port", "local"),
    [
        ("1080", "127.0.0.1", 1080, True),
        ("0", "127.0.0.1", 0, True),
        ("127.0.0.2:1080", "127.0.0.2", 1080, True),
        ("localhost:1080", "127.0.0.1", 1080, True),
        ("[::1]:1080", "::1", 1080, True),
        ("0.0.0.0:1080", "0.0.0.0", 1080, False),
        ("[::]:1080", "::", 1080, False),
        ("192.0.2.1:1080", "192.0.2.1", 1080, False),
    ],
)
def test_without_an_address_a_listener_is_on_loopback(text: str, host: str, port: int, local: bool) -> None:
    found = parse_listener(Kind.SOCKS, text)
    assert found == ListenerSpec(kind=Kind.SOCKS, host=host, port=port)
    assert found.is_local is local


@pytest.mark.parametrize(
    "text", ["", "host:1080", "127.0.0.1", "127.0.0.1:", "::1:1080", "65536", "1080 ", "*:1080", "-1"]
)
def test_other_listeners_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--http"):
        parse_listener(Kind.HTTP, text)


@pytest.mark.parametrize(
    ("text", "host", "port", "destination"),
    [
        ("8022:git.corp.example:22", "127.0.0.1", 8022, Destination(host="git.corp.example", port=22)),
        ("0:10.99.0.1:80", "127.0.0.1", 0, Destination(host="10.99.0.1", port=80)),
        ("8022:[fd99::1]:22", "127.0.0.1", 8022, Destination(host="fd99::1", port=22)),
        ("0.0.0.0:8022:a:22", "0.0.0.0", 8022, Destination(host="a", port=22)),
        ("[::1]:8022:[fd99::1]:22", "::1", 8022, Destination(host="fd99::1", port=22)),
    ],
)
def test_a_forward_has_a_port_and_where_it_leads(text: str, host: str, port: int, destination: Destination) -> None:
    assert parse_forward(text) == ListenerSpec(kind=Kind.FORWARD, host=host, port=port, destination=destination)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8022",
        "8022:22",
        "8022:a:",
        "8022:a:0",
        "a:8022:b:22",
        "1:8022:a:22:",
        "8022:fd99::1:22",
        "[a]:1:b:2",
        "[::1:1:b:2",
    ],
)
def test_other_forwards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--forward"):
        parse_forward(text)


@given(st.text(max_size=40))
def test_any_text_is_a_forward_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_forward(text).destination


def test_what_is_bound_refuses_until_somebody_listens() -> None:
    listeners, datagrams = bind(
        [parse_listener(Kind.SOCKS, "0"), parse_listener(Kind.HTTP, "[::1]:0"), parse_forward("0:a:1")]
    )
    try:
        assert [one.kind for one in listeners] == [Kind.SOCKS, Kind.HTTP, Kind.FORWARD]
        for one in listeners:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(one.socket.getsockname()[:2])
        assert len(datagrams) == 64
        assert {one.getsockname()[0] for one in datagrams} == {"127.0.0.1"}
    finally:
        for one in (*(listener.socket for listener in listeners), *datagrams):
            one.close()


def test_an_address_in_use_is_named_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PlatformError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            bind([parse_listener(Kind.SOCKS, "0"), parse_listener(Kind.HTTP, str(port))])
    with pytest.raises(PlatformError, match=r"cannot listen on 192\.0\.2\.77:1"):
        bind([parse_listener(Kind.SOCKS, "192.0.2.77:1")])
