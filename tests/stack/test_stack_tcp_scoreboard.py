"""The scoreboard and the reassembly queue against models that keep a note of every byte."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ikeclient.stack.tcp.reassembly import Reassembly
from ikeclient.stack.tcp.scoreboard import MOST_RECORDS, Scoreboard
from ikeclient.stack.tcp.send_buffer import SendBuffer

BASE, SIZE = 1000, 10  # of the first byte, and of a segment


@dataclass
class Model:
    """One letter a byte: f(lying), s(acked), l(ost)."""

    una: int = BASE
    letters: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.una + len(self.letters)

    def mark(self, start: int, end: int, letter: str, unless: str = "") -> None:
        for at in range(start, end):
            if self.letters[at - self.una] not in unless:
                self.letters[at - self.una] = letter


def read(board: Scoreboard) -> str:
    return "".join(
        ("s" if record.sacked else "l" if record.lost else "f") * (record.end - record.start)
        for record in board.records
    )


def segments(most: int = 12) -> st.SearchStrategy[int]:
    return st.integers(1, most)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("send", "sack", "ack", "lose", "again", "probe", "all", "forget")),
        st.integers(0, 40),
        segments(),
    ),
    max_size=40,
)


@given(STEPS)
def test_the_scoreboard_agrees_with_a_model(steps: list[tuple[str, int, int]]) -> None:
    board, model = Scoreboard(), Model()
    for number, (step, place, count) in enumerate(steps):
        now = float(number)
        first = model.una + (place * SIZE if model.letters else 0)
        last = min(first + count * SIZE, model.end)
        if step == "send":
            length = count * SIZE - (3 if place % 5 == 0 else 0)  # the last segment may be short
            if (model.end - BASE) % SIZE:
                continue  # in the model all begin at multiples
            board.add(model.end, model.end + length, now, SIZE)
            model.letters += "f" * length
        elif step == "sack" and first < last:
            for record in board.select(first, last):
                assert record.sacked
            model.mark(first, last, "s")
        elif step == "ack":
            position = min(model.una + place * SIZE, model.end)
            board.acknowledge(position)
            del model.letters[: position - model.una]
            model.una = position
        elif step == "lose" and board.records:
            record = board.records[place % len(board.records)]
            if not record.sacked and not record.lost:
                model.mark(record.start, record.end, "l")
                board.lose(record)
        elif step == "again":
            found = board.first_lost(count * SIZE)
            assert (found is None) == ("l" not in model.letters)
            if found is not None:
                start, end = found
                assert start == model.una + model.letters.index("l")
                assert end - start <= count * SIZE
                assert set(model.letters[start - model.una : end - model.una]) == {"l"}
                board.sent_again(start, end, now, SIZE)
                model.mark(start, end, "f")
        elif step == "probe":
            found = board.last(SIZE)
            assert (found is None) == (not set(model.letters) - {"s"})
            if found is not None:
                start, end = found
                assert 0 < end - start <= SIZE
                board.sent_again(start, end, now, SIZE)
                model.mark(start, end, "f")
        elif step == "all":
            board.lose_all()
            model.mark(model.una, model.end, "l", unless="s")
        elif step == "forget":
            board.forget_selection()
            model.letters = ["f" if letter == "s" else letter for letter in model.letters]
        letters = "".join(model.letters)
        assert read(board) == letters
        counts = (letters.count("f"), letters.count("s"), letters.count("l"))
        assert (board.in_flight, board.sacked, board.lost) == counts
        for before, record in zip(board.records, board.records[1:], strict=False):
            assert before.end == record.start
            assert not (before.sacked and record.sacked)


def test_a_peer_that_acknowledges_single_bytes_makes_no_records() -> None:
    board = Scoreboard()
    board.add(0, 60_000, 0.0, 1000)
    for at in range(1, 60_000, 7):
        assert not board.select(at, at + 3)
    assert len(board.records) == 1


def test_a_peer_that_acknowledges_every_second_segment_makes_a_bounded_number_of_records() -> None:
    board = Scoreboard()
    for at in range(0, 4_000_000, 50_000):
        board.add(at, at + 50_000, 0.0, 100)
    for at in range(0, 4_000_000, 200):
        board.select(at, at + 100)
    assert len(board.records) <= MOST_RECORDS + 2
    assert board.in_flight + board.sacked == 4_000_000
    board.select(0, 4_000_000)
    assert len(board.records) == 1


PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25)), max_size=25)
STREAM = bytes(range(256))


@given(PIECES, st.integers(0, 90))
def test_the_reassembly_agrees_with_a_model(pieces: list[tuple[int, int]], position: int) -> None:
    queue, have = Reassembly(), set[int]()
    for start, length in pieces:
        end = start + length
        wanted = sorted(have & set(range(start, end)))
        duplicate = queue.insert(start, memoryview(STREAM)[start:end], 1 << 20)
        assert (duplicate is None) == (not wanted)
        if duplicate is not None:
            assert duplicate[0] == wanted[0]
            assert set(range(*duplicate)) <= have
        have |= set(range(start, end))
        first = queue.blocks(1)[0]
        assert first[0] <= start
        assert end <= first[1]
        blocks = queue.blocks(100)
        assert {at for block in blocks for at in range(*block)} == have
        assert all(low - 1 not in have and high not in have for low, high in blocks)
    expected = position
    while expected in have:
        expected += 1
    taken = b"".join(queue.take(position))
    assert taken == STREAM[position:expected]
    left = {at for block in queue.blocks(100) for at in range(*block)}
    assert left == {at for at in have if at > expected}
    assert queue.cost >= len(left)
    if not left:
        assert queue.cost == 0


def test_tiny_pieces_cannot_take_much_memory() -> None:
    queue = Reassembly()
    for at in range(0, 1_000_000, 2):
        queue.insert(at, memoryview(b"x"), 100_000)
    assert queue.cost <= 100_000
    assert len(queue.blocks(1 << 20)) < 400


def test_every_island_is_told_of_before_one_is_told_of_again() -> None:
    queue = Reassembly()
    for at in range(0, 100, 10):
        queue.insert(at, memoryview(b"x"), 1 << 20)
    told = [block for _ in range(4) for block in queue.blocks(3)]
    assert set(told) == {(at, at + 1) for at in range(0, 100, 10)}
    assert told[0] == (90, 91)


@given(st.lists(st.tuples(st.integers(1, 9000), st.booleans()), max_size=12), st.data())
def test_the_send_buffer_gives_what_was_put_in(writes: list[tuple[int, bool]], data: st.DataObject) -> None:
    buffer, whole = SendBuffer(BASE), bytearray()
    for size, mutable in writes:
        text = bytes((len(whole) + at) % 251 for at in range(size))
        buffer.append(bytearray(text) if mutable else text)
        whole += text
    start = 0
    for _ in range(4):
        start = data.draw(st.integers(start, len(whole)))
        buffer.release(BASE + start)
        first = data.draw(st.integers(start, len(whole)))
        length = data.draw(st.integers(0, len(whole) - first))
        target = bytearray(length + 5)
        if length:
            buffer.copy(memoryview(target), 5, BASE + first, length)
        assert target[5:] == whole[first : first + length]
    assert buffer.end == BASE + len(whole)
