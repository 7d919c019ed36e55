"""Message IDs, retransmission and the response cache (RFC 7296 sections 2.1 to 2.3).

A window of one request in each direction, the only size that peers must support.
"""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.lazy_dataclass import dataclass

LAST_MESSAGE_ID = 0xFFFFFFFF

# How long an answer is awaited, in seconds.
TIMEOUT = 12.0  # once the SA is up
TIMEOUT_SUSPICIOUS = 1.8  # when there is a reason to believe that the peer is gone
TIMEOUT_CLOSING = 1.5  # for the answer to our DELETE
TIMEOUT_LEAVING = 60.0  # for the same, from a peer that may still work on a login that was given up
TIMEOUT_PENDING = 0.5  # for an answer that is still due when the SA is to be deleted

MOST_EXCUSES = 5  # how often the answer may be waited for longer, when it is not the peer who is silent
EXCUSE = 6.0  # how long each time: the request is sent again at once, and then once more

FIRST_WAIT = 0.5
LONGEST_WAIT = 4.0
GROWTH = 1.8


@dataclass(slots=True)
class Pending:
    """A request of ours without an answer: its datagrams, when to send them again, and when to give up."""

    message_id: int
    datagrams: tuple[bytes, ...]
    resend_at: float
    give_up_at: float
    wait: float = FIRST_WAIT
    attempts: int = 1
    since: float = 0.0
    excuses: int = 0

    def recut(self, datagrams: Sequence[bytes]) -> None:
        """Send these instead: the same request in other fragments."""
        self.datagrams = tuple(datagrams)


class RequestWindow:
    """Our requests: one at a time, resent with growing pauses until the answer comes or the timeout passes."""

    def __init__(self, first_id: int = 0) -> None:
        self.next_id = first_id
        self.pending: Pending | None = None
        self.repeated = False  # whether the request that was answered last had been sent more than once
        self.round_trip: float | None = None  # seconds that the last answer took which is surely one to the first try

    def open(self, datagrams: Sequence[bytes], now: float, timeout: float) -> None:
        """Register the request with ID `next_id`, sent now; the answer is awaited for `timeout` seconds."""
        self.pending = Pending(self.next_id, tuple(datagrams), now + FIRST_WAIT, now + timeout, since=now)
        self.next_id += 1

    def accepts(self, message_id: int) -> bool:
        """Whether a response with this ID answers the request that is pending."""
        return self.pending is not None and self.pending.message_id == message_id

    def close(self, now: float | None = None) -> None:
        """The answer has come, at the time `now` if that tells how far the peer is, which takes a single try."""
        self.repeated = self.pending is not None and self.pending.attempts > 1
        if self.pending is not None and now is not None and not self.repeated:
            self.round_trip = now - self.pending.since
        self.pending = None

    def inherit(self, predecessor: RequestWindow) -> None:
        """Know of the peer what was known in the IKE SA before."""
        self.round_trip = predecessor.round_trip

    def shorten_timeout(self, until: float) -> bool:
        """Wait for the answer until then at the longest; false if none is awaited."""
        if self.pending is None:
            return False
        self.pending.give_up_at = min(self.pending.give_up_at, until)
        return True

    def extend_timeout(self, until: float) -> None:
        """Wait for the answer, if one is awaited, at least until then."""
        if self.pending is not None:
            self.pending.give_up_at = max(self.pending.give_up_at, until)

    def resend_now(self, now: float) -> None:
        """Send the pending request, if there is one, again at once."""
        if self.pending is not None:
            self.pending.resend_at = now

    @property
    def waiting_since(self) -> float | None:
        """When the pending request was sent first."""
        return None if self.pending is None else self.pending.since

    @property
    def sent_at(self) -> float | None:
        """When the pending request was sent last."""
        return None if self.pending is None else self.pending.resend_at - self.pending.wait

    def excuse(self, now: float) -> bool:
        """Wait longer for the answer, and send the request again now; false if that was done often enough."""
        pending = self.pending
        if pending is None or pending.excuses == MOST_EXCUSES:
            return False
        pending.excuses += 1
        pending.give_up_at = now + EXCUSE
        pending.resend_at = now
        return True

    @property
    def deadline(self) -> float | None:
        """When `due` wants to be called next."""
        return None if self.pending is None else min(self.pending.resend_at, self.pending.give_up_at)

    @property
    def exhausted(self) -> bool:
        """Whether message IDs run out, so that the IKE SA must be replaced (they never wrap, section 2.2)."""
        return self.next_id >= LAST_MESSAGE_ID - 16

    def due(self, now: float) -> tuple[bytes, ...]:
        """The datagrams to send again now; empty when it is not time."""
        pending = self.pending
        if pending is None or now < pending.resend_at:
            return ()
        pending.attempts += 1
        pending.wait = min(pending.wait * GROWTH, LONGEST_WAIT)
        pending.resend_at = now + pending.wait
        return pending.datagrams

    def failed(self, now: float) -> bool:
        """Whether the pending request has timed out."""
        return self.pending is not None and now >= self.pending.give_up_at


class ResponseWindow:
    """The peer's requests: each is executed once; a repeated one gets the identical response again."""

    def __init__(self, expected_id: int = 0) -> None:
        self.expected_id = expected_id
        self._last: tuple[bytes, ...] = ()

    def fresh(self, message_id: int) -> bool:
        """Whether this is the next request in order."""
        return message_id == self.expected_id

    def repeated(self, message_id: int) -> tuple[bytes, ...]:
        """The response to send again if this is the request answered last; else empty."""
        return self._last if message_id == self.expected_id - 1 else ()

    def answered(self, datagrams: Sequence[bytes]) -> None:
        """Cache the response to the request with ID `expected_id` and move on."""
        self._last = tuple(datagrams)
        self.expected_id += 1
