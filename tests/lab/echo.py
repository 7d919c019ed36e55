"""Echo requests, run as a program in a machine of the lab: print how many of them were answered.

`ping` waits for the last answers no longer than two round trips once it has had one, whatever it is told. On a busy
machine that is a tenth of a second, and answers that come are counted as lost. Here each one has its time.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from ipaddress import ip_address

_MTU_DISCOVER, _MTU_DISCOVER_IPV6, _DO = 10, 23, 2  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, *_PMTUDISC_DO
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_HEADER = 8


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _open(version: int, *, octet: int, hops: int, whole: bool) -> socket.socket:
    if version == 4:
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        level, options = socket.IPPROTO_IP, (socket.IP_TOS, socket.IP_TTL, _MTU_DISCOVER)
    else:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        level = socket.IPPROTO_IPV6
        options = (socket.IPV6_TCLASS, socket.IPV6_UNICAST_HOPS, _MTU_DISCOVER_IPV6)
    for option, value, wanted in zip(options, (octet, hops, _DO), (octet, hops, whole), strict=True):
        if wanted:
            opened.setsockopt(level, option, value)
    return opened


class Echo:
    """One address that is asked; `answered` are the sequence numbers of its answers."""

    def __init__(self, address: str, size: int, *, octet: int, hops: int, whole: bool) -> None:
        self.answered: set[int] = set()
        self._address = ip_address(address)
        self._version = self._address.version
        self._identifier = os.getpid() & 0xFFFF
        self._data = os.urandom(size)
        self._socket = _open(self._version, octet=octet, hops=hops, whole=whole)

    def ask(self, sequence: int) -> None:
        """Send one request; what this machine refuses to send is not answered."""
        begin = struct.pack(">BB", _REQUEST[self._version], 0)
        end = struct.pack(">HH", self._identifier, sequence) + self._data
        checksum = _checksum(begin + bytes(2) + end) if self._version == 4 else 0  # the kernel does it for IPv6
        try:
            self._socket.sendto(begin + struct.pack(">H", checksum) + end, (str(self._address), 0))
        except OSError as error:
            print(error, file=sys.stderr)

    def listen(self, until: float, enough: int) -> None:
        """Take answers until then, or until there are enough."""
        while len(self.answered) < enough and (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                packet, source = self._socket.recvfrom(65535)
            except TimeoutError:
                return
            message = packet[(packet[0] & 15) * 4 :] if self._version == 4 else packet
            sender = ip_address(source[0].partition("%")[0])
            if sender != self._address or len(message) < _HEADER or message[0] != _REPLY[self._version]:
                continue
            identifier, sequence = struct.unpack_from(">HH", message, 4)
            if identifier == self._identifier and message[_HEADER:] == self._data:
                self.answered.add(sequence)


def main() -> None:
    """Do what the argument says, which `traffic.ping` makes."""
    wanted = json.loads(sys.argv[1])
    count = wanted.pop("count")
    interval, timeout = wanted.pop("interval"), wanted.pop("timeout")
    echo = Echo(**wanted)
    for sequence in range(1, count + 1):
        began = time.monotonic()
        echo.ask(sequence)
        last = sequence == count
        echo.listen(began + (timeout if last else interval), enough=count)
        if not last:
            time.sleep(max(0.0, began + interval - time.monotonic()))
    print(len(echo.answered))


if __name__ == "__main__":
    main()
