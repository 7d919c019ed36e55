"""EAP over TLS as a person has it: `connect` to strongSwan, which asks its own plugins or a RADIUS server behind it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from lab import proxy_peers
from lab.charon import PLUGINS, Conf
from lab.gateway import PASSWORD, USER, Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4, Topology
from lab.person import HOME, Person
from lab.pki import Credential, Pki
from lab.radius import SECRET, FreeRadius, Hostapd
from lab.traffic import ping
from lab.world import Lab

SERVER_NAME = "radius.example.org"
ANONYMOUS = "anonymous@example.com"
HASTY: Conf = {"retransmit_tries": 2, "retransmit_timeout": 1.0}  # before the gateway gives a server up
RADIUS: Conf = {
    "load": f"{PLUGINS} eap-radius",
    "plugins": {"eap-radius": {"servers": {"one": {"address": "127.0.0.1", "secret": SECRET}}, **HASTY}},
}


def radius_certificate(pki: Pki) -> Credential:
    names = [x509.DNSName(SERVER_NAME)]
    return pki.issue("radius", "gateway", "ecdsa256", authority="unknown", names=names, intermediates=1)


@pytest.fixture(scope="module")
def world(pki: Pki) -> Iterator[Lab]:
    with Lab(Topology(), pki=pki) as lab:
        yield lab


def connects(lab: Lab, offer: Offer, auth: dict[str, Any]) -> None:
    lab.connected(offer, auth=auth)
    try:
        assert ping(lab.network.client, INSIDE_IPV4, count=2) == 2
    finally:
        lab.client.disconnect()


def test_eap_tls_with_strongswan(world: Lab) -> None:
    connects(world, Offer(auth="eap-tls"), {})


def test_eap_ttls_with_strongswan(world: Lab) -> None:
    settings: Conf = {"plugins": {"eap-ttls": {"phase2_method": "mschapv2"}}}
    connects(world, Offer(auth="eap-ttls", settings=settings), {"inner": "eap-mschapv2"})


@pytest.fixture(scope="module")
def radius(world: Lab, pki: Pki) -> Iterator[Lab]:
    server = Hostapd(world.network.gateway, world.network.subdirectory("radius"))
    authority = pki.credential("client", "ecdsa256").authority_file
    server.serve(radius_certificate(pki), authority, tls13=True, settings={})
    world.gateway.serve(behind_radius())
    yield world
    server.stop()


def behind_radius() -> Offer:
    return Offer(auth="eap-ttls", settings=RADIUS, connection={"remote": {"auth": "eap-radius", "eap_id": "%any"}})


def account(pki: Pki, **changes: Any) -> dict[str, Any]:
    server = {"server_ca": [str(radius_certificate(pki).authority_file)], "server_name": SERVER_NAME}
    return {**server, "user": USER, "anonymous_identity": ANONYMOUS, **changes}


@pytest.mark.parametrize(("method", "inner"), [("eap-ttls", "mschapv2"), ("eap-peap", "mschapv2"), ("eap", None)])
def test_a_password_with_a_radius_server_behind_the_gateway(
    radius: Lab, pki: Pki, method: str, inner: str | None
) -> None:
    connects(radius, behind_radius(), account(pki, method=method, inner=inner))


def test_a_certificate_with_a_radius_server_behind_the_gateway(radius: Lab, pki: Pki) -> None:
    own = pki.credential("client", "ecdsa256")
    keys = {"certificate": str(own.chain_file), "key": str(own.key_file), "password": None}
    connects(radius, behind_radius(), account(pki, method="eap-tls", **keys))


def test_a_server_that_stops_answering_ends_the_login(radius: Lab, pki: Pki) -> None:
    """The gateway gives up; what it says then is no word about the password."""
    radius.prepare(behind_radius(), auth=account(pki, method="eap-ttls"))
    rules = radius.network.gateway.add_rules("input", "udp dport 1812 counter drop")
    try:
        connection = radius.client.start("work")
        assert connection.wait(60) in (4, 5)
        assert rules.hits() > 0
    finally:
        rules.remove()


@pytest.fixture(scope="module")
def freeradius(world: Lab, pki: Pki) -> Iterator[Lab]:
    server = FreeRadius(world.network.gateway, world.network.subdirectory("freeradius"))
    server.serve(radius_certificate(pki), pki.credential("client", "ecdsa256").authority_file)
    yield world
    server.stop()


def behind_freeradius() -> Offer:
    server: Conf = {"address": "127.0.0.1", "secret": SECRET, "auth_port": FreeRadius.port}
    settings = {**RADIUS, "plugins": {"eap-radius": {"servers": {"one": server}}}}
    return Offer(auth="eap-ttls", settings=settings, connection={"remote": {"auth": "eap-radius", "eap_id": "%any"}})


def test_a_question_of_the_server_is_answered_on_the_terminal(freeradius: Lab, pki: Pki) -> None:
    """K15: it is shown as the gateway's, what is typed is not shown, and the terminal is as before."""
    freeradius.prepare(behind_freeradius(), auth=account(pki, method="eap-peap", inner="gtc", password=None))
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = freeradius.network.client.start(
        sys.executable,
        "-m",
        "ikeclient",
        "connect",
        "work",
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**freeradius.client.environment, "TERM": "xterm"},
    )
    shown = ""

    def read_until(words: str) -> bool:
        nonlocal shown
        if select.select([master], [], [], 0)[0]:
            shown += os.read(master, 65536).decode("utf-8", "replace")
        return words in shown

    try:
        wait_for(lambda: read_until("the gateway says: Token 4711"), timeout=30, what="the question")
        os.write(master, PASSWORD.encode() + b"\n")
        wait_for(lambda: read_until("Ctrl-C disconnects"), timeout=30, what="the tunnel")
        assert ping(freeradius.network.client, INSIDE_IPV4, count=2) == 2
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        after = termios.tcgetattr(slave)
        os.close(slave)
        os.close(master)
    assert PASSWORD not in shown
    assert after == before


ASKED = """
import asyncio, sys, time, ikeclient

asked = []

def ask(prompt):
    time.sleep(0.2)
    asked.append(prompt)
    return sys.argv[1]

async def main():
    async with ikeclient.open("work", ask=ask) as tunnel:
        events = tunnel.events()

        async def again():
            tunnel.reconnect()
            async for event in events:
                if event["event"] in ("connected", "disconnected"):
                    return event["event"]

        async def said(data):
            try:
                writer.write(data)
                return (await reader.readexactly(len(data))).decode()
            except OSError as error:
                return error.strerror or str(error)

        reader, writer = await tunnel.open_connection("10.99.0.1", int(sys.argv[2]))
        print(await said(b"before"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        speaking = asyncio.create_task(said(b"meanwhile"))
        print(await again(), len(asked), await speaking)

asyncio.run(main())
"""


@pytest.mark.parametrize("moved", [False, pytest.param(True, marks=pytest.mark.extended)])
def test_connections_live_while_a_new_login_waits_for_an_answer(freeradius: Lab, pki: Pki, moved: bool) -> None:
    """`ikeclient.open`: they end with an error that says why when the login brings another address."""
    person, offer, port = Person(freeradius), behind_freeradius(), 9010 if moved else 9000
    proxy_peers.start_peers(freeradius.network.gateway, port)
    freeradius.gateway.serve(offer)
    files = {"ca": freeradius.gateway.certificate(offer), "server": radius_certificate(pki)}
    paths = {name: [f"{HOME}/{name}.pem"] for name in files}
    for name, certificate in files.items():
        person.machine.write_file(*paths[name], certificate.authority_file.read_text())
    auth = account(pki, method="eap-peap", inner="gtc", password=None, server_ca=paths["server"])
    person.write_profile({"gateway": {"ca": paths["ca"]}, "auth": auth})
    command = (*person.ordinary, sys.executable, "-W", "error", "-c", ASKED, PASSWORD, str(port))
    pipe = subprocess.PIPE
    program = person.machine.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=person.environment)

    assert program.stdout is not None
    assert program.stdout.readline() == b"before\n"
    if moved:
        freeradius.gateway.kill()  # which has no other pool while an address of it is in use
        freeradius.gateway.serve(replace(offer, pool_ipv4="10.87.0.0/24"))
    said, complaints = program.communicate(b"\n", timeout=60)
    assert said.decode() == f"connected 2 {'the local address is gone' if moved else 'meanwhile'}\n", complaints
    assert program.returncode == 0


REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    "password": ({}, 4, "refused user 'alice' or the password"),
    "authority": ({"server_ca": None}, 7, "the authentication server did not prove who it is"),
    "name": ({"server_name": "other.example.org"}, 7, "set `server_name`"),
}


@pytest.mark.parametrize(
    ("method", "wrong"), [("eap-ttls", "password"), ("eap-peap", "authority"), ("eap-ttls", "name")]
)
def test_what_is_wrong_is_said(radius: Lab, pki: Pki, method: str, wrong: str) -> None:
    """E13: the gateway's certificate is right in all of them."""
    changes, code, words = REFUSALS[wrong]
    radius.prepare(behind_radius(), auth=account(pki, method=method, **changes))
    radius.client.secret_file("password", "wrong" if wrong == "password" else PASSWORD)
    connection = radius.client.start("work")
    assert connection.wait(30) == code
    assert words in connection.stderr
