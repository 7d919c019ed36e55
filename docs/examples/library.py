"""Through a tunnel of this program's own: names, echoes, streams, HTTP with httpx and SSH with asyncssh.

pip install httpx asyncssh
python library.py work git.corp.example alice ~/.ssh/id_ed25519
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterable
from typing import Any

import asyncssh
import httpcore
import httpx

import ikeclient


class TunnelStream(httpcore.AsyncNetworkStream):
    """A connection through a tunnel, as httpcore wants it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's words
        """Read some."""
        async with asyncio.timeout(timeout):
            return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write all."""
        self._writer.write(buffer)
        async with asyncio.timeout(timeout):
            await self._writer.drain()

    async def aclose(self) -> None:
        """Close it."""
        self._writer.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Go on with TLS."""
        async with asyncio.timeout(timeout):
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        return self


class TunnelBackend(httpcore.AsyncNetworkBackend):
    """Connections of httpx through a tunnel."""

    def __init__(self, tunnel: ikeclient.Tunnel) -> None:
        self._tunnel = tunnel

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Connect."""
        async with asyncio.timeout(timeout):
            return TunnelStream(*await self._tunnel.open_connection(host, port))


def through(tunnel: ikeclient.Tunnel) -> httpx.AsyncClient:
    """Return an httpx client whose every connection goes through the tunnel."""
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=TunnelBackend(tunnel)
    )
    return httpx.AsyncClient(transport=transport, trust_env=False)


async def main(profile: str, host: str, user: str, key: str) -> None:
    """Show each once."""
    async with ikeclient.open(profile) as tunnel:
        print("addresses of", host, await tunnel.resolve(host))
        print("echo in", round(1000 * await tunnel.ping(host), 1), "ms")

        reader, writer = await tunnel.open_connection(host, 80)
        writer.write(f"GET /peer HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        print("streams:", (await reader.read()).splitlines()[-1].decode())
        writer.close()

        async with through(tunnel) as client:
            answer = await client.get(f"http://{host}/peer")
            print("httpx:", answer.status_code, answer.text)

        sock = await tunnel.create_connection((host, 22))
        login = {"username": user, "client_keys": [key], "server_host_key_algs": ["ssh-ed25519"]}
        async with asyncssh.connect(host, sock=sock, known_hosts=None, **login) as remote:  # None: any host key
            print("asyncssh:", str((await remote.run("echo there")).stdout).strip())
        print(tunnel.status().state, tunnel.status().mode)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
