"""The DNS domains and servers of one interface's network, from where they are kept for that interface alone.

What resolves names for the machine mixes those of all interfaces, and a tunnel's own among them: a tunnel must not make
the network below it a trusted one. So systemd-networkd, systemd-resolved, NetworkManager and resolvconf are asked for
the interface. A machine without any of them has a resolver's file, which a DHCP client or a person writes; while it is
ours, what stood there before counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.dns.resolv_conf import OURS, before_tunnel
from ikeclient.net.programs import DIRECTORIES, run

RESOLVER = "etc/resolv.conf"
_NETWORKD = "run/systemd/netif"
_RESOLVED = "run/systemd/resolve"
_NETWORK_MANAGER = "run/NetworkManager"
_RECORDS = ("run/resolvconf/interface", "run/resolvconf/interfaces")  # Debian's, openresolv's
_UNMANAGED = ("10 ", "20 ")  # states of a device that NetworkManager knows nothing of: unmanaged, unavailable
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a network says of DNS: the domains that names are searched in, and the servers."""

    domains: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


def ask_network_manager(interface: str) -> str | None:
    """Return what `nmcli` says of a device, a line for each property; None if it says nothing."""
    program = next((str(each / "nmcli") for each in DIRECTORIES if os.access(each / "nmcli", os.X_OK)), None)
    if program is None:
        return None
    fields = "GENERAL.STATE,IP4,IP6"
    done = run([program, "--terse", "--escape", "no", "--fields", fields, "device", "show", interface])
    return done.stdout if done.returncode == 0 else None


class NamesOf:
    """Finds the names of an interface below `root`; `ask_manager` is `ask_network_manager`."""

    def __init__(self, root: Path = Path("/"), ask_manager: Callable[[str], str | None] = ask_network_manager) -> None:
        self._root = root
        self._ask_manager = ask_manager

    def files(self, index: int) -> tuple[str, ...]:
        """The files that tell by their change that there is something to look at."""
        names = (
            RESOLVER,
            f"{_NETWORKD}/links/{index}",
            f"{_NETWORKD}/leases/{index}",
            f"{_RESOLVED}/netif/{index}",
            f"{_NETWORK_MANAGER}/devices/{index}",
            f"{_NETWORK_MANAGER}/no-stub-resolv.conf",
        )
        return tuple(str(self._root / name) for name in names)

    def find(self, interface: str, index: int) -> Names | None:
        """Return the names; None if they are not known."""
        found = self._of_networkd(index) or self._of_resolved(index)
        if found is not None:
            return found
        if (self._root / _NETWORK_MANAGER / "devices" / str(index)).exists():
            said = self._ask_manager(interface)
            if said is None:
                return None
            if (found := of_network_manager(said)) is not None:
                return found
        if (found := self._of_resolvconf(interface)) is not None:
            return found
        return self._of_file()

    def _of_networkd(self, index: int) -> Names | None:
        """Read what systemd-networkd knows of a link, and of its lease: which domains are used is another question."""
        link = _values(self._read(f"{_NETWORKD}/links/{index}"))
        if not link or link.get("ADMIN_STATE") == "unmanaged":
            return None
        lease = _values(self._read(f"{_NETWORKD}/leases/{index}"))
        domains = [link.get("DOMAINS", ""), lease.get("DOMAINNAME", ""), lease.get("DOMAIN_SEARCH_LIST", "")]
        return _names(" ".join(domains).split(), link.get("DNS", "").split())

    def _of_resolved(self, index: int) -> Names | None:
        """Read what systemd-resolved was told of a link, by NetworkManager, say."""
        link = _values(self._read(f"{_RESOLVED}/netif/{index}"))
        if not link.keys() & {"SERVERS", "DOMAINS"}:
            return None
        return _names(link.get("DOMAINS", "").split(), link.get("SERVERS", "").split())

    def _of_resolvconf(self, interface: str) -> Names | None:
        """Read the records of an interface, `eth0.dhclient`; None without resolvconf."""
        for place in _RECORDS:
            try:
                records = sorted(path.name for path in (self._root / place).iterdir())
            except OSError:
                continue
            if not records:
                continue
            own = [name for name in records if _is_record(name, interface)]
            return of_resolver_file("\n".join(self._read(f"{place}/{name}") for name in own))
        return None

    def _of_file(self) -> Names | None:
        path = self._root / RESOLVER
        if self._root / _RESOLVED in Path(os.path.realpath(path)).parents:
            return Names()  # which has servers of other links alone
        text = self._read(RESOLVER)
        if not text.startswith(OURS):
            return of_resolver_file(text)
        before = before_tunnel(path)
        return None if before is None else of_resolver_file(before.decode("utf-8", "replace"))

    def _read(self, name: str) -> str:
        return read(self._root / name)


def _is_record(name: str, interface: str) -> bool:
    """Whether a record is of that interface, and not of a VLAN on it."""
    rest = name.removeprefix(f"{interface}.")
    return name == interface or (rest != name and "." not in rest and not rest.isdigit())


def of_network_manager(said: str) -> Names | None:
    """Read what NetworkManager says of a device; None if it leaves the device alone."""
    domains, servers = [], []
    for line in said.splitlines():
        key, _, value = line.partition(":")
        kind = key.partition("[")[0].partition(".")[2]
        if kind == "STATE" and (value.startswith(_UNMANAGED) or "externally" in value):
            return None
        if kind in ("DOMAIN", "SEARCHES"):
            domains.append(value)
        elif kind == "DNS":
            servers.append(value)
    return _names(domains, servers)


def of_resolver_file(text: str) -> Names:
    """Read resolv.conf(5)."""
    words = [line.split() for line in text.splitlines()]
    domains = [word for line in words if line and line[0] in ("search", "domain") for word in line[1:]]
    return _names(domains, [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"])


def _names(domains: Iterable[str], servers: Iterable[str]) -> Names:
    """Put names together: domains that say where names are asked (`~`) are not searched, and a server may come with its
    interface and with a name for TLS.
    """
    searched = (domain for domain in domains if not domain.startswith("~"))
    addresses = (server.partition("#")[0].partition("%")[0] for server in servers)
    return Names(domains=tuple(dict.fromkeys(searched)), servers=tuple(dict.fromkeys(addresses)))


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


def read(path: Path) -> str:
    """Return the beginning of a text file, "" if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError:
        return ""
