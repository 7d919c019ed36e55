"""The result of `--stack` as text, and as a section of BENCHMARKS.md."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.occasions import between, medians
from bench.report import Document, number, plain, ratio_rows, table
from bench.stack import NOTES, PATHS, TARGETS, WAYS
from bench.targets import reached

TITLE = "## Without a device"
_FOUND = re.compile(rf"^{TITLE}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL).search
_COLUMNS: tuple[tuple[str, str], ...] = (
    *((f"one_{way}", way) for way in WAYS),
    *((f"one_{way}_cpu", f"CPU {way}") for way in WAYS),
    *((f"one_{way}_all_cpu", f"all {way}") for way in WAYS),
    *((f"many_{way}", f"x64 {way}") for way in WAYS),
    *((f"proxy_{way}", f"proxy {way}") for way in WAYS),
    *((f"proxy_{way}_cpu", f"proxy CPU {way}") for way in WAYS),
    ("idle_mib", "idle MiB"),
    ("per_second", "opened/s"),
)


def merge(documents: Sequence[Document]) -> Document:
    """One document of several runs; see `occasions.merge`."""
    rounds: dict[str, list[dict[str, float]]] = {}
    for document in documents:
        for client, runs in document["rounds"].items():
            rounds.setdefault(client, []).extend(runs)
    failed = {name: reason for document in documents for name, reason in document["failed"].items()}
    each = [reached(medians(document["rounds"]), TARGETS) for document in documents]
    return documents[-1] | {
        "rounds": rounds,
        "failed": failed,
        "medians": medians(rounds),
        "occasions": [document["machine"] for document in documents],
        "ratios": [between(rows) for rows in zip(*each, strict=True)],
    }


def _speeds(document: Document) -> list[list[str]]:
    rows = [["", *(name for _, name in _COLUMNS)]]
    for client, figures in document["medians"].items():
        rows.append([client, *(number(figures.get(key)) for key, _ in _COLUMNS)])
    return rows


def _paths(document: Document) -> list[list[str]]:
    rows = [["", *(f"{name.replace('_', ' ')} {way}" for name in PATHS for way in WAYS), "path busy"]]
    for client, figures in document["medians"].items():
        busy = [value for key, value in figures.items() if key.endswith("_path_busy")]
        speeds = (number(figures.get(f"{name}_{way}")) for name in PATHS for way in WAYS)
        rows.append([client, *speeds, number(max(busy)) if busy else "-"])
    return rows


def _failed(document: Document) -> list[str]:
    return [f"{name}: {reason}" for name, reason in document["failed"].items()]


def text(document: Document) -> str:
    """For a terminal."""
    parts = [plain(_speeds(document)), plain(_paths(document)), plain(ratio_rows(document))]
    return "\n\n".join([*parts, *(f"FAILED: {line}" for line in _failed(document)), NOTES[-1]])


def section(document: Document) -> str:
    """The section of BENCHMARKS.md."""
    occasions = document["occasions"]
    runs = max((len(runs) for runs in document["rounds"].values()), default=0)
    where = "; ".join(f"{machine['date']}, {machine['cpu']}, commit {machine['commit']}" for machine in occasions)
    parts = [
        TITLE,
        f"Made by `scripts/bench --stack --markdown BENCHMARKS.md`: {where}. Medians of {runs} runs in turn of "
        f"{document['seconds']:g} s each.",
        *NOTES,
        "Mbit/s that arrived and CPU seconds per GB; over paths, Mbit/s and how busy the program was that makes them.",
        table(_speeds(document)),
        table(_paths(document)),
        table(ratio_rows(document)),
        *(f"- not measured: {line}" for line in _failed(document)),
    ]
    return "\n\n".join(parts) + "\n"


def replaced(written: str, document: Document) -> str:
    """BENCHMARKS.md with this section new, in its place or at the end."""
    found = _FOUND(written)
    if found is None:
        return f"{written.rstrip()}\n\n{section(document)}" if written else section(document)
    following = written[found.end() :]
    return written[: found.start()] + section(document) + ("\n" + following if following else "")


def kept(written: str) -> str:
    """The section as it was written before, or nothing."""
    found = _FOUND(written)
    return found[0].rstrip() + "\n" if found else ""
