"""Virtual cables are ready some time after both ends are up; tests of the network wait for that."""

from __future__ import annotations

import time

from ikeclient.net.watch.netlink import Netlink


def wait_until_working(*names: str) -> None:
    """Wait until the interfaces of the calling thread's namespace have a carrier and are ready."""
    deadline = time.monotonic() + 10
    kernel = Netlink()
    try:
        while not set(names) <= {found.name for found in kernel.snapshot().interfaces if found.working}:
            assert time.monotonic() < deadline, f"not ready: {names}"
            time.sleep(0.005)
    finally:
        kernel.close()
