"""The Child SAs of an IKE SA: what exists, what is being replaced or deleted, and who wins when both ends act at once.

The rules for crossing requests are those of RFC 7296 sections 2.8.1 and 2.25.1. The book outlives the IKE SA: a rekeyed
IKE SA hands it on to its successor.

    in use --rekeying--> in use --superseded--> waits for its DELETE --> gone
       |                                          (the peer's, or after LINGER ours)
       +--deleting--> gone

Many gateways delete a Child SA that was idle for a while. The IKE SA then goes on without one, and another one like
the `lost` one is made when a packet wants to leave, or when the peer asks for it. A peer that refuses that, or deletes
what was just made, is asked again after growing pauses; after TRIES in a row it is of no use any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import ChildClosed, ChildEstablished, Event
from ikeclient.ike.timers import Timers, jittered
from ikeclient.ike.v2.child.child_sa import ChildRekeyed, ChildSa
from ikeclient.ike.v2.lifetimes import HARD_END, LINGER, retry_after

MAX_DELETED_BEFORE_ANSWER = 16
TRIES = 3  # refusals in a row of the only Child SA, after which only a new connection can help
SHORT_LIFE = 2.0  # seconds: a Child SA that the peer deletes sooner was as good as refused


def survives(ours: tuple[bytes, bytes], theirs: tuple[bytes, bytes]) -> bool:
    """Whether our rekey stays, of two simultaneous ones.

    The one with the lowest of the four nonces is redundant. Nonces compare octet by octet, and a
    prefix is the lower one (section 2.8.1), as Python's bytes do.
    """
    return min(ours) > min(theirs)


class ChildTable:
    """Child SAs by inbound SPI, with their lifetimes. `events` fills with what the data plane must do.

    `rekeying` and `deleting` are the inbound SPIs about which the peer is being asked right now. `lost` is the
    last Child SA that ended without a successor.
    """

    def __init__(self, config: IkeConfig, entropy: Callable[[int], bytes]) -> None:
        self._config = config
        self._entropy = entropy
        self._all: dict[int, ChildSa] = {}
        self._simultaneous: dict[int, ChildRekeyed] = {}
        self._superseded: set[int] = set()
        self._refusals: dict[int, int] = {}
        self._deleted_before_answer: set[int] = set()
        self._rekey: Timers[int] = Timers()
        self._expiry: Timers[int] = Timers()
        self._born = self._make_after = float("-inf")
        self._unwanted = 0  # how often in a row the peer refused to make another one, or deleted it at once
        self.lost: ChildSa | None = None
        self.rekeying: set[int] = set()
        self.deleting: set[int] = set()
        self.events: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[ChildSa]:
        return iter(list(self._all.values()))

    def get(self, spi_in: int) -> ChildSa | None:
        """The Child SA with this inbound SPI."""
        return self._all.get(spi_in)

    def by_outbound(self, spi_out: int) -> ChildSa | None:
        """The Child SA whose outbound SPI is this one: how the peer names it."""
        return next((child for child in self._all.values() if child.spi_out == spi_out), None)

    def new_spi(self) -> int:
        """An inbound SPI that is free; the values below 256 are reserved (RFC 4303 section 2.1)."""
        while True:
            spi = int.from_bytes(self._entropy(4), "big")
            if spi >= 256 and spi not in self._all:
                return spi

    def rekeyable(self, spi_in: int) -> ChildSa | None:
        """The Child SA with this inbound SPI unless it is on its way out."""
        leaving = spi_in in self.deleting or spi_in in self._superseded
        return None if leaving else self._all.get(spi_in)

    @property
    def carrying(self) -> bool:
        """Whether any Child SA is left that is not on its way out."""
        return any(self.rekeyable(spi) for spi in self._all)

    def add(self, child: ChildSa, now: float, *, replaces: int | None = None) -> None:
        """A Child SA came up, in place of another one or as the first."""
        rekey_at = now + jittered(self._config.rekey_child, self._entropy)
        self._all[child.spi_in] = child
        self._rekey.set(child.spi_in, rekey_at)
        self._expiry.set(child.spi_in, now + self._config.rekey_child * HARD_END)
        self._born = now
        if replaces is not None:
            self._supersede(replaces, now)
        self.events.append(
            ChildEstablished(
                spi_in=child.spi_in,
                spi_out=child.spi_out,
                suite=child.suite,
                keys=child.keys,
                local_selectors=child.installed_local,
                remote_selectors=child.remote,
                rekey_at=rekey_at,
                replaces=replaces,
            )
        )

    def _supersede(self, spi_in: int, now: float) -> None:
        self._superseded.add(spi_in)
        self._rekey.cancel(spi_in)
        self._expiry.set(spi_in, now + LINGER)

    def remove(self, spi_in: int) -> None:
        """A Child SA is gone on both ends."""
        self._rekey.cancel(spi_in)
        self._expiry.cancel(spi_in)
        self._refusals.pop(spi_in, None)
        self.deleting.discard(spi_in)
        replaced = spi_in in self._superseded
        self._superseded.discard(spi_in)
        if (child := self._all.pop(spi_in, None)) is not None:
            self.lost = self.lost if replaced else child
            self.events.append(ChildClosed(spi_in=spi_in, replaced=replaced))

    def deleted_by_peer(self, spis_out: Sequence[int], now: float) -> None:
        """The peer deleted Child SAs, perhaps even the one whose making is still on its way to us."""
        carried = self.carrying
        for spi in spis_out:
            if (child := self.by_outbound(spi)) is not None:
                self.remove(child.spi_in)
            elif self.rekeying and len(self._deleted_before_answer) < MAX_DELETED_BEFORE_ANSWER:
                self._deleted_before_answer.add(spi)
        if carried and not self.carrying:
            if now - self._born < SHORT_LIFE:
                self.making_refused(now)
            else:
                self._unwanted = 0

    # Rekeying

    def rekeyed_by_peer(self, outcome: ChildRekeyed, now: float) -> None:
        """We answered a rekey of the peer's; the old one stays until the peer deletes it."""
        if outcome.old in self.rekeying:
            self._simultaneous[outcome.old] = outcome
        self.add(outcome.child, now, replaces=outcome.old if outcome.old in self._all else None)

    def rekeyed_by_us(self, outcome: ChildRekeyed, now: float) -> int | None:
        """Our rekey was answered: the inbound SPI of the Child SA that we have to delete now, if any.

        Where the peer's rekey of the same Child SA crossed ours, the redundant one is deleted by who made it, and the
        old one by who made the survivor (section 2.8.1). The peer may have deleted the old one already.
        """
        self.rekeying.discard(outcome.old)
        simultaneous = self._simultaneous.pop(outcome.old, None)
        old = outcome.old if outcome.old in self._all else None
        deleted_before_answer, self._deleted_before_answer = self._deleted_before_answer, set()
        if outcome.child.spi_out in deleted_before_answer:
            return old if simultaneous is None else None
        if simultaneous is None:
            self.add(outcome.child, now, replaces=old)
        elif survives(outcome.nonces, simultaneous.nonces):
            self.add(
                outcome.child,
                now,
                replaces=simultaneous.child.spi_in if simultaneous.child.spi_in in self._all else old,
            )
        else:
            self._all[outcome.child.spi_in] = outcome.child  # never used: it lives only until its DELETE is answered
            self._superseded.add(outcome.child.spi_in)
            return outcome.child.spi_in
        return old

    def rekey_refused(self, spi_in: int, now: float) -> int:
        """The peer did not rekey; try again in a while, unless it has done so itself. How often in a row it did not."""
        self.rekeying.discard(spi_in)
        self._deleted_before_answer.clear()
        self._simultaneous.pop(spi_in, None)
        if self.rekeyable(spi_in):
            self._refusals[spi_in] = self._refusals.get(spi_in, 0) + 1
            self._rekey.set(spi_in, now + retry_after(self._refusals[spi_in], self._entropy))
        return self._refusals.get(spi_in, 0)

    # Making one again where none is left

    @property
    def replaceable(self) -> ChildSa | None:
        """The Child SA that was lost, where none is left that carries anything and none is being made."""
        return None if self.carrying or self.rekeying else self.lost

    def make_again(self, now: float) -> ChildSa | None:
        """The Child SA that is to be made again from scratch now (section 2.25); None where it is not time."""
        lost = self.replaceable
        if lost is None or now < self._make_after or self.hopeless:
            return None
        self.rekeying.add(lost.spi_in)
        return lost

    def making_refused(self, now: float) -> None:
        """The peer did not make another one, or did not keep it; it is asked again after a while."""
        self._unwanted += 1
        self._make_after = now + 2.0 ** (self._unwanted - 1)

    @property
    def hopeless(self) -> bool:
        """Whether the peer has refused another Child SA too often."""
        return self._unwanted >= TRIES

    # Time

    @property
    def next_deadline(self) -> float | None:
        """When `rekey_due` or `expired` will have something."""
        return min((d for d in (self._rekey.next, self._expiry.next) if d is not None), default=None)

    def rekey_due(self, now: float) -> list[int]:
        """Take out the inbound SPIs of the Child SAs to rekey now."""
        return self._rekey.expired(now)

    def expired(self, now: float) -> list[int]:
        """Take out the inbound SPIs of the Child SAs that must not live longer."""
        return self._expiry.expired(now)
