"""The image of docs/container/Containerfile, run by podman with the words of docs/containers.md.

It carries a tunnel to a real gateway, its health check is asked, and a second container shares its network. Podman
takes docker's words; what it needs besides is the network of a lab machine. `scripts/container-check` builds the image.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, blocks
from lab.bookshelf import AUTHORITY, REPORT, Bookshelf
from lab.gateway import PASSWORD
from lab.machines import wait_for
from lab.network import INSIDE_IPV4, INTERNET_DNS
from lab.pki import Pki
from lab.traffic import carries
from lab.world import Lab

PAGE = {(block.section, block.language): block for block in blocks(ROOT / "docs/containers.md")}
RUN, SHARE = PAGE["docker and podman", "sh"].text.replace("\\\n", " ").splitlines()
PROFILE = PAGE["The profile", "toml"]
OPTIONS = os.environ.get("RUN_OPTIONS", "--cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024")
DOCKER = """#!/bin/sh
first=$1; shift
case " $* " in
*" --network "*) exec {podman} "$first" {options} "$@" ;;
*) exec {podman} "$first" {options} --network ns:/run/netns/{machine} --dns {dns} "$@" ;;
esac
"""
# crun wants the second version of control groups alone, which not every machine has there.
ALONE = ("unshare", "-m", "sh", "-c", 'mount -t cgroup2 lab /sys/fs/cgroup && exec podman "$@"', "podman")
PODMAN = ("podman",) if Path("/sys/fs/cgroup/cgroup.controllers").exists() else ALONE


def podman(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PODMAN, *words], capture_output=True, text=True, timeout=120, check=False)


pytestmark = [
    pytest.mark.extended,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        shutil.which("podman") is None or podman("image", "exists", "ikeclient").returncode != 0,
        reason="no podman, or no image yet: scripts/container-check builds it",
    ),
]


@pytest.fixture
def reader(lab: Lab, pki: Pki, tmp_path: Path) -> Iterator[Path]:
    """A directory with the page's profile, the secret beside it, and `docker`."""
    shelf = Bookshelf(pki=pki)
    lab.gateway.serve(shelf.offer)
    (lab.servers.files / "index.html").write_text(REPORT)
    (tmp_path / "profiles").mkdir()
    (tmp_path / PROFILE.how).write_text(PROFILE.text)
    (tmp_path / "profiles" / AUTHORITY).write_text(shelf.authority)
    (tmp_path / "vpn-password").write_text(PASSWORD)
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        DOCKER.format(podman=shlex.join(PODMAN), options=OPTIONS, machine=lab.network.client.name, dns=INTERNET_DNS)
    )
    program.chmod(0o755)
    made = 'FROM localhost/ikeclient-base\nENTRYPOINT ["curl", "-sS"]\n'
    words = [
        "podman",
        "build",
        "--isolation",
        "chroot",
        "-q",
        "-t",
        "localhost/curlimages/curl",
        "-f",
        "-",
        str(tmp_path),
    ]
    subprocess.run(words, input=made, text=True, check=True, capture_output=True, timeout=120)
    yield tmp_path
    podman("rm", "-f", "-t", "5", "vpn")


def as_written(reader: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{reader}/bin:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line], cwd=reader, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_image_carries_a_tunnel_and_is_healthy(lab: Lab, reader: Path) -> None:
    """The commands of the page, one after the other; then SIGTERM, after which the network is as before."""
    before = lab.client.traces()
    started = as_written(reader, RUN)
    assert started.returncode == 0, started.stderr

    def connected() -> bool:
        return "connected in" in podman("logs", "vpn").stderr

    wait_for(connected, timeout=40, what=f"the tunnel: {podman('logs', 'vpn').stderr}", interval=0.5)
    health = podman("healthcheck", "run", "vpn")
    assert health.returncode == 0, health.stdout + health.stderr
    assert podman("exec", "vpn", "ikeclient", "status", "--check", "up", "-f", "state").stdout == "connected\n"
    shared = as_written(reader, SHARE)
    assert shared.stdout == REPORT, shared.stderr
    lab.gateway.kill()
    assert podman("stop", "-t", "10", "vpn").returncode == 0
    assert podman("inspect", "vpn", "--format", "{{.State.ExitCode}}").stdout.strip() == "0"
    assert lab.client.traces() == before


def test_podman_gives_the_images_own_user_the_capability(lab: Lab, reader: Path) -> None:
    """Without `--user 0` nothing runs as root, with no new privileges, and the tunnel is healthy all the same."""
    started = as_written(reader, RUN.replace("--user 0 ", "--read-only "))
    assert started.returncode == 0, started.stderr
    wait_for(
        lambda: "connected in" in podman("logs", "vpn").stderr,
        timeout=40,
        what=f"the tunnel: {podman('logs', 'vpn').stderr}",
        interval=0.5,
    )
    assert podman("healthcheck", "run", "vpn").returncode == 0
    assert podman("exec", "vpn", "ikeclient", "status", "-f", "user").stdout.split() == ["ikeclient"]
    pid = podman("inspect", "vpn", "--format", "{{.State.Pid}}").stdout.strip()
    assert re.search(r"^Uid:\s+7400\s+7400\s+7400\s+7400$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    carries(lab.client.machine, INSIDE_IPV4)
    assert podman("stop", "-t", "10", "vpn").returncode == 0
    assert podman("inspect", "vpn", "--format", "{{.State.ExitCode}}").stdout.strip() == "0"


def test_without_its_device_or_its_right_it_says_what_grants_them(reader: Path) -> None:
    """O1"""
    for option, words in (
        ("--device /dev/net/tun", "there is no /dev/net/tun"),
        ("--cap-add NET_ADMIN", "CAP_NET_ADMIN is missing"),
    ):
        done = as_written(reader, RUN.replace(option, "").replace(" -d ", " --rm "))
        assert done.returncode == 11, done.stderr
        assert words in done.stderr
        assert option in done.stderr.replace("`", "")
