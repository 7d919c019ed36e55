"""`block`: close the machine as the kill switch of a profile does, before there is a tunnel or a network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ikeclient.control.client import running_pid
from ikeclient.control.directory import prepare, system_directories
from ikeclient.errors import UsageError
from ikeclient.ipc.fork import daemonise, fork
from ikeclient.net.block.store import Blocks, now
from ikeclient.process.helper.block_keeper import BlockKeeper
from ikeclient.process.helper.messages import Blocked
from ikeclient.process.kill_switch import first_request
from ikeclient.profile.compile import network_settings
from ikeclient.profile.load.load import load_profile


def close(reference: str, directory: Path) -> tuple[str, Blocked]:
    """Close the machine for a profile; returns its name and what is in force. Raises IkeclientError."""
    loaded = load_profile(reference)
    if not loaded.profile.session.kill_switch:
        raise UsageError(
            f"the profile {loaded.name} has no kill switch",
            hint="set [session] kill_switch = true, then `ikeclient block` closes before `connect` does",
        )
    prepare(directory)
    if running_pid(loaded.name, directory) is not None:
        raise UsageError(f"tunnel '{loaded.name}' is running", reason="it keeps closed what is to be closed")
    request = first_request(network_settings(loaded.profile), wanted=True)
    return loaded.name, BlockKeeper(directory, loaded.name).close(request)


def close_after(directories: Sequence[Path], seconds: int) -> None:
    """Leave a process behind that closes again; the firewall does so by itself, and a living tunnel's helper too."""

    def wait() -> int:
        daemonise()
        end = now() + seconds
        while (left := end - now()) > 0:
            time.sleep(min(left + 0.01, 5.0))  # by a clock that counts the machine's sleep, unlike this call
        for directory in directories:
            Blocks(directory, system_directories).uphold()
        return 0

    fork(wait)
