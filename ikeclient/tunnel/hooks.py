"""The profile's `up` and `down` commands: argument lists, no shell, a bounded run time and a small environment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from ikeclient.tunnel.status import Status

TIMEOUT = 30.0
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(status: Status, reason: str) -> dict[str, str]:
    """What a hook sees: nothing of ours but PATH and the IKECLIENT_ variables, all of them free of secrets."""
    configuration = status.configuration
    return {
        "PATH": SEARCH_PATH,
        "IKECLIENT_REASON": reason,
        "IKECLIENT_NAME": status.name,
        "IKECLIENT_INTERFACE": status.interface or "",
        "IKECLIENT_GATEWAY": str(status.path.remote_address) if status.path else "",
        "IKECLIENT_ADDRESSES": " ".join(str(address) for address in configuration.addresses),
        "IKECLIENT_DNS_SERVERS": " ".join(status.dns_servers),
        "IKECLIENT_DNS_DOMAINS": " ".join(status.dns_domains),
        "IKECLIENT_ROUTES": " ".join(status.routes),
        "IKECLIENT_MTU": str(status.mtu),
    }


async def run_hooks(commands: Sequence[Sequence[str]], status: Status, reason: str, directory: Path) -> list[str]:
    """Run each command in turn; returns a warning for each that failed, which is their only effect on the tunnel."""
    warnings = []
    for command in commands:
        problem = await _run(command, environment(status, reason), directory)
        if problem:
            warnings.append(f"{reason} command {command[0]!r} {problem}")
    return warnings


async def _run(command: Sequence[str], variables: dict[str, str], directory: Path) -> str | None:
    null = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=null, stdout=null, stderr=null, env=variables, cwd=directory, start_new_session=True
        )
    except OSError as error:
        return f"cannot run: {error.strerror}"
    try:
        status = await asyncio.wait_for(process.wait(), TIMEOUT)
    except TimeoutError:
        return f"was stopped after {TIMEOUT:.0f} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with everything that it started
            await process.wait()
    return f"ended with status {status}" if status else None
