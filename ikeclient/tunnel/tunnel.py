"""One tunnel from start to end, without an event loop: connect, stay connected, connect again, restore the machine.

Everything that happens is a call: a message, a change of the network, a command, a timer, an answer. Each call does at
once what follows from it. What has an outcome to wait for is then among the `commands`, what is to be told among the
`events`, and `deadline` says when to call `handle_timer`. `driver` carries that out with asyncio.

The TUN device and the routes stay while a lost connection is made again, so that nothing leaves past the tunnel.
"""

from __future__ import annotations

from collections.abc import Sequence

from ikeclient.dataplane.pump import Address, Pump
from ikeclient.errors import IkeclientError, NoResponse, PlatformError
from ikeclient.ike.events import Event, Need, NeedKind, PathEvent, Progress, ReauthenticationDue, Roamed
from ikeclient.ike.v2.close_reasons import EndedByGateway
from ikeclient.net.transport.icmp_errors import PathHint
from ikeclient.net.watch.snapshot import Change
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel import protocol_log
from ikeclient.tunnel.commands import Answer, Command, Lookup, Question, Retype, Signing
from ikeclient.tunnel.connecting import DELETE_TIMEOUT, Connecting, Failure
from ikeclient.tunnel.data_keeper import DataKeeper
from ikeclient.tunnel.gateway import Gateway
from ikeclient.tunnel.hooks import Commands, Hooks
from ikeclient.tunnel.housekeeping import Housekeeping
from ikeclient.tunnel.link import Link
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Monitor, Ports, Sockets
from ikeclient.tunnel.reauthentication import Reauthentication
from ikeclient.tunnel.reconfigure import Reconfiguration
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.retries import IDLE, Retries
from ikeclient.tunnel.roaming import Roaming
from ikeclient.tunnel.script import Script, Task, Wait
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.state import Input
from ikeclient.tunnel.wakeups import Wakeup, Wakeups

FALLING_ASLEEP = 30.0  # seconds of being awake after which a sleep that was announced has not come
_NO_HOOKS: Commands = {"up": (), "down": ()}


class Tunnel:
    """A tunnel that is over once its `life` is; `life.error` then tells why, None after a stop."""

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        ports: Ports,
        pump: Pump,
        sockets: Sockets,
        monitor: Monitor,
    ) -> None:
        self._commands: list[Command] = []
        self._heard = 0  # how many of the events the hooks have heard
        self.session = Session(profile, options, ports, pump, [])
        self.links = Links(ports, pump, sockets)
        self._wakeups = Wakeups()
        self._hooks = Hooks(profile.session.commands if ports.run_hook is not None else _NO_HOOKS)
        self._connecting = Connecting(self.session, self.links, self._wakeups, self._commands, options)
        self.roaming = Roaming(self.links, self.session, monitor)
        self.housekeeping = Housekeeping(self.session, self.roaming, DataKeeper(self.session, self._wakeups))
        self.reauthentication: Reauthentication | None = None
        self._reconfiguration = Reconfiguration(self)
        self.life = Task(self._live())
        self._tasks = [self.life]
        self._settling = False

    def now(self) -> float:
        """The time, in seconds on a clock that counts sleep."""
        return self.session.ports.clock()

    @property
    def gateway(self) -> Gateway:
        """What is known about the gateway."""
        return self._connecting.gateway

    # Commands of people

    def start(self) -> None:
        """Begin to connect."""
        self.session.status.life.happens(Input.START)
        self.roaming.start()
        self.settle()

    def stop(self, error: IkeclientError | None = None) -> None:
        """End the tunnel in order; `error` tells why it cannot go on."""
        self._wakeups.stop(error)
        self.session.status.life.happens(Input.CLOSE)
        if self.links.current is not None:
            self.links.current.close()
        self.settle()

    def reconnect(self) -> None:
        """End the connection with a DELETE and make a new one, or make it now; the machine's routes stay."""
        self._wakeups.give(Wakeup.COMMAND)
        if self.links.current is not None and not self._wakeups.stopping:
            self.links.current.close()
        self.settle()

    def suspend(self) -> None:
        """End the connection with a DELETE, because the machine is about to sleep; the machine's routes stay.

        It is made again after `resume`, or once the machine has been awake for a while: the sleep may not have come.
        """
        if self.links.established is not None and not self._wakeups.stopping:
            self._wakeups.give(Wakeup.SLEEP)
            self.links.established.close()
        self.settle()

    def resume(self) -> None:
        """The machine is awake: make the connection now that `suspend` has ended."""
        if self._wakeups.given(Wakeup.SLEEP):
            self._wakeups.give(Wakeup.COMMAND)
        self.settle()

    def adopt(self, profile: CompiledProfile) -> Task:
        """Go on with another profile; the task's error tells why the tunnel keeps the one it has."""
        task = Task(self._reconfiguration.adopt(profile))
        self._tasks.append(task)
        self.settle()
        return task

    def renew(self) -> bool:
        """Begin a connection that takes the place of the one in use once it is up; false if there is none."""
        if self._wakeups.stopping or self.links.established is None:
            return False
        if self.reauthentication is None:
            self.reauthentication = Reauthentication(self, refusals=self.session.profile.session.refusals)
        self.settle()
        return True

    # What happens

    def receive(self, data: bytes, source: Address, local: Address) -> bool:
        """Hand an IKE message to the links that wait for it; whether there is one."""
        taken = [link.receive(data, source, local) for link in self.links]
        if any(taken):
            self.settle()
        return any(taken)

    def network_changed(self, change: Change) -> None:
        """Follow the machine's network."""
        self._wakeups.give(Wakeup.NETWORK)
        self.roaming.changed(change)
        self.settle()

    def hinted(self, hint: PathHint, local: Address) -> None:
        """Take what a router or the kernel says about the path of a socket."""
        link = self.links.established
        if link is not None and link.owns(local):
            self.roaming.path_mtu.hint(hint, link)
            self.settle()

    def packet_waits(self) -> None:
        """Make what a packet waits for: a Child SA, or the connection."""
        if (link := self.links.established) is not None:
            link.ike.make_child(self.now())
        elif self.links.current is None:
            self._wakeups.give(Wakeup.PACKET)
        self.settle()

    def traffic(self) -> None:
        """Packets pass again: look at what becomes of them."""
        self.housekeeping.traffic()

    def device_lost(self) -> bool:
        """Make the interface again that was deleted, or end the tunnel; whether it was made again."""
        device = self.session.ports.device
        made = not self._wakeups.stopping and self.session.arrangement.reopen_device()
        if not made:
            self.stop(
                PlatformError(
                    f"the interface {device.name} is gone", reason="somebody deleted it", hint="connect again"
                )
            )
        self.settle()
        return made

    def resolved(self, lookup: Lookup, answer: Known | IkeclientError) -> None:
        """Take the outcome of a `Lookup`."""
        lookup.answer(answer)
        self.settle()

    def answered(self, question: Question | Signing, answer: Answer) -> None:
        """Take the outcome of a `Question` or a `Signing`."""
        question.link.answer(question.need, answer)
        self.settle()

    def retyped(self, retype: Retype, answer: str | IkeclientError) -> None:
        """Take the outcome of a `Retype`."""
        retype.answer(answer)
        self.settle()

    def hook_ended(self, problem: str | None) -> None:
        """Take the outcome of a `RunHook`, None if there was no problem."""
        if (warning := self._hooks.ended(problem)) is not None:
            self.session.events.warn(warning)
        self.settle()

    def handle_timer(self) -> None:
        """Do what is due."""
        now = self.now()
        for link in self.links:
            link.handle_timer(now)
        self.session.handle_timer(now)
        self.housekeeping.handle_timer(now)
        self.settle()

    # What follows

    def commands(self) -> list[Command]:
        """Take what is to be done."""
        taken = list(self._commands)
        self._commands.clear()
        return taken

    def events(self) -> Sequence[dict[str, object]]:
        """Take what is to be told."""
        self._heard = 0
        return self.session.events.take()

    @property
    def deadline(self) -> float | None:
        """When to call `handle_timer` at the latest."""
        deadlines = [link.deadline for link in self.links]
        deadlines += [task.deadline for task in self._running()]
        deadlines += [self.session.deadline, self.housekeeping.deadline]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _running(self) -> list[Task]:
        return [*self._tasks, self.reauthentication.task] if self.reauthentication is not None else [*self._tasks]

    def settle(self) -> None:
        """Deliver events and go on with whatever waited for them, until nothing is left to do."""
        if self._settling:
            return  # called from in here; the loop below sees what it caused
        self._settling = True
        try:
            self._tell_hooks()
            while self._deliver() or self._go_on():
                self._tell_hooks()
        finally:
            self._settling = False
        self.housekeeping.stir()

    def _deliver(self) -> bool:
        """Send what the links have to send and hand over one event of each; whether there was one."""
        delivered = False
        for link in list(self.links):
            link.send()
            if (event := link.next_event()) is not None:
                delivered = True
                protocol_log.event(event)
                self._report(link, event)
        self.links.tidy()
        return delivered

    def _go_on(self) -> bool:
        """Run the tasks; whether one went on."""
        went_on = False
        for task in self._running():
            went_on |= task.run(self.now())
            if task.error is not None and not isinstance(task.error, IkeclientError) and task is not self.life:
                raise task.error
        self._tasks = [task for task in self._tasks if not task.done]
        return went_on

    def _tell_hooks(self) -> None:
        events = self.session.events.untold
        for event in events[self._heard :]:
            self._hooks.tell(str(event["event"]), self.session.status)
        self._heard = len(events)
        while (hook := self._hooks.due()) is not None:
            self._commands.append(hook)

    def _report(self, link: Link, event: Event) -> None:
        """Hand an event of a link to what it is about."""
        if isinstance(event, Need):
            if event.to_sign is not None:
                self._commands.append(Signing(link=link, need=event, request=event.to_sign))
            elif self.session.ports.source(event.kind) is not None:
                if event.kind is NeedKind.PASSWORD:
                    self._connecting.person_asked()
                self._commands.append(Question(link=link, need=event))
            return
        if self.reauthentication is not None and link is self.reauthentication.link:
            self.reauthentication.heard(event)
            return
        if not self.links.concerns(link, event):
            return
        match event:
            case _ if isinstance(event, PathEvent):
                self.roaming.handle(event, link)
                if isinstance(event, Roamed) and self.reauthentication is not None:
                    self.reauthentication.restart()  # its socket goes with the path that was left
            case ReauthenticationDue():
                self.renew()
            case _:
                was_up = link.established
                self.session.handle(event, link)
                if link.established and not was_up:
                    self._look_after(link)

    def _look_after(self, link: Link) -> None:
        """Follow the machine's network with a link that is up, and keep it working."""
        self.roaming.established(link, self.gateway.addresses)
        self.housekeeping.begin(link)

    # Life

    def _live(self) -> Script[None]:
        """Connect, and stay connected until stopped. The machine is restored in any case, even after a bug."""
        ended_by: Exception | None = None
        try:
            yield from self._connecting.first()
            yield from self._stay()
        except IkeclientError as error:
            self.session.status.problems.failed(error)
            ended_by = error
        except Exception as error:
            ended_by = error
        if isinstance(ended_by, IkeclientError) and self.session.ports.switch.closed:
            self.session.status.life.happens(Input.GIVE_UP)
        self.housekeeping.end()
        self.roaming.close()
        yield from self._end()
        if ended_by is not None:
            raise ended_by

    def _stay(self) -> Script[None]:
        """Wait for the end of each connection and make the next one, for as long as the profile wants."""
        wakeups = self._wakeups
        retries = Retries(self.session.ports.entropy)
        retries.up(self.now())
        yield from self._reconfiguration.catch_up()
        while not wakeups.stopping:
            if self.links.current is not None:
                error = yield from self._over()
                self._drop(error)
                retries.lost(self.now(), idle=isinstance(error, EndedByGateway) and self.session.quiet_for(IDLE))
                if self.session.profile.session.retry == 0 and not wakeups.given(
                    Wakeup.COMMAND, Wakeup.STOP, Wakeup.SLEEP
                ):
                    raise error or NoResponse("the connection ended")
            yield from self._pause(retries)
            if wakeups.stopping:
                break
            failure = yield from self._connecting.again(retries.failures)
            if failure is None:
                retries.up(self.now())
                self._reconfiguration.connected()
            elif self._reconfiguration.failed(failure.error):
                wakeups.give(Wakeup.COMMAND)
            else:
                self._failed(failure, retries)
        if wakeups.error is not None:
            raise wakeups.error

    def _failed(self, failure: Failure, retries: Retries) -> None:
        """Take note of an attempt that failed; raises the error that ends the tunnel, if this was the last one."""
        error, session = failure.error, self.session.profile.session
        retries.failed(error, proven=failure.proven)
        self.session.status.problems.failed(error)
        self.session.events.emit("reconnecting", error=error.lines())
        final = retries.over(error, attempts=session.retry, refusals=session.refusals)
        if final is not None:
            raise final

    def _over(self) -> Script[IkeclientError | None]:
        """Wait until no link is left, and return why; a reauthentication may have put another in its place."""
        while True:
            link = self.links.current
            assert link is not None
            yield Wait(lambda link=link: link.closed is not None)  # type: ignore[misc]
            if link is self.links.current and self.reauthentication is not None and not self._wakeups.stopping:
                yield from self.reauthentication.last_chance()
            if link is self.links.current:
                return link.closed.error if link.closed is not None else None

    def _pause(self, retries: Retries) -> Script[None]:
        """Wait until the next attempt is due, or until something makes one worth while sooner.

        A patient pause only gives way to a command.
        """
        wakeups = self._wakeups
        if wakeups.given(Wakeup.SLEEP):
            yield Wait(lambda: wakeups.given(Wakeup.COMMAND, Wakeup.STOP), self.now() + FALLING_ASLEEP)
            wakeups.take(Wakeup.SLEEP)
            wakeups.take(Wakeup.COMMAND)
            return
        if retries.on_demand and not wakeups.given(Wakeup.COMMAND):
            self.session.wait_for_packets()
            wakeups.take(Wakeup.PACKET)
            yield Wait(lambda: wakeups.given(Wakeup.PACKET, Wakeup.COMMAND, Wakeup.STOP))
        if not wakeups.given(Wakeup.COMMAND):
            wakeups.take(Wakeup.NETWORK)
            sooner = {Wakeup.COMMAND, Wakeup.STOP} | (set() if retries.patient else {Wakeup.NETWORK})
            yield Wait(lambda: wakeups.given(*sooner), self.now() + retries.pause())
        wakeups.take(Wakeup.COMMAND)

    def _drop(self, error: IkeclientError | None) -> None:
        """Forget the connection that is over; routes and device stay."""
        self.stop_reauthenticating()
        self.housekeeping.end()
        self._connecting.drop(error)

    def _end(self) -> Script[None]:
        """Send the DELETE, finish the hooks, and leave the machine as it was."""
        self.session.status.life.happens(Input.CLOSE)
        self.stop_reauthenticating()
        current, leaving = self.links.current, list(self.links.leaving)
        if current is not None:
            current.close()
        yield Wait(
            lambda: (current is None or current.closed is not None) and all(link.done for link in leaving),
            self.now() + DELETE_TIMEOUT,
        )
        self._wakeups.stop()
        self._tell_hooks()
        self._hooks.finish(self.session.status)
        yield Wait(lambda: self._hooks.idle)
        self._drop(None)
        for link in list(self.links.leaving):
            self.links.release(link)
        self.session.end()

    # Another profile

    def look_up(self, profile: CompiledProfile) -> Script[Known]:
        """Find the addresses of the profile's gateways. Raises NoResponse."""
        return self._connecting.look_up(profile)

    def use(self, profile: CompiledProfile) -> None:
        """Go on with another profile from now on."""
        self.session.use(profile)
        if self.session.ports.run_hook is not None:
            self._hooks.use(profile.session.commands)

    def fit(self) -> None:
        """Make the machine fit the profile, if a link is up; raises PlatformError after rolling back."""
        if self.links.established is not None:
            self.session.configure(self.links.established)

    # A new authentication in parallel to the connection in use

    def open_parallel(self) -> Link:
        """Open a link beside the one in use, on its socket."""
        return self.links.open_parallel(self._connecting.parallel_config())

    def stop_reauthenticating(self) -> None:
        """Keep the link in use."""
        if self.reauthentication is not None:
            self.reauthentication.cancel()
            self.reauthentication = None

    def take_over(self, new: Link, events: Sequence[Event]) -> None:
        """Put the new connection in the place of the one in use, which sends its DELETE and goes.

        Raises IkeclientError if the machine cannot be made to fit what the gateway granted this time.
        """
        self.session.prepare(events, new)
        self.reauthentication = None
        old = self.links.replace(new)
        self.session.supersede()
        for event in events:
            if not isinstance(event, Progress):
                self._report(new, event)
        self._look_after(new)
        self.session.reauthenticated(new)
        self._reconfiguration.connected()
        self.links.leave(old)
        old.close()

    def reauthentication_failed(self, error: IkeclientError) -> None:
        """Go back to the former profile if this one was new; else the link in use goes on."""
        if self._reconfiguration.failed(error):
            self.stop_reauthenticating()
        else:
            self.session.events.emit("notice", text=f"authenticating anew has failed so far: {error.message}")

    def leave(self, link: Link) -> None:
        """Keep a link that was given up until the gateway knows that it is."""
        self.links.leave(link)
