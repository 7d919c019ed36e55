"""What is answered to questions about the inside of a tunnel: echoes and names."""

from __future__ import annotations

from ikeclient.control.record import Record, item
from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PingAnswer(Record):
    """What came of one echo request."""

    rtt_ms: float | None = item("milliseconds until the answer; null if there was none")
    error: str | None = item("why there is none, if that was told; null if nothing came")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveAnswer(Record):
    """What came of one name."""

    name: str = item("the name that was asked for", "?")
    addresses: tuple[str, ...] = item("its addresses", ())
    error: str | None = item("why there are none")
