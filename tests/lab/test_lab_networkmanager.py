"""NetworkManager with our plugin: nmcli imports, connects, asks and disconnects, against a real gateway."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.gateway import PASSWORD, PSK, Offer
from lab.machines import wait_for
from lab.network import (
    CLIENT_IPV4,
    INSIDE_DNS,
    INSIDE_IPV4,
    INTERNET_IPV4,
    INTERNET_IPV6,
    SECOND_CLIENT_IPV4,
    SECOND_CLIENT_IPV6,
    SECOND_GATEWAY_IPV4,
    SECOND_GATEWAY_IPV6,
)
from lab.networkmanager import NetworkManager
from lab.traffic import peer_address, ping, reaches
from lab.world import Lab

pytestmark = pytest.mark.skipif(shutil.which("NetworkManager") is None, reason="needs Debian's network-manager")

OFFER = Offer(auth="eap-mschapv2", dns=(INSIDE_DNS,), domains=("corp.example",))
EVERYTHING = Offer(auth="eap-mschapv2", local_ts=("0.0.0.0/0", "::/0"), dns=(INSIDE_DNS,))
WRONG = "not-the-password-1"


@pytest.fixture(scope="module")
def desktop(module_lab: Lab) -> NetworkManager:
    """NetworkManager on the client, with two cables; the first one is in use."""
    module_lab.network.add_second_path()
    return NetworkManager(module_lab.network.client, module_lab.network.subdirectory("nm"))


@pytest.fixture
def nm(module_lab: Lab, desktop: NetworkManager) -> Iterator[NetworkManager]:
    """The same without a connection of ours."""
    module_lab.gateway.serve(OFFER)
    yield desktop
    for name in ("work", "second"):
        desktop.nmcli("connection", "delete", name, check=False)
    wait_for(lambda: not desktop.plugins, timeout=20, what="our plugin to end")


def import_profile(lab: Lab, nm: NetworkManager, *changes: str, **profile: dict[str, Any]) -> None:
    """Have nmcli import the profile `work`, with `changes` of the connection."""
    lab.client.write_profile(lab.gateway, profile)
    nm.nmcli("connection", "import", "type", "ikeclient", "file", str(lab.client.profiles / "work.toml"))
    if changes:
        nm.nmcli("connection", "modify", "work", *changes)


def up(nm: NetworkManager, name: str = "work", *options: str, stdin: str = "") -> None:
    nm.nmcli("-w", "40", *options, "connection", "up", name, stdin=stdin)
    assert nm.state(name) == "activated"


def is_gone(nm: NetworkManager) -> None:
    wait_for(lambda: not nm.plugins, timeout=15, what="the plugin to end")
    assert nm.machine.run("ip", "link", "show", "ike0", check=False).returncode != 0


def test_an_imported_profile_comes_up_and_goes_down_again(module_lab: Lab, nm: NetworkManager) -> None:
    import_profile(module_lab, nm)
    up(nm)
    assert nm.field("work", "IP4.ADDRESS").startswith("10.88.0.")
    assert "10.99.0.0/24" in nm.field("work", "IP4.ROUTE")
    assert "fd99::/64" in nm.field("work", "IP6.ROUTE").replace("\\", "")
    assert nm.field("work", "IP4.DNS") == INSIDE_DNS
    assert nm.field("work", "IP4.DOMAIN") == "corp.example"
    assert f"nameserver {INSIDE_DNS}" in nm.machine.read_file("/etc/resolv.conf")
    assert ping(nm.machine, INSIDE_IPV4) == 3
    assert peer_address(nm.machine, INSIDE_IPV4).startswith("10.88.0.")
    assert peer_address(nm.machine, INTERNET_IPV4) == CLIENT_IPV4  # only those networks
    assert module_lab.status("work")["state"] == "connected"
    rules = nm.machine.run("ip", "rule").stdout.splitlines()
    assert len(rules) == 3, rules  # NetworkManager changes the machine, and nobody else
    nm.nmcli("connection", "down", "work")
    is_gone(nm)
    wait_for(lambda: not module_lab.gateway.list_sas(), timeout=10, what="the goodbye")


def test_a_password_is_asked_for_and_a_wrong_one_is_told(module_lab: Lab, nm: NetworkManager) -> None:
    import_profile(module_lab, nm, auth={"password": None})
    assert "auth.password-flags = 1" in nm.field("work", "vpn.data")
    without = nm.nmcli("-w", "40", "connection", "up", "work", check=False)
    assert without.returncode
    assert "secrets" in without.stderr
    up(nm, "work", "--ask", stdin=f"{PASSWORD}\n")
    assert ping(nm.machine, INSIDE_IPV4) == 3
    nm.nmcli("connection", "down", "work")
    nm.nmcli("connection", "modify", "work", "+vpn.data", "auth.password-flags=0")
    nm.nmcli("connection", "modify", "work", "vpn.secrets", f"auth.password={WRONG}")
    wrong = nm.nmcli("-w", "40", "connection", "up", "work", check=False)
    assert wrong.returncode
    assert "ikeclient: error: the gateway refused user 'alice' or the password" in nm.log
    assert "failure: login-failed" in nm.log
    assert "secrets" in wrong.stderr or "login" in wrong.stderr.lower(), wrong.stderr
    assert WRONG not in nm.log
    is_gone(nm)


def another_network(nm: NetworkManager) -> None:
    if not nm.field("other", "connection.id"):
        own, gateway = (SECOND_CLIENT_IPV4, SECOND_CLIENT_IPV6), (SECOND_GATEWAY_IPV4, SECOND_GATEWAY_IPV6)
        nm.nmcli("device", "set", "wan2", "managed", "yes")
        nm.cable("other", "wan2", own, gateway, "ipv4.route-metric", "200", "ipv6.route-metric", "200")
    else:
        nm.nmcli("-w", "20", "connection", "up", "other")


@pytest.mark.parametrize(
    "offer", [pytest.param(OFFER, id="some", marks=pytest.mark.extended), pytest.param(EVERYTHING, id="everything")]
)
def test_the_connection_lives_on_in_another_network(module_lab: Lab, nm: NetworkManager, offer: Offer) -> None:
    module_lab.gateway.serve(offer)
    import_profile(module_lab, nm)
    up(nm)
    assert ping(nm.machine, INSIDE_IPV4) == 3
    inside = peer_address(nm.machine, INTERNET_IPV4) != CLIENT_IPV4
    assert inside is (offer is EVERYTHING)
    spi = module_lab.status("work")["ike"]["spi_i"]
    try:
        another_network(nm)
        nm.nmcli("connection", "down", "base")
        wait_for(
            lambda: module_lab.status("work")["local"]["address"] == SECOND_CLIENT_IPV4, timeout=20, what="the move"
        )
        wait_for(lambda: ping(nm.machine, INSIDE_IPV4) == 3, timeout=20, what="packets on the new path")
        assert module_lab.status("work")["ike"]["spi_i"] == spi
        assert nm.state("work") == "activated"
        assert (peer_address(nm.machine, INTERNET_IPV4) != SECOND_CLIENT_IPV4) is inside
    finally:
        nm.nmcli("-w", "20", "connection", "up", "base", check=False)
        nm.nmcli("connection", "down", "other", check=False)


def test_a_connection_of_one_user_does_not_use_the_key_of_another(module_lab: Lab, nm: NetworkManager) -> None:
    """F14, CVE-2025-9615: root runs the plugin, and reads with the rights of the connection's user."""
    module_lab.gateway.serve(Offer(auth="psk"))
    owner = pwd.getpwnam("daemon")
    secret = Path("/var/tmp") / f"{module_lab.network.client.name}.psk"
    secret.touch(mode=0o600)
    try:
        secret.write_text(PSK)
        os.chown(secret, owner.pw_uid, owner.pw_gid)
        import_profile(module_lab, nm, auth={"psk": {"file": str(secret)}})
        nm.nmcli("connection", "modify", "work", "connection.permissions", "user:nobody")
        before = module_lab.gateway.log.count("is initiating an IKE_SA")
        refused = nm.nmcli("-w", "40", "connection", "up", "work", check=False)
        assert refused.returncode
        assert f"{secret}: permission denied, with the rights of user nobody" in nm.log
        is_gone(nm)
        assert module_lab.gateway.log.count("is initiating an IKE_SA") == before
        nm.nmcli("connection", "modify", "work", "connection.permissions", "user:daemon")
        nm.nmcli("-w", "40", "connection", "up", "work")
    finally:
        secret.unlink()


@pytest.mark.extended
def test_what_the_gateway_asks_goes_to_the_agent(module_lab: Lab, nm: NetworkManager) -> None:
    module_lab.gateway.serve(Offer(auth="eap-gtc"))
    import_profile(module_lab, nm, auth={"password": None})
    nm.nmcli("connection", "modify", "work", "-vpn.data", "auth.password-flags")
    up(nm, "work", "--ask", stdin=f"{PASSWORD}\n")
    assert "SecretsRequired" in nm.log or "secrets: request (state connect)" in nm.log
    assert PASSWORD not in nm.log
    assert ping(nm.machine, INSIDE_IPV4) == 3


@pytest.mark.extended
def test_a_file_of_another_client_comes_up_with_the_secret_that_was_in_it(
    module_lab: Lab, nm: NetworkManager, tmp_path: Path
) -> None:
    module_lab.gateway.serve(Offer(auth="psk"))
    file = tmp_path / "work.conf"
    file.write_text(
        "connections {\n  work {\n    version = 2\n    remote_addrs = 10.1.0.1\n    vips = 0.0.0.0,::\n"
        "    local {\n      auth = psk\n      id = alice@example.org\n    }\n"
        "    remote {\n      auth = psk\n      id = gw.example.org\n    }\n"
        "    children {\n      net {\n        remote_ts = 10.99.0.0/24\n      }\n    }\n  }\n}\n"
        f'secrets {{\n  ike {{\n    secret = "{PSK}"\n  }}\n}}\n'
    )
    nm.nmcli("connection", "import", "type", "ikeclient", "file", str(file))
    assert PSK not in nm.nmcli("connection", "show", "work").stdout
    assert nm.field("work", "connection.permissions") == ""  # root has imported it
    up(nm)
    assert ping(nm.machine, INSIDE_IPV4) == 3


@pytest.mark.extended
def test_a_file_that_is_none_is_refused_in_our_words(nm: NetworkManager, tmp_path: Path) -> None:
    file = tmp_path / "work.toml"
    file.write_text('version = 1\n[gateway]\nadress = "192.0.2.1"\n[auth]\nmethod = "psk"\n')
    done = nm.nmcli("connection", "import", "type", "ikeclient", "file", str(file), check=False)
    assert done.returncode
    assert "gateway.adress" in done.stderr


@pytest.mark.extended
def test_a_gateway_that_was_restarted_is_found_again(module_lab: Lab, nm: NetworkManager) -> None:
    module_lab.gateway.serve(EVERYTHING)
    import_profile(module_lab, nm, session={"liveness": 5})
    up(nm)
    spi = module_lab.status("work")["ike"]["spi_i"]
    module_lab.gateway.restart()

    def again() -> bool:
        now = module_lab.status("work")
        return now["state"] == "connected" and now["ike"]["spi_i"] != spi

    wait_for(again, timeout=90, what="another connection", interval=0.2)
    assert nm.state("work") == "activated"
    wait_for(lambda: ping(nm.machine, INSIDE_IPV4) == 3, timeout=20, what="packets")


@pytest.mark.extended
@pytest.mark.parametrize("which", [0, 1], ids=["service", "tunnel"])
def test_a_killed_process_ends_the_connection_and_leaves_nothing(
    module_lab: Lab, nm: NetworkManager, which: int
) -> None:
    import_profile(module_lab, nm)
    up(nm)
    os.kill(nm.plugins[which], signal.SIGKILL)
    wait_for(lambda: nm.state("work") != "activated", timeout=20, what="NetworkManager to see it")
    is_gone(nm)
    assert "10.99.0.0/24" not in nm.machine.run("ip", "route").stdout
    assert INSIDE_DNS not in nm.machine.read_file("/etc/resolv.conf")
    up(nm)
    assert ping(nm.machine, INSIDE_IPV4) == 3


@pytest.mark.extended
def test_it_comes_up_with_the_connection_that_it_is_secondary_to(module_lab: Lab, nm: NetworkManager) -> None:
    import_profile(module_lab, nm)
    nm.nmcli("connection", "modify", "base", "connection.secondaries", nm.field("work", "connection.uuid"))
    try:
        nm.nmcli("connection", "down", "base")
        nm.nmcli("-w", "40", "connection", "up", "base")
        wait_for(lambda: nm.state("work") == "activated", timeout=30, what="the secondary connection")
        assert ping(nm.machine, INSIDE_IPV4) == 3
    finally:
        nm.nmcli("connection", "modify", "base", "connection.secondaries", "")
        nm.nmcli("-w", "40", "connection", "up", "base")


@pytest.mark.extended
def test_two_connections_at_once(module_lab: Lab, nm: NetworkManager) -> None:
    bob = {"eap-bob": {"id": "bob", "secret": f'"{PASSWORD}"'}}
    module_lab.gateway.serve(Offer(auth="eap-mschapv2", unique="no", secrets=bob))
    import_profile(module_lab, nm)
    nm.nmcli("connection", "clone", "work", "second")
    for change in ("auth.user=bob", "auth.identity=bob@example.org"):
        nm.nmcli("connection", "modify", "second", "+vpn.data", change)
    up(nm)
    up(nm, "second")
    assert nm.state("work") == "activated"
    assert len({nm.field(name, "IP4.ADDRESS") for name in ("work", "second")}) == 2
    assert len(nm.plugins) == 4
    nm.nmcli("connection", "down", "second")
    assert ping(nm.machine, INSIDE_IPV4) == 3


@pytest.mark.extended
def test_ipv6_does_not_pass_beside_a_tunnel_for_all_of_ipv4(module_lab: Lab, nm: NetworkManager) -> None:
    module_lab.gateway.serve(Offer(auth="eap-mschapv2", local_ts=("0.0.0.0/0",), pools=("p4",)))
    import_profile(module_lab, nm, network={"routes": "all"})
    assert reaches(nm.machine, INTERNET_IPV6)
    up(nm)
    assert ping(nm.machine, INSIDE_IPV4) == 3
    assert not reaches(nm.machine, INTERNET_IPV6)
    nm.nmcli("connection", "down", "work")
    assert reaches(nm.machine, INTERNET_IPV6)


@pytest.mark.extended
def test_a_connection_made_by_hand_comes_up(module_lab: Lab, nm: NetworkManager) -> None:
    """The command of docs/networkmanager.md, with this gateway."""
    authority = module_lab.gateway.certificate(OFFER).authority_file
    gateway = f"gateway.address=10.1.0.1, gateway.identity=gw.example.org, gateway.ca={authority}"
    about = ("type", "vpn", "vpn-type", "ikeclient", "con-name", "work", "vpn.persistent", "yes")
    nm.nmcli(
        "connection",
        "add",
        *about,
        "vpn.data",
        f"{gateway}, auth.method=eap-mschapv2, auth.user=alice, auth.password-flags=2",
    )
    up(nm, "work", "--ask", stdin=f"{PASSWORD}\n")
    assert ping(nm.machine, INSIDE_IPV4) == 3


ORDINARY = ("setpriv", "--reuid", "daemon", "--regid", "daemon", "--clear-groups")


@pytest.mark.extended
def test_an_ordinary_users_import_is_that_users_alone(module_lab: Lab, nm: NetworkManager) -> None:
    """F14: the key is in a directory of the user's. Nobody but NetworkManager may call the plugin."""
    if nm.machine.run(*ORDINARY, sys.executable, "-c", "", check=False).returncode:
        pytest.skip("an ordinary user cannot reach this Python")
    module_lab.gateway.serve(Offer(auth="psk"))
    profile = module_lab.client.write_profile(module_lab.gateway, {"auth": {"psk": {"file": "psk"}}}).read_text()
    nm.machine.run("install", "-d", "-o", "daemon", "-m", "700", "/run/home")
    nm.machine.write_file("/run/home/work.toml", profile)
    nm.machine.write_file("/run/home/psk", PSK)
    nm.machine.run("sh", "-c", "chown daemon /run/home/*; chmod 600 /run/home/*")
    nm.nmcli("connection", "import", "type", "ikeclient", "file", "/run/home/work.toml", become=ORDINARY)
    assert nm.field("work", "connection.permissions") == "user\\:daemon"
    nm.nmcli("-w", "40", "connection", "up", "work", become=ORDINARY)
    assert ping(nm.machine, INSIDE_IPV4) == 3
    words = Path(f"/proc/{nm.plugins[0]}/cmdline").read_text().split("\0")
    name = next(word for word in words if word.startswith("org.freedesktop"))
    interface = "org.freedesktop.NetworkManager.VPN.Plugin"
    call = ("dbus-send", "--system", "--print-reply", f"--dest={name}", "/" + interface.replace(".", "/"))
    refused = nm.machine.run(*ORDINARY, *call, f"{interface}.Disconnect", check=False)
    assert "AccessDenied" in refused.stderr
    assert nm.state("work") == "activated"
    module_lab.client.run("disconnect", "work")
    wait_for(lambda: nm.state("work") != "activated", timeout=20, what="NetworkManager to see it")
    assert "ikeclient: error" not in nm.log.rpartition("starting ikeclient")[2]


@pytest.mark.extended
def test_networks_that_stay_outside_are_no_routes_of_networkmanagers(module_lab: Lab, nm: NetworkManager) -> None:
    module_lab.gateway.serve(EVERYTHING)
    import_profile(module_lab, nm, network={"exclude": ["203.0.113.0/24"]})
    up(nm)
    assert peer_address(nm.machine, INTERNET_IPV4) == CLIENT_IPV4
    assert peer_address(nm.machine, INSIDE_IPV4).startswith("10.88.0.")
