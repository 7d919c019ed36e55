"""The process that has signatures made and SIM cards asked for a tunnel, with the rights that the tunnel gives up.

It is forked before the tunnel has any keys and loads no foreign code: each key has a `worker`, which is made when it is
needed and again when it is lost. A worker that was there before and fails gets one successor at once, since a token may
have been pulled out and put back meanwhile. A PIN that was refused is not tried again, whatever is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.crypto.sign.remote_key import Signature, SignatureRequest
from ikeclient.errors import KeyUnavailable
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import await_end, daemonise, fork
from ikeclient.ipc.messages import pack, receive, stream
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
    unpack_reference,
)
from ikeclient.signer.worker import Worker, WorkerGone, result

_PR_SET_NAME = 15  # prctl(2)
_GOODBYE = 5.0  # seconds for it to end
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Keeper:
    """The process's side: the keys in use, and the PINs that were refused. `tunnel` is the socket to the tunnel."""

    def __init__(self, tunnel: socket.socket | None = None) -> None:
        self._tunnel = tunnel
        self._workers: dict[bytes, Worker] = {}
        self._refused: dict[bytes, Failure] = {}

    def use(self, request: Use) -> Used | Refused:
        """Have it signed, or the card asked."""
        reference = request.reference
        if (failure := self._refused.get(reference)) is not None:
            return Refused(number=request.number, failure=failure, pin=True)
        was_open = reference in self._workers
        answer = self._ask(request)
        if was_open and isinstance(answer, Refused) and not answer.pin:
            answer = self._ask(request)
        if isinstance(answer, Refused) and answer.pin:
            self._refused[reference] = answer.failure
        return answer

    def _ask(self, request: Use) -> Used | Refused:
        try:
            answer = self._worker(request.reference).ask(request)
        except (WorkerGone, OSError, ValueError) as error:
            reason = str(error) if isinstance(error, WorkerGone) else type(error).__name__
            what = "our key did not sign" if isinstance(request, Sign) else "the card did not answer"
            failure = Failure.of(KeyUnavailable(what, reason=reason))
            answer = Refused(number=request.number, failure=failure)
        if isinstance(answer, Signed | CardSaid):
            return answer
        self._close(request.reference)  # what is known of the token may not be true any more
        return answer if isinstance(answer, Refused) else _wrong(request.number)

    def _worker(self, reference: bytes) -> Worker:
        if reference not in self._workers:
            self._workers[reference] = Worker(unpack_reference(reference).user, self._tunnel)
        return self._workers[reference]

    def _close(self, reference: bytes) -> None:
        if (worker := self._workers.pop(reference, None)) is not None:
            worker.close()

    def close(self) -> None:
        """End every worker."""
        for reference in list(self._workers):
            self._close(reference)


class SignerClient:
    """The tunnel's side of it, in its event loop."""

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
def signer(wanted: bool) -> Iterator[SignerClient | None]:
    """Fork the process for the block, if it is wanted. Call it while there is one thread, with the rights it keeps.

    It ends with the block, or when this process ends, and its workers with it.
    """
    if not wanted:
        yield None
        return
    ours, theirs = socket.socketpair()
    pid = fork(lambda: _life(theirs))
    theirs.close()
    client = SignerClient(ours)
    try:
        yield client
    finally:
        client.close()
        ours.close()
        await_end(pid, _GOODBYE)


def _life(connection: socket.socket) -> int:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # what ends the tunnel closes our socket
    (moved,) = daemonise([connection.detach()])
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ikeclient-keys", 0, 0, 0)
    tunnel = socket.socket(fileno=moved)
    keeper = Keeper(tunnel)
    try:
        with contextlib.suppress(OSError, ValueError):
            while (message := receive(tunnel.recv)) is not None:
                request: Use = CODEC.decode(Use, message)  # type: ignore[arg-type]  # a union
                tunnel.sendall(pack(CODEC.encode(keeper.use(request))))
    finally:
        keeper.close()
    return 0


def _wrong(number: int) -> Refused:
    return Refused(number=number, failure=Failure.of(KeyUnavailable("our key or card gave no answer")))


def _gone(place: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"{place} cannot be asked",
        reason="the process that signs is gone",
        hint="disconnect and connect again",
    )
