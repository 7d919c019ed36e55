# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=True, cdivision=True, embedsignature=True
"""Segmentation and coalescing of inner packets, compiled. `plain` is the same in Python and documents it.

Every byte of a packet is reached either through a bounds-checked view, or through `_span`, which checks the whole
range first and then gives the pointer that a bulk copy or a sum needs. No length that a packet states is used in any
other way. There are no negative indexes, so wraparound is off; boundscheck stays on.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import sys

cdef enum:
    HEADER = 10
    SLOTS = 256
    LONGEST = 65535

cdef bint _LITTLE = sys.byteorder == "little"

cdef extern from *:
    """
    #ifndef OFFLOAD_SOURCES
    #define OFFLOAD_SOURCES ""
    #endif
    """
    const char* OFFLOAD_SOURCES

SOURCES = OFFLOAD_SOURCES.decode("ascii")  # see setup.py
VNET_HEADER = HEADER
MAXIMUM_SLOTS = SLOTS


cdef const uint8_t* _span(const uint8_t[::1] view, Py_ssize_t at, Py_ssize_t n) except NULL:
    """The address of `n` bytes from `at` on, or IndexError: the only way from a view to a pointer."""
    if n <= 0 or at < 0 or at > view.shape[0] or n > view.shape[0] - at:
        raise IndexError("outside the buffer")
    return &view[at]


cdef int _copy(uint8_t[::1] out, Py_ssize_t to, const uint8_t[::1] source, Py_ssize_t at, Py_ssize_t n) except -1:
    if n:
        memcpy(<void*>_span(out, to, n), _span(source, at, n), n)
    return 0


cdef int _sum(const uint8_t[::1] view, Py_ssize_t at, Py_ssize_t n) except -1:
    """The ones' complement sum of RFC 1071, folded, most significant byte first. Odd data is followed by a zero."""
    return _sum_at(_span(view, at, n), n, _LITTLE) if n else 0


cdef inline int _sum_at(const uint8_t* p, Py_ssize_t n, bint little) noexcept nogil:
    cdef uint64_t total = 0
    cdef uint32_t word
    cdef uint16_t half
    cdef Py_ssize_t i, whole = n // 4
    for i in range(whole):
        memcpy(&word, p + 4 * i, 4)
        total += word
    i = 4 * whole
    if n - i >= 2:
        memcpy(&half, p + i, 2)
        total += half
        i += 2
    if i < n:
        total += p[i] if little else <uint64_t>p[i] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <int>((total & 0xFF) << 8 | total >> 8) if little else <int>total


def ones_sum(const uint8_t[::1] data, bint little):
    """As on a machine of that byte order, for tests: the pairs of octets lie as such a machine would read them."""
    return _sum_at(_span(data, 0, data.shape[0]), data.shape[0], little) if data.shape[0] else 0


cdef inline int _fold(uint64_t total) noexcept:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <int>total


cdef inline int _get16(const uint8_t[::1] view, Py_ssize_t at) except -1:
    return view[at] << 8 | view[at + 1]


cdef inline int _put16(uint8_t[::1] view, Py_ssize_t at, int value) except -1:
    view[at] = <uint8_t>(value >> 8 & 0xFF)
    view[at + 1] = <uint8_t>(value & 0xFF)
    return 0


cdef inline uint32_t _get32(const uint8_t[::1] view, Py_ssize_t at) except? 0xFFFFFFFF:
    return <uint32_t>view[at] << 24 | <uint32_t>view[at + 1] << 16 | <uint32_t>view[at + 2] << 8 | view[at + 3]


cdef inline int _put32(uint8_t[::1] view, Py_ssize_t at, uint32_t value) except -1:
    view[at] = <uint8_t>(value >> 24)
    view[at + 1] = <uint8_t>(value >> 16 & 0xFF)
    view[at + 2] = <uint8_t>(value >> 8 & 0xFF)
    view[at + 3] = <uint8_t>(value & 0xFF)
    return 0


cdef int _ipv4_checksum(uint8_t[::1] out, Py_ssize_t at) except -1:
    out[at + 10] = 0
    out[at + 11] = 0
    return _put16(out, at + 10, _sum(out, at, (out[at] & 15) * 4) ^ 0xFFFF)


# From the machine

cdef struct Frame:
    Py_ssize_t count, size, last, head, transport, inner
    int kind, tos, look


cdef int _examine(const uint8_t[::1] frame, Py_ssize_t length, Frame* f) except -1:
    """Fill `f`; a count of 0 says that the frame makes no sense."""
    cdef Py_ssize_t n = length - HEADER, start, offset, payload, size
    cdef int first, kind
    f.count = 0
    if n < 20 or length > frame.shape[0] or n > LONGEST:
        return 0
    first = frame[HEADER]
    if first >> 4 == 4:
        f.tos = frame[HEADER + 1]
        if (first & 15) < 5 or (first & 15) * 4 > n:
            return 0
        f.look = first != 0x45 or (frame[HEADER + 9] == 6 and (n < 40 or frame[HEADER + 33] & 2))
    elif first >> 4 == 6 and n >= 40:
        f.tos = (first & 15) << 4 | frame[HEADER + 1] >> 4
        if frame[HEADER + 6] == 6:
            f.look = n < 60 or frame[HEADER + 53] & 2
        else:
            f.look = frame[HEADER + 6] != 17 and frame[HEADER + 6] != 58
    else:
        return 0
    kind = frame[1] & 0x7F
    size = frame[4] | frame[5] << 8
    start = frame[6] | frame[7] << 8
    offset = frame[8] | frame[9] << 8
    f.kind = kind
    f.inner = n
    f.transport = start
    if frame[0] & 1 and (start < 20 or start + offset + 2 > n):
        return 0
    if kind == 0:
        f.count = 1
        f.size = f.last = n
        return 0
    if not frame[0] & 1 or size == 0:
        return 0
    if first >> 4 == 4:
        if kind == 4 or start != (first & 15) * 4:
            return 0
    elif kind == 1 or start < 40:
        return 0
    if kind == 1 or kind == 4:
        if offset != 16 or start + 20 > n:
            return 0
        f.head = start + (frame[HEADER + start + 12] >> 4) * 4
        if f.head < start + 20:
            return 0
    elif kind == 5:
        if offset != 6 or start + 8 > n:
            return 0
        f.head = start + 8
    else:
        return 0
    payload = n - f.head
    if payload <= 0:
        return 0
    f.look = 0
    f.count = (payload + size - 1) // size
    f.last = f.head + payload - (f.count - 1) * size
    f.size = f.head + size if f.count > 1 else f.last
    return 0


def examine(const uint8_t[::1] frame, Py_ssize_t length):
    cdef Frame f
    _examine(frame, length, &f)
    if f.count == 0:
        return 0, 0, 0, 0, False
    return f.count, f.size, f.last, f.tos, bool(f.look)


cdef int _one(const uint8_t[::1] frame, Frame* f, uint8_t* out) except -1:
    """Write a packet that stays one to where it has room; what the kernel left of its checksum is completed."""
    cdef Py_ssize_t where
    cdef int check
    memcpy(out, _span(frame, HEADER, f.inner), f.inner)
    if frame[0] & 1:  # inside the packet, as `_examine` has seen
        check = (_sum_at(out + f.transport, f.inner - f.transport, _LITTLE) ^ 0xFFFF) or 0xFFFF
        where = f.transport + (frame[8] | frame[9] << 8)
        out[where] = <uint8_t>(check >> 8)
        out[where + 1] = <uint8_t>(check & 0xFF)
    return 0


cdef inline void _pad(uint8_t* end, Py_ssize_t pad, uint8_t first) noexcept nogil:
    """Write padding and trailer behind a packet that begins with that octet (RFC 4303 section 2.4)."""
    cdef Py_ssize_t i
    for i in range(pad):
        end[i] = <uint8_t>(i + 1)
    end[pad] = <uint8_t>pad
    end[pad + 1] = 4 if first >> 4 == 4 else 41


cdef int _part(const uint8_t[::1] frame, Frame* f, uint8_t[::1] out, Py_ssize_t to, Py_ssize_t index) except -1:
    """Segment number `index` of a super-packet."""
    cdef Py_ssize_t step = f.size - f.head, inner = f.last if index == f.count - 1 else f.size
    cdef Py_ssize_t l4 = to + f.transport, transport = f.transport, where
    cdef int check, drop = 0
    _copy(out, to, frame, HEADER, f.head)
    _copy(out, to + f.head, frame, HEADER + f.head + index * step, inner - f.head)
    if frame[HEADER] >> 4 == 4:
        _put16(out, to + 2, <int>inner)
        _put16(out, to + 4, <int>((_get16(out, to + 4) + index) & 0xFFFF))
        _ipv4_checksum(out, to)
    else:
        _put16(out, to + 4, <int>(inner - 40))
    if f.kind == 5:
        where = l4 + 6
        check = _get16(out, where)
        _put16(out, l4 + 4, <int>(inner - transport))
    else:
        where = l4 + 16
        check = _get16(out, where)
        _put32(out, l4 + 4, <uint32_t>(_get32(out, l4 + 4) + <uint64_t>index * <uint64_t>step))
        if index < f.count - 1:
            drop |= 0x09  # FIN and PSH belong to the last
        if index > 0:
            drop |= 0x80  # CWR belongs to the first (RFC 3168 section 6.1.2)
        out[l4 + 13] = out[l4 + 13] & ~drop & 0xFF
    _put16(out, where, 0)
    # The kernel left the pseudo header's sum, with the length of the whole.
    check = _fold(<uint64_t>check + ((f.inner - transport) ^ 0xFFFF) + <uint64_t>(inner - transport)
                  + <uint64_t>_sum(out, l4, inner - transport)) ^ 0xFFFF
    _put16(out, where, check or (0xFFFF if f.kind == 5 else 0))
    return 0


def segment(const uint8_t[::1] frame, Py_ssize_t length, uint8_t[::1] out, Py_ssize_t at, Py_ssize_t stride,
            Py_ssize_t gap, Py_ssize_t mask, Py_ssize_t first, Py_ssize_t count):
    cdef Frame f
    cdef Py_ssize_t index, inner, to, pad
    _examine(frame, length, &f)
    if first < 0 or count < 1 or first > f.count or count > f.count - first:
        raise ValueError("no such segments")
    if at < 0 or gap < 0 or mask < 0 or mask > 255 or stride < gap + f.size + 2 + (-(f.size + 2) & mask):
        raise ValueError("impossible slots")
    if at > out.shape[0] or count > (out.shape[0] - at) // stride + 1:
        raise IndexError("outside the buffer")
    for index in range(first, first + count):
        to = at + (index - first) * stride + gap
        inner = f.last if index == f.count - 1 else f.size
        if f.kind == 0:
            _one(frame, &f, <uint8_t*>_span(out, to, inner))
        else:
            _part(frame, &f, out, to, index)
        to += inner
        pad = -(inner + 2) & mask
        _pad(<uint8_t*>_span(out, to, pad + 2), pad, frame[HEADER])


def stamp(uint8_t[::1] out, Py_ssize_t stride, Py_ssize_t count, uint32_t spi, uint64_t sequence,
          const uint8_t[::1] salt, uint8_t[::1] nonces, uint8_t[::1] associated):
    cdef Py_ssize_t i, k, at, width = salt.shape[0] + 8, salted = salt.shape[0]
    if stride < 16 or count < 0:
        raise ValueError("impossible slots")
    for i in range(count):
        at = i * stride
        _put32(out, at, spi)
        _put32(out, at + 4, <uint32_t>(sequence & 0xFFFFFFFF))
        _put32(out, at + 8, <uint32_t>(sequence >> 32))
        _put32(out, at + 12, <uint32_t>(sequence & 0xFFFFFFFF))
        for k in range(salted):
            nonces[i * width + k] = salt[k]
        _put32(nonces, i * width + salted, <uint32_t>(sequence >> 32))
        _put32(nonces, i * width + salted + 4, <uint32_t>(sequence & 0xFFFFFFFF))
        if associated.shape[0]:
            _put32(associated, i * 12, spi)
            _put32(associated, i * 12 + 4, <uint32_t>(sequence >> 32))
            _put32(associated, i * 12 + 8, <uint32_t>(sequence & 0xFFFFFFFF))
        sequence += 1


# From the network

def survey(const uint8_t[::1] arena, Py_ssize_t end, Py_ssize_t stride, Py_ssize_t first):
    cdef Py_ssize_t at = first * stride, count = 0
    cdef uint32_t spi, low, start
    cdef bint rising = True
    if stride < 8 or first < 0 or at + 8 > end or end > arena.shape[0]:
        raise ValueError("impossible slots")
    spi = _get32(arena, at)
    start = low = _get32(arena, at + 4)
    while count < SLOTS and at + 8 <= end and _get32(arena, at) == spi:
        if <uint64_t>_get32(arena, at + 4) != <uint64_t>start + <uint64_t>count:
            rising = False
        count += 1
        at += stride
    return count, spi, start, bool(rising)


def collect(const uint8_t[::1] arena, Py_ssize_t stride, Py_ssize_t first, Py_ssize_t count, const uint8_t[::1] salt,
            uint8_t[::1] nonces):
    cdef Py_ssize_t i, k, salted = salt.shape[0], width = salted + 8
    if stride < 16 or first < 0 or count < 0:
        raise ValueError("impossible slots")
    for i in range(count):
        for k in range(salted):
            nonces[i * width + k] = salt[k]
        _copy(nonces, i * width + salted, arena, (first + i) * stride + 8, 8)


include "_coalesce.pxi"
include "_evp.pxi"
include "_filter.pxi"
include "_single.pxi"
include "_run.pxi"
include "_relay.pxi"
