"""TCP options (RFC 9293 section 3.2, RFC 7323, RFC 2018): from bytes and back."""

from __future__ import annotations

from struct import Struct

from ikeclient.lazy_dataclass import dataclass

MAXIMUM_SCALE = 14  # RFC 7323 section 2.3
TIMESTAMPS_LENGTH = 12  # with the padding that everybody uses

_END, _NOP, _MSS, _SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
_TIMESTAMPS_WORD = 0x0101080A
_pair = Struct(">II")
_timestamps = Struct(">III")
_MOST_BLOCKS = 4


@dataclass(slots=True, kw_only=True)
class Options:
    """What a segment carries; None or empty for what it does not. Blocks are pairs of sequence numbers."""

    mss: int | None = None
    scale: int | None = None
    sack_permitted: bool = False
    timestamps: tuple[int, int] | None = None
    blocks: tuple[tuple[int, int], ...] = ()


def parse(data: memoryview) -> Options:
    """Read options up to the first that makes no sense; unknown ones are passed over."""
    found = Options()
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == _END:
            break
        if kind == _NOP:
            at += 1
            continue
        if at + 2 > end or data[at + 1] < 2 or at + data[at + 1] > end:
            break
        length = data[at + 1]
        if kind == _TIMESTAMPS and length == 10:
            value, echo = _pair.unpack_from(data, at + 2)
            found.timestamps = value, echo
        elif kind == _SACK and length >= 10 and length % 8 == 2:
            found.blocks = tuple(_pair.iter_unpack(data[at + 2 : at + length]))[:_MOST_BLOCKS]
        elif kind == _MSS and length == 4:
            found.mss = data[at + 2] << 8 | data[at + 3]
        elif kind == _SCALE and length == 3:
            found.scale = min(data[at + 2], MAXIMUM_SCALE)
        elif kind == _SACK_PERMITTED and length == 2:
            found.sack_permitted = True
        at += length
    return found


def of_syn(mss: int, scale: int | None, sack: bool, timestamps: tuple[int, int] | None) -> bytes:
    """The options of a SYN, padded to whole words."""
    parts = [bytes((_MSS, 4)), mss.to_bytes(2, "big")]
    if timestamps is not None:
        parts.append(bytes((_SACK_PERMITTED, 2)) if sack else bytes((_NOP, _NOP)))
        parts.append(bytes((_TIMESTAMPS, 10)) + _pair.pack(*timestamps))
    elif sack:
        parts.append(bytes((_NOP, _NOP, _SACK_PERMITTED, 2)))
    if scale is not None:
        parts.append(bytes((_NOP, _SCALE, 3, scale)))
    return b"".join(parts)


def of_segment(timestamps: tuple[int, int] | None, blocks: list[tuple[int, int]]) -> bytes:
    """The options of any other segment: as many SACK blocks as there is room for."""
    text = b"" if timestamps is None else _timestamps.pack(_TIMESTAMPS_WORD, *timestamps)
    if blocks:
        blocks = blocks[: 3 if text else 4]
        text += bytes((_NOP, _NOP, _SACK, 2 + 8 * len(blocks)))
        text += b"".join(_pair.pack(*block) for block in blocks)
    return text
