"""The table of Child SAs by itself: who wins when rekeys cross, and what happens to those that are replaced."""

from __future__ import annotations

import random

import pytest
from sim_gateway import NET, ipv4
from sim_world import altered, client_config

from ikeclient.crypto.algorithms.keymat import ChildKeys, DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.ike.events import ChildClosed, ChildEstablished
from ikeclient.ike.v2.child.child_sa import ChildRekeyed, ChildSa
from ikeclient.ike.v2.child.table import (
    IMPOSSIBLE,
    MAX_DELETED_BEFORE_ANSWER,
    TRANSITIONS,
    Change,
    ChildRecord,
    ChildTable,
    Phase,
    survives,
)
from ikeclient.ike.v2.lifetimes import LINGER

OLD, OURS, THEIRS = 1001, 1002, 1003


def child(spi_in: int) -> ChildSa:
    direction = DirectionKeys(encryption=bytes(20), integrity=b"")
    return ChildSa(
        spi_in=spi_in,
        spi_out=spi_in + 5000,
        suite=EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None),
        keys=ChildKeys(inbound=direction, outbound=direction),
        local=(ipv4("10.88.0.1/32"),),
        remote=(NET,),
    )


def table(*, rekey_child: float = 1000.0) -> ChildTable:
    made = ChildTable(altered(client_config(), rekey_child=rekey_child), random.Random(3).randbytes)
    made.add(child(OLD), 0.0)
    return made


def rekeyed(spi_in: int, lowest: bytes, old: int = OLD) -> ChildRekeyed:
    return ChildRekeyed(old=old, child=child(spi_in), nonces=(lowest, b"\xff" * 32))


LOW, HIGH = b"\x01" * 32, b"\x02" * 32


@pytest.mark.parametrize(
    ("ours", "theirs", "ours_stay"),
    [
        ((HIGH, HIGH), (LOW, b"\xff" * 32), True),
        ((LOW, b"\xff" * 32), (HIGH, HIGH), False),
        ((b"\xff" * 32, LOW), (HIGH, HIGH), False),
        ((b"\x02", HIGH), (b"\x02\x00", HIGH), False),  # a prefix is lower
        ((b"\x02\x00", HIGH), (b"\x02", HIGH), True),
        ((b"\x10" * 16, b"\xff"), (b"\x0f" * 32, b"\xff"), True),  # octet by octet, not as numbers
    ],
)
def test_the_rekey_with_the_lowest_of_the_four_nonces_is_redundant(
    ours: tuple[bytes, bytes], theirs: tuple[bytes, bytes], ours_stay: bool
) -> None:
    """RFC 7296 section 2.8.1."""
    assert survives(ours, theirs) is ours_stay
    assert survives(theirs, ours) is not ours_stay


def test_a_rekey_of_ours_replaces_the_old_one_which_we_delete() -> None:
    made = table()
    made.ask_to_replace(OLD)
    assert made.rekeyed_by_us(rekeyed(OURS, LOW), 5.0) == OLD
    established = made.events[-1]
    assert isinstance(established, ChildEstablished)
    assert (established.spi_in, established.replaces, established.by_peer) == (OURS, OLD, False)
    made.remove(OLD)
    assert made.events[-1] == ChildClosed(spi_in=OLD, replaced=True)
    assert [c.spi_in for c in made] == [OURS]


def test_when_rekeys_cross_and_ours_stays_the_other_is_left_to_the_peer() -> None:
    """S7."""
    made = table()
    made.ask_to_replace(OLD)
    made.rekeyed_by_peer(rekeyed(THEIRS, LOW), 1.0)
    assert made.rekeyed_by_us(rekeyed(OURS, HIGH), 1.1) == OLD
    assert made.events[-1].replaces == THEIRS  # type: ignore[union-attr]
    assert made.rekeyable(OURS)
    assert not made.rekeyable(THEIRS)
    assert not made.rekeyable(OLD)


def test_when_rekeys_cross_and_ours_is_redundant_we_delete_it_unused() -> None:
    """S7."""
    made = table()
    made.ask_to_replace(OLD)
    made.rekeyed_by_peer(rekeyed(THEIRS, HIGH), 1.0)
    events = len(made.events)
    assert made.rekeyed_by_us(rekeyed(OURS, LOW), 1.1) == OURS
    assert len(made.events) == events
    assert made.rekeyable(THEIRS)
    assert made.by_outbound(OURS + 5000)
    made.remove(OURS)
    assert len(made) == 2


def test_the_old_one_may_be_gone_before_our_answer_comes() -> None:
    """The peer's rekey and its DELETE overtook the answer to ours: the nonces decide, and nothing is deleted twice."""
    for nonce, deleted in ((HIGH, None), (LOW, OURS)):
        made = table()
        made.ask_to_replace(OLD)
        made.rekeyed_by_peer(rekeyed(THEIRS, b"\x01\xff"), 1.0)
        made.deleted_by_peer([OLD + 5000], 0.0)
        assert made.rekeyed_by_us(rekeyed(OURS, nonce), 1.1) == deleted
        (alive,) = [c.spi_in for c in made if made.rekeyable(c.spi_in)]
        assert alive == (THEIRS if deleted else OURS)


def test_a_rekey_of_the_peers_alone_is_no_crossing() -> None:
    made = table()
    made.rekeyed_by_peer(rekeyed(THEIRS, LOW), 1.0)
    made.ask_to_replace(THEIRS)
    assert made.rekeyed_by_us(rekeyed(OURS, LOW, old=THEIRS), 2.0) == THEIRS


def test_a_child_that_died_before_its_birth_was_known_is_not_added() -> None:
    made = table()
    made.ask_to_replace(OLD)
    made.deleted_by_peer([OURS + 5000], 0.0)
    assert made.rekeyed_by_us(rekeyed(OURS, LOW), 1.0) == OLD
    assert made.get(OURS) is None


def test_deletes_of_unknown_children_are_remembered_only_while_it_matters_and_not_without_end() -> None:
    made = table()
    made.deleted_by_peer([OURS + 5000], 0.0)
    made.ask_to_replace(OLD)
    made.rekeyed_by_us(rekeyed(OURS, LOW), 1.0)
    assert made.get(OURS)
    made.ask_to_replace(OURS)
    made.deleted_by_peer(range(20_000, 60_000), 0.0)
    assert len(made._deleted_before_answer) == MAX_DELETED_BEFORE_ANSWER


def test_rekeys_come_between_85_and_95_percent_of_the_lifetime() -> None:
    made = table(rekey_child=100.0)
    assert made.next_deadline is not None
    assert 85 <= made.next_deadline <= 95
    assert made.rekey_due(84.9) == []
    assert made.rekey_due(95.0) == [OLD]
    assert made.rekey_due(200.0) == []


def test_a_refused_rekey_is_tried_again_later_and_later() -> None:
    """S8."""
    made = table()
    now = 1000.0
    pauses = []
    made.rekey_due(now)
    for _ in range(8):
        made.ask_to_replace(OLD)
        made.rekey_refused(OLD, now)
        assert not made.rekeying
        rekey_at = made._records[OLD].rekey_at
        assert rekey_at is not None
        pauses.append(rekey_at - now)
        now = rekey_at
        assert made.rekey_due(now) == [OLD]
    assert 5 <= pauses[0] <= 10
    assert 150 <= pauses[-1] <= 300


def test_a_child_expires_after_its_rekey_should_have_been() -> None:
    """S8."""
    made = table(rekey_child=100.0)
    assert made.expired(109.0) == []
    assert made.expired(110.1) == [OLD]


def test_a_replaced_child_expires_if_the_peer_does_not_delete_it() -> None:
    """S7: the lost DELETE."""
    made = table()
    made.rekeyed_by_peer(rekeyed(THEIRS, LOW), 10.0)
    assert made.expired(10.0 + LINGER - 1) == []
    assert made.expired(10.0 + LINGER) == [OLD]
    assert OLD not in made.rekey_due(1e9)


def test_removing_forgets_every_timer() -> None:
    made = table()
    made.remove(OLD)
    made.remove(OLD)
    assert made.next_deadline is None
    assert list(made.events)[1:] == [ChildClosed(spi_in=OLD, replaced=False)]
    assert not made.carrying


def test_an_spi_is_free_and_not_reserved() -> None:
    """RFC 4303 section 2.1."""
    values = iter([bytes(4), (255).to_bytes(4, "big"), OLD.to_bytes(4, "big"), (256).to_bytes(4, "big")])
    made = table()
    made._entropy = lambda _: next(values)
    assert made.new_spi() == 256


def test_every_pair_of_phase_and_change_is_decided_once() -> None:
    pairs = {(phase, change) for phase in Phase for change in Change}
    assert TRANSITIONS.keys() | IMPOSSIBLE.keys() == pairs
    assert not TRANSITIONS.keys() & IMPOSSIBLE.keys()


@pytest.mark.parametrize(("phase", "change"), IMPOSSIBLE)
def test_an_impossible_change_is_a_bug_of_ours(phase: Phase, change: Change) -> None:
    with pytest.raises(KeyError):
        ChildRecord(child=child(OLD), phase=phase).change(change)


def test_only_the_last_lost_child_is_made_again() -> None:
    made = table()
    made.add(child(OURS), 0.0)
    made.remove(OLD)
    assert made.lost == child(OLD)
    made.remove(OURS)
    assert made.lost == child(OURS)
    assert len(made._records) == 1


def test_a_lost_child_is_forgotten_when_another_one_is_made_like_it() -> None:
    made = table()
    made.remove(OLD)
    assert made.make_again(10.0) == child(OLD)
    assert made.replaceable is None
    assert made.rekeyed_by_us(rekeyed(OURS, LOW), 11.0) is None
    established = made.events[-1]
    assert isinstance(established, ChildEstablished)
    assert established.replaces is None
    assert made.lost is None
    assert list(made._records) == [OURS]


def test_a_child_that_is_deleted_while_we_rekey_it_is_made_again_if_that_is_refused() -> None:
    made = table()
    made.ask_to_replace(OLD)
    made.deleted_by_peer([OLD + 5000], 100.0)
    assert made.rekeying
    assert made.replaceable is None
    assert made.rekey_refused(OLD, 101.0) == 0
    assert made.make_again(102.0) == child(OLD)


def test_the_peer_may_replace_and_delete_a_child_that_we_rekey() -> None:
    """What the peer did about it is known until our request is answered, then nothing of it is left."""
    made = table()
    made.ask_to_replace(OLD)
    made.rekeyed_by_peer(rekeyed(THEIRS, LOW), 1.0)
    made.deleted_by_peer([OLD + 5000], 1.1)
    assert made.rekeying
    assert made.get(OLD) is None
    assert made.rekey_refused(OLD, 1.2) == 0
    assert not made.rekeying
    assert list(made._records) == [THEIRS]
