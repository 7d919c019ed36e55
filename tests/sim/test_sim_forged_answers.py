"""Somebody on the path answers every IKE_SA_INIT before the gateway does, in all the ways there are (N14-18, N22)."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from sim_gateway import GCM, GatewaySetup
from sim_script import AUTH, INIT, forged_init, notify, only, spi_of, unprotected
from sim_world import PASSWORD, Sent, Weather, World, client_config, reverse

from ikeclient.crypto.algorithms.transforms import KEY_EXCHANGE
from ikeclient.errors import AuthenticationFailed, NoResponse
from ikeclient.ike.events import Closed
from ikeclient.wire.registry import NotifyType

SEVERAL = replace(GCM, key_exchange=tuple(KEY_EXCHANGE[name] for name in ("x25519", "ecp256", "modp2048")))
Forgery = Callable[[World, random.Random], bytes]


def refusal(type_: NotifyType, data: bytes = b"") -> Forgery:
    return lambda world, _: unprotected(INIT, (spi_of(world), bytes(8)), [notify(type_, data)])


def cookie(world: World, chance: random.Random) -> bytes:
    return refusal(NotifyType.COOKIE, chance.randbytes(16))(world, chance)


def answer(world: World, chance: random.Random) -> bytes:
    return forged_init(world, setup=GatewaySetup(ike_proposals=(SEVERAL,)), seed=str(chance.random()))


FORGERIES: dict[str, Forgery] = {
    "cookie": cookie,
    "another group": refusal(NotifyType.INVALID_KE_PAYLOAD, b"\0\x0e"),
    "a third group": refusal(NotifyType.INVALID_KE_PAYLOAD, b"\0\x13"),
    "a group that was not offered": refusal(NotifyType.INVALID_KE_PAYLOAD, b"\0\x01"),
    "no proposal": refusal(NotifyType.NO_PROPOSAL_CHOSEN),
    "invalid syntax": refusal(NotifyType.INVALID_SYNTAX),
    "nothing": lambda world, _: forged_init(world, only()),
    "a good one": answer,
}


def forge(world: World, kinds: list[str], number: int, seed: int, *, requests: int = 1 << 30) -> None:
    """Let `number` forged answers of some of `kinds` arrive after each request, before the gateway's."""
    chance = random.Random(f"forger {seed}")
    answered = 0

    def watch(sent: Sent) -> bool:
        nonlocal answered
        if sent.to_gateway and sent.data[18] == INIT and answered < requests:
            answered += 1
            for position in range(1, number + 1):
                data = FORGERIES[chance.choice(kinds)](world, chance)
                world.at(world.now + position / 1000, lambda data=data: world.to_client(data, sent.path))  # type: ignore[misc]
        return False

    world.drop = watch


def logins(world: World) -> int:
    return sum(stage == "auth" for stage, _ in world.gateway.requests)


@pytest.mark.parametrize("seed", range(300 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 40))
def test_no_mixture_of_forged_answers_denies_a_connection(seed: int) -> None:
    chance = random.Random(seed)
    auth = chance.choice(["psk", "certificate", "eap"])
    setup = GatewaySetup(auth=auth, cookies=chance.choice([0, 1]), ike_proposals=(chance.choice([GCM, SEVERAL]),))
    world = World(seed=seed, config=replace(client_config(auth), ike_proposals=(SEVERAL,)), setup=setup)
    kinds = chance.sample(sorted(FORGERIES), chance.randint(1, 4))
    forge(world, kinds, chance.randint(1, 4), seed, requests=chance.choice([1, 1 << 30]))
    world.connect()
    assert world.now < 30


def test_a_group_that_was_left_for_a_forged_answer_is_asked_for_again() -> None:
    """N17: the gateway wants a cookie, so its first answer is no key share, and then the first group."""
    config = replace(client_config(), ike_proposals=(SEVERAL,))
    world = World(config=config, setup=GatewaySetup(cookies=1), drop=lambda sent: sent.path.remote_port == 4500)
    quiet = world.drop
    forge(world, ["another group"], 1, 0, requests=1)
    forging = world.drop
    world.drop = lambda sent: forging(sent) or (quiet(sent) and sent.data[18] == INIT)
    world.connect()
    requests = [sent for sent in world.log if sent.to_gateway and sent.data[18] == INIT]
    assert len(requests) <= 5, "each form has its turn at a repetition, and none besides"


def test_a_cookie_on_one_port_is_returned_although_a_forged_answer_came_on_the_other() -> None:
    """N15, N22: port 500 is the forger's alone, the gateway is behind port 4500 and demands cookies."""
    world = World(setup=GatewaySetup(cookies=1))
    forge(world, ["a good one"], 3, 0, requests=1)
    forging = world.drop
    world.drop = lambda sent: forging(sent) or sent.path.remote_port == 500 or reverse(sent.path).remote_port == 500
    world.connect()
    assert logins(world) == 1


@pytest.mark.parametrize("kind", ["no proposal", "invalid syntax", "a group that was not offered"])
def test_a_refusal_is_not_believed_while_somebody_asks_for_a_cookie(kind: str) -> None:
    """N14, N16: by way of a satellite the gateway's answer to the cookie comes after refusals are believed."""
    world = World(setup=GatewaySetup(cookies=1), weather=Weather(delay=0.35))
    forge(world, [kind], 1, 0)
    world.connect()
    assert logins(world) == 1


@pytest.mark.parametrize("password", [PASSWORD, "not it"])
def test_a_forged_cookie_does_not_make_the_gateway_refuse_our_credentials(password: str) -> None:
    """G2, N15: our AUTH covers the request with the forged cookie, the gateway answered the one before.

    With EAP the gateway has proven its identity by then, but what it refuses is not the password. Where the password
    is wrong that is still a proven refusal.
    """
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap", password=password))
    forge(world, ["cookie"], 1, 0)
    world.start()
    assert world.run(60, World.finished)
    if password == PASSWORD:
        assert world.connected
    else:
        assert isinstance(world.error, AuthenticationFailed)
        assert "E=691" in world.error.message


def test_a_login_that_ends_by_a_forged_cookie_alone_proves_nothing() -> None:
    """G2: the answer to the second request never comes, so the login with the first answer is all there is."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    forge(world, ["cookie"], 1, 0, requests=1)
    forging, answers = world.drop, 0

    def only_the_first_answer(sent: Sent) -> bool:
        nonlocal answers
        forging(sent)
        if sent.to_gateway or sent.data[18] != INIT:
            return False
        answers += 1
        return answers > 1

    world.drop = only_the_first_answer
    world.start()
    assert world.run(60, World.finished)
    assert isinstance(world.error, AuthenticationFailed)
    assert not world.client.refused_by_gateway


def test_an_eap_login_that_takes_too_long_is_not_blamed_on_a_firewall() -> None:
    """G1: the gateway proves itself and takes minutes for what follows; what may help is more time."""
    world = World(config=client_config("eap"), setup=GatewaySetup(auth="eap"))
    answers = 0

    def late(sent: Sent) -> float:
        nonlocal answers
        if sent.to_gateway or sent.data[18] != AUTH:
            return 0.0
        answers += 1
        return 0.0 if answers == 1 else 200.0

    world.late = late
    world.start()
    assert world.run(180, World.finished)
    assert isinstance(world.error, NoResponse)
    assert [type(event) for event in world.events].count(Closed) == 1
    assert "firewall" not in " ".join(world.error.lines())
    assert "--timeout" in str(world.error.hint)
    assert logins(world) == 1
