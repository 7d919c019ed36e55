"""Packets that come alone, carried while the loop waits: they arrive, leave and count as they would otherwise."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Iterator
from functools import partial

import offload_packets as packets
import pytest
from fake_transport import FakeSocket, QueueTun
from test_dataplane_pump import HOST4, VIP4, back, child, gateway_side, ipv4, super_packet

from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import PacketLoop
from ikeclient.dataplane.interfaces import Address, Relayed
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.dataplane.sender import NON_ESP_MARKER
from ikeclient.esp.codec import run_cipher
from ikeclient.esp.codec.run import Run
from ikeclient.esp.sa.pair import SaPair
from ikeclient.net.transport.udp import UdpSocket

IKE = bytes(range(1, 41))


class End:
    """One end of a tunnel over the loopback interface."""

    def __init__(self, pair: SaPair) -> None:
        self.tun = QueueTun()
        self.socket = UdpSocket(local_address="127.0.0.1")
        self.ike: list[bytes] = []
        self.time = 1.0
        callbacks = PumpCallbacks(on_ike=lambda data, *_: self.ike.append(data) is None)
        self.paced = 0
        self.pump = Pump(self.tun, callbacks, lambda: self.time, entropy=os.urandom, pace=self._count_pace)
        self.pump.attach(self.socket)
        self.pump.set_mtu(1300)
        self.pump.install(pair)
        self.spi = pair.spi_in
        self.poll = select.epoll()
        for descriptor in (self.tun.descriptor, self.socket.fileno()):
            self.poll.register(descriptor, select.EPOLLIN)

    def _count_pace(self) -> None:
        self.paced += 1

    def relay(self) -> Relayed | None:
        assert self.tun.descriptor >= 0  # and what is waiting is behind it now
        return self.pump.relay(self.poll.fileno(), 2000)

    def close(self) -> None:
        self.poll.close()
        self.socket.close()


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    choose_cipher({})
    if run_cipher.version() is None:
        pytest.skip("there is no compiled module, or no OpenSSL to be opened; NOTHING was tried")
    here, there = End(child()), End(gateway_side(child()))
    here.pump.set_remote(there.socket.local)
    there.pump.set_remote(here.socket.local)
    yield here, there
    here.close()
    there.close()
    run_cipher.load(())


def test_packets_alone_cross_while_both_ends_wait(ends: tuple[End, End]) -> None:
    here, there = ends
    for count in range(1, 4):
        here.time = there.time = float(count)
        out, home = ipv4(bytes(count)), back(bytes(count))
        here.tun.waiting.append(out)
        assert here.relay() == ([], ())
        assert there.relay() == ([], ())
        assert there.tun.taken() == [bytes(10) + out]
        there.tun.waiting.append(home)
        assert there.relay() == ([], ())
        assert here.relay() == ([], ())
        assert here.tun.taken() == [bytes(10) + home]
        assert (here.pump.last_outbound, there.pump.last_inbound) == (count, count)
        counters = here.pump.child_counters(here.spi), there.pump.child_counters(there.spi)
        assert [(c.packets_in, c.packets_out) for c in counters] == [(count, count)] * 2
        assert counters[0].bytes_out == counters[1].bytes_in == sum(20 + n for n in range(1, count + 1))


def test_nothing_that_came_leaves_no_trace(ends: tuple[End, End]) -> None:
    """P6: not even a gap in the sequence numbers."""
    here, there = ends
    ready, carried = here.pump.relay(here.poll.fileno(), 0) or (None, None)
    assert (ready, len(carried or ())) == ([], 0)
    assert here.pump.table.pair(here.spi)[1].sequence == 0
    assert here.pump.last_outbound is here.pump.last_inbound is None
    here.tun.waiting.append(ipv4())
    here.relay()
    assert there.relay() == ([], ())
    assert here.pump.table.pair(here.spi)[1].sequence == 1


def test_what_is_not_plain_takes_the_steps_that_it_always_took(ends: tuple[End, End]) -> None:
    """A SYN is clamped on either way, a packet that is too long is answered, IKE goes to IKE."""
    here, there = ends
    syn = packets.ip(packets.tcp(flags=2, options=b"\2\4\5\xb4", addresses=(VIP4, HOST4)), 6, (VIP4, HOST4))
    here.tun.waiting.append(syn)
    here.relay()
    there.relay()
    (frame,) = there.tun.taken() or there.tun.written
    assert frame[-4:-2] == syn[-4:-2]
    assert int.from_bytes(frame[-2:], "big") < 0x5B4
    here.tun.waiting.append(ipv4(bytes(1400)))
    here.relay()
    assert here.pump.counters.too_big == 1
    assert here.socket.send(NON_ESP_MARKER + IKE, there.socket.local)
    there.relay()
    assert there.ike == [IKE]
    assert there.pump.child_counters(there.spi).packets_in == 1


@pytest.mark.parametrize("compiled", [True, False], ids=["OpenSSL", "cryptography"])
def test_datagrams_that_differ_in_length_share_a_run(ends: tuple[End, End], *, compiled: bool) -> None:
    """As acknowledgements do, some of which are selective; with what is no ESP between them, everything in order."""
    here, there = ends
    spi = there.spi
    if not compiled:
        run_cipher.load(())
        pair = child(0xC0000002, 0xD0000002)
        here.pump.install(pair)
        there.pump.install(gateway_side(pair))
        spi = pair.spi_out
    receiver = there.pump._fast.receive.receiver  # type: ignore[union-attr]
    take, lengths = receiver._take, list[list[int]]()

    def seen(run: Run, local: Address) -> None:
        lengths.append(run.lengths)
        take(run, local)

    receiver._take = seen
    sizes = [10, 10, 300, 7, 10, 10, 10, 299, 300, 9, 9]
    for keepalive in (False, True):
        receiver._alone, receiver._stride = 9, 400
        expected = [ipv4(bytes([number]) * size) for number, size in enumerate(sizes)]
        for at, packet in enumerate(expected):
            if at in (4, 8):
                here.pump.send_ike(IKE + bytes(at), there.socket.local)
            if keepalive and at == 6:
                here.pump.send_keepalive()
            here.tun.waiting.append(packet)
            here.pump.drain_tun(False)
        there.pump.drain_udp(there.socket, True)
        assert there.tun.written == expected
        assert there.ike == [IKE + bytes(4), IKE + bytes(8)]
        there.tun.written, there.ike = [], []
    assert there.pump.child_counters(spi).packets_in == 2 * len(sizes)
    assert len(lengths[0]) == len(sizes) + 2, "one run, but for the keepalive, which is too short for one"
    assert len(lengths) > 2


def test_frames_that_wait_leave_with_one_call_and_are_kept_apart_if_they_must(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = ends
    frame, parts = super_packet(1000, 28_000)
    frames = [frame] * 5  # more bytes than a call takes of anything else
    by_itself: list[int] = []
    send_run = here.socket.send_run
    monkeypatch.setattr(here.socket, "send_run", lambda *run: by_itself.append(send_run(*run)) or by_itself[-1])

    def sent() -> tuple[list[int], list[int]]:
        """How many frames each call read, and the runs that did not leave at once; all arrive."""
        before, here.time = len(there.tun.written), here.time + 1
        by_itself.clear()
        here.tun.arrives(*frames, bytes(10) + ipv4(b"small"))
        read = list(iter(partial(here.pump.drain_tun, True), 0))
        while there.pump.drain_udp(there.socket, True):
            pass
        assert there.tun.written[before:] == [*parts * 5, ipv4(b"small")]
        assert here.pump.last_outbound == here.time
        return read, by_itself

    assert sent() == ([6], [])
    here.pump._sender.pace()
    assert sent() == ([5, 1], [])
    assert here.paced == 5
    here.pump._sender._to_pace = 0
    here.socket.segments = False
    assert sent() == ([6], [56, 56, 29])
    counters = here.pump.child_counters(here.spi), there.pump.child_counters(there.spi)
    assert counters[0].packets_out == counters[1].packets_in == 423
    assert counters[0].bytes_out == counters[1].bytes_in


def test_super_packets_that_the_kernel_does_not_take_are_counted(ends: tuple[End, End]) -> None:
    here, there = ends
    frame, _ = super_packet(1000, 40_000)
    here.pump.set_remote(("127.0.0.1", 0))
    here.tun.arrives(frame, frame)
    assert here.pump.drain_tun(True) == 2
    assert here.pump.counters.not_sent == 80
    assert here.pump.last_outbound is None
    assert here.pump.table.pair(here.spi)[1].sequence == 80
    here.pump.set_remote(there.socket.local)
    here.tun.arrives(frame)
    assert here.pump.drain_tun(True) == 1
    there.pump.drain_udp(there.socket, True)
    assert there.pump.child_counters(there.spi).packets_in == 40


def test_what_the_newest_child_sa_sends_does_not_break_up_the_runs_of_others(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = ends
    here.pump.remove(here.spi)
    for n in range(3):
        here.pump.install(child(0xC0000100 + n, 0xD0000100 + n, remote=(f"10.99.{n}.0/24",)))
    by_itself: list[int] = []
    send_run = here.socket.send_run
    monkeypatch.setattr(here.socket, "send_run", lambda *run: by_itself.append(send_run(*run)) or by_itself[-1])
    here.tun.waiting += [ipv4(bytes(9), destination=f"10.99.{n}.1") for _ in range(5) for n in range(3)]
    assert here.pump.drain_tun(True) == 15
    assert by_itself == [5, 5]
    assert [here.pump.child_counters(0xC0000100 + n).packets_out for n in range(3)] == [5, 5, 5]


def test_several_packets_are_left_to_the_runs(ends: tuple[End, End]) -> None:
    """And while there are several, nobody waits for one that is alone."""
    here, _ = ends
    here.tun.waiting += [ipv4(bytes(9))] * 3
    assert here.relay() == ([(here.tun.descriptor, select.EPOLLIN)], {here.tun.descriptor: None}.keys())
    assert here.pump.drain_tun(True) == 2
    prepared = here.pump._fast.prepare(here.socket, 9)  # type: ignore[union-attr]
    assert [each.descriptor for each in prepared] == [here.socket.fileno()]
    assert here.pump.child_counters(here.spi).packets_out == 3


def test_without_a_path_a_descriptor_or_the_fast_path_nobody_relays(ends: tuple[End, End]) -> None:
    here, _ = ends
    here.pump.detach(here.socket)
    assert here.pump.relay(here.poll.fileno(), 2000) is None
    here.pump.attach(FakeSocket())  # type: ignore[arg-type]
    assert here.pump.relay(here.poll.fileno(), 2000) is None


def test_a_lost_number_is_skipped_and_never_repeated(ends: tuple[End, End]) -> None:
    """P6: something went wrong between sending and counting."""
    here, there = ends
    here.tun.waiting.append(ipv4(b"lost"))
    descriptor = here.tun.descriptor
    prepared = here.pump._fast.prepare(here.socket, 9)  # type: ignore[union-attr]
    next(each for each in prepared if each.descriptor == descriptor).call()
    here.tun.waiting.append(ipv4(b"next"))
    here.relay()
    there.pump.drain_udp(there.socket, True)
    assert there.pump.child_counters(there.spi).packets_in == 2
    assert there.pump.child_counters(there.spi).replays == 0


def test_the_loop_has_packets_relayed(ends: tuple[End, End]) -> None:
    here, there = ends
    out = ipv4(b"by the loop")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PacketLoop)
        for end in ends:
            loop.packets.watch(end.tun.descriptor, end.pump.drain_tun, relay=end.pump.relay)
            loop.packets.watch(end.socket.fileno(), partial(end.pump.drain_udp, end.socket))
        here.tun.waiting.append(out)
        assert here.tun.descriptor >= 0
        for _ in range(200):
            await asyncio.sleep(0.01)
            if written := there.tun.taken() or there.tun.written:
                break
        assert written[0][-len(out) :] == out

    with asyncio.Runner(loop_factory=PacketLoop) as runner:
        runner.run(main())
