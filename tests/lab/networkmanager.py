"""A real NetworkManager with a system bus of its own, on a machine of the lab.

/sys is read-only there, or NetworkManager would wait for udev; its state is in memory. The machine's cables become
connections of NetworkManager's, `base` and `other`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.client import REPOSITORY
from lab.machines import LabError, Machine, wait_for
from lab.network import CLIENT_IPV4, CLIENT_IPV6, GATEWAY_IPV4, GATEWAY_IPV6

SERVICE = "org.freedesktop.NetworkManager.ikeclient"
PROGRAMS = Path(sys.executable).parent
_PATH = f"{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin"
_CONF = """
[main]
plugins=keyfile
dns=default
rc-manager=file
no-auto-default=*
auth-polkit=false
[keyfile]
unmanaged-devices=none
[connectivity]
enabled=false
"""
_SETUP = """
mount -o remount,ro /sys 2>/dev/null || mount -t sysfs -o ro sysfs /sys
mkdir -p /var/lib/NetworkManager /run/dbus /run/NetworkManager /etc/NetworkManager/VPN /etc/dbus-1/system.d
mount -t tmpfs nm /var/lib/NetworkManager
cat > /etc/NetworkManager/NetworkManager.conf
exec dbus-daemon --system --fork --nopidfile
"""


class NetworkManager:
    """NetworkManager on `machine`, with our plugin; `directory` takes its log."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self._log = directory / "networkmanager.log"
        environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
        install = [f"{PROGRAMS}/ikeclient-networkmanager", "--install", "/", "--prefix", "/run/local"]
        machine.run(*install, "--programs", str(PROGRAMS), env={**environment, "PYTHONPATH": str(REPOSITORY)})
        machine.run("sh", "-ec", _SETUP, stdin=_CONF)
        with self._log.open("wb") as log:
            self._daemon = machine.start(
                "NetworkManager",
                "--debug",
                "--log-level=INFO",
                "--log-domains=DEFAULT,VPN:DEBUG",
                stdout=log,
                stderr=log,
                env=environment,
            )
        wait_for(lambda: self.nmcli("general", check=False).returncode == 0, timeout=30, what="NetworkManager")
        self.nmcli("device", "set", "wan", "managed", "yes")
        self.cable("base", "wan", (CLIENT_IPV4, CLIENT_IPV6), (GATEWAY_IPV4, GATEWAY_IPV6))

    @property
    def log(self) -> str:
        """What it said, and our plugin with it."""
        return self._log.read_text("utf-8", "replace")

    @property
    def plugins(self) -> list[int]:
        """The processes of our plugin, services first."""
        found = self.machine.run("pgrep", "-f", "ikeclient-networkmanager --bus-name", check=False)
        return sorted(map(int, found.stdout.split()))

    def nmcli(
        self,
        *arguments: str,
        check: bool = True,
        stdin: str = "",
        timeout: float = 60,
        become: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run nmcli; `become` is a command that runs it as another user."""
        variables = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": "/run/home",
            "PYTHONPATH": str(REPOSITORY),
            **(env or {}),
        }
        done = self.machine.run(*become, "nmcli", *arguments, check=False, stdin=stdin, timeout=timeout, env=variables)
        if check and done.returncode:
            raise LabError(
                f"nmcli {' '.join(arguments)}: exit {done.returncode}: {done.stderr}{done.stdout}\n{self.log}"
            )
        return done

    def cable(self, name: str, device: str, own: tuple[str, str], gateway: tuple[str, str], *options: str) -> None:
        """Make a connection of the cable `device` and bring it up."""
        four = ("ipv4.method", "manual", "ipv4.addresses", f"{own[0]}/24", "ipv4.gateway", gateway[0])
        six = ("ipv6.method", "manual", "ipv6.addresses", f"{own[1]}/64", "ipv6.gateway", gateway[1])
        about = ("type", "ethernet", "ifname", device, "con-name", name, "connection.autoconnect", "no")
        self.nmcli("connection", "add", *about, *four, *six, *options)
        self.nmcli("-w", "30", "connection", "up", name)

    def field(self, connection: str, name: str) -> str:
        """One field of a connection."""
        done = self.nmcli("-g", name, "connection", "show", connection, check=False)
        return done.stdout.strip()

    def state(self, connection: str) -> str:
        """`activated`, or empty if it is not active."""
        return self.field(connection, "GENERAL.STATE")
