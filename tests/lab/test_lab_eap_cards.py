"""EAP-SIM, AKA and AKA' against hostapd's server, and behind a strongSwan gateway; the card is made of two keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from lab.charon import PLUGINS, Conf
from lab.gateway import Offer
from lab.machines import Machine
from lab.network import INSIDE_IPV4, Topology
from lab.pki import Credential, Pki
from lab.radius import ACCEPT, SECRET, Hlr, Hostapd, RadiusClient, Verdict, converse
from lab.traffic import ping
from lab.world import Lab

from ikeclient.eap.credentials import CardKeys, SimCredentials, SimMemory
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType

K, OPC = bytes(range(16)), bytes(range(16, 32))
CARD = CardKeys(k=K, opc=OPC)
IMSI = "232010000000000"
USERS = {
    EapType.AKA: f"0{IMSI}@example.org",
    EapType.SIM: f"1{IMSI}@example.org",
    EapType.AKA_PRIME: f"6{IMSI}@example.org",
}
METHODS = pytest.mark.parametrize("method", list(USERS), ids=["aka", "sim", "aka-prime"])
AKA = pytest.mark.parametrize("method", [EapType.AKA, EapType.AKA_PRIME], ids=["aka", "aka-prime"])


def radius_certificate(pki: Pki) -> Credential:
    names = [x509.DNSName("radius.example.org")]
    return pki.issue("radius", "gateway", "ecdsa256", authority="unknown", names=names, intermediates=1)


def served(machine: Machine, directory: Path, pki: Pki) -> tuple[Hostapd, Hlr]:
    server = Hostapd(machine, directory)
    hlr = Hlr(directory / "hlr", K, OPC)
    settings = {"eap_sim_db": f"unix:{directory}/hlr", "eap_sim_aka_result_ind": "1", "eap_sim_id": "3"}
    authority = pki.credential("client", "ecdsa256").authority_file
    server.serve(radius_certificate(pki), authority, tls13=True, settings=settings)
    return server, hlr


class Cards:
    """Logs in to a server with a register behind it."""

    def __init__(self, server: Hostapd, hlr: Hlr) -> None:
        self.server = server
        self.hlr = hlr

    def log_in(self, method: EapType, sim: SimCredentials) -> tuple[EapPeer, Verdict]:
        client = RadiusClient(self.server.machine, self.server.port)
        peer = EapPeer(USERS[method], (method,), None, os.urandom, sim=sim)
        try:
            verdict = converse(client, lambda packet: peer.respond(packet))  # type: ignore[arg-type, return-value]
        finally:
            client.close()
        return peer, verdict


@pytest.fixture(scope="module")
def cards(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cards]:
    machine = Machine(f"ikl{os.getpid()}-cards", tmp_path_factory.mktemp("cards"))
    server, hlr = served(machine, tmp_path_factory.mktemp("hostapd"), pki)
    yield Cards(server, hlr)
    server.stop()
    hlr.close()
    machine.close()


def accepted(peer: EapPeer, verdict: Verdict) -> None:
    assert verdict.code == ACCEPT
    assert peer.finished
    assert verdict.msk == peer.msk


@METHODS
def test_a_card_with_hostapd_fully_then_fast_then_with_its_pseudonym(cards: Cards, method: EapType) -> None:
    sim = SimCredentials(keys=CARD)
    accepted(*cards.log_in(method, sim))
    pseudonym, fast = sim.memory.pseudonyms[method], sim.memory.reauthentications[method]
    sequence = cards.hlr.sequence
    accepted(*cards.log_in(method, sim))
    assert cards.hlr.sequence == sequence  # nobody asked the register
    assert sim.memory.reauthentications[method].identity != fast.identity
    sim.memory.reauthentications.clear()
    peer, verdict = cards.log_in(method, sim)
    accepted(peer, verdict)
    assert sim.memory.pseudonyms[method] != pseudonym


@AKA
def test_a_network_with_another_key_is_refused(cards: Cards, method: EapType) -> None:
    with pytest.raises(AuthenticationFailed, match="did not prove that it knows the card's key"):
        cards.log_in(method, SimCredentials(keys=replace(CARD, k=K[::-1])))


def test_a_network_with_another_key_is_refused_by_its_mac(cards: Cards) -> None:
    with pytest.raises(AuthenticationFailed, match="broke the protocol"):
        cards.log_in(EapType.SIM, SimCredentials(keys=replace(CARD, k=K[::-1])))


@AKA
def test_the_register_follows_the_card_after_a_resynchronisation(cards: Cards, method: EapType) -> None:
    """E10."""
    ahead = cards.hlr.sequence + 32 * 1000
    accepted(*cards.log_in(method, SimCredentials(keys=CARD, memory=SimMemory(sequence=ahead))))
    assert cards.hlr.sequence == ahead + 32


@METHODS
def test_an_anonymous_identity_is_enough_to_begin(cards: Cards, method: EapType) -> None:
    name = USERS[method][0] + "anonymous"
    accepted(*cards.log_in(method, SimCredentials(keys=CARD, anonymous_identity=name)))


RADIUS: Conf = {
    "load": f"{PLUGINS} eap-radius",
    "plugins": {"eap-radius": {"servers": {"one": {"address": "127.0.0.1", "secret": SECRET}}}},
}
# A helper as anybody may write one: reads a line, answers a line.
HELPER = """#!{python}
import sys
sys.path[:0] = {path!r}
from ikeclient.eap.credentials import CardKeys, SimMemory
from ikeclient.eap.usim import Accepted, ask_card
answer = ask_card(CardKeys(k=bytes(range(16)), opc=bytes(range(16, 32))), SimMemory(), sys.stdin.readline())
assert isinstance(answer, Accepted)
print("res", answer.res.hex(), answer.ck.hex(), answer.ik.hex())
"""


@pytest.fixture(scope="module")
def world(pki: Pki) -> Iterator[Lab]:
    with Lab(Topology(), pki=pki) as lab:
        server, hlr = served(lab.network.gateway, lab.network.subdirectory("radius"), pki)
        yield lab
        server.stop()
        hlr.close()


def behind_radius() -> Offer:
    return Offer(auth="eap-ttls", settings=RADIUS, connection={"remote": {"auth": "eap-radius", "eap_id": "%any"}})


def card(lab: Lab, name: str) -> dict[str, Any]:
    """The keys of [auth] for method `name`, with the card's keys in files."""
    method = {"eap-aka": EapType.AKA, "eap-sim": EapType.SIM, "eap-aka-prime": EapType.AKA_PRIME}[name]
    directory = lab.network.subdirectory("card")
    directory.mkdir(exist_ok=True)
    sources: dict[str, Any] = {}
    for key, value in (("k", K), ("opc", OPC)):
        file = directory / key
        file.write_text(value.hex() + "\n")
        file.chmod(0o600)
        sources[key] = {"file": str(file)}
    return {"method": name, "user": USERS[method], "identity": None, "password": None, "sim": sources}


def connects(lab: Lab, auth: dict[str, Any], gateway: dict[str, Any] | None = None) -> None:
    lab.connected(behind_radius(), auth=auth, **({"gateway": gateway} if gateway else {}))
    try:
        assert ping(lab.network.client, INSIDE_IPV4, count=2) == 2
    finally:
        lab.client.disconnect()


@pytest.mark.parametrize("name", ["eap-aka", "eap-sim", "eap-aka-prime"])
def test_a_card_behind_a_gateway(world: Lab, name: str) -> None:
    connects(world, card(world, name))


def test_a_command_answers_for_the_card(world: Lab) -> None:
    """The tunnel has given up its rights by then; the process that kept them runs the command."""
    helper = world.network.subdirectory("card") / "helper"
    helper.write_text(HELPER.format(python=sys.executable, path=sys.path))
    helper.chmod(0o700)
    connects(world, {**card(world, "eap-aka"), "sim": {"command": [str(helper)]}})
