"""`ikeclient ping` and `resolve` through running tunnels of each kind: an interface, a namespace, no device at all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_DNS, INSIDE_IPV4, INSIDE_IPV6, INTERNET_IPV4
from lab.person import Person
from lab.proxies import running
from lab.servers import DOMAIN
from lab.world import Lab

GRANT = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,))
UNUSED = "10.99.0.250"  # in the network of the gateway, and nobody's

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def lab(module_lab: Lab) -> Lab:
    """The module's, with a gateway that grants names."""
    module_lab.gateway.serve(GRANT)
    return module_lab


@pytest.fixture
def person(lab: Lab) -> Person:
    """An ordinary user."""
    return Person(lab)


def ask(run: Run) -> None:
    """What works in each kind of tunnel alike."""
    done = run("ping", "work", INSIDE_IPV4, "-c", "2", "--interval", "0.1")
    first, second, last = done.stdout.splitlines()
    assert done.returncode == 0, done
    assert first.startswith(f"{INSIDE_IPV4}  1  ")
    assert second.startswith(f"{INSIDE_IPV4}  2  ")
    assert second.endswith(" ms")
    assert last.startswith(f"{INSIDE_IPV4}: 2 sent, 2 answered, ")
    told = json.loads(run("ping", "work", f"host.{DOMAIN}", "-6", "-c", "1", "--json", "-s", "1000").stdout)
    assert (told["address"], told["sent"], told["received"]) == (INSIDE_IPV6, 1, 1)
    assert told["answers"][0]["rtt_ms"] == told["rtt_ms"]["min"] > 0
    silent = run("ping", "work", UNUSED, "-c", "1", "-W", "0.5")
    assert silent.returncode == 5, silent
    assert "1 sent, 0 answered" in silent.stdout
    found = run("resolve", "work", f"host.{DOMAIN}", "host", "nothing.example.", INSIDE_IPV4)
    assert found.returncode == 5, found
    assert sorted(found.stdout.splitlines()) == sorted(
        (
            f"host.{DOMAIN}  {INSIDE_IPV4}",
            f"host.{DOMAIN}  {INSIDE_IPV6}",
            f"host  {INSIDE_IPV4}",
            f"host  {INSIDE_IPV6}",
            f"{INSIDE_IPV4}  {INSIDE_IPV4}",
        )
    )
    assert found.stderr == "nothing.example.: the name does not exist\n"
    only = json.loads(run("resolve", "work", "host", "-4", "--json").stdout)
    assert only["names"] == [{"name": "host", "addresses": [INSIDE_IPV4], "error": None}]


def test_through_an_interface_of_this_machine(lab: Lab) -> None:
    """And only through it: what the tunnel does not carry is not asked past it."""
    nothing = lab.client.run("ping", "work", INSIDE_IPV4)
    assert nothing.returncode == 8
    assert "`ikeclient connect work` starts it" in nothing.stderr
    lab.client.write_profile(lab.gateway)
    connection = lab.client.connect()
    try:
        ask(lab.client.run)
        with lab.capture() as wire:
            outside = lab.client.run("ping", "work", INTERNET_IPV4, "-c", "1", "-W", "0.5")
        assert outside.returncode == 5, outside
        assert wire.count("icmp") == 0
    finally:
        connection.terminate()


@pytest.mark.extended
def test_through_a_tunnel_in_a_namespace(person: Person) -> None:
    kept = person.start("exec", "work", "--", "sleep", "300")
    try:
        person.wait_state("connected")
        ask(person.run)
    finally:
        kept.terminate()
        kept.wait(30)


@pytest.mark.extended  # `test_lab_schemas.py` asks one for an echo and a name in every run
def test_through_a_tunnel_without_a_device(lab: Lab, person: Person) -> None:
    with running(person, "--socks", "0", "--stack"):
        person.wait_state("connected")
        ask(person.run)
        refused = person.run("ping", "work", INTERNET_IPV4, "-c", "1")
        assert refused.returncode == 5
        assert "does not lead there" in refused.stdout
        status = person.status()
        assert status is not None
        assert status["mode"] == "stack"
    wait_for(lambda: lab.gateway.list_sas() == [], timeout=10, what="the gateway to forget us")
