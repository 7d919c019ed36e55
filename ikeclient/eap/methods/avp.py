"""The attributes inside of EAP-TTLS (RFC 5281 section 10): Diameter's, with RADIUS' numbers.

offset  0      4       5        8              8 or 12
        Code   Flags   Length   Vendor (V)     Value, padded to a multiple of four
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from ikeclient.eap.method import breach
from ikeclient.lazy_dataclass import dataclass

USER_NAME, USER_PASSWORD, REPLY_MESSAGE, EAP_MESSAGE = 1, 2, 18, 79
MICROSOFT = 311
MS_CHAP_ERROR, MS_CHAP_CHALLENGE, MS_CHAP2_RESPONSE, MS_CHAP2_SUCCESS = 2, 11, 25, 26
_VENDOR, _MANDATORY = 0x80, 0x40
_HEADER, _VENDOR_LENGTH = 8, 4
MAX_AVPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Avp:
    """One attribute; `vendor` 0 is none. `value` may be a password."""

    code: int
    value: bytes = field(repr=False)
    vendor: int = 0
    mandatory: bool = True

    def emit(self) -> bytes:
        """The attribute's bytes, padded."""
        vendor = self.vendor.to_bytes(_VENDOR_LENGTH, "big") if self.vendor else b""
        flags = (_VENDOR if self.vendor else 0) | (_MANDATORY if self.mandatory else 0)
        length = _HEADER + len(vendor) + len(self.value)
        head = self.code.to_bytes(4, "big") + bytes([flags]) + length.to_bytes(3, "big")
        return head + vendor + self.value + bytes(-length % 4)


def parse(data: bytes) -> Iterator[Avp]:
    """Read attributes to the end of `data`. Raises NegotiationRefused for one that does not fit (hardening E11)."""
    count = 0
    while data:
        count += 1
        if len(data) < _HEADER or count > MAX_AVPS:
            raise breach("attributes in EAP-TTLS that have no end")
        flags, length = data[4], int.from_bytes(data[5:8], "big")
        start = _HEADER + (_VENDOR_LENGTH if flags & _VENDOR else 0)
        if not start <= length <= len(data):
            raise breach(f"an attribute of {length} bytes in EAP-TTLS, where {len(data)} are left")
        yield Avp(
            code=int.from_bytes(data[:4], "big"),
            vendor=int.from_bytes(data[_HEADER:start], "big"),
            value=data[start:length],
            mandatory=bool(flags & _MANDATORY),
        )
        data = data[length + -length % 4 :]
