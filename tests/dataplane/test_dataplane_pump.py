from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from struct import pack

import offload_packets as packets
import pytest
from fake_transport import GATEWAY, LOCAL, FakeSocket, FakeTun, FrameTun, QueueTun, RunSocket
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.children import MARKS_IGNORED
from ikeclient.dataplane.cipher import VARIABLE, choose_cipher
from ikeclient.dataplane.interfaces import PumpCounters
from ikeclient.dataplane.not_esp import IKE_BUDGET
from ikeclient.dataplane.pump import Address, Pump, PumpCallbacks
from ikeclient.dataplane.reception import DEAFNESS
from ikeclient.dataplane.sender import KEEPALIVE, NON_ESP_MARKER
from ikeclient.esp.codec import plain as offload_plain
from ikeclient.esp.codec import run_cipher
from ikeclient.esp.packet.ecn import MEANINGLESS_AFTER
from ikeclient.esp.sa.pair import SaPair
from ikeclient.esp.sa.selectors import Selector
from ikeclient.net.transport.recvmmsg import SLOTS, Arrival, Recvmmsg
from ikeclient.net.transport.udp import UdpSocket

SUITE = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None)
VIP4, HOST4, VIP6, HOST6 = "10.88.0.1", "10.99.0.7", "fd88::1", "fd99::7"
IKE = bytes(range(1, 41))


LANES: dict[str, tuple[type[FakeTun], type[FakeSocket]]] = {
    "ordinary": (FakeTun, FakeSocket),
    "fast": (FrameTun, RunSocket),
    "alone": (FrameTun, RunSocket),
    "queue": (QueueTun, RunSocket),
    "compiled": (QueueTun, RunSocket),
}
_lane = "ordinary"


@pytest.fixture(params=LANES, autouse=True, scope="module")
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of this file is run on both paths of the pump, with the first packet alone as the loop does it, and
    with the compiled module's ciphers.
    """
    global _lane
    _lane = request.param
    if _lane == "compiled":
        choose_cipher({})
        if run_cipher.version() is None:
            pytest.skip("there is no compiled module, or no OpenSSL to be opened; NOTHING was tried")
    else:
        run_cipher.load(())
    yield _lane
    run_cipher.load(())


class Rig:
    """A pump between fakes, with a clock that a test moves."""

    def __init__(self, **options: bool | int) -> None:
        self.time = 1000.0
        device, socket = LANES[_lane]
        self.tun, self.socket = device(), socket()
        self.ike: list[tuple[bytes, tuple[str, int], tuple[str, int]]] = []
        self.due = True  # whether IKE messages are
        self.warnings: list[str] = []
        self.lost = 0
        self.paced = 0
        self.pump = Pump(
            self.tun,
            PumpCallbacks(
                on_ike=lambda *message: self.take_ike(*message),
                on_device_lost=self._count_loss,
                warn=self.warnings.append,
            ),
            lambda: self.time,
            entropy=os.urandom,
            pace=self._count_pace,
            **options,
        )
        self.take_ike: Callable[[bytes, Address, Address], bool] = self._take_ike
        self.pump.attach(self.socket)
        self.pump.set_remote(GATEWAY)

    def _take_ike(self, data: bytes, source: tuple[str, int], local: tuple[str, int]) -> bool:
        self.ike.append((data, source, local))
        return self.due

    def _count_loss(self) -> None:
        self.lost += 1

    def _count_pace(self) -> None:
        self.paced += 1

    def send(self, *packets: bytes) -> list[bytes]:
        """Put packets into the TUN device; what the socket then sent."""
        self.tun.waiting += packets
        before = len(self.socket.sent)
        self._drain(self.pump.drain_tun)
        return [payload for payload, _ in self.socket.sent[before:]]

    def receive(self, *datagrams: bytes, source: tuple[str, int] = GATEWAY) -> list[bytes]:
        """Let datagrams arrive; what then was written to the TUN device."""
        self.socket.arrives(*datagrams, source=source)
        before = len(self.tun.written)
        self._drain(partial(self.pump.drain_udp, self.socket))
        return self.tun.written[before:]

    def _drain(self, drain: Callable[[bool], int]) -> None:
        if _lane != "alone" or drain(False):
            drain(True)


def keys(seed: int) -> DirectionKeys:
    return DirectionKeys(encryption=bytes([seed]) * 20, integrity=b"")


def selectors(*networks: str) -> tuple[Selector, ...]:
    found = map(ip_network, networks)
    return tuple(Selector(version=n.version, start=int(n.network_address), end=int(n.broadcast_address)) for n in found)


def child(
    spi_in: int = 0xC0000001,
    spi_out: int = 0xD0000001,
    *,
    local: tuple[str, ...] = (f"{VIP4}/32", f"{VIP6}/128"),
    remote: tuple[str, ...] = ("0.0.0.0/0", "::/0"),
    own: tuple[str, ...] = (),
    replaces: int | None = None,
    by_peer: bool = False,
) -> SaPair:
    return SaPair(
        spi_in=spi_in,
        spi_out=spi_out,
        suite=SUITE,
        keys_in=keys(spi_in & 0xFF),
        keys_out=keys(spi_out & 0xFF),
        local=selectors(*local),
        remote=selectors(*remote),
        own=tuple((ip_address(text).version, int(ip_address(text))) for text in own),
        replaces=replaces,
        by_peer=by_peer,
    )


def gateway_side(of: SaPair) -> SaPair:
    return SaPair(
        spi_in=of.spi_out,
        spi_out=of.spi_in,
        suite=of.suite,
        keys_in=of.keys_out,
        keys_out=of.keys_in,
        local=of.remote,
        remote=of.local,
    )


def ipv4(
    payload: bytes = b"", *, source: str = VIP4, destination: str = HOST4, protocol: int = 17, df: bool = True
) -> bytes:
    head = pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000 if df else 0, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + payload


def ipv6(payload: bytes = b"", *, source: str = VIP6, destination: str = HOST6) -> bytes:
    head = pack(">IHBB", 6 << 28, len(payload), 17, 64)
    return head + ip_address(source).packed + ip_address(destination).packed + payload


def back(payload: bytes = b"", **kwargs: str | int) -> bytes:
    return ipv4(payload, **{"source": HOST4, "destination": VIP4, **kwargs})


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.pump.install(child())
    return rig


@pytest.fixture
def gateway() -> Rig:
    """The other end of `rig`; its TUN device is the network behind the gateway."""
    gateway = Rig()
    gateway.pump.install(gateway_side(child()))
    return gateway


# Packets


def test_packets_cross_the_tunnel_in_both_directions(rig: Rig, gateway: Rig) -> None:
    out = [ipv4(bytes([n]) * n) for n in range(10)] + [ipv6(b"six")]
    assert gateway.receive(*rig.send(*out)) == out
    home = [back(bytes([n]) * n) for n in range(10)] + [ipv6(b"xis", source=HOST6, destination=VIP6)]
    assert rig.receive(*gateway.send(*home)) == home
    counters = rig.pump.child_counters(0xC0000001)
    assert counters.packets_out == counters.packets_in == 11
    assert counters.bytes_out == counters.bytes_in == sum(map(len, out))
    assert (counters.replays, counters.auth_failures, counters.selector_drops, counters.malformed) == (0, 0, 0, 0)


def test_totals_go_on_when_a_child_sa_is_removed(rig: Rig) -> None:
    rig.send(ipv4(), ipv4())
    before = rig.pump.totals()
    assert before == rig.pump.child_counters(0xC0000001)
    assert before.packets_out == 2
    rig.pump.remove(0xC0000001)
    rig.pump.remove(0xC0000001)
    assert rig.pump.totals() == before


def test_everything_goes_to_the_remote_end(rig: Rig) -> None:
    rig.send(ipv4())
    assert rig.socket.sent[-1][1] == GATEWAY
    rig.pump.set_remote(("198.51.100.9", 4501))
    rig.send(ipv4())
    assert rig.socket.sent[-1][1] == ("198.51.100.9", 4501)


def test_a_call_does_a_bounded_amount_of_work() -> None:
    """P14"""
    rig = Rig(batch=8)
    rig.pump.install(child())
    rig.tun.waiting += [ipv4()] * 20
    rig.socket.arrives(*[os.urandom(100 + n) for n in range(20)])
    assert [rig.pump.drain_tun() for _ in range(4)] == [8, 8, 4, 0]
    assert [rig.pump.drain_udp(rig.socket) for _ in range(4)] == [8, 8, 4, 0]


def test_a_flood_of_junk_only_counts(rig: Rig, gateway: Rig) -> None:
    """P14, P1: and genuine packets in the middle of it pass."""
    packet = back(b"genuine")
    junk = [b"\xd1" + os.urandom(99) for _ in range(30)]
    forged = [(0xC0000001).to_bytes(4, "big") + n.to_bytes(4, "big") + os.urandom(92) for n in range(1, 30)]
    assert rig.receive(*junk, *gateway.send(packet), *forged) == [packet]
    assert rig.pump.counters.unknown_spi == len(junk)
    counters = rig.pump.child_counters(0xC0000001)
    assert (counters.auth_failures, counters.replays) == (28, 1)


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(destination="192.0.2.99"),
        ipv4(source="192.168.1.1"),
        ipv6(),
        b"",
        b"\x45",
        ipv4()[:-1] + b"xx",
        bytes(range(60)),
    ],
)
def test_a_packet_that_no_sa_accepts_never_reaches_the_socket(packet: bytes) -> None:
    """P7: neither sealed nor, above all, in the clear."""
    rig = Rig()
    rig.pump.install(child(local=(f"{VIP4}/32",), remote=("10.99.0.0/24",)))
    assert rig.send(packet) == []
    assert rig.pump.table.unrouted == 1


def test_nothing_is_sent_without_an_sa_a_remote_end_or_a_socket() -> None:
    rig = Rig()
    assert rig.send(ipv4()) == []
    rig.pump.install(child())
    rig.pump.set_remote(None)
    assert rig.send(ipv4()) == []
    rig.pump.set_remote(("192.0.2.1", 500))
    assert rig.send(ipv4()) == []
    rig.pump.set_remote(GATEWAY)
    rig.pump.detach(rig.socket)
    assert rig.send(ipv4()) == []
    assert rig.pump.counters.no_path == 3
    assert rig.socket.sent == []


def test_a_gateway_that_claims_our_addresses_is_not_believed(gateway: Rig) -> None:
    """P7: the virtual address of the selectors, and those the caller names."""
    rig = Rig()
    rig.pump.install(child(local=("10.88.0.0/24",), own=("10.88.0.9",)))
    gateway.pump.remove(0xD0000001)
    gateway.pump.install(gateway_side(child(local=("10.88.0.0/24",))))
    sealed = gateway.send(back(source="10.88.0.9"), back(source="10.88.0.8"))
    assert rig.receive(*sealed) == [back(source="10.88.0.8")]
    assert rig.pump.child_counters(0xC0000001).selector_drops == 1


# The fast path


def tcp_segments(count: int, size: int = 1000, *, tos: int = 0) -> list[bytes]:
    return [
        packets.ip(
            packets.tcp(bytes([n]) * size, sequence=n * size, addresses=(HOST4, VIP4)),
            6,
            (HOST4, VIP4),
            id=n,
            tos=tos,
        )
        for n in range(count)
    ]


OUT4, OUT6 = (VIP4, HOST4), (VIP6, HOST6)


def ip_packet(tos: int, addresses: tuple[str, str]) -> bytes:
    """A datagram with that TOS octet and everything right."""
    return packets.ip(packets.udp(b"marked", addresses=addresses), 17, addresses, tos=tos)


def super_packet(size: int, payload: int, *, flags: int = 0x10, tos: int = 0) -> tuple[bytes, list[bytes]]:
    """A frame from the kernel, and the packets it stands for."""
    body = packets.tcp(bytes(payload), addresses=(VIP4, HOST4), partial=True, flags=flags)
    frame = packets.frame(packets.ip(body, 6, (VIP4, HOST4), tos=tos), kind=1, size=size, start=20, offset=16)
    count, length, last, _, _ = offload_plain.examine(frame, len(frame))
    out = bytearray(count * (length + 8))
    offload_plain.segment(frame, len(frame), out, 0, length + 8, 0, 0, 0, count)
    parts = [bytes(out[i * (length + 8) :][: length if i < count - 1 else last]) for i in range(count)]
    return frame, parts


class SuperTun(FrameTun):
    """Gives frames as they are, headers and all, and keeps what is written in one piece."""

    def read_into(self, buffers: Sequence[bytearray]) -> int:
        if not self.waiting:
            return 0
        frame = self.waiting.popleft()
        buffers[0][: len(frame)] = frame
        return len(frame)

    def write_frames(self, frames: Sequence[bytes | bytearray | memoryview]) -> int:
        self.written += map(bytes, frames)
        return len(frames)


def test_every_counter_of_dropped_packets_reaches_the_status(rig: Rig) -> None:
    counted = [field.name for field in dataclasses.fields(PumpCounters) if field.name != "keepalives"]
    for number, name in enumerate(counted):
        setattr(rig.pump.counters, name, 100 + number)
    drops = rig.pump.drops().to_json()
    assert {name: drops[name] for name in counted} == {name: 100 + number for number, name in enumerate(counted)}


def test_every_counter_of_a_child_sa_reaches_the_status(rig: Rig) -> None:
    pair = rig.pump.table.pair(0xC0000001)
    names = [field.name for field in dataclasses.fields(pair[0].counters)]
    for offset, sa in zip((100, 200), pair, strict=True):
        for number, name in enumerate(names):
            setattr(sa.counters, name, offset + number)
    shown = rig.pump.child_counters(0xC0000001).to_json()
    for number, name in enumerate(names):
        if name in {"packets", "bytes"}:
            assert (shown[f"{name}_in"], shown[f"{name}_out"]) == (100 + number, 200 + number)
        else:
            assert shown[name] == (200 if name == "exhausted" else 100) + number


@pytest.fixture
def fast(gateway: Rig, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setitem(LANES, _lane, (SuperTun, RunSocket))
    rig = Rig()
    rig.pump.install(child())
    assert rig.pump.fast
    assert isinstance(rig.socket, RunSocket)
    assert rig.socket.merging
    return rig


@pytest.mark.parametrize(("payload", "sends"), [(3000, 1), (60000, 1), (64 * 1000 + 1, 2), (1000, 1)])
def test_a_super_packet_leaves_as_runs(fast: Rig, gateway: Rig, payload: int, sends: int) -> None:
    frame, parts = super_packet(1000, payload)
    runs: list[int] = []
    send_run = fast.socket.send_run  # type: ignore[attr-defined]
    fast.socket.send_run = lambda run, *rest: runs.append(len(run)) or send_run(run, *rest)  # type: ignore[attr-defined]
    sent = fast.send(frame)
    assert len(sent) == len(parts)
    assert len(runs) == sends
    assert gateway.receive(*sent[:60]) + gateway.receive(*sent[60:]) == parts
    counters = fast.pump.child_counters(0xC0000001)
    assert (counters.packets_out, counters.bytes_out) == (len(parts), sum(map(len, parts)))


@pytest.mark.usefixtures("cipher")
def test_super_packets_that_make_a_run_by_themselves_keep_their_place(fast: Rig, gateway: Rig) -> None:
    """Short packets before and behind them, one that fits no run, and one that is above the MTU."""
    fast.pump.install(child())
    gateway.pump.install(gateway_side(child()))
    whole, long = super_packet(1000, 40_000), super_packet(900, 40_500)
    too_many = super_packet(250, 33_000)
    short = [ip_packet(0, (VIP4, HOST4)) for _ in range(2)]
    frames = [bytes(10) + packet for packet in short]
    sent = fast.send(frames[0], whole[0], frames[1], long[0], too_many[0], whole[0])
    numbers = [int.from_bytes(each[4:8], "big") for each in sent]
    assert numbers == list(range(1, len(sent) + 1))
    expected: list[bytes] = [short[0], *whole[1], short[1], *long[1], *too_many[1], *whole[1]]
    received: list[bytes] = []
    for at in range(0, len(sent), 60):
        received += gateway.receive(*sent[at : at + 60])
    assert received == expected
    fast.pump.set_mtu(1000)
    assert fast.send(whole[0]) == []
    assert fast.pump.drops().too_big == len(whole[1])


def test_segments_of_one_flow_reach_the_device_as_one_frame(fast: Rig, gateway: Rig) -> None:
    parts = tcp_segments(20)
    (frame,) = fast.receive(*gateway.send(*parts))
    assert offload_plain.examine(frame, len(frame))[0] == 20
    counters = fast.pump.child_counters(0xC0000001)
    assert (counters.packets_in, counters.bytes_in) == (20, sum(map(len, parts)))


SUITES = ("aes128gcm16", "aes256gcm16", "aes128ccm16", "chacha20poly1305", "aes128-sha1", "aes256-sha256")


@pytest.fixture(params=["openssl", "cryptography"])
def cipher(request: pytest.FixtureRequest) -> Iterator[None]:
    """What encrypts: the compiled loop, if there is one, or `cryptography`."""
    choose_cipher({VARIABLE: "none" if request.param == "cryptography" else ""})
    yield
    choose_cipher({VARIABLE: "none"})


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("name", SUITES)
@pytest.mark.usefixtures("cipher")
def test_every_suite_runs_in_batches(fast: Rig, gateway: Rig, name: str, esn: bool) -> None:
    """P2: up as a super-packet, down as a run, with a forged packet in the middle that costs itself alone."""
    encryption, _, integrity = name.partition("-")
    suite = EspSuite(encryption=ENCRYPTION[encryption], integrity=INTEGRITY[integrity] if integrity else None, esn=esn)

    def some_keys(seed: int) -> DirectionKeys:
        length = suite.encryption.key_length + suite.encryption.salt_length
        return DirectionKeys(
            encryption=bytes([seed]) * length,
            integrity=bytes([seed]) * (suite.integrity.key_length if suite.integrity else 0),
        )

    ours = replace(child(), suite=suite, keys_in=some_keys(1), keys_out=some_keys(2))
    fast.pump.install(ours)
    gateway.pump.install(gateway_side(ours))
    frame, parts = super_packet(1000, 20_500)
    assert gateway.receive(*fast.send(frame)) == parts
    sealed = gateway.send(*tcp_segments(9))
    sealed[4] = sealed[4][:40] + bytes((sealed[4][40] ^ 1,)) + sealed[4][41:]
    frames = fast.receive(*sealed)
    assert [offload_plain.examine(frame, len(frame))[0] for frame in frames] == [4, 4]
    counters = fast.pump.child_counters(0xC0000001)
    assert (counters.auth_failures, counters.packets_in, counters.replays) == (1, 8, 0)
    assert fast.receive(*sealed[:4]) == []
    assert fast.pump.child_counters(0xC0000001).replays == 4


def test_a_single_packet_is_merged_with_nothing_and_clamped_all_the_same(fast: Rig, gateway: Rig) -> None:
    """The shortest way for a ping; a SYN alone still learns the segment size."""
    fast.pump.set_mtu(1000)
    home = (HOST4, VIP4)
    ping = back(b"\x08\x00ping", protocol=1)
    (frame,) = fast.receive(*gateway.send(ping))
    assert frame == packets.frame(ping)
    syn = packets.ip(packets.tcp(flags=2, options=b"\x02\x04\x05\xb4", addresses=home), 6, home)
    (frame,) = fast.receive(*gateway.send(syn))
    assert frame[10 + 42 : 10 + 44] == (960).to_bytes(2, "big")
    assert packets.transport_is_right(frame[10:])


def test_a_forged_packet_in_a_run_costs_only_itself(fast: Rig, gateway: Rig) -> None:
    """P2: and so does one with a replayed number."""
    parts = tcp_segments(6)
    sealed = gateway.send(*parts)
    sealed[1] = sealed[1][:-1] + bytes((sealed[1][-1] ^ 1,))
    sealed[4] = sealed[2]
    frames = fast.receive(*sealed)
    assert [offload_plain.examine(frame, len(frame))[0] for frame in frames] == [1, 2, 1]
    counters = fast.pump.child_counters(0xC0000001)
    assert (counters.auth_failures, counters.replays, counters.packets_in) == (1, 1, 4)


def test_runs_that_come_twice_or_late_are_refused_where_they_must_be(fast: Rig, gateway: Rig) -> None:
    """P3"""
    sealed = gateway.send(*tcp_segments(30))
    assert len(fast.receive(*sealed[20:])) == 1
    assert len(fast.receive(*sealed[:20])) == 1
    assert fast.receive(*sealed) == []
    counters = fast.pump.child_counters(0xC0000001)
    assert (counters.replays, counters.packets_in) == (30, 30)


def test_packets_outside_the_selectors_are_dropped_by_the_frame(gateway: Rig, fast: Rig) -> None:
    """P7"""
    fast.pump.remove(0xC0000001)
    fast.pump.install(child(remote=("192.0.2.0/24",)))
    assert fast.receive(*gateway.send(*tcp_segments(5))) == []
    assert fast.pump.child_counters(0xC0000001).selector_drops == 5


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_redirect_among_packets_from_the_same_host_is_dropped_alone(place: int, rig: Rig, gateway: Rig) -> None:
    """P17: one look at addresses does for a run of TCP and UDP, and for nothing else."""
    genuine = tcp_segments(5)
    redirect = back(bytes((5, 1)) + bytes(34), protocol=1)
    assert redirect not in rig.receive(*gateway.send(*genuine[:place], redirect, *genuine[place:]))
    counters = rig.pump.child_counters(0xC0000001)
    assert (counters.packets_in, counters.selector_drops) == (5, 1)


def test_link_local_and_multicast_stay_out(rig: Rig, gateway: Rig) -> None:
    """P17"""
    rig.pump.install(child(local=("0.0.0.0/0", "::/0")))  # as a gateway may agree to
    gateway.pump.install(gateway_side(child(local=("0.0.0.0/0", "::/0"))))
    good = [back(b"one"), ipv6(b"two", source=HOST6, destination=VIP6)]
    bad = [ipv6(b"bad", source="fe80::1", destination=VIP6), ipv6(b"bad", source=HOST6, destination="ff02::1")]
    bad += [back(b"bad", source="169.254.1.1"), back(b"bad", destination="224.0.0.251")]
    bad += [back(b"bad", destination="255.255.255.255")]
    assert rig.receive(*gateway.send(good[0], *bad, good[1])) == good
    assert rig.pump.child_counters(0xC0000001).selector_drops == len(bad)


def test_dscp_and_ecn_are_copied_outwards_and_do_not_share_a_run(fast: Rig) -> None:
    """RFC 2983 section 3, RFC 6040 section 4.1"""
    seen: list[tuple[int, int]] = []
    send_run = fast.socket.send_run  # type: ignore[attr-defined]

    def spy(run: memoryview, size: int, destination: tuple[str, int], tos: int = 0) -> int:
        seen.append((len(run) // size, tos))
        return int(send_run(run, size, destination, tos))

    fast.socket.send_run = spy  # type: ignore[attr-defined]
    fast.send(*(super_packet(1000, 2000, tos=tos)[0] for tos in (0, 0, 0xBA, 0)))
    assert seen == [(4, 0), (2, 0xBA), (2, 0)]


@pytest.mark.parametrize(
    ("outer", "inner", "result"), [(3, 2, 3), (3, 1, 3), (3, 3, 3), (1, 2, 1), (2, 1, 1), (0, 2, 2), (3, 0, None)]
)
def test_congestion_marks_of_the_path_reach_the_inside(
    fast: Rig, gateway: Rig, outer: int, inner: int, result: int | None
) -> None:
    """P16, RFC 6040 section 4.2: CE on a packet that does not know ECN is a loss."""
    fast.socket.tos = outer  # type: ignore[attr-defined]
    frames = fast.receive(*gateway.send(*tcp_segments(2, tos=0xB8 | inner)))
    assert [frame[11] for frame in frames] == ([] if result is None else [0xB8 | result])
    assert all(packets.checksum(frame[10:30]) == 0 for frame in frames)
    assert fast.pump.table.inbound[0xC0000001].counters.congested == (2 if result is None else 0)


def test_marks_on_everything_mean_nothing(rig: Rig, gateway: Rig) -> None:
    """P16: a broken box marks all packets; RFC 6040 section 4.2 would have every one of them dropped."""
    packet = ip_packet(0, (HOST4, VIP4))
    capable = ip_packet(2, (HOST4, VIP4))

    def pass_on(outer: int, *packets: bytes) -> list[bytes]:
        rig.socket.tos = outer
        return rig.receive(*gateway.send(*packets))

    assert pass_on(3, *[packet] * (MEANINGLESS_AFTER - 1)) == []
    assert pass_on(0, packet) == [packet]  # one without a mark: they mean something
    assert pass_on(3, *[packet] * (MEANINGLESS_AFTER - 1)) == []
    assert rig.warnings == []
    assert pass_on(3, packet) == []
    assert rig.warnings == [MARKS_IGNORED]
    counters = rig.pump.child_counters(0xC0000001)
    assert (counters.congested, counters.malformed, counters.packets_in) == (2 * MEANINGLESS_AFTER - 1, 0, 1)
    assert pass_on(3, packet, capable, packet) == [packet, capable, packet]
    rig.pump.install(child(0xC0000002, replaces=0xC0000001))  # the path is the same
    gateway.pump.install(gateway_side(child(0xC0000002, replaces=0xC0000001)))
    assert pass_on(3, packet) == [packet]
    assert pass_on(2, packet) == [packet]
    assert pass_on(3, packet) == []  # a mark that may mean something again
    assert len(pass_on(3, *[packet] * 10)) == 10 - MEANINGLESS_AFTER + 1
    rig.pump.set_remote(GATEWAY)
    assert pass_on(3, packet) == [packet]
    rig.pump.set_remote(("192.0.2.2", 4500))
    assert pass_on(3, packet) == []  # of another path nothing is known yet
    assert rig.warnings == [MARKS_IGNORED]  # it is said once


def test_forged_packets_tell_nothing_about_the_marks_of_the_path(rig: Rig, gateway: Rig) -> None:
    """P16: neither with CE nor without."""
    packet = ip_packet(0, (HOST4, VIP4))
    sealed = gateway.send(*[packet] * (MEANINGLESS_AFTER + 1))
    forged = [data[:-1] + bytes((data[-1] ^ 1,)) for data in sealed]
    rig.socket.tos = 3
    assert rig.receive(*forged) == []
    assert rig.receive(*sealed[:-1]) == []
    rig.socket.tos = 0
    assert rig.receive(forged[-1], forged[0]) == []
    rig.socket.tos = 3
    assert rig.receive(sealed[-1]) == [packet]


def test_dscp_and_ecn_go_out_and_come_in_packet_by_packet_in_either_lane(rig: Rig, gateway: Rig) -> None:
    """P16, RFC 2983 section 3, RFC 6040 sections 4.1 and 4.2"""
    marked = [ip_packet(tos, addresses) for tos in (0, 0xBA, 0xBA, 2, 0x1D) for addresses in (OUT4, OUT6)]
    sent = rig.send(*marked)
    assert rig.socket.tos_sent == [0, 0, 0xBA, 0xBA, 0xBA, 0xBA, 2, 2, 0x1D, 0x1D]
    gateway.socket.tos = 3
    assert gateway.receive(*sent) == [
        ip_packet(tos, addresses) for tos in (0xBB, 0xBB, 3, 0x1F) for addresses in (OUT4, OUT6)
    ]
    assert gateway.pump.table.inbound[0xD0000001].counters.congested == 2


@pytest.mark.parametrize("sas", [3, 8, 11])
def test_packets_of_several_sas_do_not_break_up_each_others_runs(fast: Rig, sas: int) -> None:
    """Small packets of many Child SAs in turn: a run for each, in order within each, however many there are."""
    fast.pump.remove(0xC0000001)
    for n in range(sas):
        fast.pump.install(child(0xC0000100 + n, 0xD0000100 + n, remote=(f"10.99.{n}.0/24",)))
    runs: list[int] = []
    send_run = fast.socket.send_run  # type: ignore[attr-defined]
    fast.socket.send_run = lambda run, size, *rest: runs.append(len(run) // size) or send_run(run, size, *rest)  # type: ignore[attr-defined]
    frames = []
    for turn in range(5):
        for n in range(sas):
            addresses = (VIP4, f"10.99.{n}.1")
            frames.append(packets.frame(packets.ip(packets.udp(bytes([turn]), addresses=addresses), 17, addresses)))
    sent = fast.send(*frames)
    assert len(sent) == 5 * sas
    assert sum(runs) == 5 * sas
    alone = [1] if _lane == "alone" else []  # who comes first does not wait for the others
    assert sas > 8 or sorted(runs) == [*alone, *[5 - len(alone)] * len(alone), *[5] * (sas - len(alone))]
    for n in range(sas):
        spi = (0xD0000100 + n).to_bytes(4, "big")
        assert [payload[4:8] for payload in sent if payload[:4] == spi] == [i.to_bytes(4, "big") for i in range(1, 6)]


def test_a_syn_keeps_its_marks(fast: Rig) -> None:
    """It takes the slow path, because it has to be clamped."""
    syn = packets.ip(packets.tcp(flags=0xC2, addresses=OUT4), 6, OUT4, tos=0xB8)
    fast.send(packets.frame(syn))
    assert fast.socket.tos_sent == [0xB8]


def test_a_super_packet_above_the_mtu_is_answered(fast: Rig) -> None:
    """P13: the path shrank, and TCP has not heard of it."""
    fast.pump.set_mtu(800)
    frame, parts = super_packet(1000, 3000)
    assert fast.send(frame) == []
    assert fast.pump.counters.too_big == len(parts)
    assert {answer[20] for answer in fast.tun.written} == {3}


def test_a_transport_without_runs_serves_beside_one_with_them(fast: Rig, gateway: Rig) -> None:
    """What a transport can is asked once for each of them."""
    plain = FakeSocket()
    fast.pump.attach(plain)
    assert fast.pump.fast
    frame, parts = super_packet(1000, 3000)
    fast.tun.waiting += [frame, packets.frame(ipv4(b"one"))]
    fast.pump.drain_tun()
    fast.tun.waiting.append(packets.frame(ipv4(b"alone")))
    fast.pump.drain_tun(False)
    fast.pump.drain_tun(False)
    assert fast.socket.sent == []
    assert gateway.receive(*(data for data, _ in plain.sent)) == [*parts, ipv4(b"one"), ipv4(b"alone")]
    plain.arrives(*gateway.send(back(b"one"), back(b"two")))
    assert fast.pump.drain_udp(plain) == 2
    fast.socket.arrives(*gateway.send(back(b"three")))
    assert fast.pump.drain_udp(fast.socket) == 1
    assert [bytes(each)[-5:] for each in fast.tun.written] == [back(b"one")[-5:], back(b"two")[-5:], b"three"]


def test_sequence_numbers_end_within_a_run(fast: Rig) -> None:
    """P8"""
    outbound = fast.pump.table.pair(0xC0000001)[1]
    outbound.sequence = 2**32 - 1 - 2
    assert len(fast.send(super_packet(1000, 5000)[0])) == 2
    assert outbound.counters.exhausted == 3
    assert outbound.counters.packets == 2
    assert fast.send(super_packet(1000, 5000)[0]) == []


def test_one_packet_alone_is_carried_without_a_look_for_more(fast: Rig, gateway: Rig) -> None:
    """Until the loop finds the descriptor readable again."""
    fast.tun.waiting += [packets.frame(ipv4(bytes([n]))) for n in range(5)]
    assert [fast.pump.drain_tun(again) for again in (False, False, True, False)] == [1, 1, 3, 0]
    assert len(fast.socket.sent) == 5
    fast.socket.arrives(*(gateway.send(back(bytes(n)))[0] for n in range(5)))
    fast.socket.receive_into = fast.socket.receive_singly  # type: ignore[attr-defined]
    drain = partial(fast.pump.drain_udp, fast.socket)
    assert [drain(again) for again in (False, False, True, False)] == [1, 1, 3, 0]
    assert fast.tun.written == [bytes(10) + back(bytes(n)) for n in range(5)]


@pytest.mark.parametrize(
    ("singly", "merged", "expected"),
    [(7, 0, False), (8, 0, True), (30, 0, True), (30, 40, False), (0, 60, False)],
    ids=["a few", "enough", "many", "mostly merged", "all merged"],
)
def test_a_delay_pays_after_many_datagrams_that_nobody_merged(
    fast: Rig, gateway: Rig, singly: int, merged: int, expected: bool
) -> None:
    sealed = [gateway.send(back(bytes(500)))[0] for _ in range(singly + 2 * merged)]
    waiting = [(each, len(each)) for each in sealed[:singly]]
    waiting += [
        (first + second, len(first)) for first, second in zip(sealed[singly::2], sealed[singly + 1 :: 2], strict=True)
    ]

    def receive(buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        if not waiting:
            return None
        data, size = waiting.pop(0)
        buffer[: len(data)] = data
        return len(data), size, GATEWAY, 0

    def recvmmsg(many: Recvmmsg, _stride: int, first: int, most: int) -> list[Arrival]:
        got = [waiting.pop(0) for _ in range(min(most, SLOTS - first, len(waiting)))]
        many.merged = any(size != len(data) for data, size in got)
        return [(data, len(data), size, GATEWAY, 0) for data, size in got]

    fast.socket.receive_into, fast.socket.recvmmsg = receive, recvmmsg  # type: ignore[attr-defined]
    fast.pump.drain_udp(fast.socket, True)
    assert fast.pump.wants_delay() == expected
    assert fast.pump.table.inbound[0xC0000001].counters.packets == singly + 2 * merged
    fast.pump.drain_udp(fast.socket, True)
    assert not fast.pump.wants_delay()


def test_one_that_ends_a_merged_burst_does_not_tell_of_datagrams_that_nobody_merged(fast: Rig, gateway: Rig) -> None:
    """A burst of 46 segments comes as 45 and 1; a call for many at once would copy what is merged."""
    sealed = [gateway.send(back(bytes(500)))[0] for _ in range(12)]
    waiting = [part for at in range(0, 12, 3) for part in (sealed[at] + sealed[at + 1], sealed[at + 2])]

    def receive(buffer: memoryview) -> tuple[int, int, tuple[str, int], int] | None:
        if not waiting:
            return None
        data = waiting.pop(0)
        buffer[: len(data)] = data
        return len(data), len(sealed[0]), GATEWAY, 0

    def recvmmsg(*_: object) -> list[Arrival]:
        raise AssertionError

    fast.socket.receive_into, fast.socket.recvmmsg = receive, recvmmsg  # type: ignore[attr-defined]
    fast.pump.drain_udp(fast.socket, True)
    assert fast.pump.table.inbound[0xC0000001].counters.packets == 12


def test_long_runs_are_paced_while_packets_get_lost(fast: Rig, gateway: Rig) -> None:
    """The other end's TCP tells; forged packets do not."""
    options = bytes.fromhex("0101050a0000000100000002")
    tells, plain = (
        packets.ip(packets.tcp(options=o, addresses=(HOST4, VIP4)), 6, (HOST4, VIP4)) for o in (options, b"")
    )

    def paced_after(*inner: bytes, forge: bool = False, segments: int = 40) -> int:
        sealed = [gateway.send(packet)[0] for packet in inner]
        fast.receive(*(each[:-1] + bytes((each[-1] ^ forge,)) for each in sealed))
        before = fast.paced
        fast.send(super_packet(500, 500 * segments)[0])
        return fast.paced - before

    assert paced_after(plain, plain) == 0
    assert paced_after(tells, tells, forge=True) == 0
    assert paced_after(tells, tells) == 1
    assert paced_after(plain, segments=19) == 0
    assert paced_after(plain, segments=120) == 2
    assert 200 < sum(paced_after() for _ in range(500)) < 300


def test_runs_kept_apart_are_delay_enough(fast: Rig, gateway: Rig) -> None:
    selective = packets.tcp(options=bytes.fromhex("0101050a0000000100000002"), addresses=(HOST4, VIP4))

    def receive() -> None:
        sealed = [gateway.send(packets.ip(selective, 6, (HOST4, VIP4)))[0] for _ in range(8)]
        fast.socket.arrives(*sealed)
        fast.pump.drain_udp(fast.socket, True)

    fast.socket.receive_into = fast.socket.receive_singly  # type: ignore[attr-defined]
    receive()
    assert fast.pump.wants_delay()
    fast.send(super_packet(500, 20_000)[0])
    receive()
    assert not fast.pump.wants_delay()
    receive()
    assert fast.pump.wants_delay()


# Demultiplexing


def test_the_marker_leads_to_ike_and_is_taken_off(rig: Rig) -> None:
    """RFC 3948 section 2.2"""
    assert rig.receive(NON_ESP_MARKER + IKE) == []
    assert rig.ike == [(IKE, GATEWAY, LOCAL)]


def test_everything_from_port_500_is_ike_without_a_marker(rig: Rig, gateway: Rig) -> None:
    """N25: ESP on port 500 is not taken for ESP; the IKE parser refuses it."""
    source = (GATEWAY[0], 500)
    esp = gateway.send(back(b"some payload"))[0]
    assert rig.receive(IKE, esp, source=source) == []
    assert [message[:2] for message in rig.ike] == [(IKE, source), (esp, source)]
    assert rig.pump.last_inbound is None


def test_the_port_of_the_sender_decides_and_not_our_own(rig: Rig, gateway: Rig) -> None:
    """ESP is accepted on the socket that IKE_SA_INIT went out from."""
    other = LANES[_lane][1]((LOCAL[0], 500))
    rig.pump.attach(other)
    other.arrives(gateway.send(back(b"hello"))[0], NON_ESP_MARKER + IKE)
    assert rig.pump.drain_udp(other) == (2 if _lane == "ordinary" else 1)  # merged ones are counted as one
    assert rig.tun.written == [back(b"hello")]
    assert rig.ike == [(IKE, GATEWAY, other.local)]


def test_lost_and_unread_datagrams_make_deaf_for_a_moment(rig: Rig) -> None:
    """P14, N27"""
    assert not rig.pump.deaf()
    rig.socket.overflows = 3
    assert rig.pump.deaf()
    assert rig.pump.drops().receive_overflows == 3
    rig.time += DEAFNESS - 0.1
    assert rig.pump.deaf()
    rig.time += 0.1
    assert not rig.pump.deaf()
    rig.socket.arrives(b"unread")
    assert rig.pump.deaf()
    rig.receive()
    assert rig.pump.deaf()
    rig.time += DEAFNESS
    assert not rig.pump.deaf()
    rig.pump.detach(rig.socket)
    assert not rig.pump.deaf()
    assert rig.pump.drops().receive_overflows == 3


def test_ike_messages_that_are_not_due_are_counted(rig: Rig) -> None:
    """N3: nothing else tells of them."""
    rig.due = False
    rig.receive(NON_ESP_MARKER + IKE, NON_ESP_MARKER + IKE)
    rig.receive(IKE, source=(GATEWAY[0], 500))
    assert rig.pump.counters.unknown_ike == 3
    rig.due = True
    rig.receive(NON_ESP_MARKER + IKE)
    assert rig.pump.counters.unknown_ike == 3


@pytest.mark.parametrize("due", [True, False])
def test_after_many_ike_messages_a_call_takes_few(due: bool, rig: Rig) -> None:
    """P14: each costs an integrity check, and timers and the other direction wait for all of them."""
    rig.due = due
    drain = partial(rig.pump.drain_udp, rig.socket, True)
    rig.socket.arrives(*[NON_ESP_MARKER + IKE + bytes(n % 90) for n in range(1000)])
    drain()
    first, before = 1000 - len(rig.socket.waiting), len(rig.socket.waiting)
    assert first >= 256
    drain()
    taken = before - len(rig.socket.waiting)
    assert taken <= 2 * IKE_BUDGET if due else taken >= 256
    while rig.socket.waiting:
        drain()
    assert len(rig.ike) == 1000
    rig.socket.arrives(*[os.urandom(60 + n % 90) for n in range(1000)])
    drain()
    drain()
    assert len(rig.socket.waiting) <= 1000 - 256  # back to normal


def test_ike_without_a_marker_from_port_4500_is_dropped(rig: Rig) -> None:
    """N25"""
    rig.receive(IKE)
    assert rig.ike == []
    assert rig.pump.counters.unknown_spi == 1


def test_keepalives_are_ignored(rig: Rig) -> None:
    """N1, RFC 3948 section 4: on both ports, and no sign of life."""
    rig.receive(KEEPALIVE)
    rig.receive(KEEPALIVE, source=(GATEWAY[0], 500))
    assert rig.pump.counters.keepalives == 2
    assert rig.pump.last_inbound is None
    assert rig.ike == []


@pytest.mark.parametrize("size", range(8))
def test_datagrams_too_short_for_anything_are_dropped(rig: Rig, size: int) -> None:
    """N1, P1"""
    for data in (bytes(size), b"\xfe" * size):
        rig.receive(data)
        rig.receive(data, source=(GATEWAY[0], 500))
    rig.receive(b"\xff\xff")
    assert rig.ike == []
    assert rig.tun.written == []
    assert rig.pump.counters.malformed == 5


def test_ike_shorter_than_its_header_is_dropped(rig: Rig) -> None:
    """N1"""
    rig.receive(NON_ESP_MARKER + bytes(27))
    rig.receive(bytes(27), source=(GATEWAY[0], 500))
    assert rig.ike == []
    assert rig.pump.counters.malformed == 2


@pytest.mark.parametrize("spi", [1, 2, 255])
def test_reserved_spis_are_dropped(rig: Rig, spi: int) -> None:
    """P1"""
    rig.receive(spi.to_bytes(4, "big") + bytes(100))
    assert rig.pump.counters.malformed == 1


@given(st.lists(st.tuples(st.binary(max_size=80), st.sampled_from([500, 4500, 1])), max_size=8))
def test_arbitrary_datagrams_never_raise(datagrams: list[tuple[bytes, int]]) -> None:
    """N1, P1"""
    rig = Rig()
    rig.pump.install(child())
    rig.socket.waiting += [(data, (GATEWAY[0], port)) for data, port in datagrams]
    rig.socket.waiting += [((0xC0000001).to_bytes(4, "big") + data, GATEWAY) for data, _ in datagrams]
    while rig.pump.drain_udp(rig.socket):
        pass
    assert not rig.socket.waiting
    assert rig.tun.written == []


@given(st.lists(st.binary(max_size=80), max_size=8), st.integers(20, 60))
def test_arbitrary_packets_from_the_device_never_raise(packets: list[bytes], mtu: int) -> None:
    """P10, P11"""
    rig = Rig()
    rig.pump.install(child())
    rig.pump.set_mtu(mtu)
    rig.tun.waiting += packets + [b"\x45" + packet for packet in packets] + [b"\x60" + packet for packet in packets]
    while rig.pump.drain_tun():
        pass


# IKE and the path


def test_ike_gets_a_marker_exactly_where_the_port_asks_for_one(rig: Rig) -> None:
    assert rig.pump.send_ike(IKE, GATEWAY)
    assert rig.pump.send_ike(IKE, (GATEWAY[0], 500))
    assert rig.socket.sent == [(NON_ESP_MARKER + IKE, GATEWAY), (IKE, (GATEWAY[0], 500))]


def test_another_path_can_be_tried_without_changing_the_one_in_use(rig: Rig) -> None:
    other = LANES[_lane][1](("198.51.100.1", 40001))
    assert rig.pump.send_ike(IKE, GATEWAY, other)
    assert other.sent == [(NON_ESP_MARKER + IKE, GATEWAY)]
    assert rig.socket.sent == []
    assert rig.pump.last_sent is None


def test_keepalives_are_sent_only_where_they_mean_something(rig: Rig) -> None:
    assert rig.pump.send_keepalive()
    assert rig.socket.sent == [(KEEPALIVE, GATEWAY)]
    rig.pump.set_remote((GATEWAY[0], 500))
    assert not rig.pump.send_keepalive()
    rig.pump.set_remote(None)
    assert not rig.pump.send_keepalive()
    assert len(rig.socket.sent) == 1


def test_the_last_attached_socket_sends_and_all_receive(rig: Rig, gateway: Rig) -> None:
    """A move: the old path still delivers what is on its way."""
    new = LANES[_lane][1](("198.51.100.1", 40001))
    rig.pump.attach(new)
    assert rig.send(ipv4()) == []
    assert len(new.sent) == 1
    assert rig.receive(*gateway.send(back())) == [back()]
    rig.pump.detach(new)
    assert len(rig.send(ipv4())) == 1
    rig.pump.detach(rig.socket)
    assert not rig.pump.send_ike(IKE, GATEWAY)


def test_times_are_those_of_genuine_esp(rig: Rig, gateway: Rig) -> None:
    assert (rig.pump.last_inbound, rig.pump.last_outbound, rig.pump.last_sent) == (None, None, None)
    rig.send(ipv4())
    assert (rig.pump.last_outbound, rig.pump.last_sent) == (1000.0, 1000.0)
    rig.time = 1001.0
    rig.pump.send_ike(IKE, GATEWAY)
    assert (rig.pump.last_outbound, rig.pump.last_sent) == (1000.0, 1001.0)
    rig.time = 1002.0
    rig.pump.send_ike(IKE, ("192.0.2.77", 4500))
    assert rig.pump.last_sent == 1001.0
    sealed = gateway.send(back())[0]
    rig.receive(sealed[:-1] + bytes((sealed[-1] ^ 1,)))
    assert rig.pump.last_inbound is None
    rig.receive(sealed)
    assert rig.pump.last_inbound == 1002.0
    rig.time = 1003.0
    rig.receive(sealed)
    assert rig.pump.last_inbound == 1002.0


def test_an_unsendable_datagram_is_no_outbound_traffic(rig: Rig) -> None:
    """N24"""
    rig.socket.takes = 0
    assert rig.send(ipv4(), ipv4()) == []
    assert rig.pump.counters.not_sent == 2
    assert rig.pump.last_outbound is None
    assert not rig.pump.send_ike(IKE, GATEWAY)


# Child SAs


def test_a_rekeyed_child_is_used_at_once_and_the_old_one_still_received(rig: Rig, gateway: Rig) -> None:
    """P9"""
    new = child(0xC0000002, 0xD0000002, replaces=0xC0000001)
    straggler = gateway.send(back(b"old"))
    rig.pump.install(new)
    assert rig.send(ipv4())[0][:4] == bytes.fromhex("d0000002")
    gateway.pump.install(gateway_side(new))
    assert rig.receive(*gateway.send(back(b"new")), *straggler) == [back(b"new"), back(b"old")]
    rig.pump.remove(0xC0000001)
    assert rig.send(ipv4())[0][:4] == bytes.fromhex("d0000002")
    with pytest.raises(KeyError):
        rig.pump.child_counters(0xC0000001)


@pytest.mark.parametrize("how", ["heard", "deleted", "replaced"])
def test_after_a_rekey_by_the_gateway_the_old_child_sends_until_the_new_one_is_used(
    rig: Rig, gateway: Rig, how: str
) -> None:
    """RFC 7296 section 2.8: the gateway may not have our answer yet, and what is forged does not tell that it has."""
    new = child(0xC0000002, 0xD0000002, replaces=0xC0000001, by_peer=True)
    straggler, old = gateway.send(back(b"old")), bytes.fromhex("d0000001")
    rig.pump.install(new)
    gateway.pump.install(gateway_side(new))
    (fresh,) = gateway.send(back(b"new"))
    assert rig.send(ipv4())[0][:4] == old
    assert rig.receive(*straggler, fresh[:-1] + bytes((fresh[-1] ^ 1,))) == [back(b"old")]
    assert rig.send(ipv4(), ipv4(b"2"))[1][:4] == old
    assert rig.pump.rekey_due() == []
    expected = 0xD0000002
    if how == "heard":
        assert rig.receive(fresh) == [back(b"new")]
    elif how == "deleted":
        rig.pump.remove(0xC0000001)
    else:
        expected = 0xD0000003
        rig.pump.install(child(0xC0000003, expected, replaces=0xC0000002))
    assert [sealed[:4] for sealed in rig.send(ipv4(), ipv4(b"2"))] == [expected.to_bytes(4, "big")] * 2
    assert rig.receive(fresh) == ([] if how == "heard" else [back(b"new")])
    assert rig.send(ipv4())[0][:4] == expected.to_bytes(4, "big")


def test_a_removed_child_neither_sends_nor_receives(rig: Rig, gateway: Rig) -> None:
    """P9"""
    late = gateway.send(back())
    rig.pump.remove(0xC0000001)
    rig.pump.remove(0xC0000001)
    assert rig.receive(*late) == []
    assert rig.pump.counters.unknown_spi == 1
    assert rig.send(ipv4()) == []


def test_a_child_installed_by_an_ike_message_opens_esp_of_the_same_batch(gateway: Rig) -> None:
    """P9: the gateway may send on the new SA right behind its response."""
    rig = Rig()

    def install(*_: object) -> bool:
        rig.pump.install(child())
        return True

    rig.take_ike = install
    assert rig.receive(NON_ESP_MARKER + IKE, *gateway.send(back())) == [back()]


def test_worn_keys_are_named(rig: Rig) -> None:
    """P8"""
    assert rig.pump.rekey_due() == []
    rig.pump.table.pair(0xC0000001)[1].sequence = (1 << 32) - 2
    assert rig.pump.rekey_due() == [0xC0000001]
    assert len(rig.send(ipv4(), ipv4(), ipv4())) == 1
    assert rig.send(ipv4()) == []
    rig.pump.install(child(0xC0000002, 0xD0000002, replaces=0xC0000001))
    assert rig.pump.rekey_due() == []


# Sizes


def test_packets_above_the_mtu_are_answered_and_not_sent(rig: Rig) -> None:
    """P11, P13, P16"""
    rig.pump.set_mtu(1400)
    fits, too_many = ipv4(bytes(1380)), ipv4(bytes(1381))
    long6 = ipv6(bytes(1361))
    assert len(rig.send(too_many, fits, long6)) == 1
    four, six = rig.tun.written
    assert four[20:22] == b"\x03\x04"
    assert int.from_bytes(four[26:28], "big") == 1400
    assert four[16:20] == ip_address(VIP4).packed
    assert six[40:42] == b"\x02\x00"
    assert int.from_bytes(six[44:48], "big") == 1400
    assert rig.pump.counters.too_big == 2


def test_ipv4_that_may_be_fragmented_is_sent_as_it_is(rig: Rig) -> None:
    """P16: the outer packet is then fragmented."""
    rig.pump.set_mtu(1400)
    assert len(rig.send(ipv4(bytes(1450), df=False))) == 1
    assert rig.tun.written == []


def test_ipv6_is_never_told_less_than_1280(rig: Rig) -> None:
    """P13"""
    rig.pump.set_mtu(1218)
    assert len(rig.send(ipv6(bytes(1240)))) == 1
    assert rig.send(ipv6(bytes(1241))) == []
    assert int.from_bytes(rig.tun.written[0][44:48], "big") == 1280


def syn(mss: int, source: str, destination: str) -> bytes:
    tcp = pack(">HHIIBBHHH", 1, 2, 3, 0, 0x60, 2, 1000, 0, 0) + b"\x02\x04" + mss.to_bytes(2, "big")
    return ipv4(tcp, source=source, destination=destination, protocol=6)


@pytest.mark.parametrize("clamp", [True, False])
def test_segment_sizes_are_clamped_both_ways(clamp: bool, gateway: Rig) -> None:
    rig = Rig(clamp_mss=clamp)
    rig.pump.install(child())
    rig.pump.set_mtu(1400)
    expected = 1360 if clamp else 1460
    (arrived,) = gateway.receive(*rig.send(syn(1460, VIP4, HOST4)))
    assert int.from_bytes(arrived[42:44], "big") == expected
    (arrived,) = rig.receive(*gateway.send(syn(1460, HOST4, VIP4)))
    assert int.from_bytes(arrived[42:44], "big") == expected


# The device


def test_a_lost_device_is_reported_once(rig: Rig) -> None:
    """P11"""
    rig.tun.lost = True
    rig.pump.drain_tun()
    rig.pump.drain_tun()
    assert rig.lost == 1


def test_a_device_lost_while_writing_is_reported(rig: Rig, gateway: Rig) -> None:
    """P11"""
    rig.tun.lost = True
    rig.receive(*gateway.send(back()))
    assert rig.lost == 1


def test_two_pumps_talk_over_real_sockets() -> None:
    """Sources of real sockets have more fields over IPv6; everything else is as in the tests above."""
    for version, address in ((4, "127.0.0.1"), (6, "::1")):
        left, right = Rig(), Rig()
        sockets = [UdpSocket(version=version, local_address=address) for _ in range(2)]
        for rig, udp, peer in ((left, *sockets), (right, *sockets[::-1])):
            rig.pump.attach(udp)
            rig.pump.set_remote(peer.local)
        left.pump.install(child())
        right.pump.install(gateway_side(child()))
        left.tun.waiting += [ipv4(b"hello"), ipv6(b"six")]
        left.pump.drain_tun()
        left.pump.send_ike(IKE, sockets[1].local)
        left.pump.send_keepalive()
        assert right.pump.drain_udp(sockets[1]) == 4
        assert right.tun.written == [ipv4(b"hello"), ipv6(b"six")]
        assert right.ike == [(IKE, sockets[0].local, sockets[1].local)]
        assert right.pump.counters.keepalives == 1
        for udp in sockets:
            udp.close()
