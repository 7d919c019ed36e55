"""Whether this machine can run an algorithm at all: a FIPS provider, for one, has no ChaCha20 and no X25519.

An algorithm that the library below refuses is never offered; where the profile insists on it, that is an error before
the first packet (hardening N13). The only honest way to know is to try each one once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ikeclient.crypto.algorithms.ciphers import payload_cipher
from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.modp import MODP_GROUPS
from ikeclient.crypto.algorithms.transforms import INTEGRITY, AlgorithmProposal, Encryption, Integrity, KeyExchange, Prf
from ikeclient.errors import ProfileError

_Algorithm = Encryption | Integrity | Prf | KeyExchange
_One = TypeVar("_One", Encryption, Integrity, Prf, KeyExchange)


def works(algorithm: _Algorithm) -> bool:
    """Whether the cryptography below runs `algorithm` here and now."""
    try:
        match algorithm:
            case Encryption():
                _try_encryption(algorithm)
            case Integrity() | Prf():
                hashlib.new(algorithm.hash_name)
            case KeyExchange() if algorithm.id not in MODP_GROUPS:  # those are plain integers, which always work
                generate(algorithm, lambda length: b"\x17" * length)
    except Exception:  # which exception it is differs between the library's versions and its back ends
        return False
    return True


def usable(proposals: Sequence[AlgorithmProposal], *, named: bool, key: str) -> tuple[AlgorithmProposal, ...]:
    """`proposals` without what does not work here.

    Where the profile names the algorithms (`named`) in `key`, one that does not work is a ProfileError.
    """
    kept = []
    for proposal in proposals:
        parts = (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
        broken = [algorithm.keyword for part in parts for algorithm in part if not works(algorithm)]
        if broken and named:
            raise ProfileError(
                f"key '{key}' names {broken[0]}, which this machine cannot run",
                reason="its cryptographic library refuses the algorithm; a FIPS mode may forbid it",
                hint="name another algorithm",
            )
        reduced = AlgorithmProposal(
            encryption=_working(proposal.encryption),
            integrity=_working(proposal.integrity),
            prf=_working(proposal.prf),
            key_exchange=_working(proposal.key_exchange),
        )
        emptied = (bool(a) != bool(b) for a, b in zip(parts, _parts(reduced), strict=True))
        if not any(emptied):
            kept.append(reduced)
    if not kept:
        raise ProfileError(f"the cryptographic library of this machine runs no algorithm of '{key}'")
    return tuple(kept)


def _parts(proposal: AlgorithmProposal) -> tuple[Sequence[_Algorithm], ...]:
    return (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)


def _working(algorithms: Iterable[_One]) -> tuple[_One, ...]:
    return tuple(algorithm for algorithm in algorithms if works(algorithm))


def _try_encryption(algorithm: Encryption) -> None:
    integrity = None if algorithm.aead else INTEGRITY["sha256"]
    key = b"\x17" * (algorithm.key_length + algorithm.salt_length)
    cipher = payload_cipher(algorithm, integrity, key, b"\x17" * (integrity.key_length if integrity else 0))
    cipher.seal(bytes(algorithm.iv_length), bytes(16), b"")
