"""The key exchange method that is used next."""

from __future__ import annotations

import pytest
from sim_script import notify

from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE, AlgorithmProposal
from ikeclient.ike.v2.rules.groups import Groups, groups_of, invalid_ke, wanted_group
from ikeclient.wire.registry import NotifyType

X25519, ECP256, ECP384 = (KEY_EXCHANGE[name] for name in ("x25519", "ecp256", "ecp384"))


def test_each_method_of_the_proposals_is_there_once_and_in_order() -> None:
    lists = ((ECP256, X25519), (), (X25519, ECP384))
    proposals = [AlgorithmProposal(encryption=(), key_exchange=each) for each in lists]
    assert groups_of(proposals) == (ECP256, X25519, ECP384)


def test_the_peer_gets_the_method_that_it_asks_for_once() -> None:
    groups = Groups((X25519, ECP256), (X25519,))
    assert groups.current == X25519
    assert groups.retry(invalid_ke(ECP256))
    assert groups.current == ECP256
    for again in (X25519, ECP256):
        assert not groups.retry(invalid_ke(again))
    assert groups.current == ECP256


def test_a_method_that_was_not_offered_is_not_used() -> None:
    groups = Groups((X25519, ECP256), (ECP256,))
    assert not groups.retry(invalid_ke(ECP384))
    assert groups.current == ECP256


def test_a_request_without_a_key_exchange_may_get_one() -> None:
    groups = Groups((X25519,), ())
    assert groups.current is None
    assert groups.retry(invalid_ke(X25519))
    assert groups.current == X25519


@pytest.mark.parametrize(
    "error",
    [
        None,
        notify(NotifyType.NO_PROPOSAL_CHOSEN, b"\0\x1f"),
        notify(NotifyType.INVALID_KE_PAYLOAD),
        notify(NotifyType.INVALID_KE_PAYLOAD, b"\x1f"),
        notify(NotifyType.INVALID_KE_PAYLOAD, b"\0\0\0\x1f"),
    ],
)
def test_only_a_well_formed_invalid_ke_payload_asks_for_a_method(error) -> None:  # type: ignore[no-untyped-def]
    assert wanted_group(error) is None
    assert not Groups((X25519,), ()).retry(error)
