"""One attempt to connect and the connection that comes of it: sockets, an `Initiator` and the pump, along one path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from ipaddress import ip_address

from ikeclient.dataplane.pump import Address, Pump
from ikeclient.errors import (
    AuthenticationFailed,
    IkeclientError,
    NoResponse,
    PlatformError,
    PrivilegeError,
    ProfileError,
)
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Datagram, Event, IPAddress, Path
from ikeclient.ike.v2.initiator import Initiator
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.tunnel import protocol_log
from ikeclient.tunnel.driver import Driver
from ikeclient.tunnel.ports import Ports, Socket

PATH_GRACE = 5.0  # how long the socket of a path that was left still receives


class Link:
    """Owns the sockets and the driver of one connection; `driver.closed` resolves when it is over.

    Raises NoResponse if no route leads to the gateway. `established` is set by the owner, who hears that it is up.
    A link `parallel_to` another one shares its path and its socket, which stay the other one's until `take_over`.
    """

    def __init__(
        self,
        config: IkeConfig,
        remote: IPAddress,
        port: int,
        pump: Pump,
        on_event: Callable[[Event], None],
        ports: Ports,
        *,
        parallel_to: Link | None = None,
    ) -> None:
        self.established = False
        self._retired = False
        self.borrowing = parallel_to is not None
        self._pump = pump
        self._ports = ports
        self.on_hint: Callable[[PathHint], None] = lambda _: None  # gets what is said about the path in use
        self._sockets: list[Socket] = []
        self._probing: set[Socket] = set()  # those of a path on which the gateway has not answered
        if parallel_to is not None:
            self._sockets += filter(None, [parallel_to._socket_of(parallel_to.path)])
        self.path: Path = parallel_to.path if parallel_to is not None else self._open_first(remote, port)
        initiator = Initiator(config, ports.entropy, ports.time_of_day, protocol_log.observe)
        self.driver = Driver(initiator, ports.clock, self._send, on_event, self._deaf)

    def _open_first(self, remote: IPAddress, port: int) -> Path:
        local = self._ports.network.source_for(remote)
        if local is None:
            raise NoResponse(
                f"there is no route to the gateway {remote}", hint="check that this machine is connected to a network"
            )
        return self._open(local, remote, port)

    def _open(self, local: IPAddress, remote: IPAddress, port: int, *, sending: bool = True) -> Path:
        """A socket of its own for a path, on which ESP is sent from now on unless `sending` is false."""

        def heard(hint: PathHint) -> None:
            asyncio.get_running_loop().call_soon(self.on_hint, hint)  # not in the middle of sending

        socket = self._ports.network.open(local, heard)
        self._sockets.append(socket)
        self._pump.attach(socket, sending=sending)
        self._ports.network.watch(socket, partial(self._pump.drain_udp, socket), self._pump.wants_delay)
        return Path(local, socket.local[1], remote, port)

    def _socket_of(self, path: Path) -> Socket | None:
        local = (str(path.local_address), path.local_port)
        return next((socket for socket in self._sockets if socket.local == local), None)

    def _close(self, socket: Socket) -> None:
        self._probing.discard(socket)
        if socket in self._sockets:
            self._sockets.remove(socket)
            self._pump.detach(socket)
            self._ports.network.close(socket)

    def start(self) -> None:
        """Send the first message."""
        self.driver.start(self.path)

    def receive(self, data: bytes, source: Address, local: Address) -> bool:
        """Take an IKE message that the pump found on the socket bound to `local`; false if it is not due here."""
        if not self.driver.initiator.awaits(data) or not any(socket.local == local for socket in self._sockets):
            if source[0] == str(self.path.remote_address):
                self.driver.initiator.note_nonsense()
            return False
        self.driver.receive(data, _path(source, local))
        return True

    def _deaf(self) -> bool:
        """Whether datagrams may have been missed lately; tells IKE of the latest ESP, which is a sign of life."""
        if self.established and self._pump.last_inbound is not None:
            self.driver.initiator.heard(self._pump.last_inbound)
        return self._pump.deaf()

    def move(self, local: IPAddress, remote: IPAddress, *, proven: bool = True) -> bool:
        """Go on from `local` to `remote`; false if the gateway does not speak MOBIKE.

        With a `remote` that is not `proven`, ESP stays on the path in use until the gateway has answered there, and
        `follow` is called. Raises PlatformError if `local` is not an address of this machine (any more).
        """
        if not self.driver.initiator.can_move:
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
        self.driver.initiator.path_changed(path, self._ports.clock(), proven=proven)
        self.driver.flush()
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
                self._ports.later(PATH_GRACE, self._close_left, socket)
        self._pump.set_remote((str(path.remote_address), path.remote_port))

    def _close_left(self, socket: Socket) -> None:
        """Close the socket of a path that was left, unless it came back into use."""
        if socket is not self._socket_of(self.path) and socket not in self._probing:
            self._close(socket)

    def take_over(self, other: Link) -> None:
        """Own from now on what was borrowed from `other`, which goes on using it for its DELETE."""
        self._sockets, self._probing = list(other._sockets), set(other._probing)
        other.on_hint = self.hint
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

    def hint(self, hint: PathHint) -> None:
        """Take what is said about a path that was another link's."""
        self.on_hint(hint)

    def _send(self, datagram: Datagram) -> None:
        remote = (str(datagram.path.remote_address), datagram.path.remote_port)
        own = self._socket_of(datagram.path) or next(reversed(self._sockets), None)  # others may send ESP by now
        if own is not None:
            self._ports.switch.admit(datagram.path.remote_address, own.local[1])
        self._pump.send_ike(datagram.data, remote, own, whole=datagram.dont_fragment)

    def retire(self) -> None:
        """Send no ESP any more; what the gateway must be told still goes out, until `driver.done`."""
        if not self.borrowing and not self._retired:
            self._retired = True
            self._pump.set_remote(None)

    def release(self) -> None:
        """Close the sockets; whatever still arrives is lost."""
        self.driver.abandon()
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
