"""One token for all tests, and the environment that leads to it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from soft_token import MODULE, Key, SoftToken, self_signed

KEYS: dict[str, Key] = {}


@pytest.fixture(scope="session")
def keys() -> dict[str, Key]:
    """The private keys that are on the token, by label."""
    if not KEYS:
        KEYS["rsa"] = rsa.generate_private_key(65537, 2048)
        KEYS["ec"] = ec.generate_private_key(ec.SECP256R1())
        KEYS["ed"] = Ed25519PrivateKey.generate()
    return KEYS


@pytest.fixture(scope="session")
def shared_token(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, Key]) -> SoftToken:
    """A token with a key of each kind and a certificate for the RSA key."""
    if not MODULE.exists():
        pytest.fail("the package softhsm2 is missing: scripts/lab installs it")
    found = SoftToken(tmp_path_factory.mktemp("token"))
    for number, (label, key) in enumerate(keys.items(), 1):
        found.add_key(key, label, f"{number:02}")
    found.add_certificate(self_signed(keys["rsa"]), "01")
    return found


@pytest.fixture
def token(shared_token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """The shared token, which this process and its children see."""
    for name, value in shared_token.variables.items():
        monkeypatch.setenv(name, value)
    return shared_token
