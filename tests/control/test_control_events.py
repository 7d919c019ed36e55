"""Every event is defined once: what is told, shown and documented is what the table says."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from ikeclient.cli.view.render import sentence
from ikeclient.control.events import EVENTS, EventKind, error_of, failed, happened
from ikeclient.errors import PlatformError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/status.md"
ALWAYS = {"event", "time", "tunnel"}
TELLERS = {"emit", "happened"}
EVERY_KIND = pytest.mark.parametrize(("name", "kind"), EVENTS.items(), ids=list(EVENTS))


def parts() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted((ROOT / "ikeclient").rglob("*.py")):
        yield from ((path, node) for node in ast.walk(ast.parse(path.read_text())))


def told(node: ast.AST) -> tuple[str, set[str]] | None:
    """The name and the keys of an event, if `node` is a call that tells one."""
    if not isinstance(node, ast.Call):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    first = node.args[0] if node.args else None
    if called not in TELLERS or not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    return first.value, {keyword.arg for keyword in node.keywords if keyword.arg is not None}


def test_whoever_tells_an_event_gives_it_the_keys_of_the_table() -> None:
    seen = set()
    for path, node in parts():
        if (found := told(node)) is None:
            continue
        name, keys = found
        assert name in EVENTS, f"{path}: {name}"
        assert keys == EVENTS[name].keys.keys(), f"{path}: {name}"
        seen.add(name)
    steps = {
        keyword.value.value
        for _, node in parts()
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "Progress"
        for keyword in node.keywords
        if keyword.arg == "step" and isinstance(keyword.value, ast.Constant)
    }
    assert steps <= {name for name, kind in EVENTS.items() if kind.step}
    assert seen | steps == EVENTS.keys()


def test_no_event_is_made_past_the_table() -> None:
    for path, node in parts():
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            assert "event" not in keys or path.name in ("events.py", "schemas.py"), path


@EVERY_KIND
def test_every_event_has_a_sentence_with_and_without_its_keys(name: str, kind: EventKind) -> None:
    values = {key: f"<{key}>" for key in kind.keys}
    words = sentence(happened(name, "work", **values))
    assert "=" not in words
    assert words == kind.sentences[0].format_map(values)
    bare = sentence({"event": name})
    assert "=" not in bare
    assert bare == kind.sentences[-1]


@EVERY_KIND
def test_every_sentence_is_made_of_the_keys_there_are(name: str, kind: EventKind) -> None:
    for text in (*kind.sentences, kind.service or ""):
        assert {field for _, field, _, _ in string.Formatter().parse(text) if field} <= kind.keys.keys()


def test_the_documentation_lists_every_event_with_its_keys() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", PAGE.read_text().partition("## Events")[2], re.MULTILINE)
    assert {name: {*re.findall(r"`([a-z_]+)`", re.sub(r"\(.*?\)", "", keys))} for name, keys in rows} == {
        name: {*kind.keys} for name, kind in EVENTS.items()
    }


def test_the_documentation_of_the_hooks_names_the_events_that_start_them() -> None:
    text = (ROOT / "docs/tunnel.md").read_text()
    for name, kind in EVENTS.items():
        if kind.hook is not None:
            assert f"`{name}`" in text


def test_an_event_has_a_time_and_the_name_of_its_tunnel() -> None:
    event = happened("notice", "work", text="x")
    assert event.keys() == ALWAYS | {"text"}
    assert (event["event"], event["tunnel"]) == ("notice", "work")
    assert "tunnel" not in happened("log", text="x")


def test_an_error_that_travelled_as_an_event_is_the_same_error() -> None:
    """O21: with its exit code, whoever sent it."""
    error = PlatformError("what", reason="why", hint="how")
    assert failed(error, "work").keys() == ALWAYS | EVENTS["error"].keys.keys()
    assert "tunnel" not in failed(error)
    again = error_of(failed(error, "work"))
    assert (again.lines(), again.exit_code) == (error.lines(), 12)
    assert error_of({"exit_code": "12", "message": None}).exit_code == 1
    assert error_of({"message": ["no text"], "reason": {}}).lines() == error_of({}).lines()


def test_an_error_without_a_reason_is_still_a_sentence() -> None:
    assert sentence(failed(PlatformError("what", hint="how"))) == "error: what; how"
    assert sentence(failed(PlatformError("what"))) == "error: what"
