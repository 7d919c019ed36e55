"""How a running tunnel goes over to another profile, and back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from sim_tunnel import profile
from sim_world import altered, client_config

from ikeclient.errors import IkeclientError, NoResponse, PlatformError
from ikeclient.ike.events import IPAddress
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.gateway import Gateway
from ikeclient.tunnel.reconfigure import Reconfiguration
from ikeclient.tunnel.script import Script, Task, Wait

OLD = profile()
OTHER_MTU = replace(OLD, network=replace(OLD.network, mtu=1300))
OTHER_LOGIN = replace(OLD, ike=altered(client_config(), liveness=77.0))
OTHER_NETWORKS = replace(OLD, ike=altered(client_config(), request=frozenset({"ipv4"})))
OTHER_GATEWAY = replace(OLD, gateways=("other.example",))
HERE, THERE = ip_address("203.0.113.7"), ip_address("198.51.100.7")


def run(script: Script[None]) -> None:
    """Run a script to its end; raises what it raises."""
    task = Task(script)
    task.run(0.0)
    assert task.done
    if task.error is not None:
        raise task.error


class Tunnel:
    """A tunnel that writes down what it is told to do."""

    def __init__(self, *, applied: bool = True, connected: bool = True) -> None:
        self.gateway = Gateway()
        self.gateway.known = [("vpn.example.com", HERE)]
        self.connected = connected
        self.refuses: IkeclientError | None = None
        self.resolves: IkeclientError | None = None
        self.done: list[str] = []
        self.said: list[tuple[str, object]] = []
        self.session: Any = SimpleNamespace(
            profile=OLD,
            arrangement=SimpleNamespace(applied=applied),
            events=SimpleNamespace(emit=lambda event, **details: self.said.append((event, *details.values()))),
        )
        self.reconfiguration = Reconfiguration(self)

    @property
    def profile(self) -> CompiledProfile:
        return self.session.profile  # type: ignore[no-any-return]

    def look_up(self, profile: CompiledProfile) -> Script[list[tuple[str, IPAddress]]]:
        yield Wait(lambda: True)
        if self.resolves is not None:
            raise self.resolves
        return [(profile.gateways[0], THERE)]

    def adopt(self, profile: CompiledProfile) -> None:
        run(self.reconfiguration.adopt(profile))

    def stop_reauthenticating(self) -> None: ...

    def use(self, profile: CompiledProfile) -> None:
        self.session.profile = profile

    def fit(self) -> None:
        self.done.append("fit")
        if self.refuses is not None:
            raise self.refuses

    def renew(self) -> bool:
        self.done.append("renew")
        return self.connected

    def reconnect(self) -> None:
        self.done.append("reconnect")


@pytest.mark.parametrize(
    ("new", "connected", "done"),
    [
        (OLD, True, []),
        (OTHER_MTU, True, ["fit"]),
        (OTHER_LOGIN, True, ["renew"]),
        (OTHER_LOGIN, False, ["renew", "reconnect"]),
        (OTHER_NETWORKS, True, ["reconnect"]),
        (OTHER_GATEWAY, True, ["reconnect"]),
    ],
)
def test_a_tunnel_goes_over_as_gently_as_the_change_allows(
    new: CompiledProfile, connected: bool, done: list[str]
) -> None:
    tunnel = Tunnel(connected=connected)
    tunnel.adopt(new)
    assert tunnel.done == done
    assert tunnel.profile == new
    assert tunnel.said[0][0] == "reloaded"


def test_a_machine_that_refuses_keeps_the_profile_there_is() -> None:
    tunnel = Tunnel()
    tunnel.refuses = PlatformError("no such route")
    with pytest.raises(PlatformError):
        tunnel.adopt(OTHER_MTU)
    assert tunnel.profile == OLD
    assert tunnel.said == []


def test_another_gateway_that_has_no_address_keeps_the_profile_there_is() -> None:
    tunnel = Tunnel()
    tunnel.resolves = NoResponse("no such name")
    with pytest.raises(NoResponse):
        tunnel.adopt(OTHER_GATEWAY)
    assert (tunnel.profile, tunnel.gateway.known, tunnel.done) == (OLD, [("vpn.example.com", HERE)], [])


def test_without_a_connection_that_takes_it_the_tunnel_goes_back_to_what_worked() -> None:
    """Also after several changes: to the one that last had a connection, with its addresses."""
    tunnel = Tunnel()
    tunnel.adopt(OTHER_GATEWAY)
    tunnel.adopt(OTHER_LOGIN)
    assert tunnel.reconfiguration.failed(NoResponse("silence"))
    assert (tunnel.profile, tunnel.gateway.known) == (OLD, [("vpn.example.com", HERE)])
    assert tunnel.said[-1] == ("notice", "going back to the former profile: silence")
    assert not tunnel.reconfiguration.failed(NoResponse("silence")), "there is no other one"


def test_a_connection_makes_the_new_profile_the_one_to_keep() -> None:
    tunnel = Tunnel()
    tunnel.adopt(OTHER_LOGIN)
    tunnel.reconfiguration.connected()
    assert not tunnel.reconfiguration.failed(NoResponse("silence"))
    assert tunnel.profile == OTHER_LOGIN


def test_before_the_first_connection_the_latest_profile_waits() -> None:
    tunnel = Tunnel(applied=False)
    tunnel.adopt(OTHER_LOGIN)
    tunnel.adopt(OTHER_MTU)
    assert (tunnel.profile, tunnel.done, tunnel.said) == (OLD, [], [])
    tunnel.session.arrangement.applied = True
    for _ in range(2):
        run(tunnel.reconfiguration.catch_up())
    assert (tunnel.profile, tunnel.done) == (OTHER_MTU, ["fit"])


def test_what_goes_wrong_with_a_profile_that_waited_is_said() -> None:
    tunnel = Tunnel(applied=False)
    tunnel.adopt(OTHER_MTU)
    tunnel.session.arrangement.applied = True
    tunnel.refuses = PlatformError("no such route")
    run(tunnel.reconfiguration.catch_up())
    assert tunnel.said == [("notice", "the profile was not loaded again: no such route")]
    assert tunnel.profile == OLD


def test_what_only_the_next_start_can_change_is_said() -> None:
    tunnel = Tunnel()
    tunnel.adopt(replace(OLD, network=replace(OLD.network, interface="vpn0")))
    assert ("notice", "key 'network.interface' changes with the next start of the tunnel") in tunnel.said
