"""Stands in for the machine where the tunnel ends in our own process: nothing but the stack is configured."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.net.model import IPAddress, MachineConfig
from ikeclient.stack.host import Host


class StackMachine:
    """A `MachineAdapter` that gives addresses, networks, MTU and name servers to a host; `clock` gives seconds."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self.warnings: list[str] = []
        self.servers: tuple[IPAddress, ...] = ()
        self.left: list[str] = []

    def plan(self, config: MachineConfig) -> list[str]:  # noqa: ARG002  whatever is granted
        """Nothing of the machine is changed."""
        return []

    def apply(self, config: MachineConfig) -> None:
        """Have the host be what the gateway granted."""
        addresses = [address.packed for address in config.sources]
        self._host.configure(addresses, config.routes, config.mtu, self._clock())
        dns = config.dns
        self.servers = dns.servers if dns is not None else ()
        domains = dns.domains if dns is not None else ()
        self._host.resolver.configure(tuple(server.packed for server in self.servers), domains)

    def renew(self) -> None:
        """Nobody can take the host away."""

    def revert(self) -> None:
        """The host has no address any more; its connections end."""
        self._host.configure((), (), 1280, self._clock())
        self._host.resolver.configure((), ())
        self.servers = ()
