"""`ikeclient.open` in a program of an ordinary user to whom namespaces and devices are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lab.client import REPOSITORY
from lab.network import INSIDE_IPV4
from lab.person import HOME, ORDINARY, UID, Person
from lab.proxies import IN_CONTAINER, running
from lab.test_lab_proxy_programs import serve_ssh
from lab.world import Lab

EXAMPLE = REPOSITORY / "docs" / "examples" / "library.py"

PROGRAM = """
import asyncio, hashlib, ikeclient
from ikeclient.errors import AuthenticationFailed

async def main():
    seen = []
    async with ikeclient.open("work") as tunnel:
        async def listen():
            async for event in tunnel.events():
                seen.append(event["event"])
        listening = asyncio.create_task(listen())
        reader, writer = await tunnel.open_connection("corp.example", 80)
        writer.write(b"GET /blob HTTP/1.0\\r\\n\\r\\n")
        writer.write_eof()
        body = (await reader.read()).partition(b"\\r\\n\\r\\n")[2]
        print(hashlib.sha256(body).hexdigest())
        writer.close()
        await writer.wait_closed()
        try:
            await tunnel.open_connection("corp.example", 9)
        except ConnectionRefusedError:
            print("refused")
        tunnel.reconnect()
        while "connected" not in seen:
            await asyncio.sleep(0.05)
        again, writer = await tunnel.open_connection("corp.example", 80)
        writer.write(b"GET /peer HTTP/1.0\\r\\n\\r\\n")
        print((await again.read()).splitlines()[-1].decode())
        writer.close()
        left, _ = await tunnel.open_connection("corp.example", 80)
    await listening
    try:
        await left.read()
        print("ended")
    except ConnectionError:
        print("reset")
    print(seen[-1])
    try:
        await tunnel.open_connection("corp.example", 80)
    except OSError as error:
        print(error.strerror)
    try:
        async with ikeclient.open("work", overrides=['auth.identity="mallory@example.org"']):
            pass
    except AuthenticationFailed as error:
        print("exit", error.exit_code)

asyncio.run(main())
"""

CLIENT = """
import asyncio, sys, threading, time
from ikeclient import client
from ikeclient.errors import NoSuchTunnel

def blocking():
    (name,) = client.list_tunnels()
    print(name, client.status(name).state, client.status(name).mode)
    with client.events(name) as events:
        client.reconnect(name)
        print(next(events)["event"], next(event["event"] for event in events if event["event"] == "connected"))

async def main():
    (name,) = await client.list_async()
    status = await client.status_async(name)
    print(name, status.state, status.mode)
    events = client.events_async(name)
    first = asyncio.create_task(anext(events))
    await asyncio.sleep(0.3)
    await client.reconnect_async(name)
    print((await first)["event"], end=" ")
    async for event in events:
        if event["event"] == "connected":
            print("connected", await client.disconnect_async(name), await client.list_async())
    print(event["event"])

async def leave():
    (name,) = await client.list_async()
    first = asyncio.create_task(anext(client.events_async(name)))
    await asyncio.sleep(0.3)
    first.cancel()

blocking()
asyncio.run(leave())  # a thread of it that still listened would find no loop
asyncio.run(main())
try:
    client.events("work")
except NoSuchTunnel:
    print(client.list_tunnels())
while threading.active_count() > 1:
    time.sleep(0.01)
"""


@pytest.fixture
def person(person: Person) -> Person:
    """Without a device node."""
    person.machine.hide("/dev/net")
    return person


def run(person: Person, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (*ORDINARY, *IN_CONTAINER, sys.executable, "-W", "error", *arguments)
    return person.machine.run(*command, check=False, env=person.environment, timeout=60)


def test_the_example_of_the_documentation_runs(lab: Lab, person: Person, tmp_path: Path) -> None:
    machine = lab.network.client
    machine.run("sh", "-c", f"echo alice:x:{UID}:{UID}::{HOME}:/bin/sh >>/etc/passwd")
    machine.run(*ORDINARY, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{HOME}/key", env=person.environment)
    serve_ssh(lab.network.gateway, machine.read_file(f"{HOME}/key.pub"), tmp_path)
    done = run(person, str(EXAMPLE), "work", "corp.example", "root", f"{HOME}/key")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert INSIDE_IPV4 in lines[0]
    assert lines[1].startswith("echo in ")
    assert lines[2] in ("streams: 10.88.0.1", "streams: fd88::1")
    assert lines[3] in ("httpx: 200 10.88.0.1", "httpx: 200 fd88::1")
    assert lines[4:] == ["asyncssh: there", "connected stack"]


def test_a_program_sees_what_sockets_would_show_it(lab: Lab, person: Person) -> None:
    done = run(person, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.replace("fd88::1", "10.88.0.1").splitlines()
    assert first == lab.servers.sha256
    assert rest == [
        "refused",
        "10.88.0.1",
        "reset",
        "disconnected",
        "the tunnel is not open",
        "exit 4",
    ]


def test_a_program_asks_a_tunnel_that_runs(lab: Lab, person: Person) -> None:
    """`ikeclient.client`, blocking and not: what there is, how it is, what happens to it, and its end."""
    with running(person, "--socks", "0", "--stack") as proxy:
        proxy.wait("connected")
        done = run(person, "-c", CLIENT)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            *("work connected stack", "reconnecting connected"),
            *("work connected stack", "reconnecting connected True []", "disconnected", "[]"),
        ]
