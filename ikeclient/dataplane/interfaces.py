"""What the pump needs of a device and of a transport, on the slow path and on the fast one, and what it counts.

Each says by a method of its own whether it can take part in the fast path. The pump asks once, when the first transport
is attached. Methods that read never block, and none raises: what is lost is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ikeclient.esp.sa.pair import Packet
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.transport.recvmmsg import Arrival, Recvmmsg

Address = tuple[str, int]

Relayed = tuple[list[tuple[int, int]], Collection[int]]  # see `event_loop.PacketSelector.watch`

IKE_PORT = 500


class DeviceCounters(Protocol):
    """What a device refused."""

    write_errors: int


class Device(Protocol):
    """Inner packets in and out: a TUN device (`net.device.tun`), or a stack of our own (`stack.device`)."""

    @property
    def lost(self) -> bool:
        """Whether no packet will ever come or go again."""

    @property
    def counters(self) -> DeviceCounters:
        """What it refused."""

    def read_batch(self, limit: int) -> Sequence[Packet]:
        """At most `limit` waiting packets."""

    def write_batch(self, packets: Sequence[Packet]) -> int:
        """Hand packets over; returns how many were taken."""

    def frames(self) -> FrameDevice | None:
        """Carry frames from now on; None if this device cannot."""


class FrameDevice(Protocol):
    """A device that carries super-packets, each in a frame: a virtio header and a packet."""

    @property
    def merges_udp(self) -> bool:
        """Whether UDP may be merged."""

    @property
    def descriptor(self) -> int:
        """What frames can be read from and written to with read(2) and write(2), too; -1: nothing."""

    def read_into(self, buffers: Sequence[bytearray | memoryview]) -> int:
        """Read one frame; 0 where none is waiting."""

    def write_frames(self, frames: Sequence[Packet]) -> int:
        """Hand frames over; returns how many were taken."""

    def write_frame(self, frame: Packet) -> bool:
        """Hand one over; whether it was taken."""


class Transport(Protocol):
    """Datagrams to and from the gateway: a UDP socket (`net.transport.udp`)."""

    local: Address

    def receive_batch(self, limit: int) -> Sequence[tuple[bytes | memoryview, Address, int]]:
        """At most `limit` waiting datagrams with their sources and outer TOS octets."""

    def send_batch(self, payloads: Sequence[Packet], destination: Address, tos: int = 0) -> int:
        """Send datagrams; returns how many went out."""

    def send_probe(self, payload: Packet, destination: Address) -> bool:
        """Send one datagram that must not be fragmented."""

    def trust_path(self, mtu: int, *, proven: bool) -> None:
        """Learn what the path carries."""

    def receive_queue(self) -> tuple[int, int]:
        """Bytes that wait to be read, and how many datagrams there was no room for."""

    def runs(self) -> RunTransport | None:
        """The same as a transport of runs; None if it cannot be one."""


class RunTransport(Transport, Protocol):
    """A transport that carries runs: datagrams of one size, the last perhaps shorter, in one call.

    `segments` and `merges` tell whether the kernel cuts what is sent, and joins what is received.
    """

    segments: bool
    merges: bool

    @property
    def descriptor(self) -> int:
        """What datagrams can be received from and sent by with recvmsg(2) and sendmsg(2), too; -1: nothing."""

    def enable_merging(self) -> None:
        """Let datagrams arrive in runs; from now on only the methods below may receive."""

    def receive_into(self, buffer: memoryview) -> tuple[int, int, Address, int] | None:
        """A run: (length, size, source, tos)."""

    def recvmmsg(self, many: Recvmmsg, stride: int, first: int, most: int) -> list[Arrival]:
        """Datagrams that nobody merged; see `net.transport.recvmmsg`."""

    def drain_errors(self) -> bool:
        """Take what keeps the socket readable although nothing is waiting."""

    def send_run(self, run: Packet, size: int, destination: Address, tos: int = 0) -> int:
        """Send a run; returns how many datagrams went out."""


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PumpCallbacks:
    """What a pump calls.

    - `on_ike(data, source, local)`: an IKE message without marker, where it came from and the transport's own address;
      returns whether it was due. It may call back into the pump. `data` is not authenticated in any way.
    - `on_waiting`: packets wait for a Child SA that `Pump.expect` has announced.
    - `on_device_lost`: called once when the interface is deleted under us; the descriptor must then leave the event
      loop.
    - `warn`: called with a sentence for people.
    """

    on_ike: Callable[[bytes, Address, Address], bool]
    on_waiting: Callable[[], None] = _nothing
    on_device_lost: Callable[[], None] = _nothing
    warn: Callable[[str], None] = _nothing


@dataclass(slots=True, kw_only=True)
class PumpCounters:
    """What was dropped or ignored before or behind the SAs. Each counts packets or datagrams."""

    keepalives: int = 0
    malformed: int = 0  # datagrams too short to be anything, or with a reserved SPI
    unknown_spi: int = 0
    unknown_ike: int = 0  # IKE messages with SPIs that are not ours, or that nothing asked for
    no_path: int = 0  # packets that had no socket or no remote end to go to
    too_big: int = 0
    not_sent: int = 0
