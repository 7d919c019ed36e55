import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import ParseError
from ikeclient.wire.cursor import Reader, Writer


def test_integers_are_big_endian() -> None:
    reader = Reader(bytes.fromhex("01 0203 04050607 08"))
    assert (reader.u8(), reader.u16(), reader.u32()) == (1, 0x0203, 0x04050607)
    assert reader.rest() == b"\x08"
    assert reader.remaining == 0


@pytest.mark.parametrize("size", range(4))
def test_reading_past_the_end_is_refused_and_takes_nothing(size: int) -> None:
    for read, width in ((Reader.u8, 1), (Reader.u16, 2), (Reader.u32, 4)):
        reader = Reader(bytes(size))
        if size < width:
            with pytest.raises(ParseError, match="truncated"):
                read(reader)
            assert reader.remaining == size
        else:
            read(reader)
            assert reader.remaining == size - width


def test_a_negative_count_is_refused() -> None:
    reader = Reader(b"abcdef")
    reader.read(3)
    for count in (-1, -3):
        with pytest.raises(ParseError):
            reader.read(count)
        with pytest.raises(ParseError), reader.restrict(count):
            pytest.fail("the block must not run")


def test_a_restriction_ends_reads_at_its_end_and_demands_all_of_it() -> None:
    reader = Reader(b"abcdef")
    with reader.restrict(2):
        assert reader.rest() == b"ab"
    with pytest.raises(ParseError, match="truncated"), reader.restrict(2):
        reader.read(3)
    reader = Reader(b"abcdef")
    with pytest.raises(ParseError, match="1 bytes too many"), reader.restrict(2):
        reader.u8()


def test_restrictions_nest_and_give_the_outer_one_back() -> None:
    reader = Reader(b"abcdef")
    with reader.restrict(4):
        with reader.restrict(1):
            assert reader.rest() == b"a"
        assert reader.remaining == 3
        with pytest.raises(ParseError), reader.restrict(4):
            pytest.fail("an inner length may not reach past the outer one")
        assert reader.rest() == b"bcd"
    assert reader.rest() == b"ef"


def test_bytes_left_over_are_refused() -> None:
    reader = Reader(b"ab")
    reader.u8()
    with pytest.raises(ParseError, match="1 bytes too many"):
        reader.finish()


def test_a_length_prefix_counts_the_block_and_what_it_is_told() -> None:
    writer = Writer()
    writer.u8(7)
    with writer.length_prefix(extra=4):
        writer.write(b"abc")
    assert writer.bytes() == b"\x07\x00\x07abc"
    assert len(writer) == 6


@pytest.mark.parametrize(
    ("write", "value"), [(Writer.u8, 256), (Writer.u16, 65536), (Writer.u32, 2**32), (Writer.u8, -1)]
)
def test_a_number_that_does_not_fit_is_a_bug_and_never_wraps(write: object, value: int) -> None:
    with pytest.raises(OverflowError):
        write(Writer(), value)  # type: ignore[operator]


def test_a_block_longer_than_its_length_field_never_wraps() -> None:
    writer = Writer()
    with pytest.raises(OverflowError), writer.length_prefix(extra=4):
        writer.write(bytes(65532))


@given(
    st.lists(st.one_of(st.tuples(st.just(1), st.integers(0, 255)), st.tuples(st.just(4), st.integers(0, 2**32 - 1))))
)
def test_what_a_writer_wrote_a_reader_reads(numbers: list[tuple[int, int]]) -> None:
    writer = Writer()
    for width, value in numbers:
        (writer.u8 if width == 1 else writer.u32)(value)
    reader = Reader(writer.bytes())
    assert [(w, reader.u8() if w == 1 else reader.u32()) for w, _ in numbers] == numbers
    reader.finish()
