"""Fuzz targets: what a gateway sends, before it has proven anything and, with the keys, afterwards.

The initiator's targets run whole connections in the simulation, whose gateway follows the protocol but for the damage.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from random import Random

from eap_gateway import FAILURE, SUCCESS, challenge, mschap_request
from eap_gateway import request as eap_request
from sim_certificates import authority, gateway_certificate
from sim_gateway import ESP_GCM, NET, GatewaySetup
from sim_script import Scribe
from sim_world import AUTHS, PATH, Sent, Weather, World, altered, client_config, reverse

from fuzz.certificates import ALGORITHMS, odd_certificate
from fuzz.damage import damaged
from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, IkeSuite
from ikeclient.errors import IkeclientError, IntegrityError, NegotiationRefused, ParseError, ProtocolError
from ikeclient.ike.events import Closed, Configuration, Notice, Path
from ikeclient.ike.v2.child.child_sa import agreed
from ikeclient.ike.v2.exchanges import configuration as cfg
from ikeclient.ike.v2.message.envelope import MAX_MESSAGE, Envelope
from ikeclient.ike.v2.rules.negotiate import offer_esp
from ikeclient.ike.v2.rules.selectors import ANY_IPV4, ANY_IPV6, intersect, narrowed
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.cursor import Reader, Writer
from ikeclient.wire.header import Header
from ikeclient.wire.identity import AuthPayload, CertPayload, Identity, IdrPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Message, Payload, RawPayload, emit_chain
from ikeclient.wire.registry import (
    AuthMethod,
    CertEncoding,
    ConfigAttributeType,
    ConfigType,
    EapType,
    ExchangeType,
    IdType,
    NotifyType,
    PayloadType,
    ProtocolId,
)
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

SPI_I, SPI_R = b"\x11" * 8, b"\x22" * 8
NETWORKS = ("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.88.0.1/32", "10.99.0.0/24", "127.0.0.0/8", "fe80::/10", "ff00::/8")


# Envelope and fragments


def _suite(random: Random) -> IkeSuite:
    aead = random.random() < 0.5
    return IkeSuite(
        encryption=ENCRYPTION["aes128gcm16" if aead else "aes256"],
        integrity=None if aead else INTEGRITY["sha256"],
        prf=PRF["prfsha256"],
        key_exchange=KEY_EXCHANGE["x25519"],
    )


def _keys(suite: IkeSuite) -> IkeKeys:
    cipher = bytes(suite.encryption.key_length + suite.encryption.salt_length)
    mac = bytes(suite.integrity.key_length if suite.integrity else 0)
    return IkeKeys(d=bytes(32), ai=mac, ar=mac, ei=cipher, er=cipher, pi=bytes(32), pr=bytes(32))


def envelope(random: Random) -> None:
    """SK and SKF payloads: damaged, mixed, doubled, and made with the keys but against the rules (K1, K2, K7, K8)."""
    suite = _suite(random)
    keys = _keys(suite)
    ours = Envelope(suite, keys, initiator=True, entropy=random.randbytes, fragment=random.random() < 0.9)
    theirs = Envelope(suite, keys, initiator=False, entropy=random.randbytes, fragment=True)
    datagrams: list[bytes] = []
    for _ in range(random.randint(1, 3)):
        header = Header(
            spi_i=SPI_I,
            spi_r=SPI_R,
            next_payload=PayloadType.NONE,
            exchange=ExchangeType.INFORMATIONAL,
            initiator=False,
            response=random.random() < 0.5,
            message_id=random.randint(0, 2),
        )
        payloads = odd_payloads(random, random.randint(0, 4))
        datagrams += theirs.seal(header, payloads, limit=random.choice((120, 300, 65535)))
        # With the keys anything can be inside, and any number of fragments claimed.
        inside = random.randbytes(random.randint(0, 80)) if random.random() < 0.5 else bytes(random.randint(0, 2000))
        number, total = random.choice(((0, 1), (1, 1), (1, 64), (2, 2), (3, 2), (65535, 65535), (64, 64), (1, 65)))
        numbers = number.to_bytes(2, "big") + total.to_bytes(2, "big")
        kind = random.choice((PayloadType.ENCRYPTED, PayloadType.ENCRYPTED_FRAGMENT))
        first = PayloadType(random.choice((0, 33, 35, 39, 41, 46, 47, 53, 54, 200)))
        before = numbers if kind == PayloadType.ENCRYPTED_FRAGMENT else b""
        datagrams.append(theirs._sealed(header, kind, before, first, inside))
    datagrams += random.choices(datagrams, k=random.randint(0, 4))
    random.shuffle(datagrams)
    for number, datagram in enumerate(datagrams):
        data = damaged(random, datagram) if random.random() < 0.4 else datagram
        with suppress(ParseError, IntegrityError):
            message = Message.parse(data)
            ours.genuine(data, message)
            ours.open(data, message, float(number * random.choice((0, 20))))
        stored = [part for each in ours._reassembly.values() for part in each.parts.values()]
        assert len(ours._reassembly) <= 2
        assert sum(map(len, stored)) <= 2 * MAX_MESSAGE


# What gateways grant


def _odd_value(random: Random, kind: ConfigAttributeType) -> bytes:
    values = (
        b"",
        ip_address("10.88.0.9").packed,
        ip_address("127.0.0.1").packed,
        ip_address("255.255.255.255").packed,
        ip_address("fd88::1").packed + b"\x80",
        ip_address("::ffff:10.0.0.1").packed + b"\x81",
        ip_address("fe80::1").packed,
        ip_address("10.0.0.1").packed + ip_address("255.0.255.0").packed,
        ip_address("10.0.0.0").packed + ip_address("255.0.0.0").packed,
        ip_address("fd00::").packed + b"\x10",
        b"corp.example",
        b"corp.example,\x1b[31m evil..example \xff a" + b"b" * random.randint(0, 300),
        (b"a." * 200)[: random.randint(0, 400)],
        random.randbytes(random.randint(0, 40)),
    )
    value = random.choice(values)
    return damaged(random, value) if kind % 2 and random.random() < 0.3 else value


def odd_configuration(random: Random) -> ConfigPayload:
    """A CFG payload with anything in it."""
    kinds = [random.choice((*ConfigAttributeType, ConfigAttributeType(9999))) for _ in range(random.randint(0, 12))]
    attributes = tuple(ConfigAttribute(type=kind, value=_odd_value(random, kind)) for kind in kinds)
    type_ = random.choice((ConfigType.REPLY,) * 6 + (ConfigType.REQUEST, ConfigType(0), ConfigType(200)))
    return ConfigPayload(type=type_, attributes=attributes * random.choice((1, 1, 1, 100)))


def configuration(random: Random) -> None:
    """CFG_REPLY: what is granted is usable, capped, and said in words that cannot move a cursor (K12)."""
    writer = Writer()
    odd_configuration(random).emit(writer)
    data = writer.bytes()
    with suppress(ParseError):
        payload = ConfigPayload.parse(Reader(damaged(random, data) if random.random() < 0.5 else data))
        with suppress(NegotiationRefused):
            granted, notices = cfg.reply(payload, gateway=ip_address("203.0.113.7"))
            _check_granted(granted)
            assert all(notice.isprintable() for notice in notices)


def _check_granted(granted: Configuration) -> None:
    assert len(granted.addresses) <= 16
    assert len(granted.dns_servers) <= 16
    assert len(granted.dns_domains) <= 64
    assert len(granted.subnets) <= 256
    for address in granted.addresses:
        assert not any((address.ip.is_loopback, address.ip.is_multicast, address.ip.is_unspecified))
    for domain in granted.dns_domains:
        assert cfg.valid_domain(domain)


def _odd_selector(random: Random) -> TrafficSelector:
    selector = TrafficSelector.from_network(ip_network(random.choice(NETWORKS)))
    low, high = sorted((int(selector.start) + random.randint(0, 3), int(selector.end)))
    ports = sorted((random.choice((0, 1, 65535)), random.choice((0, 443, 65535))))
    family = type(selector.start)
    return TrafficSelector(
        start=family(low),
        end=family(high),
        protocol=random.choice((0, 0, 6, 17, 255)),
        start_port=ports[0],
        end_port=ports[1],
    )


def odd_selectors(random: Random) -> tuple[TrafficSelector, ...]:
    """Selectors of both families, narrow, wide and overlapping."""
    count = random.choice((0, 1, 2, 3, 20, 255))
    return tuple(_odd_selector(random) for _ in range(count))


def selectors(random: Random) -> None:
    """TSi and TSr: what comes out lies inside of what was asked for (K11)."""
    writer = Writer()
    TsrPayload(selectors=odd_selectors(random)).emit(writer)
    data = writer.bytes()
    with suppress(ParseError):
        theirs = TsrPayload.parse(Reader(damaged(random, data) if random.random() < 0.5 else data)).selectors
        asked = random.choice(((ANY_IPV4,), (ANY_IPV4, ANY_IPV6), (NET,), odd_selectors(random)))
        for selector in theirs:
            assert str(selector).isprintable()
            assert all(network.version == selector.version for network in selector.networks())
        for common in intersect(asked, theirs):
            assert any(one.contains(common) for one in asked)
            assert any(one.contains(common) for one in theirs)
        with suppress(ProtocolError):
            for part in narrowed("TSr", asked, theirs):
                assert any(one.contains(part) for one in asked)
                assert any(one.contains(part) for one in theirs)
        offer = offer_esp((ESP_GCM,), 0x1000, esn=True, key_exchange=False)
        answer = (offer, TsiPayload(selectors=theirs[:2]), TsrPayload(selectors=theirs), *odd_payloads(random, 1))
        with suppress(IkeclientError):
            settled = agreed(answer, offer, asked, asked)
            assert all(any(one.contains(found) for one in asked) for found in (*settled.local, *settled.remote))


# Whole connections


def _odd_notify(random: Random) -> NotifyPayload:
    type_ = random.choice((*NotifyType, NotifyType(8191), NotifyType(40000), NotifyType.AUTH_LIFETIME))
    protocol, spi = random.choice(((0, b""), (3, b"\0\0\0\1"), (1, bytes(8)), (3, random.randbytes(4))))
    data = random.choice((b"", b"\0", b"\0\0", b"\xff\xff\xff\xff", b"\0\x1f", random.randbytes(random.randint(0, 70))))
    return NotifyPayload(type=type_, protocol=ProtocolId(protocol), spi=spi, data=data)


def _odd_eap(random: Random) -> EapPayload:
    text = b"S=" + b"A" * 40 + b" M=\x1b[2J\xff"
    packets = (
        SUCCESS,
        FAILURE,
        challenge(random.randint(0, 255)),
        eap_request(EapType.IDENTITY),
        eap_request(EapType.NOTIFICATION, b"\x1b[31m hello \xff" * random.choice((1, 80))),
        eap_request(EapType.MD5_CHALLENGE, b"\x10" + bytes(16)),
        eap_request(EapType.GTC, b"Password:"),
        eap_request(random.randint(1, 253), random.randbytes(random.randint(0, 20))),
        damaged(random, eap_request(EapType.IDENTITY)),
        mschap_request(random.randint(0, 7), text),
        mschap_request(4, b"E=691 R=1 C=" + b"0" * random.choice((31, 32)) + b" V=3 M=\x1b no"),
    )
    return EapPayload(packet=random.choice(packets))


def _odd_auth(random: Random) -> AuthPayload:
    identifier = random.choice(ALGORITHMS)
    data = random.choice(
        (b"", bytes(32), bytes((len(identifier),)) + identifier + bytes(64), random.randbytes(random.randint(0, 300)))
    )
    return AuthPayload(method=AuthMethod(random.choice((0, 1, 2, 9, 10, 11, 13, 14, 14, 14, 255))), data=data)


def _odd_identity(random: Random) -> IdrPayload:
    data = random.choice((b"vpn.example.com", b"VPN.example.com\0", b"", b"\x1b[31m", b"\x30\0", random.randbytes(16)))
    kinds = [kind for kind in (*IdType, IdType(77)) if kind not in (IdType.IPV4_ADDR, IdType.IPV6_ADDR)]
    return IdrPayload(identity=Identity(type=random.choice(kinds), data=data))


def _odd_certificates(random: Random) -> CertPayload:
    encoding = (
        CertEncoding.X509_SIGNATURE if random.random() < 0.8 else CertEncoding(random.choice((1, 11, 12, 13, 200)))
    )
    data = random.choice((odd_certificate(random), gateway_certificate().der, authority().der, b"http://127.0.0.1/"))
    return CertPayload(encoding=encoding, data=data)


def _spis(random: Random) -> tuple[bytes, ...]:
    return tuple(random.randbytes(4) for _ in range(random.choice((0, 1, 300))))


def odd_payloads(random: Random, count: int) -> list[Payload]:
    """Payloads that are well formed, and mean something else than one would like."""
    makers = (
        _odd_notify,
        _odd_notify,
        _odd_eap,
        _odd_auth,
        _odd_identity,
        _odd_certificates,
        odd_configuration,
        lambda r: DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=_spis(r)),
        lambda r: DeletePayload(protocol=ProtocolId.IKE),
        lambda r: KePayload(method=KEY_EXCHANGE["x25519"].id, data=r.choice((bytes(32), r.randbytes(32)))),
        lambda r: NoncePayload(nonce=r.randbytes(r.randint(16, 256))),
        lambda r: VendorIdPayload(data=r.randbytes(r.randint(0, 30))),
        lambda r: offer_esp((ESP_GCM,), r.randint(0, 300), esn=r.random() < 0.5, key_exchange=False),
        lambda r: TsiPayload(selectors=odd_selectors(r)),
        lambda r: TsrPayload(selectors=odd_selectors(r)),
        lambda r: RawPayload(TYPE=PayloadType(r.choice((1, 49, 200))), critical=r.random() < 0.3, body=r.randbytes(9)),
    )
    made: list[Payload] = [random.choice(makers)(random) for _ in range(count)]  # type: ignore[operator]
    return [payload for payload in made if _length(payload) < 20_000]


def _length(payload: Payload) -> int:
    writer = Writer()
    payload.emit(writer)
    return len(writer.bytes())


def mangled(random: Random, payloads: Sequence[Payload]) -> list[Payload]:
    """A message of a gateway with some payloads damaged, left out, doubled, moved or replaced."""
    found = list(payloads)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(found)) if found else 0
        match random.randint(0, 5):
            case 0 if found:
                del found[at]
            case 1 if found:
                found.insert(random.randint(0, len(found)), found[at])
            case 2 if found:
                writer = Writer()
                found[at].emit(writer)
                body = damaged(random, writer.bytes())[:60_000]
                found[at] = RawPayload(TYPE=found[at].TYPE, critical=random.random() < 0.3, body=body)
            case 3 if found:
                same = [p for p in odd_payloads(random, 20) if p.TYPE == found[at].TYPE]
                found[at : at + 1] = same[:1] or odd_payloads(random, 1)
            case 4:
                random.shuffle(found)
            case _:
                found[at:at] = odd_payloads(random, random.choice((1, 1, 2, 30)))
    while found and len(emit_chain(found)) > 60_000:
        found.pop()
    return found


def _world(random: Random, auth: str) -> World:
    config = altered(
        client_config(auth), request=random.choice((frozenset({"ipv4", "dns"}), frozenset({"ipv4", "ipv6"})))
    )
    setup = GatewaySetup(auth=auth, mobike=random.random() < 0.5, cookies=random.choice((0, 0, 1)))
    return World(seed=random.getrandbits(32), config=config, setup=setup, weather=Weather(delay=0.01))


def check(world: World) -> None:
    """Nothing that the client said or did is a bug, or may harm who reads it."""
    for event in world.events:
        match event:
            case Notice():
                assert event.text.isprintable(), event.text
                assert "bug in ikeclient" not in event.text, event.text
            case Configuration():
                _check_granted(event)
            case Closed(error=error) if error is not None:
                assert error.exit_code != 1, error.lines()
                assert 1 <= len(error.lines()) <= 3
                assert all(line.isprintable() for line in error.lines()), error.lines()
    sent = [each for each in world.log if each.to_gateway]
    assert len(sent) < 2_000


def initiator(random: Random) -> None:
    """Connecting, while every answer may be odd: it ends connected or with an error (N, K and E rows)."""
    world = _world(random, random.choice(list(AUTHS)))
    stages = random.sample(("init", "auth", "eap", "final"), random.randint(1, 2))
    for stage in stages:
        world.gateway.edit[stage] = lambda payloads: mangled(random, payloads) if random.random() < 0.8 else payloads
    raw = random.random() < 0.5

    def forge(sent: Sent) -> bool:
        """Somebody on the path adds a damaged copy of what passes, in front of it."""
        if raw and random.random() < 0.3:
            data = damaged(random, sent.data)
            path = sent.path if sent.to_gateway else reverse(sent.path)
            world.at(world.now, lambda: world.to_client(data, path))
        return False

    world.drop = forge
    world.start()
    assert world.run(130, World.finished)  # a login may wait a minute for a person
    world.run(5)
    check(world)


def established(random: Random) -> None:
    """An IKE SA whose gateway sends odd requests and odd answers, all of them protected (S rows)."""
    world = _world(random, random.choice(list(AUTHS)))
    world.connect()
    if random.random() < 0.5:
        _answer_oddly(random, world)
    scribe, number = Scribe(world.sa.keying), 0
    exchanges = (ExchangeType.INFORMATIONAL, ExchangeType.CREATE_CHILD_SA, ExchangeType.IKE_AUTH, ExchangeType(99))
    elsewhere = replace(PATH, local_address=ip_address("192.0.2.77"), remote_port=4500)
    for _ in range(random.randint(1, 6)):
        match random.randint(0, 6):
            case 0:
                world.at_client(lambda client, now: client.rekey(now))
            case 1:
                world.at_gateway(lambda sa, now: sa.rekey(now))
            case 2:
                world.at_client(lambda client, now: client.path_changed(elsewhere, now))
            case 3:
                children = random.choice((world.sa, world.gateway_sa)).children
                for spi in [child.spi_in for child in children]:
                    world.at_client(lambda client, now, spi=spi: client.rekey_child(spi, now))  # type: ignore[misc]
            case _:
                payloads = odd_payloads(random, random.randint(0, 5))
                if random.random() < 0.5:
                    payloads = mangled(random, (*_child_request(random), *payloads))
                path, limit = world.sa.channel.path, random.choice((300, 65535))
                for data in scribe.write(random.choice(exchanges), payloads, message_id=number, limit=limit):
                    world.to_client(damaged(random, data) if random.random() < 0.1 else data, path)
                number += random.choice((0, 1, 1, 1))
        world.run(random.choice((0.1, 3)))
        if world.closed or world.client._ike_sas is None:
            break
    world.run(60)
    check(world)


def _child_request(random: Random) -> tuple[Payload, ...]:
    offer = offer_esp((ESP_GCM,), random.randint(1, 2**32 - 1), esn=True, key_exchange=False)
    rekeyed = NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=random.randbytes(4))
    selected = (TsiPayload(selectors=(NET,)), TsrPayload(selectors=(NET,)))
    return (offer, NoncePayload(nonce=bytes(32)), *selected, *random.choice(((), (rekeyed,))))


def _answer_oddly(random: Random, world: World) -> None:
    """Let the gateway's IKE SA alter its answers."""
    channel = world.gateway_sa.channel
    genuine = channel.answer

    def answer(request: Header, reply: Sequence[Payload], path: Path) -> None:
        genuine(request, mangled(random, reply) if random.random() < 0.6 else reply, path)

    channel.answer = answer  # type: ignore[method-assign]
