"""Container engines beside a machine of the lab: podman started by root, podman of an ordinary user, and docker.

Each has a directory that a reader of docs/containers.md has made, in which `docker` is the engine with what a machine
like this one needs besides.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.machines import LabError, wait_for
from lab.network import INTERNET_DNS

IMAGE = "localhost/ikeclient"
USER = 12345
# Shares the network of the tunnel's container. The image has no curl, and this machine may have no other image.
CURL = f"""FROM {IMAGE}
ENTRYPOINT ["python3", "-c", "import sys, urllib.request as page; print(end=page.urlopen(sys.argv[1]).read().decode())"]
"""
_PROGRAM = """#!/bin/sh
first=$1; shift
case " $* " in
*" --network "*) exec {words} "$first" {options} "$@" ;;
*) exec {words} "$first" {options} {network} "$@" ;;
esac
"""
# crun wants the second version of control groups alone, which not every machine has there.
_GROUPS = "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 lab /sys/fs/cgroup"
# As on ordinary distributions: a TUN device that everybody may open.
_TUN = "mount -t tmpfs lab /dev/net; mknod -m 666 /dev/net/tun c 10 200"
_AS_ROOT = f'{_GROUPS}; {_TUN}; exec podman "$@"'
_AS_USER = f"""
{_GROUPS}
{_TUN}
mount --make-rshared /
mount -t overlay -o "lowerdir=$2/etc:/etc" overlay /etc
home=$2 netns=$1; shift 2
exec nsenter --net="$netns" setpriv --reuid {USER} --regid {USER} --clear-groups \\
    env -i HOME="$home" XDG_RUNTIME_DIR="$home/run" PATH=/usr/sbin:/usr/bin:/sbin:/bin podman "$@"
"""
_ODD = os.environ.get("RUN_OPTIONS", "--cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine with the image."""

    name: str
    words: Sequence[str]  # what its arguments follow
    directory: Path  # of the reader
    network: str  # what joins a container to the machine's network
    options: str = _ODD
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=self.directory,
            env={**os.environ, **self.environment},
        )

    def must(self, *words: str, stdin: str = "") -> str:
        """Its output; LabError with what it said if it fails."""
        done = self(*words, stdin=stdin)
        if done.returncode:
            raise LabError(f"{self.name} {words[0]}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def as_written(self, line: str) -> subprocess.CompletedProcess[str]:
        """A line of the page, typed in the reader's directory."""
        program = self.directory / "bin/docker"
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            _PROGRAM.format(
                words=shlex.join(self.words), options=self.options, network=f"{self.network} --dns {INTERNET_DNS}"
            )
        )
        program.chmod(0o755)
        path = f"{program.parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", line],
            cwd=self.directory,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def prepare(self) -> None:
        """Make the image that shares the tunnel's network, under the name that the page has for it."""
        name = "curlimages/curl" if self.name == "docker" else "localhost/curlimages/curl"
        isolation = () if self.name == "docker" else ("--isolation", "chroot")
        self.must("build", *isolation, "-q", "-t", name, "-", stdin=CURL)


def podman(directory: Path, netns: Path) -> Engine:
    """Podman started by root."""
    words = ("unshare", "-m", "sh", "-ec", _AS_ROOT, "podman")
    return Engine(name="podman", words=words, directory=directory, network=f"--network ns:{netns}")


@contextmanager
def rootless(directory: Path, netns: Path, archive: Path) -> Iterator[Engine]:
    """Podman of an ordinary user, whom nothing but this engine knows."""
    etc = directory / "etc"
    etc.mkdir()
    for name, line in (
        ("passwd", f"reader:x:{USER}:{USER}::{directory}:/bin/sh"),
        ("group", f"reader:x:{USER}:"),
        ("subuid", "reader:200000:65536"),
        ("subgid", "reader:200000:65536"),
    ):
        own = Path("/etc", name)
        (etc / name).write_text((own.read_text() if name in ("passwd", "group") else "") + f"{line}\n")
    (directory / "run").mkdir(mode=0o700)
    for path in (directory, *directory.rglob("*")):  # who has a profile may read the files that it names
        os.chown(path, USER, USER)
    words = ("unshare", "-m", "sh", "-ec", _AS_USER, "podman", str(netns), str(directory))
    engine = Engine(name="rootless podman", words=words, directory=directory, network="")
    try:
        engine.must("load", "-q", "-i", str(archive))
        yield engine
    finally:
        engine("rm", "-f", "-t", "5", "vpn")
        engine("system", "reset", "-f")  # the files of its containers are of users whom only it can be
        engine("system", "migrate")  # ends the process that keeps its namespaces


@contextmanager
def docker(directory: Path, netns: Path, archive: Path) -> Iterator[Engine]:
    """docker with a daemon of its own in the machine's network, as it is by default."""
    state = directory / "state"
    state.mkdir()
    (state / "daemon.json").write_text(json.dumps({"dns": [INTERNET_DNS]}))
    socket = state / "socket"
    places = ("--data-root", state / "data", "--exec-root", state / "exec", "--pidfile", state / "pid")
    options = (
        "--config-file",
        state / "daemon.json",
        "--storage-driver",
        "vfs",
        "-H",
        f"unix://{socket}",
        "-G",
        "root",
    )
    with (state / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [str(word) for word in ("nsenter", f"--net={netns}", "dockerd", *places, *options)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    words = (str(shutil.which("docker")), "-H", f"unix://{socket}")
    plain = {"DOCKER_BUILDKIT": "0"}  # the builder that needs no plugin
    engine = Engine(name="docker", words=words, directory=directory, network="", options="", environment=plain)
    try:
        wait_for(lambda: engine("version").returncode == 0, timeout=60, what="dockerd", interval=0.5)
        engine.must("load", "-q", "-i", str(archive))
        engine.must("tag", IMAGE, "ikeclient")
        yield engine
    finally:
        engine("rm", "-f", "vpn")
        daemon.terminate()
        daemon.wait(60)
