"""The tunnel's end of its kill switch, with a helper that keeps nothing closed but what it is told."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from ikeclient.errors import NoResponse, PlatformError, UsageError
from ikeclient.net.block.files import SUFFIX
from ikeclient.net.block.firewall import lacks
from ikeclient.net.dns import lookup
from ikeclient.net.model import DnsConfig, MachineConfig
from ikeclient.process import block
from ikeclient.process.helper.messages import Blocked, CloseMachine, LookAtMachine, OpenMachine
from ikeclient.process.kill_switch import HelperSwitch, PlanningChannel, how_to_open
from ikeclient.profile.compiled import NetworkSettings

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
GATEWAY, OTHER = ip_address("192.0.2.1"), ip_address("192.0.2.2")


class Channel:
    """A helper that says yes."""

    def __init__(self) -> None:
        self.asked: list[CloseMachine | OpenMachine | LookAtMachine] = []
        self.put_back: tuple[str, ...] = ()
        self.problem: str | None = None
        self.broken = False

    def block(self, request: CloseMachine | OpenMachine | LookAtMachine) -> Blocked:
        if self.broken:
            raise PlatformError("the helper is gone")
        self.asked.append(request)
        networks = request.networks if isinstance(request, CloseMachine) else ()
        closed = not isinstance(request, OpenMachine) and networks != ()
        return Blocked(
            closed=closed or isinstance(request, LookAtMachine),
            means="" if isinstance(request, OpenMachine) else "routes",
            networks=networks or EVERYTHING,
            put_back=self.put_back,
            problem=self.problem,
        )

    @property
    def last(self) -> Any:
        return self.asked[-1]


def network(**changed: Any) -> NetworkSettings:
    return NetworkSettings(
        **{
            "request": frozenset({"ipv4", "ipv6"}),
            "routes": "all",
            "exclude": (),
            "exclude_lan": False,
            "dns": "auto",
            "mtu": 0,
            "interface": "ike%d",
            **changed,
        }
    )


def switch(settings: NetworkSettings | None = None) -> tuple[HelperSwitch, Channel, list[dict[str, object]]]:
    channel, said = Channel(), list[dict[str, object]]()
    made: Any = channel
    return HelperSwitch(made, "work", settings or network(), said.append), channel, said


@pytest.mark.parametrize(
    ("routes", "closed"),
    [
        ("all", EVERYTHING),
        ("gateway", None),  # for the gateway to say; until then everything
        ((ip_network("10.99.0.0/24"),), (ip_network("10.99.0.0/24"),)),
        ((ip_network("0.0.0.0/0"),), EVERYTHING),  # the family that a full tunnel lacks
    ],
)
def test_what_is_closed_at_first_is_what_the_profile_says(routes: Any, closed: Any) -> None:
    made, channel, said = switch(network(routes=routes))
    made.close()
    assert channel.last.networks == closed
    assert [event["event"] for event in said] == ["blocked"]
    assert made.closed


def config(**changed: Any) -> MachineConfig:
    return MachineConfig(
        **{
            "interface": "ike0",
            "mtu": 1400,
            "addresses": (),
            "routes": (ip_network("10.99.0.0/24"),),
            "gateway": (GATEWAY,),
            "ports": (4500,),
            "mark": 1,
            "table": 7400,
            **changed,
        }
    )


def test_what_the_gateway_grants_narrows_what_is_closed() -> None:
    """Its name servers are closed too: they are asked through the tunnel, wherever they are."""
    made, channel, _ = switch(network(routes="gateway"))
    made.close()
    made.carry(config(dns=DnsConfig(servers=(ip_address("10.98.0.53"),)), exclude=(ip_network("10.99.0.8/29"),)))
    assert channel.last.networks == (ip_network("10.98.0.53/32"), ip_network("10.99.0.0/24"))
    assert channel.last.exclude == (ip_network("10.99.0.8/29"),)
    assert channel.last.granted
    made.carry(config(routes=(ip_network("0.0.0.0/0"),), blocked=frozenset({6})))
    assert channel.last.networks == EVERYTHING


def test_an_address_is_let_through_once_and_asked_for_again_after_a_failure() -> None:
    made, channel, said = switch()
    made.close()
    channel.broken = True
    made.admit(GATEWAY, 40000)
    channel.broken = False
    assert said[-1]["event"] == "notice"
    made.admit(GATEWAY, 40000)
    made.admit(GATEWAY, 40000)
    made.admit(OTHER, 40001)
    assert len(channel.asked) == 3
    assert (channel.last.gateways, channel.last.ports) == ((GATEWAY, OTHER), (40000, 40001))


def test_a_tunnel_without_a_switch_closes_nothing() -> None:
    made, channel, said = switch()
    made.admit(GATEWAY, 40000)
    made.carry(config())
    assert channel.last.networks == ()
    assert not made.closed
    assert said == []


def test_opening_is_told_and_a_signal_does_not_open() -> None:
    made, channel, said = switch()
    made.close()
    assert made.wanted
    made.open_at_the_end()
    assert not made.wanted
    made.open()
    assert channel.last == OpenMachine(seconds=0)
    assert [event["event"] for event in said] == ["blocked", "unblocked"]
    assert "unblock work" in how_to_open("work")


def test_what_others_opened_and_what_is_missing_is_told() -> None:
    made, channel, said = switch()
    channel.problem = "there is no nft"
    made.close()
    channel.put_back = ("rules",)
    made.use_interface("ike0")
    texts = [str(event.get("text")) for event in said if event["event"] == "notice"]
    assert [text for text in texts if "there is no nft" in text] == texts[:1]
    assert texts[1].endswith("closed again: rules")


def test_a_name_server_passes_only_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(name: str, servers: Any, mark: int, admit: Any) -> list[Any]:
        admit(ip_address("192.0.2.53"), 50000)
        assert channel.last.asked == (ip_address("192.0.2.53"),)
        if name == "missing.example":
            raise lookup.NoAnswerError("the name has no address")
        return [GATEWAY]

    monkeypatch.setattr(lookup, "look_up", look_up)
    made, channel, _ = switch()
    made.close()
    assert asyncio.run(made.resolve(["gw.example.org", "192.0.2.2"], 500)) == [
        ("gw.example.org", GATEWAY),
        ("192.0.2.2", OTHER),
    ]
    assert channel.last.asked == ()
    with pytest.raises(NoResponse, match=r"missing\.example") as caught:
        asyncio.run(made.resolve(["missing.example"], 500))
    assert caught.value.reason == "missing.example: the name has no address"
    assert channel.last.asked == ()


@pytest.mark.parametrize(("routes", "ours"), [("192.0.2.0/24", True), ("198.51.100.0/24", False)])
def test_a_split_tunnel_that_closes_the_name_server_asks_it_itself(
    monkeypatch: pytest.MonkeyPatch, routes: str, ours: bool
) -> None:
    """F3: other programs' questions are closed then, and the tunnel could never find its gateway by them."""

    async def look_up(_name: str, servers: Any, *_: Any) -> list[Any]:
        assert list(servers) == [ip_address("192.0.2.53")]
        return [GATEWAY]

    async def by_others(*_: Any) -> list[Any]:
        return [("gw.example.org", OTHER)]

    monkeypatch.setattr(lookup, "servers", lambda: [ip_address("192.0.2.53")])
    monkeypatch.setattr(lookup, "look_up", look_up)
    monkeypatch.setattr("ikeclient.process.kill_switch.resolve", by_others)
    made, _, _ = switch(network(routes=(ip_network(routes),)))
    made.close()
    found = asyncio.run(made.resolve(["gw.example.org"], 500))
    assert found == [("gw.example.org", GATEWAY if ours else OTHER)]


def test_block_is_for_profiles_with_a_switch(tmp_path: Path) -> None:
    profile = tmp_path / "work.toml"
    profile.write_text(
        'version = 1\n[gateway]\naddress = "gw"\n[auth]\nmethod = "psk"\nidentity = "a"\npsk = { prompt = true }\n'
    )
    with pytest.raises(UsageError, match="no kill switch"):
        block.close(str(profile), tmp_path / "run")
    assert not list(tmp_path.glob(f"**/*{SUFFIX}"))


def test_a_plan_lists_every_change_as_a_command_and_closes_nothing(tmp_path: Path) -> None:
    planning = PlanningChannel("work")
    made = HelperSwitch(planning, "work", network(), lambda _: None)
    made.close()
    made.use_interface("ike0")
    made.admit(GATEWAY, 40000)
    text = "\n".join(planning.lines)
    assert "ip route replace unreachable 0.0.0.0/0 table 7528 protocol kernel" in text
    assert "ip -6 rule add priority 20020 not fwmark 0x1ce lookup 7528 protocol kernel" in text
    if lacks() is None:
        assert text.endswith("END")
        assert "192.0.2.1" in text
    assert not list(tmp_path.iterdir())
