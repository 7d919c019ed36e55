"""Transfers through a tunnel without a device while everything below it changes: `scripts/transfers 1000`.

Ten at a time, in both directions and over both families, each of a random length, to and from a web server behind a
real gateway. Meanwhile the cable loses, delays, reorders and doubles packets, the client moves to another network and
back (MOBIKE), and the gateway makes new keys. Each transfer has to arrive whole: as many bytes as were sent, with the
same hash.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from lab.network import INSIDE_IPV4, INSIDE_IPV6, Topology
from lab.pki import Pki
from lab.stack_users import User, using
from lab.world import Lab, clean_start, obstacles

PREFIX = "iktr"
AT_ONCE = 10
PAUSE = 0.7  # seconds between two upheavals
SIZES = (1, 1000, 1301, 65_536, 300_000, 1_000_000)  # bytes of what is fetched
LONGEST = 500_000  # bytes of what is sent
STEP = 0.02


class Transfers:
    """Carries out transfers, and counts what happened beside them in `upheavals`."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        self._lab = lab
        self._random = random.Random(seed)
        self._say = say
        self._hashes: dict[str, tuple[int, str]] = {}
        self._away = False
        self.upheavals: Counter[str] = Counter()

    def run(self, number: int) -> list[str]:
        """Return what went wrong."""
        self._serve()
        self._lab.network.add_second_path()
        wrong: list[str] = []
        with using(self._lab) as (user, _):
            self._impair()
            running: dict[int, tuple[str, Any]] = {}
            begun = done = 0
            next_upheaval = time.monotonic() + PAUSE
            while done < number:
                while len(running) < AT_ONCE and begun < number:
                    key, what = self._begin(user)
                    running[key] = what
                    begun += 1
                for key in [key for key in running if user.is_done(key)]:
                    fault = self._judge(running.pop(key), user.result(key))
                    done += 1
                    if fault is not None:
                        self._say(fault)
                        wrong.append(fault)
                    if not done % 100:
                        self._say(f"{done} transfers, {len(wrong)} wrong, {dict(self.upheavals)}")
                if time.monotonic() >= next_upheaval:
                    self._upheave()
                    next_upheaval = time.monotonic() + PAUSE
                time.sleep(STEP)
            self._come_back()
            told = Counter(event["event"] for event in user.events)
            self._say(f"told: {dict(told)}")
        wrong += [f"the tunnel says {told[name]} {name}" for name in ("reconnecting", "disconnected") if told[name] > 1]
        return wrong

    def _serve(self) -> None:
        for size in SIZES:
            content = self._random.randbytes(size)
            (self._lab.servers.files / f"of-{size}").write_bytes(content)
            self._hashes[f"/of-{size}"] = size, hashlib.sha256(content).hexdigest()

    def _begin(self, user: User) -> tuple[int, tuple[str, Any]]:
        host = self._random.choice((INSIDE_IPV4, INSIDE_IPV6))
        if self._random.random() < 0.5:
            path = self._random.choice(tuple(self._hashes))
            return user.begin("get", host, path), (f"get {host} {path}", self._hashes[path])
        size = self._random.randrange(1, LONGEST)
        return user.begin("put", host, size), (f"put {host} {size}", None)

    def _judge(self, what: tuple[str, Any], result: Any) -> str | None:
        name, expected = what
        if isinstance(result, OSError):
            return f"{name}: {result}"
        if expected is None:
            return None if result["same"] else f"{name}: the server got something else"
        arrived = result["size"], result["sha256"]
        return None if arrived == expected else f"{name}: {result['size']} bytes arrived, and not those"

    def _upheave(self) -> None:
        upheaval = self._random.choice((self._impair, self._impair, self._move, self._rekey_child, self._rekey_ike))
        upheaval()
        self.upheavals[upheaval.__name__.removeprefix("_")] += 1

    def _impair(self) -> None:
        assert self._lab.network.relay is not None
        chance = self._random.uniform
        self._lab.network.relay.impair(
            loss=chance(0, 0.03),
            delay=chance(0, 0.02),
            jitter=chance(0, 0.003),
            reorder=chance(0, 0.05),
            duplicate=chance(0, 0.02),
            seed=self._random.randrange(1 << 30),
        )

    def _move(self) -> None:
        if self._away:
            self._come_back()
        else:
            self._lab.network.use_second_path()
            self._away = True

    def _come_back(self) -> None:
        if self._away:
            self._lab.network.use_first_path()
            self._away = False

    def _rekey_child(self) -> None:
        self._lab.gateway.rekey(child="net")

    def _rekey_ike(self) -> None:
        self._lab.gateway.rekey(ike="rw")


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="scripts/transfers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("number", type=int, nargs="?", default=1000, help="how many transfers (1000)")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="for the same ones again")
    given = parser.parse_args()
    if reasons := obstacles():
        print(f"no lab here: {', '.join(reasons)}", file=sys.stderr)
        return 2
    certificates = clean_start(PREFIX)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, certificates, ignore_errors=True)
        lab = stack.enter_context(Lab(Topology(impaired=True), pki=Pki(certificates), prefix=PREFIX))
        transfers = Transfers(lab, given.seed, lambda line: print(line, flush=True))
        wrong = transfers.run(given.number)
    took = time.monotonic() - begun
    verdict = f"{len(wrong)} WRONG" if wrong else "every byte arrived once"
    print(f"seed {given.seed}: {given.number} transfers in {took:.0f} s, {dict(transfers.upheavals)}: {verdict}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
