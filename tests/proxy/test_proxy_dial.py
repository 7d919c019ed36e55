"""Connections to names with several addresses, some of which do not work."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.proxy_world import closed_port, few

from ikeclient.proxy.destination import Destination
from ikeclient.proxy.dial import dial, first_to_answer, in_turn
from ikeclient.proxy.refusal import (
    BUSY,
    FAILURE,
    FORBIDDEN,
    NO_HOST,
    NO_NAME,
    NO_NETWORK,
    REFUSED,
    TIMEOUT,
    Refusal,
    Refused,
    most_telling,
    refusal_of,
)
from ikeclient.proxy.sockets import SocketNetwork, connect


def to_port(port: int) -> Callable[[str], Coroutine[Any, Any, socket.socket]]:
    return lambda host: connect(host, port)


def test_the_families_take_turns_and_the_first_keeps_its_place() -> None:
    assert in_turn(["fd99::1", "fd99::2", "10.0.0.1"]) == ["fd99::1", "10.0.0.1", "fd99::2"]
    assert in_turn(["10.0.0.1", "10.0.0.2"]) == ["10.0.0.1", "10.0.0.2"]


@given(st.lists(st.ip_addresses().map(str), min_size=1))
def test_taking_turns_loses_no_address(hosts: list[str]) -> None:
    assert sorted(in_turn(hosts)) == sorted(hosts)
    assert in_turn(hosts)[0] == hosts[0]


def test_an_address_that_refuses_costs_no_time() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        started = time.monotonic()

        async def run() -> None:
            with await first_to_answer(
                ["127.0.0.1", "::1", "127.0.0.2"], few(stagger=10.0), to_port(port)
            ) as connection:
                assert connection.getpeername()[0] == "127.0.0.2"

        asyncio.run(run())
        assert time.monotonic() - started < 5.0


def test_an_address_that_is_silent_does_not_hold_up_the_next() -> None:
    """RFC 8305 section 5. The late connection is closed, not leaked."""
    opened: list[socket.socket] = []
    late = asyncio.Event

    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]

        async def reach(host: str) -> socket.socket:
            if host == "127.0.0.1":
                try:
                    await late().wait()
                except asyncio.CancelledError:
                    opened.append(connection := await connect(host, port))  # it was through when we gave up
                    return connection
            return await connect(host, port)

        async def run() -> None:
            with await first_to_answer(["127.0.0.1", "127.0.0.2"], few(stagger=0.01), reach) as connection:
                assert connection.getpeername()[0] == "127.0.0.2"
            for _ in range(100):
                await asyncio.sleep(0.01)
                if opened and opened[0].fileno() == -1:
                    return
            raise AssertionError("the late connection stays open")

        asyncio.run(run())


def test_all_addresses_together_have_one_time_limit() -> None:
    async def reach(_: str) -> socket.socket:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Refused) as caught:
        asyncio.run(first_to_answer(["127.0.0.1", "::1"], few(connecting=0.1), reach))
    assert caught.value.refusal is TIMEOUT


def test_of_several_failures_the_most_telling_is_reported() -> None:
    with pytest.raises(Refused) as caught:
        asyncio.run(first_to_answer(["255.255.255.255", "127.0.0.1"], few(), to_port(closed_port())))
    assert caught.value.refusal is REFUSED
    assert most_telling([NO_NETWORK, NO_HOST]) is NO_HOST
    assert most_telling([NO_NETWORK, TIMEOUT]) is TIMEOUT
    assert most_telling([]) is FAILURE


@pytest.mark.parametrize(
    ("number", "refusal", "code"),
    [
        (errno.ECONNREFUSED, REFUSED, 5),
        (errno.EHOSTUNREACH, NO_HOST, 4),
        (errno.ENETUNREACH, NO_NETWORK, 3),
        (errno.EADDRNOTAVAIL, NO_NETWORK, 3),
        (errno.ETIMEDOUT, TIMEOUT, 6),
        (errno.EPERM, FORBIDDEN, 2),
        (errno.EMFILE, BUSY, 1),
        (errno.EIO, FAILURE, 1),
    ],
)
def test_each_error_of_the_system_has_its_reply(number: int, refusal: Refusal, code: int) -> None:
    """RFC 1928 section 6."""
    assert refusal_of(OSError(number, "")) is refusal
    assert refusal.socks == code


def test_a_name_that_does_not_exist_is_said_to_be_so() -> None:
    async def run() -> None:
        network = SocketNetwork(few())
        try:
            await dial(Destination.of("no-such-name.invalid", 80), network, few())
        finally:
            network.close()

    with pytest.raises(Refused) as caught:
        asyncio.run(run())
    assert caught.value.refusal in (NO_NAME, TIMEOUT)  # TIMEOUT where this machine has no name server at all
