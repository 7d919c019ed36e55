from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ikeclient.dataplane import event_loop as module
from ikeclient.dataplane.event_loop import (
    COALESCING_DELAY,
    PACING,
    Pacer,
    PacketLoop,
    SourceWatch,
    run_loop,
    unwatch,
    watch,
)
from ikeclient.dataplane.interfaces import Relayed


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The first is watched, the second is written to."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def taking(sock: socket.socket, seen: list[tuple[bytes, bool]]) -> Callable[[bool], None]:
    return lambda again: seen.append((sock.recv(100), again))


def test_a_callback_hears_whether_its_descriptor_is_still_readable(pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[tuple[bytes, bool]] = []

    async def main() -> None:
        for word in (b"one", b"two", b"three"):
            pair[1].send(word)
        watch(pair[0].fileno(), taking(pair[0], seen))
        await asyncio.sleep(0.01)
        pair[1].send(b"later")
        await asyncio.sleep(0.01)
        unwatch(pair[0].fileno())
        pair[1].send(b"never")
        await asyncio.sleep(0.01)

    run_loop(main())
    assert seen == [(b"one", False), (b"two", True), (b"three", True), (b"later", False)]


def test_who_relays_waits_in_place_of_the_loop(pair: tuple[socket.socket, socket.socket]) -> None:
    """As long as there is time to wait. What is readable just after it has carried is no first packet."""
    seen: list[tuple[bytes, bool]] = []
    waits: list[int] = []
    descriptor = pair[0].fileno()

    def relay(poll: int, timeout: int) -> Relayed | None:
        waits.append(timeout)
        if not seen:
            return None
        with select.epoll.fromfd(os.dup(poll)) as waiting:
            ready = waiting.poll(timeout / 1000)
        return ready, (descriptor,) if len(seen) == 1 else ()

    async def main() -> None:
        pair[1].send(b"one")
        watch(descriptor, taking(pair[0], seen), relay=relay)
        await asyncio.sleep(0.05)
        pair[1].send(b"two")
        await asyncio.sleep(0.05)
        pair[1].send(b"three")
        await asyncio.sleep(0.05)
        watch(descriptor, taking(pair[0], seen))
        count = len(waits)
        await asyncio.sleep(0.01)
        watch(descriptor, taking(pair[0], seen), relay=relay)
        unwatch(descriptor)
        await asyncio.sleep(0.01)
        assert len(waits) == count

    run_loop(main())
    assert seen == [(b"one", False), (b"two", True), (b"three", False)]
    assert all(0 < timeout <= 50 for timeout in waits)


def test_an_error_of_who_relays_is_reported_and_packets_go_on(pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[tuple[bytes, bool]] = []
    failures: list[str] = []

    def relay(_poll: int, _timeout: int) -> Relayed | None:
        if not failures:
            raise ValueError("broken")
        return None

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(str(context["exception"])))
        watch(pair[0].fileno(), taking(pair[0], seen), relay=relay)
        pair[1].send(b"one")
        await asyncio.sleep(0.02)

    run_loop(main())
    assert (failures, seen) == (["broken"], [(b"one", False)])


def test_what_a_callback_caused_is_seen_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """The answer to a ping: written to the device, and there to be read."""
    answer, question = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    order: list[str] = []

    def answered(_: bool) -> None:
        pair[0].recv(100)
        order.append("question")
        question.send(b"answer")
        asyncio.get_running_loop().call_soon(order.append, "asyncio")

    def seen(_: bool) -> None:
        answer.recv(100)
        order.append("answer")

    async def main() -> None:
        watch(pair[0].fileno(), answered)
        watch(answer.fileno(), seen)
        pair[1].send(b"question")
        await asyncio.sleep(0.01)

    with answer, question:
        run_loop(main())
    assert order == ["question", "answer", "asyncio"]


def test_an_error_goes_to_the_handler_and_the_packets_go_on(pair: tuple[socket.socket, socket.socket]) -> None:
    seen: list[bytes] = []
    told: list[dict[str, Any]] = []

    def carry(_: bool) -> None:
        seen.append(pair[0].recv(100))
        if len(seen) == 1:
            raise RuntimeError("a bug")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        watch(pair[0].fileno(), carry)
        pair[1].send(b"first")
        pair[1].send(b"second")
        await asyncio.sleep(0.01)

    run_loop(main())
    assert seen == [b"first", b"second"]
    assert [(str(context["exception"]), "handle" in context) for context in told] == [("a bug", True)]


def test_a_descriptor_that_another_callback_has_closed_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    """Both are readable in one look; the first callback ends the second's watch, as a lost device does."""
    called: list[int] = []

    def carry(mine: int, other: int) -> Callable[[bool], None]:
        def callback(_: bool) -> None:
            called.append(mine)
            unwatch(mine)
            unwatch(other)

        return callback

    async def main() -> None:
        first, second = (sock.fileno() for sock in pair)
        watch(first, carry(first, second))
        watch(second, carry(second, first))
        pair[0].send(b"x")
        pair[1].send(b"x")
        await asyncio.sleep(0.01)
        unwatch(first)  # and once more does no harm

    run_loop(main())
    assert len(called) == 1


def test_timers_signals_and_other_descriptors_are_served_while_packets_never_end() -> None:
    reading, writing = os.pipe()
    other_reading, other_writing = os.pipe()
    done: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        watch(reading, lambda _: None)  # always readable
        loop.add_reader(other_reading, lambda: done.append(f"reader {os.read(other_reading, 10)!r}"))
        loop.add_signal_handler(signal.SIGUSR1, done.append, "signal")
        loop.call_later(0.01, done.append, "timer")
        os.write(writing, b"x")
        os.write(other_writing, b"y")
        os.kill(os.getpid(), signal.SIGUSR1)
        done.append(await loop.run_in_executor(None, lambda: "thread"))
        while len(done) < 4:  # noqa: ASYNC110  three of them come by plain callbacks
            await asyncio.sleep(0.001)
        loop.remove_reader(other_reading)
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0

    try:
        run_loop(asyncio.wait_for(main(), 10))
    finally:
        for descriptor in (reading, writing, other_reading, other_writing):
            os.close(descriptor)
    assert sorted(done) == ["reader b'y'", "signal", "thread", "timer"]


@pytest.mark.parametrize("wanted", [True, False])
def test_the_loop_waits_a_moment_if_it_is_asked_to(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    delays: list[float] = []
    monkeypatch.setattr(module.time, "sleep", delays.append)

    async def main() -> None:
        watch(pair[0].fileno(), lambda _: pair[0].recv(100), lambda: wanted)
        pair[1].send(b"x")
        await asyncio.sleep(0.01)

    run_loop(main())
    assert delays == [COALESCING_DELAY] * wanted


def test_the_pacer_sleeps_for_what_is_left_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 50.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds + 60e-6  # the kernel is late

    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.time, "sleep", sleep)
    pace = Pacer()
    pace()
    now += PACING * 0.75
    pace()
    pace()
    now += PACING
    pace()
    assert slept == pytest.approx([PACING / 4, PACING])


def test_another_loop_carries_packets_as_well(pair: tuple[socket.socket, socket.socket]) -> None:
    """All at once, because it tells nobody whether there is more."""
    seen: list[tuple[bytes, bool]] = []

    async def main() -> None:
        watch(pair[0].fileno(), taking(pair[0], seen))
        pair[1].send(b"x")
        await asyncio.sleep(0.01)
        unwatch(pair[0].fileno())
        pair[1].send(b"y")
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert seen == [(b"x", True)]


def test_a_closed_loop_leaves_no_descriptor_behind(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        assert isinstance(asyncio.get_running_loop(), PacketLoop)
        watch(pair[0].fileno(), lambda _: None)

    before = os.listdir("/proc/self/fd")
    run_loop(main())
    assert len(os.listdir("/proc/self/fd")) == len(before)
    pair[1].send(b"still open")
    assert pair[0].recv(100) == b"still open"


class Packets:
    """A source with so many packets, of which each call carries one; `due` are seconds until `expire`."""

    def __init__(self, count: int = 0, due: float | None = None) -> None:
        self.count, self.due = count, due
        self.touched: Callable[[], None] | None = None
        self.expired = 0

    def watch(self, touched: Callable[[], None] | None) -> None:
        self.touched = touched

    @property
    def waiting(self) -> bool:
        return self.count > 0

    def due_in(self) -> float | None:
        return self.due

    def expire(self) -> None:
        self.expired += 1
        self.due = None

    def add(self, count: int) -> None:
        self.count += count
        assert self.touched is not None
        self.touched()


def taking_one(source: Packets, seen: list[bool]) -> Callable[[bool], None]:
    def carry(again: bool) -> None:
        source.count -= 1
        seen.append(again)

    return carry


def both_loops(main: Callable[[], Any]) -> None:
    run_loop(main())
    asyncio.run(main())


def test_a_source_without_a_descriptor_is_carried_until_nothing_waits() -> None:
    async def main() -> None:
        seen: list[bool] = []
        source = Packets(3)
        watching = SourceWatch(source, taking_one(source, seen))
        await asyncio.sleep(0.01)
        assert seen == [False, True, True]
        source.add(1)
        assert seen == [False, True, True], "not from inside of who says so"
        source.add(1)
        await asyncio.sleep(0.01)
        assert seen == [False, True, True, False, True]
        watching.close()
        assert source.touched is None
        source.count = 1
        await asyncio.sleep(0.01)
        assert len(seen) == 5

    both_loops(main)


def test_a_source_does_not_starve_descriptors_and_timers(pair: tuple[socket.socket, socket.socket]) -> None:
    async def main() -> None:
        source = Packets(1)
        watching = SourceWatch(source, lambda _: None)  # it never ends
        seen: list[tuple[bytes, bool]] = []
        watch(pair[0].fileno(), taking(pair[0], seen))
        pair[1].send(b"packet")
        await asyncio.sleep(0.01)
        assert seen[0][0] == b"packet"
        unwatch(pair[0].fileno())
        watching.close()

    run_loop(main())


def test_the_timer_of_a_source_rings_once_and_is_set_again() -> None:
    async def main() -> None:
        source = Packets(due=0.01)
        watching = SourceWatch(source, lambda _: None)
        await asyncio.sleep(0.05)
        assert source.expired == 1
        source.due = 5.0
        source.add(0)
        await asyncio.sleep(0.01)
        source.due = 0.01
        source.add(0)
        await asyncio.sleep(0.05)
        assert source.expired == 2
        source.due = 0.01
        source.add(0)
        await asyncio.sleep(0)
        watching.close()
        await asyncio.sleep(0.05)
        assert source.expired == 2

    both_loops(main)


def test_what_a_source_does_in_the_loop_is_seen_before_it_waits() -> None:
    """A callback that a source schedules while the loop looks for packets does not wait for the next packet."""

    async def main() -> None:
        source, done = Packets(), asyncio.Event()

        def carry(_: bool) -> None:
            source.count = 0
            asyncio.get_running_loop().call_soon(done.set)

        watching = SourceWatch(source, carry)
        source.add(1)
        async with asyncio.timeout(5):
            await done.wait()
        watching.close()

    both_loops(main)


def test_an_error_in_a_source_goes_to_the_handler_and_the_source_goes_on() -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        source = Packets(2)
        seen: list[bool] = []

        def carry(again: bool) -> None:
            source.count -= 1
            seen.append(again)
            if len(seen) == 1:
                raise ValueError("a bug")

        watching = SourceWatch(source, carry)
        await asyncio.sleep(0.01)
        assert seen == [False, True]
        watching.close()

    run_loop(main())
    assert [type(each["exception"]) for each in told] == [ValueError]
