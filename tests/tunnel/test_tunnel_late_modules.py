"""What only some profiles need is loaded for them, and what cannot be loaded is told."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from compiled_profiles import compiled

import ikeclient
from ikeclient.errors import PlatformError
from ikeclient.ike.config import EapAuth
from ikeclient.tunnel import late_modules
from ikeclient.tunnel.late_modules import load_for
from ikeclient.wire.registry import EapType

TESTS = Path(__file__).resolve().parent.parent

SHOW = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from compiled_profiles import compiled
from ikeclient.tunnel.late_modules import load_for
profile = compiled()
wanted = ("ikeclient.eap.peer", "OpenSSL", "http.client")
for name in wanted:
    sys.modules.pop(name, None)
load_for(profile)
print([name for name in wanted if name in sys.modules])
"""


def test_a_preshared_key_needs_neither_tls_nor_http() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_a_profile_whose_modules_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload in a process that has lost the right to read its own files."""
    profile = compiled()
    eap = EapAuth(identity="alice", methods=(EapType.MSCHAPV2,), password="secret")
    monkeypatch.setitem(sys.modules, "ikeclient.eap.peer", None)
    load_for(profile)
    with pytest.raises(PlatformError, match="what the profile needs cannot be loaded"):
        load_for(replace(profile, ike=replace(profile.ike, auth=eap)))


def imported_later(path: Path) -> set[str]:
    """The modules that functions of a file import."""
    found: set[str] = set()
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    found |= {name.name for name in node.names}
                elif isinstance(node, ast.ImportFrom):
                    found.add(node.module or "")
    return found


def test_what_a_tunnel_imports_later_is_loaded_before_it_gives_up_its_rights() -> None:
    """An import inside of a function would fail in a process that may not read its own files any more."""
    here = Path(late_modules.__file__)
    package = Path(ikeclient.__file__).parent
    files = [
        path
        for room in ("ike", "eap", "tunnel", "net/transport")
        for path in (package / room).rglob("*.py")
        if path != here
    ]
    later = set().union(*map(imported_later, files))
    assert "ikeclient.ike.v2.rules.certificates" in later
    assert later <= imported_later(here)
