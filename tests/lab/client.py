"""ikeclient as a person runs it: a process in the client machine, with files, signals and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from lab.gateway import PASSWORD, PSK, USER, Gateway
from lab.machines import LabError, Machine, stat_fields, wait_for
from lab.network import GATEWAY_IPV4

REPOSITORY = Path(__file__).resolve().parents[2]
WITHOUT_RIGHTS = (
    "setpriv",
    "--bounding-set",
    "-net_admin,-net_raw",
    "--inh-caps",
    "-all",
)  # root, but not for networks
Tables: TypeAlias = "Mapping[str, Mapping[str, Any]]"


def toml(tables: Tables) -> str:
    """The profile's tables as TOML; a mapping inside a table becomes an inline table."""
    blocks = (
        f"[{name}]\n" + "".join(f"{key} = {_toml_value(value)}\n" for key, value in keys.items())
        for name, keys in tables.items()
    )
    return "version = 1\n\n" + "\n".join(blocks)


def _toml_value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return json.dumps(value)
        case Mapping():
            return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {value!r}")


class Connection:
    """One running `ikeclient connect` in the foreground."""

    def __init__(self, client: Client, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self._client = client
        self._output = output
        self.name = name
        self.process = process

    @property
    def stdout(self) -> str:
        """What it wrote to standard output so far."""
        return self._output.with_suffix(".stdout").read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to standard error so far."""
        return self._output.with_suffix(".stderr").read_text("utf-8", "replace")

    def wait_connected(self, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until the tunnel is up and return its status; `LabError` with the process's words when it ends first."""
        wait_for(self._seems_connected, timeout=timeout, what=f"the tunnel\n{self.stderr}")
        return wait_for(self._connected_status, timeout=5, what=f"status to say connected\n{self.stderr}")

    def _seems_connected(self) -> bool:
        if self.process.poll() is not None:
            raise LabError(f"ikeclient ended with exit code {self.process.returncode}\n{self.stderr}{self.stdout}")
        return "connected" in self.stderr.lower()

    def _connected_status(self) -> dict[str, Any] | None:
        status = self._client.status(self.name)
        return status if status and status["state"] == "connected" else None

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end and return the exit code, 128 + n for a death by signal n as a shell says it."""
        code = self.process.wait(timeout=timeout)
        return code if code >= 0 else 128 - code

    def interrupt(self, timeout: float = 15.0) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait(timeout)

    def terminate(self, timeout: float = 15.0) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """Send SIGKILL: no chance to clean up."""
        self.process.kill()
        self.process.wait(timeout=10)


class Client:
    """ikeclient in `machine`, with its home, profiles and secrets below `directory`."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.directory = directory
        self.profiles = directory / "config" / "ikeclient" / "profiles"
        self.profiles.mkdir(parents=True)
        self.connections: list[Connection] = []

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of every command: nothing comes from the host's."""
        path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        folders = {"HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory / "config")}
        return {
            **folders,
            "PATH": path,
            "PYTHONPATH": str(REPOSITORY),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "IKECLIENT_LOG_FORMAT": "text",
        }

    def secret_file(self, name: str, content: str) -> Path:
        """Write a file that only its owner can read, and return its path."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(content)
        return path

    def profile_tables(self, gateway: Gateway) -> dict[str, dict[str, Any]]:
        """The profile that fits the gateway's present offer, as tables."""
        offer = gateway.offer
        tables: dict[str, dict[str, Any]] = {"gateway": {"address": GATEWAY_IPV4, "identity": offer.gateway_identity}}
        auth: dict[str, Any] = {"method": offer.auth, "identity": offer.client_identity}
        if offer.auth != "psk":
            tables["gateway"]["ca"] = [str(gateway.certificate(offer).authority_file)]
        match offer.auth:
            case "psk":
                auth["psk"] = {"file": str(self.secret_file("psk", PSK))}
            case "certificate" | "eap-tls":
                credential = gateway.client_certificate(offer)
                auth |= {"certificate": str(credential.chain_file), "key": str(credential.key_file)}
            case _:
                auth |= {"user": USER, "password": {"file": str(self.secret_file("password", PASSWORD))}}
        return {**tables, "auth": auth}

    def write_profile(self, gateway: Gateway, overrides: Tables | None = None, *, name: str = "work") -> Path:
        """Write the profile for the gateway's offer with `overrides` merged in table by table; None removes a key."""
        tables = self.profile_tables(gateway)
        for table, keys in (overrides or {}).items():
            merged = {**tables.get(table, {}), **keys}
            tables[table] = {key: value for key, value in merged.items() if value is not None}
        path = self.profiles / f"{name}.toml"
        path.write_text(toml(tables))
        return path

    def start(
        self, profile: str = "work", *options: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> Connection:
        """Start `ikeclient connect` in the foreground; `prefix` is a command that runs it, such as WITHOUT_RIGHTS."""
        output = self.directory / f"connect{len(self.connections)}"
        command = (*prefix, sys.executable, "-m", "ikeclient", "connect", profile, *options)
        with output.with_suffix(".stdout").open("wb") as stdout, output.with_suffix(".stderr").open("wb") as stderr:
            environment = {**self.environment, **(env or {})}
            process = self.machine.start(*command, stdout=stdout, stderr=stderr, env=environment)
        connection = Connection(self, Path(profile).stem, process, output)
        self.connections.append(connection)
        return connection

    def connect(self, profile: str = "work", *options: str, timeout: float = 30.0) -> Connection:
        """Start `ikeclient connect` and wait until the tunnel is up."""
        connection = self.start(profile, *options)
        connection.wait_connected(timeout)
        return connection

    def run(
        self, *arguments: str, timeout: float = 60.0, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run any `ikeclient` command to its end; its exit code is for the test to judge."""
        environment = {**self.environment, **(env or {})}
        command = (sys.executable, "-m", "ikeclient", *arguments)
        return self.machine.run(*command, check=False, timeout=timeout, env=environment, stdin=stdin)

    def status(self, name: str | None = None) -> dict[str, Any] | None:
        """The tunnel of that name, or the only one, from `status --json`; None when it does not run."""
        done = self.run("status", "--json")
        if done.returncode not in (0, 3, 8):
            raise LabError(f"ikeclient status: exit {done.returncode}\n{done.stderr}")
        tunnels = json.loads(done.stdout)["tunnels"] if done.stdout.strip() else []
        return next((tunnel for tunnel in tunnels if name in (None, tunnel["name"])), None)

    def disconnect(self, name: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `ikeclient disconnect` and wait for the process of a tunnel we started to be gone."""
        done = self.run("disconnect", *([name] if name else []))
        for connection in self.connections:
            if name in (None, connection.name) and done.returncode == 0:
                connection.wait(15)
        return done

    def wait_state(self, state: str, *, timeout: float = 30.0, name: str | None = None) -> dict[str, Any]:
        """Poll until `status` shows that state and return the status."""
        deadline = time.monotonic() + timeout
        while not ((status := self.status(name)) and status["state"] == state):
            if time.monotonic() > deadline:
                raise LabError(f"waited {timeout} s in vain for {state}, last {status}")
            time.sleep(0.1)
        return status

    def wait_moved(self, address: str, *, timeout: float = 30.0) -> dict[str, Any]:
        """Poll until the tunnel is connected from that address of ours and return its status."""

        def there() -> dict[str, Any] | None:
            status = self.status()
            here = status and status["state"] == "connected" and status["local"]["address"] == address
            return status if here else None

        return wait_for(there, timeout=timeout, what=f"the way to {address}", interval=0.1)

    def traces(self) -> dict[str, list[str]]:
        """What a tunnel may have left on the machine: compare before and after."""
        commands = {
            "links": ("ip", "-o", "link"),
            "addresses": ("ip", "-o", "address"),
            "rules": ("ip", "rule"),
            "rules6": ("ip", "-6", "rule"),
            "routes": ("ip", "route", "show", "table", "all"),
            "routes6": ("ip", "-6", "route", "show", "table", "all"),
            "firewall": ("nft", "list", "ruleset"),
            "resolver": ("cat", "/etc/resolv.conf"),
        }
        return {name: self.machine.run(*command).stdout.splitlines() for name, command in commands.items()}


def environment_of(pid: int) -> str:
    """The environment of a running process as `/proc` shows it."""
    return Path(f"/proc/{pid}/environ").read_bytes().replace(b"\0", b"\n").decode("utf-8", "replace")


def command_line_of(pid: int) -> str:
    """The command line of a process as `ps` shows it; empty when it has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return ""
    return words.replace(b"\0", b" ").decode("utf-8", "replace")


def core_limit_of(pid: int) -> str:
    """The limit on core dumps of a running process, from `/proc`."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core"))


@dataclass(frozen=True)
class Cpu:
    """Seconds that a process has used so far."""

    total: float
    kernel: float  # of them

    @classmethod
    def of(cls, pid: int) -> Cpu:
        """Of a running process."""
        fields = stat_fields(pid)
        user, kernel = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields[11:13])
        return cls(user + kernel, kernel)
