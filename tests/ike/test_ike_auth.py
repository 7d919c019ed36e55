"""IKE_AUTH against forgers, broken gateways and hostile ones that have the keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from eap_gateway import SUCCESS
from eap_gateway import request as eap_request
from sim_gateway import GATEWAY_ID, PASSWORD, GatewaySetup, ipv4, named
from sim_script import (
    AUTH,
    CREATE_CHILD,
    INFORMATIONAL,
    INIT,
    UNKNOWN_CRITICAL,
    Scribe,
    also,
    authenticating,
    deletes,
    instead,
    notify,
    only,
    opened,
    unprotected,
    without,
)
from sim_world import AUTHS, PATH, Weather, World, altered, assert_same_state, client_config

from ikeclient.crypto.algorithms.keymat import shared_key_auth
from ikeclient.crypto.algorithms.transforms import ENCRYPTION
from ikeclient.crypto.pki.revocation_status import RevocationPolicy
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoResponse,
)
from ikeclient.ike.config import IkeConfig
from ikeclient.ike.events import ChildEstablished, Closed, Configuration, IkeEstablished, Notice
from ikeclient.ike.v2.exchanges.auth import auth_lifetime
from ikeclient.ike.v2.exchanges.first_child import asked_selectors
from ikeclient.ike.v2.keying import Keying
from ikeclient.ike.v2.rules.proofs import responder_octets
from ikeclient.ike.v2.rules.selectors import ANY_IPV4, ANY_IPV6
from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.identity import AuthPayload, CertPayload, CertReqPayload, Identity, IdrPayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload, RawPayload
from ikeclient.wire.registry import (
    AuthMethod,
    CertEncoding,
    ConfigAttributeType,
    ConfigType,
    EapType,
    EncryptionId,
    ExchangeType,
    IdType,
    NotifyType,
    PayloadType,
    ProtocolId,
    SequenceNumbers,
    TransformType,
)
from ikeclient.wire.sa import SaPayload, Transform
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

Edit = Callable[[list[Payload]], list[Payload]]
SLOW = Weather(delay=0.1)


def midway(auth: str = "psk") -> tuple[World, Keying]:
    """A world whose client has sent IKE_AUTH and has not been answered yet, and the keys."""
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth), weather=SLOW)
    world.start()
    assert world.run(1, lambda w: any(sent.data[18] == AUTH for sent in w.log))
    return world, authenticating(world)


def still_connects(world: World, *hostile: bytes) -> None:
    before = len(world.log), len(world.events)
    for data in hostile:
        world.to_client(data, replace(PATH, remote_port=4500))
    assert (len(world.log), len(world.events)) == before
    assert world.run(10, World.finished)
    assert world.connected, world.error and world.error.lines()
    world.run(60)
    assert_same_state(world)


def answered(stage: str, edit: Edit, auth: str = "psk", config: IkeConfig | None = None) -> World:
    """A world whose gateway changes one of its responses; runs until connecting has ended."""
    world = World(config=config or client_config(auth), setup=GatewaySetup(auth=auth))
    world.gateway.edit[stage] = edit
    world.start()
    assert world.run(35, World.finished)
    return world


def failed(world: World, kind: type[IkeclientError]) -> IkeclientError:
    """The error, after checking its class and that its lines are lines that a terminal can show."""
    assert isinstance(world.error, kind), world.error
    assert not any(isinstance(event, ChildEstablished) for event in world.events)
    assert isinstance(world.events[-1], Closed)
    for line in world.error.lines():
        assert line.isprintable()
        assert len(line) < 400
    return world.error


# Forgeries: the default is that nothing changes


@pytest.mark.parametrize("auth", AUTHS)
def test_a_flipped_bit_anywhere_is_dropped_and_the_genuine_answer_still_works(auth: str) -> None:
    """K1."""
    world, _ = midway(auth)
    assert world.run(1, lambda w: w.log[-1].data[18] == AUTH and not w.log[-1].to_gateway)
    genuine = world.log[-1].data
    flipped = [genuine[:at] + bytes((genuine[at] ^ 1 << at % 8,)) + genuine[at + 1 :] for at in range(len(genuine))]
    still_connects(world, *flipped)


def test_a_message_that_is_malformed_inside_ends_the_attempt() -> None:
    """K2: genuine, so the gateway is broken; it is told, and there is no exception."""
    world, keying = midway()
    world.to_client(Scribe(keying).malformed(AUTH, message_id=1, response=True))
    assert world.run(10, lambda w: w.closed)
    assert "broke the protocol" in failed(world, NegotiationRefused).message
    assert deletes(world, keying)


CLEAR: list[tuple[ExchangeType, Payload]] = [
    (exchange, payload)
    for exchange in (AUTH, INFORMATIONAL, INIT)
    for payload in (
        notify(NotifyType.AUTHENTICATION_FAILED),
        notify(NotifyType.INVALID_SYNTAX),
        notify(NotifyType.INVALID_IKE_SPI),
        DeletePayload(protocol=ProtocolId.IKE),
        AuthPayload(method=AuthMethod.SHARED_KEY, data=b"x" * 32),
    )
]


@pytest.mark.parametrize(("exchange", "payload"), CLEAR)
def test_clear_text_is_not_believed_once_there_are_keys(exchange: ExchangeType, payload: Payload) -> None:
    """K3."""
    world, keying = midway()
    spis = keying.spi_i, keying.spi_r
    still_connects(
        world,
        *(
            unprotected(exchange, spis, [payload], message_id=message_id, response=response)
            for message_id in (0, 1, 2)
            for response in (True, False)
        ),
    )


def test_a_refusal_before_the_gateway_proved_who_it_is_says_so() -> None:
    """K4."""
    world = answered("auth", only(notify(NotifyType.AUTHENTICATION_FAILED)))
    error = failed(world, AuthenticationFailed)
    assert "has not proven its identity" in str(error.reason)


@pytest.mark.parametrize(
    ("exchange", "message_id", "response"),
    [(AUTH, 0, True), (AUTH, 2, True), (AUTH, 2**32 - 1, True), (INFORMATIONAL, 1, True), (CREATE_CHILD, 1, True)],
)
def test_an_answer_to_something_that_was_not_asked_is_dropped(
    exchange: ExchangeType, message_id: int, response: bool
) -> None:
    """K5: protected with the right keys, but with another message ID or exchange type."""
    world, keying = midway()
    refusal = (notify(NotifyType.AUTHENTICATION_FAILED),)
    still_connects(world, Scribe(keying).one(exchange, refusal, message_id=message_id, response=response))


def test_an_answer_of_an_earlier_round_is_dropped() -> None:
    """K5: the replay of the first protected answer during EAP."""
    world, _ = midway("eap")
    assert world.run(1, lambda w: sum(1 for sent in w.log if sent.to_gateway and sent.data[18] == AUTH) == 2)
    first = next(sent.data for sent in world.log if sent.data[18] == AUTH and not sent.to_gateway)
    still_connects(world, first, first)


@pytest.mark.parametrize("exchange", [INFORMATIONAL, CREATE_CHILD, AUTH])
@pytest.mark.parametrize("message_id", [0, 1])
def test_a_request_of_the_gateway_before_it_is_authenticated_is_not_answered(
    exchange: ExchangeType, message_id: int
) -> None:
    """K6."""
    world, keying = midway()
    scribe = Scribe(keying)
    still_connects(
        world,
        *(
            scribe.one(exchange, payloads, message_id=message_id)
            for payloads in ((), (DeletePayload(protocol=ProtocolId.IKE),), (UNKNOWN_CRITICAL,))
        ),
    )


# Proofs


def raw_auth(method: int, data: bytes) -> AuthPayload:
    return AuthPayload(method=AuthMethod(method), data=data)


PROOFS: list[tuple[str, str, Edit]] = [
    (auth, name, edit)
    for auth in ("psk", "certificate", "eap")
    for name, edit in {
        "missing": without(AuthPayload),
        "NULL": instead(AuthPayload, raw_auth(13, b"x" * 32)),
        "garbage": instead(AuthPayload, raw_auth(14, b"\xff" * 40)),
        "empty signature": instead(AuthPayload, raw_auth(14, b"")),
        "unknown method": instead(AuthPayload, raw_auth(200, b"x" * 32)),
        "all zero": instead(AuthPayload, raw_auth(2, bytes(32))),
        "empty": instead(AuthPayload, raw_auth(2, b"")),
        "RSA": instead(AuthPayload, raw_auth(1, b"x" * 256)),
    }.items()
]


@pytest.mark.parametrize(("auth", "name", "edit"), PROOFS, ids=[f"{auth}-{name}" for auth, name, _ in PROOFS])
def test_a_gateway_without_a_valid_proof_is_refused(auth: str, name: str, edit: Edit) -> None:
    """K9."""
    world = answered("auth", edit, auth)
    error = failed(world, GatewayNotAuthenticated)
    assert error.exit_code == 7
    if name == "NULL":
        assert "NULL" in " ".join(error.lines())


def test_two_proofs_are_none() -> None:
    """K9."""
    edit = lambda payloads: [*payloads, next(p for p in payloads if isinstance(p, AuthPayload))]  # noqa: E731
    assert "AuthPayload" in str(failed(answered("auth", edit), NegotiationRefused).reason)


def test_the_gateway_is_told_that_it_was_not_believed() -> None:
    """RFC 7296 section 2.21.2: AUTHENTICATION_FAILED, here together with the DELETE that it stands for."""
    world, keying = midway()
    world.gateway.edit["auth"] = instead(AuthPayload, raw_auth(2, bytes(32)))
    assert world.run(10, lambda w: w.closed)
    failed(world, GatewayNotAuthenticated)
    (payloads,) = set(deletes(world, keying))
    assert notify(NotifyType.AUTHENTICATION_FAILED) in payloads


IDENTITIES: dict[str, Identity] = {
    "another": named("evil.example.com"),
    "trailing dot": Identity(type=IdType.FQDN, data=b"vpn.example.com."),
    "NUL": Identity(type=IdType.FQDN, data=b"vpn.example.com\0.evil.example.com"),
    "space": Identity(type=IdType.FQDN, data=b"vpn.example.com "),
    "UTF-8": Identity(type=IdType.FQDN, data="vpn.exämple.com".encode()),
    "escape sequence": Identity(type=IdType.FQDN, data=b"\x1b[2J\x1b]0;owned\x07\r\n"),
    "very long": Identity(type=IdType.FQDN, data=b"a" * 60_000),
    "a DN": Identity(type=IdType.DER_ASN1_DN, data=b"\x30\x00"),
    "garbage as DN": Identity(type=IdType.DER_ASN1_DN, data=b"\xff\xff\xff"),
    "unknown type": Identity(type=IdType(77), data=b"vpn.example.com"),
    "an address": Identity(type=IdType.IPV4_ADDR, data=b"\xcb\x00\x71\x08"),
    "empty": Identity(type=IdType.FQDN, data=b""),
}


@pytest.mark.parametrize("auth", ["psk", "certificate"])
@pytest.mark.parametrize("name", IDENTITIES)
def test_another_identity_is_refused_and_both_are_shown(name: str, auth: str) -> None:
    """K10, K15: what the gateway says is shown escaped and shortened."""
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth, identity=IDENTITIES[name]))
    world.start()
    assert world.run(35, World.finished)
    error = failed(world, GatewayNotAuthenticated)
    assert "vpn.example.com" in error.message
    assert error.reason


@pytest.mark.parametrize("auth", ["psk", "certificate"])
def test_host_names_compare_without_case(auth: str) -> None:
    """K10."""
    identity = Identity(type=IdType.FQDN, data=b"VPN.Example.COM")
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth, identity=identity))
    world.connect()


def test_an_identity_that_only_the_certificate_confirms_is_accepted() -> None:
    """The gateway calls itself by its address, and the certificate has both that and the configured name."""
    identity = named("203.0.113.7")
    world = World(config=client_config("certificate"), setup=GatewaySetup(auth="certificate", identity=identity))
    world.connect()
    (up,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    assert up.gateway_identity == "203.0.113.7"


@pytest.mark.parametrize("auth", ["psk", "certificate"])
def test_a_missing_identity_is_no_proof(auth: str) -> None:
    """K10."""
    error = failed(answered("auth", without(IdrPayload), auth), GatewayNotAuthenticated)
    assert "IDr" in str(error.reason)


def test_an_address_of_three_bytes_is_a_broken_message() -> None:
    """K10."""
    short = RawPayload(TYPE=PayloadType.IDR, critical=False, body=b"\x01\0\0\0\x0a\0\0")
    failed(answered("auth", instead(IdrPayload, short)), NegotiationRefused)


def certificates(count: int, size: int = 10, encoding: CertEncoding = CertEncoding.X509_SIGNATURE) -> Edit:
    return also(*(CertPayload(encoding=encoding, data=bytes(size)) for _ in range(count)))


def certificate(encoding: CertEncoding, data: bytes) -> Edit:
    return instead(CertPayload, CertPayload(encoding=encoding, data=data))


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (certificates(300), NegotiationRefused),
        (certificates(20), GatewayNotAuthenticated),
        (certificate(CertEncoding.HASH_AND_URL_X509, b"h" * 20 + b"http://127.0.0.1/"), GatewayNotAuthenticated),
        (certificate(CertEncoding.HASH_AND_URL_BUNDLE, b"h" * 20 + b"file:///etc/shadow"), GatewayNotAuthenticated),
        (certificate(CertEncoding.X509_SIGNATURE, b"\x30\x80garbage"), GatewayNotAuthenticated),
        (without(CertPayload), GatewayNotAuthenticated),
    ],
    ids=["300", "20", "hash and URL", "bundle", "garbage", "none"],
)
def test_too_many_or_strange_certificates_are_refused(edit: Edit, kind: type[IkeclientError]) -> None:
    """K19: nothing is ever fetched."""
    failed(answered("auth", edit, "certificate"), kind)


def test_a_useless_certificate_beside_a_good_one_does_not_matter() -> None:
    """K19: as large as a message can be."""
    assert answered("auth", certificates(1, 60_000), "certificate").connected


# The Child SA


def esp(spi: bytes, **changes: object) -> Edit:
    """An edit that answers for the Child SA with this SPI and changed transforms."""

    def edit(payloads: list[Payload]) -> list[Payload]:
        (sa,) = [p for p in payloads if isinstance(p, SaPayload)]
        (proposal,) = sa.proposals
        changed = replace(proposal, spi=spi, **changes)  # type: ignore[arg-type]
        return instead(SaPayload, SaPayload(proposals=(changed,)))(payloads)

    return edit


GOOD_SPI = b"\xc0\0\0\1"
AES = Transform(type=TransformType.ENCRYPTION, id=EncryptionId.AES_GCM_16, key_bits=128)
ESN = Transform(type=TransformType.SEQUENCE_NUMBERS, id=SequenceNumbers.EXTENDED)
CHILDREN: dict[str, Edit] = {
    "SPI 0": esp(bytes(4)),
    "SPI 255": esp(b"\0\0\0\xff"),
    "SPI of 3 bytes": esp(b"\xc0\0\0"),
    "SPI of 8 bytes": esp(b"\xc0" * 8),
    "no SPI": esp(b""),
    "another cipher": esp(GOOD_SPI, transforms=(replace(AES, key_bits=256), ESN)),
    "NULL": esp(GOOD_SPI, transforms=(Transform(type=TransformType.ENCRYPTION, id=EncryptionId.NULL), ESN)),
    "another number": esp(GOOD_SPI, number=7),
    "AH": esp(GOOD_SPI, protocol=ProtocolId.AH),
    "another TSr": instead(TsrPayload, TsrPayload(selectors=(ipv4("10.98.0.0/24"),))),
    "TSi without our address": instead(TsiPayload, TsiPayload(selectors=(ipv4("10.88.0.9/32"),))),
    "TSi of the other family": instead(TsiPayload, TsiPayload(selectors=(ANY_IPV6,))),
    "no TSi": without(TsiPayload),
    "no TSr": without(TsrPayload),
    "transport mode": also(notify(NotifyType.USE_TRANSPORT_MODE)),
    "compression": also(notify(NotifyType.IPCOMP_SUPPORTED, b"\0\1\2")),
    "no address": without(ConfigPayload),
}


@pytest.mark.parametrize("edit", [esp(GOOD_SPI, transforms=(AES,)), esp(GOOD_SPI, transforms=(AES,), number=1)])
def test_an_answer_without_a_word_about_sequence_numbers_means_short_ones(edit: Edit) -> None:
    world = answered("auth", edit)
    assert world.connected, world.error and world.error.lines()
    (child,) = world.installed().values()
    assert not child.suite.esn


@pytest.mark.parametrize("name", CHILDREN)
def test_a_child_that_was_not_offered_fails_and_the_ike_sa_is_deleted(name: str) -> None:
    """K16, K11: the gateway is authenticated, so this is not an authentication failure."""
    world = answered("auth", CHILDREN[name])
    error = failed(world, NegotiationRefused)
    assert error.exit_code == 6
    world.run(10)
    assert all(ike_sas.current.next_deadline() is None for ike_sas in world.gateway.connected)


def child_of(world: World) -> ChildEstablished:
    (child,) = [event for event in world.events if isinstance(event, ChildEstablished)]
    return child


def test_of_wider_selectors_only_what_is_ours_is_installed() -> None:
    """K11, K21: TSr is cut to what was asked for, TSi to the assigned address."""
    wide = instead(TsrPayload, TsrPayload(selectors=(ANY_IPV4, ANY_IPV6)))
    world = answered("auth", lambda payloads: instead(TsiPayload, TsiPayload(selectors=(ANY_IPV4,)))(wide(payloads)))
    child = child_of(world)
    assert [str(selector) for selector in child.local_selectors] == ["10.88.0.1/32"]
    assert [str(selector) for selector in child.remote_selectors] == ["10.99.0.0/24"]


V4, V4_TOO, V6 = "10.88.0.1", "10.88.0.2", "fd88::1"


@pytest.mark.parametrize(
    ("assigned", "tsi", "used"),
    [
        ([V4, V4_TOO], [V4_TOO], [V4_TOO]),
        ([V4, V4_TOO], [V4], [V4]),
        ([V4, V6], [V4], [V4]),
        ([V6, V4], [V4], [V4]),
        ([V4, V6], [V6], [V6]),
        ([V4, V6], [V4, V6], [V4, V6]),
    ],
)
def test_an_address_that_the_selectors_leave_out_is_not_used(
    assigned: list[str], tsi: list[str], used: list[str]
) -> None:
    """K11, K12: the machine would send from it, and nothing of that would pass."""
    attributes = tuple(
        ConfigAttribute(
            type=ConfigAttributeType.INTERNAL_IP6_ADDRESS if ":" in each else ConfigAttributeType.INTERNAL_IP4_ADDRESS,
            value=ip_address(each).packed,
        )
        for each in assigned
    )
    reply = instead(ConfigPayload, ConfigPayload(type=ConfigType.REPLY, attributes=attributes))
    selectors = instead(TsiPayload, TsiPayload(selectors=tuple(ipv4(each) for each in tsi)))
    config = altered(client_config(), request=frozenset({"ipv4", "ipv6"}))
    world = answered("auth", lambda payloads: selectors(reply(payloads)), config=config)
    (configuration,) = [event for event in world.events if isinstance(event, Configuration)]
    assert [str(address.ip) for address in configuration.addresses] == used
    assert child_of(world).local_selectors == tuple(ipv4(each) for each in used)
    told = " ".join(event.text for event in world.events if isinstance(event, Notice))
    assert [each for each in assigned if f" {each} " in told] == [each for each in assigned if each not in used]


def unassigned(tsi: str) -> Edit:
    """A gateway without a pool."""
    return lambda payloads: instead(TsiPayload, TsiPayload(selectors=(ipv4(tsi),)))(without(ConfigPayload)(payloads))


@pytest.mark.parametrize(
    ("request_", "tsi"),
    [
        (frozenset(), "192.0.2.10/32"),
        (frozenset(), "0.0.0.0/0"),
        (frozenset({"ipv4", "dns"}), "192.0.2.10/32"),
        (frozenset({"ipv4", "dns"}), "192.0.2.0/24"),
        (frozenset({"ipv4", "dns"}), "0.0.0.0/0"),
    ],
)
def test_without_an_assigned_address_our_own_is_the_inner_one(request_: frozenset[str], tsi: str) -> None:
    """K22: TSi is then the address that this machine has on the path (RFC 7296 section 2.19)."""
    world = answered("auth", unassigned(tsi), config=altered(client_config(), request=request_))
    assert [str(selector) for selector in child_of(world).local_selectors] == ["192.0.2.10/32"]
    told = [event.text for event in world.events if isinstance(event, Notice) and "192.0.2.10" in event.text]
    assert bool(told) == bool(request_), "who asked for an address is told that there is none"


@pytest.mark.parametrize("request_", [frozenset(), frozenset({"ipv4", "dns"})])
def test_without_an_assigned_address_another_ones_is_refused(request_: frozenset[str]) -> None:
    """K22: such as the address that a NAT gave us, from which no packet of ours can come."""
    world = answered("auth", unassigned("198.51.100.9/32"), config=altered(client_config(), request=request_))
    error = failed(world, NegotiationRefused)
    assert error.exit_code == 6
    assert "TSi" in str(error.reason)


@pytest.mark.parametrize("value", [b"abc", bytes(range(5)), b""])
def test_an_address_that_is_none_is_told_before_the_error_that_it_leads_to(value: bytes) -> None:
    """K12."""

    def edit(payloads: list[Payload]) -> list[Payload]:
        attribute = ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_ADDRESS, value=value)
        return [*without(ConfigPayload)(payloads), ConfigPayload(type=ConfigType.REPLY, attributes=(attribute,))]

    world = answered("auth", edit)
    assert "no CFG_REPLY with a usable address" in (failed(world, NegotiationRefused).reason or "")
    told = [event.text for event in world.events if isinstance(event, Notice)]
    wanted = f"refused INTERNAL_IP4_ADDRESS from the gateway: an IPv4 address of {len(value)} bytes"
    assert told == ([wanted] if value else [])


@pytest.mark.parametrize("own", ["127.0.0.1", "169.254.3.4"])
def test_our_own_address_is_no_inner_one_if_it_is_of_this_machine_or_link_alone(own: str) -> None:
    """K22: as when the gateway is reached by way of a relay on this machine."""
    path = replace(PATH, local_address=ip_address(own))
    world = World(config=altered(client_config(), request=frozenset()), setup=GatewaySetup(), path=path)
    world.gateway.edit["auth"] = unassigned(f"{own}/32")
    world.start()
    assert world.run(35, World.finished)
    assert own in str(failed(world, NegotiationRefused).reason)


def test_extended_sequence_numbers_are_not_forced_on_us() -> None:
    """K16."""
    config = altered(client_config(), esn=False)
    world = answered("auth", esp(GOOD_SPI, transforms=(AES, ESN)), config=config)
    failed(world, NegotiationRefused)


CHILD_REFUSALS = {
    NotifyType.NO_PROPOSAL_CHOSEN: "algorithms",
    NotifyType.TS_UNACCEPTABLE: "traffic",
    NotifyType.INTERNAL_ADDRESS_FAILURE: "inner address",
    NotifyType.FAILED_CP_REQUIRED: "insists on assigning",
    NotifyType.SINGLE_PAIR_REQUIRED: "one pair",
}


@pytest.mark.parametrize("auth", ["psk", "certificate"])
@pytest.mark.parametrize("type_", CHILD_REFUSALS, ids=str)
def test_a_refused_child_is_reported_as_what_it_is(type_: NotifyType, auth: str) -> None:
    """K17: the AUTH is good, so the IKE SA is deleted and nobody talks about credentials."""
    keep = (IdrPayload, CertPayload, AuthPayload)
    world = answered("auth", lambda payloads: [*(p for p in payloads if isinstance(p, keep)), notify(type_)], auth)
    error = failed(world, NegotiationRefused)
    assert CHILD_REFUSALS[type_] in error.message
    assert str(type_) in str(error.reason)
    assert "identity" not in str(error.reason)
    assert all(ike_sas.current.next_deadline() is None for ike_sas in world.gateway.connected)


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 600, 2**32 - 1])
def test_an_authentication_lifetime_ends_the_connection_in_time_but_never_at_once(seconds: int) -> None:
    """K18, S10."""
    world = World()
    world.gateway.edit["auth"] = also(notify(NotifyType.AUTH_LIFETIME, seconds.to_bytes(4, "big")))
    world.connect()
    up = world.now
    assert world.run(50, lambda w: w.closed) is False
    assert world.run(1000, lambda w: w.closed) is (seconds <= 600)
    if world.closed:
        assert isinstance(world.error, NoResponse)
        assert world.now - up <= max(seconds, 60)


def test_a_malformed_authentication_lifetime_is_ignored() -> None:
    """K18."""
    assert auth_lifetime([notify(NotifyType.AUTH_LIFETIME, b"\0\0\1")]) is None
    assert auth_lifetime([notify(NotifyType.AUTH_LIFETIME, (90).to_bytes(4, "big"))]) == 90


@pytest.mark.parametrize("auth", AUTHS)
def test_cancelling_during_ike_auth_deletes_once_and_brings_nothing_up(auth: str) -> None:
    """K20: the answer arrives after the person gave up."""
    world, keying = midway(auth)
    world.at_client(lambda client, now: client.close(now))
    assert world.run(3, lambda w: w.closed)
    assert world.error is None
    assert len(set(deletes(world, keying))) == 1
    assert not any(isinstance(event, ChildEstablished | IkeEstablished) for event in world.events)
    world.run(60)
    assert all(ike_sas.current.next_deadline() is None for ike_sas in world.gateway.connected)
    assert world.events[-1] == Closed()


def test_a_deadline_during_ike_auth_deletes_once() -> None:
    """K20: the gateway answers IKE_AUTH too late."""
    config = altered(client_config(), timeout=3.0)
    world = World(config=config, drop=lambda sent: not sent.to_gateway and sent.data[18] == AUTH)
    world.start()
    world.run(1)
    keying = authenticating(world)
    assert world.run(5, lambda w: w.closed)
    assert world.now == pytest.approx(3.0)
    assert isinstance(world.error, NoResponse)
    assert "during IKE_AUTH" in world.error.message
    assert len(deletes(world, keying)) == 1
    world.drop = lambda _: False
    world.run(60)
    assert all(ike_sas.current.next_deadline() is None for ike_sas in world.gateway.connected)


# EAP


def test_a_success_before_any_method_is_refused() -> None:
    """E1 (CVE-2021-45079)."""
    world = answered("auth", instead(EapPayload, EapPayload(packet=SUCCESS)), "eap")
    assert "skipped the authentication" in failed(world, GatewayNotAuthenticated).message


def test_a_success_in_the_middle_of_the_method_is_refused() -> None:
    """E1."""
    world = answered("eap", instead(EapPayload, EapPayload(packet=bytes.fromhex("03020004"))), "eap")
    failed(world, GatewayNotAuthenticated)


@pytest.mark.parametrize("missing", [AuthPayload, IdrPayload, CertPayload])
@pytest.mark.parametrize("auth", AUTHS)
def test_no_identity_and_no_credential_goes_to_a_gateway_that_has_not_proven_itself(
    auth: str, missing: type[Payload]
) -> None:
    """E2."""
    identity_request = EapPayload(packet=eap_request(EapType.IDENTITY))

    def edit(payloads: list[Payload]) -> list[Payload]:
        kept = [p for p in payloads if not isinstance(p, missing | EapPayload)]
        return [*kept, identity_request]

    world, keying = midway(auth)
    world.gateway.edit["auth"] = edit
    assert world.run(10, World.finished)
    if missing is CertPayload and auth == "psk":
        return  # a pre-shared key needs no certificate, and EAP beside a good proof is ignored
    failed(world, GatewayNotAuthenticated)
    sent = [opened(s.data, keying) for s in world.log if s.to_gateway and s.data[18] == AUTH]
    assert not any(isinstance(p, EapPayload) for payloads in sent for p in payloads)


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (without(AuthPayload), GatewayNotAuthenticated),
        (instead(AuthPayload, raw_auth(2, bytes(32))), GatewayNotAuthenticated),
        (instead(AuthPayload, raw_auth(13, b"")), GatewayNotAuthenticated),
        (only(notify(NotifyType.AUTHENTICATION_FAILED)), AuthenticationFailed),
    ],
    ids=["missing", "wrong", "NULL", "refused"],
)
def test_the_last_message_of_eap_has_to_prove_the_keys(edit: Edit, kind: type[IkeclientError]) -> None:
    """E15."""
    failed(answered("final", edit, "eap"), kind)


def test_a_proof_made_without_the_msk_is_refused() -> None:
    """E15: made with SK_pr, as for methods that generate no key, although EAP-MSCHAPv2 does."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))

    def edit(payloads: list[Payload]) -> list[Payload]:
        (half,) = world.gateway.half_open.values()
        octets = responder_octets(half.candidate, GATEWAY_ID)
        data = shared_key_auth(half.candidate.keying.suite.prf, half.candidate.keying.keys.pr, octets)
        return instead(AuthPayload, raw_auth(2, data))(payloads)

    world.gateway.edit["final"] = edit
    world.start()
    assert world.run(35, World.finished)
    failed(world, GatewayNotAuthenticated)


def test_a_gateway_that_stops_in_the_middle_of_eap() -> None:
    world = answered("eap", only(), "eap")
    assert "stopped in the middle of EAP" in failed(world, AuthenticationFailed).message


def test_an_endless_eap_conversation_ends() -> None:
    """E5."""
    counter = iter(range(1, 200))
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    world.gateway.edit["eap"] = lambda _: [
        EapPayload(packet=eap_request(EapType.NOTIFICATION, b"again", identifier=next(counter)))
    ]
    world.start()
    assert world.run(35, World.finished)
    failed(world, NegotiationRefused)
    assert next(counter) < 30


def test_text_of_the_gateway_is_escaped_wherever_it_shows() -> None:
    """K15: a notification and the text of a failure, with escape sequences, line ends and far too long."""
    hostile = b"\x1b[2J\r\nroot# " + b"A" * 60_000
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    rounds = iter([[EapPayload(packet=eap_request(EapType.NOTIFICATION, hostile[:40_000], 7))]])
    world.gateway.edit["eap"] = lambda payloads: next(rounds, payloads)  # type: ignore[arg-type]
    world.start()
    assert world.run(35, World.finished)
    notices = [event.text for event in world.events if isinstance(event, Notice)]
    for text in [*notices, *(world.error.lines() if world.error else [])]:
        assert text.isprintable()
        assert len(text) <= 400


def test_notifications_nobody_knows_are_ignored() -> None:
    """K15, S11: whatever their data."""
    unknown = [notify(NotifyType(number), b"\x1b[31m" * 100) for number in (16500, 40960, 65535)]
    world = World()
    world.gateway.edit["auth"] = also(*unknown)
    world.connect()
    assert not any(isinstance(event, Notice) for event in world.events)


# What we send


def first_request(config: IkeConfig, auth: str) -> tuple[Payload, ...]:
    world = World(config=config, setup=GatewaySetup(auth=auth), weather=SLOW)
    world.start()
    world.run(1, lambda w: any(sent.data[18] == AUTH for sent in w.log))
    return opened(world.log[-1].data, authenticating(world))


@pytest.mark.parametrize("auth", AUTHS)
def test_the_first_request_has_its_payloads_in_the_order_of_the_standard(auth: str) -> None:
    """RFC 7296 section 1.2: IDi, [CERT,] [CERTREQ,] [IDr,] [AUTH,] [CP,] SAi2, TSi, TSr."""
    kinds = [type(p).__name__ for p in first_request(client_config(auth), auth) if not isinstance(p, NotifyPayload)]
    optional = {
        "psk": ["IdrPayload", "AuthPayload"],
        "certificate": ["CertPayload", "CertReqPayload", "IdrPayload", "AuthPayload"],
        "eap": ["CertReqPayload", "IdrPayload"],
    }
    assert kinds == ["IdiPayload", *optional[auth], "ConfigPayload", "SaPayload", "TsiPayload", "TsrPayload"]


def test_initial_contact_and_mobike_are_announced() -> None:
    types = [p.type for p in first_request(client_config(), "psk") if isinstance(p, NotifyPayload)]
    assert types == [NotifyType.INITIAL_CONTACT, NotifyType.MOBIKE_SUPPORTED]
    without_mobike = first_request(replace(client_config(), mobike=False), "psk")
    assert [p.type for p in without_mobike if isinstance(p, NotifyPayload)] == [NotifyType.INITIAL_CONTACT]


def test_the_certificate_request_names_our_authority() -> None:
    (request,) = [p for p in first_request(client_config("eap"), "eap") if isinstance(p, CertReqPayload)]
    assert len(request.authorities) == 20


def test_an_ocsp_response_is_asked_for_in_a_request_of_its_own() -> None:
    """RFC 4806 section 4.1; C8."""
    config = replace(client_config("eap"), revocation=RevocationPolicy.RELAXED)
    _, ocsp = [p for p in first_request(config, "eap") if isinstance(p, CertReqPayload)]
    assert (ocsp.encoding, ocsp.authorities) == (CertEncoding.OCSP_CONTENT, b"")


def test_the_password_is_in_no_datagram_and_no_representation() -> None:
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    world.connect()
    assert not any(PASSWORD.encode() in sent.data for sent in world.log)
    assert PASSWORD not in repr(world.config)


@pytest.mark.parametrize(
    ("request_", "remote", "expected"),
    [
        ({"ipv4"}, (), ((ANY_IPV4,), (ANY_IPV4,))),
        ({"ipv4", "ipv6"}, (), ((ANY_IPV4, ANY_IPV6), (ANY_IPV4, ANY_IPV6))),
        ({"ipv6"}, (ANY_IPV4, ANY_IPV6), ((ANY_IPV6,), (ANY_IPV6,))),
    ],
)
def test_selectors_of_the_families_that_get_an_address_are_asked_for(
    request_: set[str], remote: tuple[TrafficSelector, ...], expected: object
) -> None:
    config = altered(client_config(), request=frozenset(request_), remote_selectors=remote)
    assert asked_selectors(config, PATH) == expected


def test_without_configuration_the_address_of_the_path_is_the_only_one() -> None:
    config = altered(client_config(), request=frozenset())
    local, _ = asked_selectors(config, PATH)
    assert [str(selector) for selector in local] == ["192.0.2.10/32"]
    world = World(config=config)
    world.connect()
    (child,) = world.installed().values()
    assert child.local_selectors[0].start == ip_address("192.0.2.10")


def test_no_proposal_in_common_for_esp() -> None:
    config = client_config()
    other = replace(config.child.esp_proposals[0], encryption=(ENCRYPTION["chacha20poly1305"],))
    world = World(config=altered(config, esp_proposals=(other,)))
    world.start()
    assert world.run(5, lambda w: w.closed)
    assert "algorithms" in failed(world, NegotiationRefused).message


def test_every_message_after_the_first_two_is_protected() -> None:
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    world.connect()
    for sent in world.log:
        if sent.data[18] != INIT:
            assert [p.TYPE for p in Message.parse(sent.data).payloads] == [PayloadType.ENCRYPTED]


def test_an_edit_that_changes_nothing_that_matters_connects() -> None:
    """Guards the edits above: they fail for what they change, not for being edits."""
    world = answered("auth", esp(GOOD_SPI))
    assert world.connected
