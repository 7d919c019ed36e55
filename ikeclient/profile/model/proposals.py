"""Proposal keywords to algorithms, in the notation of swanctl.conf.

One proposal is a list of keywords joined by hyphens. Several of one kind are alternatives in order of preference:
`aes256-aes128-sha256-modp2048-ecp256` offers four combinations. AEADs and other ciphers need proposals of their own,
because only the others take an integrity algorithm (RFC 7296 section 3.3). Nothing discouraged is in the defaults;
SHA-1 is used where a profile names it, and what is weaker than that cannot be named.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from ikeclient.crypto.algorithms.transforms import (
    ENCRYPTION,
    INTEGRITY,
    KEY_EXCHANGE,
    PRF,
    AlgorithmProposal,
    Encryption,
    Integrity,
    KeyExchange,
    Prf,
)
from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model.values import Fault, shown

# The first key exchange is the one tried first. Gateways that know only another one of the list answer with
# INVALID_KE_PAYLOAD and cost one more round trip.
_GROUPS = "ecp384-x25519-ecp256-ecp521-modp3072-modp2048-modp4096"
DEFAULT_IKE = (
    f"aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-prfsha512-{_GROUPS}",
    f"aes256-aes128-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-{_GROUPS}",
)
DEFAULT_ESP = ("aes256gcm16", "aes128gcm16", "chacha20poly1305", "aes256-aes128-sha256-sha512")

_AEAD_PRF = ("prfsha256", "prfsha384", "prfsha512")  # where an IKE proposal with an AEAD names none
_MAX_LENGTH = 1024

_ALIASES: dict[str, str] = {
    "aes": "aes128",
    "aes128gcm": "aes128gcm16",
    "aes256gcm": "aes256gcm16",
    "aes128gcm128": "aes128gcm16",
    "aes256gcm128": "aes256gcm16",
    "aes128ccm": "aes128ccm16",
    "aes256ccm": "aes256ccm16",
    "aes128ccm128": "aes128ccm16",
    "aes256ccm128": "aes256ccm16",
    "sha": "sha1",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "curve25519": "x25519",
    "curve448": "x448",
}
_FORBIDDEN = "RFC 8247 forbids it"
_DISCOURAGED = "RFC 8247 discourages it"
REFUSED: dict[str, str] = {
    "des": _FORBIDDEN,
    "null": _FORBIDDEN,
    "md5": _FORBIDDEN,
    "md5_128": _FORBIDDEN,
    "prfmd5": _FORBIDDEN,
    "modp768": _FORBIDDEN,
    "modp1024s160": _FORBIDDEN,
    "3des": _DISCOURAGED,
    "modp1024": _DISCOURAGED,
    "modp1536": _DISCOURAGED,
    "modp2048s224": _DISCOURAGED,
    "modp2048s256": _DISCOURAGED,
}
_NOT_IMPLEMENTED = re.compile(
    r"aes(128|192|256)?(gcm|ccm|ctr|gmac|xcbc|cmac)?(8|12|16|64|96|128)?|camellia\d*\w*|blowfish\d*|cast128|serpent\d*"
    r"|twofish\d*|sha1_160|sha256_96|prfaesxcbc|prfaescmac|prfcamelliaxcbc|ecp(192|224)|ecp\d+bp|modpnone|modpnull|none"
    r"|(ke[1-7]_)?(mlkem|frodo|bike|hqc)\w*|ke[1-7]_\w+|default"
)

_Kind = Literal["ike", "esp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    proposal: AlgorithmProposal
    esn: bool | None  # None where the proposal says neither or both


def parse_ike(text: str) -> AlgorithmProposal:
    """The proposal for an IKE SA that `text` writes; without a PRF it takes the one of its integrity algorithm's hash.

    Raises ProfileError naming the keyword that is wrong and the supported ones.
    """
    return _or_profile_error("ike", text).proposal


def parse_esp(text: str) -> AlgorithmProposal:
    """The proposal for a Child SA that `text` writes; key exchanges in it are for rekeying. Raises ProfileError."""
    return _or_profile_error("esp", text).proposal


def offers_esn(texts: Iterable[str]) -> bool:
    """Whether ESP proposals want extended sequence numbers: yes, unless they say `noesn`.

    With `esn` both are offered, extended ones first (RFC 7296 section 3.3.2). Raises ProfileError where proposals
    disagree, because the offer is one for all of them.
    """
    said = {_or_profile_error("esp", text).esn for text in texts}
    if said >= {True, False}:
        raise ProfileError("the ESP proposals disagree about esn and noesn", hint="write the same in all of them")
    return False not in said


def check(kind: _Kind, texts: Sequence[str]) -> None:
    """Raise Fault for the first proposal of a list that cannot be used."""
    for text in texts:
        try:
            _parse(kind, text)
        except Fault as fault:
            raise Fault(f"holds {shown(text)}, which {fault}", hint=fault.hint) from None
    if kind == "esp":
        try:
            offers_esn(texts)
        except ProfileError as error:
            raise Fault("has proposals that disagree about esn and noesn", hint=error.hint) from None


def supported(kind: _Kind) -> str:
    """The keywords that a proposal can be made of, as one line."""
    tables: list[tuple[str, Iterable[str]]] = [("encryption", ENCRYPTION), ("integrity", INTEGRITY)]
    if kind == "ike":
        tables.append(("PRF", PRF))
    tables.append(("key exchange", KEY_EXCHANGE))
    return "supported: " + "; ".join(f"{name} {' '.join(keywords)}" for name, keywords in tables)


def _or_profile_error(kind: _Kind, text: str) -> _Parsed:
    try:
        return _parse(kind, text)
    except Fault as fault:
        raise ProfileError(f"the proposal {shown(text)} {fault}", hint=fault.hint) from None


def _parse(kind: _Kind, text: str) -> _Parsed:
    keywords = _keywords(kind, text)
    encryption = tuple(ENCRYPTION[k] for k in keywords if k in ENCRYPTION)
    integrity = tuple(INTEGRITY[k] for k in keywords if k in INTEGRITY)
    prf = tuple(PRF[k] for k in keywords if k in PRF)
    key_exchange = tuple(KEY_EXCHANGE[k] for k in keywords if k in KEY_EXCHANGE)
    _check_ciphers(kind, encryption, integrity)
    if kind == "ike":
        _check_ike(keywords, key_exchange)
        prf = prf or _default_prf(integrity)
    elif prf:
        raise Fault(f"names {prf[0].keyword}, but a pseudorandom function belongs into crypto.ike only")
    esn, noesn = "esn" in keywords, "noesn" in keywords
    return _Parsed(
        proposal=AlgorithmProposal(encryption=encryption, integrity=integrity, prf=prf, key_exchange=key_exchange),
        esn=None if esn == noesn else esn,
    )


def _keywords(kind: _Kind, text: str) -> list[str]:
    if "," in text:
        raise Fault("holds a comma", hint="write each proposal as an item of its own in the list")
    if len(text) > _MAX_LENGTH:
        raise Fault(f"has more than {_MAX_LENGTH} characters")
    if not text.strip():
        raise Fault("is empty", hint=supported(kind))
    written = [keyword.strip() for keyword in text.lower().split("-")]
    keywords = list(dict.fromkeys(_ALIASES.get(keyword, keyword) for keyword in written))
    for keyword in keywords:
        if not any(keyword in table for table in (ENCRYPTION, INTEGRITY, PRF, KEY_EXCHANGE, ("esn", "noesn"))):
            raise _unusable(kind, keyword)
    return keywords


def _unusable(kind: _Kind, keyword: str) -> Fault:
    if keyword in REFUSED:
        return Fault(f"names {keyword}: known, but not supported because {REFUSED[keyword]}", hint=supported(kind))
    if _NOT_IMPLEMENTED.fullmatch(keyword):
        return Fault(f"names {keyword}: known, but not supported by this version", hint=supported(kind))
    known = [*ENCRYPTION, *INTEGRITY, *PRF, *KEY_EXCHANGE, *_ALIASES]
    near = difflib.get_close_matches(keyword, known, n=1, cutoff=0.75)
    guess = f"did you mean {near[0]}? " if near else ""
    return Fault(f"names {shown(keyword)}, which is no known algorithm", hint=guess + supported(kind))


def _check_ciphers(kind: _Kind, encryption: Sequence[Encryption], integrity: Sequence[Integrity]) -> None:
    if not encryption:
        raise Fault("names no encryption algorithm", hint=f"supported: {' '.join(ENCRYPTION)}")
    aeads = [e.keyword for e in encryption if e.aead]
    others = [e.keyword for e in encryption if not e.aead]
    if aeads and others:
        hint = "an AEAD and a cipher that needs an integrity algorithm go into separate proposals"
        raise Fault(f"mixes {aeads[0]} with {others[0]}", hint=hint)
    if aeads and integrity:
        hint = f"{aeads[0]} authenticates by itself: leave {integrity[0].keyword} out"
        hint += f", or write prf{integrity[0].keyword} if the PRF was meant" if kind == "ike" else ""
        raise Fault(f"combines {aeads[0]} with {integrity[0].keyword}", hint=hint)
    if others and not integrity:
        raise Fault(f"names {others[0]} without an integrity algorithm", hint=f"supported: {' '.join(INTEGRITY)}")


def _check_ike(keywords: Sequence[str], key_exchange: Sequence[KeyExchange]) -> None:
    if not key_exchange:
        raise Fault("names no key exchange", hint=f"supported: {' '.join(KEY_EXCHANGE)}")
    for keyword in ("esn", "noesn"):
        if keyword in keywords:
            raise Fault(f"names {keyword}, but sequence numbers belong into crypto.esp")


def _default_prf(integrity: Sequence[Integrity]) -> tuple[Prf, ...]:
    return tuple(PRF[f"prf{i.keyword}"] for i in integrity) or tuple(PRF[keyword] for keyword in _AEAD_PRF)
