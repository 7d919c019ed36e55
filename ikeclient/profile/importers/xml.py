"""XML from strangers as a small tree: no document type, no entities of its own, bounded depth and size."""

from __future__ import annotations

from dataclasses import field
from typing import NoReturn
from xml.parsers import expat

from ikeclient.errors import ProfileError
from ikeclient.lazy_dataclass import dataclass

MAX_DEPTH = 64
MAX_ELEMENTS = 20_000


@dataclass(slots=True, kw_only=True)
class Element:
    """An element: its name without a namespace, its text and its children."""

    name: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        """The children of that name, whatever its case."""
        return [child for child in self.children if child.name.lower() == name.lower()]

    def find(self, *path: str) -> Element | None:
        """The first element along a path of names."""
        here: Element | None = self
        for name in path:
            here = next(iter(here.all(name)), None) if here is not None else None
        return here

    def value(self, *path: str) -> str:
        """The text of the element along a path of names, empty if there is none."""
        found = self.find(*path)
        return found.text.strip() if found is not None else ""

    def everywhere(self, name: str) -> list[Element]:
        """All elements of that name below this one."""
        found: list[Element] = []
        waiting = self.children[::-1]
        while waiting:
            each = waiting.pop()
            if each.name.lower() == name.lower():
                found.append(each)
            waiting += reversed(each.children)
        return found


def parse_xml(data: bytes) -> Element:
    """The root element. Raises ProfileError."""
    root = Element(name="")
    stack = [root]
    count = 0

    def start(name: str, _attributes: object) -> None:
        nonlocal count
        count += 1
        if len(stack) > MAX_DEPTH or count > MAX_ELEMENTS:
            raise ProfileError("this XML is nested too deeply or too long")
        element = Element(name=name.rpartition(":")[2])
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def text(characters: str) -> None:
        stack[-1].text += characters

    def refuse(*_arguments: object) -> NoReturn:
        raise ProfileError("this XML declares a document type, which no profile needs")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise ProfileError("this is not well-formed XML") from None
    if len(root.children) != 1:
        raise ProfileError("this is not well-formed XML")
    return root.children[0]
