"""What others take away from a tunnel in a real network namespace: nothing leaves meanwhile, and it comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from net_lab import CLONE_NEWNS, FULL, SPLIT, Lan, device, inside, sh, state, tun, unshare, way

from ikeclient.net.changes.steps import Step
from ikeclient.net.device.tun import TunDevice
from ikeclient.net.machine import mender
from ikeclient.net.machine.machine import Machine
from ikeclient.net.machine.mender import Mender
from ikeclient.net.model import DnsConfig, MachineConfig

pytestmark = pytest.mark.lab

SABOTAGE = {
    "link down": "ip link set ike0 down",
    "link down and up": "ip link set ike0 down; ip link set ike0 up",
    "addresses": "ip address flush dev ike0",
    "table": "ip route flush table 7400; ip -6 route flush table 7400",
    "second table": "ip route flush table 7464; ip -6 route flush table 7464",
    "IPv6 off": "echo 1 > /proc/sys/net/ipv6/conf/ike0/disable_ipv6",
    "MTU": "ip link set ike0 mtu 1200",
    "another MTU": "ip link set ike0 mtu 1300",
    "name": "ip link set ike0 down; ip link set ike0 name other; ip link set other up",
    "a guard of the inner address": "ip rule delete priority 0 to 10.88.0.1 blackhole",
    "a rule": "ip rule delete priority 20010",
    "another rule": "ip -6 rule delete priority 20011",
}
RULES = """ip rule flush; ip -6 rule flush
ip rule add priority 32766 lookup main protocol kernel; ip rule add priority 32767 lookup default protocol kernel
ip -6 rule add priority 32766 lookup main protocol kernel"""
WAIT = 60.0


def steady() -> list[str]:
    """The state without what the kernel changes by itself: link-local addresses, and lifetimes."""
    return [line for line in state().splitlines() if "fe80:" not in line and "valid_lft" not in line]


async def until(there: Callable[[], bool]) -> None:
    """Wait for what must come, without a statement about when."""
    deadline = time.monotonic() + WAIT
    while not there():
        assert time.monotonic() < deadline, state()
        await asyncio.sleep(0.01)


def watched(
    state_dir: Path,
    config: MachineConfig,
    body: Callable[[Machine, list[str]], Awaitable[None]],
    conf: Path | None = None,
) -> None:
    """Run `body` beside a mender of a machine that looks like `config`, and give the machine back."""

    async def session() -> None:
        _ike0 = tun()
        before = state()
        machine = Machine(state_dir, "work", resolv_conf=conf or state_dir / "none")
        machine.apply(config)
        told: list[str] = []
        watching = Mender(machine, told.append)
        try:
            await body(machine, told)
        finally:
            watching.close()
        machine.revert()
        assert machine.warnings == []
        assert state() == before

    asyncio.run(session())


@pytest.mark.parametrize("what", SABOTAGE)
@pytest.mark.parametrize("config", [FULL, SPLIT], ids=["full", "split"])
def test_what_others_change_lets_nothing_out_and_is_put_back(
    lan: Lan, state_dir: Path, config: MachineConfig, what: str
) -> None:
    """O18: `way` is asked before the loop gets a chance to mend anything."""
    inside = ("8.8.8.8", "2600::1") if config is FULL else ("10.99.0.1", "fd99::1")
    command = SABOTAGE[what]
    if config is SPLIT:
        command = command.replace("20010", "20000").replace("20011", "20001")

    def body() -> None:
        async def sabotaged(_: Machine, told: list[str]) -> None:
            applied = steady()
            sh(command)
            assert steady() != applied
            for destination in inside:
                assert " dev v0 " not in f"{way(destination)} ", destination
            await until(lambda: steady() == applied)
            await until(lambda: bool(told))
            assert "was put back" in told[0]

        watched(state_dir, config, sabotaged)

    lan.inside(body)


@inside
def test_flushed_rules_are_back_at_once(lan: Lan, state_dir: Path) -> None:
    """O18: systemd-networkd does that when it starts; the notice comes with the next turn of the event loop."""

    async def sabotaged(_: Machine, told: list[str]) -> None:
        applied = steady()
        sh(RULES)
        assert device("8.8.8.8") == "v0"
        await until(lambda: steady() == applied)
        await until(lambda: bool(told))
        assert told == ["another program changed what is the tunnel's, and it was put back: rules"]

    watched(state_dir, FULL, sabotaged)


@inside
def test_everything_at_once_comes_back(lan: Lan, state_dir: Path) -> None:
    """O18: but for a link-local address, which the kernel makes when an MTU is large enough for IPv6 again."""

    async def sabotaged(_: Machine, __: list[str]) -> None:
        applied = steady()
        sh("; ".join((*SABOTAGE.values(), RULES)), check=False)
        await until(lambda: steady() == applied)
        assert sh("cat /proc/sys/net/ipv6/conf/ike0/accept_ra") == "0\n"

    watched(state_dir, FULL, sabotaged)


def test_who_does_it_for_ever_has_us_wait(lan: Lan, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O18: two programs that undo each other's work; it is said once, and what was taken away comes back in the end."""
    monkeypatch.setattr(mender, "WAIT", 0.3)

    def body() -> None:
        async def sabotaged(_: Machine, told: list[str]) -> None:
            applied = steady()
            for _ in range(mender.MANY):
                sh("ip rule delete priority 20010")
                await until(lambda: steady() == applied)
            started = time.monotonic()
            sh("ip rule delete priority 20010")
            await until(lambda: steady() == applied)
            assert time.monotonic() - started > 0.1
            assert [line for line in told if "again and again" in line]

        watched(state_dir, FULL, sabotaged)

    lan.inside(body)


@inside
def test_changes_of_others_cause_no_look(lan: Lan, state_dir: Path) -> None:
    """O18: a router's main table may change a thousand times a second."""

    async def busy(machine: Machine, _: list[str]) -> None:
        looks: list[float] = []
        uphold = machine.uphold

        def counted() -> list[Step]:
            looks.append(time.monotonic())
            return uphold()

        machine.uphold = counted  # type: ignore[method-assign]
        await asyncio.sleep(0.2)  # what `apply` itself caused is over
        looks.clear()
        for number in range(50):
            sh(f"ip route add 10.9.{number}.0/24 via 192.0.2.1")
            await asyncio.sleep(0)
        assert looks == []
        sh("ip rule add priority 5 lookup 100; ip rule delete priority 5")
        await until(lambda: bool(looks))
        for number in range(50):
            sh(f"ip route delete 10.9.{number}.0/24")

    watched(state_dir, FULL, busy)


@inside
def test_rules_of_others_that_lead_past_the_tunnel_are_said(lan: Lan, state_dir: Path) -> None:
    """O18: they are not ours to remove, and their end is noticed too."""

    async def bypassed(machine: Machine, told: list[str]) -> None:
        sh("ip rule add priority 100 lookup main")
        await until(lambda: bool(told))
        assert told == ["no IPv4 traffic enters the tunnel: other rules or routes lead elsewhere"]
        sh("ip rule delete priority 100")
        await until(lambda: machine.amiss == [])

    watched(state_dir, FULL, bypassed)


@inside
def test_an_interface_that_was_carried_away_is_missed(lan: Lan, state_dir: Path) -> None:
    """O18: it exists in another namespace, so its descriptor says nothing; here everything stays closed."""

    async def carried(_: Machine, told: list[str]) -> None:
        sh(f"ip link set ike0 netns {lan.lan}")
        await until(lambda: bool(told))
        assert told == ["the interface ike0 is gone: nothing passes the tunnel"]
        assert device("8.8.8.8") not in ("v0", "ike0")
        sh(f"ip -n {lan.lan} link set ike0 netns {lan.client}")
        await until(lambda: device("8.8.8.8") == device("2600::1") == "ike0")

    watched(state_dir, FULL, carried)


@pytest.mark.parametrize("renamed", [False, True], ids=["in place", "renamed over"])
def test_a_resolver_configuration_that_was_overwritten_is_ours_again(
    lan: Lan, state_dir: Path, tmp_path: Path, renamed: bool
) -> None:
    """O10: a DHCP client renewed its lease; what it wrote is what comes back at the end, and it is noticed at once."""
    path = tmp_path / "resolv.conf"
    config = replace(FULL, dns=DnsConfig(servers=(ip_address("10.99.0.53"),), mode="all"))

    def body() -> None:
        unshare(CLONE_NEWNS)  # else it would be the file of the test's own network as well
        sh(f"mount --make-rprivate /; mount -t tmpfs none {tmp_path}")
        path.write_text("nameserver 192.0.2.53\n")

        async def overwritten(_: Machine, told: list[str]) -> None:
            started = time.monotonic()
            written = path.with_name("new") if renamed else path
            written.write_text("nameserver 192.0.2.54\n")
            written.replace(path)
            await until(lambda: "10.99.0.53" in path.read_text())
            await until(lambda: bool(told))
            assert "name servers" in told[0]
            assert time.monotonic() - started < mender.PERIOD / 2

        watched(state_dir, config, overwritten, path)
        assert path.read_text() == "nameserver 192.0.2.54\n"

    lan.inside(body)


@inside
def test_what_cannot_be_put_back_is_said_and_the_rest_is(lan: Lan, state_dir: Path) -> None:
    """O18: IPv6 is off on the interface and /proc/sys read-only, as in a container; IPv4 works again."""
    unshare(CLONE_NEWNS)
    sh("mount --make-rprivate /")

    async def sabotaged(_: Machine, told: list[str]) -> None:
        sh("echo 1 > /proc/sys/net/ipv6/conf/ike0/disable_ipv6; mount --bind -o ro /proc/sys /proc/sys")
        sh("mount -o remount,ro,bind /proc/sys; ip link set ike0 down")
        await until(lambda: device("8.8.8.8") == "ike0")
        await until(lambda: any("cannot be put back" in line for line in told))
        assert " dev v0 " not in f"{way('2600::1')} "
        sh("umount /proc/sys; echo 0 > /proc/sys/net/ipv6/conf/ike0/disable_ipv6")
        await until(lambda: device("2600::1") == "ike0")

    watched(state_dir, FULL, sabotaged)


@inside
def test_a_deleted_device_is_made_again_on_the_same_descriptor(lan: Lan, state_dir: Path) -> None:
    """O18: by CAP_NET_ADMIN alone; nothing leaves in between, and what was applied is applied to the new one."""
    device_ = TunDevice("ike0")
    assert device_.enable_offload()
    machine = Machine(state_dir, "work")
    machine.apply(FULL)
    index = machine.extent[0]
    sh("ip link delete ike0")
    for destination in ("8.8.8.8", "2600::1"):
        assert device(destination) not in ("v0", "ike0")
    assert machine.uphold() == []
    assert device_.read_batch(1) == []
    assert device_.lost
    assert device_.reopen()
    assert not device_.lost
    machine.renew()
    assert machine.extent[0] != index
    assert device("8.8.8.8") == device("2600::1") == "ike0"
    assert machine.uphold() == []
    sh("ping -c 1 -W 1 8.8.8.8", check=False)
    assert device_.read_batch(1)
    assert not device_.reopen(), "it is there"
    device_.close()
    machine.revert()


@inside
def test_the_network_behind_the_gateway_is_no_router_of_ours(lan: Lan, state_dir: Path) -> None:
    """P17: what an interface of its kind accepts by default, on machines that forward and on others."""
    _ike0 = tun()
    for name in ("ipv6/conf/ike0/accept_ra", "ipv6/conf/ike0/accept_redirects", "ipv4/conf/ike0/accept_redirects"):
        Path("/proc/sys/net", name).write_text("1")
    Machine(state_dir, "work").apply(FULL)
    for name in (
        "ipv6/conf/ike0/accept_ra",
        "ipv6/conf/ike0/accept_redirects",
        "ipv4/conf/ike0/accept_redirects",
        "ipv4/conf/ike0/send_redirects",
        "ipv4/conf/ike0/accept_source_route",
    ):
        assert Path("/proc/sys/net", name).read_text() == "0\n", name
