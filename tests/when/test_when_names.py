"""Whose DNS names count as a network's: those of its interface, from whoever manages it, and never a tunnel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from ikeclient.net.changes.journal import this_process
from ikeclient.net.dns.resolv_conf import ResolvConf
from ikeclient.net.model import DnsConfig
from ikeclient.when.names import Names, NamesOf

INDEX, INTERFACE = 3, "eth0"
OFFICE = Names(domains=("corp.example",), servers=("10.0.0.53",))
TUNNELS = "nameserver 10.99.0.53\nsearch inside.example\n"  # what name resolution as a whole looks like with a tunnel


class Root:
    """A machine's files, and what NetworkManager says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manager: str | None = None
        self.asked: list[str] = []

    def put(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def ask(self, interface: str) -> str | None:
        self.asked.append(interface)
        return self.manager

    def find(self) -> Names | None:
        return NamesOf(self.path, self.ask).find(INTERFACE, INDEX)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root(tmp_path)
    root.put("etc/resolv.conf", TUNNELS)
    return root


def test_networkd_is_asked_for_the_link_and_for_its_lease(root: Root) -> None:
    root.put(
        "run/systemd/netif/links/3",
        "# private\nADMIN_STATE=configuring\nDNS=10.0.0.53#dns.corp.example fe80::1%3\nDOMAINS=a.example\n",
    )
    root.put("run/systemd/netif/links/4", "ADMIN_STATE=configured\nDNS=10.99.0.53\nDOMAINS=inside.example\n")
    root.put("run/systemd/netif/leases/3", "DOMAINNAME=corp.example\nDOMAIN_SEARCH_LIST=b.example a.example\n")
    assert root.find() == Names(domains=("a.example", "corp.example", "b.example"), servers=("10.0.0.53", "fe80::1"))


def test_a_link_of_networkd_without_names_has_none(root: Root) -> None:
    root.put("run/systemd/netif/links/3", "ADMIN_STATE=configured\n")
    assert root.find() == Names()


def test_resolved_is_asked_for_the_link_that_networkd_does_not_manage(root: Root) -> None:
    root.put("run/systemd/netif/links/3", "ADMIN_STATE=unmanaged\nDNS=10.99.0.53\n")
    root.put("run/systemd/resolve/netif/3", "LLMNR=yes\nSERVERS=10.0.0.53#dns.corp.example\nDOMAINS=corp.example ~.\n")
    root.put("run/systemd/resolve/netif/4", "SERVERS=10.99.0.53\nDOMAINS=inside.example\n")
    assert root.find() == OFFICE


def test_the_stub_file_of_resolved_is_no_networks(root: Root) -> None:
    root.put("run/systemd/resolve/stub-resolv.conf", TUNNELS)
    (root.path / "etc/resolv.conf").unlink()
    (root.path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    assert root.find() == Names()


def test_network_manager_is_asked_for_the_device_and_its_file_is_not_believed(root: Root) -> None:
    root.put("run/NetworkManager/devices/3", "[device]\n")
    root.put("run/NetworkManager/no-stub-resolv.conf", TUNNELS)
    root.manager = (
        "GENERAL.STATE:100 (connected)\nIP4.ADDRESS[1]:10.0.0.7/24\nIP4.DNS[1]:10.0.0.53\n"
        "IP4.DOMAIN[1]:corp.example\nIP6.GATEWAY:\nIP6.DNS[1]:fd00::53\nIP4.SEARCHES[1]:~routed.example\nIP6.SEARCHES[1]:lab.example\n"
    )
    assert root.find() == Names(domains=("corp.example", "lab.example"), servers=("10.0.0.53", "fd00::53"))
    assert root.asked == [INTERFACE]


def test_what_network_manager_does_not_say_is_not_known(root: Root) -> None:
    root.put("run/NetworkManager/devices/3", "[device]\n")
    assert root.find() is None


@pytest.mark.parametrize("state", ["10 (unmanaged)", "100 (connected (externally))"])
def test_a_device_that_network_manager_leaves_alone_has_the_names_of_others(root: Root, state: str) -> None:
    root.put("run/NetworkManager/devices/3", "[device]\n")
    root.manager = f"GENERAL.STATE:{state}\n"
    root.put("etc/resolv.conf", "search corp.example\nnameserver 10.0.0.53\n")
    assert root.find() == OFFICE


@pytest.mark.parametrize("place", ["run/resolvconf/interface", "run/resolvconf/interfaces"])
@pytest.mark.parametrize("record", ["eth0", "eth0.dhclient"])
def test_of_resolvconf_the_records_of_the_interface_count(root: Root, place: str, record: str) -> None:
    root.put(f"{place}/{record}", "domain corp.example\nnameserver 10.0.0.53\n")
    root.put(f"{place}/tun0.ike0.ikeclient", TUNNELS)
    root.put(f"{place}/eth0.100", TUNNELS)
    root.put(f"{place}/eth0.100.dhclient", TUNNELS)
    assert root.find() == OFFICE


def test_resolvconf_without_records_is_not_in_use(root: Root) -> None:
    (root.path / "run/resolvconf/interface").mkdir(parents=True)
    root.put("etc/resolv.conf", "search corp.example\nnameserver 10.0.0.53\n")
    assert root.find() == OFFICE


def test_without_a_manager_the_resolvers_file_counts_until_it_is_ours_and_then_what_stood_there(root: Root) -> None:
    path = root.path / "etc/resolv.conf"
    root.put("etc/resolv.conf", "search corp.example\nnameserver 10.0.0.53\n")
    assert root.find() == OFFICE
    path.parent.chmod(0o755)
    ours = ResolvConf(path, this_process("work"))
    step, _ = ours.prepare(DnsConfig(servers=(), domains=("inside.example",), mode="all"), None)
    assert step is not None
    ours.apply(step)
    assert "inside.example" in path.read_text()
    assert root.find() == OFFICE
    for journal in path.parent.glob("resolv.conf.ikeclient*"):
        journal.unlink()
    assert root.find() is None, "nobody can tell what stood there"


def test_the_files_are_those_of_the_interface(root: Root) -> None:
    files = NamesOf(root.path, root.ask).files(INDEX)
    assert {Path(file).relative_to(root.path).as_posix() for file in files} >= {
        "etc/resolv.conf",
        "run/systemd/netif/links/3",
        "run/systemd/netif/leases/3",
        "run/systemd/resolve/netif/3",
        "run/NetworkManager/no-stub-resolv.conf",
    }
