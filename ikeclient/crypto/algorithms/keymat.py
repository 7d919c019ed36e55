"""From the shared secret of a key exchange to the keys of SAs and the input of AUTH (RFC 7296 sections 2.14 to 2.18).

Every key is a slice of one prf+ stream. Both ends cut the stream in the same order, named for the two roles initiator
and responder; only Child SA keys are handed out as inbound and outbound, because nobody needs the roles after that.
"""

from __future__ import annotations

from dataclasses import field, replace

from ikeclient.crypto.algorithms.prf import prf, prf_plus
from ikeclient.crypto.algorithms.transforms import Encryption, EspSuite, IkeSuite, Integrity, Prf
from ikeclient.lazy_dataclass import dataclass

_SHARED_KEY_PAD = b"Key Pad for IKEv2"


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeKeys:
    """SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi and SK_pr (RFC 7296 section 2.14).

    `ai` and `ar` are empty with an AEAD; `ei` and `er` then end in the salt.
    """

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionKeys:
    """The keys of one direction of a Child SA; `encryption` ends in the salt, `integrity` is empty with an AEAD."""

    encryption: bytes = field(repr=False)
    integrity: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildKeys:
    """The keys of a Child SA as we use them: `inbound` decrypts, `outbound` encrypts."""

    inbound: DirectionKeys = field(repr=False)
    outbound: DirectionKeys = field(repr=False)


def ike_keys(suite: IkeSuite, shared: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    """The keys of a first IKE SA (RFC 7296 section 2.14); `shared` is the result of the key exchange."""
    skeyseed = prf(suite.prf, nonce_i + nonce_r, shared)
    return _expand(suite, skeyseed, nonce_i + nonce_r + spi_i + spi_r)


def rekeyed_ike_keys(
    suite: IkeSuite,
    old_prf: Prf,
    old_d: bytes,
    shared: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """The keys of an IKE SA that replaces another (RFC 7296 section 2.18).

    `old_prf` and `old_d` belong to the SA being replaced; nonces, SPIs and `suite` to the new one.
    """
    skeyseed = prf(old_prf, old_d, shared + nonce_i + nonce_r)
    return _expand(suite, skeyseed, nonce_i + nonce_r + spi_i + spi_r)


def child_keys(
    prf_algorithm: Prf,
    suite: EspSuite,
    sk_d: bytes,
    nonce_i: bytes,
    nonce_r: bytes,
    *,
    initiator: bool,
    shared: bytes = b"",
) -> ChildKeys:
    """The keys of a Child SA (RFC 7296 section 2.17).

    `initiator` says whether we started the exchange that made it, `shared` is the result of that exchange's own key
    exchange, if it had one.
    """
    lengths = (_encryption_length(suite.encryption), _integrity_length(suite.integrity)) * 2
    stream = prf_plus(prf_algorithm, sk_d, shared + nonce_i + nonce_r, sum(lengths))
    encryption_i, integrity_i, encryption_r, integrity_r = _cut(stream, lengths)
    from_initiator = DirectionKeys(encryption=encryption_i, integrity=integrity_i)
    from_responder = DirectionKeys(encryption=encryption_r, integrity=integrity_r)
    if initiator:
        return ChildKeys(inbound=from_responder, outbound=from_initiator)
    return ChildKeys(inbound=from_initiator, outbound=from_responder)


def signed_octets(prf_algorithm: Prf, sk_p: bytes, message: bytes, peer_nonce: bytes, identity_body: bytes) -> bytes:
    """What an AUTH payload covers (RFC 7296 section 2.15).

    `message` is the signer's whole IKE_SA_INIT message, `peer_nonce` the other side's nonce without its payload
    header, `identity_body` the signer's ID payload without its generic header, `sk_p` the signer's SK_p.
    """
    return message + peer_nonce + prf(prf_algorithm, sk_p, identity_body)


def shared_key_auth(prf_algorithm: Prf, secret: bytes, octets: bytes) -> bytes:
    """The AUTH data made from a shared secret: a pre-shared key, an EAP MSK or SK_p (RFC 7296 sections 2.15, 2.16)."""
    return prf(prf_algorithm, prf(prf_algorithm, secret, _SHARED_KEY_PAD), octets)


def mix_ppk(prf_algorithm: Prf, keys: IkeKeys, ppk: bytes) -> IkeKeys:
    """The keys of an IKE SA whose ends share the post-quantum key `ppk` (RFC 8784 section 3)."""

    def mixed(key: bytes) -> bytes:
        return prf_plus(prf_algorithm, ppk, key, len(key))

    return replace(keys, d=mixed(keys.d), pi=mixed(keys.pi), pr=mixed(keys.pr))


def _expand(suite: IkeSuite, skeyseed: bytes, seed: bytes) -> IkeKeys:
    encryption = _encryption_length(suite.encryption)
    integrity = _integrity_length(suite.integrity)
    key = suite.prf.output_length
    lengths = (key, integrity, integrity, encryption, encryption, key, key)
    d, ai, ar, ei, er, pi, pr = _cut(prf_plus(suite.prf, skeyseed, seed, sum(lengths)), lengths)
    return IkeKeys(d=d, ai=ai, ar=ar, ei=ei, er=er, pi=pi, pr=pr)


def _encryption_length(encryption: Encryption) -> int:
    return encryption.key_length + encryption.salt_length


def _integrity_length(integrity: Integrity | None) -> int:
    return integrity.key_length if integrity else 0


def _cut(stream: bytes, lengths: tuple[int, ...]) -> list[bytes]:
    pieces = []
    for length in lengths:
        pieces.append(stream[:length])
        stream = stream[length:]
    return pieces
