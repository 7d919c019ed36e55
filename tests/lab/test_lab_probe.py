"""`probe` against a gateway whose configuration is known."""

from __future__ import annotations

import json
from typing import Any

from lab.gateway import Offer
from lab.network import GATEWAY_IPV4, Topology
from lab.world import Lab, MakeLab


def probed(lab: Lab) -> dict[str, Any]:
    done = lab.client.run("probe", GATEWAY_IPV4, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_what_a_gateway_accepts_is_found_without_leaving_half_open_connections(lab: Lab) -> None:
    lab.gateway.serve(Offer(proposals="aes256gcm16-prfsha384-ecp384,aes128-sha256-modp2048"))
    found = probed(lab)
    assert found["schema"] == "ikeclient.probe/1"
    assert [(port["port"], port["answers"], port["error"]) for port in found["ports"]] == [
        *((500, True, None), (4500, True, None)),
    ]
    assert all(0 < port["rtt_ms"] < 5000 for port in found["ports"])
    assert found["suite"] == "aes256gcm16-prfsha384-ecp384"
    assert {key: sorted(value) for key, value in found["accepts"].items()} == {
        "encryption": ["aes128", "aes256gcm16"],
        "integrity": ["sha256"],
        "prf": ["prfsha256", "prfsha384"],
        "key_exchange": ["ecp384", "modp2048"],
    }
    assert (found["fragmentation"], found["cookie"], found["complete"], found["certificate"]) == (
        True,
        False,
        True,
        None,
    )
    assert found["nat"]["local"] is False
    assert "ignoring IKE_SA setup" not in lab.gateway.log  # what it says when somebody leaves too many half open
    text = lab.client.run("probe", GATEWAY_IPV4)
    assert text.stdout.split()[0] == "answers"
    assert max(map(len, text.stdout.splitlines())) <= 80
    assert "IKE_AUTH" in text.stdout


def test_a_nat_and_cookies_are_noticed(make_lab: MakeLab) -> None:
    lab = make_lab(Topology(client_nat=True))
    lab.gateway.serve(Offer(cookies=True))
    found = probed(lab)
    assert found["nat"]["local"] is True
    assert found["cookie"] is True


def test_silence_is_5_and_nonsense_is_2(lab: Lab) -> None:
    done = lab.client.run("probe", GATEWAY_IPV4)
    assert (done.returncode, done.stdout) == (5, "")
    assert "no IKE answer" in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert lab.client.run("probe", "https://vpn.example.com").returncode == 2
    assert lab.client.run("probe", "nowhere.example.net").returncode == 5
