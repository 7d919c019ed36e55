"""The Child SAs of an IKE SA: what exists, what is being replaced or deleted, and who wins when both ends act at once.

The rules for simultaneous requests are those of RFC 7296 sections 2.8.1 and 2.25.1. The table outlives the IKE SA: a
rekeyed IKE SA hands it on to its successor. Each Child SA has a record with a phase:

    IN_USE --replaced--> REPLACED --deleted--> GONE
       |        (waits for the peer's DELETE, or after LINGER for ours)
       +-----deleted-----> LOST --replaced---> GONE

What the peer is being asked about it right now is told apart, because either end may act meanwhile: a Child SA may be
replaced by the peer, or deleted, while our own request to replace it is unanswered.

Many gateways delete a Child SA that was idle for a while. The IKE SA then goes on without one, and another one like
the `lost` one is made when a packet wants to leave, or when the peer asks for it. A peer that refuses that, or deletes
what was just made, is asked again after growing pauses; after TRIES in a row it is of no use any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto

from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import ChildClosed, ChildEstablished, Event
from ikeclient.ike.v2.child.child_sa import ChildRekeyed, ChildSa
from ikeclient.ike.v2.lifetimes import LINGER, of_child, retry_after
from ikeclient.lazy_dataclass import dataclass

MAX_DELETED_BEFORE_ANSWER = 16
TRIES = 3  # refusals in a row of the only Child SA, after which only a new connection can help
SHORT_LIFE = 2.0  # seconds: a Child SA that the peer deletes sooner was as good as refused


class Phase(Enum):
    """Where a Child SA is in its life."""

    IN_USE = auto()
    REPLACED = auto()  # another one carries its traffic, or it never carried any
    LOST = auto()  # deleted without a successor: another one like it may be made
    GONE = auto()


class Change(Enum):
    """What happens to a Child SA."""

    REPLACE = auto()
    DELETE = auto()


TRANSITIONS: dict[tuple[Phase, Change], Phase] = {
    (Phase.IN_USE, Change.REPLACE): Phase.REPLACED,
    (Phase.IN_USE, Change.DELETE): Phase.LOST,
    (Phase.REPLACED, Change.REPLACE): Phase.REPLACED,  # of two simultaneous rekeys ours stays: it replaces both others
    (Phase.REPLACED, Change.DELETE): Phase.GONE,
    (Phase.LOST, Change.REPLACE): Phase.GONE,
}

IMPOSSIBLE: dict[tuple[Phase, Change], str] = {
    (Phase.LOST, Change.DELETE): "a DELETE names SPIs, and this one is not found by its SPI any more",
    (Phase.GONE, Change.REPLACE): "only what exists or was lost is replaced",
    (Phase.GONE, Change.DELETE): "a DELETE names SPIs, and this one is not found by its SPI any more",
}

EXISTING = frozenset({Phase.IN_USE, Phase.REPLACED})


class Asked(Enum):
    """What the peer is being asked about a Child SA right now."""

    NOTHING = auto()
    REPLACE = auto()  # to rekey it, or to make another one like it
    DELETE = auto()


@dataclass(slots=True, kw_only=True)
class ChildRecord:
    """One Child SA and what is known about it.

    `simultaneous` is a rekey by the peer while ours is unanswered, `refusals` how often in a row ours was refused.
    The times are when to rekey it and when it must not live any longer, None while that is not up to us.
    """

    child: ChildSa
    phase: Phase = Phase.IN_USE
    asked: Asked = Asked.NOTHING
    simultaneous: ChildRekeyed | None = None
    refusals: int = 0
    rekey_at: float | None = None
    expires_at: float | None = None

    @property
    def exists(self) -> bool:
        """Whether both ends have it, as far as we know."""
        return self.phase in EXISTING

    @property
    def stays(self) -> bool:
        """Whether it is in use and not being deleted."""
        return self.phase is Phase.IN_USE and self.asked is not Asked.DELETE

    def change(self, change: Change) -> None:
        """Enter the phase that follows; raises `KeyError` for a pair that is `IMPOSSIBLE`."""
        self.phase = TRANSITIONS[self.phase, change]


def survives(ours: tuple[bytes, bytes], theirs: tuple[bytes, bytes]) -> bool:
    """Whether our rekey stays, of two simultaneous ones.

    The one with the lowest of the four nonces is redundant. Nonces compare octet by octet, and a prefix is the lower
    one (section 2.8.1), as Python's bytes do.
    """
    return min(ours) > min(theirs)


class ChildTable:
    """Records of Child SAs by inbound SPI. `events` fills with what the data plane must do."""

    def __init__(self, config: IkeConfig, entropy: Callable[[int], bytes]) -> None:
        self._config = config
        self._entropy = entropy
        self._records: dict[int, ChildRecord] = {}
        self._deleted_before_answer: set[int] = set()  # outbound SPIs of which we have not heard yet
        self._newest_at = self._make_after = float("-inf")
        self._unwanted = 0  # how often in a row the peer refused to make another one, or deleted it at once
        self.events: deque[Event] = deque()

    # What there is

    def _existing(self) -> list[ChildRecord]:
        return [record for record in self._records.values() if record.exists]

    def __len__(self) -> int:
        return len(self._existing())

    def __iter__(self) -> Iterator[ChildSa]:
        return iter([record.child for record in self._existing()])

    def _record(self, spi_in: int) -> ChildRecord | None:
        record = self._records.get(spi_in)
        return record if record is not None and record.exists else None

    def get(self, spi_in: int) -> ChildSa | None:
        """The Child SA with this inbound SPI."""
        record = self._record(spi_in)
        return record.child if record is not None else None

    def by_outbound(self, spi_out: int) -> ChildSa | None:
        """The Child SA whose outbound SPI is this one: how the peer names it."""
        return next((child for child in self if child.spi_out == spi_out), None)

    def new_spi(self) -> int:
        """An inbound SPI that is free; the values below 256 are reserved (RFC 4303 section 2.1)."""
        while True:
            spi = int.from_bytes(self._entropy(4), "big")
            if spi >= 256 and spi not in self._records:
                return spi

    def rekeyable(self, spi_in: int) -> ChildSa | None:
        """The Child SA with this inbound SPI unless it is on its way out."""
        record = self._records.get(spi_in)
        return record.child if record is not None and record.stays else None

    @property
    def carrying(self) -> bool:
        """Whether any Child SA is left that is not on its way out."""
        return any(record.stays for record in self._records.values())

    @property
    def lost(self) -> ChildSa | None:
        """The last Child SA that ended without a successor, None once it has one."""
        return next((record.child for record in self._records.values() if record.phase is Phase.LOST), None)

    @property
    def rekeying(self) -> bool:
        """Whether the peer is being asked to replace a Child SA, or to make another one."""
        return any(record.asked is Asked.REPLACE for record in self._records.values())

    def deleting(self, spi_in: int) -> bool:
        """Whether the peer is being asked to delete this Child SA."""
        record = self._record(spi_in)
        return record is not None and record.asked is Asked.DELETE

    # What happens

    def ask_to_replace(self, spi_in: int) -> None:
        """Note that the peer is being asked to rekey this Child SA, or to make another one like it."""
        self._records[spi_in].asked = Asked.REPLACE

    def ask_to_delete(self, spi_in: int) -> None:
        """Note that the peer is being asked to delete this Child SA."""
        self._records[spi_in].asked = Asked.DELETE

    def add(self, child: ChildSa, now: float, *, replaces: int | None = None, by_peer: bool = False) -> None:
        """Take note of a Child SA that came up, in place of another one or as the first."""
        rekey_at, expires_at = of_child(self._config, self._entropy, now)
        self._records[child.spi_in] = ChildRecord(child=child, rekey_at=rekey_at, expires_at=expires_at)
        self._newest_at = now
        old = self._records.get(replaces) if replaces is not None else None
        existed = old is not None and old.exists
        if old is not None:
            self._supersede(old, now)
        self.events.append(
            ChildEstablished(
                spi_in=child.spi_in,
                spi_out=child.spi_out,
                suite=child.suite,
                keys=child.keys,
                local_selectors=child.installed_local,
                remote_selectors=child.remote,
                rekey_at=rekey_at,
                replaces=replaces if existed else None,
                by_peer=by_peer,
            )
        )

    def _supersede(self, old: ChildRecord, now: float) -> None:
        old.change(Change.REPLACE)
        old.rekey_at = None
        old.expires_at = now + LINGER if old.exists else None
        self._forget()

    def _forget(self) -> None:
        """Drop the records of what is gone, but for those about which the peer is still being asked."""
        for spi_in, record in list(self._records.items()):
            if record.phase is Phase.GONE and record.asked is not Asked.REPLACE:
                del self._records[spi_in]

    def remove(self, spi_in: int) -> None:
        """A Child SA is gone on both ends."""
        record = self._record(spi_in)
        if record is None:
            return
        record.change(Change.DELETE)
        record.rekey_at = record.expires_at = None
        if record.phase is Phase.LOST:
            for other in self._records.values():
                if other is not record and other.phase is Phase.LOST:
                    other.change(Change.REPLACE)  # only the last one is made again
        self._forget()
        self.events.append(ChildClosed(spi_in=spi_in, replaced=record.phase is Phase.GONE))

    def deleted_by_peer(self, spis_out: Sequence[int], now: float) -> None:
        """The peer deleted Child SAs, perhaps even the one whose making is still on its way to us."""
        carried = self.carrying
        for spi in spis_out:
            if (child := self.by_outbound(spi)) is not None:
                self.remove(child.spi_in)
            elif self.rekeying and len(self._deleted_before_answer) < MAX_DELETED_BEFORE_ANSWER:
                self._deleted_before_answer.add(spi)
        if carried and not self.carrying:
            if now - self._newest_at < SHORT_LIFE:
                self.making_refused(now)
            else:
                self._unwanted = 0

    # Rekeying

    def rekeyed_by_peer(self, outcome: ChildRekeyed, now: float) -> None:
        """We answered a rekey of the peer's; the old one stays until the peer deletes it."""
        old = self._records.get(outcome.old)
        if old is not None and old.asked is Asked.REPLACE:
            old.simultaneous = outcome
        self.add(outcome.child, now, replaces=outcome.old, by_peer=True)

    def rekeyed_by_us(self, outcome: ChildRekeyed, now: float) -> int | None:
        """Our rekey was answered: the inbound SPI of the Child SA that we have to delete now, if any.

        If the peer's rekey of the same Child SA was simultaneous, the redundant one is deleted by the end that made it,
        and the old one by the end that made the survivor (section 2.8.1). The old one may be deleted already.
        """
        simultaneous = self._answered(outcome.old)
        old = outcome.old if self.get(outcome.old) is not None else None
        deleted, self._deleted_before_answer = self._deleted_before_answer, set()
        if outcome.child.spi_out in deleted:
            return old if simultaneous is None else None
        if simultaneous is None:
            self.add(outcome.child, now, replaces=outcome.old)
        elif survives(outcome.nonces, simultaneous.nonces):
            theirs = simultaneous.child.spi_in
            self.add(outcome.child, now, replaces=theirs if self.get(theirs) is not None else old)
        else:  # never used: it lives only until its DELETE is answered
            self._records[outcome.child.spi_in] = ChildRecord(child=outcome.child, phase=Phase.REPLACED)
            return outcome.child.spi_in
        return old

    def _answered(self, spi_in: int) -> ChildRekeyed | None:
        """Our request to replace a Child SA is answered: what the peer did about the same one meanwhile."""
        record = self._records.get(spi_in)
        if record is None:
            return None
        simultaneous, record.simultaneous = record.simultaneous, None
        record.asked = Asked.NOTHING
        self._forget()
        return simultaneous

    def rekey_refused(self, spi_in: int, now: float) -> int:
        """The peer did not rekey; try again in a while, unless it has done so itself. How often in a row it did not."""
        self._answered(spi_in)
        self._deleted_before_answer.clear()
        record = self._records.get(spi_in)
        if record is None or not record.stays:
            return 0
        record.refusals += 1
        record.rekey_at = now + retry_after(record.refusals, self._entropy)
        return record.refusals

    # Making one again when none is left

    @property
    def replaceable(self) -> ChildSa | None:
        """The Child SA that was lost, if none is left that carries anything and none is being made."""
        return None if self.carrying or self.rekeying else self.lost

    def make_again(self, now: float) -> ChildSa | None:
        """The Child SA that is to be made again from scratch now (section 2.25); None if it is not time."""
        lost = self.replaceable
        if lost is None or now < self._make_after or self.hopeless:
            return None
        self.ask_to_replace(lost.spi_in)
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
        times = [at for record in self._records.values() for at in (record.rekey_at, record.expires_at)]
        return min((at for at in times if at is not None), default=None)

    def rekey_due(self, now: float) -> list[int]:
        """Take out the inbound SPIs of the Child SAs to rekey now, the most urgent first."""
        due = sorted((r.rekey_at, spi) for spi, r in self._records.items() if r.rekey_at is not None)
        spis = [spi for at, spi in due if at <= now]
        for spi in spis:
            self._records[spi].rekey_at = None
        return spis

    def expired(self, now: float) -> list[int]:
        """Take out the inbound SPIs of the Child SAs that must not live longer, the most urgent first."""
        due = sorted((r.expires_at, spi) for spi, r in self._records.items() if r.expires_at is not None)
        spis = [spi for at, spi in due if at <= now]
        for spi in spis:
            self._records[spi].expires_at = None
        return spis
