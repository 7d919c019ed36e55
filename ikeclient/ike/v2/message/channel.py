"""The message layer of one IKE SA: payloads in, datagrams out, and back (RFC 7296 sections 2.1 to 2.3).

Joins message IDs and retransmission (`window`) with encryption and fragmentation (`envelope`), and knows nothing of
what the payloads mean.

A path may carry less than was believed and say nothing about it. So a request that stays unanswered is repeated in
smaller fragments after a while, down to what every path has to carry; the greater number of fragments tells the peer to
forget those of the first kind (RFC 7383 sections 2.5.1, 2.5.2 and 2.6). If that helped, it stays so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from ikeclient.errors import IntegrityError
from ikeclient.ike.events import Datagram, IPAddress, Path
from ikeclient.ike.observation import MessageSeen, Observer, lengths, nobody
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.message.envelope import Envelope
from ikeclient.ike.v2.message.payloads import Request
from ikeclient.ike.v2.message.window import FIRST_WAIT, Pending, RequestWindow, ResponseWindow
from ikeclient.wire.encrypted import EncryptedFragmentPayload
from ikeclient.wire.header import Header
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import ExchangeType, NotifyType, PayloadType

UDP_HEADER = 8
NON_ESP_MARKER = 4
NOTIFY_HEADER = 8  # with the generic payload header
SMALLEST = {4: 576, 6: 1280}  # bytes of an IP packet of each version that passes everywhere (RFC 7383 section 2.5.1)
SMALLER_AFTER = 3  # times that a request was sent in vain before it is sent in smaller fragments


class Channel:
    """Sends and receives protected messages along `path`, which may change at any time.

    `fragment_size` is the largest IP packet, in bytes, that a message may make before it is fragmented; the next
    message IDs are `first_request` for ours and `first_response` for the peer's.
    """

    def __init__(
        self,
        keying: Keying,
        path: Path,
        entropy: Callable[[int], bytes],
        *,
        fragment_size: int,
        first_request: int = 0,
        first_response: int = 0,
        observe: Observer = nobody,
    ) -> None:
        self.path = path
        self.outbox: deque[Datagram] = deque()
        self.asked_at: set[IPAddress] = set()  # where the latest request of ours was sent
        self.requests = RequestWindow(first_request)
        self._responses = ResponseWindow(first_response)
        self._keying = keying
        self.observe = observe
        self._envelope = Envelope(
            keying.suite, keying.keys, initiator=keying.initiator, entropy=entropy, fragment=keying.fragmentation
        )
        self._fragment_size = self._configured_size = fragment_size
        self._request: tuple[Header, tuple[Payload, ...]] | None = None  # the pending one, if it may be cut differently
        self._smaller = False  # whether the pending one was

    def _header(self, exchange: ExchangeType, message_id: int, *, response: bool) -> Header:
        return Header(
            spi_i=self._keying.spi_i,
            spi_r=self._keying.spi_r,
            next_payload=PayloadType.NONE,
            exchange=exchange,
            initiator=self._keying.initiator,
            response=response,
            message_id=message_id,
        )

    def _limit(self, path: Path, size: int | None = None) -> int:
        """The longest message in an IP packet of `size` bytes, by default the longest before fragmenting."""
        ip_header = 20 if path.remote_address.version == 4 else 40
        return (self._fragment_size if size is None else size) - ip_header - UDP_HEADER - NON_ESP_MARKER

    def set_path_mtu(self, size: int) -> None:
        """The path carries IP packets of `size` bytes: no fragment is longer, nor than the configuration says."""
        self._fragment_size = min(self._configured_size, size)

    def _transmit(self, datagrams: Sequence[bytes], path: Path) -> None:
        self.outbox.extend(Datagram(data, path) for data in datagrams)

    def request(self, request: Request, now: float, timeout: float) -> None:
        """Send a request of ours; one at a time.

        With `dont_fragment` it goes out in one piece. When it has to be repeated, it is accompanied by an empty one
        with the same message ID, which asks for the same answer and passes where the long one did not; whichever
        arrives first is the request, and the other one its repetition. Nothing else is ever repeated but bit by bit
        (section 2.1), or in smaller fragments.
        """
        self.asked_at = {self.path.remote_address}
        header = self._header(request.exchange, self.requests.next_id, response=False)
        datagrams = self._envelope.seal(
            header, request.payloads, limit=1 << 16 if request.dont_fragment else self._limit(self.path)
        )
        if request.dont_fragment:
            self.outbox += (Datagram(data, self.path, dont_fragment=True) for data in datagrams)
            datagrams += self._envelope.seal(header, (), limit=self._limit(self.path))
        else:
            self._transmit(datagrams, self.path)
        self._request, self._smaller = None if request.dont_fragment else (header, request.payloads), False
        self.requests.open(datagrams, now, timeout)
        self.observe(
            MessageSeen(
                sent=True,
                header=header,
                payloads=tuple(request.payloads),
                path=self.path,
                lengths=lengths(datagrams),
                wait=FIRST_WAIT,
            )
        )

    def padding(self, size: int) -> tuple[NotifyPayload, int]:
        """What makes a message as long as an IP packet of `size` bytes allows, and the length that the packet then has.

        The cipher's blocks may make it shorter.
        """
        limit = self._limit(self.path, size)
        room = self._envelope.room(limit)
        payload = NotifyPayload(type=NotifyType.PADDING, data=bytes(max(room - NOTIFY_HEADER, 0)))
        return payload, size - limit + self._envelope.length(room)

    def move(self, path: Path, now: float) -> None:
        """Use `path` from now on; a request without an answer is sent again there at once (RFC 4555 section 3.5)."""
        self.path = path
        self.requests.resend_now(now)
        self.resend(now)

    def resend(self, now: float) -> None:
        """Send the pending request again if it is time."""
        pending = self.requests.pending
        if pending is not None and now >= pending.resend_at and pending.attempts >= SMALLER_AFTER:
            self._cut_smaller(pending)
        datagrams = self.requests.due(now)
        if datagrams and pending is not None:
            self.asked_at.add(self.path.remote_address)
            self.observe(
                MessageSeen(
                    sent=True,
                    header=Header.parse(datagrams[0]),
                    payloads=(),
                    path=self.path,
                    lengths=lengths(datagrams),
                    attempt=pending.attempts,
                    wait=pending.wait,
                )
            )
        self._transmit(datagrams, self.path)

    def _cut_smaller(self, pending: Pending) -> None:
        """Fragment the pending request anew, for the narrowest path there may be."""
        size = SMALLEST[self.path.remote_address.version]
        if self._request is None or self._smaller or size >= self._fragment_size:
            return
        datagrams = self._envelope.seal(*self._request, limit=self._limit(self.path, size))
        if len(datagrams) > len(pending.datagrams):
            pending.recut(datagrams)
            self._smaller = True

    def response(self, data: bytes, message: Message, now: float) -> tuple[Payload, ...] | None:
        """The payloads of the answer to the pending request; None for anything else and while fragments are missing.

        Raises `ParseError` for a genuine answer that is malformed inside.
        """
        if not self.requests.accepts(message.header.message_id):
            return None
        try:
            payloads = self._envelope.open(data, message, now)
        except IntegrityError:
            return None
        if payloads is not None:
            self._saw(data, message, payloads, self.path)
            logging_in = message.header.exchange == ExchangeType.IKE_AUTH  # which may wait for RADIUS, or a person
            self.requests.close(None if logging_in else now)
            if self._smaller:
                self.set_path_mtu(SMALLEST[self.path.remote_address.version])
        return payloads

    def may_serve(self, message_id: int) -> bool:
        """Whether a request with this ID is the peer's next one, or the one answered last, come again."""
        return self._responses.fresh(message_id) or bool(self._responses.repeated(message_id))

    def genuine(self, data: bytes, message: Message) -> bool:
        """Whether a message is the peer's; nothing is changed."""
        return self._envelope.genuine(data, message)

    def incoming(self, data: bytes, message: Message, path: Path, now: float) -> tuple[Payload, ...] | None:
        """The payloads of a new request of the peer's; None for anything else.

        A genuine repetition gets the same answer again, once per message (RFC 7383 section 2.6.1). Raises `ParseError`
        for a genuine request that is malformed inside.
        """
        if not self._responses.fresh(message.header.message_id):
            cached = self._responses.repeated(message.header.message_id)
            last = message.payloads[-1] if message.payloads else None
            later_fragment = isinstance(last, EncryptedFragmentPayload) and last.number != 1
            if cached and not later_fragment and self.genuine(data, message):
                self._transmit(cached, path)
                self.observe(
                    MessageSeen(
                        sent=True,
                        header=Header.parse(cached[0]),
                        payloads=(),
                        path=path,
                        lengths=lengths(cached),
                        attempt=2,
                    )
                )
            return None
        try:
            payloads = self._envelope.open(data, message, now)
        except IntegrityError:
            return None
        if payloads is not None:
            self._saw(data, message, payloads, path)
        return payloads

    def _saw(self, data: bytes, message: Message, payloads: tuple[Payload, ...], path: Path) -> None:
        whole = not isinstance(message.payloads[-1], EncryptedFragmentPayload)
        size = (len(data),) if whole else ()
        self.observe(MessageSeen(sent=False, header=message.header, payloads=payloads, path=path, lengths=size))

    def answer(self, request: Header, reply: Sequence[Payload], path: Path) -> None:
        """Answer the request that `incoming` returned, back to where it came from (section 2.11)."""
        header = self._header(request.exchange, request.message_id, response=True)
        datagrams = self._envelope.seal(header, reply, limit=self._limit(path))
        self.observe(
            MessageSeen(sent=True, header=header, payloads=tuple(reply), path=path, lengths=lengths(datagrams))
        )
        self._responses.answered(datagrams)
        self._transmit(datagrams, path)
