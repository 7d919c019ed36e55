"""Connections of ipsec.conf, strongSwan's older format, which libreswan has as well: `conn NAME` and indented settings.

It is brought into the shape of a swanctl.conf connection and goes on from there. Its secrets are in another file,
ipsec.secrets, which is not opened.
"""

from __future__ import annotations

import re
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.conf import Section
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.swanctl import draft_connection

DIRECTORY = Path("/etc/ipsec.d")
MAX_LINES = 10_000
_CONNECTION = re.compile(r"conn\s+(\S+)\s*")
_OTHER = re.compile(r"(config\s+setup|ca\s+\S+|version\s+\S+|include\s+\S+.*)\s*")
_SETTING = re.compile(r"\s+([A-Za-z0-9_-]+)\s*=\s*(.*)")
_AUTHBY = {"secret": "psk", "psk": "psk", "rsasig": "pubkey", "pubkey": "pubkey", "ecdsasig": "pubkey"}
_SAME = {  # where a setting goes: the section, and its name in swanctl.conf
    "right": ("", "remote_addrs"),
    "ike": ("", "proposals"),
    "mobike": ("", "mobike"),
    "dpddelay": ("", "dpd_delay"),
    "ikelifetime": ("", "rekey_time"),
    "keyingtries": ("", "keyingtries"),
    "leftid": ("local", "id"),
    "eap_identity": ("local", "eap_id"),
    "leftcert": ("local", "certs"),
    "leftauth": ("local", "auth"),
    "rightid": ("remote", "id"),
    "rightauth": ("remote", "auth"),
    "rightsubnet": ("child", "remote_ts"),
    "esp": ("child", "esp_proposals"),
    "phase2alg": ("child", "esp_proposals"),
    "lifetime": ("child", "rekey_time"),
    "keylife": ("child", "rekey_time"),
    "salifetime": ("child", "rekey_time"),
    "leftupdown": ("child", "updown"),
    "type": ("child", "mode"),
}
_SILENT = {
    *("auto", "keyexchange", "ikev2", "left", "leftsourceip", "leftsubnet", "leftfirewall", "dpdaction", "dpdtimeout"),
    *("authby", "also", "fragmentation", "leftsendcert", "rightsendcert", "rekey", "margintime", "rekeymargin"),
    *(
        "narrowing",
        "leftmodecfgclient",
        "rightmodecfgserver",
        "modecfgpull",
        "closeaction",
        "encapsulation",
        "forceencaps",
    ),
}


def read_ipsec(data: bytes, connection: str | None, fallback: str, directory: Path | None) -> Draft:
    """The one connection in the file, or the one called `connection`. Raises ProfileError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ProfileError("this is not UTF-8 text") from None
    connections = _connections(text)
    names = [name for name in connections if name != "%default"]
    if not names:
        raise ProfileError("there is no connection in it")
    if connection is None and len(names) > 1:
        reason = f"it holds {', '.join(names)}"
        raise ProfileError("there are several connections in it", reason=reason, hint="name one with --connection")
    name = names[0] if connection is None else connection
    if name not in names:
        raise ProfileError("there is no connection of that name in it", reason=f"it holds {', '.join(names)}")
    settings = {**connections.get("%default", {}), **_with_also(name, connections)}
    draft = Draft(name or fallback)
    draft_connection(_section(settings), Section(), draft, directory or DIRECTORY)
    draft.lost(sorted(settings.keys() - _SAME.keys() - _SILENT))
    if draft.tables["auth"]["method"] == "psk" or draft.tables["auth"]["method"].startswith("eap"):
        draft.warn("the secret is in ipsec.secrets, which is not read: it will be asked for")
    return draft


def _connections(text: str) -> dict[str, dict[str, str]]:
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ProfileError(f"this has more than {MAX_LINES} lines")
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.split("#", 1)[0].rstrip()
        if not line.strip():
            continue
        if match := _CONNECTION.fullmatch(line):
            current = found.setdefault(match[1], {})
        elif _OTHER.fullmatch(line):
            current = {}
        elif match := _SETTING.fullmatch(line):
            value = match[2].strip().strip('"')
            key = match[1].lower()
            current[key] = f"{current[key]},{value}" if key == "also" and key in current else value
        else:
            raise ProfileError(f"line {number} is not understood")
    return found


def _with_also(name: str, connections: dict[str, dict[str, str]]) -> dict[str, str]:
    """The settings of a connection with those that it takes over by `also`; each connection counts once."""
    result: dict[str, str] = {}
    waiting, seen = [name], set()
    while waiting:
        each = waiting.pop(0)
        if each in seen or each not in connections:
            continue
        seen.add(each)
        for key, value in connections[each].items():
            result.setdefault(key, value)
        waiting += [other.strip() for other in connections[each].get("also", "").split(",") if other.strip()]
    return result


def _section(settings: dict[str, str]) -> Section:
    """The connection as swanctl.conf would say it."""
    if settings.get("keyexchange") == "ikev1" or settings.get("ikev2") in ("no", "never"):
        raise ProfileError("this connection is for IKEv1", hint="ikeclient speaks IKEv2")
    root = Section()
    parts = {"": root, "local": Section(), "remote": Section(), "child": Section()}
    root.sections = {"local": parts["local"], "remote": parts["remote"], "children": Section()}
    root.sections["children"].sections["net"] = parts["child"]
    if method := _AUTHBY.get(settings.get("authby", "")):
        parts["local"].values["auth"] = parts["remote"].values["auth"] = method
    for key, value in settings.items():
        if key in _SAME:
            section, name = _SAME[key]
            parts[section].values[name] = value.rstrip("!") if key in ("ike", "esp", "phase2alg") else value
    if settings.get("leftsourceip", "").startswith("%config"):
        root.values["vips"] = "0.0.0.0,::"
    return root
