"""`ikeclient.client` and what the package offers to programs."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys

import pytest

import ikeclient
from ikeclient import client
from ikeclient.errors import NoSuchTunnel, UsageError


def test_what_does_not_run_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("IKECLIENT_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(NoSuchTunnel):
        client.status("no-such-tunnel")
    with pytest.raises(NoSuchTunnel):
        asyncio.run(client.status_async("no-such-tunnel"))
    assert "no-such-tunnel" not in client.list_tunnels()


def test_every_function_has_its_coroutine() -> None:
    for name in client.__all__:
        is_coroutine = inspect.iscoroutinefunction(getattr(client, name)) or name == "events_async"
        assert is_coroutine is name.endswith("_async")


def test_the_package_itself_imports_nothing() -> None:
    program = "import sys, ikeclient; print(any(name.startswith('ikeclient.') for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError):
        _ = ikeclient.no_such_name  # type: ignore[attr-defined]


def test_overrides_and_a_profile_do_not_go_together() -> None:
    profile = ikeclient.Profile.model_validate(
        {"version": 1, "gateway": {"address": "192.0.2.1"}, "auth": {"method": "psk", "psk": {"env": "X"}}}
    )

    async def main() -> None:
        async with ikeclient.open(profile, overrides=["a=b"]):
            raise AssertionError

    with pytest.raises(UsageError, match="overrides"):
        asyncio.run(main())
