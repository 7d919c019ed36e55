"""A compiled profile as a message between two processes of ours, with its keys: for sockets that nobody else has.

The message says whether certificates have a part in the profile: what reads those is loaded for them alone.
"""

from __future__ import annotations

from functools import cache

from ikeclient.eap.credentials import SimMemory
from ikeclient.errors import IkeclientError
from ikeclient.ipc.typed import Codec, Leaf
from ikeclient.profile.compiled import CompiledProfile

LARGEST = 64 << 20  # bytes, with every authority that a profile's files hold
_MEMORY: Leaf = (bool, lambda _: True, lambda _: SimMemory())  # what the other process remembers stays there


def encode(profile: CompiledProfile) -> object:
    """Return the profile as a JSON value. It holds secrets."""
    certificates = profile.ike.uses_certificates
    return {"certificates": certificates, "profile": _codec(certificates).encode(profile)}


def decode(data: object) -> CompiledProfile:
    """Return the profile that `encode` made `data` from; raises ValueError."""
    match data:
        case {"certificates": bool(certificates), "profile": profile}:
            try:
                return _codec(certificates).decode(CompiledProfile, profile)
            except IkeclientError as error:
                raise ValueError(f"not a profile: {error.message}") from None
    raise ValueError("not a profile")


@cache
def _codec(certificates: bool) -> Codec:
    if not certificates:
        return Codec({SimMemory: _MEMORY})
    from ikeclient.crypto.pki.trust_store import Certificate, TrustStore
    from ikeclient.crypto.sign.file_key import FileKey
    from ikeclient.crypto.sign.private_key import PrivateKey
    from ikeclient.crypto.sign.signature import PublicKey

    key: Leaf = (bytes, FileKey.pkcs8, lambda data: FileKey.load(data, None))
    return Codec(
        {
            Certificate: (bytes, lambda certificate: certificate.der, Certificate.from_der),
            TrustStore: (tuple[Certificate, ...], lambda store: store.anchors, TrustStore.from_certificates),
            FileKey: key,
            SimMemory: _MEMORY,
            PrivateKey: key,  # as which it is declared
            PublicKey: (bytes, lambda key: key.spki, PublicKey.from_spki),
        }
    )
