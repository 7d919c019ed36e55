"""Profiles and single keys from `IKECLIENT_` variables."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from profile_world import CANARY, PSK

from ikeclient.errors import IkeclientError, ProfileError, UsageError
from ikeclient.profile.load.environment import variables
from ikeclient.profile.load.load import load_profile
from ikeclient.tunnel.hooks import environment as hook_environment
from ikeclient.tunnel.status import Status

Write = Callable[..., Path]
ALONE = {
    "IKECLIENT_GATEWAY_ADDRESS": "vpn.example.com",
    "IKECLIENT_AUTH_METHOD": "psk",
    "IKECLIENT_AUTH_IDENTITY": "alice@example.com",
    "IKECLIENT_AUTH_PSK_FILE": "/run/secrets/psk",
}


def failure(reference: str | None, environ: dict[str, str], *overrides: str) -> IkeclientError:
    with pytest.raises(IkeclientError) as raised:
        load_profile(reference, overrides, environ)
    return raised.value


def test_every_key_has_a_variable_of_its_own() -> None:
    found = variables()
    assert found["IKECLIENT_NETWORK_ROUTES"] == ("network", "routes")
    assert found["IKECLIENT_AUTH_KEY_PASSPHRASE_CREDENTIAL"] == ("auth", "key_passphrase", "credential")
    assert found["IKECLIENT_AUTH_KEY_FILE"] == ("auth", "key", "file")
    assert len(set(found.values())) == len(found) > 40


def test_variables_are_above_the_file_and_below_the_command_line(write: Write) -> None:
    path = str(write("work.toml", PSK + '[network]\nroutes = ["10.0.0.0/8"]\nmtu = 1300\ndns = "none"\n'))
    environ = {
        "IKECLIENT_NETWORK_ROUTES": '["192.0.2.0/24"]',
        "IKECLIENT_NETWORK_MTU": "1400",
        "IKECLIENT_SESSION_MOBIKE": "false",
        "IKECLIENT_AUTH_IDENTITY": '"12345"',
    }
    loaded = load_profile(path, ["network.mtu=1350"], environ)
    network = loaded.profile.network
    assert (network.routes, network.mtu, network.dns) == ((ip_network("192.0.2.0/24"),), 1350, "none")
    assert (loaded.profile.session.mobike, loaded.profile.auth.identity, loaded.name) == (False, "12345", "work")


def test_a_secrets_source_takes_the_place_of_the_files(write: Write) -> None:
    path = str(write("work.toml", PSK))
    source = load_profile(path, (), {"IKECLIENT_AUTH_PSK_ENV": "VPN_PSK"}).profile.auth.psk
    assert source is not None
    assert (source.env, source.file) == ("VPN_PSK", None)
    both = {"IKECLIENT_AUTH_PSK_FILE": "/psk", "IKECLIENT_AUTH_PSK_INSECURE": "true"}
    source = load_profile(path, (), both).profile.auth.psk
    assert source is not None
    assert (source.file, source.insecure) == ("/psk", True)


def test_the_environment_alone_can_be_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_profile(None, ["network.routes=all"], ALONE)
    assert (loaded.name, loaded.base_dir) == ("env", tmp_path)
    assert loaded.profile.gateway.address == ("vpn.example.com",)
    assert loaded.profile.network.routes == "all"
    assert failure(None, {**ALONE, "IKECLIENT_AUTH_METHOD": ""}).message.startswith(
        "IKECLIENT_AUTH_METHOD: key 'auth.method' must be one of"
    )
    missing = failure(None, {"IKECLIENT_GATEWAY_ADDRESS": "vpn.example.com"})
    assert missing.message == "the environment: key 'auth' is missing"


def test_a_variable_names_the_profile(write: Write) -> None:
    path = str(write("work.toml", PSK))
    assert load_profile(None, (), {"IKECLIENT_PROFILE": path, "IKECLIENT_NETWORK_MTU": "1300"}).name == "work"
    assert load_profile(path, (), {"IKECLIENT_PROFILE": "other"}).name == "work"
    nothing = failure(None, {"IKECLIENT_RUNTIME_DIR": "/run/x"})
    assert isinstance(nothing, UsageError)
    assert nothing.message == "no PROFILE was given"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("IKECLIENT_NETWORK_MTU", "20", "IKECLIENT_NETWORK_MTU: key 'network.mtu' must be between 576 and 9000"),
        ("IKECLIENT_NETWORK_ROUTES", "some", "IKECLIENT_NETWORK_ROUTES: key 'network.routes' must be"),
        ("IKECLIENT_AUTH_PSK", CANARY, "IKECLIENT_AUTH_PSK: key 'auth.psk' must say where the secret is"),
        ("IKECLIENT_SESSION_UP", "[[", "IKECLIENT_SESSION_UP: key 'session.up' must be a list of commands"),
    ],
)
def test_what_is_wrong_is_said_with_the_variables_name(write: Write, variable: str, value: str, message: str) -> None:
    """F2, F10"""
    error = failure(str(write("work.toml", PSK)), {variable: value})
    assert isinstance(error, ProfileError)
    assert error.message.startswith(message)
    assert CANARY not in "".join(error.lines())


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("IKECLIENT_NETWORK_ROTES", "IKECLIENT_NETWORK_ROUTES"),
        ("IKECLIENT_NETWROK_ROUTES", "IKECLIENT_NETWORK_ROUTES"),
        ("IKECLIENT_AUTH_PASWORD", "IKECLIENT_AUTH_PASSWORD"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_nearest(write: Write, variable: str, meant: str) -> None:
    """F2"""
    error = failure(str(write("work.toml", PSK)), {variable: CANARY})
    assert error.lines() == [f"the environment variable {variable} sets no key of a profile", f"did you mean {meant}?"]


def test_variables_that_are_not_about_profiles_are_left_alone(write: Write) -> None:
    """Hooks may call ikeclient, so what they are told is no key."""
    hooks = hook_environment(Status(name="work", interface="ike0"), "connected")
    assert load_profile(str(write("work.toml", PSK)), (), {**hooks, "IKECLIENT_TEST_COLOUR": "red"}).name == "work"
