"""Which kind of file it is that is to be imported, what is in it, and what the user adds to it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path, PurePosixPath

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.formats import MAX_LENGTH, ImportFormat
from ikeclient.profile.importers.azure import read_azure
from ikeclient.profile.importers.containers import is_signed, open_bundle, unwrap
from ikeclient.profile.importers.draft import Ask, Draft, decode_base64
from ikeclient.profile.importers.foreign_secrets import SecretFile, ipsec_secrets, is_ipsec_secrets
from ikeclient.profile.importers.iked import read_iked
from ikeclient.profile.importers.ipsec import read_ipsec
from ikeclient.profile.importers.mikrotik import read_mikrotik
from ikeclient.profile.importers.mobileconfig import read_mobileconfig
from ikeclient.profile.importers.neighbours import Archive, Neighbours
from ikeclient.profile.importers.networkmanager import read_networkmanager
from ikeclient.profile.importers.sswan import read_sswan
from ikeclient.profile.importers.swanctl import read_swanctl
from ikeclient.profile.importers.windows import read_phonebook, read_powershell, read_profile_xml
from ikeclient.profile.model.methods import is_eap, uses_certificate
from ikeclient.profile.secrets.credentials import is_pkcs12
from ikeclient.wire.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """What the user adds: contents of files, names, and a way to ask for a passphrase."""

    user: str | None = None
    gateway: str | None = None
    authorities: tuple[bytes, ...] = ()
    bundle: bytes | None = field(default=None, repr=False)
    secrets: bytes | None = field(default=None, repr=False)
    ask: Ask | None = None


_PKCS7 = (b"-----BEGIN PKCS7-----", b"-----BEGIN CMS-----")
_SWANCTL = re.compile(rb"^[ \t]*(connections|secrets|pools|authorities)\b[^\n=]*\s{0,100}\{", re.MULTILINE)
_CONN = re.compile(rb"^(conn|ca)[ \t]+\S+[ \t\r]*(#[^\n]*)?$|^config[ \t]+setup\b", re.MULTILINE)
_INCLUDE = re.compile(rb"^[ \t]*include[ \t]+\S+", re.MULTILINE)
_SIGNS: tuple[tuple[re.Pattern[bytes], ImportFormat], ...] = (
    (re.compile(rb"<VPNProfile[\s>]", re.IGNORECASE), ImportFormat.PROFILEXML),
    (re.compile(rb"^[ \t]*\[vpn\][ \t\r]*$", re.MULTILINE), ImportFormat.NETWORKMANAGER),
    (re.compile(rb"^[ \t]*(VpnStrategy|PhoneNumber)=", re.MULTILINE), ImportFormat.PHONEBOOK),
    (re.compile(rb"\b(Add|Set)-VpnConnection", re.IGNORECASE), ImportFormat.POWERSHELL),
    (re.compile(rb"^[ \t]*/ip[ /]+ipsec\b", re.MULTILINE), ImportFormat.MIKROTIK),
    (
        re.compile(
            rb"^[ \t]*ikev2[ \t]+([\"']|active|passive|quick|esp|default|ipcomp|t(unnel|ransport))", re.MULTILINE
        ),
        ImportFormat.IKED,
    ),
)
_OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"<AzVpnProfile[\s>]"), "an Azure VPN client profile, which is OpenVPN"),
    (re.compile(rb"^[ \t]*\[Interface\][ \t\r]*$", re.MULTILINE), "a WireGuard configuration"),
    (
        re.compile(rb"^[ \t]*(remote[ \t]+\S+[ \t]+\d+|client|dev tun)[ \t\r]*$", re.MULTILINE),
        "an OpenVPN configuration",
    ),
    (re.compile(rb"^[ \t]*(remote[ \t]+\S+[ \t]*\{|sainfo\s)", re.MULTILINE), "a racoon configuration, which is IKEv1"),
    (re.compile(rb"^IPSec gateway\s", re.MULTILINE), "a vpnc configuration, which is IKEv1"),
    (re.compile(rb"^\[main\][^\[]*^Host=", re.MULTILINE | re.DOTALL), "a Cisco .pcf profile, which is IKEv1"),
)


def kind_of(data: bytes, name: str = "") -> ImportFormat:
    """The kind, by the content; `name` decides only between formats that look alike. Raises ProfileError."""
    if is_pkcs12(data):
        return ImportFormat.PKCS12
    if data.startswith(b"bplist00"):
        return ImportFormat.MOBILECONFIG
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:4096]
    if start.startswith(b"<"):
        if re.search(rb"<VpnProfile[\s>]", data) and re.search(rb"<VpnServer[\s>]", data):
            return ImportFormat.AZURE
        if re.search(rb"<(!DOCTYPE )?plist[\s>]", data[:4096]):
            return ImportFormat.MOBILECONFIG
    if start.startswith(b"{"):
        return ImportFormat.SSWAN
    if _SWANCTL.search(data):
        return ImportFormat.SWANCTL
    for sign, kind in _SIGNS:
        if sign.search(data):
            return kind
    if _CONN.search(data):
        return ImportFormat.IPSEC
    for sign, what in _OTHERS:
        if sign.search(data):
            raise ProfileError(f"this is {what}", hint="ikeclient speaks IKEv2")
    if _INCLUDE.search(data):
        return ImportFormat.IPSEC if "ipsec" in name else ImportFormat.SWANCTL
    _name_other(data)
    raise ProfileError("this is no kind of profile that can be imported", hint=f"known are {', '.join(ImportFormat)}")


def _name_other(data: bytes) -> None:
    """Raise ProfileError for files that are often taken for profiles."""
    if is_ipsec_secrets(data[:65536].decode("utf-8", "replace")):
        raise ProfileError(
            "this is an ipsec.secrets file: secrets without a connection",
            hint="import the ipsec.conf; the secrets beside it are read, or give them with --secrets FILE",
        )
    try:
        certificate = Certificate.load_many(data)[0]
    except ProfileError:
        return
    what = "--ca FILE" if certificate.is_authority else "auth.certificate"
    raise ProfileError(f"this is the certificate of {certificate.subject}, no profile", hint=f"use it as {what}")


def read_foreign(
    data: bytes,
    kind: ImportFormat | None = None,
    *,
    connection: str | None = None,
    source: Path | None = None,
    extras: Extras | None = None,
) -> Draft:
    """The profile in `data`; `source` is the file it came from, None for standard input. Raises ProfileError."""
    if len(data) > MAX_LENGTH and not data.startswith(b"PK\x03\x04"):
        raise ProfileError(f"this is larger than {MAX_LENGTH >> 20} MiB")
    if not data.strip():
        raise ProfileError("this is empty")
    extras = extras or Extras()
    if data.startswith(b"PK\x03\x04"):
        return _read_place(Archive(data), kind, connection, extras)
    place = Neighbours(None) if source is None else Neighbours.beside(source.absolute())
    name = "imported" if source is None else source.name
    return _read(data, name, place, kind, connection, extras)


def read_directory(
    directory: Path, kind: ImportFormat | None = None, *, connection: str | None = None, extras: Extras | None = None
) -> Draft:
    """The one profile in a directory. Raises ProfileError if there is none or more than one."""
    return _read_place(Neighbours.beside(directory.absolute()), kind, connection, extras or Extras())


def _read_place(place: Neighbours, kind: ImportFormat | None, connection: str | None, extras: Extras) -> Draft:
    """The one profile among the files of a directory or an archive; what it needs may lie beside it."""
    found: list[tuple[str, ImportFormat, bytes]] = []
    refused: list[ProfileError] = []
    for name in place.everything():
        data = _text(place.read(name) or b"")
        try:
            each = kind_of(data, PurePosixPath(name).name)
        except ProfileError as error:
            if "this is no kind" not in error.message and "certificate" not in error.message:
                refused.append(error)
            continue
        if each is not ImportFormat.PKCS12 or kind is ImportFormat.PKCS12:
            found.append((name, each, data))
    if kind is not None:
        found = [item for item in found if item[1] is kind]
    chosen = _main_file(found, connection)
    if chosen is None:
        if found:
            names = ", ".join(printable(name, 60) for name, _, _ in found[:10])
            raise ProfileError(
                "there are several profiles in it", reason=f"it holds {names}", hint="import one of them"
            )
        if refused:
            raise refused[0]
        raise ProfileError("there is no profile in it", hint=f"known are {', '.join(ImportFormat)}")
    name, each, data = chosen
    directory, _, last = name.rpartition("/")
    if isinstance(place, Archive):
        inner: Neighbours = place.below(directory)
    else:
        inner = Neighbours.beside((place.root or Path("/")) / name, place.owner)
    return _read(data, last, inner, each, connection, extras)


def _main_file(
    found: Sequence[tuple[str, ImportFormat, bytes]], connection: str | None
) -> tuple[str, ImportFormat, bytes] | None:
    """The file to import: the only one, or the one that includes the others."""
    azure = [item for item in found if item[1] is ImportFormat.AZURE]
    if azure:
        return azure[0]
    for kind, main in ((ImportFormat.SWANCTL, "swanctl.conf"), (ImportFormat.IPSEC, "ipsec.conf")):
        ours = [item for item in found if item[1] is kind]
        if ours and len(ours) == len(found):
            root = next((item for item in ours if PurePosixPath(item[0]).name == main), None)
            if root is not None and (len(ours) == 1 or _INCLUDE.search(root[2]) or _CONN.search(root[2])):
                return root
    if len(found) == 1:
        return found[0]
    named = [item for item in found if connection is not None and connection == PurePosixPath(item[0]).stem]
    return named[0] if len(named) == 1 else None


def _text(data: bytes) -> bytes:
    """UTF-16 and UTF-32 text as UTF-8 without a mark; anything else stays as it is."""
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :]
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
        (b"<\0", "utf-16-le"),
        (b"\0<", "utf-16-be"),
    ):
        if data.startswith(mark):
            try:
                text = data.decode(encoding).removeprefix("\ufeff")
            except UnicodeDecodeError:
                return data
            declared = re.sub(r"""(<\?xml[^>]*?)\s+encoding\s*=\s*["'][^"']*["']""", r"\1", text[:200])
            return (declared + text[200:]).encode("utf-8", "surrogatepass")
    return data


def _read(
    data: bytes, name: str, place: Neighbours, kind: ImportFormat | None, connection: str | None, extras: Extras
) -> Draft:
    signer: str | None = None
    signed = False
    for start in _PKCS7:
        if start in data:
            body = data.partition(start)[2].partition(b"-----END ")[0]
            data = decode_base64(body.decode("ascii", "replace"), "the signed message")
    if is_signed(data):
        opened = unwrap(data)
        data, signer, signed = opened.content, opened.signer, True
        if is_signed(data):
            raise ProfileError("this is signed more than once")
    data = _text(data)
    kind = kind or kind_of(data, name)
    fallback = PurePosixPath(name).stem or "imported"
    draft = _draft(data, kind, connection, fallback, place, extras)
    if signed:
        draft.risk(f"signed by {signer or 'an unknown signer'}, not verified")
    _fill(draft, kind, extras)
    _require_gateway(draft)
    return draft


def _draft(
    data: bytes, kind: ImportFormat, connection: str | None, fallback: str, place: Neighbours, extras: Extras
) -> Draft:
    ask = extras.ask if extras.bundle is None and not extras.authorities else None
    match kind:
        case ImportFormat.MOBILECONFIG:
            return read_mobileconfig(data, connection, fallback, ask)
        case ImportFormat.SSWAN:
            return read_sswan(data, connection, fallback, ask)
        case ImportFormat.SWANCTL:
            return read_swanctl(data, connection, fallback, _above(place, "conf.d"), ask)
        case ImportFormat.IPSEC:
            secrets = None if extras.secrets is None else _decode(extras.secrets)
            return read_ipsec(data, connection, fallback, _above(place, "ipsec.d"), ask, secrets)
        case ImportFormat.NETWORKMANAGER:
            return read_networkmanager(data, connection, fallback, place, ask)
        case ImportFormat.POWERSHELL:
            return read_powershell(data, connection, fallback, ask)
        case ImportFormat.PROFILEXML:
            return read_profile_xml(data, connection, fallback)
        case ImportFormat.PHONEBOOK:
            return read_phonebook(data, connection, fallback)
        case ImportFormat.AZURE:
            return read_azure(data, fallback, place)
        case ImportFormat.MIKROTIK:
            return read_mikrotik(data, connection, fallback)
        case ImportFormat.IKED:
            return read_iked(data, connection, fallback)
        case ImportFormat.PKCS12:
            return _read_bundle(data, fallback, extras)


def _decode(secrets: bytes) -> str:
    return secrets.decode("utf-8", "surrogateescape")


def _above(place: Neighbours, directory: str) -> Neighbours:
    """The directory of the program's files, for a file in a directory below it."""
    root = place.root
    return Neighbours(root.parent, place.owner) if root is not None and root.name == directory else place


def _read_bundle(data: bytes, fallback: str, extras: Extras) -> Draft:
    """A PKCS#12 file alone: our certificate and the authorities, but no gateway."""
    if extras.gateway is None:
        raise ProfileError(
            "this is a PKCS#12 file: a certificate and its key, without a gateway",
            hint="name the gateway with --gateway HOST, or use the file as auth.certificate",
        )
    draft = Draft(fallback)
    draft.set("auth", "method", "certificate")
    draft.attach("auth", "certificate", "p12", data, "our certificate and its key")
    open_bundle(draft, data, None, None if extras.authorities else extras.ask)
    return draft


def _fill(draft: Draft, kind: ImportFormat, extras: Extras) -> None:
    """Put in what the user added."""
    if extras.gateway is not None:
        draft.set("gateway", "address", extras.gateway)
    if extras.user is not None:
        with_account = draft.section_for(is_eap)
        draft.set(with_account or "auth", "user" if with_account else "identity", extras.user)
        draft.settle("user name")
    if extras.bundle is not None:
        section = draft.section_for(uses_certificate) or "auth"
        draft.own(section, "certificate", "p12", extras.bundle, "our certificate and its key")
        draft.tables[section].pop("key", None)
        draft.detach(section, "key", "key_passphrase")
        open_bundle(draft, extras.bundle, None, None if extras.authorities else extras.ask)
        draft.settle("auth.certificate")
    if extras.authorities:
        draft.authorities(extras.authorities)
        draft.settle_risk("gateway.ca is not set", "the gateway's authority", "our PKCS#12 file may hold")
    if extras.secrets is not None and kind is not ImportFormat.IPSEC:
        _use_secrets(draft, ipsec_secrets(_decode(extras.secrets)), extras)


def _use_secrets(draft: Draft, secrets: SecretFile, extras: Extras) -> None:
    """Take the PSK or the password of our identity out of an ipsec.secrets file."""
    section = draft.section_for(is_eap) or "auth"
    ours = [draft.tables["auth"], draft.tables[section]]
    owners = [str(auth[key]) for auth in ours for key in ("user", "identity") if auth.get(key)]
    owners += [extras.user] if extras.user else []
    address = draft.tables["gateway"].get("address", "")
    peers = list(address) if isinstance(address, list) else [str(address)]
    if "psk" in (draft.method, draft.gateway_method) and (found := secrets.of("psk", [*owners, *peers])):
        draft.psk(found)
    if draft.section_for(is_eap) and (found := secrets.of("eap", owners)):
        draft.password(found, section)
    if (key := draft.tables["ppk"].get("id")) and (found := secrets.of("ppk", [str(key)])):
        draft.post_quantum(str(key), found, required=bool(draft.tables["ppk"]["required"]))
        draft.settle("ppk.secret")


def _require_gateway(draft: Draft) -> None:
    if not draft.tables["gateway"].get("address"):
        raise ProfileError("it does not name the gateway", hint="name it with --gateway HOST")
