"""The headers of what a connection sends: virtio, IP and TCP, written in front of the data in one frame.

The transport checksum is left to be completed behind us, as a kernel leaves it to its network card: the field has the
sum of the pseudo header. IPv4 packets must not be fragmented, so their id says nothing (RFC 6864 section 4.1).
"""

from __future__ import annotations

from struct import Struct

from ikeclient.stack.interfaces import FRAME_HEADER, GSO_ECN, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM
from ikeclient.stack.tcp.segment import CWR, HEADER
from ikeclient.stack.tcp.sequence import MASK

_TCP = 6
_HOPS = 64
_CHECK_AT = 16
_virtio = Struct("<BBHHHH").pack_into
_ipv4 = Struct(">HHHHHH8s4sIIHHHH").pack_into
_ipv6 = Struct(">IHBB32s4sIIHHHH").pack_into


def _fold(total: int) -> int:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)


def _words(data: bytes) -> int:
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


class Flow:
    """Addresses and ports of a connection, and what of its headers never changes.

    `key` is as in `stack.interfaces`; `overhead` is the length of the IP header and the TCP header without options.
    """

    __slots__ = ("_addresses", "_fixed_sum", "_four", "_ports", "_sum", "key", "overhead")

    def __init__(self, key: bytes) -> None:
        self.key = key
        length = (len(key) - 4) // 2
        self._addresses = key[length : 2 * length] + key[:length]
        self._ports = key[-2:] + key[-4:-2]
        self._four = length == 4
        self.overhead = (20 if self._four else 40) + HEADER
        self._sum = _words(self._addresses)
        self._fixed_sum = self._sum + 0x4500 + 0x4000 + (_HOPS << 8 | _TCP)

    @property
    def remote(self) -> tuple[bytes, int]:
        """Address and port of the peer."""
        return self.key[: (len(self.key) - 4) // 2], int.from_bytes(self.key[-4:-2], "big")

    @property
    def local(self) -> tuple[bytes, int]:
        """Our own."""
        return self.key[(len(self.key) - 4) // 2 : -4], int.from_bytes(self.key[-2:], "big")

    def write(
        self,
        frame: memoryview,
        sequence: int,
        acknowledgment: int,
        flags: int,
        window: int,
        options: bytes = b"",
        length: int = 0,
        size: int = 0,
        ecn: int = 0,
    ) -> int:
        """Write all headers; return where `length` bytes of data belong, of which each segment has at most `size`."""
        tcp = HEADER + len(options)
        l4 = tcp + length
        four = self._four
        ip = 20 if four else 40
        if length > size:
            kind = GSO_TCPV4 if four else GSO_TCPV6
            _virtio(frame, 0, NEEDS_CSUM, kind | GSO_ECN if flags & CWR else kind, ip + tcp, size, ip, _CHECK_AT)
        else:
            _virtio(frame, 0, NEEDS_CSUM, 0, 0, 0, ip, _CHECK_AT)
        word = tcp << 10 | flags
        check = _fold(self._sum + _TCP + l4)
        sequence &= MASK
        if four:
            total = 20 + l4
            sum_ = _fold(self._fixed_sum + total + ecn) ^ 0xFFFF
            _ipv4(
                frame,
                FRAME_HEADER,
                0x4500 | ecn,
                total,
                0,
                0x4000,
                _HOPS << 8 | _TCP,
                sum_,
                self._addresses,
                self._ports,
                sequence,
                acknowledgment & MASK,
                word,
                window,
                check,
                0,
            )
        else:
            _ipv6(
                frame,
                FRAME_HEADER,
                0x60000000 | ecn << 20,
                l4,
                _TCP,
                _HOPS,
                self._addresses,
                self._ports,
                sequence,
                acknowledgment & MASK,
                word,
                window,
                check,
                0,
            )
        at = FRAME_HEADER + ip + HEADER
        if options:
            frame[at : at + len(options)] = options
        return at + len(options)
