"""The proxy's process: signals, the end of its tunnel, and memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxy.proxy_world import PATIENCE, a_server, bound, closed_port, connect, echo, receive, socks_connect

from ikeclient.proxy.relay import reset_on_close

PROGRAM = """
import socket, sys, threading
from ikeclient.proxy.serve import serve
from ikeclient.proxy.settings import Kind, Limits, Listener, Settings

def until():
    sys.stdin.read()

listener = Listener(socket=socket.socket(fileno=int(sys.argv[1])), kind=Kind.SOCKS)
settings = Settings(listeners=(listener,), limits=Limits(to_itself=True))
code = serve(settings, on_ready=lambda: print("ready", flush=True), until=until)
print(code, flush=True)
"""
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def a_process(*prefix: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A serving process that ends with its standard input; its port."""
    listener = bound().socket
    command = [*prefix, sys.executable, "-c", PROGRAM, str(listener.fileno())]
    process = subprocess.Popen(
        command, pass_fds=(listener.fileno(),), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        port = listener.getsockname()[1]
        listener.close()
        assert process.stdout.readline() == "ready\n"
        yield port, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()


def resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_is_told(number: signal.Signals) -> None:
    with a_process() as (port, process):
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == f"{int(number)}\n"
        assert process.wait(PATIENCE) == 0
        with pytest.raises(ConnectionRefusedError):
            connect(port)


def test_it_ends_with_what_it_watches() -> None:
    with a_process() as (_, process):
        output, _ = process.communicate(timeout=PATIENCE)
        assert (output, process.returncode) == ("None\n", 0)


def test_slow_readers_cost_no_memory() -> None:
    """Sixty clients that never read, of a server that never stops: the bytes wait in the kernel's buffers."""

    def endless(connection: socket.socket) -> None:
        while True:
            connection.sendall(bytes(1 << 20))

    with a_server(endless) as to, a_process() as (port, process):
        before = resident(process.pid)
        clients = [socks_connect(port, "127.0.0.1", to) for _ in range(60)]
        assert {code for _, code in clients} == {0}
        quiet = 0
        waiting = -1
        deadline = time.monotonic() + PATIENCE
        while quiet < 5:  # until nothing moves any more
            time.sleep(0.1)
            now = Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]
            quiet, waiting = (quiet + 1, waiting) if now == waiting else (0, now)
            assert time.monotonic() < deadline
        assert resident(process.pid) - before < 4 << 10  # a buffer for each would be more
        for connection, _ in clients:
            assert receive(connection, 100_000) == bytes(100_000)
            connection.close()


def test_many_short_connections_leave_nothing_behind() -> None:
    """No descriptor, and no memory that grows with them; each kind of end takes part."""

    def brief(connection: socket.socket) -> None:
        if connection.recv(1) == b"r":
            reset_on_close(connection)
        connection.sendall(b"x")

    def descriptors(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def use(port: int, to: int, turns: int) -> None:
        for turn in range(turns):
            connection, code = socks_connect(port, "127.0.0.1", to if turn % 4 else dead)
            with connection:
                assert code == (0 if turn % 4 else 5)
                if turn % 4 and turn % 3:
                    connection.sendall(b"r" if turn % 2 else b"f")
                    with contextlib.suppress(ConnectionResetError):
                        receive(connection, 2)

    dead = closed_port()
    with a_server(brief) as to, a_process() as (port, process):
        before = descriptors(process.pid)
        use(port, to, 200)
        memory = resident(process.pid)
        use(port, to, 1000)
        deadline = time.monotonic() + PATIENCE
        while descriptors(process.pid) > before:
            assert time.monotonic() < deadline, descriptors(process.pid) - before
            time.sleep(0.05)
        assert resident(process.pid) - memory < 2 << 10


def test_few_descriptors_mean_fewer_connections_and_no_crash() -> None:
    """O13: with a limit of 660 descriptors there is room for ten connections; the next ones are told so."""
    few = ("prlimit", "--nofile=660:660")
    with a_server(echo) as to, a_process(*few) as (port, process):
        held = [socks_connect(port, "127.0.0.1", to) for _ in range(12)]
        assert [code for _, code in held] == [0] * 10 + [1] * 2
        for connection, _ in held[:10]:
            connection.sendall(b"x")
            assert receive(connection, 1) == b"x"
        for connection, _ in held:
            connection.close()
        assert process.poll() is None


def test_the_limit_of_descriptors_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with a_process("prlimit", f"--nofile={min(soft, 256)}:{hard}") as (_, process):
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
        assert os.path.exists(f"/proc/{process.pid}")
