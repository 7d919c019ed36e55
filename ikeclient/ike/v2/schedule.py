"""When an attempt to connect does what: the second port, the next answer, the end."""

from __future__ import annotations

from ikeclient.ike.config import IkeConfig

SECOND_PORT_AFTER = 1.2  # seconds of silence on port 500 before port 4500 is tried as well
MUTE = 2.0  # seconds without a word from a candidate before port 4500 may be asked whether anybody is there
BEFORE_DEADLINE = 3.0  # seconds before the deadline in which that is asked
PERSON = 120.0  # seconds that a person may take to answer a question of the gateway's
LOOKUP = 25.0  # seconds that finding out about revocation may take
SLOW_ANSWER = 60.0  # seconds that a proven gateway may take to judge what was said to it in EAP, such as a push message
BETTER_ANSWER = 0.5  # seconds after the first candidate in which failures of unproven ones are not believed


class Schedule:
    """The times of one attempt, in seconds; `two_ports` says whether port 4500 is asked besides the first one.

    `deadline` is its end, `login_deadline` that of a login under way, `first_at` when the first candidate came, and
    `try_at` when the next waiting answer may be tried, if there is one.
    """

    def __init__(self, config: IkeConfig, now: float, *, two_ports: bool) -> None:
        self._two_ports = two_ports
        self.deadline = now + config.timing.timeout
        self.login_deadline = now + max(config.timing.timeout, config.timing.login_timeout)
        self.second_port_at: float | None = None
        self.first_at: float | None = None
        self.try_at = now
        self.begin(now)

    def begin(self, now: float) -> None:
        """Ask on the first port, and nobody has answered yet."""
        self.first_at = None
        self.second_port_at = now + SECOND_PORT_AFTER if self._two_ports else None

    def stop_asking(self) -> None:
        """Ask on no further port."""
        self.second_port_at = None

    def second_port_due(self, now: float) -> bool:
        """Whether it is time for the second port; true once."""
        if self.second_port_at is None or now < self.second_port_at:
            return False
        self.second_port_at = None
        return True

    def candidate(self, now: float, *, forged: bool) -> bool:
        """Note that a candidate came, when some answers are `forged` for sure or not; whether it is the first one."""
        first = self.first_at is None
        if self.first_at is None:
            self.first_at = now
            if self._two_ports:
                self.second_port_at = max(now + MUTE, self.deadline - BEFORE_DEADLINE)
        if forged and self.second_port_at is not None:
            self.second_port_at = min(self.second_port_at, self.first_at + MUTE)
        return first

    def may_try(self, now: float, at: float) -> bool:
        """Whether the next waiting answer may be tried now: at `at` or later."""
        self.try_at = at
        return now >= at

    def wait_until(self, until: float) -> None:
        """Give a login under way at least this time, because a person has to answer or to confirm it."""
        self.login_deadline = max(self.login_deadline, until)
        self.deadline = max(self.deadline, until)

    def extend(self, now: float) -> bool:
        """Give a login under way all the time there is; false if that is over."""
        if now >= self.login_deadline:
            return False
        self.deadline = self.login_deadline
        return True
