"""Profiles on disk with everything they point at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from profile_world import CANARY, Owner, common_name, issue


@pytest.fixture(scope="session")
def authority() -> Owner:
    return issue(common_name("Test CA"))


@pytest.fixture(scope="session")
def alice(authority: Owner) -> Owner:
    return issue(common_name("alice"), authority, [x509.RFC822Name("alice@example.com"), x509.DNSName("alice.example")])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file below the test's directory, by default one that only its owner can read."""

    def write_file(name: str, content: str | bytes, mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return write_file


@pytest.fixture
def place(write: Callable[..., Path], authority: Owner, alice: Owner) -> Path:
    """A directory with every file that the profiles above name; returns it."""
    write("psk", f"{CANARY}\n")
    write("pw", f"{CANARY}\n")
    write("ca.pem", authority.pem(), 0o644)
    write("alice.pem", alice.pem(), 0o644)
    return write("alice.key", alice.key_pem()).parent
