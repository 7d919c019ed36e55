"""Declared values as JSON: what comes back is what was sent, and nothing that was not declared comes in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, Literal

import pytest

from ikeclient.ipc.typed import Codec


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    YES = "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    thing: NeverImported  # type: ignore[name-defined]  # noqa: F821  # as for types alone


class Opaque:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    flag: bool
    count: int
    ratio: float
    text: str
    number: Number
    word: Word
    choice: Literal["a", "b"]
    version: Literal[4, 6]
    place: Path
    address: IPv4Address | IPv6Address
    network: IPv6Network | None
    many: tuple[Inner | Other, ...]
    pair: tuple[int, str]
    names: frozenset[str]
    table: dict[str, int]
    plain: object
    opaque: Opaque


VALUE = Outer(
    flag=True,
    count=-3,
    ratio=30.0,
    text="\udcff",
    number=Number.ONE,
    word=Word.YES,
    choice="a",
    version=6,
    place=Path("/a/b"),
    address=ip_address("fd00::1"),
    network=ip_network("fd00::/64"),
    many=(Inner(data=b"\x00\xff"), Other(data=b"")),
    pair=(1, "x"),
    names=frozenset({"a", "b"}),
    table={"a": 1},
    plain={"any": [None, 1.5]},
    opaque=Opaque("words"),
)
CODEC = Codec({Opaque: (str, lambda opaque: opaque.text, Opaque)})


def sent(value: object = VALUE) -> dict[str, Any]:
    return json.loads(json.dumps(CODEC.encode(value)))  # type: ignore[no-any-return]


def test_what_was_sent_arrives() -> None:
    arrived = CODEC.decode(Outer, sent())
    assert arrived == VALUE
    assert [type(getattr(arrived, name)) for name in ("number", "word", "ratio")] == [Number, Word, float]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("flag", 1),
        ("count", True),
        ("count", 1.0),
        ("count", None),
        ("ratio", "1"),
        ("ratio", True),
        ("text", None),
        ("number", 2),
        ("number", True),
        ("word", "no"),
        ("word", []),
        ("choice", "c"),
        ("choice", []),
        ("version", "6"),
        ("version", 6.0),
        ("place", 1),
        ("address", "fd00::1/64"),
        ("address", 1),
        ("network", "fd00::1/64"),
        ("many", {}),
        ("many", [{"is": "Outer", "data": ""}]),
        ("many", [{"is": "Inner", "data": "###"}]),
        ("many", [{"is": "Inner", "data": "", "more": 1}]),
        ("many", [{"data": ""}]),
        ("pair", [1]),
        ("pair", [1, "x", 2]),
        ("pair", ["x", 1]),
        ("names", [[]]),
        ("table", {"a": "1"}),
        ("opaque", 7),
    ],
)
def test_what_was_not_declared_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of many kinds
        CODEC.decode(Outer, {**sent(), name: wrong})


def test_a_field_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="not a Inner"):
        CODEC.decode(Inner, {"is": "Inner"})
    with pytest.raises(ValueError, match="not a dict"):
        CODEC.decode(Inner, None)


def test_an_object_that_is_not_declared_does_not_travel() -> None:
    with pytest.raises(TypeError, match="does not travel"):
        CODEC.encode({"key": Codec()})


def test_a_declaration_may_name_a_class_that_only_the_codec_knows() -> None:
    """Its module imports the class for types alone; without a value of it, it is not looked for."""
    kind = type("NeverImported", (Opaque,), {})
    codec = Codec({kind: (str, lambda value: value.text, kind)})
    assert codec.decode(Late, codec.encode(Late(thing=kind("a")))) == Late(thing=kind("a"))
    either: Any = Late | Inner
    assert Codec().decode(either, Codec().encode(Inner(data=b"a"))) == Inner(data=b"a")
    with pytest.raises(ValueError, match="none of the types"):
        Codec().decode(either, {"is": "Other", "data": ""})
