"""Answers to IKE_SA_INIT that wait to be tried: bounded memory and bounded computing.

An attacker who sees our request can send as many good answers as the line carries, before the gateway's own. Each one
costs a key exchange and a login when it is tried, so few are tried in a second, and few wait; chance decides which. An
answer that came twice goes first: a gateway repeats its answer to a repeated request, so after the next repetition the
genuine one is found among thousands that were made up anew.
"""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.ike.v2.exchanges.init import Answer, InitExchange
from ikeclient.lazy_dataclass import dataclass

MAX_WAITING = 32
TRIED_AT_ONCE = 8  # answers whose key exchange is computed in one go
TRIED_PER_SECOND = 4.0  # after that


@dataclass(frozen=True, slots=True)
class Waiting:
    """An answer and the exchange that it belongs to."""

    init: InitExchange
    answer: Answer

    @property
    def repeated(self) -> bool:
        """Whether exactly this answer came more than once."""
        return self.init.seen.repeated(self.answer.data)


class Answers:
    """Answers in the order in which to try them."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._waiting: dict[int, Waiting] = {}
        self._tried: set[int] = set()
        self._refused = 0  # since there was room last
        self._budget = float(TRIED_AT_ONCE)
        self._budget_at = 0.0

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def add(self, init: InitExchange, answer: Answer) -> None:
        """Keep an answer until it is tried; if there are too many, chance decides which one is forgotten."""
        digest = hash(answer.data)
        if digest in self._tried or digest in self._waiting:
            return
        new = Waiting(init, answer)
        if len(self._waiting) < MAX_WAITING:
            self._refused = 0
        else:
            self._refused += 1
            others = [known for known, each in self._waiting.items() if not each.repeated] or list(self._waiting)
            slots = len(others) if new.repeated else MAX_WAITING + self._refused
            slot = int.from_bytes(self._entropy(4), "big") % slots
            if slot >= len(others):
                return
            del self._waiting[others[slot]]
        self._waiting[digest] = new

    def following(self, may_try: Callable[[Waiting], bool]) -> Waiting | None:
        """The answer to try next, of those that may be tried."""
        allowed = [waiting for waiting in self._waiting.values() if may_try(waiting)]
        return min(allowed, key=lambda waiting: not waiting.repeated, default=None)

    def affordable_at(self, now: float) -> float:
        """When the next key exchange may be computed: now or later."""
        self._budget = min(TRIED_AT_ONCE, self._budget + (now - self._budget_at) * TRIED_PER_SECOND)
        self._budget_at = now
        return now if self._budget >= 1 else now + (1 - self._budget) / TRIED_PER_SECOND + 0.001

    def take(self, waiting: Waiting) -> None:
        """This one is tried now."""
        digest = hash(waiting.answer.data)
        del self._waiting[digest]
        self._tried.add(digest)
        self._budget -= 1
