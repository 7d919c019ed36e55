"""Hosts and ports as clients and people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ParseError
from ikeclient.proxy.destination import Destination, address_of, split_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("git.corp.example:22", "git.corp.example", 22),
        ("_sip._tcp.example.:5060", "_sip._tcp.example.", 5060),
        ("10.99.0.1:65535", "10.99.0.1", 65535),
        ("[FD99:0::1]:80", "fd99::1", 80),
        ("localhost:1", "localhost", 1),
    ],
)
def test_a_host_and_a_port_are_read(text: str, host: str, port: int) -> None:
    assert Destination.parse(text) == Destination(host=host, port=port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":80",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:+80",
        "host:8 0",
        "host:80:90",
        "host:٣",
        "fd99::1:80",
        "[fd99::1]80",
        "[fd99::1]",
        "[fd99::1",
        "[10.0.0.1]:80",
        "[host]:80",
        "[fe80::1%eth0]:80",
        "fe80::1%eth0:80",
        "-oProxyCommand=x:80",
        "a..b:80",
        ".a:80",
        "a b:80",
        "a\n:80",
        "a\0:80",
        "bücher.example:80",
        "user@host:80",
        f"{'a' * 64}.example:80",
        f"{'a.' * 128}example:80",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """F3: hosts with zones, spaces, NUL, dashes in front or 300 letters."""
    with pytest.raises(ParseError):
        Destination.parse(text)


def test_a_default_port_fills_a_gap_and_nothing_else() -> None:
    assert Destination.parse("host", 80).port == 80
    assert Destination.parse("[::1]", 80) == Destination(host="::1", port=80)
    with pytest.raises(ParseError):
        Destination.parse("host:", 80)


@given(st.text(max_size=300))
def test_any_text_gives_a_destination_or_a_parse_error(text: str) -> None:
    try:
        found = Destination.parse(text)
    except ParseError:
        return
    assert Destination.parse(str(found)) == found
    assert str(found).isascii()
    assert not set(str(found)) & set(" %\0\r\n/@")


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_survives_being_written_and_read(address: object, port: int) -> None:
    destination = Destination.of(str(address), port)
    assert destination.address == address
    assert Destination.parse(str(destination)) == destination


def test_a_zone_makes_no_address() -> None:
    assert address_of("fe80::1%eth0") is None


def test_the_host_of_a_listener_is_divided_without_judging_it() -> None:
    assert split_port("1080") == ("1080", None)
    assert split_port("127.0.0.1:0") == ("127.0.0.1", 0)
