from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.profile.model.lines import find_line, key_at, key_lines

TEXT = '''\
version = 1          # line 1
[gateway]
address = "a = 1"
"quoted key" = 5
ca = [
  "b.pem",           # port = 7
  "[x]",
]
port = 500
text = """
mtu = 9
[network]
"""
dotted . name = 1
[ auth . password ]
file = "x"
also = \'\'\'[y] = """ \'\'\'
last = { a = 1, b = [1, 2], c = "}" }
after = "\\"" # "
end = ["""
[z]
a = 1""", 2]
finally = 3
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("version",), 1), (("gateway",), 2), (("gateway", "address"), 3), (("gateway", "quoted key"), 4),
        (("gateway", "ca"), 5), (("gateway", "ca", 1), 5), (("gateway", "port"), 9), (("gateway", "text"), 10),
        (("gateway", "dotted"), 14), (("gateway", "dotted", "name"), 14), (("auth",), 15), (("auth", "password"), 15),
        (("auth", "password", "file"), 16), (("auth", "password", "also"), 17), (("auth", "password", "last", "b"), 18),
        (("auth", "password", "after"), 19), (("auth", "password", "end"), 20), (("auth", "password", "finally"), 23),
        (("gateway", "mtu"), 2), (("network",), None), (("z",), None), ((), None),
    ],
)  # fmt: skip
def test_a_key_is_found_where_it_stands(key: tuple[str | int, ...], line: int | None) -> None:
    tomllib.loads(TEXT)
    assert find_line(key_lines(TEXT), key) == line


def test_a_line_inside_a_list_is_neither_a_section_nor_a_key() -> None:
    text = '[session]\nup = [\n["hook", "a"],\n["port"],\n]\nport = 1\n'
    assert tomllib.loads(text) == {"session": {"up": [["hook", "a"], ["port"]], "port": 1}}
    assert key_lines(text) == {("session",): 1, ("session", "up"): 2, ("session", "port"): 6}


def test_the_key_of_a_line_is_told() -> None:
    assert key_at(TEXT, 3) == "address"
    assert key_at(TEXT, 15) == "auth.password"
    assert key_at(TEXT, 6) is None
    assert key_at(TEXT, 99) is None


_names = st.sampled_from(["a", "b", "port", "x-y", "1"])
_values = st.sampled_from(
    ['"x = 1"', "'#'", "5", "[1,\n2]", '"""\na = 1\n"""', "'''\n[b]\n'''", "{ a = 1 }", '["#", "["]', "true"]
)


def _paths(data: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


@given(st.lists(st.one_of(st.tuples(_names, _values), st.tuples(_names)), max_size=12))
def test_whatever_stands_in_a_file_has_a_line_that_names_it(pieces: list[tuple[str, ...]]) -> None:
    text = "\n".join(f"{p[0]} = {p[1]}" if len(p) == 2 else f"[{p[0]}]" for p in pieces)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    places = key_lines(text)
    lines = text.split("\n")
    for path in _paths(data):
        if path in places:
            assert path[-1] in lines[places[path] - 1]
        else:
            assert find_line(places, path)  # inside an inline table: the line of the table
