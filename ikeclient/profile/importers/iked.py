"""Connections of OpenBSD's iked.conf that a client makes."""

from __future__ import annotations

import re

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.swanctl import choose, decode_text, routes
from ikeclient.wire.text import printable

MAX_WORDS = 10_000
_WORD = re.compile(r"""["'](.*?)(?<!\\)["']|([{},])|([^\s"'{},]+)""")
_MACRO = re.compile(r'^[ \t]*([A-Za-z_]\w*)[ \t]*=[ \t]*"?([^"\n]*)"?[ \t]*$', re.MULTILINE)
_ALGORITHMS = {"enc", "auth", "prf", "group", "childsa", "ikesa", "noesn", "esn"}
_NAMES = {
    "aes-128": "aes128",
    "aes-192": "aes192",
    "aes-256": "aes256",
    "aes-128-gcm": "aes128gcm16",
    "aes-256-gcm": "aes256gcm16",
    "chacha20-poly1305": "chacha20poly1305",
    "hmac-sha1": "sha1",
    "hmac-sha2-256": "sha256",
    "hmac-sha2-384": "sha384",
    "hmac-sha2-512": "sha512",
    "curve25519": "x25519",
}
_Word = tuple[str, bool]  # and whether it was in quotes


def read_iked(data: bytes, connection: str | None, fallback: str) -> Draft:
    """The one active policy in the file, or the one called `connection`. Raises ProfileError."""
    text = re.sub(r"\\\n", " ", decode_text(data))
    text = "\n".join(_without_comment(line) for line in text.splitlines())
    macros = dict(_MACRO.findall(text))
    policies: dict[str, list[_Word]] = {}
    for number, part in enumerate(re.split(r"^[ \t]*ikev2\b", text, flags=re.MULTILINE)[1:], 1):
        words = _words(part, macros)
        name = words[0][0] if words and words[0][1] else f"policy{number}"
        policies[name] = words
    name = choose(list(policies), [each for each, words in policies.items() if ("active", False) in words], connection)
    words = policies[name]
    if ("active", False) not in words:
        raise ProfileError("this policy waits for others", reason="it is not active")
    return _policy(words, Draft(name or fallback))


def _without_comment(line: str) -> str:
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "#":
            return line[:position]
    return line


def _words(text: str, macros: dict[str, str]) -> list[_Word]:
    found: list[_Word] = []
    for match in _WORD.finditer(text):
        if match[1] is not None:
            found.append((re.sub(r"\\(.)", r"\1", match[1]), True))
            continue
        word = match[2] or match[3]
        found.append((macros.get(word[1:], word) if word.startswith("$") else word, False))
        if len(found) > MAX_WORDS:
            raise ProfileError("this policy is too long")
    return found


def _after(words: list[_Word], key: str) -> str | None:
    """The word behind a keyword."""
    return next((words[i + 1][0] for i, word in enumerate(words[:-1]) if word == (key, False)), None)


def _policy(words: list[_Word], draft: Draft) -> Draft:
    plain = [word for word, quoted in words if not quoted]
    if "eap" in plain:
        raise ProfileError("this policy asks others for EAP", reason="OpenIKED is a client with a PSK or a certificate")
    draft.set("auth", "method", "psk" if "psk" in plain else "certificate")
    address = _after(words, "peer")
    if address in (None, "any"):
        raise ProfileError("this policy waits for others", reason="it names no peer")
    draft.set("gateway", "address", address)
    _identities(words, draft)
    if draft.method == "psk":
        secret = _after(words, "psk")
        draft.psk(secret.encode() if secret else None)
    else:
        draft.warn("our certificate is in /etc/iked: set auth.certificate and auth.key, or give --p12 FILE")
        draft.risk(
            "gateway.ca is not set, so all public authorities are trusted: iked trusts the certificates in "
            "/etc/iked/ca; name the right one, or give --ca FILE"
        )
    networks = [words[i + 1][0] for i, word in enumerate(words[:-1]) if word == ("to", False)]
    if "any" in networks:
        draft.set("network", "routes", "all")
    else:
        routes([network for network in networks if network != "dynamic"] or ["dynamic"], "to", draft)
    if "request" not in plain:
        draft.set("network", "request", [])
    for section, kind in (("ikesa", "ike"), ("childsa", "esp")):
        if texts := _proposals(words, section):
            draft.proposals("ike" if kind == "ike" else "esp", texts)
    if "transport" in plain:
        draft.warn("mode transport is not possible here: tunnel mode is asked for")
    return draft


def _identities(words: list[_Word], draft: Draft) -> None:
    for key, section in (("dstid", "gateway"), ("srcid", "auth")):
        written = _after(words, key)
        if written is not None:
            draft.identity("gateway" if section == "gateway" else "auth", written)
    if _after(words, "dstid") is None:
        draft.any_gateway("the policy has no dstid, which means any to iked")
    if _after(words, "srcid") is None:
        draft.warn("the policy has no srcid: iked sends the machine's name; set auth.identity")


def _proposals(words: list[_Word], section: str) -> list[str]:
    """The algorithms behind each `ikesa` or `childsa`."""
    found: list[str] = []
    current: list[str] | None = None
    previous = ""
    for word, quoted in words:
        if word in ("ikesa", "childsa") and not quoted:
            if current:
                found.append("-".join(current))
            current = [] if word == section else None
        elif current is not None and word in _ALGORITHMS and not quoted:
            if word in ("esn", "noesn"):
                current.append(word)
        elif current is not None and previous in _ALGORITHMS:
            current.append(("prf" if previous == "prf" else "") + _NAMES.get(word, printable(word, 40)))
        elif current is not None and word not in _ALGORITHMS:
            found.append("-".join(current))
            current = None
        previous = word
    if current:
        found.append("-".join(current))
    return [text for text in found if text]
