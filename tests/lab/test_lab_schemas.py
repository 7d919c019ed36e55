"""What real tunnels and commands tell, held against the JSON Schemas in the package by a validator that is not ours."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab import validate
from lab.client import REPOSITORY
from lab.gateway import Offer
from lab.network import GATEWAY_IPV4, INSIDE_DNS, INSIDE_IPV4
from lab.person import HOME, Person
from lab.proxies import running
from lab.servers import DOMAIN
from lab.world import Lab

# Says each request on a connection of its own and prints every line that comes back; events until they tell of the end.
TALK = """
import json, socket, sys
path, requests = sys.argv[1], json.loads(sys.argv[2])
def open(request):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    connection.sendall(json.dumps(request).encode() + b"\\n")
    return connection.makefile()
events = open({"version": 1, "request": "events"})
print(events.readline(), end="")
for request in requests:
    print(json.dumps(request))
    for line in open(request):
        print(line, end="")
    while request["request"] == "reconnect":
        line = events.readline()
        print(line, end="")
        if json.loads(line)["event"] == "connected":
            break
for line in events:
    print(line, end="")
"""


def faults(documents: dict[str, list[Any]]) -> str:
    command = ("/usr/bin/python3", validate.__file__)
    done = subprocess.run(command, input=json.dumps(documents), capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def talk(person: Person, *requests: dict[str, object]) -> list[dict[str, Any]]:
    """What is said over the control socket, in both directions."""
    said = [{"version": 1, **request} for request in requests]
    path = f"{HOME}/ikeclient/work.sock"
    command = (*person.ordinary, "/usr/bin/python3", "-c", TALK, path, json.dumps(said))
    return [json.loads(line) for line in person.machine.run(*command, timeout=60).stdout.splitlines()]


def test_what_is_told_is_as_the_schemas_say(lab: Lab, person: Person) -> None:
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,)))
    person.write_profile()
    with running(person, "--socks", "0", "--stack"):
        person.wait_state("connected")
        documents: dict[str, list[Any]] = {}
        for name, *words in (
            ("status", "status", "--json"),
            ("ping", "ping", "work", INSIDE_IPV4, "-c", "1", "--json"),
            ("resolve", "resolve", "work", f"host.{DOMAIN}", "nothing.example.", "--json"),
        ):
            documents[name] = [json.loads(person.run(*words).stdout)]
        lines = talk(
            person,
            {"request": "status"},
            {"request": "join"},
            {"request": "nonsense"},
            {"request": "ping", "address": INSIDE_IPV4, "timeout": 2},
            {"request": "ping", "address": "10.99.0.250", "timeout": 0.1, "size": 100},
            {"request": "ping", "address": "nonsense"},
            {"request": "resolve", "name": f"host.{DOMAIN}"},
            {"request": "resolve", "name": "nothing.example."},
            {"request": "reconnect"},
            {"request": "disconnect"},
        )
    assert documents["ping"][0]["received"] == 1
    assert documents["resolve"][0]["names"][0]["addresses"]
    lines.remove({"version": 1, "request": "nonsense"})
    replies = [line for line in lines if "ok" in line]
    events = [line["event"] for line in lines if "event" in line]
    assert [reply["ok"] for reply in replies] == [True, True, False, False, True, True, False, *[True] * 4]
    assert {"negotiating", "authenticating", "configuring", "connected", "disconnected"} <= set(events)
    documents |= {"control": lines, "event": [line for line in lines if "event" in line]}
    assert faults(documents) == ""
    damaged = [{**line, "result": {**line["result"], "mtu": "large"}} for line in replies if "mtu" in str(line)]
    assert "control: " in faults({"control": damaged})
    assert faults({"control": [{"event": "connected", "time": "2026-01-01T00:00:00Z", "unheard": 1}]})


@pytest.mark.extended
def test_an_interface_a_namespace_and_what_needs_no_tunnel(lab: Lab, person: Person, tmp_path: Path) -> None:
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,)))
    person.write_profile()
    kept = person.start("exec", "work", "--", "sleep", "300")
    try:
        person.wait_state("connected")
        lines = talk(
            person, {"request": "join"}, {"request": "ping", "address": INSIDE_IPV4}, {"request": "disconnect"}
        )
    finally:
        kept.terminate()
        kept.wait(30)
    assert any("namespaces" in (line.get("result") or {}) for line in lines)
    documents: dict[str, list[Any]] = {"control": lines}
    lab.client.write_profile(lab.gateway)
    broken = tmp_path / "broken.conf"
    broken.write_text("connections {\n  broken {\n    remote_addrs = 10.0.0.1\n  }\n}\n")
    for name, *words in (
        ("doctor", "doctor", "--json"),
        ("version", "version", "--json"),
        ("probe", "probe", GATEWAY_IPV4, "--json"),
        ("profiles", "profile", "list", "--json"),
        (str(REPOSITORY / "ikeclient" / "profile" / "model" / "schema.json"), "profile", "show", "work", "--json"),
        ("secrets", "secret", "list", "--json"),
        ("import", "profile", "import", str(broken), "--as", str(tmp_path / "made.toml"), "--json"),
    ):
        documents[name] = [json.loads(lab.client.run(*words).stdout)]
    connection = lab.client.connect()
    documents["status"] = [json.loads(lab.client.run("status", "--json").stdout)]
    connection.terminate()
    assert faults(documents) == ""
