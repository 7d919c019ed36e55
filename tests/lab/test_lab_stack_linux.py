"""The stack against Linux's TCP behind a real gateway, as `tests/stack/test_stack_linux.py` does over a bare device."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest
from lab import proxy_peers
from lab.capture import Capture
from lab.machines import Machine, wait_for
from lab.network import FURTHER_IPV4, FURTHER_IPV6, INSIDE_IPV4, INSIDE_IPV6, Topology
from lab.stack_users import using
from lab.world import Lab, MakeLab

PORT = 9000
ECHO, RESETTING, CLOSED = PORT, PORT + 2, PORT + 9
BOTH = pytest.mark.parametrize("address", [INSIDE_IPV4, INSIDE_IPV6])
TIMES = 8


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The module's, with peers."""
    proxy_peers.start_peers(module_lab.network.gateway, PORT)
    return module_lab


def connections_of(machine: Machine, port: int) -> list[str]:
    """Those that Linux still has."""
    found = machine.run("ss", "-Htn", "state", "established", f"( sport = :{port} )").stdout
    return found.splitlines()


def test_ends_resets_and_refusals(lab: Lab) -> None:
    """Half-close, a reset in each direction, and a closed port."""
    with using(lab) as (user, _):
        for address in (INSIDE_IPV4, INSIDE_IPV6):
            assert user.ask("echo", address, ECHO, 1_000_000)["same"]
            refused, reset = user.ask("hear", address, CLOSED), user.ask("hear", address, RESETTING)
            assert (refused.errno, reset.errno) == (errno.ECONNREFUSED, errno.ECONNRESET)
            assert user.ask("leave", address, ECHO) is None
        wait_for(lambda: not connections_of(lab.network.gateway, ECHO), timeout=5, what="Linux to hear of the resets")


@pytest.mark.extended
def test_slow_readers_and_crowds(lab: Lab) -> None:
    with using(lab) as (user, _):
        slow = user.ask("echo", INSIDE_IPV4, ECHO, 40 << 20, 1.0)
        assert slow["same"]
        assert slow["held"] < 36 << 20  # two buffers at either end, of which none grows without a reader
        assert user.ask("many", INSIDE_IPV4, ECHO, 1000) == 1000


@pytest.mark.extended
@pytest.mark.timeout(600)
@BOTH
def test_a_gigabyte_each_way(lab: Lab, address: str) -> None:
    with using(lab) as (user, _):
        assert user.ask("echo", address, ECHO, 1 << 30)["same"]


@pytest.mark.parametrize("told", [True, pytest.param(False, marks=pytest.mark.extended)])
def test_a_path_inside_that_carries_less_is_found_out(make_lab: MakeLab, told: bool) -> None:
    """By the error of a router behind the gateway, and where that is filtered, by what does not arrive (RFC 8899)."""
    lab = make_lab(Topology())
    proxy_peers.start_peers(lab.network.add_further_machine(mtu=1280), PORT)
    if not told:
        errors = "icmp type destination-unreachable drop", "icmpv6 type packet-too-big drop"
        lab.network.gateway.add_rules("output", *errors)
    with using(lab) as (user, person):
        for address in (FURTHER_IPV4, FURTHER_IPV6):
            assert user.ask("echo", address, ECHO, 2_000_000)["same"]
            status = person.status()
            assert status is not None
            assert user.ask("mtu", address) == (1280 if told else status["mtu"])


@pytest.mark.extended
def test_wireshark_finds_nothing_wrong_inside(lab: Lab, tmp_path: Path) -> None:
    """No checksum is wrong, nothing is sent again without a loss, nothing is outside of the window.

    What is under way has room in the gateway's socket, so that nothing is lost there. On a busy machine an answer may
    be so late that a tail is probed in vain (RFC 8985 section 7), which is one segment.
    """
    machine = lab.network.gateway
    capture = Capture(machine, "ipsec0", tmp_path / "inside.pcap", expression="tcp", longest=1600)
    with using(lab) as (user, _), capture:
        for address in (INSIDE_IPV4, INSIDE_IPV6):
            for _ in range(TIMES):
                assert user.ask("echo", address, ECHO, 60_000)["same"]
            assert user.ask("hear", address, CLOSED).errno == errno.ECONNREFUSED
    ours = "(ip.src == 10.88.0.1 || ipv6.src == fd88::1)"
    wrong = (
        "tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed || tcp.analysis.fast_retransmission "
        "|| tcp.analysis.out_of_order || tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment "
        "|| tcp.analysis.zero_window_probe"
    )
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-d", f"tcp.port=={ECHO},data")
    assert capture.packets(f"{ours} && ({wrong})", "frame.number", "_ws.col.Info", options=checks) == []
    again = Counter(capture.packets(f"{ours} && tcp.analysis.retransmission", "tcp.stream"))
    assert max(again.values(), default=0) <= 2
    assert capture.count(f"{ours} && tcp.len > 1000") > 2 * TIMES * 60_000 // 1400


@pytest.mark.extended
@BOTH
def test_a_cable_that_loses_delays_reorders_and_doubles(make_lab: MakeLab, address: str) -> None:
    lab = make_lab(Topology(impaired=True))
    proxy_peers.start_peers(lab.network.gateway, PORT)
    with using(lab) as (user, _):
        assert lab.network.relay is not None
        lab.network.relay.impair(loss=0.01, delay=0.01, jitter=0.003, reorder=0.02, duplicate=0.01)
        assert user.ask("echo", address, ECHO, 4 << 20)["same"]
        assert user.ask("many", address, ECHO, 200) == 200
