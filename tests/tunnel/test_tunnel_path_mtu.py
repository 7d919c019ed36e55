"""The tunnel's MTU kept to what the path carries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from tunnel_fakes import FakeLink

from ikeclient.errors import PlatformError
from ikeclient.ike.events import PathProbed
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.tunnel.path_mtu import PathMtu
from ikeclient.tunnel.path_search import RAISE_AFTER, SUSPECT_AFTER
from ikeclient.tunnel.status import InnerNetwork, Status
from ikeclient.tunnel.status_events import StatusEvents


@dataclass
class Session:
    """A session whose tunnel takes 80 bytes of each packet."""

    now: float = 1000.0
    stated: bool = False
    refuses: bool = False
    said: list[dict[str, object]] = field(default_factory=list)
    trusted: list[tuple[int, bool]] = field(default_factory=list)
    shrunk: int = 0
    reminded: int = 0
    stalled: bool = False

    def __post_init__(self) -> None:
        self.status = Status(name="work")
        self.events = StatusEvents(self.status, self.said)
        self.ports = SimpleNamespace(clock=lambda: self.now, network=SimpleNamespace(path_mtu=lambda _: 1500))
        self.pump = SimpleNamespace(
            last_outbound=None,
            trust_path=lambda mtu, proven: self.trusted.append((mtu, proven)),
            shrink=self.shrink,
            remind=self.remind,
            bulk=SimpleNamespace(stalled=lambda: self.stalled),
        )

    @property
    def arrangement(self) -> Any:
        return SimpleNamespace(mtu_stated=self.stated, outer_mtu=lambda _: 1500)

    def shrink(self) -> None:
        self.shrunk += 1

    def remind(self) -> None:
        self.reminded += 1

    def configure(self, link: object, outer: int) -> None:
        if self.refuses:
            raise PlatformError("the machine does not take that MTU")
        self.status.network = InnerNetwork(path_mtu=outer, mtu=outer - 80)


class Rig:
    def __init__(self, **kind: bool) -> None:
        self.session, self.link = Session(**kind), FakeLink()
        session: Any = self.session
        self.path_mtu = PathMtu(session)
        self.any_link: Any = self.link

    def begin(self) -> None:
        self.path_mtu.begin(self.any_link)

    def probed(self, *, passed: bool) -> None:
        size = self.link.asked("probe_path")[-1][0]
        self.session.now += 1
        self.path_mtu.handle(PathProbed(asked=size, size=size, passed=passed), self.any_link)

    def said_mtu(self) -> list[object]:
        return [event["mtu"] for event in self.session.said if event["event"] == "mtu"]

    def probe_all(self, carries: int) -> None:
        """Let the path carry so much, until nothing more is asked."""
        asked = -1
        while (now := len(self.link.asked("probe_path"))) != asked:
            asked = now
            self.probed(passed=self.link.asked("probe_path")[-1][0] <= carries)


def test_a_new_path_is_probed_at_what_the_kernel_believes_and_then_trusted() -> None:
    rig = Rig()
    rig.begin()
    assert rig.path_mtu.searching
    assert rig.link.asked("probe_path") == [(1500,)]
    rig.probed(passed=True)
    assert not rig.path_mtu.searching
    assert rig.session.trusted[-1] == (1500, True)
    assert rig.link.asked("set_path_mtu")[-1] == (1500,)
    assert rig.session.status.network.path_mtu == 1500


def test_a_narrow_path_makes_the_tunnel_narrower_and_it_is_said_and_flows_are_told() -> None:
    rig = Rig()
    rig.begin()
    rig.probe_all(1400)
    assert 1380 <= rig.session.status.network.path_mtu <= 1400
    assert rig.session.shrunk >= 1
    assert rig.said_mtu()[-1] == rig.session.status.network.mtu


def test_a_path_that_is_known_is_not_probed_again_and_another_one_is() -> None:
    rig = Rig()
    rig.begin()
    rig.begin()
    assert len(rig.link.asked("probe_path")) == 1
    rig.link.path = replace(rig.link.path, local_address=ip_address("198.51.100.10"))
    rig.begin()
    assert len(rig.link.asked("probe_path")) == 2


def test_an_mtu_that_the_profile_states_is_obeyed_and_nothing_probed() -> None:
    rig = Rig(stated=True)
    rig.begin()
    rig.path_mtu.look_after(rig.any_link, 1001.0, swallowed=True)
    assert rig.link.calls == []
    assert not rig.path_mtu.searching


def test_a_profile_read_again_with_an_mtu_ends_the_search() -> None:
    rig = Rig()
    rig.begin()
    rig.session.stated = True
    rig.probed(passed=False)
    assert not rig.path_mtu.searching
    assert len(rig.link.asked("probe_path")) == 1


@pytest.mark.parametrize(("kind", "believed"), [("too-big", True), ("refused", False)])
def test_a_router_that_says_too_big_is_believed_at_once_and_then_put_to_the_test(kind: Any, believed: bool) -> None:
    rig = Rig()
    rig.begin()
    rig.probed(passed=True)
    rig.path_mtu.hint(PathHint(kind=kind, errno=90, mtu=1300), rig.any_link)
    assert (rig.session.status.network.path_mtu == 1300) is believed
    assert (rig.link.asked("probe_path")[-1:] == [(1500,)] and len(rig.link.asked("probe_path")) == 2) is believed


def test_a_download_that_ceases_right_after_a_look_is_looked_at_a_little_later() -> None:
    """G8: a suspicion that has to wait is not lost."""
    rig = Rig()
    rig.begin()
    rig.probed(passed=True)
    rig.session.stalled = True
    rig.path_mtu.look_after(rig.any_link, rig.session.now + SUSPECT_AFTER / 2, swallowed=False)
    assert len(rig.link.asked("probe_path")) == 1
    rig.path_mtu.look_after(rig.any_link, rig.session.now + SUSPECT_AFTER, swallowed=False)
    assert len(rig.link.asked("probe_path")) == 2
    assert rig.session.reminded == 2


def test_a_machine_that_refuses_an_mtu_is_a_warning_and_no_more() -> None:
    rig = Rig(refuses=True)
    rig.begin()
    assert rig.session.status.problems.warnings == ["the machine does not take that MTU"]
    assert rig.session.said[-1]["event"] == "notice"


def test_an_idle_path_is_looked_at_when_more_may_be_possible_and_not_before() -> None:
    rig = Rig()
    rig.begin()
    assert rig.path_mtu.searching
    rig.probe_all(1400)
    raise_at = rig.path_mtu.next_look
    assert raise_at is not None
    assert raise_at > rig.session.now + RAISE_AFTER / 2
    asked = len(rig.link.asked("probe_path"))
    rig.path_mtu.look_after(rig.any_link, raise_at, swallowed=False)
    assert len(rig.link.asked("probe_path")) == asked + 1
    wide = Rig()
    wide.begin()
    wide.probed(passed=True)
    assert wide.path_mtu.next_look is None, "the interface allows no more"
