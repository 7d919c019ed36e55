"""A TUN device that was made for us, on an unmanaged machine: one that this process has no right to change.

Stands in for `machine.Machine`: compares what is there with what the tunnel needs, and says what root has to do about
the difference, as commands. The routes are ordinary ones, because without CAP_NET_ADMIN our packets cannot
carry the mark that a routing table of our own would need. So the gateway needs a route of its own wherever the tunnel's
routes cover it.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from struct import Struct

from ikeclient.errors import NegotiationRefused
from ikeclient.net.dns.backends import RESOLV_CONF
from ikeclient.net.dns.resolv_conf import servers_in
from ikeclient.net.model import ANYWHERE, IPAddress, IPNetwork, MachineConfig, Version
from ikeclient.net.watch.monitor import Source, netlink_or_probes
from ikeclient.net.watch.snapshot import Snapshot

BEFORE = "this process may not change the machine: routes and DNS are the administrator's. Still to be done as root:"

_SIOCGIFFLAGS, _SIOCGIFMTU, _IFF_UP = 0x8913, 0x8921, 1  # linux/sockios.h, linux/if.h
_Request = Struct("=16si20x")  # struct ifreq with one integer
_FAMILY: dict[Version, str] = {4: "ip", 6: "ip -6"}


class UnmanagedMachine:
    """A `MachineAdapter` that changes nothing; `warnings` say what is still to be done. `source` exists for tests."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF, *, source: Source | None = None) -> None:
        self.warnings: list[str] = []
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []
        self._resolv_conf = resolv_conf
        self._source = source

    def plan(self, config: MachineConfig) -> list[str]:
        """What is missing on this machine, as command lines. Raises NegotiationRefused for host to host."""
        _check_host_to_host(config)
        source = self._source or netlink_or_probes()
        try:
            view = source.snapshot(ignore=(), remotes=config.gateway, mark=0)
            return [*_link(config), *_addresses(config, view), *_routes(config, view, source), *self._dns(config)]
        finally:
            if self._source is None:
                source.close()

    def apply(self, config: MachineConfig) -> None:
        """Only look what is missing."""
        missing = self.plan(config)
        self.warnings = [BEFORE, *missing] if missing else []
        self.servers = config.dns.servers if config.dns else ()

    def renew(self) -> None:
        """The new interface needs everything again, which `warnings` say."""

    def revert(self) -> None:
        """There is nothing to undo."""
        self.warnings = []

    def _dns(self, config: MachineConfig) -> Iterator[str]:
        if config.dns is None:
            return
        content = None
        with contextlib.suppress(OSError):
            content = self._resolv_conf.read_bytes()
        known = servers_in(content)
        for server in config.dns.servers:
            if server not in known:
                domains = " ".join(config.dns.domains)
                yield f"tell the resolver of the name server {server}" + (f" for {domains}" if domains else "")


def _link(config: MachineConfig) -> Iterator[str]:
    up, mtu = _state_of(config.interface)
    if not up or mtu != config.mtu:
        yield f"ip link set {config.interface} mtu {config.mtu} up"


def _state_of(interface: str) -> tuple[bool, int]:
    name = interface.encode()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answers = (fcntl.ioctl(any_socket, code, _Request.pack(name, 0)) for code in (_SIOCGIFFLAGS, _SIOCGIFMTU))
            flags, mtu = (int(_Request.unpack(answer)[1]) for answer in answers)
    except OSError:
        return False, 0
    return bool(flags & _IFF_UP), mtu


def _addresses(config: MachineConfig, view: Snapshot) -> Iterator[str]:
    there = {ours.address for ours in view.addresses if ours.interface == config.interface}
    for address in config.addresses:
        if address.ip not in there:
            yield f"ip address replace {address} dev {config.interface}"


def _routes(config: MachineConfig, view: Snapshot, source: Source) -> Iterator[str]:
    def inside(network: IPNetwork) -> bool:
        way = source.route_to(_somewhere_in(network))
        return way is not None and way.interface == config.interface

    gateways = [ip_network(gateway) for gateway in config.gateway]
    parts = [part for route in config.routes if route not in gateways for part in _halves(route)]
    missing = [part for part in parts if not inside(part)]
    outside = gateways + list(config.exclude)
    for network in outside:
        if not any(network.overlaps(route) for route in config.routes):
            continue
        way = source.route_to(_somewhere_in(network))
        beaten = way is None or (way.gateway is not None and any(network.overlaps(part) for part in missing))
        if inside(network) or beaten:  # a route of its own is not told from the default route, which ours would beat
            yield _around(network, config, view)
    for part in missing:
        origin = next((f" src {own}" for own in config.own if own.version == part.version), "")
        yield f"{_ip(part)} route replace {part} dev {config.interface}{origin}"
    for version in sorted(config.blocked):
        for part in _halves(ANYWHERE[version]):
            if source.route_to(_somewhere_in(part)) is not None:
                yield f"{_ip(part)} route replace unreachable {part}"


def _check_host_to_host(config: MachineConfig) -> None:
    """Without a mark, packets to the gateway itself and our own cannot be told apart by their route."""
    gateways = {ip_network(gateway) for gateway in config.gateway}
    if gateways.issuperset(config.routes):
        raise NegotiationRefused(
            f"the gateway lets only packets to itself through ({', '.join(map(str, config.routes))})",
            reason="its address would have to be reached inside the tunnel and outside, which takes CAP_NET_ADMIN",
            hint="run as root, or give ikeclient the capability; `ikeclient exec` and `proxy` need neither",
        )


def _around(network: IPNetwork, config: MachineConfig, view: Snapshot) -> str:
    ways = [d for d in view.defaults if d.version == network.version and d.interface != config.interface]
    way = min(ways, key=lambda default: default.metric, default=None)
    hop = f" via {way.gateway}" if way and way.gateway else ""
    return f"{_ip(network)} route replace {network}{hop} dev {way.interface if way else 'DEVICE'}"


def _halves(network: IPNetwork) -> tuple[IPNetwork, ...]:
    """A default route is left alone; two halves take its place."""
    return tuple(network.subnets()) if network.prefixlen == 0 else (network,)


def _somewhere_in(network: IPNetwork) -> IPAddress:
    """An ordinary address of the network to ask the way to."""
    halves = {"0.0.0.0/1": "100.64.0.1", "128.0.0.0/1": "198.18.0.1", "::/1": "4000::1", "8000::/1": "a000::1"}
    if text := halves.get(str(network)):
        return ip_network(text).network_address
    return network[1] if network.num_addresses > 2 else network[0]


def _ip(network: IPNetwork) -> str:
    return _FAMILY[network.version]
