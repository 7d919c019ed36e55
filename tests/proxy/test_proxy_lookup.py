"""Names in threads: shared, bounded, and no burden to others."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from proxy.proxy_world import few

from ikeclient.proxy.lookup import Lookup
from ikeclient.proxy.refusal import BUSY, NO_NAME, TIMEOUT, Refused


class Resolver:
    """Stands for getaddrinfo: names that start with `slow` wait until told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def __call__(self, name: str, port: None, **_: object) -> list[tuple[object, object, object, str, tuple[str, int]]]:
        self.asked.append(name)
        if name.startswith("slow"):
            self.go.wait(20)
        if name == "none":
            raise socket.gaierror(socket.EAI_NONAME, "")
        if name == "odd":
            raise UnicodeError
        count = 40 if name == "many" else 1
        return [(None, None, None, "", (f"10.0.0.{i}", 0)) for i in range(count) for _ in range(2)]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.go.set()


def looked_up(use: Callable[[Lookup], object], **limits: float) -> object:
    async def run() -> object:
        lookup = Lookup(few(**limits))
        try:
            return await use(lookup)  # type: ignore[misc]
        finally:
            lookup.close()

    return asyncio.run(run())


def test_a_name_gives_each_address_once_and_not_too_many(resolver: Resolver) -> None:
    assert looked_up(lambda lookup: lookup.addresses("one")) == ("10.0.0.0",)
    assert len(looked_up(lambda lookup: lookup.addresses("many"))) == 16  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "odd"])
def test_a_name_without_addresses_is_refused(resolver: Resolver, name: str) -> None:
    with pytest.raises(Refused) as caught:
        looked_up(lambda lookup: lookup.addresses(name))
    assert caught.value.refusal is NO_NAME


def test_clients_that_ask_for_one_name_share_a_query(resolver: Resolver) -> None:
    async def use(lookup: Lookup) -> None:
        asking = [asyncio.create_task(lookup.addresses("slow")) for _ in range(100)]
        await asyncio.sleep(0)
        resolver.go.set()
        assert set(await asyncio.gather(*asking)) == {("10.0.0.0",)}
        assert resolver.asked == ["slow"]
        await lookup.addresses("slow")  # answers are not kept: caching is the name server's business
        assert resolver.asked == ["slow", "slow"]

    looked_up(use)


def test_slow_names_do_not_hold_up_others(resolver: Resolver) -> None:
    async def use(lookup: Lookup) -> None:
        slow = [asyncio.create_task(lookup.addresses(f"slow{i}")) for i in range(63)]
        await asyncio.sleep(0)
        assert await lookup.addresses("quick") == ("10.0.0.0",)
        assert not any(task.done() for task in slow)
        resolver.go.set()
        await asyncio.gather(*slow)

    looked_up(use)


def test_a_client_waits_no_longer_than_the_limit(resolver: Resolver) -> None:
    started = time.monotonic()
    with pytest.raises(Refused) as caught:
        looked_up(lambda lookup: lookup.addresses("slow"), resolving=0.1)
    assert caught.value.refusal is TIMEOUT
    assert time.monotonic() - started < 10


def test_names_and_threads_are_bounded(resolver: Resolver) -> None:
    async def use(lookup: Lookup) -> None:
        before = threading.active_count()
        asking = [asyncio.create_task(lookup.addresses(f"slow{i}")) for i in range(40)]
        await asyncio.sleep(0.05)
        assert threading.active_count() - before <= 4
        refused = [task for task in asking if task.done()]
        assert len(refused) == 30
        assert all(isinstance(error := task.exception(), Refused) and error.refusal is BUSY for task in refused)
        resolver.go.set()
        assert len(await asyncio.gather(*asking, return_exceptions=True)) == 40
        assert await lookup.addresses("quick") == ("10.0.0.0",)

    looked_up(use, resolvers=4, names_waiting=10)


def test_the_threads_end_with_the_proxy(resolver: Resolver) -> None:
    looked_up(lambda lookup: lookup.addresses("one"))
    deadline = time.monotonic() + 10
    while any(thread.name == "ikeclient-lookup" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
