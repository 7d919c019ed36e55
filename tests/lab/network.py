"""The networks of the lab: a gateway, a client, and what may lie between them.

The public segment always carries the same addresses, whatever stands behind them:

    gateway 10.1.0.1, fd01::1  <--- veth, or a relay that loses and delays frames --->  client 10.1.0.2, fd01::2

Either end may be a router that translates addresses (IPv4 only), with the real machine in 192.168.8.0/24 (gateway)
or 192.168.7.0/24 (client) behind it. What the client is to reach "inside" lives on the gateway machine's loopback,
and the gateway refuses it from its outside interfaces: only a tunnel leads there. 203.0.113.1 and 2001:db8:113::1,
also on the gateway machine, stand for the rest of the Internet and can be reached both ways, as can the DNS server
203.0.113.53, which every machine asks at first.
"""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from lab.machines import Machine, addresses, make_directory, plug
from lab.relay import Relay

GATEWAY_NAME = "gw.example.org"
GATEWAY_IPV4, GATEWAY_IPV6 = "10.1.0.1", "fd01::1"
CLIENT_IPV4, CLIENT_IPV6 = "10.1.0.2", "fd01::2"
GATEWAY_PRIVATE, GATEWAY_ROUTER = "192.168.8.2", "192.168.8.1"
CLIENT_PRIVATE, CLIENT_ROUTER = "192.168.7.2", "192.168.7.1"
SECOND_GATEWAY_IPV4, SECOND_GATEWAY_IPV6 = "10.2.0.1", "fd02::1"
SECOND_CLIENT_IPV4, SECOND_CLIENT_IPV6 = "10.2.0.2", "fd02::2"
INSIDE_IPV4, INSIDE_IPV6, INSIDE_DNS = "10.99.0.1", "fd99::1", "10.99.0.53"
FURTHER_IPV4, FURTHER_IPV6 = "10.99.0.130", "fd99::2:2"
INSIDE_NETWORKS = ("10.99.0.0/24", "fd99::/64")
HIDDEN_NETWORKS = ("10.99.0.0/16", "fd99::/64")  # in the clear nothing of these answers
INTERNET_IPV4, INTERNET_IPV6, INTERNET_DNS = "203.0.113.1", "2001:db8:113::1", "203.0.113.53"

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """What lies between the two machines. A direct cable if nothing is set."""

    gateway_nat: bool = False
    client_nat: bool = False
    impaired: bool = False


class Network:
    """The machines `gateway` and `client`, connected as `topology` says. A context manager; `close` removes it all."""

    def __init__(self, topology: Topology | None = None, *, prefix: str = "ikl") -> None:
        self.topology = topology or Topology()
        self.directory = make_directory(prefix)
        self._name = f"{prefix}{os.getpid()}-{next(_numbers)}"
        self._machines: list[Machine] = []
        self.gateway_router: Machine | None = None
        self.client_router: Machine | None = None
        self.relay: Relay | None = None
        try:
            self.gateway = self._machine("gw")
            self.client = self._machine("cl")
            self._build()
        except BaseException:
            self.close()
            raise

    @property
    def gateway_listen(self) -> tuple[str, ...]:
        """The addresses of the gateway machine's own outside interface."""
        return (GATEWAY_PRIVATE,) if self.topology.gateway_nat else (GATEWAY_IPV4, GATEWAY_IPV6)

    @property
    def machine_names(self) -> list[str]:
        """The network namespaces of all machines."""
        return [machine.name for machine in self._machines]

    def add_machine(self, role: str) -> Machine:
        """A further machine, without a cable yet."""
        return self._machine(role)

    def add_further_machine(self, *, mtu: int = 1500) -> Machine:
        """A machine behind the gateway, FURTHER_IPV4 and FURTHER_IPV6.

        `mtu` is that of the gateway's end of the cable. The machine sends no longer packets, and does not tell so.
        """
        machine = self._machine("fu")
        plug(self.gateway, "further", machine, "lan")
        self.gateway.set_link("further", mtu=mtu)
        addresses(self.gateway, "further", "10.99.0.129/25", "fd99::2:1/112")
        addresses(machine, "lan", f"{FURTHER_IPV4}/25", f"{FURTHER_IPV6}/112")
        for version, way in (("-4", "10.99.0.129"), ("-6", "fd99::2:1")):
            machine.ip(version, "route", "add", "default", "via", way, "mtu", str(mtu), "advmss", "1340")
        return machine

    def _machine(self, role: str) -> Machine:
        machine = Machine(f"{self._name}{role}", self.directory)
        self._machines.append(machine)
        return machine

    def _build(self) -> None:
        left = self._gateway_side() if self.topology.gateway_nat else self.gateway
        right = self._client_side() if self.topology.client_nat else self.client
        if self.topology.impaired:
            middle = self._machine("mid")
            plug(left, "wan", middle, "gateway")
            plug(right, "wan", middle, "client")
            self.relay = Relay(middle, ends=((left, "wan"), (right, "wan")))
        else:
            plug(left, "wan", right, "wan")
        addresses(left, "wan", f"{GATEWAY_IPV4}/24", f"{GATEWAY_IPV6}/64")
        addresses(right, "wan", f"{CLIENT_IPV4}/24", f"{CLIENT_IPV6}/64")
        right.ip("route", "add", "default", "via", GATEWAY_IPV4)
        right.ip("-6", "route", "add", "default", "via", GATEWAY_IPV6)
        self._furnish_gateway()

    def _furnish_gateway(self) -> None:
        inside = (f"{INSIDE_IPV4}/32", f"{INSIDE_IPV6}/128", f"{INSIDE_DNS}/32")
        outside = (f"{INTERNET_IPV4}/32", f"{INTERNET_IPV6}/128", f"{INTERNET_DNS}/32")
        addresses(self.gateway, "lo", *inside, *outside)
        self._forward(self.gateway)
        self.gateway.add_rules(
            "prerouting",
            f'iifname "wan*" ip daddr {HIDDEN_NETWORKS[0]} drop',
            f'iifname "wan*" ip6 daddr {HIDDEN_NETWORKS[1]} drop',
        )

    @staticmethod
    def _forward(machine: Machine) -> None:
        machine.sysctl("net.ipv4.ip_forward", 1)
        machine.sysctl("net.ipv6.conf.all.forwarding", 1)

    def _gateway_side(self) -> Machine:
        """A router that sends UDP 500 and 4500 of the public address, and all else, to the gateway behind it."""
        self.gateway_router = router = self._machine("gr")
        plug(router, "lan", self.gateway, "wan")
        addresses(router, "lan", f"{GATEWAY_ROUTER}/24")
        addresses(self.gateway, "wan", f"{GATEWAY_PRIVATE}/24")
        self.gateway.ip("route", "add", "default", "via", GATEWAY_ROUTER)
        self._forward(router)
        router.ip("route", "add", "203.0.113.0/24", "via", GATEWAY_PRIVATE)
        inward = f'iifname "wan" ip daddr {GATEWAY_IPV4} udp dport {{ 500, 4500 }} dnat ip to {GATEWAY_PRIVATE}'
        self._translate(router, inward)
        return router

    def _client_side(self) -> Machine:
        """A home router that hides the client behind its own address."""
        self.client_router = router = self._machine("cr")
        plug(router, "lan", self.client, "wan")
        addresses(router, "lan", f"{CLIENT_ROUTER}/24")
        addresses(self.client, "wan", f"{CLIENT_PRIVATE}/24")
        self.client.ip("route", "add", "default", "via", CLIENT_ROUTER)
        self._forward(router)
        self._translate(router)
        return router

    @staticmethod
    def _translate(router: Machine, *inward: str) -> None:
        """Masquerade what leaves through `wan`, from random ports as home routers do."""
        before = "\n".join(("type nat hook prerouting priority -100", *inward))
        after = 'type nat hook postrouting priority 100\noifname "wan" masquerade random'
        router.run(
            "nft", "-f", "-", stdin=f"table ip nat {{\nchain in {{\n{before}\n}}\nchain out {{\n{after}\n}}\n}}\n"
        )

    def add_second_path(self) -> None:
        """Lay a second cable (`wan2`, 10.2.0.0/24 and fd02::/64) between client and gateway, without default route."""
        self.add_path(2)

    def add_path(self, number: int) -> None:
        """The same for any number: `wan3` has 10.3.0.0/24 and fd03::/64, the gateway .1 and the client .2 there."""
        device = f"wan{number}"
        plug(self.gateway, device, self.client, device)
        for machine, host in ((self.gateway, 1), (self.client, 2)):
            addresses(machine, device, f"10.{number}.0.{host}/24", f"fd{number:02x}::{host}/64")

    def use_second_path(self) -> None:
        """The client's first network disappears as when a cable is pulled; the second one has the default route."""
        self.client.ip("route", "replace", "default", "via", SECOND_GATEWAY_IPV4, "dev", "wan2")
        self.client.set_link("wan", up=False)

    def use_first_path(self) -> None:
        """The first network is back and has the default route."""
        self.client.set_link("wan", up=True)
        self.client.ip("route", "replace", "default", "via", GATEWAY_IPV4, "dev", "wan")

    def set_path_mtu(self, mtu: int) -> None:
        """Make the public segment carry `mtu` bytes at most; a client behind a router learns of it by ICMP."""
        for machine in (self.gateway_router or self.gateway, self.client_router or self.client):
            machine.set_link("wan", mtu=mtu)

    def subdirectory(self, name: str) -> Path:
        """A directory of this network, made if missing and removed with it."""
        path = self.directory / name
        path.mkdir(exist_ok=True)
        return path

    def close(self) -> None:
        """Stop everything and remove it."""
        for machine in reversed(self._machines):
            machine.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
