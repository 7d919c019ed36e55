"""What the rules of `[when]` say of a network, as pure functions.

The first rule decides that fits, and one fits if all that it names does. What is not known of a network neither fits
nor fails: as long as the decision hangs on it, nothing is changed. The same holds while there is no network.

A name of a wireless network is no secret and anybody can give it to an access point of theirs, and so are DNS domains:
a rule that disconnects on a trusted network should name the MAC address of its gateway as well. Even that can be
copied by who has been there.

A network that comes and goes must not become a storm of logins: a decision has to stand for a while before it is acted
upon, and for longer the more often it has changed lately.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from ikeclient.lazy_dataclass import dataclass

SETTLE = 2.0  # seconds that a decision has to stand
LONGEST = 120.0
CALM = 300.0  # seconds without a change, after which the next one is acted upon as quickly as the first


class Action(StrEnum):
    """What is to become of a tunnel."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    KEEP = "keep"  # up or down, as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network that the machine's traffic leaves by; None is what is not known, empty what it has not.

    `kind` is "wired", "wifi", "cellular", or "" for no network at all.
    """

    kind: str = ""
    interface: str = ""
    ssid: str | None = ""
    gateway_mac: str | None = ""
    dns_suffixes: tuple[str, ...] | None = ()
    dns_servers: tuple[str, ...] | None = ()

    @property
    def known(self) -> dict[str, tuple[str, ...] | None]:
        """What it is like, by the keys of a profile; None is what is not known."""
        return {
            "interface": (self.kind,),
            "ssid": _one(self.ssid),
            "gateway_mac": _one(self.gateway_mac),
            "dns_suffix": self.dns_suffixes,
            "dns_server": self.dns_servers,
        }

    def __str__(self) -> str:
        if not self.kind:
            return "no network"
        return " ".join(["network", *([f"'{self.ssid}'"] if self.ssid else []), f"({self.kind} on {self.interface})"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a network has to be like; what is empty is not asked for. Of a list, one is enough.

    A name at the end of `dns_suffix` covers those below it; `*` at the end of a DNS server covers what begins so.
    """

    interface: str | None = None
    ssid: tuple[str, ...] = ()
    gateway_mac: tuple[str, ...] = ()
    dns_suffix: tuple[str, ...] = ()
    dns_server: tuple[str, ...] = ()

    def fits(self, network: Network) -> bool | None:
        """Whether the network is such a one; None if that is not known yet."""
        known = network.known
        return all_of(
            None
            if (values := known[key]) is None
            else any(_like(each, value, key) for each in wanted for value in values)
            for key, wanted in self.named.items()
        )

    @property
    def named(self) -> dict[str, tuple[str, ...]]:
        """What is asked for, by the keys of a profile."""
        values = {
            "interface": (self.interface,) if self.interface else (),
            "ssid": self.ssid,
            "gateway_mac": self.gateway_mac,
            "dns_suffix": self.dns_suffix,
            "dns_server": self.dns_server,
        }
        return {key: wanted for key, wanted in values.items() if wanted}

    def __str__(self) -> str:
        return ", ".join(f"{key} {' or '.join(wanted)}" for key, wanted in self.named.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What to do on a network that fits; `trusted` asks whether it is one of those that are trusted."""

    action: Action
    match: Match = Match()
    trusted: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The networks that are trusted, rules in order, and what holds if none of them fits."""

    trusted: tuple[Match, ...] = ()
    rules: tuple[Rule, ...] = ()
    otherwise: Action = Action.CONNECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do, and why, in words. `is_open` if it hangs on what is not known of the network."""

    action: Action
    why: str
    is_open: bool = False


def decide(rules: Rules, network: Network) -> Decision:
    """Decide by the first rule that fits; without rules a tunnel is up where the network is not trusted."""
    if not network.kind:
        return Decision(action=Action.KEEP, why="there is no network")
    trusted = any_of(match.fits(network) for match in rules.trusted)
    listed = rules.rules or (Rule(action=Action.DISCONNECT, trusted=True),)
    for number, rule in enumerate(listed, 1):
        wanted = [] if rule.trusted is None else [None if trusted is None else trusted is rule.trusted]
        fits = all_of([*wanted, rule.match.fits(network)])
        if fits is None:
            question = f"whether rule {number} fits {network}" if rules.rules else f"whether {network} is trusted"
            why = f"it is not known {question}, which lacks {' and '.join(_lacking(rules, network))}"
            return Decision(action=Action.KEEP, why=why, is_open=True)
        if fits:
            if not rules.rules:
                return Decision(action=rule.action, why=f"trusted {network}")
            words = [*(["trusted" if rule.trusted else "not trusted"] if rule.trusted is not None else [])]
            words += [str(rule.match)] if str(rule.match) else []
            what = ", ".join(words) or "any network"
            return Decision(action=rule.action, why=f"rule {number} ({what}) fits {network}")
    return Decision(action=rules.otherwise, why=f"no rule fits {network}" if rules.rules else f"untrusted {network}")


def _lacking(rules: Rules, network: Network) -> list[str]:
    """Return what the rules ask for and is not known."""
    asked = [key for match in (*rules.trusted, *(rule.match for rule in rules.rules)) for key in match.named]
    return [key for key, values in network.known.items() if values is None and key in asked]


def all_of(answers: Iterable[bool | None]) -> bool | None:
    """Whether all are true: one that is false decides, one that is unknown leaves it open."""
    found = list(answers)
    return False if False in found else None if None in found else True


def any_of(answers: Iterable[bool | None]) -> bool | None:
    """Whether any is true: one that is true decides, one that is unknown leaves it open."""
    found = list(answers)
    return True if True in found else None if None in found else False


def _one(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else (value,) if value else ()


def _like(pattern: str, value: str, key: str) -> bool:
    if key == "ssid":
        return pattern == value
    pattern, value = pattern.lower(), value.lower()
    if key == "dns_suffix":
        pattern, value = pattern.removeprefix("*.").strip("."), value.strip(".")
        return value == pattern or value.endswith(f".{pattern}")
    if key == "dns_server" and pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return pattern == value


class Settling:
    """Turns decisions into actions that have stood for a while; `now` is in seconds on a clock that counts sleep."""

    def __init__(self) -> None:
        self._decided: Decision | None = None
        self._since = 0.0
        self._acted: Action | None = None
        self._acted_at = float("-inf")
        self._changes = 0  # in a row, none of them CALM after the one before

    def decided(self, decision: Decision, now: float) -> None:
        """Take a decision; the same one again goes on standing."""
        if self._decided is None or decision.action is not self._decided.action:
            self._since = now
        self._decided = decision

    @property
    def due_at(self) -> float | None:
        """When the decision has stood for long enough; None if there is nothing to do."""
        if self._decided is None or self._decided.action in (Action.KEEP, self._acted):
            return None
        return self._since + min(SETTLE * 2.0 ** min(self._changes, 16), LONGEST)

    def act(self, now: float) -> Action | None:
        """Return what is to be done now, once."""
        due = self.due_at
        if due is None or now < due or self._decided is None:
            return None
        if self._acted is not None:
            self._changes = self._changes + 1 if now - self._acted_at < CALM else 0
        self._acted, self._acted_at = self._decided.action, now
        return self._acted
