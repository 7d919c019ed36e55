"""The links of one tunnel: the one in use, one beside it, and those that are over but still tell the gateway so."""

from __future__ import annotations

from collections.abc import Iterator

from ikeclient.dataplane.pump import Pump
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import ChildClosed, Event, IkeKeysDerived, IPAddress
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.ports import Ports, Sockets


class Links:
    """Open links, and know which there are and who gets what arrives.

    `current` is the one in use, or the one being opened if none is. `parallel` is being opened beside it.
    """

    def __init__(self, ports: Ports, pump: Pump, sockets: Sockets) -> None:
        self.current: Link | None = None
        self.parallel: Link | None = None
        self.leaving: list[Link] = []
        self._ports = ports
        self._pump = pump
        self._sockets = sockets

    def open(self, config: IkeConfig, remote: IPAddress, port: int) -> Link:
        """Open the link that is to be used, and send its first message. Raises IkeclientError."""
        self.current = Link(config, (remote, port), self._ports, self._pump, self._sockets)
        self.current.start()
        return self.current

    def open_parallel(self, config: IkeConfig) -> Link:
        """Open a link beside the one in use, on its socket.

        From the same port, since a gateway may tell by it that the inner address is already this client's.
        """
        current = self.current
        assert current is not None
        remote = (current.path.remote_address, current.path.remote_port)
        self.parallel = Link(config, remote, self._ports, self._pump, self._sockets, parallel_to=current)
        self.parallel.start()
        return self.parallel

    def __iter__(self) -> Iterator[Link]:
        return iter([link for link in (self.current, self.parallel, *self.leaving) if link is not None])

    @property
    def established(self) -> Link | None:
        """The link that carries traffic, if one does."""
        return self.current if self.current is not None and self.current.established else None

    def concerns(self, link: Link, event: Event) -> bool:
        """Whether an event of `link` still matters; of one that is leaving only its Child SAs and keys do."""
        return link not in self.leaving or isinstance(event, ChildClosed | IkeKeysDerived)

    def leave(self, link: Link) -> None:
        """Keep a link that is over, or was given up, until the gateway knows that it is."""
        self.current = None if link is self.current else self.current
        self.parallel = None if link is self.parallel else self.parallel
        link.retire()
        self.leaving.append(link)

    def tidy(self) -> None:
        """Release what is leaving and has nothing left to say."""
        for link in [link for link in self.leaving if link.done]:
            self.release(link)

    def release(self, link: Link) -> None:
        """Forget a link that is leaving; nothing happens if it is gone already."""
        if link in self.leaving:
            self.leaving.remove(link)
            any(other.inherit(link) for other in self.leaving)
            link.release()

    def replace(self, new: Link) -> Link:
        """Put a link that was opened in parallel in the place of the one in use, which is returned and is to leave."""
        old, self.current, self.parallel = self.current, new, None
        assert old is not None
        new.take_over(old)
        new.establish()
        return old
