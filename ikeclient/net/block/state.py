"""What a kill switch closes, as a value; and from it the routes, the rules and the firewall that do it.

Two things close the machine, and either is enough for an ordinary packet:

- Routing, always: a table of our own with `unreachable` routes, and a rule behind those of all tunnels. What a tunnel
  carries enters it before; what a tunnel that is gone let fall ends here. Programs are told at once that the network is
  unreachable. Our own packets carry the mark and pass.
- A firewall, if nft(8) is there: a table of our own with one chain behind everything else (postrouting, after address
  translation), for what routing cannot see: sockets bound to an interface, packets with marks of others, what the
  machine forwards, multicast. A mark alone opens nothing there: our packets pass to the gateway's addresses only.

Neither hangs on the tunnel's device or process, and neither touches a rule or a table of others. What passes all the
same is listed in `_ALWAYS` and in `ruleset`: neighbour discovery and DHCP, without which there is no network at all.

`network.exclude` passes. "lan" stands for the private networks that the machine is on: a LAN that claims public
addresses (TunnelCrack) gains nothing. With "lan", multicast and broadcast on the link pass as well, by which printers
are found.

While the machine is open for a time (captive portals) the firewall stays, with a set whose elements the kernel itself
forgets at the end. So it closes again even if the process that should do it has died.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.changes.desired import contains, host
from ikeclient.net.changes.steps import FIRST_TABLE, MAIN, TABLES, Route, RouteKind, Rule
from ikeclient.net.model import VERSIONS, IPAddress, IPNetwork, interface_name, tunnel_name

FIRST_BLOCK_TABLE = FIRST_TABLE + 2 * TABLES  # behind those of the tunnels and their backstops
BLOCK_TABLES = range(FIRST_BLOCK_TABLE, FIRST_BLOCK_TABLE + TABLES)
RETURN_PATH = 19991  # priorities of our rules: answers of the gateway, where a reverse path filter would drop them
CLOSED = 20020  # behind the rules of every tunnel, before main

_BROADCAST = IPv4Network("255.255.255.255/32")
_ON_LINK: tuple[IPNetwork, ...] = (  # of the link alone, never routed
    _BROADCAST,
    *map(IPv4Network, ("224.0.0.0/24", "239.255.255.250/32")),
    *map(IPv6Network, ("ff02::/16", "fe80::/10")),
)
_PRIVATE = "{ 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 169.254.0.0/16, 255.255.255.255 }"

# What always passes, if this machine itself sends it: what it forwards for others came by an interface. A program needs
# the rights of root to send any of it.
_ALWAYS = (
    f"meta iif 0 udp sport 68 udp dport 67 ip daddr {_PRIVATE} accept",
    "meta iif 0 udp sport 546 udp dport 547 ip6 daddr { ff02::1:2, fe80::/10 } accept",
    "meta iif 0 ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept",
    # Multicast groups, so that solicitations arrive.
    "meta iif 0 ip6 daddr ff02::/16 icmpv6 type { 131, 132, 143 } accept",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one tunnel keeps closed, and what passes all the same.

    `networks` are closed; a tunnel without a kill switch that runs beside a closed one has none of them. `granted`
    tells that they are what the gateway granted. `lan` are the private networks that this machine is on, if the profile
    excludes them. `gateways` is where our packets with `mark` may go, from the local UDP `ports`; `asked` are
    others that are asked for a moment: name servers, by UDP, and servers with revocation data, by TCP. `interface` is
    the tunnel's. `table` is of our own. `network` is the network namespace all this is about. Before `open_until`, in
    seconds since the machine started, nothing is closed.
    """

    name: str
    networks: tuple[IPv4Network | IPv6Network, ...]
    granted: bool = False
    exclude: tuple[IPv4Network | IPv6Network, ...] = ()
    exclude_lan: bool = False
    lan: tuple[IPv4Network | IPv6Network, ...] = ()
    interface: str = ""
    gateways: tuple[IPv4Address | IPv6Address, ...] = ()
    asked: tuple[IPv4Address | IPv6Address, ...] = ()
    ports: tuple[int, ...] = ()
    mark: int
    table: int
    network: str
    open_until: float = 0.0

    def __post_init__(self) -> None:
        tunnel_name(self.name)
        if self.interface:
            interface_name(self.interface)
        if self.table not in BLOCK_TABLES or not 0 < self.mark < 1 << 32:
            raise ValueError("not a table or a mark of ours")
        if not all(0 < port < 1 << 16 for port in self.ports):
            raise ValueError("not a port")

    def verdicts(self) -> dict[IPNetwork, RouteKind]:
        """Each network that is closed or passes; the longest prefix decides."""
        closed = [net for net in self.networks if not any(contains(outside, net) for outside in self.exclude)]
        named = [net for net in self.networks if net.prefixlen]
        lan = [net for net in self.lan if not any(contains(net, closed_too) for closed_too in named)]
        outside = [*self.exclude, *lan, *(_ON_LINK if self.exclude_lan else ())]
        found: dict[IPNetwork, RouteKind] = dict.fromkeys(closed, "unreachable")
        found |= {net: "throw" for net in outside if any(contains(all_of_it, net) for all_of_it in closed)}
        if any(contains(net, _BROADCAST) for net in closed):
            found[_BROADCAST] = "throw"  # DHCP; the firewall looks closer
        return found


def steps(block: Block, *, filtered: bool = False) -> list[Route | Rule]:
    """The routes and rules that close, in the order to take them: a rule comes when its table is complete.

    `filtered`: a reverse path filter is on, which would drop what the gateway answers.
    """
    verdicts = block.verdicts()
    found: list[Route | Rule] = [Route(destination=net, table=block.table, kind=kind) for net, kind in verdicts.items()]
    if filtered:
        found += [
            Rule(version=4, priority=RETURN_PATH, table=MAIN, destination=host(address), source_port=port)
            for address in dict.fromkeys((*block.gateways, *block.asked))
            for port in block.ports
            if address.version == 4  # IPv6 has no such filter
        ]
    found += [
        Rule(version=version, priority=CLOSED, table=block.table, mark=block.mark)
        for version in VERSIONS
        if any(net.version == version for net in verdicts)
    ]
    return found


def firewall_table(block: Block) -> str:
    """The name of the block's table in the firewall, whose family is inet."""
    return f"ikeclient_{block.table}"


def ruleset(block: Block, passing: Iterable[Block], seconds: int = 0) -> str:
    """The block's firewall for `nft -f`, which replaces the one that was there in one transaction.

    `passing` are all blocks beside it, itself included: what belongs to any tunnel of ours may leave. For `seconds`
    everything may.
    """
    passing = list(passing)
    interfaces = sorted({"lo", *(each.interface for each in passing if each.interface)})
    table = f"inet {firewall_table(block)}"
    times = ", ".join(f"{family} timeout {seconds}s" for family in ("ipv4", "ipv6"))
    lines = [
        f"table {table}",
        f"delete table {table}",
        f"table {table} {{",
        "set open { type nf_proto; flags timeout; " + (f"elements = {{ {times} }}; " if seconds else "") + "}",
        "chain leave {",
        "type filter hook postrouting priority 300; policy accept;",
        f"oifname {{ {', '.join(f'{chr(34)}{name}{chr(34)}' for name in interfaces)} }} accept",
        "meta nfproto @open accept",
        *_of_ours(block.mark, "meta l4proto udp", [address for each in passing for address in each.gateways]),
        *_of_ours(block.mark, "udp dport 53", [address for each in passing for address in each.asked]),
        *_of_ours(block.mark, "meta l4proto tcp", [address for each in passing for address in each.asked]),
        *_ALWAYS,
        *_by_network(block),
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _of_ours(mark: int, what: str, addresses: Sequence[IPAddress]) -> Iterator[str]:
    for version, keyword in ((4, "ip"), (6, "ip6")):
        texts = sorted({str(address) for address in addresses if address.version == version})
        if texts:
            yield f"meta iif 0 meta mark {mark:#x} {what} {keyword} daddr {{ {', '.join(texts)} }} accept"


def _by_network(block: Block) -> Iterator[str]:
    """A rule for all networks of one length and one verdict, the longest first."""
    found = block.verdicts()
    found.pop(_BROADCAST, None) if not block.exclude_lan else None
    order = sorted(found.items(), key=lambda item: (-item[0].prefixlen, item[0].version, item[1]))
    for (_, version, kind), group in itertools.groupby(
        order, lambda item: (item[0].prefixlen, item[0].version, item[1])
    ):
        texts = ", ".join(str(net) for net, _ in group)
        yield f"{'ip' if version == 4 else 'ip6'} daddr {{ {texts} }} {'accept' if kind == 'throw' else 'drop'}"


def collapsed(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The same networks, none of them inside another."""
    every = list(networks)
    found: list[IPNetwork] = [*collapse_addresses(net for net in every if isinstance(net, IPv4Network))]
    found += collapse_addresses(net for net in every if isinstance(net, IPv6Network))
    return tuple(found)
