"""Carries out what `data_path` decides: probes through the tunnel, new keys, a new connection, and words for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ikeclient.esp.packet.echo import echo_request
from ikeclient.ike.events import IPAddress
from ikeclient.tunnel.data_path import DataPath, Sight, Step
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.status import Status
from ikeclient.tunnel.wakeups import Wakeup, Wakeups
from ikeclient.wire.selector import TrafficSelector

_SILENT = (
    "nothing comes back through the tunnel, although packets leave and the gateway answers IKE; "
    "perhaps nobody answers what is sent"
)
_GIVEN_UP = (
    "nothing comes back through the tunnel, and neither new keys nor a new connection helped, though IKE works: "
)
_BEHIND_NAT = "the gateway may send ESP outside UDP although there is a NAT (encapsulation switched off there), "
_REASONS = (
    "a firewall or NAT may drop ESP in UDP {port}, the gateway may send to a former address or may not have loaded its "
    "SA, its network may have no way back to {addresses}, or nobody answers what is sent"
)
_OVER = "packets come back through the tunnel again"

Target = tuple[IPAddress, int]  # with the hops that a probe may make


class DataKeeper:
    """Looks after the data path of one connection at a time; of `wakeups` it gives the command to make a new one."""

    def __init__(self, session: Session, wakeups: Wakeups) -> None:
        self._session = session
        self._wakeups = wakeups
        self._path = DataPath()
        self._said: str | None = None
        self._sequence = 0

    def look_after(self, link: Link, now: float, *, searching: bool) -> None:
        """Judge what was sent and came; `searching` says that the size of the path is in doubt."""
        if not self._session.status.children:
            return  # there is none to judge: the next packet makes it
        pump = self._session.pump
        sight = Sight(
            connection=link,
            path=link.path,
            sent=pump.last_outbound,
            received=pump.last_inbound,
            heard=link.ike.last_heard,
            excused=searching or pump.deaf(),
        )
        for step in self._path.look(sight, now):
            self._take(step, link, now)
        if self._said is not None and not self._path.silent:
            self._say(None)

    def next_look(self, now: float) -> float | None:
        """When to look again if nothing happens; None if there is no reason to."""
        return self._path.next_look(self._session.pump.last_outbound, now) if self._session.status.children else None

    def _take(self, step: Step, link: Link, now: float) -> None:
        match step:
            case Step.PROBE:
                self._probe(link)
            case Step.REKEY:
                self._say(_SILENT)
                for spi in self._session.status.children:
                    link.ike.rekey_child(spi, now)
            case Step.RECONNECT:
                self._wakeups.give(Wakeup.COMMAND)
                link.close()
            case Step.GIVE_UP:
                self._say(self._explanation(link))
            case Step.RECOVERED:
                self._say(None)
                self._session.events.emit("notice", text=_OVER)

    def _say(self, text: str | None) -> None:
        """Warn of what is the matter now, instead of what was."""
        if self._said is not None:
            self._session.events.retract(self._said)
        if text is not None:
            self._session.events.warn(text)
        self._said = text

    def _explanation(self, link: Link) -> str:
        status = self._session.status
        addresses = ", ".join(map(str, _sources(status)))
        behind_nat = status.ike is not None and (status.ike.nat.local or status.ike.nat.remote)
        reasons = _REASONS.format(port=link.path.remote_port, addresses=addresses)
        return _GIVEN_UP + (_BEHIND_NAT if behind_nat else "") + reasons

    def _probe(self, link: Link) -> None:
        """Ask for packets back. What answers is of no interest, so nobody waits for it."""
        status = self._session.status
        selectors = [s for child in status.children.values() for s in child.remote_selectors]
        asked = targets(selectors, status.configuration.dns_servers, link.path.remote_address)
        self._sequence = (self._sequence + 1) & 0xFFFF
        for source, (target, hops) in _pairs(_sources(status), asked):
            packet = echo_request(source, target, identifier=link.path.local_port, sequence=self._sequence, hops=hops)
            self._session.pump.send_probe(packet)


def targets(selectors: Sequence[TrafficSelector], dns: Iterable[IPAddress], gateway: IPAddress) -> list[Target]:
    """Who can be asked for a packet through a tunnel with these remote selectors, for each family.

    Name servers and the gateway's own address where the tunnel leads there, and in any case whatever comes first in it:
    only as far as the first hop, which is the gateway.
    """
    found: list[Target] = [
        (address, 64) for address in (*dns, gateway) if any(_covers(selector, address) for selector in selectors)
    ]
    for version in (4, 6):
        first = next((selector for selector in selectors if selector.version == version), None)
        if first is not None:
            found.append((first.start if first.start == first.end else first.start + 1, 1))
    return list(dict.fromkeys(found))


def _covers(selector: TrafficSelector, address: IPAddress) -> bool:
    return selector.version == address.version and int(selector.start) <= int(address) <= int(selector.end)


def _sources(status: Status) -> tuple[IPAddress, ...]:
    return tuple(address.ip for address in status.configuration.addresses) or status.network.own


def _pairs(sources: Sequence[IPAddress], asked: Iterable[Target]) -> list[tuple[IPAddress, Target]]:
    first = {address.version: address for address in reversed(sources)}
    return [(first[target[0].version], target) for target in asked if target[0].version in first]
