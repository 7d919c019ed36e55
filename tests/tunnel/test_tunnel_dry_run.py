"""A device and a machine that nothing happens to."""

from __future__ import annotations

import os
import select

import pytest
from sim_tunnel import TunnelWorld, play

from ikeclient.net.machine.fake import FakeMachine
from ikeclient.tunnel.dry_run import NullTun, PlanningMachine


def test_the_device_takes_every_packet_and_gives_none() -> None:
    device = NullTun("ike%d")
    assert device.name == "ike0"
    assert device.write_batch([b"packet", b"packet"]) == 2
    assert list(device.read_batch(10)) == []
    assert select.select([device.fileno()], [], [], 0) == ([], [], [])
    assert device.reopen()
    descriptor = device.fileno()
    device.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_the_machine_is_asked_what_it_would_do_and_does_nothing() -> None:
    async def scenario(world: TunnelWorld) -> None:
        await world.connect()
        config = world.machine.configs[-1]
        untouched = FakeMachine("other")
        planning = PlanningMachine(untouched)
        planning.apply(config)
        assert planning.lines == ["ip tuntap add dev ike0 mode tun", *untouched.plan(config)]
        assert planning.lines
        planning.renew()
        planning.revert()
        assert untouched.configs == []
        assert not untouched.kernel.state
        await world.stop()

    play(scenario)
