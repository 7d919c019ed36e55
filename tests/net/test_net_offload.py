"""Large packets and runs of datagrams, against this machine's own kernel."""

from __future__ import annotations

import errno
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import offload_packets as packets
import pytest
import pytun  # noqa: F401  loaded here, as in test_net_tun
from thread_namespace import fresh_namespace

from ikeclient.net.device import offloads, vnet
from ikeclient.net.device import tun as tun_module
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.transport.udp import UdpSocket

LONG = 3.0
ADDRESSES = {4: "127.0.0.1", 6: "::1"}


@pytest.fixture
def device() -> Iterator[TunDevice]:
    if not os.access(tun_module.NODE, os.R_OK | os.W_OK):
        pytest.skip(f"no usable {tun_module.NODE}")
    with fresh_namespace():
        device = TunDevice("dp%d")
        for words in ("addr add 10.88.0.1/24 dev dp0", "link set dp0 up mtu 1400", "-6 addr flush dev dp0"):
            subprocess.run(["ip", *words.split()], check=True)
        if not device.vnet:
            pytest.skip("this kernel has no virtio headers on TUN devices")
        yield device
        device.close()


def frames(device: TunDevice) -> list[bytes]:
    buffer, found = bytearray(65545), []
    while length := device.read_into([buffer]):
        if buffer[10] >> 4 == 4:
            found.append(bytes(buffer[:length]))
    return found


def test_until_it_is_asked_the_device_behaves_like_a_plain_one(device: TunDevice) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("10.88.0.2", 9))
    (packet,) = [packet for packet in device.read_batch(10) if packet[0] >> 4 == 4]
    assert packets.transport_is_right(packet)


def test_switched_off_the_device_is_a_plain_one() -> None:
    if not os.access(tun_module.NODE, os.R_OK | os.W_OK):
        pytest.skip(f"no usable {tun_module.NODE}")
    with fresh_namespace():
        device = TunDevice("dp%d", offload=False)
        assert not device.vnet
        assert not device.enable_offload()
        device.close()


def test_a_kernel_without_virtio_headers_gets_a_plain_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.access(tun_module.NODE, os.R_OK | os.W_OK):
        pytest.skip(f"no usable {tun_module.NODE}")
    monkeypatch.setattr(vnet, "prepare", lambda _fd: False)
    with fresh_namespace():
        device = TunDevice("dp%d")
        assert not device.vnet
        assert device.name == "dp0"
        device.close()


def test_the_kernel_hands_over_datagrams_that_nobody_has_cut_yet(device: TunDevice) -> None:
    """UDP_SEGMENT on a socket of this machine becomes one frame, where the kernel has USO; else several."""
    assert device.enable_offload()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(17, 103, 500)
        sender.sendto(bytes(2300), ("10.88.0.2", 9))
    found = frames(device)
    assert len(found) == (1 if device.merges_udp else 5)
    assert found[0][0] & packets.NEEDS_CSUM


def test_the_length_of_bursts_is_bounded(device: TunDevice) -> None:
    device.enable_offload()
    shown = subprocess.run(["ip", "-d", "link", "show", "dp0"], check=True, capture_output=True, text=True).stdout
    assert f"gso_max_size {vnet.LONGEST_BURST} gso_max_segs {vnet.MOST_SEGMENTS}" in shown
    assert "qlen 1000" in shown


def test_a_kernel_that_knows_tcp_alone_still_gives_large_packets(
    device: TunDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.2 there is no UDP segmentation on TUN devices."""
    real = vnet._set
    monkeypatch.setattr(vnet, "_set", lambda fd, flags: not flags & vnet._DATAGRAMS and real(fd, flags))
    assert device.enable_offload()
    assert not device.merges_udp


def test_a_merged_frame_reaches_a_socket_whole(device: TunDevice) -> None:
    assert device.enable_offload()
    if not device.merges_udp:
        pytest.skip("this kernel takes no merged UDP")
    addresses = ("10.88.0.2", "10.88.0.1")
    body = packets.udp(bytes(range(250)) * 4, ports=(9, 4000), addresses=addresses, partial=True)
    frame = packets.frame(packets.ip(body, 17, addresses), kind=packets.UDP_L4, size=300, start=20, offset=6)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.88.0.1", 4000))
        receiver.settimeout(LONG)
        assert device.write_frames([frame]) == 1
        assert [len(receiver.recv(2000)) for _ in range(4)] == [300, 300, 300, 100]


def test_answers_written_as_plain_packets_get_their_header(device: TunDevice) -> None:
    device.enable_offload()
    addresses = ("10.88.0.2", "10.88.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.88.0.1", 4000))
        receiver.settimeout(LONG)
        plain = packets.ip(packets.udp(b"answer", ports=(9, 4000), addresses=addresses), 17, addresses)
        assert device.write_batch([plain]) == 1
        assert receiver.recv(100) == b"answer"


def test_what_the_kernel_offers_is_said_without_making_an_interface(device: TunDevice) -> None:
    before = socket.if_nameindex()
    (fact,) = offloads.describe()
    assert ("TUN super-packets" in fact.text.partition("(")[0]) == device.vnet
    assert fact.ok
    assert socket.if_nameindex() == before


def test_what_the_kernel_lacks_is_named_and_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offloads, "_SOL_UDP", 250)
    (fact,) = offloads.describe(tmp_path / "tun")
    assert fact.ok
    assert fact.text == "none (missing, for speed: TUN super-packets, UDP_SEGMENT, UDP_GRO)"


# Runs


def pair(version: int, *, offload: bool = True) -> tuple[UdpSocket, UdpSocket]:
    one, other = (UdpSocket(version=version, local_address=ADDRESSES[version], offload=offload) for _ in range(2))
    return one, other


def received(socket: UdpSocket, length: int) -> list[tuple[bytes, int, int]]:
    """(run, size, tos) until `length` bytes have come."""
    buffer, found = bytearray(65536), []
    while length > 0:
        got = socket.receive_into(buffer)
        if got is None:
            assert select.select([socket], [], [], LONG)[0]
            continue
        found.append((bytes(buffer[: got[0]]), got[1], got[3]))
        length -= got[0]
    return found


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tos", [0, 0xBA])
def test_a_run_arrives_as_it_was_sent(version: int, tos: int) -> None:
    one, other = pair(version)
    other.enable_merging()
    run = memoryview(os.urandom(10 * 1000 + 300))
    assert one.send_run(run, 1000, other.local, tos) == 11
    found = received(other, len(run))
    assert b"".join(data for data, _, _ in found) == run
    assert {size for _, size, _ in found[:-1]} <= {1000}
    assert {octet for _, _, octet in found} == {tos}
    if one.segments and other.merges:
        assert len(found) == 1
    one.close()
    other.close()


def test_switched_off_everything_goes_one_by_one() -> None:
    one, other = pair(4, offload=False)
    other.enable_merging()
    assert (one.segments, other.merges) == (False, False)
    assert one.send_run(memoryview(bytes(2500)), 1000, other.local, 4) == 3
    assert [(len(data), size, tos) for data, size, tos in received(other, 2500)] == [
        (1000, 1000, 4),
        (1000, 1000, 4),
        (500, 500, 4),
    ]
    one.close()
    other.close()


class Refusing:
    """A socket whose kernel refuses runs with an error."""

    def __init__(self, real: socket.socket, number: int) -> None:
        self._real = real
        self._number = number
        self.refused = 0

    def sendmsg(self, buffers: object, ancillary: list[tuple[int, int, bytes]], *rest: object) -> int:
        if any(kind == 103 for _, kind, _ in ancillary):
            self.refused += 1
            raise OSError(self._number, os.strerror(self._number))
        return self._real.sendmsg(buffers, ancillary, *rest)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.fixture
def refusing() -> Iterator[Callable[[int], tuple[UdpSocket, UdpSocket, Refusing, list[float]]]]:
    opened: list[UdpSocket] = []

    def make(number: int) -> tuple[UdpSocket, UdpSocket, Refusing, list[float]]:
        time = [100.0]
        one = UdpSocket(local_address="127.0.0.1", clock=lambda: time[0])
        other = UdpSocket(local_address="127.0.0.1")
        opened.extend((one, other))
        stub = Refusing(one._socket, number)
        one._socket = stub  # type: ignore[assignment]
        return one, other, stub, time

    yield make
    for item in opened:
        item.close()


def test_a_device_that_cannot_segment_is_asked_once(
    refusing: Callable[..., tuple[UdpSocket, UdpSocket, Refusing, list[float]]],
) -> None:
    one, other, stub, _ = refusing(errno.EIO)
    for _ in range(3):
        assert one.send_run(memoryview(bytes(2000)), 1000, other.local) == 2
    assert stub.refused == 1
    assert not one.segments
    assert len(received(other, 6000)) == 6


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EMSGSIZE])
def test_a_size_that_the_path_does_not_carry_is_tried_again_later(
    refusing: Callable[..., tuple[UdpSocket, UdpSocket, Refusing, list[float]]], number: int
) -> None:
    """P13: those datagrams are fragmented instead; smaller ones still go in runs."""
    one, other, stub, time = refusing(number)
    for size, refused in ((1000, 1), (1000, 1), (1100, 1), (900, 2)):
        assert one.send_run(memoryview(bytes(2 * size)), size, other.local) == 2
        assert stub.refused == refused
    time[0] += 61
    assert one.send_run(memoryview(bytes(2000)), 1000, other.local) == 2
    assert stub.refused == 3
    assert one.segments
    assert one.send_errors == 0
