"""What was heard while no gateway answered as it should: only ever told, in the error (nothing of it is proven)."""

from __future__ import annotations

from collections.abc import Set

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import IKE_PORT, IPAddress, Path
from ikeclient.ike.v2 import close_reasons

MAX_STRANGERS = 4


class Overheard:
    """Who answered an attempt to connect along `path`, and with what."""

    def __init__(self, path: Path) -> None:
        self._asked = path.remote_address
        self._strangers: dict[IPAddress, None] = {}  # addresses that answered although they were not asked
        self._nonsense = False
        self.nat_port_answers = False

    def note_source(self, path: Path) -> None:
        """Remember who answers from an address that was not asked."""
        address = path.remote_address
        if address != self._asked and len(self._strangers) < MAX_STRANGERS:
            self._strangers[address] = None

    def note_answer(self, asked: Path) -> None:
        """Remember that a request along this path was answered."""
        self.nat_port_answers |= asked.remote_port != IKE_PORT

    def note_nonsense(self) -> None:
        """Remember that something else than an answer came from the gateway's address."""
        self._nonsense = True

    def silence_during_auth(self, port: int, *, began: bool) -> IkeclientError:
        """Say that IKE_AUTH stayed unanswered on this port, or stopped after it `began`."""
        return close_reasons.silent_during_auth(
            self._asked, port, answers=self.nat_port_answers, began=began, strangers=tuple(self._strangers)
        )

    def silence(self, ports: Set[int]) -> IkeclientError:
        """Say that IKE_SA_INIT stayed unanswered on these ports."""
        return close_reasons.no_answer(self._asked, ports, strangers=tuple(self._strangers), nonsense=self._nonsense)
