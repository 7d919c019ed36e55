"""Proposals and transforms for tests of negotiation."""

from __future__ import annotations

from ikeclient.crypto.algorithms.transforms import (
    ENCRYPTION,
    INTEGRITY,
    KEY_EXCHANGE,
    PRF,
    AlgorithmProposal,
    Encryption,
    Integrity,
    KeyExchange,
    Prf,
)
from ikeclient.wire.registry import TransformType
from ikeclient.wire.sa import Transform


def algorithms(text: str) -> AlgorithmProposal:
    """Keywords joined with hyphens, each kind in order of preference."""
    kinds: dict[str, list[Encryption | Integrity | Prf | KeyExchange]] = {k: [] for k in ("e", "i", "p", "k")}
    for keyword in text.split("-"):
        for kind, table in (("e", ENCRYPTION), ("i", INTEGRITY), ("p", PRF), ("k", KEY_EXCHANGE)):
            if keyword in table:
                kinds[kind].append(table[keyword])
    return AlgorithmProposal(
        encryption=tuple(kinds["e"]),  # type: ignore[arg-type]
        integrity=tuple(kinds["i"]),  # type: ignore[arg-type]
        prf=tuple(kinds["p"]),  # type: ignore[arg-type]
        key_exchange=tuple(kinds["k"]),  # type: ignore[arg-type]
    )


AEAD = algorithms("aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519")
CBC = algorithms("aes256-aes128-sha512-sha256-prfsha512-prfsha256-modp2048-ecp256")
ESP = [algorithms("aes256gcm16-aes128gcm16-ecp256"), algorithms("aes256-sha256-ecp256")]
SPI = 0xC0FFEE00

E, P, A, K, N = list(TransformType)  # encryption, PRF, integrity (authentication), key exchange, sequence numbers


def t(type_: int, id_: int, bits: int | None = None, other: bytes = b"") -> Transform:
    return Transform(type=TransformType(type_), id=id_, key_bits=bits, other=other)
