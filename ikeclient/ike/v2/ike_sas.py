"""The IKE SA in use, those it replaced, and redundant ones of simultaneous rekeys (RFC 7296 sections 2.8 and 2.18)."""

from __future__ import annotations

from collections.abc import Iterator

from ikeclient.ike.events import Datagram
from ikeclient.ike.v2.exchanges.rekey_ike import IkeRekeyed
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.state import State
from ikeclient.wire.header import Header


class IkeSas:
    """One connection's IKE SAs; `current` is the one that owns the Child SAs. Call `settle` after every other call."""

    def __init__(self, sa: IkeSa) -> None:
        self.current = sa
        self.leaving: list[IkeSa] = []

    def __iter__(self) -> Iterator[IkeSa]:
        return iter([self.current, *self.leaving])

    def knows(self, spis: bytes) -> bool:
        """Whether an IKE SA has these SPIs, the initiator's first."""
        return spis == self.current.keying.spis or any(spis == sa.keying.spis for sa in self.leaving)

    def awaits(self, header: Header) -> bool:
        """Whether a message with this header may be due."""
        sa = self.find(header)
        return sa is not None and sa.awaits(header)

    def find(self, header: Header) -> IkeSa | None:
        """The IKE SA that a message belongs to, by its SPIs."""
        spis = header.spi_i + header.spi_r
        return next((sa for sa in self if sa.keying.spis == spis), None)

    def handle_timer(self, now: float, *, deaf: bool = False) -> None:
        """Do everything whose time has come; `deaf` as in `IkeSa.handle_timer`."""
        for sa in self:
            sa.handle_timer(now, deaf=deaf)

    def next_deadline(self) -> float | None:
        """When to call `handle_timer` at the latest."""
        return min((d for sa in self if (d := sa.next_deadline()) is not None), default=None)

    def settle(self, now: float) -> list[IkeSa]:
        """Follow what happened in the last call: the successors that took over, in order."""
        successors = []
        while (new := self.current.succession.successor) is not None:
            old, self.current = self.current, _made(self.current, new)
            self.leaving.append(old)
            self.current.inherit(old, now)
            successors.append(self.current)
        for sa in self:
            for new, ours in sa.succession.redundant:
                redundant = _made(sa, new)
                if ours:
                    redundant.delete(now)
                else:
                    redundant.lifetimes.linger(now)
                self.leaving.append(redundant)
            sa.succession.redundant.clear()
        return successors

    def take_datagrams(self) -> list[Datagram]:
        """Take what is to be sent, and forget the IKE SAs that are over."""
        datagrams: list[Datagram] = []
        for sa in self:
            datagrams += sa.channel.outbox
            sa.channel.outbox.clear()
        self.leaving = [sa for sa in self.leaving if sa.state is not State.CLOSED]
        return datagrams


def _made(sa: IkeSa, new: IkeRekeyed) -> IkeSa:
    """The IKE SA that a rekey of `sa` made, still without Child SAs."""
    return IkeSa(
        sa.config, sa.entropy, new.keying, sa.channel.path, state=State.ESTABLISHED, observe=sa.channel.observe
    )
