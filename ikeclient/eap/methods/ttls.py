"""EAP-TTLS version 0, the peer's side (RFC 5281; RFC 9427 with TLS 1.3): a login inside of TLS.

The server shows a certificate, and then we log in as the profile's `inner` says: with PAP, with MSCHAPv2 whose
challenge both ends take from the TLS session, or with EAP. We speak first. TTLS has no indication of success of its own
inside: an EAP Success counts once the login inside has nothing against it.
"""

from __future__ import annotations

import hmac

from ikeclient.crypto.tls import TlsClient
from ikeclient.eap.method import InnerPeer, Login, NeedCredential, breach, password_prompt
from ikeclient.eap.methods import avp, mschap
from ikeclient.eap.methods.avp import Avp
from ikeclient.eap.methods.inner import INNER_EAP
from ikeclient.eap.methods.mschapv2 import account_of, proof_of, refusal_of, unproved
from ikeclient.eap.tls_method import MSK_LENGTH, TlsMethod
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType
from ikeclient.wire.text import printable

_CHALLENGE_LABEL = "ttls challenge"  # RFC 5281 section 11.1; the same with TLS 1.3
_IDENTITY_REQUEST = EapPacket(code=EapCode.REQUEST, identifier=0, type=EapType.IDENTITY).emit()
_COMMITMENT = b"\x00"  # some servers say it as EAP-TLS does
_BLOCK = 16


class Ttls(TlsMethod):
    """One EAP-TTLS conversation."""

    def __init__(self, login: Login) -> None:
        super().__init__(EapType.TTLS, "ttls keying material", login)
        self._inner = self._credentials.inner or "mschapv2"
        self._password = login.password
        self._peer: InnerPeer | None = None
        self._begun = False
        self._confirmed = False  # by the server's proof for MSCHAPv2
        self._proof = b""  # what the server has to answer to MSCHAPv2

    @property
    def accepted(self) -> bool:
        """See `TlsMethod`; only a method that proves both sides inside tells so."""
        return self.done and (self._confirmed or (self._peer is not None and self._peer.confirmed))

    def supply(self, password: str) -> None:
        """See `Method.supply`."""
        if self._peer is not None:
            self._answered(self._wrapped(self._peer.supply(password)))
            return
        self._password = password
        assert self._tls is not None
        self._answered(self._first(self._tls))

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        answer = self._peer.decline() if self._peer is not None else None
        if answer is None or self._tls is None:
            return None
        self._unanswered = None
        return self._sealed(self._tls, Avp(code=avp.EAP_MESSAGE, value=answer).emit())

    def _react(self, tls: TlsClient, said: bytes, identifier: int) -> bytes | NeedCredential:  # noqa: ARG002
        if not self._begun:
            if said not in (b"", _COMMITMENT):
                raise breach("data inside of EAP-TTLS before we have said anything")
            self._begun = True
            return self._first(tls)
        return self._on_avps(tls, b"" if said == _COMMITMENT else said)

    def _first(self, tls: TlsClient) -> bytes | NeedCredential:
        """The first attributes: the account, and the proof where it needs no question."""
        user = self._login.user
        if self._inner in INNER_EAP:
            self._peer = self._login.inner_peer(INNER_EAP[self._inner])
            return self._wrapped(self._peer.respond(_IDENTITY_REQUEST))
        if self._password is None:
            return NeedCredential(kind="password", prompt=password_prompt(user))
        name = Avp(code=avp.USER_NAME, value=user.encode()).emit()
        if self._inner == "pap":
            password = self._password.encode()
            self._succeed(tls)
            return name + Avp(code=avp.USER_PASSWORD, value=password + bytes(-len(password) % _BLOCK)).emit()
        return name + self._mschapv2(tls, self._password)

    def _mschapv2(self, tls: TlsClient, password: str) -> bytes:
        material = tls.export(_CHALLENGE_LABEL, mschap.CHALLENGE_LENGTH + 1)
        challenge, number = material[: mschap.CHALLENGE_LENGTH], material[-1:]
        ours = self._login.entropy(mschap.CHALLENGE_LENGTH)
        secret = mschap.nt_password_hash(password)
        hashed = mschap.challenge_hash(ours, challenge, account_of(self._login.user))
        response = mschap.nt_response(hashed, secret)
        self._proof = number + mschap.authenticator_response(hashed, secret, response)
        value = number + b"\0" + ours + bytes(8) + response
        return (
            Avp(code=avp.MS_CHAP_CHALLENGE, vendor=avp.MICROSOFT, value=challenge).emit()
            + Avp(code=avp.MS_CHAP2_RESPONSE, vendor=avp.MICROSOFT, value=value).emit()
        )

    def _on_avps(self, tls: TlsClient, said: bytes) -> bytes | NeedCredential:
        messages = b""
        for each in avp.parse(said):
            match each.vendor, each.code:
                case 0, avp.EAP_MESSAGE if self._peer is not None:
                    messages += each.value
                case 0, avp.REPLY_MESSAGE:
                    self.message = printable(each.value)
                case avp.MICROSOFT, avp.MS_CHAP2_SUCCESS if self._proof:
                    self._check_proof(each.value)
                    self._confirmed = True
                    self._succeed(tls)
                case avp.MICROSOFT, avp.MS_CHAP_ERROR if self._proof:
                    self.refusal = refusal_of(each.value[1:], self._login.user)
                    self.done, self.msk = False, None
                case vendor, code if each.mandatory:
                    raise breach(f"an attribute in EAP-TTLS that has no place there: {vendor}/{code}")
        if self._peer is None:
            return b""
        if not messages:
            raise breach("no EAP message inside of EAP-TTLS")
        return self._inner_eap(tls, self._peer, messages)

    def _inner_eap(self, tls: TlsClient, peer: InnerPeer, message: bytes) -> bytes | NeedCredential:
        try:
            answer = peer.respond(message)
        except AuthenticationFailed as error:  # the server says more outside
            self.refusal = error
            self.done, self.msk = False, None
            return b""
        if peer.settled:
            self._succeed(tls)
        return b"" if answer is None else self._wrapped(answer)

    def _wrapped(self, answer: bytes | NeedCredential | None) -> bytes | NeedCredential:
        if self._peer is not None:
            self.message = self.message or self._peer.take_notices()
            self.queries += self._peer.take_queries()
            self.refusal = self._peer.refusal
            if self._peer.settled and self._tls is not None:
                self._succeed(self._tls)
            else:
                self.done, self.msk = False, None
        if answer is None or isinstance(answer, NeedCredential):
            return answer or b""
        return Avp(code=avp.EAP_MESSAGE, value=answer).emit()

    def _check_proof(self, value: bytes) -> None:
        found = proof_of(value[1:])
        if found is None or not hmac.compare_digest(value[:1] + found, self._proof):
            raise unproved(self._login.user, "the server's proof (S=) inside of EAP-TTLS is wrong")

    def _succeed(self, tls: TlsClient) -> None:
        self.msk = self._keys(tls)[:MSK_LENGTH]
        self.done = True
