"""Two TCPs joined by a link: whatever happens on the way, each end gets what the other one sent."""

from __future__ import annotations

from random import Random

import pytest
import stack_runs
from stack_link import V4, V6, User, World, connected

from ikeclient.stack.interfaces import CloseReason


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("merge", [0.0, 0.001], ids=["single", "merged"])
def test_both_directions_carry_everything_in_super_segments(addresses: tuple[bytes, bytes], merge: float) -> None:
    world = World(addresses=addresses, merge=merge)
    data = Random(1).randbytes(3_000_000)
    client, server = User(data), User(data[::-1])
    connected(world, client, server)
    assert world.run(30, lambda: client.reason is not None and server.reason is not None)
    assert (client.reason, server.reason) == (CloseReason.CLOSED, CloseReason.CLOSED)
    assert server.got == data
    assert client.got == data[::-1]
    assert world.a.sent > 20 * world.a.frames  # packets, of frames that stand for many
    assert world.a.tcp.count == world.b.tcp.count == 0


@pytest.mark.parametrize("first", range(1, 41, 10))
def test_streams_are_equal_whatever_the_link_does(first: int) -> None:
    """`scripts/stack-sim` runs a thousand of them."""
    for seed in range(first, first + 10):
        stack_runs.run(seed)
