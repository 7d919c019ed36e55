"""Looks at the network that the machine's traffic leaves by: what kind it is, whose gateway, which names.

Interfaces of tunnels do not count. What the tunnel itself has changed must not count either: while it is up,
`/etc/resolv.conf` may be its own, so name servers are taken from whom they came, of the interface alone:
systemd-networkd or NetworkManager; without either, what the file says while it is not ours.
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

NETWORKD = "/run/systemd/netif/links"
NETWORK_MANAGER = "/run/NetworkManager/no-stub-resolv.conf"
RESOLVER = "/etc/resolv.conf"
OURS = "# Written by ikeclient "
FILES = (RESOLVER, NETWORK_MANAGER)  # that tell by their change that there is something to look at
_DISCARD = 9  # the port of a datagram that nobody has to read
_LARGEST = 1 << 16


class Looker:
    """Looks at the network. `nudge` has the kernel find out the gateway's MAC address, which it may not know yet."""

    def __init__(self) -> None:
        self._dns: tuple[tuple[object, ...], tuple[tuple[str, ...], tuple[str, ...]]] | None = None

    def look(self, *, settled: bool) -> Network:
        """Return the network as it is; `settled` if what is not known by now is not there. Raises OSError."""
        kernel = Netlink()
        try:
            snapshot = kernel.snapshot()
            way = way_out(snapshot)
            if way is None:
                return Network()
            mac = kernel.neighbours(way.version, way.index).get(way.gateway) if way.gateway is not None else ""
            if mac is None and not settled and way.gateway is not None:
                nudge(way.gateway, way.interface)
        finally:
            kernel.close()
        names: dict[int, str] = {}
        with contextlib.suppress(OSError):
            names = wireless.networks()
        dns = self._names(way)
        return Network(
            kind="wifi" if way.index in names else _kind(way.interface),
            interface=way.interface,
            ssid=names.get(way.index, ""),
            gateway_mac="" if mac is None and settled else mac,
            dns_suffixes=None if dns is None else dns[0],
            dns_servers=None if dns is None else dns[1],
        )

    def _names(self, way: DefaultRoute) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The domains and the servers of the network; None if only a file of ours could tell."""
        here = (way.interface, way.gateway)
        found = names_of(way.index)
        if found is None:
            return self._dns[1] if self._dns is not None and self._dns[0] == here else None
        self._dns = (here, found)
        return found


def way_out(snapshot: Snapshot) -> DefaultRoute | None:
    """The default route that traffic takes, IPv4 first; None if there is none outside of tunnels."""
    tunnels = {interface.index for interface in snapshot.interfaces if is_tunnel(interface)}
    eligible = [route for route in snapshot.defaults if route.index not in tunnels]
    return min(eligible, key=lambda route: (route.version, route.metric), default=None)


def names_of(index: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The DNS domains and servers of an interface's network; None if all there is are a tunnel's."""
    link = _read(f"{NETWORKD}/{index}")
    values = dict(line.split("=", 1) for line in link.splitlines() if "=" in line and not line.startswith("#"))
    if values.get("DNS"):
        return tuple(values.get("DOMAINS", "").split()), tuple(values["DNS"].split())
    text = _read(NETWORK_MANAGER) or _read(RESOLVER)
    if text.startswith(OURS):
        return None
    words = [line.split() for line in text.splitlines()]
    suffixes = [word for line in words if line and line[0] in ("search", "domain") for word in line[1:]]
    return tuple(suffixes), tuple(line[1] for line in words if len(line) > 1 and line[0] == "nameserver")


def nudge(gateway: IPAddress, interface: str) -> None:
    """Send an empty datagram to the gateway, for which the kernel has to ask for its MAC address."""
    family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        scope = (0, socket.if_nametoindex(interface)) if gateway.version == 6 else ()
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        asking.sendto(b"", (str(gateway), _DISCARD, *scope))


def _kind(interface: str) -> str:
    place = f"/sys/class/net/{interface}"
    if os.path.exists(f"{place}/wireless") or os.path.exists(f"{place}/phy80211"):
        return "wifi"
    return "cellular" if "DEVTYPE=wwan" in _read(f"{place}/uevent").splitlines() else "wired"


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError:
        return ""
