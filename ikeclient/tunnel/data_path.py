"""Whether the tunnel carries anything, judged by what arrives: an IKE SA that answers proves nothing about ESP.

Seen with gateways that send ESP outside UDP, whose kernel keeps a former address after a move, that failed to load
their own SA, and behind NATs that gave the data another mapping. All look the same from here: packets go out, IKE is
answered, and no ESP comes in. So, unfortunately, does traffic that nobody answers (syslog over UDP, pings to a host
that is down). To tell the two apart, the gateway is asked for an answer through the tunnel itself: an ICMP echo
request to its name server and its own address where the tunnel leads there, and one that must die at the first hop.
Whatever genuine ESP comes back ends all doubt, and most gateways answer one of them. Some answer none, so silence is

- *certain* where nothing has arrived since the connection was made or moved, or where such a probe was answered before;
- *doubtful* where something had arrived, and it is not known whether probes are answered.

Each step is taken once while the silence lasts, and needs more traffic that goes unanswered and an answer by IKE. First
new keys, which cost nothing and make both ends install new SAs; then a new connection; then nothing but a warning, with
a probe now and then that shows when it is over. A login may burn a one-time password, so the pause before the next new
connection for this reason grows from ten minutes to a day, and a doubtful silence must last half a minute for it. While
the size of the path is being looked for, or packets get lost on this side in a flood, nothing is judged.
"""

from __future__ import annotations

from enum import Enum, auto

from ikeclient.lazy_dataclass import dataclass

LOOK = 1.0  # seconds between looks while there is something to judge
PROBE_AFTER, PROBE_AFTER_LONGEST = 2.5, 8.0  # seconds of silence; more where the only answers are those to probes
PROBE_EVERY, PROBE_LATER = 2.0, 10.0  # between probes; once all steps are taken
PROBES, LAST_PROBE = 2, 1.5  # so many before a step, and how long the last one is given
RECENT = 10.0  # how long after the last packet of others probes go on
MOVING = 6.0  # seconds after a move in which packets may still come the former way
CERTAIN, DOUBTFUL = 5.0, 9.0  # seconds of silence before the first step
NEXT_CERTAIN, NEXT_DOUBTFUL = 4.0, 20.0  # and from one step to the next
LOOKS = 3  # looks at which something had been sent since the one before, so that one packet alone decides nothing
AGAIN_FIRST, AGAIN_LONGEST = 60.0, 3600.0  # before the first step is taken again
CONNECT_FIRST, CONNECT_LONGEST = 600.0, 86400.0  # before another connection is made for this reason


class Step(Enum):
    """What to do about the silence."""

    PROBE = auto()
    REKEY = auto()
    RECONNECT = auto()
    GIVE_UP = auto()  # tell that nothing helped
    RECOVERED = auto()  # tell that it is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is to be seen of a connection; times are on the clock of `now`, None before the first time.

    `connection` and `path` are whatever tells two apart, `heard` is when the gateway last proved to be alive in any
    way, and `excused` tells that packets may get lost for another reason: too long for the path, or no room for
    them on this side.
    """

    connection: object
    path: object
    sent: float | None
    received: float | None
    heard: float
    excused: bool


class _Stage(Enum):
    WATCHING = auto()
    REKEYED = auto()
    RECONNECTED = auto()
    GIVEN_UP = auto()


class _Rest:
    """How long to leave a step alone after it was taken: twice as long each time, up to a longest time."""

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = first, longest
        self._pause, self._until = first, float("-inf")

    def over(self, now: float) -> bool:
        """Whether the step may be taken."""
        return now >= self._until

    @property
    def until(self) -> float:
        """When it may be taken again."""
        return self._until

    def begin(self, now: float) -> None:
        """It was taken, or what it was taken for is over."""
        self._until = now + self._pause
        self._pause = min(self._pause * 2, self._longest)

    def forget(self, now: float) -> None:
        """Begin with the first pause again, if the last one is long over."""
        if now > self._until + self._longest:
            self._pause = self._first


class DataPath:
    """The judgement about one tunnel over all its connections.

    Call `look` once a second while there is traffic, and at `next_look` else.
    """

    def __init__(self) -> None:
        self._stage = _Stage.WATCHING
        self._seen: tuple[object, object] = None, None  # connection and path
        self._moving_until = float("-inf")
        self._fresh = True  # nothing has arrived on this path
        self._answers = False  # this gateway answers probes on this path
        self._received: float | None = None
        self._looked = float("-inf")
        self._since: float | None = None  # when something was sent that nothing followed
        self._looks = 0
        self._probes = 0
        self._probed = float("-inf")
        self._probe_after = PROBE_AFTER
        self._again = _Rest(AGAIN_FIRST, AGAIN_LONGEST)
        self._connect = _Rest(CONNECT_FIRST, CONNECT_LONGEST)

    @property
    def silent(self) -> bool:
        """Whether a step was taken and nothing has come in since."""
        return self._stage is not _Stage.WATCHING

    def next_look(self, sent: float | None, now: float) -> float | None:
        """When to look again if nothing is sent and nothing comes; None if there is no reason to.

        `sent` is when ESP was last sent. An answer of IKE is a reason to look as well.
        """
        if self._since is None or sent is None:
            return None
        if now - sent <= RECENT:
            return now + LOOK
        if self._stage is _Stage.GIVEN_UP or self._looks < LOOKS or self._probes < PROBES:
            return None
        due = max(self._since + self._timeout, self._again.until)
        return due if due > now else None

    def look(self, sight: Sight, now: float) -> list[Step]:
        """What to do now."""
        steps: list[Step] = []
        if (sight.connection, sight.path) != self._seen:
            self._enter(sight, now)
        if sight.received is not None and sight.received != self._received:
            steps += self._arrived(sight.received, now)
        elif sight.sent is not None and sight.sent > self._looked:
            self._since = now if self._since is None else self._since
            self._looks += 1
        self._looked = now
        if (since := self._since) is None or sight.sent is None or sight.excused:
            return steps
        if (step := self._due(since, sight, now)) is not None:
            return [*steps, step]
        pause = PROBE_LATER if self._stage is _Stage.GIVEN_UP else PROBE_EVERY
        if now - since >= self._probe_after and now - self._probed >= pause and now - sight.sent <= RECENT:
            self._probes += 1
            self._probed = now
            steps.append(Step.PROBE)
        return steps

    def _enter(self, sight: Sight, now: float) -> None:
        """Another connection, or another path: what was known does not count there."""
        self._moving_until = now + MOVING if sight.connection == self._seen[0] else now
        self._seen, self._received = (sight.connection, sight.path), sight.received
        self._fresh, self._answers = True, False
        if self._stage is not _Stage.RECONNECTED:
            self._stage = _Stage.WATCHING
        self._wait()

    def _wait(self) -> None:
        self._since, self._looks, self._probes = None, 0, 0

    def _arrived(self, received: float, now: float) -> list[Step]:
        over, self._stage = self.silent, _Stage.WATCHING
        if now >= self._moving_until:
            self._answers |= self._probes > 0
            self._fresh = False
        self._received = received
        self._probe_after = min(self._probe_after * 2, PROBE_AFTER_LONGEST) if self._probes else PROBE_AFTER
        self._wait()
        if over:
            self._again.forget(now)
            self._connect.forget(now)
            self._again.begin(now)
        return [Step.RECOVERED] if over else []

    @property
    def _timeout(self) -> float:
        """Seconds of silence before the next step."""
        first, later = (CERTAIN, NEXT_CERTAIN) if self._fresh or self._answers else (DOUBTFUL, NEXT_DOUBTFUL)
        return first if self._stage is _Stage.WATCHING else later

    def _due(self, since: float, sight: Sight, now: float) -> Step | None:
        unanswered = self._looks >= LOOKS and self._probes >= PROBES and now - self._probed >= LAST_PROBE
        if now - since < self._timeout or not unanswered or sight.heard <= since or not self._again.over(now):
            return None
        match self._stage:
            case _Stage.WATCHING:
                self._stage = _Stage.REKEYED
                self._wait()
                return Step.REKEY
            case _Stage.REKEYED if self._connect.over(now):
                self._stage = _Stage.RECONNECTED
                self._connect.begin(now)
                self._wait()
                return Step.RECONNECT
            case _Stage.REKEYED | _Stage.RECONNECTED:
                self._stage = _Stage.GIVEN_UP
                return Step.GIVE_UP
        return None
