"""Where swanctl and ipsec look for certificates and keys, each in its own directories."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.importers.draft import Draft, MySection
from ikeclient.profile.importers.neighbours import Neighbours

MAX_AUTHORITIES = 64
_CERTIFICATES = (".pem", ".crt", ".cer", ".der")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The directories of one program below `place`, or below `root` if the file came through a pipe.

    `any_by_default`: a connection that names no identity of the gateway takes any.
    """

    program: str
    place: Neighbours
    root: str
    certificates: str
    authorities: str
    keys: tuple[str, ...]
    bundles: str
    any_by_default: bool = False
    store: str = ""  # where the authorities are, if not in a directory
    ours: str = "local_ts"  # what the file calls the networks of each side
    theirs: str = "remote_ts"

    def path(self, name: str, directory: str) -> str:
        """How a profile names a file that the program looks for in `directory`."""
        if name.startswith(("/", "~")):
            return self.place.copy_of(name) or name
        inside = f"{directory}/{name}"
        if self.place.root is None and not self.place.attached:
            return str(Path(self.root) / inside)
        return self.place.path(inside)

    def read(self, name: str, directory: str) -> bytes | None:
        """The file's content, if it lies inside the place."""
        return self.place.read(name if name.startswith("/") else f"{directory}/{name}")

    def use(
        self,
        draft: Draft,
        section: MySection,
        key: Literal["certificate", "key"],
        suffix: str,
        name: str,
        directory: str,
    ) -> None:
        """Let `section.key` name the file, or a copy of it if it has no lasting path."""
        data = self.read(name, directory) if self.place.attached else None
        if data is not None:
            draft.own(section, key, suffix, data, "our private key" if key == "key" else "our certificate")
        else:
            draft.set(section, key, self.path(name, directory))

    def trust(self, draft: Draft, names: Iterable[str]) -> None:
        """Let `gateway.ca` name these files, or copies of them."""
        names = list(dict.fromkeys(names))[:MAX_AUTHORITIES]
        contents = [data for name in names if (data := self.read(name, self.authorities)) is not None]
        if self.place.attached and contents:
            draft.authorities(contents)
        elif names:
            draft.set("gateway", "ca", [self.path(name, self.authorities) for name in names])

    def known_authorities(self) -> list[str]:
        """The files of the directory whose certificates the program trusts."""
        return [name for name, _ in self._certificates(self.authorities)]

    def certificate_of(self, identity_type: int, identity: bytes) -> str | None:
        """The one file with a certificate of ours that proves the identity."""
        found = [
            name
            for name, certificate in self._certificates(self.certificates)
            if certificate.matches(identity_type, identity)  # type: ignore[arg-type]  # an open enumeration
        ]
        return found[0] if len(found) == 1 else None

    def key_of(self, certificate: str) -> tuple[str, str] | None:
        """The key of a certificate, as its file and directory: the one that fits, else the one of that name."""
        try:
            data = self.read(certificate, self.certificates)
            public = Certificate.load_many(data)[0].public_key if data else None
        except ProfileError:
            public = None
        stem = PurePosixPath(certificate).stem
        named: tuple[str, str] | None = None
        for directory in self.keys:
            for path in self.place.matching(f"{directory}/*"):
                name = PurePosixPath(path).name
                if PurePosixPath(name).stem == stem:
                    named = named or (name, directory)
                if public is not None and self._has_key(path, public):
                    return name, directory
        return named

    def _has_key(self, path: str, public: object) -> bool:
        data = self.place.read(path)
        try:
            return data is not None and FileKey.load(data, None).public_key == public
        except ProfileError:
            return False

    def _certificates(self, directory: str) -> list[tuple[str, Certificate]]:
        found = []
        for path in self.place.matching(f"{directory}/*"):
            if not path.lower().endswith(_CERTIFICATES):
                continue
            try:
                found.append((PurePosixPath(path).name, Certificate.load_many(self.place.read(path) or b"")[0]))
            except ProfileError:
                continue
        return found[:MAX_AUTHORITIES]


def swanctl_layout(place: Neighbours) -> Layout:
    """The directories of swanctl.conf."""
    return Layout(
        program="swanctl",
        place=place,
        root="/etc/swanctl",
        certificates="x509",
        authorities="x509ca",
        keys=("private", "rsa", "ecdsa", "pkcs8"),
        bundles="pkcs12",
        any_by_default=True,
    )


def ipsec_layout(place: Neighbours) -> Layout:
    """The directories of ipsec.conf."""
    return Layout(
        program="ipsec",
        place=place,
        root="/etc",
        certificates="ipsec.d/certs",
        authorities="ipsec.d/cacerts",
        keys=("ipsec.d/private",),
        bundles="ipsec.d/private",
    )
