"""A dataclass that is written later is the standard library's in all that can be seen of it."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from ikeclient import lazy_dataclass

Decorator = Callable[..., Any]


def point(dataclass: Decorator, **options: bool) -> Any:
    @dataclass(slots=True, **options)
    class Point:
        """A place."""

        AXES: ClassVar = 2
        x: int
        y: int = 7
        marks: list[str] = field(default_factory=list, repr=False, compare=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("left of everything")

        @property
        def sum(self) -> int:
            return self.x + self.y

    return Point


def both(**options: bool) -> list[Any]:
    return [point(made, **options) for made in (dataclasses.dataclass, lazy_dataclass.dataclass)]


OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"frozen": True, "kw_only": True},
    {"eq": False},
    {"frozen": True, "eq": False},
]


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except Exception as error:
        return type(error), str(error).replace("__main__", "")


def assign(value: Any, name: str) -> None:
    setattr(value, name, 3)


def delete(value: Any) -> None:
    del value.x


WORK: list[Callable[[Any], object]] = [  # each on a class that nothing was asked before
    lambda kind: kind(x=1).sum,
    lambda kind: kind(1, 2).y,
    lambda kind: kind(),
    lambda kind: kind(x=1, z=2),
    lambda kind: kind(x=-1),
    lambda kind: repr(kind(x=1)),
    lambda kind: kind(x=1) == kind(x=1, marks=["a"]),
    lambda kind: kind(x=1) == kind(x=2),
    lambda kind: kind(x=1) == 1,
    lambda kind: len({kind(x=1), kind(x=1)}),
    lambda kind: kind(x=1).marks is kind(x=1).marks,
    lambda kind: [(each.name, each.kw_only, each.repr) for each in dataclasses.fields(kind)],
    lambda kind: [each.name for each in dataclasses.fields(kind(x=1))],
    lambda kind: dataclasses.replace(kind(x=1), y=2).sum,
    lambda kind: dataclasses.is_dataclass(kind),
    lambda kind: copy.deepcopy(kind(x=1, marks=["a"])).marks,
    lambda kind: dataclasses.asdict(kind(x=1)),
    lambda kind: kind.__match_args__,
    lambda kind: kind.__slots__,
    lambda kind: (kind.__name__, kind.__doc__, kind.__module__, kind.AXES),
    lambda kind: assign(kind(x=1), "x"),
    lambda kind: delete(kind(x=1)),
    lambda kind: hasattr(kind(x=1), "__dict__"),
    lambda kind: [getattr(kind.__dataclass_params__, name) for name in ("frozen", "init", "repr", "eq")],
    lambda kind: (kind.__repr__(kind(x=1)), kind(x=1).__eq__(kind(x=1))),  # looked at by name
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_behaves_as_the_standard_librarys_whatever_is_asked_first(options: dict[str, bool]) -> None:
    for work in WORK:
        theirs, ours = (outcome(lambda kind=kind, work=work: work(kind)) for kind in both(**options))  # type: ignore[misc]
        assert ours == theirs


def test_a_frozen_value_takes_no_other_attribute() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        assign(point(lazy_dataclass.dataclass, frozen=True)(x=1), "other")


def test_a_class_inherits_fields_and_methods_from_one_that_is_not_written_yet() -> None:
    @lazy_dataclass.dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        a: int
        b: int = 2

    @lazy_dataclass.dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        c: int

    class Plain(Derived):
        pass

    assert [each.name for each in dataclasses.fields(Derived)] == ["a", "b", "c"]
    assert repr(Derived(a=1, c=3)).endswith("Derived(a=1, b=2, c=3)")
    assert Plain(a=1, c=3).c == 3
    assert Base(a=1) == Base(a=1) != Derived(a=1, c=3)  # type: ignore[comparison-overlap]


def test_what_a_class_says_itself_stays() -> None:
    @lazy_dataclass.dataclass(frozen=True, slots=True)
    class Named:
        name: str

        def __repr__(self) -> str:
            return f"<{self.name}>"

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named)

        __hash__ = None  # type: ignore[assignment]

    assert repr(Named("a")) == "<a>"
    assert Named("a") == Named("b")


def test_what_nobody_looks_at_is_not_written() -> None:
    """Making a value needs neither its text nor a comparison."""
    kind = point(lazy_dataclass.dataclass, frozen=True)
    assert kind(x=1).y == 7
    assert [name for name in ("__init__", "__repr__", "__eq__", "__hash__") if callable(kind.__dict__[name])] == [
        "__init__"
    ]
    assert kind(x=1) == kind(x=1)
    assert callable(kind.__dict__["__hash__"])
    assert not callable(kind.__dict__["__repr__"])


def test_slots_are_not_optional() -> None:
    with pytest.raises(TypeError, match="slots"):
        point(lambda slots, **options: lazy_dataclass.dataclass(slots=False, **options))  # type: ignore[call-overload]


def test_what_a_tunnel_consists_of_is_loaded_without_writing_most_of_it() -> None:
    program = (
        "import dataclasses\n"
        "written, process = [], dataclasses._process_class\n"
        "dataclasses._process_class = lambda cls, *rest: written.append(cls) or process(cls, *rest)\n"
        "import ikeclient.process.run\n"
        "print(len([cls for cls in written if cls.__module__.startswith('ikeclient.')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert 0 < int(done.stdout) <= 40
