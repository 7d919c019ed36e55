"""The units of a user, under a systemd that has booted: what docs/systemd-user/README.md says, typed by that user.

One machine for all: services are started, killed and stopped one after the other, by tests in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import blocks
from lab.booted import PYTHON, BootedMachine, needs_systemd
from lab.client import REPOSITORY
from lab.gateway import PSK, Offer
from lab.network import INSIDE_DNS, INSIDE_IPV4
from lab.pki import Pki
from lab.servers import DOMAIN
from lab.world import Lab

UNITS = REPOSITORY / "docs" / "systemd-user"
BLOCKS = {block.section: block.text for block in blocks(UNITS / "README.md")}
UID = 2000
HOME = "/home/alice"
PROFILES = f"{HOME}/.config/ikeclient/profiles"
REPORT = "numbers of the day"
DESKTOP = "[Unit]\nBindsTo=graphical-session.target\n"
# Shows notifications as a desktop does: their headlines are in a file.
SHOW = f"""
import asyncio, sys
sys.path[:0] = ["/opt/ikeclient/site", "{HOME}/tests"]
from desktop_session import Service

async def main():
    service = await Service.on("unix:path=/run/user/{UID}/bus", "body")
    while True:
        await asyncio.sleep(0.1)
        with open("{HOME}/shown", "w") as file:
            print(*service.summaries, sep="\\n", file=file)

asyncio.run(main())
"""

pytestmark = [
    pytest.mark.extended,
    pytest.mark.xdist_group("systemd"),
    pytest.mark.timeout(400),
    needs_systemd,
]


@pytest.fixture(scope="module")
def lab(pki: Pki) -> Iterator[Lab]:
    with Lab(pki=pki) as lab:
        lab.gateway.serve(Offer(unique="never", dns=(INSIDE_DNS,), domains=(DOMAIN,)))
        (lab.servers.files / "index.html").write_text(REPORT)
        yield lab


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Iterator[BootedMachine]:
    """A machine with alice, who lingers, her profiles and the units; and a device that root has made for her."""
    secret = {"auth": {"psk": {"file": f"{PROFILES}/psk"}}}
    device = {"network": {"interface": "ike7", "routes": ["10.99.0.0/24"]}}
    when = {"when": {"rules": [{"action": "connect", "interface": "wired"}], "otherwise": "disconnect"}}
    profiles = {
        "work": lab.client.write_profile(lab.gateway, secret, name="work").read_text(),
        "office": lab.client.write_profile(lab.gateway, secret | device | when, name="office").read_text(),
    }
    files = {
        **{f"{HOME}/clone/docs/systemd-user/{source.name}": source.read_text() for source in UNITS.iterdir()},
        **{f"{PROFILES}/{name}.toml": text for name, text in profiles.items()},
        f"{PROFILES}/psk": PSK,
        f"{HOME}/.config/systemd/user/desktop.target": DESKTOP,
        f"{HOME}/tests/desktop_session.py": REPOSITORY / "tests/desktop_session.py",
        f"{HOME}/tests/show.py": SHOW,
    }
    machine = BootedMachine(lab.network.client, lab.network.subdirectory("user"), files)
    try:
        machine.run("systemctl", "start", "dbus.service", "systemd-logind.service", "systemd-resolved.service")
        machine.run("useradd", "--uid", str(UID), "-d", HOME, "-s", "/bin/bash", "alice")
        machine.run("chown", "-R", "alice:alice", HOME)
        machine.run("chmod", "600", f"{PROFILES}/psk")
        machine.run("ip", "tuntap", "add", "ike7", "mode", "tun", "user", "alice")
        machine.run("loginctl", "enable-linger", "alice")
        machine.until(
            lambda: machine.run("test", "-S", f"/run/user/{UID}/bus", check=False).returncode == 0, "her session"
        )
        alice(machine, f"cd {HOME}/clone\n{BLOCKS['Units of a user']}")
        yield machine
    finally:
        machine.close()


def alice(machine: BootedMachine, script: str, *, check: bool = True) -> str:
    """What she types, and what it says."""
    variables = (f"HOME={HOME}", "USER=alice", f"XDG_RUNTIME_DIR=/run/user/{UID}")
    done = machine.run("env", *variables, "bash", "-ec", script, user="alice", check=False, timeout=120)
    story = machine.run("journalctl", "--no-pager", "-n", "60", check=False).stdout if done.returncode and check else ""
    assert done.returncode == 0 or not check, f"{script}\n{done.stdout}{done.stderr}\n{story}"
    return done.stdout


def show(machine: BootedMachine, unit: str, name: str) -> str:
    return alice(machine, f"systemctl --user show {unit} -P {name}").strip()


def killed(machine: BootedMachine, unit: str) -> None:
    """Kill all of a unit, and wait until it is there again, as another process."""
    before = show(machine, unit, "MainPID")
    alice(machine, f"systemctl --user kill --kill-whom=all -s KILL {unit}")
    machine.until(
        lambda: show(machine, unit, "ActiveState") == "active" and show(machine, unit, "MainPID") not in (before, "0"),
        f"{unit} to come again",
    )
    assert show(machine, unit, "NRestarts") == "1"


def stopped(machine: BootedMachine, unit: str) -> None:
    """Stop a unit: in order, and with nothing left of it."""
    alice(machine, f"systemctl --user stop {unit}")
    assert (show(machine, unit, "ActiveState"), show(machine, unit, "Result")) == ("inactive", "success")
    assert status(machine) == {}


def status(machine: BootedMachine) -> dict[str, Any]:
    tunnels = json.loads(alice(machine, "ikeclient status --json"))["tunnels"]
    return {each["name"]: each for each in tunnels if each["pid"]}


def test_a_proxy_serves_when_it_is_started_and_comes_again(machine: BootedMachine) -> None:
    assert REPORT in alice(machine, BLOCKS["A proxy"])
    killed(machine, "ikeclient-proxy@work")
    assert REPORT in alice(machine, BLOCKS["A proxy"].splitlines()[1])
    stopped(machine, "ikeclient-proxy@work")
    wanted = "~/.config/systemd/user/default.target.wants/ikeclient-proxy@work.service"
    assert "ikeclient-proxy@.service" in alice(machine, f"readlink {wanted}")


def test_a_tunnel_on_a_device_of_hers_is_up_when_it_is_started(machine: BootedMachine) -> None:
    said = alice(machine, BLOCKS["A tunnel"])
    assert said.startswith("connected"), said
    tunnel = status(machine)["office"]
    assert (tunnel["user"], tunnel["interface"]) == ("alice", "ike7")
    machine.run("ip", "addr", "add", tunnel["addresses"][0], "dev", "ike7")
    machine.run("ip", "link", "set", "ike7", "up")
    machine.run("ip", "route", "add", "10.99.0.0/24", "dev", "ike7")
    assert REPORT in alice(machine, f"curl -s --max-time 5 http://{INSIDE_IPV4}/")
    alice(machine, "systemctl --user reload ikeclient@office")
    killed(machine, "ikeclient@office")
    stopped(machine, "ikeclient@office")
    alice(machine, "systemctl --user start ikeclient@office")


def test_by_network_a_tunnel_is_up_while_the_unit_is(machine: BootedMachine) -> None:
    alice(machine, BLOCKS["By network"])
    assert status(machine)["office"]["state"] == "connected"
    killed(machine, "ikeclient-watch")
    alice(machine, BLOCKS["By network"].splitlines()[2])
    stopped(machine, "ikeclient-watch")


def test_notifications_come_and_go_with_the_graphical_session(machine: BootedMachine) -> None:
    alice(machine, BLOCKS["Notifications"])
    alice(machine, f"systemd-run --user --unit=show -q {PYTHON} -I {HOME}/tests/show.py")
    assert show(machine, "ikeclient-notify", "ActiveState") == "inactive"
    alice(machine, "systemctl --user start desktop.target")
    machine.until(lambda: show(machine, "ikeclient-notify", "ActiveState") == "active", "the notifier")
    killed(machine, "ikeclient-notify")

    def shown() -> list[str]:
        return alice(machine, "cat ~/shown", check=False).splitlines()

    alice(machine, "systemctl --user start ikeclient@office")
    machine.until(lambda: "VPN office: connected" in shown(), "a notification")
    alice(machine, "systemctl --user kill --kill-whom=all -s KILL ikeclient@office")
    machine.until(lambda: "VPN office: not connected" in shown(), "another one")
    alice(machine, "systemctl --user stop ikeclient@office desktop.target")
    machine.until(lambda: show(machine, "ikeclient-notify", "ActiveState") == "inactive", "the end of the notifier")
    assert show(machine, "ikeclient-notify", "Result") == "success"


def test_a_refusal_is_not_repeated(machine: BootedMachine) -> None:
    """E9: each would count as a guess."""
    alice(machine, f"echo -n wrong > {PROFILES}/psk")
    alice(machine, "systemctl --user start ikeclient-proxy@work", check=False)
    assert show(machine, "ikeclient-proxy@work", "ActiveState") == "failed"
    assert (
        show(machine, "ikeclient-proxy@work", "ExecMainStatus"),
        show(machine, "ikeclient-proxy@work", "NRestarts"),
    ) == ("4", "0")
    assert not re.search(r"\bwrong\b", machine.run("journalctl", "--no-pager").stdout)
