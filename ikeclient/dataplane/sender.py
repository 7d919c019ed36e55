"""Send datagrams to the gateway: ESP of both paths, IKE messages, keepalives."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ikeclient.control.status import OffloadStatus
from ikeclient.dataplane.interfaces import IKE_PORT, Address, PumpCounters, RunTransport, Transport
from ikeclient.esp.codec.choice import ACTIVE
from ikeclient.esp.codec.run import Run
from ikeclient.esp.sa.pair import Packet
from ikeclient.net.transport import sockaddr

NON_ESP_MARKER = bytes(4)  # RFC 3948 section 2.2
KEEPALIVE = b"\xff"  # RFC 3948 section 2.3

_LONG_RUN = 20  # datagrams; a socket buffer of the usual size holds about ninety
_PACED_RUNS = 256  # long runs after a loss: a fraction of a second


class Sender:
    """The transport in use and the gateway's end point.

    - `pace`: called before each long run while packets get lost on their way; it may wait, so that runs are kept
      apart. A gateway that takes datagrams one by one has no room for several.
    - `name`: the end point as a struct sockaddr, if there is a `descriptor` to send by.
    - `open`: whether ESP can be sent; to port 500 it cannot (RFC 3948).
    - `last_outbound`: when ESP was last sent, `last_sent`: when anything was; None before the first time.
    """

    __slots__ = (
        "_counters",
        "_now",
        "_pace",
        "_paced",
        "_to_pace",
        "last_outbound",
        "last_sent",
        "name",
        "open",
        "remote",
        "runs",
        "transport",
    )

    def __init__(self, now: Callable[[], float], pace: Callable[[], None], counters: PumpCounters) -> None:
        self._now = now
        self._pace = pace
        self._counters = counters
        self._to_pace = 0  # how many of the next long runs are kept apart
        self._paced = False
        self.runs: RunTransport | None = None  # the same as `transport`, for the fast path
        self.transport: Transport | None = None
        self.remote: Address | None = None
        self.name = b""
        self.open = False
        self.last_outbound: float | None = None
        self.last_sent: float | None = None

    def use(self, transport: Transport | None, runs: RunTransport | None) -> None:
        """Send on this transport from now on; `runs` is the same for the fast path, if it is one for it."""
        self.transport, self.runs = transport, runs
        self.set_remote(self.remote)

    def set_remote(self, remote: Address | None) -> None:
        """Send ESP to this end point; None stops sending."""
        self.remote = remote
        self.name = sockaddr.pack(remote) if remote is not None else b""
        self.open = self.transport is not None and remote is not None and remote[1] != IKE_PORT

    @property
    def descriptor(self) -> int:
        """What a datagram can be sent by to `name`, with a system call; -1: nothing."""
        return self.runs.descriptor if self.runs is not None else -1

    @property
    def run_descriptor(self) -> int:
        """What a run can be sent by to `name`, with a system call; -1: nothing."""
        runs = self.runs
        return runs.descriptor if runs is not None and runs.segments else -1

    def pace(self) -> None:
        """Keep the next long runs apart, since packets get lost."""
        self._to_pace = _PACED_RUNS

    @property
    def pacing(self) -> bool:
        """Whether that is still so."""
        return self._to_pace > 0

    def wait_for_turn(self, count: int) -> bool:
        """Wait before a run of `count` datagrams is sent, if that is long and such are kept apart; whether it is."""
        if count < _LONG_RUN or not self._to_pace:
            return False
        self._to_pace -= 1
        self._paced = True
        self._pace()
        return True

    def take_paced(self) -> bool:
        """Whether runs were kept apart since this was last asked."""
        paced, self._paced = self._paced, False
        return paced

    def offload(self, *, fast: bool, tun_udp: bool) -> OffloadStatus:
        """What the fast path has to work with."""
        runs = self.runs
        return OffloadStatus(
            fast=fast,
            codec=ACTIVE,
            tun_udp=tun_udp,
            udp_segments=runs is not None and runs.segments,
            udp_merges=runs is not None and runs.merges,
        )

    # ESP

    def send_run(self, run: Run) -> None:
        """Send sealed datagrams, now: the fast path."""
        count = run.count
        remote, transport, payloads = self.remote, self.runs, run.slots.view[: run.end]
        if remote is not None and transport is not None:
            sent = transport.send_run(payloads, run.stride, remote, run.tos)
        else:
            sent = self._send_batch([payloads[at : at + run.stride] for at in range(0, run.end, run.stride)], run.tos)
        if sent < count:
            self._counters.not_sent += count - sent
        if sent:
            self.note_sent()

    def send_single(self, payload: Packet, tos: int) -> None:
        """Send a sealed datagram: the fast path for a packet that came alone."""
        remote, transport = self.remote, self.runs
        if remote is not None and transport is not None:
            sent = transport.send_run(payload, len(payload), remote, tos)
        else:
            sent = self._send_batch([payload], tos)
        if sent:
            self.note_sent()
        else:
            self._counters.not_sent += 1

    def note_sent(self) -> None:
        """Note that ESP has been sent."""
        self.last_outbound = self.last_sent = self._now()

    def send_batch(self, payloads: Sequence[Packet], tos: int, *, probe: bool = False) -> None:
        """Send sealed datagrams one by one: the slow path. A `probe` is not traffic that wants an answer."""
        sent = self._send_batch(payloads, tos)
        self._counters.not_sent += len(payloads) - sent
        if sent:
            self.last_sent = self._now()
            if not probe:
                self.last_outbound = self.last_sent

    def _send_batch(self, payloads: Sequence[Packet], tos: int) -> int:
        if self.remote is None or self.transport is None:
            return 0
        return self.transport.send_batch(payloads, self.remote, tos)

    # Everything else

    def send_ike(self, data: bytes, remote: Address, transport: Transport | None, *, whole: bool) -> bool:
        """Send an IKE message with the marker that the remote port asks for; see `Pump.send_ike`."""
        payload = data if remote[1] == IKE_PORT else NON_ESP_MARKER + data
        transport = transport or self.transport
        if whole and transport is not None:
            return transport.send_probe(payload, remote)
        return self._send(payload, remote, transport)

    def send_keepalive(self) -> bool:
        """Keep a NAT's mapping alive; false where there is no path, or one to port 500, which knows no keepalives."""
        if self.remote is None or self.remote[1] == IKE_PORT:
            return False
        return self._send(KEEPALIVE, self.remote, self.transport)

    def _send(self, payload: bytes, remote: Address, transport: Transport | None) -> bool:
        if transport is None or not transport.send_batch((payload,), remote):
            return False
        if remote == self.remote and transport is self.transport:
            self.last_sent = self._now()
        return True
