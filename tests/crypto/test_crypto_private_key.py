"""Loading private keys and PKCS#12 files: every usual form, and a precise sentence for what does not load (F6)."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from certificate_factory import Key, authority, gateway, is_clause, key, pem
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from ikeclient.crypto.pki.trust_store import load_pkcs12
from ikeclient.crypto.sign.file_key import FileKey, PassphraseNeeded
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import ProfileError

PASSWORD = b"S3cr3t-CANARY"
ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
LEAF = gateway(MIDDLE, private=key("p256", 5))


def kinds() -> list[str]:
    return ["rsa2048", "p256", "p384", "p521", "ed25519", "ed448"]


def refusal(data: bytes, password: bytes | None = None) -> str:
    with pytest.raises(ProfileError) as caught:
        FileKey.load(data, password)
    assert all(is_clause(line) for line in caught.value.lines())
    text = " ".join(caught.value.lines())
    assert "CANARY" not in text
    return text


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_pkcs8_loads(kind: str, encoding: Encoding, password: bytes | None) -> None:
    made = key(kind)
    encryption = serialization.BestAvailableEncryption(password) if password else NoEncryption()
    data = made.private_bytes(encoding, PrivateFormat.PKCS8, encryption)
    assert FileKey.load(data, password).public_key == PublicKey(made.public_key())


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_traditional_keys_load(kind: str, encoding: Encoding) -> None:
    data = key(kind).private_bytes(encoding, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert FileKey.load(data, None).public_key == PublicKey(key(kind).public_key())


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ed25519"])
def test_openssh_keys_load(kind: str) -> None:
    data = key(kind).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    assert FileKey.load(data, None).public_key == PublicKey(key(kind).public_key())


def test_text_and_certificates_around_a_key_do_not_matter() -> None:
    """F6: junk before the PEM."""
    data = b"Bag Attributes\n  localKeyID: 01\n" + LEAF.x509.public_bytes(Encoding.PEM) + b"\n" + pem(key("p256", 5))
    assert FileKey.load(data, None).public_key == LEAF.certificate.public_key


def test_a_password_for_an_unencrypted_key_is_ignored() -> None:
    assert FileKey.load(pem(key("p256")), PASSWORD).public_key == PublicKey(key("p256").public_key())


def test_a_missing_password_is_said() -> None:
    """F6."""
    for password in (None, b""):
        with pytest.raises(PassphraseNeeded) as caught:
            FileKey.load(pem(key("p256"), PASSWORD), password)
        assert caught.value.lines() == ["the private key is encrypted", "no password was given"]


def test_only_a_passphrase_that_may_help_is_asked_for() -> None:
    """F6: a damaged or unencrypted file, or a wrong password, is no reason to ask."""
    encrypted = pem(key("p256"), PASSWORD)
    for data, password in ((b"rubbish", None), (b"", None), (encrypted, b"wrong")):
        with pytest.raises(ProfileError) as caught:
            FileKey.load(data, password)
        assert not isinstance(caught.value, PassphraseNeeded)
    with pytest.raises(PassphraseNeeded):
        load_pkcs12(container(LEAF.key, LEAF.x509), None)
    for made, password in (
        (container(LEAF.key, LEAF.x509), b"wrong"),
        (container(None, LEAF.x509, password=None), None),
    ):
        with pytest.raises(ProfileError) as caught:
            load_pkcs12(made, password)
        assert not isinstance(caught.value, PassphraseNeeded)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_wrong_password_is_said(encoding: Encoding) -> None:
    """F6."""
    encryption = serialization.BestAvailableEncryption(b"right")
    data = key("p256").private_bytes(encoding, PrivateFormat.PKCS8, encryption)
    assert "password is wrong" in refusal(data, PASSWORD)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"\x30\x82" + bytes(40),
        ROOT.x509.public_bytes(Encoding.PEM),
        ROOT.x509.public_bytes(Encoding.DER),
    ],
)
def test_what_holds_no_key_is_said(data: bytes) -> None:
    """F6."""
    assert "no private key that can be read" in refusal(data)


def test_an_encrypted_openssh_key_gets_a_hint(tmp_path: Path) -> None:
    """F6: its key derivation is not ours to add a dependency for."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("the ssh-keygen command is not installed")
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "right horse", "-f", str(path)], check=True)
    with pytest.raises(PassphraseNeeded, match="is encrypted"):
        FileKey.load(path.read_bytes(), None)
    if importlib.util.find_spec("bcrypt"):
        assert FileKey.load(path.read_bytes(), b"right horse").public_key.kind == "Ed25519"
    else:
        assert "ssh-keygen -p -m PKCS8" in refusal(path.read_bytes(), b"right horse")


def test_explicit_curve_parameters_do_not_crash(tmp_path: Path) -> None:
    """C12."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    made = ["openssl", "ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout"]
    data = subprocess.run(made, check=True, capture_output=True).stdout
    with contextlib.suppress(ProfileError):  # also fine: both are answers, a crash is not
        assert FileKey.load(data, None).public_key.kind == "ECDSA P-256"


# PKCS#12


def container(private: Key | None, *others: object, password: bytes | None = PASSWORD, legacy: bool = False) -> bytes:
    first, *rest = others
    encryption: serialization.KeySerializationEncryption = NoEncryption()
    if legacy and password:
        builder = PrivateFormat.PKCS12.encryption_builder().key_cert_algorithm(
            pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC
        )
        encryption = builder.hmac_hash(hashes.SHA1()).build(password)
    elif password:
        encryption = serialization.BestAvailableEncryption(password)
    return pkcs12.serialize_key_and_certificates(b"name", private, first, rest or None, encryption)  # type: ignore[arg-type]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("password", [PASSWORD, None])
def test_a_container_gives_key_and_chain_with_the_leaf_first(password: bytes | None, legacy: bool) -> None:
    data = container(LEAF.key, LEAF.x509, MIDDLE.x509, ROOT.x509, password=password, legacy=legacy)
    private, chain = load_pkcs12(data, password)
    assert private.public_key == LEAF.certificate.public_key
    assert chain[0] == LEAF.certificate
    assert set(chain[1:]) == {MIDDLE.certificate, ROOT.certificate}


@pytest.mark.parametrize(
    ("data", "password", "message"),
    [
        (container(LEAF.key, LEAF.x509), b"wrong", "password is wrong"),
        (container(LEAF.key, LEAF.x509), None, "needs a password"),
        (b"rubbish", PASSWORD, "the file is damaged"),
        (b"", None, "is damaged"),
        (container(None, LEAF.x509), PASSWORD, "holds no private key"),
        (container(LEAF.key, None), PASSWORD, "no certificate for its private key"),
        (container(LEAF.key, None, ROOT.x509), PASSWORD, "no certificate for its private key"),
    ],
)
def test_a_container_that_cannot_be_used_says_why(data: bytes, password: bytes | None, message: str) -> None:
    """F6: wrong password, no key, no certificate for the key."""
    with pytest.raises(ProfileError) as caught:
        load_pkcs12(data, password)
    assert all(is_clause(line) for line in caught.value.lines())
    text = " ".join(caught.value.lines())
    assert message in text
    assert "CANARY" not in text


def test_a_container_with_rc2_loads(tmp_path: Path) -> None:
    """F6: what old versions of OpenSSL and Windows write by default."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    (tmp_path / "key.pem").write_bytes(pem(LEAF.key))
    (tmp_path / "leaf.pem").write_bytes(LEAF.x509.public_bytes(Encoding.PEM))
    made = ["openssl", "pkcs12", "-export", "-legacy", "-inkey", "key.pem", "-in", "leaf.pem", "-passout", "pass:x"]
    result = subprocess.run(made, capture_output=True, cwd=tmp_path)
    if result.returncode:
        pytest.skip("this openssl has no legacy provider")
    private, _ = load_pkcs12(result.stdout, b"x")
    assert private.public_key == LEAF.certificate.public_key


def test_a_container_for_a_weak_key_is_refused() -> None:
    """C10."""
    weak = gateway(ROOT, private=key("rsa1024"))
    with pytest.raises(ProfileError, match="cannot be used"):
        load_pkcs12(container(weak.key, weak.x509), PASSWORD)


def test_keys_on_foreign_curves_are_refused() -> None:
    made = ec.generate_private_key(ec.SECP256K1())
    assert "curve we know" in refusal(pem(made))
