"""The gateway's names to addresses."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from ikeclient.errors import NoResponse
from ikeclient.tunnel.resolve import resolve


def answers(table: dict[str, list[str]]) -> Any:
    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[Any, ...]]:
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in table[host]]

    return getaddrinfo


def test_every_address_of_every_host_is_tried_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"a": ["203.0.113.1", "2001:db8::1"], "b": ["203.0.113.1", "203.0.113.2"]}
    monkeypatch.setattr(socket, "getaddrinfo", answers(table))
    found = asyncio.run(resolve(["a", "b"], 500))
    assert found == [
        ("a", ip_address("203.0.113.1")),
        ("a", ip_address("2001:db8::1")),
        ("b", ip_address("203.0.113.2")),
    ]


def test_one_unknown_host_does_not_hide_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers({"b": ["203.0.113.2"]}))
    assert asyncio.run(resolve(["a", "b"], 500)) == [("b", ip_address("203.0.113.2"))]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "224.0.0.1", "ff02::1"])
def test_an_address_that_nobody_can_have_is_no_gateway(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """F3: a name that resolves to nonsense is an error that says so."""
    monkeypatch.setattr(socket, "getaddrinfo", answers({"a": [address]}))
    with pytest.raises(NoResponse) as caught:
        asyncio.run(resolve(["a"], 500))
    assert address in (caught.value.reason or "")


def test_an_unknown_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: NXDOMAIN."""
    monkeypatch.setattr(socket, "getaddrinfo", answers({}))
    with pytest.raises(NoResponse, match=r"cannot find the gateway vpn\.example\.com"):
        asyncio.run(resolve(["vpn.example.com"], 500))
