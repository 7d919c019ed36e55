"""Declared values as JSON and back: what our processes tell each other is a frozen dataclass.

Reading follows the declaration alone. No class is looked up by a name that was received, and nothing is called but the
constructors of the declared types, so bytes from a process that was taken over can be wrong, but not become code. A
field too many or too few and a value of another type are refused.

A dataclass is an object with its class name under `is`, which tells the arms of a union apart; bytes are Base64; enums
are their values; paths and addresses are text. `object` is any JSON value, for what has a reader of its own.

What a declaration names is looked at when a value of its class is read first, so it may name classes that its module
imports for types alone: those among the codec's `leaves` are known.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
_TEXT = (Path, IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_NAME = "is"

# How a class that is no dataclass travels: the declared type it travels as, the way there, and the way back.
Leaf = tuple[Any, Callable[[Any], object], Callable[[Any], Any]]


class Codec:
    """Writes and reads values; `leaves` are classes that it would not know."""

    def __init__(self, leaves: Mapping[type, Leaf] | None = None) -> None:
        self._leaves = leaves or {}
        self._declarations: dict[type, dict[str, Any]] = {}

    def encode(self, value: object) -> object:
        """Return the JSON value of `value`; raises TypeError for a class that it does not know."""
        if leaf := self._leaves.get(type(value)):
            return self.encode(leaf[1](value))
        match value:
            case Enum():
                return value.value
            case None | bool() | int() | float() | str():
                return value
            case bytes():
                return base64.b64encode(value).decode("ascii")
            case tuple() | list() | frozenset():
                return [self.encode(item) for item in value]
            case Mapping():
                return {str(key): self.encode(item) for key, item in value.items()}
            case _ if isinstance(value, _TEXT):
                return str(value)
            case _ if is_dataclass(value):
                found = {field.name: self.encode(getattr(value, field.name)) for field in fields(value)}
                return {_NAME: type(value).__name__, **found}
        raise TypeError(f"a {type(value).__name__} does not travel")

    def decode(self, kind: type[_T], data: object) -> _T:
        """Return the value of the declared type `kind` that `data` stands for; raises ValueError."""
        try:
            return cast(_T, self._read(kind, data))
        except RecursionError:
            raise ValueError("too deep") from None

    def _read(self, kind: Any, data: object) -> object:
        if leaf := self._leaves.get(kind) if isinstance(kind, type) else None:
            return leaf[2](self._read(leaf[0], data))
        if kind is object:
            return data
        match get_origin(kind):
            case None:
                return self._read_class(kind, data)
            case origin if origin is Union or origin is UnionType:
                return self._read_union(get_args(kind), data)
            case origin if origin is Literal:
                if not any(type(data) is type(choice) and data == choice for choice in get_args(kind)):
                    raise ValueError("not one of the choices")
                return data
            case origin if origin is tuple:
                return self._read_tuple(get_args(kind), data)
            case origin if origin is frozenset:
                return frozenset(self._read(get_args(kind)[0], item) for item in _of(list, data))
            case origin if origin is dict:
                return {key: self._read(get_args(kind)[1], item) for key, item in _of(dict, data).items()}
        raise TypeError(f"{kind} is not for messages")

    def _read_class(self, kind: type, data: object) -> object:
        if is_dataclass(kind):
            given = _of(dict, data)
            if given.get(_NAME) != kind.__name__ or given.keys() != {_NAME, *(declared := self._declared(kind))}:
                raise ValueError(f"not a {kind.__name__}")
            return kind(**{name: self._read(type_, given[name]) for name, type_ in declared.items()})
        if kind is NoneType or kind is bool or kind is int or kind is str:
            return _of(kind, data)
        if kind is float:
            return float(_of(int, data) if type(data) is int else _of(float, data))
        if kind is bytes:
            return _bytes(data)
        if kind in _TEXT:
            return kind(_of(str, data))
        if issubclass(kind, Enum):
            if type(data) is not int and type(data) is not str:
                raise ValueError(f"not a {kind.__name__}")
            return kind(data)
        raise TypeError(f"a {kind.__name__} does not travel")

    def _declared(self, kind: type) -> dict[str, Any]:
        """Return the types of a dataclass's fields."""
        if kind not in self._declarations:
            hints = get_type_hints(kind, localns={leaf.__name__: leaf for leaf in self._leaves})
            self._declarations[kind] = {field.name: hints[field.name] for field in fields(kind)}
        return self._declarations[kind]

    def _read_union(self, kinds: tuple[Any, ...], data: object) -> object:
        for kind in kinds:
            try:
                return self._read(kind, data)
            except ValueError:
                continue
        raise ValueError("none of the types that it could be")

    def _read_tuple(self, kinds: tuple[Any, ...], data: object) -> object:
        items = _of(list, data)
        if kinds[-1:] == (Ellipsis,):
            return tuple(self._read(kinds[0], item) for item in items)
        return tuple(self._read(kind, item) for kind, item in zip(kinds, items, strict=True))


def _of(kind: type[_T], data: object) -> _T:
    if type(data) is not kind:
        raise ValueError(f"not a {kind.__name__}")
    return data


def _bytes(data: object) -> bytes:
    return base64.b64decode(_of(str, data), validate=True)
