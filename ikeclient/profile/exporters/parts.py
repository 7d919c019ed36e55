"""What every exporter needs of a profile: its certificates, and its secrets where they are to go along."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import field, replace
from typing import Literal

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.load.load import LoadedProfile
from ikeclient.profile.model.schema import Auth, Profile, SecretSource, Section
from ikeclient.profile.secrets.credentials import MAX_BUNDLE, MAX_KEY_FILE, is_pkcs12
from ikeclient.profile.secrets.secrets import Ask
from ikeclient.profile.secrets.sources import Sources
from ikeclient.profile.secrets.typed import decode_psk


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A profile to export. Secrets are read only where `include_secrets` says so; what is lost becomes a warning."""

    loaded: LoadedProfile
    include_secrets: bool
    ask: Ask | None = None
    section: Literal["auth", "second_auth"] = "auth"
    warnings: list[str] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """The profile itself."""
        return self.loaded.profile

    @property
    def auth(self) -> Auth:
        """How we prove ourselves, in the authentication that these parts are of."""
        second = self.profile.second_auth
        return second if self.section == "second_auth" and second is not None else self.profile.auth

    @property
    def second(self) -> Parts:
        """The same profile, with its second authentication as the one that is meant."""
        return replace(self, section="second_auth")

    @property
    def user(self) -> str | None:
        """The EAP account."""
        return self.auth.user or self.auth.identity

    @property
    def gateway_identity(self) -> str:
        """What the gateway must prove to be."""
        return self.profile.gateway.identity or self.profile.gateway.address[0]

    def lost(self, what: str, why: str) -> None:
        """Note what the other format cannot say."""
        self.warnings.append(f"not exported: {what} ({why})")

    def only_address(self) -> str:
        """The gateway's first address."""
        first, *others = self.profile.gateway.address
        if others:
            self.lost(f"gateway.address {', '.join(others)}", "there is room for one address")
        return first

    def authorities(self) -> list[Certificate]:
        """The certificates of `gateway.ca`; raises ProfileError."""
        found: list[Certificate] = []
        for name in self.profile.gateway.ca or ():
            found += Certificate.load_many(self._sources().read(name, MAX_BUNDLE, ("gateway", "ca")))
        return found

    def psk(self) -> bytes | None:
        """The decoded pre-shared key, or None."""
        written = self._secret("psk", self.auth.psk, "pre-shared key")
        return None if written is None else decode_psk(written)

    def password(self) -> bytes | None:
        """The EAP password, or None."""
        return self._secret("password", self.auth.password, "password")

    def pkcs12(self) -> tuple[bytes, bytes | None] | None:
        """Our certificate with its key as PKCS#12, and the passphrase; None where it does not go along."""
        certificate = self.auth.certificate
        if certificate is None:
            return None
        if not self.include_secrets:
            self.lost(f"{self.section}.certificate", "it goes with a private key: --include-secrets")
            return None
        if not self.is_bundle:
            self.lost(
                f"{self.section}.certificate, {self.section}.key",
                "they are no PKCS#12 file: openssl pkcs12 -export makes one",
            )
            return None
        data = self._sources().read_private(certificate, MAX_KEY_FILE, (self.section, "certificate", "file"))
        return data, self.passphrase()

    @property
    def is_bundle(self) -> bool:
        """Whether our certificate and its key are one PKCS#12 file. Raises ProfileError."""
        certificate = self.auth.certificate
        if certificate is None or self.auth.key is not None:
            return False
        return is_pkcs12(self._sources().read(certificate.file, MAX_KEY_FILE, (self.section, "certificate", "file")))

    def passphrase(self) -> bytes | None:
        """The passphrase of our key, or None."""
        source = self.auth.key_passphrase
        return None if source is None else self._secret("key_passphrase", source, "passphrase")

    def pin(self) -> bytes | None:
        """The PIN of the token that our key is on, or None."""
        key = self.auth.key
        return None if key is None or key.pin is None else self._secret("key.pin", key.pin, "PIN")

    def server_authorities(self) -> list[Certificate]:
        """The certificates of `server_ca`, else those of `gateway.ca`; raises ProfileError."""
        found: list[Certificate] = []
        for name in self.auth.server_ca or ():
            found += Certificate.load_many(self._sources().read(name, MAX_BUNDLE, (self.section, "server_ca")))
        return found or self.authorities()

    def post_quantum_key(self) -> bytes | None:
        """The decoded post-quantum preshared key, or None."""
        ppk = self.profile.ppk
        if ppk is None:
            return None
        if not self.include_secrets:
            self.lost("ppk.secret", "it is a secret: --include-secrets")
            return None
        if ppk.secret.prompt:
            return None
        return decode_psk(self._sources().secret(ppk.secret, "post-quantum key", ppk.id, ("ppk", "secret")).reveal())

    def path(self, written: str) -> str:
        """A file of the profile as a whole path."""
        return str(self._sources().path(written))

    def _secret(self, key: str, source: SecretSource | None, name: str) -> bytes | None:
        if not self.include_secrets:
            self.lost(f"{self.section}.{key}", "it is a secret: --include-secrets")
            return None
        if source is None or source.prompt:
            return None  # nobody's to give away: it is typed
        return self._sources().secret(source, name, self.user or "", (self.section, key)).reveal()

    def _sources(self) -> Sources:
        return Sources(base_dir=self.loaded.base_dir, ask=self.ask, author=self.loaded.author)

    def lost_others(self, carried: Collection[str]) -> None:
        """Note every key that the profile sets to something of its own and that is not among the `carried` ones.

        A key that is new in profiles gets its warning from here.
        """
        for section in type(self.profile).model_fields:
            part = getattr(self.profile, section)
            if not isinstance(part, Section):
                continue
            if section == "second_auth" and "second_auth.method" not in carried:
                self.lost(section, "there is one authentication there; a gateway that asks for two refuses it")
                continue
            for name in sorted(part.model_fields_set):
                key = f"{section}.{name}"
                if key not in carried and getattr(part, name) != type(part).model_fields[name].default:
                    self.lost(key, "there is no such setting there")


def text_of(secret: bytes | None, what: str, parts: Parts) -> str | None:
    """A secret as text, for formats that have no other form."""
    try:
        return None if secret is None else secret.decode()
    except UnicodeDecodeError:
        parts.lost(what, "it is not text")
        return None


def unable(method: str, format_name: str) -> IkeclientError:
    """The error for a method that the other client does not have."""
    return ProfileError(f"method {method} cannot be exported to {format_name}")
