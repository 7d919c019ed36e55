"""How fuzz targets damage what they start from: bytes anywhere, text by words, DER by its structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from ikeclient.crypto.pki import der
from ikeclient.errors import ParseError


def damaged(random: Random, data: bytes) -> bytes:
    """A copy with some bytes changed, cut, repeated or replaced by telling values."""
    copy = bytearray(data)
    for _ in range(random.randint(0, 4)):
        at = random.randint(0, max(len(copy) - 1, 0))
        match random.randint(0, 5):
            case 0 if copy:
                copy[at] ^= 1 << random.randint(0, 7)
            case 1 if copy:
                copy[at] = random.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                del copy[at:]
            case 3:
                copy[at:at] = copy[: random.randint(0, 40)]
            case 4:
                copy[at : at + 2] = random.choice((b"\0\0", b"\xff\xff", b"\0\x04", b"\0\x08"))
            case _:
                copy[at : at + random.randint(0, 8)] = random.randbytes(random.randint(0, 8))
    return bytes(copy)


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
