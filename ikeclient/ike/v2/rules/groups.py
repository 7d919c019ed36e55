"""Which key exchange method is used: ours first, then the one that the peer insists on (RFC 7296 sections 1.2, 1.3).

A peer that does not accept the method of our key share answers INVALID_KE_PAYLOAD with the one that it wants. It gets
it if it was offered and has not been tried yet, so that this never goes on for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ikeclient.crypto.algorithms.transforms import AlgorithmProposal, KeyExchange
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.registry import KeyExchangeId, NotifyType


def groups_of(proposals: Iterable[AlgorithmProposal]) -> tuple[KeyExchange, ...]:
    """The methods that proposals name, each once."""
    return tuple({group.id: group for proposal in proposals for group in proposal.key_exchange}.values())


def wanted_group(error: NotifyPayload | None) -> int | None:
    """The method that an INVALID_KE_PAYLOAD asks for; None for anything else."""
    well_formed = error is not None and error.type == NotifyType.INVALID_KE_PAYLOAD and len(error.data) == 2
    return int.from_bytes(error.data, "big") if error is not None and well_formed else None


def invalid_ke(group: KeyExchange) -> NotifyPayload:
    """Our answer to a key share of another method than the one we choose."""
    return NotifyPayload(type=NotifyType.INVALID_KE_PAYLOAD, data=group.id.to_bytes(2, "big"))


class Groups:
    """The methods of an offer: `current` is the one to send a key share of, the first of `preferred`, None without."""

    def __init__(self, offered: Iterable[KeyExchange], preferred: Sequence[KeyExchange]) -> None:
        self._untried = {group.id: group for group in offered}
        self.current = self._untried.pop(preferred[0].id) if preferred else None

    def untried(self, wanted: int | None) -> bool:
        """Whether a method was offered and is still to be tried."""
        return wanted in self._untried

    def retry(self, error: NotifyPayload | None) -> bool:
        """Go on with the method that an error asks for; false if there is no reason to try again."""
        wanted = wanted_group(error)
        if wanted is None or not self.untried(wanted):
            return False
        self.current = self._untried.pop(KeyExchangeId(wanted))
        return True
