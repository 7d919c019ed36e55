"""What the kernel knows about the way to an address. Sends nothing: connecting a UDP socket only asks it.

`mark` must always be the one of the real socket, because rules may choose the routing table by it.
"""

from __future__ import annotations

import socket

_IP_MTU, _IPV6_MTU = 14, 24  # linux/in.h, linux/in6.h


def local_address_for(remote: str, *, port: int = 500, mark: int | None = None) -> str | None:
    """The address that the machine would send from to the numeric address `remote`; None where no route leads there."""
    family = socket.AF_INET6 if ":" in remote else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            if mark is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            pass  # then the real socket is without it, too
        try:
            probe.connect((remote, port))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def path_mtu(remote: str, *, port: int = 4500, mark: int | None = None, interface: str | None = None) -> int:
    """What the kernel knows about the MTU of the path to `remote`, in bytes: the interface's, or less after a report.

    `interface` is the one that the real socket is bound to. Returns 1500 where the kernel does not say.
    """
    version6 = ":" in remote
    with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            if mark is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if interface is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            probe.connect((remote, port))
            level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if version6 else (socket.IPPROTO_IP, _IP_MTU)
            return probe.getsockopt(level, option)
        except OSError:
            return 1500
