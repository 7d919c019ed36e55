"""How fast tunnels carry packets, from one look at their counters to the next, and a picture of the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, TextIO

from ikeclient.cli.view.terminal import symbol
from ikeclient.lazy_dataclass import dataclass

if TYPE_CHECKING:
    from ikeclient.control.status import TunnelStatus

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-=+*#@"
_KEPT = 200  # looks, the widest picture

Counters = dict[str, tuple[int, int]]  # bytes in and out, by the SPI of what is received


@dataclass(slots=True)
class Rate:
    """Bytes a second of one tunnel: now, and in the looks before, the latest last."""

    inward: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    outward: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))


class Rates:
    """The rates of all tunnels; `look` takes what they tell at a time, in seconds."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, Counters]] = {}
        self._rates: dict[str, Rate] = {}

    def look(self, tunnels: Iterable[TunnelStatus], now: float) -> None:
        """Compare counters with those of the last look. A Child SA that is new since then has begun at zero."""
        for tunnel in tunnels:
            counters = {
                str(child.spi_in): (child.counters.bytes_in, child.counters.bytes_out) for child in tunnel.children
            }
            last = self._last.get(tunnel.name)
            self._last[tunnel.name] = (now, counters)
            if last is None or now <= last[0]:
                continue
            rate = self._rates.setdefault(tunnel.name, Rate())
            for way, into in ((0, rate.inward), (1, rate.outward)):
                carried = sum(max(0, values[way] - last[1].get(spi, (0, 0))[way]) for spi, values in counters.items())
                into.append(carried / (now - last[0]))

    def of(self, name: str) -> Rate | None:
        """Return the rates of a tunnel; None before the second look."""
        return self._rates.get(name)


def sparkline(values: Sequence[float], columns: int, stream: TextIO | None) -> str:
    """Return the last values as bars, the highest of them as the full height; empty without values."""
    bars = symbol(_BARS, _PLAIN, stream)
    shown = list(values)[-columns:]
    most = max(shown, default=0.0)
    if most <= 0:
        return bars[0] * len(shown)
    return "".join(bars[round(value / most * (len(bars) - 1))] for value in shown)
