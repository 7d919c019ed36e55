"""A whole tunnel under virtual time: a real `Connection` with links, drivers and pump; everything else is in memory.

The event loop's clock jumps to the next timer, so an hour takes a moment. All chance comes from the seed, and the same
seed gives the same run to the last byte (`TunnelWorld.digest`).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any

from sim_certificates import NOW
from sim_gateway import GatewaySetup, SimGateway
from sim_world import client_config

from ikeclient.dataplane.event_loop import Carry
from ikeclient.errors import IkeclientError, NoResponse, PlatformError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IPAddress, Path
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.state import State as IkeState
from ikeclient.net.machine.fake import FakeMachine
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.watch.snapshot import Change, OuterAddress, Snapshot
from ikeclient.profile.compiled import CompiledProfile, NetworkSettings, SessionSettings
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.dry_run import NullTun
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports, Socket
from ikeclient.tunnel.state import State

WIFI, CABLE = ip_address("192.0.2.10"), ip_address("198.51.100.10")
GATEWAY, SECOND = ip_address("203.0.113.7"), ip_address("203.0.113.8")
HOST = "vpn.example.com"
MARKER = bytes(4)
DELAY = 0.02
IN_PLACE = frozenset({State.CONNECTED, State.MOVING, State.RECONNECTING})


class _Selector(selectors.DefaultSelector):
    """Never waits: where asyncio would, the loop's clock jumps instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            assert timeout is not None, "everything waits, and nothing is going to happen"
            self.loop.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, with a clock that moves only when there is nothing to do."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


@dataclass(eq=False)
class SimSocket:
    """One UDP socket of the client."""

    network: SimNetwork
    local: tuple[str, int]
    queue: list[tuple[bytes | memoryview, tuple[str, int], int]] = field(default_factory=list)
    drain: Carry | None = None

    def receive_batch(self, limit: int) -> Sequence[tuple[bytes | memoryview, tuple[str, int], int]]:
        taken, self.queue[:] = self.queue[:limit], self.queue[limit:]
        return taken

    def send_batch(self, payloads: Sequence[Any], destination: tuple[str, int], tos: int = 0) -> int:
        for payload in payloads:
            self.network.send(self, bytes(payload), destination)
        return len(payloads)

    def send_probe(self, payload: Any, destination: tuple[str, int]) -> bool:
        return bool(self.send_batch((payload,), destination))

    def trust_path(self, mtu: int, *, proven: bool) -> None: ...

    def runs(self) -> None: ...

    def receive_queue(self) -> tuple[int, int]:
        return 0, 0

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.network.sockets.pop(self.local, None)


class SimMonitor:
    """Sees every address of the client at once; the first one is the kernel's choice."""

    def __init__(self, network: SimNetwork, on_change: Callable[[Change], None]) -> None:
        self._network, self._on_change = network, on_change

    @property
    def snapshot(self) -> Snapshot:
        return Snapshot(addresses=self._addresses())

    def _addresses(self) -> tuple[OuterAddress, ...]:
        return tuple(OuterAddress(index=n, interface=f"if{n}", address=a) for n, a in enumerate(self._network.ours, 1))

    def start(self) -> None:
        self._network.monitors.append(self._on_change)

    def close(self) -> None:
        self._network.monitors.remove(self._on_change)

    def watch(self, *remotes: IPAddress) -> None: ...

    def sources_for(self, remote: IPAddress) -> tuple[OuterAddress, ...]:
        return tuple(each for each in self._addresses() if each.address.version == remote.version)


class SimNetwork:
    """The client's addresses, the gateways, and what is lost between them. Nothing here knows of ESP's content."""

    def __init__(self, loop: VirtualLoop, gateways: dict[IPAddress, SimGateway]) -> None:
        self.ours = [WIFI]
        self.sockets: dict[tuple[str, int], SimSocket] = {}
        self.monitors: list[Callable[[Change], None]] = []
        self.cut: set[IPAddress] = set()  # addresses, of either end, that nothing reaches or leaves
        self.lost: Callable[[], bool] = lambda: False
        self.digest = hashlib.sha256()
        self.opened = 0
        self._loop = loop
        self._gateways = gateways
        self._timers: dict[SimGateway, asyncio.TimerHandle] = {}

    def source_for(self, remote: IPAddress) -> IPAddress | None:
        return next((ours for ours in self.ours if ours.version == remote.version), None)

    def path_mtu(self, remote: IPAddress) -> int:
        return 1500

    def open(self, local: IPAddress, on_hint: Callable[[PathHint], None]) -> Socket:
        if local not in self.ours:
            raise PlatformError(f"cannot bind a UDP socket to {local}", reason="Cannot assign requested address")
        self.opened += 1
        socket = SimSocket(self, (str(local), 40000 + self.opened))
        self.sockets[socket.local] = socket
        return socket

    def watch(self, socket: Socket, drain: Carry, rest: Callable[[], bool]) -> None:
        self.sockets[socket.local].drain = drain

    def close(self, socket: Socket) -> None:
        socket.close()

    def monitor(self, on_change: Callable[[Change], None], ignore: Sequence[str]) -> SimMonitor:
        return SimMonitor(self, on_change)

    def move(self, *ours: IPAddress) -> None:
        """The machine has other addresses from now on, and is told so."""
        self.ours = list(ours)
        for on_change in list(self.monitors):
            on_change(Change())

    def send(self, socket: SimSocket, payload: bytes, destination: tuple[str, int]) -> None:
        self._note(socket.local, destination, payload)
        remote, port = ip_address(destination[0]), destination[1]
        if port != 500 and payload[:4] != MARKER:
            return  # ESP, or a keepalive
        local = ip_address(socket.local[0])
        if local in self.ours and not {local, remote} & self.cut and not self.lost():
            data = payload if port == 500 else payload[4:]
            self._loop.call_later(DELAY, self._arrive, data, Path(remote, port, local, socket.local[1]))

    def _note(self, source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> None:
        self.digest.update(repr((self._loop.now, source, destination)).encode() + payload)

    def _arrive(self, data: bytes, path: Path) -> None:
        gateway = self._gateways.get(path.local_address)
        if gateway is not None:
            gateway.receive(data, path, self._loop.now)
            self.flush(gateway)

    def flush(self, gateway: SimGateway) -> None:
        """Send what a gateway has to say, and wait for its next timer."""
        for datagram in gateway.outbox:
            path = datagram.path
            data = datagram.data if path.local_port == 500 else MARKER + datagram.data
            source = (str(path.local_address), path.local_port)
            self._note(source, (str(path.remote_address), path.remote_port), data)
            ends = {path.local_address, path.remote_address}
            if path.remote_address in self.ours and not ends & self.cut and not self.lost():
                local = (str(path.remote_address), path.remote_port)
                self._loop.call_later(DELAY, self._deliver, data, source, local)
        gateway.outbox.clear()
        if (timer := self._timers.pop(gateway, None)) is not None:
            timer.cancel()
        if (deadline := gateway.next_deadline()) is not None:
            self._timers[gateway] = self._loop.call_at(deadline, self._expired, gateway)

    def _expired(self, gateway: SimGateway) -> None:
        gateway.handle_timer(self._loop.now)
        self.flush(gateway)

    def _deliver(self, data: bytes, source: tuple[str, int], local: tuple[str, int]) -> None:
        socket = self.sockets.get(local)
        if socket is not None and socket.drain is not None:
            socket.queue.append((data, source, 0))
            socket.drain(False)


def profile(ike: IkeConfig | None = None, *, retry: int | None = None, refusals: int = 3) -> CompiledProfile:
    """A profile for the simulated gateway."""
    network = NetworkSettings(
        request=frozenset({"ipv4", "dns"}),
        routes="gateway",
        exclude=(),
        exclude_lan=False,
        dns="none",
        mtu=1400,
        interface="ike%d",
    )
    session = SessionSettings(retry=retry, refusals=refusals, offload=False, up=(), down=())
    return CompiledProfile(
        name="work",
        base_dir=FilePath("/nonexistent"),
        ike=ike or client_config(),
        gateways=(HOST,),
        port=500,
        network=network,
        session=session,
    )


class TunnelWorld:
    """A tunnel that runs, and the world around it. `said` holds its events by name with the state at that moment."""

    def __init__(
        self, seed: int, profile: CompiledProfile, setup: GatewaySetup, addresses: Sequence[IPAddress], within: float
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.chance = random.Random(f"world {seed}")
        self.gateway = SimGateway(setup, random.Random(f"gateway {seed}").randbytes)
        self.addresses = list(addresses)  # that the gateway's name stands for
        self.network = SimNetwork(loop, dict.fromkeys((GATEWAY, SECOND), self.gateway))
        self.machine = FakeMachine("work")
        self.device = NullTun("ike%d")
        self.said: list[tuple[str, State]] = []
        self.notes: list[str] = []
        self.bugs: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.bugs.append(context))
        ports = Ports(
            device=self.device,
            machine=self.machine,
            table=7000,
            clock=loop.time,
            time_of_day=self._time_of_day,
            entropy=random.Random(f"client {seed}").randbytes,
            resolve=self._resolve,
            network=self.network,
        )
        options = ConnectOptions(name="work", timeout=within, keylog=None, runtime_directory=FilePath("/nonexistent"))
        self.connection = TunnelDriver(profile, options, ports, self._published)
        self.running = loop.create_task(self.connection.run())

    def _time_of_day(self) -> datetime:
        return NOW + timedelta(seconds=self.loop.now)

    async def _resolve(self, hosts: Sequence[str], port: int) -> list[tuple[str, IPAddress]]:
        await asyncio.sleep(DELAY)
        if not self.addresses:
            raise NoResponse(f"cannot find the gateway {', '.join(hosts)}")
        return [(hosts[0], address) for address in self.addresses]

    def _published(self, event: dict[str, object]) -> None:
        self.said.append((str(event["event"]), self.life))
        if "text" in event:
            self.notes.append(str(event["text"]))

    @property
    def life(self) -> State:
        return self.connection.session.status.life.state

    @property
    def heard(self) -> list[str]:
        """The events, without the steps of connecting."""
        steps = {"resolving", "negotiating", "authenticating", "configuring", "notice"}
        return [event for event, _ in self.said if event not in steps]

    @property
    def changed(self) -> bool:
        """Whether anything of ours is in force on the machine."""
        return bool(self.machine.kernel.state)

    @property
    def connected(self) -> bool:
        return self.life is State.CONNECTED

    @property
    def sa(self) -> IkeSa:
        """The gateway's IKE SA that was made last."""
        return self.gateway.connected[-1].current

    @property
    def open_at_gateway(self) -> list[IkeSa]:
        """The IKE SAs that the gateway still has."""
        return [each.current for each in self.gateway.connected if each.current.state is IkeState.ESTABLISHED]

    def at_gateway(self, action: Callable[[IkeSa, float], None]) -> None:
        """Let the gateway do something with its latest IKE SA."""
        action(self.sa, self.loop.now)
        self.gateway.settle(self.loop.now)
        self.network.flush(self.gateway)

    async def until(self, condition: Callable[[], bool], within: float) -> None:
        """Let time pass until something is true; fails the test if it is not in so many seconds."""
        end = self.loop.now + within
        while not condition():
            assert self.loop.now < end, f"not within {within} s: {self.life}, {self.said[-5:]}, {self.notes[-3:]}"
            assert not self.bugs, self.bugs
            assert not self.running.done() or condition(), self.running
            assert self.changed or self.life not in IN_PLACE, "something could leave past the tunnel"
            await asyncio.sleep(0.05)

    async def connect(self) -> None:
        await self.until(lambda: self.connected, 30)

    async def ended(self, within: float) -> IkeclientError | None:
        """Wait for the end of the tunnel, and return the error it ended with."""
        await asyncio.wait({self.running}, timeout=within)
        assert self.running.done(), f"still {self.life}"
        error = self.running.exception()
        assert error is None or isinstance(error, IkeclientError), error
        assert not self.bugs, self.bugs
        assert self.life is State.DISCONNECTED
        assert not self.changed, "the machine is not as it was"
        assert self.network.sockets == {}, "a socket is left open"
        assert self.network.monitors == []
        return error

    async def stop(self) -> None:
        """End the tunnel in order; it must leave nothing behind."""
        self.connection.stop()
        assert await self.ended(within=5) is None

    @property
    def digest(self) -> str:
        """A hash over everything that both ends sent, and when."""
        return self.network.digest.hexdigest()


Scenario = Callable[[TunnelWorld], Coroutine[Any, Any, None]]


def play(
    scenario: Scenario,
    *,
    seed: int = 0,
    with_profile: CompiledProfile | None = None,
    setup: GatewaySetup | None = None,
    addresses: Sequence[IPAddress] = (GATEWAY,),
    within: float = 30.0,
) -> TunnelWorld:
    """Run a scenario from the moment in which its tunnel starts."""

    async def main() -> TunnelWorld:
        world = TunnelWorld(seed, with_profile or profile(), setup or GatewaySetup(), addresses, within)
        try:
            await scenario(world)
        finally:
            world.running.cancel()
            await asyncio.wait({world.running})
            world.device.close()
        assert not world.bugs, world.bugs
        return world

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def refusing(ike: IkeConfig, password: str) -> IkeConfig:
    """The same configuration with another password of EAP."""
    return replace(ike, auth=replace(ike.auth, password=password))  # type: ignore[call-arg]
