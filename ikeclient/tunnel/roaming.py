"""Follows the machine from network to network: which pair of addresses to use, and when to try another (RFC 4555).

The kernel's routing decides about our address, so a person's metrics and rules are obeyed. The gateway's addresses are
tried in order: the one in use, those it told us of, and the others that its name stands for. A path is only believed
when the gateway has confirmed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import GatewayAddresses, IPAddress, PathEvent, PathProbed, PathRefused, Roamed
from ikeclient.net.monitor import NetworkMonitor
from ikeclient.net.snapshot import Change
from ikeclient.tunnel.attempt import Attempt
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.network import outer_mark
from ikeclient.tunnel.path_keeper import PathKeeper
from ikeclient.tunnel.session import Session

SILENT = 3.0  # a request that stays unanswered this long makes the path doubtful


class Roaming:
    """Moves the connection that is `current`, if there is one; `wake` is called when a new attempt may be worth it."""

    def __init__(
        self, current: Callable[[], Attempt | None], session: Session, wake: Callable[[], None], interface: str
    ) -> None:
        self._current = current
        self._session = session
        self._keeper = PathKeeper(session)
        self._wake = wake
        self._further: tuple[IPAddress, ...] = ()
        self._named: tuple[IPAddress, ...] = ()
        self._tried: list[tuple[IPAddress, IPAddress]] = []
        self._left_at: float | None = None
        self._try_next_at = 0.0
        ignore = (interface,) if session.status.mode == "tun" else ()
        self._monitor = NetworkMonitor(self._changed, ignore=ignore, mark=outer_mark())

    def start(self) -> None:
        """Watch the network."""
        self._monitor.start()

    def close(self) -> None:
        """Stop watching."""
        self._monitor.close()

    @property
    def searching(self) -> bool:
        """Whether it is in doubt how much the path carries."""
        return self._keeper.searching

    # What the gateway says

    def handle(self, event: PathEvent, attempt: Attempt) -> None:
        """Take an event of the connection `attempt` that is about paths."""
        match event:
            case GatewayAddresses(addresses=addresses):
                self._further = addresses
                self._monitor.watch(*self._remotes(attempt))
            case Roamed():
                self._roamed(event, attempt)
                self._keeper.begin(attempt)
            case PathProbed():
                self._keeper.handle(event, attempt)
            case PathRefused(path=path, reason=reason):
                self._session.warn(f"the gateway does not accept {path}: {reason}")
                self._try_another(attempt)

    def established(self, attempt: Attempt, named: Sequence[IPAddress]) -> None:
        """A connection came up: from now on it is followed. `named` are all addresses that the gateway's name has."""
        self._tried.clear()
        self._left_at = None
        self._named = tuple(named)
        self._monitor.watch(*self._remotes(attempt))
        self._keeper.begin(attempt)

    def _roamed(self, event: Roamed, attempt: Attempt) -> None:
        session, status = self._session, self._session.status
        moved = (event.path.local_address, event.path.remote_address) != session.confirmed
        session.confirmed = (event.path.local_address, event.path.remote_address)
        self._tried.clear()
        if status.ike is not None:
            status.ike = replace(status.ike, nat=event.nat)
        status.enter("connected")
        if moved:
            status.roams += 1
            took = round((boottime() - self._left_at) * 1000) if self._left_at is not None else None
            session.emit(
                "roamed", local=str(event.path.local_address), gateway=str(event.path.remote_address), took_ms=took
            )
        self._left_at = None
        try:
            session.configure(attempt)
        except IkeclientError as error:
            session.warn(error.message)

    # What the machine says

    def _changed(self, change: Change) -> None:
        self._wake()
        attempt = self._current()
        if attempt is None or not attempt.established:
            return
        self._tried.clear()
        path = attempt.path
        best = self._best(attempt)
        if best is None:
            self._offline()
            return
        was_offline = self._session.status.state != "connected"
        disturbed = change.resumed or change.stalled or any(a.address == path.local_address for a in change.gained)
        if best != (path.local_address, path.remote_address) or was_offline or disturbed:
            self._move(attempt, best)
        if change.resumed or change.stalled:
            attempt.driver.initiator.check_liveness(boottime(), suspicious=True)
            attempt.driver.flush()

    def _offline(self) -> None:
        session = self._session
        if session.status.state == "connected":
            session.status.enter("reconnecting")
            session.emit("reconnecting", error=["there is no network that leads to the gateway"])

    def _remotes(self, attempt: Attempt) -> list[IPAddress]:
        """Where the gateway may be reached, the best first (RFC 4555 section 3.10 leaves the order to us)."""
        return list(dict.fromkeys((attempt.path.remote_address, *self._further, *self._named)))

    def _pairs(self, attempt: Attempt) -> list[tuple[IPAddress, IPAddress]]:
        pairs: list[tuple[IPAddress, IPAddress]] = []
        for remote in self._remotes(attempt):
            pairs += [(source.address, remote) for source in self._monitor.sources_for(remote)]
        return pairs

    def _best(self, attempt: Attempt) -> tuple[IPAddress, IPAddress] | None:
        return next(iter(self._pairs(attempt)), None)

    def _move(self, attempt: Attempt, pair: tuple[IPAddress, IPAddress]) -> None:
        if self._left_at is None:
            self._left_at = boottime()
        self._tried.append(pair)
        self._try_next_at = boottime() + SILENT
        try:
            if attempt.move(*pair):
                return
        except IkeclientError as error:
            self._session.warn(error.message)
            return
        if pair != (attempt.path.local_address, attempt.path.remote_address):
            attempt.driver.abandon()  # without MOBIKE only a new connection helps, and the sooner the better
        else:
            attempt.driver.initiator.check_liveness(boottime())
            attempt.driver.flush()

    # A path that is silent

    def look_after(self, attempt: Attempt, now: float, *, swallowed: bool) -> None:
        """Called now and then: say so when the gateway is silent, and try other pairs of addresses (section 3.10).

        `swallowed` says that what is sent finds no answer, which may be the path's size.
        """
        self._keeper.look_after(attempt, now, swallowed=swallowed)
        since = attempt.driver.initiator.unanswered_since
        status = self._session.status
        if since is None or now - since < SILENT:
            if status.state == "reconnecting" and since is None and self._best(attempt) is not None:
                status.enter("connected")
            return
        if status.state == "connected":
            status.enter("reconnecting")
            self._session.emit("reconnecting", error=["the gateway is silent"])
        if now >= self._try_next_at:
            self._try_another(attempt)

    def _try_another(self, attempt: Attempt) -> None:
        here = (attempt.path.local_address, attempt.path.remote_address)
        others = [pair for pair in self._pairs(attempt) if pair not in self._tried and pair != here]
        if others and attempt.driver.initiator.can_move:
            self._move(attempt, others[0])
