"""Names to addresses: a stub resolver that asks the tunnel's servers through the tunnel (RFC 1034, RFC 1123).

Whoever could answer in a server's place has to guess (RFC 5452): each question has a number and a port of its own that
are random, goes to one server at a time, and only an answer of that server to that question counts. After several that
do not fit, it is asked over TCP, as after an answer that was cut short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import field
from enum import StrEnum
from ipaddress import ip_address
from typing import Protocol

from ikeclient.errors import IkeclientError, ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.stack.dns_message import Code, Response, Type, encode_name, parse_response, query
from ikeclient.stack.interfaces import CloseReason, Entropy, Handler
from ikeclient.stack.ip.icmp import Kind
from ikeclient.stack.udp import End

PORT = 53
TIMEOUTS = (2.0, 4.0)  # seconds for each server, in the first and the second round
TCP_TIMEOUT = 6.0
OTHER_FAMILY = 0.5  # seconds that addresses of one family wait for those of the other (RFC 8305 section 3 waits less)
MOST_QUESTIONS = 512  # that wait at a time
MOST_CACHED = 2048
MOST_REDIRECTIONS = 8  # by CNAME
_LONGEST_POSITIVE, _LONGEST_NEGATIVE = 86400, 300  # seconds in the cache
_MOST_STRAYS = 8  # answers that do not fit
_LONGEST_ANSWER = 65535


class Problem(StrEnum):
    """Why there are no addresses."""

    NO_NAME = "the name does not exist"
    NO_ADDRESS = "the name has no address"
    NO_ANSWER = "no name server answers"
    NO_SERVER = "the tunnel has no name server"
    BUSY = "too many names are being looked up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a lookup came to: packed addresses, or a problem."""

    addresses: tuple[bytes, ...] = ()
    problem: Problem | None = None


Done = Callable[[Outcome], None]
_Answered = Callable[[Outcome], None]


class Datagrams(Protocol):
    """A port of ours for datagrams to and from one other (`stack.udp.Association`)."""

    def listen(self, on_readable: Callable[[], None], on_error: Callable[[Kind, End], None]) -> None:
        """Be told of datagrams and errors."""

    def send(self, data: bytes) -> bool:
        """Send a datagram; false if it is lost here."""

    def receive(self) -> tuple[bytes, End] | None:
        """The next datagram and where it came from; None if nothing is waiting."""

    def close(self) -> None:
        """Give the port back."""


class Bytes(Protocol):
    """A connection (`stack.interfaces.Stream`)."""

    def send(self, data: bytes) -> int:
        """Take data; return how much that was."""

    def abort(self) -> None:
        """Forget everything."""


class Network(Protocol):
    """What the resolver needs of the host."""

    def open_udp(self, port: int = 0, peer: End | None = None) -> Datagrams:
        """A port for datagrams. Raises IkeclientError or OSError."""

    def connect(self, remote: bytes, port: int, handler: Handler, now: float) -> Bytes:
        """Begin a TCP connection. Raises IkeclientError or OSError."""

    def has(self, version: int) -> bool:
        """Whether we have an address of this IP version."""

    @property
    def now(self) -> float:
        """The time."""


@dataclass(slots=True)
class _Lookup:
    """A name in the forms that are tried one after the other, and who wants to know."""

    candidates: deque[str]
    done: list[Done]
    outcomes: list[Outcome] = field(default_factory=list)  # of the present form
    missing: int = 0
    worst: Problem = Problem.NO_NAME
    until: float | None = None  # when those addresses are enough that are there

    @property
    def found(self) -> tuple[bytes, ...]:
        return tuple(address for outcome in self.outcomes for address in outcome.addresses)


class Resolver:
    """Asks `servers`, packed addresses, for names and for those in the search domains `domains`."""

    def __init__(self, network: Network, entropy: Entropy) -> None:
        self._network = network
        self._entropy = entropy
        self._servers: tuple[bytes, ...] = ()
        self._domains: tuple[str, ...] = ()
        self._lookups: dict[str, _Lookup] = {}
        self._questions: dict[tuple[str, Type], _Question] = {}
        self._cache: dict[tuple[str, Type], tuple[float, Outcome]] = {}

    def configure(self, servers: tuple[bytes, ...], domains: tuple[str, ...]) -> None:
        """Ask these from now on. What others said is forgotten."""
        if servers != self._servers:
            self._cache.clear()
        self._servers, self._domains = servers, domains

    def lookup(self, name: str, done: Done) -> None:
        """Find the addresses of a name; `done` is called once, perhaps before this returns."""
        try:
            done(Outcome(addresses=(ip_address(name).packed,)))
            return
        except ValueError:
            pass
        try:
            plain = _canonical(name)
        except ValueError:
            done(Outcome(problem=Problem.NO_NAME))
            return
        if plain == "localhost" or plain.endswith(".localhost"):  # nobody may be asked (RFC 6761 section 6.3)
            done(Outcome(problem=Problem.NO_NAME))
            return
        if not self._servers:
            done(Outcome(problem=Problem.NO_SERVER))
            return
        key = plain + "." if name.endswith(".") else plain
        if (running := self._lookups.get(key)) is not None:
            running.done.append(done)
            return
        if len(self._questions) >= MOST_QUESTIONS:
            done(Outcome(problem=Problem.BUSY))
            return
        self._lookups[key] = lookup = _Lookup(deque(self._forms(plain, absolute=name.endswith("."))), [done])
        self._next_form(key, lookup)

    def deadline(self) -> float | None:
        """When to call `expire` at the latest."""
        times = [question.deadline for question in self._questions.values()]
        times += [lookup.until for lookup in self._lookups.values() if lookup.until is not None]
        return min(times, default=None)

    def expire(self, now: float) -> None:
        """Ask again what nobody answered, and wait no longer for the other family."""
        for key in [key for key, each in self._lookups.items() if each.until is not None and each.until <= now]:
            self._finish(key, Outcome(addresses=self._lookups[key].found))
        for question in [question for question in self._questions.values() if question.deadline <= now]:
            question.ask_next()

    def _forms(self, name: str, *, absolute: bool) -> list[str]:
        """The names to try: those in the search domains last if the name has a dot, else first."""
        searched = [] if absolute else [f"{name}.{domain}" for domain in self._domains]
        searched = [form for form in searched if _is_name(form)]
        return [name, *searched] if "." in name else [*searched, name]

    def _next_form(self, key: str, lookup: _Lookup) -> None:
        while lookup.candidates:
            name = lookup.candidates.popleft()
            types = [kind for kind, version in ((Type.AAAA, 6), (Type.A, 4)) if self._network.has(version)]
            lookup.outcomes, lookup.missing = [], len(types)
            for kind in types:
                self._ask(name, kind, lambda outcome: self._answered(key, lookup, outcome))
            if lookup.missing or self._lookups.get(key) is not lookup:
                return  # the rest follows when there is an answer, or has done so already
        self._finish(key, Outcome(problem=lookup.worst))

    def _answered(self, key: str, lookup: _Lookup, outcome: Outcome) -> None:
        if self._lookups.get(key) is not lookup:
            return  # it had enough
        lookup.outcomes.append(outcome)
        lookup.missing -= 1
        if lookup.missing:
            lookup.until = self._network.now + OTHER_FAMILY if outcome.addresses else None
            return
        if found := lookup.found:
            self._finish(key, Outcome(addresses=found))
            return
        problems = {each.problem for each in lookup.outcomes}
        for problem in (Problem.NO_ANSWER, Problem.NO_ADDRESS):
            if problem in problems and lookup.worst is not Problem.NO_ANSWER:
                lookup.worst = problem
        self._next_form(key, lookup)

    def _finish(self, key: str, outcome: Outcome) -> None:
        for done in self._lookups.pop(key).done:
            done(outcome)

    def _ask(self, name: str, kind: Type, answered: _Answered) -> None:
        cached = self._cache.get((name, kind))
        if cached is not None and cached[0] > self._network.now:
            answered(cached[1])
            return
        question = self._questions.get((name, kind))
        if question is not None:
            question.wait(answered)
            return
        question = _Question(self._network, self._entropy, name, kind, self._servers, self._settled)
        self._questions[name, kind] = question
        question.wait(answered)
        question.ask_next()

    def _settled(self, question: _Question, outcome: Outcome, ttl: int) -> None:
        key = question.name, question.kind
        del self._questions[key]
        if ttl > 0 and question.servers == self._servers:
            self._cache.pop(key, None)
            if len(self._cache) >= MOST_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[key] = self._network.now + ttl, outcome


class _Question:
    """A name and a type that are being asked for. Once answered, all that wait are told."""

    def __init__(
        self,
        network: Network,
        entropy: Entropy,
        name: str,
        kind: Type,
        servers: tuple[bytes, ...],
        settled: Callable[[_Question, Outcome, int], None],
    ) -> None:
        self.name, self.kind, self.servers = name, kind, servers
        self.deadline = 0.0
        self._network, self._entropy, self._settled = network, entropy, settled
        self._waiting: list[_Answered] = []
        self._asked = name  # or what it is an alias for
        self._redirections = 0
        self._tries = self._begin()
        self._attempt: _Attempt | None = None

    def wait(self, answered: _Answered) -> None:
        """Call this with the answer."""
        self._waiting.append(answered)

    def _begin(self) -> Iterator[tuple[bytes, float]]:
        return iter([(server, timeout) for timeout in TIMEOUTS for server in self.servers])

    def ask_next(self) -> None:
        """Ask the next server, or give up."""
        self._stop()
        for server, timeout in self._tries:
            try:
                self._attempt = _OverUdp(self, self._network, server, self._message())
            except (IkeclientError, OSError, ValueError):
                continue
            self.deadline = self._network.now + timeout
            return
        self._settle(Outcome(problem=Problem.NO_ANSWER), 0)

    def ask_by_tcp(self, server: bytes) -> None:
        """Ask the same server again, over TCP."""
        self._stop()
        try:
            self._attempt = _OverTcp(self, self._network, server, self._message())
        except (IkeclientError, OSError, ValueError):
            self.ask_next()
        else:
            self.deadline = self._network.now + TCP_TIMEOUT

    def fits(self, response: Response, identifier: int) -> bool:
        """Whether it answers what was asked."""
        return (response.identifier, response.name, response.type) == (identifier, self._asked, self.kind)

    def take(self, response: Response) -> None:
        """Take an answer that fits and is whole."""
        if response.code not in (Code.NO_ERROR, Code.NO_NAME):
            self.ask_next()
            return
        name, ttl = self._asked, _LONGEST_POSITIVE
        for _ in response.answers:
            alias = next((r for r in response.answers if r.type == Type.CNAME and r.name == name), None)
            if alias is None:
                break
            name, ttl = alias.target, min(ttl, alias.ttl)
        found = [record for record in response.answers if record.type == self.kind and record.name == name]
        if found:
            ttl = min(ttl, *(record.ttl for record in found))
            self._settle(Outcome(addresses=tuple(dict.fromkeys(record.address for record in found))), ttl)
        elif response.code == Code.NO_NAME:
            self._settle(Outcome(problem=Problem.NO_NAME), min(response.negative_ttl or 0, _LONGEST_NEGATIVE))
        elif name != self._asked and response.negative_ttl is None:
            self._redirect(name)
        else:
            self._settle(Outcome(problem=Problem.NO_ADDRESS), min(response.negative_ttl or 0, _LONGEST_NEGATIVE))

    def _redirect(self, name: str) -> None:
        self._redirections += 1
        if self._redirections > MOST_REDIRECTIONS:
            self._settle(Outcome(problem=Problem.NO_ANSWER), 0)
            return
        self._asked, self._tries = name, self._begin()
        self.ask_next()

    def _message(self) -> bytes:
        return query(int.from_bytes(self._entropy(2), "big"), self._asked, self.kind)

    def _stop(self) -> None:
        if self._attempt is not None:
            self._attempt.stop()
            self._attempt = None

    def _settle(self, outcome: Outcome, ttl: int) -> None:
        self._stop()
        self._settled(self, outcome, ttl)
        for answered in self._waiting:
            answered(outcome)


class _Attempt(Protocol):
    def stop(self) -> None:
        """Wait no more."""


class _OverUdp:
    """A question that one server was sent from a port of its own."""

    def __init__(self, question: _Question, network: Network, server: bytes, message: bytes) -> None:
        self._question, self._server = question, server
        self._identifier = int.from_bytes(message[:2], "big")
        self._strays = 0
        self._association = network.open_udp(peer=(server, PORT))
        self._association.listen(self._readable, self._refused)
        self._association.send(message)

    def stop(self) -> None:
        self._association.close()

    def _refused(self, kind: Kind, end: End) -> None:  # noqa: ARG002  both are known
        self._question.ask_next()

    def _readable(self) -> None:
        while (arrived := self._association.receive()) is not None:
            try:
                response = parse_response(arrived[0])
            except ParseError:
                response = None
            if response is None or not self._question.fits(response, self._identifier):
                self._strays += 1
                if self._strays == _MOST_STRAYS:
                    self._question.ask_by_tcp(self._server)
                    return
            elif response.truncated:
                self._question.ask_by_tcp(self._server)
                return
            else:
                self._question.take(response)
                return


class _OverTcp:
    """A question over a connection of its own (RFC 7766)."""

    def __init__(self, question: _Question, network: Network, server: bytes, message: bytes) -> None:
        self._question = question
        self._identifier = int.from_bytes(message[:2], "big")
        self._message = len(message).to_bytes(2, "big") + message
        self._received = bytearray()
        self._over = False
        self._stream = network.connect(server, PORT, self, network.now)

    def stop(self) -> None:
        if not self._over:
            self._over = True
            self._stream.abort()

    def on_open(self) -> None:
        self._stream.send(self._message)

    def on_data(self, data: memoryview) -> int:
        self._received += data[: 2 + _LONGEST_ANSWER - len(self._received)]
        length = int.from_bytes(self._received[:2], "big")
        if not self._over and len(self._received) >= 2 + length >= 3:
            self._judge(bytes(self._received[2 : 2 + length]))
        return len(data)

    def _judge(self, data: bytes) -> None:
        try:
            response = parse_response(data)
        except ParseError:
            response = None
        if response is not None and not response.truncated and self._question.fits(response, self._identifier):
            self._question.take(response)
        else:
            self._question.ask_next()

    def on_end(self) -> None:
        if not self._over:
            self._question.ask_next()

    def on_writable(self) -> None:
        """The question fits into any buffer."""

    def on_closed(self, reason: CloseReason) -> None:  # noqa: ARG002  whichever it is
        if not self._over:
            self._over = True
            self._question.ask_next()


def _canonical(name: str) -> str:
    """The name as it comes back in an answer: ASCII, lower case, without the last dot. Raises ValueError."""
    encoded, labels = encode_name(name), []
    while encoded[0]:
        labels.append(encoded[1 : 1 + encoded[0]].decode("ascii").lower())
        encoded = encoded[1 + encoded[0] :]
    return ".".join(labels)


def _is_name(name: str) -> bool:
    try:
        encode_name(name)
    except ValueError:
        return False
    return True
