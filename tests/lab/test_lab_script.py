"""What scripts, CI jobs and containers do: recipes run as they are written."""

from __future__ import annotations

import json
import os

from lab.gateway import PSK
from lab.machines import wait_for
from lab.network import GATEWAY_IPV4, GATEWAY_NAME, INSIDE_IPV4, INSIDE_NETWORKS
from lab.pki import CLIENT_NAME
from lab.traffic import ping
from lab.world import Lab

SCRIPT = """
set -eu
ikeclient wait work --for up --timeout 40 &
early=$!
ikeclient connect work --detach --timeout 20
trap 'ikeclient disconnect work' EXIT
wait $early
ikeclient status work --check up -f state
ping -c 1 -W 5 {inside} >/dev/null
"""


def test_a_script_connects_waits_works_and_leaves_the_machine_as_it_was(lab: Lab) -> None:
    lab.prepare()
    before = lab.client.traces()
    script = SCRIPT.format(inside=INSIDE_IPV4)
    done = lab.network.client.run("sh", "-c", script, check=False, timeout=90, env=lab.client.environment)
    assert (done.returncode, done.stdout) == (0, "connected\n"), done.stderr
    assert lab.client.run("wait", "work", "--for", "down", "--timeout", "10").returncode == 0
    assert lab.client.traces() == before


def test_waiting_for_the_end_goes_on_while_the_tunnel_reconnects(lab: Lab) -> None:
    """A tunnel that holds its routes is not down; it is not up either."""
    connection = lab.connected()
    lab.gateway.terminate()
    lab.gateway.kill()
    wait_for(lambda: "reconnecting" in connection.stderr, timeout=30, what="the loss")
    for state in ("up", "down"):
        assert lab.client.run("wait", "work", "--for", state, "--timeout", "0.5").returncode == 5
    lab.gateway.serve()
    assert lab.client.run("wait", "work", "--for", "up", "--timeout", "60").returncode == 0
    assert ping(lab.network.client, INSIDE_IPV4) == 3


def test_variables_alone_make_a_tunnel_whose_log_may_be_json(lab: Lab) -> None:
    """F10: and the secret is no longer in the environment of the process."""
    lab.gateway.serve()
    environment = {
        "IKECLIENT_GATEWAY_ADDRESS": GATEWAY_IPV4,
        "IKECLIENT_GATEWAY_IDENTITY": GATEWAY_NAME,
        "IKECLIENT_AUTH_METHOD": "psk",
        "IKECLIENT_AUTH_IDENTITY": CLIENT_NAME,
        "IKECLIENT_AUTH_PSK_ENV": "VPN_PSK",
        "IKECLIENT_NETWORK_ROUTES": json.dumps(INSIDE_NETWORKS),
        "IKECLIENT_LOG_FORMAT": "json",
        "VPN_PSK": PSK,
    }
    done = lab.client.run("connect", "--detach", "-vv", env=environment)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[-1]["event"] == "connected"
    assert all(event["time"] and event["tunnel"] == "env" for event in events)
    status = lab.client.wait_state("connected", name="env")
    assert status["routes"] == list(INSIDE_NETWORKS)
    with open(f"/proc/{status['pid']}/environ", "rb") as variables:
        assert PSK.encode() not in variables.read()
    assert os.path.exists(f"/proc/{status['pid']}")
    assert lab.client.disconnect("env").returncode == 0


def test_a_refusal_is_the_last_line_of_a_json_log(lab: Lab) -> None:
    lab.prepare()
    lab.client.secret_file("psk", "not-the-pre-shared-key")
    done = lab.client.run("connect", "work", env={"IKECLIENT_LOG_FORMAT": "json"})
    error = json.loads(done.stderr.splitlines()[-1])
    assert (error["event"], error["exit_code"], done.returncode) == ("error", 4, 4)
    assert "AUTHENTICATION_FAILED" in f"{error['message']} {error['reason']}"
