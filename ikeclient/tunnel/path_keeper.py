"""Keeps the tunnel's MTU to what the path carries: joins `path_search` with IKE, the socket and the machine."""

from __future__ import annotations

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import IPAddress, PathProbed
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.transport.path import path_mtu
from ikeclient.tunnel.attempt import Attempt
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.network import outer_mark
from ikeclient.tunnel.path_search import PathSearch
from ikeclient.tunnel.session import Session


class PathKeeper:
    """Looks after the path of one connection at a time. A profile that states an MTU is obeyed, and nothing probed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._search: PathSearch | None = None
        self._of: tuple[Attempt, IPAddress, IPAddress] | None = None
        self._looked = 0.0

    def begin(self, attempt: Attempt) -> None:
        """A connection came up, or the gateway confirmed its path: find out about it, unless it is known."""
        of = (attempt, attempt.path.local_address, attempt.path.remote_address)
        if self._session.mtu_stated or of == self._of:
            return
        self._of = of
        attempt.on_hint = lambda hint: self.hint(hint, attempt)
        self._looked = boottime()
        version, known = attempt.path.remote_address.version, self._session.outer_mtu(attempt)
        self._search = PathSearch(version, max(self._local(attempt), known), self._looked, known=known)
        self._adopt(attempt, self._search)
        self._probe(attempt, self._search, self._looked)

    @property
    def searching(self) -> bool:
        """Whether the size in use is in doubt, so that packets may get lost for being too long."""
        return self._search is not None and not self._search.complete

    def _searching(self) -> PathSearch | None:
        if self._session.mtu_stated:  # since when the profile was read again
            self._search = self._of = None
        return self._search

    @staticmethod
    def _local(attempt: Attempt) -> int:
        return path_mtu(str(attempt.path.remote_address), mark=outer_mark())

    def handle(self, event: PathProbed, attempt: Attempt) -> None:
        """Take the outcome of a probe."""
        if (search := self._searching()) is not None:
            now = boottime()
            search.result(event.asked, event.size, event.passed, now)
            self._adopt(attempt, search)
            self._probe(attempt, search, now)

    def hint(self, hint: PathHint, attempt: Attempt) -> None:
        """Take what a router or the kernel says."""
        if (search := self._searching()) is not None and hint.kind == "too-big" and hint.mtu is not None:
            now = boottime()
            search.reported(hint.mtu, now)
            self._adopt(attempt, search)
            self._probe(attempt, search, now)

    def look_after(self, attempt: Attempt, now: float, *, swallowed: bool) -> None:
        """Called now and then; `swallowed` says that what is sent finds no answer."""
        if (search := self._searching()) is None:
            self.begin(attempt)
            return
        if swallowed or self._session.pump.bulk.stalled():
            search.suspect(now)
        if search.complete and search.raisable:
            search.widen(self._local(attempt))
        self._probe(attempt, search, now)

    def _probe(self, attempt: Attempt, search: PathSearch, now: float) -> None:
        sent = self._session.pump.last_outbound
        size = search.next_probe(now, traffic=sent is not None and sent > self._looked)
        if size is not None:
            self._looked = now
            attempt.driver.initiator.probe_path(size, now)
            attempt.driver.flush()

    def _adopt(self, attempt: Attempt, search: PathSearch) -> None:
        session = self._session
        session.pump.trust_path(search.mtu, proven=search.proven)
        attempt.driver.initiator.set_path_mtu(search.mtu)
        if search.mtu == session.status.path_mtu:
            return
        before = session.status.mtu
        try:
            session.configure(attempt, search.mtu)
        except IkeclientError as error:
            session.warn(error.message)
        if session.status.mtu < before:
            session.pump.shrink()
        if session.status.mtu != before:
            session.emit("mtu", mtu=session.status.mtu, path_mtu=search.mtu)
