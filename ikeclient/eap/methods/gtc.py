"""EAP-GTC, the peer's side (RFC 3748 section 5.6): the gateway asks a question, the answer goes back as it is.

The secret is readable by whoever ends the conversation. That is tolerable only because the gateway has proved itself
with a certificate before, and only when the profile asks for this method.
"""

from __future__ import annotations

from ikeclient.eap.method import NeedCredential, Remark
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType
from ikeclient.wire.text import printable

_MAX_QUESTION = 230  # characters


class Gtc(Remark):
    """One EAP-GTC conversation. A password answers one question; every further question goes to a person."""

    def __init__(self, password: str | None) -> None:
        self.type = EapType.GTC
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self._password = password

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        self._password = password

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        return None

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:  # noqa: ARG002  not part of the answer
        """See `Method.respond`."""
        if self._password is None:
            question = printable(data, _MAX_QUESTION)
            return NeedCredential(kind="password", prompt=f"the gateway says: {question}" if question else "Password")
        answer, self._password = self._password.encode(), None
        self.done = True
        return answer
