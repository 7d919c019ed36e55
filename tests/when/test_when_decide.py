"""Which network has a tunnel up: rules as people and other clients write them, and networks that come and go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ikeclient.when.decide import Action, Match, Network, Rule, Rules, Settling, decide

MAC, OTHER_MAC = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
OFFICE = Network(
    kind="wifi",
    interface="wlan0",
    ssid="Office",
    gateway_mac=MAC,
    dns_suffixes=("munich.corp.example",),
    dns_servers=("10.0.0.53",),
)
TWIN = Network(kind="wifi", interface="wlan0", ssid="Office", gateway_mac=OTHER_MAC)
CAFE = Network(kind="wifi", interface="wlan0", ssid="Free", gateway_mac=OTHER_MAC, dns_servers=("192.168.1.1",))
DESK = Network(kind="wired", interface="eth0", gateway_mac=MAC, dns_suffixes=("corp.example",))
PHONE = Network(kind="cellular", interface="wwan0")
EARLY = Network(kind="wifi", interface="wlan0", ssid="Office", gateway_mac=None)
BEHIND = Network(kind="wired", interface="eth0", dns_suffixes=None, dns_servers=None)
CONNECT, DISCONNECT, KEEP = Action.CONNECT, Action.DISCONNECT, Action.KEEP

TRUST = Rules(trusted=(Match(ssid=("Office",), gateway_mac=(MAC,)),))
LISTED = Rules(
    rules=(
        Rule(action=DISCONNECT, match=Match(dns_suffix=("corp.example",))),
        Rule(action=KEEP, match=Match(interface="cellular")),
        Rule(action=CONNECT, match=Match(interface="wifi", ssid=("Free", "Hotel"))),
    ),
    otherwise=KEEP,
)
SERVERS = Rules(rules=(Rule(action=DISCONNECT, match=Match(dns_server=("10.0.*",))),))
UNTRUSTED = Rules(trusted=TRUST.trusted, rules=(Rule(action=CONNECT, trusted=False),), otherwise=DISCONNECT)


@pytest.mark.parametrize(
    ("rules", "network", "action"),
    [
        (TRUST, OFFICE, DISCONNECT),
        (TRUST, TWIN, CONNECT),
        (TRUST, CAFE, CONNECT),
        (TRUST, PHONE, CONNECT),
        (TRUST, EARLY, KEEP),
        (TRUST, Network(), KEEP),
        (LISTED, OFFICE, DISCONNECT),
        (LISTED, DESK, DISCONNECT),
        (LISTED, PHONE, KEEP),
        (LISTED, CAFE, CONNECT),
        (LISTED, TWIN, KEEP),
        (LISTED, BEHIND, KEEP),
        (SERVERS, OFFICE, DISCONNECT),
        (SERVERS, CAFE, CONNECT),
        (SERVERS, DESK, CONNECT),
        (UNTRUSTED, OFFICE, DISCONNECT),
        (UNTRUSTED, TWIN, CONNECT),
        (Rules(), CAFE, CONNECT),
        (Rules(otherwise=DISCONNECT), CAFE, DISCONNECT),
    ],
)
def test_the_first_rule_that_fits_decides(rules: Rules, network: Network, action: Action) -> None:
    decision = decide(rules, network)
    assert decision.action is action
    assert decision.why


@pytest.mark.parametrize(
    ("pattern", "suffix", "fits"),
    [
        ("corp.example", "corp.example", True),
        ("Corp.Example.", "a.corp.example", True),
        ("*.corp.example", "a.corp.example", True),
        ("corp.example", "notcorp.example", False),
        ("a.corp.example", "corp.example", False),
    ],
)
def test_a_domain_covers_those_below_it(pattern: str, suffix: str, fits: bool) -> None:
    network = Network(kind="wired", interface="eth0", dns_suffixes=(suffix,))
    assert Match(dns_suffix=(pattern,)).fits(network) is fits


def test_a_name_of_a_network_is_compared_to_the_letter() -> None:
    assert not Match(ssid=("office",)).fits(OFFICE)
    assert Match(gateway_mac=(MAC.upper(),)).fits(OFFICE)


def test_why_names_the_rule_and_the_network() -> None:
    assert decide(LISTED, OFFICE).why == "rule 1 (dns_suffix corp.example) fits network 'Office' (wifi on wlan0)"
    assert decide(TRUST, CAFE).why == "untrusted network 'Free' (wifi on wlan0)"
    assert decide(TRUST, OFFICE).why == "trusted network 'Office' (wifi on wlan0)"
    assert decide(UNTRUSTED, DESK).why == "rule 1 (not trusted) fits network (wired on eth0)"
    assert decide(LISTED, TWIN).why == "no rule fits network 'Office' (wifi on wlan0)"


def test_what_is_not_known_decides_nothing_and_is_named_if_the_rules_ask_for_it() -> None:
    nameless = Network(kind="wifi", interface="wlan0", ssid=None, gateway_mac=MAC, dns_suffixes=None)
    decision = decide(TRUST, nameless)
    assert (decision.action, decision.is_open) == (KEEP, True)
    assert decision.why == "it is not known whether network (wifi on wlan0) is trusted, which lacks ssid"
    assert decide(UNTRUSTED, nameless).action is KEEP
    by_name = Rules(rules=(Rule(action=DISCONNECT, match=Match(ssid=("Office",))),))
    assert decide(by_name, nameless).why.startswith("it is not known whether rule 1 fits")
    elsewhere = replace(nameless, gateway_mac=OTHER_MAC)  # what else is asked for fails already
    assert decide(TRUST, elsewhere).action is CONNECT


# Networks that come and go


def test_a_decision_is_acted_upon_once_when_it_has_stood_for_a_while() -> None:
    settling = Settling()
    settling.decided(decide(TRUST, CAFE), 0.0)
    assert (settling.act(1.9), settling.act(2.0), settling.act(3.0)) == (None, CONNECT, None)
    assert settling.due_at is None


def test_a_network_that_comes_and_goes_is_no_storm_of_logins() -> None:
    settling, now, actions = Settling(), 0.0, 0
    while now < 600.0:
        settling.decided(decide(TRUST, OFFICE if int(now / 3) % 2 else CAFE), now)
        actions += settling.act(now) is not None
        now += 0.1
    assert actions <= 2


def test_a_slow_flapping_is_acted_upon_ever_later_and_calm_forgives() -> None:
    settling, now, waits = Settling(), 0.0, []
    for turn in range(9):
        settling.decided(decide(TRUST, OFFICE if turn % 2 else CAFE), now)
        due = settling.due_at
        assert due is not None
        waits.append(due - now)
        now = due
        assert settling.act(now) is not None
    assert waits == [2, 2, 4, 8, 16, 32, 64, 120, 120]
    settling.decided(decide(TRUST, OFFICE), now + 1000)
    assert settling.act(now + 2000) is not None
    settling.decided(decide(TRUST, CAFE), now + 2000)
    assert settling.due_at == now + 2002


def test_nothing_is_done_while_there_is_no_network_and_then_what_was_done_before_holds() -> None:
    settling = Settling()
    settling.decided(decide(TRUST, CAFE), 0.0)
    assert settling.act(2.0) is CONNECT
    settling.decided(decide(TRUST, Network()), 10.0)
    assert settling.due_at is None
    settling.decided(decide(TRUST, CAFE), 20.0)
    assert settling.due_at is None
