"""Keys of ssh-agent: OpenSSH's, and what anything else at its socket may say."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from soft_token import Key

from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Family, Scheme
from ikeclient.crypto.sign.signature import PublicKey
from ikeclient.errors import KeyUnavailable
from ikeclient.signer.agent import AgentSigner, fingerprint
from ikeclient.signer.messages import AgentKey
from ikeclient.wire.registry import HashAlgorithm

OCTETS = b"what is signed"
SHA1 = Scheme(family=Family.RSA_PKCS1, hash=HashAlgorithm.SHA1)


class Agent:
    """An agent of OpenSSH's with keys of each kind; `fingerprints` are as `ssh-add -l` has them."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "agent"
        self.keys: dict[str, Key] = {
            "rsa": rsa.generate_private_key(65537, 2048),
            "P-256": ec.generate_private_key(ec.SECP256R1()),
            "P-384": ec.generate_private_key(ec.SECP384R1()),
            "P-521": ec.generate_private_key(ec.SECP521R1()),
            "ed": Ed25519PrivateKey.generate(),
        }
        self._process = subprocess.Popen(["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it tells its socket when it listens
        self.fingerprints: dict[str, str] = {}
        for name, key in self.keys.items():
            path = directory / name
            path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            path.chmod(0o600)
            self.ssh_add("-q", str(path))
            (directory / f"{name}.pub").write_bytes(
                key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            )
            listed = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], capture_output=True, text=True, check=True)
            self.fingerprints[name] = listed.stdout.split()[1]

    def ssh_add(self, *arguments: str, typed: str | None = None) -> None:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(self.socket)}
        subprocess.run(["ssh-add", *arguments], env=environment, check=True, capture_output=True)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    found = Agent(tmp_path_factory.mktemp("agent"))
    yield found
    found.close()


def signer(agent: Agent, name: str) -> AgentSigner:
    return AgentSigner(AgentKey(socket=str(agent.socket), fingerprint=agent.fingerprints[name]))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("rsa", SCHEME_NAMES["rsa-pkcs1-sha256"]),
        ("rsa", SCHEME_NAMES["rsa-pkcs1-sha512"]),
        ("rsa", SHA1),
        ("P-256", SCHEME_NAMES["ecdsa-sha256"]),
        ("P-384", SCHEME_NAMES["ecdsa-sha384"]),
        ("P-521", SCHEME_NAMES["ecdsa-sha512"]),
        ("ed", SCHEME_NAMES["ed25519"]),
    ],
)
def test_an_agent_signs(agent: Agent, name: str, scheme: Scheme) -> None:
    made, signature = signer(agent, name).sign(OCTETS, [scheme])
    assert made == scheme
    PublicKey(agent.keys[name].public_key()).check(scheme, signature, OCTETS)


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("rsa", "rsa-pss-sha256"), ("rsa", "rsa-pkcs1-sha384"), ("P-256", "ecdsa-sha384"), ("ed", "ecdsa-sha256")],
)
def test_what_an_agent_does_not_make(agent: Agent, name: str, scheme: str) -> None:
    with pytest.raises(KeyUnavailable, match="no signature that is accepted") as caught:
        signer(agent, name).sign(OCTETS, [SCHEME_NAMES[scheme]])
    assert "PKCS#1" in str(caught.value.hint)


def test_no_family_with_pss(agent: Agent) -> None:
    assert signer(agent, "rsa").families == (Family.RSA_PKCS1,)


def test_a_key_that_is_not_there(agent: Agent) -> None:
    wanted = "SHA256:" + "A" * 43
    with pytest.raises(KeyUnavailable, match=f"no key {wanted}") as caught:
        AgentSigner(AgentKey(socket=str(agent.socket), fingerprint=wanted))
    assert "SHA256:" in str(caught.value.reason)


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="cannot be asked"):
        AgentSigner(AgentKey(socket=str(tmp_path / "nothing"), fingerprint="SHA256:" + "A" * 43))


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


BLOB = string(b"ssh-ed25519") + string(
    Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
)
LISTED = b"\x0c" + (1).to_bytes(4) + string(BLOB) + string(b"comment")


def wrong(listed: bytes, signed: bytes = b"\x05") -> Callable[[bytes], bytes]:
    return lambda request: listed if request[0] == 11 else signed


@pytest.mark.parametrize(
    "listed",
    [
        b"",
        b"\x05",
        b"\x0c",
        b"\x0c" + (2**32 - 1).to_bytes(4),
        b"\x0c" + (3000).to_bytes(4),
        LISTED[:-1],
        b"\x0c" + (1).to_bytes(4) + (2**31).to_bytes(4) + BLOB,
        b"\x0c" + (0).to_bytes(4),
    ],
    ids=["nothing", "failure", "no count", "many", "too many", "cut", "long", "empty"],
)
def test_wrong_lists_of_keys(listed: bytes) -> None:
    with pytest.raises(KeyUnavailable, match="ssh-agent"):
        AgentSigner(AgentKey(socket="", fingerprint=fingerprint(BLOB)), wrong(listed))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0",
        string(b"ssh-ed25519"),
        string(b"sk-ssh-ed25519@openssh.com") + string(bytes(32)) + string(b"ssh:"),
        string(b"ssh-dss") + string(b"\1") * 4,
        string(b"two words") + string(bytes(32)),
        (2**31).to_bytes(4) + b"ssh-rsa",
    ],
)
def test_keys_of_other_kinds(blob: bytes) -> None:
    listed = b"\x0c" + (1).to_bytes(4) + string(blob) + string(b"")
    with pytest.raises(KeyUnavailable, match="cannot be used"):
        AgentSigner(AgentKey(socket="", fingerprint=fingerprint(blob)), wrong(listed))


@pytest.mark.parametrize(
    ("signed", "why"),
    [
        (b"", "refused to sign"),
        (b"\x05", "refused to sign"),
        (b"\x0e", "wrong"),
        (b"\x0e" + string(b""), "wrong"),
        (b"\x0e" + string(string(b"ssh-rsa") + string(bytes(64))), "wrong"),
        (b"\x0e" + string(string(b"ssh-ed25519") + string(bytes(64)) + b"more"), "wrong"),
        (b"\x0e" + string(string(b"ssh-ed25519") + string(bytes(64))) + b"more", "wrong"),
        (b"\x0e" + (2**32 - 1).to_bytes(4), "wrong"),
    ],
)
def test_wrong_signatures(signed: bytes, why: str) -> None:
    found = AgentSigner(AgentKey(socket="", fingerprint=fingerprint(BLOB)), wrong(LISTED, signed))
    with pytest.raises(KeyUnavailable, match="SHA256:") as caught:
        found.sign(OCTETS, [SCHEME_NAMES["ed25519"]])
    assert why in f"{caught.value.message} {caught.value.reason}"
