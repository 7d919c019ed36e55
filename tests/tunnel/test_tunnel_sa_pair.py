"""What IKE negotiated, as the data plane takes it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from ikeclient.crypto.algorithms.keymat import ChildKeys, DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.esp.sa.pair import SaPair
from ikeclient.esp.sa.selectors import Selector
from ikeclient.ike.events import ChildEstablished
from ikeclient.tunnel.sa_pair import sa_pair
from ikeclient.wire.selector import TrafficSelector

SUITE = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None)
IN, OUT = (DirectionKeys(encryption=bytes([n]) * 20, integrity=b"") for n in (1, 2))
CHILD = ChildEstablished(
    spi_in=0xC0000001,
    spi_out=0xD0000001,
    suite=SUITE,
    keys=ChildKeys(inbound=IN, outbound=OUT),
    local_selectors=(TrafficSelector.from_network(ip_network("10.88.0.1/32")),),
    remote_selectors=(
        TrafficSelector(start=ip_address("fd99::"), end=ip_address("fd99::7"), protocol=17, start_port=53, end_port=54),
    ),
    rekey_at=9.0,
    replaces=0xC0000000,
    by_peer=True,
)


def test_each_direction_keeps_its_keys_and_each_end_its_selectors() -> None:
    start = int(ip_address("fd99::"))
    here = int(ip_address("10.88.0.1"))
    assert sa_pair(CHILD) == SaPair(
        spi_in=0xC0000001,
        spi_out=0xD0000001,
        suite=SUITE,
        keys_in=IN,
        keys_out=OUT,
        local=(Selector(version=4, start=here, end=here),),
        remote=(Selector(version=6, start=start, end=start + 7, protocol=17, start_port=53, end_port=54),),
        replaces=0xC0000000,
        by_peer=True,
    )


def test_the_addresses_of_the_interface_come_with_it() -> None:
    """P7: the gateway cannot send from them."""
    own = (ip_address("10.88.0.1"), ip_address("fd88::1"))
    assert sa_pair(CHILD, own).own == ((4, int(own[0])), (6, int(own[1])))


def test_no_key_is_shown() -> None:
    assert "01010101" not in repr(sa_pair(CHILD)).replace("\\x", "")
