"""Many datagrams with one system call, recvmmsg(2), where neither the sender nor the network merges them (UDP_GRO).

The socket module has no such call, so its arguments are laid out here once and kept. They describe *slots* of one
stride in one buffer: datagrams that are all alike lie there one behind the other, ready to be decrypted together. Each
has room behind its slot for what it is longer, so that nothing is ever cut off. Sizes change seldom, so the memory of
that room is given back when little of it has been used.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from mmap import MADV_DONTNEED, MAP_PRIVATE, PAGESIZE, mmap
from struct import Struct

from ikeclient.net.transport import sockaddr

Source = sockaddr.Address
# (data, length, size, source, tos): `data` is None for datagrams in their slots; as
# `net.transport.udp.UdpSocket.receive_into`
Arrival = tuple[bytes | None, int, int, Source, int]

SLOTS = 256
_LONGEST = 65535
_HEADER, _IOVEC = 64, 16  # bytes of struct mmsghdr and of struct iovec
_NAME, _CONTROL = 32, 64  # bytes of our rooms for a source and for control messages, which make up a label
_LABEL = _NAME + _CONTROL
_header = Struct("@QI4xQQQQi4xI4x")
_iovec = Struct("@QQQQ")
_cmsg = Struct("@Qii")
_SOL_UDP, _UDP_GRO = 17, 104
_MOST_STRIDES, _MOST_LABELS = 8, 64
_MOST_SPILT = 64  # pages that are kept for ends of datagrams that are longer than their slot


class _Layout:
    """The arguments for one stride."""

    __slots__ = ("address", "filled", "headers", "iovecs", "lengths", "template")

    def __init__(self, stride: int, arena: int, spill: int, labels: int) -> None:
        slots = range(SLOTS)
        iovecs = (_iovec.pack(arena + i * stride, stride, spill + i * _LONGEST, _LONGEST) for i in slots)
        self.iovecs = bytearray(b"".join(iovecs))
        at = _address(self.iovecs)
        rooms = ((at + i * 2 * _IOVEC, labels + i * _LABEL) for i in slots)
        headers = (
            _header.pack(label, sockaddr.LENGTH, iovec, 2, label + _NAME, _CONTROL, 0, 0) for iovec, label in rooms
        )
        self.template = b"".join(headers)
        self.headers = bytearray(self.template)
        self.address = _address(self.headers)
        self.lengths = memoryview(self.headers).cast("I")
        self.filled = 0  # the kernel may have written into those of the first slots


class Recvmmsg:
    """Receives into `arena`, which must stay where it is, and of which this keeps hold.

    Datagrams of at least `shortest` bytes can share an arrival though they differ in length.
    """

    def __init__(self, arena: bytearray, shortest: int) -> None:
        self.exhausted = False  # whether the last call found fewer than it had room for
        self.merged = False  # whether there were merged ones among them
        self.lengths: list[int] = []  # of the datagrams in the one arrival of the last call, if they differ
        self._shortest = shortest
        self._arena = arena
        self._view = memoryview(arena)  # also forbids that the buffer is moved
        self._spill = mmap(-1, SLOTS * _LONGEST, MAP_PRIVATE)  # megabytes that cost nothing until they are used
        self._spilt = 0  # pages of it that may have been used
        self._labels = bytearray(SLOTS * _LABEL)
        self._labelled = 0  # how many of them, at the most, say something
        self._layouts: dict[int, _Layout] = {}
        self._known: dict[bytes, tuple[Source, int, int]] = {}  # what labels say
        function = ctypes.CDLL(None, use_errno=True).recvmmsg
        function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._call: Callable[..., int] = function

    def receive(self, descriptor: int, stride: int, first: int, most: int) -> list[Arrival]:
        """At most `most` waiting datagrams, for the slots from number `first` on; never blocks.

        Raises OSError, but not where nothing is waiting.

        Datagrams of `stride` bytes that follow each other and differ in nothing but their content are one arrival.
        They stay in their slots if the first of them is in slot `first`; every other arrival has its own data. All of
        a call are one, in their slots, if they differ in nothing else than their `lengths`.
        """
        most = min(most, min(SLOTS, len(self._arena) // stride) - first)
        layout = self._layout(stride)
        self.lengths = []
        if most <= 0:
            return []
        self._clear(layout, first)
        count = self._call(descriptor, layout.address + first * _HEADER, most, socket.MSG_DONTWAIT, None)
        layout.filled = self._labelled = first + max(count, 0)
        self.exhausted, self.merged = count < most, False
        if count <= 0:
            number = ctypes.get_errno()
            if count == 0 or number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, os.strerror(number))
        arrivals = self._sort(layout, stride, first, first + count)
        if self._spilt > _MOST_SPILT:
            self._spill.madvise(MADV_DONTNEED)
            self._spilt = 0
        return arrivals

    def _clear(self, layout: _Layout, first: int) -> None:
        """Take back what earlier calls have left in the slots from `first` on."""
        begin, end = first * _HEADER, layout.filled * _HEADER
        layout.headers[begin:end] = layout.template[begin:end]
        begin, end = first * _LABEL, self._labelled * _LABEL
        self._labels[begin:end] = bytes(max(end - begin, 0))

    def _sort(self, layout: _Layout, stride: int, first: int, end: int) -> list[Arrival]:
        """What is in the slots from `first` to `end`, as arrivals."""
        count, all_labels = end - first, self._labels[first * _LABEL : end * _LABEL]
        lengths = layout.lengths[first * 16 + 14 : end * 16 : 16].tolist()
        label = bytes(all_labels[:_LABEL])
        source, gro, tos = self._read(label)
        uniform = all_labels == label * count
        if uniform and not gro and min(lengths) >= self._shortest and max(lengths) <= stride:
            self.lengths = lengths if min(lengths) < stride else []
            return [(None, count * stride, stride, source, tos)]
        labels = [label] * count
        if not uniform:
            labels = [bytes(all_labels[at : at + _LABEL]) for at in range(0, count * _LABEL, _LABEL)]
        arrivals: list[Arrival] = []
        at = 0
        while at < count:
            source, gro, tos = self._read(labels[at])
            stop = at + 1
            if lengths[at] == stride and not gro:
                while stop < count and lengths[stop] == stride and labels[stop] == labels[at]:
                    stop += 1
                data = bytes(self._view[(first + at) * stride : (first + stop) * stride]) if at else None
                arrivals.append((data, (stop - at) * stride, stride, source, tos))
            else:
                data = self._data(stride, first + at, lengths[at])
                self.merged |= gro > 0
                arrivals.append((data, len(data), gro or len(data), source, tos))
            at = stop
        return arrivals

    def _layout(self, stride: int) -> _Layout:
        found = self._layouts.get(stride)
        if found is None:
            if len(self._layouts) == _MOST_STRIDES:
                self._layouts.clear()
            rooms = (_address(room) for room in (self._arena, self._spill, self._labels))
            found = self._layouts[stride] = _Layout(stride, *rooms)
        return found

    def _read(self, label: bytes) -> tuple[Source, int, int]:
        """Source, size of merged datagrams (0: not merged) and TOS octet."""
        known = self._known.get(label)
        if known is None:
            if len(self._known) == _MOST_LABELS:
                self._known.clear()
            known = self._known[label] = sockaddr.unpack(label), *_controls(label)
        return known

    def _data(self, stride: int, slot: int, length: int) -> bytes:
        start, spilt = slot * stride, slot * _LONGEST
        if length <= stride:
            return bytes(self._view[start : start + length])
        self._spilt += 1 + (length - stride) // PAGESIZE
        return bytes(self._view[start : start + stride]) + self._spill[spilt : spilt + length - stride]


def _address(buffer: bytearray | mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _controls(label: bytes) -> tuple[int, int]:
    """Size of merged datagrams and TOS octet, by the control messages, which zeros follow."""
    gro = tos = 0
    at = _NAME
    while at + _cmsg.size <= _LABEL:
        size, level, kind = _cmsg.unpack_from(label, at)
        if size < _cmsg.size or at + size > _LABEL:
            break
        value = int.from_bytes(label[at + _cmsg.size : at + size], sys.byteorder)
        if (level, kind) == (_SOL_UDP, _UDP_GRO):
            gro = value
        else:
            tos = value & 0xFF
        at += (size + 7) & ~7
    return gro, tos
