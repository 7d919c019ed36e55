"""Where the plugin's files go."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path

import pytest

from ikeclient.networkmanager.connection import SERVICE
from ikeclient.networkmanager.install import LIBRARY, install, install_here


def description(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(path.read_text())
    return parser


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")
def test_a_package_has_all_files_in_the_places_of_packages(tmp_path: Path) -> None:
    written = install(tmp_path, Path("/usr"), Path("/usr/bin"))
    assert all((tmp_path / path.relative_to("/")).is_file() for path in written)
    read = description(tmp_path / "usr/lib/NetworkManager/VPN/nm-ikeclient-service.name")
    assert read["VPN Connection"]["service"] == SERVICE
    assert read["VPN Connection"]["program"] == "/usr/bin/ikeclient-networkmanager"
    assert read["libnm"]["plugin"] == f"/usr/lib/ikeclient/{LIBRARY}"
    assert b"/usr/bin/ikeclient-networkmanager" in (tmp_path / f"usr/lib/ikeclient/{LIBRARY}").read_bytes()
    assert SERVICE in (tmp_path / "usr/share/dbus-1/system.d/nm-ikeclient-service.conf").read_text()


def test_without_a_compiler_the_rest_is_there_and_the_lack_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_here(str(tmp_path), "/usr/local", "/opt/bin") == 0
    read = description(tmp_path / "etc/NetworkManager/VPN/nm-ikeclient-service.name")
    assert "libnm" not in read
    assert read["GNOME"]["auth-dialog"] == "/opt/bin/ikeclient-auth-dialog"
    assert "no C compiler" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc").write_text("")
    assert install_here(str(tmp_path), "/usr/local", "/opt/bin") == 12
    assert f"cannot write {tmp_path}" in capsys.readouterr().err
