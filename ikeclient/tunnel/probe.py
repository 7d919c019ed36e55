"""What a gateway speaks, found out from outside: nothing but IKE_SA_INIT, and as little of that as possible.

A gateway keeps state for every IKE_SA_INIT that it accepts, and many block an address after a few of them. So only one
such request is sent to each port. Which single algorithms it would take is asked with a key share of a group that is
not offered: a gateway that likes the offer answers INVALID_KE_PAYLOAD, one that does not NO_PROPOSAL_CHOSEN, and
neither costs it anything (RFC 7296 sections 1.2 and 2.7). Nothing here is authenticated: it is what somebody answered.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import field
from ipaddress import ip_address

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.errors import NoResponse, ProtocolError
from ikeclient.ike.events import IKE_PORT, NAT_PORT, IPAddress, NatStatus, Path
from ikeclient.ike.v2.exchanges.init import NO_SPI, init_request, new_spi, peer_hashes
from ikeclient.ike.v2.exchanges.init_forms import COOKIE_LENGTH
from ikeclient.ike.v2.initiator import INIT_STRUCTURES
from ikeclient.ike.v2.message.payloads import error_notify, find, has_notify, notifies
from ikeclient.ike.v2.rules.groups import Groups
from ikeclient.ike.v2.rules.nat import detected, detection_notifies
from ikeclient.ike.v2.rules.negotiate import accept_ike, offer_ike
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.header import Header
from ikeclient.wire.identity import CertReqPayload
from ikeclient.wire.key_exchange import KePayload
from ikeclient.wire.notify import VendorIdPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import ExchangeType, KeyExchangeId, NotifyType
from ikeclient.wire.sa import SaPayload

NEVER_OFFERED = KeyExchangeId(1)  # MODP 768
NEVER_OFFERED_LENGTH = 96
_FIRST, _LONGEST = 1.0, 4.0  # seconds for the answer to each sending, half as many again each time
PATIENCE = 5.0  # seconds for a port that stays silent
_SILENCES = 2  # in a row, or answers that tell nothing, after which the gateway is left alone
_MARKER = bytes(4)  # in front of IKE on port 4500 (RFC 3948)
_MAXIMUM_DATAGRAM = 65535
_ROUNDS = 4  # cookies and other groups
_LISTED = 16

_AEAD = tuple(algorithm for algorithm in ENCRYPTION.values() if algorithm.aead)
_CBC = tuple(algorithm for algorithm in ENCRYPTION.values() if not algorithm.aead)


@dataclass(slots=True, kw_only=True)
class PortFindings:
    """What one port answered; `seconds` is the round trip, None for silence."""

    port: int
    seconds: float | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Findings:
    """All that was found out.

    `accepted` lists keywords by kind; `complete` is false where answers failed to come or told nothing. `refused`: an
    answer said that nothing of what we know will do.
    """

    host: str
    address: str
    ports: list[PortFindings] = field(default_factory=list)
    suite: str | None = None
    refused: bool = False
    cookie: bool = False
    fragmentation: bool | None = None
    nat: NatStatus | None = None
    hashes: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    authorities: int = 0
    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    message: Message
    seconds: float
    path: Path


class _Line:
    """A socket to one port of the gateway."""

    def __init__(self, address: IPAddress, port: int, patience: float) -> None:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._marker = _MARKER if port == NAT_PORT else b""
        try:
            self._socket.connect((str(address), port))
        except OSError:
            self._socket.close()
            raise
        local = self._socket.getsockname()
        self.path = Path(ip_address(local[0].partition("%")[0]), local[1], address, port)
        self.cookie = False
        self._patience = patience

    def close(self) -> None:
        """No more questions."""
        self._socket.close()

    def ask(self, offer: Sequence[AlgorithmProposal], group: KeyExchangeId, share: bytes) -> _Answer | None:
        """The answer to one IKE_SA_INIT; None for silence. Cookies are returned. Raises OSError."""
        spi, nonce, cookie = new_spi(os.urandom), os.urandom(32), b""
        answer = None
        for _ in range(_ROUNDS):
            answer = self._exchange(self._request(spi, nonce, offer, KePayload(method=group, data=share), cookie), spi)
            given = answer and next((n for n in notifies(answer.message.payloads) if n.type == NotifyType.COOKIE), None)
            if not given or not 1 <= len(given.data) <= COOKIE_LENGTH or given.data == cookie:
                break
            self.cookie, cookie = True, given.data
        return answer

    def _request(
        self, spi: bytes, nonce: bytes, offer: Sequence[AlgorithmProposal], share: KePayload, cookie: bytes
    ) -> bytes:
        nat_detection = detection_notifies(spi, NO_SPI, self.path, encapsulate=False)
        return init_request(spi, offer_ike(offer), share, nonce, nat_detection, cookie=cookie, sha1=True)

    def _exchange(self, request: bytes, spi: bytes) -> _Answer | None:
        refused: OSError | None = None
        for wait in waits(self._patience):
            began = time.monotonic()
            try:
                self._socket.send(self._marker + request)
                while (left := began + wait - time.monotonic()) > 0:
                    self._socket.settimeout(left)
                    message = _parsed(self._socket.recv(_MAXIMUM_DATAGRAM).removeprefix(self._marker), spi)
                    if message is not None:
                        return _Answer(message=message, seconds=time.monotonic() - began, path=self.path)
            except TimeoutError:
                continue
            except ConnectionRefusedError as error:  # anybody can say so: ask again, and listen to it in the end
                refused = error
                time.sleep(max(0.0, min(0.2, began + wait - time.monotonic())))
        if refused is not None:
            raise refused
        return None


def waits(patience: float) -> Iterator[float]:
    """Yield how long to wait after each sending; all of them together are `patience`, in seconds."""
    wait, left = _FIRST, patience
    while left > 0:
        last = left - wait < wait / 2  # no time for another one that is worth it
        yield left if last else wait
        left = 0.0 if last else left - wait
        wait = min(1.5 * wait, _LONGEST)


def _parsed(data: bytes, spi: bytes) -> Message | None:
    """An answer to the request with that SPI; None for anything else."""
    try:
        header = Header.parse(data)
        if header.exchange != ExchangeType.IKE_SA_INIT or not header.response or header.spi_i != spi:
            return None
        message = Message.parse(data, header, INIT_STRUCTURES)
        find(message.payloads, SaPayload)  # of which there is one at most
    except ProtocolError:
        return None
    return message


def probe(host: str, address: IPAddress, patience: float = PATIENCE) -> Findings:
    """Ask the gateway at `address` on both ports, each for `patience` seconds. Raises NoResponse if neither answers."""
    found = Findings(host=host, address=str(address))
    best: _Line | None = None
    for port in (IKE_PORT, NAT_PORT):
        findings = PortFindings(port=port)
        found.ports.append(findings)
        try:
            line = _Line(address, port, patience)
            if _introduce(line, found, findings) and best is None:
                best = line
            else:
                line.close()
        except OSError as error:
            findings.error = error.strerror or type(error).__name__
    if best is None:
        reason = "; ".join(f"port {each.port}: {each.error}" for each in found.ports if each.error)
        raise NoResponse(f"no IKE answer from {address} on port 500 nor 4500", reason=reason or None)
    try:
        _algorithms(best, found)
    except OSError:
        found.complete = False
    finally:
        best.close()
    return found


def _introduce(line: _Line, found: Findings, findings: PortFindings) -> bool:
    """One ordinary IKE_SA_INIT with all that we know; whether anything answered."""
    offer = _offer()
    groups = Groups(KEY_EXCHANGE.values(), tuple(KEY_EXCHANGE.values()))
    for _ in range(_ROUNDS):
        assert groups.current is not None
        share = generate(groups.current, os.urandom)
        answer = line.ask(offer, share.method.id, share.public)
        found.cookie = found.cookie or line.cookie
        if answer is None:
            return False
        findings.seconds = answer.seconds
        payloads = answer.message.payloads
        if find(payloads, SaPayload) is not None:
            _describe(found, offer, answer)
            return True
        error = error_notify(payloads)
        if not groups.retry(error):
            findings.error = str(error.type) if error else None
            found.refused = found.refused or error is not None
            return True
    return True


def _describe(found: Findings, offer: Sequence[AlgorithmProposal], answer: _Answer) -> None:
    payloads, header = answer.message.payloads, answer.message.header
    sa = find(payloads, SaPayload)
    try:
        found.suite = accept_ike(offer_ike(offer), sa)[0].name if sa is not None else None
    except ProtocolError:
        found.suite = None
    found.fragmentation = has_notify(payloads, NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
    found.nat = detected(header.spi_i, header.spi_r, answer.path, notifies(payloads))
    found.hashes = tuple(sorted(str(each) for each in peer_hashes(payloads) or ()))[:_LISTED]
    found.vendors = tuple(p.data[:64].hex() for p in payloads if isinstance(p, VendorIdPayload))[:_LISTED]
    found.authorities = sum(len(p.authorities) // 20 for p in payloads if isinstance(p, CertReqPayload))


def _offer(
    *,
    encryption: str | None = None,
    integrity: str | None = None,
    prf: str | None = None,
    key_exchange: str | None = None,
) -> list[AlgorithmProposal]:
    """Everything we know, or only what has the given algorithm."""
    prfs = (PRF[prf],) if prf else tuple(PRF.values())
    groups = (KEY_EXCHANGE[key_exchange],) if key_exchange else tuple(KEY_EXCHANGE.values())
    hashes = (INTEGRITY[integrity],) if integrity else tuple(INTEGRITY.values())
    aead = () if integrity else tuple(c for c in _AEAD if encryption in (None, c.keyword))
    cbc = tuple(c for c in _CBC if encryption in (None, c.keyword))
    offer = []
    if aead:
        offer.append(AlgorithmProposal(encryption=aead, prf=prfs, key_exchange=groups))
    if cbc:
        offer.append(AlgorithmProposal(encryption=cbc, integrity=hashes, prf=prfs, key_exchange=groups))
    return offer


def _algorithms(line: _Line, found: Findings) -> None:
    """Which single algorithms the gateway would take."""
    silences = 0
    for kind, names in _questions():
        accepted = []
        for name in names:
            answer = line.ask(_offer(**{kind: name}), NEVER_OFFERED, os.urandom(NEVER_OFFERED_LENGTH))
            verdict = None if answer is None else _verdict(answer)
            silences = silences + 1 if verdict is None else 0
            if silences >= _SILENCES:
                found.complete = False
                return
            if verdict is None:
                found.complete = False
            elif verdict:
                accepted.append(name)
        found.accepted[kind] = tuple(accepted)


def _questions() -> Iterator[tuple[str, Sequence[str]]]:
    yield "encryption", tuple(ENCRYPTION)
    yield "integrity", tuple(INTEGRITY)
    yield "prf", tuple(PRF)
    yield "key_exchange", tuple(KEY_EXCHANGE)


def _verdict(answer: _Answer) -> bool | None:
    """Whether the gateway would take what it was asked about; None if it asks for a cookie again, or sends us away."""
    if find(answer.message.payloads, SaPayload) is not None:
        return True
    error = error_notify(answer.message.payloads)
    return None if error is None else error.type == NotifyType.INVALID_KE_PAYLOAD
