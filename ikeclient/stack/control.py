"""ICMP of one host: it answers echo requests, pings, and tells senders what nothing here takes."""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.stack.interfaces import Entropy, Sends
from ikeclient.stack.ip import icmp
from ikeclient.stack.ip.fragment import fragments
from ikeclient.stack.ip.path_mtu import PathMtus
from ikeclient.stack.ping import Pings
from ikeclient.stack.ready import Packets

_ERRORS, _BURST = 100.0, 50.0  # errors of ours a second, and at once (RFC 4443 section 2.4 (f))


class Control:
    """Sends what the host itself has to say; `pings` are echo requests of ours."""

    def __init__(self, entropy: Entropy, ready: Callable[[Sends], None], mtus: PathMtus) -> None:
        self.pings = Pings(self._send, entropy)
        self._entropy = entropy
        self._packets = Packets(ready)
        self._mtus = mtus
        self._allowed = _BURST
        self._refilled = self._now = 0.0

    def refuse(self, packet: memoryview, source: bytes, destination: bytes, now: float, *, port: bool) -> None:
        """Tell `source` that no port here, or else no protocol, takes its packet to `destination`; not too often."""
        self._allowed = min(_BURST, self._allowed + (now - self._refilled) * _ERRORS)
        self._refilled = self._now = now
        if self._allowed >= 1:
            self._allowed -= 1
            self._send(icmp.unreachable(packet, destination, source, port=port))

    def take(
        self, message: memoryview, source: bytes, destination: bytes, tos: int, now: float
    ) -> icmp.IcmpError | None:
        """Take a message whose checksum is right; returns the error that it is, if it is one."""
        self._now = now
        version = 4 if len(source) == 4 else 6
        if icmp.is_echo(version, message):
            number = int.from_bytes(self._entropy(2), "big")
            self._send(icmp.echo_reply(destination, source, message, tos, number))
        elif (reply := icmp.read_reply(version, message)) is not None:
            self.pings.answered(source, reply, message[8:], now)
        else:
            return icmp.read_error(version, message)
        return None

    def _send(self, packet: bytes) -> bool:
        """Send a packet, in fragments if it is too long."""
        remote = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
        limit = self._mtus.mtu(remote, self._now)
        number = int.from_bytes(self._entropy(4), "big") if len(packet) > limit else 0
        return self._packets.send(*fragments(packet, limit, number))
