"""The image, run by container engines with the words of docs/containers.md.

It carries a tunnel to a real gateway, its health check is asked, and a second container shares its network: under
podman started by root, podman of an ordinary user, and docker with its default filter of system calls. The image is the
one that podman has: `scripts/container-check` builds it, `scripts/packages/check` takes that of a release.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, blocks
from lab import engines
from lab.bookshelf import AUTHORITY, REPORT, Bookshelf
from lab.engines import Engine
from lab.gateway import PASSWORD
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.pki import Pki
from lab.traffic import carries
from lab.world import Lab

PAGE = {(block.section, block.language): block for block in blocks(ROOT / "docs/containers.md")}
RUN, SHARE = PAGE["docker and podman", "sh"].text.replace("\\\n", " ").splitlines()
PROFILE = PAGE["The profile", "toml"]
PAGE_INSIDE = SHARE.split()[-1]
PROGRAMS = {"podman": (), "rootless": ("newuidmap", "slirp4netns", "setpriv"), "docker": ("dockerd", "docker")}


def _has_image() -> bool:
    known = ("podman", "image", "exists", engines.IMAGE)
    return shutil.which("podman") is not None and subprocess.run(known, check=False, timeout=60).returncode == 0


pytestmark = [
    pytest.mark.extended,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not _has_image(), reason="no podman, or no image yet: scripts/container-check builds it"),
]


@pytest.fixture(scope="module")
def archive() -> Iterator[Path]:
    """The image as a file, for other engines than the one that has it."""
    with tempfile.TemporaryDirectory(prefix="ikeclient-image-") as directory:
        Path(directory).chmod(0o755)
        file = Path(directory, "image.tar")
        words = ("podman", "save", "-q", "--format", "docker-archive", "-o", str(file), engines.IMAGE)
        subprocess.run(words, check=True, timeout=240)
        file.chmod(0o644)
        yield file


@pytest.fixture
def directory(lab: Lab, pki: Pki) -> Iterator[Path]:
    """What the page's reader has made: the profile, and the secret beside it. Everybody may go there."""
    shelf = Bookshelf(pki=pki)
    lab.gateway.serve(shelf.offer)
    (lab.servers.files / "index.html").write_text(REPORT)
    with tempfile.TemporaryDirectory(prefix="ikeclient-engine-") as place:
        directory = Path(place)
        directory.chmod(0o755)
        (directory / "profiles").mkdir()
        (directory / PROFILE.how).write_text(PROFILE.text)
        (directory / "profiles" / AUTHORITY).write_text(shelf.authority)
        (directory / "vpn-password").write_text(PASSWORD)
        yield directory


@pytest.fixture
def podman(lab: Lab, directory: Path) -> Iterator[Engine]:
    engine = engines.podman(directory, Path("/run/netns", lab.network.client.name))
    engine.prepare()
    yield engine
    engine("rm", "-f", "-t", "5", "vpn")


@pytest.fixture
def docker(lab: Lab, directory: Path, archive: Path) -> Iterator[Engine]:
    with engines.docker(directory, Path("/run/netns", lab.network.client.name), archive) as engine:
        engine.prepare()
        yield engine


@pytest.fixture(params=PROGRAMS)
def engine(request: pytest.FixtureRequest, lab: Lab, directory: Path, archive: Path) -> Iterator[Engine]:
    """Each of them, with the image of `podman`."""
    missing = [name for name in PROGRAMS[request.param] if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here")
    if request.param != "rootless":
        yield request.getfixturevalue(request.param)
        return
    with engines.rootless(directory, Path("/run/netns", lab.network.client.name), archive) as engine:
        engine.prepare()
        yield engine


def connect(engine: Engine, line: str) -> None:
    """Start the tunnel's container with a line of the page, and wait for the tunnel."""
    started = engine.as_written(line)
    assert started.returncode == 0, started.stderr

    def connected() -> bool:
        return "connected in" in engine("logs", "vpn").stderr

    wait_for(connected, timeout=40, what="the tunnel", interval=0.5)


def healthy(engine: Engine) -> None:
    """Ask the health check: podman has to be told when, docker looks by itself."""
    if engine.name != "docker":
        engine.must("healthcheck", "run", "vpn")
        return
    state = ("inspect", "vpn", "--format", "{{.State.Health.Status}}")
    wait_for(lambda: engine.must(*state) == "healthy\n", timeout=30, what="docker's health check", interval=0.5)


def ends_well(engine: Engine) -> None:
    """SIGTERM, by the engine's own word for it."""
    engine.must("stop", "-t", "10", "vpn")
    assert engine.must("inspect", "vpn", "--format", "{{.State.ExitCode}}").strip() == "0"


def test_the_image_carries_a_tunnel_and_is_healthy(lab: Lab, engine: Engine) -> None:
    """The commands of the page, one after the other; then SIGTERM, after which the network is as before."""
    before = lab.client.traces()
    connect(engine, RUN)
    healthy(engine)
    assert engine.must("exec", "vpn", "ikeclient", "status", "--check", "up", "-f", "state") == "connected\n"
    shared = engine.as_written(SHARE)
    assert shared.stdout == REPORT, shared.stderr
    lab.gateway.kill()
    ends_well(engine)
    if engine.name != "docker":  # whose bridge only comes up with its first container
        assert lab.client.traces() == before


def test_podman_gives_the_images_own_user_the_capability(lab: Lab, podman: Engine) -> None:
    """Without `--user 0` nothing runs as root, with no new privileges, and the tunnel is healthy all the same."""
    connect(podman, RUN.replace("--user 0 ", "--read-only "))
    healthy(podman)
    assert podman.must("exec", "vpn", "ikeclient", "status", "-f", "user").split() == ["ikeclient"]
    pid = podman.must("inspect", "vpn", "--format", "{{.State.Pid}}").strip()
    assert re.search(r"^Uid:\s+7400\s+7400\s+7400\s+7400$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    carries(lab.client.machine, INSIDE_IPV4)
    ends_well(podman)


def test_without_its_device_or_its_right_it_says_what_grants_them(engine: Engine) -> None:
    """O1"""
    for option, words in (
        ("--device /dev/net/tun", "there is no /dev/net/tun"),
        ("--cap-add NET_ADMIN", "CAP_NET_ADMIN is missing"),
    ):
        done = engine.as_written(RUN.replace(option, "").replace(" -d ", " --rm "))
        assert done.returncode == 11, done.stderr
        assert words in done.stderr
        assert option in done.stderr.replace("`", "")


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose here")
def test_the_compose_file_starts_the_application_once_the_tunnel_is_up(docker: Engine) -> None:
    """As docs/compose has it; the application fetches a page from behind the tunnel, at once and only once."""
    docker.must("build", "-q", "-t", "example/app", "-", stdin=f'FROM curlimages/curl\nCMD ["{PAGE_INSIDE}"]\n')
    shutil.copy(ROOT / "docs/compose/compose.yaml", docker.directory)
    compose = ("docker-compose", *docker.words[1:], "-p", "lab")
    up = subprocess.run(
        (*compose, "up", "-d"), cwd=docker.directory, capture_output=True, text=True, timeout=120, check=False
    )
    try:
        assert up.returncode == 0, up.stderr
        assert docker.must("wait", "lab_app_1") == "0\n", docker("logs", "lab_app_1").stderr
        assert docker.must("logs", "lab_app_1") == REPORT
    finally:
        subprocess.run(
            (*compose, "down", "-t", "5"), cwd=docker.directory, capture_output=True, timeout=60, check=False
        )
