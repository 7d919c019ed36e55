"""A transfer under whatever a seed makes of the link: loss up to 30 %, duplicates, reordering, new MTUs, silence.

python -m stack_runs [--runs N] [--first SEED]
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from stack_link import V4, V6, Path, User, World, listen, start

from ikeclient.stack.interfaces import CloseReason

_PATIENCE = 4 * 3600.0  # of virtual seconds: with 30 % loss in both directions timeouts are backed off to a minute


def path(random: Random) -> Path:
    """One direction."""
    found = Path(delay=random.choice((0.0001, 0.001, 0.01, 0.05, 0.15)))
    if random.random() < 0.7:
        found.loss = random.choice((0.001, 0.01, 0.03, 0.1, 0.3))
    if random.random() < 0.4:
        found.double = random.choice((0.01, 0.1, 0.5))
    if random.random() < 0.5:
        found.reorder, found.late = random.choice((0.01, 0.1, 0.5)), random.choice((0.001, 0.01, 0.1))
    if random.random() < 0.3:
        found.rate = random.choice((50_000.0, 1e6, 2e7))
        found.queue = random.choice((5_000, 50_000, 500_000))
    if random.random() < 0.3:
        found.longest, found.tells = random.choice((1280, 1400)), random.random() < 0.5
    if random.random() < 0.3:
        begin = 1000 + random.random()
        found.silent = [(begin, begin + random.choice((0.1, 1.0, 10.0)))]
    return found


def run(seed: int) -> str:
    """One transfer in both directions; raises AssertionError if a byte is lost or changed, or nothing moves."""
    random = Random(seed)
    there, back = path(random), path(random)
    addresses = random.choice((V4, V6))
    merge = random.choice((0.0, 0.0005))
    world = World(seed, there=there, back=back, addresses=addresses, merge=merge)
    lossy = max(there.loss, back.loss)
    most = 30_000 if lossy == 0.3 else 150_000 if lossy == 0.1 or 50_000.0 in (there.rate, back.rate) else 600_000
    sizes = [random.choice((0, 1, random.randint(2, 5000), random.randint(5000, most), most)) for _ in range(2)]
    data = [random.randbytes(size) for size in sizes]
    client = User(data[0], piece=random.choice((1000, 65536)))
    server = User(data[1], piece=random.choice((1000, 65536)))
    slow = random.random() < 0.2
    client.takes = not slow

    def change() -> None:
        if random.random() < 0.5:
            there.longest, there.tells = random.choice(((1280, True), (1500, True), (1300, False)))

    world.clock.at(world.now + random.random() * 2, change)

    def read() -> None:
        if client.connection is not None:
            client.read(random.randint(1, 100_000))
        if len(client.got) < len(data[1]):
            world.clock.at(world.now + 0.05, read)

    if slow:
        world.clock.at(world.now + 0.05, read)
    listen(world, server)
    start(world, client)

    def over() -> bool:
        return client.reason is not None and (server.reason is not None or not server.opened)

    done = world.run(_PATIENCE, over)
    what = f"seed {seed}: {there} {back} {sizes} {client.reason} {server.reason}"
    assert done, what
    if slow:
        world.run(1, lambda: not client.read())
    given_up = CloseReason.TIMED_OUT in (client.reason, server.reason)
    if client.reason is CloseReason.TIMED_OUT and not client.opened:
        assert lossy == 0.3, what  # every SYN was lost
        return "not opened"
    assert bytes(client.got) == data[1], what
    assert bytes(server.got) == data[0], what
    # The last acknowledgement of a connection cannot be known to have arrived.
    assert not given_up or lossy == 0.3, what
    assert (client.ended, server.ended) == (True, True), what
    assert not world.a.tcp.count + world.b.tcp.count, what
    return "equal"


def main() -> None:
    """Run many."""
    parser = argparse.ArgumentParser(prog="scripts/stack-sim", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    options = parser.parse_args()
    started, results = time.monotonic(), dict[str, int]()
    for seed in range(options.first, options.first + options.runs):
        result = run(seed)
        results[result] = results.get(result, 0) + 1
        if sys.stdout.isatty():
            print(f"\rseed {seed}", end="", flush=True)
    print(f"\r{options.runs} transfers in {time.monotonic() - started:.0f} s:", results)


if __name__ == "__main__":
    main()
