"""A machine in a real network namespace is given back exactly as it was: on exit, after a failure, after a crash."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from net_lab import FULL, FULL_V4, MARK, SPLIT, Lan, device, inside, sh, state, tun, way

from ikeclient.errors import NegotiationRefused, PlatformError, UsageError
from ikeclient.net.changes.steps import LocalRuleLast, NetlinkStep
from ikeclient.net.machine.kernel import Kernel, platform_error
from ikeclient.net.machine.machine import Machine, free_table, repair
from ikeclient.net.model import MachineConfig

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("config", [FULL, FULL_V4, SPLIT, replace(SPLIT, exclude=(ip_network("10.99.0.128/25"),))])
@inside
def test_revert_gives_back_exactly_what_was(lan: Lan, state_dir: Path, config: MachineConfig) -> None:
    sh("echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter")
    _ike0 = tun()
    before = state()
    machine = Machine(state_dir, "work")
    machine.apply(config)
    assert state() != before
    assert list(state_dir.iterdir())
    machine.revert()
    assert state() == before
    assert machine.warnings == []
    assert list(state_dir.iterdir()) == []
    machine.revert()


@inside
def test_applying_again_changes_nothing_and_mends_what_others_broke(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    machine = Machine(state_dir, "work")
    before = state()
    machine.apply(FULL_V4)
    applied = state()
    machine.apply(FULL_V4)
    assert state() == applied
    sh("ip rule flush; ip rule add priority 32766 lookup main protocol kernel")
    sh("ip rule add priority 32767 lookup default protocol kernel")
    sh("ip route flush table 7400; ip -6 route flush table 7400")
    assert device("8.8.8.8") == "v0"
    machine.apply(FULL_V4)
    assert state() == applied
    machine.revert()
    assert state() == before


@inside
def test_a_new_configuration_replaces_the_old_one(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    before = state()
    machine = Machine(state_dir, "work")
    machine.apply(FULL_V4)
    later = replace(FULL, addresses=(ip_interface("10.88.0.2/32"), ip_interface("fd88::2/128")), mtu=1380)
    machine.apply(later)
    assert "src 10.88.0.2" in way("8.8.8.8")
    assert "src fd88::2" in way("2600::1")
    assert "10.88.0.1" not in state()
    assert "mtu 1380" in sh("ip link show dev ike0")
    machine.apply(SPLIT)
    assert device("8.8.8.8") == "v0"
    assert "unreachable default" not in state()
    machine.revert()
    assert state() == before


@inside
def test_after_sigkill_repair_gives_back_exactly_what_was(lan: Lan, state_dir: Path) -> None:
    """O3: nobody had the chance to clear up; two tunnels, one of them alive."""
    _other = tun("ike1")
    other = Machine(state_dir, "other")
    other.apply(
        replace(
            SPLIT,
            interface="ike1",
            addresses=(ip_interface("10.77.0.1/32"),),
            routes=(ip_network("10.77.0.0/24"),),
            table=7401,
        )
    )
    before = state()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        _ike0 = tun()
        Machine(state_dir, "work").apply(FULL_V4)
        os.write(writable, b"up")
        time.sleep(60)
    assert os.read(readable, 2) == b"up"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left = state()
    assert left != before
    assert "unreachable" in left
    done = repair(state_dir)
    assert state() == before
    assert len(done) == 1
    assert f"tunnel work (process {child})" in done[0]
    assert [path.name for path in state_dir.iterdir()] == ["other.undo.json"]
    assert device("10.77.0.5") == "ike1"
    assert repair(state_dir) == []


class FaultyKernel(Kernel):
    """The real kernel, except that one call fails: before it is made, or (`late`) when it has been made."""

    def __init__(self, at: int, code: int, *, late: bool) -> None:
        super().__init__()
        self.at, self.code, self.late, self.calls = at, code, late, 0

    def apply(self, steps: Sequence[tuple[NetlinkStep, bool]]) -> list[PlatformError | None]:
        results: list[PlatformError | None] = []
        for step in steps:
            self.calls += 1
            if self.calls != self.at:
                results += super().apply([step])
                continue
            if self.late:
                super().apply([step])
                raise KeyboardInterrupt
            return [*results, platform_error(step[0].commands()[0], self.code)]
        return results


@inside
def test_a_failure_at_any_step_leaves_no_trace(lan: Lan, state_dir: Path) -> None:
    """O11: no half-routes, and the error names the command, the system's words and a remedy."""
    _ike0 = tun()
    before = state()
    for at in range(1, 100):
        kernel = FaultyKernel(at, errno.EEXIST, late=False)
        machine = Machine(state_dir, "work", kernel=kernel)
        failed = None
        try:
            machine.apply(FULL)
        except PlatformError as error:
            failed = error
        if failed is None:
            assert at == kernel.calls + 1 > 14
            break
        assert failed.message.startswith("`ip ")
        assert failed.reason == os.strerror(errno.EEXIST)
        assert state() == before, at
        assert machine.warnings == []
        assert list(state_dir.iterdir()) == []
    machine.revert()


@inside
def test_an_interruption_at_any_step_leaves_no_trace(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    before = state()
    for at in range(1, 100):
        machine = Machine(state_dir, "work", kernel=FaultyKernel(at, 0, late=True))
        try:
            machine.apply(FULL)
        except KeyboardInterrupt:
            assert state() == before, at
        else:
            break
    assert at > 14


@inside
def test_a_failure_while_changing_keeps_the_former_configuration(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    kernel = FaultyKernel(0, errno.EPERM, late=False)
    machine = Machine(state_dir, "work", kernel=kernel)
    machine.apply(FULL_V4)
    applied = state()
    later = replace(FULL, addresses=(ip_interface("10.88.0.2/32"), ip_interface("fd88::2/128")), mtu=1380)
    for at in range(1, 100):
        kernel.calls, kernel.at = 0, at
        try:
            machine.apply(later)
        except PlatformError:
            assert sorted(state().splitlines()) == sorted(applied.splitlines()), at
        else:
            break
    assert at > 14
    assert "src 10.88.0.2" in way("8.8.8.8")


def drop_capabilities() -> None:
    header = struct.pack("=II", 0x20080522, 0)  # capset(2)
    if ctypes.CDLL(None).capset(header, struct.pack("=6I", 0, 0, 0, 0, 0, 0)):
        raise OSError("capset")


@inside
def test_a_process_without_rights_is_told_which_one_is_missing(lan: Lan, state_dir: Path) -> None:
    """O1, O11."""
    _ike0 = tun()
    drop_capabilities()
    with pytest.raises(PlatformError) as caught:
        Machine(state_dir, "work").apply(FULL)
    assert caught.value.lines() == [
        "`ip link set dev ike0 mtu 1400 up` failed",
        "Operation not permitted",
        "run as root, or give ikeclient the capability CAP_NET_ADMIN",
    ]


@inside
def test_a_table_that_is_in_use_is_refused(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    assert free_table() == 7400
    sh("ip rule add lookup 7400 priority 5")
    sh("ip -6 route add unreachable 2600::/16 table 7401")
    before = state()
    with pytest.raises(PlatformError, match="routing table 7400 is in use"):
        Machine(state_dir, "work").apply(FULL)
    assert state() == before
    assert free_table() == 7402


@inside
def test_an_interface_that_is_missing_is_an_error(lan: Lan, state_dir: Path) -> None:
    with pytest.raises(PlatformError, match="there is no interface ike0"):
        Machine(state_dir, "work").apply(FULL)


@inside
def test_it_works_inside_a_running_event_loop(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    before = state()

    async def session() -> None:
        machine = Machine(state_dir, "work")
        machine.apply(FULL)
        assert device("8.8.8.8") == "ike0"
        machine.revert()

    asyncio.run(session())
    assert state() == before


@pytest.mark.parametrize("crashed_after", [1, 2, 3, 4])
@inside
def test_the_rule_of_local_addresses_survives_a_crash_while_it_is_moved(lan: Lan, crashed_after: int) -> None:
    before = state()
    sh("ip rule add priority 0 to 10.88.0.1 blackhole protocol 73")
    step = LocalRuleLast(version=4)
    for command in step.commands()[:crashed_after]:
        sh(command)
        assert way("192.0.2.10").startswith("local"), "local delivery never stops"
    with Kernel() as kernel:
        assert kernel.undo([step]) == [None]
    sh("ip rule delete priority 0 to 10.88.0.1 blackhole protocol 73")
    assert state() == before


@inside
def test_two_tunnels_share_the_machine_and_leave_in_any_order(lan: Lan, state_dir: Path) -> None:
    _ike0, _ike1 = tun("ike0"), tun("ike1")
    before = state()
    whole, part = Machine(state_dir, "whole"), Machine(state_dir, "part")
    whole.apply(FULL)
    part.apply(
        replace(
            SPLIT,
            interface="ike1",
            addresses=(ip_interface("10.77.0.1/32"),),
            routes=(ip_network("10.77.0.0/24"),),
            table=7401,
        )
    )
    assert device("10.77.0.5") == "ike1"
    assert device("8.8.8.8") == "ike0"
    assert device("203.0.113.7", "mark", hex(MARK)) == "v0", "one mark for all: no tunnel carries the other"
    whole.revert()
    assert device("10.77.0.5") == "ike1"
    part.revert()
    assert state() == before


@inside
def test_a_second_instance_of_a_running_tunnel_is_refused(lan: Lan, state_dir: Path) -> None:
    _ike0 = tun()
    Machine(state_dir, "work").apply(SPLIT)
    applied = state()
    with pytest.raises(UsageError, match=f"already running \\(pid {os.getpid()}\\)"):
        Machine(state_dir, "work").apply(FULL)
    assert state() == applied


@inside
def test_networks_of_containers_are_no_reason_to_refuse_an_inner_address(lan: Lan, state_dir: Path) -> None:
    """K12: a container daemon takes half of 172.16.0.0/12 for its bridges, and pools are there as well."""
    _ike0 = tun()
    sh("ip link add cni0 type bridge; ip link set cni0 up; ip address add 10.88.0.254/16 dev cni0")
    machine = Machine(state_dir, "work")
    machine.apply(SPLIT)
    machine.revert()
    sh("ip route replace default via 10.88.0.253 dev cni0")  # a bridge that leads to the world is the LAN
    with pytest.raises(NegotiationRefused) as caught:
        machine.apply(SPLIT)
    assert "10.88.0.0/16" in str(caught.value.reason)


@inside
def test_an_address_of_this_machine_is_refused_as_an_inner_one(lan: Lan, state_dir: Path) -> None:
    """K12."""
    _ike0 = tun()
    before = state()
    machine = Machine(state_dir, "work")
    for own in ("192.0.2.10/32", "2001:db8::10/128"):
        with pytest.raises(NegotiationRefused) as caught:
            machine.apply(replace(FULL, addresses=(ip_interface(own),)))
        assert caught.value.reason == "this machine has it already"
    for neighbour, reason in (
        ("192.0.2.1", "router"),
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8::77", "2001:db8::/64"),
    ):
        with pytest.raises(NegotiationRefused) as caught:
            machine.apply(replace(FULL, addresses=(ip_interface(neighbour),)))
        assert reason in str(caught.value.reason)
    assert state() == before
    machine.apply(FULL)
    machine.apply(FULL)
