"""Segmentation and coalescing of inner packets in plain Python: the reference for `_offload`, and its stand-in.

A super-packet is one inner packet of up to 64 KiB that stands for many: the kernel hands us TCP and UDP data that way
when it knows that somebody will cut it, and takes it back that way. It travels behind the 10 bytes of struct
virtio_net_hdr (here: a frame), little-endian, with csum_start and csum_offset counted from the start of the packet.

ESP packets lie in slots of one stride in one buffer. In a slot, `gap` bytes are for the ESP header and the IV, then
follow inner packet, padding, pad length and next header (RFC 4303 section 2); behind them is room for the ICV.

The two modules do the same to the byte, for all input (tests/esp/test_esp_offload_twins.py); change both or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from struct import Struct

from ikeclient.esp.codec.merge import MAXIMUM_SLOTS, VNET_HEADER, coalesce
from ikeclient.esp.codec.sums import PADS, Buffer, Writable, get16, ones_sum, remainder
from ikeclient.esp.packet.mss import find_option
from ikeclient.lazy_dataclass import dataclass

__all__ = ["MAXIMUM_SLOTS", "VNET_HEADER", "coalesce", "collect", "examine", "segment", "stamp", "survey"]

_LONGEST = 65535
_TCPV4, _TCPV6, _UDP = 1, 4, 5  # VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4
_TCP_PROTOCOL = 6
_WITH_PORTS = (_TCP_PROTOCOL, 17)
_PLAIN_IPV4 = 0x45
_SACK = 5  # a TCP option
_FIN_PSH, _CWR = 0x09, 0x80

# From the machine


@dataclass(slots=True)
class _Frame:
    count: int = 0
    size: int = 0  # inner length of all segments but the last
    last: int = 0
    head: int = 0  # where the payload begins
    transport: int = 0
    inner: int = 0
    kind: int = 0
    tos: int = 0
    look: bool = False


def examine(frame: Buffer, length: int) -> tuple[int, int, int, int, bool]:
    """What a frame of `length` bytes becomes: (count, size, last, tos, look).

    `count` inner packets of `size` bytes each, the last of `last`; 0 for a frame that makes no sense. `tos` is the
    TOS or traffic class octet. `look` says that it may be a TCP SYN, or that only a longer look could tell.
    """
    f = _examine(frame, length)
    return (f.count, f.size, f.last, f.tos, f.look) if f.count else (0, 0, 0, 0, False)


def _examine(frame: Buffer, length: int) -> _Frame:
    f = _Frame()
    n = length - VNET_HEADER
    if n < 20 or length > len(frame) or n > _LONGEST:
        return f
    first, second = frame[10], frame[11]
    version = first >> 4
    if version == 4:
        f.tos = second
        if (first & 15) < 5 or (first & 15) * 4 > n:
            return f
        f.look = first != 0x45 or (frame[19] == _TCP_PROTOCOL and bool(n < 40 or frame[43] & 2))
    elif version == 6 and n >= 40:
        f.tos = (first & 15) << 4 | second >> 4
        following = frame[16]
        f.look = bool(n < 60 or frame[63] & 2) if following == _TCP_PROTOCOL else following not in (17, 58)
    else:
        return f
    start, offset = frame[6] | frame[7] << 8, frame[8] | frame[9] << 8
    f.kind, f.inner, f.transport = frame[1] & 0x7F, n, start
    if frame[0] & 1 and (start < 20 or start + offset + 2 > n):
        return f
    if f.kind == 0:
        f.count, f.size, f.last = 1, n, n
        return f
    _measure_segments(frame, f, version, frame[4] | frame[5] << 8, offset)
    return f


def _measure_segments(frame: Buffer, f: _Frame, version: int, size: int, offset: int) -> None:
    start = f.transport
    if not frame[0] & 1 or size == 0:
        return
    if version == 4:
        if f.kind == _TCPV6 or start != (frame[10] & 15) * 4:
            return
    elif f.kind == _TCPV4 or start < 40:
        return
    if f.kind in (_TCPV4, _TCPV6):
        if offset != 16 or start + 20 > f.inner:
            return
        f.head = start + (frame[VNET_HEADER + start + 12] >> 4) * 4
        if f.head < start + 20:
            return
    elif f.kind == _UDP:
        if offset != 6 or start + 8 > f.inner:
            return
        f.head = start + 8
    else:
        return
    payload = f.inner - f.head
    if payload <= 0:
        return
    f.look = False
    f.count = -(-payload // size)
    f.last = f.head + payload - (f.count - 1) * size
    f.size = f.head + size if f.count > 1 else f.last


def segment(
    frame: Buffer, length: int, out: Writable, at: int, stride: int, gap: int, mask: int, first: int, count: int
) -> None:
    """Write the segments `first` to `first + count - 1` of a frame into slots that begin at `at`.

    Each is a whole inner packet with its own lengths, IP id, TCP sequence number, flags and checksums, and with padding
    to a multiple of `mask` + 1 bytes, pad length and next header. Raises ValueError for segments that do not exist and
    slots that are too short, IndexError where the buffer ends.
    """
    f = _examine(frame, length)
    if first < 0 or count < 1 or first > f.count or count > f.count - first:
        raise ValueError("no such segments")
    if at < 0 or gap < 0 or not 0 <= mask <= 255 or stride < gap + f.size + 2 + (-(f.size + 2) & mask):
        raise ValueError("impossible slots")
    following = b"\x04" if frame[10] >> 4 == 4 else b"\x29"
    data = bytes(memoryview(frame)[VNET_HEADER:length])
    if f.kind:
        _parts(data, f, out, range(at + gap, at + gap + count * stride, stride), mask, following, first)
        return
    packet = _one(frame, data, f)
    end = at + gap + len(packet)
    trailer = _trailer(len(packet), mask, following)
    if end + len(trailer) > len(out):
        raise IndexError("outside the buffer")
    out[at + gap : end + len(trailer)] = packet + trailer


def _trailer(inner: int, mask: int, following: bytes) -> bytes:
    pad = -(inner + 2) & mask
    return b"".join((PADS[pad], bytes((pad,)), following))


def _one(frame: Buffer, data: bytes, f: _Frame) -> bytes:
    """A packet that stays one; what the kernel left of its checksum is completed."""
    if not frame[0] & 1:
        return data
    check = ones_sum(data[f.transport :]) ^ 0xFFFF or 0xFFFF
    where = f.transport + (frame[8] | frame[9] << 8)
    return data[:where] + check.to_bytes(2, "big") + data[where + 2 :]


@lru_cache(maxsize=64)
def _writer(four: bool, udp: bool, l4: int, head: int) -> Callable[..., None]:
    """Writes the headers of a segment: what differs between segments, and what lies between."""
    ip = f"2sHH4sH{l4 - 12}s" if four else f"4sH{l4 - 6}s"
    return Struct(f">{ip}4sHH" if udp else f">{ip}4sI4sH2sH{head - l4 - 18}s").pack_into


def _parts(data: bytes, f: _Frame, out: Writable, places: range, mask: int, following: bytes, first: int) -> None:
    """Write segments of a super-packet, from number `first` on, to their places.

    Headers and pseudo header are summed up once; a segment adds its few own words and its payload. All sums here are of
    something that is not zero, so that a checksum is the remainder of what is missing to a multiple of 65535.
    """
    four, udp, l4, head, final = data[0] >> 4 == 4, f.kind == _UDP, f.transport, f.head, f.count - 1
    step, room, write = f.size - head, len(out), _writer(four, udp, l4, head)
    ports, inner, trailer = data[l4 : l4 + 4], f.size, _trailer(f.size, mask, following)
    if four:
        before, between, behind, number = data[:2], data[6:10], data[12:l4], get16(data, 4)
        ip_sum = ones_sum(before) + ones_sum(between) + ones_sum(behind)
    else:
        before, behind = data[:4], data[6:l4]
    # The kernel left the pseudo header's sum, with the length of the whole.
    l4_sum = get16(data, l4 + (6 if udp else 16)) + (f.inner - l4 ^ 0xFFFF) + ones_sum(ports)
    if not udp:
        sequence, word = int.from_bytes(data[l4 + 4 : l4 + 8], "big"), get16(data, l4 + 12)
        acknowledged, window, rest = data[l4 + 8 : l4 + 12], data[l4 + 14 : l4 + 16], data[l4 + 18 : head]
        l4_sum += ones_sum(acknowledged) + ones_sum(window) + ones_sum(rest)
    for index, to in enumerate(places, first):
        if index == final:
            inner, trailer = f.last, _trailer(f.last, mask, following)
        payload = data[head + index * step : head + index * step + inner - head]
        total = l4_sum + inner - l4 + (remainder(int.from_bytes(payload, "big")) << (inner - head) % 2 * 8)
        ip: tuple[bytes | int, ...]
        if four:
            own = number + index & 0xFFFF
            ip = before, inner, own, between, -(ip_sum + inner + own) % 0xFFFF, behind
        else:
            ip = before, inner - 40, behind
        if to + inner + len(trailer) > room:
            raise IndexError("outside the buffer")
        if udp:
            write(out, to, *ip, ports, inner - l4, -(total + inner - l4) % 0xFFFF or 0xFFFF)
        else:
            at = sequence + index * step & 0xFFFFFFFF
            drop = _FIN_PSH if index < final else 0  # FIN and PSH belong to the last
            drop |= _CWR if index else 0  # CWR belongs to the first (RFC 3168 section 6.1.2)
            flags = word & ~drop
            check = -(total + (at >> 16) + (at & 0xFFFF) + flags) % 0xFFFF
            write(out, to, *ip, ports, at, acknowledged, flags, window, check, rest)
        out[to + head : to + inner + len(trailer)] = payload + trailer


def stamp(
    out: Writable,
    stride: int,
    count: int,
    spi: int,
    sequence: int,
    salt: Buffer,
    nonces: Writable,
    associated: Writable,
) -> None:
    """Write SPI, sequence number and IV of an AEAD into the first `count` slots, counting up from `sequence`.

    `nonces` receives salt and IV of each packet back to back; `associated`, unless it is empty, the 12 bytes that are
    authenticated with extended sequence numbers. Raises ValueError and IndexError as `segment`.
    """
    if stride < 16 or count < 0:
        raise ValueError("impossible slots")
    width = len(salt) + 8
    if count and (count * stride - stride + 16 > len(out) or count * width > len(nonces)):
        raise IndexError("outside the buffer")
    if count and associated and count * 12 > len(associated):
        raise IndexError("outside the buffer")
    name = spi.to_bytes(4, "big")
    number = [(sequence + i & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big") for i in range(count)]
    for i, iv in enumerate(number):
        out[i * stride : i * stride + 16] = b"".join((name, iv[4:], iv))
    nonces[: count * width] = b"".join(bytes(salt) + iv for iv in number)
    if associated:
        associated[: count * 12] = b"".join(name + iv for iv in number)


# From the network


def survey(arena: Buffer, end: int, stride: int, first: int) -> tuple[int, int, int, bool]:
    """Look at the slots from number `first` on, in an arena filled up to `end`: (count, spi, low, rising).

    `count` slots (at most MAXIMUM_SLOTS) carry the SPI of the first one, whose sequence number is `low`; `rising`
    when each number is the one before plus one. Raises ValueError where there is no such slot.
    """
    at = first * stride
    if stride < 8 or first < 0 or at + 8 > end or end > len(arena):
        raise ValueError("impossible slots")
    name, low = bytes(arena[at : at + 4]), int.from_bytes(arena[at + 4 : at + 8], "big")
    count, rising = 0, True
    while count < MAXIMUM_SLOTS and at + 8 <= end and arena[at : at + 4] == name:
        rising = rising and int.from_bytes(arena[at + 4 : at + 8], "big") == low + count
        count += 1
        at += stride
    return count, int.from_bytes(name, "big"), low, rising


def collect(arena: Buffer, stride: int, first: int, count: int, salt: Buffer, nonces: Writable) -> None:
    """Put salt and IV of `count` slots back to back into `nonces`. Raises ValueError and IndexError as `segment`."""
    if stride < 16 or first < 0 or count < 0:
        raise ValueError("impossible slots")
    width = len(salt) + 8
    if count and ((first + count - 1) * stride + 16 > len(arena) or count * width > len(nonces)):
        raise IndexError("outside the buffer")
    starts = range(first * stride, (first + count) * stride, stride)
    nonces[: count * width] = b"".join(bytes(salt) + bytes(arena[at + 8 : at + 16]) for at in starts)


def review(out: Buffer, frames: list[tuple[int, int, int, int]]) -> tuple[int, int, bool, bool, int]:
    """What frames that `coalesce` made have in common: (packets, bytes, alike, look, selective).

    The first two are sums. `alike` when all have the same two addresses, and nothing but TCP or UDP behind a plain
    header; `look` when `examine` says so of any; `selective` is how many are TCP with a selective acknowledgement
    (RFC 2018). Raises ValueError for frames that are not inside `out`, or shorter than their headers.
    """
    packets = size = selective = 0
    pairs, look, plain = set(), False, True
    for start, end, count, length in frames:
        at = start + VNET_HEADER
        if start < 0 or end > len(out) or at + 20 > end or ((six := out[at] >> 4 == 6) and at + 40 > end):
            raise ValueError("no such frames")
        packets += count
        size += length
        examined = examine(out[start:end], end - start)
        look = look or examined[0] == 0 or examined[4]
        plain = plain and (out[at + 6] if six else out[at + 9] if out[at] == _PLAIN_IPV4 else 0) in _WITH_PORTS
        pairs.add(bytes(out[at + 8 : at + 40] if six else out[at + 12 : at + 20]))
        selective += _selective(out, at, end)
    return packets, size, plain and len(pairs) <= 1, look, selective


def _selective(out: Buffer, at: int, end: int) -> bool:
    """Whether a packet with plain headers is TCP and has the option SACK."""
    if out[at] >> 4 == 6:
        tcp, protocol = at + 40, out[at + 6]
    else:
        tcp, protocol = at + 20, out[at + 9] if out[at] == 0x45 else 0
    if protocol != _TCP_PROTOCOL or tcp + 20 > end:
        return False
    return find_option(out, _SACK, tcp + 20, min(tcp + (out[tcp + 12] >> 4) * 4, end)) >= 0
