"""The proxy itself: accepts, bounds how many it serves, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket

from ikeclient.errors import ParseError
from ikeclient.proxy.association import Pool
from ikeclient.proxy.conversation import Conversation, Gone
from ikeclient.proxy.dial import tune
from ikeclient.proxy.lookup import Lookup
from ikeclient.proxy.relay import reset_on_close
from ikeclient.proxy.sessions import Means, forward_session, http_session, socks_session
from ikeclient.proxy.settings import Kind, Listener, Settings

_BACKLOG = 1024
_ACCEPTED_AT_ONCE = 64
_PAUSE = 0.2  # seconds without accepting where the system is out of descriptors or memory
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TOLD_EVERY = 10.0  # seconds between two lines about too many connections

_log = logging.getLogger(__name__)


class Server:
    """Serves bound sockets in the running loop, from `start` to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._listeners = settings.listeners
        self._limits = settings.limits
        self._means = Means(
            limits=settings.limits,
            lookup=Lookup(settings.limits),
            pool=Pool(settings.datagram_sockets),
            credentials=settings.credentials,
        )
        self._sessions: set[asyncio.Task[None]] = set()
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
        for session in self._sessions:
            session.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
        self._means.lookup.close()

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
            if len(self._sessions) >= self._limits.connections + self._limits.refusing:
                self._tell_full()
                reset_on_close(connection)
                connection.close()
                continue
            session = self._loop.create_task(self._serve(listener, connection))
            self._sessions.add(session)
            session.add_done_callback(self._sessions.discard)

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

    async def _serve(self, listener: Listener, connection: socket.socket) -> None:
        full = len(self._sessions) > self._limits.connections
        if full:
            self._tell_full()
        with contextlib.closing(connection):
            try:
                tune(connection)
                client = Conversation(connection)
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
