"""Compiled profiles for tests of what uses them."""

from __future__ import annotations

from pathlib import Path

from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.load import parse_profile

PROMPTED = """\
version = 1
[gateway]
address = "192.0.2.1"
[auth]
method = "psk"
identity = "alice"
psk = { prompt = true }
"""


def compiled(extra: str = "", psk: str = "correct horse") -> CompiledProfile:
    """Alice's profile with a PSK, and more tables in TOML."""
    return compile_profile(parse_profile(PROMPTED + extra).profile, Path("/"), lambda _: psk)
