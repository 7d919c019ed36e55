"""Messages made by hand: unprotected ones as anybody can send them, protected ones with an IKE SA's own keys."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from sim_gateway import GatewaySetup, SimGateway
from sim_world import World, reverse

from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.wire.header import Header
from ikeclient.wire.notify import DeletePayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload, RawPayload
from ikeclient.wire.registry import ExchangeType, NotifyType, PayloadType, ProtocolId

INIT, AUTH = ExchangeType.IKE_SA_INIT, ExchangeType.IKE_AUTH
CREATE_CHILD, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL

UNKNOWN_CRITICAL = RawPayload(TYPE=PayloadType(200), critical=True, body=b"\0\0\0\0")


def notify(type_: NotifyType, data: bytes = b"") -> NotifyPayload:
    return NotifyPayload(type=type_, data=data)


def header(
    exchange: ExchangeType,
    spis: tuple[bytes, bytes],
    message_id: int,
    *,
    response: bool,
    initiator: bool = False,
    major: int = 2,
    minor: int = 0,
) -> Header:
    """A header as the gateway sends it while the client is the original initiator."""
    return Header(
        spi_i=spis[0],
        spi_r=spis[1],
        next_payload=PayloadType.NONE,
        exchange=exchange,
        initiator=initiator,
        response=response,
        message_id=message_id,
        major=major,
        minor=minor,
    )


def unprotected(
    exchange: ExchangeType,
    spis: tuple[bytes, bytes],
    payloads: Sequence[Payload],
    *,
    message_id: int = 0,
    response: bool = True,
    initiator: bool = False,
    major: int = 2,
    minor: int = 0,
) -> bytes:
    """What anybody can send who has seen the SPIs."""
    head = header(exchange, spis, message_id, response=response, initiator=initiator, major=major, minor=minor)
    return Message(header=head, payloads=tuple(payloads)).emit()


class Scribe:
    """Writes messages with the keys of an IKE SA, as its other end would; `keying` is the client's view."""

    def __init__(self, keying: Keying) -> None:
        self.keying = keying
        self.spis = keying.spi_i, keying.spi_r
        self._initiator = not keying.initiator
        self._envelope = Envelope(
            keying.suite,
            keying.keys,
            initiator=self._initiator,
            entropy=lambda count: b"\x5a" * count,
            fragment=keying.fragmentation,
        )

    def write(
        self,
        exchange: ExchangeType,
        payloads: Sequence[Payload],
        *,
        message_id: int,
        response: bool = False,
        limit: int = 65535,
    ) -> list[bytes]:
        """The datagrams of a protected message; several if `limit` forces fragments."""
        return self._envelope.seal(self._header(exchange, message_id, response), payloads, limit=limit)

    def one(
        self, exchange: ExchangeType, payloads: Sequence[Payload], *, message_id: int, response: bool = False
    ) -> bytes:
        """The same in one datagram."""
        return self.write(exchange, payloads, message_id=message_id, response=response)[0]

    def malformed(self, exchange: ExchangeType, *, message_id: int, response: bool = False) -> bytes:
        """A genuine message whose inside is nonsense: an SA payload that claims more than there is."""
        head = self._header(exchange, message_id, response)
        return self._envelope._sealed(head, PayloadType.ENCRYPTED, b"", PayloadType.SA, b"\0\0\xff\xff nonsense")

    def _header(self, exchange: ExchangeType, message_id: int, response: bool) -> Header:
        return header(exchange, self.spis, message_id, response=response, initiator=self._initiator)


def opened(data: bytes, keying: Keying) -> tuple[Payload, ...]:
    """The payloads of a protected message that the client sent; `keying` is the client's view."""
    envelope = Envelope(
        keying.suite,
        keying.keys,
        initiator=not keying.initiator,
        entropy=lambda count: bytes(count),
        fragment=keying.fragmentation,
    )
    payloads = envelope.open(data, Message.parse(data), 0.0)
    assert payloads is not None
    return payloads


def spi_of(world: World) -> bytes:
    """The initiator's SPI of the latest IKE_SA_INIT request."""
    return next(sent.data[:8] for sent in reversed(world.log) if sent.to_gateway and sent.data[18] == INIT)


def forged_init(
    world: World,
    edit: Callable[[list[Payload]], list[Payload]] = lambda payloads: payloads,
    *,
    setup: GatewaySetup | None = None,
    seed: str = "attacker",
) -> bytes:
    """What somebody who saw the latest IKE_SA_INIT request could answer: a good answer, changed by `edit`."""
    request = next(sent for sent in reversed(world.log) if sent.to_gateway and sent.data[18] == INIT)
    attacker = SimGateway(setup or replace(world.setup, cookies=0), random.Random(seed).randbytes)
    attacker.edit["init"] = edit
    attacker.receive(request.data, reverse(request.path), world.now)
    return attacker.outbox[-1].data


def without(kind: type[Payload]) -> Callable[[list[Payload]], list[Payload]]:
    """An edit that drops every payload of a kind."""
    return lambda payloads: [p for p in payloads if not isinstance(p, kind)]


def instead(kind: type[Payload], *others: Payload) -> Callable[[list[Payload]], list[Payload]]:
    """An edit that puts others in the place of each payload of a kind."""
    return lambda payloads: [q for p in payloads for q in (others if isinstance(p, kind) else (p,))]


def also(*others: Payload) -> Callable[[list[Payload]], list[Payload]]:
    """An edit that adds payloads at the end."""
    return lambda payloads: [*payloads, *others]


def only(*others: Payload) -> Callable[[list[Payload]], list[Payload]]:
    """An edit that keeps nothing of the original."""
    return lambda _: list(others)


def authenticating(world: World) -> Keying:
    """The keys of the first candidate, while IKE_AUTH is going on; the client's view."""
    assert world.client._handshake is not None
    return world.client._handshake._pending_auths[0].sa.keying


def deletes(world: World, keying: Keying) -> list[tuple[Payload, ...]]:
    """The payloads of every message of the client in which it deletes this IKE SA, repetitions included."""
    found = []
    for sent in world.log:
        if sent.to_gateway and sent.data[:16] == keying.spi_i + keying.spi_r and sent.data[18] == INFORMATIONAL:
            payloads = opened(sent.data, keying)
            if any(isinstance(p, DeletePayload) and p.protocol == ProtocolId.IKE for p in payloads):
                found.append(payloads)
    return found
