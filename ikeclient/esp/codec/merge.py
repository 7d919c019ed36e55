"""Coalescing of inner packets in plain Python: packets of one flow become one again (see `offload_plain`).

The rules are those of a careful receiver: what is merged would come apart into the same packets, and a packet that is
wrong or unusual in any way stays alone, so that merging neither hides nor repairs anything. Of plain acknowledgements
that follow each other and each acknowledge more, the last one stands for all (RFC 3449 section 5.2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from ikeclient.esp.codec.sums import Buffer, Writable, fold, get16, ones_sum, remainder
from ikeclient.lazy_dataclass import dataclass

VNET_HEADER = 10
MAXIMUM_SLOTS = 256

_LONGEST = 65535
_TCPV4, _TCPV6, _UDP = 1, 4, 5  # VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6, _UDP_L4
_TCP_PROTOCOL, _UDP_PROTOCOL = 6, 17
_PSH = 0x08
_HALF = 1 << 31  # of the space of sequence numbers
_TIMESTAMP = bytes.fromhex("0101080a")  # how a TCP header begins its options if a time is the only one
_MOST_DATAGRAMS = 64


@dataclass(slots=True, eq=False)
class _Packet:
    data: bytes
    protocol: int = 0  # TCP or UDP where the flow is plain to see, 0 where it is not
    flow: bytes = b""
    likeness: bytes = b""  # what all packets of a group have in common
    head: int = 0
    payload: int = 0
    mergeable: bool = False
    l4: int = 0  # where the transport header begins


@dataclass(slots=True, eq=False)
class _Group:
    first: _Packet
    tail: bytes  # the latest packet
    size: int  # payload of all packets but the last, which may have less
    total: int
    closed: bool
    payloads: list[bytes] = field(default_factory=list)  # of all packets but the first


@dataclass(slots=True, eq=False)
class _Express:
    """What the plaintext of the next packet of an open group most often looks like.

    It is as long as the latest, and the same but for TCP sequence number, checksums, IPv4 id and data. Right checksums
    then make the whole, read as one number, the same modulo 65535: what one field adds to the sum, another takes away.
    """

    group: _Group
    left: int  # how many more may come before the group is full or a counter wraps around
    head: int
    length: int
    trailer: bytes  # all behind the packet
    shift: int  # bits behind the headers
    ip: int  # bits behind the IPv4 header, 0 for IPv6
    udp: int  # bits behind the UDP header, which ends with the checksum; 0 for TCP
    mask: int  # those bits of the headers, read as one number, that can be foretold
    expected: int
    step: int  # what is added to them from one packet to the next
    remainder: int


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
    lengths: Sequence[int] = (),
) -> tuple[list[tuple[int, int, int, int]], int, int]:
    """Write the inner packets of decrypted slots into `out` as frames: (frames, malformed, dummies).

    A frame is (start, end, packets, bytes), the last two counting inner packets and their lengths. Packets that follow
    each other in their flow and differ in nothing but their data become one; a packet with a wrong checksum, unusual
    headers or flags stays alone. Order within a flow is kept, and nothing moves past a packet whose flow is not plain.
    Slots whose byte in `states` is not 0 are left out; `malformed` and `dummies` count those without an IP packet.
    `udp` says whether UDP may be merged. `lengths` says how long the datagram in each slot of the arena is; without it
    all are as long as the stride, but for what ends at `end`. Raises ValueError and IndexError as `segment`.
    """
    bad = count > MAXIMUM_SLOTS or count > len(states) or stride < 1 or min(count, first, gap, icv) < 0
    if bad or end > len(arena) or first > len(arena) // stride:
        raise ValueError("impossible slots")
    malformed = dummies = 0
    groups: list[_Group] = []
    latest: dict[bytes, _Group] = {}
    express: dict[bytes, _Express] = {}  # of those of them that are open
    view = memoryview(arena)
    for i in range(count):
        if states[i]:
            continue
        start = (first + i) * stride
        length = lengths[first + i] if lengths else min(stride, end - start)
        if length > stride or start + length > len(arena):
            raise ValueError("impossible slots")
        text = bytes(view[start + gap : max(start + gap, start + length - icv)])
        # Addresses and ports, if it is what they are: `_continues` compares everything.
        key = text[8:44] if text[:1] >= b"\x60" else text[12:24]
        expected = express.get(key)
        if expected is not None and _continues(text, expected):
            continue
        found = _unpack(text)
        if found is None:
            malformed += 1
        elif not found:
            dummies += 1
        else:
            group = _sort(_classify(found, udp), groups, latest)
            if not latest:
                express.clear()
            elif group.closed or not group.size or not group.payloads:  # most of one packet stay so
                express.pop(key, None)
            else:
                express[key] = _expect(text, group)
    return _write(groups, out), malformed, dummies


def _write(groups: list[_Group], out: Writable) -> list[tuple[int, int, int, int]]:
    frames: list[tuple[int, int, int, int]] = []
    to = 0
    for group in groups:
        frame, more = _emit(group), len(group.payloads)
        end = to + len(frame)
        if end > len(out):
            raise IndexError("outside the buffer")
        out[to:end] = frame
        frames.append((to, end, 1 + more, len(frame) - VNET_HEADER + more * group.first.head))
        to = end
    return frames


def _expect(text: bytes, group: _Group) -> _Express:
    """What follows the packet in this plaintext, which was the latest of the group, and a full one."""
    p, size = group.first, group.size
    head, l4, four = p.head, p.l4, p.l4 == 20
    number = int.from_bytes(text, "big")
    left, step, udp = (_LONGEST - group.total) // size, 0, p.protocol == _UDP_PROTOCOL
    mask = (1 << head * 8) - 1 & ~_word(head, l4 + (6 if udp else 16))
    if udp:
        left = min(left, _MOST_DATAGRAMS - 1 - len(group.payloads))
    else:
        left = min(left, (0xFFFFFFFF - int.from_bytes(text[l4 + 4 : l4 + 8], "big")) // size)
        step = size << (head - l4 - 8) * 8
    if four:
        mask &= ~_word(head, 10)
        if text[6] & 0x40:
            mask &= ~_word(head, 4)
        else:
            step += 1 << (head - 6) * 8
            left = min(left, 0xFFFF - get16(text, 4))
    shift, length = (len(text) - head) * 8, head + size
    ip = (len(text) - 20) * 8 if four else 0
    expected = (number >> shift & mask) + step
    trailer, bare = text[length:], shift if udp else 0
    return _Express(group, left, head, length, trailer, shift, ip, bare, mask, expected, step, remainder(number))


def _word(head: int, at: int) -> int:
    """Where two bytes are in headers seen as a number."""
    return 0xFFFF << (head - at - 2) * 8


def _continues(text: bytes, e: _Express) -> bool:
    """Append the plaintext's packet to the group if it is as expected; if not, it is to be looked at closely."""
    if text[e.length :] != e.trailer or not e.left:
        return False
    number = int.from_bytes(text, "big")
    if number >> e.shift & e.mask != e.expected or remainder(number) != e.remainder:
        return False
    if (e.ip and (number >> e.ip) % 0xFFFF) or (e.udp and not number >> e.udp & 0xFFFF):
        return False
    e.left -= 1
    e.expected += e.step
    group = e.group
    group.tail = text
    group.total += group.size
    group.payloads.append(text[e.head : e.length])
    return True


def _unpack(text: bytes) -> bytes | None:
    """The IP packet in a plaintext: None where it is malformed, empty for a dummy packet.

    What the padding says is nobody's concern: see `inbound`.
    """
    if len(text) < 2:
        return None
    pad, following = text[-2], text[-1]
    end = len(text) - 2 - pad
    if end < 0:
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
    l4 = 20 if data[0] >> 4 == 4 else 40
    p = _Packet(data, l4=l4)
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
        if p.head < l4 + 20 or p.payload < 0 or data[l4 + 12] & 15 or data[l4 + 13] & ~_PSH != 0x10:
            return p
        if p.payload:
            likeness += data[l4 + 8 : l4 + 13] + data[l4 + 14 : l4 + 16] + data[l4 + 18 : p.head]
        elif data[l4 + 13] & _PSH or data[l4 + 20 :][:4] not in (b"", _TIMESTAMP) or p.head not in (l4 + 20, l4 + 32):
            return p
        else:
            likeness += data[l4 + 4 : l4 + 8]
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


def _sort(p: _Packet, groups: list[_Group], latest: dict[bytes, _Group]) -> _Group:
    """Append the packet to the latest group of its flow, or let it begin a new one."""
    if not p.protocol:
        latest.clear()  # nobody knows what it belongs to, so nothing may move past it
    group = latest.get(p.flow) if p.protocol else None
    if group is not None and _fits(p, group):
        group.tail = p.data
        group.payloads.append(p.data[p.head :])
        group.total += p.payload
    else:
        group = _Group(p, p.data, p.payload, len(p.data), not p.mergeable)
        groups.append(group)
        if p.protocol:
            latest[p.flow] = group
    if p.mergeable:
        psh = p.protocol == _TCP_PROTOCOL and p.data[p.l4 + 13] & _PSH
        group.closed = p.payload < group.size or bool(psh)
    return group


def _fits(p: _Packet, group: _Group) -> bool:
    """Whether the packet continues the group, whose flow it is of."""
    first, tail, l4 = group.first, group.tail, p.l4
    if group.closed or not p.mergeable or p.head != first.head or p.likeness != first.likeness:
        return False
    if p.payload > group.size or group.total + p.payload > _LONGEST:
        return False
    may_fragment = l4 == 20 and not p.data[6] & 0x40
    if may_fragment and get16(p.data, 4) != get16(tail, 4) + 1 & 0xFFFF:
        return False
    if p.protocol == _UDP_PROTOCOL:
        return len(group.payloads) < _MOST_DATAGRAMS - 1
    if not p.payload:
        return not group.size and _supersedes(tail[l4:], p.data[l4:])
    # An open group has only full packets.
    before = int.from_bytes(tail[l4 + 4 : l4 + 8], "big")
    return int.from_bytes(p.data[l4 + 4 : l4 + 8], "big") == before + group.size & 0xFFFFFFFF


def _supersedes(before: bytes, after: bytes) -> bool:
    """Whether an acknowledgement says more than the one before, and takes back nothing of what that says."""
    more, later = (
        int.from_bytes(after[at : at + 4], "big") - int.from_bytes(before[at : at + 4], "big") & 0xFFFFFFFF
        for at in (8, 24)
    )
    return 0 < more < _HALF and later < _HALF


def _emit(group: _Group) -> bytes:
    p = group.first
    if not group.payloads or not group.size:
        return bytes(VNET_HEADER) + group.tail
    l4 = p.l4
    merged = bytearray(b"".join((p.data, *group.payloads)))
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
        merged[l4 + 13] |= group.tail[l4 + 13] & _PSH
    partial = fold(ones_sum(addresses) + p.protocol + length - l4)
    merged[l4 + where : l4 + where + 2] = partial.to_bytes(2, "big")
    fields = (p.head, group.size, l4, where)
    return b"".join((bytes((1, kind)), *(n.to_bytes(2, "little") for n in fields), merged))
