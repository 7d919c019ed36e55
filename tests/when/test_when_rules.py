"""The section [when] as rules, and which of them anybody can imitate."""

from __future__ import annotations

import pytest

from ikeclient.profile.model.schema import NetworkMatch, When, WhenRule
from ikeclient.when.decide import Action, Match, Rule, Rules
from ikeclient.when.rules import rules_of, weak

MAC = "00:00:5e:00:53:01"


def test_a_section_becomes_rules_with_all_that_it_says() -> None:
    everything = {
        "interface": "wifi",
        "ssid": ("Office",),
        "gateway_mac": ("00-00-5E-00-53-01",),
        "dns_suffix": ("corp.example",),
        "dns_server": ("10.0.*",),
    }
    when = When.model_validate(
        {
            "trusted": [everything],
            "rules": [{"action": "keep", "trusted": False, **everything}, {"action": "disconnect"}],
            "otherwise": "keep",
        }
    )
    match = Match(
        interface="wifi", ssid=("Office",), gateway_mac=(MAC,), dns_suffix=("corp.example",), dns_server=("10.0.*",)
    )
    assert rules_of(when) == Rules(
        trusted=(match,),
        rules=(Rule(action=Action.KEEP, match=match, trusted=False), Rule(action=Action.DISCONNECT)),
        otherwise=Action.KEEP,
    )
    assert rules_of(When()) == Rules(otherwise=Action.CONNECT)


@pytest.mark.parametrize(
    ("when", "imitated"),
    [
        (When(trusted=(NetworkMatch(ssid=("Office",)),)), ["ssid Office"]),
        (When(trusted=(NetworkMatch(dns_suffix=("a.example",)),)), ["dns_suffix a.example"]),
        (When(trusted=(NetworkMatch(ssid=("Office",), gateway_mac=(MAC,)),)), []),
        (When(trusted=(NetworkMatch(gateway_mac=(MAC,)),)), []),
        (When(rules=(WhenRule(action="disconnect", dns_server=("10.0.*",)),)), ["dns_server 10.0.*"]),
        (When(rules=(WhenRule(action="connect", ssid=("Free",)),)), []),
        (When(rules=(WhenRule(action="disconnect", trusted=False, ssid=("Free",)),)), ["ssid Free"]),
        (
            When(
                trusted=(NetworkMatch(gateway_mac=(MAC,)),),
                rules=(WhenRule(action="disconnect", trusted=True, ssid=("Office",)),),
            ),
            [],
        ),
    ],
)
def test_what_is_left_by_names_alone_is_weak(when: When, imitated: list[str]) -> None:
    assert list(map(str, weak(rules_of(when)))) == imitated
