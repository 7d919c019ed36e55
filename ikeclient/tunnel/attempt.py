"""One attempt to connect and the connection that comes of it: a socket, an `Initiator` and the pump, along one path."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_address

from ikeclient.errors import IkeclientError, NoResponse
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import Datagram, Event, IPAddress, Path
from ikeclient.ike.initiator import Initiator
from ikeclient.net.udp import UdpSocket, local_address_for
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.driver import Driver
from ikeclient.tunnel.network import MARK
from ikeclient.tunnel.pump import Address, Pump


class Attempt:
    """Owns the socket and the driver of one connection; `driver.closed` resolves when it is over."""

    def __init__(
        self, config: IkeConfig, remote: IPAddress, port: int, pump: Pump, on_event: Callable[[Event], None]
    ) -> None:
        local = local_address_for(str(remote), mark=MARK)
        if local is None:
            raise NoResponse(
                f"there is no route to the gateway {remote}", hint="check that this machine is connected to a network"
            )
        self.socket = UdpSocket(version=remote.version, local_address=local, mark=MARK)
        self.path = Path(ip_address(local), self.socket.local[1], remote, port)
        self._pump = pump
        initiator = Initiator(config, os.urandom, lambda: datetime.now().astimezone())
        self.driver = Driver(initiator, boottime, self._send, on_event)
        pump.attach(self.socket)
        asyncio.get_running_loop().add_reader(self.socket.fileno(), pump.drain_udp, self.socket)

    def start(self) -> None:
        """Send the first message."""
        self.driver.start(self.path)

    def receive(self, data: bytes, source: Address, local: Address) -> None:
        """Take an IKE message that the pump found on the socket that is bound to `local`."""
        if local != self.socket.local:
            return
        path = replace(self.path, remote_address=ip_address(source[0].partition("%")[0]), remote_port=source[1])
        self.driver.receive(data, path)

    def follow(self, path: Path) -> None:
        """Send ESP along `path` from now on."""
        self.path = path
        self._pump.set_remote((str(path.remote_address), path.remote_port))

    def _send(self, datagram: Datagram) -> None:
        self._pump.send_ike(datagram.data, (str(datagram.path.remote_address), datagram.path.remote_port))

    def release(self) -> None:
        """Close the socket; whatever still arrives is lost."""
        self.driver.abandon()
        asyncio.get_running_loop().remove_reader(self.socket.fileno())
        self._pump.set_remote(None)
        self._pump.detach(self.socket)
        self.socket.close()


def hopeless(error: IkeclientError) -> bool:
    """Whether another address of the same gateway, or another attempt, cannot change the result."""
    return not isinstance(error, NoResponse)
