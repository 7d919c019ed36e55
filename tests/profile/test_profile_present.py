from __future__ import annotations

import json
import tomllib

import pytest
from profile_world import CANARY, CERTIFICATE, EAP, PSK

from ikeclient.errors import UsageError
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model.schema import Profile
from ikeclient.profile.present import redacted
from ikeclient.profile.templates import METHODS, ROUTES, template


@pytest.mark.parametrize("text", [PSK, EAP, CERTIFICATE])
def test_a_shown_profile_is_plain_complete_and_valid_again(text: str) -> None:
    profile = parse_profile(text + '[network]\nroutes = ["10.0.0.0/8"]\nexclude = ["lan", "10.1.0.0/16"]\n').profile
    shown = redacted(profile)
    assert json.loads(json.dumps(shown)) == shown
    assert shown["session"]["rekey_ike"] == "4h"
    assert shown["network"]["routes"] == ["10.0.0.0/8"]
    assert shown["crypto"]["esp"]
    assert Profile.model_validate(shown) == profile


def test_a_shown_profile_tells_where_secrets_are_and_no_arguments_of_commands() -> None:
    """F12."""
    assert redacted(parse_profile(PSK).profile)["auth"]["psk"] == {"file": "psk"}
    profile = parse_profile(EAP.replace('{ file = "pw" }', f'{{ command = ["echo", "{CANARY}"] }}')).profile
    shown = redacted(profile)
    assert shown["auth"]["password"] == {"command": ["echo", "..."]}
    assert CANARY not in json.dumps(shown)
    assert profile.auth.password is not None
    assert profile.auth.password.command == ("echo", CANARY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("routes", ROUTES)
def test_every_template_is_a_valid_profile(method: str, routes: str) -> None:
    text = template(method, routes, name="work", address="gw.example", identity="bob@example.com")
    profile = parse_profile(text).profile
    assert profile.gateway.address == ("gw.example",)
    assert profile.auth.method == method
    assert profile.network.routes == ("all" if routes == "full" else "gateway")


@pytest.mark.parametrize("method", METHODS)
def test_what_a_template_comments_out_is_valid_too(method: str) -> None:
    lines = template(method).splitlines()
    seen: set[str] = set()
    for index in reversed(range(len(lines))):  # of alternatives the last one stays
        line = lines[index].removeprefix("# ")
        key = line.partition("=")[0].strip()
        if "=" in line and key.replace("_", "").isalpha():
            lines[index] = "" if key in seen else line
            seen.add(key)
        elif line == "[session]":
            lines[index] = line
    text = "\n".join(lines)
    assert len(tomllib.loads(text)) == 5
    parse_profile(text)


def test_a_template_takes_no_text_that_would_break_it() -> None:
    for arguments in ({"name": 'a"b'}, {"address": "a\nb"}, {"identity": "a\\b"}):
        with pytest.raises(UsageError):
            template("psk", **arguments)
    for wrong in (("ipsec", "split"), ("psk", "half")):
        with pytest.raises(UsageError, match=r"^there is no template"):
            template(*wrong)
