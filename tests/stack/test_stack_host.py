"""Two hosts that face each other, and what strangers send to one."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from random import Random
from struct import pack

import pytest
from esp_packets import ipv4, ipv6, ones_complement_sum

from ikeclient.stack.device import StackDevice
from ikeclient.stack.host import Host, NoRoute
from ikeclient.stack.interfaces import CloseReason, Stream
from ikeclient.stack.ip.header import DONT_FRAGMENT, FRAGMENT, TCP, UDP, header, packed, transport_checksum
from ikeclient.stack.ip.icmp import Kind, echo
from ikeclient.stack.ping import PingResult
from ikeclient.stack.tcp.connection import Connection

OURS4, OURS6, THEIRS4, THEIRS6 = "10.88.0.1", "fd88::1", "10.99.0.7", "fd99::7"
OURS, THEIRS = packed(OURS4), packed(THEIRS4)
NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
FAMILIES = pytest.mark.parametrize(("ours", "theirs"), [(OURS4, THEIRS4), (OURS6, THEIRS6)])


class Log:
    """A handler that keeps what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.said: list[object] = []

    def on_open(self) -> None:
        self.said.append("open")

    def on_data(self, data: memoryview) -> int:
        self.data += data
        return len(data)

    def on_end(self) -> None:
        self.said.append("end")

    def on_writable(self) -> None:
        self.said.append("writable")

    def on_closed(self, reason: CloseReason) -> None:
        self.said.append(reason)


class Pair:
    """Our host and the other one, at the time `now`; whole packets go between them, unless `keep` takes one away."""

    def __init__(self, mtu: int = 1400) -> None:
        self.now = 100.0
        self.ours, self.theirs = Host(Random(1).randbytes), Host(Random(2).randbytes)
        for host, addresses in ((self.ours, (OURS4, OURS6)), (self.theirs, (THEIRS4, THEIRS6))):
            host.configure([ip_address(a).packed for a in addresses], NETWORKS, mtu, self.now)
        self._devices = [StackDevice(host, lambda: self.now) for host in (self.ours, self.theirs)]
        self.keep: Callable[[bytes], bool] = lambda _: False

    def run(self) -> None:
        """Until nothing wants to leave."""
        left, right = self._devices
        while left.waiting or right.waiting:
            for one, other in ((left, right), (right, left)):
                packets = [packet for packet in one.read_batch(64) if not self.keep(bytes(packet))]
                other.write_batch(packets)

    def pass_time(self, seconds: float) -> None:
        """Let timers ring meanwhile."""
        end = self.now + seconds
        while True:
            self.run()
            times = [time for host in (self.ours, self.theirs) if (time := host.deadline()) is not None]
            if not times or min(times) > end:
                break
            self.now = max(self.now, min(times))
            for host in (self.ours, self.theirs):
                host.expire(self.now)
        self.now = end

    def connected(self, port: int = 80) -> tuple[Connection, Log, Log]:
        """A connection of ours, our handler and theirs."""
        theirs, ours = Log(), Log()
        self.theirs.tcp.listen(port, lambda _: theirs)
        connection = self.ours.connect(packed(THEIRS4), port, ours, self.now)
        self.run()
        assert ours.said == ["open"]
        assert isinstance(connection, Connection)
        return connection, ours, theirs


@FAMILIES
def test_a_connection_carries_bytes_between_two_hosts(ours: str, theirs: str) -> None:
    pair, accepted, log = Pair(), Log(), Log()
    pair.theirs.tcp.listen(80, lambda _: accepted)
    connection = pair.ours.connect(packed(theirs), 80, log, pair.now)
    assert connection.local[0] == packed(ours)
    pair.run()
    data = Random(3).randbytes(200_000)
    assert connection.send(data) == len(data)
    pair.pass_time(5)
    assert accepted.data == data
    connection.close()
    pair.pass_time(1)
    assert accepted.said == ["open", "end"] or accepted.said == ["end"]


@FAMILIES
def test_a_frame_that_is_not_what_it_seems_is_looked_at(ours: str, theirs: str) -> None:
    """Segments of a connection go a short way, which asks for a plain header; nothing else may slip through it."""
    pair, there, log = Pair(), Log(), Log()
    streams: list[Stream] = []
    pair.theirs.tcp.listen(80, lambda stream: streams.append(stream) or there)
    pair.ours.connect(packed(theirs), 80, log, pair.now)
    pair.run()
    streams[0].send(b"x" * 5000)
    buffer = memoryview(bytearray(70_000))
    frame = bytes(buffer[: pair.theirs.read_frame(buffer, pair.now)])
    four = len(packed(ours)) == 4
    length_at = 12 if four else 14

    def changed(at: int, value: int) -> bytes:
        return frame[:at] + bytes((value,)) + frame[at + 1 :]

    longer = changed(length_at + 1, frame[length_at + 1] + 1)
    unchecked = bytes((0, 0)) + frame[2:]  # the checksum is not complete
    version, stranger = changed(10, 0x55), changed(22 if four else 18, 0xFF)
    fragment = changed(16, 0x20) if four else changed(16, FRAGMENT)
    for wrong in (longer, unchecked, version, stranger, fragment, frame[:40], frame[:11]):
        pair.ours.write_frame(wrong, pair.now)
        assert not log.data
    pair.ours.write_frame(frame, pair.now)
    assert log.data == b"x" * 5000


@FAMILIES
def test_datagrams_pings_and_errors_between_two_hosts(ours: str, theirs: str) -> None:
    pair = Pair()
    here, there = pair.ours.open_udp(), pair.theirs.open_udp(53)
    for size in (0, 100, 1400, 20_000):
        here.send(bytes(size), (packed(theirs), 53))
        pair.run()
        assert there.receive() == (bytes(size), (packed(ours), here.port))
    errors: list[Kind] = []
    here.listen(lambda: None, lambda kind, _: errors.append(kind))
    here.send(b"", (packed(theirs), 54))
    results: list[PingResult] = []
    for size in (0, 56, 1400, 9000):
        assert pair.ours.ping(packed(theirs), 2.0, results.append, pair.now, size=size)
    pair.run()
    assert errors == [Kind.PORT_UNREACHABLE]
    assert results == [PingResult(round_trip=0.0)] * 4
    pair.keep = lambda _: True
    pair.ours.ping(packed(theirs), 2.0, results.append, pair.now)
    pair.pass_time(3)
    assert results[-1] == PingResult()
    assert pair.ours.deadline() is None


def test_when_the_tunnel_carries_less_what_is_under_way_leaves_again_in_shorter_segments() -> None:
    """Without waiting for a timeout, or for somebody to say so."""
    pair = Pair(mtu=1400)
    server, client = Log(), Log()
    pair.theirs.tcp.listen(80, lambda _: server)
    stream = pair.ours.connect(THEIRS, 80, client, pair.now)
    pair.run()
    pair.keep = lambda packet: len(packet) > 1300  # from now on
    stream.send(bytes(range(256)) * 40)
    pair.run()
    assert not server.data
    pair.ours.configure([OURS, packed(OURS6)], NETWORKS, 1300, pair.now)
    pair.run()
    assert server.data == bytes(range(256)) * 40


def test_where_the_tunnel_does_not_lead_nothing_is_tried() -> None:
    host = Host(Random(4).randbytes)
    with pytest.raises(NoRoute) as caught:
        host.connect(THEIRS, 80, Log(), 0.0)
    assert caught.value.reason == "the tunnel has no IPv4 address"
    host.configure([OURS], [ip_network("10.99.0.0/24")], 1400, 0.0)
    for remote, reason in (("10.98.0.1", "does not lead there"), (OURS4, "our own"), (THEIRS6, "no IPv6 address")):
        with pytest.raises(NoRoute) as caught:
            host.open_udp(peer=(packed(remote), 53))
        assert caught.value.reason is not None
        assert reason in caught.value.reason
    assert host.ping(THEIRS, 1.0, lambda _: None, 0.0)


def test_an_address_that_goes_ends_its_connections_and_no_others() -> None:
    pair = Pair()
    _, log, _ = pair.connected()
    six = Log()
    pair.theirs.tcp.listen(81, lambda _: Log())
    pair.ours.connect(packed(THEIRS6), 81, six, pair.now)
    pair.run()
    pair.ours.configure([packed("10.88.0.9"), packed(OURS6)], NETWORKS, 1400, pair.now)
    assert (log.said, six.said) == (["open", CloseReason.ADDRESS_LOST], ["open"])
    assert pair.ours.connect(THEIRS, 80, Log(), pair.now).local[0] == packed("10.88.0.9")


# What strangers send


def tcp_error(kind: int, code: int, mtu: int, connection: Connection, sequence: int, length: int = 1400) -> bytes:
    """An ICMP error about a segment of the connection."""
    (local, port), (remote, to) = connection.local, connection.remote
    quoted = header(local, remote, TCP, length - 20, flags=DONT_FRAGMENT) + pack(">HHI", port, to, sequence)
    message = pack(">BBHHH", kind, code, 0, 0, mtu) + quoted
    check = ones_complement_sum(message) ^ 0xFFFF
    return ipv4(message[:2] + check.to_bytes(2, "big") + message[4:], protocol=1, source="10.99.0.1")


def sequence_of(packet: bytes) -> int:
    return int.from_bytes(packet[24:28], "big")


def test_an_error_about_a_size_counts_if_it_quotes_what_is_under_way() -> None:
    """RFC 5927 section 7, RFC 8201 section 4, N24: nobody who only guesses makes packets small."""
    pair = Pair()
    connection, _, theirs = pair.connected()
    lost: list[bytes] = []
    pair.keep = lambda packet: len(packet) > 1000 and not lost.append(packet)
    data = Random(5).randbytes(20_000)
    connection.send(data)
    pair.run()
    first = sequence_of(lost[0])
    guesses = ((first + 0x40000000, 1300), (first - 1, 1300), (first, 68), (first, 575), (first, 1400), (first, 0))
    for sequence, mtu in guesses:
        pair.ours.write_packet(tcp_error(3, 4, mtu, connection, sequence & 0xFFFFFFFF), pair.now)
        assert pair.ours.mtu(THEIRS) == 1400
    pair.ours.write_packet(tcp_error(3, 4, 1300, connection, first), pair.now)
    assert pair.ours.mtu(THEIRS) == 1300
    pair.keep = lambda packet: len(packet) > 1300
    pair.pass_time(2)
    assert theirs.data == data


@pytest.mark.parametrize("code", [0, 1, 2, 3, 9, 10, 13])
def test_an_unreachable_destination_fails_what_is_being_opened_and_nothing_else(code: int) -> None:
    """RFC 5461: a connection that is open lives through it; S3: so does one that the error does not quote."""
    pair = Pair()
    opened, log, _ = pair.connected()
    syns: list[bytes] = []
    pair.keep = lambda packet: bool(packet[33] & 2) and not syns.append(packet)
    waiting = Log()
    connection = pair.ours.connect(THEIRS, 81, waiting, pair.now)
    assert isinstance(connection, Connection)
    pair.run()
    for sequence in (sequence_of(syns[0]) + 1, sequence_of(syns[0]) ^ 1 << 31):
        pair.ours.write_packet(tcp_error(3, code, 0, connection, sequence & 0xFFFFFFFF), pair.now)
    assert waiting.said == []
    pair.ours.write_packet(tcp_error(3, code, 0, connection, sequence_of(syns[0])), pair.now)
    assert waiting.said == [CloseReason.UNREACHABLE]
    opened.send(b"data")
    pair.ours.write_packet(tcp_error(3, code, 0, opened, 0), pair.now)
    pair.run()
    assert log.said == ["open"]


def test_what_is_damaged_or_for_somebody_else_is_dropped_and_counted() -> None:
    """P10 for inner packets: nothing with a wrong checksum is taken."""
    pair = Pair()
    there = pair.ours.open_udp(53)
    segment = pack(">HHHH", 9, 53, 12, 0) + b"data"
    check = transport_checksum(THEIRS, OURS, UDP, segment) or 0xFFFF
    right = segment[:6] + check.to_bytes(2, "big") + segment[8:]
    for bit in range(len(right) * 8):
        wrong = bytearray(right)
        wrong[bit // 8] ^= 1 << bit % 8
        if wrong[6:8] != b"\0\0":  # no checksum at all is one that is right (RFC 768)
            pair.ours.write_packet(ipv4(bytes(wrong), source=THEIRS4, destination=OURS4), pair.now)
    assert there.receive() is None
    counted = pair.ours.counters.malformed
    assert counted >= len(right) * 8 - 16
    pair.ours.write_packet(ipv4(right, source=THEIRS4, destination="10.88.0.2"), pair.now)
    pair.ours.write_packet(ipv4(right, source=THEIRS4, destination="224.0.0.1"), pair.now)
    assert (pair.ours.counters.malformed, pair.ours.counters.foreign) == (counted, 2)
    pair.ours.write_packet(ipv6(segment, source=THEIRS6, destination=OURS6), pair.now)  # RFC 8200 section 8.1
    assert there.receive() is None
    pair.ours.write_packet(ipv4(segment, source=THEIRS4, destination=OURS4), pair.now)
    assert there.receive() == (b"data", (THEIRS, 9))


def test_a_packet_in_fragments_is_read_as_a_whole_one() -> None:
    """RFC 8200 section 4.5: extension headers may follow the fragment header. Nothing is too long or nested."""
    pair = Pair()
    there = pair.ours.open_udp(53)
    segment = pack(">HHHH", 9, 53, 1008, 0) + bytes(1000)
    check = transport_checksum(packed(THEIRS6), packed(OURS6), UDP, segment)
    padding = bytes((UDP, 0, 1, 4, 0, 0, 0, 0))
    chain = padding + segment[:6] + check.to_bytes(2, "big") + segment[8:]

    def put(data: bytes, protocol: int) -> None:
        for at in (512, 0):
            head = pack(">BxHI", protocol, at | (not at), 7)
            part = ipv6(head + data[at : at + 512 or None], source=THEIRS6, destination=OURS6, next_header=FRAGMENT)
            pair.ours.write_packet(part, pair.now)

    put(chain, 60)
    assert there.receive() == (bytes(1000), (packed(THEIRS6), 9))
    put(pack(">BxHI", UDP, 1, 8) + bytes(1000), FRAGMENT)
    assert pair.ours.counters.malformed == 1
    for at, size in ((0, 65_504), (65_504, 24)):  # together more than any packet has
        place = at >> 3 | (0 if at else 0x2000)
        pair.ours.write_packet(ipv4(bytes(size), source=THEIRS4, destination=OURS4, flags_offset=place), pair.now)
    assert pair.ours.counters.malformed == 2


def test_errors_of_ours_are_rationed() -> None:
    """RFC 4443 section 2.4 (f), RFC 1812 section 4.3.2.8."""
    pair = Pair()
    answers: list[bytes] = []
    pair.keep = lambda packet: not answers.append(packet)
    segment = pack(">HHHH", 9, 54, 8, 0)
    for _ in range(5):
        for _ in range(1000):
            pair.ours.write_packet(ipv4(segment, source=THEIRS4, destination=OURS4), pair.now)
            pair.ours.write_packet(ipv4(b"x" * 20, source=THEIRS4, destination=OURS4, protocol=132), pair.now)
            pair.run()
        pair.now += 1
    assert 100 <= len(answers) <= 500


def syn(random: Random, port: int) -> bytes:
    source = f"10.{random.randrange(256)}.{random.randrange(256)}.{1 + random.randrange(254)}"
    head = pack(">HHIIBBHHH", random.randrange(1024, 65536), port, random.getrandbits(32), 0, 0x50, 2, 65535, 0, 0)
    check = transport_checksum(packed(source), OURS, TCP, head)
    return ipv4(head[:16] + check.to_bytes(2, "big") + head[18:], source=source, destination=OURS4, protocol=TCP)


def test_floods_take_a_bounded_room_and_leave_others_working() -> None:
    """SYNs to a listener and to closed ports, echo requests, fragments: all from everywhere."""
    pair, random = Pair(), Random(6)
    accepted: list[Log] = []

    def accept(_: Connection) -> Log:
        accepted.append(Log())
        return accepted[-1]

    pair.ours.tcp.listen(22, accept)
    connection, log, theirs = pair.connected()
    request = echo(THEIRS, OURS, identifier=1, sequence=1, data=bytes(1000))
    for number in range(3000):
        pair.ours.write_packet(syn(random, 22), pair.now)
        pair.ours.write_packet(syn(random, 23), pair.now)
        pair.ours.write_packet(request, pair.now)
        part = ipv4(bytes(1024), source=f"10.1.{number % 200}.9", destination=OURS4, flags_offset=0x2000 | number % 900)
        pair.ours.write_packet(part[:4] + random.randbytes(2) + part[6:], pair.now)
    assert pair.ours.tcp.count <= 300
    frame, answers = memoryview(bytearray(65545)), 0
    while pair.ours.read_frame(frame, pair.now):
        answers += 1
    assert answers < 1000
    pair.theirs.connect(OURS, 22, new := Log(), pair.now)
    connection.send(b"still here")
    pair.pass_time(1)
    assert theirs.data == b"still here"
    assert new.said == ["open"]
    assert (log.said, len(accepted)) == (["open"], 1)
    pair.pass_time(600)
    assert pair.ours.tcp.count <= 2
    assert pair.ours._fragments._bytes == 0


def test_nobody_waits_for_a_host_that_has_nothing_to_do() -> None:
    pair = Pair()
    assert (pair.ours.waiting, pair.ours.deadline()) == (False, None)
    connection, _, _ = pair.connected()
    pair.pass_time(10)
    assert (pair.ours.waiting, pair.ours.deadline()) == (False, None)
    connection.abort()
    assert pair.ours.waiting
