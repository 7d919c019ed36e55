"""Formats of other clients, and how large their files may be: known before what reads or writes them is loaded."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

MAX_LENGTH = 4 << 20  # bytes of a file to import
MAX_ARCHIVE = 64 << 20  # of one with several files in it


class ImportFormat(StrEnum):
    """What can be imported."""

    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"
    IPSEC = "ipsec"
    NETWORKMANAGER = "networkmanager"
    POWERSHELL = "powershell"
    PROFILEXML = "profilexml"
    PHONEBOOK = "phonebook"
    AZURE = "azure"
    MIKROTIK = "mikrotik"
    IKED = "iked"
    PKCS12 = "pkcs12"


class ExportFormat(StrEnum):
    """What can be exported."""

    TOML = "toml"
    MOBILECONFIG = "mobileconfig"
    SSWAN = "sswan"
    SWANCTL = "swanctl"
    NETWORKMANAGER = "networkmanager"
    POWERSHELL = "powershell"


def import_limit(path: Path) -> int:
    """Return how many bytes of a file to import are read."""
    return MAX_ARCHIVE if path.suffix.lower() == ".zip" else MAX_LENGTH
