"""Rekeying a Child SA with CREATE_CHILD_SA, from both ends (RFC 7296 sections 1.3.3, 2.8, 2.17).

Whether there is a fresh key exchange is for the ESP proposals to say. The first Child SA comes without one, so that
neither end knows yet what the other one's proposals say; where ours name no key exchange and the peer insists on one,
the `spare` groups serve, which are those of the IKE SA. Where ours name one, nothing less is accepted.

Some gateways (Windows) answer a request with a key exchange as if there had been none. The Child SA they have made is
not what was offered: it is deleted, and if the proposals allow one without a key exchange, that is asked for properly.
Otherwise the old Child SA goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from ikeclient.crypto.algorithms.key_exchange import KeyShare, generate
from ikeclient.crypto.algorithms.keymat import child_keys
from ikeclient.crypto.algorithms.transforms import AlgorithmProposal, EspSuite, KeyExchange, Prf
from ikeclient.errors import ParseError
from ikeclient.ike.events import IPAddress
from ikeclient.ike.v2.child.child_sa import Agreed, ChildRekeyed, ChildSa, agreed
from ikeclient.ike.v2.exchanges.informational import delete_children
from ikeclient.ike.v2.exchanges.init import NONCE_LENGTH
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, need
from ikeclient.ike.v2.rules.negotiate import KeyExchangeDropped, choose_esp, offer_esp
from ikeclient.ike.v2.rules.selectors import hosts, intersect, narrowed
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType, ProtocolId
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

Entropy = Callable[[int], bytes]
Proposals = Sequence[AlgorithmProposal]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRekeyRefused:
    """The peer did not rekey; the old Child SA goes on for now."""

    old: int
    type: NotifyType


# As initiator


def rekeying_proposals(proposals: Proposals, suite: EspSuite) -> tuple[AlgorithmProposal, ...]:
    """The proposals to rekey with: those of the profile that contain the cipher in use first, then the others."""
    return tuple(sorted(proposals, key=lambda p: suite.encryption not in p.encryption))


def _groups(proposals: Proposals) -> dict[int, KeyExchange]:
    return {group.id: group for proposal in proposals for group in proposal.key_exchange}


def _with_groups(proposals: Proposals, groups: Sequence[KeyExchange]) -> tuple[AlgorithmProposal, ...]:
    return tuple(replace(proposal, key_exchange=tuple(groups)) for proposal in proposals)


def _wanted(error: NotifyPayload) -> int | None:
    """The group that an INVALID_KE_PAYLOAD asks for (section 1.3)."""
    well_formed = error.type == NotifyType.INVALID_KE_PAYLOAD and len(error.data) == 2
    return int.from_bytes(error.data, "big") if well_formed else None


def rekey_child(
    old: ChildSa,
    proposals: Proposals,
    prf: Prf,
    sk_d: bytes,
    *,
    spi_in: int,
    esn: bool,
    spare: Sequence[KeyExchange],
    entropy: Entropy,
    again: bool = False,
) -> Generator[Request, tuple[Payload, ...], ChildRekeyed | ChildRekeyRefused]:
    """Replace `old`; with a fresh key exchange when the first proposal names one. Raises `ProtocolError`.

    `again`: the peer does not know `old` any more; make the like of it from scratch (section 2.25).
    """
    ranked = rekeying_proposals(proposals, old.suite)
    bare = tuple(proposal for proposal in ranked if not proposal.key_exchange)
    dropped = False
    untried = _groups(ranked)
    group = untried.pop(ranked[0].key_exchange[0].id) if ranked[0].key_exchange else None
    while True:
        offer = offer_esp(ranked, spi_in, esn=esn, key_exchange=True)
        nonce = entropy(NONCE_LENGTH)
        share = generate(group, entropy) if group else None
        answer = yield _request(old, offer, nonce, share, again=again)
        error = error_notify(answer)
        if error is None:
            settled = _settled(answer, offer, old)
            if settled is not None:
                break
            yield Request(exchange=ExchangeType.INFORMATIONAL, payloads=(delete_children((spi_in,)),))
            if not bare or dropped:
                return ChildRekeyRefused(old=old.spi_in, type=NotifyType.NO_PROPOSAL_CHOSEN)
            dropped, ranked, untried, group, spare = True, bare, {}, None, ()
            continue
        if dropped and not again and error.type in (NotifyType.CHILD_SA_NOT_FOUND, NotifyType.TEMPORARY_FAILURE):
            again = True  # it has rekeyed the old one in its own mind; make another from scratch
            continue
        wanted = _wanted(error)
        insists = error.type in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_KE_PAYLOAD)
        if wanted in untried:
            group = untried.pop(wanted)
        elif insists and spare and not _groups(ranked):
            ranked, untried = _with_groups(ranked, spare), {g.id: g for g in spare}
            group = untried.pop(wanted if wanted in untried else spare[0].id)
        else:
            return ChildRekeyRefused(old=old.spi_in, type=error.type)
    nonce_r = need(answer, NoncePayload).nonce
    shared = _shared(answer, settled.suite, share)
    child = ChildSa(
        spi_in=spi_in,
        spi_out=settled.spi_out,
        suite=settled.suite,
        keys=child_keys(prf, settled.suite, sk_d, nonce, nonce_r, initiator=True, shared=shared),
        local=settled.local,
        remote=settled.remote,
        addresses=_still_covered(settled.local, old.addresses),
    )
    return ChildRekeyed(old=old.spi_in, child=child, nonces=(nonce, nonce_r))


def _settled(answer: Sequence[Payload], offer: SaPayload, old: ChildSa) -> Agreed | None:
    """What an answer agrees on; None if it leaves out the key exchange."""
    try:
        settled = agreed(answer, offer, old.local, old.remote)
    except KeyExchangeDropped:
        return None
    return settled if settled.suite.key_exchange is None or find(answer, KePayload) is not None else None


def _request(old: ChildSa, offer: SaPayload, nonce: bytes, share: KeyShare | None, *, again: bool) -> Request:
    replaced = NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=old.spi_in.to_bytes(4, "big"))
    rekey = () if again else (replaced,)
    ke = (KePayload(method=share.method.id, data=share.public),) if share else ()
    selectors = (TsiPayload(selectors=old.local), TsrPayload(selectors=old.remote))
    payloads = (*rekey, offer, NoncePayload(nonce=nonce), *ke, *selectors)
    return Request(exchange=ExchangeType.CREATE_CHILD_SA, payloads=payloads)


def _still_covered(local: Sequence[TrafficSelector], addresses: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """The inner addresses, from all of which packets must still pass: else this would be a tunnel that looks alive."""
    for address in addresses:
        narrowed("TSi", hosts((address,)), local)
    return addresses


def _shared(answer: Sequence[Payload], suite: EspSuite, share: KeyShare | None) -> bytes:
    if suite.key_exchange is None:
        return b""
    ke = need(answer, KePayload)
    if share is None or ke.method != share.method.id or suite.key_exchange != share.method:
        raise ParseError(f"a key share of {ke.method} where {share.method.id if share else 'none'} was sent")
    return share.shared_secret(ke.data)


# As responder


def answer_rekey_child(
    old: ChildSa,
    payloads: Sequence[Payload],
    proposals: Proposals,
    prf: Prf,
    sk_d: bytes,
    *,
    spi_in: int,
    esn: bool,
    spare: Sequence[KeyExchange],
    entropy: Entropy,
) -> tuple[tuple[Payload, ...], ChildRekeyed | None]:
    """Answer a peer's request to replace `old`: the payloads to send, and what was agreed unless that is an error.

    Raises `ParseError` for a malformed request, `KeyExchangeError` for a bad public value. Selectors may not become
    narrower than those in use (section 2.9.2).
    """
    sa = need(payloads, SaPayload)
    nonce_i = need(payloads, NoncePayload).nonce
    local = intersect(old.local, need(payloads, TsrPayload).selectors)
    remote = intersect(old.remote, need(payloads, TsiPayload).selectors)
    ke = find(payloads, KePayload)
    if not _covers(local, old.local) or not _covers(remote, old.remote):
        return (NotifyPayload(type=NotifyType.TS_UNACCEPTABLE),), None
    acceptable = offer_esp(_acceptable(proposals, spare, ke), spi_in, esn=esn, key_exchange=True)
    chosen = choose_esp(acceptable, sa, spi_in)
    if chosen is None:
        return (NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN),), None
    answer, suite, spi_out = chosen
    own_ke: tuple[Payload, ...] = ()
    shared = b""
    if suite.key_exchange is not None:
        if ke is None or ke.method != suite.key_exchange.id:
            wanted = suite.key_exchange.id.to_bytes(2, "big")
            return (NotifyPayload(type=NotifyType.INVALID_KE_PAYLOAD, data=wanted),), None
        share = generate(suite.key_exchange, entropy)
        shared = share.shared_secret(ke.data)
        own_ke = (KePayload(method=share.method.id, data=share.public),)
    nonce_r = entropy(NONCE_LENGTH)
    child = ChildSa(
        spi_in=spi_in,
        spi_out=spi_out,
        suite=suite,
        keys=child_keys(prf, suite, sk_d, nonce_i, nonce_r, initiator=False, shared=shared),
        local=local,
        remote=remote,
        addresses=old.addresses,
    )
    selectors = (TsiPayload(selectors=remote), TsrPayload(selectors=local))
    reply: tuple[Payload, ...] = (answer, NoncePayload(nonce=nonce_r), *own_ke, *selectors)
    return reply, ChildRekeyed(old=old.spi_in, child=child, nonces=(nonce_i, nonce_r))


def _covers(narrowed: Sequence[TrafficSelector], in_use: Sequence[TrafficSelector]) -> bool:
    return all(any(selector.contains(mine) for selector in narrowed) for mine in in_use)


def _acceptable(
    proposals: Proposals, spare: Sequence[KeyExchange], ke: KePayload | None
) -> tuple[AlgorithmProposal, ...]:
    """What we may choose from, with the group that the peer sent first, which saves a round trip."""

    def ranked(groups: Sequence[KeyExchange]) -> tuple[KeyExchange, ...]:
        return tuple(sorted(groups, key=lambda g: ke is None or g.id != ke.method))

    acceptable: list[AlgorithmProposal] = []
    for proposal in proposals:
        if proposal.key_exchange:
            acceptable.append(replace(proposal, key_exchange=ranked(proposal.key_exchange)))
        else:
            with_spare = replace(proposal, key_exchange=ranked(spare))
            acceptable += (with_spare, proposal) if ke is not None else (proposal, with_spare)
    return tuple(acceptable)
