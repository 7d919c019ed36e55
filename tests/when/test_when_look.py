"""What is seen of the network that traffic leaves by, with a kernel made of values."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from ikeclient.net.model import IPAddress
from ikeclient.net.watch.snapshot import DefaultRoute, Interface, Snapshot
from ikeclient.when import look
from ikeclient.when.decide import Network
from ikeclient.when.look import Looker
from ikeclient.when.names import Names, NamesOf

GATEWAY, ROUTER = ip_address("192.0.2.1"), ip_address("fe80::1")
MAC = "00:00:5e:00:53:01"
NAMES = Names(domains=("corp.example",), servers=("10.0.0.53",))
WIFI = DefaultRoute(version=4, index=3, interface="wlan0", gateway=GATEWAY, metric=600)
HOME = Snapshot(interfaces=(Interface(index=3, name="wlan0"),), defaults=(WIFI,))


class FakeNames(NamesOf):
    """Names as a test says."""

    def __init__(self) -> None:
        self.names: Names | None = NAMES

    def files(self, index: int) -> tuple[str, ...]:
        return (f"/run/{index}",)

    def find(self, interface: str, index: int) -> Names | None:
        return self.names


class Machine:
    """Stands in for the kernel: a snapshot, neighbours, wireless networks (None: it does not tell), and interfaces."""

    def __init__(self, place: Path) -> None:
        self.now = HOME
        self.neighbours_of: dict[tuple[int, int], dict[IPAddress, str]] = {(4, 3): {GATEWAY: MAC}}
        self.wireless: dict[int, str] | None = {3: "Home"}
        self.solicited: list[tuple[str, int]] = []
        self.nudged: list[str] = []
        self.is_root = True
        self.names = FakeNames()
        self.looker = Looker(self.names)
        self._place = place
        self.interface("wlan0", phy80211="", flags="0x1003")

    def interface(self, name: str, **files: str) -> None:
        for file, content in files.items():
            (self._place / name).mkdir(exist_ok=True)
            (self._place / name / file).write_text(content)

    def snapshot(self) -> Snapshot:
        return self.now

    def neighbours(self, version: int, index: int) -> dict[IPAddress, str]:
        return self.neighbours_of.get((version, index), {})

    def solicit(self, address: IPAddress, index: int) -> bool:
        self.solicited.append((str(address), index))
        return self.is_root

    def close(self) -> None:
        pass

    def networks(self) -> dict[int, str]:
        if self.wireless is None:
            raise OSError(errno.EBUSY, "busy")
        return self.wireless

    def leaves_by(self, *routes: DefaultRoute, kind: str = "") -> None:
        interfaces = (Interface(index=each.index, name=each.interface, kind=kind) for each in routes)
        self.now = Snapshot(interfaces=tuple(interfaces), defaults=routes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(look, "Netlink", lambda: machine)
    monkeypatch.setattr(look.wireless, "networks", machine.networks)
    monkeypatch.setattr(look, "_INTERFACES", str(tmp_path))
    monkeypatch.setattr(look, "nudge", lambda gateway, _: machine.nudged.append(str(gateway)))
    return machine


def test_a_wireless_network_has_a_name_a_gateway_and_names(machine: Machine) -> None:
    assert machine.looker.look() == Network(
        kind="wifi",
        interface="wlan0",
        ssid="Home",
        gateway_mac=MAC,
        dns_suffixes=("corp.example",),
        dns_servers=("10.0.0.53",),
    )
    assert machine.looker.files == ("/run/3",)


@pytest.mark.parametrize("told", [None, {}, {3: ""}])
def test_a_wireless_network_whose_name_the_kernel_does_not_tell_is_not_one_without(
    machine: Machine, told: dict[int, str] | None
) -> None:
    machine.wireless = told
    network = machine.looker.look()
    assert (network.kind, network.ssid) == ("wifi", None)


def test_a_wired_network_has_no_name_whatever_is_told_of_others(machine: Machine) -> None:
    machine.interface("eth0", flags="0x1003")
    machine.leaves_by(DefaultRoute(version=4, index=2, interface="eth0", gateway=GATEWAY))
    for told in (None, {3: "Home"}):
        machine.wireless = told
        network = machine.looker.look()
        assert (network.kind, network.ssid) == ("wired", "")


def test_a_gateway_that_has_not_answered_is_not_known_however_long_it_takes_and_asked_for(machine: Machine) -> None:
    machine.neighbours_of = {}
    assert [machine.looker.look().gateway_mac for _ in range(3)] == [None, None, None]
    assert (machine.solicited, machine.nudged) == ([("192.0.2.1", 3)] * 3, [])
    machine.is_root = False
    machine.looker.look()
    assert machine.nudged == ["192.0.2.1"], "which takes no rights"


def test_a_gateway_of_the_other_family_is_looked_for_there(machine: Machine) -> None:
    """An IPv4 route by an IPv6 next hop (RFC 5549)."""
    machine.leaves_by(replace(WIFI, gateway=ROUTER))
    machine.neighbours_of = {(6, 3): {ROUTER: MAC}}
    assert machine.looker.look().gateway_mac == MAC


def test_where_neighbours_have_no_addresses_the_gateway_has_none(machine: Machine) -> None:
    machine.interface("wwan0", flags="0x10d1", uevent="DEVTYPE=wwan\nINTERFACE=wwan0\n")
    machine.leaves_by(DefaultRoute(version=4, index=5, interface="wwan0", gateway=GATEWAY))
    network = machine.looker.look()
    assert (network.kind, network.gateway_mac, machine.solicited) == ("cellular", "", [])
    machine.leaves_by(replace(WIFI, gateway=None))
    assert machine.looker.look().gateway_mac == ""


def test_the_way_out_is_never_a_tunnel(machine: Machine) -> None:
    tunnel = DefaultRoute(version=4, index=9, interface="ike0", gateway=None)
    machine.leaves_by(tunnel, kind="tun")
    assert machine.looker.look() == Network()
    machine.now = replace(HOME, interfaces=(*HOME.interfaces, *machine.now.interfaces), defaults=(tunnel, WIFI))
    assert machine.looker.look().interface == "wlan0"


def test_names_are_remembered_while_only_a_tunnels_file_could_tell(machine: Machine) -> None:
    machine.looker.look()
    machine.names.names = None
    assert machine.looker.look().dns_suffixes == ("corp.example",)


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(HOME, defaults=(replace(WIFI, gateway=ip_address("192.0.2.2")),)),
        replace(HOME, interfaces=(Interface(index=3, name="wlan0", carriers=1),)),
    ],
    ids=["another gateway", "the carrier was gone"],
)
def test_and_not_carried_to_another_network(machine: Machine, elsewhere: Snapshot) -> None:
    machine.looker.look()
    machine.names.names = None
    machine.now = elsewhere
    network = machine.looker.look()
    assert (network.dns_suffixes, network.dns_servers) == (None, None)
