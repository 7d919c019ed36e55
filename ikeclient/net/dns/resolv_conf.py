"""The resolver's configuration file, for machines where nothing manages it.

What stood there is remembered twice: in the tunnel's journal, and in a journal beside the file, because the first lives
on a file system that a power loss empties while this file stays. The second also tells which tunnel has the file:
it can serve one at a time.

A file that is mounted over the machine's for one network namespace has a journal of its own there.

The file is replaced by renaming, so no reader ever sees half of it. Containers mount a single file there, which cannot
be renamed over; such a file is rewritten in place. Only a file that still is what we wrote is given back its former
content: whoever rewrote it in the meantime (a DHCP client) knows better.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from ikeclient.errors import PlatformError
from ikeclient.net.changes.journal import SUFFIX, Found, Journal, JournalError, Owner, load, open_directory
from ikeclient.net.changes.steps import ResolvConfFile
from ikeclient.net.model import DnsConfig, IPAddress
from ikeclient.nofollow import create_file

LARGEST = 64 << 10  # bytes of a file that we are willing to keep
OURS = "# Written by ikeclient "  # how a file begins while it is a tunnel's
MOST_SERVERS = 3  # glibc reads no more (MAXNS of resolv.h)

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOENT})
_NO_RENAME = _READ_ONLY - {errno.ENOENT} | {errno.EBUSY, errno.EXDEV}


def resolver_lines(servers: Iterable[IPAddress], domains: Iterable[str]) -> str:
    """`nameserver` and `search` lines (resolv.conf(5))."""
    search = " ".join(domains)
    return "".join(f"nameserver {server}\n" for server in servers) + (f"search {search}\n" if search else "")


def servers_in(content: bytes | None) -> list[IPAddress]:
    """The name servers a configuration file names; what is not an address is passed over."""
    found = []
    for words in _lines(content, "nameserver"):
        try:
            found.append(ip_address(words[0]))
        except (IndexError, ValueError):
            continue
    return found


def _lines(content: bytes | None, keyword: str) -> list[list[str]]:
    lines = (line.split() for line in (content or b"").decode("utf-8", "replace").splitlines())
    return [[word for word in words[1:] if word.isprintable()] for words in lines if words and words[0] == keyword]


def holds(path: Path, step: ResolvConfFile) -> bool:
    """Whether the file still is what we wrote."""
    # A rewrite in place that was cut short left the beginning of our text.
    content = _content(path)
    return content is not None and not path.is_symlink() and step.text.encode().startswith(content)


def before_tunnel(path: Path) -> bytes | None:
    """What stood in the file before a tunnel wrote it, by the journal beside it; None if that does not tell."""
    found = _recorded(path.parent, _journal_of(path))
    steps = [] if found is None else [step for step in found.steps if isinstance(step, ResolvConfFile)]
    return steps[-1].content or b"" if steps and holds(path, steps[-1]) else None


def _recorded(place: Path, journal: str) -> Found | None:
    try:
        with open_directory(place) as directory:
            return load(directory, journal)
    except (OSError, JournalError, PlatformError):
        return None


def _journal_of(path: Path) -> str:
    return path.name + ".ikeclient" + _own_mount(path) + SUFFIX


def _own_mount(path: Path) -> str:
    """What tells a file that is mounted there alone from others below the same directory; else nothing.

    `ip netns exec` mounts one for each network namespace over the machine's.
    """
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        status = path.stat()
    except OSError:
        return ""
    if not any(line.split()[4] == str(path) for line in mounts.splitlines()):
        return ""
    return f".{status.st_dev}-{status.st_ino}"


def _content(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError:
        return None


class ResolvConf:
    """The file at `path`; only ever this path is written. `owner` is who we are."""

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path = path
        self._owner = owner
        self._sidecar = _journal_of(path)
        self._journal = Journal(path.parent, self._sidecar, owner)

    def read(self) -> bytes | None:
        """The content, through links; None when there is none to read."""
        return _content(self.path)

    def prepare(self, config: DnsConfig, previous: ResolvConfFile | None) -> tuple[ResolvConfFile | None, list[str]]:
        """The step that makes the file serve `config`, remembering what stands there now; and warnings."""
        other = _recorded(self.path.parent, self._sidecar)
        if other and other.owner != self._owner and other.alive:
            return None, [f"DNS is left alone: {self.path} serves the tunnel {other.owner.name}"]
        content = self.read()
        if content is not None and len(content) > LARGEST:
            return None, [f"DNS is left alone: {self.path} is larger than {LARGEST >> 10} KiB"]
        former = previous if previous and self._holds(previous) else self._snapshot(content)
        keep = () if config.mode == "all" else servers_in(former.content)
        servers = tuple(dict.fromkeys((*config.servers, *keep)))
        warnings = []
        if len(config.servers) > MOST_SERVERS:
            warnings.append(f"only the first {MOST_SERVERS} name servers are used")
        words = [word for line in _lines(former.content, "search")[-1:] for word in line] if keep else []
        options = [" ".join(["options", *line]) + "\n" for line in _lines(former.content, "options")]
        text = (
            f"{OURS}for the tunnel {self._owner.name}; what stood here returns when it ends.\n"
            + resolver_lines(servers[:MOST_SERVERS], dict.fromkeys((*config.domains, *words)))
            + "".join(options)
        )
        step = ResolvConfFile(
            text=text, link=former.link, content=former.content, mode=former.mode, uid=former.uid, gid=former.gid
        )
        return step, warnings

    def apply(self, step: ResolvConfFile) -> list[str]:
        """Write the file. A file that cannot be written is a warning; PlatformError for anything else."""
        if self._holds(step):
            return []
        self._record([step])
        try:
            self._install(step.text.encode(), 0o644, os.geteuid(), os.getegid())
        except OSError as error:
            self._forget()
            if error.errno in _READ_ONLY:
                return [f"DNS is left alone: {self.path} cannot be written ({error.strerror})"]
            raise PlatformError(f"cannot write {self.path}", reason=error.strerror) from error
        return []

    def undo(self, step: ResolvConfFile) -> list[str]:
        """Give the file its former content if it still is ours. Raises PlatformError."""
        warnings = []
        try:
            if self._holds(step):
                self._restore(step)
            elif not self._is_as_before(step):
                warnings.append(f"{self.path} was changed by another program meanwhile and is left as it is")
        except OSError as error:
            raise PlatformError(
                f"cannot give {self.path} its former content",
                reason=error.strerror,
                hint=f"it is kept in {self.path.with_name(self._sidecar)}",
            ) from error
        self._forget()
        return warnings

    def repair(self, *, dry_run: bool = False) -> list[str]:
        """Undo what the journal beside the file tells of a dead process; returns what was done."""
        recorded = _recorded(self.path.parent, self._sidecar)
        if recorded is None or recorded.alive:
            return []
        if dry_run:
            return [line for step in recorded.steps for line in step.undo_commands()]
        done = []
        for step in recorded.steps:
            if isinstance(step, ResolvConfFile):
                ours, name = self._holds(step), recorded.owner.name
                done += self.undo(step)
                done += [f"gave {self.path} back its content from before the tunnel {name}"] if ours else []
        return done

    def _record(self, steps: list[ResolvConfFile]) -> None:
        try:
            self._journal.write(steps)
        except PlatformError:
            return  # it guards against power loss alone; a container's /etc may well be read-only

    def _forget(self) -> None:
        recorded = _recorded(self.path.parent, self._sidecar)
        if recorded is None or recorded.owner == self._owner or not recorded.alive:
            self._record([])

    def _snapshot(self, content: bytes | None) -> ResolvConfFile:
        try:
            status = self.path.lstat()
            link = os.readlink(self.path) if stat.S_ISLNK(status.st_mode) else None
        except OSError:
            return ResolvConfFile(text="", link=None, content=None, mode=0o644, uid=os.geteuid(), gid=os.getegid())
        mode = stat.S_IMODE(status.st_mode) & 0o777
        return ResolvConfFile(text="", link=link, content=content, mode=mode, uid=status.st_uid, gid=status.st_gid)

    def _holds(self, step: ResolvConfFile) -> bool:
        return holds(self.path, step)

    def _is_as_before(self, step: ResolvConfFile) -> bool:
        if self.path.is_symlink() or step.link is not None:
            return self.path.is_symlink() and os.readlink(self.path) == step.link
        return self.read() == step.content

    def _restore(self, step: ResolvConfFile) -> None:
        if step.link is not None:
            temporary = self._temporary()
            temporary.symlink_to(step.link)
            temporary.replace(self.path)
        elif step.content is None:
            self.path.unlink(missing_ok=True)
        else:
            self._install(step.content, step.mode, step.uid, step.gid)

    def _temporary(self) -> Path:
        temporary = self.path.with_name(f".{self.path.name}.ikeclient.new")
        temporary.unlink(missing_ok=True)
        return temporary

    def _install(self, data: bytes, mode: int, uid: int, gid: int) -> None:
        try:
            self._rename_over(data, mode, uid, gid)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            self._rewrite(data)

    def _rename_over(self, data: bytes, mode: int, uid: int, gid: int) -> None:
        temporary = self._temporary()
        created = create_file(temporary)
        try:
            with created as file:
                file.write(data)
                file.flush()
                os.fchown(file.fileno(), uid, gid)
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _rewrite(self, data: bytes) -> None:
        former = self.read()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as file:
            try:
                _overwrite(file, data)
            except OSError:
                with contextlib.suppress(OSError):
                    _overwrite(file, former or b"")
                raise


def _overwrite(file: io.FileIO, data: bytes) -> None:
    file.seek(0)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
    file.truncate(len(data))
    os.fsync(file.fileno())
