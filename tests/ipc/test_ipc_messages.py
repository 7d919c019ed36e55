"""The framing between our processes: whole messages or none, and never more than was agreed."""

from __future__ import annotations

import asyncio
import io

import pytest

from ikeclient.ipc.messages import HEADER, pack, receive, stream, unpack

ONE, TWO = {"is": "One", "text": "\udcff\x1b\u20ac"}, {"is": "Two"}


class Slow(io.BytesIO):
    """Gives one byte at a time, as a socket may."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(1, size or 0))


@pytest.mark.parametrize("kind", [io.BytesIO, Slow])
def test_messages_come_as_they_were_sent(kind: type[io.BytesIO]) -> None:
    source = kind(pack(ONE) + pack(TWO))
    assert [receive(source.read) for _ in range(3)] == [ONE, TWO, None]


@pytest.mark.parametrize("cut", range(1, len(pack(TWO))))
def test_half_a_message_is_an_error(cut: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON or of ours
        receive(io.BytesIO(pack(TWO)[:cut]).read)


def test_a_message_that_is_too_long_is_neither_sent_nor_read() -> None:
    size = len(pack(ONE)) - HEADER.size
    assert receive(io.BytesIO(pack(ONE, size)).read, size) == ONE
    with pytest.raises(ValueError, match="bytes"):
        pack(ONE, size - 1)
    source = io.BytesIO(pack(ONE))
    with pytest.raises(ValueError, match="bytes"):
        receive(source.read, size - 1)
    assert source.tell() == HEADER.size, "nothing of it was read"


@pytest.mark.parametrize("data", [b"", b"[]", b"nope", b"\xff", b"1", b"[" * 100_000])
def test_what_is_no_object_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON or of ours
        unpack(data)


@pytest.mark.parametrize("end", [b"", b"\x05", b"\x05\x00\x00\x00nope!", b"\xff\xff\xff\xff", pack(TWO)[:-1]])
def test_a_stream_ends_with_the_first_that_is_none(end: bytes) -> None:
    async def body() -> list[object]:
        reader = asyncio.StreamReader()
        reader.feed_data(pack(ONE) + pack(TWO) + end)
        reader.feed_eof()
        return [message async for message in stream(reader)]

    assert asyncio.run(body()) == [ONE, TWO]
