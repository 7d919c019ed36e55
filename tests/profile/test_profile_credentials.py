from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from profile_world import CANARY, CERTIFICATE, EAP, PSK, Owner, common_name, is_clause, issue

from ikeclient.errors import IkeclientError, ProfileError, UsageError
from ikeclient.ike.config import CertificateAuth, PskAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.check import check_profile, typed_secret
from ikeclient.profile.load.load import load_profile, parse_profile
from ikeclient.profile.secrets import credentials
from ikeclient.profile.secrets.secrets import Ask
from ikeclient.profile.secrets.typed import decode_psk
from ikeclient.wire.registry import IdType

Write = Callable[..., Path]
PKCS12 = CERTIFICATE.replace('certificate = "alice.pem"\nkey = "alice.key"\n', 'certificate = "alice.p12"\n')
PASSPHRASE = 'key_passphrase = { file = "passphrase" }\n'


def build(text: str, place: Path, ask: Ask | None = None, stdin: str | None = None) -> CompiledProfile:
    return compile_profile(parse_profile(text).profile, place, ask, stdin_password=stdin)


def own(compiled: CompiledProfile) -> CertificateAuth:
    assert isinstance(compiled.ike.auth, CertificateAuth)
    return compiled.ike.auth


def failure(text: str, place: Path, ask: Ask | None = None, stdin: str | None = None) -> IkeclientError:
    with pytest.raises(IkeclientError) as raised:
        build(text, place, ask, stdin)
    error = raised.value
    assert CANARY not in "\n".join([*error.lines(), repr(error), str(error.__cause__)])
    assert len(error.lines()) <= 3
    assert all(is_clause(line) for line in error.lines())
    return error


class Asked:
    """A person who answers every prompt with the canary and counts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return CANARY


def subjects(compiled: CompiledProfile) -> list[str]:
    """Whom the gateway's certificate may come from."""
    theirs = compiled.ike.gateway.auth
    assert isinstance(theirs, TrustedCertificate)
    return [anchor.subject for anchor in theirs.trust.anchors]


@pytest.mark.parametrize(
    ("written", "psk"),
    [
        (b"correct horse", b"correct horse"),
        (b"0x0102aBff", bytes([1, 2, 0xAB, 0xFF])),
        (b"0sAQIDBA==", bytes([1, 2, 3, 4])),
        (b'"quoted"', b'"quoted"'),
        (b"0X01", b"0X01"),
        (b"x0x01", b"x0x01"),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_a_psk_is_text_hexadecimal_or_base64(written: bytes, psk: bytes) -> None:
    """F8."""
    assert decode_psk(written) == psk


@pytest.mark.parametrize(
    "written", [b"0x", b"0s", b"0x123", b"0xzz", b"0x 01", b"0s!!!!", b"0sAAA", b"0x" + CANARY.encode()]
)
def test_a_psk_that_does_not_decode_is_refused_and_not_repeated(written: bytes) -> None:
    """F8, F12."""
    with pytest.raises(ProfileError) as raised:
        decode_psk(written)
    assert CANARY not in str(raised.value.lines())


@pytest.mark.parametrize(
    ("content", "warned"),
    [
        ("short\n", "weak"), ("0x0102\n", "weak"), ('"long enough"\n', "quotes"), (" long enough\n", "white space"),
        ("long enough\n\n", "white space"), ("long enough\n", None), ("0x0102030405060708\n", None),
    ],
)  # fmt: skip
def test_a_weak_or_odd_psk_is_warned_about(write: Write, place: Path, content: str, warned: str | None) -> None:
    """F8."""
    write("psk", content)
    warnings = build(PSK, place).warnings
    assert [warned in warning for warning in warnings] == [True] if warned else warnings == ()
    assert content.strip() not in str(warnings)


def test_the_newline_at_the_end_of_a_psk_file_is_not_part_of_it(write: Write, place: Path) -> None:
    """F8."""
    write("psk", "long enough\n")
    auth = build(PSK, place).ike.auth
    assert isinstance(auth, PskAuth)
    assert auth.psk == b"long enough"


def test_a_certificate_profile_carries_chain_key_and_trust(place: Path, alice: Owner, authority: Owner) -> None:
    compiled = build(CERTIFICATE, place)
    auth = own(compiled)
    assert [certificate.subject for certificate in auth.chain] == ["CN=alice"]
    assert auth.key.public_key == auth.chain[0].public_key
    assert subjects(compiled) == ["CN=Test CA"]
    assert (compiled.ike.local_identity.type, compiled.warnings) == (IdType.DER_ASN1_DN, ())
    assert compiled.ike.local_identity.data == alice.certificate.subject.public_bytes()


def test_the_own_certificate_comes_first_whatever_the_order_in_the_file(
    write: Write, place: Path, alice: Owner, authority: Owner
) -> None:
    write("alice.pem", b"subject=junk\n" + authority.pem() + b"more\n" + alice.pem())
    assert [certificate.subject for certificate in own(build(CERTIFICATE, place)).chain] == ["CN=alice", "CN=Test CA"]


def test_a_certificate_may_carry_its_key_in_the_same_file(write: Write, place: Path, alice: Owner) -> None:
    text = CERTIFICATE.replace('key = "alice.key"\n', "")
    write("alice.pem", alice.pem() + alice.key_pem())
    assert own(build(text, place)).chain[0].subject == "CN=alice"
    write("alice.pem", alice.pem() + alice.key_pem(), 0o644)
    assert "others may read" in failure(text, place).message


def test_without_a_subject_the_first_alternative_name_is_our_identity(
    write: Write, place: Path, authority: Owner
) -> None:
    nameless = issue(x509.Name([]), authority, [x509.RFC822Name("alice@example.com"), x509.DNSName("a.example")])
    write("alice.pem", nameless.pem())
    write("alice.key", nameless.key_pem())
    identity = build(CERTIFICATE, place).ike.local_identity
    assert (identity.type, identity.data) == (IdType.RFC822_ADDR, b"alice@example.com")


def test_a_certificate_that_names_nobody_needs_an_identity(write: Write, place: Path, authority: Owner) -> None:
    nameless = issue(x509.Name([]), authority)
    write("alice.pem", nameless.pem())
    write("alice.key", nameless.key_pem())
    error = failure(CERTIFICATE, place)
    assert error.message == "key 'auth.identity' is missing"
    assert "names nobody" in (error.reason or "")


def test_an_identity_that_the_certificate_lacks_is_warned_about(place: Path) -> None:
    compiled = build(CERTIFICATE.replace("certificate =", 'identity = "bob@example.com"\ncertificate ='), place)
    assert compiled.ike.local_identity.data == b"bob@example.com"
    assert "does not hold the identity bob@example.com" in compiled.warnings[0]
    compiled = build(CERTIFICATE.replace("certificate =", 'identity = "alice@example.com"\ncertificate ='), place)
    assert compiled.warnings == ()


def test_an_expired_certificate_of_ours_is_warned_about(write: Write, place: Path, authority: Owner) -> None:
    old = issue(common_name("alice"), authority, days=-1)
    write("alice.pem", old.pem())
    write("alice.key", old.key_pem())
    assert "our certificate expired at" in build(CERTIFICATE, place).warnings[0]


def test_a_certificate_of_ours_that_expires_soon_is_told_by_validate(
    write: Write, place: Path, authority: Owner
) -> None:
    """C2: `connect` tells it when it logs in."""
    for days, told in ((13, True), (20, False)):
        own = issue(common_name("alice"), authority, days=days)
        write("alice.pem", own.pem())
        write("alice.key", own.key_pem())
        checked = check_profile(load_profile(str(write("work.toml", CERTIFICATE))))
        assert checked.ready
        assert any("our certificate expires at" in text for text in checked.warnings) is told
        assert not any("expires" in text for text in build(CERTIFICATE, place).warnings)


def test_a_key_that_is_not_the_certificates_is_refused(write: Write, place: Path, authority: Owner) -> None:
    """F6."""
    write("alice.key", authority.key_pem())
    error = failure(CERTIFICATE, place)
    assert error.message == f"{place}/alice.pem: the certificate and the private key do not belong together"
    assert "CN=alice" in (error.reason or "")


@pytest.mark.parametrize(("file", "mode"), [("alice.key", 0o644), ("alice.key", 0o660), ("alice.p12", 0o644)])
def test_a_private_key_that_others_can_read_is_refused(
    write: Write, place: Path, alice: Owner, file: str, mode: int
) -> None:
    """F11, with the override."""
    write("alice.p12", alice.pkcs12(None))
    (place / file).chmod(mode)
    text = CERTIFICATE if file == "alice.key" else PKCS12
    error = failure(text, place)
    assert error.message == f"{place}/{file}: holds a secret, but others may read or change it (mode {mode:04o})"
    assert build(text.replace(f'"{file}"', f'{{ file = "{file}", insecure = true }}'), place).ike


def test_an_encrypted_key_takes_its_passphrase_from_its_source(write: Write, place: Path, alice: Owner) -> None:
    write("alice.key", alice.key_pem(CANARY.encode()))
    write("passphrase", f"{CANARY}\n")
    assert own(build(CERTIFICATE + PASSPHRASE, place)).key
    assert own(build(CERTIFICATE, place, stdin=CANARY)).key


def test_an_encrypted_key_without_a_source_asks_once(write: Write, place: Path, alice: Owner) -> None:
    write("alice.key", alice.key_pem(CANARY.encode()))
    asked = Asked()
    assert own(build(CERTIFICATE, place, asked)).key
    assert asked.prompts == ["Passphrase for alice.key: "]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (CERTIFICATE, ("auth.key_passphrase", "passphrase")),
        (CERTIFICATE + PASSPHRASE, None),
        (PSK, None),
        (PSK.replace('{ file = "psk" }', "{ prompt = true }"), ("auth.psk", "pre-shared key")),
        (PSK.replace('{ file = "psk" }', '{ keyring = "vpn" }'), None),
        (EAP.replace('{ file = "pw" }', "{ prompt = true }"), ("auth.password", "password")),
        (EAP.replace('{ file = "pw" }', '{ command = ["/bin/false"] }'), None),
        (
            PSK.replace('{ file = "psk" }', '{ credential = "psk" }') + '[ppk]\nid = "a"\nsecret = { prompt = true }\n',
            ("ppk.secret", "post-quantum key"),
        ),
    ],
)
def test_a_secret_that_a_person_would_type_is_known_before(
    write: Write, place: Path, alice: Owner, text: str, found: tuple[str, str] | None
) -> None:
    write("alice.key", alice.key_pem(CANARY.encode()))
    write("passphrase", CANARY)
    write("psk", CANARY)
    write("pw", CANARY)
    assert typed_secret(load_profile(str(write("work.toml", text)))) == found


def test_a_wrong_passphrase_is_precise_and_asked_for_once(write: Write, place: Path, alice: Owner) -> None:
    """F6: no second prompt."""
    write("alice.key", alice.key_pem(b"another"))
    asked = Asked()
    error = failure(CERTIFICATE, place, asked)
    assert error.message.startswith(f"{place}/alice.key: the private key's password is wrong")
    assert len(asked.prompts) == 1
    write("passphrase", CANARY)
    assert "password is wrong" in failure(CERTIFICATE + PASSPHRASE, place, asked).message
    assert len(asked.prompts) == 1


def test_an_encrypted_key_without_a_terminal_fails_at_once(write: Write, place: Path, alice: Owner) -> None:
    """F13."""
    write("alice.key", alice.key_pem(CANARY.encode()))
    error = failure(CERTIFICATE, place)
    assert isinstance(error, UsageError)
    assert error.message == f"{place}/alice.key: no passphrase given"
    assert "auth.key_passphrase" in (error.hint or "")


def test_a_passphrase_for_a_key_without_one_is_ignored(write: Write, place: Path) -> None:
    write("passphrase", CANARY)
    assert own(build(CERTIFICATE + PASSPHRASE, place)).key


def test_openssh_keys_and_text_before_pem_are_read(write: Write, place: Path, alice: Owner) -> None:
    """F6."""
    openssh = alice.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write("alice.key", openssh)
    assert own(build(CERTIFICATE, place)).key
    write("alice.key", b"Bag Attributes\n  friendlyName: alice\n" + alice.key_pem())
    assert own(build(CERTIFICATE, place)).key


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\x30\x03\x02\x01\x03"],
)
def test_a_file_without_a_key_is_refused_without_asking(write: Write, place: Path, content: bytes) -> None:
    """F6."""
    write("alice.key", content)
    asked = Asked()
    assert failure(CERTIFICATE, place, asked).message.startswith(f"{place}/alice.key: ")
    assert asked.prompts == []


@pytest.mark.parametrize("password", [None, b"another", CANARY.encode()])
def test_pkcs12_brings_chain_and_key(
    write: Write, place: Path, alice: Owner, authority: Owner, password: bytes | None
) -> None:
    """F6."""
    write("alice.p12", alice.pkcs12(password, [authority.certificate]))
    asked = Asked()
    if password == b"another":
        error = failure(PKCS12, place, asked)
        assert error.message.startswith(f"{place}/alice.p12: the PKCS#12 password is wrong")
        assert len(asked.prompts) == 1
        return
    auth = own(build(PKCS12, place, asked))
    assert [certificate.subject for certificate in auth.chain] == ["CN=alice", "CN=Test CA"]
    assert asked.prompts == (["Passphrase for alice.p12: "] if password else [])


def test_pkcs12_takes_its_passphrase_from_its_source_or_standard_input(write: Write, place: Path, alice: Owner) -> None:
    write("alice.p12", alice.pkcs12(CANARY.encode()))
    write("passphrase", CANARY)
    assert own(build(PKCS12 + PASSPHRASE, place)).key
    assert own(build(PKCS12, place, stdin=CANARY)).key
    assert isinstance(failure(PKCS12, place), UsageError)


def test_pkcs12_without_a_key_is_refused_without_asking(write: Write, place: Path, alice: Owner) -> None:
    """F6: no key."""
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    data = pkcs12.serialize_key_and_certificates(None, None, alice.certificate, None, NoEncryption())
    write("alice.p12", data)
    asked = Asked()
    assert "no private key" in failure(PKCS12, place, asked).message
    assert asked.prompts == []


def test_pkcs12_and_a_separate_key_contradict_each_other(write: Write, place: Path, alice: Owner) -> None:
    write("alice.p12", alice.pkcs12(None))
    assert "'auth.key'" in failure(PKCS12 + 'key = "alice.key"\n', place).message


def test_a_der_certificate_is_not_taken_for_pkcs12(write: Write, place: Path, alice: Owner) -> None:
    write("alice.pem", alice.certificate.public_bytes(serialization.Encoding.DER))
    assert own(build(CERTIFICATE, place)).chain[0].subject == "CN=alice"


def test_one_bad_authority_among_good_ones_is_a_warning(write: Write, place: Path, authority: Owner) -> None:
    """F7."""
    bad = b"-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n"
    write("ca.pem", bad + authority.pem() * 3)
    compiled = build(EAP, place)
    assert len(subjects(compiled)) == 1
    assert len(compiled.warnings) == 1
    assert compiled.warnings[0].startswith(f"{place}/ca.pem: ")


@pytest.mark.parametrize(
    "content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nMIIBAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_any_authority_is_refused(write: Write, place: Path, content: bytes) -> None:
    """F7."""
    write("ca.pem", content)
    assert failure(EAP, place).message.startswith(f"{place}/ca.pem: there is no certificate")


def test_several_authorities_make_one_trust_store(write: Write, place: Path, authority: Owner) -> None:
    other = issue(common_name("Other CA"))
    write("other.pem", other.pem())
    compiled = build(EAP.replace('"ca.pem"', '["ca.pem", "other.pem", "ca.pem"]'), place)
    assert subjects(compiled) == ["CN=Test CA", "CN=Other CA"]


def test_without_ca_the_first_system_store_that_exists_is_used(
    write: Write, place: Path, authority: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("bundle.crt", authority.pem(), 0o644)
    text = EAP.replace('ca = "ca.pem"\n', "")
    monkeypatch.setattr(credentials, "SYSTEM_TRUST", (place / "missing.crt", place / "bundle.crt"))
    assert subjects(build(text, place)) == ["CN=Test CA"]
    monkeypatch.setattr(credentials, "SYSTEM_TRUST", (place / "missing.crt",))
    assert "ca-certificates" in (failure(text, place).hint or "")
    write("bundle.crt", b"nothing")
    monkeypatch.setattr(credentials, "SYSTEM_TRUST", (place / "bundle.crt",))
    assert "holds no certificate" in failure(text, place).message


def test_no_secret_shows_in_a_compiled_certificate_profile(write: Write, place: Path, alice: Owner) -> None:
    """F12."""
    write("alice.key", alice.key_pem(CANARY.encode()))
    compiled = build(CERTIFICATE, place, Asked())
    numbers = alice.key.private_numbers().private_value
    assert CANARY not in repr(compiled)
    assert str(numbers) not in repr(compiled)
    assert f"{numbers:x}" not in repr(compiled)
