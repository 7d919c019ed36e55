"""strongSwan's and libreswan's words for the signatures that may be made, such as `rsa/pss-sha256-sha384`."""

from __future__ import annotations

from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.text import printable

_KEYS = {
    "rsa": ("rsa-pkcs1",),
    "rsa/pss": ("rsa-pss",),
    "ecdsa": ("ecdsa",),
    "pubkey": ("rsa-pkcs1", "ecdsa"),
    "any": ("rsa-pkcs1", "ecdsa"),
}
_HASHES = ("sha256", "sha384", "sha512")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Schemes as profiles name them, none if any will do, and the words that name none of ours."""

    schemes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def read_signature(written: str) -> Signatures:
    """Key types, each with the hashes that follow it. Key sizes are left to whoever issues our certificate."""
    keys: tuple[str, ...] = ()
    schemes: list[str] = []
    left_out: list[str] = []
    for word in written.strip().lower().removeprefix("ike:").split("-"):
        plain = word.replace("sha2_", "sha")
        if plain in _KEYS:
            keys = _KEYS[plain]
        elif plain in ("ed25519", "ed448"):
            keys = ()
            schemes.append(plain)
        elif plain == "identity":
            schemes += ["ed25519", "ed448"]
        elif plain == "sha2":
            schemes += [f"{key}-{each}" for each in _HASHES for key in keys]
        elif plain in _HASHES and keys:
            schemes += [f"{key}-{plain}" for key in keys]
        elif not plain.isdigit():
            left_out.append(printable(word, 30))
    if not schemes and keys == ("rsa-pss",):
        schemes = [f"rsa-pss-{each}" for each in _HASHES]
    return Signatures(schemes=tuple(dict.fromkeys(schemes)), left_out=tuple(left_out))
