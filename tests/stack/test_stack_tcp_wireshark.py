"""Wireshark's TCP dissector, which nobody here wrote, watches two of our TCPs and finds what it should find."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path as File
from struct import pack

import pytest
from stack_link import V4, V6, Path, User, World, connected
from vectors.wireshark import tshark

from ikeclient.stack.interfaces import CloseReason

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

_CHECKS = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
_FLAGS = (
    "retransmission",
    "fast_retransmission",
    "spurious_retransmission",
    "out_of_order",
    "lost_segment",
    "ack_lost_segment",
    "duplicate_ack",
    "window_full",
    "zero_window",
)


def watched(tmp_path: File, world: World, size: int) -> Counter[str]:
    """What Wireshark says of a transfer of so many bytes each way, seen at the first host."""
    capture = [pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]

    def note(now: float, packet: bytes) -> None:
        capture.append(pack("<IIII", int(now), int(now % 1 * 1e6), len(packet), len(packet)) + packet)

    world.a.trace = note
    take = world.a.take

    def taken(packet: bytes) -> None:
        note(world.now, packet)
        take(packet)

    world.a.take = taken  # type: ignore[method-assign]
    client, server = User(bytes(size)), User(bytes(size))
    connected(world, client, server)
    assert world.run(60, lambda: client.reason is server.reason is CloseReason.CLOSED)
    file = tmp_path / "tcp.pcap"
    file.write_bytes(b"".join(capture))
    fields = ["tcp.checksum.status", "ip.checksum.status", "tcp.len", *(f"tcp.analysis.{name}" for name in _FLAGS)]
    rows = tshark(file, *(part for name in fields for part in ("-e", name)), *_CHECKS)
    assert len(rows) == len(capture) - 1
    assert all(row[0] == "1" for row in rows)  # good
    assert all(row[1] in ("1", "") for row in rows)
    assert sum(int(row[2]) for row in rows) >= 2 * size
    return Counter(name for row in rows for name, found in zip(_FLAGS, row[3:], strict=True) if found)


@pytest.mark.parametrize("addresses", [V4, V6], ids=["IPv4", "IPv6"])
def test_nothing_is_odd_where_nothing_is_lost(tmp_path: File, addresses: tuple[bytes, bytes]) -> None:
    assert not watched(tmp_path, World(addresses=addresses, merge=0.0005), 1_000_000)


def test_what_is_lost_is_sent_again_and_little_else(tmp_path: File) -> None:
    world = World(there=Path(loss=0.01), back=Path(loss=0.01), merge=0.0005)
    found = watched(tmp_path, world, 500_000)
    again = found["retransmission"] + found["out_of_order"]  # as which it takes a fast one
    lost = world.a.lost + world.b.lost
    assert 0 < again <= 1.5 * lost + 3
    assert found["zero_window"] == found["window_full"] == 0
