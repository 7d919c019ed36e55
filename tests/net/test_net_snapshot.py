"""What counts as a change of the network, and which addresses are worth trying first. No network is needed here."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.net.model import Version
from ikeclient.net.watch.snapshot import (
    Change,
    DefaultRoute,
    Interface,
    OuterAddress,
    RouteTo,
    Snapshot,
    candidates,
    difference,
    is_tunnel,
)

WIRE = Interface(index=2, name="eth0", carriers=1)
RADIO = Interface(index=3, name="wlan0", carriers=1)
BRIDGE = Interface(index=4, name="docker0", kind="bridge")


def at(interface: Interface, text: str, *, deprecated: bool = False) -> OuterAddress:
    return OuterAddress(
        index=interface.index, interface=interface.name, address=ip_address(text), deprecated=deprecated
    )


def way_out(interface: Interface, gateway: str | None, metric: int = 0, *, version: Version = 4) -> DefaultRoute:
    return DefaultRoute(
        version=version,
        index=interface.index,
        interface=interface.name,
        gateway=ip_address(gateway) if gateway else None,
        metric=metric,
    )


def route(interface: Interface, remote: str, source: str) -> RouteTo:
    return RouteTo(
        remote=ip_address(remote), index=interface.index, interface=interface.name, source=ip_address(source)
    )


HOME = Snapshot(
    interfaces=(WIRE, RADIO),
    addresses=(at(WIRE, "192.0.2.10"), at(WIRE, "2001:db8::10")),
    defaults=(way_out(WIRE, "192.0.2.1"), way_out(WIRE, "fe80::1", 1024, version=6)),
    routes=(route(WIRE, "203.0.113.7", "192.0.2.10"),),
)
NOTHING = Snapshot(interfaces=(WIRE, RADIO))


def test_a_network_that_stayed_the_same_is_no_change() -> None:
    assert difference(HOME, replace(HOME)) is None
    assert difference(Snapshot(), Snapshot()) is None


def test_the_kernels_order_is_not_a_change() -> None:
    turned = Snapshot(
        interfaces=HOME.interfaces[::-1],
        addresses=HOME.addresses[::-1],
        defaults=HOME.defaults[::-1],
        routes=HOME.routes[::-1],
    )
    assert difference(HOME, turned) is None


def test_a_new_address_is_gained_and_a_missing_one_lost() -> None:
    moved = replace(HOME, addresses=(at(WIRE, "192.0.2.99"), HOME.addresses[1]))
    assert difference(HOME, moved) == Change(gained=(at(WIRE, "192.0.2.99"),), lost=(at(WIRE, "192.0.2.10"),))


def test_an_address_that_goes_to_another_interface_is_lost_and_gained() -> None:
    moved = replace(HOME, addresses=(at(RADIO, "192.0.2.10"), HOME.addresses[1]))
    assert difference(HOME, moved) == Change(gained=(at(RADIO, "192.0.2.10"),), lost=(at(WIRE, "192.0.2.10"),))


def test_a_deprecated_address_is_neither_lost_nor_gained_until_it_is_fresh_again() -> None:
    old = at(WIRE, "2001:db8::10", deprecated=True)
    aged = replace(HOME, addresses=(HOME.addresses[0], old))
    assert difference(HOME, aged) == Change(deprecated=(old,))
    assert difference(aged, HOME) == Change(gained=(HOME.addresses[1],))
    assert difference(aged, replace(aged, addresses=aged.addresses[:1])) == Change(lost=(old,))
    assert difference(replace(HOME, addresses=HOME.addresses[:1]), aged) is None, "nobody would start from it"


def test_an_interface_that_stops_working_is_down_with_its_addresses_lost() -> None:
    unplugged = Snapshot(interfaces=(replace(WIRE, working=False, carriers=0), RADIO))
    assert difference(HOME, unplugged) == Change(
        lost=HOME.addresses, down=("eth0",), defaults=(4, 6), rerouted=(ip_address("203.0.113.7"),)
    )
    assert difference(unplugged, HOME) == Change(
        gained=HOME.addresses, up=("eth0",), defaults=(4, 6), rerouted=(ip_address("203.0.113.7"),)
    )


def test_an_interface_that_is_deleted_is_down() -> None:
    change = difference(HOME, Snapshot(interfaces=(RADIO,)))
    assert change is not None
    assert change.down == ("eth0",)


def test_an_interface_made_again_under_its_old_name_is_another_one() -> None:
    again = replace(WIRE, index=9)
    change = difference(HOME, Snapshot(interfaces=(again, RADIO), addresses=(at(again, "192.0.2.10"),)))
    assert change is not None
    assert (change.down, change.up) == (("eth0",), ("eth0",))
    assert change.gained == (at(again, "192.0.2.10"),)


def test_interfaces_without_an_address_come_and_go_unnoticed() -> None:
    """Every container that starts makes some."""
    busy = replace(HOME, interfaces=(WIRE, Interface(index=77, name="veth1234")))
    assert difference(HOME, busy) is None
    assert difference(busy, HOME) is None


def test_a_carrier_that_was_lost_and_found_between_two_looks_is_noticed() -> None:
    """The network behind the cable may be another one that gave us the same address."""
    bounced = replace(HOME, interfaces=(replace(WIRE, carriers=2), RADIO))
    assert difference(HOME, bounced) == Change(bounced=("eth0",))


def test_another_mtu_is_noticed() -> None:
    assert difference(HOME, replace(HOME, interfaces=(replace(WIRE, mtu=1280), RADIO))) == Change(resized=("eth0",))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(way_out(WIRE, "192.0.2.254"), id="gateway"),
        pytest.param(way_out(RADIO, "192.0.2.1"), id="interface"),
        pytest.param(way_out(WIRE, "192.0.2.1", 600), id="metric"),
        pytest.param(way_out(WIRE, None), id="on-link"),
    ],
)
def test_another_default_route_is_noticed_in_its_family_only(other: DefaultRoute) -> None:
    assert difference(HOME, replace(HOME, defaults=(other, HOME.defaults[1]))) == Change(defaults=(4,))


def test_a_host_route_to_the_gateway_is_noticed_by_the_route_alone() -> None:
    other = replace(HOME, routes=(route(RADIO, "203.0.113.7", "198.51.100.3"),))
    assert difference(HOME, other) == Change(rerouted=(ip_address("203.0.113.7"),))
    assert difference(HOME, replace(HOME, routes=())) == Change(rerouted=(ip_address("203.0.113.7"),))


SNAPSHOTS = st.builds(
    Snapshot,
    interfaces=st.just((WIRE, RADIO)),
    addresses=st.sets(st.sampled_from([at(i, f"192.0.2.{n}") for i in (WIRE, RADIO) for n in (1, 2)])).map(tuple),
    defaults=st.sets(st.sampled_from([way_out(i, "192.0.2.1", m) for i in (WIRE, RADIO) for m in (1, 2)])).map(tuple),
)


@given(SNAPSHOTS, SNAPSHOTS)
def test_going_back_undoes_what_going_there_did(old: Snapshot, new: Snapshot) -> None:
    there, back = difference(old, new), difference(new, old)
    assert (there is None) == (back is None)
    if there is None or back is None:
        return
    assert (set(there.gained), set(there.lost)) == (set(back.lost), set(back.gained))
    assert set(old.addresses) - set(there.lost) | set(there.gained) == set(new.addresses)
    assert there.defaults == back.defaults


def texts(found: tuple[OuterAddress, ...]) -> list[str]:
    return [f"{candidate.interface} {candidate.address}" for candidate in found]


def test_the_interface_with_the_cheapest_default_route_comes_first_and_those_without_one_last() -> None:
    snapshot = Snapshot(
        interfaces=(BRIDGE, RADIO, WIRE),
        addresses=(at(BRIDGE, "172.17.0.1"), at(RADIO, "198.51.100.3"), at(WIRE, "192.0.2.10"), at(WIRE, "192.0.2.11")),
        defaults=(way_out(RADIO, "198.51.100.1", 600), way_out(WIRE, "192.0.2.1", 100), way_out(WIRE, None, 900)),
    )
    assert texts(candidates(snapshot, 4)) == [
        "eth0 192.0.2.10",
        "eth0 192.0.2.11",
        "wlan0 198.51.100.3",
        "docker0 172.17.0.1",
    ]
    assert candidates(snapshot, 6) == ()


def test_the_metric_of_one_family_says_nothing_about_the_other() -> None:
    snapshot = Snapshot(
        interfaces=(WIRE, RADIO),
        addresses=(at(WIRE, "2001:db8:1::1"), at(RADIO, "2001:db8:2::1")),
        defaults=(way_out(WIRE, "192.0.2.1", 1), way_out(RADIO, "fe80::1", 1024, version=6)),
    )
    assert texts(candidates(snapshot, 6))[0] == "wlan0 2001:db8:2::1"


def test_unique_local_addresses_come_after_global_ones_and_deprecated_ones_last() -> None:
    snapshot = Snapshot(
        interfaces=(WIRE, RADIO),
        addresses=(at(WIRE, "2001:db8::1", deprecated=True), at(WIRE, "fd00::1"), at(RADIO, "2001:db8::2")),
        defaults=(way_out(WIRE, "fe80::1", 1, version=6),),
    )
    assert texts(candidates(snapshot, 6)) == ["wlan0 2001:db8::2", "eth0 fd00::1", "eth0 2001:db8::1"]


@pytest.mark.parametrize("kind", ["tun", "wireguard", "xfrm"])
def test_other_tunnels_are_no_candidates_unless_asked_for(kind: str) -> None:
    tunnel = Interface(index=5, name="wg0", kind=kind)
    snapshot = Snapshot(interfaces=(tunnel,), addresses=(at(tunnel, "10.0.0.1"),), defaults=(way_out(tunnel, None),))
    assert candidates(snapshot, 4) == ()
    assert texts(candidates(snapshot, 4, exclude=lambda _: False)) == ["wg0 10.0.0.1"]


def test_a_modem_and_the_tap_device_of_a_container_are_no_tunnels() -> None:
    assert not is_tunnel(Interface(index=6, name="wwan0"))
    assert not is_tunnel(Interface(index=7, name="tap0", kind="tap"))


def test_a_snapshot_answers_for_its_addresses_and_routes() -> None:
    assert HOME.has(ip_address("192.0.2.10"))
    assert not HOME.has(ip_address("192.0.2.11"))
    assert HOME.route_to(ip_address("203.0.113.7")) == HOME.routes[0]
    assert HOME.route_to(ip_address("203.0.113.8")) is None
    assert not NOTHING.has(ip_address("192.0.2.10"))
