"""Revocation lists and OCSP responses made to order."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from certificate_factory import DAY, NOW, Made
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from ikeclient.crypto.pki import der

HOUR = datetime.timedelta(hours=1)


def crl(
    issuer: Made,
    *revoked: Made,
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + DAY,
    serials: Sequence[int] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    signer: Made | None = None,
) -> bytes:
    """A list of `issuer`, signed with the key of `signer` if that is another."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.name).last_update(start).next_update(end)
    for serial in (*(each.x509.serial_number for each in revoked), *serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY)
        for value, critical in entry_extensions:
            entry = entry.add_extension(value, critical)
        builder = builder.add_revoked_certificate(entry.build())
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    made = builder.sign((signer or issuer).key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def long_crl(issuer: Made, count: int, *revoked: Made) -> bytes:
    """A list of `issuer` with `count` entries, and then those of `revoked`: made by hand, which takes no time."""
    whole = der.only(crl(issuer, serials=[1]), der.SEQUENCE)
    _, fields, _, rest = der.element(whole)
    algorithm = der.element(rest)[2]
    pieces = []
    while fields:
        _, _, piece, fields = der.element(fields)
        pieces.append(piece)
    moment = der.element(der.element(der.only(pieces[5], der.SEQUENCE))[1])[3]  # of the entry, with its date
    serials = (*((1 << 120) + number for number in range(count)), *(each.x509.serial_number for each in revoked))
    entries = b"".join(der.encode(der.SEQUENCE, der.integer_element(serial) + moment) for serial in serials)
    pieces[5] = der.encode(der.SEQUENCE, entries)
    signed = der.encode(der.SEQUENCE, b"".join(pieces))
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    signature = issuer.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, signed + algorithm + der.encode(der.BIT_STRING, b"\0" + signature))


def response(
    subject: Made,
    issuer: Made,
    *,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    signer: Made | None = None,
    start: datetime.datetime = NOW - HOUR,
    end: datetime.datetime | None = NOW + DAY,
    nonce: bytes | None = None,
    by_name: bool = False,
    shown: bool = True,
    algorithm: Any = None,
) -> bytes:
    """A response about `subject`, signed by `issuer` or by `signer`, whose certificate is in it if `shown`."""
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    by = signer or issuer
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=subject.x509,
            issuer=issuer.x509,
            algorithm=algorithm or hashes.SHA1(),
            cert_status=status,
            this_update=start,
            next_update=end,
            revocation_time=NOW - DAY if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(encoding, by.x509)
    )
    if signer is not None and shown:
        builder = builder.certificates([signer.x509])
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), False)
    return builder.sign(by.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
