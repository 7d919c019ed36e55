"""Rates from counters, and their picture."""

from __future__ import annotations

import io

import pytest
from cli_example import example

from ikeclient.cli.view.rates import Rates, sparkline
from ikeclient.control.status import TunnelStatus


def tunnel(*children: tuple[str, int, int]) -> TunnelStatus:
    child = example()["children"][0]
    entries = [{**child, "spi_in": spi, "bytes_in": inward, "bytes_out": outward} for spi, inward, outward in children]
    return TunnelStatus.from_json(example(children=entries))


def test_rates_go_on_over_a_rekey() -> None:
    """The successor's counters begin at zero; the old one's still count while it is there."""
    rates = Rates()
    for now, children in (
        (10.0, [("a", 1000, 50)]),
        (12.0, [("a", 3000, 50)]),
        (13.0, [("a", 3500, 50), ("b", 500, 20)]),
        (14.0, [("b", 700, 20)]),
    ):
        rates.look([tunnel(*children)], now)
    rate = rates.of("work")
    assert rate is not None
    assert list(rate.inward) == [1000.0, 1000.0, 200.0]
    assert list(rate.outward) == [0.0, 20.0, 0.0]


def test_one_look_is_no_rate() -> None:
    rates = Rates()
    rates.look([tunnel(("a", 1, 1))], 1.0)
    assert rates.of("work") is None


@pytest.mark.parametrize(
    ("values", "columns", "bars"),
    [([], 5, ""), ([0, 0], 5, "__"), ([0, 7], 5, "_@"), ([9, 0, 1, 7], 3, "_.@"), ([3], 5, "@")],
)
def test_the_picture_is_as_high_as_its_highest_value(values: list[float], columns: int, bars: str) -> None:
    assert sparkline(values, columns, io.TextIOWrapper(io.BytesIO(), "ascii")) == bars
