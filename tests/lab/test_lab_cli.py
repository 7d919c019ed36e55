"""The commands against a running tunnel: what they print, what they return, and what scripts may rely on."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
from lab.client import WITHOUT_RIGHTS, command_line_of
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import (
    CLIENT_IPV4,
    GATEWAY_IPV4,
    GATEWAY_NAME,
    INSIDE_DNS,
    INSIDE_IPV4,
    INSIDE_NETWORKS,
)
from lab.servers import DOMAIN
from lab.traffic import ping, reaches
from lab.world import Lab

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PSK_PROOF = {
    "method": "psk",
    "subject": None,
    "serial": None,
    "expires": None,
    "signature": None,
    "key": None,
    "revocation": None,
}
END_POINT = {"address": str, "port": int}
# The document of the contract: key -> type, or the shape of what is inside.
TUNNEL: dict[str, Any] = {
    "name": str,
    "pid": int,
    "state": str,
    "since": RFC_3339,
    "interface": str,
    "mtu": int,
    "path_mtu": int,
    "mode": str,
    "offload": {"fast": bool, "codec": str, "tun_udp": bool, "udp_segments": bool, "udp_merges": bool},
    "gateway": {**END_POINT, "identity": str},
    "local": {**END_POINT, "behind_nat": bool},
    "remote_behind_nat": bool,
    "addresses": [str],
    "dns": {"servers": [str], "domains": [str]},
    "dns_names": str,
    "routes": [str],
    "ike": {
        "spi_i": re.compile(r"[0-9a-f]{16}"),
        "spi_r": re.compile(r"[0-9a-f]{16}"),
        "suite": str,
        "established": RFC_3339,
        "rekey_in": int,
        "rekeys": int,
        "mobike": bool,
        "rtt_ms": int,
        "fragmentation": bool,
    },
    "children": [
        {
            "spi_in": re.compile(r"[0-9a-f]{8}"),
            "spi_out": re.compile(r"[0-9a-f]{8}"),
            "suite": str,
            "local_ts": [str],
            "remote_ts": [str],
            "rekey_in": int,
            "rekeys": int,
            **dict.fromkeys(
                ("bytes_in", "bytes_out", "packets_in", "packets_out", "replays", "auth_failures"),
                int,
            ),
        }
    ],
    "roams": int,
    "last_error": type(None),
}


def differences(value: object, shape: object, place: str = "tunnel") -> list[str]:
    """Where `value` is not of this shape; keys that the shape does not name are fine."""
    match shape:
        case dict():
            if not isinstance(value, dict):
                return [f"{place} is {value!r}"]
            missing = [f"{place}.{key} is missing" for key in shape if key not in value]
            return missing + [
                found
                for key, inner in shape.items()
                if key in value
                for found in differences(value[key], inner, f"{place}.{key}")
            ]
        case [inner]:
            if not isinstance(value, list) or not value:
                return [f"{place} is {value!r}"]
            return [found for n, item in enumerate(value) for found in differences(item, inner, f"{place}[{n}]")]
        case re.Pattern():
            return [] if isinstance(value, str) and shape.fullmatch(value) else [f"{place} is {value!r}"]
    return [] if type(value) is shape else [f"{place} is {value!r}"]


def served(lab: Lab, **session: object) -> None:
    """A gateway with everything to tell, and the profile for it."""
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,)))
    lab.client.write_profile(lab.gateway, {"session": session} if session else None)


def test_status_is_what_the_contract_says(lab: Lab) -> None:
    served(lab)
    connection = lab.client.connect()
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    done = lab.client.run("status", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == "ikeclient.status/1"
    [tunnel] = document["tunnels"]
    assert differences(tunnel, TUNNEL) == []
    expected = {
        "name": "work",
        "pid": connection.process.pid,
        "state": "connected",
        "mode": "tun",
        "path_mtu": 1500,
        "interface": "ike0",
        "gateway": {"address": GATEWAY_IPV4, "port": 4500, "identity": GATEWAY_NAME, "auth": [PSK_PROOF]},
        "addresses": ["10.88.0.1/32", "fd88::1/128"],
        "dns": {"servers": [INSIDE_DNS], "domains": [DOMAIN]},
        "routes": list(INSIDE_NETWORKS),
    }
    assert {key: tunnel[key] for key in expected} == expected
    assert tunnel["local"]["address"] == CLIENT_IPV4
    [child] = tunnel["children"]
    assert child["local_ts"] == tunnel["addresses"]
    assert child["remote_ts"] == tunnel["routes"]
    assert (child["packets_out"], child["bytes_out"], child["packets_in"], child["bytes_in"]) == (3, 252, 3, 252)

    text = lab.client.run("status").stdout
    assert text.split()[:2] == lab.client.run().stdout.split()[:2] == ["connected", "work"]
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert INSIDE_DNS in text
    fields = lab.client.run("status", "-f", "name,state,gateway.address,children.0.suite,addresses").stdout
    assert fields == "work\tconnected\t10.1.0.1\taes128gcm16\t10.88.0.1/32,fd88::1/128\n"
    assert lab.client.run("status", "work", "--check", "up").returncode == 0
    assert lab.client.run("status", "-f", "nonsense").returncode == 2
    assert lab.client.run("status", "other").returncode == 8
    assert lab.client.run("disconnect", "other").returncode == 8


def test_a_tunnel_that_is_not_up_is_told_from_one_that_is_not_there(lab: Lab) -> None:
    lab.client.write_profile(lab.gateway)
    nothing = lab.client.run("status")
    assert (nothing.returncode, nothing.stdout.split()[0]) == (0, "disconnected")
    assert json.loads(lab.client.run("status", "--json").stdout) == {"schema": "ikeclient.status/1", "tunnels": []}
    assert lab.client.run("status", "--check", "up").returncode == 3
    assert lab.client.run("status", "work", "--check", "up").returncode == 3
    for command in ("disconnect", "reconnect", "events"):
        done = lab.client.run(command, "work")
        assert (done.returncode, done.stdout) == (8, "")
        assert "no tunnel" in done.stderr
    assert lab.client.run("disconnect", "--all").returncode == 0
    connection = lab.client.start()
    wait_for(lambda: "negotiating" in connection.stderr, timeout=10, what="the first step")
    [tunnel] = json.loads(lab.client.run("status", "--json").stdout)["tunnels"]
    assert set(TUNNEL) <= set(tunnel)
    assert tunnel["state"] == "connecting"
    assert tunnel["gateway"]["address"] == GATEWAY_IPV4
    assert tunnel["children"] == []
    assert lab.client.run("status").stdout.split()[:2] == ["connecting", "work"]
    assert lab.client.run("status", "--check", "up").returncode == 3
    assert lab.client.disconnect("work").returncode == 0
    assert connection.wait() == 0


def test_events_tell_what_happens_as_it_happens(lab: Lab) -> None:
    served(lab)
    connection = lab.client.connect()
    output = lab.client.directory / "events"
    with output.open("wb") as stdout:
        command = ("ikeclient", "events", "--json")
        listener = lab.network.client.start(*command, stdout=stdout, env=lab.client.environment)
    text = lab.client.directory / "events.text"
    with text.open("wb") as stdout:
        lab.network.client.start("ikeclient", "events", "work", stdout=stdout, env=lab.client.environment)

    def kinds() -> list[str]:
        return [json.loads(line)["event"] for line in output.read_text().splitlines()]

    def heard(kind: str) -> None:
        wait_for(lambda: kind in kinds(), timeout=10, what=f"the event {kind}, so far {kinds()}")

    def both_listen() -> bool:
        lab.gateway.rekey(child="net")
        return "rekeyed" in kinds() and "rekeyed" in text.read_text()

    wait_for(both_listen, timeout=20, what="both listeners", interval=1.0)
    done = lab.client.run("reconnect")
    assert done.returncode == 0
    heard("connected")
    assert kinds().index("reconnecting") < kinds().index("connected")
    assert lab.gateway.log.count("received DELETE for IKE_SA") == 1
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    lab.client.disconnect()
    assert listener.wait(10) == 0
    assert kinds()[-1] == "disconnected"
    for line in output.read_text().splitlines():
        event = json.loads(line)
        assert event["tunnel"] == "work"
        assert RFC_3339.fullmatch(event["time"])
    assert text.read_text().splitlines()[-1].endswith("  disconnected")
    assert connection.process.returncode == 0


def test_a_detached_tunnel_stays_when_the_command_returns(lab: Lab) -> None:
    served(lab)
    before = lab.client.traces()
    done = lab.client.run("connect", "work", "--detach")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "connected in" in done.stderr
    status = lab.status()
    assert status["state"] == "connected"
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    again = lab.client.run("connect", "work", "--detach")
    assert again.returncode == 2
    assert f"(pid {status['pid']})" in again.stderr
    assert lab.client.run("disconnect").returncode == 0
    assert command_line_of(status["pid"]) == ""
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []


def test_a_detached_failure_is_the_commands_own(lab: Lab) -> None:
    served(lab)
    lab.client.secret_file("psk", "not-the-pre-shared-key")
    done = lab.client.run("connect", "work", "--detach")
    assert done.returncode == 4
    error = done.stderr[done.stderr.index("error:") :].strip().splitlines()
    assert 1 <= len(error) <= 3
    assert "AUTHENTICATION_FAILED" in done.stderr
    assert lab.client.status("work") is None


def test_the_time_limit_of_the_first_attempt_is_kept(lab: Lab) -> None:
    lab.client.write_profile(lab.gateway)
    done = lab.client.run("connect", "work", "--timeout", "1", timeout=8)
    assert done.returncode == 5
    assert "--timeout" in done.stderr or "no IKE answer" in done.stderr
    assert lab.client.run("connect", "work", "--timeout", "0").returncode == 2


def test_a_key_can_be_set_on_the_command_line(lab: Lab) -> None:
    served(lab)
    route = f"{INSIDE_IPV4}/32"
    connection = lab.client.start("work", "--set", f'network.routes=["{route}"]', "--set", "network.dns=none")
    status = connection.wait_connected()
    assert (status["routes"], status["dns"]["servers"]) == ([route], [])
    assert not reaches(lab.network.client, INSIDE_DNS)
    wrong = lab.client.run("connect", "work", "--set", "network.rotes=all", "--dry-run")
    assert wrong.returncode == 9
    assert "did you mean 'routes'?" in wrong.stderr


def test_several_tunnels_end_at_once(lab: Lab) -> None:
    lab.gateway.serve(Offer(unique="never"))
    before = lab.client.traces()
    for name, host in (("one", INSIDE_IPV4), ("two", INSIDE_DNS)):
        lab.client.write_profile(lab.gateway, {"network": {"routes": [f"{host}/32"]}}, name=name)
        assert lab.client.run("connect", name, "--detach").returncode == 0
    for command in ("disconnect", "reconnect", "events"):
        ambiguous = lab.client.run(command)
        assert ambiguous.returncode == 2
        assert "one, two" in ambiguous.stderr
    assert lab.client.run("status", "-f", "name").stdout == "one\ntwo\n"
    assert lab.client.run("disconnect", "one", "--all").returncode == 2
    done = lab.client.run("disconnect", "--all")
    assert done.returncode == 0
    assert json.loads(lab.client.run("status", "--json").stdout)["tunnels"] == []
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []


def test_profiles_that_are_wrong_or_missing_have_their_own_exit_codes(lab: Lab) -> None:
    """F1, F2"""
    missing = lab.client.run("connect", "nowhere")
    assert missing.returncode == 10
    assert "nowhere" in missing.stderr
    path = lab.client.write_profile(lab.gateway, {"network": {"rotes": "all"}})
    wrong = lab.client.run("connect", "work")
    assert wrong.returncode == 9
    line = path.read_text().splitlines().index('rotes = "all"') + 1
    assert f"work.toml:{line}" in wrong.stderr
    assert "routes" in wrong.stderr
    assert lab.client.run("connect", str(path)).returncode == 9
    assert lab.client.run("connect").returncode == 2
    assert lab.client.run("profile", "list").stdout.split()[0] == "work"


def _dry_run(lab: Lab) -> subprocess.CompletedProcess[str]:
    nothing = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs lab /dev/net && exec "$@"', "sh", *WITHOUT_RIGHTS)
    connection = lab.client.start("work", "--dry-run", prefix=nothing)
    return subprocess.CompletedProcess([], connection.wait(), connection.stdout, connection.stderr)


@pytest.mark.parametrize("full", [False, True])
def test_a_dry_run_prints_exactly_what_a_run_would_do(lab: Lab, full: bool) -> None:
    """It needs no right and no device, changes nothing, and its lines given to a shell make the same machine."""
    machine = lab.network.client
    local = ("0.0.0.0/0",) if full else INSIDE_NETWORKS
    offer = Offer(dns=(INSIDE_DNS,), domains=(DOMAIN,), local_ts=local, pools=("p4",) if full else ("p4", "p6"))
    lab.gateway.serve(offer)
    lab.client.write_profile(lab.gateway, {"network": {"routes": "all", "exclude": ["lan"]}} if full else None)
    before = lab.client.traces()
    dry = _dry_run(lab)
    assert dry.returncode == 0, dry.stderr
    assert "connected" not in dry.stderr
    assert lab.client.traces() == before
    assert lab.gateway.list_sas() == []
    connection = lab.client.connect()
    # The gateway gives a new address to each new client whose lease is not yet free, so they are made alike.
    real = _comparable(lab.client.traces())
    connection.terminate()
    machine.run("sh", "-e", stdin=dry.stdout)
    assert _comparable(lab.client.traces()) == real


def _comparable(traces: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without interface numbers, and what depends on somebody being at the other end of the device."""
    ignored = ("links", "addresses", "firewall")
    return {
        name: sorted(re.sub(r" (linkdown|pref medium)", "", line) for line in lines if not line.startswith("multicast"))
        for name, lines in traces.items()
        if name not in ignored
    }


def test_the_doctor_says_what_is_missing(lab: Lab) -> None:
    """O1"""
    healthy = lab.client.run("doctor")
    assert healthy.returncode == 0
    assert max(map(len, healthy.stdout.splitlines())) <= 80
    findings = {each["name"]: each for each in json.loads(lab.client.run("doctor", "--json").stdout)["findings"]}
    assert findings["TUN device"]["ok"]
    assert findings["CAP_NET_ADMIN"]["ok"]
    assert "resolv.conf" in findings["DNS"]["text"]
    assert CLIENT_IPV4 in findings["addresses"]["text"]
    assert GATEWAY_IPV4 in findings["gateways"]["text"]
    machine = lab.network.client
    machine.hide("/dev/net")
    done = machine.run(*WITHOUT_RIGHTS, "ikeclient", "doctor", "--json", env=lab.client.environment)
    findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    for name in ("TUN device", "CAP_NET_ADMIN"):
        assert not findings[name]["ok"]
        assert findings[name]["hint"]


def test_versions_can_be_asked_for(lab: Lab) -> None:
    document = json.loads(lab.client.run("version", "--json").stdout)
    assert document["schema"] == "ikeclient.version/1"
    assert lab.client.run("--version").stdout == lab.client.run("version").stdout
    assert document["version"] in lab.client.run("version").stdout
