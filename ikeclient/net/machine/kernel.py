"""The kernel's side of the machine over netlink: facts in, steps done and undone, errors in the words of `ip`.

Every answer lies in the socket as soon as the request is sent, so nothing in here waits. Routes and rules come by the
hundred and have to be back at once when somebody takes them away: `routing` writes them, and `requests` the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Protocol, Self

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
from ikeclient.net.machine.marks import Marks
from ikeclient.net.machine.requests import address_body, link_body, local_rule_body
from ikeclient.net.model import VERSIONS, IPAddress, IPInterface, IPNetwork, Version
from ikeclient.net.watch.netlink import IFF_LOOPBACK, IFF_POINTOPOINT, IFF_UP, Netlink

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO, errno.EAFNOSUPPORT})
_CHANGE_LINK, _NEW_ADDRESS, _DELETE_ADDRESS = 16, 20, 21
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


class Kernel:
    """The running kernel, in the network namespace of the calling thread."""

    _opened: Netlink | None = None

    def __init__(self) -> None:
        self.marks = Marks()

    def __enter__(self) -> Self:
        with _errors("open a netlink socket"):
            self._opened = Netlink()
        return self

    def __exit__(self, *exception: object) -> None:
        self._netlink.close()
        self._opened = None

    @property
    def _netlink(self) -> Netlink:
        assert self._opened is not None
        return self._opened

    def facts(self, interface: str) -> Facts:
        """How the interface and the machine around it look now."""
        with _errors("ip link show"):
            links = list(self._netlink.links())
            addresses = list(self._netlink.interface_addresses())
            names = {link.index: link.name for _, link in links}
            defaults = [route for version in VERSIONS for route in self._netlink.defaults(version, names)]
        flags, ours = next(((flags, link) for flags, link in links if link.name == interface), (0, None))
        elsewhere = {
            link.index
            for flags, link in links
            if link is not ours and flags & IFF_UP and not flags & (IFF_LOOPBACK | IFF_POINTOPOINT)
        }
        inside = {link.index for _, link in links if link.kind == "bridge"} - {route.index for route in defaults}
        others = [found for found in addresses if ours is None or found[0] != ours.index]
        ipv6 = Path("/proc/sys/net/ipv6")
        disabled = ipv6 / "conf" / (interface if ours else "default") / "disable_ipv6"
        return Facts(
            index=ours.index if ours else 0,
            mtu=ours.mtu if ours else 1500,
            up=bool(flags & IFF_UP),
            ipv6=ipv6.is_dir(),
            interface_ipv6=_read(disabled) == "0",
            lan=_networks(others, elsewhere),
            inside=frozenset(_networks(others, inside)) - frozenset(_networks(others, elsewhere - inside)),
            taken=frozenset(address.ip for _, address, _ in others),
            routers=frozenset(route.gateway for route in defaults if route.gateway is not None),
            reverse_path=reverse_path_filters(interface),
        )

    def table_is_free(self, table: int) -> bool:
        """Whether no rule and no route of either family uses this routing table."""
        with _errors(f"ip route show table {table}"):
            for version in VERSIONS:
                if any(seen.table == table for seen in routing.rules(self._netlink, version)):
                    return False
            return not routing.is_used(self._netlink, table)

    def has_interface(self, index: int) -> bool:
        """Whether there is an interface of that index."""
        return _name_of(index) is not None

    def interface_to(self, address: IPAddress) -> int:
        """The index of the interface by which an ordinary packet to `address` leaves now; 0 if there is none."""
        try:
            found = self._netlink.route_to(address)
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
            codes = self._netlink.change(requests)
            if any(_version(step) == 6 for step, _ in steps):
                self._netlink.change(routing.forget_ipv6_routes())
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
                    self._request(_NEW_ADDRESS, address_body(step), routing.CREATE | routing.REPLACE)
                case LocalRuleLast(version=version):
                    self._put_local_rule_last(version)

    def _undo(self, step: NetlinkStep) -> None:
        with _errors("; ".join(step.undo_commands()) or "ip rule show"):
            match step:
                case Link():
                    if _name_of(step.index) == step.interface:
                        body = link_body(step.index, mtu=step.old_mtu, up=None if step.was_up else False)
                        self._request(_CHANGE_LINK, body, tolerate=_GONE)
                case Address():
                    self._request(_DELETE_ADDRESS, address_body(step), tolerate=_GONE)
                case LocalRuleLast(version=version):
                    self._clear_up_local_rule(version)

    def missing(self, steps: Sequence[NetlinkStep]) -> list[NetlinkStep]:
        """Those of these steps of ours that are not in force. Raises PlatformError."""
        ours = set(steps)
        tables = sorted({step.table for step in steps if isinstance(step, Route)})
        link = next((step for step in steps if isinstance(step, Link)), None)
        with _errors("ip route show table all"):
            there: set[NetlinkStep] = set(routing.routes(self._netlink, *tables))
            for version in VERSIONS:
                behind: list[bool] = []  # whether the kernel's own rule stands behind each of our guards
                for seen in routing.rules(self._netlink, version):
                    if seen.rule is not None:
                        there.add(seen.rule)
                    if seen.priority == 0 and seen.rule in ours:
                        behind.append(False)
                    elif seen.priority == 0 and seen.table == LOCAL and seen.rule is None:
                        behind = [True for _ in behind]
                if all(behind):
                    there.add(LocalRuleLast(version=version))
            device = self._netlink.device(link.index) if link is not None else None
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
        with _errors("ip route show table all"):
            tables = range(FIRST_TABLE, FIRST_TABLE + 2 * TABLES)
            routes = [route for route in routing.routes(self._netlink) if route.table in tables]
            working = self._netlink.working_links()
            in_use = {tunnel_table(route.table) for route in routes if route.index in working}
            owned = self._netlink.own_addresses()
            rules = [(version, seen) for version in VERSIONS for seen in routing.rules(self._netlink, version)]
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
            self._request(_CHANGE_LINK, link_body(step.index, up=False))
            self._request(_CHANGE_LINK, link_body(step.index, name=step.interface))
        ipv6 = Path("/proc/sys/net/ipv6/conf")
        if ipv6.is_dir() and not (ipv6 / step.interface).is_dir():
            # Its MTU was too small for IPv6, which begins anew now, with default settings: not before they are changed.
            self._request(_CHANGE_LINK, link_body(step.index, mtu=step.mtu, up=False))
        _configure(step.interface)
        self._request(_CHANGE_LINK, link_body(step.index, mtu=step.mtu, up=True))

    def _request(self, kind: int, body: bytes, how: int = 0, *, tolerate: Collection[int] = ()) -> None:
        """Make one change. Raises OSError if it is refused for another reason than those of `tolerate`."""
        [code] = self._netlink.change([(kind, how, body)])
        if code and code not in tolerate:
            raise OSError(code, os.strerror(code))

    def _put_local_rule_last(self, version: Version) -> None:
        rules = [rule for rule in routing.rules(self._netlink, version) if not rule.priority]
        local = next((rule for rule in rules if _is_local_rule(rule)), None)
        if local is None or _is_local_rule(rules[-1]):
            return  # an administrator moved it behind priority 0, or it is where it should be
        kernels = local_rule_body(version, 0, local.protocol)
        self._add_rule(local_rule_body(version, 1, OURS), tolerate={errno.EEXIST})
        try:
            self._request(routing.DELETE_RULE, kernels)
            self._add_rule(kernels)
        finally:
            self._clear_up_local_rule(version)

    def _clear_up_local_rule(self, version: Version) -> None:
        rules = list(routing.rules(self._netlink, version))
        if not any(rule.priority == 1 and rule.protocol == OURS for rule in rules):
            return
        if not any(_is_local_rule(rule) for rule in rules if not rule.priority):
            self._add_rule(local_rule_body(version, 0, KERNEL))
        self._request(routing.DELETE_RULE, local_rule_body(version, 1, OURS), tolerate=_GONE)

    def _add_rule(self, body: bytes, *, tolerate: Collection[int] = ()) -> None:
        self._request(routing.NEW_RULE, body, routing.CREATE | routing.EXCLUSIVE, tolerate=tolerate)


def _is_local_rule(rule: routing.Seen) -> bool:
    return rule.table == LOCAL and rule.for_all


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
    try:
        yield
    except OSError as error:
        raise platform_error(command, error.errno or 0) from error
    except MemoryError as error:
        raise PlatformError(f"`{command}` failed", reason="there is not enough memory for the answer") from error


def platform_error(command: str, code: int) -> PlatformError:
    """The error for a person: the command, what the system said, what to try."""
    return PlatformError(f"`{command}` failed", reason=os.strerror(code), hint=_HINTS.get(code))


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


def _networks(addresses: Iterable[tuple[int, IPInterface, IPNetwork]], interfaces: set[int]) -> tuple[IPNetwork, ...]:
    """The networks that these interfaces are on: none by a host address or that of a point-to-point peer."""
    found = (net for index, _, net in addresses if index in interfaces and net.prefixlen < net.max_prefixlen)
    return tuple(dict.fromkeys(found))


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
