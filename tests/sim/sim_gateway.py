"""A gateway to test against: the responder's half of IKE_SA_INIT and IKE_AUTH, written for tests, then an `IkeSa`.

It shares our payloads and key derivations and so our mistakes about them; real gateways are for the lab tests. What it
is for is every order of events, and every answer a gateway should never give: `edit` rewrites the payloads of a
response before it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

from eap_gateway import GATEWAY_CHALLENGE, SUCCESS, challenge, mschap_request, proof
from eap_gateway import request as eap_request
from sim_certificates import gateway_certificate, gateway_key, trust

from ikeclient.crypto.algorithms.key_exchange import respond
from ikeclient.crypto.algorithms.keymat import child_keys, ike_keys, shared_key_auth
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.crypto.pki.identity import parse_identity
from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.crypto.sign.private_key import PrivateKey, sign_auth
from ikeclient.crypto.sign.schemes import Family
from ikeclient.crypto.sign.signature import verify
from ikeclient.eap.methods import mschap
from ikeclient.errors import IntegrityError, ParseError, SignatureError
from ikeclient.ike.config import ChildConfig, EapAuth, ExpectedGateway, IkeConfig, Ppk, Timing, TrustedCertificate
from ikeclient.ike.events import Datagram, NatStatus, Path
from ikeclient.ike.v2.child.child_sa import ChildSa
from ikeclient.ike.v2.exchanges.init import peer_hashes, signature_hashes
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.ike_sas import IkeSas
from ikeclient.ike.v2.keying import Candidate, Keying
from ikeclient.ike.v2.message.payloads import find, has_notify, need, notifies
from ikeclient.ike.v2.rules.groups import invalid_ke
from ikeclient.ike.v2.rules.nat import detection_notifies
from ikeclient.ike.v2.rules.negotiate import choose_esp, choose_ike, offer_esp, offer_ike
from ikeclient.ike.v2.rules.ppk import with_ppk
from ikeclient.ike.v2.rules.proofs import initiator_octets, responder_octets
from ikeclient.ike.v2.rules.selectors import intersect
from ikeclient.ike.v2.state import State
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.identity import AuthPayload, CertPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import (
    AuthMethod,
    CertEncoding,
    ConfigAttributeType,
    ConfigType,
    EapType,
    ExchangeType,
    NotifyType,
)
from ikeclient.wire.sa import SaPayload
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

Payloads = tuple[Payload, ...]
Edit = Callable[[list[Payload]], list[Payload]]

PSK = b"a shared secret of many bytes"
USER, PASSWORD = "alice", "wonderland"


def named(text: str) -> Identity:
    """The identity that a person means by `text`."""
    type_, data = parse_identity(text)
    return Identity(type=type_, data=data)


CLIENT_ID = named("alice@example.com")
GATEWAY_ID = named("vpn.example.com")
INNER = "10.88.0.1"

GCM = AlgorithmProposal(
    encryption=(ENCRYPTION["aes128gcm16"],), prf=(PRF["prfsha256"],), key_exchange=(KEY_EXCHANGE["x25519"],)
)
CBC = AlgorithmProposal(
    encryption=(ENCRYPTION["aes256"],),
    integrity=(INTEGRITY["sha256"],),
    prf=(PRF["prfsha256"],),
    key_exchange=(KEY_EXCHANGE["ecp256"],),
)
ESP_GCM = AlgorithmProposal(encryption=(ENCRYPTION["aes128gcm16"],))
NET = TrafficSelector.from_network(ip_network("10.99.0.0/24"))


def ipv4(address: str) -> TrafficSelector:
    return TrafficSelector.from_network(ip_network(address))


@dataclass(slots=True, kw_only=True)
class GatewaySetup:
    """How this gateway behaves. `verifies` are the families of signatures it knows.

    `cookies` is how many it demands, -1 for ever, `group` the only one it accepts.
    """

    ike_proposals: tuple[AlgorithmProposal, ...] = (GCM,)
    esp_proposals: tuple[AlgorithmProposal, ...] = (ESP_GCM,)
    auth: str = "psk"  # how the client authenticates: psk, certificate or eap
    gateway_auth: str = ""  # how the gateway does; default: psk with a client's psk, else certificate
    second: str = ""  # how the client authenticates once more
    ppk: Ppk | None = None
    psk: bytes = PSK
    password: str = PASSWORD
    key: PrivateKey = field(default_factory=gateway_key)
    chain: tuple[bytes, ...] = field(default_factory=lambda: (gateway_certificate().der,))
    identity: Identity = GATEWAY_ID
    verifies: frozenset[Family] = frozenset(Family)
    cookies: int = 0
    fresh: bool = False  # answer a repeated IKE_SA_INIT with a new SPI and a new key share
    network: tuple[TrafficSelector, ...] = (NET,)
    inner: str = INNER
    fragmentation: bool = True
    mobike: bool = False
    fragment_size: int = 1280
    liveness: float = 30.0
    rekey_ike: float = 1e6
    rekey_child: float = 1e6


@dataclass(slots=True, kw_only=True)
class HalfOpen:
    """An IKE SA whose IKE_AUTH is going on."""

    candidate: Candidate
    sa: IkeSa
    first: Payloads | None = None
    begun: Payloads = ()  # what began the authentication that goes on
    rounds: int = 1
    settled: bool = False  # everything is said
    child: ChildSa | None = None
    eap_round: int = 0
    msk: bytes = b""


class SimGateway:
    """Answers one client. `edit[stage]` may change the payloads of `init`, `auth`, `eap` and `final` responses.

    `connected` holds the IKE SAs of every client that authenticated, the latest last.
    """

    def __init__(self, setup: GatewaySetup, entropy: Callable[[int], bytes]) -> None:
        self.setup = setup
        self.entropy = entropy
        self.edit: dict[str, Edit] = {}
        self.half_open: dict[tuple[bytes, bytes], HalfOpen] = {}
        self.connected: list[IkeSas] = []
        self.outbox: list[Datagram] = []
        self.requests: list[tuple[str, Payloads]] = []
        self._moved: dict[tuple[bytes, bytes], int] = {}
        self._answered: dict[bytes, bytes] = {}
        self._cookie = b""
        self._cookies = 0

    @property
    def config(self) -> IkeConfig:
        setup = self.setup
        return IkeConfig(
            local_identity=setup.identity,
            auth=EapAuth(identity="unused", methods=(EapType.MSCHAPV2,)),
            gateway=ExpectedGateway(identity=None, auth=TrustedCertificate(trust=trust())),
            ike_proposals=setup.ike_proposals,
            child=ChildConfig(esp_proposals=setup.esp_proposals),
            timing=Timing(liveness=setup.liveness, rekey_ike=setup.rekey_ike, rekey_child=setup.rekey_child),
            fragment_size=setup.fragment_size,
        )

    # In

    def receive(self, data: bytes, path: Path, now: float) -> None:
        """Take a datagram; `path` is seen from the gateway."""
        try:
            message = Message.parse(data)
        except ParseError:
            return
        header = message.header
        if header.exchange == ExchangeType.IKE_SA_INIT and not header.response:
            self._init(data, message, path)
        elif (half := self.half_open.get((header.spi_i, header.spi_r))) is not None:
            self._auth(half, data, message, path, now)
        else:
            for ike_sas in self.connected:
                self._follow(ike_sas, data, message, path, now)
                if (owner := ike_sas.find(message.header)) is not None:
                    owner.receive(data, message, path, now)
        self.settle(now)

    def _follow(self, ike_sas: IkeSas, data: bytes, message: Message, path: Path, now: float) -> None:
        """The responder's half of MOBIKE: the latest UPDATE_SA_ADDRESSES decides (RFC 4555 section 3.5)."""
        sa, header = ike_sas.current, message.header
        spis = (sa.keying.spi_i, sa.keying.spi_r)
        if spis != (header.spi_i, header.spi_r) or header.response or header.message_id <= self._moved.get(spis, -1):
            return
        try:
            payloads = sa.channel._envelope.open(data, message, now) or ()
        except (ParseError, IntegrityError):
            return
        if has_notify(payloads, NotifyType.UPDATE_SA_ADDRESSES):
            self._moved[spis] = header.message_id
            for each in (ike_sas.current, *ike_sas.leaving):
                each.channel.path = path

    def handle_timer(self, now: float) -> None:
        for ike_sas in self.connected:
            ike_sas.handle_timer(now)
        self.settle(now)

    def next_deadline(self) -> float | None:
        return min((d for each in self.connected if (d := each.next_deadline()) is not None), default=None)

    def settle(self, now: float) -> None:
        for ike_sas in self.connected:
            ike_sas.settle(now)
            self.outbox += ike_sas.take_datagrams()

    def _edited(self, stage: str, payloads: list[Payload]) -> list[Payload]:
        return self.edit[stage](payloads) if stage in self.edit else payloads

    # IKE_SA_INIT

    def _init(self, data: bytes, message: Message, path: Path) -> None:
        if (again := self._answered.get(data)) is not None and not self.setup.fresh:
            self.outbox.append(Datagram(again, path))
            return
        payloads = message.payloads
        self.requests.append(("init", payloads))
        cookies = [p.data for p in payloads if isinstance(p, NotifyPayload) and p.type == NotifyType.COOKIE]
        wants_cookie = self.setup.cookies < 0 or self._cookies < self.setup.cookies
        if wants_cookie or (self._cookie and cookies != [self._cookie]):
            if wants_cookie:
                self._cookie = self.entropy(16)
                self._cookies += 1
            self._send_init(message, path, bytes(8), [NotifyPayload(type=NotifyType.COOKIE, data=self._cookie)])
            return
        spi_r = self.entropy(8)
        chosen = choose_ike(offer_ike(self.setup.ike_proposals), need(payloads, SaPayload), b"")
        ke = need(payloads, KePayload)
        if chosen is None:
            self._send_init(message, path, bytes(8), [NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN)])
            return
        answer, suite, _ = chosen
        if ke.method != suite.key_exchange.id:
            self._send_init(message, path, bytes(8), [invalid_ke(suite.key_exchange)])
            return
        ours = respond(suite.key_exchange, ke.data, self.entropy)
        nonce_i, nonce_r = need(payloads, NoncePayload).nonce, self.entropy(32)
        fragmentation = self.setup.fragmentation and has_notify(payloads, NotifyType.IKEV2_FRAGMENTATION_SUPPORTED)
        asked_for_ppk = has_notify(payloads, NotifyType.USE_PPK)
        reply: list[Payload] = [
            answer,
            KePayload(method=ke.method, data=ours.public),
            NoncePayload(nonce=nonce_r),
            *detection_notifies(message.header.spi_i, spi_r, path, encapsulate=False),
            signature_hashes(sha1=False),
            *([NotifyPayload(type=NotifyType.MULTIPLE_AUTH_SUPPORTED)] if self.setup.second else []),
            *([NotifyPayload(type=NotifyType.USE_PPK)] if self.setup.ppk and asked_for_ppk else []),
        ]
        if fragmentation:
            reply.append(NotifyPayload(type=NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
        response = self._send_init(message, path, spi_r, reply)
        self._answered[data] = response
        spi_i = message.header.spi_i
        candidate = Candidate(
            keying=Keying(
                spi_i=spi_i,
                spi_r=spi_r,
                suite=suite,
                keys=ike_keys(suite, ours.secret, nonce_i, nonce_r, spi_i, spi_r),
                initiator=False,
                fragmentation=fragmentation,
            ),
            nonce_i=nonce_i,
            nonce_r=nonce_r,
            request=data,
            response=response,
            nat=NatStatus(local=False, remote=False),
            peer_hashes=peer_hashes(payloads),
        )
        self.half_open[spi_i, spi_r] = HalfOpen(candidate=candidate, sa=self._sa(candidate, path))

    def _send_init(self, request: Message, path: Path, spi_r: bytes, payloads: list[Payload]) -> bytes:
        header = replace(request.header, spi_r=spi_r, initiator=False, response=True)
        data = Message(header=header, payloads=tuple(self._edited("init", payloads))).emit()
        self.outbox.append(Datagram(data, path))
        return data

    def _sa(self, candidate: Candidate, path: Path) -> IkeSa:
        return IkeSa(self.config, self.entropy, candidate.keying, path)

    # IKE_AUTH

    def _auth(self, half: HalfOpen, data: bytes, message: Message, path: Path, now: float) -> None:
        channel = half.sa.channel
        payloads = channel.incoming(data, message, path, now)
        if payloads is not None:
            if half.first is None:
                channel.path = path
                half.first = half.begun = payloads
                stage, reply = "auth", self._first(half, path)
            elif find(payloads, IdiPayload) is not None and self.setup.second and half.rounds == 1:
                half.begun, half.rounds, half.eap_round, half.msk = payloads, 2, 0, b""
                stage, reply = "second", self._second(half, path)
            elif find(payloads, EapPayload) is not None:
                stage, reply = "eap", self._eap(half, need(payloads, EapPayload).packet)
            elif find(payloads, AuthPayload) is not None and half.msk:
                stage, reply = "final", self._final(half, payloads, path)
            else:
                stage, reply = "other", []
            self.requests.append((stage, payloads))
            channel.answer(message.header, self._edited(stage, reply), path)
            if half.settled:
                self._established(half, now)
        self.outbox += channel.outbox
        channel.outbox.clear()

    def _refused(self) -> list[Payload]:
        return [NotifyPayload(type=NotifyType.AUTHENTICATION_FAILED)]

    def _first(self, half: HalfOpen, path: Path) -> list[Payload]:
        if self.setup.auth == "eap":
            return [*self._own_proof(half), EapPayload(packet=eap_request(EapType.IDENTITY))]
        assert half.first is not None
        auth, mixed = self._mix(half, half.first)
        if not self._proven(half, self.setup.auth, auth):
            return self._refused()
        return [*self._own_proof(half), *mixed, *self._end(half, path)]

    def _second(self, half: HalfOpen, path: Path) -> list[Payload]:
        if self.setup.second == "eap":
            return [EapPayload(packet=eap_request(EapType.IDENTITY))]
        if not self._proven(half, self.setup.second, find(half.begun, AuthPayload)):
            return self._refused()
        return self._end(half, path)

    def _end(self, half: HalfOpen, path: Path) -> list[Payload]:
        """What ends an authentication: the Child SA after the last one."""
        if self.setup.second and half.rounds == 1:
            return []
        half.settled = True
        return self._child(half, path)

    def _mix(self, half: HalfOpen, payloads: Payloads) -> tuple[AuthPayload | None, list[Payload]]:
        """The client's AUTH that counts, and our PPK_IDENTITY if its PPK is mixed in (RFC 8784 section 3)."""
        auth, ppk = find(payloads, AuthPayload), self.setup.ppk
        named = next((n for n in notifies(payloads) if n.type == NotifyType.PPK_IDENTITY), None)
        plain = next((n for n in notifies(payloads) if n.type == NotifyType.NO_PPK_AUTH), None)
        if named is not None and ppk is not None and named.data == b"\x02" + ppk.identity:
            half.candidate = with_ppk(half.candidate, ppk)
            half.sa.keying = half.candidate.keying
            return auth, [NotifyPayload(type=NotifyType.PPK_IDENTITY)]
        if named is not None:
            auth = AuthPayload(method=auth.method, data=plain.data) if auth is not None and plain is not None else None
        return auth, []

    def _proven(self, half: HalfOpen, how: str, auth: AuthPayload | None) -> bool:
        octets = initiator_octets(half.candidate, need(half.begun, IdiPayload).identity)
        if how == "psk":
            expected = shared_key_auth(half.candidate.keying.suite.prf, self.setup.psk, octets)
            return auth is not None and (auth.method, auth.data) == (AuthMethod.SHARED_KEY, expected)
        return self._signature_good(half, octets, auth)

    def _own_proof(self, half: HalfOpen) -> list[Payload]:
        assert half.first is not None
        candidate, setup = half.candidate, self.setup
        how = setup.gateway_auth or ("psk" if setup.auth == "psk" else "certificate")
        idr = IdrPayload(identity=setup.identity)
        octets = responder_octets(candidate, setup.identity)
        if how == "eap" and has_notify(half.first, NotifyType.EAP_ONLY_AUTHENTICATION):
            return [idr]
        if how == "psk":
            data = shared_key_auth(candidate.keying.suite.prf, setup.psk, octets)
            return [idr, AuthPayload(method=AuthMethod.SHARED_KEY, data=data)]
        signed = sign_auth(setup.key, octets, candidate.peer_hashes)
        certificates = [CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=der) for der in setup.chain]
        return [idr, *certificates, AuthPayload(method=signed.method, data=signed.data)]

    def _signature_good(self, half: HalfOpen, octets: bytes, auth: AuthPayload | None) -> bool:
        chain = [p.data for p in half.begun if isinstance(p, CertPayload)]
        if auth is None or not chain:
            return False
        try:
            scheme = verify(Certificate.from_der(chain[0]).public_key, auth.method, auth.data, octets, allow_sha1=True)
            if not any(scheme.startswith(family) for family in self.setup.verifies):
                return False
        except SignatureError:
            return False
        return True

    def _eap(self, half: HalfOpen, packet: bytes) -> list[Payload]:
        half.eap_round += 1
        match half.eap_round:
            case 1:
                return [EapPayload(packet=challenge(2))]
            case 2:
                response = packet[5:]
                password_hash = mschap.nt_password_hash(self.setup.password)
                hashed = mschap.challenge_hash(response[5:21], GATEWAY_CHALLENGE, USER.encode())
                if response[29:53] != mschap.nt_response(hashed, password_hash):
                    failure = b"E=691 R=0 C=" + b"0" * 32 + b" V=3 M=no"
                    return [EapPayload(packet=mschap_request(4, failure, 3))]
                half.msk = mschap.master_session_key(password_hash, response[29:53])
                return [EapPayload(packet=mschap_request(3, proof(response, self.setup.password) + b" M=welcome", 3))]
            case _ if half.msk:
                return [EapPayload(packet=SUCCESS)]
            case _:
                return [EapPayload(packet=bytes.fromhex("04030004"))]

    def _final(self, half: HalfOpen, payloads: Payloads, path: Path) -> list[Payload]:
        auth, mixed = self._mix(half, payloads)
        candidate, prf = half.candidate, half.candidate.keying.suite.prf
        identity = need(half.begun, IdiPayload).identity
        if auth is None or auth.data != shared_key_auth(prf, half.msk, initiator_octets(candidate, identity)):
            return self._refused()
        data = shared_key_auth(prf, half.msk, responder_octets(candidate, self.setup.identity))
        return [AuthPayload(method=AuthMethod.SHARED_KEY, data=data), *mixed, *self._end(half, path)]

    def _child(self, half: HalfOpen, path: Path) -> list[Payload]:
        """SA, TSi, TSr and CFG_REPLY, or the notification why not."""
        assert half.first is not None
        payloads, setup = half.first, self.setup
        spi_in = half.sa.children.new_spi()
        ours = offer_esp(setup.esp_proposals, spi_in, esn=True, key_exchange=False)
        chosen = choose_esp(ours, need(payloads, SaPayload), spi_in)
        if chosen is None:
            return [NotifyPayload(type=NotifyType.NO_PROPOSAL_CHOSEN)]
        answer, suite, spi_out = chosen
        request = find(payloads, ConfigPayload)
        inner = ip_address(setup.inner) if request else path.remote_address
        remote = intersect((ipv4(str(inner)),), need(payloads, TsiPayload).selectors)
        local = intersect(setup.network, need(payloads, TsrPayload).selectors)
        if not remote or not local:
            return [NotifyPayload(type=NotifyType.TS_UNACCEPTABLE)]
        candidate, keying = half.candidate, half.candidate.keying
        nonces = (candidate.nonce_i, candidate.nonce_r)
        keys = child_keys(keying.suite.prf, suite, keying.keys.d, *nonces, initiator=False)
        half.child = ChildSa(spi_in=spi_in, spi_out=spi_out, suite=suite, keys=keys, local=local, remote=remote)
        reply: list[Payload] = [answer, TsiPayload(selectors=remote), TsrPayload(selectors=local)]
        if has_notify(payloads, NotifyType.MOBIKE_SUPPORTED) and setup.mobike:
            reply.append(NotifyPayload(type=NotifyType.MOBIKE_SUPPORTED))
        if request:
            address = ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_ADDRESS, value=inner.packed)
            dns = ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_DNS, value=ip_address("10.99.0.53").packed)
            reply.insert(0, ConfigPayload(type=ConfigType.REPLY, attributes=(address, dns)))
        return reply

    def _established(self, half: HalfOpen, now: float) -> None:
        del self.half_open[half.candidate.keying.spi_i, half.candidate.keying.spi_r]
        half.sa.state = State.ESTABLISHED
        half.sa.heard(now)
        half.sa.lifetimes.start(now)
        if half.child is not None:
            half.sa.children.add(half.child, now)
        self.connected.append(IkeSas(half.sa))
