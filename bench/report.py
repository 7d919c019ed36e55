"""The result of a run as text for a terminal, and as the Markdown of BENCHMARKS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.targets import CONNECTED_35, OURS_35, met

Document = dict[str, Any]

COLUMNS: tuple[tuple[str, str], ...] = (
    ("tcp_up", "up"),
    ("tcp_down", "down"),
    ("tcp4_up", "up x4"),
    ("tcp4_down", "down x4"),
    ("tcp_both", "both"),
    ("udp_flood", "UDP"),
    ("udp64_kpps", "64 B kpps"),
    ("ping_ms", "ping ms"),
    ("ping_loaded_ms", "loaded"),
    ("tcp_up_resent_per_gb", "resent"),
    ("tcp_up_client_cpu_s_per_gb", "CPU up"),
    ("tcp_down_client_cpu_s_per_gb", "CPU down"),
    ("client_mib", "MiB"),
    ("pss_mib", "PSS"),
    ("wakeups_min", "wakeups"),
    ("connect_s", "connect"),
    ("detach_s", "detach"),
)
_VERDICTS = {True: "met", False: "MISSED", None: "not measured"}


def number(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _speeds(document: Document) -> list[list[str]]:
    rows = [["", *(name for _, name in COLUMNS)]]
    for peer, figures in document["medians"].items():
        rows.append([peer, *(number(figures.get(key)) for key, _ in COLUMNS)])
    return rows


def ratio_rows(document: Document) -> list[list[str]]:
    """The targets, with what was reached on each occasion."""
    several = len(document["occasions"]) > 1
    names = [f"occasion {n}" for n in range(1, len(document["occasions"]) + 1)] if several else []
    rows = [["figure", *names, "median" if several else "reached", "target", ""]]
    for row in document["ratios"]:
        each = map(number, row["occasions"]) if several else ()
        wanted = "-" if row["target"] is None else f"{row['sign']} {row['target']:g}"
        reached = row["reached"]
        verdict = "" if wanted == "-" and reached is not None else _VERDICTS[met(reached, row["sign"], row["target"])]
        rows.append([row["figure"], *each, number(reached), wanted, verdict])
    return rows


def _curve(document: Document) -> list[list[str]]:
    rows = [["inner packets", "flows", "SAs", "Mbit/s", "sender us", "kernel", "receiver us", "kernel"]]
    for row in document.get("curve", ()):
        kind = "TCP" if row["tcp"] else "UDP"
        ends = [f"{end}_{part}_us_per_packet" for end in ("sender", "receiver") for part in ("cpu", "kernel")]
        cells = (row["mbit_s"], *(row[key] for key in ends))
        counts = [f"{row['flows']:.0f}", f"{row.get('sas', 1):.0f}"]
        rows.append([f"{kind}, {row['inner_bytes']:.0f} bytes", *counts, *map(number, cells)])
    return rows


_SOAK = (("down", "direction"), ("mbit_s", "Mbit/s"), ("ping_ms", "ping ms"), ("ping_lost", "pings lost"))
_SOAK += (("client_mib", "MiB"), ("child_rekeys", "child rekeys"), ("ike_rekeys", "IKE rekeys"))
_SOAK += (("reconnects", "reconnects"),)


def _soak(soak: Document) -> list[list[str]]:
    keys = [(key, name) for key, name in _SOAK if any(key in part for part in soak["parts"])]
    rows = [["part", *(name for _, name in keys)]]
    for n, part in enumerate(soak["parts"], 1):
        way = "down" if part["down"] else "up"
        rows.append([str(n), *(way if key == "down" else number(part.get(key)) for key, _ in keys)])
    return rows


def _ways(document: Document) -> list[list[str]]:
    keys = list(dict.fromkeys(key for figures in document["proxy"].values() for key in figures))
    rows = [["way", *(key.replace("_", " ") for key in keys)]]
    return rows + [[way, *(number(f.get(key)) for key in keys)] for way, f in document["proxy"].items()]


def plain(rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _words(verdict: Document) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in verdict.items())


def text(document: Document) -> str:
    """For a terminal."""
    parts = [plain(_speeds(document)), plain(ratio_rows(document))]
    if "curve" in document:
        parts.append(plain(_curve(document)))
    for name, soak in document.get("soak", {}).items():
        parts += [f"soak, {name}", plain(_soak(soak)), _words(soak["verdict"])]
    if "proxy" in document:
        parts.append(plain(_ways(document)))
    return "\n\n".join(parts)


def sentence(document: Document) -> str:
    """What the README says about speed."""
    found = document["medians"]
    need = ("ours", "wireguard-go", "ours-strongswan", OURS_35, CONNECTED_35)
    if any(name not in found for name in need):
        return "No sentence for the README: it takes " + ", ".join(need) + "."
    versions = [str(machine.get("cipher", "")).partition(" ")[2].partition(" ")[0] for machine in document["occasions"]]
    ours, theirs, connected, ours_35, connected_35 = (found[name] for name in need)

    def gigabits(figures: Document, *names: str) -> str:
        return " and ".join(f"{figures[name] / 1000:.1f}" for name in names)

    def cost(figures: Document) -> str:
        return " and ".join(f"{figures[f'tcp_{way}_client_cpu_s_per_gb']:.1f}" for way in ("up", "down"))

    both = ("tcp_up", "tcp_down")
    return (
        f"On {document['machine']['cpu']}, with both ends on it, one TCP stream through two of our ends carries "
        f"{gigabits(ours, *both)} Gbit/s up and down with OpenSSL {versions[-1]}, {gigabits(ours_35, *both)} with "
        f"OpenSSL 3.5, where wireguard-go carries {gigabits(theirs, *both)}. A gigabyte through a strongSwan gateway "
        f"takes the client {cost(connected)} seconds of CPU up and down, {cost(connected_35)} with OpenSSL 3.5. An "
        f"idle ping takes {ours['ping_ms']:.2f} ms, wireguard-go's {theirs['ping_ms']:.2f}. All figures: "
        "[BENCHMARKS.md](BENCHMARKS.md)."
    )


def markdown(document: Document) -> str:
    """BENCHMARKS.md."""
    return "\n\n".join(_sections(document)) + "\n"


def _sections(document: Document) -> Iterable[str]:
    occasions = document["occasions"]
    rounds = max((len(runs) for runs in document["rounds"].values()), default=0)
    yield "# Benchmarks"
    yield (
        "Made by `scripts/bench --markdown BENCHMARKS.md`. Two network namespaces joined by a veth pair, both ends on "
        "one machine; figures drift from run to run and from machine to machine, so compare inside one run only."
    )
    keys = list(dict.fromkeys(key for machine in occasions for key in machine))
    rows = [[key.replace("_", " "), *(str(machine.get(key, "-")) for machine in occasions)] for key in keys]
    yield table([["", *("" for _ in occasions)], *rows])
    several = f", on {len(occasions)} occasions" if len(occasions) > 1 else ""
    yield f"Medians of {rounds} alternating runs of {document['seconds']:g} s each{several}."
    yield "## Throughput, latency, cost"
    yield (
        "Mbit/s that arrived; segments per GB that TCP sent again, up; CPU seconds per GB of the client's process; "
        "both directions at once; thousands of 64-byte packets a second; resident memory of the tunnel's process, "
        "and of all of them (PSS); wakeups a minute of an idle tunnel; seconds to connect, and of `connect --detach`."
    )
    yield table(_speeds(document))
    yield "\n".join(f"- {name}: {words}" for name, words in document.get("peers", {}).items())
    if document["missing"]:
        yield "Missing: " + "; ".join(f"{name}, {reason}" for name, reason in document["missing"].items())
    yield "## Targets"
    if several:
        yield "Each figure is a ratio inside one run, or a value of it; the median of the occasions counts."
    yield table(ratio_rows(document))
    if "curve" in document:
        yield "## What a packet costs"
        yield "Our engine at both ends: CPU microseconds per inner packet of either process, and those in the kernel."
        yield table(_curve(document))
    if "proxy" in document:
        yield "## The same download three ways"
        yield "Through one strongSwan gateway: `connect`, in the namespace of `exec`, and `proxy`."
        yield table(_ways(document))
    for name, soak in document.get("soak", {}).items():
        yield f"## Soak: {name}"
        yield f"{_SOAKS.get(name, '')} Idle ping {number(soak['idle_ping_ms'])} ms. {_words(soak['verdict'])}.".strip()
        yield table(_soak(soak))


_SOAKS = {
    "engine": "Our engine at both ends at full speed.",
    "connect": "`ikeclient connect` to strongSwan, both SAs rekeyed every few seconds under load.",
}
