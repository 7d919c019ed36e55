"""A tunnel that gives up while the kill switch keeps the machine closed."""

from __future__ import annotations

import pytest
from sim_tunnel import TunnelWorld, play

from ikeclient.errors import NoResponse
from ikeclient.tunnel.ports import NoKillSwitch
from ikeclient.tunnel.state import Input
from ikeclient.tunnel.status import Life


@pytest.mark.parametrize("closed", [True, False])
def test_a_tunnel_that_gives_up_is_blocked_only_if_the_machine_is_closed(
    monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    words: list[tuple[Input, str]] = []
    happens = Life.happens

    def noted(life: Life, event: Input) -> None:
        happens(life, event)
        words.append((event, life.word))

    monkeypatch.setattr(Life, "happens", noted)
    monkeypatch.setattr(NoKillSwitch, "closed", closed)

    async def scenario(world: TunnelWorld) -> None:
        with pytest.raises(NoResponse):
            await world.running

    play(scenario, addresses=())
    assert ((Input.GIVE_UP, "blocked") in words) is closed
    assert words[-1] == (Input.CLOSED, "disconnected")
