"""One connection as whoever drives it sees it, whatever the version of the protocol.

`datagrams_to_send`, `next_event` and `next_deadline` are to be asked after each other call. Every `now` is seconds on a
clock that never goes back and counts sleep.
"""

from __future__ import annotations

from typing import Protocol

from ikeclient.errors import IkeclientError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Datagram, Event, Need, Path


class IkeConnection(Protocol):
    """A client's end of IKE."""

    accepted: IkeConfig | None  # how the gateway that is connected was asked

    def start(self, path: Path, now: float) -> None:
        """Begin connecting along `path`."""

    def awaits(self, data: bytes) -> bool:
        """Tell whether a message may be one that is due here."""

    def note_nonsense(self) -> None:
        """Take note that something else than an answer came from the gateway's address."""

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """Take one message."""

    def handle_timer(self, now: float, *, deaf: bool = False) -> None:
        """Do what is due; `deaf` if datagrams may have been missed lately."""

    def supply(self, need: Need, value: object, now: float) -> None:
        """Answer a need; nothing happens if it is not waited for any more."""

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        """Leave a `Need` unanswered: the exchange fails with `error`."""

    def close(self, now: float) -> None:
        """End in order; `Closed` tells when that is done."""

    def give_up(self, now: float) -> None:
        """Stop connecting: `Closed` comes at once, and the gateway is told until it acknowledges."""

    def rekey_child(self, spi_in: int, now: float) -> None:
        """Rekey one Child SA."""

    def make_child(self, now: float) -> None:
        """Make another Child SA if the gateway has deleted the only one."""

    def path_changed(self, path: Path, now: float, *, proven: bool = True) -> bool:
        """Move to `path`; false if the gateway does not speak MOBIKE."""

    @property
    def can_move(self) -> bool:
        """Whether the connection survives a change of path."""

    def check_liveness(self, now: float, *, suspicious: bool = False) -> None:
        """Ask the gateway whether it is there; `suspicious` if it may well be gone."""

    def probe_path(self, size: int, now: float) -> bool:
        """Find out whether the path carries IP packets of `size` bytes; false if the connection is not up."""

    def set_path_mtu(self, size: int) -> None:
        """Make no message longer than IP packets of `size` bytes, if fragments are agreed on."""

    def heard(self, now: float) -> None:
        """Take note that authenticated ESP arrived."""

    @property
    def round_trip(self) -> float | None:
        """How long the gateway took to answer, in seconds, when it was asked last; None while that is not known."""

    @property
    def last_heard(self) -> float:
        """When the gateway last proved to be alive; minus infinity before that."""

    @property
    def logging_in(self) -> bool:
        """Whether the gateway probably works on a login of ours."""

    @property
    def refused_by_gateway(self) -> bool:
        """Whether connecting failed for a reason that a gateway gave which had proven itself."""

    @property
    def unanswered_since(self) -> float | None:
        """Since when the gateway owes us an answer; None while it does not."""

    def datagrams_to_send(self) -> list[Datagram]:
        """Take every datagram that waits to be sent."""

    def next_event(self) -> Event | None:
        """Take the next event."""

    def next_deadline(self) -> float | None:
        """When to call `handle_timer` at the latest; None once everything is over."""
