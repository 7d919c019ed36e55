# Part of _offload.pyx: which packets belong into a Child SA, for those that are plain.

cdef enum:
    OUTSIDE = -1
    SELECTOR = 38  # octets: version, protocol, two ports, two addresses of which IPv4 takes four octets


cdef class Filter:
    """`selectors.PacketFilter` documents it, and makes these arguments.

    `sources4` and the others are where ranges of addresses begin and end. `senders` and `receivers` are selectors if
    more than addresses decides, and else nothing.
    """

    cdef bytes sources4, destinations4, sources6, destinations6, senders, receivers

    def __init__(self, bytes sources4 not None, bytes destinations4 not None, bytes sources6 not None,
                 bytes destinations6 not None, bytes senders not None, bytes receivers not None):
        self.sources4, self.destinations4 = sources4, destinations4
        self.sources6, self.destinations6 = sources6, destinations6
        self.senders, self.receivers = senders, receivers

    def measure(self, const uint8_t[::1] packet, Py_ssize_t available):
        return self._measure(_span(packet, 0, available), available) if available > 0 else 0

    cdef Py_ssize_t _measure(self, const uint8_t* packet, Py_ssize_t available):
        """The length of a plain packet of TCP, UDP or ICMP's echo, or OUTSIDE; 0 for all that need a longer look."""
        cdef Py_ssize_t length
        if self.sources4 is None:
            return 0
        if available >= 20 and packet[0] == 0x45:
            length = packet[2] << 8 | packet[3]
            if length < 20 or length > available or not _common(packet[9], packet + 20, length - 20):
                return 0
            if not _inside(self.sources4, 4, packet + 12) or not _inside(self.destinations4, 4, packet + 16):
                return OUTSIDE
            if not self.senders:
                return length
            if packet[6] & 0x3F or packet[7]:  # a fragment
                return 0
            return self._match(packet, 4, length, 20, packet[9], packet + 12)
        if available >= 40 and packet[0] >> 4 == 6:
            length = (packet[4] << 8 | packet[5]) + 40
            if length > available or not _common(packet[6], packet + 40, length - 40):
                return 0
            if not _inside(self.sources6, 16, packet + 8) or not _inside(self.destinations6, 16, packet + 24):
                return OUTSIDE
            if not self.senders:
                return length
            return self._match(packet, 6, length, 40, packet[6], packet + 8)
        return 0

    cdef Py_ssize_t _match(self, const uint8_t* packet, int version, Py_ssize_t length, Py_ssize_t transport,
                           uint8_t protocol, const uint8_t* addresses):
        """The length if a selector of either end takes its address, protocol and port."""
        cdef const uint8_t* ports = packet + transport
        cdef int source, destination, width = 4 if version == 4 else 16
        if length < transport + 4:
            return 0
        source = destination = ports[0] << 8 | ports[1]  # of ICMP, type and code
        if protocol == 6 or protocol == 17:
            destination = ports[2] << 8 | ports[3]
        if not _selected(self.senders, version, addresses, width, protocol, source):
            return OUTSIDE
        if not _selected(self.receivers, version, addresses + width, width, protocol, destination):
            return OUTSIDE
        return length


cdef bint _inside(bytes edges, Py_ssize_t width, const uint8_t* address) noexcept:
    """Whether an odd number of edges lies at or below the address of that many bytes."""
    cdef Py_ssize_t low = 0, high = len(edges) // width, middle
    cdef const char* first = PyBytes_AsString(edges)
    while low < high:
        middle = (low + high) // 2
        if memcmp(address, first + middle * width, width) < 0:
            high = middle
        else:
            low = middle + 1
    return low & 1


cdef bint _selected(bytes selectors, int version, const uint8_t* address, Py_ssize_t width, uint8_t protocol,
                    int port) noexcept:
    cdef const uint8_t* s = <const uint8_t*>PyBytes_AsString(selectors)
    cdef Py_ssize_t i
    for i in range(len(selectors) // SELECTOR):
        if (
            s[0] == version
            and (s[1] == 0 or s[1] == protocol)
            and (s[2] << 8 | s[3]) <= port <= (s[4] << 8 | s[5])
            and memcmp(s + 6, address, width) <= 0
            and memcmp(address, s + 22, width) <= 0
        ):
            return True
        s += SELECTOR
    return False


cdef inline bint _common(uint8_t protocol, const uint8_t* transport, Py_ssize_t length) noexcept nogil:
    if protocol == 6 or protocol == 17:
        return True
    if protocol == 1:
        return length > 0 and (transport[0] == 0 or transport[0] == 8)
    return protocol == 58 and length > 0 and (transport[0] == 128 or transport[0] == 129)


cdef inline uint32_t _read32(const uint8_t* at) noexcept nogil:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]
