"""The links of one tunnel: the one in use, and those that are over but still tell the gateway so."""

from __future__ import annotations

from ikeclient.dataplane.pump import Address
from ikeclient.ike.events import ChildClosed, Event, IkeKeysDerived
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.reauthentication import Reauthentication


class Links:
    """Which links there are, and who gets what arrives.

    `current` is the one in use, or the one being opened if none is. `reauthentication` opens another in parallel.
    """

    def __init__(self) -> None:
        self.current: Link | None = None
        self.reauthentication: Reauthentication | None = None
        self.leaving: list[Link] = []

    @property
    def established(self) -> Link | None:
        """The link that carries traffic, if one does."""
        return self.current if self.current is not None and self.current.established else None

    def receive(self, data: bytes, source: Address, local: Address) -> bool:
        """Hand an IKE message to the links that wait for it; whether there is one."""
        taken = False
        parallel = self.reauthentication.link if self.reauthentication is not None else None
        for link in (self.current, parallel, *self.leaving):
            if link is not None and link.receive(data, source, local):
                taken = True
        return taken

    def concerns(self, link: Link, event: Event) -> bool:
        """Whether an event of `link` still matters; of one that is leaving only its Child SAs and keys do."""
        return link not in self.leaving or isinstance(event, ChildClosed | IkeKeysDerived)

    def leave(self, link: Link) -> None:
        """Keep a link that is over until the gateway knows that it is."""
        link.retire()
        self.leaving.append(link)
        if link.driver.done.done():
            self.release(link)
        else:
            link.driver.done.add_done_callback(lambda _: self.release(link))

    def release(self, link: Link) -> None:
        """Forget a link that is leaving; nothing happens if it is gone already."""
        if link in self.leaving:
            self.leaving.remove(link)
            any(other.inherit(link) for other in self.leaving)
            link.release()

    def stop_reauthenticating(self) -> None:
        """Keep the link in use."""
        if self.reauthentication is not None:
            self.reauthentication.cancel()
            self.reauthentication = None

    def replace(self, new: Link) -> Link:
        """Put a link that was opened in parallel in the place of the one in use, which is returned and leaves."""
        old, self.current, self.reauthentication = self.current, new, None
        assert old is not None
        new.take_over(old)
        new.established = True
        return old
