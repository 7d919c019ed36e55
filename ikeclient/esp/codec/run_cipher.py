"""Which cipher seals and opens ESP packets: the compiled module's loop over OpenSSL, or `cryptography`.

`cryptography` copies a context for each packet, and is called once for each; the compiled module keeps one context for
each key, and is called once for a run. It opens the machine's own OpenSSL when `load` is called, which must be before
rights are given up. Every algorithm is then held against a known answer, and one that is missing, as in a library that
only does what FIPS approves, or that is wrong in any way, stays with `cryptography`. So does everything before `load`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ikeclient.crypto.algorithms.esp_ciphers import esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.esp.codec.choice import ACTIVE

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Library, RunCipher

# What each algorithm is called in the library.
_CIPHERS = {
    "aes128gcm16": "EVP_aes_128_gcm",
    "aes256gcm16": "EVP_aes_256_gcm",
    "aes128ccm16": "EVP_aes_128_ccm",
    "aes256ccm16": "EVP_aes_256_ccm",
    "chacha20poly1305": "EVP_chacha20_poly1305",
    "aes128": "EVP_aes_128_cbc",
    "aes256": "EVP_aes_256_cbc",
}
_DIGESTS = {"sha1": "EVP_sha1", "sha256": "EVP_sha256", "sha384": "EVP_sha384", "sha512": "EVP_sha512"}

_SPI, _SEQUENCE = 0xC0FFEE01, 0x0123456789ABCDEF
_WHOLE, _LAST, _COUNT = 1408, 80, 3  # bytes of plaintext: libraries have code of its own for long ones
# The ICVs of three packets, one after the other: those of `_known_run`, as `cryptography` computes them.
KNOWN_ANSWERS: dict[tuple[str, str | None], str] = {
    ("aes128gcm16", None): (
        "c71c76f2a83f4772e7d1e828c4b2524208034dfcf67133696e44215ea30fda3c2c141fc125407f6e84815a517c67a276"
    ),
    ("aes256gcm16", None): (
        "9d07dd35730c961af81969723832b7c68247d89c440d42ace38b6f034d87bf0ea6208b030355b9278e9288a4afcb43cf"
    ),
    ("aes128ccm16", None): (
        "fbe31faf86e8cf67753db8a2c122f32c03cba8b44ee44cc3be976083ee9734ff017b952c461721535f6682491120e00c"
    ),
    ("aes256ccm16", None): (
        "278244875078028884ff639eff1a6e16c01440672cf78630c1df308b3585139be28d18f0e2fead561b9e5d7204a881e7"
    ),
    ("chacha20poly1305", None): (
        "0011621f36f0664f04f112af8854c34de81397ca0a9f9f6f60925437d058e52899694bcea39b50ff406afdbf9396cf2e"
    ),
    ("aes128", "sha1"): ("9a132e1b758968ae5dc2daa2bf31c52938d616da45b7d46f4f9ed71d2d6c79fa799b22ca"),
    ("aes128", "sha256"): (
        "a72cc9aa470adb9cec25fd51ecefcace42ddc6e6c281ed362f8a73c67b22b93d50cc836ed3e09bbf5e219e155e87779c"
    ),
    ("aes128", "sha384"): (
        "afcc93c402b4a818467008f850e1b26d13a353fd3a32b7ba370ba24a9c48a737b905e0d972c10d0a989a01a2684426ed"
        "8326882b500c4f3cdb6d61400f686658c534f84ac1dad6af"
    ),
    ("aes128", "sha512"): (
        "918808d6e6fcf9ac45aff2df6b23de328692aae9be03083330dbf5d5b774bea2d70edcbf5603a96aeec18b9bce46bb73"
        "1d09705f77171182a992205ec8a1453434ed67fa2f7ee7c83236c7ad00cbc351e99f29ccd5984d90fac2260fc4bbbde7"
    ),
    ("aes256", "sha1"): ("7a545f3ac29b65f6d6d2b5918eac00854e3acfbe5e947278633f4f856bf4e3901c946c5f"),
    ("aes256", "sha256"): (
        "9e56305b69a4857344f1f3df8ffdbfeb5c7fd8ce5dbba56eeb78cc035cad62178f08e08578fb4473a86c2b905f607c0c"
    ),
    ("aes256", "sha384"): (
        "2ea7dbc6e66ef8cfbb5d3b46847186985559370f2001fd6292ceb9ac3ec80d31af6872880046194486f1f23645a3d6ea"
        "0d87ea5601be68c3a46e1b15ab4625ede9d812f062cc0b74"
    ),
    ("aes256", "sha512"): (
        "75223f2991f74519d04643f0ac18529d33336353185f7cead9bc615998ae5fad7a7e8d975146676a9704aff7ba7d20ee"
        "64be1cdee4ef5594804c4144567c08c8b51295346178feee1fb469084af3140883a27dd83aaa5a946c9e34bb265ad95d"
    ),
}

BY_CRYPTOGRAPHY = "cryptography"

_library: Library | None = None
_trusted: frozenset[tuple[str, str | None]] = frozenset()


def load(paths: Iterable[str]) -> str | None:
    """Use the first of these libraries that can be opened; returns its version, or None if there is none.

    Nothing is raised: whatever is odd stays with `cryptography`. SAs that exist already keep their cipher.
    """
    global _library, _trusted
    _library, _trusted = None, frozenset()
    if ACTIVE != "compiled":
        return None
    from ikeclient.esp.codec._offload import Library

    for path in paths:
        try:
            _library = Library(path)
        except OSError:
            continue
        _trusted = frozenset(suite for suite in suites() if _answers(_library, suite))
        if _trusted:
            return _library.version
        _library = None
    return None


def raised_rights() -> bool:
    """Whether this process was given rights that its caller may not have: by a set-user-ID bit, or capabilities.

    The kernel says so when a program starts, to libraries as well: `getauxval(AT_SECURE)`.
    """
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return True
    if ACTIVE != "compiled":
        return False
    from ikeclient.esp.codec._offload import raised

    return raised()


def version() -> str | None:
    """The version of the library in use; None if `cryptography` does everything."""
    return _library.version if _library is not None else None


def missing() -> list[str]:
    """The algorithms that stay with `cryptography` although there is a library."""
    return ["-".join(filter(None, suite)) for suite in suites() if suite not in _trusted] if _library else []


def suites() -> list[tuple[str, str | None]]:
    """Every combination of algorithms that the compiled loop knows: encryption and integrity, by their keywords."""
    plain = [(name, None) for name in _CIPHERS if ENCRYPTION[name].aead]
    return plain + [(name, hashed) for name in _CIPHERS if not ENCRYPTION[name].aead for hashed in _DIGESTS]


def run_cipher(
    suite: EspSuite, keys: DirectionKeys, spi: int, entropy: Callable[[int], bytes], *, sealing: bool
) -> RunCipher | None:
    """The cipher of one direction of a Child SA, or None if `cryptography` is to be used.

    `entropy` feeds the IVs of AES-CBC. Raises ValueError if the keys do not fit the suite.
    """
    name = suite.encryption.keyword, suite.integrity.keyword if suite.integrity else None
    if _library is None or name not in _trusted:
        return None
    try:
        return _make(_library, suite, keys, spi, entropy, sealing=sealing)
    except OSError:
        return None


def _make(
    library: Library,
    suite: EspSuite,
    keys: DirectionKeys,
    spi: int,
    entropy: Callable[[int], bytes],
    *,
    sealing: bool,
) -> RunCipher:
    from ikeclient.esp.codec._offload import RunCipher

    encryption, integrity = suite.encryption, suite.integrity
    length = encryption.key_length
    if len(keys.encryption) != length + encryption.salt_length:
        raise ValueError(f"{encryption.keyword} does not take {len(keys.encryption)} bytes of key")
    if len(keys.integrity) != (integrity.key_length if integrity else 0):
        raise ValueError("the integrity key does not fit")
    return RunCipher(
        library,
        _CIPHERS[encryption.keyword],
        keys.encryption[:length],
        keys.encryption[length:],
        spi,
        suite.esn,
        sealing,
        _DIGESTS[integrity.hash_name] if integrity else None,
        keys.integrity,
        esp_layout(suite).icv_length,
        entropy,
    )


def _answers(library: Library, name: tuple[str, str | None]) -> bool:
    """Whether the library gives the known answer, opens it, and refuses what is forged."""
    try:
        return known_run(library, name) == KNOWN_ANSWERS[name]
    except (OSError, ValueError):
        return False


def known_run(library: Library, name: tuple[str, str | None]) -> str:
    """Seal a known run and open it again; returns the ICVs, or what is wrong."""
    encryption, integrity = ENCRYPTION[name[0]], INTEGRITY[name[1]] if name[1] else None
    suite = EspSuite(encryption=encryption, integrity=integrity, esn=True)
    keys = DirectionKeys(
        encryption=bytes(range(encryption.key_length + encryption.salt_length)),
        integrity=bytes(range(integrity.key_length if integrity else 0)),
    )
    layout = esp_layout(suite)
    gap, over = 8 + layout.iv_length, 8 + layout.iv_length + layout.icv_length
    stride, last, text = over + _WHOLE, over + _LAST, bytes(range(128)) * (_WHOLE // 128)
    places = [(at, _WHOLE if at < (_COUNT - 1) * stride else _LAST) for at in range(0, _COUNT * stride, stride)]
    arena = bytearray(_COUNT * stride)
    for at, length in places:
        arena[at + gap : at + gap + length] = text[:length]
    known = _make(library, suite, keys, _SPI, _known_entropy, sealing=True)
    known.seal_run(arena, stride, _COUNT, last, _SEQUENCE)
    ends = [at + over + length for at, length in places]
    icvs = [arena[end - layout.icv_length : end].hex() for end in ends]
    arena[stride + gap] ^= 1
    states = bytearray(_COUNT)
    opener = _make(library, suite, keys, _SPI, _known_entropy, sealing=False)
    numbers = range(_SEQUENCE, _SEQUENCE + _COUNT)
    forged = opener.open_run(arena, stride, 0, _COUNT, last, numbers, states)
    if forged != 1 or states != b"\0\1\0":
        return "a forged packet passes"
    if any(arena[at + gap : at + gap + length] != text[:length] for at, length in (places[0], places[2])):
        return "a genuine packet is garbled"
    return "".join(icvs)


def _known_entropy(count: int) -> bytes:
    return bytes(count)
