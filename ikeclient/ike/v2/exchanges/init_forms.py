"""The IKE_SA_INIT request in its forms: which key share and which cookie it carries (RFC 7296 sections 1.2 and 2.6).

Whoever sees the request can answer it, so no single answer may make us send without end or leave a group for good.
"""

from __future__ import annotations

from collections.abc import Callable

from ikeclient.crypto.algorithms.key_exchange import KeyShare, generate
from ikeclient.crypto.algorithms.transforms import KeyExchange
from ikeclient.ike.v2.rules.groups import Groups
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.notify import NotifyPayload

MAX_COOKIES = 5
COOKIE_LENGTH = 64  # bytes at most (section 2.6)


@dataclass(slots=True, eq=False)
class Form:
    """The request as it was last sent with one key share; an answer belongs to the form with its group.

    An answer does not tell which cookie its request had, but our AUTH covers that request. So a cookie is taken at once
    only the first time. A further one may be a late answer to an earlier request, of which there are as many as there
    were requests; when it is not, it is taken at the next retransmission.
    """

    share: KeyShare
    request: bytes = b""
    sent: int = 0
    cookies: int = 0
    changed: bool = False  # whether other requests were sent with this key share before

    def send(self, request: bytes) -> None:
        """Note that the form is sent as `request`."""
        self.changed |= self.request not in (b"", request)
        self.request = request
        self.sent += 1

    def renew(self) -> int:
        """Begin counting anew, since the form changes; how many of its requests can still be answered late."""
        late, self.sent = self.sent - 1, 0
        return late

    def take_cookie(self) -> None:
        """Count one more cookie."""
        self.cookies += 1


class Forms:
    """The forms by group, and which one is sent. Some answers may contradict each other about the group."""

    def __init__(self, offered: tuple[KeyExchange, ...], entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._groups = Groups(offered, offered)
        self._by_group: dict[int, Form] = {}
        self._disputed = False  # whether answers contradict each other about the group, so that one is forged
        self._use_current_group()

    def _use_current_group(self) -> None:
        """Send a key share of this group from now on; earlier ones may still be answered."""
        group = self._groups.current
        assert group is not None
        self.current = self._by_group[group.id] = Form(generate(group, self._entropy))

    def get(self, group: int) -> Form | None:
        """The form that was sent with a key share of this group."""
        return self._by_group.get(group)

    def take_turns(self) -> None:
        """If the group is disputed, each of those that were asked for has its turn."""
        if self._disputed:
            used = list(self._by_group.values())
            self.current = used[(used.index(self.current) + 1) % len(used)]

    def tried(self, group: int) -> bool:
        """Whether this group was sent before. If it was left, because of a message like this one, one is forged."""
        form = self._by_group.get(group)
        self._disputed |= form is not None and form is not self.current
        return form is not None

    def untried(self, group: int) -> bool:
        """Whether this group was offered and not sent yet."""
        return self._groups.untried(group)

    def retry(self, error: NotifyPayload) -> bool:
        """Use the group that INVALID_KE_PAYLOAD asks for, if it may be used."""
        if not self._groups.retry(error):
            return False
        self._use_current_group()
        return True


class Cookies:
    """The cookie that is sent, and the one that will be (section 2.6)."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self.current = b""
        self._next = b""
        self.taken = 0
        self._choices = 0  # cookies since the last request, while some are forged for sure
        self._late = 0  # answers to earlier forms that may still come

    @property
    def changing(self) -> bool:
        """Whether the next request has another cookie."""
        return bool(self._next)

    def use(self, form: Form) -> None:
        """Send the next cookie from now on, with `form`."""
        if self._next:
            self.current, self._next = self._next, b""
            self._late += form.renew()

    def sent(self) -> None:
        """Note that a request was sent: chance begins anew."""
        self._choices = 0

    def new(self, cookie: bytes) -> bool:
        """Whether this is a cookie, and one that is not sent already."""
        return 1 <= len(cookie) <= COOKIE_LENGTH and cookie not in (self.current, self._next)

    def choose(self, cookie: bytes) -> None:
        """Perhaps return this one in the next request: some are forged, and chance decides which one it is."""
        self._choices += 1
        if int.from_bytes(self._entropy(4), "big") % self._choices == 0:
            self._next = cookie

    def take(self, cookie: bytes, form: Form) -> bool:
        """Return this cookie; whether the request shall be sent again at once."""
        first = not form.cookies
        if not first and self._late > 0:
            self._late -= 1
            return False
        self.taken += 1
        form.take_cookie()
        self._next = cookie
        return first
