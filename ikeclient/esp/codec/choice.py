"""Segmentation and coalescing, by the compiled module where it was built and by its plain twin where not.

`ACTIVE` is "compiled" or "plain". What the functions do is documented in `offload_plain` and `offload_merge`.
"""

from __future__ import annotations

from typing import Literal

ACTIVE: Literal["compiled", "plain"]

try:
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

    ACTIVE = "compiled"
except ImportError:
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

    ACTIVE = "plain"

__all__ = ["ACTIVE", "MAXIMUM_SLOTS", "VNET_HEADER", "coalesce", "collect", "describe", "examine", "review", "segment"]
__all__ += ["stamp", "survey"]


def describe() -> str:
    """One line for people: which codec carries packets, and what to do about a slow one."""
    if ACTIVE == "compiled":
        return "compiled codec"
    return "plain Python codec (slower; the compiled one is built at installation where there is a C compiler)"
