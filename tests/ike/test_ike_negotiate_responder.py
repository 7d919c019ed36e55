"""Choosing from a peer's offer: our preference decides, and the peer accepts what we choose."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ike_proposals import AEAD, CBC, ESP, SPI, A, E, algorithms, t

from ikeclient.crypto.algorithms.transforms import (
    ENCRYPTION,
    INTEGRITY,
    KEY_EXCHANGE,
    PRF,
    AlgorithmProposal,
    EspSuite,
    IkeSuite,
)
from ikeclient.errors import ProtocolError
from ikeclient.ike.v2.rules.negotiate import accept_esp, accept_ike, choose_esp, choose_ike, offer_esp, offer_ike
from ikeclient.wire.registry import ProtocolId
from ikeclient.wire.sa import Proposal, SaPayload

T = TypeVar("T")
ESP_OFFER = offer_esp(ESP, SPI, esn=True, key_exchange=False)


def chosen_ike(ours: Sequence[AlgorithmProposal], theirs: SaPayload) -> IkeSuite | None:
    chosen = choose_ike(offer_ike(ours, b"\x22" * 8), theirs, b"\x22" * 8)
    if chosen is None:
        return None
    reply, suite, spi = chosen
    assert spi == b"\x11" * 8
    assert accept_ike(theirs, reply, spi_length=8) == (suite, b"\x22" * 8)  # what we choose, the peer accepts
    return suite


def test_our_preference_decides_among_what_the_peer_offers() -> None:
    theirs = offer_ike([CBC, AEAD], b"\x11" * 8)
    suite = chosen_ike([AEAD, CBC], theirs)
    assert suite is not None
    assert suite.name == "aes256gcm16-prfsha384-ecp384"
    suite = chosen_ike([algorithms("aes128-sha256-prfsha256-ecp256")], theirs)
    assert suite is not None
    assert suite.name == "aes128-sha256-ecp256"


def test_nothing_in_common_is_nothing_chosen() -> None:
    theirs = offer_ike([AEAD], b"\x11" * 8)
    assert chosen_ike([CBC], theirs) is None
    assert chosen_ike([algorithms("aes256gcm16-prfsha512-x25519")], theirs) is None
    assert choose_esp(offer_esp(ESP, SPI, esn=False, key_exchange=False), offer_ike([AEAD]), SPI) is None


def test_an_offer_that_demands_more_than_we_know_is_not_chosen() -> None:
    """A transform type of the peer's that we would have to leave out, unless it offers to do without."""
    (plain,) = offer_ike([AEAD], b"\x11" * 8).proposals
    demanding = SaPayload(proposals=(replace(plain, transforms=(*plain.transforms, t(6, 35))),))
    assert chosen_ike([AEAD], demanding) is None
    lenient = SaPayload(proposals=(replace(plain, transforms=(*plain.transforms, t(6, 35), t(6, 0))),))
    assert choose_ike(offer_ike([AEAD], b"\x22" * 8), lenient, b"\x22" * 8) is not None
    integrity = SaPayload(proposals=(replace(plain, transforms=(*plain.transforms, t(A, 12))),))
    assert chosen_ike([AEAD], integrity) is None


@pytest.mark.parametrize("spi", [b"", bytes(8), b"\x11" * 4])
def test_a_peer_that_rekeys_without_a_usable_spi_is_refused(spi: bytes) -> None:
    with pytest.raises(ProtocolError, match="SPI"):
        choose_ike(offer_ike([AEAD], b"\x22" * 8), offer_ike([AEAD], spi), b"\x22" * 8)
    offered = SaPayload(proposals=(replace(ESP_OFFER.proposals[0], spi=spi[:3]),))
    with pytest.raises(ProtocolError, match="SPI"):
        choose_esp(ESP_OFFER, offered, SPI)


@pytest.mark.parametrize(
    ("ours", "theirs", "key_exchange", "name"),
    [
        ("aes256gcm16", "aes256gcm16-aes128gcm16", True, "aes256gcm16-esn"),
        ("aes128gcm16-ecp256", "aes256gcm16-aes128gcm16-ecp256", True, "aes128gcm16-ecp256-esn"),
        ("aes128gcm16-ecp256", "aes256gcm16-aes128gcm16-ecp256", False, "aes128gcm16-esn"),
        ("aes128gcm16-ecp256", "aes128gcm16", True, None),  # we insist on the key exchange
        ("aes128gcm16", "aes128gcm16-ecp256", True, None),  # the peer does
        ("aes256-sha256", "aes256-sha512", True, None),
    ],
)
def test_a_child_is_chosen_the_same_way(ours: str, theirs: str, key_exchange: bool, name: str | None) -> None:
    mine = offer_esp([algorithms(ours)], SPI, esn=True, key_exchange=key_exchange)
    other = offer_esp([algorithms(theirs)], 0x11223344, esn=True, key_exchange=key_exchange)
    chosen = choose_esp(mine, other, SPI)
    if name is None:
        assert chosen is None
        return
    assert chosen is not None
    reply, suite, spi = chosen
    assert (suite.name, spi) == (name, 0x11223344)
    assert accept_esp(other, reply) == (suite, SPI)


def test_short_sequence_numbers_are_chosen_for_a_peer_that_has_only_those() -> None:
    mine = offer_esp(ESP, SPI, esn=True, key_exchange=False)
    chosen = choose_esp(mine, offer_esp(ESP, 0x11223344, esn=False, key_exchange=False), SPI)
    assert chosen is not None
    assert chosen[1] == EspSuite(encryption=ENCRYPTION["aes256gcm16"], integrity=None)


def test_the_largest_offer_is_judged_in_a_moment() -> None:
    """N6: 64 KiB of transforms against ten proposals of ours. Processor time: a busy machine does not matter."""
    many = tuple(t(E, n % 250, n) for n in range(255))
    theirs = SaPayload(
        proposals=tuple(Proposal(number=n, protocol=ProtocolId.ESP, spi=b"spi!", transforms=many) for n in range(30))
        + tuple(Proposal(number=n % 256, protocol=ProtocolId.ESP, spi=b"spi!", transforms=()) for n in range(4000))
    )
    mine = offer_esp(
        [algorithms("aes256gcm16-aes128gcm16-chacha20poly1305-ecp256")] * 10, SPI, esn=True, key_exchange=True
    )
    before = time.process_time()
    assert choose_esp(mine, theirs, SPI) is None
    assert time.process_time() - before < 1.0


# Both together


def some(values: Iterable[T]) -> st.SearchStrategy[tuple[T, ...]]:
    """At least one of `values`, each once, in any order."""
    return st.lists(st.sampled_from(list(values)), min_size=1, unique=True).map(lambda chosen: tuple(chosen))


_common = {"prf": some(PRF.values()), "key_exchange": some(KEY_EXCHANGE.values())}
_with_hmac = st.builds(
    AlgorithmProposal,
    encryption=some(e for e in ENCRYPTION.values() if not e.aead),
    integrity=some(INTEGRITY.values()),
    **_common,
)
_with_aead = st.builds(AlgorithmProposal, encryption=some(e for e in ENCRYPTION.values() if e.aead), **_common)
_proposals = st.lists(st.one_of(_with_hmac, _with_aead), min_size=1, max_size=4)


@given(_proposals, _proposals)
def test_two_ends_agree_on_the_same_suite_or_on_none(
    theirs: list[AlgorithmProposal], ours: list[AlgorithmProposal]
) -> None:
    offer = offer_ike(theirs, b"\x11" * 8)
    chosen = choose_ike(offer_ike(ours, b"\x22" * 8), offer, b"\x22" * 8)
    possible = any(
        set(a.encryption) & set(b.encryption)
        and (set(a.integrity) & set(b.integrity) or not (a.integrity or b.integrity))
        and set(a.prf) & set(b.prf)
        and set(a.key_exchange) & set(b.key_exchange)
        for a in theirs
        for b in ours
    )
    assert (chosen is not None) == possible
    if chosen is not None:
        reply, suite, _ = chosen
        assert accept_ike(offer, reply, spi_length=8) == (suite, b"\x22" * 8)
        assert any(suite.encryption in proposal.encryption for proposal in ours)
