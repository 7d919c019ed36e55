"""The matrix of gateways: its page has every row, and no row that the matrix lacks."""

from __future__ import annotations

import re

from documents import ROOT
from lab.interop import BEGIN, COLUMNS, END, SUBJECTS, table


def test_the_page_has_the_rows_and_the_columns_of_the_matrix() -> None:
    page = (ROOT / "docs" / "interop.md").read_text()
    results = page.partition(BEGIN)[2].partition(END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in results.splitlines() if line[:1] == "|"]
    assert rows[0] == ["gateway", "ESP", "login", *COLUMNS]
    assert [tuple(row[:3]) for row in rows[2:]] == [
        (f"{each.name} {each.version}", each.esp, each.auth) for each in SUBJECTS
    ]
    assert re.search(r"^Run on \d+ \w+ \d{4}\.$", results, re.MULTILINE)


def test_a_result_is_a_cell() -> None:
    row = {"gateway": "x", "ESP": "kernel", "login": "psk", **dict.fromkeys(COLUMNS, "yes")}
    assert table([row]).splitlines()[-1] == "| x | kernel | psk " + "| yes " * len(COLUMNS) + "|"
