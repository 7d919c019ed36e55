"""Many datagrams with one system call, recvmmsg(2), where neither the sender nor the network merges them (UDP_GRO).

The socket module has no such call, so its arguments are laid out here once and kept. They describe *slots* of one
stride in one buffer: datagrams that are all alike lie there one behind the other, ready to be decrypted together. Each
has room behind its slot for what it is longer, so that nothing is ever cut off.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Callable
from mmap import mmap
from struct import Struct
from typing import cast

Source = tuple[str, int]  # over IPv6 with two more numbers, as the socket module gives it
# (data, length, size, source, tos): `data` is None for datagrams in their slots; as
# `net.transport.udp.UdpSocket.receive_into`
Arrival = tuple[bytes | None, int, int, Source, int]

SLOTS = 128
_LONGEST = 65535
_HEADER, _IOVEC, _NAME, _CONTROL = 64, 16, 32, 64  # bytes of struct mmsghdr, of struct iovec, and of our rooms
_NAME_LENGTH = 28  # struct sockaddr_in6
_CONTROL_LENGTH = 40  # where it is in struct msghdr
_header = Struct("@QI4xQQQQi4xI4x")
_iovec = Struct("@QQQQ")
_cmsg = Struct("@Qii")
_SOL_UDP, _UDP_GRO = 17, 104
_MOST_STRIDES, _MOST_SOURCES = 8, 64
_NO_NAMES, _NO_CONTROLS = bytes(SLOTS * _NAME), bytes(SLOTS * _CONTROL)


class _Layout:
    """The arguments for one stride."""

    __slots__ = ("address", "headers", "iovecs", "lengths", "template")

    def __init__(self, stride: int, arena: int, spill: int, names: int, controls: int) -> None:
        slots = range(SLOTS)
        iovecs = (_iovec.pack(arena + i * stride, stride, spill + i * _LONGEST, _LONGEST) for i in slots)
        self.iovecs = bytearray(b"".join(iovecs))
        at = _address(self.iovecs)
        headers = (
            _header.pack(
                names + i * _NAME, _NAME_LENGTH, at + i * 2 * _IOVEC, 2, controls + i * _CONTROL, _CONTROL, 0, 0
            )
            for i in slots
        )
        self.template = b"".join(headers)
        self.headers = bytearray(self.template)
        self.address = _address(self.headers)
        self.lengths = memoryview(self.headers).cast("I")


class Recvmmsg:
    """Receives into `arena`, which must stay where it is, and of which this keeps hold."""

    def __init__(self, arena: bytearray) -> None:
        self.exhausted = False  # whether the last call found fewer than it had room for
        self.merged = False  # whether there were merged ones among them
        self._arena = arena
        self._view = memoryview(arena)  # also forbids that the buffer is moved
        self._spill = mmap(-1, SLOTS * _LONGEST)  # megabytes that cost nothing until they are used
        self._names = bytearray(SLOTS * _NAME)
        self._controls = bytearray(SLOTS * _CONTROL)
        self._layouts: dict[int, _Layout] = {}
        self._sources: dict[bytes, Source] = {}
        function = ctypes.CDLL(None, use_errno=True).recvmmsg
        function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._call: Callable[..., int] = function

    def receive(self, descriptor: int, stride: int, first: int, most: int) -> list[Arrival]:
        """At most `most` waiting datagrams, for the slots from number `first` on; never blocks.

        Raises OSError, but not where nothing is waiting.

        Datagrams of `stride` bytes that follow each other and differ in nothing but their content are one arrival.
        They stay in their slots if the first of them is in slot `first`; every other arrival has its own data.
        """
        most = min(most, min(SLOTS, len(self._arena) // stride) - first)
        layout = self._layout(stride)
        if most <= 0:
            return []
        begin = first * _HEADER
        layout.headers[begin:] = layout.template[begin:]
        self._names[:] = _NO_NAMES
        self._controls[:] = _NO_CONTROLS
        count = self._call(descriptor, layout.address + begin, most, socket.MSG_DONTWAIT, None)
        self.exhausted, self.merged = count < most, False
        if count <= 0:
            number = ctypes.get_errno()
            if count == 0 or number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, os.strerror(number))
        return self._sort(layout, stride, first, first + count)

    def _sort(self, layout: _Layout, stride: int, first: int, end: int) -> list[Arrival]:
        """What is in the slots from `first` to `end`, as arrivals."""
        arrivals: list[Arrival] = []
        uniform = self._uniform(first, end - first)
        lengths = layout.lengths[first * 16 + 14 : end * 16 : 16].tolist()
        alike = uniform and lengths.count(stride) == end - first
        slot = first
        while slot < end:
            if slot == first or not uniform:
                source, gro, tos = self._about(layout, slot)
            stop = end if alike and not gro else slot + 1
            if lengths[slot - first] == stride and not gro:
                while stop < end and lengths[stop - first] == stride and (uniform or self._uniform(stop - 1, 2)):
                    stop += 1
                data = None if slot == first else bytes(self._view[slot * stride : stop * stride])
                arrivals.append((data, (stop - slot) * stride, stride, source, tos))
            else:
                data = self._data(stride, slot, lengths[slot - first])
                self.merged |= gro > 0
                arrivals.append((data, len(data), gro or len(data), source, tos))
            slot = stop
        return arrivals

    def _layout(self, stride: int) -> _Layout:
        found = self._layouts.get(stride)
        if found is None:
            if len(self._layouts) == _MOST_STRIDES:
                self._layouts.clear()
            rooms = (_address(room) for room in (self._arena, self._spill, self._names, self._controls))
            found = self._layouts[stride] = _Layout(stride, *rooms)
        return found

    def _uniform(self, first: int, count: int) -> bool:
        """Whether all these slots have one source and the same control messages."""
        for room, width in ((self._names, _NAME), (self._controls, _CONTROL)):
            one = room[first * width : (first + 1) * width]
            if room[first * width : (first + count) * width] != one * count:
                return False
        return True

    def _about(self, layout: _Layout, slot: int) -> tuple[Source, int, int]:
        """Source, size of merged datagrams (0: not merged) and TOS octet of what is in a slot."""
        name = bytes(self._names[slot * _NAME : slot * _NAME + _NAME_LENGTH])
        source = self._sources.get(name)
        if source is None:
            if len(self._sources) == _MOST_SOURCES:
                self._sources.clear()
            source = self._sources[name] = _source(name)
        at = slot * _HEADER + _CONTROL_LENGTH
        length = min(int.from_bytes(layout.headers[at : at + 8], sys.byteorder), _CONTROL)
        gro = tos = 0
        position, start = 0, slot * _CONTROL
        while position + _cmsg.size <= length:
            size, level, kind = _cmsg.unpack_from(self._controls, start + position)
            if size < _cmsg.size or position + size > length:
                break
            value = int.from_bytes(
                self._controls[start + position + _cmsg.size : start + position + size], sys.byteorder
            )
            if (level, kind) == (_SOL_UDP, _UDP_GRO):
                gro = value
            else:
                tos = value & 0xFF
            position += (size + 7) & ~7
        return source, gro, tos

    def _data(self, stride: int, slot: int, length: int) -> bytes:
        start, spilt = slot * stride, slot * _LONGEST
        if length <= stride:
            return bytes(self._view[start : start + length])
        return bytes(self._view[start : start + stride]) + self._spill[spilt : spilt + length - stride]


def _address(buffer: bytearray | mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _source(name: bytes) -> Source:
    """The address in a struct sockaddr, as the socket module gives it."""
    port = int.from_bytes(name[2:4], "big")
    if int.from_bytes(name[:2], sys.byteorder) == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, name[4:8]), port
    flow, scope = int.from_bytes(name[4:8], "big"), int.from_bytes(name[24:28], sys.byteorder)
    return cast("Source", (socket.inet_ntop(socket.AF_INET6, name[8:24]), port, flow, scope))
