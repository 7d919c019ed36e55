"""Explicit congestion notification: what the outer header says to the inner one (RFC 6040 section 4.2).

On the way out the outer header is a copy of the inner one (RFC 6040 section 4.1, RFC 2983 section 3: the uniform
model), so that routers on the path treat a tunnelled packet as they would treat what is inside.
"""

from __future__ import annotations

from ikeclient.esp.offload_sums import Writable, fold, get16

NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
MARKS = (ECT1, CE)  # outer fields that may change the inner one


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
