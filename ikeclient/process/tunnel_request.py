"""What a command that runs inside a tunnel is asked for, and what shows people how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ikeclient.errors import IkeclientError
from ikeclient.lazy_dataclass import dataclass

Work = Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """What shows things to people: `show` the events until the tunnel is up, `warn` a sentence, `error` an error.

    `line` is an event as a line of the log, which `verbosity` makes longer.
    """

    show: Callable[[Mapping[str, object]], None]
    line: Callable[[Mapping[str, object]], str]
    warn: Callable[[str], None]
    error: Callable[[IkeclientError], None]
    verbosity: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelRequest:
    """Which tunnel, and how to start it where it does not run.

    `profile` is a name or a path, None for what the environment says; `overrides` are KEY=VALUE, `timeout` is in
    seconds. `ask` prompts for a secret, None if nobody is there to type; `stdin` reads the one that is on standard
    input, None if there is none. `metrics` is where the tunnel tells its metrics, as in `ConnectOptions`.
    """

    profile: str | None
    overrides: tuple[str, ...] = ()
    timeout: float = 30.0
    ask: Callable[[str], str] | None = None
    stdin: Callable[[], str] | None = None
    metrics: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        """Return the tunnel's name."""
        from ikeclient.profile.load.lookup import tunnel_name

        return tunnel_name(self.profile)
