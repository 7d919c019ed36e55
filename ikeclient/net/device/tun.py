"""The TUN device: inner packets to and from this machine's network stack.

Opened through python-pytun, or by the same ioctl where that has no wheel, without packet information and, where the
kernel can, with virtio headers (`net.device.vnet`). With them the device behaves like a plain one until somebody who
can handle large packets calls `enable_offload`. Addresses, MTU and the up flag are set elsewhere, over netlink. The
device disappears with its file descriptor, so nothing has to be undone after a crash.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from struct import pack
from typing import Any, Self

from ikeclient.errors import IkeclientError, PlatformError, PrivilegeError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.net.device import vnet
from ikeclient.net.rights.grants import Missing, grant, node_fault
from ikeclient.net.rights.privileges import has_net_admin

Packet = bytes | bytearray | memoryview

NODE = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
_LONGEST = 65535
_LONGEST_NAME = 15  # IFNAMSIZ without its zero
_NO_HEADER = bytes(vnet.HEADER)


_GONE = frozenset((errno.EBADFD, errno.EBADF, errno.ENODEV, errno.ENXIO))


@dataclass(slots=True)
class TunCounters:
    """What the device refused. `write_errors` are packets the kernel did not take, `read_errors` failed reads."""

    write_errors: int = 0
    read_errors: int = 0


class TunDevice:
    """An open TUN device.

    `name` may hold `%d`, which the kernel fills in; the attribute `name` is what it became. `lost` turns true when
    somebody deletes the interface: no packet will ever come or go again, and the descriptor stays readable for ever,
    so that a reader has to be removed from the event loop. `offload` asks for the ability to carry large packets;
    whether the kernel has it is the attribute `vnet`. Frames may be read from and written to `descriptor` in place of
    `read_into` and `write_frame`; it is -1 once the device is closed. Raises PrivilegeError or PlatformError, saying
    what is missing.
    """

    def __init__(self, name: str = "ike%d", *, offload: bool = True) -> None:
        _require_node()
        self.vnet = False
        self.merges_udp = False
        self._offloading = False
        if offload:
            with contextlib.suppress(PlatformError):  # whatever it is, the plain device says it again
                self._open(name, vnet.FLAG)
                self.vnet = vnet.prepare(self.descriptor)
                if not self.vnet:
                    self._device.close()
        if not self.vnet:
            self._open(name, 0)
        self.lost = False
        self.counters = TunCounters()
        os.set_blocking(self.descriptor, False)

    def _open(self, name: str, flags: int) -> None:
        make, refusal = _maker()
        try:
            self._device = make(name, _IFF_TUN | _IFF_NO_PI | flags)
        except refusal as error:
            raise _refused(name, error) from None
        self.name: str = self._device.name
        self.descriptor: int = self._device.fileno()

    def enable_offload(self) -> bool:
        """Let large packets come and go, from now on through `read_into` and `write_frames`; false where it cannot be.

        `merges_udp` tells whether UDP may be written that way, too.
        """
        if not self.vnet:
            return False
        self._offloading, self.merges_udp = vnet.enable(self.descriptor)
        if self._offloading:
            vnet.limit_bursts(self.name)
        return self._offloading

    def frames(self) -> Self | None:
        """Carry frames from now on; None if the kernel cannot."""
        return self if self.enable_offload() else None

    def source(self) -> None:
        """The descriptor tells of packets."""

    def reopen(self) -> bool:
        """Make an interface that was deleted again, by the same name and on the same descriptor; whether that worked.

        It has no address then, and is down. Needs CAP_NET_ADMIN alone: the device node is open already.
        """
        flags = _IFF_TUN | _IFF_NO_PI | (vnet.FLAG if self.vnet else 0)
        try:
            fcntl.ioctl(self.descriptor, _TUNSETIFF, pack("16sH14x", self.name.encode("ascii"), flags))
        except OSError:
            return False
        self.lost = False
        if not self.vnet:
            return True
        # What is read and written from now on must look as before.
        return vnet.prepare(self.descriptor) and (not self._offloading or self.enable_offload())

    def fileno(self) -> int:
        """The descriptor, for an event loop; it is non-blocking."""
        return self.descriptor

    def read_batch(self, limit: int) -> list[bytes]:
        """At most `limit` packets that are waiting; never blocks, never raises."""
        packets: list[bytes] = []
        append, read, fd = packets.append, os.read, self.descriptor
        start, longest = (vnet.HEADER, _LONGEST + vnet.HEADER) if self.vnet else (0, _LONGEST)
        try:
            for _ in range(limit):
                if packet := read(fd, longest):
                    append(packet[start:])
        except BlockingIOError:
            pass
        except OSError as error:
            self.counters.read_errors += 1
            self.lost |= error.errno in _GONE
        return packets

    def write_batch(self, packets: Sequence[Packet]) -> int:
        """Give packets to the network stack; returns how many it took, the rest are counted and gone.

        A full queue, an interface that is down and a packet the kernel dislikes all mean one lost packet, as on any
        link.
        """
        if self.vnet:
            return self.write_frames([b"".join((_NO_HEADER, packet)) for packet in packets])
        return self.write_frames(packets)

    def read_into(self, buffers: Sequence[bytearray | memoryview]) -> int:
        """Read one frame, a virtio header and a packet; its length, or 0 where none is waiting. Never raises."""
        try:
            return os.readv(self.descriptor, buffers)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.counters.read_errors += 1
            self.lost |= error.errno in _GONE
            return 0

    def write_frames(self, frames: Sequence[Packet]) -> int:
        """As `write_batch`, for frames: each is a virtio header and a packet."""
        rest = iter(frames)
        work = map(os.write, repeat(self.descriptor), rest)
        written = len(frames)
        while True:
            try:
                deque(work, maxlen=0)  # what the kernel refuses ends the loop, which then goes on behind it
            except OSError as error:
                self._count(error)
                written -= 1
            else:
                return written

    def write_frame(self, frame: Packet) -> bool:
        """As `write_frames`, for one; whether it was taken."""
        try:
            os.write(self.descriptor, frame)
        except OSError as error:
            self._count(error)
            return False
        return True

    def _count(self, error: OSError) -> None:
        self.counters.write_errors += 1
        self.lost |= error.errno in _GONE

    def close(self) -> None:
        """Close the descriptor; the interface is then gone, with its addresses and routes."""
        self.descriptor = -1
        self._device.close()


class _KernelDevice:
    """What python-pytun does for us, where it is not installed: an interface by TUNSETIFF. Raises OSError."""

    def __init__(self, name: str, flags: int) -> None:
        try:
            request = pack("16sH22x", name.encode("ascii"), flags)
        except UnicodeEncodeError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        if len(name) > _LONGEST_NAME:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._descriptor = os.open(NODE, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(self._descriptor, _TUNSETIFF, request)
        except OSError:
            os.close(self._descriptor)
            raise
        self.name = answer[:16].rstrip(b"\0").decode("ascii")

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; harmless the second time."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _maker() -> tuple[Callable[[str, int], Any], type[OSError]]:
    """Return what makes a device, and what it raises."""
    try:
        import pytun  # only `connect` needs it
    except ImportError:
        return _KernelDevice, OSError
    return pytun.TunTapDevice, pytun.Error


def _require_node() -> None:
    """Tell what keeps us from the device node, before the kernel's answer is about two things at once."""
    fault = node_fault(NODE)
    if fault is None:
        return
    missing, reason = fault
    if missing is None:
        raise PlatformError(f"cannot open {NODE}", reason=reason)
    raise PrivilegeError("cannot open a TUN device", reason=reason, hint=grant(missing))


def _refused(name: str, error: OSError) -> IkeclientError:
    message = f"cannot create the network interface {name}"
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return _not_permitted(name, message)
        case errno.EBUSY:
            return PlatformError(message, reason="another process is using it")
        case errno.ENOSYS:
            reason = "a seccomp filter forbids the ioctl TUNSETIFF"
            return PrivilegeError(message, reason=reason, hint=grant(Missing.FILTER))
        case errno.EINVAL if _exists(name):
            return PlatformError(message, reason="it exists and is no TUN device, or one of several queues")
        case _:
            reason = error.strerror or str(error.args[0] if error.args else error)
            return PlatformError(
                message,
                reason=reason,
                hint="a name has at most 15 characters, no slash and no space, and may end in %d",
            )


def _not_permitted(name: str, message: str) -> PrivilegeError:
    if has_net_admin():
        reason = "a seccomp filter or a security module forbids TUNSETIFF, although CAP_NET_ADMIN is there"
        return PrivilegeError(message, reason=reason, hint=grant(Missing.FILTER))
    if _exists(name):
        reason = f"it exists, but was not made for user {os.geteuid()}, and the capability CAP_NET_ADMIN is missing"
        hint = f"as root: ip tuntap del {name} mode tun; ip tuntap add {name} mode tun user {os.geteuid()}"
        return PrivilegeError(message, reason=reason, hint=hint)
    reason = "the capability CAP_NET_ADMIN is missing"
    return PrivilegeError(message, reason=reason, hint=grant(Missing.NET_ADMIN))


def _exists(name: str) -> bool:
    try:
        return bool(socket.if_nametoindex(name))
    except OSError:
        return False
