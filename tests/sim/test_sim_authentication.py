"""Ways to authenticate: two at once, mixed sides, EAP alone, and a post-quantum key, with all that can be missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_certificates import gateway_certificate, trust, user_certificate, user_key
from sim_gateway import PASSWORD, PSK, USER, Edit, GatewaySetup, named
from sim_world import AUTHS, World, altered, client_config

from ikeclient.eap.credentials import SimCredentials, TlsCredentials
from ikeclient.eap.peer import SUPPORTED_METHODS
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, IkeclientError, NegotiationRefused
from ikeclient.ike.config import EapAuth, EapOnly, IkeConfig, OwnAuth, Ppk, PskAuth, SecondAuth, TrustedCertificate
from ikeclient.ike.events import IkeEstablished, Path
from ikeclient.ike.v2.message.payloads import find
from ikeclient.wire.identity import AuthPayload, CertPayload, IdiPayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import EapType, NotifyType

PPK = Ppk(identity=b"ppk-alice", secret=b"a post-quantum key of thirty-two")
OPTIONAL = replace(PPK, required=False)
SECOND_ID = named("alice@second.example.com")


def second(auth: str, **changes: object) -> SecondAuth:
    return SecondAuth(identity=SECOND_ID, auth=replace(AUTHS[auth](), **changes))  # type: ignore[type-var]


def eap_only(password: str = PASSWORD, methods: tuple[EapType, ...] = (EapType.MSCHAPV2,)) -> IkeConfig:
    auth = EapAuth(identity=USER, methods=methods, password=password)
    return altered(client_config("eap"), auth=auth, gateway_auth=EapOnly(trust=trust()))


def up(world: World) -> IkeEstablished:
    world.start()
    assert world.run(40, World.finished)
    assert world.connected, world.error and world.error.lines()
    (event,) = [event for event in world.events if isinstance(event, IkeEstablished)]
    return event


def down(world: World, kind: type[IkeclientError]) -> IkeclientError:
    world.start()
    assert world.run(40, lambda w: w.closed)
    assert isinstance(world.error, kind), world.error and world.error.lines()
    return world.error


def without(*types: NotifyType) -> Edit:
    def edit(payloads: list[Payload]) -> list[Payload]:
        return [p for p in payloads if not (isinstance(p, NotifyPayload) and p.type in types)]

    return edit


def asked(world: World, stage: str) -> list[NotifyType]:
    return [
        p.type for name, sent in world.gateway.requests if name == stage for p in sent if isinstance(p, NotifyPayload)
    ]


# Mixed sides


@pytest.mark.parametrize(("ours", "theirs"), [("psk", "certificate"), ("certificate", "psk")])
def test_each_side_proves_itself_in_its_own_way(ours: str, theirs: str) -> None:
    gateway = PskAuth(psk=PSK) if theirs == "psk" else TrustedCertificate(trust=trust())
    config = altered(client_config(ours), gateway_auth=gateway)
    event = up(World(config=config, setup=GatewaySetup(auth=ours, gateway_auth=theirs)))
    assert [proof.method for proof in event.proofs.local] == [ours]
    assert [proof.method for proof in event.proofs.gateway] == [theirs]


@pytest.mark.parametrize(("ours", "theirs"), [("psk", "certificate"), ("certificate", "psk")])
def test_a_gateway_that_proves_itself_in_the_other_way_is_refused(ours: str, theirs: str) -> None:
    """K9: a pre-shared key does not stand in for a certificate, nor the other way round."""
    gateway = PskAuth(psk=PSK) if theirs == "psk" else TrustedCertificate(trust=trust())
    config = altered(client_config(ours), gateway_auth=gateway)
    down(World(config=config, setup=GatewaySetup(auth=ours, gateway_auth=ours)), GatewayNotAuthenticated)


def test_the_gateways_key_is_not_ours() -> None:
    config = altered(client_config("certificate"), gateway_auth=PskAuth(psk=b"another key of many bytes"))
    down(World(config=config, setup=GatewaySetup(auth="certificate", gateway_auth="psk")), GatewayNotAuthenticated)


# EAP alone (RFC 5998)


def test_a_gateway_proves_itself_inside_eap_alone() -> None:
    world = World(config=eap_only(), setup=GatewaySetup(auth="eap", gateway_auth="eap"))
    event = up(world)
    assert NotifyType.EAP_ONLY_AUTHENTICATION in asked(world, "auth")
    assert [proof.method for proof in event.proofs.gateway] == ["eap-mschapv2"]


def test_eap_alone_is_never_asked_for_silently() -> None:
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    up(world)
    assert NotifyType.EAP_ONLY_AUTHENTICATION not in asked(world, "auth")


def test_without_a_certificate_nothing_is_sent_that_the_profile_does_not_allow() -> None:
    """E1: the gateway leaves out its AUTH, and the profile wants a certificate."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    world.gateway.edit["auth"] = lambda payloads: [p for p in payloads if not isinstance(p, AuthPayload)]
    error = down(world, GatewayNotAuthenticated)
    assert 'gateway.auth = "eap"' in str(error.hint)
    assert "eap" not in [stage for stage, _ in world.gateway.requests]


def test_a_gateway_that_signs_all_the_same_must_have_a_good_certificate() -> None:
    """RFC 5998 section 3: then it has to be verified."""
    event = up(World(config=eap_only(), setup=GatewaySetup(auth="eap")))
    assert [proof.method for proof in event.proofs.gateway] == ["certificate"]
    other = altered(eap_only(), gateway_identity=named("other.example.com"))
    down(World(config=other, setup=GatewaySetup(auth="eap")), GatewayNotAuthenticated)


@pytest.mark.parametrize(
    ("config", "setup", "error"),
    [
        (eap_only(password="wrong"), {}, AuthenticationFailed),
        (altered(eap_only(), gateway_identity=named("other.example.com")), {}, GatewayNotAuthenticated),
    ],
)
def test_eap_alone_fails_as_it_should(config: IkeConfig, setup: dict[str, object], error: type[IkeclientError]) -> None:
    down(World(config=config, setup=GatewaySetup(auth="eap", gateway_auth="eap", **setup)), error)  # type: ignore[arg-type]


PROVES_NOTHING = (EapType.MD5_CHALLENGE, EapType.GTC, EapType.SIM)


@pytest.mark.parametrize("method", PROVES_NOTHING)
def test_eap_alone_is_refused_with_a_method_that_does_not_prove_the_gateway(method: EapType) -> None:
    """RFC 5998 section 3, E2: neither account nor password is said to it, whatever a profile was checked for."""
    world = World(config=eap_only(methods=(method,)), setup=GatewaySetup(auth="eap", gateway_auth="eap"))
    error = down(world, GatewayNotAuthenticated)
    assert "EAP alone" in str(error.reason)
    assert "eap" not in [stage for stage, _ in world.gateway.requests]


def test_eap_alone_answers_with_methods_that_prove_the_gateway_only() -> None:
    """E4: of those that the profile allows to a proven gateway, an unproven one is told in the NAK which may be."""
    config = eap_only(methods=(EapType.GTC, EapType.MSCHAPV2))
    world = World(config=config, setup=GatewaySetup(auth="eap", gateway_auth="eap"))
    requests = iter((bytes.fromhex("0102000606") + b"?", bytes.fromhex("04020004")))
    world.gateway.edit["eap"] = lambda _: [EapPayload(packet=next(requests))]
    down(world, AuthenticationFailed)
    heard = [p.packet for _, sent in world.gateway.requests for p in sent if isinstance(p, EapPayload)]
    assert bytes([EapType.NAK, EapType.MSCHAPV2]) == heard[-1][4:]
    assert not [packet for packet in heard if PASSWORD.encode() in packet]


def everything() -> EapAuth:
    """What a profile with every method has to give."""
    tls, sim = TlsCredentials(trust=trust()), SimCredentials()
    return EapAuth(identity=USER, methods=tuple(sorted(SUPPORTED_METHODS)), password=PASSWORD, tls=tls, sim=sim)


@pytest.mark.parametrize("method", sorted(SUPPORTED_METHODS))
def test_whichever_method_an_unproven_gateway_asks_for_it_hears_nothing(method: EapType) -> None:
    """E2: its certificate is for another name, and its first answer asks for a method at once."""
    world = World(
        config=altered(client_config("eap"), auth=everything(), gateway_identity=named("other.example.com")),
        setup=GatewaySetup(auth="eap"),
    )
    world.gateway.edit["auth"] = lambda payloads: [
        EapPayload(packet=bytes([1, 1, 0, 6, method, 0])) if isinstance(p, EapPayload) else p for p in payloads
    ]
    down(world, GatewayNotAuthenticated)
    heard = [p for _, sent in world.gateway.requests for p in sent]
    assert find(heard, IdiPayload) is not None
    assert not [p for p in heard if isinstance(p, EapPayload | AuthPayload | CertPayload)]


def test_a_gateway_that_does_not_know_the_password_is_refused() -> None:
    """E3: it cannot answer the client's challenge."""
    world = World(config=eap_only(), setup=GatewaySetup(auth="eap", gateway_auth="eap"))
    failing = world.gateway._final

    def final(*arguments: object) -> list[Payload]:
        made = failing(*arguments)  # type: ignore[arg-type]
        return [replace(p, data=bytes(len(p.data))) if isinstance(p, AuthPayload) else p for p in made]

    world.gateway._final = final  # type: ignore[method-assign]
    down(world, GatewayNotAuthenticated)


# Two authentications (RFC 4739)

ORDERS = [("certificate", "eap"), ("psk", "eap"), ("eap", "certificate"), ("eap", "eap"), ("certificate", "psk")]


@pytest.mark.parametrize(("first", "then"), ORDERS)
def test_two_authentications_in_any_order(first: str, then: str) -> None:
    config = altered(client_config(first), second_auth=second(then))
    world = World(config=config, setup=GatewaySetup(auth=first, second=then))
    event = up(world)
    methods = {"eap": "eap-mschapv2"}
    assert [proof.method for proof in event.proofs.local] == [methods.get(first, first), methods.get(then, then)]
    follows = [stage for stage, sent in world.gateway.requests if NotifyType.ANOTHER_AUTH_FOLLOWS in types_of(sent)]
    assert follows == ["final" if first == "eap" else "auth"]


def types_of(payloads: tuple[Payload, ...]) -> list[NotifyType]:
    return [p.type for p in payloads if isinstance(p, NotifyPayload)]


def wrong(auth: str) -> OwnAuth:
    return (
        PskAuth(psk=b"wrong") if auth == "psk" else EapAuth(identity=USER, methods=(EapType.MSCHAPV2,), password="no")
    )


@pytest.mark.parametrize(("first", "then"), [("certificate", "eap"), ("eap", "eap"), ("certificate", "psk")])
def test_the_second_secret_is_wrong(first: str, then: str) -> None:
    config = altered(client_config(first), second_auth=SecondAuth(identity=SECOND_ID, auth=wrong(then)))
    world = World(config=config, setup=GatewaySetup(auth=first, second=then))
    error = down(world, AuthenticationFailed)
    assert error.exit_code == 4
    if then == "psk":
        assert "[second_auth]" in str(error.hint)


def test_the_first_secret_is_wrong_and_the_second_is_not_shown() -> None:
    config = altered(client_config("psk"), auth=PskAuth(psk=b"wrong"), second_auth=second("eap"))
    world = World(config=config, setup=GatewaySetup(auth="psk", second="eap"))
    down(world, AuthenticationFailed)
    assert [stage for stage, _ in world.gateway.requests if stage not in ("init", "auth")] in ([], ["other"])


def test_the_second_secret_is_not_shown_to_a_gateway_that_proved_nothing() -> None:
    config = altered(
        client_config("certificate"), second_auth=second("eap"), gateway_identity=named("other.example.com")
    )
    world = World(config=config, setup=GatewaySetup(auth="certificate", second="eap"))
    down(world, GatewayNotAuthenticated)
    assert "second" not in [stage for stage, _ in world.gateway.requests]


def test_a_gateway_that_takes_one_authentication_only_is_told_so() -> None:
    """A downgrade, too: the notification may have been cut out."""
    config = altered(client_config("certificate"), second_auth=second("eap"))
    world = World(config=config, setup=GatewaySetup(auth="certificate"))
    error = down(world, NegotiationRefused)
    assert "MULTIPLE_AUTH_SUPPORTED" in str(error.reason)
    assert "auth" not in [stage for stage, _ in world.gateway.requests]


# A post-quantum key (RFC 8784)


@pytest.mark.parametrize("auth", ["psk", "certificate", "eap"])
@pytest.mark.parametrize("ppk", [PPK, OPTIONAL], ids=["required", "optional"])
def test_a_post_quantum_key_is_mixed_in(auth: str, ppk: Ppk) -> None:
    """And a rekeyed IKE SA and Child SA still work, so the keys of both ends are the same."""
    world = World(config=altered(client_config(auth), ppk=ppk), setup=GatewaySetup(auth=auth, ppk=PPK))
    assert up(world).proofs.ppk
    request = "final" if auth == "eap" else "auth"
    assert (NotifyType.NO_PPK_AUTH in asked(world, request)) is not ppk.required
    before = world.sa.keying.spis
    world.at_client(lambda client, now: client.rekey(now))
    assert world.run(5, lambda w: w.sa.keying.spis != before)
    child = next(iter(world.sa.children)).spi_in
    world.at_client(lambda client, now: client.rekey_child(child, now))
    assert world.run(5, lambda w: child not in [each.spi_in for each in w.sa.children])
    assert world.connected


@pytest.mark.parametrize("auth", ["psk", "certificate", "eap"])
@pytest.mark.parametrize("known", [None, replace(PPK, identity=b"another")], ids=["none", "another id"])
def test_a_key_that_the_gateway_does_not_have_is_left_out_if_it_may_be(auth: str, known: Ppk | None) -> None:
    world = World(config=altered(client_config(auth), ppk=OPTIONAL), setup=GatewaySetup(auth=auth, ppk=known))
    assert not up(world).proofs.ppk
    assert any("post-quantum" in getattr(event, "text", "") for event in world.events)


def test_a_gateway_without_the_required_key_is_refused() -> None:
    world = World(config=altered(client_config(), ppk=PPK), setup=GatewaySetup())
    error = down(world, NegotiationRefused)
    assert "USE_PPK" in str(error.reason)
    assert "auth" not in [stage for stage, _ in world.gateway.requests]


@pytest.mark.parametrize("auth", ["psk", "eap"])
def test_a_gateway_that_leaves_out_the_required_key_is_refused(auth: str) -> None:
    """A downgrade: it proves itself with keys that have no PPK in them, and says so."""
    world = World(config=altered(client_config(auth), ppk=PPK), setup=GatewaySetup(auth=auth, ppk=PPK))
    world.gateway.edit["final" if auth == "eap" else "auth"] = without(NotifyType.PPK_IDENTITY)
    error = down(world, GatewayNotAuthenticated)
    assert "PPK_IDENTITY" in str(error.reason)


def test_whoever_cuts_out_the_key_on_the_way_is_found_out() -> None:
    """K1: an IKE_SA_INIT answer without USE_PPK is not what the gateway's AUTH covers."""
    world = World(config=altered(client_config(), ppk=OPTIONAL), setup=GatewaySetup(ppk=PPK))
    send = world.gateway._send_init

    def cut(request: Message, path: Path, spi_r: bytes, payloads: list[Payload]) -> bytes:
        signed = send(request, path, spi_r, payloads)
        world.gateway.outbox.pop()
        send(request, path, spi_r, without(NotifyType.USE_PPK)(payloads))
        return signed

    world.gateway._send_init = cut  # type: ignore[method-assign]
    down(world, GatewayNotAuthenticated)


@pytest.mark.parametrize("auth", ["psk", "certificate", "eap"])
def test_another_secret_under_the_same_id_is_refused(auth: str) -> None:
    config = altered(client_config(auth), ppk=replace(PPK, secret=b"another"))
    error = down(World(config=config, setup=GatewaySetup(auth=auth, ppk=PPK)), AuthenticationFailed)
    if auth != "eap":
        assert "[ppk]" in str(error.hint)


def test_secrets_have_no_representation() -> None:
    assert "post-quantum" not in repr(PPK)
    config = altered(client_config("eap"), ppk=PPK, second_auth=second("eap"))
    assert PASSWORD not in repr(config)
    assert "post-quantum" not in repr(config)


# Two and more of them together


def test_a_certificate_a_password_and_a_post_quantum_key() -> None:
    config = altered(client_config("certificate"), second_auth=second("eap"), ppk=PPK)
    event = up(World(config=config, setup=GatewaySetup(auth="certificate", second="eap", ppk=PPK)))
    assert (len(event.proofs.local), event.proofs.ppk) == (2, True)


def test_the_status_knows_the_certificates() -> None:
    event = up(World(config=client_config("certificate"), setup=GatewaySetup(auth="certificate")))
    (ours,), (theirs,) = event.proofs.local, event.proofs.gateway
    assert (ours.subject, ours.serial) == (user_certificate().subject, user_certificate().serial)
    assert (theirs.subject, theirs.serial) == (gateway_certificate().subject, gateway_certificate().serial)
    assert user_key().public_key.kind.split()[0] in str(ours.signature)
