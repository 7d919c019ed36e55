"""`dataclass` as the standard library's, whose methods are written when the first of them is needed.

The standard library writes the methods of a dataclass as source text and compiles that while the module is imported. We
have hundreds of them, of which one tunnel uses a part: to write all was two fifths of the time that a tunnel's modules
took to load, and each takes memory for good. So a class is given its slots at once, and in place of each method what
has the standard library write it when it is first looked at: most values are made, and never compared or printed.
`dataclasses.fields`, `replace` and `is_dataclass` work as ever.
"""

from __future__ import annotations

import dataclasses
from inspect import get_annotations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen=False, eq=True, kw_only=False, slots):
        """Make a class a dataclass with slots; see the standard library for the rest."""
        if not slots:
            raise TypeError("without slots a class is the standard library's own business")
        return lambda cls: _declare(cls, {"frozen": frozen, "eq": eq, "kw_only": kw_only})


__all__ = ["dataclass"]

_TABLES = ("__dataclass_fields__", "__dataclass_params__", "__match_args__")

# What is written together, and the options of the standard library that leave out all else.
_PARTS: tuple[tuple[tuple[str, ...], dict[str, bool]], ...] = (
    (("__init__", *_TABLES), {"repr": False, "eq": False}),
    (("__repr__",), {"init": False, "eq": False}),
    (("__eq__", "__hash__"), {"init": False, "repr": False}),
)


def _declare(cls: type, options: dict[str, bool]) -> type:
    """Return `cls` with slots for its fields, and methods that are written later."""
    names = [name for name, kind in get_annotations(cls).items() if "ClassVar" not in str(kind)]
    inherited = {slot for base in cls.__mro__[1:] for slot in base.__dict__.get("__slots__", ())}
    body = {name: value for name, value in cls.__dict__.items() if name not in ("__dict__", "__weakref__")}
    body["__qualname__"] = cls.__qualname__
    missing = [name for name in _methods(options) if name not in body or body[name] is None]
    slotted = {name: value for name, value in body.items() if name not in names}
    slotted["__slots__"] = tuple(name for name in names if name not in inherited)
    later = _Later(cls, body, options)
    slotted |= {name: _Unwritten(later, name) for name in (*missing, *_TABLES)}
    if options["frozen"]:
        slotted |= {"__setattr__": _refuse_to_assign, "__delattr__": _refuse_to_delete}
        for name, method in (("__getstate__", _state), ("__setstate__", _restore)):
            slotted.setdefault(name, method)
    elif options["eq"]:
        slotted.setdefault("__hash__", None)
    later.cls = type(cls)(cls.__name__, cls.__bases__, slotted)
    return later.cls


def _methods(options: dict[str, bool]) -> list[str]:
    compared = ["__eq__"] if options["eq"] else []
    hashed = ["__hash__"] if options["eq"] and options["frozen"] else []
    return ["__init__", "__repr__", *compared, *hashed]


class _Later:
    """What is still to be written for the class `cls`."""

    def __init__(self, cls: type, body: dict[str, Any], options: dict[str, bool]) -> None:
        self.cls = cls
        self._body = body
        self._options = options

    def write(self, name: str) -> Any:
        """Give the class what the standard library gives one like it: `name` and its part; returns `name`."""
        part, only = next(each for each in _PARTS if name in each[0])
        like = type(self.cls)(self.cls.__name__, self.cls.__bases__, dict(self._body))
        made: Any = dataclasses.dataclass(**{**self._options, **only})(like)
        made.__dataclass_params__.repr, made.__dataclass_params__.eq = True, self._options["eq"]  # of the whole
        for each in part:
            if each in _TABLES or each in _methods(self._options):
                setattr(self.cls, each, made.__dict__[each])
        return self.cls.__dict__[name]


class _Unwritten:
    """A method or a table of a class that is written when it is first looked at."""

    __slots__ = ("_later", "_name")

    def __init__(self, later: _Later, name: str) -> None:
        self._later = later
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        written = self._later.write(self._name)
        return written if self._name in _TABLES else written.__get__(instance, owner)


def _refuse_to_assign(_: object, name: str, __: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(value: Any) -> list[object]:
    return [getattr(value, each.name) for each in dataclasses.fields(value)]


def _restore(value: Any, state: list[object]) -> None:
    for each, content in zip(dataclasses.fields(value), state, strict=True):
        object.__setattr__(value, each.name, content)
