"""The firewall's side of a kill switch: nft(8) loads a whole table in one transaction; netlink tells what is there.

nft is run by its absolute path, without a shell, and reads the table from its standard input. Whether the kernel still
has it is asked without a program, because that is done at every change of the machine's firewall: the rules of our
chain as the kernel sends them, as bytes to compare.

What others take away has to be back before the next packet. To start a program takes longer than all the rest, so what
nft has loaded is read back once, and sent again as it was: the kernel tells of a table in the very attributes by which
it is made, but for numbers of its own.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

from ikeclient.errors import PlatformError
from ikeclient.net.programs import DIRECTORIES, run
from ikeclient.net.watch.netlink import Attributes, Netlink, attribute, attributes, parts

_NETFILTER = 12  # netlink(7): NETLINK_NETFILTER
_GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE = (10 << 8 | number for number in (1, 4, 7))  # linux/netfilter/nf_tables.h
_GET_SET, _GET_ELEMENTS = 10 << 8 | 10, 10 << 8 | 13
_NEW_TABLE, _NEW_SET, _NEW_ELEMENTS, _NEW_CHAIN, _NEW_RULE = (10 << 8 | number for number in (0, 9, 12, 3, 6))
_DELETE_TABLE = 10 << 8 | 2
_CREATE, _APPEND = 0x400, 0x800  # flags of a request: nothing is replaced, a rule comes behind the others
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # around changes: linux/netfilter/nfnetlink.h
_BATCH = bytes((0, 0, 0, 10))  # nfgenmsg, whose last number says that the batch is for nftables
_INET = bytes((1, 0, 0, 0))  # nfgenmsg of the family inet
_NAME = 1  # of the table, in each of the three
_FLAGS = 2  # of a table: dormant
_OURS = re.compile(r"ikeclient_\d{4}")

# The attributes by which each is made; the others are handles, counts of uses and the like, which the kernel gives.
_MAKING = {
    _NEW_TABLE: (_NAME, _FLAGS, 6),  # 6: what nft notes for itself, as below
    _NEW_SET: (_NAME, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 18),  # name, flags, key and data, size, time, expressions
    _NEW_CHAIN: (_NAME, 3, 4, 5, 7, 10, 12),  # name, hook, policy, type, flags
    _NEW_RULE: (_NAME, 2, 4, 7),  # chain, expressions
}
_SET_NAME, _SET_FLAGS, _SET_ID, _ELEMENTS = 2, 3, 10, 3
_SET_INTERVAL = 0x4  # of a set's flags
_SET_TIMEOUT = 0x10  # another: the elements are those of `unblock --for`, and not made again
_NESTED = 0x8000
_ELEMENTS_LARGEST = 16 << 10  # bytes in one message

_NO_PROGRAM, _NO_KERNEL = "there is no nft", "this kernel lacks nftables (CONFIG_NF_TABLES_INET)"
_ABSENT = frozenset(  # what a kernel answers without its netlink protocol, without nf_tables, without the family
    {errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT}
)

Copy = tuple[tuple[int, bytes], ...]  # requests that make a table again, each of type and body


class FirewallAdapter(Protocol):
    """What a kill switch needs of a firewall."""

    def load(self, text: str) -> None:
        """Load `text` (see nft(8)) in one transaction. Raises PlatformError, and then nothing has changed."""

    def remove(self, table: str) -> None:
        """Remove a table of ours, if it is there. Raises PlatformError."""

    def fingerprint(self, table: str) -> bytes | None:
        """What tells a table from a changed one; None if it is not there or cannot be looked at."""

    def tables(self) -> list[str]:
        """The tables that are named like ours."""

    def copy(self, table: str) -> Copy:
        """What makes a table again as it is now; empty if it is not there or cannot be read."""

    def restore(self, copies: Sequence[Copy]) -> bool:
        """Make tables again, in one transaction and without a program; whether they are then what was copied."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


class Nft:
    """The nftables of the calling thread's network namespace.

    Used as a context manager around questions that have to be quick: to close a socket takes the kernel 10 ms after a
    flush, in which it waits for everybody to let go what was flushed, so all of them have one.
    """

    _opened: Netlink | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # then each question says so
            self._opened = Netlink(_NETFILTER)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @contextlib.contextmanager
    def _netlink(self) -> Iterator[Netlink]:
        if self._opened is not None:
            yield self._opened
            return
        with contextlib.closing(Netlink(_NETFILTER)) as netlink:
            yield netlink

    def load(self, text: str) -> None:
        """See `FirewallAdapter`."""
        program = next((path for directory in DIRECTORIES if (path := directory / "nft").is_file()), None)
        if program is None:
            raise PlatformError(_NO_PROGRAM, hint="install nftables")
        done = run([str(program), "-f", "-"], text, through_interrupts=True)  # half a kill switch is none
        if done.returncode:
            said = next(iter(done.stderr.strip().splitlines()), "")
            what = "`nft -f -` failed" if _kernel_has_it() else _NO_KERNEL
            raise PlatformError(what, reason=ascii(said)[1:-1][:200] or f"exit code {done.returncode}")

    def remove(self, table: str) -> None:
        """See `FirewallAdapter`. Without nft(8), which may be gone since: what was closed can always be opened."""
        if table not in self.tables():
            return
        name = _INET + attribute(_NAME, table.encode("ascii") + b"\0")
        try:
            with self._netlink() as netlink:
                netlink.send_batch([(_BATCH_BEGIN, 0, _BATCH), (_DELETE_TABLE, 0, name), (_BATCH_END, 0, _BATCH)])
        except OSError as error:
            raise PlatformError(f"`nft delete table inet {table}` failed", reason=error.strerror) from error
        if table in self.tables():
            raise PlatformError(f"`nft delete table inet {table}` failed", reason="the kernel keeps it")

    def fingerprint(self, table: str) -> bytes | None:
        """See `FirewallAdapter`.

        The table's own message counts too: it may have been made dormant. The heads of messages do not: they count the
        changes of anybody's tables.
        """
        import hashlib  # with the whole library of OpenSSL, for machines that are closed only

        digest = hashlib.sha256()
        found = False
        with contextlib.suppress(OSError), self._netlink() as netlink:
            for kind in (_GET_TABLE, _GET_CHAIN, _GET_RULE):
                for _, message in _of_table(netlink, kind, table):
                    found = found or kind == _GET_CHAIN
                    digest.update(_settled(message) if kind == _GET_TABLE else message[len(_INET) :])
            return digest.digest() if found else None
        return None

    def tables(self) -> list[str]:
        """See `FirewallAdapter`."""
        with contextlib.suppress(OSError), self._netlink() as netlink:
            names = [_text(attributes(message, 4).get(_NAME, b"")) for _, message in netlink.dump(_GET_TABLE, _INET)]
            return [name for name in names if _OURS.fullmatch(name)]
        return []

    def copy(self, table: str) -> Copy:
        """See `FirewallAdapter`."""
        found: list[tuple[int, bytes]] = []
        with contextlib.suppress(OSError), self._netlink() as netlink:
            for kind in (_GET_TABLE, _GET_SET, _GET_CHAIN, _GET_RULE):
                for new, message in _of_table(netlink, kind, table):
                    request = _making(new, message)
                    if kind == _GET_SET:
                        request += attribute(_SET_ID, len(found).to_bytes(4, "big"))
                    found.append((new, request))
                    if kind == _GET_SET:
                        found += _elements(netlink, attributes(message, len(_INET)))
            return tuple(found)
        return ()

    def restore(self, copies: Sequence[Copy]) -> bool:
        """See `FirewallAdapter`."""
        requests = [(_BATCH_BEGIN, 0, _BATCH)]
        for copy in copies:
            table = copy[0][1]
            requests += [(_NEW_TABLE, _CREATE, table), (_DELETE_TABLE, 0, table)]  # as in `state.ruleset`
            requests += [(kind, _CREATE | _APPEND, body) for kind, body in copy]
        try:
            with self._netlink() as netlink:
                netlink.send_batch([*requests, (_BATCH_END, 0, _BATCH)])
        except OSError:
            return False
        return all(self.copy(_text(attributes(copy[0][1], len(_INET))[_NAME])) == copy for copy in copies)


def _of_table(netlink: Netlink, kind: int, table: str) -> Iterator[tuple[int, memoryview]]:
    """The tables, chains, sets or rules of one table; some kernels send those of others as well."""
    body = _INET if kind == _GET_TABLE else _INET + attribute(_NAME, table.encode("ascii") + b"\0")
    for new, message in netlink.dump(kind, body):
        if _text(attributes(message, len(_INET)).get(_NAME, b"")) == table:
            yield new, message


def _making(kind: int, message: memoryview) -> bytes:
    found = attributes(message, len(_INET))
    return _INET + b"".join(attribute(number, found[number]) for number in _MAKING[kind] if number in found)


def _elements(netlink: Netlink, of_set: Attributes) -> Iterator[tuple[int, bytes]]:
    """Requests that fill a set, always in the same order: the end of an interval has to follow its start."""
    flags = int.from_bytes(of_set.get(_SET_FLAGS, b""), "big")
    if flags & _SET_TIMEOUT:
        return
    head = _INET + attribute(_NAME, of_set[_NAME]) + attribute(_SET_NAME, of_set[_SET_NAME])
    found: list[bytes] = []
    for _, message in netlink.dump(_GET_ELEMENTS, head):
        found += parts(attributes(message, len(_INET)).get(_ELEMENTS, b""))
    if flags & _SET_INTERVAL:
        found.reverse()  # the kernel begins with the highest
    else:
        found.sort()  # it has them in no order
    while found:
        value = bytearray()
        while found and (not value or len(value) + len(found[0]) <= _ELEMENTS_LARGEST):
            value += found.pop(0)
        yield _NEW_ELEMENTS, head + attribute(_ELEMENTS | _NESTED, bytes(value))


def _settled(message: memoryview) -> bytes:
    """What of a table stays the same when it is loaded again: its name and its flags, not its number."""
    found = attributes(message, len(_INET))
    return found.get(_NAME, b"") + found.get(_FLAGS, b"")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def listen() -> socket.socket:
    """A non-blocking socket that becomes readable when the firewall is changed; empty it with `netlink.drain`.

    Raises OSError.
    """
    bell = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETFILTER)
    try:
        bell.bind((0, _GROUP))
    except OSError:
        bell.close()
        raise
    return bell


def lacks() -> str | None:
    """What this machine lacks of nftables, in words; None if nothing is known to be missing."""
    if not any((Path(directory) / "nft").is_file() for directory in DIRECTORIES):
        return f"{_NO_PROGRAM}: install nftables"
    return None if _kernel_has_it() else _NO_KERNEL


def _kernel_has_it() -> bool:
    try:
        with contextlib.closing(Netlink(_NETFILTER)) as netlink:
            netlink.dump(_GET_TABLE, _INET)
    except OSError as error:  # EPERM: who may not look cannot tell
        return error.errno not in _ABSENT
    return True
