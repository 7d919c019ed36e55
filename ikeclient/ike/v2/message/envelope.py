"""Protected messages: the SK and SKF payloads (RFC 7296 section 3.14, RFC 7383), both directions of one IKE SA.

The only place that encrypts, decrypts, fragments and reassembles. A fragment is stored only after its own integrity
check passed, and storage is bounded, so that forged fragments cost nothing: at most one request and one response of
the peer are being put together at a time, each of at most 64 fragments and 64 KiB and for at most 30 seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from ikeclient.crypto.algorithms.ciphers import PayloadCipher, payload_cipher
from ikeclient.crypto.algorithms.keymat import IkeKeys
from ikeclient.crypto.algorithms.transforms import IkeSuite
from ikeclient.errors import IntegrityError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.encrypted import EncryptedFragmentPayload, EncryptedPayload
from ikeclient.wire.header import HEADER_LENGTH, Header
from ikeclient.wire.payload import GENERIC_HEADER_LENGTH, Message, Payload, emit_chain, first_type, parse_chain
from ikeclient.wire.registry import PayloadType

FRAGMENT_NUMBERS_LENGTH = 4
MAX_FRAGMENTS = 64
MAX_MESSAGE = 65535
REASSEMBLY_TIME = 30.0


@dataclass(slots=True)
class _Reassembly:
    message_id: int
    total: int
    deadline: float
    parts: dict[int, bytes] = field(default_factory=dict)
    inner: PayloadType = PayloadType.NONE


class Envelope:
    """Seals what we send and opens what the peer sends, for one IKE SA.

    `initiator` is whether we are the original initiator of the SA, which decides about keys (RFC 7296 section 2.14).
    """

    def __init__(
        self, suite: IkeSuite, keys: IkeKeys, *, initiator: bool, entropy: Callable[[int], bytes], fragment: bool
    ) -> None:
        ours = (keys.ei, keys.ai) if initiator else (keys.er, keys.ar)
        theirs = (keys.er, keys.ar) if initiator else (keys.ei, keys.ai)
        self._seal: PayloadCipher = payload_cipher(suite.encryption, suite.integrity, *ours)
        self._open: PayloadCipher = payload_cipher(suite.encryption, suite.integrity, *theirs)
        self._aead = suite.encryption.aead
        self._entropy = entropy
        self._counter = 0
        self._fragment = fragment
        self._reassembly: dict[bool, _Reassembly] = {}  # of a request (False) and of a response (True)

    # Sending

    def _iv(self) -> bytes:
        """A counter for the AEADs, which need uniqueness (RFC 5282 section 3.1); unpredictable bytes for CBC."""
        if not self._aead:
            return self._entropy(self._seal.iv_length)
        self._counter += 1
        return self._counter.to_bytes(self._seal.iv_length, "big")

    def _padding(self, length: int) -> bytes:
        pad = -(length + 1) % self._seal.block_length
        return bytes(pad) + bytes((pad,))

    def _overhead(self) -> int:
        return self._seal.iv_length + self._seal.icv_length + self._seal.block_length

    def _sealed(
        self, header: Header, payload_type: PayloadType, before: bytes, inner: PayloadType, text: bytes
    ) -> bytes:
        """One datagram: IKE header, generic header, `before` (fragment numbers), IV, ciphertext, ICV."""
        plaintext = text + self._padding(len(text))
        iv = self._iv()
        body_length = len(before) + len(iv) + len(plaintext) + self._seal.icv_length
        length = HEADER_LENGTH + GENERIC_HEADER_LENGTH + body_length
        outer = Header(
            spi_i=header.spi_i,
            spi_r=header.spi_r,
            next_payload=payload_type,
            exchange=header.exchange,
            initiator=header.initiator,
            response=header.response,
            message_id=header.message_id,
            length=length,
        ).emit()
        generic = bytes((inner, 0)) + (GENERIC_HEADER_LENGTH + body_length).to_bytes(2, "big")
        associated = outer + generic + before
        return associated + iv + self._seal.seal(iv, plaintext, associated)

    def room(self, length: int) -> int:
        """The longest chain of payloads, in bytes, of a message of at most `length` bytes in one piece."""
        text = length - HEADER_LENGTH - GENERIC_HEADER_LENGTH - self._seal.iv_length - self._seal.icv_length
        return text - text % self._seal.block_length - 1

    def length(self, room: int) -> int:
        """The length of a message whose payloads take all the `room` there is."""
        return HEADER_LENGTH + GENERIC_HEADER_LENGTH + self._seal.iv_length + room + 1 + self._seal.icv_length

    def seal(self, header: Header, payloads: Sequence[Payload], *, limit: int) -> list[bytes]:
        """The datagrams of one message: a single SK, or SKF fragments of at most `limit` bytes each.

        Raises `ValueError` for a limit that leaves no room for anything in a fragment.
        """
        text = emit_chain(payloads)
        inner = first_type(payloads)
        whole = HEADER_LENGTH + GENERIC_HEADER_LENGTH + self._overhead() + len(text)
        if not self._fragment or whole <= limit:
            return [self._sealed(header, PayloadType.ENCRYPTED, b"", inner, text)]
        room = limit - HEADER_LENGTH - GENERIC_HEADER_LENGTH - FRAGMENT_NUMBERS_LENGTH - self._overhead()
        if room < 1:
            raise ValueError(f"no fragment of a message fits into {limit} bytes")
        chunks = [text[at : at + room] for at in range(0, len(text), room)]
        return [
            self._sealed(
                header,
                PayloadType.ENCRYPTED_FRAGMENT,
                number.to_bytes(2, "big") + len(chunks).to_bytes(2, "big"),
                inner if number == 1 else PayloadType.NONE,
                chunk,
            )
            for number, chunk in enumerate(chunks, 1)
        ]

    # Receiving

    def open(self, data: bytes, message: Message, now: float) -> tuple[Payload, ...] | None:
        """The payloads inside a protected message, or None while fragments of it are missing.

        Raises `IntegrityError` for a message to drop, forged, unprotected or beyond our limits, and `ParseError` for
        one that is genuine but malformed inside (the peer is broken).
        """
        match message.payloads:
            case (*_, EncryptedPayload() as payload):
                text = self._opened(data, payload.body)
                self._reassembly.pop(message.header.response, None)
                return parse_chain(text, payload.inner)
            case (*_, EncryptedFragmentPayload() as fragment):
                if not self._fragment or fragment.total > MAX_FRAGMENTS:
                    raise IntegrityError(f"fragment {fragment.number} of {fragment.total}: not accepted")
                return self._collect(data, message.header, fragment, now)
        raise IntegrityError("an unprotected message where a protected one is due")

    def genuine(self, data: bytes, message: Message) -> bool:
        """Whether the integrity check of a message (or of one fragment of it) passes; nothing is stored."""
        match message.payloads:
            case (*_, EncryptedPayload(body=body)) | (*_, EncryptedFragmentPayload(body=body)):
                try:
                    self._opened(data, body)
                except IntegrityError:
                    return False
                return True
        return False

    def _opened(self, data: bytes, body: bytes) -> bytes:
        padded = self._open.open(body, data[: len(data) - len(body)])
        if not padded or padded[-1] >= len(padded):
            raise IntegrityError("padding longer than the message")
        return padded[: len(padded) - 1 - padded[-1]]

    def _collect(
        self, data: bytes, header: Header, fragment: EncryptedFragmentPayload, now: float
    ) -> tuple[Payload, ...] | None:
        """RFC 7383 section 2.6: a larger total replaces what was collected, a smaller one is ignored."""
        text = self._opened(data, fragment.body)
        collected = self._reassembly.get(header.response)
        if collected is None or collected.message_id != header.message_id or now >= collected.deadline:
            collected = _Reassembly(header.message_id, fragment.total, now + REASSEMBLY_TIME)
        elif fragment.total > collected.total:
            collected = _Reassembly(header.message_id, fragment.total, collected.deadline)
        if fragment.total < collected.total or fragment.number in collected.parts:
            return None
        self._reassembly[header.response] = collected
        if sum(map(len, collected.parts.values())) + len(text) > MAX_MESSAGE:
            del self._reassembly[header.response]
            raise IntegrityError(f"a message of more than {MAX_MESSAGE} bytes in fragments: not accepted")
        collected.parts[fragment.number] = text
        if fragment.number == 1:
            collected.inner = fragment.inner
        if len(collected.parts) < collected.total:
            return None
        del self._reassembly[header.response]
        whole = b"".join(collected.parts[n] for n in range(1, collected.total + 1))
        return parse_chain(whole, collected.inner)
