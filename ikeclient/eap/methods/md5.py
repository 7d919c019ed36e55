"""EAP-MD5, the peer's side (RFC 3748 section 5.4, RFC 1994 section 4): CHAP without proof of the gateway or a key.

offset  0             1..             1 + Value-Size..
        Value-Size    Value           Name
"""

from __future__ import annotations

from ikeclient.crypto.algorithms.legacy import md5
from ikeclient.eap.method import NeedCredential, Remark, breach, password_prompt, refused
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType


class Md5Challenge(Remark):
    """One EAP-MD5 conversation: one challenge, one answer."""

    def __init__(self, user: str, password: str | None) -> None:
        self.type = EapType.MD5_CHALLENGE
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self._user = user
        self._password = password

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        self._password = password

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        return None

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:
        """See `Method.respond`."""
        if self.done:
            raise refused(self._user, "EAP-MD5: a second challenge came instead of Success or Failure")
        size = data[0] if data else 0
        if not 0 < size < len(data):
            raise breach(f"an EAP-MD5 challenge of {size} bytes in a request of {len(data)}")
        if self._password is None:
            return NeedCredential(kind="password", prompt=password_prompt(self._user))
        value = md5(bytes([identifier]) + self._password.encode() + data[1 : 1 + size])
        self.done = True
        return bytes([len(value)]) + value + self._user.encode()
