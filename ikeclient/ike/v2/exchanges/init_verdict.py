"""What answers to IKE_SA_INIT leave behind although nobody has proven them: what to believe, and when to ask again."""

from __future__ import annotations

from ikeclient.errors import IkeclientError, NegotiationRefused
from ikeclient.ike.v2.close_reasons import no_encapsulation
from ikeclient.ike.v2.message.window import FIRST_WAIT, GROWTH, LONGEST_WAIT

MAX_SEEN = 16384  # different answers that are remembered, by their hash
NO_ENCAPSULATION_WAIT = 2.0  # seconds in which port 4500 may show that the gateway knows UDP encapsulation after all
CONTRADICTED_WAIT = 5.0  # seconds that a refusal is not believed after a cookie was asked for as well


class Seen:
    """How often each different answer came, against how many requests there were."""

    def __init__(self) -> None:
        self._times: dict[int, int] = {}
        self._requests = 0
        self.forged = False  # true: there were more different answers than requests, so some are not the gateway's

    def __len__(self) -> int:
        return len(self._times)

    def asked(self) -> None:
        """Count a request."""
        self._requests += 1

    def answered(self, data: bytes) -> None:
        """Count an answer."""
        digest = hash(data)
        times = self._times.get(digest, 0)
        if times or len(self._times) < MAX_SEEN:
            self._times[digest] = times + 1
        self.forged |= len(self._times) > self._requests

    def repeated(self, data: bytes) -> bool:
        """Whether exactly this answer came more than once."""
        return self._times.get(hash(data), 0) > 1


class Verdict:
    """The error to end with if nothing better comes: `error`, and `at` when it is believed, None for not by itself."""

    def __init__(self) -> None:
        self.error: IkeclientError | None = None
        self.at: float | None = None
        self.encapsulates = True  # false: an answer said that the gateway knows no UDP encapsulation

    def unusable(self, what: str, why: str) -> None:
        """Remember why an answer was dropped; what a gateway refused in so many words is worth more."""
        if self.at is None:
            self.error = NegotiationRefused(what, reason=why)

    def refused(self, error: IkeclientError, now: float) -> bool:
        """Remember a refusal and wait for a better answer (section 2.21.1); whether it is the first one."""
        if self.at is not None:
            return False
        self.at = now + 2 * FIRST_WAIT
        self.error = error
        return True

    def contradicted(self, now: float) -> None:
        """Take note of a cookie: no gateway refuses and then asks for one, so one of the two is forged."""
        if self.at is not None:
            self.at = max(self.at, now + CONTRADICTED_WAIT)

    def encapsulates_nothing(self, now: float) -> None:
        """Take note of an answer without NAT detection: no UDP encapsulation, unless port 4500 answers (2.23)."""
        self.encapsulates = False
        if self.at is None:
            self.at = now + NO_ENCAPSULATION_WAIT
            self.error = no_encapsulation()


class Resending:
    """When the request is sent again: `at`, None before it was sent."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._wait = FIRST_WAIT
        self._postponed = False

    def restart(self) -> None:
        """Wait as short as the first time: the request has another form."""
        self._wait = FIRST_WAIT

    def sent(self, now: float) -> None:
        """Note that the request was sent."""
        self.at = now + self._wait
        self._wait = min(self._wait * GROWTH, LONGEST_WAIT)

    def wait(self, now: float) -> float:
        """Return in how many seconds the request is sent again."""
        return 0.0 if self.at is None else self.at - now

    def ask_once_more(self, now: float) -> None:
        """Ask again soon whatever was waited for before."""
        self.at = now + FIRST_WAIT
        self._wait = FIRST_WAIT * GROWTH

    def postpone(self, now: float) -> None:
        """Ask again late: somebody has answered."""
        if not self._postponed:
            self._postponed = True
            self._wait = LONGEST_WAIT
            self.at = now + self._wait

    def soon(self, now: float) -> None:
        """Ask again soon: nobody who has answered is worth waiting for any more."""
        if self._postponed and self.at is not None:
            self._postponed = False
            self._wait = FIRST_WAIT
            self.at = min(self.at, now + self._wait)
