"""MOBIKE as the client speaks it (RFC 4555), against a gateway that has the keys and means no good (S12, S19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from sim_gateway import GatewaySetup
from sim_script import INFORMATIONAL, Scribe, notify, opened
from sim_world import PATH, World, altered, client_config

from ikeclient.errors import ProtocolError
from ikeclient.ike.events import (
    Closed,
    Event,
    GatewayAddresses,
    HeardElsewhere,
    NatStatus,
    Path,
    PathChanged,
    PathRefused,
    Roamed,
)
from ikeclient.ike.v2.exchanges.mobike import (
    COOKIE2_LENGTH,
    MAX_ADDITIONAL,
    MoveAnswered,
    PathSeen,
    additional_addresses,
    look_at_path,
    update_addresses,
)
from ikeclient.ike.v2.rules.nat import detection_hash, detection_notifies
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType

SPI_I, SPI_R = b"i" * 8, b"r" * 8
COOKIE = bytes(range(COOKIE2_LENGTH))
HERE = replace(PATH, remote_port=4500)
MOVED = replace(HERE, local_address=ip_address("198.51.100.10"))
ELSEWHERE = replace(HERE, remote_address=ip_address("203.0.113.99"))

# One exchange


def answered(*answer: Payload) -> MoveAnswered:
    exchange = update_addresses(SPI_I, SPI_R, HERE, COOKIE)
    next(exchange)
    with pytest.raises(StopIteration) as stop:
        exchange.send(answer)
    return stop.value.value  # type: ignore[no-any-return]


def test_the_request_names_no_address_but_asks_for_a_cookie() -> None:
    """Section 3.5: the addresses are those of the IP header; sections 3.7 and 3.8: COOKIE2 and NAT detection."""
    request = next(update_addresses(SPI_I, SPI_R, HERE, COOKIE))
    assert request.exchange == INFORMATIONAL
    assert request.payloads == (
        notify(NotifyType.UPDATE_SA_ADDRESSES),
        *detection_notifies(SPI_I, SPI_R, HERE, encapsulate=True),
        notify(NotifyType.COOKIE2, COOKIE),
    )


def test_a_cookie_that_comes_back_confirms_the_path() -> None:
    mapping = detection_hash(SPI_I, SPI_R, ip_address("198.51.100.1"), 1024)
    seen = notify(NotifyType.NAT_DETECTION_DESTINATION_IP, mapping)
    moved = answered(notify(NotifyType.COOKIE2, COOKIE), seen)
    roamed = Roamed(path=HERE, nat=NatStatus(local=True, remote=False))
    assert moved == MoveAnswered(event=roamed, mapping=mapping)


@pytest.mark.parametrize(
    "cookies",
    [[], [b""], [COOKIE[:7]], [COOKIE + bytes(49)], [COOKIE[:-1]], [COOKIE[:-1] + b"\0"], [COOKIE, COOKIE]],
    ids=["none", "empty", "7 bytes", "65 bytes", "shorter", "another", "two"],
)
def test_a_cookie_that_does_not_come_back_as_it_was_is_an_error(cookies: Sequence[bytes]) -> None:
    """S12, section 3.7: the SA must be closed then."""
    exchange = update_addresses(SPI_I, SPI_R, HERE, COOKIE)
    next(exchange)
    with pytest.raises(ProtocolError, match="COOKIE2"):
        exchange.send(tuple(notify(NotifyType.COOKIE2, cookie) for cookie in cookies))


@pytest.mark.parametrize("type_", [NotifyType.UNACCEPTABLE_ADDRESSES, NotifyType.UNEXPECTED_NAT_DETECTED])
@pytest.mark.parametrize("cookie", [(), (notify(NotifyType.COOKIE2, COOKIE),)])
def test_a_refusal_is_told_and_confirms_nothing(type_: NotifyType, cookie: tuple[Payload, ...]) -> None:
    """S12, sections 3.5 and 3.9."""
    refused = answered(notify(type_), *cookie)
    assert refused.event == PathRefused(path=HERE, reason=str(type_))


def test_a_liveness_check_tells_how_the_gateway_sees_us() -> None:
    exchange = look_at_path(SPI_I, SPI_R, HERE)
    assert next(exchange).payloads == detection_notifies(SPI_I, SPI_R, HERE, encapsulate=True)
    with pytest.raises(StopIteration) as stop:
        exchange.send((notify(NotifyType.NAT_DETECTION_DESTINATION_IP, b"m" * 20),))
    assert stop.value.value == PathSeen(path=HERE, mapping=b"m" * 20)


# The gateway's addresses


def announced(*addresses: str) -> list[Payload]:
    kinds = {4: NotifyType.ADDITIONAL_IP4_ADDRESS, 6: NotifyType.ADDITIONAL_IP6_ADDRESS}
    return [notify(kinds[a.version], a.packed) for a in map(ip_address, addresses)]


IMPOSSIBLE = (
    *("127.0.0.1", "127.255.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "169.254.1.1", "240.0.0.1"),
    *("::1", "::", "ff02::1", "fe80::1", "::ffff:203.0.113.1", "::ffff:127.0.0.1"),
)


@pytest.mark.parametrize("address", IMPOSSIBLE)
def test_an_address_that_no_gateway_can_have_is_left_out(address: str) -> None:
    """S12."""
    assert additional_addresses(announced(address)) == ()
    assert additional_addresses(announced(address, "203.0.113.9")) == (ip_address("203.0.113.9"),)


def test_a_thousand_addresses_are_capped_before_anything_is_done_about_them() -> None:
    """S12."""
    many = [str(IPv4Address("203.0.113.0") + n) for n in range(1000)]
    mixed = [address for pair in zip(IMPOSSIBLE * 77, many, strict=False) for address in pair]
    found = additional_addresses(announced(*mixed))
    assert found == tuple(map(ip_address, many[:MAX_ADDITIONAL]))
    assert MAX_ADDITIONAL <= 8


@pytest.mark.parametrize("length", [0, 3, 5, 16])
def test_an_address_of_another_length_is_none(length: int) -> None:
    assert additional_addresses([notify(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes(length))]) is None


def test_the_gateway_may_take_its_addresses_back() -> None:
    """Section 3.6."""
    assert additional_addresses([notify(NotifyType.NO_ADDITIONAL_ADDRESSES)]) == ()
    assert additional_addresses([]) is None


# A connection, with somebody at its other end who has the gateway's keys


def connected() -> tuple[World, Scribe]:
    config = altered(client_config(), liveness=0.0)
    world = World(config=config, setup=GatewaySetup(liveness=0.0, mobike=True))
    world.connect()
    world.run(1)
    world.drop = lambda _: True
    world.events.clear()
    world.log.clear()
    return world, Scribe(world.sa.keying)


def move(world: World, path: Path, *, proven: bool = True) -> None:
    world.at_client(lambda client, now: client.path_changed(path, now, proven=proven))


def cookie_in(world: World, at: int = -1) -> bytes:
    payloads = opened(world.log[at].data, world.sa.keying)
    (cookie,) = [p.data for p in payloads if isinstance(p, NotifyPayload) and p.type == NotifyType.COOKIE2]
    return cookie


def answer(world: World, scribe: Scribe, *payloads: Payload, path: Path = HERE) -> None:
    pending = world.sa.channel.requests.pending
    assert pending is not None
    data = scribe.one(INFORMATIONAL, payloads, message_id=pending.message_id, response=True)
    world.to_client(data, path)
    world.run(0.01)


def paths_in(world: World) -> list[Event]:
    return [event for event in world.events if isinstance(event, PathChanged | Roamed | PathRefused)]


def test_a_new_address_of_ours_is_used_at_once_and_confirmed_later() -> None:
    world, scribe = connected()
    move(world, MOVED)
    assert paths_in(world) == [PathChanged(path=MOVED)]
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie_in(world)), path=MOVED)
    assert [type(event) for event in paths_in(world)] == [PathChanged, Roamed]


def test_traffic_follows_to_an_address_of_the_gateways_only_when_it_has_answered_there() -> None:
    """S19: it may have announced somebody else's."""
    world, scribe = connected()
    move(world, ELSEWHERE, proven=False)
    assert [sent.path for sent in world.log] == [ELSEWHERE]
    world.run(5)
    assert paths_in(world) == []
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie_in(world)), path=ELSEWHERE)
    assert [event.path for event in paths_in(world) if isinstance(event, Roamed)] == [ELSEWHERE]


def test_a_cookie_that_also_went_elsewhere_does_not_prove_an_address() -> None:
    """S19: the gateway may have read it at its own address, and answers for that of somebody else."""
    world, scribe = connected()
    move(world, ELSEWHERE, proven=False)
    cookie = cookie_in(world)
    move(world, HERE)  # the request without an answer is repeated here,
    move(world, ELSEWHERE, proven=False)  # and the third party comes next again
    world.events.clear()
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie))
    assert paths_in(world) == []
    assert cookie_in(world) != cookie
    assert world.log[-1].path == ELSEWHERE
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie_in(world)), path=ELSEWHERE)
    assert [type(event) for event in paths_in(world)] == [Roamed]


def test_the_old_address_does_not_answer_for_the_new_one() -> None:
    """S19: a request that was sent before the move says nothing about where the client went."""
    world, scribe = connected()
    move(world, HERE)
    cookie = cookie_in(world)
    world.events.clear()
    move(world, ELSEWHERE, proven=False)
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie))
    assert paths_in(world) == []


@pytest.mark.parametrize("cookie", [b"", b"c" * 7, b"c" * 16, b"c" * 65])
def test_a_wrong_cookie_ends_the_ike_sa(cookie: bytes) -> None:
    """S12, section 3.7: MUST close."""
    world, scribe = connected()
    move(world, MOVED)
    answer(world, scribe, notify(NotifyType.COOKIE2, cookie), path=MOVED)
    assert not any(isinstance(event, Roamed) for event in world.events)
    world.run(10)
    (closed,) = [event for event in world.events if isinstance(event, Closed)]
    assert closed.error is not None
    assert "COOKIE2" in " ".join(closed.error.lines())


@pytest.mark.parametrize("type_", [NotifyType.UNACCEPTABLE_ADDRESSES, NotifyType.UNEXPECTED_NAT_DETECTED])
def test_a_refused_path_does_not_end_the_connection(type_: NotifyType) -> None:
    """S12."""
    world, scribe = connected()
    move(world, ELSEWHERE, proven=False)
    answer(world, scribe, notify(type_), path=ELSEWHERE)
    assert paths_in(world) == [PathRefused(path=ELSEWHERE, reason=str(type_))]
    assert not world.closed


def test_a_forged_answer_confirms_nothing() -> None:
    world, scribe = connected()
    move(world, ELSEWHERE, proven=False)
    cookie = notify(NotifyType.COOKIE2, cookie_in(world))
    data = bytearray(
        scribe.one(INFORMATIONAL, (cookie,), message_id=world.sa.channel.requests.next_id - 1, response=True)
    )
    data[-1] ^= 1
    world.to_client(bytes(data), ELSEWHERE)
    assert paths_in(world) == []


def test_only_the_client_moves_the_connection() -> None:
    """S12: UPDATE_SA_ADDRESSES is for the initiator to send (section 3.5); from the gateway it changes nothing."""
    world, scribe = connected()
    request = (notify(NotifyType.UPDATE_SA_ADDRESSES), notify(NotifyType.COOKIE2, b"c" * 16))
    world.to_client(scribe.one(INFORMATIONAL, request, message_id=0), ELSEWHERE)
    world.run(5)
    assert [opened(sent.data, world.sa.keying) for sent in world.log] == [(notify(NotifyType.COOKIE2, b"c" * 16),)]
    assert paths_in(world) == []
    assert world.sa.channel.path == HERE
    assert not world.closed


def test_announced_addresses_are_told_and_nothing_is_sent_there() -> None:
    """S12, S19: whether and how often one is asked is for the owner of the sockets to decide."""
    world, scribe = connected()
    request = announced("203.0.113.9", "127.0.0.1", "2001:db8::9", "224.0.0.1")
    world.to_client(scribe.one(INFORMATIONAL, request, message_id=0), HERE)
    world.run(5)
    told = [event for event in world.events if isinstance(event, GatewayAddresses)]
    assert told == [GatewayAddresses(addresses=(ip_address("203.0.113.9"), ip_address("2001:db8::9")))]
    assert {sent.path for sent in world.log} == {HERE}


def test_a_request_from_another_address_is_told_and_answered_there() -> None:
    """Section 3.6: the gateway may have moved. Neither a replay nor a forgery of it says anything."""
    world, scribe = connected()
    request = scribe.one(INFORMATIONAL, (), message_id=0)
    broken = bytearray(request)
    broken[-1] ^= 1
    world.to_client(bytes(broken), ELSEWHERE)
    assert not any(isinstance(event, HeardElsewhere) for event in world.events)
    for _ in range(2):
        world.to_client(request, ELSEWHERE)
    told = [event for event in world.events if isinstance(event, HeardElsewhere)]
    assert told == [HeardElsewhere(address=ELSEWHERE.remote_address)]
    world.run(5)
    assert {sent.path for sent in world.log} == {ELSEWHERE}
    assert world.sa.channel.path == HERE
