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
from ikeclient.profile.load import load_profile, parse_profile

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


@pytest.mark.parametrize("form", FORMATS)
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
            possible = form is not Format.SSWAN if text is EAP else form is not Format.SWANCTL or text is not bundle
            assert (secret in decoded) is (asked and possible)
            if not asked and possible:
                assert any("--include-secrets" in warning for warning in warnings)


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
