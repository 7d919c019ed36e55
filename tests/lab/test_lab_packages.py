"""The .deb in a Debian 12 and a 13 that have booted: installed, upgraded under a running tunnel, removed, purged.

The version that it is upgraded to is the same package with another number, each of whose modules refuses to be imported
by a process of the first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.booted import BootedMachine, bare_release, needs_another_release, needs_systemd
from lab.client import REPOSITORY
from lab.gateway import PSK, Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.pki import Pki
from lab.traffic import carries
from lab.world import Lab

WORK, CLOSED = "ikeclient@work.service", "ikeclient@closed.service"
FIRST, SECOND = "/root/first.deb", "/root/second.deb"
TREES = "/usr/lib/ikeclient/trees"
STRANGER = "1234"

pytestmark = [
    pytest.mark.extended,
    pytest.mark.timeout(1500),
    needs_another_release,
    needs_systemd,
]


def run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=1200).stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package of this machine's architecture, from $PACKAGES if it is set, and its successor."""
    place = tmp_path_factory.mktemp("packages")
    out = Path(os.environ.get("PACKAGES", place))
    architecture = run("dpkg", "--print-architecture").strip()
    if not list(out.glob(f"ikeclient_*_{architecture}.deb")):
        run(str(REPOSITORY / "scripts/packages/build"), str(out), "--no-image")
    [first] = out.glob(f"ikeclient_*_{architecture}.deb")
    return first, successor(first, place)


def successor(first: Path, place: Path) -> Path:
    """The package of version 99 that cannot be mixed with another."""
    tree = place / "successor"
    run("dpkg-deb", "-R", str(first), str(tree))
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 99", control.read_text()))
    package = tree / "usr/lib/ikeclient/package"
    (package / "ID").write_text("successor\n")
    top = package / "ikeclient/__init__.py"
    top.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99"', top.read_text()))
    for module in (package / "ikeclient").rglob("*.py"):
        guard = "import ikeclient as _top\nif _top.__version__ != '99':\n    raise ImportError('of another version')\n"
        module.write_text(module.read_text() + ("" if module == top else guard))
    made = place / "second.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", str(tree), str(made))
    return made


@pytest.fixture(scope="module")
def lab(pki: Pki) -> Iterator[Lab]:
    with Lab(pki=pki) as lab:
        lab.gateway.serve(Offer(unique="never"))
        yield lab


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(lab: Lab, packages: tuple[Path, Path], request: pytest.FixtureRequest) -> Iterator[BootedMachine]:
    """A Debian with two profiles and both packages, of which none is installed yet."""
    release = request.param
    overrides = {
        "auth": {"psk": {"credential": "psk"}},
        "network": {"routes": ["10.99.0.0/24"], "dns": "none"},
        "session": {"liveness": 5},
    }
    text = lab.client.write_profile(lab.gateway, overrides).read_text()
    secret = "[Service]\nLoadCredential=psk:/etc/ikeclient/secrets/psk\n"
    files = {
        FIRST: packages[0],
        SECOND: packages[1],
        "/root/profiles/work.toml": text,
        "/root/profiles/closed.toml": f"{text}kill_switch = true\n",
        "/root/profiles/psk": PSK,
        "/etc/systemd/system/ikeclient@.service.d/secret.conf": secret,
    }
    machine = BootedMachine(lab.network.client, lab.network.subdirectory(release), files, bare_release(release))
    try:
        yield machine
    finally:
        machine.close()


def dpkg(machine: BootedMachine, *words: str) -> str:
    done = machine.run("dpkg", *words, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def status(machine: BootedMachine, name: str = "work") -> dict[str, Any]:
    tunnels = json.loads(machine.run("ikeclient", "status", "--json").stdout)["tunnels"]
    return {tunnel["name"]: tunnel for tunnel in tunnels}[name]


def start(machine: BootedMachine, unit: str) -> None:
    done = machine.run("systemctl", "start", unit, check=False, timeout=120)
    assert done.returncode == 0, done.stderr + machine.journal(unit)


def trees(machine: BootedMachine) -> list[str]:
    return machine.run("ls", TREES).stdout.split()


def ours(machine: BootedMachine) -> str:
    """What of ours the kernel has: rules, tables of nftables, links."""
    rules = machine.run("ip", "rule").stdout + machine.run("nft", "list", "tables").stdout
    return "\n".join(line for line in rules.splitlines() if re.match(r"20\d\d\d:|199\d\d:|.*ikeclient", line))


def test_it_installs_for_the_systems_python_and_starts_nothing(machine: BootedMachine) -> None:
    dpkg(machine, "-i", FIRST)
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "ikeclient*").stdout == ""
    assert machine.run("getent", "passwd", "ikeclient").stdout.endswith(":/usr/sbin/nologin\n")
    modes = machine.run("stat", "-c", "%a %U %n", "/etc/ikeclient/profiles", "/etc/ikeclient/secrets").stdout
    assert modes == "755 root /etc/ikeclient/profiles\n700 root /etc/ikeclient/secrets\n"
    findings = {
        each["name"]: each
        for each in json.loads(machine.run("ikeclient", "doctor", "--json", check=False).stdout)["findings"]
    }
    assert findings["libraries"]["ok"], findings
    assert machine.run("ikeclient", "version", user=STRANGER).stdout.startswith("ikeclient ")
    assert machine.run("ikeclient", "exec", "--help", user=STRANGER).stdout
    for shell in ("/usr/share/bash-completion/completions/ikeclient", "/usr/share/zsh/vendor-completions/_ikeclient"):
        assert "ikeclient" in machine.run("cat", shell).stdout
    for program in ("ikeclient-networkmanager", "ikeclient-auth-dialog"):
        assert "usage" in machine.run(program, "--help").stdout
    plugin = machine.run("cat", "/usr/lib/NetworkManager/VPN/nm-ikeclient-service.name").stdout
    for path in re.findall(r"=(/\S+)", plugin):
        machine.run("test", "-r", path)
    verified = machine.run("systemd-analyze", "verify", "ikeclient@work.service", check=False)
    assert "ikeclient" not in verified.stderr, verified.stderr


def test_an_upgrade_leaves_a_running_tunnel_what_it_runs_from(machine: BootedMachine, lab: Lab) -> None:
    """It reloads, rekeys, reconnects and carries on as the version it is; what is started afterwards is the new one."""
    machine.run(
        "sh", "-ec", "cp /root/profiles/*.toml /etc/ikeclient/profiles/; cp /root/profiles/psk /etc/ikeclient/secrets/"
    )
    start(machine, WORK)
    machine.run("systemctl", "enable", WORK)
    carries(lab.network.client, INSIDE_IPV4)
    before, [old] = status(machine), trees(machine)

    dpkg(machine, "-i", SECOND)
    assert machine.run("ikeclient", "version").stdout.split()[1].rstrip(",") == "99"
    assert sorted(trees(machine)) == sorted([old, "successor"])
    assert status(machine)["pid"] == before["pid"]
    carries(lab.network.client, INSIDE_IPV4)
    lab.gateway.rekey(child="net")
    lab.gateway.rekey(ike="rw")
    machine.until(lambda: status(machine)["ike"]["rekeys"] >= 1, "a rekey of the IKE SA")
    path = "/etc/ikeclient/profiles/work.toml"
    text = machine.run("cat", path).stdout
    machine.run("tee", path, stdin=text.replace('"10.99.0.0/24"', '"10.99.0.0/25"'))
    machine.run("systemctl", "reload", WORK)
    machine.until(lambda: status(machine)["routes"] == ["10.99.0.0/25"], f"the reload: {machine.journal(WORK)}")
    machine.run("ikeclient", "reconnect", "work")
    machine.until(
        lambda: status(machine)["reconnects"] >= 1 and status(machine)["state"] == "connected", "reconnection"
    )
    carries(lab.network.client, INSIDE_IPV4)
    assert status(machine)["pid"] == before["pid"]
    assert "another version" not in machine.journal(WORK)
    machine.run("ikeclient", "disconnect", "work")
    machine.until(lambda: machine.show(WORK, "ActiveState") == "inactive", "the end of the service")
    assert machine.show(WORK, "Result") == "success"
    assert ours(machine) == ""

    start(machine, WORK)
    carries(lab.network.client, INSIDE_IPV4)
    dpkg(machine, "-i", SECOND)
    assert trees(machine) == ["successor"], "nobody runs from the first version any more"
    assert status(machine)["state"] == "connected"


def test_a_removal_ends_tunnels_and_opens_what_a_kill_switch_closed(machine: BootedMachine, lab: Lab) -> None:
    """Nothing stays behind that only the removed program could undo."""
    start(machine, "ikeclient-block@closed.service")
    start(machine, CLOSED)
    machine.run("systemctl", "kill", "--kill-whom=all", "-s", "KILL", CLOSED)
    machine.run("systemctl", "stop", CLOSED)
    assert "ikeclient" in ours(machine), "the kill switch has outlived its tunnel"
    assert status(machine)["state"] == "connected"

    dpkg(machine, "-r", "ikeclient")
    assert ours(machine) == ""
    assert machine.run("systemctl", "list-units", "--no-legend", "ikeclient*").stdout == ""
    assert machine.run("sh", "-c", "grep -ls ikeclient /proc/[1-9]*/maps", check=False).stdout == ""
    wait_for(lambda: "received DELETE for IKE_SA" in lab.gateway.log, timeout=10, what="the DELETE")
    assert machine.run("ls", "/usr/lib/ikeclient", check=False).stdout == ""
    assert machine.run("ls", "/etc/ikeclient/profiles").stdout.split() == ["closed.toml", "work.toml"]

    dpkg(machine, "-P", "ikeclient")
    assert machine.run("sh", "-c", "ls -d /run/ikeclient /var/cache/ikeclient", check=False).stdout == ""
    assert machine.run("find", "/etc/systemd/system", "-name", "ikeclient@work*").stdout == ""
    assert machine.run("cat", "/etc/ikeclient/profiles/work.toml").stdout, "what an administrator wrote"


_RPM = """
mkdir upper work root
mount -t overlay -o "lowerdir=$1,upperdir=upper,workdir=work" lab root
mount -t proc proc root/proc
rpm --root "$PWD/root" --initdb
rpm --root "$PWD/root" --nodeps -i "$2"
chroot root ikeclient version
chroot root getent passwd ikeclient
rpm --root "$PWD/root" --nodeps -V ikeclient
rpm --root "$PWD/root" --nodeps -e ikeclient
ls root/usr/lib | grep ikeclient || echo gone
"""


@pytest.mark.skipif(shutil.which("rpm") is None, reason="no rpm here")
def test_the_rpm_installs_is_as_it_was_packed_and_goes(packages: tuple[Path, Path], tmp_path: Path) -> None:
    """Its scripts are run by rpm in a Debian; what it depends on has other names there."""
    [package] = packages[0].parent.glob(f"ikeclient-*.{os.uname().machine}.rpm")
    words = ["unshare", "-m", "bash", "-euc", _RPM, "rpm", str(bare_release("trixie").lower), str(package)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    version, user, *verified, end = done.stdout.splitlines()
    assert version.startswith("ikeclient ")
    assert user.endswith("/usr/sbin/nologin")
    assert (verified, end) == ([], "gone"), "no file differs from the package"
