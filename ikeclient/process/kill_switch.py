"""The tunnel's end of its kill switch: what is closed follows the tunnel, and the helper closes it (`net.block`).

It closes before the first packet, with what the profile says; what the gateway grants narrows that later. Our packets
pass to an address only once IKE is about to speak to it, and a name server only while it is asked for the gateway.

A tunnel without a kill switch may run beside a closed one. What is its own then has to pass, which is all that a switch
does that is not `wanted`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from ikeclient.control.events import happened
from ikeclient.errors import NoNetwork, NoResponse, PlatformError
from ikeclient.net.block.firewall import lacks
from ikeclient.net.block.state import BLOCK_TABLES, Block, collapsed, ruleset, steps
from ikeclient.net.changes.desired import host
from ikeclient.net.dns import lookup
from ikeclient.net.model import ANYWHERE, MARK, IPAddress, IPNetwork, MachineConfig
from ikeclient.process.helper.messages import Blocked, CloseMachine, LookAtMachine, OpenMachine
from ikeclient.profile.compiled import NetworkSettings
from ikeclient.tunnel.resolve import Known, resolve
from ikeclient.tunnel.routes import blocked_families

MOST_ADDRESSES, MOST_PORTS = 64, 16  # of the gateway, and of ours; the last ones


def how_to_open(name: str) -> str:
    """The sentence for a machine that stays closed when its tunnel has ended."""
    return f"the kill switch keeps this machine closed: `ikeclient unblock {name}` opens it"


class Channel(Protocol):
    """The way to who closes and opens."""

    def block(self, request: CloseMachine | OpenMachine | LookAtMachine) -> Blocked:
        """Do what is asked, and tell what is closed then. Raises PlatformError."""


class PlanningChannel:
    """Closes nothing, and writes down what would be closed, as commands."""

    def __init__(self, name: str) -> None:
        self.lines: list[str] = []
        self._name = name

    def block(self, request: CloseMachine | OpenMachine | LookAtMachine) -> Blocked:
        """See `Channel`."""
        networks = tuple(ANYWHERE.values())
        if isinstance(request, CloseMachine):
            networks = networks if request.networks is None else request.networks
            block = Block(
                name=self._name,
                networks=networks,
                exclude=request.exclude,
                exclude_lan=request.exclude_lan,
                interface=request.interface,
                gateways=request.gateways,
                mark=MARK,
                table=BLOCK_TABLES[0],
                network="",
            )
            self.lines = [line for step in steps(block) for line in step.commands()]
            self.lines += [f"nft -f - <<'END'\n{ruleset(block, [block])}END"] if lacks() is None else []
        return Blocked(closed=True, means="", networks=networks, put_back=(), problem=None)


class HelperSwitch:
    """A kill switch by way of the helper; a `tunnel.ports.KillSwitch`. `tell` gets its events."""

    def __init__(
        self, channel: Channel, name: str, network: NetworkSettings, tell: Callable[[dict[str, object]], None]
    ) -> None:
        self.wanted = False
        self.closed = False
        self.means: str | None = None
        self._channel = channel
        self._name = name
        self._tell = tell
        self._told: str | None = None
        self._servers = lookup.servers()
        self._network = network
        self._request = first_request(network, wanted=False)

    @property
    def keeps_closed(self) -> bool:
        """Whether the machine is closed, and stays so when the tunnel ends."""
        return self.wanted and self.closed

    def close(self) -> None:
        """Close the machine as the profile says, from now until `open`. Raises PlatformError."""
        self.wanted = True
        self._request = first_request(self._network, wanted=True)
        self._ask(self._request)

    def use_interface(self, name: str) -> None:
        """Let packets into the tunnel's interface. Raises PlatformError."""
        self._change(replace(self._request, interface=name))

    def open_at_the_end(self) -> None:
        """Have the end of the tunnel open the machine, as `disconnect` does and a signal does not."""
        self.wanted = False

    def open(self) -> None:
        """Open the machine for good, or let go what passed a machine that others close. Raises PlatformError."""
        self._ask(OpenMachine(seconds=0))

    def look(self) -> None:
        """Take note of what happened: others open and close, and so does the time."""
        with contextlib.suppress(PlatformError):  # without the helper the tunnel ends anyway
            self._ask(LookAtMachine())

    # What the tunnel needs

    def admit(self, remote: IPAddress, port: int) -> None:
        """Let our packets to `remote` pass, and what it answers to our `port`. What fails is tried again."""
        request = self._request
        if remote in request.gateways and port in request.ports:
            return
        gateways = tuple(dict.fromkeys((*request.gateways, remote)))[-MOST_ADDRESSES:]
        ports = tuple(dict.fromkeys((*request.ports, port)))[-MOST_PORTS:]
        try:
            self._change(replace(request, gateways=gateways, ports=ports))
        except PlatformError as error:
            self._tell(
                happened(
                    "notice", self._name, text=f"the gateway cannot be let through the kill switch: {error.message}"
                )
            )

    def admit_fetch(self, remote: IPAddress | None, port: int) -> None:
        """Let a fetch of revocation data pass, for as long as it lasts. Without that it fails, and says so itself."""
        request = self._request
        if remote is None:
            change = replace(request, asked=())
        else:
            asked = tuple(dict.fromkeys((*request.asked, remote)))[-MOST_ADDRESSES:]
            ports = tuple(dict.fromkeys((*request.ports, port)))[-MOST_PORTS:]
            change = replace(request, asked=asked, ports=ports)
        if change != request:
            with contextlib.suppress(PlatformError):
                self._change(change)

    def carry(self, config: MachineConfig) -> None:
        """Close what the tunnel is about to carry. Raises PlatformError."""
        request = replace(self._request, exclude=config.exclude, exclude_lan=config.exclude_lan)
        if self.wanted:
            servers = config.dns.servers if config.dns is not None else ()
            whole = [ANYWHERE[version] for version in config.blocked]
            networks = collapsed([*config.routes, *whole, *map(host, servers)])
            request = replace(request, networks=networks, granted=self._network.routes == "gateway")
            self._servers = tuple(server for server in self._servers if server not in servers)
        self._change(request)

    async def resolve(self, hosts: Sequence[str], port: int) -> Known:
        """Find the gateway's addresses, as `tunnel.resolve`; by questions of our own if others' are closed."""
        networks, known = self._request.networks, lookup.servers()
        closed = networks is None or any(net.prefixlen == 0 or any(each in net for each in known) for net in networks)
        if not self.closed or not closed:
            return await resolve(hosts, port)
        inside = set(networks or ()) - set(ANYWHERE.values())
        servers = [server for server in known if not any(server in net for net in inside)]
        self._servers = tuple(servers) or self._servers
        found: dict[IPAddress, str] = {}
        problems = []
        temporary = False
        try:
            for name in hosts:
                try:
                    answers = lookup.listed(name) or await lookup.look_up(name, self._servers, MARK, self._admit_server)
                except OSError as error:
                    temporary |= not isinstance(error, lookup.NoSuchNameError)
                    problems.append(f"{name}: {error}")
                    continue
                for address in answers:
                    if address.is_unspecified or address.is_multicast:
                        problems.append(f"{name}: {address} cannot be a gateway")
                    else:
                        found.setdefault(address, name)
        finally:
            if self._request.asked:
                self._change(replace(self._request, asked=()))
        if not found:
            kind = NoNetwork if temporary else NoResponse
            raise kind(
                f"cannot find the gateway {', '.join(hosts)}",
                reason="; ".join(problems),
                hint="check [gateway] address and this machine's name servers, or give an address instead of the name",
            )
        return [(name, address) for address, name in found.items()]

    def _admit_server(self, server: IPAddress, port: int) -> None:
        request = self._request
        ports = tuple(dict.fromkeys((*request.ports, port)))[-MOST_PORTS:]
        self._change(replace(request, asked=tuple(dict.fromkeys((*request.asked, server))), ports=ports))

    # By way of the helper

    def _change(self, request: CloseMachine) -> None:
        if request != self._request:
            self._ask(request)
            self._request = request

    def _ask(self, request: CloseMachine | OpenMachine | LookAtMachine) -> None:
        answer = self._channel.block(request)
        before, self.closed, self.means = self.closed, answer.closed, answer.means or None
        if self.closed and not before:
            networks = [str(net) for net in answer.networks]
            self._tell(happened("blocked", self._name, means=answer.means, networks=networks))
        elif before and not self.closed:
            self._tell(happened("unblocked", self._name, means=answer.means))
        self._tell_of(answer)

    def _tell_of(self, answer: Blocked) -> None:
        if answer.put_back:
            text = f"another program opened what the kill switch closes; closed again: {', '.join(answer.put_back)}"
            self._tell(happened("notice", self._name, text=text))
        if answer.problem is not None and answer.problem != self._told and answer.closed:
            self._told = answer.problem
            text = "the kill switch closes by routes alone, past which programs that name an interface can send"
            self._tell(happened("notice", self._name, text=f"{text} ({answer.problem})"))


def first_request(network: NetworkSettings, *, wanted: bool) -> CloseMachine:
    """What is closed before there is a tunnel; nothing unless that is `wanted`."""
    return CloseMachine(
        networks=_initial(network) if wanted else (),
        granted=False,
        exclude=network.exclude,
        exclude_lan=network.exclude_lan,
        interface="",
        gateways=(),
        asked=(),
        ports=(),
    )


def _initial(network: NetworkSettings) -> tuple[IPNetwork, ...] | None:
    """Return what is closed before the gateway has granted anything; None if the gateway decides."""
    if network.routes == "gateway":
        return None
    if network.routes == "all":
        return tuple(ANYWHERE.values())
    whole = [ANYWHERE[version] for version in blocked_families(network, network.routes)]
    return collapsed([*network.routes, *whole])
