"""Name resolution while the tunnel is up: which of the machine's ways is in use, and our settings in its terms.

systemd-resolved is spoken to by its own `resolvectl`: D-Bus would need a library for four calls, and the command is
there wherever the service is. It counts only if the resolver's configuration file leads to it. Next comes resolvconf
(Debian's or openresolv), last the file itself (`resolv_conf`). Programs are run without a shell, by absolute path from
a fixed list of directories, with an environment of two variables.

Servers and domains come from a gateway. The protocol core filters them; they are checked again here, because here they
become arguments and lines of a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, Protocol

from ikeclient.errors import PlatformError
from ikeclient.net.changes.journal import Owner
from ikeclient.net.changes.steps import DnsStep, ResolvConfFile, ResolvconfRecord, ResolvedLink
from ikeclient.net.changes.surroundings import is_of_another_network, serves_another_network
from ikeclient.net.dns.resolv_conf import ResolvConf, resolver_lines, servers_in
from ikeclient.net.model import NOT_SPLIT, DnsConfig, interface_name
from ikeclient.net.programs import DIRECTORIES, run

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLVED = Path("/run/systemd/resolve")
RECORDS = (Path("/run/resolvconf/interface"), Path("/run/resolvconf/interfaces"))  # Debian's, openresolv's

Backend = Literal["systemd-resolved", "resolvconf", "openresolv", "resolv.conf"]

_DOMAIN = re.compile(r"(?!.{254})[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_STUBS = (IPv4Address("127.0.0.53"), IPv4Address("127.0.0.54"))
_NONE = 'or set dns = "none" in the profile'
_RULE = f"as a service, give polkit 50-ikeclient.rules (docs/systemd/README.md); {_NONE}"
_NOT_ALLOWED = ("authentication required", "access denied", "not authorized", "permission denied")  # of polkit, D-Bus
_CANNOT_SPLIT = NOT_SPLIT + ": {} cannot send single domains to them"


class DnsAdapter(Protocol):
    """What `machine` needs of name resolution."""

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:
        """The step for this configuration, and warnings. `previous` is ours that is in force now."""

    def apply(self, step: DnsStep) -> list[str]:
        """Take the step. Returns warnings; raises PlatformError, and then `undo` puts right what is done already."""

    def undo(self, step: DnsStep) -> list[str]:
        """Undo the step; what is gone already is fine. Returns warnings; raises PlatformError."""


def acceptable(config: DnsConfig) -> tuple[DnsConfig, list[str]]:
    """`config` without what must not be used, and a warning for each thing left out."""
    warnings = []
    servers = []
    for server in dict.fromkeys(config.servers):
        if server.is_loopback or server.is_unspecified or server.is_multicast or server.is_link_local:
            warnings.append(f"the name server {server} is not used: nobody answers at such an address in the tunnel")
        else:
            servers.append(server)
    domains = []
    for domain in dict.fromkeys(config.domains):
        if _DOMAIN.fullmatch(domain):
            domains.append(domain.rstrip("."))
        else:
            warnings.append(f"the domain {domain[:80]!a} is not used: it is not a domain name")
    return replace(config, servers=tuple(servers), domains=tuple(domains)), warnings


class Dns:
    """The name resolution of this machine. The arguments exist for tests."""

    def __init__(
        self,
        owner: Owner,
        resolv_conf: Path = RESOLV_CONF,
        *,
        directories: Sequence[Path] = DIRECTORIES,
        resolved: Path = RESOLVED,
        records: Sequence[Path] = RECORDS,
    ) -> None:
        self._records = records
        self._others = serves_another_network(resolv_conf)  # now: later our ancestors may be gone
        self._file = ResolvConf(resolv_conf, owner)
        self._directories = directories
        self._resolved = resolved

    def backend(self) -> Backend:
        """Which way this machine resolves names."""
        if self._resolved.is_dir() and self._leads_to_resolved() and self._works("resolvectl", "dns"):
            return "systemd-resolved"
        program = self._find("resolvconf")
        if program is None or os.path.realpath(program).endswith("/resolvectl"):
            return "resolv.conf"
        version = run([str(program), "--version"]).stdout
        return "openresolv" if version.startswith("openresolv") else "resolvconf"

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:
        """The step for this configuration, and warnings. `previous` is ours that is in force now."""
        if not config.servers:
            return None, []
        if self._others:
            why = f"{self._file.path} serves another network namespace as well"
            return None, [f"DNS is left alone: {why}; give this one a file of its own in /etc/netns"]
        backend = self.backend()
        if backend == "systemd-resolved":
            return _resolved_link(config, interface)
        warnings = [_CANNOT_SPLIT.format(backend)] if config.mode == "split" else []
        warnings += self._refusal_of_resolved()
        if backend == "resolv.conf":
            step, more = self._file.prepare(config, previous if isinstance(previous, ResolvConfFile) else None)
            return step, warnings + more
        exclusive = backend == "openresolv" and config.mode == "all"
        text = resolver_lines(config.servers, config.domains)
        return ResolvconfRecord(interface=interface, text=text, exclusive=exclusive), warnings

    def apply(self, step: DnsStep) -> list[str]:
        """Take the step. Returns warnings; raises PlatformError, and then `undo` puts right what is done already."""
        match step:
            case ResolvedLink():
                for arguments in step.arguments():
                    self._command("resolvectl", *arguments)
                return []
            case ResolvconfRecord():
                self._command("resolvconf", *step.arguments(), text=step.text)
                return []
            case ResolvConfFile():
                return self._file.apply(step)

    def undo(self, step: DnsStep) -> list[str]:
        """Undo the step; what is gone already is fine. Returns warnings; raises PlatformError."""
        match step:
            case ResolvedLink():
                # The settings live and die with the link; another link may have its name by now.
                if _index_of(step.interface) == step.index:
                    try:
                        self._command("resolvectl", "revert", step.interface)
                    except PlatformError:  # as a user who was not allowed to set them either
                        if self._is_set(step):
                            raise
                return []
            case ResolvconfRecord():
                self._command("resolvconf", *step.undo_arguments())
                return []
            case ResolvConfFile():
                return self._file.undo(step)

    def repair(self, *, dry_run: bool = False) -> list[str]:
        """Undo what a tunnel left that died together with its journal (power loss): the configuration file, and
        records in resolvconf of interfaces that are gone. Returns lines for people.
        """
        lines = self._file.repair(dry_run=dry_run)
        for interface in self._orphans():
            record = ResolvconfRecord(interface=interface, text="", exclusive=False)
            if dry_run:
                lines += record.undo_commands()
                continue
            with contextlib.suppress(PlatformError):
                self.undo(record)
                lines.append(f"removed a leftover: the name servers of {interface} in resolvconf")
        return lines

    def _orphans(self) -> list[str]:
        if self._find("resolvconf") is None or is_of_another_network():
            return []
        records = (path.name for directory in self._records for path in directory.glob("tun0.*.ikeclient"))
        found = (record.removeprefix("tun0.").removesuffix(".ikeclient") for record in records)
        return sorted({name for name in found if _index_of(name) is None and _is_name(name)})

    def _leads_to_resolved(self) -> bool:
        path = self._file.path
        if self._resolved.resolve() in Path(os.path.realpath(path)).parents:
            return True
        return any(server in _STUBS for server in servers_in(self._file.read()))

    def _refusal_of_resolved(self) -> list[str]:
        """Why systemd-resolved is not used although names are asked from it, in its own words."""
        path = self._find("resolvectl")
        if path is None or not self._resolved.is_dir() or not self._leads_to_resolved():
            return []
        said = _said(run([str(path), "dns"]))
        return [f"systemd-resolved is asked for names here, but cannot be spoken to: {said}"]

    def _find(self, program: str) -> Path | None:
        candidates = (directory / program for directory in self._directories)
        return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)

    def _works(self, program: str, *arguments: str) -> bool:
        path = self._find(program)
        return path is not None and run([str(path), *arguments]).returncode == 0

    def _is_set(self, step: ResolvedLink) -> bool:
        """Return whether the link has a server of ours, or it cannot be told."""
        path = self._find("resolvectl")
        told = None if path is None else run([str(path), "dns", step.interface])
        words = () if told is None else told.stdout.split()
        return told is None or told.returncode != 0 or any(str(server) in words for server in step.servers)

    def _command(self, program: str, *arguments: str, text: str = "") -> None:
        shown = shlex.join([program, *arguments])
        path = self._find(program)
        if path is None:
            raise PlatformError(f"`{shown}` failed", reason=f"{program} is not installed any more")
        result = run([str(path), *arguments], text)
        if result.returncode:
            said = _said(result)
            hint = _RULE if any(word in said.lower() for word in _NOT_ALLOWED) else _NONE
            raise PlatformError(f"`{shown}` failed", reason=said, hint=hint)


def _said(result: subprocess.CompletedProcess[str]) -> str:
    """Return a program's own words about its failure, fit for one line."""
    said = " ".join(ascii(result.stderr.strip())[1:-1].split("\\n"))[:256]
    return said or f"exit code {result.returncode}"


def _resolved_link(config: DnsConfig, interface: str) -> tuple[ResolvedLink, list[str]]:
    split = config.mode == "split"
    domains = tuple(f"~{domain}" for domain in config.domains) if split else ("~.", *config.domains)
    warnings = ["the gateway's name servers are not used: it named no domains for them"] if not domains else []
    index = _index_of(interface) or 0
    step = ResolvedLink(
        interface=interface, index=index, servers=config.servers, domains=domains, default_route=not split
    )
    return step, warnings


def _is_name(text: str) -> bool:
    try:
        return bool(interface_name(text))
    except ValueError:
        return False


def _index_of(interface: str) -> int | None:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return None
