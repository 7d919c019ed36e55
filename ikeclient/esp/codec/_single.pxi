# Part of _offload.pyx: a packet that comes alone, with one call from the replay window to the selectors.

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc

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
    """The addresses of IPv4 that may be in a packet, as `selectors.PacketFilter` has them: where ranges begin and end."""

    cdef uint64_t* edges
    cdef Py_ssize_t sources, destinations

    def __cinit__(self, list sources not None, list destinations not None):
        cdef Py_ssize_t i = 0
        self.sources, self.destinations = len(sources), len(destinations)
        self.edges = <uint64_t*>PyMem_Malloc((self.sources + self.destinations + 1) * sizeof(uint64_t))
        if self.edges == NULL:
            raise MemoryError
        for edge in (*sources, *destinations):
            self.edges[i] = edge
            i += 1

    def __dealloc__(self):
        PyMem_Free(self.edges)

    cdef inline bint _inside(self, const uint64_t* edges, Py_ssize_t count, uint64_t address) noexcept nogil:
        """Whether an odd number of edges lies at or below the address."""
        cdef Py_ssize_t low = 0, high = count, middle
        while low < high:
            middle = (low + high) // 2
            if address < edges[middle]:
                high = middle
            else:
                low = middle + 1
        return low & 1

    cdef Py_ssize_t _measure(self, const uint8_t* packet, Py_ssize_t available) noexcept nogil:
        """The length of a plain packet of TCP or UDP over IPv4 that is inside; 0 for all that need a longer look."""
        cdef Py_ssize_t length
        if available < 20 or packet[0] != 0x45 or (packet[9] != 6 and packet[9] != 17):
            return 0
        length = packet[2] << 8 | packet[3]
        if length < 20 or length > available:
            return 0
        if not self._inside(self.edges, self.sources, _read32(packet + 12)):
            return 0
        if not self._inside(self.edges + self.sources, self.destinations, _read32(packet + 16)):
            return 0
        return length


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
    if judge and edges is not None and end > 0 and _scratch[text - 1] == 4:
        inner = edges._measure(_scratch, end)
        if inner:
            return ACCEPTED, PyBytes_FromStringAndSize(<char*>_scratch, inner)
    return UNJUDGED, PyBytes_FromStringAndSize(<char*>_scratch, text)
