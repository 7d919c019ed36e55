"""IKE_SA_INIT as initiator (RFC 7296 sections 1.2, 2.4, 2.6, 2.7, 2.23; RFC 7427 section 4; RFC 7383 section 2.3).

Nothing here is authenticated. An error is a hint that is remembered while better answers are awaited. An acceptable
answer may become a candidate, and several candidates may live until one of them authenticates (section 2.4). Reading an
answer is cheap; the key exchange, which is not, is computed only when `candidate` is called. `handshake` decides when.

Answers are taken by SPI, wherever they come from: a gateway with several addresses, or behind a load balancer, answers
from another one than it was asked at. That is no proof of anything, so everything is still sent to where we asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ikeclient.crypto.algorithms.key_exchange import KeyShare, generate
from ikeclient.crypto.algorithms.keymat import ike_keys
from ikeclient.crypto.algorithms.transforms import IkeSuite
from ikeclient.errors import IkeclientError, KeyExchangeError, NegotiationRefused, ParseError, ProtocolError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IKE_PORT, Path
from ikeclient.ike.v2.close_reasons import no_encapsulation
from ikeclient.ike.v2.keying import Candidate, Keying
from ikeclient.ike.v2.message.payloads import error_notify, find, has_notify, need, notifies
from ikeclient.ike.v2.message.window import FIRST_WAIT, GROWTH, LONGEST_WAIT
from ikeclient.ike.v2.notify_errors import refusal
from ikeclient.ike.v2.rules.groups import Groups, groups_of, wanted_group
from ikeclient.ike.v2.rules.nat import NAT_DETECTION, detected, detection_notifies
from ikeclient.ike.v2.rules.negotiate import accept_ike, offer_ike
from ikeclient.wire.header import Header
from ikeclient.wire.identity import CertReqPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload, unknown_critical
from ikeclient.wire.registry import ExchangeType, HashAlgorithm, KeyExchangeId, NotifyType, PayloadType
from ikeclient.wire.sa import SaPayload

MAX_COOKIES = 5
COOKIE_LENGTH = 64  # bytes at most (section 2.6)
MAX_RETRIES = 8
MAX_SEEN = 16384  # different answers that are remembered, by their hash
NO_ENCAPSULATION_WAIT = 2.0  # seconds in which port 4500 may show that the gateway knows UDP encapsulation after all
CONTRADICTED_WAIT = 5.0  # seconds that a refusal is not believed after a cookie was asked for as well
NONCE_LENGTH = 32
NO_SPI = bytes(8)

OUR_HASHES = (
    HashAlgorithm.SHA2_256,
    HashAlgorithm.SHA2_384,
    HashAlgorithm.SHA2_512,
    HashAlgorithm.IDENTITY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An acceptable answer to `request` that came along `path`; no key has been computed from it."""

    data: bytes = field(repr=False)
    request: bytes = field(repr=False)
    message: Message = field(repr=False)
    path: Path
    suite: IkeSuite
    nonce: bytes
    public: bytes
    share: KeyShare = field(repr=False)
    certain: bool


def new_spi(entropy: Callable[[int], bytes]) -> bytes:
    """An SPI for an IKE SA of ours; it must not be zero (RFC 7296 section 3.1)."""
    while not any(spi := entropy(8)):
        pass
    return spi


def signature_hashes(*, sha1: bool) -> NotifyPayload:
    """SIGNATURE_HASH_ALGORITHMS with every hash we verify (RFC 7427 section 4)."""
    hashes = (*OUR_HASHES, HashAlgorithm.SHA1) if sha1 else OUR_HASHES
    return NotifyPayload(type=NotifyType.SIGNATURE_HASH_ALGORITHMS, data=b"".join(h.to_bytes(2, "big") for h in hashes))


def init_request(
    spi_i: bytes,
    offer: SaPayload,
    share: KePayload,
    nonce: bytes,
    nat_detection: Sequence[NotifyPayload],
    *,
    cookie: bytes = b"",
    sha1: bool = False,
) -> bytes:
    """The IKE_SA_INIT request, with the `cookie` that was demanded, if any (RFC 7296 sections 1.2 and 2.6).

    `sha1` tells the peer that we verify signatures with SHA-1 as well.
    """
    payloads: tuple[Payload, ...] = (
        *((NotifyPayload(type=NotifyType.COOKIE, data=cookie),) if cookie else ()),
        offer,
        share,
        NoncePayload(nonce=nonce),
        *nat_detection,
        NotifyPayload(type=NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        signature_hashes(sha1=sha1),
    )
    header = Header(
        spi_i=spi_i,
        spi_r=NO_SPI,
        next_payload=PayloadType.NONE,
        exchange=ExchangeType.IKE_SA_INIT,
        initiator=True,
        response=False,
        message_id=0,
    )
    return Message(header=header, payloads=payloads).emit()


def peer_hashes(payloads: tuple[Payload, ...]) -> frozenset[HashAlgorithm] | None:
    """The hashes the peer verifies; None when it does not speak RFC 7427. A trailing odd byte is ignored."""
    for notify in notifies(payloads):
        if notify.type == NotifyType.SIGNATURE_HASH_ALGORITHMS:
            pairs = zip(notify.data[::2], notify.data[1::2], strict=False)
            return frozenset(HashAlgorithm(high << 8 | low) for high, low in pairs)
    return None


@dataclass(slots=True, eq=False)
class _Form:
    """The request as it was last sent with one key share; an answer belongs to the form with its group.

    An answer does not tell which cookie its request had, but our AUTH covers that request. So a cookie is taken at once
    only the first time. A further one may be a late answer to an earlier request, of which there are as many as there
    were requests; when it is not, it is taken at the next retransmission.
    """

    share: KeyShare
    request: bytes = b""
    sent: int = 0
    cookies: int = 0
    changed: bool = False  # whether other requests were sent with this key share before


class InitExchange:
    """The state of one IKE_SA_INIT: what is sent now, what was learnt, and when to send it again."""

    def __init__(self, config: IkeConfig, entropy: Callable[[int], bytes], path: Path) -> None:
        self._config = config
        self._entropy = entropy
        self.path = path
        self.spi_i = new_spi(entropy)
        self._nonce = entropy(NONCE_LENGTH)
        self._offer = offer_ike(config.ike_proposals)
        offered = groups_of(config.ike_proposals)
        self._groups = Groups(offered, offered)
        self._forms: dict[int, _Form] = {}
        self._use_current_group()
        self._cookie = b""
        self._next_cookie = b""
        self._cookies = 0
        self._choices = 0  # cookies since the last request, while some are forged for sure
        self._late = 0  # answers to earlier forms that may still come
        self._disputed = False  # whether answers contradict each other about the group, so that one is forged
        self._retries = 0
        self._seen: dict[int, int] = {}  # how often each different answer came
        self._requests = 0
        self._postponed = False
        self.forged = False  # true: there were more different answers than requests, so some are not the gateway's
        self.encapsulates = True  # false: an answer said that the gateway knows no UDP encapsulation
        self.hint: IkeclientError | None = None
        self.give_up_at: float | None = None
        self._wait = FIRST_WAIT
        self.resend_at: float | None = None

    def _use_current_group(self) -> None:
        """Send a key share of this group from now on; earlier ones may still be answered."""
        group = self._groups.current
        assert group is not None
        self._form = self._forms[group.id] = _Form(generate(group, self._entropy))

    # Sending

    def send(self, now: float) -> bytes:
        """The request in its present form; arms the retransmission timer.

        If the group is disputed, each of those that were asked for has its turn.
        """
        if self._disputed and not self._next_cookie:
            used = list(self._forms.values())
            self._form = used[(used.index(self._form) + 1) % len(used)]
        if self._next_cookie:
            self._cookie, self._next_cookie = self._next_cookie, b""
            self._wait = FIRST_WAIT
            self._late += self._form.sent - 1
            self._form.sent = 0
        self._choices = 0
        share = self._form.share
        request = init_request(
            self.spi_i,
            self._offer,
            KePayload(method=share.method.id, data=share.public),
            self._nonce,
            detection_notifies(self.spi_i, NO_SPI, self.path, encapsulate=True),
            cookie=self._cookie,
            sha1=self._config.allow_sha1,
        )
        self._form.changed |= self._form.request not in (b"", request)
        self._form.request = request
        self._form.sent += 1
        self._requests += 1
        self.resend_at = now + self._wait
        self._wait = min(self._wait * GROWTH, LONGEST_WAIT)
        return self._form.request

    def postpone(self, now: float) -> None:
        """There is a candidate: ask again only if it stays silent, as a forged one would (section 2.4)."""
        if not self._postponed:
            self._postponed = True
            self._wait = LONGEST_WAIT
            self.resend_at = now + self._wait

    def resend_soon(self, now: float) -> None:
        """There is no candidate any more that may be worth waiting for."""
        if self._postponed and self.resend_at is not None:
            self._postponed = False
            self._wait = FIRST_WAIT
            self.resend_at = min(self.resend_at, now + self._wait)

    # Receiving

    def repeated(self, answer: Answer) -> bool:
        """Whether exactly this answer came more than once, as from a gateway that answers a repetition alike."""
        return self._seen.get(hash(answer.data), 0) > 1

    def concerns(self, message: Message) -> bool:
        """Whether this is an answer to IKE_SA_INIT at all."""
        header = message.header
        answers = header.exchange == ExchangeType.IKE_SA_INIT and header.response and not header.initiator
        return answers and header.spi_i == self.spi_i and header.message_id == 0

    def receive(self, data: bytes, message: Message, path: Path, now: float) -> Answer | bool:
        """What an answer is: one that may become a candidate, if it has not been here before.

        True when the request must be sent again in a new form, False when there is nothing to do.
        """
        if not self.concerns(message):
            return False
        digest = hash(data)
        times = self._seen.get(digest, 0)
        if times or len(self._seen) < MAX_SEEN:
            self._seen[digest] = times + 1
        self.forged |= len(self._seen) > self._requests
        try:
            if (unknown := unknown_critical(message.payloads)) is not None:
                raise ParseError(f"it contains an unknown critical payload of type {int(unknown)}")
            if find(message.payloads, SaPayload) is None:
                return self._refused(message.payloads, now)
            return self._acceptable(data, message, path, now)
        except ProtocolError as error:
            self._unusable("the gateway's IKE_SA_INIT answer was not usable", str(error))
        return False

    def _unusable(self, what: str, why: str) -> None:
        """Remember why an answer was dropped; what a gateway refused in so many words is worth more."""
        if self.give_up_at is None:
            self.hint = NegotiationRefused(what, reason=why)

    def _refused(self, payloads: tuple[Payload, ...], now: float) -> bool:
        """An answer without SA: a cookie, another group, or a refusal."""
        cookie = next((n for n in notifies(payloads) if n.type == NotifyType.COOKIE), None)
        error = error_notify(payloads)
        if cookie is not None:
            if self.give_up_at is not None:  # no gateway refuses and then asks for a cookie: one of the two is forged
                self.give_up_at = max(self.give_up_at, now + CONTRADICTED_WAIT)
            changed = self._take_cookie(cookie.data)
        elif error is not None and error.type == NotifyType.INVALID_KE_PAYLOAD:
            changed = self._take_group(error, now)
        elif error is not None:
            self._remember(refusal(error.type), now)
            return False
        else:
            types = ", ".join(str(n.type) for n in notifies(payloads)[:4]) or "nothing"
            self._unusable("the gateway's IKE_SA_INIT answer was not usable", f"it contains {types}, but no SA")
            return False
        if changed:
            self._retries += 1
            self._wait = FIRST_WAIT
        return changed

    def _take_cookie(self, cookie: bytes) -> bool:
        if not 1 <= len(cookie) <= COOKIE_LENGTH or cookie in (self._cookie, self._next_cookie):
            return False
        if self.forged:  # nothing is sent for it, so none need be refused; chance decides which one is returned next
            self._choices += 1
            if int.from_bytes(self._entropy(4), "big") % self._choices == 0:
                self._next_cookie = cookie
            return False
        if self._cookies >= MAX_COOKIES or self._retries >= MAX_RETRIES:
            self._unusable("the gateway did not get past asking for cookies", f"{self._cookies} cookies were returned")
            return False
        first = not self._form.cookies
        if not first and self._late > 0:
            self._late -= 1
            return False
        self._cookies += 1
        self._form.cookies += 1
        self._next_cookie = cookie
        return first

    def _take_group(self, error: NotifyPayload, now: float) -> bool:
        """Try the group that the gateway wants, once, and only one that was offered: this message may be forged.

        If it is one that was left, because of such a message, the one or the other is not the gateway's.
        """
        group = wanted_group(error)
        if group is None:
            return False
        if group in self._forms:
            self._disputed |= self._forms[group] is not self._form
            return False
        if not self._groups.untried(group):
            self._remember(refusal(error.type, detail=f"it wants {KeyExchangeId(group)}"), now)
            return False
        if self._retries >= MAX_RETRIES or not self._groups.retry(error):
            return False
        self._use_current_group()
        return True

    def _remember(self, error: IkeclientError, now: float) -> None:
        """Ask once more and wait for a better answer, then believe the refusal (section 2.21.1)."""
        if self.give_up_at is None:
            self.give_up_at = now + 2 * FIRST_WAIT
            self.hint = error
            self.resend_at = now + FIRST_WAIT
            self._wait = FIRST_WAIT * GROWTH

    def _acceptable(self, data: bytes, message: Message, path: Path, now: float) -> Answer | bool:
        payloads = message.payloads
        if message.header.spi_r == NO_SPI:
            return False
        suite, _ = accept_ike(self._offer, need(payloads, SaPayload))
        nonce = need(payloads, NoncePayload).nonce
        ke = need(payloads, KePayload)
        form = self._forms.get(ke.method)
        if form is None or suite.key_exchange.id != ke.method:
            raise ParseError(f"a key share of {ke.method} where {self._form.share.method.id} was sent")
        if self.path.remote_port == IKE_PORT and not any(n.type in NAT_DETECTION for n in notifies(payloads)):
            self._encapsulates_nothing(now)
            return False
        return Answer(
            data=data,
            request=form.request,
            message=message,
            path=path,
            suite=suite,
            nonce=nonce,
            public=ke.data,
            share=form.share,
            certain=not form.changed,
        )

    def _encapsulates_nothing(self, now: float) -> None:
        """An answer without NAT detection: its sender knows no UDP encapsulation, unless port 4500 answers (2.23)."""
        self.encapsulates = False
        if self.give_up_at is None:
            self.give_up_at = now + NO_ENCAPSULATION_WAIT
            self.hint = no_encapsulation()

    def candidate(self, answer: Answer) -> Candidate | None:
        """Compute the keys that follow from an answer; None if its key share is bad."""
        try:
            shared = answer.share.shared_secret(answer.public)
        except KeyExchangeError as error:
            self._unusable("the gateway sent a bad key share", str(error))
            return None
        suite, payloads, spi_r = answer.suite, answer.message.payloads, answer.message.header.spi_r
        requests = [p for p in payloads if isinstance(p, CertReqPayload)]
        return Candidate(
            keying=Keying(
                spi_i=self.spi_i,
                spi_r=spi_r,
                suite=suite,
                keys=ike_keys(suite, shared, self._nonce, answer.nonce, self.spi_i, spi_r),
                initiator=True,
                fragmentation=has_notify(payloads, NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
            ),
            nonce_i=self._nonce,
            nonce_r=answer.nonce,
            request=answer.request,
            response=answer.data,
            nat=detected(self.spi_i, spi_r, answer.path, notifies(payloads)),
            peer_hashes=peer_hashes(payloads),
            authorities=b"".join(r.authorities for r in requests),
            certain=answer.certain,
        )
