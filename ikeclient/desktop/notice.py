"""What a person at a desktop is told of a tunnel, decided without a desktop, a tunnel or a clock.

A tunnel has at most one notice at a time: what holds now takes the place of what held before. Few things are worth a
notice, so that it is read when there is one:

- a loss counts when it has lasted for `GRACE` seconds, since most are over before anybody has noticed, and every start
  of a tunnel with a kill switch closes it for a moment; further failed attempts are no news;
- coming up is told once, and only of tunnels of the whole machine: `exec` and `proxy` begin and end with a command;
- the end is told only when nobody asked for it, and ends every other notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from ikeclient.control.events import error_of
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, IkeclientError, NegotiationRefused
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.text import printable

if TYPE_CHECKING:
    from ikeclient.control.status import TunnelStatus

GRACE = 5.0
_LONGEST = 300  # characters of a line
_REFUSALS = {
    AuthenticationFailed.exit_code: "the login was refused",
    NegotiationRefused.exit_code: "the gateway refused",
    GatewayNotAuthenticated.exit_code: "the gateway is not to be trusted",
}
_HELD = "The kill switch holds all traffic that belongs into the tunnel."


class NoticeKind(StrEnum):
    """What a notice is about."""

    UP = "up"
    LOST = "lost"
    REFUSED = "refused"
    BLOCKED = "blocked"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A headline and a text of some lines, neither of which holds markup or control characters."""

    kind: NoticeKind
    summary: str
    body: str


class TunnelNotices:
    """What is to be told of the tunnel `name`: `notice` is what holds now, None if nothing is worth one.

    `due` is when `tick` may change that, on the clock of `now`, in seconds. `quiet`: coming up is not told.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self.notice: Notice | None = None
        self.due: float | None = None
        self._name = printable(name, _LONGEST)
        self._quiet = quiet
        self._announced = False  # coming up is told
        self._good: Notice | None = None  # while it is up
        self._alive = False  # it runs, or has ended without a word
        self._error: IkeclientError | None = None
        self._why: Sequence[str] = ()
        self._soon: Notice | None = None  # at `due`

    def found(self, status: TunnelStatus, now: float, *, news: bool) -> None:
        """Take a running tunnel's own word for how it is; `news`: it did not run before."""
        self._alive, self._error = status.state != "disconnected", None
        self.due = None
        self._announced = status.mode == "tun" and not self._quiet
        self._reached(status.addresses, status.gateway.identity or status.gateway.address)
        match status.state:
            case "connected":
                self._at_once(self._good if news else None)
            case "reconnecting" | "blocked":
                self._down([status.last_error] if status.last_error else [], now, blocked=status.blocked)

    def heard(self, event: Mapping[str, object], now: float, *, blocked: bool) -> None:
        """Take note of an event; `blocked`: the kill switch is closed and there is no connection."""
        match event.get("event"):
            case "connected":
                gateway = event.get("gateway")
                known = gateway if isinstance(gateway, Mapping) else {}
                self._reached(_texts(event.get("addresses")), known.get("identity") or known.get("address"))
                self._up()
            case "roamed":
                self._up()
            case "reconnecting" | "retrying":
                self._down(_texts(event.get("error")), now, blocked=blocked)
            case "blocked" | "unblocked" if self._told_of_loss or self.due is not None:
                self._lost(now, blocked=blocked)
            case "error":
                self._error = error_of(event)
            case "disconnected":
                self._alive = False

    def tick(self, now: float) -> None:
        """Tell of a loss that has lasted."""
        if self.due is not None and now >= self.due:
            self.notice, self.due = self._soon, None

    def ended(self, now: float, *, blocked: bool) -> None:
        """Take note that the tunnel does not run; `blocked`: its kill switch is closed all the same."""
        if self._error is not None:
            refusal = _REFUSALS.get(self._error.exit_code)
            kind = NoticeKind.REFUSED if refusal is not None else NoticeKind.BLOCKED if blocked else NoticeKind.ENDED
            held = [_HELD] if blocked else []
            self._at_once(self._made(kind, refusal or "not connected", *self._error.lines(), *held))
        elif blocked:
            how = f"`ikeclient unblock {self._name}` opens it."
            self._when_it_lasts(self._made(NoticeKind.BLOCKED, "not connected", _HELD, how), now)
            self._alive = False  # when it is opened, there is nothing more to tell
        elif self._alive:
            left = "Its process is gone. `ikeclient repair` clears up what it left."
            self._at_once(self._made(NoticeKind.ENDED, "not connected", left))
        else:
            self._at_once(None)

    def _at_once(self, notice: Notice | None) -> None:
        self.notice, self.due = notice, None

    def _when_it_lasts(self, notice: Notice, now: float) -> None:
        """Tell of a loss, at once if one has been told of."""
        if self._told_of_loss:
            self._at_once(notice)
        else:
            self._soon = notice
            self.due = now + GRACE if self.due is None else self.due

    @property
    def _told_of_loss(self) -> bool:
        return self.notice is not None and self.notice.kind in (NoticeKind.LOST, NoticeKind.BLOCKED)

    def _reached(self, addresses: Sequence[str], gateway: object) -> None:
        known = f"Gateway {gateway}" if gateway else ""
        self._good = self._made(NoticeKind.UP, "connected", known, ", ".join(addresses)) if self._announced else None

    def _up(self) -> None:
        told = self.notice is not None and self.notice.kind is NoticeKind.UP
        self._at_once(self.notice if told else self._good)

    def _down(self, why: Sequence[str], now: float, *, blocked: bool) -> None:
        if not self._told_of_loss:
            self._why = why
        self._lost(now, blocked=blocked)

    def _lost(self, now: float, *, blocked: bool) -> None:
        kind, held = (NoticeKind.BLOCKED, [_HELD]) if blocked else (NoticeKind.LOST, [])
        again = "It is tried again until it works."
        self._when_it_lasts(self._made(kind, "not connected", *self._why, *held, again), now)

    def _made(self, kind: NoticeKind, headline: str, *lines: str) -> Notice:
        body = "\n".join(printable(line, _LONGEST) for line in lines if line)
        return Notice(kind=kind, summary=f"VPN {self._name}: {headline}", body=body)


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []
