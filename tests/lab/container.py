"""A container as a process sees one: its user, its capabilities, a read-only file system, a /run and a TUN node.

No container engine is needed for that: a mount namespace and setpriv(1) give a process just what an engine would. The
network is that of a lab machine, which stands for the network namespace that the containers of a pod share.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.client import REPOSITORY, Client, Connection
from lab.gateway import Gateway
from lab.machines import host_run

PYTHON = "/usr/bin/python3" if Path(sys.executable).resolve().is_relative_to("/usr/bin") else sys.executable
HOME = "/run/home"  # in the container
STATE = "/run/ikeclient"
NET_ADMIN, NOTHING = f"{1 << 12:016x}", f"{0:016x}"  # sets of capabilities as /proc shows them

# The last mounts are those of `--read-only --tmpfs /run`; the sources may lie below a home that nobody can enter.
_SETUP = """
mkdir -p /run/app/repository /run/app/site
mount --bind "$REPOSITORY" /run/app/repository
mount --bind "$SITE" /run/app/site
mount -t tmpfs -o mode=755 lab /dev/net
if [ "$NODE" != none ]; then mknod /dev/net/tun c 10 200; chmod "$NODE" /dev/net/tun; fi
if [ "$READ_ONLY" = yes ]; then
  mount -o remount,bind,ro /etc
  mount --bind /tmp /tmp && mount -o remount,bind,ro /tmp
  mount --make-private / && mount -o remount,bind,ro /
fi
cd /run
exec setpriv "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """How a process is confined: what `docker run` is told by --user, --cap-add, --device and --read-only.

    `node` is the mode of /dev/net/tun in octal digits, or "none".
    """

    client: Client
    user: int = 0
    capabilities: tuple[str, ...] = ("net_admin",)
    read_only: bool = True
    node: str = "666"

    def __post_init__(self) -> None:
        for directory in (HOME, STATE):
            self.client.machine.run("install", "-d", "-m", "700", "-o", str(self.user), "-g", str(self.user), directory)

    def profile(self, gateway: Gateway, overrides: dict[str, dict[str, Any]] | None = None) -> str:
        """Put the profile for the gateway's offer and the files it names where the container's user can read them."""
        tables = self.client.profile_tables(gateway)
        secret = Path(tables["auth"]["password"]["file"]).read_text()
        authority = Path(tables["gateway"]["ca"][0]).read_text()
        merged = {"gateway": {"ca": ["ca.pem"]}, "auth": {"password": {"file": "password"}}, **(overrides or {})}
        text = self.client.write_profile(gateway, merged).read_text()
        for name, content in (("work.toml", text), ("ca.pem", authority), ("password", secret)):
            path = f"{HOME}/{name}"
            self.client.machine.write_file(path, content)
            self.client.machine.run("chmod", "400", path)
            self.client.machine.run("chown", str(self.user), path)
        return f"{HOME}/work.toml"

    @property
    def environment(self) -> dict[str, str]:
        """What the image and the engine set, and what the set-up above needs."""
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "IKECLIENT_LOG_FORMAT": "text",
            "IKECLIENT_RUNTIME_DIR": STATE,
            "PYTHONPATH": "/run/app/repository:/run/app/site",
            "PYTHONDONTWRITEBYTECODE": "1",
            "REPOSITORY": str(REPOSITORY),
            "SITE": sysconfig.get_paths()["purelib"],
            "NODE": self.node,
            "READ_ONLY": "yes" if self.read_only else "no",
        }

    def command(self, *words: str) -> list[str]:
        """`ikeclient WORDS` in the container, to be run in the client's machine."""
        mine = [f"+{name}" for name in self.capabilities]
        identity = ["--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"] if self.user else []
        rights = ["--bounding-set", ",".join(["-all", *mine]), "--inh-caps", ",".join(["-all", *mine])]
        if self.user:  # what engines give an ordinary user only with ambient capabilities
            rights += ["--ambient-caps", ",".join(["-all", *mine])]
        program = [*identity, *rights, "--", PYTHON, "-m", "ikeclient", *words]
        return ["unshare", "-m", "sh", "-ec", _SETUP, "container", *program]

    def start(self, *words: str, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> Connection:
        """Start `ikeclient connect` in the container."""
        output = self.client.directory / f"container{len(self.client.connections)}"
        command = [*prefix, *self.command("connect", *words)]
        with output.with_suffix(".stdout").open("wb") as stdout, output.with_suffix(".stderr").open("wb") as stderr:
            environment = {**self.environment, **(env or {})}
            process = self.client.machine.start(*command, stdout=stdout, stderr=stderr, env=environment)
        connection = Connection(self.client, Path(words[0]).stem, process, output)
        self.client.connections.append(connection)
        return connection

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the container, as `docker exec` and a health check do."""
        return self.client.machine.run(*self.command(*words), check=False, env=self.environment, timeout=60)


def own_device(client: Client, name: str, user: int) -> None:
    """Make a TUN device for a user, as an administrator does."""
    client.machine.run("ip", "tuntap", "add", name, "mode", "tun", "user", str(user))


def reachable_by_others() -> bool:
    """Whether an ordinary user may run the interpreter of the tests."""
    check = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--", PYTHON, "-c", "")
    return os.geteuid() == 0 and host_run(*check, check=False).returncode == 0
