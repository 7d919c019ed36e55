"""Several runs as one: what was reached on each occasion, and the median."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench.report import Document
from bench.targets import ratios
from bench.world import Figures


def medians(rounds: Mapping[str, Sequence[Figures]]) -> dict[str, Figures]:
    """The median of each figure over the rounds."""
    return {peer: _median(runs) for peer, runs in rounds.items()}


def _median(runs: Iterable[Figures]) -> Figures:
    runs = list(runs)
    keys = sorted({key for figures in runs for key in figures})
    return {key: statistics.median(f[key] for f in runs if key in f) for key in keys}


def merge(documents: Sequence[Document]) -> Document:
    """One document of several runs, the last of which says what there is only once.

    A ratio is that of each run, since figures of different runs do not compare; then the median of them.
    """
    if not documents:
        raise ValueError("no run")
    last = documents[-1]
    rounds: dict[str, list[Figures]] = {}
    for document in documents:
        for peer, runs in document["rounds"].items():
            rounds.setdefault(peer, []).extend(runs)
    merged = last | {"rounds": rounds, "medians": medians(rounds), "occasions": [d["machine"] for d in documents]}
    each = [ratios(medians(document["rounds"]), document.get("curve", ())) for document in documents]
    merged["ratios"] = [between(rows) for rows in zip(*each, strict=True)]
    if curves := [document["curve"] for document in documents if "curve" in document]:
        merged["curve"] = [_median(rows) for rows in zip(*curves, strict=True)]
    if ways := [document["proxy"] for document in documents if "proxy" in document]:
        merged["proxy"] = {way: _median(run[way] for run in ways) for way in ways[-1]}
    for document in documents:
        if "soak" in document:
            merged["soak"] = document["soak"]
    return merged


def between(rows: Sequence[Document]) -> Document:
    """One row of targets from that of each occasion."""
    reached = [row["reached"] for row in rows]
    known = [value for value in reached if value is not None]
    return rows[0] | {"occasions": reached, "reached": statistics.median(known) if known else None}
