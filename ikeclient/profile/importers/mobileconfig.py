"""Apple's configuration profiles (`.mobileconfig`): a property list with payloads for VPNs and their certificates.

XML and binary property lists are read. Names and values are those of Apple's "Configuration Profile Reference",
payload `com.apple.vpn.managed`, IKEv2.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ProfileError
from ikeclient.profile.importers import algorithms
from ikeclient.profile.importers.containers import open_bundle
from ikeclient.profile.importers.draft import Ask, Draft, Fields
from ikeclient.profile.importers.eap_host import EAP_TYPES
from ikeclient.profile.importers.on_demand import import_rules
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.importers.swanctl import ANY_EAP, no_card
from ikeclient.profile.model.methods import METHODS, is_eap, uses_card
from ikeclient.wire.text import printable

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
GROUPS = {number: algorithms.GROUPS[number] for number in (*range(14, 22), 31, 32)}
AEAD = ("aes128gcm16", "aes256gcm16", "chacha20poly1305")
_COMMON = (
    *("PayloadType", "PayloadUUID", "PayloadIdentifier", "PayloadVersion", "PayloadDisplayName"),
    *("PayloadDescription", "PayloadOrganization", "PayloadEnabled", "PayloadRemovalDisallowed"),
)


PER_APP = "com.apple.vpn.managed.applayer"
_TTLS_INNER = {"pap": "pap", "mschapv2": "mschapv2", "eap": "eap-mschapv2"}
_ENROLMENT = ("com.apple.security.scep", "com.apple.security.acme", "com.apple.ADCertificate.managed")
_COMMON_NAME = re.compile(r"(?:^|[,+] ?)CN=((?:[^,+\\]|\\.)*)")


def read_mobileconfig(data: bytes, connection: str | None, fallback: str, ask: Ask | None = None) -> Draft:
    """The one VPN payload of IKEv2, or the one called `connection`. Raises ProfileError."""
    root = _property_list(data)
    if root.flag("IsEncrypted") or "EncryptedPayloadContent" in root:
        raise ProfileError(
            "this configuration profile is encrypted for one device",
            hint="ask for one that is not encrypted; only that device can read this one",
        )
    payloads = _payloads(root)
    tunnels = [found for payload in payloads for found in _tunnels(payload, fallback)]
    if not tunnels:
        kinds = sorted({payload.text("VPNType") or "?" for payload in payloads if _type(payload) in VPN})
        reason = f"its VPN is {', '.join(kinds)}" if kinds else "it has no VPN payload"
        raise ProfileError("this configuration profile holds no IKEv2 VPN", reason=reason)
    ours = {name: (payload, ike) for name, payload, ike in tunnels}
    if connection is None and len(ours) > 1:
        raise ProfileError(
            "there are several VPNs in it", reason=f"it holds {', '.join(ours)}", hint="name one with --connection"
        )
    chosen = next(iter(ours)) if connection is None else connection
    if chosen not in ours:
        raise ProfileError("there is no VPN of that name in it", reason=f"it holds {', '.join(ours)}")
    draft = Draft(chosen)
    payload, ike = ours[chosen]
    authorities = [each.secret("PayloadContent") or b"" for each in payloads if _type(each) in AUTHORITIES]
    _vpn(payload, ike, draft)
    if ike.text("AuthenticationMethod") == "SharedSecret" or not _trusts(ike):
        authorities = []
    draft.authorities(authorities)
    _authentication(ike, {each.text("PayloadUUID"): each for each in payloads}, draft, ask)
    for place in (ike, payload, payload.part("EAP")):
        if place is not None and (eap := place.part("EAPClientConfiguration")) is not None:
            _eap_client(eap, draft)
    _constraints(ike, draft)
    _unused(ike, payload, draft)
    others = {_type(each) or "a payload without type" for each in payloads}
    draft.lost(
        sorted(others.difference(VPN, AUTHORITIES, [PKCS12], _ENROLMENT)), "only the VPN and its certificates are"
    )
    return draft


def _trusts(ike: Fields) -> bool:
    """Whether the gateway proves itself with a certificate."""
    return bool(ike.flag("ExtendedAuthEnabled")) or (ike.text("AuthenticationMethod") or "None") == "Certificate"


def _payloads(root: Fields) -> list[Fields]:
    items = root.items("PayloadContent")
    if len(items) > MAX_PAYLOADS:
        raise ProfileError(f"this configuration profile has more than {MAX_PAYLOADS} payloads")
    if not items and _is_vpn(root):
        return [root]  # a payload alone
    return [Fields(item, "a payload") for item in items]


def _tunnels(payload: Fields, fallback: str) -> list[tuple[str, Fields, Fields]]:
    """The tunnels of IKEv2 that a payload describes: name, payload, settings."""
    if _type(payload) not in VPN:
        return []
    name = payload.text("UserDefinedName") or payload.text("PayloadDisplayName") or fallback
    if _is_vpn(payload):
        return [(name, payload, payload.part("IKEv2") or Fields({}, "IKEv2"))]
    always = payload.part("AlwaysOn")
    if always is None:
        return []
    found = [Fields(item, "a tunnel") for item in always.items("TunnelConfigurations")[:MAX_PAYLOADS]]
    found = [each for each in found if (each.text("ProtocolType") or "IKEv2") == "IKEv2"]
    return [(name if number == 1 else f"{name} {number}", payload, each) for number, each in enumerate(found, 1)][:1]


def _property_list(data: bytes) -> Fields:
    binary = data.startswith(b"bplist00")
    try:
        root = plistlib.loads(data, fmt=plistlib.FMT_BINARY if binary else plistlib.FMT_XML)  # refuses entities
    except Exception:  # hostile input makes this parser raise nearly anything
        raise ProfileError("this is not a property list, or it is damaged") from None
    return Fields(root, "the property list")


def _type(payload: Fields) -> str | None:
    return payload.text("PayloadType")


def _is_vpn(payload: Fields) -> bool:
    return _type(payload) in VPN and (payload.text("VPNType") == "IKEv2" or "IKEv2" in payload)


def _vpn(payload: Fields, ike: Fields, draft: Draft) -> None:
    draft.set("gateway", "address", ike.text("RemoteAddress") or "")
    if _type(payload) == PER_APP:
        draft.risk(
            "this VPN was for single apps: here it is for the whole machine (`ikeclient exec` runs one program in it)"
        )
    if "AlwaysOn" in payload:
        draft.risk(
            "always-on is not carried over: without the tunnel traffic leaves this machine as usual; "
            "session.kill_switch = true lets nothing past it from `connect` on"
        )
        always = payload.part("AlwaysOn")
        if always is not None and len(always.items("TunnelConfigurations")) > 1:
            draft.lost(["the tunnels beside the first of AlwaysOn"], "one profile is one tunnel")
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
    _dns(payload.part("DNS") or ike.part("DNS"), draft)


def _dns(dns: Fields | None, draft: Draft) -> None:
    if dns is None:
        return
    servers = [str(item) for item in dns.items("ServerAddresses") if networks_of(str(item))]
    domains = [
        str(item).strip(".")
        for key in ("SupplementalMatchDomains", "SearchDomains")
        for item in dns.items(key)
        if str(item).strip(".")
    ]
    if name := dns.text("DomainName"):
        domains.append(name.strip("."))
    draft.dns(servers, domains)
    if (protocol := dns.text("DNSProtocol")) and protocol != "Cleartext":
        draft.risk(f"DNS over {protocol} is not carried over: the servers are asked in the clear, inside the tunnel")
    dns.ignore("DNSProtocol", "SupplementalMatchDomainsNoSearch")


def _authentication(ike: Fields, by_uuid: Mapping[str | None, Fields], draft: Draft, ask: Ask | None) -> None:
    method, eap = ike.text("AuthenticationMethod") or "None", bool(ike.flag("ExtendedAuthEnabled"))
    if method not in ("None", "SharedSecret", "Certificate"):
        raise ProfileError(f"the authentication method {method!a} is not known")
    account, password, psk = ike.text("AuthName"), ike.secret("AuthPassword"), ike.secret("SharedSecret")
    names_certificate = bool(ike.text("PayloadCertificateUUID"))
    own = by_uuid.get(ike.text("PayloadCertificateUUID")) if names_certificate else None
    if eap and method == "SharedSecret":
        raise ProfileError(
            "the gateway proves itself with a shared secret and then asks for EAP in this profile",
            reason="everybody with that secret could pose as the gateway and ask for passwords (RFC 7296, 2.16)",
            hint="let the gateway have a certificate",
        )
    if eap and method == "Certificate" and names_certificate:
        draft.set("auth", "method", "eap-tls")
    elif eap:  # without a certificate of ours it is a password
        draft.set("auth", "method", "eap")
    elif method == "Certificate":
        draft.set("auth", "method", "certificate")
    else:  # None without EAP means a shared secret, says Apple's reference
        draft.set("auth", "method", "psk")
    if draft.method in ("eap", "eap-tls"):
        draft.set("auth", "user", account)
    draft.identity("gateway", ike.text("RemoteIdentifier"))
    draft.identity("auth", ike.text("LocalIdentifier"))
    if draft.method == "psk":
        draft.psk(psk)
    elif draft.method == "eap":
        draft.password(password)
        if not account and not ike.text("LocalIdentifier"):
            draft.warn("the user name is not in the file: set auth.user, or give --user")
    else:
        _certificate(own, draft, ask)


def _eap_client(eap: Fields, draft: Draft) -> None:
    """What is said of EAP as for other networks: the methods, what is inside of TLS, and who the server must be."""
    accepted = [EAP_TYPES.get(str(number), "") for number in eap.items("AcceptEAPTypes")]
    methods = [method for method in dict.fromkeys(accepted) if method]
    unknown = [str(number) for number in eap.items("AcceptEAPTypes") if str(number) not in EAP_TYPES]
    draft.lost([f"EAP of the types {', '.join(unknown)}"] if unknown else [], "they are not supported")
    if is_eap(draft.method) and len(methods) == 1:
        draft.set("auth", "method", methods[0])
    elif is_eap(draft.method) and methods:
        draft.set("auth", "method", "eap")
        draft.warn(f"the methods {', '.join(methods)} may be used there; {ANY_EAP}")
    elif unknown:
        raise ProfileError(f"the EAP methods of type {printable(', '.join(unknown), 60)} in it are not supported")
    over_tls = METHODS[draft.method].over_tls if draft.method in METHODS else False
    inner = eap.text("TTLSInnerAuthentication")
    if draft.method == "eap-ttls":
        draft.set("auth", "inner", _TTLS_INNER.get((inner or "MSCHAPv2").lower()))
        if not draft.has("auth", "inner"):
            draft.warn(f"not carried over: {printable(inner or '', 40)} inside eap-ttls (set auth.inner)")
    if over_tls:
        draft.set("auth", "anonymous_identity", eap.text("OuterIdentity") or None)
        names = eap.words("TLSTrustedServerNames")
        plain = [name for name in names if "*" not in name]
        draft.set("auth", "server_name", plain[0] if plain else None)
        if others := [printable(name, 60) for name in names if name not in plain[:1]]:
            asked = plain[0] if plain else "the gateway's identity"
            draft.warn(f"not carried over: the server name {', '.join(others)}: {asked} is demanded (auth.server_name)")
    if uses_card(draft.method):
        draft.warn(no_card("auth"))
    draft.set("auth", "user", draft.tables["auth"].get("user") or eap.text("UserName"))
    if not draft.has("auth", "password"):
        draft.password(eap.secret("UserPassword"))
    eap.ignore("OuterIdentity", "TLSTrustedServerNames", "TTLSInnerAuthentication", "UserPassword", "UserName")
    eap.ignore("TLSMinimumVersion", "TLSMaximumVersion", "OneTimeUserPassword", "TLSCertificateIsRequired")
    eap.ignore("PayloadCertificateAnchorUUID", "EAPSIMNumberOfRANDs", "SystemModeCredentialsSource")
    draft.lost(key for key in eap.rest if not eap.is_off(key))


def _certificate(payload: Fields | None, draft: Draft, ask: Ask | None) -> None:
    content = payload.secret("PayloadContent") if payload is not None and _type(payload) == PKCS12 else None
    if payload is not None and _type(payload) in _ENROLMENT:
        draft.warn(
            f"our certificate is issued to each device ({_type(payload)}), so it is not in the file: "
            "set auth.certificate, or give --p12 FILE"
        )
    elif payload is None or not content:
        draft.warn("our certificate is not in the file: set auth.certificate, or give --p12 FILE")
    else:
        passphrase = payload.secret("Password")
        draft.own("auth", "certificate", "p12", content, "our certificate and its key")
        draft.passphrase(passphrase)
        open_bundle(draft, content, passphrase, ask)


def _constraints(ike: Fields, draft: Draft) -> None:
    """What the gateway's certificate must be like."""
    issuer, common_name = ike.text("ServerCertificateIssuerCommonName"), ike.text("ServerCertificateCommonName")
    if draft.method == "psk":
        return
    if issuer:
        known = _common_names(draft)
        if not known:
            draft.risk(
                f"gateway.ca is not set, so all public authorities are trusted: the gateway's certificate must come "
                f"from {issuer!a}; name its certificate, or give --ca FILE"
            )
        elif known != {issuer}:
            draft.risk(f"not enforced: the gateway's certificate must come from {issuer!a} alone")
    if common_name and common_name != draft.tables["gateway"].get("identity"):
        draft.risk(f"not enforced: the common name of the gateway's certificate must be {common_name!a}")
    if ike.flag("EnableCertificateRevocationCheck"):
        draft.set("gateway", "revocation", "relaxed")  # Apple: best effort, a failure to ask is none


def _common_names(draft: Draft) -> set[str]:
    """The common names of the authorities that were found."""
    bundle = next((item.data for item in draft.attachments if item.key == ("gateway", "ca")), None)
    found: set[str] = set()
    for certificate in Certificate.load_many(bundle) if bundle else ():
        match = _COMMON_NAME.search(certificate.subject)
        found.add(re.sub(r"\\(.)", r"\1", match[1]) if match else certificate.subject)
    return found


def _unused(ike: Fields, payload: Fields, draft: Draft) -> None:
    """Warn about what is left; nothing is said about what is switched off."""
    on_demand = bool(ike.flag("OnDemandEnabled") or payload.flag("OnDemandEnabled"))
    if on_demand:
        rules = ike.items("OnDemandRules") or payload.items("OnDemandRules")
        import_rules(rules, draft)
        if draft.has("when", "rules"):
            draft.warn("`ikeclient watch` connects and disconnects as OnDemandRules say")
        else:
            draft.lost(["OnDemandEnabled"], "a tunnel starts with `ikeclient connect`, or as a systemd service")
    for fields in (ike, payload):
        fields.ignore("OnDemandEnabled", "OnDemandRules", "OnDemandUserOverrideDisabled", "OnDemandMatchDomainsAlways")
        fields.ignore("OnDemandMatchDomainsNever", "OnDemandMatchDomainsOnRetry", "ExcludeLocalNetworks")
        for key in ("ExcludeAPNs", "ExcludeCellularServices", "ExcludeDeviceCommunication", "EnforceRoutes"):
            fields.ignore(key)
        for key in ("Proxies", "Proxy"):
            proxies = fields.mapping(key)
            if any(proxies.get(name) for name in ("HTTPEnable", "HTTPSEnable", "SOCKSEnable", "ProxyAutoConfigEnable")):
                draft.lost([key], "proxies are set in programs, not by the tunnel")
            fields.ignore(key)
        if fields.flag("DisconnectOnIdle"):
            draft.lost(["DisconnectOnIdle"], "the tunnel stays until `ikeclient disconnect`")
        if fields.flag("IncludeAllNetworks"):
            draft.risk(
                "IncludeAllNetworks also drops traffic without the tunnel there: here only while it is lost; "
                "session.kill_switch = true does both"
            )
    if identity := ike.text("PPKIdentifier"):
        mandatory = ike.flag("PPKMandatory") if "PPKMandatory" in ike else True
        draft.post_quantum(identity, ike.secret("PPK"), required=bool(mandatory))
    elif "PPK" in ike:
        draft.risk("the post-quantum preshared key (PPK, RFC 8784) is not used: PPKIdentifier is missing")
    ike.ignore("PPK", "PPKIdentifier", "PPKMandatory", "UseConfigurationAttributeInternalIPSubnet", "CertificateType")
    # Said by us anyway, or without any meaning for a client that is started by hand.
    ike.ignore("NATKeepAliveInterval", "TLSMinimumVersion", "TLSMaximumVersion", "NATKeepAliveOffloadEnable")
    ike.ignore("DisableRedirect", "EnableFallback", "DisconnectOnIdleTimer", "ProtocolType", "Interfaces")
    ike.ignore("ServerCertificateIssuerCommonName", "ServerCertificateCommonName", "MTU", "DisableMOBIKE")
    ike.ignore(
        "AuthPassword", "AuthName", "SharedSecret", "LocalIdentifier", "RemoteIdentifier", "PayloadCertificateUUID"
    )
    ike.ignore("EnableCertificateRevocationCheck", "AllowPostQuantumKeyExchangeFallback", "ChildlessIKEEnabled")
    if (providers := ike.text("ProviderBundleIdentifier") or ike.text("ProviderType")) is not None:
        draft.lost([providers], "no app takes part here")
    payload.ignore("VPNUUID")
    payload.ignore(*_COMMON, "VPNType", "UserDefinedName", "IKEv2", "AlwaysOn", "DisconnectOnIdleTimer", "PayloadScope")
    ike.ignore("EAPClientConfiguration")
    payload.ignore("EAPClientConfiguration")
    payload.ignore(
        "VPNSubType", "VendorConfig", "PPP", "IPSec", "VPN", "EAP", "TransparentProxy", "RemoteAddress", "AuthName"
    )
    for fields in (ike, payload):
        draft.lost(key for key in fields.rest if not fields.is_off(key))


def _algorithms(ike: Fields, draft: Draft) -> None:
    """The parameters of the IKE SA also hold for the Child SA if it has none of its own, says Apple's reference."""
    pfs = bool(ike.flag("EnablePFS"))
    ike_parameters = ike.part("IKESecurityAssociationParameters")
    child_parameters = ike.part("ChildSecurityAssociationParameters")
    if ike_parameters is not None:
        _suite("ike", ike_parameters, pfs, draft)
    if child_parameters is not None:
        _suite("esp", child_parameters, pfs, draft)
    elif ike_parameters is not None:
        _suite("esp", ike_parameters, pfs, draft, lifetime=False)


def _suite(kind: Any, parameters: Fields, pfs: bool, draft: Draft, *, lifetime: bool = True) -> None:
    encryption = parameters.text("EncryptionAlgorithm") or "AES-256"
    integrity = parameters.text("IntegrityAlgorithm") or "SHA2-256"
    group = parameters.number("DiffieHellmanGroup") or 14
    parts: Sequence[str | None] = [ENCRYPTION.get(encryption), INTEGRITY.get(integrity), GROUPS.get(group)]
    aead = parts[0] in AEAD
    words = [
        parts[0],
        (f"prf{parts[1]}" if kind == "ike" else "") if aead and parts[1] else parts[1],
        "" if kind == "esp" and not pfs else parts[2],
    ]
    if None in words:
        named = f"{encryption}, {integrity}, group {group}"
        draft.lost([f"the {kind} algorithms {named}"], "ikeclient's own proposals are offered")
    else:
        draft.proposals(kind, ["-".join(word for word in words if word)])
    minutes = parameters.number("LifeTimeInMinutes")
    if minutes and lifetime:
        key = "rekey_ike" if kind == "ike" else "rekey_child"
        draft.set("session", key, min(max(minutes, 1), 7 * 1440) * 60)
    parameters.ignore("LifeTimeInMinutes", "PostQuantumKeyExchangeMethods")
    if parameters.items("PostQuantumKeyExchangeMethods"):
        draft.risk("the post-quantum key exchange is not carried over: it is not supported")
    draft.lost(parameters.rest)
