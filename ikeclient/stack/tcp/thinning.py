"""Acknowledgements that the next one makes unnecessary: a burst of them costs as much as the last.

A peer that gets our data in single packets acknowledges every second one, which is twenty times for each super-segment
of ours. What arrives in one go is looked at together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ikeclient.stack.interfaces import Data
from ikeclient.stack.tcp.sequence import HALF, MASK

_TCP = 6
_PLAIN = b"\x80\x10"  # a header of 32 bytes, and nothing but ACK: no ECE, and no end
_STAMPED = b"\x01\x01\x08\x0a"  # so there is no SACK block
# By the length of the frame: version, where the protocol is, from where to where both must be the same (addresses,
# ports and sequence number), and where the acknowledgment begins, which flags and window follow.
_LAYOUTS = {62: (0x45, 19, 22, 38, 38), 82: (0x60, 16, 18, 58, 58)}


def thinned(frames: Sequence[Data]) -> Iterator[Data]:
    """The frames without those that the next one supersedes."""
    last: Data | None = None
    for frame in frames:
        if last is not None and not (len(last) == len(frame) and _is_superseded(last, frame)):
            yield last
        last = frame
    if last is not None:
        yield last


def _is_superseded(frame: Data, following: Data) -> bool:
    """Whether the frame is an acknowledgement that says nothing that the following one does not say, too."""
    layout = _LAYOUTS.get(len(frame))
    if layout is None:
        return False
    frame, following = bytes(frame), bytes(following)
    version, protocol, start, end, at = layout
    if frame[10] != version or frame[protocol] != _TCP or frame[start:end] != following[start:end]:
        return False
    if frame[at + 4 : at + 6] != _PLAIN or following[at + 4 : at + 6] != _PLAIN or frame[10:12] != following[10:12]:
        return False
    if frame[at + 12 : at + 16] != _STAMPED or following[at + 12 : at + 16] != _STAMPED:
        return False
    distance = int.from_bytes(following[at : at + 4], "big") - int.from_bytes(frame[at : at + 4], "big") & MASK
    return 0 < distance < HALF
