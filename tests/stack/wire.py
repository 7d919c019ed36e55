"""A TUN device of the kernel joined straight to a host of the stack, in a namespace of the test's own thread.

So the peer of the stack is Linux, and nothing lies between: no ESP, no gateway.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random
from struct import pack
from typing import Any, BinaryIO

from thread_namespace import namespace_of

from ikeclient.dataplane.async_host import AsyncHost
from ikeclient.dataplane.event_loop import SourceWatch, run_loop, unwatch, watch
from ikeclient.net.device.tun import TunDevice
from ikeclient.stack.device import StackDevice
from ikeclient.stack.host import Host

LINUX4, OURS4 = "10.7.0.1", "10.7.0.2"
LINUX6, OURS6 = "fd07::1", "fd07::2"
FAR4, FAR6 = "10.8.0.1", "fd08::1"
NETWORKS = tuple(map(ip_network, ("10.7.0.0/24", "fd07::/64", "10.8.0.0/16", "fd08::/64")))
_FRAME = 10 + 65535


def run(*argv: str) -> None:
    """Run a command in the namespace; raises with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


def wait_for_address(address: str, *prefix: str) -> None:
    """Until the kernel takes packets to an IPv6 address of its own, a moment after it was given it."""
    for _ in range(200):
        command = [*prefix, "ip", "-6", "route", "get", address]
        if subprocess.run(command, capture_output=True, check=False, timeout=30).stdout.startswith(b"local"):
            return
        time.sleep(0.01)
    raise AssertionError(f"{address} never became ours")


class BadPath:
    """What happens to a packet on its way, by chance: `loss` and `doubled` are shares, `delay` and `jitter` seconds.

    Packets that are delayed by different times overtake each other.
    """

    def __init__(
        self, seed: int, *, loss: float = 0.0, delay: float = 0.0, jitter: float = 0.0, doubled: float = 0.0
    ) -> None:
        self._random = Random(seed)
        self._loss, self._delay, self._jitter, self._doubled = loss, delay, jitter, doubled

    def carry(self, packet: bytes, arrive: Callable[[bytes], object]) -> None:
        """Let `arrive` have the packet in time, if it is not lost."""
        random, loop = self._random, asyncio.get_running_loop()
        for _ in range(1 + (random.random() < self._doubled)):
            if random.random() >= self._loss:
                loop.call_later(self._delay + random.random() * self._jitter, arrive, packet)


class Wire:
    """Both directions between `tun` and `device`.

    On a `path`, packets go one by one, may suffer, and can be recorded.
    """

    def __init__(self, tun: TunDevice, device: StackDevice, path: BadPath | None = None) -> None:
        self.tun, self.device = tun, device
        self.frames = 0
        self._path = path
        self._recording: BinaryIO | None = None
        self._frame = bytearray(_FRAME)
        self._view = memoryview(self._frame)
        watch(tun.fileno(), self._inwards)
        self._source = SourceWatch(device, self._outwards)

    def _inwards(self, _: bool) -> None:
        if self._path is not None:
            for packet in self.tun.read_batch(64):
                self._record(packet)
                self._path.carry(packet, lambda packet: self.device.write_batch([packet]))
            return
        for _ in range(64):
            length = self.tun.read_into([self._frame])
            if not length:
                return
            self.device.write_frame(self._view[:length])

    def _outwards(self, _: bool) -> None:
        frames = self.device.frames() if self._path is None else None
        if frames is None:
            packets = self.device.read_batch(64)
            self.frames += len(packets)
            if self._path is None:
                self.tun.write_batch(packets)
                return
            for packet in packets:
                self._record(bytes(packet))
                self._path.carry(bytes(packet), lambda packet: self.tun.write_batch([packet]))
            return
        for _ in range(64):
            length = frames.read_into([self._frame])
            if not length:
                return
            self.frames += 1
            assert self.tun.write_frame(self._view[:length])

    @contextmanager
    def recorded(self, file: Path) -> Iterator[None]:
        """Write every packet into a file for Wireshark."""
        with file.open("wb") as self._recording:
            self._recording.write(pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))  # LINKTYPE_RAW
            yield
        self._recording = None

    def _record(self, packet: bytes) -> None:
        if self._recording is not None:
            now = time.time()
            head = pack("<IIII", int(now), int(now % 1 * 1e6), len(packet), len(packet))
            self._recording.write(head + packet)

    def close(self) -> None:
        """Part the two."""
        self._source.close()
        unwatch(self.tun.fileno())
        self.device.close()


@contextmanager
def far_machine(mtu: int) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A machine behind the kernel, over a cable of this MTU that it does not know of; what is yielded enters it."""
    run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.all.accept_dad=0")
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 300"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder, holder.stdout:
        try:
            holder.stdout.readline()
            inside = ("nsenter", "-t", str(holder.pid), "-n")
            run("ip", "link", "add", "r0", "type", "veth", "peer", "name", "h0", "netns", str(holder.pid))
            run("ip", "link", "set", "r0", "mtu", str(mtu), "up")
            run(*inside, "ip", "link", "set", "h0", "up")
            for net, length in (("10.8.0.", "24"), ("fd08::", "64")):
                nodad = ("nodad",) if ":" in net else ()
                run("ip", "address", "add", f"{net}254/{length}", "dev", "r0", *nodad)
                run(*inside, "ip", "address", "add", f"{net}1/{length}", "dev", "h0", *nodad)
                back = ("default", "via", f"{net}254", "mtu", str(mtu), "advmss", "1340")
                run(*inside, "ip", "-6" if nodad else "-4", "route", "add", *back)
            wait_for_address("fd08::254")
            wait_for_address("fd08::1", *inside)
            yield lambda: namespace_of(holder.pid)
        finally:
            holder.kill()


@contextmanager
def joined(*, mtu: int = 1400, offload: bool = True, path: BadPath | None = None) -> Iterator[tuple[AsyncHost, Wire]]:
    """The host and the wire, in the running loop and the present namespace."""
    tun = TunDevice("t0")
    if path is None:
        assert tun.enable_offload()
    try:
        run("ip", "link", "set", "t0", "mtu", str(mtu), "up")
        run("ip", "address", "add", f"{LINUX4}/24", "dev", "t0")
        run("ip", "address", "add", f"{LINUX6}/64", "dev", "t0", "nodad")
        wait_for_address(LINUX6)
        host = Host(os.urandom)
        device = StackDevice(host, time.monotonic, offload=offload)
        host.configure([ip_address(OURS4).packed, ip_address(OURS6).packed], NETWORKS, mtu, time.monotonic())
        wire = Wire(tun, device, path)
        try:
            yield AsyncHost(host, time.monotonic), wire
        finally:
            wire.close()
    finally:
        tun.close()


def run_joined(
    main: Callable[[AsyncHost, Wire], Coroutine[Any, Any, None]], timeout: float = 60.0, **options: Any
) -> None:
    """Run a coroutine with a host and a wire in a loop for packets."""

    async def body() -> None:
        with joined(**options) as (host, wire):
            async with asyncio.timeout(timeout):
                await main(host, wire)

    run_loop(body())
