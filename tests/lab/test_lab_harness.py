"""The lab itself, with strongSwan at both ends: what ikeclient's tests stand on works without ikeclient."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lab import seccomp
from lab.client import command_line_of
from lab.gateway import Auth, Offer
from lab.leaks import kind_of
from lab.machines import LabError, Machine, sweep, wait_for
from lab.network import (
    CLIENT_IPV4,
    GATEWAY_IPV4,
    GATEWAY_IPV6,
    GATEWAY_NAME,
    INSIDE_DNS,
    INSIDE_IPV4,
    INSIDE_IPV6,
    INTERNET_IPV4,
    Network,
    Topology,
)
from lab.pki import KINDS
from lab.servers import DOMAIN
from lab.traffic import fetch, peer_address, ping, reaches, upload
from lab.world import Lab, MakeLab

from release.tools import kept


def test_inside_is_out_of_reach_without_a_tunnel(lab: Lab) -> None:
    machine = lab.network.client
    assert reaches(machine, INTERNET_IPV4)
    assert not reaches(machine, INSIDE_IPV4, timeout=0.3)
    assert not reaches(machine, INSIDE_IPV6, timeout=0.3)


def test_a_psk_tunnel_carries_pings_and_files(lab: Lab) -> None:
    lab.gateway.serve()
    lab.strongswan.connect(lab.gateway)
    machine = lab.network.client
    with lab.capture() as capture:
        assert ping(machine, INSIDE_IPV4) == 3
        assert ping(machine, INSIDE_IPV6) == 3
        assert fetch(machine, INSIDE_IPV4).sha256 == lab.servers.sha256
        assert fetch(machine, INSIDE_IPV6).sha256 == lab.servers.sha256
        assert upload(machine, INSIDE_IPV4)
    assert peer_address(machine, INSIDE_IPV4).startswith("10.88.0.")
    assert peer_address(machine, INTERNET_IPV4) == "10.1.0.2"
    assert capture.count("esp") > 20
    assert capture.count("icmp or tcp") == 0
    [child] = lab.gateway.children()
    assert int(str(child["bytes-in"])) > 1 << 20
    assert lab.gateway.counters()["ike-auth-in-req"] == 1


def test_certificates_of_every_kind_authenticate_both_sides(lab: Lab) -> None:
    for kind in KINDS:
        lab.gateway.serve(Offer(auth="certificate", kind=kind))
        lab.strongswan.connect(lab.gateway)
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1, kind
        lab.strongswan.terminate()
        wait_for(lambda: not lab.gateway.list_sas(), timeout=5, what="the gateway to forget")
    log = lab.gateway.log
    for scheme in ("RSA_EMSA_PKCS1_SHA2_256", "ECDSA_WITH_SHA256_DER", "ECDSA_WITH_SHA512_DER", "ED25519", "ED448"):
        assert f"of '{lab.gateway.offer.client_identity}' with {scheme} successful" in log


def test_rsa_pss_can_be_demanded(lab: Lab) -> None:
    scheme = "ike:rsa/pss-sha256"
    lab.gateway.serve(Offer(auth="certificate", kind="rsa2048", gateway_scheme=scheme, client_scheme=scheme))
    lab.strongswan.connect(lab.gateway)
    assert lab.gateway.log.count("RSA_EMSA_PSS_SHA2_256") == 2


@pytest.mark.parametrize("auth", ["eap-mschapv2", "eap-md5", "eap-gtc", "eap-tls", "eap-ttls"])
def test_eap_authenticates_the_client(lab: Lab, auth: Auth) -> None:
    lab.gateway.serve(Offer(auth=auth))
    lab.strongswan.connect(lab.gateway)
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    [sa] = lab.gateway.list_sas()
    assert sa.get("remote-eap-id") == (None if auth == "eap-tls" else "alice")  # not shown when it equals IDi


def test_a_cookie_can_be_forced(lab: Lab) -> None:
    lab.gateway.serve(Offer(cookies=True))
    lab.strongswan.connect(lab.gateway)
    assert "IKE_SA_INIT response 0 [ N(COOKIE) ]" in lab.gateway.log


def test_another_key_exchange_can_be_forced(lab: Lab) -> None:
    lab.gateway.serve(Offer(proposals="aes256-sha256-ecp384"))
    lab.strongswan.connect(lab.gateway, proposals="aes256-sha256-x25519-ecp384")
    assert "N(INVAL_KE)" in lab.gateway.log


@pytest.mark.parametrize("side", ["client", "gateway", "both"])
def test_a_tunnel_crosses_address_translation(make_lab: MakeLab, side: str) -> None:
    lab = make_lab(Topology(client_nat=side != "gateway", gateway_nat=side != "client"))
    lab.gateway.serve()
    lab.strongswan.connect(lab.gateway)
    assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
    [sa] = lab.gateway.list_sas()
    assert sa.get("nat-local") == ("yes" if side != "client" else None)
    assert (sa["remote-port"] != "4500") == (side != "gateway")


def test_the_outer_path_can_be_ipv6(lab: Lab) -> None:
    lab.gateway.serve()
    lab.strongswan.connect(lab.gateway, address=GATEWAY_IPV6)
    with lab.capture() as capture:
        assert fetch(lab.network.client, INSIDE_IPV4).sha256 == lab.servers.sha256
    assert capture.count("ipv6 and esp") > 20


def test_large_certificates_pass_a_network_that_drops_fragments(lab: Lab) -> None:
    dropped = [machine.drop_fragments() for machine in (lab.network.client, lab.network.gateway)]
    pki = lab.gateway.pki
    offer = Offer(auth="certificate", gateway_certificate=pki.large("gateway"), client_certificate=pki.large("client"))
    lab.gateway.serve(offer)
    assert ping(lab.network.client, INTERNET_IPV4, count=1, size=3000, timeout=0.3) == 0
    assert all(rules.hits() > 0 for rules in dropped[1:])
    lab.strongswan.connect(lab.gateway)
    assert "EF(1/" in lab.gateway.log
    lab.strongswan.kill()
    lab.gateway.serve(replace(offer, fragmentation="no"))
    with pytest.raises(LabError):
        lab.strongswan.connect(lab.gateway, settings={"retransmit_tries": 1, "retransmit_timeout": 0.3})


def test_names_resolve_outside_and_through_the_tunnel(lab: Lab) -> None:
    lab.gateway.serve(Offer(dns=[INSIDE_DNS], domains=[DOMAIN, "lab.example"]))
    machine = lab.network.client
    assert _resolve(machine, GATEWAY_NAME) == "10.1.0.1"
    assert _resolve(machine, f"www.{DOMAIN}") is None
    lab.strongswan.connect(lab.gateway)
    machine.write_file("/etc/resolv.conf", f"nameserver {INSIDE_DNS}\n")
    assert _resolve(machine, f"www.{DOMAIN}") == INSIDE_IPV4
    assert _resolve(machine, "nowhere.example.net") is None
    assert "CPRP(ADDR ADDR6 DNS DOMAIN DOMAIN)" in lab.gateway.log


def _resolve(machine: Machine, name: str) -> str | None:
    lines = machine.run("getent", "ahostsv4", name, check=False).stdout.splitlines()
    return lines[0].split()[0] if lines else None


def test_a_bad_cable_loses_and_delays_and_the_tunnel_survives(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(impaired=True))
    machine = lab.network.client
    relay = lab.network.relay
    assert relay is not None

    def answers_without_one_frame() -> int:
        relay.impair(direction="up", drop_next=1)
        return ping(machine, INTERNET_IPV4, count=3, timeout=0.5)

    assert any(answers_without_one_frame() == 2 for _ in range(5))  # the frame may be one of the kernel's own
    relay.impair(loss=0.3, seed=7)
    assert 1 <= ping(machine, INTERNET_IPV4, count=20, interval=0.01, timeout=0.3) <= 18
    relay.impair(delay=0.005, jitter=0.004, reorder=0.05, duplicate=0.05, loss=0.01)
    lab.gateway.serve()
    lab.strongswan.connect(lab.gateway)
    assert fetch(machine, INSIDE_IPV4).sha256 == lab.servers.sha256


def test_the_gateway_can_rekey_vanish_and_come_back(lab: Lab) -> None:
    lab.gateway.serve()
    lab.strongswan.connect(lab.gateway)
    before = lab.gateway.children()[0]["spi-in"]
    lab.gateway.rekey(child="net")
    wait_for(
        lambda: any(child["spi-in"] != before for child in lab.gateway.children()), timeout=5, what="a rekeyed child"
    )
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    lab.gateway.restart()
    assert lab.gateway.list_sas() == []
    assert ping(lab.network.client, INSIDE_IPV4, count=1, timeout=0.3) == 0


def test_a_second_path_and_a_smaller_path_can_be_laid(lab: Lab) -> None:
    lab.network.add_second_path()
    assert ping(lab.network.client, "10.2.0.1", count=1) == 1
    lab.network.client.set_link("wan", up=False)
    assert ping(lab.network.client, "10.1.0.1", count=1, timeout=0.2) == 0
    lab.network.client.set_link("wan", up=True)
    lab.network.set_path_mtu(1280)
    assert ping(lab.network.client, "10.1.0.1", count=1, size=1300, whole=True, timeout=0.2) == 0
    assert ping(lab.network.client, "10.1.0.1", count=1, size=1200, whole=True) == 1


def test_nothing_answers_on_a_blocked_port(lab: Lab) -> None:
    rules = lab.network.gateway.block_udp_port(500)
    lab.gateway.serve()
    with pytest.raises(LabError):
        lab.strongswan.connect(lab.gateway, settings={"retransmit_tries": 1, "retransmit_timeout": 0.2})
    assert rules.hits() >= 2
    rules.remove()
    lab.strongswan.connect(lab.gateway)


def test_a_closed_network_leaves_nothing_behind() -> None:
    network = Network(Topology(client_nat=True, impaired=True))
    detached = network.client.run("sh", "-c", "sleep 100 > /dev/null 2>&1 & echo $!").stdout.strip()
    names = [path.name for path in Path("/run/netns").iterdir()]
    assert network.client.name in names
    network.close()
    assert not set(network.machine_names) & {path.name for path in Path("/run/netns").iterdir()}
    assert not network.directory.exists()
    assert not command_line_of(int(detached))


def test_what_a_killed_run_left_is_swept_away() -> None:
    script = "import os, signal; from lab.network import Network; n = Network(prefix='iklswept');"
    script += "n.client.run('sh', '-c', 'sleep 100 > /dev/null 2>&1 &'); os.kill(os.getpid(), signal.SIGKILL)"
    environment = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=False, timeout=30)
    assert [*Path("/run/netns").glob("iklswept*")]
    sweep("iklswept")
    assert not [*Path("/run/netns").glob("iklswept*"), *Path("/tmp").glob("ikeclient-lab-iklswept*")]


def test_a_device_can_be_hidden_from_one_machine(lab: Lab) -> None:
    lab.network.client.hide("/dev/net")
    assert lab.network.client.run("test", "-e", "/dev/net/tun", check=False).returncode == 1
    assert lab.network.gateway.run("test", "-e", "/dev/net/tun", check=False).returncode == 0


@pytest.mark.parametrize(
    ("ports", "kind"),
    [
        (("40003", "5353"), "multicast DNS, IPv4"),
        (("45450", "5353"), "multicast DNS, IPv4"),
        (("40012", "4500"), "allowed: our IKE and ESP to the gateway"),
        (("45450", "4500"), "UDP 4500 of the gateway, IPv4"),
        (("40001", "40020"), "forwarded, IPv4"),
    ],
)
def test_a_leak_is_known_by_where_it_goes(ports: tuple[str, str], kind: str) -> None:
    """The kernel gives programs any free port to send from, also one that other traffic goes to."""
    to = "224.0.0.251" if ports[1] == "5353" else GATEWAY_IPV4
    assert kind_of(CLIENT_IPV4, "", to, "", "17", "", "", "", *ports, "", "") == kind


TRIES = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *arguments)
    return ctypes.get_errno()
try:
    socket.socket(40, socket.SOCK_STREAM)
    vsock = 0
except OSError as error:
    vsock = error.errno
numbers = NUMBERS[os.uname().machine]
print(tried(numbers["unshare"], 0x10000000), tried(numbers["mount"], 0, 0, 0, 0, 0), tried(numbers["clone3"], 0, 0),
      tried(numbers["personality"], 1), tried(numbers["personality"], 0), tried(numbers["io_uring_setup"], 0, 0), vsock)
socket.socketpair()
os.fork() or os._exit(0)
"""


def test_the_filter_refuses_what_dockers_does_and_nothing_else() -> None:
    """As root, to whom the kernel itself would refuse nothing of it."""
    program = f"NUMBERS = {seccomp.NUMBERS!r}\n{TRIES}"
    command = (*seccomp.refused("docker"), sys.executable, "-c", program)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    refused, unknown = errno.EPERM, errno.ENOSYS
    assert list(map(int, done.stdout.split())) == [refused, refused, unknown, refused, 0, refused, refused]


def test_what_is_kept_is_made_once_and_whole(tmp_path: Path) -> None:
    """What an attempt that failed has left is not built upon."""
    made = []

    def make(place: Path) -> None:
        made.append(sorted(path.name for path in place.iterdir()))
        (place / "half").touch()
        if len(made) == 1:
            raise LabError("no network")

    place = tmp_path / "store" / "root"
    with pytest.raises(LabError, match="no network"):
        kept(place, make)
    assert kept(place, make) == kept(place, make) == place
    assert made == [[], []]
