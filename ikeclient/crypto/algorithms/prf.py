"""The pseudorandom functions of IKEv2 and the stream of key bits made from them (RFC 7296 sections 2.13 and 2.14).

Entropy is always an argument: a function that returns the requested number of unpredictable bytes. With a recorded one
a whole handshake can be replayed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TypeAlias

from ikeclient.crypto.algorithms.transforms import Prf

Entropy: TypeAlias = Callable[[int], bytes]

_MAX_BLOCKS = 255  # the block counter of prf+ is one byte


def prf(algorithm: Prf, key: bytes, data: bytes) -> bytes:
    """One application of the negotiated PRF; the result has `algorithm.output_length` bytes."""
    return hmac.digest(key, data, algorithm.hash_name)


def prf_plus(algorithm: Prf, key: bytes, seed: bytes, length: int) -> bytes:
    """The first `length` bytes of prf+ (RFC 7296 section 2.13).

    Raises ValueError where the counter would overflow, that is past 255 blocks.
    """
    blocks = -(-length // algorithm.output_length)
    if not 0 <= blocks <= _MAX_BLOCKS:
        raise ValueError(f"prf+ gives at most {_MAX_BLOCKS * algorithm.output_length} bytes, not {length}")
    stream = block = b""
    for counter in range(1, blocks + 1):
        block = prf(algorithm, key, block + seed + bytes([counter]))
        stream += block
    return stream[:length]
