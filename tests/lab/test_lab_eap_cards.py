"""EAP-SIM, AKA and AKA' against hostapd's server, and behind a strongSwan gateway; the card is made of two keys."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sim_card
from cryptography import x509
from lab.charon import PLUGINS, Conf
from lab.client import REPOSITORY
from lab.gateway import Offer
from lab.machines import Machine, wait_for
from lab.network import INSIDE_IPV4, Topology
from lab.pki import Credential, Pki
from lab.radius import ACCEPT, SECRET, Hlr, Hostapd, RadiusClient, Verdict, converse
from lab.traffic import ping
from lab.world import Lab

from ikeclient.eap.credentials import CardKeys, SimCredentials, SimMemory
from ikeclient.eap.peer import EapPeer
from ikeclient.errors import AuthenticationFailed
from ikeclient.wire.registry import EapType

K, OPC = sim_card.K, sim_card.OPC
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


ACCESS_POINT = "ims"
P_CSCF: Conf = {"20": "10.99.0.77", "21": "fd99::77", "16389": "10.99.0.78", "16390": "fd99::78"}


def epdg() -> Offer:
    """An operator's gateway: it has the name of the access point and no certificate, and tells of its servers."""
    sides: Conf = {
        "local": {"auth": "eap", "id": ACCESS_POINT},
        "remote": {"auth": "eap-radius", "eap_id": "%any"},
    }
    return Offer(auth="eap-ttls", settings=RADIUS, connection=sides, gateway_identity=ACCESS_POINT, attributes=P_CSCF)


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


@pytest.mark.parametrize(
    "name",
    [
        "eap-aka",
        pytest.param("eap-aka-prime", marks=pytest.mark.extended),
        pytest.param("eap", marks=pytest.mark.extended),
    ],
)
def test_a_card_alone_at_an_operators_gateway(world: Lab, name: str) -> None:
    """RFC 5998, RFC 7651: no certificate on either side, IDr is the access point, and its servers are told."""
    auth = {**card(world, "eap-aka" if name == "eap" else name), "method": name}
    world.prepare(epdg(), auth=auth, gateway={"auth": "eap", "ca": None})
    connection = world.client.start("work", env={"IKECLIENT_LOG_FORMAT": "json"})
    connection.wait_connected()
    try:
        assert ping(world.network.client, INSIDE_IPV4, count=2) == 2
        status = world.status()
        assert sorted(status["p_cscf"]) == sorted(P_CSCF.values())
        events = [json.loads(line) for line in connection.stderr.splitlines()]
        assert [each["p_cscf"] for each in events if each["event"] == "connected"] == [status["p_cscf"]]
        assert status["gateway"]["identity"] == ACCESS_POINT
        expected = "eap-aka" if name == "eap" else name
        assert [each["method"] for each in status["gateway"]["auth"]] == [expected]
        assert [each["method"] for each in status["local"]["auth"]] == [expected]
        assert "p-cscf" in world.client.run("status").stdout
    finally:
        world.client.disconnect()


@pytest.mark.extended
def test_a_card_alone_with_a_network_that_does_not_know_its_key(world: Lab) -> None:
    """Of us it has heard the identity, and nothing was agreed on."""
    wrong = world.client.secret_file("wrong-k", K[::-1].hex())
    auth = card(world, "eap-aka")
    auth["sim"] = {**auth["sim"], "k": {"file": str(wrong)}}
    connection = world.start(epdg(), auth=auth, gateway={"auth": "eap", "ca": None})
    assert connection.wait() == 4
    assert "did not prove that it knows the card's key" in connection.stderr


@pytest.mark.extended
def test_sim_does_not_prove_a_gateway_alone(world: Lab) -> None:
    connection = world.start(epdg(), auth=card(world, "eap-sim"), gateway={"auth": "eap", "ca": None})
    assert connection.wait() == 9
    assert "'gateway.auth' cannot be eap with method eap-sim" in connection.stderr


def helper_of(lab: Lab) -> Path:
    """A program that answers for the card."""
    helper = lab.network.subdirectory("card") / "helper"
    helper.parent.mkdir(exist_ok=True)
    helper.write_text(HELPER.format(python=sys.executable, path=sys.path))
    helper.chmod(0o700)
    return helper


def test_a_command_answers_for_the_card(world: Lab) -> None:
    """The tunnel has given up its rights by then; the process that kept them runs the command."""
    connects(world, {**card(world, "eap-aka"), "sim": {"command": [str(helper_of(world))]}})


@pytest.mark.extended
def test_a_command_answers_for_the_card_of_exec(world: Lab) -> None:
    """There is no other process with other rights: the tunnel's own runs it, outside of the namespace."""
    world.prepare(behind_radius(), auth={**card(world, "eap-aka"), "sim": {"command": [str(helper_of(world))]}})
    done = world.client.run("exec", "work", "--", "ping", "-c", "2", "-W", "5", INSIDE_IPV4)
    assert done.returncode == 0, done.stderr


def test_a_command_answers_for_the_card_of_a_tunnel_without_a_device(world: Lab) -> None:
    world.prepare(behind_radius(), auth={**card(world, "eap-aka"), "sim": {"command": [str(helper_of(world))]}})
    done = world.client.run("exec", "--via-proxy", "work", "--", "curl", "-sS", f"http://{INSIDE_IPV4}/peer")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("10.88.")


# A card in a reader

PYSCARD = Path("/usr/lib/python3/dist-packages/smartcard")  # Debian's, for Debian's interpreter
VIRTUAL_READER, VIRTUAL_PORT = "Virtual PCD 00 00", "35963"


@contextmanager
def card_in_reader(lab: Lab, pin: str, sequence: int = 0) -> Iterator[dict[str, str]]:
    """A card of ours in a virtual reader of pcscd's; yields what makes Debian's pyscard known."""
    machine = lab.network.client
    packages = lab.network.subdirectory("packages")
    packages.mkdir(exist_ok=True)
    if not (packages / "smartcard").exists():
        (packages / "smartcard").symlink_to(PYSCARD)
    environment = {"PYTHONPATH": f"{packages}:{REPOSITORY}"}
    works = machine.run(sys.executable, "-c", "import smartcard.scard", env=environment, check=False)
    if works.returncode:
        pytest.skip(f"no pyscard for this interpreter: {works.stderr.splitlines()[-1]}")
    machine.run("mkdir", "-p", "/run/pcscd")
    service = machine.start("pcscd", "--foreground", "--error", stdout=-3, stderr=-3)
    try:
        wait_for(lambda: (VIRTUAL_PORT in machine.run("ss", "-ltn").stdout) or None, timeout=20, what="the reader")
        words = (sys.executable, sim_card.__file__, "127.0.0.1", VIRTUAL_PORT, pin, str(sequence))
        card_ = machine.start(*words, stdout=-1, env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY}/tests"})
        try:
            assert card_.stdout is not None
            assert card_.stdout.readline() == b"inserted\n"
            yield environment
        finally:
            card_.kill()
            card_.communicate(timeout=10)
    finally:
        service.kill()
        service.wait(10)


def in_reader(lab: Lab, pin: str | None = None, name: str = "eap-aka", reader: str = "pcd 00 00") -> dict[str, Any]:
    source: dict[str, Any] = {"reader": reader}
    if pin is not None:
        source["pin"] = {"file": str(lab.client.secret_file(f"card-pin-{pin}", pin))}
    return {**card(lab, name), "sim": source}


@pytest.mark.extended
@pytest.mark.parametrize("name", ["eap-aka", "eap-sim", "eap-aka-prime"])
def test_a_card_in_a_reader_logs_in_and_again(world: Lab, name: str) -> None:
    """TS 31.102: with its PIN, and again for a new connection, whose challenge is asked by the process that stays."""
    with card_in_reader(world, "1234") as environment:
        world.prepare(behind_radius(), auth=in_reader(world, "1234", name))
        connection = world.client.start("work", env=environment)
        connection.wait_connected()
        try:
            assert ping(world.network.client, INSIDE_IPV4, count=2) == 2
            world.client.run("reconnect", "work")
            wait_for(lambda: connection.stderr.count("connected in") > 1 or None, timeout=30, what="another login")
            assert ping(world.network.client, INSIDE_IPV4, count=2) == 2
        finally:
            world.client.disconnect()
        assert "1234" not in connection.stderr


@pytest.mark.extended
def test_a_card_in_a_reader_for_exec(world: Lab) -> None:
    with card_in_reader(world, "") as environment:
        world.prepare(behind_radius(), auth=in_reader(world))
        done = world.client.run("exec", "work", "--", "ping", "-c", "2", "-W", "5", INSIDE_IPV4, env=environment)
        assert done.returncode == 0, done.stderr


@pytest.mark.extended
def test_what_is_wrong_with_a_card_in_a_reader_is_said(world: Lab) -> None:
    """Before the first packet: another reader, no PIN; during the login: a wrong PIN, which is tried once."""
    with card_in_reader(world, "1234") as environment:
        for auth, code, words in (
            (in_reader(world, reader="Omnikey"), 9, f"there are '{VIRTUAL_READER}'"),
            (in_reader(world, "4321"), 4, "the card refused its PIN"),
            (in_reader(world, "4321"), 4, "the card refused its PIN"),
            (in_reader(world, "1234"), 9, "one try left before it locks"),
        ):
            connection = world.start(behind_radius(), env=environment, auth=auth)
            assert connection.wait() == code, connection.stderr
            assert words in connection.stderr
            assert "4321" not in connection.stderr
