"""A login with a key that is elsewhere: the signature comes when it comes, or does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sim_world import World
from test_sim_signature import config as signing
from test_sim_signature import requests, rsa_user, setup

from ikeclient.crypto.sign.remote_key import RemoteKey, Signature, SignatureRequest
from ikeclient.crypto.sign.schemes import Family
from ikeclient.errors import KeyUnavailable
from ikeclient.ike.config import CertificateAuth, IkeConfig
from ikeclient.ike.events import Need, NeedKind

PLACE = "token 'work' (serial 42)"


def elsewhere(*families: Family) -> IkeConfig:
    plain = signing()
    assert isinstance(plain.auth, CertificateAuth)
    public = plain.auth.key.public_key
    key = RemoteKey(public_key=public, families=families or public.families, place=PLACE, reference=b"{}")
    return replace(plain, auth=replace(plain.auth, key=key))


def needed(world: World) -> tuple[Need, SignatureRequest]:
    """Start, and run until a signature is asked for."""
    world.start()
    assert world.run(5, lambda w: any(isinstance(event, Need) for event in w.events))
    (need,) = [event for event in world.events if isinstance(event, Need)]
    assert need.kind == NeedKind.SIGNATURE
    assert need.request == PLACE
    assert need.to_sign is not None
    return need, need.to_sign


def made(request: SignatureRequest) -> Signature:
    scheme, data = rsa_user()[1].sign(request.octets, request.schemes)
    return Signature(scheme=scheme, data=data)


@pytest.mark.parametrize("seconds", [0, 20])
def test_a_slow_token_is_waited_for(seconds: int) -> None:
    """Nothing that names us is sent meanwhile, and the login goes on as soon as there is a signature."""
    world = World(config=elsewhere(), setup=setup())
    need, request = needed(world)
    world.run(seconds, lambda w: w.closed)
    assert not world.closed
    assert requests(world, "auth") == 0
    world.at_client(lambda client, now: client.supply(need, made(request), now))
    assert world.run(5, World.finished)
    assert world.connected


def test_an_agent_is_asked_for_pkcs1_at_once() -> None:
    world = World(config=elsewhere(Family.RSA_PKCS1), setup=setup())
    need, request = needed(world)
    assert {scheme.family for scheme in request.schemes} == {Family.RSA_PKCS1}
    world.at_client(lambda client, now: client.supply(need, made(request), now))
    assert world.run(5, World.finished)
    assert world.connected


def test_a_token_that_is_gone_ends_the_login_with_its_own_error() -> None:
    world = World(config=elsewhere(), setup=setup())
    need, _ = needed(world)
    error = KeyUnavailable(f"{PLACE} is not there")
    world.at_client(lambda client, now: client.refuse(need, error, now))
    assert world.run(30, lambda w: w.closed)
    assert world.error is error


def test_a_wrong_signature_is_not_sent() -> None:
    """What does not verify with our own certificate's key would only be a refused login."""
    world = World(config=elsewhere(), setup=setup())
    need, request = needed(world)
    right = made(request)
    wrong = replace(right, data=bytes([right.data[0] ^ 1]) + right.data[1:])
    world.at_client(lambda client, now: client.supply(need, wrong, now))
    assert world.run(30, lambda w: w.closed)
    assert requests(world, "auth") == 0
    assert isinstance(world.error, KeyUnavailable)
    assert PLACE in world.error.message


def test_nobody_signs_for_ever() -> None:
    world = World(config=elsewhere(), setup=setup())
    needed(world)
    assert world.run(300, lambda w: w.closed)
    assert not world.connected
