"""Signatures over the AUTH octets: against OpenSSL, in both worlds of IKEv2, and everything that must not verify."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from certificate_factory import key, pem, private_key
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.crypto.sign.private_key import PrivateKey, acceptable, sign_auth
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme, algorithm_identifier, pss
from ikeclient.crypto.sign.signature import PublicKey, verify
from ikeclient.errors import ProfileError, SignatureError
from ikeclient.wire.registry import AuthMethod, HashAlgorithm

OCTETS = b"the octets that AUTH covers" * 10
ALL = frozenset({HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512, HashAlgorithm.IDENTITY})
KINDS = {
    "rsa2048": ("RSA 2048", "RSA-PSS with SHA-256"),
    "rsa3072": ("RSA 3072", "RSA-PSS with SHA-256"),
    "p256": ("ECDSA P-256", "ECDSA with SHA-256"),
    "p384": ("ECDSA P-384", "ECDSA with SHA-384"),
    "p521": ("ECDSA P-521", "ECDSA with SHA-512"),
    "ed25519": ("Ed25519", "Ed25519"),
    "ed448": ("Ed448", "Ed448"),
}
SHA2 = {
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}


def rsa_key() -> rsa.RSAPrivateKey:
    made = key("rsa2048")
    assert isinstance(made, rsa.RSAPrivateKey)
    return made


def ec_key(kind: str) -> ec.EllipticCurvePrivateKey:
    made = key(kind)
    assert isinstance(made, ec.EllipticCurvePrivateKey)
    return made


def digital_signature(scheme: Scheme, signature: bytes) -> bytes:
    identifier = algorithm_identifier(scheme)
    return bytes([len(identifier)]) + identifier + signature


def auth(
    key: PrivateKey, octets: bytes, accepted: frozenset[HashAlgorithm] | None, **options: Any
) -> tuple[AuthMethod, bytes]:
    """The method and data of AUTH."""
    made = sign_auth(key, octets, accepted, **options)
    return made.method, made.data


def refusal(kind: str, method: AuthMethod, data: bytes, *, allow_sha1: bool = False) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(private_key(kind).public_key, method, data, OCTETS, allow_sha1=allow_sha1)
    return caught.value.message


# Method 14


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_signs_and_verifies_with_method_14(kind: str) -> None:
    ours = private_key(kind)
    printable, scheme = KINDS[kind]
    assert ours.public_key.kind == printable
    method, data = auth(ours, OCTETS, ALL)
    assert method == AuthMethod.DIGITAL_SIGNATURE
    assert verify(ours.public_key, method, data, OCTETS) == scheme
    with pytest.raises(SignatureError, match="does not verify"):
        verify(ours.public_key, method, data, OCTETS + b"\0")
    with pytest.raises(SignatureError, match="does not verify"):
        verify(private_key(kind, 1).public_key, method, data, OCTETS)


@pytest.mark.parametrize(
    ("kind", "offered", "scheme"),
    [
        ("p256", {HashAlgorithm.SHA2_512}, "ECDSA with SHA-512"),
        ("p521", {HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384}, "ECDSA with SHA-384"),
        ("rsa2048", {HashAlgorithm.SHA2_384, HashAlgorithm.SHA1}, "RSA-PSS with SHA-384"),
    ],
)
def test_the_hash_is_one_the_peer_accepts(kind: str, offered: set[HashAlgorithm], scheme: str) -> None:
    ours = private_key(kind)
    assert verify(ours.public_key, *auth(ours, OCTETS, frozenset(offered)), OCTETS) == scheme


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        ("rsa2048", set()),
        ("rsa2048", {HashAlgorithm.SHA1}),
        ("rsa2048", {HashAlgorithm.IDENTITY}),
        ("ed25519", {HashAlgorithm.SHA2_256}),
        ("p256", {HashAlgorithm(77)}),
    ],
)
def test_nothing_in_common_is_an_error(kind: str, offered: set[HashAlgorithm]) -> None:
    """N26: only SHA-1, only unknown numbers, or nothing."""
    with pytest.raises(SignatureError, match="cannot sign with any hash the peer accepts"):
        auth(private_key(kind), OCTETS, frozenset(offered))


def test_sha1_is_used_and_accepted_only_where_allowed() -> None:
    """N26, C10."""
    for kind in ("rsa2048", "p256"):
        ours = private_key(kind)
        method, data = auth(ours, OCTETS, frozenset({HashAlgorithm.SHA1}), allow_sha1=True)
        assert "SHA-1" in verify(ours.public_key, method, data, OCTETS, allow_sha1=True)
        assert "which is too weak" in refusal(kind, method, data)


def test_pkcs1_v15_with_sha2_is_accepted_in_method_14() -> None:
    ours = private_key("rsa2048")
    method, data = auth(ours, OCTETS, ALL, schemes=[SCHEME_NAMES["rsa-pkcs1-sha256"]])
    assert verify(ours.public_key, method, data, OCTETS) == "RSA PKCS#1 v1.5 with SHA-256"


@pytest.mark.parametrize(
    ("kind", "names", "scheme"),
    [
        ("rsa2048", ["rsa-pkcs1-sha384", "rsa-pss-sha256"], "RSA PKCS#1 v1.5 with SHA-384"),
        ("rsa2048", ["ecdsa-sha256", "rsa-pss-sha512"], "RSA-PSS with SHA-512"),
        ("rsa3072", ["rsa-pkcs1-sha256"], "RSA PKCS#1 v1.5 with SHA-256"),
        ("p256", ["rsa-pss-sha256", "ecdsa-sha512", "ecdsa-sha256"], "ECDSA with SHA-512"),
        ("ed25519", ["ed448", "ed25519"], "Ed25519"),
    ],
)
def test_the_schemes_that_may_sign_are_tried_in_their_order(kind: str, names: list[str], scheme: str) -> None:
    ours = private_key(kind)
    schemes = [SCHEME_NAMES[name] for name in names]
    assert verify(ours.public_key, *auth(ours, OCTETS, ALL, schemes=schemes), OCTETS) == scheme
    assert str(acceptable(ours.public_key, ALL, schemes=schemes)[0]) == scheme


def test_every_named_scheme_signs_and_verifies() -> None:
    kinds = {"rsa": "rsa2048", "ecdsa": "p384", "ed25519": "ed25519", "ed448": "ed448"}
    for name, scheme in SCHEME_NAMES.items():
        ours = private_key(kinds[name.partition("-")[0]])
        assert verify(ours.public_key, *auth(ours, OCTETS, ALL, schemes=[scheme]), OCTETS) == str(scheme)
        others = [other for other in SCHEME_NAMES.values() if other.family not in ours.public_key.families]
        with pytest.raises(SignatureError, match=r"cannot sign that auth\.signature allows"):
            auth(ours, OCTETS, ALL, schemes=others)


def test_a_scheme_whose_hash_the_peer_does_not_list_does_not_sign() -> None:
    """N26."""
    ours = private_key("rsa2048")
    only = [SCHEME_NAMES["rsa-pss-sha512"]]
    with pytest.raises(SignatureError, match="SHA-256") as caught:
        auth(ours, OCTETS, frozenset({HashAlgorithm.SHA2_256}), schemes=only)
    assert "auth.signature" in str(caught.value.hint)
    both = [*only, SCHEME_NAMES["rsa-pkcs1-sha256"]]
    assert acceptable(ours.public_key, frozenset({HashAlgorithm.SHA2_256}), schemes=both) == (both[1],)


def test_the_schemes_that_may_sign_limit_the_classic_methods_too() -> None:
    ours = private_key("p256")
    method, _ = auth(ours, OCTETS, None, schemes=[SCHEME_NAMES["ecdsa-sha256"]])
    assert method == AuthMethod.ECDSA_SHA256_P256
    with pytest.raises(SignatureError, match=r"auth\.signature"):
        auth(ours, OCTETS, None, schemes=[SCHEME_NAMES["ecdsa-sha384"]])
    with pytest.raises(SignatureError) as caught:
        auth(private_key("rsa2048"), OCTETS, None, allow_sha1=True, schemes=[SCHEME_NAMES["rsa-pkcs1-sha256"]])
    assert "leave out auth.signature and set gateway.allow_sha1 = true" in str(caught.value.hint)


def test_the_way_out_of_sha1_is_named() -> None:
    """N26: a gateway that knows SHA-1 only, in its list or for want of one, and a key that could do it."""
    for peer in (None, frozenset({HashAlgorithm.SHA1})):
        with pytest.raises(SignatureError) as caught:
            auth(private_key("rsa2048"), OCTETS, peer)
        assert "set gateway.allow_sha1 = true" in str(caught.value.hint)
    for peer in (None, frozenset({HashAlgorithm.SHA1})):
        with pytest.raises(SignatureError) as caught:
            auth(private_key("ed25519"), OCTETS, peer)
        assert "allow_sha1" not in str(caught.value.hint)


@pytest.mark.parametrize("salt_length", [0, 20, 48, 64])
def test_pss_uses_the_salt_length_it_announces(salt_length: int) -> None:
    """C13: the parameters are taken at their word, within reason."""
    scheme = Scheme(family=Family.RSA_PSS, hash=HashAlgorithm.SHA2_256, salt_length=salt_length)
    pss_padding = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt_length)
    signature = rsa_key().sign(OCTETS, pss_padding, hashes.SHA256())
    public = private_key("rsa2048").public_key
    assert verify(public, AuthMethod.DIGITAL_SIGNATURE, digital_signature(scheme, signature), OCTETS)
    wrong = Scheme(family=Family.RSA_PSS, hash=HashAlgorithm.SHA2_256, salt_length=32)
    assert "does not verify" in refusal("rsa2048", AuthMethod.DIGITAL_SIGNATURE, digital_signature(wrong, signature))


def test_pss_with_another_mask_hash_does_not_verify() -> None:
    """C13."""
    pss_padding = padding.PSS(mgf=padding.MGF1(hashes.SHA512()), salt_length=32)
    signature = rsa_key().sign(OCTETS, pss_padding, hashes.SHA256())
    data = digital_signature(pss(HashAlgorithm.SHA2_256), signature)
    assert "does not verify" in refusal("rsa2048", AuthMethod.DIGITAL_SIGNATURE, data)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\x0f", b"\x05\x30\x03\x06\x01\x2a", b"\xff" + bytes(200), b"\x02\x30\0xx"]
)
def test_a_digital_signature_without_identifier_is_refused(data: bytes) -> None:
    """K9."""
    assert "AlgorithmIdentifier" in refusal("p256", AuthMethod.DIGITAL_SIGNATURE, data)


@pytest.mark.parametrize(("kind", "other"), [*itertools.permutations(["rsa2048", "p256", "ed25519", "ed448"], 2)])
def test_a_signature_of_another_kind_than_the_key_is_refused(kind: str, other: str) -> None:
    """C16."""
    method, data = auth(private_key(other), OCTETS, ALL)
    assert f"but the key is {KINDS[kind][0]}" in refusal(kind, method, data)


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
def test_method_14_wants_ecdsa_in_der(kind: str) -> None:
    """C16: the bare r||s belongs to methods 9 to 11."""
    _, bare = auth(private_key(kind), OCTETS, None)
    scheme = Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_256)
    data = digital_signature(scheme, bare)
    assert "is the bare r||s, but method 14 wants DER" in refusal(kind, AuthMethod.DIGITAL_SIGNATURE, data)
    data = digital_signature(scheme, b"rubbish")
    assert "is malformed" in refusal(kind, AuthMethod.DIGITAL_SIGNATURE, data)


def test_ecdsa_with_trailing_bytes_is_refused() -> None:
    """C16."""
    method, data = auth(private_key("p256"), OCTETS, ALL)
    assert refusal("p256", method, data + b"\0")


# Methods 1 and 9 to 11


@pytest.mark.parametrize(
    ("kind", "method", "length"),
    [
        ("p256", AuthMethod.ECDSA_SHA256_P256, 64),
        ("p384", AuthMethod.ECDSA_SHA384_P384, 96),
        ("p521", AuthMethod.ECDSA_SHA512_P521, 132),
    ],
)
def test_without_rfc_7427_ecdsa_signs_with_its_own_method(kind: str, method: AuthMethod, length: int) -> None:
    """RFC 4754 section 7: r and s, each as long as the group's order."""
    ours = private_key(kind)
    found, data = auth(ours, OCTETS, None)
    assert (found, len(data)) == (method, length)
    verify(ours.public_key, method, data, OCTETS)
    r, s = int.from_bytes(data[: length // 2]), int.from_bytes(data[length // 2 :])
    algorithm = {64: hashes.SHA256(), 96: hashes.SHA384(), 132: hashes.SHA512()}[length]
    ec_key(kind).public_key().verify(encode_dss_signature(r, s), OCTETS, ec.ECDSA(algorithm))
    assert "does not verify" in refusal(kind, method, bytes(length))


def test_methods_9_to_11_want_r_and_s() -> None:
    """C16."""
    signature = ec_key("p256").sign(OCTETS, ec.ECDSA(hashes.SHA256()))
    text = refusal("p256", AuthMethod.ECDSA_SHA256_P256, signature)
    assert text == "the ECDSA signature is DER, but method 9 wants 64 bytes of r||s"
    r, s = decode_dss_signature(signature)
    bare = r.to_bytes(32) + s.to_bytes(32)
    assert "63 bytes" in refusal("p256", AuthMethod.ECDSA_SHA256_P256, b"\0" + bare[:62])
    verify(private_key("p256").public_key, AuthMethod.ECDSA_SHA256_P256, bare, OCTETS)


def test_the_curve_must_be_the_one_of_the_method() -> None:
    """C16."""
    _, data = auth(private_key("p384"), OCTETS, None)
    text = refusal("p384", AuthMethod.ECDSA_SHA256_P256, data)
    assert text == "AUTH method 9 is ECDSA P-256, but the key is ECDSA P-384"
    assert "but the key is RSA 2048" in refusal("rsa2048", AuthMethod.ECDSA_SHA256_P256, data)
    assert "but the key is ECDSA P-256" in refusal("p256", AuthMethod.RSA_SIGNATURE, data)


def test_method_1_is_sha1_unless_the_signature_says_otherwise() -> None:
    """C10, RFC 7296 section 3.8."""
    ours = private_key("rsa2048")
    method, data = auth(ours, OCTETS, None, allow_sha1=True)
    assert method == AuthMethod.RSA_SIGNATURE
    assert verify(ours.public_key, method, data, OCTETS, allow_sha1=True) == "RSA PKCS#1 v1.5 with SHA-1"
    assert "RSA PKCS#1 v1.5 with SHA-1, which is too weak" in refusal("rsa2048", method, data)
    for algorithm in SHA2.values():
        signature = rsa_key().sign(OCTETS, padding.PKCS1v15(), algorithm)
        assert "SHA-" in verify(ours.public_key, method, signature, OCTETS)
    assert "does not verify" in refusal("rsa2048", method, bytes(256), allow_sha1=True)


@pytest.mark.parametrize("kind", ["rsa2048", "ed25519", "ed448"])
def test_keys_that_need_rfc_7427_say_so(kind: str) -> None:
    with pytest.raises(SignatureError, match="the peer does not know RFC 7427"):
        auth(private_key(kind), OCTETS, None)


@pytest.mark.parametrize(
    "method", [AuthMethod.SHARED_KEY, AuthMethod.NULL, AuthMethod(3), AuthMethod(0), AuthMethod(200)]
)
def test_other_methods_are_no_signatures(method: AuthMethod) -> None:
    """K9: among them NULL authentication."""
    assert "is not a signature we accept" in refusal("p256", method, bytes(64))


# RSA PKCS#1 v1.5, forged


DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def padded(digest_info: bytes, *, fill: int = 0xFF, trailing: bytes = b"") -> bytes:
    length = 256 - 3 - len(digest_info) - len(trailing)
    return b"\0\x01" + bytes([fill]) * length + b"\0" + digest_info + trailing


def forgeries() -> dict[str, bytes]:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(OCTETS)
    value = digest.finalize()
    without_null = bytes.fromhex("302f300b0609608648016503040201") + b"\x04\x20" + value
    short = bytes.fromhex("3021300d06096086480165030402010500") + b"\x04\x10" + value[:16]
    long_form = bytes.fromhex("308131300d060960864801650304020105000420") + value
    return {
        "genuine": padded(DIGEST_INFO + value),
        "trailing bytes": padded(DIGEST_INFO + value, trailing=b"\x01\x02\x03"),
        "trailing bytes, short padding": b"\0\x01" + b"\xff" * 8 + b"\0" + (DIGEST_INFO + value).ljust(245, b"\x05"),
        "missing NULL": padded(without_null),
        "short hash": padded(short),
        "length in long form": padded(long_form),
        "padding of other bytes": padded(DIGEST_INFO + value, fill=0xFE),
        "block type 2": b"\0\x02" + padded(DIGEST_INFO + value)[2:],
        "bare hash": padded(value),
    }


@pytest.mark.parametrize("name", forgeries())
def test_forged_pkcs1_paddings_do_not_verify(name: str) -> None:
    """C14 (CVE-2018-16151): whatever a lenient parser might accept. The genuine one shows that the rig can succeed."""
    numbers = rsa_key().private_numbers()
    signature = pow(int.from_bytes(forgeries()[name]), numbers.d, numbers.public_numbers.n).to_bytes(256)
    data = digital_signature(Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_256), signature)
    if name == "genuine":
        assert verify(private_key("rsa2048").public_key, AuthMethod.DIGITAL_SIGNATURE, data, OCTETS)
    else:
        assert "does not verify" in refusal("rsa2048", AuthMethod.DIGITAL_SIGNATURE, data)
        assert "does not verify" in refusal("rsa2048", AuthMethod.RSA_SIGNATURE, signature, allow_sha1=True)


# Keys


def test_a_short_rsa_key_never_verifies() -> None:
    """C10."""
    weak = key("rsa1024")
    assert isinstance(weak, rsa.RSAPrivateKey)
    signature = weak.sign(OCTETS, padding.PKCS1v15(), hashes.SHA256())
    data = digital_signature(Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_256), signature)
    with pytest.raises(SignatureError, match="1024 bits is too short"):
        verify(PublicKey(weak.public_key()), AuthMethod.DIGITAL_SIGNATURE, data, OCTETS)
    with pytest.raises(ProfileError) as caught:
        FileKey.load(pem(weak), None)
    assert "1024 bits is too short" in " ".join(caught.value.lines())


@pytest.mark.parametrize("curve", [ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1()], ids=lambda curve: curve.name)
def test_small_and_foreign_curves_are_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(SignatureError, match="curve we know"):
        PublicKey(ec.generate_private_key(curve).public_key())


def test_dsa_keys_are_refused() -> None:
    made = dsa.generate_private_key(1024)
    with pytest.raises(ProfileError, match="neither RSA, ECDSA, Ed25519 nor Ed448"):
        FileKey(made)
    with pytest.raises(SignatureError, match="neither RSA"):
        PublicKey(made.public_key())


def test_public_keys_are_equal_when_the_key_is() -> None:
    assert private_key("p256").public_key == PublicKey(key("p256").public_key())
    assert private_key("p256").public_key != private_key("p256", 1).public_key
    assert len({private_key("p256").public_key, PublicKey(key("p256").public_key())}) == 1


def test_private_keys_do_not_print() -> None:
    """F12."""
    ours = private_key("ed25519")
    secret = key("ed25519").private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    assert repr(ours) == "<PrivateKey Ed25519>"
    assert secret.hex() not in repr(ours) + repr(ours.public_key)


# OpenSSL as the other implementation


def openssl(directory: Path, *arguments: str) -> bytes:
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory).stdout


PSS_OPTIONS = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]


@pytest.mark.parametrize(
    ("kind", "hash_name", "scheme", "options"),
    [
        ("rsa2048", "sha256", pss(HashAlgorithm.SHA2_256), PSS_OPTIONS),
        ("rsa3072", "sha512", pss(HashAlgorithm.SHA2_512), PSS_OPTIONS),
        ("rsa2048", "sha384", Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_384), []),
        ("p256", "sha256", Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_256), []),
        ("p521", "sha512", Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_512), []),
    ],
)
def test_openssl_and_we_verify_each_other(
    kind: str, hash_name: str, scheme: Scheme, options: list[str], tmp_path: Path
) -> None:
    ours = private_key(kind)
    (tmp_path / "key.pem").write_bytes(pem(key(kind)))
    (tmp_path / "octets").write_bytes(OCTETS)
    openssl(tmp_path, "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    signature = openssl(tmp_path, "dgst", f"-{hash_name}", "-sign", "key.pem", *options, "octets")
    data = digital_signature(scheme, signature)
    assert verify(ours.public_key, AuthMethod.DIGITAL_SIGNATURE, data, OCTETS) == str(scheme)
    _, data = auth(ours, OCTETS, frozenset({scheme.hash}), schemes=[scheme])
    identifier = algorithm_identifier(scheme)
    assert data[1 : 1 + data[0]] == identifier
    (tmp_path / "signature").write_bytes(data[1 + data[0] :])
    check = ["-verify", "public.pem", *options, "-signature", "signature", "octets"]
    assert b"Verified OK" in openssl(tmp_path, "dgst", f"-{hash_name}", *check)


@pytest.mark.parametrize("kind", ["ed25519", "ed448"])
def test_openssl_and_we_agree_on_edwards_curves(kind: str, tmp_path: Path) -> None:
    """RFC 8420; these signatures are deterministic, so both make the same bytes."""
    (tmp_path / "key.pem").write_bytes(pem(key(kind)))
    (tmp_path / "octets").write_bytes(OCTETS)
    signature = openssl(tmp_path, "pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in", "octets")
    _, data = auth(private_key(kind), OCTETS, ALL)
    assert data == bytes.fromhex({"ed25519": "07300506032b6570", "ed448": "07300506032b6571"}[kind]) + signature


class Token:
    """A key elsewhere, which can do less than its public key allows."""

    def __init__(self, key: FileKey, *families: Family) -> None:
        self._key, self._families = key, families
        self.public_key = key.public_key

    def sign(self, octets: bytes, schemes: Sequence[Scheme]) -> tuple[Scheme, bytes]:
        able = [scheme for scheme in schemes if scheme.family in self._families]
        if not able:
            raise SignatureError("the token makes no such signature")
        return self._key.sign(octets, able)


def test_a_key_that_is_not_ours_signs_with_what_it_can() -> None:
    """The peer learns from AUTH which of the acceptable schemes it was."""
    schemes = [SCHEME_NAMES["rsa-pss-sha256"], SCHEME_NAMES["rsa-pkcs1-sha256"]]
    token = Token(private_key("rsa2048"), Family.RSA_PKCS1)
    made = sign_auth(token, OCTETS, ALL, schemes=schemes)
    assert made.scheme == schemes[1]
    assert verify(token.public_key, made.method, made.data, OCTETS) == str(schemes[1])
    with pytest.raises(SignatureError, match="token"):
        sign_auth(token, OCTETS, ALL)


def test_a_file_key_makes_only_signatures_of_its_kind() -> None:
    with pytest.raises(SignatureError, match="none of the signatures"):
        private_key("p256").sign(OCTETS, [SCHEME_NAMES["ed25519"]])
