# Part of _offload.pyx: a packet that comes alone, from one descriptor to the other with one call, or with the one that
# waits for it; and frames that wait, as runs.
#
# A ping finds every cache cold, so each step in the interpreter costs its sender microseconds. Whatever does not go
# smoothly is left as it is to the caller, who goes on from there: a frame or a datagram that needs a longer look is in
# the buffer, a packet that was not taken is in what is returned, and what a system call said is asked for again.

cdef extern from "sys/uio.h":
    struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "sys/socket.h":
    struct msghdr:
        void* msg_name
        unsigned int msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen

    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type

    cmsghdr* CMSG_FIRSTHDR(msghdr* message)
    cmsghdr* CMSG_NXTHDR(msghdr* message, cmsghdr* last)
    uint8_t* CMSG_DATA(cmsghdr* one)
    size_t CMSG_LEN(size_t length)
    size_t CMSG_SPACE(size_t length)
    Py_ssize_t recvmsg(int descriptor, msghdr* message, int flags)
    Py_ssize_t sendmsg(int descriptor, const msghdr* message, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL, AF_INET

cdef extern from "netinet/in.h":
    int IPPROTO_IP, IPPROTO_IPV6, IP_TOS, IPV6_TCLASS

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd

    struct epoll_event:
        epoll_data_t data
        unsigned int events

    int epoll_wait(int poll, epoll_event* events, int most, int timeout)

cdef enum:
    EVENTS = 16
    ANSWER = 1  # milliseconds in which what a packet causes is waited for: the interpreter's turn takes a tenth of that
    NAME = 28  # struct sockaddr_in6
    CONTROL = 8  # words of eight octets for control messages
    SOL_UDP = 17
    UDP_SEGMENT = 103  # linux/udp.h
    UDP_GRO = 104
    IKE_PORT = 500


cdef void _control(msghdr* message, cmsghdr** next, int level, int kind, const void* data, size_t length) noexcept:
    """Append a control message, for which there has to be room."""
    cdef cmsghdr* one = next[0]
    one.cmsg_level, one.cmsg_type, one.cmsg_len = level, kind, CMSG_LEN(length)
    memcpy(CMSG_DATA(one), data, length)
    message.msg_controllen += CMSG_SPACE(length)
    next[0] = <cmsghdr*>(<uint8_t*>one + CMSG_SPACE(length))


cdef bint _send(int descriptor, const uint8_t* payload, Py_ssize_t length, Py_ssize_t stride,
                const uint8_t[::1] name, int tos) except -1:
    """Send datagrams of `stride` bytes, the last perhaps shorter, to a struct sockaddr; whether they went out."""
    cdef msghdr message
    cdef iovec piece
    cdef uint64_t control[CONTROL]
    cdef cmsghdr* one = <cmsghdr*>control
    cdef uint16_t family, size = <uint16_t>stride
    if descriptor < 0 or name.shape[0] < 2:
        return False
    memset(&message, 0, sizeof(message))
    memset(control, 0, sizeof(control))
    piece.iov_base, piece.iov_len = <void*>payload, length
    message.msg_name, message.msg_namelen = <void*>&name[0], <unsigned int>name.shape[0]
    message.msg_iov, message.msg_iovlen = &piece, 1
    if tos:
        memcpy(&family, &name[0], 2)
        if family == AF_INET:
            _control(&message, &one, IPPROTO_IP, IP_TOS, &tos, sizeof(tos))
        else:
            _control(&message, &one, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos))
    if stride < length:
        _control(&message, &one, SOL_UDP, UDP_SEGMENT, &size, sizeof(size))
    if message.msg_controllen:
        message.msg_control = control
    return sendmsg(descriptor, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == length


def send_single(RunCipher cipher not None, Filter packets not None, Py_ssize_t mask, uint64_t sequence,
                uint8_t[::1] frame, Py_ssize_t length, Py_ssize_t mtu, int device, int transport,
                const uint8_t[::1] name):
    cdef Frame f
    cdef Py_ssize_t sealed
    cipher._direction(True)
    if not length and device >= 0:
        length = max(read(device, <void*>_span(frame, 0, frame.shape[0]), frame.shape[0]), 0)
    if not _plain(packets, frame, length, mtu, &f) or f.kind != 0:
        return UNOPENED, length, b"", 0
    sealed = _seal_one(cipher, mask, sequence, frame, &f)
    if _send(transport, _scratch, sealed, sealed, name, f.tos):
        return CARRIED, length, b"", f.tos
    return ACCEPTED, length, PyBytes_FromStringAndSize(<char*>_scratch, sealed), f.tos


def send_frames(RunCipher cipher not None, Filter packets not None, Py_ssize_t mask, Py_ssize_t longest,
                Py_ssize_t most_packets, uint64_t sequence, uint8_t[::1] frame, Py_ssize_t length, Py_ssize_t mtu,
                uint8_t[::1] out, int device, int transport, const uint8_t[::1] name, Py_ssize_t most, Py_ssize_t room,
                Py_ssize_t runs):
    cdef Outgoing run
    cdef Py_ssize_t count = 0, size = 0, frames = 0, taken = 0, end
    cdef int found
    cipher._direction(True)
    if mask < 0 or mask >= BLOCK or (cipher.mac != NULL and mask != BLOCK - 1):
        raise ValueError("impossible alignment")
    run.count = 0
    while True:
        if length == 0 and frames < most and taken < room and device >= 0:
            length = read(device, <void*>_span(frame, 0, frame.shape[0]), frame.shape[0])
        found = LOOK
        if length > 0:
            found = _join(packets, cipher.gap, mask, cipher.icv, most_packets, longest, frame, length, mtu, out, &run)
        if found == JOINED:
            frames += 1
            taken += length
            length = 0
            continue
        if run.count:
            cipher._seal_run(out, run.stride, run.count, run.last, sequence + count)
            count += run.count
            size += run.size
            runs -= 1
            end = (run.count - 1) * run.stride + run.last
            if not _send(transport, _span(out, 0, end), end, run.stride, name, run.tos):
                return count, size, frames, taken, length, (run.count, run.stride, run.last, run.tos)
            run.count = 0
        if found == LOOK or runs <= 0:
            return count, size, frames, taken, length, None


cdef bint _syn(const uint8_t* packet, Py_ssize_t length) noexcept nogil:
    """Whether a packet that the filter has accepted may be a SYN of TCP with an option."""
    if packet[0] >> 4 == 4:
        return packet[9] == 6 and length >= 44 and packet[33] & 2
    return packet[6] == 6 and length >= 64 and packet[53] & 2


def receive_single(RunCipher cipher not None, Window window not None, Filter packets not None, Py_ssize_t alignment,
                   uint8_t[::1] arena, int transport, int device, bint judge, bint clamp):
    cdef msghdr message
    cdef iovec piece
    cdef uint8_t name[NAME]
    cdef uint64_t control[CONTROL]
    cdef cmsghdr* one
    cdef Py_ssize_t length, text, inner = 0
    cdef int what = UNOPENED, size, tos = 0
    memset(&message, 0, sizeof(message))
    memset(name, 0, NAME)
    piece.iov_base, piece.iov_len = <void*>_span(arena, 0, arena.shape[0]), arena.shape[0]
    message.msg_name, message.msg_namelen = name, NAME
    message.msg_iov, message.msg_iovlen = &piece, 1
    message.msg_control, message.msg_controllen = control, sizeof(control)
    length = recvmsg(transport, &message, MSG_DONTWAIT)
    if length < 0:
        return NOTHING, b"", 0, 0, 0, b""
    size = <int>length
    one = CMSG_FIRSTHDR(&message)
    while one != NULL:
        if one.cmsg_level == SOL_UDP and one.cmsg_type == UDP_GRO:
            memcpy(&size, CMSG_DATA(one), sizeof(int))
        elif one.cmsg_len == CMSG_LEN(1):
            tos = CMSG_DATA(one)[0]
        elif one.cmsg_len >= CMSG_LEN(sizeof(int)):
            memcpy(&tos, CMSG_DATA(one), sizeof(int))
        one = CMSG_NXTHDR(&message, one)
    if size == length and length >= ESP and (name[2] << 8 | name[3]) != IKE_PORT and _read32(&arena[0]) == cipher.spi:
        text = length - cipher.gap - cipher.icv
        if not _shaped(cipher, alignment, text):
            what = MISSHAPEN
        else:
            what = _open_one(cipher, window, packets, &arena[0], text, judge and not tos & 1, &inner)
        if what == ACCEPTED and device >= 0 and not (clamp and _syn(_scratch, inner)):
            memset(_room, 0, HEADER)
            if write(device, _room, HEADER + inner) == HEADER + inner:
                what = CARRIED
    opened = PyBytes_FromStringAndSize(<char*>_scratch, inner)
    return what, opened, length, size, tos, PyBytes_FromStringAndSize(<char*>name, NAME)


def write_frames(int device, const uint8_t[::1] out, list frames not None, Py_ssize_t first):
    cdef Py_ssize_t start, end, length
    while first < len(frames):
        start, end, _, _ = frames[first]
        length = end - start
        if write(device, _span(out, start, length), length) != length:
            break
        first += 1
    return first


def relay(int poll, int timeout, dict calls not None):
    cdef epoll_event events[EVENTS]
    cdef int count, i
    cdef dict results = {}
    cdef bint later = False
    with nogil:
        count = epoll_wait(poll, events, EVENTS, timeout)
    while count == 1:
        descriptor = events[0].data.fd
        call = calls.get(descriptor)
        if call is None or descriptor in results:
            break
        results[descriptor] = result = call()
        if result[0] != CARRIED:
            return [], results, False
        count = epoll_wait(poll, events, EVENTS, 0)
        if count == 0 and len(results) < len(calls) and timeout:
            later = True
            with nogil:
                count = epoll_wait(poll, events, EVENTS, ANSWER)
    return [(events[i].data.fd, events[i].events) for i in range(count)], results, later
