"""Both ends of rekeying a Child SA, joined without any network in between."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from sim_gateway import ESP_GCM, NET, ipv4
from sim_script import notify

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.keymat import ChildKeys, DirectionKeys, IkeKeys, child_keys
from ikeclient.crypto.algorithms.transforms import (
    ENCRYPTION,
    INTEGRITY,
    KEY_EXCHANGE,
    PRF,
    AlgorithmProposal,
    EspSuite,
    IkeSuite,
    KeyExchange,
)
from ikeclient.errors import KeyExchangeError, ParseError, ProtocolError
from ikeclient.ike.v2.child.child_sa import ChildRekeyed, ChildSa
from ikeclient.ike.v2.exchanges.rekey_child import (
    ChildRekeyRefused,
    ChildTerms,
    answer_rekey_child,
    rekey_child,
    rekeying_proposals,
)
from ikeclient.ike.v2.keying import Keying
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, KeyExchangeId, NotifyType, ProtocolId, TransformType
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TsiPayload, TsrPayload

X25519, ECP256, ECP384 = KEY_EXCHANGE["x25519"], KEY_EXCHANGE["ecp256"], KEY_EXCHANGE["ecp384"]
PRF_256, SK_D = PRF["prfsha256"], b"d" * 32
GCM_256 = AlgorithmProposal(encryption=(ENCRYPTION["aes256gcm16"],))
CBC = AlgorithmProposal(encryption=(ENCRYPTION["aes256"],), integrity=(INTEGRITY["sha256"],))
HERE, THERE = (ipv4("10.88.0.1/32"),), (NET,)


def child(*, ours: bool) -> ChildSa:
    direction = DirectionKeys(encryption=bytes(20), integrity=b"")
    spis = (0xA0000001, 0xB0000001) if ours else (0xB0000001, 0xA0000001)
    return ChildSa(
        spi_in=spis[0],
        spi_out=spis[1],
        suite=EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None, esn=True),
        keys=ChildKeys(inbound=direction, outbound=direction),
        local=HERE if ours else THERE,
        remote=THERE if ours else HERE,
    )


def terms(
    seed: str,
    old: ChildSa,
    proposals: Sequence[AlgorithmProposal],
    spi_in: int,
    *,
    spare: Sequence[KeyExchange] = (),
    esn: bool = True,
) -> ChildTerms:
    suite = IkeSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None, prf=PRF_256, key_exchange=X25519)
    keys = IkeKeys(d=SK_D, ai=b"", ar=b"", ei=b"", er=b"", pi=b"", pr=b"")
    return ChildTerms(
        old=old,
        proposals=proposals,
        keying=Keying(spi_i=bytes(8), spi_r=bytes(8), suite=suite, keys=keys, initiator=True, fragmentation=False),
        spi_in=spi_in,
        esn=esn,
        spare=spare,
        entropy=random.Random(seed).randbytes,
    )


class Peer:
    """The other end: answers requests and counts them."""

    def __init__(self, *proposals: AlgorithmProposal, spare: Sequence[KeyExchange] = (), esn: bool = True) -> None:
        self.proposals, self.spare, self.esn = proposals, spare, esn
        self.requests: list[tuple[Payload, ...]] = []
        self.rekeyed: ChildRekeyed | None = None

    def answer(self, payloads: tuple[Payload, ...]) -> tuple[Payload, ...]:
        self.requests.append(payloads)
        reply, self.rekeyed = answer_rekey_child(
            terms("peer", child(ours=False), self.proposals, 0xB0000002, spare=self.spare, esn=self.esn), payloads
        )
        return reply


def ours(*proposals: AlgorithmProposal, spare: Sequence[KeyExchange] = (), esn: bool = True):  # type: ignore[no-untyped-def]
    return rekey_child(terms("ours", child(ours=True), proposals, 0xA0000002, spare=spare, esn=esn))


def played(exchange, peer: Peer) -> ChildRekeyed | ChildRekeyRefused:  # type: ignore[no-untyped-def]
    request = next(exchange)
    for _ in range(10):
        try:
            request = exchange.send(peer.answer(request.payloads))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
    raise AssertionError("no end")


def agree(result: ChildRekeyed | ChildRekeyRefused, peer: Peer) -> EspSuite:
    assert isinstance(result, ChildRekeyed)
    assert peer.rekeyed is not None
    mine, theirs = result.child, peer.rekeyed.child
    assert (mine.spi_in, mine.spi_out) == (theirs.spi_out, theirs.spi_in)
    assert (mine.keys.inbound, mine.keys.outbound) == (theirs.keys.outbound, theirs.keys.inbound)
    assert (mine.local, mine.remote) == (theirs.remote, theirs.local)
    assert result.nonces == peer.rekeyed.nonces
    assert mine.suite == theirs.suite
    return mine.suite


def test_without_a_key_exchange_one_round_trip_makes_the_same_keys() -> None:
    peer = Peer(ESP_GCM)
    suite = agree(played(ours(ESP_GCM), peer), peer)
    assert suite.key_exchange is None
    (request,) = peer.requests
    assert [type(p).__name__ for p in request] == [
        "NotifyPayload",
        "SaPayload",
        "NoncePayload",
        "TsiPayload",
        "TsrPayload",
    ]
    assert request[0] == NotifyPayload(
        type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=(0xA0000001).to_bytes(4, "big")
    )


def test_the_keys_are_those_of_the_standard() -> None:
    """RFC 7296 section 2.17: KEYMAT from SK_d and both nonces, and with a key exchange its secret in front."""
    peer = Peer(ESP_GCM)
    result = played(ours(ESP_GCM), peer)
    assert isinstance(result, ChildRekeyed)
    assert result.child.keys == child_keys(PRF_256, result.child.suite, SK_D, *result.nonces, initiator=True)

    with_group = replace(ESP_GCM, key_exchange=(X25519,))
    peer = Peer(with_group)
    result = played(ours(with_group), peer)
    assert isinstance(result, ChildRekeyed)
    plain = child_keys(PRF_256, result.child.suite, SK_D, *result.nonces, initiator=True)
    assert result.child.keys != plain


def test_the_first_group_is_tried_first_and_another_on_request() -> None:
    both = replace(ESP_GCM, key_exchange=(X25519, ECP256))
    peer = Peer(replace(ESP_GCM, key_exchange=(ECP256,)))
    assert agree(played(ours(both), peer), peer).key_exchange == ECP256
    methods = [next(p.method for p in request if isinstance(p, KePayload)) for request in peer.requests]
    assert methods == [KeyExchangeId.CURVE25519, KeyExchangeId.ECP_256]


def test_the_nonce_is_fresh_in_every_request() -> None:
    both = replace(ESP_GCM, key_exchange=(X25519, ECP256))
    peer = Peer(replace(ESP_GCM, key_exchange=(ECP256,)))
    played(ours(both), peer)
    nonces = [next(p.nonce for p in request if isinstance(p, NoncePayload)) for request in peer.requests]
    assert len(set(nonces)) == 2


def test_a_group_of_a_later_proposal_can_be_asked_for() -> None:
    peer = Peer(replace(CBC, key_exchange=(ECP256,)))
    proposals = (ESP_GCM, replace(CBC, key_exchange=(ECP256,)))
    suite = agree(played(ours(*proposals), peer), peer)
    assert (suite.encryption.keyword, suite.key_exchange) == ("aes256", ECP256)


@pytest.mark.parametrize("theirs", [X25519, ECP256])
def test_a_peer_that_insists_on_a_group_gets_a_spare_one(theirs: KeyExchange) -> None:
    peer = Peer(replace(ESP_GCM, key_exchange=(theirs,)))
    assert agree(played(ours(ESP_GCM, spare=(X25519, ECP256)), peer), peer).key_exchange == theirs


def test_a_peer_that_sends_a_group_of_the_spare_ones_is_served() -> None:
    with_group = replace(ESP_GCM, key_exchange=(ECP256,))
    peer = Peer(ESP_GCM, spare=(X25519, ECP256))
    assert agree(played(ours(with_group), peer), peer).key_exchange == ECP256
    assert len(peer.requests) == 1


def test_a_group_that_nobody_configured_is_not_accepted() -> None:
    peer = Peer(ESP_GCM, spare=(X25519,))
    result = played(ours(replace(ESP_GCM, key_exchange=(ECP384,))), peer)
    assert result == ChildRekeyRefused(old=0xA0000001, type=NotifyType.NO_PROPOSAL_CHOSEN)


def test_a_profile_with_groups_refuses_to_go_without() -> None:
    """S6."""
    peer = Peer(replace(ESP_GCM, key_exchange=(X25519,)), spare=(X25519,))
    result = played(ours(ESP_GCM), peer)
    assert result == ChildRekeyRefused(old=0xA0000001, type=NotifyType.NO_PROPOSAL_CHOSEN)


def test_our_groups_are_not_given_up_when_the_peer_refuses() -> None:
    """S6."""
    exchange = ours(replace(ESP_GCM, key_exchange=(X25519,)), spare=(X25519, ECP256))
    next(exchange)
    with pytest.raises(StopIteration) as stop:
        exchange.send((notify(NotifyType.NO_PROPOSAL_CHOSEN),))
    assert stop.value.value == ChildRekeyRefused(old=0xA0000001, type=NotifyType.NO_PROPOSAL_CHOSEN)


@pytest.mark.parametrize("data", [b"", b"\0", (2).to_bytes(2, "big"), (31).to_bytes(2, "big"), (31).to_bytes(4, "big")])
def test_a_wish_for_a_group_that_was_not_offered_or_was_sent_ends_the_attempt(data: bytes) -> None:
    exchange = ours(replace(ESP_GCM, key_exchange=(X25519, ECP256)))
    next(exchange)
    with pytest.raises(StopIteration) as stop:
        exchange.send((notify(NotifyType.INVALID_KE_PAYLOAD, data),))
    assert isinstance(stop.value.value, ChildRekeyRefused)


def test_wishes_for_groups_do_not_go_on_for_ever() -> None:
    exchange = ours(replace(ESP_GCM, key_exchange=(X25519, ECP256)), spare=(X25519, ECP256, ECP384))
    next(exchange)
    exchange.send((notify(NotifyType.INVALID_KE_PAYLOAD, (19).to_bytes(2, "big")),))
    with pytest.raises(StopIteration):
        exchange.send((notify(NotifyType.INVALID_KE_PAYLOAD, (31).to_bytes(2, "big")),))


def test_the_cipher_in_use_is_offered_first() -> None:
    suite = EspSuite(encryption=ENCRYPTION["aes256"], integrity=INTEGRITY["sha256"])
    assert rekeying_proposals((ESP_GCM, GCM_256, CBC), suite) == (CBC, ESP_GCM, GCM_256)


def good_answer(exchange, peer: Peer) -> list[Payload]:  # type: ignore[no-untyped-def]
    return list(peer.answer(next(exchange).payloads))


def finish(exchange, answer: tuple[Payload, ...]) -> ChildRekeyed | ChildRekeyRefused:  # type: ignore[no-untyped-def]
    with pytest.raises(StopIteration) as stop:
        exchange.send(answer)
    return stop.value.value  # type: ignore[no-any-return]


def swap(payloads: Sequence[Payload], other: Payload) -> tuple[Payload, ...]:
    return tuple(other if type(p) is type(other) else p for p in payloads)


@pytest.mark.parametrize(
    "other",
    [
        KePayload(method=KeyExchangeId.ECP_256, data=bytes(64)),
        KePayload(method=KeyExchangeId.CURVE25519, data=bytes(32)),
        KePayload(method=KeyExchangeId.CURVE25519, data=b""),
        TsiPayload(selectors=(ipv4("10.88.0.2/32"),)),
        TsrPayload(selectors=(ipv4("10.98.0.0/24"),)),
        SaPayload(proposals=()),
    ],
)
def test_an_answer_that_fits_no_offer_is_an_error(other: Payload) -> None:
    """N9, K11, K16."""
    with_group = replace(ESP_GCM, key_exchange=(X25519,))
    exchange, peer = ours(with_group), Peer(with_group)
    payloads = good_answer(exchange, peer)
    with pytest.raises(ProtocolError):
        exchange.send(swap(payloads, other))


def test_of_a_wider_answer_only_what_was_asked_for_is_taken() -> None:
    """K11, K21."""
    exchange, peer = ours(ESP_GCM), Peer(ESP_GCM)
    wide = swap(good_answer(exchange, peer), TsiPayload(selectors=(ipv4("0.0.0.0/0"),)))
    rekeyed = finish(exchange, swap(wide, TsrPayload(selectors=(ipv4("0.0.0.0/0"),))))
    assert isinstance(rekeyed, ChildRekeyed)
    assert (rekeyed.child.local, rekeyed.child.remote) == (HERE, THERE)


@pytest.mark.parametrize("tsi", ["0.0.0.0/0", "10.88.0.0/24", "10.88.0.1/32", "10.88.0.2/32"])
def test_the_inner_address_outlives_every_rekey(tsi: str) -> None:
    """K21: TSi stays as wide as the gateway agreed to, what is installed stays the inner address."""
    wide = replace(child(ours=True), local=(ipv4("0.0.0.0/0"),), addresses=(ip_address("10.88.0.1"),))
    exchange = rekey_child(terms("ours", wide, [ESP_GCM], 0xA0000002))
    request = next(exchange).payloads
    assert TsiPayload(selectors=wide.local) in request
    answer = Peer(ESP_GCM).answer(swap(request, TsiPayload(selectors=HERE)))
    answer = swap(answer, TsiPayload(selectors=(ipv4(tsi),)))
    if tsi == "10.88.0.2/32":
        with pytest.raises(ProtocolError, match="TSi"):
            exchange.send(answer)
        return
    rekeyed = finish(exchange, answer)
    assert isinstance(rekeyed, ChildRekeyed)
    assert rekeyed.child.installed_local == HERE


@pytest.mark.parametrize(
    ("tsi", "passes"),
    [
        (["10.88.0.1/32", "fd88::1/128"], True),
        (["0.0.0.0/0", "::/0"], True),
        (["10.88.0.1/32"], False),
        (["fd88::1/128"], False),
    ],
)
def test_none_of_several_inner_addresses_is_left_behind_by_a_rekey(tsi: list[str], passes: bool) -> None:
    """K11, K21: the machine goes on sending from it, and nothing of that would pass."""
    here = (ipv4("10.88.0.1/32"), ipv4("fd88::1/128"))
    both = replace(child(ours=True), local=here, addresses=(ip_address("10.88.0.1"), ip_address("fd88::1")))
    exchange = rekey_child(terms("ours", both, [ESP_GCM], 0xA0000002))
    answer = Peer(ESP_GCM).answer(swap(next(exchange).payloads, TsiPayload(selectors=HERE)))
    answer = swap(answer, TsiPayload(selectors=tuple(map(ipv4, tsi))))
    if passes:
        rekeyed = finish(exchange, answer)
        assert isinstance(rekeyed, ChildRekeyed)
        assert rekeyed.child.installed_local == here
    else:
        with pytest.raises(ProtocolError, match="TSi"):
            exchange.send(answer)


def test_the_inner_address_outlives_a_rekey_by_the_gateway() -> None:
    """K21."""
    everything = (ipv4("0.0.0.0/0"),)
    wide = replace(child(ours=True), local=everything, addresses=(ip_address("10.88.0.1"),))
    request = swap(next(ours(ESP_GCM)).payloads, TsrPayload(selectors=everything))
    request = swap(request, TsiPayload(selectors=everything))
    _, rekeyed = answer_rekey_child(terms("answer", wide, [ESP_GCM], 0xA0000003), request)
    assert rekeyed is not None
    assert (rekeyed.child.local, rekeyed.child.installed_local) == (everything, HERE)


@pytest.mark.parametrize("missing", [SaPayload, NoncePayload, TsiPayload, TsrPayload])
def test_an_answer_without_a_payload_it_needs_is_an_error(missing: type[Payload]) -> None:
    with_group = replace(ESP_GCM, key_exchange=(X25519,))
    exchange, peer = ours(with_group), Peer(with_group)
    payloads = good_answer(exchange, peer)
    with pytest.raises(ParseError):
        exchange.send(tuple(p for p in payloads if not isinstance(p, missing)))


def without_share(payloads: Sequence[Payload], *, transform: bool) -> tuple[Payload, ...]:
    """An answer of a gateway that overlooks the key exchange; `transform` whether it names the group nevertheless."""
    (sa,) = [p for p in payloads if isinstance(p, SaPayload)]
    (proposal,) = sa.proposals
    kept = tuple(t for t in proposal.transforms if transform or t.type != TransformType.KEY_EXCHANGE)
    answer = swap(payloads, SaPayload(proposals=(replace(proposal, transforms=kept),)))
    return tuple(p for p in answer if not isinstance(p, KePayload))


DELETE = (DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=((0xA0000002).to_bytes(4, "big"),)),)


@pytest.mark.parametrize("transform", [False, True])
def test_a_child_without_the_key_exchange_that_was_demanded_is_deleted_and_the_old_one_goes_on(transform: bool) -> None:
    """K16: Windows answers a rekey so; the connection does not end for that."""
    with_group = replace(ESP_GCM, key_exchange=(X25519,))
    exchange, peer = ours(with_group), Peer(with_group)
    deleting = exchange.send(without_share(good_answer(exchange, peer), transform=transform))
    assert (deleting.exchange, deleting.payloads) == (ExchangeType.INFORMATIONAL, DELETE)
    assert finish(exchange, ()) == ChildRekeyRefused(old=0xA0000001, type=NotifyType.NO_PROPOSAL_CHOSEN)


@pytest.mark.parametrize("refusal", [None, NotifyType.CHILD_SA_NOT_FOUND, NotifyType.TEMPORARY_FAILURE])
def test_where_the_profile_allows_it_the_rekey_is_repeated_without_a_key_exchange(
    refusal: NotifyType | None,
) -> None:
    """K16: also with a gateway that takes the old Child SA for replaced already."""
    proposals = (replace(ESP_GCM, key_exchange=(X25519,)), ESP_GCM)
    exchange, peer = ours(*proposals), Peer(proposals[0])
    deleting = exchange.send(without_share(good_answer(exchange, peer), transform=True))
    assert (deleting.exchange, deleting.payloads) == (ExchangeType.INFORMATIONAL, DELETE)
    again = exchange.send(())
    assert not any(isinstance(p, KePayload) for p in again.payloads)
    assert notify_types(again.payloads) == [NotifyType.REKEY_SA]
    if refusal is not None:
        again = exchange.send((notify(refusal),))
        assert notify_types(again.payloads) == []
    plain = Peer(ESP_GCM)
    suite = agree(finish(exchange, plain.answer(again.payloads)), plain)
    assert suite.key_exchange is None


def test_an_answer_without_a_key_exchange_is_good_if_such_a_proposal_was_offered() -> None:
    """Under whatever number."""
    proposals = (replace(ESP_GCM, key_exchange=(X25519,)), ESP_GCM)
    exchange, peer = ours(*proposals), Peer(proposals[0])
    rekeyed = finish(exchange, without_share(good_answer(exchange, peer), transform=False))
    assert isinstance(rekeyed, ChildRekeyed)
    assert rekeyed.child.suite.key_exchange is None


def test_a_gateway_that_leaves_out_the_key_exchange_for_ever_is_left_alone() -> None:
    proposals = (replace(ESP_GCM, key_exchange=(X25519,)), ESP_GCM)
    exchange, peer = ours(*proposals), Peer(proposals[0])
    answer = without_share(good_answer(exchange, peer), transform=True)
    exchange.send(answer)
    exchange.send(())
    with pytest.raises(ProtocolError):  # a group that was not offered this time
        exchange.send(answer)


def notify_types(payloads: Sequence[Payload]) -> list[NotifyType]:
    return [p.type for p in payloads if isinstance(p, NotifyPayload)]


def test_a_peer_that_says_nothing_about_sequence_numbers_gets_short_ones() -> None:
    """The same silence in a request as in an answer; ours then says nothing either."""
    request = next(ours(ESP_GCM)).payloads
    (sa,) = [p for p in request if isinstance(p, SaPayload)]
    (proposal,) = sa.proposals
    kept = tuple(t for t in proposal.transforms if t.type != TransformType.SEQUENCE_NUMBERS)
    peer = Peer(ESP_GCM)
    reply = peer.answer(swap(request, SaPayload(proposals=(replace(proposal, transforms=kept),))))
    (answer,) = [p for p in reply if isinstance(p, SaPayload)]
    assert {t.type for t in answer.proposals[0].transforms} == {TransformType.ENCRYPTION}
    assert peer.rekeyed is not None
    assert not peer.rekeyed.child.suite.esn


def test_a_group_in_the_answer_that_we_sent_no_share_for_is_an_error() -> None:
    """The second proposal was chosen, whose group needs a KE payload that the request did not have."""
    with_group = replace(CBC, key_exchange=(X25519,))
    exchange = ours(ESP_GCM, with_group)
    request = next(exchange)
    peer = Peer(with_group)
    share = generate(X25519, random.Random(1).randbytes)
    ke = KePayload(method=share.method.id, data=share.public)
    answer = peer.answer((*request.payloads, ke))
    with pytest.raises(ParseError):
        exchange.send(answer)


@pytest.mark.parametrize("missing", [SaPayload, NoncePayload, TsiPayload, TsrPayload])
def test_a_request_without_a_payload_it_needs_is_an_error(missing: type[Payload]) -> None:
    request = next(ours(ESP_GCM)).payloads
    with pytest.raises(ParseError):
        Peer(ESP_GCM).answer(tuple(p for p in request if not isinstance(p, missing)))


def test_a_bad_public_value_in_a_request_is_an_error() -> None:
    """RFC 6989."""
    with_group = replace(ESP_GCM, key_exchange=(X25519,))
    request = list(next(ours(with_group)).payloads)
    with pytest.raises(KeyExchangeError):
        Peer(with_group).answer(swap(request, KePayload(method=KeyExchangeId.CURVE25519, data=bytes(32))))


def test_short_sequence_numbers_are_agreed_on_when_one_end_wants_them() -> None:
    for mine, theirs in ((True, False), (False, True)):
        peer = Peer(ESP_GCM, esn=theirs)
        assert not agree(played(ours(ESP_GCM, esn=mine), peer), peer).esn


HALVES = (ipv4("10.99.0.0/25"), ipv4("10.99.0.128/25"))


def test_a_request_with_the_selectors_in_halves_is_agreed_to() -> None:
    """RFC 7296 section 2.9.2: together they are no narrower than those in use."""
    request = swap(next(ours(ESP_GCM)).payloads, TsrPayload(selectors=HALVES))
    peer = Peer(ESP_GCM)
    assert TsrPayload(selectors=HALVES) in peer.answer(request)
    assert peer.rekeyed is not None
    assert peer.rekeyed.child.local == HALVES


def test_a_request_with_one_half_only_is_refused() -> None:
    """RFC 7296 section 2.9.2."""
    request = swap(next(ours(ESP_GCM)).payloads, TsrPayload(selectors=HALVES[:1]))
    assert Peer(ESP_GCM).answer(request) == (notify(NotifyType.TS_UNACCEPTABLE),)


def test_an_answer_with_the_selectors_in_halves_is_taken() -> None:
    exchange, peer = ours(ESP_GCM), Peer(ESP_GCM)
    rekeyed = finish(exchange, swap(good_answer(exchange, peer), TsrPayload(selectors=HALVES)))
    assert isinstance(rekeyed, ChildRekeyed)
    assert rekeyed.child.remote == HALVES


LIMITS = [
    {"protocol": 6},
    {"start_port": 0, "end_port": 1023},
    {"protocol": 17, "start_port": 65535, "end_port": 0},
]


@pytest.mark.parametrize("limit", LIMITS, ids=str)
@pytest.mark.parametrize("kind", [TsiPayload, TsrPayload])
def test_an_answer_that_carries_fewer_protocols_or_ports_is_deleted(
    kind: type[TsiPayload | TsrPayload], limit: dict[str, int]
) -> None:
    """S6, RFC 7296 section 2.9.2: it would pass for a tunnel, and drop most of what was carried before."""
    old = replace(child(ours=True), addresses=(ip_address("10.88.0.1"),))
    exchange = rekey_child(terms("ours", old, [ESP_GCM], 0xA0000002))
    answer = Peer(ESP_GCM).answer(next(exchange).payloads)
    (whole,) = next(payload for payload in answer if isinstance(payload, kind)).selectors
    deleting = exchange.send(swap(answer, kind(selectors=(replace(whole, **limit),))))
    assert deleting.exchange == ExchangeType.INFORMATIONAL
    refused = ChildRekeyRefused(old=old.spi_in, type=NotifyType.TS_UNACCEPTABLE, narrowed=True)
    assert finish(exchange, ()) == refused


def test_an_answer_that_carries_less_is_deleted_and_the_old_child_goes_on() -> None:
    """RFC 7296 section 2.9.2: this machine's routes would lead packets to where they are dropped."""
    exchange, peer = ours(ESP_GCM), Peer(ESP_GCM)
    deleting = exchange.send(swap(good_answer(exchange, peer), TsrPayload(selectors=HALVES[:1])))
    assert (deleting.exchange, deleting.payloads) == (ExchangeType.INFORMATIONAL, DELETE)
    refused = ChildRekeyRefused(old=0xA0000001, type=NotifyType.TS_UNACCEPTABLE, narrowed=True)
    assert finish(exchange, ()) == refused


def test_selectors_of_a_family_without_an_inner_address_may_be_left_out() -> None:
    """They have carried nothing."""
    old = replace(child(ours=True), remote=(NET, ipv4("::/0")), addresses=(ip_address("10.88.0.1"),))
    exchange = rekey_child(terms("ours", old, [ESP_GCM], 0xA0000002))
    request = swap(next(exchange).payloads, TsrPayload(selectors=(NET,)))
    rekeyed = finish(exchange, Peer(ESP_GCM).answer(request))
    assert isinstance(rekeyed, ChildRekeyed)
    assert rekeyed.child.remote == (NET,)
