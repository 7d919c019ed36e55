"""What a connection's events do to the data plane, the machine and the status: where `ike`, `esp` and `net` meet."""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.control.status import TunnelStatus
from ikeclient.dataplane.pump import Pump
from ikeclient.errors import IkeclientError
from ikeclient.ike.events import (
    ChildClosed,
    ChildEstablished,
    Configuration,
    Event,
    IkeEstablished,
    IkeKeysDerived,
    IPAddress,
    Notice,
    Path,
    PathChanged,
    Progress,
)
from ikeclient.ike.timers import Timers
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.arrangement import Arrangement
from ikeclient.tunnel.keylog import KeyLog
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports
from ikeclient.tunnel.sa_pair import sa_pair
from ikeclient.tunnel.state import Input, State
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents, Told

INBOUND_GRACE = 5.0  # how long a replaced inbound SA still receives


class Session:
    """One tunnel's data plane, machine and status, whatever connection feeds them.

    Events for people and programs go into the list `told`.
    """

    def __init__(self, profile: CompiledProfile, options: ConnectOptions, ports: Ports, pump: Pump, told: Told) -> None:
        self.profile = profile
        self.ports = ports
        self.pump = pump
        interface = ports.device.name if options.mode != "stack" else None
        self.status = Status(name=options.name, mode=options.mode, interface=interface)
        self.events = StatusEvents(self.status, told)
        self.arrangement = Arrangement(profile.network, ports, self.status, self.events)
        self.started = ports.clock()  # when the present connection, or the attempt to make one, began
        self._keylog = KeyLog(options.keylog) if options.keylog else None
        self._confirmed: tuple[IPAddress, IPAddress] | None = None  # the pair of addresses that the gateway knows
        self._last_child: ChildEstablished | None = None
        self._replaced: Timers[int] = Timers()  # inbound SPIs that still receive

    @property
    def disclosing(self) -> bool:
        """Whether the keys are to be written to a log."""
        return self._keylog is not None

    def snapshot(self, round_trip: float | None = None) -> TunnelStatus:
        """Return what the tunnel tells about itself now; IKE took `round_trip` seconds."""
        return self.status.snapshot(self.pump, self.ports.clock(), self.ports.switch, round_trip)

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile, from the next `configure` on."""
        self.profile = profile
        self.arrangement.use(profile.network)

    def begin_attempt(self) -> None:
        """Count the time from now on until it is connected."""
        self.started = self.ports.clock()

    def confirm(self, path: Path) -> bool:
        """Take note that the gateway knows this path; whether the one it knew before was another."""
        before, self._confirmed = self._confirmed, (path.local_address, path.remote_address)
        return before != self._confirmed

    # Timers

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timer` at the latest."""
        return self._replaced.next

    def handle_timer(self, now: float) -> None:
        """Drop replaced Child SAs whose grace is over."""
        for spi in self._replaced.expired(now):
            self.pump.remove(spi)

    def _replace(self, spi: int) -> None:
        """Send nothing more on a Child SA; what the gateway has sent on it arrives a moment longer."""
        self.pump.table.retire(spi)
        self._replaced.set(spi, self.ports.clock() + INBOUND_GRACE)

    # Events of the protocol

    def handle(self, event: Event, link: Link) -> None:
        """Do what an event of the connection `link` asks for."""
        match event:
            case Progress(step=step):
                self.events.emit(step, gateway=str(link.path.remote_address))
            case Notice(text=text):
                self.events.warn(text)
            case PathChanged(path=path):
                link.follow(path)
                self.status.follow(path)
            case IkeEstablished():
                self._established(event)
            case Configuration():
                self.status.granted(event)
            case ChildEstablished():
                self._child(event, link)
            case ChildClosed():
                self._child_closed(event, link)
            case IkeKeysDerived():
                if self._keylog is not None:
                    self._keylog.ike(event)

    def _established(self, event: IkeEstablished) -> None:
        self.status.authenticated(event)
        if event.rekeyed:
            self.events.emit("rekeyed", what="ike", suite=event.suite.name)

    def _child(self, child: ChildEstablished, link: Link) -> None:
        if self._keylog is not None:
            self._keylog.child(child, link.path.local_address, link.path.remote_address)
        again = self.status.idle
        self.pump.install(sa_pair(child, (address.ip for address in self.status.configuration.addresses)))
        self.status.children[child.spi_in] = self._last_child = child
        self.status.wait_for_packet(False)
        if not link.established:
            self._bring_up(link)
            return
        if again:
            self.events.emit("child-created", suite=child.suite.name)
            return
        if child.replaces is not None:
            self.status.children.pop(child.replaces, None)
        self.status.child_rekeyed()
        self.events.emit("rekeyed", what="child", suite=child.suite.name)

    def _child_closed(self, event: ChildClosed, link: Link) -> None:
        """Expect a packet if the gateway deleted the only Child SA: it makes another one; the routes stay."""
        child = self.status.children.pop(event.spi_in, None)
        self._replace(event.spi_in)
        if child is not None and link.established and not self.status.children and not event.replaced:
            self.status.wait_for_packet(True)
            self.pump.expect(sa_pair(child))
            self.events.emit("child-closed", spi_in=f"{event.spi_in:08x}")

    def supersede(self) -> None:
        """Send nothing more on the Child SAs there are; what the gateway has sent on them arrives a moment longer."""
        for spi in list(self.status.children):
            self.status.children.pop(spi)
            self._replace(spi)

    def reauthenticated(self, link: Link) -> None:
        """Make the machine fit the link that carries the traffic now, in case something differs."""
        self.confirm(link.path)
        self.status.life.happens(Input.UP)
        self.events.emit("reauthenticated", gateway=str(link.path.remote_address))
        try:
            self.configure(link)
        except IkeclientError as error:
            self.events.warn(error.message)

    def _bring_up(self, link: Link) -> None:
        self.events.emit("configuring", interface=self.ports.device.name)
        try:
            self.configure(link)
        except IkeclientError as error:
            link.fail(error)
            return
        self.confirm(link.path)
        self.status.life.happens(Input.UP)
        link.establish()
        took = round((self.ports.clock() - self.started) * 1000)
        self.status.connected_in(took)
        self.tell_connected(took)

    def tell_connected(self, took: int) -> None:
        """Tell that packets flow, after so many milliseconds in which they did not."""
        now = self.snapshot()
        self.events.emit(
            "connected",
            elapsed_ms=took,
            interface=self.ports.device.name,
            addresses=list(now.addresses),
            gateway=now.gateway.to_json(),
            p_cscf=list(now.p_cscf),
        )

    def configure(self, link: Link, outer: int | None = None) -> None:
        """Make the machine fit what was negotiated and the path it runs on; raises PlatformError after rolling back.

        `outer` is how many bytes the path carries, by default `outer_mtu`.
        """
        child = next(iter(self.status.children.values()), self._last_child)
        assert child is not None, "configured before the first Child SA"
        self._arrange(self.status.configuration, child, link, outer)

    def prepare(self, events: Sequence[Event], link: Link) -> None:
        """Make the machine fit a connection that is about to take over, from the `events` in which it came up.

        Raises IkeclientError after rolling back: then the connection in use goes on.
        """
        configuration = next(event for event in events if isinstance(event, Configuration))
        child = next(event for event in events if isinstance(event, ChildEstablished))
        self._arrange(configuration, child, link)

    def _arrange(
        self, configuration: Configuration, child: ChildEstablished, link: Link, outer: int | None = None
    ) -> None:
        self.pump.set_mtu(self.arrangement.apply(configuration, child, link, outer))

    # The end of a connection, and of the tunnel

    def lose(self, error: IkeclientError | None) -> None:
        """Drop the keys of a connection that is over; device and routes stay."""
        for spi in list(self.status.children):
            self.pump.remove(spi)
        self.status.children.clear()
        self.status.wait_for_packet(False)
        self.pump.expect(None)
        if error is not None:
            self.status.problems.failed(error)
        before = self.status.life.state
        self.status.life.happens(Input.LINK_LOST)
        if before is State.CONNECTED:
            self.events.emit("reconnecting", error=error.lines() if error else [])

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing has passed the tunnel for so long, in either direction."""
        last = max(self.pump.last_outbound or 0.0, self.pump.last_inbound or 0.0)
        return self.ports.clock() - max(last, self.started) >= seconds

    def wait_for_packets(self) -> None:
        """Announce that no connection is made until a packet wants to leave, of which the pump tells."""
        self.pump.expect(sa_pair(self._last_child) if self._last_child is not None else None)
        self.events.emit("notice", text="the gateway ends connections that are idle: the next packet makes another one")

    def end(self) -> None:
        """Leave the machine as it was."""
        self.arrangement.revert()
        self.status.life.happens(Input.CLOSED)
        if self.arrangement.applied and not self.ports.machine.left:
            self.events.emit("disconnected")
