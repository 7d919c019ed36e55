"""Profiles of phones, imported and used against the gateway they were made for."""

from __future__ import annotations

import base64
import json
import plistlib
import subprocess
from pathlib import Path
from typing import Any

from lab.gateway import PASSWORD, PSK, USER, Offer
from lab.network import GATEWAY_IPV4, GATEWAY_NAME, INSIDE_IPV4
from lab.pki import CLIENT_NAME
from lab.traffic import ping
from lab.world import Lab


def der(path: Path) -> bytes:
    return base64.b64decode("".join(path.read_text().split("-----")[2].split()))


def imported(lab: Lab, text: str) -> None:
    done = lab.client.run("profile", "import", "-", "--as", "phone", stdin=text)
    assert done.returncode == 0, done.stderr
    assert lab.client.run("profile", "validate", "phone").returncode == 0


def connects(lab: Lab, *options: str, stdin: str = "") -> None:
    done = lab.client.run("connect", "phone", "--detach", *options, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert lab.client.disconnect("phone").returncode == 0


def test_an_android_profile_connects(lab: Lab) -> None:
    lab.gateway.serve(Offer(auth="eap-mschapv2"))
    authority = lab.gateway.certificate(lab.gateway.offer).authority_file
    document = {
        "name": "Lab",
        "type": "ikev2-eap",
        "remote": {"addr": GATEWAY_IPV4, "id": GATEWAY_NAME, "cert": base64.b64encode(der(authority)).decode()},
        "local": {"eap_id": USER},
        "ike-proposal": "aes256-sha256-modp2048",
        "split-tunneling": {"subnets": [f"{INSIDE_IPV4}/32"]},
    }
    imported(lab, json.dumps(document))
    connects(lab, "--password-stdin", stdin=PASSWORD + "\n")


def test_an_apple_profile_with_a_certificate_connects(lab: Lab) -> None:
    lab.gateway.serve(Offer(auth="certificate"))
    own = lab.gateway.client_certificate(lab.gateway.offer)
    authority = lab.gateway.certificate(lab.gateway.offer).authority_file
    bundle = lab.client.directory / "own.p12"
    command = ("openssl", "pkcs12", "-export", "-inkey", str(own.key_file), "-in", str(own.chain_file))
    subprocess.run([*command, "-passout", "pass:canary", "-out", str(bundle)], check=True, capture_output=True)
    ike = {
        "RemoteAddress": GATEWAY_IPV4,
        "RemoteIdentifier": GATEWAY_NAME,
        "LocalIdentifier": CLIENT_NAME,
        "AuthenticationMethod": "Certificate",
        "PayloadCertificateUUID": "own",
        "IKESecurityAssociationParameters": {
            "EncryptionAlgorithm": "AES-256-GCM",
            "IntegrityAlgorithm": "SHA2-384",
            "DiffieHellmanGroup": 20,
        },
    }
    payloads: list[dict[str, Any]] = [
        {"PayloadType": "com.apple.vpn.managed", "VPNType": "IKEv2", "IKEv2": ike},
        {"PayloadType": "com.apple.security.root", "PayloadUUID": "ca", "PayloadContent": der(authority)},
        {
            "PayloadType": "com.apple.security.pkcs12",
            "PayloadUUID": "own",
            "PayloadContent": bundle.read_bytes(),
            "Password": "canary",
        },
    ]
    imported(lab, plistlib.dumps({"PayloadType": "Configuration", "PayloadContent": payloads}).decode())
    connects(lab)


def test_what_was_exported_for_swanctl_comes_back_and_connects(lab: Lab) -> None:
    lab.prepare()
    exported = lab.client.run("profile", "export", "work", "--format", "swanctl", "--include-secrets")
    assert exported.returncode == 0, exported.stderr
    imported(lab, exported.stdout)
    connects(lab)


def test_an_ipsec_conf_with_its_secrets_beside_it_connects_as_it_is(lab: Lab) -> None:
    lab.gateway.serve(Offer(auth="psk"))
    place = lab.client.directory / "etc"
    place.mkdir()
    (place / "ipsec.conf").write_text(
        f"conn office\n  keyexchange=ikev2\n  authby=secret\n  leftsourceip=%config\n  leftid=@@{CLIENT_NAME}\n"
        f"  right={GATEWAY_IPV4}\n  rightid=%@{GATEWAY_NAME}\n  rightsubnet={INSIDE_IPV4}/32\n"
    )
    (place / "ipsec.secrets").write_text(f'@@{CLIENT_NAME} @{GATEWAY_NAME} : PSK "{PSK}"\n')
    (place / "ipsec.secrets").chmod(0o600)
    done = lab.client.run("connect", str(place / "ipsec.conf"), "--detach")
    assert done.returncode == 0, done.stderr
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    assert lab.client.disconnect("office").returncode == 0
    assert not lab.client.run("profile", "list").stdout


def test_the_authority_inside_the_container_vouches_for_the_gateway(lab: Lab) -> None:
    lab.gateway.serve(Offer(auth="certificate"))
    own = lab.gateway.client_certificate(lab.gateway.offer)
    authority = lab.gateway.certificate(lab.gateway.offer).authority_file
    bundle = lab.client.directory / "own.p12"
    command = ["openssl", "pkcs12", "-export", "-inkey", str(own.key_file), "-in", str(own.chain_file)]
    command += ["-certfile", str(authority), "-keypbe", "NONE", "-certpbe", "NONE", "-nomac", "-passout", "pass:"]
    subprocess.run([*command, "-out", str(bundle)], check=True, capture_output=True)
    document = {
        "name": "Lab",
        "type": "ikev2-cert",
        "remote": {"addr": GATEWAY_IPV4, "id": GATEWAY_NAME},
        "local": {"id": CLIENT_NAME, "p12": base64.b64encode(bundle.read_bytes()).decode()},
    }
    imported(lab, json.dumps(document))
    connects(lab)
