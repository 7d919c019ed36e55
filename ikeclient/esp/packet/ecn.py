"""Explicit congestion notification: what the outer header says to the inner one (RFC 6040 section 4.2).

On the way out the outer header is a copy of the inner one (RFC 6040 section 4.1, RFC 2983 section 3: the uniform
model), so that routers on the path treat a tunnelled packet as they would treat what is inside.

A router that works marks only what is ECN-capable, so that CE around a packet that is not is an error, for which the
RFC wants the packet dropped. Some boxes set both bits on everything that passes, and then nothing at all would come
out of the tunnel. So where every packet that arrives is marked, the marks mean nothing and are ignored.
"""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.esp.codec.sums import Writable, fold, get16

NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
MARKS = (ECT1, CE)  # outer fields that may change the inner one


MEANINGLESS_AFTER = 3  # packets lost to CE although not ECN-capable, while nothing came without CE


class PathMarks:
    """What the marks of the path are worth, as all SAs on it have seen; `losses` counts them since the last without CE.

    `meaningless` is called whenever the marks begin to be ignored.
    """

    __slots__ = ("_meaningless", "losses")

    def __init__(self, meaningless: Callable[[], None] = lambda: None) -> None:
        self.losses = 0
        self._meaningless = meaningless

    @property
    def ignored(self) -> bool:
        """Whether every packet is marked, whatever it is."""
        return self.losses >= MEANINGLESS_AFTER

    def reset(self) -> None:
        """A genuine packet came without CE, or there is another path."""
        self.losses = 0

    def decapsulate(self, outer: int, text: Writable) -> bool:
        """As the function of that name; changes nothing and drops nothing while marks are ignored."""
        if self.ignored or decapsulate(outer, text):
            return True
        self.losses += 1
        if self.ignored:
            self._meaningless()
        return False


def decapsulate(outer: int, text: Writable) -> bool:
    """Write into an inner packet what routers said on the way; false where the packet must be dropped.

    `outer` is the outer ECN field. Raises nothing; what is no IP header is left alone.
    """
    if len(text) < 20:
        return True
    shift = 0 if text[0] >> 4 == 4 else 4
    inner = text[1] >> shift & 3
    if outer == CE:
        if inner == NOT_ECT:
            return False
        new = CE
    elif outer == ECT1 and inner == ECT0:
        new = ECT1
    else:
        return True
    before = get16(text, 0)
    text[1] = text[1] & ~(3 << shift) | new << shift
    if shift == 0:  # RFC 1624 equation 3
        check = fold((get16(text, 10) ^ 0xFFFF) + (before ^ 0xFFFF) + get16(text, 0)) ^ 0xFFFF
        text[10], text[11] = check >> 8, check & 0xFF
    return True
