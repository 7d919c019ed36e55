"""Destinations that are no way out: the network namespace that the proxy's sockets are made in.

Commands of `exec` may offer services there, on loopback or on the inner address, and trust that nobody else reaches
them. The proxy's clients may be every user of the machine.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address, ip_address

_THIS_HOST = 0  # the first octet of 0.0.0.0/8 (RFC 1122 section 3.2.1.3)


def leads_here(host: str) -> bool:
    """Whether what is sent to the address stays in this network namespace. Raises OSError if there is no telling."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return leads_here(str(address.ipv4_mapped))
    elif address.packed[0] == _THIS_HOST:
        return True
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return True
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM) as own:
        try:
            own.bind((host, 0))
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            return False
    return True
