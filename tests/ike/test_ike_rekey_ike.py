"""Both ends of rekeying the IKE SA, joined without any network in between."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from sim_gateway import CBC, GCM
from sim_script import notify

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.keymat import IkeKeys, rekeyed_ike_keys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE, PRF, AlgorithmProposal, IkeSuite
from ikeclient.errors import KeyExchangeError, ParseError, ProtocolError
from ikeclient.ike.v2.exchanges.rekey_ike import IkeRekeyed, IkeRekeyRefused, answer_rekey_ike, rekey_ike
from ikeclient.ike.v2.keying import Keying
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import KeyExchangeId, NotifyType
from ikeclient.wire.sa import SaPayload

OLD_PRF, SK_D = PRF["prfsha384"], b"d" * 48
SPI, PEER_SPI = b"\x0a" * 8, b"\x0b" * 8
IN_USE = IkeSuite(
    encryption=ENCRYPTION["aes128gcm16"], integrity=None, prf=PRF["prfsha256"], key_exchange=KEY_EXCHANGE["x25519"]
)
OLD = Keying(
    spi_i=b"\x01" * 8,
    spi_r=b"\x02" * 8,
    suite=replace(IN_USE, prf=OLD_PRF),
    keys=IkeKeys(d=SK_D, ai=b"", ar=b"", ei=b"", er=b"", pi=b"", pr=b""),
    initiator=True,
    fragmentation=True,
)
BOTH = replace(GCM, key_exchange=(KEY_EXCHANGE["ecp256"], KEY_EXCHANGE["x25519"]))


def ours(*proposals: AlgorithmProposal):  # type: ignore[no-untyped-def]
    return rekey_ike(proposals, OLD, spi=SPI, entropy=random.Random("ours").randbytes)


def theirs(
    payloads: tuple[Payload, ...], *proposals: AlgorithmProposal
) -> tuple[tuple[Payload, ...], IkeRekeyed | None]:
    entropy = random.Random("theirs").randbytes
    return answer_rekey_ike(payloads, proposals, OLD, spi=PEER_SPI, entropy=entropy)


def test_both_ends_get_the_same_keys_and_the_right_roles() -> None:
    exchange = ours(GCM)
    answer, peer = theirs(next(exchange).payloads, GCM)
    with pytest.raises(StopIteration) as stop:
        exchange.send(answer)
    mine = stop.value.value
    assert isinstance(mine, IkeRekeyed)
    assert peer is not None
    assert mine.keying == replace(peer.keying, initiator=True)
    assert (mine.keying.spi_i, mine.keying.spi_r) == (SPI, PEER_SPI)
    assert (mine.keying.initiator, peer.keying.initiator) == (True, False)
    assert mine.keying.fragmentation
    assert mine.nonces == peer.nonces
    assert mine.keying.suite == IN_USE


def test_the_old_prf_and_sk_d_go_into_the_new_keys() -> None:
    """RFC 7296 section 2.18: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr), with the old SA's prf."""
    exchange = ours(GCM)
    _, peer = theirs(next(exchange).payloads, GCM)
    assert peer is not None
    for prf, sk_d in ((PRF["prfsha256"], SK_D), (OLD_PRF, b"x" * 48)):
        other = rekeyed_ike_keys(peer.keying.suite, prf, sk_d, b"", *peer.nonces, SPI, PEER_SPI)
        assert other != peer.keying.keys
    again = rekeyed_ike_keys(peer.keying.suite, OLD_PRF, SK_D, _secret(), *peer.nonces, SPI, PEER_SPI)
    assert again == peer.keying.keys


def _secret() -> bytes:
    mine, peers = random.Random("ours"), random.Random("theirs")
    mine.randbytes(32)  # the nonce comes first
    one = generate(KEY_EXCHANGE["x25519"], mine.randbytes)
    return one.shared_secret(generate(KEY_EXCHANGE["x25519"], peers.randbytes).public)


def test_the_group_in_use_is_tried_first() -> None:
    (ke,) = [p for p in next(ours(BOTH)).payloads if isinstance(p, KePayload)]
    assert ke.method == KeyExchangeId.CURVE25519


def test_the_peers_group_is_taken_where_it_is_acceptable() -> None:
    """It saves a round trip even though we would prefer another."""
    _, rekeyed = theirs(next(ours(GCM)).payloads, BOTH)
    assert rekeyed is not None
    assert rekeyed.keying.suite.key_exchange.keyword == "x25519"


def test_another_group_is_used_on_request() -> None:
    exchange = ours(BOTH)
    only = replace(GCM, key_exchange=(KEY_EXCHANGE["ecp256"],))
    answer, none = theirs(next(exchange).payloads, only)
    assert none is None
    answer, peer = theirs(exchange.send(answer).payloads, only)
    with pytest.raises(StopIteration) as stop:
        exchange.send(answer)
    assert peer is not None
    assert stop.value.value.keying.keys == peer.keying.keys


@pytest.mark.parametrize("data", [b"", b"\0", (2).to_bytes(2, "big"), (31).to_bytes(2, "big")])
def test_a_wish_for_a_group_that_was_sent_or_not_offered_is_a_refusal(data: bytes) -> None:
    exchange = ours(BOTH)
    next(exchange)
    with pytest.raises(StopIteration) as stop:
        exchange.send((notify(NotifyType.INVALID_KE_PAYLOAD, data),))
    assert stop.value.value == IkeRekeyRefused(type=NotifyType.INVALID_KE_PAYLOAD)


def test_nothing_in_common_is_a_refusal() -> None:
    answer, none = theirs(next(ours(GCM)).payloads, CBC)
    assert none is None
    assert answer == (notify(NotifyType.NO_PROPOSAL_CHOSEN),)


@pytest.mark.parametrize("missing", [SaPayload, NoncePayload, KePayload])
def test_requests_and_answers_need_their_payloads(missing: type[Payload]) -> None:
    exchange = ours(GCM)
    request = next(exchange).payloads
    with pytest.raises(ParseError):
        theirs(tuple(p for p in request if not isinstance(p, missing)), GCM)
    answer, _ = theirs(request, GCM)
    if missing is KePayload:
        return
    with pytest.raises(ParseError):
        exchange.send(tuple(p for p in answer if not isinstance(p, missing)))


def test_an_answer_without_a_key_share_leaves_the_ike_sa_in_use() -> None:
    """There are no new keys, so there is no new IKE SA; the connection does not end for that."""
    exchange = ours(GCM)
    answer, _ = theirs(next(exchange).payloads, GCM)
    with pytest.raises(StopIteration) as stop:
        exchange.send(tuple(p for p in answer if not isinstance(p, KePayload)))
    assert stop.value.value == IkeRekeyRefused(type=NotifyType.NO_PROPOSAL_CHOSEN)


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(32)])
def test_bad_public_values_are_errors_at_both_ends(data: bytes) -> None:
    """N9, RFC 6989."""
    exchange = ours(GCM)
    request = next(exchange).payloads
    bad = KePayload(method=KeyExchangeId.CURVE25519, data=data)
    with pytest.raises(KeyExchangeError):
        theirs(tuple(bad if isinstance(p, KePayload) else p for p in request), GCM)
    answer, _ = theirs(request, GCM)
    with pytest.raises(KeyExchangeError):
        exchange.send(tuple(bad if isinstance(p, KePayload) else p for p in answer))


@pytest.mark.parametrize("spi", [b"", bytes(8), b"\x0b" * 4, b"\x0b" * 16])
def test_an_answer_needs_an_spi_of_eight_bytes(spi: bytes) -> None:
    exchange = ours(GCM)
    answer, _ = theirs(next(exchange).payloads, GCM)
    (sa,) = [p for p in answer if isinstance(p, SaPayload)]
    changed = SaPayload(proposals=(replace(sa.proposals[0], spi=spi),))
    with pytest.raises(ProtocolError):
        exchange.send(tuple(changed if isinstance(p, SaPayload) else p for p in answer))
