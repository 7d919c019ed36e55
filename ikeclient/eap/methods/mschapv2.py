"""EAP-MSCHAPv2, the peer's side (draft-kamath-pppext-eap-mschapv2 around RFC 2759).

The gateway sends a Challenge, we answer with a Response, and it sends either a Success whose `S=` proves that it knows
the password too, or a Failure with a reason. Either is acknowledged with one byte, after which EAP itself ends the
conversation. Every attempt with a wrong password counts towards locking the account, so a gateway that invites
another try (`R=1`) gets one from a person or none (hardening E9). The same holds for a new password in place of an
expired one (`E=648`). Whoever cannot ask anybody calls `decline`, and the conversation ends as if nothing had been
offered.

    offset  0        1               2..3        4           5..
            OpCode   MS-CHAPv2-ID    MS-Length   Value-Size  Value, Name      Challenge, Response
            OpCode   MS-CHAPv2-ID    MS-Length   Message                      Success, Failure
            OpCode   MS-CHAPv2-ID    MS-Length   Encrypted-Password, ...      Change-Password
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import field
from enum import Enum, IntEnum, auto

from ikeclient.eap.method import NeedCredential, Remark, breach, password_prompt, quoted, refused
from ikeclient.eap.methods import mschap
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EapType
from ikeclient.wire.text import printable

_HEADER = 4
_NAME_OFFSET = _HEADER + 1 + mschap.CHALLENGE_LENGTH
_MAX_MESSAGE = 4096  # of a Failure; nothing behind that is worth reading

_PROOF = re.compile(rb"S=([0-9A-Fa-f]{40})(?=[\s\0]|\Z)")
_CHALLENGE = re.compile(rb"(?:^|\s)C=([0-9A-Fa-f]{32})(?=[\s\0]|\Z)")
_RETRY = re.compile(rb"(?:^|\s)R=1(?=[\s\0]|\Z)")
_ERROR = re.compile(rb"(?:^|\s)E=([0-9]{1,10})(?=[\s\0]|\Z)")
_TEXT = re.compile(rb"(?:^|\s)M=")

# RFC 2759 section 6: what failed, and what a person can do about it.
_REFUSALS: dict[int, tuple[str, str]] = {
    646: (
        "the gateway does not let user {user} in at this hour",
        "try again later, or ask the gateway's administrator",
    ),
    647: ("the gateway has disabled the account of user {user}", "ask the gateway's administrator"),
    648: ("the password of user {user} has expired", "connect once on a terminal to change it, or change it elsewhere"),
    649: ("the gateway does not allow user {user} remote access", "ask the gateway's administrator"),
    691: ("the gateway refused user {user} or the password", "check the user name and the password"),
    709: (
        "the gateway did not take the new password of user {user}",
        "choose one that fits its rules for passwords, or change it elsewhere",
    ),
}
_EXPIRED = 648
_WRONG_CREDENTIALS = 691


class _OpCode(IntEnum):
    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4
    CHANGE_PASSWORD = 7


class _State(Enum):
    START = auto()
    ANSWERED = auto()
    PROVED = auto()


@dataclass(slots=True, kw_only=True)
class _SecondChance:
    """What a Failure invites to: another password, or a new one, which is asked twice."""

    change: bool
    challenge: bytes
    password: str | None = field(default=None, repr=False)
    repeated: str | None = field(default=None, repr=False)


class MschapV2(Remark):
    """One EAP-MSCHAPv2 conversation. `user` may be `DOMAIN\\name`; `entropy` gives the 16-byte peer challenge."""

    def __init__(self, user: str, password: str | None, entropy: Callable[[int], bytes]) -> None:
        self.type = EapType.MSCHAPV2
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self._user = user
        self._entropy = entropy
        self._password_hash = None if password is None else mschap.nt_password_hash(password)
        self._state = _State.START
        self._chance: _SecondChance | None = None
        self._chances = 1
        self._changed = False  # the password
        self._challenge = b""  # the challenge hash, once answered
        self._response = b""

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        chance = self._chance
        if chance is None:
            self._password_hash = mschap.nt_password_hash(password)
        elif chance.password is None:
            chance.password = password
        else:
            chance.repeated = password

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        if self._chance is None:
            return None
        self._chance, self._chances = None, 0
        return bytes([_OpCode.FAILURE])

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:  # noqa: ARG002  packets carry their own
        """See `Method.respond`."""
        if self.refusal and self._chance is None:
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
            return NeedCredential(kind="password", prompt=password_prompt(self._user))
        return self._answer(data[1], data[_HEADER + 1 : _NAME_OFFSET], self._password_hash)

    def _answer(self, number: int, challenge: bytes, password_hash: bytes) -> bytes:
        value = self._prove(challenge, password_hash) + b"\0"
        return _packet(_OpCode.RESPONSE, number, bytes([len(value)]) + value + self._user.encode())

    def _prove(self, challenge: bytes, password_hash: bytes) -> bytes:
        """Peer challenge, reserved bytes and NT response, as Response and Change-Password have them."""
        peer_challenge = self._entropy(mschap.CHALLENGE_LENGTH)
        self._challenge = mschap.challenge_hash(peer_challenge, challenge, account_of(self._user))
        self._response = mschap.nt_response(self._challenge, password_hash)
        self._state = _State.ANSWERED
        return peer_challenge + bytes(8) + self._response

    def _on_success(self, data: bytes) -> bytes:
        if self._state is not _State.ANSWERED or self._password_hash is None:
            raise self._unproved("a Success that answers no Response")
        _check_length(data)
        message = data[_HEADER:]
        expected = mschap.authenticator_response(self._challenge, self._password_hash, self._response)
        proof = proof_of(message)
        if proof is None:
            raise self._unproved("a Success without the gateway's proof (S=)")
        if not hmac.compare_digest(proof, expected):
            raise self._unproved("the gateway's proof (S=) is wrong")
        if text := _TEXT.search(message):
            self.message = _printable_text(message[text.end() :])
        if self._changed:
            self.message = "the password was changed; where the profile has it from, it is still the old one"
        self.msk = mschap.master_session_key(self._password_hash, self._response)
        self.done = True
        self._state = _State.PROVED
        return bytes([_OpCode.SUCCESS])

    def _on_failure(self, data: bytes) -> bytes | NeedCredential:
        self.msk = None
        self.done = False
        if self._chance is None:
            self.refusal = refusal_of(data[_HEADER:], self._user)
            self._chance = self._second_chance(data)
        if self._chance is None:
            return bytes([_OpCode.FAILURE])
        return self._retry(data[1], self._chance)

    def _second_chance(self, data: bytes) -> _SecondChance | None:
        """What the Failure in `data` offers, if anything is left to be offered to a person."""
        message = _without_text(data[_HEADER:][:_MAX_MESSAGE])
        challenge, error = _CHALLENGE.search(message), _error(message)
        if self._state is not _State.ANSWERED or challenge is None or not self._chances:
            return None
        if error != _EXPIRED and not (error == _WRONG_CREDENTIALS and _RETRY.search(message)):
            return None
        self._chances -= 1
        return _SecondChance(change=error == _EXPIRED, challenge=bytes.fromhex(challenge[1].decode()))

    def _retry(self, number: int, chance: _SecondChance) -> bytes | NeedCredential:
        """Ask for what is missing, then answer with it; the packet's number is one more (draft section 2)."""
        user = quoted(self._user)
        if chance.password is None:
            expired = f"The password of {user} has expired. New password"
            prompt = expired if chance.change else f"The gateway refused the password. {password_prompt(self._user)}"
            return NeedCredential(kind="password", prompt=prompt)
        number = (number + 1) & 0xFF
        new_hash = mschap.nt_password_hash(chance.password)
        if not chance.change:
            self._chance, self.refusal, self._password_hash = None, None, new_hash
            return self._answer(number, chance.challenge, new_hash)
        if chance.repeated is None:
            return NeedCredential(kind="password", prompt="New password again")
        if chance.repeated != chance.password:
            raise AuthenticationFailed("the two new passwords differ", reason="the password was not changed")
        old_hash, self._password_hash = self._password_hash, new_hash
        assert old_hash is not None
        encrypted = mschap.encrypted_password(chance.password, old_hash, self._entropy(mschap.PASSWORD_BLOCK))
        encrypted += mschap.encrypted_hash(old_hash, new_hash)
        self._chance, self.refusal, self._changed = None, None, True
        body = encrypted + self._prove(chance.challenge, new_hash) + bytes(2)
        return _packet(_OpCode.CHANGE_PASSWORD, number, body)

    def _unproved(self, reason: str) -> GatewayNotAuthenticated:
        return unproved(self._user, f"EAP-MSCHAPv2: {reason}")


def account_of(user: str) -> bytes:
    """The user name without a domain, which is all that gets hashed (RFC 2759 section 8.2)."""
    _, separator, account = user.partition("\\")
    return (account if separator else user).encode()


def proof_of(message: bytes) -> bytes | None:
    """The 20 bytes behind `S=` with which a Success begins, None if it does not."""
    found = _PROOF.match(message)
    return None if found is None else bytes.fromhex(found[1].decode())


def unproved(user: str, reason: str) -> GatewayNotAuthenticated:
    """The error for a gateway without the password that it asks us to prove (hardening E8)."""
    return GatewayNotAuthenticated(
        f"the gateway did not prove that it knows the password of user {quoted(user)}",
        reason=reason,
        hint="somebody may be posing as the gateway: ask its administrator before you try again",
    )


def refusal_of(message: bytes, user: str) -> AuthenticationFailed:
    """The Message of a Failure (RFC 2759 section 6) in plain words, whatever it contains (hardening E7)."""
    message = message[:_MAX_MESSAGE]
    found = _TEXT.search(message)
    text = _printable_text(message[found.end() :]) if found else ""
    error = _error(_without_text(message))
    what, hint = _REFUSALS.get(error or _WRONG_CREDENTIALS, _REFUSALS[_WRONG_CREDENTIALS])
    return AuthenticationFailed(
        what.format(user=quoted(user)) + (f" (E={error})" if error is not None else ""),
        reason="EAP-MSCHAPv2 Failure" + (f"; the gateway says: {text}" if text else ""),
        hint=hint,
    )


def _packet(code: _OpCode, number: int, body: bytes) -> bytes:
    return bytes([code, number]) + (_HEADER + len(body)).to_bytes(2, "big") + body


def _check_length(data: bytes) -> None:
    claimed = int.from_bytes(data[2:_HEADER], "big")
    if len(data) < _HEADER or claimed != len(data):
        raise breach(f"an EAP-MSCHAPv2 packet of {len(data)} bytes says that it has {claimed}")


def _printable_text(text: bytes) -> str:
    return printable(text.rstrip(b"\0 "))  # strongSwan ends its text with a NUL


def _without_text(message: bytes) -> bytes:
    """What a machine is meant to read of a Failure's Message."""
    found = _TEXT.search(message)
    return message[: found.start()] if found else message


def _error(message: bytes) -> int | None:
    found = _ERROR.search(message)
    return int(found[1]) if found else None
