"""One IKE SA: it drives the exchanges of its own and answers those of the peer (RFC 7296 sections 1 and 2).

Exchanges are generators, request handlers plain functions; neither touches the SA. What they return is applied here, in
one `match` each. Messages go through `channel`, what is to be asked waits in `tasks`, Child SAs live in `children`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, IkeclientError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import (
    Event,
    GatewayAddresses,
    HeardElsewhere,
    Need,
    Notice,
    Path,
    PathProbed,
    PathRefused,
    ReauthenticationDue,
    Roamed,
)
from ikeclient.ike.observation import Observer, nobody
from ikeclient.ike.v2 import close_reasons
from ikeclient.ike.v2.child.child_sa import ChildRekeyed
from ikeclient.ike.v2.child.table import ChildTable, survives
from ikeclient.ike.v2.ending import Ending
from ikeclient.ike.v2.exchanges.auth import AuthOutcome
from ikeclient.ike.v2.exchanges.mobike import MoveAnswered, PathSeen
from ikeclient.ike.v2.exchanges.rekey_child import ChildRekeyRefused
from ikeclient.ike.v2.exchanges.rekey_ike import IkeRekeyed, IkeRekeyRefused
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.lifetimes import Due, Lifetimes
from ikeclient.ike.v2.message import window
from ikeclient.ike.v2.message.channel import Channel
from ikeclient.ike.v2.message.payloads import has_notify
from ikeclient.ike.v2.notify_errors import refusal
from ikeclient.ike.v2.requester import exchange_for
from ikeclient.ike.v2.responder import (
    Effect,
    LifetimeLimited,
    PeerAddresses,
    PeerDeletedChildren,
    PeerDeletedIke,
    serve,
)
from ikeclient.ike.v2.state import Input, State, after
from ikeclient.ike.v2.succession import Succession
from ikeclient.ike.v2.tasks import Exchange, Finished, Job, Step, Task, Tasks
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.header import MAJOR_VERSION, Header
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import NotifyType

_PROTECTED = (EncryptedPayload, EncryptedFragmentPayload)
_PROTECTED_TYPES = frozenset(payload.TYPE for payload in _PROTECTED)

NARROWED = (
    "the gateway would carry less after rekeying the Child SA than before: the one in use goes on, and when its keys "
    "expire, a new connection takes what the gateway carries then"
)


class IkeSa:
    """A keyed IKE SA. Its owner (`ike_sas`) reads `channel.outbox` and `succession` after each call.

    `outcome` is what IKE_AUTH settled, `ending` how and why the SA ends.
    """

    def __init__(
        self,
        config: IkeConfig,
        entropy: Callable[[int], bytes],
        keying: Keying,
        path: Path,
        *,
        state: State = State.AUTHENTICATING,
        observe: Observer = nobody,
    ) -> None:
        self.config = config
        self.entropy = entropy
        self.keying = keying
        self.state = state
        self.children = ChildTable(config, entropy)
        self.lifetimes = Lifetimes(config, entropy)
        self.events: deque[Event] = deque()
        self.outcome: AuthOutcome | None = None
        self.ending = Ending()
        self.succession = Succession()
        self.last_heard = float("-inf")
        used = int(state is State.AUTHENTICATING)  # message ID 0, by the initiator's IKE_SA_INIT
        self.channel = Channel(
            keying,
            path,
            entropy,
            fragment_size=config.fragment_size,
            first_request=used if keying.initiator else 0,
            first_response=0 if keying.initiator else used,
            observe=observe,
        )
        self.tasks = Tasks(self.channel)
        self._mapping = b""

    @property
    def error(self) -> IkeclientError | None:
        """Why it ends."""
        return self.ending.error

    # What the owner asks for

    def authenticate(self, exchange: Exchange, now: float, timeout: float) -> None:
        """Run IKE_AUTH."""
        self._apply_step(self.tasks.start(Task(Job.AUTH), exchange, now, timeout), now)

    def supply(self, need: Need, value: object, now: float) -> None:
        """Answer a need of an exchange; nothing happens if it is not one of this SA's."""
        self._apply_step(self.tasks.supply(need, value, now), now)

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        """Leave a need of an exchange unanswered, for the reason that `error` says; as `supply`."""
        self._apply_step(self.tasks.refuse(need, error, now), now)

    def check_liveness(self, now: float, timeout: float = window.TIMEOUT) -> None:
        """Ask the peer whether it is there, unless something is being asked already, and wait that long."""
        if self.state is State.ESTABLISHED:
            if not self.tasks.busy:
                self.begin(Task(Job.LIVENESS), now)
            self.tasks.shorten_timeout(now + timeout)

    def rekey(self, now: float) -> None:
        """Replace this IKE SA by one with fresh keys; nothing happens if that is under way."""
        if self.state is State.ESTABLISHED:
            self.begin(Task(Job.REKEY_IKE), now)

    def rekey_child(self, spi_in: int, now: float) -> None:
        """Replace a Child SA by one with fresh keys; nothing happens if that is under way."""
        if self.state is State.ESTABLISHED and self.children.rekeyable(spi_in):
            self.begin(Task(Job.REKEY_CHILD, spi_in), now)

    def make_child(self, now: float) -> None:
        """Make another Child SA like the one that was lost; nothing happens while there is one, or too soon again."""
        if self.state is State.ESTABLISHED and (lost := self.children.make_again(now)) is not None:
            self.begin(Task(Job.CREATE_CHILD, lost.spi_in), now)

    def move(self, path: Path, now: float) -> None:
        """Use another path from now on and tell the peer, if both ends speak MOBIKE (RFC 4555 section 3.5)."""
        # Also in an IKE SA that was replaced: the peer may not have heard that, and ask again where we are no more.
        self.channel.move(path, now)
        if self.state in (State.ESTABLISHED, State.REPLACED):
            self.begin(Task(Job.MOVE), now)

    def delete(self, now: float, reason: NotifyType | None = None) -> None:
        """Tell the peer that this SA ends; closed when it answers, or after a short timeout.

        A request that is still unanswered gets a moment more, because the peer takes requests in order only.
        """
        if self.state in (State.DELETING, State.CLOSED):
            return
        self.state = after(self.state, Input.DELETE)
        self.ending.tell(reason)
        self.lifetimes.stop()
        self.tasks.clear()
        self.tasks.shorten_timeout(now + window.TIMEOUT_PENDING)
        if (simultaneous := self.succession.take_simultaneous()) is not None:
            self.succession.add_redundant(simultaneous, ours=True)
        self.begin(Task(Job.DELETE_IKE), now)

    def leave(self, now: float) -> None:
        """End without waiting for what the peer still owes: the DELETE goes out now, and again until it is answered.

        The peer takes requests in order. It understands the DELETE once it has dealt with the request before, which it
        may be working on for long (RFC 7296 sections 2.1 and 2.3).
        """
        self.ending.without_waiting()
        self.delete(now)
        if self.tasks.doing(Job.DELETE_IKE):
            self.tasks.extend_timeout(now + self.ending.timeout)
        elif self.state is State.DELETING:
            self._give_up_pending(now)

    def fail(self, error: IkeclientError, now: float) -> None:
        """End with `error` without waiting for what the peer still owes, as `leave`."""
        self.ending.broken(error)
        self.leave(now)

    def inherit(self, old: IkeSa, now: float) -> None:
        """Take over from `old`: Child SAs, what is to be done about them, what authentication settled (section 2.8)."""
        self.children, self.outcome = old.hand_over()
        self.last_heard = now
        self.lifetimes.start(now)
        self.lifetimes.inherit(old.lifetimes)
        self.channel.requests.inherit(old.channel.requests)
        for task in old.succession.undone:
            self.begin(task, now)

    def hand_over(self) -> tuple[ChildTable, AuthOutcome | None]:
        """Give away what the successor goes on with; no Child SA is left here."""
        children, self.children = self.children, ChildTable(self.config, self.entropy)
        return children, self.outcome

    def heard(self, now: float) -> None:
        """Take note that something authentic of the peer's has arrived."""
        self.last_heard = max(self.last_heard, now)

    def close(self, error: IkeclientError | None = None) -> None:
        """End without a word to the peer."""
        self.state = after(self.state, Input.CLOSE)
        self.ending.because(error)
        self.lifetimes.stop()
        self.tasks.clear()
        self.tasks.abandon()

    def begin(self, task: Task, now: float) -> None:
        """Do a task as soon as nothing else is in progress."""
        self.tasks.add(task)
        self._proceed(now)

    # Exchanges of ours

    def _proceed(self, now: float) -> None:
        """Start what waits, as soon as nothing else is in progress."""
        while self.state is not State.CLOSED and (task := self.tasks.take()) is not None:
            if self.channel.requests.next_id > window.LAST_MESSAGE_ID:
                self.close(close_reasons.not_renewed("the IKE SA"))
                return
            exchange = exchange_for(self, task)
            if exchange is not None:
                timeout = self.ending.timeout if task.job is Job.DELETE_IKE else window.TIMEOUT
                self._apply_step(self.tasks.start(task, exchange, now, timeout), now)
                if self.channel.requests.exhausted and self.lifetimes.rekey_now(now):
                    self.rekey(now)

    def _apply_step(self, step: Step, now: float) -> None:
        match step:
            case None:
                return
            case Need():
                self.events.append(step)
            case Finished(task=task, outcome=outcome):
                self._finished(task, outcome, now)
                self._proceed(now)
            case error:
                self._failed(error, now)

    def _failed(self, error: IkeclientError, now: float) -> None:
        """An exchange of ours ended with an error of either side: tell the peer unless it knows, and close."""
        self.ending.because(error)
        if self.state is State.DELETING or isinstance(error, AuthenticationFailed):
            self.close()  # a gateway that said no has nothing to delete
        else:
            unproven = isinstance(error, GatewayNotAuthenticated)
            self.delete(now, NotifyType.AUTHENTICATION_FAILED if unproven else None)

    def _finished(self, task: Task, outcome: object, now: float) -> None:
        match outcome:
            case AuthOutcome():
                self._authenticated(outcome, now)
            case ChildRekeyed(child=child) if self.children.by_outbound(child.spi_out):
                self._failed(close_reasons.broke_protocol(f"it uses the ESP SPI {child.spi_out:08x} twice"), now)
            case ChildRekeyed():
                self._delete_child(self.children.rekeyed_by_us(outcome, now), now)
                self.make_child(now)
            case ChildRekeyRefused(type=type_, old=old, narrowed=narrowed) if task.job is Job.CREATE_CHILD:
                self.children.rekey_refused(old, now)
                self.children.making_refused(now)
                self._check_hopeless(close_reasons.no_child(type_, narrowed=narrowed), now)
            case ChildRekeyRefused(type=type_, old=old, narrowed=narrowed):
                if self.children.rekey_refused(old, now) == 1 and narrowed:
                    self.events.append(Notice(text=NARROWED))
                if type_ == NotifyType.CHILD_SA_NOT_FOUND:
                    self.children.remove(old)
                self.make_child(now)
            case IkeRekeyed():
                self._rekeyed_by_us(outcome, now)
            case IkeRekeyRefused() if (simultaneous := self.succession.take_simultaneous()) is not None:
                self._replace(simultaneous, now)
            case IkeRekeyRefused():
                self.lifetimes.refused(now)
            case MoveAnswered(event=Roamed(path=path) | PathRefused(path=path)) if self._asked_elsewhere(path):
                self.begin(Task(Job.MOVE), now)
            case MoveAnswered(event=event, mapping=mapping):
                self._mapping = mapping
                self.events.append(event)
            case PathProbed():
                self.events.append(outcome)
            case PathSeen(path=self.channel.path, mapping=mapping) if mapping != self._mapping:
                self.begin(Task(Job.MOVE), now)  # a NAT has given us another address or port
            case _ if task.job is Job.DELETE_IKE:
                self.close()
            case _ if task.job is Job.DELETE_CHILD:
                self.children.remove(task.subject)

    def _asked_elsewhere(self, path: Path) -> bool:
        """Whether the path changed again meanwhile, or the request also went to another address of the peer.

        Then the COOKIE2 that came back does not show that the peer receives at this one (RFC 4555 section 3.7).
        """
        return path != self.channel.path or self.channel.asked_at != {path.remote_address}

    def _authenticated(self, outcome: AuthOutcome, now: float) -> None:
        if outcome.keys is not None:
            self.keying, outcome = replace(self.keying, keys=outcome.keys), replace(outcome, keys=None)
        self.outcome = outcome
        self.state = after(self.state, Input.AUTHENTICATED)
        if outcome.child is None:
            self.events.extend(Notice(text=text) for text in outcome.notices)  # one may tell why
            self.ending.because(outcome.child_error)
            self.delete(now)
            return
        self.lifetimes.start(now)
        if outcome.auth_lifetime is not None:
            self.lifetimes.limit(outcome.auth_lifetime, now)
        self.children.add(outcome.child, now)

    def _delete_child(self, spi_in: int | None, now: float) -> None:
        if spi_in is not None:
            self.begin(Task(Job.DELETE_CHILD, spi_in), now)

    def _check_hopeless(self, error: IkeclientError, now: float) -> None:
        """Without any Child SA, and a peer that wants none, there is no tunnel: end the connection to make it anew."""
        if self.state is State.ESTABLISHED and not self.children.carrying and self.children.hopeless:
            self._end(error, now)

    def _replace(self, new: IkeRekeyed, now: float) -> None:
        self.state = after(self.state, Input.REPLACE)
        self.succession.replaced(new, self.tasks.take_inherited())
        self.lifetimes.linger(now)

    def _rekeyed_by_us(self, new: IkeRekeyed, now: float) -> None:
        """Our rekey was answered. If the peer's was simultaneous, one of the new SAs is redundant (section 2.8.2)."""
        simultaneous = self.succession.take_simultaneous()
        if simultaneous is None or survives(new.nonces, simultaneous.nonces):
            self._replace(new, now)
            if simultaneous is not None:
                self.succession.add_redundant(simultaneous, ours=False)
            self.delete(now)
        else:
            self._replace(simultaneous, now)
            self.succession.add_redundant(new, ours=True)

    # Receiving

    def awaits(self, header: Header) -> bool:
        """Whether a message with this header may be due: before anything but the header is read."""
        if self.state is State.CLOSED or header.initiator == self.keying.initiator or header.major != MAJOR_VERSION:
            return False
        if header.next_payload not in _PROTECTED_TYPES:
            return True  # an error in the clear, or payloads before SK: rare, and few are read
        if header.response:
            return self.channel.requests.accepts(header.message_id)
        return self.state is not State.AUTHENTICATING and self.channel.may_serve(header.message_id)

    def receive(self, data: bytes, message: Message, path: Path, now: float) -> None:
        """Take one message with this SA's SPIs. What is not genuine changes nothing."""
        header = message.header
        if not self.awaits(header):
            return
        if not isinstance(message.payloads[-1] if message.payloads else None, _PROTECTED):
            self._hinted(message, now)
        elif header.response:
            self._receive_answer(data, message, now)
        elif self.state is not State.AUTHENTICATING:
            self._receive_request(data, message, path, now)

    def _hinted(self, message: Message, now: float) -> None:
        """An unprotected message says that something is wrong: ask the peer, but not often (section 2.21.4)."""
        suspicious = any(has_notify(message.payloads, t) for t in (NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_SPI))
        if suspicious and self.lifetimes.hinted(now):
            self.check_liveness(now, window.TIMEOUT_SUSPICIOUS)

    def _receive_answer(self, data: bytes, message: Message, now: float) -> None:
        answer = self.tasks.answer(data, message, now)
        if answer is None:
            return
        self.heard(now)
        match answer:
            case IkeclientError():
                self._failed(answer, now)
            case _ if self.state is State.DELETING and not self.tasks.doing(Job.DELETE_IKE):
                self._answered_late(answer, now)
            case _ if self.state is not State.AUTHENTICATING and has_notify(answer, NotifyType.INVALID_SYNTAX):
                self.close(refusal(NotifyType.INVALID_SYNTAX))  # so the peer has closed it too (section 2.21.3)
            case _:
                self._apply_step(self.tasks.advance(answer, now), now)

    def _answered_late(self, answer: tuple[Payload, ...], now: float) -> None:
        """An answer that came while closing: it matters only if it made another IKE SA, which has to go as well."""
        if self.tasks.doing(Job.REKEY_IKE):
            match self.tasks.advance(answer, now):
                case Finished(outcome=IkeRekeyed() as new):
                    self.succession.add_redundant(new, ours=True)
        self._give_up_pending(now)

    def _receive_request(self, data: bytes, message: Message, path: Path, now: float) -> None:
        served = serve(self, self.channel, data, message, path, now)
        if served is None:
            return
        self.last_heard = now
        if isinstance(served, IkeclientError):
            self.close(served)
            return
        for effect in served:
            self._apply(effect, now)
        if path.remote_address != self.channel.path.remote_address and self.state is State.ESTABLISHED:
            self.events.append(HeardElsewhere(address=path.remote_address))

    def _apply(self, effect: Effect, now: float) -> None:
        match effect:
            case PeerDeletedIke(reason=reason):
                self._deleted_by_peer(reason, now)
            case PeerDeletedChildren(spis_out=spis):
                self.children.deleted_by_peer(spis, now)
                self._check_hopeless(close_reasons.ended_by_gateway(), now)
            case LifetimeLimited(seconds=seconds):
                self.lifetimes.limit(seconds, now)
            case PeerAddresses(addresses=addresses):
                self.events.append(GatewayAddresses(addresses=addresses))
            case ChildRekeyed():
                self.children.rekeyed_by_peer(effect, now)
            case IkeRekeyed() if self.tasks.doing(Job.REKEY_IKE):
                self.succession.rekeyed_by_peer(effect)
            case IkeRekeyed():
                self._replace(effect, now)

    def _deleted_by_peer(self, reason: NotifyType | None, now: float) -> None:
        """The peer deleted this SA; if a rekey of its own was simultaneous with ours, that one takes over."""
        if self.state is State.ESTABLISHED:
            if (simultaneous := self.succession.take_simultaneous()) is not None:
                self._replace(simultaneous, now)
            else:
                self.ending.because(refusal(reason) if reason else close_reasons.ended_by_gateway())
        self.close()

    # Time

    def next_deadline(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        deadlines = (self.channel.requests.deadline, self.lifetimes.next, self.children.next_deadline)
        return min((d for d in deadlines if d is not None), default=None) if self.state is not State.CLOSED else None

    def handle_timer(self, now: float, *, deaf: bool = False) -> None:
        """Resend what was not answered, give up what was not answered for long, and do what is due.

        `deaf` tells that an answer may have come and was not heard.
        """
        if self.state is State.CLOSED:
            return
        if self.channel.requests.failed(now) and not self._excused(now, deaf):
            self._silence(now)
        self.channel.resend(now)
        for due in self.lifetimes.expired(now):
            self._act(due, now)
        for spi in self.children.rekey_due(now):
            self.rekey_child(spi, now)
        for spi in self.children.expired(now):
            self._expire_child(spi, now)

    def _act(self, due: Due, now: float) -> None:
        match due:
            case Due.REKEY:
                self.rekey(now)
            case Due.LIVENESS if self.lifetimes.watch(self.last_heard, now):
                self.check_liveness(now)
            case Due.LINGER:
                self.delete(now)
            case Due.EXPIRE:
                self._end(close_reasons.not_renewed("the IKE SA"), now)
            case Due.REAUTHENTICATE:
                self.events.append(ReauthenticationDue())
            case Due.AUTHENTICATION_OVER:
                self._end(close_reasons.authentication_over(), now)

    def _expire_child(self, spi_in: int, now: float) -> None:
        """A Child SA at its hard end: one that was replaced is cleaned up, one in use takes the connection along."""
        if self.children.rekeyable(spi_in):
            self._end(close_reasons.not_renewed("the Child SA"), now)
        elif self.state is State.ESTABLISHED:
            self._delete_child(spi_in, now)

    def _end(self, error: IkeclientError, now: float) -> None:
        self.ending.because(error)
        self.delete(now)

    def _give_up_pending(self, now: float) -> None:
        """Stop waiting for an answer, so that the DELETE can go out."""
        self.tasks.abandon()
        self._proceed(now)

    def _excused(self, now: float, deaf: bool) -> bool:
        """Whether silence is no sign that the peer is gone: it was heard after the request, or could not be heard."""
        requests = self.channel.requests
        alive = requests.sent_at is not None and self.last_heard > requests.sent_at
        return self.state is State.ESTABLISHED and (deaf or alive) and requests.excuse(now)

    def _silence(self, now: float) -> None:
        """A request stayed unanswered for as long as we wait."""
        if self.state is State.DELETING and not self.tasks.doing(Job.DELETE_IKE):
            self._give_up_pending(now)
        elif self.state in (State.DELETING, State.REPLACED):
            self.close()
        elif self.state is State.ESTABLISHED:
            self.close(close_reasons.silent(self.channel.path.remote_address))
        else:
            self.close(
                close_reasons.silent_during_auth(self.channel.path.remote_address, self.channel.path.remote_port)
            )
