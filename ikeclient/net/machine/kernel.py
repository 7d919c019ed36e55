"""The kernel's side of the machine over netlink: facts in, steps done and undone, errors in the words of `ip`.

pyroute2 takes a tenth of a second to import, so that happens when the first tunnel needs it. It also brings an event
loop of its own, which cannot run inside another: `off_loop` hides the one that runs. Routes and rules, which come by
the hundred and have to be back at once when somebody takes them away, go without it (`routing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from ipaddress import ip_address, ip_interface
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from ikeclient.errors import PlatformError
from ikeclient.net.changes.desired import FULL, RETURN_PATH, SPLIT, Facts
from ikeclient.net.changes.steps import (
    FIRST_TABLE,
    KERNEL,
    LOCAL,
    MAIN,
    OURS,
    TABLES,
    Address,
    Link,
    LocalRuleLast,
    NetlinkStep,
    Route,
    Rule,
    tunnel_table,
)
from ikeclient.net.machine import routing
from ikeclient.net.machine.lean_pyroute2 import lean_pyroute2
from ikeclient.net.machine.marks import Marks
from ikeclient.net.model import VERSIONS, IPAddress, IPNetwork, Version
from ikeclient.net.watch.netlink import Netlink

_FAMILY: dict[Version, socket.AddressFamily] = {4: socket.AF_INET, 6: socket.AF_INET6}
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO, errno.EAFNOSUPPORT})
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_SETTINGS = (  # of the tunnel's interface, below /proc/sys/net
    # Without a generated link-local address the kernel has nothing to advertise or solicit for on the tunnel.
    ("ipv6/conf/{}/addr_gen_mode", "1"),
    # The network behind the gateway is no router of ours: it sets no default route and bends none.
    ("ipv6/conf/{}/accept_ra", "0"),
    ("ipv6/conf/{}/accept_redirects", "0"),
    ("ipv4/conf/{}/accept_redirects", "0"),
    ("ipv4/conf/{}/send_redirects", "0"),
    ("ipv4/conf/{}/accept_source_route", "0"),
)

_HINTS = {
    errno.EPERM: "run as root, or give ikeclient the capability CAP_NET_ADMIN",
    errno.EACCES: "run as root, or give ikeclient the capability CAP_NET_ADMIN",
    errno.EEXIST: "another program uses the same rule or routing table: see `ip rule` and `ip route show table all`",
    errno.ENODEV: "the tunnel's interface has disappeared",
    errno.EOPNOTSUPP: "this kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)",
}

_T = TypeVar("_T")


@cache
def load_library() -> None:
    """Load what the first tunnel needs, at a time that suits; the library also prepares itself at its first use."""
    with contextlib.suppress(PlatformError):
        off_loop(lambda: _look_once(Kernel()))


def _look_once(kernel: Kernel) -> None:
    with kernel:
        kernel.facts("lo")


def _set(name: str, value: str) -> None:
    """Change a setting of the network where that is possible (/proc/sys may be read-only)."""
    with contextlib.suppress(OSError):
        (Path("/proc/sys/net") / name).write_text(value, encoding="ascii")


def _configure(interface: str) -> None:
    for name, value in _SETTINGS:
        _set(name.format(interface), value)


def _refusal(work: Callable[[], None]) -> PlatformError | None:
    try:
        work()
    except PlatformError as error:
        return error
    return None


class KernelAdapter(Protocol):
    """What `machine` needs of the kernel. Used as a context manager around each piece of work.

    `marks` are those of the same network namespace, and last as long as this object.
    """

    marks: Marks

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def facts(self, interface: str) -> Facts:
        """How the interface and the machine around it look now."""

    def table_is_free(self, table: int) -> bool:
        """Whether no rule and no route of either family uses this routing table."""

    def interface_to(self, address: IPAddress) -> int:
        """The index of the interface by which an ordinary packet to `address` leaves now; 0 if there is none."""

    def has_interface(self, index: int) -> bool:
        """Whether there is an interface of that index."""

    def apply(self, steps: Sequence[tuple[NetlinkStep, bool]]) -> list[PlatformError | None]:
        """Take steps in order; each with whether it is ours already and may be there. Returns what refused each.

        After a refusal the rest may be left out, which then is no part of the result. Never raises PlatformError.
        """

    def undo(self, steps: Sequence[NetlinkStep]) -> list[PlatformError | None]:
        """Undo steps in order, every one of them; what is gone already is fine. Returns what refused each."""

    def missing(self, steps: Sequence[NetlinkStep]) -> list[NetlinkStep]:
        """Those of these steps of ours that are not in force and could be. Raises PlatformError."""

    def leftovers(self) -> list[NetlinkStep]:
        """Rules and routes that are shaped like ours and that no living process answers for. Raises PlatformError."""


def off_loop(work: Callable[[], _T]) -> _T:
    """Run `work` as if this thread ran no event loop.

    A thread of its own would not do: without memory for one, what has to be undone could not be.
    """
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return work()
    finally:
        asyncio._set_running_loop(running)


def _end_when_broken(netlink: Any) -> None:
    """Have a wait for the kernel's answer end if the answer cannot be taken in (MemoryError), instead of never."""
    loop = netlink.asyncore.event_loop
    loop.set_exception_handler(lambda *_: loop.stop())


class Kernel:
    """The running kernel, in the network namespace of the calling thread."""

    _opened: Any = None  # pyroute2's, when it is needed
    _direct: Netlink | None = None

    def __init__(self) -> None:
        self.marks = Marks()

    def __enter__(self) -> Self:
        with _errors("open a netlink socket"):
            self._direct = Netlink()
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._direct is not None
        self._direct.close()
        if self._opened is not None:
            self._opened.close()
        self._direct = self._opened = None

    @property
    def _netlink(self) -> Any:
        if self._opened is None:
            self._opened = lean_pyroute2()[0]()
            _end_when_broken(self._opened)
        return self._opened

    def facts(self, interface: str) -> Facts:
        """How the interface and the machine around it look now."""
        with _errors("ip link show"):
            links = list(self._netlink.get_links())
            addresses = list(self._netlink.get_addr())
            defaults = [route for family in _FAMILY.values() for route in self._defaults(family)]
        ours = next((link for link in links if link.get_attr("IFLA_IFNAME") == interface), None)
        elsewhere = {
            link["index"]
            for link in links
            if link is not ours and link["flags"] & _IFF_UP and not link["flags"] & (_IFF_LOOPBACK | _IFF_POINTOPOINT)
        }
        uplinks = {route.get_attr("RTA_OIF") for route in defaults}
        inside = {link["index"] for link in links if _is_bridge(link)} - uplinks
        others = [address for address in addresses if ours is None or address["index"] != ours["index"]]
        ipv6 = Path("/proc/sys/net/ipv6")
        disabled = ipv6 / "conf" / (interface if ours else "default") / "disable_ipv6"
        return Facts(
            index=ours["index"] if ours else 0,
            mtu=ours.get_attr("IFLA_MTU") if ours else 1500,
            up=bool(ours and ours["flags"] & _IFF_UP),
            ipv6=ipv6.is_dir(),
            interface_ipv6=_read(disabled) == "0",
            lan=_networks(others, elsewhere),
            inside=frozenset(_networks(others, inside)) - frozenset(_networks(others, elsewhere - inside)),
            taken=frozenset(
                ip_address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")) for address in others
            ),
            routers=frozenset(ip_address(hop) for route in defaults if (hop := route.get_attr("RTA_GATEWAY"))),
            reverse_path=reverse_path_filters(interface),
        )

    def _defaults(self, family: socket.AddressFamily) -> list[Any]:
        return list(self._netlink.get_default_routes(family=family, table=MAIN))

    def table_is_free(self, table: int) -> bool:
        """Whether no rule and no route of either family uses this routing table."""
        assert self._direct is not None
        with _errors(f"ip route show table {table}"):
            for version in VERSIONS:
                if any(seen.table == table for seen in routing.rules(self._direct, version)):
                    return False
            return not routing.is_used(self._direct, table)

    def has_interface(self, index: int) -> bool:
        """Whether there is an interface of that index."""
        return _name_of(index) is not None

    def interface_to(self, address: IPAddress) -> int:
        """The index of the interface by which an ordinary packet to `address` leaves now; 0 if there is none."""
        assert self._direct is not None
        try:
            found = self._direct.route_to(address)
        except OSError:
            return 0
        return found.index if found is not None else 0

    def apply(self, steps: Sequence[tuple[NetlinkStep, bool]]) -> list[PlatformError | None]:
        """Take steps in order, until one is refused; routes and rules that follow each other together."""
        results: list[PlatformError | None] = []
        for several, group in groupby(steps, lambda item: isinstance(item[0], Route | Rule)):
            if several:
                results += self._change([(step, again) for step, again in group if isinstance(step, Route | Rule)])
            else:
                for step, again in group:
                    results.append(_refusal(partial(self._apply, step, again=again)))
                    if results[-1] is not None:
                        break
            if any(results):
                break
        return results

    def undo(self, steps: Sequence[NetlinkStep]) -> list[PlatformError | None]:
        """Undo steps in order, every one of them; what is gone already is fine. Returns what refused each."""
        results: list[PlatformError | None] = []
        for several, group in groupby(steps, lambda step: isinstance(step, Route | Rule)):
            if several:
                results += self._change([(step, None) for step in group if isinstance(step, Route | Rule)])
            else:
                results += [_refusal(partial(self._undo, step)) for step in group]
        return results

    def _change(self, steps: Sequence[tuple[Route | Rule, bool | None]]) -> list[PlatformError | None]:
        """Add routes and rules (True: they may be there already) and delete them (None), with few system calls."""
        assert self._direct is not None
        requests = []
        for step, again in steps:
            if isinstance(step, Route):
                how = routing.CREATE | (routing.REPLACE if again else routing.EXCLUSIVE)
                new, old, body = routing.NEW_ROUTE, routing.DELETE_ROUTE, routing.route_message(step)
            else:
                how = routing.CREATE | routing.EXCLUSIVE
                new, old, body = routing.NEW_RULE, routing.DELETE_RULE, routing.rule_message(step)
            requests.append((old, 0, body) if again is None else (new, how, body))
        try:
            codes = self._direct.change(requests)
            if any(_version(step) == 6 for step, _ in steps):
                self._direct.change(routing.forget_ipv6_routes())
        except OSError as error:
            codes = [error.errno or errno.EIO] * len(requests)
        results: list[PlatformError | None] = []
        for (step, again), code in zip(steps, codes, strict=True):
            there = code == errno.EEXIST and again and isinstance(step, Rule)
            fine = not code or there or (again is None and code in _GONE)
            line = (step.undo_commands() if again is None else step.commands())[0]
            results.append(None if fine else platform_error(line, code))
        return results

    def _apply(self, step: NetlinkStep, *, again: bool) -> None:
        with _errors(step.commands()[0]):
            match step:
                case Link():
                    self._set_up_link(step)
                case Address():
                    if again and step.address.version == 6:  # with it the settings of IPv6 may have gone
                        _set(f"ipv6/conf/{step.interface}/disable_ipv6", "0")
                        _configure(step.interface)
                    self._netlink.addr("replace", **_address(step))
                case LocalRuleLast(version=version):
                    self._put_local_rule_last(version)

    def _undo(self, step: NetlinkStep) -> None:
        with _errors("; ".join(step.undo_commands()) or "ip rule show"), _tolerating(_GONE):
            match step:
                case Link():
                    if _name_of(step.index) == step.interface:
                        state = {} if step.was_up else {"state": "down"}
                        self._netlink.link("set", index=step.index, mtu=step.old_mtu, **state)
                case Address():
                    self._netlink.addr("del", **_address(step))
                case LocalRuleLast(version=version):
                    self._clear_up_local_rule(version)

    def missing(self, steps: Sequence[NetlinkStep]) -> list[NetlinkStep]:
        """Those of these steps of ours that are not in force. Raises PlatformError."""
        assert self._direct is not None
        ours = set(steps)
        tables = sorted({step.table for step in steps if isinstance(step, Route)})
        link = next((step for step in steps if isinstance(step, Link)), None)
        with _errors("ip route show table all"):
            there: set[NetlinkStep] = set(routing.routes(self._direct, *tables))
            for version in VERSIONS:
                behind: list[bool] = []  # whether the kernel's own rule stands behind each of our guards
                for seen in routing.rules(self._direct, version):
                    if seen.rule is not None:
                        there.add(seen.rule)
                    if seen.priority == 0 and seen.rule in ours:
                        behind.append(False)
                    elif seen.priority == 0 and seen.table == LOCAL and seen.rule is None:
                        behind = [True for _ in behind]
                if all(behind):
                    there.add(LocalRuleLast(version=version))
            device = self._direct.device(link.index) if link is not None else None
        if link is not None and device is not None:
            up, mtu, addresses = device
            there |= {step for step in steps if isinstance(step, Address) and step.address.ip in addresses}
            if up and mtu == link.mtu and _name_of(link.index) == link.interface:
                there.add(link)
        elif link is not None:  # what hangs on the device cannot be put back without it
            there |= {step for step in steps if isinstance(step, Link | Address) or _index(step) == link.index}
        return [step for step in steps if step not in there]

    def leftovers(self) -> list[NetlinkStep]:
        """Rules and routes that are shaped like ours and that no living process answers for. Raises PlatformError."""
        assert self._direct is not None
        with _errors("ip route show table all"):
            tables = range(FIRST_TABLE, FIRST_TABLE + 2 * TABLES)
            routes = [route for route in routing.routes(self._direct) if route.table in tables]
            working = self._direct.working_links()
            in_use = {tunnel_table(route.table) for route in routes if route.index in working}
            owned = self._direct.own_addresses()
            rules = [(version, seen) for version in VERSIONS for seen in routing.rules(self._direct, version)]
        shaped: list[Route | Rule] = [
            *(seen.rule for _, seen in rules if seen.rule and _shaped_like_ours(seen.rule, tables)),
            *routes,
        ]
        found: list[NetlinkStep] = [
            LocalRuleLast(version=version)
            for version, seen in rules
            if seen.priority == 1 and seen.table == LOCAL and seen.protocol == OURS
        ]
        for step in shaped:
            table = tunnel_table(step.table)
            used = isinstance(step, Rule) and step.priority == 0 and str(step.destination).partition("/")[0] in owned
            if not (table in in_use or used or self.marks.answered_for(step)):
                found.append(step)
        return found

    def _set_up_link(self, step: Link) -> None:
        if _name_of(step.index) != step.interface:
            self._netlink.link("set", index=step.index, state="down")
            self._netlink.link("set", index=step.index, ifname=step.interface)
        ipv6 = Path("/proc/sys/net/ipv6/conf")
        if ipv6.is_dir() and not (ipv6 / step.interface).is_dir():
            # Its MTU was too small for IPv6, which begins anew now, with default settings: not before they are changed.
            self._netlink.link("set", index=step.index, mtu=step.mtu, state="down")
        _configure(step.interface)
        self._netlink.link("set", index=step.index, mtu=step.mtu, state="up")

    def _first_rules(self, version: Version) -> list[Any]:
        rules = self._netlink.get_rules(family=_FAMILY[version])
        return [rule for rule in rules if not rule.get_attr("FRA_PRIORITY")]

    def _put_local_rule_last(self, version: Version) -> None:
        rules = self._first_rules(version)
        local = next((rule for rule in rules if _is_local_rule(rule)), None)
        if local is None or _is_local_rule(rules[-1]):
            return  # an administrator moved it behind priority 0, or it is where it should be
        kernels = _local_rule(version, 0, local.get_attr("FRA_PROTOCOL"))
        with _tolerating({errno.EEXIST}):
            self._netlink.rule("add", **_local_rule(version, 1, OURS))
        try:
            self._netlink.rule("del", **kernels)
            self._netlink.rule("add", **kernels)
        finally:
            self._clear_up_local_rule(version)

    def _clear_up_local_rule(self, version: Version) -> None:
        rules = list(self._netlink.get_rules(family=_FAMILY[version]))
        if not any(rule.get_attr("FRA_PRIORITY") == 1 and rule.get_attr("FRA_PROTOCOL") == OURS for rule in rules):
            return
        if not any(_is_local_rule(rule) for rule in rules if not rule.get_attr("FRA_PRIORITY")):
            self._netlink.rule("add", **_local_rule(version, 0, KERNEL))
        self._netlink.rule("del", **_local_rule(version, 1, OURS))


def _local_rule(version: Version, priority: int, protocol: int) -> dict[str, object]:
    return {
        "family": _FAMILY[version],
        "priority": priority,
        "table": LOCAL,
        "action": "to_tbl",
        "protocol": protocol,
    }


def _is_local_rule(rule: Any) -> bool:
    selectors = ("FRA_IIFNAME", "FRA_OIFNAME", "FRA_FWMARK", "FRA_SRC", "FRA_DST")
    return rule.get_attr("FRA_TABLE") == LOCAL and not any(rule.get_attr(name) for name in selectors)


def _address(step: Address) -> dict[str, object]:
    flags = _IFA_F_NOPREFIXROUTE | (_IFA_F_NODAD if step.address.version == 6 else 0)
    address = {"address": str(step.address.ip), "prefixlen": step.address.network.prefixlen}
    return {"index": step.index, "family": _FAMILY[step.address.version], "flags": flags, **address}


def _version(step: Route | Rule) -> Version:
    return step.version if isinstance(step, Rule) else step.destination.version


def _index(step: NetlinkStep) -> int:
    return step.index if isinstance(step, Route) else 0


def _shaped_like_ours(rule: Rule, tables: range) -> bool:
    """Whether it is one of `desired`: the values of the class itself leave more room."""
    if rule.priority == 0:
        return True  # of our own protocol
    if rule.protocol != KERNEL:
        return False
    if rule.priority == RETURN_PATH:
        return rule.table == MAIN
    return rule.priority in (SPLIT, SPLIT + 1, FULL, FULL + 1) and rule.table in tables


@contextlib.contextmanager
def _errors(command: str) -> Iterator[None]:
    _, netlink_error = lean_pyroute2()
    try:
        yield
    except netlink_error as error:
        raise platform_error(command, error.code) from error
    except OSError as error:
        raise platform_error(command, error.errno or 0) from error
    except RuntimeError as error:
        if "loop stopped" not in str(error):
            raise
        raise PlatformError(f"`{command}` failed", reason="there is not enough memory for the answer") from error


@contextlib.contextmanager
def _tolerating(codes: frozenset[int] | set[int]) -> Iterator[None]:
    _, netlink_error = lean_pyroute2()
    try:
        yield
    except netlink_error as error:
        if error.code not in codes:
            raise


def platform_error(command: str, code: int) -> PlatformError:
    """The error for a person: the command, what the system said, what to try."""
    return PlatformError(f"`{command}` failed", reason=os.strerror(code), hint=_HINTS.get(code))


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def _is_bridge(link: Any) -> bool:
    kind = link.get_attr("IFLA_LINKINFO")
    return kind is not None and kind.get_attr("IFLA_INFO_KIND") == "bridge"


def _networks(addresses: list[Any], interfaces: set[int]) -> tuple[IPNetwork, ...]:
    """The networks that these interfaces are on."""
    return tuple(dict.fromkeys(net for each in addresses if each["index"] in interfaces for net in _network(each)))


def _network(address: Any) -> list[IPNetwork]:
    """The network an interface is on by this address: none for a host address or a point-to-point peer."""
    text, length = address.get_attr("IFA_ADDRESS"), address["prefixlen"]
    alone = length >= (32 if address["family"] == socket.AF_INET else 128)
    return [] if alone else [ip_interface(f"{text}/{length}").network]


def reverse_path_filters(interface: str) -> frozenset[int]:
    """The kinds of reverse path filter in use, 1 strict and 2 loose, but for those of one interface."""
    filters = Path("/proc/sys/net/ipv4/conf").glob("*/rp_filter")
    found = {_read(path) for path in filters if path.parent.name not in ("lo", interface)}
    return frozenset(int(value) for value in found if value.isdigit() and value != "0")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
