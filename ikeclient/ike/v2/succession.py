"""The IKE SAs that rekeys of one IKE SA made: its successor, and those that simultaneous rekeys made too many.

`child/table.survives` decides which of two simultaneous rekeys stays (RFC 7296 section 2.8.2).
"""

from __future__ import annotations

from ikeclient.ike.v2.exchanges.rekey_ike import IkeRekeyed
from ikeclient.ike.v2.tasks import Task


class Succession:
    """What follows an IKE SA. Its owner makes IKE SAs of it.

    `successor` inherits the tasks that are `undone`; `redundant` are the others, each with whether we delete it.
    """

    def __init__(self) -> None:
        self.successor: IkeRekeyed | None = None
        self.undone: tuple[Task, ...] = ()
        self.redundant: list[tuple[IkeRekeyed, bool]] = []
        self._simultaneous: IkeRekeyed | None = None

    def rekeyed_by_peer(self, new: IkeRekeyed) -> None:
        """Keep a rekey of the peer's until ours is answered."""
        self._simultaneous = new

    def take_simultaneous(self) -> IkeRekeyed | None:
        """Take the peer's rekey that was simultaneous with ours."""
        new, self._simultaneous = self._simultaneous, None
        return new

    def replaced(self, successor: IkeRekeyed, undone: tuple[Task, ...]) -> None:
        """Go on with `successor`, which does what is `undone`."""
        self.successor, self.undone = successor, undone
        self._simultaneous = None

    def add_redundant(self, new: IkeRekeyed, *, ours: bool) -> None:
        """Note one that is not used; `ours` says that we delete it."""
        self.redundant.append((new, ours))
