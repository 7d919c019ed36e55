"""What a gateway says that it accepts (RFC 9593 section 3.2)."""

from __future__ import annotations

import pytest

from ikeclient.crypto.sign.schemes import SCHEME_NAMES, algorithm_identifier
from ikeclient.ike.v2.rules.announced import MOST, announced_methods


def signature(name: str) -> bytes:
    identifier = algorithm_identifier(SCHEME_NAMES[name])
    return bytes([3 + len(identifier), 14, 1]) + identifier


def test_methods_are_named_in_order() -> None:
    data = bytes.fromhex("0202 030901 030101") + signature("rsa-pkcs1-sha256") + signature("ed25519")
    assert announced_methods(data) == (
        "a pre-shared key",
        "ECDSA on P-256",
        "RSA with SHA-1",
        "RSA PKCS#1 v1.5 with SHA-256",
        "Ed25519",
    )


@pytest.mark.parametrize("data", [b"", b"\x00\x02", b"\x01\x02", b"\x02", b"\xff\x0e\x01\x30", b"\x05\x0e\x01\x30\xff"])
def test_what_is_malformed_ends_the_list(data: bytes) -> None:
    """Anybody can send it: nothing depends on it, and nothing fails over it."""
    assert set(announced_methods(data)) <= {"an unknown signature"}
    assert announced_methods(b"\x02\x02" + data)[0] == "a pre-shared key"


def test_the_list_is_bounded() -> None:
    assert len(announced_methods(b"".join(bytes([2, number]) for number in range(100, 200)))) == MOST
