"""strongSwan's daemon as an object: one charon in one machine, configured from dictionaries.

charon runs in the foreground with its own configuration, log and control socket in a directory of ours; nothing of the
host's strongSwan is read. ESP is done by its kernel-libipsec plugin in userspace, so no kernel support is needed, and
every ESP packet is encapsulated in UDP.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, cast

from lab.machines import LabError, Machine, wait_for
from lab.pki import Credential
from lab.vici import Tree, Vici, ViciError

PROGRAM = "/usr/lib/ipsec/charon"
PLUGINS = (
    "random nonce aes sha1 sha2 hmac kdf md5 pem pkcs1 pkcs8 pubkey x509 revocation constraints openssl curve25519 gcm "
    "chapoly mgf1 gmp kernel-libipsec kernel-netlink socket-default vici counters eap-identity eap-mschapv2 eap-md5 "
    "eap-tls eap-ttls eap-gtc xauth-generic updown attr"
)
Value: TypeAlias = "str | int | float | bool | Iterable[str] | Conf"
Conf: TypeAlias = "Mapping[str, Value]"


def render(conf: Conf, depth: int = 0) -> str:
    """A dictionary as strongSwan's settings: nested mappings become sections, sequences are joined with commas."""
    lines: list[str] = []
    indent = "  " * depth
    for key, value in conf.items():
        match value:
            case Mapping():
                lines.append(f"{indent}{key} {{\n{render(cast('Conf', value), depth + 1)}{indent}}}\n")
            case bool():
                lines.append(f"{indent}{key} = {'yes' if value else 'no'}\n")
            case str() | int() | float():
                lines.append(f"{indent}{key} = {value}\n")
            case _:
                lines.append(f"{indent}{key} = {','.join(value)}\n")
    return "".join(lines)


class Charon:
    """A charon in `machine` with its files in `directory`. `log`, `vici` and the methods work while it runs."""

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.directory = directory
        self.vici = Vici(directory / "vici")
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, Value] = {}
        self._starts = 0

    @property
    def pid(self) -> int | None:
        """The process id of the running daemon."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def log(self) -> str:
        """What charon logged since it was first started."""
        parts = (self.directory / f"log{number}" for number in range(1, self._starts + 1))
        return "".join(path.read_text("utf-8", "replace") for path in parts if path.exists())

    def start(self, settings: Conf | None = None) -> None:
        """Start the daemon with `settings` added to its section of strongswan.conf and wait until it takes commands."""
        if self.pid:
            raise LabError("charon already runs")
        self._starts += 1
        self._settings = dict(settings or {})
        (self.directory / "vici").unlink(missing_ok=True)
        (self.directory / "strongswan.conf").write_text(render(self._strongswan_conf()))
        with (self.directory / "output").open("ab") as output:
            environment = {
                "STRONGSWAN_CONF": str(self.directory / "strongswan.conf"),
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            }
            command = self._launch(environment)
            self._process = self.machine.start(*command, stdout=output, stderr=output, env=environment)
        wait_for(self._ready, timeout=10, what="charon's control socket")

    def _launch(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """The command that starts the daemon."""
        return (PROGRAM, "--use-syslog", "no")

    def _ready(self) -> bool:
        if not self.pid:
            raise LabError(f"charon ended: {(self.directory / 'output').read_text()}{self.log}")
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return "version" in self.vici.request("version")
        return False

    def _strongswan_conf(self) -> Conf:
        own = dict(self._settings)
        plugins: Conf = {
            "kernel-libipsec": {"allow_peer_ts": True},
            "eap-gtc": {"backend": "generic"},  # passwords from the secrets, not from PAM
            "vici": {"socket": f"unix://{self.directory}/vici"},
            **cast("Conf", own.pop("plugins", {})),
        }
        log: Conf = {"f": {"path": f"{self.directory}/log{self._starts}", "default": 1, "flush_line": True}}
        charon: Conf = {"load": PLUGINS, "plugins": plugins, "filelog": log, **own}
        return {"charon": charon, "swanctl": {"load": "pem pkcs1 pkcs8 x509 openssl"}}

    def load(self, conf: Conf, credentials: Iterable[Credential] = ()) -> None:
        """Replace connections, pools, secrets and certificates by those of `conf` (the content of a swanctl.conf)."""
        for name in ("x509", "x509ca", "private"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
            (self.directory / name).mkdir()
        for credential in credentials:
            shutil.copy(credential.certificate_file, self.directory / "x509")
            shutil.copy(credential.key_file, self.directory / "private")
            for path in (credential.authority_file, *credential.intermediates):
                shutil.copy(path, self.directory / "x509ca")
        (self.directory / "swanctl.conf").write_text(render(conf))
        self.swanctl("--load-all", "--clear", "--file", f"{self.directory}/swanctl.conf")

    def swanctl(self, *arguments: str) -> str:
        """Run `swanctl` against this daemon; `LabError` with its output when it fails."""
        files = {"SWANCTL_DIR": str(self.directory), "STRONGSWAN_CONF": str(self.directory / "strongswan.conf")}
        environment = {**files, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return self.machine.run("swanctl", *arguments, "--uri", f"unix://{self.directory}/vici", env=environment).stdout

    def list_sas(self) -> list[Tree]:
        """The IKE SAs as charon reports them, each with its `name` and its `child-sas` as a list of the same shape."""
        found: list[Tree] = []
        for event in self.vici.stream("list-sas", "list-sa"):
            for name, sa in event.items():
                assert isinstance(sa, dict)
                children = sa.get("child-sas", {})
                assert isinstance(children, dict)
                found.append({**sa, "name": name, "child-sas": children})
        return found

    def children(self) -> list[dict[str, str | list[str] | Tree]]:
        """The CHILD SAs of every IKE SA."""
        sas = (cast("Tree", sa["child-sas"]) for sa in self.list_sas())
        return [cast("Tree", child) for children in sas for child in children.values()]

    def counters(self) -> dict[str, int]:
        """How many IKE messages and rekeyings of each kind were seen (`ike-init-in-req`, `invalid-spi`, ...)."""
        answer = cast("Tree", self.vici.request("get-counters")["counters"])
        return {name: int(cast("str", value)) for name, value in cast("Tree", answer[""]).items()}

    def terminate(self, **what: str) -> None:
        """Close an SA with DELETE: `ike="rw"`, `child="net"`, `ike_id="1"`, `child_id="2"`; default all IKE SAs."""
        selected = what or {"ike": str(self.list_sas()[0]["name"])}
        self.vici.stream("terminate", "control-log", _dashes(selected))

    def rekey(self, **what: str) -> None:
        """Start a rekeying from this side: `ike="rw"` or `child="net"`."""
        self.vici.request("rekey", _dashes(what))

    def initiate(self, child: str, *, timeout: float = 20.0) -> None:
        """Set up `child` and everything it needs; `LabError` with charon's log when that fails."""
        try:
            self.vici.stream("initiate", "control-log", {"child": child, "timeout": str(int(timeout * 1000))})
        except ViciError as error:
            raise LabError(f"{error}\n{self.log}") from error

    def wait_for_log(self, pattern: str, *, timeout: float = 10.0) -> re.Match[str]:
        """Wait until a line of the log matches the regular expression."""
        return wait_for(lambda: re.search(pattern, self.log), timeout=timeout, what=f"{pattern!r} in the log")

    def stop(self) -> None:
        """Ask the daemon to end: it deletes its SAs first."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def kill(self) -> None:
        """Make the daemon vanish, as in a power cut."""
        if self._process:
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def restart(self) -> None:
        """Kill the daemon and start it anew with the same configuration and no memory of its SAs."""
        self.kill()
        self.start(self._settings)
        self.swanctl("--load-all", "--file", f"{self.directory}/swanctl.conf")


def _dashes(arguments: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in arguments.items()}
