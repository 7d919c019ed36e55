"""Frozen dataclasses as JSON objects: written by one process, read by another that trusts neither shape nor size.

A field is defined once: its name and type are the attribute's, and `item` says what it means. From that come the JSON,
its schema and the documentation. What is missing or has another type is read as the field's default, since the other
end may be an earlier or a later version (`ipc.typed` is the strict kind, for processes that belong together).
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from typing import Any, Self, get_args, get_origin, get_type_hints

MAXIMUM_NUMBER = 2**64  # beyond which no counter of ours goes
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def item(about: str, default: Any = None, *, dropped: str | None = None, flat: bool = False) -> Any:
    """Define a field of a record: what it means and its value while nothing is known.

    `dropped` makes it a counter of packets that were dropped, and says of which kind they were. The keys of a `flat`
    record stand among those of the record that holds it.
    """
    return dataclasses.field(default=default, metadata={"about": about, "dropped": dropped, "flat": flat})


class Record:
    """Base of dataclasses whose fields are JSON values, tuples of text, records, or tuples of records."""

    __slots__ = ()

    def to_json(self) -> dict[str, object]:
        """Return the JSON object, keys in the order of the fields."""
        document: dict[str, object] = {}
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if each.metadata["flat"]:
                document |= value.to_json()
            else:
                document[each.name] = _plain(value)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Self:
        """Read a JSON object; unknown keys are ignored. Never raises."""
        values = {}
        for each, kind in _fields(cls):
            source = document if each.metadata["flat"] else document.get(each.name)
            values[each.name] = _read(kind, source, each.default)
        return cls(**values)

    @classmethod
    def schema(cls) -> dict[str, object]:
        """Return the JSON Schema of the object."""
        properties: dict[str, object] = {}
        for each, kind in _fields(cls):
            if each.metadata["flat"]:
                properties |= kind.schema()["properties"]
            else:
                properties[each.name] = {"description": each.metadata["about"], **_schema(kind)}
        return {"type": "object", "required": list(properties), "properties": properties}

    @classmethod
    def reference(cls, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yield the path of every key, as `status --fields` takes it, with what it means."""
        for each, kind in _fields(cls):
            inner = _record_in(kind)
            if not each.metadata["flat"]:
                yield prefix + each.name, each.metadata["about"]
            if inner is not None:
                yield from inner.reference(prefix if each.metadata["flat"] else f"{prefix}{each.name}.")

    def dropped(self) -> Iterator[tuple[int, str]]:
        """Yield the counters of dropped packets that are not zero, each with the kind of packets."""
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if each.metadata["flat"]:
                yield from value.dropped()
            elif each.metadata["dropped"] and value:
                yield value, each.metadata["dropped"]


def _fields(cls: type[Any]) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    """Return the fields of a record with their types."""
    hints = get_type_hints(cls)
    return tuple((each, hints[each.name]) for each in dataclasses.fields(cls))


def _plain(value: object) -> object:
    if isinstance(value, Record):
        return value.to_json()
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _read(kind: Any, value: object, default: object) -> object:
    """Return `value` as one of type `kind`, or `default` if it is none."""
    if isinstance(kind, types.UnionType):
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        found = (_read(inner, each, None) for each in value) if isinstance(value, list) else ()
        return tuple(each for each in found if each is not None)
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json(value) if isinstance(value, Mapping) else default
    if kind is int:
        return value if type(value) is int and abs(value) < MAXIMUM_NUMBER else default
    if kind is float:
        return float(value) if type(value) in (int, float) and abs(value) < MAXIMUM_NUMBER else default  # type: ignore
    return value if isinstance(value, kind) else default


def _schema(kind: Any) -> dict[str, object]:
    if isinstance(kind, types.UnionType):
        return {"anyOf": [_schema(get_args(kind)[0]), {"type": "null"}]}
    if get_origin(kind) is tuple:
        return {"type": "array", "items": _schema(get_args(kind)[0])}
    if (record := _record_in(kind)) is not None:
        return record.schema()
    return {"type": _JSON_TYPES[kind]}


def _record_in(kind: Any) -> type[Record] | None:
    """Return the record that a field holds, or holds many of."""
    for each in (kind, *get_args(kind)):
        if isinstance(each, type) and issubclass(each, Record):
            return each
    return None
