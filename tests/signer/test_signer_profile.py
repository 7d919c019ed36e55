"""Profiles whose key is on a token or with an agent: from the text to the configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from soft_token import MODULE, PIN, Key, SoftToken, self_signed

from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.crypto.sign.schemes import Family
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import IkeclientError, ProfileError, UsageError
from ikeclient.ike.config import CertificateAuth
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.check import Check, check_profile
from ikeclient.profile.load.load import load_profile, parse_profile
from ikeclient.profile.message import decode, encode
from ikeclient.profile.present import redacted

EXAMPLE = Path(__file__).resolve().parents[2] / "profiles" / "pkcs11-token.toml"


@pytest.fixture
def place(tmp_path: Path, keys: dict[str, Key]) -> Path:
    """A directory with certificates, and a file with the PIN."""
    for name, key in keys.items():
        (tmp_path / f"{name}.pem").write_bytes(self_signed(key).public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(self_signed(keys["ed"]).public_bytes(Encoding.PEM))
    (tmp_path / "pin").write_text(f"{PIN}\n")
    (tmp_path / "pin").chmod(0o600)
    return tmp_path


def text(key: str, rest: str = "", method: str = "certificate") -> str:
    head = 'version = 1\n[gateway]\naddress = "vpn.example.com"\nca = "ca.pem"\n[auth]\n'
    return f'{head}method = "{method}"\nkey = {key}\n{rest}'


def on_token(label: str = "rsa", more: str = "", pin: str = '{ file = "pin" }') -> str:
    return f'{{ pkcs11 = "pkcs11:token=work;object={label}", module = "{MODULE}", pin = {pin}{more} }}'


def build(profile: str, place: Path, **options: object) -> CompiledProfile:
    return compile_profile(parse_profile(profile).profile, place, options.pop("ask", None), **options)  # type: ignore[arg-type]


def remote(compiled: CompiledProfile) -> RemoteKey:
    assert isinstance(compiled.ike.auth, CertificateAuth)
    assert isinstance(compiled.ike.auth.key, RemoteKey)
    assert compiled.signs_elsewhere
    return compiled.ike.auth.key


def failure(profile: str, place: Path, **options: object) -> IkeclientError:
    with pytest.raises(IkeclientError) as caught:
        build(profile, place, **options)
    assert PIN not in "\n".join([*caught.value.lines(), repr(caught.value)])
    return caught.value


def check(profile: str, place: Path) -> Check:
    path = place / "checked.toml"
    path.write_text(profile)
    return check_profile(load_profile(str(path)))


def test_the_certificate_of_the_token_is_used(token: SoftToken, place: Path, keys: dict[str, Key]) -> None:
    compiled = build(text(on_token()), place)
    key = remote(compiled)
    assert key.public_key == PublicKey(keys["rsa"].public_key())
    assert key.families == (Family.RSA_PSS, Family.RSA_PKCS1)
    assert isinstance(compiled.ike.auth, CertificateAuth)
    assert [each.subject for each in compiled.ike.auth.chain] == ["CN=alice"]
    assert PIN not in repr(compiled)
    assert "pin" not in repr(compiled)


def test_a_certificate_in_a_file(token: SoftToken, place: Path) -> None:
    remote(build(text(on_token("ec"), 'certificate = "ec.pem"'), place))
    error = failure(text(on_token("ec"), 'certificate = "rsa.pem"'), place)
    assert "do not belong together" in error.message
    error = failure(text(on_token("ec")), place)
    assert "certificate' is missing" in error.message


def test_it_arrives_in_another_process_as_it_was(token: SoftToken, place: Path) -> None:
    compiled = build(text(on_token()), place)
    assert decode(json.loads(json.dumps(encode(compiled)))) == compiled


def test_the_example(token: SoftToken, place: Path, keys: dict[str, Key], tmp_path_factory: pytest.TempPathFactory,
                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    own = SoftToken(tmp_path_factory.mktemp("example"))
    own.add_key(keys["rsa"], "vpn")
    own.add_certificate(self_signed(keys["rsa"]))
    monkeypatch.setenv("SOFTHSM2_CONF", own.variables["SOFTHSM2_CONF"])
    (place / "corp-ca.pem").write_bytes((place / "ca.pem").read_bytes())
    written = EXAMPLE.read_text().replace('"opensc-pkcs11.so"', '"libsofthsm2.so"')
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return PIN

    remote(build(written, place, ask=ask))
    (prompt,) = prompts
    assert prompt.startswith("PIN for token 'work'")


@pytest.mark.parametrize(
    "pin", ['{ env = "TOKEN_PIN" }', '{ command = ["/bin/cat", "pin"] }', '{ credential = "pin" }']
)
def test_a_pin_from_anywhere(token: SoftToken, place: Path, pin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_PIN", PIN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place))
    remote(build(text(on_token(pin=pin)), place))


def test_a_pin_that_nobody_can_type(token: SoftToken, place: Path) -> None:
    profile = text(on_token().replace(', pin = { file = "pin" }', ""))
    assert isinstance(failure(profile, place), UsageError)
    assert remote(build(profile, place, stdin_password=PIN))


def test_a_wrong_pin(token: SoftToken, place: Path) -> None:
    (place / "pin").write_text("000000\n")
    error = failure(text(on_token()), place)
    assert isinstance(error, ProfileError)
    assert "token 'work'" in error.message
    assert "refused the PIN" in error.message
    assert error.reason is not None
    assert "before it locks" in error.reason
    (place / "pin").write_text(f"{PIN}\n")
    remote(build(text(on_token()), place))


@pytest.mark.parametrize(
    ("key", "rest", "why"),
    [
        ('{ pkcs11 = "token=work" }', "", "must begin"),
        ('{ pkcs11 = "pkcs11:token=a?pin-value=1" }', "", "pin-value"),
        ('{ pkcs11 = "pkcs11:", module = "nowhere.so" }', "", "nowhere.so, which cannot be found"),
        ('{ pkcs11 = "pkcs11:", module = "/nowhere.so" }', "", "/nowhere.so, which cannot be found"),
        ('{ pkcs11 = "pkcs11:", module = "/tmp" }', "", "which is not a library"),
        ('{ pkcs11 = "pkcs11:", file = "a" }', "", "exactly one"),
        ('{ module = "a.so" }', "", "exactly one"),
        ('{ file = "a", pin = { prompt = true } }', "", "'pin', which goes with 'pkcs11'"),
        ('{ agent = "MD5:00" }', "", "fingerprint"),
        ('{ agent = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8" }', "", "certificate"),
    ],
)
def test_validate_finds_what_is_wrong_without_the_token(place: Path, key: str, rest: str, why: str) -> None:
    with pytest.raises(ProfileError) as caught:
        check(text(key, rest), place).require()
    assert why in "\n".join(caught.value.lines())


def test_validate_spends_no_try_of_the_pin(place: Path) -> None:
    """Without any token there is nothing to try it on, and everything else is right."""
    assert check(text(on_token()), place).ready


@pytest.mark.parametrize("method", ["eap-tls", "eap-ttls", "eap-peap"])
def test_no_key_elsewhere_inside_eap(place: Path, method: str) -> None:
    rest = 'certificate = "rsa.pem"\nidentity = "alice"\n' + ('inner = "tls"\n' if method != "eap-tls" else "")
    found = check(text(on_token(), rest, method), place)
    assert found.error is not None
    assert f"must be a file with method {method}" in found.error.message


def test_show_tells_nothing_of_the_pin(place: Path) -> None:
    profile = parse_profile(text(on_token(pin='{ command = ["pass", "show", "pin"] }'))).profile
    shown = redacted(profile)["auth"]["key"]
    assert shown["pin"] == {"command": ["pass", "..."]}
    assert "insecure" not in shown


def test_a_module_that_others_may_change_is_not_loaded(token: SoftToken, place: Path) -> None:
    loose = place / "loose.so"
    loose.write_bytes(MODULE.read_bytes())
    loose.chmod(0o666)
    error = failure(text(on_token().replace(str(MODULE), str(loose))), place)
    assert "others may change" in error.message


def test_an_agent_makes_no_pss(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    agent = '{ agent = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8" }'
    error = failure(text(agent, 'certificate = "rsa.pem"'), place)
    assert "$SSH_AUTH_SOCK is not set" in error.message
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place / "nothing"))
    error = failure(text(agent, 'certificate = "rsa.pem"'), place)
    assert "ssh-agent cannot be asked" in error.message
