"""Tunnels inside a Python program: `ikeclient.open`. No right, device or namespace is needed, and nothing outside the
program changes: TCP, UDP and ICMP end in it (`stack`).

It runs in any asyncio event loop. Secrets come from where the profile says; nobody is asked unless `ask` is given.
Errors are `ikeclient.errors.IkeclientError` until the tunnel is up, and those of sockets (OSError, socket.gaierror)
afterwards.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ikeclient.control import client
from ikeclient.control.status import TunnelStatus
from ikeclient.dataplane.async_host import Connection, Datagrams, Listening
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.errors import IkeclientError, NoResponse, UsageError
from ikeclient.library.transport import StackTransport
from ikeclient.process.run_in_stack import StackTunnel
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.importers.open import opened
from ikeclient.profile.model.methods import has_card
from ikeclient.profile.model.schema import Profile
from ikeclient.proxy.destination import address_of
from ikeclient.proxy.dial import first_to_answer, in_turn
from ikeclient.proxy.in_stack import relay
from ikeclient.proxy.refusal import Refused
from ikeclient.proxy.settings import Limits
from ikeclient.tunnel.options import ConnectOptions

_MOST_EVENTS = 256  # of one listener that wait to be taken

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class Tunnel:
    """A tunnel of this program, from `async with ikeclient.open(...)` to the end of that block.

    Hosts are addresses or names, which the tunnel's servers resolve. Connections live through moves, rekeys and new
    connections to the gateway; they are reset when the inner address changes.
    """

    def __init__(
        self,
        profile: str | Path | Profile,
        *,
        overrides: Sequence[str] = (),
        timeout: float = 30.0,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self._profile = profile
        self._overrides = tuple(overrides)
        self._timeout = timeout
        self._ask = ask
        self._limits = Limits(connecting=timeout)
        self._inner: StackTunnel | None = None
        self._running: asyncio.Task[None] | None = None
        self._up: asyncio.Future[None] | None = None
        self._listeners: set[_Events] = set()
        self._relays: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Connect. Raises IkeclientError, as `ikeclient connect` fails."""
        loop = asyncio.get_running_loop()
        compiled = await asyncio.to_thread(self._compile)
        choose_cipher()
        options = ConnectOptions(
            name=compiled.name,
            timeout=self._timeout,
            keylog=None,
            runtime_directory=client.runtime_directory(),
            ask=self._answer if self._ask is not None else None,
        )
        self._up = loop.create_future()
        self._inner = StackTunnel(compiled, options, self._happened)
        self._running = loop.create_task(self._run(self._inner))
        try:
            await self._up
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Say goodbye to the gateway; connections that are left are cut off."""
        await self.close()

    async def close(self) -> None:
        """End the tunnel. Safe to call twice."""
        for relaying in tuple(self._relays):
            relaying.cancel()
        if self._inner is not None and self._running is not None:
            self._inner.connection.stop()
            await asyncio.wait([self._running])
        for events in tuple(self._listeners):
            events.end()

    # What it carries

    async def open_connection(
        self, host: str, port: int, *, limit: int = 1 << 16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection, as `asyncio.open_connection` gives it. Raises OSError, socket.gaierror."""
        reader = asyncio.StreamReader(limit=limit)
        transport, protocol = await self.create_transport(lambda: asyncio.StreamReaderProtocol(reader), host, port)
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())

    async def create_transport(
        self, protocol_factory: Callable[[], _Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, _Protocol]:
        """A TCP connection, as `loop.create_connection` gives it. Raises OSError, socket.gaierror."""
        connection = await self._connect(host, port)
        protocol = protocol_factory()
        return StackTransport(connection, protocol), protocol

    async def create_connection(self, address: tuple[str, int]) -> socket.socket:
        """A TCP connection as a connected socket, for code that wants one. Raises OSError, socket.gaierror.

        It is one end of a pair of local sockets, blocking as a new socket is: what blocks on it must not run in the
        event loop's own thread. Its addresses say nothing.
        """
        connection = await self._connect(*address)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        relaying = asyncio.get_running_loop().create_task(_relay(ours, connection))
        self._relays.add(relaying)
        relaying.add_done_callback(self._relays.discard)
        return theirs

    async def start_server(
        self,
        connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
        port: int,
        *,
        address: str | None = None,
        limit: int = 1 << 16,
    ) -> Listening:
        """Accept TCP connections on a port inside the tunnel, on one inner address or all, until its `close`.

        `connected` is as for `asyncio.start_server`. Raises OSError if the port is taken.
        """
        loop = asyncio.get_running_loop()

        def accept(connection: Connection) -> None:
            reader = asyncio.StreamReader(limit=limit)
            protocol = asyncio.StreamReaderProtocol(reader, connected)
            loop.call_soon(StackTransport, connection, protocol)

        return self._connected.host.listen(port, accept, address)

    async def open_datagrams(self, port: int = 0) -> Datagrams:
        """UDP from a port of the inner addresses, 0: any. Raises OSError."""
        return self._connected.host.open_udp(port)

    async def resolve(self, name: str) -> list[str]:
        """The addresses of a name, asked from the tunnel's servers. Raises socket.gaierror."""
        return await self._connected.host.resolve(name)

    async def ping(self, host: str, *, patience: float = 2.0) -> float:
        """The seconds that an echo took, `patience` at most. Raises TimeoutError, OSError, socket.gaierror."""
        address = (await self._addresses(host))[0]
        result = await self._connected.host.ping(address, patience=patience)
        if result.error is not None:
            raise OSError(errno.EHOSTUNREACH, f"{host}: {result.error.name.lower().replace('_', ' ')}")
        if result.round_trip is None:
            raise TimeoutError(errno.ETIMEDOUT, f"{host} does not answer")
        return result.round_trip

    # What it tells

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.status().name

    def status(self) -> TunnelStatus:
        """What `ikeclient status --json` would say of it."""
        return self._connected.connection.status()

    def events(self) -> AsyncIterator[Mapping[str, object]]:
        """What happens from now on, as `ikeclient events` tells it, until the tunnel ends.

        Who is slow loses the oldest ones.
        """
        events = _Events(self._listeners.discard)
        self._listeners.add(events)
        if self._running is None or self._running.done():
            events.end()
        return events

    def reconnect(self) -> None:
        """Make a new connection to the gateway now; connections inside live through it."""
        self._connected.connection.reconnect()

    # Inside

    @property
    def _connected(self) -> StackTunnel:
        if self._inner is None or self._running is None or self._running.done():
            raise OSError(errno.ENOTCONN, "the tunnel is not open")
        return self._inner

    def _compile(self) -> CompiledProfile:
        attended = self._ask is not None
        if isinstance(self._profile, Profile):
            if self._overrides:
                raise UsageError("overrides go with a profile's name or path", hint="change the Profile instead")
            _require_own_keys(self._profile)
            return compile_profile(self._profile, Path.cwd(), self._ask, name="python", attended=attended)
        with opened(os.fspath(self._profile), self._overrides, ask=self._ask, kept={}) as loaded:
            _require_own_keys(loaded.profile)
            return compile_profile(
                loaded.profile, loaded.base_dir, self._ask, name=loaded.name, author=loaded.author, attended=attended
            )

    async def _answer(self, prompt: str) -> str:
        """Have the program answer what a login asks. Raises UsageError if there is no answer."""
        assert self._ask is not None
        try:
            answer = await asyncio.to_thread(self._ask, prompt)
        except IkeclientError:
            raise
        except Exception as error:
            raise UsageError("no answer given", reason=f"`ask` raised {type(error).__name__}") from error
        if not answer:
            raise UsageError("no answer given", reason="`ask` returned nothing")
        return answer

    async def _run(self, tunnel: StackTunnel) -> None:
        assert self._up is not None
        error: IkeclientError = NoResponse("the tunnel has ended")
        try:
            await tunnel.connection.run()
        except IkeclientError as failure:
            error = failure
        finally:
            if not self._up.done():
                self._up.set_exception(error)
            for events in tuple(self._listeners):
                events.end()

    def _happened(self, event: dict[str, object]) -> None:
        if event["event"] == "connected" and self._up is not None and not self._up.done():
            self._up.set_result(None)
        for events in tuple(self._listeners):
            events.put(event)

    async def _addresses(self, host: str) -> list[str]:
        address = address_of(host)
        return [str(address)] if address is not None else await self.resolve(host)

    async def _connect(self, host: str, port: int) -> Connection:
        inner = self._connected
        addresses = await self._addresses(host)
        if len(addresses) == 1:
            async with asyncio.timeout(self._limits.connecting):
                return await inner.host.open_connection(addresses[0], port)

        failures: list[OSError] = []

        async def reach(address: str) -> Connection:
            try:
                return await inner.host.open_connection(address, port)
            except OSError as error:
                failures.append(error)
                raise

        try:
            return await first_to_answer(in_turn(addresses), self._limits, reach)
        except Refused:
            if not failures:
                raise TimeoutError(errno.ETIMEDOUT, f"{host} port {port} does not answer") from None
            raise min(failures, key=lambda error: not isinstance(error, ConnectionRefusedError)) from None


def open_tunnel(
    profile: str | Path | Profile,
    *,
    overrides: Sequence[str] = (),
    timeout: float = 30.0,
    ask: Callable[[str], str] | None = None,
) -> Tunnel:
    """Return a tunnel to be entered with `async with`.

    - `profile`: a profile's name, the path of a file that `ikeclient connect` takes, or a `Profile`.
    - `overrides`: `KEY=VALUE` as after `--set`.
    - `timeout`: seconds for the first connection, and for each one inside.
    - `ask`: shows a person a prompt and returns what was typed; it is called in a thread, also for what the gateway
      asks at a later login.
    """
    return Tunnel(profile, overrides=overrides, timeout=timeout, ask=ask)


def _require_own_keys(profile: Profile) -> None:
    """Refuse keys and cards that only a process of its own may ask, before anything asks them."""
    for auth in (profile.auth, profile.second_auth):
        if auth is None:
            continue
        elsewhere = {
            "a token": auth.key is not None and auth.key.pkcs11 is not None,
            "ssh-agent": auth.key is not None and auth.key.agent is not None,
            "a card reader": has_card(auth) and auth.sim is not None and auth.sim.reader is not None,
        }
        for place, used in elsewhere.items():
            if used:
                raise UsageError(
                    f"the profile logs in with {place}, which a tunnel inside a program cannot use",
                    reason="what asks it needs a process of its own",
                    hint="use `ikeclient proxy`, or a key in a file",
                )


async def _relay(ours: socket.socket, connection: Connection) -> None:
    with ours:
        await relay(ours, connection)
        if connection.closed is None:
            connection.close()


class _Events:
    """One listener's events, an asynchronous iterator."""

    def __init__(self, forget: Callable[[_Events], None]) -> None:
        self._forget = forget
        self._waiting: deque[Mapping[str, object]] = deque(maxlen=_MOST_EVENTS)
        self._more = asyncio.Event()
        self._ended = False

    def put(self, event: Mapping[str, object]) -> None:
        self._waiting.append(event)
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._forget(self)
        self._more.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Mapping[str, object]:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._waiting.popleft()
