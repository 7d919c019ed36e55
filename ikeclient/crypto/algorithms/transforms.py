"""The algorithms we can run, as values: sizes and names, and nothing that computes.

Negotiation ends in an `IkeSuite` or `EspSuite` of these; after it nobody looks at transform numbers. The keywords are
the field's own (`aes256gcm16`, `prfsha384`, `ecp384`). Kept free of `cryptography`, so that reading a profile is quick.
"""

from __future__ import annotations

from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EncryptionId, IntegrityId, KeyExchangeId, PrfId


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """A cipher. Lengths are in bytes; `key_length` excludes the salt, `icv_length` is 0 unless it is an AEAD."""

    id: EncryptionId
    keyword: str
    key_length: int
    salt_length: int
    iv_length: int
    icv_length: int
    block_length: int
    variable_key: bool = True  # the key length travels as a transform attribute (RFC 7296 section 3.3.5)

    @property
    def aead(self) -> bool:
        """Whether the cipher authenticates by itself (RFC 5282, RFC 4106, RFC 7634)."""
        return self.icv_length > 0

    @property
    def key_bits(self) -> int:
        """Key length in bits, as the Key Length attribute carries it."""
        return self.key_length * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Integrity:
    """An HMAC with a truncated output (RFC 4868, RFC 2404). Lengths are in bytes."""

    id: IntegrityId
    keyword: str
    hash_name: str
    key_length: int
    icv_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prf:
    """An HMAC used as pseudorandom function; its preferred key length is its output length (RFC 7296 section 2.13)."""

    id: PrfId
    keyword: str
    hash_name: str
    output_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyExchange:
    """A key exchange method and the length in bytes of its public value on the wire."""

    id: KeyExchangeId
    keyword: str
    public_length: int


def _gcm(bits: int) -> Encryption:
    return Encryption(
        id=EncryptionId.AES_GCM_16,
        keyword=f"aes{bits}gcm16",
        key_length=bits // 8,
        salt_length=4,
        iv_length=8,
        icv_length=16,
        block_length=1,
    )


def _ccm(bits: int) -> Encryption:
    return Encryption(
        id=EncryptionId.AES_CCM_16,
        keyword=f"aes{bits}ccm16",
        key_length=bits // 8,
        salt_length=3,
        iv_length=8,
        icv_length=16,
        block_length=1,
    )


def _cbc(bits: int) -> Encryption:
    return Encryption(
        id=EncryptionId.AES_CBC,
        keyword=f"aes{bits}",
        key_length=bits // 8,
        salt_length=0,
        iv_length=16,
        icv_length=0,
        block_length=16,
    )


_CHACHA = Encryption(
    id=EncryptionId.CHACHA20_POLY1305,
    keyword="chacha20poly1305",
    key_length=32,
    salt_length=4,
    iv_length=8,
    icv_length=16,
    block_length=1,
    variable_key=False,
)

ENCRYPTION: dict[str, Encryption] = {
    e.keyword: e for e in (_gcm(128), _gcm(256), _ccm(128), _ccm(256), _CHACHA, _cbc(128), _cbc(256))
}

INTEGRITY: dict[str, Integrity] = {
    i.keyword: i
    for i in (
        Integrity(id=IntegrityId.HMAC_SHA1_96, keyword="sha1", hash_name="sha1", key_length=20, icv_length=12),
        Integrity(id=IntegrityId.HMAC_SHA2_256_128, keyword="sha256", hash_name="sha256", key_length=32, icv_length=16),
        Integrity(id=IntegrityId.HMAC_SHA2_384_192, keyword="sha384", hash_name="sha384", key_length=48, icv_length=24),
        Integrity(id=IntegrityId.HMAC_SHA2_512_256, keyword="sha512", hash_name="sha512", key_length=64, icv_length=32),
    )
}

PRF: dict[str, Prf] = {
    p.keyword: p
    for p in (
        Prf(id=PrfId.HMAC_SHA1, keyword="prfsha1", hash_name="sha1", output_length=20),
        Prf(id=PrfId.HMAC_SHA2_256, keyword="prfsha256", hash_name="sha256", output_length=32),
        Prf(id=PrfId.HMAC_SHA2_384, keyword="prfsha384", hash_name="sha384", output_length=48),
        Prf(id=PrfId.HMAC_SHA2_512, keyword="prfsha512", hash_name="sha512", output_length=64),
    )
}

KEY_EXCHANGE: dict[str, KeyExchange] = {
    k.keyword: k
    for k in (
        KeyExchange(id=KeyExchangeId.MODP_2048, keyword="modp2048", public_length=256),
        KeyExchange(id=KeyExchangeId.MODP_3072, keyword="modp3072", public_length=384),
        KeyExchange(id=KeyExchangeId.MODP_4096, keyword="modp4096", public_length=512),
        KeyExchange(id=KeyExchangeId.MODP_6144, keyword="modp6144", public_length=768),
        KeyExchange(id=KeyExchangeId.MODP_8192, keyword="modp8192", public_length=1024),
        KeyExchange(id=KeyExchangeId.ECP_256, keyword="ecp256", public_length=64),
        KeyExchange(id=KeyExchangeId.ECP_384, keyword="ecp384", public_length=96),
        KeyExchange(id=KeyExchangeId.ECP_521, keyword="ecp521", public_length=132),
        KeyExchange(id=KeyExchangeId.CURVE25519, keyword="x25519", public_length=32),
        KeyExchange(id=KeyExchangeId.CURVE448, keyword="x448", public_length=56),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmProposal:
    """One proposal of ours: the alternatives of each kind, in order of preference (RFC 7296 section 2.7).

    For ESP `prf` is empty and `key_exchange` lists the groups for rekeying with a fresh exchange, possibly none.
    """

    encryption: tuple[Encryption, ...]
    integrity: tuple[Integrity, ...] = ()
    prf: tuple[Prf, ...] = ()
    key_exchange: tuple[KeyExchange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeSuite:
    """What an IKE SA runs with; `integrity` is None exactly when the cipher is an AEAD."""

    encryption: Encryption
    integrity: Integrity | None
    prf: Prf
    key_exchange: KeyExchange

    @property
    def name(self) -> str:
        """The suite in proposal keywords, e.g. `aes256gcm16-prfsha384-ecp384`."""
        parts = [self.encryption.keyword]
        if self.integrity:
            parts.append(self.integrity.keyword)
        if self.integrity is None or self.prf.hash_name != self.integrity.hash_name:
            parts.append(self.prf.keyword)
        parts.append(self.key_exchange.keyword)
        return "-".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class EspSuite:
    """What a Child SA runs with; `key_exchange` is None where its keys came from the IKE SA alone."""

    encryption: Encryption
    integrity: Integrity | None
    key_exchange: KeyExchange | None = None
    esn: bool = False

    @property
    def name(self) -> str:
        """The suite in proposal keywords, e.g. `aes256-sha256-ecp256`."""
        parts = [self.encryption.keyword]
        if self.integrity:
            parts.append(self.integrity.keyword)
        if self.key_exchange:
            parts.append(self.key_exchange.keyword)
        if self.esn:
            parts.append("esn")
        return "-".join(parts)
