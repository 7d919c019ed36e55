# Part of _offload.pyx: the packets of a run, through the replay window and the cipher with one call.

cdef int _lengths(list lengths, Py_ssize_t end, Py_ssize_t stride, Py_ssize_t first, Py_ssize_t count, Py_ssize_t room,
                  Py_ssize_t* found) except -1:
    """How long the datagram in each slot is; none reaches out of its slot, or out of an arena with that room.

    `lengths` says it of all slots, or it is empty: then the arena is filled up to `end`.
    """
    cdef Py_ssize_t i
    if count < 0 or count > SLOTS or stride < 1 or first < 0 or end > room or first > room // stride:
        raise ValueError("impossible slots")
    for i in range(count):
        found[i] = lengths[first + i] if lengths else min(stride, end - (first + i) * stride)
        if found[i] > stride or (first + i) * stride > room - found[i]:
            raise ValueError("impossible slots")
    return 0


def open_slots(RunCipher cipher not None, Window window not None, Py_ssize_t alignment, uint8_t[::1] arena,
               Py_ssize_t end, Py_ssize_t stride, Py_ssize_t first, Py_ssize_t count, list lengths not None,
               uint8_t[::1] states):
    cdef Py_ssize_t texts[SLOTS]
    cdef Py_ssize_t i, misshapen = 0, replayed = 0, forged = 0
    cdef uint64_t sequence
    cdef uint8_t* slot
    if states.shape[0] != count:
        raise ValueError("a state for each packet")
    _lengths(lengths, end, stride, first, count, arena.shape[0], texts)
    for i in range(count):
        texts[i] -= cipher.gap + cipher.icv
        states[i] = ACCEPTED
        if not _shaped(cipher, alignment, texts[i]):
            states[i] = MISSHAPEN
            misshapen += 1
    if misshapen == count:
        return misshapen, 0, 0
    slot = &arena[0] + first * stride
    cipher.busy = True
    with nogil:
        for i in range(count):
            if states[i] == ACCEPTED:
                sequence = window._check(_read32(slot + 4))
                if not sequence:
                    states[i] = REPLAYED
                    replayed += 1
                elif not cipher._open(slot, texts[i], sequence, slot + cipher.gap):
                    states[i] = FORGED
                    forged += 1
                else:
                    window._commit(sequence)
            slot += stride
    cipher.busy = False
    if forged:
        cipher.evp.clear_errors()
    return misshapen, replayed, forged
