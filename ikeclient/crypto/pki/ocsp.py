"""The Online Certificate Status Protocol (RFC 6960): what is asked, and whether an answer counts.

An answer is signed by the issuer itself, or by a signer whose certificate the same key of the issuer made for nothing
but that (id-kp-OCSPSigning). A signer without id-pkix-ocsp-nocheck may have been revoked itself; the lists at hand
tell, and where there are none it counts: asking about the one who is asked has no end.

A nonce is sent with a question of our own. Many responders answer without one, from a store; then the times alone
bound how old an answer is. One with another nonce answers another question.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ikeclient.crypto.library import contained
from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.crl import SLACK, Entry
from ikeclient.crypto.pki.names import name_key
from ikeclient.crypto.sign.schemes import parse_algorithm_identifier
from ikeclient.errors import ParseError, SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import HashAlgorithm

MAX_LENGTH = 1 << 16  # bytes
MAX_ANSWERS = 64  # of one response
MAX_SIGNERS = 4  # certificates of a response that are looked at
OPEN_ENDED = timedelta(hours=1)  # how old an answer without nextUpdate may be
NONCE_LENGTH = 32  # RFC 9654 section 2.1

_HASHES = {"sha1": hashlib.sha1, "sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_PROCESSED = (x509.OCSPNonce,)
_STATUS = {
    ocsp.OCSPResponseStatus.MALFORMED_REQUEST: "it does not understand the question",
    ocsp.OCSPResponseStatus.INTERNAL_ERROR: "it has an internal error",
    ocsp.OCSPResponseStatus.TRY_LATER: "it asks to try later",
    ocsp.OCSPResponseStatus.SIG_REQUIRED: "it wants a signed question",
    ocsp.OCSPResponseStatus.UNAUTHORIZED: "it does not answer about this certificate",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspVerdict:
    """What a response says about a certificate: revoked, good until then, or neither and why."""

    revoked: Entry | None = None
    until: datetime | None = None
    problem: str = ""


class OcspResponse:
    """One response. Nothing in it counts before `judge` has verified it."""

    __slots__ = ("_algorithm", "_parsed", "_signature", "_signed")

    def __init__(self, encoded: bytes) -> None:
        """Parse DER; raises ParseError."""
        if len(encoded) > MAX_LENGTH:
            raise ParseError(f"an OCSP response of {len(encoded)} bytes is too long")
        with contained(ParseError, "an OCSP response cannot be read"):
            self._parsed = ocsp.load_der_ocsp_response(encoded)
            successful = self._parsed.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
            self._signed = self._algorithm = self._signature = b""
            if successful:
                self._signed, self._algorithm, self._signature = _pieces(encoded)

    def judge(
        self,
        certificate: Certificate,
        issuer: Certificate,
        now: datetime,
        *,
        nonce: bytes | None = None,
        revoked: Callable[[Certificate], bool] = lambda _: False,
    ) -> OcspVerdict:
        """What the response says about a certificate of `issuer`.

        `nonce` is what was sent, `revoked` tells whether a signer is known to be revoked.
        """
        if self._parsed.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            why = _STATUS.get(self._parsed.response_status, "it failed")
            return OcspVerdict(problem=f"the OCSP responder has no answer: {why}")
        try:
            with contained(ParseError, "an OCSP response cannot be read"):
                return self._judge(certificate, issuer, now, nonce, revoked)
        except (ParseError, SignatureError) as error:
            return OcspVerdict(problem=error.message)

    def _judge(
        self,
        certificate: Certificate,
        issuer: Certificate,
        now: datetime,
        nonce: bytes | None,
        revoked: Callable[[Certificate], bool],
    ) -> OcspVerdict:
        extensions = list(self._parsed.extensions)
        for extension in extensions:
            if extension.critical and not isinstance(extension.value, _PROCESSED):
                oid = extension.oid.dotted_string
                return OcspVerdict(problem=f"the OCSP response has the critical extension {oid}, which is unknown")
        theirs = next((each.value.nonce for each in extensions if isinstance(each.value, x509.OCSPNonce)), None)
        if nonce is not None and theirs is not None and not hmac.compare_digest(nonce, theirs):
            return OcspVerdict(problem="the OCSP response has another nonce than the question")
        self._verify(issuer, now, revoked)
        problem = "the OCSP response is about another certificate"
        for answer in _answers(self._parsed):
            if not _is_about(answer, certificate, issuer):
                continue
            if answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
                problem = "the OCSP responder does not know the certificate"
                continue
            if (why := _untimely(answer, now)) is not None:
                problem = why
                continue
            if answer.certificate_status is ocsp.OCSPCertStatus.REVOKED:
                when = answer.revocation_time_utc
                reason = answer.revocation_reason
                return OcspVerdict(
                    revoked=Entry(
                        reason=reason.value if reason is not None else "unspecified",
                        date=f"{when:%Y-%m-%d}" if when is not None else "an unknown day",
                    )
                )
            return OcspVerdict(until=answer.next_update_utc or answer.this_update_utc + OPEN_ENDED)
        return OcspVerdict(problem=problem)

    def _verify(self, issuer: Certificate, now: datetime, revoked: Callable[[Certificate], bool]) -> None:
        """Raise SignatureError unless the response is signed by who may answer for `issuer`."""
        scheme = parse_algorithm_identifier(self._algorithm)
        if scheme.hash == HashAlgorithm.SHA1:
            raise SignatureError(f"the OCSP response is signed with {scheme}, which is too weak")
        if self._is_responder(issuer):
            issuer.public_key.check(scheme, self._signature, self._signed)
            return
        why = "the OCSP response is signed by somebody else than the issuer, whose certificate is not in it"
        for each in self._parsed.certificates[:MAX_SIGNERS]:
            try:
                signer = Certificate.from_der(each.public_bytes(serialization.Encoding.DER))
            except ParseError:
                continue
            if not self._is_responder(signer):
                continue
            if (problem := _unauthorised(signer, issuer, now)) is not None:
                why = f"the signer of the OCSP response may not sign it: {problem}"
                continue
            if signer.extension(x509.OCSPNoCheck) is None and revoked(signer):
                why = "the certificate of the signer of the OCSP response is revoked"
                continue
            signer.public_key.check(scheme, self._signature, self._signed)
            return
        raise SignatureError(why)

    def _is_responder(self, certificate: Certificate) -> bool:
        """Whether the response says that this is who signed it."""
        if self._parsed.responder_key_hash is not None:
            own = hashlib.sha1(certificate.key_bits, usedforsecurity=False).digest()
            return hmac.compare_digest(self._parsed.responder_key_hash, own)
        name = self._parsed.responder_name
        return name is not None and name_key(name.public_bytes()) == certificate.subject_key


def request(certificate: Certificate, issuer: Certificate, nonce: bytes | None) -> bytes:
    """The DER OCSPRequest for a certificate. Its hashes are SHA-1, which is all that every responder knows."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(certificate.der),
        x509.load_der_x509_certificate(issuer.der),
        hashes.SHA1(),  # noqa: S303 - it names, it proves nothing
    )
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(serialization.Encoding.DER)


def is_successful(encoded: bytes) -> bool:
    """Whether these bytes are a response that answers something, rather than an error of the responder."""
    try:
        with contained(ParseError, "an OCSP response cannot be read"):
            parsed = ocsp.load_der_ocsp_response(encoded)
            return parsed.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    except ParseError:
        return False


def urls(certificate: Certificate) -> tuple[str, ...]:
    """Where the certificate says that its responders are; plain HTTP only."""
    access = certificate.extension(x509.AuthorityInformationAccess)
    return tuple(
        each.access_location.value
        for each in list(access or ())[:MAX_SIGNERS]
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
        and each.access_location.value.lower().startswith("http://")
    )


def _pieces(encoded: bytes) -> tuple[bytes, bytes, bytes]:
    """What is signed, the AlgorithmIdentifier and the signature (RFC 6960 section 4.2.1)."""
    _, _, _, rest = der.element(der.only(encoded, der.SEQUENCE))  # responseStatus
    _, inner, _, _ = der.element(rest)  # [0] ResponseBytes
    _, rest = der.content(der.only(inner, der.SEQUENCE), der.OBJECT_IDENTIFIER)
    basic = der.only(der.only(rest, der.OCTET_STRING), der.SEQUENCE)
    _, _, signed, rest = der.element(basic)
    _, _, algorithm, rest = der.element(rest)
    bits, _ = der.content(rest, der.BIT_STRING)
    if bits[:1] != b"\0":
        raise ParseError("a signature has whole bytes")
    return signed, algorithm, bits[1:]


def _answers(parsed: ocsp.OCSPResponse) -> Sequence[ocsp.OCSPSingleResponse]:
    found = []
    for answer in parsed.responses:
        found.append(answer)
        if len(found) > MAX_ANSWERS:
            raise ParseError("an OCSP response has too many answers")
    return found


def _is_about(answer: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    make = _HASHES.get(answer.hash_algorithm.name)
    if make is None or der.integer_element(answer.serial_number) != certificate.encoded_serial:
        return False
    name, key = make(certificate.issuer_der).digest(), make(issuer.key_bits).digest()
    return hmac.compare_digest(answer.issuer_name_hash, name) and hmac.compare_digest(answer.issuer_key_hash, key)


def _untimely(answer: ocsp.OCSPSingleResponse, now: datetime) -> str | None:
    this, following = answer.this_update_utc, answer.next_update_utc
    if this > now + SLACK:
        return "the OCSP response is from the future"
    if following is None and now - SLACK > this + OPEN_ENDED:
        return f"the OCSP response is of {this:%Y-%m-%d %H:%M}Z, and does not say how long it holds"
    if following is not None and now - SLACK > following:
        return f"the OCSP response is out of date since {following:%Y-%m-%d %H:%M}Z"
    return None


def _unauthorised(signer: Certificate, issuer: Certificate, now: datetime) -> str | None:
    extended = signer.extension(x509.ExtendedKeyUsage)
    usage = signer.extension(x509.KeyUsage)
    if extended is None or ExtendedKeyUsageOID.OCSP_SIGNING not in extended:
        return "it is not for that (extendedKeyUsage lacks OCSPSigning)"
    if usage is not None and not usage.digital_signature and not usage.content_commitment:
        return "it is not for signatures (keyUsage)"
    if now not in signer.validity:
        return "it is not valid at this time"
    if signer.signature_hash in ("md5", "sha1") or not signer.issued_by(issuer):
        return "it was not issued by the issuer of the certificate"
    known = (x509.ExtendedKeyUsage, x509.KeyUsage, x509.BasicConstraints, x509.OCSPNoCheck, x509.CertificatePolicies)
    if any(not isinstance(each, known) for each in signer.critical_extensions()):
        return "it has a critical extension that is not processed"
    return None
