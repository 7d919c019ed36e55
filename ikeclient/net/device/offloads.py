"""Which of the kernel's helps for large packets are here, asked without making an interface (`net.device.vnet`,
`net.transport.udp`)."""

from __future__ import annotations

import os
import socket

from ikeclient.net.device import vnet
from ikeclient.net.rights.privileges import TUN, Fact

_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104


def describe(tun: str | os.PathLike[str] = TUN) -> list[Fact]:
    """What the fast path can count on; what is missing costs speed and nothing else."""
    found = {"TUN super-packets": _tun(tun), "UDP_SEGMENT": _udp(_UDP_SEGMENT), "UDP_GRO": _udp(_UDP_GRO)}
    present = [name for name, there in found.items() if there]
    missing = [name for name, there in found.items() if not there]
    text = ", ".join(present) or "none"
    return [Fact("offload", True, text + (f" (missing, for speed: {', '.join(missing)})" if missing else ""))]


def _tun(node: str | os.PathLike[str]) -> bool:
    try:
        fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return vnet.known(fd)
    finally:
        os.close(fd)


def _udp(option: int) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(_SOL_UDP, option, 0)
    except OSError:
        return False
    return True
