"""The client in a container: with just the user, capabilities, device and files that an engine gives, and less."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
from lab.container import NET_ADMIN, NOTHING, STATE, Container, own_device, reachable_by_others
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INTERNET_IPV4
from lab.servers import DOMAIN
from lab.traffic import carries
from lab.world import Lab
from process_status import status_of

GRANT = Offer(auth="eap-mschapv2", dns=(INSIDE_DNS,), domains=(DOMAIN,))
USER = 1000

needs_reach = pytest.mark.skipif(not reachable_by_others(), reason="an ordinary user cannot run this interpreter")
everybody = pytest.mark.parametrize("user", [0, pytest.param(USER, marks=needs_reach)])


def state(container: Container) -> dict[str, object]:
    return json.loads(container.run("status", "--json").stdout)["tunnels"][0]


@everybody
def test_a_sidecar_with_one_capability_and_a_read_only_file_system(lab: Lab, user: int) -> None:
    """The tunnel is healthy, roams, serves whoever shares its network, and SIGTERM ends it in order."""
    machine = lab.network.client
    lab.network.add_second_path()
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client, user=user)
    before = machine.run("ip", "rule").stdout
    connection = container.start(container.profile(lab.gateway), "--log-format", "json")
    wait_for(lambda: '"connected"' in connection.stderr, timeout=30, what=f"the tunnel\n{connection.stderr}")
    assert container.run("status", "--check", "up").returncode == 0

    pid = connection.process.pid
    status = status_of(pid)
    assert status["Uid"].split() == [str(user)] * 4
    assert (status["CapEff"], status["CapPrm"]) == (NET_ADMIN, NET_ADMIN)
    assert (status["CapInh"], status["CapAmb"]) == (NOTHING, NOTHING)
    assert status["NoNewPrivs"] == "1"
    assert ("user 0" in connection.stderr) is (user == 0), "root that may not change its user is told so"
    assert "DNS is left alone" in connection.stderr

    lab.network.use_second_path()
    wait_for(lambda: state(container)["roams"] == 1, timeout=15, what="the move")
    carries(machine, INSIDE_IPV4)
    assert all("event" in json.loads(line) for line in connection.stderr.splitlines())

    assert connection.terminate() == 0
    assert "received DELETE for IKE_SA" in lab.gateway.log
    assert container.run("status", "--check", "up").returncode == 3
    assert machine.run("ip", "rule").stdout == before
    assert machine.run("ls", STATE).stdout == ""


@pytest.mark.parametrize("silent", [False, True])
def test_sigterm_is_answered_within_two_seconds_also_by_a_gateway_that_is_gone(lab: Lab, silent: bool) -> None:
    """An engine that waited ten seconds would kill us, and leave rules behind in the shared network."""
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client)
    connection = container.start(container.profile(lab.gateway))
    wait_for(lambda: "connected in" in connection.stderr, timeout=30, what=f"the tunnel\n{connection.stderr}")
    if silent:
        lab.gateway.kill()
    assert connection.terminate(4.0 if silent else 2.0) == 0
    assert "7400" not in lab.network.client.run("ip", "rule").stdout


@needs_reach
def test_a_tun_device_made_by_the_administrator_needs_no_capability(lab: Lab) -> None:
    """Nothing is changed, what is missing is said as commands, and once it is done packets flow."""
    machine = lab.network.client
    own_device(lab.client, "ike7", USER)
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client, user=USER, capabilities=())
    before = lab.client.traces()
    connection = container.start(container.profile(lab.gateway, {"network": {"interface": "ike7"}}))
    wait_for(lambda: "connected in" in connection.stderr, timeout=30, what=f"the tunnel\n{connection.stderr}")
    status = status_of(connection.process.pid)
    assert (status["CapEff"], status["CapPrm"], status["CapBnd"]) == (NOTHING,) * 3
    assert status["Uid"].split() == [str(USER)] * 4
    after = lab.client.traces()
    assert {kind: after[kind] for kind in after if kind != "links"} == {
        kind: before[kind] for kind in before if kind != "links"
    }
    document = state(container)
    commands = [text for text in document["warnings"] if str(text).startswith("ip ")]  # type: ignore[attr-defined]
    assert any("the administrator's" in str(text) for text in document["warnings"])  # type: ignore[attr-defined]
    assert f"ip link set ike7 mtu {machine_mtu(commands)} up" in commands
    assert "ip address replace 10.88.0.1/32 dev ike7" in commands
    assert "ip route replace 10.99.0.0/24 dev ike7" in commands
    assert f"tell the resolver of the name server {INSIDE_DNS} for {DOMAIN}" in connection.stderr
    for command in commands:
        machine.run(*str(command).split())
    carries(machine, INSIDE_IPV4)

    assert container.run("reconnect").returncode == 0
    wait_for(lambda: state(container)["reconnects"] == 1, timeout=15, what="the reconnection")
    assert not [text for text in state(container)["warnings"] if str(text).startswith("ip ")]  # type: ignore[attr-defined]
    carries(machine, INSIDE_IPV4)
    assert connection.terminate(5.0) == 0
    assert lab.gateway.list_sas() == []


def machine_mtu(commands: list[object]) -> str:
    return next(str(command) for command in commands if "mtu" in str(command)).split()[5]


@needs_reach
def test_the_administrators_routes_of_a_full_tunnel_do_not_loop(lab: Lab) -> None:
    """P15: the gateway gets a route of its own, because our packets carry no mark without the capability."""
    machine = lab.network.client
    own_device(lab.client, "ike7", USER)
    lab.gateway.serve(Offer(auth="eap-mschapv2", local_ts=("0.0.0.0/0",), pools=("p4",)))
    container = Container(client=lab.client, user=USER, capabilities=())
    overrides = {"network": {"interface": "ike7", "routes": "all"}}
    connection = container.start(container.profile(lab.gateway, overrides))
    wait_for(lambda: "connected in" in connection.stderr, timeout=30, what=f"the tunnel\n{connection.stderr}")
    commands = [str(text) for text in state(container)["warnings"] if str(text).startswith("ip ")]  # type: ignore[attr-defined]
    assert "ip route replace 0.0.0.0/1 dev ike7" in commands
    assert "ip -6 route replace unreachable ::/1" in commands
    for command in commands:
        machine.run(*command.split())
    carries(machine, INTERNET_IPV4)
    assert state(container)["children"][0]["packets_out"] >= 1  # type: ignore[index]
    assert connection.terminate(5.0) == 0


@pytest.mark.parametrize(
    ("user", "capabilities", "node", "words", "remedy"),
    [
        (0, ("net_admin",), "none", "there is no /dev/net/tun", "--device /dev/net/tun"),
        pytest.param(USER, (), "600", "may not be opened by user 1000", "chmod 0666", marks=needs_reach),
        (0, (), "666", "CAP_NET_ADMIN is missing", "--cap-add NET_ADMIN"),
        pytest.param(USER, (), "666", "CAP_NET_ADMIN is missing", "ip tuntap add", marks=needs_reach),
    ],
)
def test_a_missing_right_is_named_with_what_grants_it(
    lab: Lab, user: int, capabilities: tuple[str, ...], node: str, words: str, remedy: str
) -> None:
    """O1: three lines, exit code 11, and `doctor` says the same."""
    lab.gateway.serve(GRANT)
    container = Container(client=lab.client, user=user, capabilities=capabilities, node=node)
    connection = container.start(container.profile(lab.gateway))
    assert connection.wait() == 11
    assert words in connection.stderr
    lines = connection.stderr.splitlines()
    assert len(lines) == 3
    findings = {each["name"]: each for each in json.loads(container.run("doctor", "--json").stdout)["findings"]}
    assert not (findings["TUN device"]["ok"] and findings["CAP_NET_ADMIN"]["ok"])
    hints = " ".join(str(each["hint"]) for each in findings.values())
    assert lines[-1].strip() in hints
    if not any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):  # there: its own remedy alone
        assert remedy in lines[-1]
        assert "Kubernetes" in lines[-1]
    assert lab.gateway.list_sas() == []


def falls_silent(manager: socket.socket) -> bool:
    """Whether nothing comes for six times the heartbeat, after what is on its way."""
    patience = manager.gettimeout()
    manager.settimeout(1.2)
    try:
        for _ in range(100):
            manager.recv(4096)
    except TimeoutError:
        return True
    finally:
        manager.settimeout(patience)
    return False


def test_the_service_manager_hears_of_readiness_life_and_end(lab: Lab) -> None:
    """sd_notify(3) of a whole connection, with the watchdog fed by the event loop also while the gateway is silent."""
    lab.prepare()
    path = lab.client.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        connection = lab.client.start(env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"})

        def hear(words: str) -> list[str]:
            heard = [manager.recv(4096).decode()]
            while words not in heard[-1]:
                heard.append(manager.recv(4096).decode())
            return heard

        before = hear("READY=1")
        assert any(message.startswith("STATUS=connecting: negotiating") for message in before)
        assert before[-1] == "READY=1\nSTATUS=connected on ike0"
        hear("WATCHDOG=1")
        lab.gateway.kill()
        hear("WATCHDOG=1")
        connection.process.send_signal(signal.SIGSTOP)
        assert falls_silent(manager)
        connection.process.send_signal(signal.SIGCONT)
        hear("WATCHDOG=1")
        connection.process.send_signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert connection.wait(10) == 0
