"""Name resolution while a tunnel is up, and /etc/resolv.conf byte for byte as it was when it has ended."""

from __future__ import annotations

import pytest
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INTERNET_DNS, INTERNET_IPV4
from lab.servers import DOMAIN
from lab.traffic import ping
from lab.world import Lab

RESOLV_CONF = "/etc/resolv.conf"
ODD = (
    "# an administrator's own words: \u00e9\t\n; and more\n\nnameserver 203.0.113.53\noptions timeout:1 attempts:1\n"
    "search lan.example\n# no newline at the end"
)
GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,))
FULL = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,), local_ts=("0.0.0.0/0", "::/0"))


def resolves(machine: Machine, name: str) -> str | None:
    """The IPv4 address that the machine's own resolver finds for a name."""
    words = machine.run("getent", "ahostsv4", name, check=False).stdout.split()
    return words[0] if words else None


def fingerprint(machine: Machine) -> tuple[str, str]:
    """The resolver's file: kind, mode, owner, inode, times and where it leads; and its content."""
    return machine.run("stat", "-c", "%F %a %u:%g %i %y %N", RESOLV_CONF).stdout, machine.read_file(RESOLV_CONF)


def look(machine: Machine) -> tuple[str, str]:
    """The same without inode and times, which a file that was put back need not keep."""
    return machine.run("stat", "-c", "%F %a %u:%g %N", RESOLV_CONF).stdout, machine.read_file(RESOLV_CONF)


def test_the_gateways_name_servers_answer_while_the_tunnel_is_up(lab: Lab) -> None:
    machine = lab.network.client
    machine.write_file(RESOLV_CONF, ODD)
    machine.run("chmod", "640", RESOLV_CONF)
    machine.run("chown", "1:2", RESOLV_CONF)
    before, files = look(machine), machine.run("ls", "-a", "/etc").stdout
    assert resolves(machine, f"host.{DOMAIN}") is None
    lab.connected(GRANT)
    status = lab.status()
    assert status["dns"] == {"servers": [INSIDE_DNS], "domains": [DOMAIN]}
    assert resolves(machine, f"host.{DOMAIN}") == INSIDE_IPV4
    assert resolves(machine, "host") == INSIDE_IPV4
    assert resolves(machine, "www.example.net") == INTERNET_IPV4
    lines = machine.read_file(RESOLV_CONF).splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [
        f"nameserver {INSIDE_DNS}",
        f"nameserver {INTERNET_DNS}",
    ]
    assert f"search {DOMAIN} lan.example" in lines
    assert "options timeout:1 attempts:1" in lines
    assert lab.client.disconnect("work").returncode == 0
    assert look(machine) == before
    assert machine.run("ls", "-a", "/etc").stdout == files
    assert resolves(machine, f"host.{DOMAIN}") is None


def test_a_full_tunnel_asks_the_gateways_servers_alone(lab: Lab) -> None:
    """O6: no question leaves the machine in the clear."""
    machine = lab.network.client
    before = look(machine)
    connection = lab.connected(FULL, network={"routes": "all"})
    servers = [line for line in machine.read_file(RESOLV_CONF).splitlines() if line.startswith("nameserver")]
    assert servers == [f"nameserver {INSIDE_DNS}"]
    with lab.capture(expression="port 53") as capture:
        assert resolves(machine, f"host.{DOMAIN}") == INSIDE_IPV4
        assert resolves(machine, "www.example.net") == INTERNET_IPV4
        assert resolves(machine, "nobody.example.net.") is None
    assert capture.count("frame") == 0
    assert connection.interrupt() == 130
    assert look(machine) == before


def test_a_symbolic_link_is_put_back_and_its_target_never_touched(lab: Lab) -> None:
    """O10: the file a link leads to belongs to somebody else."""
    machine = lab.network.client
    machine.run("mkdir", "/run/resolver")
    machine.write_file("/run/resolver/resolv.conf", ODD)
    machine.run("ln", "-sf", "../run/resolver/resolv.conf", RESOLV_CONF)
    before = look(machine)
    target = machine.run("stat", "-c", "%i %y %Z", "/run/resolver/resolv.conf").stdout
    lab.connected(GRANT)
    assert resolves(machine, f"host.{DOMAIN}") == INSIDE_IPV4
    assert machine.run("stat", "-c", "%F", RESOLV_CONF).stdout == "regular file\n"
    lab.client.disconnect("work")
    assert look(machine) == before
    assert machine.run("stat", "-c", "%i %y %Z", "/run/resolver/resolv.conf").stdout == target


def test_a_mounted_file_is_rewritten_in_place(lab: Lab) -> None:
    """O10: containers mount a single file there, which nothing can be renamed over."""
    machine = lab.network.client
    machine.run("mount", "--bind", RESOLV_CONF, RESOLV_CONF)
    before = look(machine)
    lab.connected(GRANT)
    assert resolves(machine, f"host.{DOMAIN}") == INSIDE_IPV4
    lab.client.disconnect("work")
    assert look(machine) == before


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_read_only_file_costs_a_warning_and_not_the_tunnel(lab: Lab, what: str) -> None:
    """O10: where the file cannot be written the tunnel serves without its names, and says so."""
    machine = lab.network.client
    place = RESOLV_CONF if what == "file" else "/etc"
    machine.run("mount", "--bind", place, place)
    machine.run("mount", "-o", "remount,ro,bind", place)
    before = fingerprint(machine)
    connection = lab.connected(GRANT)
    assert f"{RESOLV_CONF} cannot be written" in connection.stderr
    assert ping(machine, INSIDE_IPV4) == 3
    assert fingerprint(machine) == before
    assert lab.client.disconnect("work").returncode == 0
    assert fingerprint(machine) == before
    assert "not undone" not in connection.stderr


def test_what_another_program_wrote_meanwhile_is_left_alone(lab: Lab) -> None:
    """O10: a DHCP client that rewrote the file knows better than we do; ours is put above it while the tunnel is up."""
    machine = lab.network.client
    lab.connected(GRANT)
    machine.write_file(RESOLV_CONF, "nameserver 192.0.2.1\n# dhclient was here\n")
    theirs = look(machine)
    wait_for(lambda: INSIDE_DNS in machine.read_file(RESOLV_CONF), timeout=20, what="the tunnel's name server")
    lab.client.disconnect("work")
    assert look(machine) == theirs


def test_dns_none_touches_nothing(lab: Lab) -> None:
    machine = lab.network.client
    before = fingerprint(machine)
    lab.connected(GRANT, network={"dns": "none"})
    status = lab.status()
    assert status["dns"] == {"servers": [], "domains": []}
    assert fingerprint(machine) == before
    lab.client.disconnect("work")
    assert fingerprint(machine) == before


def test_a_plain_file_cannot_split_names_and_says_so(lab: Lab) -> None:
    connection = lab.connected(GRANT, network={"dns": "split"})
    assert "cannot send single domains" in connection.stderr
    assert resolves(lab.network.client, f"host.{DOMAIN}") == INSIDE_IPV4


def test_servers_that_cannot_be_meant_are_not_used(lab: Lab) -> None:
    """K14: loopback and unspecified addresses are refused, a server outside the tunnel is not asked in the clear."""
    servers = ("127.0.0.1", "0.0.0.0", "169.254.1.1", INTERNET_DNS, INSIDE_DNS)
    connection = lab.connected(Offer(dns=servers, domains=(DOMAIN,)))
    status = lab.status()
    assert status["dns"]["servers"] == [INSIDE_DNS]
    for server in servers[:4]:
        assert server in connection.stderr
    with lab.capture(expression="port 53") as capture:
        assert resolves(lab.network.client, f"host.{DOMAIN}") == INSIDE_IPV4
    assert capture.count("frame") == 0


HOSTILE = (
    "x;touch${IFS}/run/owned",
    "$(touch${IFS}/run/owned)",
    "`reboot`",
    "..",
    ".",
    "-leading.example",
    "under/../../etc",
    "x" * 64 + ".example",
    ".".join(["label"] * 60),
    "corp.example\nnameserver\t192.0.2.66",
    "esc\x1b[2Jape",
    "caf\u00e9.example",
)


def test_hostile_domains_are_refused_one_by_one(lab: Lab) -> None:
    """K13, K15 (CVE-2025-10680): each bad domain is dropped with a warning, the good one serves, nothing is run."""
    machine = lab.network.client
    heard = lab.client.directory / "heard"
    hook = lab.client.directory / "hook"
    hook.write_text(f'#!/bin/sh\nprintf %s "$IKECLIENT_DNS_DOMAINS" >{heard}.new && mv {heard}.new {heard}\n')
    hook.chmod(0o755)
    connection = lab.connected(
        Offer(dns=(INSIDE_DNS,), domains=tuple(f'"{name}"' for name in (*HOSTILE, DOMAIN))),
        session={"up": [[str(hook)]]},
    )
    assert connection.stderr.count("refused DNS domain") == len(HOSTILE)
    assert connection.stderr.replace("\n", "").isprintable()
    status = lab.status()
    assert status["dns"]["domains"] == [DOMAIN]
    lines = machine.read_file(RESOLV_CONF).splitlines()
    assert lines[1:] == [f"nameserver {INSIDE_DNS}", f"nameserver {INTERNET_DNS}", f"search {DOMAIN}"]
    assert wait_for(lambda: heard.exists() and heard.read_text(), timeout=10, what="the hook") == DOMAIN
    lab.client.disconnect("work")
    assert machine.run("ls", "/run/owned", check=False).returncode != 0
