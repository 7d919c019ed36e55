"""The status document: one definition, from which JSON, schema and documentation follow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.cli.view import render
from ikeclient.control.status import STATES, TunnelStatus, document, json_schema, unresponsive
from ikeclient.tunnel.state import REPORTED
from ikeclient.tunnel.status import Status

PAGE = Path(__file__).resolve().parents[2] / "docs/status.md"
SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def shown() -> dict[str, Any]:
    """The answer that the documentation shows."""
    found = re.search(r"```json[^\n]*\n(\{\"schema\".*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])  # type: ignore[no-any-return]


def paths(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, list):
        return paths(value[0], prefix) if value else []
    if not isinstance(value, dict):
        return []
    return [path for key, inner in value.items() for path in (prefix + key, *paths(inner, f"{prefix}{key}."))]


def problems(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """Where `value` is not what the part of JSON Schema that we use says."""
    if "const" in schema:
        return [] if value == schema["const"] else [place]
    if "anyOf" in schema:
        return [] if any(not problems(value, each, place) for each in schema["anyOf"]) else [place]
    match schema["type"], value:
        case ("null", None) | ("boolean", bool()) | ("string", str()):
            return []
        case "integer", int() if not isinstance(value, bool):
            return []
        case "array", list():
            return [found for each in value for found in problems(each, schema["items"], f"{place}[]")]
        case "object", dict():
            wrong = [f"{place}.{key}" for key in schema["required"] if key not in value]
            wrong += [f"{place}.{key}" for key in value if key not in schema["properties"]]
            inner = schema["properties"].items()
            return wrong + [
                found for key, each in inner if key in value for found in problems(value[key], each, f"{place}.{key}")
            ]
    return [place]


def test_the_answer_in_the_documentation_is_read_and_written_again_without_a_change() -> None:
    answer = shown()
    again = document([TunnelStatus.from_json(answer["tunnels"][0])])
    assert again == answer
    assert paths(again) == paths(answer)


def test_the_documented_keys_are_those_of_the_answer() -> None:
    documented = [path for path, about in TunnelStatus.reference() if about]
    assert documented == paths(shown()["tunnels"][0])


@pytest.mark.parametrize(
    "answer",
    [shown(), document([]), document([unresponsive("work", 7), TunnelStatus(name="a", state="connecting")])],
    ids=["shown", "nothing", "little"],
)
def test_the_json_schema_describes_the_answer(answer: dict[str, Any]) -> None:
    assert problems(answer, json_schema()) == []


def test_the_check_of_the_schema_can_fail() -> None:
    answer = shown()
    del answer["tunnels"][0]["drops"]["no_path"]
    answer["tunnels"][0]["mtu"] = "1400"
    answer["tunnels"][0]["ike"] = True
    assert problems(answer, json_schema()) == [".tunnels[].mtu", ".tunnels[].ike", ".tunnels[].drops"]


def test_a_tunnel_that_does_not_answer_has_every_key() -> None:
    """Inside the parts of it, too: what is not known is null, 0 or empty."""
    entry = unresponsive("work", 7).to_json()
    full = shown()["tunnels"][0]
    assert entry.keys() == full.keys()
    for part in ("offload", "gateway", "local", "dns", "ike", "drops"):
        assert entry[part].keys() == full[part].keys()
        assert not any(entry[part].values())
    known = {key: value for key, value in entry.items() if not isinstance(value, dict) and value}
    assert known == {
        "name": "work",
        "pid": 7,
        "state": "unresponsive",
        "last_error": "the process does not answer",
    }
    assert "kill -CONT 7" in str(unresponsive("work", 7, stopped=True).last_error)


def test_every_state_that_the_program_names_is_a_state() -> None:
    reported = {word for word in REPORTED.values() if word is not None} | {Status(name="work").life.word}
    assert reported | {unresponsive("work", 7).state} == STATES.keys()
    assert render._STATE_STYLES.keys() < STATES.keys()


def test_what_has_another_type_is_as_if_it_were_not_there() -> None:
    answer = shown()["tunnels"][0]
    answer |= {"mtu": True, "pid": 2**70, "name": 5, "routes": ["10.0.0.0/8", 7, None], "gateway": [], "ike": "up"}
    answer["children"] = [answer["children"][0] | {"replays": "many", "bytes_in": 1.5}, "child"]
    answer["more"] = "from a later version"
    status = TunnelStatus.from_json(answer)
    assert (status.mtu, status.pid, status.name, status.routes) == (None, 0, "?", ("10.0.0.0/8",))
    assert (status.gateway.address, status.ike) == (None, None)
    [child] = status.children
    assert (child.counters.replays, child.counters.bytes_in, child.counters.bytes_out) == (0, 0, 252)
    assert problems(document([status]), json_schema()) == []


@given(st.dictionaries(st.sampled_from([path.split(".")[0] for path, _ in TunnelStatus.reference()]), SHAPES))
def test_whatever_a_tunnel_says_is_read_as_a_status(answer: dict[str, Any]) -> None:
    """K15: what the other side of a socket says is hostile too."""
    status = TunnelStatus.from_json(answer)
    assert problems(document([status]), json_schema()) == []
    assert TunnelStatus.from_json(status.to_json()) == status
