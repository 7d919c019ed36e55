"""Keys on PKCS#11 tokens, through python-pkcs11; the only module that imports it, and only inside the signing process.

A token may be a card, a stick, a TPM, or a file. What they do not do for us is done here: a token without RSASSA-PSS
gets its padding ready-made if it has the raw private operation (CKM_RSA_X_509), and so does one without PKCS#1 v1.5.

A PIN that was refused is never tried again: a token locks itself after a few, and often for good. The counter's state
(CKF_USER_PIN_COUNT_LOW, _FINAL_TRY, _LOCKED) goes into what is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.sign import encodings
from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import IkeclientError, KeyUnavailable, ParseError, ProfileError, SignatureError
from ikeclient.signer.messages import Opened, PinRefused, Seen, TokenKey
from ikeclient.signer.uri import parse_uri
from ikeclient.wire.registry import HashAlgorithm
from ikeclient.wire.text import printable

MAX_CERTIFICATES = 16
_MAX_OBJECTS = 256
_COUNT_LOW, _FINAL_TRY, _LOCKED, _TO_BE_CHANGED = 0x10000, 0x20000, 0x40000, 0x80000  # CKF_USER_PIN_...
_LOGIN_REQUIRED, _PIN_PAD = 0x4, 0x100
_WITHOUT_MECHANISM = ("MechanismInvalid", "MechanismParamInvalid", "KeyTypeInconsistent", "FunctionNotSupported")
_MGFS = {HashAlgorithm.SHA1: "SHA1", HashAlgorithm.SHA2_256: "SHA256", HashAlgorithm.SHA2_384: "SHA384",
         HashAlgorithm.SHA2_512: "SHA512"}  # fmt: skip
_DIGESTS = {HashAlgorithm.SHA1: "SHA_1", HashAlgorithm.SHA2_256: "SHA256", HashAlgorithm.SHA2_384: "SHA384",
            HashAlgorithm.SHA2_512: "SHA512"}  # fmt: skip


class TokenSigner:
    """One key of one token. Raises KeyUnavailable for whatever the token, the module or the PIN does not allow.

    `library` is the package pkcs11, which a test replaces.
    """

    def __init__(self, key: TokenKey, library: Any = None) -> None:
        self._lib = library or _library()
        self._key = key
        self._uri = parse_uri(key.uri)
        self._token = self._find_token()
        self.name = _token_name(self._token)
        self.public_key: PublicKey | None = None
        self.families: tuple[Family, ...] = ()
        self._private: Any = None
        self._session: Any = None
        self._mechanisms: frozenset[Any] = frozenset()

    # The token

    def look(self) -> Seen:
        """Tell what the token wants before its keys can be used."""
        flags = int(self._token.flags)
        return Seen(
            name=self.name,
            serial=bytes(self._token.serial),
            wants_pin=bool(flags & _LOGIN_REQUIRED),
            pin_pad=bool(flags & _PIN_PAD),
            few_tries=bool(flags & _COUNT_LOW),
            last_try=bool(flags & _FINAL_TRY),
        )

    def _find_token(self) -> Any:
        uri, found = self._uri, []
        with self._naming(f"the PKCS#11 module {printable(self._key.module, 120)} cannot be used"):
            for slot in self._lib.lib(self._key.module).get_slots(token_present=True):
                try:
                    token = slot.get_token()
                except Exception:  # noqa: S112 - a slot whose token is none is not the one
                    continue
                if self._matches(slot, token):
                    found.append(token)
        if not found:
            hint = "plug it in; `pkcs11-tool --module FILE --list-slots` shows what the module sees"
            if self._key.serial is not None:
                what = f"the token with serial {_shown(self._key.serial)} is not there"
                token_label = uri.texts.get("token")
                named = f" ({token_label!r})" if token_label else ""
                raise KeyUnavailable(
                    f"{what}{named}", reason="it was pulled out, or another one is in its place", hint=hint
                )
            raise KeyUnavailable(
                f"there is no token for the {uri}", reason="none that is plugged in matches", hint=hint
            )
        if len(found) > 1:
            names = ", ".join(map(_token_name, found[:4]))
            raise KeyUnavailable(
                f"{len(found)} tokens match the {uri}", reason=names, hint="name one with token= or serial= in the URI"
            )
        return found[0]

    def _matches(self, slot: Any, token: Any) -> bool:
        serial = bytes(token.serial).rstrip(b" \0")
        if self._key.serial is not None and serial != self._key.serial.rstrip(b" \0"):
            return False
        uri = self._uri
        said = {
            "token": token.label,
            "manufacturer": token.manufacturer_id,
            "model": token.model,
            "serial": serial.decode("utf-8", "replace"),
            "slot-description": slot.slot_description,
            "slot-manufacturer": slot.manufacturer_id,
        }
        return uri.slot in (None, slot.slot_id) and all(uri.says(name, value) for name, value in said.items())

    # The key

    def open(self, known: bytes | None) -> Opened:
        """Log in, and find the key with its certificates and its public half, which may be `known` (DER)."""
        seen = self.look()
        self._session = self._log_in(seen)
        with self._naming(f"{self.name} cannot be read"):
            self._mechanisms = frozenset(self._token.slot.get_mechanisms())
            private = self._private = self._find_key()
            identifier, label = (
                _attribute(private, self._lib.Attribute.ID),
                _attribute(private, self._lib.Attribute.LABEL),
            )
            beside = list(self._certificates())
            self.public_key = self._public_key(private, identifier, label, known)
            self.families = self._able(self.public_key)
        own = [found for found in beside if found.public_key == self.public_key]
        return Opened(
            place=f"{self.name}",
            public_key=self.public_key.spki,
            families=self.families,
            certificates=tuple(each.der for each in _chain(own[0], beside)) if own else (),
        )

    def _log_in(self, seen: Seen) -> Any:
        flags = int(self._token.flags)
        if seen.wants_pin and flags & _LOCKED:
            raise PinRefused(f"the PIN of {self.name} is locked", hint=_UNLOCK)
        pin: Any = None
        if seen.wants_pin and self._key.pin_pad:
            pin = self._lib.PROTECTED_AUTH
        elif seen.wants_pin and self._key.pin is not None:
            try:
                pin = self._key.pin.decode()
            except UnicodeDecodeError:
                raise ProfileError("the PIN is not UTF-8 text") from None
        try:
            return self._token.open(user_pin=pin)
        except Exception as error:
            raise self._login_failed(error) from None

    def _login_failed(self, error: Exception) -> IkeclientError:
        name = type(error).__name__
        if name in ("PinIncorrect", "PinInvalid", "PinLenRange"):
            return PinRefused(f"{self.name} refused the PIN", reason=self._tries_left(), hint=_ONE_TRY)
        if name == "PinLocked":
            return PinRefused(f"the PIN of {self.name} is locked", hint=_UNLOCK)
        if name in ("PinExpired", "UserPinNotInitialized"):
            return PinRefused(f"the PIN of {self.name} has to be set first", hint="the token's own program does that")
        if name in ("FunctionCancelled", "FunctionRejected"):
            return KeyUnavailable(f"the PIN of {self.name} was not entered")
        return self._failure(f"{self.name} did not let us log in", error)

    def _tries_left(self) -> str:
        """Say how many tries the token says are left."""
        try:
            flags = int(self._token.slot.get_token().flags)
        except Exception:
            return "how many tries are left is not known"
        if flags & _LOCKED:
            return "it is locked now"
        if flags & _FINAL_TRY:
            return "one try is left before it locks"
        return "few tries are left before it locks" if flags & _COUNT_LOW else "it did not say how many tries are left"

    def _objects(self, kind: str) -> Iterator[Any]:
        objects = self._session.get_objects({self._lib.Attribute.CLASS: getattr(self._lib.ObjectClass, kind)})
        for count, found in enumerate(objects):
            if count >= _MAX_OBJECTS:
                return
            yield found

    def _find_key(self) -> Any:
        found = [each for each in self._objects("PRIVATE_KEY") if self._is_meant(each)]
        if not found:
            has = ", ".join(self._described(each) for each in list(self._objects("PRIVATE_KEY"))[:6]) or "none"
            raise KeyUnavailable(f"there is no {self._uri}", reason=f"private keys there: {has}")
        if len(found) > 1:
            has = ", ".join(map(self._described, found[:6]))
            raise KeyUnavailable(
                f"{len(found)} private keys match the {self._uri}", reason=has, hint="name one with object= or id="
            )
        return found[0]

    def _is_meant(self, found: Any) -> bool:
        label, identifier = self._names(found)
        return self._uri.says("object", label) and self._uri.id in (None, identifier)

    def _names(self, found: Any) -> tuple[str, bytes]:
        label = _attribute(found, self._lib.Attribute.LABEL) or ""
        return str(label), bytes(_attribute(found, self._lib.Attribute.ID) or b"")

    def _described(self, found: Any) -> str:
        label, identifier = self._names(found)
        return printable(f"object={label};id={''.join(f'%{byte:02x}' for byte in identifier)}", 80)

    def _public_key(self, private: Any, identifier: Any, label: Any, known: bytes | None) -> PublicKey:
        """Return the public half: as the token has it, else as a certificate of ours has it."""
        attribute = self._lib.Attribute
        modulus, exponent = _attribute(private, attribute.MODULUS), _attribute(private, attribute.PUBLIC_EXPONENT)
        if modulus and exponent:
            return encodings.rsa_public_key(modulus, exponent)
        for public in self._objects("PUBLIC_KEY"):
            given = _attribute(public, attribute.ID)
            if given == identifier if identifier else _attribute(public, attribute.LABEL) == label:
                return self._public_object(public)
        if known is not None:
            return PublicKey.from_spki(known)
        for found in self._objects("CERTIFICATE"):
            if identifier and _attribute(found, attribute.ID) == identifier:
                with _skipped():
                    return Certificate.from_der(_attribute(found, attribute.VALUE)).public_key
        hint = "put the certificate on the token under the key's id, or name it in the profile"
        raise KeyUnavailable(f"{self.name} does not show the public half of the key", hint=hint)

    def _public_object(self, public: Any) -> PublicKey:
        attribute, kinds = self._lib.Attribute, self._lib.KeyType
        match _attribute(public, attribute.KEY_TYPE):
            case kinds.RSA:
                return encodings.rsa_public_key(
                    _attribute(public, attribute.MODULUS), _attribute(public, attribute.PUBLIC_EXPONENT)
                )
            case kinds.EC:
                parameters = _attribute(public, attribute.EC_PARAMS) or b""
                return encodings.ec_public_key(parameters, _attribute(public, attribute.EC_POINT) or b"")
            case kinds.EC_EDWARDS:
                return encodings.ed25519_public_key(_attribute(public, attribute.EC_POINT) or b"")
        raise SignatureError("the key is neither RSA, ECDSA nor Ed25519")

    def _certificates(self) -> Iterator[Certificate]:
        for found in list(self._objects("CERTIFICATE"))[:MAX_CERTIFICATES]:
            with _skipped():
                yield Certificate.from_der(bytes(_attribute(found, self._lib.Attribute.VALUE) or b""))

    def _able(self, key: PublicKey) -> tuple[Family, ...]:
        """Return what the token can make with a key of this kind, the best first."""
        mechanism = self._lib.Mechanism
        needs: dict[Family, tuple[Any, ...]] = {
            Family.RSA_PSS: (mechanism.RSA_PKCS_PSS, mechanism.RSA_X_509),
            Family.RSA_PKCS1: (mechanism.RSA_PKCS, mechanism.RSA_X_509),
            Family.ECDSA: (mechanism.ECDSA,),
            Family.ED25519: (mechanism.EDDSA,),
            Family.ED448: (),
        }
        able = tuple(family for family in key.families if self._mechanisms.intersection(needs[family]))
        if not able:
            raise KeyUnavailable(f"{self.name} has no mechanism that signs with a key of kind {key.kind}")
        return able

    # Signatures

    def sign(self, octets: bytes, schemes: Sequence[Scheme]) -> tuple[Scheme, bytes]:
        """Sign with the first of the schemes that the token can."""
        assert self.public_key is not None
        bits = self.public_key.bits
        problem: IkeclientError | None = None
        for scheme in schemes:
            if scheme.family not in self.families:
                continue
            for mechanism, data, parameter in self._ways(scheme, octets, bits):
                if mechanism not in self._mechanisms:
                    continue
                try:
                    made = self._operate(data, mechanism, parameter)
                except Exception as error:
                    problem = self._failure(f"{self.name} did not sign", error)
                    if type(error).__name__ in _WITHOUT_MECHANISM:
                        continue
                    raise problem from None
                return scheme, encodings.ecdsa_der_from_raw(made) if scheme.family == Family.ECDSA else made
        wanted = ", ".join(map(str, schemes))
        raise problem or KeyUnavailable(
            f"{self.name} makes no signature that is accepted", reason=f"it is to be {wanted}"
        )

    def _ways(self, scheme: Scheme, octets: bytes, bits: int) -> list[tuple[Any, bytes, Any]]:
        """Return how a scheme can be made, each as a mechanism, its data and its parameter."""
        mechanism = self._lib.Mechanism
        match scheme.family:
            case Family.RSA_PKCS1:
                raw = encodings.pkcs1_padded(scheme.hash, octets, bits)
                return [
                    (mechanism.RSA_PKCS, encodings.digest_info(scheme.hash, octets), None),
                    (mechanism.RSA_X_509, raw, None),
                ]
            case Family.RSA_PSS:
                raw = encodings.pss_padded(scheme, octets, bits, os.urandom(scheme.salt_length))
                mask = getattr(self._lib.MGF, _MGFS[scheme.hash])
                parameter = (getattr(mechanism, _DIGESTS[scheme.hash]), mask, scheme.salt_length)
                digest = encodings.digest(scheme.hash, octets)
                return [(mechanism.RSA_PKCS_PSS, digest, parameter), (mechanism.RSA_X_509, raw, None)]
            case Family.ECDSA:
                return [(mechanism.ECDSA, encodings.digest(scheme.hash, octets), None)]
            case Family.ED25519:
                return [(mechanism.EDDSA, octets, None)]
            case _:
                return []

    def _operate(self, data: bytes, mechanism: Any, parameter: Any) -> bytes:
        options: dict[str, Any] = {"mechanism": mechanism, "mechanism_param": parameter}
        pin = self._key.pin
        if pin is not None and _attribute(self._private, self._lib.Attribute.ALWAYS_AUTHENTICATE):
            options["pin"] = pin.decode()
        return bytes(self._private.sign(data, **options))

    # Errors

    def _naming(self, what: str) -> _Naming:
        return _Naming(lambda error: self._failure(what, error))

    def _failure(self, what: str, error: Exception) -> IkeclientError:
        name = type(error).__name__
        if name in ("PinIncorrect", "PinLocked"):
            return PinRefused(what, reason="it refused the PIN", hint=_ONE_TRY)
        if name in ("DeviceRemoved", "TokenNotPresent", "SlotIDInvalid"):
            return KeyUnavailable(what, reason="the token was pulled out")
        detail = printable(str(error), 120)
        return KeyUnavailable(what, reason=f"the module says {name}" + (f": {detail}" if detail else ""))


_ONE_TRY = "it is not tried again: correct the PIN, then connect again"
_UNLOCK = "unlock it with the PUK and the token's own program"


class _Naming:
    """Turns whatever the module raises inside into an error of ours."""

    def __init__(self, failure: Callable[[Exception], IkeclientError]) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SignatureError | ParseError):
            raise KeyUnavailable("the key on the token cannot be used", reason=error.message) from None
        if isinstance(error, Exception) and not isinstance(error, IkeclientError):
            raise self._failure(error) from None


class _skipped:  # noqa: N801 - used as a statement
    """Goes on after an object that is no certificate that we can read."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ParseError | ValueError | TypeError)


def _library() -> Any:
    try:
        import pkcs11
    except ImportError:
        hint = "pip install 'ikeclient[pkcs11]'"
        raise ProfileError("the Python package python-pkcs11 is not installed", hint=hint) from None
    return pkcs11


def _attribute(found: Any, name: Any) -> Any:
    """Return an attribute of an object, None if it has none or does not show it."""
    try:
        return found[name]
    except Exception:  # each module has its own way to say so
        return None


def _chain(own: Certificate, beside: Sequence[Certificate]) -> list[Certificate]:
    """Return our certificate with the intermediates beside it: other certificates on a token are not the gateway's."""
    chain = [own]
    while len(chain) < len(beside) and not chain[-1].self_issued:
        issuer = next((each for each in beside if each not in chain and chain[-1].issued_by(each)), None)
        if issuer is None or issuer.self_issued:
            break
        chain.append(issuer)
    return chain


def _token_name(token: Any) -> str:
    return f"token {printable(token.label, 40)!r} (serial {_shown(bytes(token.serial))})"


def _shown(serial: bytes) -> str:
    return printable(serial.decode("ascii", "replace").strip(" \0"), 40)
