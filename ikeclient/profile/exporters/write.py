"""Write a profile in one of the formats of other clients."""

from __future__ import annotations

from typing import Any

from ikeclient.errors import UsageError
from ikeclient.profile.exporters.mobileconfig import write_mobileconfig
from ikeclient.profile.exporters.networkmanager import write_networkmanager
from ikeclient.profile.exporters.parts import Parts
from ikeclient.profile.exporters.powershell import write_powershell
from ikeclient.profile.exporters.sswan import write_sswan
from ikeclient.profile.exporters.swanctl import write_swanctl
from ikeclient.profile.formats import ExportFormat
from ikeclient.profile.model.toml_text import toml_lines
from ikeclient.profile.present import SECRETS, WITH_SECRETS


def write_foreign(parts: Parts, form: ExportFormat) -> bytes:
    """The profile in that format; `parts.warnings` then says what is missing. Raises IkeclientError."""
    match form:
        case ExportFormat.TOML:
            return _toml(parts)
        case ExportFormat.MOBILECONFIG:
            return write_mobileconfig(parts)
        case ExportFormat.SSWAN:
            return write_sswan(parts)
        case ExportFormat.SWANCTL:
            return write_swanctl(parts)
        case ExportFormat.NETWORKMANAGER:
            return write_networkmanager(parts)
        case ExportFormat.POWERSHELL:
            return write_powershell(parts)


def _toml(parts: Parts) -> bytes:
    """What is set, without defaults. Files are named, not included, so relative names are written whole."""
    if parts.include_secrets:
        hint = "copy the files that the profile names, or export to mobileconfig or swanctl"
        raise UsageError("a profile in TOML never holds secrets, so they cannot be included", hint=hint)
    plain: dict[str, Any] = parts.profile.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    gateway = plain["gateway"]
    for section, auth in ((name, plain[name]) for name in WITH_SECRETS if name in plain):
        for key in SECRETS:
            source = auth.get(key, {})
            if "file" in source:
                source["file"] = _whole(parts, source["file"])
            if len(source.get("command", ())) > 1:
                source["command"] = [source["command"][0], "..."]
                parts.warnings.append(f"{section}.{key}: the arguments of the command are left out, they may be secret")
        for key in ("certificate", "key"):
            if key in auth:
                auth[key]["file"] = _whole(parts, auth[key]["file"])
        if "server_ca" in auth:
            auth["server_ca"] = [_whole(parts, name) for name in auth["server_ca"]]
    if "ca" in gateway:
        gateway["ca"] = [_whole(parts, name) for name in gateway["ca"]]
    return ("\n".join(toml_lines(plain)) + "\n").encode()


def _whole(parts: Parts, name: str) -> str:
    return name if name.startswith("~") else str(parts.loaded.base_dir / name)
