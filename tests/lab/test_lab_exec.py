"""`exec` as user 1000 without a capability: what the command gets, and that nothing of it passes the tunnel by."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import (
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    INSIDE_DNS,
    INSIDE_IPV4,
    INSIDE_IPV6,
    INTERNET_DNS,
    INTERNET_IPV4,
    INTERNET_IPV6,
    SECOND_GATEWAY_IPV4,
    SECOND_GATEWAY_IPV6,
)
from lab.person import HOME, UID, Person
from lab.servers import DOMAIN
from lab.world import Lab

GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,))
FULL = Offer(dns=(INSIDE_DNS,), local_ts=("0.0.0.0/0", "::/0"))
GATEWAYS = " || ".join(
    f"{family}.addr == {address}"
    for family, address in (
        ("ip", GATEWAY_IPV4),
        ("ip", SECOND_GATEWAY_IPV4),
        ("ipv6", GATEWAY_IPV6),
        ("ipv6", SECOND_GATEWAY_IPV6),
    )
)
OURS = f"(udp.port == 500 || udp.port == 4500) && ({GATEWAYS})"
NEIGHBOURS = "arp || icmpv6.type >= 130"  # the kernel's own, on every link
ATTEMPTS = " & ".join(
    (
        f"curl -sS -m 1 http://{INTERNET_IPV4}/peer",
        f"curl -sS -m 1 'http://[{INTERNET_IPV6}]/peer'",
        f"curl -sS -m 1 http://{GATEWAY_IPV4}/peer",
        f"curl -sS -m 1 --interface lo http://{INTERNET_IPV4}/peer",
        f"ping -c 1 -W 1 {GATEWAY_IPV4}",
        "timeout 1 getent hosts www.example.net",
        f"bash -c 'echo question > /dev/udp/{INTERNET_DNS}/53'",
        "wait",
    )
)

CROWD = """
import os, sys
from ikeclient.cli.app import main
from ikeclient.net.namespace import handle
for number in range(50):
    if os.fork() == 0:
        code = main(["exec", "work", "--", "sh", "-c", sys.argv[1], str(number)])
        print("ended with", code, flush=True)
        os._exit(code)
sys.exit(max(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(50)))
"""  # fifty commands for the price of one start of the interpreter


@pytest.fixture
def person(lab: Lab) -> Person:
    lab.gateway.serve(GRANT)
    return Person(lab)


def command_pid(person: Person) -> int:
    """The process that wrote its ID into the file `pid` of the home."""
    return int(person.wait_file("pid"))


def is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_command_gets_a_network_of_its_own_and_nothing_else_changes(lab: Lab, person: Person) -> None:
    """The download, the names and the exit status are the command's; the machine is as before, the SA deleted."""
    before = lab.client.traces()
    done = person.inside(
        f"id -u; ls /proc/sys/net/ipv4/conf; grep Cap /proc/self/status;"
        f" curl -sS http://host.{DOMAIN}/blob | sha256sum; curl -sS http://{INSIDE_IPV4}/peer; echo;"
        f" curl -sS 'http://[{INSIDE_IPV6}]/peer'; echo; cat /etc/resolv.conf; grep ^hosts: /etc/nsswitch.conf; exit 7"
    )
    assert done.returncode == 7
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:5] == [str(UID), "all", "default", "ike0", "lo"]
    capabilities = dict(line.split(":\t") for line in lines[5:10])
    assert [name for name, value in capabilities.items() if int(value, 16)] == ["CapBnd"]
    assert int(capabilities["CapBnd"], 16) == 1 << 10 | 1 << 13
    assert lines[10] == f"{lab.servers.sha256}  -"
    assert lines[11:] == [
        "10.88.0.1",
        "fd88::1",
        f"nameserver {INSIDE_DNS}",
        f"search {DOMAIN}",
        "hosts: files dns",
    ]
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []
    assert person.machine.run("ls", "-A", f"{HOME}/ikeclient").stdout == ""


def test_no_packet_of_a_command_passes_the_tunnel_by(lab: Lab, person: Person) -> None:
    """Split and full, up, reconnecting, and after the client was killed: only our IKE and ESP are on the wire."""
    person.machine.write_file("/etc/hosts", "127.0.0.1 localhost\n")
    with lab.capture() as wire:
        split = person.start("exec", "work", "--", "sh", "-c", f"{ATTEMPTS}; echo $$ > ~/pid; exec sleep 600")
        pid = command_pid(person)
        status = person.status()
        assert status is not None
        lab.gateway.kill()
        person.inside(ATTEMPTS)
        os.kill(status["pid"], signal.SIGKILL)
        wait_for(lambda: is_gone(status["pid"]), timeout=10, what="the end of the tunnel")
        links = Path(f"/proc/{pid}/net/dev")
        wait_for(lambda: "ike0" not in links.read_text(), timeout=10, what="the interface to go")
        inside = ("nsenter", "-t", str(pid), "-U", "-n", "-m", "--preserve-credentials")
        attempted = person.machine.run(*inside, "sh", "-c", ATTEMPTS, check=False)
        assert "unreachable" in attempted.stderr.lower() or "connect" in attempted.stderr.lower()
        split.terminate()
        split.communicate(timeout=20)
    assert wire.count(OURS) > 4
    assert wire.packets(f"!({OURS}) && !({NEIGHBOURS})", "frame.protocols", "ip.dst", "ipv6.dst") == []


def test_a_full_tunnel_takes_everything(lab: Lab, person: Person) -> None:
    """Also name servers of the machine and the gateway's own address."""
    lab.gateway.serve(FULL)
    with lab.capture() as wire:
        done = person.inside(
            f"curl -sS http://{INTERNET_IPV4}/peer; echo; curl -sS http://{GATEWAY_IPV4}/peer; {ATTEMPTS}"
        )
    assert done.stdout.startswith("10.88.0.1\n10.88.0.1")
    assert "1 received" in done.stdout
    assert wire.packets(f"!({OURS}) && !({NEIGHBOURS})", "frame.protocols", "ip.dst", "ipv6.dst") == []


def test_no_name_is_asked_outside_by_way_of_a_socket(lab: Lab, person: Person) -> None:
    """As on a desktop: the resolver's file leads to systemd-resolved, and nscd is there. Both are out of sight."""
    machine = person.machine
    machine.run("mkdir", "-p", "/run/systemd/resolve", "/run/nscd")
    machine.write_file("/run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n")
    machine.write_file("/run/nscd/socket", "")
    machine.run("ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    machine.write_file("/etc/nsswitch.conf", "passwd: files\nhosts: files resolve [!UNAVAIL=return] mdns4 dns\n")
    done = person.inside(
        f"ls -A /run/nscd /var/run/nscd /run/systemd/resolve; cat /etc/resolv.conf /etc/nsswitch.conf;"
        f" getent ahostsv4 host.{DOMAIN} | head -n 1; getent hosts nowhere.example.; echo $?"
    )
    lines = done.stdout.splitlines()
    assert "socket" not in lines
    assert "stub-resolv.conf" in lines, "ours, in a directory that is otherwise empty"
    assert f"nameserver {INSIDE_DNS}" in lines
    assert "127.0.0.53" not in done.stdout
    assert "hosts: files dns" in lines
    assert any(line.startswith(INSIDE_IPV4) for line in lines)
    assert lines[-1] == "2"
    assert machine.read_file("/etc/resolv.conf") == "nameserver 127.0.0.53\n"


def test_the_tunnels_servers_stay_when_the_machine_writes_its_file_anew(lab: Lab, person: Person) -> None:
    """As network managers do after a move: by renaming, which takes mounts of other namespaces away; twice.

    The same for a directory of a name service that is made anew when the service starts again.
    """
    person.machine.run("mkdir", "/run/nscd")
    look = f"cat /etc/resolv.conf; grep hosts: /etc/nsswitch.conf; getent ahostsv4 host.{DOMAIN} | head -n 1"
    wait = "until test -e ~/go$n; do sleep 0.1; done"
    script = f"echo $$ > ~/pid; for n in 1 2; do {wait}; {look}; echo done > ~/done$n; done"
    started = person.start("exec", "work", "--", "sh", "-c", script)
    etc = Path(f"/proc/{command_pid(person)}/root/etc")
    for number in (1, 2):
        for name in ("resolv.conf", "nsswitch.conf"):
            new = f"/etc/{name}.new"
            person.machine.run("sh", "-ec", f"echo 'nameserver 192.0.2.{number}' > {new}; mv {new} /etc/{name}")
        person.machine.run("sh", "-ec", "rmdir /run/nscd; mkdir /run/nscd; touch /run/nscd/socket")
        wait_for(lambda: not list((etc / "../run/nscd").iterdir()), timeout=10, what="an empty directory")
        person.machine.run("rm", "/run/nscd/socket")
        wait_for(lambda: INSIDE_DNS in (etc / "resolv.conf").read_text(), timeout=10, what="our resolv.conf")
        wait_for(lambda: "files dns" in (etc / "nsswitch.conf").read_text(), timeout=10, what="our nsswitch.conf")
        person.machine.run("touch", f"{HOME}/go{number}")
        person.wait_file(f"done{number}")
    output, _ = started.communicate(timeout=30)
    expected = f"nameserver {INSIDE_DNS}\nsearch {DOMAIN}\nhosts: files dns\n{INSIDE_IPV4}"
    assert output.decode().count(expected) == 2
    assert "192.0.2" not in output.decode()


def test_without_a_resolver_file_the_command_runs_and_the_tunnel_says_so(lab: Lab, person: Person) -> None:
    """A link that leads nowhere: nothing is made outside, and no name is resolved."""
    person.machine.run("ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
    done = person.inside(
        f"curl -sS http://{INSIDE_IPV4}/peer; getent hosts www.example.net; {person.program} status -f warnings work"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("10.88.0.1names cannot be resolved")
    assert person.machine.run("ls", "/run/systemd/resolve", check=False).returncode != 0


def test_a_running_command_survives_the_loss_of_the_tunnel_and_a_move(lab: Lab, person: Person) -> None:
    """Lost and found with a new connection, then MOBIKE: the same process goes on, with the same namespace."""
    lab.network.add_second_path()
    script = f"until test -e ~/go; do sleep 0.1; done; curl -sS http://{INSIDE_IPV4}/blob | sha256sum; test -e ~/end"
    started = person.start("exec", "work", "--", "sh", "-c", script)
    person.wait_state("connected")
    lab.gateway.terminate()
    wait_for(lambda: (person.status() or {}).get("reconnects") == 1, timeout=30, what="a reconnection", interval=0.5)
    person.wait_state("connected")
    lab.network.use_second_path()
    wait_for(lambda: (person.status() or {}).get("roams"), timeout=30, what="a move", interval=0.5)
    status = person.wait_state("connected")
    assert status["mode"] == "netns"
    assert status["local"]["address"] == "10.2.0.2"
    person.machine.run("touch", f"{HOME}/end", f"{HOME}/go")
    output, errors = started.communicate(timeout=60)
    assert output.decode() == f"{lab.servers.sha256}  -\n"
    assert errors == b""
    assert started.returncode == 0


def test_fifty_commands_join_a_tunnel_that_ends_with_the_last_of_them(lab: Lab, person: Person) -> None:
    """One connection for all; the first command's end is not the end, and its status comes at once."""
    started = person.start("exec", "work", "--", "sh", "-c", "until test -e ~/go; do sleep 0.1; done; exit 3")
    person.wait_state("connected")
    script = f"echo $0 $(curl -sS http://{INSIDE_IPV4}/peer); until test -e ~/end; do sleep 0.5; done"
    crowd = person.start_python(CROWD, script)
    assert crowd.stdout is not None
    lines = {crowd.stdout.readline().decode() for _ in range(50)}
    assert lines == {f"{number} 10.88.0.1\n" for number in range(50)}
    person.machine.run("touch", f"{HOME}/go")
    assert started.wait(20) == 3
    assert person.status() is not None
    assert len(lab.gateway.list_sas()) == 1
    assert lab.gateway.log.count("parsed IKE_AUTH request") == 1
    person.machine.run("touch", f"{HOME}/end")
    assert crowd.wait(30) == 0
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=20, what="the DELETE")
    wait_for(lambda: person.status() is None, timeout=20, what="the end of the tunnel")


def test_commands_that_start_at_once_share_one_tunnel(lab: Lab, person: Person) -> None:
    several = [person.start("exec", "work", "--", "curl", "-sS", f"http://{INSIDE_IPV4}/peer") for _ in range(4)]
    for each in several:
        output, errors = each.communicate(timeout=60)
        assert (output, errors, each.returncode) == (b"10.88.0.1", b"", 0)


def test_a_command_may_say_exec_again(lab: Lab, person: Person) -> None:
    """It is there already; from other places, and of other tunnels, nothing can be entered from inside."""
    done = person.inside(
        f"{person.program} exec work -- curl -sS http://{INSIDE_IPV4}/peer && {person.program} status -f mode"
    )
    assert done.stdout == "10.88.0.1netns\n", done.stderr
    assert lab.gateway.log.count("parsed IKE_AUTH request") == 1


def test_signals_and_deaths_are_those_of_the_command(person: Person) -> None:
    """Handed on once, reported as a shell does; the end of the stand-in is the end of the command."""
    assert person.inside("kill -KILL $$").returncode == 128 + signal.SIGKILL
    script = "trap 'echo TERM; exit 5' TERM; trap 'echo USR1' USR1; echo $$ > ~/pid; while :; do sleep 0.1; done"
    started = person.start("exec", "work", "--", "sh", "-c", script)
    command_pid(person)
    started.send_signal(signal.SIGUSR1)
    assert started.stdout is not None
    assert started.stdout.readline() == b"USR1\n"
    started.send_signal(signal.SIGTERM)
    assert started.stdout.read() == b"TERM\n"
    assert started.wait(20) == 5


def test_a_command_does_not_outlive_the_process_it_was_started_as(lab: Lab, person: Person) -> None:
    started = person.start("exec", "work", "--", "sh", "-c", "echo $$ > ~/pid; exec sleep 600")
    pid = command_pid(person)
    started.kill()
    wait_for(lambda: is_gone(pid), timeout=10, what="the end of the command")
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=20, what="the DELETE")


def test_who_disconnects_cuts_the_command_off_and_it_is_told(lab: Lab, person: Person) -> None:
    script = (
        f"echo $$ > ~/pid; until test -e ~/go; do sleep 0.1; done; curl -m 2 -sS http://{INSIDE_IPV4}/peer; echo $?"
    )
    started = person.start("exec", "work", "--", "sh", "-c", script)
    command_pid(person)
    assert person.run("disconnect", "work").returncode == 0
    assert lab.gateway.list_sas() == []
    person.machine.run("touch", f"{HOME}/go")
    output, errors = started.communicate(timeout=30)
    assert output.decode().strip() in ("6", "7", "28")
    assert b"the tunnel 'work' has ended; the command goes on without a network" in errors


def test_standard_input_is_the_commands_after_the_password(lab: Lab, person: Person) -> None:
    from lab.gateway import PSK

    person.machine.run("rm", f"{HOME}/psk")
    done = person.run("exec", "work", "--password-stdin", "--", "cat", stdin=f"{PSK}\nthe rest\nof it")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the rest\nof it"
    assert PSK not in done.stdout


def test_the_environment_of_a_command_holds_no_secret_and_it_has_no_descriptor_of_ours(
    lab: Lab, person: Person
) -> None:
    """F10: the variable that the profile names is not there, neither in the command's environment nor in /proc."""
    from lab.gateway import PSK

    person.write_profile({"auth": {"psk": {"env": "THE_PSK"}}})
    script = "env; cat /proc/$$/environ; echo; ls /proc/$$/fd; true"
    done = person.run("exec", "work", "--", "sh", "-c", script, prefix=("env", f"THE_PSK={PSK}"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["0", "1", "2"]
    assert "HOME=" in done.stdout
    assert "THE_PSK" not in done.stdout


def test_what_cannot_be_run_is_said_before_anything_else(person: Person) -> None:
    missing = person.run("exec", "work", "--", "no-such-command")
    assert (missing.returncode, missing.stderr) == (127, "ikeclient: no-such-command: command not found\n")
    refused = person.run("exec", "work", "--", "/etc/passwd")
    assert (refused.returncode, refused.stderr) == (126, "ikeclient: /etc/passwd: not executable\n")
    nonsense = person.run("exec", "nowhere", "--", "true")
    assert nonsense.returncode == 10


def test_a_failure_to_connect_has_its_own_code_and_runs_nothing(lab: Lab, person: Person) -> None:
    person.machine.write_file(f"{HOME}/psk", "not-the-key")
    done = person.inside("echo ran")
    assert done.returncode == 4
    assert "AUTHENTICATION_FAILED" in done.stderr
    assert done.stdout == ""
    assert lab.gateway.list_sas() == []


def test_a_tunnel_in_ordinary_mode_is_not_joined(lab: Lab) -> None:
    """F16: as root, whose runtime directory is the same for both."""
    lab.connected()
    refused = lab.client.run("exec", "work", "--", "true")
    assert refused.returncode == 2
    assert "ordinary mode" in refused.stderr


def test_root_may_use_it_too_and_keeps_no_right_that_could_change_it(lab: Lab) -> None:
    lab.prepare(GRANT)
    script = f"curl -sS http://{INSIDE_IPV4}/peer; ip link add dev x type dummy; grep CapEff /proc/self/status"
    done = lab.client.run("exec", "work", "--", "sh", "-c", script)
    assert done.stdout == "10.88.0.1CapEff:\t0000000000002400\n"
    assert "not permitted" in done.stderr
    assert done.returncode == 0


def test_a_file_of_another_client_is_a_profile_for_exec_and_proxy(lab: Lab, person: Person) -> None:
    """The file's name is the tunnel's; a command that names it again joins it."""
    written = person.run("profile", "export", "work", "--format", "swanctl", "--include-secrets")
    assert written.returncode == 0, written.stderr
    person.machine.write_file(f"{HOME}/My office.conf", written.stdout)
    person.machine.run("chown", "1000:1000", f"{HOME}/My office.conf")
    file = f"'{HOME}/My office.conf'"
    script = f"{person.program} exec {file} -- true && {person.program} status My-office --json"
    done = person.run("exec", f"{HOME}/My office.conf", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert '"connected"' in done.stdout
    assert lab.gateway.list_sas() == []
    broken = person.run("exec", f"{HOME}/psk", "--", "true")
    assert (broken.returncode, "is not TOML" in broken.stderr) == (9, True)
    person.machine.write_file(f"{HOME}/old.conf", "conn x\n right=a\n keyexchange=ikev1\n authby=psk\n")
    person.machine.run("chown", "1000:1000", f"{HOME}/old.conf")
    for command in (("exec", f"{HOME}/old.conf", "--", "true"), ("proxy", f"{HOME}/old.conf", "--stdio", "a:1")):
        refused = person.run(*command)
        assert refused.returncode == 9
        assert "IKEv1" in refused.stderr
