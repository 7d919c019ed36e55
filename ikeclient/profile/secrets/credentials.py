"""Certificates, keys, trust and pre-shared keys: what a profile points at, read and checked before any packet is sent.

A pre-shared key is taken as the bytes of its text. As in swanctl.conf, `0x` in front makes it hexadecimal and `0s`
Base64. Quotes and spaces belong to it; only the newline at the end of a file does not.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.trust_store import Certificate, TrustStore, load_pkcs12
from ikeclient.crypto.sign.file_key import FileKey, PassphraseNeeded
from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.eap.credentials import CardKeys, SimCredentials
from ikeclient.errors import ProfileError, UsageError
from ikeclient.ike.config import Ppk
from ikeclient.profile.load.author import Key
from ikeclient.profile.load.files import FileFault, read_regular, shown_path
from ikeclient.profile.model.schema import Auth, Gateway, KeyFile, KeySource, PostQuantumKey
from ikeclient.profile.secrets import remote_keys
from ikeclient.profile.secrets.secrets import Secret
from ikeclient.profile.secrets.sources import Sources
from ikeclient.profile.secrets.typed import checked_password, decode_psk
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import IdType

SYSTEM_TRUST = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)
MAX_BUNDLE = 4 << 20  # bytes
MAX_KEY_FILE = 1 << 20
CARD_KEY = 16  # bytes
MIN_PPK = 32  # bytes
MIN_PSK = 8  # bytes; shorter ones are found by trying
_Loaded = TypeVar("_Loaded")


def load_psk(auth: Auth, sources: Sources) -> bytes:
    """The pre-shared key, decoded."""
    if auth.psk is None and sources.stdin_password is None:
        hint = 'for example: psk = { file = "psk.txt" }'
        reason = "method psk needs it" if auth.method == "psk" else "gateway.auth psk needs it"
        raise ProfileError(f"key '{auth.SECTION}.psk' is missing", reason=reason, hint=hint)
    written = sources.secret(auth.psk, "pre-shared key", auth.identity or "the gateway", (auth.SECTION, "psk")).reveal()
    with ProfileError.about((auth.SECTION, "psk")):
        psk = decode_psk(written)
    if len(psk) < MIN_PSK:
        sources.warnings.append(f"the pre-shared key is weak: it has fewer than {MIN_PSK} bytes")
    if written != written.strip():
        sources.warnings.append("the pre-shared key starts or ends with white space, which is taken as part of it")
    elif len(written) > 1 and written[:1] == written[-1:] and written[:1] in (b'"', b"'"):
        sources.warnings.append("the pre-shared key is in quotes, which are taken as part of it")
    return psk


def load_ppk(ppk: PostQuantumKey, sources: Sources) -> Ppk:
    """The post-quantum key with its identifier."""
    quiet = replace(sources, stdin_password=None)  # what comes from there is for [auth]
    with ProfileError.about(("ppk", "secret")):
        secret = decode_psk(quiet.secret(ppk.secret, "post-quantum key", ppk.id, ("ppk", "secret")).reveal())
    if len(secret) < MIN_PPK:
        sources.warnings.append(f"the post-quantum key of [ppk] has fewer than {MIN_PPK} bytes (RFC 8784 section 6)")
    return Ppk(identity=ppk.id.encode(), secret=secret, required=ppk.required)


def load_password(auth: Auth, account: str, sources: Sources) -> str | None:
    """The EAP password: 1 to 256 characters (RFC 2759 section 4). Raises ProfileError (hardening E16).

    None if the profile leaves the answer to GTC's question to the person who is there when it is asked.
    """
    asks = auth.method == "eap-gtc" or (auth.inner == "gtc" and auth.method != "eap")
    if asks and auth.password is None and sources.attended and sources.stdin_password is None:
        return None
    value = sources.secret(auth.password, "password", account, (auth.SECTION, "password")).reveal()
    with ProfileError.about((auth.SECTION, "password")):
        try:
            return checked_password(value.decode())
        except UnicodeDecodeError:
            raise ProfileError("the password is not UTF-8 text") from None


def load_sim(auth: Auth, sources: Sources, *, private: bool) -> SimCredentials:
    """The card of a profile; `private` says that the gateway proves itself no sooner. Raises ProfileError."""
    source = auth.sim
    if source is None:
        hint = 'for example: sim = { reader = "USB" }, or { command = ["sim-helper"] }'
        raise ProfileError(f"key '{auth.SECTION}.sim' is missing", reason=f"method {auth.method} needs it", hint=hint)
    keys: CardKeys | None = None
    if source.k is not None and source.opc is not None:
        quiet = replace(sources, stdin_password=None)
        k, opc = (
            _card_key(quiet.secret(secret, name, auth.user or "the card", (auth.SECTION, "sim", name)), name)
            for name, secret in (("k", source.k), ("opc", source.opc))
        )
        keys = CardKeys(k=k, opc=opc)
    return SimCredentials(keys=keys, anonymous_identity=auth.anonymous_identity, private=private)


def _card_key(secret: Secret, name: str) -> bytes:
    with suppress(ValueError):
        key = binascii.unhexlify(secret.reveal().strip())
        if len(key) == CARD_KEY:
            return key
    raise ProfileError(f"the card's {name} is not {2 * CARD_KEY} hexadecimal digits")


def load_trust(gateway: Gateway, sources: Sources) -> TrustStore:
    """The authorities in the profile's `ca` files, or the system's. What cannot be read in them is a warning."""
    return _system_trust() if gateway.ca is None else _authorities(gateway.ca, ("gateway", "ca"), sources)


def load_server_trust(auth: Auth, gateway_trust: TrustStore, sources: Sources) -> TrustStore:
    """The authorities that may vouch for the authentication server: those of `server_ca`, or the gateway's."""
    return (
        gateway_trust if auth.server_ca is None else _authorities(auth.server_ca, (auth.SECTION, "server_ca"), sources)
    )


def _authorities(files: Sequence[str], key: Key, sources: Sources) -> TrustStore:
    anchors: list[Certificate] = []
    for written in files:
        path = sources.path(written)
        problems: list[str] = []
        data = sources.read(written, MAX_BUNDLE, key)
        with _naming(path, key):
            anchors += Certificate.load_many(data, problems)
        sources.warnings.extend(f"{shown_path(path)}: {problem}; left out" for problem in problems)
    return TrustStore.from_certificates(anchors)


def _system_trust() -> TrustStore:
    for path in SYSTEM_TRUST:
        try:
            return TrustStore.system([read_regular(path, MAX_BUNDLE).data])
        except FileFault as fault:
            if not fault.missing:
                raise ProfileError(f"{shown_path(path)}: {fault.reason}") from None
    raise ProfileError(
        "this system has no trust store",
        reason=f"looked for {', '.join(map(str, SYSTEM_TRUST))}",
        hint="install the package ca-certificates, or name the authority's certificate as 'gateway.ca'",
    )


def load_certificate(auth: Auth, sources: Sources) -> tuple[tuple[Certificate, ...], FileKey | RemoteKey]:
    """Our certificate with its intermediates behind it, and its private key. Raises ProfileError."""
    if auth.key is not None and auth.key.file is None:
        return _beside_key(auth, auth.key, sources)
    if auth.certificate is None:
        raise ProfileError(f"key '{auth.SECTION}.certificate' is missing", reason=f"method {auth.method} needs it")
    path = sources.path(auth.certificate.file)
    data = sources.read(auth.certificate.file, MAX_KEY_FILE, (auth.SECTION, "certificate", "file"))
    if is_pkcs12(data):
        if auth.key is not None:
            reason = f"{shown_path(path)} is PKCS#12 and holds the key"
            raise ProfileError(
                f"key '{auth.SECTION}.key' is one key too many", reason=reason, hint=f"leave '{auth.SECTION}.key' out"
            )
        data = sources.read_private(auth.certificate, MAX_KEY_FILE, (auth.SECTION, "certificate", "file"))
        with _naming(path, (auth.SECTION, "certificate")):
            key, chain = _decrypted(load_pkcs12, path, data, auth, sources)
    else:
        with _naming(path, (auth.SECTION, "certificate")):
            chain = Certificate.load_many(data)
        key = _private_key(auth, auth.certificate, data, sources)
    return _own_first(chain, key, shown_path(path), sources), key


def _beside_key(auth: Auth, source: KeySource, sources: Sources) -> tuple[tuple[Certificate, ...], FileKey | RemoteKey]:
    """As `load_certificate`, for a key that stays where it is; its certificate may be there too."""
    chain: list[Certificate] = []
    if auth.certificate is not None:
        path = sources.path(auth.certificate.file)
        data = sources.read(auth.certificate.file, MAX_KEY_FILE, (auth.SECTION, "certificate", "file"))
        if is_pkcs12(data):
            raise ProfileError(
                f"{shown_path(path)}: is PKCS#12, but '{auth.SECTION}.key' says that the key is elsewhere",
                hint=f"name a file with the certificate alone, or leave '{auth.SECTION}.key' out",
            )
        with _naming(path, (auth.SECTION, "certificate")):
            chain = Certificate.load_many(data)
    where = f"key '{auth.SECTION}.key'"
    if source.agent is not None and not chain:
        raise ProfileError(f"key '{auth.SECTION}.certificate' is missing", reason="ssh-agent holds no certificates")
    known = chain[0].public_key.spki if chain else None
    found = remote_keys.find(auth, source, sources, known)
    if not chain:
        if not found.certificates:
            raise ProfileError(
                f"key '{auth.SECTION}.certificate' is missing",
                reason=f"there is no certificate beside the key on {found.key.place}",
            )
        chain = [Certificate.from_der(der) for der in found.certificates]
        where = found.key.place
    else:
        where = shown_path(path)
    return _own_first(chain, found.key, where, sources), found.key


def _own_first(
    chain: Sequence[Certificate], key: FileKey | RemoteKey, where: str, sources: Sources
) -> tuple[Certificate, ...]:
    """The chain with the certificate of `key` in front. Raises ProfileError if there is none."""
    own = next((certificate for certificate in chain if certificate.public_key == key.public_key), None)
    if own is None:
        raise ProfileError(
            f"{where}: the certificate and the private key do not belong together",
            reason=f"the certificate is for {chain[0].subject} with a key of kind {chain[0].public_key.kind}; "
            f"the private key is {key.public_key.kind}",
        )
    now = datetime.now(UTC)
    if now not in own.validity:
        state = f"expired at {own.validity.end:%Y-%m-%d %H:%M} UTC"
        if now < own.validity.start:
            state = f"is not valid before {own.validity.start:%Y-%m-%d %H:%M} UTC"
        clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
        sources.warnings.append(f"{where}: our certificate {state}; the gateway will probably refuse it ({clock})")
    elif sources.files_only and (soon := own.validity.ends_soon(now)):  # else it is told when we log in
        sources.warnings.append(f"{where}: our certificate {soon}; have it renewed")
    return (own, *(certificate for certificate in chain if certificate != own))


def certificate_identity(certificate: Certificate) -> Identity:
    """Who a certificate says we are: its subject, or else its first subjectAltName. Raises ProfileError."""
    names = certificate.identities()
    if not names:
        raise ProfileError("key 'auth.identity' is missing", reason="the certificate names nobody, so it is needed")
    type_, data = next((name for name in names if name[0] == IdType.DER_ASN1_DN), names[0])
    return Identity(type=type_, data=data)


def account_in(certificate: Certificate) -> str:
    """The account that a certificate stands for: its first mail address or host name, else its subject."""
    names = certificate.identities()
    plain = [name for name in names if name[0] in (IdType.RFC822_ADDR, IdType.FQDN)] or names
    if not plain:
        raise ProfileError("key 'auth.user' is missing", reason="the certificate names nobody, so it is needed")
    return identity_text(*plain[0])


def _private_key(auth: Auth, certificate: KeyFile, certificate_data: bytes, sources: Sources) -> FileKey:
    if auth.key is None and b"PRIVATE KEY-----" not in certificate_data:
        raise ProfileError(f"key '{auth.SECTION}.key' is missing", reason="the certificate's file holds no private key")
    key_file = (auth.key.key_file if auth.key else None) or certificate
    path = sources.path(key_file.file)
    named = auth.SECTION, "key" if auth.key else "certificate"
    data = sources.read_private(key_file, MAX_KEY_FILE, (*named, "file"))
    with _naming(path, named):
        return _decrypted(FileKey.load, path, data, auth, sources)


def _decrypted(
    load: Callable[[bytes, bytes | None], _Loaded], path: Path, data: bytes, auth: Auth, sources: Sources
) -> _Loaded:
    """What `load` makes of `data`; only where the profile names no passphrase and it needs one, somebody is asked."""
    if auth.key_passphrase is None and sources.stdin_password is None:
        with suppress(PassphraseNeeded):
            return load(data, None)
    return load(data, _passphrase(path, auth, sources))


def _passphrase(path: Path, auth: Auth, sources: Sources) -> bytes:
    try:
        return sources.secret(auth.key_passphrase, "passphrase", path.name, (auth.SECTION, "key_passphrase")).reveal()
    except UsageError as error:
        hint = f"use --password-stdin, or name its source as '{auth.SECTION}.key_passphrase'"
        raise UsageError(f"{shown_path(path)}: {error.message}", reason="the key is encrypted", hint=hint) from None


def is_pkcs12(data: bytes) -> bool:
    """Whether DER starts as a PFX does, with a version number (RFC 7292 section 4)."""
    if data[:1] != b"\x30" or len(data) < 8:
        return False
    length = data[1]
    body = 2 + (length & 0x7F if length & 0x80 else 0)
    return data[body : body + 1] == b"\x02"


@contextmanager
def _naming(path: Path, key: Key) -> Iterator[None]:
    """Put `path`, which `key` of the profile names, in front of what goes wrong inside and is not about another key."""
    try:
        yield
    except ProfileError as error:
        if error.key is not None:
            raise
        with ProfileError.about(key):
            message = f"{shown_path(path)}: {error.message}"
            raise ProfileError(message, reason=error.reason, hint=error.hint) from None
