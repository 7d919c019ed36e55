"""What a profile that was read again changes."""

from __future__ import annotations

import pytest
from compiled_profiles import compiled

from ikeclient.tunnel.reload import Effect, difference


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
