"""Proposals of other programs, in their keywords, as ours.

A proposal keeps the keywords that can be run and names the others. strongSwan's notation is ours with more aliases.
libreswan writes `aes_gcm256-sha2_256;dh19`, joins alternatives with `+`, takes the integrity algorithm of an AEAD for
the PRF, and fills in what a proposal does not name. AEADs and other ciphers are put into proposals of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.model import proposals
from ikeclient.profile.model.values import Fault
from ikeclient.wire.text import printable

MAX_KEYWORDS = 64


class Dialect(StrEnum):
    """Whose keywords they are."""

    STRONGSWAN = "strongswan"
    LIBRESWAN = "libreswan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Proposals in our keywords, the keywords that were left out, and, if nothing is usable, the reason."""

    usable: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    why: str = ""
    post_quantum: bool = False


GROUPS: dict[int, str] = {
    1: "modp768",
    2: "modp1024",
    5: "modp1536",
    14: "modp2048",
    15: "modp3072",
    16: "modp4096",
    17: "modp6144",
    18: "modp8192",
    19: "ecp256",
    20: "ecp384",
    21: "ecp521",
    22: "modp1024s160",
    23: "modp2048s224",
    24: "modp2048s256",
    25: "ecp192",
    26: "ecp224",
    31: "x25519",
    32: "x448",
}
# Keywords without their underscores and hyphens.
_NAMES: dict[str, tuple[str, ...]] = {
    "aes": ("aes128",),
    "aescbc": ("aes128",),
    "aesgcm": ("aes128gcm16",),
    "sha": ("sha1",),
    "sha2": ("sha256",),
    "chacha20": ("chacha20poly1305",),
    "curve25519": ("x25519",),
    "curve448": ("x448",),
    "prfsha": ("prfsha1",),
    "prfsha2": ("prfsha256",),
}
_LIBRESWAN_NAMES: dict[str, tuple[str, ...]] = {
    "aes": ("aes256", "aes128"),
    "aescbc": ("aes256", "aes128"),
    "aesgcm": ("aes256gcm16", "aes128gcm16"),
    "aesgcmc": ("aes256gcm16", "aes128gcm16"),
    "aesccm": ("aes256ccm16", "aes128ccm16"),
    "aesccmc": ("aes256ccm16", "aes128ccm16"),
}
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"aes(?:cbc)?(128|192|256)"), r"aes\1"),
    (re.compile(r"aes(128|192|256)(gcm|ccm)(?:16|128)?"), r"aes\1\g<2>16"),
    (re.compile(r"aes(gcm|ccm)c?(?:16)?(128|192|256)"), r"aes\2\g<1>16"),
    (re.compile(r"aes(gcm|ccm)(128|192|256)c?(?:16)?"), r"aes\2\g<1>16"),
    (re.compile(r"sha2?(256|384|512)"), r"sha\1"),
    (re.compile(r"(?:hmac)?sha2(256|384|512)(?:128|192|256)?"), r"sha\1"),
    (re.compile(r"prfsha2?(256|384|512)"), r"prfsha\1"),
    (re.compile(r"chacha20poly1305"), r"chacha20poly1305"),
    (re.compile(r"ecp(256|384|521)"), r"ecp\1"),
)
_POST_QUANTUM = re.compile(r"(ke[1-7])?(mlkem|kyber|frodo|bike|hqc|s?ntru|saber)\w*")
_NOTHING = {"null", "none", "modpnone", "ke1none", "prfnull"}
_LIBRESWAN_INTEGRITY = ("sha512", "sha256")
_LIBRESWAN_GROUPS = ("modp2048", "modp3072", "modp4096", "modp8192", "ecp256", "ecp384", "ecp521", "x25519")


def read_proposals(kind: Literal["ike", "esp"], text: str, dialect: Dialect) -> Found:
    """What one proposal of a list means; at most two of ours, one for AEADs and one for other ciphers."""
    words = [word for word in re.split(r"[-;+!\s]+", text.strip().lower()) if word][:MAX_KEYWORDS]
    known: list[str] = []
    left_out: list[str] = []
    for word in words:
        meant = _meant(word, dialect)
        if meant is None:
            left_out.append(printable(word, 40))
        known += meant or ()
    return _assemble(kind, list(dict.fromkeys(known)), tuple(dict.fromkeys(left_out)), dialect)


def _meant(word: str, dialect: Dialect) -> tuple[str, ...] | None:
    """Our keywords for one of theirs; empty for one that names no algorithm, None for one that we cannot run."""
    plain = word.replace("_", "")
    names = {**_NAMES, **_LIBRESWAN_NAMES} if dialect is Dialect.LIBRESWAN else _NAMES
    if plain in _NOTHING:
        return ()
    if word in ("esn", "noesn"):
        return (word,)
    if group := re.fullmatch(r"(?:dh|group)(\d{1,2})", plain):
        candidates: tuple[str, ...] = (GROUPS.get(int(group[1]), "?"),)
    elif plain in names:
        candidates = names[plain]
    else:
        candidates = (next((p.sub(to, plain) for p, to in _SHAPES if p.fullmatch(plain)), plain),)
    tables = (ENCRYPTION, INTEGRITY, PRF, KEY_EXCHANGE)
    usable = tuple(each for each in candidates if any(each in table for table in tables))
    return usable or None


def _assemble(kind: Literal["ike", "esp"], known: Sequence[str], left_out: tuple[str, ...], dialect: Dialect) -> Found:
    ciphers = [ENCRYPTION[word] for word in known if word in ENCRYPTION]
    hashes = [word for word in known if word in INTEGRITY]
    prfs = [word for word in known if word in PRF]
    groups = [word for word in known if word in KEY_EXCHANGE]
    esn = [word for word in known if word in ("esn", "noesn")] if kind == "esp" else []
    if dialect is Dialect.LIBRESWAN and kind == "ike" and not groups:
        groups = list(_LIBRESWAN_GROUPS)
    post_quantum = any(_POST_QUANTUM.fullmatch(word.replace("_", "")) for word in left_out)
    usable: list[str] = []
    why = _lacking(left_out, "an encryption algorithm") if not ciphers else ""
    for aead in (True, False):
        chosen = [cipher.keyword for cipher in ciphers if cipher.aead is aead]
        if not chosen:
            continue
        integrity: list[str] = []
        prf = list(prfs)
        if aead:  # whose integrity algorithm, if one is named, is for the PRF
            prf = prf or [f"prf{word}" for word in hashes]
        else:
            integrity = hashes or (list(_LIBRESWAN_INTEGRITY) if dialect is Dialect.LIBRESWAN else [])
        words = [*chosen, *integrity, *(prf if kind == "ike" else ()), *groups, *esn]
        text = "-".join(_without_repetition(words))
        try:
            proposals.check(kind, [text])
        except (Fault, ValueError) as fault:
            why = _lacking(left_out, str(fault).rpartition(", which ")[2])
        else:
            usable.append(text)
    return Found(usable=tuple(usable), left_out=left_out, why=why, post_quantum=post_quantum)


def _lacking(left_out: Iterable[str], what: str) -> str:
    names = ", ".join(left_out)
    return f"{names} cannot be run here" if names else f"it lacks {what}" if what.startswith("an ") else f"it {what}"


def _without_repetition(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
