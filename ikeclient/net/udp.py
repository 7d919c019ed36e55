"""One UDP socket of one network path, for IKE and ESP alike, in batches (RFC 3948).

The socket is never connected: answers may come from port 500 or 4500 and, during a move, from several addresses. It
asks for ICMP errors (IP_RECVERR), because an unconnected socket hears of none otherwise. They can be forged, so they
are hints: they are counted, reported at most once a second and kind, and never stop anything.

Path MTU: IP_PMTUDISC_WANT. Datagrams that fit the known path MTU go out with "don't fragment", so that routers report
bottlenecks; larger ones are fragmented here, so that nothing fails with EMSGSIZE while the tunnel still adapts. IKE and
inner packets above a newly learnt MTU thus get through for as long as nobody drops fragments.

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
from dataclasses import dataclass
from struct import Struct
from time import monotonic
from typing import Literal

from ikeclient.errors import PlatformError

Payload = bytes | bytearray | memoryview
Address = tuple[str, int]
ErrorKind = Literal["refused", "unreachable", "too-big", "not-permitted", "other"]

BUFFER_SIZE = 7 << 20
_LONGEST = 65535
_FULL_WAIT_MS = 5
_HINT_INTERVAL = 1.0
_MAX_QUEUED_ERRORS = 16

# Not in the socket module (linux/socket.h, linux/in.h, linux/in6.h)
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_PMTUDISC_WANT = 1
_IP_MTU_DISCOVER, _IP_RECVERR = 10, 11
_IPV6_MTU_DISCOVER, _IPV6_RECVERR = 23, 25
_IP_MTU, _IPV6_MTU = 14, 24
_IP_TOS, _IP_RECVTOS = 1, 13
_IPV6_RECVTCLASS, _IPV6_TCLASS = 66, 67
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_ANCILLARY = 2 * socket.CMSG_SPACE(4) if hasattr(socket, "CMSG_SPACE") else 64
_int = Struct("=i")
_short = Struct("=H")
_extended_error = Struct("=IBBBxII").unpack_from  # struct sock_extended_err

_RETRY_SIZE = 60.0  # seconds after which a size that the path did not carry is tried again
_TOO_LARGE = frozenset((errno.EINVAL, errno.EMSGSIZE))
_NO_OFFLOAD = frozenset((errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP))

_MINIMUM_MTU = {4: 576, 6: 1280}  # smaller reports are forged or useless (N24)
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_WILDCARDS = {4: "0.0.0.0", 6: "::"}  # noqa: S104  answers may reach any address of the path's interface

_KINDS: dict[int, ErrorKind] = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.EMSGSIZE: "too-big",
    errno.EPERM: "not-permitted",
    errno.EACCES: "not-permitted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathHint:
    """Something an unauthenticated party or our own kernel says about the path. Not a fact, never a verdict.

    `mtu` is set for `too-big`: the reported MTU of the path in bytes, at least the minimum of the IP version.
    `suppressed` counts the hints of this kind that were held back since the last one.
    """

    kind: ErrorKind
    errno: int
    mtu: int | None = None
    suppressed: int = 0


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
        self._on_hint = on_hint
        self._clock = clock
        self._next_hint: dict[ErrorKind, float] = {}
        self._suppressed: dict[ErrorKind, int] = {}
        self._too_large = 1 << 16  # runs of datagrams of this size or more are not taken before `_retry`
        self._retry = 0.0
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
            self._try(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_WANT)
            self._try(socket.IPPROTO_IP, _IP_RECVERR, 1)
            self._try(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._try(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_WANT)
            self._try(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            self._try(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)

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

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def receive_batch(self, limit: int) -> list[tuple[bytes, Address]]:
        """At most `limit` datagrams that are waiting, each with its source; never blocks, never raises.

        A source has the address and the port first; over IPv6 two more numbers follow them, as the kernel gives them.
        """
        batch: list[tuple[bytes, Address]] = []
        append, receive = batch.append, self._socket.recvfrom
        try:
            for _ in range(limit):
                append(receive(_LONGEST))
        except BlockingIOError:
            if not batch:  # woken for an error, which stays readable until somebody takes it
                self._drain_errors()
        except OSError as error:
            if not self._drain_errors():
                self._hint(error.errno or 0, None)
        return batch

    def send(self, payload: Payload, destination: Address) -> bool:
        """Send one datagram; false where it could not be sent."""
        return self.send_batch((payload,), destination) == 1

    def send_batch(self, payloads: Sequence[Payload], destination: Address) -> int:
        """Send datagrams to `destination`; returns how many went out. The rest are counted and gone.

        A full send buffer is waited for, but only some milliseconds in one call, because timers wait as well.
        """
        sent, send, patience = 0, self._socket.sendto, 1
        for payload in payloads:
            try:
                send(payload, destination)
                sent += 1
            except BlockingIOError:
                if not patience or not self._wait_writable():
                    break
                patience -= 1
                sent += self._send_again(payload, destination)
            except OSError as error:
                # The error of an earlier datagram is reported by a later call, whose own datagram stays behind.
                self.send_errors += 1
                if not self._drain_errors():
                    self._hint(error.errno or 0, None)
                sent += self._send_again(payload, destination)
        self.dropped += len(payloads) - sent
        return sent

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
            if not self._drain_errors():
                self._hint(error.errno or 0, None)
            return None
        size, tos = length, 0
        for level, kind, data in ancillary:
            if kind == _UDP_GRO and level == _SOL_UDP:
                size = _int.unpack(data)[0]
            else:
                tos = data[0]
        return length, size, source, tos

    def drain_errors(self) -> None:
        """Take the errors that keep the socket readable although nothing is waiting."""
        self._drain_errors()

    def send_run(self, run: memoryview, size: int, destination: Address, tos: int = 0) -> int:
        """Send a run of at most 64 datagrams and 65,507 bytes with one call; returns how many datagrams went out.

        `tos` becomes the octet of the outer IP header. Datagrams that the path does not carry unfragmented go out one
        by one.
        """
        count = -(-len(run) // size)
        ancillary: list[tuple[int, int, bytes]] = []
        if tos:
            at = (socket.IPPROTO_IP, _IP_TOS) if self.version == 4 else (socket.IPPROTO_IPV6, _IPV6_TCLASS)
            ancillary.append((*at, _int.pack(tos)))
        if count > 1:
            if not self.segments or (size >= self._too_large and self._clock() < self._retry):
                return self._send_singly(run, size, destination, ancillary)
            ancillary.append((_SOL_UDP, _UDP_SEGMENT, _short.pack(size)))
        for patience in (1, 0):
            try:
                self._socket.sendmsg((run,), ancillary, 0, destination)
                return count
            except BlockingIOError:
                if not patience or not self._wait_writable():
                    break
            except OSError as error:
                number = error.errno or 0
                if count > 1 and number in _NO_OFFLOAD:
                    self.segments = False
                    return self._send_singly(run, size, destination, ancillary[:-1])
                if count > 1 and number in _TOO_LARGE:
                    self._too_large, self._retry = size, self._clock() + _RETRY_SIZE
                    return self._send_singly(run, size, destination, ancillary[:-1])
                # The error of an earlier datagram is reported by a later call, whose own run stays behind.
                self.send_errors += 1
                if not self._drain_errors():
                    self._hint(number, None)
        self.dropped += count
        return 0

    def _send_singly(
        self, run: memoryview, size: int, destination: Address, ancillary: list[tuple[int, int, bytes]]
    ) -> int:
        if not ancillary:
            return self.send_batch([run[at : at + size] for at in range(0, len(run), size)], destination)
        sent, patience = 0, 1
        for at in range(0, len(run), size):
            try:
                self._socket.sendmsg((run[at : at + size],), ancillary, 0, destination)
                sent += 1
            except BlockingIOError:
                if not patience or not self._wait_writable():
                    break
                patience -= 1
            except OSError as error:
                self.send_errors += 1
                if not self._drain_errors():
                    self._hint(error.errno or 0, None)
        self.dropped += -(-len(run) // size) - sent
        return sent

    def _send_again(self, payload: Payload, destination: Address) -> bool:
        try:
            self._socket.sendto(payload, destination)
        except OSError:
            return False
        return True

    def _wait_writable(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(_FULL_WAIT_MS))

    def _drain_errors(self) -> bool:
        """Take what the error queue holds and report it; false where it was empty."""
        found = False
        for _ in range(_MAX_QUEUED_ERRORS):
            try:
                _, ancillary, _, _ = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                break
            found = True
            for level, kind, data in ancillary:
                wanted = (level, kind) in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
                if wanted and len(data) >= 16:
                    number, _origin, _type, _code, info, _data = _extended_error(data)
                    self._hint(number, info)
        return found

    def _hint(self, number: int, info: int | None) -> None:
        kind = _KINDS.get(number, "other")
        mtu = info if kind == "too-big" and info else None
        if kind == "too-big" and (mtu is None or mtu < _MINIMUM_MTU[self.version]):
            return
        now = self._clock()
        if self._on_hint is None or now < self._next_hint.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return
        self._next_hint[kind] = now + _HINT_INTERVAL
        self._on_hint(PathHint(kind=kind, errno=number, mtu=mtu, suppressed=self._suppressed.pop(kind, 0)))


def local_address_for(remote: str, *, port: int = 500, mark: int | None = None) -> str | None:
    """The address that the machine would send from to `remote` (a numeric address), or None where no route leads there.

    Sends nothing: connecting a UDP socket only asks the routing table. `mark` must be the one of the real socket,
    because rules may choose the table by it.
    """
    family = socket.AF_INET6 if ":" in remote else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            if mark is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError:
            pass  # then the real socket is without it, too
        try:
            probe.connect((remote, port))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def path_mtu(remote: str, *, port: int = 4500, mark: int | None = None) -> int:
    """What the kernel knows about the MTU of the path to `remote`, in bytes: the interface's, or less after a report.

    Sends nothing. `mark` must be the one of the real socket. Returns 1500 where the kernel does not say.
    """
    version6 = ":" in remote
    with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            if mark is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            probe.connect((remote, port))
            level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if version6 else (socket.IPPROTO_IP, _IP_MTU)
            return probe.getsockopt(level, option)
        except OSError:
            return 1500
