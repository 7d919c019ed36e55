"""Proofs of identity, computed a second time from the text of the standard."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from sim_certificates import NOW, gateway_certificate, gateway_key, stranger_key, trust, user_certificate, user_key
from sim_gateway import CLIENT_ID, GATEWAY_ID, PSK
from sim_world import World, altered, client_config

from ikeclient.crypto.pki.names import encode_name
from ikeclient.crypto.pki.trust_store import TrustStore
from ikeclient.crypto.sign.private_key import sign_auth
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated
from ikeclient.ike.config import IkeConfig, TrustedCertificate
from ikeclient.ike.v2.keying import Candidate
from ikeclient.ike.v2.rules.authenticate import certificate_request, own_proof, verify_gateway, verify_shared_key
from ikeclient.ike.v2.rules.proofs import OwnProof, initiator_octets, responder_octets, same_identity
from ikeclient.wire.identity import AuthPayload, CertPayload, Identity
from ikeclient.wire.registry import AuthMethod, CertEncoding, HashAlgorithm, IdType


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    world = World()
    world.start()
    world.run(0.045)
    assert world.client._handshake is not None
    return world.client._handshake._pending_auths[0].candidate


def sha256_prf(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def test_the_signed_octets_are_those_of_the_standard(candidate: Candidate) -> None:
    """RFC 7296 section 2.15: the own first message, the peer's nonce, prf(SK_p, RestOfIDPayload)."""
    body = b"\x03\0\0\0alice@example.com"
    assert initiator_octets(candidate, CLIENT_ID) == (
        candidate.request + candidate.nonce_r + sha256_prf(candidate.keying.keys.pi, body)
    )
    body = b"\x02\0\0\0vpn.example.com"
    assert responder_octets(candidate, GATEWAY_ID) == (
        candidate.response + candidate.nonce_i + sha256_prf(candidate.keying.keys.pr, body)
    )


def shared_key_proof(candidate: Candidate, psk: bytes) -> AuthPayload:
    """RFC 7296 section 2.15: prf(prf(Shared Secret, "Key Pad for IKEv2"), <ResponderSignedOctets>)."""
    data = sha256_prf(sha256_prf(psk, b"Key Pad for IKEv2"), responder_octets(candidate, GATEWAY_ID))
    return AuthPayload(method=AuthMethod.SHARED_KEY, data=data)


def proven(config: IkeConfig, candidate: Candidate) -> OwnProof:
    making = own_proof(config.auth, config.local_identity, candidate, allow_sha1=config.allow_sha1)
    try:
        need = next(making)
    except StopIteration as stop:
        made: OwnProof = stop.value
        return made
    raise AssertionError(f"nothing is needed from outside, but {need} is asked for")


def test_our_proof_of_a_pre_shared_key(candidate: Candidate) -> None:
    proof = proven(client_config("psk"), candidate)
    assert proof.certificates == ()
    auth = proof.auth
    octets = initiator_octets(candidate, CLIENT_ID)
    assert auth is not None
    assert auth.data == sha256_prf(sha256_prf(PSK, b"Key Pad for IKEv2"), octets)


def test_our_proof_with_a_certificate(candidate: Candidate) -> None:
    proof = proven(client_config("certificate"), candidate)
    assert [c.data for c in proof.certificates] == [user_certificate().der]
    auth = proof.auth
    assert auth is not None
    assert auth.method == AuthMethod.DIGITAL_SIGNATURE
    assert user_key().public_key == user_certificate().public_key


def test_there_is_no_proof_of_ours_before_eap(candidate: Candidate) -> None:
    assert proven(client_config("eap"), candidate) == OwnProof()


@pytest.mark.parametrize("hashes", [frozenset(), frozenset({HashAlgorithm.SHA1}), None])
def test_a_key_that_the_gateway_cannot_verify_is_our_problem(
    candidate: Candidate, hashes: frozenset[HashAlgorithm] | None
) -> None:
    """N26."""
    with pytest.raises(AuthenticationFailed, match="no signature"):
        proven(client_config("certificate"), replace(candidate, peer_hashes=hashes))


def test_only_certificates_are_asked_for_with_a_request() -> None:
    assert certificate_request(client_config("psk")) == ()
    (request,) = certificate_request(client_config("eap"))
    assert request.encoding == CertEncoding.X509_SIGNATURE
    assert request.authorities == trust().authority_hashes


@pytest.mark.parametrize("secret", [b"", b"wrong", PSK + b"\1", PSK[:-1]])
def test_another_secret_does_not_verify(candidate: Candidate, secret: bytes) -> None:
    verify_shared_key(candidate, PSK, GATEWAY_ID, shared_key_proof(candidate, PSK), "the key")
    with pytest.raises(GatewayNotAuthenticated, match="the key"):
        verify_shared_key(candidate, PSK, GATEWAY_ID, shared_key_proof(candidate, secret), "the key")


def test_our_own_proof_reflected_does_not_verify(candidate: Candidate) -> None:
    """A forger who sends our AUTH back proves nothing: the two ends sign different octets."""
    ours = proven(client_config("psk"), candidate).auth
    assert ours is not None
    with pytest.raises(GatewayNotAuthenticated):
        verify_shared_key(candidate, PSK, GATEWAY_ID, ours, "the key")
    with pytest.raises(GatewayNotAuthenticated):
        verify_shared_key(candidate, PSK, CLIENT_ID, ours, "the key")


def signed(candidate: Candidate, *, stranger: bool = False) -> AuthPayload:
    key = stranger_key() if stranger else gateway_key()
    made = sign_auth(key, responder_octets(candidate, GATEWAY_ID), candidate.peer_hashes)
    return AuthPayload(method=made.method, data=made.data)


CHAIN = (CertPayload(encoding=CertEncoding.X509_SIGNATURE, data=gateway_certificate().der),)


def test_a_signature_of_the_certificates_key_is_accepted(candidate: Candidate) -> None:
    verify_gateway(client_config("certificate"), candidate, GATEWAY_ID, CHAIN, signed(candidate), NOW)


def test_the_right_certificate_with_anothers_signature_is_refused(candidate: Candidate) -> None:
    with pytest.raises(GatewayNotAuthenticated, match="signature does not verify"):
        verify_gateway(
            client_config("certificate"), candidate, GATEWAY_ID, CHAIN, signed(candidate, stranger=True), NOW
        )


def test_a_pre_shared_key_does_not_stand_in_for_a_certificate(candidate: Candidate) -> None:
    """K9."""
    proof = shared_key_proof(candidate, PSK)
    with pytest.raises(GatewayNotAuthenticated, match="did not authenticate with a certificate"):
        verify_gateway(client_config("certificate"), candidate, GATEWAY_ID, CHAIN, proof, NOW)


def test_a_certificate_does_not_stand_in_for_a_pre_shared_key(candidate: Candidate) -> None:
    """K9."""
    with pytest.raises(GatewayNotAuthenticated, match="DIGITAL_SIGNATURE"):
        verify_gateway(client_config("psk"), candidate, GATEWAY_ID, CHAIN, signed(candidate), NOW)


def test_an_untrusted_issuer_is_refused_even_with_a_good_signature(candidate: Candidate) -> None:
    nothing = TrustedCertificate(trust=TrustStore.from_certificates([]))
    config = altered(client_config("eap"), gateway_auth=nothing)
    with pytest.raises(GatewayNotAuthenticated):
        verify_gateway(config, candidate, GATEWAY_ID, CHAIN, signed(candidate), NOW)


def test_any_identity_is_good_with_a_pre_shared_key_when_none_is_configured(candidate: Candidate) -> None:
    config = altered(client_config("psk"), gateway_identity=None)
    verify_gateway(config, candidate, GATEWAY_ID, (), shared_key_proof(candidate, PSK), NOW)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"vpn.example.com", b"VPN.EXAMPLE.COM", True),
        (b"vpn.example.com", b"vpn.example.com.", False),
        (b"vpn.example.com", b"vpn.example.com\0", False),
        (b"vpn.example.com", b" vpn.example.com", False),
        (b"", b"", True),
    ],
)
def test_host_names_are_equal_but_for_case(one: bytes, other: bytes, same: bool) -> None:
    """K10."""
    for type_ in (IdType.FQDN, IdType.RFC822_ADDR):
        assert same_identity(Identity(type=type_, data=one), Identity(type=type_, data=other)) is same
    assert not same_identity(Identity(type=IdType.FQDN, data=one), Identity(type=IdType.RFC822_ADDR, data=one))


def test_other_identities_are_equal_when_their_bytes_are() -> None:
    """K10."""
    upper, lower = Identity(type=IdType.KEY_ID, data=b"A"), Identity(type=IdType.KEY_ID, data=b"a")
    assert same_identity(upper, upper)
    assert not same_identity(upper, lower)


def test_distinguished_names_are_equal_however_they_are_written() -> None:
    """K10, RFC 5280 section 7.1."""
    one = Identity(type=IdType.DER_ASN1_DN, data=encode_name("C=CH, O=Example Ltd, CN=vpn"))
    other = Identity(type=IdType.DER_ASN1_DN, data=encode_name("C=ch, O=EXAMPLE  Ltd, CN=VPN"))
    assert same_identity(one, other)
    assert not same_identity(one, Identity(type=IdType.DER_ASN1_DN, data=encode_name("C=CH, O=Example Ltd, CN=vpm")))
    assert not same_identity(one, Identity(type=IdType.DER_ASN1_DN, data=b"\x30\x01"))
