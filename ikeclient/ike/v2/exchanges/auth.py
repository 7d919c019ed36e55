"""IKE_AUTH as initiator (RFC 7296 sections 1.2, 2.15, 2.16, 2.19, 2.21.2).

No EAP request is answered before the gateway's certificate and signature have been verified. A refused Child SA is not
an authentication failure and is not reported as one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.pki.bundles import CertificateForm, FetchedCertificates
from ikeclient.crypto.pki.revocation_status import (
    PathRevocation,
    RevocationQuery,
    RevocationState,
    RevocationStatus,
    enforce,
    summary,
)
from ikeclient.crypto.sign.schemes import Scheme
from ikeclient.eap.method import NeedCredential, method_name
from ikeclient.eap.traits import MUTUAL
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    ProtocolError,
)
from ikeclient.ike.after_refusal import after_refusal
from ikeclient.ike.config import EapAuth, EapOnly, IkeConfig, OwnAuth, SecondAuth
from ikeclient.ike.events import Configuration, IPAddress, Need, NeedKind, Path, Proof, Proofs
from ikeclient.ike.v2.child.child_sa import ChildSa
from ikeclient.ike.v2.exchanges import configuration as cfg
from ikeclient.ike.v2.exchanges.first_child import FirstChild
from ikeclient.ike.v2.exchanges.mobike import additional_addresses
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, has_notify, notifies
from ikeclient.ike.v2.notify_errors import refusal
from ikeclient.ike.v2.rules import authenticate
from ikeclient.ike.v2.rules.ppk import PpkChoice
from ikeclient.ike.v2.rules.proofs import OwnProof, ProofGenerator, shown
from ikeclient.ike.v2.sources import Sources
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.config import ConfigPayload
from ikeclient.wire.identity import AuthPayload, CertPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import CertEncoding, EapCode, EapType, ExchangeType, NotifyType
from ikeclient.wire.sa import SaPayload

if TYPE_CHECKING:
    from ikeclient.eap.peer import EapPeer

MIN_AUTH_LIFETIME = 60
_UNPROVEN = "the gateway did not authenticate itself"
_ALONE = "EAP alone was to prove it, by a method that proves no gateway or makes no keys (RFC 5998 section 3)"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOutcome:
    """Everything IKE_AUTH settled. With `child_error` the IKE SA is up but useless."""

    gateway_identity: str
    child: ChildSa | None
    child_error: IkeclientError | None
    configuration: Configuration
    notices: tuple[str, ...]
    mobike: bool
    auth_lifetime: int | None
    proofs: Proofs = field(default_factory=Proofs)
    keys: IkeKeys | None = field(default=None, repr=False)  # of the IKE SA, if they are not those of IKE_SA_INIT
    additional_addresses: tuple[IPAddress, ...] = ()


Payloads = tuple[Payload, ...]
AuthGenerator = Generator[Request | Need, object, AuthOutcome]


def _ask(request: Request) -> Generator[Request, object, Payloads]:
    """Send a request; the answer is what it is resumed with."""
    answer = yield request
    assert isinstance(answer, tuple)
    return answer


def _with_credentials(peer: EapPeer, missing: NeedCredential) -> Generator[Need, object, bytes | None]:
    """The response of `peer` with what it lacks from outside, or without it if nobody can supply that."""
    response: bytes | NeedCredential | None = missing
    while isinstance(response, NeedCredential):
        try:
            supplied = yield Need(kind=NeedKind(response.kind), request=response.prompt)
        except IkeclientError as error:  # nobody can be asked
            response = peer.decline()
            if response is None:
                raise peer.refusal or error from None
            return response
        assert isinstance(supplied, str)
        response = peer.supply(supplied)
    return response


def auth_lifetime(payloads: Sequence[Payload]) -> int | None:
    """The seconds that an AUTH_LIFETIME allows, if there is one (RFC 4478), but enough to get something else done."""
    data = next((n.data for n in notifies(payloads) if n.type == NotifyType.AUTH_LIFETIME and len(n.data) == 4), None)
    return None if data is None else max(MIN_AUTH_LIFETIME, int.from_bytes(data, "big"))


class AuthExchange:
    """One run of IKE_AUTH for one candidate; `run` is the generator that the handshake drives.

    `initial_contact` tells the gateway to forget older connections of ours (RFC 7296 section 2.4).
    """

    def __init__(
        self,
        config: IkeConfig,
        candidate: Candidate,
        path: Path,
        *,
        spi_in: int,
        sources: Sources,
        initial_contact: bool,
    ) -> None:
        self._config = config
        self._initial_contact = initial_contact
        self._candidate = candidate
        self._sources = sources
        self._child = FirstChild.asked(config, path, spi_in)
        self._gateway = path.remote_address
        self._notices: list[str] = []
        self._signed: Scheme | None = None  # how we signed
        self._ppk = PpkChoice(config.ppk, candidate)
        self._proofs = Proofs()
        self.gateway_verified = False
        self.doubtful = False  # whether the refusal may be due to a forged cookie: our AUTH covers another request
        self.next_try: IkeConfig | None = None  # set when the gateway refuses us without having proven anything

    def run(self) -> AuthGenerator:
        """Yield requests (and `Need`, answered with what it asks for) until the outcome is known."""
        config = self._config
        answer = yield from _ask((yield from self._first_request()))
        answer = yield from self._plain(answer)
        identity, query = self._verify(answer)
        if query is not None:
            yield from self._check_revocation(query)
        if (refused := authenticate.refused_before(config)) is not None:
            self._notices.append(
                f"the gateway refused our signature with {refused} and accepted {self._signed}: "
                f"{authenticate.setting(self._signed)} saves the first try"
            )
        now = self._sources.wall_clock()
        for auth in (config.auth, config.second_auth.auth if config.second_auth is not None else config.auth):
            if (expiry := authenticate.own_expiry(auth, now)) is not None and expiry not in self._notices:
                self._notices.append(expiry)
        if isinstance(config.auth, EapAuth):
            follows = config.second_auth is not None
            answer = yield from self._eap(config.auth, answer, identity, config.local_identity, follows=follows)
        if config.second_auth is not None:
            answer = yield from self._authenticate_again(config.second_auth, answer, identity)
        if has_notify(answer, NotifyType.ANOTHER_AUTH_FOLLOWS):
            raise NegotiationRefused(
                "the gateway wants to prove itself twice",
                reason="it sent ANOTHER_AUTH_FOLLOWS (RFC 4739)",
                hint="let it authenticate once; what it has proven already is what the profile asks for",
            )
        if config.ppk is not None and not self._ppk.used:
            self._notices.append("the gateway does not use the post-quantum key of [ppk]: the keys are without it")
        return self._outcome(answer, identity)

    def _own_proof(
        self, auth: OwnAuth, identity: Identity
    ) -> Generator[Need, object, tuple[OwnProof, tuple[NotifyPayload, ...]]]:
        """Our proof for a request that begins an authentication, with what goes with its AUTH."""
        proof, named = yield from self._ppk.prove(
            self._candidate,
            lambda candidate: authenticate.own_proof(auth, identity, candidate, allow_sha1=self._config.allow_sha1),
        )
        if proof.auth is not None:
            self._note_own(authenticate.own_method(auth, proof.scheme))
        if proof.certificates and self._candidate.offers.asks_status:
            proof = replace(proof, certificates=(*proof.certificates, *(yield from self._own_response(auth))))
        return proof, named

    def _own_response(self, auth: OwnAuth) -> Generator[Need, object, tuple[CertPayload, ...]]:
        """An OCSP response about our certificate, which the gateway asks for (RFC 4806 section 3.2)."""
        from ikeclient.ike.v2.rules.certificates import own_revocation

        query = own_revocation(self._config, auth, self._sources.wall_clock())
        if query is None:
            return ()
        try:
            found = yield Need(kind=NeedKind.REVOCATION, request=query)
        except IkeclientError:  # nothing can be asked from here
            return ()
        assert isinstance(found, PathRevocation)
        self._notices += (
            f"our own certificate has been revoked ({each.detail}): the gateway asks about that and may refuse it"
            for each in found.statuses
            if each.state is RevocationState.REVOKED
        )
        if found.response is None:
            return ()
        return (CertPayload(encoding=CertEncoding.OCSP_CONTENT, data=found.response),)

    def _note_own(self, proof: Proof) -> None:
        self._proofs = replace(self._proofs, local=(*self._proofs.local, proof))

    def _first_request(self) -> Generator[Need, object, Request]:
        config = self._config
        proof, named = yield from self._own_proof(config.auth, config.local_identity)
        self._signed = proof.scheme
        wanted = config.gateway.identity if config.gateway.named else None
        gateway = (IdrPayload(identity=wanted),) if wanted is not None else ()
        flags = {
            NotifyType.EAP_ONLY_AUTHENTICATION: isinstance(config.gateway.auth, EapOnly),
            NotifyType.MULTIPLE_AUTH_SUPPORTED: config.second_auth is not None,
            NotifyType.ANOTHER_AUTH_FOLLOWS: config.second_auth is not None and proof.auth is not None,
            NotifyType.HTTP_CERT_LOOKUP_SUPPORTED: CertificateForm.HASH_AND_URL in config.gateway.certificate_forms,
            NotifyType.MOBIKE_SUPPORTED: config.mobike,
        }
        payloads: list[Payload] = [
            IdiPayload(identity=config.local_identity),
            *proof.certificates,
            *((NotifyPayload(type=NotifyType.INITIAL_CONTACT),) if self._initial_contact else ()),
            *authenticate.certificate_request(config),
            *gateway,
            *((proof.auth,) if proof.auth else ()),
            *cfg.request(config.child.request, config.child.addresses),
            *self._child.payloads(),
            *named,
            *(NotifyPayload(type=type_) for type_, given in flags.items() if given),
        ]
        return Request(exchange=ExchangeType.IKE_AUTH, payloads=tuple(payloads))

    def _authenticate_again(
        self, second: SecondAuth, answer: Payloads, identity: Identity
    ) -> Generator[Request | Need, object, Payloads]:
        """The second authentication (RFC 4739 section 2), after `answer` to the last request of the first one."""
        if has_notify(answer, NotifyType.ANOTHER_AUTH_FOLLOWS):
            return answer
        proof, _ = yield from self._own_proof(second.auth, second.identity)
        payloads = (IdiPayload(identity=second.identity), *proof.certificates, *((proof.auth,) if proof.auth else ()))
        following = yield from _ask(Request(exchange=ExchangeType.IKE_AUTH, payloads=payloads))
        error = error_notify(following)
        if error is not None and error.type == NotifyType.AUTHENTICATION_FAILED:
            raise refusal(
                error.type,
                detail="the first authentication was accepted, the second one was not",
                hint="check [second_auth]",
            )
        if isinstance(second.auth, EapAuth):
            following = yield from self._eap(second.auth, following, identity, second.identity)
        return following

    def _plain(self, answer: Payloads) -> Generator[Need, object, Payloads]:
        """The gateway's first answer with plain certificates in place of other forms, if the profile allows those."""
        certificates = [p for p in answer if isinstance(p, CertPayload)]
        if not self._config.gateway.certificate_forms or not certificates:
            return answer
        from ikeclient.ike.v2.rules.certificates import certificate_urls, plain_certificates

        wanted = certificate_urls(self._config, certificates)
        fetched: object = FetchedCertificates(contents=())
        if wanted is not None:
            try:
                fetched = yield Need(kind=NeedKind.CERTIFICATES, request=wanted)
            except IkeclientError as error:  # nothing can be asked from here
                fetched = FetchedCertificates(contents=(), problems=(error.message,))
        assert isinstance(fetched, FetchedCertificates)
        plain = plain_certificates(self._config, certificates, wanted, fetched)
        return (*(p for p in answer if not isinstance(p, CertPayload)), *plain)

    def _check_revocation(self, query: RevocationQuery) -> Generator[Request | Need, object, None]:
        """Refuse a revoked certificate of the gateway, which has proven everything else, before it learns more."""
        statuses = yield from self._states(query, "gateway")
        (proof,) = self._proofs.gateway
        self._proofs = replace(self._proofs, gateway=(replace(proof, revocation=summary(statuses)),))

    def _states(
        self, query: RevocationQuery, whose: str
    ) -> Generator[Request | Need, object, Sequence[RevocationStatus]]:
        """What is known about the certificates of a proven peer. Raises GatewayNotAuthenticated by the policy."""
        statuses = query.statuses
        if query.has_sources and all(each.state is not RevocationState.REVOKED for each in statuses):
            try:
                found = yield Need(kind=NeedKind.REVOCATION, request=query)
            except IkeclientError:  # nothing can be asked from here
                pass
            else:
                assert isinstance(found, PathRevocation)
                statuses = found.statuses
        if (notice := enforce(self._config.revocation, statuses, whose)) is not None:
            self._notices.append(notice)
        return statuses

    def _verify(self, answer: Payloads) -> tuple[Identity, RevocationQuery | None]:
        """Check the gateway's proof in the first answer, before anything else in it counts.

        Returns who it is and what is to be asked about its certificate.
        """
        idr, auth = find(answer, IdrPayload), find(answer, AuthPayload)
        eap = find(answer, EapPayload)
        eap_only = eap is not None and isinstance(self._config.gateway.auth, EapOnly)
        if idr is None or (auth is None and not eap_only):
            self._raise_refusal(answer)
            if eap is not None and eap.packet[:1] == bytes((EapCode.FAILURE,)):
                raise AuthenticationFailed(
                    "the gateway refused our identity before it proved its own",
                    reason="it answered EAP-Failure; the gateway has not proven its identity yet",
                    hint="check [auth] identity and user, and that the gateway knows them",
                )
            if eap is not None:
                raise GatewayNotAuthenticated(
                    "the gateway asks for EAP credentials without having authenticated itself",
                    hint="nothing was sent to it; let the gateway authenticate with its certificate, "
                    'or, if it is meant to prove itself inside EAP, set gateway.auth = "eap"',
                )
            raise GatewayNotAuthenticated(
                _UNPROVEN, reason="its IKE_AUTH answer has no " + ("IDr" if idr is None else "AUTH")
            )
        certificates = [p for p in answer if isinstance(p, CertPayload)]
        now = self._sources.wall_clock()
        if not isinstance(self._config.auth, EapAuth):
            self._candidate = self._ppk.settle(answer, self._candidate)
        verified = authenticate.verify_gateway(self._config, self._candidate, idr.identity, certificates, auth, now)
        if verified is None:
            return idr.identity, None
        self._note_gateway(verified.proof)
        if verified.notice is not None:
            self._notices.append(verified.notice)
        return idr.identity, verified.query

    def _note_gateway(self, proof: Proof) -> None:
        self._proofs = replace(self._proofs, gateway=(proof,))
        self.gateway_verified = True

    def _raise_refusal(self, answer: Payloads) -> None:
        """Raise what an error notification without a proof of identity means."""
        error = error_notify(answer)
        if error is None:
            return
        if self.gateway_verified:
            raise refusal(error.type)
        detail, hint = "the gateway has not proven its identity yet", ""
        if error.type == NotifyType.AUTHENTICATION_FAILED:
            signed = self._signed
            self.next_try = after_refusal(self._config, signed)
            if signed is not None:
                before = authenticate.refused_before(self._config)
                detail += f"; we signed with {before}, then {signed}" if before else f"; we signed with {signed}"
                hint = "check that the gateway trusts our certificate and knows our identity, and what it can verify: "
                hint += authenticate.setting(authenticate.instead_of(signed))
            if announced := self._candidate.offers.auth_methods:
                detail += f"; it says that it accepts {', '.join(announced)}"
            if self._config.ppk is not None and not self._ppk.missing:
                detail += "; a post-quantum key was mixed in"
                hint = f"{hint}; " if hint else ""
                hint += "check [ppk] id and secret"
        raise refusal(error.type, detail=detail, hint=hint)

    def _methods(self, auth: EapAuth) -> tuple[EapType, ...]:
        """The methods that may be used now: with a gateway that has proven nothing those that prove it as well."""
        if self.gateway_verified:
            return auth.methods
        methods = tuple(method for method in auth.methods if method in MUTUAL)
        if not methods:
            named = ", ".join(map(method_name, auth.methods))
            raise GatewayNotAuthenticated(
                _UNPROVEN, reason=f"{_ALONE}: {named}", hint="nothing was sent to it; let it show its certificate"
            )
        return methods

    def _eap(
        self, auth: EapAuth, answer: Payloads, identity: Identity, own: Identity, *, follows: bool = False
    ) -> Generator[Request | Need, object, Payloads]:
        """The rounds of section 2.16, ending with AUTH payloads made from the MSK in both directions.

        `identity` and `own` are IDr and IDi, `follows` says that we authenticate once more after this.
        """
        expected = self._config.gateway.identity or identity
        tls = auth.tls and auth.tls.expecting(expected.type, expected.data)
        sources = self._sources
        from ikeclient.eap.peer import EapPeer  # for few profiles, with all of TLS: see `tunnel.late_modules`

        peer = EapPeer(
            auth.identity,
            self._methods(auth),
            auth.password,
            sources.entropy,
            tls=tls,
            sim=auth.sim,
            now=sources.wall_clock,
        )
        revocation = yield from self._eap_rounds(peer, answer)
        self._notices += (f"the gateway says: {text}" for text in peer.notices)
        if peer.msk is None and not self.gateway_verified:
            raise GatewayNotAuthenticated(_UNPROVEN, reason=_ALONE)
        final = yield from self._prove_eap_keys(peer.msk, identity, own, follows=follows)
        method = method_name(peer.method) if peer.method is not None else "eap"
        self._note_own(Proof(method=method, revocation=revocation))
        if not self.gateway_verified:
            self._note_gateway(Proof(method=method, revocation=revocation))
        return final

    def _eap_rounds(self, peer: EapPeer, answer: Payloads) -> Generator[Request | Need, object, str | None]:
        """Have `peer` answer until EAP is over; returns what is known of the revocation of its server's certificate."""
        revocation: str | None = None
        while not peer.finished:
            eap = find(answer, EapPayload)
            if eap is None:
                if peer.refusal is not None:
                    raise peer.refusal
                self._raise_refusal(answer)
                raise AuthenticationFailed(
                    "the gateway stopped in the middle of EAP",
                    hint="the profile's [auth] method and the gateway's configuration differ",
                )
            response = peer.respond(eap.packet)
            for query in peer.take_queries():
                revocation = summary((yield from self._states(query, "authentication server")))
            if isinstance(response, NeedCredential):
                response = yield from _with_credentials(peer, response)
            if response is not None:
                answer = yield from _ask(
                    Request(exchange=ExchangeType.IKE_AUTH, payloads=(EapPayload(packet=response),))
                )
        return revocation

    def _prove_eap_keys(
        self, msk: bytes | None, identity: Identity, own: Identity, *, follows: bool
    ) -> Generator[Request | Need, object, Payloads]:
        """Exchange AUTH payloads made from the MSK, or from SK_p if the method made none; otherwise as `_eap`."""

        def prove(each: Candidate) -> ProofGenerator:
            yield from ()
            return OwnProof(auth=authenticate.shared_key_proof(each, msk or each.keying.keys.pi, own))

        proof, named = yield from self._ppk.prove(self._candidate, prove)
        assert proof.auth is not None
        another = (NotifyPayload(type=NotifyType.ANOTHER_AUTH_FOLLOWS),) if follows else ()
        final = yield from _ask(Request(exchange=ExchangeType.IKE_AUTH, payloads=(proof.auth, *named, *another)))
        theirs = find(final, AuthPayload)
        if theirs is None:
            self.doubtful = not self._candidate.certain
            self._raise_refusal(final)
            raise GatewayNotAuthenticated("the gateway did not confirm the EAP keys", reason="AUTH is missing")
        self._candidate = self._ppk.settle(final, self._candidate)
        secret = msk or self._candidate.keying.keys.pr
        authenticate.verify_shared_key(self._candidate, secret, identity, theirs, "the keys that EAP agreed on")
        return final

    def _outcome(self, answer: Payloads, identity: Identity) -> AuthOutcome:
        child: ChildSa | None = None
        child_error: IkeclientError | None = None
        configuration = Configuration()
        notices: tuple[str, ...] = ()
        try:
            error = error_notify(answer)
            if error is not None and find(answer, SaPayload) is None:
                raise refusal(error.type)
            configuration, notices = cfg.reply(
                find(answer, ConfigPayload), gateway=self._gateway, wanted=self._config.child.request
            )
            child, told = self._child.settle(self._candidate, answer, configuration)
            self._notices += told
            kept = tuple(address for address in configuration.addresses if address.ip in child.addresses)
            configuration = replace(configuration, addresses=kept)
        except ProtocolError as problem:
            child_error = NegotiationRefused(
                "the gateway's answer for the Child SA was not usable", reason=str(problem)
            )
        except IkeclientError as problem:
            child_error = problem
        return AuthOutcome(
            gateway_identity=shown(identity),
            child=child,
            child_error=child_error,
            configuration=configuration,
            notices=(*self._notices, *notices),
            mobike=self._config.mobike and has_notify(answer, NotifyType.MOBIKE_SUPPORTED),
            auth_lifetime=auth_lifetime(answer),
            proofs=replace(self._proofs, ppk=self._ppk.used),
            keys=self._candidate.keying.keys if self._ppk.used else None,
            additional_addresses=additional_addresses(answer) or (),
        )
