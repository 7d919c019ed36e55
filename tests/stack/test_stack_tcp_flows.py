"""Many connections on one link: their windows together fill a queue no further than those of one do."""

from __future__ import annotations

from stack_link import Path, Sink, World, join

from ikeclient.stack.tcp.shares import LARGEST, Shares

SPEED = 100e6  # bytes a second
JUMBO = 9000  # bytes a packet, so that there are fewer


def link(delay: float, queue: int) -> World:
    world = World(there=Path(delay=delay, rate=SPEED, queue=queue), back=Path(delay=delay))
    world.a.longest = world.b.longest = JUMBO
    return world


def goodput(world: World, sinks: list[Sink], seconds: float) -> float:
    """Of all of them, in bytes a second."""
    before = sum(sink.size for sink in sinks)
    world.run(seconds)
    return (sum(sink.size for sink in sinks) - before) / seconds


def windows(sinks: list[Sink]) -> int:
    """What all of them may be sent, in bytes."""
    assert all(sink.connection is not None for sink in sinks)
    return sum(sink.connection._receiver.tuner.capacity for sink in sinks)  # type: ignore[union-attr]


def test_sixty_four_connections_pass_a_queue_that_one_passes_without_a_loss() -> None:
    """The queue has room for what one may be sent, on a path so short that everything else waits there."""
    speeds, queue = [], LARGEST + LARGEST // 8
    for count in (1, 64):
        world = link(0.0005, queue)
        sinks = join(world, count)
        world.run(0.3)
        speeds.append(goodput(world, sinks, 0.5))
        assert windows(sinks) <= queue
        assert world.a.lost == 0
    one, many = speeds
    assert many >= 0.8 * one


def test_one_that_had_the_path_alone_shares_with_those_that_come() -> None:
    world = link(0.0005, 4 * LARGEST)
    first = join(world, 1)
    world.run(0.4)
    assert windows(first) == LARGEST
    others = join(world, 7)
    world.run(1.2)
    assert 0.95 * LARGEST / 8 < windows(first) <= LARGEST // 8  # of whole super-packets
    assert windows(others) <= 2 * LARGEST  # to those that found a queue the path is a long one
    assert world.a.lost == 0


class Alone(Shares):
    """To whom every connection is the only one."""

    def share(self, counted: int, now: float) -> tuple[int, int]:
        return LARGEST, counted


def congestion_windows(world: World) -> list[int]:
    """Of all connections of the end that sends, in bytes."""
    return [each._sender.recovery.congestion.window for each in world.a.tcp._connections.values()]


def test_sixty_four_senders_pass_a_queue_without_a_loss_whatever_the_peer_takes() -> None:
    """CUBIC alone would grow until it overflows."""
    world = link(0.0005, LARGEST + LARGEST // 8)
    world.b.tcp.windows.shares = Alone()
    sinks = join(world, 64)
    world.run(1.0)
    assert windows(sinks) >= 4 * LARGEST
    assert congestion_windows(world) == [LARGEST // 64] * 64
    assert world.a.lost == 0


def test_a_sender_that_had_the_path_alone_gives_way_to_those_that_come() -> None:
    world = link(0.0005, 4 * LARGEST)
    world.b.tcp.windows.shares = Alone()
    join(world, 1)
    world.run(0.5)
    assert congestion_windows(world)[0] > LARGEST // 2
    join(world, 7)
    world.run(0.7)
    assert congestion_windows(world)[0] == LARGEST // 8
    assert world.a.lost == 0


def test_several_together_may_have_more_on_a_long_path() -> None:
    """Here it takes twice as much to fill it as one may be sent."""
    delay = LARGEST / SPEED
    world = link(delay, LARGEST)
    sinks = join(world, 8)
    world.run(2.2)
    assert goodput(world, sinks, 0.5) > 0.8 * SPEED
    assert sum(congestion_windows(world)) > LARGEST
