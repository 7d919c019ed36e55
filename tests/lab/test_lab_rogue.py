"""Somebody in the gateway's place, who has proven nothing, and what becomes of the tunnel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import rogue
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import GATEWAY_IPV4, INTERNET_IPV4
from lab.traffic import reaches
from lab.world import Lab


@contextmanager
def in_the_gateways_place(lab: Lab) -> Iterator[Path]:
    """The gateway is gone, and a rogue answers at its address; yields the file with what it says."""
    lab.gateway.kill()
    authority = lab.gateway.certificate(lab.gateway.offer).authority_file
    words = lab.client.directory / "rogue"
    with words.open("wb") as output:
        process = lab.network.gateway.start(
            sys.executable, rogue.__file__, GATEWAY_IPV4, str(authority), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: "ready" in words.read_text(), timeout=20, what="the rogue gateway")
        yield words
    finally:
        process.kill()
        process.wait()


def logins(words: Path) -> int:
    return words.read_text().count("login")


def test_a_certificate_with_the_authoritys_name_ends_no_connection_but_its_own(lab: Lab) -> None:
    """C17, O3: `connect` says that the gateway is not the right one; a tunnel that was up stays and stays closed."""
    connection = lab.start(Offer(auth="eap-mschapv2", local_ts=("0.0.0.0/0", "::/0")), network={"routes": "all"})
    connection.wait_connected()
    assert reaches(lab.network.client, INTERNET_IPV4, timeout=5)
    with in_the_gateways_place(lab) as words:
        lab.client.run("reconnect", "work")
        lab.client.wait_state("reconnecting", timeout=20)
        wait_for(lambda: logins(words) >= 4, timeout=60, what="attempts to log in")
        assert connection.process.poll() is None, connection.stderr
        route = lab.network.client.run("ip", "route", "get", INTERNET_IPV4).stdout
        assert "dev ike0" in route
        assert not reaches(lab.network.client, INTERNET_IPV4, timeout=1)
        assert "bug" not in connection.stderr
    lab.gateway.restart()
    lab.client.wait_state("connected", timeout=60)
    assert reaches(lab.network.client, INTERNET_IPV4, timeout=5)
    assert lab.client.disconnect("work").returncode == 0
    with in_the_gateways_place(lab):
        refused = lab.client.start()
        assert refused.wait() == 7
        assert "the gateway's certificate is not readable" in refused.stderr
        assert "RSASSA-PSS without parameters" in refused.stderr
