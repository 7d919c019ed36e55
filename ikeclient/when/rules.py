"""The section `[when]` of a profile as rules to decide by."""

from __future__ import annotations

from ikeclient.profile.model.schema import NetworkMatch, When
from ikeclient.when.decide import Action, Match, Rule, Rules


def rules_of(when: When) -> Rules:
    """Return the rules that a profile states."""
    return Rules(
        trusted=tuple(map(_match, when.trusted)),
        rules=tuple(Rule(action=Action(rule.action), match=_match(rule), trusted=rule.trusted) for rule in when.rules),
        otherwise=Action(when.otherwise),
    )


def _match(match: NetworkMatch) -> Match:
    return Match(
        interface=match.interface,
        ssid=match.ssid,
        gateway_mac=match.gateway_mac,
        dns_suffix=match.dns_suffix,
        dns_server=match.dns_server,
    )


def weak(rules: Rules) -> list[Match]:
    """Return what is trusted, or disconnected on, by names alone that anybody can give a network of theirs."""
    ending = (rule for rule in rules.rules if rule.action is Action.DISCONNECT and not rule.trusted)
    matches = [*rules.trusted, *(rule.match for rule in ending)]
    return [
        match for match in matches if (match.ssid or match.dns_suffix or match.dns_server) and not match.gateway_mac
    ]
