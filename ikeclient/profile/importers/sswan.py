"""Profiles of strongSwan's Android app (`.sswan`): JSON, with certificates in Base64. They never hold a password."""

from __future__ import annotations

import json

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft, Fields, decode_base64

METHODS = {
    "ikev2-eap": "eap",
    "ikev2-cert": "certificate",
    "ikev2-eap-tls": "eap-tls",
    "ikev2-cert-eap": "eap",
    "ikev2-byod-eap": "eap",
}


def read_sswan(data: bytes, connection: str | None, fallback: str) -> Draft:
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
        draft.warn("two authentications in a row, certificate and EAP, are not possible here: only EAP is set")
    if kind == "ikev2-byod-eap":
        draft.warn("not carried over: the posture assessment of ikev2-byod-eap")
    _remote(fields.part("remote") or Fields({}, "remote"), draft)
    _local(fields.part("local") or Fields({}, "local"), kind, draft)
    for key, which in (("ike-proposal", "ike"), ("esp-proposal", "esp")):
        if text := fields.text(key):
            draft.proposals("ike" if which == "ike" else "esp", [part.strip() for part in text.split(",")])
    if mtu := fields.number("mtu"):
        draft.set("network", "mtu", mtu)
    _split(fields.part("split-tunneling"), draft)
    fields.ignore("uuid", "nat-keepalive")
    draft.lost(fields.rest)
    return draft


def _remote(remote: Fields, draft: Draft) -> None:
    draft.set("gateway", "address", remote.text("addr") or "")
    draft.set("gateway", "identity", remote.text("id"))
    draft.set("gateway", "port", remote.number("port"))
    if certificate := remote.text("cert"):
        draft.authorities([decode_base64(certificate, "remote.cert")])
    remote.ignore("certreq")
    draft.lost(f"remote.{key}" for key in remote.rest)


def _local(local: Fields, kind: str, draft: Draft) -> None:
    draft.set("auth", "identity", local.text("id"))
    if "eap" in kind and kind != "ikev2-eap-tls":
        draft.set("auth", "user", local.text("eap_id"))
    if bundle := local.text("p12"):
        if kind in ("ikev2-cert", "ikev2-eap-tls"):
            content = decode_base64(bundle, "local.p12")
            draft.attach("auth", "certificate", "p12", content, "our certificate and its key")
        else:
            draft.lost(["local.p12"], "EAP needs no certificate of ours")
    elif kind in ("ikev2-cert", "ikev2-eap-tls"):
        draft.set("auth", "certificate", "client.p12")
        draft.warn("our certificate is not in the file: put it beside the profile as client.p12")
    local.ignore("rsa-pss")
    draft.lost(f"local.{key}" for key in local.rest)


def _split(split: Fields | None, draft: Draft) -> None:
    """Android's app sends everything into the tunnel that the gateway grants, unless told otherwise."""
    if split is None:
        return
    if subnets := split.items("subnets"):
        draft.set("network", "routes", subnets)
    if excluded := split.items("excluded"):
        draft.set("network", "exclude", excluded)
    if split.flag("block-ipv4") or split.flag("block-ipv6"):
        draft.warn('not carried over: block-ipv4, block-ipv6 (routes = "all" blocks what the tunnel lacks)')
    draft.lost(f"split-tunneling.{key}" for key in split.rest)
