"""IKE_SA_INIT as initiator (RFC 7296 sections 1.2, 2.4, 2.6, 2.7, 2.23; RFC 7427 section 4; RFC 7383 section 2.3).

Nothing here is authenticated. An error is a hint that is remembered while better answers are awaited. An acceptable
answer may become a candidate, and several candidates may live until one of them authenticates (section 2.4). Reading an
answer is cheap; the key exchange, which is not, is computed only when `candidate` is called. `handshake` decides when.

Answers are taken by SPI, wherever they come from: a gateway with several addresses, or behind a load balancer, answers
from another one than it was asked at. That is no proof of anything, so everything is still sent to where we asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field

from ikeclient.crypto.algorithms.key_exchange import KeyShare
from ikeclient.crypto.algorithms.keymat import ike_keys
from ikeclient.crypto.algorithms.transforms import IkeSuite
from ikeclient.errors import IkeclientError, KeyExchangeError, NegotiationRefused, ParseError, ProtocolError
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import IKE_PORT, Path
from ikeclient.ike.observation import MessageSeen, Observer, nobody
from ikeclient.ike.v2.exchanges.init_forms import MAX_COOKIES, Cookies, Forms
from ikeclient.ike.v2.exchanges.init_verdict import Resending, Seen, Verdict
from ikeclient.ike.v2.keying import Candidate, Keying, PeerOffers
from ikeclient.ike.v2.message.payloads import error_notify, find, has_notify, need, notifies
from ikeclient.ike.v2.notify_errors import refusal
from ikeclient.ike.v2.rules.announced import announced_methods
from ikeclient.ike.v2.rules.groups import groups_of, wanted_group
from ikeclient.ike.v2.rules.nat import NAT_DETECTION, detected, detection_notifies
from ikeclient.ike.v2.rules.negotiate import accept_ike, offer_ike
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.header import Header
from ikeclient.wire.identity import CertReqPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload, unknown_critical
from ikeclient.wire.registry import CertEncoding, ExchangeType, HashAlgorithm, KeyExchangeId, NotifyType, PayloadType
from ikeclient.wire.sa import SaPayload

MAX_RETRIES = 8
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
    ppk: bool = False,
) -> bytes:
    """The IKE_SA_INIT request, with the `cookie` that was demanded, if any (RFC 7296 sections 1.2 and 2.6).

    `sha1` tells the peer that we verify signatures with SHA-1 as well, `ppk` that we have a post-quantum key.
    """
    payloads: tuple[Payload, ...] = (
        *((NotifyPayload(type=NotifyType.COOKIE, data=cookie),) if cookie else ()),
        offer,
        share,
        NoncePayload(nonce=nonce),
        *nat_detection,
        NotifyPayload(type=NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        signature_hashes(sha1=sha1),
        *((NotifyPayload(type=NotifyType.USE_PPK),) if ppk else ()),
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


def peer_offers(payloads: tuple[Payload, ...]) -> PeerOffers:
    """What the answer says about IKE_AUTH."""
    announced = [n.data for n in notifies(payloads) if n.type == NotifyType.SUPPORTED_AUTH_METHODS]
    return PeerOffers(
        multiple_auth=has_notify(payloads, NotifyType.MULTIPLE_AUTH_SUPPORTED),
        ppk=has_notify(payloads, NotifyType.USE_PPK),
        auth_methods=announced_methods(b"".join(announced)),
        asks_status=any(isinstance(p, CertReqPayload) and p.encoding == CertEncoding.OCSP_CONTENT for p in payloads),
    )


def lacks(config: IkeConfig, payloads: tuple[Payload, ...]) -> NegotiationRefused | None:
    """What the profile requires and the answer does not offer, as the error to give up with."""
    offers = peer_offers(payloads)
    if config.second_auth is not None and not offers.multiple_auth:
        return NegotiationRefused(
            "the gateway takes one authentication only, and the profile has two",
            reason="its IKE_SA_INIT answer has no MULTIPLE_AUTH_SUPPORTED",
            hint="remove [second_auth], or let the gateway ask for two authentications (RFC 4739)",
        )
    if config.ppk is not None and config.ppk.required and not offers.ppk:
        return NegotiationRefused(
            "the gateway knows no post-quantum key, and the profile requires one",
            reason="its IKE_SA_INIT answer has no USE_PPK",
            hint="give the gateway the key (RFC 8784), or set ppk.required = false",
        )
    return None


class InitExchange:
    """The state of one IKE_SA_INIT: what is sent now, what was learnt, and when to send it again."""

    def __init__(
        self, config: IkeConfig, entropy: Callable[[int], bytes], path: Path, observe: Observer = nobody
    ) -> None:
        self._config = config
        self._observe = observe
        self.path = path
        self.spi_i = new_spi(entropy)
        self._nonce = entropy(NONCE_LENGTH)
        self._offer = offer_ike(config.ike_proposals)
        self._forms = Forms(groups_of(config.ike_proposals), entropy)
        self._cookies = Cookies(entropy)
        self._retries = 0
        self.seen = Seen()
        self.verdict = Verdict()
        self.resending = Resending()

    # Sending

    def send(self, now: float) -> bytes:
        """The request in its present form; arms the retransmission timer."""
        if self._cookies.changing:
            self._cookies.use(self._forms.current)
            self.resending.restart()
        else:
            self._forms.take_turns()
        self._cookies.sent()
        form = self._forms.current
        request = init_request(
            self.spi_i,
            self._offer,
            KePayload(method=form.share.method.id, data=form.share.public),
            self._nonce,
            detection_notifies(self.spi_i, NO_SPI, self.path, encapsulate=True),
            cookie=self._cookies.current,
            sha1=self._config.allow_sha1,
            ppk=self._config.ppk is not None,
        )
        form.send(request)
        self.seen.asked()
        self.resending.sent(now)
        message = Message.parse(request)
        self._observe(
            MessageSeen(
                sent=True,
                header=message.header,
                payloads=message.payloads,
                path=self.path,
                lengths=(len(request),),
                attempt=form.sent,
                wait=self.resending.wait(now),
            )
        )
        return request

    # Receiving

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
        self.seen.answered(data)
        self._observe(
            MessageSeen(sent=False, header=message.header, payloads=message.payloads, path=path, lengths=(len(data),))
        )
        try:
            if (unknown := unknown_critical(message.payloads)) is not None:
                raise ParseError(f"it contains an unknown critical payload of type {int(unknown)}")
            if find(message.payloads, SaPayload) is None:
                return self._refused(message.payloads, now)
            return self._acceptable(data, message, path, now)
        except ProtocolError as error:
            self.verdict.unusable("the gateway's IKE_SA_INIT answer was not usable", str(error))
        return False

    def _refused(self, payloads: tuple[Payload, ...], now: float) -> bool:
        """An answer without SA: a cookie, another group, or a refusal."""
        cookie = next((n for n in notifies(payloads) if n.type == NotifyType.COOKIE), None)
        error = error_notify(payloads)
        if cookie is not None:
            self.verdict.contradicted(now)
            changed = self._take_cookie(cookie.data)
        elif error is not None and error.type == NotifyType.INVALID_KE_PAYLOAD:
            changed = self._take_group(error, now)
        elif error is not None:
            self._remember(refusal(error.type), now)
            return False
        else:
            types = ", ".join(str(n.type) for n in notifies(payloads)[:4]) or "nothing"
            self.verdict.unusable("the gateway's IKE_SA_INIT answer was not usable", f"it contains {types}, but no SA")
            return False
        if changed:
            self._retries += 1
            self.resending.restart()
        return changed

    def _take_cookie(self, cookie: bytes) -> bool:
        cookies = self._cookies
        if not cookies.new(cookie):
            return False
        if self.seen.forged:  # nothing is sent for it, so none need be refused
            cookies.choose(cookie)
            return False
        if cookies.taken >= MAX_COOKIES or self._retries >= MAX_RETRIES:
            self.verdict.unusable(
                "the gateway did not get past asking for cookies", f"{cookies.taken} cookies were returned"
            )
            return False
        return cookies.take(cookie, self._forms.current)

    def _take_group(self, error: NotifyPayload, now: float) -> bool:
        """Try the group that the gateway wants, once, and only one that was offered: this message may be forged."""
        group = wanted_group(error)
        if group is None or self._forms.tried(group):
            return False
        if not self._forms.untried(group):
            self._remember(refusal(error.type, detail=f"it wants {KeyExchangeId(group)}"), now)
            return False
        return self._retries < MAX_RETRIES and self._forms.retry(error)

    def _remember(self, error: IkeclientError, now: float) -> None:
        """Ask once more and wait for a better answer, then believe the refusal (section 2.21.1)."""
        if self.verdict.refused(error, now):
            self.resending.ask_once_more(now)

    def _acceptable(self, data: bytes, message: Message, path: Path, now: float) -> Answer | bool:
        payloads = message.payloads
        if message.header.spi_r == NO_SPI:
            return False
        suite, _ = accept_ike(self._offer, need(payloads, SaPayload))
        nonce = need(payloads, NoncePayload).nonce
        ke = need(payloads, KePayload)
        form = self._forms.get(ke.method)
        if form is None or suite.key_exchange.id != ke.method:
            raise ParseError(f"a key share of {ke.method} where {self._forms.current.share.method.id} was sent")
        if self.path.remote_port == IKE_PORT and not any(n.type in NAT_DETECTION for n in notifies(payloads)):
            self.verdict.encapsulates_nothing(now)
            return False
        if (refused := lacks(self._config, payloads)) is not None:
            self._remember(refused, now)
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

    def candidate(self, answer: Answer) -> Candidate | None:
        """Compute the keys that follow from an answer; None if its key share is bad."""
        try:
            shared = answer.share.shared_secret(answer.public)
        except KeyExchangeError as error:
            self.verdict.unusable("the gateway sent a bad key share", str(error))
            return None
        suite, payloads, spi_r = answer.suite, answer.message.payloads, answer.message.header.spi_r
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
            certain=answer.certain,
            offers=peer_offers(payloads),
        )
