"""One tunnel from start to end: connect, stay connected, connect again, and leave the machine as it was.

The TUN device and the routes stay while a lost connection is made again, so that nothing leaves past the tunnel.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ikeclient.dataplane.event_loop import unwatch, watch
from ikeclient.dataplane.pump import Address
from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse, PlatformError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import (
    ChildClosed,
    Event,
    IkeKeysDerived,
    IPAddress,
    PathEvent,
    Progress,
    ReauthenticationDue,
    Roamed,
)
from ikeclient.ike.v2.close_reasons import EndedByGateway
from ikeclient.net.model import MachineAdapter
from ikeclient.profile.compile import CompiledProfile
from ikeclient.tunnel.adoption import Adoption, Known
from ikeclient.tunnel.attempt import Attempt, hopeless
from ikeclient.tunnel.clock import boottime
from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.hooks import Hooks, Runner
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.renewal import Renewal
from ikeclient.tunnel.resolve import resolve_unless
from ikeclient.tunnel.retries import IDLE, Retries
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.session import Device, Publish, Session
from ikeclient.tunnel.upkeep import upkeep

FAREWELL = 1.5  # the longest that a DELETE may hold up the end: with the rest it shall be less than two seconds


class Connection:
    """A tunnel that lives in the running event loop. `run` returns after `stop`, or raises what ended it."""

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        tun: Device,
        machine: MachineAdapter,
        publish: Publish,
        *,
        table: int,
        hooks: bool = True,
        run_hook: Runner | None = None,
    ) -> None:
        self.profile = profile
        self._options = options
        self._tun = tun
        self._loop = asyncio.get_running_loop()
        self._stopping, self._wake = asyncio.Event(), asyncio.Event()
        self._again = False
        self._wanted = False  # whether a packet wants to leave while there is no connection
        self._proven = False  # whether the gateway of the last failed attempt had proven its identity
        self._accepted: IkeConfig | None = None  # how the gateway was asked when it last accepted
        self.known: Known = []  # addresses of the gateway with their host names, the best first
        self.adoption = Adoption(self)
        self._fatal: IkeclientError | None = None
        self._attempt: Attempt | None = None
        self._host = ""
        self._renewal: Renewal | None = None
        self._leaving: list[Attempt] = []
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._publish = publish
        self.session = Session(
            profile,
            options,
            tun,
            machine,
            self._tell,
            table=table,
            on_ike=self._on_ike,
            on_tun_lost=self._on_tun_lost,
            on_waiting=self._on_waiting,
            on_up=self._on_up,
            later=self._loop.call_later,
        )
        commands = profile.session.commands
        self._hooks = Hooks(commands, profile.base_dir, self.session.warn, run_hook) if hooks else None
        self._data_keeper = DataKeeper(self.session, self.reconnect)
        self._roaming = Roaming(self._current, self.session, self._wake.set, tun.name)

    def _addresses(self) -> list[IPAddress]:
        """Every address that the host we are connected to is known to have."""
        return [address for host, address in self.known if host == self._host]

    def _tell(self, event: dict[str, object]) -> None:
        self._publish(event)
        if self._hooks is not None:
            self._hooks.tell(str(event["event"]), self.session.status)

    def _current(self) -> Attempt | None:
        return self._attempt

    # Control

    def stop(self, error: IkeclientError | None = None) -> None:
        """End the tunnel in order; `error` tells why it cannot go on."""
        self._fatal = self._fatal or error
        self._stopping.set()
        self._wake.set()
        if self._attempt is not None:
            self._attempt.driver.close()

    def reconnect(self) -> None:
        """End the connection with a DELETE and make a new one, or make it now; the machine's routes stay."""
        if not self._stopping.is_set():
            self._again = True
        self._wake.set()
        if self._attempt is not None and not self._stopping.is_set():
            self._attempt.driver.close()

    def document(self) -> dict[str, object]:
        """The tunnel's entry in `status --json`."""
        return self.session.snapshot().to_json()

    # Life

    async def run(self) -> None:
        """Connect, and stay connected until stopped. The machine is restored in any case."""
        watch(self._tun.fileno(), self.session.pump.drain_tun)
        self._roaming.start()
        keeper = self._loop.create_task(upkeep(self._current, self.session, self._roaming, self._data_keeper))
        keeper.add_done_callback(self._keeper_ended)
        try:
            await self._first()
            await self._stay()
        except IkeclientError as error:
            self.session.status.last_error = error.message
            raise
        finally:
            keeper.cancel()
            self._roaming.close()
            await self._end()

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        """Nobody looks after the connection any more: a bug, and not one to be silent about."""
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            context = {"message": "looking after the connection failed", "exception": error, "handle": None}
            self._loop.call_exception_handler(context)

    async def _first(self) -> None:
        """The first attempt: each address of the gateway in turn, within one time limit.

        An address has its share of that time to answer; a login that has probably arrived has all that is left, because
        another one elsewhere would be a second login. What is told in the end is the first error that says more than
        that nobody answered.
        """
        deadline = boottime() + self._options.timeout
        addresses = self.known = await self._resolve()
        told: IkeclientError | None = None
        for index, (host, address) in enumerate(addresses):
            left = max(deadline - boottime(), 1.0)
            self._proven = False
            try:
                await self._connect(host, address, left / (len(addresses) - index), login=left)
            except IkeclientError as error:
                if self._stopping.is_set():
                    return
                if told is None or isinstance(told, NoResponse):
                    told = error
                if hopeless(error, proven=self._proven):
                    raise
                if index == len(addresses) - 1:
                    raise told from None
                self.session.emit("notice", text=f"{address}: {error.message}")
            else:
                self.known = [(host, address), *(known for known in addresses if known != (host, address))]
                return

    async def _stay(self) -> None:
        """Wait for the end of each connection and make the next one, for as long as the profile wants."""
        retries = Retries(os.urandom)
        retries.up(boottime())
        await self.adoption.catch_up()
        while not self._stopping.is_set():
            if self._attempt is not None:
                error = await self._over()
                self._drop(error)
                retries.lost(boottime(), idle=isinstance(error, EndedByGateway) and self.session.quiet_for(IDLE))
                if self.profile.session.retry == 0 and not self._again and not self._stopping.is_set():
                    raise error or NoResponse("the connection ended")
            if retries.on_demand and not self._again:
                await self._until_wanted()
            await self._pause(0.0 if self._again else retries.pause(), patient=retries.patient)
            self._again = False
            if self._stopping.is_set():
                break
            try:
                await self._try_again(retries.failures)
                retries.up(boottime())
                self.adoption.connected()
            except IkeclientError as error:
                if self.adoption.failed(error):
                    self._again = True
                    continue
                retries.failed(error, proven=self._proven)
                self.session.status.last_error = error.message
                self.session.emit("reconnecting", error=error.lines())
                session = self.profile.session
                final = retries.over(error, attempts=session.retry, refusals=session.refusals)
                if final is not None:
                    raise final from None
        if self._fatal is not None:
            raise self._fatal

    async def _over(self) -> IkeclientError | None:
        """Wait until no connection is left, and return why. A new authentication may have put another in its place."""
        while True:
            attempt = self._attempt
            assert attempt is not None
            error = (await attempt.driver.closed).error
            if attempt is self._attempt and self._renewal is not None and not self._stopping.is_set():
                await self._renewal.last_chance()
            if attempt is self._attempt:
                return error

    async def _try_again(self, failures: int) -> None:
        """The address that worked, then the gateway's addresses in turn with its name resolved anew.

        The name server may be behind the tunnel that is down, so addresses that were found before stay good.
        """
        self.session.started = boottime()
        self._proven = False
        if failures:
            try:
                self.known = await self._resolve() or self.known
            except NoResponse as error:
                self.session.emit("notice", text=error.message)
        if self._stopping.is_set():
            return
        await self._connect(*self.known[failures % len(self.known)], self._options.timeout)
        self.session.status.reconnects += 1

    async def _until_wanted(self) -> None:
        """Wait until a packet wants to leave, or a person wants the connection."""
        self.session.wait_for_packets()
        self._wanted = False
        while not (self._wanted or self._again or self._stopping.is_set()):
            self._wake.clear()
            await self._wake.wait()

    async def _pause(self, seconds: float, *, patient: bool) -> None:
        """Wait, unless something happens that makes another attempt worth while; a `patient` pause only gives way to
        a person.
        """
        until = boottime() + seconds
        self._wake.clear()
        while not self._stopping.is_set() and (left := until - boottime()) > 0:
            try:
                await asyncio.wait_for(self._wake.wait(), left)
            except TimeoutError:
                return
            self._wake.clear()
            if self._again or not patient:
                return

    async def _resolve(self) -> Known:
        self.session.emit("resolving", host=", ".join(self.profile.gateways))
        return await resolve_unless(self._stopping, self.profile.gateways, self.profile.port)

    async def _connect(self, host: str, remote: IPAddress, patience: float, *, login: float = 0.0) -> None:
        """Bring up one connection; returns when packets flow or `stop` was called, raises when it failed.

        It may take `patience` seconds, or `login` if that is more and the gateway works on a login of ours.
        """
        session = self.session
        session.status.gateway_address = str(remote)
        self._up = self._loop.create_future()
        self._host = host
        attempt = Attempt(
            replace(self._config(patience), login_timeout=login),
            remote,
            self.profile.port,
            session.pump,
            lambda event: self._report(attempt, event),
        )
        self._attempt = attempt
        attempt.start()
        ends: list[asyncio.Future[Any]] = [self._up, attempt.driver.closed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._up.done():
            failure = self._up.exception()
            if failure is not None:
                await self._farewell()
                self._drop(None)
                raise failure
            self._accepted = attempt.driver.initiator.accepted
            return
        error = attempt.driver.closed.result().error
        # Anybody on the path can refuse in the gateway's name; only the gateway itself can end a tunnel that was up.
        self._proven = attempt.driver.initiator.refused_by_gateway
        if isinstance(error, AuthenticationFailed):
            self._accepted = None
        self._drop(error)
        if not self._stopping.is_set():
            raise error or NoResponse("the connection ended before it was up")

    def _config(self, patience: float) -> IkeConfig:
        config = self.profile.ike_for(self._host)
        if self._accepted is not None:
            config = config.as_accepted(self._accepted)
        return replace(
            config,
            timeout=patience,
            disclose_keys=self.session.disclosing,
            addresses=self.session.status.configuration.addresses,
        )

    def _drop(self, error: IkeclientError | None) -> None:
        """Forget the connection that is over; routes and device stay."""
        self.stop_renewing()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._let_go(attempt)
        self.session.lose(error, again=not self._stopping.is_set())

    def _let_go(self, attempt: Attempt) -> None:
        """Forget an attempt that is over, once the gateway knows that it is."""
        attempt.retire()
        self._leaving.append(attempt)
        if attempt.driver.done.done():
            self._left(attempt)
        else:
            attempt.driver.done.add_done_callback(lambda _: self._left(attempt))

    async def _farewell(self) -> None:
        if self._attempt is not None:
            self._attempt.driver.close()
            await asyncio.wait({self._attempt.driver.closed}, timeout=FAREWELL)

    async def _end(self) -> None:
        """DELETE to the gateway, hooks, and the machine as it was."""
        self.stop_renewing()
        told = [attempt.driver.done for attempt in self._leaving]
        await asyncio.gather(self._farewell(), *([asyncio.wait(told, timeout=FAREWELL)] if told else []))
        self._stopping.set()
        if self._hooks is not None:
            await self._hooks.finish(self.session.status)
        self._drop(None)
        for attempt in list(self._leaving):
            self._left(attempt)
        unwatch(self._tun.fileno())
        self.session.end()

    # Another profile

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile from now on."""
        self.profile = profile
        self.session.use(profile)
        if self._hooks is not None:
            self._hooks.use(profile.session.commands)

    def fit(self) -> None:
        """Make the machine fit the profile, where there is a connection; raises PlatformError after rolling back."""
        if self._attempt is not None and self._attempt.established:
            self.session.configure(self._attempt)

    # A new authentication beside the connection in use

    def renew(self) -> bool:
        """Begin a connection that takes the place of the one in use once it is up; false where there is none."""
        if self._stopping.is_set() or self._attempt is None or not self._attempt.established:
            return False
        if self._renewal is None:
            self._renewal = Renewal(
                self._open_aside,
                self._take_over,
                self._report,
                self._renewal_failed,
                self._let_go,
                refusals=self.profile.session.refusals,
            )
        return True

    def stop_renewing(self) -> None:
        """Keep the connection in use."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None

    def _open_aside(self, on_event: Callable[[Event], None]) -> Attempt:
        assert self._attempt is not None
        config = replace(self._config(self._options.timeout), initial_contact=False)
        path = self._attempt.path
        pump = self.session.pump
        # From the same port, since a gateway may tell by it that the inner address is already this client's.
        return Attempt(config, path.remote_address, path.remote_port, pump, on_event, beside=self._attempt)

    def _take_over(self, new: Attempt, events: list[Event]) -> None:
        """Put the new connection in the place of the one in use, which says farewell and goes.

        Raises IkeclientError where the machine cannot be made to fit what the gateway granted this time.
        """
        self.session.prepare(events, new)
        old, self._attempt, self._renewal = self._attempt, new, None
        assert old is not None
        new.take_over(old)
        new.established = True
        self.session.supersede()
        for event in events:
            if not isinstance(event, Progress):
                self._report(new, event)
        self._roaming.established(new, self._addresses())
        self.session.reauthenticated(new)
        self.adoption.connected()
        self._leaving.append(old)
        old.driver.done.add_done_callback(lambda _: self._left(old))
        old.driver.close()

    def _left(self, attempt: Attempt) -> None:
        if attempt in self._leaving:
            self._leaving.remove(attempt)
            any(other.inherit(attempt) for other in self._leaving)
            attempt.release()

    def _renewal_failed(self, error: IkeclientError) -> None:
        if self.adoption.failed(error):
            self.stop_renewing()
        else:
            self.session.emit("notice", text=f"authenticating anew has failed so far: {error.message}")

    # What others report

    def _on_ike(self, data: bytes, source: Address, local: Address) -> bool:
        aside = self._renewal.attempt if self._renewal is not None else None
        taken = False
        for attempt in (self._attempt, aside, *self._leaving):
            if attempt is not None and attempt.receive(data, source, local):
                taken = True
        return taken

    def _report(self, attempt: Attempt, event: Event) -> None:
        if attempt in self._leaving and not isinstance(event, ChildClosed | IkeKeysDerived):
            return
        match event:
            case _ if isinstance(event, PathEvent):
                self._roaming.handle(event, attempt)
                if isinstance(event, Roamed) and self._renewal is not None:
                    self._renewal.restart()  # its socket goes with the path that was left
            case ReauthenticationDue():
                self.renew()
            case _:
                self.session.handle(event, attempt)

    def _on_up(self, error: IkeclientError | None) -> None:
        if self._up.done():
            return
        if error is None:
            assert self._attempt is not None
            self._attempt.established = True
            self._roaming.established(self._attempt, self._addresses())
            self._up.set_result(None)
        else:
            self._up.set_exception(error)

    def _on_waiting(self) -> None:
        if self._attempt is not None and self._attempt.established:
            self._attempt.driver.initiator.make_child(boottime())
            self._attempt.driver.flush()
        elif self._attempt is None and not self._wanted:
            self._wanted = True
            self._wake.set()

    def _on_tun_lost(self) -> None:
        if not self._stopping.is_set() and self.session.reopen_device():
            return
        unwatch(self._tun.fileno())
        self.stop(
            PlatformError(f"the interface {self._tun.name} is gone", reason="somebody deleted it", hint="connect again")
        )
