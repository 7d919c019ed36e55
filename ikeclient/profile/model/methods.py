"""How we can prove who we are: the values of `auth.method`, each with what follows from it.

Validation, compilation, the check before a connection, importers, exporters and documentation all go by this table.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, get_args

from ikeclient.eap.traits import MUTUAL
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.registry import EapType

MethodName: TypeAlias = Literal[
    "psk",
    "certificate",
    "eap-mschapv2",
    "eap-tls",
    "eap-ttls",
    "eap-peap",
    "eap-gtc",
    "eap-md5",
    "eap-sim",
    "eap-aka",
    "eap-aka-prime",
    "eap",
]
InnerName: TypeAlias = Literal["mschapv2", "eap-mschapv2", "gtc", "md5", "pap", "tls"]
INNER: tuple[InnerName, ...] = get_args(InnerName)

_CERTIFICATE = frozenset({"certificate", "key", "key_passphrase"})
_SERVER = frozenset({"server_ca", "server_name", "anonymous_identity"})
_CARD = frozenset({"user", "anonymous_identity", "sim"})
CARDS = (EapType.AKA_PRIME, EapType.AKA, EapType.SIM)  # in order of preference
_TUNNELLED = _CERTIFICATE | _SERVER | {"user", "password", "inner"}


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

    @property
    def over_tls(self) -> bool:
        """Whether some of the methods log in to an authentication server over TLS."""
        return "server_ca" in self.keys


METHODS: dict[MethodName, MethodTraits] = {
    "psk": MethodTraits(keys=frozenset({"psk"})),
    "certificate": MethodTraits(keys=_CERTIFICATE | {"signature"}, certificate=True),
    "eap-mschapv2": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.MSCHAPV2,)),
    "eap-tls": MethodTraits(keys=_CERTIFICATE | _SERVER | {"user"}, answers=(EapType.TLS,), certificate=True),
    "eap-ttls": MethodTraits(keys=_TUNNELLED, answers=(EapType.TTLS,)),
    "eap-peap": MethodTraits(keys=_TUNNELLED, answers=(EapType.PEAP,)),
    "eap-gtc": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.GTC,)),
    "eap-md5": MethodTraits(keys=frozenset({"user", "password"}), answers=(EapType.MD5_CHALLENGE,)),
    "eap-sim": MethodTraits(keys=_CARD, answers=(EapType.SIM,)),
    "eap-aka": MethodTraits(keys=_CARD, answers=(EapType.AKA,)),
    "eap-aka-prime": MethodTraits(keys=_CARD, answers=(EapType.AKA_PRIME,)),
    # What the gateway asks for, of the methods that never show the password to anybody unproven.
    "eap": MethodTraits(
        keys=_TUNNELLED | _CARD,
        answers=(*CARDS, EapType.TLS, EapType.PEAP, EapType.TTLS, EapType.MSCHAPV2),
    ),
}
SUPPORTED = tuple(name for name, traits in METHODS.items() if traits.supported)
REFUSED = tuple(name for name, traits in METHODS.items() if not traits.supported)

_BY_NAME: dict[str, MethodTraits] = {str(name): traits for name, traits in METHODS.items()}


def is_eap(method: str) -> bool:
    """Return whether `method` is one of EAP's; false for what is no method."""
    return method in _BY_NAME and bool(_BY_NAME[method].answers)


def mutual_answers(method: str) -> tuple[EapType, ...]:
    """Return the EAP methods of `method` that can prove the gateway as well, in order of preference."""
    return tuple(answer for answer in _BY_NAME[method].answers if answer in MUTUAL) if method in _BY_NAME else ()


def uses_certificate(method: str) -> bool:
    """Return whether we prove ourselves with a certificate of ours; false for what is no method."""
    return method in _BY_NAME and _BY_NAME[method].certificate


def uses_card(method: str) -> bool:
    """Return whether nothing but a SIM or USIM proves who we are; false for what is no method."""
    return is_eap(method) and set(_BY_NAME[method].answers) <= set(CARDS)


class _Auth(Protocol):
    """What of the section [auth] decides what a method uses."""

    @property
    def method(self) -> str: ...
    @property
    def inner(self) -> str | None: ...
    @property
    def certificate(self) -> object | None: ...
    @property
    def password(self) -> object | None: ...
    @property
    def sim(self) -> object | None: ...


def has_card(auth: _Auth) -> bool:
    """Return whether the profile names a card that its method may use."""
    return auth.sim is not None and auth.method in _BY_NAME and "sim" in _BY_NAME[auth.method].keys


def needs_password(auth: _Auth) -> bool:
    """Return whether an EAP method takes a password: not with certificates or a card only."""
    if auth.method == "eap-tls" or auth.inner == "tls" or uses_card(auth.method):
        return False
    return auth.method != "eap" or auth.password is not None or (auth.certificate is None and not has_card(auth))
