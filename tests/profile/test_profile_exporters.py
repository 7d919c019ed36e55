"""Profiles for other clients: read back by our importers they mean the same, and secrets stay out unless asked for."""

from __future__ import annotations

import base64
import json
import plistlib
import tomllib
from pathlib import Path

import pytest
from profile_world import CANARY, CERTIFICATE, EAP, PSK, Owner

from ikeclient.errors import ProfileError, UsageError
from ikeclient.profile.exporters.parts import Parts
from ikeclient.profile.exporters.write import Format, write_foreign
from ikeclient.profile.importers.read import read_foreign
from ikeclient.profile.load.load import load_profile, parse_profile

EXTRAS = """
[crypto]
ike = ["aes256gcm16-prfsha384-ecp384"]
esp = ["aes256-sha256-ecp256"]
[network]
routes = "all"
exclude = ["lan", "192.0.2.0/24"]
[session]
mobike = false
liveness = 700
up = [["/bin/true"]]
"""
FORMATS = [Format.MOBILECONFIG, Format.SSWAN, Format.SWANCTL]
FILES = Path(__file__).with_name("files")


def exported(place: Path, text: str, form: Format, *, secrets: bool = False) -> tuple[bytes, list[str]]:
    path = place / "work.toml"
    path.write_text(text)
    parts = Parts(loaded=load_profile(str(path)), include_secrets=secrets)
    return write_foreign(parts, form), parts.warnings


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", [PSK, EAP, CERTIFICATE], ids=["psk", "eap", "certificate"])
def test_what_is_exported_and_imported_again_means_the_same(place: Path, text: str, form: Format) -> None:
    if (form, text) == (Format.SSWAN, PSK):
        with pytest.raises(ProfileError, match="psk cannot be exported"):
            exported(place, text, form)
        return
    before = parse_profile(text + EXTRAS).profile
    data, warnings = exported(place, text + EXTRAS, form)
    after = parse_profile(read_foreign(data).toml("work")).profile
    assert CANARY not in data.decode()
    assert after.gateway.address == before.gateway.address
    assert after.gateway.identity == (before.gateway.identity or before.gateway.address[0])
    assert after.auth.identity == before.auth.identity
    assert after.auth.method in (before.auth.method, "eap")
    assert after.crypto == before.crypto
    assert any("session.up" in warning for warning in warnings)
    if form is not Format.SSWAN:
        assert after.session.mobike == before.session.mobike
        assert after.network.routes == "all"
    if form is Format.MOBILECONFIG:
        assert (after.session.liveness, after.network.exclude) == (600, ("lan",))


SECRET_FORMATS = [*FORMATS, Format.NETWORKMANAGER]


@pytest.mark.parametrize("form", SECRET_FORMATS)
def test_a_secret_goes_along_only_where_it_was_asked_for(place: Path, form: Format, alice: Owner) -> None:
    """F12"""
    (place / "alice.p12").write_bytes(alice.pkcs12(None))
    (place / "alice.p12").chmod(0o600)
    bundle = CERTIFICATE.replace("alice.pem", "alice.p12").replace('key = "alice.key"\n', "")
    for text, secret in ((PSK, CANARY.encode()), (EAP, CANARY.encode()), (bundle, (place / "alice.p12").read_bytes())):
        if form is Format.SSWAN and text is PSK:
            continue
        for asked in (False, True):
            data, warnings = exported(place, text, form, secrets=asked)
            files = [item.data for item in read_foreign(data).attachments if item.suffix in ("psk", "pw", "p12")]
            decoded = [base64.b64decode(each[2:]) if each.startswith(b"0s") else each for each in files]
            # swanctl and NetworkManager are given the name of a certificate's file, not what is in it.
            possible = text is not bundle or form in (Format.MOBILECONFIG, Format.SSWAN)
            assert (secret in decoded) is (asked and possible)
            if not asked and possible:
                assert any("--include-secrets" in warning for warning in warnings)


def test_swanctl_loads_a_pkcs12_file_by_its_secret(place: Path, alice: Owner) -> None:
    (place / "own.p12").write_bytes(alice.pkcs12(CANARY.encode()))
    (place / "own.p12").chmod(0o600)
    text = CERTIFICATE.replace("alice.pem", "own.p12").replace('key = "alice.key"\n', 'identity = "alice.example"\n')
    text += 'key_passphrase = { file = "pw" }\n'
    data, _ = exported(place, text, Format.SWANCTL, secrets=True)
    assert b" certs =" not in data
    draft = read_foreign(data)
    assert draft.tables["auth"]["certificate"] == str(place / "own.p12")
    assert [item.data for item in draft.attachments if item.suffix == "passphrase"] == [CANARY.encode()]
    closed, warnings = exported(place, text, Format.SWANCTL)
    assert CANARY not in closed.decode()
    assert any("auth.key_passphrase" in warning for warning in warnings)


def test_the_passphrase_of_a_key_goes_along_to_swanctl(place: Path, alice: Owner) -> None:
    (place / "alice.key").write_bytes(alice.key_pem(CANARY.encode()))
    data, _ = exported(place, CERTIFICATE + 'key_passphrase = { file = "pw" }\n', Format.SWANCTL, secrets=True)
    draft = read_foreign(data)
    assert [item.data for item in draft.attachments if item.suffix == "passphrase"] == [CANARY.encode()]


def test_a_certificate_that_all_may_read_is_no_secret(place: Path) -> None:
    for form in (Format.MOBILECONFIG, Format.SSWAN):
        _, warnings = exported(place, CERTIFICATE, form, secrets=True)
        assert any("no PKCS#12 file" in warning for warning in warnings)


@pytest.mark.parametrize("name", ["70-export-gateway-routes", "71-export-all-routes", "72-export-p12"])
def test_what_cannot_be_said_is_told(tmp_path: Path, name: str) -> None:
    for other in ("pw", "pass", "42-p12-alone.p12"):
        (tmp_path / other).write_bytes((FILES / other).read_bytes())
        (tmp_path / other).chmod(0o600)
    text = (FILES / f"{name}.toml").read_text()
    match name[:2]:
        case "70":
            data, warnings = exported(tmp_path, text, Format.SWANCTL)
            assert any('network.routes = "gateway"' in warning for warning in warnings)
            assert any('routes = "all"' in warning for warning in read_foreign(data).warnings)
        case "71":
            data, warnings = exported(tmp_path, text, Format.SSWAN, secrets=True)
            document = json.loads(data)
            assert document["split-tunneling"] == {"block-ipv4": True, "block-ipv6": True}
            assert document["local"]["shared_secret"] == "W0rd"
            assert any("eap-md5" in warning for warning in warnings)
            assert read_foreign(data).tables["network"] == {"routes": "all"}
        case _:
            data, _ = exported(tmp_path, text, Format.SWANCTL, secrets=True)
            assert b"pkcs12-work" in data
            assert b" certs =" not in data


LAW = """
version = 1
[gateway]
address = "vpn.example.com"
identity = "gw.example.com"
ca = "{ca}"
[auth]
method = "eap"
identity = "alice@example.com"
user = "alice"
[crypto]
ike = ["aes256-sha256-modp2048"]
esp = ["aes256-sha256"]
[network]
"""
CAN_SAY: dict[Format, str] = {
    Format.SWANCTL: """
request = ["ipv4", "dns"]
routes = ["10.0.0.0/8", "192.0.2.0/24"]
exclude = ["10.9.0.0/16"]
[session]
mobike = false
liveness = 700
rekey_ike = 7200
rekey_child = 1800
encapsulation = "always"
""",
    Format.SSWAN: """
routes = ["10.0.0.0/8"]
exclude = ["10.9.0.0/16"]
dns_servers = ["10.99.0.53"]
mtu = 1300
""",
    Format.MOBILECONFIG: """
routes = "all"
exclude = ["lan"]
dns_servers = ["10.99.0.53"]
dns_domains = ["corp.example"]
mtu = 1300
[session]
mobike = false
liveness = 600
rekey_ike = 7200
rekey_child = 1800
""",
    Format.NETWORKMANAGER: """
request = []
routes = ["10.0.0.0/8", "2001:db8::/32"]
dns_servers = ["10.99.0.53"]
dns_domains = ["corp.example"]
[session]
encapsulation = "always"
""",
    Format.POWERSHELL: """
routes = ["10.0.0.0/8", "192.0.2.0/24"]
""",
}


@pytest.mark.parametrize("form", CAN_SAY)
def test_importing_an_export_gives_the_same_profile(place: Path, form: Format) -> None:
    """What a format can say comes back as it was; for the rest there is a warning."""
    text = LAW.format(ca=place / "ca.pem") + CAN_SAY[form]
    data, warnings = exported(place, text, form)
    assert [
        warning for warning in warnings if "--include-secrets" not in warning and form is not Format.POWERSHELL
    ] == []
    before = parse_profile(text).profile
    after = parse_profile(read_foreign(data).toml("work")).profile
    assert after.crypto == before.crypto
    assert after.network == before.network
    assert after.session == before.session
    assert (after.gateway.address, after.auth.method) == (before.gateway.address, before.auth.method)
    if form is not Format.POWERSHELL:
        assert after.gateway.identity == before.gateway.identity
        assert (after.auth.user, after.auth.identity) == ("alice", "alice@example.com")


EVERYTHING = """
[network]
request = []
routes = ["10.0.0.0/8"]
exclude = ["lan", "10.9.0.0/16"]
dns = "none"
dns_servers = ["10.99.0.53"]
dns_domains = ["corp.example"]
mtu = 1300
interface = "vpn0"
[session]
mobike = false
liveness = 700
rekey_ike = 7201
rekey_child = 1801
retry = 3
encapsulation = "always"
offload = "off"
up = [["/bin/true"]]
down = [["/bin/true"]]
"""


@pytest.mark.parametrize("form", CAN_SAY)
def test_no_key_is_lost_without_a_word(place: Path, form: Format) -> None:
    text = LAW.format(ca=place / "ca.pem").replace("[network]\n", "") + EVERYTHING
    text = text.replace('identity = "gw.example.com"', 'identity = "gw.example.com"\nport = 4501\nallow_sha1 = true')
    data, warnings = exported(place, text, form)
    before = parse_profile(text).profile.model_dump(mode="json", exclude_unset=True)
    after = parse_profile(read_foreign(data).toml("work")).profile.model_dump(mode="json")
    said = "\n".join(warnings)
    for section in ("gateway", "network", "session", "crypto"):
        for key, value in before[section].items():
            kept = after[section][key] == value or key == "ca"
            told = f"{section}.{key}" in said or ("lifetime" in said and key.startswith("rekey"))
            assert kept or told, f"{section}.{key}"


def test_apples_property_list_holds_the_authority_and_stable_names(place: Path) -> None:
    first, _ = exported(place, EAP, Format.MOBILECONFIG)
    assert first == exported(place, EAP, Format.MOBILECONFIG)[0]
    vpn, root = plistlib.loads(first)["PayloadContent"]
    assert (vpn["IKEv2"]["ExtendedAuthEnabled"], vpn["IKEv2"]["AuthName"]) == (1, "alice@example.com")
    assert root["PayloadType"] == "com.apple.security.root"
    assert root["PayloadContent"][:1] == b"\x30"


def test_the_android_profile_is_the_apps_json(place: Path) -> None:
    data, _ = exported(place, EAP, Format.SSWAN)
    document = json.loads(data)
    assert (document["type"], document["local"]["eap_id"]) == ("ikev2-eap", "alice@example.com")
    assert base64.b64decode(document["remote"]["cert"])[:1] == b"\x30"


def test_toml_is_what_is_set_with_whole_paths_and_without_arguments_of_commands(place: Path) -> None:
    """F12"""
    text = EAP.replace('{ file = "pw" }', f'{{ command = ["/usr/bin/pass", "{CANARY}"] }}')
    data, warnings = exported(place, text + '[network]\nroutes = ["10.0.0.0/8"]\n', Format.TOML)
    plain = tomllib.loads(data.decode())
    assert plain["gateway"] == {"address": ["vpn.example.com"], "ca": [str(place / "ca.pem")]}
    assert plain["auth"]["password"] == {"command": ["/usr/bin/pass", "..."]}
    assert plain["network"] == {"routes": ["10.0.0.0/8"]}
    assert CANARY not in data.decode()
    assert len(warnings) == 1
    parse_profile(data.decode())
    with pytest.raises(UsageError, match="never holds secrets"):
        exported(place, EAP, Format.TOML, secrets=True)
