from __future__ import annotations

import ast
import json
import pickle
import re
from pathlib import Path

import pytest
from profile_world import CANARY, EAP, PSK, is_clause
from pydantic import ValidationError

from ikeclient.errors import ProfileError
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model.problems import InvalidProfile, known_keys
from ikeclient.profile.model.schema import SCHEMA_FILE, Profile, json_schema

ROOT = Path(__file__).resolve().parents[2]


def refusal(text: str) -> InvalidProfile:
    with pytest.raises(InvalidProfile) as raised:
        parse_profile(text, "p.toml")
    assert all(is_clause(line) for line in raised.value.lines())
    return raised.value


def test_the_shipped_json_schema_is_current() -> None:
    """Regenerate with `python -m ikeclient.profile.model.schema`."""
    assert json.loads(SCHEMA_FILE.read_text()) == json.loads(json_schema())


def test_the_json_schema_speaks_toml() -> None:
    text = json_schema()
    assert '"null"' not in text
    assert json.loads(text)["additionalProperties"] is False


def test_the_smallest_profile_gets_the_defaults_of_the_contract() -> None:
    profile = parse_profile(PSK).profile
    assert profile.gateway.port == 500
    assert profile.network.request == ("ipv4", "ipv6", "dns")
    assert (profile.network.routes, profile.network.exclude, profile.network.dns) == ("gateway", (), "auto")
    assert (profile.network.mtu, profile.network.interface) == (0, "ike%d")
    session = profile.session
    assert (session.mobike, session.liveness, session.rekey_ike, session.rekey_child) == (True, 30, 14400, 3600)
    assert (session.retry, session.encapsulation, session.offload, session.kill_switch) == (
        "forever",
        "auto",
        "auto",
        False,
    )


def test_the_profile_in_the_contract_is_valid() -> None:
    text = """
version = 1
[gateway]
address  = "vpn.example.com"
port     = 500
identity = "vpn.example.com"
ca       = ["corp-ca.pem"]
[auth]
method   = "eap-mschapv2"
identity = "alice@example.com"
user     = "alice"
password = { file = "alice.pw" }
psk      = { file = "psk" }
certificate = "alice.pem"
key         = "alice.key"
[crypto]
ike = ["aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-x25519", "aes256-sha256-modp2048"]
esp = ["aes256gcm16", "aes128gcm16", "chacha20poly1305", "aes256-sha256"]
[network]
request = ["ipv4", "ipv6", "dns"]
routes  = "gateway"
exclude = []
dns     = "auto"
mtu     = 0
interface = "ike%d"
[session]
mobike = true
liveness = 30
rekey_ike = "4h"
rekey_child = "1h"
retry = "forever"
encapsulation = "auto"
kill_switch = false
up = []
down = []
"""
    assert parse_profile(text).profile.session.rekey_ike == 4 * 3600


@pytest.mark.parametrize(
    "method", ["psk", "certificate", "eap-mschapv2", "eap-tls", "eap-ttls", "eap-peap", "eap-gtc", "eap-md5", "eap"]
)
def test_every_method_of_the_contract_is_accepted(method: str) -> None:
    assert parse_profile(PSK.replace('"psk"', f'"{method}"', 1)).profile.auth.method == method


def test_every_key_that_the_program_or_its_papers_name_exists() -> None:
    """Exporters say what they carry, errors and pages what to set: all of it has to be a key."""
    known = {f"{section}.{key}" for section in Profile.model_fields for key in known_keys((section,))}
    names = re.compile(r"(?<![\w./-])(?:gateway|auth|crypto|network|session)\.[a-z_]+\b(?!\()")
    for path in (ROOT / "ikeclient").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert set(names.findall(node.value)) <= known | {"crypto.pki"}, path  # a package of ours
            match node:  # what an importer puts into a profile
                case ast.Call(
                    func=ast.Attribute(attr="set"), args=[ast.Constant(value=section), ast.Constant(value=key), *_]
                ):
                    assert f"{section}.{key}" in known, path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "profiles").glob("*.toml")):
        assert set(names.findall(path.read_text())) <= known, path


@pytest.mark.parametrize(
    ("text", "key", "said", "hint"),
    [
        (PSK.replace("address", "adress"), "gateway.adress", "is unknown", "'address'"),
        (PSK + "[netwrok]\n", "netwrok", "is unknown", "'network'"),
        (PSK + "[network]\nkill_switch = true\n", "network.kill_switch", "is unknown", "'session.kill_switch'"),
        (PSK + "[network]\nwibble = true\n", "network.wibble", "is unknown", "known here: request"),
        (PSK.replace("version = 1\n", ""), "version", "is missing", "version = 1"),
        (PSK.replace("version = 1\n", "version = 2\n"), "version", "must be 1", None),
        (PSK.replace('address = "192.0.2.1"\n', ""), "gateway.address", "is missing", None),
        (PSK + "[network]\nmtu = 20\n", "network.mtu", "must be between 576 and 9000 or 0, not 20", None),
        (PSK + "[network]\nmtu = 1000\n", "network", "IPv6 needs at least 1280", "network.request"),
        (PSK.replace("[auth]", "port = 70000\n[auth]"), "gateway.port", "between 1 and 65535, not 70000", None),
        (PSK.replace("[auth]", 'port = "500"\n[auth]'), "gateway.port", "must be a whole number", None),
        (PSK + "[session]\nliveness = -1\n", "session.liveness", "must be between 5s and 1h or 0", None),
        (PSK + "[session]\nmobike = 1\n", "session.mobike", "must be true or false, not 1", None),
        (PSK + '[session]\nrekey_ike = "4x"\n', "session.rekey_ike", "must be a duration", None),
        (PSK + '[network]\ndns = "splt"\n', "network.dns", 'auto, split, all, none, not "splt"', "'split'"),
        (PSK + '[session]\noffload = "on"\n', "session.offload", "must be one of auto, off", None),
        (PSK + '[crypto]\nike = ["3des-sha1-modp1024"]\n', "crypto.ike", "3des", "supported"),
        (PSK + '[crypto]\nesp = ["aes256gcm16-esn", "aes256-sha256-noesn"]\n', "crypto.esp", "disagree", None),
        (PSK + "[crypto]\nike = []\n", "crypto.ike", "must list 1 to", None),
        ("version = 1\ngateway = 5\n", "gateway", "must be a section, not 5", None),
    ],
)  # fmt: skip
def test_a_refused_key_is_named_with_what_it_must_be(text: str, key: str, said: str, hint: str | None) -> None:
    """F2: unknown key, wrong type, out of range. F4: an impossible proposal."""
    error = refusal(text)
    problem = error.problems[0]
    assert problem.key == key
    assert said in problem.text
    assert f"key '{key}'" in error.message
    assert error.message.startswith("p.toml")
    assert error.exit_code == 9
    assert len(error.lines()) <= 3
    assert (hint or "") in (error.hint or "")


def test_all_problems_are_listed_with_their_lines() -> None:
    """F2."""
    error = refusal(PSK + "[network]\nmtu = 20\nfoo = 1\n[session]\nmobike = 1\n")
    assert [str(problem).split(" ")[0] for problem in error.problems] == ["p.toml:12:", "p.toml:11:", "p.toml:14:"]
    assert error.reason == "2 more: 'network.mtu', 'session.mobike'"


@pytest.mark.parametrize(
    "source",
    ['{ file = "a", env = "b" }', "{ }", "{ insecure = true }", '{ env = "A", insecure = true }', "{ prompt = false }"],
)
def test_a_secret_has_exactly_one_source(source: str) -> None:
    assert refusal(PSK.replace('{ file = "psk" }', source)).problems[0].key.startswith("auth.psk")


@pytest.mark.parametrize(
    "source",
    [
        f'"{CANARY}"', f"['{CANARY}']", f'{{ prompt = "{CANARY}" }}', f'{{ file = ["{CANARY}"] }}',
        f'{{ file = 5, env = "{CANARY}" }}', f'{{ command = "{CANARY}" }}', f'{{ command = ["{CANARY}", 5] }}',
        f'{{ insecure = "{CANARY}" }}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["psk", "password", "key_passphrase"])
def test_a_secret_written_into_the_profile_is_refused_and_never_repeated(key: str, source: str) -> None:
    """F12: a password where its source belongs is in no message, no repr, no chained exception."""
    text = PSK.replace('psk = { file = "psk" }', f"{key} = {source}")
    error = refusal(text)
    assert error.problems[0].key.startswith(f"auth.{key}")
    assert CANARY not in "\n".join([*error.lines(), str(error), repr(error), repr(error.problems)])
    assert error.__suppress_context__ or error.__context__ is None


def test_pydantic_itself_would_not_show_it_either() -> None:
    """F12."""
    with pytest.raises(ValidationError) as raised:
        Profile.model_validate({"version": 1, "auth": {"method": "psk", "psk": CANARY}, "gateway": {"address": "a"}})
    assert CANARY not in str(raised.value)


def test_a_profile_shows_no_arguments_of_commands_that_print_secrets() -> None:
    """F12."""
    profile = parse_profile(EAP.replace('{ file = "pw" }', f'{{ command = ["echo", "{CANARY}"] }}')).profile
    assert CANARY not in f"{profile!r} {profile!s} {profile.auth!r}"


def test_a_profile_does_not_change() -> None:
    profile = parse_profile(PSK).profile
    with pytest.raises(ValidationError):
        profile.gateway.port = 4500  # type: ignore[misc]


def test_a_profile_survives_pickling_because_it_holds_no_secret() -> None:
    profile = parse_profile(PSK).profile
    assert pickle.loads(pickle.dumps(profile)) == profile


def test_syntax_errors_do_not_repeat_what_was_written() -> None:
    """F12: an unquoted password is a syntax error."""
    with pytest.raises(ProfileError) as raised:
        parse_profile(PSK.replace('{ file = "psk" }', CANARY), "p.toml")
    assert raised.value.lines() == ["p.toml:9: is not TOML: invalid value", "text needs quotes"]
