"""What the plugin does when NetworkManager asks it, without D-Bus: calls come in, signals and messages go out.

One plugin is one activation of one connection: NetworkManager starts a service for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Protocol

from ikeclient.errors import AuthenticationFailed, IkeclientError, PlatformError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.networkmanager.connection import missing_secret, read_connection
from ikeclient.networkmanager.ip_plan import IpPlan, Table, config_table, family_table
from ikeclient.networkmanager.messages import Answer, Arranged, Asked, Begin, Happened, Logged, ToService, ToTunnel
from ikeclient.wire.text import printable

Settings = Mapping[str, Mapping[str, object]]
Emit = Callable[[str, str, list[Any]], None]

_LONGEST = 500  # characters of a line of the log
_TOLD = ("connected", "roamed", "reconnecting", "reauthenticated", "warning", "notice", "disconnected", "failed")


class ServiceState(IntEnum):
    """NMVpnServiceState."""

    INIT = 1
    STARTING = 3
    STARTED = 4
    STOPPING = 5
    STOPPED = 6


class PluginFailure(IntEnum):
    """NMVpnPluginFailure."""

    LOGIN_FAILED = 0
    CONNECT_FAILED = 1
    BAD_IP_CONFIG = 2


class CallRefused(Exception):
    """A call that cannot be obeyed: `name` is the last part of the D-Bus error's name."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class TunnelPort(Protocol):
    """The process that carries the tunnel."""

    def send(self, message: ToTunnel) -> None:
        """Tell it something."""

    def end(self) -> None:
        """Have it say goodbye to the gateway and end."""


class Plugin:
    """One connection. `emit` sends a signal with its signature, `log` writes a line, `finish` ends the service."""

    def __init__(
        self,
        tunnel: TunnelPort,
        emit: Emit,
        log: Callable[[str], None],
        finish: Callable[[], None],
        verbosity: int = 0,
    ) -> None:
        self.state = ServiceState.INIT
        self._tunnel = tunnel
        self._emit = emit
        self._log = log
        self._finish = finish
        self._verbosity = verbosity
        self._failure: Failure | None = None
        self._ended = False  # whether the tunnel said that it ends, as after `ikeclient disconnect`
        self._asked: str | None = None  # the key of a secret that NetworkManager's agents are asked for

    # What NetworkManager asks

    def need_secrets(self, settings: Settings) -> str:
        """The setting that lacks a secret, empty if nothing does.

        What is wrong with the connection is told when it is used, or NetworkManager would call it a missing secret.
        """
        try:
            connection = read_connection(settings)
            key = missing_secret(connection, connection.profile, connection.authors[0], attended=True)
        except ProfileError:
            return ""
        return "vpn" if key is not None else ""

    def connect(self, settings: Settings, *, interactive: bool) -> None:
        """Begin to connect. Raises CallRefused."""
        if self.state is not ServiceState.INIT:
            raise CallRefused("AlreadyStarted", "this service has had its connection")
        try:
            connection = read_connection(settings)
        except ProfileError as error:
            raise CallRefused("InvalidConnection", _told(error)) from None
        self._become(ServiceState.STARTING)
        self._tunnel.send(
            Begin(
                name=connection.name,
                data=connection.data,
                secrets=connection.secrets,
                users=connection.users,
                timeout=connection.timeout,
                interactive=interactive,
                verbosity=self._verbosity,
            )
        )

    def new_secrets(self, settings: Settings) -> None:
        """Take what the agents answered. Raises CallRefused."""
        if self._asked is None:
            raise CallRefused("InvalidConnection", "no secret was asked for")
        try:
            answer = read_connection(settings).secrets.get(self._asked)
        except ProfileError as error:
            raise CallRefused("InvalidConnection", _told(error)) from None
        self._asked = None
        self._tunnel.send(Answer(text=answer or None))

    def disconnect(self) -> None:
        """End the connection in order."""
        if self.state in (ServiceState.STOPPING, ServiceState.STOPPED):
            return
        self._become(ServiceState.STOPPING)
        self._tunnel.end()

    # What the tunnel tells

    def heard(self, message: ToService) -> None:
        """Take a message of the tunnel's process."""
        match message:
            case Arranged(plan=wanted):
                self._arrange(wanted)
            case Happened(event=event):
                self._happened(event)
            case Asked(prompt=prompt, key=key):
                self._asked = key
                self._emit("SecretsRequired", "sas", [prompt, [key]])
            case Logged(text=text):
                self._log(text)
            case Failure():
                self._failure = message

    def tunnel_ended(self) -> None:
        """The tunnel's process is gone."""
        if self.state is ServiceState.STOPPED:
            return
        if self.state is not ServiceState.STOPPING and (self._failure is not None or not self._ended):
            failure = self._failure or Failure.of(IkeclientError("the tunnel's process is gone"))
            text = _told(failure.error())
            self._log(f"error: {text}")
            self._emit("LoginBanner", "s", [text])
            self._emit("Failure", "u", [int(failure_of(failure))])
        self._become(ServiceState.STOPPED)
        self._finish()

    def _arrange(self, wanted: IpPlan) -> None:
        self._emit("Config", "a{sv}", [config_table(wanted)])
        for name, family in (("Ip4Config", wanted.ip4), ("Ip6Config", wanted.ip6)):
            if family is not None:
                table: Table = family_table(family)
                self._emit(name, "a{sv}", [table])

    def _happened(self, event: dict[str, object]) -> None:
        kind = event.get("event")
        if kind in _TOLD:
            said = event.get("text") or event.get("error") or ""
            words = "; ".join(map(str, said)) if isinstance(said, list) else str(said)
            self._log(printable(f"{kind}: {words}" if words else str(kind), _LONGEST))
        self._ended |= kind == "disconnected"
        if kind == "connected" and self.state is ServiceState.STARTING:
            self._become(ServiceState.STARTED)

    def _become(self, state: ServiceState) -> None:
        self.state = state
        self._emit("StateChanged", "u", [int(state)])


def failure_of(failure: Failure) -> PluginFailure:
    """What NetworkManager is told of why a connection failed."""
    match failure.exit_code:
        case AuthenticationFailed.exit_code:
            return PluginFailure.LOGIN_FAILED
        case PlatformError.exit_code:
            return PluginFailure.BAD_IP_CONFIG
        case _:
            return PluginFailure.CONNECT_FAILED


def _told(error: IkeclientError) -> str:
    return "; ".join(printable(line, _LONGEST) for line in error.lines())
