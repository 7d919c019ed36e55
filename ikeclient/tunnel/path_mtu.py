"""Keeps the tunnel's MTU to what the path carries: joins `path_search` with IKE, the socket and the machine."""

from __future__ import annotations

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import IPAddress, PathProbed
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.path_search import PathSearch
from ikeclient.tunnel.session import Session


class PathMtu:
    """Looks after the path of one connection at a time. A profile that states an MTU is obeyed, and nothing probed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.ports.clock
        self._search: PathSearch | None = None
        self._of: tuple[Link, IPAddress, IPAddress] | None = None
        self._looked = 0.0

    def begin(self, link: Link) -> None:
        """A connection came up, or the gateway confirmed its path: find out about it, unless it is known."""
        of = (link, link.path.local_address, link.path.remote_address)
        if self._session.arrangement.mtu_stated or of == self._of:
            return
        self._of = of
        self._looked = self._clock()
        version, known = link.path.remote_address.version, self._session.arrangement.outer_mtu(link)
        self._search = PathSearch(version, max(self._local(link), known), self._looked, known=known)
        self._adopt(link, self._search)
        self._probe(link, self._search, self._looked)

    @property
    def searching(self) -> bool:
        """Whether the size in use is in doubt, so that packets may get lost for being too long."""
        return self._search is not None and not self._search.complete

    @property
    def next_look(self) -> float | None:
        """When to look again if nothing happens; None if there is no reason to."""
        return self._search.raise_at if self._search is not None and not self._session.arrangement.mtu_stated else None

    def _searching(self) -> PathSearch | None:
        if self._session.arrangement.mtu_stated:  # since when the profile was read again
            self._search = self._of = None
        return self._search

    def _local(self, link: Link) -> int:
        return self._session.ports.network.path_mtu(link.path.remote_address)

    def handle(self, event: PathProbed, link: Link) -> None:
        """Take the outcome of a probe."""
        if (search := self._searching()) is not None:
            now = self._clock()
            search.result(event.asked, event.size, event.passed, now)
            self._adopt(link, search)
            self._probe(link, search, now)

    def hint(self, hint: PathHint, link: Link) -> None:
        """Take what a router or the kernel says."""
        if (search := self._searching()) is not None and hint.kind == "too-big" and hint.mtu is not None:
            now = self._clock()
            search.reported(hint.mtu, now)
            self._adopt(link, search)
            self._probe(link, search, now)

    def look_after(self, link: Link, now: float, *, swallowed: bool) -> None:
        """Probe what is due; `swallowed` says that what is sent finds no answer."""
        if (search := self._searching()) is None:
            self.begin(link)
            return
        pump = self._session.pump
        pump.remind()
        if swallowed or pump.bulk.stalled():
            search.suspect(now)
        if search.complete and search.raisable:
            search.widen(self._local(link))
        self._probe(link, search, now)

    def _probe(self, link: Link, search: PathSearch, now: float) -> None:
        sent = self._session.pump.last_outbound
        size = search.next_probe(now, traffic=sent is not None and sent > self._looked)
        if size is not None:
            self._looked = now
            link.ike.probe_path(size, now)

    def _adopt(self, link: Link, search: PathSearch) -> None:
        session = self._session
        session.pump.trust_path(search.mtu, proven=search.proven)
        link.ike.set_path_mtu(search.mtu)
        if search.mtu == session.status.network.path_mtu:
            return
        before = session.status.network.mtu
        try:
            session.configure(link, search.mtu)
        except IkeclientError as error:
            session.events.warn(error.message)
        if session.status.network.mtu < before:
            session.pump.shrink()
        if session.status.network.mtu != before:
            session.events.emit("mtu", mtu=session.status.network.mtu, path_mtu=search.mtu)
