"""One UDP socket of one network path, for IKE and ESP alike, in batches (RFC 3948).

The socket is never connected: answers may come from port 500 or 4500 and, during a move, from several addresses. It
asks for ICMP errors (IP_RECVERR), because an unconnected socket hears of none otherwise. They are hints
(`net.transport.icmp_errors`).

Path MTU: at first IP_PMTUDISC_WANT. Datagrams that fit the known path MTU go out with "don't fragment", so that routers
report bottlenecks; larger ones are fragmented here, so that nothing fails with EMSGSIZE while the tunnel still adapts.
Once a size has been proven from end to end, `trust_path` stops believing what routers tell the kernel, and lets what is
longer than that size be fragmented by anybody.

Runs: datagrams of one size, the last perhaps shorter, go out and come in with one system call where the kernel can
(UDP_SEGMENT since Linux 4.18, UDP_GRO since 5.12). What it refuses goes one by one, and the refusal is remembered.

UDP checksums are left on, although RFC 3948 section 2.1 prefers zero over IPv4: network cards compute them, and
segmentation offload demands them.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Sequence
from struct import Struct
from time import monotonic
from typing import Self

from ikeclient.errors import PlatformError
from ikeclient.net.transport.icmp_errors import IP_RECVERR, IPV6_RECVERR, Hints, PathHint
from ikeclient.net.transport.recvmmsg import Arrival, Recvmmsg

Payload = bytes | bytearray | memoryview
Address = tuple[str, int]
Ancillary = tuple[int, int, bytes]

BUFFER_SIZE = 7 << 20
_LONGEST = 65535
_FULL_WAIT_MS = 5

# Not in the socket module (linux/socket.h, linux/in.h, linux/in6.h)
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_PMTUDISC_DONT, _PMTUDISC_WANT, _PMTUDISC_PROBE = 0, 1, 3
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_IP_TOS, _IP_RECVTOS = 1, 13
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_ANCILLARY = 2 * socket.CMSG_SPACE(4)
_SO_MEMINFO, _MEMINFO_QUEUED, _MEMINFO_DROPS = 55, 0, 8  # linux/sock_diag.h
_meminfo = Struct("=9I")
_int = Struct("=i")
_short = Struct("=H")

_RETRY_SIZE = 60.0  # seconds after which a size that the path did not carry is tried again
_TOO_LARGE = frozenset((errno.EINVAL, errno.EMSGSIZE))
_NO_OFFLOAD = frozenset((errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP))

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104  answers may reach any address of the path's interface


class _Fragmentation:
    """What a socket tells the kernel about "don't fragment"; `fits` is the longest payload that needs no fragments."""

    __slots__ = ("_how", "_set", "_version", "fits")

    def __init__(self, version: int, set_option: Callable[[int, int, int], bool]) -> None:
        self._version = version
        self._set = set_option
        self._how = _PMTUDISC_WANT
        self.fits = _LONGEST
        self.restore()

    def trust(self, mtu: int, *, proven: bool) -> None:
        """See `UdpSocket.trust_path`."""
        self.fits = mtu - (28 if self._version == 4 else 48)
        self._how = _PMTUDISC_PROBE if proven else _PMTUDISC_WANT
        self.restore()

    def set(self, how: int) -> None:
        """Send otherwise until `restore`."""
        if self._version == 4:
            self._set(socket.IPPROTO_IP, _IP_MTU_DISCOVER, how)
        else:
            self._set(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, how)

    def restore(self) -> None:
        """Send again as the trusted path wants it."""
        self.set(self._how)


class _RefusedSize:
    """The size of datagrams from which on the path did not take runs, for a while."""

    __slots__ = ("_clock", "_retry", "_size")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._size = 1 << 16
        self._retry = 0.0

    def note(self, size: int) -> None:
        """Remember a refusal."""
        self._size, self._retry = size, self._clock() + _RETRY_SIZE

    def covers(self, size: int) -> bool:
        """Whether a run of datagrams of this size would be refused as well."""
        return size >= self._size and self._clock() < self._retry


class UdpSocket:
    """A bound, non-blocking UDP socket.

    - `local_address`: None binds to every address. `port` 0 is ephemeral; a port that is taken or needs a right we
      lack is replaced by an ephemeral one. `local` is the result.
    - `mark`: the firewall mark of outgoing datagrams; `marked` tells whether the kernel took it.
    - `offload`: use the kernel's segmentation of runs where it has it; the attribute `segments` tells.
    - `on_hint`: called with a PathHint, at most once per second and kind, from inside the other methods.

    Raises PlatformError where the address does not exist here or the IP version is switched off.
    """

    def __init__(
        self,
        *,
        version: int = 4,
        local_address: str | None = None,
        port: int = 0,
        mark: int | None = None,
        buffer_size: int = BUFFER_SIZE,
        offload: bool = True,
        on_hint: Callable[[PathHint], None] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.version = version
        self.send_errors = 0
        self.dropped = 0  # datagrams not sent, for whatever reason
        self._offload = offload
        self._hints = Hints(version, on_hint, clock)
        self._refused = _RefusedSize(clock)
        address = local_address or _WILDCARDS[version]
        try:
            self._socket = socket.socket(_FAMILIES[version], socket.SOCK_DGRAM)
        except OSError as error:
            raise PlatformError(f"cannot open an IPv{version} socket", reason=error.strerror) from None
        try:
            self._configure()
            self.segments = offload and self._can_segment()
            self.merges = False
            self.marked = mark is None or self._try(socket.SOL_SOCKET, socket.SO_MARK, mark)
            self.receive_buffer = self._buffer(_SO_RCVBUFFORCE, socket.SO_RCVBUF, buffer_size)
            self.send_buffer = self._buffer(_SO_SNDBUFFORCE, socket.SO_SNDBUF, buffer_size)
            self._bind(address, port)
        except OSError as error:
            self._socket.close()
            raise PlatformError(f"cannot bind a UDP socket to {address}", reason=error.strerror) from None
        name = self._socket.getsockname()
        self.local: Address = (name[0], name[1])

    def _configure(self) -> None:
        self._socket.setblocking(False)
        if self.version == 4:
            self._try(socket.IPPROTO_IP, IP_RECVERR, 1)
            self._try(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._try(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            self._try(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)
        self._fragmentation = _Fragmentation(self.version, self._try)

    def _can_segment(self) -> bool:
        try:
            self._socket.getsockopt(_SOL_UDP, _UDP_SEGMENT)
        except OSError:
            return False
        return True

    def _bind(self, address: str, port: int) -> None:
        try:
            self._socket.bind((address, port))
        except OSError as error:
            if port == 0 or error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                raise
            self._socket.bind((address, 0))

    def _try(self, level: int, option: int, value: int) -> bool:
        try:
            self._socket.setsockopt(level, option, value)
        except OSError:
            return False
        return True

    def _buffer(self, force: int, polite: int, size: int) -> int:
        if not self._try(socket.SOL_SOCKET, force, size):
            self._try(socket.SOL_SOCKET, polite, size)
        return self._socket.getsockopt(socket.SOL_SOCKET, polite)

    def use_interface(self, name: str) -> None:
        """Send by the interface `name` and no other, whatever routes say. Raises PlatformError."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        except OSError as error:
            raise PlatformError(f"cannot bind a UDP socket to {name}", reason=error.strerror) from None

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    @property
    def descriptor(self) -> int:
        """The same, for system calls in place of the methods here; -1 once the socket is closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive_queue(self) -> tuple[int, int]:
        """Bytes of memory that waiting datagrams take, and how many there was no room for since the socket is open."""
        try:
            data = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _meminfo.size)
        except OSError:  # before Linux 4.12
            return 0, 0
        numbers = _meminfo.unpack(data.ljust(_meminfo.size, b"\0"))
        return numbers[_MEMINFO_QUEUED], numbers[_MEMINFO_DROPS]

    def receive_batch(self, limit: int) -> list[tuple[bytes, Address, int]]:
        """At most `limit` datagrams that are waiting: data, source, and the TOS octet of the outer IP header.

        Never blocks, never raises. A source has the address and the port first; over IPv6 two more numbers follow
        them, as the kernel gives them.
        """
        batch: list[tuple[bytes, Address, int]] = []
        append, receive = batch.append, self._socket.recvmsg
        try:
            for _ in range(limit):
                data, ancillary, _, source = receive(_LONGEST, _ANCILLARY)
                append((data, source, _octet(ancillary[0][2]) if ancillary else 0))
        except BlockingIOError:
            if not batch:  # woken for an error, which stays readable until somebody takes it
                self.drain_errors()
        except OSError as error:
            if not self.drain_errors():
                self._hints.report(error.errno or 0)
        return batch

    def send(self, payload: Payload, destination: Address) -> bool:
        """Send one datagram; false where it could not be sent."""
        return self.send_batch((payload,), destination) == 1

    def send_probe(self, payload: Payload, destination: Address) -> bool:
        """Send one datagram whole, whatever is believed about the path; false where the interface cannot."""
        self._fragmentation.set(_PMTUDISC_PROBE)
        try:
            return self._send_again(payload, [], destination)
        finally:
            self._fragmentation.restore()

    def trust_path(self, mtu: int, *, proven: bool) -> None:
        """The path carries packets of `mtu` bytes, as has been `proven` from end to end or is merely believed.

        What is longer may be fragmented by routers, over IPv4. Where it is proven, ICMP does not make anything else
        fragmented.
        """
        self._fragmentation.trust(mtu, proven=proven)

    def send_batch(self, payloads: Sequence[Payload], destination: Address, tos: int = 0) -> int:
        """Send datagrams to `destination`; returns how many went out. The rest are counted and gone.

        `tos` becomes the octet of the outer IP header. A full send buffer is waited for, but only some milliseconds in
        one call, because timers wait as well.
        """
        whole = not payloads or max(map(len, payloads)) <= self._fragmentation.fits
        if not whole:
            self._fragmentation.set(_PMTUDISC_DONT)
        ancillary = self._ancillary(tos)
        sent, send, patience = 0, self._socket.sendmsg, 1
        for payload in payloads:
            try:
                send((payload,), ancillary, 0, destination)
                sent += 1
            except BlockingIOError:
                if not patience or not self._wait_writable():
                    break
                patience -= 1
                sent += self._send_again(payload, ancillary, destination)
            except OSError as error:
                # The error of an earlier datagram is reported by a later call, whose own datagram stays behind.
                self.send_errors += 1
                if not self.drain_errors():
                    self._hints.report(error.errno or 0)
                sent += self._send_again(payload, ancillary, destination)
        self.dropped += len(payloads) - sent
        if not whole:
            self._fragmentation.restore()
        return sent

    def _ancillary(self, tos: int) -> list[Ancillary]:
        if not tos:
            return []
        at = (socket.IPPROTO_IP, _IP_TOS) if self.version == 4 else (socket.IPPROTO_IPV6, _IPV6_TCLASS)
        return [(*at, _int.pack(tos))]

    def runs(self) -> Self:
        """The same: every UDP socket can carry runs, with more or with fewer system calls."""
        return self

    def enable_merging(self) -> None:
        """Let datagrams arrive merged from now on, where the kernel can: only `receive_into` must be used then."""
        self.merges = self._offload and self._try(_SOL_UDP, _UDP_GRO, 1)

    def receive_into(self, buffer: bytearray | memoryview) -> tuple[int, int, Address, int] | None:
        """Receive a run: (length, size, source, tos), or None where nothing is waiting; never raises.

        The run is `length` bytes of datagrams of `size` bytes each, the last perhaps shorter; `tos` is the octet of
        the outer IP header. A source looks as in `receive_batch`.
        """
        try:
            length, ancillary, _, source = self._socket.recvmsg_into((buffer,), _ANCILLARY)
        except BlockingIOError:
            return None
        except OSError as error:
            if not self.drain_errors():
                self._hints.report(error.errno or 0)
            return None
        size, tos = length, 0
        for level, kind, data in ancillary:
            if kind == _UDP_GRO and level == _SOL_UDP:
                size = _int.unpack(data)[0]
            else:
                tos = data[0] if len(data) == 1 else _octet(data)
        return length, size, source, tos

    def recvmmsg(self, many: Recvmmsg, stride: int, first: int, most: int) -> list[Arrival]:
        """As `Recvmmsg.receive`, but never raises."""
        try:
            return many.receive(self._socket.fileno(), stride, first, most)
        except OSError as error:
            if not self.drain_errors():
                self._hints.report(error.errno or 0)
            return []

    def drain_errors(self) -> bool:
        """Take the errors that keep the socket readable although nothing is waiting; false where there were none."""
        return self._hints.drain(self._socket)

    def send_run(self, run: Payload, size: int, destination: Address, tos: int = 0) -> int:
        """Send a run of at most 64 datagrams and 65,507 bytes with one call; returns how many datagrams went out.

        `tos` becomes the octet of the outer IP header. Datagrams that the path does not carry unfragmented go out one
        by one.
        """
        count = -(-len(run) // size)
        ancillary = self._ancillary(tos) if tos else []
        if count > 1:
            if not self.segments or self._refused.covers(size):
                return self._send_singly(run, size, destination, tos)
            ancillary.append((_SOL_UDP, _UDP_SEGMENT, _short.pack(size)))
        for patience in (1, 0):
            try:
                if ancillary:
                    self._socket.sendmsg((run,), ancillary, 0, destination)
                else:
                    self._socket.sendto(run, destination)
                return count
            except BlockingIOError:
                if not patience or not self._wait_writable():
                    break
            except OSError as error:
                number = error.errno or 0
                if count > 1 and number in _NO_OFFLOAD:
                    self.segments = False
                    return self._send_singly(run, size, destination, tos)
                if count > 1 and number in _TOO_LARGE:
                    self._refused.note(size)
                    return self._send_singly(run, size, destination, tos)
                # The error of an earlier datagram is reported by a later call, whose own run stays behind.
                self.send_errors += 1
                if not self.drain_errors():
                    self._hints.report(number)
        self.dropped += count
        return 0

    def _send_singly(self, run: Payload, size: int, destination: Address, tos: int) -> int:
        return self.send_batch([run[at : at + size] for at in range(0, len(run), size)], destination, tos)

    def _send_again(self, payload: Payload, ancillary: list[Ancillary], destination: Address) -> bool:
        try:
            self._socket.sendmsg((payload,), ancillary, 0, destination)
        except OSError:
            return False
        return True

    def _wait_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(_FULL_WAIT_MS))


def _octet(data: bytes) -> int:
    """The TOS octet, as IPv4 (one byte) or IPv6 (an integer) delivers it."""
    return data[0] if len(data) == 1 else int(_int.unpack(data)[0])
