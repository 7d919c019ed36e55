"""The schemas of the control protocol name every request and every key; the lab holds real answers against them."""

from __future__ import annotations

import json

import pytest

from ikeclient.control import schemas
from ikeclient.control.events import EVENTS
from ikeclient.control.protocol import Command


def test_every_request_and_its_result_is_described() -> None:
    definitions = schemas.control()["$defs"]
    requests = [each["properties"]["request"]["const"] for each in definitions["request"]["anyOf"]]
    assert requests == list(Command)
    assert {name.removeprefix("result-") for name in definitions if name.startswith("result-")} == set(Command)


@pytest.mark.parametrize("name", EVENTS)
def test_every_event_is_described_with_its_keys(name: str) -> None:
    [found] = [each for each in schemas.event_schema()["anyOf"] if each["properties"]["event"]["const"] == name]
    assert set(found["required"]) == {"event", "time", *EVENTS[name].keys}


def test_each_file_is_json_and_says_which_dialect_it_is() -> None:
    for schema in schemas.schemas().values():
        assert json.loads(json.dumps(schema))["$schema"].endswith("2020-12/schema")
