"""Segmentation and coalescing, by the compiled module if it was built, and by its plain twin if not.

A compiled module that was made from other sources than this package has might miss checks that came later. It is not
used. What the functions do is documented in `plain` and `merge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ikeclient.esp.codec._offload import Filter

# A digest of `_offload.pyx` and the files it includes, which setup.py puts into the compiled module as well.
SOURCES = "d7269b5cdcba6db0"

ACTIVE: Literal["compiled", "plain"]
STALE = False  # whether there is a compiled module that was made from other sources

try:
    from ikeclient.esp.codec import _offload
except ImportError:
    ACTIVE = "plain"
else:
    STALE = getattr(_offload, "SOURCES", None) != SOURCES
    ACTIVE = "plain" if STALE else "compiled"

if ACTIVE == "compiled":
    from ikeclient.esp.codec._offload import (
        MAXIMUM_SLOTS,
        VNET_HEADER,
        coalesce,
        collect,
        examine,
        review,
        segment,
        stamp,
        survey,
    )
else:
    from ikeclient.esp.codec.plain import (
        MAXIMUM_SLOTS,
        VNET_HEADER,
        coalesce,
        collect,
        examine,
        review,
        segment,
        stamp,
        survey,
    )

__all__ = ["ACTIVE", "MAXIMUM_SLOTS", "SOURCES", "STALE", "VNET_HEADER", "coalesce", "collect", "compiled_filter"]
__all__ += ["describe", "examine", "review", "segment", "stamp", "survey"]


def compiled_filter(*parts: bytes) -> Filter | None:
    """A filter of the compiled module, which documents `parts`; None without one."""
    if ACTIVE != "compiled":
        return None
    from ikeclient.esp.codec._offload import Filter

    return Filter(*parts)


def describe() -> str:
    """One line for people: which codec carries packets, and what to do about a slow one."""
    if ACTIVE == "compiled":
        return "compiled codec"
    if STALE:
        return "plain Python codec (slower; the compiled one was made from other sources than this version)"
    return "plain Python codec (slower; the compiled one is built at installation where there is a C compiler)"
