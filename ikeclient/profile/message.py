"""A compiled profile as a message between two processes of ours, with its keys: for sockets that nobody else has."""

from __future__ import annotations

from ikeclient.crypto.pki.trust_store import Certificate, TrustStore
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.crypto.sign.private_key import PrivateKey
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.eap.credentials import SimMemory
from ikeclient.errors import IkeclientError
from ikeclient.ipc.typed import Codec
from ikeclient.profile.compiled import CompiledProfile

LARGEST = 64 << 20  # bytes, with every authority that a profile's files hold
_KEY = (bytes, FileKey.pkcs8, lambda data: FileKey.load(data, None))
_CODEC = Codec(
    {
        Certificate: (bytes, lambda certificate: certificate.der, Certificate.from_der),
        TrustStore: (tuple[Certificate, ...], lambda store: store.anchors, TrustStore.from_certificates),
        FileKey: _KEY,
        SimMemory: (bool, lambda _: True, lambda _: SimMemory()),  # what the other process remembers stays there
        PrivateKey: _KEY,  # as which it is declared
        PublicKey: (bytes, lambda key: key.spki, PublicKey.from_spki),
    }
)


def encode(profile: CompiledProfile) -> object:
    """Return the profile as a JSON value. It holds secrets."""
    return _CODEC.encode(profile)


def decode(data: object) -> CompiledProfile:
    """Return the profile that `encode` made `data` from; raises ValueError."""
    try:
        return _CODEC.decode(CompiledProfile, data)
    except IkeclientError as error:
        raise ValueError(f"not a profile: {error.message}") from None
