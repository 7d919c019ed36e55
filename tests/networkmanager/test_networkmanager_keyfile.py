"""A profile, and any file that can be imported, as a connection of NetworkManager's."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from ikeclient.errors import ProfileError
from ikeclient.networkmanager.connection import SERVICE, VpnConnection
from ikeclient.networkmanager.keyfile import Imported, imported, keyfile
from ikeclient.profile.importers.open import opened
from ikeclient.profile.load.load import load_profile

TEXT = """version = 1
[gateway]
address = "vpn.example.com"
[auth]
method = "psk"
identity = "alice@example.org"
psk = { file = "psk" }
[network]
routes = ["10.0.0.0/8"]
dns = "all"
"""


def of(tmp_path: Path, text: str) -> Imported:
    path = tmp_path / "work.toml"
    path.write_text(text)
    return imported(load_profile(str(path)), tmp_path / "beside")


def test_keys_become_data_and_the_profile_is_the_same(tmp_path: Path) -> None:
    found = of(tmp_path, TEXT)
    assert found.name == "work"
    assert found.data["gateway.address"] == "vpn.example.com"
    assert found.data["auth.psk.file"] == str(tmp_path / "psk")
    again = VpnConnection(name="work", data=found.data).profile
    first = load_profile(str(tmp_path / "work.toml")).profile
    assert again.network == first.network
    assert again.gateway == first.gateway
    assert found.files == {}


def test_text_that_looks_like_something_else_stays_text(tmp_path: Path) -> None:
    for written in ("12345", "true", "[x]", "{}", "inf", ' "quoted"', "1979-05-27", "a = b # c", "per%cent;x"):
        quoted = written.replace('"', '\\"')
        found = of(tmp_path, TEXT.replace("alice@example.org", quoted))
        assert VpnConnection(name="work", data=found.data).profile.auth.identity == written


def test_what_a_connection_cannot_say_is_told(tmp_path: Path) -> None:
    text = TEXT.replace('psk = { file = "psk" }', 'psk = { command = ["/bin/cat", "psk"] }')
    found = of(tmp_path, text + '[session]\nkill_switch = true\nup = [["/bin/true"]]\n')
    assert not [key for key in found.data if "command" in key or key.startswith("session")]
    assert len(found.warnings) == 3
    assert found.data["auth.psk-flags"] == "1"  # the agent is asked then


def test_the_form_of_keyfiles(tmp_path: Path) -> None:
    found = Imported(name="work", data={"auth.user": "a\\b"}, secrets={"auth.password": " lead\ning\\"})
    text = keyfile(found, "alice")
    read = configparser.RawConfigParser()
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(text)
    assert read["connection"]["permissions"] == "user:alice:;"
    assert read["vpn"]["service-type"] == SERVICE
    assert read["vpn"]["auth.user"] == "a\\\\b"
    assert read["vpn-secrets"]["auth.password"] == "\\slead\\ning\\\\"
    assert "permissions" not in keyfile(found)


SSWAN = """{"uuid": "8c1c1d59-9a3b-4e2f-a7b8-0c9d1e2f3a4b", "name": "Corp", "type": "ikev2-eap",
"remote": {"addr": "vpn.example.com"}, "local": {"eap_id": "alice"}}"""


def test_a_file_of_another_client(tmp_path: Path) -> None:
    path = tmp_path / "corp.sswan"
    path.write_text(SSWAN)
    with opened(str(path)) as loaded:
        found = imported(loaded, tmp_path / "beside")
    assert found.name == "Corp"
    assert found.data["auth.user"] == "alice"
    assert found.data["auth.password-flags"] == "1"


PSK_SWANCTL = """connections {
  corp {
    version = 2
    remote_addrs = 192.0.2.1
    local { auth = psk
      id = alice@example.org }
    remote { auth = psk
      id = gw.example.org }
  }
}
secrets {
  ike { id = gw.example.org
    secret = "a secret of some length" }
}
"""


def test_secrets_inside_a_file_go_into_the_connection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "swanctl.conf"
    path.write_text(PSK_SWANCTL.replace("{ auth", "{\n auth").replace(" }\n", "\n }\n").replace("{ id", "{\n id"))
    with opened(str(path)) as loaded:
        found = imported(loaded, tmp_path / "beside")
    assert found.secrets == {"auth.psk": "a secret of some length"}
    assert not any(key.startswith("auth.psk") for key in found.data)
    assert "a secret of some length" not in repr(found)


def test_a_connection_of_ours_becomes_the_profile_again(tmp_path: Path) -> None:
    found = of(tmp_path, TEXT.replace('psk = { file = "psk" }', "psk = { prompt = true }"))
    found.secrets["auth.psk"] = "0x00112233445566778899aabbccddeeff"
    path = tmp_path / "work.nmconnection"
    path.write_text(keyfile(found, "alice"))
    with opened(str(path)) as loaded:
        assert loaded.profile.network == load_profile(str(tmp_path / "work.toml")).profile.network
        assert loaded.profile.auth.identity == "alice@example.org"
        source = loaded.profile.auth.psk
        assert source is not None
        assert (loaded.base_dir / str(source.file)).read_text() == "0x00112233445566778899aabbccddeeff"


def test_a_strangers_connection_brings_no_commands(tmp_path: Path) -> None:
    found = of(tmp_path, TEXT)
    found.data["session.up"] = '[["/bin/true"]]'
    path = tmp_path / "work.nmconnection"
    path.write_text(keyfile(found))
    with pytest.raises(ProfileError, match=r"session\.up"), opened(str(path)):
        pass
