"""The stack against Linux: the kernel's TCP, UDP and ICMP behind a TUN device, whose other end is a host of ours."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from thread_namespace import fresh_namespace
from wire import FAR4, FAR6, LINUX4, LINUX6, OURS4, OURS6, BadPath, Wire, far_machine, run, run_joined

from ikeclient.dataplane.async_host import AsyncHost, Connection
from ikeclient.esp.packet.ecn import CE, decapsulate
from ikeclient.stack.interfaces import CloseReason
from ikeclient.stack.ip.header import TCP
from ikeclient.stack.ip.icmp import Kind
from ikeclient.stack.tcp.segment import CWR, SYN

BOTH = pytest.mark.parametrize("address", [LINUX4, LINUX6])
DATA = os.urandom(1 << 20)


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root to make a network namespace")
    with fresh_namespace():
        yield


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Linux:
    """A listening socket of the kernel; `accept` gives the next connection."""

    def __init__(self, address: str = LINUX4, port: int = 80) -> None:
        self.address, self.port = address, port
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(family(address), socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        self._socket.bind((address, port))
        self._socket.listen(2048)

    async def accept(self) -> socket.socket:
        connection, _ = await self._loop.sock_accept(self._socket)
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def connected(host: AsyncHost, address: str = LINUX4) -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection of ours and the kernel's end of it."""
    linux = Linux(address)
    try:
        ours, theirs = await asyncio.gather(host.open_connection(address, 80), linux.accept())
        with theirs:
            yield ours, theirs
    finally:
        linux.close()


async def drain(theirs: socket.socket) -> tuple[int, str]:
    """All that the kernel's end gets until the end: how much, and its hash."""
    loop, digest, buffer, size = asyncio.get_running_loop(), hashlib.sha256(), bytearray(1 << 20), 0
    while count := await loop.sock_recv_into(theirs, buffer):
        digest.update(memoryview(buffer)[:count])
        size += count
    return size, digest.hexdigest()


async def drain_ours(ours: Connection) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while data := await ours.read():
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


async def pour(theirs: socket.socket, times: int) -> None:
    for _ in range(times):
        await asyncio.get_running_loop().sock_sendall(theirs, DATA)
    theirs.shutdown(socket.SHUT_WR)


async def pour_ours(ours: Connection, times: int) -> None:
    for _ in range(times):
        await ours.write(DATA)
    ours.shutdown()


def digest_of(times: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    for _ in range(times):
        digest.update(DATA)
    return times * len(DATA), digest.hexdigest()


async def exchange(host: AsyncHost, address: str, times: int) -> None:
    """Both directions at the same time, each ended by itself."""
    async with connected(host, address) as (ours, theirs):
        up, down, _, _ = await asyncio.gather(
            drain(theirs), drain_ours(ours), pour(theirs, times), pour_ours(ours, times)
        )
        assert up == down == digest_of(times)
        ours.close()


@BOTH
@pytest.mark.parametrize("offload", [True, False])
def test_bytes_arrive_as_they_were_sent_both_ways_at_once(address: str, offload: bool) -> None:
    async def main(host: AsyncHost, wire: Wire) -> None:
        await exchange(host, address, 12)
        assert host.host.counters.malformed == 0
        if offload:
            assert wire.frames < (12 << 20) // 10_000  # super-packets, not one by one

    run_joined(main, offload=offload)


@pytest.mark.extended
@BOTH
def test_a_gigabyte_each_way(address: str) -> None:
    run_joined(lambda host, _: exchange(host, address, 1024), timeout=110)


def test_one_way_goes_on_after_the_other_has_ended() -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        async with connected(host) as (ours, theirs):
            loop = asyncio.get_running_loop()
            ours.shutdown()
            assert await loop.sock_recv(theirs, 10) == b""
            await loop.sock_sendall(theirs, DATA[:100_000])
            theirs.shutdown(socket.SHUT_WR)
            assert (await drain_ours(ours))[0] == 100_000
        async with connected(host) as (ours, theirs):
            theirs.shutdown(socket.SHUT_WR)
            assert await ours.read() == b""
            await ours.write(DATA[:100_000])
            ours.close()
            assert (await drain(theirs))[0] == 100_000

    run_joined(main)


def test_resets_are_seen_at_the_other_end() -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        loop = asyncio.get_running_loop()
        async with connected(host) as (ours, theirs):
            ours.abort()
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(theirs, 10)
        async with connected(host) as (ours, theirs):
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            with pytest.raises(ConnectionResetError):
                await ours.read()
            assert ours.closed is CloseReason.RESET

    run_joined(main)


@BOTH
def test_a_closed_port_refuses_at_once(address: str) -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        with pytest.raises(ConnectionRefusedError):
            await host.open_connection(address, 81)

    run_joined(main, timeout=20)


def test_what_a_router_cannot_reach_fails_at_once() -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        for kind, number in (("unreachable", errno.EHOSTUNREACH), ("prohibit", errno.EHOSTUNREACH)):
            run("ip", "route", "replace", kind, "10.8.0.0/16")
            with pytest.raises(OSError) as caught:  # noqa: PT011  its number follows
                await host.open_connection("10.8.1.1", 80)
            assert caught.value.errno == number
        with pytest.raises(OSError, match="does not lead there") as caught:
            await host.open_connection("10.9.1.1", 80)
        assert caught.value.errno == errno.ENETUNREACH
        assert (await host.ping("10.8.1.1")).error is Kind.PROHIBITED

    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
    run_joined(main, timeout=20)


def test_a_thousand_connections_at_once() -> None:
    """Each carries its own bytes both ways; none is refused or mixed up."""
    count = 1000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    run("sysctl", "-qw", "net.core.somaxconn=4096")

    async def main(host: AsyncHost, _: Wire) -> None:
        loop, linux = asyncio.get_running_loop(), Linux()

        async def echo(theirs: socket.socket) -> None:
            with theirs:
                while data := await loop.sock_recv(theirs, 1 << 16):
                    await loop.sock_sendall(theirs, data)

        async def serve() -> None:
            async with asyncio.TaskGroup() as echoing:
                for _ in range(count):
                    echoing.create_task(echo(await linux.accept()))

        async def one(number: int) -> None:
            ours = await host.open_connection(LINUX4, 80)
            said = b"%d " % number * 200
            await ours.write(said)
            ours.shutdown()
            heard = b""
            while data := await ours.read():
                heard += data
            assert heard == said
            ours.close()

        await asyncio.gather(serve(), *(one(number) for number in range(count)))
        linux.close()

    try:
        run_joined(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_readers_stop_senders_and_lose_nothing() -> None:
    """Neither end keeps more than its buffers, and everything comes once the reader goes on."""

    async def main(host: AsyncHost, _: Wire) -> None:
        async with connected(host) as (ours, theirs):
            sending = asyncio.create_task(pour_ours(ours, 24))
            await asyncio.sleep(0.3)
            assert not sending.done()
            assert ours.stream.unsent < 9 << 20
            received, _ = await asyncio.gather(drain(theirs), sending)
            assert received == digest_of(24)
            filling = asyncio.create_task(pour(theirs, 24))
            await asyncio.sleep(0.3)
            assert not filling.done()
            assert ours.stream.waiting < 9 << 20
            back, _ = await asyncio.gather(drain_ours(ours), filling)
            assert back == digest_of(24)

    run_joined(main)


def test_a_path_that_loses_delays_reorders_and_doubles() -> None:
    bad = BadPath(1, loss=0.02, delay=0.004, jitter=0.004, doubled=0.01)
    run_joined(lambda host, _: exchange(host, LINUX4, 1), path=bad)


class Marking(BadPath):
    """A router that marks some of what can be marked; `confirmed` are the ends whose segments had CWR."""

    def __init__(self) -> None:
        super().__init__(5)
        self._every = count(1)
        self.confirmed: set[bytes] = set()

    def carry(self, packet: bytes, arrive: Callable[[bytes], object]) -> None:
        """Mark every fiftieth packet, unless it cannot be."""
        if packet[9] == TCP and packet[33] & CWR and not packet[33] & SYN:
            self.confirmed.add(packet[12:16])
        marked = bytearray(packet)
        if not next(self._every) % 50:
            decapsulate(CE, marked)
        super().carry(bytes(marked), arrive)


def test_marks_of_a_router_are_told_and_confirmed_both_ways() -> None:
    """RFC 3168: we ask for it, and Linux accepts; CWR shows that ECE was heard."""
    path = Marking()
    run_joined(lambda host, _: exchange(host, LINUX4, 2), path=path)
    assert path.confirmed == {socket.inet_aton(OURS4), socket.inet_aton(LINUX4)}


@pytest.mark.extended
@BOTH
@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_a_bad_path_in_many_ways(address: str, loss: float, jitter: float) -> None:
    bad = BadPath(2, loss=loss, delay=0.01, jitter=jitter)
    run_joined(lambda host, _: exchange(host, address, 3), timeout=110, path=bad)


@pytest.mark.parametrize(
    ("address", "told"),
    [(FAR4, True), (FAR4, False), (FAR6, True), pytest.param(FAR6, False, marks=pytest.mark.extended)],
)
def test_a_path_that_carries_less_is_found_out(address: str, told: bool) -> None:
    """By the error of the router, and where that is filtered, by what does not arrive (RFC 8899)."""
    if not told:
        run("nft", "add", "table", "inet", "hole")
        run("nft", "add", "chain", "inet", "hole", "out", "{ type filter hook output priority 0; }")
        for error in ("icmp type destination-unreachable", "icmpv6 type packet-too-big"):
            run("nft", "add", "rule", "inet", "hole", "out", *error.split(), "drop")

    async def main(host: AsyncHost, _: Wire) -> None:
        with enter():
            linux = Linux(address)
        ours, theirs = await asyncio.gather(host.open_connection(address, 80), linux.accept())
        with theirs:
            up, down, _none, _nothing = await asyncio.gather(
                drain(theirs), drain_ours(ours), pour(theirs, 2), pour_ours(ours, 2)
            )
            assert up == down == digest_of(2)
            assert host.host.mtu(socket.inet_pton(family(address), address)) == (1280 if told else 1400)
        linux.close()

    with far_machine(1280) as enter:
        run_joined(main, path=None if told else BadPath(3))


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark")
def test_wireshark_finds_nothing_wrong(tmp_path: Path) -> None:
    """No checksum is wrong, nothing is sent again without a loss, nothing is outside of the window."""
    capture = tmp_path / "wire.pcap"

    async def main(host: AsyncHost, wire: Wire) -> None:
        with wire.recorded(capture):
            for address in (LINUX4, LINUX6):
                await exchange(host, address, 2)
                with pytest.raises(ConnectionRefusedError):
                    await host.open_connection(address, 81)
                assert (await host.ping(address, size=3000)).round_trip is not None
                await asyncio.sleep(0.1)  # for the last acknowledgements

    run_joined(main, path=BadPath(4))
    wrong = (
        "tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0 || icmp.checksum.status == 0 "
        "|| icmpv6.checksum.status == 0 || _ws.malformed || tcp.analysis.retransmission || tcp.analysis.lost_segment "
        "|| tcp.analysis.ack_lost_segment || tcp.analysis.out_of_order || tcp.analysis.zero_window_probe "
        "|| tcp.options.mss_val < 500 || tcp.analysis.fast_retransmission || tcp.analysis.duplicate_ack"
    )
    ours = f"(ip.src == {OURS4} || ipv6.src == {OURS6})"
    checks = [part for name in ("tcp", "udp", "ip") for part in ("-o", f"{name}.check_checksum:TRUE")]
    command = ["tshark", "-n", "-r", str(capture), "-d", "tcp.port==80,data", *checks, "-Y"]
    odd = subprocess.run([*command, f"{ours} && ({wrong})"], capture_output=True, text=True, check=True, timeout=60)
    assert odd.stdout == ""
    seen = subprocess.run([*command, f"{ours} && tcp"], capture_output=True, text=True, check=True, timeout=60)
    assert len(seen.stdout.splitlines()) > 2 * 2 * (1 << 20) // 1400


def test_linux_connects_to_us() -> None:
    """A listener, as `--remote-forward` needs it."""

    async def main(host: AsyncHost, _: Wire) -> None:
        loop = asyncio.get_running_loop()
        accepted: asyncio.Queue[Connection] = asyncio.Queue()
        listening = host.listen(8080, accepted.put_nowait)
        for address in (OURS4, OURS6):
            with socket.socket(family(address)) as theirs:
                theirs.setblocking(False)
                await loop.sock_connect(theirs, (address, 8080))
                ours = await accepted.get()
                assert (ours.own, ours.peer) == (theirs.getpeername()[:2], theirs.getsockname()[:2])
                await ours.write(b"welcome")
                assert await loop.sock_recv(theirs, 100) == b"welcome"
                ours.close()
        listening.close()
        with socket.socket() as theirs:
            theirs.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(theirs, (OURS4, 8080))

    run_joined(main)


def test_another_inner_address_ends_connections_and_says_so() -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        async with connected(host) as (ours, _theirs):
            host.host.configure([], [], 1400, 0.0)
            with pytest.raises(OSError, match="local address is gone"):
                await ours.read()
            assert ours.closed is CloseReason.ADDRESS_LOST

    run_joined(main)


# UDP and ICMP


@BOTH
@pytest.mark.parametrize("offload", [True, False])
def test_datagrams_and_pings_of_any_length_are_carried(address: str, offload: bool) -> None:
    async def main(host: AsyncHost, _: Wire) -> None:
        loop, ours = asyncio.get_running_loop(), host.open_udp()
        with socket.socket(family(address), socket.SOCK_DGRAM) as theirs:
            theirs.setblocking(False)
            theirs.bind((address, 5353))
            for size in (0, 1, 100, 1300, 1400, 5000, 60_000):
                assert ours.send(DATA[:size], (address, 5353))
                data, source = await loop.sock_recvfrom(theirs, 65535)
                assert (data, source[1]) == (DATA[:size], ours.port)
                await loop.sock_sendto(theirs, data[::-1], source)
                assert await ours.read() == (DATA[:size][::-1], (address, 5353))
            for number in range(100):  # in one frame, if there are frames
                ours.send(b"%4d" % number, (address, 5353))
            assert [await loop.sock_recv(theirs, 100) for _ in range(100)] == [b"%4d" % n for n in range(100)]
        for size in (0, 56, 1400, 9000):
            assert (await host.ping(address, size=size)).round_trip is not None
        assert host.host.counters.malformed == 0

    run_joined(main, offload=offload)


@BOTH
@pytest.mark.parametrize("size", [9, 5000])
def test_errors_about_datagrams_are_told_in_both_directions(address: str, size: int) -> None:
    """Also about those that came in fragments."""

    async def main(host: AsyncHost, _: Wire) -> None:
        loop, ours = asyncio.get_running_loop(), host.open_udp()
        ours.send(bytes(size), (address, 9))
        with pytest.raises(ConnectionRefusedError):
            await ours.read()
        with socket.socket(family(address), socket.SOCK_DGRAM) as theirs:
            theirs.setblocking(False)
            theirs.connect((OURS4 if address == LINUX4 else OURS6, 9))
            theirs.send(bytes(size))
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_recv(theirs, 100)

    run_joined(main)


@pytest.mark.parametrize("address", [OURS4, OURS6])
def test_linux_gets_its_pings_answered(address: str) -> None:
    async def main(_host: AsyncHost, _: Wire) -> None:
        for size in ("56", "4000"):
            options = ("-c", "3", "-i", "0.01", "-W", "5", "-s", size)
            program = await asyncio.create_subprocess_exec("ping", *options, address, stdout=asyncio.subprocess.PIPE)
            said, _ = await program.communicate()
            assert b" 0% packet loss" in said

    run_joined(main)
