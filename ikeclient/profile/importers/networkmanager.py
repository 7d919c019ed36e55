"""NetworkManager's keyfiles for its strongSwan and libreswan plugins, and for ours (`.nmconnection`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.sign.encodings import ssh_blob
from ikeclient.errors import ProfileError, SignatureError
from ikeclient.profile.importers.draft import SECRETS, Ask, Draft
from ikeclient.profile.importers.ipsec import draft_settings
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.importers.swanctl import ANY_EAP, decode_text, routes
from ikeclient.profile.load.connection import profile_of_connection
from ikeclient.signer.agent import fingerprint
from ikeclient.wire.text import printable

MAX_LINES = 2000
_SERVICE = "org.freedesktop.NetworkManager."
_ESCAPE = re.compile(r"\\([snrt\\])")
_ESCAPED = {"s": " ", "n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
_ELSEWHERE = ("agent", "smartcard")  # where the key may be
_METHODS = {"eap": "eap", "psk": "psk", "key": "certificate", "cert": "certificate", "eap-tls": "eap-tls"}
_KNOWN = {
    *("address", "certificate", "method", "usercert", "userkey", "user", "virtual", "encap", "ipcomp", "proposal"),
    *("ike", "esp", "remote-identity", "local-identity", "server-port", "service-type", "cert-source", "remote-ts"),
    *("password-flags", "password", "gateway"),
}
Sections = dict[str, dict[str, str]]


def read_sections(text: str) -> Sections:
    """The sections of a keyfile; raises ProfileError."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ProfileError(f"this has more than {MAX_LINES} lines")
    sections: Sections = {}
    current: dict[str, str] | None = None
    for number, line in enumerate(lines, 1):
        plain = line.strip()
        if not plain or plain[0] in "#;":
            continue
        if plain[0] == "[" and plain[-1] == "]":
            current = sections.setdefault(plain[1:-1], {})
            continue
        key, separator, value = plain.partition("=")
        if not separator or current is None:
            raise ProfileError(f"line {number} is not understood")
        current[key.strip()] = value.strip()
    return sections


def _value(written: str) -> str:
    """GLib's escapes, as they are in keyfiles."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], written)


def read_networkmanager(
    data: bytes, connection: str | None, fallback: str, place: Neighbours, ask: Ask | None = None
) -> Draft:
    """The connection in the file. Raises ProfileError."""
    sections = {
        name: {k: _value(v) for k, v in part.items()} for name, part in read_sections(decode_text(data)).items()
    }
    vpn = sections.get("vpn", {})
    name = sections.get("connection", {}).get("id") or fallback
    if connection not in (None, name):
        raise ProfileError("there is no connection of that name in it", reason=f"it holds {printable(name, 60)}")
    service = vpn.get("service-type", "").removeprefix(_SERVICE)
    secrets = sections.get("vpn-secrets", {})
    if service == "libreswan":
        draft = _libreswan(name, vpn, secrets, place, ask)
    elif service == "strongswan":
        draft = _strongswan(name, vpn, secrets, place)
    elif service == "ikeclient":
        draft = _own(name, vpn, secrets)
    else:
        raise ProfileError(
            f"this connection is of NetworkManager's plugin {printable(service, 40) or '?'}, which is no IKEv2",
            hint="ikeclient speaks IKEv2: the plugins strongswan, libreswan and ikeclient are read",
        )
    _addresses(sections, draft)
    if sections.get("proxy", {}).get("method", "none") not in ("none", "0"):
        draft.lost(["proxy"], "proxies are set in programs, not by the tunnel")
    return draft


def _own(name: str, vpn: Mapping[str, str], secrets: Mapping[str, str]) -> Draft:
    """A connection of our own plugin: its data are keys of a profile, which have a dot."""
    draft = Draft(name)
    profile = profile_of_connection({key: value for key, value in vpn.items() if "." in key}, "it")
    plain = profile.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    for section in draft.tables.keys() & plain.keys():
        draft.tables[section].update(plain[section])
    for written, secret in secrets.items():
        section, _, key = written.partition(".")
        if section not in draft.tables or key not in SECRETS:
            draft.lost([written])
            continue
        suffix = key if section == "auth" else f"{section.replace('_', '-')}-{key}"
        draft.attach(section, key, suffix, secret.encode("utf-8", "surrogateescape"), f"the secret {written}")
    return draft


def _strongswan(name: str, vpn: Mapping[str, str], secrets: Mapping[str, str], place: Neighbours) -> Draft:
    draft = Draft(name)
    written = vpn.get("method", "")
    elsewhere = written if written in _ELSEWHERE else vpn.get("cert-source", "")
    written = "cert" if written in _ELSEWHERE else written
    if written not in _METHODS:
        raise ProfileError(
            f"the method {printable(written, 40)!a} is not known", reason=f"known are {', '.join(_METHODS)}"
        )
    method = _METHODS[written]
    draft.set("auth", "method", method)
    draft.set("gateway", "address", vpn.get("address", ""))
    if port := vpn.get("server-port"):
        draft.set("gateway", "port", int(port) if port.isascii() and port.isdigit() and len(port) < 6 else None)
    if method != "psk":
        draft.set("gateway", "ca", [vpn["certificate"]] if vpn.get("certificate") else None)
    draft.identity("gateway", vpn.get("remote-identity"))
    user, password = vpn.get("user"), secrets.get("password") or vpn.get("password")
    secret = None if password is None else password.encode("utf-8", "surrogateescape")
    draft.identity("auth", vpn.get("local-identity") or (user if method == "psk" else None))
    if method == "psk":
        draft.psk(secret)
    elif method == "eap":
        draft.set("auth", "user", user)
        draft.password(secret)
        draft.warn(ANY_EAP)
    else:
        _own_key(vpn, elsewhere, secret, draft, place)
    if vpn.get("virtual") != "yes":
        draft.set("network", "request", [])
    if vpn.get("encap") == "yes":
        draft.set("session", "encapsulation", "always")
    if vpn.get("proposal") == "yes":
        draft.proposals("ike", [text for text in re.split(r"[;,]", vpn.get("ike", "")) if text.strip()])
        draft.proposals("esp", [text for text in re.split(r"[;,]", vpn.get("esp", "")) if text.strip()])
    if vpn.get("remote-ts"):
        routes([text for text in re.split(r"[;,]", vpn["remote-ts"]) if text.strip()], "remote-ts", draft)
    draft.lost(sorted(vpn.keys() - _KNOWN))
    return draft


def _ssh_fingerprint(data: bytes) -> str | None:
    """What `ssh-add -l` shows of the key of a certificate; None if it is none that ssh has."""
    try:
        (certificate, *_) = Certificate.load_many(data)
        return fingerprint(ssh_blob(certificate.public_key.spki))
    except (ProfileError, SignatureError):
        return None


def _own_key(vpn: Mapping[str, str], elsewhere: str, secret: bytes | None, draft: Draft, place: Neighbours) -> None:
    """Our certificate, and our key: in a file, on a token (any that is there), or with ssh-agent."""
    certificate = vpn.get("usercert") or None
    if elsewhere == "smartcard":
        draft.token("auth", "pkcs11:type=private", None, secret)
        draft.warn("the key is on a card, and the file does not say which: auth.key.pkcs11 can name token and object")
        return
    draft.set("auth", "certificate", certificate)
    if elsewhere != "agent":
        draft.set("auth", "key", vpn.get("userkey") or None)
        draft.passphrase(secret)
        return
    data = place.read(certificate) if certificate else None
    if data is not None and (found := _ssh_fingerprint(data)) is not None:
        draft.set("auth", "key", {"agent": found})
    else:
        draft.warn(
            'our key is with ssh-agent: set auth.key = { agent = "SHA256:..." }, as `ssh-add -l` shows the key of '
            f"{printable(certificate or 'our certificate', 80)}"
        )


def _libreswan(
    name: str, vpn: Mapping[str, str], secrets: Mapping[str, str], place: Neighbours, ask: Ask | None
) -> Draft:
    if vpn.get("ikev2", "no") in ("no", "never", "permit"):
        raise ProfileError("this connection is for IKEv1", hint="ikeclient speaks IKEv2")
    settings = {key.lower(): value for key, value in vpn.items() if not key.startswith(("service-type", "password-"))}
    settings.setdefault("left", "%defaultroute")
    settings.setdefault("leftmodecfgclient", "yes")
    settings.pop("vendor", None)
    if vpn.get("leftxauthusername") or vpn.get("leftusername"):
        settings.setdefault("authby", "secret")
    key = secrets.get("pskvalue")
    text = f': PSK "{key}"' if key and '"' not in key else ""
    for each in (
        "pskvalue",
        "pskinputmodes",
        "xauthpasswordinputmodes",
        "xauthpassword",
        "user-name",
        "ipsec-interface",
    ):
        settings.pop(each, None)
    return draft_settings(name, settings, place, ask, secrets=text)


def _addresses(sections: Mapping[str, Mapping[str, str]], draft: Draft) -> None:
    """Routes and name servers; without `never-default` the gateway decides what goes through."""
    networks: list[str] = []
    servers: list[str] = []
    domains: list[str] = []
    for family in ("ipv4", "ipv6"):
        part = sections.get(family, {})
        for key, value in part.items():
            if re.fullmatch(r"(routes?|addresses?)\d*", key) and key.startswith("route"):
                networks += networks_of(value.split(",")[0].strip())
        own = [item.strip() for item in part.get("dns", "").replace(";", ",").split(",") if item.strip()]
        servers += [item for item in own if networks_of(item) and "/" not in item]
        domains += [item.strip().lstrip("~") for item in part.get("dns-search", "").replace(";", ",").split(",")]
    if networks and "routes" not in draft.tables["network"]:
        draft.set("network", "routes", list(dict.fromkeys(networks)))
    domains = [domain for domain in domains if domain]
    draft.dns(servers, domains if servers else [])
    if domains and not servers:
        draft.lost(["dns-search"], "it goes with name servers of its own here")
