"""`ikeclient proxy` as an ordinary user without any capability, through a real gateway, with the clients people use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from lab import proxy_peers
from lab.gateway import Offer
from lab.machines import descendants, wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INSIDE_IPV6
from lab.person import HOME, UID, Person
from lab.proxies import DNS_QUERY, OUTSIDE_THE_TUNNEL, Proxy, curl, peers, running
from lab.world import Lab


def test_curl_gets_through_by_socks_and_by_http_and_nothing_passes_the_tunnel_by(lab: Lab, person: Person) -> None:
    machine = lab.network.client
    with lab.capture() as wire, running(person) as proxy:
        socks, http = proxy.ports()
        ways = [
            ("--socks5-hostname", f"127.0.0.1:{socks}", "http://corp.example/peer"),
            ("--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer"),
            ("--socks5-hostname", f"127.0.0.1:{socks}", f"http://[{INSIDE_IPV6}]/peer"),
            ("-x", f"http://127.0.0.1:{http}", "http://corp.example/peer"),
            ("-p", "-x", f"http://127.0.0.1:{http}", "http://corp.example/peer"),
        ]
        for way in ways:
            done = curl(machine, *way)
            assert done.stdout in ("10.88.0.1", "fd88::1"), (way, done)
        blob = machine.run("sh", "-c", f"curl -sS -x socks5h://127.0.0.1:{socks} http://corp.example/blob | sha256sum")
        assert blob.stdout.split()[0] == lab.servers.sha256
        sent = curl(machine, "-x", f"http://127.0.0.1:{http}", "-T", str(lab.servers.path), "http://corp.example/sink")
        assert sent.stdout == lab.servers.sha256
        status = person.status()
        assert status is not None
        assert status["mode"] == "netns"
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.ended() == 0
        assert person.status() is None
        assert curl(machine, "-x", f"http://127.0.0.1:{http}", "http://corp.example/").returncode == 7  # nobody listens
    assert wire.count(OUTSIDE_THE_TUNNEL) == 0
    assert wire.count("udp.port == 4500") > 100


def test_datagrams_and_their_names_go_through_the_tunnel(lab: Lab, person: Person) -> None:
    with running(person) as proxy:
        socks, _ = proxy.ports()
        answer = bytes.fromhex(peers(lab.network.client, "datagram", socks, INSIDE_DNS, 53, DNS_QUERY.hex()))
        assert answer[:10] == b"\0\0\0\x01" + socket.inet_aton(INSIDE_DNS) + b"\0\x35"
        assert answer[10:12] == DNS_QUERY[:2]
        assert answer.endswith(socket.inet_aton(INSIDE_IPV4))
        named = bytes.fromhex(peers(lab.network.client, "datagram", socks, "corp.example", 7, b"hello".hex()))
        assert named.endswith(b"hello")
        six = bytes.fromhex(peers(lab.network.client, "datagram", socks, INSIDE_IPV6, 7, b"six".hex()))
        assert six[3] == 4
        assert six.endswith(b"six")


def test_a_thousand_connections_at_once(lab: Lab, person: Person) -> None:
    proxy_peers.start_peers(lab.network.gateway)
    with running(person) as proxy:
        socks, _ = proxy.ports()
        assert peers(lab.network.client, "many", socks, 1000, "corp.example", 9000) == "1000"
        assert curl(lab.network.client, "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer").stdout
    assert not proxy.noise


def test_a_hundred_megabytes_arrive_whole(lab: Lab, person: Person) -> None:
    proxy_peers.start_peers(lab.network.gateway)
    with running(person) as proxy:
        socks, _ = proxy.ports()
        _, digest = peers(lab.network.client, "bulk", socks, INSIDE_IPV4, 9001, 100).split()
        assert digest == proxy_peers.bulk_hash(100)


def test_a_download_through_the_proxy_survives_the_way_to_another_network(lab: Lab, person: Person) -> None:
    lab.network.add_second_path()
    machine = lab.network.client
    with running(person) as proxy:
        socks, _ = proxy.ports()
        options = ("-sS", "--limit-rate", "300k", "--max-time", "60", "--socks5-hostname", f"127.0.0.1:{socks}")
        download = machine.start("curl", *options, "http://corp.example/blob", stdout=subprocess.PIPE)
        wait_for(
            lambda: (person.status() or {})["children"][0]["bytes_in"] > 50_000, timeout=30, what="the first bytes"
        )
        lab.network.use_second_path()
        proxy.wait("roamed")
        body, _ = download.communicate(timeout=70)
        assert hashlib.sha256(body).hexdigest() == lab.servers.sha256
        status = person.status()
        assert status is not None
        assert (status["roams"], status["reconnects"]) == (1, 0)


def test_while_the_tunnel_is_lost_clients_wait_or_hear_why_and_after_it_they_are_served(
    lab: Lab, person: Person
) -> None:
    machine = lab.network.client
    person.write_profile({"session": {"liveness": "5s"}})
    with lab.capture() as wire, running(person) as proxy:
        socks, _ = proxy.ports()
        through = ("--socks5", f"127.0.0.1:{socks}")
        lab.gateway.kill()
        person.run("reconnect", "work")
        person.wait_state("reconnecting")
        done = curl(machine, *through, "--max-time", "2", f"http://{INSIDE_IPV4}/peer")
        assert done.returncode in (28, 97)  # curl's own limit, or the reply of SOCKS
        waiting = machine.start("curl", "-sS", *through, f"http://{INSIDE_IPV4}/peer", stdout=subprocess.PIPE)
        lab.gateway.serve(Offer(dns=(INSIDE_DNS,)))
        person.wait_state("connected")
        body, _ = waiting.communicate(timeout=60)
        assert body == b"10.88.0.1"
    assert wire.count(OUTSIDE_THE_TUNNEL) == 0


def test_the_proxy_ends_with_its_tunnel(lab: Lab, person: Person) -> None:
    with running(person) as proxy:
        proxy.ports()
        assert person.run("disconnect", "work").returncode == 0
        assert proxy.ended() == 0
        assert "disconnected" in [event["event"] for event in proxy.events]


def test_the_proxy_ends_when_its_tunnel_is_killed_and_says_so(lab: Lab, person: Person) -> None:
    with running(person) as proxy:
        socks, _ = proxy.ports()
        status = person.status()
        assert status is not None
        os.kill(status["pid"], signal.SIGKILL)
        assert proxy.ended() == 12
        assert proxy.wait("error")["message"] == "the tunnel has ended"
        assert curl(lab.network.client, "--socks5", f"127.0.0.1:{socks}", "http://10.99.0.1/").returncode != 0


def parts(person: Person, proxy: Proxy) -> dict[str, int]:
    """The processes of a proxy by what they are: the tunnel, the init of its namespace, and who serves inside."""
    status = person.status()
    assert status is not None
    found = {"tunnel": int(status["pid"])}
    for path in (Path(f"/proc/{each}/status") for each in descendants(proxy.process.pid)):
        with contextlib.suppress(OSError):
            fields = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
            pid = int(path.parent.name)
            command = (path.parent / "cmdline").read_bytes().split(b"\0")
            if b"proxy" not in command or fields["Uid"].split()[0] != str(UID) or pid == found["tunnel"]:
                continue
            inside = os.readlink(path.parent / "ns/net") != os.readlink(f"/proc/{found['tunnel']}/ns/net")
            if inside:
                found["init" if int(fields["CapEff"], 16) else "child"] = pid
    return found


@pytest.mark.parametrize("part", ["init", "child"])
def test_a_proxy_without_a_part_of_itself_ends_and_says_which(lab: Lab, person: Person, part: str) -> None:
    """O21: exit code 12, nothing of it is left, and its last event is no `disconnected`."""
    words = {"init": "the process that holds the tunnel's namespace is gone", "child": "serves the proxy is gone"}
    before = lab.client.traces()
    with running(person) as proxy:
        proxy.ports()
        os.kill(parts(person, proxy)[part], signal.SIGKILL)
        assert proxy.ended() == 12
    told = proxy.wait("error")
    assert words[part] in told["message"]
    assert told["exit_code"] == 12
    assert person.status() is None
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=20, what="the DELETE")
    assert lab.client.traces() == before


def test_an_exec_whose_namespace_lost_its_init_hears_it(lab: Lab, person: Person) -> None:
    """O21: the command keeps its exit status; the tunnel ends, with 12, and the gateway is told."""
    started = person.start("exec", "work", "--", "sh", "-c", "until test -e ~/go; do sleep 0.1; done; exit 3")
    person.wait_state("connected")
    inits = [
        int(path.parent.name)
        for path in (Path(f"/proc/{each}/status") for each in descendants(started.pid))
        if b"exec" in (path.parent / "cmdline").read_bytes().split(b"\0")
        and f"Uid:\t{UID}\t" in path.read_text()
        and "CapEff:\t0000000000000000" not in path.read_text()
    ]
    [init] = inits
    os.kill(init, signal.SIGKILL)
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=20, what="the DELETE")
    assert started.stderr is not None
    assert select.select([started.stderr], [], [], 20)[0], "the command goes on, and hears of it meanwhile"
    assert b"has ended with exit code 12" in started.stderr.readline()
    assert person.status() is None
    person.machine.run("touch", f"{HOME}/go")
    started.communicate(timeout=30)
    assert started.returncode == 3


SERVICE = """
import socket, sys, time
seen = open(sys.argv[1], "a", buffering=1)
services = [socket.create_server(("127.0.0.1", 5555)), socket.create_server(("10.88.0.1", 5556))]
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 5557))
print("ready", file=seen)
import select
while True:
    for one in select.select([*services, datagrams], [], [])[0]:
        print("reached", file=seen)
        one.recv(10) if one is datagrams else one.accept()
"""


def test_other_users_do_not_reach_what_a_command_of_exec_offers_inside(lab: Lab, person: Person) -> None:
    """O22: by SOCKS, by HTTP, by name, by the inner address and by datagrams; commands inside still do."""
    machine = lab.network.client
    other = ("setpriv", "--reuid=1001", "--regid=1001", "--clear-groups")
    with running(person) as proxy:
        socks, http = proxy.ports()
        person.start("exec", "work", "--", sys.executable, "-c", SERVICE, f"{HOME}/seen")
        person.wait_file("seen")
        for url, port in (("127.0.0.1", 5555), ("localhost", 5555), ("[::ffff:127.0.0.1]", 5555), ("10.88.0.1", 5556)):
            for way in (
                ("--socks5-hostname", f"127.0.0.1:{socks}"),
                ("-x", f"http://127.0.0.1:{http}"),
                ("-p", "-x", f"http://127.0.0.1:{http}"),
            ):
                done = machine.run(*other, "curl", "-sSf", "-m", "5", *way, f"http://{url}:{port}/", check=False)
                assert done.returncode in (22, 56, 97), (way, url, done)
        assert peers(machine, "datagram", socks, "127.0.0.1", 5557, b"in".hex(), 1) == ""
        assert machine.run("cat", f"{HOME}/seen").stdout == "ready\n"
        assert person.inside("curl -m 5 -s http://127.0.0.1:5555/ & sleep 1; kill $!; true").returncode == 0
        assert "reached" in person.wait_file("seen")


HOLD = """
import socket, sys
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20) for _ in range(int(sys.argv[2]))]
associations = []
for _ in range(80):
    one = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
    one.sendall(b"\\x05\\x01\\x00\\x05\\x03\\x00\\x01" + bytes(6))
    associations.append(one)
print("held", flush=True)
sys.stdin.read()
"""


def test_one_users_connections_and_associations_do_not_shut_the_owner_out(lab: Lab, person: Person) -> None:
    """O22: the owner's client is served at once beside 4,200 idle connections of another user."""
    machine = lab.network.client
    other = ("setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", "prlimit", "--nofile=8192")
    mine = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    with running(person) as proxy:
        socks, _ = proxy.ports()
        holder = machine.start(
            *other, sys.executable, "-c", HOLD, str(socks), "4200", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for _ in range(5):
            done = machine.run(
                *mine, "curl", "-sS", "-m", "20", "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer"
            )
            assert done.stdout == "10.88.0.1"
        answer = bytes.fromhex(peers(machine, "datagram", socks, INSIDE_DNS, 53, DNS_QUERY.hex()))
        assert answer[10:12] == DNS_QUERY[:2]
        assert holder.stdin is not None
        holder.stdin.close()
        holder.wait(30)


def test_proxy_and_exec_share_a_tunnel_whoever_came_first(lab: Lab, person: Person) -> None:
    peer = f"curl -sS --max-time 20 http://{INSIDE_IPV4}/peer"
    with running(person) as proxy:
        proxy.ports()
        assert person.inside(peer).stdout == "10.88.0.1"
    assert person.status() is None
    command = person.start("exec", "work", "--", "cat", stdin=subprocess.PIPE)
    person.wait_state("connected")
    with running(person) as proxy:
        socks, _ = proxy.ports()
        assert curl(lab.network.client, "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer").stdout
    assert proxy.process.returncode == 0
    assert person.status() is not None
    with running(person) as proxy:
        proxy.ports()
        command.communicate(timeout=20)
        assert command.returncode == 0
        socks, _ = proxy.ports()
        assert curl(lab.network.client, "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer").stdout
    wait_for(lambda: person.status() is None, timeout=20, what="the end of the tunnel")
    assert lab.gateway.log.count("parsed IKE_AUTH request") == 2


def test_a_proxy_that_is_killed_leaves_nothing(lab: Lab, person: Person) -> None:
    """O3: the listeners are closed, the tunnel ends."""
    proxy = Proxy(person)
    socks, _ = proxy.ports()
    proxy.process.kill()
    proxy.ended()
    wait_for(lambda: person.status() is None, timeout=20, what="the end of the tunnel")
    refused = curl(lab.network.client, "--socks5", f"127.0.0.1:{socks}", f"http://{INSIDE_IPV4}/peer")
    assert "Failed to connect to 127.0.0.1" in refused.stderr


def test_stdio_starts_a_tunnel_or_joins_the_one_that_runs(lab: Lab, person: Person) -> None:
    request = "GET /peer HTTP/1.0\r\n\r\n"
    alone = person.run("proxy", "work", "--stdio", "corp.example:80", stdin=request)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout.splitlines()[-1] in ("10.88.0.1", "fd88::1")
    assert person.status() is None
    with running(person) as proxy:
        proxy.ports()
        joined = person.run("proxy", "work", "--stdio", f"[{INSIDE_IPV6}]:80", stdin=request)
        assert (joined.returncode, joined.stderr) == (0, "")
        assert joined.stdout.splitlines()[-1] == "fd88::1"
        refused = person.run("proxy", "work", "--stdio", f"{INSIDE_IPV4}:1")
        assert refused.returncode == 5
        assert "the host refused the connection" in refused.stderr
        assert refused.stdout == ""
    assert "parsed IKE_AUTH request" in lab.gateway.log
    assert lab.gateway.log.count("parsed IKE_AUTH request") == 2


def test_a_password_and_a_forward(lab: Lab, person: Person) -> None:
    machine = lab.network.client
    machine.write_file("/run/user/1000/listen", "proxy-canary-7Q\n")
    machine.run("chown", "1000:1000", "/run/user/1000/listen")
    machine.run("chmod", "600", "/run/user/1000/listen")
    options = ("--socks", "0", "--http", "0", "--forward", "0:corp.example:80")
    login = ("--user", "alice", "--password-from", "file:/run/user/1000/listen")
    with running(person, *options, *login) as proxy:
        socks, http, forward = proxy.ports()
        assert curl(machine, f"http://127.0.0.1:{forward}/peer").stdout in ("10.88.0.1", "fd88::1")
        for scheme, port in (("socks5h", socks), ("http", http)):
            right = curl(
                machine, "-x", f"{scheme}://alice:proxy-canary-7Q@127.0.0.1:{port}", "http://corp.example/peer"
            )
            assert right.stdout in ("10.88.0.1", "fd88::1")
            wrong = curl(machine, "-f", "-x", f"{scheme}://alice:guess@127.0.0.1:{port}", "http://corp.example/peer")
            assert wrong.returncode != 0
            assert wrong.stdout == ""
    assert "canary" not in str(proxy.events) + str(proxy.noise)
