"""A profile as a keyfile for NetworkManager's strongSwan plugin (`.nmconnection`)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from ikeclient.profile.exporters.parts import Parts, text_of, unable
from ikeclient.profile.model.methods import uses_certificate

_SPACE = uuid.UUID("6f6b2f3a-0c55-5f0e-9d5e-6a1b0f2f7f11")
_METHODS = {
    "psk": "psk",
    "certificate": "cert",
    "eap-tls": "eap-tls",
    **dict.fromkeys(("eap", "eap-mschapv2", "eap-md5", "eap-gtc"), "eap"),
}
_CARRIED = frozenset(
    {
        *("gateway.address", "gateway.port", "gateway.identity", "gateway.ca", "auth.method", "auth.identity"),
        *("auth.user", "auth.psk", "auth.password", "auth.certificate", "auth.key", "auth.key_passphrase"),
        *("crypto.ike", "crypto.esp", "network.request", "network.routes", "network.dns_servers"),
        *("network.dns_domains", "session.encapsulation"),
    }
)


def write_networkmanager(parts: Parts) -> bytes:
    """The text of the keyfile. Raises ProfileError for a method that the plugin does not have."""
    profile, auth, name = parts.profile, parts.profile.auth, parts.loaded.name
    if auth.method not in _METHODS:
        raise unable(auth.method, "NetworkManager's strongSwan plugin")
    vpn: dict[str, str] = {
        "service-type": "org.freedesktop.NetworkManager.strongswan",
        "address": parts.only_address(),
        "method": _METHODS[auth.method],
        "virtual": "yes" if {"ipv4", "ipv6"} & set(profile.network.request) else "no",
        "encap": "yes" if profile.session.encapsulation == "always" else "no",
        "ipcomp": "no",
        "proposal": "yes",
        "ike": ";".join(profile.crypto.ike),
        "esp": ";".join(profile.crypto.esp),
        "remote-identity": parts.gateway_identity,
        "password-flags": "0" if parts.include_secrets else "1",
    }
    if profile.gateway.port != 500:
        vpn["server-port"] = str(profile.gateway.port)
    _authority(parts, vpn)
    secret = _credentials(parts, vpn)
    sections: dict[str, Mapping[str, str]] = {
        "connection": {"id": name, "uuid": str(uuid.uuid5(_SPACE, f"{name}/networkmanager")), "type": "vpn"},
        "vpn": vpn,
    }
    if secret:
        sections["vpn-secrets"] = {"password": secret}
    sections |= _addresses(parts)
    parts.lost_others(_CARRIED)
    lines = [line for section, keys in sections.items() for line in _lines(section, keys)]
    return ("\n".join(lines) + "\n").encode()


def _authority(parts: Parts, vpn: dict[str, str]) -> None:
    names = parts.profile.gateway.ca or ()
    if names and parts.profile.auth.method != "psk":
        vpn["certificate"] = parts.path(names[0])
        if len(names) > 1:
            parts.lost("gateway.ca beyond the first file", "there is room for one")


def _credentials(parts: Parts, vpn: dict[str, str]) -> str | None:
    """Fill in who we are; returns the secret, if it goes along."""
    auth = parts.profile.auth
    if auth.method == "psk":
        vpn["user"] = auth.identity or ""
        return text_of(parts.psk(), "auth.psk", parts)
    if auth.identity:
        vpn["local-identity"] = auth.identity
    if uses_certificate(auth.method):
        if auth.key is not None and auth.key.pkcs11 is not None:
            vpn["cert-source"] = "smartcard"
            parts.lost("auth.key.pkcs11", "the plugin takes the first key of any token")
            return text_of(parts.pin(), "auth.key.pin", parts)
        if auth.key is not None and auth.key.agent is not None and auth.certificate is not None:
            vpn |= {"cert-source": "agent", "usercert": parts.path(auth.certificate.file)}
            return None
        if parts.is_bundle or auth.certificate is None or auth.key is None or auth.key.file is None:
            parts.lost("auth.certificate", "the plugin wants a certificate and a key in files of their own")
        else:
            vpn |= {"usercert": parts.path(auth.certificate.file), "userkey": parts.path(auth.key.file)}
        return text_of(parts.passphrase(), "auth.key_passphrase", parts)
    if auth.method != "eap":
        parts.lost(f"auth.method {auth.method}", "the plugin takes what the gateway asks for")
    vpn["user"] = parts.user or ""
    return text_of(parts.password(), "auth.password", parts)


def _addresses(parts: Parts) -> dict[str, Mapping[str, str]]:
    network = parts.profile.network
    routes = () if isinstance(network.routes, str) else network.routes
    if network.routes == "all":
        parts.lost('network.routes = "all"', "the plugin takes what the gateway grants, and blocks nothing")
    found: dict[str, Mapping[str, str]] = {}
    for family, version in (("ipv4", 4), ("ipv6", 6)):
        keys = {"method": "auto"}
        own = [route for route in routes if route.version == version]
        if routes:
            keys["never-default"] = "true"
        keys |= {f"route{number}": str(route) for number, route in enumerate(own, 1)}
        if servers := [str(server) for server in network.dns_servers if server.version == version]:
            keys["dns"] = ";".join(servers) + ";"
            keys["ignore-auto-dns"] = "true"
        if network.dns_domains and network.dns_servers and version == network.dns_servers[0].version:
            keys["dns-search"] = ";".join(network.dns_domains) + ";"
        found[family] = keys
    if network.dns_domains and not network.dns_servers:
        parts.lost("network.dns_domains", "they go with servers of their own there")
    return found


def _lines(section: str, keys: Mapping[str, str]) -> list[str]:
    return [f"[{section}]", *(f"{key}={_escaped(value)}" for key, value in keys.items() if value), ""]


def _escaped(value: str) -> str:
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    lead = len(text) - len(text.lstrip(" "))
    return "\\s" * lead + text[lead:]
