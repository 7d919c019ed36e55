"""Entries of the journal in journald's own protocol, as a socket in its place receives them."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ikeclient.cli.view.journal import Journal, encoded, fields_of
from ikeclient.control.events import happened

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


class Journald:
    """A socket where journald's would be."""

    def __init__(self, place: Path) -> None:
        self.path = str(place)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def entries(self) -> list[dict[str, list[str]]]:
        found = []
        while True:
            try:
                found.append(parsed(self.socket.recv(1 << 16)))
            except BlockingIOError:
                return found


def parsed(data: bytes) -> dict[str, list[str]]:
    """Read an entry as the protocol's description says."""
    fields: dict[str, list[str]] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[9 + length :]
            assert rest[8 + length : 9 + length] == b"\n"
        else:
            data = rest
        fields.setdefault(name.decode(), []).append(value.decode())
    return fields


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    served = Journald(tmp_path / "journal.sock")
    yield served
    served.socket.close()


def test_a_value_of_several_lines_has_its_length_before_it() -> None:
    assert encoded("MESSAGE", "one") == b"MESSAGE=one\n"
    assert encoded("MESSAGE", "a\nb") == b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"


def test_an_entry_has_its_fields_and_forges_none(journald: Journald) -> None:
    """What a gateway says is one value, whatever is in it."""
    journal = Journal(journald.path)
    journal.be_about("work")
    said = "x\nPRIORITY=0\nIKECLIENT_EVENT=connected"
    assert journal.send(said, 6, fields_of({"event": "notice", "host": said}), ("a.py", 7, "f"))
    journal.close()
    [entry] = journald.entries()
    assert entry == {
        "MESSAGE": [said],
        "PRIORITY": ["6"],
        "SYSLOG_IDENTIFIER": ["ikeclient"],
        "IKECLIENT_TUNNEL": ["work"],
        "IKECLIENT_EVENT": ["notice"],
        "IKECLIENT_HOST": [said.replace("\n", "\\n")],
        "CODE_FILE": ["a.py"],
        "CODE_LINE": ["7"],
        "CODE_FUNC": ["f"],
    }


def test_an_event_is_asked_for_by_each_of_its_keys() -> None:
    gateway = {"address": "203.0.113.7", "port": 4500, "identity": None, "auth": [{"method": "psk"}]}
    event = happened("connected", "work", elapsed_ms=12, addresses=["10.0.0.1/32", "fd00::1/128"], gateway=gateway)
    assert fields_of(event) == [
        ("IKECLIENT_EVENT", "connected"),
        ("IKECLIENT_TUNNEL", "work"),
        ("IKECLIENT_ELAPSED_MS", "12"),
        ("IKECLIENT_ADDRESSES", "10.0.0.1/32"),
        ("IKECLIENT_ADDRESSES", "fd00::1/128"),
        ("IKECLIENT_GATEWAY", "203.0.113.7"),
        ("IKECLIENT_GATEWAY_ADDRESS", "203.0.113.7"),
        ("IKECLIENT_GATEWAY_PORT", "4500"),
    ]


def test_a_journald_that_is_gone_or_busy_costs_no_time_and_one_that_is_back_is_found(
    tmp_path: Path, journald: Journald
) -> None:
    journal = Journal(journald.path)
    while journal.send("x" * 4000, 6, []):
        pass
    journald.socket.close()
    assert not journal.send("gone", 6, [])
    Path(journald.path).unlink()
    again = Journald(tmp_path / "journal.sock")
    assert journal.send("back", 6, [])
    assert [entry["MESSAGE"] for entry in again.entries()] == [["back"]]
    again.socket.close()
    journal.close()


def test_standard_error_that_is_no_stream_to_the_journal_is_written_to(shell: Shell, journald: Journald) -> None:
    """And one that is gets what journald does not take."""
    ours, theirs = socket.socketpair()
    program = (
        "import sys; from ikeclient.cli.view import journal, terminal; journal.SOCKET = sys.argv[1]\n"
        "journal.Journal.behind.__func__.__defaults__ = (sys.argv[1],)\n"
        "terminal.tell('told', priority=terminal.Priority.NOTICE, fields=[('IKECLIENT_EVENT', 'x')])"
    )
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        for path in (journald.path, "/nonexistent"):
            command = [sys.executable, "-c", program, path]
            subprocess.run(command, stderr=theirs, env=environment, check=True, timeout=60)
        [entry] = journald.entries()
        assert (entry["MESSAGE"], entry["PRIORITY"], entry["IKECLIENT_EVENT"]) == (["told"], ["5"], ["x"])
        assert ours.recv(4096) == b"<5>told\n"
