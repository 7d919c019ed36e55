"""What other users of the machine get out of a tunnel that root starts for them, or beside them: nothing."""

from __future__ import annotations

import os
from pathlib import Path

from lab.network import GATEWAY_IPV4
from lab.world import Lab

EVE = 54321


def test_a_strangers_profile_sends_no_file_of_roots_to_its_authors_gateway(lab: Lab) -> None:
    """F14, F17: EAP-GTC shows the gateway what the password file holds; nothing leaves, not even a first packet."""
    lab.gateway.serve()
    directory = lab.client.directory
    directory.chmod(0o755)
    secret = lab.client.secret_file("roots-own", "S3cr3t-CANARY")
    authority = lab.gateway.certificate(lab.gateway.offer).authority_file
    place = directory / "eve"
    place.mkdir()
    copy = place / "ca.pem"
    copy.write_bytes(Path(authority).read_bytes())
    profile = place / "free-vpn.toml"
    profile.write_text(
        f'version = 1\n[gateway]\naddress = "{GATEWAY_IPV4}"\nidentity = "{lab.gateway.offer.gateway_identity}"\n'
        f'ca = "ca.pem"\n[auth]\nmethod = "eap-gtc"\nidentity = "eve"\npassword = {{ file = "{secret}" }}\n'
    )
    for each in (place, copy, profile):
        os.chown(each, EVE, EVE)
    with lab.capture() as wire:
        done = lab.client.run("connect", str(profile), "--timeout", "5")
    assert done.returncode == 9, done.stderr
    assert "permission denied" in done.stderr
    assert f"uid {EVE}" in done.stderr
    assert wire.count("udp.port == 500 or udp.port == 4500") == 0
