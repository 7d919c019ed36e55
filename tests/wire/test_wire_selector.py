from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_values import traffic_selectors

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

# RFC 7296 sections 3.13 and 3.13.1, by hand: 10.99.0.0/24 in full, then TCP to port 443 of fd99::1.
VECTOR = bytes.fromhex(
    "02 000000"
    "07 00 0010 0000 ffff 0a630000 0a6300ff"
    "08 06 0028 01bb 01bb fd990000000000000000000000000001 fd990000000000000000000000000001"
)
SELECTORS = (
    TrafficSelector.from_network(ip_network("10.99.0.0/24")),
    TrafficSelector(start=ip_address("fd99::1"), end=ip_address("fd99::1"), protocol=6, start_port=443, end_port=443),
)


def read(body: bytes) -> TsiPayload:
    reader = Reader(body)
    payload = TsiPayload.parse(reader)
    reader.finish()
    return payload


def ts(start: str, end: str, protocol: int = 0, ports: tuple[int, int] = (0, 65535)) -> TrafficSelector:
    return TrafficSelector(
        start=ip_address(start), end=ip_address(end), protocol=protocol, start_port=ports[0], end_port=ports[1]
    )


@pytest.mark.parametrize("kind", [TsiPayload, TsrPayload])
def test_the_figures_of_section_3_13(kind: type[TsiPayload] | type[TsrPayload]) -> None:
    payload = kind(selectors=SELECTORS)
    writer = Writer()
    payload.emit(writer)
    assert writer.bytes() == VECTOR
    assert kind.parse(Reader(VECTOR)) == payload


def test_reserved_bytes_are_ignored() -> None:
    """N8."""
    assert read(VECTOR[:1] + b"\xff\xff\xff" + VECTOR[4:]).selectors == SELECTORS


@pytest.mark.parametrize("count", [0, 1, 3, 255])
def test_a_count_that_is_not_the_number_of_selectors_is_refused(count: int) -> None:
    """K11: TS count 0 or 255 versus actual."""
    with pytest.raises(ParseError):
        read(bytes((count,)) + VECTOR[1:])


def test_255_selectors_are_read() -> None:
    body = b"\xff\0\0\0" + VECTOR[4:20] * 255
    assert read(body).selectors == SELECTORS[:1] * 255


@pytest.mark.parametrize(
    ("what", "selector"),
    [
        ("a length of 7", "07 00 0007 0000 ffff 0a630000 0a6300ff"),
        ("a length of 0", "07 00 0000 0000 ffff 0a630000 0a6300ff"),
        ("a length of IPv6", "07 00 0028 0000 ffff 0a630000 0a6300ff"),
        ("a length one short", "07 00 000f 0000 ffff 0a630000 0a6300"),
        ("addresses past their end", "07 00 0010 0000 ffff 0a630001 0a630000"),
        ("ports past their end", "07 06 0010 0051 0050 0a630000 0a6300ff"),
        ("ports that are almost OPAQUE", "07 06 0010 ffff 0001 0a630000 0a6300ff"),
        ("an unknown type", "09 00 0010 0000 ffff 0a630000 0a6300ff"),
        ("type 0", "00 00 0010 0000 ffff 0a630000 0a6300ff"),
        ("IPv6 with IPv4 content", "08 00 0010 0000 ffff 0a630000 0a6300ff"),
        ("IPv6 past its end", "08 00 0028 0000 ffff" + "ff" * 16 + "00" * 16),
    ],
)
def test_a_malformed_selector_is_refused(what: str, selector: str) -> None:
    """K11: selector length 7, start > end."""
    with pytest.raises(ParseError):
        read(bytes.fromhex("01 000000" + selector))


def test_opaque_ports_are_a_value() -> None:
    """RFC 4301 section 4.4.1.1: 65535 to 0."""
    (selector,) = read(bytes.fromhex("01 000000 07 06 0010 ffff 0000 0a630000 0a6300ff")).selectors
    assert (selector.start_port, selector.end_port) == (65535, 0)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (ts("0.0.0.0", "255.255.255.255"), ts("10.0.0.1", "10.0.0.1", 6, (80, 80))),
        (ts("10.0.0.0", "10.0.0.255"), ts("10.0.0.0", "10.0.0.255")),
        (ts("10.0.0.0", "10.0.0.255", 6), ts("10.0.0.7", "10.0.0.9", 6, (1, 2))),
        (ts("10.0.0.0", "10.0.0.255", 6, (80, 90)), ts("10.0.0.7", "10.0.0.9", 6, (80, 90))),
        (ts("::", "ffff::"), ts("fd99::1", "fd99::2")),
        (ts("10.0.0.0", "10.0.0.255"), ts("10.0.0.0", "10.0.0.255", 6, (65535, 0))),  # any port contains OPAQUE
        (ts("10.0.0.0", "10.0.0.255", 6, (65535, 0)), ts("10.0.0.1", "10.0.0.1", 6, (65535, 0))),
    ],
)
def test_a_selector_contains_what_is_narrower(wide: TrafficSelector, narrow: TrafficSelector) -> None:
    assert wide.contains(narrow)
    assert wide.contains(wide)
    assert narrow == wide or not narrow.contains(wide)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (ts("10.0.0.0", "10.0.0.255"), ts("10.0.0.0", "10.0.1.0")),  # one address more
        (ts("10.0.0.1", "10.0.0.255"), ts("10.0.0.0", "10.0.0.255")),
        (ts("10.0.0.0", "10.0.0.255", 6), ts("10.0.0.0", "10.0.0.255")),  # every protocol
        (ts("10.0.0.0", "10.0.0.255", 6), ts("10.0.0.0", "10.0.0.255", 17)),
        (ts("10.0.0.0", "10.0.0.255", 6, (80, 90)), ts("10.0.0.0", "10.0.0.255", 6)),  # every port
        (ts("10.0.0.0", "10.0.0.255", 6, (80, 90)), ts("10.0.0.0", "10.0.0.255", 6, (79, 90))),
        (ts("10.0.0.0", "10.0.0.255", 6, (80, 90)), ts("10.0.0.0", "10.0.0.255", 6, (80, 91))),
        (ts("10.0.0.0", "10.0.0.255", 6, (80, 90)), ts("10.0.0.0", "10.0.0.255", 6, (65535, 0))),  # OPAQUE
        (ts("10.0.0.0", "10.0.0.255", 6, (65535, 0)), ts("10.0.0.0", "10.0.0.255", 6, (80, 80))),
        (ts("0.0.0.0", "255.255.255.255"), ts("::", "::1")),  # IPv6 in IPv4: the numbers alone would fit
        (ts("::", "ffff::"), ts("10.0.0.1", "10.0.0.1")),
    ],
)
def test_a_selector_does_not_contain_what_is_wider_or_else(asked: TrafficSelector, answer: TrafficSelector) -> None:
    """K11: wider than asked, protocol other than asked, IPv6 in an IPv4 SA."""
    assert not asked.contains(answer)


@given(traffic_selectors(), st.data())
def test_the_networks_of_a_selector_cover_it_exactly(selector: TrafficSelector, data: st.DataObject) -> None:
    networks = list(selector.networks())
    assert sum(network.num_addresses for network in networks) == int(selector.end) - int(selector.start) + 1
    inside = data.draw(st.integers(int(selector.start), int(selector.end)))
    assert any(type(selector.start)(inside) in network for network in networks)


@pytest.mark.parametrize(
    ("selector", "shown"),
    [
        (SELECTORS[0], "10.99.0.0/24"),
        (SELECTORS[1], "fd99::1/128[6/443-443]"),
        (ts("10.0.0.1", "10.0.0.254"), "10.0.0.1-10.0.0.254"),
        (ts("10.0.0.0", "10.0.0.255", 17), "10.0.0.0/24[17]"),
        (ts("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
    ],
)
def test_a_selector_is_shown_in_one_short_piece(selector: TrafficSelector, shown: str) -> None:
    """K15: the last one would be 254 networks."""
    assert str(selector) == shown
