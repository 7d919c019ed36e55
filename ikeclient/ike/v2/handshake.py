"""From the first datagram to an authenticated gateway: IKE_SA_INIT on one or two ports, and everybody who answered it.

Nothing that arrives before authentication can be trusted. So each acceptable answer to IKE_SA_INIT may become a
candidate with its own IKE_AUTH (RFC 7296 section 2.4), the first that proves to be the gateway wins, and a candidate
that fails without such a proof decides nothing for a moment, because the genuine answer may be on its way.

A candidate is a login: the gateway may ask RADIUS, take an address from its pool, have a person confirm on a telephone.
An answer that is slow must never cause a second one. So a further answer is tried only

- once no candidate is left that may still succeed, or
- if an answer was forged for sure, because there were more different ones than requests, or
- if exactly this answer came more than once. Its sender repeats itself, so other answers to the same request are of
  other senders. (A gateway that answers each repetition with fresh keys never gives the same answer twice.)

Until then it waits (`answers`). IKE_SA_INIT is repeated meanwhile, which is no login.

Port 4500 is asked with an IKE_SA_INIT of its own while port 500 is silent, or if the answer there knows no UDP
encapsulation or was forged; else only shortly before we would give up a candidate that has never answered. IKE_AUTH
always goes to port 4500: if nothing is heard from there it probably never arrived, and another address may do better;
if something is, the login is under way and gets all the time there is (`Timing.login_timeout`).

A candidate that is given up is deleted until that is acknowledged (`leaving`): the gateway takes requests in order, so
it understands the DELETE only after it has dealt with the IKE_AUTH that it still works on.

Answers count by SPI, wherever they come from, but everything is sent to where we asked (see `exchanges/init.py`). Any
exception while an answer is judged is a bug of ours that fails this candidate and nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.errors import IkeclientError, bug_error, place_of
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import (
    IKE_PORT,
    NAT_PORT,
    Datagram,
    Event,
    IkeKeysDerived,
    Need,
    NeedKind,
    Notice,
    Path,
    Progress,
)
from ikeclient.ike.observation import CandidateLost, CandidateTried
from ikeclient.ike.v2 import close_reasons
from ikeclient.ike.v2.answers import Answers, Waiting
from ikeclient.ike.v2.exchanges.auth import AuthExchange
from ikeclient.ike.v2.exchanges.init import Answer, InitExchange
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.overheard import Overheard
from ikeclient.ike.v2.schedule import BETTER_ANSWER, LOOKUP, PERSON, SLOW_ANSWER, Schedule
from ikeclient.ike.v2.sources import Sources
from ikeclient.ike.v2.state import State
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.header import SPI_LENGTH, Header
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ExchangeType
from ikeclient.wire.sa import SaPayload

MAX_CANDIDATES = 8
EVICT_AFTER = 2.0  # seconds that a candidate may stay silent when others wait for its place


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAuth:
    """A candidate and its IKE SA, in which IKE_AUTH is going on since `began`."""

    candidate: Candidate
    sa: IkeSa
    exchange: AuthExchange
    began: float

    @property
    def waits(self) -> bool:
        """Whether it may still succeed."""
        return self.sa.state is State.AUTHENTICATING

    @property
    def proven(self) -> bool:
        """Whether it is the gateway, and what we prove to it is about the request that it answered."""
        return self.exchange.gateway_verified and self.candidate.certain

    @property
    def heard(self) -> bool:
        """Whether it has shown that it has the keys, as a forged one usually cannot."""
        return self.sa.last_heard > float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Won:
    """The gateway is found; `accepted` is what it was asked."""

    pending: PendingAuth
    accepted: IkeConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The attempt is over for `error`; `proven` says whether that came from a gateway that had proven its identity."""

    error: IkeclientError | None
    proven: bool


class _Refusals:
    """What candidates without a proof said: the first error, and what such a gateway may accept instead."""

    def __init__(self) -> None:
        self.error: IkeclientError | None = None
        self._next_try: IkeConfig | None = None  # the refusal may be about how or whom we asked

    def add(self, pending: PendingAuth) -> None:
        """Take note of a candidate that is over."""
        self.error = self.error or pending.sa.error
        self._next_try = self._next_try or pending.exchange.next_try

    def next_try(self) -> IkeConfig | None:
        """Take what to try once more, and forget the refusal that it is for."""
        config, self._next_try = self._next_try, None
        if config is not None:
            self.error = None
        return config


class Handshake:
    """One attempt to connect along `path`. After each call read `result`, `outbox` and `events`.

    `leaving` are the IKE SAs of candidates that were given up and have to be told; their owner goes on with that.
    """

    def __init__(self, config: IkeConfig, sources: Sources, path: Path, now: float) -> None:
        self._config = config
        self._sources = sources
        self._path = path
        self._inits: dict[bytes, InitExchange] = {}
        self._answers = Answers(sources.entropy)
        self._pending_auths: list[PendingAuth] = []
        self._refusals = _Refusals()
        self._schedule = Schedule(config, now, two_ports=path.remote_port == IKE_PORT)
        self._overheard = Overheard(path)
        self._faults: set[str] = set()
        self.result: Won | Lost | None = None
        self.leaving: list[IkeSa] = []
        self.outbox: deque[Datagram] = deque()
        self.events: deque[Event] = deque([Progress(step="negotiating")])
        self._begin(path, now)

    # In

    def knows(self, spis: bytes) -> bool:
        """Whether a candidate has these SPIs, or a request of ours the initiator's."""
        return spis[:SPI_LENGTH] in self._inits or any(
            spis == pending.sa.keying.spis for pending in self._pending_auths
        )

    def awaits(self, header: Header) -> bool:
        """Whether a message with this header may be due: an answer to IKE_SA_INIT, or a candidate's message."""
        if header.exchange == ExchangeType.IKE_SA_INIT:
            answer = header.response and not header.initiator and header.message_id == 0
            return answer and header.spi_i in self._inits
        spis = header.spi_i + header.spi_r
        return any(pending.sa.keying.spis == spis and pending.sa.awaits(header) for pending in self._pending_auths)

    def receive(self, data: bytes, message: Message, path: Path, now: float) -> None:
        """Take one message; what fits nothing here is dropped."""
        spis = (message.header.spi_i, message.header.spi_r)
        for pending in list(self._pending_auths):  # several may have these SPIs, but only one of them the keys
            if (pending.candidate.keying.spi_i, pending.candidate.keying.spi_r) == spis:
                self._overheard.note_source(path)
                self._judge(pending, lambda sa: sa.receive(data, message, path, now))
        self._settle(now)
        init = self._inits.get(message.header.spi_i)
        if init is None or not init.concerns(message):
            return
        self._overheard.note_source(path)
        self._overheard.note_answer(init.path)
        if self._waited_for(init) and not self._forged and not any(isinstance(p, SaPayload) for p in message.payloads):
            init.resending.postpone(now)  # that somebody is there is all there was to learn
            return
        try:
            answer = init.receive(data, message, path, now)
        except Exception as error:  # an answer that nobody has proven: it must not end anything
            self._fault(error)
            return
        if answer is True:
            self.outbox.append(Datagram(init.send(now), init.path))
        elif isinstance(answer, Answer):
            self._answers.add(init, answer)
            self._try_waiting(now)
            if self._pending_auths:
                init.resending.postpone(now)
        elif not init.verdict.encapsulates and not self._asked_nat_port:
            self._ask_nat_port(now)

    def supply(self, need: Need, value: object, now: float) -> None:
        """Answer a need of one of the candidates."""
        if need.kind not in (NeedKind.REVOCATION, NeedKind.CERTIFICATES):
            self._schedule.wait_until(now + SLOW_ANSWER)
        self._answer(lambda sa: sa.supply(need, value, now), now)

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        """Leave a need of one of the candidates unanswered."""
        self._answer(lambda sa: sa.refuse(need, error, now), now)

    def _answer(self, call: Callable[[IkeSa], None], now: float) -> None:
        for pending in list(self._pending_auths):
            self._judge(pending, call)
        self._settle(now)

    def note_nonsense(self) -> None:
        """Take note that something else than an answer came from the gateway's address, for the error."""
        self._overheard.note_nonsense()

    def cancel(self, now: float) -> None:
        """Stop connecting; over as soon as everybody who may have an IKE SA with us has been told."""
        self._stop_asking()
        for pending in self._pending_auths:
            pending.sa.delete(now)
        self._settle(now)

    def give_up(self, now: float) -> None:
        """Stop connecting at once; those who may have an IKE SA with us are in `leaving`."""
        self._abandon(now)
        self._end(None)

    def handle_timer(self, now: float) -> None:
        """Do everything whose time has come."""
        if self._schedule.second_port_due(now) and not self._heard and not self._asked_nat_port:
            self._ask_nat_port(now)
        for init in self._inits.values():
            if init.resending.at is not None and now >= init.resending.at and not self._heard:
                self.outbox.append(Datagram(init.send(now), init.path))
        for pending in list(self._pending_auths):
            self._judge(pending, lambda sa: sa.handle_timer(now))
        self._try_waiting(now)
        self._settle(now)
        if self.result is None and now >= self._schedule.deadline:
            self._expire(now)

    def next_deadline(self) -> float:
        """When to call `handle_timer` at the latest."""
        deadlines = [self._schedule.deadline, self._schedule.second_port_at, self._verdict_at, self._next_try_at]
        deadlines += [pending.sa.next_deadline() for pending in self._pending_auths]
        if not self._heard:
            deadlines += [init.resending.at for init in self._inits.values()]
        return min(d for d in deadlines if d is not None)

    @property
    def logging_in(self) -> bool:
        """Whether IKE_AUTH has probably reached a gateway that still works on it."""
        arrived = self._overheard.nat_port_answers or self._heard
        return arrived and any(pending.waits for pending in self._pending_auths)

    # What happens inside

    @property
    def _heard(self) -> bool:
        return any(pending.heard for pending in self._pending_auths)

    @property
    def _forged(self) -> bool:
        """Whether some answers are not the gateway's for sure."""
        return any(init.seen.forged for init in self._inits.values())

    @property
    def _asked_nat_port(self) -> bool:
        return any(init.path.remote_port != IKE_PORT for init in self._inits.values())

    @property
    def _verdict_at(self) -> float | None:
        """When to stop waiting for a better answer than the refusals so far; None while there is none to believe.

        If some answers are known to be forged, nothing is believed before the deadline.
        """
        if self._pending_auths or self._forged or self._answers.following(self._may_try) is not None:
            return None
        if self._refusals.error is not None and self._schedule.first_at is not None:
            return self._schedule.first_at + BETTER_ANSWER
        return min((i.verdict.at for i in self._inits.values() if i.verdict.at is not None), default=None)

    @property
    def _hint(self) -> IkeclientError | None:
        return next((init.verdict.error for init in self._inits.values() if init.verdict.error is not None), None)

    def _waited_for(self, init: InitExchange) -> bool:
        """Whether a candidate from the other port may still succeed."""
        return any(c.waits and c.candidate.keying.spi_i != init.spi_i for c in self._pending_auths)

    def _begin(self, path: Path, now: float) -> None:
        init = InitExchange(self._config, self._sources.entropy, path, self._sources.observe)
        self._inits[init.spi_i] = init
        self.outbox.append(Datagram(init.send(now), path))

    def _ask_nat_port(self, now: float) -> None:
        self._begin(replace(self._path, remote_port=NAT_PORT), now)

    def _stop_asking(self) -> None:
        self._inits.clear()
        self._answers.clear()
        self._schedule.stop_asking()

    # Answers become candidates

    def _may_try(self, waiting: Waiting) -> bool:
        """Whether trying this answer cannot be a second login at a gateway that is merely slow."""
        asked = [pending.candidate.keying.spi_i for pending in self._pending_auths if pending.waits]
        if not asked or self._forged:
            return True
        return waiting.repeated and all(spi_i == waiting.init.spi_i for spi_i in asked)

    def _room_at(self, now: float) -> float:
        """When one more candidate may be had: the one that is silent longest has to go if there are too many."""
        if len(self._pending_auths) < MAX_CANDIDATES:
            return now
        silent = [pending.began for pending in self._pending_auths if pending.waits and not pending.heard]
        return min(silent, default=self._schedule.deadline) + EVICT_AFTER

    @property
    def _next_try_at(self) -> float | None:
        return self._schedule.try_at if self._answers.following(self._may_try) is not None else None

    def _try_waiting(self, now: float) -> None:
        """Try what may be tried, as far as computing power and room allow."""
        while self.result is None:
            waiting = self._answers.following(self._may_try)
            if waiting is None:
                return
            if not self._schedule.may_try(now, max(self._answers.affordable_at(now), self._room_at(now))):
                return
            self._answers.take(waiting)
            try:
                candidate = waiting.init.candidate(waiting.answer)
            except Exception as error:  # as in `receive`
                self._fault(error)
                continue
            # Answers that differ in nothing that makes keys must not both be used: that would use IVs twice.
            if candidate and all(candidate.keying.keys != each.sa.keying.keys for each in self._pending_auths):
                self._make_room(now)
                self._try(candidate, waiting.init, now)

    def _make_room(self, now: float) -> None:
        if len(self._pending_auths) >= MAX_CANDIDATES:
            silent = [pending for pending in self._pending_auths if pending.waits and not pending.heard]
            evicted = min(silent, key=lambda pending: pending.began)
            self._pending_auths.remove(evicted)
            self._leave(evicted, now)

    def _try(self, candidate: Candidate, init: InitExchange, now: float) -> None:
        """Authenticate with a candidate, on port 4500 since ESP needs a marker."""
        path = init.path
        if path.remote_port == IKE_PORT:
            path = replace(path, remote_port=NAT_PORT)
        first = self._schedule.candidate(now, forged=init.seen.forged)
        if first:
            self.events.append(Progress(step="authenticating"))
        keying = candidate.keying
        self._sources.observe(
            CandidateTried(suite=keying.suite.name, nat=candidate.nat, fragmentation=keying.fragmentation)
        )
        sa = IkeSa(self._config, self._sources.entropy, keying, path, observe=self._sources.observe)
        exchange = AuthExchange(
            self._config,
            candidate,
            path,
            spi_in=sa.children.new_spi(),
            sources=self._sources,
            initial_contact=self._config.initial_contact and first,
        )
        if self._config.disclose_keys:
            self.events.append(disclosed(sa))
        pending = PendingAuth(candidate=candidate, sa=sa, exchange=exchange, began=now)
        self._pending_auths.append(pending)
        timeout = 2 * (self._schedule.login_deadline - now) + BETTER_ANSWER  # the deadline decides, not the request
        self._judge(pending, lambda sa: sa.authenticate(exchange.run(), now, timeout))
        self._settle(now)

    def _judge(self, pending: PendingAuth, call: Callable[[IkeSa], None]) -> None:
        """Let a candidate do something: whatever goes wrong with it unexpectedly is the end of this candidate only."""
        try:
            call(pending.sa)
        except Exception as error:  # nobody who has proven nothing may cause more than that
            place = self._fault(error)
            if pending.exchange.gateway_verified:
                pending.sa.close(bug_error(error, f"it was raised in {place}"))
            else:
                pending.sa.close(close_reasons.not_judged(type(error).__name__, place))

    def _fault(self, error: Exception) -> str:
        """Tell about a bug of ours, without a word that came from outside: once for each place."""
        place = place_of(error)
        if place not in self._faults:
            self._faults.add(place)
            text = (
                f"a bug in ikeclient: {type(error).__name__} in {place}; an answer from the network was dropped for it"
            )
            self.events.append(Notice(text=text))
        return place

    # How it ends

    def _settle(self, now: float) -> None:
        """Collect what the candidates produced, and see whether one has won or all have lost."""
        for pending in list(self._pending_auths):
            if pending not in self._pending_auths:
                continue
            sa = pending.sa
            if sa.state is State.ESTABLISHED:
                self._won(pending, now)
                return
            self.outbox.extend(sa.channel.outbox)
            sa.channel.outbox.clear()
            for event in sa.events:
                if isinstance(event, Need) and not _of_unproven(event):
                    self._schedule.wait_until(now + (LOOKUP if event.kind is NeedKind.REVOCATION else PERSON))
            self.events.extend(sa.events)
            sa.events.clear()
            if pending.proven and len(self._pending_auths) + len(self._inits) > 1:
                self._only(pending, now)
            if sa.state is State.CLOSED:
                self._pending_auths.remove(pending)
                self._refusals.add(pending)
                self._sources.observe(CandidateLost(reason=sa.error.message if sa.error is not None else "closed"))
                if pending.exchange.gateway_verified and not pending.exchange.doubtful:
                    self._end(sa.error, proven=True)
                    return
        if not self._pending_auths:
            for init in self._inits.values():
                init.resending.soon(now)
        if not self._pending_auths and not self._inits:
            self._end(None)
        elif (verdict_at := self._verdict_at) is not None and now >= verdict_at and not self._try_again(now):
            self._end(self._refusals.error or self._hint)

    def _try_again(self, now: float) -> bool:
        """Begin once more, with what a candidate that refused us may accept instead (`after_refusal`)."""
        config = self._refusals.next_try()
        if config is None:
            return False
        self._config = config
        self._stop_asking()
        self._begin(self._path, now)
        self._schedule.begin(now)
        return True

    def _only(self, proven: PendingAuth, now: float) -> None:
        """Stop asking and waiting for all others: this one has proven to be the gateway."""
        self._stop_asking()
        self._pending_auths.remove(proven)
        self._abandon(now)
        self._pending_auths.append(proven)

    def _won(self, winner: PendingAuth, now: float) -> None:
        """This one is the connection; should another candidate be the same gateway, it need not keep a second one."""
        self._only(winner, now)
        self._pending_auths.clear()
        self.result = Won(pending=winner, accepted=self._config)

    def _leave(self, pending: PendingAuth, now: float) -> None:
        """Give up a candidate: it is deleted until that is acknowledged."""
        sa = pending.sa
        sa.leave(now)
        self.outbox.extend(sa.channel.outbox)
        sa.channel.outbox.clear()
        self.leaving.append(sa)

    def _abandon(self, now: float) -> None:
        for pending in self._pending_auths:
            self._leave(pending, now)
        self._pending_auths.clear()

    def _expire(self, now: float) -> None:
        """End the attempt: its time is over, unless a login is under way."""
        if self.logging_in and self._schedule.extend(now):
            return
        if now < (slow := self._confirmed_until):
            self._schedule.wait_until(slow)
            return
        error = self._refusals.error or self._hint or self._silence()
        self._abandon(now)
        self._end(error)

    @property
    def _confirmed_until(self) -> float:
        """Until when a proven gateway may wait for a person who confirms our EAP login elsewhere."""
        if not self._config.uses_eap:
            return float("-inf")
        heard = [each.sa.last_heard for each in self._pending_auths if each.waits and each.proven]
        return max(heard, default=float("-inf")) + SLOW_ANSWER

    def _silence(self) -> IkeclientError:
        if self._pending_auths:
            port = self._pending_auths[0].sa.channel.path.remote_port
            return self._overheard.silence_during_auth(port, began=self._heard)
        return self._overheard.silence({init.path.remote_port for init in self._inits.values()})

    def _end(self, error: IkeclientError | None, *, proven: bool = False) -> None:
        self.result = Lost(error=error, proven=proven)
        self._stop_asking()
        self._pending_auths.clear()


def _of_unproven(need: Need) -> bool:
    """Whether somebody made us need this who has proven nothing yet, and who gets no more time for it."""
    if need.kind is NeedKind.CERTIFICATES:
        return True
    return isinstance(need.request, RevocationQuery) and need.request.response_only


def disclosed(sa: IkeSa) -> IkeKeysDerived:
    """The keys of an IKE SA, for decrypting captures."""
    keying = sa.keying
    return IkeKeysDerived(spi_i=keying.spi_i, spi_r=keying.spi_r, suite=keying.suite, keys=keying.keys)
