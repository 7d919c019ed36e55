"""Connections of ipsec.conf, strongSwan's older format and libreswan's: `conn NAME` and indented settings.

A connection is brought into the shape of one of swanctl.conf and goes on from there. `left` and `right` say which side
is ours only by what stands there: the side that asks for an address, or that is `%defaultroute` or `%any`. The secrets
are in ipsec.secrets beside the file. libreswan has its certificates in a database, which is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.algorithms import Dialect
from ikeclient.profile.importers.conf import Section
from ikeclient.profile.importers.draft import Ask, Draft
from ikeclient.profile.importers.foreign_secrets import SecretFile, ipsec_secrets
from ikeclient.profile.importers.layout import ipsec_layout
from ikeclient.profile.importers.neighbours import Neighbours
from ikeclient.profile.importers.selectors import read_selectors
from ikeclient.profile.importers.swanctl import choose, decode_text, draft_connection, listed
from ikeclient.profile.model.methods import is_eap, uses_certificate
from ikeclient.wire.text import printable

MAX_LINES = 10_000
MAX_DEPTH = 4
MAX_ALSO = 50  # connections that one takes settings over from
_CONNECTION = re.compile(r"(conn|ca)\s+(\S+)\s*")
_SETUP = re.compile(r"config\s+setup\s*")
_OTHER = re.compile(r"version\s+\S+.*")
_INCLUDE = re.compile(r"include\s+(\S.*)")
_SETTING = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=\s*(.*)")
_Settings = dict[str, str]

_YES = ("yes", "true", "1", "on", "insist")
# Settings that one program has and the other has not.
_LIBRESWAN = {
    *("ikev2", "phase2", "phase2alg", "leftmodecfgclient", "rightmodecfgserver", "narrowing", "leftxauthclient"),
    *("leftrsasigkey", "rightrsasigkey", "salifetime", "leftaddresspool", "rightaddresspool"),
    *("leftusername", "leftxauthusername", "modecfgpull", "encapsulation", "nic-offload", "ms-dh-downgrade"),
    *("leftmodecfgserver", "rightmodecfgclient", "ppk", "sendca", "retransmit-timeout", "negotiationshunt"),
    *("failureshunt", "ikepad", "sha2-truncbug", "vti-interface", "ipsec-interface", "leftpubkey"),
}
_STRONGSWAN = {
    *("leftauth", "rightauth", "leftauth2", "rightauth2", "eap_identity", "rightdns", "leftdns"),
    *("leftfirewall", "lefthostaccess", "forceencaps", "closeaction", "inactivity", "installpolicy", "reauth"),
    *("margintime", "rekeyfuzz", "aaa_identity", "leftcert2", "leftid2", "tfc", "mark"),
}
_AUTHBY: dict[str, str] = {  # what the words of authby mean; several are alternatives, of which ours is the first
    "secret": "psk",
    "psk": "psk",
    "rsasig": "pubkey",
    "rsa": "pubkey",
    "pubkey": "pubkey",
    "ecdsasig": "pubkey",
    "ecdsa": "pubkey",
    "never": "never",
    "null": "null",
    "eaponly": "eap-tls",
    "eap": "eap",
    "xauthpsk": "xauth-psk",
    "xauthrsasig": "xauth-rsasig",
}
_CONNECTION_KEYS: dict[str, str] = {
    "ike": "proposals",
    "mobike": "mobike",
    "dpddelay": "dpd_delay",
    "ikelifetime": "rekey_time",
    "keyingtries": "keyingtries",
    "forceencaps": "encap",
    "encapsulation": "encap",
}
_CHILD_KEYS: dict[str, str] = {
    "esp": "esp_proposals",
    "phase2alg": "esp_proposals",
    "ah": "ah_proposals",
    "keylife": "rekey_time",
    "lifetime": "rekey_time",
    "salifetime": "rekey_time",
    "ipsec-lifetime": "rekey_time",
    "type": "mode",
}
_OURS: dict[str, tuple[str, str]] = {  # settings of our side, without `left` or `right`
    "id": ("local", "id"),
    "cert": ("local", "certs"),
    "auth": ("local", "auth"),
    "id2": ("local-2", "id"),
    "cert2": ("local-2", "certs"),
    "auth2": ("local-2", "auth"),
    "subnet": ("child", "local_ts"),
    "subnets": ("child", "local_ts"),
    "updown": ("child", "updown"),
}
_THEIRS: dict[str, tuple[str, str]] = {
    "id": ("remote", "id"),
    "cert": ("remote", "certs"),
    "auth": ("remote", "auth"),
    "auth2": ("remote-2", "auth"),
    "ca": ("remote", "ca_id"),
    "subnet": ("child", "remote_ts"),
    "subnets": ("child", "remote_ts"),
    "ikeport": ("", "remote_port"),
}
_SILENT_SIDE = {
    *("sourceip", "firewall", "sendcert", "nexthop", "hostaccess", "allowany", "modecfgclient", "modecfgserver"),
    *("rsasigkey", "ecdsakey", "sigkey", "xauthclient", "xauthserver", "addresspool", "ikeport", "dns", "username"),
    *("xauthusername", "pubkey", "auth2", "id2", "cert2", "ca2", "groups", "policy", "protoport", "ca", "subnetwithin"),
    *("vti", "autoca", "sendca", "autheap"),
}
_SILENT = {
    *("auto", "keyexchange", "ikev2", "authby", "eap", "also", "fragmentation", "rekey", "margintime", "rekeymargin"),
    *("narrowing", "modecfgpull", "closeaction", "dpdaction", "dpdtimeout", "eap_identity", "compress", "pfs"),
    *("phase2", "rekeyfuzz", "aggressive", "aggrmode", "modeconfig", "overlapip", "initial-contact", "cisco-unity"),
    *("nat-keepalive", "retransmit-timeout", "retransmit-interval", "ikepad", "salifetime", "sareftrack", "reauth"),
    *("send-no-esp-tfc", "nflog", "mtu", "priority", "reqid", "replay-window", "replay_window", "mark", "mark_in"),
    *("mark_out", "xauth", "aaa_identity", "hostaddrfamily", "clientaddrfamily", "connalias", "installpolicy"),
    *("negotiationshunt", "failureshunt", "vti-interface", "vti-routing", "vti-shared", "ipsec-interface"),
    *("nic-offload", "hw_offload", "send-redirect", "accept-redirect", "dns-match-id", "leftikeport", "esn", "labeled"),
    *(
        "intermediate",
        "ppk",
        "ppk-ids",
        "modecfgdns",
        "modecfgdomains",
        "remote_peer_type",
        "send_vendorid",
        "debug",
        "metric",
    ),
}


class _File:
    """The sections of an ipsec.conf and of what it includes."""

    def __init__(self, place: Neighbours) -> None:
        self.connections: dict[str, _Settings] = {}
        self.authorities: dict[str, _Settings] = {}
        self.setup: _Settings = {}
        self.warnings: list[str] = []
        self._place = place
        self._lines = 0

    def read(self, text: str, depth: int = 0, name: str = "") -> None:
        """Take in a file; raises ProfileError."""
        current: _Settings | None = None
        for number, line in enumerate(text.splitlines(), 1):
            self._lines += 1
            if self._lines > MAX_LINES:
                raise ProfileError(f"this has more than {MAX_LINES} lines")
            line = _without_comment(line)
            if not line.strip():
                continue
            if match := _CONNECTION.fullmatch(line.strip()):
                sections = self.connections if match[1] == "conn" else self.authorities
                current = sections.setdefault(match[2], {})
            elif _SETUP.fullmatch(line.strip()):
                current = self.setup
            elif match := _INCLUDE.fullmatch(line.strip()):
                self._include(match[1].strip().strip('"'), depth)
            elif _OTHER.fullmatch(line.strip()):
                current = None
            elif (match := _SETTING.fullmatch(line)) and current is not None and line[0].isspace():
                key, value = match[1].lower(), _unquoted(match[2].strip())
                current[key] = f"{current[key]},{value}" if key == "also" and key in current else value
            else:
                where = f"{name}: " if name else ""
                raise ProfileError(f"{where}line {number} is not understood")

    def _include(self, pattern: str, depth: int) -> None:
        names = self._place.matching(pattern) if depth < MAX_DEPTH else []
        if not names:
            self.warnings.append(f"not read: include {printable(pattern, 80)} (no file there to read)")
        for name in names:
            data = self._place.read(name)
            if data is not None:
                self.read(decode_text(data), depth + 1, printable(name, 80))

    def connection(self, name: str) -> _Settings:
        """The settings of a connection with what it takes over by `also` and from `%default`."""
        result: _Settings = {}
        for each in self._sources(name):
            for key, value in self.connections.get(each, {}).items():
                result.setdefault(key, value)
        defaults = self.connections.get("%default", {})
        return {**defaults, **result}

    def missing(self, name: str) -> list[str]:
        """What a connection takes settings over from and is not in the file."""
        return [each for each in self._sources(name) if each != name and each not in self.connections]

    def _sources(self, name: str) -> list[str]:
        order = [name]
        for each in order:  # which grows meanwhile
            for other in _also(self.connections.get(each, {})):
                if other not in order and len(order) < MAX_ALSO:
                    order.append(other)
        return order


def read_ipsec(
    data: bytes,
    connection: str | None,
    fallback: str,
    place: Neighbours,
    ask: Ask | None = None,
    secrets: str | None = None,
) -> Draft:
    """The one connection in the file that a client can make, or the one called `connection`.

    `secrets` is the text of an ipsec.secrets that is used instead of the one beside the file. Raises ProfileError.
    """
    file = _File(place)
    file.read(decode_text(data))
    parts = {part for settings in file.connections.values() for part in _also(settings)}
    every = [name for name in file.connections if name != "%default"]
    names = [name for name in every if name == connection or name not in parts] or every
    clients = [name for name in names if _is_client(file.connection(name))]
    if not names and file.warnings:
        raise ProfileError(
            "this ipsec.conf has no connection of its own",
            reason=file.warnings[0],
            hint="import the file that has the connection",
        )
    name = choose(names, clients, connection)
    return _draft(name or fallback, file.connection(name), file, place, ask, secrets, without=name)


def draft_settings(name: str, settings: _Settings, place: Neighbours, ask: Ask | None, secrets: str) -> Draft:
    """A connection whose settings come from elsewhere in libreswan's words. Raises ProfileError."""
    file = _File(place)
    file.setup["plutodebug"] = "none"
    return _draft(name, settings, file, place, ask, secrets, without=name)


def _draft(
    name: str,
    settings: _Settings,
    file: _File,
    place: Neighbours,
    ask: Ask | None,
    secrets: str | None,
    *,
    without: str,
) -> Draft:
    draft = Draft(name)
    for warning in file.warnings:
        draft.warn(warning)
    for other in file.missing(without):
        draft.warn(f"not taken over: also = {printable(other, 80)} (there is no such connection in the file)")
    dialect = _dialect(file, settings)
    _refuse(settings)
    ours = _our_side(settings, dialect)
    section = _section(settings, ours, dialect, draft)
    authorities = _authorities(file, draft)
    theirs = "right" if ours == "left" else "left"
    layout = replace(ipsec_layout(place), ours=f"{ours}subnet", theirs=f"{theirs}subnet")
    if dialect is Dialect.LIBRESWAN:
        layout = replace(layout, program="libreswan", store="its NSS database, which is not read")
    known = _secrets(place, secrets, draft)
    _post_quantum(settings, known, section)
    draft_connection(section, known, authorities, draft, layout, ask, dialect)
    for each in file.connections.keys() - {without, "%default"}:
        if _is_bypass(file.connection(each)):
            _exclude(file.connection(each), draft)
    _after(settings, ours, dialect, draft)
    return draft


def _also(settings: Mapping[str, str]) -> list[str]:
    """The connections that a connection takes settings over from."""
    return [name for name in re.split(r"[,\s]+", settings.get("also", ""), maxsplit=MAX_ALSO)[:MAX_ALSO] if name]


def _without_comment(line: str) -> str:
    """A comment starts a line or follows white space, and not inside quotes."""
    quoted = False
    for position, character in enumerate(line):
        if character == '"':
            quoted = not quoted
        elif character == "#" and not quoted and (position == 0 or line[position - 1].isspace()):
            return line[:position].rstrip()
    return line.rstrip()


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _is_bypass(settings: Mapping[str, str]) -> bool:
    return settings.get("type", "") in ("passthrough", "bypass", "pass")


def _is_client(settings: Mapping[str, str]) -> bool:
    """Whether there is an address to connect to and something to connect for."""
    if _is_bypass(settings) or settings.get("type") in ("drop", "reject"):
        return False
    return _serves(settings) is None and any(not _anywhere(settings.get(side, "")) for side in ("left", "right"))


def _serves(settings: Mapping[str, str]) -> str | None:
    """The side that others connect from, if the connection is a gateway's own: %any, with addresses given to it."""
    for theirs, ours in (("left", "right"), ("right", "left")):
        if settings.get(theirs) not in ("%any", "%any4", "%any6") or _asks(settings, theirs):
            continue
        given = settings.get(f"{theirs}sourceip") or settings.get(f"{theirs}addresspool")
        shown = not settings.get(f"{theirs}cert") and not settings.get(f"{theirs}auth", "").startswith("eap")
        if given or f"{ours}firewall" in settings or (shown and f"{ours}cert" in settings):
            return theirs
    return None


def _anywhere(address: str) -> bool:
    if address.startswith("%"):  # a keyword, or to strongSwan a host name that may move
        return "." not in address and ":" not in address
    return address in ("", "0.0.0.0", "::", "0.0.0.0/0", "::/0")  # noqa: S104


def _dialect(file: _File, settings: Mapping[str, str]) -> Dialect:
    """Whose file it is, by settings that only one of the two programs has; strongSwan's if nothing tells."""
    setup = file.setup.keys()
    theirs = len(settings.keys() & _LIBRESWAN) + len(setup & {"plutodebug", "logfile", "virtual-private", "protostack"})
    ours = len(settings.keys() & _STRONGSWAN) + len(setup & {"charondebug", "strictcrlpolicy", "cachecrls"})
    words = settings.get("ike", "") + settings.get("esp", "") + settings.get("phase2alg", "")
    if re.search(r"[;+]|\bdh\d|aes_|chacha20_", words):
        theirs += 1
    if "!" in words or any(settings.get(f"{side}sourceip", "").startswith("%") for side in ("left", "right")):
        ours += 1
    return Dialect.LIBRESWAN if theirs > ours else Dialect.STRONGSWAN


def _refuse(settings: Mapping[str, str]) -> None:
    """Raise ProfileError for a connection that is no IKEv2 tunnel."""
    authby = settings.get("authby", "").lower()
    if _is_bypass(settings):
        raise ProfileError(
            f"this is a bypass policy (type = {settings['type']}), no tunnel",
            hint="list such networks as network.exclude of the profile that they belong to",
        )
    if settings.get("type") in ("drop", "reject"):
        raise ProfileError(f"this is a policy that drops traffic (type = {settings['type']}), no tunnel")
    if authby.startswith("xauth") or settings.get("aggressive") in _YES or settings.get("aggrmode") in _YES:
        raise ProfileError("XAuth and aggressive mode are IKEv1", hint="ikeclient speaks IKEv2")
    if settings.get("keyexchange") == "ikev1" or settings.get("ikev2") in ("no", "never"):
        raise ProfileError("this connection is for IKEv1", hint="ikeclient speaks IKEv2")
    if authby in ("null", "never"):
        raise ProfileError(
            f"authby = {authby}: without authentication there is no protection",
            reason="AUTH_NULL (RFC 7619) is not supported",
        )
    for side in ("left", "right"):
        for key in ("rsasigkey", "ecdsakey", "sigkey", "pubkey"):
            if not settings.get(f"{side}{key}", "%cert").startswith("%cert") and authby not in ("secret", "psk"):
                raise ProfileError(
                    f"this connection uses raw public keys ({side}{key}), which are not supported",
                    hint="use certificates",
                )


def _our_side(settings: Mapping[str, str], dialect: Dialect) -> str:
    """`left` or `right`; raises ProfileError if the file does not say which is this machine."""
    sure = {side: _asks(settings, side) for side in ("left", "right")}
    anywhere = {side: _anywhere(settings.get(side, "")) for side in ("left", "right")}
    if side := _serves(settings):
        raise ProfileError("this connection waits for others", reason=f"{side} is %any, and the rest is a gateway's")
    if all(anywhere.values()):
        raise ProfileError("this connection waits for others", reason="neither left nor right is an address")
    for evidence in (sure, anywhere, {side: _owns(settings, side) for side in ("left", "right")}):
        found = [side for side, ours in evidence.items() if ours]
        if len(found) == 1:
            return found[0]
    if all(sure.values()) or dialect is Dialect.LIBRESWAN:
        raise ProfileError(
            "the connection does not say which side is this machine",
            reason=" ".join(f"{side} is {printable(settings.get(side, 'missing'), 80)}," for side in ("left", "right"))[
                :-1
            ],
            hint="write left=%defaultroute (or right=...) for this machine's side",
        )
    return "left"  # strongSwan's own rule, unless right is an address of this machine


def _asks(settings: Mapping[str, str], side: str) -> bool:
    """Whether the side asks the other one for an address."""
    source = settings.get(f"{side}sourceip", "")
    return source.startswith("%") or settings.get(f"{side}modecfgclient") in _YES


def _owns(settings: Mapping[str, str], side: str) -> bool:
    """Whether the side has what only the machine itself has."""
    keys = ("cert", "firewall", "updown", "username", "xauthusername", "xauthclient", "hostaccess", "sourceip")
    return settings.get(f"{side}auth", "").startswith("eap") or any(f"{side}{key}" in settings for key in keys)


def _section(settings: Mapping[str, str], ours: str, dialect: Dialect, draft: Draft) -> Section:
    """The connection as swanctl.conf would say it."""
    theirs = "right" if ours == "left" else "left"
    root = Section()
    sides = ("local", "local-2", "remote", "remote-2")
    parts = {"": root, "child": Section(), **{side: Section() for side in sides}}
    root.sections["children"] = Section()
    root.sections["children"].sections["net"] = parts["child"]
    root.values["remote_addrs"] = settings.get(theirs, "").removeprefix("%")
    words = [word.strip() for word in re.split(r"[|,+]", settings.get("authby", "").lower()) if word.strip()]
    if words:
        method = next((_AUTHBY[word] for word in words if word in _AUTHBY), None)
        method = method or _AUTHBY.get(words[0].split("-")[0])
        if method is None:
            raise ProfileError(f"authby = {printable(words[0], 40)} is not known")
        parts["local"].values["auth"] = parts["remote"].values["auth"] = _signature(words, method)
        if method == "eap":  # strongSwan 4: the method stands apart, and the gateway has a certificate
            parts["local"].values["auth"] = f"eap-{settings['eap']}" if settings.get("eap") else "eap"
            parts["remote"].values["auth"] = "pubkey"
    for key, value in settings.items():
        if key in _CONNECTION_KEYS:
            root.values[_CONNECTION_KEYS[key]] = value
        elif key in _CHILD_KEYS:
            parts["child"].values[_CHILD_KEYS[key]] = value
        elif key.startswith(ours) and key.removeprefix(ours) in _OURS:
            _put(parts, _OURS[key.removeprefix(ours)], value)
        elif key.startswith(theirs) and key.removeprefix(theirs) in _THEIRS:
            _put(parts, _THEIRS[key.removeprefix(theirs)], value)
    for key in ("proposals", "esp_proposals"):
        for part in (root, parts["child"]):
            if key in part.values:
                part.values[key] = part.values[key].rstrip("!")
    if root.values.get("encap") == "auto":
        del root.values["encap"]
    for side, name in ((ours, "local"), (theirs, "remote")):
        if (eap := settings.get(f"{side}autheap", "none")) != "none":
            parts[name].values["auth"] = f"eap-{eap}"
    user = settings.get("eap_identity") or settings.get(f"{ours}username") or settings.get(f"{ours}xauthusername")
    with_eap = "local-2" if parts["local-2"].values.get("auth", "").startswith("eap") else "local"
    if user:
        parts[with_eap].values["eap_id"] = user
    if settings.get("aaa_identity"):
        parts[with_eap].values["aaa_id"] = settings["aaa_identity"]
    if parts["remote"].values.get("ca_id") in ("%same", "%any"):
        del parts["remote"].values["ca_id"]
    _request(settings, ours, dialect, root)
    _selectors(settings, ours, theirs, parts["child"])
    _identities(settings, theirs, dialect, parts, draft)
    root.sections.update({side: parts[side] for side in sides if side in ("local", "remote") or parts[side].values})
    return root


def _signature(words: Sequence[str], method: str) -> str:
    """Authentication by signatures with what libreswan says of them: its RSA with SHA-2 is RSASSA-PSS."""
    if method != "pubkey" or not all("-sha2" in word for word in words):
        return method
    return "-".join(word.replace("rsa-sha2", "rsa/pss-sha2") for word in words)


def _put(parts: Mapping[str, Section], where: tuple[str, str], value: str) -> None:
    section, name = where
    parts[section].values[name] = _AUTHBY.get(value.lower(), value) if name == "auth" else value


def _request(settings: Mapping[str, str], ours: str, dialect: Dialect, root: Section) -> None:
    """Which addresses are asked for; to libreswan `sourceip` alone asks for none."""
    source = settings.get(f"{ours}sourceip", "")
    if dialect is Dialect.LIBRESWAN and settings.get(f"{ours}modecfgclient") in _YES:
        root.values["vips"] = "0.0.0.0,::"
    elif dialect is Dialect.STRONGSWAN and source:
        families = {"%config4": "0.0.0.0", "%config6": "::", "%config": "0.0.0.0,::"}  # noqa: S104
        wanted = [families.get(word, families["%config"] if word.startswith("%") else word) for word in listed(source)]
        root.values["vips"] = ",".join(wanted)


def _selectors(settings: Mapping[str, str], ours: str, theirs: str, child: Section) -> None:
    for key in ("local_ts", "remote_ts"):
        value = child.values.get(key, "").strip().strip("{}").strip()
        if value.startswith(("vhost:", "vnet:", "%priv")):
            value = ""
        child.values[key] = ",".join(re.split(r"[\s,]+", value)) if value else "dynamic"
    for side, key in ((ours, "local_ts"), (theirs, "remote_ts")):
        protocol = settings.get(f"{side}protoport")
        if protocol:
            child.values[key] = ",".join(
                part if "[" in part else f"{part}[{protocol}]" for part in listed(child.values[key])
            )


def _identities(
    settings: Mapping[str, str], theirs: str, dialect: Dialect, parts: Mapping[str, Section], draft: Draft
) -> None:
    """Without an identity the gateway is known by its address, in both programs."""
    if parts["local"].values.get("id", "").lower() in ("%fromcert", "%any"):
        del parts["local"].values["id"]  # the certificate's subject, here as well
    address = settings.get(theirs, "")
    certificate = settings.get(f"{theirs}cert")
    if "id" in parts["remote"].values:
        return
    if certificate:
        draft.warn(f"gateway.identity is not set: it is the subject of the certificate {printable(certificate, 80)}")
    elif dialect is Dialect.LIBRESWAN and not re.fullmatch(r"[0-9.]+|[0-9a-fA-F:]+", address):
        draft.warn(f"gateway.identity is not set: to libreswan it is the address of {printable(address, 80)}")


def _authorities(file: _File, draft: Draft) -> Section:
    section = Section()
    for name, settings in file.authorities.items():
        inner = Section()
        for key, value in settings.items():
            known = {"cacert": "cacert", "crluri": "crl_uris", "crluri2": "crl_uris2", "ocspuri": "ocsp_uris"}
            inner.values[known.get(key, key)] = value
        section.sections[name] = inner
    state = file.setup.get("strictcrlpolicy") or file.setup.get("crl-strict") or file.setup.get("ocsp-strict")
    if state not in (None, "no"):
        draft.set("gateway", "revocation", "ifuri" if state == "ifuri" else "strict")
    return section


def _secrets(place: Neighbours, given: str | None, draft: Draft) -> SecretFile:
    if given is not None:
        return ipsec_secrets(given)
    data = place.read("ipsec.secrets")
    if data is None:
        return SecretFile()
    try:
        return ipsec_secrets(data.decode("utf-8", "surrogateescape"), place)
    except ProfileError as error:
        draft.warn(f"ipsec.secrets is not used: {error.message}")
        return SecretFile()


def _post_quantum(settings: Mapping[str, str], secrets: SecretFile, root: Section) -> None:
    """libreswan's `ppk`: which key is said by `ppk-ids`, else by the secrets. Raises ProfileError."""
    wanted = settings.get("ppk", "no").lower()
    if wanted in ("no", "never", "0", "false", "off"):
        return
    known = [owner for secret in secrets.secrets if secret.kind == "ppk" for owner in secret.owners]
    named = listed(settings.get("ppk-ids")) or known
    if not named:
        raise ProfileError(
            f"ppk = {printable(wanted, 20)}: the post-quantum preshared key (RFC 8784) is in ipsec.secrets, "
            "which is not there",
            hint="give it with --secrets FILE",
        )
    root.values["ppk_id"] = named[0]
    root.values["ppk_required"] = "yes" if wanted in ("insist", "always") else "no"


def _exclude(settings: Mapping[str, str], draft: Draft) -> None:
    """A bypass policy of the same file becomes an exclusion."""
    found = read_selectors(listed(settings.get("rightsubnet")))
    if found.networks and not found.everything:
        excluded = draft.tables["network"].setdefault("exclude", [])
        excluded += [network for network in found.networks if network not in excluded]


def _after(settings: Mapping[str, str], ours: str, dialect: Dialect, draft: Draft) -> None:
    """Warn about what is left."""
    method = draft.method
    attached = {item.key for item in draft.attachments}
    if "psk" in (method, draft.gateway_method) and ("auth", "psk") not in attached:
        draft.warn("the pre-shared key is in ipsec.secrets, which is not there: give it with --secrets FILE")
    with_password = draft.section_for(lambda each: is_eap(each) and not uses_certificate(each))
    if with_password is not None and (with_password, "password") not in attached:
        draft.warn("the password is in ipsec.secrets, which is not there: it will be asked for, or give --secrets FILE")
    certificate = settings.get(f"{ours}cert", "")
    if dialect is Dialect.LIBRESWAN and certificate and not certificate.startswith("/"):
        draft.tables["auth"].pop("certificate", None)
        draft.tables["auth"].pop("key", None)
        draft.settle("our private key")
        draft.warn(
            f"our certificate {printable(certificate, 80)} is in libreswan's NSS database: "
            "`pk12util -o FILE -n NAME -d sql:/var/lib/ipsec/nss` writes it, then give --p12 FILE"
        )
    known = _CONNECTION_KEYS.keys() | _CHILD_KEYS.keys() | _SILENT
    rest = []
    for key in settings.keys() - known - {"left", "right"}:
        side = next((each for each in ("left", "right") if key.startswith(each)), None)
        bare = key.removeprefix(side) if side else key
        table = _OURS if side == ours else _THEIRS
        if side is None or (bare not in table and bare not in _SILENT_SIDE):
            rest.append(key)
    draft.lost(sorted(rest))
