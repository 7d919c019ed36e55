"""The point-to-site profile of an Azure VPN gateway: `Generic/VpnSettings.xml` with `VpnServerRoot.cer` beside it."""

from __future__ import annotations

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.importers.swanctl import listed
from ikeclient.profile.importers.xml import parse_xml
from ikeclient.profile.model.methods import uses_certificate
from ikeclient.wire.text import printable

_METHODS = {"eaptls": "eap-tls", "eapmschapv2": "eap-mschapv2", "certificate": "certificate", "radius": "eap"}
_SUFFIXES = (".cer", ".cer_0", ".crt", ".pem", "")


def read_azure(data: bytes, fallback: str, place: Neighbours) -> Draft:
    """The tunnel of VpnSettings.xml. Raises ProfileError."""
    root = parse_xml(data)
    kinds = [kind.lower() for kind in listed(root.value("VpnType"))]
    if kinds and "ikev2" not in kinds:
        raise ProfileError(
            f"this gateway is set up for {', '.join(printable(kind, 20) for kind in kinds)}",
            hint="let the Azure administrator add IKEv2 to the tunnel types",
        )
    draft = Draft(root.value("VpnServer").partition(".")[0] or fallback)
    written = root.value("Auth")
    method = _METHODS.get(written.lower().replace("-", "").replace("_", ""))
    if method is None:
        raise ProfileError(f"the authentication {printable(written, 40)!a} is not known")
    draft.set("auth", "method", method)
    draft.set("gateway", "address", root.value("VpnServer"))
    _authority(root.value("CaCert"), place, draft)
    networks = [network for item in listed(root.value("Routes")) for network in networks_of(item)]
    draft.set("network", "routes", networks or None)
    servers = [item for item in listed(root.value("CustomDnsServers")) if networks_of(item) and "/" not in item]
    draft.dns(servers, [])
    if uses_certificate(method):
        draft.warn("our certificate is not in the file: set auth.certificate, or give --p12 FILE")
    else:
        draft.warn("the user name is not in the file: set auth.user, or give --user")
    return draft


def _authority(name: str, place: Neighbours, draft: Draft) -> None:
    """The authority is named without its suffix, and some Azure gateways number it."""
    safe = name if name and "/" not in name and "\\" not in name else ""
    for suffix in _SUFFIXES if safe else ():
        data = place.read(safe + suffix)
        if data is None:
            continue
        try:
            Certificate.load_many(data)
        except ProfileError:
            continue
        if place.attached:
            draft.authorities([data])
        else:
            draft.set("gateway", "ca", [place.path(safe + suffix)])
        return
    if safe and place.root is not None:
        draft.set("gateway", "ca", [place.path(f"{safe}.cer")])
    draft.risk(
        f"the gateway's authority {printable(name, 40) or 'of VpnServerRoot.cer'} is not beside the file: "
        "gateway.ca has to name it; import the whole zip, or give --ca FILE"
    )
