"""How the client signs, for gateways that know less than it does."""

from __future__ import annotations

import datetime
import functools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from sim_certificates import NOW
from sim_gateway import GATEWAY_ID, GatewaySetup, named
from sim_world import World, altered, client_config

from ikeclient.crypto.pki.trust_store import Certificate
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.crypto.sign.private_key import sign_auth
from ikeclient.crypto.sign.schemes import HASH_NAMES, SCHEME_NAMES, Family, Scheme
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.ike.after_refusal import as_accepted
from ikeclient.ike.config import CertificateAuth, IkeConfig
from ikeclient.ike.events import Notice
from ikeclient.ike.v2.rules.proofs import responder_octets
from ikeclient.wire.identity import AuthPayload, Identity, IdrPayload
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import AuthMethod, HashAlgorithm, NotifyType

NO_PSS = frozenset(Family) - {Family.RSA_PSS}


@functools.cache
def rsa_user() -> tuple[Certificate, FileKey]:
    """The user alice, with an RSA key."""
    key = rsa.generate_private_key(65537, 3072)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Simulated CA")]))
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(NOW - datetime.timedelta(days=1))
        .not_valid_after(NOW + datetime.timedelta(days=100))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("alice@example.com")]), critical=False)
    )
    made = builder.sign(Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32), None)
    return Certificate.from_der(made.public_bytes(Encoding.DER)), FileKey(key)


def config(*schemes: Scheme, allow_sha1: bool = False) -> IkeConfig:
    certificate, key = rsa_user()
    auth = CertificateAuth(chain=(certificate,), key=key, signature=schemes)
    return altered(client_config("certificate"), auth=auth, allow_sha1=allow_sha1)


def setup(verifies: frozenset[Family] = frozenset(Family), identity: Identity = GATEWAY_ID) -> GatewaySetup:
    return GatewaySetup(auth="certificate", verifies=verifies, identity=identity)


def requests(world: World, stage: str) -> int:
    return sum(1 for each, _ in world.gateway.requests if each == stage)


def notices(world: World) -> list[str]:
    return [event.text for event in world.events if isinstance(event, Notice)]


def run(world: World) -> AuthenticationFailed:
    world.start()
    assert world.run(60, World.finished)
    assert isinstance(world.error, AuthenticationFailed)
    return world.error


def without_hashes(payloads: list[Payload]) -> list[Payload]:
    """An IKE_SA_INIT answer of a gateway that does not know RFC 7427."""
    hashes = NotifyType.SIGNATURE_HASH_ALGORITHMS
    return [p for p in payloads if not (isinstance(p, NotifyPayload) and p.type == hashes)]


def test_a_gateway_that_cannot_verify_pss_gets_one_more_try_with_pkcs1() -> None:
    """RFC 7427 has no way to say that RSASSA-PSS is not known."""
    world = World(config=config(), setup=setup(NO_PSS))
    world.connect()
    assert (requests(world, "init"), requests(world, "auth")) == (2, 2)
    spis = {payloads for stage, payloads in world.gateway.requests if stage == "init"}
    assert len(spis) == 2
    [notice] = notices(world)
    assert "refused our signature with RSA-PSS with SHA-256 and accepted RSA PKCS#1 v1.5 with SHA-256" in notice
    assert "auth.signature" in notice


@pytest.mark.parametrize("number", [HashAlgorithm.SHA1, HashAlgorithm.SHA2_512])
def test_the_second_try_has_the_same_hash(number: HashAlgorithm) -> None:
    """SHA-1 only if the profile allows it (N26)."""

    def only(payloads: list[Payload]) -> list[Payload]:
        hashes = NotifyPayload(type=NotifyType.SIGNATURE_HASH_ALGORITHMS, data=number.to_bytes(2, "big"))
        return [*without_hashes(payloads), hashes]

    world = World(config=config(allow_sha1=True), setup=setup(NO_PSS))
    world.gateway.edit["init"] = only
    world.start()
    assert world.run(60, World.finished)
    [notice] = notices(world)
    assert f"RSA PKCS#1 v1.5 with {HASH_NAMES[number]}" in notice


def test_what_was_accepted_is_asked_first_the_next_time() -> None:
    """Every refused try counts with somebody."""
    first = World(config=config(), setup=setup(NO_PSS))
    first.connect()
    assert first.client.accepted is not None
    again = World(config=as_accepted(config(), first.client.accepted), setup=setup(NO_PSS))
    again.connect()
    assert (requests(again, "init"), requests(again, "auth")) == (1, 1)
    assert notices(again) == []
    other = altered(config(), gateway_identity=named("other.example.com"))
    assert as_accepted(other, first.client.accepted) == other


def test_a_gateway_that_verifies_pss_is_asked_once() -> None:
    world = World(config=config(), setup=setup())
    world.connect()
    assert (requests(world, "init"), requests(world, "auth")) == (1, 1)
    assert notices(world) == []


def test_the_error_names_both_schemes_and_there_is_no_third_signature() -> None:
    """K4: everything is refused. The last try is the one without IDr; it has no scheme of its own."""
    world = World(config=config(), setup=setup(frozenset()))
    error = run(world)
    assert error.exit_code == 4
    assert "AUTHENTICATION_FAILED" in str(error.reason)
    assert "we signed with RSA-PSS with SHA-256, then RSA PKCS#1 v1.5 with SHA-256" in str(error.reason)
    assert "auth.signature" in str(error.hint)
    signatures = [p.data[:40] for _, payloads in world.gateway.requests for p in payloads if isinstance(p, AuthPayload)]
    assert len(signatures) == 3
    assert [
        any(isinstance(p, IdrPayload) for p in each) for stage, each in world.gateway.requests if stage == "auth"
    ] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["rsa-pss-sha256", "rsa-pss-sha512"])
def test_schemes_named_by_the_profile_are_the_only_ones(name: str) -> None:
    world = World(config=altered(config(SCHEME_NAMES[name]), name_gateway=False), setup=setup(NO_PSS))
    error = run(world)
    assert f"we signed with {SCHEME_NAMES[name]}" in str(error.reason)
    assert (requests(world, "init"), requests(world, "auth")) == (1, 1)


def test_pkcs1_named_by_the_profile_saves_the_first_try() -> None:
    world = World(config=config(SCHEME_NAMES["rsa-pkcs1-sha256"]), setup=setup(NO_PSS))
    world.connect()
    assert (requests(world, "init"), requests(world, "auth")) == (1, 1)


def test_other_keys_get_no_second_signature() -> None:
    world = World(config=altered(client_config("certificate"), name_gateway=False), setup=setup(frozenset()))
    error = run(world)
    assert "we signed with Ed25519" in str(error.reason)
    assert (requests(world, "init"), requests(world, "auth")) == (1, 1)


def test_only_a_protected_refusal_causes_the_second_try() -> None:
    """K3: one in the clear is nobody's, and a silent gateway has refused nothing."""
    world = World(config=config(), setup=setup(NO_PSS))
    world.drop = lambda sent: not sent.to_gateway and requests(world, "auth") > 0
    world.start()
    world.run(60, World.finished)
    ids = {payloads for stage, payloads in world.gateway.requests if stage == "auth"}
    assert all("RSA" not in notice for notice in notices(world))
    pkcs1 = bytes.fromhex("300d06092a864886f70d01010b0500")
    assert ids
    assert not any(pkcs1 in p.data[:20] for each in ids for p in each if isinstance(p, AuthPayload))


def test_rsa_and_a_gateway_without_rfc_7427_names_the_way_out() -> None:
    """N26: nothing was refused, so there is nothing to be tried again."""
    world = World(config=config(), setup=setup())
    world.gateway.edit["init"] = without_hashes
    error = run(world)
    assert "RSA with SHA-1 only" in str(error.reason)
    assert "set gateway.allow_sha1 = true" in str(error.hint)
    assert (requests(world, "init"), requests(world, "auth")) == (1, 0)


def test_sha1_signs_for_a_gateway_without_rfc_7427_if_the_profile_says_so() -> None:
    """N26; a refusal is not followed by a second signature, since it was PKCS#1 v1.5 already."""
    world = World(config=altered(config(allow_sha1=True), name_gateway=False), setup=setup())
    world.gateway.edit["init"] = without_hashes
    world.start()
    assert world.run(60, World.finished)
    [auth] = [p for _, payloads in world.gateway.requests for p in payloads if isinstance(p, AuthPayload)]
    assert auth.method == AuthMethod.RSA_SIGNATURE


def test_a_gateway_that_signs_with_sha1_names_the_way_out_too() -> None:
    """N26: with EAP only the gateway signs, as Azure's and Windows' do."""
    certificate, key = rsa_user()
    trusting = altered(client_config("eap"), gateway_identity=named("alice@example.com"))
    world = World(config=trusting, setup=GatewaySetup(auth="eap", chain=(certificate.der,), key=key))

    def classic(payloads: list[Payload]) -> list[Payload]:
        [half] = world.gateway.half_open.values()
        octets = responder_octets(half.candidate, world.setup.identity)
        made = sign_auth(key, octets, None, allow_sha1=True)
        return [AuthPayload(method=made.method, data=made.data) if isinstance(p, AuthPayload) else p for p in payloads]

    world.gateway.setup.identity = named("alice@example.com")
    world.gateway.edit["auth"] = classic
    world.start()
    assert world.run(60, World.finished)
    assert isinstance(world.error, GatewayNotAuthenticated)
    assert "SHA-1, which is too weak" in str(world.error.reason)
    assert "set gateway.allow_sha1 = true" in str(world.error.hint)
