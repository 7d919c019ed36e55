"""The kernel's side of the machine over netlink: facts in, steps done and undone, errors in the words of `ip`.

pyroute2 takes a fifth of a second to import, so that happens when the first tunnel needs it. It also brings an event
loop of its own, which cannot run inside another: `off_loop` hides the one that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from ikeclient.errors import PlatformError
from ikeclient.net.desired import Facts
from ikeclient.net.interfaces import IPAddress, IPNetwork, Version
from ikeclient.net.steps import KERNEL, LOCAL, MAIN, OURS, Address, Link, LocalRuleLast, NetlinkStep, Route, Rule

_FAMILY: dict[Version, socket.AddressFamily] = {4: socket.AF_INET, 6: socket.AF_INET6}
_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO, errno.EAFNOSUPPORT})
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200

_HINTS = {
    errno.EPERM: "run as root, or give ikeclient the capability CAP_NET_ADMIN",
    errno.EACCES: "run as root, or give ikeclient the capability CAP_NET_ADMIN",
    errno.EEXIST: "another program uses the same rule or routing table: see `ip rule` and `ip route show table all`",
    errno.ENODEV: "the tunnel's interface has disappeared",
    errno.EOPNOTSUPP: "this kernel lacks policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)",
}

_T = TypeVar("_T")


class KernelAdapter(Protocol):
    """What `machine` needs of the kernel. Used as a context manager around each piece of work."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def facts(self, interface: str) -> Facts:
        """How the interface and the machine around it look now."""

    def table_is_free(self, table: int) -> bool:
        """Whether no rule and no route of either family uses this routing table."""

    def interface_to(self, address: IPAddress) -> int:
        """The index of the interface by which an ordinary packet to `address` leaves now; 0 if there is none."""

    def apply(self, step: NetlinkStep, *, again: bool) -> None:
        """Take a step; `again` when it is ours already and may be there. Raises PlatformError and changes nothing."""

    def undo(self, step: NetlinkStep) -> None:
        """Undo a step; what is gone already is fine. Raises PlatformError."""


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

    _netlink: Any = None

    def __enter__(self) -> Self:
        from pyroute2 import IPRoute

        with _errors("open a netlink socket"):
            self._netlink = IPRoute()
            _end_when_broken(self._netlink)
        return self

    def __exit__(self, *exception: object) -> None:
        self._netlink.close()
        self._netlink = None

    def facts(self, interface: str) -> Facts:
        """How the interface and the machine around it look now."""
        with _errors("ip link show"):
            links = list(self._netlink.get_links())
            addresses = list(self._netlink.get_addr())
            hops = [r.get_attr("RTA_GATEWAY") for f in _FAMILY.values() for r in self._defaults(f)]
        ours = next((link for link in links if link.get_attr("IFLA_IFNAME") == interface), None)
        elsewhere = {
            link["index"]
            for link in links
            if link is not ours and link["flags"] & _IFF_UP and not link["flags"] & (_IFF_LOOPBACK | _IFF_POINTOPOINT)
        }
        others = [address for address in addresses if ours is None or address["index"] != ours["index"]]
        ipv6 = Path("/proc/sys/net/ipv6")
        disabled = ipv6 / "conf" / (interface if ours else "default") / "disable_ipv6"
        return Facts(
            index=ours["index"] if ours else 0,
            mtu=ours.get_attr("IFLA_MTU") if ours else 1500,
            up=bool(ours and ours["flags"] & _IFF_UP),
            ipv6=ipv6.is_dir(),
            interface_ipv6=_read(disabled) == "0",
            lan=tuple(
                dict.fromkeys(net for address in others if address["index"] in elsewhere for net in _network(address))
            ),
            taken=frozenset(
                ip_address(address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")) for address in others
            ),
            routers=frozenset(ip_address(hop) for hop in hops if hop),
            reverse_path=_reverse_path(interface),
        )

    def _defaults(self, family: socket.AddressFamily) -> list[Any]:
        return list(self._netlink.get_default_routes(family=family, table=MAIN))

    def table_is_free(self, table: int) -> bool:
        """Whether no rule and no route of either family uses this routing table."""
        with _errors(f"ip route show table {table}"):
            for family in _FAMILY.values():
                rules = self._netlink.get_rules(family=family)
                if any(rule.get_attr("FRA_TABLE") == table for rule in rules):
                    return False
                if any(True for _ in self._netlink.get_routes(family=family, table=table)):
                    return False
        return True

    def interface_to(self, address: IPAddress) -> int:
        """The index of the interface by which an ordinary packet to `address` leaves now; 0 if there is none."""
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            found = self._netlink.route("get", family=_FAMILY[address.version], dst=str(address))
            return next((int(route.get_attr("RTA_OIF") or 0) for route in found), 0)
        except (NetlinkError, OSError):
            return 0  # unreachable, prohibited, no such family: the kernel has a number for each

    def apply(self, step: NetlinkStep, *, again: bool) -> None:
        """Take a step; `again` when it is ours already and may be there. Raises PlatformError and changes nothing."""
        with _errors(step.commands()[0]):
            match step:
                case Link():
                    self._set_up_link(step)
                case Address():
                    self._netlink.addr("replace", **_address(step))
                case Route():
                    self._netlink.route("replace" if again else "add", **_route(step))
                case Rule():
                    with _tolerating({errno.EEXIST} if again else set()):
                        self._netlink.rule("add", **_rule(step))
                case LocalRuleLast(version=version):
                    self._put_local_rule_last(version)

    def undo(self, step: NetlinkStep) -> None:
        """Undo a step; what is gone already is fine. Raises PlatformError."""
        with _errors("; ".join(step.undo_commands()) or "ip rule show"), _tolerating(_GONE):
            match step:
                case Link():
                    if _name_of(step.index) == step.interface:
                        state = {} if step.was_up else {"state": "down"}
                        self._netlink.link("set", index=step.index, mtu=step.old_mtu, **state)
                case Address():
                    self._netlink.addr("del", **_address(step))
                case Route():
                    self._netlink.route("del", **_route(step))
                case Rule():
                    self._netlink.rule("del", **_rule(step))
                case LocalRuleLast(version=version):
                    self._clear_up_local_rule(version)

    def _set_up_link(self, step: Link) -> None:
        if not step.was_up:
            # Without a generated link-local address the kernel has nothing to advertise or solicit for on the tunnel.
            with contextlib.suppress(OSError):
                Path(f"/proc/sys/net/ipv6/conf/{step.interface}/addr_gen_mode").write_text("1", encoding="ascii")
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


def _route(step: Route) -> dict[str, object]:
    optional: dict[str, object] = {"oif": step.index} if step.interface else {}
    if step.source is not None:
        optional["prefsrc"] = str(step.source)
    return {
        "family": _FAMILY[step.destination.version],
        "dst": str(step.destination.network_address),
        "dst_len": step.destination.prefixlen,
        "table": step.table,
        "type": step.kind,
        "proto": KERNEL,
        **optional,
    }


def _rule(step: Rule) -> dict[str, object]:
    optional: dict[str, object] = {}
    if step.mark:
        optional |= {"fwmark": step.mark, "fwmask": 0xFFFFFFFF, "flags": 2}  # FIB_RULE_INVERT
    if step.destination:
        optional |= {"dst": str(step.destination.network_address), "dst_len": step.destination.prefixlen}
    if step.input_interface:
        optional["iifname"] = step.input_interface
    if step.source_port:
        optional |= {"ip_proto": socket.IPPROTO_UDP, "sport_range": f"{step.source_port}:{step.source_port}"}
    action = {"table": step.table, "action": "to_tbl"} if step.table else {"action": "blackhole"}
    common = {"family": _FAMILY[step.version], "priority": step.priority, "protocol": step.protocol}
    return {**common, **optional, **action}


@contextlib.contextmanager
def _errors(command: str) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise platform_error(command, error.code) from error
    except OSError as error:
        raise platform_error(command, error.errno or 0) from error
    except RuntimeError as error:
        if "loop stopped" not in str(error):
            raise
        raise PlatformError(f"`{command}` failed", reason="there is not enough memory for the answer") from error


@contextlib.contextmanager
def _tolerating(codes: frozenset[int] | set[int]) -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
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


def _network(address: Any) -> list[IPNetwork]:
    """The network an interface is on by this address: none for a host address or a point-to-point peer."""
    text, length = address.get_attr("IFA_ADDRESS"), address["prefixlen"]
    alone = length >= (32 if address["family"] == socket.AF_INET else 128)
    return [] if alone else [ip_interface(f"{text}/{length}").network]


def _reverse_path(interface: str) -> frozenset[int]:
    filters = Path("/proc/sys/net/ipv4/conf").glob("*/rp_filter")
    found = {_read(path) for path in filters if path.parent.name not in ("lo", interface)}
    return frozenset(int(value) for value in found if value.isdigit() and value != "0")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
