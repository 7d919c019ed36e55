"""Resets for segments that belong to no connection (RFC 9293 section 3.10.7.1)."""

from __future__ import annotations

from ikeclient.stack.interfaces import Outlet
from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.segment import ACK, RST, Segment

_MOST = 64  # that wait to be sent; the rest of a flood gets no answer


class Refusals:
    """Those that wait to be sent: flow, sequence number, acknowledgment and flags."""

    queued = True
    __slots__ = ("_outlet", "_queued", "_waiting")

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._queued = False
        self._waiting: list[tuple[bytes, int, int, int]] = []

    def refuse(self, key: bytes, segment: Segment) -> None:
        """Answer this segment, unless it is a RST."""
        if segment.flags & RST or len(self._waiting) >= _MOST:
            return
        if segment.flags & ACK:
            self._waiting.append((key, segment.acknowledgment, 0, RST))
        else:
            self._waiting.append((key, 0, segment.sequence + segment.length, RST | ACK))
        if not self._queued:
            self._queued = True
            self._outlet.ready(self)

    def fill(self, frame: memoryview, now: float) -> int:  # noqa: ARG002 - as `stack.interfaces.Sends`
        """Write one."""
        if not self._waiting:
            self._queued = False
            return 0
        key, sequence, acknowledgment, flags = self._waiting.pop(0)
        return Flow(key).write(frame, sequence, acknowledgment, flags, 0)
