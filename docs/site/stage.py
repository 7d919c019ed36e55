"""Lay out the site's pages as mkdocs takes them: `python docs/site/stage.py DIRECTORY`.

The pages keep their places, so that every link between them holds as it is in the repository. Three things are made:
the mark of a fenced block, which says how the block is run, becomes its title; the example profiles become a page; the
figures of BENCHMARKS.md become plots.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "docs" / "site"
FENCE = re.compile(r"^```(?P<language>\w+) (?P<mark>[^\n]+)$", re.MULTILINE)
TOP = ("README.md", "SECURITY.md", "BENCHMARKS.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")

# What the first word of a mark says to a reader; the marks are those of tests/documents.py.
TITLES = {
    "root": "as root · run by the tests",
    "user": "as any user · run by the tests",
    "release": "where a release's files are · run by scripts/release --check",
    "container": "on a host with docker or podman · run by a test",
    "profile": "a profile, or a part of one · validated by the tests",
    "status": "an answer · compared by the tests",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Bars of one figure, read from a table of BENCHMARKS.md: the rows in their order, and what they are called."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    less_is_better: bool = False


PLOTS = (
    Plot(
        name="throughput",
        title="One TCP stream, Mbit/s, the same program at both ends",
        columns=("up", "down"),
        rows=(
            ("ours", "ikeclient"),
            ("ours-openssl35", "ikeclient, OpenSSL 3.5"),
            ("wireguard-go", "wireguard-go"),
            ("strongswan", "strongSwan, userspace ESP"),
        ),
    ),
    Plot(
        name="cpu",
        title="CPU seconds of the client per GB, through a strongSwan gateway",
        columns=("CPU up", "CPU down"),
        rows=(
            ("ours-strongswan", "ikeclient"),
            ("ours-strongswan-openssl35", "ikeclient, OpenSSL 3.5"),
            ("strongswan", "strongSwan, userspace ESP"),
        ),
        less_is_better=True,
    ),
    Plot(
        name="small-packets",
        title="64-byte packets, thousands a second, the same program at both ends",
        columns=("64 B kpps",),
        rows=(("ours", "ikeclient"), ("wireguard-go", "wireguard-go"), ("strongswan", "strongSwan, userspace ESP")),
    ),
)


def titled(page: str) -> str:
    """Return a page whose marked blocks say in a title how they are run."""
    return FENCE.sub(lambda fence: f'``` {{ .{fence["language"]} title="{title(fence["mark"])}" }}', page)


def title(mark: str) -> str:
    """Say what a block's mark means.

    Raises:
        ValueError: There is no such mark.
    """
    who, _, how = mark.partition(" ")
    match who:
        case "file":
            return html.escape(how)
        case "not":
            return html.escape(mark)
        case _ if who in TITLES:
            return TITLES[who]
        case _:
            raise ValueError(f"a block is marked {mark!r}, which docs/site/stage.py cannot say in words")


def example_profiles(directory: Path) -> str:
    """Return a page with every example profile."""
    parts = ["# Example profiles", "Each is complete; `ikeclient profile new NAME` writes a commented one."]
    for path in sorted(directory.glob("*.toml")):
        parts += [f"## {path.stem}", f'``` {{ .toml title="profiles/{path.name}" }}\n{path.read_text()}```']
    return "\n\n".join(parts) + "\n"


def figures(page: str) -> dict[str, dict[str, str]]:
    """Return the page's first table whose columns have names: figure by column by row."""
    table: list[list[str]] = []
    for line in page.splitlines():
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif len(table) > 2 and "up" in table[0]:
            break
        else:
            table = []
    columns, _, *rows = table
    return {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}


def draw(plot: Plot, table: dict[str, dict[str, str]]) -> str:
    """Return a plot as SVG; a figure that was not measured has no bar."""
    return "\n".join(_drawn(plot, table)) + "\n"


def _drawn(plot: Plot, table: dict[str, dict[str, str]]) -> Iterator[str]:
    values = {
        row: [
            float(table[row][column].replace(",", "")) if table[row][column] != "-" else 0.0 for column in plot.columns
        ]
        for row, _ in plot.rows
        if row in table
    }
    longest = max((value for row in values.values() for value in row), default=0.0) or 1.0
    bar, left, width = 18, 190, 640
    height = 40 + sum(len(row) * bar + 14 for row in values.values())
    note = "shorter is better" if plot.less_is_better else "longer is better"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12" role="img" aria-label="{html.escape(plot.title)}">'
    )
    yield f'<text x="8" y="18" font-weight="bold">{html.escape(plot.title)}</text>'
    yield f'<text x="{width - 8}" y="18" text-anchor="end" fill="#666">{note}</text>'
    top = 34
    for row, words in plot.rows:
        if row not in values:
            continue
        middle = top + len(values[row]) * bar / 2 + 4
        yield f'<text x="{left - 10}" y="{middle:.0f}" text-anchor="end">{html.escape(words)}</text>'
        for column, value in zip(plot.columns, values[row], strict=True):
            length = value / longest * (width - left - 110)
            colour = "#00796b" if row.startswith("ours") else "#9e9e9e"
            yield f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{bar - 4}" fill="{colour}"/>'
            unit = f" {column.removeprefix('CPU ')}" if len(plot.columns) > 1 else ""
            yield f'<text x="{left + length + 6:.1f}" y="{top + bar - 7}">{table[row][column]}{unit}</text>'
            top += bar
        top += 14
    yield "</svg>"


def with_plots(page: str) -> str:
    """Return BENCHMARKS.md with its plots above the first table of figures."""
    pictures = "\n\n".join(f"![{plot.title}](plots/{plot.name}.svg)" for plot in PLOTS)
    return re.sub(r"^(## Throughput[^\n]*)$", rf"\1\n\n{pictures}", page, count=1, flags=re.MULTILINE)


def stage(target: Path) -> None:
    """Write the tree that mkdocs reads, in place of one that may be there."""
    shutil.rmtree(target, ignore_errors=True)
    ignore = shutil.ignore_patterns("site", "__pycache__", "generate.py", "container", "man", "completion")
    shutil.copytree(ROOT / "docs", target / "docs", ignore=ignore)
    shutil.copytree(ROOT / "profiles", target / "profiles")
    for name in TOP:
        shutil.copy(ROOT / name, target / name)
    for path in (ROOT / "ikeclient").rglob("*.json"):
        place = target / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copy(OWN / "site.css", target)
    for path in target.rglob("*.md"):
        path.write_text(titled(path.read_text()))
    (target / "profiles" / "README.md").write_text(example_profiles(target / "profiles"))
    for path in (target / "README.md", target / "docs" / "profile.md"):
        path.write_text(re.sub(r"\]\(((?:\.\./)?profiles/)\)", r"](\1README.md)", path.read_text()))
    benchmarks = target / "BENCHMARKS.md"
    table = figures(benchmarks.read_text())
    benchmarks.write_text(with_plots(benchmarks.read_text()))
    (target / "plots").mkdir()
    for plot in PLOTS:
        (target / "plots" / f"{plot.name}.svg").write_text(draw(plot, table))


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
