"""What a sender does with what it hears: windows, timers, loss, and the size of segments."""

from __future__ import annotations

from itertools import pairwise

import pytest
from stack_rig import IRS, Rig

from ikeclient.stack.interfaces import LONGEST_PACKET, Quoted
from ikeclient.stack.tcp.options import of_segment, of_syn
from ikeclient.stack.tcp.segment import ACK, CWR, ECE, FIN, PSH, RST, SYN
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State

MSS = 1460
SACK = of_syn(MSS, 8, True, None)
PLAIN = of_syn(MSS, None, False, None)
STAMPED = of_syn(MSS, 8, True, (1000, 0))


def ready(options: bytes = SACK, window: int = 60_000, **settings: int) -> Rig:
    rig = Rig(**settings)  # type: ignore[arg-type]
    rig.establish(options, window)
    return rig


def send(rig: Rig, size: int) -> list[tuple[int, int]]:
    """What leaves, as ranges of our stream."""
    assert rig.connection is not None
    assert rig.connection.send(bytes(size)) == size
    return ranges(rig, rig.out())


def ranges(rig: Rig, out: list) -> list[tuple[int, int]]:  # type: ignore[type-arg]
    found = []
    for sent in out:
        start = sent.sequence - rig.iss - 1 & MASK
        if sent.data:
            found.append((start, start + len(sent.data)))
    return found


def acknowledge(rig: Rig, position: int, *blocks: tuple[int, int], **more: int) -> list[tuple[int, int]]:
    """An acknowledgement of our stream up to there."""
    base = rig.iss + 1
    options = of_segment(None, [((base + low) & MASK, (base + high) & MASK) for low, high in blocks])
    return ranges(rig, rig.put(ACK, acknowledgment=base + position, options=options, **more))  # type: ignore[arg-type]


def test_our_syn_offers_everything_and_an_answer_without_it_is_respected() -> None:
    """RFC 7323 section 2.2, RFC 2018 section 2."""
    rig = Rig()
    syn = rig.connect()
    assert (syn.flags, syn.options.mss, syn.options.scale, syn.options.sack_permitted) == (
        SYN | ECE | CWR,
        1460,
        8,
        True,
    )
    assert syn.options.timestamps is not None
    assert syn.window == 65535
    (ack,) = rig.put(SYN | ACK, sequence=IRS, options=of_syn(1000, None, False, None))
    assert (ack.flags, ack.options.timestamps, ack.window) == (ACK, None, 65535)
    send(rig, 3000)
    assert rig.heard == ["open"]


def test_ten_segments_leave_at_first_as_one_frame_and_windows_are_scaled() -> None:
    """RFC 6928; RFC 7323 section 2.3."""
    rig = ready()
    assert send(rig, 100_000) == [(0, 10 * MSS)]
    assert acknowledge(rig, 10 * MSS, window=40) == [(10 * MSS, 17 * MSS)]  # 40 * 256 bytes, in whole segments


@pytest.mark.parametrize(("offered", "size"), [(500, 500), (0, 536), (1, 64), (9000, 1460)])
def test_segments_are_as_long_as_both_ends_and_the_path_can(offered: int, size: int) -> None:
    rig = ready(of_syn(offered, 8, True, None))
    assert rig.connection is not None
    rig.connection.send(bytes(100_000))
    out = rig.out()
    assert out[0].size == size
    assert all(len(sent.data) <= LONGEST_PACKET and len(sent.data) <= 64 * size for sent in out)


def test_a_small_piece_leaves_at_once_and_pieces_that_wait_leave_together() -> None:
    rig = ready()
    assert send(rig, 10) == [(0, 10)]
    rig.connection.send(b"a" * 10)  # type: ignore[union-attr]
    assert send(rig, 10) == [(10, 30)]


def test_three_duplicates_repair_a_loss_without_selective_acknowledgements() -> None:
    """RFC 5681 section 3.2, RFC 3042, RFC 6582: two new segments, then the lost one, then the next lost one."""
    rig = ready(PLAIN)
    send(rig, 20 * MSS)
    ((start, end),) = acknowledge(rig, 2 * MSS)
    assert start == 10 * MSS
    for _ in range(2):
        assert acknowledge(rig, 2 * MSS) == [(end, end + MSS)]
        end += MSS
    assert acknowledge(rig, 2 * MSS) == [(2 * MSS, 3 * MSS)]
    assert (5 * MSS, 6 * MSS) in acknowledge(rig, 5 * MSS)  # a partial acknowledgement


def test_what_is_lost_leaves_again_as_one_run() -> None:
    """RFC 6675: with three segments and more behind it acknowledged, a hole is lost, however long."""
    rig = ready()
    send(rig, 10 * MSS)
    rig.now += 0.05
    again = acknowledge(rig, MSS, (5 * MSS, 10 * MSS))
    assert again[0][0] == MSS
    while again[-1][1] < 5 * MSS:  # at the pace of what arrives
        following = acknowledge(rig, again[-1][1], (5 * MSS, 10 * MSS))
        assert following
        assert following[0][0] == again[-1][1]
        again = following


def test_a_lost_retransmission_is_seen_without_a_timeout() -> None:
    """RFC 8985 section 3.2: by something that was sent later and has arrived."""
    rig = ready()
    send(rig, 30 * MSS)
    rig.now += 0.05
    first = acknowledge(rig, 0, (MSS, 5 * MSS))
    assert (0, MSS) in first
    rig.now += 0.05
    new = acknowledge(rig, 0, (MSS, 10 * MSS))
    assert new
    rig.now += 0.05
    end = new[-1][1]
    again = acknowledge(rig, 0, (MSS, end))
    assert (0, MSS) in again


def test_reordering_is_no_loss_once_it_was_seen() -> None:
    """RFC 8985 section 6.2 step 4: the reordering window opens, and closes by a timer."""
    rig = ready()
    rig.connection.send(bytes(10 * MSS))  # type: ignore[union-attr]
    rig.out()
    rig.now += 0.1
    acknowledge(rig, 0, (MSS, 2 * MSS))
    acknowledge(rig, 2 * MSS)  # so nothing was lost
    assert acknowledge(rig, 2 * MSS, (6 * MSS, 10 * MSS)) == []
    again = rig.wait(0.06)
    assert ranges(rig, again)[0][0] == 2 * MSS


def test_the_tail_is_probed_before_the_timeout() -> None:
    """RFC 8985 section 7: the last segment, after two round trips."""
    rig = ready()
    send(rig, 3 * MSS)
    rig.now += 0.02
    acknowledge(rig, MSS)
    probe = rig.wait(0.1)
    assert ranges(rig, probe) == [(2 * MSS, 3 * MSS)]
    # What is behind it is lost, if it alone has arrived.
    again = acknowledge(rig, MSS, (2 * MSS, 3 * MSS))
    assert again == [(MSS, 2 * MSS)] or ranges(rig, rig.wait(0.05)) == [(MSS, 2 * MSS)]


def test_timeouts_double_and_in_the_end_the_connection_is_over() -> None:
    """RFC 6298 section 5.5; RFC 9293 section 3.8.3: not before 100 seconds."""
    rig = ready(PLAIN)
    send(rig, 10 * MSS)
    begin, times = rig.now, []
    while rig.state is State.ESTABLISHED and rig.now < begin + 10_000:
        deadline = rig.tcp.deadline()
        assert deadline is not None
        out = rig.wait(max(deadline - rig.now, 0.001))
        if any(sent.data for sent in out):
            times.append(rig.now - begin)
            assert ranges(rig, out) == [(0, MSS)] or len(times) > 1  # one segment, the first
    gaps = [second - first for first, second in pairwise(times)]
    assert all(1.9 < second / first < 2.1 or second == pytest.approx(60, abs=1) for first, second in pairwise(gaps))
    assert rig.heard == ["open", "timed_out"]
    assert 100 < rig.now - begin < 2000
    assert rig.tcp.count == 0


def test_a_spurious_timeout_is_undone_by_its_timestamp() -> None:
    """RFC 3522: the acknowledgement echoes the first transmission, so nothing was lost; the window returns."""
    rig = ready(STAMPED)
    assert rig.connection is not None
    rig.connection.send(bytes(10 * MSS))
    (first,) = rig.out()
    window = rig.connection._sender.recovery.congestion.window
    assert first.options.timestamps is not None
    echo = first.options.timestamps[0]
    assert any(sent.data for sent in rig.wait(3))
    assert rig.connection._sender.recovery.congestion.window < window
    rig.put(ACK, acknowledgment=rig.iss + 1 + len(first.data), options=of_segment((2000, echo), []))
    assert rig.connection._sender.recovery.congestion.window >= window
    assert rig.connection._sender.recovery.board.lost == 0


def test_a_retransmission_in_vain_is_undone_by_duplicates() -> None:
    """RFC 3708, RFC 8985 section 6.2: DSACK restores the window, and the reordering window widens."""
    rig = ready()
    assert rig.connection is not None
    send(rig, 10 * MSS)
    window = rig.connection._sender.recovery.congestion.window
    rig.now += 0.05
    assert acknowledge(rig, 0, (MSS, 5 * MSS))[0] == (0, MSS)
    assert rig.connection._sender.recovery.congestion.window < window
    acknowledge(rig, 5 * MSS)
    acknowledge(rig, 5 * MSS, (0, MSS))
    assert rig.connection._sender.recovery.congestion.window >= window


def test_a_closed_window_is_probed_for_ever_as_long_as_the_peer_answers() -> None:
    """RFC 9293 section 3.8.6.1."""
    rig = ready()
    send(rig, 2 * MSS)
    acknowledge(rig, 2 * MSS, window=0)
    assert send(rig, 5000) == []
    probes = 0
    for _ in range(20):
        for probe in rig.wait(61):
            probes += 1
            assert not probe.data
            assert probe.sequence == rig.iss + 2 * MSS & MASK  # one before what is next: the peer must answer
            acknowledge(rig, 2 * MSS, window=0)
    assert 15 < probes < 60
    assert rig.state is State.ESTABLISHED
    assert acknowledge(rig, 2 * MSS, window=1000) == [(2 * MSS, 2 * MSS + 5000)]


def test_a_silly_window_is_not_filled_at_once() -> None:
    """RFC 9293 section 3.8.6.2.1: it is, after a while, so that nothing stands still."""
    rig = ready(of_syn(MSS, 0, True, None), window=60_000)
    send(rig, 2 * MSS)
    acknowledge(rig, 2 * MSS, window=100)
    assert send(rig, 5000) == []
    assert set(ranges(rig, rig.wait(5))) == {(2 * MSS, 2 * MSS + 100)}


def test_a_window_that_was_taken_back_is_borne() -> None:
    """RFC 9293 section 3.8.6: the peer SHOULD NOT, and we go on."""
    rig = ready()
    send(rig, 10 * MSS)
    assert acknowledge(rig, MSS, window=0) == []
    assert rig.wait(2)
    assert acknowledge(rig, 10 * MSS, window=1000) == []
    assert rig.connection is not None
    assert rig.connection.unsent == 0


def test_marks_of_congestion_shrink_the_window_once_and_are_confirmed() -> None:
    """RFC 3168 section 6.1."""
    rig = Rig()
    assert rig.connect().flags == SYN | ECE | CWR
    rig.put(SYN | ACK | ECE, sequence=IRS, options=SACK)
    assert rig.connection is not None
    rig.connection.send(bytes(50 * MSS))
    (first,) = rig.out()
    assert (first.ecn, first.flags & CWR) == (2, 0)
    window = rig.connection._sender.recovery.congestion.window
    base = rig.iss + 1
    out = rig.put(ACK | ECE, acknowledgment=base + 5 * MSS)
    out += rig.put(ACK | ECE, acknowledgment=base + 10 * MSS)
    assert rig.connection._sender.recovery.congestion.window < window
    marked = [sent for sent in out if sent.data]
    assert [bool(sent.flags & CWR) for sent in marked] == [True] + [False] * (len(marked) - 1)


def test_our_syn_gives_up_ecn_when_nobody_answers() -> None:
    """RFC 3168 section 6.1.1.1."""
    rig = Rig()
    rig.connect()
    assert [sent.flags for sent in rig.wait(2)] == [SYN]
    rig.put(SYN | ACK | ECE, sequence=IRS, options=SACK)  # of the first one, late
    assert rig.connection is not None
    rig.connection.send(bytes(MSS))
    assert [sent.ecn for sent in rig.out()] == [0]


def test_a_longer_packet_than_the_path_carries_leaves_again_in_shorter_ones() -> None:
    """RFC 1191; RFC 5927 section 7: only for what is in flight, and never below what every path carries."""
    rig = ready()
    send(rig, 10 * MSS)
    for wrong in (rig.iss - 5000, rig.iss + 1 + 10 * MSS):
        assert not rig.tcp.too_big(Quoted(flow=rig.flow, sequence=wrong & MASK), 1300, rig.now)
    assert rig.tcp.too_big(Quoted(flow=rig.flow, sequence=rig.iss + 1), 1300, rig.now)
    out = rig.out()
    assert ranges(rig, out)[0][0] == 0
    assert out[0].size in (0, 1260)
    assert rig.tcp.too_big(Quoted(flow=rig.flow, sequence=rig.iss + 1), 0, rig.now)
    assert rig.connection is not None
    assert rig.connection._sender.mss == 536


def test_a_black_hole_is_found_without_a_message() -> None:
    rig = ready()
    send(rig, 10 * MSS)
    sizes = {len(sent.data) for sent in rig.wait(20) if sent.data}
    assert 1240 in sizes


def test_when_the_path_is_back_nothing_waits_for_a_timeout_that_was_backed_off() -> None:
    rig = ready(PLAIN)
    send(rig, 5 * MSS)
    rig.wait(40)
    rig.tcp.path_restored(rig.now)
    assert ranges(rig, rig.wait(0.001))[0][0] == 0


def test_a_fin_goes_out_with_the_last_data_and_is_repeated_when_it_is_lost() -> None:
    rig = ready()
    assert rig.connection is not None
    rig.connection.send(b"x" * 100)
    rig.connection.shutdown()
    (out,) = rig.out()
    assert (out.flags, len(out.data)) == (ACK | PSH | FIN, 100)
    (again,) = rig.wait(1.5)[:1]
    assert again.flags & FIN
    assert rig.connection.send(b"more") == 0
    rig.put(ACK, acknowledgment=rig.iss + 1 + 101)
    assert rig.state is State.FIN_WAIT_2


def test_the_user_hears_of_room_after_it_was_refused_some() -> None:
    rig = ready()
    assert rig.connection is not None
    block, taken = bytes(65536), 0
    while (size := rig.connection.send(block)) == len(block):
        taken += size
    taken += size
    assert taken == 256 * 1024
    rig.out()
    acknowledge(rig, 10 * MSS)
    assert "writable" not in rig.heard
    for position in range(20 * MSS, taken, 20 * MSS):
        acknowledge(rig, min(position, rig.connection._sender.nxt - rig.iss - 1))
    assert "writable" in rig.heard


def test_what_was_given_is_kept_by_reference() -> None:
    rig = ready()
    assert rig.connection is not None
    given = bytearray(b"a" * 8192)
    assert rig.connection.give(given) == 8192
    given[:] = b"b" * 8192  # what nobody may do, to see whose memory it is
    assert rig.out()[0].data == b"b" * 8192
    mutable = bytearray(b"c" * 8192)
    rig.connection.send(memoryview(mutable))
    mutable[:] = b"d" * 8192
    assert b"c" * 1000 in b"".join(sent.data for sent in rig.out() + rig.put(ACK, acknowledgment=rig.iss + 1 + 8192))


def test_an_acknowledgement_of_what_was_never_sent_is_challenged() -> None:
    """RFC 5961 section 5.2, twice a second at most (section 7)."""
    rig = ready()
    rig.now += 10
    answers = [rig.put(ACK, acknowledgment=rig.iss + 1_000_000) for _ in range(50)]
    assert sum(map(len, answers)) == 1
    rig.now += 0.6
    assert len(rig.put(ACK, acknowledgment=rig.iss + 1_000_000)) == 1


def test_a_refused_connection_and_an_unreachable_one_fail_at_once() -> None:
    rig = Rig()
    rig.connect()
    rig.put(RST | ACK, sequence=0)
    assert rig.heard == ["refused"]
    rig = Rig()
    rig.connect()
    rig.tcp.unreachable(Quoted(flow=rig.flow, sequence=rig.iss - 1 & MASK), hard=True)
    rig.tcp.unreachable(Quoted(flow=rig.flow, sequence=rig.iss), hard=False)
    assert rig.heard == []
    rig.tcp.unreachable(Quoted(flow=rig.flow, sequence=rig.iss), hard=True)
    assert rig.heard == ["unreachable"]
    assert rig.tcp.count == 0


def test_an_established_connection_does_not_end_by_icmp() -> None:
    """RFC 5461, RFC 5927 section 5."""
    rig = ready()
    send(rig, 10)
    rig.tcp.unreachable(Quoted(flow=rig.flow, sequence=rig.iss + 1), hard=True)
    assert rig.state is State.ESTABLISHED


def test_a_syn_is_repeated_later_each_time_and_then_given_up() -> None:
    rig = Rig()
    begin = rig.now
    rig.connect()
    out = rig.wait(500)
    assert [sent.flags for sent in out] == [SYN] * 6
    assert rig.heard == ["timed_out"]
    assert rig.tcp.deadline() is None or rig.tcp.deadline() > begin  # type: ignore[operator]
    assert rig.tcp.count == 0


def test_a_family_without_an_address_is_said() -> None:
    rig = Rig()
    rig.local = lambda remote: None  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no inner address"):
        rig.connect()
