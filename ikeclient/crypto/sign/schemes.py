"""Signature schemes and their AlgorithmIdentifiers (RFC 7427 section 3 and appendix A, RFC 8420).

All but RSASSA-PSS are literal byte strings. RSASSA-PSS carries parameters, whose defaults (SHA-1) are never what one
wants; they are read strictly: the mask generation function is MGF1 with the hash of the signature.
"""

from __future__ import annotations

from enum import StrEnum

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError, SignatureError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import HashAlgorithm

_MAX_SALT = 64  # bytes; the output of the longest hash we know

HASH_NAMES: dict[HashAlgorithm, str] = {
    HashAlgorithm.SHA1: "SHA-1",
    HashAlgorithm.SHA2_256: "SHA-256",
    HashAlgorithm.SHA2_384: "SHA-384",
    HashAlgorithm.SHA2_512: "SHA-512",
    HashAlgorithm.IDENTITY: "no hash",
}
HASH_LENGTHS: dict[HashAlgorithm, int] = {
    HashAlgorithm.SHA1: 20,
    HashAlgorithm.SHA2_256: 32,
    HashAlgorithm.SHA2_384: 48,
    HashAlgorithm.SHA2_512: 64,
}


class Family(StrEnum):
    """The kind of signature, which goes with one kind of key."""

    RSA_PKCS1 = "RSA PKCS#1 v1.5"
    RSA_PSS = "RSA-PSS"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"
    ED448 = "Ed448"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What an AlgorithmIdentifier says. `salt_length` is in bytes and counts for RSASSA-PSS only."""

    family: Family
    hash: HashAlgorithm
    salt_length: int = 0

    def __str__(self) -> str:
        if self.hash == HashAlgorithm.IDENTITY:
            return str(self.family)
        return f"{self.family} with {HASH_NAMES[self.hash]}"


def pss(algorithm: HashAlgorithm) -> Scheme:
    """RSASSA-PSS with a salt as long as the hash, as RFC 7427 section 3 recommends."""
    return Scheme(family=Family.RSA_PSS, hash=algorithm, salt_length=HASH_LENGTHS[algorithm])


# What a profile calls the schemes that may sign.
SCHEME_NAMES: dict[str, Scheme] = {
    "rsa-pss-sha256": pss(HashAlgorithm.SHA2_256),
    "rsa-pss-sha384": pss(HashAlgorithm.SHA2_384),
    "rsa-pss-sha512": pss(HashAlgorithm.SHA2_512),
    "rsa-pkcs1-sha256": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_256),
    "rsa-pkcs1-sha384": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_384),
    "rsa-pkcs1-sha512": Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA2_512),
    "ecdsa-sha256": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_256),
    "ecdsa-sha384": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_384),
    "ecdsa-sha512": Scheme(family=Family.ECDSA, hash=HashAlgorithm.SHA2_512),
    "ed25519": Scheme(family=Family.ED25519, hash=HashAlgorithm.IDENTITY),
    "ed448": Scheme(family=Family.ED448, hash=HashAlgorithm.IDENTITY),
}

_FIXED: dict[bytes, Scheme] = {
    bytes.fromhex(identifier): Scheme(family=family, hash=algorithm)
    for identifier, family, algorithm in (
        ("300d06092a864886f70d0101050500", Family.RSA_PKCS1, HashAlgorithm.SHA1),
        ("300d06092a864886f70d01010b0500", Family.RSA_PKCS1, HashAlgorithm.SHA2_256),
        ("300d06092a864886f70d01010c0500", Family.RSA_PKCS1, HashAlgorithm.SHA2_384),
        ("300d06092a864886f70d01010d0500", Family.RSA_PKCS1, HashAlgorithm.SHA2_512),
        ("300906072a8648ce3d0401", Family.ECDSA, HashAlgorithm.SHA1),
        ("300a06082a8648ce3d040302", Family.ECDSA, HashAlgorithm.SHA2_256),
        ("300a06082a8648ce3d040303", Family.ECDSA, HashAlgorithm.SHA2_384),
        ("300a06082a8648ce3d040304", Family.ECDSA, HashAlgorithm.SHA2_512),
        ("300506032b6570", Family.ED25519, HashAlgorithm.IDENTITY),
        ("300506032b6571", Family.ED448, HashAlgorithm.IDENTITY),
    )
}
_IDENTIFIERS = {scheme: identifier for identifier, scheme in _FIXED.items()}
# RFC 4055 section 5: receivers must accept these without the NULL, too.
_FIXED |= {
    b"\x30\x0b" + identifier[2:-2]: scheme
    for identifier, scheme in list(_FIXED.items())
    if scheme.family == Family.RSA_PKCS1
}

_RSASSA_PSS = bytes.fromhex("2a864886f70d01010a")
_MGF1 = bytes.fromhex("2a864886f70d010108")
_HASH_OIDS: dict[bytes, HashAlgorithm] = {
    bytes.fromhex("2b0e03021a"): HashAlgorithm.SHA1,
    bytes.fromhex("608648016503040201"): HashAlgorithm.SHA2_256,
    bytes.fromhex("608648016503040202"): HashAlgorithm.SHA2_384,
    bytes.fromhex("608648016503040203"): HashAlgorithm.SHA2_512,
}
_NULL = bytes.fromhex("0500")


def algorithm_identifier(scheme: Scheme) -> bytes:
    """The DER AlgorithmIdentifier of `scheme`, in the encoding its specification prefers."""
    if scheme.family != Family.RSA_PSS:
        return _IDENTIFIERS[scheme]
    oid = next(oid for oid, algorithm in _HASH_OIDS.items() if algorithm == scheme.hash)
    digest = der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, oid) + _NULL)
    mask = der.encode(der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, _MGF1) + digest)
    salt = der.encode(der.INTEGER, bytes([scheme.salt_length]))
    parameters = der.encode(0xA0, digest) + der.encode(0xA1, mask) + der.encode(0xA2, salt)
    return der.encode(
        der.SEQUENCE, der.encode(der.OBJECT_IDENTIFIER, _RSASSA_PSS) + der.encode(der.SEQUENCE, parameters)
    )


def parse_algorithm_identifier(identifier: bytes) -> Scheme:
    """What `identifier` stands for; raises SignatureError for one we do not know, or PSS parameters we refuse."""
    if scheme := _FIXED.get(identifier):
        return scheme
    try:
        oid, _ = der.content(der.only(identifier, der.SEQUENCE), der.OBJECT_IDENTIFIER)
        if oid == _RSASSA_PSS:
            return parse_pss_identifier(identifier)
    except ParseError as error:
        raise SignatureError(f"the signature's AlgorithmIdentifier is malformed: {error.message}") from None
    raise SignatureError(f"the signature's algorithm {identifier[:32].hex()} is unknown")


def parse_pss_identifier(identifier: bytes) -> Scheme:
    """What an RSASSA-PSS AlgorithmIdentifier stands for; raises ParseError, or SignatureError for what we refuse."""
    _, parameters = der.content(der.only(identifier, der.SEQUENCE), der.OBJECT_IDENTIFIER)
    if not parameters:
        raise ParseError("RSASSA-PSS without parameters")
    return _parse_pss(der.only(parameters, der.SEQUENCE))


def _parse_pss(parameters: bytes) -> Scheme:
    """RFC 4055 section 3.1; every field has a default and their order is fixed."""
    fields = {0xA0: b"", 0xA1: b"", 0xA2: b"", 0xA3: b""}
    last = 0
    for tag, inner in der.elements(parameters):
        if tag not in fields or tag <= last:
            raise ParseError("unexpected or repeated RSASSA-PSS parameter")
        fields[tag], last = inner, tag
    algorithm = _parse_hash(fields[0xA0]) if fields[0xA0] else HashAlgorithm.SHA1
    mask_hash = HashAlgorithm.SHA1
    if fields[0xA1]:
        function, argument = der.content(der.only(fields[0xA1], der.SEQUENCE), der.OBJECT_IDENTIFIER)
        if function != _MGF1:
            raise SignatureError("RSASSA-PSS with a mask generation function other than MGF1")
        mask_hash = _parse_hash(argument)
    if mask_hash != algorithm:
        raise SignatureError(f"RSASSA-PSS with {HASH_NAMES[algorithm]}, but MGF1 with {HASH_NAMES[mask_hash]}")
    salt_length = der.integer(der.only(fields[0xA2], der.INTEGER)) if fields[0xA2] else 20
    if salt_length > _MAX_SALT:
        raise SignatureError(f"RSASSA-PSS with a salt of more than {_MAX_SALT} bytes")
    if fields[0xA3] and der.only(fields[0xA3], der.INTEGER) != b"\x01":
        raise SignatureError("RSASSA-PSS with an unknown trailer field")
    return Scheme(family=Family.RSA_PSS, hash=algorithm, salt_length=salt_length)


def _parse_hash(data: bytes) -> HashAlgorithm:
    oid, parameters = der.content(der.only(data, der.SEQUENCE), der.OBJECT_IDENTIFIER)
    if oid not in _HASH_OIDS or parameters not in (b"", _NULL):
        raise SignatureError("RSASSA-PSS with an unknown hash")
    return _HASH_OIDS[oid]
