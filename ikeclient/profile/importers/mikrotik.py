"""Exports of MikroTik's RouterOS that describe an IKEv2 client (`/ip ipsec`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.importers.swanctl import choose, decode_text, listed
from ikeclient.profile.model.methods import uses_certificate
from ikeclient.wire.text import printable

MAX_LINES = 20_000
_PATH = re.compile(r"/ip[ /]+ipsec(?:[ /]+([a-z-]+(?: group)?))?")
_PAIR = re.compile(r'(?<![A-Za-z0-9-])([A-Za-z0-9-]+)=("(?:[^"\\]|\\.)*"|[^\s"]*)')
_METHODS = {
    "pre-shared-key": "psk",
    "digital-signature": "certificate",
    "eap": "eap",
}
_EAP = {"eap-mschapv2": "eap-mschapv2", "eap-tls": "eap-tls", "eap-peap": "eap-peap", "eap-ttls": "eap-ttls"}
_CIPHERS = {"aes-128": "aes128", "aes-192": "aes192", "aes-256": "aes256", "3des": "3des", "des": "des"}
_Entry = dict[str, str]


def read_mikrotik(data: bytes, connection: str | None, fallback: str) -> Draft:
    """The one peer of IKEv2 in the export, or the one called `connection`. Raises ProfileError."""
    found = _entries(decode_text(data))
    peers = {entry.get("name", f"peer{number}"): entry for number, entry in enumerate(found.get("peer", []), 1)}
    clients = [
        name
        for name, entry in peers.items()
        if entry.get("exchange-mode") == "ike2" and entry.get("address") and entry.get("passive") != "yes"
    ]
    if peers and not clients:
        raise ProfileError(
            "there is no IKEv2 client in this export", reason="no peer has exchange-mode=ike2 and an address"
        )
    name = choose(list(peers), clients, connection)
    peer = peers[name]
    draft = Draft(name or fallback)
    address = peer.get("address", "").partition("/")[0]
    draft.set("gateway", "address", address)
    draft.set("gateway", "port", int(peer["port"]) if peer.get("port", "").isdigit() else None)
    identity = next((each for each in found.get("identity", []) if each.get("peer", name) == name), {})
    _authentication(identity, draft)
    _profile(_named(found, "profile", peer.get("profile", "default")), draft)
    proposal = "default"
    policies = [each for each in found.get("policy", []) if each.get("peer") == name and each.get("template") != "yes"]
    if policies:
        proposal = policies[0].get("proposal", proposal)
        networks = [n for each in policies for n in networks_of(each.get("dst-address", "")) if n not in ("0.0.0.0/0",)]
        draft.set("network", "routes", networks or None)
    _proposal(_named(found, "proposal", proposal), draft)
    if "mode-config" not in identity:
        draft.set("network", "request", [])
    return draft


def _entries(text: str) -> dict[str, list[_Entry]]:
    """What is added or set below each path of `/ip ipsec`."""
    text = re.sub(r"\\\r?\n[ \t]*", "", text)
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ProfileError(f"this has more than {MAX_LINES} lines")
    found: dict[str, list[_Entry]] = {}
    path: str | None = None
    for line in lines:
        plain = line.strip()
        if plain.startswith("/"):
            match = _PATH.match(plain)
            path = match[1] if match else None
            plain = plain[match.end() :].strip() if match else ""
        if path is None or not plain.startswith(("add ", "set ")):
            continue
        entry = {key.lower(): _value(value) for key, value in _PAIR.findall(plain)}
        if plain.startswith("set ") and "default" in plain:
            entry.setdefault("name", "default")
        found.setdefault(path, []).append(entry)
    return found


def _value(written: str) -> str:
    if written.startswith('"'):
        return re.sub(r"\\(.)", r"\1", written[1:-1])
    return written


def _named(found: Mapping[str, list[_Entry]], kind: str, name: str) -> _Entry:
    return next((each for each in found.get(kind, []) if each.get("name") == name), {})


def _authentication(identity: _Entry, draft: Draft) -> None:
    written = identity.get("auth-method", "pre-shared-key")
    if written not in _METHODS:
        raise ProfileError(f"the authentication {printable(written, 40)} is not supported")
    method = _METHODS[written]
    if method == "eap":
        wanted = [_EAP[each] for each in listed(identity.get("eap-methods")) if each in _EAP]
        method = wanted[0] if len(wanted) == 1 else "eap"
    draft.set("auth", "method", method)
    draft.identity("gateway", _identity(identity.get("remote-id", "auto")))
    draft.identity("auth", _identity(identity.get("my-id", "auto")))
    if method == "psk":
        draft.psk(identity["secret"].encode() if identity.get("secret") else None)
    elif uses_certificate(method):
        named = printable(identity.get("certificate", "?"), 60)
        draft.warn(f"our certificate {named} is in the router: export it and give --p12 FILE (auth.certificate)")
    else:
        draft.set("auth", "user", identity.get("username"))
        draft.password(identity["password"].encode() if identity.get("password") else None)
    if method != "psk":
        draft.risk(
            "gateway.ca is not set, so all public authorities are trusted: RouterOS has the authority in a store of "
            "its own; name it, or give --ca FILE"
        )


def _identity(written: str) -> str | None:
    """`fqdn:name`, `user-fqdn:name`, `address:...`, `key-id:...`, `dn:...`; `auto` and `ignore` name none."""
    kind, separator, rest = written.partition(":")
    if not separator:
        return None if written in ("auto", "ignore") else written
    prefixes = {"user-fqdn": "email:", "fqdn": "fqdn:", "key-id": "keyid:", "dn": "", "address": ""}
    return prefixes.get(kind, f"{kind}:") + rest


def _profile(profile: _Entry, draft: Draft) -> None:
    if not profile.keys() & {"enc-algorithm", "hash-algorithm", "dh-group"}:
        return  # nothing was chosen
    ciphers = [_CIPHERS.get(each, each) for each in listed(profile.get("enc-algorithm", "aes-128"))]
    groups = listed(profile.get("dh-group", "modp2048"))
    draft.proposals("ike", ["-".join([*ciphers, profile.get("hash-algorithm", "sha1"), *groups])])


def _proposal(proposal: _Entry, draft: Draft) -> None:
    if not proposal.keys() & {"enc-algorithms", "auth-algorithms"}:
        return
    ciphers = listed(proposal.get("enc-algorithms", "aes-256-cbc"))
    names = [
        re.sub(r"aes-(\d+)-(cbc|gcm)", lambda m: f"aes{m[1]}{m[2] if m[2] == 'gcm' else ''}", each) for each in ciphers
    ]
    hashes = listed(proposal.get("auth-algorithms", "sha1"))
    group = proposal.get("pfs-group", "modp1024")
    draft.proposals(
        "esp", ["-".join([*names, *(each for each in hashes if each), *([] if group == "none" else [group])])]
    )
