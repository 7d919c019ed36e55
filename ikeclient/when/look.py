"""Looks at the network that the machine's traffic leaves by: what kind it is, whose gateway, which names.

Interfaces of tunnels do not count, and what a tunnel has changed does not either (`when.names`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from ikeclient.net.model import IPAddress
from ikeclient.net.watch import wireless
from ikeclient.net.watch.netlink import Netlink
from ikeclient.net.watch.snapshot import DefaultRoute, Snapshot, is_tunnel
from ikeclient.when.decide import Network
from ikeclient.when.names import Names, NamesOf, read

_INTERFACES = "/sys/class/net"
_WITHOUT_ADDRESSES = 0x80  # IFF_NOARP
_DISCARD = 9  # the port of a datagram that nobody has to read


class Looker:
    """Looks at the network. `files` are those whose change tells that there is something to look at."""

    def __init__(self, names: NamesOf | None = None) -> None:
        self._names_of = names or NamesOf()
        self._last: tuple[object, Names] | None = None
        self.files = self._names_of.files(0)

    def look(self) -> Network:
        """Return the network as it is. Raises OSError.

        If the gateway's MAC address is not known, the kernel is made to find it out for the next look.
        """
        kernel = Netlink()
        try:
            snapshot = kernel.snapshot()
            way = way_out(snapshot)
            if way is None:
                return Network()
            mac = _gateway_mac(kernel, way)
        finally:
            kernel.close()
        self.files = self._names_of.files(way.index)
        kind, ssid = kind_of(way)
        names = self._names(snapshot, way)
        return Network(
            kind=kind,
            interface=way.interface,
            ssid=ssid,
            gateway_mac=mac,
            dns_suffixes=None if names is None else names.domains,
            dns_servers=None if names is None else names.servers,
        )

    def _names(self, snapshot: Snapshot, way: DefaultRoute) -> Names | None:
        """The names of the network; what they were, while only a file of a tunnel's could tell."""
        carriers = [each.carriers for each in snapshot.interfaces if each.index == way.index]
        here = (way, carriers)
        found = self._names_of.find(way.interface, way.index)
        if found is None:
            return self._last[1] if self._last is not None and self._last[0] == here else None
        self._last = (here, found)
        return found


def way_out(snapshot: Snapshot) -> DefaultRoute | None:
    """The default route that traffic takes, IPv4 first; None if there is none outside of tunnels."""
    tunnels = {interface.index for interface in snapshot.interfaces if is_tunnel(interface)}
    eligible = [route for route in snapshot.defaults if route.index not in tunnels]
    return min(eligible, key=lambda route: (route.version, route.metric), default=None)


def kind_of(way: DefaultRoute) -> tuple[str, str | None]:
    """The kind of network, and its name if it is wireless: None if that is not known, "" if it has none."""
    names: dict[int, str] = {}
    with contextlib.suppress(OSError):
        names = wireless.networks()
    place = f"{_INTERFACES}/{way.interface}"
    if way.index in names or os.path.exists(f"{place}/wireless") or os.path.exists(f"{place}/phy80211"):
        return "wifi", names.get(way.index) or None  # traffic leaves by it, so it has a name
    cellular = "DEVTYPE=wwan" in read(Path(place, "uevent")).splitlines()
    return "cellular" if cellular else "wired", ""


def _gateway_mac(kernel: Netlink, way: DefaultRoute) -> str | None:
    """The gateway's MAC address: None if it is not known, "" where there is none. Raises OSError."""
    if way.gateway is None or _has_no_addresses(way.interface):
        return ""
    mac = kernel.neighbours(way.gateway.version, way.index).get(way.gateway)
    if mac is None and not kernel.solicit(way.gateway, way.index):
        nudge(way.gateway, way.interface)
    return mac


def _has_no_addresses(interface: str) -> bool:
    """Whether neighbours on an interface have no MAC addresses, as in cellular networks."""
    flags = read(Path(_INTERFACES, interface, "flags")).strip()
    return bool(int(flags, 16) & _WITHOUT_ADDRESSES) if flags else False


def nudge(gateway: IPAddress, interface: str) -> None:
    """Send an empty datagram to the gateway, for which the kernel has to ask for its MAC address.

    That takes no rights, and the firewall of a kill switch stops it.
    """
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        scope = (0, socket.if_nametoindex(interface)) if gateway.version == 6 else ()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        asking.sendto(b"", (str(gateway), _DISCARD, *scope))
