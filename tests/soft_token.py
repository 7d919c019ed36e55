"""A token of SoftHSM's in a directory of its own, and the processes that use it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "123456"
SO_PIN = "87654321"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

_STORE = """
import sys, pkcs11
from pkcs11 import Attribute, CertificateType, ObjectClass
module, label, pin, identifier, path = sys.argv[1:]
token = pkcs11.lib(module).get_token(token_label=label)
with token.open(rw=True, user_pin=pin) as session:
    session.create_object({
        Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
        Attribute.TOKEN: True, Attribute.ID: bytes.fromhex(identifier), Attribute.LABEL: "certificate",
        Attribute.SUBJECT: b"0\\0", Attribute.VALUE: open(path, "rb").read(),
    })
"""

_CHANGE_PIN = """
import sys, pkcs11
module, label, old, new = sys.argv[1:]
with pkcs11.lib(module).get_token(token_label=label).open(rw=True, user_pin=old) as session:
    session.set_pin(old, new)
"""


class SoftToken:
    """A token called `label`. `variables` is the environment that leads to it."""

    def __init__(self, directory: Path, label: str = "work") -> None:
        self.label = label
        self._tokens = directory / "tokens"
        self._tokens.mkdir(parents=True)
        self._directory = directory
        configuration = directory / "softhsm2.conf"
        configuration.write_text(
            f"directories.tokendir = {self._tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self.variables = {"SOFTHSM2_CONF": str(configuration)}
        self._util("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN)

    def _util(self, *arguments: str) -> None:
        self._run("softhsm2-util", *arguments)

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, env=os.environ | self.variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def add_key(self, key: Key, label: str, identifier: str = "01") -> None:
        """Put a private key on it, with its public half."""
        path = self._directory / "key.pem"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        try:
            self._util(
                *("--import", str(path), "--token", self.label),
                *("--label", label, "--id", identifier, "--pin", PIN),
            )
        finally:
            path.unlink()

    def add_certificate(self, certificate: x509.Certificate, identifier: str = "01") -> None:
        """Put a certificate on it."""
        path = self._directory / "certificate.der"
        path.write_bytes(certificate.public_bytes(Encoding.DER))
        self._run(sys.executable, "-c", _STORE, str(MODULE), self.label, PIN, identifier, str(path))

    def change_pin(self, pin: str) -> None:
        """Set another PIN."""
        self._run(sys.executable, "-c", _CHANGE_PIN, str(MODULE), self.label, PIN, pin)

    def pull_out(self) -> None:
        """Take it away; `put_back` brings it."""
        self._tokens.rename(self._directory / "pulled out")
        self._tokens.mkdir()

    def put_back(self) -> None:
        """Bring it again."""
        self._tokens.rmdir()
        (self._directory / "pulled out").rename(self._tokens)


def self_signed(key: Key, name: str = "alice") -> x509.Certificate:
    """A certificate for a key, made with it."""
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    return builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
