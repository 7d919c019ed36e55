# Part of _offload.pyx: decrypted packets of one flow become a super-packet again.

cdef enum:
    TIMESTAMP = 0x0101080A  # how a TCP header begins its options if a time is the only one
    BUCKETS = 128

cdef struct Slot:
    Py_ssize_t at, length, head, payload, next
    int protocol     # 6 or 17 where the flow is plain to see, 0 where it is not
    bint mergeable


cdef struct Group:
    Py_ssize_t first, tail, count, total, size
    int older        # the group before it in its bucket
    bint closed


cdef int _unpack(const uint8_t[::1] arena, Py_ssize_t text, Py_ssize_t available, Slot* s) except -1:
    """Find the IP packet in a plaintext: 1 where there is one, 0 where it is malformed, 2 for a dummy packet.

    What the padding says is nobody's concern: see `inbound`."""
    cdef int following, first, pad
    cdef Py_ssize_t end, length
    if available < 2:
        return 0
    following = arena[text + available - 1]
    pad = arena[text + available - 2]
    end = available - 2 - pad
    if end < 0:
        return 0
    if following == 59:
        return 2
    if end < 20:
        return 0
    first = arena[text]
    if first >> 4 == 4:
        length = _get16(arena, text + 2)
        if following != 4 or (first & 15) < 5 or length < (first & 15) * 4:
            return 0
    elif first >> 4 == 6:
        if following != 41 or end < 40:
            return 0
        length = 40 + _get16(arena, text + 4)
        if length == 40 and arena[text + 6] == 0:
            return 0  # a jumbogram
    else:
        return 0
    if length > end:
        return 0
    s.at = text
    s.length = length
    return 1


cdef int _classify(const uint8_t[::1] arena, Slot* s) except -1:
    """Which flow it is of, and whether it may be merged: plain headers, plain flags, every checksum right."""
    cdef Py_ssize_t at = s.at, l4, rest
    cdef int flags, pseudo
    s.protocol = 0
    s.mergeable = False
    s.head = s.payload = 0
    s.next = -1
    if arena[at] >> 4 == 4:
        l4 = 20
        if arena[at] != 0x45 or arena[at + 6] & 0xBF or arena[at + 7]:
            return 0
        s.protocol = arena[at + 9]
        pseudo = _sum(arena, at + 12, 8)
    else:
        l4 = 40
        s.protocol = arena[at + 6]
        pseudo = _sum(arena, at + 8, 32)
    rest = s.length - l4
    if s.protocol == 6 and rest >= 20:
        s.head = l4 + (arena[at + l4 + 12] >> 4) * 4
        s.payload = s.length - s.head
        if s.head < l4 + 20 or s.payload < 0 or arena[at + l4 + 12] & 15:
            return 0
        flags = arena[at + l4 + 13]
        if flags != 0x10 and (flags != 0x18 or s.payload == 0):
            return 0
        if s.payload == 0 and s.head != l4 + 20 and (s.head != l4 + 32 or _get32(arena, at + l4 + 20) != TIMESTAMP):
            return 0
    elif s.protocol == 17 and rest >= 8:
        s.head = l4 + 8
        s.payload = s.length - s.head
        if s.payload <= 0 or _get16(arena, at + l4 + 4) != rest or _get16(arena, at + l4 + 6) == 0:
            return 0
    else:
        s.protocol = 0
        return 0
    if l4 == 20 and _sum(arena, at, 20) != 0xFFFF:
        return 0
    s.mergeable = _fold(<uint64_t>pseudo + <uint64_t>s.protocol + <uint64_t>rest
                        + <uint64_t>_sum(arena, at + l4, rest)) == 0xFFFF
    return 0


cdef bint _same(const uint8_t[::1] arena, Py_ssize_t a, Py_ssize_t b, Py_ssize_t n) except -1:
    return n == 0 or memcmp(_span(arena, a, n), _span(arena, b, n), n) == 0


cdef bint _same_flow(const uint8_t[::1] arena, Slot* a, Slot* b) except -1:
    cdef bint four = arena[a.at] >> 4 == 4
    if a.protocol != b.protocol or arena[a.at] >> 4 != arena[b.at] >> 4:
        return False
    if four:
        return _same(arena, a.at + 12, b.at + 12, 12)
    return _same(arena, a.at + 8, b.at + 8, 36)


cdef uint32_t _bucket(const uint8_t[::1] arena, const Slot* s) except? 0xFFFFFFFF:
    """Where to look for the groups of a flow: its addresses and ports decide."""
    cdef bint four = arena[s.at] >> 4 == 4
    cdef Py_ssize_t i, words = 3 if four else 9
    cdef const uint8_t* at = _span(arena, s.at + (12 if four else 8), 4 * words)
    cdef uint32_t word, all_words = 0
    for i in range(words):
        memcpy(&word, at + 4 * i, 4)
        all_words ^= word
    return (all_words * <uint32_t>0x9E3779B1) >> 25


cdef bint _fits(const uint8_t[::1] arena, Slot* head, Slot* tail, Slot* s, Group* g) except -1:
    """Whether `s` continues the group, whose flow it is of."""
    cdef Py_ssize_t a = head.at, b = s.at, l4
    if g.closed or not s.mergeable or s.head != head.head or s.payload > g.size or g.total + s.payload > LONGEST:
        return False
    if arena[a] >> 4 == 4:
        l4 = 20
        if arena[a + 1] != arena[b + 1] or arena[a + 6] != arena[b + 6] or arena[a + 8] != arena[b + 8]:
            return False
        if not arena[a + 6] & 0x40 and _get16(arena, b + 4) != (_get16(arena, tail.at + 4) + 1) & 0xFFFF:
            return False
    else:
        l4 = 40
        if not _same(arena, a, b, 4) or arena[a + 7] != arena[b + 7]:
            return False
    if s.payload == 0:
        return g.size == 0 and _supersedes(arena, tail.at + l4, b + l4, s.head - l4)
    if s.protocol == 17:
        return g.count < 64
    if _get32(arena, b + l4 + 4) != <uint32_t>(_get32(arena, tail.at + l4 + 4) + <uint32_t>tail.payload):
        return False
    if not _same(arena, a + l4 + 8, b + l4 + 8, 4) or not _same(arena, a + l4 + 14, b + l4 + 14, 2):
        return False
    return _same(arena, a + l4 + 18, b + l4 + 18, 2) and _same(arena, a + l4 + 20, b + l4 + 20, s.head - l4 - 20)


cdef bint _supersedes(const uint8_t[::1] arena, Py_ssize_t a, Py_ssize_t b, Py_ssize_t head) except -1:
    """Whether the acknowledgement at `b` says more than the one at `a`, and takes back nothing of what that says."""
    cdef uint32_t more = _get32(arena, b + 8) - _get32(arena, a + 8)
    cdef uint32_t later = _get32(arena, b + 24) - _get32(arena, a + 24) if head == 32 else 0
    return more != 0 and (more | later) >> 31 == 0 and _same(arena, a + 4, b + 4, 4)


cdef Py_ssize_t _emit(const uint8_t[::1] arena, Slot* slots, Group* g, uint8_t[::1] out, Py_ssize_t to) except -1:
    """Write one frame; returns where it ends. Of acknowledgements that is the last one."""
    cdef Slot* s = &slots[g.first if g.size else g.tail]
    cdef Py_ssize_t at = to + HEADER, l4, end = to + HEADER + s.length, i, total
    cdef int sum_of_addresses
    cdef bint four = arena[s.at] >> 4 == 4
    if end > out.shape[0]:
        raise IndexError("outside the buffer")
    for i in range(HEADER):
        out[to + i] = 0
    _copy(out, at, arena, s.at, s.length)
    if g.count == 1 or g.size == 0:
        return end
    l4 = 20 if four else 40
    i = s.next
    while i >= 0:
        _copy(out, end, arena, slots[i].at + s.head, slots[i].payload)
        end += slots[i].payload
        if slots[i].protocol == 6:
            out[at + l4 + 13] |= arena[slots[i].at + l4 + 13] & 0x08
        i = slots[i].next
    total = end - at
    if four:
        _put16(out, at + 2, <int>total)
        _ipv4_checksum(out, at)
        sum_of_addresses = _sum(out, at + 12, 8)
    else:
        _put16(out, at + 4, <int>(total - 40))
        sum_of_addresses = _sum(out, at + 8, 32)
    i = 16
    if s.protocol == 17:
        i = 6
        _put16(out, at + l4 + 4, <int>(total - l4))
    _put16(out, at + l4 + i, _fold(<uint64_t>sum_of_addresses + <uint64_t>s.protocol + <uint64_t>(total - l4)))
    out[to] = 1
    out[to + 1] = 5 if s.protocol == 17 else 1 if four else 4
    out[to + 2] = <uint8_t>(s.head & 0xFF)
    out[to + 3] = <uint8_t>(s.head >> 8)
    out[to + 4] = <uint8_t>(g.size & 0xFF)
    out[to + 5] = <uint8_t>(g.size >> 8)
    out[to + 6] = <uint8_t>l4
    out[to + 8] = <uint8_t>i
    return end


def coalesce(const uint8_t[::1] arena, Py_ssize_t end, Py_ssize_t stride, Py_ssize_t first, Py_ssize_t count,
             Py_ssize_t gap, Py_ssize_t icv, const uint8_t[::1] states, uint8_t[::1] out, bint udp,
             list lengths not None=[]):
    cdef Slot slots[SLOTS]
    cdef Group groups[SLOTS]
    cdef int latest[BUCKETS]  # group of each, or -1
    cdef Py_ssize_t texts[SLOTS]
    cdef Py_ssize_t i, k, start, used = 0, to = 0
    cdef Py_ssize_t malformed = 0, dummies = 0, size
    cdef Slot* s
    cdef Group* g
    cdef uint32_t bucket = 0
    cdef int found, older
    if count > states.shape[0] or gap < 0 or icv < 0:
        raise ValueError("impossible slots")
    _lengths(lengths, end, stride, first, count, arena.shape[0], texts)
    memset(latest, 0xFF, sizeof(latest))
    for i in range(count):
        if states[i]:
            continue
        s = &slots[i]
        found = _unpack(arena, (first + i) * stride + gap, texts[i] - gap - icv, s)
        if found != 1:
            malformed += found == 0
            dummies += found == 2
            continue
        _classify(arena, s)
        if s.protocol == 17 and not udp:
            s.mergeable = False
        g = NULL
        older = -1
        if s.protocol:
            bucket = _bucket(arena, s)
            older = latest[bucket]
            k = older
            while k >= 0:
                if _same_flow(arena, &slots[groups[k].first], s):
                    g = &groups[k]
                    break
                k = groups[k].older
        else:
            memset(latest, 0xFF, sizeof(latest))  # nobody knows what it belongs to, so nothing may move past it
        if g != NULL and _fits(arena, &slots[g.first], &slots[g.tail], s, g):
            slots[g.tail].next = i
            g.tail = i
            g.count += 1
            g.total += s.payload
        else:
            g = &groups[used]
            if s.protocol:
                latest[bucket] = <int>used
            used += 1
            g.older = older
            g.first = g.tail = i
            g.count = 1
            g.total = s.length
            g.size = s.payload
            g.closed = not s.mergeable
        if s.mergeable:
            g.closed = s.payload < g.size or (s.protocol == 6 and arena[s.at + (20 if arena[s.at] >> 4 == 4 else 40) + 13] & 8 != 0)
    frames = []
    for k in range(used):
        g = &groups[k]
        start = to
        to = _emit(arena, slots, g, out, to)
        size = 0
        i = g.first
        while i >= 0:
            size += slots[i].length
            i = slots[i].next
        frames.append((start, to, g.count, size))
    return frames, malformed, dummies


cdef bint _selective(const uint8_t[::1] out, Py_ssize_t at, Py_ssize_t end) except -1:
    """Whether a packet with plain headers is TCP and has the option SACK."""
    cdef Py_ssize_t tcp, option, stop
    cdef int protocol, kind
    if out[at] >> 4 == 6:
        tcp = at + 40
        protocol = out[at + 6]
    else:
        tcp = at + 20
        protocol = out[at + 9] if out[at] == 0x45 else 0
    if protocol != 6 or tcp + 20 > end:
        return False
    option = tcp + 20
    stop = min(tcp + (out[tcp + 12] >> 4) * 4, end)
    while option < stop:
        kind = out[option]
        if kind == 5:
            return True
        if kind == 1:
            option += 1
        elif kind == 0 or option + 1 == stop or out[option + 1] < 2:
            return False
        else:
            option += out[option + 1]
    return False


def review(const uint8_t[::1] out, list frames):
    cdef Py_ssize_t start, end, packets, size, head = -1, all_packets = 0, all_bytes = 0, selective = 0
    cdef bint alike = True, look = False, six
    cdef int protocol
    cdef Frame f
    for start, end, packets, size in frames:
        if start < 0 or end > out.shape[0] or start > end - HEADER - 20:
            raise ValueError("no such frames")
        six = out[start + HEADER] >> 4 == 6
        if six and start > end - HEADER - 40:
            raise ValueError("no such frames")
        all_packets += packets
        all_bytes += size
        _examine(out[start:end], end - start, &f)
        look = look or f.count == 0 or f.look
        selective += _selective(out, start + HEADER, end)
        if six:
            protocol = out[start + HEADER + 6]
        else:
            protocol = out[start + HEADER + 9] if out[start + HEADER] == 0x45 else 0
        alike = alike and (protocol == 6 or protocol == 17)
        if head < 0:
            head = start + HEADER
        elif six != (out[head] >> 4 == 6):
            alike = False
        elif six:
            alike = alike and _same(out, head + 8, start + HEADER + 8, 32)
        else:
            alike = alike and _same(out, head + 12, start + HEADER + 12, 8)
    return all_packets, all_bytes, bool(alike), bool(look), selective
