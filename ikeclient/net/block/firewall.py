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
import subprocess
from pathlib import Path
from typing import Protocol

from ikeclient.errors import PlatformError
from ikeclient.net.dns.backends import DIRECTORIES, ENVIRONMENT
from ikeclient.net.watch.netlink import Netlink, attributes

PATIENCE = 15.0  # seconds for one command

_NETFILTER = 12  # netlink(7): NETLINK_NETFILTER
_GROUP = 1 << (7 - 1)  # NFNLGRP_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE = (10 << 8 | number for number in (1, 4, 7))  # linux/netfilter/nf_tables.h
_INET = bytes((1, 0, 0, 0))  # nfgenmsg of the family inet
_NAME = 1  # of the table, in each of the three
_OURS = re.compile(r"ikeclient_\d{4}")


class FirewallAdapter(Protocol):
    """What a kill switch needs of a firewall."""

    def load(self, text: str) -> None:
        """Load `text` (see nft(8)) in one transaction. Raises PlatformError, and then nothing has changed."""

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
        problem: str | None
        try:
            done = subprocess.run(  # noqa: S603 - absolute path, no shell
                [str(program), "-f", "-"],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                env=ENVIRONMENT,
                check=False,
            )
            said = next(iter(done.stderr.strip().splitlines()), "")
            problem = ascii(said)[1:-1][:200] or f"exit code {done.returncode}" if done.returncode else None
        except OSError as error:
            problem = error.strerror or str(error)
        except subprocess.TimeoutExpired:
            problem = f"no answer within {PATIENCE:.0f} seconds"
        if problem is not None:
            raise PlatformError("`nft -f -` failed", reason=problem)

    def fingerprint(self, table: str) -> bytes | None:
        """See `FirewallAdapter`."""
        digest = hashlib.sha256()
        found = False
        with contextlib.suppress(OSError), contextlib.closing(Netlink(_NETFILTER)) as netlink:
            for kind in (_GET_CHAIN, _GET_RULE):
                for _, message in netlink.dump(kind, _INET):
                    if _text(attributes(message, len(_INET)).get(_NAME, b"")) == table:
                        found = True
                        digest.update(message)
            return digest.digest() if found else None
        return None

    def tables(self) -> list[str]:
        """See `FirewallAdapter`."""
        with contextlib.suppress(OSError), contextlib.closing(Netlink(_NETFILTER)) as netlink:
            names = [_text(attributes(message, 4).get(_NAME, b"")) for _, message in netlink.dump(_GET_TABLE, _INET)]
            return [name for name in names if _OURS.fullmatch(name)]
        return []


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
