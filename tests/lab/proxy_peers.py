"""Peers of a proxy, run as programs in a machine of the lab: a server behind the gateway, and clients.

serve PORT                      an echo server, on the next port one of bulk data, and on the one after one that resets
many PROXY COUNT HOST PORT      that many SOCKS connections at once, each with bytes of its own to echo; PROXY 0: direct
bulk PROXY HOST PORT MEGABYTES  receive, and print rate and hash; likewise
datagram PROXY HOST PORT DATA [TRIES]   one datagram through UDP ASSOCIATE, data and answer in hexadecimal
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.machines import Machine

PIECE = bytes(range(251)) * 4177  # about a megabyte in which a shift by a buffer's size shows
MEGABYTE = 1 << 20
PATIENCE = 60.0
_ADDRESS = {1: 6, 4: 18}  # bytes with the port, by type


def start_peers(machine: Machine, port: int = 9000) -> None:
    """Start `serve` in a machine, ready when this returns."""
    import subprocess

    process = machine.start(sys.executable, __file__, "serve", str(port), stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise RuntimeError("the peers did not start")


def bulk_hash(megabytes: int) -> str:
    """The hash of what the bulk server sends."""
    hashed = hashlib.sha256()
    left = megabytes * MEGABYTE
    while left > 0:
        hashed.update(PIECE[:left])
        left -= len(PIECE)
    return hashed.hexdigest()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _bulk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    left = int(await reader.readline()) * MEGABYTE
    while left > 0:
        writer.write(PIECE[:left])
        await writer.drain()
        left -= len(PIECE)
    writer.close()


async def _reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def _serve(port: int) -> None:
    for number, serve in enumerate((_echo, _bulk, _reset), port):
        await asyncio.start_server(serve, None, number, backlog=2048)
    print("ready", flush=True)
    await asyncio.Event().wait()


def _request(command: int, host: str, port: int) -> bytes:
    return b"\x05\x01\x00" + bytes((5, command, 0, 3, len(host))) + host.encode() + port.to_bytes(2, "big")


def _exactly(connection: socket.socket, length: int) -> bytes:
    with connection.makefile("rb", buffering=0) as stream:
        received = b""
        while len(received) < length:
            received += stream.read(length - len(received)) or sys.exit("the proxy has hung up")
        return received


def _be_connected(connection: socket.socket) -> bytes:
    """Read the answers to greeting and request; the address in the second."""
    reply = _exactly(connection, 6)
    if reply[3]:
        sys.exit(f"the proxy replies {reply[3]}")
    return _exactly(connection, _ADDRESS[reply[5]])


async def _one(proxy: int, host: str, port: int, number: int, all_there: asyncio.Barrier) -> bool:
    ready = True
    if proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy)
        writer.write(_request(1, host, port))
        reply = await reader.readexactly(6)
        ready = reply[3] == 0
        await reader.readexactly(_ADDRESS[reply[5]])
    else:
        reader, writer = await asyncio.open_connection(host, port)
    await all_there.wait()  # so that they exist at the same time
    mine = b"%08d" % number * 500
    writer.write(mine)
    writer.write_eof()
    answer = await reader.read(-1)
    writer.close()
    return ready and answer == mine


async def _many(proxy: int, count: int, host: str, port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        all_there = asyncio.Barrier(count)
        results = await asyncio.gather(*(_one(proxy, host, port, i, all_there) for i in range(count)))
    print(sum(results))


def _receive_bulk(proxy: int, host: str, port: int, megabytes: int) -> None:
    if proxy:
        connection = socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE)
        connection.sendall(_request(1, host, port))
        _be_connected(connection)
    else:
        connection = socket.create_connection((host, port), timeout=PATIENCE)
    hashed, buffer = hashlib.sha256(), memoryview(bytearray(MEGABYTE))
    began = time.monotonic()
    connection.sendall(b"%d\n" % megabytes)
    while count := connection.recv_into(buffer):
        hashed.update(buffer[:count])
    seconds = time.monotonic() - began
    print(f"{megabytes * MEGABYTE * 8 / seconds / 1e6:.0f} {hashed.hexdigest()}")


def _datagram(proxy: int, host: str, port: int, data: bytes, tries: int = 20) -> None:
    control = socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE)
    control.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
    address = _be_connected(control)
    relay = (socket.inet_ntoa(address[:4]), int.from_bytes(address[4:], "big"))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(1.0)
    for _ in range(tries):  # datagrams may be lost
        client.sendto(b"\0\0\0" + _request(1, host, port)[6:] + data, relay)
        try:
            print(client.recv(65535).hex())
        except TimeoutError:
            continue
        return


def _main(arguments: list[str]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match arguments:
        case ["serve", port]:
            asyncio.run(_serve(int(port)))
        case ["many", proxy, count, host, port]:
            asyncio.run(_many(int(proxy), int(count), host, int(port)))
        case ["bulk", proxy, host, port, megabytes]:
            _receive_bulk(int(proxy), host, int(port), int(megabytes))
        case ["datagram", proxy, host, port, data, *tries]:
            _datagram(int(proxy), host, int(port), bytes.fromhex(data), *map(int, tries))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    _main(sys.argv[1:])
