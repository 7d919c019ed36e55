"""One connection on standard input and output."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from proxy.proxy_world import PATIENCE, a_server, closed_port, echo, receive_all

from ikeclient.proxy.relay import reset_on_close

PROGRAM = """
import sys
from ikeclient.errors import IkeclientError
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.stdio import relay_stdio
try:
    relay_stdio(Destination.parse(sys.argv[1]))
except BrokenPipeError:
    sys.exit(141)
except IkeclientError as error:
    print(*error.lines(), sep="\\n", file=sys.stderr)
    sys.exit(error.exit_code)
"""
ROOT = Path(__file__).parents[2]


def start(port: int, **streams: int | IO[bytes]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, f"127.0.0.1:{port}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, **(pipes | streams))  # type: ignore[call-overload, no-any-return]


def test_the_end_of_input_is_passed_on_and_the_answer_awaited() -> None:
    """`echo question | ikeclient proxy work --stdio host:port` must print the answer."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(hashlib.sha256(receive_all(connection)).digest())

    data = os.urandom(3 << 20)
    with a_server(answer) as port, start(port) as process:
        output, errors = process.communicate(data, timeout=PATIENCE)
        assert (output, errors, process.returncode) == (hashlib.sha256(data).digest(), b"", 0)


def test_the_end_of_the_connection_is_the_end_whatever_input_may_come() -> None:
    with a_server(lambda connection: connection.sendall(b"bye")) as port, start(port) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"bye"
        assert process.wait(PATIENCE) == 0  # its standard input is still open


def test_files_and_sockets_do_as_well_as_pipes(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    with a_server(echo) as port:
        files = (tmp_path / "in").open("rb"), (tmp_path / "out").open("wb")
        with files[0] as source, files[1] as sink, start(port, stdin=source, stdout=sink) as process:
            assert process.wait(PATIENCE) == 0
        assert (tmp_path / "out").read_bytes() == b"from a file"
        ours, theirs = socket.socketpair()  # as ssh gives it with ProxyUseFdpass=no on some systems
        with ours, theirs, start(port, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
            theirs.close()
            ours.sendall(b"by a socket")
            ours.shutdown(socket.SHUT_WR)
            assert receive_all(ours) == b"by a socket"
            assert process.wait(PATIENCE) == 0


def test_where_there_is_no_connection_the_exit_status_and_a_line_say_so() -> None:
    port = closed_port()
    with start(port) as process:
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 5
        assert errors.decode() == f"no connection to 127.0.0.1:{port}\nthe host refused the connection\n"


def test_a_connection_that_breaks_is_no_success() -> None:
    def broken(connection: socket.socket) -> None:
        connection.sendall(b"half")
        assert connection.recv(1) == b"q"
        reset_on_close(connection)

    with a_server(broken) as port, start(port) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(4) == b"half"
        process.stdin.write(b"q")
        process.stdin.flush()
        assert process.wait(PATIENCE) == 5


def test_nobody_who_reads_is_the_end_by_sigpipe_s_number() -> None:
    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(bytes(65536))

    with a_server(endless) as port, start(port) as process:
        assert process.stdout is not None
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        assert process.wait(PATIENCE) == 141


@pytest.mark.parametrize("size", [1, 65_536, 1_000_000])
def test_much_comes_back_as_it_went(size: int) -> None:
    data = os.urandom(size)
    with a_server(echo) as port, start(port) as process:
        output, _ = process.communicate(data, timeout=PATIENCE)
        assert output == data
