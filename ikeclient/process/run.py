"""What `connect` calls: prepares the process and the machine, runs one tunnel, and cleans up whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import encodings.idna  # noqa: F401  for name lookups: a process without rights may not be able to read its library
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ikeclient.control.client import running_pid
from ikeclient.control.events import failed, happened
from ikeclient.control.http_listener import bound, served
from ikeclient.control.server import ControlServer, Orders, already_running
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
from ikeclient.net.rights.drop_privileges import drop_privileges, future_user
from ikeclient.net.rights.grants import Missing, grant
from ikeclient.net.rights.privileges import has_net_admin
from ikeclient.process.card import card_of, reader_of
from ikeclient.process.hangup import Reloader, Reread, has_terminal
from ikeclient.process.helper.channel import CRASH, HelperDns, HelperJournal
from ikeclient.process.helper.client import Helper, helper
from ikeclient.process.helper.messages import WriteCrash
from ikeclient.process.helper.process import HelperProcess
from ikeclient.process.kill_switch import HelperSwitch, PlanningChannel, how_to_open
from ikeclient.process.service_notify import Reporter
from ikeclient.process.service_socket import Service
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.signer.start import signer
from ikeclient.tunnel.driver import TunnelDriver
from ikeclient.tunnel.dry_run import NullTun, PlanningMachine
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.ports import Ports, SystemNetwork
from ikeclient.tunnel.revocation_cache import RevocationCache, cache_directory

if TYPE_CHECKING:
    from ikeclient.signer.client import SignerClient

__all__ = ["ConnectOptions", "plan", "run"]

Listener = Callable[[dict[str, object]], None]

_WITHOUT_HELPER = "without it name resolution and the journal cannot be changed, so the tunnel cannot go on"
_STILL_ROOT = "this process keeps user 0, without any right but CAP_NET_ADMIN: it may not become another user here"

_LEFT_SHOWN = 3
_UNTRUE_OF_A_PLAN = {"configuring", "disconnected"}  # nothing is changed, so nothing is restored

_log = logging.getLogger(__name__)


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
    reporter = Reporter(Service())
    reporter.start()
    control: ControlServer | None = None

    def publish(event: dict[str, object]) -> None:
        on_event(event)
        reporter.event(event)
        if control is not None:
            control.publish(event)

    def notice(text: str) -> None:
        publish(happened("notice", options.name, text=text))

    switch = _close(profile, options, our_helper, publish)  # before anything is repaired, which may open
    tun: TunDevice | None = None
    try:
        for repaired in repair(options.runtime_directory) + (remove_leftovers() if has_net_admin() else []):
            notice(repaired)
        choose_cipher()
        tun = TunDevice(profile.network.interface, offload=profile.session.offload)
        machine = _machine(options, our_helper, notice)
        switch.use_interface(tun.name)
        ports = Ports(
            device=tun,
            machine=machine,
            table=_table(machine),
            run_hook=our_helper.hooks.run,
            resolve=switch.resolve,
            switch=switch,
            ask=options.ask,
            sign=keys.sign if keys is not None else None,
            card=reader_of(profile, keys) or our_helper.card.ask,
            network=SystemNetwork(revocation_cache_for(profile), find=switch.resolve, admit=switch.admit_fetch),
        )
        connection = TunnelDriver(profile, options, ports, publish)

        def stop() -> None:
            reporter.stopping()
            connection.stop()

        def disconnect() -> None:
            switch.open_at_the_end()
            stop()

        orders = Orders(
            disconnect=disconnect,
            reconnect=connection.reconnect,
            suspend=connection.suspend,
            resume=connection.resume,
        )
        control = await open_control(connection, options, orders, notice)
        loop = asyncio.get_running_loop()

        def helper_spoke() -> None:
            if not our_helper.is_gone():
                switch.look()
                return
            loop.remove_reader(our_helper.lifeline)
            connection.stop(PlatformError("the tunnel's helper process is gone", reason=_WITHOUT_HELPER))

        loop.add_reader(our_helper.lifeline, helper_spoke)
        failure: IkeclientError | None = None
        mender = Mender(machine, connection.warn) if isinstance(machine, Machine) else None
        try:
            if drop_privileges().still_root:
                notice(_STILL_ROOT)
            with served(http, connection.status):
                await until_stopped(
                    connection, stop, our_helper.reread if options.reread else None, busy=reporter.reloading
                )
        except IkeclientError as error:
            failure = error
        finally:
            if mender is not None:
                mender.close()
            loop.remove_reader(our_helper.lifeline)
            machine.revert()  # which a bug may have kept the connection from
            if machine.left:
                failure = _not_restored(failure, machine.left, options)
            if not switch.wanted and (not_opened := _open(switch)) is not None:
                if failure is not None and switch.closed:
                    failure.try_also(how_to_open(options.name))
                failure = failure or not_opened
            if control is not None:
                with contextlib.suppress(PlatformError):  # the next start clears it
                    our_helper.channel.remove("socket")
                if failure is not None and not isinstance(failure, Interrupted):
                    control.publish(failed(failure, options.name))
                await control.close()
        if switch.wanted and switch.closed and failure is None:
            notice(how_to_open(options.name))
        if failure is not None:
            raise failure
    except IkeclientError as error:
        if switch.wanted and switch.closed:
            error.try_also(how_to_open(options.name))
        raise
    except asyncio.CancelledError:  # Ctrl-C before there is a tunnel to stop
        if switch.wanted and switch.closed:
            notice(how_to_open(options.name))
        raise
    finally:
        our_helper.hooks.close()
        if keys is not None:
            keys.close()
        our_helper.card.close()
        if tun is not None:
            tun.close()
        reporter.close()


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


def revocation_cache_for(profile: CompiledProfile) -> RevocationCache:
    """Return the place for what was learnt about revocation, which the user that this process becomes can use."""
    if not profile.ike.revocation.asks:
        return RevocationCache(None)
    cache = RevocationCache(cache_directory())
    cache.prepare(future_user())
    return cache


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


async def until_stopped(
    connection: TunnelDriver,
    stop: Callable[[], None],
    reread: Reread | None = None,
    *,
    busy: Callable[[bool], None] = lambda _: None,
) -> None:
    """Run the connection; SIGTERM ends it in order, and so does SIGINT, with an error that says so.

    The loop keeps the handlers to its own end, so that a second signal does not cut the cleaning up short. An exception
    in a callback is a bug after which nobody knows what the connection does next: it ends the tunnel as well.
    """
    interrupted = False
    bug: BaseException | None = None
    loop = asyncio.get_running_loop()
    running = loop.create_task(connection.run())

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        stop()

    def broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal bug
        error = context.get("exception")
        if bug is None and isinstance(error, BaseException) and "handle" in context:
            bug = error
            running.cancel()
        else:  # the loop's own words may quote a secret
            _log.error("%s: %s", context.get("message"), type(error).__name__)

    loop.set_exception_handler(broken)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, stop)
    reloader = _on_hangup(connection, stop, reread, busy)
    try:
        await running
    except (IkeclientError, asyncio.CancelledError):
        if bug is None:
            raise
    finally:
        if reloader is not None:
            reloader.close()
    if bug is not None:
        raise bug
    if interrupted:
        raise Interrupted("interrupted")


def _on_hangup(
    connection: TunnelDriver, stop: Callable[[], None], reread: Reread | None, busy: Callable[[bool], None]
) -> Reloader | None:
    """Have SIGHUP end a tunnel with a terminal, and make any other read its profile again; nohup turns both off."""
    loop = asyncio.get_running_loop()
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    if reread is None or has_terminal():
        loop.add_signal_handler(signal.SIGHUP, stop)
        return None
    reloader = Reloader(reread, connection.adopt, connection.notice, busy)
    loop.add_signal_handler(signal.SIGHUP, reloader.hangup)
    return reloader


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


async def open_control(
    connection: TunnelDriver, options: ConnectOptions, orders: Orders, notice: Callable[[str], None]
) -> ControlServer | None:
    """Open the control socket; None if there is no place for it, which a tunnel can live without."""
    server = ControlServer(options.name, options.runtime_directory, status=connection.document, orders=orders)
    try:
        await server.start()
    except PlatformError as error:
        notice(": ".join(error.lines()))
        return None
    return server


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
