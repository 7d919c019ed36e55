"""Keys that no file holds, against strongSwan: on a token, and with ssh-agent; through reauthentication."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
import soft_tpm
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import INSIDE_IPV4
from lab.traffic import ping
from lab.world import Lab
from soft_token import MODULE, PIN, Key, SoftToken

SERVICE = ("setsid",)  # without a terminal SIGHUP reads the profile again


def token_with_key(lab: Lab, offer: Offer, directory: Path) -> SoftToken:
    """A token with the client's key and certificate of the offer."""
    credential = lab.gateway.client_certificate(offer)
    token = SoftToken(directory / "token")
    token.add_key(cast(Key, load_pem_private_key(credential.key_file.read_bytes(), None)), "vpn")
    token.add_certificate(x509.load_pem_x509_certificates(credential.chain_file.read_bytes())[0])
    return token


def on_token(lab: Lab) -> dict[str, object]:
    pin = {"file": str(lab.client.secret_file("pin", PIN))}
    return {"certificate": None, "key": {"pkcs11": "pkcs11:token=work;object=vpn", "module": str(MODULE), "pin": pin}}


@pytest.mark.parametrize(
    ("kind", "signature", "told"),
    [
        ("rsa2048", None, "RSA-PSS"),
        ("rsa2048", "rsa-pkcs1-sha256", "PKCS#1"),
        ("ecdsa256", None, "ECDSA"),
    ],
)
def test_a_key_on_a_token_logs_in_and_again(
    lab: Lab, tmp_path: Path, kind: str, signature: str | None, told: str
) -> None:
    """The certificate is the token's, too; the gateway accepts what was signed, twice."""
    offer = Offer(auth="certificate", kind=kind)
    lab.prepare(offer)
    token = token_with_key(lab, offer, tmp_path)
    auth = on_token(lab) | {"signature": [signature] if signature else None}
    connection = lab.start(offer, env=token.variables, prefix=SERVICE, auth=auth)
    connection.wait_connected()
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    (proof,) = lab.status()["local"]["auth"]
    assert told in proof["signature"]
    assert "token 'work'" in proof["key"]
    if signature is None:
        lab.client.write_profile(lab.gateway, {"auth": auth, "session": {"liveness": 40}})
        connection.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reauthenticated" in connection.stderr, timeout=30, what="a new authentication")
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    assert connection.interrupt() == 130
    assert PIN not in connection.stderr + connection.stdout


@pytest.mark.extended
@pytest.mark.skipif(bool(soft_tpm.missing()), reason=f"not installed: {', '.join(soft_tpm.missing())}")
@pytest.mark.parametrize(("kind", "algorithm", "told"), [("ecdsa256", "ecc", "ECDSA"), ("rsa2048", "rsa", "RSA-P")])
def test_a_key_in_a_tpm_logs_in(lab: Lab, tmp_path: Path, kind: str, algorithm: str, told: str) -> None:
    """By way of tpm2-pkcs11; the certificate is beside the key, and the signature is the TPM's."""
    offer = Offer(auth="certificate", kind=kind)
    lab.prepare(offer)
    own = lab.gateway.client_certificate(offer)
    tpm = soft_tpm.SoftTpm(tmp_path / "tpm")
    tpm.start()
    try:
        tpm.add_key(own.key_file, own.certificate_file, algorithm)
        pin = {"file": str(lab.client.secret_file("pin", soft_tpm.PIN))}
        key = {"pkcs11": "pkcs11:token=work;object=vpn", "module": str(soft_tpm.MODULE), "pin": pin}
        connection = lab.start(offer, env=tpm.variables, auth={"certificate": None, "key": key})
        connection.wait_connected(60)
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
        (proof,) = lab.status()["local"]["auth"]
        assert told in proof["signature"]
        assert "token 'work'" in proof["key"]
    finally:
        tpm.stop()


@contextmanager
def agent_with(key: Path, directory: Path) -> Iterator[dict[str, str]]:
    """OpenSSH's agent with a key; the environment that leads to it, and its fingerprint."""
    path = directory / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        agent.stdout.readline()
        variables = {"SSH_AUTH_SOCK": str(path)}
        subprocess.run(["ssh-add", "-q", str(key)], env=variables, check=True, capture_output=True)
        listed = subprocess.run(["ssh-add", "-l"], env=variables, check=True, capture_output=True, text=True)
        try:
            yield variables | {"fingerprint": listed.stdout.split()[1]}
        finally:
            agent.terminate()


@pytest.mark.parametrize(("kind", "told"), [("rsa2048", "PKCS#1"), ("ecdsa256", "ECDSA")])
def test_a_key_of_ssh_agent_logs_in_and_again(lab: Lab, tmp_path: Path, kind: str, told: str) -> None:
    """Without a word in the profile it signs RSA with what an agent can: no PSS."""
    offer = Offer(auth="certificate", kind=kind)
    credential = lab.gateway.client_certificate(offer)
    with agent_with(credential.key_file, tmp_path) as variables:
        auth: dict[str, object] = {"key": {"agent": variables.pop("fingerprint")}}
        connection = lab.start(offer, env=variables, prefix=SERVICE, auth=auth)
        connection.wait_connected()
        (proof,) = lab.status()["local"]["auth"]
        assert told in proof["signature"]
        assert "ssh-agent" in proof["key"]
        lab.client.write_profile(lab.gateway, {"auth": auth, "session": {"liveness": 40}})
        connection.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "reauthenticated" in connection.stderr, timeout=30, what="a new authentication")
        assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1


@pytest.mark.waits
def test_a_token_that_is_pulled_out_before_reauthentication(lab: Lab, tmp_path: Path) -> None:
    """The tunnel in use stays, the error says which token; put back, it authenticates again."""
    offer = Offer(auth="certificate", connection={"reauth_time": "60s", "over_time": "60s", "rand_time": "0s"})
    lab.prepare(offer)
    token = token_with_key(lab, offer, tmp_path)
    connection = lab.start(offer, env=token.variables, auth=on_token(lab))
    connection.wait_connected()
    before = lab.status()
    token.pull_out()
    wait_for(lambda: "is not there" in connection.stderr, timeout=90, what="an error of the token", interval=0.2)
    assert "'work'" in connection.stderr
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    assert lab.status()["ike"]["spi_i"] == before["ike"]["spi_i"]
    token.put_back()
    wait_for(lambda: "reauthenticated" in connection.stderr, timeout=60, what="a new authentication", interval=0.2)
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    assert lab.status()["reconnects"] == 0
