"""What an enemy sends who sees nothing of a connection, or who is its peer and does not keep to the rules."""

from __future__ import annotations

from random import Random
from struct import pack

import pytest
from stack_link import Path, User, World
from stack_rig import IRS, Rig

from ikeclient.stack.interfaces import CloseReason
from ikeclient.stack.tcp.options import of_segment, of_syn
from ikeclient.stack.tcp.segment import ACK, FIN, PSH, RST, SYN, URG
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State

STAMPED = of_syn(1460, 8, True, (1000, 0))
SACK = of_syn(1460, 8, True, None)


@pytest.mark.parametrize("position", [100_000, -1_000_000])
def test_a_timestamp_counts_only_with_an_acknowledgement_that_can_be(position: int) -> None:
    """RFC 5961 section 5.2 before RFC 7323 section 5.3 R3: or else all that is genuine would be too old for PAWS."""
    rig = Rig()
    rig.establish(STAMPED)
    rig.now += 10
    future = of_segment((0x7FFFFFFF, 0), [])
    (challenge,) = rig.put(ACK, data=b"forged", options=future, acknowledgment=rig.iss + 1 + position)
    assert challenge.acknowledgment == IRS + 1
    rig.put(ACK, data=b"genuine", options=of_segment((1001, 0), []))
    assert rig.data == b"genuine"


@pytest.mark.parametrize("flags", [SYN, SYN | PSH | URG, SYN | FIN])
def test_what_comes_with_a_syn_does_not_count(flags: int) -> None:
    """Neither data nor a FIN, which is not acknowledged and comes again (RFC 9293 section 3.10.7.2)."""
    rig = Rig()
    rig.listen()
    (answer,) = rig.put(flags, sequence=IRS, data=b"early", options=SACK)
    assert (answer.flags, answer.acknowledgment) == (SYN | ACK, IRS + 1)
    rig.iss = answer.sequence
    rig.put(ACK, data=b"early")
    assert (rig.state, rig.data) == (State.ESTABLISHED, b"early")


@pytest.mark.parametrize("flags", [SYN | ACK, SYN | ACK | FIN])
def test_what_comes_with_the_answer_to_our_syn_does_not_count(flags: int) -> None:
    rig = Rig()
    rig.connect()
    (ack,) = rig.put(flags, sequence=IRS, data=b"early", options=SACK)
    assert (ack.flags, ack.acknowledgment, rig.state) == (ACK, IRS + 1, State.ESTABLISHED)
    assert rig.data == b""


@pytest.mark.parametrize("acknowledgment", [0, 2, 1 << 31])
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_of_our_syn_has_to_acknowledge_it(flags: int, acknowledgment: int) -> None:
    """RFC 9293 section 3.10.7.3."""
    rig = Rig()
    rig.connect()
    assert rig.put(flags, sequence=0, acknowledgment=rig.iss + acknowledgment) == []
    assert (rig.state, rig.heard) == (State.SYN_SENT, [])


@pytest.mark.parametrize("options", [b"\x02\x04\x00", b"\x08\xff", b"\x05\x03\x00", b"\x03\x00", b"\xfe\x01\x02\x04"])
def test_options_that_make_no_sense_are_passed_over(options: bytes) -> None:
    rig = Rig()
    rig.establish(options.ljust(12, b"\xff"))
    rig.put(ACK, data=b"data", options=options.ljust(8, b"\x05"))
    assert rig.data == b"data"


def test_what_came_first_stays_when_what_overlaps_it_differs() -> None:
    rig = Rig()
    rig.establish(SACK)
    rig.put(ACK, sequence=IRS + 5, data=b"EFGH")
    rig.put(ACK, sequence=IRS + 3, data=b"cdef")
    rig.put(ACK, sequence=IRS + 7, data=b"ghij")
    rig.put(ACK, data=b"ab")
    assert rig.data == b"abcdEFGHij"


def test_nothing_follows_a_fin() -> None:
    """And a FIN before what is here already is none."""
    for last, more in ((b"ta", b"da"), (b"ta", b"data"), (b"ta", b"data and more"), (b"", b"data and more")):
        rig = Rig()
        rig.establish(SACK)
        rig.put(FIN | ACK, sequence=IRS + 5 - len(last), data=last)
        assert rig.put(ACK, sequence=IRS + 5, data=b"more")
        rig.put(ACK, data=more)
        assert (bytes(rig.data), rig.state, rig.heard) == (b"data", State.CLOSE_WAIT, ["open", "end"])
    rig = Rig()
    rig.establish(SACK)
    rig.put(ACK, sequence=IRS + 5, data=b"more")
    rig.put(FIN | ACK, sequence=IRS + 3, data=b"ta")
    rig.put(ACK, data=b"da")
    assert (bytes(rig.data), rig.state, rig.heard) == (b"datamore", State.ESTABLISHED, ["open"])


def test_a_window_that_opens_and_closes_at_once_stops_nothing() -> None:
    rig = Rig()
    rig.establish(SACK, window=0)
    assert rig.connection is not None
    data = Random(1).randbytes(3000)
    rig.connection.send(data)
    got = bytearray()
    for turn in range(2000):
        for sent in [*rig.out(), *rig.wait(1.0)]:
            at = (sent.sequence - rig.iss - 1) & MASK
            if at == len(got):
                got += sent.data
        rig.put(ACK, acknowledgment=rig.iss + 1 + len(got), window=(0, 1)[turn % 2])
        if len(got) == len(data):
            break
    assert got == data


@pytest.mark.parametrize("seed", range(20))
def test_both_ends_open_and_close_at_the_same_time_over_a_bad_link(seed: int) -> None:
    bad = {"loss": 0.2, "double": 0.1, "reorder": 0.2, "late": 0.05}
    world = World(seed, there=Path(**bad), back=Path(**bad))
    users = User(b"from a" * 1000), User(b"from b" * 1000)
    for host, user, own, other in ((world.a, users[0], 5000, 6000), (world.b, users[1], 6000, 5000)):
        connection = host.tcp._make(host.peer.address + host.address + pack(">HH", other, own), 1000.0, passive=False)
        user.connection = connection
        connection.begin(user)
    assert world.run(3600, lambda: all(user.reason is CloseReason.CLOSED for user in users))
    assert [bytes(user.got) for user in users] == [users[1].to_send, users[0].to_send]
