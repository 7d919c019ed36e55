"""Keys on a token, in a process of their own: SoftHSM's, and modules that can do less."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from soft_token import MODULE, PIN, Key, SoftToken

from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import KeyUnavailable
from ikeclient.signer.messages import (
    Look,
    Open,
    Opened,
    PinRefused,
    Refused,
    Seen,
    Sign,
    Signed,
    TokenKey,
    pack_reference,
)
from ikeclient.signer.token import TokenSigner
from ikeclient.signer.worker import worker
from ikeclient.wire.registry import HashAlgorithm

OCTETS = b"what is signed"


def key(label: str, **changes: Any) -> TokenKey:
    return replace(TokenKey(module=str(MODULE), uri=f"pkcs11:token=work;object={label}", pin=PIN.encode()), **changes)


def opened(reference: TokenKey) -> Any:
    with worker(None) as process:
        return process.ask(Open(reference=pack_reference(reference)))


@pytest.mark.parametrize(
    ("label", "scheme"),
    [
        ("rsa", "rsa-pss-sha256"), ("rsa", "rsa-pss-sha384"), ("rsa", "rsa-pss-sha512"),
        ("rsa", "rsa-pkcs1-sha256"), ("rsa", "rsa-pkcs1-sha384"), ("rsa", "rsa-pkcs1-sha512"),
        ("ec", "ecdsa-sha256"), ("ec", "ecdsa-sha384"), ("ed", "ed25519"),
    ],
)  # fmt: skip
def test_a_token_signs(token: SoftToken, keys: dict[str, Key], label: str, scheme: str) -> None:
    """The signature is verified with the key that was put on the token, not with what the token says it is."""
    with worker(None) as process:
        reference = pack_reference(key(label))
        found = process.ask(Open(reference=reference))
        assert isinstance(found, Opened)
        own = PublicKey(keys[label].public_key())
        assert PublicKey.from_spki(found.public_key) == own
        answer = process.ask(
            Sign(
                number=7,
                reference=reference,
                octets=OCTETS,
                schemes=(SCHEME_NAMES[scheme],),
                public_key=own.spki,
            )
        )
        assert isinstance(answer, Signed)
        assert (answer.number, answer.scheme) == (7, SCHEME_NAMES[scheme])
        own.check(answer.scheme, answer.signature, OCTETS)


def test_the_certificate_is_beside_the_key(token: SoftToken, keys: dict[str, Key]) -> None:
    found = opened(key("rsa"))
    (certificate,) = found.certificates
    assert PublicKey(keys["rsa"].public_key()).spki in certificate
    assert opened(key("ec")).certificates == ()


def test_what_is_seen_before_the_pin(token: SoftToken) -> None:
    with worker(None) as process:
        seen = process.ask(Look(reference=pack_reference(key("rsa", pin=None))))
    assert isinstance(seen, Seen)
    assert seen.wants_pin
    assert not seen.pin_pad
    assert "work" in seen.name
    assert seen.serial


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (key("rsa", pin=b"wrong pin"), "refused the PIN"),
        (key("nothing"), "no key 'nothing' on token 'work'"),
        (key("rsa", uri="pkcs11:token=elsewhere"), "no token for the key on token 'elsewhere'"),
        (key("rsa", uri="pkcs11:token=work"), "3 private keys match"),
        (key("rsa", serial=b"0123"), "serial 0123 is not there"),
        (key("rsa", module="/bin/true"), "module /bin/true cannot be used"),
        (key("rsa", module="/nowhere.so"), "module /nowhere.so cannot be used"),
    ],
)
def test_why_a_key_cannot_be_used(token: SoftToken, reference: TokenKey, why: str) -> None:
    answer = opened(reference)
    assert isinstance(answer, Refused)
    assert why in answer.failure.message
    assert answer.pin is ("PIN" in why)
    assert "wrong pin" not in str(answer)


# Modules that can do less: a token as python-pkcs11 shows it, with a key of ours behind it.


class FakeToken:
    """A token of one key; `mechanisms` are all that it can."""

    def __init__(
        self,
        private: Key,
        *mechanisms: pkcs11.Mechanism,
        flags: int = 0x4,
        login: Exception | None = None,
        bare_point: bool = False,
        always: bool = False,
    ) -> None:
        self.private, self.mechanisms, self.flags, self.login = private, mechanisms, flags, login
        self.bare_point, self.always = bare_point, always
        self.label, self.serial, self.model, self.manufacturer_id = "fake", b"42   ", "m", "f"
        self.slot_id, self.slot_description = 1, "slot"
        self.pins: list[Any] = []
        self.signed_with: list[Any] = []
        self.slot = self

    # the slot, and the module

    def get_slots(self, token_present: bool) -> list[FakeToken]:
        return [self]

    def get_token(self) -> FakeToken:
        return self

    def get_mechanisms(self) -> set[pkcs11.Mechanism]:
        return set(self.mechanisms)

    # the session

    def open(self, user_pin: Any) -> FakeToken:
        self.pins.append(user_pin)
        if self.login is not None:
            if isinstance(self.login, pkcs11.PinIncorrect):
                self.flags |= 0x20000
            raise self.login
        return self

    def get_objects(self, attributes: Any) -> list[Any]:
        match attributes[pkcs11.Attribute.CLASS]:
            case pkcs11.ObjectClass.PRIVATE_KEY:
                return [FakeObject(self, {"ID": b"\x01", "LABEL": "vpn", "ALWAYS_AUTHENTICATE": self.always})]
            case pkcs11.ObjectClass.PUBLIC_KEY:
                return [FakeObject(self, {"ID": b"\x01", "LABEL": "vpn", **self.numbers()})]
        return []

    def numbers(self) -> dict[str, Any]:
        match self.private.public_key():
            case rsa.RSAPublicKey() as public:
                numbers = public.public_numbers()
                return {
                    "KEY_TYPE": pkcs11.KeyType.RSA,
                    "MODULUS": numbers.n.to_bytes(numbers.n.bit_length() // 8 + 1),
                    "PUBLIC_EXPONENT": numbers.e.to_bytes(3),
                }
            case ec.EllipticCurvePublicKey() as public:
                point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
                length = bytes([len(point)]) if len(point) < 128 else bytes([0x81, len(point)])
                kind, size = pkcs11.KeyType.EC, public.key_size
                curve = {256: "06082a8648ce3d030107", 384: "06052b81040022", 521: "06052b81040023"}[size]
                written = point if self.bare_point else b"\x04" + length + point
                return {"KEY_TYPE": kind, "EC_PARAMS": bytes.fromhex(curve), "EC_POINT": written}
            case public:
                point = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
                written = point if self.bare_point else b"\x04\x20" + point
                return {"KEY_TYPE": pkcs11.KeyType.EC_EDWARDS, "EC_POINT": written}


class FakeObject:
    """An object on it."""

    def __init__(self, token: FakeToken, attributes: dict[str, Any]) -> None:
        self._token, self._attributes = token, attributes

    def __getitem__(self, name: pkcs11.Attribute) -> Any:
        if name.name not in self._attributes:
            raise pkcs11.AttributeTypeInvalid
        return self._attributes[name.name]

    def sign(self, data: bytes, mechanism: Any, mechanism_param: Any, pin: Any = None) -> bytes:
        self._token.signed_with.append((mechanism, pin))
        if mechanism not in self._token.mechanisms:
            raise pkcs11.MechanismInvalid
        if mechanism == pkcs11.Mechanism.RSA_PKCS_PSS:  # announced, and then refused
            raise pkcs11.MechanismParamInvalid
        numbers = self._token.private.private_numbers()  # type: ignore[union-attr]  # RSA only
        n = numbers.public_numbers.n
        if mechanism == pkcs11.Mechanism.RSA_PKCS:
            data = b"\x00\x01" + b"\xff" * ((n.bit_length() + 7) // 8 - len(data) - 3) + b"\x00" + data
        return pow(int.from_bytes(data), numbers.d, n).to_bytes((n.bit_length() + 7) // 8)


def signer_of(token: FakeToken, **changes: Any) -> TokenSigner:
    library = SimpleNamespace(
        lib=lambda path: token,
        **{name: getattr(pkcs11, name) for name in ("Attribute", "ObjectClass", "Mechanism", "MGF", "KeyType")},
        PROTECTED_AUTH=pkcs11.PROTECTED_AUTH,
    )
    reference = TokenKey(module="/fake.so", uri="pkcs11:token=fake;object=vpn", pin=b"1234")
    return TokenSigner(replace(reference, **changes), library)


RAW = pkcs11.Mechanism.RSA_X_509
RSA_SCHEMES = [scheme for scheme in SCHEME_NAMES.values() if scheme.family in (Family.RSA_PSS, Family.RSA_PKCS1)]


@pytest.mark.parametrize("bits", [2048, 2049, 3072])
@pytest.mark.parametrize("scheme", RSA_SCHEMES, ids=str)
def test_a_module_with_the_raw_operation_alone(bits: int, scheme: Scheme) -> None:
    """The padding is ours, also for a modulus that fills its bytes badly."""
    private = rsa.generate_private_key(65537, bits)
    signer = signer_of(FakeToken(private, RAW))
    assert signer.open(None).families == (Family.RSA_PSS, Family.RSA_PKCS1)
    made, signature = signer.sign(OCTETS, [scheme])
    assert made == scheme
    PublicKey(private.public_key()).check(scheme, signature, OCTETS)


def test_a_token_that_announces_pss_and_refuses_it() -> None:
    private = rsa.generate_private_key(65537, 2048)
    token = FakeToken(private, RAW, pkcs11.Mechanism.RSA_PKCS_PSS)
    signer = signer_of(token)
    signer.open(None)
    scheme, signature = signer.sign(OCTETS, RSA_SCHEMES[:1])
    PublicKey(private.public_key()).check(scheme, signature, OCTETS)
    assert [mechanism for mechanism, _ in token.signed_with] == [pkcs11.Mechanism.RSA_PKCS_PSS, RAW]


def test_a_token_without_any_pss() -> None:
    private = rsa.generate_private_key(65537, 2048)
    signer = signer_of(FakeToken(private, pkcs11.Mechanism.RSA_PKCS))
    assert signer.open(None).families == (Family.RSA_PKCS1,)
    scheme, signature = signer.sign(OCTETS, RSA_SCHEMES)
    assert scheme.family == Family.RSA_PKCS1
    PublicKey(private.public_key()).check(scheme, signature, OCTETS)
    with pytest.raises(KeyUnavailable, match="no signature that is accepted"):
        signer.sign(OCTETS, [SCHEME_NAMES["rsa-pss-sha256"]])


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("private", [
    ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1()),
    ec.generate_private_key(ec.SECP521R1()), Ed25519PrivateKey.generate(),
], ids=["P-256", "P-384", "P-521", "Ed25519"])  # fmt: skip
def test_points_in_both_forms(private: Key, bare: bool) -> None:
    token = FakeToken(private, pkcs11.Mechanism.ECDSA, pkcs11.Mechanism.EDDSA, bare_point=bare)
    assert signer_of(token).open(None).public_key == PublicKey(private.public_key()).spki


def test_a_key_that_wants_the_pin_every_time() -> None:
    token = FakeToken(rsa.generate_private_key(65537, 2048), RAW, always=True)
    signer = signer_of(token)
    signer.open(None)
    signer.sign(OCTETS, RSA_SCHEMES[:1])
    assert token.signed_with == [(RAW, "1234")]


@pytest.mark.parametrize(
    ("flags", "login", "told", "why", "tried"),
    [
        (0x4, pkcs11.PinIncorrect(), "refused the PIN", "one try is left", ["1234"]),
        (0x4, pkcs11.PinLocked(), "is locked", None, ["1234"]),
        (0x4 | 0x40000, None, "is locked", None, []),
        (0x4, pkcs11.PinExpired(), "has to be set first", None, ["1234"]),
    ],
)
def test_a_pin_is_tried_once(flags: int, login: Exception | None, told: str, why: str | None, tried: list[str]) -> None:
    """A token that is known to be locked is not even asked."""
    token = FakeToken(rsa.generate_private_key(65537, 2048), RAW, flags=flags, login=login)
    with pytest.raises(PinRefused, match=told) as caught:
        signer_of(token).open(None)
    assert why is None or why in str(caught.value.reason)
    assert token.pins == tried


def test_a_token_with_keys_of_its_own_asks_for_the_pin_itself() -> None:
    token = FakeToken(rsa.generate_private_key(65537, 2048), RAW, flags=0x104)
    signer_of(token, pin=None, pin_pad=True).open(None)
    assert token.pins == [pkcs11.PROTECTED_AUTH]


def test_a_process_with_a_module_holds_nothing_of_ours(token: SoftToken, tmp_path: Path) -> None:
    """Neither descriptors nor a terminal; and it ends with its owner."""
    with open(tmp_path / "secret", "w") as ours, worker(None) as process:
        os.set_inheritable(ours.fileno(), True)
        process.ask(Open(reference=pack_reference(key("rsa"))))
        links = [os.readlink(entry) for entry in Path(f"/proc/{process._pid}/fd").iterdir()]
        assert str(tmp_path / "secret") not in links
        assert os.getsid(process._pid) == process._pid
        pid = process._pid
    assert not Path(f"/proc/{pid}").exists()


def test_sha_1_for_gateways_of_old() -> None:
    private = rsa.generate_private_key(65537, 2048)
    signer = signer_of(FakeToken(private, RAW))
    signer.open(None)
    scheme = Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA1)
    PublicKey(private.public_key()).check(scheme, signer.sign(OCTETS, [scheme])[1], OCTETS)
