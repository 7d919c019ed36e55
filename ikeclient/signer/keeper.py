"""The process that has signatures made and SIM cards asked for a tunnel, with the rights that the tunnel gives up.

The `client` forks it before the tunnel has any keys, and it loads no foreign code: each key has a `worker`, which is
made when it is needed and again when it is lost. A worker that was there before and fails gets one successor at once,
since a token may have been pulled out and put back meanwhile. A PIN that was refused is not tried again, whatever is
asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket

from ikeclient.errors import KeyUnavailable
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import daemonise
from ikeclient.ipc.messages import pack, receive
from ikeclient.signer.messages import (
    CODEC,
    CardSaid,
    Refused,
    Sign,
    Signed,
    Use,
    Used,
    unpack_reference,
)
from ikeclient.signer.worker import Worker, WorkerGone

_PR_SET_NAME = 15  # prctl(2)
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


def live(connection: socket.socket) -> int:
    """Do everything that the process does, for the tunnel at the other end; returns its exit code."""
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
