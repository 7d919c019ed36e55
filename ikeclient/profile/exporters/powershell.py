"""A profile as the PowerShell commands that set it up in Windows' own client. They hold no secret."""

from __future__ import annotations

from collections.abc import Mapping

from ikeclient.profile.exporters.eap_host import write_eap_host
from ikeclient.profile.exporters.parts import Parts, unable
from ikeclient.profile.importers.windows import CIPHERS
from ikeclient.profile.model import proposals
from ikeclient.profile.model.methods import is_eap

_METHODS = {
    "certificate": "MachineCertificate",
    **dict.fromkeys(("eap", "eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap"), "Eap"),
}
_HASHES = {"sha1": "SHA1", "sha256": "SHA256", "sha384": "SHA384"}
_TRANSFORMS = {"sha1": "SHA196", "sha256": "SHA256128"}
_GROUPS = {"modp2048": "Group14", "ecp256": "ECP256", "ecp384": "ECP384"}
_PFS_GROUPS = {"modp2048": "PFS2048", "ecp256": "ECP256", "ecp384": "ECP384"}
_CARRIED = frozenset(
    {
        *("gateway.address", "auth.method", "auth.identity", "auth.user", "auth.password", "auth.certificate"),
        *("auth.key", "auth.key_passphrase", "gateway.ca", "gateway.identity", "crypto.ike", "crypto.esp"),
        *("network.routes", "auth.inner", "auth.anonymous_identity", "auth.server_name", "auth.server_ca"),
    }
)


def write_powershell(parts: Parts) -> bytes:
    """The text of the script. Raises ProfileError for a method that Windows' client does not have."""
    profile, auth = parts.profile, parts.profile.auth
    if auth.method not in _METHODS:
        raise unable(auth.method, "Windows' client")
    name = _quoted(parts.loaded.name)
    add = f"Add-VpnConnection -Name {name} -ServerAddress {_quoted(parts.only_address())} -TunnelType Ikev2"
    add += f" -AuthenticationMethod {_METHODS[auth.method]} -EncryptionLevel Required"
    if profile.network.routes != "all":
        add += " -SplitTunneling"
    lines = [add]
    if (settings := write_eap_host(parts)) is not None:
        lines = [f"$eap = [xml]'{settings}'", f"{add} -EapConfigXmlStream $eap"]
    if suite := _suite(parts):
        lines.append(f"Set-VpnConnectionIPsecConfiguration -ConnectionName {name} {suite} -Force")
    if not isinstance(profile.network.routes, str):
        add_route = f"Add-VpnConnectionRoute -ConnectionName {name} -DestinationPrefix"
        lines += [f"{add_route} {route}" for route in profile.network.routes]
    _losses(parts)
    return ("\r\n".join(lines) + "\r\n").encode()


def _losses(parts: Parts) -> None:
    auth, gateway = parts.profile.auth, parts.profile.gateway
    if auth.method == "eap":
        parts.lost("auth.method eap", "without settings of EAP Windows takes EAP-MSCHAPv2")
    if auth.certificate is not None:
        parts.lost("auth.certificate, auth.key", "import them into the machine's certificate store")
    if is_eap(auth.method) and (parts.user or auth.password is not None):
        parts.lost("auth.user, auth.password", "Windows asks for them")
    if auth.method == "certificate" and auth.identity:
        parts.lost("auth.identity", "Windows sends the certificate's subject")
    if gateway.ca:
        parts.lost("gateway.ca", "import it into the machine's root store")
    if gateway.identity is not None and gateway.identity != gateway.address[0]:
        parts.lost("gateway.identity", "the certificate has to name the server address")
    parts.lost_others(_CARRIED)


def _suite(parts: Parts) -> str:
    """The options for the first proposals, if Windows has all of their algorithms."""
    crypto = parts.profile.crypto
    for key, texts in (("crypto.ike", crypto.ike), ("crypto.esp", crypto.esp)):
        if len(texts) > 1 and key.removeprefix("crypto.") in crypto.model_fields_set:
            parts.lost(f"{key} beyond the first proposal", "there is room for one")
    ike, esp = proposals.parse_ike(crypto.ike[0]), proposals.parse_esp(crypto.esp[0])
    names = {ours: theirs for theirs, ours in CIPHERS.items()}
    cipher = names.get(esp.encryption[0].keyword)
    chosen = {
        "AuthenticationTransformConstants": cipher
        if esp.encryption[0].aead
        else _known(_TRANSFORMS, [each.keyword for each in esp.integrity]),
        "CipherTransformConstants": cipher,
        "EncryptionMethod": names.get(ike.encryption[0].keyword),
        "IntegrityCheckMethod": _known(_HASHES, [each.keyword.removeprefix("prf") for each in ike.prf]),
        "DHGroup": _known(_GROUPS, [each.keyword for each in ike.key_exchange]),
        "PfsGroup": _known(_PFS_GROUPS, [each.keyword for each in esp.key_exchange]) if esp.key_exchange else "None",
    }
    if None in chosen.values():
        parts.lost("crypto.ike, crypto.esp", "Windows does not have all algorithms of the first proposals")
        return ""
    return " ".join(f"-{key} {value}" for key, value in chosen.items())


def _known(table: Mapping[str, str], keywords: list[str]) -> str | None:
    return next((table[keyword] for keyword in keywords if keyword in table), None)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
