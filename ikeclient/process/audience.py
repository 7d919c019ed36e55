"""Who hears of a tunnel that changes nothing of the machine: the process that shows it, and its control socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ikeclient.control.events import failed, happened
from ikeclient.control.server import ControlServer, OnAsk, OnJoin, Orders
from ikeclient.errors import IkeclientError
from ikeclient.process.run import Listener, open_control
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.options import ConnectOptions


class Audience:
    """Tells `on_event`, and while `listening` those on the control socket, too."""

    def __init__(self, options: ConnectOptions, on_event: Listener) -> None:
        self._options = options
        self._on_event = on_event
        self._control: ControlServer | None = None

    def publish(self, event: dict[str, object]) -> None:
        """Tell everybody."""
        self._on_event(event)
        if self._control is not None:
            self._control.publish(event)

    def notice(self, text: str) -> None:
        """Tell everybody a sentence."""
        self.publish(happened("notice", self._options.name, text=text))

    def tell_unused(self, profile: CompiledProfile, users: str) -> None:
        """Say which of the profile's keys have nothing to do without a machine; `users` says what uses the tunnel."""
        if profile.session.kill_switch:
            self.notice(f"the profile's kill switch has nothing to do here: {users}")
        if profile.session.up or profile.session.down:
            self.notice("the profile's up and down commands are not run: they are about the machine")

    @contextlib.asynccontextmanager
    async def listening(
        self, connection: TunnelDriver, *, join: OnJoin | None = None, ask: OnAsk | None = None
    ) -> AsyncIterator[None]:
        """Have the control socket answer meanwhile; an error that ends the tunnel is told there last."""
        orders = Orders(
            disconnect=connection.stop,
            reconnect=connection.reconnect,
            suspend=connection.suspend,
            resume=connection.resume,
            join=join,
            ask=ask,
        )
        self._control = await open_control(connection, self._options, orders, self.notice)
        try:
            yield
        except IkeclientError as error:
            if self._control is not None:
                self._control.publish(failed(error, self._options.name))
            raise
        finally:
            if self._control is not None:
                await self._control.close()
