"""A profile as a connection of strongSwan's swanctl.conf, with its secrets where they are to go along."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ikeclient.profile.exporters.parts import Parts
from ikeclient.profile.model.methods import is_eap, needs_password, uses_certificate
from ikeclient.profile.model.schema import Auth
from ikeclient.signer.uri import parse_uri

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@%+*-]+(,[A-Za-z0-9_.:/@%+*-]+)*")
_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_VIPS = {"ipv4": "0.0.0.0", "ipv6": "::"}  # noqa: S104 - any address, nothing is bound
_AUTH = (
    *("method", "identity", "user", "psk", "password", "certificate", "key", "key_passphrase", "server_name"),
    *("signature", "inner"),
)
_CARRIED = frozenset(
    {
        *("gateway.address", "gateway.port", "gateway.identity", "gateway.ca", "gateway.auth", "gateway.revocation"),
        *(f"{section}.{key}" for section in ("auth", "second_auth") for key in _AUTH),
        *("ppk.id", "ppk.secret", "ppk.required"),
        *("crypto.ike", "crypto.esp", "network.request", "network.routes", "network.exclude"),
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
    both = [parts, parts.second] if profile.second_auth is not None else [parts]
    for number, each in enumerate(both, 1):
        connection["local" if len(both) == 1 else f"local-{number}"] = _local(each)
    if profile.ppk is not None:
        connection |= {"ppk_id": profile.ppk.id, "ppk_required": "yes" if profile.ppk.required else "no"}
    connection["remote"] = _remote(parts)
    connection["children"] = _children(parts)
    document: dict[str, Any] = {"connections": {name: connection}}
    secrets: dict[str, Any] = {}
    for each in both:
        secrets |= _secrets(each, name if each is parts else f"{name}-2")
    if (key := parts.post_quantum_key()) is not None and profile.ppk is not None:
        secrets[f"ppk-{name}"] = {"id": profile.ppk.id, "secret": _encoded(key)}
    if secrets:
        document["secrets"] = secrets
    parts.lost_others(_CARRIED)
    return ("\n".join(_lines(document)) + "\n").encode()


def _local(parts: Parts) -> dict[str, Any]:
    auth, section = parts.auth, parts.section
    local: dict[str, Any] = {"auth": {"psk": "psk", "certificate": _signatures(parts)}.get(auth.method, auth.method)}
    if auth.identity:
        local["id"] = auth.identity
    elif parts.is_bundle:
        parts.lost("the identity in our certificate", f"swanctl takes it from certs only: set {section}.identity")
    if is_eap(auth.method) and parts.user:
        local["eap_id"] = parts.user
    if auth.server_name:
        local["aaa_id"] = auth.server_name
    if auth.inner not in (None, "eap-mschapv2" if auth.method == "eap-ttls" else "mschapv2"):
        parts.lost(f'{section}.inner = "{auth.inner}"', "strongSwan answers what the server asks for")
    elif auth.method == "eap-ttls" and auth.inner is None:
        parts.lost(f"{section}.inner, which is mschapv2", "strongSwan answers EAP inside EAP-TTLS")
    if auth.certificate is not None and _shows_certificate(auth) and not parts.is_bundle:
        local["certs"] = parts.path(auth.certificate.file)
    elif (token := _token(auth)) is not None and _shows_certificate(auth) and auth.certificate is None:
        local["cert-token"] = token
    return local


def _token(auth: Auth) -> dict[str, Any] | None:
    """Where our key and its certificate are on a token, in strongSwan's words; None if those cannot say it."""
    if auth.key is None or auth.key.pkcs11 is None:
        return None
    uri = parse_uri(auth.key.pkcs11)
    if uri.id is None or uri.texts:
        return None
    slot = {} if uri.slot is None else {"slot": uri.slot}
    module = auth.key.module or uri.module
    return {"handle": uri.id.hex(), **slot, **({"module": module} if module else {})}


def _shows_certificate(auth: Auth) -> bool:
    return uses_certificate(auth.method) or auth.method == "eap"


def _signatures(parts: Parts) -> str:
    """`pubkey`, or strongSwan's words for the schemes that may sign: they stand without an order there."""
    words = ["rsa/pss" + name[7:] if name.startswith("rsa-pss") else name for name in parts.auth.signature or ()]
    words = ["rsa" + name[9:] if name.startswith("rsa-pkcs1") else name for name in words]
    return f"ike:{'-'.join(words)}" if words else "pubkey"


def _remote(parts: Parts) -> dict[str, Any]:
    gateway, method = parts.profile.gateway, parts.profile.auth.method
    how = gateway.auth or ("psk" if method == "psk" else "certificate")
    remote: dict[str, Any] = {"auth": {"certificate": "pubkey", "eap": method}.get(how, how)}
    remote["id"] = parts.gateway_identity
    if gateway.ca and how != "psk":
        remote["cacerts"] = ",".join(parts.path(name) for name in gateway.ca)
    if gateway.revocation in ("strict", "ifuri"):
        remote["revocation"] = gateway.revocation
    elif gateway.revocation == "off":
        parts.lost(
            'gateway.revocation = "off"', "charon checks what it can, unless its plugin `revocation` is not loaded"
        )
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


def _secrets(parts: Parts, name: str) -> dict[str, Any]:
    auth = parts.auth
    ids = {"id": parts.user} if parts.user else {}
    found: dict[str, Any] = {}
    if (auth.method == "psk" or (auth.psk and parts.profile.gateway.auth == "psk")) and (psk := parts.psk()):
        found[f"ike-{name}"] = {**ids, "secret": _encoded(psk)}
    if _shows_certificate(auth):
        key = auth.key.key_file if auth.key is not None else None
        token = _token(auth)
        if token is not None:
            pin = parts.pin()
            found[f"token-{name}"] = {**token, **({"pin": pin.decode("utf-8", "replace")} if pin else {})}
            if "module" in token:
                parts.lost(f"{parts.section}.key.module", "strongswan.conf has to name it in plugins.pkcs11.modules")
        elif auth.key is not None and key is None:
            why = "it is with ssh-agent" if auth.key.agent else "strongSwan finds keys on tokens by `id` alone"
            parts.lost(f"{parts.section}.key", why)
        kind, file = ("pkcs12", auth.certificate) if parts.is_bundle else ("private", key)
        if file is not None:
            passphrase = parts.passphrase()
            secret = {"secret": _encoded(passphrase)} if passphrase else {}
            found[f"{kind}-{name}"] = {"file": parts.path(file.file), **secret}
    if is_eap(auth.method) and needs_password(auth) and (password := parts.password()):
        found[f"eap-{name}"] = {**ids, "secret": _encoded(password)}
    return found


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
