"""Fuzz targets: IKE payloads, EAP, ESP, the offload codec and its twin, and the proxy's clients."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from random import Random

import offload_packets as packets
from fuzz_damage import damaged

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.dataplane.cipher import VARIABLE, choose_cipher
from ikeclient.errors import IkeclientError
from ikeclient.esp.codec import choice as offload
from ikeclient.esp.codec import plain as offload_plain
from ikeclient.esp.codec.run import Run
from ikeclient.esp.codec.slots import Slots
from ikeclient.esp.sa.pair import InboundSa, OutboundSa
from ikeclient.esp.sa.selectors import PacketFilter, Selector
from ikeclient.proxy import http, socks
from ikeclient.wire.eap import EapPacket
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.payload import Message, parse_chain
from ikeclient.wire.registry import PayloadType

ADDRESSES = (packets.V4, packets.V6)


def wire(random: Random) -> None:
    """IKE messages and chains of payloads."""
    chain, kind = b"", random.choice(list(PayloadType))
    for _ in range(random.randint(1, 4)):
        body = random.randbytes(random.randint(0, 60))
        following = random.choice(list(PayloadType)) if random.random() < 0.7 else 0
        chain += bytes((int(following) & 0xFF, random.choice((0, 0x80)))) + (4 + len(body)).to_bytes(2, "big") + body
    header = bytes(16) + bytes((int(kind), 0x20, 34, 8)) + bytes(4) + (HEADER_LENGTH + len(chain)).to_bytes(4, "big")
    message = damaged(random, header + chain)
    for read in (Header.parse, Message.parse, lambda data: parse_chain(data[HEADER_LENGTH:], kind)):
        with suppress(IkeclientError):
            read(message)


def eap(random: Random) -> None:
    """EAP packets."""
    body = random.randbytes(random.randint(0, 60))
    data = bytes((random.randint(0, 5), random.randint(0, 255))) + (len(body) + 4).to_bytes(2, "big") + body
    with suppress(IkeclientError):
        EapPacket.parse(damaged(random, data))


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
    run.stride, run.tos = stride, random.randint(0, 3)
    run.narrow(0, min(count * stride, len(arena)))
    frames, _ = receiver.open_run(run, OUT, low=low, rising=rising, merge_udp=True)
    for start, end, _, _ in frames:
        assert offload.examine(OUT[start:end], end - start)[0]


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


def proxy(random: Random) -> None:
    """What clients send to the proxy."""
    name = b"\x03\x0cgit.corp.org\x00\x16"
    socks_messages = (
        b"\x05\x02\x00\x02",
        b"\x01\x05alice\x06secret",
        b"\x05\x01\x00" + name,
        bytes(3) + name + b"data",
    )
    lines = (
        b"Host: a",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Connection: x",
        b"Proxy-Authorization: Basic YTpi",
    )
    start = random.choice(
        (b"CONNECT a.b:443", b"GET http://a.b:80/c?d", b"POST http://[fd99::1]/", b"OPTIONS http://a")
    )
    head = b"\r\n".join((start + b" HTTP/1.1", *random.choices(lines, k=3))) + b"\r\n\r\n"
    for parse in (socks.parse_greeting, socks.parse_username_password, socks.parse_request, socks.parse_datagram):
        with suppress(IkeclientError):
            parse(damaged(random, random.choice(socks_messages)))
    for use in (http.forward, http.tunnel_destination, http.credentials):
        with suppress(IkeclientError):
            found = http.parse_head(damaged(random, head))
            if found is not None:
                use(found[0])
