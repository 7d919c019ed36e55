"""Proposals to and from algorithm objects (RFC 7296 sections 2.7 and 3.3).

An answer must be exactly one of the choices that were offered, to the last attribute; there is no "closest match". Its
algorithms say which proposal it is, not its number: gateways exist that answer all proposals as number 1. An ESP
proposal that says nothing about sequence numbers means short ones. After this module nobody looks at transform numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.crypto.algorithms.transforms import (
    ENCRYPTION,
    INTEGRITY,
    KEY_EXCHANGE,
    PRF,
    AlgorithmProposal,
    Encryption,
    EspSuite,
    IkeSuite,
    Integrity,
    KeyExchange,
    Prf,
)
from ikeclient.errors import ProtocolError
from ikeclient.wire.registry import IntegrityId, KeyExchangeId, ProtocolId, SequenceNumbers, TransformType
from ikeclient.wire.sa import Proposal, SaPayload, Transform

# Saying "none" is the same as saying nothing (RFC 7296 sections 1.2 and 3.3).
_NOTHING = (
    Transform(type=TransformType.INTEGRITY, id=IntegrityId.NONE),
    Transform(type=TransformType.KEY_EXCHANGE, id=KeyExchangeId.NONE),
)
_SHORT = Transform(type=TransformType.SEQUENCE_NUMBERS, id=SequenceNumbers.SHORT)


def _encryption(algorithm: Encryption) -> Transform:
    bits = algorithm.key_bits if algorithm.variable_key else None
    return Transform(type=TransformType.ENCRYPTION, id=algorithm.id, key_bits=bits)


def _transforms(proposal: AlgorithmProposal) -> list[Transform]:
    return [
        *(_encryption(e) for e in proposal.encryption),
        *(Transform(type=TransformType.PRF, id=p.id) for p in proposal.prf),
        *(Transform(type=TransformType.INTEGRITY, id=i.id) for i in proposal.integrity),
        *(Transform(type=TransformType.KEY_EXCHANGE, id=k.id) for k in proposal.key_exchange),
    ]


def offer_ike(proposals: Sequence[AlgorithmProposal], spi: bytes = b"") -> SaPayload:
    """The SA payload that offers `proposals` for an IKE SA; `spi` is ours when rekeying, empty at first."""
    return SaPayload(
        proposals=tuple(
            Proposal(number=number, protocol=ProtocolId.IKE, spi=spi, transforms=tuple(_transforms(proposal)))
            for number, proposal in enumerate(proposals, 1)
        )
    )


def offer_esp(proposals: Sequence[AlgorithmProposal], spi: int, *, esn: bool, key_exchange: bool) -> SaPayload:
    """The SA payload that offers `proposals` for a Child SA with our inbound `spi`.

    With `esn` extended sequence numbers are preferred and short ones accepted. Key exchanges are left out of IKE_AUTH,
    where no KE payload can follow (RFC 7296 section 1.2).
    """
    numbers = (SequenceNumbers.EXTENDED, SequenceNumbers.SHORT) if esn else (SequenceNumbers.SHORT,)
    extended = [Transform(type=TransformType.SEQUENCE_NUMBERS, id=n) for n in numbers]
    return SaPayload(
        proposals=tuple(
            Proposal(
                number=number,
                protocol=ProtocolId.ESP,
                spi=spi.to_bytes(4, "big"),
                transforms=tuple(
                    t for t in _transforms(proposal) if key_exchange or t.type != TransformType.KEY_EXCHANGE
                )
                + tuple(extended),
            )
            for number, proposal in enumerate(proposals, 1)
        )
    )


def _accepted(offer: SaPayload, answer: SaPayload) -> tuple[Proposal, dict[TransformType, Transform]]:
    """The proposal of `offer` that an answer is one choice out of, and its transform of each type."""
    if len(answer.proposals) != 1:
        raise ProtocolError(f"{len(answer.proposals)} proposals in an answer")
    chosen = answer.proposals[0]
    offered = [p for p in offer.proposals if p.protocol == chosen.protocol]
    if all(p.number != chosen.number for p in offered):
        raise ProtocolError(f"an answer for proposal {chosen.number}, which was not offered")
    problem: ProtocolError | None = None
    exchanges = _exchanges_keys(chosen)
    for proposal in sorted(offered, key=lambda p: (_exchanges_keys(p) != exchanges, p.number != chosen.number)):
        try:
            return proposal, _one_choice(proposal, chosen)
        except ProtocolError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _exchanges_keys(proposal: Proposal) -> bool:
    return any(t.type == TransformType.KEY_EXCHANGE and t.id != KeyExchangeId.NONE for t in proposal.transforms)


def _one_choice(offered: Proposal, chosen: Proposal) -> dict[TransformType, Transform]:
    """The transform of each type in `chosen`; raises `ProtocolError` unless it is one choice out of `offered`."""
    result: dict[TransformType, Transform] = {}
    for transform in chosen.transforms:
        if transform in _NOTHING:
            continue
        if transform not in offered.transforms:
            raise ProtocolError(f"the answer contains {transform}, which was not offered: possible downgrade")
        if transform.type in result:
            raise ProtocolError(f"two transforms of type {transform.type} in an answer")
        result[transform.type] = transform
    if _SHORT in offered.transforms:
        result.setdefault(TransformType.SEQUENCE_NUMBERS, _SHORT)
    missing = {t.type for t in offered.transforms} - result.keys() - {TransformType.KEY_EXCHANGE}
    if missing:
        raise ProtocolError(f"no {min(missing)} in the answer")
    return result


def _find_encryption(transform: Transform | None) -> Encryption:
    for algorithm in ENCRYPTION.values():
        if transform is not None and _encryption(algorithm) == transform:
            return algorithm
    raise ProtocolError("no encryption that we can run")


def _find_integrity(transform: Transform | None) -> Integrity | None:
    return next((i for i in INTEGRITY.values() if transform is not None and i.id == transform.id), None)


def _find_key_exchange(transform: Transform | None) -> KeyExchange | None:
    return next((k for k in KEY_EXCHANGE.values() if transform is not None and k.id == transform.id), None)


def _find_prf(transform: Transform | None) -> Prf:
    for algorithm in PRF.values():
        if transform is not None and algorithm.id == transform.id:
            return algorithm
    raise ProtocolError("no pseudorandom function that we can run")


def _check_integrity(encryption: Encryption, integrity: Integrity | None) -> None:
    if encryption.aead != (integrity is None):
        raise ProtocolError(f"{encryption.keyword} with {integrity.keyword if integrity else 'no'} integrity algorithm")


def _ike_suite(chosen: dict[TransformType, Transform]) -> IkeSuite:
    key_exchange = _find_key_exchange(chosen.get(TransformType.KEY_EXCHANGE))
    if key_exchange is None:
        raise ProtocolError("no key exchange in the answer")
    encryption = _find_encryption(chosen.get(TransformType.ENCRYPTION))
    integrity = _find_integrity(chosen.get(TransformType.INTEGRITY))
    _check_integrity(encryption, integrity)
    prf = _find_prf(chosen.get(TransformType.PRF))
    return IkeSuite(encryption=encryption, integrity=integrity, prf=prf, key_exchange=key_exchange)


def _esp_suite(chosen: dict[TransformType, Transform]) -> EspSuite:
    encryption = _find_encryption(chosen.get(TransformType.ENCRYPTION))
    integrity = _find_integrity(chosen.get(TransformType.INTEGRITY))
    _check_integrity(encryption, integrity)
    key_exchange = _find_key_exchange(chosen.get(TransformType.KEY_EXCHANGE))
    esn = chosen.get(TransformType.SEQUENCE_NUMBERS, _SHORT).id == SequenceNumbers.EXTENDED
    return EspSuite(encryption=encryption, integrity=integrity, key_exchange=key_exchange, esn=esn)


def _esp_spi(proposal: Proposal) -> int:
    """Four bytes, and not one of the reserved values below 256 (RFC 4303 section 2.1)."""
    if len(proposal.spi) != 4 or int.from_bytes(proposal.spi, "big") < 256:
        raise ProtocolError(f"the ESP SPI {proposal.spi[:8].hex() or '(none)'} is not usable")
    return int.from_bytes(proposal.spi, "big")


def _ike_spi(proposal: Proposal, length: int) -> bytes:
    if len(proposal.spi) != length or (length and not any(proposal.spi)):
        raise ProtocolError(f"the IKE SPI {proposal.spi[:16].hex() or '(none)'} is not usable")
    return proposal.spi


def accept_ike(offer: SaPayload, answer: SaPayload, *, spi_length: int = 0) -> tuple[IkeSuite, bytes]:
    """The suite the peer chose out of `offer` and its SPI; raises `ProtocolError` for anything not offered."""
    suite = _ike_suite(_accepted(offer, answer)[1])
    return suite, _ike_spi(answer.proposals[0], spi_length)


def accept_esp(offer: SaPayload, answer: SaPayload) -> tuple[EspSuite, int]:
    """The suite the peer chose and its inbound SPI; raises `ProtocolError` for anything not offered.

    `KeyExchangeDropped` for an answer that would be acceptable if a key exchange had not been offered.
    """
    offered, chosen = _accepted(offer, answer)
    if _exchanges_keys(offered) and TransformType.KEY_EXCHANGE not in chosen:
        raise KeyExchangeDropped("the answer drops the key exchange")
    return _esp_suite(chosen), _esp_spi(answer.proposals[0])


class KeyExchangeDropped(ProtocolError):
    """The peer chose what was offered, but without the key exchange that belonged to it."""


def _meant(proposal: Proposal) -> frozenset[Transform]:
    """The transforms that a peer offers, with what an ESP proposal means that is silent about sequence numbers."""
    silent = not any(t.type == TransformType.SEQUENCE_NUMBERS for t in proposal.transforms)
    meant = (_SHORT,) if silent and proposal.protocol == ProtocolId.ESP else ()
    return frozenset((*proposal.transforms, *meant))


def _choose(ours: SaPayload, theirs: SaPayload, spi: bytes) -> tuple[SaPayload, Proposal] | None:
    """As responder: our preferred combination that the peer offered, and the proposal of the peer's that it is from."""
    alternatives = [(offered, _meant(offered)) for offered in theirs.proposals]
    for mine in ours.proposals:
        types = sorted({t.type for t in mine.transforms})
        for offered, transforms_offered in alternatives:
            if offered.protocol != mine.protocol:
                continue
            picked = [
                next((t for t in mine.transforms if t.type == y and t in transforms_offered), None) for y in types
            ]
            unanswered = {t.type for t in transforms_offered if t.id} - set(types)
            unanswered -= {t.type for t in transforms_offered if not t.id}
            if all(picked) and not unanswered:
                transforms = tuple(t for t in picked if t in offered.transforms)
                answer = Proposal(number=offered.number, protocol=offered.protocol, spi=spi, transforms=transforms)
                return SaPayload(proposals=(answer,)), offered
    return None


def choose_ike(ours: SaPayload, theirs: SaPayload, spi: bytes) -> tuple[SaPayload, IkeSuite, bytes] | None:
    """As responder: the answer to send with our `spi`, its suite and the peer's SPI; None when nothing is in common."""
    chosen = _choose(ours, theirs, spi)
    if chosen is None:
        return None
    answer, offered = chosen
    suite = _ike_suite({t.type: t for t in answer.proposals[0].transforms})
    return answer, suite, _ike_spi(offered, len(spi))


def choose_esp(ours: SaPayload, theirs: SaPayload, spi: int) -> tuple[SaPayload, EspSuite, int] | None:
    """As responder: the answer to send with our inbound `spi`, its suite and the peer's SPI; None without a match."""
    chosen = _choose(ours, theirs, spi.to_bytes(4, "big"))
    if chosen is None:
        return None
    answer, offered = chosen
    suite = _esp_suite({t.type: t for t in answer.proposals[0].transforms})
    return answer, suite, _esp_spi(offered)
