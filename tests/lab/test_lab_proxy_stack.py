"""`ikeclient proxy` where there is no namespace and no TUN device: the tunnel ends in its own process."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lab import proxy_peers, syn_flood
from lab.client import REPOSITORY
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INSIDE_IPV6
from lab.person import Person
from lab.proxies import DNS_QUERY, IN_CONTAINER, OUTSIDE_THE_TUNNEL, curl, peers, running
from lab.world import Lab

BOTH = ("--socks", "0", "--http", "0", "--stack")


def test_where_no_namespace_can_be_had_it_goes_on_without_and_says_so(lab: Lab, person: Person) -> None:
    """As nobody, without a capability or new privileges, under Docker's default profile, without a device node."""
    machine = lab.network.client
    machine.hide("/dev/net")
    with lab.capture() as wire, running(person, prefix=IN_CONTAINER) as proxy:
        socks, http = proxy.ports()
        assert "--stack" in proxy.wait("notice")["text"]
        for way in (
            ("--socks5-hostname", f"127.0.0.1:{socks}", "http://corp.example/peer"),
            ("--socks5", f"127.0.0.1:{socks}", f"http://[{INSIDE_IPV6}]/peer"),
            ("-x", f"http://127.0.0.1:{http}", "http://corp.example/peer"),
        ):
            done = curl(machine, *way)
            assert done.stdout in ("10.88.0.1", "fd88::1"), (way, done)
        blob = machine.run("sh", "-c", f"curl -sS -x socks5h://127.0.0.1:{socks} http://corp.example/blob | sha256sum")
        assert blob.stdout.split()[0] == lab.servers.sha256
        sent = curl(machine, "-x", f"http://127.0.0.1:{http}", "-T", str(lab.servers.path), "http://corp.example/sink")
        assert sent.stdout == lab.servers.sha256
        status = person.status()
        assert status is not None
        assert (status["mode"], status["interface"], status["state"]) == ("stack", None, "connected")
        refused = curl(machine, "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}:9/")
        assert refused.returncode == 97, refused
    assert wire.count(OUTSIDE_THE_TUNNEL) == 0
    assert not proxy.noise
    assert person.status() is None


def test_a_request_goes_through_standard_input_and_output(lab: Lab, person: Person) -> None:
    """`--stdio` with the stack: a request and its answer, byte for byte, and the exit status."""
    proxied = f"{person.program} proxy work --stack --stdio {INSIDE_IPV4}:80"
    script = f"printf 'GET /blob HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' | {proxied} | sed '1,/^.$/d' | sha256sum"
    command = (*person.ordinary, "sh", "-c", script)
    done = person.machine.run(*command, env=person.environment, timeout=60)
    assert done.stdout.split()[0] == lab.servers.sha256, done
    nobody = person.run("proxy", "work", "--stack", "--stdio", f"{INSIDE_IPV4}:9")
    assert nobody.returncode == 5, nobody
    assert "refused" in nobody.stderr


def test_many_at_once_and_much_arrive_whole(lab: Lab, person: Person) -> None:
    proxy_peers.start_peers(lab.network.gateway)
    with running(person, *BOTH) as proxy:
        socks, _ = proxy.ports()
        assert peers(lab.network.client, "many", socks, 300, "corp.example", 9000) == "300"
        _, digest = peers(lab.network.client, "bulk", socks, INSIDE_IPV4, 9001, 50).split()
        assert digest == proxy_peers.bulk_hash(50)
        answer = bytes.fromhex(peers(lab.network.client, "datagram", socks, INSIDE_DNS, 53, DNS_QUERY.hex()))
        assert answer.endswith(socket.inet_aton(INSIDE_IPV4))
        named = bytes.fromhex(peers(lab.network.client, "datagram", socks, "corp.example", 7, b"hello".hex()))
        assert named.endswith(b"hello")
    assert not proxy.noise


def test_connections_live_through_a_move_and_rekeys(lab: Lab, person: Person) -> None:
    lab.network.add_second_path()
    machine = lab.network.client
    with running(person, *BOTH) as proxy:
        socks, _ = proxy.ports()
        options = ("-sS", "--limit-rate", "400k", "--max-time", "60", "--socks5-hostname", f"127.0.0.1:{socks}")
        download = machine.start("curl", *options, "http://corp.example/blob", stdout=subprocess.PIPE)
        wait_for(
            lambda: (person.status() or {})["children"][0]["bytes_in"] > 50_000, timeout=30, what="the first bytes"
        )
        lab.gateway.rekey(child="net")
        lab.network.use_second_path()
        proxy.wait("roamed")
        body, _ = download.communicate(timeout=70)
        assert hashlib.sha256(body).hexdigest() == lab.servers.sha256
        status = person.status()
        assert status is not None
        assert (status["roams"], status["reconnects"]) == (1, 0)


def test_a_port_inside_the_tunnel_leads_to_a_service_of_this_machine(lab: Lab, person: Person) -> None:
    machine = lab.network.client
    served = ("-m", "http.server", "3000", "--bind", "127.0.0.1", "--directory", "/usr/share/doc/base-files")
    machine.start(sys.executable, *served, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with running(person, "--remote-forward", "8080:localhost:3000") as proxy:
        assert any("8080" in where for where in proxy.wait("listening")["listeners"])

        def answer() -> str:
            return lab.network.gateway.run("curl", "-sS", "http://10.88.0.1:8080/", check=False).stdout

        assert "copyright" in wait_for(answer, timeout=10, what="an answer", interval=0.2)
        proxy.process.send_signal(signal.SIGINT)
        assert proxy.ended() == 130
    assert proxy.events[-1]["event"] == "disconnected"


def resident(pid: int) -> int:
    """The memory of a process in KiB."""
    return int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


@pytest.mark.parametrize("number", [3000, pytest.param(60_000, marks=pytest.mark.extended)])
def test_floods_from_inside_are_bounded_and_others_are_served(lab: Lab, person: Person, number: int) -> None:
    """SYNs from addresses that do not exist to a port inside the tunnel, and segments outside of a window."""
    gateway = lab.network.gateway
    proxy_peers.start_peers(lab.network.client)
    gateway.ip("route", "add", "blackhole", syn_flood.SPOOFED)
    with running(person, *BOTH, "--remote-forward", "8080:localhost:9000") as proxy:
        proxy.wait("connected")
        peers(gateway, "many", 0, 50, "10.88.0.1", 8080)
        before = resident(proxy.process.pid)
        command = (sys.executable, syn_flood.__file__, "10.88.0.1", "8080", str(number), str(number))
        assert gateway.run(*command, env={"PYTHONPATH": str(REPOSITORY)}, timeout=110).stdout == "ok\n"
        assert resident(proxy.process.pid) - before < 16 << 10
    assert not proxy.noise


def test_a_command_with_proxy_variables_when_that_is_asked_for(lab: Lab, person: Person) -> None:
    """And only then: without the option it is an error that names both ways on."""
    refused = person.run("exec", "work", "--", "true", prefix=IN_CONTAINER)
    assert refused.returncode == 11
    assert "exec --via-proxy" in refused.stderr
    script = (
        f"curl -sS http://corp.example/peer; ALL_PROXY= all_proxy= curl -sS -m 1 http://{INSIDE_IPV4}/peer || exit 7"
    )
    done = person.run("exec", "--via-proxy", "work", "--", "sh", "-c", script, prefix=IN_CONTAINER)
    assert done.stdout in ("10.88.0.110.88.0.1", "fd88::110.88.0.1"), done  # the second goes by http_proxy
    assert "goes past the tunnel" in done.stderr
    assert done.returncode == 0
    assert person.run("exec", "--via-proxy", "work", "--", "sh", "-c", "exit 3", prefix=IN_CONTAINER).returncode == 3
