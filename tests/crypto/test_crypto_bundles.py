"""Certificates in other forms: PKCS#7 as OpenSSL makes it, bundles, hashes with URLs (RFC 7296 section 3.6)."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from certificate_factory import INTERMEDIATE, ROOT, gateway
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7
from revocation_factory import crl

from ikeclient.crypto.pki import der
from ikeclient.crypto.pki.bundles import MAX_BUNDLE, MAX_MEMBERS, HashAndUrl, read_bundle, read_hash_and_url, read_pkcs7
from ikeclient.crypto.pki.certificate import own_first
from ikeclient.errors import ParseError
from ikeclient.wire.registry import IdType

LEAF = gateway(INTERMEDIATE)
CHAIN = [each.certificate.der for each in (LEAF, INTERMEDIATE, ROOT)]
DER = serialization.Encoding.DER


def test_a_degenerate_pkcs7_holds_certificates() -> None:
    encoded = pkcs7.serialize_certificates([each.x509 for each in (ROOT, LEAF, INTERMEDIATE)], DER)
    found = read_pkcs7(encoded)
    assert sorted(found.certificates) == sorted(CHAIN)
    assert found.lists == ()
    assert own_first(found.certificates, None)[0] == LEAF.certificate.der
    assert own_first(found.certificates, (IdType.FQDN, b"vpn.example.com"))[0] == LEAF.certificate.der


def test_openssl_puts_lists_beside_certificates(tmp_path: Path) -> None:
    """What `openssl crl2pkcs7` makes."""
    for name, data in (("leaf", CHAIN[0]), ("intermediate", CHAIN[1])):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "list").write_bytes(crl(INTERMEDIATE))
    for name in ("leaf", "intermediate"):
        run("x509", "-inform", "DER", "-in", str(tmp_path / name), "-out", str(tmp_path / f"{name}.pem"))
    files = [word for name in ("leaf", "intermediate") for word in ("-certfile", str(tmp_path / f"{name}.pem"))]
    run("crl2pkcs7", "-inform", "DER", "-in", str(tmp_path / "list"), *files, "-outform", "DER",
        "-out", str(tmp_path / "p7"))  # fmt: skip
    found = read_pkcs7((tmp_path / "p7").read_bytes())
    assert sorted(found.certificates) == sorted(CHAIN[:2])
    assert found.lists == (crl_bytes(tmp_path / "list"),)


def crl_bytes(path: Path) -> bytes:
    return path.read_bytes()


def run(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def bundle(*members: tuple[int, bytes]) -> bytes:
    return der.encode(der.SEQUENCE, b"".join(der.encode(tag, inner) for tag, inner in members))


def test_a_bundle_tags_what_its_members_are() -> None:
    found = read_bundle(bundle((0xA0, CHAIN[0]), (0xA1, crl(INTERMEDIATE)), (0xA0, CHAIN[1])))
    assert found.certificates == (CHAIN[0], CHAIN[1])
    assert len(found.lists) == 1


def test_a_hash_and_a_url_are_what_was_meant_or_not() -> None:
    digest = hashlib.sha1(CHAIN[0], usedforsecurity=False).digest()
    found = read_hash_and_url(digest + b"http://data.example/a", bundle=True)
    assert found == HashAndUrl(digest, "http://data.example/a", True)
    assert found.fits(CHAIN[0])
    assert not found.fits(CHAIN[1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x80\x00\x00",
        bundle((0xA2, b"x")),
        bundle(*[(0xA0, CHAIN[0])] * (MAX_MEMBERS + 1)),
        bytes(MAX_BUNDLE + 1),
        der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex("2a864886f70d010701"))),
    ],
)
def test_damage_is_one_error(data: bytes) -> None:
    """C12."""
    with pytest.raises(ParseError):
        read_pkcs7(data)
    if data:
        with pytest.raises(ParseError):
            read_bundle(data)


@pytest.mark.parametrize("data", [b"", bytes(20), bytes(20) + b"http://\xff/", b"short"])
def test_a_payload_without_a_url_is_none(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_hash_and_url(data, bundle=False)


def test_what_cannot_be_read_is_nobodys_own() -> None:
    assert own_first([b"garbage", CHAIN[1], CHAIN[0]], None) == [CHAIN[0], CHAIN[1], b"garbage"]
