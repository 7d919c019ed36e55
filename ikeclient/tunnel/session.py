"""What a connection's events do to the data plane, the machine and the status: where `ike`, `esp` and `net` meet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol

from ikeclient.control import events
from ikeclient.control.status import TunnelStatus
from ikeclient.dataplane.event_loop import Spacing
from ikeclient.dataplane.interfaces import Device as PacketDevice
from ikeclient.dataplane.pump import Address, Pump
from ikeclient.errors import IkeclientError
from ikeclient.esp.sa.mtu import inner_mtu, interface_mtu
from ikeclient.ike.events import (
    ChildClosed,
    ChildEstablished,
    Configuration,
    Event,
    IkeEstablished,
    IkeKeysDerived,
    IPAddress,
    Notice,
    PathChanged,
    Progress,
)
from ikeclient.net.model import MachineAdapter
from ikeclient.net.transport.path import path_mtu
from ikeclient.profile.compile import CompiledProfile
from ikeclient.tunnel.attempt import Attempt
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.keylog import KeyLog
from ikeclient.tunnel.network import Link, inner_addresses, machine_config, outer_mark
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.sa_pair import sa_pair
from ikeclient.tunnel.status import Status

STRAGGLERS = 5.0  # how long a replaced inbound SA still receives

REOPEN_MOST, REOPEN_WITHIN = 5, 60.0  # the interface is made again so often in so many seconds

Publish = Callable[[dict[str, object]], None]


class Device(PacketDevice, Protocol):
    """What a tunnel needs of a TUN device."""

    name: str

    def fileno(self) -> int:
        """A descriptor that becomes readable with packets."""

    def reopen(self) -> bool:
        """Make the interface again that somebody deleted, on the same descriptor; whether that worked."""


class Session:
    """One tunnel's data plane, machine and status, whatever connection feeds them.

    `on_up` is called when packets can flow, or with the error that keeps them from it, `on_waiting` when some wait for
    a Child SA that has to be made; `later(seconds, action, spi)` is the event loop's timer.
    """

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        tun: Device,
        machine: MachineAdapter,
        publish: Publish,
        *,
        table: int,
        on_ike: Callable[[bytes, Address, Address], bool],
        on_tun_lost: Callable[[], None],
        on_waiting: Callable[[], None],
        on_up: Callable[[IkeclientError | None], None],
        later: Callable[[float, Callable[[int], None], int], object],
    ) -> None:
        self._profile = profile
        self._tun = tun
        self._machine = machine
        self._publish = publish
        self._table = table
        self._on_up = on_up
        self._later = later
        self._name = options.name
        self._keylog = KeyLog(options.keylog) if options.keylog else None
        self.started = boottime()
        self.applied = False
        self._reopened: list[float] = []  # when the interface had to be made again
        self._about_machine: tuple[str, ...] = ()  # warnings of the last configuration
        self.confirmed: tuple[IPAddress, IPAddress] | None = None  # the pair of addresses that the gateway knows
        self._last_child: ChildEstablished | None = None
        self._measured: tuple[tuple[IPAddress, IPAddress] | None, int] = None, 0
        self.status = Status(name=options.name, mode=options.mode, interface=tun.name)
        self.pump = Pump(
            tun,
            on_ike,
            boottime,
            entropy=os.urandom,
            space=Spacing(),
            on_tun_lost=on_tun_lost,
            on_waiting=on_waiting,
            warn=self.warn,
        )

    @property
    def disclosing(self) -> bool:
        """Whether somebody asked for the keys."""
        return self._keylog is not None

    def emit(self, event: str, **details: object) -> None:
        """Tell everybody who listens."""
        self._publish(events.happened(event, self._name, **details))

    def warn(self, text: str) -> None:
        """Tell everybody, and keep it for `status`."""
        self.status.warnings.append(text)
        self.emit("notice", text=text)

    def retract(self, text: str) -> None:
        """A warning is true no more."""
        if text in self.status.warnings:
            self.status.warnings.remove(text)

    def warn_once(self, text: str) -> None:
        """Tell everybody every time, and keep it for `status` once."""
        if text in self.status.warnings:
            self.emit("notice", text=text)
        else:
            self.warn(text)

    def snapshot(self) -> TunnelStatus:
        """Return what the tunnel tells about itself now."""
        return self.status.snapshot(self.pump, boottime())

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile, from the next `configure` on."""
        self._profile = profile

    # Events of the protocol

    def handle(self, event: Event, attempt: Attempt) -> None:
        """Do what an event of the connection `attempt` asks for."""
        match event:
            case Progress(step=step):
                self.emit(step, gateway=str(attempt.path.remote_address))
            case Notice(text=text):
                self.warn(text)
            case PathChanged(path=path):
                attempt.follow(path)
                self.status.path = path
            case IkeEstablished():
                self._established(event)
            case Configuration():
                self.status.configuration = event
            case ChildEstablished():
                self._child(event, attempt)
            case ChildClosed():
                self._child_closed(event, attempt)
            case IkeKeysDerived():
                if self._keylog is not None:
                    self._keylog.ike(event)

    def _established(self, event: IkeEstablished) -> None:
        self.status.ike = event
        self.status.established = events.timestamp()
        if event.rekeyed:
            self.status.ike_rekeys += 1
            self.emit("rekeyed", what="ike", suite=event.suite.name)

    def _child(self, child: ChildEstablished, attempt: Attempt) -> None:
        if self._keylog is not None:
            self._keylog.child(child, attempt.path.local_address, attempt.path.remote_address)
        again = self.status.idle
        self.pump.install(sa_pair(child, (address.ip for address in self.status.configuration.addresses)))
        self.status.children[child.spi_in] = self._last_child = child
        self.status.idle = False
        if not attempt.established:
            self._bring_up(attempt)
            return
        if again:
            self.emit("child-created", suite=child.suite.name)
            return
        if child.replaces is not None:
            self.status.children.pop(child.replaces, None)
        self.status.child_rekeys += 1
        self.emit("rekeyed", what="child", suite=child.suite.name)

    def _child_closed(self, event: ChildClosed, attempt: Attempt) -> None:
        """Where the gateway deleted the only Child SA, the next packet makes another one; the routes stay."""
        child = self.status.children.pop(event.spi_in, None)
        self.pump.table.retire(event.spi_in)
        self._later(STRAGGLERS, self.pump.remove, event.spi_in)
        if child is not None and attempt.established and not self.status.children and not event.replaced:
            self.status.idle = True
            self.pump.expect(sa_pair(child))
            self.emit("child-closed", spi_in=f"{event.spi_in:08x}")

    def supersede(self) -> None:
        """Send nothing more on the Child SAs there are; what the gateway has sent on them arrives a moment longer."""
        for spi in list(self.status.children):
            self.status.children.pop(spi)
            self.pump.table.retire(spi)
            self._later(STRAGGLERS, self.pump.remove, spi)

    def reauthenticated(self, attempt: Attempt) -> None:
        """Another connection carries the traffic now: make the machine fit it, in case something differs."""
        self.confirmed = (attempt.path.local_address, attempt.path.remote_address)
        self.emit("reauthenticated", gateway=str(attempt.path.remote_address))
        try:
            self.configure(attempt)
        except IkeclientError as error:
            self.warn(error.message)

    def _bring_up(self, attempt: Attempt) -> None:
        self.emit("configuring", interface=self._tun.name)
        try:
            self.configure(attempt)
        except IkeclientError as error:
            self._on_up(error)
            return
        self.confirmed = (attempt.path.local_address, attempt.path.remote_address)
        self.status.enter("connected")
        now = self.snapshot()
        self.emit(
            "connected",
            elapsed_ms=round((boottime() - self.started) * 1000),
            interface=now.interface,
            addresses=list(now.addresses),
            gateway=now.gateway.to_json(),
        )
        self._on_up(None)

    @property
    def mtu_stated(self) -> bool:
        """Whether the profile says what the MTU shall be."""
        return bool(self._profile.network.mtu)

    def outer_mtu(self, attempt: Attempt) -> int:
        """How many bytes the path carries: what was found out about it before, or else what the kernel believes."""
        local, remote = attempt.path.local_address, attempt.path.remote_address
        return self._measured[1] if (local, remote) == self._measured[0] else path_mtu(str(remote), mark=outer_mark())

    def configure(self, attempt: Attempt, outer: int | None = None) -> None:
        """Make the machine fit what was negotiated and the path it runs on; raises PlatformError after rolling back.

        `outer` is how many bytes the path carries, by default `outer_mtu`.
        """
        child = next(iter(self.status.children.values()), self._last_child)
        assert child is not None, "configured before the first Child SA"
        self._arrange(self.status.configuration, child, attempt, outer)

    def prepare(self, events: Sequence[Event], attempt: Attempt) -> None:
        """Make the machine fit a connection that is about to take over, from the `events` in which it came up.

        Raises IkeclientError after rolling back: then the connection in use goes on.
        """
        configuration = next(event for event in events if isinstance(event, Configuration))
        child = next(event for event in events if isinstance(event, ChildEstablished))
        self._arrange(configuration, child, attempt, None)

    def _arrange(
        self, configuration: Configuration, child: ChildEstablished, attempt: Attempt, outer: int | None
    ) -> None:
        remote = attempt.path.remote_address
        outer = outer or self.outer_mtu(attempt)
        self._measured = (attempt.path.local_address, remote), outer
        inner = self._profile.network.mtu or inner_mtu(outer, remote.version, child.suite)
        addresses, own = inner_addresses(configuration, child.local_selectors)
        ipv6 = any(address.version == 6 for address in (*addresses, *own))
        link = Link(
            interface=self._tun.name,
            mtu=interface_mtu(inner, ipv6=ipv6),
            path=attempt.path,
            gateways=(remote,),
            table=self._table,
        )
        config, warnings = machine_config(
            self._profile.network, configuration, child.local_selectors, child.remote_selectors, link
        )
        self._machine.apply(config)
        self.applied = True
        self.pump.set_mtu(inner)
        status = self.status
        status.mtu, status.path_mtu = inner, outer
        status.own = own
        status.routes = tuple(str(route) for route in config.routes)
        status.dns_servers = tuple(map(str, self._machine.servers))
        status.dns_domains = config.dns.domains if config.dns and status.dns_servers else ()
        now = (*warnings, *self._machine.warnings)
        status.warnings = [said for said in status.warnings if said in now or said not in self._about_machine]
        for warning in now:
            if warning not in status.warnings:
                self.warn(warning)
        self._about_machine = now

    def reopen_device(self) -> bool:
        """Make the interface again that another program deleted, with all that belongs to it; whether that worked.

        Meanwhile the rules of the machine let nothing out in the clear.
        """
        now = boottime()
        self._reopened = [then for then in self._reopened if then > now - REOPEN_WITHIN]
        if len(self._reopened) == REOPEN_MOST or not self._tun.reopen():
            return False
        self._reopened.append(now)
        try:
            self._machine.renew()
        except IkeclientError as error:
            self.warn(error.message)
            return False
        self.warn_once(f"another program deleted the interface {self._tun.name}; it was made again")
        return True

    # The end of a connection, and of the tunnel

    def lose(self, error: IkeclientError | None, *, again: bool) -> None:
        """The connection is over; device and routes stay. `again` tells that another one will be made."""
        for spi in list(self.status.children):
            self.pump.remove(spi)
        self.status.children.clear()
        self.status.idle = False
        self.pump.expect(None)
        if error is not None:
            self.status.last_error = error.message
        if self.applied and again and self.status.state != "reconnecting":
            self.status.enter("reconnecting")
            self.emit("reconnecting", error=error.lines() if error else [])

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing has passed the tunnel for so long, in either direction."""
        last = max(self.pump.last_outbound or 0.0, self.pump.last_inbound or 0.0)
        return boottime() - max(last, self.started) >= seconds

    def wait_for_packets(self) -> None:
        """No connection is made until a packet wants to leave; `on_waiting` tells of it."""
        self.pump.expect(sa_pair(self._last_child) if self._last_child is not None else None)
        self.emit("notice", text="the gateway ends connections that are idle: the next packet makes another one")

    def end(self) -> None:
        """Leave the machine as it was."""
        self._machine.revert()
        for warning in self._machine.warnings:
            self.warn(warning)
        self.status.enter("disconnected")
        if self.applied and not self._machine.left:
            self.emit("disconnected")
