"""TLS messages in fragments, as EAP-TLS, TTLS and PEAP carry them (RFC 5216 section 3.1, RFC 5281 section 9.2).

    offset  0       1            1 or 5
            Flags   TLS length   TLS data
                    (with L)

Flags are L (a length follows), M (more fragments follow) and S (start); the lowest three bits are the method's version,
zero for all of ours. Each fragment is acknowledged with an empty one. The server has proven nothing while its first
messages arrive, so everything is bounded (hardening E12).
"""

from __future__ import annotations

from ikeclient.eap.method import breach

LENGTH, MORE, START = 0x80, 0x40, 0x20
MAX_MESSAGE = 64 * 1024
MAX_FRAGMENTS = 64
FRAGMENT = 1024  # bytes of TLS data in one packet of ours; RADIUS carries at most 4096 in all
ACKNOWLEDGEMENT = b"\x00"


def is_start(data: bytes) -> bool:
    """Return whether this is the packet that starts a method."""
    return bool(data) and bool(data[0] & START)


class Fragments:
    """Both directions of one conversation: a message is put together, or taken apart, one at a time."""

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._total: int | None = None
        self._count = 0
        self._outgoing: list[bytes] = []

    @property
    def sending(self) -> bool:
        """Whether fragments of ours are left, each to be sent when the one before is acknowledged."""
        return bool(self._outgoing)

    def take(self, data: bytes) -> bytes | None:
        """Add a fragment; return the whole message, None while more is to come. Raises NegotiationRefused."""
        if not data:
            raise breach("a packet without flags where TLS data belongs")
        flags, body = data[0], data[1:]
        if flags & START:
            raise breach("a second start of a TLS-based method")
        if flags & LENGTH:
            if len(body) < 4:
                raise breach("a TLS fragment that is shorter than its header")
            total, body = int.from_bytes(body[:4], "big"), body[4:]
            if total > MAX_MESSAGE or self._total not in (None, total):
                raise breach(f"a TLS message of {total} bytes")
            if self._count and self._total is None:
                raise breach("a length in the middle of a TLS message")
            self._total = total
        elif flags & MORE and not self._count:
            raise breach("a first fragment without the length of the TLS message")
        self._count += 1
        self._incoming += body
        limit = MAX_MESSAGE if self._total is None else self._total
        if self._count > MAX_FRAGMENTS or len(self._incoming) > limit or (flags & MORE and not body):
            raise breach(f"{self._count} fragments with {len(self._incoming)} bytes for a TLS message of {limit}")
        if flags & MORE:
            return None
        if self._total not in (None, len(self._incoming)):
            raise breach(f"a TLS message of {len(self._incoming)} bytes that claims {self._total}")
        message = bytes(self._incoming)
        self._incoming.clear()
        self._total, self._count = None, 0
        return message

    def put(self, message: bytes) -> bytes:
        """Take a message apart and return the type data of its first packet; the empty message acknowledges."""
        parts = [message[at : at + FRAGMENT] for at in range(0, len(message), FRAGMENT)]
        if len(parts) <= 1:
            return ACKNOWLEDGEMENT + message
        self._outgoing = [bytes([MORE]) + part for part in parts[1:-1]] + [ACKNOWLEDGEMENT + parts[-1]]
        return bytes([LENGTH | MORE]) + len(message).to_bytes(4, "big") + parts[0]

    def next(self, acknowledgement: bytes) -> bytes:
        """Return the next fragment after an acknowledgement. Raises NegotiationRefused if it is none."""
        if len(acknowledgement) != 1 or acknowledgement[0] & (LENGTH | MORE | START):
            raise breach("something else than the acknowledgement of a TLS fragment")
        return self._outgoing.pop(0)
