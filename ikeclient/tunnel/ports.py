"""What a tunnel needs of the world, as one value that a test replaces.

What decides in `tunnel` asks no clock, opens no socket and draws no random bytes by itself. With the event loop's time
virtual too, a whole tunnel runs in a test without waiting, and the same way twice (`tests/sim`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import field
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol

from ikeclient.crypto.pki.bundles import CertificateUrls, FetchedCertificates
from ikeclient.crypto.pki.revocation_status import PathRevocation, RevocationQuery
from ikeclient.dataplane.event_loop import Carry, Source, unwatch, watch
from ikeclient.dataplane.interfaces import Device as PacketDevice
from ikeclient.dataplane.interfaces import Transport
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.connection import IkeConnection
from ikeclient.ike.events import IPAddress, NeedKind
from ikeclient.ike.v2.initiator import Initiator
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.model import MachineAdapter, MachineConfig
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.transport.path import local_address_for, path_mtu
from ikeclient.net.transport.udp import UdpSocket
from ikeclient.net.watch.monitor import NetworkMonitor
from ikeclient.net.watch.snapshot import Change, OuterAddress, Snapshot
from ikeclient.tunnel import protocol_log
from ikeclient.tunnel.clock import boottime, local_time
from ikeclient.tunnel.commands import Answer, Ask, Sign
from ikeclient.tunnel.hooks import Runner
from ikeclient.tunnel.machine_config import outer_mark
from ikeclient.tunnel.resolve import Known, resolve
from ikeclient.tunnel.revocation_cache import RevocationCache

if TYPE_CHECKING:
    from ikeclient.tunnel.fetch import Admit, Fetcher

Connect = Callable[[IkeConfig, Callable[[int], bytes], Callable[[], datetime]], IkeConnection]
Resolve = Callable[[Sequence[str], int], Coroutine[Any, Any, Known]]


class Device(PacketDevice, Protocol):
    """What a tunnel needs of a device."""

    @property
    def name(self) -> str:
        """What the interface is called."""

    def fileno(self) -> int:
        """A descriptor that becomes readable with packets."""

    def source(self) -> Source | None:
        """The same as a source of packets; None if the descriptor tells of them."""

    def reopen(self) -> bool:
        """Make the interface again that another program deleted, on the same descriptor; whether that worked."""


class Socket(Transport, Protocol):
    """A UDP socket of one path."""

    def fileno(self) -> int:
        """A descriptor that becomes readable with datagrams."""

    def close(self) -> None:
        """Give it back."""


class Monitor(Protocol):
    """Watches the outer network; see `net.watch.monitor.NetworkMonitor`."""

    @property
    def snapshot(self) -> Snapshot:
        """The network when it was looked at last."""

    def start(self) -> None:
        """Watch from now on."""

    def close(self) -> None:
        """Stop watching."""

    def watch(self, *remotes: IPAddress) -> None:
        """Take the routes to these addresses into account."""

    def sources_for(self, remote: IPAddress) -> tuple[OuterAddress, ...]:
        """Our addresses that can speak to `remote`, the best first."""


class KillSwitch(Protocol):
    """What keeps the machine closed but for the tunnel."""

    @property
    def closed(self) -> bool:
        """Whether it does now."""

    @property
    def means(self) -> str | None:
        """How it does, or until when it does not; None if there is nothing that it keeps closed."""

    def admit(self, remote: IPAddress, port: int) -> None:
        """Let our packets to an address of the gateway pass; `port` is ours. Cheap for one that passes already."""

    def admit_fetch(self, remote: IPAddress | None, port: int) -> None:
        """Let our packets to a server with revocation data pass, from our TCP `port`; None: to none any more."""

    def carry(self, config: MachineConfig) -> None:
        """Close what the tunnel is about to carry. Raises PlatformError."""


class NoKillSwitch:
    """Closes nothing."""

    closed = False
    means: str | None = None

    def admit(self, remote: IPAddress, port: int) -> None:
        """Everything passes."""

    def admit_fetch(self, remote: IPAddress | None, port: int) -> None:
        """Everything passes."""

    def carry(self, config: MachineConfig) -> None:
        """Nothing is closed."""


class OuterNetwork(Protocol):
    """The network that the tunnel's datagrams use."""

    def source_for(self, remote: IPAddress) -> IPAddress | None:
        """The address that the machine would send from; None if no route leads there."""

    def path_mtu(self, remote: IPAddress) -> int:
        """How many bytes the kernel believes the path to carry."""

    def open(self, local: IPAddress, on_hint: Callable[[PathHint], None]) -> Socket:
        """A socket bound to `local`; `on_hint` may be called from within its methods.

        Raises PlatformError if this machine does not have that address.
        """

    def watch(self, socket: Socket, drain: Carry, rest: Callable[[], bool]) -> None:
        """Call `drain` when datagrams wait; see `event_loop.watch`."""

    def close(self, socket: Socket) -> None:
        """Stop watching a socket, and close it."""

    def monitor(self, on_change: Callable[[Change], None], ignore: Sequence[str]) -> Monitor:
        """A monitor that calls `on_change`, and does not see the interfaces to `ignore`."""

    async def revocation(self, query: RevocationQuery) -> PathRevocation:
        """Find out about the certificates of a gateway that has proven everything else."""

    async def certificates(self, wanted: CertificateUrls) -> FetchedCertificates:
        """Fetch the certificates that a gateway has named by hash and URL."""


class Sockets(Protocol):
    """Sockets that the driver watches."""

    def open(self, local: IPAddress) -> Socket:
        """A socket bound to `local`. Raises PlatformError if this machine does not have that address."""

    def close(self, socket: Socket) -> None:
        """Stop watching a socket, and close it."""


class SystemNetwork:
    """This machine's network, through the kernel.

    The arguments are for what certificates point at, as `Fetcher` and the lookups have them; `cache` keeps the answers
    about revocation, if there is one. What asks is loaded for profiles with certificates alone (`late_modules`).
    """

    def __init__(
        self,
        cache: RevocationCache | None = None,
        *,
        find: Resolve = resolve,
        admit: Admit = lambda _address, _port: None,
    ) -> None:
        self._cache = cache
        self._find = find
        self._admit = admit

    async def revocation(self, query: RevocationQuery) -> PathRevocation:
        """See `OuterNetwork`."""
        from ikeclient.tunnel.revocation import RevocationLookup

        lookup = RevocationLookup(self._fetcher(), time_of_day=local_time, entropy=os.urandom, cache=self._cache)
        return await lookup(query)

    async def certificates(self, wanted: CertificateUrls) -> FetchedCertificates:
        """See `OuterNetwork`."""
        from ikeclient.tunnel.certificates import CertificateLookup

        return await CertificateLookup(self._fetcher())(wanted)

    def _fetcher(self) -> Fetcher:
        from ikeclient.tunnel.fetch import Fetcher

        return Fetcher(self._find, mark=outer_mark, admit=self._admit)

    def source_for(self, remote: IPAddress) -> IPAddress | None:
        """See `OuterNetwork`."""
        local = local_address_for(str(remote), mark=outer_mark())
        return ip_address(local) if local is not None else None

    def path_mtu(self, remote: IPAddress) -> int:
        """See `OuterNetwork`."""
        return path_mtu(str(remote), mark=outer_mark())

    def open(self, local: IPAddress, on_hint: Callable[[PathHint], None]) -> Socket:
        """See `OuterNetwork`."""
        return UdpSocket(version=local.version, local_address=str(local), mark=outer_mark(), on_hint=on_hint)

    def watch(self, socket: Socket, drain: Carry, rest: Callable[[], bool]) -> None:
        """See `OuterNetwork`."""
        watch(socket.fileno(), drain, rest)

    def close(self, socket: Socket) -> None:
        """See `OuterNetwork`."""
        unwatch(socket.fileno())
        socket.close()

    def monitor(self, on_change: Callable[[Change], None], ignore: Sequence[str]) -> Monitor:
        """See `OuterNetwork`."""
        return NetworkMonitor(on_change, ignore=ignore, mark=outer_mark())


def initiator(config: IkeConfig, entropy: Callable[[int], bytes], time_of_day: Callable[[], datetime]) -> IkeConnection:
    """Make a client's end of IKEv2 that logs what it sends, receives and decides."""
    return Initiator(config, entropy, time_of_day, protocol_log.observe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What a tunnel stands on; the defaults are those of this machine.

    - `device`, `machine`, `table`: the TUN device, what carries out changes of the machine, and the routing table for
      the tunnel's routes.
    - `run_hook`: runs the profile's commands; None if they are not run.
    - `clock`: seconds since some moment in the past, the machine's sleep included. `time_of_day` judges certificates.
    - `entropy`: that many random bytes.
    - `resolve`: the gateway's addresses with the names they are from; raises NoResponse if there are none.
    - `network`: the network that datagrams to the gateway use.
    - `switch`: what keeps the machine closed when there is no tunnel.
    - `ask`: shows a person a question of the gateway's and returns the answer; None if nobody is there. Raises
      IkeclientError if there is no answer.
    - `sign`: has a signature made where our key is; None if it is in a file. Raises KeyUnavailable.
    - `card`: the same with a challenge for a USIM, None if no card can be asked.
    - `connect`: makes our end of one IKE connection.
    """

    device: Device
    machine: MachineAdapter
    table: int
    run_hook: Runner | None = None
    clock: Callable[[], float] = boottime
    time_of_day: Callable[[], datetime] = local_time
    entropy: Callable[[int], bytes] = os.urandom
    resolve: Resolve = resolve
    network: OuterNetwork = field(default_factory=SystemNetwork)
    switch: KillSwitch = field(default_factory=NoKillSwitch)
    connect: Connect = initiator
    ask: Ask | None = None
    sign: Sign | None = None
    card: Ask | None = None

    def source(self, kind: NeedKind) -> Callable[[Any], Coroutine[Any, Any, Answer]] | None:
        """Who answers what the protocol needs."""
        match kind:
            case NeedKind.USIM:
                return self.card
            case NeedKind.REVOCATION:
                return self.network.revocation
            case NeedKind.CERTIFICATES:
                return self.network.certificates
            case _:
                return self.ask
