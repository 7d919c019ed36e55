"""Look up the addresses of one name over a socket of our own, for when everything else is closed.

While a kill switch keeps the machine closed, the C library's resolver reaches no server. The gateway's name has to be
asked for all the same, and nothing else: one question for each family goes out over UDP from a socket that carries our
mark, to the servers of the resolver's configuration. A stub of systemd-resolved or NetworkManager on this machine would
ask from a socket of its own, which is closed, so the servers that it would ask are taken instead.

The answer is as little to be trusted as any DNS answer: the gateway proves who it is later.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from ikeclient.net.dns.resolv_conf import servers_in
from ikeclient.net.model import IPAddress

PATIENCE = 2.0  # seconds for a server to answer
ROUNDS = 5  # in which every server is asked
_PORT = 53
_A, _AAAA, _IN = 1, 28, 1
_HEADER = struct.Struct("!6H")
_RECURSION_DESIRED, _RESPONSE = 0x0100, 0x8000
_LARGEST = 4096
_MOST_RECORDS = 64
_SO_MARK = socket.SO_MARK
_UPSTREAM = (Path("/run/systemd/resolve/resolv.conf"), Path("/run/NetworkManager/no-stub-resolv.conf"))


class NoAnswerError(OSError):
    """No server has given an address; its text says why."""


class NoSuchNameError(NoAnswerError):
    """It is no name, or a server has said that it has no address: another question gets the same answer."""


def servers(files: Sequence[Path] = (Path("/etc/resolv.conf"), *_UPSTREAM)) -> tuple[IPAddress, ...]:
    """The servers of the first of these files that names any outside this machine."""
    for path in files:
        try:
            content = path.read_bytes()
        except OSError:
            continue
        found = tuple(dict.fromkeys(server for server in servers_in(content) if not server.is_loopback))
        if found:
            return found
    return ()


def listed(name: str, hosts: Path = Path("/etc/hosts")) -> list[IPAddress]:
    """The addresses that a name has without a question: its own, or those of the file of hosts."""
    try:
        return [ip_address(name)]
    except ValueError:
        pass
    try:
        lines = hosts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[IPAddress] = []
    for line in lines:
        words = line.partition("#")[0].split()
        if name.rstrip(".").lower() in (word.rstrip(".").lower() for word in words[1:]):
            try:
                found.append(ip_address(words[0]))
            except ValueError:
                continue
    return found


async def look_up(
    name: str, ask: Sequence[IPAddress], mark: int, admit: Callable[[IPAddress, int], None]
) -> list[IPAddress]:
    """The addresses of `name`, as the first server says that answers; raises NoAnswerError.

    `admit` is told each server and our port before a question leaves for it.
    """
    try:
        encoded = _encoded(name)
    except (UnicodeError, ValueError):
        raise NoSuchNameError("not a name") from None
    if not ask:
        raise NoAnswerError("no name server is configured that is not on this machine itself")
    refused = "the name servers do not answer"
    for server in [*ask] * ROUNDS:
        found: list[IPAddress] = []
        answered = False
        for kind in (_A, _AAAA):
            try:
                code, addresses = await _ask(server, encoded, kind, mark, admit)
            except (OSError, TimeoutError):
                break
            answered = True
            found += addresses
            if code not in (0, 3):  # neither fine nor "no such name"
                answered, refused = False, f"the name server {server} cannot answer (code {code})"
        if found:
            return found
        if answered:
            raise NoSuchNameError("the name has no address")
    raise NoAnswerError(refused)


async def _ask(
    server: IPAddress, name: bytes, kind: int, mark: int, admit: Callable[[IPAddress, int], None]
) -> tuple[int, list[IPAddress]]:
    family = socket.AF_INET if server.version == 4 else socket.AF_INET6
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        asking.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        asking.bind(("", 0))
        admit(server, asking.getsockname()[1])
        asking.connect((str(server), _PORT))
        number = int.from_bytes(os.urandom(2), "big")
        question = name + struct.pack("!HH", kind, _IN)
        await loop.sock_sendall(asking, _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + question)
        async with asyncio.timeout(PATIENCE):
            while True:
                data = await loop.sock_recv(asking, _LARGEST)
                answer = read_answer(data, number, question, kind)
                if answer is not None:
                    return answer


def read_answer(data: bytes, number: int, question: bytes, kind: int) -> tuple[int, list[IPAddress]] | None:
    """The response code and the addresses of an answer; None if it is not one to our question."""
    if len(data) < _HEADER.size + len(question):
        return None
    got, flags, questions, answers, _, _ = _HEADER.unpack_from(data)
    asked = data[_HEADER.size : _HEADER.size + len(question)]
    if got != number or not flags & _RESPONSE or questions != 1 or asked.lower() != question.lower():
        return None
    try:
        return flags & 0xF, list(_addresses(data, _HEADER.size + len(question), min(answers, _MOST_RECORDS), kind))
    except (IndexError, struct.error, ValueError):
        return None


def _addresses(data: bytes, at: int, count: int, kind: int) -> Iterator[IPAddress]:
    for _ in range(count):
        at = _after_name(data, at)
        got, place, _, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        value = data[at : at + length]
        at += length
        if len(value) < length:
            raise ValueError("cut off")
        if (got, place, length) == (kind, _IN, 4 if kind == _A else 16):
            yield IPv4Address(value) if kind == _A else IPv6Address(value)


def _after_name(data: bytes, at: int) -> int:
    """Where the name that begins at `at` ends; what it is does not matter, since the server followed the aliases."""
    while (length := data[at]) != 0:
        if length & 0xC0 == 0xC0:
            return at + 2
        if length & 0xC0:
            raise ValueError("not a label")
        at += 1 + length
    return at + 1


def _encoded(name: str) -> bytes:
    text = name.rstrip(".").encode("idna") if not name.isascii() else name.rstrip(".").encode("ascii")
    labels = text.split(b".")
    if not text or len(text) > 253 or not all(0 < len(label) < 64 for label in labels):
        raise ValueError("not a name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
