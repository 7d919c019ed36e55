"""The life of connections: both ends at once, the end in every form, floods, and what is left of them."""

from __future__ import annotations

import gc
import tracemalloc
from struct import pack

import pytest
from stack_link import PORT, V4, V6, Path, User, World, connected, listen, start
from stack_rig import IRS, PEER, US, Rig

from ikeclient.stack.interfaces import LONGEST_PACKET, CloseReason, Inbound
from ikeclient.stack.tcp.listener import BACKLOG
from ikeclient.stack.tcp.options import of_segment, of_syn
from ikeclient.stack.tcp.segment import ACK, FIN, RST, SYN
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.state import State

STAMPED = of_syn(1460, 8, True, (1000, 0))


def test_both_ends_open_at_the_same_time() -> None:
    """RFC 9293 figure 7."""
    rig = Rig()
    rig.connect()
    (answer,) = rig.put(SYN, sequence=IRS, options=STAMPED)
    assert (answer.flags, rig.state) == (SYN | ACK, State.SYN_RECEIVED)
    rig.put(SYN | ACK, sequence=IRS, options=of_syn(1460, 8, True, (1001, 0)))
    assert rig.state is State.ESTABLISHED
    assert rig.heard == ["open"]


def test_two_of_ours_open_to_each_other_at_the_same_time() -> None:
    world = World()
    users = User(b"from a"), User(b"from b")
    ports = 5000, 6000
    for host, user, own, other in ((world.a, users[0], *ports), (world.b, users[1], *reversed(ports))):
        key = host.peer.address + host.address + pack(">HH", other, own)
        connection = host.tcp._make(key, world.now, passive=False)
        user.connection = connection
        connection.begin(user)
    assert world.run(10, lambda: all(user.reason is CloseReason.CLOSED for user in users))
    assert [bytes(user.got) for user in users] == [b"from b", b"from a"]


def test_both_ends_close_at_the_same_time() -> None:
    """RFC 9293 figure 13."""
    world = World()
    users = User(shut=False), User(shut=False)
    connected(world, *users)
    for user in users:
        assert user.connection is not None
        user.connection.shutdown()
    assert world.run(5, lambda: all(user.reason is CloseReason.CLOSED for user in users))
    assert len(world.a.tcp._waiting) == len(world.b.tcp._waiting) == 1


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_one_half_goes_on_after_the_other_has_ended(addresses: tuple[bytes, bytes]) -> None:
    world = World(addresses=addresses)
    client, server = User(b"request"), User(shut=False)
    connected(world, client, server)
    assert world.run(1, lambda: server.ended)
    assert server.connection is not None
    server.to_send, server.shut = bytes(500_000), True
    server.push()
    assert world.run(10, lambda: client.reason is server.reason is CloseReason.CLOSED)
    assert client.got == bytes(500_000)


def test_a_port_nobody_listens_on_refuses() -> None:
    world = World()
    client = User()
    start(world, client)
    assert world.run(1, lambda: client.reason is not None)
    assert client.reason is CloseReason.REFUSED


def test_what_nobody_wants_is_reset() -> None:
    rig = Rig()
    rig.accepts = False
    rig.receive_syn()
    (out,) = rig.put(ACK)
    assert out.flags & RST
    assert rig.heard == []
    assert rig.state is State.LISTEN


def test_closing_with_unread_data_or_before_more_comes_resets() -> None:
    """RFC 9293 section 3.6.1."""
    rig = Rig()
    rig.establish()
    rig.takes = False
    rig.put(ACK, data=b"unread")
    assert rig.connection is not None
    rig.connection.close()
    (out,) = rig.out()
    assert (out.flags, out.sequence) == (RST | ACK, rig.iss + 1 & MASK)
    rig = Rig()
    rig.establish()
    assert rig.connection is not None
    rig.connection.close()
    assert [sent.flags & FIN for sent in rig.out()] == [FIN]
    rig.sent += 1
    out = rig.put(ACK, data=b"more")[0]
    assert out.flags & RST
    assert rig.tcp.count == 0


def test_the_peer_of_a_connection_that_was_left_has_a_minute_for_its_fin() -> None:
    rig = Rig()
    rig.establish()
    assert rig.connection is not None
    rig.connection.close()
    rig.out()
    rig.sent += 1
    rig.put(ACK)
    assert rig.state is State.FIN_WAIT_2
    rig.wait(50)
    assert rig.tcp.count == 1
    out = rig.wait(20)
    assert out[-1].flags & RST
    assert rig.tcp.count == 0


def test_abort_tells_the_peer_and_nobody_else() -> None:
    rig = Rig()
    rig.establish()
    assert rig.connection is not None
    rig.connection.send(b"never sent")
    rig.connection.abort()
    assert [out.flags for out in rig.out()] == [RST | ACK]
    assert rig.heard == ["open"]
    assert rig.connection.send(b"more") == 0
    rig = Rig()
    rig.connect()
    assert rig.connection is not None
    rig.connection.abort()
    assert rig.out() == []
    assert rig.tcp.count == 0


def test_time_wait_ends_and_answers_until_then() -> None:
    rig = Rig()
    rig.enter(State.TIME_WAIT)
    assert rig.heard == ["open", "end", "closed"]
    (ack,) = rig.put(FIN | ACK, sequence=IRS + rig.got)
    assert ack.flags == ACK
    rig.now += 61
    rig.tcp.expire(rig.now)
    assert rig.state is State.CLOSED


def test_a_new_connection_may_follow_in_time_wait() -> None:
    """RFC 6191: a later timestamp, and a listener."""
    rig = Rig()
    rig.receive_syn(STAMPED)
    stamp = of_segment((1001, 0), [])
    rig.put(ACK, options=stamp)
    rig.shut_down()
    rig.put(ACK, options=stamp)
    rig.put(FIN | ACK, options=stamp)
    assert rig.state is State.TIME_WAIT
    old = of_syn(1460, 8, True, (1000, 0))
    assert [out.flags for out in rig.put(SYN, sequence=IRS + 1_000_000, options=old)] == [ACK]
    rig.now += 1
    new = of_syn(1460, 8, True, (5000, 0))
    assert [out.flags for out in rig.put(SYN, sequence=IRS + 1_000_000, options=new)] == [SYN | ACK]
    assert rig.state is State.SYN_RECEIVED


def test_time_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ikeclient.stack.tcp.table.MOST_WAITING", 300)
    rig = Rig()
    rig.listen()
    for number in range(500):
        rig.flow = PEER + US + pack(">HH", 1000 + number, 443)
        (answer,) = rig.put(SYN, sequence=IRS)
        rig.iss = answer.sequence
        rig.put(ACK)
        assert rig.connection is not None
        rig.connection.shutdown()
        rig.out()
        rig.put(FIN | ACK, acknowledgment=rig.iss + 2)
    assert len(rig.tcp._waiting) == 300
    assert rig.tcp.count == 0


def test_a_flood_of_syns_is_bounded_and_others_still_connect() -> None:
    rig = Rig()
    rig.listen()
    for number in range(5000):
        rig.flow = bytes((10, 9, number >> 8, number & 255)) + US + pack(">HH", 1000 + number, 443)
        text = pack(">IIHHHH", IRS, 0, 5 << 12 | SYN, 1000, 0, 0)
        inbound_put(rig, rig.flow[-4:] + text)
    assert rig.tcp.count <= BACKLOG
    assert rig.listener is not None
    assert rig.listener.half_open <= BACKLOG
    drain(rig)
    rig.flow = PEER + US + pack(">HH", 50000, 443)
    (answer,) = rig.put(SYN, sequence=IRS)
    rig.iss = answer.sequence
    rig.put(ACK)
    assert rig.heard == ["open"]
    while (deadline := rig.tcp.deadline()) is not None:
        rig.now = max(rig.now, deadline)
        rig.tcp.expire(rig.now)
        drain(rig)
    assert rig.tcp.count == 1


def drain(rig: Rig) -> None:
    """Let everything leave that wants to, to wherever."""
    while rig.queue:
        source = rig.queue.popleft()
        if source.fill(rig.frame, rig.now) and source.queued:
            rig.queue.append(source)


def inbound_put(rig: Rig, segment: bytes) -> None:
    inbound = Inbound()
    inbound.fill(rig.flow, memoryview(segment), 0, 0)
    rig.tcp.deliver(inbound, rig.now)


def test_a_flood_outside_of_every_connection_gets_few_answers() -> None:
    rig = Rig()
    rig.enter(State.CLOSED)
    for number in range(5000):
        inbound_put(rig, rig.flow[-4:] + pack(">IIHHHH", number, 5, 5 << 12 | ACK, 1000, 0, 0))
    assert len(rig.out(10_000)) <= 64


def test_a_flood_outside_of_the_window_gets_few_answers() -> None:
    """RFC 5961 section 7."""
    rig = Rig()
    rig.establish()
    rig.now += 10
    answers = 0
    for number in range(1000):
        answers += len(
            rig.put((RST, SYN, ACK)[number % 3], sequence=IRS + 1 + rig.got + 1000, acknowledgment=rig.iss - 99)
        )
    assert answers <= 1
    assert rig.state is State.ESTABLISHED


def test_a_dead_peer_is_noticed_by_keepalive_and_a_living_one_kept() -> None:
    """RFC 9293 section 3.8.4."""
    rig = Rig()
    rig.establish()
    assert rig.connection is not None
    rig.connection.keep_alive(60)
    for _ in range(5):
        probes = rig.wait(61)
        assert len(probes) == 1
        assert probes[0].sequence == rig.iss & MASK
        rig.put(ACK)
    out = rig.wait(60 * 12)
    assert rig.heard == ["open", "timed_out"]
    assert len(out) == 10  # nine probes, and a RST


def test_an_address_that_is_gone_takes_its_connections_along() -> None:
    rig = Rig()
    rig.establish()
    rig.tcp.forget(PEER)
    assert rig.state is State.ESTABLISHED
    rig.tcp.forget(US)
    assert rig.heard == ["open", "address_lost"]
    assert rig.out() == []


def test_a_port_can_be_listened_on_once_and_again_after_it_was_closed() -> None:
    rig = Rig()
    rig.receive_syn()
    with pytest.raises(OSError, match="443 is in use"):
        rig.tcp.listen(443, lambda _: None)
    assert rig.listener is not None
    rig.listener.close()
    assert [out.flags & RST for out in rig.out()] == [RST]
    assert rig.put(SYN, sequence=IRS)[0].flags == RST | ACK
    rig.tcp.listen(443, lambda _: None).close()
    rig.tcp.listen(443, lambda _: None, US)


def test_a_smaller_mtu_that_the_host_learns_of_counts_for_what_is_open() -> None:
    rig = Rig()
    rig.establish(of_syn(1460, 8, True, None))
    rig.longest = 1300
    rig.tcp.mtu_changed(rig.now)
    assert rig.connection is not None
    rig.connection.send(bytes(20_000))
    assert rig.out()[0].size == 1260


def test_a_thousand_connections_at_once_each_get_their_own() -> None:
    world = World(there=Path(loss=0.01), merge=0.001)
    clients = [User(b"%d" % number * 100) for number in range(1000)]
    servers: list[User] = []

    def accept(connection: object) -> User:
        server = User()
        server.connection = connection  # type: ignore[assignment]
        servers.append(server)
        return server

    world.b.tcp.listen(PORT, accept)
    for client in clients:
        start(world, client)
        world.run(0.0005)
    assert world.run(300, lambda: all(client.reason is CloseReason.CLOSED for client in clients))
    assert sorted(bytes(server.got) for server in servers) == sorted(client.to_send for client in clients)


def test_an_idle_connection_keeps_little() -> None:
    """8 KiB each is the target for all of it; TCP takes less than half."""
    rig = Rig()
    rig.listen()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(200):
        rig.flow = PEER + US + pack(">HH", 1000 + number, 443)
        (answer,) = rig.put(SYN, sequence=IRS, options=STAMPED)
        rig.iss = answer.sequence
        rig.put(ACK, data=bytes(1000), options=of_segment((1001, 0), []))
        assert rig.connection is not None
        rig.connection.send(bytes(1000))
        rig.out()
        rig.put(ACK, sequence=IRS + 1001, acknowledgment=rig.iss + 1001, options=of_segment((1002, 0), []))
    rig.data.clear()
    rig.wait(100)
    gc.collect()
    kept = (tracemalloc.get_traced_memory()[0] - before) / 200
    tracemalloc.stop()
    assert rig.tcp.count == 200
    assert kept < 4096


def test_a_transfer_that_one_way_silence_interrupts_goes_on() -> None:
    world = World(there=Path(silent=[(1000.05, 1004)]))
    client, server = User(bytes(2_000_000)), User()
    listen(world, server)
    start(world, client)
    assert world.run(60, lambda: server.reason is CloseReason.CLOSED)
    assert len(server.got) == 2_000_000


def test_a_connection_that_is_kept_alive_leaves_no_trail_of_timers() -> None:
    rig = Rig()
    rig.establish()
    assert rig.connection is not None
    rig.connection.keep_alive(7200)
    for _ in range(2000):
        rig.put(ACK, data=b"x")
        rig.got += 1
        rig.wait(0.05)
    assert len(rig.tcp._heap) < 100
    assert rig.state is State.ESTABLISHED


@pytest.mark.parametrize("mtu", [576, 60_000, 65_535])
def test_any_mtu_is_used(mtu: int) -> None:
    rig = Rig(mtu=mtu)
    rig.establish(of_syn(65_495, 8, True, None))
    assert rig.connection is not None
    rig.connection.send(bytes(200_000))
    out = rig.out()
    assert out[0].data
    assert all(len(sent.data) <= LONGEST_PACKET for sent in out)


def test_sequence_numbers_wrap_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ikeclient.stack.tcp.numbers.Numbers.sequence", lambda *_: MASK - 50_000)
    world = World(there=Path(loss=0.02, reorder=0.1), back=Path(loss=0.02), merge=0.0005)
    data = bytes(range(250)) * 800
    client, server = User(data), User(data[::-1])
    connected(world, client, server)
    assert world.run(60, lambda: client.reason is server.reason is CloseReason.CLOSED)
    assert (server.got, client.got) == (data, data[::-1])


def test_a_user_that_closes_while_it_hears_of_data_hears_no_more() -> None:
    """What came behind a gap follows at once, and nobody is there to read it."""
    rig = Rig()
    rig.establish(of_syn(1460, 8, True, None))
    rig.put(ACK, sequence=IRS + 3, data=b"behind")

    def hear(data: memoryview) -> int:
        rig.data += data
        assert rig.connection is not None
        rig.connection.close()
        return len(data)

    rig.on_data = hear  # type: ignore[method-assign]
    out = rig.put(ACK, data=b"in")
    assert rig.data == b"in"
    assert out[-1].flags & RST
    assert rig.tcp.count == 0


def test_a_user_may_abort_from_anything_it_hears() -> None:
    for hears in ("on_open", "on_data", "on_end", "on_writable"):
        rig = Rig()

        def end(*_: object, rig: Rig = rig) -> int:
            assert rig.connection is not None
            rig.connection.abort()
            return 0

        setattr(rig, hears, end)
        rig.connect()
        rig.put(SYN | ACK, sequence=IRS)
        assert rig.connection is not None
        while rig.connection.send(bytes(100_000)):
            pass
        for position in range(0, 300_000, 10_000):
            rig.out()
            rig.put(ACK, acknowledgment=min(rig.iss + 1 + position, rig.connection._sender.nxt))
        rig.put(FIN | ACK, data=b"data", acknowledgment=rig.connection._sender.una)
        rig.out()
        assert rig.tcp.count == 0, hears
        rig.wait(100)
        assert rig.out() == []
