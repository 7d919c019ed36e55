"""A certificate authority for the simulation: Ed25519 with fixed keys, so that every run sends the same bytes."""

from __future__ import annotations

import datetime
import functools
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ikeclient.crypto.pki.trust_store import Certificate, TrustStore
from ikeclient.crypto.sign.file_key import FileKey

NOW = datetime.datetime(2026, 6, 1, 12, 0, tzinfo=datetime.UTC)
_YEAR = datetime.timedelta(days=365)


def _key(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(number: int, subject: str, issuer: str, names: list[x509.GeneralName], *, ca: bool) -> Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(_key(number).public_key())
        .serial_number(1000 + number)
        .not_valid_before(NOW - _YEAR)
        .not_valid_after(NOW + _YEAR)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = _key(1 if issuer == "Simulated CA" else number)
    return Certificate.from_der(builder.sign(signer, None).public_bytes(Encoding.DER))


@functools.cache
def authority() -> Certificate:
    return _certificate(1, "Simulated CA", "Simulated CA", [], ca=True)


@functools.cache
def gateway_certificate() -> Certificate:
    names: list[x509.GeneralName] = [
        x509.DNSName("vpn.example.com"),
        x509.IPAddress(ipaddress.ip_address("203.0.113.7")),
    ]
    return _certificate(2, "gateway", "Simulated CA", names, ca=False)


@functools.cache
def user_certificate() -> Certificate:
    return _certificate(3, "alice", "Simulated CA", [x509.RFC822Name("alice@example.com")], ca=False)


@functools.cache
def stranger_certificate() -> Certificate:
    """Has the gateway's name, but signed itself."""
    return _certificate(4, "gateway", "gateway", [x509.DNSName("vpn.example.com")], ca=False)


def trust() -> TrustStore:
    return TrustStore.from_certificates([authority()])


def gateway_key() -> FileKey:
    return FileKey(_key(2))


def user_key() -> FileKey:
    return FileKey(_key(3))


def stranger_key() -> FileKey:
    return FileKey(_key(4))
