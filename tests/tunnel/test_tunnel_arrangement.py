"""The machine made to fit what the gateway granted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import profile
from tunnel_fakes import CHILD, CONFIGURATION, FakeLink

from ikeclient.errors import PlatformError
from ikeclient.net.machine.fake import FakeMachine
from ikeclient.tunnel.arrangement import REOPEN_MOST, REOPEN_WITHIN, Arrangement
from ikeclient.tunnel.ports import NoKillSwitch
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.status_events import StatusEvents


@dataclass
class Rig:
    now: float = 1000.0
    kernel_mtu: int = 1500
    reopens: bool = True
    said: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.machine = FakeMachine("work")
        self.status = Status(name="work")
        ports: Any = SimpleNamespace(
            clock=lambda: self.now,
            device=SimpleNamespace(name="ike0", reopen=lambda: self.reopens),
            machine=self.machine,
            table=7000,
            network=SimpleNamespace(path_mtu=lambda _: self.kernel_mtu),
            switch=NoKillSwitch(),
        )
        network = replace(profile().network, mtu=0)
        self.arrangement = Arrangement(network, ports, self.status, StatusEvents(self.status, self.said))
        self.link: Any = FakeLink()

    def apply(self, outer: int | None = None) -> int:
        return self.arrangement.apply(CONFIGURATION, CHILD, self.link, outer)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """The machine refuses the next change."""
        self.machine.faults.at = self.machine.faults.calls + 1
        yield
        self.machine.faults.at = None


def test_the_machine_and_the_status_fit_what_was_granted() -> None:
    rig = Rig()
    inner = rig.apply()
    [config] = rig.machine.configs
    assert (config.mtu, rig.status.network.mtu, rig.status.network.path_mtu) == (inner, inner, 1500)
    assert rig.status.network.routes == ("10.99.0.0/24",)
    assert config.table == 7000
    assert rig.arrangement.applied


def test_an_mtu_that_the_profile_states_is_obeyed() -> None:
    rig = Rig()
    rig.arrangement.use(replace(profile().network, mtu=1333))
    assert rig.arrangement.mtu_stated
    assert rig.apply(1000) == 1333


def test_what_was_found_out_about_a_path_counts_there_and_nowhere_else() -> None:
    rig = Rig()
    less = rig.apply(1400)
    assert rig.arrangement.outer_mtu(rig.link) == 1400
    assert rig.apply() == less
    rig.link.path = replace(rig.link.path, local_address=ip_address("198.51.100.10"))
    assert rig.arrangement.outer_mtu(rig.link) == 1500


def test_a_machine_that_refuses_leaves_the_status_as_it_was() -> None:
    rig = Rig()
    with rig.failing(), pytest.raises(PlatformError):
        rig.apply()
    assert not rig.arrangement.applied
    assert rig.status.network.mtu == 0
    assert rig.status.network.routes == ()


def test_warnings_about_the_machine_are_those_of_the_last_configuration() -> None:
    rig = Rig()
    rig.status.problems.warnings = ["of somebody else"]
    rig.arrangement._warn(("old", "both"))
    rig.arrangement._warn(("both", "new"))
    assert rig.status.problems.warnings == ["of somebody else", "both", "new"]
    assert [event["text"] for event in rig.said] == ["old", "both", "new"]


def test_an_interface_that_is_deleted_is_made_again_but_not_for_ever() -> None:
    rig = Rig()
    rig.apply()
    for _ in range(REOPEN_MOST):
        assert rig.arrangement.reopen_device()
    assert not rig.arrangement.reopen_device()
    assert len(rig.status.problems.warnings) == 1
    rig.now += REOPEN_WITHIN + 1
    assert rig.arrangement.reopen_device()


def test_an_interface_that_cannot_be_made_again_is_not_called_restored() -> None:
    rig = Rig(reopens=False)
    rig.apply()
    assert not rig.arrangement.reopen_device()
    assert rig.said == []


def test_the_end_leaves_the_machine_as_it_was() -> None:
    rig = Rig()
    rig.apply()
    assert rig.machine.kernel.state
    rig.arrangement.revert()
    assert not rig.machine.kernel.state
    assert rig.said == []
