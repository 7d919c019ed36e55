"""An established IKE SA against replays, forgeries, nonsense with a valid integrity check, and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import pairwise

import pytest
from sim_gateway import ESP_GCM, GatewaySetup, ipv4
from sim_script import (
    AUTH,
    CREATE_CHILD,
    INFORMATIONAL,
    INIT,
    UNKNOWN_CRITICAL,
    Scribe,
    deletes,
    notify,
    opened,
    unprotected,
)
from sim_world import PATH, Weather, World, altered, assert_same_state, client_config

from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE
from ikeclient.errors import AuthenticationFailed, NegotiationRefused, NoResponse
from ikeclient.ike.events import (
    ChildClosed,
    ChildEstablished,
    Closed,
    HeardElsewhere,
    IkeEstablished,
    ReauthenticationDue,
)
from ikeclient.ike.v2.child.child_sa import ChildSa
from ikeclient.ike.v2.exchanges.informational import delete_children, delete_ike_sa, informational
from ikeclient.ike.v2.message.window import EXCUSE, LAST_MESSAGE_ID, MOST_EXCUSES, TIMEOUT, TIMEOUT_CLOSING
from ikeclient.ike.v2.rules.negotiate import offer_esp, offer_ike
from ikeclient.ike.v2.state import State
from ikeclient.ike.v2.tasks import Job, Task
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import (
    ConfigAttributeType,
    ConfigType,
    ExchangeType,
    KeyExchangeId,
    NotifyType,
    ProtocolId,
)
from ikeclient.wire.selector import TsiPayload, TsrPayload

UP = replace(PATH, remote_port=4500)


def connected(**changes: object) -> tuple[World, Scribe]:
    """A connected client, alone with somebody who has the gateway's keys; the gateway itself is cut off."""
    config = altered(client_config(), **{"liveness": 0.0, **changes})  # type: ignore[arg-type]
    world = World(config=config, setup=GatewaySetup(liveness=0.0))
    world.connect()
    world.run(1)
    world.drop = lambda _: True
    return world, Scribe(world.sa.keying)


def ask(
    world: World, scribe: Scribe, exchange: ExchangeType, payloads: Sequence[Payload], message_id: int = 0
) -> tuple[Payload, ...]:
    """The client's answer to a request of the gateway's; the requests of one connection are numbered from 0."""
    before = len(world.log)
    world.to_client(scribe.one(exchange, payloads, message_id=message_id), UP)
    assert len(world.log) > before, "no answer"
    return opened(world.log[before].data, scribe.keying)


def types(payloads: Sequence[Payload]) -> list[NotifyType]:
    return [p.type for p in payloads if isinstance(p, NotifyPayload)]


def snapshot(world: World) -> tuple[object, ...]:
    sa = world.sa
    children = tuple((c.spi_in, c.spi_out, c.keys) for c in sa.children)
    return (sa.keying, sa.state, children, sa.tasks.idle, len(world.events), sa.channel.path)


def child(world: World):  # type: ignore[no-untyped-def]
    (only,) = world.sa.children
    return only


# Requests of the gateway


def test_a_liveness_check_is_answered_with_nothing() -> None:
    world, scribe = connected()
    assert ask(world, scribe, INFORMATIONAL, ()) == ()


def test_a_repeated_request_gets_the_identical_answer_and_is_not_executed_again() -> None:
    """S1."""
    world, scribe = connected()
    old = child(world)
    request = scribe.one(INFORMATIONAL, (), message_id=0)
    world.to_client(request, UP)
    first = world.log[-1].data
    for _ in range(3):
        world.to_client(request, UP)
    assert [sent.data for sent in world.log[-4:]] == [first] * 4
    rekey = scribe.one(CREATE_CHILD, rekey_request(world), message_id=1)
    world.to_client(rekey, UP)
    answer, events = world.log[-1].data, len(world.events)
    world.to_client(rekey, UP)
    assert world.log[-1].data == answer
    assert len(world.events) == events
    assert old.spi_in in {c.spi_in for c in world.sa.children}


def test_an_old_request_is_dropped() -> None:
    """S1: one that was answered before the last one."""
    world, scribe = connected()
    for message_id in range(3):
        ask(world, scribe, INFORMATIONAL, (), message_id)
    before = len(world.log), snapshot(world)
    for message_id in (0, 1):
        world.to_client(scribe.one(INFORMATIONAL, delete_ike_sa(), message_id=message_id), UP)
    assert (len(world.log), snapshot(world)) == before


@pytest.mark.parametrize("message_id", [1, 2, 1000, 2**31, 2**32 - 1])
def test_a_request_ahead_of_the_window_is_dropped(message_id: int) -> None:
    """S2."""
    world, scribe = connected()
    before = len(world.log), snapshot(world)
    world.to_client(scribe.one(INFORMATIONAL, delete_ike_sa(), message_id=message_id), UP)
    assert (len(world.log), snapshot(world)) == before
    assert ask(world, scribe, INFORMATIONAL, ()) == ()


HARMFUL: list[Payload] = [
    DeletePayload(protocol=ProtocolId.IKE),
    notify(NotifyType.AUTHENTICATION_FAILED),
    notify(NotifyType.INVALID_SYNTAX),
    notify(NotifyType.INVALID_MAJOR_VERSION),
]


@pytest.mark.parametrize("exchange", [INFORMATIONAL, CREATE_CHILD, AUTH, INIT])
@pytest.mark.parametrize("payload", HARMFUL)
def test_clear_text_changes_nothing(exchange: ExchangeType, payload: Payload) -> None:
    """S3."""
    world, scribe = connected()
    before = len(world.log), snapshot(world)
    for message_id in (0, 1, 2):
        for response in (True, False):
            world.to_client(unprotected(exchange, scribe.spis, [payload], message_id=message_id, response=response), UP)
    assert (len(world.log), snapshot(world)) == before


@pytest.mark.parametrize("type_", [NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_SPI])
def test_clear_text_about_unknown_spis_causes_one_liveness_check_in_30_seconds(type_: NotifyType) -> None:
    """S3, S14: a hint, never a verdict; the genuine gateway answers the check."""
    world = World(config=altered(client_config(), liveness=0.0), setup=GatewaySetup(liveness=0.0))
    world.connect()
    world.run(1)
    state = snapshot(world)
    hint = unprotected(INFORMATIONAL, Scribe(world.sa.keying).spis, [notify(type_)], message_id=7)
    before = len(world.log)
    for _ in range(29):
        world.to_client(hint, UP)
        world.run(1)
    assert len(world.log) - before == 2
    assert snapshot(world) == state
    world.run(2)
    world.to_client(hint, UP)
    world.run(1)
    assert len(world.log) - before == 4


def test_a_gateway_that_forgot_us_is_noticed_soon() -> None:
    """S14: it rebooted, says so in clear text, and answers nothing else."""
    world, scribe = connected(liveness=30.0)
    world.to_client(unprotected(INFORMATIONAL, scribe.spis, [notify(NotifyType.INVALID_IKE_SPI)]), UP)
    assert world.run(16, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)


def test_a_silent_gateway_is_noticed_within_a_minute() -> None:
    """S14."""
    world, _ = connected(liveness=30.0)
    assert world.run(50, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)
    assert "does not answer any more" in world.error.message


def test_silence_while_nothing_could_be_heard_is_not_believed_at_once() -> None:
    """N27, P14: answers got lost in a full receive buffer, or lie unread in it."""
    world, _ = connected()
    world.client.handle_timer = partial(world.client.handle_timer, deaf=True)  # type: ignore[method-assign]
    world.at_client(lambda client, now: client.check_liveness(now))
    begin, sent = world.now, len(world.log)
    assert not world.run(TIMEOUT + 2 * EXCUSE, lambda w: w.closed)
    assert len(world.log) > sent + 6  # it went on asking
    world.drop = lambda _: False
    assert world.run(EXCUSE, lambda w: w.client.last_heard > begin)
    assert not world.run(60, lambda w: w.closed)


def test_deafness_does_not_keep_a_dead_gateway_alive() -> None:
    """S14, N27: a flood must not hide for long that the gateway is gone."""
    world, _ = connected()
    world.client.handle_timer = partial(world.client.handle_timer, deaf=True)  # type: ignore[method-assign]
    world.at_client(lambda client, now: client.check_liveness(now))
    begin = world.now
    assert world.run(60, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)
    assert world.now - begin == pytest.approx(TIMEOUT + MOST_EXCUSES * EXCUSE)


def test_esp_after_a_request_shows_that_its_answer_only_got_lost() -> None:
    """N27: in a flood answers get lost, while genuine ESP arrives."""
    world, _ = connected()
    world.at_client(lambda client, now: client.check_liveness(now))
    for _ in range(50):
        world.run(0.5)
        world.client.heard(world.now)
    assert not world.closed
    assert world.run(TIMEOUT, lambda w: w.closed)  # and then it does not arrive any more


def test_esp_from_before_a_request_proves_nothing() -> None:
    """S14"""
    world, _ = connected()
    world.client.heard(world.now)
    world.at_client(lambda client, now: client.check_liveness(now))
    assert world.run(TIMEOUT + 0.01, lambda w: w.closed)


@pytest.mark.parametrize("deaf", [True, False])
def test_nobody_waits_longer_for_the_answer_to_a_delete(deaf: bool) -> None:
    world, _ = connected()
    world.client.handle_timer = partial(world.client.handle_timer, deaf=deaf)  # type: ignore[method-assign]
    world.at_client(lambda client, now: client.close(now))
    assert world.run(TIMEOUT_CLOSING + 0.01, lambda w: w.closed)


def test_traffic_spares_the_liveness_check() -> None:
    world, _ = connected(liveness=30.0)
    before = len(world.log)
    for _ in range(20):
        world.run(10)
        world.client.heard(world.now)
    assert len(world.log) == before
    assert world.client.last_heard == world.now


def spi(value: int) -> bytes:
    return value.to_bytes(4, "big")


def test_deletes_of_what_does_not_exist_are_answered_with_nothing() -> None:
    """S4."""
    world, scribe = connected()
    ours = child(world)
    state = snapshot(world)
    requests: list[tuple[Payload, ...]] = [
        (DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=(spi(0x12345678),)),),
        (
            DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=(spi(ours.spi_in),)),
        ),  # named by our SPI, not its own
        (DeletePayload(protocol=ProtocolId.AH, spi_length=4, spis=(spi(ours.spi_out),)),),
        (DeletePayload(protocol=ProtocolId.ESP, spi_length=8, spis=(bytes(4) + spi(ours.spi_out),)),),
        (DeletePayload(protocol=ProtocolId.IKE, spi_length=4, spis=(spi(ours.spi_out),)),),
        (DeletePayload(protocol=ProtocolId(77), spi_length=0),),
        (DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=tuple(spi(n) for n in range(300, 16_000))),),
    ]
    for message_id, payloads in enumerate(requests):
        assert ask(world, scribe, INFORMATIONAL, payloads, message_id) == ()
    assert snapshot(world) == state


def test_a_delete_with_a_wrong_count_ends_the_sa() -> None:
    """S4, S11: it is malformed behind a valid integrity check."""
    world, scribe = connected()
    world.to_client(scribe.malformed(INFORMATIONAL, message_id=0), UP)
    assert isinstance(world.error, NegotiationRefused)


def test_the_gateway_deletes_the_ike_sa() -> None:
    """S5."""
    world, scribe = connected()
    keying = world.sa.keying
    world.to_client(scribe.one(INFORMATIONAL, delete_ike_sa(), message_id=0), UP)
    assert opened(world.log[-1].data, keying) == ()
    assert isinstance(world.error, NoResponse)
    assert world.error.message == "the gateway ended the connection"
    assert world.client.next_deadline() is None


def test_the_gateway_says_why_it_deletes_the_ike_sa() -> None:
    """S5."""
    world, scribe = connected()
    payloads = delete_ike_sa(NotifyType.AUTHENTICATION_FAILED)
    world.to_client(scribe.one(INFORMATIONAL, payloads, message_id=0), UP)
    assert isinstance(world.error, AuthenticationFailed)


@pytest.mark.parametrize("type_", [NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX])
def test_some_notifications_end_the_sa_by_themselves(type_: NotifyType) -> None:
    """RFC 7296 sections 2.21.2 and 2.21.3, protected only."""
    world, scribe = connected()
    world.to_client(scribe.one(INFORMATIONAL, [notify(type_)], message_id=0), UP)
    assert world.error is not None
    assert str(type_) in str(world.error.reason)


def child_answer(lost: ChildSa, spi_out: int) -> list[Payload]:
    """The answer to a request for another Child SA like `lost`, as the gateway would write it."""
    sa = offer_esp([ESP_GCM], spi_out, esn=True, key_exchange=False)
    (proposal,) = sa.proposals
    return [
        replace(sa, proposals=(replace(proposal, transforms=proposal.transforms[:2]),)),
        NoncePayload(nonce=b"n" * 32),
        TsiPayload(selectors=lost.local),
        TsrPayload(selectors=lost.remote),
    ]


def lose_the_child(world: World, scribe: Scribe, message_id: int = 0) -> ChildSa:
    """The gateway deletes the only Child SA."""
    lost, before = child(world), len(world.log)
    answer = ask(world, scribe, INFORMATIONAL, [delete_children([lost.spi_out])], message_id)
    assert answer == (delete_children([lost.spi_in]),)
    assert ChildClosed(spi_in=lost.spi_in, replaced=False) in world.events
    assert len(world.log) == before + 1, "nothing but the answer to the gateway's request"
    return lost


def want_child(world: World) -> tuple[Payload, ...] | None:
    """A packet wants to leave: what the client asks the gateway for, if it does."""
    before, keying = len(world.log), world.sa.keying
    world.at_client(lambda client, now: client.make_child(now))
    if len(world.log) == before:
        return None
    assert world.log[-1].data[18] == CREATE_CHILD
    return opened(world.log[-1].data, keying)


def test_an_idle_child_that_the_gateway_deletes_is_made_again_for_the_next_packet() -> None:
    """S5, G18, RFC 7296 section 2.25: the IKE SA stays meanwhile, for as long as it takes."""
    world, scribe = connected()
    lost = lose_the_child(world, scribe)
    world.run(300)
    assert not world.closed
    request = want_child(world)
    assert request is not None
    assert [type(p).__name__ for p in request] == ["SaPayload", "NoncePayload", "TsiPayload", "TsrPayload"]
    assert request[2:] == (TsiPayload(selectors=lost.local), TsrPayload(selectors=lost.remote))
    assert want_child(world) is None, "one is being made"
    world.to_client(scribe.one(CREATE_CHILD, child_answer(lost, 0xC0000001), message_id=2, response=True), UP)
    made = [event for event in world.events if isinstance(event, ChildEstablished)][-1]
    assert (made.spi_out, made.replaces) == (0xC0000001, None)
    assert made.keys.inbound != lost.keys.inbound
    assert want_child(world) is None, "there is one"
    assert not world.closed


def test_an_idle_child_is_made_again_as_often_as_it_is_deleted() -> None:
    """G18: a gateway with a short limit for idle Child SAs gets no second login, whatever happens."""
    world, scribe = connected()
    for turn in range(20):
        world.run(5)
        lost = lose_the_child(world, scribe, turn)
        assert want_child(world) is not None
        answer = child_answer(lost, 0xC0000001 + turn)
        world.to_client(scribe.one(CREATE_CHILD, answer, message_id=2 + turn, response=True), UP)
        assert child(world).spi_out == 0xC0000001 + turn
    assert not world.closed


def test_the_gateway_may_make_the_child_again_itself() -> None:
    """G18: a packet from behind it wants to come in."""
    world, scribe = connected()
    lost = lose_the_child(world, scribe)
    offer = offer_esp([ESP_GCM], 0xC0000001, esn=True, key_exchange=False)
    selectors = (TsiPayload(selectors=lost.remote), TsrPayload(selectors=lost.local))
    wish = [offer, NoncePayload(nonce=b"n" * 32), *selectors]
    answer = ask(world, scribe, CREATE_CHILD, wish, 1)
    assert [type(p).__name__ for p in answer] == ["SaPayload", "NoncePayload", "TsiPayload", "TsrPayload"]
    assert (child(world).spi_out, child(world).local) == (0xC0000001, lost.local)
    assert types(ask(world, scribe, CREATE_CHILD, wish, 2)) == [NotifyType.NO_ADDITIONAL_SAS], "one is enough"


@pytest.mark.parametrize("type_", [NotifyType.NO_ADDITIONAL_SAS, NotifyType.TEMPORARY_FAILURE])
def test_a_gateway_that_makes_no_child_any_more_is_left_after_three_refusals(type_: NotifyType) -> None:
    """S5, G18: with pauses between them; then the owner can connect anew."""
    world, scribe = connected()
    keying = world.sa.keying
    world.run(5)
    lose_the_child(world, scribe)
    for turn, pause in enumerate((1, 2, 0)):
        assert want_child(world) is not None
        world.to_client(scribe.one(CREATE_CHILD, [notify(type_)], message_id=2 + turn, response=True), UP)
        if pause:
            world.run(pause * 0.9)
            assert want_child(world) is None, "too soon"
            world.run(pause * 0.2)
            assert not world.closed
    world.run(3)
    assert isinstance(world.error, NoResponse)
    assert str(type_) in (world.error.reason or "")
    assert deletes(world, keying)


def test_a_gateway_that_deletes_every_child_at_once_is_left() -> None:
    """S5: no endless making and deleting."""
    world, scribe = connected()
    world.run(10)
    for turn in range(3):
        lost = lose_the_child(world, scribe, turn)
        world.run(4.1)
        assert want_child(world) is not None
        answer = child_answer(lost, 0xC0000001 + turn)
        world.to_client(scribe.one(CREATE_CHILD, answer, message_id=2 + turn, response=True), UP)
    ask(world, scribe, INFORMATIONAL, [delete_children([0xC0000003])], 3)
    world.run(3)
    assert isinstance(world.error, NoResponse)


def rekey_request(world: World, **changes: object) -> list[Payload]:
    """A request to rekey the client's Child SA, as the gateway would write it."""
    ours = child(world) if len(world.sa.children) == 1 else next(iter(world.sa.children))
    fields: dict[str, object] = {
        "protocol": ProtocolId.ESP,
        "spi": spi(ours.spi_out),
        "offer": offer_esp([ESP_GCM], 0xC0000001, esn=True, key_exchange=False),
        "tsi": ours.remote,
        "tsr": ours.local,
        **changes,
    }
    return [
        NotifyPayload(type=NotifyType.REKEY_SA, protocol=fields["protocol"], spi=fields["spi"]),  # type: ignore[arg-type]
        fields["offer"],  # type: ignore[list-item]
        NoncePayload(nonce=b"n" * 32),
        TsiPayload(selectors=fields["tsi"]),  # type: ignore[arg-type]
        TsrPayload(selectors=fields["tsr"]),  # type: ignore[arg-type]
    ]


def test_a_rekey_of_the_gateway_replaces_the_child() -> None:
    world, scribe = connected()
    old = child(world)
    answer = ask(world, scribe, CREATE_CHILD, rekey_request(world))
    assert [type(p).__name__ for p in answer] == ["SaPayload", "NoncePayload", "TsiPayload", "TsrPayload"]
    established = [event for event in world.events if isinstance(event, ChildEstablished)]
    assert (established[-1].replaces, established[-1].by_peer) == (old.spi_in, True)
    assert established[-1].spi_out == 0xC0000001
    assert ask(world, scribe, INFORMATIONAL, [delete_children([old.spi_out])], 1) == (delete_children([old.spi_in]),)
    assert world.events[-1] == ChildClosed(spi_in=old.spi_in, replaced=True)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": ProtocolId.NONE}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"protocol": ProtocolId.IKE}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"protocol": ProtocolId.AH}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"spi": spi(0x12345678)}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"spi": b""}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"spi": b"\xff" * 255}, NotifyType.CHILD_SA_NOT_FOUND),
        ({"tsi": (ipv4("10.99.0.0/25"),)}, NotifyType.TS_UNACCEPTABLE),
        ({"tsr": (ipv4("10.88.0.2/32"),)}, NotifyType.TS_UNACCEPTABLE),
        ({"offer": offer_esp([ESP_GCM], 255, esn=True, key_exchange=False)}, NotifyType.NO_PROPOSAL_CHOSEN),
        ({"offer": offer_ike(client_config().ike_proposals, b"\x07" * 8)}, NotifyType.NO_PROPOSAL_CHOSEN),
        (
            {
                "offer": offer_esp(
                    [replace(ESP_GCM, key_exchange=(KEY_EXCHANGE["modp2048"],))], 4711, esn=True, key_exchange=True
                )
            },
            NotifyType.NO_PROPOSAL_CHOSEN,
        ),
    ],
)
def test_a_rekey_that_cannot_be_is_refused_and_the_old_child_continues(
    changes: dict[str, object], expected: NotifyType
) -> None:
    """S6 (CVE-2023-38710)."""
    world, scribe = connected()
    state = snapshot(world)
    assert types(ask(world, scribe, CREATE_CHILD, rekey_request(world, **changes))) == [expected]
    assert snapshot(world) == state
    assert ask(world, scribe, INFORMATIONAL, (), 1) == ()


def test_a_rekey_to_an_spi_that_is_in_use_is_refused() -> None:
    """K16, S6."""
    world, scribe = connected()
    offer = offer_esp([ESP_GCM], child(world).spi_out, esn=True, key_exchange=False)
    assert types(ask(world, scribe, CREATE_CHILD, rekey_request(world, offer=offer))) == [NotifyType.NO_PROPOSAL_CHOSEN]


def test_a_rekey_without_the_key_exchange_that_the_profile_names_is_refused() -> None:
    """S6: perfect forward secrecy is not given up because the gateway forgot about it."""
    with_pfs = replace(ESP_GCM, key_exchange=(KEY_EXCHANGE["x25519"],))
    world, scribe = connected(esp_proposals=(with_pfs,))
    state = snapshot(world)
    assert types(ask(world, scribe, CREATE_CHILD, rekey_request(world))) == [NotifyType.NO_PROPOSAL_CHOSEN]
    offer = offer_esp([with_pfs], 0xC0000001, esn=True, key_exchange=True)
    answer = ask(world, scribe, CREATE_CHILD, rekey_request(world, offer=offer), 1)
    assert answer == (notify(NotifyType.INVALID_KE_PAYLOAD, (31).to_bytes(2, "big")),)
    assert snapshot(world) == state


def test_wider_selectors_in_a_rekey_are_narrowed_to_what_is_in_use() -> None:
    """S6."""
    world, scribe = connected()
    wide = {"tsi": (ipv4("0.0.0.0/0"),), "tsr": (ipv4("0.0.0.0/0"),)}
    answer = ask(world, scribe, CREATE_CHILD, rekey_request(world, **wide))
    (tsi,) = [p for p in answer if isinstance(p, TsiPayload)]
    (tsr,) = [p for p in answer if isinstance(p, TsrPayload)]
    assert [str(s) for s in (*tsi.selectors, *tsr.selectors)] == ["10.99.0.0/24", "10.88.0.1/32"]


def test_further_child_sas_are_refused() -> None:
    """S9: nobody asked for them, whatever their selectors or mode."""
    world, scribe = connected()
    state = snapshot(world)
    extra = [
        *rekey_request(world)[1:3],
        TsiPayload(selectors=(ipv4("0.0.0.0/0"),)),
        TsrPayload(selectors=(ipv4("0.0.0.0/0"),)),
    ]
    answers = [
        ask(world, scribe, CREATE_CHILD, extra, 0),
        ask(world, scribe, CREATE_CHILD, [*extra, notify(NotifyType.USE_TRANSPORT_MODE)], 1),
        ask(world, scribe, CREATE_CHILD, [*extra, notify(NotifyType.IPCOMP_SUPPORTED, b"\0\1\2")], 2),
        ask(world, scribe, CREATE_CHILD, [], 3),
    ]
    assert [types(answer) for answer in answers] == [[NotifyType.NO_ADDITIONAL_SAS]] * 4
    assert snapshot(world) == state


def test_transport_mode_and_compression_are_not_agreed_to_in_a_rekey() -> None:
    """S9: the answer does not repeat them, which declines them."""
    world, scribe = connected()
    wishes = [notify(NotifyType.USE_TRANSPORT_MODE), notify(NotifyType.IPCOMP_SUPPORTED, b"\0\1\2")]
    assert types(ask(world, scribe, CREATE_CHILD, [*rekey_request(world), *wishes])) == []


def test_configuration_out_of_the_blue_is_ignored() -> None:
    """S10."""
    world, scribe = connected()
    state = snapshot(world)
    address = ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_ADDRESS, value=b"\x0a\x63\x00\x07")
    for message_id, kind in enumerate((ConfigType.SET, ConfigType.REPLY, ConfigType.REQUEST)):
        assert ask(world, scribe, INFORMATIONAL, [ConfigPayload(type=kind, attributes=(address,))], message_id) == ()
    assert snapshot(world) == state


def test_an_authentication_lifetime_may_come_later() -> None:
    """S10, K18: the earliest wish counts, and a rekey of the IKE SA does not postpone it."""
    world = World()
    world.connect()
    for seconds in (100, 4000):
        wish = informational([notify(NotifyType.AUTH_LIFETIME, spi(seconds))])
        world.at_gateway(lambda sa, now, wish=wish: sa.tasks.start(Task(Job.LIVENESS), wish, now, 15.0))
        world.run(1)
    world.run(20)
    world.at_client(lambda client, now: client.rekey(now))
    world.run(50)
    assert ReauthenticationDue() not in world.events
    world.run(15)
    assert ReauthenticationDue() in world.events
    assert not world.closed
    assert world.run(30, lambda w: w.closed)
    assert isinstance(world.error, NoResponse)
    assert "AUTH_LIFETIME" in str(world.error.reason)
    assert world.now < 101


def test_an_unknown_critical_payload_is_refused_and_nothing_else_happens() -> None:
    """S11."""
    world, scribe = connected()
    state = snapshot(world)
    answer = ask(world, scribe, INFORMATIONAL, [UNKNOWN_CRITICAL, DeletePayload(protocol=ProtocolId.IKE)])
    assert answer == (notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((200,))),)
    assert snapshot(world) == state


@pytest.mark.parametrize("number", [16384 + 500, 40959, 40960, 65535, 8191, 8192, 16383])
def test_an_unknown_notification_is_ignored(number: int) -> None:
    """S11: status or error."""
    world, scribe = connected()
    state = snapshot(world)
    assert ask(world, scribe, INFORMATIONAL, [notify(NotifyType(number), b"x" * 1000)]) == ()
    assert snapshot(world) == state


@pytest.mark.parametrize("exchange", [INFORMATIONAL, CREATE_CHILD])
def test_a_request_that_is_malformed_inside_ends_the_sa_with_invalid_syntax(exchange: ExchangeType) -> None:
    """S11, RFC 7296 section 2.21.3: at both ends, without a DELETE."""
    world, scribe = connected()
    keying = world.sa.keying
    world.to_client(scribe.malformed(exchange, message_id=0), UP)
    assert opened(world.log[-1].data, keying) == (notify(NotifyType.INVALID_SYNTAX),)
    assert isinstance(world.error, NegotiationRefused)
    assert not deletes(world, keying)


@pytest.mark.parametrize(
    ("exchange", "payloads"),
    [
        (CREATE_CHILD, [offer_ike(client_config().ike_proposals, b"\x07" * 8)]),
        (CREATE_CHILD, [offer_ike(client_config().ike_proposals, b"\x07" * 8), NoncePayload(nonce=b"n" * 32)]),
        (AUTH, []),
        (INIT, []),
        (ExchangeType(99), []),
    ],
)
def test_a_request_without_what_it_needs_ends_the_sa_too(exchange: ExchangeType, payloads: list[Payload]) -> None:
    """S11."""
    world, scribe = connected()
    keying = world.sa.keying
    world.to_client(scribe.one(exchange, payloads, message_id=0), UP)
    assert opened(world.log[-1].data, keying) == (notify(NotifyType.INVALID_SYNTAX),)
    assert isinstance(world.error, NegotiationRefused)


def ike_rekey(group: KeyExchangeId = KeyExchangeId.CURVE25519, data: bytes = b"\x09" + bytes(31)) -> list[Payload]:
    return [
        offer_ike(client_config().ike_proposals, b"\x07" * 8),
        NoncePayload(nonce=b"n" * 32),
        KePayload(method=group, data=data),
    ]


def test_a_bad_public_value_in_a_rekey_ends_the_sa() -> None:
    """RFC 6989 section 2.5."""
    world, scribe = connected()
    keying = world.sa.keying
    world.to_client(scribe.one(CREATE_CHILD, ike_rekey(data=bytes(32)), message_id=0), UP)
    assert opened(world.log[-1].data, keying) == (notify(NotifyType.INVALID_SYNTAX),)
    assert isinstance(world.error, NegotiationRefused)


def test_a_rekey_of_the_ike_sa_with_another_group_is_asked_to_use_ours() -> None:
    world, scribe = connected()
    state = snapshot(world)
    answer = ask(world, scribe, CREATE_CHILD, ike_rekey(KeyExchangeId.ECP_256, bytes(64)))
    assert answer == (notify(NotifyType.INVALID_KE_PAYLOAD, (31).to_bytes(2, "big")),)
    assert snapshot(world) == state


@pytest.mark.parametrize("spi_", [b"", bytes(8), b"\x07" * 4])
def test_a_rekey_of_the_ike_sa_with_an_unusable_spi_is_refused(spi_: bytes) -> None:
    world, scribe = connected()
    state = snapshot(world)
    payloads = [offer_ike(client_config().ike_proposals, spi_), *ike_rekey()[1:]]
    assert types(ask(world, scribe, CREATE_CHILD, payloads)) == [NotifyType.NO_PROPOSAL_CHOSEN]
    assert snapshot(world) == state


def test_a_rekeyed_ike_sa_is_announced_and_inherits_the_child() -> None:
    world, scribe = connected()
    old = child(world)
    before = len(world.log)
    world.to_client(scribe.one(CREATE_CHILD, ike_rekey(), message_id=0), UP)
    assert len(world.log) == before + 1
    announced = world.events[-1]
    assert isinstance(announced, IkeEstablished)
    assert (announced.spi_i, announced.rekeyed) == (b"\x07" * 8, True)
    assert child(world) == old
    assert not world.sa.keying.initiator


def test_an_old_ike_sa_that_the_gateway_does_not_delete_is_deleted_by_us() -> None:
    world, scribe = connected()
    keying = world.sa.keying
    world.to_client(scribe.one(CREATE_CHILD, ike_rekey(), message_id=0), UP)
    world.run(59)
    assert not deletes(world, keying)
    world.run(3)
    assert deletes(world, keying)
    world.run(10)
    assert not world.closed
    assert not world.client._ike_sas.leaving  # type: ignore[union-attr]


def test_an_old_child_that_the_gateway_does_not_delete_is_deleted_by_us() -> None:
    """S7: the lost DELETE of a rekey."""
    world, scribe = connected()
    old = child(world)
    ask(world, scribe, CREATE_CHILD, rekey_request(world))
    world.run(59)
    asked = len(world.log)
    world.run(2)
    assert opened(world.log[asked].data, world.sa.keying) == (delete_children([old.spi_in]),)


def test_a_genuine_request_from_elsewhere_is_answered_there_and_moves_nothing() -> None:
    """S13."""
    world, scribe = connected()
    elsewhere = replace(UP, remote_address=ip_address("198.51.100.99"), remote_port=61000)
    *before, told, path = snapshot(world)
    world.to_client(scribe.one(INFORMATIONAL, (), message_id=0), elsewhere)
    assert world.log[-1].path == elsewhere
    assert world.events[told:] == [HeardElsewhere(address=elsewhere.remote_address)]
    assert snapshot(world) == (*before, told + 1, path)
    world.at_client(lambda client, now: client.check_liveness(now))
    assert world.log[-1].path == UP


def test_a_genuine_answer_from_elsewhere_counts_and_moves_nothing() -> None:
    """S13."""
    world, scribe = connected()
    world.at_client(lambda client, now: client.check_liveness(now))
    assert not world.sa.tasks.idle
    world.to_client(
        scribe.one(INFORMATIONAL, (), message_id=2, response=True),
        replace(UP, remote_address=ip_address("198.51.100.99")),
    )
    assert world.sa.tasks.idle
    assert world.sa.channel.path == UP


# Answers to our own requests


@pytest.mark.parametrize("action", ["liveness", "rekey", "child"])
def test_an_answer_that_is_malformed_inside_ends_the_sa(action: str) -> None:
    """S11."""
    world, scribe = connected()
    keying = world.sa.keying
    exchange = start(world, action)
    world.to_client(scribe.malformed(exchange, message_id=2, response=True), UP)
    world.run(3)
    assert isinstance(world.error, NegotiationRefused)
    assert deletes(world, keying)


def start(world: World, action: str) -> ExchangeType:
    match action:
        case "liveness":
            world.at_client(lambda client, now: client.check_liveness(now))
            return INFORMATIONAL
        case "rekey":
            world.at_client(lambda client, now: client.rekey(now))
        case _:
            world.at_client(lambda client, now: client.rekey_child(child(world).spi_in, now))
    return CREATE_CHILD


@pytest.mark.parametrize("action", ["liveness", "rekey", "child"])
def test_an_answer_with_an_unknown_critical_payload_ends_the_sa(action: str) -> None:
    """S11."""
    world, scribe = connected()
    exchange = start(world, action)
    world.to_client(scribe.one(exchange, [UNKNOWN_CRITICAL], message_id=2, response=True), UP)
    world.run(3)
    assert isinstance(world.error, NegotiationRefused)


@pytest.mark.parametrize("action", ["liveness", "rekey", "child"])
def test_an_answer_of_invalid_syntax_means_that_the_gateway_has_closed_the_sa(action: str) -> None:
    """S11, RFC 7296 section 2.21.3."""
    world, scribe = connected()
    keying = world.sa.keying
    exchange = start(world, action)
    refusal = [notify(NotifyType.INVALID_SYNTAX)]
    world.to_client(scribe.one(exchange, refusal, message_id=2, response=True), UP)
    assert isinstance(world.error, NegotiationRefused)
    assert not deletes(world, keying)


@pytest.mark.parametrize("action", ["rekey", "child"])
def test_an_answer_without_what_it_needs_ends_the_sa(action: str) -> None:
    world, scribe = connected()
    exchange = start(world, action)
    world.to_client(scribe.one(exchange, [], message_id=2, response=True), UP)
    world.run(3)
    assert isinstance(world.error, NegotiationRefused)
    assert "SaPayload" in str(world.error.reason)


def test_an_answer_that_uses_an_esp_spi_twice_ends_the_sa() -> None:
    """K16."""
    world, scribe = connected()
    ours = child(world)
    exchange = start(world, "child")
    answer = child_answer(ours, ours.spi_out)
    world.to_client(scribe.one(exchange, answer, message_id=2, response=True), UP)
    world.run(3)
    assert isinstance(world.error, NegotiationRefused)
    assert "twice" in str(world.error.reason)


@pytest.mark.parametrize("type_", [NotifyType.TEMPORARY_FAILURE, NotifyType.NO_ADDITIONAL_SAS])
@pytest.mark.parametrize("what", ["child", "ike"])
def test_a_gateway_that_never_rekeys_is_asked_less_and_less_and_left_in_time(what: str, type_: NotifyType) -> None:
    """S8: keys never outlive their time, and the connection ends with a reason, so that a new one can be made."""
    changes = {"rekey_child": 3600.0} if what == "child" else {"rekey_ike": 3600.0}
    world = World(config=altered(client_config(), **changes), setup=GatewaySetup())
    world.connect()
    asked: list[float] = []

    def answer_for_the_gateway(sent) -> bool:  # type: ignore[no-untyped-def]
        if not sent.to_gateway or sent.data[18] != CREATE_CHILD:
            return False
        asked.append(world.now)
        scribe = Scribe(world.sa.keying)
        refusal = scribe.one(
            CREATE_CHILD, [notify(type_)], message_id=int.from_bytes(sent.data[20:24], "big"), response=True
        )
        world.at(world.now + 0.01, lambda: world.to_client(refusal, UP))
        world.gateway_sa.channel._responses.expected_id += 1
        return True

    world.drop = answer_for_the_gateway
    assert world.run(5000, lambda w: w.closed)
    assert world.now <= 3600 * 1.1 + 3
    assert isinstance(world.error, NoResponse)
    assert "could not be renewed" in world.error.message
    assert 3600 * 0.85 <= asked[0] <= 3600 * 0.95
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert 3 <= len(pauses) <= 12
    assert pauses[0] >= 5
    assert max(pauses) > 60


def test_a_temporary_failure_is_not_followed_by_an_immediate_retry() -> None:
    """RFC 7296 section 2.25."""
    world, scribe = connected()
    exchange = start(world, "child")
    world.to_client(scribe.one(exchange, [notify(NotifyType.TEMPORARY_FAILURE)], message_id=2, response=True), UP)
    before = len(world.log)
    world.run(4.9)
    assert len(world.log) == before
    world.run(6)
    assert len(world.log) > before


def test_a_child_that_the_gateway_does_not_know_is_made_again() -> None:
    """RFC 7296 section 2.25."""
    world, scribe = connected()
    old = child(world)
    exchange = start(world, "child")
    not_found = NotifyPayload(type=NotifyType.CHILD_SA_NOT_FOUND, protocol=ProtocolId.ESP, spi=spi(old.spi_in))
    world.to_client(scribe.one(exchange, [not_found], message_id=2, response=True), UP)
    assert ChildClosed(spi_in=old.spi_in, replaced=False) in world.events
    answer = child_answer(old, 0xC0000001)
    world.to_client(scribe.one(CREATE_CHILD, answer, message_id=3, response=True), UP)
    assert child(world).spi_out == 0xC0000001
    assert not world.closed


def test_a_child_deleted_while_its_rekey_is_refused_leaves_no_empty_ike_sa() -> None:
    """The DELETE comes first, then TEMPORARY_FAILURE: nothing is left to retry, so another one is made."""
    world, scribe = connected()
    world.run(5)
    old = child(world)
    exchange = start(world, "child")
    ask(world, scribe, INFORMATIONAL, [delete_children([old.spi_out])])
    assert not world.closed
    world.to_client(scribe.one(exchange, [notify(NotifyType.TEMPORARY_FAILURE)], message_id=2, response=True), UP)
    answer = child_answer(old, 0xC0000001)
    world.to_client(scribe.one(CREATE_CHILD, answer, message_id=3, response=True), UP)
    assert child(world).spi_out == 0xC0000001


def test_a_child_deleted_before_we_hear_that_it_was_made_is_not_installed() -> None:
    world, scribe = connected()
    old = child(world)
    exchange = start(world, "child")
    ask(world, scribe, INFORMATIONAL, [delete_children([0xC0000001])])
    offer = offer_esp([ESP_GCM], 0xC0000001, esn=False, key_exchange=False)
    answer = [offer, NoncePayload(nonce=b"n" * 32), TsiPayload(selectors=old.local), TsrPayload(selectors=old.remote)]
    world.to_client(scribe.one(exchange, answer, message_id=2, response=True), UP)
    assert len([event for event in world.events if isinstance(event, ChildEstablished)]) == 1
    world.run(20, lambda w: w.closed)
    assert world.closed


# Message IDs and closing


def test_message_ids_never_wrap() -> None:
    """S17: the IKE SA is rekeyed before they run out."""
    world = World()
    world.connect()
    spi_i = world.sa.keying.spi_i
    world.sa.channel.requests.next_id = LAST_MESSAGE_ID - 16
    world.gateway_sa.channel._responses.expected_id = LAST_MESSAGE_ID - 16
    world.at_client(lambda client, now: client.check_liveness(now))
    world.run(2)
    assert world.sa.keying.spi_i != spi_i
    assert world.sa.channel.requests.next_id < 10
    assert_same_state(world)


def test_without_any_message_id_left_the_connection_ends() -> None:
    """S17."""
    world, _ = connected()
    world.sa.channel.requests.next_id = LAST_MESSAGE_ID + 1
    before = len(world.log)
    world.at_client(lambda client, now: client.check_liveness(now))
    assert len(world.log) == before
    assert isinstance(world.error, NoResponse)


def test_the_last_request_id_of_the_gateway_is_the_last() -> None:
    """S17."""
    world, scribe = connected()
    world.sa.channel._responses.expected_id = LAST_MESSAGE_ID
    assert ask(world, scribe, INFORMATIONAL, (), LAST_MESSAGE_ID) == ()
    before = len(world.log)
    world.to_client(scribe.one(INFORMATIONAL, (), message_id=0), UP)
    assert len(world.log) == before


def test_closing_waits_a_moment_for_an_answer_that_is_due_and_then_deletes_in_order() -> None:
    """RFC 7296 section 2.3: a window of one."""
    world = World(weather=Weather(delay=0.1))
    world.connect()
    world.run(1)
    keying = world.sa.keying
    world.at_client(lambda client, now: client.check_liveness(now))
    world.at_client(lambda client, now: client.close(now))
    assert not deletes(world, keying)
    closing = world.now
    assert world.run(3, lambda w: w.closed)
    assert world.now - closing == pytest.approx(0.4)
    assert world.gateway.connected[-1].current.state is State.CLOSED


def test_closing_does_not_wait_long_for_a_dead_gateway() -> None:
    """O4: the DELETE leaves at once or half a second later, and two seconds are the end."""
    for busy in (False, True):
        world, _ = connected()
        keying = world.sa.keying
        if busy:
            world.at_client(lambda client, now: client.check_liveness(now))
        closing = world.now
        world.at_client(lambda client, now: client.close(now))
        assert world.run(5, lambda w: w.closed)
        assert world.now - closing <= 2.0
        assert deletes(world, keying)
        assert world.error is None


def test_a_rekey_that_is_answered_while_closing_leaves_no_ike_sa_behind() -> None:
    world = World(weather=Weather(delay=0.1))
    world.connect()
    world.at_client(lambda client, now: client.rekey(now))
    world.run(0.15)
    world.at_client(lambda client, now: client.close(now))
    world.run(10)
    assert world.error is None
    (ike_sas,) = world.gateway.connected
    assert ike_sas.current.state is State.CLOSED


def crossing() -> tuple[World, Scribe]:
    """Both ends are rekeying the IKE SA: we have answered the gateway's request, and nobody has answered ours."""
    world, scribe = connected()
    world.at_client(lambda client, now: client.rekey(now))
    ask(world, scribe, CREATE_CHILD, ike_rekey())
    assert world.sa.keying == scribe.keying
    return world, scribe


def test_a_refused_rekey_gives_way_to_the_gateways_own_at_once() -> None:
    """S7, RFC 7296 section 2.8.2: the gateway did not notice the crossing and answers TEMPORARY_FAILURE."""
    world, scribe = crossing()
    refusal = [notify(NotifyType.TEMPORARY_FAILURE)]
    world.to_client(scribe.one(CREATE_CHILD, refusal, message_id=2, response=True), UP)
    assert world.sa.keying.spi_i == b"\x07" * 8
    assert len(world.sa.children) == 1


def test_closing_while_rekeys_cross_deletes_the_gateways_new_ike_sa_too() -> None:
    """S7: the gateway may already use it."""
    world, _ = crossing()
    world.at_client(lambda client, now: client.close(now))
    assert b"\x07" * 8 in {sent.data[:8] for sent in world.log if sent.to_gateway}


def test_closing_twice_is_closing_once() -> None:
    world = World()
    world.connect()
    for _ in range(3):
        world.at_client(lambda client, now: client.close(now))
    world.run(3)
    world.at_client(lambda client, now: client.close(now))
    assert [event for event in world.events if isinstance(event, Closed)] == [Closed()]


def test_nothing_moves_after_the_end() -> None:
    world, scribe = connected()
    world.to_client(scribe.one(INFORMATIONAL, delete_ike_sa(), message_id=0), UP)
    before = len(world.log), len(world.events)
    world.to_client(scribe.one(INFORMATIONAL, (), message_id=1), UP)
    for action in ("rekey", "check_liveness"):
        world.at_client(lambda client, now, action=action: getattr(client, action)(now))
    world.at_client(lambda client, now: client.rekey_child(4711, now))
    world.at_client(lambda client, now: client.heard(now))
    world.client.handle_timer(world.now + 100)
    assert (len(world.log), len(world.events)) == before
    assert world.client.next_deadline() is None
