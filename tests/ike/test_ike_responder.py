"""What a request of the peer's is answered with while something of ours is going on (RFC 7296 section 2.25)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sim_gateway import ESP_GCM, NET, ipv4
from sim_script import CREATE_CHILD, INFORMATIONAL, notify
from sim_world import World, client_config

from ikeclient.errors import ParseError
from ikeclient.ike.v2.exchanges.informational import delete_children, delete_ike_sa
from ikeclient.ike.v2.exchanges.rekey_child import spare_groups
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.responder import PeerDeletedChildren, PeerDeletedIke, respond
from ikeclient.ike.v2.rules.negotiate import offer_esp, offer_ike
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, KeyExchangeId, NotifyType, ProtocolId
from ikeclient.wire.selector import TsiPayload, TsrPayload


def busy(*actions: Callable[[World], None]) -> World:
    """A connected client with requests of its own under way, which nobody answers."""
    world = World()
    world.connect()
    world.drop = lambda _: True
    for action in actions:
        action(world)
    return world


def rekeys_ike(world: World) -> None:
    world.at_client(lambda client, now: client.rekey(now))


def rekeys_child(world: World) -> None:
    world.at_client(lambda client, now: client.rekey_child(spis(world.sa)[0], now))


def checks(world: World) -> None:
    world.at_client(lambda client, now: client.check_liveness(now))


def closes(world: World) -> None:
    world.at_client(lambda client, now: client.close(now))


def spis(sa: IkeSa) -> tuple[int, int]:
    (child,) = sa.children
    return child.spi_in, child.spi_out


def child_rekey(spi: int) -> list[Payload]:
    return [
        NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=spi.to_bytes(4, "big")),
        offer_esp([ESP_GCM], 0xC0000001, esn=True, key_exchange=False),
        NoncePayload(nonce=b"n" * 32),
        TsiPayload(selectors=(NET,)),
        TsrPayload(selectors=(ipv4("10.88.0.1/32"),)),
    ]


IKE_REKEY: list[Payload] = [
    offer_ike(client_config().ike_proposals, b"\x07" * 8),
    NoncePayload(nonce=b"n" * 32),
    KePayload(method=KeyExchangeId.CURVE25519, data=b"\x09" + bytes(31)),
]


def outcome(world: World, payloads: list[Payload]) -> str:
    """`agreed`, or the name of the notification."""
    reply, effects = respond(world.sa, CREATE_CHILD, payloads)
    if effects:
        return "agreed"
    (only,) = reply
    assert isinstance(only, NotifyPayload)
    return str(only.type)


@pytest.mark.parametrize(
    ("actions", "child", "unknown_child", "ike"),
    [
        ((), "agreed", "CHILD_SA_NOT_FOUND", "agreed"),
        ((checks,), "agreed", "CHILD_SA_NOT_FOUND", "agreed"),
        ((checks, rekeys_ike), "agreed", "CHILD_SA_NOT_FOUND", "agreed"),
        ((checks, rekeys_child), "agreed", "CHILD_SA_NOT_FOUND", "agreed"),
        ((rekeys_child,), "agreed", "TEMPORARY_FAILURE", "TEMPORARY_FAILURE"),
        ((rekeys_ike,), "TEMPORARY_FAILURE", "CHILD_SA_NOT_FOUND", "agreed"),
        ((closes,), "TEMPORARY_FAILURE", "TEMPORARY_FAILURE", "TEMPORARY_FAILURE"),
        ((checks, closes), "TEMPORARY_FAILURE", "TEMPORARY_FAILURE", "TEMPORARY_FAILURE"),
    ],
    ids=lambda value: "+".join(action.__name__ for action in value) if isinstance(value, tuple) else None,
)
def test_collisions_are_answered_as_the_standard_says(
    actions: tuple[Callable[[World], None], ...], child: str, unknown_child: str, ike: str
) -> None:
    """S7: sections 2.25.1 and 2.25.2. A rekey that only waits for its turn is no collision."""
    world = busy(*actions)
    assert outcome(world, child_rekey(spis(world.sa)[1])) == child
    assert outcome(world, child_rekey(0x12345678)) == unknown_child
    assert outcome(world, IKE_REKEY) == ike


def test_a_child_that_we_are_closing_is_not_rekeyed_and_not_named_in_the_answer_to_its_delete() -> None:
    """Section 2.25.1."""
    world = busy()
    spi_in, spi_out = spis(world.sa)
    world.sa._delete_child(spi_in, world.now)
    assert outcome(world, child_rekey(spi_out)) == "TEMPORARY_FAILURE"
    reply, effects = respond(world.sa, INFORMATIONAL, [delete_children([spi_out])])
    assert reply == ()
    assert effects == (PeerDeletedChildren(spis_out=(spi_out,)),)


def test_the_delete_of_a_child_that_we_rekey_is_answered_as_usual() -> None:
    """Section 2.25.1."""
    world = busy(rekeys_child)
    spi_in, spi_out = spis(world.sa)
    reply, _ = respond(world.sa, INFORMATIONAL, [delete_children([spi_out])])
    assert reply == (delete_children([spi_in]),)


def test_repeated_spis_in_a_delete_are_answered_once() -> None:
    """S4."""
    world = busy()
    spi_in, spi_out = spis(world.sa)
    reply, _ = respond(world.sa, INFORMATIONAL, [delete_children([spi_out, spi_out])])
    assert reply == (delete_children([spi_in]),)


@pytest.mark.parametrize("actions", [(), (rekeys_ike,), (rekeys_child,), (closes,)])
def test_the_delete_of_the_ike_sa_is_always_answered(actions: tuple[Callable[[World], None], ...]) -> None:
    """Section 2.25.2."""
    world = busy(*actions)
    assert respond(world.sa, INFORMATIONAL, delete_ike_sa()) == ((), (PeerDeletedIke(reason=None),))


def test_a_cookie2_comes_back_unchanged() -> None:
    """RFC 4555 section 3.7; S12: only of the allowed length."""
    world = busy()
    good = notify(NotifyType.COOKIE2, b"c" * 16)
    bad = [notify(NotifyType.COOKIE2, b"c" * length) for length in (0, 7, 65)]
    assert respond(world.sa, INFORMATIONAL, [good, *bad]) == ((good,), ())


@pytest.mark.parametrize("exchange", [34, 35, 38, 43, 255])
def test_other_exchanges_have_no_place_in_an_established_sa(exchange: int) -> None:
    with pytest.raises(ParseError):
        respond(busy().sa, ExchangeType(exchange), [])


def test_spare_groups_begin_with_the_one_in_use() -> None:
    groups = spare_groups(busy().sa)
    assert [group.keyword for group in groups] == ["x25519"]
