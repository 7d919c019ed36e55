"""What `connect` calls: prepares the process and the machine, runs one tunnel, and cleans up whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ikeclient.control.client import running_pid
from ikeclient.control.http_listener import bound, served
from ikeclient.control.server import Orders, already_running
from ikeclient.dataplane.cipher import choose_cipher
from ikeclient.dataplane.event_loop import run_loop
from ikeclient.errors import IkeclientError, Interrupted, PlatformError, PrivilegeError, bug_error, shortage
from ikeclient.net.block.files import SUFFIX as BLOCK_SUFFIX
from ikeclient.net.changes.journal import SUFFIX
from ikeclient.net.changes.steps import FIRST_TABLE
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.machine.machine import Machine, free_table, remove_leftovers, repair
from ikeclient.net.machine.mender import Mender
from ikeclient.net.machine.requests import message_classes
from ikeclient.net.machine.unmanaged import UnmanagedMachine
from ikeclient.net.model import MachineAdapter
from ikeclient.net.rights.drop_privileges import drop_privileges
from ikeclient.net.rights.grants import Missing, grant
from ikeclient.net.rights.privileges import has_net_admin
from ikeclient.process.audience import Audience, Listener
from ikeclient.process.card import card_of, reader_of
from ikeclient.process.helper.channel import CRASH, HelperDns, HelperJournal
from ikeclient.process.helper.client import Helper, helper
from ikeclient.process.helper.messages import WriteCrash
from ikeclient.process.helper.process import HelperProcess
from ikeclient.process.kill_switch import HelperSwitch, PlanningChannel, how_to_open
from ikeclient.process.service_notify import Reporter
from ikeclient.process.service_socket import Service
from ikeclient.process.until_stopped import until_stopped
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.signer.start import signer
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.dry_run import NullTun, PlanningMachine
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports, SystemNetwork
from ikeclient.tunnel.revocation_cache import revocation_cache_for

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

__all__ = ["ConnectOptions", "plan", "run"]

_WITHOUT_HELPER = "without it name resolution and the journal cannot be changed, so the tunnel cannot go on"
_STILL_ROOT = "this process keeps user 0, without any right but CAP_NET_ADMIN: it may not become another user here"

_LEFT_SHOWN = 3
_UNTRUE_OF_A_PLAN = {"configuring", "disconnected"}  # nothing is changed, so nothing is restored


def run(
    profile: CompiledProfile,
    options: ConnectOptions,
    on_event: Listener,
    process: HelperProcess,
    outline: Callable[[BaseException], str] | None = None,
) -> None:
    """Run one tunnel until it is told to end, with `process` as its helper; blocking.

    `on_event` gets every event as a dictionary. Returns after `disconnect` and SIGTERM, and after the hangup of its
    terminal; raises `Interrupted` after SIGINT and any other `IkeclientError` when the tunnel cannot come up or cannot
    stay up. From the first packet on this process has no rights but CAP_NET_ADMIN, for good; what needs others is done
    by a helper process. `outline` describes a bug for the file of them, where this process may not write any more.
    """
    with (
        signer(wanted=profile.signs_elsewhere) as keys,
        helper(options, profile.session.commands, profile.base_dir, process, profile.session.runs_as) as our_helper,
        bound(options.metrics) as http,  # while a port below 1024 may still be taken
    ):
        try:
            run_loop(_run(profile, options, on_event, our_helper, keys, http))
        except Interrupted:
            with contextlib.suppress(PlatformError):
                our_helper.channel.remove("log")
            raise
        except Exception as error:
            if outline is None or isinstance(error, IkeclientError):
                raise
            if (lack := shortage(error)) is not None:
                raise lack from None
            with contextlib.suppress(PlatformError):
                our_helper.channel.ask(WriteCrash(text=outline(error)))
                raise bug_error(error, f"the traceback is in {options.runtime_directory / CRASH}") from None
            raise
        with contextlib.suppress(PlatformError):
            our_helper.channel.remove("log")


async def _run(
    profile: CompiledProfile,
    options: ConnectOptions,
    on_event: Listener,
    our_helper: Helper,
    keys: SignerClient | None,
    http: socket.socket | None,
) -> None:
    with contextlib.ExitStack() as closing:
        reporter = Reporter(Service())
        closing.callback(reporter.close)
        reporter.start()
        closing.callback(our_helper.hooks.close)
        closing.callback(our_helper.card.close)
        if keys is not None:
            closing.callback(keys.close)

        def tell(event: dict[str, object]) -> None:
            on_event(event)
            reporter.event(event)

        audience = Audience(options, tell)
        switch = _close(profile, options, our_helper, audience.publish)  # before anything is repaired, which may open
        try:
            for repaired in repair(options.runtime_directory) + (remove_leftovers() if has_net_admin() else []):
                audience.notice(repaired)
            choose_cipher()
            tun = closing.enter_context(contextlib.closing(_device(profile)))
            tunnel = _Tunnel(profile, options, tun, our_helper, keys, switch, audience, reporter)
            await tunnel.run(http)
        except IkeclientError as error:
            if switch.keeps_closed:
                error.try_also(how_to_open(options.name))
            raise
        except asyncio.CancelledError:  # Ctrl-C before there is a tunnel to stop
            if switch.keeps_closed:
                audience.notice(how_to_open(options.name))
            raise


class _Tunnel:
    """A tunnel on a device and routes of this machine, which is as before when it has ended, whatever ends it."""

    def __init__(
        self,
        profile: CompiledProfile,
        options: ConnectOptions,
        tun: TunDevice,
        our_helper: Helper,
        keys: SignerClient | None,
        switch: HelperSwitch,
        audience: Audience,
        reporter: Reporter,
    ) -> None:
        self._options = options
        self._helper = our_helper
        self._switch = switch
        self._audience = audience
        self._reporter = reporter
        self._machine = _machine(options, our_helper, audience.notice)
        switch.use_interface(tun.name)
        ports = Ports(
            device=tun,
            machine=self._machine,
            table=_table(self._machine),
            run_hook=our_helper.hooks.run,
            resolve=switch.resolve,
            switch=switch,
            ask=options.ask,
            sign=keys.sign if keys is not None else None,
            card=reader_of(profile, keys) or our_helper.card.ask,
            network=SystemNetwork(revocation_cache_for(profile), find=switch.resolve, admit=switch.admit_fetch),
        )
        self._connection = TunnelDriver(profile, options, ports, audience.publish)

    async def run(self, http: socket.socket | None) -> None:
        """Run it until it ends, without a right but CAP_NET_ADMIN. Raises IkeclientError if it was not told to end."""
        await self._audience.open(
            self._connection,
            Orders(
                disconnect=self._disconnect,
                reconnect=self._connection.reconnect,
                suspend=self._connection.suspend,
                resume=self._connection.resume,
            ),
        )
        loop = asyncio.get_running_loop()
        loop.add_reader(self._helper.lifeline, self._helper_spoke)
        machine, connection = self._machine, self._connection
        mender = Mender(machine, connection.warn) if isinstance(machine, Machine) else None
        failure: IkeclientError | None = None
        try:
            if drop_privileges().still_root:
                self._audience.notice(_STILL_ROOT)
            reread = self._helper.reread if self._options.reread else None
            with served(http, connection.status):
                await until_stopped(connection, self._stop, reread, busy=self._reporter.reloading)
        except IkeclientError as error:
            failure = error
        finally:
            if mender is not None:
                mender.close()
            loop.remove_reader(self._helper.lifeline)
            failure = self._restored(failure)
            if self._audience.has_socket:
                with contextlib.suppress(PlatformError):  # the next start clears it
                    self._helper.channel.remove("socket")
            await self._audience.close(failure)
        if failure is not None:
            raise failure
        if self._switch.keeps_closed:
            self._audience.notice(how_to_open(self._options.name))

    def _restored(self, failure: IkeclientError | None) -> IkeclientError | None:
        """Undo what was changed, and open what the switch closed if that is wanted; returns what there is to tell."""
        self._machine.revert()  # which a bug may have kept the connection from
        if self._machine.left:
            failure = _not_restored(failure, self._machine.left, self._options)
        if not self._switch.wanted and (not_opened := _open(self._switch)) is not None:
            if failure is not None and self._switch.closed:
                failure.try_also(how_to_open(self._options.name))
            failure = failure or not_opened
        return failure

    def _stop(self) -> None:
        self._reporter.stopping()
        self._connection.stop()

    def _disconnect(self) -> None:
        self._switch.open_at_the_end()
        self._stop()

    def _helper_spoke(self) -> None:
        if not self._helper.is_gone():
            self._switch.look()
            return
        asyncio.get_running_loop().remove_reader(self._helper.lifeline)
        self._connection.stop(PlatformError("the tunnel's helper process is gone", reason=_WITHOUT_HELPER))


def _device(profile: CompiledProfile) -> TunDevice:
    return TunDevice(profile.network.interface, offload=profile.session.offload)


def _close(profile: CompiledProfile, options: ConnectOptions, our_helper: Helper, publish: Listener) -> HelperSwitch:
    """Return the tunnel's kill switch, closed if the profile wants one.

    Raises PlatformError or PrivilegeError, or UsageError beside a running tunnel of the name, whose switch it is.
    """
    if (pid := running_pid(options.name, options.runtime_directory)) is not None:
        raise already_running(options.name, pid)
    switch = HelperSwitch(our_helper.channel, options.name, profile.network, publish)
    if profile.session.kill_switch:
        if not has_net_admin():
            raise PrivilegeError(
                "the kill switch cannot close this machine",
                reason="the capability CAP_NET_ADMIN is missing",
                hint=grant(Missing.NET_ADMIN),
            )
        try:
            switch.close()
        except PlatformError as error:
            if (options.runtime_directory / (options.name + BLOCK_SUFFIX)).exists():  # what of it was done stays
                error.try_also(how_to_open(options.name))
            raise
    return switch


def _open(switch: HelperSwitch) -> PlatformError | None:
    try:
        switch.open()
    except PlatformError as error:
        return error
    return None


def _not_restored(failure: IkeclientError | None, left: Sequence[str], options: ConnectOptions) -> PlatformError:
    """Return the error of a tunnel that ended and left something behind, whatever ended it."""
    what = "; ".join(left[:_LEFT_SHOWN]) + (f" and {len(left) - _LEFT_SHOWN} more" if len(left) > _LEFT_SHOWN else "")
    return PlatformError(
        failure.message if failure is not None else "the tunnel has ended, but this machine is not as it was",
        reason=f"still to be undone: {what}",
        hint="`ikeclient repair` does it, and so does the next `connect`, from "
        f"{options.runtime_directory / (options.name + SUFFIX)}",
    )


def _machine(options: ConnectOptions, our_helper: Helper, notice: Callable[[str], None]) -> MachineAdapter:
    """Return the machine, changed through the helper; without CAP_NET_ADMIN it is unmanaged."""
    if not has_net_admin():
        return UnmanagedMachine()
    dns, journal = HelperDns(our_helper.channel), HelperJournal(our_helper.channel)
    machine = Machine(options.runtime_directory, options.name, dns=dns, journal=journal)
    for repaired in machine.check():
        notice(repaired)
    message_classes()  # while files may be read
    return machine


def _table(machine: MachineAdapter) -> int:
    return machine.reserve_table() if isinstance(machine, Machine) else FIRST_TABLE


def plan(profile: CompiledProfile, options: ConnectOptions, on_event: Listener) -> list[str]:
    """Negotiate with the gateway, disconnect, and return what would have been changed here, as command lines.

    Needs no privilege and changes nothing. Raises what `run` raises.
    """
    with signer(wanted=profile.signs_elsewhere) as keys:
        return asyncio.run(_plan(profile, options, on_event, keys))


async def _plan(
    profile: CompiledProfile, options: ConnectOptions, on_event: Listener, keys: SignerClient | None
) -> list[str]:
    tun = NullTun(profile.network.interface)
    machine = PlanningMachine(Machine(options.runtime_directory, options.name))

    def publish(event: dict[str, object]) -> None:
        if event["event"] == "connected":
            connection.stop()
        elif event["event"] not in _UNTRUE_OF_A_PLAN:
            on_event(event)

    try:
        closing = PlanningChannel(options.name)
        switch = HelperSwitch(closing, options.name, profile.network, lambda _: None)
        if profile.session.kill_switch:
            switch.close()
            switch.use_interface(tun.name)
        sign = keys.sign if keys is not None else None
        card = card_of(profile, keys)
        ports = Ports(device=tun, machine=machine, table=free_table(), switch=switch, sign=sign, card=card)
        connection = TunnelDriver(profile, options, ports, publish)
        await until_stopped(connection, connection.stop)
    finally:
        tun.close()
        if keys is not None:
            keys.close()
    return [*(closing.lines if profile.session.kill_switch else ()), *machine.lines]
