from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.errors import IkeclientError, ParseError
from ikeclient.stack.dns_message import Response, Type, encode_name, parse_response, query
from ikeclient.stack.interfaces import CloseReason, Data, Handler, Sends
from ikeclient.stack.ip.header import packed
from ikeclient.stack.ip.icmp import IcmpError, Kind
from ikeclient.stack.resolver import MOST_QUESTIONS, Outcome, Problem, Resolver
from ikeclient.stack.udp import Association, End, Udp

SERVER, SECOND, OURS = (packed(address) for address in ("10.99.0.53", "10.99.0.54", "10.88.0.1"))
WEB4, WEB6 = packed("10.99.0.7"), packed("fd99::7")

Answer = Callable[[int, str, int], bytes | None]  # identifier, name, type


def record(name: str, kind: int, data: bytes, ttl: int = 60) -> bytes:
    return encode_name(name) + pack(">HHIH", kind, 1, ttl, len(data)) + data


def soa(ttl: int = 60) -> bytes:
    return record("corp.example", Type.SOA, encode_name("ns") + encode_name("root") + pack(">5I", 1, 2, 3, 4, 30), ttl)


def message(
    identifier: int,
    name: str,
    kind: int,
    *answers: bytes,
    code: int = 0,
    authority: Sequence[bytes] = (),
    flags: int = 0x8180,
) -> bytes:
    head = pack(">6H", identifier, flags | code, 1, len(answers), len(authority), 0)
    return head + encode_name(name) + pack(">HH", kind, 1) + b"".join(answers) + b"".join(authority)


class Stream:
    """A connection to a server that answers what it is sent."""

    def __init__(self, handler: Handler, answer: Answer) -> None:
        self.handler, self.answer = handler, answer
        self.aborted = False

    def send(self, data: Data) -> int:
        reply = self.answer(*question(bytes(data[2:])))
        if reply is None:
            self.handler.on_closed(CloseReason.RESET)
        else:
            whole = pack(">H", len(reply)) + reply
            for at in range(0, len(whole), 100):  # in pieces
                self.handler.on_data(memoryview(whole[at : at + 100]))
        return len(data)

    def abort(self) -> None:
        self.aborted = True


def question(data: bytes) -> tuple[int, str, int]:
    parsed = parse_response(bytes((data[0], data[1], 0x81)) + data[3:])
    return parsed.identifier, parsed.name, parsed.type


class World:
    """A network with name servers; `asked` is what they were asked, `answers` what each says."""

    def __init__(self, *, versions: Sequence[int] = (4,)) -> None:
        self.now = 1000.0
        self.versions = versions
        self.answers: dict[bytes, Answer] = {}
        self.by_tcp: dict[bytes, Answer] = {}
        self.asked: list[tuple[bytes, str, int]] = []
        self.ports: list[int] = []
        self.identifiers: list[int] = []
        self.streams: list[Stream] = []
        self._ready: list[Sends] = []
        self._random = Random(7).randbytes
        self._udp = Udp(self, self._random)
        self.resolver = Resolver(self, self._random)  # type: ignore[arg-type]  # `connect` gives less than a stream
        self.resolver.configure((SERVER, SECOND), ())
        self.outcomes: list[Outcome] = []

    def ready(self, source: Sends) -> None:
        self._ready.append(source)

    def mtu(self, remote: bytes) -> int:
        return 1400

    def local(self, remote: bytes) -> bytes | None:
        return OURS

    def has(self, version: int) -> bool:
        return version in self.versions

    def open_udp(self, port: int = 0, peer: End | None = None) -> Association:
        return self._udp.open(port, peer)

    def connect(self, remote: bytes, port: int, handler: Handler, now: float) -> Stream:
        if remote not in self.by_tcp:
            raise IkeclientError("refused")
        stream = Stream(handler, self.by_tcp[remote])
        self.streams.append(stream)
        return stream

    def deliver(self, association: Association, reply: bytes, source: bytes) -> None:
        head = pack(">HHHH", 53, association.port, 8 + len(reply), 0)
        self._udp.deliver(memoryview(head + reply), source, 0)

    def refuse(self, port: int, server: bytes) -> None:
        quoted = pack(">HHHH", port, 53, 8, 0)
        self._udp.failed(
            IcmpError(
                kind=Kind.PORT_UNREACHABLE,
                mtu=0,
                source=OURS,
                destination=server,
                protocol=17,
                length=99,
                quoted=quoted,
            )
        )

    def pump(self) -> None:
        """Bring what was asked to the servers, and their answers back, until nothing moves."""
        while self._ready or any(not stream.aborted and not hasattr(stream, "begun") for stream in self.streams):
            for stream in list(self.streams):
                if not hasattr(stream, "begun"):
                    stream.begun = True  # type: ignore[attr-defined]
                    stream.handler.on_open()
            frame = bytearray(65545)
            sources, self._ready = self._ready, []
            for source in sources:
                assert isinstance(source, Association)
                while length := source.fill(memoryview(frame), self.now):
                    packet = bytes(frame[10:length])
                    identifier, name, kind = question(packet[28:])
                    server = packet[16:20]
                    self.asked.append((server, name, kind))
                    self.ports.append(source.port)
                    self.identifiers.append(identifier)
                    answer = self.answers.get(server)
                    reply = answer(identifier, name, kind) if answer is not None else None
                    if reply is not None:
                        self.deliver(source, reply, server)

    def look_up(self, name: str) -> Outcome:
        """The outcome, with as much time as it takes."""
        self.outcomes.clear()
        self.resolver.lookup(name, self.outcomes.append)
        self.pump()
        while not self.outcomes:
            deadline = self.resolver.deadline()
            assert deadline is not None
            self.now = deadline
            self.resolver.expire(self.now)
            self.pump()
        assert len(self.outcomes) == 1
        return self.outcomes[0]


def zone(*records: tuple[str, int, bytes]) -> Answer:
    """A server that has these records and knows that there are no others."""

    def answer(identifier: int, name: str, kind: int) -> bytes:
        found = [record(*each) for each in records if each[0] == name and each[1] in (kind, Type.CNAME)]
        known = any(each[0] == name for each in records)
        return message(identifier, name, kind, *found, code=0 if known else 3, authority=() if found else (soa(),))

    return answer


def test_both_families_are_asked_for_and_remembered_for_their_time() -> None:
    world = World(versions=(4, 6))
    world.answers[SERVER] = zone(("www.corp.example", Type.A, WEB4), ("www.corp.example", Type.AAAA, WEB6))
    assert world.look_up("WWW.Corp.Example").addresses == (WEB6, WEB4)
    assert len(world.asked) == 2
    assert world.look_up("www.corp.example.").addresses == (WEB6, WEB4)
    assert len(world.asked) == 2
    world.now += 61
    assert world.look_up("www.corp.example").addresses == (WEB6, WEB4)
    assert len(world.asked) == 4


def test_no_question_is_asked_for_a_family_that_is_not_there() -> None:
    world = World()
    world.answers[SERVER] = zone(("www.corp.example", Type.A, WEB4), ("www.corp.example", Type.AAAA, WEB6))
    assert world.look_up("www.corp.example").addresses == (WEB4,)
    assert world.asked == [(SERVER, "www.corp.example", Type.A)]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("web", ["web.corp.example", "web.example", "web"]),
        ("web.lab", ["web.lab", "web.lab.corp.example", "web.lab.example"]),
        ("web.", ["web"]),
    ],
)
def test_search_domains_are_tried_as_resolvers_do(name: str, asked: list[str]) -> None:
    world = World()
    world.resolver.configure((SERVER,), ("corp.example", "example"))
    world.answers[SERVER] = zone(("other", Type.A, WEB4))
    assert world.look_up(name).problem is Problem.NO_NAME
    assert [each[1] for each in world.asked] == asked
    world.now += 3600
    world.answers[SERVER] = zone((asked[-1], Type.A, WEB4))
    assert world.look_up(name).addresses == (WEB4,)


def test_absence_is_remembered_as_long_as_the_zone_says() -> None:
    """RFC 2308 section 5."""
    world = World()
    world.answers[SERVER] = zone(("www.corp.example", Type.AAAA, WEB6))
    assert world.look_up("www.corp.example").problem is Problem.NO_ADDRESS
    assert world.look_up("no.corp.example").problem is Problem.NO_NAME
    world.now += 29
    world.look_up("www.corp.example")
    world.look_up("no.corp.example")
    assert len(world.asked) == 2
    world.now += 2
    world.look_up("www.corp.example")
    world.look_up("no.corp.example")
    assert len(world.asked) == 4


def test_a_silent_or_failing_server_is_passed_over() -> None:
    for first in (None, lambda i, n, k: message(i, n, k, code=2), lambda i, n, k: message(i, n, k, code=5)):
        world = World()
        if first is not None:
            world.answers[SERVER] = first
        world.answers[SECOND] = zone(("www.corp.example", Type.A, WEB4))
        assert world.look_up("www.corp.example").addresses == (WEB4,)
        assert [each[0] for each in world.asked] == [SERVER, SECOND]


@pytest.mark.parametrize("silent", [Type.A, Type.AAAA])
def test_addresses_of_one_family_do_not_wait_long_for_the_other(silent: Type) -> None:
    """Servers that never answer one of the two questions are a known kind."""
    world = World(versions=(4, 6))
    right = zone(("www.corp.example", Type.A, WEB4), ("www.corp.example", Type.AAAA, WEB6))
    world.answers[SERVER] = lambda i, n, k: None if k == silent else right(i, n, k)
    assert world.look_up("www.corp.example").addresses == (WEB6 if silent is Type.A else WEB4,)
    assert world.now == 1000.5
    late = world.resolver.deadline()
    assert late is not None
    while (late := world.resolver.deadline()) is not None:  # what is still asked ends, and harms nothing
        world.now = late
        world.resolver.expire(late)
        world.pump()
    assert world.outcomes == [Outcome(addresses=(WEB6 if silent is Type.A else WEB4,))]


def test_a_server_that_refuses_is_passed_over_at_once() -> None:
    world = World()
    world.answers[SECOND] = zone(("www.corp.example", Type.A, WEB4))
    world.resolver.lookup("www.corp.example", world.outcomes.append)
    world.pump()
    world.refuse(world.ports[0], SERVER)
    world.pump()
    assert world.outcomes == [Outcome(addresses=(WEB4,))]
    assert world.now == 1000.0


def test_nobody_answers_is_said_in_the_end() -> None:
    world = World()
    assert world.look_up("www.corp.example").problem is Problem.NO_ANSWER
    assert [each[0] for each in world.asked] == [SERVER, SECOND, SERVER, SECOND]
    assert len(set(world.ports)) == len(set(world.identifiers)) == 4  # RFC 5452 section 9.2
    assert world.resolver.deadline() is None
    assert world._udp._associations == {}


@pytest.mark.parametrize(
    "forge",
    [
        lambda i, n, k: message(i ^ 1, n, k, record(n, k, SECOND)),
        lambda i, n, k: message(i, "other.example", k, record(n, k, SECOND)),
        lambda i, n, k: message(i, n, 16, record(n, k, SECOND)),
        lambda i, n, k: message(i, n, k, record(n, k, SECOND), flags=0x0100),
        lambda i, n, k: message(i, n, k, record(n, k, SECOND))[:-1],
        lambda i, n, k: b"",
        lambda i, n, k: bytes(12),
    ],
)
def test_what_does_not_answer_the_question_is_ignored(forge: Answer) -> None:
    """RFC 5452 section 9.1."""
    world = World()
    right = zone(("www.corp.example", Type.A, WEB4))
    forged: list[bytes] = []

    def both(identifier: int, name: str, kind: int) -> bytes | None:
        reply = forge(identifier, name, kind)
        forged.append(reply or b"")
        association = world._udp._associations[world.ports[-1]]
        world.deliver(association, reply or b"", SERVER)
        world.deliver(association, message(identifier, name, kind, record(name, kind, SECOND)), SECOND)
        return right(identifier, name, kind)

    world.answers[SERVER] = both
    assert world.look_up("www.corp.example").addresses == (WEB4,)
    assert forged


def test_after_many_forgeries_it_is_asked_over_tcp() -> None:
    world = World()
    right = zone(("www.corp.example", Type.A, WEB4))

    def flood(identifier: int, name: str, kind: int) -> bytes:
        association = world._udp._associations[world.ports[-1]]
        for guess in range(100):
            world.deliver(association, message(guess, name, kind, record(name, kind, SECOND)), SERVER)
        return b""

    world.answers[SERVER], world.by_tcp[SERVER] = flood, right
    assert world.look_up("www.corp.example").addresses == (WEB4,)
    assert world.streams[0].aborted


def test_an_answer_that_was_cut_short_is_asked_for_over_tcp() -> None:
    world = World()
    world.answers[SERVER] = lambda i, n, k: message(i, n, k, flags=0x8380)
    many = [("www.corp.example", Type.A, pack(">I", 0x0A630000 + n)) for n in range(100)]
    world.by_tcp[SERVER] = zone(*many)
    assert world.look_up("www.corp.example").addresses == tuple(each[2] for each in many)
    assert world.now == 1000.0
    world.by_tcp[SERVER] = lambda i, n, k: None
    world.answers[SECOND] = zone(("other.corp.example", Type.A, WEB4))
    assert world.look_up("other.corp.example").addresses == (WEB4,)


def alias(name: str, target: str, ttl: int = 60) -> bytes:
    return record(name, Type.CNAME, encode_name(target), ttl)


def test_aliases_are_followed_within_an_answer_and_beyond() -> None:
    world = World()
    answers = {
        "www.corp.example": [alias("www.corp.example", "a.example", 20), alias("a.example", "b.example")],
        "b.example": [record("b.example", Type.A, WEB4), record("elsewhere", Type.A, SECOND)],
    }
    world.answers[SERVER] = lambda i, n, k: message(i, n, k, *answers[n])
    assert world.look_up("www.corp.example").addresses == (WEB4,)
    assert [each[1] for each in world.asked] == ["www.corp.example", "b.example"]


@pytest.mark.parametrize("inside", [True, False])
def test_aliases_that_go_round_end(inside: bool) -> None:
    world = World()
    chain = [alias("a.example", "b.example"), alias("b.example", "a.example")]
    other = {"a.example": "b.example", "b.example": "a.example"}
    world.answers[SERVER] = lambda i, n, k: message(i, n, k, *(chain if inside else [alias(n, other[n])]))
    assert world.look_up("a.example").problem in (Problem.NO_ANSWER, Problem.NO_ADDRESS)
    assert len(world.asked) <= 10


@pytest.mark.parametrize("name", ["localhost", "x.localhost.", "", ".", "a..b", "x" * 64 + ".example", "a." * 130])
def test_names_that_nobody_may_be_asked_for(name: str) -> None:
    world = World()
    assert world.look_up(name).problem is Problem.NO_NAME
    assert world.asked == []


def test_an_address_needs_no_server() -> None:
    world = World()
    world.resolver.configure((), ())
    assert world.look_up("10.99.0.7").addresses == (WEB4,)
    assert world.look_up("fd99::7").addresses == (WEB6,)
    assert world.look_up("www.example").problem is Problem.NO_SERVER


def test_those_who_ask_for_one_name_share_its_questions_and_questions_are_bounded() -> None:
    world = World()
    for _ in range(100):
        world.resolver.lookup("www.corp.example", world.outcomes.append)
    for number in range(2 * MOST_QUESTIONS):
        world.resolver.lookup(f"n{number}.example", world.outcomes.append)
    assert {outcome.problem for outcome in world.outcomes} == {Problem.BUSY}
    world.outcomes.clear()
    world.answers[SERVER] = zone(("www.corp.example", Type.A, WEB4))
    world.pump()
    assert world.outcomes.count(Outcome(addresses=(WEB4,))) == 100
    assert len(world.asked) == MOST_QUESTIONS


def test_other_servers_are_not_bound_by_what_those_before_said() -> None:
    world = World()
    world.answers[SERVER] = zone(("www.corp.example", Type.A, SECOND))
    world.look_up("www.corp.example")
    world.resolver.configure((SECOND,), ())
    world.answers[SECOND] = zone(("www.corp.example", Type.A, WEB4))
    assert world.look_up("www.corp.example").addresses == (WEB4,)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_an_answer_or_an_error(data: bytes, header: bool) -> None:
    head = pack(">6H", 1, 0x8180, 1, 3, 3, 0) + encode_name("a.example") + pack(">HH", 1, 1)
    whole = head + data if header else data
    with suppress(ParseError):
        assert isinstance(parse_response(whole), Response)


def test_a_compressed_name_only_leads_backwards() -> None:
    head = pack(">6H", 1, 0x8180, 1, 1, 0, 0) + encode_name("a.example") + pack(">HH", 1, 1)
    right = head + b"\xc0\x0c" + pack(">HHIH", 1, 1, 60, 4) + WEB4
    assert parse_response(right).answers[0].name == "a.example"
    for pointer in (len(head), len(head) + 1, 0x3FFF):
        wrong = head + pack(">H", 0xC000 | pointer) + pack(">HHIH", 1, 1, 60, 4) + WEB4
        with pytest.raises(ParseError):
            parse_response(wrong)


def test_a_question_is_as_the_standard_draws_it() -> None:
    """RFC 1035 section 4.1.2, and a name that is not ASCII (RFC 3490)."""
    expected = bytes.fromhex("12340100000100000000000003777777076578616d706c65000001 0001".replace(" ", ""))
    assert query(0x1234, "www.example", Type.A) == expected
    assert encode_name("bücher.example") == b"\x0dxn--bcher-kva\x07example\0"
