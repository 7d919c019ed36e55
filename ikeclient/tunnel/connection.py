"""One tunnel from start to end: connect, stay connected, connect again, and leave the machine as it was.

The TUN device and the routes stay while a lost connection is made again, so that nothing leaves past the tunnel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from ikeclient.dataplane.event_loop import unwatch, watch
from ikeclient.dataplane.pump import Address
from ikeclient.errors import AuthenticationFailed, IkeclientError, NoResponse, PlatformError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import (
    Event,
    IPAddress,
    PathEvent,
    Progress,
    ReauthenticationDue,
    Roamed,
)
from ikeclient.ike.v2.close_reasons import EndedByGateway
from ikeclient.profile.compile import CompiledProfile
from ikeclient.tunnel import protocol_log
from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.gateway import Gateway
from ikeclient.tunnel.hooks import Hooks
from ikeclient.tunnel.housekeeping import Housekeeping
from ikeclient.tunnel.link import Link, is_final
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports
from ikeclient.tunnel.reauthentication import Reauthentication
from ikeclient.tunnel.reconfigure import Reconfiguration
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.retries import IDLE, Retries
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.state import Input
from ikeclient.tunnel.status_events import Publish
from ikeclient.tunnel.wakeups import Wakeup, Wakeups

DELETE_TIMEOUT = 1.5  # the longest that a DELETE may hold up the end: with the rest it shall be less than two seconds


class Failure(NamedTuple):
    """An attempt to connect that failed; `proven` is whether its gateway had proven its identity before."""

    error: IkeclientError
    proven: bool = False


class Connection:
    """A tunnel that lives in the running event loop. `run` returns after `stop`, or raises what ended it."""

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        ports: Ports,
        publish: Publish,
    ) -> None:
        self.profile = profile
        self._options = options
        self._ports = ports
        self._wakeups = Wakeups(ports.clock)
        self.gateway = Gateway()
        self.links = Links()
        self.reconfiguration = Reconfiguration(self)
        self._up: asyncio.Future[IkeclientError | None] = asyncio.get_running_loop().create_future()
        self._publish = publish
        self.session = Session(profile, options, ports, self._tell, self)
        run = ports.run_hook
        self._hooks = Hooks(profile.session.commands, self.session.events, run) if run is not None else None
        self._roaming = Roaming(self.links, self.session, lambda: self._wakeups.give(Wakeup.NETWORK))
        data_keeper = DataKeeper(self.session, self.reconnect)
        self._housekeeping = Housekeeping(self.session, self._roaming, data_keeper)

    def _tell(self, event: dict[str, object]) -> None:
        self._publish(event)
        if self._hooks is not None:
            self._hooks.tell(str(event["event"]), self.session.status)

    # Control

    def stop(self, error: IkeclientError | None = None) -> None:
        """End the tunnel in order; `error` tells why it cannot go on."""
        self._wakeups.stop(error)
        self.session.status.happens(Input.CLOSE)
        if self.links.current is not None:
            self.links.current.driver.close()

    def reconnect(self) -> None:
        """End the connection with a DELETE and make a new one, or make it now; the machine's routes stay."""
        self._wakeups.give(Wakeup.COMMAND)
        if self.links.current is not None and not self._wakeups.stopping:
            self.links.current.driver.close()

    def document(self) -> dict[str, object]:
        """The tunnel's entry in `status --json`."""
        return self.session.snapshot().to_json()

    # Life

    async def run(self) -> None:
        """Connect, and stay connected until stopped. The machine is restored in any case."""
        self.session.status.happens(Input.START)
        watch(self._ports.device.fileno(), self.session.pump.drain_tun)
        self._roaming.start()
        try:
            await self._first()
            await self._stay()
        except IkeclientError as error:
            self.session.status.last_error = error.message
            raise
        finally:
            self._housekeeping.end()
            self._roaming.close()
            await self._end()

    async def _first(self) -> None:
        """Make the first connection: try each address of the gateway in turn, within one time limit.

        An address has its share of that time to answer; a login that has probably arrived has all that is left, because
        another one elsewhere would be a second login. What is told in the end is the first error that says more than
        that nobody answered.
        """
        deadline = self._ports.clock() + self._options.timeout
        addresses = self.gateway.known = await self._resolve()
        self.session.status.happens(Input.RESOLVED)
        told: IkeclientError | None = None
        for index, (host, address) in enumerate(addresses):
            left = max(deadline - self._ports.clock(), 1.0)
            failure = await self._connect(host, address, left / (len(addresses) - index), login=left)
            if self._wakeups.stopping:
                return
            if failure is None:
                self.gateway.prefer(host, address)
                return
            error = failure.error
            if told is None or isinstance(told, NoResponse):
                told = error
            if is_final(error, proven=failure.proven):
                raise error
            if index == len(addresses) - 1:
                raise told
            self.session.events.emit("notice", text=f"{address}: {error.message}")

    async def _stay(self) -> None:
        """Wait for the end of each connection and make the next one, for as long as the profile wants."""
        clock, wakeups = self._ports.clock, self._wakeups
        retries = Retries(self._ports.entropy)
        retries.up(clock())
        await self.reconfiguration.catch_up()
        while not wakeups.stopping:
            if self.links.current is not None:
                error = await self._over()
                self._drop(error)
                retries.lost(clock(), idle=isinstance(error, EndedByGateway) and self.session.quiet_for(IDLE))
                if self.profile.session.retry == 0 and not (wakeups.given(Wakeup.COMMAND) or wakeups.stopping):
                    raise error or NoResponse("the connection ended")
            await self._pause(retries)
            if wakeups.stopping:
                break
            failure = await self._try_again(retries.failures)
            if failure is None:
                retries.up(clock())
                self.reconfiguration.connected()
            elif self.reconfiguration.failed(failure.error):
                wakeups.give(Wakeup.COMMAND)
            else:
                self._failed(failure, retries)
        if wakeups.error is not None:
            raise wakeups.error

    def _failed(self, failure: Failure, retries: Retries) -> None:
        """Take note of an attempt that failed; raises the error that ends the tunnel, if this was the last one."""
        error, session = failure.error, self.profile.session
        retries.failed(error, proven=failure.proven)
        self.session.status.last_error = error.message
        self.session.events.emit("reconnecting", error=error.lines())
        final = retries.over(error, attempts=session.retry, refusals=session.refusals)
        if final is not None:
            raise final

    async def _over(self) -> IkeclientError | None:
        """Wait until no link is left, and return why; a reauthentication may have put another in its place."""
        while True:
            link = self.links.current
            assert link is not None
            error = (await link.driver.closed).error
            reauthentication = self.links.reauthentication
            if link is self.links.current and reauthentication is not None and not self._wakeups.stopping:
                await reauthentication.last_chance()
            if link is self.links.current:
                return error

    async def _pause(self, retries: Retries) -> None:
        """Wait until the next attempt is due, or until something makes one worth while sooner.

        A patient pause only gives way to a command.
        """
        wakeups = self._wakeups
        if retries.on_demand and not wakeups.given(Wakeup.COMMAND):
            self.session.wait_for_packets()
            wakeups.take(Wakeup.PACKET)
            await wakeups.wait(Wakeup.PACKET, Wakeup.COMMAND)
        if not wakeups.given(Wakeup.COMMAND):
            wakeups.take(Wakeup.NETWORK)
            sooner = (Wakeup.COMMAND,) if retries.patient else (Wakeup.COMMAND, Wakeup.NETWORK)
            await wakeups.wait(*sooner, seconds=retries.pause())
        wakeups.take(Wakeup.COMMAND)

    async def _try_again(self, failures: int) -> Failure | None:
        """Connect again: to the address that worked, then to the others in turn, with the name resolved anew.

        The name server may be behind the tunnel that is down, so addresses that were found before stay good.
        """
        self.session.started = self._ports.clock()
        if failures:
            try:
                self.gateway.known = await self._resolve() or self.gateway.known
            except NoResponse as error:
                self.session.events.emit("notice", text=error.message)
        if self._wakeups.stopping:
            return None
        known = self.gateway.known
        failure = await self._connect(*known[failures % len(known)], self._options.timeout)
        if failure is None:
            self.session.status.reconnects += 1
        return failure

    async def _resolve(self) -> Known:
        self.session.events.emit("resolving", host=", ".join(self.profile.gateways))
        answer = self._ports.resolve(self.profile.gateways, self.profile.port)
        return await self._wakeups.unless_stopped(answer) or []

    async def _connect(self, host: str, remote: IPAddress, within: float, *, login: float = 0.0) -> Failure | None:
        """Bring up one connection; returns when packets flow, `stop` was called, or it failed.

        It may take `within` seconds, or `login` if that is more and the gateway works on a login of ours.
        """
        self.session.status.gateway_address = str(remote)
        self._up = asyncio.get_running_loop().create_future()
        self.gateway.host = host
        config = self._config(within)
        config = replace(config, timing=replace(config.timing, login_timeout=login))
        try:
            link = Link(
                config,
                remote,
                self.profile.port,
                self.session.pump,
                lambda event: self.report(link, event),
                self._ports,
            )
        except IkeclientError as error:
            return Failure(error)
        self.links.current = link
        link.start()
        ends: list[asyncio.Future[Any]] = [self._up, link.driver.closed]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._up.done():
            problem = self._up.result()
            if problem is not None:
                await self._delete()
                self._drop(None)
                return Failure(problem)
            self.gateway.accepted = link.driver.initiator.accepted
            return None
        reason = link.driver.closed.result().error
        if isinstance(reason, AuthenticationFailed):
            self.gateway.accepted = None
        self._drop(reason)
        if self._wakeups.stopping:
            return None
        # Anybody on the path can refuse in the gateway's name; only the gateway itself can end a tunnel that was up.
        proven = link.driver.initiator.refused_by_gateway
        return Failure(reason or NoResponse("the connection ended before it was up"), proven)

    def _config(self, timeout: float) -> IkeConfig:
        config = self.gateway.config(self.profile)
        return replace(
            config,
            timing=replace(config.timing, timeout=timeout),
            disclose_keys=self.session.disclosing,
            child=replace(config.child, addresses=self.session.status.configuration.addresses),
        )

    def _drop(self, error: IkeclientError | None) -> None:
        """Forget the connection that is over; routes and device stay."""
        self.links.stop_reauthenticating()
        self._housekeeping.end()
        link, self.links.current = self.links.current, None
        if link is not None:
            self.links.leave(link)
        self.session.lose(error)

    async def _delete(self) -> None:
        if self.links.current is not None:
            self.links.current.driver.close()
            await asyncio.wait({self.links.current.driver.closed}, timeout=DELETE_TIMEOUT)

    async def _end(self) -> None:
        """Send the DELETE, finish the hooks, and leave the machine as it was."""
        self.session.status.happens(Input.CLOSE)
        self.links.stop_reauthenticating()
        told = [link.driver.done for link in self.links.leaving]
        await asyncio.gather(self._delete(), *([asyncio.wait(told, timeout=DELETE_TIMEOUT)] if told else []))
        self._wakeups.stop()
        if self._hooks is not None:
            await self._hooks.finish(self.session.status)
        self._drop(None)
        for link in list(self.links.leaving):
            self.links.release(link)
        unwatch(self._ports.device.fileno())
        self.session.end()

    # Another profile

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile from now on."""
        self.profile = profile
        self.session.use(profile)
        if self._hooks is not None:
            self._hooks.use(profile.session.commands)

    def fit(self) -> None:
        """Make the machine fit the profile, if a link is up; raises PlatformError after rolling back."""
        if self.links.established is not None:
            self.session.configure(self.links.established)

    # A new authentication in parallel to the connection in use

    def renew(self) -> bool:
        """Begin a connection that takes the place of the one in use once it is up; false if there is none."""
        if self._wakeups.stopping or self.links.established is None:
            return False
        if self.links.reauthentication is None:
            self.links.reauthentication = Reauthentication(self, refusals=self.profile.session.refusals)
        return True

    def open_parallel(self, on_event: Callable[[Event], None]) -> Link:
        """Open a link beside the one in use, on its socket."""
        current = self.links.current
        assert current is not None
        config = replace(self._config(self._options.timeout), initial_contact=False)
        path, pump = current.path, self.session.pump
        # From the same port, since a gateway may tell by it that the inner address is already this client's.
        return Link(config, path.remote_address, path.remote_port, pump, on_event, self._ports, parallel_to=current)

    def take_over(self, new: Link, events: list[Event]) -> None:
        """Put the new connection in the place of the one in use, which sends its DELETE and goes.

        Raises IkeclientError if the machine cannot be made to fit what the gateway granted this time.
        """
        self.session.prepare(events, new)
        old = self.links.replace(new)
        self.session.supersede()
        for event in events:
            if not isinstance(event, Progress):
                self.report(new, event)
        self._look_after(new)
        self.session.reauthenticated(new)
        self.reconfiguration.connected()
        self.links.leave(old)
        old.driver.close()

    def reauthentication_failed(self, error: IkeclientError) -> None:
        """Go back to the former profile if this one was new; else the link in use goes on."""
        if self.reconfiguration.failed(error):
            self.links.stop_reauthenticating()
        else:
            self.session.events.emit("notice", text=f"authenticating anew has failed so far: {error.message}")

    # What others report

    def report(self, link: Link, event: Event) -> None:
        """Hand an event of a link to what it is about."""
        protocol_log.event(event)
        if not self.links.concerns(link, event):
            return
        match event:
            case _ if isinstance(event, PathEvent):
                self._roaming.handle(event, link)
                if isinstance(event, Roamed) and self.links.reauthentication is not None:
                    self.links.reauthentication.restart()  # its socket goes with the path that was left
            case ReauthenticationDue():
                self.renew()
            case _:
                self.session.handle(event, link)

    def leave(self, link: Link) -> None:
        """Keep a link that was given up until the gateway knows that it is."""
        self.links.leave(link)

    def _look_after(self, link: Link) -> None:
        """Follow the machine's network with a link that is up, and keep it working."""
        self._roaming.established(link, self.gateway.addresses)
        self._housekeeping.begin(link)

    def on_ike(self, data: bytes, source: Address, local: Address) -> bool:
        """Hand an IKE message to the links that wait for it; whether there is one."""
        return self.links.receive(data, source, local)

    def on_up(self, error: IkeclientError | None) -> None:
        """End the wait for the link that is being opened, which is up or failed with `error`."""
        if self._up.done():
            return
        if error is None:
            link = self.links.current
            assert link is not None
            link.established = True
            self._look_after(link)
        self._up.set_result(error)

    def on_waiting(self) -> None:
        """Make what a packet waits for: a Child SA, or the connection."""
        if (link := self.links.established) is not None:
            link.driver.initiator.make_child(self._ports.clock())
            link.driver.flush()
        elif self.links.current is None:
            self._wakeups.give(Wakeup.PACKET)

    def on_device_lost(self) -> None:
        """Make the interface again that was deleted, or end the tunnel."""
        device = self._ports.device
        if not self._wakeups.stopping and self.session.arrangement.reopen_device():
            return
        unwatch(device.fileno())
        self.stop(
            PlatformError(f"the interface {device.name} is gone", reason="somebody deleted it", hint="connect again")
        )
