"""The documentation site: how pages are laid out for it, and that it builds with every link in place."""

from __future__ import annotations

import html.parser
import re
import runpy
import subprocess
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from documents import PAGES, ROOT, blocks

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def stage() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "site" / "stage.py"))


def test_every_mark_of_a_block_is_said_in_words(stage: dict[str, Any]) -> None:
    for page in PAGES:
        for block in blocks(page):
            assert '"' not in stage["title"](block.mark), block


def test_a_mark_that_is_none_is_an_error(stage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="'somebody'"):
        stage["title"]("somebody")


def test_a_marked_block_gets_a_title(stage: dict[str, Any]) -> None:
    page = 'text\n\n```sh not run: <it> says "why"\nls\n```\n'
    assert stage["titled"](page) == ('text\n\n``` { .sh title="not run: &lt;it&gt; says &quot;why&quot;" }\nls\n```\n')


def test_the_figures_of_the_benchmarks_become_bars(stage: dict[str, Any]) -> None:
    """Each plot has the bars of its rows and columns, and a bar is as long as its figure."""
    table = stage["figures"]((ROOT / "BENCHMARKS.md").read_text())
    for plot in stage["PLOTS"]:
        picture = ET.fromstring(stage["draw"](plot, table))
        bars = [float(bar.attrib["width"]) for bar in picture.iter(f"{SVG}rect")]
        measured = [float(table[row][column].replace(",", "")) for row, _ in plot.rows for column in plot.columns]
        assert len(bars) == len(measured) > 0
        assert bars == pytest.approx([value / max(measured) * max(bars) for value in measured], abs=0.1)


def test_a_figure_that_was_not_measured_has_no_bar(stage: dict[str, Any]) -> None:
    plot = stage["Plot"](name="x", title="x", columns=("up",), rows=(("a", "a"), ("b", "b"), ("c", "c")))
    picture = ET.fromstring(stage["draw"](plot, {"a": {"up": "-"}, "b": {"up": "1,000"}}))
    assert [float(bar.attrib["width"]) > 0 for bar in picture.iter(f"{SVG}rect")] == [False, True]


def test_every_page_stands_in_the_navigation() -> None:
    """The build says so as well; this says it without mkdocs."""
    words = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT)) for page in PAGES if page.parent.name != "decisions"}
    missing = sorted(page for page in pages if page not in words)
    assert not missing, f"add them to nav in docs/site/mkdocs.yml: {', '.join(missing)}"


class Links(html.parser.HTMLParser):
    """Everything that a built page fetches or leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the browser loads by itself."""
        named = dict(attrs)
        if tag in ("script", "img", "iframe") and named.get("src"):
            self.fetched.append(str(named["src"]))
        if tag == "link" and named.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.fetched.append(str(named["href"]))


@pytest.mark.extended
@pytest.mark.timeout(600)
def test_the_site_is_built_and_fetches_nothing_from_elsewhere() -> None:
    """mkdocs ends with an error for each link, anchor or page that is missing."""
    subprocess.run([ROOT / "scripts" / "site"], check=True, timeout=580)
    built = ROOT / "build" / "site" / "html"
    pages = list(built.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        links = Links()
        links.feed(page.read_text())
        for link in links.fetched:
            assert not re.match(r"(https?:)?//", link), f"{page.relative_to(built)} fetches {link}"
            base = built if link.startswith("/") else page.parent
            assert (base / link.partition("?")[0].lstrip("/")).exists(), f"{page.relative_to(built)}: {link}"
    page = ROOT / "build" / "site" / "pages" / "docs" / "tunnel.md"
    page.write_text(page.read_text() + "\n[nowhere](nowhere.md)\n")
    mkdocs = [ROOT / "build/site/venv/bin/mkdocs", "build", "-f", ROOT / "docs/site/mkdocs.yml"]
    assert subprocess.run(mkdocs, capture_output=True, timeout=120, check=False).returncode != 0, "a link is checked"
