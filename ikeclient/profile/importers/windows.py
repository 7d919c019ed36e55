"""Windows' built-in client: PowerShell scripts, ProfileXML, and the phone book (`rasphone.pbk`).

A script is text here and is never run: commands that set up a connection are looked for, with the values of plain
variables and hash tables put in. Names of algorithms are those of `Set-VpnConnectionIPsecConfiguration`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ProfileError
from ikeclient.profile.importers.containers import open_bundle
from ikeclient.profile.importers.draft import Ask, Draft, decode_base64
from ikeclient.profile.importers.eap_host import EAP_TYPES, read_eap_host
from ikeclient.profile.importers.on_demand import trust_domains
from ikeclient.profile.importers.selectors import networks_of
from ikeclient.profile.importers.swanctl import choose, decode_text
from ikeclient.profile.importers.xml import Element, parse_xml
from ikeclient.profile.model.methods import uses_certificate
from ikeclient.profile.secrets.credentials import is_pkcs12
from ikeclient.wire.text import printable

MAX_COMMANDS = 500
MAX_WORDS = 20_000
CIPHERS = {
    "AES128": "aes128",
    "AES192": "aes192",
    "AES256": "aes256",
    "GCMAES128": "aes128gcm16",
    "GCMAES192": "aes192gcm16",
    "GCMAES256": "aes256gcm16",
}
HASHES = {
    "SHA196": "sha1",
    "SHA1": "sha1",
    "SHA256128": "sha256",
    "SHA256": "sha256",
    "SHA384": "sha384",
}
GROUPS = {
    "Group14": "modp2048",
    "ECP256": "ecp256",
    "ECP384": "ecp384",
    "PFS2048": "modp2048",
    "PFSMM": "modp2048",
    "Group2": "modp1024",
    "Group1": "modp768",
    "PFS1": "modp768",
    "PFS2": "modp1024",
    "Group24": "modp2048s256",
    "PFS24": "modp2048s256",
}
# CustomIPSecPolicies of a phone book, in the order of its numbers: hash, cipher and group of the IKE SA, cipher, hash
# and group of the Child SA. They are Windows' enumerations IKEEXT_INTEGRITY_TYPE, IKEEXT_CIPHER_TYPE, IKEEXT_DH_GROUP,
# IPSEC_CIPHER_CONFIG, IPSEC_AUTH_CONFIG and IPSEC_PFS_GROUP.
_POLICY: tuple[tuple[str, ...], ...] = (
    ("md5", "sha1", "sha256", "sha384"),
    ("des", "3des", "aes128", "aes192", "aes256", "aes128gcm16", "aes256gcm16"),
    ("", "modp768", "modp1024", "modp2048", "ecp256", "ecp384", "modp2048s256"),
    ("", "des", "3des", "aes128", "aes192", "aes256", "aes128gcm16", "aes192gcm16", "aes256gcm16"),
    ("md5", "sha1", "sha256", "", "", ""),  # the last three are GCM's own
    ("", "modp768", "modp1024", "modp2048", "ecp256", "ecp384", "", "modp2048s256"),
)
_POLICY_PFS_AS_IKE = 6  # the group of the IKE SA again
_TTLS = {"pap": "pap", "mschapv2": "mschapv2", "eap": "eap-mschapv2"}
_TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|`\r?\n|\#[^\n]*)
      | (?P<block><\#|@'\r?\n|@"\r?\n)
      | "(?P<double>(?:[^"`]|`.|"")*)" | '(?P<single>(?:[^']|'')*)'
      | (?P<table>@\{)
      | (?P<sign>[(){}\[\],;=|&]|\r?\n)
      | (?P<word>[^\s"'(){}\[\],;=|&`]+)""",
    re.VERBOSE | re.DOTALL,
)
_SETS_UP = re.compile(r"(?:vpnclient\\)?(add|set)-vpnconnection\w*", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"\$(?:(?:script|global|local):)?(\w+)\Z", re.IGNORECASE)
_CONCATENATED = re.compile(r"""['"]\s{0,20}\+\s{0,20}\$(\w+)\s{0,20}\+\s{0,20}['"]|\$\(?(\w+)\)?""")
_BLOCK_ENDS = {"<#": "#>", "@'": "\n'@", '@"': '\n"@'}
_TYPE = re.compile(r"<(?:\w{1,40}:)?Type\b[^<>]{0,200}>[ \t\r\n]{0,20}(\d{1,5})[ \t\r\n]{0,20}</")
MAX_SCRIPT = 1 << 20  # bytes
_Token = tuple[str, str]  # kind and text
_Command = dict[str, list[str]]


class _Script:
    """Variables, hash tables and commands of a script."""

    def __init__(self, text: str) -> None:
        """Raises ProfileError for a script that is too long."""
        if len(text) > MAX_SCRIPT:
            raise ProfileError(f"this script is larger than {MAX_SCRIPT >> 20} MiB")
        self.variables: dict[str, str] = {}
        self.tables: dict[str, dict[str, list[str]]] = {}
        self.commands: list[tuple[str, _Command]] = []
        self._tokens = _tokens(text)
        self._read()

    def _read(self) -> None:
        position = 0
        tokens = self._tokens
        while position < len(tokens):
            kind, text = tokens[position]
            name = _ASSIGNMENT.match(text) if kind == "word" else None
            if name and tokens[position + 1 : position + 2] == [("sign", "=")]:
                command = tokens[position + 2 : position + 3]
                made = command and command[0][0] == "word" and _SETS_UP.fullmatch(command[0][1])
                position = position + 2 if made else self._assign(name[1].lower(), position + 2)
            elif kind == "word" and _SETS_UP.fullmatch(text):
                position = self._command(text.lower().rpartition("\\")[2], position + 1)
            else:
                position += 1

    def _assign(self, name: str, position: int) -> int:
        """Take in a value that stands there; what a command would return is not known."""
        if position >= len(self._tokens):
            return position
        kind, text = self._tokens[position]
        if kind == "table":
            return self._table(name, position + 1)
        if kind == "string" or (kind == "word" and not re.fullmatch(r"[A-Za-z]+-[A-Za-z]+|@.*|\$\w+\..*", text)):
            self.variables[name] = self._value(kind, text)
        return position + 1

    def _table(self, name: str, position: int) -> int:
        table: dict[str, list[str]] = {}
        key: str | None = None
        while position < len(self._tokens):
            kind, text = self._tokens[position]
            position += 1
            if (kind, text) == ("sign", "}"):
                break
            if kind in ("string", "word") and self._tokens[position : position + 1] == [("sign", "=")]:
                key = text.lower()
                table[key] = []
                position += 1
            elif kind in ("string", "word") and key is not None:
                table[key].append(self._value(kind, text))
        self.tables[name] = table
        return position

    def _command(self, name: str, position: int) -> int:
        options: _Command = {}
        key: str | None = None
        while position < len(self._tokens):
            kind, text = self._tokens[position]
            if kind == "sign" and text in (";", "|", "}", ")", "&", "\n", "\r\n"):
                break
            position += 1
            if kind == "word" and re.match(r"-[A-Za-z]", text):
                key, _, rest = text[1:].lower().partition(":")
                options[key] = [rest.lstrip("$")] if rest else []
            elif kind == "word" and text.startswith("@"):
                for each, values in self.tables.get(text[1:].lower(), {}).items():
                    options[each] = values
            elif kind in ("string", "word"):
                options.setdefault(key or "", []).append(self._value(kind, text))
        self.commands.append((name, options))
        if len(self.commands) > MAX_COMMANDS:
            raise ProfileError(f"this has more than {MAX_COMMANDS} commands")
        return position

    def _value(self, kind: str, text: str) -> str:
        """Text with the variables that it names; text in single quotes comes without any."""
        if kind == "word" and (match := _ASSIGNMENT.match(text)):
            return self.variables.get(match[1].lower(), text)
        return _filled(re.compile(r"\$\{?(\w+)\}?"), text, self.variables, keep=True)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            position += 1
            continue
        position = match.end()
        if match["skip"] is not None:
            continue
        if match["block"] is not None:  # a comment or a text of many lines, neither of which names anything
            end = text.find(_BLOCK_ENDS[match["block"][:2]], position)
            position = len(text) if end < 0 else end + 3
        elif match["double"] is not None:
            found.append(("string", re.sub(r"`(.)", r"\1", match["double"].replace('""', '"'))))
        elif match["single"] is not None:
            found.append(("string", match["single"].replace("''", "'").replace("$", "\0")))
        elif match["table"] is not None:
            found.append(("table", "@{"))
        elif match["sign"] is not None:
            found.append(("sign", match["sign"]))
        else:
            found.append(("word", match["word"]))
        if len(found) > MAX_WORDS:
            raise ProfileError("this script is too long")
    return [(kind, text.replace("\0", "$")) if kind == "string" else (kind, text) for kind, text in found]


def read_powershell(data: bytes, connection: str | None, fallback: str, ask: Ask | None = None) -> Draft:
    """The one connection that a script sets up, or the one called `connection`. Raises ProfileError."""
    text = decode_text(data)
    script = _Script(_without_shell(text))
    found: dict[str, _Command] = {}
    for command, options in script.commands:
        if command in ("add-vpnconnection", "set-vpnconnection"):
            name = _first(options, "name", "connectionname") or _first(options, "") or fallback
            found.setdefault(name, {}).update(options)
    if not found:
        raise ProfileError("there is no Add-VpnConnection in it")
    clients = [name for name, options in found.items() if _first(options, "serveraddress")]
    name = choose(list(found), clients, connection)
    options = found[name]
    draft = Draft(name)
    _tunnel_type(_first(options, "tunneltype") or "Automatic", draft)
    address = (_first(options, "serveraddress") or "").strip()
    draft.set("gateway", "address", "" if "$" in address or "%" in address else address)
    _method([value.lower() for value in options.get("authenticationmethod", [])], text, draft)
    split = "splittunneling" in options and (_first(options, "splittunneling") or "true").lower() not in ("false", "0")
    routes = [
        network
        for command, each in script.commands
        if command == "add-vpnconnectionroute" and (_first(each, "connectionname", "name", "") or name) == name
        for network in networks_of(_first(each, "destinationprefix") or "")
    ]
    _routes(routes, split=split, draft=draft)
    for command, each in script.commands:
        if (
            command == "set-vpnconnectionipsecconfiguration"
            and (_first(each, "connectionname", "name", "") or name) == name
        ):
            _suites({key: values[0] for key, values in each.items() if values}, draft)
    trust_domains(_trusted(script, name), "Add-VpnConnectionTriggerTrustedNetwork", draft)
    if suffix := _first(options, "dnssuffix"):
        draft.lost([f"-DnsSuffix {suffix}"], "it is a search list, which the gateway may give")
    if options.get("l2tppsk"):
        draft.lost(["-L2tpPsk"], "it is for L2TP")
    _store(draft)
    _embedded(script.variables, draft, ask)
    return draft


def _trusted(script: _Script, connection: str) -> list[str]:
    """The DNS suffixes of networks on which a connection is not started."""
    found: list[str] = []
    configured: list[str] = []
    for command, options in script.commands:
        if (_first(options, "connectionname", "name", "") or connection) != connection:
            continue
        named = options.get("dnssuffix") or options.get("", [])[0 if "connectionname" in options else 1 :]
        if command == "add-vpnconnectiontriggerdnsconfiguration" and "dnsipaddress" in options:
            configured += named
        elif command == "add-vpnconnectiontriggertrustednetwork":
            found += named
        elif command == "set-vpnconnectiontriggertrustednetwork" and "defaultdnssuffixes" in options:
            found += configured
    return found


def _without_shell(text: str) -> str:
    """A batch file calls PowerShell with a command in quotes: the quotes go."""
    lines = []
    for line in text.splitlines():
        before, command, rest = line.partition("-command ")
        if command and "powershell" in before.lower() and rest.strip()[:1] == '"':
            line = rest.strip()[1:].rpartition('"')[0] or rest
        lines.append(line)
    return "\n".join(lines)


def _first(options: Mapping[str, list[str]], *keys: str) -> str | None:
    return next((options[key][0] for key in keys if options.get(key)), None)


def _tunnel_type(written: str, draft: Draft) -> None:
    if written.lower() not in ("ikev2", "automatic", "ikev2only"):
        raise ProfileError(f"this connection is {printable(written, 20)}, no IKEv2", hint="ikeclient speaks IKEv2")
    if written.lower() == "automatic":
        draft.warn("the tunnel type is automatic: Windows may use SSTP or L2TP instead, here it is IKEv2")


def _method(methods: list[str], text: str, draft: Draft) -> None:
    if "machinecertificate" in methods or "certificate" in methods:
        draft.set("auth", "method", "certificate")
        return
    if read_eap_host(text, draft):
        return
    types = _TYPE.findall(text)
    found = next((EAP_TYPES[each] for each in types if each in EAP_TYPES), None)
    made = text.lower().partition("new-eapconfiguration")[2].partition("\n")[0].split()
    for option, meant in (("-peap", "eap-peap"), ("-ttls", "eap-ttls"), ("-tls", "eap-tls")):
        found = found or (meant if option in made else None)
    if methods and not set(methods) & {"eap", "mschapv2", "chap", "pap"}:
        raise ProfileError(f"the authentication method {printable(methods[0], 40)} is not known")
    draft.set("auth", "method", found or "eap")
    if draft.method == "eap-ttls":
        chosen = made[made.index("-tunnlednoneapauthmethod") + 1 :] if "-tunnlednoneapauthmethod" in made else ["eap"]
        inside = _TTLS.get(chosen[0].strip("'\"")) if chosen else None
        draft.set("auth", "inner", inside)
        if inside is None:
            draft.warn(f"not carried over: {printable(''.join(chosen[:1]), 40)} inside eap-ttls (set auth.inner)")


def _store(draft: Draft) -> None:
    if uses_certificate(draft.method):
        draft.warn("our certificate is in Windows' store: set auth.certificate, or give --p12 FILE")
    else:
        draft.warn("the user name is not in the file: set auth.user, or give --user")
    draft.warn("Windows trusts the machine's root store: if the gateway's authority is your own, give --ca FILE")


def _embedded(variables: Mapping[str, str], draft: Draft, ask: Ask | None) -> None:
    """Certificates that a script brings along in Base64, as generators of scripts do."""
    for value in variables.values():
        if len(value) < 200 or not value.startswith(("MII", "LS0t")):
            continue
        try:
            data = decode_base64(value, "a variable")
        except ProfileError:
            continue
        if is_pkcs12(data) and uses_certificate(draft.method):
            draft.own("auth", "certificate", "p12", data, "our certificate and its key")
            draft.settle("our certificate is in")
            open_bundle(draft, data, None, ask)
            continue
        try:
            Certificate.load_many(data)
        except ProfileError:
            continue
        draft.authorities([data])


def _routes(networks: list[str], *, split: bool, draft: Draft) -> None:
    if not split:
        draft.set("network", "routes", "all")
    elif networks:
        draft.set("network", "routes", list(dict.fromkeys(networks)))


def _suites(options: Mapping[str, str], draft: Draft) -> None:
    """The constants of Set-VpnConnectionIPsecConfiguration and of CryptographySuite; keys are in lower case."""

    def known(table: Mapping[str, str], key: str) -> str:
        written = options.get(key, "")
        if written.lower() in ("", "none"):
            return ""
        return next(
            (ours for theirs, ours in table.items() if theirs.lower() == written.lower()), printable(written, 40)
        )

    cipher, integrity = known(CIPHERS, "encryptionmethod"), known(HASHES, "integritycheckmethod")
    if cipher:
        draft.proposals("ike", ["-".join(part for part in (cipher, integrity, known(GROUPS, "dhgroup")) if part)])
    cipher, integrity = known(CIPHERS, "ciphertransformconstants"), options.get("authenticationtransformconstants", "")
    integrity = "" if integrity.upper().startswith("GCMAES") else known(HASHES, "authenticationtransformconstants")
    if cipher:
        draft.proposals("esp", ["-".join(part for part in (cipher, integrity, known(GROUPS, "pfsgroup")) if part)])


def read_profile_xml(data: bytes, connection: str | None, fallback: str) -> Draft:
    """The connection of a ProfileXML (`VPNProfile`). Raises ProfileError."""
    text = decode_text(data)
    root = parse_xml(data if text.lstrip().startswith("<") else _inside_script(text).encode())
    if root.name.lower() != "vpnprofile":
        root = next(iter(root.everywhere("VPNProfile")), root)
    native = root.find("NativeProfile")
    if native is None:
        plugin = root.value("PluginProfile", "PluginPackageFamilyName")
        reason = f"it is for the app {printable(plugin, 80)}" if plugin else None
        raise ProfileError("this ProfileXML holds no connection of Windows' own client", reason=reason)
    name = root.value("ProfileName") or fallback
    if connection not in (None, name):
        raise ProfileError("there is no connection of that name in it", reason=f"it holds {printable(name, 60)}")
    draft = Draft(name)
    _tunnel_type(
        native.value("NativeProtocolType") or native.value("ProtocolList", "NativeProtocolList", "Type"), draft
    )
    draft.set("gateway", "address", native.value("Servers").partition(";")[0].partition(",")[0].strip())
    methods = [native.value("Authentication", key).lower() for key in ("UserMethod", "MachineMethod")]
    _method([each for each in methods if each], data.decode("utf-8", "replace"), draft)
    split = native.value("RoutingPolicyType").lower() != "forcetunnel"
    included, excluded = _profile_routes(root)
    _routes(included, split=split, draft=draft)
    draft.set("network", "exclude", excluded or None)
    suite = native.find("CryptographySuite")
    if suite is not None:
        _suites({child.name.lower(): child.text.strip() for child in suite.children}, draft)
    _names(root, draft)
    trust_domains(root.value("TrustedNetworkDetection").split(","), "TrustedNetworkDetection", draft)
    for key, what in (
        (
            "LockDown",
            "LockDown: traffic without the tunnel is dropped there; session.kill_switch = true lets nothing past it "
            "here, from `connect` on",
        ),
        ("AlwaysOn", "AlwaysOn: the tunnel starts by itself there; with [when], `ikeclient watch` starts it here"),
        ("DeviceTunnel", "DeviceTunnel"),
    ):
        if root.value(key).lower() in ("true", "1"):
            (draft.risk if key == "LockDown" else draft.warn)(f"not carried over: {what}")
    if root.all("TrafficFilter") or root.all("AppTrigger"):
        draft.risk(
            "not carried over: filters for single apps or kinds of traffic; here the whole machine uses the tunnel"
        )
    if root.all("Proxy"):
        draft.lost(["Proxy"], "proxies are set in programs, not by the tunnel")
    _store(draft)
    return draft


def _inside_script(text: str) -> str:
    """The VPNProfile that a script puts together from text and variables."""
    lower = text.lower()
    start = lower.find("<vpnprofile")
    end = lower.find("</vpnprofile>", start)
    if start < 0 or end < 0:
        raise ProfileError("the VPNProfile in this script is not complete")
    end += len("</vpnprofile>")
    variables = _Script(text[:start] + "\n" + text[end:]).variables

    escaped = {name: value.replace("&", "&amp;").replace("<", "&lt;") for name, value in variables.items()}
    return _filled(_CONCATENATED, text[start:end], escaped, keep=False)


def _filled(pattern: re.Pattern[str], text: str, variables: Mapping[str, str], *, keep: bool) -> str:
    """Text with the values of variables in it; raises ProfileError if it becomes too long."""
    budget = MAX_SCRIPT

    def value(match: re.Match[str]) -> str:
        nonlocal budget
        name = next(group for group in match.groups() if group is not None)
        found = variables.get(name.lower(), match[0] if keep else "")
        budget -= len(found)
        if budget < 0:
            raise ProfileError("the variables of this script become too long")
        return found

    return pattern.sub(value, text)


def _profile_routes(root: Element) -> tuple[list[str], list[str]]:
    included: list[str] = []
    excluded: list[str] = []
    for route in root.everywhere("Route"):
        found = networks_of(f"{route.value('Address')}/{route.value('PrefixSize') or '32'}")
        (excluded if route.value("ExclusionRoute").lower() == "true" else included).extend(found)
    return included, excluded


def _names(root: Element, draft: Draft) -> None:
    servers: list[str] = []
    domains: list[str] = []
    for rule in root.all("DomainNameInformation"):
        own = [item.strip() for item in rule.value("DnsServers").split(",") if networks_of(item.strip())]
        if own and rule.value("DomainName"):
            servers += own
            domains.append(rule.value("DomainName").strip("."))
    draft.dns(servers, [domain for domain in domains if domain])


def _policy(written: str, draft: Draft) -> None:
    """What a phone book says of both SAs: numbers of four octets, the least significant one first."""
    try:
        data = bytes.fromhex(written)
    except ValueError:
        data = b""
    numbers = [int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data), 4)]
    if len(data) != 4 * len(_POLICY) or any(
        number >= len(words) for number, words in zip(numbers, _POLICY, strict=True)
    ):
        draft.warn("not carried over: CustomIPSecPolicies (set crypto.ike and crypto.esp)")
        return
    words = [each[number] for number, each in zip(numbers, _POLICY, strict=True)]
    ike_hash, ike_cipher, ike_group, cipher, integrity, group = words
    group = ike_group if numbers[5] == _POLICY_PFS_AS_IKE else group
    for kind, parts in (("ike", (ike_cipher, ike_hash, ike_group)), ("esp", (cipher, integrity, group))):
        if parts[0] and (kind == "ike" or integrity or "gcm" in cipher):
            kept = [word for word in parts if word and not (kind == "esp" and word == integrity and "gcm" in cipher)]
            draft.proposals("ike" if kind == "ike" else "esp", ["-".join(kept)])
        else:
            draft.warn(f"not carried over: what CustomIPSecPolicies says of {kind.upper()} (set crypto.{kind})")


def read_phonebook(data: bytes, connection: str | None, fallback: str) -> Draft:
    """The one connection of IKEv2 in a phone book, or the one called `connection`. Raises ProfileError."""
    entries: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in decode_text(data).splitlines()[:MAX_WORDS]:
        plain = line.strip()
        if plain.startswith("[") and plain.endswith("]"):
            current = entries.setdefault(plain[1:-1], {})
        elif "=" in plain:
            key, _, value = plain.partition("=")
            current.setdefault(key.strip().lower(), value.strip())
    clients = [
        name
        for name, entry in entries.items()
        if entry.get("phonenumber") and entry.get("vpnstrategy", "7") in ("7", "8", "14")
    ]
    if not clients:
        raise ProfileError("there is no IKEv2 connection in this phone book", hint="its VpnStrategy has to be 7 or 8")
    name = choose(list(entries), clients, connection)
    entry = entries[name]
    draft = Draft(name or fallback)
    _tunnel_type("ikev2" if entry.get("vpnstrategy") == "7" else "automatic", draft)
    draft.set("gateway", "address", entry.get("phonenumber", ""))
    custom = entry.get("customauthkey", "")
    draft.set("auth", "method", EAP_TYPES.get(custom, "eap"))
    if entry.get("machinecertificateissuername") or entry.get("authrestrictions") == "2048":
        draft.set("auth", "method", "certificate")
    _routes([], split=entry.get("ipprioritizeremote", "1") == "0", draft=draft)
    if entry.get("customipsecpolicies") and entry.get("numcustompolicy", "1") != "0":
        _policy(entry["customipsecpolicies"], draft)
    if entry.get("numtrustednetworks", "0") != "0":
        draft.warn("not carried over: the networks that the phone book trusts (set when.trusted)")
    if any("eaphostconfig" in value.lower() for value in entry.values()):
        draft.warn("not carried over: the settings of EAP in the phone book (set auth.server_name and auth.server_ca)")
    _store(draft)
    return draft
