"""Fuzz target: segments of any kind into TCPs of ours, in every state, while their users send, read and close.

Nothing crashes, no answer is longer than what the network may be asked to carry, no flood of answers comes out, and
what is kept stays bounded.
"""

from __future__ import annotations

from random import Random
from typing import Any

from stack_rig import IRS, Rig

from ikeclient.stack.tcp.listener import BACKLOG
from ikeclient.stack.tcp.options import of_segment, of_syn
from ikeclient.stack.tcp.segment import ACK, SYN
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State

_SEGMENTS = 40
_MOST_KEPT = 2 * 8 * 1024 * 1024


def _number(random: Random, right: int) -> int:
    """A sequence number: right, near, or anything."""
    kind = random.random()
    if kind < 0.5:
        return right & MASK
    if kind < 0.8:
        return (right + random.choice((-1, 1)) * random.choice((1, 2, 100, 1448, 60_000, 1 << 20))) & MASK
    return random.getrandbits(32)


def _options(random: Random, rig: Rig) -> bytes:
    kind = random.random()
    stamps = (_number(random, 100), _number(random, int(rig.now * 1000)))
    if kind < 0.3:
        return b""
    if kind < 0.5:
        return of_segment(stamps, [])
    if kind < 0.7:
        low = _number(random, rig.iss + 1 + random.randint(0, 50_000))
        blocks = [(low, _number(random, low + random.randint(0, 5000))) for _ in range(random.randint(1, 4))]
        return of_segment(stamps if random.random() < 0.5 else None, blocks)
    if kind < 0.8:
        return of_syn(random.choice((0, 1, 64, 536, 1460, 65535)), random.randint(0, 14), True, stamps)
    return random.randbytes(4 * random.randint(0, 10))


def _put(random: Random, rig: Rig, flow: bytes) -> int:
    flags = random.choice((ACK, ACK, ACK, random.getrandbits(8), random.choice((0x12, 0x02, 0x04, 0x14, 0x11))))
    length = random.choice((0, 0, 1, 100, 1448, 30_000))
    data = random.randbytes(length)
    rig.flow = flow
    rig.put(
        flags,
        sequence=_number(random, IRS + 1 + rig.got),
        acknowledgment=_number(random, rig.iss + 1 + random.choice((0, 1000, 1448, 20_000))),
        data=data,
        window=random.choice((0, 1, 1000, 65535)),
        options=_options(random, rig),
        size=random.choice((0, 0, 1448, 1)) if length > 1448 else 0,
        ecn=random.getrandbits(2),
    )
    rig.got += random.choice((0, length))
    return length


def _use(random: Random, rig: Rig) -> None:
    connection = rig.connection
    if connection is None:
        return
    what = random.randint(0, 12)
    if what < 5:
        connection.send(bytes(random.choice((1, 1000, 100_000))))
    elif what == 5:
        connection.receive(random.randint(1, 10_000))
    elif what == 6:
        connection.shutdown()
    elif what == 7:
        connection.close()
    elif what == 8 and random.random() < 0.2:
        connection.abort()
    elif what == 9:
        connection.too_big(random.getrandbits(32), random.choice((0, 68, 1280, 1400)), rig.now)
    elif what == 10:
        rig.takes = random.random() < 0.5
    elif what == 11:
        connection.keep_alive(random.choice((None, 1.0)))
    elif what == 12:
        rig.tcp.path_restored(rig.now)


def stack_tcp(random: Random) -> None:
    """One connection after the other gets odd segments; see the module."""
    rig = Rig(mtu=random.choice((576, 1280, 1500, 9000)))
    state = random.choice(list(State))
    stamps = of_syn(1460, 7, True, (1, 0)) if random.random() < 0.5 else b""
    if state in (State.SYN_SENT, State.CLOSED, State.LISTEN, State.SYN_RECEIVED) or not stamps:
        rig.enter(state)
    else:
        rig.connect()
        rig.put(SYN | ACK, sequence=IRS, options=stamps)
    flow = rig.flow
    for _ in range(_SEGMENTS):
        _put(random, rig, flow if random.random() < 0.95 else flow[:-4] + random.randbytes(2) + flow[-2:])
        if random.random() < 0.5:
            _use(random, rig)
        assert len(rig.out(2000)) < 2000, "it never stops sending"
        if random.random() < 0.3:
            rig.wait(random.choice((0.001, 0.04, 1.0, 100.0)))
    assert _kept(rig) < _MOST_KEPT
    assert rig.tcp.count <= BACKLOG + 2


def _kept(rig: Rig) -> int:
    connections: Any = rig.tcp._connections.values()
    return sum(one._receiver.buffer.size + one._receiver.queue.cost for one in connections)
