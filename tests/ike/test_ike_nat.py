from dataclasses import replace
from hashlib import sha1
from ipaddress import ip_address

import pytest
from vectors.recordings import RECORDINGS

from ikeclient.ike.events import NatStatus, Path
from ikeclient.ike.v2.message.payloads import notifies
from ikeclient.ike.v2.rules.nat import detected, detection_hash, detection_notifies
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import NotifyType

SPI_I, SPI_R = b"\x11" * 8, b"\x22" * 8
PATH = Path(ip_address("192.0.2.2"), 4500, ip_address("198.51.100.1"), 4500)
OPEN = NatStatus(local=False, remote=False)


def theirs(path: Path, *, encapsulate: bool = False) -> tuple[NotifyPayload, ...]:
    """What the peer sends along the way back of `path`."""
    back = Path(path.remote_address, path.remote_port, path.local_address, path.local_port)
    return detection_notifies(SPI_I, SPI_R, back, encapsulate=encapsulate)


def source(data: bytes) -> NotifyPayload:
    return NotifyPayload(type=NotifyType.NAT_DETECTION_SOURCE_IP, data=data)


def destination(data: bytes) -> NotifyPayload:
    return NotifyPayload(type=NotifyType.NAT_DETECTION_DESTINATION_IP, data=data)


@pytest.mark.parametrize(
    ("address", "packed"),
    [("192.0.2.2", "c0000202"), ("2001:db8::2", "20010db8000000000000000000000002")],
)
def test_the_hash_is_over_spis_address_and_port(address: str, packed: str) -> None:
    """RFC 7296 section 2.23, written out."""
    expected = sha1(bytes.fromhex("11" * 8 + "22" * 8 + packed + "1194")).digest()
    assert detection_hash(SPI_I, SPI_R, ip_address(address), 4500) == expected


@pytest.mark.parametrize("name", sorted(name for name in RECORDINGS if "rekeyed" not in name))
def test_recorded_hashes_are_ours(name: str) -> None:
    """strongSwan's own hash of its peer's address; that of itself is made up, because it wants encapsulation."""
    checked = 0
    for recorded in RECORDINGS[name].messages:
        message = Message.parse(recorded.data)
        found = notifies(message.payloads)
        if not any(n.type == NotifyType.NAT_DETECTION_SOURCE_IP for n in found):
            continue
        header = message.header
        assert detected(header.spi_i, header.spi_r, recorded.path, found) == NatStatus(local=False, remote=True)
        moved = replace(recorded.path, local_port=12345)
        assert detected(header.spi_i, header.spi_r, moved, found) == NatStatus(local=True, remote=True)
        checked += 1
    assert checked >= 1


def test_without_a_nat_both_hashes_match() -> None:
    assert detected(SPI_I, SPI_R, PATH, theirs(PATH)) == OPEN


def test_a_translated_address_or_port_shows_on_its_side() -> None:
    for change in ({"local_address": ip_address("10.0.0.7")}, {"local_port": 40000}):
        assert detected(SPI_I, SPI_R, replace(PATH, **change), theirs(PATH)) == NatStatus(local=True, remote=False)
    for change in ({"remote_address": ip_address("10.0.0.7")}, {"remote_port": 40000}):
        assert detected(SPI_I, SPI_R, replace(PATH, **change), theirs(PATH)) == NatStatus(local=False, remote=True)


def test_a_hash_for_other_spis_is_no_match() -> None:
    assert detected(SPI_R, SPI_I, PATH, theirs(PATH)) == NatStatus(local=True, remote=True)


def test_forced_encapsulation_looks_like_a_nat_in_front_of_us() -> None:
    """And only there: the hash of the destination stays true, or the peer would believe itself behind a NAT."""
    assert detected(SPI_I, SPI_R, PATH, theirs(PATH, encapsulate=True)) == NatStatus(local=False, remote=True)
    first, second = detection_notifies(SPI_I, SPI_R, PATH, encapsulate=True)
    assert (len(first.data), len(second.data)) == (20, 20)
    assert second.data == detection_hash(SPI_I, SPI_R, PATH.remote_address, PATH.remote_port)


def test_a_peer_without_hashes_tells_nothing() -> None:
    """N20: absent, or only one of them."""
    assert detected(SPI_I, SPI_R, PATH, ()) == OPEN
    assert detected(SPI_I, SPI_R, PATH, theirs(PATH)[:1]) == OPEN
    assert detected(SPI_I, SPI_R, PATH, theirs(PATH)[1:]) == OPEN
    assert detected(SPI_I, SPI_R, PATH, [source(bytes(20))]) == NatStatus(local=False, remote=True)
    assert detected(SPI_I, SPI_R, PATH, [destination(bytes(20))]) == NatStatus(local=True, remote=False)


@pytest.mark.parametrize("size", [0, 1, 19, 21, 32, 4000])
def test_what_cannot_be_a_hash_is_no_hash(size: int) -> None:
    """N20: wrong size."""
    assert detected(SPI_I, SPI_R, PATH, [source(bytes(size)), destination(bytes(size))]) == OPEN


def test_of_twenty_hashes_one_match_is_enough() -> None:
    """N20: a peer with many addresses may send one for each (section 2.23)."""
    true = theirs(PATH)
    others = [make(bytes((n,)) * 20) for n in range(20) for make in (source, destination)]
    assert detected(SPI_I, SPI_R, PATH, [*others, *true]) == OPEN
    assert detected(SPI_I, SPI_R, PATH, [*true, *others]) == OPEN
    assert detected(SPI_I, SPI_R, PATH, others) == NatStatus(local=True, remote=True)


def test_other_notifications_do_not_matter() -> None:
    other = NotifyPayload(type=NotifyType.COOKIE, data=bytes(20))
    assert detected(SPI_I, SPI_R, PATH, [other, *theirs(PATH)]) == OPEN
