"""Two ends of a keyed IKE SA for tests, and a forger who knows the keys and breaks the rules."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ikeclient.crypto.algorithms.ciphers import PayloadCipher, payload_cipher
from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, IkeSuite
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.header import Header
from ikeclient.wire.notify import DeletePayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Message, Payload, emit_chain, first_type
from ikeclient.wire.registry import ExchangeType, NotifyType, PayloadType, ProtocolId

SPI_I, SPI_R = b"\x11" * 8, b"\x22" * 8
MESSAGE: tuple[Payload, ...] = (
    NotifyPayload(type=NotifyType.INITIAL_CONTACT),
    DeletePayload(protocol=ProtocolId.IKE),
    VendorIdPayload(data=bytes(range(50))),
)


def suite_of(name: str) -> IkeSuite:
    """`aes256gcm16` or `aes256-sha256`."""
    encryption, _, integrity = name.partition("-")
    return IkeSuite(
        encryption=ENCRYPTION[encryption],
        integrity=INTEGRITY.get(integrity),
        prf=PRF["prfsha256"],
        key_exchange=KEY_EXCHANGE["x25519"],
    )


SUITE_NAMES = [
    *(name for name, encryption in ENCRYPTION.items() if encryption.aead),
    *(f"{name}-{hmac}" for name, encryption in ENCRYPTION.items() if not encryption.aead for hmac in INTEGRITY),
]


def stream(seed: str) -> Callable[[int], bytes]:
    """Entropy that is the same in every run."""
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += 1
        return hashlib.shake_128(f"{seed} {position}".encode()).digest(count)

    return take


def keys_of(suite: IkeSuite) -> IkeKeys:
    """Seven different keys of the right lengths."""
    take = stream("keys")
    encryption = suite.encryption.key_length + suite.encryption.salt_length
    integrity = suite.integrity.key_length if suite.integrity else 0
    return IkeKeys(
        d=take(32),
        ai=take(integrity),
        ar=take(integrity),
        ei=take(encryption),
        er=take(encryption),
        pi=take(32),
        pr=take(32),
    )


def ends(name: str, *, fragment: bool = True) -> tuple[Envelope, Envelope]:
    """The initiator's envelope and the responder's."""
    suite = suite_of(name)
    keys = keys_of(suite)
    initiator = Envelope(suite, keys, initiator=True, entropy=stream("initiator"), fragment=fragment)
    return initiator, Envelope(suite, keys, initiator=False, entropy=stream("responder"), fragment=fragment)


def header(message_id: int = 1, *, initiator: bool = True, response: bool = False) -> Header:
    """The header of a protected message."""
    return Header(
        spi_i=SPI_I,
        spi_r=SPI_R,
        next_payload=PayloadType.NONE,
        exchange=ExchangeType.INFORMATIONAL,
        initiator=initiator,
        response=response,
        message_id=message_id,
    )


def opened(envelope: Envelope, datagram: bytes, now: float = 0.0) -> tuple[Payload, ...] | None:
    """What a receiver makes of one datagram."""
    return envelope.open(datagram, Message.parse(datagram), now)


def blob(size: int) -> tuple[Payload, ...]:
    """A message whose payloads take exactly `size` bytes."""
    return (VendorIdPayload(data=random.Random(size).randbytes(size - 4)),)


@dataclass(frozen=True, slots=True)
class Forger:
    """Seals what no honest sender would; by default with the responder's keys, so that an initiator believes it."""

    name: str
    initiator: bool = False

    @property
    def cipher(self) -> PayloadCipher:
        """The cipher of the direction."""
        suite = suite_of(self.name)
        keys = keys_of(suite)
        own = (keys.ei, keys.ai) if self.initiator else (keys.er, keys.ar)
        return payload_cipher(suite.encryption, suite.integrity, *own)

    def seal(
        self,
        plaintext: bytes,
        *,
        inner: PayloadType = PayloadType.NONE,
        part: tuple[int, int] | None = None,
        message_id: int = 1,
        response: bool = True,
        before: Sequence[Payload] = (),
    ) -> bytes:
        """A datagram around `plaintext`, which comes with its padding; `part` makes it a fragment, number and total."""
        cipher = self.cipher
        iv = stream(f"{message_id} {part} {plaintext.hex()}")(cipher.iv_length)
        filler = bytes(len(iv) + len(plaintext) + cipher.icv_length)
        envelope: Payload = EncryptedPayload(inner=inner, body=filler)
        if part is not None:
            envelope = EncryptedFragmentPayload(inner=inner, number=part[0], total=part[1], body=filler)
        whole = Message(
            header=header(message_id, initiator=self.initiator, response=response), payloads=(*before, envelope)
        ).emit()
        associated = whole[: -len(filler)]
        return associated + iv + cipher.seal(iv, plaintext, associated)

    def padded(self, text: bytes) -> bytes:
        """`text` with the least padding that makes whole blocks."""
        pad = -(len(text) + 1) % self.cipher.block_length
        return text + bytes(pad) + bytes((pad,))

    def parts(
        self, payloads: Sequence[Payload], count: int, *, message_id: int = 1, response: bool = True
    ) -> list[bytes]:
        """A message in `count` fragments of about equal size."""
        text = emit_chain(payloads)
        cuts = [len(text) * n // count for n in range(count + 1)]
        return [
            self.seal(
                self.padded(text[cuts[n] : cuts[n + 1]]),
                inner=first_type(payloads) if n == 0 else PayloadType.NONE,
                part=(n + 1, count),
                message_id=message_id,
                response=response,
            )
            for n in range(count)
        ]
