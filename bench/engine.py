"""One end of a tunnel with static keys: the shipped pump, device and socket, without IKE.

    python engine.py NAME LOCAL REMOTE INNER,... PEER_INNER,... ROLE [--suite S] [--sas] [--plain] [--off] [--stack]

Carries packets until it is killed; on SIGUSR1 it prints its counters. With --sas each pair of networks has a Child SA
of its own, otherwise one carries all of them. With --stack there is no device: the tunnel ends in the in-process stack,
whose users `bench.inside` has, until the standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from ipaddress import ip_interface, ip_network

if "--plain" in sys.argv:  # before anybody asks for the compiled codec
    sys.modules["ikeclient.esp.codec._offload"] = None  # type: ignore[assignment]

from ikeclient.crypto.algorithms.keymat import ChildKeys, DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.async_host import AsyncHost
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import Pacer, SourceWatch, run_loop, watch
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.esp.codec.choice import ACTIVE
from ikeclient.ike.events import ChildEstablished
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.transport.udp import UdpSocket
from ikeclient.stack.device import StackDevice
from ikeclient.stack.host import Host
from ikeclient.tunnel.sa_pair import sa_pair
from ikeclient.wire.selector import TrafficSelector


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("name", "local", "remote", "networks", "peer_networks", "role"):
        parser.add_argument(name)
    parser.add_argument("--suite", default="aes128gcm16")
    parser.add_argument("--sas", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--off", action="store_true")
    parser.add_argument("--stack", action="store_true")
    parser.add_argument("--congestion", help="how the kernel's TCP controls congestion on the routes into the tunnel")
    parser.add_argument("--mtu", type=int, default=1400)
    parser.add_argument("--profile")
    return parser.parse_args()


def suite_of(words: str) -> EspSuite:
    """A suite as the profile writes it."""
    encryption, _, integrity = words.partition("-")
    return EspSuite(encryption=ENCRYPTION[encryption], integrity=INTEGRITY[integrity] if integrity else None)


def static_keys(suite: EspSuite, spi: int) -> DirectionKeys:
    """The keys of one direction, known to both ends."""
    stream = hashlib.shake_256(f"benchmark {spi}".encode()).digest(200)
    length = suite.encryption.key_length + suite.encryption.salt_length
    return DirectionKeys(
        encryption=stream[:length],
        integrity=stream[100 : 100 + (suite.integrity.key_length if suite.integrity else 0)],
    )


def children(options: argparse.Namespace) -> list[ChildEstablished]:
    """The Child SAs: one for all networks, or one for each pair of them."""
    suite = suite_of(options.suite)
    here, there = (0xC0000100, 0xC0000200) if options.role == "a" else (0xC0000200, 0xC0000100)
    pairs = [(options.networks, options.peer_networks)]
    if options.sas:
        pairs = list(zip(options.networks.split(","), options.peer_networks.split(","), strict=True))
    return [
        ChildEstablished(
            spi_in=here + number,
            spi_out=there + number,
            suite=suite,
            keys=ChildKeys(inbound=static_keys(suite, here + number), outbound=static_keys(suite, there + number)),
            local_selectors=selectors(networks),
            remote_selectors=selectors(peer_networks),
            rekey_at=0.0,
        )
        for number, (networks, peer_networks) in enumerate(pairs)
    ]


def selectors(text: str) -> tuple[TrafficSelector, ...]:
    """Networks with commas between them, as traffic selectors."""
    return tuple(TrafficSelector.from_network(ip_network(n, strict=False)) for n in text.split(","))


def set_up(options: argparse.Namespace) -> None:
    """Addresses, MTU and routes of the interface."""
    for inner in options.networks.split(","):
        subprocess.run(["ip", "addr", "add", inner, "dev", options.name, "nodad"], check=True)
    subprocess.run(["ip", "link", "set", options.name, "up", "mtu", str(options.mtu)], check=True)
    control = ("congctl", options.congestion) if options.congestion else ()
    for inner in options.peer_networks.split(","):
        subprocess.run(["ip", "route", "add", inner, "dev", options.name, *control], check=True)


def make_host(options: argparse.Namespace) -> Host:
    """The host inside, with the addresses, networks and MTU that an interface would have."""
    host = Host(os.urandom)
    own = [ip_interface(inner).ip.packed for inner in options.networks.split(",")]
    networks = [ip_network(inner, strict=False) for inner in options.peer_networks.split(",")]
    host.configure(own, networks, options.mtu, time.monotonic())
    return host


async def main(options: argparse.Namespace) -> None:
    """Carry packets until SIGTERM, or until there is nobody who tells the stack what to do."""
    choose_cipher()
    offload = not options.off
    host = make_host(options) if options.stack else None
    device: TunDevice | StackDevice
    if host is not None:
        device = StackDevice(host, time.monotonic, offload=offload)
    else:
        device = TunDevice(options.name, offload=offload)
        set_up(options)
    socket = UdpSocket(local_address=options.local, port=4500, offload=offload)
    callbacks = PumpCallbacks(on_ike=lambda *_: False)
    pump = Pump(device, callbacks, time.monotonic, entropy=os.urandom, pace=Pacer(), offload=offload)
    pump.set_remote((options.remote, 4500))
    pump.set_mtu(options.mtu)
    installed = children(options)
    for child in installed:
        pump.install(sa_pair(child))
    pump.attach(socket)
    source = device.source()
    if source is not None:
        SourceWatch(source, pump.drain_tun)
    else:
        watch(device.fileno(), pump.drain_tun, relay=pump.relay)
    watch(socket.fileno(), partial(pump.drain_udp, socket), pump.wants_delay)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(
        signal.SIGUSR1,
        lambda: print(
            *(pump.child_counters(child.spi_in) for child in installed),
            pump.counters,
            device.counters,
            socket.dropped,
            socket.send_errors,
            socket.segments,
            flush=True,
        ),
    )
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", ACTIVE, "fast" if pump.fast else "slow", pump.cipher(), flush=True)
    if host is None:
        await stop.wait()
        return
    from bench.inside import Inside  # the others do without the proxy's modules

    using = asyncio.create_task(Inside(AsyncHost(host, time.monotonic)).run())
    ending = asyncio.create_task(stop.wait())
    await asyncio.wait((using, ending), return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    options = arguments()
    if options.profile:
        import cProfile

        profiler = cProfile.Profile()
        try:
            profiler.runcall(run_loop, main(options))
        finally:
            profiler.dump_stats(options.profile)
    else:
        run_loop(main(options))
