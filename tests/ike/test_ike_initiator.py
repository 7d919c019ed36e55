"""The five methods of a connection, and every failure that a person can meet in its own words."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest
from eap_gateway import FAILURE
from eap_gateway import request as eap_request
from hypothesis import given
from hypothesis import strategies as st
from sim_certificates import NOW, stranger_certificate, stranger_key, user_certificate
from sim_gateway import CBC, ESP_GCM, GatewaySetup, named
from sim_script import AUTH, INFORMATIONAL, INIT, Scribe, deletes, instead, notify, only, unprotected
from sim_world import PATH, Weather, World, altered, assert_same_state, client_config

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE
from ikeclient.crypto.pki.trust_store import TrustStore
from ikeclient.errors import (
    AuthenticationFailed,
    GatewayNotAuthenticated,
    IkeclientError,
    NegotiationRefused,
    NoResponse,
)
from ikeclient.ike.config import CertificateAuth, PskAuth, TrustedCertificate
from ikeclient.ike.events import (
    ChildEstablished,
    Closed,
    IkeEstablished,
    IkeKeysDerived,
    Need,
    NeedKind,
    Notice,
    PathChanged,
    Progress,
)
from ikeclient.ike.v2 import ike_sas, responder
from ikeclient.ike.v2.close_reasons import EndedByGateway
from ikeclient.ike.v2.exchanges.informational import delete_ike_sa
from ikeclient.ike.v2.ike_sa import IkeSa
from ikeclient.ike.v2.initiator import Initiator
from ikeclient.ike.v2.message import channel, envelope
from ikeclient.ike.v2.state import State
from ikeclient.wire.config import ConfigPayload
from ikeclient.wire.identity import AuthPayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.payload import Message
from ikeclient.wire.registry import AuthMethod, EapType, HashAlgorithm, NotifyType
from ikeclient.wire.selector import TrafficSelector

# Failures in the words of a person


def changed(auth: str = "psk", **changes: object) -> World:
    return World(config=altered(client_config(auth), **changes), setup=GatewaySetup(auth=auth))


def edited(method: str, **edits: object) -> World:
    world = World(config=client_config(method), setup=GatewaySetup(auth=method))
    world.gateway.edit.update(edits)  # type: ignore[arg-type]
    return world


def another_method() -> World:
    """A gateway that insists on eap-gtc."""
    packets = iter([eap_request(EapType.GTC, b"Password: ", 2), FAILURE])
    return edited("eap", eap=lambda _: [EapPayload(packet=next(packets))])


def later(auth: str) -> World:
    """A client whose clock is ten years ahead."""
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth))
    world.client = Initiator(world.config, random.Random(0).randbytes, lambda: NOW + timedelta(days=3650))
    return world


def dropping(*exchanges: int) -> World:
    return World(drop=lambda sent: sent.data[18] in exchanges and not sent.to_gateway)


def hashes(*values: int) -> Callable[[list], list]:  # type: ignore[type-arg]
    data = b"".join(value.to_bytes(2, "big") for value in values)

    def edit(payloads: list) -> list:  # type: ignore[type-arg]
        kept = [p for p in payloads if getattr(p, "type", None) != NotifyType.SIGNATURE_HASH_ALGORITHMS]
        return [*kept, notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)]

    return edit


def disowned(world: World) -> World:
    """A certificate user whose certificate the gateway does not accept."""
    chain, key = (user_certificate(),), stranger_key()
    assert isinstance(world.config.auth, CertificateAuth)
    config = replace(world.config, auth=CertificateAuth(chain=chain, key=key))
    return World(config=config, setup=world.setup)


ELSEWHERE = TrafficSelector.from_network(ip_network("172.31.0.0/16"))
ONLY_ECP384 = replace(CBC, key_exchange=(KEY_EXCHANGE["ecp384"],))
STRANGE = GatewaySetup(auth="certificate", key=stranger_key(), chain=(stranger_certificate().der,))

FAILURES: dict[str, tuple[Callable[[], World], type[IkeclientError], int, tuple[str, ...]]] = {
    "our pre-shared key is wrong": (
        lambda: changed(auth="psk") and World(config=replace(client_config(), auth=PskAuth(psk=b"wrong"))),
        AuthenticationFailed,
        4,
        ("refused our credentials", "AUTHENTICATION_FAILED", "not proven its identity", "[auth]"),
    ),
    "the gateway's pre-shared key is wrong": (
        lambda: edited("psk", auth=instead(AuthPayload, AuthPayload(method=AuthMethod.SHARED_KEY, data=bytes(32)))),
        GatewayNotAuthenticated,
        7,
        ("vpn.example.com", "pre-shared key", "does not verify"),
    ),
    "the password is wrong": (
        lambda: World(config=client_config("eap"), setup=GatewaySetup(auth="eap", password="another")),
        AuthenticationFailed,
        4,
        ("'alice'", "password", "E=691"),
    ),
    "the EAP method is another": (
        another_method,
        AuthenticationFailed,
        4,
        ("no EAP method in common", "eap-gtc", "eap-mschapv2"),
    ),
    "our certificate is refused": (
        lambda: disowned(changed("certificate")),
        AuthenticationFailed,
        4,
        ("refused our credentials",),
    ),
    "our key can sign nothing that the gateway verifies": (
        lambda: edited("certificate", init=hashes(HashAlgorithm.SHA1)),
        AuthenticationFailed,
        4,
        ("no signature", "Ed25519"),
    ),
    "no algorithms for IKE in common": (
        lambda: World(setup=GatewaySetup(ike_proposals=(CBC,))),
        NegotiationRefused,
        6,
        ("algorithms", "NO_PROPOSAL_CHOSEN", "[crypto]"),
    ),
    "no key exchange in common": (
        lambda: edited("psk", init=only(notify(NotifyType.INVALID_KE_PAYLOAD, (20).to_bytes(2, "big")))),
        NegotiationRefused,
        6,
        ("key exchange", "ECP_384", "[crypto]"),
    ),
    "no algorithms for ESP in common": (
        lambda: changed(esp_proposals=(replace(ESP_GCM, encryption=(ENCRYPTION["chacha20poly1305"],)),)),
        NegotiationRefused,
        6,
        ("algorithms", "NO_PROPOSAL_CHOSEN"),
    ),
    "the traffic is not carried": (
        lambda: changed(remote_selectors=(ELSEWHERE,)),
        NegotiationRefused,
        6,
        ("traffic", "TS_UNACCEPTABLE", "[network] routes"),
    ),
    "no inner address": (
        lambda: edited("psk", auth=lambda payloads: [p for p in payloads if not isinstance(p, ConfigPayload)]),
        NegotiationRefused,
        6,
        ("no inner address", "CFG_REPLY", "[network] request"),
    ),
    "the gateway is another": (
        lambda: changed(gateway_identity=named("other.example.com")),
        GatewayNotAuthenticated,
        7,
        ("other.example.com", "vpn.example.com", "[gateway] identity"),
    ),
    "the gateway's certificate is another's": (
        lambda: changed("certificate", gateway_identity=named("other.example.com")),
        GatewayNotAuthenticated,
        7,
        ("other.example.com", "vpn.example.com", "identity"),
    ),
    "the authority is unknown": (
        lambda: World(config=client_config("certificate"), setup=STRANGE),
        GatewayNotAuthenticated,
        7,
        ("certificate",),
    ),
    "nothing is trusted": (
        lambda: World(
            config=altered(
                client_config("eap"), gateway_auth=TrustedCertificate(trust=TrustStore.from_certificates([]))
            ),
            setup=GatewaySetup(auth="eap"),
        ),
        GatewayNotAuthenticated,
        7,
        ("Simulated CA",),
    ),
    "the certificate has expired": (lambda: later("certificate"), GatewayNotAuthenticated, 7, ("2027", "2036")),
    "the gateway wants EAP without a proof": (
        lambda: edited("eap", auth=only(EapPayload(packet=eap_request(EapType.IDENTITY)))),
        GatewayNotAuthenticated,
        7,
        ("without having authenticated itself", "nothing was sent"),
    ),
    "our identity is refused before the gateway proves its own": (
        lambda: edited("eap", auth=only(EapPayload(packet=FAILURE))),
        AuthenticationFailed,
        4,
        ("refused our identity", "EAP-Failure", "not proven its identity", "[auth]"),
    ),
    "our identity is refused by a notification before the gateway proves its own": (
        lambda: edited("eap", auth=only(notify(NotifyType.AUTHENTICATION_FAILED))),
        AuthenticationFailed,
        4,
        ("refused our credentials", "AUTHENTICATION_FAILED", "not proven its identity", "[auth]"),
    ),
    "nobody answers": (
        lambda: World(drop=lambda _: True),
        NoResponse,
        5,
        ("no IKE answer from 203.0.113.7", "500 nor 4500", "a firewall may block UDP 500 and 4500"),
    ),
    "nobody answers on a port of the profile's": (
        lambda: World(drop=lambda _: True, path=replace(PATH, remote_port=5500)),
        NoResponse,
        5,
        ("no IKE answer from 203.0.113.7", "from UDP port 5500", "a firewall may block UDP 5500"),
    ),
    "the gateway stops during IKE_AUTH": (
        lambda: dropping(AUTH),
        NoResponse,
        5,
        ("stopped answering during IKE_AUTH", "4500", "fragments"),
    ),
    "only cookies come": (
        lambda: World(setup=GatewaySetup(cookies=-1)),
        NegotiationRefused,
        6,
        ("cookies",),
    ),
    "an answer that is none": (
        lambda: edited("psk", init=only()),
        NegotiationRefused,
        6,
        ("IKE_SA_INIT", "no SA"),
    ),
}


def check_words(error: IkeclientError | None, kind: type[IkeclientError], code: int, words: tuple[str, ...]) -> None:
    assert type(error) is kind, error
    assert error.exit_code == code
    assert 2 <= len(error.lines()) <= 3
    for line in error.lines():
        assert line == line.strip()
        assert line.isprintable()
        assert len(line) <= 200
    for word in words:
        assert word in "\n".join(error.lines())


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_names_what_why_and_what_to_try(name: str) -> None:
    build, kind, code, words = FAILURES[name]
    world = build()
    world.start()
    assert world.run(35, World.finished)
    assert not world.connected
    check_words(world.error, kind, code, words)


@pytest.mark.parametrize(
    ("happens", "kind", "words"),
    [
        (lambda w: None, NoResponse, ("203.0.113.7 does not answer any more", "unanswered")),
        (
            lambda w: w.to_client(Scribe(w.sa.keying).one(37, delete_ike_sa(), message_id=0)),
            EndedByGateway,
            ("ended the connection", "DELETE"),
        ),
    ],
    ids=["silence", "DELETE"],
)
def test_the_end_of_a_connection_names_what_and_why(
    happens: Callable[[World], None], kind: type[IkeclientError], words: tuple[str, ...]
) -> None:
    world = World()
    world.connect()
    world.drop = lambda _: True
    happens(world)
    assert world.run(100, lambda w: w.closed)
    check_words(world.error, kind, 5, words)


# The methods


def test_closing_before_anything_came_back_ends_at_once() -> None:
    world = World(drop=lambda _: True)
    world.start()
    world.at_client(lambda client, now: client.close(now))
    assert world.events[-1] == Closed()
    assert world.client.next_deadline() is None


def test_closing_before_starting_ends_at_once() -> None:
    world = World()
    world.at_client(lambda client, now: client.close(now))
    assert world.events == [Closed()]


@pytest.mark.parametrize("moment", [0.0, 0.03, 0.05, 0.07, 0.11, 0.15, 0.19, 0.21, 0.25])
def test_closing_at_any_moment_ends_without_an_error_and_leaves_nothing_at_the_gateway(moment: float) -> None:
    for auth in ("psk", "eap"):
        world = World(config=client_config(auth), setup=GatewaySetup(auth=auth))
        world.start()
        world.run(moment)
        world.at_client(lambda client, now: client.close(now))
        assert world.run(2.1, lambda w: w.closed)
        assert world.error is None
        world.run(60)
        assert all(ike_sas.current.next_deadline() is None for ike_sas in world.gateway.connected)


def test_a_deadline_that_comes_while_closing_is_no_error() -> None:
    world = World(config=altered(client_config(), timeout=3.0), drop=lambda sent: sent.data[18] == AUTH)
    world.start()
    world.run(2.9)
    world.at_client(lambda client, now: client.close(now))
    assert world.run(3, lambda w: w.closed)
    assert world.error is None


def test_methods_that_need_a_connection_do_nothing_without_one() -> None:
    world = World(drop=lambda _: True)
    world.start()
    sent = len(world.log)
    world.at_client(lambda client, now: client.rekey(now))
    world.at_client(lambda client, now: client.rekey_child(4711, now))
    world.at_client(lambda client, now: client.check_liveness(now))
    need = Need(kind=NeedKind.PASSWORD, request="Password")
    world.at_client(lambda client, now: client.supply(need, "unasked", now))
    world.at_client(lambda client, now: client.refuse(need, NegotiationRefused("unasked"), now))
    world.at_client(lambda client, now: client.heard(now))
    assert len(world.log) == sent
    assert world.client.last_heard == float("-inf")


def test_an_unknown_child_is_not_rekeyed() -> None:
    world = World()
    world.connect()
    sent = len(world.log)
    world.at_client(lambda client, now: client.rekey_child(4711, now))
    assert len(world.log) == sent


def test_the_path_moves_to_port_4500_when_the_gateway_is_authenticated() -> None:
    world = World()
    world.start()
    world.run(0.05)
    assert not any(isinstance(event, PathChanged) for event in world.events)
    world.run(1)
    (moved,) = [event for event in world.events if isinstance(event, PathChanged)]
    assert moved.path.remote_port == 4500
    assert {sent.path.remote_port for sent in world.log if sent.to_gateway and sent.data[18] != INIT} == {4500}


def test_a_port_of_its_own_is_kept() -> None:
    world = World(path=replace(PATH, remote_port=7777))
    world.connect()
    assert {sent.path.remote_port for sent in world.log if sent.to_gateway} == {7777}


def test_keys_are_disclosed_on_request_only_and_never_shown() -> None:
    for disclose in (False, True):
        world = World(config=replace(client_config(), disclose_keys=disclose))
        world.connect()
        world.at_client(lambda client, now: client.rekey(now))
        world.run(2)
        disclosed = [event for event in world.events if isinstance(event, IkeKeysDerived)]
        assert len(disclosed) == (2 if disclose else 0)
        for event in disclosed:
            assert event.keys.ei.hex() not in repr(event)
            assert repr(event.keys.ei) not in repr(event)
        if disclose:
            assert disclosed[-1].keys == world.sa.keying.keys
            assert world.events.index(disclosed[0]) < next(
                index for index, event in enumerate(world.events) if isinstance(event, IkeEstablished)
            )


def test_no_event_shows_a_key() -> None:
    world = World()
    world.connect()
    (child,) = [event for event in world.events if isinstance(event, ChildEstablished)]
    assert repr(child.keys.inbound.encryption) not in repr(child)
    assert child.keys.outbound.encryption.hex() not in repr(world.events)


def test_a_rekey_is_announced_with_the_new_spis_and_when_the_next_one_is_due() -> None:
    world = World(config=altered(client_config(), rekey_ike=1000.0))
    world.connect()
    world.run(5)
    world.at_client(lambda client, now: client.rekey(now))
    world.run(2)
    first, second = [event for event in world.events if isinstance(event, IkeEstablished)]
    assert (first.rekeyed, second.rekeyed) == (False, True)
    assert first.spi_i != second.spi_i
    assert 850 <= second.rekey_at - 5 <= 951
    assert second.gateway_identity == "vpn.example.com"


@given(data=st.binary(max_size=300))
def test_arbitrary_datagrams_change_nothing(data: bytes) -> None:
    world = World(weather=Weather(delay=0.05))
    world.start()
    before = len(world.log), list(world.events)
    world.to_client(data)
    assert (len(world.log), world.events) == before


@given(at=st.integers(0, 400), value=st.integers(0, 255), which=st.integers(0, 1), auth=st.sampled_from(["psk", "eap"]))
def test_a_changed_byte_in_any_answer_of_the_handshake_never_raises(at: int, value: int, which: int, auth: str) -> None:
    world = World(config=client_config(auth), setup=GatewaySetup(auth=auth), weather=Weather(delay=0.05))
    world.start()
    kind = (INIT, AUTH)[which]
    world.run(5, lambda w: any(not sent.to_gateway and sent.data[18] == kind for sent in w.log))
    data = bytearray(world.log[-1].data)
    data[at % len(data)] = value
    world.to_client(bytes(data), replace(PATH, remote_port=500 if which == 0 else 4500))
    assert world.run(35, World.finished)


def test_progress_is_told_once() -> None:
    world = World()
    world.connect()
    assert [event for event in world.events if isinstance(event, Progress)] == [
        Progress(step="negotiating"),
        Progress(step="authenticating"),
    ]


def test_only_known_notifications_are_needed() -> None:
    """A gateway that sends no optional notification at all: no fragmentation, no hashes, no NAT detection."""
    world = World()
    world.gateway.edit["init"] = lambda payloads: [p for p in payloads if not isinstance(p, NotifyPayload)]
    world.connect()
    (up,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    assert not up.fragmentation
    assert not up.mobike


@pytest.mark.parametrize(
    ("owner", "name", "cause"),
    [
        (responder, "respond", lambda w: w.to_client(Scribe(w.sa.keying).one(37, (), message_id=0))),
        (IkeSa, "receive", lambda w: w.to_client(Scribe(w.sa.keying).one(37, (), message_id=0))),
        (ike_sas.IkeSas, "settle", lambda w: w.to_client(Scribe(w.sa.keying).one(37, (), message_id=0))),
        (ike_sas.IkeSas, "handle_timer", lambda w: w.run(60, lambda w: w.closed)),
    ],
)
def test_a_bug_over_an_authenticated_message_ends_that_connection_in_order(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, cause: Callable[[World], None]
) -> None:
    """K4: with an error that names the place, a DELETE, and no exception that could end the process."""
    world = World(config=altered(client_config(), liveness=10.0))
    world.connect()

    def broken(*_: object, **__: object) -> None:
        raise IndexError("canary")

    keying = world.sa.keying
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        cause(world)
    assert world.closed
    assert type(world.error) is IkeclientError
    assert "test_ike_initiator.py" in str(world.error.reason)
    assert "canary" not in repr(world.events) + str(world.error.lines())
    assert len(deletes(world, keying)) == 1
    world.run(5)
    assert all(each.current.state is State.CLOSED for each in world.gateway.connected)
    assert world.client.next_deadline() is None


def unauthentic(world: World) -> list[bytes]:
    """Messages that anybody can send who has seen the SPIs of the connection."""
    scribe = Scribe(world.sa.keying)
    damaged = bytearray(scribe.one(37, (), message_id=0))
    damaged[-1] ^= 1
    hint = unprotected(INFORMATIONAL, scribe.spis, [notify(NotifyType.INVALID_IKE_SPI)], message_id=0)
    return [bytes(damaged), hint]


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Message, "parse"),
        (ike_sas.IkeSas, "find"),
        (IkeSa, "receive"),
        (IkeSa, "_hinted"),
        (channel.Channel, "incoming"),
        (envelope.Envelope, "open"),
        (envelope.Envelope, "_opened"),
    ],
)
def test_a_bug_over_a_message_that_is_not_authentic_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """N3, N4: the message is dropped, a notice tells where the bug is, once, and the connection goes on."""
    world = World()
    world.connect()

    def broken(*_: object, **__: object) -> None:
        raise IndexError("canary")

    hostile = unauthentic(world)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        for data in hostile * 3:
            world.to_client(data)
    told = [event for event in world.events if isinstance(event, Notice) and "IndexError" in event.text]
    assert len(told) == 1
    assert "canary" not in told[0].text
    world.run(120)
    assert not world.closed
    assert_same_state(world)
