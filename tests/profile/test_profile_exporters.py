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
from ikeclient.profile.exporters.write import write_foreign
from ikeclient.profile.formats import ExportFormat
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
FORMATS = [ExportFormat.MOBILECONFIG, ExportFormat.SSWAN, ExportFormat.SWANCTL]
FILES = Path(__file__).with_name("files")


def exported(place: Path, text: str, form: ExportFormat, *, secrets: bool = False) -> tuple[bytes, list[str]]:
    path = place / "work.toml"
    path.write_text(text)
    parts = Parts(loaded=load_profile(str(path)), include_secrets=secrets)
    return write_foreign(parts, form), parts.warnings


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("text", [PSK, EAP, CERTIFICATE], ids=["psk", "eap", "certificate"])
def test_what_is_exported_and_imported_again_means_the_same(place: Path, text: str, form: ExportFormat) -> None:
    if (form, text) == (ExportFormat.SSWAN, PSK):
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
    if form is not ExportFormat.SSWAN:
        assert after.session.mobike == before.session.mobike
        assert after.network.routes == "all"
    if form is ExportFormat.MOBILECONFIG:
        assert (after.session.liveness, after.network.exclude) == (600, ("lan",))


SECRET_FORMATS = [*FORMATS, ExportFormat.NETWORKMANAGER]


@pytest.mark.parametrize("form", SECRET_FORMATS)
def test_a_secret_goes_along_only_where_it_was_asked_for(place: Path, form: ExportFormat, alice: Owner) -> None:
    """F12"""
    (place / "alice.p12").write_bytes(alice.pkcs12(None))
    (place / "alice.p12").chmod(0o600)
    bundle = CERTIFICATE.replace("alice.pem", "alice.p12").replace('key = "alice.key"\n', "")
    for text, secret in ((PSK, CANARY.encode()), (EAP, CANARY.encode()), (bundle, (place / "alice.p12").read_bytes())):
        if form is ExportFormat.SSWAN and text is PSK:
            continue
        for asked in (False, True):
            data, warnings = exported(place, text, form, secrets=asked)
            files = [item.data for item in read_foreign(data).attachments if item.suffix in ("psk", "pw", "p12")]
            decoded = [base64.b64decode(each[2:]) if each.startswith(b"0s") else each for each in files]
            # swanctl and NetworkManager are given the name of a certificate's file, not what is in it.
            possible = text is not bundle or form in (ExportFormat.MOBILECONFIG, ExportFormat.SSWAN)
            assert (secret in decoded) is (asked and possible)
            if not asked and possible:
                assert any("--include-secrets" in warning for warning in warnings)


def test_swanctl_loads_a_pkcs12_file_by_its_secret(place: Path, alice: Owner) -> None:
    (place / "own.p12").write_bytes(alice.pkcs12(CANARY.encode()))
    (place / "own.p12").chmod(0o600)
    text = CERTIFICATE.replace("alice.pem", "own.p12").replace('key = "alice.key"\n', 'identity = "alice.example"\n')
    text += 'key_passphrase = { file = "pw" }\n'
    data, _ = exported(place, text, ExportFormat.SWANCTL, secrets=True)
    assert b" certs =" not in data
    draft = read_foreign(data)
    assert draft.tables["auth"]["certificate"] == str(place / "own.p12")
    assert [item.data for item in draft.attachments if item.suffix == "passphrase"] == [CANARY.encode()]
    closed, warnings = exported(place, text, ExportFormat.SWANCTL)
    assert CANARY not in closed.decode()
    assert any("auth.key_passphrase" in warning for warning in warnings)


def test_the_passphrase_of_a_key_goes_along_to_swanctl(place: Path, alice: Owner) -> None:
    (place / "alice.key").write_bytes(alice.key_pem(CANARY.encode()))
    data, _ = exported(place, CERTIFICATE + 'key_passphrase = { file = "pw" }\n', ExportFormat.SWANCTL, secrets=True)
    draft = read_foreign(data)
    assert [item.data for item in draft.attachments if item.suffix == "passphrase"] == [CANARY.encode()]


def test_a_certificate_that_all_may_read_is_no_secret(place: Path) -> None:
    for form in (ExportFormat.MOBILECONFIG, ExportFormat.SSWAN):
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
            data, warnings = exported(tmp_path, text, ExportFormat.SWANCTL)
            assert any('network.routes = "gateway"' in warning for warning in warnings)
            assert any('routes = "all"' in warning for warning in read_foreign(data).warnings)
        case "71":
            data, warnings = exported(tmp_path, text, ExportFormat.SSWAN, secrets=True)
            document = json.loads(data)
            assert document["split-tunneling"] == {"block-ipv4": True, "block-ipv6": True}
            assert document["local"]["shared_secret"] == "W0rd"
            assert any("eap-md5" in warning for warning in warnings)
            assert read_foreign(data).tables["network"] == {"routes": "all"}
        case _:
            data, _ = exported(tmp_path, text, ExportFormat.SWANCTL, secrets=True)
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
CAN_SAY: dict[ExportFormat, str] = {
    ExportFormat.SWANCTL: """
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
    ExportFormat.SSWAN: """
routes = ["10.0.0.0/8"]
exclude = ["10.9.0.0/16"]
dns_servers = ["10.99.0.53"]
mtu = 1300
""",
    ExportFormat.MOBILECONFIG: """
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
    ExportFormat.NETWORKMANAGER: """
request = []
routes = ["10.0.0.0/8", "2001:db8::/32"]
dns_servers = ["10.99.0.53"]
dns_domains = ["corp.example"]
[session]
encapsulation = "always"
""",
    ExportFormat.POWERSHELL: """
routes = ["10.0.0.0/8", "192.0.2.0/24"]
""",
}


@pytest.mark.parametrize("form", CAN_SAY)
def test_importing_an_export_gives_the_same_profile(place: Path, form: ExportFormat) -> None:
    """What a format can say comes back as it was; for the rest there is a warning."""
    text = LAW.format(ca=place / "ca.pem") + CAN_SAY[form]
    data, warnings = exported(place, text, form)
    assert [
        warning for warning in warnings if "--include-secrets" not in warning and form is not ExportFormat.POWERSHELL
    ] == []
    before = parse_profile(text).profile
    after = parse_profile(read_foreign(data).toml("work")).profile
    assert after.crypto == before.crypto
    assert after.network == before.network
    assert after.session == before.session
    assert (after.gateway.address, after.auth.method) == (before.gateway.address, before.auth.method)
    if form is not ExportFormat.POWERSHELL:
        assert after.gateway.identity == before.gateway.identity
        assert (after.auth.user, after.auth.identity) == ("alice", "alice@example.com")


MORE = 'port = 4501\nallow_sha1 = true\ncertificate_forms = ["pkcs7"]\nrevocation = "ifuri"'
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
def test_no_key_is_lost_without_a_word(place: Path, form: ExportFormat) -> None:
    text = LAW.format(ca=place / "ca.pem").replace("[network]\n", "") + EVERYTHING
    text = text.replace('identity = "gw.example.com"', 'identity = "gw.example.com"\n' + MORE)
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
    first, _ = exported(place, EAP, ExportFormat.MOBILECONFIG)
    assert first == exported(place, EAP, ExportFormat.MOBILECONFIG)[0]
    vpn, root = plistlib.loads(first)["PayloadContent"]
    assert (vpn["IKEv2"]["ExtendedAuthEnabled"], vpn["IKEv2"]["AuthName"]) == (1, "alice@example.com")
    assert root["PayloadType"] == "com.apple.security.root"
    assert root["PayloadContent"][:1] == b"\x30"


def test_the_android_profile_is_the_apps_json(place: Path) -> None:
    data, _ = exported(place, EAP, ExportFormat.SSWAN)
    document = json.loads(data)
    assert (document["type"], document["local"]["eap_id"]) == ("ikev2-eap", "alice@example.com")
    assert base64.b64decode(document["remote"]["cert"])[:1] == b"\x30"


def test_toml_is_what_is_set_with_whole_paths_and_without_arguments_of_commands(place: Path) -> None:
    """F12"""
    text = EAP.replace('{ file = "pw" }', f'{{ command = ["/usr/bin/pass", "{CANARY}"] }}')
    data, warnings = exported(place, text + '[network]\nroutes = ["10.0.0.0/8"]\n', ExportFormat.TOML)
    plain = tomllib.loads(data.decode())
    assert plain["gateway"] == {"address": ["vpn.example.com"], "ca": [str(place / "ca.pem")]}
    assert plain["auth"]["password"] == {"command": ["/usr/bin/pass", "..."]}
    assert plain["network"] == {"routes": ["10.0.0.0/8"]}
    assert CANARY not in data.decode()
    assert len(warnings) == 1
    parse_profile(data.decode())
    with pytest.raises(UsageError, match="never holds secrets"):
        exported(place, EAP, ExportFormat.TOML, secrets=True)


HEAD = 'version = 1\n[gateway]\naddress = "vpn.example.com"\nidentity = "gw.example.com"\n'
RSA = '[auth]\nmethod = "certificate"\nidentity = "alice.example"\ncertificate = "alice.pem"\nkey = "alice.key"\n'
WAYS_IN = {
    "certificate, then password": HEAD + RSA + 'signature = ["rsa-pss-sha384", "rsa-pkcs1-sha256"]\n'
    '[second_auth]\nmethod = "eap-mschapv2"\nuser = "alice"\npassword = { file = "pw" }\n',
    "password, then certificate": HEAD
    + '[auth]\nmethod = "eap-mschapv2"\nuser = "alice"\npassword = { file = "pw" }\n'
    + RSA.replace("[auth]", "[second_auth]"),
    "post-quantum": HEAD + '[auth]\nmethod = "psk"\nidentity = "alice"\npsk = { file = "psk" }\n'
    '[ppk]\nid = "office"\nsecret = { file = "psk" }\nrequired = false\n',
    "key and certificate": HEAD + 'auth = "psk"\n' + RSA + 'psk = { file = "psk" }\n',
    "certificate and key": HEAD + 'auth = "certificate"\n[auth]\nmethod = "psk"\nidentity = "alice"\n'
    'psk = { file = "psk" }\n',
    "EAP alone": HEAD + 'auth = "eap"\n[auth]\nmethod = "eap-tls"\nuser = "alice"\nidentity = "alice"\n'
    'certificate = "alice.pem"\nkey = "alice.key"\nserver_name = "radius.example.com"\n',
    "key on a token": HEAD + '[auth]\nmethod = "certificate"\nidentity = "alice.example"\n'
    'key = { pkcs11 = "pkcs11:id=%0a%1b", pin = { file = "pw" } }\n',
    "TTLS": HEAD + '[auth]\nmethod = "eap-ttls"\ninner = "eap-mschapv2"\nuser = "alice"\nidentity = "alice"\n'
    'password = { file = "pw" }\nserver_name = "radius.example.com"\n',
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in_comes_back_from_swanctl(place: Path, way: str) -> None:
    data, warnings = exported(place, WAYS_IN[way], ExportFormat.SWANCTL, secrets=True)
    assert [each for each in warnings if 'routes = "gateway"' not in each] == []
    before = parse_profile(WAYS_IN[way]).profile
    draft = read_foreign(data)
    after = parse_profile(draft.toml("work")).profile
    assert after.gateway.auth == before.gateway.auth
    pairs = [(before.auth, after.auth), (before.second_auth, after.second_auth)]
    for old, new in pairs:
        assert (old is None) is (new is None)
        if old is None or new is None:
            continue
        assert (new.method, new.identity, new.server_name, new.inner) == (
            old.method, old.identity, old.server_name, old.inner
        )  # fmt: skip
        assert new.signature == old.signature
        assert new.user == old.user
        for key in ("psk", "password", "certificate", "key"):
            assert (getattr(new, key) is None) is (getattr(old, key) is None), key
    assert (after.ppk is None) is (before.ppk is None)
    if before.ppk is not None and after.ppk is not None:
        assert (after.ppk.id, after.ppk.required) == ("office", False)
        assert CANARY.encode() in [item.data for item in draft.attachments if item.key == ("ppk", "secret")]
    closed, _ = exported(place, WAYS_IN[way], ExportFormat.SWANCTL)
    assert CANARY not in closed.decode()
    assert base64.b64encode(CANARY.encode()).decode() not in closed.decode()


@pytest.mark.parametrize("form", [*CAN_SAY])
@pytest.mark.parametrize("way", WAYS_IN)
def test_a_way_in_that_cannot_be_said_is_told(place: Path, way: str, form: ExportFormat) -> None:
    """What comes back proves the same with the same, or there is a word about it."""
    try:
        data, warnings = exported(place, WAYS_IN[way], form, secrets=True)
    except ProfileError as error:
        if "cannot be exported" not in error.message:
            raise
        return
    before = parse_profile(WAYS_IN[way]).profile
    after = parse_profile(read_foreign(data).toml("work")).profile
    said = "\n".join(warnings)
    assert after.second_auth is not None or before.second_auth is None or "second_auth" in said
    assert after.ppk is not None or before.ppk is None or "ppk." in said
    assert after.gateway.auth == before.gateway.auth or "gateway.auth" in said
    for key in ("signature", "server_name", "inner"):
        assert getattr(after.auth, key) == getattr(before.auth, key) or f"auth.{key}" in said


def test_apples_property_list_and_the_app_hold_what_they_can(place: Path) -> None:
    data, _ = exported(place, WAYS_IN["post-quantum"], ExportFormat.MOBILECONFIG, secrets=True)
    draft = read_foreign(data)
    assert draft.tables["ppk"] == {"id": "office", "required": False}
    assert CANARY.encode() in [item.data for item in draft.attachments if item.key == ("ppk", "secret")]
    closed, warnings = exported(place, WAYS_IN["post-quantum"], ExportFormat.MOBILECONFIG)
    assert CANARY not in closed.decode()
    assert any("ppk.secret" in text for text in warnings)
    app, _ = exported(place, WAYS_IN["certificate, then password"], ExportFormat.SSWAN, secrets=True)
    assert json.loads(app)["type"] == "ikev2-cert-eap"
    assert read_foreign(app).tables["second_auth"] == {"method": "eap", "user": "alice"}


def test_toml_names_the_servers_authority_by_its_whole_path(place: Path) -> None:
    text = WAYS_IN["TTLS"] + 'server_ca = ["ca.pem"]\n'
    data, _ = exported(place, text, ExportFormat.TOML)
    assert tomllib.loads(data.decode())["auth"]["server_ca"] == [str(place / "ca.pem")]


WINDOWS = """
version = 1
[gateway]
address = "vpn.example.com"
ca = ["{ca}"]
[auth]
user = "alice"
"""


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("eap-mschapv2", ""),
        ("eap-tls", 'certificate = "alice.pem"\nkey = "alice.key"\nserver_name = "radius.example.com"\n'),
        ("eap-peap", 'inner = "mschapv2"\nanonymous_identity = "no & body\'s"\n'),
        ("eap-peap", 'inner = "tls"\ncertificate = "alice.pem"\nkey = "alice.key"\n'),
        ("eap-ttls", 'inner = "pap"\nanonymous_identity = "nobody"\nserver_name = "radius.example.com"\n'),
        ("eap-ttls", 'inner = "mschapv2"\n'),
        ("eap-ttls", 'inner = "eap-mschapv2"\n'),
        ("eap-ttls", 'inner = "tls"\ncertificate = "alice.pem"\nkey = "alice.key"\n'),
    ],
)
def test_windows_settings_of_eap_go_along(place: Path, method: str, more: str) -> None:
    text = WINDOWS.format(ca=place / "ca.pem") + f'method = "{method}"\n{more}'
    data, warnings = exported(place, text, ExportFormat.POWERSHELL)
    assert b"-EapConfigXmlStream $eap" in data
    assert not [warning for warning in warnings if "inner" in warning or "server_name" in warning]
    before, draft = parse_profile(text).profile.auth, read_foreign(data)
    after = parse_profile(draft.toml("work")).profile.auth
    assert after.method == before.method
    assert after.inner == before.inner or before.inner is None
    assert after.anonymous_identity == before.anonymous_identity
    if method != "eap-mschapv2":
        assert after.server_name == (before.server_name or "vpn.example.com")
        assert any("fingerprint" in risk for risk in draft.risks)


def test_what_windows_cannot_say_of_eap_is_told(place: Path) -> None:
    text = WINDOWS.format(ca=place / "ca.pem") + 'method = "eap-peap"\ninner = "gtc"\n'
    _, warnings = exported(place, text, ExportFormat.POWERSHELL)
    assert any('inner = "gtc"' in warning for warning in warnings)


def test_a_key_that_is_on_no_file_goes_to_networkmanager_as_it_can(place: Path) -> None:
    head = HEAD + '[auth]\nmethod = "certificate"\nidentity = "alice.example"\n'
    agent = head + f'certificate = "alice.pem"\nkey = {{ agent = "SHA256:{"A" * 43}" }}\n'
    data, _ = exported(place, agent, ExportFormat.NETWORKMANAGER)
    assert b"cert-source=agent" in data
    token = head + 'key = { pkcs11 = "pkcs11:token=work" }\n'
    data, warnings = exported(place, token, ExportFormat.NETWORKMANAGER)
    assert b"cert-source=smartcard" in data
    assert any("auth.key.pkcs11" in warning for warning in warnings)
