"""What code in an event loop gets of a host, with another host at the far end."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from random import Random
from typing import Any

import pytest

from ikeclient.dataplane.async_host import AsyncHost, Connection
from ikeclient.dataplane.event_loop import SourceWatch, run_loop
from ikeclient.dataplane.stack_machine import StackMachine
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.stack.device import StackDevice
from ikeclient.stack.host import Host
from ikeclient.stack.interfaces import CloseReason

OURS, THEIRS = "10.88.0.1", "10.99.0.7"
DATA = Random(1).randbytes(3_000_000)


def config(address: str, *, server: str | None = None) -> MachineConfig:
    return MachineConfig(
        interface="stack",
        mtu=1400,
        addresses=(IPv4Interface(f"{address}/32"),),
        routes=(IPv4Network("10.0.0.0/8"),),
        gateway=(IPv4Address("192.0.2.1"),),
        ports=(4500,),
        mark=1,
        table=100,
        dns=DnsConfig(servers=(IPv4Address(server),), domains=("corp.example",), mode="all") if server else None,
    )


def a_host(seed: int, settings: MachineConfig, *, offload: bool) -> tuple[AsyncHost, StackDevice]:
    host = Host(Random(seed).randbytes)
    StackMachine(host, time.monotonic).apply(settings)
    return AsyncHost(host, time.monotonic), StackDevice(host, time.monotonic, offload=offload)


@contextmanager
def two_hosts(*, offload: bool = True) -> Iterator[tuple[AsyncHost, AsyncHost]]:
    """Ours and theirs, joined in the running loop, by frames or by single packets."""
    ours, our_device = a_host(2, config(OURS, server=THEIRS), offload=offload)
    theirs, their_device = a_host(3, config(THEIRS), offload=offload)
    frame = bytearray(65545)

    def carry(one: StackDevice, other: StackDevice) -> Callable[[bool], None]:
        def move(_: bool) -> None:
            if (frames := one.frames()) is None:
                other.write_batch(one.read_batch(64))
            else:
                for _ in range(16):
                    if not (length := frames.read_into([frame])):
                        break
                    other.write_frames([memoryview(frame)[:length]])

        return move

    watches = [
        SourceWatch(our_device, carry(our_device, their_device)),
        SourceWatch(their_device, carry(their_device, our_device)),
    ]
    try:
        yield ours, theirs
    finally:
        for each in watches:
            each.close()
        our_device.close()


def run(main: Callable[[AsyncHost, AsyncHost], Coroutine[Any, Any, None]], **options: bool) -> None:
    """In both kinds of loops: the library runs in anybody's."""

    async def body() -> None:
        with two_hosts(**options) as (ours, theirs):
            async with asyncio.timeout(60):
                await main(ours, theirs)

    run_loop(body())
    asyncio.run(body())


async def connected(ours: AsyncHost, theirs: AsyncHost, port: int = 80) -> tuple[Connection, Connection]:
    accepted: asyncio.Queue[Connection] = asyncio.Queue()
    listening = theirs.listen(port, accepted.put_nowait)
    connection = await ours.open_connection(THEIRS, port)
    there = await accepted.get()
    listening.close()
    return connection, there


async def all_of(connection: Connection) -> bytes:
    found = bytearray()
    while data := await connection.read():
        found += data
    return bytes(found)


@pytest.mark.parametrize("offload", [True, False])
def test_bytes_go_both_ways_and_each_way_ends_by_itself(offload: bool) -> None:
    async def main(ours: AsyncHost, theirs: AsyncHost) -> None:
        here, there = await connected(ours, theirs)
        assert (here.peer, there.peer) == ((THEIRS, 80), here.own)

        async def send(connection: Connection, data: bytes | bytearray) -> None:
            await connection.write(data)
            connection.shutdown()

        up, down, _, _ = await asyncio.gather(
            all_of(there), all_of(here), send(here, DATA), send(there, bytearray(DATA[::-1]))
        )
        assert (up, down) == (DATA, DATA[::-1])
        with pytest.raises(BrokenPipeError):
            await here.write(b"more")
        here.close()
        there.close()

    run(main, offload=offload)


def test_failures_are_those_of_sockets() -> None:
    async def main(ours: AsyncHost, theirs: AsyncHost) -> None:
        with pytest.raises(ConnectionRefusedError):
            await ours.open_connection(THEIRS, 81)
        for address, number in (("192.0.2.9", errno.ENETUNREACH), ("fd99::1", errno.ENETUNREACH), ("x", errno.EINVAL)):
            for attempt in (ours.open_connection(address, 80), ours.ping(address)):
                with pytest.raises(OSError) as caught:  # noqa: PT011  its number follows
                    await attempt
                assert caught.value.errno == number
            with pytest.raises(OSError):  # noqa: PT011
                ours.open_udp(peer=(address, 53))
        here, there = await connected(ours, theirs)
        there.abort()
        with pytest.raises(ConnectionResetError):
            await here.read()
        with pytest.raises(ConnectionResetError):
            await here.write(b"data")
        assert here.closed is CloseReason.RESET
        listening = theirs.listen(83, lambda _: None)
        with pytest.raises(OSError) as caught:  # noqa: PT011
            theirs.listen(83, lambda _: None)
        assert caught.value.errno == errno.EADDRINUSE
        listening.close()

    run(main)


def test_one_who_stops_waiting_leaves_nothing_behind() -> None:
    async def main(ours: AsyncHost, theirs: AsyncHost) -> None:
        theirs.host.configure((), (), 1400, 0.0)  # nobody answers
        opening = asyncio.create_task(ours.open_connection(THEIRS, 80))
        await asyncio.sleep(0.01)
        assert ours.host.tcp.count == 1
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        assert ours.host.tcp.count == 0

    run(main)


def test_a_handler_is_handed_what_arrives_and_what_waited_stays_readable() -> None:
    async def main(ours: AsyncHost, theirs: AsyncHost) -> None:
        here, there = await connected(ours, theirs)
        await there.write(b"before")
        done, seen = asyncio.Event(), bytearray(await here.read(1))

        class Handler:
            def on_open(self) -> None: ...

            def on_data(self, data: memoryview) -> int:
                seen.extend(data)
                return len(data)

            def on_end(self) -> None:
                done.set()

            def on_writable(self) -> None: ...

            def on_closed(self, reason: CloseReason) -> None: ...

        here.handle(Handler())
        seen.extend(here.stream.receive(100))
        await there.write(b" and after")
        there.shutdown()
        await done.wait()
        assert seen == b"before and after"

    run(main)


def test_datagrams_names_and_pings() -> None:
    async def main(ours: AsyncHost, theirs: AsyncHost) -> None:
        server = theirs.open_udp(53)

        async def answer() -> None:
            """Knows one name only."""
            while True:
                question, client = await server.read()
                known = b"\3www" in question
                head = question[:2] + (b"\x81\x80\0\1\0\1" if known else b"\x81\x83\0\1\0\0") + bytes(4)
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\x63\0\7" if known else b""
                server.send(head + question[12:] + record, client)

        answering = asyncio.create_task(answer())
        assert await ours.resolve("www") == [THEIRS]
        assert await ours.resolve("10.99.0.9") == ["10.99.0.9"]
        with pytest.raises(socket.gaierror, match="does not exist"):
            await ours.resolve("other.example")
        with pytest.raises(socket.gaierror, match="no name server"):
            await theirs.resolve("www")
        answering.cancel()
        assert (await ours.ping(THEIRS)).round_trip is not None
        datagrams = ours.open_udp(peer=(THEIRS, 54))
        assert datagrams.send(b"to nobody")
        with pytest.raises(ConnectionRefusedError):
            await datagrams.read()
        for wrong, number in (((b"", ("x", 1)), errno.EINVAL), ((bytes(70_000), None), errno.EMSGSIZE)):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                datagrams.send(*wrong)
            assert caught.value.errno == number
        datagrams.close()

    run(main)


def test_the_machine_of_a_stack_is_its_host() -> None:
    host = Host(Random(4).randbytes)
    machine = StackMachine(host, time.monotonic)
    wanted = config(OURS, server=THEIRS)
    machine.apply(wanted)
    assert (host.addresses, machine.servers) == ([OURS], (IPv4Address(THEIRS),))
    assert host.mtu(IPv4Address(THEIRS).packed) == 1400
    assert (machine.plan(wanted), machine.left, machine.warnings) == ([], [], [])
    machine.renew()
    assert host.addresses == [OURS]
    machine.revert()
    assert (host.addresses, machine.servers) == ([], ())
