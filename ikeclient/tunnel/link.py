"""One attempt to connect and the connection that comes of it: sockets and one end of IKE, along one path.

Nothing waits in here: after each call the owner takes `send` and `next_event` until there is nothing more, and calls
`handle_timer` at the `deadline`. A connection that is closed may still have to tell the gateway so, until that is
acknowledged: `closed` comes first, `done` when there is nothing left to send.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_address

from ikeclient.dataplane.pump import Address, Pump
from ikeclient.errors import (
    AuthenticationFailed,
    IkeclientError,
    NegotiationRefused,
    NoNetwork,
    PlatformError,
    PrivilegeError,
    ProfileError,
)
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Closed, Datagram, Event, IPAddress, Need, NeedKind, Path
from ikeclient.tunnel.commands import Answer
from ikeclient.tunnel.ports import Ports, Socket, Sockets

PATH_GRACE = 5.0  # how long the socket of a path that was left still receives
LATE = 1.0  # seconds after which a timer shows that the process was stopped, or busy


class Link:
    """Owns the sockets and the IKE end of one connection, which `ports.connect` makes.

    Raises NoNetwork if no route leads to the gateway. A link `parallel_to` another one shares its path and its socket,
    which stay the other one's until `take_over`. `failure` is what keeps an agreed connection from being used.
    """

    def __init__(
        self,
        config: IkeConfig,
        remote: tuple[IPAddress, int],
        ports: Ports,
        pump: Pump,
        sockets: Sockets,
        *,
        parallel_to: Link | None = None,
    ) -> None:
        self.established = False
        self.failure: IkeclientError | None = None
        self.closed: Closed | None = None
        self.borrowing = parallel_to is not None
        self._retired = False
        self._abandoned = False
        self._pump = pump
        self._ports = ports
        self._opener = sockets
        self._sockets: list[Socket] = []
        self._probing: set[Socket] = set()  # those of a path on which the gateway has not answered
        self._left: dict[Socket, float] = {}  # those of a path that was left, and until when they receive
        if parallel_to is not None:
            self._sockets += filter(None, [parallel_to._socket_of(parallel_to.path)])
        self.path: Path = parallel_to.path if parallel_to is not None else self._open_first(*remote)
        self.ike = ports.connect(config, ports.entropy, ports.time_of_day)

    def _open_first(self, remote: IPAddress, port: int) -> Path:
        local = self._ports.network.source_for(remote)
        if local is None:
            raise NoNetwork(
                f"there is no route to the gateway {remote}", hint="check that this machine is connected to a network"
            )
        return self._open(local, remote, port)

    def _open(self, local: IPAddress, remote: IPAddress, port: int, *, sending: bool = True) -> Path:
        """A socket of its own for a path, on which ESP is sent from now on unless `sending` is false."""
        socket = self._opener.open(local)
        self._sockets.append(socket)
        self._pump.attach(socket, sending=sending)
        return Path(local, socket.local[1], remote, port)

    def _socket_of(self, path: Path) -> Socket | None:
        local = (str(path.local_address), path.local_port)
        return next((socket for socket in self._sockets if socket.local == local), None)

    def _close(self, socket: Socket) -> None:
        self._probing.discard(socket)
        self._left.pop(socket, None)
        if socket in self._sockets:
            self._sockets.remove(socket)
            self._pump.detach(socket)
            self._opener.close(socket)

    def owns(self, local: Address) -> bool:
        """Whether a socket of this link is bound to `local`."""
        return any(socket.local == local for socket in self._sockets)

    # In

    def start(self) -> None:
        """Send the first message."""
        self.ike.start(self.path, self._ports.clock())

    def receive(self, data: bytes, source: Address, local: Address) -> bool:
        """Take an IKE message that the pump found on the socket bound to `local`; false if it is not due here."""
        if not self.ike.awaits(data) or not self.owns(local):
            if source[0] == str(self.path.remote_address):
                self.ike.note_nonsense()
            return False
        self.ike.receive(data, _path(source, local), self._ports.clock())
        return True

    def handle_timer(self, now: float) -> None:
        """Do what is due. A timer that comes late shows that answers may wait unread, as `Pump.deaf` does."""
        for socket in [socket for socket, until in self._left.items() if until <= now]:
            del self._left[socket]
            if socket is not self._socket_of(self.path) and socket not in self._probing:  # or it came back into use
                self._close(socket)
        deadline = self.ike.next_deadline()
        if deadline is not None and deadline <= now:
            self._note_esp()
            self.ike.handle_timer(now, deaf=self._pump.deaf() or now > deadline + LATE)

    def _note_esp(self) -> None:
        """Tell IKE of the latest ESP, which is a sign of life."""
        if self.established and self._pump.last_inbound is not None:
            self.ike.heard(self._pump.last_inbound)

    def close(self) -> None:
        """End in order; `closed` tells when that is done."""
        self.ike.close(self._ports.clock())

    def give_up(self) -> None:
        """Stop connecting: it is `closed` soon, and `done` when the gateway has acknowledged that."""
        self.ike.give_up(self._ports.clock())

    def abandon(self) -> None:
        """Forget the connection at once."""
        self.closed = self.closed or Closed()
        self._abandoned = True

    def establish(self) -> None:
        """Carry the tunnel's traffic from now on."""
        self.established = True

    def fail(self, error: IkeclientError) -> None:
        """Take note that what was agreed on cannot be used."""
        self.failure = error

    @property
    def settled(self) -> bool:
        """Whether the attempt to connect has an outcome."""
        return self.established or self.failure is not None or self.closed is not None

    # Out

    def send(self) -> None:
        """Send every datagram that waits."""
        if not self._abandoned:
            for datagram in self.ike.datagrams_to_send():
                self._send(datagram)

    def next_event(self) -> Event | None:
        """Take the next event. What only a person could answer is refused if nobody is there."""
        event = None if self._abandoned else self.ike.next_event()
        if isinstance(event, Need) and event.to_sign is None and self._ports.source(event.kind) is None:
            self.answer(event, _unanswerable(event))
        elif isinstance(event, Closed):
            self.closed = self.closed or event
        return event

    def answer(self, need: Need, answer: Answer) -> None:
        """Answer what the login needs, or say why there is no answer."""
        if isinstance(answer, IkeclientError):
            self.ike.refuse(need, answer, self._ports.clock())
        else:
            self.ike.supply(need, answer, self._ports.clock())

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timer` at the latest."""
        deadlines = (*self._left.values(), None if self._abandoned else self.ike.next_deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def done(self) -> bool:
        """Whether it is closed and has nothing more to tell the gateway."""
        return self.closed is not None and (self._abandoned or self.ike.next_deadline() is None)

    def _send(self, datagram: Datagram) -> None:
        remote = (str(datagram.path.remote_address), datagram.path.remote_port)
        own = self._socket_of(datagram.path) or next(reversed(self._sockets), None)  # others may send ESP by now
        if own is not None:
            self._ports.switch.admit(datagram.path.remote_address, own.local[1])
        self._pump.send_ike(datagram.data, remote, own, whole=datagram.dont_fragment)

    # Paths

    def move(self, local: IPAddress, remote: IPAddress, *, proven: bool = True) -> bool:
        """Go on from `local` to `remote`; false if the gateway does not speak MOBIKE.

        With a `remote` that is not `proven`, ESP stays on the path in use until the gateway has answered there, and
        `follow` is called. Raises PlatformError if `local` is not an address of this machine (any more).
        """
        if not self.ike.can_move:
            return False
        for socket in [socket for socket in self._probing if socket is not self._socket_of(self.path)]:
            self._close(socket)
        if (local, remote) == (self.path.local_address, self.path.remote_address):
            path = self.path
        elif local == self.path.local_address and not proven:
            path = replace(self.path, remote_address=remote)
        else:
            path = self._open(local, remote, self.path.remote_port, sending=proven)
            if not proven:
                self._probing.update(filter(None, [self._socket_of(path)]))
        self.ike.path_changed(path, self._ports.clock(), proven=proven)
        return True

    def follow(self, path: Path) -> None:
        """Send ESP along `path` from now on; sockets of other paths go on receiving for a moment."""
        self.path = path
        used = self._socket_of(path)
        if used is not None:
            self._pump.attach(used)
            self._probing.discard(used)
        for socket in self._sockets:
            if socket is not used and not self.borrowing:
                self._left[socket] = self._ports.clock() + PATH_GRACE
        self._pump.set_remote((str(path.remote_address), path.remote_port))

    def take_over(self, other: Link) -> None:
        """Own from now on what was borrowed from `other`, which goes on using it for its DELETE."""
        self._sockets, self._probing = list(other._sockets), set(other._probing)
        self._left, other._left = other._left, {}
        self.borrowing, other.borrowing = False, True

    def inherit(self, other: Link) -> bool:
        """Take over the sockets of `other`, which is over, if this link borrows them; whether it does.

        A login that was given up is to be deleted, which takes as long as the gateway works on it.
        """
        if not self.borrowing or not any(socket in other._sockets for socket in self._sockets):
            return False
        self.take_over(other)
        self._retired = True  # another connection may send ESP by now
        return True

    def retire(self) -> None:
        """Send no ESP any more; what the gateway must be told still goes out, until it is `done`."""
        if not self.borrowing and not self._retired:
            self._retired = True
            self._pump.set_remote(None)

    def release(self) -> None:
        """Close the sockets; whatever still arrives is lost."""
        self.abandon()
        if self.borrowing:
            return
        self.retire()
        for socket in list(self._sockets):
            self._close(socket)


@lru_cache(maxsize=64)
def _path(source: Address, local: Address) -> Path:
    return Path(ip_address(local[0]), local[1], ip_address(source[0].partition("%")[0]), source[1])


def is_final(error: IkeclientError, *, proven: bool) -> bool:
    """Tell whether no other address of the gateway can change the result; `proven`: this one had proven itself.

    That takes a gateway that is the one and refuses our credentials, or a fault of this machine. Everything else may be
    due to the address: another gateway's, an old one's, or one on the way to which somebody answers in its name.
    """
    if isinstance(error, AuthenticationFailed):
        return proven
    return isinstance(error, PlatformError | PrivilegeError | ProfileError)


def _unanswerable(need: Need) -> NegotiationRefused:
    if need.kind is NeedKind.USIM:
        return NegotiationRefused(
            "the card cannot be asked here",
            reason="the profile names neither a reader nor a command in auth.sim",
        )
    hint = "connect in the foreground, on a terminal"
    return NegotiationRefused("the gateway asks for a credential", reason=str(need.request), hint=hint)
