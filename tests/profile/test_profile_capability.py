from __future__ import annotations

from pathlib import Path

import pytest
from profile_world import PSK, is_clause

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF
from ikeclient.errors import ProfileError
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model import capability


def build(text: str, place: Path) -> CompiledProfile:
    return compile_profile(parse_profile(text).profile, place, None)


def failure(text: str, place: Path) -> ProfileError:
    with pytest.raises(ProfileError) as raised:
        build(text, place)
    assert all(is_clause(line) for line in raised.value.lines())
    return raised.value


def test_what_the_machine_cannot_run_is_not_offered(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N13: a FIPS host."""
    broken = {"chacha20poly1305", "x25519", "x448"}
    monkeypatch.setattr(capability, "works", lambda algorithm: algorithm.keyword not in broken)
    ike = build(PSK, place).ike
    offered = {
        algorithm.keyword
        for proposal in (*ike.ike_proposals, *ike.child.esp_proposals)
        for part in (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
        for algorithm in part
    }
    assert not offered & broken
    assert {"aes256gcm16", "ecp384", "modp2048"} <= offered
    assert all(proposal.encryption for proposal in ike.child.esp_proposals)


def test_what_the_machine_cannot_run_is_an_error_where_the_profile_wants_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N13: an error before any packet."""
    monkeypatch.setattr(capability, "works", lambda algorithm: algorithm.keyword != "x25519")
    error = failure(PSK + '[crypto]\nike = ["aes256gcm16-prfsha256-x25519-ecp256"]\n', place)
    assert error.message.startswith("key 'crypto.ike' names x25519")


def test_a_machine_that_runs_nothing_is_told_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N13."""
    monkeypatch.setattr(capability, "works", lambda algorithm: False)
    assert "runs no algorithm of 'crypto.ike'" in failure(PSK, place).message


def test_a_library_that_refuses_an_algorithm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """N13: the probe itself."""
    for table in (ENCRYPTION, INTEGRITY, PRF, KEY_EXCHANGE):
        assert all(capability.works(algorithm) for algorithm in table.values())

    def refuse(*arguments: object) -> None:
        raise ValueError("disabled for FIPS")

    monkeypatch.setattr("ikeclient.crypto.algorithms.ciphers.ChaCha20Poly1305", refuse)
    monkeypatch.setattr("ikeclient.crypto.algorithms.key_exchange.X25519PrivateKey", None)
    assert not capability.works(ENCRYPTION["chacha20poly1305"])
    assert not capability.works(KEY_EXCHANGE["x25519"])
    assert capability.works(ENCRYPTION["aes256gcm16"])
