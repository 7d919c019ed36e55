"""Follows the machine from network to network: which pair of addresses to use, and when to try another (RFC 4555).

The kernel's routing decides about our address, so a person's metrics and rules are obeyed. The gateway's addresses are
tried in order: the one in use, those it told us of, and the others that its name stands for. A path is only believed
when the gateway has confirmed it.

An address that the gateway merely announced may be somebody else's. So traffic goes to an address only after the
gateway has answered there, and the questions whether it does are few (`ProbeBudget`). A new address of ours is used at
once: that is where the gateway was heard last which counts.

Without an inner address, the one that the connection was made from is also that inside the tunnel (`Status.own`).
MOBIKE cannot change what was agreed on, so from another address of ours only a new connection helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ikeclient.errors import IkeclientError
from ikeclient.ike.events import (
    GatewayAddresses,
    HeardElsewhere,
    IPAddress,
    PathChanged,
    PathEvent,
    PathProbed,
    PathRefused,
    Roamed,
)
from ikeclient.net.watch.snapshot import Change
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.path_mtu import PathMtu
from ikeclient.tunnel.ports import Monitor
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.state import Input, State

SILENT = 3.0  # a request that stays unanswered this long makes the path doubtful
PROBES = 8  # of addresses at which the gateway has never answered, in a row
PROBE_AGAIN = 300.0  # seconds after which there may be one more
PROBES_EACH = 2  # of one address, in one connection


class ProbeBudget:
    """How often addresses may be asked at which the gateway has not answered: rarely, however many it announces."""

    def __init__(self, now: float) -> None:
        self._left, self._at = float(PROBES), now
        self._asked: Counter[IPAddress] = Counter()

    def renew(self) -> None:
        """Another connection: each address counts anew, not all of them together."""
        self._asked.clear()

    def allows(self, address: IPAddress, now: float) -> bool:
        """Whether `address` may be asked now."""
        self._left, self._at = min(PROBES, self._left + (now - self._at) / PROBE_AGAIN), now
        return self._left >= 1 and self._asked[address] < PROBES_EACH

    def take(self, address: IPAddress) -> None:
        """It is asked."""
        self._left -= 1
        self._asked[address] += 1


def is_silent(unanswered_since: float | None, last_heard: float, now: float, *, deaf: bool) -> bool:
    """Tell whether an unanswered request makes the path doubtful: an answer would have been heard.

    `deaf` is what `Pump.deaf` says.
    """
    return unanswered_since is not None and not deaf and now - max(unanswered_since, last_heard) >= SILENT


class Roaming:
    """Moves the link in use from path to path; `monitor` knows the network."""

    def __init__(self, links: Links, session: Session, monitor: Monitor) -> None:
        self._links = links
        self._session = session
        self._monitor = monitor
        self.path_mtu = PathMtu(session)
        self._further: tuple[IPAddress, ...] = ()
        self._named: tuple[IPAddress, ...] = ()
        self._tried: list[tuple[IPAddress, IPAddress]] = []
        self._left_at: float | None = None
        self._doubted_at = 0.0  # when MOVING began
        self._try_next_at = 0.0
        self._proven: set[IPAddress] = set()  # where the gateway has answered in this connection
        self._clock = session.ports.clock
        self._budget = ProbeBudget(self._clock())
        self._probing = False

    def start(self) -> None:
        """Watch the network."""
        self._monitor.start()

    def close(self) -> None:
        """Stop watching."""
        self._monitor.close()

    # What the gateway says

    def handle(self, event: PathEvent, link: Link) -> None:
        """Take an event of the connection `link` that is about paths."""
        match event:
            case GatewayAddresses(addresses=addresses):
                self._further = addresses
                self._monitor.watch(*self._remotes(link))
            case HeardElsewhere(address=address):
                self._heard_at(address, link)
            case Roamed():
                self._roamed(event, link)
                self.path_mtu.begin(link)
            case PathProbed():
                self.path_mtu.handle(event, link)
            case PathRefused(path=path, reason=reason):
                self._session.events.warn(f"the gateway does not accept {path}: {reason}")
                self._try_another(link)

    def established(self, link: Link, named: Sequence[IPAddress]) -> None:
        """A connection came up: from now on it is followed. `named` are all addresses that the gateway's name has."""
        self._tried.clear()
        self._left_at = None
        self._proven, self._probing = {link.path.remote_address}, False
        self._budget.renew()
        self._named = tuple(named)
        self._monitor.watch(*self._remotes(link))
        self.path_mtu.begin(link)

    def _heard_at(self, address: IPAddress, link: Link) -> None:
        """Ask the gateway at `address`, unless another move is under way: it may have left the one in use."""
        settled = self._session.status.life.state is State.CONNECTED and not self._probing
        sources = self._monitor.sources_for(address)
        if settled and link.ike.can_move and sources and address not in self._ours() and self._may_ask(address):
            self._monitor.watch(address, *self._remotes(link))
            self._move(link, (sources[0].address, address))

    def _roamed(self, event: Roamed, link: Link) -> None:
        session, status = self._session, self._session.status
        self._proven.add(event.path.remote_address)
        self._probing = False
        if event.path != link.path:
            session.handle(PathChanged(path=event.path), link)
        moved, in_doubt = session.confirm(event.path), status.life.state is State.MOVING
        self._tried.clear()
        status.path_confirmed(event.nat, moved=moved)
        status.life.happens(Input.PATH_CONFIRMED)
        if moved:
            took = self._milliseconds_since(self._left_at) if self._left_at is not None else None
            session.events.emit(
                "roamed", local=str(event.path.local_address), gateway=str(event.path.remote_address), took_ms=took
            )
        elif in_doubt:
            session.tell_connected(self._milliseconds_since(self._doubted_at))
        self._left_at = None
        try:
            session.configure(link)
        except IkeclientError as error:
            session.events.warn(error.message)

    # What the machine says

    def changed(self, change: Change) -> None:
        """Take a change of the network: move the link in use if the best pair of addresses is another one now."""
        link = self._links.established
        if link is None:
            return
        self._tried.clear()
        path = link.path
        best = self._best(link)
        if best is None:
            self._doubt("there is no network that leads to the gateway")
            if any(map(self._monitor.sources_for, self._named)):
                link.abandon()  # the network leads to an address that may not be asked now: begin anew
            return
        was_offline = self._session.status.life.state is State.MOVING
        disturbed = change.resumed or change.stalled or any(a.address == path.local_address for a in change.gained)
        here = (path.local_address, path.remote_address)
        if best != here or was_offline or disturbed or self._probing:
            self._move(link, best)
        if change.resumed or change.stalled:
            link.ike.check_liveness(self._clock(), suspicious=True)

    def _doubt(self, why: str) -> None:
        session = self._session
        if session.status.life.state is State.CONNECTED:
            session.status.life.happens(Input.PATH_LOST)
            self._doubted_at = self._clock()
            session.events.emit("reconnecting", error=[why])

    def _milliseconds_since(self, moment: float) -> int:
        return round((self._clock() - moment) * 1000)

    def _remotes(self, link: Link) -> list[IPAddress]:
        """Where the gateway may be reached, the best first (RFC 4555 section 3.10 leaves the order to us).

        Not at our own addresses, inside or outside, whatever it says.
        """
        ours = self._ours()
        further = (address for address in (*self._further, *self._named) if address not in ours)
        return list(dict.fromkeys((link.path.remote_address, *further)))

    def _ours(self) -> set[IPAddress]:
        inside = (address.ip for address in self._session.status.configuration.addresses)
        return {*inside, *(address.address for address in self._monitor.snapshot.addresses)}

    def _may_ask(self, remote: IPAddress) -> bool:
        return remote in self._proven or self._budget.allows(remote, self._clock())

    def _pairs(self, link: Link) -> list[tuple[IPAddress, IPAddress]]:
        pairs: list[tuple[IPAddress, IPAddress]] = []
        for remote in filter(self._may_ask, self._remotes(link)):
            pairs += [(source.address, remote) for source in self._monitor.sources_for(remote)]
        return pairs

    def _best(self, link: Link) -> tuple[IPAddress, IPAddress] | None:
        return next(iter(self._pairs(link)), None)

    def _move(self, link: Link, pair: tuple[IPAddress, IPAddress]) -> None:
        if self._left_at is None:
            self._left_at = self._clock()
        self._tried.append(pair)
        self._try_next_at = self._clock() + SILENT
        local, remote = pair
        own = self._session.status.network.own
        if own and local not in own:
            link.abandon()  # inside the tunnel it would be a stranger's: agree on the new one
            return
        self._probing = remote not in self._proven
        if self._probing:
            self._budget.take(remote)
        try:
            if link.move(local, remote, proven=not self._probing):
                return
        except IkeclientError as error:
            self._session.events.warn(error.message)
            return
        if pair != (link.path.local_address, link.path.remote_address):
            link.abandon()  # without MOBIKE only a new connection helps, and the sooner the better
        else:
            link.ike.check_liveness(self._clock())

    # A path that is silent

    def look_after(self, link: Link, now: float, *, swallowed: bool) -> None:
        """Say so when the gateway is silent, and try other pairs of addresses (RFC 4555 section 3.10).

        `swallowed` says that what is sent finds no answer, which may be the path's size.
        """
        self.path_mtu.look_after(link, now, swallowed=swallowed)
        status, since = self._session.status, link.ike.unanswered_since
        if not is_silent(since, link.ike.last_heard, now, deaf=self._session.pump.deaf()):
            if status.life.state is State.MOVING and since is None and self._best(link) is not None:
                status.life.happens(Input.PATH_CONFIRMED)
                self._session.tell_connected(self._milliseconds_since(self._doubted_at))
            return
        self._doubt("the gateway is silent")
        if now >= self._try_next_at:
            self._try_another(link)

    def _try_another(self, link: Link) -> None:
        here = (link.path.local_address, link.path.remote_address)
        own = self._session.status.network.own
        others = [pair for pair in self._pairs(link) if pair not in self._tried and pair != here]
        others = [pair for pair in others if not own or pair[0] in own]
        if not link.ike.can_move:
            return
        if others:
            self._move(link, others[0])
        elif self._probing:
            self._move(link, here)  # the gateway did not answer elsewhere: back to where it was heard last
