"""A program that has the inner end of a tunnel in its own process: what users of the stack are made of.

It reads commands as JSON lines from standard input, each a list of a number, a word and arguments, and writes events of
the tunnel and the answers as they come.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ikeclient.control.client import runtime_directory
from ikeclient.dataplane.async_host import AsyncHost, Connection
from ikeclient.errors import IkeclientError
from ikeclient.process.profile_source import ProfileSource
from ikeclient.process.run_in_stack import StackTunnel, run_in_stack
from ikeclient.tunnel.options import ConnectOptions

_CHUNK = 1 << 18


def tell(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


async def _request(host: AsyncHost, name: str, head: str) -> Connection:
    connection = await host.open_connection((await host.resolve(name))[0], 80)
    await connection.write(f"{head}\r\nHost: {name}\r\n".encode())
    return connection


async def _answer(connection: Connection) -> bytes:
    """The body of an answer that ends with the connection."""
    answer = bytearray()
    while data := await connection.read():
        answer += data
    connection.close()
    return bytes(answer.partition(b"\r\n\r\n")[2])


async def get(host: AsyncHost, name: str, path: str) -> dict[str, Any]:
    """The hash and the size of what a web server has there."""
    begun = time.monotonic()
    connection = await _request(host, name, f"GET {path} HTTP/1.0")
    await connection.write(b"\r\n")
    body = await _answer(connection)
    text = body.decode(errors="replace") if len(body) < 100 else None
    return {
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": len(body),
        "seconds": time.monotonic() - begun,
        "text": text,
        "from": connection.own[0],
    }


async def put(host: AsyncHost, name: str, size: int, seconds: float = 0.0) -> dict[str, Any]:
    """Whether the server got what was sent to it, over so many seconds."""
    begun = time.monotonic()
    connection = await _request(host, name, "PUT /sink HTTP/1.0")
    await connection.write(f"Content-Length: {size}\r\n\r\n".encode())
    digest, left, chunk = hashlib.sha256(), size, os.urandom(_CHUNK)
    while left:
        part = chunk[: min(left, _CHUNK)]
        digest.update(part)
        await connection.write(part)
        left -= len(part)
        await asyncio.sleep(seconds * len(part) / size if seconds else 0)
    same = (await _answer(connection)).decode() == digest.hexdigest()
    return {"same": same, "seconds": time.monotonic() - begun}


def _pieces(size: int) -> Iterator[bytes]:
    """So many bytes of which no two pieces are the same."""
    chunk = os.urandom(_CHUNK - 8)
    for at in range(0, size, _CHUNK):
        yield (at.to_bytes(8, "big") + chunk)[: size - at]


async def echo(host: AsyncHost, address: str, port: int, size: int, pause: float = 0.0) -> dict[str, Any]:
    """Whether a server gives back what it is sent, and ends after we have: both ways at once, each ended by itself.

    Nothing is read during the `pause`; `held` is how much was sent by its end.
    """
    connection = await host.open_connection(address, port)
    sent, heard, count = hashlib.sha256(), hashlib.sha256(), 0

    async def pour() -> None:
        nonlocal count
        for piece in _pieces(size):
            sent.update(piece)
            await connection.write(piece)
            count += len(piece)
        connection.shutdown()

    async with asyncio.TaskGroup() as group:
        group.create_task(pour())
        await asyncio.sleep(pause)
        held = count
        while data := await connection.read():
            heard.update(data)
    connection.close()
    return {"same": sent.digest() == heard.digest(), "held": held}


async def many(host: AsyncHost, address: str, port: int, count: int) -> int:
    """How many of so many connections that are open at the same time give back what each of them was sent."""
    connections = await asyncio.gather(*(host.open_connection(address, port) for _ in range(count)))

    async def one(connection: Connection, said: bytes) -> bool:
        await connection.write(said)
        connection.shutdown()
        heard = b""
        while data := await connection.read():
            heard += data
        connection.close()
        return heard == said

    return sum(await asyncio.gather(*(one(each, b"%d " % n * 200) for n, each in enumerate(connections))))


async def hear(host: AsyncHost, address: str, port: int) -> str:
    """What a server says before it ends."""
    connection = await host.open_connection(address, port)
    heard = b""
    while data := await connection.read():
        heard += data
    return heard.decode()


async def leave(host: AsyncHost, address: str, port: int) -> None:
    """Reset a connection, once the server has answered."""
    connection = await host.open_connection(address, port)
    await connection.write(b"hello")
    await connection.read()
    connection.abort()


async def mtu(host: AsyncHost, address: str) -> int:
    """The longest packet to an address, as far as is known."""
    return host.host.mtu(ip_address(address).packed)


async def udp(host: AsyncHost, address: str, size: int) -> bool:
    """Whether a datagram comes back as it was sent."""
    datagrams, data = host.open_udp(peer=(address, 7)), os.urandom(size)
    try:
        datagrams.send(data)
        async with asyncio.timeout(5):
            return (await datagrams.read())[0] == data
    finally:
        datagrams.close()


async def ping(host: AsyncHost, address: str, size: int = 56) -> bool:
    return (await host.ping(address, patience=5.0, size=size)).round_trip is not None


async def resolve(host: AsyncHost, name: str) -> list[str]:
    return await host.resolve(name)


COMMANDS = {each.__name__: each for each in (get, put, echo, many, hear, leave, mtu, udp, ping, resolve)}


async def _carry_out(host: AsyncHost, number: int, word: str, *arguments: Any) -> None:
    try:
        async with asyncio.timeout(500):
            tell({"number": number, "result": await COMMANDS[word](host, *arguments)})
    except OSError as error:
        tell({"number": number, "error": str(error), "errno": error.errno})


async def use(tunnel: StackTunnel) -> None:
    """Carry out what is asked until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        while line := await reader.readline():
            group.create_task(_carry_out(tunnel.host, *json.loads(line)))


def main(profile: str) -> None:
    source = ProfileSource(profile, [])
    compiled = source.read()
    options = ConnectOptions(
        name=compiled.name, timeout=30.0, keylog=None, runtime_directory=Path(runtime_directory()), reread=source.read
    )
    try:
        run_in_stack(compiled, options, tell, use)
    except IkeclientError as error:
        tell({"event": "ended", "lines": error.lines()})
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
