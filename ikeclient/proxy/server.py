"""The proxy itself: accepts, bounds how many it serves and how many of them for one user, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket

from ikeclient.errors import ParseError
from ikeclient.proxy.association import Pool
from ikeclient.proxy.conversation import Conversation, Gone
from ikeclient.proxy.network import Network
from ikeclient.proxy.peers import Peer
from ikeclient.proxy.relay import reset_on_close
from ikeclient.proxy.sessions import Means, forward_session, http_session, socks_session
from ikeclient.proxy.settings import Kind, Listener, Settings
from ikeclient.proxy.shares import FEWEST, Shares
from ikeclient.proxy.sockets import tune

_BACKLOG = 4096  # as many as a kernel takes by default: a SYN that finds no place costs its sender a second
_ACCEPTED_AT_ONCE = 64
_PAUSE = 0.2  # seconds without accepting where the system is out of descriptors or memory
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TOLD_EVERY = 10.0  # seconds between two lines about too many connections

_log = logging.getLogger(__name__)


class _Session:
    """One connection: whose it is, whether it counts as served, and since when it has not made its request."""

    __slots__ = ("accepted", "connection", "counted", "listener", "peer", "task")

    def __init__(self, listener: Listener, connection: socket.socket, peer: Peer, *, counted: bool, now: float) -> None:
        self.listener = listener
        self.connection = connection
        self.peer = peer
        self.counted = counted
        self.accepted = now
        self.task: asyncio.Task[None] | None = None


class Server:
    """Serves bound sockets in the running loop, from `start` to `stop`.

    Where there is no room for one more, the connection that is waiting longest for its request gives way: that of the
    user who already has their share, else that of a user who has more than the newcomer.
    """

    def __init__(self, settings: Settings, network: Network) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = settings.listeners
        self._limits = settings.limits
        self._means = Means(
            limits=settings.limits,
            network=network,
            pool=Pool(settings.datagram_sockets),
            credentials=settings.credentials,
        )
        self._peers = settings.peers
        self._shares: Shares[Peer] = Shares(settings.limits.connections)
        self._sessions: set[_Session] = set()
        self._waiting: dict[_Session, None] = {}  # without a request so far, the oldest first
        self._told = -_TOLD_EVERY
        self._stopped = False

    def start(self) -> None:
        """Answer from now on; until here, connections are refused. Raises OSError."""
        for listener in self._listeners:
            listener.socket.setblocking(False)
            listener.socket.listen(_BACKLOG)
            self._loop.add_reader(listener.socket, self._accept, listener)

    async def stop(self) -> None:
        """Cut off everybody."""
        self._stopped = True
        for listener in self._listeners:
            self._loop.remove_reader(listener.socket)
            listener.socket.close()
        tasks = [session.task for session in self._sessions if session.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._means.network.close()

    def _accept(self, listener: Listener) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._rest(listener, error)
                    return
                continue  # that client is gone already
            self._begin(listener, connection)

    def _begin(self, listener: Listener, connection: socket.socket) -> None:
        peer = self._peers.of(connection)
        counted = self._shares.may_take(peer) or self._make_room(peer)
        refusing = len(self._sessions) - self._shares.taken
        if not counted:
            full = self._shares.taken >= self._shares.places
            self._tell_full(None if full else f"one client has {self._shares.held(peer)} of them already")
            if refusing >= self._limits.refusing:
                reset_on_close(connection)
                connection.close()
                return
        session = _Session(listener, connection, peer, counted=counted, now=self._loop.time())
        if counted:
            self._shares.take(peer)
            self._waiting[session] = None
        self._sessions.add(session)
        session.task = self._loop.create_task(self._serve(session))
        session.task.add_done_callback(lambda _: self._end(session))

    def _end(self, session: _Session) -> None:
        self._sessions.discard(session)
        session.connection.close()  # also of a task that was cancelled before it began
        self._free(session)

    def _free(self, session: _Session) -> None:
        self._waiting.pop(session, None)
        if session.counted:
            session.counted = False
            self._shares.give_back(session.peer)

    def _make_room(self, peer: Peer) -> bool:
        """Cut off a connection without a request for one of `peer`; whether there was one."""
        if self._shares.places < FEWEST:
            return False
        full = self._shares.taken >= self._shares.places
        latest = self._loop.time() - self._limits.idle
        for session in self._waiting:
            if session.accepted > latest:
                break
            if session.connection.fileno() < 0:  # over, and about to be forgotten
                continue
            more = self._shares.held(session.peer) > self._shares.held(peer)
            if session.peer == peer or (full and more):
                reset_on_close(session.connection)
                assert session.task is not None
                session.task.cancel()  # which closes it, once the loop watches it no more
                self._free(session)
                return True
        return False

    def _rest(self, listener: Listener, error: OSError) -> None:
        """Without a pause the loop would spin: the listener stays readable."""
        self._tell_full(error.strerror)
        self._loop.remove_reader(listener.socket)

        def resume() -> None:
            if not self._stopped:
                self._loop.add_reader(listener.socket, self._accept, listener)

        self._loop.call_later(_PAUSE, resume)

    def _tell_full(self, reason: str | None = None) -> None:
        if self._loop.time() - self._told >= _TOLD_EVERY:
            self._told = self._loop.time()
            _log.warning("connections are refused: %s", reason or f"there are {self._limits.connections} already")

    async def _serve(self, session: _Session) -> None:
        full = not session.counted
        listener = session.listener
        with contextlib.closing(session.connection):
            try:
                tune(session.connection)
                client = Conversation(session.connection, session.peer, lambda: self._waiting.pop(session, None))
                match listener.kind:
                    case Kind.SOCKS:
                        await socks_session(client, self._means, full=full)
                    case Kind.HTTP:
                        await http_session(client, self._means, full=full)
                    case Kind.FORWARD:
                        assert listener.destination is not None
                        await forward_session(client, self._means, listener.destination, full=full)
            except (OSError, ParseError, Gone):  # TimeoutError too: whoever broke off or spoke nonsense is cut off
                return
            except Exception as error:
                # A bug costs its connection only. Its message may quote what a client sent, so only its kind is told.
                _log.error("unexpected %s in a connection", type(error).__name__)
