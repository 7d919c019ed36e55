"""The other end of EAP-TLS, TTLS and PEAP for tests: an authentication server that notes all it is told."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.trust_store import TrustStore
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.eap.fragments import LENGTH, MORE, START
from ikeclient.wire.registry import EapType, IdType

NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
SERVER, CLIENT = "radius.example.org", "alice@example.org"
FRAGMENT = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def ours(self) -> Certificate:
        return Certificate.from_der(self.certificate.public_bytes(serialization.Encoding.DER))

    @property
    def file_key(self) -> FileKey:
        form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return FileKey.load(self.key.private_bytes(*form), None)


@cache
def issue(name: str, issuer: str | None = None, *, days: int = 300) -> Issued:
    """Make a certificate once: an authority without `issuer`, else one for a server or a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of {issuer}")])
    parent = issue(issuer) if issuer else None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.certificate.subject if parent else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=300))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=parent is None, path_length=None), critical=True)
    )
    if parent is not None:
        alternative = x509.RFC822Name(name) if "@" in name else x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return Issued(certificate=builder.sign(parent.key if parent else key, hashes.SHA256()), key=key)


def credentials(*, certificate: bool = False, **changes: object) -> TlsCredentials:
    """What a client of the right server has."""
    own = issue(CLIENT, "ca")
    return TlsCredentials(
        **{
            "trust": TrustStore.from_certificates([issue("ca").ours]),
            "server_name": (IdType.FQDN, SERVER.encode()),
            "anonymous_identity": "anonymous@example.org",
            "chain": (own.ours,) if certificate else (),
            "key": own.file_key if certificate else None,
            **changes,
        }  # type: ignore[arg-type]
    )


class Server:
    """One conversation with `method`. Hand `request` to the peer, and what it answers to `take`."""

    def __init__(
        self,
        method: EapType,
        shown: Issued | None = None,
        *,
        tls13: bool = True,
        wants_certificate: bool = False,
        staple: bytes = b"",
    ) -> None:
        self.method = method
        self.heard = bytearray()  # all that was sent to us, as it was on the wire
        self.said = bytearray()  # what of it was inside of TLS
        self.silent = False  # whether TLS had nothing to say to the last message
        self._identifier = 10
        self._incoming = b""
        self._outgoing: list[bytes] = []
        own = shown or issue(SERVER, "ca")
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(own.certificate)
        context.use_privatekey(own.key)
        context.set_max_proto_version(SSL.TLS1_3_VERSION if tls13 else SSL.TLS1_2_VERSION)
        if wants_certificate:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.set_ocsp_server_callback(lambda *_: staple)
        self.tls = SSL.Connection(context, None)
        self.tls.set_accept_state()

    def packet(self, data: bytes) -> bytes:
        """An EAP request of the method."""
        self._identifier += 1
        return bytes([1, self._identifier]) + (5 + len(data)).to_bytes(2, "big") + bytes([self.method]) + data

    @property
    def in_pieces(self) -> bool:
        """Whether fragments of the last message are left."""
        return bool(self._outgoing)

    def start(self) -> bytes:
        return self.packet(bytes([START]))

    def take(self, response: bytes) -> bytes:
        """Read the peer's response and return the next request."""
        self.heard += response
        data = response[5:]
        if self._outgoing:
            return self.packet(self._outgoing.pop(0))
        flags, body = data[0], data[5:] if data[0] & LENGTH else data[1:]
        self._incoming += body
        if flags & MORE:
            return self.packet(b"\0")
        if self._incoming:
            self.tls.bio_write(self._incoming)
        self._incoming = b""
        for step in (self.tls.do_handshake, self._read):
            try:
                step()
            except SSL.WantReadError:
                break
        return self.send()

    def _read(self) -> None:
        while True:
            self.said += self.tls.recv(1 << 16)

    def send(self, inside: bytes = b"") -> bytes:
        """The next request, with something inside of TLS."""
        if inside:
            self.tls.send(inside)
        records = b""
        try:
            while True:
                records += self.tls.bio_read(1 << 16)
        except SSL.WantReadError:
            pass
        self.silent = not records
        return self.packet(self._fragmented(records))

    def _fragmented(self, records: bytes) -> bytes:
        parts: Sequence[bytes] = [records[at : at + FRAGMENT] for at in range(0, len(records), FRAGMENT)] or [b""]
        if len(parts) == 1:
            return b"\0" + parts[0]
        self._outgoing = [bytes([MORE]) + part for part in parts[1:-1]] + [b"\0" + parts[-1]]
        return bytes([LENGTH | MORE]) + len(records).to_bytes(4, "big") + parts[0]
