"""Which user of this machine is at the other end of a connection, by the word of the kernel (sock_diag(7)).

A loopback address says nothing about who connects from it. Any user may ask for the owner of a socket, but only about
the network that the question's own socket was made in, so that is made beside the listeners.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv6Address, ip_address

_NETLINK_SOCK_DIAG, _BY_FAMILY = 4, 20  # linux/netlink.h, linux/sock_diag.h
_REQUEST, _ANY = 1, 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port ID
_QUERY = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_ANSWER = struct.Struct("=4x48x12xII")  # of struct inet_diag_msg: uid and inode

Peer = int | str  # a user's number, or an address


class Peers:
    """Asks the kernel about connections in the network that `open` was called in."""

    def __init__(self, diagnosis: socket.socket | None) -> None:
        self._diagnosis = diagnosis
        self._sequence = 0

    @classmethod
    def open(cls) -> Peers:
        """For the present network. Where the kernel does not answer such questions, addresses have to do."""
        with contextlib.suppress(OSError):
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
            made.setblocking(False)
            return cls(made)
        return cls(None)

    def of(self, connection: socket.socket) -> Peer:
        """The user at the other end, or the address if that is not on this machine."""
        try:
            theirs, ours = connection.getpeername(), connection.getsockname()
        except OSError:  # it is gone already
            return ""
        user = self._user(connection.family, theirs, ours)
        return str(theirs[0]) if user is None else user

    def _user(self, family: int, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
        """Whose socket is bound to `theirs` and connected to `ours`; None if there is none, or nobody's any more."""
        if self._diagnosis is None:
            return None
        self._sequence = (self._sequence + 1) & _ANY
        query = (
            _QUERY.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY)
            + struct.pack("!HH", theirs[1], ours[1])
            + _packed(theirs[0])
            + _packed(ours[0])
            + struct.pack("=III", 0, _ANY, _ANY)
        )
        header = _HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST, self._sequence, 0)
        try:
            self._diagnosis.send(header + query)
            while True:
                answer = self._diagnosis.recv(4096)
                _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
                if sequence == self._sequence:
                    break
            if kind != _BY_FAMILY:
                return None
            user, inode = _ANSWER.unpack_from(answer, _HEADER.size)
        except (OSError, struct.error):
            return None
        return user if inode else None

    def close(self) -> None:
        """Ask no more."""
        if self._diagnosis is not None:
            self._diagnosis.close()


def _packed(host: str) -> bytes:
    address = ip_address(host.partition("%")[0])
    return address.packed if isinstance(address, IPv6Address) else address.packed.ljust(16, b"\0")
