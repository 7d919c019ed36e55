"""A profile as Apple's `.mobileconfig`, which iPhones, iPads and Macs install."""

from __future__ import annotations

import plistlib
import uuid
from typing import Any

from ikeclient.profile.exporters.parts import Parts, text_of, unable
from ikeclient.profile.importers.mobileconfig import ENCRYPTION, GROUPS, INTEGRITY, LIVENESS, PKCS12
from ikeclient.profile.model import proposals
from ikeclient.profile.model.methods import uses_certificate

_CARRIED = frozenset(
    {
        *(
            "gateway.address",
            "gateway.identity",
            "gateway.ca",
            "gateway.revocation",
            "auth.method",
            "auth.identity",
            "auth.user",
            "auth.psk",
        ),
        *("auth.password", "auth.certificate", "auth.key", "auth.key_passphrase", "crypto.ike", "crypto.esp"),
        *("network.routes", "network.exclude", "network.mtu", "network.dns_servers", "network.dns_domains"),
        *("ppk.id", "ppk.secret", "ppk.required"),
        *("session.mobike", "session.liveness", "session.rekey_ike", "session.rekey_child"),
    }
)
_SPACE = uuid.UUID("6f6b2f3a-0c55-5f0e-9d5e-6a1b0f2f7f11")


def write_mobileconfig(parts: Parts) -> bytes:
    """The XML of the configuration profile. Raises ProfileError for a method that Apple's client does not have."""
    profile, name = parts.profile, parts.loaded.name
    ike: dict[str, Any] = {"RemoteAddress": parts.only_address(), "RemoteIdentifier": parts.gateway_identity}
    ike["LocalIdentifier"] = profile.auth.identity or ""
    if "revocation" in profile.gateway.model_fields_set and profile.gateway.revocation != "off":
        ike["EnableCertificateRevocationCheck"] = 1
        if profile.gateway.revocation != "relaxed":
            parts.lost(f"gateway.revocation {profile.gateway.revocation}", "what nobody can tell is accepted there")
    payloads = _authentication(parts, ike)
    _post_quantum(parts, ike)
    _settings(parts, ike)
    vpn = _payload("com.apple.vpn.managed", name, "vpn") | {
        "UserDefinedName": name,
        "VPNType": "IKEv2",
        "IKEv2": ike,
        "IPv4": {"OverridePrimary": int(profile.network.routes == "all")},
        **_dns(parts),
    }
    root = _payload("Configuration", name, "root") | {"PayloadContent": [vpn, *payloads]}
    return plistlib.dumps(root)


def _payload(kind: str, name: str, part: str) -> dict[str, Any]:
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"ikeclient.{name}.{part}",
        "PayloadUUID": str(uuid.uuid5(_SPACE, f"{name}/{part}")).upper(),
        "PayloadDisplayName": name,
    }


def _authentication(parts: Parts, ike: dict[str, Any]) -> list[dict[str, Any]]:
    """Fill in how both sides prove themselves; returns the payloads with certificates."""
    auth, name = parts.profile.auth, parts.loaded.name
    payloads = [
        _payload("com.apple.security.root", name, f"ca{number}") | {"PayloadContent": authority.der}
        for number, authority in enumerate(parts.authorities())
    ]
    method = auth.method
    if method == "psk":
        ike["AuthenticationMethod"] = "SharedSecret"
        if psk := text_of(parts.psk(), "auth.psk", parts):
            ike["SharedSecret"] = psk
    elif uses_certificate(method):
        ike |= {"AuthenticationMethod": "Certificate", "ExtendedAuthEnabled": int(method == "eap-tls")}
        if bundle := parts.pkcs12():
            own = _payload(PKCS12, name, "client") | {"PayloadContent": bundle[0], "PayloadCertificateFileName": "p12"}
            if passphrase := text_of(bundle[1], "auth.key_passphrase", parts):
                own["Password"] = passphrase
            payloads.append(own)
            ike["PayloadCertificateUUID"] = own["PayloadUUID"]
    elif method in ("eap", "eap-mschapv2", "eap-peap", "eap-ttls"):
        ike |= {"AuthenticationMethod": "None", "ExtendedAuthEnabled": 1, "AuthName": parts.user or ""}
        if method != "eap":
            parts.lost(f"auth.method {method}", "Apple's client takes what the gateway asks for")
        if password := text_of(parts.password(), "auth.password", parts):
            ike["AuthPassword"] = password
    else:
        raise unable(method, "a .mobileconfig")
    return payloads


def _post_quantum(parts: Parts, ike: dict[str, Any]) -> None:
    ppk = parts.profile.ppk
    if ppk is None:
        return
    ike |= {"PPKIdentifier": ppk.id, "PPKMandatory": int(ppk.required)}
    if key := text_of(parts.post_quantum_key(), "ppk.secret", parts):
        ike["PPK"] = key


def _settings(parts: Parts, ike: dict[str, Any]) -> None:
    network, session = parts.profile.network, parts.profile.session
    ike["DeadPeerDetectionRate"] = _rate(session.liveness)
    ike["DisableMOBIKE"] = int(not session.mobike)
    if LIVENESS[ike["DeadPeerDetectionRate"]] != session.liveness and "liveness" in session.model_fields_set:
        parts.lost("session.liveness", f"{ike['DeadPeerDetectionRate']} is the nearest there")
    if network.mtu:
        ike["MTU"] = network.mtu
    if network.routes == "all" and "lan" in network.exclude:
        ike["ExcludeLocalNetworks"] = 1
    elif "lan" in network.exclude:
        parts.lost('network.exclude "lan"', "it goes with a full tunnel only")
    if network.routes not in ("all", "gateway"):
        parts.lost("network.routes", "the gateway decides there")
    if set(network.exclude) - {"lan"}:
        parts.lost("network.exclude", "there is no such setting there")
    _algorithms(parts, ike)
    parts.lost_others(_CARRIED)


def _dns(parts: Parts) -> dict[str, Any]:
    network = parts.profile.network
    if not network.dns_servers:
        if network.dns_domains:
            parts.lost("network.dns_domains", "they go with servers of their own there")
        return {}
    domains = {"SupplementalMatchDomains": list(network.dns_domains)} if network.dns_domains else {}
    return {"DNS": {"ServerAddresses": [str(server) for server in network.dns_servers], **domains}}


def _rate(liveness: int) -> str:
    """The word for the next shorter time, the shortest for whatever is below that."""
    if not liveness:
        return "None"
    fitting = [word for word, seconds in LIVENESS.items() if 0 < seconds <= liveness]
    return max(fitting, key=LIVENESS.__getitem__, default="High")


def _algorithms(parts: Parts, ike: dict[str, Any]) -> None:
    """The first proposal of each kind: there is room for one algorithm each."""
    crypto, session = parts.profile.crypto, parts.profile.session
    first = proposals.parse_ike(crypto.ike[0])
    child = proposals.parse_esp(crypto.esp[0])
    hashes = [prf.keyword.removeprefix("prf") for prf in first.prf]
    ike["EnablePFS"] = int(bool(child.key_exchange))
    for key, proposal, integrity, seconds in (
        ("IKESecurityAssociationParameters", first, hashes, session.rekey_ike),
        ("ChildSecurityAssociationParameters", child, [i.keyword for i in child.integrity], session.rekey_child),
    ):
        groups = proposal.key_exchange or first.key_exchange
        wanted = (
            _named(ENCRYPTION, [cipher.keyword for cipher in proposal.encryption]),
            _named(INTEGRITY, integrity or ["sha256"]),
            next((number for group in groups for number, name in GROUPS.items() if name == group.keyword), None),
        )
        if None in wanted:
            parts.lost(key, "no algorithm of the first proposal is known there")
            continue
        minutes = min(max(seconds // 60, 10), 1440)
        if minutes * 60 != seconds:
            parts.lost(f"the lifetime of {seconds} seconds in {key}", f"it becomes {minutes} minutes")
        ike[key] = {
            "EncryptionAlgorithm": wanted[0],
            "IntegrityAlgorithm": wanted[1],
            "DiffieHellmanGroup": wanted[2],
            "LifeTimeInMinutes": minutes,
        }
    if len(crypto.ike) > 1 and "ike" in crypto.model_fields_set:
        parts.lost("crypto.ike beyond the first proposal", "there is room for one")
    if len(crypto.esp) > 1 and "esp" in crypto.model_fields_set:
        parts.lost("crypto.esp beyond the first proposal", "there is room for one")


def _named(table: dict[str, str], keywords: list[str]) -> str | None:
    return next((name for keyword in keywords for name, known in table.items() if known == keyword), None)
