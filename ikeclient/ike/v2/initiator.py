"""One connection as its driver sees it: five methods in, datagrams, a deadline and events out.

First a `Handshake` looks for the gateway, then a `IkeSas` of IKE SAs keeps the connection; what they produce becomes
one stream of events here. IKE SAs that the handshake gave up are deleted until the gateway acknowledges, also after
`Closed`: as long as `next_deadline` is not None the initiator wants its datagrams and its time.

An unexpected exception is a bug of ours, told in a notice without a word from outside. Over a message that is not
authentic it changes nothing: the message is dropped. Over an authentic one it may leave an IKE SA half changed, so it
ends this connection with an error that says where the bug is; the next connection starts afresh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from ikeclient.errors import IkeclientError, ParseError, bug_error, place_of, shortage
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import (
    Closed,
    Datagram,
    Event,
    GatewayAddresses,
    IkeEstablished,
    NatStatus,
    Need,
    Notice,
    Path,
    PathChanged,
)
from ikeclient.ike.observation import Observer, nobody
from ikeclient.ike.v2.handshake import Handshake, Lost, PendingAuth, Won, disclosed
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.ike_sas import IkeSas
from ikeclient.ike.v2.message.window import TIMEOUT, TIMEOUT_SUSPICIOUS
from ikeclient.ike.v2.sources import Sources
from ikeclient.ike.v2.state import State
from ikeclient.ike.v2.tasks import Job, Task
from ikeclient.wire.header import MAJOR_VERSION, SPIS_LENGTH, Header
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ExchangeType

# Payloads, proposals and transforms that are read before anything is authenticated. An answer to IKE_SA_INIT has one
# proposal with one transform of each type; all other messages have SK alone, or a few notifications.
INIT_STRUCTURES = 64
OUTER_STRUCTURES = 4

T = TypeVar("T")

MAX_LEAVING = 8  # IKE SAs that were given up and are still being deleted; forgers may cause more of them


class Initiator:
    """A client's IKEv2 connection. After each call take `datagrams_to_send`, `next_event` and `next_deadline`.

    `entropy` returns that many random bytes, `wall_clock` the time of day for certificates; every `now` is seconds on
    a clock that never goes back and counts sleep. `observe` is told of every message.
    """

    def __init__(
        self,
        config: IkeConfig,
        entropy: Callable[[int], bytes],
        wall_clock: Callable[[], datetime],
        observe: Observer = nobody,
    ) -> None:
        self._config = config
        self.accepted: IkeConfig | None = None  # how the gateway that is connected was asked
        self._sources = Sources(entropy=entropy, wall_clock=wall_clock, observe=observe)
        self._handshake: Handshake | None = None
        self._ike_sas: IkeSas | None = None
        self._leaving: list[IkeSa] = []
        self._faults: set[str] = set()
        self._nat = NatStatus(local=False, remote=False)
        self._outbox: deque[Datagram] = deque()
        self._events: deque[Event] = deque()
        self._size = 65535
        self._closing = False
        self._closed = False
        self._refused = False

    # In

    def start(self, path: Path, now: float) -> None:
        """Begin connecting along `path`; an answer or `Closed` comes within `config.timing.timeout` seconds."""
        self._handshake = Handshake(self._config, self._sources, path, now)
        self._settle(now)

    def awaits(self, data: bytes) -> bool:
        """Whether an IKE message may be one that is due here, as far as its header tells.

        Cheap for what anybody may send: the SPIs are looked at first.
        """
        return self._due(data) is not None

    def note_nonsense(self) -> None:
        """Take note that something else than an answer came from the gateway's address, for the error."""
        if self._handshake is not None:
            self._handshake.note_nonsense()

    def _due(self, data: bytes) -> Header | None:
        """The header of a message that may be due, by its SPIs, direction, exchange and message ID."""
        spis = data[:SPIS_LENGTH]
        first = self._handshake or self._ike_sas
        owner: Handshake | IkeSas | IkeSa | None = first if first is not None and first.knows(spis) else None
        if owner is None and self._leaving:
            owner = next((sa for sa in self._leaving if sa.keying.spis == spis), None)
        if owner is None:
            return None
        try:
            header = Header.parse(data)
        except ParseError:
            return None
        return header if header.major == MAJOR_VERSION and owner.awaits(header) else None

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """Take one IKE message (without non-ESP marker) that arrived on `path`. Anything unusable is dropped.

        Payloads are read only from a message that is due, and no more of them than such a message needs in the clear.
        """
        try:
            message = self._read(data)
            if message is None:
                return
            if self._handshake is not None:
                self._handshake.receive(data, message, path, now)
        except Exception as error:  # nothing here is authenticated
            self._fault(error)
            return
        for sa in self._leaving:
            if sa.keying.spis == message.header.spi_i + message.header.spi_r:
                self._hand(sa, data, message, path, now)
        if (ike_sas := self._ike_sas) is not None and (owner := ike_sas.find(message.header)) is not None:
            self._hand(owner, data, message, path, now)
        self._guarded(now, lambda: self._settle(now))

    def _read(self, data: bytes) -> Message | None:
        header = self._due(data)
        if header is None:
            return None
        most = INIT_STRUCTURES if header.exchange == ExchangeType.IKE_SA_INIT else OUTER_STRUCTURES
        try:
            return Message.parse(data, header, most)
        except ParseError:
            return None

    def _hand(self, sa: IkeSa, data: bytes, message: Message, path: Path, now: float) -> None:
        """Let `sa` have a message, which may be anybody's."""
        try:
            sa.receive(data, message, path, now)
        except Exception as error:  # as in `_guarded`, if the message is authentic
            genuine = False
            with suppress(Exception):
                genuine = sa.channel.genuine(data, message)
            if genuine:
                self._broken(sa, error, now)
            else:
                self._fault(error)

    def handle_timer(self, now: float, *, deaf: bool = False) -> None:
        """Do everything whose time has come.

        `deaf` tells that answers may have come lately and were not heard, because datagrams lie unread or were lost for
        want of room, or because this was not called for a while. Silence then proves nothing yet.
        """
        for sa in self._leaving:
            self._guarded(now, lambda sa=sa: sa.handle_timer(now), sa)  # type: ignore[misc]
        if (handshake := self._handshake) is not None:
            self._guarded(now, lambda: handshake.handle_timer(now))
        if (ike_sas := self._ike_sas) is not None:
            self._guarded(now, lambda: ike_sas.handle_timer(now, deaf=deaf))
        self._guarded(now, lambda: self._settle(now))

    def _guarded(self, now: float, call: Callable[[], None], sa: IkeSa | None = None) -> None:
        """Let an IKE SA act, by default the one in use; an unexpected exception is its end, with a last DELETE."""
        try:
            call()
        except Exception as error:  # whatever it is, the process and the machine's routes have to outlive it
            self._broken(sa or (self._ike_sas.current if self._ike_sas is not None else None), error, now)

    def _broken(self, sa: IkeSa | None, error: Exception, now: float) -> None:
        """An IKE SA may be half changed by a bug of ours: end it."""
        bug = shortage(error) or bug_error(error, f"in {self._fault(error)}, over something authentic of the gateway's")
        if sa is None:
            self._finish(bug)
            return
        with suppress(Exception):
            sa.fail(bug, now)
            self._outbox.extend(_taken(sa.channel.outbox))
        sa.close(bug)
        if self._ike_sas is not None and sa is self._ike_sas.current:
            self._finish(bug)

    def _fault(self, error: Exception) -> str:
        """Tell about a bug of ours, once for each place, which is returned."""
        place = place_of(error)
        if place not in self._faults:
            self._faults.add(place)
            self._events.append(Notice(text=f"a bug in ikeclient: {type(error).__name__} in {place}"))
        return place

    def supply(self, need: Need, value: object, now: float) -> None:
        """Answer a `Need` with what it asks for; nothing happens if it is not waited for any more."""
        if self._handshake is not None:
            self._handshake.supply(need, value, now)
            self._settle(now)

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        """Leave a `Need` unanswered: the exchange fails with `error`, and `Closed` tells it; as `supply`."""
        if self._handshake is not None:
            self._handshake.refuse(need, error, now)
            self._settle(now)

    def close(self, now: float) -> None:
        """End the connection in order: DELETE to the gateway, `Closed` when it is answered or soon after."""
        self._closing = True
        if self._handshake is not None:
            self._handshake.cancel(now)
        elif self._ike_sas is not None:
            for sa in self._ike_sas:
                sa.delete(now)
        else:
            self._finish(None)
        self._settle(now)

    def give_up(self, now: float) -> None:
        """Stop connecting: `Closed` comes at once, and the gateway is told until it acknowledges."""
        if self._handshake is not None:
            self._closing = True
            self._handshake.give_up(now)
            self._settle(now)
        else:
            self.close(now)

    def rekey(self, now: float) -> None:
        """Rekey the IKE SA."""
        if self._ike_sas is not None:
            self._ike_sas.current.rekey(now)
            self._settle(now)

    def rekey_child(self, spi_in: int, now: float) -> None:
        """Rekey one Child SA."""
        if self._ike_sas is not None:
            self._ike_sas.current.rekey_child(spi_in, now)
            self._settle(now)

    def make_child(self, now: float) -> None:
        """Make another Child SA if the gateway has deleted the only one; a packet wants to leave."""
        if self._ike_sas is not None:
            self._ike_sas.current.make_child(now)
            self._settle(now)

    def path_changed(self, path: Path, now: float, *, proven: bool = True) -> bool:
        """Move the connection to `path` without rekeying anything; false if the gateway does not speak MOBIKE.

        `proven` says that the gateway has answered at the remote address before: then `PathChanged` comes at once,
        because ESP may use the new path before the gateway has confirmed it with `Roamed`. Else only `Roamed` comes:
        no traffic goes to an address that was merely announced (RFC 4555 section 3.7).
        """
        if self._ike_sas is None or not self.can_move:
            return False
        if proven:
            self._events.append(PathChanged(path=path))
        for sa in self._ike_sas:
            sa.move(path, now)
        self._settle(now)
        return True

    @property
    def can_move(self) -> bool:
        """Whether the connection survives a change of path."""
        outcome = self._ike_sas.current.outcome if self._ike_sas is not None else None
        return outcome is not None and outcome.mobike

    def check_liveness(self, now: float, *, suspicious: bool = False) -> None:
        """Ask the gateway whether it is there; a hint from outside may cause this, never more.

        `suspicious` is for when it may well be gone: the verdict then comes within a few seconds.
        """
        if self._ike_sas is not None:
            self._ike_sas.current.check_liveness(now, TIMEOUT_SUSPICIOUS if suspicious else TIMEOUT)
            self._settle(now)

    def probe_path(self, size: int, now: float) -> bool:
        """Find out whether the path carries IP packets of `size` bytes; `PathProbed` tells.

        False if the connection is not up.
        """
        current = self._ike_sas.current if self._ike_sas is not None else None
        if current is None or current.state is not State.ESTABLISHED:
            return False
        current.begin(Task(Job.PROBE, size), now)
        self._settle(now)
        return True

    def set_path_mtu(self, size: int) -> None:
        """Make no message longer than IP packets of `size` bytes, if fragments are agreed on."""
        self._size = size
        if self._ike_sas is not None:
            self._ike_sas.current.channel.set_path_mtu(size)

    def heard(self, now: float) -> None:
        """Authenticated ESP arrived: the gateway is alive, no check is needed."""
        if self._ike_sas is not None:
            self._ike_sas.current.heard(now)

    @property
    def last_heard(self) -> float:
        """When the gateway last proved to be alive; minus infinity before that."""
        return self._ike_sas.current.last_heard if self._ike_sas is not None else float("-inf")

    @property
    def round_trip(self) -> float | None:
        """How long the gateway took to answer, in seconds, when it was asked last; None while that is not known."""
        return self._ike_sas.current.channel.requests.round_trip if self._ike_sas is not None else None

    @property
    def logging_in(self) -> bool:
        """Whether the gateway probably works on a login of ours: it must not be repeated because it is slow."""
        return self._handshake is not None and self._handshake.logging_in

    @property
    def refused_by_gateway(self) -> bool:
        """Whether connecting failed for a reason that a gateway gave, or was found in one, that had proven itself."""
        return self._refused

    @property
    def unanswered_since(self) -> float | None:
        """Since when the gateway owes us an answer; None while it does not."""
        return self._ike_sas.current.channel.requests.waiting_since if self._ike_sas is not None else None

    # Out

    def datagrams_to_send(self) -> list[Datagram]:
        """Take every datagram that waits to be sent."""
        datagrams = list(self._outbox)
        self._outbox.clear()
        return datagrams

    def next_event(self) -> Event | None:
        """Take the next event."""
        return self._events.popleft() if self._events else None

    def next_deadline(self) -> float | None:
        """When to call `handle_timer` at the latest; None once everything is over."""
        deadlines = [sa.next_deadline() for sa in self._leaving]
        if self._handshake is not None:
            deadlines.append(self._handshake.next_deadline())
        if self._ike_sas is not None:
            deadlines.append(self._ike_sas.next_deadline())
        return min((d for d in deadlines if d is not None), default=None)

    # Settling what they did

    def _settle(self, now: float) -> None:
        """Take what the handshake or the IKE SAs produced, and follow their changes of state."""
        if (handshake := self._handshake) is not None:
            self._outbox.extend(_taken(handshake.outbox))
            self._events.extend(_taken(handshake.events))
            self._leaving += handshake.leaving
            handshake.leaving.clear()
            match handshake.result:
                case Won(pending=winner, accepted=accepted):
                    self.accepted = accepted
                    self._established(winner)
                case Lost(error=error, proven=proven):
                    self._handshake = None
                    self._refused = proven
                    self._finish(error)
        if (ike_sas := self._ike_sas) is not None:
            self._collect(ike_sas.current)
            for successor in ike_sas.settle(now):
                successor.channel.set_path_mtu(self._size)
                if self._config.disclose_keys:
                    self._events.append(disclosed(successor))
                self._announce(successor, rekeyed=True)
                self._collect(successor)
            self._outbox.extend(ike_sas.take_datagrams())
            if ike_sas.current.state is State.CLOSED:
                self._finish(ike_sas.current.error)
        for sa in self._leaving:
            self._outbox.extend(_taken(sa.channel.outbox))
        self._leaving = [sa for sa in self._leaving if sa.state is not State.CLOSED][-MAX_LEAVING:]

    def _collect(self, sa: IkeSa) -> None:
        self._events.extend(_taken(sa.events))
        self._events.extend(_taken(sa.children.events))

    def _established(self, winner: PendingAuth) -> None:
        """One candidate authenticated: it is the connection, the others are forgotten."""
        self._handshake = None
        self._ike_sas = IkeSas(winner.sa)
        self._nat = winner.candidate.nat
        outcome = winner.sa.outcome
        assert outcome is not None
        self._events.append(PathChanged(path=winner.sa.channel.path))
        self._announce(winner.sa, rekeyed=False)
        self._events.extend(Notice(text=text) for text in outcome.notices)
        self._events.append(outcome.configuration)
        if outcome.additional_addresses:
            self._events.append(GatewayAddresses(addresses=outcome.additional_addresses))

    def _announce(self, sa: IkeSa, *, rekeyed: bool) -> None:
        assert sa.outcome is not None
        self._events.append(
            IkeEstablished(
                spi_i=sa.keying.spi_i,
                spi_r=sa.keying.spi_r,
                suite=sa.keying.suite,
                gateway_identity=sa.outcome.gateway_identity,
                nat=self._nat,
                mobike=sa.outcome.mobike,
                fragmentation=sa.keying.fragmentation,
                rekey_at=sa.lifetimes.rekey_at,
                rekeyed=rekeyed,
                proofs=sa.outcome.proofs,
            )
        )

    def _finish(self, error: IkeclientError | None) -> None:
        if not self._closed:
            self._closed = True
            self._handshake = self._ike_sas = None
            self._events.append(Closed(error=None if self._closing else error))


def _taken(queue: deque[T]) -> list[T]:
    items = list(queue)
    queue.clear()
    return items
