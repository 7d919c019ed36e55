"""When the profile's `up` and `down` commands run, and the small environment that they see."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ikeclient.control.events import HOOKS, SEARCH_PATH
from ikeclient.tunnel.commands import RunHook, StopHook
from ikeclient.tunnel.status import Status

MOST_WAITING = 16  # transitions whose commands have not run yet; beyond that the oldest are left out

# Runs a command of a reason ("up", "down") with these variables; returns what went wrong, if anything did.
Runner = Callable[[str, Sequence[str], Mapping[str, str]], Awaitable[str | None]]
Commands = Mapping[str, Sequence[Sequence[str]]]


def environment(status: Status, event: str) -> dict[str, str]:
    """Return the environment of a hook: PATH and the IKECLIENT_ variables, all of them free of secrets."""
    return {
        "PATH": SEARCH_PATH,
        "IKECLIENT_REASON": HOOKS[event],
        "IKECLIENT_EVENT": event,
        "IKECLIENT_NAME": status.name,
        "IKECLIENT_INTERFACE": status.interface or "",
        "IKECLIENT_GATEWAY": str(status.path.remote_address) if status.path else "",
        "IKECLIENT_ADDRESSES": " ".join(status.addresses),
        "IKECLIENT_DNS_SERVERS": " ".join(status.network.dns.servers),
        "IKECLIENT_DNS_DOMAINS": " ".join(status.network.dns.domains),
        "IKECLIENT_P_CSCF": " ".join(map(str, status.configuration.p_cscf)),
        "IKECLIENT_ROUTES": " ".join(status.network.routes),
        "IKECLIENT_MTU": str(status.network.mtu),
    }


class Hooks:
    """Decide which of the `commands` ("up" and "down") is due, one after the other in the order of transitions.

    Take `due` after each call. A command that fails is worth a warning, which is its only effect on the tunnel.
    """

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._waiting: deque[dict[str, str]] = deque(maxlen=MOST_WAITING)
        self._next: deque[RunHook] = deque()  # those of the transition that is being dealt with
        self._running: RunHook | None = None
        self._stop = False
        self._last: str | None = None

    def use(self, commands: Commands) -> None:
        """Run other commands from now on."""
        self._commands = commands

    def tell(self, event: str, status: Status) -> None:
        """Take an event; what is no transition is ignored."""
        news = event in HOOKS and (event != self._last or event == "roamed")
        if not news or (self._last is None and event != "connected"):
            return
        self._last = event
        self._waiting.append(environment(status, event))

    @property
    def idle(self) -> bool:
        """Whether everything that was told is done."""
        return self._running is None and not self._waiting and not self._next

    def due(self) -> RunHook | StopHook | None:
        """Return what is to be done now; None while a command runs, or if there is nothing."""
        if self._stop:
            self._stop = False
            return StopHook()
        if self._running is not None:
            return None
        while self._waiting and not self._next:
            variables = self._waiting.popleft()
            reason = variables["IKECLIENT_REASON"]
            self._next.extend(
                RunHook(reason=reason, command=command, variables=variables) for command in self._commands[reason]
            )
        self._running = self._next.popleft() if self._next else None
        return self._running

    def ended(self, problem: str | None) -> str | None:
        """Take note that the command has ended; returns a warning if there was a problem."""
        ended, self._running = self._running, None
        return f"{ended.reason} command {ended.command[0]!r} {problem}" if problem and ended is not None else None

    def finish(self, status: Status) -> None:
        """Stop what runs, and have the last commands run if there ever was a transition."""
        if self._last is None:
            return
        self._waiting.clear()
        self._next.clear()
        self._stop = self._running is not None
        self.tell("disconnected", status)
