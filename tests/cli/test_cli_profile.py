"""`profile list|show|validate|new`."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ikeclient.cli.app import main
from ikeclient.profile.templates import METHODS, ROUTES

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported


@pytest.fixture
def profiles(home: Path) -> Path:
    return home / "config/ikeclient/profiles"


def test_profiles_are_listed_with_what_they_are(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profiles / "broken.toml").write_text("nonsense")
    assert main(["profile", "list"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["broken", "invalid", str(profiles / "broken.toml")],
        ["work", "psk", "vpn.example.com", str(profiles / "work.toml")],
    ]
    assert main(["profile"]) == 0
    assert main(["profile", "list", "--json"]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert document["schema"] == "ikeclient.profiles/1"
    assert [each["name"] for each in document["profiles"]] == ["broken", "work"]
    assert document["profiles"][0]["error"]


def test_no_profile_is_a_hint_and_no_error(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profiles / "work.toml").unlink()
    assert main(["profile", "list"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "profile new" in captured.err


def test_show_prints_a_profile_that_means_the_same(
    profiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "show", "work", "--set", "network.exclude=['lan', '10.0.0.0/8']"]) == 0
    shown = capsys.readouterr().out
    values = tomllib.loads(shown)
    assert values["network"]["exclude"] == ["10.0.0.0/8", "lan"]
    assert values["auth"]["psk"] == {"file": "psk"}
    (tmp_path / "again.toml").write_text(shown)
    assert main(["profile", "show", str(tmp_path / "again.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == values


def test_show_reads_no_secret(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F12: the secret's file may be missing, and its content is never shown."""
    (profiles / "psk").write_text("S3cr3t-CANARY")
    assert main(["profile", "show", "work"]) == 0
    assert "CANARY" not in capsys.readouterr().out
    (profiles / "psk").unlink()
    assert main(["profile", "show", "work"]) == 0


def test_a_valid_profile_is_said_to_be(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "validate", "work"]) == 0
    assert capsys.readouterr().out.endswith(f"{profiles / 'work.toml'} is valid\n")


def test_validate_shows_every_problem_and_exits_with_9(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F2: unknown keys, wrong types and impossible values, each with its line."""
    path = profiles / "work.toml"
    path.write_text(path.read_text() + "[network]\nmtu = 20\nroutse = 'all'\n[session]\nliveness = true\n")
    assert main(["profile", "validate", "work"]) == 9
    captured = capsys.readouterr()
    for key in ("network.mtu", "network.routse", "session.liveness"):
        assert f"key '{key}'" in captured.out
    assert "routes" in captured.out
    assert captured.err == "error: the profile is not valid\n"


def test_several_profiles_are_all_checked(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profiles / "broken.toml").write_text("version = 1\n")
    (profiles / "syntax.toml").write_text("version = \n")
    assert main(["profile", "validate", "broken", "syntax", "work"]) == 9
    captured = capsys.readouterr()
    assert captured.err == "error: 2 of 3 profiles are not valid\n"
    assert "work.toml is valid" in captured.out
    assert "syntax.toml:1" in captured.out


def test_a_profile_that_cannot_be_read_is_one_error(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (profiles / "work.toml").write_text("version = \n")
    assert main(["profile", "validate", "work"]) == 9
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert main(["profile", "validate", "missing"]) == 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("routes", ROUTES)
def test_a_new_profile_is_private_and_valid(profiles: Path, method: str, routes: str) -> None:
    arguments = ["--method", method, "--routes", routes, "--gateway", "gw.example.org", "--identity", "bob@example.org"]
    assert main(["profile", "new", "fresh", *arguments]) == 0
    # What it names is not there yet, and connecting would say so.
    absent = ("psk", "certificate", "eap-tls", "eap-sim", "eap-aka", "eap-aka-prime")
    assert main(["profile", "validate", "fresh"]) == (9 if method in absent else 0)
    assert stat.S_IMODE((profiles / "fresh.toml").stat().st_mode) == 0o600
    values = tomllib.loads((profiles / "fresh.toml").read_text())
    assert values["gateway"]["address"] == "gw.example.org"
    assert values["auth"]["method"] == method


def test_a_new_profile_replaces_none_unless_told(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (profiles / "work.toml").read_text()
    assert main(["profile", "new", "work"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (profiles / "work.toml").read_text() == before
    assert main(["profile", "new", "work", "--force"]) == 0
    assert (profiles / "work.toml").read_text() != before
    assert sorted(path.name for path in profiles.iterdir()) == ["psk", "work.toml"]


def test_a_new_profile_goes_to_a_path_or_to_stdout(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "new", str(tmp_path / "deep/there.toml")]) == 0
    assert (tmp_path / "deep/there.toml").exists()
    capsys.readouterr()
    assert main(["profile", "new", "-"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["version"] == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-x"], 2),
        (["a b"], 9),
        (["fresh", "--method", "telepathy"], 2),
        (["fresh", "--gateway", "http://x"], 9),
        (["fresh", "--identity", 'a"b'], 2),
        (["/proc/nowhere/x.toml"], 2),
    ],
)
def test_a_new_profile_that_could_not_be_used_is_refused(profiles: Path, arguments: list[str], code: int) -> None:
    """F3."""
    assert main(["profile", "new", *arguments]) == code
    assert sorted(path.name for path in profiles.iterdir()) == ["psk", "work.toml"]


def test_a_profile_is_found_edited_and_removed(shell: Shell, home: Path) -> None:
    path = home / "config/ikeclient/profiles/work.toml"
    assert shell.run("profile", "path", "work").stdout == f"{path}\n"
    assert shell.run("profile", "path", "nowhere").returncode == 10
    assert shell.run("profile", "edit", "work", EDITOR="sed -i s/alice/bob/").returncode == 0
    assert 'identity = "bob"' in path.read_text()
    broken = shell.run("profile", "edit", "work", VISUAL="sed -i s/identity/identitty/", EDITOR="false")
    assert broken.returncode == 9
    assert "identitty" in broken.stderr
    assert shell.run("profile", "edit", "work", EDITOR="no-such-editor").returncode == 2
    done = shell.run("profile", "remove", "work")
    assert (done.returncode, done.stderr) == (0, f"removed {path}\n")
    assert not path.exists()
    assert shell.run("profile", "remove", "work").returncode == 10


@pytest.mark.parametrize("name", ["../x", "./x", "a/b", "../x/"])
def test_a_new_profile_that_nobody_would_find_is_refused(shell: Shell, name: str) -> None:
    done = shell.run("profile", "new", name)
    assert done.returncode == 2
    assert "path ends in .toml" in done.stderr
