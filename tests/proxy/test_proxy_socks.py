"""RFC 1928 and RFC 1929 as bytes."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ParseError
from ikeclient.proxy import socks
from ikeclient.proxy.destination import Destination

GREETING = bytes.fromhex("05 02 00 02")
LOGIN = bytes.fromhex("01 05") + b"alice" + b"\x06secret"
CONNECT_IPV4 = bytes.fromhex("05 01 00 01 0a630001 0050")
CONNECT_IPV6 = bytes.fromhex("05 01 00 04 fd990000000000000000000000000001 01bb")
CONNECT_NAME = bytes.fromhex("05 01 00 03 10") + b"git.corp.example" + bytes.fromhex("0016")
ASSOCIATE = bytes.fromhex("05 03 00 01 00000000 0000")

Parser = Callable[[bytes], tuple[Any, int] | None]
MESSAGES: list[tuple[Parser, bytes]] = [
    (socks.parse_greeting, GREETING),
    (socks.parse_username_password, LOGIN),
    (socks.parse_request, CONNECT_IPV4),
    (socks.parse_request, CONNECT_IPV6),
    (socks.parse_request, CONNECT_NAME),
    (socks.parse_request, ASSOCIATE),
]
EVERY_MESSAGE = pytest.mark.parametrize(("parse", "message"), MESSAGES)
EVERY_PARSER = pytest.mark.parametrize(
    "parse", [socks.parse_greeting, socks.parse_username_password, socks.parse_request]
)


def test_the_messages_of_a_client_are_understood() -> None:
    assert socks.parse_greeting(GREETING) == (b"\0\2", 4)
    login = socks.UsernamePassword(username=b"alice", password=b"secret")
    assert socks.parse_username_password(LOGIN) == (login, len(LOGIN))
    assert socks.parse_request(CONNECT_IPV4) == (socks.Request(command=1, host="10.99.0.1", port=80), 10)
    assert socks.parse_request(CONNECT_IPV6) == (socks.Request(command=1, host="fd99::1", port=443), 22)
    assert socks.parse_request(CONNECT_NAME) == (socks.Request(command=1, host="git.corp.example", port=22), 23)
    assert socks.parse_request(ASSOCIATE) == (socks.Request(command=3, host="0.0.0.0", port=0), 10)


@EVERY_MESSAGE
def test_half_a_message_waits_for_the_rest(parse: Parser, message: bytes) -> None:
    assert all(parse(message[:length]) is None for length in range(len(message)))


@EVERY_MESSAGE
def test_what_follows_a_message_is_left_alone(parse: Parser, message: bytes) -> None:
    found, following = parse(message), parse(message + b"\x05more")
    assert found is not None
    assert found == following
    assert found[1] == len(message)


@EVERY_PARSER
@given(data=st.binary(max_size=600))
def test_any_bytes_give_a_message_a_wait_or_a_parse_error(parse: Parser, data: bytes) -> None:
    try:
        found = parse(data)
    except ParseError:
        return
    if found is None:
        assert len(data) < socks.LONGEST
    else:
        assert 0 < found[1] <= len(data)


@EVERY_PARSER
@given(first=st.integers(0, 255).filter(lambda byte: byte not in (1, 5)))
def test_a_client_of_something_else_is_known_by_its_first_byte(parse: Parser, first: int) -> None:
    with pytest.raises(ParseError):
        parse(bytes((first,)))


def test_an_unknown_address_type_has_its_own_error() -> None:
    for kind in (0, 2, 5, 255):
        with pytest.raises(socks.AddressTypeError):
            socks.parse_request(bytes((5, 1, 0, kind)))


def test_a_password_has_no_representation() -> None:
    found = socks.parse_username_password(LOGIN)
    assert found is not None
    assert "secret" not in repr(found)


def test_a_datagram_is_taken_apart() -> None:
    header = bytes(3) + CONNECT_NAME[3:]
    assert socks.parse_datagram(header + b"query") == socks.Datagram(
        destination=Destination(host="git.corp.example", port=22), data=b"query"
    )


def test_a_fragment_is_refused() -> None:
    with pytest.raises(ParseError, match="fragment"):
        socks.parse_datagram(bytes((0, 0, 1)) + CONNECT_IPV4[3:] + b"data")


@given(st.binary(max_size=80))
def test_any_datagram_gives_a_value_or_a_parse_error(data: bytes) -> None:
    try:
        found = socks.parse_datagram(data)
    except ParseError:
        return
    assert data[2] == 0
    assert data.endswith(found.data)
    assert 1 <= found.destination.port <= 65535


@given(st.ip_addresses(), st.integers(1, 65535), st.binary(max_size=100))
def test_a_datagram_for_a_client_reads_as_one_from_it(
    address: IPv4Address | IPv6Address, port: int, data: bytes
) -> None:
    """The header is the same in both directions (RFC 1928 section 7)."""
    found = socks.parse_datagram(socks.datagram(str(address), port, data))
    assert found == socks.Datagram(destination=Destination(host=str(address), port=port), data=data)


def test_the_answers_are_those_of_the_standard() -> None:
    assert socks.choice(0xFF) == b"\x05\xff"
    assert socks.verdict(True) == b"\x01\x00"
    assert socks.verdict(False) == b"\x01\x01"
    assert socks.reply(5) == bytes.fromhex("05 05 00 01 00000000 0000")
    assert socks.reply(0, "fe80::1%eth0", 1080) == bytes.fromhex("05 00 00 04 fe80000000000000 0000000000000001 0438")
