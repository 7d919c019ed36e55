"""A cable with faults: loss, delay, reordering, duplication and a size limit.

Not every kernel has the netem queueing discipline, so frames between the two ends pass through this program, which
copies them from one packet socket to the other. Faults are drawn from a seeded generator: the same seed and traffic
give the same faults. Address resolution is never disturbed, because its timers would dominate every measurement.

Run as a program it is the relay itself (`relay.py relay IF IF`, one JSON object of settings per line on its
standard input) or switches the checksum and segmentation offloads of an interface off (`relay.py plain IF`):
without that, frames would cross the relay unfinished.
"""

from __future__ import annotations

import heapq
import itertools
import json
import random
import select
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from lab.machines import Machine

SETTINGS: dict[str, float] = {
    "loss": 0.0,
    "delay": 0.0,
    "jitter": 0.0,
    "reorder": 0.0,
    "duplicate": 0.0,
    "limit": 0,
    "drop_next": 0,
}
DIRECTIONS = ("up", "down")  # up: from the client to the gateway

Pending: TypeAlias = "list[tuple[float, int, int, bytes]]"  # when, order, to which side, frame


class Relay:
    """The controls of a running relay between the interfaces `gateway` and `client` of the machine in the middle."""

    def __init__(self, machine: Machine, *, ends: tuple[tuple[Machine, str], ...]) -> None:
        for end, interface in ends:
            end.run(sys.executable, __file__, "plain", interface)
        self._process = machine.start(
            sys.executable, __file__, "relay", "gateway", "client", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._command({})

    def impair(
        self,
        *,
        direction: str | None = None,
        loss: float = 0.0,
        delay: float = 0.0,
        jitter: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        limit: int = 0,
        drop_next: int = 0,
        seed: int = 1,
    ) -> None:
        """Set the faults of one direction ("up" to the gateway, "down" to the client) or both, replacing earlier ones.

        `loss`, `reorder` and `duplicate` are probabilities; `delay` and `jitter` (uniform, plus or minus) seconds.
        A reordered frame is held back 20 ms longer than its delay. `limit` silently drops IP packets larger than that
        (0: none), `drop_next` the next frames in number. Without arguments the cable is perfect again.
        """
        faults = {"loss": loss, "delay": delay, "jitter": jitter, "reorder": reorder, "duplicate": duplicate}
        settings = {**faults, "limit": limit, "drop_next": drop_next, "seed": seed}
        self._command(dict.fromkeys(DIRECTIONS if direction is None else (direction,), settings))

    def _command(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != b"ok\n":
            raise RuntimeError("the relay died")


class _Direction:
    """The faults of one direction."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._settings = dict(SETTINGS)

    def configure(self, settings: dict[str, Any]) -> None:
        self._random = random.Random(settings.pop("seed", 1))
        self._settings = {**SETTINGS, **settings}

    def delays(self, frame: bytes) -> list[float]:
        """One delay for every copy of the frame that shall arrive."""
        faults = self._settings
        if _is_resolution(frame):
            return [0.0]
        if faults["drop_next"] > 0:
            faults["drop_next"] -= 1
            return []
        draws = [self._random.random() for _ in range(4)]
        if draws[0] < faults["loss"] or (faults["limit"] and len(frame) - 14 > faults["limit"]):
            return []
        delay = max(0.0, faults["delay"] + faults["jitter"] * (2 * draws[1] - 1))
        if draws[2] < faults["reorder"]:
            delay += 0.02
        return [delay, delay] if draws[3] < faults["duplicate"] else [delay]


def _is_resolution(frame: bytes) -> bool:
    kind = frame[12:14]
    neighbour = kind == b"\x86\xdd" and frame[20:21] == b"\x3a" and 133 <= frame[54] <= 137
    return kind == b"\x08\x06" or neighbour


def _relay(interfaces: list[str]) -> None:
    sides = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in interfaces]
    for side, interface in zip(sides, interfaces, strict=True):
        side.bind((interface, 0x0003))
        side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        side.setblocking(False)
    directions = {"down": _Direction(), "up": _Direction()}
    by_source = [directions["down"], directions["up"]]  # what enters on the gateway's side goes down
    pending: Pending = []
    order = itertools.count()
    while True:
        timeout = max(0.0, pending[0][0] - time.monotonic()) if pending else None
        ready, _, _ = select.select([sys.stdin, *sides], [], [], timeout)
        if sys.stdin in ready and not _obey(directions):
            return
        for source, side in enumerate(sides):
            if side in ready:
                for frame in _drain(side):
                    for delay in by_source[source].delays(frame):
                        heapq.heappush(pending, (time.monotonic() + delay, next(order), 1 - source, frame))
        now = time.monotonic()
        while pending and pending[0][0] <= now:
            _, _, destination, frame = heapq.heappop(pending)
            try:
                sides[destination].send(frame)
            except OSError:  # a full queue, or a cable that has been pulled: the frame is lost
                continue


def _obey(directions: dict[str, _Direction]) -> bool:
    line = sys.stdin.readline()
    if not line:
        return False
    for name, settings in json.loads(line).items():
        directions[name].configure(settings)
    print("ok", flush=True)
    return True


def _drain(side: socket.socket) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < 64:
        try:
            frame, address = side.recvfrom(65536)
        except OSError:
            break
        if address[2] != 4:  # PACKET_OUTGOING: our own
            frames.append(frame)
    return frames


def _plain(interface: str) -> None:
    """Switch the offloads of transmission off (ioctl SIOCETHTOOL: checksums, segmentation of TCP and in general)."""
    import array
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (0x17, 0x1F, 0x24):
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(control.fileno(), 0x8946, request)


if __name__ == "__main__":
    if sys.argv[1] == "relay":
        _relay(sys.argv[2:])
    else:
        _plain(sys.argv[2])
