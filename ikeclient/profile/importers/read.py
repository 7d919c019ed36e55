"""Which kind of file it is that somebody wants to import, and what is in it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import MAX_LENGTH, Draft
from ikeclient.profile.importers.ipsec import read_ipsec
from ikeclient.profile.importers.mobileconfig import read_mobileconfig
from ikeclient.profile.importers.sswan import read_sswan
from ikeclient.profile.importers.swanctl import read_swanctl


class Kind(StrEnum):
    """What can be imported."""

    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"
    IPSEC = "ipsec"


_START = re.compile(rb"\s*(\xef\xbb\xbf)?\s*")


def kind_of(data: bytes) -> Kind:
    """The kind, by the content alone. Raises ProfileError."""
    start = data[_START.match(data).end() :][:4096]  # type: ignore[union-attr]  # it matches the empty string
    if data[:1] == b"\x30" or start.startswith((b"<?xml", b"<!DOCTYPE plist", b"<plist")):
        return Kind.MOBILECONFIG
    if start.startswith(b"{"):
        return Kind.SSWAN
    if re.search(rb"^\s*(connections|secrets|pools|authorities)\b[^\n=]*\{", data, re.MULTILINE):
        return Kind.SWANCTL
    if re.search(rb"^conn\s+\S+\s*(#[^\n]*)?$", data, re.MULTILINE):
        return Kind.IPSEC
    raise ProfileError("this is no kind of profile that can be imported", hint=f"known are {', '.join(Kind)}")


def read_foreign(
    data: bytes, kind: Kind | None = None, *, connection: str | None = None, source: Path | None = None
) -> Draft:
    """The profile in `data`; `source` is the file it came from, None for standard input. Raises ProfileError."""
    if len(data) > MAX_LENGTH:
        raise ProfileError(f"this is larger than {MAX_LENGTH >> 20} MiB")
    if not data.strip():
        raise ProfileError("this is empty")
    fallback = source.stem if source is not None else "imported"
    match kind or kind_of(data):
        case Kind.MOBILECONFIG:
            return read_mobileconfig(data, connection, fallback)
        case Kind.SSWAN:
            return read_sswan(data, connection, fallback)
        case Kind.SWANCTL:
            directory = None if source is None else source.absolute().parent
            if directory is not None and directory.name == "conf.d":
                directory = directory.parent
            return read_swanctl(data, connection, fallback, directory)
        case Kind.IPSEC:
            return read_ipsec(
                data, connection, fallback, None if source is None else source.absolute().parent / "ipsec.d"
            )
