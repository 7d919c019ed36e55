"""What a receiver does: order, acknowledgements, windows, and what it lets nobody do to it."""

from __future__ import annotations

import pytest
from stack_rig import IRS, Rig

from ikeclient.stack.tcp.options import of_segment, of_syn
from ikeclient.stack.tcp.receiver import Receiver
from ikeclient.stack.tcp.segment import ACK, ECE, FIN, RST, SYN
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State
from ikeclient.stack.tcp.window import LARGEST, SMALLEST, WindowBudget

MSS = 1460
SACK = of_syn(MSS, 8, True, None)
PLAIN = of_syn(MSS, None, False, None)
STAMPED = of_syn(MSS, 8, True, (1000, 0))
FIRST = (IRS + 1) & MASK
PIECES = (0, 20 * MSS), (20 * MSS, 15 * MSS), (35 * MSS, MSS), (36 * MSS, MSS)


def ready(options: bytes = SACK) -> Rig:
    rig = Rig()
    rig.establish(options)
    for _ in range(16):  # until acknowledgements are no longer quick
        rig.put(ACK, data=b"-" * MSS)
        rig.got += MSS
    rig.data.clear()
    return rig


def put(rig: Rig, start: int, length: int = MSS, size: int = 0) -> list:  # type: ignore[type-arg]
    """Data at a place of the peer's stream, counted from what came before."""
    data = bytes((start + at) % 251 for at in range(length))
    return rig.put(ACK, sequence=IRS + 1 + rig.got + start, data=data, size=size)


def blocks(rig: Rig, out: list) -> list[tuple[int, int]]:  # type: ignore[type-arg]
    base = FIRST + rig.got
    return [((low - base) & MASK, (high - base) & MASK) for low, high in out[0].options.blocks]


def test_one_segment_waits_40_ms_for_company() -> None:
    """RFC 5681 section 4.2."""
    rig = ready()
    assert put(rig, 0) == []
    assert rig.wait(0.03) == []
    (ack,) = rig.wait(0.02)
    assert ack.acknowledgment == FIRST + rig.got + MSS & MASK
    assert put(rig, MSS) == []
    assert len(put(rig, 2 * MSS)) == 1


def test_a_run_that_was_merged_is_acknowledged_at_once_and_a_burst_of_runs_once() -> None:
    rig = ready()
    (ack,) = put(rig, 0, 20 * MSS, size=MSS)
    assert ack.acknowledgment == FIRST + rig.got + 20 * MSS & MASK
    assert len(rig.data) == 20 * MSS


def test_long_runs_that_waited_are_read_as_they_came_and_short_ones_together() -> None:
    rig = ready()
    rig.takes = False
    for at, length in PIECES:
        put(rig, at, length, size=MSS)
    assert rig.connection is not None
    parts = [rig.connection.receive(1 << 18) for _ in range(4)]
    assert [len(part) for part in parts] == [20 * MSS, 15 * MSS, 2 * MSS, 0]
    assert b"".join(parts) == b"".join(bytes(n % 251 for n in range(at, at + size)) for at, size in PIECES)


def test_data_that_goes_out_takes_the_acknowledgement_along() -> None:
    rig = ready()
    put(rig, 0)
    assert rig.connection is not None
    rig.connection.send(b"answer")
    (out,) = rig.out()
    assert (out.data, out.acknowledgment) == (b"answer", FIRST + rig.got + MSS & MASK)
    assert not [sent for sent in rig.wait(0.1) if not sent.data]


def test_gaps_are_told_of_and_filled() -> None:
    """RFC 2018 section 4: the latest block first."""
    rig = ready()
    assert blocks(rig, put(rig, 2 * MSS)) == [(2 * MSS, 3 * MSS)]
    assert blocks(rig, put(rig, 6 * MSS)) == [(6 * MSS, 7 * MSS), (2 * MSS, 3 * MSS)]
    assert blocks(rig, put(rig, 4 * MSS)) == [(4 * MSS, 5 * MSS), (6 * MSS, 7 * MSS), (2 * MSS, 3 * MSS)]
    assert rig.data == b""
    (ack,) = put(rig, 0, 2 * MSS)
    assert ack.acknowledgment == FIRST + rig.got + 3 * MSS & MASK
    put(rig, 3 * MSS, 10 * MSS, size=MSS)
    assert bytes(rig.data) == bytes(at % 251 for at in range(13 * MSS))


@pytest.mark.parametrize("options", [SACK, STAMPED], ids=["plain", "stamped"])
def test_what_comes_twice_is_reported(options: bytes) -> None:
    """RFC 2883 section 4: behind the acknowledgement, and inside an island."""
    rig = ready(SACK)
    put(rig, 0, 2 * MSS, size=MSS)
    assert blocks(rig, put(rig, MSS)) == [(MSS, 2 * MSS)]
    put(rig, 4 * MSS)
    assert blocks(rig, put(rig, 4 * MSS)) == [(4 * MSS, 5 * MSS), (4 * MSS, 5 * MSS)]
    assert len(rig.data) == 2 * MSS


def test_without_selective_acknowledgements_each_segment_behind_a_gap_has_its_duplicate() -> None:
    """RFC 5681 section 3.2: the sender counts them."""
    rig = ready(PLAIN)
    answers = [put(rig, at * MSS) for at in range(1, 5)]
    assert [(len(out), out[0].acknowledgment, out[0].options.blocks) for out in answers] == [
        (1, FIRST + rig.got & MASK, ())
    ] * 4


def test_an_old_timestamp_is_not_believed() -> None:
    """PAWS, RFC 7323 section 5."""
    rig = Rig()
    rig.establish(STAMPED)
    (ack,) = rig.put(ACK, data=b"new", options=of_segment((2000, 0), []))
    assert ack.options.timestamps is not None
    assert ack.options.timestamps[1] == 2000
    rig.got += 3
    rig.put(ACK, data=b"old", options=of_segment((1999, 0), []))
    assert rig.data == b"new"
    assert rig.put(RST | ACK, options=of_segment((1, 0), [])) == []
    assert rig.state is State.CLOSED


def test_a_segment_without_the_timestamps_that_were_agreed_on_is_dropped() -> None:
    """RFC 7323 section 3.2."""
    rig = Rig()
    rig.establish(STAMPED)
    assert rig.put(ACK, data=b"none") == []
    assert rig.data == b""


def test_the_window_closes_when_nobody_reads_and_opens_when_somebody_does() -> None:
    """RFC 9293 section 3.8.6.2.2; nothing that was promised is taken back."""
    rig = ready()
    rig.takes = False
    at, edge, fields = 0, 0, []
    while True:
        (ack, *_) = put(rig, at, 20 * MSS, size=MSS) or rig.wait(0.1)
        right = (ack.acknowledgment - FIRST - rig.got & MASK) + (ack.window << 8)
        assert right + 255 >= edge
        edge = max(edge, right)
        fields.append(ack.window)
        if not ack.window:
            break
        at += 20 * MSS
        assert at < 2_000_000
    assert rig.connection is not None
    kept = rig.connection.waiting
    assert SMALLEST <= kept < SMALLEST + 512
    (ack,) = put(rig, kept, 1)  # a probe of one byte
    assert (ack.window, rig.connection.waiting) == (0, kept)
    assert len(rig.connection.receive(100)) == 100
    assert rig.out() == []  # too little to tell of
    assert rig.connection.receive_into(bytearray(50_000)) == 50_000
    (update,) = rig.out()
    assert update.window << 8 >= 49_000


def test_data_and_a_fin_behind_what_was_not_read_can_still_be_read() -> None:
    rig = ready()
    rig.takes = False
    rig.put(FIN | ACK, data=b"last words")
    assert rig.heard == ["open", "end"]
    assert rig.connection is not None
    assert not rig.connection.at_end
    assert rig.connection.receive(4) == b"last"
    assert rig.connection.receive(100) == b" words"
    assert rig.connection.at_end


def test_a_fin_counts_only_when_everything_before_it_is_here() -> None:
    rig = ready()
    rig.put(FIN | ACK, sequence=IRS + 1 + rig.got + 4, data=b"late")
    assert rig.state is State.ESTABLISHED
    rig.put(ACK, data=b"soon")
    assert rig.state is State.CLOSE_WAIT
    assert rig.data == b"soonlate"


def test_the_receive_buffer_grows_with_what_is_read_and_only_then() -> None:
    """From 64 KiB to 8 MiB."""
    rig = Rig()
    rig.establish(of_syn(MSS, 8, True, (1, 0)))
    at, value = 0, 2
    windows = []
    for _ in range(60):
        sent = rig.now
        rig.now += 0.05
        limit = rig.connection._receiver.edge - rig.connection._receiver.next  # type: ignore[union-attr]
        out = []
        while limit >= 58_400:
            value += 1
            echo = int(sent * 1000) + rig.connection._stamps._offset & MASK  # type: ignore[union-attr]
            options = of_segment((value, echo), [])
            out += rig.put(ACK, sequence=IRS + 1 + at, data=bytes(58_400), size=MSS, options=options)
            at += 58_400
            limit -= 58_400
        windows.append(out[-1].window << 8)
    assert windows[0] <= 2 * SMALLEST
    assert 7 << 20 < windows[-1] <= 8 << 20


def test_what_was_promised_is_kept_behind_a_gap_when_the_window_has_shrunk_meanwhile() -> None:
    receiver = Receiver(0, scale=8, selective=True, size=MSS, windows=WindowBudget())
    receiver.tuner.capacity = LARGEST
    receiver.advertise()
    receiver.tuner.capacity = SMALLEST
    block = 40 * MSS
    for start in range(MSS, LARGEST - block, block):
        assert receiver.place(start, memoryview(bytes(block)), 40, 0.0) == []
    ready = receiver.place(0, memoryview(bytes(MSS)), 1, 0.0)
    assert sum(map(len, ready)) > LARGEST - 2 * block


def test_marks_are_echoed_until_the_sender_says_that_it_knows() -> None:
    """RFC 3168 section 6.1.3."""
    rig = Rig()
    rig.listen()
    (answer,) = rig.put(SYN | ECE | 0x80, sequence=IRS, options=SACK)
    assert answer.flags == SYN | ACK | ECE
    rig.iss = answer.sequence
    rig.put(ACK)
    flags = []
    for ecn, more in ((2, 0), (3, 0), (2, 0), (2, 0x80), (2, 0)):
        (ack,) = rig.put(ACK | more, data=bytes(MSS), ecn=ecn)
        rig.got += MSS
        flags.append(bool(ack.flags & ECE))
    assert flags == [False, True, True, False, False]


def test_urgent_data_is_data() -> None:
    """RFC 6093: the mechanism is not to be used; the bytes stay in line."""
    rig = ready()
    rig.put(ACK | 0x20, data=b"urgent")
    assert rig.data == b"urgent"
