"""Private keys that stay where they are: on a token, or with an agent. Another process signs with them.

The protocol yields what is to be signed, and goes on when the signature comes. What was signed is checked with the
public key before it is sent, whoever made it.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.crypto.sign.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteKey:
    """A key elsewhere: `place` says where to people, `reference` to who signs; that may hold a PIN.

    `families` are the kinds of signature that can be made there, the best first.
    """

    public_key: PublicKey
    families: tuple[Family, ...]
    place: str
    reference: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRequest:
    """Sign `octets` with the first of `schemes` that the key can make; an ECDSA signature is in DER."""

    key: RemoteKey
    octets: bytes = field(repr=False)
    schemes: tuple[Scheme, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What was made, and how."""

    scheme: Scheme
    data: bytes
