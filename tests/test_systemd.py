"""The unit for systemd: what systemd itself says of it, and that it and its page agree with the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ikeclient import errors

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "systemd"
OF_USERS = DIRECTORY.with_name("systemd-user")
UNIT = DIRECTORY / "ikeclient@.service"
PAGE = DIRECTORY / "README.md"
ANALYZE = shutil.which("systemd-analyze")

needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here")


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *words], capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_the_exposure_is_no_more_than_the_page_says() -> None:
    stated = re.search(r"exposure level.*? (\d\.\d)", PAGE.read_text(), re.DOTALL)
    assert stated is not None
    done = analyze("security", "--offline=yes", str(UNIT))
    measured = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    if measured is None and "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is too old to look at files")
    assert measured is not None, done.stderr
    assert float(measured[1]) <= float(stated[1])


@needs_systemd
@pytest.mark.parametrize("unit", ["ikeclient@work", "ikeclient-block@work", "ikeclient-sleep"])
def test_systemd_understands_every_line(tmp_path: Path, unit: str) -> None:
    for source in DIRECTORY.glob("*.service"):
        (tmp_path / source.name).write_text(source.read_text().replace("/opt/ikeclient/bin/ikeclient", "/bin/true"))
    done = analyze("verify", str(tmp_path / f"{unit}.service"), "--man=no", "--recursive-errors=no")
    complaints = [line for line in done.stderr.splitlines() if unit.partition("@")[0] in line]
    assert complaints == []


@needs_systemd
@pytest.mark.parametrize("unit", ["ikeclient@work", "ikeclient-proxy@work", "ikeclient-watch", "ikeclient-notify"])
def test_systemd_understands_every_line_of_a_users_unit(tmp_path: Path, unit: str) -> None:
    for source in OF_USERS.glob("*.service"):
        (tmp_path / source.name).write_text(source.read_text().replace("/opt/ikeclient/bin/ikeclient", "/bin/true"))
    done = analyze("--user", "verify", str(tmp_path / f"{unit}.service"), "--man=no", "--recursive-errors=no")
    complaints = [line for line in done.stderr.splitlines() if unit.partition("@")[0] in line]
    assert complaints == []


@pytest.mark.parametrize("name", ["ikeclient@.service", "ikeclient-proxy@.service"])
def test_a_user_has_the_same_rules_for_another_start(name: str) -> None:
    text = (OF_USERS / name).read_text()
    for key in ("Restart", "RestartSec", "RestartPreventExitStatus", "KillMode", "TimeoutStartSec", "TimeoutStopSec"):
        assert f"\n{key}={settings()[key][0]}\n" in text


def test_the_machine_is_closed_before_there_is_a_network_and_by_the_directory_of_the_tunnel() -> None:
    text = (DIRECTORY / "ikeclient-block@.service").read_text()
    assert "Before=network-pre.target ikeclient@%i.service" in text
    same = ("RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve", "User", "AmbientCapabilities")
    assert all(f"{name}={settings()[name][0]}" in text for name in same)
    assert "ikeclient block /etc/ikeclient/profiles/%i.toml" in text


def test_what_would_only_be_refused_again_is_not_started_again() -> None:
    """The exit codes are those of the errors; silence, a failed set-up and a bug are worth another start."""
    prevented = {int(code) for code in settings()["RestartPreventExitStatus"][0].split()}
    hopeless = (
        errors.UsageError,
        errors.AuthenticationFailed,
        errors.NegotiationRefused,
        errors.GatewayNotAuthenticated,
        errors.ProfileError,
        errors.ProfileNotFound,
        errors.PrivilegeError,
    )
    assert prevented == {kind.exit_code for kind in hopeless}
    assert not prevented & {
        errors.NoResponse.exit_code,
        errors.PlatformError.exit_code,
        errors.IkeclientError.exit_code,
    }


def test_the_directory_of_the_journal_outlives_a_crash() -> None:
    """O20: systemd would remove it when the service dies, and the next start would find a machine it cannot explain."""
    assert settings()["RuntimeDirectoryPreserve"] == ["yes"]


def test_what_is_learnt_about_revocation_has_a_place() -> None:
    assert settings()["CacheDirectory"] == ["ikeclient"]
    assert settings()["CacheDirectoryMode"] == ["0700"]


def test_the_sandbox_leaves_what_a_tunnel_needs() -> None:
    """/proc/sys says whether there is IPv6; sockets of these families; the one capability; the one device."""
    unit = settings()
    assert "ProcSubset" not in unit
    assert set(unit["RestrictAddressFamilies"][0].split()) == {"AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"}
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert unit["DeviceAllow"] == ["/dev/net/tun rw"]
    assert "PrivateDevices" not in unit
