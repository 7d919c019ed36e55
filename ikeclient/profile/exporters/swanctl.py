"""A profile as a connection of strongSwan's swanctl.conf, with its secrets where they are to go along."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ikeclient.profile.exporters.parts import Parts
from ikeclient.profile.model.methods import is_eap, uses_certificate

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+*-]+(,[A-Za-z0-9_.:/@%+*-]+)*")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_VIPS = {"ipv4": "0.0.0.0", "ipv6": "::"}  # noqa: S104 - any address, nothing is bound
_CARRIED = frozenset(
    {
        *("gateway.address", "gateway.port", "gateway.identity", "gateway.ca"),
        *("auth.method", "auth.identity", "auth.user", "auth.psk", "auth.password", "auth.certificate", "auth.key"),
        *("auth.key_passphrase", "crypto.ike", "crypto.esp", "network.request", "network.routes", "network.exclude"),
        *("session.mobike", "session.liveness", "session.rekey_ike", "session.rekey_child", "session.retry"),
        "session.encapsulation",
    }
)


def write_swanctl(parts: Parts) -> bytes:
    """The text of the file. Raises ProfileError."""
    profile, name = parts.profile, _NAME.sub("-", parts.loaded.name)
    connection: dict[str, Any] = {
        "version": 2,
        "remote_addrs": ",".join(profile.gateway.address),
        "vips": ",".join(vip for family, vip in _VIPS.items() if family in profile.network.request),
        "proposals": ",".join(profile.crypto.ike),
        "mobike": "yes" if profile.session.mobike else "no",
        "dpd_delay": f"{profile.session.liveness}s",
        "rekey_time": f"{profile.session.rekey_ike}s",
        "keyingtries": 0,
    }
    if profile.gateway.port != 500:
        connection["remote_port"] = profile.gateway.port
    if profile.session.encapsulation == "always":
        connection["encap"] = "yes"
    if profile.session.retry != "forever":
        parts.lost("session.retry", "keyingtries counts attempts to connect only")
    if profile.session.liveness == 0:
        parts.lost("session.liveness = 0", "it is read back as the default")
    bundle = parts.is_bundle
    connection["local"] = _local(parts, bundle=bundle)
    connection["remote"] = _remote(parts)
    connection["children"] = _children(parts)
    document: dict[str, Any] = {"connections": {name: connection}}
    if secrets := _secrets(parts, name, bundle=bundle):
        document["secrets"] = secrets
    parts.lost_others(_CARRIED)
    return ("\n".join(_lines(document)) + "\n").encode()


def _local(parts: Parts, *, bundle: bool) -> dict[str, Any]:
    auth = parts.profile.auth
    local: dict[str, Any] = {"auth": {"psk": "psk", "certificate": "pubkey"}.get(auth.method, auth.method)}
    if auth.identity:
        local["id"] = auth.identity
    elif bundle:
        parts.lost("the identity in our certificate", "swanctl takes it from certs only: set auth.identity")
    if is_eap(auth.method) and parts.user:
        local["eap_id"] = parts.user
    if uses_certificate(auth.method) and auth.certificate is not None and not bundle:
        local["certs"] = parts.path(auth.certificate.file)
    return local


def _remote(parts: Parts) -> dict[str, Any]:
    gateway = parts.profile.gateway
    remote: dict[str, Any] = {"auth": "psk" if parts.profile.auth.method == "psk" else "pubkey"}
    remote["id"] = parts.gateway_identity
    if gateway.ca and parts.profile.auth.method != "psk":
        remote["cacerts"] = ",".join(parts.path(name) for name in gateway.ca)
    return remote


def _children(parts: Parts) -> dict[str, Any]:
    network, session, crypto = parts.profile.network, parts.profile.session, parts.profile.crypto
    children: dict[str, Any] = {
        "net": {
            "remote_ts": _selectors(parts),
            "esp_proposals": ",".join(crypto.esp),
            "rekey_time": f"{session.rekey_child}s",
        }
    }
    if excluded := [str(item) for item in network.exclude if item != "lan"]:
        children["bypass"] = {"remote_ts": ",".join(excluded), "mode": "pass", "start_action": "trap"}
    if "lan" in network.exclude:
        parts.lost('network.exclude "lan"', "list the networks")
    return children


def _selectors(parts: Parts) -> str:
    network = parts.profile.network
    if not isinstance(network.routes, str):
        return ",".join(str(route) for route in network.routes)
    if network.routes == "gateway":
        parts.lost('network.routes = "gateway"', 'remote_ts has to be everything, which is read back as "all"')
    else:
        parts.lost('what network.routes = "all" blocks', "swanctl blocks nothing that the gateway does not grant")
    families = (("ipv4", "0.0.0.0/0"), ("ipv6", "::/0"))
    wanted = [each for family, each in families if family in network.request or not network.request]
    return ",".join(wanted or [each for _, each in families])


def _secrets(parts: Parts, name: str, *, bundle: bool) -> dict[str, Any]:
    auth = parts.profile.auth
    ids = {"id": parts.user} if parts.user else {}
    if auth.method == "psk":
        if psk := parts.psk():
            return {f"ike-{name}": {**ids, "secret": _encoded(psk)}}
    elif uses_certificate(auth.method):
        kind, file = ("pkcs12", auth.certificate) if bundle else ("private", auth.key)
        if file is not None:
            passphrase = parts.passphrase()
            secret = {"secret": _encoded(passphrase)} if passphrase else {}
            return {f"{kind}-{name}": {"file": parts.path(file.file), **secret}}
    elif password := parts.password():
        return {f"eap-{name}": {**ids, "secret": _encoded(password)}}
    return {}


def _encoded(secret: bytes) -> str:
    return "0s" + base64.b64encode(secret).decode()


def _lines(section: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key} {{"
            yield from _lines(value, indent + "  ")
            yield indent + "}"
        elif value != "":
            yield f"{indent}{key} = {_quoted(str(value))}"


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
