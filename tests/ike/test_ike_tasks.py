"""One exchange at a time, and the queue behind it."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import suppress

from ike_sealing import SPI_I, SPI_R, suite_of
from sim_world import PATH

from ikeclient.crypto.algorithms.keymat import ike_keys
from ikeclient.errors import AuthenticationFailed, NegotiationRefused, ParseError
from ikeclient.ike.events import Need, NeedKind
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.channel import Channel
from ikeclient.ike.v2.message.payloads import Request
from ikeclient.ike.v2.tasks import Finished, Job, Task, Tasks
from ikeclient.wire.registry import ExchangeType

REQUEST = Request(exchange=ExchangeType.INFORMATIONAL, payloads=())
LIVENESS, REKEY, CHILD, DELETE = (
    Task(Job.LIVENESS),
    Task(Job.REKEY_IKE),
    Task(Job.REKEY_CHILD, 7),
    Task(Job.DELETE_CHILD, 7),
)


def tasks() -> Tasks:
    suite = suite_of("aes256gcm16")
    keys = ike_keys(suite, b"shared", b"i" * 32, b"r" * 32, SPI_I, SPI_R)
    keying = Keying(spi_i=SPI_I, spi_r=SPI_R, suite=suite, keys=keys, initiator=True, fragmentation=False)
    return Tasks(Channel(keying, PATH, random.Random(1).randbytes, fragment_size=1280))


def asking(*steps: object) -> Generator[object, object, object]:
    """An exchange that yields these steps, then returns what it was resumed with last."""
    value: object = None
    for step in steps:
        if isinstance(step, Exception):
            raise step
        value = yield step
    return value


def test_tasks_wait_in_order_and_each_once() -> None:
    queue = tasks()
    for task in (LIVENESS, CHILD, LIVENESS, REKEY, CHILD):
        queue.add(task)
    assert [queue.take() for _ in range(4)] == [LIVENESS, CHILD, REKEY, None]


def test_nothing_is_taken_while_an_exchange_is_in_progress() -> None:
    queue = tasks()
    assert queue.start(LIVENESS, asking(REQUEST), 0.0, 15.0) is None
    queue.add(LIVENESS)
    queue.add(CHILD)
    assert queue.take() is None
    assert queue.busy
    assert queue.doing(Job.LIVENESS, Job.AUTH)
    assert not queue.doing(Job.REKEY_CHILD)
    queue.abandon()
    assert queue.take() == CHILD
    assert queue.idle


def test_what_a_successor_has_to_do_is_handed_on() -> None:
    """Tasks about Child SAs, and a move, also one that has begun; the others are forgotten."""
    queue = tasks()
    for task in (LIVENESS, CHILD, REKEY, DELETE):
        queue.add(task)
    assert queue.take_inherited() == (CHILD, DELETE)
    assert queue.idle
    queue.start(Task(Job.MOVE), asking(REQUEST), 0.0, 15.0)
    assert queue.take_inherited() == (Task(Job.MOVE),)


def test_an_exchange_ends_with_its_outcome() -> None:
    queue = tasks()
    queue.start(CHILD, asking(REQUEST, REQUEST), 0.0, 15.0)
    assert queue.advance(("first",), 0.1) is None
    assert queue.advance(("second",), 0.2) == Finished(task=CHILD, outcome=("second",))
    assert queue.idle


NEED = Need(kind=NeedKind.PASSWORD, request="Password")


def test_a_need_is_waited_for_and_supplied_once() -> None:
    queue = tasks()
    assert queue.start(Task(Job.AUTH), asking(NEED, REQUEST), 0.0, 15.0) is NEED
    assert queue.supply(Need(kind=NEED.kind, request=NEED.request), "another's", 0.0) is None
    assert queue._channel.requests.pending is None
    assert queue.supply(NEED, "secret", 0.1) is None
    assert queue._channel.requests.pending is not None
    assert queue.supply(NEED, "again", 0.2) is None
    assert queue.busy
    assert tasks().supply(NEED, "unasked", 0.0) is None


def test_a_need_that_is_refused_ends_the_exchange_with_the_reason() -> None:
    queue = tasks()
    queue.start(Task(Job.AUTH), asking(NEED, REQUEST), 0.0, 15.0)
    error = NegotiationRefused("nobody is there")
    assert queue.refuse(NEED, error, 0.1) is error
    assert queue.idle
    assert queue.refuse(NEED, error, 0.2) is None


def test_an_exchange_may_go_on_without_what_it_needed() -> None:
    def exchange() -> Generator[object, object, object]:
        with suppress(NegotiationRefused):
            yield NEED
        yield REQUEST

    queue = tasks()
    queue.start(Task(Job.AUTH), exchange(), 0.0, 15.0)
    assert queue.refuse(NEED, NegotiationRefused("nobody is there"), 0.1) is None
    assert queue._channel.requests.pending is not None


def test_what_the_peer_breaks_and_what_fails_are_told_apart() -> None:
    queue = tasks()
    broken = queue.start(LIVENESS, asking(ParseError("two of them")), 0.0, 15.0)
    assert isinstance(broken, NegotiationRefused)
    assert broken.reason == "two of them"
    refused = AuthenticationFailed("no")
    assert queue.start(LIVENESS, asking(refused), 0.0, 15.0) is refused
    assert queue.idle


def test_a_timeout_can_be_shortened_but_not_lengthened() -> None:
    queue = tasks()
    queue.start(LIVENESS, asking(REQUEST), 0.0, 15.0)
    pending = queue._channel.requests.pending
    assert pending is not None
    queue.shorten_timeout(0.5)
    assert pending.give_up_at == 0.5
    queue.shorten_timeout(99.0)
    assert pending.give_up_at == 0.5


def test_a_shortened_timeout_ends_an_exchange_that_waits_for_a_person() -> None:
    queue = tasks()
    queue.start(Task(Job.AUTH), asking(NEED), 0.0, 15.0)
    queue.shorten_timeout(0.5)
    assert queue.idle
