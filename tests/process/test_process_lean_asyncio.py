"""asyncio without TLS works, and TLS can still be had."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from ikeclient.process.lean_asyncio import import_asyncio
{before}
import_asyncio()
import asyncio
import socket


async def echo():
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(b"there")
    theirs.sendall(theirs.recv(5))
    print((await reader.readexactly(5)).decode(), "ssl" in sys.modules)
    writer.close()


asyncio.run(echo())
import ssl
print(ssl.create_default_context().check_hostname)
"""


def test_streams_work_without_the_module_for_tls_which_can_be_imported_later() -> None:
    for before, loaded in (("", False), ("import ssl", True)):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM.format(before=before)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.split() == ["there", str(loaded), "True"], done.stderr
