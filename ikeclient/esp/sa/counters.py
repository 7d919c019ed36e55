"""What the two directions of a Child SA have in common: what they count, and the numbers on a packet."""

from __future__ import annotations

from ikeclient.lazy_dataclass import dataclass

Packet = bytes | bytearray | memoryview

NO_NEXT_HEADER = 59  # a dummy packet (RFC 4303 section 2.6)
NEXT_HEADER = {4: 4, 6: 41}  # IP version -> IP protocol number of a tunnelled packet


@dataclass(slots=True, kw_only=True)
class Counters:
    """What one direction of an SA has seen. `bytes` are those of inner packets, `packets` those passed on."""

    packets: int = 0
    bytes: int = 0
    replays: int = 0
    auth_failures: int = 0
    selector_drops: int = 0
    malformed: int = 0
    dummies: int = 0
    congested: int = 0  # dropped because a router marked what cannot be marked (RFC 6040)
    exhausted: int = 0  # packets not sent because the sequence numbers are used up
