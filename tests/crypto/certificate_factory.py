"""Certificates made to order: a key, a name, an issuer, and exactly the extensions a test asks for."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, validate_gateway
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.errors import GatewayNotAuthenticated
from ikeclient.wire.registry import IdType

NOW = datetime.datetime(2026, 6, 1, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
CA = x509.BasicConstraints(ca=True, path_length=None)
END_ENTITY = x509.BasicConstraints(ca=False, path_length=None)

_X509: TypeAlias = x509.Certificate
_Name: TypeAlias = x509.Name
Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


def key(kind: str, number: int = 0) -> Key:
    """The `number`-th key of a kind; every test of a run shares them, because RSA keys take their time."""
    return _key(kind, number)


@functools.cache
def _key(kind: str, number: int) -> Key:
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case "rsa1024":
            return rsa.generate_private_key(65537, 1024)
        case "rsa3072":
            return rsa.generate_private_key(65537, 3072)
    return rsa.generate_private_key(65537, 2048)


def pem(private: Key, password: bytes | None = None) -> bytes:
    """A key as PKCS#8 PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def private_key(kind: str, number: int = 0) -> FileKey:
    """A key as ours."""
    return FileKey.load(pem(key(kind, number)), None)


def name(common_name: str) -> x509.Name:
    """C=CH, O=Test, CN=..."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A certificate with what is needed to issue others."""

    x509: _X509
    key: Key
    name: _Name

    @property
    def certificate(self) -> Certificate:
        return Certificate.from_der(self.x509.public_bytes(serialization.Encoding.DER))


def make(
    subject: str | x509.Name,
    issuer: Made | None = None,
    *,
    private: Key | None = None,
    extensions: Sequence[x509.ExtensionType | tuple[x509.ExtensionType, bool]] = (),
    start: datetime.datetime = NOW - 10 * DAY,
    end: datetime.datetime = NOW + 10 * DAY,
    algorithm: Any = None,
) -> Made:
    """A certificate; without an issuer it signs itself. An extension is critical when paired with True."""
    own = private or key("p256", hash(subject) % 1000)
    own_name = name(subject) if isinstance(subject, str) else subject
    signer = issuer.key if issuer else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(issuer.name if issuer else own_name)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension in extensions:
        value, critical = extension if isinstance(extension, tuple) else (extension, False)
        builder = builder.add_extension(value, critical)
    if algorithm is None and not isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        algorithm = hashes.SHA256()
    return Made(x509=builder.sign(signer, algorithm), key=own, name=own_name)


def authority(subject: str, issuer: Made | None = None, *more: x509.ExtensionType, **arguments: Any) -> Made:
    """A certificate authority."""
    constraints = () if any(isinstance(each, x509.BasicConstraints) for each in more) else ((CA, True),)
    return make(subject, issuer, extensions=[*constraints, *more], **arguments)


def hosts(*names: str) -> x509.SubjectAlternativeName:
    """Alternative names: host names, mailboxes, addresses."""
    found: list[x509.GeneralName] = []
    for each in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(each)))
        except ValueError:
            found.append(x509.RFC822Name(each) if "@" in each else x509.DNSName(each))
    return x509.SubjectAlternativeName(found)


def gateway(issuer: Made | None, *more: x509.ExtensionType | tuple[x509.ExtensionType, bool], **arguments: Any) -> Made:
    """The certificate of vpn.example.com for TLS and IKE servers, unless `more` has other names or usages."""
    kinds = {type(each[0] if isinstance(each, tuple) else each) for each in more}
    defaults = [hosts("vpn.example.com"), END_ENTITY, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]
    extensions = [each for each in defaults if type(each) not in kinds]
    return make(arguments.pop("subject", "gateway"), issuer, extensions=[*extensions, *more], **arguments)


def usage(*bits: str) -> x509.KeyUsage:
    """A keyUsage with these bits set."""
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{each: each in bits for each in names})


WIDE: dict[str, Any] = {
    "start": NOW - 3000 * DAY,
    "end": NOW + 9000 * DAY,
}  # for use with what openssl dates by the clock


ROOT = authority("root")
INTERMEDIATE = authority("intermediate", ROOT)
OTHER_ROOT = authority("other root")


def check(
    chain: Sequence[Made],
    trust: Sequence[Made] = (ROOT,),
    *,
    now: datetime.datetime = NOW,
    id_type: IdType = IdType.FQDN,
    identity: bytes = b"vpn.example.com",
    **arguments: Any,
) -> None:
    """`validate_gateway` for the gateway of `gateway()`."""
    store = TrustStore.from_certificates([each.certificate for each in trust])
    validate_gateway([each.certificate for each in chain], store, now, id_type, identity, **arguments)


def is_clause(line: str) -> bool:
    """Whether a line of an error is one clause: it starts as the inside of a sentence does and has no full stop."""
    return line.isprintable() and not re.search(r"^[A-Z][a-z]* |[^.]\.$|\. [A-Z]", line)


def refusal(chain: Sequence[Made], trust: Sequence[Made] = (ROOT,), **arguments: Any) -> str:
    """What a person reads when `chain` is refused."""
    with pytest.raises(GatewayNotAuthenticated) as caught:
        check(chain, trust, **arguments)
    assert len(caught.value.lines()) <= 3
    assert all(is_clause(line) for line in caught.value.lines())
    return " ".join(caught.value.lines())


def from_openssl(
    directory: Path, subject: str, digest: str, *, issuer: Made | None = None, extensions: str = ""
) -> Made:
    """A certificate of the kinds that `cryptography` refuses to make: version 1, or with an outdated hash."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    own = key("p256", 60)
    (directory / "key.pem").write_bytes(pem(own))
    days = ["-set_serial", "7", "-days", "2"]
    subject_text = f"/C=CH/O=Test/CN={subject}"
    request = openssl(directory, "req", "-new", "-key", "key.pem", "-subj", subject_text, "-outform", "DER")
    (directory / "request.der").write_bytes(request)
    signer = ["-signkey", "key.pem"]
    if issuer:
        (directory / "ca.pem").write_bytes(issuer.x509.public_bytes(serialization.Encoding.PEM))
        (directory / "ca-key.pem").write_bytes(pem(issuer.key))
        signer = ["-CA", "ca.pem", "-CAkey", "ca-key.pem"]
    if extensions:
        (directory / "extensions").write_text(extensions)
        days += ["-extfile", "extensions"]
    output = ["-in", "request.der", "-inform", "DER", "-outform", "DER"]
    encoded = openssl(directory, "x509", "-req", digest, *signer, *days, *output)
    return Made(x509=x509.load_der_x509_certificate(encoded), key=own, name=name(subject))


def openssl(directory: Path, *arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory).stdout
