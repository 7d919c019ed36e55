"""One connection: what it sends and says, and the sockets that it shares with another one."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_transport import FakeTun

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.dataplane.pump import Pump, PumpCallbacks
from ikeclient.errors import IkeclientError, UsageError
from ikeclient.ike.config import ChildConfig, ExpectedGateway, IkeConfig, PskAuth
from ikeclient.ike.events import Closed, Datagram, Event, IPAddress, Need, NeedKind, Notice, Path
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.link import LATE, PATH_GRACE, Link
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.ports import NoKillSwitch, Ports, Socket
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import IdType

GCM = AlgorithmProposal(
    encryption=(ENCRYPTION["aes128gcm16"],), prf=(PRF["prfsha256"],), key_exchange=(KEY_EXCHANGE["x25519"],)
)
PSK = PskAuth(psk=b"a shared secret of many bytes")
CONFIG = IkeConfig(
    local_identity=Identity(type=IdType.FQDN, data=b"alice.example.com"),
    auth=PSK,
    gateway=ExpectedGateway(identity=None, auth=PSK),
    ike_proposals=(GCM,),
    child=ChildConfig(esp_proposals=(replace(GCM, prf=(), key_exchange=()),)),
)


# The machine's own network and clock; neither device nor machine is asked for anything.
PORTS = Ports(device=cast(Any, None), machine=cast(Any, None), table=0)


class PlainSockets:
    """Sockets that nobody watches."""

    def open(self, local: IPAddress) -> Socket:
        return PORTS.network.open(local, lambda _: None)

    def close(self, socket: Socket) -> None:
        socket.close()


def run(scenario: Callable[[Pump, socket.socket], None]) -> None:
    pump = Pump(
        FakeTun(),  # type: ignore[arg-type]
        PumpCallbacks(on_ike=lambda *_: True),
        boottime,
        entropy=os.urandom,
        offload=False,
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.bind(("127.0.0.1", 0))
        gateway.settimeout(10)
        scenario(pump, gateway)


@pytest.mark.parametrize("connected_again", [False, True])
def test_a_login_beside_a_connection_that_is_over_can_still_be_deleted(connected_again: bool) -> None:
    """G1, K20: the gateway understands the DELETE once it has dealt with the login, long after the connection is over.

    And the end of that farewell leaves the connection alone that was made meanwhile.
    """

    def scenario(pump: Pump, gateway: socket.socket) -> None:
        port = gateway.getsockname()[1]

        def link(parallel_to: Link | None = None) -> Link:
            remote = (ip_address("127.0.0.1"), port)
            return Link(CONFIG, remote, PORTS, pump, PlainSockets(), parallel_to=parallel_to)

        old = link()
        parallel = link(parallel_to=old)
        old.retire()
        links = Links(PORTS, pump, PlainSockets())
        links.leaving = [parallel, old]
        links.release(old)
        assert links.leaving == [parallel]
        parallel._send(Datagram(b"the DELETE, again", parallel.path))
        data, source = gateway.recvfrom(100)
        assert data.endswith(b"the DELETE, again")
        assert source[1] == old.path.local_port
        if connected_again:
            new = link()
            pump.set_remote(("127.0.0.1", port))
        links.release(parallel)
        assert pump.remote == (("127.0.0.1", port) if connected_again else None)
        if connected_again:
            new._send(Datagram(b"the new one", new.path))
            assert gateway.recvfrom(100)[0].endswith(b"the new one")
            new.release()

    run(scenario)


class FakeIke:
    """Emits what a test puts into it."""

    def __init__(self) -> None:
        self.datagrams: deque[Datagram] = deque()
        self.events: deque[Event] = deque()
        self.deadline: float | None = None
        self.deaf: list[bool] = []
        self.supplied: list[tuple[Need, object]] = []
        self.refused: list[tuple[Need, IkeclientError]] = []
        self.moves: list[tuple[Path, bool]] = []
        self.can_move = True
        self.heard_at: list[float] = []

    def start(self, path: Path, now: float) -> None:
        self.datagrams.append(Datagram(b"first", path))
        self.deadline = now + 5

    def handle_timer(self, now: float, *, deaf: bool) -> None:
        self.deaf.append(deaf)
        self.deadline = None

    def close(self, now: float) -> None:
        self.deadline = None
        self.events.append(Closed())

    def give_up(self, now: float) -> None:
        self.close(now)
        self.deadline = now + 0.01  # the gateway has to be told once more

    def supply(self, need: Need, value: object, now: float) -> None:
        self.supplied.append((need, value))

    def refuse(self, need: Need, error: IkeclientError, now: float) -> None:
        self.refused.append((need, error))
        self.events.append(Closed(error=error))

    def path_changed(self, path: Path, now: float, *, proven: bool) -> None:
        self.moves.append((path, proven))

    def heard(self, at: float) -> None:
        self.heard_at.append(at)

    def datagrams_to_send(self) -> list[Datagram]:
        taken = list(self.datagrams)
        self.datagrams.clear()
        return taken

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def next_deadline(self) -> float | None:
        return self.deadline


class Rig:
    """A link whose pump, sockets and IKE are a test's."""

    def __init__(self) -> None:
        self.now, self.missed = 100.0, False
        self.sent: list[tuple[bytes, Any]] = []
        self.sockets: list[Any] = []
        self.ike, self.last_inbound, self.remote = FakeIke(), None, None
        ports: Any = SimpleNamespace(
            ask=None,
            source=lambda _kind: None,
            clock=lambda: self.now,
            connect=lambda *_: self.ike,
            entropy=None,
            time_of_day=None,
            switch=NoKillSwitch(),
            network=SimpleNamespace(source_for=lambda _: WIFI),
        )
        pump: Any = SimpleNamespace(
            attach=lambda socket, sending=True: None,
            detach=lambda socket: None,
            deaf=lambda: self.missed,
            last_inbound=123.0,
            set_remote=lambda remote: None,
            send_ike=lambda data, remote, own, whole: self.sent.append((data, own)),
        )
        opener: Any = self
        self.link = Link(CONFIG, (GATEWAY, 500), ports, pump, opener)

    def open(self, local: IPAddress) -> Any:
        self.sockets.append(SimpleNamespace(local=(str(local), 40000 + len(self.sockets))))
        self.sockets[-1] = _Hashable(**vars(self.sockets[-1]))
        return self.sockets[-1]

    def close(self, socket: Any) -> None:
        self.sockets.remove(socket)


class _Hashable(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


WIFI, CABLE, GATEWAY = (ip_address(text) for text in ("192.0.2.10", "198.51.100.10", "203.0.113.7"))


def test_a_link_sends_from_its_own_socket_and_is_over_only_after_its_last_word() -> None:
    """K20: the DELETE of a login that was given up is repeated."""
    rig = Rig()
    rig.link.start()
    rig.link.send()
    assert rig.sent == [(b"first", rig.sockets[0])]
    rig.link.give_up()
    assert not rig.link.settled
    assert rig.link.next_event() == Closed()
    assert rig.link.settled
    assert not rig.link.done
    rig.now += 0.01
    rig.link.handle_timer(rig.now)
    assert rig.link.done
    assert rig.link.deadline is None


def test_what_is_closed_and_has_nothing_to_say_is_done() -> None:
    rig = Rig()
    rig.link.start()
    rig.link.close()
    rig.link.next_event()
    assert (rig.link.closed, rig.link.done) == (Closed(), True)


def test_a_link_that_is_abandoned_says_nothing_more() -> None:
    rig = Rig()
    rig.link.start()
    rig.ike.events.append(Notice(text="too late"))
    rig.link.abandon()
    rig.link.send()
    assert (rig.link.closed, rig.link.done, rig.link.deadline) == (Closed(), True, None)
    assert (rig.sent, rig.link.next_event()) == ([], None)


@pytest.mark.parametrize(("late", "missed", "deaf"), [(0.1, False, False), (0.1, True, True), (30.0, False, True)])
def test_a_late_timer_and_missed_datagrams_are_told(late: float, missed: bool, deaf: bool) -> None:
    """N27: silence proves nothing while the process was stopped or busy, or datagrams got lost on this side."""
    rig = Rig()
    rig.link.start()
    rig.missed = missed
    rig.link.handle_timer(rig.now + 4.9)
    assert rig.ike.deaf == []
    rig.link.handle_timer(rig.now + 5 + late)
    assert rig.ike.deaf == [deaf]
    assert LATE > 0.1


def test_esp_is_a_sign_of_life_of_the_link_that_is_up_before_its_timer_decides() -> None:
    for established in (False, True):
        rig = Rig()
        rig.link.start()
        if established:
            rig.link.establish()
        rig.link.handle_timer(rig.now + 5)
        assert rig.ike.heard_at == ([123.0] if established else [])


def test_what_only_a_person_could_answer_is_refused_at_once() -> None:
    """G1: a gateway that wants another one-time password would be waited for until the attempt is out of time."""
    rig = Rig()
    need = Need(kind=NeedKind.PASSWORD, request="the gateway says: Token")
    rig.ike.events.append(need)
    rig.link.next_event()
    ((refused, error),) = rig.ike.refused
    assert refused is need
    assert (error.message, error.reason) == ("the gateway asks for a credential", "the gateway says: Token")
    rig.link.next_event()
    assert rig.link.closed == Closed(error=error)


def test_the_answer_of_a_person_goes_to_ike() -> None:
    rig = Rig()
    need = Need(kind=NeedKind.PASSWORD, request="the gateway says: Token")
    rig.link.answer(need, "4711")
    assert rig.ike.supplied == [(need, "4711")]
    rig.link.answer(need, UsageError("nobody answered"))
    assert [error.message for _, error in rig.ike.refused] == ["nobody answered"]


def test_the_socket_of_a_path_that_was_left_receives_a_moment_longer_unless_it_comes_back_into_use() -> None:
    rig = Rig()
    first = rig.link.path
    rig.link.move(CABLE, GATEWAY)
    [(moved, proven)] = rig.ike.moves
    assert (moved.local_address, proven) == (CABLE, True)
    rig.link.follow(moved)
    assert rig.link.deadline == rig.now + PATH_GRACE
    rig.link.handle_timer(rig.now + PATH_GRACE - 0.1)
    assert rig.link.owns((str(WIFI), 40000))
    rig.link.follow(first)
    rig.link.handle_timer(rig.now + PATH_GRACE)
    assert [socket.local[0] for socket in rig.sockets] == [str(WIFI)]
    assert rig.link.deadline is None


def test_traffic_stays_on_the_path_in_use_until_the_gateway_has_answered_on_another() -> None:
    """S19"""
    rig = Rig()
    here = rig.link.path
    assert rig.link.move(WIFI, ip_address("203.0.113.8"), proven=False)
    assert rig.link.path == here
    assert len(rig.sockets) == 1, "the same address of ours needs no other socket"
    rig.ike.can_move = False
    assert not rig.link.move(CABLE, GATEWAY)
