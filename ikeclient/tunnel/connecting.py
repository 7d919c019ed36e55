"""Opens a link to the gateway and waits until it is up: the first one of a tunnel, and each one after a loss."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ikeclient.errors import AuthenticationFailed, IkeclientError, NoNetwork, NoResponse
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IPAddress
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.tunnel.commands import Command, Lookup, Retype
from ikeclient.tunnel.gateway import Gateway
from ikeclient.tunnel.link import is_final
from ikeclient.tunnel.links import Links
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.retries import Retries, may_pass
from ikeclient.tunnel.script import Script, Wait
from ikeclient.tunnel.session import Session
from ikeclient.tunnel.state import Input, State
from ikeclient.tunnel.wakeups import Wakeup, Wakeups

DELETE_TIMEOUT = 1.5  # the longest that a DELETE may hold up the end: with the rest it shall be less than two seconds


class Failure(NamedTuple):
    """An attempt to connect that failed; `proven` is whether its gateway had proven its identity before."""

    error: IkeclientError
    proven: bool = False


class Connecting:
    """The attempts to connect, each in its `timeout`; questions to the name service go into `commands`."""

    def __init__(
        self, session: Session, links: Links, wakeups: Wakeups, commands: list[Command], options: ConnectOptions
    ) -> None:
        self.gateway = Gateway()
        self._session = session
        self._links = links
        self._wakeups = wakeups
        self._commands = commands
        self._timeout = options.timeout
        self._retry_first = options.retry_first
        self._clock = session.ports.clock
        self._person_asked = False
        self._asked_again = False

    def person_asked(self) -> None:
        """Note that the login which is under way asked the person at the terminal something."""
        self._person_asked = True

    def first(self) -> Script[None]:
        """Make the first connection, which is tried again as `tunnel.retries` says. Raises IkeclientError."""
        retries = Retries(self._session.ports.entropy)
        until = self._clock() + self._timeout
        while not self._wakeups.stopping:
            try:
                yield from self._once(self._clock() + self._timeout if self._retry_first else until)
                return
            except IkeclientError as error:
                waiting = self._clock() < until and isinstance(error, NoNetwork)
                if self._wakeups.stopping or not (may_pass(error) if self._retry_first else waiting):
                    raise
                retries.failed_first(error)
                pause = self._clock() + retries.pause()
                yield from self._rest(error, pause if self._retry_first else min(pause, until), retries.patient)
                if not self._retry_first and self._clock() >= until:
                    raise

    def _rest(self, error: IkeclientError, until: float, patient: bool) -> Script[None]:
        """Wait until the first connection is worth another attempt: a moment, a command, or another network."""
        wakeups = self._wakeups
        self._session.status.problems.failed(error)
        self._session.events.emit("retrying", error=error.lines())
        sooner = {Wakeup.COMMAND, Wakeup.STOP} | (set() if patient else {Wakeup.NETWORK})
        wakeups.take(Wakeup.NETWORK)
        yield Wait(lambda: wakeups.given(*sooner), until)
        wakeups.take(Wakeup.COMMAND)
        self._session.begin_attempt()

    def _once(self, deadline: float) -> Script[None]:
        """Try to connect for the first time; what was typed may have been mistyped, and is then asked for once more.

        Never twice: gateways lock accounts. Raises IkeclientError.
        """
        self.gateway.learn((yield from self._resolve()))
        if self._session.status.life.state is State.RESOLVING:
            self._session.status.life.happens(Input.RESOLVED)
        try:
            yield from self._try_each(deadline)
        except AuthenticationFailed as error:
            if not self._second_try():
                raise
            self._asked_again = True
            self._session.events.emit("notice", text="; ".join(error.lines()[:2]))
            if (yield from self._retype()):
                yield from self._try_each(self._clock() + self._timeout)

    def _second_try(self) -> bool:
        """Whether a person can be asked again: for what was typed before the login, or by a login that asks itself.

        A login that asked although it had a password to begin with was the second try.
        """
        profile = self._session.profile
        if self._session.ports.ask is None or self._asked_again:
            return False
        return profile.leaves_answer if self._person_asked else bool(profile.typed)

    def _retype(self) -> Script[bool]:
        """Ask for all that was typed; false if the tunnel is to end. Raises UsageError if there is no answer."""
        profile = self._session.profile
        for secret in profile.typed:
            retype = Retype(secret.prompt, over=lambda: self._wakeups.stopping)
            self._commands.append(retype)
            yield Wait(lambda retype=retype: retype.answered or self._wakeups.stopping)  # type: ignore[misc]
            answer = retype.result()
            if answer is None:
                return False
            profile = profile.retyped(secret, answer)
        self._session.use(profile)
        return not self._wakeups.stopping

    def _try_each(self, deadline: float) -> Script[None]:
        """Try each address of the gateway in turn, until the deadline.

        An address has its share of that time to answer; a login that has probably arrived has all that is left, because
        another one elsewhere would be a second login. What is told in the end is the first error that says more than
        that nobody answered. Raises IkeclientError.
        """
        addresses = self.gateway.known
        told: IkeclientError | None = None
        for index, (host, address) in enumerate(addresses):
            left = max(deadline - self._clock(), 1.0)
            failure = yield from self._connect(host, address, left / (len(addresses) - index), login=left)
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
            self._session.events.emit("notice", text=f"{address}: {error.message}")

    def again(self, failures: int) -> Script[Failure | None]:
        """Connect again: to the address that worked, then to the others in turn, with the name resolved anew.

        The name server may be behind the tunnel that is down, so addresses that were found before stay good.
        """
        session, gateway = self._session, self.gateway
        session.begin_attempt()
        if failures:
            try:
                gateway.learn((yield from self._resolve()) or gateway.known)
            except NoResponse as error:
                session.events.emit("notice", text=error.message)
        if self._wakeups.stopping:
            return None
        host, address = gateway.known[failures % len(gateway.known)]
        failure = yield from self._connect(host, address, self._timeout)
        if failure is None:
            session.status.reconnected()
        return failure

    def look_up(self, profile: CompiledProfile) -> Script[Known]:
        """Find the addresses of a profile's gateways, none if the tunnel is to end. Raises NoResponse."""
        lookup = Lookup(profile.gateways, profile.port)
        self._commands.append(lookup)
        yield Wait(lambda: lookup.answered or self._wakeups.stopping)
        return lookup.result()

    def _resolve(self) -> Script[Known]:
        profile = self._session.profile
        self._session.events.emit("resolving", host=", ".join(profile.gateways))
        return (yield from self.look_up(profile))

    def config(self, timeout: float, login: float = 0.0) -> IkeConfig:
        """How to ask the gateway."""
        config = self.gateway.config(self._session.profile)
        return replace(
            config,
            timing=replace(config.timing, timeout=timeout, login_timeout=login),
            disclose_keys=self._session.disclosing,
            child=replace(config.child, addresses=self._session.status.configuration.addresses),
        )

    def parallel_config(self) -> IkeConfig:
        """How to ask the gateway for a connection beside the one in use."""
        return replace(self.config(self._timeout), initial_contact=False)

    def _connect(self, host: str, remote: IPAddress, within: float, *, login: float = 0.0) -> Script[Failure | None]:
        """Bring up one connection; returns when packets flow, the tunnel is to end, or it failed.

        It may take `within` seconds, or `login` if that is more and the gateway works on a login of ours.
        """
        session, gateway = self._session, self.gateway
        session.status.asks(remote)
        gateway.try_host(host)
        try:
            link = self._links.open(self.config(within, login), remote, session.profile.port)
        except IkeclientError as error:
            return Failure(error)
        yield Wait(lambda: link.settled)
        if link.failure is not None:
            link.close()
            yield Wait(lambda: link.closed is not None, self._clock() + DELETE_TIMEOUT)
            self.drop(None)
            return Failure(link.failure)
        if link.established:
            gateway.accept(link.ike.accepted)
            return None
        reason = link.closed.error if link.closed is not None else None
        if isinstance(reason, AuthenticationFailed):
            gateway.accept(None)
        self.drop(reason)
        if self._wakeups.stopping:
            return None
        # Anybody on the path can refuse in the gateway's name; only the gateway itself can end a tunnel that was up.
        proven = link.ike.refused_by_gateway
        return Failure(reason or NoResponse("the connection ended before it was up"), proven)

    def drop(self, error: IkeclientError | None) -> None:
        """Forget the connection that is over, or the attempt to make one; routes and device stay."""
        if self._links.current is not None:
            self._links.leave(self._links.current)
        self._session.lose(error)
