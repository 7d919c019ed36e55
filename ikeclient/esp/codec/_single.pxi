# Part of _offload.pyx: a packet that comes alone, with one call from the replay window to the selectors.

from cpython.mem cimport PyMem_Calloc, PyMem_Free

cdef enum:
    ACCEPTED, UNJUDGED, MISSHAPEN, REPLAYED, FORGED

cdef uint8_t _scratch[LONGEST_TEXT + BLOCK]  # one thread, which holds the GIL


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

    def check_run(self, uint32_t low, Py_ssize_t count):
        cdef uint64_t sequence = self._check(low)
        if sequence <= self.top or count > <Py_ssize_t>self.size or <uint64_t>low + <uint64_t>count > <uint64_t>1 << 32:
            return 0
        return sequence

    def commit_run(self, uint64_t sequence, Py_ssize_t count):
        cdef Py_ssize_t i
        for i in range(count):
            self._commit(sequence + <uint64_t>i)

    def commit(self, uint64_t sequence):
        return self._commit(sequence)


cdef class Edges:
    """The addresses that may be in a packet, as `selectors.PacketFilter.edges` has them: where ranges begin and end."""

    cdef bytes sources4, destinations4, sources6, destinations6

    def __init__(self, bytes sources4 not None, bytes destinations4 not None, bytes sources6 not None,
                 bytes destinations6 not None):
        self.sources4, self.destinations4 = sources4, destinations4
        self.sources6, self.destinations6 = sources6, destinations6

    cdef bint _inside(self, bytes edges, Py_ssize_t width, const uint8_t* address):
        """Whether an odd number of edges lies at or below the address of that many bytes."""
        cdef Py_ssize_t low = 0, high = len(edges) // width, middle
        cdef const char* first = PyBytes_AS_STRING(edges)
        while low < high:
            middle = (low + high) // 2
            if memcmp(address, first + middle * width, width) < 0:
                high = middle
            else:
                low = middle + 1
        return low & 1

    cdef Py_ssize_t _measure(self, const uint8_t* packet, Py_ssize_t available, int following):
        """The length of a plain packet of TCP, UDP or ICMP's echo that is inside; 0 for all that need a longer look."""
        cdef Py_ssize_t length
        if self.sources4 is None:
            return 0
        if following == 4 and available >= 20 and packet[0] == 0x45:
            length = packet[2] << 8 | packet[3]
            if length < 20 or length > available or not _common(packet[9], packet + 20, length - 20):
                return 0
            if self._inside(self.sources4, 4, packet + 12) and self._inside(self.destinations4, 4, packet + 16):
                return length
        elif following == 41 and available >= 40 and packet[0] >> 4 == 6:
            length = (packet[4] << 8 | packet[5]) + 40
            if length > available or not _common(packet[6], packet + 40, length - 40):
                return 0
            if self._inside(self.sources6, 16, packet + 8) and self._inside(self.destinations6, 16, packet + 24):
                return length
        return 0


cdef inline bint _common(uint8_t protocol, const uint8_t* transport, Py_ssize_t length) noexcept nogil:
    if protocol == 6 or protocol == 17:
        return True
    if protocol == 1:
        return length > 0 and (transport[0] == 0 or transport[0] == 8)
    return protocol == 58 and length > 0 and (transport[0] == 128 or transport[0] == 129)


cdef inline uint32_t _read32(const uint8_t* at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


def open_single(RunCipher cipher not None, Window window not None, Edges edges, Py_ssize_t alignment,
                const uint8_t[::1] arena, Py_ssize_t at, Py_ssize_t length, bint judge):
    cdef Py_ssize_t text = length - cipher.gap - cipher.icv, end, inner
    cdef const uint8_t* packet
    cdef uint64_t sequence
    cipher._direction(False)
    if alignment < 1 or (cipher.mac != NULL and alignment % BLOCK):
        raise ValueError("impossible alignment")
    if text < 2 or text < alignment or text % alignment or text > LONGEST_TEXT:
        return MISSHAPEN, b""
    packet = _span(arena, at, length)
    sequence = window._check(_read32(packet + 4))
    if not sequence:
        return REPLAYED, b""
    if not cipher._open(packet, text, sequence, _scratch):
        cipher.evp.clear_errors()
        return FORGED, b""
    window._commit(sequence)
    end = text - 2 - _scratch[text - 2]
    if judge and edges is not None and end > 0:
        inner = edges._measure(_scratch, end, _scratch[text - 1])
        if inner:
            return ACCEPTED, PyBytes_FromStringAndSize(<char*>_scratch, inner)
    return UNJUDGED, PyBytes_FromStringAndSize(<char*>_scratch, text)
