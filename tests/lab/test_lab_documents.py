"""Every block of the documents, run as it is written: typed by a reader on a machine that has a gateway in reach.

What systemd's page says is run by `test_lab_systemd.py`, what the containers' page says by `scripts/container-check`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import ROOT, Block, blocks
from lab.bookshelf import AUTHORITY, HOMES, REPORT, SSWAN, Bookshelf, put
from lab.booted import PATH, BootedMachine, needs_systemd
from lab.gateway import PASSWORD
from lab.machines import LabError, wait_for
from lab.network import INTERNET_IPV4
from lab.pki import Pki
from lab.reader import Done, Reader
from lab.web import make_repository, make_wheel, serve_ssh
from lab.world import Lab

USERS = {"root": "root", "user": "alice"}
ANSWERS = {
    r"Password for alice@example.com: ": PASSWORD,
    r"Password: ": PASSWORD,
    r"alice@\w+:~\$ ": "exit",  # a shell inside of `exec`
}
README = ROOT / "README.md"
PROFILE = next(block.text for block in blocks(README) if block.who == "file")
FROM_FILE = PROFILE.replace("{ prompt = true }", '{ file = "work.pw" }')
PROFILES = ".config/ikeclient/profiles"

pytestmark = [
    pytest.mark.xdist_group("documents"),
    pytest.mark.timeout(400),
    needs_systemd,
]


@pytest.fixture(scope="module")
def shelf(pki: Pki) -> Bookshelf:
    return Bookshelf(pki=pki)


@pytest.fixture(scope="module")
def lab(pki: Pki, shelf: Bookshelf) -> Iterator[Lab]:
    with Lab(pki=pki) as lab:
        lab.gateway.serve(shelf.offer)
        lab.servers.speak_https(shelf.web_certificate)
        (lab.servers.files / "report.csv").write_text(REPORT)
        (lab.servers.files / "index.html").write_text(REPORT)
        yield lab


@pytest.fixture(scope="module")
def booted_machine(lab: Lab, shelf: Bookshelf) -> Iterator[BootedMachine]:
    machine = BootedMachine(lab.network.client, lab.network.subdirectory("reader"), shelf.machine_files())
    try:
        machine.run("systemctl", "start", "dbus.service", "systemd-resolved.service")
        machine.run("useradd", "-m", "-k", "/nonexistent", "-s", "/bin/bash", "alice")
        machine.run("ln", "-s", "/opt/ikeclient/bin/ikeclient", "/usr/local/bin/ikeclient")
        yield machine
    finally:
        machine.close()


class Desk:
    """The terminals of a page's readers, and what has been typed at them."""

    def __init__(self, machine: BootedMachine) -> None:
        self.machine = machine
        self.variables: dict[str, str] = {}
        self.done: list[Done] = []
        self._free: dict[str, list[Reader]] = {"root": [], "user": []}
        self._busy: list[tuple[str, Reader]] = []

    def reader(self, who: str) -> Reader:
        """A terminal of that person's at which nothing runs."""
        if not self._free[who]:
            user = USERS[who]
            self._free[who].append(Reader(self.machine, user, HOMES[user], ANSWERS, self.variables))
        return self._free[who][-1]

    def run(self, block: Block) -> None:
        """Do what a block says; what is not well fails the test with the words of the terminal."""
        match block.who, block.how:
            case "file", path:
                self._write(path, block.text)
            case ("root" | "user") as who, "stays":
                reader = self.reader(who)
                self._note(reader.type(block.text, stays=True), block)
                self._busy.append((who, self._free[who].pop()))
            case ("root" | "user") as who, "script":
                self._run_script(who, block)
            case "user", "cron":
                self._run_as_cron(block)
            case "user", "ci":
                self._run_as_ci(block)
            case ("root" | "user") as who, "":
                self._note(self.reader(who).type(block.text, timeout=120), block)

    def begin_section(self, section: str) -> None:
        """Have a tunnel run where the page is about one that does."""
        if section in OF_A_RUNNING_TUNNEL:
            self.reader("root").type("ikeclient connect work --detach")

    def end_section(self) -> None:
        """End what still goes on in terminals, and behind them."""
        while self._busy:
            who, reader = self._busy.pop()
            reader.interrupt()
            self._free[who].append(reader)
        self.machine.run("ikeclient", "disconnect", "--all")

    def close(self) -> None:
        """Leave the machine as it was."""
        for readers in (*self._free.values(), [reader for _, reader in self._busy]):
            for reader in readers:
                reader.close()

    def _note(self, typed: list[Done], block: Block) -> None:
        self.done += typed
        for each in typed:
            assert each.code == each.expected, f"{block}: `{each.line}` exits with {each.code}\n{each.text}"

    def _write(self, path: str, text: str) -> None:
        for user, home in HOMES.items():
            place = path.replace("~", home, 1)
            if place != path:
                put(self.machine, place, text, owner=user)

    def _run_script(self, who: str, block: Block) -> None:
        path = f"/tmp/{block.page.replace('/', '-')}-{block.line}"
        put(self.machine, path, block.text, owner=USERS[who])
        reader = self.reader(who)
        self._free[who].remove(reader)
        reader.start(f"bash {path}")
        try:
            for first, act in MEANWHILE.items():
                if first in block.text:
                    act(self)
            self._note([reader.finish()], block)
        except LabError as error:
            raise LabError(f"{block}: {error}\n{reader.now()}") from error
        finally:
            self._free[who].append(reader)

    def _run_as_cron(self, block: Block) -> None:
        """Run each line as cron does: a shell without a terminal, and no variables but those of the table."""
        variables = {"HOME": HOMES["alice"], "LOGNAME": "alice", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
        for line in block.text.splitlines():
            if match := re.fullmatch(r"(\w+)=(.*)", line):
                variables[match[1]] = match[2]
                continue
            command = re.fullmatch(r"(?:\S+\s+){5}(.*)", line)
            assert command is not None, line
            words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
            job = ["sh", "-c", f"cd; {command[1]}"]
            user = ["setpriv", "--reuid", "alice", "--regid", "alice", "--init-groups"]
            done = self.machine.run(*user, *words, *job, check=False)
            assert (done.returncode, done.stdout + done.stderr) == (0, ""), f"{block}: {line}"

    def _run_as_ci(self, block: Block) -> None:
        """Run the steps of a job as a runner does: each a script of its own, with the job's variables."""
        environment, _, steps = block.text.partition("steps:\n")
        variables = {"HOME": HOMES["alice"], "USER": "alice", "PATH": PATH, "LANG": "C.UTF-8", "CI": "true"}
        for name, value in re.findall(r"^ +(\w+): (.*?)(?: +#.*)?$", environment, re.MULTILINE):
            variables[name] = re.sub(r"\$\{\{ secrets\.\w+ \}\}", PASSWORD, value)
        put(self.machine, "/home/alice/integration-tests", CI_TESTS, owner="alice", mode="755")
        commands = re.findall(r"- run: (.*?)(?: +#.*)?$", steps, re.MULTILINE)
        assert len(commands) == 3
        for command in commands:
            words = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
            user = ["setpriv", "--reuid", "alice", "--regid", "alice", "--init-groups"]
            done = self.machine.run(*user, *words, "bash", "-ec", f"cd; {command}", check=False)
            assert done.returncode == 0, f"{block}: {command}\n{done.stdout}{done.stderr}"
            assert PASSWORD not in done.stdout + done.stderr


CI_TESTS = "#!/bin/sh\nset -e\nikeclient status env --check up\ncurl -sf http://corp.example/report.csv\n"


def _connect_and_disconnect(desk: Desk) -> None:
    reader = desk.reader("root")
    for line in ("ikeclient connect work --detach", "ikeclient disconnect work"):
        desk.done += reader.type(line)


def _lose_the_tunnel(desk: Desk) -> None:
    """Have the tunnel reconnect until whoever acts on events has acted, and end it."""
    reader = desk.reader("root")

    def acted() -> bool:
        reader.type("ikeclient reconnect work --wait")
        return "VPN lost" in desk.machine.run("journalctl", "--no-pager", "-q").stdout

    wait_for(acted, timeout=60, what="a line in the journal", interval=1.0)
    reader.type("ikeclient disconnect work")


OF_A_RUNNING_TUNNEL = ("Acting on events", "One value out of the status")
MEANWHILE: dict[str, Callable[[Desk], None]] = {
    "ikeclient wait work": _connect_and_disconnect,
    "ikeclient events work": _lose_the_tunnel,
}


@pytest.fixture
def desk(booted_machine: BootedMachine, shelf: Bookshelf) -> Iterator[Desk]:
    """A machine on which nothing runs, and a profile `work` in each home."""
    machine = booted_machine
    for user, home in HOMES.items():
        machine.run("rm", "-rf", f"{home}/.config", f"{home}/.cache", f"{home}/.ssh", f"{home}/repo")
        machine.run(
            "install", "-d", "-m", "700", "-o", user, "-g", user, f"{home}/.config", f"{home}/.config/ikeclient"
        )
        put(machine, f"{home}/{PROFILES}/{AUTHORITY}", shelf.authority, owner=user, mode="644")
        put(machine, f"{home}/{PROFILES}/work.toml", FROM_FILE, owner=user)
        put(machine, f"{home}/{PROFILES}/work.pw", PASSWORD, owner=user)
    desk = Desk(machine)
    try:
        yield desk
        assert machine.run("ikeclient", "status").stdout.startswith("disconnected"), "every page ends what it starts"
        rules = machine.run("sh", "-c", "ip rule; ip -6 rule").stdout
        assert not re.search(r"^(19990|200\d\d):", rules, re.MULTILINE), rules
    finally:
        machine.run("ikeclient", "disconnect", "--all", check=False)
        desk.close()


def run(desk: Desk, page: Path, *, without: Callable[[Block], bool] = lambda _: False) -> str:
    """Run the blocks of a page in turn; returns all that the terminals showed."""
    section = ""
    for block in blocks(page):
        if block.section != section:
            desk.end_section()
            section = block.section
            desk.begin_section(section)
        if not without(block):
            desk.run(block)
    desk.end_section()
    return "".join(each.text for each in desk.done)


def test_the_readme(desk: Desk) -> None:
    shown = run(desk, README, without=lambda block: block.section == "Install")
    assert shown.count(REPORT.strip()) == 2
    assert "disconnected" in shown
    assert PASSWORD not in shown


@pytest.mark.extended
def test_without_root(desk: Desk) -> None:
    shown = run(desk, ROOT / "docs/without-root.md")
    assert shown.count(REPORT.strip()) == 3


@pytest.mark.extended
@pytest.mark.parametrize("page", sorted((ROOT / "docs/start").glob("*.md")), ids=lambda page: page.stem)
def test_the_first_steps(desk: Desk, page: Path) -> None:
    shown = run(desk, page)
    fetched = [block for block in blocks(page) for line in block.text.splitlines() if re.search(r"curl .*corp", line)]
    assert shown.count(REPORT.strip()) == len(fetched) >= 1
    assert PASSWORD not in shown


@pytest.mark.extended
def test_a_gateway_is_asked_what_it_takes(desk: Desk) -> None:
    shown = run(desk, ROOT / "docs/gateways/README.md")
    assert "aes256gcm16" in shown


@pytest.mark.extended
def test_a_machine_that_the_kill_switch_closed_is_opened_without_ikeclient(desk: Desk) -> None:
    """By the commands of the page; and what `status` says then is what the kernel has."""
    machine = desk.machine
    put(machine, f"/root/{PROFILES}/work.toml", f"{FROM_FILE}\n[session]\nkill_switch = true\n")
    outside = ("curl", "-s", "--max-time", "5", f"http://{INTERNET_IPV4}/report.csv")
    machine.run("sh", "-c", "HOME=/root ikeclient block work")
    assert machine.run(*outside, check=False).returncode != 0
    for block in blocks(ROOT / "docs/kill-switch.md"):
        desk.run(block)  # and no `disconnect` between, which opens as well
    assert machine.run(*outside).stdout == REPORT
    assert "nothing: others have removed its rules" in machine.run("ikeclient", "status").stdout
    machine.run("ikeclient", "unblock", "work")


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_the_recipes(desk: Desk, lab: Lab, shelf: Bookshelf, tmp_path: Path) -> None:
    machine, inside = desk.machine, lab.network.gateway
    commit = make_repository(lab.servers.files / "team")
    make_wheel(lab.servers.files, "package")
    (lab.servers.files / "vpn.sswan").write_text(SSWAN)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    inside.run("sh", "-c", "echo alice:x:0:0::/run/root:/bin/sh >>/etc/passwd")
    inside.hide("/srv")
    inside.write_file("/srv/data", "of the backup\n")
    server = serve_ssh(inside, (tmp_path / "key.pub").read_text(), tmp_path)
    put(machine, "/etc/ssh/ssh_known_hosts", f"*.corp.example {server}\n", mode="644")
    for user, home in HOMES.items():
        put(machine, f"{home}/.ssh/id_ed25519", (tmp_path / "key").read_text(), owner=user)
    shelf.give_files(machine)
    machine.run("python3", "-m", "venv", "/home/alice/venv", timeout=120)
    machine.run("chown", "-R", "alice:alice", "/home/alice/venv")
    machine.run("mkdir", "-p", "/srv/mirror")
    own = {"PIP_CONFIG_FILE": "/dev/null", "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"}
    desk.variables |= {"PATH": f"/home/alice/venv/bin:{PATH}", **own}
    shown = run(desk, ROOT / "docs/recipes.md")
    assert machine.run("cat", "/srv/mirror/data", "/home/alice/mirror/data").stdout == "of the backup\n" * 2
    assert machine.run("git", "-C", "/home/alice/repo", "rev-parse", "HEAD", user="alice").stdout.strip() == commit
    assert shown.count("ready: ikeclient connect") == 6
    assert "Successfully installed package-1.0" in shown
    assert shown.count(REPORT.strip()) >= 2
    assert PASSWORD not in shown


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_the_installation(desk: Desk, tmp_path: Path) -> None:
    """From a clone, with pip; the packages come from a directory, since this machine's network has no index."""
    machine, wheels = desk.machine, tmp_path / "wheels"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*wanted["project"]["dependencies"], *wanted["build-system"]["requires"], "packaging"]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "-d", str(wheels), *needed], check=True, timeout=300)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for source, target in ((wheels, "/root/wheels"), (clone, "/root/clone")):
        packed = subprocess.run(["tar", "-C", str(source), "-c", "."], check=True, capture_output=True).stdout
        put(machine, f"{target}.tar", packed)
        machine.run(
            "sh", "-ec", f"mkdir -p {target}; tar -C {target} --no-same-owner -xf {target}.tar; rm {target}.tar"
        )
    machine.run("rm", "/opt/ikeclient/bin/ikeclient", "/usr/local/bin/ikeclient")
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/root/wheels", "PIP_CONFIG_FILE": "/dev/null"}
    reader = Reader(machine, "root", "/root/clone", ANSWERS, variables)
    try:
        for block in blocks(README):
            if block.section == "Install":
                for typed in reader.type(block.text, timeout=300):
                    assert typed.code == 0, typed.text
        assert "compiled codec" in reader.shown
    finally:
        reader.close()
    shown = run(desk, README, without=lambda block: block.section == "Install")
    assert shown.count(REPORT.strip()) == 2
    assert machine.run(
        "/opt/ikeclient/bin/python", "-c", "import ikeclient; print(ikeclient.__file__)"
    ).stdout.startswith("/opt/ikeclient/lib/")
