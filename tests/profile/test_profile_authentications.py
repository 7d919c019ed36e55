"""How a profile says who proves what: `gateway.auth`, [second_auth] and [ppk]."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from profile_world import CANARY, CERTIFICATE, EAP, PSK

from ikeclient.errors import ProfileError
from ikeclient.ike.config import CertificateAuth, EapAuth, EapOnly, Ppk, PskAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.check import check_profile
from ikeclient.profile.load.load import load_profile, parse_profile
from ikeclient.profile.present import redacted

Write = Callable[..., Path]
SECOND = '\n[second_auth]\nmethod = "eap-mschapv2"\nuser = "alice"\npassword = { file = "pw" }\n'
KEY = '\n[ppk]\nid = "ppk-alice"\nsecret = { file = "psk" }\n'


def build(text: str, place: Path, **arguments: object) -> CompiledProfile:
    return compile_profile(parse_profile(text).profile, place, None, name="work", **arguments)  # type: ignore[arg-type]


def proven_by(text: str, how: str) -> str:
    return text.replace("[auth]", f'auth = "{how}"\n[auth]')


def test_our_key_and_the_gateways_certificate(place: Path) -> None:
    ike = build(proven_by(PSK, "certificate").replace("[auth]", 'ca = "ca.pem"\n[auth]'), place).ike
    assert isinstance(ike.auth, PskAuth)
    assert isinstance(ike.gateway.auth, TrustedCertificate)


def test_our_certificate_and_the_gateways_key(place: Path) -> None:
    text = proven_by(CERTIFICATE, "psk") + 'psk = { file = "psk" }\n'
    compiled = build(text, place)
    assert isinstance(compiled.ike.auth, CertificateAuth)
    assert compiled.ike.gateway.auth == PskAuth(psk=CANARY.encode())
    assert not any("auth.psk" in warning for warning in compiled.warnings)


def test_a_gateway_with_a_key_may_be_anybody_who_knows_it(place: Path) -> None:
    text = proven_by(CERTIFICATE, "psk").replace("[auth]", 'identity = "%any"\n[auth]') + 'psk = { file = "psk" }\n'
    assert build(text, place).ike.gateway.identity is None
    with pytest.raises(ProfileError, match="%any"):
        build(proven_by(PSK, "certificate").replace("[auth]", 'identity = "%any"\n[auth]'), place)


def test_eap_alone_comes_with_a_warning_about_the_password(place: Path) -> None:
    compiled = build(proven_by(EAP, "eap"), place)
    assert isinstance(compiled.ike.gateway.auth, EapOnly)
    assert any("long and random" in warning for warning in compiled.warnings)


@pytest.mark.parametrize("method", ["eap-md5", "eap-gtc"])
def test_eap_alone_takes_a_method_that_proves_both(place: Path, method: str) -> None:
    """RFC 5998 section 4."""
    with pytest.raises(ProfileError, match=method) as raised:
        build(proven_by(EAP, "eap").replace("eap-mschapv2", method), place)
    assert "eap-mschapv2" in str(raised.value.hint)


@pytest.mark.parametrize(("text", "how"), [(PSK, "eap"), (CERTIFICATE, "eap"), (EAP, "psk")])
def test_what_does_not_go_together_is_refused(place: Path, text: str, how: str) -> None:
    """RFC 7296 section 2.16: EAP needs a gateway with a certificate, or with EAP alone."""
    with pytest.raises(ProfileError, match=r"gateway\.auth"):
        build(proven_by(text, how), place)


def test_a_second_authentication_follows_the_first(place: Path) -> None:
    second = build(CERTIFICATE + SECOND, place).ike.second_auth
    assert second is not None
    assert isinstance(second.auth, EapAuth)
    assert (second.auth.identity, second.auth.password) == ("alice", CANARY)


@pytest.mark.parametrize(("text", "where"), [(CERTIFICATE, "second"), (EAP, "second")])
def test_standard_input_is_for_the_second_password(place: Path, text: str, where: str) -> None:
    ike = build(text + SECOND.replace('password = { file = "pw" }\n', ""), place, stdin_password="typed").ike
    assert ike.second_auth is not None
    assert isinstance(ike.second_auth.auth, EapAuth)
    assert ike.second_auth.auth.password == "typed"
    assert not isinstance(ike.auth, EapAuth) or ike.auth.password == CANARY


def test_a_post_quantum_key_is_read_as_a_pre_shared_key_is(place: Path, write: Write) -> None:
    write("psk", "0x" + "ab" * 32)
    compiled = build(EAP + KEY, place)
    assert compiled.ike.ppk == Ppk(identity=b"ppk-alice", secret=b"\xab" * 32, required=True)
    assert compiled.warnings == ()
    write("psk", "short")
    assert any("[ppk]" in warning for warning in build(EAP + KEY, place).warnings)
    optional = build(EAP + KEY + "required = false\n", place).ike.ppk
    assert optional is not None
    assert not optional.required


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (CERTIFICATE + '\n[second_auth]\nmethod = "psk"\n', {"second_auth.identity", "second_auth.psk"}),
        (CERTIFICATE + '\n[second_auth]\nmethod = "certificate"\n', {"second_auth.certificate"}),
        (CERTIFICATE + '\n[second_auth]\nmethod = "eap-mschapv2"\n', {"second_auth.user"}),
        (CERTIFICATE + KEY.replace('"psk"', '"none"'), {"ppk.secret"}),
        (proven_by(CERTIFICATE, "psk"), {"auth.psk"}),
    ],
)
def test_what_is_missing_is_found_before_connecting(place: Path, write: Write, text: str, missing: set[str]) -> None:
    check = check_profile(load_profile(str(write("work.toml", text))))
    assert set(check.missing) == missing


def test_commands_of_all_sections_are_as_dangerous(place: Path) -> None:
    """F17: and what they are given is not shown."""
    secret = '{ command = ["/bin/echo", "canary-argument"] }'
    text = EAP + SECOND.replace('{ file = "pw" }', secret) + KEY.replace('{ file = "psk" }', secret)
    shown = json.dumps(redacted(parse_profile(text).profile))
    assert "canary-argument" not in shown
    assert shown.count("/bin/echo") == 2
