from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from esp_packets import HOST4, HOST6, VIP4, VIP6, ipv4, ipv6, number, udp

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, EspSuite
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.esp.sa.table import MOST_KNOWN, MOST_WAITING, SaTable

SUITE = EspSuite(encryption=ENCRYPTION["aes128gcm16"], integrity=None)
KEYS = DirectionKeys(encryption=bytes(20), integrity=b"")


def one(address: str) -> Selector:
    return Selector(version=6 if ":" in address else 4, start=number(address), end=number(address))


def child(spi: int, *remotes: str) -> tuple[InboundSa, OutboundSa]:
    local, remote = (one(VIP4), one(VIP6)), tuple(map(one, remotes))
    return (
        InboundSa(spi, SUITE, KEYS, filter=PacketFilter(sources=remote, destinations=local)),
        OutboundSa(spi + 1, SUITE, KEYS, filter=PacketFilter(sources=local, destinations=remote), entropy=os.urandom),
    )


TO4 = ipv4(udp(b"four"), source=VIP4, destination=HOST4)
TO6 = ipv6(udp(b"six"), source=VIP6, destination=HOST6)
ELSEWHERE = ipv4(udp(), source=VIP4, destination="192.0.2.1")
NOT_OURS = ipv4(udp(), source="192.0.2.1", destination=HOST4)


def routed(table: SaTable, *packets: bytes) -> list[tuple[int, list[bytes]]]:
    return [(sa.spi, [bytes(p) for p in group]) for sa, group in table.route(packets)]


def test_packets_go_to_the_sa_whose_selectors_accept_them() -> None:
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.install(*child(0x2000, HOST6))
    assert routed(table, TO4, TO6, TO4) == [(0x2001, [TO6]), (0x1001, [TO4, TO4])]
    assert table.unrouted == 0


@pytest.mark.parametrize("packet", [ELSEWHERE, NOT_OURS, b"", b"\x45", TO4[:-1], TO4 + b"x"])
def test_packets_that_no_sa_accepts_are_counted_and_left_out(packet: bytes) -> None:
    """P7: outbound as well."""
    table = SaTable()
    table.install(*child(0x1000, HOST4, HOST6))
    assert routed(table, packet, TO4) == [(0x1001, [TO4])]
    assert table.unrouted == 1
    assert routed(SaTable(), packet) == []


def test_the_newest_sa_sends_and_the_old_one_still_receives() -> None:
    """P9"""
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.install(*child(0x2000, HOST4))
    assert routed(table, TO4) == [(0x2001, [TO4])]
    table.retire(0x1000)
    assert set(table.inbound) == {0x1000, 0x2000}
    table.remove(0x1000)
    assert set(table.inbound) == {0x2000}


def test_of_a_chain_of_sas_that_do_not_send_yet_the_last_one_that_is_used_sends() -> None:
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.install(*child(0x2000, HOST4), 0x1000)
    table.install(*child(0x3000, HOST4), 0x2000)
    assert routed(table, TO4) == [(0x1001, [TO4])]
    table.confirm(0x3000)
    table.confirm(0x2000)
    assert routed(table, TO4) == [(0x3001, [TO4])]
    for spi in (0x2000, 0x1000):
        table.remove(spi)
        assert routed(table, TO4) == [(0x3001, [TO4])]
    assert table.deferred == {}


@pytest.mark.parametrize("end", [SaTable.remove, SaTable.retire])
def test_an_sa_sends_once_the_one_before_does_not(end: Callable[[SaTable, int], None]) -> None:
    """The gateway's DELETE, after which the old one receives for a while."""
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.install(*child(0x2000, HOST4), 0x1000)
    table.install(*child(0x3000, HOST4), 0x2000)
    end(table, 0x1000)
    assert routed(table, TO4) == [(0x2001, [TO4])]
    end(table, 0x2000)
    assert routed(table, TO4) == [(0x3001, [TO4])]
    end(table, 0x3000)
    assert routed(table, TO4) == []


@pytest.mark.parametrize("gone", [0x1000, 0x2000])
def test_when_one_of_two_sas_is_removed_the_other_sends(gone: int) -> None:
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.install(*child(0x2000, HOST4), 0x1000)
    table.remove(gone)
    assert routed(table, TO4) == [(0x2001 if gone == 0x1000 else 0x1001, [TO4])]
    assert table.deferred == {}
    table.install(*child(0x4000, HOST4), gone)
    assert routed(table, TO4) == [(0x4001, [TO4])], "there is nothing to wait behind"


def test_a_retired_sa_sends_nothing_even_where_no_other_does() -> None:
    """P9"""
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.retire(0x1000)
    assert routed(table, TO4) == []
    assert table.pair(0x1000)[1].spi == 0x1001


def test_removing_what_is_not_there_changes_nothing() -> None:
    table = SaTable()
    table.install(*child(0x1000, HOST4))
    table.remove(0x9999)
    table.retire(0x9999)
    assert routed(table, TO4) == [(0x1001, [TO4])]
    with pytest.raises(KeyError):
        table.pair(0x9999)


def test_an_spi_installed_again_replaces_the_first() -> None:
    table = SaTable()
    table.install(*child(0x1000, HOST6))
    table.install(*child(0x1000, HOST4))
    assert routed(table, TO4, TO6) == [(0x1001, [TO4])]
    table.remove(0x1000)
    assert routed(table, TO4, TO6) == []


def ported(spi: int, port: int) -> tuple[InboundSa, OutboundSa]:
    """A Child SA for one port of HOST4: more than addresses decides."""
    local = (one(VIP4),)
    remote = (Selector(version=4, start=number(HOST4), end=number(HOST4), protocol=17, start_port=port, end_port=port),)
    return (
        InboundSa(spi, SUITE, KEYS, filter=PacketFilter(sources=remote, destinations=local)),
        OutboundSa(spi + 1, SUITE, KEYS, filter=PacketFilter(sources=local, destinations=remote), entropy=os.urandom),
    )


def chosen(table: SaTable, packet: bytes) -> int | None:
    sa = table.choose(packet, len(packet))
    return None if sa is None else sa.spi


def test_among_many_sas_each_packet_finds_its_own_again_and_again() -> None:
    """What is remembered for a pair of addresses is what a search would find."""
    table = SaTable()
    remotes = [f"10.99.1.{n}" for n in range(8)]
    for n, remote in enumerate(remotes):
        table.install(*child(0x1000 + 16 * n, remote, HOST6 if n == 3 else remote))
    for _ in range(3):
        for n, remote in enumerate(remotes):
            assert chosen(table, ipv4(udp(b"x"), source=VIP4, destination=remote)) == 0x1001 + 16 * n
        assert chosen(table, TO6) == 0x1001 + 48
        assert chosen(table, ELSEWHERE) is None
        assert chosen(table, ipv4(udp(b"x"), source=VIP4, destination=remotes[0])[:-1]) is None


def test_what_was_remembered_is_forgotten_when_the_sas_change() -> None:
    """P9: after a rekey the new SA sends at once."""
    table = SaTable()
    for n in range(4):
        table.install(*child(0x1000 + 16 * n, HOST4, f"10.99.1.{n}"))
    assert chosen(table, TO4) == chosen(table, TO4) == 0x1031
    table.install(*child(0x5000, HOST4))
    assert chosen(table, TO4) == 0x5001
    table.retire(0x5000)
    assert chosen(table, TO4) == 0x1031
    table.remove(0x1030)
    assert chosen(table, TO4) == 0x1021


def test_where_ports_decide_nothing_is_remembered_by_address() -> None:
    table = SaTable()
    for n in range(4):
        table.install(*ported(0x1000 + 16 * n, 100 + n))
    for _ in range(2):
        for n in range(4):
            packet = ipv4(udp(b"x", destination_port=100 + n), source=VIP4, destination=HOST4)
            assert chosen(table, packet) == 0x1001 + 16 * n


def test_what_is_remembered_is_bounded() -> None:
    table = SaTable()
    everywhere = Selector(version=4, start=number("10.99.0.0"), end=number("10.99.255.255"))
    for n in range(3):
        inbound, _ = child(0x1000 + 16 * n, HOST4)
        ours = PacketFilter(sources=(one(VIP4),), destinations=(everywhere,))
        table.install(inbound, OutboundSa(n, SUITE, KEYS, filter=ours, entropy=os.urandom))
    for n in range(MOST_KNOWN + 10):
        assert chosen(table, ipv4(udp(), source=VIP4, destination=f"10.99.{n >> 8}.{n & 255}")) == 2
    assert len(table._known) == 10


def test_what_an_sa_to_come_will_accept_waits_and_nothing_else_does() -> None:
    """G18: the last few packets only, each counted as lost that is displaced."""
    table = SaTable()
    table.awaited = child(0x1000, HOST4)[1].filter
    assert routed(table, TO4, TO6, ELSEWHERE, NOT_OURS, b"") == []
    assert list(table.waiting) == [TO4]
    assert table.unrouted == 4
    assert table.hold([TO4] * (MOST_WAITING + 3)) == 4
    assert len(table.waiting) == MOST_WAITING
    table.awaited = None
    assert table.hold([TO4]) == 1
