"""`profile import` and `profile export`: files, pipes, permissions and what is refused."""

from __future__ import annotations

import json
import os
import plistlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ikeclient.cli.transfer import ImportKind
from ikeclient.profile.formats import ImportFormat

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported
CANARY = "S3cr3t-CANARY"
APPLE = {
    "PayloadType": "Configuration",
    "PayloadContent": [
        {
            "PayloadType": "com.apple.vpn.managed",
            "UserDefinedName": "My office",
            "VPNType": "IKEv2",
            "IKEv2": {
                "RemoteAddress": "vpn.example.com",
                "LocalIdentifier": "alice",
                "AuthenticationMethod": "SharedSecret",
                "SharedSecret": CANARY,
                "OnDemandEnabled": 1,
            },
        }
    ],
}
TEXT = plistlib.dumps(APPLE).decode()


def profiles(shell: Shell) -> Path:
    path: Path = shell.home / "config/ikeclient/profiles"
    return path


def test_a_profile_is_imported_from_a_pipe_under_its_own_name(shell: Shell) -> None:
    """F12: the secret is in a file of its own, and nowhere else."""
    done = shell.run("profile", "import", "-", stdin=TEXT)
    assert (done.returncode, done.stdout) == (0, "")
    assert "warning: not carried over: OnDemandEnabled" in done.stderr
    assert CANARY not in done.stderr
    for name in ("My-office.toml", "My-office.psk"):
        path = profiles(shell) / name
        assert f"wrote {path}" in done.stderr
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (profiles(shell) / "My-office.psk").read_text() == CANARY
    assert CANARY not in (profiles(shell) / "My-office.toml").read_text()
    assert shell.run("profile", "validate", "My-office").returncode == 0


def test_nothing_is_overwritten_unless_it_is_said(shell: Shell) -> None:
    file = shell.home / "a.mobileconfig"
    file.write_text(TEXT)
    (profiles(shell) / "work.psk").write_text("another secret")
    before = (profiles(shell) / "work.toml").read_text()
    for arguments in (("--as", "work"), ("--as", str(profiles(shell) / "work.toml"))):
        done = shell.run("profile", "import", str(file), *arguments)
        assert done.returncode == 2
        assert "is there already" in done.stderr
    assert (profiles(shell) / "work.toml").read_text() == before
    assert (profiles(shell) / "work.psk").read_text() == "another secret"
    assert shell.run("profile", "import", str(file), "--as", "work", "--force").returncode == 0
    assert (profiles(shell) / "work.psk").read_text() == CANARY
    assert shell.run("profile", "import", str(file), "--as", "a b").returncode == 9


def test_to_standard_output_goes_a_profile_without_secrets(shell: Shell) -> None:
    before = sorted(profiles(shell).iterdir())
    done = shell.run("profile", "import", "-", "--as", "-", "--format", "mobileconfig", stdin=TEXT)
    assert done.returncode == 0
    assert "psk = { prompt = true }" in done.stdout
    assert "left out: the pre-shared key" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert sorted(profiles(shell).iterdir()) == before


def test_files_that_are_no_profile_have_the_exit_codes_of_profiles(shell: Shell) -> None:
    """F1"""
    (shell.home / "odd").write_text("hello")
    (shell.home / "none.sswan").write_text(json.dumps({"type": "ikev2-psk"}))
    for name, code, said in (
        ("odd", 9, "odd: this is no kind of profile that can be imported"),
        ("none.sswan", 9, "none.sswan: the type 'ikev2-psk' is not known"),
        ("nowhere", 10, "nowhere: there is no such file"),
        (".", 9, "the type 'ikev2-psk' is not known"),
        ("/dev/zero", 9, "error: /dev/zero: is not a regular file"),
    ):
        done = shell.run("profile", "import", str(shell.home / name))
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert done.stderr.count(f"{name}: ") <= 1, "the file is named twice"
        assert len(done.stderr.splitlines()) <= 3
    bad = TEXT.replace("vpn.example.com", "http://vpn.example.com/")
    done = shell.run("profile", "import", "-", stdin=bad)
    assert done.returncode == 9
    assert "standard input: key 'gateway.address' must be a bare host name" in done.stderr


def test_a_home_that_nobody_has_is_a_file_that_is_not_there(shell: Shell) -> None:
    """F1: `~name` of no user, in every command that takes a path."""
    for command in (("connect",), ("profile", "validate"), ("profile", "import"), ("profile", "export"), ("proxy",)):
        done = shell.run(*command, "~nobody-of-this-name/x.conf")
        assert done.returncode == 10, done.stderr
        assert "~nobody-of-this-name/x.conf" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_directory_that_we_may_not_look_into_is_a_file_that_we_may_not_read(tmp_path: Path) -> None:
    """F1, O12: a home, and a place for sockets below it, that belong to others."""
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    for path in (tmp_path, *tmp_path.parents[:-2]):
        path.chmod(path.stat().st_mode | 0o011)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(closed)}
    become = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-m", "ikeclient")
    for command, code in (("profile import", 9), ("connect", 9), ("status", 0)):
        names = [str(closed / "x.conf")] if command != "status" else []
        done = subprocess.run(
            [*become, *command.split(), *names], check=False, capture_output=True, text=True, env=environment, cwd="/"
        )
        assert done.returncode == code, done.stderr
        assert "bug" not in done.stderr


def test_export_and_import_can_be_joined_by_a_pipe(shell: Shell) -> None:
    plain = shell.run("profile", "export", "work", "--format", "mobileconfig")
    assert plain.returncode == 0
    assert "not exported: auth.psk" in plain.stderr
    secret = (profiles(shell) / "psk").read_text()
    assert secret not in plain.stdout
    full = shell.run("profile", "export", "work", "--format", "mobileconfig", "--include-secrets")
    assert secret in full.stdout
    assert shell.run("profile", "import", "-", "--as", "copy", stdin=full.stdout).returncode == 0
    assert (profiles(shell) / "copy.psk").read_text() == secret
    shown = [shell.run("profile", "export", name, "--format", "swanctl").stdout for name in ("work", "copy")]
    assert shown[0].count("vpn.example.com") == shown[1].count("vpn.example.com") > 0


def test_a_file_that_is_exported_is_private_and_replaces_nothing(shell: Shell) -> None:
    path = shell.home / "out.conf"
    arguments = ("profile", "export", "work", "--format", "swanctl", "--include-secrets", "-o", str(path))
    assert shell.run(*arguments).returncode == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "connections {" in path.read_text()
    assert shell.run(*arguments).returncode == 2
    assert shell.run(*arguments, "--force").returncode == 0
    assert shell.run("profile", "export", "work", "-o", str(shell.home / "misspelt/out.toml")).returncode == 2
    assert not (shell.home / "misspelt").exists()
    assert shell.run("profile", "export", "work", "--format", "sswan").returncode == 9
    assert shell.run("profile", "export", "nowhere").returncode == 10
    toml = shell.run("profile", "export", "work")
    assert toml.stdout.startswith("version = 1\n")


EAP = {"name": "Office", "type": "ikev2-eap", "remote": {"addr": "vpn.example.com"}, "local": {}}


def test_the_end_says_how_to_connect_or_what_is_missing(shell: Shell) -> None:
    file = shell.home / "office.sswan"
    file.write_text(json.dumps(EAP))
    done = shell.run("profile", "import", str(file))
    assert (done.returncode, done.stdout) == (9, "")
    assert done.stderr.splitlines()[-1] == "still missing: auth.user"
    assert (profiles(shell) / "Office.toml").exists()
    invalid = shell.run("profile", "validate", "Office")
    assert invalid.returncode == 9
    assert "key 'auth.user' is missing" in invalid.stdout
    done = shell.run("profile", "import", str(file), "--user", "alice", "--force")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "ready: ikeclient connect Office"
    assert shell.run("profile", "validate", "Office").returncode == 0


def test_a_check_writes_nothing_and_tells_in_json(shell: Shell) -> None:
    file = shell.home / "office.sswan"
    file.write_text(json.dumps({**EAP, "type": "ikev2-byod-eap", "mtu": 1300, "odd": True}))
    before = sorted(profiles(shell).iterdir())
    done = shell.run("profile", "import", str(file), "--check", "--json")
    assert done.returncode == 9
    document = json.loads(done.stdout)
    assert (document["schema"], document["ready"], document["missing"]) == ("ikeclient.import/1", False, ["auth.user"])
    assert [each["rank"] for each in document["warnings"]] == ["security", "other", "other"]
    assert document["written"] == []
    assert sorted(profiles(shell).iterdir()) == before
    done = shell.run("profile", "import", str(file), "--check", "--user", "alice")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "ready: nothing is missing"
    assert done.stderr.index("security: ") < done.stderr.index("warning: ")
    refused = shell.run("profile", "import", str(shell.home / "odd.sswan"), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["ready"]) == (10, False)
    assert shell.run("profile", "import", str(file), "--as", "-", "--json").returncode == 2


def test_files_that_a_profile_names_have_to_be_there(shell: Shell) -> None:
    path = profiles(shell) / "work.toml"
    (profiles(shell) / "psk").unlink()
    done = shell.run("profile", "validate", "work")
    assert done.returncode == 9
    assert f"{path}:8: key 'auth.psk' names {profiles(shell) / 'psk'}: there is no such file" in done.stdout


def test_connect_takes_a_file_of_another_client(shell: Shell) -> None:
    file = shell.home / "a.mobileconfig"
    file.write_text(TEXT)
    before = sorted(shell.home.rglob("*.psk"))
    done = shell.run("connect", str(file), "--detach", mode="good")
    assert done.returncode == 0, done.stderr
    assert sorted(shell.home.rglob("*.psk")) == before
    shown = shell.run("status", "--json")
    assert [tunnel["name"] for tunnel in json.loads(shown.stdout)["tunnels"]] == ["My-office"]
    assert shell.run("disconnect", "My-office").returncode == 0
    (shell.home / "odd.sswan").write_text("{}")
    refused = shell.run("connect", str(shell.home / "odd.sswan"), "--detach", mode="good")
    assert refused.returncode == 9
    assert "odd.sswan" in refused.stderr
    assert shell.run("connect", "nowhere.sswan", "--detach", mode="good").returncode == 10


def test_every_format_that_is_read_can_be_asked_for() -> None:
    assert list(map(str, ImportKind)) == ["auto", *ImportFormat]
