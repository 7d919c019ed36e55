"""EAP-SIM, the peer's side (RFC 4186): GSM's challenges, two or three of them, and a nonce of ours.

The card cannot tell a network that knows its key from another; that is proven by AT_MAC alone, with keys of 64 bits
each that GSM's own weaknesses may give away. So this method stands alone only with three challenges that differ.
"""

from __future__ import annotations

from ikeclient.crypto.algorithms.sim_keys import sim_keys
from ikeclient.eap.method import Login, NeedCredential
from ikeclient.eap.sim_attributes import At, Attributes, Malformed, fixed, message, numbered
from ikeclient.eap.sim_method import SimMethod
from ikeclient.eap.usim import RAND_LENGTH, Rejected, Triplets, sim_request
from ikeclient.wire.registry import EapType

_START, _CHALLENGE = 10, 11
_VERSION = 1
_NONCE = 16
_CHALLENGES = 3  # of at most three; two give keys of 128 bits that a quarter of the work finds (section 12.3)


class Sim(SimMethod):
    """One EAP-SIM conversation."""

    def __init__(self, login: Login) -> None:
        super().__init__(EapType.SIM, login)
        self._nonce = b""
        self._versions = b""

    def _on_message(self, subtype: int, data: bytes, attributes: Attributes, identifier: int) -> bytes | NeedCredential:
        match subtype:
            case 10:
                return self._on_start(attributes)
            case 11 if self._nonce:
                return self._on_challenge(data, attributes, identifier)
        raise Malformed(f"a message of subtype {subtype}")

    def _on_start(self, attributes: Attributes) -> bytes:
        versions = attributes.counted(At.VERSION_LIST)
        offered = [int.from_bytes(versions[at : at + 2], "big") for at in range(0, len(versions), 2)]
        if len(versions) % 2 or _VERSION not in offered:
            raise Malformed("no version of EAP-SIM that we know")
        identity = self._identify(attributes)
        fast = self._sim.memory.reauthentications.get(self.type)
        if fast is not None and fast.identity.encode() == self._identity and identity:
            return message(_START, identity)
        self._versions = versions
        self._nonce = self._login.entropy(_NONCE)
        return message(
            _START,
            fixed(At.NONCE_MT, self._nonce),
            numbered(At.SELECTED_VERSION, _VERSION),
            *(identity and (identity,)),
        )

    def _on_challenge(self, data: bytes, attributes: Attributes, identifier: int) -> bytes | NeedCredential:
        values = attributes.fixed(At.RAND)
        rands = [values[at : at + RAND_LENGTH] for at in range(0, len(values), RAND_LENGTH)]
        if len(values) % RAND_LENGTH or len(rands) != _CHALLENGES or len(set(rands)) != len(rands):
            raise Malformed(f"not {_CHALLENGES} different challenges")
        if At.MAC not in attributes:
            raise Malformed("no AT_MAC")
        answer = self._ask_card(sim_request(rands))
        if isinstance(answer, NeedCredential):
            return answer
        if isinstance(answer, Rejected):
            raise Malformed("the card refuses the challenge")
        if not isinstance(answer, Triplets):
            raise Malformed("an answer of the card for another method")
        selected = _VERSION.to_bytes(2, "big")
        keys = sim_keys(self._identity, b"".join(answer.kc), self._nonce, self._versions, selected)
        self._verify(keys, data, attributes, identifier, self._nonce)
        self._accept(keys, keys.msk, attributes, self._hidden(keys, attributes), 0)
        echoes = self._echoes(attributes)
        return self._sealed(keys, _CHALLENGE, identifier, *echoes, extra=b"".join(answer.sres))
