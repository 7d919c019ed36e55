"""When IKE and Child SAs act by themselves: rekeying, liveness, ends that nothing may postpone (RFC 7296 section 2.8).

Each end keeps its own lifetimes. Rekeying starts early, and is tried again with growing pauses if the peer refuses;
at the hard end the SA is closed whatever the peer says, so that keys never outlive their time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from ikeclient.ike.config import IkeConfig
from ikeclient.ike.timers import Timers, jittered

HARD_END = 1.1  # times the rekeying period
LINGER = 60.0  # how long something that the peer should delete may live on before we delete it
AGAIN, OVER = 0.8, 0.95  # of an AUTH_LIFETIME: when to authenticate anew, and when that is too late
RETRY_FIRST = 10.0
RETRY_LONGEST = 300.0
HINT_PAUSE = 30.0  # between liveness checks that unprotected messages cause

Entropy = Callable[[int], bytes]


class Due(Enum):
    """What there is to do at the end of a timer."""

    LIVENESS = auto()
    REKEY = auto()
    LINGER = auto()
    EXPIRE = auto()
    REAUTHENTICATE = auto()
    AUTHENTICATION_OVER = auto()


def retry_after(refusals: int, entropy: Entropy) -> float:
    """How long to wait after that many refusals in a row; with chance in it, so that two ends do not stay in step."""
    longest = min(RETRY_FIRST * 2.0 ** (refusals - 1), RETRY_LONGEST)
    return longest * (0.5 + 0.5 * int.from_bytes(entropy(2), "big") / 65535)


def of_child(config: IkeConfig, entropy: Entropy, now: float) -> tuple[float, float]:
    """When a Child SA that came up now is rekeyed, and when it ends whatever the peer says."""
    lifetime = config.timing.rekey_child
    return now + jittered(lifetime, entropy), now + lifetime * HARD_END


class Lifetimes:
    """The timers of one IKE SA. `rekey_at` is when it will be rekeyed, for people."""

    def __init__(self, config: IkeConfig, entropy: Entropy) -> None:
        self.rekey_at = float("inf")
        self._config = config
        self._entropy = entropy
        self._timers: Timers[Due] = Timers()
        self._refusals = 0
        self._authenticated_until = (float("inf"), float("inf"))
        self._hint_after = float("-inf")

    def start(self, now: float) -> None:
        """The SA is up."""
        self.rekey_at = now + jittered(self._config.timing.rekey_ike, self._entropy)
        self._timers.set(Due.REKEY, self.rekey_at)
        self._timers.set(Due.EXPIRE, now + self._config.timing.rekey_ike * HARD_END)
        if self._config.timing.liveness:
            self._timers.set(Due.LIVENESS, now + self._config.timing.liveness)

    def stop(self) -> None:
        """The SA is on its way out: nothing is due any more."""
        self._timers = Timers()

    def inherit(self, predecessor: Lifetimes) -> None:
        """Rekeying does not authenticate anew (section 2.8.3): what limits the authentication goes on."""
        self._hint_after = predecessor._hint_after
        self._authenticate_before(*predecessor._authenticated_until)

    def limit(self, seconds: float, now: float) -> None:
        """The gateway wants a new authentication within that time (RFC 4478); the earliest such wish counts."""
        self._authenticate_before(now + seconds * AGAIN, now + seconds * OVER)

    def _authenticate_before(self, again: float, over: float) -> None:
        if over < self._authenticated_until[1]:
            self._authenticated_until = (again, over)
            self._timers.set(Due.REAUTHENTICATE, again)
            self._timers.set(Due.AUTHENTICATION_OVER, over)

    def linger(self, now: float) -> None:
        """The peer should delete this SA, and nothing else is due any more; look after that."""
        self.stop()
        self._timers.set(Due.LINGER, now + LINGER)

    def refused(self, now: float) -> None:
        """The peer did not rekey."""
        self._refusals += 1
        self._timers.set(Due.REKEY, now + retry_after(self._refusals, self._entropy))

    def rekey_now(self, now: float) -> bool:
        """Rekey now rather than later; whether that is news."""
        news = self.rekey_at > now
        self.rekey_at = min(self.rekey_at, now)
        return news

    def watch(self, last_heard: float, now: float) -> bool:
        """Whether a liveness check is due, given when the peer was last heard; arms the timer for the next look."""
        silent = now >= last_heard + self._config.timing.liveness
        self._timers.set(Due.LIVENESS, (now if silent else last_heard) + self._config.timing.liveness)
        return silent

    def hinted(self, now: float) -> bool:
        """Whether an unprotected message may cause a liveness check now; more often than now and then it may not."""
        if now < self._hint_after:
            return False
        self._hint_after = now + HINT_PAUSE
        return True

    @property
    def next(self) -> float | None:
        """The earliest deadline."""
        return self._timers.next

    def expired(self, now: float) -> list[Due]:
        """Take out what is due."""
        return self._timers.expired(now)
