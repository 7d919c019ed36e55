"""Echo requests of ours and their answers (RFC 792, RFC 4443)."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.interfaces import Entropy
from ikeclient.stack.ip.icmp import ECHO, EchoReply, IcmpError, Kind, echo

MOST = 256  # that wait for an answer
_SECRET = 16  # bytes of each request that only who got it can send back


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """How it ended: the round-trip time in seconds, or what an ICMP error said, or neither after the timeout."""

    round_trip: float | None = None
    error: Kind | None = None


Done = Callable[[PingResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    remote: bytes
    secret: bytes
    sent: float
    deadline: float
    done: Done


class Pings:
    """The echo requests that wait; `send(packet)` takes a whole packet."""

    def __init__(self, send: Callable[[bytes], object], entropy: Entropy) -> None:
        self._send = send
        self._entropy = entropy
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._sequence = 0

    def ping(self, local: bytes, remote: bytes, now: float, timeout: float, done: Done, *, size: int = 56) -> bool:
        """Ask for an answer with `size` bytes of data; false if too many wait already. `done` is called once."""
        if len(self._waiting) >= MOST:
            return False
        self._sequence = sequence = self._sequence + 1 & 0xFFFF
        identifier = int.from_bytes(self._entropy(2), "big")
        secret = self._entropy(_SECRET)
        self._waiting[identifier, sequence] = _Waiting(
            remote=remote, secret=secret, sent=now, deadline=now + timeout, done=done
        )
        data = secret + bytes(max(size - _SECRET, 0))
        self._send(echo(local, remote, identifier=identifier, sequence=sequence, data=data))
        return True

    def answered(self, source: bytes, reply: EchoReply, data: memoryview, now: float) -> None:
        """Take an answer; one that nobody waits for is ignored."""
        waiting = self._waiting.get((reply.identifier, reply.sequence))
        if waiting is not None and waiting.remote == source and bytes(data[:_SECRET]) == waiting.secret:
            del self._waiting[reply.identifier, reply.sequence]
            waiting.done(PingResult(round_trip=now - waiting.sent))

    def failed(self, error: IcmpError) -> bool:
        """Hear of an error about a request; whether it is one of ours that waits. Too long ones go on waiting."""
        if error.quoted[0] not in (ECHO, 128) or len(error.quoted) < 8:
            return False
        key = error.quoted[4] << 8 | error.quoted[5], error.quoted[6] << 8 | error.quoted[7]
        waiting = self._waiting.get(key)
        if waiting is None or waiting.remote != error.destination:
            return False
        if error.kind is not Kind.TOO_BIG:
            del self._waiting[key]
            waiting.done(PingResult(error=error.kind))
        return True

    def deadline(self) -> float | None:
        """When the first of them is given up."""
        return min((waiting.deadline for waiting in self._waiting.values()), default=None)

    def expire(self, now: float) -> None:
        """Give up those whose time is over."""
        for key in [key for key, waiting in self._waiting.items() if waiting.deadline <= now]:
            self._waiting.pop(key).done(PingResult())
