"""What routers and our own kernel say about a path: the socket's error queue (IP_RECVERR), made into hints.

ICMP can be forged by anybody who knows the end points, so a hint is counted, reported at most once a second and kind,
and never stops anything.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from struct import Struct
from typing import Literal

from ikeclient.lazy_dataclass import dataclass

ErrorKind = Literal["refused", "unreachable", "too-big", "not-permitted", "other"]

IP_RECVERR, IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_INTERVAL = 1.0
_MAX_QUEUED = 16
_extended_error = Struct("=IBBBxII").unpack_from  # struct sock_extended_err

_MINIMUM_MTU = {4: 576, 6: 1280}  # smaller reports are forged or useless (N24)

_KINDS: dict[int, ErrorKind] = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EMSGSIZE: "too-big",
    errno.EPERM: "not-permitted",
    errno.EACCES: "not-permitted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHint:
    """Something an unauthenticated party or our own kernel says about the path. Not a fact, never a verdict.

    `mtu` is set for `too-big`: the reported MTU of the path in bytes, at least the minimum of the IP version.
    `suppressed` counts the hints of this kind that were held back since the last one.
    """

    kind: ErrorKind
    errno: int
    mtu: int | None = None
    suppressed: int = 0


class Hints:
    """Reports what is heard about the path of one socket of IP version `version` to `listener`, if there is one."""

    def __init__(self, version: int, listener: Callable[[PathHint], None] | None, clock: Callable[[], float]) -> None:
        self._version = version
        self._listener = listener
        self._clock = clock
        self._next: dict[ErrorKind, float] = {}
        self._suppressed: dict[ErrorKind, int] = {}

    def drain(self, source: socket.socket) -> bool:
        """Take what the socket's error queue holds and report it; false where it was empty."""
        found = False
        for _ in range(_MAX_QUEUED):
            try:
                _, ancillary, _, _ = source.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            found = True
            for level, kind, data in ancillary:
                wanted = (level, kind) in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))
                if wanted and len(data) >= 16:
                    number, _origin, _type, _code, info, _data = _extended_error(data)
                    self.report(number, info)
        return found

    def report(self, number: int, info: int | None = None) -> None:
        """Report an error number, with the MTU where one came with it."""
        kind = _KINDS.get(number, "other")
        mtu = info if kind == "too-big" and info else None
        if kind == "too-big" and (mtu is None or mtu < _MINIMUM_MTU[self._version]):
            return
        now = self._clock()
        if self._listener is None or now < self._next.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return
        self._next[kind] = now + _INTERVAL
        self._listener(PathHint(kind=kind, errno=number, mtu=mtu, suppressed=self._suppressed.pop(kind, 0)))
