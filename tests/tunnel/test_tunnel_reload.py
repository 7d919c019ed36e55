"""What a profile that was read again changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ikeclient.profile.compile import CompiledProfile, compile_profile
from ikeclient.profile.load.load import parse_profile
from ikeclient.tunnel.reload import Effect, difference

PSK = """\
version = 1
[gateway]
address = "192.0.2.1"
[auth]
method = "psk"
identity = "alice"
psk = { prompt = true }
"""


def compiled(extra: str = "", psk: str = "correct horse") -> CompiledProfile:
    return compile_profile(parse_profile(PSK + extra).profile, Path("/"), lambda _: psk)


@pytest.mark.parametrize(
    ("extra", "effect", "later"),
    [
        ("", Effect.NOTHING, ()),
        ("[network]\nroutes = 'all'", Effect.APPLIED, ()),
        ("[network]\nroutes = ['10.0.0.0/8']", Effect.RECONNECT, ()),
        ("[network]\nexclude = ['lan']\ndns = 'none'\nmtu = 1300", Effect.APPLIED, ()),
        ("[network]\ninterface = 'vpn0'", Effect.APPLIED, ("network.interface",)),
        ("[session]\noffload = 'off'", Effect.APPLIED, ("session.offload",)),
        ("[session]\nretry = 3", Effect.APPLIED, ()),
        ("[session]\nliveness = 60", Effect.RECONNECT, ()),
        ("[crypto]\nike = ['aes256-sha256-modp2048']", Effect.RECONNECT, ()),
    ],
)
def test_only_what_the_gateway_was_told_needs_a_new_connection(
    extra: str, effect: Effect, later: tuple[str, ...]
) -> None:
    found = difference(compiled(), compiled(extra))
    assert (found.effect, found.later) == (effect, later)


def test_a_changed_secret_needs_a_new_connection() -> None:
    assert difference(compiled(), compiled(psk="another one")).effect is Effect.RECONNECT
