"""The process that holds one key: it loads a token's module, or asks an agent or a card, and does nothing else.

A module is foreign code that may crash, hang or look around. So it gets a process of its own, with the rights of whose
profile it is, without any descriptor of ours, and which dies with its parent. Before a tunnel has any keys such a
process finds the key; later ones, forked by the `keeper`, sign.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ikeclient.errors import IkeclientError, KeyUnavailable, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import daemonise, fork
from ikeclient.ipc.messages import pack, receive
from ikeclient.signer.agent import AgentSigner
from ikeclient.signer.messages import (
    CODEC,
    AgentKey,
    Answer,
    AskCard,
    CardReader,
    CardSaid,
    Look,
    Open,
    Opened,
    PinRefused,
    Reference,
    Refused,
    Request,
    Sign,
    Signed,
    TokenKey,
    User,
    unpack_reference,
)
from ikeclient.signer.reader import ReaderCard
from ikeclient.signer.token import TokenSigner

TIMEOUT = 60.0  # seconds for an answer; a person may have to touch the token
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15  # prctl(2)
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL")  # for another user; what else there is leads to root's places
_PIPE_CLOSED = select.POLLHUP | select.POLLERR | select.POLLNVAL


class WorkerGone(Exception):
    """The process ended, does not answer in time, or is not waited for any more; the text says which."""


class Worker:
    """A forked process with one key. `tunnel` is a socket whose end, by the other side, ends the waiting."""

    def __init__(self, user: User | None, tunnel: socket.socket | None = None) -> None:
        self._ours, theirs = socket.socketpair()
        self._tunnel = tunnel
        self._pid = 0
        parent = os.getpid()
        # The child must not run our handlers, which may write into descriptors that we share.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = fork(lambda: _life(theirs, user, parent))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def ask(self, request: Request, timeout: float = TIMEOUT) -> Answer:
        """Return the answer, which may be `Refused`. Raises WorkerGone."""
        deadline = time.monotonic() + timeout
        try:
            self._ours.settimeout(timeout)
            self._ours.sendall(pack(CODEC.encode(request)))
            message = receive(lambda size: self._receive(size, deadline))
            if message is None:
                raise WorkerGone("the process with the token's module ended unexpectedly")
            return CODEC.decode(Answer, message)  # type: ignore[arg-type]  # a union
        except (OSError, ValueError):
            raise WorkerGone("the process with the token's module does not answer any more") from None

    def _receive(self, size: int, deadline: float) -> bytes:
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        if self._tunnel is not None:
            poll.register(self._tunnel, select.POLLRDHUP)
        ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
        if self._tunnel is not None and ready.get(self._tunnel.fileno(), 0) & (select.POLLRDHUP | _PIPE_CLOSED):
            raise WorkerGone("the tunnel has ended")
        if self._ours.fileno() not in ready:
            raise WorkerGone("it did not answer in time: it may wait for a touch, or for a PIN on its own keys")
        return self._ours.recv(size)

    def close(self) -> None:
        """End the process."""
        self._ours.close()
        if self._pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._pid = 0


@contextmanager
def worker(user: User | None) -> Iterator[Worker]:
    """Fork a process for the block."""
    found = Worker(user)
    try:
        yield found
    finally:
        found.close()


def _life(connection: socket.socket, user: User | None, parent: int) -> int:
    """Do what the process does; returns its exit code."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    (moved,) = daemonise([connection.detach()])
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_NAME, b"ikeclient-sign", 0, 0, 0)
    if user is not None:
        _become(user)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    library.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        return 1
    _serve(socket.socket(fileno=moved))
    return 0


def _become(user: User) -> None:
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, HOME=user.home, USER=user.name, LOGNAME=user.name)


def _serve(connection: socket.socket) -> None:
    key = _Key()
    while (message := receive(connection.recv)) is not None:
        request: Request = CODEC.decode(Request, message)  # type: ignore[arg-type]  # a union
        number = request.number if isinstance(request, Sign | AskCard) else 0
        try:
            answer = key.answer(request)
        except IkeclientError as error:
            answer = Refused(number=number, failure=Failure.of(error), pin=isinstance(error, PinRefused))
        except Exception as error:  # its message may quote what was read
            wrong = KeyUnavailable("the key cannot be used", reason=f"unexpected {type(error).__name__}")
            answer = Refused(number=number, failure=Failure.of(wrong))
        connection.sendall(pack(CODEC.encode(answer)))


class _Key:
    """The one key of the process."""

    def __init__(self) -> None:
        self._signer: TokenSigner | AgentSigner | None = None
        self._card: ReaderCard | None = None

    def answer(self, request: Request) -> Answer:
        """Do what is asked for."""
        match request:
            case Look(reference=reference):
                found = unpack_reference(reference)
                return ReaderCard(found).look() if isinstance(found, CardReader) else self._token(found).look()
            case Open(reference=reference, public_key=public_key):
                return self._open(unpack_reference(reference), public_key)
            case Sign():
                if self._signer is None:
                    self._open(unpack_reference(request.reference), request.public_key)
                assert self._signer is not None
                scheme, signature = self._signer.sign(request.octets, request.schemes)
                return Signed(number=request.number, scheme=scheme, signature=signature)
            case AskCard(number=number, reference=reference, question=question):
                card = self._card = self._card or self._reader(unpack_reference(reference))
                return CardSaid(number=number, text=card.answer(question))

    def _reader(self, reference: Reference) -> ReaderCard:
        if not isinstance(reference, CardReader):
            raise ProfileError("there is no card")
        return ReaderCard(reference)

    def _token(self, reference: Reference) -> TokenSigner:
        if not isinstance(reference, TokenKey):
            raise ProfileError("that key is not on a token")
        return TokenSigner(reference)

    def _open(self, reference: Reference, public_key: bytes | None) -> Opened:
        if isinstance(reference, AgentKey):
            agent = self._signer = AgentSigner(reference)
            return Opened(place=agent.place, public_key=agent.public_key.spki, families=agent.families)
        token = self._token(reference)
        opened = token.open(public_key)
        self._signer = token
        return opened
