"""Connections of strongSwan's swanctl.conf, as a client has them, with the secrets that belong to them.

Certificates and keys are files that swanctl.conf names; the profile names them too, and they are not opened here.
"""

from __future__ import annotations

import re
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.conf import Section, parse_conf
from ikeclient.profile.importers.draft import Draft, decode_base64

DIRECTORY = Path("/etc/swanctl")
METHODS = {
    "psk": "psk",
    "pubkey": "certificate",
    "eap": "eap",
    **{f"eap-{name}": f"eap-{name}" for name in ("mschapv2", "gtc", "md5", "tls", "ttls", "peap")},
}
_SECONDS = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SILENT = {  # what changes nothing here, or is what we do anyway
    "connection": {
        *("version", "remote_addrs", "remote_port", "proposals", "mobike", "dpd_delay", "rekey_time", "keyingtries"),
        *("vips", "encap", "local_addrs", "local_port", "fragmentation", "unique", "send_cert", "send_certreq"),
        *("dpd_timeout", "over_time", "rand_time", "aggressive", "if_id_in", "if_id_out", "pull"),
    },
    "child": {
        *("remote_ts", "local_ts", "esp_proposals", "rekey_time", "mode", "start_action", "dpd_action"),
        *("close_action", "life_time", "rand_time", "updown", "policies", "if_id_in", "if_id_out"),
    },
    "local": {"auth", "id", "eap_id", "certs", "round"},
    "remote": {"auth", "id", "cacerts", "certs", "round", "revocation"},
}


def read_swanctl(data: bytes, connection: str | None, fallback: str, directory: Path | None) -> Draft:
    """The one connection in the file, or the one called `connection`; `directory` is where the file is.

    Raises ProfileError.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProfileError("this is not UTF-8 text") from None
    warnings: list[str] = []
    root = parse_conf(text, warnings)
    connections = root.section("connections").sections
    if not connections:
        raise ProfileError("there is no connection in it")
    if connection is None and len(connections) > 1:
        reason = f"it holds {', '.join(connections)}"
        raise ProfileError("there are several connections in it", reason=reason, hint="name one with --connection")
    name = next(iter(connections)) if connection is None else connection
    if name not in connections:
        raise ProfileError("there is no connection of that name in it", reason=f"it holds {', '.join(connections)}")
    draft = Draft(name or fallback)
    for warning in warnings:
        draft.warn(warning)
    draft_connection(connections[name], root.section("secrets"), draft, directory or DIRECTORY)
    return draft


def draft_connection(connection: Section, secrets: Section, draft: Draft, directory: Path) -> None:
    """Fill in the draft from one connection and the secrets that may belong to it. Raises ProfileError."""
    values = connection.values
    if values.get("version") == "1":
        raise ProfileError("this connection is for IKEv1", hint="ikeclient speaks IKEv2")
    addresses = [address for address in _listed(values.get("remote_addrs")) if address != "%any"]
    if not addresses:
        raise ProfileError("this connection waits for others", reason="it has no remote_addrs to connect to")
    draft.set("gateway", "address", addresses if len(addresses) > 1 else addresses[0])
    draft.set("gateway", "port", _number(values.get("remote_port")))
    draft.proposals("ike", _listed(values.get("proposals")))
    if values.get("mobike") in ("no", "false", "0"):
        draft.set("session", "mobike", False)
    draft.set("session", "liveness", _limited(_seconds(values.get("dpd_delay")), 5, 3600))
    draft.set("session", "rekey_ike", _limited(_seconds(values.get("rekey_time")), 10, 7 * 86400))
    if tries := _number(values.get("keyingtries")):
        draft.set("session", "retry", min(tries, 1000))
    if vips := _listed(values.get("vips")):
        families = [name for name, sign in (("ipv4", "."), ("ipv6", ":")) if any(sign in vip for vip in vips)]
        draft.set("network", "request", [*families, "dns"])
    rounds = _named(connection, "local"), _named(connection, "remote")
    if len(rounds[0]) > 1 or len(rounds[1]) > 1:
        draft.warn("several authentications in a row are not possible here: only the first is set")
    local = rounds[0][0] if rounds[0] else Section()
    remote = rounds[1][0] if rounds[1] else Section()
    _remote(remote, draft, directory)
    _local(local, remote, secrets, draft, directory)
    _children(connection.section("children"), draft)
    draft.lost(sorted(values.keys() - _SILENT["connection"]))
    draft.lost(sorted(f"local {key}" for key in local.values.keys() - _SILENT["local"]))
    draft.lost(sorted(f"remote {key}" for key in remote.values.keys() - _SILENT["remote"]))


def _named(connection: Section, prefix: str) -> list[Section]:
    return [section for name, section in connection.sections.items() if re.fullmatch(rf"{prefix}(-.*)?", name)]


def _remote(remote: Section, draft: Draft, directory: Path) -> None:
    identity = remote.values.get("id")
    if identity != "%any" or remote.values.get("auth") == "psk":
        draft.set("gateway", "identity", identity)
    else:
        draft.warn("remote id = %any is not possible with certificates: the gateway must prove its address")
    if authorities := _listed(remote.values.get("cacerts")):
        draft.set("gateway", "ca", [_file(name, directory / "x509ca") for name in authorities])
    elif remote.values.get("auth", "pubkey") != "psk":
        draft.warn(f"gateway.ca is not set: swanctl trusts all of {directory / 'x509ca'}; name the right file there")
    if certificates := _listed(remote.values.get("certs")):
        draft.warn(f"not carried over: the gateway's own certificate {', '.join(certificates)} (set gateway.ca)")


def _local(local: Section, remote: Section, secrets: Section, draft: Draft, directory: Path) -> None:
    values = local.values
    auth = values.get("auth", "pubkey")
    scheme = auth.partition("-")[0] if auth.startswith(("rsa", "ecdsa", "pubkey", "ed25519", "ed448")) else auth
    method = "certificate" if scheme in ("rsa", "ecdsa", "pubkey", "ed25519", "ed448") else METHODS.get(auth)
    if method is None:
        raise ProfileError(f"the authentication {auth!a} is not possible", reason=f"possible are {', '.join(METHODS)}")
    identity, user = values.get("id"), values.get("eap_id")
    draft.set("auth", "method", method)
    draft.set("auth", "identity", identity)
    if method.startswith("eap"):
        draft.set("auth", "user", None if user == "%any" else user)
    owners = [name for name in (user, identity) if name]
    if method == "psk":
        peer = remote.values.get("id")
        found = _secret(secrets, "ike", [name for name in (*owners, peer) if name])
        draft.attach("auth", "psk", "psk", found, "the pre-shared key") if found else draft.set(
            "auth", "psk", {"prompt": True}
        )
    elif method in ("certificate", "eap-tls"):
        _certificate(values, secrets, draft, directory)
    elif found := _secret(secrets, "eap", owners):
        draft.attach("auth", "password", "pw", found, "the password")


def _certificate(values: dict[str, str], secrets: Section, draft: Draft, directory: Path) -> None:
    certificates = _listed(values.get("certs"))
    bundles = _named(secrets, "pkcs12")
    if certificates:
        draft.set("auth", "certificate", _file(certificates[0], directory / "x509"))
        keys = [s for kind in ("private", "pkcs8", "rsa", "ecdsa") for s in _named(secrets, kind)]
        name = next((s.values["file"] for s in keys if "file" in s.values), None)
        key = _file(name or Path(certificates[0]).with_suffix(".key").name, directory / "private")
        draft.set("auth", "key", key)
        if name is None:
            draft.warn(f"swanctl.conf does not name our private key; {key} is a guess")
        bundles = [s for s in keys if s.values.get("file") == name]
    elif bundles:
        draft.set("auth", "certificate", _file(bundles[0].values.get("file", "client.p12"), directory / "pkcs12"))
    else:
        draft.set("auth", "certificate", str(directory / "x509" / "client.pem"))
        draft.warn("swanctl.conf does not name our certificate; set auth.certificate and auth.key")
    if bundles and "secret" in bundles[0].values:
        secret = _decoded(bundles[0].values["secret"])
        draft.attach("auth", "key_passphrase", "passphrase", secret, "the passphrase of our key")


def _children(children: Section, draft: Draft) -> None:
    if not children.sections:
        return
    (name, child), *others = children.sections.items()
    if others:
        draft.warn(f"not carried over: the children beside {name} (one Child SA carries everything)")
    values = child.values
    draft.proposals("esp", _listed(values.get("esp_proposals")))
    draft.set("session", "rekey_child", _limited(_seconds(values.get("rekey_time")), 10, 7 * 86400))
    selectors = _listed(values.get("remote_ts"))
    if any(selector in ("0.0.0.0/0", "::/0") for selector in selectors):
        draft.set("network", "routes", "all")
    else:
        networks = [selector for selector in selectors if re.fullmatch(r"[0-9A-Fa-f.:]+(/\d{1,3})?", selector)]
        draft.set("network", "routes", networks or None)
        draft.lost([f"remote_ts {item}" for item in selectors if item not in networks and item != "dynamic"])
    if values.get("mode", "tunnel") != "tunnel":
        draft.warn(f"mode = {values['mode']} is not possible here: the tunnel mode is used")
    if values.get("updown"):
        draft.warn("not carried over: updown (session.up and session.down run commands; nothing is run unasked)")
    draft.lost(sorted(f"child {key}" for key in values.keys() - _SILENT["child"]))


def _secret(secrets: Section, kind: str, owners: list[str]) -> bytes | None:
    """The secret for one of `owners`, else the one for everybody."""
    anybody = None
    for section in _named(secrets, kind):
        ids = [value for key, value in section.values.items() if key == "id" or key.startswith("id")]
        secret = section.values.get("secret")
        if secret is None:
            continue
        if any(owner in ids for owner in owners):
            return _as_it_is(secret, kind)
        if not ids:
            anybody = _as_it_is(secret, kind)
    return anybody


def _as_it_is(secret: str, kind: str) -> bytes:
    """A pre-shared key is written alike on both sides; a password in hexadecimal or Base64 is decoded."""
    return secret.encode() if kind == "ike" else _decoded(secret)


def _decoded(secret: str) -> bytes:
    if secret.startswith("0s"):
        return decode_base64(secret[2:], "a secret after 0s")
    if secret.startswith("0x"):
        try:
            return bytes.fromhex(secret[2:])
        except ValueError:
            raise ProfileError("a secret after 0x is not hexadecimal") from None
    return secret.encode()


def _listed(value: str | None) -> list[str]:
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 10 else None


def _seconds(value: str | None) -> int | None:
    match = _SECONDS.fullmatch(value or "")
    return int(match[1]) * _UNITS[match[2]] if match else None


def _limited(seconds: int | None, least: int, most: int) -> int | None:
    """Within what a profile takes; 0, which is "never" there, stays our default."""
    return min(max(seconds, least), most) if seconds else None


def _file(name: str, directory: Path) -> str:
    return str(directory / name)
