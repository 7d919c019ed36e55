"""Keys of ssh-agent: the part of its protocol that signs (draft-ietf-sshm-ssh-agent, RFC 4253, RFC 5656, RFC 8332).

An agent makes RSA signatures with PKCS#1 v1.5 only, with SHA-1, SHA-256 or SHA-512; the hash of an ECDSA key is that of
its curve. What it answers is bounded and read strictly: the socket is that of a program that we did not start.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable, Sequence
from struct import Struct

from ikeclient.crypto.sign.encodings import CURVE_HASHES, ecdsa_der, ssh_public_key
from ikeclient.crypto.sign.schemes import Family, Scheme
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import KeyUnavailable, SignatureError
from ikeclient.signer.messages import AgentKey
from ikeclient.wire.registry import HashAlgorithm
from ikeclient.wire.text import printable

PREFIX = "SHA256:"
TIMEOUT = 60.0  # seconds, in which a person may have to confirm
_LARGEST = 256 << 10  # bytes of a message, as OpenSSH has it
_MOST_KEYS = 2048
_LENGTH = Struct(">I")

_FAILURE = 5
_REQUEST_IDENTITIES, _IDENTITIES = 11, 12
_SIGN_REQUEST, _SIGNATURE = 13, 14
_RSA: dict[HashAlgorithm, tuple[int, bytes]] = {  # the flag of a request, and how its signature is called
    HashAlgorithm.SHA1: (0, b"ssh-rsa"),
    HashAlgorithm.SHA2_256: (2, b"rsa-sha2-256"),
    HashAlgorithm.SHA2_512: (4, b"rsa-sha2-512"),
}
_CURVES = {"ECDSA P-256": b"nistp256", "ECDSA P-384": b"nistp384", "ECDSA P-521": b"nistp521"}

Ask = Callable[[bytes], bytes]


class _Fields:
    """The fields of a message, one after the other; too short a message is a ValueError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        """Take a 32-bit number."""
        return int.from_bytes(self._take(4))

    def string(self) -> bytes:
        """Take a string with its length in front."""
        return self._take(self.number())

    def end(self) -> None:
        """Raise ValueError if there is more."""
        if self._at < len(self._data):
            raise ValueError("there is more than expected")

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise ValueError("it ends too early")
        return self._data[start : self._at]


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key, as `ssh-add -l` shows it."""
    return PREFIX + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


class AgentSigner:
    """One key of an agent. Raises KeyUnavailable; `ask` replaces the socket in tests."""

    def __init__(self, key: AgentKey, ask: Ask | None = None) -> None:
        self._ask = ask or (lambda request: _exchange(key.socket, request))
        self.place = f"ssh-agent, key {key.fingerprint}"
        self._blob = self._find(key.fingerprint)
        try:
            self.public_key = ssh_public_key(self._blob)
        except SignatureError as error:
            hint = "RSA, ECDSA and Ed25519 keys can be used, but no security keys (sk-) and no SSH certificates"
            raise KeyUnavailable(f"{self.place} cannot be used", reason=error.message, hint=hint) from None

    @property
    def families(self) -> tuple[Family, ...]:
        """What the agent can make with it."""
        return agent_families(self.public_key)

    def sign(self, octets: bytes, schemes: Sequence[Scheme]) -> tuple[Scheme, bytes]:
        """Sign with the first of the schemes that an agent can make with this key."""
        scheme = next((scheme for scheme in schemes if self._makes(scheme)), None)
        if scheme is None:
            wanted = ", ".join(map(str, schemes))
            reason = f"it is to be {wanted}"
            hint = "an agent signs RSA with PKCS#1 v1.5 and SHA-256 or SHA-512 only, and ECDSA with its curve's hash"
            raise KeyUnavailable(f"{self.place} makes no signature that is accepted", reason=reason, hint=hint)
        flags, name = _RSA[scheme.hash] if scheme.family == Family.RSA_PKCS1 else (0, self._name())
        request = bytes([_SIGN_REQUEST]) + _string(self._blob) + _string(octets) + _LENGTH.pack(flags)
        try:
            return scheme, self._signature(self._ask(request), name)
        except ValueError as error:
            raise KeyUnavailable(f"{self.place} gave no signature", reason=f"its answer is wrong: {error}") from None

    def _makes(self, scheme: Scheme) -> bool:
        match scheme.family:
            case Family.RSA_PKCS1:
                return Family.RSA_PKCS1 in self.families and scheme.hash in _RSA
            case Family.ECDSA:
                return CURVE_HASHES.get(self.public_key.kind) == scheme.hash
            case family:
                return family in self.families

    def _name(self) -> bytes:
        curve = _CURVES.get(self.public_key.kind)
        return b"ecdsa-sha2-" + curve if curve else b"ssh-ed25519"

    def _signature(self, answer: bytes, name: bytes) -> bytes:
        if answer[:1] != bytes([_SIGNATURE]):
            reason = "it answered with a failure: the key may be locked, or nobody confirmed its use"
            raise KeyUnavailable(f"{self.place} refused to sign", reason=reason, hint="see `ssh-add -l`")
        fields = _Fields(answer[1:])
        outer = _Fields(fields.string())
        fields.end()
        made, data = outer.string(), outer.string()
        outer.end()
        if made != name:
            raise ValueError(f"a signature of kind {printable(made.decode('ascii', 'replace'), 40)}")
        if Family.RSA_PKCS1 in self.families:
            return data.rjust(-(-self.public_key.bits // 8), b"\0")  # RFC 4253 allows it to be shorter
        if self.public_key.kind in _CURVES:
            numbers = _Fields(data)
            r, s = int.from_bytes(numbers.string()), int.from_bytes(numbers.string())
            numbers.end()
            return ecdsa_der(r, s)
        return data

    def _find(self, wanted: str) -> bytes:
        try:
            answer = self._ask(bytes([_REQUEST_IDENTITIES]))
            if answer[:1] != bytes([_IDENTITIES]):
                raise ValueError("no list of keys")
            fields = _Fields(answer[1:])
            count = fields.number()
            if count > _MOST_KEYS:
                raise ValueError(f"{count} keys")
            blobs = []
            for _ in range(count):
                blobs.append(fields.string())
                fields.string()  # the comment
        except ValueError as error:
            raise KeyUnavailable("ssh-agent gave no list of its keys", reason=f"its answer is wrong: {error}") from None
        found = next((blob for blob in blobs if fingerprint(blob) == wanted), None)
        if found is None:
            has = ", ".join(map(fingerprint, blobs[:4])) or "none"
            raise KeyUnavailable(
                f"ssh-agent has no key {wanted}",
                reason=f"it has {has}",
                hint="`ssh-add FILE` adds it; see `ssh-add -l`",
            )
        return found


def agent_families(key: PublicKey) -> tuple[Family, ...]:
    """Return what agents can make with a key: everything but RSA-PSS and Ed448."""
    return tuple(family for family in key.families if family not in (Family.RSA_PSS, Family.ED448))


def _string(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _exchange(path: str, request: bytes) -> bytes:
    """Send one request to the agent at `path`, and return its answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(_string(request))
            (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
            if not 0 < length <= _LARGEST:
                raise ValueError(f"a message of {length} bytes")
            return _exactly(connection, length)
    except TimeoutError:
        raise KeyUnavailable("ssh-agent did not answer in time", reason=f"waited {TIMEOUT:g} seconds") from None
    except OSError as error:
        raise KeyUnavailable(
            "ssh-agent cannot be asked", reason=f"{printable(path, 120)}: {error.strerror}", hint="is it running?"
        ) from None


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ValueError("it ends too early")
        data += piece
    return bytes(data)
