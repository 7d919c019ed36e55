"""Reading certificates: complete, or refused with a ParseError."""

from __future__ import annotations

import datetime
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from certificate_factory import NOW, Made, authority, gateway, hosts, key, make, name, openssl, pem
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, given
from hypothesis import strategies as st

from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.names import name_text
from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ParseError, ProfileError
from ikeclient.wire.registry import IdType

ROOT = authority("root")
LEAF = gateway(ROOT, hosts("vpn.example.com", "*.vpn.example.com", "192.0.2.1", "2001:db8::1", "ops@example.com"))
RSA_ROOT = authority("rsa root", private=key("rsa2048"))


def test_everything_is_read() -> None:
    certificate = LEAF.certificate
    assert certificate.subject == "C=CH, O=Test, CN=gateway"
    assert certificate.issuer == "C=CH, O=Test, CN=root"
    assert certificate.subject_der == name("gateway").public_bytes()
    assert certificate.issuer_der == ROOT.certificate.subject_der
    assert certificate.public_key.kind == "ECDSA P-256"
    assert certificate.validity.start == NOW - datetime.timedelta(days=10)
    assert certificate.validity.end.tzinfo is not None
    assert certificate.signature_hash == "sha256"
    assert certificate.issued_by(ROOT.certificate)
    assert not certificate.issued_by(RSA_ROOT.certificate)
    assert not certificate.self_issued
    assert ROOT.certificate.self_issued
    assert repr(certificate) == "<Certificate C=CH, O=Test, CN=gateway>"


def test_identities_are_the_alternative_names_and_the_subject() -> None:
    """RFC 4945 section 5.1.3.6."""
    assert LEAF.certificate.identities() == [
        (IdType.FQDN, b"vpn.example.com"),
        (IdType.FQDN, b"*.vpn.example.com"),
        (IdType.IPV4_ADDR, bytes([192, 0, 2, 1])),
        (IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")),
        (IdType.RFC822_ADDR, b"ops@example.com"),
        (IdType.DER_ASN1_DN, name("gateway").public_bytes()),
    ]
    assert LEAF.certificate.matches(IdType.FQDN, b"a.VPN.example.com")
    assert LEAF.certificate.matches(IdType.IPV4_ADDR, bytes([192, 0, 2, 1]))
    assert not LEAF.certificate.matches(IdType.FQDN, b"gateway")
    assert not LEAF.certificate.matches(IdType.KEY_ID, b"vpn.example.com")


def test_an_empty_subject_is_no_identity() -> None:
    made = make(x509.Name([]), ROOT, extensions=[(hosts("vpn.example.com"), True)], private=key("p256"))
    assert made.certificate.identities() == [(IdType.FQDN, b"vpn.example.com")]
    assert not made.certificate.matches(IdType.DER_ASN1_DN, b"\x30\x00")


@pytest.mark.parametrize("made", [ROOT, RSA_ROOT], ids=["ECDSA", "RSA"])
def test_the_authority_hash_covers_the_subject_public_key_info(made: Made) -> None:
    """RFC 7296 section 3.7."""
    info = made.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert made.certificate.authority_hash == hashlib.sha1(info).digest()


def test_many_are_loaded_from_pem_with_text_between_them() -> None:
    data = (
        b"# comment\n"
        + LEAF.x509.public_bytes(Encoding.PEM)
        + b"\nsubject=...\n"
        + ROOT.x509.public_bytes(Encoding.PEM)
    )
    assert Certificate.load_many(data) == [LEAF.certificate, ROOT.certificate]
    assert Certificate.load_many(data.replace(b"\n", b"\r\n")) == [LEAF.certificate, ROOT.certificate]
    assert Certificate.load_many(ROOT.certificate.der) == [ROOT.certificate]


def test_a_bad_certificate_among_good_ones_is_left_out_and_reported() -> None:
    """F7."""
    good = ROOT.x509.public_bytes(Encoding.PEM)
    bad = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    worse = b"-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"
    problems: list[str] = []
    assert Certificate.load_many(good + bad + worse + good, problems) == [ROOT.certificate] * 2
    assert len(problems) == 2
    assert "PEM is damaged" in problems[1]


@pytest.mark.parametrize("data", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\n", b"\xef\xbb\xbf", bytes(1000)])
def test_a_file_without_certificates_is_refused(data: bytes) -> None:
    """F7."""
    with pytest.raises(ProfileError, match="no certificate that can be read"):
        Certificate.load_many(data)


def test_a_certificate_longer_than_a_payload_is_refused() -> None:
    """K19."""
    with pytest.raises(ParseError, match="too long"):
        Certificate.from_der(bytes(65536))


def test_every_prefix_and_suffix_is_refused() -> None:
    """C12."""
    encoded = LEAF.certificate.der
    for length in range(0, len(encoded), 7):
        with pytest.raises(ParseError):
            Certificate.from_der(encoded[:length])
    with pytest.raises(ParseError):
        Certificate.from_der(encoded + b"\0")


@given(st.sampled_from([(LEAF, ROOT), (RSA_ROOT, RSA_ROOT)]), st.integers(0, 2000), st.integers(0, 255))
def test_an_edited_certificate_is_refused_or_harmless(pair: tuple[Made, Made], position: int, value: int) -> None:
    """C12: nothing but ParseError comes out of parsing, and no edit keeps the signature."""
    made, issuer = pair
    encoded = bytearray(made.certificate.der)
    position %= len(encoded)
    assume(encoded[position] != value)
    encoded[position] = value
    try:
        certificate = Certificate.from_der(bytes(encoded))
    except ParseError:
        return
    assert certificate.subject.isprintable()
    assert certificate.issuer.isprintable()
    certificate.identities()
    assert not certificate.issued_by(issuer.certificate)


def test_the_outer_algorithm_must_be_the_inner_one() -> None:
    """C15: what is outside of the signed part cannot be altered freely."""
    encoded = LEAF.certificate.der
    position = encoded.rindex(bytes.fromhex("06082a8648ce3d040302"))
    altered = encoded[: position + 9] + b"\x03" + encoded[position + 10 :]
    try:
        certificate = Certificate.from_der(altered)
    except ParseError:
        return
    assert not certificate.issued_by(ROOT.certificate)


PSS_WITHOUT_PARAMETERS = """
3081cf307da003020102020101300b06092a864886f70d01010a300c310a300806035504030c0142301e170d3230303130313030303030305a170d
3430303130313030303030305a300c310a300806035504030c0142302a300506032b65700321003b6a27bcceb6a42d62a3a8d02a6f0d7365321577
1de243a63ac048a18b59da29300b06092a864886f70d01010a03410000000000000000000000000000000000000000000000000000000000000000
000000000000000000000000000000000000000000000000000000000000000000
"""


def test_pss_without_parameters_is_refused_when_it_is_read() -> None:
    """C17, RFC 4055 section 3.1: nothing of a certificate is left to be decoded later."""
    with pytest.raises(ParseError, match="RSASSA-PSS without parameters"):
        Certificate.from_der(bytes.fromhex(PSS_WITHOUT_PARAMETERS))


def test_pss_with_parameters_is_verified(tmp_path: Path) -> None:
    """C13: as openssl makes it, and with what the parameters say."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl command is not installed")
    (tmp_path / "key.pem").write_bytes(pem(key("rsa2048")))
    command = ["req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=x", "-days", "2", "-outform", "DER"]
    options = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"]
    certificate = Certificate.from_der(openssl(tmp_path, *command, "-sha256", *options))
    assert certificate.signature_hash == "sha256"
    assert certificate.issued_by(certificate)
    other = Certificate.from_der(openssl(tmp_path, *command, "-sha256", *options, "-sigopt", "rsa_mgf1_md:sha512"))
    assert "MGF1 with SHA-512" in str(other.signature_problem)
    assert not other.issued_by(other)
    weak = Certificate.from_der(openssl(tmp_path, *command, "-sha224", *options))
    assert "unknown hash" in str(weak.signature_problem)


def rsa_certificate(modulus: int, exponent: int) -> bytes:
    """The RSA root with another key."""
    new = der.encode(der.SEQUENCE, integer(modulus) + integer(exponent))
    outer = der.only(RSA_ROOT.certificate.der, der.SEQUENCE)
    tbs, rest = der.content(outer, der.SEQUENCE)
    info_old = key("rsa2048").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert info_old in tbs
    algorithm = der.content(der.only(info_old, der.SEQUENCE), der.SEQUENCE)[0]
    info_new = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, algorithm) + der.encode(0x03, b"\0" + new))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, tbs.replace(info_old, info_new)) + rest)


def integer(value: int) -> bytes:
    return der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


MODULUS = (1 << 2047) | 1


@pytest.mark.parametrize(
    ("modulus", "exponent"),
    [
        (MODULUS, 0),
        (MODULUS, 1),
        (MODULUS, 2),
        (MODULUS, 65536),
        (MODULUS - 1, 65537),
        (0, 3),
        (1, 3),
        (15, 3),
        (1 << 17000 | 1, 65537),
    ],
    ids=["e=0", "e=1", "e=2", "e even", "n even", "n=0", "n=1", "n=15", "n huge"],
)
def test_absurd_rsa_keys_are_refused_or_weak(modulus: int, exponent: int) -> None:
    """C12: exponent 0 or 1, modulus even, tiny or absurd."""
    encoded = rsa_certificate(modulus, exponent)
    try:
        certificate = Certificate.from_der(encoded)
    except ParseError:
        return
    assert certificate.public_key.weakness
    assert not certificate.issued_by(certificate)


def test_a_sane_rsa_key_put_in_the_same_way_is_not_weak() -> None:
    assert Certificate.from_der(rsa_certificate(MODULUS, 65537)).public_key.weakness is None


def test_keys_of_foreign_kinds_are_refused() -> None:
    """C12."""
    builder = x509.CertificateBuilder().subject_name(name("x")).issuer_name(name("x")).serial_number(1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW)
    for foreign in (dsa.generate_private_key(1024).public_key(), ec.generate_private_key(ec.SECP224R1()).public_key()):
        made = builder.public_key(foreign).sign(ROOT.key, ROOT.x509.signature_hash_algorithm)  # type: ignore[arg-type]
        with pytest.raises(ParseError, match="neither RSA"):
            Certificate.from_der(made.public_bytes(Encoding.DER))


def test_explicit_curve_parameters_are_refused(tmp_path: Path) -> None:
    """C12."""
    steps = (
        ["ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout", "-out", "key.pem"],
        ["req", "-x509", "-new", "-key", "key.pem", "-subj", "/CN=x", "-days", "2", "-outform", "DER", "-out", "x.der"],
    )
    for step in steps:
        result = subprocess.run(["openssl", *step], capture_output=True, cwd=tmp_path)
        if result.returncode:
            pytest.skip("this openssl makes no such certificate")
    with pytest.raises(ParseError, match="spells out its curve"):
        Certificate.from_der((tmp_path / "x.der").read_bytes())


def test_odd_serial_numbers_and_names_do_not_warn() -> None:
    """Warnings are errors in this test run, and noise on stderr in a real one."""
    encoded = LEAF.certificate.der
    serial = der.encode(der.INTEGER, LEAF.x509.serial_number.to_bytes(LEAF.x509.serial_number.bit_length() // 8 + 1))
    assert serial in encoded
    negative = serial[:2] + b"\x85" + serial[3:]
    assert Certificate.from_der(encoded.replace(serial, negative)).subject == "C=CH, O=Test, CN=gateway"


def test_a_duplicate_extension_is_refused() -> None:
    """C12."""
    tbs, rest = der.content(der.only(LEAF.certificate.der, der.SEQUENCE), der.SEQUENCE)
    position = tbs.index(bytes.fromhex("0603551d13"))
    extension = der.element(tbs[position - 2 :])[2]
    assert extension[2:7] == bytes.fromhex("0603551d13")
    start = tbs.rindex(b"\xa3")
    extensions = der.only(der.only(tbs[start:], 0xA3), der.SEQUENCE)
    doubled = der.encode(0xA3, der.encode(der.SEQUENCE, extensions + extension))
    encoded = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, tbs[:start] + doubled) + rest)
    with pytest.raises(ParseError, match="extensions cannot be read"):
        Certificate.from_der(encoded)


def test_subject_bytes_are_those_of_the_certificate() -> None:
    """An ID_DER_ASN1_DN must be what the peer finds in the certificate, down to the string types."""
    odd = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Gate", _type=x509.name._ASN1Type.BMPString)])
    made = make(odd, ROOT, private=key("p256"))
    assert made.certificate.subject_der == odd.public_bytes()
    assert b"\x1e\x08\0G\0a\0t\0e" in made.certificate.subject_der
    assert name_text(made.certificate.subject_der) == "CN=Gate"
