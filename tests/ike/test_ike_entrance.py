"""What is read of a message before anything about it is authenticated, and what that costs at most.

Work is counted in calls of functions and not in time, so that a busy machine does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from struct import pack
from types import FrameType

import pytest
from sim_script import INFORMATIONAL, INIT, Scribe, notify, spi_of, unprotected
from sim_world import PATH, World

from ikeclient.ike.events import Path
from ikeclient.ike.v2.initiator import INIT_STRUCTURES, OUTER_STRUCTURES
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.payload import RawPayload
from ikeclient.wire.registry import ExchangeType, NotifyType, PayloadType

UP = replace(PATH, remote_port=4500)
SK = pack(">BxH", 0, 104) + bytes(100)
VENDOR = PayloadType.VENDOR_ID


def chain(count: int) -> bytes:
    """Empty vendor IDs."""
    return pack(">BxH", VENDOR, 4) * (count - 1) + pack(">BxH", 0, 4)


def transforms(count: int) -> bytes:
    """The content of an SA payload with that many transforms."""
    body = b"".join(pack(">BxHBxH", 3 if n < count - 1 else 0, 8, 1, 12) for n in range(count))
    proposal = pack(">BxHBBBB", 0, 8 + len(body), 1, 1, 0, count) + body
    return pack(">BxH", 0, 4 + len(proposal)) + proposal


def attributes(count: int) -> bytes:
    """The content of an SA payload with one transform that has that many attributes."""
    transform = pack(">BxHBxH", 0, 8 + 4 * count, 1, 12) + pack(">HH", 0x800F, 1) * count
    proposal = pack(">BxHBBBB", 0, 8 + len(transform), 1, 1, 0, 1) + transform
    return pack(">BxH", 0, 4 + len(proposal)) + proposal


def spis(count: int) -> bytes:
    """A DELETE of that many SPIs of one byte."""
    return pack(">BxHBBH", 0, 8 + count, 3, 1, count) + bytes(count)


def selectors(count: int) -> bytes:
    return pack(">BxHBxxx", 0, 8 + 16 * count, count) + pack(">BBHHHII", 7, 0, 16, 0, 65535, 0, 0xFFFFFFFF) * count


def configuration(count: int) -> bytes:
    return pack(">BxHBxxx", 0, 8 + 4 * count, 2) + pack(">HH", 1, 0) * count


BOMBS: dict[str, tuple[PayloadType, bytes]] = {
    "a chain of 340 payloads": (VENDOR, chain(340)),
    "a chain of 255 payloads": (VENDOR, chain(255)),
    "180 transforms": (PayloadType.SA, transforms(180)),
    "16,000 attributes": (PayloadType.SA, attributes(16_000)),
    "a DELETE of 65,000 SPIs": (PayloadType.DELETE, spis(65_000)),
    "255 selectors": (PayloadType.TSI, selectors(255)),
    "16,000 configuration attributes": (PayloadType.CONFIGURATION, configuration(16_000)),
}


def message(
    spis: bytes,
    body: bytes,
    first: PayloadType = PayloadType.ENCRYPTED,
    *,
    exchange: ExchangeType = INFORMATIONAL,
    flags: int = 0,
    message_id: int = 0,
) -> bytes:
    return spis + pack(">BBBBII", first, 0x20, exchange, flags, message_id, HEADER_LENGTH + len(body)) + body


def work(action: Callable[[], object]) -> int:
    """How many functions are called."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def received(world: World, data: bytes, path: Path = UP) -> int:
    return work(lambda: world.client.receive(data, path, world.now))


@pytest.fixture
def up() -> World:
    world = World()
    world.connect()
    return world


def test_what_names_no_sa_of_ours_costs_the_same_whatever_is_in_it(up: World) -> None:
    """N3, N27: SPIs first; nothing else of the message is looked at."""
    strange = bytes(range(16))
    costs = {
        received(up, message(strange, body, first)) for first, body in (*BOMBS.values(), (PayloadType.ENCRYPTED, SK))
    }
    assert max(costs) <= 10
    assert len(costs) == 1


@pytest.mark.parametrize("exchange", ExchangeType)
@pytest.mark.parametrize("flags", [0x00, 0x08, 0x20, 0x28])
def test_messages_with_unknown_spis_are_not_awaited_whatever_they_claim(
    up: World, exchange: ExchangeType, flags: int
) -> None:
    """N3: of every exchange type; one right SPI of the two is not enough."""
    known = up.sa.keying.spis
    for spis in (bytes(16), bytes(range(16)), known[:8] + bytes(8), bytes(8) + known[8:], known[8:] + known[:8]):
        assert not up.client.awaits(message(spis, SK, exchange=exchange, flags=flags))


def test_of_the_right_spis_only_the_next_message_of_each_direction_is_awaited(up: World) -> None:
    """N27: direction, version and message ID come before payloads and before the integrity check."""
    known = up.sa.keying.spis
    assert up.client.awaits(message(known, SK, message_id=0))
    for wrong in (
        message(known, SK, message_id=1),
        message(known, SK, message_id=0xFFFFFFFF),
        message(known, SK, message_id=0, flags=0x08),  # it claims to be the initiator
        message(known, SK, message_id=2, flags=0x20),  # an answer, but nothing was asked
        message(known, SK)[:-1],
        message(known, SK)[:HEADER_LENGTH],
        message(known, SK)[:17],
        message(known, SK).replace(b"\x2e\x20\x25", b"\x2e\x30\x25"),
    ):
        assert not up.client.awaits(wrong)
        assert received(up, wrong) < 40
    up.client.check_liveness(up.now)
    (request,) = up.client.datagrams_to_send()
    asked = Header.parse(request.data).message_id
    assert up.client.awaits(message(known, SK, message_id=asked, flags=0x20))
    assert not up.client.awaits(message(known, SK, message_id=asked - 1, flags=0x20))


@pytest.mark.parametrize("name", BOMBS)
def test_with_the_right_spis_few_structures_are_read_in_the_clear(up: World, name: str) -> None:
    """N27, N6: who watches the path knows the SPIs; a message costs little more than a failed integrity check."""
    known, (first, body) = up.sa.keying.spis, BOMBS[name]
    forged = received(up, message(known, SK))
    state = up.client.next_deadline()
    assert received(up, message(known, body, first)) <= 2 * forged + 20 * OUTER_STRUCTURES
    assert up.client.next_deadline() == state
    assert not up.client.datagrams_to_send()


@pytest.mark.parametrize("name", BOMBS)
def test_an_answer_to_ike_sa_init_has_a_limit_of_structures(name: str) -> None:
    """N27, N6: and the genuine answer still connects."""
    world = World()
    world.start()
    first, body = BOMBS[name]
    bomb = message(spi_of(world) + b"responde", body, first, exchange=INIT, flags=0x20)
    assert received(world, bomb, PATH) <= 40 * INIT_STRUCTURES
    assert world.run(5, lambda w: w.connected)


def test_only_answers_to_ike_sa_init_are_read_while_none_has_come() -> None:
    """N27: nobody but who sees our request knows the SPI, and only one kind of message can answer it."""
    world = World()
    world.start()
    ours = spi_of(world)
    for exchange in ExchangeType:
        for flags in (0x00, 0x08, 0x20, 0x28):
            for message_id in (0, 1):
                data = message(
                    ours + b"responde", chain(3), VENDOR, exchange=exchange, flags=flags, message_id=message_id
                )
                due = exchange == INIT and flags == 0x20 and message_id == 0
                assert world.client.awaits(data) == due
    assert not world.client.awaits(message(b"stranger" + b"responde", chain(3), VENDOR, exchange=INIT, flags=0x20))


def test_a_few_notifications_in_the_clear_are_still_read(up: World) -> None:
    """RFC 7296 section 2.21.4: such a hint causes a liveness check."""
    hint = unprotected(
        INFORMATIONAL, Scribe(up.sa.keying).spis, [notify(NotifyType.INVALID_IKE_SPI)] * OUTER_STRUCTURES
    )
    assert up.client.awaits(hint)
    up.client.receive(hint, UP, up.now)
    assert len(up.client.datagrams_to_send()) == 1  # a liveness check


def test_an_unknown_payload_in_an_answer_to_ike_sa_init_is_ignored() -> None:
    """Vendor extensions: the limit leaves room for as many as gateways are known to send."""
    world = World()
    extra = [RawPayload(TYPE=VENDOR, critical=False, body=bytes(16))] * 40
    world.gateway.edit["init"] = lambda payloads: [*payloads, *extra]
    world.connect()
