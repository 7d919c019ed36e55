"""A client, a gateway and a network between them, under virtual time and with seeded chance.

Nothing here waits: the clock jumps to the next arrival, timer or planned action. The same seed gives the same run to
the last byte, which `World.digest` shows.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from sim_certificates import NOW, trust, user_certificate, user_key
from sim_gateway import CLIENT_ID, ESP_GCM, GATEWAY_ID, GCM, NET, PASSWORD, PSK, USER, GatewaySetup, SimGateway

from ikeclient.crypto.pki.revocation_status import RevocationPolicy
from ikeclient.errors import IkeclientError
from ikeclient.ike.config import (
    CertificateAuth,
    ChildConfig,
    EapAuth,
    ExpectedGateway,
    IkeConfig,
    OwnAuth,
    PskAuth,
    Timing,
    TrustedCertificate,
)
from ikeclient.ike.events import ChildClosed, ChildEstablished, Closed, Event, Need, Path
from ikeclient.ike.v2.child.child_sa import ChildSa
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.initiator import Initiator
from ikeclient.ike.v2.state import State
from ikeclient.wire.registry import EapType

PATH = Path(ip_address("192.0.2.10"), 40500, ip_address("203.0.113.7"), 500)

AUTHS: dict[str, Callable[[], OwnAuth]] = {
    "psk": lambda: PskAuth(psk=PSK),
    "certificate": lambda: CertificateAuth(chain=(user_certificate(),), key=user_key()),
    "eap": lambda: EapAuth(identity=USER, methods=(EapType.MSCHAPV2,), password=PASSWORD),
}


PARTS: dict[str, dict[str, str]] = {
    "gateway": {"gateway_identity": "identity", "name_gateway": "named", "gateway_auth": "auth"},
    "child": {each.name: each.name for each in fields(ChildConfig)},
    "timing": {each.name: each.name for each in fields(Timing)},
}


def client_config(auth: str = "psk") -> IkeConfig:
    """A configuration that fits the gateway of `GatewaySetup(auth=auth)`, without rekeys of its own."""
    return IkeConfig(
        local_identity=CLIENT_ID,
        auth=AUTHS[auth](),
        gateway=ExpectedGateway(
            identity=GATEWAY_ID, auth=PskAuth(psk=PSK) if auth == "psk" else TrustedCertificate(trust=trust())
        ),
        ike_proposals=(GCM,),
        child=ChildConfig(esp_proposals=(ESP_GCM,), request=frozenset({"ipv4", "dns"}), remote_selectors=(NET,)),
        timing=Timing(rekey_ike=1e6, rekey_child=1e6),
        revocation=RevocationPolicy.OFF,  # nobody can be asked about these certificates
    )


def altered(config: IkeConfig, **changes: Any) -> IkeConfig:
    """`config` with other values, whichever of its parts they belong to; `gateway_identity` is the gateway's."""
    for part, names in PARTS.items():
        inner = {name: changes.pop(key) for key, name in names.items() if key in changes}
        config = replace(config, **{part: replace(getattr(config, part), **inner)})
    return replace(config, **changes)


def reverse(path: Path) -> Path:
    """The same path as the other end sees it."""
    return Path(path.remote_address, path.remote_port, path.local_address, path.local_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the network does to each datagram. Times are in seconds, the others are probabilities."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0  # such a datagram is late by up to `lateness`
    delay: float = 0.02
    jitter: float = 0.0
    lateness: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A datagram on its way; `path` is the sender's, `number` counts the datagrams of both directions."""

    data: bytes
    path: Path
    to_gateway: bool
    number: int


@dataclass(slots=True)
class World:
    """The simulation. `drop` decides about single datagrams on top of the weather; `events` is what the client said."""

    seed: int = 0
    config: IkeConfig = field(default_factory=client_config)
    setup: GatewaySetup = field(default_factory=GatewaySetup)
    weather: Weather = field(default_factory=Weather)
    path: Path = PATH
    drop: Callable[[Sent], bool] = lambda _: False
    late: Callable[[Sent], float] = lambda _: 0.0  # seconds that a datagram takes longer than the weather says
    lost: Callable[[World, Sent], bool] = lambda *_: False  # asked again when a datagram arrives
    watch: Callable[[World], None] = lambda _: None  # called after everything that happens
    credential: str | None = None

    now: float = field(default=0.0, init=False)
    events: list[Event] = field(default_factory=list, init=False)
    log: list[Sent] = field(default_factory=list, init=False)
    forgeries: dict[bytes, bytes] = field(default_factory=dict, init=False)  # made so far, by what they answer
    client: Initiator = field(init=False)
    gateway: SimGateway = field(init=False)

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._chance = random.Random(f"weather {self.seed}")
        self.client = Initiator(self.config, random.Random(f"client {self.seed}").randbytes, self._wall_clock)
        self.gateway = SimGateway(self.setup, random.Random(f"gateway {self.seed}").randbytes)

    _digest: hashlib._Hash = field(init=False)
    _order: itertools.count[int] = field(init=False)
    _queue: list[tuple[float, int, Callable[[], None]]] = field(init=False)
    _chance: random.Random = field(init=False)

    def _wall_clock(self) -> datetime:
        return NOW + timedelta(seconds=self.now)

    # Running

    def start(self) -> None:
        self.client.start(self.path, self.now)
        self._flush()

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a point in virtual time."""
        heapq.heappush(self._queue, (time, next(self._order), action))

    def run(self, seconds: float, until: Callable[[World], bool] = lambda _: False) -> bool:
        """Let time pass; stops early as soon as `until` holds and tells whether it does."""
        end = self.now + seconds
        same = 0
        while not until(self):
            times = [self._queue[0][0]] if self._queue else []
            times += [d for d in (self.client.next_deadline(), self.gateway.next_deadline()) if d is not None]
            following = min(times, default=end)
            if following > end:
                break
            same = same + 1 if following <= self.now else 0
            assert same < 10_000, "a timer that does not move on"
            self.now = max(self.now, following)
            self._step()
            if not times:
                break
        else:
            return True
        self.now = end
        return until(self)

    def _step(self) -> None:
        while self._queue and self._queue[0][0] <= self.now:
            heapq.heappop(self._queue)[2]()
            self._flush()
        for end in (self.client, self.gateway):
            if (deadline := end.next_deadline()) is not None and deadline <= self.now:
                end.handle_timer(self.now)
                self._flush()
        self.watch(self)

    def _flush(self) -> None:
        """Put what both ends want to send into the network, and note the client's events."""
        while (event := self.client.next_event()) is not None:
            self.events.append(event)
            if isinstance(event, Need) and self.credential is not None:
                self.at(self.now, lambda need=event: self.client.supply(need, self.credential or "", self.now))
        for datagram in self.client.datagrams_to_send():
            self._transmit(datagram.data, datagram.path, to_gateway=True)
        for datagram in self.gateway.outbox:
            self._transmit(datagram.data, datagram.path, to_gateway=False)
        self.gateway.outbox.clear()

    def _transmit(self, data: bytes, path: Path, *, to_gateway: bool) -> None:
        sent = Sent(data=data, path=path, to_gateway=to_gateway, number=len(self.log))
        self.log.append(sent)
        self._digest.update(repr((self.now, to_gateway, str(path))).encode() + data)
        weather, chance = self.weather, self._chance
        if self.drop(sent) or chance.random() < weather.loss:
            return
        for _ in range(2 if chance.random() < weather.duplication else 1):
            late = self.late(sent) + weather.delay + chance.random() * weather.jitter
            if chance.random() < weather.reordering:
                late += chance.random() * weather.lateness
            self.at(self.now + late, lambda: self._deliver(sent))

    def _deliver(self, sent: Sent) -> None:
        if self.lost(self, sent):
            return
        end = self.gateway if sent.to_gateway else self.client
        end.receive(sent.data, reverse(sent.path), self.now)

    def to_client(self, data: bytes, path: Path | None = None) -> None:
        """Something arrives at the client, from the gateway's address unless `path` (the client's view) says more."""
        self.client.receive(data, path or self.path, self.now)
        self._flush()

    # Looking

    @property
    def digest(self) -> str:
        """A hash over everything that both ends sent, and when."""
        return self._digest.hexdigest()

    @property
    def closed(self) -> bool:
        return any(isinstance(event, Closed) for event in self.events)

    @property
    def error(self) -> IkeclientError | None:
        """Why the client closed; None also while it has not."""
        return next((event.error for event in self.events if isinstance(event, Closed)), None)

    @property
    def connected(self) -> bool:
        return any(isinstance(event, ChildEstablished) for event in self.events) and not self.closed

    def finished(self) -> bool:
        """Whether connecting has ended, one way or the other."""
        return self.connected or self.closed

    @property
    def quiet(self) -> bool:
        """Whether nobody waits for anything any more."""
        connections = [self.client._ike_sas, *self.gateway.connected]
        sas = [sa for ike_sas in connections if ike_sas is not None for sa in (ike_sas.current, *ike_sas.leaving)]
        return not self._queue and all(sa.tasks.idle and sa.state in (State.ESTABLISHED, State.CLOSED) for sa in sas)

    def connect(self) -> None:
        """Start and run until the tunnel is up; fails the test otherwise."""
        self.start()
        assert self.run(60.0, World.finished)
        assert self.connected, self.error and self.error.lines()

    @property
    def sa(self) -> IkeSa:
        """The client's IKE SA in use."""
        assert self.client._ike_sas is not None
        return self.client._ike_sas.current

    @property
    def gateway_sa(self) -> IkeSa:
        """The gateway's IKE SA with the client, where it has several the one that the client knows."""
        mine = self.client._ike_sas.current.keying.spi_i if self.client._ike_sas else b""
        connections = [each for each in self.gateway.connected if each.current.keying.spi_i == mine]
        return (connections or self.gateway.connected)[-1].current

    def at_gateway(self, action: Callable[[IkeSa, float], None]) -> None:
        """Let the gateway do something with its IKE SA now, as its administrator would."""
        action(self.gateway_sa, self.now)
        self.gateway.settle(self.now)
        self._flush()

    def at_client(self, action: Callable[[Initiator, float], None]) -> None:
        """Let the client do something now."""
        action(self.client, self.now)
        self._flush()

    def installed(self) -> dict[int, ChildEstablished]:
        """What the client's data plane has installed, from the events alone."""
        children: dict[int, ChildEstablished] = {}
        for event in self.events:
            match event:
                case ChildEstablished():
                    children[event.spi_in] = event
                case ChildClosed(spi_in=spi):
                    children.pop(spi, None)
                case Closed():
                    children.clear()
        return children


def lossless(weather: Weather) -> Weather:
    """Fair weather with the same delay."""
    return Weather(delay=weather.delay)


def mirrored(child: ChildSa) -> tuple[object, ...]:
    """A Child SA as the other end should have it."""
    return (child.spi_out, child.spi_in, child.suite, child.keys.outbound, child.keys.inbound)


def assert_same_state(world: World, *, fewest: int = 1) -> None:
    """Both ends hold the same SAs with the same keys in both directions, or the client has said that it is down.

    `fewest` is 0 where the gateway may have deleted the only Child SA, which is made again for the next packet.
    """
    if world.closed:
        return
    ours, theirs = world.sa, world.gateway_sa
    assert ours.state is State.ESTABLISHED
    others = [ike_sas.current.state for ike_sas in world.gateway.connected if ike_sas.current is not theirs]
    assert set(others) <= {State.CLOSED}, "the gateway keeps a connection that the client has forgotten"
    assert theirs.state is State.ESTABLISHED, f"the gateway's IKE SA is {theirs.state}"
    assert replace(ours.keying, initiator=True) == replace(theirs.keying, initiator=True)
    assert ours.keying.initiator is not theirs.keying.initiator
    held = {(c.spi_in, c.spi_out, c.suite, c.keys.inbound, c.keys.outbound) for c in ours.children}
    assert held == {mirrored(child) for child in theirs.children}
    assert fewest <= len(held) <= 1, f"{len(held)} Child SAs are left"
    assert set(world.installed()) == {child.spi_in for child in ours.children}
