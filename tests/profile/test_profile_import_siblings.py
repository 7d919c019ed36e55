"""Siblings of the files of other clients: the same settings as other people, editors and generators write them.

Each change of a file leaves its meaning alone, so the profile, what goes beside it, and what is told as a risk must be
the same; a file that is refused must be refused in the same words.
"""

from __future__ import annotations

import json
import plistlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.read import Extras, read_foreign
from ikeclient.profile.load.load import parse_profile

FILES = Path(__file__).with_name("files")
Change = Callable[[str], str | bytes]
_KEY = r"(?m)^([ \t]+[\w.-]+)[ \t]*=[ \t]*"


def meaning(data: bytes, source: Path) -> object:
    try:
        draft = read_foreign(data, source=source, extras=Extras(ask=lambda _: "secret"))
    except ProfileError as error:
        return re.sub(r"line \d+", "line N", error.message)
    parse_profile(draft.toml("work"))
    return draft.tables, sorted((item.key, item.data) for item in draft.attachments), sorted(draft.risks)


def runs_reversed(text: str, belongs: Callable[[str], bool]) -> str:
    """Lines that `belongs` is true of, in runs, the other way round."""
    lines: list[str] = []
    run: list[str] = []
    for line in text.split("\n"):
        if belongs(line):
            run.append(line)
        else:
            lines += [*reversed(run), line]
            run = []
    return "\n".join([*lines, *reversed(run)])


def turned(value: Any) -> Any:
    """Every mapping inside with its keys in the other order."""
    match value:
        case dict():
            return {key: turned(inner) for key, inner in reversed(value.items())}
        case list():
            return [turned(inner) for inner in value]
        case _:
            return value


def sections_reversed(text: str) -> str:
    parts = re.split(r"(?m)^(?=\[)", text)
    return "".join(part.rstrip("\n") + "\n\n" for part in reversed(parts))


TEXT: dict[str, Change] = {
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: "\ufeff" + text,
    "UTF-16": lambda text: text.encode("utf-16"),
    "blank lines": lambda text: text.replace("\n", "\n\n"),
    "no last newline": lambda text: text.rstrip("\n"),
    "trailing blanks": lambda text: text.replace("\n", "  \t\n"),
}
SETTINGS: dict[str, Change] = {
    "a comment on top": lambda text: "# a comment\n# conn fake { }\n\n" + text,
    "tabs": lambda text: re.sub(r"(?m)^[ \t]+", "\t", text),
    "deeper": lambda text: re.sub(r"(?m)^[ \t]+", "        ", text),
    "blanks around =": lambda text: re.sub(_KEY, "\\1   =\t ", text),
    "no blanks around =": lambda text: re.sub(_KEY, r"\1=", text),
    "comments behind": lambda text: re.sub(r'(?m)^([ \t]+[\w.-]+[ \t]*=[^"\n#]*)$', r"\1   # said so", text),
    "comments between": lambda text: re.sub(r"(?m)^([ \t]+)([\w.-]+[ \t]*=)", r"\1# note\n\1\2", text),
    "quotes": lambda text: re.sub(r'(?m)^([ \t]+[\w.-]+[ \t]*=[ \t]*)([^"\s{}#][^"\n{}#]*?)[ \t]*$', r'\1"\2"', text),
}
CHANGES: dict[str, dict[str, Change]] = {
    "*.ipsec.conf": {
        **TEXT,
        **SETTINGS,
        "the other order": lambda text: runs_reversed(
            text, lambda line: line[:1] in (" ", "\t") and bool(line.strip())
        ),
        "capitals": lambda text: re.sub(
            r"(?m)^([ \t]+)([\w.-]+)([ \t]*=)", lambda match: match[1] + match[2].upper() + match[3], text
        ),
        "config setup": lambda text: "config setup\n    uniqueids=no\n\n" + text,
        "defaults": lambda text: "conn %default\n    dpdaction=restart\n\n" + text,
        "version": lambda text: "version 2.0\n" + text,
        "also": lambda text: re.sub(
            r"(?m)^conn (?!%default)(\S+)[ \t]*$",
            "conn base-\\1\n    auto=add\n\nconn \\1\n    also=base-\\1",
            text,
            count=1,
        ),
    },
    "*.swanctl.conf": {
        **TEXT,
        **SETTINGS,
        "braces on the next line": lambda text: re.sub(r"(?m)^([ \t]*)([\w.-]+)[ \t]*\{[ \t]*$", "\\1\\2\n\\1{", text),
        "braces without blanks": lambda text: re.sub(r"[ \t]+\{", "{", text),
        "secrets first": lambda text: "secrets {\n}\n" + text,
        "pools": lambda text: text + "\npools {\n  p {\n    addrs = 10.0.0.0/8\n  }\n}\n",
        "the stock include": lambda text: text + "\ninclude conf.d/*.conf\n",
    },
    "*.nmconnection": {
        **TEXT,
        "comments": lambda text: "; NetworkManager\n" + text.replace("[vpn]", "# vpn\n[vpn]"),
        "blanks around =": lambda text: re.sub(r"(?m)^([\w-]+)=", r"\1 = ", text),
        "sections in the other order": sections_reversed,
        "keys in the other order": lambda text: runs_reversed(text, lambda line: "=" in line),
        "permissions": lambda text: text.replace("type=vpn", "type=vpn\nautoconnect=false\npermissions=user:alice:;"),
        "no proxy": lambda text: text + "\n[proxy]\n",
    },
    "*.ps1": {
        **TEXT,
        "help": lambda text: "<#\n.SYNOPSIS Add-VpnConnection -Name x -ServerAddress evil.example\n#>\n" + text,
        "lower case": lambda text: re.sub("(?i)add-vpnconnection", "add-vpnconnection", text),
        "options in capitals": lambda text: re.sub(r" -([A-Za-z]+)", lambda match: " -" + match[1].upper(), text),
        "continued lines": lambda text: re.sub(r" (-[A-Z][A-Za-z]+)", r" `\n    \1", text),
        "double quotes": lambda text: text.replace("'", '"'),
        "single quotes": lambda text: text.replace('"', "'"),
        "try": lambda text: "try {\n" + text + "\n} catch { Write-Host $_ }\n",
        "if": lambda text: "if (-not (Get-VpnConnection -Name x)) {\n" + text + "\n}\n",
        "a function": lambda text: "function Install-Vpn {\n" + text + "\n}\nInstall-Vpn\n",
        "its result": lambda text: re.sub("(?m)^(Add-VpnConnection )", r"$c = \1", text),
        "PassThru": lambda text: re.sub("(?m)^(Add-VpnConnection .*)$", r"\1 -PassThru", text),
        "a pipe": lambda text: re.sub("(?m)^(Add-VpnConnection .*)$", r"\1 | Out-Null", text),
        "the module's name": lambda text: re.sub("(?m)^(Add|Set)-Vpn", r"VpnClient\\\1-Vpn", text),
        "parameters": lambda text: "#Requires -RunAsAdministrator\nparam([switch]$Force)\n" + text,
    },
    "*.rsc": {
        **TEXT,
        "header": lambda text: "# jan/02/2026 by RouterOS 7.1\n# software id =\n" + text,
        "quotes": lambda text: re.sub(r"=([a-z][\w.-]*)", r'="\1"', text),
        "continued lines": lambda text: re.sub(" (auth-method)", " \\\\\n    \\1", text),
    },
    "*iked.conf": {
        **TEXT,
        "a comment on top": lambda text: "# iked\n" + text,
        "tabs": lambda text: text.replace(" ", "\t"),
        "continued lines": lambda text: re.sub(" (peer|from|srcid|dstid|psk)", " \\\\\n\t\\1", text),
        "a comment behind": lambda text: text.rstrip("\n") + " # x\n",
    },
    "*.sswan": {
        "compact": lambda text: json.dumps(json.loads(text), separators=(",", ":")),
        "indented": lambda text: json.dumps(json.loads(text), indent=4),
        "the other order": lambda text: json.dumps(turned(json.loads(text))),
        "byte order mark": lambda text: "\ufeff" + text,
        "CRLF": lambda text: json.dumps(json.loads(text), indent=1).replace("\n", "\r\n"),
        "UTF-16": lambda text: text.encode("utf-16"),
        "more of the app": lambda text: json.dumps({**json.loads(text), "uuid": "x", "nat-keepalive": 20}),
    },
    "*.xml": {
        "byte order mark": lambda text: "\ufeff" + text,
        "CRLF": lambda text: text.replace("\n", "\r\n"),
        "one line": lambda text: re.sub(r"\n\s*", "", text),
        "UTF-16": lambda text: text.encode("utf-16"),
        "no declaration": lambda text: re.sub(r"<\?xml.*?\?>", "", text),
    },
}


def siblings() -> list[tuple[Path, str, Change]]:
    return [
        (path, name, change)
        for pattern, changes in CHANGES.items()
        for path in sorted(FILES.glob(pattern))
        for name, change in changes.items()
    ]


@pytest.mark.parametrize(
    ("path", "change"), [pytest.param(path, change, id=f"{path.name}: {name}") for path, name, change in siblings()]
)
def test_the_same_settings_mean_the_same_however_they_are_written(path: Path, change: Change) -> None:
    changed = change(path.read_text())
    data = changed.encode() if isinstance(changed, str) else changed
    assert meaning(data, path) == meaning(path.read_bytes(), path)


PLISTS = [
    path for path in sorted(FILES.glob("*.mobileconfig")) if "signed" not in path.name and "utf16" not in path.name
]


@pytest.mark.parametrize("path", PLISTS, ids=lambda path: path.name)
def test_a_property_list_means_the_same_in_each_form(path: Path) -> None:
    root = plistlib.loads(path.read_bytes())
    xml = plistlib.dumps(root)
    wanted = meaning(path.read_bytes(), path)
    forms = {
        "binary": plistlib.dumps(root, fmt=plistlib.FMT_BINARY),
        "the other order": plistlib.dumps(turned(root), sort_keys=False),
        "byte order mark": b"\xef\xbb\xbf" + xml,
        "CRLF": xml.replace(b"\n", b"\r\n"),
        "UTF-16": xml.decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        "no document type": re.sub(rb"<!DOCTYPE[^>]*>", b"", xml),
        "a comment": xml.replace(b"<dict>", b"<!-- a --><dict>", 1),
        "one line": re.sub(rb"\n\s*", b"", xml),
        "no declaration": b"\n" + xml.split(b"?>", 1)[1],
    }
    assert [name for name, data in forms.items() if meaning(data, path) != wanted] == []
