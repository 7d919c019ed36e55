"""A profile as a connection of strongSwan's swanctl.conf, with its secrets where they are to go along."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ikeclient.profile.exporters.parts import Parts

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+*-]+(,[A-Za-z0-9_.:/@%+*-]+)*")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")


def write_swanctl(parts: Parts) -> bytes:
    """The text of the file."""
    profile, name = parts.profile, _NAME.sub("-", parts.loaded.name)
    connection: dict[str, Any] = {
        "version": 2,
        "remote_addrs": ",".join(profile.gateway.address),
        "vips": ",".join(vip for family, vip in _VIPS.items() if family in profile.network.request),
        "proposals": ",".join(profile.crypto.ike),
        "mobike": "yes" if profile.session.mobike else "no",
        "dpd_delay": f"{profile.session.liveness}s",
        "rekey_time": f"{profile.session.rekey_ike}s",
        "keyingtries": 0 if profile.session.retry == "forever" else max(profile.session.retry, 1),
    }
    if profile.gateway.port != 500:
        connection["remote_port"] = profile.gateway.port
    connection["local"] = _local(parts)
    connection["remote"] = _remote(parts)
    connection["children"] = {
        "net": {
            "remote_ts": _selectors(parts),
            "esp_proposals": ",".join(profile.crypto.esp),
            "rekey_time": f"{profile.session.rekey_child}s",
        }
    }
    document: dict[str, Any] = {"connections": {name: connection}}
    if secrets := _secrets(parts, name):
        document["secrets"] = secrets
    parts.lost_keys(
        "network.exclude", "network.dns", "network.mtu", "network.interface", "gateway.allow_sha1", "auth.signature"
    )
    parts.lost_keys("session.up", "session.down", "session.encapsulation")
    return ("\n".join(_lines(document)) + "\n").encode()


_VIPS = {"ipv4": "0.0.0.0", "ipv6": "::"}  # noqa: S104 - any address, nothing is bound


def _local(parts: Parts) -> dict[str, Any]:
    auth = parts.profile.auth
    local: dict[str, Any] = {"auth": {"psk": "psk", "certificate": "pubkey"}.get(auth.method, auth.method)}
    if auth.identity:
        local["id"] = auth.identity
    if auth.method.startswith("eap") and parts.user:
        local["eap_id"] = parts.user
    if auth.method in ("certificate", "eap-tls") and auth.certificate is not None:
        local["certs"] = str(parts.loaded.base_dir / Path(auth.certificate.file).expanduser())
    return local


def _remote(parts: Parts) -> dict[str, Any]:
    gateway = parts.profile.gateway
    remote: dict[str, Any] = {"auth": "psk" if parts.profile.auth.method == "psk" else "pubkey"}
    remote["id"] = parts.gateway_identity
    if gateway.ca and parts.profile.auth.method != "psk":
        remote["cacerts"] = ",".join(str(parts.loaded.base_dir / Path(name).expanduser()) for name in gateway.ca)
    return remote


def _selectors(parts: Parts) -> str:
    network = parts.profile.network
    if isinstance(network.routes, str):
        return ",".join(
            everything
            for family, everything in (("ipv4", "0.0.0.0/0"), ("ipv6", "::/0"))
            if family in network.request or not network.request
        )
    return ",".join(str(route) for route in network.routes)


def _secrets(parts: Parts, name: str) -> dict[str, Any]:
    auth = parts.profile.auth
    ids = {"id": parts.user} if parts.user else {}
    if auth.method == "psk":
        if psk := parts.psk():
            return {f"ike-{name}": {**ids, "secret": "0s" + base64.b64encode(psk).decode()}}
    elif auth.method in ("certificate", "eap-tls"):
        if auth.key is not None:
            return {f"private-{name}": {"file": str(parts.loaded.base_dir / Path(auth.key.file).expanduser())}}
    elif password := parts.password():
        return {f"eap-{name}": {**ids, "secret": "0s" + base64.b64encode(password).decode()}}
    return {}


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
