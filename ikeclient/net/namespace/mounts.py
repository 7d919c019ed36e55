"""What the programs in a namespace of our own see of the file system: the tunnel's DNS, and no way around it.

A network namespace does not cover paths. A program that looks up a name may ask nscd, systemd-resolved, avahi or sssd
over a Unix socket, and those would ask outside. So their directories are empty here, `nsswitch.conf` knows files and
DNS only, and `resolv.conf` is a file of ours. All of that is mounts in a mount namespace of our own, and goes with it.

Our mounts lie on files and directories of the machine's. When somebody outside replaces one of those, as network
managers do by renaming after every move, the kernel takes our mount away with what it was on; `Covers` puts it back. It
also empties a directory that appears, and follows a link that is bent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ikeclient.net import syscalls as linux
from ikeclient.net.changes.steps import DnsStep, ResolvConfFile
from ikeclient.net.dns.resolv_conf import MOST_SERVERS, resolver_lines
from ikeclient.net.model import DnsConfig
from ikeclient.net.watch.files import FileBell

HIDDEN = ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon", "/var/lib/sss/pipes")
RESOLV_CONF, NSSWITCH = "/etc/resolv.conf", "/etc/nsswitch.conf"
HOSTS = "hosts: files dns"
NOTHING = "# The tunnel has no name servers.\n"
_TMPFS = linux.NO_SUID | linux.NO_DEVICES | linux.NO_EXECUTION


def name_switch(text: str) -> str:
    """Return the content of `nsswitch.conf` with host names taken from /etc/hosts and DNS alone."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("hosts:")]
    return "\n".join([*lines, HOSTS, ""])


class NamespaceDns:
    """Name resolution in the namespace, a `dns.DnsAdapter`: one file, which only its init can write."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._length = 0
        self._write(NOTHING)

    def prepare(self, config: DnsConfig, interface: str, previous: DnsStep | None) -> tuple[DnsStep | None, list[str]]:  # noqa: ARG002 - nothing of a former state returns
        """Return the step that makes the tunnel's servers, and no others, the resolver's."""
        if not config.servers:
            return None, []
        text = resolver_lines(config.servers[:MOST_SERVERS], config.domains)
        step = ResolvConfFile(text=text, link=None, content=None, mode=0o444, uid=os.geteuid(), gid=os.getegid())
        return step, []

    def apply(self, step: DnsStep) -> list[str]:
        """Write the file."""
        assert isinstance(step, ResolvConfFile)
        self._write(step.text)
        return []

    def undo(self, step: DnsStep) -> list[str]:  # noqa: ARG002 - there is one file
        """Leave no server."""
        self._write(NOTHING)
        return []

    def _write(self, text: str) -> None:
        """Replace the file in one write; no reader sees half of it."""
        data = text.encode()
        os.pwrite(self._descriptor, data + b"\n" * (self._length - len(data)), 0)
        os.ftruncate(self._descriptor, len(data))
        self._length = len(data)


class Covers:
    """What lies on top of the machine's files and directories, and stays there whatever happens to those.

    `hidden` are directories to be empty. `fileno` becomes exceptional (POLLPRI) when a mount of this namespace came or
    went, `bell` readable when one of the paths leads elsewhere; `mend` then. Construction raises OSError.
    """

    def __init__(self, hidden: Sequence[str]) -> None:
        self._hidden = hidden
        self._empty: set[int] = set()  # the devices of our empty file systems
        self._ours: dict[str, tuple[os.stat_result, int]] = {}
        self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self.directories = self._hide()
        self.bell: FileBell | None = None
        with contextlib.suppress(OSError):
            self.bell = FileBell((*hidden, RESOLV_CONF, NSSWITCH))

    def _hide(self) -> list[str]:
        """Empty the directories, which are returned as they are really called; those that are missing need nothing."""
        found = [each for each in dict.fromkeys(map(os.path.realpath, self._hidden)) if os.path.isdir(each)]
        for directory in found:
            if os.stat(directory).st_dev not in self._empty:
                linux.mount("ikeclient", directory, "tmpfs", _TMPFS, "size=64k,mode=755")
                self._empty.add(os.stat(directory).st_dev)
        return found

    def keep(self, paths: Iterable[str]) -> None:
        """Keep the files that are mounted there from now on."""
        for path in paths:
            with contextlib.suppress(OSError):  # before Linux 5.2; then what is taken away stays away
                self._ours[path] = os.stat(path), linux.copy_mount(path)

    def fileno(self) -> int:
        """Return the descriptor for poll(2)."""
        return self._mounts

    def mend(self) -> None:
        """Put back what was taken away; if the file below is gone, there is nothing to put it on."""
        if self.bell is not None:
            self.bell.rung()
        with contextlib.suppress(OSError):
            self._hide()
        for path, (ours, spare) in self._ours.items():
            with contextlib.suppress(OSError):
                if _stat(path) == (ours.st_dev, ours.st_ino):
                    continue
                linux.place_mount(spare, os.path.realpath(path))
                self._ours[path] = ours, linux.copy_mount(path)
                os.close(spare)
        if self.bell is not None:
            self.bell.watch()


def cover(hidden: Sequence[str] = HIDDEN) -> tuple[NamespaceDns, Covers, list[str]]:
    """Set up the view of this process's mount namespace. Returns its DNS and warnings; raises OSError."""
    linux.mount("none", "/", None, linux.RECURSIVE | linux.SLAVE)
    resolver = os.path.realpath(RESOLV_CONF)
    switch = _read(NSSWITCH)
    # A file system for our two files, in any directory: it is gone from there before somebody could look.
    place = "/dev"
    linux.mount("ikeclient", place, "tmpfs", _TMPFS, "size=1m,mode=700")
    try:
        own = {RESOLV_CONF: f"{place}/resolv.conf", NSSWITCH: f"{place}/nsswitch.conf"}
        descriptor = os.open(own[RESOLV_CONF], os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        os.fchmod(descriptor, 0o444)
        Path(own[NSSWITCH]).write_text(name_switch(switch or ""), encoding="utf-8", errors="surrogateescape")
        Path(own[NSSWITCH]).chmod(0o444)
        held = {path: os.open(source, os.O_PATH | os.O_CLOEXEC) for path, source in own.items()}
        covers = Covers(hidden)
        warnings = []
        both = [RESOLV_CONF, NSSWITCH]
        if not _bind(
            held[RESOLV_CONF], resolver, make=any(_within(resolver, directory) for directory in covers.directories)
        ):
            warnings.append(f"names cannot be resolved: there is no {RESOLV_CONF} here to take the tunnel's servers")
            both.remove(RESOLV_CONF)
        if switch is None or not _bind(held[NSSWITCH], os.path.realpath(NSSWITCH), make=False):
            both.remove(NSSWITCH)
    finally:
        linux.unmount(place)
    for each in held.values():
        os.close(each)
    covers.keep(both)
    return NamespaceDns(descriptor), covers, warnings


def _bind(descriptor: int, target: str, *, make: bool) -> bool:
    """Put the file behind a descriptor at `target`, read-only; False if there is nothing to put it on."""
    if make:  # the file was in a directory that is hidden now
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    try:
        linux.mount(f"/proc/self/fd/{descriptor}", target, None, linux.BIND)
    except FileNotFoundError:
        return False
    linux.mount("none", target, None, linux.REMOUNT | linux.BIND | linux.READ_ONLY | _TMPFS)
    return True


def _stat(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _within(path: str, directory: str) -> bool:
    return path.startswith(directory + "/")


def _read(path: str) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    return None
