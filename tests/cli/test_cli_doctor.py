"""`doctor` on good and on broken machines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ikeclient.cli import doctor
from ikeclient.cli.app import main
from ikeclient.errors import PlatformError
from ikeclient.esp.codec import choice
from ikeclient.net.rights import privileges
from ikeclient.net.rights.drop_privileges import future_user
from ikeclient.tunnel.revocation_cache import RevocationCache


def test_this_machine_is_described_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for name in ("ikeclient", "libraries", "codec", "TUN device", "CAP_NET_ADMIN", "DNS", "offload"):
        assert any(line[2:].startswith(name) for line in lines)


def test_the_findings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "ikeclient.doctor/1"
    assert all(each.keys() == {"name", "ok", "text", "hint"} for each in document["findings"])


def test_what_is_missing_comes_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """O1: the missing right is named with its fix."""
    fact = privileges.Fact("TUN device", False, "there is no /dev/net/tun", "modprobe tun")
    monkeypatch.setattr(privileges, "describe", lambda _: [fact])
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [number] = [number for number, line in enumerate(lines) if line.endswith("there is no /dev/net/tun")]
    assert lines[number].split()[1:3] == ["TUN", "device"]
    assert lines[number + 1].strip() == "modprobe tun"


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("no /proc"), PlatformError("broken")])
def test_a_machine_that_cannot_be_examined_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def broken(_: object) -> list[privileges.Fact]:
        raise error

    monkeypatch.setattr(privileges, "describe", broken)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert f"cannot be examined: {error}" in shown
    assert "addresses" in shown


def test_a_compiled_codec_from_other_sources_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "ACTIVE", "plain")
    monkeypatch.setattr(choice, "STALE", True)
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (finding,) = (each for each in findings if each["name"] == "codec")
    assert not finding["ok"]
    assert "made from other sources" in finding["text"]
    assert "install again" in finding["hint"]


def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "details", lambda: {**_DETAILS, "dependencies": {"rich": "1", "pyroute2": None}})
    assert main(["doctor"]) == 0
    assert "install pyroute2" in capsys.readouterr().out


_DETAILS = {"version": "1", "python": "3", "system": "Linux"}


@pytest.mark.parametrize(
    ("purpose", "lacking"), [("connect", "TUN device"), ("exec", "rootless"), ("proxy", "rootless")]
)
def test_doctor_for_a_command_is_0_or_11(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], purpose: str, lacking: str
) -> None:
    found = [doctor.Finding(name, True, "fine", None) for name in ("TUN device", "CAP_NET_ADMIN", "rootless")]
    monkeypatch.setattr(doctor, "findings", lambda: found)
    assert main(["doctor", "--for", purpose]) == 0
    found[:] = [each._replace(ok=each.name != lacking, hint="do this") for each in found]
    assert main(["doctor", "--for", purpose]) == 11
    assert capsys.readouterr().err == f"error: `{purpose}` cannot work here\n  fine\n  do this\n"


def test_libraries_that_need_not_be_there_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "pkcs11" else object())
    (finding,) = [each for each in doctor.findings() if each.name == "optional"]
    assert finding.ok
    assert "python-pkcs11 (keys on tokens) is not installed: pip install python-pkcs11" in finding.text
    assert "keyring (secrets in the desktop's keyring) is there" in finding.text


def test_a_device_that_was_made_for_this_user_takes_the_place_of_cap_net_admin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """O1: `--for connect` asks for what `connect` needs."""
    for name, owner, group in (("eth0", None, None), ("ike0", os.geteuid(), -1), ("tun1", -1, -1), ("tun2", 4711, -1)):
        (tmp_path / name).mkdir()
        if owner is not None:
            (tmp_path / name / "owner").write_text(f"{owner}\n")
            (tmp_path / name / "group").write_text(f"{group}\n")
    node = privileges.Fact("TUN device", True, "it can be opened")
    admin = privileges.Fact("CAP_NET_ADMIN", False, "routes cannot be changed", "run as root")
    own = privileges._own_devices(tmp_path)
    assert [fact.text.partition(":")[0] for fact in own] == ["ike0"]
    monkeypatch.setattr(privileges, "describe", lambda _: [node, admin, *own])
    assert main(["doctor", "--for", "connect"]) == 0
    monkeypatch.setattr(privileges, "describe", lambda _: [node, admin])
    assert main(["doctor", "--for", "connect"]) == 11
    assert "run as root" in capsys.readouterr().err


def test_where_answers_about_revocation_are_kept_and_how_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """C8."""
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("http_proxy", raising=False)

    def found() -> dict[str, doctor.Finding]:
        return {each.name: each for each in doctor._revocation()}

    assert found()["revocation"].ok
    assert "nothing is kept yet" in found()["revocation"].text
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    cache.put("key", bytes(3000))
    assert found()["revocation"].text == f"1 answers (2 KiB) are kept in {tmp_path}/revocation"
    if (future := future_user()) is not None:  # as it is after root's first tunnel
        os.chown(tmp_path / "revocation", *future)
        assert found()["revocation"].ok
    (tmp_path / "revocation").chmod(0o755)
    assert not found()["revocation"].ok
    assert "directly" in found()["OCSP and CRLs"].text
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    assert "through the proxy http://proxy.example:3128" in found()["OCSP and CRLs"].text
    monkeypatch.setenv("http_proxy", "https://proxy.example/")
    assert not found()["OCSP and CRLs"].ok
