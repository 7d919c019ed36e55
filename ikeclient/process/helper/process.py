"""The tunnel's helper: a process forked before rights are given up, which keeps those that `connect` was started with.

It never speaks with the network. It does what `process.helper.channel` and `process.helper.serve` describe. It ends
when the tunnel does, whatever way that happens, and undoes nothing by itself then: after a crash that is for the next
start, as the journal says.

It is forked before the tunnel's modules are loaded, which it would otherwise hold in its memory as well, and before the
profile is read. So the first message says which tunnel it is for and which commands it may run, from a process that
has not yet heard anything from the network. What only few tunnels need is imported where it is used: the helper keeps
the right to read it.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import signal
import socket
from collections.abc import Sequence
from typing import Protocol, Self

from ikeclient.ipc.fork import await_end, daemonise, fork
from ikeclient.ipc.messages import pack, receive
from ikeclient.process.helper.channel import CODEC, Keeper, Read, Sockets
from ikeclient.process.helper.messages import Begin, Remembered

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PR_SET_NAME = 15  # prctl(2)
_GOODBYE = 5.0  # seconds for the helper to end


class Memory(Protocol):
    """What a profile is read with again; `process.profile_source` has it."""

    def remembered(self) -> Remembered:
        """What was typed, piped or taken from the environment until now."""

    def remember(self, remembered: Remembered) -> None:
        """Take over what the same object in another process remembers."""


class HelperProcess:
    """A helper that was forked, and waits for its first message; a context manager that ends with it.

    `read` reads the profile again, with what `memory` remembers by the time that the tunnel begins. Make it while there
    is one thread.
    """

    def __init__(self, read: Read | None = None, memory: Memory | None = None) -> None:
        pairs = [socket.socketpair() for _ in range(5)]
        self.sockets = [ours for ours, _ in pairs]
        self._memory = memory
        self._pid = fork(lambda: _live([theirs for _, theirs in pairs], read, memory))
        for _, theirs in pairs:
            theirs.close()

    def remembered(self) -> Remembered | None:
        """What the tunnel's process remembers of its profile's secrets now."""
        return None if self._memory is None else self._memory.remembered()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Let it end, and wait until it has."""
        for ours in self.sockets:
            ours.close()
        await_end(self._pid, _GOODBYE)


def _live(theirs: Sequence[socket.socket], read: Read | None, memory: Memory | None) -> int:
    """Do everything that the helper does; returns its exit code."""
    sockets = Sockets(*_isolate(theirs))
    message = receive(sockets.channel.recv)
    if message is None:  # there will be no tunnel
        return 0
    begin = CODEC.decode(Begin, message)
    if memory is not None and begin.remembered is not None:
        memory.remember(begin.remembered)

    def tell() -> None:
        with contextlib.suppress(OSError):  # full: the tunnel has not heard of the last time yet
            sockets.lifeline.send(b"!", socket.MSG_DONTWAIT)

    keeper = Keeper(begin.state, begin.owner, tell=tell)
    if _answer_alone(sockets, keeper):
        import asyncio

        from ikeclient.process.helper.serve import serve

        asyncio.run(serve(sockets, keeper, begin, read))
    return 0


def _answer_alone(sockets: Sockets, keeper: Keeper) -> bool:
    """Answer what changes the machine, one question after the other; returns whether something else is to be done.

    If not, the tunnel has ended.
    """
    others = [sockets.hooks, sockets.card, sockets.reading]
    while not keeper.has_to_watch:
        ready, _, _ = select.select([sockets.channel, *others], [], [])
        for other in ready:
            if other is not sockets.channel and other.recv(1, socket.MSG_PEEK):
                return True
        others = [other for other in others if other not in ready]  # these were closed
        if sockets.channel in ready:
            try:
                if (request := receive(sockets.channel.recv)) is None:
                    return False
                sockets.channel.sendall(pack(keeper.answer(request)))
            except (OSError, ValueError):
                return False
    return True


def _isolate(keep: Sequence[socket.socket]) -> list[socket.socket]:
    """Leave the terminal and everything that is open; what ends the tunnel ends us by closing our sockets alone.

    Returns the sockets of `keep`, past the numbers of the standard files, which the caller may have closed.
    """
    for number in _SIGNALS:
        signal.signal(number, _nothing)  # not SIG_IGN, which the programs we run would inherit
    moved = daemonise([kept.detach() for kept in keep])
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"ikeclient-help", 0, 0, 0)
    return [socket.socket(fileno=number) for number in moved]


def _nothing(*_: object) -> None:
    """Ignore a signal: the tunnel answers it."""
