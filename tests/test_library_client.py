"""`ikeclient.client` and what the package offers to programs."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import ikeclient
from ikeclient import client
from ikeclient.errors import NoSuchTunnel, UsageError
from ikeclient.profile.model.toml_text import toml_lines


def test_what_does_not_run_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("auth", "place"),
    [
        ({"method": "eap-aka", "sim": {"reader": "any"}}, "a card reader"),
        ({"method": "certificate", "certificate": "a.pem", "key": {"agent": "SHA256:" + "A" * 43}}, "ssh-agent"),
        (
            {
                "method": "certificate",
                "certificate": "a.pem",
                "key": {"pkcs11": "pkcs11:object=x", "module": "m.so", "pin": {"prompt": True}},
            },
            "a token",
        ),
    ],
)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_key_or_a_card_elsewhere_is_refused_at_once(
    auth: dict[str, object], place: str, by_path: bool, tmp_path: Path
) -> None:
    """Before a PIN is asked for, and before a token, an agent or a reader is looked for."""
    tables = {"gateway": {"address": "192.0.2.1"}, "auth": {"identity": "a@example.org", **auth}}
    path = tmp_path / "work.toml"
    path.write_text("version = 1\n" + "\n".join(toml_lines(tables)))
    path.chmod(0o600)
    profile = path if by_path else ikeclient.Profile.model_validate({"version": 1, **tables})

    def ask(prompt: str) -> str:
        raise AssertionError(prompt)

    async def main() -> None:
        async with ikeclient.open(profile, ask=ask):
            raise AssertionError

    with pytest.raises(UsageError, match=place) as refused:
        asyncio.run(main())
    assert "ikeclient proxy" in str(refused.value.hint)
