"""The attributes of EAP-SIM, AKA and AKA' (RFC 4186 section 8.1, RFC 4187 section 8.1).

    offset  0      1                    2..
            Type   Length in 4 bytes    Value

Types up to 127 must be understood, others may be skipped. Everything is bounded by the packet and each attribute may
stand once, but AT_KDF (hardening E10), as CVE-2026-35330 was about attributes of length zero.
"""

from __future__ import annotations

from dataclasses import field
from enum import IntEnum

from ikeclient.lazy_dataclass import dataclass


class At(IntEnum):
    """The attributes that we know."""

    RAND = 1
    AUTN = 2
    RES = 3
    AUTS = 4
    PADDING = 6
    NONCE_MT = 7
    PERMANENT_ID_REQ = 10
    MAC = 11
    NOTIFICATION = 12
    ANY_ID_REQ = 13
    IDENTITY = 14
    VERSION_LIST = 15
    SELECTED_VERSION = 16
    FULLAUTH_ID_REQ = 17
    COUNTER = 19
    COUNTER_TOO_SMALL = 20
    NONCE_S = 21
    CLIENT_ERROR_CODE = 22
    KDF_INPUT = 23
    KDF = 24
    IV = 129
    ENCR_DATA = 130
    NEXT_PSEUDONYM = 132
    NEXT_REAUTH_ID = 133
    CHECKCODE = 134
    RESULT_IND = 135
    BIDDING = 136


_SKIPPABLE = 128
_HEADER = 3  # of a message: subtype and two reserved bytes
_KNOWN = frozenset(At)
_BLOCK = 16
# The length of a value with its two reserved bytes, for those that have one.
_LENGTHS: dict[At, tuple[int, ...]] = {
    At.AUTN: (18,),
    At.MAC: (18,),
    At.NOTIFICATION: (2,),
    At.COUNTER: (2,),
    At.COUNTER_TOO_SMALL: (2,),
    At.NONCE_S: (18,),
    At.KDF: (2,),
    At.IV: (18,),
    At.CHECKCODE: (2, 22, 34),
    At.RESULT_IND: (2,),
    At.BIDDING: (2,),
    At.PERMANENT_ID_REQ: (2,),
    At.ANY_ID_REQ: (2,),
    At.FULLAUTH_ID_REQ: (2,),
}


class Malformed(ValueError):
    """A message that has to be answered with Client-Error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """The attributes of one message; `kdfs` are the values of AT_KDF in their order."""

    values: dict[At, bytes] = field(repr=False)
    kdfs: tuple[int, ...] = ()
    mac_at: int | None = None  # where the value of AT_MAC begins in what was parsed

    def __contains__(self, kind: At) -> bool:
        return kind in self.values

    def fixed(self, kind: At) -> bytes:
        """A value without its two reserved bytes. Raises Malformed if it is missing."""
        if kind not in self.values:
            raise Malformed(f"no AT_{kind.name}")
        return self.values[kind][2:]

    def number(self, kind: At) -> int:
        """A value that is a number. Raises Malformed."""
        if kind not in self.values:
            raise Malformed(f"no AT_{kind.name}")
        return int.from_bytes(self.values[kind], "big")

    def counted(self, kind: At) -> bytes:
        """A value that begins with its length in bytes. Raises Malformed."""
        if kind not in self.values:
            raise Malformed(f"no AT_{kind.name}")
        length, value = int.from_bytes(self.values[kind][:2], "big"), self.values[kind][2:]
        if length > len(value) or len(value) - length > 3 or any(value[length:]):
            raise Malformed(f"an AT_{kind.name} of {len(value)} bytes that claims {length}")
        return value[:length]


def parse(data: bytes) -> Attributes:
    """Read the attributes of a message, or of what AT_ENCR_DATA held. Raises Malformed."""
    values: dict[At, bytes] = {}
    kdfs: list[int] = []
    mac_at: int | None = None
    at = 0
    while at < len(data):
        head = data[at : at + 2]
        end = at + 4 * head[-1]
        if len(head) < 2 or end == at or end > len(data):
            raise Malformed("an attribute that does not fit")
        kind, value = head[0], data[at + 2 : end]
        if kind in _KNOWN:
            known = At(kind)
            if len(value) not in _LENGTHS.get(known, (len(value),)):
                raise Malformed(f"an AT_{known.name} of {len(value)} bytes")
            if known is At.KDF:
                kdfs.append(int.from_bytes(value, "big"))
            elif known in values:
                raise Malformed(f"AT_{known.name} twice")
            else:
                values[known] = value
            if known is At.MAC:
                mac_at = at + 4
        elif kind < _SKIPPABLE:
            raise Malformed(f"the unknown attribute {kind}")
        at = end
    if (At.IV in values) != (At.ENCR_DATA in values):
        raise Malformed("AT_IV and AT_ENCR_DATA without each other")
    if any(values.get(At.PADDING, b"")):
        raise Malformed("AT_PADDING that is not zero")
    return Attributes(values=values, kdfs=tuple(kdfs), mac_at=mac_at)


def split(data: bytes) -> tuple[int, bytes]:
    """The subtype of a message and its attributes. Raises Malformed."""
    if len(data) < _HEADER:
        raise Malformed("a message without its header")
    return data[0], data[_HEADER:]


def message(subtype: int, *attributes: bytes) -> bytes:
    """A message of ours."""
    return bytes([subtype, 0, 0]) + b"".join(attributes)


def fixed(kind: At, value: bytes = b"") -> bytes:
    """An attribute with two reserved bytes in front of its value."""
    return _attribute(kind, bytes(2) + value)


def numbered(kind: At, value: int) -> bytes:
    """An attribute that is a number."""
    return _attribute(kind, value.to_bytes(2, "big"))


def counted(kind: At, value: bytes, *, bits: bool = False) -> bytes:
    """An attribute that begins with the length of its value, in bytes or bits, and is padded."""
    length = len(value) * 8 if bits else len(value)
    return _attribute(kind, length.to_bytes(2, "big") + value + bytes(-len(value) % 4))


def bare(kind: At, value: bytes) -> bytes:
    """An attribute that is nothing but its value."""
    return _attribute(kind, value)


def padded(*attributes: bytes) -> bytes:
    """What AT_ENCR_DATA holds: attributes, filled up to whole blocks."""
    data = b"".join(attributes)
    missing = -len(data) % _BLOCK
    return data + (_attribute(At.PADDING, bytes(missing - 2)) if missing else b"")


def _attribute(kind: At, value: bytes) -> bytes:
    return bytes([kind, (2 + len(value)) // 4]) + value
