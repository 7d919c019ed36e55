"""Plain values of the command line, without pydantic.

Newer versions of typer load it to make a string out of a string: a tenth of a second for each command, and memory for
as long as a tunnel runs. What is not plain, or not right, still goes that way.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, get_args, get_origin

_UNKNOWN = object()


class _Plain:
    """Stands in for what makes the values of one parameter."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of a parameter; raises typer's errors."""
        multiple = param.multiple or param.nargs == -1
        if value is None:
            return () if multiple else None
        plain = _plain(value, param.type_descriptor.annotation, param.type_descriptor.parameter_info)
        if plain is not _UNKNOWN:
            return plain
        forget(param)
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def forget(param: Any) -> None:
    """Let typer make the values of a parameter."""
    param._runtime_param = None


def make_plain(parameters: Iterable[Any]) -> None:
    """Make the plain values of these parameters without pydantic; older versions of typer never load it."""
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = _Plain()


def _plain(value: Any, kind: Any, info: Any) -> Any:
    if info.parser is not None:
        try:
            return info.parser(value)
        except Exception:  # which typer tells with the name of the parameter
            return _UNKNOWN
    if kind is str and type(value) is str:
        return value
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next((member for member in kind if value in (member, member.value)), _UNKNOWN)
    if kind is int and type(value) is int and info.min is None and info.max is None:
        return value
    if get_origin(kind) is list and get_args(kind) == (str,) and isinstance(value, list | tuple):
        return list(value) if all(type(item) is str for item in value) else _UNKNOWN
    return _UNKNOWN
