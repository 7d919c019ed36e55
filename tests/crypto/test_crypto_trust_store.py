"""Who is trusted, and whether a certificate is for the gateway that the profile wants."""

from __future__ import annotations

import pytest
from certificate_factory import (
    END_ENTITY,
    OTHER_ROOT,
    ROOT,
    authority,
    check,
    gateway,
    hosts,
    key,
    make,
    refusal,
)
from cryptography import x509

from ikeclient.crypto.pki.trust_store import Certificate, TrustStore
from ikeclient.errors import ProfileError
from ikeclient.wire.registry import IdType

# C3: the name


def test_another_name_is_refused_showing_both() -> None:
    """C3, K10."""
    text = refusal([gateway(ROOT, hosts("mail.example.com", "192.0.2.7"))])
    assert "the profile wants vpn.example.com" in text
    assert "the certificate proves mail.example.com, 192.0.2.7, C=CH, O=Test, CN=gateway" in text


def test_a_common_name_is_never_a_host_name() -> None:
    """C3: with and without alternative names."""
    refusal([gateway(ROOT, hosts("mail.example.com"), subject="vpn.example.com")])
    refusal([make("vpn.example.com", ROOT, extensions=[END_ENTITY])])


def test_hostile_names_are_escaped_in_the_message() -> None:
    """C3, K15: an embedded NUL matches nothing, and no control character reaches the terminal."""
    hostile = x509.DNSName._init_without_validation("vpn.example.com\0.evil.test\x1b[31m\r\n")
    text = refusal([gateway(ROOT, x509.SubjectAlternativeName([hostile]))])
    assert "\\x00.evil.test\\x1b[31m\\r\\n" in text
    assert text.isprintable()


def test_an_address_is_proved_by_an_address_only() -> None:
    """C3: an address in a dNSName does not count."""
    check([gateway(ROOT, hosts("192.0.2.1"))], id_type=IdType.IPV4_ADDR, identity=bytes([192, 0, 2, 1]))
    text_address = x509.SubjectAlternativeName([x509.DNSName("192.0.2.1")])
    refusal([gateway(ROOT, text_address)], id_type=IdType.IPV4_ADDR, identity=bytes([192, 0, 2, 1]))
    refusal([gateway(ROOT, text_address)], identity=b"192.0.2.1")


def test_the_subject_proves_a_distinguished_name() -> None:
    made = gateway(ROOT)
    check([made], id_type=IdType.DER_ASN1_DN, identity=made.certificate.subject_der)
    refusal([made], id_type=IdType.DER_ASN1_DN, identity=ROOT.certificate.subject_der)
    refusal([made], id_type=IdType.DER_ASN1_DN, identity=b"garbage")


# The store


def test_a_trust_store_speaks_certreq() -> None:
    """RFC 7296 section 3.7: the concatenated SHA-1 hashes of the authorities' keys."""
    store = TrustStore.from_certificates([ROOT.certificate, OTHER_ROOT.certificate, ROOT.certificate])
    expected = [
        x509.SubjectKeyIdentifier.from_public_key(made.key.public_key()) for made in (ROOT, OTHER_ROOT)
    ]  # of the bare key: not the same hash
    assert store.authority_hashes == ROOT.certificate.authority_hash + OTHER_ROOT.certificate.authority_hash
    assert all(each.digest not in store.authority_hashes for each in expected)
    assert [anchor.subject for anchor in store.anchors] == ["C=CH, O=Test, CN=root", "C=CH, O=Test, CN=other root"]
    assert len(store) == 2


def test_certreq_is_capped() -> None:
    made = [authority(f"many {number}", private=key("p256", 1000 + number)).certificate for number in range(70)]
    assert len(TrustStore.from_certificates(made).authority_hashes) == 64 * 20


def test_the_system_store_skips_what_it_cannot_read() -> None:
    """F7."""
    good = ROOT.certificate.der
    store = TrustStore.system([b"", b"rubbish", good])
    assert [certificate.der for certificate in store.anchors] == [good]
    with pytest.raises(ProfileError, match="trust store holds no certificate"):
        TrustStore.system([b"", b"rubbish"])


def test_equal_certificates_are_equal() -> None:
    again = Certificate.from_der(ROOT.certificate.der)
    assert again == ROOT.certificate
    assert hash(again) == hash(ROOT.certificate)
    assert again != OTHER_ROOT.certificate
