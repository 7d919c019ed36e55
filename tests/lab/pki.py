"""Certificates for the lab, made afresh for every run.

Four authorities (RSA, ECDSA, Ed25519 and an ECDSA one that nobody trusts) sign certificates of every kind of key. A
certificate is made when it is first asked for, because RSA keys take their time. Odd certificates (expired, wrong name,
too large for a datagram) come from the same `issue` with other arguments.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lab.network import (
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    GATEWAY_NAME,
    SECOND_GATEWAY_IPV4,
    SECOND_GATEWAY_IPV6,
)

CLIENT_NAME = "alice@example.org"
Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

KINDS: dict[str, tuple[Callable[[], Key], str]] = {  # kind of key -> how to make one, the authority that signs it
    "rsa2048": (lambda: rsa.generate_private_key(65537, 2048), "rsa"),
    "rsa3072": (lambda: rsa.generate_private_key(65537, 3072), "rsa"),
    "ecdsa256": (lambda: ec.generate_private_key(ec.SECP256R1()), "ecdsa"),
    "ecdsa384": (lambda: ec.generate_private_key(ec.SECP384R1()), "ecdsa"),
    "ecdsa521": (lambda: ec.generate_private_key(ec.SECP521R1()), "ecdsa"),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, "ed25519"),
    "ed448": (ed448.Ed448PrivateKey.generate, "ed25519"),
}
AUTHORITIES = {"rsa": "rsa2048", "ecdsa": "ecdsa384", "ed25519": "ed25519", "unknown": "ecdsa256"}
PURPOSES = {"gateway": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate with its private key and the files that hold them."""

    name: str
    certificate: x509.Certificate = field(repr=False)
    key: Key = field(repr=False)
    certificate_file: Path
    key_file: Path  # PKCS#8 PEM, mode 0600
    chain_file: Path  # the certificate, then its intermediates
    intermediates: tuple[Path, ...] = ()
    authority_file: Path  # the root that a profile names


class Pki:
    """The authorities and certificates of one run, as files below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: dict[str, Credential] = {}

    def authority(self, name: str) -> Credential:
        """The root of that name: a key of `AUTHORITIES`."""
        label = f"ca-{name}"
        if label not in self._made:
            self._made[label] = self._sign(label, AUTHORITIES[name], parent=None, extensions=_authority_extensions())
        return self._made[label]

    def credential(self, role: str, kind: str) -> Credential:
        """An ordinary certificate for the role "gateway" or "client" with a key of `KINDS`."""
        return self.issue(f"{role}-{kind}", role, kind)

    def issue(
        self,
        name: str,
        role: str,
        kind: str,
        *,
        authority: str | None = None,
        names: Sequence[x509.GeneralName] | None = None,
        purpose: x509.ObjectIdentifier | None = None,
        days: tuple[float, float] = (-1, 30),
        intermediates: int = 0,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> Credential:
        """Make (once) the certificate `name`; `days` are validity from now, `intermediates` the authorities between.

        `extensions` are more of them, each with whether it is critical.
        """
        if name not in self._made:
            parent = self.authority(authority or KINDS[kind][1])
            for depth in range(intermediates):
                label = f"{name}-intermediate{depth}"
                parent = self._sign(label, "ecdsa256", parent=parent, extensions=_authority_extensions())
            alternative = x509.SubjectAlternativeName(usual_names(role) if names is None else names)
            use = x509.ExtendedKeyUsage([purpose or PURPOSES[role]])
            every = [(alternative, False), (use, False), *_leaf_extensions(), *extensions]
            self._made[name] = self._sign(name, kind, parent=parent, extensions=every, days=days)
        return self._made[name]

    def expired(self) -> Credential:
        """A gateway certificate whose time was over yesterday."""
        return self.issue("gateway-expired", "gateway", "ecdsa256", days=(-30, -1))

    def not_yet_valid(self) -> Credential:
        """A gateway certificate that is valid from tomorrow."""
        return self.issue("gateway-future", "gateway", "ecdsa256", days=(1, 30))

    def wrong_name(self) -> Credential:
        """A gateway certificate of another host."""
        names = [x509.DNSName("other.example.org")]
        return self.issue("gateway-other", "gateway", "ecdsa256", names=names)

    def client_purpose(self) -> Credential:
        """A gateway certificate that may only serve clients."""
        return self.issue("gateway-clientauth", "gateway", "ecdsa256", purpose=ExtendedKeyUsageOID.CLIENT_AUTH)

    def unknown_authority(self) -> Credential:
        """A gateway certificate from an authority no profile names."""
        return self.issue("gateway-unknown", "gateway", "ecdsa256", authority="unknown")

    def large(self, role: str) -> Credential:
        """A certificate with 150 more names below three intermediates: no datagram holds such a chain."""
        names = [*usual_names(role), *(x509.DNSName(f"host-{n}.subsidiary.example.org") for n in range(150))]
        return self.issue(f"{role}-large", role, "ecdsa256", names=names, intermediates=3)

    def _sign(
        self,
        name: str,
        kind: str,
        *,
        parent: Credential | None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
        days: tuple[float, float] = (-1, 30),
    ) -> Credential:
        key = KINDS[kind][0]()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "ikeclient lab"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        start, end = (_now() + datetime.timedelta(days=day) for day in days)
        signer = parent.key if parent else key
        builder = (
            x509.CertificateBuilder(subject_name=subject, serial_number=x509.random_serial_number())
            .issuer_name(parent.certificate.subject if parent else subject)
            .not_valid_before(start)
            .not_valid_after(end)
            .public_key(key.public_key())
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        plain = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return self._store(name, builder.sign(signer, None if plain else hashes.SHA256()), key, parent)

    def _store(self, name: str, certificate: x509.Certificate, key: Key, parent: Credential | None) -> Credential:
        certificate_file, key_file, chain_file = (self.directory / f"{name}{end}" for end in (".crt", ".key", ".pem"))
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        below_root = parent is not None and parent.authority_file != parent.certificate_file
        intermediates = (parent.certificate_file, *parent.intermediates) if parent and below_root else ()
        certificate_file.write_bytes(pem)
        chain_file.write_bytes(pem + b"".join(path.read_bytes() for path in intermediates))
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Credential(
            name=name,
            certificate=certificate,
            key=key,
            certificate_file=certificate_file,
            key_file=key_file,
            chain_file=chain_file,
            intermediates=intermediates,
            authority_file=parent.authority_file if parent else certificate_file,
        )


def usual_names(role: str) -> list[x509.GeneralName]:
    """What an ordinary certificate of that role says it is."""
    if role == "client":
        return [x509.RFC822Name(CLIENT_NAME)]
    outside = (GATEWAY_IPV4, GATEWAY_IPV6, SECOND_GATEWAY_IPV4, SECOND_GATEWAY_IPV6)
    return [x509.DNSName(GATEWAY_NAME), *(x509.IPAddress(ipaddress.ip_address(address)) for address in outside)]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _authority_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(ca=True, path_length=None), True), (_key_usage(signs_certificates=True), True)]


def _leaf_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.BasicConstraints(ca=False, path_length=None), True), (_key_usage(signs_certificates=False), True)]


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
