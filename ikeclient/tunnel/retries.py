"""What a failed attempt to connect again means: whether another one follows, and after how long.

Routes and device stay between attempts, so the end of a tunnel is what opens the machine. Only one thing that others
say may bring it about: a gateway that has proven its identity refuses the credentials, as often in a row as the
profile says, because more attempts can lock an account. Everything else that a gateway refuses (no inner address left,
no further SAs, other selectors), and everything that somebody in its place says or shows, may be over a moment later.

An attempt that authenticates is not free: it may burn a one-time password, ask a person, or count as a guess. So
pauses grow until a connection has lasted for a while, and those after refused credentials are longer, and only a person
can shorten them. A gateway that ends a connection over which nothing passed, and the next one as well, gets another
login when a packet wants to leave, and not before.

The first connection is another matter, since there is nothing yet to keep closed and a mistake wants to be told at
once. Within its time it is tried again only where nobody could be asked, because the network is not there yet.
`--retry-first` tries again, for as long as it takes, whatever may be over by itself; but credentials that were refused
end it at once, whoever refused them: at a machine that starts unattended nobody would see an account being locked.
"""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoResponse,
)
from ikeclient.ike.v2.close_reasons import LoginUnanswered
from ikeclient.tunnel.backoff import Backoff

STABLE = 60.0  # seconds after which a connection counts as one that works
IDLE = 2.5  # seconds in which nothing passed, after which the end of a connection is that of an idle one
IDLE_LONGEST = 3600.0  # a connection that lasted longer did not end for being idle
IDLE_ENDS = 2  # of them in a row, until the next connection waits for a packet
REFUSED_FIRST = 5.0  # the shortest pause after credentials were refused; it doubles with each further refusal
_MOST_DOUBLINGS = 6


class Retries:
    """The attempts of one tunnel after its first connection; `now` is in seconds on a clock that counts sleep."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._backoff = Backoff(entropy)
        self._up_at = float("-inf")
        self._idle_ends = 0
        self.failures = 0  # attempts in a row that led to no connection
        self.refused = 0  # the last of them in which a proven gateway refused our credentials

    def up(self, now: float) -> None:
        """A connection came up."""
        self._up_at = now
        self.failures = self.refused = 0

    def lost(self, now: float, *, idle: bool = False) -> None:
        """The connection is over; `idle` tells that the gateway ended it in order, and that nothing had passed."""
        self._idle_ends = self._idle_ends + 1 if idle and now - self._up_at < IDLE_LONGEST else 0
        if now - self._up_at >= STABLE:
            self._backoff.reset()

    def failed(self, error: IkeclientError, *, proven: bool) -> None:
        """An attempt failed; `proven` tells whether its gateway had proven its identity before."""
        self.failures += 1
        self.refused = self.refused + 1 if proven and isinstance(error, AuthenticationFailed) else 0

    def failed_first(self, error: IkeclientError) -> None:
        """The first connection failed, and another attempt follows.

        A login without an outcome may have been refused in silence, so its pauses are those after a refusal.
        """
        self.failures += 1
        self.refused = self.refused + 1 if isinstance(error, LoginUnanswered) else 0

    def pause(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        pause = self._backoff.pause()
        return max(pause, REFUSED_FIRST * 2.0 ** min(self.refused - 1, _MOST_DOUBLINGS)) if self.refused else pause

    @property
    def on_demand(self) -> bool:
        """Whether the next attempt waits until a packet wants to leave."""
        return self._idle_ends >= IDLE_ENDS

    @property
    def patient(self) -> bool:
        """Whether the pause is kept whatever happens to the network meanwhile."""
        return self.refused > 0

    def over(self, error: IkeclientError, *, attempts: int | None, refusals: int) -> IkeclientError | None:
        """The error that ends the tunnel after the last attempt failed with `error`; None where another one follows.

        `attempts` and `refusals` are what the profile allows of either kind in a row, None for no limit.
        """
        if self.refused >= refusals:
            what = f"{error.message}, {self.refused} times in a row" if self.refused > 1 else error.message
            return AuthenticationFailed(what, reason=error.reason, hint=f"{_OPEN}: {error.hint or 'connect again'}")
        if attempts is not None and self.failures >= attempts:
            return type(error)(error.message, reason=error.reason, hint=f"{_OPEN}: {error.hint or 'connect again'}")
        return None


def may_pass(error: IkeclientError) -> bool:
    """Tell whether what the first connection failed for may be over a moment later, without anybody's doing.

    The gateway's certificate is among it, because a machine that has just started may not know the time yet. Refused
    credentials, and what is wrong with this machine or the profile, are not.
    """
    return isinstance(error, NoResponse | NegotiationRefused | GatewayNotAuthenticated)


_OPEN = "the tunnel has ended and protects nothing any more"
