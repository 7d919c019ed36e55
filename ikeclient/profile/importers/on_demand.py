"""Other clients' rules of when a VPN is up by itself, as our `[when]`.

Of Apple's `OnDemandRules` the first that fits decides there as here, and nothing happens if none does. What a rule asks
that cannot be asked here (a server to reach, the names that programs look up) makes it weaker, so such a rule may lead
to the tunnel, and never away from it. Windows names the DNS suffixes of networks that need no tunnel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft, Fields
from ikeclient.profile.model.schema import MAX_MATCHES

_ACTIONS = {
    "Connect": "connect",
    "Disconnect": "disconnect",
    "Ignore": "keep",
    "Allow": "keep",
    "EvaluateConnection": "keep",
}
_KINDS = {"Ethernet": "wired", "WiFi": "wifi", "Cellular": "cellular"}


def import_rules(listed: list[object], draft: Draft) -> None:
    """Turn rules into `when.rules`; what of them is left out is said. Raises ProfileError for what is no rule."""
    rules: list[dict[str, Any]] = []
    if len(listed) > MAX_MATCHES:
        raise ProfileError(f"OnDemandRules has {len(listed)} rules, at most {MAX_MATCHES} are possible")
    for number, item in enumerate(listed, 1):
        rule = _rule(Fields(item, f"rule {number} of OnDemandRules"), number, draft)
        if rule is not None:
            rules.append(rule)
    if rules:
        draft.set("when", "rules", rules)
        draft.set("when", "otherwise", "keep")


def trust_domains(suffixes: Sequence[str], where: str, draft: Draft) -> None:
    """Trust networks by their DNS suffixes; `where` the file says so. Raises ProfileError if there are too many."""
    wanted = list(dict.fromkeys(suffix.strip() for suffix in suffixes if suffix.strip(" .*")))
    if len(wanted) > MAX_MATCHES:
        raise ProfileError(f"{where} has {len(wanted)} entries, at most {MAX_MATCHES} are possible")
    if wanted:
        draft.set("when", "trusted", [{"dns_suffix": wanted}])
        draft.risk(f"{where} trusts a network that anybody can imitate: add its gateway_mac to when.trusted")
        draft.warn(f"{where} is kept in [when]: `ikeclient watch` has the tunnel up elsewhere, `connect` does not ask")


def _rule(fields: Fields, number: int, draft: Draft) -> dict[str, Any] | None:
    written = fields.text("Action") or ""
    action = _ACTIONS.get(written)
    where = f"rule {number} of OnDemandRules"
    if action is None:
        draft.lost([f"{where}, action {written!a}"])
        return None
    if fields.items("ActionParameters"):
        draft.lost([f"{where}, ActionParameters"], "a tunnel is not started by the name that is looked up")
    weaker = fields.text("URLStringProbe") is not None
    rule: dict[str, Any] = {"action": action}
    if (kind := fields.text("InterfaceTypeMatch")) is not None:
        if kind not in _KINDS:
            draft.lost([f"{where}, interface {kind!a}"])
            return None
        rule["interface"] = _KINDS[kind]
    for theirs, ours in (
        ("SSIDMatch", "ssid"),
        ("DNSDomainMatch", "dns_suffix"),
        ("DNSServerAddressMatch", "dns_server"),
    ):
        values = [str(value) for value in fields.items(theirs) if isinstance(value, str) and value]
        if len(values) > MAX_MATCHES:
            raise ProfileError(f"{where}: {theirs} has {len(values)} entries, at most {MAX_MATCHES} are possible")
        if values:
            rule[ours] = values
    if weaker and action != "connect":
        draft.lost([f"{where}, with URLStringProbe"], "no server is asked, and the rule would take the tunnel away")
        return None
    if weaker:
        draft.lost([f"{where}, URLStringProbe"], "no server is asked: the rule holds without it")
    if action == "disconnect" and ("ssid" in rule or "dns_suffix" in rule or "dns_server" in rule):
        draft.risk(f"{where} disconnects on a network that anybody can imitate: add its gateway_mac to when.rules")
    return rule
