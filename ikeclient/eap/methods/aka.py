"""EAP-AKA and EAP-AKA', the peer's side (RFC 4187; RFC 9048 with RFC 5448).

The network sends RAND and AUTN, the card tells whether AUTN is genuine and fresh, and both ends get keys. AKA' binds
them to the name of the network and has stronger hashes. A server that prefers AKA' and ends up with AKA although we may
do AKA' was talked down to it, and is refused (RFC 9048 section 4).
"""

from __future__ import annotations

from ikeclient.crypto.algorithms.sim_keys import SimKeys, aka_keys, aka_prime_keys
from ikeclient.eap.method import Login, NeedCredential, method_name
from ikeclient.eap.sim_attributes import At, Attributes, Malformed, bare, counted, message, numbered
from ikeclient.eap.sim_method import SimMethod
from ikeclient.eap.usim import AUTN_LENGTH, RAND_LENGTH, Accepted, OutOfStep, Rejected, aka_request
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType

_CHALLENGE, _REJECT, _SYNCHRONIZATION_FAILURE, _IDENTITY = 1, 2, 4, 5
_SEPARATION = 0x80  # in the first byte of AUTN's management field
_PREFERS_PRIME = 0x8000  # in AT_BIDDING
_KDF = 1


class Aka(SimMethod):
    """One EAP-AKA or EAP-AKA' conversation."""

    def __init__(self, type_: EapType, login: Login) -> None:
        super().__init__(type_, login)
        self._prime = type_ == EapType.AKA_PRIME
        self._challenged = False
        self._resynchronised = False
        self._offered: tuple[int, ...] = ()  # the AT_KDF of the challenge before
        self._wanted: tuple[int, ...] = ()  # what they have to be after we asked for another one

    def _on_message(self, subtype: int, data: bytes, attributes: Attributes, identifier: int) -> bytes | NeedCredential:
        match subtype:
            case 5 if not self._challenged:
                answer = self._identify(attributes)
                if not answer:
                    raise Malformed("an identity request that asks for nothing")
                return self._keep_packets(data, message(_IDENTITY, answer), identifier)
            case 1:
                return self._on_challenge(data, attributes, identifier)
        raise Malformed(f"a message of subtype {subtype}")

    def _on_challenge(self, data: bytes, attributes: Attributes, identifier: int) -> bytes | NeedCredential:
        rand, autn = attributes.fixed(At.RAND), attributes.fixed(At.AUTN)
        if len(rand) != RAND_LENGTH or len(autn) != AUTN_LENGTH or At.MAC not in attributes:
            raise Malformed("a challenge that is not complete")
        network = b""
        if self._prime:
            negotiated = self._negotiate(attributes.kdfs)
            if negotiated is not None:
                return negotiated
            network = attributes.counted(At.KDF_INPUT)
            if not network or not autn[6] & _SEPARATION:
                what = "does not name the network" if not network else "is not for EAP-AKA' (separation bit)"
                return self._reject(f"the challenge {what}")
        answer = self._ask_card(aka_request(rand, autn))
        if isinstance(answer, NeedCredential):
            return answer
        self._challenged = True
        match answer:
            case Rejected():
                return self._reject("the card refuses the network's AUTN: it was not made with the card's key")
            case OutOfStep(auts=auts):
                return self._resynchronise(auts, attributes.kdfs)
            case Accepted(res=res, ck=ck, ik=ik):
                keys = (
                    aka_prime_keys(self._identity, ik, ck, network, autn)
                    if self._prime
                    else aka_keys(self._identity, ik, ck)
                )
                return self._prove(keys, res, data, attributes, identifier)
        raise Malformed("an answer of the card for another method")

    def _prove(self, keys: SimKeys, res: bytes, data: bytes, attributes: Attributes, identifier: int) -> bytes:
        self._verify(keys, data, attributes, identifier)
        prefers_prime = At.BIDDING in attributes and attributes.number(At.BIDDING) & _PREFERS_PRIME
        if not self._prime and prefers_prime and EapType.AKA_PRIME in self._login.methods:
            return self._reject("the server prefers EAP-AKA', and so do we: somebody changed what was offered")
        self._accept(keys, keys.msk, attributes, self._hidden(keys, attributes), 0)
        return self._sealed(keys, _CHALLENGE, identifier, counted(At.RES, res, bits=True), *self._echoes(attributes))

    def _negotiate(self, kdfs: tuple[int, ...]) -> bytes | None:
        """The answer that asks for a key derivation that we know; None if the first one is it. Raises Malformed."""
        before, self._offered = self._offered, kdfs
        if self._wanted:
            if kdfs != self._wanted:
                raise Malformed("AT_KDF changed in another way than was asked for")
        elif before and kdfs != before:
            raise Malformed("AT_KDF changed without being asked for")
        elif len(set(kdfs)) != len(kdfs):
            raise Malformed("AT_KDF twice")
        if kdfs[:1] == (_KDF,):
            return None
        if _KDF not in kdfs:
            return self._reject("no key derivation of the server's is known")
        self._wanted = (_KDF, *kdfs)
        self._offered = ()
        return message(_CHALLENGE, numbered(At.KDF, _KDF))

    def _resynchronise(self, auts: bytes, kdfs: tuple[int, ...]) -> bytes:
        if self._resynchronised:
            raise Malformed("the sequence number is wrong again after it was resynchronised")
        self._resynchronised = True
        copies = (numbered(At.KDF, kdf) for kdf in kdfs) if self._prime else ()
        return message(_SYNCHRONIZATION_FAILURE, bare(At.AUTS, auts), *copies)

    def _reject(self, reason: str) -> bytes:
        self._fail(
            AuthenticationFailed(
                "the network did not prove that it knows the card's key",
                reason=f"{method_name(self.type)}: {reason}",
                hint="check that the card, or k and opc, belong to auth.user; else somebody may pose as the network",
            )
        )
        return message(_REJECT)
