"""Fragments of packets, put together within a budget (RFC 791 section 3.2, RFC 8200 section 4.5, RFC 5722).

Whoever sends fragments makes us keep bytes for packets that may never be whole. So there is a bound on packets, on
those of one sender, on bytes and on time; the oldest packet gives way. Fragments that overlap make no packet: no honest
sender makes them, and which bytes count would depend on who looks (RFC 5722). A repeated one changes nothing.
"""

from __future__ import annotations

from dataclasses import field

from ikeclient.esp.packet.ecn import CE, NOT_ECT
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.ip.header import LONGEST

TIMEOUT = 30.0  # seconds after a packet's first fragment (RFC 791; RFC 8200 allows twice as long)
MOST_PACKETS = 64
MOST_OF_A_SENDER = 16
MOST_BYTES = 1 << 20
_MOST_PARTS = 128  # of one packet: 64 KiB through a path MTU of 576
_COST = 256  # bytes that are counted for a part beyond its own

Key = tuple[bytes, bytes, int, bytes]  # source, destination, protocol, identification


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """A part of a packet: its bytes and their place behind the header."""

    key: Key
    at: int
    more: bool
    data: bytes
    tos: int


@dataclass(slots=True, eq=False)
class _Partial:
    expires: float
    parts: dict[int, bytes] = field(default_factory=dict)
    length: int | None = None  # known once the last fragment is here
    here: int = 0  # bytes
    marks: set[int] = field(default_factory=set)  # ECN
    spoilt: bool = False  # what comes of it is thrown away until it expires


class Reassembly:
    """The packets of which parts are here."""

    def __init__(self) -> None:
        self._partial: dict[Key, _Partial] = {}  # the oldest first
        self._senders: dict[bytes, int] = {}
        self._bytes = 0

    def add(self, fragment: Fragment, now: float) -> tuple[bytes, int] | None:
        """Take a fragment; returns the bytes behind the header of a packet that is whole now, and its TOS octet."""
        end = fragment.at + len(fragment.data)
        if end > LONGEST or (fragment.more and (len(fragment.data) % 8 or not fragment.data)):
            return None
        partial = self._partial.get(fragment.key)
        if partial is None:
            partial = self._begin(fragment.key, now)
        if partial.spoilt:
            return None
        if not self._fits(partial, fragment, end):
            self._spoil(partial)
            return None
        if fragment.at in partial.parts:
            return None
        partial.parts[fragment.at] = fragment.data
        partial.here += len(fragment.data)
        partial.marks.add(fragment.tos & 3)
        self._bytes += len(fragment.data) + _COST
        if not fragment.more:
            partial.length = end
        if partial.length != partial.here:
            while self._bytes > MOST_BYTES:
                self._forget(next(iter(self._partial)))
            return None
        self._forget(fragment.key)
        tos = fragment.tos
        if CE in partial.marks:  # RFC 3168 section 5.3
            if NOT_ECT in partial.marks:
                return None
            tos |= CE
        return b"".join(data for _, data in sorted(partial.parts.items())), tos

    def deadline(self) -> float | None:
        """When the oldest packet is given up."""
        oldest = next(iter(self._partial.values()), None)
        return oldest.expires if oldest is not None else None

    def expire(self, now: float) -> None:
        """Give up what has waited too long."""
        for key in [key for key, partial in self._partial.items() if partial.expires <= now]:
            self._forget(key)

    def clear(self) -> None:
        """Give up everything."""
        self._partial.clear()
        self._senders.clear()
        self._bytes = 0

    def _begin(self, key: Key, now: float) -> _Partial:
        sender = key[0]
        if self._senders.get(sender, 0) >= MOST_OF_A_SENDER:
            self._forget(next(other for other in self._partial if other[0] == sender))
        elif len(self._partial) >= MOST_PACKETS:
            self._forget(next(iter(self._partial)))
        partial = self._partial[key] = _Partial(now + TIMEOUT)
        self._senders[sender] = self._senders.get(sender, 0) + 1
        return partial

    def _forget(self, key: Key) -> None:
        partial = self._partial.pop(key)
        self._bytes -= partial.here + _COST * len(partial.parts)
        sender = key[0]
        self._senders[sender] -= 1
        if not self._senders[sender]:
            del self._senders[sender]

    def _spoil(self, partial: _Partial) -> None:
        self._bytes -= partial.here + _COST * len(partial.parts)
        partial.parts.clear()
        partial.here, partial.spoilt = 0, True

    @staticmethod
    def _fits(partial: _Partial, fragment: Fragment, end: int) -> bool:
        """Whether a fragment overlaps none that is here, but for one that is the same, and ends where it may."""
        same = partial.parts.get(fragment.at)
        if same is not None:
            return same == fragment.data
        if len(partial.parts) >= _MOST_PARTS:
            return False
        if partial.length is not None and (end > partial.length or not fragment.more):
            return False
        if not fragment.more and any(at + len(data) > end for at, data in partial.parts.items()):
            return False
        return all(end <= at or at + len(data) <= fragment.at for at, data in partial.parts.items())
