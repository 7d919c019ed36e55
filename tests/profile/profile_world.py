"""Texts of profiles, and a small authority that issues what they point at."""

from __future__ import annotations

import datetime
import errno
import os
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

CANARY = "S3cr3t-CANARY"
_DAY = datetime.timedelta(days=1)

PSK = """\
version = 1

[gateway]
address = "192.0.2.1"

[auth]
method = "psk"
identity = "alice@example.com"
psk = { file = "psk" }
"""
CERTIFICATE = """\
version = 1

[gateway]
address = "vpn.example.com"
ca = "ca.pem"

[auth]
method = "certificate"
certificate = "alice.pem"
key = "alice.key"
"""
EAP = """\
version = 1

[gateway]
address = "vpn.example.com"
ca = "ca.pem"

[auth]
method = "eap-mschapv2"
identity = "alice@example.com"
password = { file = "pw" }
"""


@dataclass(frozen=True)
class Owner:
    """Somebody with a key and a certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def key_pem(self, password: bytes | None = None) -> bytes:
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def pkcs12(self, password: bytes | None, others: list[x509.Certificate] | None = None) -> bytes:
        encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return pkcs12.serialize_key_and_certificates(b"x", self.key, self.certificate, others, encryption)


def issue(
    name: x509.Name, issuer: Owner | None = None, names: list[x509.GeneralName] | None = None, *, days: int = 30
) -> Owner:
    """An owner with a new key and a certificate valid until `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 60 * _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Owner(key=key, certificate=builder.sign(issuer.key if issuer else key, hashes.SHA256()))


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def is_clause(line: str) -> bool:
    """Whether a line of an error is one clause without capital and full stop, or what the operating system says."""
    if line in map(os.strerror, errno.errorcode):
        return True
    return line.isprintable() and not re.search(r"^[A-Z][a-z]* |[^.]\.$|\. [A-Z]", line)
