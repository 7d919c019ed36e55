"""The firewall's side of a kill switch: nft(8) loads a whole table in one transaction; netlink tells what is there.

nft is run by its absolute path, without a shell, and reads the table from its standard input. Whether the kernel still
has it is asked without a program, because that is done at every change of the machine's firewall: the rules of our
chain as the kernel sends them, as bytes to compare.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
from pathlib import Path
from typing import Protocol

from ikeclient.errors import PlatformError
from ikeclient.net.programs import DIRECTORIES, run
from ikeclient.net.watch.netlink import Netlink, attribute, attributes

_NETFILTER = 12  # netlink(7): NETLINK_NETFILTER
_GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE = (10 << 8 | number for number in (1, 4, 7))  # linux/netfilter/nf_tables.h
_DELETE_TABLE = 10 << 8 | 2
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11  # around changes: linux/netfilter/nfnetlink.h
_BATCH = bytes((0, 0, 0, 10))  # nfgenmsg, whose last number says that the batch is for nftables
_INET = bytes((1, 0, 0, 0))  # nfgenmsg of the family inet
_NAME = 1  # of the table, in each of the three
_FLAGS = 2  # of a table: dormant
_OURS = re.compile(r"ikeclient_\d{4}")


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


class Nft:
    """The nftables of the calling thread's network namespace."""

    def load(self, text: str) -> None:
        """See `FirewallAdapter`."""
        program = next((path for directory in DIRECTORIES if (path := directory / "nft").is_file()), None)
        if program is None:
            raise PlatformError("there is no nft", hint="install nftables")
        done = run([str(program), "-f", "-"], text, through_interrupts=True)  # half a kill switch is none
        if done.returncode:
            said = next(iter(done.stderr.strip().splitlines()), "")
            raise PlatformError("`nft -f -` failed", reason=ascii(said)[1:-1][:200] or f"exit code {done.returncode}")

    def remove(self, table: str) -> None:
        """See `FirewallAdapter`. Without nft(8), which may be gone since: what was closed can always be opened."""
        if table not in self.tables():
            return
        name = _INET + attribute(_NAME, table.encode("ascii") + b"\0")
        try:
            with contextlib.closing(Netlink(_NETFILTER)) as netlink:
                netlink.send_batch([(_BATCH_BEGIN, _BATCH), (_DELETE_TABLE, name), (_BATCH_END, _BATCH)])
        except OSError as error:
            raise PlatformError(f"`nft delete table inet {table}` failed", reason=error.strerror) from error
        if table in self.tables():
            raise PlatformError(f"`nft delete table inet {table}` failed", reason="the kernel keeps it")

    def fingerprint(self, table: str) -> bytes | None:
        """See `FirewallAdapter`.

        The table's own message counts too: it may have been made dormant. The heads of messages do not: they count the
        changes of anybody's tables.
        """
        digest = hashlib.sha256()
        found = False
        with contextlib.suppress(OSError), contextlib.closing(Netlink(_NETFILTER)) as netlink:
            for kind in (_GET_TABLE, _GET_CHAIN, _GET_RULE):
                for _, message in netlink.dump(kind, _INET):
                    if _text(attributes(message, len(_INET)).get(_NAME, b"")) == table:
                        found = found or kind == _GET_CHAIN
                        digest.update(_settled(message) if kind == _GET_TABLE else message[len(_INET) :])
            return digest.digest() if found else None
        return None

    def tables(self) -> list[str]:
        """See `FirewallAdapter`."""
        with contextlib.suppress(OSError), contextlib.closing(Netlink(_NETFILTER)) as netlink:
            names = [_text(attributes(message, 4).get(_NAME, b"")) for _, message in netlink.dump(_GET_TABLE, _INET)]
            return [name for name in names if _OURS.fullmatch(name)]
        return []


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


def is_there() -> bool:
    """Whether this machine has nft at all."""
    return any((Path(directory) / "nft").is_file() for directory in DIRECTORIES)
