"""The process that carries the tunnel of one connection.

The plugin's service forks it before it speaks with anybody, and then tells it what to do. It reads the profile and its
secrets, opens the interface, gives up every right but CAP_NET_ADMIN, and connects. When the service ends, however that
happened, it says goodbye to the gateway and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from ikeclient.control.client import runtime_directory
from ikeclient.control.events import happened
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import run_loop
from ikeclient.errors import AuthenticationFailed, IkeclientError, UsageError, bug_error, shortage
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import daemonise
from ikeclient.ipc.messages import pack, receive
from ikeclient.net.changes.steps import FIRST_TABLE
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.rights.drop_privileges import drop_privileges
from ikeclient.net.rights.privileges import forbid_core_dumps
from ikeclient.networkmanager.connection import VpnConnection, compile_connection
from ikeclient.networkmanager.ip_plan import IpPlan
from ikeclient.networkmanager.machine import NetworkBeneath, ReportingMachine, is_configured
from ikeclient.networkmanager.messages import CODEC, Answer, Arranged, Asked, Begin, Happened, Logged, ToService
from ikeclient.process.audience import Audience
from ikeclient.process.bug_report import outline
from ikeclient.process.card import card_of
from ikeclient.process.log_file import log_to
from ikeclient.process.until_stopped import until_stopped
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.signer.start import signer
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports
from ikeclient.tunnel.revocation_cache import revocation_cache_for

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

_MARGIN = 5  # seconds that we give up before NetworkManager does, so that it hears the reason
_LEAST = 10
_CONFIGURED = 10.0  # seconds for NetworkManager to do what it is told
_OTHER_ANSWER = "answer"  # the name of an answer to what the gateway asks


class Service:
    """The service, at the other end of `channel`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def receive(self) -> Begin | None:
        """What to do; None if the service ended first."""
        message = receive(self._channel.recv)
        return None if message is None else CODEC.decode(Begin, message)

    def tell(self, message: ToService) -> None:
        """Send a message; lost if the service is gone, which ends us soon."""
        try:
            self._channel.sendall(pack(CODEC.encode(message)))
        except OSError:
            return

    def event(self, event: dict[str, object]) -> None:
        """Tell of an event of the tunnel."""
        self.tell(Happened(event=event))

    def log(self, text: str) -> None:
        """Have a line logged."""
        self.tell(Logged(text=text))

    def arrange(self, wanted: IpPlan) -> None:
        """Have the machine changed."""
        self.tell(Arranged(plan=wanted))


class Questions:
    """Asks the person, through the service, in the running event loop; `stop` is called when the service is gone.

    `keys` are the names of secrets by what is asked for them. One of those in `stored` is not asked for.
    """

    def __init__(
        self,
        channel: socket.socket,
        service: Service,
        keys: Mapping[str, str],
        stored: Collection[str],
        stop: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._service = service
        self._keys = keys
        self._stored = stored
        self._stop = stop
        self._waiting: asyncio.Future[str | None] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._heard)

    async def ask(self, prompt: str) -> str:
        """The answer to `prompt`. Raises UsageError if there is none, AuthenticationFailed for a stored secret."""
        key = key_for(prompt, self._keys)
        if key in self._stored:
            raise AuthenticationFailed(
                f"the gateway refused {key}, which is stored with the connection",
                hint="nmcli connection modify NAME vpn.secrets, or another value of its -flags to be asked",
            )
        self._waiting = self._loop.create_future()
        try:
            self._service.tell(Asked(prompt=prompt, key=key))
            answer = await self._waiting
        finally:
            self._waiting = None
        if answer is None:
            raise UsageError("nobody answered what the gateway asks", hint="nmcli --ask connection up NAME")
        return answer

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._channel)

    def _heard(self) -> None:
        try:
            message = receive(self._channel.recv)
            answer = None if message is None else CODEC.decode(Answer, message)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            self.close()
            self._stop()
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer.text)


def key_for(prompt: str, keys: Mapping[str, str]) -> str:
    """The name of the secret that `prompt` asks for, perhaps with a sentence before and the account in quotes."""
    plain = prompt.replace("'", "").replace('"', "")
    return next((name for asked, name in keys.items() if plain.endswith(asked)), _OTHER_ANSWER)


def life(channel: socket.socket) -> int:
    """Do what the process does; returns its exit code."""
    forbid_core_dumps()
    (moved,) = daemonise([channel.detach()])
    channel = socket.socket(fileno=moved)
    service = Service(channel)
    try:
        begin = service.receive()
        if begin is not None:
            _carry(begin, service, channel)
    except IkeclientError as error:
        service.tell(Failure.of(error))
        return error.exit_code
    except Exception as error:
        failure = shortage(error) or bug_error(error, "the traceback is in the log")
        service.log(outline(error))
        service.tell(Failure.of(failure))
        return failure.exit_code
    return 0


def _carry(begin: Begin, service: Service, channel: socket.socket) -> None:
    connection = VpnConnection(
        name=begin.name, data=begin.data, secrets=begin.secrets, users=begin.users, timeout=begin.timeout
    )
    profile = compile_connection(connection, interactive=begin.interactive)
    for warning in profile.warnings:
        service.event(happened("notice", profile.name, text=warning))
    log_to(lambda text, _: service.log(text), begin.verbosity)
    options = ConnectOptions(
        name=profile.name,
        timeout=float(max(_LEAST, begin.timeout - _MARGIN)),
        keylog=None,
        runtime_directory=runtime_directory(),
        verbosity=begin.verbosity,
    )
    with signer(wanted=profile.signs_elsewhere) as keys:
        run_loop(_run(profile, options, service, channel, keys, connection.stored if begin.interactive else None))


async def _run(
    profile: CompiledProfile,
    options: ConnectOptions,
    service: Service,
    channel: socket.socket,
    keys: SignerClient | None,
    stored: Collection[str] | None,
) -> None:
    """Run the tunnel; `stored` are the secrets that nobody is asked for, None if nobody can be asked anything."""
    audience = Audience(options, service.event)
    choose_cipher()
    tun = TunDevice(profile.network.interface, offload=profile.session.offload)
    asked = {secret.prompt: f"{secret.section}.{secret.key}" for secret in profile.typed}
    questions = Questions(channel, service, asked, stored or (), lambda: connection.stop())
    machine = ReportingMachine(service.arrange)

    def publish(event: dict[str, object]) -> None:
        audience.publish(event)
        if event["event"] == "connected":
            asyncio.get_running_loop().call_later(_CONFIGURED, check)

    def check() -> None:
        """Say so if NetworkManager has not done what it was told: then nothing passes the tunnel."""
        wanted = machine.wanted
        with contextlib.suppress(OSError):
            if wanted is not None and connection.status().state == "connected" and not is_configured(wanted):
                connection.warn(f"NetworkManager has not configured the interface {wanted.interface}: see its log")

    try:
        ports = Ports(
            device=tun,
            machine=machine,
            table=FIRST_TABLE,
            network=NetworkBeneath(tun.name, revocation_cache_for(profile)),
            ask=questions.ask if stored is not None else None,
            sign=keys.sign if keys is not None else None,
            card=card_of(profile, keys),
        )
        connection = TunnelDriver(profile, options, ports, publish)
        async with audience.listening(connection):
            drop_privileges()
            await until_stopped(connection, connection.stop)
    finally:
        questions.close()
        if keys is not None:
            keys.close()
        tun.close()
