"""Who hears of a tunnel: the process that shows it, and those on its control socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from ikeclient.control.events import failed, happened
from ikeclient.control.server import ControlServer, OnAsk, OnJoin, Orders
from ikeclient.errors import IkeclientError, Interrupted, PlatformError
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.options import ConnectOptions

Listener = Callable[[dict[str, object]], None]


class Audience:
    """Tells `on_event`, and between `open` and `close` those on the control socket, too."""

    def __init__(self, options: ConnectOptions, on_event: Listener) -> None:
        self._options = options
        self._on_event = on_event
        self._control: ControlServer | None = None

    @property
    def has_socket(self) -> bool:
        """Whether there is a control socket."""
        return self._control is not None

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

    async def open(self, connection: TunnelDriver, orders: Orders) -> None:
        """Open the control socket; without a place for it the tunnel does without, and says so."""
        name, directory = self._options.name, self._options.runtime_directory
        server = ControlServer(name, directory, status=connection.document, orders=orders)
        try:
            await server.start()
        except PlatformError as error:
            self.notice(": ".join(error.lines()))
        else:
            self._control = server

    async def close(self, error: IkeclientError | None = None) -> None:
        """Close the control socket, and tell there last of an error that ended the tunnel. Ctrl-C is none."""
        control, self._control = self._control, None
        if control is not None:
            if error is not None and not isinstance(error, Interrupted):
                control.publish(failed(error, self._options.name))
            await control.close()

    @contextlib.asynccontextmanager
    async def listening(
        self, connection: TunnelDriver, *, join: OnJoin | None = None, ask: OnAsk | None = None
    ) -> AsyncIterator[None]:
        """Have the control socket open meanwhile, for a tunnel that changes nothing of the machine."""
        orders = Orders(
            disconnect=connection.stop,
            reconnect=connection.reconnect,
            suspend=connection.suspend,
            resume=connection.resume,
            join=join,
            ask=ask,
        )
        await self.open(connection, orders)
        failure: IkeclientError | None = None
        try:
            yield
        except IkeclientError as error:
            failure = error
            raise
        finally:
            await self.close(failure)
