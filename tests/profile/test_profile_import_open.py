"""A PROFILE argument that is another client's file: used at once, and nothing of it stays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from profile_world import CANARY, PSK

from ikeclient.errors import ProfileError, ProfileNotFound
from ikeclient.ike.config import CertificateAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.importers import stage
from ikeclient.profile.importers.open import opened
from ikeclient.profile.load.lookup import tunnel_name
from ikeclient.profile.secrets.secrets import Secret

Write = Callable[..., Path]
FILES = Path(__file__).with_name("files")


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    path = tmp_path / "scratch"
    path.mkdir(mode=0o711)
    monkeypatch.setattr(stage, "MEMORY", path)
    return path


def compiled(reference: str, **arguments: object) -> CompiledProfile:
    with opened(reference, environ={}, **arguments) as loaded:  # type: ignore[arg-type]
        kept = arguments.get("kept")
        return compile_profile(loaded.profile, loaded.base_dir, None, kept=kept, author=loaded.author)  # type: ignore[arg-type]


def test_nothing_of_a_file_stays(scratch: Path) -> None:
    """F12"""
    with opened(str(FILES / "34-none-means-psk.mobileconfig"), environ={}) as loaded:
        assert loaded.name == "Work"
        assert loaded.base_dir.parent == scratch
        assert all(path.stat().st_mode & 0o077 == 0 for path in (loaded.base_dir, *loaded.base_dir.iterdir()))
    assert list(scratch.iterdir()) == []
    with pytest.raises(ProfileError), opened(str(FILES / "09-xauth.ipsec.conf"), environ={}):
        pass
    assert list(scratch.iterdir()) == []


def test_what_makes_it_weaker_is_among_its_warnings(scratch: Path) -> None:
    with opened(str(FILES / "51-psk-no-remote-id.swanctl.conf"), ["session.mobike=false"], environ={}) as loaded:
        assert any(text.startswith("security: gateway.identity is %any") for text in loaded.warnings)
        assert not loaded.profile.session.mobike


def test_a_passphrase_is_asked_for_once_and_trust_is_the_same_when_nobody_can_be_asked(scratch: Path) -> None:
    """The profile is read again after SIGHUP, and must not then trust every public authority."""
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    kept: dict[str, Secret] = {}
    reference = str(FILES / "20-ca-inside-p12.sswan")
    first = compiled(reference, ask=ask, kept=kept)
    again = compiled(reference, kept=kept)
    assert len(asked) == 1
    for each in (first, again):
        assert isinstance(each.ike.auth, CertificateAuth)
        theirs = each.ike.gateway.auth
        assert isinstance(theirs, TrustedCertificate)
        assert [anchor.subject for anchor in theirs.trust.anchors] == ["O=Corp, CN=Corp VPN CA"]


def test_a_profile_is_a_profile_whatever_it_is_called(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("work", PSK)
    with opened(str(path), environ={}) as loaded:
        assert (loaded.path, loaded.name) == (path, "work")
    broken = write("broken", "version = 1\n[gateway]\naddress = 3\n")
    with pytest.raises(ProfileError, match=r"gateway\.address"), opened(str(broken), environ={}):
        pass
    monkeypatch.chdir(path.parent)
    with pytest.raises(ProfileNotFound), opened("nowhere.sswan", environ={}):
        pass


def test_a_name_is_looked_up_before_a_file_of_that_name(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("office", (FILES / "34-none-means-psk.mobileconfig").read_bytes())
    environ = {"XDG_CONFIG_HOME": str(file.parent / "config")}
    monkeypatch.chdir(file.parent)
    with opened("office", environ=environ) as loaded:
        assert loaded.name == "Work"
    profiles = file.parent / "config/ikeclient/profiles"
    profiles.mkdir(parents=True)
    write("config/ikeclient/profiles/office.toml", PSK)
    with opened("office", environ=environ) as loaded:
        assert loaded.name == "office"


def test_a_directory_with_the_name_of_a_profile_that_is_not_there_is_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name means a profile; the working directory may be anything, and full of files."""
    (tmp_path / "office").mkdir()
    (tmp_path / "office/a.mobileconfig").write_bytes((FILES / "34-none-means-psk.mobileconfig").read_bytes())
    monkeypatch.chdir(tmp_path)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    with pytest.raises(ProfileNotFound) as refused, opened("office", environ=environ):
        pass
    assert refused.value.hint == "to use what is in the directory of that name here, say ./office"
    with opened("./office", environ=environ) as loaded:
        assert loaded.name == "Work"


def test_a_directory_and_an_archive_are_used_at_once(tmp_path: Path, scratch: Path) -> None:
    place = tmp_path / "swanctl"
    (place / "conf.d").mkdir(parents=True)
    (place / "conf.d/office.conf").write_bytes((FILES / "51-psk-no-remote-id.swanctl.conf").read_bytes())
    (place / "README").write_text("nothing")
    with opened(str(place), environ={}) as loaded:
        assert (loaded.profile.auth.method, loaded.profile.gateway.identity) == ("psk", "%any")
    with zipfile.ZipFile(tmp_path / "office.zip", "w") as archive:
        archive.write(place / "conf.d/office.conf", "office/office.conf")
    with opened(str(tmp_path / "office.zip"), environ={}, name="other") as loaded:
        assert (loaded.name, loaded.profile.auth.method) == ("other", "psk")
    (place / "conf.d/office.conf").unlink()
    with pytest.raises(ProfileError, match="there is no profile in it"), opened(str(place), environ={}):
        pass
    assert list(scratch.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_what_a_strangers_file_names_is_read_with_their_rights(write: Write, scratch: Path) -> None:
    """E15: root's key does not sign for a stranger's gateway."""
    scratch.chmod(0o755)
    secret = write("root.key", CANARY)
    text = f"""connections {{ w {{
      remote_addrs = 192.0.2.1
      local {{ auth = pubkey
        certs = {secret} }}
      remote {{ auth = pubkey
        id = a
        cacerts = {secret} }}
      children {{ n {{ remote_ts = 10.0.0.0/8 }} }} }} }}"""
    path = write("stranger.conf", text, 0o644)
    os.chown(path, 65534, 65534)
    with pytest.raises(ProfileError, match=r"permission denied|uid 65534"):
        compiled(str(path))


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("./My office (1).mobileconfig", "My-office-1"),
        ("/etc/swanctl/conf.d/office.conf", "office"),
        ("/x/work.toml", "work"),
        ("./\u00e4\u00e4", "imported"),
        ("office", "office"),
    ],
)
def test_the_tunnel_of_a_file_is_called_like_it(reference: str, name: str) -> None:
    """`exec` and `proxy` know the name of the tunnel before they read the file."""
    assert tunnel_name(reference, {}) == name
