"""Apple's configuration profiles (`.mobileconfig`): an XML property list with payloads for VPNs and their certificates.

Names and values are those of Apple's "Configuration Profile Reference", payload `com.apple.vpn.managed`, IKEv2.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft, Fields

VPN = ("com.apple.vpn.managed", "com.apple.vpn.managed.applayer")
AUTHORITIES = ("com.apple.security.root", "com.apple.security.pkcs1", "com.apple.security.pem")
PKCS12 = "com.apple.security.pkcs12"
MAX_PAYLOADS = 100

LIVENESS = {"None": 0, "Low": 1800, "Medium": 600, "High": 60}  # seconds
ENCRYPTION = {
    "AES-128": "aes128",
    "AES-256": "aes256",
    "AES-128-GCM": "aes128gcm16",
    "AES-256-GCM": "aes256gcm16",
    "ChaCha20Poly1305": "chacha20poly1305",
}
INTEGRITY = {"SHA1-96": "sha1", "SHA2-256": "sha256", "SHA2-384": "sha384", "SHA2-512": "sha512"}
GROUPS = {
    14: "modp2048",
    15: "modp3072",
    16: "modp4096",
    17: "modp6144",
    18: "modp8192",
    19: "ecp256",
    20: "ecp384",
    21: "ecp521",
    31: "x25519",
    32: "x448",
}
AEAD = ("aes128gcm16", "aes256gcm16", "chacha20poly1305")
_COMMON = (
    *("PayloadType", "PayloadUUID", "PayloadIdentifier", "PayloadVersion", "PayloadDisplayName"),
    *("PayloadDescription", "PayloadOrganization", "PayloadEnabled", "PayloadRemovalDisallowed"),
)


def read_mobileconfig(data: bytes, connection: str | None, fallback: str) -> Draft:
    """The one VPN payload of IKEv2, or the one called `connection`. Raises ProfileError."""
    root = _property_list(data)
    payloads = [Fields(item, "a payload") for item in root.items("PayloadContent")[:MAX_PAYLOADS]]
    ours = {_name(payload, fallback): payload for payload in payloads if _is_vpn(payload)}
    if not ours:
        raise ProfileError("this configuration profile holds no IKEv2 VPN")
    if connection is None and len(ours) > 1:
        raise ProfileError(
            "there are several VPNs in it", reason=f"it holds {', '.join(ours)}", hint="name one with --connection"
        )
    chosen = next(iter(ours)) if connection is None else connection
    if chosen not in ours:
        raise ProfileError("there is no VPN of that name in it", reason=f"it holds {', '.join(ours)}")
    draft = Draft(chosen)
    _vpn(ours[chosen], {payload.text("PayloadUUID"): payload for payload in payloads}, draft)
    authorities = [payload.secret("PayloadContent") or b"" for payload in payloads if _type(payload) in AUTHORITIES]
    if draft.tables["auth"]["method"] != "psk":
        draft.authorities(authorities)
    others = {_type(payload) or "a payload without type" for payload in payloads}
    draft.lost(sorted(others.difference(VPN, AUTHORITIES, [PKCS12])), "only the VPN and its certificates are")
    return draft


def _property_list(data: bytes) -> Fields:
    if data[:1] == b"\x30":
        hint = "openssl smime -verify -noverify -inform DER -in FILE | ikeclient profile import -"
        raise ProfileError("this configuration profile is signed", hint=hint)
    try:
        root = plistlib.loads(data, fmt=plistlib.FMT_XML)  # refuses every declaration of an entity
    except Exception:  # hostile input makes this parser raise nearly anything
        raise ProfileError("this is not a property list in XML") from None
    return Fields(root, "the property list")


def _type(payload: Fields) -> str | None:
    return payload.text("PayloadType")


def _is_vpn(payload: Fields) -> bool:
    return _type(payload) in VPN and (payload.text("VPNType") == "IKEv2" or "IKEv2" in payload)


def _name(payload: Fields, fallback: str) -> str:
    return payload.text("UserDefinedName") or payload.text("PayloadDisplayName") or fallback


def _vpn(payload: Fields, by_uuid: Mapping[str | None, Fields], draft: Draft) -> None:
    ike = payload.part("IKEv2") or Fields({}, "IKEv2")
    draft.set("gateway", "address", ike.text("RemoteAddress") or "")
    draft.set("gateway", "identity", ike.text("RemoteIdentifier"))
    _authentication(ike, by_uuid, draft)
    _algorithms(ike, draft)
    if rate := ike.text("DeadPeerDetectionRate"):
        draft.set("session", "liveness", LIVENESS.get(rate))
    if ike.flag("DisableMOBIKE"):
        draft.set("session", "mobike", False)
    if mtu := ike.number("MTU"):
        draft.set("network", "mtu", mtu)
    ipv4 = payload.part("IPv4")
    everything = ipv4 is not None and ipv4.flag("OverridePrimary")
    if ike.flag("IncludeAllNetworks") or payload.flag("IncludeAllNetworks") or everything:
        draft.set("network", "routes", "all")
        if ike.flag("ExcludeLocalNetworks") or payload.flag("ExcludeLocalNetworks"):
            draft.set("network", "exclude", ["lan"])
    # Said by us anyway, or without any meaning for a client that is started by hand.
    ike.ignore("NATKeepAliveInterval", "EnableCertificateRevocationCheck", "TLSMinimumVersion", "TLSMaximumVersion")
    ike.ignore("UseConfigurationAttributeInternalIPSubnet", "CertificateType", "DisableRedirect", "EnableFallback")
    ike.ignore("NATKeepAliveOffloadEnable", "DisconnectOnIdle", "DisconnectOnIdleTimer")
    payload.ignore(*_COMMON, "VPNType", "UserDefinedName")
    draft.lost(ike.rest)
    draft.lost(payload.rest)


def _authentication(ike: Fields, by_uuid: Mapping[str | None, Fields], draft: Draft) -> None:
    method, eap = ike.text("AuthenticationMethod") or "None", bool(ike.flag("ExtendedAuthEnabled"))
    account, password, psk = ike.text("AuthName"), ike.secret("AuthPassword"), ike.secret("SharedSecret")
    draft.set("auth", "identity", ike.text("LocalIdentifier"))
    certificate = by_uuid.get(ike.text("PayloadCertificateUUID")) if "PayloadCertificateUUID" in ike else None
    issuer, common_name = ike.text("ServerCertificateIssuerCommonName"), ike.text("ServerCertificateCommonName")
    if issuer and not any(_type(payload) in AUTHORITIES for payload in by_uuid.values()):
        draft.warn(f"gateway.ca is not set: put the certificate of {issuer} there, unless it is a public authority")
    if common_name and common_name != draft.tables["gateway"].get("identity"):
        draft.lost(["ServerCertificateCommonName"], "the gateway is known by RemoteIdentifier")
    if eap:
        if method == "SharedSecret":
            draft.warn(
                "the gateway proves itself with a shared secret and then asks for EAP: this is not possible here"
            )
        draft.set("auth", "method", "eap-tls" if method == "Certificate" else "eap")
        draft.set("auth", "user", account)
        if password and method != "Certificate":
            draft.attach("auth", "password", "pw", password, "the password")
    elif method == "SharedSecret":
        draft.set("auth", "method", "psk")
        draft.attach("auth", "psk", "psk", psk, "the shared secret") if psk else draft.set(
            "auth", "psk", {"prompt": True}
        )
    elif method == "Certificate":
        draft.set("auth", "method", "certificate")
    else:
        raise ProfileError(f"the authentication method {method!a} without EAP is not possible")
    if method == "Certificate":
        _certificate(certificate, draft)


def _certificate(payload: Fields | None, draft: Draft) -> None:
    content = payload.secret("PayloadContent") if payload is not None and _type(payload) == PKCS12 else None
    if payload is None or not content:
        draft.set("auth", "certificate", "client.p12")
        draft.warn("our certificate is not in the file: put it beside the profile as client.p12")
        return
    draft.attach("auth", "certificate", "p12", content, "our certificate and its key")
    if passphrase := payload.secret("Password"):
        draft.attach("auth", "key_passphrase", "passphrase", passphrase, "the passphrase of our key")


def _algorithms(ike: Fields, draft: Draft) -> None:
    pfs = bool(ike.flag("EnablePFS"))
    for key, kind, lifetime in (
        ("IKESecurityAssociationParameters", "ike", "rekey_ike"),
        ("ChildSecurityAssociationParameters", "esp", "rekey_child"),
    ):
        parameters = ike.part(key)
        if parameters is None:
            continue
        encryption = parameters.text("EncryptionAlgorithm") or "AES-256"
        integrity = parameters.text("IntegrityAlgorithm") or "SHA2-256"
        group = parameters.number("DiffieHellmanGroup") or 14
        parts = [ENCRYPTION.get(encryption), INTEGRITY.get(integrity), GROUPS.get(group)]
        if parts[0] in AEAD:
            parts[1] = f"prf{parts[1]}" if kind == "ike" else ""
        if kind == "esp" and not pfs:
            parts[2] = ""
        if None in parts:
            draft.lost([f"{key} {encryption}, {integrity}, group {group}"], "ikeclient's own proposals are offered")
        else:
            draft.proposals("ike" if kind == "ike" else "esp", ["-".join(part for part in parts if part)])
        if minutes := parameters.number("LifeTimeInMinutes"):
            draft.set("session", lifetime, min(max(minutes, 1), 7 * 1440) * 60)
        draft.lost(parameters.rest)
