"""EAP-MSCHAPv2, the peer's side (draft-kamath-pppext-eap-mschapv2 around RFC 2759).

The gateway sends a Challenge, we answer with a Response, and it sends either a Success whose `S=` proves that it knows
the password too, or a Failure with a reason. Either is acknowledged with one byte, after which EAP itself ends the
conversation. Every attempt with a wrong password counts towards locking the account, so a gateway that invites
another try (`R=1`) does not get one, and the `C=` and `V=` that would serve it are not read.

    offset  0        1               2..3        4           5..
            OpCode   MS-CHAPv2-ID    MS-Length   Value-Size  Value, Name      Challenge, Response
            OpCode   MS-CHAPv2-ID    MS-Length   Message                      Success, Failure
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from enum import Enum, IntEnum, auto

from ikeclient.eap.method import NeedCredential, breach, quoted, refused
from ikeclient.eap.methods import mschap
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.wire.registry import EapType
from ikeclient.wire.text import printable

_HEADER = 4
_NAME_OFFSET = _HEADER + 1 + mschap.CHALLENGE_LENGTH
_MAX_MESSAGE = 4096  # of a Failure; nothing behind that is worth reading

_PROOF = re.compile(rb"S=([0-9A-Fa-f]{40})(?=[\s\0]|\Z)")
_ERROR = re.compile(rb"(?:^|\s)E=([0-9]{1,10})(?=[\s\0]|\Z)")
_TEXT = re.compile(rb"(?:^|\s)M=")

# RFC 2759 section 6: what failed, and what a person can do about it.
_REFUSALS: dict[int, tuple[str, str]] = {
    646: (
        "the gateway does not let user {user} in at this hour",
        "try again later, or ask the gateway's administrator",
    ),
    647: ("the gateway has disabled the account of user {user}", "ask the gateway's administrator"),
    648: ("the password of user {user} has expired", "change it by other means; ikeclient cannot"),
    649: ("the gateway does not allow user {user} remote access", "ask the gateway's administrator"),
    691: ("the gateway refused user {user} or the password", "check the user name and the password"),
    709: ("the password of user {user} could not be changed", "change it by other means; ikeclient cannot"),
}
_WRONG_CREDENTIALS = 691


class _OpCode(IntEnum):
    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class _State(Enum):
    START = auto()
    ANSWERED = auto()
    PROVED = auto()


class MschapV2:
    """One EAP-MSCHAPv2 conversation. `user` may be `DOMAIN\\name`; `entropy` gives the 16-byte peer challenge."""

    def __init__(self, user: str, password: str | None, entropy: Callable[[int], bytes]) -> None:
        self.type = EapType.MSCHAPV2
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self.message = ""
        self._user = user
        self._entropy = entropy
        self._password_hash = None if password is None else mschap.nt_password_hash(password)
        self._state = _State.START
        self._challenge = b""  # the challenge hash, once answered
        self._response = b""

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        self._password_hash = mschap.nt_password_hash(password)

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:  # noqa: ARG002  packets carry their own
        """See `Method.respond`."""
        if self.refusal:
            raise self.refusal
        match data[0] if data else None:
            case _OpCode.CHALLENGE:
                return self._on_challenge(data)
            case _OpCode.SUCCESS:
                return self._on_success(data)
            case _OpCode.FAILURE:
                return self._on_failure(data)
            case None:
                raise breach("an empty EAP-MSCHAPv2 packet")
            case opcode:
                raise breach(f"an EAP-MSCHAPv2 packet with operation {opcode}")

    def _on_challenge(self, data: bytes) -> bytes | NeedCredential:
        if self._state is _State.ANSWERED:
            raise refused(self._user, "EAP-MSCHAPv2: a second Challenge came instead of Success or Failure")
        if self._state is not _State.START:
            raise self._unproved("a Challenge after the Success")
        _check_length(data)
        if len(data) <= _NAME_OFFSET or data[_HEADER] != mschap.CHALLENGE_LENGTH:
            raise breach("an EAP-MSCHAPv2 Challenge needs a value of 16 bytes and a name")
        if self._password_hash is None:
            return NeedCredential(kind="password", prompt=f"Password for {quoted(self._user)}")
        peer_challenge = self._entropy(mschap.CHALLENGE_LENGTH)
        self._challenge = mschap.challenge_hash(peer_challenge, data[_HEADER + 1 : _NAME_OFFSET], self._account())
        self._response = mschap.nt_response(self._challenge, self._password_hash)
        self._state = _State.ANSWERED
        value = peer_challenge + bytes(8) + self._response + b"\0"
        body = bytes([len(value)]) + value + self._user.encode()
        return bytes([_OpCode.RESPONSE, data[1]]) + (_HEADER + len(body)).to_bytes(2, "big") + body

    def _on_success(self, data: bytes) -> bytes:
        if self._state is not _State.ANSWERED or self._password_hash is None:
            raise self._unproved("a Success that answers no Response")
        _check_length(data)
        message = data[_HEADER:]
        expected = mschap.authenticator_response(self._challenge, self._password_hash, self._response)
        proof = _PROOF.match(message)
        if proof is None:
            raise self._unproved("a Success without the gateway's proof (S=)")
        if not hmac.compare_digest(bytes.fromhex(proof[1].decode()), expected):
            raise self._unproved("the gateway's proof (S=) is wrong")
        if text := _TEXT.search(message):
            self.message = _printable_text(message[text.end() :])
        self.msk = mschap.master_session_key(self._password_hash, self._response)
        self.done = True
        self._state = _State.PROVED
        return bytes([_OpCode.SUCCESS])

    def _on_failure(self, data: bytes) -> bytes:
        self.msk = None
        self.done = False
        self.refusal = _refusal(data[_HEADER:], self._user)
        return bytes([_OpCode.FAILURE])

    def _account(self) -> bytes:
        """The user name without a domain, which is all that gets hashed (RFC 2759 section 8.2)."""
        _, separator, account = self._user.partition("\\")
        return (account if separator else self._user).encode()

    def _unproved(self, reason: str) -> GatewayNotAuthenticated:
        return GatewayNotAuthenticated(
            f"the gateway did not prove that it knows the password of user {quoted(self._user)}",
            reason=f"EAP-MSCHAPv2: {reason}",
            hint="somebody may be posing as the gateway: ask its administrator before you try again",
        )


def _check_length(data: bytes) -> None:
    claimed = int.from_bytes(data[2:_HEADER], "big")
    if len(data) < _HEADER or claimed != len(data):
        raise breach(f"an EAP-MSCHAPv2 packet of {len(data)} bytes says that it has {claimed}")


def _printable_text(text: bytes) -> str:
    return printable(text.rstrip(b"\0 "))  # strongSwan ends its text with a NUL


def _refusal(message: bytes, user: str) -> AuthenticationFailed:
    """The Message of a Failure (RFC 2759 section 6) in plain words, whatever it contains."""
    message = message[:_MAX_MESSAGE]
    text = ""
    if found := _TEXT.search(message):
        message, text = message[: found.start()], _printable_text(message[found.end() :])
    error = int(found[1]) if (found := _ERROR.search(message)) else None
    what, hint = _REFUSALS.get(error or _WRONG_CREDENTIALS, _REFUSALS[_WRONG_CREDENTIALS])
    return AuthenticationFailed(
        what.format(user=quoted(user)) + (f" (E={error})" if error is not None else ""),
        reason="EAP-MSCHAPv2 Failure" + (f": {text}" if text else ""),
        hint=hint,
    )
