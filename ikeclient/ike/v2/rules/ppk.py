"""A post-quantum preshared key mixed into the keys of an IKE SA (RFC 8784).

Both ends say in IKE_SA_INIT that they have one. The request with our AUTH names ours, and AUTH is made with the mixed
keys; if the key is not required, NO_PPK_AUTH says what AUTH would be without it. The answer decides: with PPK_IDENTITY
the mixed keys are those of the IKE SA, without it there is no PPK, which is refused if it is required.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from ikeclient.crypto.algorithms.keymat import mix_ppk
from ikeclient.errors import GatewayNotAuthenticated
from ikeclient.ike.config import Ppk
from ikeclient.ike.events import Need
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.message.payloads import has_notify
from ikeclient.ike.v2.rules.proofs import OwnProof, ProofGenerator
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import NotifyType

FIXED = b"\x02"  # PPK_ID_FIXED (section 5.1)
Prove = Callable[[Candidate], ProofGenerator]


def with_ppk(candidate: Candidate, ppk: Ppk) -> Candidate:
    """The candidate with the keys that follow if both ends know the PPK (section 3)."""
    keying = candidate.keying
    return replace(candidate, keying=replace(keying, keys=mix_ppk(keying.suite.prf, keying.keys, ppk.secret)))


class PpkChoice:
    """Whether the PPK is mixed in; open until the answer to the request with our AUTH. `used` is the result."""

    def __init__(self, ppk: Ppk | None, candidate: Candidate) -> None:
        self._ppk = ppk if candidate.offers.ppk else None
        self._mixed = with_ppk(candidate, ppk) if ppk is not None and candidate.offers.ppk else None
        self.used = False

    @property
    def missing(self) -> bool:
        """Whether the gateway did not say that it has any PPK."""
        return self._ppk is None

    def prove(
        self, candidate: Candidate, make: Prove
    ) -> Generator[Need, object, tuple[OwnProof, tuple[NotifyPayload, ...]]]:
        """The proof that `make` makes, and the notifications that go with its AUTH."""
        proof = yield from make(self._mixed or candidate)
        if self._mixed is None or self._ppk is None or proof.auth is None:
            return proof, ()
        named = NotifyPayload(type=NotifyType.PPK_IDENTITY, data=FIXED + self._ppk.identity)
        plain = None if self._ppk.required else (yield from make(candidate)).auth
        if plain is None:
            return proof, (named,)
        return proof, (named, NotifyPayload(type=NotifyType.NO_PPK_AUTH, data=plain.data))

    def settle(self, answer: Sequence[Payload], candidate: Candidate) -> Candidate:
        """The candidate with the keys that the answer to our AUTH decides on.

        Raises `GatewayNotAuthenticated` if the gateway leaves out a PPK that is required.
        """
        mixed, self._mixed = self._mixed, None
        if mixed is None or self._ppk is None:
            return candidate
        if has_notify(answer, NotifyType.PPK_IDENTITY):
            self.used = True
            return mixed
        if self._ppk.required:
            raise GatewayNotAuthenticated(
                "the gateway does not use the post-quantum key that the profile requires",
                reason="its answer has no PPK_IDENTITY: it does not know this [ppk] id, or somebody cut it out",
                hint="give the gateway the key under the same id, or set ppk.required = false",
            )
        return candidate
