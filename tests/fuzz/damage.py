"""How inputs are damaged: bytes anywhere, text by words, JSON, DER and chains of payloads by their structure."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError

TELLING = (
    b"\0",
    b"\1",
    b"\x7f",
    b"\x80",
    b"\xfe",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\0\4",
    b"\0\x08",
    b"\0\xff",
    b"\x7f\xff",
)
TELLING += (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0\1\0\0", b"\x7f\xff\xff\xff")


def damaged(random: Random, data: bytes) -> bytes:
    """A copy with some bytes changed, cut, repeated or replaced by telling values."""
    chance = random.random
    changed = bytearray(data)
    for _ in range(int(chance() * 4) + 1):
        size = len(changed)
        at = int(chance() * size)
        match int(chance() * 8):
            case 0 | 1 if size:
                changed[at] ^= 1 << int(chance() * 8)
            case 2 | 3:
                value = TELLING[int(chance() * len(TELLING))]
                changed[at : at + len(value)] = value
            case 4:
                del changed[at : at + int(chance() * 8)]
            case 5:
                changed[at:at] = changed[int(chance() * size) :][: int(chance() * 40)]
            case 6:
                changed[at : at + int(chance() * 8)] = random.randbytes(int(chance() * 8))
            case _ if chance() < 0.3:
                del changed[at:]
    return bytes(changed)


def spliced(random: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one input, and the end of another."""
    return data[: int(random.random() * len(data))] + other[int(random.random() * len(other)) :]


def grown(random: Random, data: bytes, size: int) -> bytes:
    """An input that repeats a part of itself until it has `size` bytes: what takes quadratic time shows here."""
    start, end = sorted((int(random.random() * (len(data) + 1)), int(random.random() * (len(data) + 1))))
    end = min(end, start + int(random.random() * 24) + 1)
    part = data[start:end] or b"\0"
    return (data[:start] + part * ((size - len(data)) // len(part) + 1) + data[end:])[:size]


def lines_of_text(words: tuple[str, ...]) -> Callable[[Random, bytes], bytes]:
    """What damages text: lines and words, and sometimes bytes."""

    def mutate(random: Random, data: bytes) -> bytes:
        if random.random() < 0.8:
            data = garbled(random, data.decode("utf-8", "surrogateescape"), words).encode("utf-8", "surrogatepass")
        return damaged(random, data) if random.random() < 0.4 else data

    return mutate


def garbled(random: Random, text: str, words: tuple[str, ...]) -> str:
    """Text with some lines or characters changed, moved, doubled, left out, or replaced by `words`."""
    lines = text.splitlines(keepends=True)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        start, end = sorted((random.randint(0, len(line)), random.randint(0, len(line))))
        match random.randint(0, 5):
            case 0 if lines:
                del lines[at]
            case 1:
                lines.insert(at, random.choice(lines) if lines else "")
            case 2 if lines:
                lines[at] = line[:start] + random.choice(words) + line[end:]
            case 3 if lines:
                key, separator, _ = line.partition("=")
                lines[at] = key + separator + random.choice(words) + "\n"
            case 4 if lines:
                lines[at] = line[:start] + line[end:]
            case _:
                lines.insert(at, random.choice(words) + "\n")
    return "".join(lines)


# Packets one after the other, each behind its length of two bytes: what a conversation's other end says.


def framed(packets: Iterable[bytes]) -> bytes:
    """One input of several packets."""
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


def packets_in(data: bytes, most: int = 64) -> list[bytes]:
    """The packets of an input; the last one may be cut off."""
    found, at = [], 0
    while at + 2 <= len(data) and len(found) < most:
        end = at + 2 + (data[at] << 8 | data[at + 1])
        found.append(data[at + 2 : end])
        at = end
    return found


def packetwise(mutate: Callable[[Random, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """What damages one of several packets, or their order."""

    def mutate_one(random: Random, data: bytes) -> bytes:
        packets = packets_in(data)
        if not packets:
            return damaged(random, data)
        at = random.randrange(len(packets))
        match int(random.random() * 8):
            case 0:
                packets.insert(random.randrange(len(packets) + 1), packets[at])
            case 1:
                del packets[at]
            case 2:
                random.shuffle(packets)
            case _:
                packets[at] = mutate(random, packets[at])[:0xFFFF]
        return framed(packets)

    return mutate_one


# JSON


ODD_JSON = (
    None,
    True,
    0,
    -1,
    2**31,
    2**64,
    1e999,
    0.5,
    "",
    "\0",
    "\ud800",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"": {}},
    "a" * 300,
    "@deep@",
)


def reshaped_json(random: Random, data: bytes) -> bytes:
    """A JSON document with a value or a key exchanged, doubled or left out somewhere, or damaged bytes."""
    if random.random() < 0.2:
        return damaged(random, data)
    try:
        return _reshaped_json(random, json.loads(data))
    except (ValueError, RecursionError):  # it is no JSON any more, or too deep
        return damaged(random, data)


def _reshaped_json(random: Random, document: Any) -> bytes:
    for _ in range(random.randint(1, 3)):
        holders = [node for node in _containers(document) if node]
        if not holders:
            return json.dumps(random.choice(ODD_JSON)).encode()
        holder, other = random.choice(holders), random.choice(holders)
        key: Any = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
        match random.randint(0, 6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.append(_copied(holder[key]))
            case 2 if isinstance(holder, dict):
                holder[random.choice(("is", "step", "x", key + "s"))] = holder.pop(key)
            case 3:
                values = list(other.values()) if isinstance(other, dict) else other
                holder[key] = _copied(random.choice(values))
            case 4 if isinstance(holder[key], str):
                holder[key] = damaged(random, holder[key].encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
            case _:
                holder[key] = _copied(random.choice(ODD_JSON))
    deep = random.randint(900, 1_000)  # about what the reader of JSON still takes
    return json.dumps(document).encode().replace(b'"@deep@"', b"[" * deep + b"]" * deep)


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _containers(document: Any) -> Iterator[Any]:
    waiting = [document]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list):
            yield node
            waiting += node.values() if isinstance(node, dict) else node


# IKE: a chain of payloads behind a header, each behind its own


def chained(random: Random, data: bytes) -> bytes:
    """An IKE message with damage inside one payload, or to the chain; most lengths fit afterwards."""
    if random.random() < 0.2 or len(data) < 32:
        return damaged(random, data)
    kinds, bodies, at, kind = [], [], 28, data[16]
    while kind and at + 4 <= len(data) and len(bodies) < 300:
        end = at + max(int.from_bytes(data[at + 2 : at + 4], "big"), 4)
        kinds.append(kind)
        bodies.append(data[at + 1 : at + 2] + data[at + 4 : end])
        kind, at = data[at], end
    if not bodies:
        return damaged(random, data)
    which = random.randrange(len(bodies))
    match int(random.random() * 10):
        case 0:
            kinds[which] = random.choice((0, 1, *range(33, 55), 200))
        case 1:
            kinds.insert(which, kinds[which])
            bodies.insert(which, bodies[which])
        case 2:
            del kinds[which], bodies[which]
        case 3:
            other = random.randrange(len(bodies))
            bodies[which], bodies[other] = bodies[other], bodies[which]
        case 4:
            bodies[which] = damaged(random, bodies[which])
        case _:
            body = bodies[which]
            bodies[which] = body[:1] + nested(random, body[1:])
    chain = b"".join(
        bytes((following,)) + (body[:1] or b"\0") + min(len(body[1:]) + 4, 0xFFFF).to_bytes(2, "big") + body[1:]
        for body, following in zip(bodies, [*kinds[1:], 0], strict=False)  # without bodies there are no kinds
    )
    length = 28 + len(chain) if random.random() < 0.95 else random.getrandbits(32)
    return data[:16] + bytes((kinds[0] if kinds else 0,)) + data[17:24] + length.to_bytes(4, "big") + chain


def nested(random: Random, body: bytes) -> bytes:
    """A body with damage somewhere, and then, most of the time, one length of two bytes that fits again."""
    changed = bytearray(damaged(random, body))
    if random.random() < 0.6:
        for at in (2, 6, 10, 18):
            if at + 2 <= len(changed) and changed[at] == 0 and random.random() < 0.5:
                changed[at : at + 2] = (len(changed) - at + 2).to_bytes(2, "big")[-2:]
                break
    return bytes(changed)


# DER


@dataclass(slots=True)
class Node:
    """One DER element; with `children`, its content is theirs. `prefix` is the unused bits of a BIT STRING."""

    tag: int
    content: bytes = b""
    children: list[Node] = field(default_factory=list)
    prefix: bytes = b""

    def encode(self) -> bytes:
        """The element with the lengths that its content has now."""
        inner = self.prefix + b"".join(child.encode() for child in self.children) if self.children else self.content
        return der.encode(self.tag, inner)

    def copy(self) -> Node:
        """The same, sharing nothing."""
        return Node(self.tag, self.content, [child.copy() for child in self.children], self.prefix)

    def walk(self) -> list[Node]:
        """This node and all below it."""
        return [self, *(node for child in self.children for node in child.walk())]


def tree(data: bytes) -> list[Node]:
    """The elements of `data`, taken apart as far as they are DER, also inside of strings. Raises ParseError."""
    nodes = []
    for tag, content in der.elements(data):
        node = Node(tag, content)
        nested = content
        if tag == 0x03 and content[:1] == b"\0":
            node.prefix, nested = content[:1], content[1:]
        if (tag & 0x20 or tag in (0x03, 0x04)) and len(nested) > 1:
            try:
                node.children = tree(nested)
            except ParseError:
                node.prefix = b""
        nodes.append(node)
    return nodes


ODD_CONTENTS = (b"", b"\0", b"\xff", b"\x80", b"\0\x80", b"\x7f" * 8, b"\xff" * 20, b"\5\0", b"\x30\0", b"\x30\x80\0\0")
ODD_TAGS = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x13, 0x14, 0x16, 0x17, 0x18, 0x1C, 0x1E, 0x1F, 0x30)
ODD_TAGS += (0x31, 0x80, 0x81, 0x82, 0x84, 0x86, 0x87, 0x88, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xBF)


def reshaped(random: Random, node: Node, pool: list[Node]) -> None:
    """Change the structure of DER below `node` in a few places; every length fits afterwards."""
    for _ in range(random.randint(1, 3)):
        nodes = node.walk()
        one = random.choice(nodes)
        match random.randint(0, 6):
            case 0:
                one.tag = random.choice(ODD_TAGS)
            case 1:
                one.children, one.content = [], random.choice(ODD_CONTENTS)
            case 2 if not one.children:
                one.content = damaged(random, one.content)
            case 3 if one.children:
                del one.children[random.randrange(len(one.children))]
            case 4 if one.children:
                one.children.insert(random.randint(0, len(one.children)), random.choice(one.children).copy())
            case 5 if one.children:
                random.shuffle(one.children)
            case _:
                other = random.choice(pool).copy()
                one.tag, one.children, one.content, one.prefix = other.tag, other.children, other.content, other.prefix
        if len(node.walk()) > 5_000:
            return


_tree = functools.lru_cache(64)(tree)


def reshaped_der(random: Random, data: bytes) -> bytes:
    """DER whose structure is changed in a few places; every length fits, unless bytes are damaged instead."""
    if random.random() < 0.3:
        return damaged(random, data)
    try:
        nodes = _tree(data) if len(data) < 4_096 else tree(data)
    except (ParseError, RecursionError):
        return damaged(random, data)
    if not nodes:
        return damaged(random, data)
    copied = [node.copy() for node in nodes]
    one = random.choice(copied)
    reshaped(random, one, one.walk())
    return b"".join(node.encode() for node in copied)
