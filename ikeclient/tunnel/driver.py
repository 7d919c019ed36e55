"""Joins one `Tunnel` to asyncio: what happens goes in, commands and events come out, one timer. It decides nothing.

While the tunnel is asleep, the first packet is to be told of. No packet pays for that: until then its descriptors are
watched with another callback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from ikeclient.control.status import TunnelStatus
from ikeclient.crypto.sign.remote_key import Signature
from ikeclient.dataplane.event_loop import Carry, Pacer, SourceWatch, unwatch, watch
from ikeclient.dataplane.pump import Address, Pump, PumpCallbacks
from ikeclient.errors import IkeclientError, KeyUnavailable
from ikeclient.ike.events import IPAddress
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.watch.snapshot import Change
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.commands import Answer, Command, Lookup, Question, Retype, RunHook, Signing, StopHook
from ikeclient.tunnel.late_modules import load_for
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports, Socket
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.status_events import Publish
from ikeclient.tunnel.tunnel import Tunnel

SLACK = 1e-6  # seconds, so that a timer never comes before its deadline: asyncio rounds, and so do sums of seconds
_Result = TypeVar("_Result")


class TunnelDriver:
    """A tunnel that lives in the running event loop. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, profile: CompiledProfile, options: ConnectOptions, ports: Ports, publish: Publish) -> None:
        load_for(profile)
        self._ports = ports
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._pump = Pump(
            ports.device,
            PumpCallbacks(
                on_ike=self._ike_came,
                on_waiting=self.packet_waits,
                on_device_lost=self.device_lost,
                warn=self.warn,
            ),
            ports.clock,
            entropy=ports.entropy,
            pace=Pacer(),
        )
        self._sockets = WatchedSockets(ports, self._pump, self._hinted, self._traffic)
        ignore = (ports.device.name,) if options.mode == "tun" else ()
        monitor = ports.network.monitor(self._network_changed, ignore)
        self.tunnel = Tunnel(profile, options, ports, self._pump, self._sockets, monitor)
        self._timer: asyncio.TimerHandle | None = None
        self._armed: float | None = None  # what the timer is armed for
        self._carrying_out = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._hook: asyncio.Task[None] | None = None
        self._asked: tuple[Question | Retype, asyncio.Task[None]] | None = None
        self._changed = asyncio.Event()  # something happened that `run` or `adopt` may wait for

    @property
    def session(self) -> Session:
        """The tunnel's data plane, machine and status."""
        return self.tunnel.session

    # Commands of people

    async def run(self) -> None:
        """Connect, and stay connected until stopped. The machine is restored in any case."""
        life = self.tunnel.life
        self._sockets.watch_device()
        try:
            self._enter(self.tunnel.start)
            await self._until(lambda: life.done)
        except asyncio.CancelledError:
            self.stop()
            await self._until(lambda: life.done)
            raise
        finally:
            self._sockets.unwatch_device()
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
        if life.error is not None:
            raise life.error

    def stop(self, error: IkeclientError | None = None) -> None:
        """End the tunnel in order; `error` tells why it cannot go on."""
        self._enter(partial(self.tunnel.stop, error))

    def reconnect(self) -> None:
        """Make a new connection now; the machine's routes stay."""
        self._enter(self.tunnel.reconnect)

    def suspend(self) -> None:
        """Say goodbye to the gateway before the machine sleeps; the machine's routes stay."""
        self._enter(self.tunnel.suspend)

    def resume(self) -> None:
        """Make the connection that `suspend` has ended."""
        self._enter(self.tunnel.resume)

    def renew(self) -> bool:
        """Begin a connection that takes the place of the one in use; false if there is none."""
        return self._enter(self.tunnel.renew)

    async def adopt(self, profile: CompiledProfile) -> None:
        """Go on with another profile. Raises IkeclientError, and then the tunnel goes on as before."""
        load_for(profile)
        task = self._enter(partial(self.tunnel.adopt, profile))
        await self._until(lambda: task.done)
        if task.error is not None:
            raise task.error

    def status(self) -> TunnelStatus:
        """What the tunnel tells about itself."""
        link = self.tunnel.links.established
        now = self.session.snapshot(link.ike.round_trip if link is not None else None)
        if now.totals is not None:
            now = replace(now, totals=replace(now.totals, cpu_ms=round(1000 * time.process_time())))
        return now

    def document(self) -> dict[str, object]:
        """The tunnel's entry in `status --json`."""
        return self.status().to_json()

    def notice(self, text: str) -> None:
        """Tell everybody who listens."""
        self._enter(partial(self.session.events.emit, "notice", text=text))

    def warn(self, text: str) -> None:
        """Tell everybody, and keep it for `status` once."""
        self._enter(partial(self.session.events.warn, text))

    # What happens

    def packet_waits(self) -> None:
        """A packet waits for a Child SA, or for the connection."""
        self._enter(self.tunnel.packet_waits)

    def device_lost(self) -> None:
        """The interface was deleted."""
        if not self._enter(self.tunnel.device_lost):
            self._sockets.unwatch_device()

    def _ike_came(self, data: bytes, source: Address, local: Address) -> bool:
        return self._enter(partial(self.tunnel.receive, data, source, local))

    def _network_changed(self, change: Change) -> None:
        if change.resumed:
            self._armed = None  # the loop's clock has not counted the sleep
        self._enter(partial(self.tunnel.network_changed, change))

    def _hinted(self, hint: PathHint, local: Address) -> None:
        self._loop.call_soon(self._enter, partial(self.tunnel.hinted, hint, local))  # not in the middle of sending

    def _traffic(self) -> None:
        self._enter(self.tunnel.traffic)

    def _expired(self) -> None:
        self._timer = self._armed = None
        self._enter(self.tunnel.handle_timer)

    # What follows

    def _enter(self, call: Callable[[], _Result]) -> _Result:
        """Tell the tunnel that something happened, and carry out what follows, also after an exception."""
        try:
            return call()
        finally:
            self._carry_out()

    def _carry_out(self) -> None:
        if self._carrying_out:
            return  # called from in here; the loop below sees what it caused
        self._carrying_out = True
        try:
            while (events := self.tunnel.events()) or (commands := self.tunnel.commands()):
                for event in events:
                    self._publish(event)
                if not events:
                    for command in commands:
                        self._obey(command)
        finally:
            self._carrying_out = False
            self._take_back()
            self._arm()
            self._sockets.tell_of_traffic(self.tunnel.housekeeping.asleep)
            self._changed.set()

    def _obey(self, command: Command) -> None:
        match command:
            case Lookup():
                self._begin(self._look_up(command))
            case RunHook():
                self._hook = self._begin(self._run_hook(command))
            case StopHook():
                if self._hook is not None:
                    self._hook.cancel()
            case Question():
                self._asked = (command, self._begin(self._ask(command)))
            case Retype():
                self._asked = (command, self._begin(self._ask_again(command)))
            case Signing():
                self._begin(self._sign(command))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._carried_out)
        return task

    def _carried_out(self, task: asyncio.Task[None]) -> None:
        """Tell the loop of a command that failed in a way that is no answer: the tunnel would wait for ever."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a command of the tunnel failed", "exception": error, "handle": None}
            self._loop.call_exception_handler(context)

    async def _look_up(self, lookup: Lookup) -> None:
        try:
            answer = await self._ports.resolve(lookup.hosts, lookup.port)
        except IkeclientError as error:
            self._enter(partial(self.tunnel.resolved, lookup, error))
        else:
            self._enter(partial(self.tunnel.resolved, lookup, answer))

    async def _run_hook(self, hook: RunHook) -> None:
        problem = None
        run: Callable[..., Awaitable[str | None]] | None = self._ports.run_hook
        try:
            problem = await run(hook.reason, hook.command, hook.variables) if run is not None else None
        finally:
            self._enter(partial(self.tunnel.hook_ended, problem))

    async def _ask(self, question: Question) -> None:
        ask = self._ports.source(question.need.kind)
        assert ask is not None
        try:
            answer: Answer = await ask(question.need.request)
        except IkeclientError as error:
            answer = error
        self._enter(partial(self.tunnel.answered, question, answer))

    async def _ask_again(self, retype: Retype) -> None:
        assert self._ports.ask is not None
        try:
            answer: str | IkeclientError = await self._ports.ask(retype.prompt)
        except IkeclientError as error:
            answer = error
        self._enter(partial(self.tunnel.retyped, retype, answer))

    async def _sign(self, signing: Signing) -> None:
        try:
            if self._ports.sign is None:
                raise KeyUnavailable(
                    f"{signing.request.key.place} cannot be asked for a signature",
                    reason="this tunnel was started without a process that signs",
                    hint="disconnect and connect again",
                )
            answer: Signature | IkeclientError = await self._ports.sign(signing.request)
        except IkeclientError as error:
            answer = error
        self._enter(partial(self.tunnel.answered, signing, answer))

    def _take_back(self) -> None:
        """Take a question back that nobody waits for any more."""
        if self._asked is not None and not self._asked[0].open:
            self._asked[1].cancel()
            self._asked = None

    def _arm(self) -> None:
        """Arm the timer, if the deadline is another one; the loop's own clock only decides when to look again."""
        deadline = self.tunnel.deadline
        if deadline == self._armed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._armed = None, deadline
        if deadline is not None:
            self._timer = self._loop.call_later(max(0.0, deadline - self._ports.clock()) + SLACK, self._expired)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class WatchedSockets:
    """Opens sockets and watches them and the device; tells of hints, and of traffic while that is wanted."""

    def __init__(
        self,
        ports: Ports,
        pump: Pump,
        on_hint: Callable[[PathHint, Address], None],
        on_traffic: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._pump = pump
        self._on_hint = on_hint
        self._on_traffic = on_traffic
        self._sockets: list[Socket] = []
        self._device = False
        self._source: SourceWatch | None = None
        self._telling = False

    def open(self, local: IPAddress) -> Socket:
        """A socket bound to `local`. Raises PlatformError if this machine does not have that address."""

        def heard(hint: PathHint) -> None:
            self._on_hint(hint, socket.local)

        socket = self._ports.network.open(local, heard)
        self._sockets.append(socket)
        self._watch(socket)
        return socket

    def close(self, socket: Socket) -> None:
        """Stop watching a socket, and close it."""
        self._sockets.remove(socket)
        self._ports.network.close(socket)

    def watch_device(self) -> None:
        """Carry packets from the device."""
        self._device = True
        carry = self._carry(self._pump.drain_tun)
        source = self._ports.device.source()
        if source is None:
            relay = None if self._telling else self._pump.relay
            watch(self._ports.device.fileno(), carry, relay=relay)
            return
        if self._source is not None:
            self._source.close()
        self._source = SourceWatch(source, carry)

    def unwatch_device(self) -> None:
        """Leave packets where they are."""
        if self._device:
            self._device = False
            if self._source is not None:
                self._source.close()
            else:
                unwatch(self._ports.device.fileno())

    def tell_of_traffic(self, wanted: bool) -> None:
        """Tell of the next packet, or of none."""
        if wanted == self._telling:
            return
        self._telling = wanted
        if self._device:
            self.watch_device()
        for socket in self._sockets:
            self._watch(socket)

    def _watch(self, socket: Socket) -> None:
        carry = self._carry(partial(self._pump.drain_udp, socket))
        self._ports.network.watch(socket, carry, self._pump.wants_delay)

    def _carry(self, drain: Callable[[bool], int]) -> Carry:
        return partial(self._carry_and_tell, drain) if self._telling else drain

    def _carry_and_tell(self, drain: Callable[[bool], int], again: bool) -> None:
        pump = self._pump
        before = pump.last_inbound, pump.last_outbound
        drain(again)
        if (pump.last_inbound, pump.last_outbound) != before:
            self._on_traffic()
