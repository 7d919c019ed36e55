"""Windows' description of an EAP method: EapHostConfig, which scripts and ProfileXML hold.

Element names are those of Microsoft's schemas EapHostConfig, MsPeapConnectionProperties, EapTlsConnectionProperties and
EapTtlsConnectionProperties.
"""

from __future__ import annotations

import html
import re

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.xml import Element, parse_xml
from ikeclient.wire.text import printable

EAP_TYPES = {
    "13": "eap-tls",
    "21": "eap-ttls",
    "25": "eap-peap",
    "26": "eap-mschapv2",
    "6": "eap-gtc",
    "4": "eap-md5",
    "18": "eap-sim",
    "23": "eap-aka",
    "50": "eap-aka-prime",
}
_INNER = {"13": "tls", "26": "mschapv2", "6": "gtc", "4": "md5"}
_START = re.compile(r"<(?:\w{1,40}:)?EapHostConfig\b")
_END = re.compile(r"</(?:\w{1,40}:)?EapHostConfig\s*>")
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


def read_eap_host(text: str, draft: Draft) -> bool:
    """Take the method and its settings out of the EapHostConfig in `text`; false if there is none.

    Raises ProfileError for a method that is not known.
    """
    root = _root(text, draft)
    if root is None:
        return False
    number = root.value("EapMethod", "Type")
    if number not in EAP_TYPES:
        raise ProfileError(f"the EAP method of type {printable(number, 20) or '?'} in it is not supported")
    draft.set("auth", "method", EAP_TYPES[number])
    config = root.find("Config")
    if config is None:
        return True
    if draft.method == "eap-peap":
        _inner(config.everywhere("Eap")[1:], draft)
    elif draft.method == "eap-ttls":
        _phase2(config, draft)
    if draft.method in ("eap-peap", "eap-ttls", "eap-tls"):
        _server(config, draft)
        _privacy(config, draft)
    return True


def _root(text: str, draft: Draft) -> Element | None:
    if "&lt;EapHostConfig" in text and not _START.search(text):
        text = html.unescape(text)
    start = _START.search(text)
    ends = list(_END.finditer(text, start.end())) if start else []
    if start is None or not ends:
        return None
    depth = 0  # TTLS holds another one inside
    for match in sorted([*_START.finditer(text), *ends], key=lambda each: each.start()):
        if match.start() < start.start():
            continue
        depth += -1 if match[0].startswith("</") else 1
        if depth == 0:
            break
    try:
        return parse_xml(text[start.start() : match.end()].encode("utf-8", "replace"))
    except ProfileError as error:
        draft.risk(f"the settings of EAP are not carried over: {error.message}")
        return None


def _inner(inside: list[Element], draft: Draft) -> None:
    number = next((each.value("Type") for each in inside if each.value("Type")), "")
    if number in _INNER:
        draft.set("auth", "inner", _INNER[number])
    elif number:
        draft.warn(f"not carried over: EAP of type {printable(number, 20)} inside {draft.method} (set auth.inner)")


def _phase2(config: Element, draft: Draft) -> None:
    phase2 = next(iter(config.everywhere("Phase2Authentication")), None)
    names = [child.name.lower() for child in phase2.children] if phase2 is not None else []
    if phase2 is not None and "eap" in [name[:3] for name in names]:
        number = next((each.text.strip() for each in phase2.everywhere("Type")), "")
        inner = {**_INNER, "26": "eap-mschapv2"}.get(number)
    else:
        inner = "pap" if "papauthentication" in names else "mschapv2" if "mschapv2authentication" in names else None
    if inner is not None:
        draft.set("auth", "inner", inner)
    elif names:
        draft.warn(f"not carried over: {printable(names[0], 40)} inside eap-ttls (set auth.inner)")


def _server(config: Element, draft: Draft) -> None:
    """What the authentication server must prove, of the outer method alone."""
    validation = next(iter(config.everywhere("ServerValidation")), None)
    if validation is None:
        return
    names = [name.strip() for name in validation.value("ServerNames").split(";") if name.strip()]
    plain = [name for name in names if _NAME.fullmatch(name)]
    if plain:
        draft.set("auth", "server_name", plain[0])
    if others := [printable(name, 60) for name in names if name not in plain[:1]]:
        asked = plain[0] if plain else "the gateway's identity"
        draft.warn(f"not carried over: the server name {', '.join(others)}: {asked} is demanded (auth.server_name)")
    marks = [each.text for key in ("TrustedRootCA", "TrustedRootCAHash") for each in validation.all(key)]
    if found := [printable("".join(mark.split()), 64) for mark in marks if mark.strip()]:
        draft.risk(
            f"auth.server_ca is not set: the authentication server's certificate must come from the authority with "
            f"the fingerprint {', '.join(found[:3])}; name its file"
        )


def _privacy(config: Element, draft: Draft) -> None:
    for section, switch, name in (
        ("IdentityPrivacy", "EnableIdentityPrivacy", "AnonymousUserName"),
        ("Phase1Identity", "IdentityPrivacy", "AnonymousIdentity"),
    ):
        found = next(iter(config.everywhere(section)), None)
        if found is not None and found.value(switch).lower() in ("true", "1"):
            draft.set("auth", "anonymous_identity", found.value(name) or "anonymous")
