"""Rekeying a Child SA with CREATE_CHILD_SA, from both ends (RFC 7296 sections 1.3.3, 2.8, 2.17).

The ESP proposals say whether there is a fresh key exchange. The first Child SA comes without one, so that
neither end knows yet what the other one's proposals say; if ours name no key exchange and the peer insists on one,
the `spare` groups serve, which are those of the IKE SA. If ours name one, nothing less is accepted.

Some gateways (Windows) answer a request with a key exchange as if there had been none. The Child SA they have made is
not what was offered: it is deleted, and if the proposals allow one without a key exchange, that is asked for properly.
Otherwise the old Child SA goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Protocol, Self

from ikeclient.crypto.algorithms.key_exchange import KeyShare, generate, respond
from ikeclient.crypto.algorithms.keymat import child_keys
from ikeclient.crypto.algorithms.transforms import AlgorithmProposal, EspSuite, KeyExchange
from ikeclient.errors import ParseError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IPAddress
from ikeclient.ike.v2.child.child_sa import Agreed, ChildRekeyed, ChildSa, agreed
from ikeclient.ike.v2.child.table import ChildTable
from ikeclient.ike.v2.exchanges.informational import delete_children
from ikeclient.ike.v2.exchanges.init import NONCE_LENGTH
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, need
from ikeclient.ike.v2.rules.groups import Groups, groups_of, invalid_ke, wanted_group
from ikeclient.ike.v2.rules.negotiate import KeyExchangeDropped, choose_esp, offer_esp
from ikeclient.ike.v2.rules.selectors import covers, hosts, intersect, narrowed
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType, ProtocolId
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

Proposals = Sequence[AlgorithmProposal]
Addresses = tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRekeyRefused:
    """The peer did not rekey, or what it made was `narrowed`; the old Child SA goes on for now."""

    old: int
    type: NotifyType
    narrowed: bool = False


class Owner(Protocol):
    """The IKE SA that a Child SA belongs to."""

    config: IkeConfig
    keying: Keying
    children: ChildTable
    entropy: Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTerms:
    """What a Child SA in the place of `old` is made with, whichever end asks for it.

    `keying` is that of the IKE SA, `spare` are the key exchange methods that may be used if no proposal names one and
    the peer insists.
    """

    old: ChildSa
    proposals: Proposals
    keying: Keying
    spi_in: int
    esn: bool
    spare: Sequence[KeyExchange]
    entropy: Callable[[int], bytes]

    @classmethod
    def of(cls, owner: Owner, old: ChildSa) -> Self:
        """The terms of an IKE SA, with a new inbound SPI."""
        return cls(
            old=old,
            proposals=owner.config.child.esp_proposals,
            keying=owner.keying,
            spi_in=owner.children.new_spi(),
            esn=owner.config.child.esn,
            spare=spare_groups(owner),
            entropy=owner.entropy,
        )

    def child(
        self, settled: Agreed, nonces: tuple[bytes, bytes], shared: bytes, *, initiator: bool, addresses: Addresses
    ) -> ChildRekeyed:
        """The new Child SA, with keys from the IKE SA, both nonces and the shared secret, if any (section 2.17)."""
        prf, sk_d = self.keying.suite.prf, self.keying.keys.d
        keys = child_keys(prf, settled.suite, sk_d, *nonces, initiator=initiator, shared=shared)
        child = ChildSa(
            spi_in=self.spi_in,
            spi_out=settled.spi_out,
            suite=settled.suite,
            keys=keys,
            local=settled.local,
            remote=settled.remote,
            addresses=addresses,
        )
        return ChildRekeyed(old=self.old.spi_in, child=child, nonces=nonces)


def spare_groups(owner: Owner) -> tuple[KeyExchange, ...]:
    """Key exchanges for a peer that insists on one: those for IKE, the one in use first."""
    used = owner.keying.suite.key_exchange
    return (used, *(group for group in groups_of(owner.config.ike_proposals) if group != used))


# As initiator


def rekeying_proposals(proposals: Proposals, suite: EspSuite) -> tuple[AlgorithmProposal, ...]:
    """The proposals to rekey with: those of the profile that contain the cipher in use first, then the others."""
    return tuple(sorted(proposals, key=lambda p: suite.encryption not in p.encryption))


def _with_groups(proposals: Proposals, groups: Sequence[KeyExchange]) -> tuple[AlgorithmProposal, ...]:
    return tuple(replace(proposal, key_exchange=tuple(groups)) for proposal in proposals)


def rekey_child(
    terms: ChildTerms, *, again: bool = False
) -> Generator[Request, tuple[Payload, ...], ChildRekeyed | ChildRekeyRefused]:
    """Replace `terms.old`; with a fresh key exchange when the first proposal names one. Raises `ProtocolError`.

    `again`: the peer does not know it any more; make the like of it from scratch (section 2.25).
    """
    old, spare = terms.old, terms.spare
    ranked = rekeying_proposals(terms.proposals, old.suite)
    bare = tuple(proposal for proposal in ranked if not proposal.key_exchange)
    dropped = False
    groups = Groups(groups_of(ranked), ranked[0].key_exchange[:1])
    while True:
        offer = offer_esp(ranked, terms.spi_in, esn=terms.esn, key_exchange=True)
        nonce = terms.entropy(NONCE_LENGTH)
        share = generate(groups.current, terms.entropy) if groups.current else None
        answer = yield _request(old, offer, nonce, share, again=again)
        error = error_notify(answer)
        if error is None:
            settled = _settled(answer, offer, old)
            if settled is not None and _carries(old, settled):
                break
            yield Request(exchange=ExchangeType.INFORMATIONAL, payloads=(delete_children((terms.spi_in,)),))
            if settled is not None:
                return ChildRekeyRefused(old=old.spi_in, type=NotifyType.TS_UNACCEPTABLE, narrowed=True)
            if not bare or dropped:
                return ChildRekeyRefused(old=old.spi_in, type=NotifyType.NO_PROPOSAL_CHOSEN)
            dropped, ranked, groups, spare = True, bare, Groups((), ()), ()
            continue
        if dropped and not again and error.type in (NotifyType.CHILD_SA_NOT_FOUND, NotifyType.TEMPORARY_FAILURE):
            again = True  # it has rekeyed the old one in its own mind; make another from scratch
            continue
        insists = error.type in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_KE_PAYLOAD)
        if groups.retry(error):
            continue
        if not (insists and spare and not groups_of(ranked)):
            return ChildRekeyRefused(old=old.spi_in, type=error.type)
        ranked = _with_groups(ranked, spare)
        wanted = wanted_group(error)
        groups = Groups(spare, [group for group in spare if group.id == wanted] or spare)
    nonces = (nonce, need(answer, NoncePayload).nonce)
    shared = _shared(answer, settled.suite, share)
    addresses = _still_covered(settled.local, old.addresses)
    return terms.child(settled, nonces, shared, initiator=True, addresses=addresses)


def _carries(old: ChildSa, settled: Agreed) -> bool:
    """Whether everything that is sent through `old` may be sent on (section 2.9.2).

    The routes of this machine are those of the selectors in use; packets to what is left out would be lost, be it an
    address, a protocol or a port. Remote selectors of a family that there is no inner address of carry nothing; an
    inner address that is left out whole is for `_still_covered`.
    """
    families = {address.version for address in old.addresses} or {4, 6}
    remote = (selector for selector in old.remote if selector.version in families)
    local = (selector for selector in old.installed_local if intersect((selector,), settled.local))
    return covers(settled.remote, remote) and covers(settled.local, local)


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


def _still_covered(local: Sequence[TrafficSelector], addresses: Addresses) -> Addresses:
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
    terms: ChildTerms, payloads: Sequence[Payload]
) -> tuple[tuple[Payload, ...], ChildRekeyed | None]:
    """Answer a peer's request to replace `terms.old`: what to send, and what was agreed unless that is an error.

    Raises `ParseError` for a malformed request, `KeyExchangeError` for a bad public value. Selectors may be split
    differently, but may not become narrower than those in use (section 2.9.2).
    """
    old = terms.old
    sa = need(payloads, SaPayload)
    nonce_i = need(payloads, NoncePayload).nonce
    local = intersect(old.local, need(payloads, TsrPayload).selectors)
    remote = intersect(old.remote, need(payloads, TsiPayload).selectors)
    ke = find(payloads, KePayload)
    if not covers(local, old.local) or not covers(remote, old.remote):
        return (NotifyPayload(type=NotifyType.TS_UNACCEPTABLE),), None
    acceptable = _acceptable(terms.proposals, terms.spare, ke)
    chosen = choose_esp(offer_esp(acceptable, terms.spi_in, esn=terms.esn, key_exchange=True), sa, terms.spi_in)
    if chosen is None:
        return (NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN),), None
    answer, suite, spi_out = chosen
    own_ke: tuple[Payload, ...] = ()
    shared = b""
    if suite.key_exchange is not None:
        if ke is None or ke.method != suite.key_exchange.id:
            return (invalid_ke(suite.key_exchange),), None
        ours = respond(suite.key_exchange, ke.data, terms.entropy)
        shared = ours.secret
        own_ke = (KePayload(method=suite.key_exchange.id, data=ours.public),)
    nonce_r = terms.entropy(NONCE_LENGTH)
    settled = Agreed(suite=suite, spi_out=spi_out, local=local, remote=remote)
    rekeyed = terms.child(settled, (nonce_i, nonce_r), shared, initiator=False, addresses=old.addresses)
    selectors = (TsiPayload(selectors=remote), TsrPayload(selectors=local))
    return (answer, NoncePayload(nonce=nonce_r), *own_ke, *selectors), rekeyed


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
