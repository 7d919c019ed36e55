"""The recipes of docs/recipes.md that go through `ikeclient proxy`: git, pip and ssh, behind a real gateway."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from lab.machines import Machine, wait_for
from lab.person import HOME, ORDINARY, UID, Person
from lab.proxies import IN_CONTAINER, running
from lab.web import make_repository, make_wheel, serve_ssh
from lab.world import Lab

WEB_PORT = 8000


def serve_files(machine: Machine, directory: Path) -> None:
    """A web server without any knowledge of git or pip."""
    server = (sys.executable, "-m", "http.server", str(WEB_PORT), "--directory", str(directory))
    machine.start(*server)
    url = f"http://127.0.0.1:{WEB_PORT}/"
    wait_for(lambda: machine.run("curl", "-s", url, check=False).returncode == 0, timeout=20, what="the web server")


def test_git_and_pip_go_through_the_proxy(lab: Lab, person: Person, tmp_path: Path) -> None:
    files = tmp_path / "www"
    files.mkdir()
    commit, digest = make_repository(files), make_wheel(files)
    serve_files(lab.network.gateway, files)
    machine = lab.network.client
    with running(person) as proxy:
        socks, http = proxy.ports()
        for number, way in enumerate((f"socks5h://127.0.0.1:{socks}", f"http://127.0.0.1:{http}")):
            clone = tmp_path / f"clone{number}"
            url = f"http://corp.example:{WEB_PORT}/repo.git"
            machine.run("git", "-c", f"http.proxy={way}", "clone", "-q", url, str(clone))
            assert machine.run("git", "-C", str(clone), "rev-parse", "HEAD").stdout.strip() == commit
        machine.run(
            *(sys.executable, "-m", "pip", "--isolated", "download", "-q", "--no-deps", "--no-cache-dir"),
            *("--disable-pip-version-check", "--proxy", f"http://127.0.0.1:{http}", "-d", str(tmp_path)),
            *("-i", f"http://corp.example:{WEB_PORT}/simple/", "--trusted-host", "corp.example", "tiny"),
        )
        assert hashlib.sha256((tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest() == digest


def test_ssh_with_its_proxy_command(lab: Lab, person: Person, tmp_path: Path) -> None:
    """Two sessions at once: the first starts the tunnel, the second joins it; the tunnel ends with the last."""
    machine = lab.network.client
    machine.run("sh", "-c", f"echo alice:x:{UID}:{UID}::{HOME}:/bin/sh >>/etc/passwd")
    machine.run(*ORDINARY, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{HOME}/key", env=person.environment)
    serve_ssh(lab.network.gateway, machine.read_file(f"{HOME}/key.pub"), tmp_path)
    ssh = (
        *(*ORDINARY, "ssh", "-F", "none", "-i", f"{HOME}/key", "-o", "StrictHostKeyChecking=no"),
        *("-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"),
        *("-o", f"ProxyCommand={sys.executable} -m ikeclient proxy work --stdio %h:%p", "root@corp.example"),
    )
    first = machine.start(
        *ssh, "echo there; cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=person.environment
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == b"there\n"
    second = machine.run(*ssh, "sha256sum", stdin="x" * 3_000_000, env=person.environment)
    assert second.stdout.split()[0] == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    first.stdin.write(b"still here\n")
    first.stdin.close()
    assert first.stdout.read() == b"still here\n"
    assert first.wait(20) == 0
    wait_for(lambda: person.status() is None, timeout=20, what="the end of the tunnel")
    assert lab.gateway.log.count("parsed IKE_AUTH request") == 1


def test_in_a_default_container_curl_git_and_ssh_go_through(lab: Lab, person: Person, tmp_path: Path) -> None:
    """As nobody, without a right or a device node, all of them and we under Docker's default seccomp profile."""
    files = tmp_path / "www"
    files.mkdir()
    commit = make_repository(files)
    serve_files(lab.network.gateway, files)
    machine = lab.network.client
    machine.hide("/dev/net")
    inside = (*ORDINARY, *IN_CONTAINER)
    machine.run("sh", "-c", f"echo alice:x:{UID}:{UID}::{HOME}:/bin/sh >>/etc/passwd")
    machine.run(*inside, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{HOME}/key", env=person.environment)
    serve_ssh(lab.network.gateway, machine.read_file(f"{HOME}/key.pub"), tmp_path)

    def cloned(*options: str, source: str, name: str, env: dict[str, str] | None = None) -> str:
        environment = {**person.environment, **(env or {})}
        machine.run(*inside, "git", *options, "clone", "-q", source, f"{HOME}/{name}", env=environment, timeout=60)
        done = machine.run(*inside, "git", "-C", f"{HOME}/{name}", "rev-parse", "HEAD", env=environment)
        return done.stdout.strip()

    with running(person, prefix=IN_CONTAINER) as proxy:
        socks, http = proxy.ports()
        url = f"http://corp.example:{WEB_PORT}/repo.git"
        got = machine.run(*inside, "curl", "-sS", "-x", f"socks5h://127.0.0.1:{socks}", f"{url}/HEAD")
        assert got.stdout == "ref: refs/heads/main\n"
        assert cloned("-c", f"http.proxy=http://127.0.0.1:{http}", source=url, name="over-http") == commit
        status = person.status()
        assert status is not None
        assert status["mode"] == "stack"
    ssh = (
        f"ssh -F none -i {HOME}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
        f"-o BatchMode=yes -o 'ProxyCommand={sys.executable} -m ikeclient proxy work --stdio %h:%p'"
    )
    done = machine.run(*inside, "sh", "-c", f"{ssh} root@corp.example sha256sum", stdin="x" * 300_000,
                       env=person.environment, timeout=60)  # fmt: skip
    assert done.stdout.split()[0] == hashlib.sha256(b"x" * 300_000).hexdigest()
    source = f"root@corp.example:{files}/repo.git"
    assert cloned(source=source, name="over-ssh", env={"GIT_SSH_COMMAND": ssh}) == commit
