"""From the first datagram to an authenticated gateway: IKE_SA_INIT on one or two ports, and everybody who answered it.

Until somebody authenticates nothing that arrives can be trusted. So each acceptable answer to IKE_SA_INIT is a
candidate of its own with its own IKE_AUTH (RFC 7296 section 2.4), the first that proves to be the gateway wins, and a
candidate that fails without such a proof decides nothing for a moment, because the genuine answer may be on its way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from ikeclient.errors import IkeclientError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.endings import no_answer, silent_during_auth
from ikeclient.ike.events import Datagram, Event, IkeKeysDerived, Path, Progress
from ikeclient.ike.exchanges.auth import AuthExchange
from ikeclient.ike.exchanges.init import Candidate, InitExchange
from ikeclient.ike.keying import Keying
from ikeclient.ike.sa import IkeSa
from ikeclient.ike.state import State
from ikeclient.wire.header import SPI_LENGTH, Header
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ExchangeType

IKE_PORT = 500
NAT_PORT = 4500
SECOND_PORT_AFTER = 1.2  # seconds of silence on port 500 before port 4500 is tried as well
MAX_CANDIDATES = 8
BETTER_ANSWER = 0.5  # seconds after the first candidate in which failures of unproven ones are not believed
FAIR_CHANCE = 2.0  # seconds that the candidates of one port get before those of the other one are looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A candidate and its IKE SA, in which IKE_AUTH is going on."""

    candidate: Candidate
    sa: IkeSa
    exchange: AuthExchange


class Handshake:
    """One attempt to connect along `path`. After each call read `winner`, `over`, `outbox` and `events`.

    `error` is why it is over, `proven` whether that came from a gateway that had proven its identity.
    """

    def __init__(
        self,
        config: IkeConfig,
        entropy: Callable[[int], bytes],
        wall_clock: Callable[[], datetime],
        path: Path,
        now: float,
    ) -> None:
        self._config = config
        self._entropy = entropy
        self._wall_clock = wall_clock
        self._path = path
        self._inits: dict[bytes, InitExchange] = {}
        self._contenders: list[Contender] = []
        self._failure: IkeclientError | None = None
        self._next_try: IkeConfig | None = None  # after a refusal that may be about how or whom we asked
        self._deadline = now + config.timeout
        self._second_port_at = now + SECOND_PORT_AFTER if path.remote_port == IKE_PORT else None
        self._first_at: float | None = None  # when the first candidate came
        self.winner: Contender | None = None
        self.accepted = config  # what the winner was asked
        self.over = False
        self.proven = False
        self.error: IkeclientError | None = None
        self.outbox: deque[Datagram] = deque()
        self.events: deque[Event] = deque([Progress(step="negotiating")])
        self._begin(path, now)

    # In

    def knows(self, spis: bytes) -> bool:
        """Whether a candidate has these SPIs, or a request of ours the initiator's."""
        return spis[:SPI_LENGTH] in self._inits or any(spis == contender.sa.spis for contender in self._contenders)

    def awaits(self, header: Header) -> bool:
        """Whether a message with this header may be due: an answer to IKE_SA_INIT, or a candidate's message."""
        if header.exchange == ExchangeType.IKE_SA_INIT:
            answer = header.response and not header.initiator and header.message_id == 0
            return answer and header.spi_i in self._inits
        spis = header.spi_i + header.spi_r
        return any(contender.sa.spis == spis and contender.sa.awaits(header) for contender in self._contenders)

    def receive(self, data: bytes, message: Message, path: Path, now: float) -> None:
        """Take one message; what fits nothing here is dropped."""
        spis = (message.header.spi_i, message.header.spi_r)
        for contender in self._contenders:  # several may have these SPIs, but only one of them the keys
            if (contender.candidate.spi_i, contender.candidate.spi_r) == spis:
                contender.sa.receive(data, message, path, now)
        self._settle(now)
        init = self._inits.get(message.header.spi_i)
        if init is None or path != init.path or not self._welcome(init, now):
            return
        answer = init.receive(data, message, path, now)
        if answer is True:
            self.outbox.append(Datagram(init.send(now), init.path))
        elif answer and not any(answer.keys == contender.candidate.keys for contender in self._contenders):
            # Answers that differ in nothing that makes keys must not both be used: that would use IVs twice.
            init.postpone(now)
            self._try(answer, init.path, now)

    def supply(self, credential: str, now: float) -> None:
        """Answer `CredentialNeeded`."""
        for contender in self._contenders:
            contender.sa.supply(credential, now)
        self._settle(now)

    def cancel(self, now: float) -> None:
        """Stop connecting; over as soon as everybody who may have an IKE SA with us has been told."""
        self._inits.clear()
        self._second_port_at = None
        for contender in self._contenders:
            contender.sa.delete(now)
        self._settle(now)

    def handle_timer(self, now: float) -> None:
        """Do everything whose time has come."""
        if self._second_port_at is not None and now >= self._second_port_at:
            self._try_second_port(now)
        for init in self._inits.values():
            if init.resend_at is not None and now >= init.resend_at and not self._heard:
                self.outbox.append(Datagram(init.send(now), init.path))
        for contender in self._contenders:
            contender.sa.handle_timer(now)
        self._settle(now)
        if not self.over and self.winner is None and now >= self._deadline:
            self._expire(now)

    def next_deadline(self) -> float:
        """When to call `handle_timer` at the latest."""
        deadlines = [self._deadline, self._second_port_at, self._verdict_at]
        deadlines += [contender.sa.next_deadline() for contender in self._contenders]
        if not self._heard:
            deadlines += [init.resend_at for init in self._inits.values()]
        return min(d for d in deadlines if d is not None)

    # What happens inside

    @property
    def _heard(self) -> bool:
        """Whether any candidate has shown that it has the keys, as a forged one usually cannot."""
        return any(contender.sa.last_heard > float("-inf") for contender in self._contenders)

    @property
    def _verdict_at(self) -> float | None:
        """When to stop waiting for a better answer than the refusals so far; None while there is none to believe."""
        if self._contenders:
            return None
        if self._failure is not None and self._first_at is not None:
            return self._first_at + BETTER_ANSWER
        return min((i.give_up_at for i in self._inits.values() if i.give_up_at is not None), default=None)

    @property
    def _hint(self) -> IkeclientError | None:
        return next((init.hint for init in self._inits.values() if init.hint is not None), None)

    def _welcome(self, init: InitExchange, now: float) -> bool:
        """Whether one more candidate may be tried; the same gateway on both ports must not be met twice."""
        elsewhere = any(contender.candidate.spi_i != init.spi_i for contender in self._contenders)
        patient = self._heard or (self._first_at is not None and now < self._first_at + FAIR_CHANCE)
        return len(self._contenders) < MAX_CANDIDATES and not (elsewhere and patient)

    def _begin(self, path: Path, now: float) -> None:
        init = InitExchange(self._config, self._entropy, path)
        self._inits[init.spi_i] = init
        self.outbox.append(Datagram(init.send(now), path))

    def _try_second_port(self, now: float) -> None:
        """Port 500 is silent, or those who answered there are."""
        mute = self._first_at is not None and not self._heard and now >= self._first_at + FAIR_CHANCE
        if mute or not self._contenders:
            self._second_port_at = None
            self._begin(replace(self._path, remote_port=NAT_PORT), now)
        else:
            self._second_port_at = None if self._heard or self._first_at is None else self._first_at + FAIR_CHANCE

    def _try(self, candidate: Candidate, path: Path, now: float) -> None:
        """Authenticate with somebody who answered IKE_SA_INIT; port 500 is left, since ESP needs a marker."""
        if path.remote_port == IKE_PORT:
            path = replace(path, remote_port=NAT_PORT)
        keying = Keying(
            spi_i=candidate.spi_i,
            spi_r=candidate.spi_r,
            suite=candidate.suite,
            keys=candidate.keys,
            initiator=True,
            fragmentation=candidate.fragmentation,
        )
        sa = IkeSa(self._config, self._entropy, keying, path, first_request=1)
        exchange = AuthExchange(
            self._config,
            candidate,
            path,
            spi_in=sa.children.new_spi(),
            entropy=self._entropy,
            wall_clock=self._wall_clock,
            initial_contact=self._config.initial_contact and self._first_at is None,
        )
        if self._first_at is None:
            self._first_at = now
            self.events.append(Progress(step="authenticating"))
        if self._config.disclose_keys:
            self.events.append(disclosed(sa))
        self._contenders.append(Contender(candidate=candidate, sa=sa, exchange=exchange))
        sa.authenticate(exchange.run(), now, self._config.timeout)
        self._settle(now)

    def _settle(self, now: float) -> None:
        """Collect what the candidates produced, and see whether one has won or all have lost."""
        for contender in list(self._contenders):
            sa = contender.sa
            if sa.state is State.ESTABLISHED:
                self._won(contender, now)
                return
            self.outbox.extend(sa.channel.outbox)
            sa.channel.outbox.clear()
            self.events.extend(sa.events)
            sa.events.clear()
            if sa.state is State.CLOSED:
                self._contenders.remove(contender)
                self._failure = self._failure or sa.error
                self._next_try = self._next_try or contender.exchange.next_try
                if contender.exchange.gateway_verified:
                    self.proven = True
                    self._end(sa.error)
                    return
        if not self._contenders and not self._inits:
            self._end(None)
        elif (verdict_at := self._verdict_at) is not None and now >= verdict_at and not self._try_again(now):
            self._end(self._failure or self._hint)

    def _try_again(self, now: float) -> bool:
        """Begin once more, with what a candidate that refused us may accept instead (`IkeConfig.after_refusal`)."""
        if self._next_try is None:
            return False
        self._config, self._next_try = self._next_try, None
        self._failure = self._first_at = None
        self._inits.clear()
        self._begin(self._path, now)
        self._second_port_at = now + SECOND_PORT_AFTER if self._path.remote_port == IKE_PORT else None
        return True

    def _won(self, winner: Contender, now: float) -> None:
        """This one is the connection; should another candidate be the same gateway, it need not keep a second one."""
        self._inits.clear()
        self._contenders.remove(winner)
        self._abandon(now)
        self.winner = winner
        self.accepted = self._config

    def _abandon(self, now: float) -> None:
        for contender in self._contenders:
            contender.sa.abandon(now)
            self.outbox.extend(contender.sa.channel.outbox)
        self._contenders.clear()

    def _expire(self, now: float) -> None:
        """The time for connecting is over: nobody is waited for any longer."""
        error = self._failure or self._hint or self._silence()
        self._abandon(now)
        self._end(error)

    def _silence(self) -> IkeclientError:
        address = self._path.remote_address
        if self._contenders:
            return silent_during_auth(address, self._contenders[0].sa.channel.path.remote_port)
        return no_answer(address, {init.path.remote_port for init in self._inits.values()})

    def _end(self, error: IkeclientError | None) -> None:
        self.over = True
        self.error = error
        self._inits.clear()
        self._contenders.clear()


def disclosed(sa: IkeSa) -> IkeKeysDerived:
    """The keys of an IKE SA, for a person who asked to decrypt captures."""
    keying = sa.keying
    return IkeKeysDerived(spi_i=keying.spi_i, spi_r=keying.spi_r, suite=keying.suite, keys=keying.keys)
