"""Rekeying the IKE SA with CREATE_CHILD_SA, from both ends (RFC 7296 sections 1.3.2, 2.8, 2.18)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.keymat import IkeKeys, rekeyed_ike_keys
from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE, AlgorithmProposal, IkeSuite, Prf
from ikeclient.errors import ParseError
from ikeclient.ike.v2.exchanges.init import NONCE_LENGTH
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, need
from ikeclient.ike.v2.rules.negotiate import accept_ike, choose_ike, offer_ike
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType
from ikeclient.wire.sa import SaPayload

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyed:
    """A new IKE SA that takes over; `initiator` is whether we initiated the rekey and so are its original initiator."""

    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    keys: IkeKeys = field(repr=False)
    initiator: bool
    nonces: tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeRekeyRefused:
    """The peer did not rekey; the IKE SA goes on for now."""

    type: NotifyType


def rekey_ike(
    proposals: Sequence[AlgorithmProposal], suite: IkeSuite, old_prf: Prf, sk_d: bytes, *, spi: bytes, entropy: Entropy
) -> Generator[Request, tuple[Payload, ...], IkeRekeyed | IkeRekeyRefused]:
    """Replace the IKE SA; starts with the key exchange in use. Raises `ProtocolError` for a nonsensical answer."""
    offer = offer_ike(proposals, spi)
    offered = {k.id: k for p in proposals for k in p.key_exchange}
    group = offered.pop(suite.key_exchange.id)
    while True:
        nonce = entropy(NONCE_LENGTH)
        share = generate(group, entropy)
        ke = KePayload(method=group.id, data=share.public)
        answer = yield Request(exchange=ExchangeType.CREATE_CHILD_SA, payloads=(offer, NoncePayload(nonce=nonce), ke))
        error = error_notify(answer)
        if error is None and find(answer, SaPayload) is not None and find(answer, KePayload) is None:
            return IkeRekeyRefused(type=NotifyType.NO_PROPOSAL_CHOSEN)  # no new keys: the IKE SA in use goes on
        if error is None:
            break
        wanted = None
        if error.type == NotifyType.INVALID_KE_PAYLOAD and len(error.data) == 2:
            wanted = next((k for k in offered.values() if k.id == int.from_bytes(error.data, "big")), None)
        if wanted is None:
            return IkeRekeyRefused(type=error.type)
        group = offered.pop(wanted.id)
    new_suite, spi_r = accept_ike(offer, need(answer, SaPayload), spi_length=8)
    nonce_r = need(answer, NoncePayload).nonce
    theirs = need(answer, KePayload)
    if theirs.method != group.id or new_suite.key_exchange != group:
        raise ParseError(f"a key share of {theirs.method} where {group.id} was sent")
    shared = share.shared_secret(theirs.data)
    keys = rekeyed_ike_keys(new_suite, old_prf, sk_d, shared, nonce, nonce_r, spi, spi_r)
    return IkeRekeyed(spi_i=spi, spi_r=spi_r, suite=new_suite, keys=keys, initiator=True, nonces=(nonce, nonce_r))


def answer_rekey_ike(
    payloads: Sequence[Payload],
    proposals: Sequence[AlgorithmProposal],
    old_prf: Prf,
    sk_d: bytes,
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
        wanted = suite.key_exchange.id.to_bytes(2, "big")
        return (NotifyPayload(type=NotifyType.INVALID_KE_PAYLOAD, data=wanted),), None
    share = generate(suite.key_exchange, entropy)
    shared = share.shared_secret(ke.data)
    nonce_r = entropy(NONCE_LENGTH)
    keys = rekeyed_ike_keys(suite, old_prf, sk_d, shared, nonce_i, nonce_r, spi_i, spi)
    reply = (answer, NoncePayload(nonce=nonce_r), KePayload(method=share.method.id, data=share.public))
    rekeyed = IkeRekeyed(spi_i=spi_i, spi_r=spi, suite=suite, keys=keys, initiator=False, nonces=(nonce_i, nonce_r))
    return reply, rekeyed


def _preferring(proposals: Sequence[AlgorithmProposal], ke: KePayload) -> list[AlgorithmProposal]:
    """Our proposals with the peer's key exchange first where we accept it, which saves a round trip."""
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
