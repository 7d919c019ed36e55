"""The peer's half of an EAP conversation (RFC 3748), whatever method runs inside it.

EAP is lock-step: the gateway requests, we respond, until it says Success or Failure. RFC 3748 asks a peer to discard
silently what does not belong, because on its usual carriers anybody can inject packets. Inside IKE_AUTH nobody but the
gateway can, and nothing follows a discarded packet; so whatever has no place in the conversation ends it with an
error, and a conversation that has ended stays ended.

What a Success is worth is decided here: it counts only after the method itself is done, otherwise a gateway could
skip the part in which it has to prove that it knows the password (CVE-2021-45079).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from ikeclient.crypto.pki.revocation_status import RevocationQuery
from ikeclient.eap.credentials import SimCredentials, TlsCredentials
from ikeclient.eap.fragments import MAX_FRAGMENTS
from ikeclient.eap.method import (
    Login,
    Method,
    NeedCredential,
    breach,
    certificate_refused,
    ended_early,
    identity_fault,
    method_name,
    password_fault,
    quoted,
    refused,
)
from ikeclient.eap.methods.aka import Aka
from ikeclient.eap.methods.gtc import Gtc
from ikeclient.eap.methods.md5 import Md5Challenge
from ikeclient.eap.methods.mschapv2 import MschapV2
from ikeclient.eap.methods.peap import Peap
from ikeclient.eap.methods.sim import Sim
from ikeclient.eap.methods.tls import Tls
from ikeclient.eap.methods.ttls import Ttls
from ikeclient.eap.tls_method import TlsMethod
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    ParseError,
    ProfileError,
)
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.registry import EapCode, EapType
from ikeclient.wire.text import printable

MAX_ROUNDS = 20
MAX_TLS_ROUNDS = MAX_ROUNDS + 2 * MAX_FRAGMENTS  # whatever is in fragments has a packet for each

Entropy = Callable[[int], bytes]

_METHODS: dict[EapType, Callable[[Login], Method]] = {
    EapType.MSCHAPV2: lambda login: MschapV2(login.user, login.password, login.entropy),
    EapType.GTC: lambda login: Gtc(login.password),
    EapType.MD5_CHALLENGE: lambda login: Md5Challenge(login.user, login.password),
    EapType.TLS: Tls,
    EapType.TTLS: Ttls,
    EapType.PEAP: Peap,
    EapType.SIM: Sim,
    EapType.AKA: lambda login: Aka(EapType.AKA, login),
    EapType.AKA_PRIME: lambda login: Aka(EapType.AKA_PRIME, login),
}
_OVER_TLS = frozenset({EapType.TLS, EapType.TTLS, EapType.PEAP})
_WITH_CARD = frozenset({EapType.SIM, EapType.AKA, EapType.AKA_PRIME})
_HIDES_ACCOUNT = frozenset({EapType.TTLS, EapType.PEAP})

SUPPORTED_METHODS = frozenset(_METHODS)


def outer_identity(
    identity: str, methods: Sequence[EapType], tls: TlsCredentials | None, sim: SimCredentials | None = None
) -> str:
    """Return what answers the identity request, which comes before a server behind the gateway has proven itself.

    EAP-TTLS and PEAP name the account inside of TLS, so outside it is anonymous, with the account's realm to find the
    server by (RFC 7542 section 2.4). If another method may follow the account is named: EAP-MSCHAPv2, GTC and MD5 show
    it in the clear, and EAP-TLS servers look the certificate up by it. With a card it is the name that the server gave
    us last, if it did.
    """
    if sim is not None:
        names = (sim.memory.name(method) for method in methods)
        return next((name for name in names if name), sim.anonymous_identity or identity)
    if tls is None:
        return identity
    if tls.anonymous_identity is not None:
        return tls.anonymous_identity
    if not all(method in _HIDES_ACCOUNT for method in methods):
        return identity
    _, separator, realm = identity.rpartition("@")
    return f"anonymous@{realm}" if separator and realm else "anonymous"


class EapPeer:
    """One EAP conversation as `identity`, with any of `methods` (in order of preference) and nothing else.

    `password` None means that a person is asked when a method needs it. `entropy` returns the asked number of
    unpredictable bytes. Methods over TLS need `tls`, and `now` to judge certificates by. The identity request is
    answered with what `outer_identity` says.
    Raises ProfileError for an identity, a password or methods that can never work.

    `finished` turns true with the gateway's Success. `notices` collects what the gateway had to say to the person,
    safe to display; whoever shows a notice may remove it.
    """

    def __init__(
        self,
        identity: str,
        methods: Sequence[EapType],
        password: str | None,
        entropy: Callable[[int], bytes],
        *,
        tls: TlsCredentials | None = None,
        sim: SimCredentials | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        if fault := identity_fault(identity):
            raise ProfileError(f"the EAP user name {fault}")
        if password is not None and (fault := password_fault(password)):
            raise ProfileError(f"the EAP password {fault}")
        if unsupported := [method_name(m) for m in methods if m not in _METHODS]:
            raise ProfileError(f"EAP method not supported: {', '.join(unsupported)}")
        if (tls is None or now is None) and (over_tls := [method_name(m) for m in methods if m in _OVER_TLS]):
            raise ProfileError(f"EAP method without the credentials for TLS: {', '.join(over_tls)}")
        if sim is None and (with_card := [method_name(m) for m in methods if m in _WITH_CARD]):
            raise ProfileError(f"EAP method without a card: {', '.join(with_card)}")
        if not methods:
            raise ProfileError("no EAP method is allowed")
        for anonymous in (each.anonymous_identity for each in (tls, sim) if each is not None):
            if anonymous is not None and (fault := identity_fault(anonymous)):
                raise ProfileError(f"the anonymous EAP identity {fault}")
        self.finished = False
        self.notices: list[str] = []
        self._queries: list[RevocationQuery] = []
        self._identity = identity
        self._allowed = tuple(dict.fromkeys(methods))
        self._said = outer_identity(identity, self._allowed, tls, sim)
        self._sim = sim
        self._login = Login(
            user=identity,
            password=password,
            entropy=entropy,
            tls=tls,
            now=now,
            inner_peer=lambda methods: EapPeer(identity, methods, password, entropy, tls=tls and tls.inside(), now=now),
            sim=sim,
            said=self._said,
            methods=self._allowed,
        )
        self._method: Method | None = None
        self._offered: list[EapType] = []  # methods we refused with a Nak
        self._rounds = 0
        self._request: bytes | None = None  # the latest request and what was answered to it, for duplicates
        self._response: bytes | NeedCredential = b""
        self._error: IkeclientError | None = None

    @property
    def method(self) -> EapType | None:
        """The method in use, None before the gateway has asked for one we allow."""
        return self._method.type if self._method else None

    @property
    def msk(self) -> bytes | None:
        """The 64 bytes for the AUTH payloads; None before the end and with methods that generate no key."""
        return self._method.msk if self._method and self.finished else None

    @property
    def refusal(self) -> AuthenticationFailed | None:
        """Why the gateway is about to end in failure, once the method knows; for a gateway that never says Failure."""
        return self._method.refusal if self._method else None

    @property
    def settled(self) -> bool:
        """Whether the method has nothing against a Success."""
        return self._method is not None and self._method.done and self.refusal is None

    @property
    def confirmed(self) -> bool:
        """Whether the method has shown that the other side accepts us."""
        return self.settled and self._method is not None and self._method.msk is not None

    def conclude(self) -> None:
        """Take another layer's word for the Success. Raises GatewayNotAuthenticated before the method is done."""
        self._on_success()

    def take_notices(self) -> str:
        """What the gateway had to say to the person, in one line; it is told once."""
        text = "; ".join(self.notices)
        self.notices.clear()
        return text

    def take_queries(self) -> tuple[RevocationQuery, ...]:
        """Servers whose revocation is to be judged before the response is sent; each is told once."""
        taken = tuple(self._queries)
        self._queries.clear()
        return taken

    def respond(self, packet: bytes) -> bytes | NeedCredential | None:
        """Take one EAP packet of the gateway and return the EAP response to send.

        Returns NeedCredential when a person has to be asked first (continue with `supply`), None after a Success.
        Raises AuthenticationFailed when the gateway refuses us or shares no method with us, GatewayNotAuthenticated
        when it fails to prove itself, NegotiationRefused when it breaks the protocol. After an error every further
        packet raises the same error.
        """
        if self._error:
            raise self._error
        try:
            return self._respond(packet)
        except IkeclientError as error:
            self._error = error
            raise

    def supply(self, password: str) -> bytes | NeedCredential:
        """Answer the request that led to NeedCredential; returns the EAP response to send, or what else is asked.

        Raises AuthenticationFailed for a password that cannot be used (ask again), RuntimeError when nothing is
        waiting for one.
        """
        if self._method is None or self._request is None or not isinstance(self._response, NeedCredential):
            raise RuntimeError("no EAP request is waiting for a password")
        if self._response.kind == "password" and (fault := password_fault(password)):
            raise AuthenticationFailed(f"the password {fault}")
        self._method.supply(password)
        self._response = self._run_method(self._method, EapPacket.parse(self._request))
        return self._response

    def decline(self) -> bytes | None:
        """Answer the request that led to NeedCredential without it; None if the method has no way to."""
        if self._method is None or self._request is None or not isinstance(self._response, NeedCredential):
            raise RuntimeError("no EAP request is waiting for a password")
        answer = self._method.decline()
        if answer is None:
            return None
        self._response = _response(EapPacket.parse(self._request), self._method.type, answer)
        return self._response

    def _respond(self, packet: bytes) -> bytes | NeedCredential | None:
        self._rounds += 1
        limit = MAX_TLS_ROUNDS if self._method and self._method.type in _OVER_TLS else MAX_ROUNDS
        if self._rounds > limit:
            unwanted = self._method is None and self._offered
            raise self._failure() if unwanted else breach(f"no end after {limit} EAP packets")
        if self.finished:
            raise breach("an EAP packet after the Success")
        if packet == self._request:
            return self._response
        try:
            parsed = EapPacket.parse(packet)
        except ParseError as error:
            raise breach(f"malformed packet: {error}") from error
        match parsed.code:
            case EapCode.REQUEST:
                self._response = self._on_request(parsed)
                self._request = packet
                return self._response
            case EapCode.SUCCESS:
                self._on_success()
                return None
            case EapCode.FAILURE:
                raise self._failure()
            case _:
                raise breach("an EAP response where a request belongs")

    def _on_request(self, request: EapPacket) -> bytes | NeedCredential:
        match request.type:
            case EapType.NOTIFICATION:
                self.notices.append(printable(request.data))
                return _response(request, EapType.NOTIFICATION, b"")
            case EapType.IDENTITY if self._method is None:
                return _response(request, EapType.IDENTITY, self._said.encode())
            case None | EapType.IDENTITY | EapType.NAK:
                raise breach(f"an EAP request of type {request.type} has no place here")
            case type_ if self._method is None:
                if type_ not in self._allowed:
                    self._offered.append(type_)
                    return _response(request, EapType.NAK, bytes(self._allowed))
                self._method = _METHODS[type_](self._login)
            case type_ if type_ != self._method.type:
                raise breach(f"{method_name(type_)} in the middle of {method_name(self._method.type)}")
        return self._run_method(self._method, request)

    def _run_method(self, method: Method, request: EapPacket) -> bytes | NeedCredential:
        answer = method.respond(request.data, request.identifier)
        if message := method.take_message():
            self.notices.append(message)
        self._queries += method.take_queries()
        return answer if isinstance(answer, NeedCredential) else _response(request, method.type, answer)

    def _on_success(self) -> None:
        if self.refusal:
            raise self.refusal
        if self._method is None or not self._method.done:
            stage = f"before {method_name(self._method.type)} was complete" if self._method else "before any method"
            raise GatewayNotAuthenticated(
                "the gateway skipped the authentication",
                reason=f"EAP Success {stage}: the gateway proved nothing and asked for no proof",
                hint="somebody may be posing as the gateway: ask its administrator before you try again",
            )
        self.finished = True

    def _failure(self) -> AuthenticationFailed:
        """The words for an EAP Failure, from what led to it."""
        user = quoted(self._identity)
        if self._sim is not None and self._said != self._identity and not self._sim.private:
            for method in self._allowed:
                self._sim.memory.forget(method, self._said)
        allowed = ", ".join(map(method_name, self._allowed))
        if self.refusal:
            return self.refusal
        if isinstance(self._method, TlsMethod) and not self._method.server_proven:
            return ended_early(method_name(self._method.type), self._said)
        if isinstance(self._method, TlsMethod) and self._method.with_certificate:
            return certificate_refused(method_name(self._method.type), accepted=self._method.accepted)
        if self._method and (self._method.accepted if isinstance(self._method, TlsMethod) else self._method.msk):
            what = "card" if self._method.type in _WITH_CARD else "password"
            return AuthenticationFailed(
                f"the gateway accepted the {what} of user {user} but refuses the connection",
                reason=f"EAP Failure after {method_name(self._method.type)} had succeeded",
                hint="ask the gateway's administrator whether this account may use the VPN",
            )
        if self._method and self._method.type in _WITH_CARD:
            return AuthenticationFailed(
                f"the gateway refused user {user}",
                reason=f"EAP Failure during {method_name(self._method.type)}",
                hint="check auth.user; the authentication server may be down, or the operator may say more",
            )
        if self._method:
            return refused(self._identity, f"EAP Failure during {method_name(self._method.type)}")
        if self._offered:
            offered = ", ".join(dict.fromkeys(map(method_name, self._offered)))
            return AuthenticationFailed(
                "the gateway and the profile have no EAP method in common",
                reason=f"the gateway offers {offered}; the profile allows {allowed}",
                hint="set auth.method to a method of the gateway, or ask its administrator",
            )
        return AuthenticationFailed(
            f"the gateway refused user {user} without asking for a password",
            reason=f"EAP Failure before any method; the profile allows {allowed}",
            hint="check the user name",
        )


def _response(request: EapPacket, type_: EapType, data: bytes) -> bytes:
    return EapPacket(code=EapCode.RESPONSE, identifier=request.identifier, type=type_, data=data).emit()
