"""Whether a command can be run at all, told before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from ikeclient.cli.execute import unusable
from ikeclient.process.tunnel_request import TunnelRequest


@pytest.mark.parametrize(("mode", "expected"), [(None, 127), (0o644, 126), (0o755, 0)])
def test_a_program_is_looked_for_as_a_shell_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, expected: int
) -> None:
    """F16"""
    if mode is not None:
        (tmp_path / "tool").touch(mode)
        (tmp_path / "tool").chmod(mode)
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert unusable("tool") == expected
    assert unusable(str(tmp_path / "tool")) == expected


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    assert unusable(str(tmp_path)) == 126


@pytest.mark.parametrize(("profile", "name"), [("work", "work"), ("./a/home.toml", "home"), ("home.toml", "home")])
def test_a_tunnel_is_named_after_its_profile(profile: str, name: str) -> None:
    assert TunnelRequest(profile=profile).name == name
