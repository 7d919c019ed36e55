"""Profiles of strongSwan's Android app (`.sswan`): JSON, with certificates in Base64. They never hold a password."""

from __future__ import annotations

import json

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.containers import open_bundle
from ikeclient.profile.importers.draft import Ask, Draft, Fields, MySection, decode_base64
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.model.values import MAX_NETWORKS
from ikeclient.wire.text import printable

METHODS = {
    "ikev2-eap": "eap",
    "ikev2-cert": "certificate",
    "ikev2-eap-tls": "eap-tls",
    "ikev2-byod-eap": "eap",
    "ikev2-cert-eap": "certificate",
}
_WITH_CERTIFICATE = ("ikev2-cert", "ikev2-eap-tls", "ikev2-cert-eap")
_WITH_PASSWORD = ("ikev2-eap", "ikev2-byod-eap", "ikev2-cert-eap")


def read_sswan(data: bytes, connection: str | None, fallback: str, ask: Ask | None = None) -> Draft:
    """The profile in the file. Raises ProfileError."""
    try:
        root = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise ProfileError("this is not JSON") from None
    fields = Fields(root, "the profile")
    draft = Draft(fields.text("name") or fallback)
    if connection not in (None, draft.name):
        raise ProfileError("there is no connection of that name in it", reason=f"it holds {draft.name}")
    kind = fields.text("type") or ""
    if kind not in METHODS:
        raise ProfileError(f"the type {kind!a} is not known", reason=f"known are {', '.join(METHODS)}")
    draft.set("auth", "method", METHODS[kind])
    if kind == "ikev2-cert-eap":
        draft.set("second_auth", "method", "eap")
    if kind == "ikev2-byod-eap":
        draft.risk("not carried over: the posture assessment of ikev2-byod-eap")
    _remote(fields.part("remote") or Fields({}, "remote"), draft)
    _local(fields.part("local") or Fields({}, "local"), kind, draft, ask)
    for key, which in (("ike-proposal", "ike"), ("esp-proposal", "esp")):
        if text := fields.text(key):
            draft.proposals("ike" if which == "ike" else "esp", [part.strip() for part in text.split(",")])
    if mtu := fields.number("mtu"):
        draft.set("network", "mtu", mtu)
    servers = (fields.text("dns-servers") or "").replace(",", " ").split()
    good = [server for server in servers if "/" not in server and networks_of(server)]
    draft.lost((f"the DNS server {server}" for server in servers if server not in good), "it is no address")
    draft.dns(good, [])
    _split(fields.part("split-tunneling"), draft)
    if fields.items("apps") or fields.items("excluded-apps"):
        draft.risk("this VPN was for single apps, or not for some: here it is for the whole machine")
    fields.ignore("uuid", "nat-keepalive", "ipv6-transport", "apps", "excluded-apps")
    draft.lost(key for key in fields.rest if not fields.is_off(key))
    return draft


def _remote(remote: Fields, draft: Draft) -> None:
    draft.set("gateway", "address", remote.text("addr") or "")
    draft.identity("gateway", remote.text("id"))
    draft.set("gateway", "port", remote.number("port"))
    if certificate := remote.text("cert"):
        draft.authorities([decode_base64(certificate, "remote.cert")])
    revocation = remote.part("revocation")
    if revocation is not None and revocation.flag("strict"):
        draft.set("gateway", "revocation", "strict")
    remote.ignore("certreq", "revocation")
    draft.lost(f"remote.{key}" for key in remote.rest if not remote.is_off(key))


def _local(local: Fields, kind: str, draft: Draft, ask: Ask | None) -> None:
    draft.identity("auth", local.text("id"))
    user = local.text("eap_id")
    if kind in _WITH_PASSWORD:
        section: MySection = "second_auth" if kind == "ikev2-cert-eap" else "auth"
        draft.set(section, "user", user)
        draft.password(local.secret("shared_secret"), section)
        if not user and (section == "second_auth" or not local.text("id")):
            draft.warn(f"the user name is not in the file (the app asks for it): set {section}.user, or give --user")
    if bundle := local.text("p12"):
        if kind in _WITH_CERTIFICATE:
            content = decode_base64(bundle, "local.p12")
            draft.own("auth", "certificate", "p12", content, "our certificate and its key")
            open_bundle(draft, content, None, ask)
        else:
            draft.lost(["local.p12"], "EAP needs no certificate of ours")
    elif kind in _WITH_CERTIFICATE:
        draft.warn("our certificate is not in the file: set auth.certificate, or give --p12 FILE")
    local.ignore("rsa-pss", "shared_secret")
    draft.lost(f"local.{key}" for key in local.rest if not local.is_off(key))


def _split(split: Fields | None, draft: Draft) -> None:
    """The app sends everything into the tunnel that the gateway grants, unless told otherwise."""
    if split is None:
        return
    routes = _networks(split, "subnets", draft)
    draft.set("network", "routes", routes or None)
    draft.set("network", "exclude", _networks(split, "excluded", draft) or None)
    blocked = [family for family in ("4", "6") if split.flag(f"block-ipv{family}")]
    if len(blocked) == 2 and not routes:
        draft.set("network", "routes", "all")
    elif blocked:
        families = " and ".join(f"IPv{family}" for family in blocked)
        draft.risk(
            f"{families} outside the tunnel is blocked there and not here; "
            'network.routes = "all" blocks what the tunnel does not carry'
        )
    draft.lost(f"split-tunneling.{key}" for key in split.rest if not split.is_off(key))


def _networks(split: Fields, key: str, draft: Draft) -> list[str]:
    """A list, or text with white space between, of networks and ranges."""
    written = split.words(key)
    if len(written) > MAX_NETWORKS:
        raise ProfileError(f"split-tunneling.{key} lists {len(written)} networks, at most {MAX_NETWORKS} are possible")
    found = [network for item in written for network in networks_of(item)]
    bad = [printable(item, 60) for item in written if not networks_of(item)]
    draft.lost([f"split-tunneling.{key} {item}" for item in bad], "it is no network")
    return list(dict.fromkeys(found))
