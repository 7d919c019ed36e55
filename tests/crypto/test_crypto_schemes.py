"""AlgorithmIdentifiers against the objects printed in RFC 7427 appendix A and RFC 8420 appendix A."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.pki import der
from ikeclient.crypto.sign.schemes import Family, Scheme, algorithm_identifier, parse_algorithm_identifier, pss
from ikeclient.errors import SignatureError
from ikeclient.wire.registry import HashAlgorithm

PRINTED = {
    "300d06092a864886f70d0101050500": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA1),  # A.1.1
    "300d06092a864886f70d01010b0500": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_256),
    "300d06092a864886f70d01010c0500": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_384),
    "300d06092a864886f70d01010d0500": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_512),
    "300906072a8648ce3d0401": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA1),  # A.3.1
    "300a06082a8648ce3d040302": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_256),
    "300a06082a8648ce3d040303": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_384),
    "300a06082a8648ce3d040304": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_512),
    "300506032b6570": Scheme(family=Family.ED25519, hash=HashAlgorithm.IDENTITY),  # RFC 8420 A.1
    "300506032b6571": Scheme(family=Family.ED448, hash=HashAlgorithm.IDENTITY),
}
PSS_EMPTY = "300d06092a864886f70d01010a3000"  # A.4.1
PSS_DEFAULT = (  # A.4.2
    "303e06092a864886f70d01010a3031a00b300906052b0e03021a0500a118301606092a864886f70d010108300906052b0e03021a0500"
    "a203020114a303020101"
)
PSS_SHA256 = (  # A.4.3
    "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
    "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101"
)

SHA256 = bytes.fromhex("300d06096086480165030402010500")
SHA512 = bytes.fromhex("300d06096086480165030402030500")
MGF1 = bytes.fromhex("06092a864886f70d010108")


def pss_identifier(*parameters: tuple[int, bytes]) -> bytes:
    inner = b"".join(der.encode(tag, content) for tag, content in parameters)
    return der.encode(der.SEQUENCE, bytes.fromhex("06092a864886f70d01010a") + der.encode(der.SEQUENCE, inner))


def mask(hash_identifier: bytes, function: bytes = MGF1) -> tuple[int, bytes]:
    return 0xA1, der.encode(der.SEQUENCE, function + hash_identifier)


@pytest.mark.parametrize(("printed", "scheme"), PRINTED.items(), ids=lambda value: str(value))
def test_printed_objects_are_read_and_written(printed: str, scheme: Scheme) -> None:
    assert parse_algorithm_identifier(bytes.fromhex(printed)) == scheme
    assert algorithm_identifier(scheme).hex() == printed


def test_rsa_identifiers_without_the_null_are_accepted() -> None:
    """RFC 4055 section 5: receivers must accept absent parameters."""
    scheme = parse_algorithm_identifier(bytes.fromhex("300b06092a864886f70d01010b"))
    assert scheme == Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_256)


@pytest.mark.parametrize("printed", [PSS_EMPTY, PSS_DEFAULT])
def test_the_defaults_of_pss_are_sha1(printed: str) -> None:
    scheme = parse_algorithm_identifier(bytes.fromhex(printed))
    assert scheme == Scheme(family=Family.RSA_PSS, hash=HashAlgorithm.SHA1, salt_length=20)


def test_pss_with_sha256_is_read_and_written() -> None:
    assert parse_algorithm_identifier(bytes.fromhex(PSS_SHA256)) == pss(HashAlgorithm.SHA2_256)
    # We leave out the trailer field, because DER omits a value that is the default.
    assert algorithm_identifier(pss(HashAlgorithm.SHA2_256)).hex() == (
        "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
    )


@pytest.mark.parametrize("algorithm", [HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512])
def test_pss_survives_a_round_trip(algorithm: HashAlgorithm) -> None:
    assert parse_algorithm_identifier(algorithm_identifier(pss(algorithm))) == pss(algorithm)


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        (pss_identifier((0xA0, SHA256), (0xA2, b"\x02\x01\x20")), "SHA-256, but MGF1 with SHA-1"),
        (pss_identifier((0xA0, SHA256), mask(SHA512), (0xA2, b"\x02\x01\x20")), "SHA-256, but MGF1 with SHA-512"),
        (pss_identifier((0xA0, SHA256), mask(SHA256), (0xA2, b"\x02\x01\x41")), "more than 64 bytes"),
        (pss_identifier((0xA0, SHA256), mask(SHA256), (0xA2, b"\x02\x09\x00" + b"\xff" * 8)), "more than 64 bytes"),
        (pss_identifier((0xA0, SHA256), mask(SHA256), (0xA2, b"\x02\x01\xff")), "negative"),
        (pss_identifier((0xA0, SHA256), mask(SHA256), (0xA2, b"\x02\x02\x00\x20")), "not minimal"),
        (pss_identifier((0xA0, SHA256), mask(SHA256), (0xA3, b"\x02\x01\x02")), "trailer"),
        (pss_identifier((0xA0, SHA256), mask(SHA256, b"\x06\x01\x2a")), "other than MGF1"),
        (pss_identifier((0xA0, bytes.fromhex("300406022a03"))), "unknown hash"),
        (pss_identifier((0xA0, SHA256), (0xA0, SHA256), mask(SHA256)), "repeated"),
        (pss_identifier(mask(SHA256), (0xA0, SHA256)), "unexpected or repeated"),
        (pss_identifier((0xA4, SHA256)), "unexpected"),
    ],
)
def test_odd_pss_parameters_are_refused(identifier: bytes, message: str) -> None:
    """C13: salt huge or negative, MGF1 absent or with another hash than the signature."""
    with pytest.raises(SignatureError, match=message):
        parse_algorithm_identifier(identifier)


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "00",
        "3000",
        "0500",
        "300906072a8648ce380403",  # dsa-with-sha1
        "300d06092a864886f70d0101040500",  # md5WithRSAEncryption
        "300c06082a8648ce3d0403020500",  # ECDSA with a NULL
        "300d06092a864886f70d01010b050000",  # something behind it
        "30800609" + "00" * 20,  # indefinite length
        "30810d06092a864886f70d01010b0500",  # length that is not minimal
        "300b06092a864886f70d01010a",  # PSS without any parameters
    ],
)
def test_garbage_and_strangers_are_refused(identifier: str) -> None:
    """K9: method 14 with an AlgorithmIdentifier that is garbage or unknown."""
    with pytest.raises(SignatureError, match=r"malformed|unknown"):
        parse_algorithm_identifier(bytes.fromhex(identifier))


@given(st.binary(max_size=80), st.integers(0, 71), st.integers(0, 255))
def test_arbitrary_bytes_raise_signature_error_and_nothing_else(data: bytes, position: int, value: int) -> None:
    """K9."""
    edited = bytearray.fromhex(PSS_SHA256)
    edited[position] = value
    for identifier in (data, bytes(edited)):
        try:
            scheme = parse_algorithm_identifier(identifier)
        except SignatureError:
            continue
        assert scheme.salt_length <= 64
