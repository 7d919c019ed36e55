"""What the parts of the stack need of each other.

Three rules keep sixty kilobytes one trip through the interpreter:

- Nothing is queued as packets. What has something to send says so once (`Outlet.ready`) and is asked for one frame at a
  time (`Sends.fill`), when there is room for it outside.
- A frame is what a TUN device with virtio headers carries: `FRAME_HEADER` bytes of header, and an IP packet that may
  stand for many (`esp.codec.plain`). Transport checksums of frames that go out are left to be completed (`NEEDS_CSUM`).
- Addresses are as in headers: 4 or 16 bytes. A flow is the bytes of its addresses and ports as in a packet that
  arrives: remote address, local address, remote port, local port. In IPv4 and IPv6 without options they lie side by
  side, so that finding a connection is one slice and one look into a dict.

Times are seconds of any monotonic clock, given to every call that needs them as `now`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from ikeclient.lazy_dataclass import dataclass

Entropy = Callable[[int], bytes]
Data = bytes | bytearray | memoryview

FRAME_HEADER = 10  # struct virtio_net_hdr
NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM
GSO_TCPV4, GSO_TCPV6, GSO_ECN = 1, 4, 0x80
# One super-packet becomes one UDP send of at most 64 datagrams and 65,507 bytes with ESP around each.
LONGEST_PACKET = 61_000
MOST_SEGMENTS = 64


class CloseReason(StrEnum):
    """Why a connection is over."""

    CLOSED = "closed by both ends"
    REFUSED = "connection refused"  # a RST in answer to our SYN
    RESET = "connection reset by peer"
    TIMED_OUT = "timed out"
    UNREACHABLE = "destination unreachable"  # ICMP, while connecting
    ADDRESS_LOST = "the local address is gone"


class Sends(Protocol):
    """What has frames to send: a TCP connection, the table's replies, a UDP association.

    `queued` tells whether it is to be asked again after a frame, which most are until they have nothing.
    """

    @property
    def queued(self) -> bool:
        """Whether it has not left the queue of what is ready."""

    def fill(self, frame: memoryview, now: float) -> int:
        """Write one frame; return its length with the virtio header.

        0: there is nothing (more), and the source has left the queue of what is ready. Otherwise it will be asked
        again, after others, if it is still `queued`.
        """


class Outlet(Protocol):
    """What TCP needs of the host."""

    def ready(self, source: Sends) -> None:
        """Take a source into the queue; called once until its `fill` returns 0. May be called from anywhere."""

    def mtu(self, remote: bytes) -> int:
        """The longest packet to that address, as far as is known."""

    def local(self, remote: bytes) -> bytes | None:
        """The address to talk to that one from."""


class Inbound:
    """One TCP segment that arrived, or a run of them that was merged. One such object is filled again and again.

    - `flow`: the key of the connection (see the module).
    - `segment`: TCP header and data, the checksum verified; valid only during the call.
    - `ecn`: the two ECN bits of the IP header.
    - `size`: bytes of data in each segment that was merged but the last; 0 if nothing was merged.
    """

    __slots__ = ("ecn", "flow", "segment", "size")

    def __init__(self) -> None:
        self.fill(b"", memoryview(b""), 0, 0)

    def fill(self, flow: bytes, segment: memoryview, ecn: int, size: int) -> None:
        """Make it what has just arrived."""
        self.flow, self.segment, self.ecn, self.size = flow, segment, ecn, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What an ICMP error quotes of a segment of ours. `flow` is the key of the connection, as for what arrives."""

    flow: bytes
    sequence: int


class Handler(Protocol):
    """What a connection tells its user. Never called from inside one of the user's own calls; each may call back."""

    def on_open(self) -> None:
        """The connection is established."""

    def on_data(self, data: memoryview) -> int:
        """Data has arrived in order; return how many bytes were taken.

        The view is valid only during the call. What is not taken waits in the connection (`receive_into`), and what
        arrives then is added to it without a call, until everything that waited was read.
        """

    def on_end(self) -> None:
        """The peer sends nothing more (FIN). What was not taken can still be read."""

    def on_writable(self) -> None:
        """There is room again after `send` took less than it was given."""

    def on_closed(self, reason: CloseReason) -> None:
        """The connection is over; the last call. Not made after `abort`."""


class Stream(Protocol):
    """A connection as its user sees it (`stack.tcp.connection`)."""

    @property
    def remote(self) -> tuple[bytes, int]:
        """Address and port of the peer."""

    @property
    def local(self) -> tuple[bytes, int]:
        """Our own."""

    def send(self, data: Data) -> int:
        """Take data, as much as there is room for; return how much that was.

        `bytes` are kept by reference, and anything else is copied.
        """

    def give(self, data: bytearray) -> int:
        """Take data as `send`, by reference: the caller must never change it again."""

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Copy what has arrived into the buffer. 0: nothing is waiting; `at_end` tells whether more will come."""

    def receive(self, limit: int) -> bytes:
        """What has arrived, at most `limit` bytes."""

    @property
    def waiting(self) -> int:
        """Bytes that can be read."""

    @property
    def unsent(self) -> int:
        """Bytes that were taken and that the peer has not acknowledged."""

    @property
    def at_end(self) -> bool:
        """Whether everything that the peer sent before its FIN was read."""

    def shutdown(self) -> None:
        """Send FIN behind what was taken; receiving goes on."""

    def close(self) -> None:
        """Shut down and receive no more. Sends RST instead if data is unread, and if more arrives (RFC 9293 3.6.1)."""

    def abort(self) -> None:
        """Send RST and forget everything."""

    def keep_alive(self, idle: float | None) -> None:
        """Probe after so many seconds of silence; None stops it."""
