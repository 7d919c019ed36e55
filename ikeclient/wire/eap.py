"""EAP packets (RFC 3748 section 4), as the EAP payload of IKEv2 carries them (RFC 7296 section 3.16).

An EAP packet inside IKE_AUTH is integrity protected, so one that does not have its structure means a broken or hostile
gateway, not a damaged datagram. That is why trailing bytes are an error here although RFC 3748 lets them be padding:
RFC 7296 ties the EAP length to the payload length.
"""

from __future__ import annotations

from dataclasses import field
from typing import Self

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EapCode, EapType

_HEADER = 4
_EXPANDED_HEADER = 7  # Vendor-Id and Vendor-Type (RFC 3748 section 5.7)
_MAX_LENGTH = 0xFFFF
_TYPED = (EapCode.REQUEST, EapCode.RESPONSE)
_CODES = (*_TYPED, EapCode.SUCCESS, EapCode.FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EapPacket:
    """RFC 3748 section 4. `type` and `data` belong to requests and responses; success and failure have neither.

    An instance is always legal on the wire: anything else raises ValueError. `data` is kept out of the repr because a
    response may carry a password.
    """

    code: EapCode
    identifier: int
    type: EapType | None = None
    data: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if fault := self._fault():
            raise ValueError(fault)

    def _fault(self) -> str | None:
        if self.code not in _CODES:
            return f"EAP code {int(self.code)} does not exist"
        if not 0 <= self.identifier <= 0xFF:
            return f"an EAP identifier of {self.identifier}"
        if self.code not in _TYPED:
            return f"an EAP {self.code} with data" if self.type is not None or self.data else None
        if not self.type or not 0 < self.type <= 0xFF:
            return f"an EAP {self.code} without a type"
        if self.type == EapType.EXPANDED and len(self.data) < _EXPANDED_HEADER:
            return f"an expanded EAP type of {len(self.data)} bytes"
        if _HEADER + 1 + len(self.data) > _MAX_LENGTH:
            return f"an EAP packet of {_HEADER + 1 + len(self.data)} bytes"
        return None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read exactly one packet. Raises ParseError unless `data` is that packet, whole and with nothing after it."""
        if len(data) < _HEADER:
            raise ParseError(f"an EAP packet of {len(data)} bytes")
        length = int.from_bytes(data[2:4], "big")
        if length != len(data):
            raise ParseError(f"an EAP length of {length} in a payload of {len(data)} bytes")
        body = data[_HEADER:]
        code = EapCode(data[0])
        try:
            if code in _TYPED:
                return cls(code=code, identifier=data[1], type=EapType(body[0]) if body else None, data=body[1:])
            return cls(code=code, identifier=data[1], data=body)
        except ValueError as fault:
            raise ParseError(str(fault)) from None

    def emit(self) -> bytes:
        """The packet's bytes."""
        body = b"" if self.type is None else bytes([self.type]) + self.data
        return bytes([self.code, self.identifier]) + (_HEADER + len(body)).to_bytes(2, "big") + body
