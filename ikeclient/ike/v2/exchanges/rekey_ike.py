"""Rekeying the IKE SA with CREATE_CHILD_SA, from both ends (RFC 7296 sections 1.3.2, 2.8, 2.18)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from ikeclient.crypto.algorithms.key_exchange import generate, respond
from ikeclient.crypto.algorithms.keymat import rekeyed_ike_keys
from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE, AlgorithmProposal, IkeSuite
from ikeclient.errors import ParseError
from ikeclient.ike.v2.exchanges.init import NONCE_LENGTH
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, need
from ikeclient.ike.v2.rules.groups import Groups, groups_of, invalid_ke
from ikeclient.ike.v2.rules.negotiate import accept_ike, choose_ike, offer_ike
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType
from ikeclient.wire.sa import SaPayload

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyed:
    """A new IKE SA that takes over. Who initiated the rekey is its original initiator."""

    keying: Keying
    nonces: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyRefused:
    """The peer did not rekey; the IKE SA goes on for now."""

    type: NotifyType


def rekey_ike(
    proposals: Sequence[AlgorithmProposal], keying: Keying, *, spi: bytes, entropy: Entropy
) -> Generator[Request, tuple[Payload, ...], IkeRekeyed | IkeRekeyRefused]:
    """Replace the IKE SA; starts with the key exchange in use. Raises `ProtocolError` for a nonsensical answer."""
    offer = offer_ike(proposals, spi)
    groups = Groups(groups_of(proposals), (keying.suite.key_exchange,))
    while True:
        assert groups.current is not None
        nonce = entropy(NONCE_LENGTH)
        share = generate(groups.current, entropy)
        ke = KePayload(method=share.method.id, data=share.public)
        answer = yield Request(exchange=ExchangeType.CREATE_CHILD_SA, payloads=(offer, NoncePayload(nonce=nonce), ke))
        error = error_notify(answer)
        if error is None and find(answer, SaPayload) is not None and find(answer, KePayload) is None:
            return IkeRekeyRefused(type=NotifyType.NO_PROPOSAL_CHOSEN)  # no new keys: the IKE SA in use goes on
        if error is None:
            break
        if not groups.retry(error):
            return IkeRekeyRefused(type=error.type)
    suite, spi_r = accept_ike(offer, need(answer, SaPayload), spi_length=8)
    nonces = (nonce, need(answer, NoncePayload).nonce)
    theirs = need(answer, KePayload)
    if theirs.method != share.method.id or suite.key_exchange != share.method:
        raise ParseError(f"a key share of {theirs.method} where {share.method.id} was sent")
    shared = share.shared_secret(theirs.data)
    return _rekeyed(keying, suite, shared, nonces, (spi, spi_r), initiator=True)


def answer_rekey_ike(
    payloads: Sequence[Payload],
    proposals: Sequence[AlgorithmProposal],
    keying: Keying,
    *,
    spi: bytes,
    entropy: Entropy,
) -> tuple[tuple[Payload, ...], IkeRekeyed | None]:
    """Answer a peer's request to replace the IKE SA with our new `spi`.

    Raises `ParseError` for a malformed request and `KeyExchangeError` for a bad public value.
    """
    nonce_i = need(payloads, NoncePayload).nonce
    ke = need(payloads, KePayload)
    chosen = choose_ike(offer_ike(_preferring(proposals, ke), spi), need(payloads, SaPayload), spi)
    if chosen is None:
        return (NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN),), None
    answer, suite, spi_i = chosen
    if ke.method != suite.key_exchange.id:
        return (invalid_ke(suite.key_exchange),), None
    ours = respond(suite.key_exchange, ke.data, entropy)
    nonce_r = entropy(NONCE_LENGTH)
    rekeyed = _rekeyed(keying, suite, ours.secret, (nonce_i, nonce_r), (spi_i, spi), initiator=False)
    return (answer, NoncePayload(nonce=nonce_r), KePayload(method=ke.method, data=ours.public)), rekeyed


def _rekeyed(
    old: Keying,
    suite: IkeSuite,
    shared: bytes,
    nonces: tuple[bytes, bytes],
    spis: tuple[bytes, bytes],
    *,
    initiator: bool,
) -> IkeRekeyed:
    """Derive the keys of the new IKE SA with the old one's prf and SK_d (section 2.18)."""
    keys = rekeyed_ike_keys(suite, old.suite.prf, old.keys.d, shared, *nonces, *spis)
    new = replace(old, spi_i=spis[0], spi_r=spis[1], suite=suite, keys=keys, initiator=initiator)
    return IkeRekeyed(keying=new, nonces=nonces)


def _preferring(proposals: Sequence[AlgorithmProposal], ke: KePayload) -> list[AlgorithmProposal]:
    """Our proposals with the peer's key exchange first if we accept it, which saves a round trip."""
    group = next((k for k in KEY_EXCHANGE.values() if k.id == ke.method), None)
    return [
        AlgorithmProposal(
            encryption=p.encryption,
            integrity=p.integrity,
            prf=p.prf,
            key_exchange=tuple(sorted(p.key_exchange, key=lambda k: k != group)),
        )
        for p in proposals
    ]
