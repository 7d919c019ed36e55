"""The protocol of sd_notify(3), against a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ikeclient.process.service_socket import Service


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The service manager's socket and how it is called in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@ikeclient-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name[0] == "@" else name)
        listening.settimeout(5)
        yield name, listening


def test_a_message_is_one_datagram_of_assignments(manager: tuple[str, socket.socket]) -> None:
    name, listening = manager
    environ = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
    service = Service(environ)
    service.tell(READY=1, STATUS="connected on ike0")
    assert listening.recv(4096) == b"READY=1\nSTATUS=connected on ike0"
    assert environ == {"PATH": "/bin"}, "hooks and commands must not speak in our name"
    assert service.watchdog is None
    service.close()
    service.tell(STATUS="nothing is sent any more")


def test_a_text_cannot_add_an_assignment(manager: tuple[str, socket.socket]) -> None:
    """K15: the status may quote a gateway."""
    name, listening = manager
    with closing(Service({"NOTIFY_SOCKET": name})) as service:
        service.tell(STATUS="refused\nMAINPID=1\x1b[2J" + "x" * 1000)
    data = listening.recv(4096)
    assert data.startswith(b"STATUS=refused?MAINPID=1?[2J")
    assert b"\n" not in data
    assert len(data) < 256


def test_nobody_is_told_outside_a_service() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/nonexistent/socket"}):
        service = Service(dict(environ))
        service.tell(READY=1)
        service.close()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_or_nobodys(
    variables: dict[str, str], seconds: float | None, manager: tuple[str, socket.socket]
) -> None:
    with closing(Service({"NOTIFY_SOCKET": manager[0], **variables})) as service:
        assert service.watchdog == seconds


def test_a_manager_that_does_not_read_holds_up_nothing(manager: tuple[str, socket.socket]) -> None:
    """The socket's queue is full after a few messages; the rest is lost."""
    with closing(Service({"NOTIFY_SOCKET": manager[0]})) as service:
        for _ in range(2000):
            service.tell(WATCHDOG=1)
