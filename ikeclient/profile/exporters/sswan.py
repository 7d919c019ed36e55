"""A profile for strongSwan's Android app (`.sswan`)."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from ikeclient.profile.exporters.parts import Parts, text_of, unable

_PASSWORDS = ("eap", "eap-mschapv2", "eap-md5", "eap-gtc", "eap-peap", "eap-ttls")
_TYPES = {
    "certificate": "ikev2-cert",
    "eap-tls": "ikev2-eap-tls",
    **dict.fromkeys(_PASSWORDS, "ikev2-eap"),
}
_SPACE = uuid.UUID("6f6b2f3a-0c55-5f0e-9d5e-6a1b0f2f7f11")
_CARRIED = frozenset(
    {
        *("gateway.address", "gateway.port", "gateway.identity", "gateway.ca", "gateway.revocation"),
        *("auth.method", "auth.identity", "auth.user", "auth.password", "auth.certificate", "auth.key"),
        *("auth.key_passphrase", "crypto.ike", "crypto.esp", "network.routes", "network.exclude", "network.mtu"),
        *("network.dns_servers", "second_auth.method", "second_auth.user", "second_auth.password"),
    }
)


def write_sswan(parts: Parts) -> bytes:
    """The JSON of the profile. Raises ProfileError for PSK, which the app does not have."""
    profile, auth = parts.profile, parts.profile.auth
    if auth.method not in _TYPES:
        raise unable(auth.method, "a .sswan: strongSwan's Android app has no such method")
    two = profile.second_auth is not None
    if two and not (auth.method == "certificate" and parts.second.auth.method in _PASSWORDS):
        raise unable(
            f"{auth.method} followed by {parts.second.auth.method}",
            "a .sswan: strongSwan's Android app knows a certificate and then a password",
        )
    remote: dict[str, Any] = {"addr": parts.only_address(), "id": parts.gateway_identity}
    if profile.gateway.port != 500:
        remote["port"] = profile.gateway.port
    if profile.gateway.revocation == "strict":
        remote["revocation"] = {"strict": True}
    elif profile.gateway.revocation != "relaxed":
        parts.lost(f"gateway.revocation {profile.gateway.revocation}", "the app knows relaxed and strict")
    authorities = parts.authorities()
    if authorities:
        remote["cert"] = base64.b64encode(authorities[0].der).decode()
    if len(authorities) > 1:
        parts.lost("gateway.ca beyond the first certificate", "there is room for one")
    document: dict[str, Any] = {
        "uuid": str(uuid.uuid5(_SPACE, f"{parts.loaded.name}/sswan")),
        "name": parts.loaded.name,
        "type": "ikev2-cert-eap" if two else _TYPES[auth.method],
        "remote": remote,
        "local": _local(parts),
    }
    for key, field, texts in (
        ("ike-proposal", "ike", profile.crypto.ike),
        ("esp-proposal", "esp", profile.crypto.esp),
    ):
        if field in profile.crypto.model_fields_set:
            document[key] = ",".join(texts)
    if profile.network.mtu:
        document["mtu"] = profile.network.mtu
    if profile.network.dns_servers:
        document["dns-servers"] = " ".join(str(server) for server in profile.network.dns_servers)
    document |= _split(parts)
    parts.lost_others(_CARRIED)
    return json.dumps(document, indent=2).encode() + b"\n"


def _local(parts: Parts) -> dict[str, Any]:
    auth = parts.auth
    local: dict[str, Any] = {"id": auth.identity} if auth.identity else {}
    if _TYPES[auth.method] == "ikev2-eap":
        local |= _account(parts)
    elif bundle := parts.pkcs12():
        local["p12"] = base64.b64encode(bundle[0]).decode()
        if bundle[1] is not None:
            parts.lost("auth.key_passphrase", "the app asks for it")
    if parts.profile.second_auth is not None:
        local |= _account(parts.second)
    return local


def _account(parts: Parts) -> dict[str, Any]:
    auth, section = parts.auth, parts.section
    account: dict[str, Any] = {"eap_id": parts.user} if parts.user else {}
    if auth.method != "eap":
        parts.lost(f"{section}.method {auth.method}", "the app takes what the gateway asks for")
    if password := text_of(parts.password(), f"{section}.password", parts):
        account["shared_secret"] = password
    return account


def _split(parts: Parts) -> dict[str, Any]:
    network = parts.profile.network
    split: dict[str, Any] = {}
    if network.routes == "all":
        split = {"block-ipv4": True, "block-ipv6": True}
    elif not isinstance(network.routes, str):
        split["subnets"] = [str(route) for route in network.routes]
    if excluded := [str(item) for item in network.exclude if item != "lan"]:
        split["excluded"] = excluded
    if "lan" in network.exclude:
        parts.lost('network.exclude "lan"', "list the networks")
    return {"split-tunneling": split} if split else {}
