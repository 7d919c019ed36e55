"""Which cipher seals and opens ESP packets: the compiled module's loop over OpenSSL, or `cryptography`.

`cryptography` copies a context for each packet, and is called once for each; the compiled module keeps one context for
each key, and is called once for a run. It opens the machine's own OpenSSL when `load` is called, which must be before
rights are given up. Every algorithm is then held against a known answer, and one that is missing, as in a library that
only does what FIPS approves, or that is wrong in any way, stays with `cryptography`. So does everything before `load`.
"""

from __future__ import annotations

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
    "chacha20poly1305": "EVP_chacha20_poly1305",
    "aes128": "EVP_aes_128_cbc",
    "aes256": "EVP_aes_256_cbc",
}
_DIGESTS = {"sha1": "EVP_sha1", "sha256": "EVP_sha256", "sha384": "EVP_sha384", "sha512": "EVP_sha512"}

_SPI, _SEQUENCE = 0xC0FFEE01, 0x0123456789ABCDEF
_STRIDE, _COUNT = 160, 3
# The ICVs of three packets, one after the other: those of `_known_run`, as `cryptography` computes them.
KNOWN_ANSWERS: dict[tuple[str, str | None], str] = {
    ("aes128gcm16", None): (
        "507e99eb7de79bf1eca94eef3b83b9453183062b349b31e2d63621f8a0a5a5f02c141fc125407f6e84815a517c67a276"
    ),
    ("aes256gcm16", None): (
        "4b403b9647c86c7f4743907543fe923b66f82402823a3af3e2625ed275751b44a6208b030355b9278e9288a4afcb43cf"
    ),
    ("chacha20poly1305", None): (
        "4719e99f2d48a5c3d944e5be0b3e38995d62d6570736dc15ce8a023e6eab2a1d99694bcea39b50ff406afdbf9396cf2e"
    ),
    ("aes128", "sha1"): ("2a7f07c0d82d267dabf5436051e1ab66a8c4afdbd7d109eded57d16d94914f0c33fbbba5"),
    ("aes128", "sha256"): (
        "5ba863a0aa26888429ad8460cc69e958819bdb8e25f007de3902bdac7022b5d2d5ab2ac175b1bbd37ebe7ec77978a382"
    ),
    ("aes128", "sha384"): (
        "046404bb387e7922d1c8a55395fe7542ff9fa0f70a9cd22eb58e7c4e08a5bd845817ce32cba91690e410aa28"
        "c309f9fea8bd34865709f725a7d3023214f5664ce49487fa64500015"
    ),
    ("aes128", "sha512"): (
        "48a4c971fadd67824c1f3a6af6713171429ef0706c7b0f46c28f09c6f55b71ef0c98f5e705cd6aec8685309b"
        "a2f696aab8a4c51193c4ae97b3d441328fbf7db1945596854b066019af313e2de793f3352c9061d51a351d55"
        "1edb6fe1077b95de"
    ),
    ("aes256", "sha1"): ("5cf076a2cafdd3ae59fd9bc3f064cfcd4f402420da37101099a8458b5a0250a375cb2f58"),
    ("aes256", "sha256"): (
        "1064bc4d88153d9a2a1771930b22d7ee2f0cbeee734c2cebf25da896399a85dc8fb6977e5c850dccf92970bd6f32a936"
    ),
    ("aes256", "sha384"): (
        "2754620f40bc5be87f37e3b8f0f30295de7c91dabe261e62a72581e881cbe5c00a367593e3fb3e88dd35ee75"
        "1eeb7fc93f32950273fa413d451ed59809dd76b9b13a7846f51df9cb"
    ),
    ("aes256", "sha512"): (
        "65be9d6ce583193e9fdbdb824199d98aca3ea04100baceaec1e4416b85bbcd3f2a2a24faf0ac1326da5851ac"
        "e1fb6c0f56b41d696f371b2c3d3a4a72f256db9234aa5e26116c759e086d28681b499e42b2d20e7aa830f8a1"
        "77748efe1d183582"
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
    stride = over + 80
    arena = bytearray(_COUNT * stride)
    for at in range(0, _COUNT * stride, stride):
        arena[at + gap : at + gap + 80] = bytes(range(80))
    known = _make(library, suite, keys, _SPI, _known_entropy, sealing=True)
    known.seal_run(arena, stride, _COUNT, stride, _SEQUENCE)
    icvs = [arena[end - layout.icv_length : end].hex() for end in range(stride, (_COUNT + 1) * stride, stride)]
    arena[stride + gap] ^= 1
    states = bytearray(_COUNT)
    opener = _make(library, suite, keys, _SPI, _known_entropy, sealing=False)
    numbers = range(_SEQUENCE, _SEQUENCE + _COUNT)
    forged = opener.open_run(arena, stride, 0, _COUNT, stride, numbers, states)
    if forged != 1 or states != b"\0\1\0":
        return "a forged packet passes"
    if any(arena[at + gap : at + gap + 80] != bytes(range(80)) for at in (0, 2 * stride)):
        return "a genuine packet is garbled"
    return "".join(icvs)


def _known_entropy(count: int) -> bytes:
    return bytes(count)
