"""Echo requests as inner packets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ikeclient.esp.packet.echo import echo_request
from ikeclient.esp.packet.inner import internet_checksum

PAIRS = [(ip_address("10.88.0.1"), ip_address("10.99.0.53")), (ip_address("fd88::1"), ip_address("fd99::53"))]


@pytest.mark.parametrize(("source", "destination"), PAIRS)
@pytest.mark.parametrize("hops", [1, 64])
def test_the_packet_is_one_that_any_host_takes(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, hops: int
) -> None:
    """S20: addresses, length, hop limit and both checksums are right."""
    packet = echo_request(source, destination, identifier=0xBEEF, sequence=7, hops=hops)
    if source.version == 4:
        assert internet_checksum(packet[:20]) == 0
        assert int.from_bytes(packet[2:4], "big") == len(packet)
        assert (packet[8], packet[9]) == (hops, 1)
        addresses, message, extra = packet[12:20], packet[20:], b""
    else:
        assert int.from_bytes(packet[4:6], "big") == len(packet) - 40
        assert (packet[7], packet[6]) == (hops, 58)
        addresses, message = packet[8:40], packet[40:]
        extra = addresses + len(message).to_bytes(4, "big") + bytes((0, 0, 0, 58))
    assert addresses == source.packed + destination.packed
    assert message[0] == (8 if source.version == 4 else 128)
    assert message[4:8] == b"\xbe\xef\x00\x07"
    assert internet_checksum(extra + message) == 0
