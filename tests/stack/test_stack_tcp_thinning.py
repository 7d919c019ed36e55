"""Acknowledgements that come in a burst: the last one is enough, unless one of them says something of its own."""

from __future__ import annotations

import pytest

from ikeclient.stack.tcp.frame import Flow
from ikeclient.stack.tcp.options import of_segment
from ikeclient.stack.tcp.segment import ACK, ECE, FIN, PSH
from ikeclient.stack.tcp.sequence import MASK
from ikeclient.stack.tcp.thinning import thinned

FLOWS = {
    "IPv4": Flow(bytes((10, 0, 0, 2, 10, 0, 0, 1)) + bytes.fromhex("01bb8235")),
    "IPv6": Flow(b"\xfd" + bytes(14) + b"\2" + b"\xfd" + bytes(14) + b"\1" + bytes.fromhex("01bb8235")),
}
OTHER = Flow(bytes((10, 0, 0, 2, 10, 0, 0, 1)) + bytes.fromhex("01bb8236"))


def ack(
    flow: Flow, position: int, *, sequence: int = 7, flags: int = ACK, blocks: bool = False, data: int = 0, ecn: int = 0
) -> bytes:
    frame = memoryview(bytearray(200))
    options = of_segment((1, position), [(1, 2)] if blocks else [])
    length = flow.write(frame, sequence, position, flags, 100, options, data, data, ecn)
    return bytes(frame[: length + data])


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_the_last_of_a_burst_is_enough(flow: Flow) -> None:
    burst = [ack(flow, (MASK - 5000 + at) & MASK) for at in range(0, 20_000, 1000)]
    assert list(thinned(burst)) == burst[-1:]
    assert list(thinned([memoryview(frame) for frame in burst])) == burst[-1:]


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_what_says_something_of_its_own_stays(flow: Flow) -> None:
    """Duplicates are counted, old ones come late, SACK blocks, ends, marks and data are news."""
    plain = ack(flow, 5000)
    others = (
        ack(flow, 5000),
        ack(flow, 4000),
        ack(flow, 6000, blocks=True),
        ack(flow, 6000, flags=ACK | FIN),
        ack(flow, 6000, flags=ACK | ECE),
        ack(flow, 6000, flags=ACK | PSH, data=20),
        ack(flow, 6000, sequence=8),
        ack(flow, 6000, ecn=3),
        ack(OTHER, 6000),
    )
    for other in others:
        assert list(thinned([plain, other])) == [plain, other]
    later = ack(flow, 9000)
    for other in others[2:]:
        assert list(thinned([other, later])) == [other, later]
    assert list(thinned([])) == []
    assert list(thinned([b"", b"short", plain])) == [b"", b"short", plain]
