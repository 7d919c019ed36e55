"""How we can prove who we are: the values of `auth.method`, each with what follows from it.

Validation, compilation, the check before a connection, importers, exporters and documentation all go by this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ikeclient.wire.registry import EapType

MethodName: TypeAlias = Literal[
    "psk", "certificate", "eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap", "eap-gtc", "eap-md5", "eap"
]

_CERTIFICATE = frozenset({"certificate", "key", "key_passphrase"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodTraits:
    """What one method uses.

    `keys` are those of [auth] besides `method` and `identity`. `answers` are the EAP methods that the gateway may ask
    for, in order of preference; there are none without EAP. `certificate` tells that we prove ourselves with one.
    `supported` ones can be run; profiles can name the others.
    """

    keys: frozenset[str]
    answers: tuple[EapType, ...] = ()
    certificate: bool = False
    supported: bool = True


METHODS: dict[MethodName, MethodTraits] = {
    "psk": MethodTraits(keys=frozenset({"psk"})),
    "certificate": MethodTraits(keys=_CERTIFICATE | {"signature"}, certificate=True),
    "eap-mschapv2": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.MSCHAPV2,)),
    "eap-tls": MethodTraits(keys=_CERTIFICATE | {"user"}, answers=(EapType.TLS,), certificate=True, supported=False),
    "eap-ttls": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.TTLS,), supported=False),
    "eap-peap": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.PEAP,), supported=False),
    "eap-gtc": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.GTC,)),
    "eap-md5": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.MD5_CHALLENGE,)),
    # What the gateway asks for, of the methods that never show it the password itself.
    "eap": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.MSCHAPV2,)),
}
SUPPORTED = tuple(name for name, traits in METHODS.items() if traits.supported)
REFUSED = tuple(name for name, traits in METHODS.items() if not traits.supported)

_BY_NAME: dict[str, MethodTraits] = {str(name): traits for name, traits in METHODS.items()}


def is_eap(method: str) -> bool:
    """Return whether `method` is one of EAP's; false for what is no method."""
    return method in _BY_NAME and bool(_BY_NAME[method].answers)


def uses_certificate(method: str) -> bool:
    """Return whether we prove ourselves with a certificate of ours; false for what is no method."""
    return method in _BY_NAME and _BY_NAME[method].certificate
