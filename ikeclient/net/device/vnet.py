"""Large packets to and from a TUN device: the ioctls and the link attributes that pytun does not know.

With a virtio header in front of every packet the kernel can leave checksums and segmentation to us, and take merged
packets from us (Documentation/networking/tuntap.rst; linux/if_tun.h, linux/virtio_net.h). `esp.codec.choice` does the
work.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
from struct import Struct, pack, unpack

HEADER = 10

FLAG = 0x4000  # IFF_VNET_HDR

_TUNGETFEATURES = 0x800454CF
_TUNSETOFFLOAD, _TUNSETVNETHDRSZ, _TUNSETVNETLE = 0x400454D0, 0x400454D8, 0x400454DC
_CSUM, _TSO4, _TSO6, _TSO_ECN, _USO4, _USO6 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40
_STREAMS = _CSUM | _TSO4 | _TSO6 | _TSO_ECN
_DATAGRAMS = _USO4 | _USO6

# The longest super-packet: with ESP around each of its segments it still is one UDP send of at most 64 datagrams and
# 65,507 bytes.
LONGEST_BURST = 60_000
MOST_SEGMENTS = 64
_QUEUE = 1000

_RTM_NEWLINK, _REQUEST_ACK = 16, 0x05
_IFLA_TXQLEN, _IFLA_GSO_MAX_SEGS, _IFLA_GSO_MAX_SIZE = 13, 40, 41
_attribute = Struct("=HHI").pack


def known(fd: int) -> bool:
    """Whether the driver behind an opened device node, which is no interface yet, has virtio headers."""
    try:
        (features,) = unpack("=I", fcntl.ioctl(fd, _TUNGETFEATURES, bytes(4)))
    except OSError:
        return False
    return bool(features & FLAG)


def prepare(fd: int) -> bool:
    """Fix size and byte order of the header on a device opened with IFF_VNET_HDR; nothing is offloaded yet."""
    try:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, pack("=i", HEADER))
        fcntl.ioctl(fd, _TUNSETVNETLE, pack("=i", 1))
    except OSError:
        return False
    return _set(fd, 0)


def enable(fd: int) -> tuple[bool, bool]:
    """Ask the kernel for large packets: whether TCP, and whether UDP as well, will come and may be given that way."""
    if _set(fd, _STREAMS | _DATAGRAMS):
        return True, True
    return _set(fd, _STREAMS), False


def _set(fd: int, flags: int) -> bool:
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
    except OSError:
        return False
    return True


def limit_bursts(name: str) -> None:
    """Bound super-packets, and lengthen the queue; where the kernel does not want to, nothing is lost but speed."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(1)
        attributes = b"".join(
            _attribute(8, kind, value)
            for kind, value in (
                (_IFLA_TXQLEN, _QUEUE),
                (_IFLA_GSO_MAX_SEGS, MOST_SEGMENTS),
                (_IFLA_GSO_MAX_SIZE, LONGEST_BURST),
            )
        )
        body = pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0) + attributes
        netlink.send(pack("=IHHII", 16 + len(body), _RTM_NEWLINK, _REQUEST_ACK, 1, 0) + body)
        netlink.recv(4096)
