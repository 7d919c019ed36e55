"""The logic of `Machine` over a kernel in memory: order, differences, and every failure and crash undone."""

from __future__ import annotations

import copy
import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from ikeclient.errors import PlatformError
from ikeclient.net.changes.desired import Facts
from ikeclient.net.changes.journal import Journal, this_process
from ikeclient.net.changes.steps import Step
from ikeclient.net.machine.fake import FakeDns, FakeKernel, FakeMachine, Faults
from ikeclient.net.machine.machine import Machine, repair
from ikeclient.net.model import DnsConfig, MachineConfig

SPLIT = MachineConfig(
    interface="ike0",
    mtu=1400,
    addresses=(ip_interface("10.88.0.1/32"),),
    routes=(ip_network("10.99.0.0/24"),),
    gateway=(ip_address("203.0.113.7"),),
    ports=(4500,),
    mark=0x1CE,
    table=7400,
    dns=DnsConfig(servers=(ip_address("10.99.0.53"),), domains=("corp.example",)),
)
FULL = replace(
    SPLIT,
    mtu=1380,
    addresses=(ip_interface("10.88.0.2/32"),),
    routes=(ip_network("0.0.0.0/0"),),
    blocked=frozenset({6}),
    exclude=(ip_network("192.168.0.0/16"),),
    dns=DnsConfig(servers=(ip_address("10.99.0.54"),), mode="all"),
)


def test_the_log_of_a_session_reads_like_a_shell() -> None:
    machine = FakeMachine()
    machine.apply(SPLIT)
    up = [
        "ip link set dev ike0 mtu 1400 up",
        "ip rule add priority 0 to 10.88.0.1/32 iif ike0 lookup local protocol 73",
        "ip rule add priority 0 to 10.88.0.1/32 iif lo lookup local protocol 73",
        "ip rule add priority 0 to 10.88.0.1/32 protocol 73 blackhole",
        "ip rule add priority 1 lookup local protocol 73",
        "ip rule delete priority 0 lookup local protocol kernel",
        "ip rule add priority 0 lookup local protocol kernel",
        "ip rule delete priority 1 lookup local protocol 73",
        "ip address replace 10.88.0.1/32 dev ike0 noprefixroute",
        "ip route replace unreachable 10.99.0.0/24 table 7464 protocol kernel",
        "ip route replace 10.99.0.0/24 dev ike0 src 10.88.0.1 scope global table 7400 protocol kernel",
        "ip rule add priority 20001 not fwmark 0x1ce lookup 7464 protocol kernel",
        "ip rule add priority 20000 not fwmark 0x1ce lookup 7400 protocol kernel",
        "resolvectl dns ike0 10.99.0.53",
        "resolvectl domain ike0 '~corp.example'",
        "resolvectl default-route ike0 no",
    ]
    assert machine.log == up
    assert machine.plan(SPLIT) == up
    machine.log.clear()
    machine.apply(SPLIT)
    assert machine.log == []
    machine.revert()
    assert machine.log == [
        "resolvectl revert ike0",
        "ip rule delete priority 20000 not fwmark 0x1ce lookup 7400 protocol kernel",
        "ip rule delete priority 20001 not fwmark 0x1ce lookup 7464 protocol kernel",
        "ip route delete 10.99.0.0/24 dev ike0 src 10.88.0.1 scope global table 7400 protocol kernel",
        "ip route delete unreachable 10.99.0.0/24 table 7464 protocol kernel",
        "ip address delete 10.88.0.1/32 dev ike0",
        "ip rule delete priority 0 to 10.88.0.1/32 protocol 73 blackhole",
        "ip rule delete priority 0 to 10.88.0.1/32 iif lo lookup local protocol 73",
        "ip rule delete priority 0 to 10.88.0.1/32 iif ike0 lookup local protocol 73",
        "ip link set dev ike0 mtu 1500 down",
    ]
    assert machine.configs == [SPLIT, SPLIT]


def test_a_route_is_replaced_before_the_address_it_came_from_goes() -> None:
    machine = FakeMachine()
    machine.apply(SPLIT)
    machine.log.clear()
    machine.apply(replace(SPLIT, addresses=FULL.addresses))
    log = machine.log
    new_route = "ip route replace 10.99.0.0/24 dev ike0 src 10.88.0.2 scope global table 7400 protocol kernel"
    assert log.index("ip address replace 10.88.0.2/32 dev ike0 noprefixroute") < log.index(new_route)
    assert log.index(new_route) < log.index("ip address delete 10.88.0.1/32 dev ike0")
    assert not any("route delete" in line for line in log), "for a moment the traffic would leave in the clear"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EEXIST, errno.ENOSPC])
@pytest.mark.parametrize("former", [None, SPLIT])
def test_any_call_that_fails_leaves_everything_as_before(code: int, former: MachineConfig | None) -> None:
    """O11, O12: each call on the kernel, on name resolution and on the journal fails once."""
    for at in range(1, 200):
        machine = FakeMachine()
        if former:
            machine.apply(former)
        kernel, dns = copy.copy(machine.kernel.state), machine.dns.state
        steps = set(machine.journal.steps)
        machine.faults.calls, machine.faults.at, machine.faults.code = 0, at, code
        failed = None
        try:
            machine.apply(FULL)
        except PlatformError as error:
            failed = error
        if failed is None:
            break
        assert failed.reason == os.strerror(code)
        assert machine.kernel.state == kernel, at
        assert machine.dns.state == dns, at
        assert set(machine.journal.steps) == steps, at
        assert machine.warnings == []
        machine.faults.at = None
        machine.revert()
        assert not machine.kernel.state
        assert not machine.journal.steps
    assert at > 15
    machine.faults.at = None
    machine.revert()
    assert (machine.kernel.state, machine.dns.state, machine.journal.steps) == ({}, None, [])


class Crash(BaseException):
    """The process dies."""


class Death(Faults):
    """Comes at the n-th call on the kernel, name resolution or the journal, and keeps what is in force then."""

    def __init__(self) -> None:
        super().__init__()
        self.corpse: list[object] = []
        self.look: Callable[[], list[object]] = list

    def check(self, command: str) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.corpse = self.look()
            raise Crash


class DyingJournal(Journal):
    """Really writes; the process may die before (or, `late`, after) that."""

    def __init__(self, directory: Path, death: Death, *, late: bool) -> None:
        super().__init__(directory, "work.undo.json", this_process("work"))
        self.death, self.late = death, late

    def write(self, steps: Sequence[Step]) -> None:
        if not self.late:
            self.death.check("write the journal")
        super().write(steps)
        if self.late:
            self.death.check("write the journal")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("former", [None, SPLIT])
def test_after_a_crash_at_any_moment_repair_undoes_everything(
    state_dir: Path, former: MachineConfig | None, late: bool
) -> None:
    """O3: what the journal holds at any moment is enough; it is real, and its owner is made to be dead."""
    path = state_dir / "work.undo.json"
    for at in range(1, 200):
        death = Death()
        kernel, dns = FakeKernel([], death, Facts(index=7)), FakeDns([], death)
        machine = Machine(state_dir, "work", kernel=kernel, dns=dns, journal=DyingJournal(state_dir, death, late=late))
        if former:
            machine.apply(former)

        def look(kernel: FakeKernel = kernel, dns: FakeDns = dns) -> list[object]:
            return [dict(kernel.state), dns.state, path.read_text() if path.exists() else None]

        death.look, death.at = look, death.calls + at
        try:
            machine.apply(FULL)
        except Crash:
            pass
        else:
            break
        kernel.state, dns.state, text = death.corpse  # type: ignore[assignment]
        death.at = None
        if isinstance(text, str):
            document = json.loads(text)
            document["start"] += 1
            path.write_text(json.dumps(document))
        lines = repair(state_dir, kernel=kernel, dns=dns, resolv_conf=state_dir / "resolv.conf")
        assert kernel.state == {}, at
        assert dns.state is None
        assert list(state_dir.glob("*")) == []
        assert len(lines) == (1 if text else 0)
    assert at > 15


def test_what_revert_cannot_undo_stays_in_the_journal_with_a_warning() -> None:
    machine = FakeMachine()
    machine.apply(SPLIT)
    machine.faults.calls, machine.faults.at = 0, 2
    machine.revert()
    assert machine.warnings == [
        "not undone: `ip rule delete priority 20000 not fwmark 0x1ce lookup 7400 protocol kernel` failed: "
        "Operation not permitted"
    ]
    assert len(machine.journal.steps) == len(machine.kernel.state) == 1
    machine.revert()
    assert machine.journal.steps == []
    assert machine.kernel.state == {}


def test_what_was_given_back_is_upheld_no_more() -> None:
    """O18: not even what could not be undone, and nothing is applied again."""
    machine = FakeMachine()
    machine.apply(SPLIT)
    machine.kernel.state.popitem()
    assert len(machine.uphold()) == 1
    machine.faults.calls, machine.faults.at = 0, 2
    machine.revert()
    left = dict(machine.kernel.state)
    assert len(left) == 1
    machine.kernel.state.clear()
    assert machine.uphold() == []
    machine.renew()
    assert machine.kernel.state == {}


def test_gateway_supplied_names_that_are_not_names_get_nowhere() -> None:
    """K13, K14."""
    machine = FakeMachine()
    hostile = DnsConfig(
        servers=tuple(map(ip_address, ("127.0.0.1", "0.0.0.0", "::1", "169.254.1.1", "fe80::1", "10.99.0.53"))),
        domains=("x;id", "$(reboot)", "a\nb", "-flag", "a..b", "corp.example", "x" * 64, "a." * 127 + "a"),
    )
    machine.apply(replace(SPLIT, dns=hostile))
    assert "resolvectl dns ike0 10.99.0.53" in machine.log
    assert "resolvectl domain ike0 '~corp.example'" in machine.log
    assert len(machine.warnings) == 12
    assert all(warning.isprintable() for warning in machine.warnings)


def test_a_name_server_outside_the_tunnels_networks_is_asked_through_the_tunnel() -> None:
    """K14."""
    machine = FakeMachine()
    outside = DnsConfig(servers=(ip_address("9.9.9.9"), ip_address("2620:fe::9")), mode="all")
    machine.apply(replace(SPLIT, dns=outside))
    assert "ip route replace 9.9.9.9/32 dev ike0 src 10.88.0.1 scope global table 7400 protocol kernel" in machine.log
    assert not any("2620" in line and "route" in line for line in machine.log), "there is no inner IPv6 address"
    assert [warning for warning in machine.warnings if "9.9.9.9" in warning]


def test_only_name_servers_that_are_used_are_said_to_be() -> None:
    """K14: the effect is what counts, not the wish."""
    known = Facts(index=7, taken=frozenset({ip_address("192.0.2.10")}), lan=(ip_network("192.0.2.0/24"),))
    machine = FakeMachine(facts=known)
    wish = ("192.0.2.10", "192.0.2.77", "127.0.0.1", "10.99.0.53")
    machine.apply(replace(SPLIT, dns=DnsConfig(servers=tuple(map(ip_address, wish)), mode="all")))
    assert machine.servers == (ip_address("10.99.0.53"),)
    assert len(machine.warnings) == 3
    machine.apply(replace(SPLIT, dns=DnsConfig(servers=(ip_address("192.0.2.10"),), mode="all")))
    assert machine.servers == ()
    assert machine.dns.state is None
    machine.apply(replace(SPLIT, dns=None))
    assert (machine.servers, machine.warnings) == ((), [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"interface": "../../etc"},
        {"interface": "-x"},
        {"interface": "sixteen-letters-"},
        {"mtu": 20},
        {"mark": 0},
        {"table": 254},
        {"table": 0},
    ],
)
def test_a_configuration_that_would_reach_beyond_the_tunnel_cannot_be_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not an interface name|no usable|not a table"):
        replace(SPLIT, **wrong)  # type: ignore[arg-type]
