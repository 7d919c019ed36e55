"""What the plain segmenter and coalescer share: the ones' complement sum, and padding (RFC 1071, RFC 4303)."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview
Writable = bytearray | memoryview

PADS = tuple(bytes(range(1, n + 1)) for n in range(256))  # RFC 4303 section 2.4
_HALF, _QUARTER = 16 * 384, 16 * 192  # of a full packet, in bits: whole words, so that their sum stays the same
_LOW_HALF, _LOW_QUARTER = (1 << _HALF) - 1, (1 << _QUARTER) - 1


def ones_sum(data: Buffer) -> int:
    """The ones' complement sum: 2^16 is 1 modulo 65535, so the sum is a remainder, but 0 only for zeros."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    number = int.from_bytes(data, "big")
    return remainder(number) or (0xFFFF if number else 0)


def remainder(number: int) -> int:
    """The number modulo 65535. Halves of a long one are added first: that is cheaper than dividing all its digits."""
    if number > _LOW_QUARTER:
        number = (number >> _HALF) + (number & _LOW_HALF)
        number = (number >> _QUARTER) + (number & _LOW_QUARTER)
    return number % 0xFFFF


def fold(total: int) -> int:
    """Carry what is above 16 bits back in."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def get16(data: Buffer, at: int) -> int:
    """Two bytes, most significant first."""
    return data[at] << 8 | data[at + 1]
