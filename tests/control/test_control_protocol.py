"""The lines of the control protocol."""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.control import protocol
from ikeclient.control.protocol import Command
from ikeclient.errors import ParseError, UsageError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES))
def test_a_message_is_one_line_of_ascii_and_comes_back_as_it_was(message: dict[str, object]) -> None:
    line = protocol.encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in line[:-1])
    assert protocol.decode(line) == message


def test_values_json_does_not_know_are_written_as_text() -> None:
    line = protocol.encode({"address": ip_address("10.0.0.1"), "path": Path("/a")})
    assert protocol.decode(line) == {"address": "10.0.0.1", "path": "/a"}


@given(st.binary(max_size=200))
def test_any_bytes_give_a_command_or_a_parse_error(line: bytes) -> None:
    with contextlib.suppress(ParseError):
        assert protocol.parse_request(line).command in Command


@pytest.mark.parametrize("command", list(Command))
def test_every_command_survives_the_wire(command: Command) -> None:
    assert protocol.parse_request(protocol.encode(protocol.request(command, name="x"))).command is command


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"status",
        b"[]",
        b'"status"',
        b"{}",
        b'{"version":2,"request":"status"}',
        b'{"version":1}',
        b'{"version":1,"request":"reboot"}',
        b'{"version":1,"request":{"a":1}}',
        b"[" * 60_000,
        b'{"version":' + b"9" * 60_000 + b"}",
        b"\xff\xfe",
    ],
    ids=range(12),
)
def test_a_request_that_is_none_is_refused(line: bytes) -> None:
    """O15: garbage is refused, whatever its shape."""
    with pytest.raises(ParseError):
        protocol.parse_request(line)


@pytest.mark.parametrize("name", ["work", "a.b-c_d", "alice@example.com", "_x", "7"])
def test_a_name_becomes_a_socket_in_the_directory(name: str) -> None:
    assert protocol.socket_path(Path("/run/ikeclient"), name) == Path(f"/run/ikeclient/{name}.sock")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../etc/passwd", "a\0b", "a\nb", "-v", "a b", "büro", "x" * 65]
)
def test_a_name_never_leaves_the_directory(name: str) -> None:
    with pytest.raises(UsageError):
        protocol.socket_path(Path("/run/ikeclient"), name)


def test_a_path_the_kernel_would_cut_off_is_refused() -> None:
    with pytest.raises(UsageError, match="longer than 107 bytes"):
        protocol.socket_path(Path("/" + "d" * 100), "work")
