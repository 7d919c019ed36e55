"""The tunnel's side of the process that signs and asks SIM cards: how it is forked, and asked. See `start`."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.crypto.sign.remote_key import Signature, SignatureRequest
from ikeclient.errors import KeyUnavailable
from ikeclient.ipc.fork import await_end, fork
from ikeclient.ipc.messages import pack, stream
from ikeclient.signer.messages import (
    CODEC,
    Answer,
    AskCard,
    CardSaid,
    Opened,
    Refused,
    Seen,
    Sign,
    Signed,
    Use,
    Used,
    result,
)

_GOODBYE = 5.0  # seconds for it to end


class SignerClient:
    """Asks the process, in the tunnel's event loop."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._numbers = itertools.count(1)
        self._lock: asyncio.Lock | None = None

    async def sign(self, request: SignatureRequest) -> Signature:
        """Have it signed. Raises KeyUnavailable."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            key = request.key
            answer = await self._ask(
                key.place,
                Sign(
                    number=next(self._numbers),
                    reference=key.reference,
                    octets=request.octets,
                    schemes=request.schemes,
                    public_key=key.public_key.spki,
                ),
            )
        if not isinstance(answer, Signed):
            raise _gone(key.place)
        return Signature(scheme=answer.scheme, data=answer.signature)

    async def ask_card(self, reference: bytes, question: str) -> str:
        """Have the SIM card of a `CardReader` answer a challenge. Raises KeyUnavailable."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            message = AskCard(number=next(self._numbers), reference=reference, question=question)
            answer = await self._ask("the SIM card", message)
        if not isinstance(answer, CardSaid):
            raise _gone("the SIM card")
        return answer.text

    async def _ask(self, place: str, message: Use) -> Used | Seen | Opened:
        try:
            return result(await self._exchange(place, message))
        except (OSError, ValueError):
            raise _gone(place) from None

    async def _exchange(self, place: str, message: Use) -> Answer:
        self._streams = self._streams or await asyncio.open_connection(sock=self._socket)
        reader, writer = self._streams
        writer.write(pack(CODEC.encode(message)))
        async for found in stream(reader):
            answer: Used | Refused = CODEC.decode(Used | Refused, found)  # type: ignore[arg-type]  # a union
            if answer.number == message.number:  # else it answers a request that was given up
                return answer
        raise _gone(place)

    def close(self) -> None:
        """Close what the running event loop has of it."""
        if self._streams is not None:
            self._streams[1].close()
        self._socket.close()


@contextmanager
def forked() -> Iterator[SignerClient]:
    """Fork the process for the block; see `start.signer`."""
    ours, theirs = socket.socketpair()

    def life() -> int:
        from ikeclient.signer.keeper import live  # which no tunnel needs itself

        return live(theirs)

    pid = fork(life)
    theirs.close()
    client = SignerClient(ours)
    try:
        yield client
    finally:
        client.close()
        ours.close()
        await_end(pid, _GOODBYE)


def _gone(place: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"{place} cannot be asked",
        reason="the process that signs is gone",
        hint="disconnect and connect again",
    )
