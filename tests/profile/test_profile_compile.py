from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from profile_world import CANARY, CERTIFICATE, EAP, PSK, is_clause

from ikeclient.errors import IkeclientError, ProfileError, UsageError
from ikeclient.ike.config import CertificateAuth, EapAuth, PskAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model.proposals import DEFAULT_IKE
from ikeclient.profile.present import redacted
from ikeclient.wire.registry import EapType, IdType
from ikeclient.wire.selector import TrafficSelector

Write = Callable[..., Path]


def build(text: str, place: Path, **arguments: object) -> CompiledProfile:
    profile = parse_profile(text).profile
    return compile_profile(profile, place, None, name="work", **arguments)  # type: ignore[arg-type]


def failure(text: str, place: Path, **arguments: object) -> IkeclientError:
    with pytest.raises(IkeclientError) as raised:
        build(text, place, **arguments)
    assert CANARY not in "\n".join([*raised.value.lines(), repr(raised.value)])
    assert len(raised.value.lines()) <= 3
    assert all(is_clause(line) for line in raised.value.lines())
    return raised.value


def selectors(*networks: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(ip_network(network)) for network in networks)


def test_a_psk_profile_becomes_the_configuration_of_the_protocol(place: Path) -> None:
    compiled = build(PSK, place)
    assert (compiled.name, compiled.gateways, compiled.port, compiled.warnings) == ("work", ("192.0.2.1",), 500, ())
    ike = compiled.ike
    assert isinstance(ike.auth, PskAuth)
    assert ike.auth.psk == CANARY.encode()
    assert (ike.local_identity.type, ike.local_identity.data) == (IdType.RFC822_ADDR, b"alice@example.com")
    assert ike.gateway.identity is not None
    assert (ike.gateway.identity.type, ike.gateway.identity.data) == (IdType.IPV4_ADDR, b"\xc0\0\x02\x01")
    assert ike.child.request == {"ipv4", "ipv6", "dns"}
    assert ike.child.remote_selectors == selectors("0.0.0.0/0", "::/0")
    assert (ike.child.esn, ike.mobike, ike.timing.liveness, ike.timing.rekey_ike, ike.timing.rekey_child) == (
        True,
        True,
        30,
        14400,
        3600,
    )
    assert not ike.allow_sha1
    assert len(ike.ike_proposals) == len(DEFAULT_IKE)


def test_a_certificate_profile_that_is_read_twice_is_the_same(place: Path) -> None:
    """Or else every SIGHUP would cost a connection."""
    assert build(CERTIFICATE, place) == build(CERTIFICATE, place)
    assert build(EAP, place) == build(EAP, place)


def test_an_eap_profile_becomes_the_configuration_of_the_protocol(place: Path) -> None:
    ike = build(EAP, place).ike
    assert isinstance(ike.auth, EapAuth)
    assert (ike.auth.identity, ike.auth.methods) == ("alice@example.com", (EapType.MSCHAPV2,))
    assert ike.auth.password == CANARY
    assert isinstance(ike.gateway.auth, TrustedCertificate)
    assert len(ike.gateway.auth.trust) == 1


@pytest.mark.parametrize(
    ("method", "types"),
    [
        ("eap", {EapType.PEAP, EapType.TTLS, EapType.MSCHAPV2}),
        ("eap-gtc", {EapType.GTC}),
        ("eap-md5", {EapType.MD5_CHALLENGE}),
    ],
)
def test_methods_that_show_the_password_are_allowed_only_by_name(place: Path, method: str, types: set[EapType]) -> None:
    """E4 at its source: `eap` never allows GTC or MD5."""
    auth = build(EAP.replace("eap-mschapv2", method), place).ike.auth
    assert isinstance(auth, EapAuth)
    assert set(auth.methods) == types


CARDS = pytest.mark.parametrize("method", ["eap-sim", "eap-aka", "eap-aka-prime"])


@CARDS
def test_a_method_with_a_card_needs_one(place: Path, method: str) -> None:
    error = failure(EAP.replace("eap-mschapv2", method), place)
    assert error.message == "key 'auth.sim' is missing"
    assert error.exit_code == 9


@CARDS
def test_a_card_is_made_of_two_keys_for_tests(place: Path, method: str) -> None:
    (place / "k").write_text("00112233445566778899aabbccddeeff\n")
    (place / "opc").write_text("ffeeddccbbaa99887766554433221100")
    for name in ("k", "opc"):
        (place / name).chmod(0o600)
    text = EAP.replace("eap-mschapv2", method).replace(
        "password", 'sim = { k = { file = "k" }, opc = { file = "opc" } }\npassword'
    )
    auth = build(text, place).ike.auth
    assert isinstance(auth, EapAuth)
    assert auth.password is None
    assert auth.sim is not None
    assert auth.sim.keys is not None
    assert auth.sim.keys.k.hex() == "00112233445566778899aabbccddeeff"
    assert "0011" not in repr(auth)
    (place / "k").write_text("0011")
    assert failure(text, place).message == "the card's k is not 32 hexadecimal digits"


def with_card(text: str, place: Path) -> str:
    """The profile with a card that is made of two keys."""
    for name in ("k", "opc"):
        (place / name).write_text("00112233445566778899aabbccddeeff")
        (place / name).chmod(0o600)
    return text.replace("password", 'sim = { k = { file = "k" }, opc = { file = "opc" } }\npassword', 1)


def test_a_card_answers_what_the_gateway_asks_for(place: Path) -> None:
    """Method `eap`: the card's methods first, and those with a password only if there is one."""
    every = build(with_card(EAP.replace('"eap-mschapv2"', '"eap"'), place), place).ike
    assert isinstance(every.auth, EapAuth)
    assert every.auth.methods[:3] == (EapType.AKA_PRIME, EapType.AKA, EapType.SIM)
    assert EapType.MSCHAPV2 in every.auth.methods
    assert every.auth.password is not None
    assert "p-cscf" in every.child.request
    alone = "\n".join(
        line
        for line in with_card(EAP.replace('"eap-mschapv2"', '"eap"'), place).splitlines()
        if not line.startswith("password")
    )
    auth = build(alone, place).ike.auth
    assert isinstance(auth, EapAuth)
    assert auth.methods == (EapType.AKA_PRIME, EapType.AKA, EapType.SIM)
    assert auth.password is None
    without = build(EAP.replace('"eap-mschapv2"', '"eap"'), place).ike
    assert isinstance(without.auth, EapAuth)
    assert EapType.AKA not in without.auth.methods
    assert "p-cscf" not in without.child.request


def test_a_card_reader_without_its_library_is_refused_in_words(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "smartcard", None)
    error = failure(
        EAP.replace("eap-mschapv2", "eap-aka").replace("password", 'sim.reader = "Reader 0"\npassword'), place
    )
    assert error.message == "key 'auth.sim.reader' needs the package pyscard"


def test_only_a_method_that_resists_proves_a_gateway_alone(place: Path) -> None:
    """EAP-SIM proves a network with keys that GSM itself may give away."""
    text = EAP.replace("[gateway]", "[gateway]\nauth = 'eap'")
    assert "cannot be eap" in failure(text.replace("eap-mschapv2", "eap-sim"), place).message
    assert failure(text.replace("eap-mschapv2", "eap-aka"), place).message == "key 'auth.sim' is missing"


def test_the_eap_identity_is_the_user_where_there_is_one(place: Path) -> None:
    compiled = build(EAP.replace("password", "user = 'EXAMPLE\\alice'\npassword"), place)
    assert isinstance(compiled.ike.auth, EapAuth)
    assert compiled.ike.auth.identity == "EXAMPLE\\alice"
    assert compiled.ike.local_identity.data == b"alice@example.com"
    compiled = build(EAP.replace("identity", "user"), place)
    assert isinstance(compiled.ike.auth, EapAuth)
    assert compiled.ike.auth.identity == "alice@example.com"


def test_names_that_are_not_ascii_go_as_utf8(place: Path) -> None:
    """E16, G16."""
    compiled = build(EAP.replace("alice@", "j\u00f6rg@"), place)
    assert compiled.ike.local_identity.data == "j\u00f6rg@example.com".encode()
    text = EAP.replace("password", 'user = "J\u00f6rg"\npassword')
    auth = build(text, place).ike.auth
    assert isinstance(auth, EapAuth)
    assert auth.identity == "J\u00f6rg"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\n", "not UTF-8"),
        (b"a\0b\n", "NUL"),
        (b"a\n\n", "newline"),
        (b"x" * 257, "257 characters"),
        (b"\n", "empty"),
    ],
)
def test_an_impossible_password_is_an_error_before_any_packet(
    write: Write, place: Path, content: bytes, said: str
) -> None:
    """E16, F9."""
    write("pw", content)
    assert said in failure(EAP, place).message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PSK.replace('psk = { file = "psk" }\n', ""), "'auth.psk' is missing"),
        (PSK.replace('identity = "alice@example.com"\n', ""), "'auth.identity' is missing"),
        (EAP.replace('identity = "alice@example.com"\n', ""), "'auth.identity' is missing"),
        (CERTIFICATE.replace('certificate = "alice.pem"\n', ""), "'auth.certificate' is missing"),
        (CERTIFICATE.replace('key = "alice.key"\n', ""), "'auth.key' is missing"),
        (PSK.replace('"psk" }', '"missing" }'), "there is no such file"),
        (EAP.replace('"ca.pem"', '"missing.pem"'), "there is no such file"),
    ],
)
def test_a_missing_credential_is_an_error_before_any_packet(place: Path, text: str, said: str) -> None:
    """F9."""
    error = failure(text, place)
    assert said in error.message
    assert isinstance(error, ProfileError)


def test_a_password_comes_from_standard_input_where_it_is_given(place: Path) -> None:
    for text in (EAP, EAP.replace('password = { file = "pw" }\n', ""), EAP.replace('"pw"', '"missing"')):
        auth = build(text, place, stdin_password="other").ike.auth
        assert isinstance(auth, EapAuth)
        assert auth.password == "other"
    auth = build(PSK.replace('psk = { file = "psk" }\n', ""), place, stdin_password="0x0102030405060708").ike.auth
    assert isinstance(auth, PskAuth)
    assert auth.psk == bytes(range(1, 9))


def test_without_a_source_and_without_a_terminal_there_is_no_password(place: Path) -> None:
    """F13."""
    error = failure(EAP.replace('password = { file = "pw" }\n', ""), place)
    assert isinstance(error, UsageError)
    assert error.lines()[0] == "no password given"


def test_the_terminal_is_asked_once(place: Path) -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return CANARY

    compile_profile(parse_profile(EAP.replace('{ file = "pw" }', "{ prompt = true }")).profile, place, ask)
    assert prompts == ["Password for alice@example.com: "]


def test_whatever_else_is_wrong_is_found_before_a_person_is_asked(place: Path) -> None:
    def ask(prompt: str) -> str:
        pytest.fail("asked for a password in vain")

    text = EAP.replace('{ file = "pw" }', "{ prompt = true }")
    for wrong in (
        text.replace('"ca.pem"', '"missing.pem"'),
        text + '[session]\nup = [["/no/such/program"]]\n',
        text + '[network]\nrequest = ["ipv4"]\nroutes = ["2001:db8::/32"]\n',
        text.replace("ca =", 'identity = "%any"\nca ='),
    ):
        with pytest.raises(ProfileError):
            compile_profile(parse_profile(wrong).profile, place, ask)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ('routes = "all"', ("0.0.0.0/0", "::/0")),
        ('request = ["ipv4", "dns"]', ("0.0.0.0/0",)),
        ('request = ["ipv6"]', ("::/0",)),
        ("request = []", ("0.0.0.0/0", "::/0")),
        ('routes = ["10.0.0.0/8", "2001:db8::/32"]', ("10.0.0.0/8", "2001:db8::/32")),
    ],
)
def test_the_selectors_follow_the_routes_and_the_families(place: Path, network: str, expected: tuple[str, ...]) -> None:
    compiled = build(f"{PSK}[network]\n{network}\n", place)
    assert compiled.ike.child.remote_selectors == selectors(*expected)
    assert compiled.warnings == ()


def test_a_route_of_a_family_that_is_not_asked_for_is_left_out(place: Path) -> None:
    text = PSK + '[network]\nrequest = ["ipv4"]\nroutes = ["10.0.0.0/8", "2001:db8::/32"]\n'
    compiled = build(text, place)
    assert compiled.ike.child.remote_selectors == selectors("10.0.0.0/8")
    assert compiled.warnings == ("the route 2001:db8::/32 is left out: network.request does not ask for IPv6",)


def test_a_kill_switch_is_off_unless_the_profile_says_otherwise(place: Path) -> None:
    assert build(PSK, place).session.kill_switch is False
    assert build(PSK + "[session]\nkill_switch = true\n", place).session.kill_switch is True


def test_network_and_session_settings_arrive_as_plain_values(place: Path) -> None:
    text = (
        PSK
        + '[network]\nexclude = ["lan", "10.0.0.0/8"]\nmtu = 1400\ninterface = "w%d"\ndns = "split"\nroutes = "all"\n'
    )
    text += '[session]\nretry = 3\nencapsulation = "always"\noffload = "off"\n'
    compiled = build(text, place)
    network, session = compiled.network, compiled.session
    assert (network.exclude, network.exclude_lan) == ((ip_network("10.0.0.0/8"),), True)
    assert (network.routes, network.mtu, network.interface, network.dns) == ("all", 1400, "w%d", "split")
    assert (session.retry, session.offload) == (3, False)
    defaults = build(PSK, place)
    assert (defaults.session.retry, defaults.session.offload) == (None, True)
    assert (defaults.network.exclude, defaults.network.exclude_lan) == ((), False)


def test_noesn_reaches_the_configuration(place: Path) -> None:
    assert not build(PSK + '[crypto]\nesp = ["aes256gcm16-noesn"]\n', place).ike.child.esn


@pytest.mark.parametrize(
    ("written", "type_", "data"),
    [
        ("vpn.example.com", IdType.FQDN, b"vpn.example.com"),
        ("2001:db8::1", IdType.IPV6_ADDR, bytes.fromhex("20010db8000000000000000000000001")),
        ("keyid:abc", IdType.KEY_ID, b"abc"),
        # RFC 5280 appendix A: SEQUENCE { SET { SEQUENCE { OID 2.5.4.6, PrintableString CH } }, SET { ... CN, UTF8 } }
        (
            "C=CH, CN=vpn", IdType.DER_ASN1_DN,
            bytes.fromhex("301b310b3009060355040613024348310c300a06035504030c0376706e"),
        ),
    ],
)  # fmt: skip
def test_identities_are_written_as_people_write_them(place: Path, written: str, type_: IdType, data: bytes) -> None:
    identity = build(PSK.replace("[auth]", f'identity = "{written}"\n[auth]'), place).ike.gateway.identity
    assert identity is not None
    assert (identity.type, identity.data) == (type_, data)


@pytest.mark.parametrize("written", ["C=CH, X9=y", "CN=", "keydi:group", "ipv4:vpn.example"])
def test_an_impossible_identity_is_a_profile_error(place: Path, written: str) -> None:
    error = failure(PSK.replace("[auth]", f'identity = "{written}"\n[auth]'), place)
    assert "'gateway.identity' is not an identity" in error.message


def test_any_gateway_will_do_only_with_a_psk(place: Path) -> None:
    assert build(PSK.replace("[auth]", 'identity = "%any"\n[auth]'), place).ike.gateway.identity is None
    assert "method psk only" in failure(EAP.replace("ca =", 'identity = "%any"\nca ='), place).message


def test_each_of_several_gateways_must_prove_its_own_address(place: Path) -> None:
    compiled = build(PSK.replace('"192.0.2.1"', '["a.example", "192.0.2.2"]'), place)
    first, second = (compiled.ike_for(address).gateway.identity for address in compiled.gateways)
    assert first == compiled.ike.gateway.identity
    assert first is not None
    assert second is not None
    assert (first.data, second.data) == (b"a.example", b"\xc0\0\x02\x02")
    compiled = build(PSK.replace('"192.0.2.1"', '["a.example", "b.example"]\nidentity = "vpn.example"'), place)
    assert {compiled.ike_for(address).gateway.identity for address in compiled.gateways} == {
        compiled.ike.gateway.identity
    }


def test_the_dot_of_a_fully_qualified_name_is_not_part_of_the_identity(place: Path) -> None:
    compiled = build(PSK.replace("192.0.2.1", "vpn.example."), place)
    assert compiled.gateways == ("vpn.example.",)
    for identity in (compiled.ike.gateway.identity, compiled.ike_for("vpn.example.").gateway.identity):
        assert identity is not None
        assert identity.data == b"vpn.example"


def test_keys_that_the_method_does_not_use_are_warned_about(place: Path) -> None:
    forms = 'ca = "ca.pem"\ncertificate_forms = ["pkcs7"]\n[auth]'
    text = PSK.replace("[auth]", forms).replace("psk = {", 'user = "x"\npsk = {')
    assert build(text, place).warnings == (
        "key 'auth.user' is not used by method psk",
        "key 'gateway.ca' is not used by method psk",
        "key 'gateway.certificate_forms' is not used by method psk",
    )


def hook(write: Write, name: str = "hook", mode: int = 0o755) -> Path:
    return write(name, "#!/bin/sh\n", mode)


def test_hooks_are_found_and_become_absolute(write: Write, place: Path) -> None:
    """F15."""
    path = hook(write)
    compiled = build(
        PSK + '[session]\nup = [["./hook", "a b"], ["true"]]\ndown = [["~/hook"]]\n'.replace("~/", f"{place}/"), place
    )
    assert compiled.session.up[0] == (str(path), "a b")
    assert Path(compiled.session.up[1][0]).is_absolute()
    assert compiled.session.down == ((str(path),),)


def test_a_hook_that_cannot_or_must_not_run_is_refused(
    write: Write, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: missing, not executable, world-writable, somebody else's."""
    hook(write, "plain", 0o644)
    hook(write, "writable", 0o757)
    for written, said in {
        "./missing": "cannot be found",
        "no-such-program-anywhere": "not in the search path",
        "./plain": "is not executable",
        "./writable": "others may change (mode 0757)",
        ".//": "is not a program",
    }.items():
        error = failure(f'{PSK}[session]\nup = [["{written}", "{CANARY}"]]\n', place)
        assert said in error.message
        assert "session.up" in error.message
    hook(write)
    monkeypatch.setattr("ikeclient.profile.load.trust.trusted_owners", lambda environ: frozenset({54321}))
    assert "belongs to another user" in failure(f'{PSK}[session]\ndown = [["./hook"]]\n', place).message


def test_no_secret_shows_in_what_was_compiled(place: Path) -> None:
    """F12."""
    for text in (PSK, EAP):
        profile = parse_profile(text).profile
        compiled = compile_profile(profile, place, None)
        shown = f"{compiled!r} {compiled!s} {compiled.ike!r} {compiled.ike.auth!r} {profile!r} {redacted(profile)}"
        assert CANARY not in shown


def test_a_traceback_with_local_variables_shows_no_secret(place: Path, write: Write) -> None:
    """F12: what a traceback printer would show of the frames it passes."""
    write("ca.pem", b"nothing")
    frames = 0
    try:
        build(EAP, place, stdin_password=CANARY)
    except ProfileError as error:
        frame = error.__traceback__
        while frame is not None:
            if "ikeclient/profile" in frame.tb_frame.f_code.co_filename:
                frames += 1
                assert CANARY not in repr(frame.tb_frame.f_locals)
            frame = frame.tb_next
    else:
        pytest.fail("there is no authority in that file")
    assert frames >= 3


def test_environment_secrets_are_gone_after_compiling(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10."""
    monkeypatch.setenv("VPN_PSK", CANARY)
    compiled = build(PSK.replace('{ file = "psk" }', '{ env = "VPN_PSK" }'), place)
    assert isinstance(compiled.ike.auth, PskAuth)
    assert compiled.ike.auth.psk == CANARY.encode()
    assert "VPN_PSK" not in os.environ


def test_the_schemes_that_may_sign_are_those_of_the_key(place: Path) -> None:
    """F9: before the first packet."""
    auth = build(CERTIFICATE, place).ike.auth
    assert isinstance(auth, CertificateAuth)
    assert auth.signature == ()
    auth = build(CERTIFICATE + 'signature = ["rsa-pss-sha256", "ecdsa-sha384", "ecdsa-sha256"]\n', place).ike.auth
    assert isinstance(auth, CertificateAuth)
    assert [str(scheme) for scheme in auth.signature] == ["ECDSA with SHA-384", "ECDSA with SHA-256"]
    error = failure(CERTIFICATE + 'signature = ["rsa-pss-sha256", "ed25519"]\n', place)
    assert error.message == "key 'auth.signature' names no scheme that our key can sign with"
    assert "ecdsa-sha256" in str(error.hint)


@pytest.mark.parametrize("value", ["[]", '"rsa-pss-sha256"', '["rsa-pss-sha1"]', "[1]", "[[]]"])
def test_a_scheme_that_is_not_known_is_an_error(place: Path, value: str) -> None:
    """F4"""
    error = failure(CERTIFICATE + f"signature = {value}\n", place)
    assert "auth.signature" in error.message
    assert "rsa-pkcs1-sha256" in " ".join(error.lines())
