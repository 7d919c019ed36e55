"""Names of wireless networks, from answers of nl80211 as the kernel's headers lay them out."""

from __future__ import annotations

import struct

from ikeclient.net.watch import wireless


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def answer(*attributes: bytes) -> memoryview:
    return memoryview(struct.pack("=BBH", 7, 1, 0) + b"".join(attributes))


def test_each_interface_has_the_name_of_its_network_or_none() -> None:
    index, name, ssid = 3, 4, 52  # NL80211_ATTR_IFINDEX, _IFNAME, _SSID
    found = wireless.interfaces(
        [
            answer(attribute(index, struct.pack("=I", 7)), attribute(name, b"wlan0\0"), attribute(ssid, b"Office")),
            answer(attribute(index, struct.pack("=I", 8)), attribute(ssid, b"\xff\x1b")),
            answer(attribute(index, struct.pack("=I", 9))),
            answer(attribute(ssid, b"a monitor without an interface")),
        ]
    )
    assert found == {7: "Office", 8: "\\xff\x1b", 9: ""}


def test_a_machine_without_wireless_has_none() -> None:
    assert all(isinstance(ssid, str) for ssid in wireless.networks().values())
