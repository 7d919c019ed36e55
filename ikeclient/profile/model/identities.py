"""Identities of IKE as profiles write them."""

from __future__ import annotations

from ikeclient.crypto.pki.identity import PREFIXES, parse_identity
from ikeclient.errors import ProfileError
from ikeclient.profile.model.values import shown
from ikeclient.wire.identity import Identity


def identity_of(text: str, key: str) -> Identity:
    """The IKE identity that the text of `key` means, see `crypto.pki.identity`. Raises ProfileError."""
    try:
        type_, data = parse_identity(text)
    except ValueError as error:
        raise ProfileError(
            f"key '{key}' is not an identity: {shown(text)}",
            reason=f"it {error}",
            hint="write an address, a host name, user@domain, a distinguished name (C=CH, CN=...),"
            f" or its type in front: {', '.join(f'{prefix}:' for prefix in PREFIXES)}",
        ) from None
    return Identity(type=type_, data=data)
