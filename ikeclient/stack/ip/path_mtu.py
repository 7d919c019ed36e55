"""What the path to each destination carries (RFC 1191, RFC 8201), as ICMP errors have said.

An error counts only after the connection it is about has recognised what it quotes, which is its owner's to say. It
lowers and never raises, not below what every path carries, and is forgotten after ten minutes.
"""

from __future__ import annotations

_LEAST4, _LEAST6 = 576, 1280  # what is below is ignored: nobody but an attacker says that (RFC 8201 section 4)
AGE = 600.0  # seconds
_MOST = 1024  # destinations; the oldest gives way


def least_mtu(destination: bytes) -> int:
    """What every path to that destination carries, as far as we believe."""
    return _LEAST4 if len(destination) == 4 else _LEAST6


class PathMtus:
    """Path MTUs by packed destination; `limit` is the device's MTU in bytes, the longest packet to anywhere."""

    def __init__(self, limit: int = 1280) -> None:
        self.limit = limit
        self._known: dict[bytes, tuple[int, float]] = {}

    def set_limit(self, limit: int) -> None:
        """The device carries packets of this length from now on."""
        self.limit = limit

    def mtu(self, destination: bytes, now: float) -> int:
        """The longest packet to a destination in bytes."""
        floor = _LEAST6 if len(destination) == 16 else 0
        limit = max(self.limit, floor)  # IPv6 packets of that length pass, fragmented outside (RFC 8200 section 5)
        if not self._known:
            return limit
        known = self._known.get(destination)
        if known is None:
            return limit
        if known[1] <= now:
            del self._known[destination]
            return limit
        return min(known[0], limit)

    def lower(self, destination: bytes, mtu: int, now: float) -> None:
        """Believe that a path carries no more than this, if that is less than what is known, and not too little."""
        if not least_mtu(destination) <= mtu < self.mtu(destination, now):
            return
        self._known.pop(destination, None)
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[destination] = mtu, now + AGE
