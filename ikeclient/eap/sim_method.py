"""What EAP-SIM, AKA and AKA' share: identities, protected messages, fast re-authentication, notifications.

Three things prove the network: the card accepts its AUTN (not with EAP-SIM), AT_MAC shows that it has the card's keys,
and AT_CHECKCODE that nobody changed the talk about identities. Names that the server gave us are kept in `SimMemory`
only after AT_MAC was right. Whatever is wrong is answered once, with Client-Error or Authentication-Reject, and the
conversation is then lost (RFC 4186 section 6.3, RFC 4187 section 6.3, hardening E10).
"""

from __future__ import annotations

import hashlib
import hmac

from ikeclient.crypto.algorithms.sim_keys import MAC_LENGTH, SimKeys
from ikeclient.eap.credentials import FastReauthentication, SimCredentials
from ikeclient.eap.method import Login, NeedCredential, Remark, method_name, quoted
from ikeclient.eap.sim_attributes import (
    At,
    Attributes,
    Malformed,
    counted,
    fixed,
    message,
    numbered,
    padded,
    parse,
    split,
)
from ikeclient.eap.usim import UsimAnswer, ask_card, read_answer
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType

NOTIFICATION, REAUTHENTICATION, CLIENT_ERROR = 12, 13, 14
UNABLE_TO_PROCESS = 0
_SUCCESS, _BEFORE_KEYS = 0x8000, 0x4000  # bits of AT_NOTIFICATION
_IDENTITY_REQUESTS = (At.ANY_ID_REQ, At.FULLAUTH_ID_REQ, At.PERMANENT_ID_REQ)  # each at most once, in this order
_MAX_IDENTITY = 256

# RFC 4186 section 10.18: what the server says, and what a person can do about it.
_NOTIFICATIONS: dict[int, tuple[str, str]] = {
    1026: ("the network denies {user} access for now", "try again later, or ask the operator"),
    1031: ("{user} has not subscribed to this service", "ask the operator"),
}


class SimMethod(Remark):
    """One conversation with any of the three. A method overrides `_on_message` and calls what is here."""

    def __init__(self, type_: EapType, login: Login) -> None:
        if login.sim is None:
            raise ValueError("a method with a card needs its credentials")
        self.type = type_
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self._login = login
        self._identity = login.said.encode()  # what the keys are bound to
        self._packets = b""  # the talk about identities, for AT_CHECKCODE
        self._asked = -1  # the last of _IDENTITY_REQUESTS
        self._keys: SimKeys | None = None
        self._counter: int | None = None  # of a fast re-authentication
        self._pending: bytes | None = None  # the MSK, until the server confirms the result
        self._card_answer: str | None = None

    @property
    def _sim(self) -> SimCredentials:
        assert self._login.sim is not None
        return self._login.sim

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        self._card_answer = password

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        return None

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:
        """See `Method.respond`."""
        try:
            subtype, rest = split(data)
            attributes = parse(rest)
            if subtype == NOTIFICATION:
                return self._on_notification(data, attributes, identifier)
            if self.refusal is not None:
                raise self.refusal
            if self.done or self._pending is not None:
                raise Malformed("a request after the end")
            if subtype == REAUTHENTICATION:
                return self._on_reauthentication(data, attributes, identifier)
            return self._on_message(subtype, data, attributes, identifier)
        except Malformed as error:
            return self._client_error(str(error))

    def _on_message(self, subtype: int, data: bytes, attributes: Attributes, identifier: int) -> bytes | NeedCredential:
        """Answer a message that not all methods have. Raises Malformed."""
        raise NotImplementedError

    # Failures

    def _client_error(self, reason: str) -> bytes:
        self._fail(
            AuthenticationFailed(
                "the authentication server broke the protocol",
                reason=f"{method_name(self.type)}: {reason}",
                hint="if it is the right server, the keys of the card and the server's may differ: ask the operator",
            )
        )
        return message(CLIENT_ERROR, numbered(At.CLIENT_ERROR_CODE, UNABLE_TO_PROCESS))

    def _fail(self, error: AuthenticationFailed) -> None:
        self.done, self.msk, self._pending = False, None, None
        self.refusal = self.refusal or error

    # The card

    def _ask_card(self, request: str) -> UsimAnswer | NeedCredential:
        """The card's answer, or the need for it. Raises AuthenticationFailed for an answer that is none."""
        if self._sim.keys is not None:
            return ask_card(self._sim.keys, self._sim.memory, request)
        answer, self._card_answer = self._card_answer, None
        if answer is None:
            return NeedCredential(kind="usim", prompt=request)
        try:
            return read_answer(request, answer)
        except ValueError as error:
            raise AuthenticationFailed(
                "the source of the card's answers gave none that can be used",
                reason=str(error),
                hint="see auth.sim in docs/profile.md for what the command has to print",
            ) from None

    # Identities

    def _identify(self, attributes: Attributes) -> bytes:
        """AT_IDENTITY for what the server asks for, b"" if for nothing. Raises Malformed."""
        wanted = [at for at, kind in enumerate(_IDENTITY_REQUESTS) if kind in attributes]
        if not wanted:
            return b""
        if len(wanted) > 1 or wanted[0] <= self._asked:
            raise Malformed("identity requests out of order")
        self._asked = wanted[0]
        memory, kind = self._sim.memory, _IDENTITY_REQUESTS[wanted[0]]
        pseudonym = memory.pseudonyms.get(self.type)
        match kind:
            case At.ANY_ID_REQ:
                said = memory.name(self.type) or self._login.user
            case At.FULLAUTH_ID_REQ:
                said = pseudonym or self._login.user
            case _:
                if pseudonym is not None and self._sim.private:
                    raise Malformed("it asks for the permanent identity although it gave us a pseudonym")
                said = self._login.user
        self._identity = said.encode()
        return counted(At.IDENTITY, self._identity)

    def _keep_packets(self, data: bytes, answer: bytes, identifier: int) -> bytes:
        """Note a round about identities for AT_CHECKCODE; returns the answer."""
        self._packets += self._packet(EapCode.REQUEST, identifier, data)
        self._packets += self._packet(EapCode.RESPONSE, identifier, answer)
        return answer

    def _packet(self, code: EapCode, identifier: int, data: bytes) -> bytes:
        return EapPacket(code=code, identifier=identifier, type=self.type, data=data).emit()

    # Protection

    def _verify(self, keys: SimKeys, data: bytes, attributes: Attributes, identifier: int, extra: bytes = b"") -> None:
        """Check AT_MAC and AT_CHECKCODE. Raises Malformed."""
        given = attributes.fixed(At.MAC)
        assert attributes.mac_at is not None
        at = 3 + attributes.mac_at  # behind subtype and reserved bytes
        packet = self._packet(EapCode.REQUEST, identifier, data[:at] + bytes(MAC_LENGTH) + data[at + MAC_LENGTH :])
        if not hmac.compare_digest(given, keys.mac(packet + extra)):
            raise Malformed("AT_MAC is wrong")
        if At.CHECKCODE in attributes and not hmac.compare_digest(attributes.fixed(At.CHECKCODE), self._checkcode()):
            raise Malformed("AT_CHECKCODE is wrong: the talk about identities was changed on its way")

    def _checkcode(self) -> bytes:
        if not self._packets:
            return b""
        name = "sha256" if self.type == EapType.AKA_PRIME else "sha1"
        return hashlib.new(name, self._packets, usedforsecurity=False).digest()

    def _sealed(self, keys: SimKeys, subtype: int, identifier: int, *attributes: bytes, extra: bytes = b"") -> bytes:
        """A message with AT_MAC at its end."""
        plain = message(subtype, *attributes, fixed(At.MAC, bytes(MAC_LENGTH)))
        mac = keys.mac(self._packet(EapCode.RESPONSE, identifier, plain) + extra)
        return plain[:-MAC_LENGTH] + mac

    def _echoes(self, attributes: Attributes) -> list[bytes]:
        """The attributes that are said back when the server said them."""
        found = [fixed(At.CHECKCODE, self._checkcode())] if At.CHECKCODE in attributes else []
        return found + ([fixed(At.RESULT_IND)] if At.RESULT_IND in attributes else [])

    def _hidden(self, keys: SimKeys, attributes: Attributes) -> Attributes:
        """What AT_ENCR_DATA holds. Raises Malformed."""
        if At.ENCR_DATA not in attributes:
            return Attributes(values={})
        data = attributes.fixed(At.ENCR_DATA)
        if len(data) % 16:
            raise Malformed("AT_ENCR_DATA that is not of whole blocks")
        return parse(keys.decrypt(attributes.fixed(At.IV), data))

    def _hide(self, keys: SimKeys, *attributes: bytes) -> tuple[bytes, bytes]:
        iv = self._login.entropy(16)
        return fixed(At.IV, iv), fixed(At.ENCR_DATA, keys.encrypt(iv, padded(*attributes)))

    # Outcomes

    def _accept(self, keys: SimKeys, msk: bytes, attributes: Attributes, hidden: Attributes, counter: int) -> None:
        """Take a verified challenge: keep what it says for the next time, and the keys."""
        self._keys = keys
        memory = self._sim.memory
        if counter == 0:  # a full authentication ends what followed from the one before
            memory.reauthentications.pop(self.type, None)
        if name := self._name(hidden, At.NEXT_PSEUDONYM):
            _, separator, realm = self._login.user.rpartition("@")
            memory.pseudonyms[self.type] = name + (f"@{realm}" if separator else "")
        if name := self._name(hidden, At.NEXT_REAUTH_ID):
            memory.reauthentications[self.type] = FastReauthentication(identity=name, keys=keys, counter=counter)
        if At.RESULT_IND in attributes:
            self._pending = msk
        else:
            self.msk, self.done = msk, True

    def _name(self, hidden: Attributes, kind: At) -> str:
        if kind not in hidden:
            return ""
        try:
            name = hidden.counted(kind).decode()
        except UnicodeDecodeError:
            raise Malformed(f"an AT_{kind.name} that is not UTF-8") from None
        if not 0 < len(name) <= _MAX_IDENTITY or not name.isprintable():
            raise Malformed(f"an AT_{kind.name} that cannot be a name")
        return name

    def _on_reauthentication(self, data: bytes, attributes: Attributes, identifier: int) -> bytes:
        memory = self._sim.memory
        fast = memory.reauthentications.get(self.type)
        if fast is None or fast.identity.encode() != self._identity:
            raise Malformed("a fast re-authentication that nothing was agreed on for")
        keys = fast.keys
        self._verify(keys, data, attributes, identifier)
        hidden = self._hidden(keys, attributes)
        counter, nonce = hidden.number(At.COUNTER), hidden.fixed(At.NONCE_S)
        del memory.reauthentications[self.type]  # a name for one time
        told = [numbered(At.COUNTER, counter)]
        if counter <= fast.counter:
            told.append(fixed(At.COUNTER_TOO_SMALL))
            self._identity = (memory.pseudonyms.get(self.type) or self._login.user).encode()
        else:
            self._counter = counter
            self._accept(keys, keys.fast_msk(self._identity, counter, nonce), attributes, hidden, counter)
        echoes = self._echoes(attributes)
        return self._sealed(keys, REAUTHENTICATION, identifier, *self._hide(keys, *told), *echoes, extra=nonce)

    def _on_notification(self, data: bytes, attributes: Attributes, identifier: int) -> bytes:
        code = attributes.number(At.NOTIFICATION)
        if code & _BEFORE_KEYS:
            if self._keys is not None:
                raise Malformed("a notification from before the authentication")
            answer = message(NOTIFICATION)
        else:
            answer = self._protected_notification(data, attributes, identifier)
        if not code & _SUCCESS:
            what, hint = _NOTIFICATIONS.get(
                code, ("the authentication server refuses {user}", "check auth.user, or ask the operator")
            )
            user = quoted(self._login.user)
            self._fail(
                AuthenticationFailed(
                    what.format(user=user), reason=f"{method_name(self.type)}: notification {code}", hint=hint
                )
            )
        elif self._pending is not None and self.refusal is None:
            self.msk, self.done, self._pending = self._pending, True, None
        return answer

    def _protected_notification(self, data: bytes, attributes: Attributes, identifier: int) -> bytes:
        if self._keys is None:
            raise Malformed("a notification from after the authentication")
        self._verify(self._keys, data, attributes, identifier)
        if self._counter is None:
            return self._sealed(self._keys, NOTIFICATION, identifier)
        if self._hidden(self._keys, attributes).number(At.COUNTER) != self._counter:
            raise Malformed("a notification of another re-authentication")
        hidden = self._hide(self._keys, numbered(At.COUNTER, self._counter))
        return self._sealed(self._keys, NOTIFICATION, identifier, *hidden)
