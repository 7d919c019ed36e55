"""What the inner MTU means for packets: how long they may be, and which TCP segments fit."""

from __future__ import annotations

from ikeclient.esp.sa.mtu import interface_mtu, segment_sizes

_DEFAULT_MTU = 65535


class Limits:
    """The limits of one tunnel, shared by its fast path and its slow path.

    - `mtu`: the longest inner packet in bytes.
    - `longest`: the same by IP version: IPv6 packets of up to 1280 bytes pass in any case (RFC 8200 section 5).
    - `segments`: what the MSS is lowered to, over IPv4 and over IPv6; None if SYNs are left alone.
    """

    __slots__ = ("_clamp", "longest", "mtu", "segments")

    def __init__(self, *, clamp_mss: bool) -> None:
        self._clamp = clamp_mss
        self.segments: tuple[int, int] | None = None
        self.set_mtu(_DEFAULT_MTU)

    def set_mtu(self, inner: int) -> None:
        """Set the longest inner packet in bytes."""
        self.mtu = inner
        self.longest = {4: inner, 6: interface_mtu(inner, ipv6=True)}
        if self._clamp:
            self.segments = segment_sizes(inner)
