"""IKE and EAP packets, ESP and what is inside of it, the offload codec and its twin, and the proxy's clients."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from random import Random

import offload_packets as packets
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fuzz.damage import damaged, framed, packets_in
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.cipher import VARIABLE, choose_cipher
from ikeclient.errors import IkeclientError
from ikeclient.esp.codec import choice as offload
from ikeclient.esp.codec import plain as offload_plain
from ikeclient.esp.codec import run_cipher
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.packet.ecn import decapsulate
from ikeclient.esp.packet.icmp import too_big
from ikeclient.esp.packet.inner import locate_transport
from ikeclient.esp.packet.mss import clamp_one
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.proxy import http, socks
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.listen import parse_forward, parse_listener
from ikeclient.proxy.settings import Kind
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.header import Header
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ExchangeType, PayloadType

ADDRESSES = (packets.V4, packets.V6)


# IKE


@functools.cache
def messages() -> tuple[bytes, ...]:
    """A message with each kind of payload, as the initiator and as a gateway may send them."""
    from fuzz.ike import odd_payloads

    random, found = Random(1), []
    for payload in odd_payloads(random, 120):
        others = odd_payloads(random, 2)
        header = Header(
            spi_i=b"i" * 8,
            spi_r=b"r" * 8,
            next_payload=PayloadType.NONE,
            exchange=ExchangeType(random.choice((34, 35, 36, 37))),
            initiator=False,
            response=True,
            message_id=1,
        )
        message = Message(header=header, payloads=(payload, *others)).emit()
        if len(message) < 1_500:
            found.append(message)
    return tuple(found)


def read_message(data: bytes) -> object:
    """An IKE message is refused, or says the same when it is written and read again (N2, N6, N8)."""
    found = Message.parse(data)
    for payload in found.payloads:
        repr(payload)
    again = Message.parse(found.emit())
    assert again.payloads == found.payloads
    return tuple(type(payload).__name__ for payload in found.payloads[:2])


def eap_packets() -> list[bytes]:
    """EAP packets of every code, and an expanded type."""
    return [bytes((1, 7, 0, 6, 26, 1)), bytes((3, 7, 0, 4)), bytes((1, 2, 0, 13, 254, 0, 1, 55, 0, 0, 0, 9, 9))]


def read_eap(data: bytes) -> object:
    """An EAP packet is refused, or written again as it was (E3)."""
    packet = EapPacket.parse(data)
    assert EapPacket.parse(packet.emit()) == packet
    return (packet.code, packet.type)


# ESP


def _keys(suite: EspSuite) -> DirectionKeys:
    length = suite.encryption.key_length + suite.encryption.salt_length
    return DirectionKeys(
        encryption=bytes(length), integrity=bytes(suite.integrity.key_length if suite.integrity else 0)
    )


SUITES = tuple(
    EspSuite(encryption=ENCRYPTION[name], integrity=INTEGRITY[integrity] if integrity else None, esn=esn)
    for name, integrity in (("aes128gcm16", ""), ("chacha20poly1305", ""), ("aes128", "sha256"))
    for esn in (False, True)
)
EVERYTHING = PacketFilter(
    sources=[Selector(version=4, start=0, end=2**32 - 1), Selector(version=6, start=0, end=2**128 - 1)],
    destinations=[Selector(version=4, start=0, end=2**32 - 1), Selector(version=6, start=0, end=2**128 - 1)],
)
SLOTS, OUT = Slots(1 << 16), memoryview(bytearray(1 << 17))
SOURCE = ("192.0.2.1", 4500)


def _inner(random: Random) -> bytes:
    addresses = random.choice(ADDRESSES)
    body = random.choice((packets.tcp, packets.udp))(random.randbytes(random.randint(0, 90)), addresses=addresses)
    return packets.ip(body, 6 if len(body) >= 20 and body[12] >> 4 == 5 else 17, addresses)


def esp(random: Random) -> None:
    """ESP packets, genuine and damaged, single and in runs, by either cipher; what comes out went in."""
    choose_cipher({VARIABLE: random.choice(("", "none"))})
    try:
        _esp(random)
    finally:
        choose_cipher({VARIABLE: "none"})


def _esp(random: Random) -> None:
    suite = random.choice(SUITES)
    sender = OutboundSa(256, suite, _keys(suite), filter=EVERYTHING, entropy=random.randbytes)
    sent = [_inner(random) for _ in range(random.randint(1, 12))]
    # Plaintexts are damaged before they are sealed as well: the other end may be hostile, too.
    hostile = random.random() < 0.5
    sealed = sender.seal([damaged(random, p)[:200] or b"E" for p in sent] if hostile else sent)
    sealed = [damaged(random, p) if random.random() < 0.3 else p for p in sealed]
    single = InboundSa(256, suite, _keys(suite), filter=EVERYTHING)
    got = [bytes(packet) for packet in single.open(sealed)]
    assert hostile or all(packet in sent for packet in got)
    stride = max(map(len, sealed))
    same = [p for p in sealed if len(p) == stride]
    last = next((p for p in sealed if len(p) < stride), b"")
    arena = b"".join(same) + last
    if stride < 8 or len(arena) > 1 << 16:
        return
    SLOTS.buffer[: len(arena)] = arena
    receiver = InboundSa(256, suite, _keys(suite), filter=EVERYTHING)
    count, spi, low, rising = offload.survey(SLOTS.buffer, len(arena), stride, 0)
    if spi != 256:
        return
    run = Run(SLOTS)
    run.fill(len(arena), stride, SOURCE, random.randint(0, 3), [])
    run.narrow(0, count)
    _looked_at(receiver.open_run(run, OUT, low=low, rising=rising, merge_udp=True)[0])
    mixed = InboundSa(256, suite, _keys(suite), filter=EVERYTHING)
    lengths = list(map(len, sealed))
    if not mixed.mixes or stride * len(sealed) > 1 << 16 or min(lengths) < 8:
        return
    SLOTS.buffer[: stride * len(sealed)] = b"".join(packet.ljust(stride) for packet in sealed)
    run.fill(stride * len(sealed), stride, SOURCE, 0, lengths)
    run.narrow(0, len(sealed))
    _looked_at(mixed.open_run(run, OUT, low=low, rising=rising, merge_udp=True)[0])
    assert (mixed.authenticated, mixed.counters) == (single.authenticated, single.counters)


def _looked_at(frames: Iterable[tuple[int, int, int, int]]) -> None:
    for start, end, _, _ in frames:
        assert offload.examine(OUT[start:end], end - start)[0]


def inner_packets() -> list[bytes]:
    """TCP, UDP and ICMP of both families, plain and with options and extension headers."""
    mss = b"\x02\x04\x05\xb4"
    found = []
    for addresses in ADDRESSES:
        for body, number in (
            (packets.tcp(b"x", addresses=addresses), 6),
            (packets.tcp(flags=2, options=mss, addresses=addresses), 6),
            (packets.tcp(flags=2, options=b"\1" + mss + b"\3\3\7", addresses=addresses), 6),
            (packets.udp(b"hello", addresses=addresses), 17),
            (b"\x08\0\0\0\0\1\0\1" + bytes(8), 1 if addresses is packets.V4 else 58),
        ):
            found.append(packets.ip(body, number, addresses))
    udp4, udp6 = packets.udp(b"a"), packets.udp(b"a", addresses=packets.V6)
    found.append(packets.ip(udp4, 17, packets.V4, extra=b"\x83\7\4" + bytes(5)))
    found.append(packets.ip(udp6, 17, packets.V6, chain=0, extra=b"\x3c" + bytes(7) + b"\x11\0" + bytes(6)))
    found.append(packets.ip(udp6, 17, packets.V6, chain=44, extra=b"\x11\0\0\1" + bytes(4)))
    return found


NARROW = PacketFilter(
    sources=[Selector(version=4, start=0x0A580000, end=0x0A58FFFF, protocol=6, start_port=0, end_port=50000)],
    destinations=[Selector(version=4, start=0, end=2**32 - 1)],
    own=[(4, 0x0A580001)],
    inbound=True,
)
INBOUND = PacketFilter(
    sources=EVERYTHING._sending, destinations=EVERYTHING._receiving, own=[(4, 0x0A630007)], inbound=True
)


def read_inner(data: bytes) -> object:
    """An inner packet is measured, judged, clamped and answered without harm (P10, P12, P13, P16, P17)."""
    length, narrow = INBOUND.measure(data, len(data)), NARROW.measure(data, len(data))
    assert narrow <= 0 or narrow == EVERYTHING.measure(data, len(data))
    assert length <= len(data)
    answer = too_big(data, 1280)
    assert answer is None or len(answer) <= 1280
    if length <= 0:
        return (length, narrow)
    packet = data[:length]
    protocol, at = locate_transport(packet)
    assert -1 <= at <= length
    clamped = clamp_one(packet, 1240, 1220)
    assert len(clamped) == length
    assert clamp_one(clamped, 1240, 1220) is clamped
    for outer in range(4):
        marked = bytearray(packet)
        decapsulate(outer, marked)
        assert INBOUND.measure(marked, length) == length
    return (narrow > 0, clamped is not packet, at > 0, answer is None, protocol in (6, 17))


def plaintexts() -> list[bytes]:
    """Runs of plaintexts of ESP with padding and next header, as a gateway seals them."""
    sealed = [packet + _trailer(packet) for packet in inner_packets()]
    stream = [packets.ip(packets.tcp(b"x" * 40, sequence=1000 + 40 * n), 6, packets.V4, id=n) for n in range(4)]
    return [framed(sealed[n : n + 3]) for n in range(0, len(sealed), 3)] + [
        framed(packet + _trailer(packet) for packet in stream),
        framed([bytes(2) + b"\0\x3b"] * 2),
    ]


def _trailer(packet: bytes) -> bytes:
    length = -(len(packet) + 2) % 4
    return bytes(range(1, length + 1)) + bytes((length, 4 if packet[0] >> 4 == 4 else 41))


_GCM = SUITES[0]
_SEALER = AESGCM(bytes(16))


def _libraries() -> tuple[tuple[object, frozenset[tuple[str, str | None]]], ...]:
    """The ciphers to compare: the machine's OpenSSL, if the compiled module can use it, and `cryptography`."""
    choose_cipher({})
    found = (run_cipher._library, run_cipher._trusted)
    choose_cipher({VARIABLE: "none"})
    return (found, (None, frozenset())) if found[0] is not None else ((None, frozenset()),)


_LIBRARIES = _libraries()


def _receivers(packet_filter: PacketFilter) -> list[InboundSa]:
    found = []
    for library in _LIBRARIES:
        run_cipher._library, run_cipher._trusted = library  # type: ignore[assignment]
        found.append(InboundSa(256, _GCM, _keys(_GCM), filter=packet_filter))
    run_cipher._library, run_cipher._trusted = None, frozenset()
    return found


def twins(data: bytes) -> object:
    """Genuine packets with anything inside: alone or in a run, by either cipher, the verdict is the same (P6, P7)."""
    texts = [text for text in packets_in(data, 16) if text]
    if not texts:
        return None
    size = max(4, len(texts[0]) & ~3)
    texts = [text[:size].ljust(size, text[-1:]) for text in texts]
    sealed = []
    for number, text in enumerate(texts):
        head, iv = struct.pack(">II", 256, number + 1), number.to_bytes(8, "big")
        sealed.append(head + iv + _SEALER.encrypt(bytes(4) + iv, text, head))
    stride = len(sealed[0])
    if stride * len(sealed) > 1 << 16:
        return None
    verdict = None
    for packet_filter in (INBOUND, NARROW):
        seen = []
        for receiver in _receivers(packet_filter):
            got = [bytes(packet) for packet in receiver.open(sealed)]
            counters = receiver.counters
            seen.append((got, counters))
        assert all(each == seen[0] for each in seen), seen
        for receiver in _receivers(packet_filter):
            SLOTS.buffer[: stride * len(sealed)] = b"".join(sealed)
            run = Run(SLOTS)
            run.fill(stride * len(sealed), stride, SOURCE, 0, [])
            run.narrow(0, len(sealed))
            frames, _ = receiver.open_run(run, OUT, low=1, rising=True, merge_udp=True)
            assert receiver.counters == seen[0][1], (receiver.counters, seen[0][1])
            _looked_at(frames)
        counters = seen[0][1]
        verdict = (min(counters.packets, 2), min(counters.malformed, 1), min(counters.selector_drops, 1))
    return verdict


def offloaded(random: Random) -> None:
    """Frames and decrypted slots: no crash, and both codecs say the same."""
    addresses = random.choice(ADDRESSES)
    stream = random.random() < 0.7
    payload = random.randbytes(random.randint(1, 900))
    body = (packets.tcp if stream else packets.udp)(payload, addresses=addresses, partial=True)
    packet = packets.ip(body, 6 if stream else 17, addresses)
    kind = (packets.TCPV4 if addresses is packets.V4 else packets.TCPV6) if stream else packets.UDP_L4
    whole = packets.frame(
        packet, kind=kind, size=random.randint(1, 300), start=len(packet) - len(body), offset=16 if stream else 6
    )
    frame = damaged(random, whole)
    count, size, *_ = agree("examine", frame, len(frame))
    stride = 16 + size + 32
    out = bytearray(min(count, 64) * stride + random.randint(-20, 20) if count else 64)
    agree("segment", frame, len(frame), out, 0, stride, 16, 3, 0, min(count, 64))
    arena = bytearray(
        damaged(random, b"".join(bytes(16) + _inner(random)[:60].ljust(62, b"\1") + bytes(16) for _ in range(8)))
    )
    numbers = (random.choice((94, 95, random.randint(-2, 200))), random.randint(-1, 3), random.randint(-1, 10))
    agree("coalesce", arena, len(arena), *numbers, 16, 16, bytes(8), bytearray(random.randint(0, 1000)), True)
    ends = sorted(random.choices(range(-1, len(frame) + 2), k=4))
    agree("review", frame, [(start, end, 1, 1) for start, end in pairwise(ends)])
    agree("survey", arena, len(arena), random.randint(0, 100), random.randint(-1, 9))


def agree(name: str, *arguments: object) -> tuple[int, ...]:
    """The result of both codecs, or of the only one there is."""
    results = []
    modules = [offload_plain]
    if offload.ACTIVE == "compiled":
        from ikeclient.esp.codec import _offload

        modules.append(_offload)
    for module in modules:
        copies = [bytearray(a) if isinstance(a, bytearray) else a for a in arguments]
        try:
            result: object = getattr(module, name)(*copies)
        except (ValueError, IndexError) as error:
            result, copies = type(error), []
        results.append((result, copies))
    assert all(result == results[0] for result in results), name
    found = results[0][0]
    return found if isinstance(found, tuple) else (0, 0)


# The proxy


_NAME = b"\x03\x0cgit.corp.org\x00\x16"
SOCKS = [
    b"\x05\x02\x00\x02",
    b"\x01\x05alice\x06secret",
    b"\x05\x01\x00" + _NAME,
    b"\x05\x03\x00\x01\x0a\0\0\1\0\x50",
    b"\x05\x01\x00\x04" + bytes(16) + b"\0\x50",
    bytes(3) + _NAME + b"data",
]


def read_socks(data: bytes) -> object:
    """What clients of SOCKS5 send; what is read was there, and a destination is one."""
    found = []
    for parse in (socks.parse_greeting, socks.parse_username_password, socks.parse_request, socks.parse_datagram):
        with suppress(IkeclientError):
            parsed = parse(data)
            if isinstance(parsed, tuple):
                assert 0 < parsed[1] <= len(data)
            found.append(type(parsed).__name__)
    return tuple(found)


def http_requests() -> list[bytes]:
    """Requests to a proxy."""
    fields = (
        b"Host: a\r\nContent-Length: 5",
        b"Host: a\r\nTransfer-Encoding: chunked",
        b"Connection: x, close\r\nX: y\r\nProxy-Authorization: Basic YTpi",
    )
    lines = (b"CONNECT a.b:443", b"GET http://a.b:80/c?d", b"POST http://[fd99::1]/", b"OPTIONS http://a")
    return [line + b" HTTP/1.1\r\n" + more + b"\r\n\r\nbody" for line in lines for more in fields]


def read_http(data: bytes) -> object:
    """Requests of HTTP are refused, or forwarded with no more lines than were read."""
    found = http.parse_head(data)
    if found is None:
        return None
    head, length = found
    assert length <= len(data)
    http.credentials(head)
    if head.method == b"CONNECT":
        return str(http.tunnel_destination(head)).isprintable()
    sent = http.forward(head)
    lines = sent.head.split(b"\r\n")
    assert len(lines) <= len(head.fields) + 6
    assert all(b"\n" not in line and b"\r" not in line and b"\0" not in line for line in lines), lines
    return sent.body is None


PLACES = [
    b"a.example:443",
    b"[fd99::1]:80",
    b"10.0.0.1:1",
    b"127.0.0.1:8080:a.example:80",
    b"1080",
    b"[::1]:53:[fd99::1]:53",
]


def read_place(data: bytes) -> object:
    """Destinations and listeners as people write them."""
    text, found = data.decode("utf-8", "surrogateescape"), []
    readers = (Destination.parse, lambda text: parse_listener(Kind.SOCKS, text), parse_forward)
    for read in readers:
        with suppress(IkeclientError):
            found.append(str(read(text)).isprintable())
    return tuple(found)
