"""An ordinary user of the client machine: user 1000, no capability, no way to get one, and ikeclient all the same."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from lab.client import REPOSITORY, Tables, toml
from lab.gateway import PSK
from lab.machines import Machine, wait_for
from lab.world import Lab

UID = 1000
HOME = f"/run/user/{UID}"
ORDINARY = (
    "setpriv",
    f"--reuid={UID}",
    f"--regid={UID}",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--pdeathsig=KILL",
)


class Person:
    """User 1000 of the lab's client machine, with a home below the machine's own /run and a profile `work`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.machine: Machine = lab.network.client
        give_tun(self.machine)
        self.machine.run("sh", "-ec", f"mkdir -p {HOME}/config/ikeclient/profiles; chmod 700 {HOME}")
        self.machine.write_file(f"{HOME}/psk", PSK)
        self.machine.run("chmod", "600", f"{HOME}/psk")
        self.write_profile()

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of every command."""
        folders = {"HOME": HOME, "XDG_CONFIG_HOME": f"{HOME}/config", "XDG_RUNTIME_DIR": HOME}
        return {**folders, "PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONPATH": str(REPOSITORY), "LANG": "C.UTF-8"}

    def write_profile(self, overrides: Tables | None = None, *, name: str = "work") -> None:
        """Write the profile for the gateway's offer, with more keys table by table; None removes a key."""
        tables = self.lab.client.profile_tables(self.lab.gateway)
        if "psk" in tables["auth"]:
            tables["auth"]["psk"] = {"file": f"{HOME}/psk"}
        for table, keys in (overrides or {}).items():
            merged = {**tables.get(table, {}), **keys}
            tables[table] = {key: value for key, value in merged.items() if value is not None}
        self.machine.write_file(f"{HOME}/config/ikeclient/profiles/{name}.toml", toml(tables))
        self.machine.run("chown", "-R", f"{UID}:{UID}", HOME)

    def command(self, *argv: str, prefix: Sequence[str] = ()) -> tuple[str, ...]:
        """An ikeclient command as this user gives it, for the machine to run; `prefix` runs as the user, too."""
        return (*ORDINARY, *prefix, sys.executable, "-m", "ikeclient", *argv)

    def run(
        self, *argv: str, prefix: Sequence[str] = (), stdin: str = "", timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run an ikeclient command to its end."""
        command = self.command(*argv, prefix=prefix)
        return self.machine.run(*command, check=False, env=self.environment, stdin=stdin, timeout=timeout)

    def start(
        self, *argv: str, stdin: int | IO[Any] = subprocess.DEVNULL, prefix: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start an ikeclient command."""
        command = self.command(*argv, prefix=prefix)
        pipe = subprocess.PIPE
        return self.machine.start(*command, stdin=stdin, stdout=pipe, stderr=pipe, env=self.environment)

    @property
    def ordinary(self) -> tuple[str, ...]:
        """What makes a command of the machine one of this user."""
        return ORDINARY

    @property
    def program(self) -> str:
        """The beginning of every ikeclient command, for a shell."""
        return f"{sys.executable} -m ikeclient"

    def start_python(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a Python program of this user, outside every tunnel."""
        command = (*ORDINARY, sys.executable, "-c", program, *arguments)
        return self.machine.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment)

    def inside(self, script: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """`ikeclient exec work` with a line of shell."""
        return self.run("exec", "work", "--", "sh", "-c", script, "sh", *arguments, timeout=timeout)

    def status(self) -> dict[str, Any] | None:
        """The tunnel that runs."""
        tunnels = json.loads(self.run("status", "--json").stdout)["tunnels"]
        return tunnels[0] if tunnels else None

    def wait_state(self, state: str) -> dict[str, Any]:
        """Poll until the tunnel is in that state."""

        def there() -> dict[str, Any] | None:
            status = self.status()
            return status if status and status["state"] == state else None

        return wait_for(there, timeout=30, what=f"{state}, not {self.status()}", interval=0.4)

    def wait_file(self, name: str) -> str:
        """The content of a file in the home when it is there and not empty."""
        path = shlex.quote(f"{HOME}/{name}")
        return wait_for(
            lambda: self.machine.run("sh", "-c", f"cat {path}", check=False).stdout, timeout=30, what=name, interval=0.1
        )


def give_tun(machine: Machine, mode: str = "666") -> None:
    """A device node for everybody in this machine alone; the host's stays as it is."""
    machine.hide("/dev/net")
    machine.run("mknod", "-m", mode, "/dev/net/tun", "c", "10", "200")
