"""A person at a terminal and a real gateway: mistyped passwords, and Ctrl-C at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lab.gateway import PASSWORD, PSK, Auth, Offer
from lab.keyboard import CTRL_C, CTRL_D, Keyboard
from lab.machines import Rules
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab

PROMPTS = {"psk": "Pre-shared key for"}
Tables = dict[str, dict[str, object]]


def asking(auth: Auth) -> Tables:
    """The keys of a profile that has a person type its secret."""
    secret = "psk" if auth == "psk" else "password"
    inner = {"inner": "md5"} if auth == "eap-ttls" else {}
    return {"auth": {secret: None if auth == "eap-gtc" else {"prompt": True}, **inner}}


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    yield module_lab
    module_lab.client.run("disconnect", "--all")


METHODS = [
    "psk",
    pytest.param("eap-md5", marks=pytest.mark.extended),
    pytest.param("eap-gtc", marks=pytest.mark.extended),
    pytest.param("eap-mschapv2", marks=pytest.mark.extended),
    pytest.param("eap-ttls", marks=pytest.mark.extended),
]


@pytest.mark.parametrize("auth", METHODS)
def test_a_mistyped_secret_is_asked_for_once_more(lab: Lab, auth: Auth) -> None:
    """F13: by every method; what is typed is not shown, and the second answer connects."""
    lab.prepare(Offer(auth=auth), **asking(auth))
    question = "the gateway says" if auth == "eap-gtc" else PROMPTS.get(auth, "Password for")
    with Keyboard(lab, "connect", "work") as keyboard:
        keyboard.read(question)
        keyboard.type("mistyped-canary\n")
        keyboard.read(question, times=2)
        keyboard.type(f"{PSK if auth == 'psk' else PASSWORD}\n")
        keyboard.read("Ctrl-C disconnects")
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
        keyboard.type(CTRL_C)
        assert keyboard.wait() == 130
        assert "refused" in keyboard.shown
        assert "disconnected" in keyboard.shown
        assert "canary" not in keyboard.shown
        assert keyboard.is_as_before()


@pytest.mark.parametrize("auth", METHODS)
def test_it_is_never_asked_for_a_third_time(lab: Lab, auth: Auth) -> None:
    """Gateways lock accounts."""
    lab.prepare(Offer(auth=auth), **asking(auth))
    question = "the gateway says" if auth == "eap-gtc" else PROMPTS.get(auth, "Password for")
    with Keyboard(lab, "connect", "work") as keyboard:
        for number in (1, 2):
            keyboard.read(question, times=number)
            keyboard.type("mistyped\n")
        assert keyboard.wait() == 4
        assert keyboard.shown.count(question) == 2
        assert keyboard.is_as_before()


@pytest.mark.extended
def test_ctrl_d_at_the_second_question_ends_it(lab: Lab) -> None:
    lab.prepare(Offer(), **asking("psk"))
    with Keyboard(lab, "connect", "work") as keyboard:
        keyboard.read("Pre-shared key for")
        keyboard.type("mistyped\n")
        keyboard.read("Pre-shared key for", times=2)
        keyboard.type(CTRL_D)
        assert keyboard.wait() == 2
        assert "the prompt was left with Ctrl-D" in keyboard.shown
        assert keyboard.is_as_before()


def _no_names(lab: Lab) -> Rules:
    return lab.network.gateway.add_rules("prerouting", "udp dport 53 counter drop")


def _no_gateway(lab: Lab) -> Rules:
    return lab.network.gateway.add_rules("prerouting", "udp dport { 500, 4500 } counter drop")


@pytest.mark.parametrize(
    ("step", "disturb", "address"),
    [
        ("resolving", _no_names, "gw.example.org"),
        pytest.param("negotiating", _no_gateway, "10.1.0.1", marks=pytest.mark.extended),
    ],
)
def test_ctrl_c_ends_every_step_of_connecting(
    lab: Lab, step: str, disturb: Callable[[Lab], Rules], address: str
) -> None:
    lab.prepare(Offer(), gateway={"address": address})
    before = lab.client.traces()
    rules = disturb(lab)
    try:
        with Keyboard(lab, "connect", "work") as keyboard:
            keyboard.read(step)
            keyboard.type(CTRL_C)
            assert keyboard.wait(10) == 130
            assert keyboard.shown.rstrip().endswith("error: interrupted"), keyboard.shown
            assert "Traceback" not in keyboard.shown
            assert keyboard.is_as_before()
    finally:
        rules.remove()
    assert lab.client.traces() == before


def test_ctrl_c_at_the_question_for_a_password(lab: Lab) -> None:
    """At the first, and at the second, which the tunnel itself asks."""
    lab.prepare(Offer(), **asking("psk"))
    before = lab.client.traces()
    for number in (1, 2):
        with Keyboard(lab, "connect", "work") as keyboard:
            if number == 2:
                keyboard.read("Pre-shared key for")
                keyboard.type("mistyped\n")
            keyboard.read("Pre-shared key for", times=number)
            keyboard.type(CTRL_C)
            assert keyboard.wait(10) == 130, keyboard.shown
            assert "Traceback" not in keyboard.shown
            assert keyboard.is_as_before()
    assert lab.client.traces() == before


def test_a_second_ctrl_c_while_it_ends_changes_nothing(lab: Lab) -> None:
    """The gateway is gone, so the DELETE is waited for; the machine is as before all the same."""
    lab.prepare(Offer())
    before = lab.client.traces()
    with Keyboard(lab, "connect", "work") as keyboard:
        keyboard.read("Ctrl-C disconnects")
        lab.gateway.kill()
        keyboard.type(CTRL_C)
        keyboard.type(CTRL_C)
        assert keyboard.wait(10) == 130
        assert keyboard.shown.count("disconnected") == 1
        assert keyboard.is_as_before()
    assert lab.client.traces() == before
