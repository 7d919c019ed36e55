from __future__ import annotations

from ikeclient.stack.interfaces import FRAME_HEADER
from ikeclient.stack.ready import Packets, Ready


class Source:
    """Has so many frames of one length."""

    queued = True

    def __init__(self, frames: int, length: int) -> None:
        self.frames, self.length, self.sent = frames, length, 0

    def fill(self, frame: memoryview, now: float) -> int:
        if not self.frames:
            return 0
        self.frames -= 1
        self.sent += self.length
        return self.length


def frame() -> memoryview:
    return memoryview(bytearray(65545))


def test_bytes_are_shared_fairly_whatever_the_length_of_frames() -> None:
    ready, sources = Ready(), [Source(10_000, length) for length in (60_000, 30_001, 1_400, 90)]
    for source in sources:
        ready.add(source)
    for _ in range(3000):
        assert ready.fill(frame(), 0.0)
    shares = [source.sent for source in sources]
    assert max(shares) - min(shares) <= 2 * 60_000


def test_one_that_has_nothing_leaves_and_can_come_again() -> None:
    ready, source = Ready(), Source(2, 100)
    touched: list[int] = []
    ready.listen(lambda: touched.append(1))
    ready.add(source)
    ready.add(source)
    assert touched == [1]
    assert [ready.fill(frame(), 0.0) for _ in range(3)] == [100, 100, 0]
    assert not ready
    source.frames = 1
    ready.add(source)
    assert ready.fill(frame(), 0.0) == 100
    assert touched == [1, 1]


def test_one_that_becomes_ready_while_it_says_that_it_has_nothing_is_asked_again() -> None:
    ready = Ready()

    class Odd:
        calls = 0
        queued = True

        def fill(self, frame: memoryview, now: float) -> int:
            self.calls += 1
            if self.calls == 1:
                ready.add(self)
                return 0
            return 7

    ready.add(Odd())
    assert ready.fill(frame(), 0.0) == 7


def test_one_that_leaves_with_its_last_frame_is_not_asked_again() -> None:
    """An acknowledgement alone costs one call, and the event loop one turn."""
    ready, source = Ready(), Source(2, 100)
    ready.add(source)
    source.queued = False
    assert ready.fill(frame(), 0.0) == 100
    assert not ready


def test_packets_of_the_host_are_bounded() -> None:
    """A flood of echo requests is not answered out of ever more memory."""
    ready = Ready()
    packets = Packets(ready.add)
    for _ in range(1000):
        packets.send(bytes(1400))
    left, buffer = 0, frame()
    while length := ready.fill(buffer, 0.0):
        assert length == FRAME_HEADER + 1400
        left += 1
    assert left <= 256 * 1024 // 1400
    assert packets.lost == 1000 - left
    assert packets.send(b"again")
