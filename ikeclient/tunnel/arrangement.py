"""Makes the machine fit what the gateway granted, and leaves it as it was: `machine_config` decides, this applies."""

from __future__ import annotations

from ikeclient.errors import IkeclientError
from ikeclient.esp.sa.mtu import inner_mtu, interface_mtu
from ikeclient.ike.events import ChildEstablished, Configuration, IPAddress
from ikeclient.net.model import NOT_SPLIT
from ikeclient.profile.compiled import NetworkSettings
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.machine_config import Underlay, inner_addresses, machine_config
from ikeclient.tunnel.ports import Ports
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents

REOPEN_MOST, REOPEN_WITHIN = 5, 60.0  # the interface is made again so often in so many seconds


class Arrangement:
    """The device, routes and name servers of one tunnel, as the profile's `network` settings want them."""

    def __init__(self, network: NetworkSettings, ports: Ports, status: Status, events: StatusEvents) -> None:
        self._network = network
        self.applied = False  # whether the machine ever fitted a connection
        self._ports = ports
        self._status = status
        self._events = events
        self._reopened: list[float] = []  # when the interface had to be made again
        self._warnings: tuple[str, ...] = ()  # of the last configuration
        self._measured: tuple[tuple[IPAddress, IPAddress] | None, int] = None, 0

    def use(self, network: NetworkSettings) -> None:
        """Obey other settings from the next `apply` on."""
        self._network = network

    @property
    def mtu_stated(self) -> bool:
        """Whether the profile says what the MTU shall be."""
        return bool(self._network.mtu)

    def outer_mtu(self, link: Link) -> int:
        """How many bytes the path carries: what was found out about it before, or else what the kernel believes."""
        local, remote = link.path.local_address, link.path.remote_address
        return self._measured[1] if (local, remote) == self._measured[0] else self._ports.network.path_mtu(remote)

    def apply(self, configuration: Configuration, child: ChildEstablished, link: Link, outer: int | None = None) -> int:
        """Make the machine fit what was negotiated and the path it runs on; returns the inner MTU.

        `outer` is how many bytes the path carries, by default `outer_mtu`. Raises IkeclientError after rolling back.
        """
        status, ports, remote = self._status, self._ports, link.path.remote_address
        outer = outer or self.outer_mtu(link)
        self._measured = (link.path.local_address, remote), outer
        inner = self._network.mtu or inner_mtu(outer, remote.version, child.suite)
        addresses, own = inner_addresses(configuration, child.local_selectors)
        ipv6 = any(address.version == 6 for address in (*addresses, *own))
        underlay = Underlay(
            interface=ports.device.name,
            mtu=interface_mtu(inner, ipv6=ipv6),
            path=link.path,
            gateways=(remote,),
            table=ports.table,
        )
        config, warnings = machine_config(
            self._network, configuration, child.local_selectors, child.remote_selectors, underlay
        )
        ports.switch.carry(config)
        ports.machine.apply(config)
        self.applied = True
        every_name = any(NOT_SPLIT in warning for warning in ports.machine.warnings)
        status.arranged(config, ports.machine.servers, mtu=inner, path_mtu=outer, every_name=every_name)
        self._warn((*warnings, *ports.machine.warnings))
        return inner

    def _warn(self, now: tuple[str, ...]) -> None:
        """Put the warnings of this configuration in the place of those of the last one."""
        status = self._status
        status.problems.withdraw([said for said in self._warnings if said not in now])
        for warning in now:
            if warning not in status.problems.warnings:
                self._events.warn(warning)
        self._warnings = now

    def reopen_device(self) -> bool:
        """Make the interface again that another program deleted, with all that belongs to it; whether that worked.

        Meanwhile the rules of the machine let nothing out in the clear.
        """
        now, device = self._ports.clock(), self._ports.device
        self._reopened = [then for then in self._reopened if then > now - REOPEN_WITHIN]
        if len(self._reopened) == REOPEN_MOST or not device.reopen():
            return False
        self._reopened.append(now)
        try:
            self._ports.machine.renew()
        except IkeclientError as error:
            self._events.warn(error.message)
            return False
        text = f"another program deleted the interface {device.name}; it was made again"
        if (times := len(self._reopened)) == 1:
            self._events.warn(text)
        else:
            self._events.emit("notice", text=f"{text} ({times} of at most {REOPEN_MOST} times a minute)")
        return True

    def revert(self) -> None:
        """Leave the machine as it was; what cannot be undone becomes a warning."""
        self._ports.machine.revert()
        for warning in self._ports.machine.warnings:
            self._events.warn(warning)
