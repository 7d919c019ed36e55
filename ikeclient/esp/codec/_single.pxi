# Part of _offload.pyx: a packet that comes alone, with one call: from the replay window to the selectors on its way
# in, from the frame to the sealed packet on its way out. Packets that leave together are joined here as well.

from cpython.mem cimport PyMem_Calloc, PyMem_Free

cdef extern from "unistd.h":
    Py_ssize_t read(int descriptor, void* to, size_t room)
    Py_ssize_t write(int descriptor, const void* data, size_t length)

cdef enum:
    ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED, CARRIED, UNOPENED, NOTHING

cdef enum:
    LOOK, FULL, JOINED  # a frame needs a longer look, has no room in a run, or is in it

# One thread, which holds the GIL, uses them. Before the packet there is room for the header of a frame.
cdef uint8_t _room[HEADER + ESP + BLOCK + LONGEST_TEXT + DIGEST]
cdef uint8_t* _scratch = _room + HEADER


cdef class Window:
    """`replay.ReplayWindow` documents it. Bit n of the ring stands for the numbers that are n modulo its size."""

    cdef uint64_t* ring
    cdef uint64_t size
    cdef bint extended
    cdef readonly uint64_t top

    def __cinit__(self, size=4096, *, bint extended=False):
        if size < 64 or size & (size - 1) or size > 1 << 31:
            raise ValueError(f"{size} is not a power of two from 64 to 2^31")
        self.ring = <uint64_t*>PyMem_Calloc(size // 64, sizeof(uint64_t))
        if self.ring == NULL:
            raise MemoryError
        self.size, self.extended, self.top = size, extended, 0

    def __dealloc__(self):
        PyMem_Free(self.ring)

    cdef inline bint _seen(self, uint64_t sequence) noexcept nogil:
        sequence &= self.size - 1
        return self.ring[sequence >> 6] >> (sequence & 63) & 1

    cdef inline void _set(self, uint64_t sequence) noexcept nogil:
        sequence &= self.size - 1
        self.ring[sequence >> 6] |= <uint64_t>1 << (sequence & 63)

    cdef uint64_t _check(self, uint32_t low) noexcept nogil:
        cdef uint64_t sequence = low, bottom = self.top - self.size + 1, missing
        cdef uint32_t above
        if self.extended:
            above = low - <uint32_t>bottom
            if self.top + 1 < self.size and self.top != <uint64_t>-1:  # the window begins below zero
                missing = self.size - 1 - self.top
                if above <= missing:
                    return 0
                sequence = above - missing
            else:
                sequence = bottom + above
                if sequence < bottom or sequence == 0:
                    return 0
        elif sequence == 0 or sequence + self.size <= self.top:
            return 0
        return 0 if sequence <= self.top and self._seen(sequence) else sequence

    cdef bint _commit(self, uint64_t sequence) noexcept nogil:
        cdef uint64_t i
        if sequence > self.top:
            if sequence - self.top >= self.size:
                for i in range(self.size >> 6):
                    self.ring[i] = 0
            else:
                i = self.top + 1
                while i != sequence + 1:
                    self.ring[(i & (self.size - 1)) >> 6] &= ~(<uint64_t>1 << (i & 63))
                    i += 1
            self.top = sequence
        elif self.top - sequence >= self.size or self._seen(sequence):
            return False
        self._set(sequence)
        return True

    def check(self, uint32_t low):
        return self._check(low)

    def commit(self, uint64_t sequence):
        return self._commit(sequence)


cdef int _open_one(RunCipher cipher, Window window, Filter packets, const uint8_t* packet, Py_ssize_t text, bint judge,
                   Py_ssize_t* inner) except -1:
    """Open the packet with a text of that many bytes into `_scratch`; what became of it, and how long what is there is."""
    cdef Py_ssize_t end
    cdef uint64_t sequence = window._check(_read32(packet + 4))
    inner[0] = 0
    if not sequence:
        return REPLAYED
    if not cipher._open(packet, text, sequence, _scratch):
        cipher.evp.clear_errors()
        return FORGED
    window._commit(sequence)
    end = text - 2 - _scratch[text - 2]
    if judge and end > 0 and _scratch[text - 1] == (4 if _scratch[0] >> 4 == 4 else 41):
        inner[0] = packets._measure(_scratch, end)
        if inner[0] > 0:
            return ACCEPTED
    inner[0] = text
    return UNJUDGED


cdef bint _shaped(RunCipher cipher, Py_ssize_t alignment, Py_ssize_t text) except -1:
    """Whether a packet may have a text of that many bytes."""
    cipher._direction(False)
    if alignment < 1 or (cipher.mac != NULL and alignment % BLOCK):
        raise ValueError("impossible alignment")
    return text >= 2 and text >= alignment and text % alignment == 0 and text <= LONGEST_TEXT


def open_single(RunCipher cipher not None, Window window not None, Filter packets not None, Py_ssize_t alignment,
                const uint8_t[::1] arena, Py_ssize_t at, Py_ssize_t length, bint judge):
    cdef Py_ssize_t text = length - cipher.gap - cipher.icv, inner
    cdef int what
    if not _shaped(cipher, alignment, text):
        return MISSHAPEN, b""
    what = _open_one(cipher, window, packets, _span(arena, at, length), text, judge, &inner)
    return what, PyBytes_FromStringAndSize(<char*>_scratch, inner)


cdef bint _plain(Filter packets, const uint8_t[::1] frame, Py_ssize_t length, Py_ssize_t mtu, Frame* f) except -1:
    """Whether the filter accepts the packets of a frame, and nothing about them needs a longer look."""
    _examine(frame, length, f)
    if f.count == 0 or f.look or f.size > mtu:
        return False
    return packets._measure(_span(frame, HEADER, f.inner), f.inner) == f.inner


cdef Py_ssize_t _seal_one(RunCipher cipher, Py_ssize_t mask, uint64_t sequence, const uint8_t[::1] frame,
                          Frame* f) except -1:
    """Seal the packet of a frame into `_scratch`; its length then."""
    cdef Py_ssize_t pad, text
    cdef const uint8_t* random = cipher._random(1)  # before `_scratch` is used, since another thread may run meanwhile
    if mask < 0 or mask >= BLOCK or (cipher.mac != NULL and mask != BLOCK - 1):
        raise ValueError("impossible alignment")
    pad = -(f.inner + 2) & mask
    text = f.inner + pad + 2
    _one(frame, f, _scratch + cipher.gap)
    _pad(_scratch + cipher.gap + f.inner, pad, frame[HEADER])
    if not cipher._seal(_scratch, text, sequence, random):
        cipher.evp.clear_errors()
        raise OSError("the library refuses")
    return cipher.gap + text + cipher.icv


cdef Py_ssize_t _append(Frame* f, const uint8_t[::1] frame, uint8_t[::1] out, Py_ssize_t to, Py_ssize_t stride,
                        Py_ssize_t mask) except -1:
    """Write the packets of a frame into slots, the first of which has its plaintext at `to`; how long the last one's is."""
    cdef Py_ssize_t pad = 0, index, inner = 0
    for index in range(f.count):
        inner = f.last if index == f.count - 1 else f.size
        if f.kind == 0:
            _one(frame, f, <uint8_t*>_span(out, to, inner))
        else:
            _part(frame, f, out, to, index)
        pad = -(inner + 2) & mask
        _pad(<uint8_t*>_span(out, to + inner, pad + 2), pad, frame[HEADER])
        to += stride
    return inner + pad + 2


cdef struct Outgoing:
    Py_ssize_t count, stride, last, size  # packets, bytes from one to the next and of the last one, of the inner packets
    int tos


cdef int _join(Filter packets, Py_ssize_t gap, Py_ssize_t mask, Py_ssize_t icv, Py_ssize_t most, Py_ssize_t longest,
               const uint8_t[::1] frame, Py_ssize_t length, Py_ssize_t mtu, uint8_t[::1] out, Outgoing* run) except -1:
    """Append the packets of a frame to a run of at most so many packets and bytes that begins with `out`."""
    cdef Frame f
    cdef Py_ssize_t stride
    if not _plain(packets, frame, length, mtu, &f):
        return LOOK
    stride = gap + f.size + (-(f.size + 2) & mask) + 2 + icv
    if f.count > min(most, longest // stride):
        return LOOK
    if run.count:
        if f.tos != run.tos or run.last != run.stride or stride > run.stride or (stride < run.stride and f.count > 1):
            return FULL
        if f.count > min(most, longest // run.stride) - run.count:
            return FULL
    else:
        run.stride, run.tos, run.size = stride, f.tos, 0
    if f.count > out.shape[0] // run.stride - run.count:
        raise IndexError("outside the buffer")
    run.last = gap + _append(&f, frame, out, run.count * run.stride + gap, run.stride, mask) + icv
    run.count += f.count
    run.size += (f.count - 1) * f.size + f.last
    return JOINED


def pack(Filter packets not None, uint8_t[::1] out, Py_ssize_t stride, Py_ssize_t gap, Py_ssize_t mask, Py_ssize_t icv,
         int tos, Py_ssize_t most, Py_ssize_t longest, Py_ssize_t count, const uint8_t[::1] frame, Py_ssize_t length,
         Py_ssize_t mtu):
    cdef Outgoing run
    if stride < 1 or gap < 0 or icv < 0 or mask < 0 or mask > 255 or count < 1:
        raise ValueError("impossible slots")
    run.count, run.stride, run.last, run.size, run.tos = count, stride, stride, 0, tos
    _join(packets, gap, mask, icv, most, longest, frame, length, mtu, out, &run)
    return run.count - count, run.size, run.last
