from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytun  # noqa: F401  loaded here, because a test loses the right to read files
from thread_namespace import fresh_namespace

from ikeclient.errors import IkeclientError, PlatformError, PrivilegeError
from ikeclient.net.device import tun as module
from ikeclient.net.device.tun import TunDevice


@pytest.fixture
def own_network() -> Iterator[None]:
    if not os.access(module.NODE, os.R_OK | os.W_OK):
        pytest.skip(f"no usable {module.NODE}")
    with fresh_namespace():
        yield


@pytest.fixture
def device(own_network: None) -> Iterator[TunDevice]:
    device = TunDevice("dp%d")
    for words in (f"addr add 10.88.0.1/24 dev {device.name}", f"link set {device.name} up mtu 1400"):
        subprocess.run(["ip", *words.split()], check=True)
    yield device
    device.close()


def datagrams(count: int, size: int = 100) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(size), ("10.88.0.2", 9))


def ours(packets: list[bytes]) -> list[bytes]:
    """The packets of this test, without what the kernel says by itself over IPv6."""
    return [packet for packet in packets if packet[0] >> 4 == 4]


def test_the_kernel_chooses_the_number_in_the_name(own_network: None) -> None:
    first, second = TunDevice("dp%d"), TunDevice("dp%d")
    assert (first.name, second.name) == ("dp0", "dp1")
    first.close()
    second.close()
    assert not Path("/sys/class/net/dp0").exists()


def test_packets_of_the_machine_are_read_in_batches(device: TunDevice) -> None:
    datagrams(5)
    packets = ours(device.read_batch(100))
    assert [len(packet) for packet in packets] == [128] * 5
    assert packets[0][16:20] == bytes((10, 88, 0, 2))


def test_a_batch_is_never_longer_than_its_limit(device: TunDevice) -> None:
    device.read_batch(1000)
    datagrams(5)
    assert len(device.read_batch(3)) == 3
    assert len(ours(device.read_batch(100))) >= 2


def test_an_empty_queue_is_an_empty_batch(device: TunDevice) -> None:
    """P11: EAGAIN"""
    device.read_batch(1000)
    assert device.read_batch(10) == []
    assert device.counters.read_errors == 0
    assert not device.lost


def test_packets_reach_the_machine(device: TunDevice) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.88.0.1", 4000))
        receiver.settimeout(5)
        datagrams(1)
        packet = bytearray(ours(device.read_batch(100))[0])
        packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
        packet[22:24] = (4000).to_bytes(2, "big")
        packet[26:28] = bytes(2)
        assert device.write_batch([bytes(packet), packet, memoryview(packet)]) == 3
        assert [receiver.recv(2000) for _ in range(3)] == [bytes(100)] * 3


def test_packets_that_the_kernel_dislikes_are_counted_and_stop_nothing(device: TunDevice) -> None:
    """P11"""
    assert device.write_batch([b"", b"\x95" + bytes(30), b"\x45" + bytes(30)]) == 1
    assert device.counters.write_errors == 2
    assert not device.lost


def test_an_interface_that_is_down_loses_packets_and_comes_back(device: TunDevice) -> None:
    """P11: EIO"""
    subprocess.run(["ip", "link", "set", device.name, "down"], check=True)
    device.read_batch(1000)
    assert device.write_batch([b"\x45" + bytes(30)]) == 0
    assert device.read_batch(1) == []
    assert device.counters.write_errors == 1
    assert not device.lost
    subprocess.run(["ip", "link", "set", device.name, "up"], check=True)
    datagrams(1)
    assert len(ours(device.read_batch(100))) == 1


@pytest.mark.parametrize("direction", ["read", "write"])
def test_a_deleted_interface_is_noticed(device: TunDevice, direction: str) -> None:
    """P11"""
    subprocess.run(["ip", "link", "del", device.name], check=True)
    if direction == "read":
        assert device.read_batch(10) == []
    else:
        assert device.write_batch([b"\x45" + bytes(30)]) == 0
    assert device.lost


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EAGAIN, errno.EIO, errno.EINVAL, errno.ENOMEM])
def test_no_error_of_the_device_gets_out(device: TunDevice, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """P11"""

    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)
    monkeypatch.setattr(os, "write", fail)
    assert device.read_batch(10) == []
    assert device.write_batch([b"\x45" + bytes(30)] * 2) == 0
    assert device.counters.write_errors == 2
    assert not device.lost


def test_reads_of_nothing_end_with_the_batch(device: TunDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    """P11: a 0-byte read"""
    monkeypatch.setattr(os, "read", lambda *_: b"")
    assert device.read_batch(10) == []


# What is missing


def failing_open(number: int) -> Callable[..., int]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "there is no /dev/net/tun"),
        (errno.ENODEV, "no TUN driver"),
        (errno.ENXIO, "no TUN driver"),
        (errno.EACCES, "may not be opened by user"),
        (errno.EPERM, "not among the devices allowed here"),
    ],
)
def test_an_unusable_device_node_is_named(number: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """O1"""
    monkeypatch.setattr(os, "open", failing_open(number))
    with pytest.raises(PrivilegeError) as caught:
        TunDevice()
    assert caught.value.exit_code == 11
    assert caught.value.reason is not None
    assert words in caught.value.reason
    assert caught.value.hint


def test_a_missing_node_is_reported_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O1"""
    monkeypatch.setattr(module, "NODE", str(tmp_path / "tun"))
    with pytest.raises(PrivilegeError, match="cannot open a TUN device"):
        TunDevice()


class RefusingPytun:
    """python-pytun where the kernel refuses TUNSETIFF with `number`."""

    IFF_TUN, IFF_NO_PI, Error = 1, 0x1000, OSError

    def __init__(self, number: int) -> None:
        self._number = number

    def TunTapDevice(self, *_: object) -> object:
        raise OSError(self._number, os.strerror(self._number))


@pytest.mark.parametrize(
    ("number", "rights", "name", "words", "hint"),
    [
        (errno.EPERM, False, "ike%d", "CAP_NET_ADMIN is missing", "--cap-add NET_ADMIN"),
        (errno.EPERM, False, "lo", "was not made for user", "ip tuntap add lo mode tun user"),
        (errno.EPERM, True, "ike%d", "a seccomp filter or a security module forbids TUNSETIFF", "seccomp=FILE"),
        (errno.ENOSYS, True, "ike%d", "a seccomp filter forbids the ioctl TUNSETIFF", "seccomp=FILE"),
    ],
)
def test_a_refused_interface_is_told_by_what_refused_it(
    number: int, rights: bool, name: str, words: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """O1: no capability, somebody else's device and a filter are three different errors."""
    monkeypatch.setitem(sys.modules, "pytun", RefusingPytun(number))
    monkeypatch.setattr(module, "_require_node", lambda: None)
    monkeypatch.setattr(module, "has_net_admin", lambda: rights)
    with pytest.raises(PrivilegeError) as caught:
        TunDevice(name)
    assert words in (caught.value.reason or "")
    assert hint in (caught.value.hint or "")
    assert len(caught.value.lines()) == 3


@pytest.mark.parametrize("offload", [False, True])
def test_without_python_pytun_the_device_is_the_same(
    own_network: None, offload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has wheels for one processor only, and all of it that is needed is one ioctl."""
    monkeypatch.setitem(sys.modules, "pytun", None)
    device = TunDevice("dp%d", offload=offload)
    try:
        assert (device.name, device.vnet) == ("dp0", offload)
        for words in (f"addr add 10.88.0.1/24 dev {device.name}", f"link set {device.name} up mtu 1400"):
            subprocess.run(["ip", *words.split()], check=True)
        datagrams(5)
        assert [len(packet) for packet in ours(device.read_batch(100))] == [128] * 5
        for name in ("x" * 16, "\u00e4", "lo"):
            with pytest.raises(PlatformError, match="cannot create the network interface"):
                TunDevice(name)
    finally:
        device.close()
    assert not Path("/sys/class/net/dp0").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
def test_somebody_without_rights_is_told_which_one_is_missing() -> None:
    """O1: for real, in a child process without capabilities."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            TunDevice("dp%d")
            text = "opened"
        except IkeclientError as error:
            text = f"{error.exit_code} {error.reason}"
        except BaseException as error:
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert text.startswith("11 ")
    assert "CAP_NET_ADMIN is missing" in text or "may not be opened by user 65534" in text


@pytest.mark.parametrize("name", ["much-too-long-for-a-name", "with/slash", "lo"])
def test_an_impossible_name_is_a_fault_of_the_set_up(name: str, own_network: None) -> None:
    with pytest.raises(PlatformError) as caught:
        TunDevice(name)
    assert name in caught.value.message
    assert caught.value.reason


def test_a_name_in_use_is_said_to_be_in_use(device: TunDevice) -> None:
    with pytest.raises(PlatformError) as caught:
        TunDevice(device.name)
    assert caught.value.reason == "another process is using it"
