"""Coalescing of inner packets in plain Python: packets of one flow become one again (see `offload_plain`).

The rules are those of a careful receiver: what is merged would come apart into the same packets, and a packet that is
wrong or unusual in any way stays alone, so that merging neither hides nor repairs anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ikeclient.esp.offload_sums import PADS, Buffer, Writable, fold, get16, ones_sum

VNET_HEADER = 10
MAXIMUM_SLOTS = 128

_LONGEST = 65535
_TCPV4, _TCPV6, _UDP = 1, 4, 5  # VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4
_TCP_PROTOCOL, _UDP_PROTOCOL = 6, 17
_PSH = 0x08


@dataclass(slots=True, eq=False)
class _Packet:
    data: bytes
    protocol: int = 0  # TCP or UDP where the flow is plain to see, 0 where it is not
    flow: bytes = b""
    likeness: bytes = b""  # what all packets of a group have in common
    head: int = 0
    payload: int = 0
    mergeable: bool = False

    @property
    def transport(self) -> int:
        return 20 if self.data[0] >> 4 == 4 else 40


@dataclass(slots=True, eq=False)
class _Group:
    packets: list[_Packet]
    size: int
    total: int
    closed: bool


def coalesce(
    arena: Buffer,
    end: int,
    stride: int,
    first: int,
    count: int,
    gap: int,
    icv: int,
    states: Buffer,
    out: Writable,
    udp: bool,
) -> tuple[list[tuple[int, int, int, int]], int, int]:
    """Write the inner packets of decrypted slots into `out` as frames: (frames, malformed, dummies).

    A frame is (start, end, packets, bytes), the last two counting inner packets and their lengths. Packets that follow
    each other in their flow and differ in nothing but their data become one; a packet with a wrong checksum, unusual
    headers or flags stays alone. Order within a flow is kept, and nothing moves past a packet whose flow is not plain.
    Slots whose byte in `states` is not 0 are left out; `malformed` and `dummies` count those without an IP packet.
    `udp` says whether UDP may be merged. Raises ValueError and IndexError as `segment`.
    """
    bad = count > MAXIMUM_SLOTS or count > len(states) or stride < 1 or min(first, gap, icv) < 0 or end > len(arena)
    if bad:
        raise ValueError("impossible slots")
    malformed = dummies = 0
    groups: list[_Group] = []
    latest: dict[bytes, _Group] = {}
    for i in range(count):
        if states[i]:
            continue
        start = (first + i) * stride
        text = bytes(arena[start + gap : max(start + gap, min(start + stride, end) - icv)])
        found = _unpack(text)
        if found is None:
            malformed += 1
        elif not found:
            dummies += 1
        else:
            _sort(_classify(found, udp), groups, latest)
    frames: list[tuple[int, int, int, int]] = []
    to = 0
    for group in groups:
        frame = _emit(group)
        if to + len(frame) > len(out):
            raise IndexError("outside the buffer")
        out[to : to + len(frame)] = frame
        frames.append((to, to + len(frame), len(group.packets), sum(len(p.data) for p in group.packets)))
        to += len(frame)
    return frames, malformed, dummies


def _unpack(text: bytes) -> bytes | None:
    """The IP packet in a plaintext: None where it is malformed, empty for a dummy packet."""
    if len(text) < 2:
        return None
    pad, following = text[-2], text[-1]
    end = len(text) - 2 - pad
    if end < 0 or text[end:-2] != PADS[pad]:
        return None
    if following == 59:
        return b""
    if end < 20:
        return None
    if text[0] >> 4 == 4:
        length = get16(text, 2)
        if following != 4 or (text[0] & 15) < 5 or length < (text[0] & 15) * 4:
            return None
    elif text[0] >> 4 == 6:
        if following != 41 or end < 40:
            return None
        length = 40 + get16(text, 4)
        if length == 40 and text[6] == 0:  # a jumbogram
            return None
    else:
        return None
    return text[:length] if length <= end else None


def _classify(data: bytes, udp: bool) -> _Packet:
    """Which flow it is of, and whether it may be merged: plain headers, plain flags, every checksum right."""
    p = _Packet(data)
    l4 = p.transport
    if l4 == 20:
        if data[0] != 0x45 or data[6] & 0xBF or data[7]:
            return p
        protocol, addresses, likeness = data[9], data[12:20], data[1:2] + data[6:7] + data[8:9]
    else:
        protocol, addresses, likeness = data[6], data[8:40], data[:4] + data[7:8]
    rest = len(data) - l4
    if protocol == _TCP_PROTOCOL and rest >= 20:
        p.protocol, p.head = protocol, l4 + (data[l4 + 12] >> 4) * 4
        p.flow = bytes((protocol,)) + addresses + data[l4 : l4 + 4]
        p.payload = len(data) - p.head
        if p.head < l4 + 20 or p.payload <= 0 or data[l4 + 12] & 15 or data[l4 + 13] & ~_PSH != 0x10:
            return p
        likeness += data[l4 + 8 : l4 + 13] + data[l4 + 14 : l4 + 16] + data[l4 + 18 : p.head]
    elif protocol == _UDP_PROTOCOL and rest >= 8:
        p.protocol, p.head, p.payload = protocol, l4 + 8, rest - 8
        p.flow = bytes((protocol,)) + addresses + data[l4 : l4 + 4]
        if not udp or p.payload <= 0 or get16(data, l4 + 4) != rest or get16(data, l4 + 6) == 0:
            return p
    else:
        return p
    if l4 == 20 and ones_sum(data[:20]) != 0xFFFF:
        return p
    p.likeness = likeness
    p.mergeable = fold(ones_sum(addresses) + protocol + rest + ones_sum(data[l4:])) == 0xFFFF
    return p


def _sort(p: _Packet, groups: list[_Group], latest: dict[bytes, _Group]) -> None:
    """Append the packet to the latest group of its flow, or let it begin a new one."""
    if not p.protocol:
        latest.clear()  # nobody knows what it belongs to, so nothing may move past it
    group = latest.get(p.flow) if p.protocol else None
    if group is not None and _fits(p, group):
        group.packets.append(p)
        group.total += p.payload
    else:
        group = _Group([p], p.payload, len(p.data), not p.mergeable)
        groups.append(group)
        if p.protocol:
            latest[p.flow] = group
    if p.mergeable:
        psh = p.protocol == _TCP_PROTOCOL and p.data[p.transport + 13] & _PSH
        group.closed = p.payload < group.size or bool(psh)


def _fits(p: _Packet, group: _Group) -> bool:
    """Whether the packet continues the group, whose flow it is of."""
    tail, l4 = group.packets[-1], p.transport
    if group.closed or not p.mergeable or p.head != tail.head or p.likeness != tail.likeness:
        return False
    if p.payload > group.size or group.total + p.payload > _LONGEST:
        return False
    may_fragment = l4 == 20 and not p.data[6] & 0x40
    if may_fragment and get16(p.data, 4) != get16(tail.data, 4) + 1 & 0xFFFF:
        return False
    if p.protocol == _UDP_PROTOCOL:
        return len(group.packets) < 64
    before = int.from_bytes(tail.data[l4 + 4 : l4 + 8], "big")
    return int.from_bytes(p.data[l4 + 4 : l4 + 8], "big") == before + tail.payload & 0xFFFFFFFF


def _emit(group: _Group) -> bytes:
    packets: Sequence[_Packet] = group.packets
    p = packets[0]
    if len(packets) == 1:
        return bytes(VNET_HEADER) + p.data
    l4 = p.transport
    merged = bytearray(b"".join((p.data, *_payloads(packets[1:]))))
    udp, length = p.protocol == _UDP_PROTOCOL, len(merged)
    if l4 == 20:
        merged[2:4] = length.to_bytes(2, "big")
        merged[10:12] = b"\0\0"
        merged[10:12] = (ones_sum(merged[:20]) ^ 0xFFFF).to_bytes(2, "big")
        addresses = p.data[12:20]
    else:
        merged[4:6] = (length - 40).to_bytes(2, "big")
        addresses = p.data[8:40]
    where, kind = (6, _UDP) if udp else (16, _TCPV4 if l4 == 20 else _TCPV6)
    if udp:
        merged[l4 + 4 : l4 + 6] = (length - l4).to_bytes(2, "big")
    else:
        merged[l4 + 13] |= packets[-1].data[l4 + 13] & _PSH
    partial = fold(ones_sum(addresses) + p.protocol + length - l4)
    merged[l4 + where : l4 + where + 2] = partial.to_bytes(2, "big")
    fields = (p.head, group.size, l4, where)
    return b"".join((bytes((1, kind)), *(n.to_bytes(2, "little") for n in fields), merged))


def _payloads(packets: Sequence[_Packet]) -> Iterator[bytes]:
    return (p.data[p.head :] for p in packets)
