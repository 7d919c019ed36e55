"""Whatever ends a tunnel, and wherever it is at that moment: the machine is afterwards as it was before."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.client import Connection
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import GATEWAY_NAME, INSIDE_DNS, INSIDE_IPV4, INTERNET_IPV4
from lab.servers import DOMAIN
from lab.traffic import peer_address, ping, reaches
from lab.world import Lab

FULL = Offer(local_ts=("0.0.0.0/0",), pools=("p4",), dns=(INSIDE_DNS,), domains=(DOMAIN,))
EVERYTHING = {"network": {"routes": "all"}}
SOON = 4.0  # seconds: DELETE has two, the machine's restoration the rest


@pytest.mark.parametrize(
    ("following", "number"),
    [
        ("the same", signal.SIGKILL),
        ("the same", signal.SIGSEGV),
        ("another", signal.SIGKILL),
        ("one that fails", signal.SIGKILL),
    ],
)
def test_a_killed_tunnel_is_undone_by_the_next_start(lab: Lab, following: str, number: signal.Signals) -> None:
    """O3, F16: rules, the block of IPv6 and DNS survive a crash, and the next tunnel of any name clears them away."""
    lab.prepare(FULL, **EVERYTHING)
    lab.client.write_profile(lab.gateway, EVERYTHING, name="another")
    lab.client.write_profile(lab.gateway, {"gateway": {"address": "10.1.0.99"}}, name="failing")
    machine = lab.network.client
    before = lab.client.traces()
    connection = lab.client.connect()
    connection.process.send_signal(number)
    assert connection.wait() == 128 + number
    left = lab.client.traces()
    changed = {name for name in before if before[name] != left[name]}
    assert changed == {"rules", "rules6", "routes", "routes6", "resolver"}
    assert lab.client.status() is None
    if following == "one that fails":
        assert lab.client.start("failing", "--timeout", "1").wait() == 5
    else:
        again = lab.client.connect("work" if following == "the same" else "another")
        assert "undid" in again.stderr
        assert peer_address(machine, INTERNET_IPV4).startswith("10.88.0.")
        lab.client.disconnect()
    assert lab.client.traces() == before
    logs = set(machine.run("ls", "/run/ikeclient").stdout.split())
    assert logs <= {"work.log", "failing.log"}, "what was killed or has failed leaves its last log for `report`"


def _silent_names(lab: Lab) -> Connection:
    lab.network.gateway.block_udp_port(53)
    lab.client.write_profile(lab.gateway, {"gateway": {"address": GATEWAY_NAME}})
    return lab.client.start()


def _silent_gateway(lab: Lab) -> Connection:
    lab.client.write_profile(lab.gateway)
    return lab.client.start()


def _silent_authentication(lab: Lab) -> Connection:
    lab.network.gateway.block_udp_port(4500)
    lab.prepare()
    return lab.client.start()


def _connected(lab: Lab) -> Connection:
    lab.prepare(FULL, **EVERYTHING)
    return lab.client.connect()


def _reconnecting(lab: Lab) -> Connection:
    connection = _connected(lab)
    lab.gateway.terminate()
    lab.gateway.kill()
    return connection


PHASES: dict[str, Callable[[Lab], Connection]] = {
    "resolving": _silent_names,
    "negotiating": _silent_gateway,
    "authenticating": _silent_authentication,
    "connected": _connected,
    "reconnecting": _reconnecting,
}


@pytest.mark.parametrize(
    ("phase", "number"),
    list(itertools.product(PHASES, [signal.SIGINT, signal.SIGTERM])),
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value,
)
def test_a_signal_ends_a_tunnel_in_order_at_any_time(lab: Lab, phase: str, number: signal.Signals) -> None:
    """O4: DELETE to the gateway where there is an SA, the machine restored, and the exit code that says so."""
    before = lab.client.traces()
    connection = PHASES[phase](lab)
    wait_for(lambda: phase in connection.stderr, timeout=10, what=phase)
    connection.process.send_signal(number)
    assert connection.wait(SOON) == (130 if number == signal.SIGINT else 0)
    assert "Traceback" not in connection.stderr
    assert lab.client.traces() == before
    assert lab.network.client.run("ls", "/run/ikeclient").stdout == ""
    if phase == "connected":
        assert "received DELETE for IKE_SA" in lab.gateway.log
        assert lab.gateway.list_sas() == []


def test_a_second_interrupt_while_the_farewell_goes_unanswered_does_no_harm(lab: Lab) -> None:
    """O4: double Ctrl-C."""
    before = lab.client.traces()
    connection = _connected(lab)
    lab.gateway.kill()
    connection.process.send_signal(signal.SIGINT)
    connection.process.send_signal(signal.SIGINT)
    assert connection.interrupt(SOON) == 130
    assert "Traceback" not in connection.stderr
    assert lab.client.traces() == before


_ANSWERS = """
import socket, time
mark = socket.socket(socket.AF_UNIX)
mark.bind("\\0ikeclient/address/fd88::1/128")
mark.listen()
time.sleep(600)
"""


def _conflicting_rule(lab: Lab) -> None:
    """A rule equal to one of ours stands there already, and somebody answers for it: EEXIST from the kernel."""
    machine = lab.network.client
    machine.ip("-6", "rule", "add", "priority", "0", "to", "fd88::1", "iif", "lo", "lookup", "local", "protocol", "73")
    machine.start("python3", "-c", _ANSWERS)
    wait_for(lambda: "@ikeclient/" in machine.read_file("/proc/net/unix"), timeout=20, what="the mark")


def _full_etc(lab: Lab) -> None:
    """No space for a new resolv.conf, the last of all steps: ENOSPC."""
    machine = lab.network.client
    used = machine.run("df", "--output=used", "-k", "/etc").stdout.split()[-1]
    machine.run("mount", "-o", f"remount,size={used}k", "/etc")


def _full_run(lab: Lab) -> None:
    """No space for a journal that outgrows a page: ENOSPC before one of many routes."""
    machine = lab.network.client
    machine.run("mkdir", "-m", "700", "/run/ikeclient")
    machine.run("mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "small", "/run/ikeclient")


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (_conflicting_rule, ("ip -6 rule add", "fd88::1/128", "File exists")),
        (_full_etc, ("/etc/resolv.conf", "No space left")),
        (_full_run, ("/run/ikeclient/work.undo.json", "No space left")),
    ],
)
def test_what_was_set_up_is_rolled_back_when_the_machine_refuses_half_way(
    lab: Lab, obstacle: Callable[[Lab], None], words: tuple[str, ...]
) -> None:
    """O11, O12: exit code 12, the SAs deleted, and nothing left of the steps that had worked."""
    obstacle(lab)
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,)))
    many = [f"10.99.0.{number}/32" for number in range(100, 130)]
    lab.client.write_profile(lab.gateway, {"network": {"exclude": many}})
    before = lab.client.traces()
    connection = lab.client.start()
    assert connection.wait() == 12, connection.stderr
    error = connection.stderr[connection.stderr.index("error:") :]
    assert all(word in error for word in words), error
    assert len(error.strip().splitlines()) <= 3
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []


def test_a_read_only_state_directory_prevents_changes_that_could_not_be_undone(lab: Lab) -> None:
    """O12: nothing is changed that a crash would leave; another directory serves."""
    machine = lab.network.client
    machine.run("mount", "-o", "remount,ro", "/run")
    before = lab.client.traces()
    refused = lab.start()
    assert refused.wait() == 12
    assert "/run/ikeclient" in refused.stderr
    assert lab.client.traces() == before
    elsewhere = lab.client.start("work", env={"IKECLIENT_RUNTIME_DIR": str(lab.client.directory / "run")})
    wait_for(lambda: "connected" in elsewhere.stderr, timeout=20, what="the tunnel")
    assert ping(machine, INSIDE_IPV4) == 3
    assert elsewhere.terminate() == 0
    assert lab.client.traces() == before


def test_a_state_directory_that_becomes_read_only_does_not_end_the_tunnel(lab: Lab) -> None:
    """O12: the tunnel goes on, and its end still restores the machine."""
    before = lab.client.traces()
    connection = _connected(lab)
    lab.network.client.run("mount", "--bind", "/run", "/run")  # the tunnel's log is open below the former mount
    lab.network.client.run("mount", "-o", "remount,bind,ro", "/run")
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0
    assert lab.client.traces() == before


def test_nobody_reading_its_words_does_not_end_the_tunnel(lab: Lab) -> None:
    """O4, O12: SIGPIPE and a closed log."""
    lab.prepare()
    command = 'trap "" INT; ikeclient connect work -vvv 2>&1 | head -n 1'
    lab.network.client.start("sh", "-c", command, env=lab.client.environment)
    lab.client.wait_state("connected", timeout=15)
    lab.gateway.rekey(child="net")
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert lab.client.disconnect("work").returncode == 0
    assert lab.gateway.list_sas() == []


def test_sixty_four_descriptors_are_enough(lab: Lab) -> None:
    """O13"""
    before = lab.client.traces()
    connection = lab.start(FULL, prefix=("prlimit", "--nofile=64"), **EVERYTHING)
    connection.wait_connected()
    for _ in range(3):
        lab.client.run("reconnect", "work")
        lab.client.wait_state("connected", timeout=10)
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert connection.terminate() == 0
    assert lab.client.traces() == before


def test_a_profile_connects_once_at_a_time(lab: Lab) -> None:
    """F16: the second instance says which process has the tunnel, and the first does not notice."""
    lab.prepare()
    both = [lab.client.start(), lab.client.start()]
    wait_for(lambda: any(one.process.poll() is not None for one in both), timeout=20, what="one of them to give up")
    [refused] = [one for one in both if one.process.poll() is not None]
    [winner] = [one for one in both if one.process.poll() is None]
    winner.wait_connected()
    third = lab.client.start()
    for loser in (refused, third):
        assert loser.wait() == 2
        assert "already running" in loser.stderr
    assert f"(pid {winner.process.pid})" in third.stderr
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert len(lab.gateway.list_sas()) == 1


def test_an_interface_that_was_deleted_is_made_again(lab: Lab) -> None:
    """P11, O18: with its addresses and routes, on the same connection, and without the rights to the device node."""
    before = lab.client.traces()
    connection = _connected(lab)
    lab.network.client.hide("/dev/net")
    lab.network.client.ip("link", "delete", "ike0")
    wait_for(lambda: "it was made again" in connection.stderr, timeout=20, what="the interface")
    assert peer_address(lab.network.client, INTERNET_IPV4).startswith("10.88.0.")
    assert lab.gateway.log.count("established between") == 1
    status = lab.client.status()
    assert status
    assert any("deleted the interface ike0" in warning for warning in status["warnings"])
    lab.client.disconnect()
    assert lab.client.traces() == before


def test_the_loss_of_the_interface_again_and_again_is_an_error_that_says_so(lab: Lab) -> None:
    """P11, O18: who deletes it for ever gets their way."""
    before = lab.client.traces()
    connection = _connected(lab)
    machine = lab.network.client
    for number in range(1, 6):
        machine.ip("link", "delete", "ike0")
        wait_for(lambda: connection.stderr.count("it was made again") == number, timeout=20, what="the interface")  # noqa: B023
    machine.ip("link", "delete", "ike0")
    assert connection.wait(SOON) == 12
    assert "ike0 is gone" in connection.stderr
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []


def test_the_device_node_is_needed_only_at_the_start(lab: Lab) -> None:
    connection = _connected(lab)
    lab.network.client.hide("/dev/net")
    lab.gateway.terminate()
    wait_for(lambda: "reconnecting" in connection.stderr, timeout=10, what="a reconnection")
    lab.client.wait_state("connected", timeout=15)
    assert reaches(lab.network.client, INTERNET_IPV4, timeout=5)


def _script(lab: Lab, name: str, body: str) -> list[str]:
    path = lab.client.directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return [str(path)]


def test_hooks_see_the_tunnel_and_nothing_else(lab: Lab) -> None:
    """F15: an environment made for them, no descriptor of ours, the profile's directory, and the tunnel still there."""
    record = 'env >"$1/env"; pwd >"$1/pwd"; ls -l /proc/$$/fd >"$1/fd"; ip address >"$1/ip"; touch "$1/done"'
    hook = _script(lab, "hook", f'mkdir "$1" || exit 0; {record}')
    up, down = lab.client.directory / "seen up", lab.client.directory / "seen down"
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,)))
    hooks = {"up": [[*hook, str(up)]], "down": [[*hook, str(down)]]}
    lab.client.write_profile(lab.gateway, {"session": hooks})
    connection = lab.client.start("work", env={"SECRET": "canary-of-the-environment"})
    connection.wait_connected()
    wait_for((up / "done").exists, timeout=10, what="the up hook")
    assert connection.terminate(SOON) == 0
    assert (down / "done").exists()
    for place, reason, event in ((up, "up", "connected"), (down, "down", "disconnected")):
        seen = dict(line.split("=", 1) for line in (place / "env").read_text().splitlines())
        expected = {
            "IKECLIENT_REASON": reason,
            "IKECLIENT_EVENT": event,
            "IKECLIENT_NAME": "work",
            "IKECLIENT_INTERFACE": "ike0",
            "IKECLIENT_GATEWAY": "10.1.0.1",
            "IKECLIENT_ADDRESSES": "10.88.0.1/32 fd88::1/128",
            "IKECLIENT_DNS_SERVERS": INSIDE_DNS,
            "IKECLIENT_DNS_DOMAINS": DOMAIN,
            "IKECLIENT_P_CSCF": "",
            "IKECLIENT_ROUTES": "10.99.0.0/24 fd99::/64",
            "IKECLIENT_MTU": seen["IKECLIENT_MTU"],
        }
        assert {name: value for name, value in seen.items() if name not in ("PATH", "PWD", "SHLVL", "_")} == expected
        assert (place / "pwd").read_text() == f"{lab.client.profiles}\n"
        assert "socket:" not in (place / "fd").read_text()
        assert "tun" not in (place / "fd").read_text()
        assert "inet 10.88.0.1/32" in (place / "ip").read_text()


def test_hooks_that_fail_or_hang_do_not_hurt_the_tunnel(lab: Lab) -> None:
    """F15: each is a warning, and none outlives the tunnel, nor does what it started."""
    hanging = _script(lab, "hanging", "trap '' TERM INT HUP; sleep 6123 & touch hanging; sleep 6123")
    gone = _script(lab, "gone", "")
    failing = _script(lab, "failing", f"rm {gone[0]}; exit 3")
    loud = _script(lab, "loud", "head -c 100000000 /dev/zero; kill -9 $$")
    before = lab.client.traces()
    connection = lab.connected(session={"up": [hanging], "down": [failing, gone, loud]})
    wait_for((lab.client.profiles / "hanging").exists, timeout=10, what="the hook")
    machine = lab.network.client
    assert ping(machine, INSIDE_IPV4) == 3
    assert len(machine.run("pgrep", "-f", "^sleep 6123").stdout.split()) == 2
    assert connection.interrupt(SOON) == 130
    for words in ("failing' ended with status 3", "gone' cannot run", "loud' ended with status -9"):
        assert words in connection.stderr
    assert machine.run("pgrep", "-f", "^sleep 6123", check=False).stdout == ""
    assert lab.client.traces() == before


@pytest.mark.parametrize("fault", ["missing", "not executable", "open to others"])
def test_hooks_that_must_not_be_run_are_refused_before_any_packet(lab: Lab, fault: str) -> None:
    """F15"""
    [path] = _script(lab, "hook", "")
    match fault:
        case "missing":
            Path(path).unlink()
        case "not executable":
            Path(path).chmod(0o644)
        case "open to others":
            Path(path).chmod(0o777)
    lab.client.write_profile(lab.gateway, {"session": {"up": [[path]]}})
    refused = lab.client.run("connect", "work")
    assert refused.returncode == 9
    assert path in refused.stderr
    assert "resolving" not in refused.stderr
