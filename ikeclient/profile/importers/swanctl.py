"""Connections of strongSwan's swanctl.conf, as a client has them, with the secrets that belong to them.

Certificates and keys are files that the program looks for in directories of its own; the profile names them there.
What both sides authenticate with is read completely: whatever ikeclient cannot do is refused in words, because a
connection that authenticates differently is another connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.algorithms import Dialect
from ikeclient.profile.importers.conf import Section, parse_conf
from ikeclient.profile.importers.containers import open_bundle
from ikeclient.profile.importers.draft import Ask, Draft, MySection
from ikeclient.profile.importers.foreign_secrets import (
    SecretFile,
    TokenPlace,
    read_handle,
    read_smartcard,
    swanctl_secrets,
)
from ikeclient.profile.importers.layout import Layout, swanctl_layout
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.profile.importers.selectors import read_selectors
from ikeclient.profile.importers.signatures import read_signature
from ikeclient.profile.model.identities import identity_of
from ikeclient.profile.model.methods import METHODS, SUPPORTED, is_eap, mutual_answers, uses_card, uses_certificate
from ikeclient.wire.text import printable

EAP_METHODS = tuple(name for name in SUPPORTED if is_eap(name))
ANY_EAP = (
    "method eap answers EAP-TLS, PEAP, EAP-TTLS and EAP-MSCHAPv2; "
    "EAP-MD5 and EAP-GTC are used if auth.method names them"
)


def no_card(section: MySection) -> str:
    """The warning that no foreign file says how the card is reached here."""
    return f'which card answers is not in the file: set {section}.sim = {{ command = ["..."] }}'


_SECTIONS: tuple[MySection, ...] = ("auth", "second_auth")
_SIGNATURES = ("rsa", "rsa/pss", "ecdsa", "pubkey", "ed25519", "ed448")
_EAP_NAMES = {  # by their numbers, and as plugins are called that are one method with another source of keys
    **{f"eap-{int(each.answers[0])}": name for name, each in METHODS.items() if len(each.answers) == 1},
    "eap-sim-file": "eap-sim",
    "eap-sim-pcsc": "eap-sim",
    "eap-simaka-sql": "eap-aka",
    "eap-aka-3gpp": "eap-aka",
    "eap-aka-3gpp2": "eap-aka",
    "eap-aka'": "eap-aka-prime",
}
_SECONDS = re.compile(r"(\d{1,9})\s*([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_YES, _NO = ("yes", "true", "1", "enabled", "on"), ("no", "false", "0", "disabled", "off")
_SILENT = {  # carried over, said by us anyway, or without a meaning here
    "connection": {
        *("version", "remote_addrs", "remote_port", "proposals", "mobike", "dpd_delay", "rekey_time", "keyingtries"),
        *("vips", "encap", "local_addrs", "local_port", "fragmentation", "unique", "send_cert", "send_certreq"),
        *("dpd_timeout", "over_time", "rand_time", "aggressive", "if_id_in", "if_id_out", "pull", "dscp", "childless"),
        *("ppk_id", "ppk_required", "mediation", "mediated_by", "ocsp"),
    },
    "child": {
        *("remote_ts", "local_ts", "esp_proposals", "ah_proposals", "rekey_time", "mode", "start_action", "dpd_action"),
        *("close_action", "life_time", "rand_time", "updown", "policies", "if_id_in", "if_id_out", "hostaccess"),
        *("hw_offload", "copy_df", "copy_ecn", "copy_dscp", "replay_window", "priority", "reqid", "ipcomp"),
        *("policies_fwd_out", "rekey_bytes", "rekey_packets", "life_bytes", "life_packets", "rand_bytes"),
        *("rand_packets", "set_mark_in", "set_mark_out", "per_cpu_sas"),
    },
    "local": {"auth", "id", "eap_id", "certs", "round", "pubkeys", "aaa_id"},
    "remote": {
        *("auth", "id", "cacerts", "certs", "round", "revocation", "pubkeys", "ca_id", "cert_policy", "groups"),
        "eap_id",
    },
}


def read_swanctl(
    data: bytes, connection: str | None, fallback: str, place: Neighbours, ask: Ask | None = None
) -> Draft:
    """The one connection in the file that a client can make, or the one called `connection`. Raises ProfileError."""
    warnings: list[str] = []
    root = parse_conf(decode_text(data), warnings, place)
    connections = root.section("connections").sections
    if not connections and (included := [text for text in warnings if "include" in text]):
        pattern = included[0].removeprefix("not read: include ").partition(" (")[0]
        raise ProfileError(
            "this swanctl.conf has no connection of its own",
            reason=f"it includes {pattern}",
            hint="import one of those files",
        )
    if not connections and root.section("secrets").sections:
        raise ProfileError("there is no connection in it", reason="it holds secrets only", hint="--secrets takes it")
    clients = [name for name, section in connections.items() if _remote_addresses(section)]
    name = choose(list(connections), clients, connection)
    draft = Draft(name or fallback)
    for warning in warnings:
        draft.warn(warning)
    secrets = swanctl_secrets(root.section("secrets"))
    authorities = root.section("authorities")
    draft_connection(connections[name], secrets, authorities, draft, swanctl_layout(place), ask)
    return draft


def decode_text(data: bytes) -> str:
    """UTF-8 text; raises ProfileError."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ProfileError("this is not UTF-8 text") from None


def choose(names: Sequence[str], clients: Sequence[str], wanted: str | None) -> str:
    """The connection to import: the one that was named, else the only one that a client can make."""
    if not names:
        raise ProfileError("there is no connection in it")
    shown = ", ".join(printable(name, 40) for name in names[:20])
    if wanted is not None:
        if wanted not in names:
            raise ProfileError("there is no connection of that name in it", reason=f"it holds {shown}")
        return wanted
    candidates = clients or names
    if len(candidates) > 1:
        reason = f"it holds {', '.join(printable(name, 40) for name in candidates[:20])}"
        raise ProfileError("there are several connections in it", reason=reason, hint="name one with --connection")
    return candidates[0]


def draft_connection(
    connection: Section,
    secrets: SecretFile,
    authorities: Section,
    draft: Draft,
    layout: Layout,
    ask: Ask | None,
    dialect: Dialect = Dialect.STRONGSWAN,
) -> None:
    """Fill in the draft from one connection, the secrets that may belong to it and the authorities.

    Raises ProfileError for what cannot be done here.
    """
    values = connection.values
    _refuse_connection(values)
    addresses = _remote_addresses(connection)
    if not addresses:
        raise ProfileError("this connection waits for others", reason="it names no address to connect to")
    draft.set("gateway", "address", addresses if len(addresses) > 1 else addresses[0])
    draft.set("gateway", "port", _number(values.get("remote_port")))
    ours, remote = _rounds(connection, "local"), _rounds(connection, "remote")[0]
    _method(ours[0], "auth", draft)
    if len(ours) > 1:
        _method(ours[1], "second_auth", draft)
    _gateway_method(remote, draft)
    for warning in secrets.warnings:
        draft.warn(warning)
    _session(values, draft, dialect)
    _gateway(remote, draft, layout)
    for local, section in zip(ours, _SECTIONS, strict=False):
        _local(local, section, remote, secrets, draft, layout, ask)
    _trust(remote, authorities, draft, layout)
    _children(connection.section("children"), draft, layout, dialect)
    if values.get("ppk_id"):
        key = secrets.of("ppk", [values["ppk_id"]])
        draft.post_quantum(values["ppk_id"], key, required=values.get("ppk_required") in _YES)
    draft.lost(sorted(values.keys() - _SILENT["connection"]))
    for local in ours:
        draft.lost(sorted(f"local {key}" for key in local.values.keys() - _SILENT["local"]))
    draft.lost(sorted(f"remote {key}" for key in remote.values.keys() - _SILENT["remote"]))


def _refuse_connection(values: Mapping[str, str]) -> None:
    if values.get("version") in ("1", "ikev1"):
        raise ProfileError("this connection is for IKEv1", hint="ikeclient speaks IKEv2")
    if values.get("ppk_required") in _YES and not values.get("ppk_id"):
        raise ProfileError(
            "this connection needs a post-quantum preshared key (RFC 8784) and does not say which", hint="set ppk_id"
        )
    if values.get("mediation") in _YES or values.get("mediated_by"):
        raise ProfileError("this connection goes through a mediation server, which is not supported")


def _remote_addresses(connection: Section) -> list[str]:
    """The addresses that can be connected to: neither `%any` nor whole networks."""
    found = (address.removeprefix("%") for address in listed(connection.values.get("remote_addrs")))
    return [
        address
        for address in found
        if address not in ("any", "any4", "any6", "0.0.0.0", "::", "0.0.0.0/0", "::/0")  # noqa: S104
        and "/" not in address
        and not re.fullmatch(r"[0-9a-fA-F.:]+-[0-9a-fA-F.:]+", address)
    ]


def _rounds(connection: Section, prefix: str) -> list[Section]:
    """How one side authenticates, in order. Raises ProfileError for more rounds than there can be."""
    found = sorted(named(connection, prefix), key=lambda section: _number(section.values.get("round")) or 0)
    most, whose = (2, "we authenticate") if prefix == "local" else (1, "the gateway authenticates")
    if len(found) > most:
        auths = ", ".join(printable(section.values.get("auth", "pubkey"), 30) for section in found)
        reason = "two authentications of ours and one of the gateway's are possible (RFC 4739)"
        raise ProfileError(f"{whose} in several rounds in this connection: {auths}", reason=reason)
    return found or [Section()]


def named(section: Section, prefix: str) -> list[Section]:
    """The sections inside that are called `prefix`, with or without a suffix."""
    return [inner for name, inner in section.sections.items() if re.fullmatch(rf"{prefix}([-_0-9.].*)?", name)]


def _kind(auth: str) -> str:
    """`psk`, `pubkey`, an EAP method of ours, or the text itself if it is none of them."""
    plain = auth.strip().lower()
    plain = plain.removeprefix("ike:")
    if plain == "any" or plain.split("-")[0] in _SIGNATURES:
        return "pubkey"
    if plain in ("eap", "eap-any", "eap-dynamic", "eap-radius", "eap-identity"):
        return "eap"
    return _EAP_NAMES.get(plain, plain)


def _checked_kind(side: Section, whose: str) -> str:
    """What one side authenticates with. Raises ProfileError for what ikeclient does not do."""
    auth = _kind(side.values.get("auth", "pubkey"))
    if auth.startswith(("xauth", "hybrid")):
        raise ProfileError(f"{whose} authentication is {printable(auth, 40)}, which is IKEv1", hint=_IKEV2)
    if auth in ("null", "never"):
        raise ProfileError(f"{whose} authentication is {auth}: AUTH_NULL proves nothing and is not supported")
    if "pubkeys" in side.values:
        raise ProfileError("this connection uses raw public keys, which are not supported", hint=_CERTIFICATE)
    return auth


def _method(local: Section, section: MySection, draft: Draft) -> None:
    """How we prove ourselves. Raises ProfileError for what ikeclient does not do."""
    ours = _checked_kind(local, "our")
    method = "psk" if ours == "psk" else "certificate" if ours == "pubkey" else ours
    if method not in SUPPORTED:
        raise ProfileError(
            f"our authentication {printable(ours, 40)} is not supported",
            reason=f"possible are psk, pubkey, {', '.join(EAP_METHODS)}",
        )
    draft.set(section, "method", method)
    written = local.values.get("auth", "")
    if method == "certificate" and "-" in written:
        found = read_signature(written)
        draft.set(section, "signature", list(found.schemes) or None)
        if found.left_out:
            draft.warn(f"left out of auth = {printable(written, 60)}: {', '.join(found.left_out)} (not supported)")
    elif uses_card(method):
        draft.warn(no_card(section))
    elif method == "eap":
        draft.warn(ANY_EAP)
    elif method in ("eap-ttls", "eap-peap"):
        draft.set(section, "inner", "eap-mschapv2" if method == "eap-ttls" else None)
        draft.warn(
            f"inside {method} EAP-MSCHAPv2 is answered; strongSwan takes what is asked for: "
            f"set {section}.inner if that is another"
        )


def _gateway_method(remote: Section, draft: Draft) -> None:
    """How the gateway proves itself. Raises ProfileError for what ikeclient does not do."""
    ours, theirs = draft.method, _checked_kind(remote, "the gateway's")
    if theirs.startswith("eap"):
        if not mutual_answers(ours):
            raise ProfileError(
                f"the gateway proves itself by EAP alone in this connection, and we by {ours} (RFC 5998)",
                reason="that needs an EAP method which authenticates both sides and makes keys",
                hint="let the gateway have a certificate",
            )
        draft.set("gateway", "auth", "eap")
    elif theirs == "psk" and is_eap(ours):
        raise ProfileError(
            f"we authenticate with {ours}, the gateway with a pre-shared key",
            reason="everybody with that key could pose as the gateway and ask for passwords (RFC 7296, 2.16)",
            hint="let the gateway have a certificate",
        )
    elif theirs == "psk" and ours != "psk":
        draft.set("gateway", "auth", "psk")
    elif theirs == "pubkey" and ours == "psk":
        draft.set("gateway", "auth", "certificate")
    elif theirs not in ("psk", "pubkey"):
        raise ProfileError(f"the gateway's authentication {printable(theirs, 40)} is not supported")
    if "-" in remote.values.get("auth", "") and theirs == "pubkey":
        draft.risk(f"the gateway's signature may be of any kind: remote auth = {remote.values['auth']} is not enforced")


_IKEV2 = "ikeclient speaks IKEv2"
_CERTIFICATE = "use a certificate"


def _session(values: Mapping[str, str], draft: Draft, dialect: Dialect) -> None:
    draft.proposals("ike", listed(values.get("proposals")), dialect)
    if values.get("mobike") in _NO:
        draft.set("session", "mobike", False)
    if values.get("encap") in _YES:
        draft.set("session", "encapsulation", "always")
    draft.set("session", "liveness", _limited(_seconds(values.get("dpd_delay")), 5, 3600))
    draft.set("session", "rekey_ike", _limited(_seconds(values.get("rekey_time")), 10, 7 * 86400))
    if values.get("keyingtries", "0") not in ("0", "%forever"):
        draft.warn(
            f"keyingtries = {values['keyingtries']} counts attempts to connect; "
            'here a lost tunnel is made again for ever (session.retry = "forever")'
        )
    wanted = listed(values.get("vips"))
    families = {
        "ipv4": any("." in vip or vip in ("%config", "%config4", "%modeconfig", "%modecfg") for vip in wanted),
        "ipv6": any(":" in vip or vip in ("%config", "%config6") for vip in wanted),
    }
    requested = [family for family, asked in families.items() if asked]
    draft.set("network", "request", [*requested, "dns"] if requested else [])
    fixed = [vip for vip in wanted if vip not in ("0.0.0.0", "::") and not vip.startswith("%")]  # noqa: S104
    if fixed:
        draft.warn(f"not carried over: the address {', '.join(fixed)} (any address is asked for)")


def _gateway(remote: Section, draft: Draft, layout: Layout) -> None:
    identity = remote.values.get("id")
    if identity:
        draft.identity("gateway", identity)
    elif layout.any_by_default:
        draft.any_gateway(f"the file names none, which means any to {layout.program}")
    values = remote.values
    state = values.get("revocation", "relaxed")
    if state in ("strict", "ifuri"):
        draft.set("gateway", "revocation", state)
    elif state not in ("relaxed", *_NO):
        draft.risk(f"revocation = {printable(state, 80)}: it is checked as `relaxed` says")
    for key, what in (
        ("ca_id", "which authority must have issued the gateway's certificate"),
        ("cert_policy", "the certificate policies that the gateway's certificate must have"),
        ("groups", "the groups that the gateway must be in"),
    ):
        if values.get(key):
            draft.risk(f"not enforced: remote {key} = {printable(values[key], 80)} ({what})")


def _files(side: Section, key: str) -> list[str]:
    """The files of `certs` and of sections such as `cert-1 { file = ... }`."""
    single = key.removesuffix("s")
    inner = [section.values.get("file", "") for section in named(side, single)]
    return [name for name in (*listed(side.values.get(key)), *inner) if name]


def _trust(remote: Section, authorities: Section, draft: Draft, layout: Layout) -> None:
    """Who may vouch for the gateway."""
    pinned = _files(remote, "certs")
    over_tls = draft.section_for(lambda method: method in METHODS and METHODS[method].over_tls)
    if draft.gateway_method != "certificate" and over_tls is None:
        return
    if pinned:
        draft.risk(
            f"the gateway's certificate is not limited to {', '.join(pinned)}: any that gateway.ca vouches for will do"
        )
    uris = [
        f"{name} {key}"
        for name, section in authorities.sections.items()
        for key in section.values
        if key.startswith(("crl", "ocsp"))
    ]
    if uris:
        draft.risk(
            "whether the gateway's certificate is revoked is asked where the certificate says, not where the file does "
            f"({', '.join(uris[:4])})"
        )
    names = _files(remote, "cacerts")
    if not names:
        extra = [
            section.values.get("cacert") or section.values.get("file") for section in authorities.sections.values()
        ]
        names = [*(name for name in extra if name), *layout.known_authorities()]
    layout.trust(draft, names)
    if not draft.has("gateway", "ca"):
        where = layout.store or f"{layout.path('', layout.authorities).rstrip('/')}, of which none is there"
        draft.risk(
            f"gateway.ca is not set, so all public authorities are trusted: {layout.program} trusts the certificates "
            f"in {where}; name the right one, or give --ca FILE"
        )


def _local(
    local: Section,
    section: MySection,
    remote: Section,
    secrets: SecretFile,
    draft: Draft,
    layout: Layout,
    ask: Ask | None,
) -> None:
    values, method = local.values, str(draft.tables[section]["method"])
    identity, user = values.get("id"), values.get("eap_id")
    draft.identity(section, identity)
    if is_eap(method) and user and user not in ("%any", "%identity"):
        draft.set(section, "user", user.removeprefix("%"))
    if values.get("aaa_id") and METHODS[method].over_tls:  # type: ignore[index]
        draft.identity(section, values["aaa_id"], key="server_name")
        if not draft.has(section, "server_name"):
            draft.risk(f"not enforced: aaa_id = {printable(values['aaa_id'], 80)} (who the server behind EAP must be)")
    owners = [name for name in (user, identity) if name]
    if method == "psk" and not identity:
        draft.warn(
            f"{layout.program} sends this machine's address as our identity: set {section}.identity, or give --user"
        )
    if method == "psk" or (section == "auth" and draft.gateway_method == "psk"):
        names = [*owners, remote.values.get("id"), *_remote_names(draft)]
        draft.psk(secrets.of("psk", [name for name in names if name]), section)
    if uses_certificate(method) or (method == "eap" and _files(local, "certs")):
        _certificate(local, section, secrets, draft, layout, ask)
    if is_eap(method) and method != "eap-tls":
        draft.password(secrets.of("eap", owners), section)


def _remote_names(draft: Draft) -> list[str]:
    address = draft.tables["gateway"]["address"]
    return list(address) if isinstance(address, list) else [address]


def _certificate(
    local: Section, section: MySection, secrets: SecretFile, draft: Draft, layout: Layout, ask: Ask | None
) -> None:
    certificates = _files(local, "certs")
    bundles = secrets.files("p12")
    on_token = _certificate_on_token(local)
    if on_token is not None:
        _token(on_token, section, secrets, draft)
        return
    if not certificates and not bundles and (identity := draft.tables[section].get("identity")):
        own = identity_of(identity, f"{section}.identity")
        if found := layout.certificate_of(own.type, own.data):
            certificates = [found]
    if not certificates and not bundles and (tokens := secrets.tokens()):
        _token(tokens[0].place, section, secrets, draft)
    elif certificates:
        if len(certificates) > 1:
            draft.warn(f"not carried over: the certificates beside {certificates[0]}")
        own_name = certificates[0]
        layout.use(draft, section, "certificate", "pem", own_name, layout.certificates)
        _key(own_name, section, secrets, draft, layout)
    elif bundles:
        if len(bundles) > 1:
            draft.warn(f"not carried over: the PKCS#12 files beside {bundles[0].file}")
        name = bundles[0].file or ""
        layout.use(draft, section, "certificate", "p12", name, layout.bundles)
        draft.passphrase(bundles[0].value, section)
        if data := layout.read(name, layout.bundles):
            open_bundle(draft, data, bundles[0].value, ask)
    else:
        draft.warn(f"{layout.program} finds our certificate by itself: set auth.certificate and auth.key")


def _certificate_on_token(local: Section) -> TokenPlace | None:
    """Where our certificate is, if it is on a token: `cert { handle = ... }`, or `%smartcard` of ipsec.conf."""
    for inner in named(local, "cert"):
        if "handle" in inner.values:
            return read_handle(inner.values["handle"], inner.values.get("slot"), inner.values.get("module"))
    places = (read_smartcard(name) for name in listed(local.values.get("certs")))
    return next((place for place in places if place is not None), None)


def _token(place: TokenPlace | None, section: MySection, secrets: SecretFile, draft: Draft) -> None:
    """Our key is on a token, and the certificate with the same CKA_ID beside it."""
    assert place is not None
    secret = next((each for each in secrets.tokens() if each.place is not None and each.place.id == place.id), None)
    named_module = place.module or (secret.place.module if secret is not None and secret.place is not None else None)
    module = named_module if named_module and ".so" in named_module else None
    slot = f"slot-id={place.slot};" if place.slot is not None and module else ""
    uri = f"pkcs11:{slot}id=" + "".join(f"%{octet:02x}" for octet in place.id)
    draft.token(section, uri, module, secret.value if secret is not None else None)
    if named_module and module is None:
        draft.warn(
            f"the module {printable(named_module, 60)} of the token is named in strongswan.conf: here all are asked "
            f"that p11-kit knows; set {section}.key.module to its file if it is none of them"
        )
    if place.slot is not None and not slot:
        draft.warn(f"not carried over: the slot {place.slot} of the token (slots are numbered by each module)")


def _key(certificate: str, section: MySection, secrets: SecretFile, draft: Draft, layout: Layout) -> None:
    keys = secrets.files("key")
    stem = PurePosixPath(certificate).stem
    chosen = next((key for key in keys if PurePosixPath(key.file or "").stem == stem), None)
    if chosen is None and len(keys) == 1:
        chosen = keys[0]
    found = layout.key_of(certificate)
    if chosen is not None and chosen.file is not None:
        fitting = [directory for directory in layout.keys if layout.read(chosen.file, directory) is not None]
        layout.use(draft, section, "key", "key", chosen.file, (fitting or layout.keys)[0])
        draft.passphrase(chosen.value, section)
    elif found is not None:
        layout.use(draft, section, "key", "key", *found)
    elif tokens := secrets.tokens():
        _token(tokens[0].place, section, secrets, draft)
    else:
        draft.warn(
            f"our private key is not named: set auth.key ({layout.program} looks in {layout.path('', layout.keys[0])})"
        )


def _children(children: Section, draft: Draft, layout: Layout, dialect: Dialect) -> None:
    """One Child SA carries the tunnel; bypass policies become exclusions."""
    tunnels: dict[str, Section] = {}
    for name, child in children.sections.items():
        mode = child.values.get("mode", "tunnel").lower()
        if mode in ("pass", "bypass", "passthrough"):
            _bypass(child, draft)
        elif mode in ("drop", "reject"):
            networks = printable(child.values.get("remote_ts", ""), 80)
            draft.risk(f"not carried over: {name} drops what goes to {networks}; here nothing is dropped")
        else:
            tunnels[name] = child
    if not tunnels:
        if children.sections:
            raise ProfileError("this connection has no tunnel", reason="its children are bypass or drop policies only")
        draft.warn("the connection has no child: the gateway decides what the tunnel carries")
        return
    started = [name for name, child in tunnels.items() if child.values.get("start_action", "none") not in ("none", "")]
    chosen = started[0] if len(started) == 1 else next(iter(tunnels))
    others = [name for name in tunnels if name != chosen]
    if others:
        lost = ", ".join(
            f"{name} ({printable(tunnels[name].values.get('remote_ts', 'dynamic'), 60)})" for name in others
        )
        draft.risk(f"only the child {chosen} is a tunnel here: what {lost} protected goes another way")
    _child(tunnels[chosen].values, draft, layout, dialect)


def _bypass(child: Section, draft: Draft) -> None:
    found = read_selectors(listed(child.values.get("remote_ts")))
    excluded = draft.tables["network"].setdefault("exclude", [])
    excluded += [network for network in found.networks if network not in excluded]
    draft.lost([f"the bypass policy for {item}" for item in (*found.others, *found.limited)])
    if not excluded:
        del draft.tables["network"]["exclude"]


def _child(values: Mapping[str, str], draft: Draft, layout: Layout, dialect: Dialect) -> None:
    if values.get("ah_proposals"):
        raise ProfileError("this connection uses AH, which is not supported", hint="use ESP")
    draft.proposals("esp", listed(values.get("esp_proposals")), dialect)
    draft.set("session", "rekey_child", _limited(_seconds(values.get("rekey_time")), 10, 7 * 86400))
    routes(listed(values.get("remote_ts")), layout.theirs, draft)
    local = read_selectors(listed(values.get("local_ts")))
    if (local.networks and not local.everything) or local.others or local.limited:
        draft.risk(
            f"{layout.ours} = {printable(values['local_ts'], 80)} is not carried over: "
            "only this machine's own address uses the tunnel, networks behind it do not"
        )
    mode = values.get("mode", "tunnel").lower()
    if mode != "tunnel":
        draft.warn(f"mode = {printable(mode, 20)} is not possible here: tunnel mode is asked for")
    if values.get("sha256_96") in _YES:
        draft.warn("not carried over: sha256_96 (SHA-256 is truncated to 128 bits here, as RFC 4868 says)")
    if values.get("updown"):
        draft.warn("not carried over: updown (session.up and session.down run commands; nothing is run unasked)")
    if values.get("policies") in _NO:
        draft.warn("not carried over: policies = no (routes are installed here)")
    draft.lost(sorted(f"child {key}" for key in values.keys() - _SILENT["child"]))


def routes(texts: Sequence[str], key: str, draft: Draft) -> None:
    """Let the tunnel carry what the selectors of the other side name."""
    found = read_selectors(texts)
    if found.limited:
        draft.warn(f"{key} is taken without its protocols and ports: {', '.join(found.limited)}")
    if found.everything:
        draft.set("network", "routes", "all")
        draft.warn(
            f'{key} is everything, so routes = "all": what the gateway does not grant is blocked; '
            'routes = "gateway" takes only what it grants'
        )
    else:
        draft.set("network", "routes", list(found.networks) or None)
    draft.lost([f"{key} {item}" for item in found.others], "it is no network")
    if not found.networks:
        draft.warn(f"{key} names no network: the gateway decides what the tunnel carries")


def listed(value: str | None) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 10 else None


def _seconds(value: str | None) -> int | None:
    match = _SECONDS.fullmatch(value or "")
    return int(match[1]) * _UNITS[match[2]] if match else None


def _limited(seconds: int | None, least: int, most: int) -> int | None:
    """Within what a profile takes; 0, which is "never" there, stays our default."""
    return min(max(seconds, least), most) if seconds else None
