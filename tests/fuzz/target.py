"""What a fuzz target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from fuzz.damage import damaged
from ikeclient.errors import IkeclientError

QUICK = 0.05  # seconds of CPU that an input of at most 64 KiB may take
WHOLE = 2.0  # the same, for whole connections and what verifies many signatures
LARGEST = 1 << 16  # bytes of an input


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that reads what others wrote.

    `check` reads one input; what it returns, if it is a small value, tells outcomes apart. It may raise the documented
    `errors` and nothing else. `seeds` are valid inputs, and `mutate` damages one. Whole inputs are `made` from a number
    by those targets whose inputs are no bytes that one could damage; they are not grown either.
    """

    name: str
    check: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes], bytes] = damaged
    errors: tuple[type[Exception], ...] = (IkeclientError,)
    limit: float = QUICK
    made: bool = False


def generated(name: str, run: Callable[[Random], object], *, limit: float = WHOLE) -> Target:
    """Return a target that makes its own cases from random numbers; its inputs are their seeds, of eight bytes."""
    return Target(
        name=name,
        check=lambda data: run(Random(int.from_bytes(data))),
        seeds=lambda: [bytes(8)],
        mutate=lambda random, _: random.randbytes(8),
        errors=(),
        limit=limit,
        made=True,
    )
