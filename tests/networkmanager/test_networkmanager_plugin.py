"""The plugin's answers, signals and states, without D-Bus."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from ikeclient.errors import AuthenticationFailed, NoResponse, PlatformError
from ikeclient.ipc.failure import Failure
from ikeclient.networkmanager.ip_plan import FamilyPlan, IpPlan
from ikeclient.networkmanager.messages import CODEC, Answer, Arranged, Asked, Begin, Happened, ToService, ToTunnel
from ikeclient.networkmanager.plugin import CallRefused, Plugin, PluginFailure, ServiceState, failure_of

SETTINGS: dict[str, dict[str, object]] = {
    "connection": {"id": "work"},
    "vpn": {
        "data": {"gateway.address": "192.0.2.1", "auth.method": "psk", "auth.identity": "alice"},
        "secrets": {"auth.psk": "not a short one"},
    },
}
PLAN = IpPlan(
    interface="ike0",
    mtu=1400,
    gateway=ip_address("192.0.2.1"),
    ip4=FamilyPlan(address=ip_interface("10.88.0.1/32")),
    ip6=None,
)


@dataclass
class World:
    sent: list[ToTunnel] = field(default_factory=list)
    signals: list[tuple[str, list[Any]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ended: int = 0
    finished: int = 0

    def send(self, message: ToTunnel) -> None:
        self.sent.append(message)

    def end(self) -> None:
        self.ended += 1

    def emit(self, name: str, signature: str, body: list[Any]) -> None:
        self.signals.append((name, body))

    def finish(self) -> None:
        self.finished += 1

    def plugin(self) -> Plugin:
        return Plugin(self, self.emit, self.lines.append, self.finish)

    def names(self) -> list[str]:
        return [name for name, _ in self.signals]


def test_a_connection_from_the_call_to_the_end() -> None:
    world = World()
    plugin = world.plugin()
    assert plugin.need_secrets(SETTINGS) == ""
    plugin.connect(SETTINGS, interactive=True)
    (begin,) = world.sent
    assert isinstance(begin, Begin)
    assert begin.interactive
    assert "not a short one" not in repr(begin)
    plugin.heard(Arranged(plan=PLAN))
    plugin.heard(Happened(event={"event": "connected"}))
    assert world.names() == ["StateChanged", "Config", "Ip4Config", "StateChanged"]
    plugin.disconnect()
    assert world.ended == 1
    plugin.tunnel_ended()
    assert world.signals[-1] == ("StateChanged", [int(ServiceState.STOPPED)])
    assert "Failure" not in world.names()
    assert world.finished == 1


def test_a_failure_is_told_before_the_end_with_its_reason() -> None:
    world = World()
    plugin = world.plugin()
    plugin.connect(SETTINGS, interactive=False)
    plugin.heard(Failure.of(AuthenticationFailed("the gateway refused our password")))
    plugin.tunnel_ended()
    assert world.signals[-3:] == [
        ("LoginBanner", ["the gateway refused our password"]),
        ("Failure", [int(PluginFailure.LOGIN_FAILED)]),
        ("StateChanged", [int(ServiceState.STOPPED)]),
    ]
    assert world.lines == ["error: the gateway refused our password"]


def test_a_process_that_is_gone_without_a_word_is_a_failure() -> None:
    world = World()
    plugin = world.plugin()
    plugin.connect(SETTINGS, interactive=False)
    plugin.tunnel_ended()
    assert ("Failure", [int(PluginFailure.CONNECT_FAILED)]) in world.signals


def test_a_tunnel_that_was_told_to_end_elsewhere_is_no_failure() -> None:
    world = World()
    plugin = world.plugin()
    plugin.connect(SETTINGS, interactive=False)
    plugin.heard(Happened(event={"event": "connected"}))
    plugin.heard(Happened(event={"event": "disconnected"}))
    plugin.tunnel_ended()
    assert "Failure" not in world.names()
    assert world.signals[-1] == ("StateChanged", [int(ServiceState.STOPPED)])


def test_a_question_goes_to_the_agents_and_its_answer_back() -> None:
    world = World()
    plugin = world.plugin()
    plugin.connect(SETTINGS, interactive=True)
    with pytest.raises(CallRefused):
        plugin.new_secrets(SETTINGS)
    plugin.heard(Asked(prompt="the gateway asks: code?", key="answer"))
    assert world.signals[-1] == ("SecretsRequired", ["the gateway asks: code?", ["answer"]])
    plugin.new_secrets({**SETTINGS, "vpn": {"secrets": {"answer": "123456"}}})
    assert world.sent[-1] == Answer(text="123456")
    assert "123456" not in repr(world.sent[-1])


def test_a_service_has_one_connection() -> None:
    plugin = World().plugin()
    plugin.connect(SETTINGS, interactive=False)
    with pytest.raises(CallRefused, match="has had its connection"):
        plugin.connect(SETTINGS, interactive=False)


def test_settings_that_are_wrong_are_refused_with_what_is_wrong() -> None:
    world = World()
    assert world.plugin().need_secrets({"connection": {"id": "x"}, "vpn": {"data": {}}}) == ""  # it is no secret
    with pytest.raises(CallRefused, match="not a table"):
        world.plugin().connect({"vpn": {"data": 5}}, interactive=False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AuthenticationFailed("x"), PluginFailure.LOGIN_FAILED),
        (PlatformError("x"), PluginFailure.BAD_IP_CONFIG),
        (NoResponse("x"), PluginFailure.CONNECT_FAILED),
    ],
)
def test_kinds_of_failures(error: Any, told: PluginFailure) -> None:
    assert failure_of(Failure.of(error)) is told


@pytest.mark.parametrize("message", [Arranged(plan=PLAN), Asked(prompt="p", key="k"), Happened(event={"event": "x"})])
def test_messages_travel(message: ToService) -> None:
    assert CODEC.decode(ToService, CODEC.encode(message)) == message  # type: ignore[arg-type]
