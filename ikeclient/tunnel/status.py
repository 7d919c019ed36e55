"""What a tunnel knows about itself while it runs, from which `control.status` is filled in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import field, replace
from ipaddress import ip_interface
from typing import Protocol

from ikeclient.control.events import timestamp
from ikeclient.control.status import (
    AuthStatus,
    ChildCounters,
    ChildStatus,
    DnsStatus,
    GatewayStatus,
    IkeStatus,
    LocalStatus,
    Totals,
    TunnelStatus,
)
from ikeclient.dataplane.pump import Pump
from ikeclient.errors import IkeclientError
from ikeclient.ike.events import ChildEstablished, Configuration, IkeEstablished, IPAddress, NatStatus, Path, Proof
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import MachineConfig
from ikeclient.tunnel.options import Mode
from ikeclient.tunnel.state import REPORTED, Input, State, after

_MOST_WARNINGS = 64  # that are kept, the last ones: each connection may bring others
_MOST_SHOWN = 16  # of them


class Switch(Protocol):
    """What is told of a kill switch; see `ports.KillSwitch`."""

    @property
    def closed(self) -> bool:
        """Whether the machine is closed now."""

    @property
    def means(self) -> str | None:
        """By what, or until when it is open."""


@dataclass(slots=True)
class Life:
    """Where a tunnel is in its life; `word` is what people see for it, `since` when that began."""

    state: State = State.DISCONNECTED
    word: str = "connecting"
    since: str = field(default_factory=timestamp)

    def happens(self, event: Input) -> None:
        """Go on to the state that follows, and remember when the word for it changed.

        An impossible pair is a bug, of which a `RuntimeWarning` tells. It changes nothing: a tunnel that is up must not
        end, and open the machine, because its story makes no sense.
        """
        try:
            self.state = after(self.state, event)
        except KeyError:
            text = f"a bug in ikeclient: {event.name} while the tunnel is {self.state.name}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return
        word = REPORTED[self.state]
        if word is not None and word != self.word:
            self.word, self.since = word, timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerNetwork:
    """What the machine was made to fit; sizes in bytes.

    `own` are this machine's addresses that serve as inner ones if none was assigned.
    """

    mtu: int = 0
    path_mtu: int = 0
    own: tuple[IPAddress, ...] = ()
    routes: tuple[str, ...] = ()
    dns: DnsStatus = field(default_factory=DnsStatus)
    dns_names: str | None = None


@dataclass(slots=True, kw_only=True)
class Counts:
    """How often something happened since the start."""

    child_rekeys: int = 0
    ike_rekeys: int = 0
    roams: int = 0
    reconnects: int = 0
    connect_ms: int | None = None  # how long the last connection took


@dataclass(slots=True, kw_only=True)
class Problems:
    """What is wrong, or went wrong last."""

    warnings: list[str] = field(default_factory=list)
    last_error: str | None = None

    def warn(self, text: str) -> None:
        """This is wrong from now on; what was wrong before already becomes the last one."""
        self.withdraw((text,))
        self.warnings = [*self.warnings, text][-_MOST_WARNINGS:]

    def withdraw(self, warnings: Collection[str]) -> None:
        """These warnings are over."""
        self.warnings = [said for said in self.warnings if said not in warnings]

    def failed(self, error: IkeclientError) -> None:
        """This went wrong last."""
        self.last_error = error.message


@dataclass(slots=True)
class Status:
    """Everything that is known about one tunnel right now; `snapshot` is what others see of it."""

    name: str
    mode: Mode = "tun"
    life: Life = field(default_factory=Life)
    interface: str | None = None
    network: InnerNetwork = field(default_factory=InnerNetwork)
    gateway_address: str | None = None
    path: Path | None = None
    ike: IkeEstablished | None = None
    established: str | None = None
    configuration: Configuration = field(default_factory=Configuration)
    children: dict[int, ChildEstablished] = field(default_factory=dict)
    idle: bool = False  # the gateway deleted the only Child SA, and the next packet makes another one
    counts: Counts = field(default_factory=Counts)
    problems: Problems = field(default_factory=Problems)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The inner addresses with their prefix lengths."""
        return tuple(map(str, self.configuration.addresses or map(ip_interface, self.network.own)))

    def asks(self, gateway: IPAddress) -> None:
        """A connection to this address of the gateway is being made."""
        self.gateway_address = str(gateway)

    def follow(self, path: Path) -> None:
        """The gateway is reached on this path."""
        self.path = path

    def authenticated(self, event: IkeEstablished) -> None:
        """An IKE SA is up, the first one or the successor of another."""
        self.ike, self.established = event, timestamp()
        self.counts.ike_rekeys += event.rekeyed

    def granted(self, configuration: Configuration) -> None:
        """The gateway assigned addresses and told of its network."""
        self.configuration = configuration

    def arranged(
        self, config: MachineConfig, servers: Iterable[IPAddress], *, mtu: int, path_mtu: int, every_name: bool = False
    ) -> None:
        """The machine was made to fit; `servers` are the name servers that it really asks, sizes are in bytes.

        They are asked for `every_name` if the machine cannot send them single domains.
        """
        dns, names = DnsStatus(servers=tuple(map(str, servers))), None
        if config.dns and dns.servers:
            dns = replace(dns, domains=config.dns.domains)
            names = "all" if every_name or config.dns.mode == "all" else "split"
        self.network = InnerNetwork(
            mtu=mtu,
            path_mtu=path_mtu,
            own=config.own,
            routes=tuple(map(str, config.routes)),
            dns=dns,
            dns_names=names,
        )

    def wait_for_packet(self, idle: bool) -> None:
        """Whether there is no Child SA until a packet wants to leave."""
        self.idle = idle

    def child_rekeyed(self) -> None:
        """A Child SA has a successor."""
        self.counts.child_rekeys += 1

    def path_confirmed(self, nat: NatStatus, *, moved: bool) -> None:
        """The gateway answered on the present path, which may be another one than before."""
        if self.ike is not None:
            self.ike = replace(self.ike, nat=nat)
        self.counts.roams += moved

    def connected_in(self, milliseconds: int) -> None:
        """A connection was made, in this time."""
        self.counts.connect_ms = milliseconds

    def reconnected(self) -> None:
        """A lost connection was made again."""
        self.counts.reconnects += 1

    def snapshot(
        self, pump: Pump | None, now: float, switch: Switch | None = None, round_trip: float | None = None
    ) -> TunnelStatus:
        """Return what the tunnel tells about itself at the time `now`; IKE took `round_trip` seconds."""
        ike, path, network = self.ike, self.path, self.network
        return TunnelStatus(
            name=self.name,
            pid=os.getpid(),
            state=self.life.word,
            since=self.life.since,
            connect_ms=self.counts.connect_ms,
            interface=self.interface,
            mtu=network.mtu,
            path_mtu=network.path_mtu,
            mode=self.mode,
            blocked=switch is not None and switch.closed and self.life.word != "connected",
            kill_switch=switch.means if switch is not None else None,
            offload=pump.offload() if pump is not None else None,
            cipher=pump.cipher() if pump is not None else None,
            gateway=GatewayStatus(
                address=str(path.remote_address) if path else self.gateway_address,
                port=path.remote_port if path else None,
                identity=ike.gateway_identity if ike else None,
                auth=_proven(ike.proofs.gateway) if ike else (),
            ),
            local=LocalStatus(
                address=str(path.local_address) if path else None,
                port=path.local_port if path else None,
                behind_nat=ike.nat.local if ike else None,
                auth=_proven(ike.proofs.local) if ike else (),
            ),
            remote_behind_nat=ike.nat.remote if ike else None,
            addresses=self.addresses,
            dns=network.dns,
            dns_names=network.dns_names,
            p_cscf=tuple(map(str, self.configuration.p_cscf)),
            routes=network.routes,
            ike=self._ike(now, round_trip),
            children=tuple(self._child(child, pump, now) for child in self.children.values()),
            idle=self.idle,
            totals=self._totals(pump) if pump is not None else None,
            drops=pump.drops() if pump is not None else None,
            roams=self.counts.roams,
            reconnects=self.counts.reconnects,
            warnings=tuple(self.problems.warnings[-_MOST_SHOWN:]),
            last_error=self.problems.last_error,
        )

    def _totals(self, pump: Pump) -> Totals:
        counts = self.counts
        return Totals(counters=pump.totals(), ike_rekeys=counts.ike_rekeys, child_rekeys=counts.child_rekeys)

    def _ike(self, now: float, round_trip: float | None) -> IkeStatus | None:
        ike = self.ike
        if ike is None:
            return None
        return IkeStatus(
            spi_i=ike.spi_i.hex(),
            spi_r=ike.spi_r.hex(),
            suite=ike.suite.name,
            established=self.established,
            rekey_in=max(0, round(ike.rekey_at - now)),
            rekeys=self.counts.ike_rekeys,
            mobike=ike.mobike,
            rtt_ms=None if round_trip is None else round(1000 * round_trip),
            fragmentation=ike.fragmentation,
            ppk=ike.proofs.ppk,
        )

    def _child(self, child: ChildEstablished, pump: Pump | None, now: float) -> ChildStatus:
        return ChildStatus(
            spi_in=f"{child.spi_in:08x}",
            spi_out=f"{child.spi_out:08x}",
            suite=child.suite.name,
            local_ts=tuple(map(str, child.local_selectors)),
            remote_ts=tuple(map(str, child.remote_selectors)),
            rekey_in=max(0, round(child.rekey_at - now)),
            rekeys=self.counts.child_rekeys,
            counters=pump.child_counters(child.spi_in) if pump is not None else ChildCounters(),
        )


def _proven(proofs: Sequence[Proof]) -> tuple[AuthStatus, ...]:
    return tuple(
        AuthStatus(
            method=each.method,
            subject=each.subject,
            serial=each.serial,
            expires=timestamp(each.expires) if each.expires is not None else None,
            signature=each.signature,
            key=each.key,
            revocation=each.revocation,
        )
        for each in proofs
    )
