"""A number of places, shared between the users who want them, so that none of them can shut out the others.

One user alone may have half of them. When fewer are free, each user may still come to a quarter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

_User = TypeVar("_User", bound=Hashable)

FEWEST = 16  # places that are worth sharing


class Shares(Generic[_User]):
    """Who holds how many of `places`."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._held: Counter[_User] = Counter()
        self.taken = 0

    def may_take(self, user: _User) -> bool:
        """Whether there is a place for one more of this user."""
        if self.taken >= self.places:
            return False
        if self.places < FEWEST:
            return True
        return self._held[user] < self.places // 4 or self.taken < self.places // 2

    def take(self, user: _User) -> None:
        """One place more for this user."""
        self._held[user] += 1
        self.taken += 1

    def give_back(self, user: _User) -> None:
        """One place less."""
        self.taken -= 1
        self._held[user] -= 1
        if not self._held[user]:
            del self._held[user]

    def held(self, user: _User) -> int:
        """How many this user has."""
        return self._held[user]
