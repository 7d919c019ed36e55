"""What an IKE SA has to do with its peer: one exchange in progress, the other tasks wait (RFC 7296 section 2.3).

Runs exchanges, which are generators, over the channel. A task that waits is only a job and a subject; its exchange is
made when its turn comes, from what is true then. So a Child SA that has been replaced meanwhile is not rekeyed, and
tasks that a rekeyed IKE SA leaves undone are done by its successor, with the successor's keys.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import field
from enum import Enum, auto
from typing import Any

from ikeclient.errors import IkeclientError, ParseError, ProtocolError
from ikeclient.ike.events import Need
from ikeclient.ike.v2.close_reasons import broke_protocol
from ikeclient.ike.v2.message.channel import Channel
from ikeclient.ike.v2.message.payloads import Request
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.payload import Message, Payload, unknown_critical

Exchange = Generator[Any, Any, Any]


class Job(Enum):
    """What an exchange of ours is for."""

    AUTH = auto()
    LIVENESS = auto()
    PROBE = auto()
    DELETE_IKE = auto()
    DELETE_CHILD = auto()
    CREATE_CHILD = auto()
    REKEY_CHILD = auto()
    REKEY_IKE = auto()
    MOVE = auto()


ABOUT_CHILDREN = frozenset({Job.CREATE_CHILD, Job.DELETE_CHILD, Job.REKEY_CHILD})
INHERITED = ABOUT_CHILDREN | {Job.MOVE}


@dataclass(frozen=True, slots=True)
class Task:
    """A job and what it is about: a Child SA's inbound SPI, the size of a probe in bytes, 0 for the IKE SA itself."""

    job: Job
    subject: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An exchange came to its end with `outcome`."""

    task: Task
    outcome: object


Step = Finished | Need | IkeclientError | None  # None: a request was sent, its answer is awaited


@dataclass(slots=True, kw_only=True)
class _Running:
    task: Task
    exchange: Exchange
    timeout: float
    request: Request | None = field(default=None, repr=False)  # None while a need is unanswered
    need: Need | None = None


class Tasks:
    """The exchange in progress and the tasks that wait, each at most once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._running: _Running | None = None
        self._waiting: deque[Task] = deque()

    # The queue

    def add(self, task: Task) -> None:
        """Put a task at the end, unless it is in progress or waits already."""
        if task not in self._waiting and (self._running is None or self._running.task != task):
            self._waiting.append(task)

    def take(self) -> Task | None:
        """The next task, if nothing is in progress."""
        return self._waiting.popleft() if self._running is None and self._waiting else None

    def take_inherited(self) -> tuple[Task, ...]:
        """The waiting tasks that a successor has to do: those about Child SAs, and a move of any stage.

        The others are forgotten.
        """
        moving = (Task(Job.MOVE),) if self.doing(Job.MOVE) else ()
        tasks = (*moving, *(task for task in self._waiting if task.job in INHERITED))
        self._waiting.clear()
        return tasks

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is in progress and nothing waits."""
        return self._running is None and not self._waiting

    @property
    def busy(self) -> bool:
        """Whether an exchange is in progress."""
        return self._running is not None

    def doing(self, *jobs: Job) -> bool:
        """Whether the exchange in progress is one of these."""
        return self._running is not None and self._running.task.job in jobs

    # The exchange in progress

    def start(self, task: Task, exchange: Exchange, now: float, timeout: float) -> Step:
        """Begin an exchange; each answer to it is awaited for `timeout` seconds."""
        self._running = _Running(task=task, exchange=exchange, timeout=timeout)
        return self.advance(None, now)

    def advance(self, value: object, now: float) -> Step:
        """Resume the exchange with what it waits for, and send its next request if it has one.

        An error ends the exchange; a peer that breaks the protocol is one.
        """
        assert self._running is not None
        return self._resume(self._running, lambda exchange: exchange.send(value), now)

    def _resume(self, running: _Running, call: Callable[[Exchange], Request | Need], now: float) -> Step:
        try:
            step = call(running.exchange)
        except StopIteration as stop:
            self._running = None
            return Finished(task=running.task, outcome=stop.value)
        except ProtocolError as error:
            return self._broken(str(error))
        except IkeclientError as error:
            self.abandon()
            return error
        if isinstance(step, Need):
            running.request, running.need = None, step
            return step
        running.request, running.need = step, None
        self._channel.request(step, now, running.timeout)
        return None

    def supply(self, need: Need, value: object, now: float) -> Step:
        """Continue the exchange that has this need; nothing happens if none has, or it is answered already."""
        return self._answer_need(need, lambda exchange: exchange.send(value), now)

    def refuse(self, need: Need, error: IkeclientError, now: float) -> Step:
        """Let the exchange that has this need fail, or do without; as `supply`."""
        return self._answer_need(need, lambda exchange: exchange.throw(error), now)

    def _answer_need(self, need: Need, call: Callable[[Exchange], Request | Need], now: float) -> Step:
        running = self._running
        if running is None or running.need is not need:
            return None
        running.need = None
        return self._resume(running, call, now)

    def answer(self, data: bytes, message: Message, now: float) -> tuple[Payload, ...] | IkeclientError | None:
        """The payloads of a genuine answer to the request in progress; None for everything else.

        An answer that is malformed inside ends the exchange with an error.
        """
        running = self._running
        if running is None or running.request is None or message.header.exchange != running.request.exchange:
            return None
        try:
            payloads = self._channel.response(data, message, now)
        except ParseError as error:
            return self._broken(str(error))
        if payloads is not None and (unknown := unknown_critical(payloads)) is not None:
            return self._broken(f"an unknown critical payload of type {int(unknown)}")
        return payloads

    def shorten_timeout(self, until: float) -> None:
        """Wait for the answer until then at the longest."""
        if not self._channel.requests.shorten_timeout(until):
            self._running = None

    def extend_timeout(self, until: float) -> None:
        """Wait for the answer at least until then."""
        self._channel.requests.extend_timeout(until)

    def abandon(self) -> None:
        """Forget the exchange in progress; its answer will be ignored."""
        self._running = None
        self._channel.requests.close()

    def _broken(self, reason: str) -> IkeclientError:
        self.abandon()
        return broke_protocol(reason)
