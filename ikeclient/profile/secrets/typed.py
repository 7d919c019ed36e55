"""Secrets as people write and type them. A tunnel that runs needs this, and nothing of what reads profiles."""

from __future__ import annotations

import base64
import binascii

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedSecret:
    """A password or a pre-shared key that a person typed: the `key` of a `section`, and what it was asked with."""

    section: str
    key: str
    prompt: str


def decode_psk(written: bytes) -> bytes:
    """A pre-shared key from its text: as it is, hexadecimal after `0x`, or Base64 after `0s`. Raises ProfileError."""
    prefix, rest = written[:2], written[2:]
    try:
        match prefix:
            case b"0x":
                psk = binascii.unhexlify(rest)
            case b"0s":
                psk = base64.b64decode(rest, validate=True)
            case _:
                psk = written
    except ValueError:
        kind = "hexadecimal" if prefix == b"0x" else "Base64"
        raise ProfileError(f"the pre-shared key starts with {prefix.decode()}, but is not {kind}") from None
    if not psk:
        raise ProfileError("the pre-shared key is empty")
    return psk


def checked_password(password: str) -> str:
    """An EAP password that can be one (RFC 2759 section 4). Raises ProfileError."""
    if len(password) > 256:
        raise ProfileError(f"the password has {len(password)} characters, at most 256 are possible")
    if "\0" in password or "\n" in password:
        raise ProfileError("the password holds a NUL or a newline", hint="its source should give the password only")
    return password
