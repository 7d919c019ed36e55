"""What the methods over TLS share: fragments, the handshake, the server's certificate, the keys.

The authentication server is somebody else than the gateway: behind it, or outside, when the gateway asks a RADIUS
server. That the gateway has proven itself says nothing about it, so its certificate is validated here, in addition
(CVE-2023-26463, hardening E13), and before anything of ours but the outer identity leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.path import find_path
from ikeclient.crypto.pki.revocation import query, read_evidence
from ikeclient.crypto.tls import CLOSE_NOTIFY, TlsClient, TlsError
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.eap.fragments import ACKNOWLEDGEMENT, Fragments, is_start
from ikeclient.eap.method import Login, NeedCredential, Remark, breach, method_name, refused
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, NegotiationRefused
from ikeclient.wire.registry import EapType

KEY_LENGTH = 128
MSK_LENGTH = 64
_MODERN_LABEL = "EXPORTER_EAP_TLS_Key_Material"  # with TLS 1.3, for every method (RFC 9190 section 2.3, RFC 9427)
_MAX_SHOWN_NAMES = 8
_NOT_PROVEN = "the authentication server did not prove who it is"
_REFUSED_CERTIFICATES = ("certificate", "unknown ca", "access denied", "decrypt error")


class TlsMethod(Remark):
    """The part of a method over TLS that is the same for all. `label` makes the keys with TLS 1.2.

    A method overrides `_react`, which is called with what the server says inside of TLS.
    """

    def __init__(self, type_: EapType, label: str, login: Login) -> None:
        if login.tls is None or login.now is None:
            raise ValueError("a method over TLS needs TLS credentials and the time")
        self.type = type_
        self.msk: bytes | None = None
        self.done = False
        self.refusal: AuthenticationFailed | None = None
        self._login = login
        self._label = label
        self._fragments = Fragments()
        self._tls: TlsClient | None = None
        self._ended = False
        self._proven: tuple[Certificate, ...] | None = None  # the server's path, () when it was asked about
        self._early = b""  # said inside of TLS beside the last message of the handshake
        self._unanswered: NeedCredential | None = None
        self._answer: bytes | None = None  # made when the secret came, for the request that asked for it

    @property
    def _credentials(self) -> TlsCredentials:
        assert self._login.tls is not None
        return self._login.tls

    @property
    def accepted(self) -> bool:
        """Whether the server has shown that it accepts us, whatever the gateway makes of that."""
        return self.done

    @property
    def with_certificate(self) -> bool:
        """Whether our certificate proves who we are, here or in the method inside."""
        return self.type == EapType.TLS or self._credentials.inner == "tls"

    @property
    def server_proven(self) -> bool:
        """Whether the server has shown its certificate: before that nothing was sent that it could refuse."""
        return self._proven is not None

    def supply(self, password: str) -> None:  # noqa: ARG002  for those that run a login inside
        """See `Method.supply`."""
        raise RuntimeError("this method asks for nothing")

    def decline(self) -> bytes | None:
        """See `Method.decline`."""
        return None

    def respond(self, data: bytes, identifier: int) -> bytes | NeedCredential:
        """See `Method.respond`."""
        if self._answer is not None:  # the request that had to wait for a person
            answer, self._answer = self._answer, None
            return answer
        if self._unanswered is not None:
            return self._unanswered
        if self._tls is None:
            return self._begin(data)
        if self._fragments.sending:
            return self._fragments.next(data)
        message = self._fragments.take(data)
        if message is None:
            return ACKNOWLEDGEMENT
        if self._ended:
            raise breach("more after the end of the TLS session")
        return self._on_message(self._tls, message, identifier)

    def _begin(self, data: bytes) -> bytes:
        if not is_start(data):
            raise breach(f"{method_name(self.type)} does not begin with its start")
        self._tls = TlsClient(
            self._verify,
            self._credentials.chain,
            self._credentials.key,
            ask_status=self._credentials.check_revocation,
        )
        self._tls.start()
        return self._fragments.put(self._tls.output())

    def _on_message(self, tls: TlsClient, message: bytes, identifier: int) -> bytes | NeedCredential:
        fresh = not tls.established
        try:
            said = tls.receive(message)
        except TlsError as error:
            return self._on_error(error, fresh)
        self._ask_about_server(tls)
        if not tls.established or fresh:
            records = tls.output()
            if records:
                self._early = said
                return self._fragments.put(records)
            if not tls.established:
                raise breach("a TLS message that leads to nothing")
        said, self._early = self._early + said, b""
        reply = self._react(tls, said, identifier)
        if isinstance(reply, NeedCredential):
            self._unanswered = reply
            return reply
        return self._sealed(tls, reply)

    def _sealed(self, tls: TlsClient, reply: bytes) -> bytes:
        if reply:
            tls.write(reply)
        return self._fragments.put(tls.output())

    def _answered(self, reply: bytes | NeedCredential) -> None:
        """Take what a supplied secret led to, as the answer to the request that waits."""
        assert self._tls is not None
        if isinstance(reply, NeedCredential):
            self._unanswered = reply
            return
        self._unanswered = None
        self._answer = self._sealed(self._tls, reply)

    def _react(self, tls: TlsClient, said: bytes, identifier: int) -> bytes | NeedCredential:
        """Answer what the server says inside of TLS; an empty answer acknowledges."""
        raise NotImplementedError

    def _keys(self, tls: TlsClient, length: int = KEY_LENGTH) -> bytes:
        """The 128 bytes that MSK and EMSK are made of; with TLS 1.3 other lengths are other bytes."""
        if tls.modern:
            return tls.export(_MODERN_LABEL, length, bytes([self.type]))
        return tls.export(self._label, KEY_LENGTH)

    def _verify(self, chain: Sequence[Certificate]) -> None:
        """Raise GatewayNotAuthenticated unless the chain proves the server's name by an authority of the profile."""
        wanted, now = self._credentials.server_name, self._login.now
        assert now is not None
        if wanted is None:
            raise GatewayNotAuthenticated(_NOT_PROVEN, reason="the profile does not say what its name is")
        try:
            path = find_path(chain[0], chain[1:], self._credentials.trust.anchors, now())
        except GatewayNotAuthenticated as error:
            reason = (error.reason or error.message).replace("the gateway", "the server")
            hint = (
                "if its authority is meant to be trusted, name it in `server_ca` in the section [auth] of the profile"
            )
            raise GatewayNotAuthenticated(_NOT_PROVEN, reason=reason, hint=hint) from None
        if chain[0].matches(*wanted):
            self._proven = path
            return
        offered = chain[0].identities()
        shown = ", ".join(identity_text(*name) for name in offered[:_MAX_SHOWN_NAMES])
        raise GatewayNotAuthenticated(
            _NOT_PROVEN,
            reason=f"the profile wants {identity_text(*wanted)}, its certificate proves {shown or 'no name at all'}",
            hint="if one of these is the right server, set `server_name` in the section [auth] of the profile to it",
        )

    def _ask_about_server(self, tls: TlsClient) -> None:
        """Once the server is proven, have its revocation judged, with the response that it stapled (RFC 6066)."""
        path = self._proven
        if not path or not self._credentials.check_revocation:
            return
        self._proven = ()
        assert self._login.now is not None
        evidence = read_evidence((tls.stapled,) if tls.stapled else ())
        self.queries = (*self.queries, query(path, (), evidence, self._login.now()))

    def _on_error(self, error: TlsError, handshake: bool) -> bytes:
        name = method_name(self.type)
        if error.too_old:
            raise NegotiationRefused(
                "the authentication server speaks no TLS that is safe",
                reason=f"{name} wants TLS 1.2 or 1.3, and TLS says: {error.reason}",
                hint="TLS 1.0 and 1.1 are not used: ask its administrator to allow TLS 1.2",
            )
        if error.alert is None:
            raise breach(f"TLS in {name} failed: {error.reason}")
        self._ended = True
        self.done, self.msk = False, None
        if not handshake and self.type != EapType.TLS and not self.with_certificate:
            self.refusal = refused(self._login.user, f"the server ended {name} during the login inside: {error.alert}")
            return ACKNOWLEDGEMENT
        ours = bool(self._credentials.chain) and any(mark in error.alert for mark in _REFUSED_CERTIFICATES)
        if not handshake and error.alert == CLOSE_NOTIFY and self._login.password is not None:
            self.refusal = refused(self._login.user, f"{name}: the authentication server has ended TLS")
            return ACKNOWLEDGEMENT
        what = "refused our certificate" if ours else f"ended {'the TLS handshake' if handshake else 'TLS'}"
        self.refusal = AuthenticationFailed(
            f"the authentication server {what}",
            reason=f"{name}: TLS alert {error.alert}",
            hint="check that the server trusts our certificate and knows its name" if ours else "ask its administrator",
        )
        return ACKNOWLEDGEMENT
