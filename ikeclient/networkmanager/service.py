"""The program that NetworkManager starts for each connection: joins a `Plugin` to D-Bus and to the tunnel's process."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ikeclient.ipc.fork import await_end, fork
from ikeclient.ipc.messages import pack, stream
from ikeclient.networkmanager.connection import SERVICE
from ikeclient.networkmanager.messages import CODEC, ToService, ToTunnel
from ikeclient.networkmanager.plugin import CallRefused, Plugin, Settings
from ikeclient.wire.text import printable

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

PATH = "/org/freedesktop/NetworkManager/VPN/Plugin"
INTERFACE = "org.freedesktop.NetworkManager.VPN.Plugin"
ERRORS = "org.freedesktop.NetworkManager.VPN.Error."

_MANAGER = "org.freedesktop.NetworkManager"
_BUS = "org.freedesktop.DBus"
_WATCH = f"type='signal',sender='{_BUS}',member='NameOwnerChanged',arg0='{_MANAGER}'"
_IDLE = 60.0  # seconds without a connection after which the service ends
_LAST_SIGNALS = 0.3  # seconds in which NetworkManager may still ask something
_GOODBYE = 8.0  # seconds for the tunnel's process to end
_DEBUG = 7  # the level of syslog's from which on the protocol is logged
_TABLES = "a{sv}"


def main(arguments: list[str] | None = None) -> int:
    """Run the service; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ikeclient-networkmanager", description="NetworkManager's plugin for IKEv2.")
    parser.add_argument("--bus-name", default=SERVICE, metavar="NAME", help="what to be called on the system bus")
    parser.add_argument(
        "--keyfile", metavar="FILE", help="print a file that `ikeclient connect` takes as a connection, and end"
    )
    parser.add_argument("--install", metavar="ROOT", help="put the plugin's files below ROOT (/), and end")
    parser.add_argument("--prefix", default="/usr/local", help="with --install: /usr for a package")
    parser.add_argument("--programs", metavar="DIRECTORY", help="with --install: where this program is, at last")
    chosen, _ = parser.parse_known_args(arguments)
    if chosen.install is not None:
        from ikeclient.networkmanager.install import install_here

        return install_here(chosen.install, chosen.prefix, chosen.programs)
    if chosen.keyfile is not None:
        from ikeclient.networkmanager.keyfile import print_keyfile

        return print_keyfile(chosen.keyfile)
    ours, theirs = socket.socketpair()

    def tunnel() -> int:
        from ikeclient.networkmanager.tunnel_process import life

        ours.close()
        return life(theirs)

    pid = fork(tunnel)
    theirs.close()
    try:
        return asyncio.run(_serve(chosen.bus_name, ours))
    finally:
        ours.close()
        await_end(pid, _GOODBYE)


class Tunnel:
    """The tunnel's process, at the other end of `channel` (`plugin.TunnelPort`)."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def send(self, message: ToTunnel) -> None:
        """Tell it something; lost if it is gone, which is heard elsewhere."""
        try:
            self._channel.sendall(pack(CODEC.encode(message)))
        except OSError:
            return

    def end(self) -> None:
        """Have it say goodbye to the gateway and end."""
        try:
            self._channel.shutdown(socket.SHUT_WR)
        except OSError:
            return

    async def listen(self, plugin: Plugin) -> None:
        """Hand the plugin what the process tells, until it is gone."""
        reader, _ = await asyncio.open_unix_connection(sock=self._channel.dup(), limit=1 << 20)
        async for message in stream(reader):
            try:
                told: ToService = CODEC.decode(ToService, message)  # type: ignore[arg-type]  # a union
            except ValueError:
                break
            plugin.heard(told)
        plugin.tunnel_ended()


async def _serve(name: str, channel: socket.socket) -> int:
    try:
        from dbus_fast import BusType, RequestNameReply
        from dbus_fast.aio import MessageBus
    except ImportError:
        _log("the package dbus-fast is missing: pip install 'ikeclient[networkmanager]'")
        return 11
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    try:
        bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    except (OSError, ValueError) as error:
        _log(f"there is no system bus: {error}")
        return 12
    front = Front(bus, lambda: loop.call_later(_LAST_SIGNALS, done.set))
    plugin = Plugin(tunnel := Tunnel(channel), front.emit, _log, front.finish, _verbosity())
    front.serve(plugin)
    listening = loop.create_task(tunnel.listen(plugin))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, plugin.disconnect)
    loop.call_later(_IDLE, front.end_if_idle)
    await front.watch_manager()
    if await bus.request_name(name) is not RequestNameReply.PRIMARY_OWNER:
        _log(f"the name {printable(name, 100)} cannot be had on the system bus")
        return 12
    await done.wait()
    listening.cancel()
    bus.disconnect()
    return 0


class Front:
    """The plugin's object on the bus. `finish` ends the service."""

    def __init__(self, bus: MessageBus, finish: Callable[[], object]) -> None:
        self._bus = bus
        self._plugin: Plugin | None = None
        self._finish = finish
        self._used = False

    def serve(self, plugin: Plugin) -> None:
        """Answer calls."""
        self._plugin = plugin
        self._bus.add_message_handler(self._handle)

    def finish(self) -> None:
        """End the service soon."""
        self._finish()

    def end_if_idle(self) -> None:
        """End a service that was started for nothing."""
        if not self._used:
            self._finish()

    async def watch_manager(self) -> None:
        """End the connection when NetworkManager is gone."""
        from dbus_fast.message import Message

        await self._bus.call(
            Message(
                destination=_BUS,
                path="/org/freedesktop/DBus",
                interface=_BUS,
                member="AddMatch",
                signature="s",
                body=[_WATCH],
            )
        )

    def emit(self, member: str, signature: str, body: list[Any]) -> None:
        """Send a signal."""
        from dbus_fast.message import Message

        values = [_variants(item) if isinstance(item, dict) else item for item in body]
        self._bus.send(Message.new_signal(PATH, INTERFACE, member, signature, values))

    def _handle(self, message: Message) -> Message | bool | None:
        from dbus_fast import MessageType
        from dbus_fast.message import Message

        if message.message_type is MessageType.SIGNAL:
            if message.member == "NameOwnerChanged" and message.body[:1] == [_MANAGER] and not message.body[2]:
                self._gone()
            return None
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return None
        if message.interface == "org.freedesktop.DBus.Properties":
            return self._property(message)
        if message.interface not in (INTERFACE, None):
            return None
        try:
            signature, body = self._call(str(message.member), message.signature, message.body)
        except CallRefused as refusal:
            return Message.new_error(message, ERRORS + refusal.name, str(refusal))
        return Message.new_method_return(message, signature, body)

    def _gone(self) -> None:
        if self._plugin is not None:
            self._plugin.disconnect()

    def _call(self, member: str, signature: str, body: list[Any]) -> tuple[str, list[Any]]:
        assert self._plugin is not None
        self._used = True
        match member, signature:
            case "NeedSecrets", "a{sa{sv}}":
                return "s", [self._plugin.need_secrets(_plain(body[0]))]
            case "Connect", "a{sa{sv}}":
                self._plugin.connect(_plain(body[0]), interactive=False)
            case "ConnectInteractive", "a{sa{sv}}a{sv}":
                self._plugin.connect(_plain(body[0]), interactive=True)
            case "NewSecrets", "a{sa{sv}}":
                self._plugin.new_secrets(_plain(body[0]))
            case "Disconnect", "":
                self._plugin.disconnect()
            case (("SetConfig" | "SetIp4Config" | "SetIp6Config" | "SetFailure"), _):
                raise CallRefused("BadArguments", "what the tunnel needs comes from its own process")
            case _:
                raise CallRefused("BadArguments", f"there is no {printable(member, 60)} with such arguments")
        return "", []

    def _property(self, message: Message) -> Message:
        from dbus_fast import Variant
        from dbus_fast.message import Message

        assert self._plugin is not None
        state = Variant("u", int(self._plugin.state))
        if message.member == "GetAll":
            return Message.new_method_return(message, _TABLES, [{"State": state}])
        if message.member == "Get" and message.body == [INTERFACE, "State"]:
            return Message.new_method_return(message, "v", [state])
        return Message.new_error(message, "org.freedesktop.DBus.Error.InvalidArgs", "there is only State, to be read")


def _variants(table: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    from dbus_fast import Variant

    return {name: Variant(signature, value) for name, (signature, value) in table.items()}


def _plain(settings: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings without the wrappers that tell their types."""
    return {name: {key: value.value for key, value in table.items()} for name, table in settings.items()}


def _verbosity() -> int:
    level = os.environ.get("NM_VPN_LOG_LEVEL", "")
    return 1 if level.isascii() and level.isdigit() and int(level) >= _DEBUG else 0


def _log(text: str) -> None:
    """Write a line where NetworkManager's own go."""
    print(f"ikeclient: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
