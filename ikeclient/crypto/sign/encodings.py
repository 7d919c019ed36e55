"""What tokens and agents leave to their callers: public keys in parts, padding, and the forms of signatures.

Padding is that of RFC 8017: EMSA-PKCS1-v1_5 (section 9.2) and EMSA-PSS (section 9.1.1).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from ikeclient.crypto.sign.schemes import HASH_LENGTHS, Scheme
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import SignatureError
from ikeclient.wire.registry import HashAlgorithm

_HASHES: dict[HashAlgorithm, str] = {
    HashAlgorithm.SHA1: "sha1",
    HashAlgorithm.SHA2_256: "sha256",
    HashAlgorithm.SHA2_384: "sha384",
    HashAlgorithm.SHA2_512: "sha512",
}
_DIGEST_INFO: dict[HashAlgorithm, bytes] = {
    HashAlgorithm.SHA1: bytes.fromhex("3021300906052b0e03021a05000414"),
    HashAlgorithm.SHA2_256: bytes.fromhex("3031300d060960864801650304020105000420"),
    HashAlgorithm.SHA2_384: bytes.fromhex("3041300d060960864801650304020205000430"),
    HashAlgorithm.SHA2_512: bytes.fromhex("3051300d060960864801650304020305000440"),
}
_CURVES: dict[bytes, ec.EllipticCurve] = {  # CKA_EC_PARAMS: an OBJECT IDENTIFIER, or a curveName of PKCS#11 3.0
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
}
_SSH_KINDS = (b"ssh-rsa", b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ecdsa-sha2-nistp521", b"ssh-ed25519")
CURVE_HASHES: dict[str, HashAlgorithm] = {
    "ECDSA P-256": HashAlgorithm.SHA2_256,
    "ECDSA P-384": HashAlgorithm.SHA2_384,
    "ECDSA P-521": HashAlgorithm.SHA2_512,
}


def digest(algorithm: HashAlgorithm, octets: bytes) -> bytes:
    """Return the hash of `octets`."""
    return hashlib.new(_HASHES[algorithm], octets, usedforsecurity=False).digest()


# Public keys


def rsa_public_key(modulus: bytes, exponent: bytes) -> PublicKey:
    """Return an RSA key from its numbers, big-endian. Raises SignatureError."""
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
    return _public_key(numbers.public_key)


def ec_public_key(parameters: bytes, point: bytes) -> PublicKey:
    """Return an ECDSA key from CKA_EC_PARAMS and CKA_EC_POINT. Raises SignatureError.

    The point is in an OCTET STRING as the standard says, or bare, as some modules have it.
    """
    curve = _CURVES.get(parameters)
    if curve is None:
        raise SignatureError("the key on the token is on a curve that is not known")
    return _public_key(lambda: ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(point, b"\x04\x03\x02")))


def ed25519_public_key(point: bytes) -> PublicKey:
    """Return an Ed25519 key from CKA_EC_POINT, in an OCTET STRING or bare. Raises SignatureError."""
    return _public_key(lambda: Ed25519PublicKey.from_public_bytes(point if len(point) == 32 else _point(point, b"")))


def ssh_public_key(blob: bytes) -> PublicKey:
    """Return a key from its form in SSH (RFC 4253 section 6.6). Raises SignatureError for kinds that we do not use."""
    kind = blob[4 : 4 + int.from_bytes(blob[:4])]
    if kind not in _SSH_KINDS:  # security keys and certificates have blobs of their own, which the library reads, too
        raise SignatureError("the key is neither RSA, ECDSA on a curve we know nor Ed25519")
    line = kind + b" " + base64.b64encode(blob)
    return _public_key(lambda: serialization.load_ssh_public_key(line))


def ssh_blob(spki: bytes) -> bytes:
    """Return the form in SSH of a public key in DER. Raises SignatureError for kinds that SSH does not have."""
    try:
        key = serialization.load_der_public_key(spki)
        line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("the key is neither RSA, ECDSA on a curve we know nor Ed25519") from None
    return base64.b64decode(line.split()[1])


def _public_key(make: Callable[[], object]) -> PublicKey:
    try:
        return PublicKey(make())
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("the public half of the key cannot be read") from None


def _point(written: bytes, bare: bytes) -> bytes:
    """Return the point in an OCTET STRING; or `written` itself, which is no such thing and begins with one of `bare`.

    0x04 begins both an OCTET STRING and an uncompressed point: the length that follows decides.
    """
    if written[:1] == b"\x04" and len(written) > 2:
        long = written[1] & 0x80
        size = written[1] & 0x7F if long else 0
        length = int.from_bytes(written[2 : 2 + size]) if long else written[1]
        if size <= 2 and len(written) == 2 + size + length:
            return written[2 + size :]
    if written[:1] and written[:1] in bare:
        return written
    raise SignatureError("the token's CKA_EC_POINT is not a point")


# Signatures


def digest_info(algorithm: HashAlgorithm, octets: bytes) -> bytes:
    """Return the DigestInfo of `octets`, which CKM_RSA_PKCS takes."""
    return _DIGEST_INFO[algorithm] + digest(algorithm, octets)


def pkcs1_padded(algorithm: HashAlgorithm, octets: bytes, bits: int) -> bytes:
    """Return what the private operation of a key of so many bits is done on for PKCS#1 v1.5. Raises SignatureError."""
    info, length = digest_info(algorithm, octets), (bits + 7) // 8
    if length < len(info) + 11:
        raise SignatureError("the RSA key is too short for that hash")
    return b"\x00\x01" + b"\xff" * (length - len(info) - 3) + b"\x00" + info


def pss_padded(scheme: Scheme, octets: bytes, bits: int, salt: bytes) -> bytes:
    """Return what the private operation of a key of so many bits is done on for RSASSA-PSS. Raises SignatureError."""
    size, encoded_bits = HASH_LENGTHS[scheme.hash], bits - 1
    length = (encoded_bits + 7) // 8
    if length < size + len(salt) + 2:
        raise SignatureError("the RSA key is too short for that hash")
    hashed = digest(scheme.hash, bytes(8) + digest(scheme.hash, octets) + salt)
    block = bytes(length - len(salt) - size - 2) + b"\x01" + salt
    mask = b"".join(digest(scheme.hash, hashed + count.to_bytes(4)) for count in range(-(-len(block) // size)))
    masked = bytearray(one ^ other for one, other in zip(block, mask, strict=False))
    masked[0] &= 0xFF >> (8 * length - encoded_bits)
    return (bytes(masked) + hashed + b"\xbc").rjust((bits + 7) // 8, b"\0")


def ecdsa_der(r: int, s: int) -> bytes:
    """Return an ECDSA signature in DER."""
    return encode_dss_signature(r, s)


def ecdsa_der_from_raw(signature: bytes) -> bytes:
    """Return the DER of the r||s that tokens make. Raises SignatureError."""
    if not signature or len(signature) % 2:
        raise SignatureError("the token's ECDSA signature is malformed")
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
